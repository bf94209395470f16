//! The accumulators of a table on the device: batches in, cells out. Knows kinds, not Rust types.

use std::sync::Arc;

use super::device::Buffer;
use super::error::{Error, Fault};
use super::fixed::{Exponents, Window};
use super::layout::{Kind, Layout};
use super::pipeline::{HEADER_BYTES, Passes};
use super::ring::{Mapping, STAGES, Upload};
use super::{Shared, lock};
use crate::Cell;

const HAS_VALIDITY: u32 = 1;
const ONE_GROUP: u32 = 2;

/// A table's words and what goes with them.
#[derive(Debug)]
struct Resident {
    layout: Layout,
    groups: usize,
    words: Buffer,
    /// Where the words go to be read; away while a read is under way.
    read_back: Option<Buffer>,
    /// Arguments of a combination into these words.
    tables: Buffer,
    binds: [wgpu::BindGroup; STAGES],
    passes: Passes,
}

/// Words on their way to the host.
#[derive(Debug)]
struct Copying {
    buffer: Buffer,
    mapping: Mapping,
    submission: wgpu::SubmissionIndex,
    layout: Layout,
    groups: usize,
}

#[derive(Debug)]
pub(super) struct State {
    shared: Arc<Shared>,
    resident: Resident,
    /// Rows since the words were last zero.
    rows: u64,
    /// Whether the window of exponents was ever needed, and so is likely to be again.
    used: bool,
    closing: Option<Copying>,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, layout: Layout, groups: usize) -> Result<Self, Error> {
        let resident = Resident::new(&shared, layout, groups)?;
        Ok(Self { shared, resident, rows: 0, used: false, closing: None })
    }

    pub(super) fn groups(&self) -> usize {
        self.resident.groups
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes an upload; `range` is that of its values' exponents.
    pub(super) fn take(&mut self, upload: &Upload<'_>, range: Exponents) -> Result<(), Error> {
        self.expect_rows(upload.rows as u64)?;
        let Layout { kind, sum, window, .. } = self.resident.layout;
        if kind == Kind::Floats && sum && !window.holds(range) {
            self.move_to(window.widened(range, self.used), self.resident.groups)?;
        }
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
        if groups <= self.resident.groups { Ok(()) } else { self.move_to(self.resident.layout.window, groups) }
    }

    /// Combines another table of the same kind into this one, which makes room for it.
    pub(super) fn combine(&mut self, from: &Self) -> Result<(), Error> {
        let (own, other) = (self.resident.layout, from.resident.layout);
        assert!(Arc::ptr_eq(&self.shared, &from.shared), "tables of two engines cannot be combined on a device");
        assert!((own.sum, own.order) == (other.sum, other.order), "tables that keep different parts cannot be combined");
        self.expect_rows(from.rows)?;
        self.grow(from.resident.groups)?;
        if !own.window.covers(other.window) {
            self.move_to(own.window.over(other.window), self.resident.groups)?;
        }
        self.used |= from.used;
        self.resident.combine(&self.shared, &from.resident)
    }

    /// Starts to bring the accumulators to the host and leaves zeros on the device; does nothing if a read is under way.
    pub(super) fn start_read(&mut self) -> Result<(), Error> {
        if self.closing.is_none() {
            let Resident { layout, groups, words, read_back, .. } = &mut self.resident;
            let (layout, groups, device) = (*layout, *groups, &self.shared.device);
            let bytes = layout.bytes(groups);
            let buffer = match read_back.take() {
                Some(buffer) => buffer,
                None => read_back_buffer(&self.shared, bytes)?,
            };
            let mut encoder = device.encoder();
            encoder.copy_buffer_to_buffer(&words.inner, 0, &buffer.inner, 0, bytes);
            encoder.clear_buffer(&words.inner, 0, None);
            let submission = device.submit(encoder)?;
            let mapping = Mapping::ask(&buffer.inner, 0..bytes, wgpu::MapMode::Read);
            self.closing = Some(Copying { buffer, mapping, submission, layout, groups });
            self.rows = 0;
        }
        Ok(())
    }

    /// Gives the cells of the read under way, else of one started now.
    pub(super) fn read(&mut self, mut take: impl FnMut(usize, &Cell)) -> Result<(), Error> {
        self.start_read()?;
        let Some(copy) = self.closing.take() else { return Ok(()) };
        copy.mapping.wait(&self.shared.device, Some(&copy.submission))?;
        {
            let bytes = 0..copy.layout.bytes(copy.groups);
            let view = copy.buffer.inner.get_mapped_range(bytes).map_err(|error| Error::new(Fault::Lost, error.to_string()))?;
            let words: &[u32] = bytemuck::cast_slice(&view);
            let groups = words.chunks_exact(copy.layout.stride() as usize).take(copy.groups);
            groups.enumerate().for_each(|(group, words)| take(group, &copy.layout.cell(words)));
        }
        copy.buffer.inner.unmap();
        if copy.buffer.inner.size() == self.resident.words.inner.size() {
            self.resident.read_back = Some(copy.buffer);
        }
        Ok(())
    }

    fn expect_rows(&mut self, rows: u64) -> Result<(), Error> {
        if self.rows + rows > Window::MOST_ROWS {
            let message = format!("a table takes {} rows between two reads; read it earlier", Window::MOST_ROWS);
            return Err(Error::new(Fault::Limit, message));
        }
        self.rows += rows;
        Ok(())
    }

    /// Moves the accumulators to words of another window or number of groups.
    fn move_to(&mut self, window: Window, groups: usize) -> Result<(), Error> {
        let moved = Resident::new(&self.shared, Layout { window, ..self.resident.layout }, groups)?;
        moved.combine(&self.shared, &self.resident)?;
        self.resident = moved;
        Ok(())
    }
}

fn read_back_buffer(shared: &Shared, bytes: u64) -> Result<Buffer, Error> {
    shared.device.buffer("a table's read-back", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

impl Resident {
    fn new(shared: &Shared, layout: Layout, groups: usize) -> Result<Self, Error> {
        use wgpu::BufferUsages as Usage;
        let (device, bytes) = (&shared.device, layout.bytes(groups));
        if bytes > device.max_binding || bytes / 4 > u64::from(u32::MAX) {
            let (most, name) = (device.max_binding.min(u64::from(u32::MAX) * 4), &device.info.name);
            let message = format!("a table of {groups} groups takes {bytes} bytes, on {name} it may take {most}");
            return Err(Error::new(Fault::Limit, message));
        }
        let words = device.buffer("a table", bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        let read_back = Some(read_back_buffer(shared, bytes)?);
        let tables = device.buffer("the arguments of a combination", HEADER_BYTES, Usage::UNIFORM | Usage::COPY_DST)?;
        let private = bytes <= u64::from(shared.private_words) * 4;
        let passes = shared.pipelines.passes(device, layout, private)?;
        let ring = lock(&shared.ring);
        let binds = ring.stages().each_ref().map(|stage| {
            let bindings = std::iter::once(words.inner.as_entire_binding()).chain(stage.bindings());
            shared.pipelines.bind(device, bindings)
        });
        device.check()?;
        Ok(Self { layout, groups, words, read_back, tables, binds, passes })
    }

    /// Combines words of the same or a narrower window, and of as many groups or fewer, into these.
    fn combine(&self, shared: &Shared, from: &Self) -> Result<(), Error> {
        let device = &shared.device;
        let (to, of) = (self.layout, from.layout);
        let below = (of.window.base - to.window.base) / 32;
        let (limbs, groups) = ([to.window.limbs, of.window.limbs], from.groups as u32);
        let tables = [groups, to.stride(), of.stride(), to.order_at(), to.sum_at(), limbs[0], limbs[1], below];
        device.queue.write_buffer(&self.tables.inner, 0, bytemuck::cast_slice(&tables));
        let bindings = [&self.words, &self.tables, &from.words].into_iter().map(|buffer| buffer.inner.as_entire_binding());
        let mut encoder = device.encoder();
        shared.pipelines.record_combine(device, &mut encoder, to, bindings, groups)?;
        device.submit(encoder)?;
        Ok(())
    }

    /// The `Batch` of the shaders.
    fn header(&self, upload: &Upload<'_>) -> [u32; 8] {
        let Layout { window, .. } = self.layout;
        let flags = if upload.validity.is_some() { HAS_VALIDITY } else { 0 } | if upload.slots.is_empty() { ONE_GROUP } else { 0 };
        let (stride, order_at, sum_at) = (self.layout.stride(), self.layout.order_at(), self.layout.sum_at());
        [upload.rows as u32, self.groups as u32, stride, order_at, sum_at, window.limbs, window.base, flags]
    }
}
