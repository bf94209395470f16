//! The accumulators of a table on the device: batches in, cells out. Knows kinds, not Rust types.

use std::sync::Arc;

use super::device::Buffer;
use super::error::{Error, Fault};
use super::fixed::Exponents;
use super::layout::{Kind, Layout};
use super::pipeline::Passes;
use super::ring::{Mapping, STAGES, Upload};
use super::{Shared, lock};
use crate::Cell;
use crate::aggregate::{combine_float, combine_int};

/// Rows of a group that its words hold for certain: 31 bits of headroom, and the count's 32.
const MOST_ROWS: usize = 1 << 31;

const HAS_VALIDITY: u32 = 1;
const ONE_GROUP: u32 = 2;

/// The device's side of a table.
#[derive(Debug)]
struct Resident {
    layout: Layout,
    groups: usize,
    words: Buffer,
    read_back: Buffer,
    binds: [wgpu::BindGroup; STAGES],
    passes: Arc<Passes>,
}

/// Accumulators that a read has taken off the device.
#[derive(Debug, Default)]
struct Closing {
    /// Cells that came to the host before.
    cells: Vec<Cell>,
    /// Words on their way to the host.
    copy: Option<Copying>,
}

#[derive(Debug)]
struct Copying {
    mapping: Mapping,
    submission: wgpu::SubmissionIndex,
    layout: Layout,
    groups: usize,
}

#[derive(Debug)]
pub(super) struct State {
    shared: Arc<Shared>,
    resident: Resident,
    /// Rows since the device's words were last zero.
    rows: usize,
    /// Whether the window of exponents was ever needed, and so is likely to be again.
    used: bool,
    /// Cells of rows that came off the device because its words had to be laid out anew.
    spilled: Vec<Cell>,
    closing: Option<Closing>,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, layout: Layout, groups: usize) -> Result<Self, Error> {
        let resident = Resident::new(&shared, layout, groups)?;
        Ok(Self { shared, resident, rows: 0, used: false, spilled: Vec::new(), closing: None })
    }

    pub(super) fn groups(&self) -> usize {
        self.resident.groups
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes an upload; `range` is that of its values' exponents.
    pub(super) fn take(&mut self, upload: &Upload<'_>, range: Exponents) -> Result<(), Error> {
        let Layout { kind, sum, window, .. } = self.resident.layout;
        let fits = kind != Kind::Floats || !sum || window.holds(range);
        if !fits || self.rows + upload.rows > MOST_ROWS {
            self.spill()?;
        }
        if !fits {
            let layout = Layout { window: window.widened(range, self.used), ..self.resident.layout };
            self.resident = Resident::new(&self.shared, layout, self.resident.groups)?;
        }
        self.rows += upload.rows;
        self.used |= range.most > 0;
        let header = self.resident.header(upload);
        let device = &self.shared.device;
        let mut ring = lock(&self.shared.ring);
        let (index, stage) = ring.next(device)?;
        let mut encoder = device.encoder();
        stage.fill(&mut encoder, &header, upload)?;
        self.resident.passes.record(&mut encoder, &self.resident.binds[index], upload.rows);
        stage.submitted(device.submit(encoder)?);
        Ok(())
    }

    /// More groups; those there are keep their accumulators.
    pub(super) fn grow(&mut self, groups: usize) -> Result<(), Error> {
        if groups <= self.resident.groups {
            return Ok(());
        }
        self.settle()?;
        let grown = Resident::new(&self.shared, self.resident.layout, groups)?;
        let mut encoder = self.shared.device.encoder();
        let (from, to) = (&self.resident.words.inner, &grown.words.inner);
        encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        self.shared.device.submit(encoder)?;
        self.resident = grown;
        Ok(())
    }

    /// Starts to bring every accumulator to the host and leaves zeros on the device; does nothing if a read is under way.
    pub(super) fn start_read(&mut self) -> Result<(), Error> {
        if self.closing.is_none() {
            let copy = self.copy_out()?;
            self.closing = Some(Closing { cells: std::mem::take(&mut self.spilled), copy: Some(copy) });
        }
        Ok(())
    }

    /// Gives the cells of the read under way, else of one started now.
    pub(super) fn read(&mut self, mut take: impl FnMut(usize, &Cell)) -> Result<(), Error> {
        self.start_read()?;
        let Some(closing) = self.closing.take() else { return Ok(()) };
        if let Some(copy) = closing.copy {
            self.finish(copy, &mut take)?;
        }
        closing.cells.iter().enumerate().for_each(|(group, cell)| take(group, cell));
        Ok(())
    }

    /// Ends the device's part of a read under way, so that the read-back buffer is free.
    fn settle(&mut self) -> Result<(), Error> {
        let Some(mut closing) = self.closing.take() else { return Ok(()) };
        if let Some(copy) = closing.copy.take() {
            self.bring(copy, &mut closing.cells)?;
        }
        self.closing = Some(closing);
        Ok(())
    }

    /// Brings what is on the device into the spilled cells.
    fn spill(&mut self) -> Result<(), Error> {
        self.settle()?;
        if self.rows > 0 {
            let copy = self.copy_out()?;
            let mut spilled = std::mem::take(&mut self.spilled);
            self.bring(copy, &mut spilled)?;
            self.spilled = spilled;
        }
        Ok(())
    }

    fn bring(&self, copy: Copying, cells: &mut Vec<Cell>) -> Result<(), Error> {
        let combine = if copy.layout.kind == Kind::Floats { combine_float } else { combine_int };
        cells.resize(cells.len().max(copy.groups), Cell::EMPTY);
        self.finish(copy, &mut |group, cell| combine(&mut cells[group], cell))
    }

    /// Copies the words out, clears them, and asks for the copy.
    fn copy_out(&mut self) -> Result<Copying, Error> {
        let Resident { layout, groups, words, read_back, .. } = &self.resident;
        let bytes = layout.bytes(*groups);
        let mut encoder = self.shared.device.encoder();
        encoder.copy_buffer_to_buffer(&words.inner, 0, &read_back.inner, 0, bytes);
        encoder.clear_buffer(&words.inner, 0, None);
        let submission = self.shared.device.submit(encoder)?;
        self.rows = 0;
        let mapping = Mapping::ask(&read_back.inner, 0..bytes, wgpu::MapMode::Read);
        Ok(Copying { mapping, submission, layout: *layout, groups: *groups })
    }

    /// Waits for a copy and gives its cells.
    fn finish(&self, copy: Copying, take: &mut impl FnMut(usize, &Cell)) -> Result<(), Error> {
        let device = &self.shared.device;
        copy.mapping.wait(device, Some(&copy.submission))?;
        let buffer = &self.resident.read_back.inner;
        let bytes = 0..copy.layout.bytes(copy.groups);
        {
            let view = buffer.get_mapped_range(bytes).map_err(|error| Error::new(Fault::Lost, error.to_string()))?;
            let words: &[u32] = bytemuck::cast_slice(&view);
            let groups = words.chunks_exact(copy.layout.stride() as usize).take(copy.groups);
            groups.enumerate().for_each(|(group, words)| take(group, &copy.layout.cell(words)));
        }
        buffer.unmap();
        Ok(())
    }
}

impl Resident {
    fn new(shared: &Shared, layout: Layout, groups: usize) -> Result<Self, Error> {
        use wgpu::BufferUsages as Usage;
        let (device, bytes) = (&shared.device, layout.bytes(groups));
        if bytes > device.max_binding || groups > u32::MAX as usize {
            let (most, name) = (device.max_binding, &device.info.name);
            let message = format!("a table of {groups} groups takes {bytes} bytes, a binding of {name} at most {most}");
            return Err(Error::new(Fault::Limit, message));
        }
        let words = device.buffer("a table", bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        let read_back = device.buffer("a table's read-back", bytes, Usage::MAP_READ | Usage::COPY_DST)?;
        let private = bytes <= u64::from(shared.private_words) * 4;
        let passes = shared.pipelines.passes(device, layout, private)?;
        let ring = lock(&shared.ring);
        let binds = ring.stages().each_ref().map(|stage| {
            let bindings = std::iter::once(words.inner.as_entire_binding()).chain(stage.bindings());
            let entries: Vec<_> = (0..).zip(bindings).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
            let descriptor = wgpu::BindGroupDescriptor { label: Some("a table"), layout: &shared.pipelines.binds, entries: &entries };
            device.device.create_bind_group(&descriptor)
        });
        device.check()?;
        Ok(Self { layout, groups, words, read_back, binds, passes })
    }

    /// The `Batch` of the shaders.
    fn header(&self, upload: &Upload<'_>) -> [u32; 8] {
        let Layout { window, .. } = self.layout;
        let flags = if upload.validity.is_some() { HAS_VALIDITY } else { 0 } | if upload.slots.is_empty() { ONE_GROUP } else { 0 };
        let (stride, order_at, sum_at) = (self.layout.stride(), self.layout.order_at(), self.layout.sum_at());
        [upload.rows as u32, self.groups as u32, stride, order_at, sum_at, window.limbs, window.base, flags]
    }
}
