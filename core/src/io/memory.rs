//! Page-aligned memory that the kernel writes to behind the compiler's back.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::pool::ALIGN;

/// Zeroed memory that starts at a page.
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// Set when the kernel may still write here: then it is never freed.
    pub(super) keep: bool,
}

// SAFETY: the memory is owned by this value alone.
unsafe impl Send for Memory {}

impl Memory {
    pub(super) fn new(bytes: usize) -> Memory {
        // Only ever called with the sizes of this file, which are small and not zero.
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).unwrap_or(Layout::new::<u8>());
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory { start, layout, keep: false },
            None => handle_alloc_error(layout),
        }
    }

    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.layout.size(), "offset {offset} lies outside of the buffers");
        // SAFETY: just checked.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// # Safety
    /// Nobody, the kernel included, may write to these bytes while they are borrowed.
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset + len <= self.layout.size(), "{len} bytes at {offset} lie outside of the buffers");
        // SAFETY: within the allocation, as just checked, zeroed at first, and by the contract not being written to.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.keep {
            // SAFETY: allocated with this layout and not freed before.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}
