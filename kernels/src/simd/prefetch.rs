//! Asking for a cache line ahead of its use.

/// Size from which random access is worth asking ahead for: half of a common second-level cache, in bytes.
pub(crate) const FAR: usize = 256 * 1024;

/// Asks for the cache line of `of[index]`; an index outside is harmless.
#[inline(always)]
pub(crate) fn prefetch<T>(of: &[T], index: usize) {
    let address = of.as_ptr().wrapping_add(index);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and does not fault, whatever the address; SSE is part of x86_64.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; the instruction neither writes memory nor touches the stack or flags.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
