//! The live table.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use thalweg::Metrics;

use crate::Result;
use crate::detect::{Seen, Span};
use crate::screen::Screen;
use crate::words::{grouped, short};

/// How often to draw.
const EVERY: Duration = Duration::from_millis(500);

/// The state of the live table.
pub struct Live {
    screen: Screen,
    span: Span,
    drawn: Instant,
    drawn_rows: u64,
}

impl Live {
    pub fn new() -> Live {
        Live { screen: Screen::stdout(), span: Span::default(), drawn: Instant::now(), drawn_rows: 0 }
    }

    /// From the first row to the last.
    pub fn took(&self) -> Duration {
        self.span.took()
    }

    /// Draws if it is time to.
    pub fn update(&mut self, metrics: &Metrics, seen: &Seen) -> Result<()> {
        self.span.note(metrics.rows_in);
        let since = self.drawn.elapsed();
        if since < EVERY {
            return Ok(());
        }
        let rate = (metrics.rows_in - self.drawn_rows) as f64 / since.as_secs_f64();
        (self.drawn, self.drawn_rows) = (Instant::now(), metrics.rows_in);
        self.draw(rate, metrics, seen)
    }

    /// Draws the last state.
    pub fn finish(&mut self, metrics: &Metrics, seen: &Seen) -> Result<()> {
        self.span.note(metrics.rows_in);
        let rate = metrics.rows_in as f64 / self.took().as_secs_f64().max(1e-3);
        self.draw(rate, metrics, seen)
    }

    fn draw(&mut self, rate: f64, metrics: &Metrics, seen: &Seen) -> Result<()> {
        let alerts = seen.alerts.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let (newest, lag) = progress(metrics, seen);
        let (rate, rows) = (grouped(rate as u64), grouped(metrics.rows_in));
        let latency = metrics.latency;
        let (p50, p99, p999) = (short(latency.p50), short(latency.p99), short(latency.p999));
        let (late, quarantined, alerts) = (grouped(metrics.late_rows), grouped(metrics.quarantined_rows), grouped(alerts));
        let seconds = self.took().as_secs_f64();
        let table = format!(
            "┌ card transactions ─ {seconds:.1} s\n\
             │ throughput   {rate} rows/s, {rows} rows so far\n\
             │ event time   {newest}, watermark {lag} behind\n\
             │ latency      p50 {p50}   p99 {p99}   p99.9 {p999}\n\
             │ alerts       {alerts}\n\
             │ late         {late}\n\
             └ quarantined  {quarantined}\n"
        );
        let line = format!(
            "{seconds:6.1} s  {rate:>9} rows/s  {rows:>11} rows  event time {newest}, watermark -{lag}  \
             latency p50 {p50} p99 {p99} p99.9 {p999}  alerts {alerts}  late {late}  quarantined {quarantined}"
        );
        Ok(self.screen.draw(&table, &line)?)
    }
}

/// The newest event time in words, and how far the watermark is behind it.
fn progress(metrics: &Metrics, seen: &Seen) -> (String, String) {
    let newest = seen.newest.load(Relaxed);
    let (Some(watermark), Some(date)) = (metrics.watermark, timestamp_ms_to_datetime(newest).filter(|_| newest > 0)) else {
        return ("none yet".to_owned(), "0 min".to_owned());
    };
    // At the end of the input the watermark is past everything.
    let minutes = newest.saturating_sub(watermark).max(0) as f64 / 60e3;
    (date.format("%Y-%m-%d %H:%M").to_string(), format!("{minutes:.1} min"))
}
