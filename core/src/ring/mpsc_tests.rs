#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const WAITS: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park];

#[test]
fn smoke() {
    let (sender, mut receiver) = mpsc(1, Full::Fail, WaitStrategy::Park);
    sender.push(7).unwrap();
    assert_eq!(receiver.try_recv(), Some(7));
    assert_eq!(receiver.try_recv(), None);
}

#[test]
fn capacity() {
    for (asked, given) in [(0, 2), (1, 2), (2, 2), (3, 4), (64, 64), (100, 128)] {
        let (sender, receiver) = mpsc::<u8>(asked, Full::Fail, WaitStrategy::Park);
        assert_eq!((sender.capacity(), receiver.capacity()), (given, given));
    }
}

#[test]
fn len_empty_full() {
    let (sender, mut receiver) = mpsc(2, Full::Fail, WaitStrategy::Park);
    assert_eq!((sender.len(), sender.is_empty()), (0, true));
    assert_eq!(sender.push_slice(&[1, 2, 3]), 2);
    assert_eq!((receiver.len(), receiver.is_empty()), (2, false));
    assert_eq!(sender.push(4), Err(Refused::Full(4)));
    receiver.try_recv().unwrap();
    assert_eq!((sender.len(), receiver.len()), (1, 1));
}

#[test]
fn a_full_ring_drops_the_oldest() {
    let (sender, mut receiver) = mpsc(4, Full::DropOldest, WaitStrategy::Park);
    assert_eq!(sender.try_push(0), Ok(()));
    assert_eq!(sender.push_slice(&[1, 2, 3, 4, 5]), 5);
    assert_eq!(sender.try_push(6), Err(Refused::Full(6)));
    sender.push(6).unwrap();
    assert_eq!((sender.dropped(), receiver.dropped()), (3, 3));
    let mut received = Vec::new();
    assert_eq!(receiver.drain_into(&mut received, 3), 3);
    assert_eq!(receiver.drain_into(&mut received, 3), 1);
    assert_eq!(received, [3, 4, 5, 6]);
}

#[test]
fn timeout_and_close_are_told_apart() {
    for wait in WAITS {
        let (sender, mut receiver) = mpsc(2, Full::Block, wait);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(Empty::TimedOut));
        assert_eq!(receiver.wait(Duration::ZERO), Err(Empty::TimedOut));
        let other = sender.clone();
        other.push(1).unwrap();
        drop(sender);
        assert!(!receiver.is_closed());
        drop(other);
        assert!(receiver.is_closed());
        assert_eq!(receiver.wait(Duration::ZERO), Ok(()));
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        assert_eq!(receiver.recv_timeout(Duration::MAX), Err(Empty::Closed));
        assert_eq!(receiver.wait(Duration::MAX), Err(Empty::Closed));
        assert_eq!(receiver.recv(), None);
    }
}

#[test]
fn a_push_to_nobody_gives_the_value_back() {
    for full in [Full::Block, Full::Fail, Full::DropOldest] {
        let (sender, receiver) = mpsc(2, full, WaitStrategy::Park);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.push(5), Err(Refused::Closed(5)));
        assert_eq!(sender.push_slice(&[1, 2]), 0);
    }
}

const SENDERS: u64 = 4;
const EACH: u64 = 25_000;

/// Pushes `EACH` rising values from each of `SENDERS` threads, singly and in batches, and returns what was received.
fn run(full: Full, wait: WaitStrategy) -> (Vec<(u64, u64)>, u64) {
    let (sender, mut receiver) = mpsc(16, full, wait);
    thread::scope(|scope| {
        for id in 0..SENDERS {
            let sender = sender.clone();
            scope.spawn(move || {
                let values: Vec<_> = (0..EACH).map(|value| (id, value)).collect();
                let (batched, single) = values.split_at(values.len() / 2);
                batched.chunks(7).for_each(|batch| assert_eq!(sender.push_slice(batch), batch.len()));
                single.iter().for_each(|value| sender.push(*value).unwrap());
            });
        }
        drop(sender);
        let mut received = Vec::new();
        while let Some(value) = receiver.recv() {
            received.push(value);
            receiver.drain_into(&mut received, 100);
        }
        (received, receiver.dropped())
    })
}

#[test]
fn every_value_once_and_each_sender_in_order() {
    for wait in WAITS {
        let (received, dropped) = run(Full::Block, wait);
        assert_eq!((received.len() as u64, dropped), (SENDERS * EACH, 0));
        for id in 0..SENDERS {
            assert!(received.iter().filter(|value| value.0 == id).map(|value| value.1).eq(0..EACH));
        }
    }
}

#[test]
fn what_is_not_dropped_is_received_in_order() {
    let (received, dropped) = run(Full::DropOldest, WaitStrategy::Park);
    assert_eq!(received.len() as u64 + dropped, SENDERS * EACH);
    for id in 0..SENDERS {
        assert!(received.iter().filter(|value| value.0 == id).is_sorted_by(|a, b| a.1 < b.1));
    }
}

#[test]
fn linearizable() {
    // As each thread pops only what it has just pushed or what another has, an empty ring after a push would be a lie.
    let (sender, receiver) = mpsc(4, Full::Fail, WaitStrategy::Yield);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (sender, receiver) = (sender.clone(), &receiver);
            scope.spawn(move || {
                for _ in 0..10_000 {
                    let mut receiver = receiver.lock().unwrap();
                    sender.push(0).unwrap();
                    receiver.try_recv().unwrap();
                }
            });
        }
    });
}

#[test]
fn positions_survive_wrap_around() {
    let (sender, mut receiver) = mpsc(4, Full::DropOldest, WaitStrategy::Park);
    let start = 0usize.wrapping_sub(4);
    sender.shared.head.store(start, Ordering::SeqCst);
    sender.shared.tail.store(start, Ordering::SeqCst);
    for index in 0..4 {
        let position = start.wrapping_add(index * STEP);
        sender.shared.slot(position).sequence.store(position, Ordering::SeqCst);
    }
    assert_eq!(sender.push_slice(&[1, 2, 3, 4, 5, 6]), 6);
    assert_eq!((sender.len(), sender.dropped()), (4, 2));
    let mut received = Vec::new();
    assert_eq!(receiver.drain_into(&mut received, 9), 4);
    assert_eq!(received, [3, 4, 5, 6]);
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    PushSlice(Vec<u32>),
    Drain(usize),
    Receive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<u32>().prop_map(Step::Push),
        proptest::collection::vec(any::<u32>(), 0..20).prop_map(Step::PushSlice),
        (0usize..12).prop_map(Step::Drain),
        Just(Step::Receive),
    ];
    proptest::collection::vec(step, 0..100)
}

proptest! {
    #[test]
    fn does_what_a_bounded_queue_does(capacity in 2usize..10, drops in any::<bool>(), steps in steps()) {
        let full = if drops { Full::DropOldest } else { Full::Fail };
        let (sender, mut receiver) = mpsc(capacity, full, WaitStrategy::Park);
        let (mut model, mut dropped) = (VecDeque::new(), 0);
        let offer = |model: &mut VecDeque<u32>, dropped: &mut u64, value| {
            if model.len() == sender.capacity() {
                if !drops {
                    return 0;
                }
                model.pop_front();
                *dropped += 1;
            }
            model.push_back(value);
            1
        };
        for step in steps {
            match step {
                Step::Push(value) => {
                    let took = offer(&mut model, &mut dropped, value);
                    prop_assert_eq!(usize::from(sender.push(value).is_ok()), took);
                }
                Step::PushSlice(values) => {
                    let took: usize = values.iter().map(|value| offer(&mut model, &mut dropped, *value)).sum();
                    prop_assert_eq!(sender.push_slice(&values), took);
                }
                Step::Drain(max) => {
                    let mut received = Vec::new();
                    let count = receiver.drain_into(&mut received, max);
                    prop_assert_eq!(count, received.len());
                    let expected: Vec<u32> = model.drain(..max.min(model.len())).collect();
                    prop_assert_eq!(received, expected);
                }
                Step::Receive => prop_assert_eq!(receiver.try_recv(), model.pop_front()),
            }
            prop_assert_eq!((receiver.len(), receiver.dropped()), (model.len(), dropped));
        }
    }
}
