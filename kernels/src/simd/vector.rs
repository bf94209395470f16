//! The few vector operations that the kernels are written over, once for all instruction sets.

use crate::cell::Cell;

/// An instruction set in use: a token that exists only where the processor has it, so its operations are safe to call.
///
/// Lanes are 64 bits wide. Every method must be inlined into a function compiled for the instruction set, which
/// [`launch`](super::launch) sees to.
pub trait Vector: Copy {
    /// A register of floats.
    type F: Copy;
    /// A register of integers.
    type I: Copy;
    /// Lanes of a register, at most [`MAX_LANES`].
    const LANES: usize;

    /// The first `LANES` floats; panics if there are fewer.
    fn load_f(self, from: &[f64]) -> Self::F;
    /// The first `LANES` integers; panics if there are fewer.
    fn load_i(self, from: &[i64]) -> Self::I;
    /// Writes the lanes; panics if there is no room.
    fn store_f(self, to: &mut [f64], value: Self::F);
    /// Writes the lanes; panics if there is no room.
    fn store_i(self, to: &mut [i64], value: Self::I);
    /// One float in all lanes.
    fn splat_f(self, value: f64) -> Self::F;
    /// One integer in all lanes.
    fn splat_i(self, value: i64) -> Self::I;
    /// a + b.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// The key of [`crate::cell::order_key`], lane by lane.
    fn order_key(self, value: Self::F) -> Self::I;
    /// Signed minimum.
    fn min(self, a: Self::I, b: Self::I) -> Self::I;
    /// Signed maximum.
    fn max(self, a: Self::I, b: Self::I) -> Self::I;
    /// Takes one order key into the minimum and maximum of a cell, which lie side by side.
    fn widen(self, cell: &mut Cell, key: i64);
}

/// Upper bound of [`Vector::LANES`]: the size of buffers that lanes are folded in.
pub(crate) const MAX_LANES: usize = 8;
