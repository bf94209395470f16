//! Smoothing is a chain of one multiplication and two additions per row of a key: what helps is to ask for levels ahead.

use super::aggregate::BLOCK;
use super::prefetch::{FAR, prefetch};
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::bits::Bits;
use crate::scalar;

pub(crate) fn smooth(
    level: Level,
    levels: &mut [f64],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
    alpha: f64,
    smoothed: &mut [f64],
) {
    launch(level, Smooth { levels, slots, values, validity, alpha, smoothed });
}

struct Smooth<'a> {
    levels: &'a mut [f64],
    slots: &'a [u32],
    values: &'a [f64],
    validity: Option<Bits<'a>>,
    alpha: f64,
    smoothed: &'a mut [f64],
}

impl Kernel for Smooth<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { levels, slots, values, validity, alpha, smoothed } = self;
        let far = size_of_val(levels) > FAR;
        let blocks = slots.chunks(BLOCK).zip(values.chunks(BLOCK)).zip(smoothed.chunks_mut(BLOCK));
        for (block, ((slots, values), smoothed)) in blocks.enumerate() {
            if far {
                slots.iter().for_each(|&slot| prefetch(levels, slot as usize));
            }
            let validity = validity.map(|bits| Bits { offset: bits.offset + block * BLOCK, len: slots.len(), ..bits });
            scalar::smooth::smooth(levels, slots, values, validity, alpha, smoothed);
        }
    }
}
