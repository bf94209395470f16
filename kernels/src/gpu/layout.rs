//! What the words of a group on the device are, as `shaders/aggregate.wgsl` lays them out, and how they become a cell.

use super::fixed::{Window, to_float};
use crate::{Cell, Want};

/// What a table aggregates; the number is the shader's `KIND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Rows = 0,
    Ints = 1,
    Floats = 2,
}

const SAW_INFINITY: u32 = 2;
const SAW_NEGATIVE_INFINITY: u32 = 4;

const COUNT_WORDS: u32 = 2;
const ORDER_WORDS: u32 = 4;
const MOST_LIMBS: usize = 67;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) kind: Kind,
    pub(super) sum: bool,
    pub(super) order: bool,
    pub(super) window: Window,
}

impl Layout {
    pub(super) fn new(kind: Kind, want: Want) -> Self {
        let window = match kind {
            Kind::Floats if want.sum => Window::START,
            Kind::Ints if want.sum => Window::INTS,
            _ => Window::NONE,
        };
        Self { kind, sum: want.sum, order: want.order, window }
    }

    pub(super) fn order_at(self) -> u32 {
        COUNT_WORDS
    }

    pub(super) fn sum_at(self) -> u32 {
        COUNT_WORDS + if self.order { ORDER_WORDS } else { 0 }
    }

    /// Words of a group.
    pub(super) fn stride(self) -> u32 {
        let specials = u32::from(self.sum && self.kind == Kind::Floats);
        self.sum_at() + specials + self.window.limbs
    }

    /// Bytes of a table; at least one word, since there is no binding of none.
    pub(super) fn bytes(self, groups: usize) -> u64 {
        (groups as u64).max(1) * u64::from(self.stride()) * 4
    }

    /// The cell of a group's words.
    pub(super) fn cell(self, words: &[u32]) -> Cell {
        let mut cell = Cell { count: wide(words[1], words[0]), ..Cell::EMPTY };
        if cell.count == 0 {
            return cell;
        }
        if self.order {
            let order = &words[self.order_at() as usize..];
            cell.max = signed(wide(order[0], order[2]));
            cell.min = signed(!wide(order[1], order[3]));
        }
        let sum = &words[self.sum_at() as usize..];
        match self.kind {
            Kind::Ints if self.sum => {
                let biased = u128::from(wide(sum[3], sum[2])) << 64 | u128::from(wide(sum[1], sum[0]));
                cell.add_int((biased as i128).wrapping_sub(i128::from(cell.count) << 63));
            }
            Kind::Floats if self.sum => {
                let (sum, compensation) = self.float_sum(sum);
                cell.sum = [sum.to_bits(), compensation.to_bits()];
            }
            _ => {}
        }
        cell
    }

    fn float_sum(self, words: &[u32]) -> (f64, f64) {
        match words[0] {
            0 => {
                let mut limbs = [0; MOST_LIMBS];
                let limbs = &mut limbs[..self.window.limbs as usize];
                limbs.copy_from_slice(&words[1..=limbs.len()]);
                to_float(limbs, self.window.base)
            }
            SAW_INFINITY => (f64::INFINITY, 0.0),
            SAW_NEGATIVE_INFINITY => (f64::NEG_INFINITY, 0.0),
            // A NaN among them, or infinities of both signs.
            _ => (f64::NAN, 0.0),
        }
    }
}

fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The signed number in the same place of its order as an unsigned key.
fn signed(key: u64) -> i64 {
    (key ^ 1 << 63) as i64
}
