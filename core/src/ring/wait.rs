//! How a thread waits for the other side of a ring, and how it is woken.

use super::sync::{
    AtomicU8, Barrier, Deadline, Mutex, Ordering, SPIN_DOUBLINGS, Thread, YIELDS, current, lock, park, spin_loop, yield_now,
};
use crate::config::WaitStrategy;

/// Waits until `ready` by `strategy`, and `settle` pauses more if that was soon. `sleep` is called only under
/// [`WaitStrategy::Park`] and may return at any time.
/// False if `deadline` passed first.
pub(super) fn wait_until(
    strategy: WaitStrategy,
    settle: u32,
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
                (0..settle).for_each(|_| spin_loop());
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

/// How long to let the other side get ahead after a short wait, in pauses. Two sides in step with each other fight over the same lines
/// for every item; a good part of a ring apart they do not, and stay apart. A 64th of the ring, as a pause lasts longer
/// than an item takes; at most the length of the longest look, less than a microsecond; none if the lowest latency was asked for.
pub(super) fn settle_pauses(strategy: WaitStrategy, capacity: usize) -> u32 {
    match strategy {
        WaitStrategy::Spin => 0,
        WaitStrategy::Yield | WaitStrategy::Park => (capacity / 64).min(1 << SPIN_DOUBLINGS) as u32,
    }
}

/// The threads that sleep until one side of a ring has moved.
///
/// The side that moves writes its index (or a slot), then calls [`Sleepers::wake`], which looks at `state`. The
/// thread that would sleep writes `state`, then looks at the index. This is Dekker's pattern, and without
/// a barrier between write and look on *both* sides each may miss the other and the sleeper never wakes; no choice of
/// acquire and release avoids it (Attiya et al., "Laws of Order", POPL 2011). Since sleeping is rare and
/// moving is not, the price is put on the sleeper: see [`Barrier`]. While nobody sleeps, a wake is one load of
/// a line that nobody writes.
pub(super) struct Sleepers {
    /// [`ASLEEP`] if `threads` has any, written only under its lock; [`FENCED`] from the start or never.
    state: AtomicU8,
    barrier: Barrier,
    threads: Mutex<Vec<Thread>>,
    strategy: WaitStrategy,
    settle: u32,
}

/// Threads sleep.
const ASLEEP: u8 = 1;
/// The light barrier is a fence, to be passed before the look at [`ASLEEP`].
const FENCED: u8 = 2;

impl Sleepers {
    pub fn new(strategy: WaitStrategy, capacity: usize) -> Sleepers {
        let barrier = Barrier::best();
        let state = AtomicU8::new(if barrier.is_fence() { FENCED } else { 0 });
        Sleepers { state, barrier, threads: Mutex::new(Vec::new()), strategy, settle: settle_pauses(strategy, capacity) }
    }

    /// Wakes every sleeper. To be called after the write that they wait for.
    #[inline(always)]
    pub fn wake(&self) {
        // Where the light barrier is a fence, `state` is never 0, and the fence and the look that counts follow in `wake_all`.
        self.barrier.light();
        // Relaxed: the barriers order this load against the caller's write; the lock orders the rest.
        if self.state.load(Ordering::Relaxed) != 0 {
            self.wake_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_all(&self) {
        if self.barrier.is_fence() {
            self.barrier.fence();
            if self.state.load(Ordering::Relaxed) & ASLEEP == 0 {
                return;
            }
        }
        let mut threads = lock(&self.threads);
        self.set_asleep(false);
        let woken = std::mem::take(&mut *threads);
        drop(threads);
        for thread in woken {
            thread.unpark();
        }
    }

    /// To be called under the lock of `threads`.
    fn set_asleep(&self, asleep: bool) {
        let fenced = if self.barrier.is_fence() { FENCED } else { 0 };
        self.state.store(fenced | u8::from(asleep), Ordering::Relaxed);
    }

    /// Waits until `ready`. False if `deadline` passed first.
    pub fn wait(&self, deadline: Deadline, ready: impl Fn() -> bool) -> bool {
        wait_until(self.strategy, self.settle, deadline, &ready, |deadline| self.sleep(deadline, &ready))
    }

    /// Sleeps unless `ready`; may wake early.
    fn sleep(&self, deadline: Deadline, ready: impl Fn() -> bool) {
        let mut threads = lock(&self.threads);
        threads.push(current());
        self.set_asleep(true);
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
        self.set_asleep(!threads.is_empty());
    }
}
