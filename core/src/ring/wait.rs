//! How a thread waits for the other side of a ring, and how it is woken.

use super::sync::{
    AtomicBool, Barrier, Deadline, Mutex, Ordering, SPIN_DOUBLINGS, Thread, YIELDS, current, lock, park, spin_loop, yield_now,
};
use crate::config::WaitStrategy;

/// Waits until `ready` by `strategy`; `sleep` is called only under [`WaitStrategy::Park`] and may return at any time.
/// False if `deadline` passed first.
pub(super) fn wait_until(
    strategy: WaitStrategy,
    deadline: Deadline,
    mut ready: impl FnMut() -> bool,
    mut sleep: impl FnMut(Deadline),
) -> bool {
    let mut yields = 0;
    loop {
        // Ever longer pauses between the looks: each look takes the line of the index away from the side that is to
        // move it, and a wait that ends at the first item finds the ring empty again at the next.
        for doubling in 0..SPIN_DOUBLINGS {
            (0..1u32 << doubling).for_each(|_| spin_loop());
            if ready() {
                return true;
            }
        }
        if ready() {
            return true;
        }
        if deadline.has_passed() {
            return false;
        }
        match strategy {
            WaitStrategy::Spin => spin_loop(),
            WaitStrategy::Yield => yield_now(),
            WaitStrategy::Park if yields < YIELDS => {
                yields += 1;
                yield_now();
            }
            WaitStrategy::Park => sleep(deadline),
        }
    }
}

/// The threads that sleep until one side of a ring has moved.
///
/// The side that moves writes its index (or a slot), then calls [`Sleepers::wake`], which looks at `asleep`. The
/// thread that would sleep writes `asleep`, then looks at the index. This is Dekker's pattern, and without
/// a barrier between write and look on *both* sides each may miss the other and the sleeper never wakes; no choice of
/// acquire and release avoids it (Attiya et al., "Laws of Order", POPL 2011). Since sleeping is rare and
/// moving is not, the price is put on the sleeper: see [`Barrier`]. While nobody sleeps, a wake is one load of
/// a line that nobody writes.
pub(super) struct Sleepers {
    /// Whether `threads` has any; written only under its lock.
    asleep: AtomicBool,
    barrier: Barrier,
    threads: Mutex<Vec<Thread>>,
}

impl Sleepers {
    pub fn new() -> Sleepers {
        Sleepers { asleep: AtomicBool::new(false), barrier: Barrier::best(), threads: Mutex::new(Vec::new()) }
    }

    /// Wakes every sleeper. To be called after the write that they wait for.
    #[inline(always)]
    pub fn wake(&self) {
        self.barrier.light();
        // Relaxed: the barriers order this load against the caller's write; the lock orders the rest.
        if self.asleep.load(Ordering::Relaxed) {
            self.wake_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_all(&self) {
        let mut threads = lock(&self.threads);
        self.asleep.store(false, Ordering::Relaxed);
        let woken = std::mem::take(&mut *threads);
        drop(threads);
        for thread in woken {
            thread.unpark();
        }
    }

    /// Waits until `ready` by `strategy`. False if `deadline` passed first.
    pub fn wait(&self, strategy: WaitStrategy, deadline: Deadline, ready: impl Fn() -> bool) -> bool {
        wait_until(strategy, deadline, &ready, |deadline| self.sleep(deadline, &ready))
    }

    /// Sleeps unless `ready`; may wake early.
    fn sleep(&self, deadline: Deadline, ready: impl Fn() -> bool) {
        let mut threads = lock(&self.threads);
        threads.push(current());
        self.asleep.store(true, Ordering::Relaxed);
        drop(threads);

        if !self.barrier.heavy() {
            yield_now();
        } else if !ready() {
            // A wake between the look and here is not lost: it leaves a token that makes park return at once.
            park(deadline);
        }

        // Whoever woke this thread has taken it off the list; after a timeout or an idle wake it is still there.
        let mut threads = lock(&self.threads);
        let this = current().id();
        threads.retain(|thread| thread.id() != this);
        self.asleep.store(!threads.is_empty(), Ordering::Relaxed);
    }
}
