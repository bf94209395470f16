//! Words on the device that batches of rows change, and that are read when they are asked for.

use std::sync::Arc;

use super::device::Buffer;
use super::error::{Error, Fault};
use super::passes::{Compiled, Shader};
use super::pipeline::THREADS;
use super::ring::Mapping;
use super::{Shared, lock};
use crate::Bits;

/// The slot of a row that is null, as in the shaders.
const NO_SLOT: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Store {
    shared: Arc<Shared>,
    /// Takes rows, and adds another store of the same kind.
    take: Arc<Compiled>,
    merge: Option<Arc<Compiled>>,
    words: Buffer,
}

impl Store {
    /// So many words, all 0, that `take` changes and `merge` adds others to.
    pub(super) fn new(shared: Arc<Shared>, what: &str, words: usize, take: Shader, merge: Option<Shader>) -> Result<Self, Error> {
        use wgpu::BufferUsages as Usage;
        let (device, bytes) = (&shared.device, words as u64 * 4);
        device.check()?;
        if bytes > device.max_binding || words as u64 > u64::from(u32::MAX) {
            let (most, name) = (device.max_binding.min(u64::from(u32::MAX) * 4), &device.info.name);
            return Err(Error::new(Fault::Limit, format!("{what} takes {bytes} bytes, on {name} it may take {most}")));
        }
        let take = shared.kept.compiled(device, take)?;
        let merge = merge.map(|merge| shared.kept.compiled(device, merge)).transpose()?;
        let words = device.buffer(what, bytes.max(16), Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        Ok(Self { shared, take, merge, words })
    }

    /// Rows of an upload at most, of up to 12 bytes each.
    pub(super) fn rows(&self) -> usize {
        lock(&self.shared.ring).rows()
    }

    /// Stages columns and starts the steps of `take` over them, each of so many threads. `resident` is on the device already.
    pub(super) fn take(&self, header: [u32; 8], columns: &[&[u8]], resident: Option<&Buffer>, threads: &[usize]) -> Result<(), Error> {
        self.run(&self.take, header, columns, resident, threads)
    }

    /// Adds another store, by a thread for each of so many of its parts.
    pub(super) fn merge(&self, from: &Self, header: [u32; 8], threads: usize) -> Result<(), Error> {
        assert!(Arc::ptr_eq(&self.shared, &from.shared), "tables of two engines cannot be merged on a device");
        let Some(merge) = &self.merge else { return Ok(()) };
        self.run(merge, header, &[], Some(&from.words), &[threads])
    }

    fn run(
        &self,
        compiled: &Compiled,
        header: [u32; 8],
        columns: &[&[u8]],
        resident: Option<&Buffer>,
        threads: &[usize],
    ) -> Result<(), Error> {
        let device = &self.shared.device;
        let workgroups: Vec<u32> = threads.iter().map(|threads| (*threads as u32).div_ceil(THREADS)).collect();
        let mut encoder = device.encoder();
        let mut ring = lock(&self.shared.ring);
        let (_, stage) = ring.next(device)?;
        let places = stage.put(&mut encoder, &header, columns)?;
        let resident = resident.map(|buffer| buffer.inner.as_entire_binding());
        let uploaded = places.into_iter().map(|place| stage.binding(place));
        let bound = std::iter::once(self.words.inner.as_entire_binding()).chain(uploaded).chain(resident);
        compiled.record(device, &mut encoder, bound, &workgroups);
        stage.submitted(device.submit(encoder)?);
        Ok(())
    }

    /// Gives the first words, and leaves zeros.
    pub(super) fn read<T>(&mut self, words: usize, read: impl FnOnce(&[u32]) -> T) -> Result<T, Error> {
        use wgpu::BufferUsages as Usage;
        let (device, bytes) = (&self.shared.device, (words as u64 * 4).max(4));
        let back = device.buffer("a table's read-back", bytes, Usage::MAP_READ | Usage::COPY_DST)?;
        let mut encoder = device.encoder();
        encoder.copy_buffer_to_buffer(&self.words.inner, 0, &back.inner, 0, bytes);
        encoder.clear_buffer(&self.words.inner, 0, None);
        let submission = device.submit(encoder)?;
        Mapping::ask(&back.inner, 0..bytes, wgpu::MapMode::Read).wait(device, Some(&submission))?;
        let view = back.inner.get_mapped_range(0..bytes).map_err(|error| Error::new(Fault::Lost, error.to_string()))?;
        let words: &[u32] = &bytemuck::cast_slice(&view)[..words];
        Ok(read(words))
    }

    /// A buffer of words that shaders read beside the store.
    pub(super) fn constants(&self, what: &str, words: &[u32]) -> Result<Buffer, Error> {
        use wgpu::BufferUsages as Usage;
        let (device, bytes) = (&self.shared.device, words.len() as u64 * 4);
        if bytes > device.max_binding {
            let (most, name) = (device.max_binding, &device.info.name);
            return Err(Error::new(Fault::Limit, format!("{what} take {bytes} bytes, on {name} they may take {most}")));
        }
        let buffer = device.buffer(what, bytes.max(16), Usage::STORAGE | Usage::COPY_DST)?;
        device.queue.write_buffer(&buffer.inner, 0, bytemuck::cast_slice(words));
        Ok(buffer)
    }
}

/// The slots of the rows from `first` on, those of null rows being none.
pub(super) fn masked(slots: &mut Vec<u32>, of: &[u32], validity: Option<Bits<'_>>, first: usize) {
    slots.clear();
    slots.extend_from_slice(of);
    if let Some(bits) = validity {
        for (row, slot) in slots.iter_mut().enumerate() {
            *slot = if bits.get(first + row) { *slot } else { NO_SLOT };
        }
    }
}
