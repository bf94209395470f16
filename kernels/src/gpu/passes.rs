//! Passes of a shader over columns: up through the engine's staging buffers, answers back while the next ones go up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::device::{Buffer, Device};
use super::error::{Error, Fault};
use super::pipeline::{Bindings, THREADS};
use super::ring::{Mapping, STAGES};
use super::{Shared, lock};

const DDSKETCH: &str = include_str!(concat!(env!("OUT_DIR"), "/ddsketch.wgsl"));
const DDSKETCH_MERGE: &str = include_str!(concat!(env!("OUT_DIR"), "/ddsketch_merge.wgsl"));
const HISTOGRAM: &str = include_str!(concat!(env!("OUT_DIR"), "/histogram.wgsl"));
const HLL: &str = include_str!(concat!(env!("OUT_DIR"), "/hll.wgsl"));
const HLL_MERGE: &str = include_str!(concat!(env!("OUT_DIR"), "/hll_merge.wgsl"));
const PARTITION: &str = include_str!(concat!(env!("OUT_DIR"), "/partition.wgsl"));
const PREFIX_SUM: &str = include_str!(concat!(env!("OUT_DIR"), "/prefix_sum.wgsl"));
const SELECTION: &str = include_str!(concat!(env!("OUT_DIR"), "/selection.wgsl"));
const SMOOTH: &str = include_str!(concat!(env!("OUT_DIR"), "/smooth.wgsl"));
const ROLLING_MOMENTS: &str = include_str!(concat!(env!("OUT_DIR"), "/rolling_moments.wgsl"));
const ROLLING_ORDER: &str = include_str!(concat!(env!("OUT_DIR"), "/rolling_order.wgsl"));
const DISCORD: &str = include_str!(concat!(env!("OUT_DIR"), "/discord.wgsl"));
const DRIFT: &str = include_str!(concat!(env!("OUT_DIR"), "/drift.wgsl"));
const EWMA: &str = include_str!(concat!(env!("OUT_DIR"), "/ewma.wgsl"));
const FOREST: &str = include_str!(concat!(env!("OUT_DIR"), "/forest.wgsl"));
const KNN: &str = include_str!(concat!(env!("OUT_DIR"), "/knn.wgsl"));
const MAHALANOBIS: &str = include_str!(concat!(env!("OUT_DIR"), "/mahalanobis.wgsl"));

/// Words of a detector's answers in a pass at most: 256 KiB on the device, and as much to be read.
const MOST_WORDS: usize = 1 << 16;

/// Products of a pass at most: a card takes a fraction of a second for them, less than a driver waits before it resets it.
pub(super) const MOST_WORK: u64 = 1 << 32;

/// A shader that goes over columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shader {
    DdSketch,
    DdSketchMerge,
    Histogram,
    Hll,
    HllMerge,
    Partition,
    PrefixSum,
    RollingMoments,
    RollingOrder,
    Selection,
    Smooth,
    Discord,
    Drift,
    Ewma,
    Forest,
    Knn,
    Mahalanobis,
}

/// An entry point, and the constants that it is compiled with.
type Step = (&'static str, &'static [(&'static str, f64)]);

impl Shader {
    /// Its entry point, its text, and the bytes of an answer and of an element of each array that it reads.
    fn source(self) -> (&'static str, &'static str, u64, &'static [u64]) {
        match self {
            Self::DdSketch => ("count", DDSKETCH, 4, &[4, 4]),
            Self::DdSketchMerge => ("merge", DDSKETCH_MERGE, 4, &[4]),
            Self::Histogram => ("histogram", HISTOGRAM, 4, &[4, 8, 8]),
            Self::Hll => ("hll", HLL, 4, &[4, 8]),
            Self::HllMerge => ("merge", HLL_MERGE, 4, &[4]),
            Self::Partition => ("place", PARTITION, 4, &[4]),
            Self::PrefixSum => ("narrow", PREFIX_SUM, 4, &[4]),
            Self::Selection => ("place", SELECTION, 4, &[4, 4]),
            Self::Smooth => ("smooth_keys", SMOOTH, 8, &[4, 8, 8]),
            Self::RollingMoments => ("roll", ROLLING_MOMENTS, 4, &[4, 4]),
            Self::RollingOrder => ("roll", ROLLING_ORDER, 4, &[4, 4]),
            Self::Discord => ("discord", DISCORD, 4, &[4, 8, 4]),
            Self::Drift => ("drift", DRIFT, 8, &[4, 8, 8]),
            Self::Ewma => ("ewma", EWMA, 8, &[4, 8, 8]),
            Self::Forest => ("forest_scores", FOREST, 4, &[4, 4]),
            Self::Knn => ("knn", KNN, 4, &[8, 8, 4]),
            Self::Mahalanobis => ("mahalanobis", MAHALANOBIS, 4, &[4, 4]),
        }
    }

    /// The entry points of one that has several, which follow each other in a pass.
    fn steps(self) -> Option<&'static [Step]> {
        match self {
            Self::RollingMoments | Self::RollingOrder => Some(&[
                ("build", &[("LEVEL", 1.0)]),
                ("build", &[("LEVEL", 2.0)]),
                ("build", &[("LEVEL", 3.0)]),
                ("build", &[("LEVEL", 4.0)]),
                ("roll", &[]),
            ]),
            Self::DdSketch => Some(&[("raise", &[]), ("move_up", &[]), ("count", &[])]),
            Self::Partition => {
                Some(&[("count", &[]), ("scan_tiles", &[]), ("scan_sums", &[]), ("scan_add", &[]), ("place", &[]), ("begin", &[])])
            }
            Self::PrefixSum => Some(&[("widen", &[]), ("scan_tiles", &[]), ("scan_sums", &[]), ("scan_add", &[]), ("narrow", &[])]),
            Self::Selection => Some(&[("count", &[]), ("scan_tiles", &[]), ("scan_sums", &[]), ("scan_add", &[]), ("place", &[])]),
            _ => None,
        }
    }

    fn needs_float64(self) -> bool {
        matches!(self, Self::Drift | Self::Ewma | Self::Smooth)
    }
}

#[derive(Debug)]
pub(super) struct Compiled {
    bindings: Bindings,
    steps: Vec<wgpu::ComputePipeline>,
}

impl Compiled {
    /// Records the steps, one after another, each over so many workgroups.
    pub(super) fn record<'a>(
        &self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        bound: impl Iterator<Item = wgpu::BindingResource<'a>>,
        workgroups: &[u32],
    ) {
        // A dimension of workgroups may be short of what there are.
        let row = (device.max_threads / THREADS).max(1);
        let binds = self.bindings.bind(device, bound);
        let mut recorded = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        recorded.set_bind_group(0, &binds, &[]);
        for (step, &workgroups) in self.steps.iter().zip(workgroups).filter(|(_, workgroups)| **workgroups > 0) {
            recorded.set_pipeline(step);
            recorded.dispatch_workgroups(workgroups.min(row), workgroups.div_ceil(row), 1);
        }
    }
}

/// Answers on the device, with what steps leave for each other after them, and where the answers go to be read.
#[derive(Debug)]
struct Answers {
    words: Buffer,
    read_back: Buffer,
}

impl Answers {
    fn fits(&self, words: u64, answers: u64) -> bool {
        self.words.inner.size() >= words * 4 && self.read_back.inner.size() >= answers * 4
    }
}

/// What an engine keeps for passes: shaders, compiled when they are first asked for, and buffers for answers that no pass uses.
#[derive(Debug, Default)]
pub(super) struct Kept {
    compiled: Mutex<HashMap<Shader, Arc<Compiled>>>,
    free: Mutex<Vec<Answers>>,
}

impl Kept {
    pub(super) fn compiled(&self, device: &Device, shader: Shader) -> Result<Arc<Compiled>, Error> {
        let mut compiled = lock(&self.compiled);
        if let Some(found) = compiled.get(&shader) {
            return Ok(Arc::clone(found));
        }
        if shader.needs_float64() && !device.info.float64 {
            return Err(Error::new(
                Fault::Limit,
                format!("{} has no 64-bit floats in shaders; the processor takes the rows", device.info.name),
            ));
        }
        let (entry, text, answer, elements) = shader.source();
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let module = device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(entry), source });
        let bindings = Bindings::new(device, answer, elements);
        let alone: [Step; 1] = [(entry, &[])];
        let steps = shader.steps().unwrap_or(&alone).iter();
        let steps = steps.map(|(entry, constants)| bindings.compile(device, &module, entry, constants)).collect();
        device.check()?;
        let made = Arc::new(Compiled { bindings, steps });
        compiled.insert(shader, Arc::clone(&made));
        Ok(made)
    }

    /// Buffers for so many words, of which the first ones are answers: of those kept, or new ones.
    fn answers(&self, device: &Device, words: u64, answers: u64) -> Result<Answers, Error> {
        use wgpu::BufferUsages as Usage;
        {
            let mut free = lock(&self.free);
            if let Some(kept) = free.iter().position(|kept| kept.fits(words, answers)) {
                return Ok(free.swap_remove(kept));
            }
            // What is too small for one pass is for the next ones, too.
            free.clear();
        }
        let bytes = |words: u64| (words.next_power_of_two().max(most_words(device) as u64) * 4).min(device.max_binding).max(words * 4);
        let words = device.buffer("answers", bytes(words), Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        let read_back = device.buffer("the read-back of answers", bytes(answers), Usage::MAP_READ | Usage::COPY_DST)?;
        Ok(Answers { words, read_back })
    }

    fn give_back(&self, answers: Answers) {
        let mut free = lock(&self.free);
        if free.len() < STAGES {
            free.push(answers);
        }
    }
}

fn most_words(device: &Device) -> usize {
    MOST_WORDS.min((device.max_binding / 4) as usize).max(1)
}

/// A pass on its way.
#[derive(Debug)]
struct Flying {
    answers: Answers,
    mapping: Mapping,
    submission: wgpu::SubmissionIndex,
    words: usize,
}

/// One pass: what goes up and how much comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass<'a> {
    /// The `Batch` of the shader.
    pub header: [u32; 8],
    /// What the shader binds after it, in order.
    pub columns: &'a [&'a [u8]],
    /// What it binds after these, and is on the device already.
    pub resident: Option<&'a Buffer>,
    /// 32-bit words of its answers.
    pub words: usize,
    pub workgroups: u32,
}

/// A pass of several steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain<'a> {
    /// As of a [`Pass`].
    pub header: [u32; 8],
    pub columns: &'a [&'a [u8]],
    pub resident: Option<&'a Buffer>,
    /// 32-bit words of its answers, and of what steps leave for each other after them, which are 0 at first.
    pub words: usize,
    pub scratch: usize,
    /// Of each step; none leaves it out.
    pub workgroups: &'a [u32],
}

/// Passes of one shader, whose answers are collected in the order that the passes were sent in.
#[derive(Debug)]
pub(super) struct Passes<'e> {
    shared: &'e Shared,
    compiled: Arc<Compiled>,
    flying: VecDeque<Flying>,
    /// As bytes.
    answers: Vec<u8>,
    capacity: usize,
}

impl<'e> Passes<'e> {
    pub(super) fn new(shared: &'e Shared, shader: Shader) -> Result<Self, Error> {
        shared.device.check()?;
        let compiled = shared.kept.compiled(&shared.device, shader)?;
        let capacity = lock(&shared.ring).stages()[0].capacity();
        Ok(Self { shared, compiled, flying: VecDeque::new(), answers: Vec::new(), capacity })
    }

    /// Bytes of columns that a pass takes at most, with up to three columns.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of one column at most.
    pub(super) fn most_of_column(&self) -> usize {
        usize::try_from(self.shared.device.max_binding).unwrap_or(usize::MAX)
    }

    /// Words of a detector's answers in a pass at most.
    pub(super) fn most_words(&self) -> usize {
        most_words(&self.shared.device)
    }

    /// Rows of so many 32-bit values that a pass takes, beside another column of `fixed` values.
    pub(super) fn rows_of(&self, values: usize, fixed: usize) -> Result<usize, Error> {
        let (fixed, most) = (fixed * size_of::<f32>(), self.most_of_column());
        let room = self.capacity.saturating_sub(fixed).min(if fixed > most { 0 } else { most });
        match (room / (values * size_of::<f32>())).min(self.most_words()) {
            0 => Err(Error::new(Fault::Limit, format!("a row of {values} values is more than an upload takes; raise `batch_rows`"))),
            rows => Ok(rows),
        }
    }

    /// Stages a pass and starts it; waits only where as many are on their way as there are stages.
    pub(super) fn send(&mut self, pass: &Pass<'_>) -> Result<(), Error> {
        let Pass { header, columns, resident, words, workgroups } = *pass;
        self.send_chain(&Chain { header, columns, resident, words, scratch: 0, workgroups: &[workgroups] })
    }

    /// The same of a pass of several steps.
    pub(super) fn send_chain(&mut self, chain: &Chain<'_>) -> Result<(), Error> {
        if self.flying.len() == STAGES {
            self.take_oldest()?;
        }
        let shared = self.shared;
        let (device, bytes) = (&shared.device, chain.words as u64 * 4);
        let words = (chain.words + chain.scratch) as u64;
        if words * 4 > device.max_binding {
            let (most, name) = (device.max_binding, &device.info.name);
            return Err(Error::new(Fault::Limit, format!("a pass takes {} bytes of answers, on {name} it may take {most}", words * 4)));
        }
        let answers = shared.kept.answers(device, words, chain.words as u64)?;
        let mut encoder = device.encoder();
        if chain.scratch > 0 {
            encoder.clear_buffer(&answers.words.inner, bytes, Some(chain.scratch as u64 * 4));
        }
        let submission = {
            let mut ring = lock(&shared.ring);
            let (_, stage) = ring.next(device)?;
            let places = stage.put(&mut encoder, &chain.header, chain.columns)?;
            let resident = chain.resident.map(|buffer| buffer.inner.as_entire_binding());
            let uploaded = places.into_iter().map(|place| stage.binding(place));
            let bound = std::iter::once(answers.words.inner.as_entire_binding()).chain(uploaded).chain(resident);
            self.compiled.record(device, &mut encoder, bound, chain.workgroups);
            encoder.copy_buffer_to_buffer(&answers.words.inner, 0, &answers.read_back.inner, 0, bytes);
            let submission = device.submit(encoder)?;
            stage.submitted(submission.clone());
            submission
        };
        let mapping = Mapping::ask(&answers.read_back.inner, 0..bytes, wgpu::MapMode::Read);
        self.flying.push_back(Flying { answers, mapping, submission, words: chain.words });
        Ok(())
    }

    /// The answers of all passes, in their order.
    pub(super) fn finish<T: bytemuck::Pod>(mut self) -> Result<Vec<T>, Error> {
        while !self.flying.is_empty() {
            self.take_oldest()?;
        }
        Ok(bytemuck::pod_collect_to_vec(&self.answers))
    }

    fn take_oldest(&mut self) -> Result<(), Error> {
        let Some(Flying { answers, mapping, submission, words }) = self.flying.pop_front() else { return Ok(()) };
        mapping.wait(&self.shared.device, Some(&submission))?;
        {
            let bytes = 0..words as u64 * 4;
            let view = answers.read_back.inner.get_mapped_range(bytes).map_err(|error| Error::new(Fault::Lost, error.to_string()))?;
            self.answers.extend_from_slice(&view);
        }
        answers.read_back.inner.unmap();
        self.shared.kept.give_back(answers);
        Ok(())
    }
}
