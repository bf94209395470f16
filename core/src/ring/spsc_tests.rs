#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const WAITS: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park];

#[test]
fn smoke() {
    let (mut producer, mut consumer) = spsc(1);
    producer.try_push(7).unwrap();
    assert_eq!(producer.try_push(8), Err(8));
    assert_eq!(consumer.try_pop(), Some(7));
    assert_eq!(consumer.try_pop(), None);
}

#[test]
fn capacity() {
    for (asked, given) in [(0, 1), (1, 1), (2, 2), (3, 4), (5, 8), (64, 64), (100, 128)] {
        let (producer, consumer) = spsc::<u8>(asked);
        assert_eq!((producer.capacity(), consumer.capacity()), (given, given));
    }
}

#[test]
fn len_empty_full() {
    let (mut producer, mut consumer) = spsc(2);
    assert_eq!((producer.len(), producer.is_empty()), (0, true));
    producer.try_push(()).unwrap();
    assert_eq!((consumer.len(), consumer.is_empty()), (1, false));
    producer.try_push(()).unwrap();
    assert_eq!(producer.len(), 2);
    assert_eq!(producer.try_push(()), Err(()));
    consumer.try_pop().unwrap();
    assert_eq!((producer.len(), consumer.len()), (1, 1));
}

#[test]
fn every_item_in_order_across_threads() {
    const COUNT: u64 = 100_000;
    for wait in WAITS {
        let (mut producer, mut consumer) = spsc_waiting(4, wait);
        thread::scope(|scope| {
            scope.spawn(move || (0..COUNT).for_each(|value| producer.push(value).unwrap()));
            for value in 0..COUNT {
                assert_eq!(consumer.pop(), Some(value));
            }
            assert_eq!(consumer.pop(), None);
        });
    }
}

#[test]
fn batches_in_order_across_threads() {
    const COUNT: u64 = 200_000;
    let (mut producer, mut consumer) = spsc(256);
    thread::scope(|scope| {
        scope.spawn(move || {
            let values: Vec<u64> = (0..COUNT).collect();
            let mut done = 0;
            while done < values.len() {
                let batch = &values[done..values.len().min(done + 1 + done % 100)];
                done += producer.push_slice(batch);
                thread::yield_now();
            }
        });
        let mut popped = Vec::new();
        while let Some(value) = consumer.pop() {
            popped.push(value);
            consumer.pop_into(&mut popped, 64);
        }
        assert!(popped.iter().copied().eq(0..COUNT));
    });
}

#[test]
fn timeout_and_close_are_told_apart() {
    for wait in WAITS {
        let (mut producer, mut consumer) = spsc_waiting(2, wait);
        assert_eq!(consumer.pop_timeout(Duration::from_millis(1)), Err(Empty::TimedOut));
        producer.push(1).unwrap();
        assert!(!consumer.is_closed());
        drop(producer);
        assert!(consumer.is_closed());
        assert_eq!(consumer.pop_timeout(Duration::ZERO), Ok(1));
        assert_eq!(consumer.pop_timeout(Duration::MAX), Err(Empty::Closed));
    }
}

#[test]
fn a_push_waits_as_long_as_it_may() {
    for wait in WAITS {
        let (mut producer, mut consumer) = spsc_waiting(1, wait);
        producer.push_timeout(1, Duration::ZERO).unwrap();
        assert_eq!(producer.push_timeout(2, Duration::from_millis(1)), Err(Refused::Full(2)));
        thread::scope(|scope| {
            let pushed = scope.spawn(|| producer.push_timeout(3, Duration::MAX));
            assert_eq!((consumer.pop(), consumer.pop()), (Some(1), Some(3)));
            pushed.join().unwrap().unwrap();
        });
        drop(consumer);
        assert_eq!(producer.push_timeout(4, Duration::MAX), Err(Refused::Closed(4)));
    }
}

#[test]
fn a_push_to_nobody_gives_the_value_back() {
    let (mut producer, consumer) = spsc(2);
    drop(consumer);
    assert!(producer.is_closed());
    assert_eq!(producer.push(5), Err(Closed(5)));
}

#[test]
fn drops_what_is_left_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }
    for (pushed, popped) in [(0, 0), (8, 0), (8, 3), (5, 5)] {
        DROPPED.store(0, Ordering::SeqCst);
        let (mut producer, mut consumer) = spsc(8);
        assert_eq!(producer.push_iter((0..pushed).map(|_| Counted)), pushed);
        (0..popped).for_each(|_| drop(consumer.try_pop()));
        assert_eq!(DROPPED.load(Ordering::SeqCst), popped);
        drop(consumer);
        drop(producer);
        assert_eq!(DROPPED.load(Ordering::SeqCst), pushed);
    }
}

#[test]
fn an_iterator_is_asked_only_for_what_fits() {
    let (mut producer, mut consumer) = spsc(4);
    let mut source = 0..10;
    assert_eq!(producer.push_iter(&mut source), 4);
    assert_eq!(source.next(), Some(4));
    let mut popped = Vec::new();
    assert_eq!(consumer.pop_into(&mut popped, usize::MAX), 4);
    assert_eq!(popped, [0, 1, 2, 3]);
}

#[test]
fn indices_survive_wrap_around() {
    let (mut producer, mut consumer) = spsc(4);
    for index in [&producer.shared.head, &producer.shared.tail] {
        index.store(usize::MAX - 1, Ordering::SeqCst);
    }
    (producer.head, producer.tail, consumer.head, consumer.tail) = (usize::MAX - 1, usize::MAX - 1, usize::MAX - 1, usize::MAX - 1);
    assert_eq!(producer.push_slice(&[1, 2, 3, 4, 5]), 4);
    assert_eq!(producer.len(), 4);
    let mut popped = Vec::new();
    assert_eq!(consumer.pop_into(&mut popped, 3), 3);
    assert_eq!(consumer.try_pop(), Some(4));
    assert_eq!(popped, [1, 2, 3]);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u32>),
    PushIter(Vec<u32>),
    TryPush(u32),
    Pop(usize),
    TryPop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let values = || proptest::collection::vec(any::<u32>(), 0..12);
    let step = prop_oneof![
        values().prop_map(Step::Push),
        values().prop_map(Step::PushIter),
        any::<u32>().prop_map(Step::TryPush),
        (0usize..12).prop_map(Step::Pop),
        Just(Step::TryPop),
    ];
    proptest::collection::vec(step, 0..100)
}

proptest! {
    #[test]
    fn does_what_a_bounded_queue_does(capacity in 1usize..10, steps in steps()) {
        let (mut producer, mut consumer) = spsc(capacity);
        let mut model = VecDeque::new();
        for step in steps {
            let room = producer.capacity() - model.len();
            match step {
                Step::Push(values) => {
                    prop_assert_eq!(producer.push_slice(&values), values.len().min(room));
                    model.extend(values.into_iter().take(room));
                }
                Step::PushIter(values) => {
                    prop_assert_eq!(producer.push_iter(values.iter().copied()), values.len().min(room));
                    model.extend(values.into_iter().take(room));
                }
                Step::TryPush(value) => {
                    prop_assert_eq!(producer.try_push(value).is_ok(), room > 0);
                    model.extend((room > 0).then_some(value));
                }
                Step::Pop(max) => {
                    let mut popped = Vec::new();
                    let count = consumer.pop_into(&mut popped, max);
                    prop_assert_eq!(count, popped.len());
                    let expected: Vec<u32> = model.drain(..max.min(model.len())).collect();
                    prop_assert_eq!(popped, expected);
                }
                Step::TryPop => prop_assert_eq!(consumer.try_pop(), model.pop_front()),
            }
            prop_assert_eq!(producer.len(), model.len());
        }
    }
}
