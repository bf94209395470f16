//! Which rows are among the strangest of their key's latest rows, or of those in a span of event time.

use thalweg::{ewma, millis};

use crate::detect::{Row, anomalies, batches, detected, floats, noise};

#[test]
fn the_strangest_of_the_latest_rows_are_anomalies() {
    let rows = noise(3_000);
    let found = detected(batches(&rows, 500), &ewma(0.05).on(["value"]).top_k(3, 100));
    let scores: Vec<f64> = floats(&found, "score").into_iter().flatten().collect();
    let among = |row: usize| row >= 99 && scores[row - 99..row].iter().filter(|score| **score >= scores[row]).count() < 3;
    assert_eq!(anomalies(&found), (0..3_000).filter(|row| among(*row)).collect::<Vec<_>>());
    assert!((60..120).contains(&anomalies(&found).len()), "some 3 in 100: {}", anomalies(&found).len());
}

#[test]
fn the_strangest_of_a_span_of_time_are_anomalies() {
    // Three keys, some rows without a value, from 0 to 3 between the times of two; one in ten comes up to 150 late, more than the span of 100.
    let rows: Vec<Row> = noise(4_000)
        .iter()
        .scan(0, |now, (n, _, value)| {
            *now += n * 7 % 4;
            let late = if n % 10 == 9 { n * 13 % 150 } else { 0 };
            Some((*now - late, n * n % 3, value.filter(|_| n % 40 != 0)))
        })
        .collect();
    let found = detected(batches(&rows, 500), &ewma(0.05).on(["value"]).by(["key"]).top_k(3, millis(100)));
    let scores = floats(&found, "score");
    let is_top = |row: usize| {
        let Some(score) = scores[row] else { return false };
        let before = |other: &usize| rows[*other].1 == rows[row].1 && scores[*other].is_some();
        let times = || (0..row).filter(before).chain([row]).map(|other| rows[other].0);
        let (earliest, latest) = (times().min().unwrap(), times().max().unwrap());
        let within: Vec<f64> =
            (0..row).filter(before).filter(|other| latest - rows[*other].0 < 100).filter_map(|other| scores[other]).collect();
        let is_judged = latest - rows[row].0 < 100 && latest - earliest >= 100 && within.len() >= 3;
        is_judged && within.iter().filter(|other| **other >= score).count() < 3
    };
    assert_eq!(anomalies(&found), (0..4_000).filter(|row| is_top(*row)).collect::<Vec<_>>());
    // 4,000 rows are 60 spans of each of the keys.
    assert!((200..900).contains(&anomalies(&found).len()), "some 3 in a span: {}", anomalies(&found).len());
}

#[test]
fn a_key_that_is_seldom_seen_has_no_row_among_the_highest_of_a_span() {
    let mut rows: Vec<Row> = noise(300).iter().map(|(n, key, value)| (n * 60, *key, *value)).collect();
    rows[200].2 = Some(500.0);
    let top = |k, span| anomalies(&detected(batches(&rows, 70), &ewma(0.05).on(["value"]).top_k(k, millis(span))));
    assert_eq!(top(2, 100), Vec::<usize>::new(), "one other row in a span, any row being among the two highest");
    assert!(top(1, 1_000).contains(&200));
}
