//! Anomaly detectors: the functions of `thalweg.anomaly`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use thalweg::Detection;
use thalweg::operator::detect::{
    self, Adwin, ArRls, Auto, Cusum, DetectorSpec, Ensemble, EventRate, Ewma, HalfSpaceTrees, HoltWinters, How, ImpossibleTravel,
    IsolationForest, Knn, LeftDiscord, Limit, Loda, Mahalanobis, Novelty, PageHinkley, PeaksOverThreshold, Profile, QuantileBand,
    RandomCutForest, RobustZ, RollingZ, Velocity,
};

use crate::config::Interval;
use crate::model::{PyScorer, custom_detector};
use crate::stream::Names;

/// Adds the class and the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyDetector>()?;
    module.add_class::<PyScorer>()?;
    module.add_function(wrap_pyfunction!(custom_detector, module)?)?;
    module.add_function(wrap_pyfunction!(ewma, module)?)?;
    module.add_function(wrap_pyfunction!(novelty, module)?)?;
    module.add_function(wrap_pyfunction!(left_discord, module)?)?;
    module.add_function(wrap_pyfunction!(random_cut_forest, module)?)?;
    module.add_function(wrap_pyfunction!(half_space_trees, module)?)?;
    module.add_function(wrap_pyfunction!(isolation_forest, module)?)?;
    module.add_function(wrap_pyfunction!(mahalanobis, module)?)?;
    module.add_function(wrap_pyfunction!(knn, module)?)?;
    module.add_function(wrap_pyfunction!(robust_z, module)?)?;
    module.add_function(wrap_pyfunction!(cusum, module)?)?;
    module.add_function(wrap_pyfunction!(page_hinkley, module)?)?;
    module.add_function(wrap_pyfunction!(rolling_z, module)?)?;
    module.add_function(wrap_pyfunction!(adwin, module)?)?;
    module.add_function(wrap_pyfunction!(peaks_over_threshold, module)?)?;
    module.add_function(wrap_pyfunction!(quantile_band, module)?)?;
    module.add_function(wrap_pyfunction!(event_rate, module)?)?;
    module.add_function(wrap_pyfunction!(holt_winters, module)?)?;
    module.add_function(wrap_pyfunction!(ar_rls, module)?)?;
    module.add_function(wrap_pyfunction!(loda, module)?)?;
    module.add_function(wrap_pyfunction!(ensemble, module)?)?;
    module.add_function(wrap_pyfunction!(impossible_travel, module)?)?;
    module.add_function(wrap_pyfunction!(velocity, module)?)?;
    module.add_function(wrap_pyfunction!(profile, module)?)?;
    module.add_function(wrap_pyfunction!(auto, module)?)
}

/// An anomaly detector and its parameters. Made by the functions of `thalweg.anomaly`.
#[pyclass(name = "Detector", module = "thalweg.anomaly", frozen)]
pub struct PyDetector {
    pub detection: Detection,
    description: String,
}

impl PyDetector {
    pub fn new(detector: impl DetectorSpec + 'static) -> PyDetector {
        PyDetector { description: detector.to_string(), detection: Detection::new(detector) }
    }
}

#[pymethods]
impl PyDetector {
    fn __repr__(&self) -> &str {
        &self.description
    }

    // Parameters do not change, so that one object will do.
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

/// Scores by the exponentially weighted z-score: |x − mean| / standard deviation, both as they were before the row.
///
/// Args:
///     alpha: The weight of the newest row, between 0 and 1; the memory is about 2 / alpha rows.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Equations: Finch, "Incremental calculation of weighted mean and variance", 2009. State: 24 bytes a key. Threshold: 4.
///
/// Example:
///     >>> s.detect(tw.anomaly.ewma(alpha=0.05), on="amount", by="card")
#[pyfunction]
#[pyo3(signature = (alpha=0.05, warmup=10))]
pub fn ewma(alpha: f64, warmup: u64) -> PyDetector {
    let description = format!("ewma(alpha={alpha}, warmup={warmup})");
    PyDetector { detection: Detection::new(Ewma { alpha, warmup }), description }
}

/// Scores by the distance to the nearest value that the key has shown lately, as a share of the range it has shown lately: from 0 to 1.
///
/// The distance is taken on a linear and on a compressed (logarithmic) scale, and the score is the geometric mean of both. For series of
/// any shape that come back to values they had; one that grows forever is novel forever.
///
/// Args:
///     history: After how many rows of a key a value is forgotten, from 64 to 2**24.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// State: 1.2 kB a key, whatever the history. Threshold: 1/64.
///
/// Example:
///     >>> s.detect(tw.anomaly.novelty(), on="temperature", by="machine", refractory=128)
#[pyfunction]
#[pyo3(signature = (history=4096, warmup=64))]
pub fn novelty(history: u32, warmup: u32) -> PyDetector {
    PyDetector::new(Novelty { history, warmup })
}

/// Scores by shape: the z-normalised distance of the latest `length` values of a key to the nearest stretch of as many among the
/// `history` before, from 0 to the root of 2 (the streaming left matrix profile, exact).
///
/// For series with a pattern. In noise all stretches are far from each other: choose by `false_alarm_rate` there.
///
/// Args:
///     length: How many values a stretch has, at least 2.
///     history: In how many values stretches are looked for, at least twice the length.
///
/// A key's first 2 * length - 1 rows have no score. State: 48 bytes for each value of the history, 0.2 MB a key. Threshold: 0.8.
///
/// Example:
///     >>> s.detect(tw.anomaly.left_discord(length=100), on="ecg", by="patient", false_alarm_rate=1e-4)
#[pyfunction]
#[pyo3(signature = (length=64, history=4000))]
pub fn left_discord(length: u32, history: u32) -> PyDetector {
    PyDetector::new(LeftDiscord { length, history })
}

/// Scores by the robust z-score: the distance from the median of a key's latest rows, in units of their median distance from it (MAD),
/// scaled to deviations of normal values. Up to half of the window may be anomalies without hiding each other.
///
/// Args:
///     window: How many rows of a key are looked back on, from 3 to 65536.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Tells `expected`, the median. State: 16 bytes for each row of the window. Threshold: 3.5.
///
/// Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993.
///
/// Example:
///     >>> s.detect(tw.anomaly.robust_z(window=60), on="price", by="product", expected=True)
#[pyfunction]
#[pyo3(signature = (window=128, warmup=20))]
pub fn robust_z(window: u32, warmup: u32) -> PyDetector {
    PyDetector::new(RobustZ { window, warmup })
}

/// Scores lasting shifts, however small next to the noise, by CUSUM: the sum by which rows have lain off the mean of the first `warmup` rows,
/// in deviations, beyond an allowance. At a score of `limit` the key begins anew, so that a shift is one anomaly.
///
/// Args:
///     allowance: How many deviations each row may lie off without adding to a sum: half of the shift that is to be found.
///     limit: The score at which a key begins anew; the threshold unless another is given.
///     warmup: How many rows of a key make the reference; they score 0.
///
/// Tells `expected`, the mean. State: 40 bytes a key. Source: Page, "Continuous inspection schemes", 1954.
///
/// Example:
///     >>> s.detect(tw.anomaly.cusum(), on="temperature", by="machine").filter("is_anomaly")
#[pyfunction]
#[pyo3(signature = (allowance=0.5, limit=8.0, warmup=100))]
pub fn cusum(allowance: f64, limit: f64, warmup: u64) -> PyDetector {
    PyDetector::new(Cusum { allowance, limit, warmup })
}

/// Scores lasting shifts by Page–Hinkley: as `cusum`, but against the mean of all rows since the latest shift, which goes on learning.
///
/// Args:
///     allowance: How many deviations each row may lie off without adding to a sum.
///     limit: The score at which a key begins anew; the threshold unless another is given.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Tells `expected`, the mean. State: 40 bytes a key. Source: Hinkley, "Inference about the change-point from cumulative sum tests", 1971.
///
/// Example:
///     >>> s.detect(tw.anomaly.page_hinkley(), on="latency", by="route").filter("is_anomaly")
#[pyfunction]
#[pyo3(signature = (allowance=0.25, limit=15.0, warmup=30))]
pub fn page_hinkley(allowance: f64, limit: f64, warmup: u64) -> PyDetector {
    PyDetector::new(PageHinkley { allowance, limit, warmup })
}

/// Scores by a Random Cut Forest: how soon random cuts part a row from the rows of late. About 1 where all is well, more where strange.
///
/// Watches columns together; scale columns of different units first. Parameters are those of AWS's forest, where they are named
/// numberOfTrees, sampleSize (subSampleSize), timeDecay, shingleSize, outputAfter.
///
/// Args:
///     number_of_trees: How many trees, from 1 to 1000.
///     sample_size: How many points a tree keeps, from 2 to 16384.
///     shingle_size: How many rows of a key make a point; rows times columns may be 1024.
///     time_decay: How fast the chance of a point to be kept falls with each later one, from 0 to 1; without it 0.1 / sample_size.
///     output_after: How many points of a key score 0 because too little is known of it; without it sample_size / 4.
///     thresholded: Scores in deviations above what the key's scores have been; anomalies within a shingle are one event.
///     seed: What random numbers begin with.
///
/// Tells `attribution`. State: 0.6 MB a key for one dimension (column of a row of the shingle), 1.7 MB for eight. Threshold: 1.5, or 3 if
/// thresholded.
///
/// Source: Guha, Mishra, Roy and Schrijvers, "Robust random cut forest based anomaly detection on streams", 2016.
///
/// Example:
///     >>> s.detect(tw.anomaly.random_cut_forest(shingle_size=8, thresholded=True), on="requests", by="host", attribution=True)
#[pyfunction]
#[pyo3(signature = (number_of_trees=50, sample_size=256, shingle_size=1, *, time_decay=None, output_after=None, thresholded=false, seed=42))]
pub fn random_cut_forest(
    number_of_trees: u32,
    sample_size: u32,
    shingle_size: u32,
    time_decay: Option<f64>,
    output_after: Option<u32>,
    thresholded: bool,
    seed: u64,
) -> PyDetector {
    PyDetector::new(RandomCutForest { number_of_trees, sample_size, time_decay, shingle_size, output_after, thresholded, seed })
}

/// Scores by Half-Space Trees: how thinly the rows of the latest window lie where a row lies, from 0 to 1. The cheapest detector of
/// several columns, which it watches together, each by its range in that window.
///
/// Args:
///     number_of_trees: How many trees, from 1 to 1000.
///     height: How many halvings one after the other, from 1 to 30.
///     window_size: How many rows of a key are the reference of the next ones, from 10 to 65536.
///     seed: What random numbers begin with.
///
/// Rows of a key's first window score 0. State: 4 kB for each column and some 30 kB, a key. Threshold: 0.75; what is usual depends on the
/// number of columns, so choose by `false_alarm_rate` where there are several.
///
/// Source: Tan, Ting and Liu, "Fast anomaly detection for streaming data", 2011.
///
/// Example:
///     >>> s.detect(tw.anomaly.half_space_trees(), on=["cpu", "memory"], by="host", false_alarm_rate=0.001)
#[pyfunction]
#[pyo3(signature = (number_of_trees=25, height=15, window_size=250, *, seed=42))]
pub fn half_space_trees(number_of_trees: u32, height: u32, window_size: u32, seed: u64) -> PyDetector {
    PyDetector::new(HalfSpaceTrees { number_of_trees, height, window_size, seed })
}

/// Scores by the Mahalanobis distance from a mean and covariance weighted exponentially: for columns that vary together, of any units,
/// which it watches together. A score is a normal deviate, whatever the number of columns.
///
/// Args:
///     alpha: The weight of the newest row, between 0 and 1; the memory is about 2 / alpha rows.
///     shrinkage: How far correlations are shrunk towards none, above 0, at most 1.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Tells `expected`, the means, and `attribution`. State: 8 bytes for each pair of columns, a key. Threshold: 4.
///
/// Example:
///     >>> s.detect(tw.anomaly.mahalanobis(), on=["load", "temperature"], by="machine", attribution=True)
#[pyfunction]
#[pyo3(signature = (alpha=0.01, shrinkage=0.1, warmup=50))]
pub fn mahalanobis(alpha: f64, shrinkage: f64, warmup: u64) -> PyDetector {
    PyDetector::new(Mahalanobis { alpha, shrinkage, warmup })
}

/// Scores by the distance to the k-th nearest of the key's latest rows, each column in deviations of its own of late. Watches columns together, of
/// any units, and needs no form of what is usual, which may be several clusters or a ring. Exact.
///
/// Args:
///     k: Which neighbour, from 1 to history. Rows like each other are usual once there have been so many: more than an anomaly lasts for.
///     history: How many of a key's latest rows neighbours are looked for in, up to 65536.
///     mean: Whether the score is the mean of the distances to the k nearest instead.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// A score is a root mean square over the columns, in deviations; choose by `false_alarm_rate` where there are several. Tells `attribution`. State:
/// 8 bytes for each column and row of the history, a key. Threshold: 2.
///
/// Sources: Ramaswamy, Rastogi and Shim, "Efficient algorithms for mining outliers from large data sets", 2000; Angiulli and Pizzuti, 2002, for the mean.
///
/// Example:
///     >>> s.detect(tw.anomaly.knn(k=10), on=["load", "temperature"], by="machine", false_alarm_rate=0.001, attribution=True)
#[pyfunction]
#[pyo3(signature = (k=5, history=512, *, mean=false, warmup=50))]
pub fn knn(k: u32, history: u32, mean: bool, warmup: u64) -> PyDetector {
    PyDetector::new(Knn { k, history, mean, warmup })
}

/// Scores by the rolling z-score: |x − mean| / standard deviation, both of a key's latest rows before the row, each of which counts the same.
///
/// Args:
///     window: How many rows of a key are looked back on, from 2 to 1048576.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Tells `expected`, the mean. State: 32 bytes for each row of the window. Threshold: 4.
///
/// Example:
///     >>> s.detect(tw.anomaly.rolling_z(window=60), on="latency", by="route")
#[pyfunction]
#[pyo3(signature = (window=128, warmup=20))]
pub fn rolling_z(window: u32, warmup: u32) -> PyDetector {
    PyDetector::new(RollingZ { window, warmup })
}

/// Scores lasting shifts by ADWIN: a key's window grows as long as no older and newer part of it differ in their means; the score is the
/// greatest difference, in units of the bound that a chance of `delta` gives it. From 1 on the older part goes.
/// A change is some anomalies, until all before it has gone: a `refractory` makes one event of them.
///
/// Args:
///     delta: The chance that a window without a change is taken for one with a change.
///     warmup: How many rows of a key score 0, at least 10.
///
/// Tells `expected`, the mean of the window. State: some 3.5 kB for a key of a million rows. Threshold: 1.
///
/// Source: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", 2007.
///
/// Example:
///     >>> s.detect(tw.anomaly.adwin(), on="error_rate", by="service").filter("is_anomaly")
#[pyfunction]
#[pyo3(signature = (delta=0.002, warmup=30))]
pub fn adwin(delta: f64, warmup: u64) -> PyDetector {
    PyDetector::new(Adwin { delta, warmup })
}

/// Scores by extreme value theory (SPOT): how rare a value is by the tail of the key's most extreme values, as a power of ten: 4 is one in
/// ten thousand. No distribution is assumed.
///
/// Args:
///     risk: How rare an anomaly is; rarer values are not learnt from. It sets the threshold, -log10(risk).
///     level: The share of the first rows that a tail begins beyond.
///     calibration: How many rows of a key tell where tails begin; they score 0.
///     depth: From the mean of how many rows before it a value is measured, for series that drift (DSPOT); 0 for values as they are.
///
/// Tells `expected` with a depth, that mean. State: some 250 bytes a key and 32 for each row of the depth.
///
/// Source: Siffer, Fouque, Termier and Largouët, "Anomaly detection in streams with extreme value theory", 2017; tails by moments (Hosking
/// and Wallis, 1987).
///
/// Example:
///     >>> s.detect(tw.anomaly.peaks_over_threshold(risk=1e-5), on="bytes", by="host")
#[pyfunction]
#[pyo3(signature = (risk=1e-4, *, level=0.98, calibration=300, depth=0))]
pub fn peaks_over_threshold(risk: f64, level: f64, calibration: u32, depth: u32) -> PyDetector {
    PyDetector::new(PeaksOverThreshold { risk, level, calibration, depth })
}

/// Scores by how far a value lies outside the band between two quantiles of the key's latest rows, in units of the band's width; 0 within it.
///
/// Args:
///     lower: The quantile that the band begins with.
///     upper: The quantile that it ends with.
///     window: How many rows of a key are looked back on, at least half of them, from 64 on.
///     warmup: How many rows of a key score 0 because too little is known of it.
///
/// Tells `expected`, the median. State: 16 kB a key, whatever the window. Threshold: 1.
///
/// Source: Masson, Rim and Lee, "DDSketch", 2019; the older of two sketches is forgotten every half window.
///
/// Example:
///     >>> s.detect(tw.anomaly.quantile_band(lower=0.0, upper=0.999), on="duration", by="endpoint")
#[pyfunction]
#[pyo3(signature = (lower=0.01, upper=0.99, window=4096, warmup=64))]
pub fn quantile_band(lower: f64, upper: f64, window: u32, warmup: u32) -> PyDetector {
    PyDetector::new(QuantileBand { lower, upper, window, warmup })
}

/// Scores by how often rows come: the number of a key's rows in each span of event time, beside mean and deviation of the spans before. Too many
/// rows are told while they come, too few by the first row after the span; a key that falls silent for good is told by `Stream.heartbeat`.
///
/// Args:
///     every: The span in which rows are counted. The stream needs an event time.
///     alpha: The weight of the newest span; the memory is about 2 / alpha spans.
///     warmup: The rows of how many whole spans of a key score 0.
///
/// Rows that have a value in the watched column count, whatever it is. State: 40 bytes a key. Threshold: 4 deviations.
///
/// Example:
///     >>> s.event_time("ts").detect(tw.anomaly.event_rate("1min"), on="amount", by="card")
#[pyfunction]
#[pyo3(signature = (every, alpha=0.05, warmup=10))]
pub fn event_rate(every: Interval, alpha: f64, warmup: u64) -> PyDetector {
    PyDetector::new(EventRate { every: every.0, alpha, warmup })
}

/// Scores by the residuals of Holt-Winters: level, damped trend and up to two seasons, each smoothed exponentially. The score is the residual in
/// half widths of a conformal interval, that of which a share of `coverage` of the latest residuals lie inside.
///
/// Args:
///     season: How many rows a season has, such as 24 of a day of hours; 0 for none.
///     second_season: How many rows a second season has, such as 168 of a week of hours; 0 for none.
///     alpha: The weight of a value in the level.
///     beta: The weight of a change of the level in the trend.
///     gamma: The weight of a value in its place of the season.
///     damping: What is left of the trend from one value to the next.
///     coverage: The share of residuals inside the interval.
///     residuals: How many latest residuals tell how wide the interval is.
///
/// Tells `expected`, the forecast. Scores are 0 until there is a whole season and 32 residuals. State: 8 bytes for each row of a season and 16
/// for each residual. Threshold: 2; 1 is the edge of the interval.
///
/// Sources: Holt, 1957; Winters, 1960; Taylor, 2003; Lei et al., "Distribution-free predictive inference for regression", 2018.
///
/// Example:
///     >>> s.detect(tw.anomaly.holt_winters(season=24, second_season=168), on="passengers", by="station", expected=True)
#[pyfunction]
#[pyo3(signature = (season=0, second_season=0, *, alpha=0.1, beta=0.01, gamma=0.1, damping=0.98, coverage=0.99, residuals=256))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub fn holt_winters(
    season: u32,
    second_season: u32,
    alpha: f64,
    beta: f64,
    gamma: f64,
    damping: f64,
    coverage: f64,
    residuals: u32,
) -> PyDetector {
    let interval = detect::Interval { coverage, residuals };
    PyDetector::new(HoltWinters { season, second_season, alpha, beta, gamma, damping, interval })
}

/// Scores by the residuals of an autoregressive model: the next value as a weighted sum of the latest, the weights by recursive least squares
/// that forget. The score is the residual in half widths of a conformal interval, as of `holt_winters`.
///
/// Args:
///     order: How many latest values tell the next one, from 1 to 64.
///     forgetting: How much an error counts beside the one after it; the memory is about 1 / (1 - forgetting) rows.
///     coverage: The share of residuals inside the interval.
///     residuals: How many latest residuals tell how wide the interval is.
///
/// Tells `expected`, the forecast. State: 8 bytes for each pair of the order and 16 for each residual. Threshold: 2.
///
/// Source: Ljung and Söderström, "Theory and Practice of Recursive Identification", 1983.
///
/// Example:
///     >>> s.detect(tw.anomaly.ar_rls(order=16), on="current", by="motor", expected=True)
#[pyfunction]
#[pyo3(signature = (order=8, forgetting=0.999, *, coverage=0.99, residuals=256))]
pub fn ar_rls(order: u32, forgetting: f64, coverage: f64, residuals: u32) -> PyDetector {
    PyDetector::new(ArRls { order, forgetting, interval: detect::Interval { coverage, residuals } })
}

/// Scores by LODA: how rare a row is in histograms of random projections of it, over windows of rows. Watches columns together, each in
/// deviations from its mean; for many columns, of which few are strange at once.
///
/// Args:
///     projections: How many projections, from 1 to 1000.
///     bins: How many bins a histogram has, from 2 to 1024.
///     window_size: How many rows of a key are the reference of the next ones, from 10 to 65536.
///     seed: What random numbers begin with.
///
/// Tells `attribution`. Rows of a key's first window score 0. State: 4 kB for each column and 18 kB, a key. Threshold: 5; what is usual depends
/// on the number of columns, so choose by `false_alarm_rate` where there are several.
///
/// Source: Pevný, "Loda: lightweight on-line detector of anomalies", 2016.
///
/// Example:
///     >>> s.detect(tw.anomaly.loda(), on=["cpu", "memory", "io"], by="host", false_alarm_rate=0.001, attribution=True)
#[pyfunction]
#[pyo3(signature = (projections=100, bins=16, window_size=256, *, seed=42))]
pub fn loda(projections: u32, bins: u32, window_size: u32, seed: u64) -> PyDetector {
    PyDetector::new(Loda { projections, bins, window_size, seed })
}

/// Scores by isolation: by how few random cuts, each across a random projection of the columns, a row is parted from the rows of the latest window, from 0 to 1.
///
/// Args:
///     number_of_trees: How many trees, from 1 to 1000.
///     sample_size: How many rows a tree is made of, from 2 to window_size.
///     window_size: How many rows of a key are the reference of the next ones, from 10 to 65536.
///     seed: What random numbers begin with.
///
/// Rows of a key's first window score 0, later ones among others a half or less. State: 0.1 MB and 11 kB for each column, a key. Threshold: 0.65.
///
/// Sources: Liu, Ting and Zhou, "Isolation forest", 2008; Hariri, Carrasco Kind and Brunner, "Extended isolation forest", 2021.
///
/// Example:
///     >>> s.detect(tw.anomaly.isolation_forest(), on=["x", "y", "z"], by="machine", false_alarm_rate=0.001)
#[pyfunction]
#[pyo3(signature = (number_of_trees=50, sample_size=128, window_size=512, *, seed=42))]
pub fn isolation_forest(number_of_trees: u32, sample_size: u32, window_size: u32, seed: u64) -> PyDetector {
    PyDetector::new(IsolationForest { number_of_trees, sample_size, window_size, seed })
}

/// Scores by how fast a key would have had to go from its latest row's place: a card paid with in two cities, an account logged into from two.
/// Watches a latitude and a longitude, in degrees, in this order. The stream needs an event time.
///
/// Args:
///     most_speed: The speed that is just possible, in km/h.
///     tolerance: What distance counts as none, because places are not known better, in km.
///
/// A score of 1, the threshold, and more is impossible; a row far away is one anomaly and the next at home another. State: 32 bytes a key.
///
/// Source: Sinnott, "Virtues of the haversine", 1984.
///
/// Example:
///     >>> s.event_time("ts").detect(tw.anomaly.impossible_travel(), on=["lat", "lon"], by="card").filter("is_anomaly")
#[pyfunction]
#[pyo3(signature = (most_speed=900.0, tolerance=50.0))]
pub fn impossible_travel(most_speed: f64, tolerance: f64) -> PyDetector {
    PyDetector::new(ImpossibleTravel { most_speed, tolerance })
}

/// Scores by how much of a limit a key's rows reach within spans of event time that end with the row: too many, or too much. All spans are
/// counted in one pass. Watches one column, whose values are summed; rows with a value count. The stream needs an event time.
///
/// Args:
///     rows: By span, how many rows reach its limit.
///     sums: By span, which sum of values reaches its limit.
///     most_rows: How many of a key's latest rows are kept, so that it counts no more.
///
/// A score of 1, the threshold, and more: a limit is reached. State: 16 bytes for each row in the longest span, a key.
///
/// Example:
///     >>> s.detect(tw.anomaly.velocity(rows={"1min": 3, "1h": 20}, sums={"1d": 2_000.0}), on="amount", by="card")
#[pyfunction]
#[pyo3(signature = (rows=None, sums=None, *, most_rows=1024))]
pub fn velocity(rows: Option<&Bound<'_, PyDict>>, sums: Option<&Bound<'_, PyDict>>, most_rows: u32) -> PyResult<PyDetector> {
    let mut limits = Vec::new();
    for (within, most) in rows.into_iter().flatten() {
        limits.push(Limit::rows(most.extract()?, within.extract::<Interval>()?.0));
    }
    for (within, most) in sums.into_iter().flatten() {
        limits.push(Limit::sum(most.extract()?, within.extract::<Interval>()?.0));
    }
    Ok(PyDetector::new(Velocity { limits, most_rows }))
}

/// Scores by how unlike its key a row is, by several habits at once: a card's payment by its amount, its hour of the day, its merchant and its place.
/// Watches columns together: each is a quantity, unless said otherwise here. Of each the share of the key's rows that are as unusual is known, and all
/// are put together by Fisher's method.
///
/// Args:
///     names: Watched columns that are names, such as a merchant or a country, of text or any other type.
///     place: The watched columns that are a latitude and a longitude, in degrees.
///     hours: Whether to watch the hour of the event time, too; without an event time turn it off.
///     window: How many rows of a key are looked back on, from 10 to 65536.
///     warmup: How many rows of a key score 0 because too little is known of it.
///     near: What distance counts as the same place, in km.
///
/// Tells `attribution`; the hour's part is what is missing from the score. A score of 3, the threshold, is one row in a thousand, where habits do not
/// depend on each other. State: 4 kB a quantity, 0.3 kB a name, 4.7 kB a place, a key.
///
/// Source: Fisher, "Statistical Methods for Research Workers", 1932.
///
/// Example:
///     >>> habits = tw.anomaly.profile(names="merchant", place=("lat", "lon"))
///     >>> s.event_time("ts").detect(habits, on=["amount", "merchant", "lat", "lon"], by="card", attribution=True)
#[pyfunction]
#[pyo3(signature = (names=None, place=None, *, hours=true, window=256, warmup=20, near=10.0))]
pub fn profile(names: Option<Names>, place: Option<(String, String)>, hours: bool, window: u32, warmup: u32, near: f64) -> PyDetector {
    let names = names.map_or_else(Vec::new, |names| names.0);
    PyDetector::new(Profile { names, place, hours, window, warmup, near })
}

/// Several detectors as one: each one's scores are brought to how rare they are, -log10(p), and the greatest or the mean counts.
///
/// Args:
///     detectors: The detectors, with their parameters.
///     how: "max", so that what one of them finds is found, or "mean", so that what most find strange is.
///     weights: With "mean" what each counts for; all the same if left out.
///
/// A score of 3, the threshold, is one in a thousand; a key can reach it only once it has a thousand rows. State: that of the detectors, and
/// 1.1 kB a key for each.
///
/// Example:
///     >>> both = tw.anomaly.ensemble([tw.anomaly.robust_z(), tw.anomaly.ar_rls()], how="max")
///     >>> s.detect(both, on="value", by="sensor")
#[pyfunction]
#[pyo3(signature = (detectors, how="max", weights=None))]
pub fn ensemble(detectors: Vec<PyRef<'_, PyDetector>>, how: &str, weights: Option<Vec<f64>>) -> PyResult<PyDetector> {
    let how = match (how, weights) {
        ("max", None) => How::Max,
        ("mean", None) => How::Mean,
        ("mean", Some(weights)) => How::Weighted(weights),
        ("max", Some(_)) => return Err(PyValueError::new_err("`weights` are of how=\"mean\"; of how=\"max\" the greatest counts")),
        (other, _) => return Err(PyValueError::new_err(format!("`how` is \"{other}\"; it must be \"max\" or \"mean\""))),
    };
    let members: Vec<Detection> = detectors.iter().map(|detector| detector.detection.clone()).collect();
    Ok(PyDetector::new(Ensemble::new(members, how)))
}

/// The combination that is recommended for a numeric series of which nothing is known, `auto-v1`: a value unlike those of late, or a
/// shape unlike others, max(novelty(x), novelty(left_discord(x)) / 4), from 0 to 1; later rows of an event are held back for 128 rows.
///
/// There is no parameter; another combination will have another name. State: 0.2 MB a key. Threshold: 1/64.
///
/// Example:
///     >>> s.detect(tw.anomaly.auto(), on="value", by="sensor").filter("is_anomaly")
#[pyfunction]
pub fn auto() -> PyDetector {
    PyDetector::new(Auto)
}
