//! Panes of keys whose windows end with one of their rows: what windows of rows and global windows have in common.
//!
//! Rows are accumulated once, into a pane of their key; windows that are complete combine panes, in the order in which they became so.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::results::{RESULT_ROWS, Results};
use super::saved::{LoadedGroups, SavedGroups};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::aggregate::{Accumulators, Aggregate, Placed, Spans, Values};
use crate::operator::compact::is_sparse;
use crate::operator::devices;
use crate::operator::expiry::Expiry;
use crate::operator::keys::{Keys, Slots};
use crate::state::{Saved, numbers};
use crate::time::Unit;
use crate::watermark::NONE;

/// Name of the table of panes in a snapshot, and of the columns of the earliest and latest event time of each.
const PANES: &str = "panes";
const EARLIEST: &str = "earliest";
const LATEST: &str = "latest";

/// Name of the table of keys in a snapshot, where keys are forgotten, and of the column of the event time of their latest row.
const SEEN: &str = "seen";

/// Earliest and latest event time of some rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub i64, pub i64);

/// That of no rows.
const NO_SPAN: Span = Span(i64::MAX, i64::MIN);

impl Span {
    fn join(self, other: Span) -> Span {
        Span(self.0.min(other.0), self.1.max(other.1))
    }
}

/// A window that is complete.
pub(super) struct Complete {
    pub key: u32,
    /// Oldest first.
    pub panes: Vec<u32>,
    /// How many of them no later window needs.
    pub gone: usize,
    /// Event time of the result.
    pub time: i64,
}

/// See the [module documentation](self).
pub(super) struct KeyedPanes {
    pub results: Results,
    pub keys: Keys,
    groups: Accumulators,
    /// By pane.
    spans: Vec<Span>,
    free: Vec<u32>,
    placed: Vec<Placed>,
    pub complete: Vec<Complete>,
    /// Panes to be freed with the next results: rows may be on their way into them.
    dropped: Vec<u32>,
    pub sequence: u64,
    /// When keys are forgotten, if they are.
    expiry: Option<Expiry>,
    max_state_bytes: usize,
}

impl KeyedPanes {
    /// `aggregates` for each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s. A key without rows for
    /// longer than `ttl` is forgotten, if there is one.
    ///
    /// # Errors
    /// As [`Results::new`]; [`Kind::Config`](crate::error::Kind::Config) if `ttl` is finer than the unit.
    pub fn new(
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        ttl: Option<Duration>,
        config: &Config,
    ) -> Result<KeyedPanes> {
        let results = Results::new(by, aggregates, schema, unit, config)?;
        let devices = devices::unused();
        Ok(KeyedPanes {
            keys: results.keys.dictionary(),
            groups: Accumulators::new(&results.aggregates),
            spans: Vec::new(),
            free: Vec::new(),
            placed: results.aggregates.columns.iter().map(|column| Placed::new(&devices, column)).collect(),
            complete: Vec::new(),
            dropped: Vec::new(),
            sequence: 0,
            expiry: ttl.map(|ttl| unit.count(ttl).map(Expiry::new)).transpose()?,
            max_state_bytes: config.max_state_bytes,
            results,
        })
    }

    /// Replaces `slots` by those of the keys of some rows.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there are too many keys.
    pub fn assign(&mut self, records: &RecordBatch, slots: &mut Vec<u32>) -> Result<()> {
        self.keys.assign(&self.results.keys.encode(records)?, slots)
    }

    /// Notes a row of a key at `time`, before which the watermark was `mark`. If the key was to be forgotten before that, returns when.
    #[inline]
    pub fn seen(&mut self, key: u32, time: i64, mark: i64) -> Option<i64> {
        self.expiry.as_mut()?.note(key, time, mark)
    }

    /// Takes out the keys that are to be forgotten when event time has reached `watermark`, each with the moment, in order of these.
    pub fn expired(&mut self, watermark: i64) -> Vec<(i64, u32)> {
        self.expiry.as_mut().map(|expiry| expiry.take(watermark)).unwrap_or_default()
    }

    /// An empty pane.
    pub fn begin(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.spans.push(NO_SPAN);
            (self.spans.len() - 1) as u32
        })
    }

    /// Notes that a pane gets a row at `time`.
    #[inline]
    pub fn note(&mut self, pane: u32, time: i64) {
        let span = &mut self.spans[pane as usize];
        *span = span.join(Span(time, time));
    }

    /// The span of several panes.
    pub fn span(&self, panes: &[u32]) -> Span {
        panes.iter().fold(NO_SPAN, |all, &pane| all.join(self.spans[pane as usize]))
    }

    /// Takes rows into their panes.
    ///
    /// # Errors
    /// If Arrow cannot convert a column, which would be a defect.
    pub fn accumulate(&mut self, panes: &[u32], values: &[Values]) -> Result<()> {
        self.groups.reserve(self.spans.len());
        self.groups.accumulate(panes, values, self.sequence, &mut self.placed)?;
        self.groups.settle(&mut self.placed);
        self.sequence += panes.len() as u64;
        Ok(())
    }

    /// Puts out the windows that are complete, and frees the panes that no other window needs.
    ///
    /// # Errors
    /// As [`Results::put_out`].
    pub fn put_out(&mut self, out: &mut Output) -> Result<()> {
        let complete = std::mem::take(&mut self.complete);
        for windows in complete.chunks(RESULT_ROWS) {
            let keys: Vec<u32> = windows.iter().map(|window| window.key).collect();
            let (starts, ends) = windows.iter().map(|window| self.span(&window.panes)).map(|Span(start, end)| (start, end)).unzip();
            let groups = self.combine(windows);
            let times = windows.iter().map(|window| window.time).collect();
            self.results.put_out_windows((&self.keys, &keys), &groups, Spans::new(starts, ends, self.results.unit), times, out)?;
        }
        let mut gone = std::mem::take(&mut self.dropped);
        gone.extend(complete.iter().flat_map(|window| &window.panes[..window.gone]));
        gone.iter().for_each(|&pane| self.spans[pane as usize] = NO_SPAN);
        self.groups.forget(&gone);
        self.free.append(&mut gone);
        Ok(())
    }

    /// The groups of windows, in their order.
    fn combine(&self, windows: &[Complete]) -> Accumulators {
        let most = windows.iter().map(|window| window.panes.len()).max().unwrap_or(0);
        let (mut total, mut part) = (self.groups.empty(), self.groups.empty());
        // A slot beyond all others stands for the panes that shorter windows have not.
        for place in 0..most {
            let slots: Vec<u32> = windows.iter().map(|window| window.panes.get(place).copied().unwrap_or(u32::MAX)).collect();
            match place {
                0 => total.gather(&self.groups, &slots),
                _ => {
                    part.gather(&self.groups, &slots);
                    total.combine(&part);
                }
            }
        }
        total
    }

    /// Makes one pane of several, which are in order.
    pub fn merge(&mut self, panes: &mut Vec<u32>) {
        let Some((&into, others)) = panes.split_first() else { return };
        self.spans[into as usize] = self.span(panes);
        others.iter().for_each(|&pane| self.groups.merge(into, pane));
        self.free.extend(panes.drain(1..).inspect(|&pane| self.spans[pane as usize] = NO_SPAN));
    }

    /// Frees panes with the next results.
    pub fn drop_panes(&mut self, panes: Vec<u32>) {
        self.dropped.extend(panes);
    }

    /// Gives back the memory of keys that are gone. If they were most, returns the slots of the others, which have moved together in this
    /// order. Nothing is complete or to be freed.
    ///
    /// # Errors
    /// If keys cannot be moved, which would be a defect.
    pub fn trim_keys(&mut self) -> Result<Option<Vec<u32>>> {
        let Some(expiry) = &mut self.expiry else { return Ok(None) };
        expiry.trim();
        if !self.keys.is_sparse() {
            return Ok(None);
        }
        let live = expiry.keys();
        expiry.keep(&live);
        self.keys = self.results.keys.compacted(&self.keys, &live)?;
        Ok(Some(live))
    }

    /// Gives back the memory of panes that are gone; `panes` are all others, which get new numbers if those were most.
    pub fn trim_panes<'a>(&mut self, panes: impl Iterator<Item = &'a mut u32>) {
        (self.complete, self.dropped) = (Vec::new(), Vec::new());
        if !is_sparse(self.spans.len() - self.free.len(), self.spans.len()) {
            return;
        }
        let mut kept = Vec::new();
        for pane in panes {
            kept.push(std::mem::replace(pane, kept.len() as u32));
        }
        self.spans = kept.iter().map(|&pane| self.spans[pane as usize]).collect();
        self.groups.keep(&kept);
        self.free = Vec::new();
    }

    /// Puts panes, each with its key, into a snapshot; `place` tells the other numbers of each row, by name.
    ///
    /// # Errors
    /// If the keys cannot be decoded, which would be a defect.
    pub fn save<const N: usize>(
        &mut self,
        names: [&'static str; N],
        panes: &[(u32, u32)],
        place: impl Fn(&str, usize) -> i64,
        saved: &mut Saved,
    ) -> Result<()> {
        let (keys, slots): (Vec<u32>, Vec<u32>) = panes.iter().copied().unzip();
        let place = |name: &str, row: usize| match (name, self.spans[slots[row] as usize]) {
            (EARLIEST, Span(earliest, _)) => earliest,
            (LATEST, Span(_, latest)) => latest,
            _ => place(name, row),
        };
        let names: Vec<&'static str> = names.into_iter().chain([EARLIEST, LATEST]).collect();
        let mut groups = SavedGroups::new(&names);
        groups.add(place, &mut self.results, (&self.keys, &Slots::List(&keys)), (&self.groups, &Slots::List(&slots)))?;
        groups.put(PANES, saved)?;
        self.save_seen(saved)
    }

    /// Takes up the panes of a snapshot: pane `r` is that of row `r`. Returns the key of each, and the other numbers by column.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not a table of such panes.
    pub fn load<const N: usize>(&mut self, names: [&str; N], saved: &Saved) -> Result<(Vec<u32>, [Vec<i64>; N])> {
        let mut keys = Vec::new();
        let mut numbers = [const { Vec::new() }; N];
        let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? else {
            self.load_seen(saved)?;
            return Ok((keys, numbers));
        };
        let rows: Vec<u32> = (0..loaded.len() as u32).collect();
        self.keys.assign(&loaded.keys(&rows)?, &mut keys)?;
        for (name, numbers) in names.iter().zip(&mut numbers) {
            *numbers = loaded.numbers(name)?.to_vec();
        }
        let spans = loaded.numbers(EARLIEST)?.iter().zip(loaded.numbers(LATEST)?);
        self.spans = spans.map(|(&earliest, &latest)| Span(earliest, latest)).collect();
        self.groups = loaded.groups(&self.groups, &rows)?;
        self.load_seen(saved)?;
        Ok((keys, numbers))
    }

    /// Puts into a snapshot when each key that is not forgotten had its latest row, be it without panes.
    fn save_seen(&mut self, saved: &mut Saved) -> Result<()> {
        let Some(expiry) = &self.expiry else { return Ok(()) };
        let slots = expiry.keys();
        let (groups, keys) = self.results.keys.save(&self.keys, &Slots::List(&slots))?;
        let seen = numbers(SEEN, slots.iter().map(|&key| expiry.latest(key)).collect());
        saved.add(SEEN, groups, std::iter::once(seen).chain(keys).collect())
    }

    /// Takes that up.
    fn load_seen(&mut self, saved: &Saved) -> Result<()> {
        let (Some(expiry), Some(rows)) = (&mut self.expiry, saved.table(SEEN)) else { return Ok(()) };
        let mut slots = Vec::new();
        self.keys.assign(&self.results.keys.load(&rows, SEEN)?, &mut slots)?;
        slots.iter().zip(rows.numbers(SEEN)?.values()).for_each(|(&key, &time)| {
            expiry.note(key, time, NONE);
        });
        Ok(())
    }

    /// Checks the bound of what is held, `beside` being the bytes of what is not in here.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is exceeded.
    pub fn check(&self, what: &str, beside: usize) -> Result<()> {
        match self.bytes() + beside {
            bytes if bytes > self.max_state_bytes => Err(Error::state(format!(
                "{what} hold {} keys in {bytes} bytes, over their bound of {} bytes; a key is kept until the end of the input unless it has a \
                 `ttl`: give one, use a coarser key or windows of time, or raise `max_state_bytes`",
                self.keys.slots(),
                self.max_state_bytes
            ))),
            _ => Ok(()),
        }
    }

    /// Bytes held, those of the lists that hold the panes of each key included.
    pub fn bytes(&self) -> usize {
        let placed: usize = self.placed.iter().map(Placed::bytes).sum();
        // Each pane is in one list.
        let lists = (self.spans.len() + self.free.capacity()) * size_of::<u32>();
        let slots = self.spans.capacity() * size_of::<Span>() + lists + self.expiry.as_ref().map_or(0, Expiry::bytes);
        self.keys.bytes() + self.groups.bytes() + slots + placed
    }
}
