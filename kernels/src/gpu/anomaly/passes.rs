//! Passes of a detector's shader over columns: up through the engine's staging buffers, answers back while the next ones go up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::gpu::device::{Buffer, Device};
use crate::gpu::error::{Error, Fault};
use crate::gpu::pipeline::{Bindings, THREADS};
use crate::gpu::ring::{Mapping, STAGES};
use crate::gpu::{Shared, lock};

const DISCORD: &str = include_str!(concat!(env!("OUT_DIR"), "/discord.wgsl"));
const DRIFT: &str = include_str!(concat!(env!("OUT_DIR"), "/drift.wgsl"));
const EWMA: &str = include_str!(concat!(env!("OUT_DIR"), "/ewma.wgsl"));
const FOREST: &str = include_str!(concat!(env!("OUT_DIR"), "/forest.wgsl"));
const KNN: &str = include_str!(concat!(env!("OUT_DIR"), "/knn.wgsl"));
const MAHALANOBIS: &str = include_str!(concat!(env!("OUT_DIR"), "/mahalanobis.wgsl"));

/// Words of answers of a pass at most: 256 KiB on the device, and as much to be read.
const MOST_WORDS: usize = 1 << 16;

/// Products of a pass at most: a card takes a fraction of a second for them, less than a driver waits before it resets it.
pub(super) const MOST_WORK: u64 = 1 << 32;

/// A detector's shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Detector {
    Discord,
    Drift,
    Ewma,
    Forest,
    Knn,
    Mahalanobis,
}

impl Detector {
    /// Its entry point, its text, and the bytes of an answer and of an element of each array that it reads.
    fn source(self) -> (&'static str, &'static str, u64, &'static [u64]) {
        match self {
            Self::Discord => ("discord", DISCORD, 4, &[4, 8, 4]),
            Self::Drift => ("drift", DRIFT, 8, &[4, 8, 8]),
            Self::Ewma => ("ewma", EWMA, 8, &[4, 8, 8]),
            Self::Forest => ("forest_scores", FOREST, 4, &[4, 4]),
            Self::Knn => ("knn", KNN, 4, &[8, 8, 4]),
            Self::Mahalanobis => ("mahalanobis", MAHALANOBIS, 4, &[4, 4]),
        }
    }

    fn needs_float64(self) -> bool {
        matches!(self, Self::Drift | Self::Ewma)
    }
}

#[derive(Debug)]
struct Compiled {
    bindings: Bindings,
    pipeline: wgpu::ComputePipeline,
}

/// Answers on the device and where they go to be read.
#[derive(Debug)]
struct Answers {
    words: Buffer,
    read_back: Buffer,
}

/// What an engine keeps for detectors: shaders, compiled when they are first asked for, and buffers for answers that no pass uses.
#[derive(Debug, Default)]
pub(in crate::gpu) struct Detectors {
    compiled: Mutex<HashMap<Detector, Arc<Compiled>>>,
    free: Mutex<Vec<Answers>>,
}

impl Detectors {
    fn compiled(&self, device: &Device, detector: Detector) -> Result<Arc<Compiled>, Error> {
        let mut compiled = lock(&self.compiled);
        if let Some(found) = compiled.get(&detector) {
            return Ok(Arc::clone(found));
        }
        if detector.needs_float64() && !device.info.float64 {
            return Err(Error::new(
                Fault::Limit,
                format!("{} has no 64-bit floats in shaders; the processor takes the rows", device.info.name),
            ));
        }
        let (entry, text, answer, elements) = detector.source();
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let module = device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(entry), source });
        let bindings = Bindings::new(device, answer, elements);
        let pipeline = bindings.compile(device, &module, entry, &[]);
        device.check()?;
        let made = Arc::new(Compiled { bindings, pipeline });
        compiled.insert(detector, Arc::clone(&made));
        Ok(made)
    }

    /// Buffers for answers: of those kept, or new ones.
    fn answers(&self, device: &Device) -> Result<Answers, Error> {
        use wgpu::BufferUsages as Usage;
        if let Some(kept) = lock(&self.free).pop() {
            return Ok(kept);
        }
        let bytes = most_words(device) as u64 * 4;
        let words = device.buffer("answers", bytes, Usage::STORAGE | Usage::COPY_SRC)?;
        let read_back = device.buffer("the read-back of answers", bytes, Usage::MAP_READ | Usage::COPY_DST)?;
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

/// Passes of one detector, whose answers are collected in the order that the passes were sent in.
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
    pub(super) fn new(shared: &'e Shared, detector: Detector) -> Result<Self, Error> {
        shared.device.check()?;
        let compiled = shared.detectors.compiled(&shared.device, detector)?;
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

    /// Words of answers of a pass at most.
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
        if self.flying.len() == STAGES {
            self.take_oldest()?;
        }
        let (shared, compiled) = (self.shared, &self.compiled);
        let (device, bytes) = (&shared.device, pass.words as u64 * 4);
        let answers = shared.detectors.answers(device)?;
        let mut encoder = device.encoder();
        let submission = {
            let mut ring = lock(&shared.ring);
            let (_, stage) = ring.next(device)?;
            let places = stage.put(&mut encoder, &pass.header, pass.columns)?;
            let resident = pass.resident.map(|buffer| buffer.inner.as_entire_binding());
            let uploaded = places.into_iter().map(|place| stage.binding(place));
            let bound = std::iter::once(answers.words.inner.as_entire_binding()).chain(uploaded).chain(resident);
            let binds = compiled.bindings.bind(device, bound);
            record(device, &mut encoder, compiled, &binds, pass);
            encoder.copy_buffer_to_buffer(&answers.words.inner, 0, &answers.read_back.inner, 0, bytes);
            let submission = device.submit(encoder)?;
            stage.submitted(submission.clone());
            submission
        };
        let mapping = Mapping::ask(&answers.read_back.inner, 0..bytes, wgpu::MapMode::Read);
        self.flying.push_back(Flying { answers, mapping, submission, words: pass.words });
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
        self.shared.detectors.give_back(answers);
        Ok(())
    }
}

fn record(device: &Device, encoder: &mut wgpu::CommandEncoder, compiled: &Compiled, binds: &wgpu::BindGroup, pass: &Pass<'_>) {
    // A dimension of workgroups may be short of what there are.
    let row = (device.max_threads / THREADS).max(1);
    let mut recorded = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    recorded.set_bind_group(0, binds, &[]);
    recorded.set_pipeline(&compiled.pipeline);
    recorded.dispatch_workgroups(pass.workgroups.min(row), pass.workgroups.div_ceil(row), 1);
}
