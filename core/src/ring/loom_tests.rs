//! Every interleaving of small programs: nothing is lost, read twice, read half written, or slept through.

#![allow(clippy::unwrap_used)]

use super::sync::{model, thread};
use super::{Closed, Full, Receiver, Refused, Sender, mpsc, spsc};
use crate::config::WaitStrategy::Park;

#[test]
fn spsc_hands_over_in_order_and_sleeps_on_full_and_empty() {
    model(Some(3), || {
        let (mut producer, mut consumer) = spsc(1);
        let pushing = thread::spawn(move || {
            for value in 0..2 {
                producer.push(value).unwrap();
            }
        });
        assert_eq!(consumer.pop(), Some(0));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(consumer.pop(), None);
        pushing.join().unwrap();
    });
}

#[test]
fn spsc_batches_wrap_around() {
    model(None, || {
        let (mut producer, mut consumer) = spsc(2);
        producer.push_slice(&[0]);
        let pushing = thread::spawn(move || producer.push_slice(&[1, 2]));
        let mut popped = Vec::new();
        consumer.pop_into(&mut popped, 2);
        let pushed = pushing.join().unwrap();
        consumer.pop_into(&mut popped, 2);
        assert!(pushed == 1 || pushed == 2);
        assert_eq!(popped, (0..=pushed).collect::<Vec<_>>());
    });
}

#[test]
fn spsc_drops_what_is_left_once() {
    model(None, || {
        let token = std::sync::Arc::new(());
        let (mut producer, mut consumer) = spsc(2);
        let counted = token.clone();
        let pushing = thread::spawn(move || {
            for _ in 0..2 {
                let _ = producer.try_push(counted.clone());
            }
        });
        drop(consumer.try_pop());
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&token), 1);
    });
}

#[test]
fn spsc_wakes_a_producer_whose_consumer_goes() {
    model(None, || {
        let (mut producer, consumer) = spsc(1);
        producer.push(0).unwrap();
        let dropping = thread::spawn(move || drop(consumer));
        assert_eq!(producer.push(1), Err(Closed(1)));
        dropping.join().unwrap();
    });
}

fn push_on_a_thread(sender: Sender<u32>, values: &'static [u32]) -> thread::JoinHandle<usize> {
    thread::spawn(move || values.iter().filter(|value| sender.push(**value).is_ok()).count())
}

fn receive_all(mut receiver: Receiver<u32>) -> (Vec<u32>, u64) {
    let mut received = Vec::new();
    while let Some(value) = receiver.recv() {
        received.push(value);
    }
    (received, receiver.dropped())
}

#[test]
fn mpsc_wakes_a_sleeping_receiver_for_values_and_for_the_end() {
    model(Some(6), || {
        let (sender, receiver) = mpsc(2, Full::Fail, Park);
        let pushing = push_on_a_thread(sender, &[1, 2]);
        assert_eq!(receive_all(receiver), (vec![1, 2], 0));
        assert_eq!(pushing.join().unwrap(), 2);
    });
}

#[test]
fn mpsc_takes_each_value_of_two_senders_once() {
    model(Some(2), || {
        let (sender, mut receiver) = mpsc(2, Full::Fail, Park);
        let first = push_on_a_thread(sender.clone(), &[1]);
        let second = push_on_a_thread(sender, &[2]);
        let mut received: Vec<_> = receiver.recv().into_iter().collect();
        assert_eq!(first.join().unwrap() + second.join().unwrap(), 2);
        received.extend(receiver.try_recv());
        received.sort_unstable();
        assert_eq!(received, [1, 2]);
    });
}

#[test]
fn mpsc_wakes_a_sender_that_waits_for_space() {
    model(None, || {
        let (sender, mut receiver) = mpsc(2, Full::Block, Park);
        assert_eq!(sender.push_slice(&[0, 1]), 2);
        let pushing = push_on_a_thread(sender, &[2]);
        assert_eq!(receiver.try_recv(), Some(0));
        assert_eq!(pushing.join().unwrap(), 1);
        assert_eq!(receive_all(receiver), (vec![1, 2], 0));
    });
}

#[test]
fn mpsc_wakes_a_sender_whose_receiver_goes() {
    model(None, || {
        let (sender, receiver) = mpsc(2, Full::Block, Park);
        assert_eq!(sender.push_slice(&[0, 1]), 2);
        let dropping = thread::spawn(move || drop(receiver));
        assert_eq!(sender.push(2), Err(Refused::Closed(2)));
        dropping.join().unwrap();
    });
}

#[test]
fn mpsc_drops_the_oldest_while_the_receiver_reads() {
    model(None, || {
        let (sender, mut receiver) = mpsc(2, Full::DropOldest, Park);
        assert_eq!(sender.push_slice(&[0, 1]), 2);
        let pushing = push_on_a_thread(sender, &[2, 3]);
        let mut received = Vec::new();
        receiver.drain_into(&mut received, 2);
        assert_eq!(pushing.join().unwrap(), 2);
        let (rest, dropped) = receive_all(receiver);
        received.extend(rest);
        assert_eq!(received.len() as u64 + dropped, 4);
        assert!(received.is_sorted_by(|a, b| a < b) && received.ends_with(&[2, 3]), "{received:?}");
    });
}

#[test]
fn mpsc_drops_the_oldest_for_two_senders_at_once() {
    model(None, || {
        let (sender, receiver) = mpsc(2, Full::DropOldest, Park);
        assert_eq!(sender.push_slice(&[0, 1]), 2);
        let first = push_on_a_thread(sender.clone(), &[2]);
        let second = push_on_a_thread(sender, &[3]);
        assert_eq!(first.join().unwrap() + second.join().unwrap(), 2);
        let (mut received, dropped) = receive_all(receiver);
        received.sort_unstable();
        assert_eq!((received, dropped), (vec![2, 3], 2));
    });
}
