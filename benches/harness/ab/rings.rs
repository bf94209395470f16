//! The single-producer ring beside rtrb and crossbeam, between two threads on two cores.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use thalweg::ring::spsc;

use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::report::Report;
use crate::{Common, Result, machine};

/// Slots of every ring.
const CAPACITY: usize = 1_024;

/// Items handed over at once.
const BATCH: usize = 64;

/// Looks at a full or empty ring before the core is given away, the same for all.
const SPINS: u32 = 1_000;

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let name = "single-producer ring of u64, two threads";
    if !common.wants(name) {
        return Ok(());
    }
    let items = (common.rows / BATCH * BATCH) as u64;
    // The sum of the items, which are the numbers up to `items`.
    let expected = Answer { rows: items, n: (items * (items - 1) / 2) as i64, ..Answer::default() };
    let contenders = vec![
        Contender::new("spsc in batches of 64", expected, || Ok(ours_batched(items))),
        Contender::new("spsc item by item", expected, || Ok(ours(items))),
        Contender::new("rtrb item by item", expected, || Ok(rtrb(items))),
        Contender::new("rtrb in chunks of 64", expected, || Ok(rtrb_chunks(items))),
        Contender::new("crossbeam ArrayQueue", expected, || Ok(crossbeam(items))),
    ];
    let work = Work { amount: items as f64, unit: "M items/s", scale: 1e6 };
    let contest = Contest::hold(name, work, common, contenders)?;
    report.add(contest.goal("spsc in batches", "rtrb item", 3.0).goal("spsc item", "rtrb item", 0.9));
    Ok(())
}

/// Tries until it works.
#[inline(always)]
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut spins = 0;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        spins += 1;
        match spins % SPINS {
            0 => std::thread::yield_now(),
            _ => spin_loop(),
        }
    }
}

/// Runs both sides on a core each; the consumer returns how many items it got and their sum.
fn race(produce: impl FnOnce() + Send, consume: impl FnOnce() -> (u64, u64)) -> Run {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machine::pin(1);
            barrier.wait();
            produce();
        });
        barrier.wait();
        let start = Instant::now();
        let (count, sum) = consume();
        Run {
            seconds: start.elapsed().as_secs_f64(),
            cpu_seconds: None,
            answer: Answer { rows: count, n: sum as i64, ..Answer::default() },
        }
    })
}

fn ours(items: u64) -> Run {
    let (mut producer, mut consumer) = spsc(CAPACITY);
    let produce = move || (0..items).for_each(|item| until(|| producer.try_push(item).ok()));
    race(produce, || (0..items).fold((0, 0), |(count, sum), _| (count + 1, sum + until(|| consumer.try_pop()))))
}

fn ours_batched(items: u64) -> Run {
    let (mut producer, mut consumer) = spsc(CAPACITY);
    let produce = move || {
        let mut batch = [0; BATCH];
        for first in (0..items).step_by(BATCH) {
            batch.iter_mut().zip(first..).for_each(|(slot, item)| *slot = item);
            let mut left = &batch[..];
            while !left.is_empty() {
                let pushed = until(|| Some(producer.push_slice(left)).filter(|pushed| *pushed > 0));
                left = &left[pushed..];
            }
        }
    };
    race(produce, || {
        let (mut count, mut sum) = (0, 0);
        let mut batch = Vec::with_capacity(BATCH);
        while count < items {
            batch.clear();
            count += until(|| Some(consumer.pop_into(&mut batch, BATCH)).filter(|popped| *popped > 0)) as u64;
            sum += batch.iter().sum::<u64>();
        }
        (count, sum)
    })
}

fn rtrb(items: u64) -> Run {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    let produce = move || (0..items).for_each(|item| until(|| producer.push(item).ok()));
    race(produce, || (0..items).fold((0, 0), |(count, sum), _| (count + 1, sum + until(|| consumer.pop().ok()))))
}

fn rtrb_chunks(items: u64) -> Run {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    let produce = move || {
        let mut batch = [0; BATCH];
        for first in (0..items).step_by(BATCH) {
            batch.iter_mut().zip(first..).for_each(|(slot, item)| *slot = item);
            until(|| producer.push_entire_slice(&batch).ok());
        }
    };
    race(produce, || {
        let (mut count, mut sum) = (0, 0);
        let mut batch = [0; BATCH];
        while count < items {
            until(|| consumer.pop_entire_slice(&mut batch).ok());
            count += BATCH as u64;
            sum += batch.iter().sum::<u64>();
        }
        (count, sum)
    })
}

fn crossbeam(items: u64) -> Run {
    let queue = ArrayQueue::new(CAPACITY);
    let produce = || (0..items).for_each(|item| until(|| queue.push(item).ok()));
    race(produce, || (0..items).fold((0, 0), |(count, sum), _| (count + 1, sum + until(|| queue.pop()))))
}
