//! A fixed number of equal buffers in one piece of memory, aligned to pages.

/// Page and disk block size that `O_DIRECT` asks buffers to be aligned to.
pub(super) const ALIGN: usize = 4_096;

/// The buffers; a slot is taken, filled, given back. The last one given back is the next one taken: it is in the cache.
#[derive(Debug)]
pub(super) struct Pool {
    memory: Vec<u8>,
    start: usize,
    size: usize,
    free: Vec<u32>,
}

impl Pool {
    pub(super) fn new(count: usize, size: usize) -> Pool {
        let memory = vec![0; count * size + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN);
        Pool { memory, start, size, free: (0..count as u32).rev().collect() }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        debug_assert!(!self.free.contains(&slot), "buffer {slot} was given back twice");
        self.free.push(slot);
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn slot(&self, slot: u32) -> &[u8] {
        &self.memory[self.start + slot as usize * self.size..][..self.size]
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> &mut [u8] {
        &mut self.memory[self.start + slot as usize * self.size..][..self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_aligned_apart_and_reused_last_in_first_out() {
        let mut pool = Pool::new(3, 8_192);
        let slots: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert!(slots.len() == 3 && pool.is_exhausted());
        for &slot in &slots {
            assert_eq!(pool.slot(slot).as_ptr() as usize % ALIGN, 0);
            pool.slot_mut(slot).fill(slot as u8 + 1);
        }
        for &slot in &slots {
            assert!(pool.slot(slot).iter().all(|&byte| byte == slot as u8 + 1));
        }
        pool.give_back(1);
        pool.give_back(2);
        assert_eq!((pool.take(), pool.take(), pool.take()), (Some(2), Some(1), None));
    }
}
