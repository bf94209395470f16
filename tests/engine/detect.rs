//! Detection: every detector is causal, whatever the batches, and goes on from a snapshot with the same scores; and which rows are anomalies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;
use thalweg::operator::detect::{
    Adwin, ArRls, Cusum, EventRate, HalfSpaceTrees, HoltWinters, How, ImpossibleTravel, Interval, IsolationForest, Knn, LeftDiscord, Limit,
    Loda, Mahalanobis, Novelty, PageHinkley, PeaksOverThreshold, Profile, QuantileBand, RandomCutForest, RobustZ, RollingZ, Velocity,
};
use thalweg::sink::Callback;
use thalweg::state::Snapshot;
use thalweg::testing::{batch, eof, source};
use thalweg::{
    Config, Detection, Kind, Query, Result, Stream, adwin, ar_rls, auto, ensemble, event_rate, event_time, ewma, half_space_trees,
    holt_winters, impossible_travel, knn, left_discord, loda, millis, mins, novelty, page_hinkley, peaks_over_threshold, profile,
    quantile_band, random_cut_forest, robust_z, rolling_z, secs, velocity,
};

fn all(detection: Detection) -> Detection {
    detection.on(["value"]).by(["key"]).with_p().refractory(5).region(8)
}

fn both(detection: Detection) -> Detection {
    detection.on(["value", "at"]).by(["key"])
}

/// Every detector, small enough that histories are full soon, with all that can be asked for.
pub fn detections() -> Vec<(&'static str, Detection)> {
    let forest = RandomCutForest { number_of_trees: 3, sample_size: 20, shingle_size: 2, ..RandomCutForest::default() };
    let mut detections = vec![
        ("forest", all(Detection::new(forest)).with_attribution()),
        (
            "forest, two columns",
            both(Detection::new(RandomCutForest { time_decay: Some(0.0), output_after: Some(5), ..forest })).with_attribution(),
        ),
        ("forest, thresholded", both(Detection::new(RandomCutForest { thresholded: true, ..forest })).with_attribution()),
        ("half-space trees", both(Detection::new(HalfSpaceTrees { number_of_trees: 3, window_size: 15, ..HalfSpaceTrees::default() }))),
        ("ewma", all(ewma(0.1)).with_expected()),
        ("ewma, two columns", both(ewma(0.1)).with_attribution()),
        ("mahalanobis", both(Detection::new(Mahalanobis { warmup: 5, ..Mahalanobis::default() })).with_expected().with_attribution()),
        ("cusum", all(Detection::new(Cusum { warmup: 12, ..Cusum::default() })).with_expected().with_attribution()),
        ("page-hinkley", all(Detection::new(PageHinkley { allowance: 0.1, limit: 5.0, warmup: 6 })).with_expected()),
        ("robust z", all(Detection::new(RobustZ { window: 30, warmup: 5 })).with_expected().with_attribution()),
        ("novelty", all(novelty())),
        ("novelty, short", all(Detection::new(Novelty { history: 64, warmup: 3 }))),
        ("left discord", all(left_discord())),
        ("left discord, short", all(Detection::new(LeftDiscord { length: 5, history: 40 }))),
        ("auto", auto().on(["value"]).by(["key"])),
        ("by rate", novelty().on(["value"]).by(["key"]).false_alarm_rate(0.05)),
        ("top", ewma(0.2).on(["value"]).by(["key"]).top_k(2, 15).refractory(3)),
        ("top in time", ewma(0.2).on(["value"]).by(["key"]).top_k(2, millis(15)).refractory(3)),
        ("top in time, two columns", both(rolling_z()).top_k(5, millis(40)).with_p()),
        ("by time", ewma(0.2).on(["value"]).by(["key"]).refractory(millis(7))),
    ];
    detections.extend(statistics());
    detections
}

/// Those that count, forecast, project or combine.
fn statistics() -> Vec<(&'static str, Detection)> {
    let interval = Interval { coverage: 0.9, residuals: 20 };
    let peaks = PeaksOverThreshold { risk: 0.01, level: 0.8, calibration: 20, depth: 0 };
    let seasons = HoltWinters { season: 5, second_season: 15, interval, ..HoltWinters::default() };
    let limits = [Limit::rows(3, millis(10)), Limit::sum(20.0, millis(50)), Limit::rows(25, millis(200))];
    let habits = Profile { window: 20, warmup: 5, near: 100.0, ..Profile::default() };
    let joint = [ewma(0.1), Detection::new(Mahalanobis { warmup: 5, ..Mahalanobis::default() })];
    vec![
        ("rolling z", all(Detection::new(RollingZ { window: 20, warmup: 5 })).with_expected().with_attribution()),
        ("adwin", all(Detection::new(Adwin { delta: 0.1, warmup: 10 })).with_expected()),
        ("peaks", all(Detection::new(peaks))),
        ("peaks, drifting", all(Detection::new(PeaksOverThreshold { depth: 6, ..peaks })).with_expected()),
        ("quantile band", all(Detection::new(QuantileBand { lower: 0.1, upper: 0.9, window: 64, warmup: 10 })).with_expected()),
        ("event rate", all(Detection::new(EventRate { every: millis(10), alpha: 0.2, warmup: 2 }))),
        ("holt-winters", all(Detection::new(seasons)).with_expected().with_attribution()),
        ("holt-winters, no season", all(Detection::new(HoltWinters { interval, ..HoltWinters::default() })).with_expected()),
        ("ar", all(Detection::new(ArRls { order: 3, forgetting: 0.95, interval })).with_expected()),
        ("loda", both(Detection::new(Loda { projections: 5, bins: 4, window_size: 12, seed: 1 })).with_attribution()),
        ("neighbours", both(Detection::new(Knn { k: 2, history: 20, mean: false, warmup: 5 })).with_attribution().with_p()),
        ("neighbours, mean", all(Detection::new(Knn { k: 3, history: 12, mean: true, warmup: 0 })).with_attribution()),
        ("isolation", both(Detection::new(IsolationForest { number_of_trees: 5, sample_size: 8, window_size: 12, seed: 1 }))),
        ("travel", both(Detection::new(ImpossibleTravel { most_speed: 2e9, tolerance: 5.0 })).with_p()),
        ("profile", all(Detection::new(Profile { window: 20, warmup: 5, ..Profile::default() })).with_attribution()),
        ("profile, names", both(Detection::new(Profile { names: vec!["at".to_owned()], ..habits.clone() })).with_attribution()),
        ("profile, place", both(Detection::new(Profile { place: Some(("value".to_owned(), "at".to_owned())), hours: false, ..habits }))),
        ("velocity", all(Detection::new(Velocity { limits: limits.to_vec(), most_rows: 30 })).with_p()),
        ("ensemble", ensemble([ewma(0.1), novelty(), left_discord()], How::Max).on(["value"]).by(["key"]).with_p()),
        ("ensemble, two columns", both(ensemble(joint, How::Weighted(vec![1.0, 2.0])))),
    ]
}

/// A row: event time, key, value.
pub type Row = (i64, i64, Option<f64>);

pub fn records(rows: &[Row]) -> RecordBatch {
    let at: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>());
    let key: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
    let value: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>());
    RecordBatch::try_from_iter_with_nullable([("at", at, false), ("key", key, false), ("value", value, true)]).unwrap()
}

/// Rows in batches of so many.
pub fn batches(rows: &[Row], size: usize) -> Vec<RecordBatch> {
    rows.chunks(size).map(records).collect()
}

pub fn detected(batches: Vec<RecordBatch>, detection: &Detection) -> RecordBatch {
    let table =
        Stream::from_batches(records(&[]).schema(), batches).event_time(event_time("at")).detect(detection.clone()).collect().unwrap();
    concat_batches(&table.schema(), table.batches()).unwrap()
}

fn detected_without_time(rows: &[Row], detection: &Detection) -> RecordBatch {
    let table = Stream::from_arrow([records(rows)]).detect(detection.clone()).collect().unwrap();
    concat_batches(&table.schema(), table.batches()).unwrap()
}

pub fn floats(rows: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().collect()
}

pub fn anomalies(rows: &RecordBatch) -> Vec<usize> {
    let flags = rows.column_by_name("is_anomaly").unwrap().as_boolean();
    (0..rows.num_rows()).filter(|&row| flags.value(row)).collect()
}

/// Pieces of noise, of constants and of a wave, with spikes and holes.
pub fn series() -> impl Strategy<Value = Vec<Option<f64>>> {
    let noise = prop::collection::vec(prop_oneof![20 => (0.0..1.0_f64).prop_map(Some), 1 => Just(Some(1e4)), 1 => Just(None)], 1..150);
    let constant = (0.0..9.0_f64, 1..80_usize).prop_map(|(value, rows)| vec![Some(value); rows]);
    let wave = (1..150_usize).prop_map(|rows| (0..rows).map(|row| Some((row as f64 / 3.0).sin() * 5.0)).collect());
    prop::collection::vec(prop_oneof![noise, constant, wave], 1..6).prop_map(|pieces| pieces.concat())
}

/// Up to three keys in turns, times a little out of order.
fn traces() -> impl Strategy<Value = Vec<Row>> {
    (prop::collection::vec(series(), 1..4), any::<u64>()).prop_map(|(keys, salt)| {
        let longest = keys.iter().map(Vec::len).max().unwrap_or(0);
        let row = |n: usize, key: usize| {
            let jitter = (salt.wrapping_mul(n as u64 + 1) >> 60) as i64 % 4;
            keys[key].get(n).map(|value| (n as i64 + jitter, key as i64, *value))
        };
        (0..longest).flat_map(|n| (0..keys.len()).filter_map(move |key| row(n, key)).collect::<Vec<_>>()).collect()
    })
}

/// What comes out if the batches up to `stop` run in one pipeline and the others in another that takes up its snapshot.
pub fn stopped(batches: &[RecordBatch], stop: usize, detection: &Detection) -> RecordBatch {
    let results: Arc<Mutex<Vec<RecordBatch>>> = Arc::default();
    let keep = || {
        let results = Arc::clone(&results);
        Callback::new(move |batch: &RecordBatch| -> Result<()> {
            results.lock().unwrap().push(batch.clone());
            Ok(())
        })
    };
    let stream = |part: &[RecordBatch]| {
        let steps = std::iter::once(batch(records(&[]))).chain(part.iter().cloned().map(batch)).chain([eof()]);
        source(steps).unwrap().event_time(event_time("at")).detect(detection.clone())
    };
    let mut first = Query::new().sink(&stream(&batches[..stop]), keep()).build().unwrap();
    let mut deliveries = 0;
    let ended = first.step_until(Duration::from_secs(3_600), &mut || {
        deliveries += 1;
        deliveries > stop + 1
    });
    assert!(!ended.unwrap());
    let snapshot = Snapshot::from_bytes(&first.snapshot().unwrap().to_bytes().unwrap()).unwrap();
    Query::new().sink(&stream(&batches[stop..]), keep()).restore(snapshot).build().unwrap().run().unwrap();
    let results = results.lock().unwrap();
    concat_batches(&results[0].schema(), results.iter()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scores_of_a_prefix_are_the_prefix_of_the_scores_in_batches_of_any_size(
        rows in traces(), cut in 0.0..1.0_f64, size in prop_oneof![Just(1), Just(7), Just(100)],
    ) {
        let cut = (cut * rows.len() as f64) as usize;
        for (name, detection) in detections() {
            let whole = detected(batches(&rows, usize::MAX), &detection);
            prop_assert_eq!(&detected(batches(&rows, size), &detection), &whole, "{} in batches of {}", name, size);
            if cut > 0 {
                let prefix = detected(batches(&rows[..cut], 64), &detection);
                prop_assert_eq!(&prefix, &whole.slice(0, cut), "{}: the first {} of {} rows", name, cut, rows.len());
            }
        }
    }

    #[test]
    fn from_a_snapshot_scores_go_on_the_same(rows in traces(), stop in 0.0..1.0_f64, size in prop_oneof![Just(5), Just(50)]) {
        let batches = batches(&rows, size);
        let stop = (stop * batches.len() as f64) as usize;
        for (name, detection) in detections() {
            prop_assert_eq!(stopped(&batches, stop, &detection), detected(batches.clone(), &detection), "{} stopped after {}", name, stop);
        }
    }
}

/// Noise of one key without a pattern, in [0, 1).
pub fn noise(rows: u64) -> Vec<Row> {
    let random = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 17)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11;
    (0..rows).map(|n| (n as i64, 0, Some(random(n) as f64 / (1u64 << 53) as f64))).collect()
}

#[test]
fn columns_come_in_their_order_and_only_as_asked_for() {
    let names = |detection: Detection| -> Vec<String> {
        let fields = detected(vec![records(&noise(3))], &detection.on(["value"])).schema();
        fields.fields().iter().skip(3).map(|field| field.name().clone()).collect()
    };
    assert_eq!(names(ewma(0.1)), ["score", "is_anomaly"]);
    assert_eq!(names(novelty().false_alarm_rate(0.01)), ["score", "p", "is_anomaly"]);
    assert_eq!(names(novelty().with_p().refractory(9).region(5)), ["score", "p", "event_score", "region", "is_anomaly"]);
    assert_eq!(names(novelty().refractory(0)), ["score", "is_anomaly"]);
}

#[test]
fn a_rate_of_false_alarms_is_met_and_an_anomaly_found() {
    let mut rows = noise(20_000);
    rows[15_000].2 = Some(30.0);
    let found = anomalies(&detected(batches(&rows, 1_000), &ewma(0.05).on(["value"]).false_alarm_rate(0.01)));
    assert!((100..300).contains(&found.len()), "{} of 20,000 at a rate of 1 in 100", found.len());
    assert!(found.contains(&15_000));
    assert!(found[0] >= 99, "no alarm before there are enough rows: {}", found[0]);
}

#[test]
fn an_event_is_one_anomaly_and_its_region_is_long() {
    let mut rows = noise(2_000);
    rows[1_500..1_520].iter_mut().for_each(|row| row.2 = Some(3.0));
    rows[1_510].2 = Some(70.0);
    let plain = novelty().on(["value"]).threshold(0.5);
    let held = detected(batches(&rows, 300), &plain.clone().refractory(100).region(20));
    assert_eq!(anomalies(&held), [1_500, 1_510]);
    assert_eq!(anomalies(&detected(batches(&rows, 300), &plain.refractory(millis(5)))), [1_500, 1_510]);
    let (scores, regions) = (floats(&held, "score"), floats(&held, "region"));
    let mut level = scores[0].unwrap();
    for (score, region) in scores.iter().zip(regions) {
        level += 2.0 / 21.0 * (score.unwrap() - level);
        assert!((region.unwrap() - level).abs() < 1e-12);
    }
}

#[test]
fn a_row_without_a_value_has_no_score_and_changes_nothing() {
    let mut rows = noise(300);
    let without = detected(vec![records(&rows)], &novelty().on(["value"]).with_p());
    rows.insert(200, (200, 0, None));
    rows.insert(200, (200, 0, Some(f64::NAN)));
    rows.insert(200, (200, 0, Some(f64::INFINITY)));
    let with = detected(vec![records(&rows)], &novelty().on(["value"]).with_p());
    for name in ["score", "p"] {
        let mut values = floats(&with, name);
        assert_eq!(values.drain(200..203).collect::<Vec<_>>(), [None; 3]);
        assert_eq!(values, floats(&without, name));
    }
    assert_eq!(with.column_by_name("at").unwrap().as_primitive::<Int64Type>().len(), 303);
}

#[test]
fn auto_finds_a_value_and_a_shape_that_are_new_and_holds_the_rest_back() {
    let mut rows: Vec<Row> = (0..6_000).map(|n| (n, 0, Some((n as f64 / 7.0).sin() + (n as f64 / 3.0).cos() / 9.0))).collect();
    rows[3_000..3_010].iter_mut().for_each(|row| row.2 = Some(4.0));
    rows[4_500..4_600].iter_mut().for_each(|row| row.2 = Some(0.5));
    let found = anomalies(&detected(batches(&rows, 1_000), &auto().on(["value"])));
    let near = |from: usize, to: usize| found.iter().filter(|row| (from..to).contains(row)).count();
    assert!(found.contains(&3_000), "{found:?}");
    assert!((1..3).contains(&near(4_500, 4_650)), "{found:?}");
    assert_eq!(near(1_000, 3_000), 0, "{found:?}");
}

#[test]
fn what_was_expected_and_which_way_a_value_lies_is_told() {
    let mut rows = noise(300);
    rows[200].2 = Some(-5.0);
    let one = detected(vec![records(&rows)], &ewma(0.1).on(["value"]).with_expected().with_attribution());
    let (scores, expected, parts) = (floats(&one, "score"), floats(&one, "expected"), floats(&one, "attribution"));
    assert_eq!(expected[0], None);
    let mut mean = rows[0].2.unwrap();
    for (row, (_, _, value)) in rows.iter().enumerate().skip(1) {
        assert!((expected[row].unwrap() - mean).abs() < 1e-12);
        let sign = if value.unwrap() < mean { -1.0 } else { 1.0 };
        assert_eq!(parts[row].unwrap(), sign * scores[row].unwrap());
        mean += 0.1 * (value.unwrap() - mean);
    }
    let forest = detected(vec![records(&rows)], &random_cut_forest().on(["value", "key"]).with_attribution());
    let parts = forest.column_by_name("attribution").unwrap().as_struct();
    let of = |name: &str| parts.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(200);
    let score = floats(&forest, "score")[200].unwrap();
    assert!(of("value") < -0.9 * score && of("key").abs() < 0.1 * score, "{} and {} of {score}", of("value"), of("key"));
    assert!(anomalies(&forest).contains(&200));
}

#[test]
fn a_lasting_shift_is_one_anomaly_and_spikes_are_each_their_own() {
    let mut rows = noise(4_000);
    rows[2_000..].iter_mut().for_each(|row| row.2 = row.2.map(|value| value + 0.4));
    for detection in [Detection::new(Cusum { warmup: 400, ..Cusum::default() }), page_hinkley()] {
        let found = anomalies(&detected(batches(&rows, 1_000), &detection.on(["value"])));
        assert!(found.len() == 1 && (2_000..2_060).contains(&found[0]), "{found:?}");
    }
    let mut rows = noise(1_000);
    [500, 501, 510].iter().for_each(|row| rows[*row].2 = Some(9.0));
    assert_eq!(anomalies(&detected(batches(&rows, 300), &robust_z().on(["value"]))), [500, 501, 510]);
}

#[test]
fn a_spike_is_found_by_each_detector_of_values() {
    let mut rows = noise(3_000);
    rows[2_500].2 = Some(9.0);
    for detection in [rolling_z(), quantile_band(), peaks_over_threshold(), holt_winters(0), holt_winters(24), ar_rls(), loda(), knn()] {
        let named = detection.clone().on(["value"]).to_string();
        let found = anomalies(&detected(batches(&rows, 700), &detection.on(["value"])));
        assert!(found.contains(&2_500) && found.len() <= 12, "{named}: {found:?}");
    }
}

#[test]
fn a_change_of_the_mean_is_found_by_adwin_without_a_reference() {
    let mut rows = noise(3_000);
    rows[2_600..].iter_mut().for_each(|row| row.2 = row.2.map(|value| value + 0.5));
    let found = anomalies(&detected(batches(&rows, 700), &adwin().on(["value"])));
    assert!(!found.is_empty() && found.iter().all(|row| (2_600..2_800).contains(row)), "{found:?}");
    let first = anomalies(&detected(batches(&rows, 700), &adwin().on(["value"]).refractory(500)));
    assert_eq!(first[0], found[0]);
    assert!(first.len() < 4, "{first:?}");
}

#[test]
fn a_missing_beat_of_a_season_is_found_and_the_forecast_told() {
    let mut rows: Vec<Row> =
        noise(2_400).iter().map(|(n, key, value)| (*n, *key, value.map(|x| x + if n % 24 < 8 { 10.0 } else { 0.0 }))).collect();
    rows[2_021].2 = Some(rows[2_021].2.unwrap() - 10.0);
    let found = detected(batches(&rows, 500), &holt_winters(24).on(["value"]).with_expected());
    assert_eq!(anomalies(&found), [2_021]);
    assert!((floats(&found, "expected")[2_021].unwrap() - 10.5).abs() < 0.5);
}

#[test]
fn a_card_in_two_places_at_once_is_found() {
    // Berlin, half an hour later Potsdam, an hour later Lisbon, a day later Berlin.
    let places = [(0, 52.52, 13.4), (30, 52.4, 13.06), (90, 38.72, -9.14), (90 + 1_440, 52.52, 13.4)];
    let at: ArrayRef = Arc::new(places.iter().map(|(minute, ..)| Some(minute * 60_000_i64)).collect::<Int64Array>());
    let column = |of: fn(&(i64, f64, f64)) -> f64| Arc::new(places.iter().map(of).collect::<Float64Array>()) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("at", at), ("lat", column(|row| row.1)), ("lon", column(|row| row.2))]).unwrap();
    let stream = Stream::from_arrow([rows]).event_time(event_time("at"));
    let table = stream.detect(impossible_travel().on(["lat", "lon"])).collect().unwrap();
    let found = concat_batches(&table.schema(), table.batches()).unwrap();
    assert_eq!(anomalies(&found), [2]);
    // Some 2,300 km less 50 in an hour.
    assert!((floats(&found, "score")[2].unwrap() - 2.5).abs() < 0.1, "{:?}", floats(&found, "score"));
    let refused = |on: &[&str]| stream.detect(impossible_travel().on(on.iter().copied())).schema().unwrap_err().to_string();
    assert!(refused(&["lat"]).contains("watches two columns"), "{}", refused(&["lat"]));
}

#[test]
fn a_card_that_is_paid_with_too_often_or_too_much_is_found() {
    // Four times in a minute, later 600 three times in a day.
    let rows: Vec<Row> = [(0, 1.0), (20, 1.0), (40, 1.0), (59, 1.0), (40_000, 600.0), (60_000, 600.0), (80_000, 900.0), (200_000, 1_500.0)]
        .map(|(second, amount)| (second * 1_000, 0, Some(amount)))
        .to_vec();
    let fast = velocity([Limit::sum(2_000.0, mins(1_440)), Limit::rows(4, secs(60))]).on(["value"]).by(["key"]);
    let found = detected(batches(&rows, 3), &fast);
    assert_eq!(anomalies(&found), [3, 6]);
    assert_eq!(floats(&found, "score")[..4], [0.25, 0.5, 0.75, 1.0].map(Some));
    let refused = |limits: &[Limit]| {
        let stream = Stream::from_arrow([records(&rows)]).event_time(event_time("at"));
        stream.detect(velocity(limits.to_vec()).on(["value"])).schema().unwrap_err().to_string()
    };
    assert!(refused(&[]).contains("at least one limit"), "{}", refused(&[]));
    assert!(refused(&[Limit::rows(0, secs(1))]).contains("`0 rows in 1s`"), "{}", refused(&[Limit::rows(0, secs(1))]));
    let without = Stream::from_arrow([records(&rows)]).detect(fast).schema().unwrap_err().to_string();
    assert!(without.contains("needs event times"), "{without}");
}

/// A card that pays some 20 to 40 at noon in five shops of a town, and at last 45 by night elsewhere, with how far, and its habits.
fn card() -> (RecordBatch, Profile) {
    let row = |n: i64| match n {
        399 => (n * 86_400_000 + 3 * 3_600_000, 45.0, Some("shop 9"), 48.1),
        300 => (n * 86_400_000, 30.0, None, 52.5),
        _ => (
            n * 86_400_000 + (10 + n * 5 % 6) * 3_600_000,
            20.0 + (n * 37 % 200) as f64 / 10.0,
            Some(["a", "b", "c", "d", "e"][n as usize * 3 % 5]),
            52.5,
        ),
    };
    let rows: Vec<_> = (0..400).map(row).collect();
    let at: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>());
    let amount: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Float64Array>());
    let shop: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>());
    let lat: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Float64Array>());
    let lon: ArrayRef = Arc::new(rows.iter().map(|_| Some(13.4)).collect::<Float64Array>());
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("at", at, false),
        ("amount", amount, false),
        ("shop", shop, true),
        ("lat", lat, false),
        ("lon", lon, false),
    ]);
    let place = Some(("lat".to_owned(), "lon".to_owned()));
    (batch.unwrap(), Profile { names: vec!["shop".to_owned()], place, ..Profile::default() })
}

#[test]
fn a_payment_that_is_unlike_its_card_is_found_and_says_why() {
    let (rows, habits) = card();
    let stream = Stream::from_arrow([rows.slice(0, 250), rows.slice(250, 150)]).event_time(event_time("at"));
    let detected = |habits: &Profile, on: &[&str]| {
        let detection = Detection::new(habits.clone()).on(on.iter().copied()).with_attribution();
        let table = stream.detect(detection).collect()?;
        Ok::<_, thalweg::Error>(concat_batches(&table.schema(), table.batches()).unwrap())
    };
    let found = detected(&habits, &["amount", "shop", "lat", "lon"]).unwrap();
    assert_eq!(anomalies(&found), [399]);
    assert_eq!(floats(&found, "score")[300], None, "a row without a shop");
    let parts = found.column_by_name("attribution").unwrap().as_struct();
    let part = |name: &str| parts.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(399);
    let (amount, shop, place) = (part("amount"), part("shop"), part("lat") + part("lon"));
    assert!(place > amount && amount > 0.3 && shop > 0.3, "{amount}, {shop}, {place}");
    let said = |habits: Profile, on: &[&str]| detected(&habits, on).unwrap_err().to_string();
    let text = said(Profile { names: Vec::new(), ..habits.clone() }, &["amount", "shop", "lat", "lon"]);
    assert!(text.contains("cannot watch `shop`: it is of type Utf8"), "{text}");
    let text = said(habits.clone(), &["amount", "lat", "lon"]);
    assert!(text.contains("is told what `shop` is, but watches [amount, lat, lon]"), "{text}");
    let text = said(Profile { names: vec!["lat".to_owned()], ..habits.clone() }, &["amount", "lat", "lon"]);
    assert!(text.contains("both for a name and for a part of a place"), "{text}");
    let mixed = ensemble([Detection::new(habits), ewma(0.1)], How::Max).on(["amount", "shop", "lat", "lon"]);
    let text = stream.detect(mixed).schema().unwrap_err().to_string();
    assert!(text.contains("cannot watch `shop` both as a name and as a number"), "{text}");
}

#[test]
fn bursts_and_lulls_are_found_by_event_time() {
    let mut rows: Vec<Row> = (0..5_000).filter(|n| !(3_000..3_400).contains(n)).map(|n| (n, 0, Some(1.0))).collect();
    rows.extend((0..300).map(|_| (4_050, 0, Some(1.0))));
    rows.sort_by_key(|row| row.0);
    let found = detected(batches(&rows, 333), &event_rate(millis(100)).on(["value"]));
    let at: Vec<i64> = anomalies(&found).iter().map(|row| rows[*row].0).collect();
    assert_eq!(at.first(), Some(&3_400));
    assert!(at[1..].iter().all(|time| (4_050..4_100).contains(time)) && at.len() > 100, "{at:?}");
}

#[test]
fn an_ensemble_scores_by_how_rare_its_members_find_a_row() {
    let mut rows = noise(3_000);
    rows[2_500].2 = Some(9.0);
    rows[2_600].2 = None;
    let p = |detection: Detection| floats(&detected(batches(&rows, 700), &detection.on(["value"]).with_p()), "p");
    let (first, second) = (p(ewma(0.05)), p(robust_z()));
    let scores = |how| floats(&detected(batches(&rows, 700), &ensemble([ewma(0.05), robust_z()], how).on(["value"])), "score");
    let (most, mean, weighted) = (scores(How::Max), scores(How::Mean), scores(How::Weighted(vec![3.0, 1.0])));
    for row in 0..3_000 {
        let (Some(a), Some(b)) = (first[row], second[row]) else {
            assert_eq!((row, most[row], mean[row]), (2_600, None, None));
            continue;
        };
        let (a, b) = (-a.log10(), -b.log10());
        assert!((most[row].unwrap() - a.max(b)).abs() < 1e-12);
        assert!((mean[row].unwrap() - (a + b) / 2.0).abs() < 1e-12);
        assert!((weighted[row].unwrap() - (3.0 * a + b) / 4.0).abs() < 1e-12);
    }
    assert!(most[2_500].unwrap() > 3.0);
}

#[test]
fn a_thresholded_forest_finds_a_shape_once() {
    let mut rows: Vec<Row> =
        noise(4_000).iter().map(|(n, _, value)| (*n, 0, value.map(|value| (*n as f64 / 5.0).sin() + value / 9.0))).collect();
    rows[3_000..3_006].iter_mut().for_each(|row| row.2 = Some(1.8));
    let forest = RandomCutForest { shingle_size: 8, thresholded: true, ..RandomCutForest::default() };
    let found = anomalies(&detected(batches(&rows, 1_000), &Detection::new(forest).on(["value"])));
    let (event, elsewhere): (Vec<usize>, Vec<usize>) = found.iter().partition(|row| (3_000..3_014).contains(*row));
    assert!(!event.is_empty() && event.len() < 8, "{found:?}");
    assert!(elsewhere.len() < 40, "{} false alarms of 4,000 rows", elsewhere.len());
}

#[test]
fn half_space_trees_find_a_row_that_is_strange_in_both_columns_together() {
    let mut rows: Vec<Row> = (0..3_000).map(|n| (n * 7 % 50, 0, Some((n * 7 % 50) as f64))).collect();
    rows[2_500] = (5, 0, Some(45.0));
    let scores = floats(&detected_without_time(&rows, &half_space_trees().on(["at", "value"])), "score");
    let usual = (250..3_000).filter(|row| *row != 2_500).map(|row| scores[row].unwrap()).fold(0.0, f64::max);
    assert!(scores[2_500].unwrap() > usual, "{:?} is not above {usual}", scores[2_500]);
}

#[test]
fn what_cannot_be_detected_is_told() {
    let stream = Stream::from_arrow([records(&noise(3))]);
    let said = |detection: Detection| {
        let error = stream.detect(detection.on(["value"])).schema().unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        error.to_string()
    };
    assert!(said(ewma(0.1).threshold(4.0).false_alarm_rate(0.1)).contains("give one of them"));
    assert!(said(ewma(0.1).false_alarm_rate(0.0)).contains("`false_alarm_rate` is 0"));
    assert!(said(ewma(0.1).threshold(f64::NAN)).contains("`threshold` is NaN"));
    assert!(said(ewma(0.1).top_k(5, 100).threshold(4.0)).contains("give one of them"));
    assert!(said(ewma(0.1).top_k(5, 5)).contains("`top_k` is 5 of 5 rows"));
    assert!(said(ewma(0.1).top_k(5, mins(60)).false_alarm_rate(0.1)).contains("give one of them"));
    assert!(said(ewma(0.1).top_k(5, mins(60))).contains("`top_k` is 3600s, but the stream has no event time"));
    let timed = stream.event_time(event_time("at"));
    let told = |k, span: Duration| timed.detect(ewma(0.1).on(["value"]).top_k(k, span)).schema().unwrap_err().to_string();
    assert!(told(0, mins(1)).contains("`top_k` is 0 within 60s; from 1 to 1024 are wanted"), "{}", told(0, mins(1)));
    assert!(told(1_025, mins(1)).contains("`top_k` is 1025 within 60s"));
    assert!(told(5, secs(0)).contains("of a span above 0"));
    assert!(told(5, Duration::from_micros(1)).contains("not a whole number of the event time's unit"));
    assert_eq!(ewma(0.1).on(["x"]).top_k(3, mins(60)).to_string(), "ewma(alpha=0.1) on [x] by [], top 3 within 3600s");
    assert!(said(ewma(0.1).refractory(millis(5))).contains("the stream has no event time"));
    assert!(said(ewma(0.1).region(0)).contains("`region` is 0 rows"));
    assert!(said(Detection::new(LeftDiscord { length: 9, history: 17 })).contains("`history` 17 values"));
    assert!(said(Detection::new(Novelty { history: 9, warmup: 3 })).contains("`history` is 9 rows"));
    assert!(said(novelty().with_expected()).contains("novelty(history=4096) cannot tell `expected`"));
    assert!(said(novelty().with_attribution()).contains("cannot tell `attribution`"));
    assert!(said(random_cut_forest().with_expected()).contains("cannot tell `expected`"));
    let forest = RandomCutForest::default();
    assert!(said(Detection::new(RandomCutForest { sample_size: 1, ..forest })).contains("`sample_size` 1"));
    assert!(said(Detection::new(RandomCutForest { shingle_size: 2_000, ..forest })).contains("has 2000 dimensions"));
    assert!(said(Detection::new(RandomCutForest { time_decay: Some(f64::NAN), ..forest })).contains("`time_decay` is NaN"));
    assert!(said(Detection::new(HalfSpaceTrees { height: 31, ..HalfSpaceTrees::default() })).contains("`height` is 31"));
    assert!(said(Detection::new(Cusum { limit: 0.0, ..Cusum::default() })).contains("`limit` 0"));
    assert!(said(Detection::new(PageHinkley { warmup: 1, ..PageHinkley::default() })).contains("`warmup` is 1 rows"));
    assert!(said(Detection::new(RobustZ { window: 10, warmup: 11 })).contains("`warmup` is 11 rows; it must lie between 1 and 10"));
    assert!(said(Detection::new(Mahalanobis { shrinkage: 0.0, ..Mahalanobis::default() })).contains("`shrinkage` 0"));
    assert!(said(Detection::new(RollingZ { window: 1, warmup: 1 })).contains("`window` is 1 rows"));
    assert!(said(Detection::new(Adwin { delta: 1.0, warmup: 30 })).contains("`delta` is 1"));
    assert!(said(Detection::new(PeaksOverThreshold { risk: 0.5, ..PeaksOverThreshold::default() })).contains("`risk` is 0.5"));
    assert!(said(peaks_over_threshold().with_expected()).contains("cannot tell `expected`"));
    assert!(said(Detection::new(QuantileBand { lower: 0.99, ..QuantileBand::default() })).contains("`lower` is 0.99"));
    assert!(said(event_rate(millis(100))).contains("call `event_time(column)` before `detect`"));
    assert!(said(profile()).contains("watches the hours of event times, but the stream has none"));
    assert!(said(Detection::new(Profile { window: 9, ..Profile::default() })).contains("`window` is 9 rows"));
    assert!(said(Detection::new(Profile { near: 0.0, hours: false, ..Profile::default() })).contains("`near` is 0 km"));
    assert!(said(holt_winters(1)).contains("`season` is 1 rows"));
    assert!(said(Detection::new(ArRls { order: 65, ..ArRls::default() })).contains("`order` is 65 rows"));
    assert!(said(Detection::new(Loda { bins: 1, ..Loda::default() })).contains("`bins` is 1"));
    assert!(said(Detection::new(Knn { k: 9, history: 8, ..Knn::default() })).contains("`k` is 9 and `history` 8 rows"));
    let isolation = IsolationForest { sample_size: 513, ..IsolationForest::default() };
    assert!(said(Detection::new(isolation)).contains("`sample_size` is 513 rows; it must lie between 2 and 512"));
    assert!(said(ensemble([], How::Max)).contains("at least one detector"));
    assert!(said(ensemble([ewma(0.1)], How::Weighted(vec![]))).contains("has 0 weights"));
    assert!(said(ensemble([ewma(2.0)], How::Mean)).contains("`alpha` is 2"));
    let scored = stream.detect(ewma(0.1).on(["value"]));
    assert!(scored.detect(ewma(0.1).on(["value"])).schema().unwrap_err().to_string().contains("already has a column `score`"));
}

#[test]
fn state_is_bounded() {
    let rows: Vec<Row> = (0..2_000).map(|n| (n, n, Some(1.0))).collect();
    let stream = Stream::from_batches(records(&[]).schema(), batches(&rows, 500)).detect(novelty().on(["value"]).by(["key"]));
    let mut config = Config::default();
    config.max_state_bytes = 1 << 20;
    let error = stream.batches(config).unwrap().into_table().map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("over its bound of 1048576 bytes"), "{error}");
}
