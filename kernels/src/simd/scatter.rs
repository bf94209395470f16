//! Rows into cells of any kind, scheduled as in [`super::aggregate`]: blocks, folded runs, private copies, prefetch.

use std::ops::Range;

use super::aggregate::{BLOCK, range};
use super::prefetch::{FAR, prefetch_all};
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::aggregate::beyond;
use crate::bits::Bits;

/// Rows between asking for a cell and using it: about the latency of the last-level cache over the time of a row, and of memory
/// where the table lies there.
const AHEAD: usize = 24;
const FAR_AHEAD: usize = 64;

/// Size from which a table is taken to lie in memory: several times a common second-level cache, in bytes.
const IN_MEMORY: usize = 4 << 20;

/// Up to so many groups, rows go to [`COPIES`] private copies in turn, so that a row need not wait for the one before it.
const FEW: usize = 8;
const COPIES: usize = 4;

/// Copies must be cleared and combined: worth it from this many rows per group.
const ROWS_PER_COPY: usize = 32;

/// The columns of a call, and how a row of them goes into a cell.
pub(crate) trait Rows: Copy {
    type Cell: Copy;

    /// The cell of no rows.
    const EMPTY: Self::Cell;

    /// How many rows there are.
    fn len(self) -> usize;

    /// Takes one row.
    ///
    /// # Safety
    /// `row` is below the number of rows.
    unsafe fn put(self, cell: &mut Self::Cell, row: usize);

    /// Takes many rows of one group.
    fn fold(self, cell: &mut Self::Cell, rows: Range<usize>);

    /// Takes the rows of another cell.
    fn combine(into: &mut Self::Cell, from: &Self::Cell);
}

/// Takes the valid rows into `cells[slots[row]]`.
pub(crate) fn scatter<R: Rows>(level: Level, cells: &mut [R::Cell], slots: &[u32], validity: Option<Bits<'_>>, rows: R) {
    debug_assert_eq!(slots.len(), rows.len());
    launch(level, Scatter { cells, slots: &slots[..rows.len()], validity, rows });
}

/// The cell of all valid rows.
pub(crate) fn fold<R: Rows>(level: Level, validity: Option<Bits<'_>>, rows: R) -> R::Cell {
    launch(level, Fold { validity, rows })
}

struct Fold<'a, R> {
    validity: Option<Bits<'a>>,
    rows: R,
}

impl<R: Rows> Kernel for Fold<'_, R> {
    type Output = R::Cell;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> R::Cell {
        let (mut cell, len) = (R::EMPTY, self.rows.len());
        let Some(bits) = self.validity else {
            self.rows.fold(&mut cell, 0..len);
            return cell;
        };
        let mut valid = Valid::default();
        for start in (0..len).step_by(BLOCK) {
            match valid.of(bits, start, BLOCK.min(len - start)) {
                None => self.rows.fold(&mut cell, start..len.min(start + BLOCK)),
                // SAFETY: valid rows are below the number of rows.
                Some(rows) => rows.iter().for_each(|&row| unsafe { self.rows.put(&mut cell, start + row as usize) }),
            }
        }
        cell
    }
}

/// Room for the numbers of the valid rows of a block, and for their slots.
struct Valid {
    rows: [u16; BLOCK],
    slots: [u32; BLOCK],
}

impl Default for Valid {
    #[inline(always)]
    fn default() -> Self {
        Self { rows: [0; BLOCK], slots: [0; BLOCK] }
    }
}

impl Valid {
    /// The valid rows of the `len` from `start` on, counted from there; `None` if all are.
    #[inline(always)]
    fn of(&mut self, bits: Bits<'_>, start: usize, len: usize) -> Option<&[u16]> {
        let words: [u64; BLOCK / 64] = std::array::from_fn(|word| bits.word(start + word * 64));
        if words.iter().map(|word| word.count_ones() as usize).sum::<usize>() == len {
            return None;
        }
        let mut kept = 0;
        for row in 0..len {
            // Written always, counted if valid: no branch to mispredict. `kept` is at most `row`, so it fits.
            self.rows[kept % BLOCK] = row as u16;
            kept += (words[row / 64] >> (row % 64) & 1) as usize;
        }
        Some(&self.rows[..kept])
    }

    /// The valid rows as [`Valid::of`] gives them, with their slots out of those of the block.
    #[inline(always)]
    fn with_slots(&mut self, bits: Bits<'_>, start: usize, slots: &[u32]) -> Option<(&[u16], &[u32])> {
        let kept = self.of(bits, start, slots.len())?.len();
        for (to, &row) in self.slots.iter_mut().zip(&self.rows[..kept]) {
            *to = slots[row as usize];
        }
        Some((&self.rows[..kept], &self.slots[..kept]))
    }
}

struct Scatter<'a, R: Rows> {
    cells: &'a mut [R::Cell],
    slots: &'a [u32],
    validity: Option<Bits<'a>>,
    rows: R,
}

impl<R: Rows> Kernel for Scatter<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { cells, slots, validity, rows } = self;
        let few = (2..=FEW).contains(&cells.len()) && slots.len() >= cells.len() * ROWS_PER_COPY;
        let mut copies = few.then_some([R::EMPTY; COPIES * FEW]);
        let mut valid = validity.map(|bits| (bits, Valid::default()));
        for (block, slots) in slots.chunks(BLOCK).enumerate() {
            let start = block * BLOCK;
            let kept = valid.as_mut().and_then(|(bits, valid)| valid.with_slots(*bits, start, slots));
            let slots = kept.map_or(slots, |(_, slots)| slots);
            if slots.is_empty() {
                continue;
            }
            let (low, high) = range(slots);
            if high as usize >= cells.len() {
                beyond(high, cells.len());
            }
            if low == high && kept.is_none() {
                rows.fold(&mut cells[low as usize], start..start + slots.len());
                continue;
            }
            // SAFETY: every slot of the block is at most `high`, which is below the number of cells, and where there are copies,
            // that is at most FEW; the rows of a block, valid or all, are below the number of rows.
            unsafe {
                match kept {
                    None => Block { rows, slots, number: |row| start + row }.run(cells, &mut copies),
                    Some((kept, _)) => Block { rows, slots, number: |row| start + kept[row] as usize }.run(cells, &mut copies),
                }
            }
        }
        for copy in copies.iter().flat_map(|copies| copies.chunks_exact(FEW)) {
            cells.iter_mut().zip(copy).for_each(|(cell, copy)| R::combine(cell, copy));
        }
    }
}

/// Slots of a block without nulls, and the number of the row that each is of.
struct Block<'a, R, N> {
    rows: R,
    slots: &'a [u32],
    number: N,
}

impl<R: Rows, N: Fn(usize) -> usize> Block<'_, R, N> {
    /// # Safety
    /// Every slot is below `cells.len()` and, where there are copies, below [`FEW`]; every number is below that of the rows.
    #[inline(always)]
    unsafe fn run(self, cells: &mut [R::Cell], copies: &mut Option<[R::Cell; COPIES * FEW]>) {
        let Self { rows, slots, number } = self;
        if let Some(copies) = copies {
            for (row, &slot) in slots.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { rows.put(copies.get_unchecked_mut(row % COPIES * FEW + slot as usize), number(row)) };
            }
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            match size_of_val(cells) {
                size if size > IN_MEMORY => Self { rows, slots, number }.run_asking::<true>(cells, FAR_AHEAD),
                size if size > FAR => Self { rows, slots, number }.run_asking::<false>(cells, AHEAD),
                _ => Self { rows, slots, number }.run_asking::<false>(cells, slots.len()),
            }
        }
    }

    /// Asks for cells so many rows ahead, in the second-level cache if `IS_FAR`.
    ///
    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn run_asking<const IS_FAR: bool>(self, cells: &mut [R::Cell], ahead: usize) {
        let Self { rows, slots, number } = self;
        let (first, later) = slots.split_at(ahead.min(slots.len()));
        if !later.is_empty() {
            first.iter().for_each(|&slot| prefetch_all::<_, IS_FAR>(cells, slot as usize));
        }
        for (row, (&slot, &next)) in slots.iter().zip(later).enumerate() {
            prefetch_all::<_, IS_FAR>(cells, next as usize);
            // SAFETY: the caller's promise.
            unsafe { rows.put(cells.get_unchecked_mut(slot as usize), number(row)) };
        }
        for (row, &slot) in slots.iter().enumerate().skip(later.len()) {
            // SAFETY: the caller's promise.
            unsafe { rows.put(cells.get_unchecked_mut(slot as usize), number(row)) };
        }
    }
}
