//! Twin of [`crate::anomaly::discord`].

use crate::anomaly::discord::{DiscordSeries, LeftDiscord, score_of};

/// Score of the latest value of a series, which it has been taken into: every earlier stretch is compared value by value.
pub fn discord(series: &DiscordSeries, params: &LeftDiscord) -> f64 {
    let (length, count) = (params.stretch(), series.values.len());
    let scaled = |end: usize| -> Vec<f64> {
        let stretch = &series.values[end - length..end];
        let mean = stretch.iter().map(|value| value - series.centre).sum::<f64>() / length as f64;
        let centred: Vec<f64> = stretch.iter().map(|value| value - series.centre - mean).collect();
        let deviation = (centred.iter().map(|value| value * value).sum::<f64>() / length as f64).sqrt();
        centred.iter().map(|value| value / deviation.max(series.floor)).collect()
    };
    let latest = scaled(count);
    let apart = |end: usize| latest.iter().zip(scaled(end)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / length as f64;
    let earliest = count.saturating_sub(params.farthest()).max(length);
    score_of((earliest..=count - length).map(apart).fold(f64::INFINITY, f64::min))
}
