//! Rows of different cells, a register of them at a time.
//!
//! The four words of a cell after its count are a row of a matrix that is loaded at once, transposed into registers by
//! field, worked on like any column, transposed back and stored at once. That costs fewer instructions per row than the
//! fields one by one, and one store instead of three: it is stores that wait when cells are not in the first-level cache.

use core::mem::offset_of;

use super::aggregate::{BLOCK, Element};
use super::vector::{MAX_LANES, Vector, Words};
use crate::cell::Cell;

/// The words of a cell that follow its count.
const FIELDS: usize = offset_of!(Cell, sum);

const _: () = {
    assert!(offset_of!(Cell, min) == FIELDS + 16 && offset_of!(Cell, max) == FIELDS + 24);
    assert!(size_of::<Cell>() == FIELDS + size_of::<Words>());
};

/// The cells of the first `LANES` slots. The other pointers are to no cell.
#[inline(always)]
pub(super) fn at<V: Vector>(cells: *mut Cell, slots: &[u32]) -> [*mut Cell; MAX_LANES] {
    let slots = &slots[..V::LANES];
    std::array::from_fn(|lane| cells.wrapping_add(slots.get(lane).map_or(0, |&slot| slot as usize)))
}

/// Takes the first `LANES` values into as many cells that differ from each other.
///
/// # Safety
/// The first `LANES` pointers are to cells that may be written, and no two of them are the same.
#[inline(always)]
pub(super) unsafe fn take<V: Vector, E: Element, const SUM: bool, const ORDER: bool>(v: V, cells: &[*mut Cell; MAX_LANES], values: &[E]) {
    for &cell in &cells[..V::LANES] {
        // SAFETY: the caller's promise.
        unsafe { (*cell).count += 1 };
    }
    if !SUM && !ORDER {
        return;
    }
    let fields = cells.map(|cell| cell.wrapping_byte_add(FIELDS).cast::<Words>());
    // SAFETY: the caller's promise, and these words are the rest of each cell.
    let [low, high, min, max] = unsafe { v.load_words(&fields) };
    let values = E::load(v, values);
    let [low, high] = if SUM { E::add_lanes(v, [low, high], values) } else { [low, high] };
    let [min, max] = if ORDER {
        let keys = E::keys(v, values);
        [v.min(min, keys), v.max(max, keys)]
    } else {
        [min, max]
    };
    // SAFETY: as above. No cell is stored twice, so none loses what another lane put in.
    unsafe { v.store_words(&fields, [low, high, min, max]) };
}

/// [`crate::cell::two_sum`], lane by lane.
#[inline(always)]
pub(super) fn two_sum<V: Vector>(v: V, a: V::F, b: V::F) -> (V::F, V::F) {
    let sum = v.add(a, b);
    let b_seen = v.sub(sum, a);
    (sum, v.add(v.sub(a, v.sub(sum, b_seen)), v.sub(b, b_seen)))
}

/// Notes which registers of the slots of a block have none twice; whether more than one in `share` has.
#[inline(always)]
pub(super) fn crowded<V: Vector>(v: V, slots: &[u32], share: usize, apart: &mut [bool; BLOCK / 2]) -> bool {
    let registers = slots.chunks_exact(V::LANES);
    let all = registers.len();
    let mut count = 0;
    for (slots, apart) in registers.zip(apart) {
        *apart = v.distinct(slots);
        count += usize::from(*apart);
    }
    (all - count) * share > all
}

/// Takes rows into any cells, one after the other.
///
/// # Safety
/// The slots are of cells that may be written.
#[inline(always)]
pub(super) unsafe fn one_by_one<V: Vector, E: Element, const SUM: bool, const ORDER: bool>(
    v: V,
    cells: *mut Cell,
    slots: &[u32],
    values: &[E],
) {
    for (&slot, &value) in slots.iter().zip(values) {
        // SAFETY: the caller's promise.
        let cell = unsafe { &mut *cells.add(slot as usize) };
        cell.count += 1;
        if SUM {
            E::add(cell, value);
        }
        if ORDER {
            v.widen(cell, value.key());
        }
    }
}
