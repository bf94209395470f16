//! Uploads: two pairs of staging and device buffers that take turns, so that the processor fills one while the device
//! copies and reads the other.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::device::{Buffer, Device, PATIENCE};
use super::error::{Error, Fault};
use super::lock;
use super::pipeline::HEADER_BYTES;
use crate::Bits;

const _: () = assert!(cfg!(target_endian = "little"), "columns are uploaded as they lie in memory; devices are little-endian");

/// Offsets of bindings must be multiples of this on every adapter of today.
const ALIGNMENT: u64 = 256;

/// Uploads in flight.
pub(super) const STAGES: usize = 2;

/// Where the columns lie in an upload of so many rows.
#[derive(Clone, Copy, Debug)]
struct Places {
    rows: usize,
    slots: u64,
    values: u64,
    validity: u64,
    end: u64,
}

impl Places {
    fn new(rows: usize) -> Self {
        let after = |start: u64, bytes: u64| (start + bytes).next_multiple_of(ALIGNMENT);
        let slots = after(0, HEADER_BYTES);
        let values = after(slots, rows as u64 * 4);
        let validity = after(values, rows as u64 * 8);
        Self { rows, slots, values, validity, end: after(validity, rows.div_ceil(64) as u64 * 8) }
    }

    /// What the shaders bind, in order: header, slots, values, validity.
    fn bound(&self) -> [Range<u64>; 4] {
        [0..HEADER_BYTES, self.slots..self.values, self.values..self.validity, self.validity..self.end]
    }
}

/// One upload: rows of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upload<'a> {
    /// Empty where all rows are of one group.
    pub(super) slots: &'a [u32],
    /// The column's bytes; empty where rows are counted only.
    pub(super) values: &'a [u8],
    /// Validity of the whole batch, and the row of it that comes first here.
    pub(super) validity: Option<(Bits<'a>, usize)>,
    pub(super) rows: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    #[default]
    Pending,
    Mapped,
    Failed,
}

/// What became of a mapping that was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping(Arc<(Mutex<Outcome>, Condvar)>);

impl Mapping {
    pub(super) fn ask(buffer: &wgpu::Buffer, range: Range<u64>, mode: wgpu::MapMode) -> Self {
        let mapping = Self::default();
        mapping.ask_again(buffer, range, mode);
        mapping
    }

    fn ask_again(&self, buffer: &wgpu::Buffer, range: Range<u64>, mode: wgpu::MapMode) {
        *lock(&self.0.0) = Outcome::Pending;
        let state = Arc::clone(&self.0);
        buffer.map_async(mode, range, move |result| {
            *lock(&state.0) = if result.is_ok() { Outcome::Mapped } else { Outcome::Failed };
            state.1.notify_all();
        });
    }

    /// Waits until the buffer is mapped; the submission is the last one that uses it.
    pub(super) fn wait(&self, device: &Device, submission: Option<&wgpu::SubmissionIndex>) -> Result<(), Error> {
        let (outcome, changed) = &*self.0;
        if *lock(outcome) == Outcome::Pending {
            device.wait(submission.cloned())?;
        }
        // The callback may be another thread's to run, which waits for the device at the same time.
        let guard = changed.wait_timeout_while(lock(outcome), PATIENCE, |outcome| *outcome == Outcome::Pending);
        let outcome = *guard.unwrap_or_else(PoisonError::into_inner).0;
        device.check()?;
        match outcome {
            Outcome::Mapped => Ok(()),
            _ => Err(Error::new(Fault::Lost, format!("device {} is lost: it maps its buffers no more", device.info.name))),
        }
    }
}

/// A staging buffer and the device's buffer that it is copied to.
#[derive(Debug)]
pub(super) struct Stage {
    places: Places,
    staging: Buffer,
    device: Buffer,
    mapping: Mapping,
    submission: Option<wgpu::SubmissionIndex>,
}

impl Stage {
    fn new(device: &Device, places: Places) -> Result<Self, Error> {
        use wgpu::BufferUsages as Usage;
        let staging = device.buffer("a staging buffer", places.end, Usage::MAP_WRITE | Usage::COPY_SRC)?;
        let mapping = Mapping::ask(&staging.inner, 0..places.end, wgpu::MapMode::Write);
        let usage = Usage::COPY_DST | Usage::STORAGE | Usage::UNIFORM;
        let device = device.buffer("a batch on the device", places.end, usage)?;
        Ok(Self { places, staging, device, mapping, submission: None })
    }

    /// What the shaders bind of this stage.
    pub(super) fn bindings(&self) -> impl Iterator<Item = wgpu::BindingResource<'_>> {
        self.places.bound().into_iter().map(|range| self.binding(range))
    }

    /// Writes an upload into the staging buffer and records its copy to the device.
    pub(super) fn fill(&self, encoder: &mut wgpu::CommandEncoder, header: &[u32; 8], upload: &Upload<'_>) -> Result<(), Error> {
        let Places { slots, values, validity, .. } = self.places;
        let mut view = self.staging.inner.get_mapped_range_mut(..).map_err(|error| Error::new(Fault::Lost, error.to_string()))?;
        let mut put = |at: u64, bytes: &[u8]| {
            if !bytes.is_empty() {
                view.slice(at as usize..at as usize + bytes.len()).copy_from_slice(bytes);
                encoder.copy_buffer_to_buffer(&self.staging.inner, at, &self.device.inner, at, bytes.len() as u64);
            }
        };
        put(0, bytemuck::cast_slice(header));
        put(slots, bytemuck::cast_slice(upload.slots));
        put(values, upload.values);
        if let Some((bits, first)) = upload.validity {
            let words = upload.rows.div_ceil(64);
            let bytes = validity as usize..validity as usize + words * 8;
            let (chunks, _) = view.slice(bytes).into_chunks::<8>();
            chunks.write_iter((0..words).map(|word| bits.word(first + word * 64).to_le_bytes()));
            encoder.copy_buffer_to_buffer(&self.staging.inner, validity, &self.device.inner, validity, words as u64 * 8);
        }
        drop(view);
        self.staging.inner.unmap();
        Ok(())
    }

    /// Bytes of columns that [`Stage::put`] takes at most, where there are up to three.
    pub(super) fn capacity(&self) -> usize {
        (self.places.end - 4 * ALIGNMENT) as usize
    }

    /// Writes a header and columns of a shader of its own into the staging buffer, records their copy to the device, and says where
    /// each of them lies there. Columns are of whole words.
    pub(super) fn put(&self, encoder: &mut wgpu::CommandEncoder, header: &[u32; 8], columns: &[&[u8]]) -> Result<Vec<Range<u64>>, Error> {
        let mut view = self.staging.inner.get_mapped_range_mut(..).map_err(|error| Error::new(Fault::Lost, error.to_string()))?;
        let (mut at, mut places) = (0, Vec::with_capacity(1 + columns.len()));
        for bytes in std::iter::once(bytemuck::cast_slice(header)).chain(columns.iter().copied()) {
            if !bytes.is_empty() {
                view.slice(at as usize..at as usize + bytes.len()).copy_from_slice(bytes);
                encoder.copy_buffer_to_buffer(&self.staging.inner, at, &self.device.inner, at, bytes.len() as u64);
            }
            // A binding takes at least an element.
            places.push(at..at + (bytes.len() as u64).max(16));
            at = (at + bytes.len() as u64).next_multiple_of(ALIGNMENT);
        }
        drop(view);
        self.staging.inner.unmap();
        Ok(places)
    }

    /// What a shader binds of one place in this stage.
    pub(super) fn binding(&self, place: Range<u64>) -> wgpu::BindingResource<'_> {
        let size = std::num::NonZeroU64::new(place.end - place.start);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.device.inner, offset: place.start, size })
    }

    /// The stage is in use until `submission` is done; then it is mapped again.
    pub(super) fn submitted(&mut self, submission: wgpu::SubmissionIndex) {
        self.submission = Some(submission);
        self.mapping.ask_again(&self.staging.inner, 0..self.places.end, wgpu::MapMode::Write);
    }
}

/// The stages, taking turns.
#[derive(Debug)]
pub(super) struct Ring {
    stages: [Stage; STAGES],
    next: usize,
}

impl Ring {
    /// Stages of `rows` rows each, fewer where a column of them is more than a binding takes.
    pub(super) fn new(device: &Device, rows: usize) -> Result<Self, Error> {
        // A thread per row in one dimension of workgroups is the other limit.
        let most = (device.max_binding / 8).min(u64::from(device.max_threads)) as usize;
        let places = Places::new(rows.min(most).max(1));
        Ok(Self { stages: [Stage::new(device, places)?, Stage::new(device, places)?], next: 0 })
    }

    /// Rows of an upload at most.
    pub(super) fn rows(&self) -> usize {
        self.stages[0].places.rows
    }

    pub(super) fn stages(&self) -> &[Stage; STAGES] {
        &self.stages
    }

    /// The next stage, with its number, once the device is done with it.
    pub(super) fn next(&mut self, device: &Device) -> Result<(usize, &mut Stage), Error> {
        let index = self.next;
        self.next = (index + 1) % STAGES;
        let stage = &mut self.stages[index];
        stage.mapping.wait(device, stage.submission.as_ref())?;
        Ok((index, stage))
    }
}
