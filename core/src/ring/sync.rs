//! What the rings need from the machine: atomics, cells, sleeping threads, barriers and deadlines.
//!
//! Under `--cfg loom` all of it comes from loom, which runs every interleaving of a small program; the rings
//! themselves are the same source either way. No other file names loom, and no other file of the rings reads a clock.

use std::ops::Deref;

#[cfg(loom)]
pub(super) use loom_sync::*;
#[cfg(not(loom))]
pub(super) use std_sync::*;

/// A value on cache lines of its own, so that writing its neighbours does not take it away from its readers.
///
/// 128 bytes: x86-64 fetches lines of 64 bytes in pairs, and several ARM cores have lines of 128.
#[repr(align(128))]
pub(super) struct CachePadded<T>(pub T);

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Locks, whether or not a thread has panicked while it held the lock: what the rings guard is valid at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(not(loom))]
mod std_sync {
    pub use std::hint::spin_loop;
    use std::mem::MaybeUninit;
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
    pub use std::sync::{Arc, Mutex, MutexGuard};
    pub use std::thread::{Thread, current, yield_now};
    use std::time::{Duration, Instant};

    /// Looks at a ring, each after twice the pause of the one before, until the core is given away or the clock
    /// read: together about a microsecond, ten times the trip of a cache line between two cores.
    pub const SPIN_DOUBLINGS: u32 = 6;

    /// How often the core is given away before the thread sleeps. A sleep and its wake-up cost some microseconds;
    /// these cost about as much, so waiting is never more than about twice as dear as the best choice would have been.
    pub const YIELDS: u32 = 8;

    /// [`std::cell::UnsafeCell`] with loom's way of reaching inside.
    #[repr(transparent)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub const fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline(always)]
        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }

    /// Copies `values` into as many `slots`, as one block.
    ///
    /// # Safety
    /// The slots are free and nobody else's; there are as many as values.
    #[inline(always)]
    pub unsafe fn fill<T: Copy>(slots: &[UnsafeCell<MaybeUninit<T>>], values: &[T]) {
        debug_assert_eq!(slots.len(), values.len());
        let into = slots.as_ptr().cast::<T>().cast_mut();
        // SAFETY: a slot is a T in memory, its cells allow the write, and the caller vouches for the rest.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), into, slots.len()) }
    }

    /// Moves the values of `slots` to the end of `into`, as one block. The space must be reserved.
    ///
    /// # Safety
    /// The slots hold values, are nobody else's, and are not read again.
    #[inline(always)]
    pub unsafe fn empty<T>(slots: &[UnsafeCell<MaybeUninit<T>>], into: &mut Vec<T>) {
        let end = into.len();
        let space = &mut into.spare_capacity_mut()[..slots.len()];
        // SAFETY: a slot is a T in memory, there is as much space, and the caller vouches that the values are whole and moved once.
        unsafe {
            std::ptr::copy_nonoverlapping(slots.as_ptr().cast(), space.as_mut_ptr(), slots.len());
            into.set_len(end + slots.len());
        }
    }

    /// When a wait is over.
    #[derive(Clone, Copy)]
    pub struct Deadline(Option<Instant>);

    impl Deadline {
        pub const NEVER: Deadline = Deadline(None);

        /// A deadline too far away to be expressed never comes.
        pub fn after(wait: Duration) -> Deadline {
            Deadline(Instant::now().checked_add(wait))
        }

        pub fn has_passed(self) -> bool {
            self.0.is_some_and(|at| Instant::now() >= at)
        }
    }

    /// Sleeps until unparked, until `deadline`, or for no reason at all.
    pub fn park(deadline: Deadline) {
        match deadline.0 {
            None => std::thread::park(),
            Some(at) => std::thread::park_timeout(at.saturating_duration_since(Instant::now())),
        }
    }

    /// A pair of barriers of unequal price that together order like two `fence(SeqCst)`: of two threads that
    /// each write one place, pass their barrier, and read the other's place, at least one reads what the other wrote.
    ///
    /// The heavy one makes every running thread of this process pass a barrier, by `membarrier(2)` with
    /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED`, so that the light one need only keep the compiler from reordering.
    /// The construction is that of Linux's liburcu and of WG21 paper P1202 (Goldblatt, "Asymmetric fences").
    /// Where the kernel does not offer it, both are `fence(SeqCst)`.
    #[derive(Clone, Copy)]
    pub struct Barrier {
        asymmetric: bool,
    }

    impl Barrier {
        /// The cheapest pair that this machine has.
        pub fn best() -> Barrier {
            static ASYMMETRIC: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
            Barrier { asymmetric: *ASYMMETRIC.get_or_init(membarrier::register) }
        }

        /// Whether the light barrier must be followed by [`Barrier::fence`].
        pub fn is_fence(self) -> bool {
            !self.asymmetric
        }

        /// For whom the other side waits: on every push and pop.
        #[inline(always)]
        pub fn light(self) {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }

        /// The rest of the light barrier where the heavy one is not asymmetric.
        pub fn fence(self) {
            fence(Ordering::SeqCst);
        }

        /// For who is about to sleep. False if the kernel refused: there has been no barrier, so do not sleep.
        pub fn heavy(self) -> bool {
            if self.asymmetric {
                return membarrier::all_threads();
            }
            fence(Ordering::SeqCst);
            true
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    mod membarrier {
        fn call(command: libc::c_int) -> bool {
            // SAFETY: membarrier(2) takes three integers and touches no memory of the caller.
            unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
        }

        pub fn register() -> bool {
            call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as libc::c_int)
        }

        pub fn all_threads() -> bool {
            call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED as libc::c_int)
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    mod membarrier {
        pub fn register() -> bool {
            false
        }

        pub fn all_threads() -> bool {
            false
        }
    }
}

#[cfg(loom)]
mod loom_sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
    pub use loom::sync::{Arc, Mutex, MutexGuard};
    pub use loom::thread::{self, Thread, current, yield_now};
    use std::mem::MaybeUninit;
    use std::time::Duration;

    /// One by one, for each access to be seen.
    ///
    /// # Safety
    /// The slots are free and nobody else's; there are as many as values.
    pub unsafe fn fill<T: Copy>(slots: &[UnsafeCell<MaybeUninit<T>>], values: &[T]) {
        for (slot, value) in slots.iter().zip(values) {
            // SAFETY: the caller vouches for it.
            slot.with_mut(|slot| unsafe { (*slot).write(*value) });
        }
    }

    /// One by one, for each access to be seen.
    ///
    /// # Safety
    /// The slots hold values, are nobody else's, and are not read again.
    pub unsafe fn empty<T>(slots: &[UnsafeCell<MaybeUninit<T>>], into: &mut Vec<T>) {
        // SAFETY: the caller vouches for it.
        into.extend(slots.iter().map(|slot| slot.with(|slot| unsafe { (*slot).assume_init_read() })));
    }

    /// Runs `program` in every interleaving in which no more than `preemptions` threads are interrupted against their will;
    /// without a bound, in every one. Bounded where all would take minutes; nearly all known races need two at most
    /// (Musuvathi and Qadeer, PLDI 2007). `LOOM_MAX_PREEMPTIONS` overrides it.
    #[cfg(test)]
    pub fn model(preemptions: Option<usize>, program: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(preemptions);
        builder.check(program);
    }

    /// Loom runs a thread that spins or yields only when no other can run, which would hide the races around sleep.
    /// Statics, for the compiler would warn of loops that it knows to be empty.
    pub static SPIN_DOUBLINGS: u32 = 0;
    pub static YIELDS: u32 = 0;

    /// Loom knows no time: no deadline ever passes.
    #[derive(Clone, Copy)]
    pub struct Deadline;

    impl Deadline {
        pub const NEVER: Deadline = Deadline;

        pub fn after(_: Duration) -> Deadline {
            Deadline
        }

        pub fn has_passed(self) -> bool {
            false
        }
    }

    pub fn park(_: Deadline) {
        thread::park();
    }

    /// Both barriers as the fences that they stand for.
    #[derive(Clone, Copy)]
    pub struct Barrier;

    impl Barrier {
        pub fn best() -> Barrier {
            Barrier
        }

        pub fn is_fence(self) -> bool {
            true
        }

        pub fn light(self) {}

        pub fn fence(self) {
            fence(Ordering::SeqCst);
        }

        pub fn heavy(self) -> bool {
            fence(Ordering::SeqCst);
            true
        }
    }
}
