//! What the engine has found out, drawn as a live table.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use thalweg::Error;

use crate::Result;
use crate::screen::Screen;

/// Seconds that are shown as a curve.
const CURVE: usize = 30;
/// Alerts that are shown.
const SHOWN: usize = 5;

/// The last second of one gauge, and the averages of those before it.
#[derive(Debug, Default)]
struct Gauge {
    name: String,
    average: f64,
    least: f64,
    most: f64,
    curve: VecDeque<f64>,
}

/// The state of the live table.
pub struct Watch {
    screen: Screen,
    gauges: Vec<Gauge>,
    latest: VecDeque<String>,
    alerts: u64,
    /// Alerts that no plain line has shown yet.
    unsaid: usize,
    /// Whether there is anything new to draw.
    fresh: bool,
}

/// The value, also after a thread has panicked with the lock held: a half-updated table still shows something.
pub fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// A table of these gauges.
    pub fn new(names: Vec<String>) -> Watch {
        let gauges = names.into_iter().map(|name| Gauge { name, ..Gauge::default() }).collect();
        Watch { screen: Screen::stdout(), gauges, latest: VecDeque::new(), alerts: 0, unsaid: 0, fresh: false }
    }

    /// How many alerts there were.
    pub fn alerts(&self) -> u64 {
        self.alerts
    }

    /// Takes in windows of a second.
    pub fn second(&mut self, batch: &RecordBatch) -> thalweg::Result<()> {
        let numbers = integers(batch, "gauge")?;
        let (average, least, most) = (floats(batch, "average")?, floats(batch, "least")?, floats(batch, "most")?);
        for (row, number) in numbers.into_iter().enumerate() {
            let Some(gauge) = self.gauges.get_mut(number as usize) else { continue };
            (gauge.average, gauge.least, gauge.most) = (average[row], least[row], most[row]);
            gauge.curve.push_back(average[row]);
            if gauge.curve.len() > CURVE {
                gauge.curve.pop_front();
            }
        }
        self.fresh = true;
        Ok(())
    }

    /// Takes in samples that are alerts.
    pub fn alert(&mut self, batch: &RecordBatch) -> thalweg::Result<()> {
        let (times, numbers) = (integers(batch, "ts")?, integers(batch, "gauge")?);
        let (values, scores) = (floats(batch, "value")?, floats(batch, "score")?);
        for (row, number) in numbers.into_iter().enumerate() {
            let Some(gauge) = self.gauges.get(number as usize) else { continue };
            let clock = times[row].rem_euclid(86_400_000) / 1_000;
            let (hours, minutes, seconds) = (clock / 3_600, clock / 60 % 60, clock % 60);
            // A gauge that has never moved has no spread: its first step is off by as much as a float can say.
            let score = scores[row].min(999.0);
            let (name, value) = (&gauge.name, values[row]);
            self.latest.push_back(format!(
                "{hours:02}:{minutes:02}:{seconds:02} UTC  {name} is {value:.1}, {score:.0} times its usual spread off"
            ));
            if self.latest.len() > SHOWN {
                self.latest.pop_front();
            }
            self.alerts += 1;
            self.unsaid += 1;
        }
        self.fresh = true;
        Ok(())
    }

    /// Draws what is new since the last time.
    pub fn draw(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.fresh) {
            return Ok(());
        }
        let width = self.gauges.iter().map(|gauge| gauge.name.len()).max().unwrap_or(0);
        let mut table = format!("{:width$}  {:>9} {:>9} {:>9}  the last {CURVE} seconds\n", "gauge", "average", "least", "most");
        let mut line = String::new();
        for Gauge { name, average, least, most, curve } in &self.gauges {
            table += &format!("{name:width$}  {average:9.1} {least:9.1} {most:9.1}  {}\n", sparkline(curve));
            line += &format!("{name} {average:.1}  ");
        }
        line += &format!("alerts {}", self.alerts);
        table += &format!("{} alerts\n", self.alerts);
        for alert in &self.latest {
            table += &format!("  {alert}\n");
        }
        for alert in self.latest.iter().rev().take(std::mem::take(&mut self.unsaid)).rev() {
            line += &format!("\n  {alert}");
        }
        Ok(self.screen.draw(&table, &line)?)
    }
}

/// A curve in eight heights from 0 to its greatest value.
fn sparkline(values: &VecDeque<f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: f64| if greatest > 0.0 { (value / greatest * 7.0).round() as usize } else { 0 };
    values.iter().map(|&value| BARS[bar(value).min(7)]).collect()
}

fn integers(batch: &RecordBatch, name: &str) -> thalweg::Result<Vec<i64>> {
    let column = compute::cast(column(batch, name)?, &DataType::Int64)?;
    Ok(column.as_primitive::<Int64Type>().values().to_vec())
}

fn floats(batch: &RecordBatch, name: &str) -> thalweg::Result<Vec<f64>> {
    let column = compute::cast(column(batch, name)?, &DataType::Float64)?;
    Ok(column.as_primitive::<Float64Type>().values().to_vec())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> thalweg::Result<&'a dyn Array> {
    batch.column_by_name(name).map(|column| &**column).ok_or_else(|| Error::schema(format!("the results have no column `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_reaches_from_nothing_to_its_greatest_value() {
        assert_eq!(sparkline(&VecDeque::from([0.0, 50.0, 100.0])), "▁▅█");
        assert_eq!(sparkline(&VecDeque::from([0.0, 0.0])), "▁▁");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }
}
