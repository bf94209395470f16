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
        for (lane, score) in scores.iter_mut().enumerate() {
            *score += factor * f64::from(self.rise::<W>(tree, points[lane], leaves[lane], depths[lane]));
        }
    }

    /// Score at the root of a point that the cuts lead to this leaf, as [`Recursive`](crate::scalar::anomaly::Recursive) has it. How far the
    /// point lies outside of a box does not depend on the boxes below, so that one point's way keeps the processor busy.
    #[inline(always)]
    fn rise<const W: usize>(&self, tree: &Tree, point: &[f32], leaf: u16, mut depth: u32) -> f32 {
        let same = tree.point(leaf, point.len());
        if excess::<W>(point, same, same) == 0.0 {
            return seen(depth, tree.leaves[usize::from(leaf & !LEAF)].mass, tree.mass());
        }
        let (mut score, mut at) = (self.unseen(depth), tree.parent(leaf));
        while at != NONE {
            let (low, high) = tree.node_box(at, point.len());
            let beyond = excess::<W>(point, low, high);
            // A box that has the point lies within all above it.
            if beyond == 0.0 {
                break;
            }
            depth -= 1;
            let node = &tree.nodes[usize::from(at)];
            score = blend(score, beyond, node.range, self.unseen(depth));
            at = node.parent;
        }
        score
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
