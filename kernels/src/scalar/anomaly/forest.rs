//! Twin of [`crate::anomaly::forest`]'s scores.

use crate::anomaly::forest::{LEAF, Scorer, Tree, blend, excess, range, seen, unseen};

/// Scores a point by the definition, from the root down, every box made anew from the points in it.
pub(crate) struct Recursive;

impl Scorer for Recursive {
    fn score<const W: usize>(&self, tree: &Tree, points: &[f32], stride: usize, factor: f64, scores: &mut [f64]) {
        for (point, score) in points.chunks(stride).zip(scores) {
            *score += factor * f64::from(below::<W>(tree, tree.root, point, 0));
        }
    }
}

/// S of a node or leaf.
fn below<const W: usize>(tree: &Tree, at: u16, point: &[f32], depth: u32) -> f32 {
    let (low, high) = corners(tree, at, point.len());
    let outside = excess::<W>(point, &low, &high);
    if at & LEAF != 0 {
        return if outside == 0.0 { seen(depth, tree.leaves[usize::from(at & !LEAF)].mass, tree.mass()) } else { unseen(depth) };
    }
    let node = &tree.nodes[usize::from(at)];
    let child = below::<W>(tree, node.children[usize::from(point[usize::from(node.dim)] > node.cut)], point, depth + 1);
    if outside == 0.0 { child } else { blend(child, outside, range::<W>(&low, &high), unseen(depth)) }
}

/// Least and greatest values of the points below.
fn corners(tree: &Tree, at: u16, stride: usize) -> (Vec<f32>, Vec<f32>) {
    if at & LEAF != 0 {
        return (tree.point(at, stride).to_vec(), tree.point(at, stride).to_vec());
    }
    let [(low_a, high_a), (low_b, high_b)] = tree.nodes[usize::from(at)].children.map(|child| corners(tree, child, stride));
    let pairs = |a: Vec<f32>, b: Vec<f32>, of: fn(f32, f32) -> f32| a.into_iter().zip(b).map(|(a, b)| of(a, b)).collect();
    (pairs(low_a, low_b, f32::min), pairs(high_a, high_b, f32::max))
}
