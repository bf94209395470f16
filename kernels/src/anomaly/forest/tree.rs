//! One random cut tree, flat: nodes, boxes, leaves and points are columns, and all that leads from one to the other is numbers.

use super::random::Random;
use super::sampler::Sampler;

/// Bit of a number that is a leaf's.
pub(crate) const LEAF: u16 = 0x8000;

/// No node: what the root has for a parent, and an empty tree for a root.
pub(crate) const NONE: u16 = u16::MAX;

/// A cut with what lies on its two sides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Node {
    pub cut: f32,
    /// Sum of the sides of its box.
    pub range: f32,
    pub dim: u16,
    pub parent: u16,
    /// At most `cut`, and above.
    pub children: [u16; 2],
}

/// A point with how many of the sample are equal to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub parent: u16,
    pub mass: u16,
}

/// A tree over the sample that it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub nodes: Vec<Node>,
    /// By node the least corner of its box, then the greatest, each of `stride` lanes.
    pub boxes: Vec<f32>,
    pub leaves: Vec<Leaf>,
    /// By leaf its point, of `stride` lanes.
    pub points: Vec<f32>,
    free_nodes: Vec<u16>,
    free_leaves: Vec<u16>,
    pub root: u16,
    pub sampler: Sampler,
}

/// How far a point lies outside a box, summed over the sides. Lanes are summed first, then folded, so that it is the same everywhere.
#[inline(always)]
pub(crate) fn excess<const W: usize>(point: &[f32], low: &[f32], high: &[f32]) -> f32 {
    let mut sums = [0.0; W];
    let ((point, _), (low, _), (high, _)) = (point.as_chunks::<W>(), low.as_chunks::<W>(), high.as_chunks::<W>());
    for ((point, low), high) in point.iter().zip(low).zip(high) {
        for lane in 0..W {
            sums[lane] += outside(point[lane], low[lane], high[lane]);
        }
    }
    fold(sums)
}

/// How far a value lies outside an interval.
#[inline(always)]
pub(crate) fn outside(value: f32, low: f32, high: f32) -> f32 {
    most(most(value - high, low - value), 0.0)
}

/// Sum of the sides of a box.
#[inline(always)]
pub(crate) fn range<const W: usize>(low: &[f32], high: &[f32]) -> f32 {
    let mut sums = [0.0; W];
    for (low, high) in low.as_chunks::<W>().0.iter().zip(high.as_chunks::<W>().0) {
        for lane in 0..W {
            sums[lane] += high[lane] - low[lane];
        }
    }
    fold(sums)
}

#[inline(always)]
fn fold<const W: usize>(mut sums: [f32; W]) -> f32 {
    let mut width = W;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

/// Maximum of two numbers in one instruction: what `f32::max` does for NaN is not needed.
#[inline(always)]
fn most(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

impl Tree {
    /// A tree without points.
    pub fn new(random: Random) -> Tree {
        Tree {
            nodes: Vec::new(),
            boxes: Vec::new(),
            leaves: Vec::new(),
            points: Vec::new(),
            free_nodes: Vec::new(),
            free_leaves: Vec::new(),
            root: NONE,
            sampler: Sampler::new(random),
        }
    }

    /// Points of the sample.
    pub fn mass(&self) -> usize {
        self.sampler.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + (self.boxes.capacity() + self.points.capacity()) * size_of::<f32>()
            + self.leaves.capacity() * size_of::<Leaf>()
            + (self.free_nodes.capacity() + self.free_leaves.capacity()) * size_of::<u16>()
            + self.sampler.bytes()
    }

    /// The point of a leaf.
    #[inline(always)]
    pub fn point(&self, leaf: u16, stride: usize) -> &[f32] {
        &self.points[usize::from(leaf & !LEAF) * stride..][..stride]
    }

    /// Least and greatest corner of a node's box.
    #[inline(always)]
    pub fn node_box(&self, node: u16, stride: usize) -> (&[f32], &[f32]) {
        self.boxes[usize::from(node) * 2 * stride..][..2 * stride].split_at(stride)
    }

    /// Least and greatest corner of what is below a node or leaf.
    #[inline(always)]
    pub fn corners(&self, at: u16, stride: usize) -> (&[f32], &[f32]) {
        match at & LEAF {
            0 => self.node_box(at, stride),
            _ => (self.point(at, stride), self.point(at, stride)),
        }
    }

    /// The node above a node or leaf.
    #[inline(always)]
    pub fn parent(&self, at: u16) -> u16 {
        match at & LEAF {
            0 => self.nodes[usize::from(at)].parent,
            _ => self.leaves[usize::from(at & !LEAF)].parent,
        }
    }

    fn set_parent(&mut self, at: u16, parent: u16) {
        match at & LEAF {
            0 => self.nodes[usize::from(at)].parent = parent,
            _ => self.leaves[usize::from(at & !LEAF)].parent = parent,
        }
    }

    /// Puts `new` in the place that `old` has below `parent`.
    fn replace(&mut self, parent: u16, old: u16, new: u16) {
        self.set_parent(new, parent);
        match parent {
            NONE => self.root = new,
            _ => {
                let children = &mut self.nodes[usize::from(parent)].children;
                children[usize::from(children[1] == old)] = new;
            }
        }
    }

    /// A leaf for a point, not yet in its place.
    pub fn new_leaf(&mut self, point: &[f32], mass: u16) -> u16 {
        let leaf = Leaf { parent: NONE, mass };
        match self.free_leaves.pop() {
            Some(at) => {
                self.leaves[usize::from(at & !LEAF)] = leaf;
                self.points[usize::from(at & !LEAF) * point.len()..][..point.len()].copy_from_slice(point);
                at
            }
            None => {
                self.leaves.push(leaf);
                self.points.extend_from_slice(point);
                LEAF | (self.leaves.len() - 1) as u16
            }
        }
    }

    /// A node with two children, whose box follows from theirs, not yet in its place.
    #[inline(always)]
    pub fn new_node<const W: usize>(&mut self, dim: u16, cut: f32, children: [u16; 2], stride: usize) -> u16 {
        let node = Node { cut, range: 0.0, dim, parent: NONE, children };
        let at = match self.free_nodes.pop() {
            Some(at) => {
                self.nodes[usize::from(at)] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.boxes.resize(self.nodes.len() * 2 * stride, 0.0);
                (self.nodes.len() - 1) as u16
            }
        };
        children.iter().for_each(|&child| self.set_parent(child, at));
        self.join::<W>(at, stride);
        at
    }

    /// Makes a node's box that of its two children; whether it was another.
    #[inline(always)]
    fn join<const W: usize>(&mut self, at: u16, stride: usize) -> bool {
        let [a, b] = self.nodes[usize::from(at)].children;
        let mut changed = false;
        for lane in (0..stride).step_by(W) {
            let lanes = |of: &[f32]| -> [f32; W] { std::array::from_fn(|i| of[lane..lane + W][i]) };
            let ((low_a, high_a), (low_b, high_b)) = (self.corners(a, stride), self.corners(b, stride));
            let (low_a, high_a, low_b, high_b) = (lanes(low_a), lanes(high_a), lanes(low_b), lanes(high_b));
            let from = usize::from(at) * 2 * stride + lane;
            let (low, high) = self.boxes[from..from + stride + W].split_at_mut(stride);
            for i in 0..W {
                let (new_low, new_high) = (least(low_a[i], low_b[i]), most(high_a[i], high_b[i]));
                changed |= new_low != low[i] || new_high != high[i];
                (low[i], high[i]) = (new_low, new_high);
            }
        }
        let (low, high) = self.node_box(at, stride);
        self.nodes[usize::from(at)].range = range::<W>(low, high);
        changed
    }

    /// Makes a node's box contain a point; whether it did not.
    #[inline(always)]
    fn widen<const W: usize>(&mut self, at: u16, point: &[f32]) -> bool {
        let stride = point.len();
        let (low, high) = self.boxes[usize::from(at) * 2 * stride..][..2 * stride].split_at_mut(stride);
        let mut changed = false;
        let chunks = point.as_chunks::<W>().0.iter().zip(low.as_chunks_mut::<W>().0).zip(high.as_chunks_mut::<W>().0);
        for ((point, low), high) in chunks {
            for lane in 0..W {
                changed |= point[lane] < low[lane] || point[lane] > high[lane];
                low[lane] = least(low[lane], point[lane]);
                high[lane] = most(high[lane], point[lane]);
            }
        }
        if changed {
            self.nodes[usize::from(at)].range = range::<W>(low, high);
        }
        changed
    }

    /// The leaf that the cuts lead a point to, and how deep it lies. The tree is not empty.
    #[inline(always)]
    pub fn descend(&self, point: &[f32]) -> (u16, u32) {
        let (mut at, mut depth) = (self.root, 0);
        while at & LEAF == 0 {
            let node = &self.nodes[usize::from(at)];
            at = node.children[usize::from(point[usize::from(node.dim)] > node.cut)];
            depth += 1;
        }
        (at, depth)
    }

    /// Takes in a point: the leaf that it is now one of.
    ///
    /// A node's box with the point is cut anew where the point lies outside: at random, so that each place of all sides together is as
    /// likely. If that cut parts the point from the box, it is a cut of the tree with the point, above the node; the topmost of them
    /// is the one there is. So it is enough to look at the nodes whose box the point lies outside, from the leaf up.
    #[inline(always)]
    pub fn insert<const W: usize>(&mut self, point: &[f32]) -> u16 {
        let stride = point.len();
        if self.root == NONE {
            let leaf = self.new_leaf(point, 1);
            self.replace(NONE, NONE, leaf);
            return leaf;
        }
        let (leaf, _) = self.descend(point);
        if self.point(leaf, stride) == point {
            self.leaves[usize::from(leaf & !LEAF)].mass += 1;
            return leaf;
        }
        let (mut place, mut cut, mut at, mut random) = (leaf, (0, 0.0), leaf, self.sampler.random);
        loop {
            let (low, high) = self.corners(at, stride);
            let beyond = excess::<W>(point, low, high);
            if beyond == 0.0 {
                break;
            }
            let range = if at & LEAF == 0 { self.nodes[usize::from(at)].range } else { 0.0 };
            let drawn = random.unit() * (f64::from(beyond) + f64::from(range));
            if drawn < f64::from(beyond) {
                (place, cut) = (at, separation(point, low, high, drawn));
            }
            at = self.parent(at);
            if at == NONE {
                break;
            }
        }
        self.sampler.random = random;
        let parent = self.parent(place);
        let new = self.new_leaf(point, 1);
        let children = if point[usize::from(cut.0)] > cut.1 { [place, new] } else { [new, place] };
        let node = self.new_node::<W>(cut.0, cut.1, children, stride);
        self.replace(parent, place, node);
        let mut above = parent;
        while above != NONE && self.widen::<W>(above, point) {
            above = self.parent(above);
        }
        new
    }

    /// Takes out one point of a leaf.
    #[inline(always)]
    pub fn delete<const W: usize>(&mut self, leaf: u16, stride: usize) {
        let Leaf { parent, mass } = &mut self.leaves[usize::from(leaf & !LEAF)];
        *mass -= 1;
        if *mass > 0 {
            return;
        }
        self.free_leaves.push(leaf);
        let parent = *parent;
        if parent == NONE {
            self.root = NONE;
            return;
        }
        let Node { children, parent: above, .. } = self.nodes[usize::from(parent)];
        self.free_nodes.push(parent);
        self.replace(above, parent, children[usize::from(children[0] == leaf)]);
        let mut above = above;
        while above != NONE && self.join::<W>(above, stride) {
            above = self.parent(above);
        }
    }
}

/// The cut at `drawn` of the way that a point lies outside a box: the dimension, and a value that parts them.
pub(crate) fn separation(point: &[f32], low: &[f32], high: &[f32], drawn: f64) -> (u16, f32) {
    let (mut left, mut found) = (drawn, (0, 0.0));
    for (dim, ((&x, &low), &high)) in point.iter().zip(low).zip(high).enumerate() {
        let beyond = f64::from(outside(x, low, high));
        if beyond == 0.0 {
            continue;
        }
        // The sum of the sides may be rounded up: then the last of them is taken at its end.
        let (from, to) = if x < low { (x, low) } else { (high, x) };
        let cut = (f64::from(from) + left.min(beyond)) as f32;
        found = (dim as u16, if cut < to { cut } else { to.next_down() });
        if left < beyond {
            break;
        }
        left -= beyond;
    }
    found
}
