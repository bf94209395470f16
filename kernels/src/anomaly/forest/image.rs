//! A forest as bytes.

use super::sampler::Kept;
use super::tree::{LEAF, NONE, Tree};
use super::{Forest, Random, RandomCutForest, Sampler, width};

/// What a node begins with in the bytes, and a leaf.
const CUT: u8 = 0;
const POINT: u8 = 1;

impl Forest {
    /// All that is known of the key, little-endian: of each tree the cuts and points from the root down, the left side first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.count.to_le_bytes());
        self.base.iter().for_each(|value| out.extend(value.to_le_bytes()));
        out.extend((self.recent.len() as u32).to_le_bytes());
        self.recent.iter().for_each(|value| out.extend(value.to_le_bytes()));
        for tree in &self.trees {
            out.extend(tree.sampler.random.0.to_le_bytes());
            out.extend(tree.sampler.next.to_le_bytes());
            tree.write(&mut out);
        }
        out
    }

    /// The forest over `columns` columns that wrote these bytes, with the same parameters; `None` if there is none.
    pub fn from_bytes(bytes: &[u8], columns: usize, params: &RandomCutForest) -> Option<Forest> {
        let mut from = Bytes(bytes);
        let count = u64::from_le_bytes(from.next()?);
        if from.0.len() <= size_of::<u32>() {
            return (count == 0 && from.0 == [0; 4]).then(Forest::default);
        }
        let base = (0..columns).map(|_| from.next().map(f64::from_le_bytes)).collect::<Option<Vec<f64>>>()?;
        let rows_of_point = params.shingle_size as usize;
        let recent = from.length((rows_of_point - 1) * columns)?;
        let recent = (0..recent).map(|_| from.float()).collect::<Option<Vec<f32>>>()?;
        let is_whole = recent.len() % columns == 0 && (count == 0 || recent.len() == (rows_of_point - 1) * columns);
        let dimensions = columns * rows_of_point;
        let trees = (0..params.number_of_trees)
            .map(|_| {
                let (random, next) = (u64::from_le_bytes(from.next()?), u64::from_le_bytes(from.next()?));
                let mut reading = Reading::new(&mut from, dimensions, params);
                let root = if count == 0 { NONE } else { reading.any()? };
                let Reading { mut tree, kept, .. } = reading;
                tree.root = root;
                let is_full = kept.len() as u64 == count.min(params.sample_size.into());
                tree.sampler = Sampler::restored(Random(random), next, kept);
                (is_full && (count < u64::from(params.sample_size) || next >= count)).then_some(tree)
            })
            .collect::<Option<Vec<Tree>>>()?;
        let sound = is_whole && base.iter().all(|value| value.is_finite()) && from.0.is_empty();
        sound.then_some(Forest { count, base, dimensions, recent, trees })
    }
}

impl Tree {
    /// Writes the tree from the root down. Trees can be deep, so the way is kept apart from the program's own stack.
    fn write(&self, out: &mut Vec<u8>) {
        let mut weights: Vec<Vec<f64>> = vec![Vec::new(); self.leaves.len()];
        self.sampler.kept().iter().for_each(|kept| weights[usize::from(kept.leaf & !LEAF)].push(kept.weight));
        weights.iter_mut().for_each(|weights| weights.sort_by(f64::total_cmp));
        let stride = self.points.len() / self.leaves.len().max(1);
        let mut ahead = if self.root == NONE { Vec::new() } else { vec![self.root] };
        while let Some(at) = ahead.pop() {
            if at & LEAF == 0 {
                let node = &self.nodes[usize::from(at)];
                out.push(CUT);
                out.extend(node.dim.to_le_bytes());
                out.extend(node.cut.to_le_bytes());
                ahead.extend([node.children[1], node.children[0]]);
                continue;
            }
            let weights = &weights[usize::from(at & !LEAF)];
            out.push(POINT);
            out.extend((weights.len() as u32).to_le_bytes());
            weights.iter().for_each(|weight| out.extend(weight.to_le_bytes()));
            self.point(at, stride).iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
    }
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn float(&mut self) -> Option<f32> {
        self.next().map(f32::from_le_bytes).filter(|value| value.is_finite())
    }

    fn length(&mut self, most: usize) -> Option<usize> {
        self.next().map(|length| u32::from_le_bytes(length) as usize).filter(|length| *length <= most)
    }
}

/// A tree while it is read.
struct Reading<'a, 'b> {
    from: &'a mut Bytes<'b>,
    tree: Tree,
    kept: Vec<Kept>,
    dimensions: usize,
    size: usize,
}

/// A cut whose sides are still to be read.
struct Open {
    dim: u16,
    cut: f32,
    left: Option<u16>,
}

impl<'a, 'b> Reading<'a, 'b> {
    fn new(from: &'a mut Bytes<'b>, dimensions: usize, params: &RandomCutForest) -> Self {
        Reading { from, tree: Tree::new(Random(0)), kept: Vec::new(), dimensions, size: params.sample_size as usize }
    }

    /// A node or leaf with all below it.
    fn any(&mut self) -> Option<u16> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut done = match self.from.next::<1>()? {
                [CUT] if open.len() < self.size => {
                    let dim = u16::from_le_bytes(self.from.next()?);
                    let cut = self.from.float()?;
                    open.push(Open { dim, cut, left: None });
                    continue;
                }
                [POINT] => self.leaf()?,
                _ => return None,
            };
            // What is done is the left side of the innermost cut, or the right one, with which that is done too.
            loop {
                match open.pop() {
                    None => return Some(done),
                    Some(Open { left: None, dim, cut }) => {
                        open.push(Open { left: Some(done), dim, cut });
                        break;
                    }
                    Some(Open { left: Some(left), dim, cut }) => done = self.node(dim, cut, [left, done])?,
                }
            }
        }
    }

    fn leaf(&mut self) -> Option<u16> {
        let mass = self.from.length(self.size - self.kept.len()).filter(|mass| *mass > 0)?;
        let weights: Vec<f64> = (0..mass).map(|_| self.from.next().map(f64::from_le_bytes)).collect::<Option<_>>()?;
        let stride = self.dimensions.next_multiple_of(width(self.dimensions));
        let point: Vec<f32> = (0..stride).map(|_| self.from.float()).collect::<Option<_>>()?;
        let sound = weights.iter().all(|weight| weight.is_finite()) && point[self.dimensions..].iter().all(|value| *value == 0.0);
        let leaf = self.tree.new_leaf(&point, mass as u16);
        self.kept.extend(weights.into_iter().map(|weight| Kept { weight, leaf }));
        sound.then_some(leaf)
    }

    /// A cut over two sides, if it parts them.
    fn node(&mut self, dim: u16, cut: f32, children: [u16; 2]) -> Option<u16> {
        let stride = self.dimensions.next_multiple_of(width(self.dimensions));
        let at = usize::from(dim);
        let parts = at < self.dimensions
            && self.tree.corners(children[0], stride).1[at] <= cut
            && self.tree.corners(children[1], stride).0[at] > cut;
        let new = |tree: &mut Tree| match width(self.dimensions) {
            1 => tree.new_node::<1>(dim, cut, children, stride),
            2 => tree.new_node::<2>(dim, cut, children, stride),
            4 => tree.new_node::<4>(dim, cut, children, stride),
            _ => tree.new_node::<8>(dim, cut, children, stride),
        };
        parts.then(|| new(&mut self.tree))
    }
}
