//! Detectors over labelled series, through the engine: what they find, how fast, and with how much state.

mod baseline;
mod injected;
mod joint;
mod nab;
mod score;
mod speed;
mod vus;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use clap::Args;
use thalweg::operator::detect::{How, PeaksOverThreshold, RandomCutForest};
use thalweg::{
    Detection, Stream, adwin, ar_rls, auto, cusum, ensemble, ewma, half_space_trees, holt_winters, isolation_forest, knn, left_discord,
    loda, novelty, page_hinkley, peaks_over_threshold, quantile_band, robust_z, rolling_z,
};

use crate::Result;
use crate::machine::{self, Machine};
use crate::report::rate;
use baseline::OutsideRange;
use nab::Series;
use score::{PROFILES, Scored};

/// Rows of a batch.
const BATCH: usize = 8_192;

/// Rows for which detectors that have no rule of their own are held back.
const REFRACTORY: u64 = 128;

/// Rows over which the column `region` is smoothed.
const REGION: u32 = 64;

/// What is printed beside every score.
const RULES: &str = "\
Causal: a row's score depends on the rows of its file up to it alone, the scores of a file's beginning are the beginning of its scores.
One set of parameters for all files, those printed; no file's length, minimum, maximum or future is known to a detector.
best: the one threshold for all files that serves best, chosen on these labels, as NAB's optimiser does, for each profile.
fixed: the detector's default threshold, chosen beforehand, the same for all profiles. A difference of 2 points is noise.
Profiles: standard / reward low rate of false positives / reward low rate of false negatives.
refractory 128: the column event_score: rows of an event that score no higher than those before them count as 0 for 128 rows.
F1: composite, of the rows that are detections and of windows found, with the threshold that serves it best.
VUS-PR: as TSB-AD computes it, mean of files; of the column score and of the column region, over all files with windows and over those that TSB-AD has.";

/// Options of the evaluation.
#[derive(Args)]
pub struct Options {
    /// The folder of NAB, or of a pack of a part of it; without it `nab-open` in the folder that THALWEG_DATA names.
    #[arg(long)]
    nab: Option<PathBuf>,
    /// Runs of each detector; the median speed is printed.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The Python that has peers for the speed of detectors (rcf3, river, stumpy).
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Runs only detectors whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Measures only the recall of injected anomalies, which needs no files and does not depend on the machine.
    #[arg(long)]
    injected: bool,
    /// Measures only the speed of detectors over several columns or many keys, which needs no files.
    #[arg(long)]
    speed: bool,
    /// Most rows that each of these is given: to see that they run.
    #[arg(long)]
    rows: Option<usize>,
    /// Rows over which the column region is smoothed.
    #[arg(long, default_value_t = REGION)]
    region: u32,
    /// Writes scores here too, as NAB has them: DETECTOR/CATEGORY/FILE.
    #[arg(long)]
    scores: Option<PathBuf>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// A detector as it is run.
struct Entry {
    name: &'static str,
    detection: Detection,
    /// The column that tells anomalies.
    column: &'static str,
}

/// What a detector made of all series.
struct Outcome {
    /// The column that tells anomalies, and the plain scores.
    decided: Vec<Vec<f64>>,
    scores: Vec<Vec<f64>>,
    rows_per_second: f64,
    bytes_per_key: f64,
}

fn entries() -> Vec<Entry> {
    let plain = |name, detection: Detection| Entry { name, detection, column: "score" };
    let events = |name, detection: Detection| Entry { name, detection: detection.refractory(REFRACTORY), column: "event_score" };
    let outside = || Detection::new(OutsideRange);
    let peaks = |depth| Detection::new(PeaksOverThreshold { depth, ..PeaksOverThreshold::default() });
    let forest = |shingle_size, thresholded| Detection::new(RandomCutForest { shingle_size, thresholded, ..RandomCutForest::default() });
    vec![
        plain("outside range (baseline)", outside()),
        events("outside range (baseline), refractory 128", outside()),
        plain("ewma (baseline)", ewma(0.05)),
        events("ewma (baseline), refractory 128", ewma(0.05)),
        plain("novelty", novelty()),
        events("novelty, refractory 128", novelty()),
        events("left discord, refractory 128", left_discord()),
        events("rolling z, refractory 128", rolling_z()),
        events("robust z, refractory 128", robust_z()),
        events("quantile band, refractory 128", quantile_band()),
        events("peaks over threshold, refractory 128", peaks_over_threshold()),
        events("peaks over threshold, depth 20, refractory 128", peaks(20)),
        events("holt-winters without season, refractory 128", holt_winters(0)),
        events("holt-winters of 288 rows, refractory 128", holt_winters(288)),
        events("ar by rls, refractory 128", ar_rls()),
        plain("cusum", cusum()),
        plain("page-hinkley", page_hinkley()),
        events("adwin, refractory 128", adwin()),
        events("random cut forest, refractory 128", forest(1, false)),
        events("random cut forest, shingle 8, refractory 128", forest(8, false)),
        events("random cut forest, thresholded, refractory 128", forest(8, true)),
        events("half-space trees, refractory 128", half_space_trees()),
        events("isolation forest, refractory 128", isolation_forest()),
        events("loda, refractory 128", loda()),
        events("knn, refractory 128", knn()),
        events("ensemble of novelty, robust z and ar, max, refractory 128", ensemble([novelty(), robust_z(), ar_rls()], How::Max)),
        events("ensemble of novelty, robust z and ar, mean, refractory 128", ensemble([novelty(), robust_z(), ar_rls()], How::Mean)),
        Entry { name: "auto-v1", detection: auto(), column: "event_score" },
    ]
}

/// Runs every detector over every series and prints what they are worth.
pub fn run(options: &Options) -> Result<()> {
    let entries: Vec<Entry> = entries().into_iter().filter(|entry| options.wants(entry.name)).collect();
    if options.injected {
        return print_recalls(&entries, options);
    }
    if options.speed {
        machine::pin(0);
        println!("{}", Machine::look());
        return measure_speed(options);
    }
    let folder = options.nab.clone().unwrap_or_else(|| machine::data_folder().join("nab-open"));
    let series = nab::read(&folder)?;
    machine::pin(0);
    println!("{}\n", Machine::look());
    let (rows, windows) = series.iter().fold((0, 0), |(rows, windows), s| (rows + s.values.len(), windows + s.windows.len()));
    println!("NAB, {}: {} files, {rows} rows, {windows} windows\n{RULES}\n", folder.display(), series.len());
    println!(
        "{:62} {:>20} {:>20}  {:>9} {:>9}  {:>5} {:>13} {:>13}  {:>10} {:>9}",
        "", "best", "fixed", "threshold", "fixed", "F1", "VUS-PR", "of TSB-AD's", "points/s", "bytes/key"
    );
    for entry in &entries {
        let (threshold, outcome) = (entry.detection.score_threshold(), measure(entry, &series, options.runs)?);
        let regions = regions(entry, &series, options.region)?;
        let scored = Scored::new(&series, &outcome.decided);
        let best = PROFILES.map(|profile| scored.best(profile));
        let three = |scores: [f64; 3]| scores.map(|score| format!("{score:.2}")).join(" ");
        println!(
            "{:62} {:>20} {:>20}  {:>9.4} {:>9.4}  {:>5.3} {:>13} {:>13}  {:>8} M {:>9.0}",
            entry.name,
            three(best.map(|best| best.score)),
            three(PROFILES.map(|profile| scored.at(threshold, profile))),
            best[0].threshold,
            threshold,
            scored.event_f1().score,
            volumes(&series, &outcome.scores, &regions, |series| Some(series.clone())),
            volumes(&series, &outcome.scores, &regions, Series::tsb_ad),
            rate(outcome.rows_per_second / 1e6),
            outcome.bytes_per_key
        );
        println!("    {}", entry.detection.clone().on(["value"]).by(["file"]));
        if let Some(folder) = &options.scores {
            write(&folder.join(entry.name), &series, &outcome.decided)?;
        }
    }
    print_recalls(&entries, options)?;
    measure_speed(options)
}

fn measure_speed(options: &Options) -> Result<()> {
    speed::measure(options.runs, options.only.as_deref(), &options.python, options.rows)
}

/// Prints what share of anomalies of known kinds each detector finds.
fn print_recalls(entries: &[Entry], options: &Options) -> Result<()> {
    println!(
        "\nRecall of anomalies put into {} series for each kind, the plain score, at one false alarm in 1,000 rows:",
        injected::SERIES
    );
    println!("{:62} {}", "", injected::kinds().map(|kind| format!("{kind:>12}")).collect::<String>());
    let mut told: Vec<String> = Vec::new();
    for entry in entries {
        // Events are told from the same scores.
        let name = entry.name.split(", refractory").next().unwrap_or(entry.name);
        if told.iter().any(|known| known == name) {
            continue;
        }
        let recalls: String = injected::recalls(entry)?.iter().map(|recall| format!("{:>11.0}%", 100.0 * recall)).collect();
        println!("{name:62} {recalls}");
        told.push(name.to_owned());
    }
    println!("\nThe same of anomalies in four columns, found within the 24 rows that they last:");
    println!("{:62} {}", "", joint::kinds().map(|kind| format!("{kind:>12}")).collect::<String>());
    for (name, detection) in joint::detections().into_iter().filter(|(name, _)| options.wants(name)) {
        let recalls: String = joint::recalls(&detection)?.iter().map(|recall| format!("{:>11.0}%", 100.0 * recall)).collect();
        println!("{name:62} {recalls}");
    }
    Ok(())
}

/// VUS-PR of plain scores and of regions, as text, over the part of each series that `part` gives.
fn volumes(series: &[Series], scores: &[Vec<f64>], regions: &[Vec<f64>], part: impl Fn(&Series) -> Option<Series>) -> String {
    let parts: Vec<(usize, Series)> = series.iter().enumerate().filter_map(|(at, series)| Some((at, part(series)?))).collect();
    let mean = |scores: &[Vec<f64>]| vus::mean(parts.iter().map(|(at, part)| (part, &scores[*at][..part.values.len()])));
    match (mean(scores), mean(regions)) {
        (Some(score), Some(region)) => format!("{score:.3} {region:.3}"),
        _ => "none".to_owned(),
    }
}

/// The column `region` over `rows` rows, for each series; not timed.
fn regions(entry: &Entry, series: &[Series], rows: u32) -> Result<Vec<Vec<f64>>> {
    let stream = Stream::from_arrow(batches(series)?).detect(entry.detection.clone().region(rows).on(["value"]).by(["file"]));
    let table = stream.collect()?;
    column(&concat_batches(&table.schema(), table.batches())?, "region", series)
}

/// All series, each a key, one after the other.
fn batches(series: &[Series]) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for (key, series) in series.iter().enumerate() {
        for values in series.values.chunks(BATCH) {
            let key: ArrayRef = Arc::new(Int32Array::from(vec![key as i32; values.len()]));
            let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
            batches.push(RecordBatch::try_from_iter([("file", key), ("value", values)])?);
        }
    }
    Ok(batches)
}

/// A column of what a detector made of [`batches`], by series; NaN for null.
fn column(rows: &RecordBatch, name: &str, series: &[Series]) -> Result<Vec<Vec<f64>>> {
    let column = rows.column_by_name(name).ok_or_else(|| format!("the detector gave no column `{name}`"))?.as_primitive::<Float64Type>();
    let mut scores = column.iter().map(|score| score.unwrap_or(f64::NAN));
    Ok(series.iter().map(|series| scores.by_ref().take(series.values.len()).collect()).collect())
}

/// Runs a detector over all series.
fn measure(entry: &Entry, series: &[Series], runs: usize) -> Result<Outcome> {
    let stream = Stream::from_arrow(batches(series)?).detect(entry.detection.clone().on(["value"]).by(["file"]));
    let (mut seconds, mut table) = (Vec::new(), None);
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        table = Some(stream.collect()?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let table = table.ok_or("nothing was run")?;
    let rows = concat_batches(&table.schema(), table.batches())?;
    Ok(Outcome {
        decided: column(&rows, entry.column, series)?,
        scores: column(&rows, "score", series)?,
        rows_per_second: rows.num_rows() as f64 / seconds[seconds.len() / 2],
        bytes_per_key: table.metrics().state_bytes as f64 / series.len() as f64,
    })
}

/// Writes scores in NAB's layout, which other scorers read.
fn write(folder: &Path, series: &[Series], scores: &[Vec<f64>]) -> Result<()> {
    for (series, scores) in series.iter().zip(scores) {
        let path = folder.join(&series.name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let rows = series.timestamps.iter().zip(&series.values).zip(scores);
        let lines: String = rows.map(|((time, value), score)| format!("{time},{value},{score}\n")).collect();
        fs::write(&path, format!("timestamp,value,anomaly_score\n{lines}"))?;
    }
    Ok(())
}
