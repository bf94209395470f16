//! What the memory is told beforehand: which cache line is needed soon, which tables are read at random.

/// Size from which random access is worth asking ahead for: half of a common second-level cache, in bytes.
pub(crate) const FAR: usize = 256 * 1024;

/// Asks for the cache line of `of[index]`; an index outside is harmless.
#[inline(always)]
pub(crate) fn prefetch<T>(of: &[T], index: usize) {
    ask(of.as_ptr().wrapping_add(index).cast());
}

/// Asks for the cache line of `of[index]`, in the second-level cache: for tables that lie beyond it. An index outside is harmless.
#[inline(always)]
pub(crate) fn prefetch_far<T>(of: &[T], index: usize) {
    ask_far(of.as_ptr().wrapping_add(index).cast());
}

/// Asks for every cache line of `of[index]`, as [`prefetch_far`] does if `IS_FAR`; an index outside is harmless.
#[inline(always)]
pub(crate) fn prefetch_all<T, const IS_FAR: bool>(of: &[T], index: usize) {
    let ask = if IS_FAR { ask_far } else { ask };
    let address: *const u8 = of.as_ptr().wrapping_add(index).cast();
    for line in 0..size_of::<T>().div_ceil(64) {
        ask(address.wrapping_add(line * 64));
    }
    // Vectors of cells are aligned to 16 bytes, so that no smaller cell lies across two lines.
    if size_of::<T>() > 16 {
        ask(address.wrapping_add(size_of::<T>() - 1));
    }
}

#[inline(always)]
pub(super) fn ask(address: *const u8) {
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

/// Asks for a line in the second-level cache. Of such requests more are in flight at a time than of those for the first level,
/// whose number is what bounds random access to memory; from the second level, a line comes while other rows are worked on.
#[inline(always)]
pub(super) fn ask_far(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and does not fault, whatever the address; SSE is part of x86_64.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; the instruction neither writes memory nor touches the stack or flags.
    unsafe {
        core::arch::asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Size from which a table is worth huge pages: several of them, in bytes.
const HUGE: usize = 4 << 20;

/// Asks for huge pages under a table that is read at random, before it is filled: with small ones, most accesses to a
/// table of many MiB miss the translation buffer too. Small tables are left alone, and so is the rest of the process.
pub(crate) fn prefer_huge_pages<T>(table: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    if table.capacity() * size_of::<T>() >= HUGE {
        // SAFETY: sysconf reads nothing of ours.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let start = table.as_mut_ptr().map_addr(|address| address.next_multiple_of(page));
        let end = table.as_ptr().addr() + table.capacity() * size_of::<T>();
        // SAFETY: the pages lie within the allocation of the table, and the advice changes nothing that they hold. Where it
        // is not taken, pages stay small.
        unsafe { libc::madvise(start.cast(), end.saturating_sub(start.addr()), libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = table;
}
