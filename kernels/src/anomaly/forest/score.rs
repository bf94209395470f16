//! The score of a point by one tree, and the parts that its dimensions have in it.

use super::tree::{LEAF, NONE, Tree, excess, outside};

/// A way to score points by one tree.
pub(crate) trait Scorer {
    /// Adds `factor` times the score of each point, of `stride` floats, to its place. The tree is not empty.
    fn score<const W: usize>(&self, tree: &Tree, points: &[f32], stride: usize, factor: f64, scores: &mut [f64]);
}

/// Score of a leaf at this depth, for a point that the tree does not have.
#[inline(always)]
pub(crate) fn unseen(depth: u32) -> f32 {
    1.0 / (depth + 1) as f32
}

/// Score of a leaf of `mass` points that are equal to the one that is scored, in a tree of `all`.
pub(crate) fn seen(depth: u32, mass: u16, all: usize) -> f32 {
    let mass = f64::from(mass);
    ((1.0 - mass / (2.0 * all as f64)) / (f64::from(depth) + (mass + 1.0).log2())) as f32
}

/// Score of a node, of its child's and of what it is if the point is parted there.
#[inline(always)]
pub(crate) fn blend(child: f32, outside: f32, sides: f32, unseen: f32) -> f32 {
    let per = 1.0 / (outside + sides);
    outside * per * unseen + sides * per * child
}

/// Adds `factor` times the parts of each dimension in the score: first those above the boxes, then those below.
#[inline(always)]
pub(super) fn share<const W: usize>(tree: &Tree, point: &[f32], factor: f64, parts: &mut [f64]) {
    let stride = point.len();
    let (leaf, mut depth) = tree.descend(point);
    let mut own = vec![0.0; parts.len()];
    let same = tree.point(leaf, stride);
    let mut at = tree.parent(leaf);
    if excess::<W>(point, same, same) == 0.0 {
        let score = f64::from(seen(depth, tree.leaves[usize::from(leaf & !LEAF)].mass, tree.mass()));
        match at {
            NONE => own.fill(score / parts.len() as f64),
            _ => {
                let children = tree.nodes[usize::from(at)].children;
                add(&mut own, point, tree.corners(children[usize::from(children[0] == leaf)], stride), score);
            }
        }
        at = NONE;
    } else {
        add(&mut own, point, (same, same), f64::from(unseen(depth)));
    }
    while at != NONE {
        depth -= 1;
        let corners = tree.node_box(at, stride);
        let beyond = f64::from(excess::<W>(point, corners.0, corners.1));
        if beyond == 0.0 {
            break;
        }
        let node = &tree.nodes[usize::from(at)];
        let p = beyond / (beyond + f64::from(node.range));
        own.iter_mut().for_each(|part| *part *= 1.0 - p);
        add(&mut own, point, corners, p * f64::from(unseen(depth)));
        at = node.parent;
    }
    parts.iter_mut().zip(own).for_each(|(part, own)| *part += factor * own);
}

/// Adds `score`, told apart by how far each dimension lies outside a box, which the point is not within.
fn add(parts: &mut [f64], point: &[f32], (low, high): (&[f32], &[f32]), score: f64) {
    let (above, below) = parts.split_at_mut(parts.len() / 2);
    let dimensions = || point.iter().zip(low).zip(high);
    let all: f64 = dimensions().map(|((&x, &low), &high)| f64::from(outside(x, low, high))).sum();
    for (((&x, &low), &high), (above, below)) in dimensions().zip(above.iter_mut().zip(below)) {
        let part = score * f64::from(outside(x, low, high)) / all;
        *(if x > high { above } else { below }) += part;
    }
}
