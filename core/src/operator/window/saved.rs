//! Groups of windows in snapshots: which pane each is of, its key and its accumulators.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeBinaryArray};
use arrow::compute::concat;
use arrow::datatypes::FieldRef;

use super::results::Results;
use crate::error::Result;
use crate::operator::aggregate::Accumulators;
use crate::operator::keys::{KeyColumn, Keys, Slots};
use crate::state::{Column, Rows, Saved, bytes, numbers};

/// The table of panes that are open, and its columns: the pane, and the first window that counts the rows.
pub(super) const PANES: &str = "panes";
pub(super) const PANE: &str = "pane";
pub(super) const FROM: &str = "from";

/// In the column [`FROM`]: all windows of the pane count its rows.
pub(super) const WHOLE: i64 = i64::MIN;

/// The table of complete panes of the current window, and its columns: [`PANE`], and the last of the panes that a group is the aggregate
/// of. Where a worker has no such group of a pane, that of its next pane stands for it.
pub(super) const SLIDING: &str = "sliding";
pub(super) const UNTIL: &str = "until";

/// In the column [`UNTIL`]: the group is that of the pane alone, which is younger than those of which aggregates are kept.
pub(super) const ALONE: i64 = i64::MIN;

/// The last column before those of the keys.
const STATE: &str = "state";

/// How far windows have come: the watermark, the first window that is open, and rows so far.
pub(super) struct Progress {
    pub watermark: i64,
    pub next: i64,
    pub sequence: u64,
}

impl Progress {
    /// The marks of a snapshot.
    pub fn save(&self) -> Saved {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("next", self.next);
        saved.mark("sequence", self.sequence as i64);
        saved
    }

    /// What the marks say.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if one is missing.
    pub fn load(saved: &Saved) -> Result<Progress> {
        let [watermark, next, sequence] = ["watermark", "next", "sequence"].map(|name| saved.marked(name));
        Ok(Progress { watermark: watermark?, next: next?, sequence: sequence? as u64 })
    }
}

/// The groups of some panes, on their way into a table of a snapshot.
pub(super) struct SavedGroups {
    /// What tells panes apart, by column.
    places: Vec<(&'static str, Vec<i64>)>,
    groups: Vec<u8>,
    states: Vec<ArrayRef>,
    keys: Vec<Vec<Column>>,
}

impl SavedGroups {
    /// None yet; panes are told apart by numbers of these names.
    pub fn new(names: &[&'static str]) -> SavedGroups {
        let places = names.iter().map(|name| (*name, Vec::new())).collect();
        SavedGroups { places, groups: Vec::new(), states: Vec::new(), keys: Vec::new() }
    }

    /// Adds the groups in `slots`, whose keys are in `key_slots`; `place` tells the numbers of each, by name and row.
    ///
    /// # Errors
    /// If the keys cannot be decoded, which would be a defect.
    pub fn add(
        &mut self,
        place: impl Fn(&str, usize) -> i64,
        results: &mut Results,
        (keys, key_slots): (&Keys, &Slots<'_>),
        (groups, slots): (&Accumulators, &Slots<'_>),
    ) -> Result<()> {
        let (key_groups, columns) = results.keys.save(keys, key_slots)?;
        for (name, column) in &mut self.places {
            column.extend((0..key_groups.len()).map(|row| place(name, row)));
        }
        self.groups.extend(key_groups);
        self.states.push(Arc::new(groups.save(slots)?));
        self.keys.push(columns);
        Ok(())
    }

    /// Puts the table into a snapshot, unless it is empty.
    ///
    /// # Errors
    /// If the columns are too long to be put together.
    pub fn put(self, name: &str, saved: &mut Saved) -> Result<()> {
        let Some(first) = self.keys.first() else { return Ok(()) };
        let join = |arrays: Vec<&ArrayRef>| concat(&arrays.into_iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let states = join(self.states.iter().collect())?;
        let mut columns: Vec<Column> = self.places.into_iter().map(|(name, values)| numbers(name, values)).collect();
        columns.push(bytes(STATE, states));
        for (place, (field, _)) in first.iter().enumerate() {
            columns.push((FieldRef::clone(field), join(self.keys.iter().map(|keys| &keys[place].1).collect())?));
        }
        saved.add(name, self.groups, columns)
    }
}

/// The groups of a table of a snapshot.
pub(super) struct LoadedGroups<'a> {
    rows: Rows<'a>,
    keys: KeyColumn,
    states: &'a LargeBinaryArray,
}

impl<'a> LoadedGroups<'a> {
    /// The table of that name, if there is one.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if its columns are others than those of such groups.
    pub fn get(saved: &'a Saved, name: &str, results: &mut Results) -> Result<Option<LoadedGroups<'a>>> {
        let Some(rows) = saved.table(name) else { return Ok(None) };
        Ok(Some(LoadedGroups { rows, keys: results.keys.load(&rows, STATE)?, states: rows.bytes(STATE)? }))
    }

    /// The rows of each pane, by the numbers that tell panes apart.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if a column is missing.
    pub fn panes<const N: usize>(&self, names: [&str; N]) -> Result<BTreeMap<[i64; N], Vec<u32>>> {
        let columns = names.iter().map(|name| self.rows.numbers(name)).collect::<Result<Vec<_>>>()?;
        Ok(self.rows.grouped(|row| std::array::from_fn(|column| columns[column].value(row))))
    }

    /// The numbers of a column.
    ///
    /// # Errors
    /// As [`LoadedGroups::panes`].
    pub fn numbers(&self, name: &str) -> Result<&'a [i64]> {
        Ok(self.rows.numbers(name)?.values())
    }

    /// The keys of some rows.
    ///
    /// # Errors
    /// If Arrow cannot take them, which would be a defect.
    pub fn keys(&self, rows: &[u32]) -> Result<KeyColumn> {
        self.keys.take(&rows.to_vec().into())
    }

    /// The groups of some rows, in their order.
    ///
    /// # Errors
    /// As [`Accumulators::load`].
    pub fn groups(&self, empty: &Accumulators, rows: &[u32]) -> Result<Accumulators> {
        let mut groups = empty.empty();
        groups.load(self.states, rows)?;
        Ok(groups)
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}
