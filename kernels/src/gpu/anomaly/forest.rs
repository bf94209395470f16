//! Twin of the scores of [`crate::anomaly::forest`] on the device: trees that go there once, and points that go through them.

use std::sync::Arc;

use super::passes::{Detector, MOST_WORK, Pass, Passes};
use crate::anomaly::forest::{Ahead, LEAF, NONE, Points, Tree, seen};
use crate::gpu::device::Buffer;
use crate::gpu::error::{Error, Fault};
use crate::gpu::pipeline::THREADS;
use crate::gpu::{Engine, Shared};
use crate::{Backend, Forest, RandomCutForest};

/// Least magnitude, but for 0, of what a tree or a point has: differences of such numbers are 0 or no subnormal numbers, which
/// a device may take for 0.
const LEAST: f32 = 1.0 / (1_u128 << 102) as f32;

/// Levels of a tree that a point goes through both ways, about.
const LEVELS: u64 = 32;

/// Words that tell of a tree.
const HEADER: usize = 8;

/// A forest's trees on the device, as they were when they went there. [`FrozenForest`] goes on without the device.
#[derive(Debug)]
pub struct Trees {
    shared: Arc<Shared>,
    words: Buffer,
    count: u32,
    /// The forest without its trees.
    forest: Forest,
    params: RandomCutForest,
}

impl Engine {
    /// Brings the trees of one key's forest to the device, to score rows there. They stay as they are, whatever the forest learns:
    /// bring them again for that.
    ///
    /// Up go, once, 16 bytes and two corners a cut, 8 bytes and a point a leaf, 4 bytes a dimension: about 1.5 MiB for 50 trees of 256 points
    /// of eight dimensions.
    ///
    /// # Errors
    /// [`Fault::Limit`] if the trees fit no buffer or a value lies nearer to the key's first than 2⁻¹⁰² but is not equal to it,
    /// [`Fault::Memory`] if the device has no room for them, [`Fault::Lost`] if the device is gone.
    pub fn trees(&self, forest: &Forest, params: &RandomCutForest) -> Result<Trees, Error> {
        let shared = self.shared();
        let device = &shared.device;
        device.check()?;
        let (forest, trees) = forest.parts();
        let stride = forest.stride();
        let trees: Vec<&Tree> = trees.iter().filter(|tree| tree.mass() > 0).collect();
        let mut words = vec![0; trees.len() * HEADER];
        for (number, tree) in trees.iter().enumerate() {
            write(tree, stride, &mut words, number, params.factor(tree.mass()))?;
        }
        // A forest without trees binds something too.
        words.resize(words.len().max(HEADER), 0);
        let bytes = words.len() as u64 * 4;
        if bytes > device.max_binding || words.len() > u32::MAX as usize {
            let (name, most) = (&device.info.name, device.max_binding);
            return Err(Error::new(Fault::Limit, format!("the trees of a forest take {bytes} bytes, on {name} they may take {most}")));
        }
        let buffer = device.buffer("the trees of a forest", bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST)?;
        device.queue.write_buffer(&buffer.inner, 0, bytemuck::cast_slice(&words));
        device.check()?;
        let count = trees.len() as u32;
        Ok(Trees { shared, words: buffer, count, forest, params: *params })
    }
}

impl Trees {
    /// Twin of [`crate::forest_scores`]: scores rows, which follow the latest that the forest took.
    ///
    /// Opt-in, as it is wider than what the backends of the processor keep to, which are the same bits: for each level of a tree a score
    /// may be off by (12 + `dimensions` / 16) · 2⁻²⁴ of itself, some 2e-5 in trees of 30 levels. Which way a point goes through the trees
    /// is the same.
    ///
    /// Up go 4 bytes a dimension of a point, 4 bytes a row come back.
    ///
    /// # Panics
    /// As [`crate::forest_scores`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if a point is more than an upload takes, or a value lies nearer to the key's first than 2⁻¹⁰² but is not equal to
    /// it; [`Fault::Memory`] if there is no room for answers; [`Fault::Lost`] if the device is gone. Scores are then of no meaning.
    pub fn scores(&self, columns: &[&[f64]], scores: &mut [f64]) -> Result<(), Error> {
        let ahead = Ahead::new(&self.forest, columns, &self.params, scores.len());
        let mut passes = Passes::new(&self.shared, Detector::Forest)?;
        if let Some(points) = ahead.points.as_ref().filter(|points| points.count() > 0) {
            self.send(&mut passes, points)?;
        }
        ahead.place(passes.finish::<f32>()?.into_iter().map(f64::from), scores);
        Ok(())
    }

    fn send(&self, passes: &mut Passes<'_>, points: &Points) -> Result<(), Error> {
        points.values.iter().try_for_each(|value| check(*value))?;
        let stride = points.stride;
        let work = MOST_WORK / (u64::from(self.count.max(1)) * stride as u64 * LEVELS);
        let rows = passes.rows_of(stride, 0)?.min(work.max(1) as usize);
        let mut turned: Vec<f32> = Vec::new();
        for points in points.values.chunks(rows * stride) {
            let count = points.len() / stride;
            turned.clear();
            turned.extend((0..stride).flat_map(|dim| points.iter().skip(dim).step_by(stride)));
            let workgroups = (count as u32).div_ceil(THREADS);
            let header = [count as u32, stride as u32, self.count, 0, 0, 0, 0, 0];
            let columns: [&[u8]; 1] = [bytemuck::cast_slice(&turned)];
            passes.send(&Pass { header, columns: &columns, resident: Some(&self.words), words: count, workgroups })?;
        }
        Ok(())
    }
}

/// Refuses what a device may not be able to tell from 0.
fn check(value: f32) -> Result<(), Error> {
    if value != 0.0 && value.abs() < LEAST {
        let message =
            format!("a value lies {value:e} from the first of its key: scale the column up, devices have no room for such differences");
        return Err(Error::new(Fault::Limit, message));
    }
    Ok(())
}

/// Appends a tree's words, as `shaders/forest.wgsl` has them, and writes where they are.
fn write(tree: &Tree, stride: usize, words: &mut Vec<u32>, number: usize, factor: f64) -> Result<(), Error> {
    let both = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    let nodes = words.len();
    for node in &tree.nodes {
        let [left, right] = node.children;
        words.extend([node.cut.to_bits(), node.range.to_bits(), both(node.dim, node.parent), both(left, right)]);
    }
    let boxes = words.len();
    words.extend(tree.boxes.iter().map(|corner| corner.to_bits()));
    let leaves = words.len();
    words.resize(leaves + tree.leaves.len() * 2, 0);
    // From the root down, as a leaf's score follows from its depth. Leaves and nodes that are free are left out.
    let mut ahead = vec![(tree.root, 0)];
    while let Some((at, depth)) = ahead.pop() {
        let place = usize::from(at & !LEAF);
        if at & LEAF == 0 {
            ahead.extend(tree.nodes[place].children.map(|child| (child, depth + 1)));
            continue;
        }
        tree.point(at, stride).iter().try_for_each(|value| check(*value))?;
        let (leaf, own) = (tree.leaves[place], leaves + place * 2);
        words[own] = u32::from(leaf.parent);
        words[own + 1] = seen(depth, leaf.mass, tree.mass()).to_bits();
    }
    let points = words.len();
    words.extend(tree.points.iter().map(|value| value.to_bits()));
    let header = [nodes as u32, boxes as u32, leaves as u32, points as u32, u32::from(tree.root), (factor as f32).to_bits()];
    words[number * HEADER..][..header.len()].copy_from_slice(&header);
    Ok(())
}

const _: () = assert!(LEAF == 0x8000 && NONE == 0xffff, "the shader has these numbers too");

/// A forest that learns no more and scores rows on the device, or on the processor when the device does not: see [`Trees::scores`].
///
/// A call that the device fails is answered anew by the processor, and so is all that follows; the fault is told once.
#[derive(Debug)]
pub struct FrozenForest {
    forest: Forest,
    params: RandomCutForest,
    trees: Option<Trees>,
    fault: Option<Error>,
}

impl FrozenForest {
    /// Of one key's forest, with the parameters that it was made with: on the device if it has room for the trees, else on the processor,
    /// and then [`FrozenForest::take_fault`] says why.
    pub fn new(engine: &Engine, forest: Forest, params: RandomCutForest) -> Self {
        let (trees, fault) = match engine.trees(&forest, &params) {
            Ok(trees) => (Some(trees), None),
            Err(error) => (None, Some(error)),
        };
        Self { forest, params, trees, fault }
    }

    /// Whether the next rows go to the device.
    pub fn on_device(&self) -> bool {
        self.trees.is_some()
    }

    /// Why rows went to the processor; given once.
    pub fn take_fault(&mut self) -> Option<Error> {
        self.fault.take()
    }

    /// Scores rows, which follow the latest that the forest took.
    ///
    /// # Panics
    /// As [`crate::forest_scores`].
    pub fn scores(&mut self, columns: &[&[f64]], scores: &mut [f64]) {
        if let Some(trees) = &self.trees {
            let Err(error) = trees.scores(columns, scores) else { return };
            self.fault.get_or_insert(error);
            self.trees = None;
        }
        Backend::active().forest_scores(&self.forest, columns, &self.params, scores);
    }
}
