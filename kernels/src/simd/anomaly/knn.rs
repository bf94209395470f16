//! Rows of a history side by side, a block of them at a time: first their distances and the least of each lane, of which the k-th least is a bound
//! for the k-th nearest, then the few rows within it.

use crate::anomaly::knn::{Batch, LANES, MOST_SQUARE, Neighbour, Query, Search};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};

pub(crate) fn knn(level: Level, batch: Batch<'_>) {
    launch(level, Rows(batch));
}

struct Rows<'a>(Batch<'a>);

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        self.0.run(&mut Blocks::default());
    }
}

/// Squared distances by block.
#[derive(Default)]
struct Blocks(Vec<[f64; LANES]>);

impl Search for Blocks {
    #[inline(always)]
    fn nearest(&mut self, query: &Query<'_>, found: &mut Vec<Neighbour>) {
        let Query { blocks, known, row, inverses, k } = *query;
        let mut minima = [f64::INFINITY; LANES];
        self.0.clear();
        for block in blocks.chunks_exact(LANES * row.len()) {
            self.0.push(squares(block, row, inverses));
        }
        if let Some(last) = self.0.last_mut() {
            // Places that are not taken are no rows.
            last[(known - 1) % LANES + 1..].fill(f64::INFINITY);
        }
        for sums in &self.0 {
            minima = std::array::from_fn(|lane| min(sums[lane], minima[lane]));
        }
        let mut most = if k <= LANES { minima.select_nth_unstable_by(k - 1, f64::total_cmp).1.next_up() } else { f64::INFINITY };
        found.clear();
        for (number, sums) in self.0.iter().enumerate() {
            if least(sums) >= most {
                continue;
            }
            for (lane, &square) in sums.iter().enumerate() {
                if square < most {
                    put(found, Neighbour { square, place: (number * LANES + lane) as u32 }, k);
                    most = if found.len() == k { found[k - 1].square } else { most };
                }
            }
        }
    }
}

/// Squared distances of the rows of a block.
#[inline(always)]
fn squares(block: &[f64], row: &[f64], inverses: &[f64]) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for ((column, &x), &inverse) in block.as_chunks::<LANES>().0.iter().zip(row).zip(inverses) {
        for (sum, &other) in sums.iter_mut().zip(column) {
            let off = (x - other) * inverse;
            let square = off * off;
            *sum += if square < MOST_SQUARE { square } else { MOST_SQUARE };
        }
    }
    sums
}

/// The least of numbers, by halves, which are vectors.
#[inline(always)]
fn least(sums: &[f64; LANES]) -> f64 {
    let eights: [f64; 8] = std::array::from_fn(|lane| min(sums[lane], sums[lane + 8]));
    let fours: [f64; 4] = std::array::from_fn(|lane| min(eights[lane], eights[lane + 4]));
    min(min(fours[0], fours[2]), min(fours[1], fours[3]))
}

#[inline(always)]
fn min(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// Puts a neighbour behind those that are as near, and the farthest of more than `k` out.
#[inline(always)]
fn put(found: &mut Vec<Neighbour>, neighbour: Neighbour, k: usize) {
    if found.len() == k {
        found.pop();
    }
    let behind = found.iter().rposition(|other| other.square <= neighbour.square);
    found.insert(behind.map_or(0, |at| at + 1), neighbour);
}
