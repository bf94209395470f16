//! Twin of [`crate::anomaly::discord`] on the device: every row's stretch against every earlier one in reach, value by value.

use super::passes::{Detector, MOST_WORK, Pass, Passes};
use super::rows_of_keys;
use crate::aggregate::check_lengths;
use crate::anomaly::discord::{DiscordSeries, Due, LeftDiscord, MOST, score_of};
use crate::gpu::Engine;
use crate::gpu::error::{Error, Fault};
use crate::{Backend, Bits, scalar};

/// The farthest that the mean of a stretch may lie from the centre of its history, in deviations of the stretch, for the device to be exact
/// enough: what rounding makes of its values is that much more.
const FAR: f64 = 64.0;

/// The farthest, in floors, that a value may lie from there: squares of what is left of them stay within 32-bit floats.
const OUT_OF_RANGE: f64 = 1e15;

/// Bytes of a value with its stretch's scale, and of a row.
const VALUE_BYTES: usize = 12;
const ROW_BYTES: usize = 12;

impl Engine {
    /// Twin of [`crate::left_discord`]: scores each row and takes it into its key's series.
    ///
    /// Opt-in, as it is wider than what the backends of the processor keep to: a score is within 2e-5 of the exact one, for stretches of
    /// up to 16,384 values. Means and deviations of stretches are taken in 64-bit floats on the host, of values less the centre of their
    /// history and in floors, and the device adds up squares of differences of 32-bit floats, so that a large level or a small distance
    /// costs no digits. Rows that have a stretch in reach whose mean lies more than 64 of its deviations from the centre, as after a
    /// jump of the level, are scored on the host. Scores of a device are the same bits whatever the batches.
    ///
    /// Up go 24 bytes a row, and 12 for each value of the history once every [`REFRESH`](crate::anomaly::discord::REFRESH) rows of a key, and once a call: batches of many
    /// rows a key are what this is for. 4 bytes a row come back. A row costs `history` · `length` products.
    ///
    /// Series may have been another backend's; what vector code keeps beside them is dropped. [`Discord`] keeps series of its own and
    /// goes on without the device.
    ///
    /// # Panics
    /// As [`crate::left_discord`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the history of one row is more than an upload takes, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The series are then as they were; scores are of no meaning.
    pub fn left_discord(
        &self,
        series: &mut [DiscordSeries],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &LeftDiscord,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        params.check();
        check_lengths("slots and scores", slots.len(), scores.len());
        let slot = |row: u32| slots[row as usize] as usize;
        let rows = rows_of_keys(slots, &[values], validity, series.len());
        scores.fill(f64::NAN);
        let passes = Passes::new(&self.shared, Detector::Discord)?;
        let mut search = Search { passes, params, packed: Packed::default(), places: Vec::new() };
        let mut before = Vec::new();
        let mut keys = rows.chunk_by(|a, b| slot(*a) == slot(*b));
        let searched = keys.try_for_each(|rows| {
            let key = &mut series[slot(rows[0])];
            let copy = key.without_columns();
            before.push((slot(rows[0]), std::mem::replace(key, copy)));
            search.key(key, rows, values, scores)
        });
        searched.and_then(|()| search.finish(scores)).inspect_err(|_| {
            before.into_iter().for_each(|(slot, old)| series[slot] = old);
        })
    }
}

/// What goes up in one pass: pieces of series one after another, and rows that name their stretches in them.
#[derive(Debug, Default)]
struct Packed {
    values: Vec<f32>,
    /// By the value that a stretch begins with, its mean and what its deviations are multiplied by.
    scales: Vec<[f32; 2]>,
    /// Where a row's stretch begins, where the first of the others does, and how many others there are.
    rows: Vec<[u32; 3]>,
    work: u64,
}

/// The rows of a key between two refreshes, with all that is in their reach, in floors from the centre.
struct Segment {
    /// Where the first value of `values` stands in the series.
    from: usize,
    values: Vec<f32>,
    scales: Vec<[f32; 2]>,
    rows: usize,
}

/// One call: rows are packed, passes sent, and answers put into their places at the end.
struct Search<'a> {
    passes: Passes<'a>,
    params: &'a LeftDiscord,
    packed: Packed,
    /// The row of each answer; none where the host has scored it.
    places: Vec<Option<u32>>,
}

impl Search<'_> {
    /// Takes the rows of a key into its series.
    fn key(&mut self, series: &mut DiscordSeries, mut rows: &[u32], values: &[f64], scores: &mut [f64]) -> Result<(), Error> {
        let value = |row: u32| values[row as usize].clamp(-MOST, MOST);
        while let Some((&row, rest)) = rows.split_first() {
            rows = rest;
            if series.take(value(row), self.params) == Due::Nothing {
                continue;
            }
            // Up to the next refresh one scale serves all.
            let (more, later) = rest.split_at(rest.len().min(series.until_refresh(self.params)));
            rows = later;
            let first = series.values.len() - 1;
            let from = self.earliest(first) + 1 - self.params.stretch();
            let reach = series.values[from..].iter().copied().chain(more.iter().map(|row| value(*row)));
            let scaled: Vec<f64> = reach.map(|value| (value - series.centre) / series.floor).collect();
            let scales = scales(&scaled, self.params.stretch());
            let far = self.far(&scaled, &scales, from, 1 + more.len());
            for (number, &row) in std::iter::once(&row).chain(more).enumerate() {
                if number > 0 {
                    series.take(value(row), self.params);
                }
                if far[number] {
                    scores[row as usize] = scalar::anomaly::discord(series, self.params);
                }
            }
            if far.iter().all(|far| *far) {
                continue;
            }
            let rows = std::iter::once(&row).chain(more).zip(&far);
            self.places.extend(rows.map(|(row, far)| (!far).then_some(*row)));
            let values = scaled.iter().map(|value| *value as f32).collect();
            // None for the last ones, at which no stretch begins.
            let scales = scales.iter().map(|scale| scale.map(|part| part as f32)).chain([[0.0; 2]].into_iter().cycle());
            self.pack(&Segment { from, values, scales: scales.take(scaled.len()).collect(), rows: far.len() })?;
        }
        Ok(())
    }

    /// Of each row of a segment, whether something in its reach is too far off: which depends on the row alone, not on the batch.
    fn far(&self, values: &[f64], scales: &[[f64; 2]], from: usize, rows: usize) -> Vec<bool> {
        let (mut latest, mut far) = (None, Vec::with_capacity(rows));
        for (at, value) in values.iter().enumerate() {
            let stretch = (at + 1).checked_sub(self.params.stretch());
            let strays = |begin: &usize| (scales[*begin][0] * scales[*begin][1]).abs() > FAR;
            let out_of_range = (value.abs() > OUT_OF_RANGE).then_some(at);
            latest = latest.max(stretch.filter(strays)).max(out_of_range);
            if at + rows >= values.len() {
                let begin = self.earliest(from + at) + 1 - self.params.stretch() - from;
                far.push(latest.is_some_and(|latest| latest >= begin));
            }
        }
        far
    }

    /// Where the earliest stretch ends that one ending at `at` is compared with.
    fn earliest(&self, at: usize) -> usize {
        at.saturating_sub(self.params.farthest()).max(self.params.stretch() - 1)
    }

    /// Packs the rows of a segment, in as many passes as they need.
    fn pack(&mut self, segment: &Segment) -> Result<(), Error> {
        let length = self.params.stretch();
        let mut end = segment.values.len() - segment.rows;
        while end < segment.values.len() {
            let begin = self.earliest(segment.from + end) + 1 - length - segment.from;
            let room = self.room(end - begin + 1);
            if room == 0 && self.packed.rows.is_empty() {
                let message = format!("a history of {} values is more than an upload takes; raise `batch_rows`", self.params.history);
                return Err(Error::new(Fault::Limit, message));
            }
            if room == 0 {
                self.send()?;
                continue;
            }
            let until = (end + room).min(segment.values.len());
            let base = self.packed.values.len();
            self.packed.values.extend(&segment.values[begin..until]);
            self.packed.scales.extend(&segment.scales[begin..until]);
            for at in end..until {
                let first = self.earliest(segment.from + at) + 1 - length - segment.from;
                let own = at + 1 - length;
                let others = own + 1 - length - first;
                let place = |begin_of: usize| (base + begin_of - begin) as u32;
                self.packed.rows.push([place(own), place(first), others as u32]);
                self.packed.work += others as u64 * length as u64;
            }
            end = until;
        }
        Ok(())
    }

    /// How many rows of a segment there is room for in the pass that is being packed, if the first has `span` values in reach.
    fn room(&self, span: usize) -> usize {
        let Self { passes, packed, params, .. } = self;
        let (values, rows) = (packed.values.len() + span - 1, packed.rows.len());
        let bytes = passes.capacity().saturating_sub(values * VALUE_BYTES + rows * ROW_BYTES) / (VALUE_BYTES + ROW_BYTES);
        let scales = (passes.most_of_column() / size_of::<[f32; 2]>()).saturating_sub(values);
        let answers = passes.most_words().min(passes.most_of_column() / ROW_BYTES).saturating_sub(rows);
        let work = MOST_WORK.saturating_sub(packed.work) / (params.stretches() as u64 * params.stretch() as u64);
        let work = (work as usize).max(usize::from(packed.rows.is_empty()));
        bytes.min(scales).min(answers).min(work)
    }

    fn send(&mut self) -> Result<(), Error> {
        let Packed { values, scales, rows, work } = &mut self.packed;
        if rows.is_empty() {
            return Ok(());
        }
        let header = [rows.len() as u32, self.params.length, 0, 0, 0, 0, 0, 0];
        let columns = [bytemuck::cast_slice(values), bytemuck::cast_slice(scales), bytemuck::cast_slice(rows)];
        self.passes.send(&Pass { header, columns: &columns, resident: None, words: rows.len(), workgroups: rows.len() as u32 })?;
        values.clear();
        scales.clear();
        rows.clear();
        *work = 0;
        Ok(())
    }

    fn finish(mut self, scores: &mut [f64]) -> Result<(), Error> {
        self.send()?;
        let per = 1.0 / self.params.stretch() as f64;
        let answers = self.passes.finish::<f32>()?;
        let answered = self.places.iter().zip(answers).filter_map(|(row, sum)| row.map(|row| (row, sum)));
        answered.for_each(|(row, sum)| scores[row as usize] = score_of(f64::from(sum) * per));
        Ok(())
    }
}

/// By the value that a stretch begins with: its mean, and one by its deviation, which is at least a floor.
///
/// Each is made of its stretch alone, so that it is the same bits whatever the batch.
fn scales(values: &[f64], length: usize) -> Vec<[f64; 2]> {
    let per = 1.0 / length as f64;
    let of = |stretch: &[f64]| {
        let mean = sum(stretch, |value| value) * per;
        let deviation = (sum(stretch, |value| (value - mean) * (value - mean)) * per).sqrt();
        [mean, 1.0 / deviation.max(1.0)]
    };
    values.windows(length).map(of).collect()
}

/// Sum in lanes, which a processor adds side by side.
fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    chunks.iter().for_each(|chunk| lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += of(*value)));
    lanes.iter().sum::<f64>() + rest.iter().map(|value| of(*value)).sum::<f64>()
}

/// Left discord on the device that goes on, on the processor, when the device does not: see [`Engine::left_discord`] for its scores.
///
/// A call that the device fails is answered anew by the processor, and so is all that follows; the fault is told once.
#[derive(Debug)]
pub struct Discord {
    engine: Option<Engine>,
    params: LeftDiscord,
    series: Vec<DiscordSeries>,
    fault: Option<Error>,
}

impl Discord {
    /// Empty series of `groups` keys.
    ///
    /// # Panics
    /// If a parameter is out of range.
    pub fn new(engine: &Engine, groups: usize, params: LeftDiscord) -> Self {
        params.check();
        Self::with(engine, params, vec![DiscordSeries::default(); groups])
    }

    /// Series that came from elsewhere, by key.
    pub(crate) fn with(engine: &Engine, params: LeftDiscord, series: Vec<DiscordSeries>) -> Self {
        Self { engine: Some(engine.clone()), params, series, fault: None }
    }

    /// The series by key, to add some or to take one up that has what the active backend keeps.
    pub(crate) fn series_mut(&mut self) -> &mut Vec<DiscordSeries> {
        &mut self.series
    }

    /// More keys; fewer than there are change nothing.
    pub fn grow(&mut self, groups: usize) {
        self.series.resize(groups.max(self.series.len()), DiscordSeries::default());
    }

    /// Whether the next rows go to the device.
    pub fn on_device(&self) -> bool {
        self.engine.is_some()
    }

    /// Why rows went to the processor; given once.
    pub fn take_fault(&mut self) -> Option<Error> {
        self.fault.take()
    }

    /// The series by key.
    pub fn series(&self) -> &[DiscordSeries] {
        &self.series
    }

    /// Scores each row and takes it into its key's series.
    ///
    /// # Panics
    /// As [`crate::left_discord`].
    pub fn score(&mut self, slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, scores: &mut [f64]) {
        let Self { params, series, .. } = self;
        if let Some(engine) = &self.engine {
            let Err(error) = engine.left_discord(series, slots, values, validity, params, scores) else { return };
            self.fault.get_or_insert(error);
            self.engine = None;
            series.iter_mut().for_each(|series| series.make_columns(params));
        }
        Backend::active().left_discord(series, slots, values, validity, params, scores);
    }
}
