//! Several points go through a tree side by side, so that the processor need not wait for one step of one of them.

use crate::anomaly::forest::{Batch, Frozen, LEAF, NONE, Scorer, Tree, blend, excess, seen, unseen};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};

/// Most points side by side.
const ABREAST: usize = 8;

/// As many as are not worth the full number.
const FEW: usize = 2;

/// Depths whose [`unseen`] is looked up.
const KNOWN: usize = 64;

pub(crate) fn forest(level: Level, batch: Batch<'_>) {
    launch(level, Through(batch));
}

struct Through<'a>(Batch<'a>);

impl Kernel for Through<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        self.0.run(Abreast::new());
    }
}

/// Scores by a forest that takes nothing in.
pub(crate) fn frozen_forest(level: Level, frozen: Frozen<'_>) {
    launch(level, ThroughFrozen(frozen));
}

struct ThroughFrozen<'a>(Frozen<'a>);

impl Kernel for ThroughFrozen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        self.0.run(Abreast::new());
    }
}

struct Abreast {
    unseen: [f32; KNOWN],
}

impl Scorer for Abreast {
    #[inline(always)]
    fn score<const W: usize>(&self, tree: &Tree, points: &[f32], stride: usize, factor: f64, scores: &mut [f64]) {
        for (points, scores) in points.chunks(ABREAST * stride).zip(scores.chunks_mut(ABREAST)) {
            match (scores.len() <= FEW, stride == W) {
                // A stride that is known beforehand makes better code.
                (true, true) => self.side_by_side::<W, FEW>(tree, points, W, factor, scores),
                (true, false) => self.side_by_side::<W, FEW>(tree, points, stride, factor, scores),
                (false, true) => self.side_by_side::<W, ABREAST>(tree, points, W, factor, scores),
                (false, false) => self.side_by_side::<W, ABREAST>(tree, points, stride, factor, scores),
            }
        }
    }
}

impl Abreast {
    #[inline(always)]
    fn new() -> Self {
        Self { unseen: std::array::from_fn(|depth| unseen(depth as u32)) }
    }

    /// Scores up to `N` points; where there are fewer, the last one fills up.
    #[inline(always)]
    fn side_by_side<const W: usize, const N: usize>(&self, tree: &Tree, points: &[f32], stride: usize, factor: f64, scores: &mut [f64]) {
        let points: [&[f32]; N] = std::array::from_fn(|lane| &points[lane.min(scores.len() - 1) * stride..][..stride]);
        let (leaves, depths) = descend(tree, points);
        let own = self.rise::<W, N>(tree, points, stride, leaves, depths);
        scores.iter_mut().zip(own).for_each(|(score, own)| *score += factor * f64::from(own));
    }

    /// Scores at the root of points that the cuts lead to these leaves, as [`Recursive`](crate::scalar::anomaly::Recursive) has them.
    #[inline(always)]
    fn rise<const W: usize, const N: usize>(
        &self,
        tree: &Tree,
        points: [&[f32]; N],
        stride: usize,
        leaves: [u16; N],
        mut depths: [u32; N],
    ) -> [f32; N] {
        let (mut scores, mut at) = ([0.0; N], [NONE; N]);
        for lane in 0..N {
            let (leaf, same) = (tree.leaves[usize::from(leaves[lane] & !LEAF)], tree.point(leaves[lane], stride));
            if excess::<W>(points[lane], same, same) == 0.0 {
                scores[lane] = seen(depths[lane], leaf.mass, tree.mass());
            } else {
                scores[lane] = self.unseen(depths[lane]);
                at[lane] = leaf.parent;
            }
        }
        while at.iter().any(|at| *at != NONE) {
            let (mut outside, mut sides, mut unseen) = ([0.0; N], [0.0; N], [0.0; N]);
            for lane in 0..N {
                // One that has arrived looks at a node that there is, as some are still on their way, and stays.
                let on = at[lane] != NONE;
                let here = if on { usize::from(at[lane]) } else { 0 };
                depths[lane] -= u32::from(on);
                // SAFETY: parents are nodes of the tree; each has a box of `2 * stride` floats, least corner first: the stride is that of
                // all points of the forest, which it sees to.
                let (node, low, high) = unsafe {
                    let corner = |side: usize| tree.boxes.get_unchecked((2 * here + side) * stride..(2 * here + side + 1) * stride);
                    (tree.nodes.get_unchecked(here), corner(0), corner(1))
                };
                let beyond = excess::<W>(points[lane], low, high);
                (outside[lane], sides[lane], unseen[lane]) = (if on { beyond } else { 0.0 }, node.range, self.unseen(depths[lane]));
                // A box that has the point lies within all above it.
                at[lane] = if on & (beyond != 0.0) { node.parent } else { NONE };
            }
            for lane in 0..N {
                let next = blend(scores[lane], outside[lane], sides[lane], unseen[lane]);
                scores[lane] = if outside[lane] == 0.0 { scores[lane] } else { next };
            }
        }
        scores
    }

    #[inline(always)]
    fn unseen(&self, depth: u32) -> f32 {
        if depth < KNOWN as u32 { self.unseen[depth as usize] } else { unseen(depth) }
    }
}

/// The leaves that the cuts lead points to, and how deep they lie.
#[inline(always)]
fn descend<const N: usize>(tree: &Tree, points: [&[f32]; N]) -> ([u16; N], [u32; N]) {
    let (mut at, mut depths) = ([tree.root; N], [0; N]);
    while at.iter().any(|at| at & LEAF == 0) {
        for lane in 0..N {
            let here = at[lane];
            let on = here & LEAF == 0;
            // SAFETY: children are nodes or leaves of the tree, and a node's dimension is one of a point's. As some are still on their
            // way, there is a node 0.
            let next = unsafe {
                let node = tree.nodes.get_unchecked(if on { usize::from(here) } else { 0 });
                let right = *points[lane].get_unchecked(usize::from(node.dim)) > node.cut;
                *node.children.get_unchecked(usize::from(right))
            };
            at[lane] = if on { next } else { here };
            depths[lane] += u32::from(on);
        }
    }
    (at, depths)
}
