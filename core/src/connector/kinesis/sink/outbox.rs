//! What is to be sent, what is under way and what is to be sent again: decisions alone, without a clock and a service.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::rows::Spread;

/// Records of one request, at most: what Kinesis takes.
pub(super) const REQUEST_RECORDS: usize = 500;

/// Bytes of one request, at most, with keys: what Kinesis takes of every stream. A longer record goes alone.
pub(super) const REQUEST_BYTES: usize = 5 << 20;

/// Records and bytes that may wait or be under way: what [`super::delivery::REQUESTS`] requests hold, and as much for those that
/// are to be sent again.
const BUFFERED_RECORDS: usize = 8 * REQUEST_RECORDS;
const BUFFERED_BYTES: usize = 8 * REQUEST_BYTES;

/// The pause before a record is sent again the first time; twice as long before each that follows, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Records on their way. Times are nanoseconds of a clock that never goes back.
pub(super) struct Outbox<T> {
    fresh: VecDeque<Item<T>>,
    /// What was not delivered, by when it is to be sent again; the number tells those of one moment apart.
    again: BTreeMap<(u64, u64), Item<T>>,
    number: u64,
    /// Requests under way.
    requests: usize,
    /// Everything that was put in and is not delivered: records, those of users in them, bytes.
    records: usize,
    users: usize,
    bytes: usize,
    flushing: bool,
    patience: Duration,
    spread: Spread,
}

/// A record on its way.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) what: T,
    size: usize,
    /// Records of users in it.
    users: usize,
    /// When to give up.
    expires: u64,
    /// How often it was sent.
    tries: u32,
}

/// What to do now.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// These are to be sent by one request.
    Send(Vec<Item<T>>),
    /// Nothing, until something changes or this time has passed.
    Wait(Option<Duration>),
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate<T> {
    Delivered,
    Failed,
    /// It was delivered, and these of its users with their sizes have to be sent on their own all the same.
    Strayed(Vec<(T, usize)>),
}

impl<T> Outbox<T> {
    /// Nothing, and `patience` for each record that will be.
    pub(super) fn new(patience: Duration, spread: Spread) -> Outbox<T> {
        Outbox {
            fresh: VecDeque::new(),
            again: BTreeMap::new(),
            number: 0,
            requests: 0,
            records: 0,
            users: 0,
            bytes: 0,
            flushing: false,
            patience,
            spread,
        }
    }

    /// Users' records that are not delivered.
    pub(super) fn users(&self) -> usize {
        self.users
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.records >= BUFFERED_RECORDS || self.bytes >= BUFFERED_BYTES
    }

    /// Takes a record of so many bytes and of so many of users.
    pub(super) fn push(&mut self, what: T, size: usize, users: usize, now: u64) {
        let item = Item { what, size, users, expires: now.saturating_add(nanos(self.patience)), tries: 0 };
        self.count(&item);
        self.fresh.push_back(item);
    }

    fn count(&mut self, item: &Item<T>) {
        self.records += 1;
        self.users += item.users;
        self.bytes += item.size;
    }

    /// An item is delivered. There may be less than that, when everything was forgotten meanwhile.
    fn discount(&mut self, item: &Item<T>) {
        self.records = self.records.saturating_sub(1);
        self.users = self.users.saturating_sub(item.users);
        self.bytes = self.bytes.saturating_sub(item.size);
    }

    /// Whether everything is to be sent soon, or requests may wait until they are full.
    pub(super) fn flush(&mut self, flushing: bool) {
        self.flushing = flushing;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.fresh.clear();
        self.again.clear();
        (self.records, self.users, self.bytes) = (0, 0, 0);
    }

    /// What to send: a full request, or what there is if nothing is under way, so that slow streams of records do not wait.
    pub(super) fn next(&mut self, now: u64) -> Next<T> {
        let due = self.again.range(..=(now, u64::MAX)).map(|(_, item)| item);
        let (mut count, mut bytes, mut is_full) = (0, 0, false);
        for item in due.chain(&self.fresh) {
            is_full = count == REQUEST_RECORDS || (count > 0 && bytes + item.size > REQUEST_BYTES);
            if is_full {
                break;
            }
            (count, bytes) = (count + 1, bytes + item.size);
        }
        let later = self.again.range((now, u64::MAX)..).next().map(|((due, _), _)| Duration::from_nanos(due - now));
        if count == 0 || !(is_full || count == REQUEST_RECORDS || self.flushing || self.requests == 0) {
            return Next::Wait(later);
        }
        let mut request = Vec::with_capacity(count);
        while request.len() < count {
            let again = self.again.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove());
            let Some(item) = again.or_else(|| self.fresh.pop_front()) else { break };
            request.push(item);
        }
        self.requests += 1;
        Next::Send(request)
    }

    /// A request is over. Returns whether a record that failed has been tried for too long.
    pub(super) fn settle(&mut self, request: Vec<Item<T>>, fates: impl Iterator<Item = Fate<T>>, now: u64) -> bool {
        self.requests -= 1;
        let mut expired = false;
        for (mut item, fate) in request.into_iter().zip(fates) {
            match fate {
                Fate::Delivered => self.discount(&item),
                Fate::Failed => {
                    expired |= item.expires <= now;
                    item.tries += 1;
                    let due = now.saturating_add(nanos(self.pause(item.tries)));
                    self.send_again(item, due);
                }
                Fate::Strayed(strays) => {
                    self.discount(&item);
                    for (what, size) in strays {
                        let stray = Item { what, size, users: 1, expires: item.expires, tries: item.tries };
                        self.count(&stray);
                        self.send_again(stray, now);
                    }
                }
            }
        }
        expired
    }

    fn send_again(&mut self, item: Item<T>, due: u64) {
        self.number += 1;
        self.again.insert((due, self.number), item);
    }

    /// How long to wait after so many tries: between half of it and all, so that those who wait do not come back together.
    fn pause(&mut self, tries: u32) -> Duration {
        let whole = LONGEST_PAUSE.min(FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(16)));
        let half = nanos(whole) / 2;
        Duration::from_nanos(half + self.spread.next() % (half + 1))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config as ProptestConfig;

    use super::*;
    use crate::time::{millis, secs};

    fn sent<T>(next: Next<T>) -> Vec<Item<T>> {
        match next {
            Next::Send(request) => request,
            Next::Wait(_) => Vec::new(),
        }
    }

    #[test]
    fn a_request_is_full_or_alone() {
        let mut outbox = Outbox::new(secs(1), Spread::new());
        assert!(matches!(outbox.next(0), Next::Wait(None)));
        outbox.push(0, 10, 1, 0);
        let first = sent(outbox.next(0));
        assert_eq!(first.len(), 1, "nothing is under way");
        (0..REQUEST_RECORDS - 1).for_each(|_| outbox.push(1, 10, 1, 0));
        assert!(matches!(outbox.next(0), Next::Wait(None)), "it may become full");
        outbox.push(1, 10, 1, 0);
        let second = sent(outbox.next(0));
        assert_eq!(second.len(), REQUEST_RECORDS);
        [3 << 20, 2 << 20, 1].into_iter().for_each(|size| outbox.push(2, size, 1, 0));
        assert_eq!(sent(outbox.next(0)).len(), 2, "by bytes");
        outbox.push(3, REQUEST_BYTES + 1, 1, 0);
        outbox.flush(true);
        assert_eq!(sent(outbox.next(0)).len(), 1);
        assert_eq!(sent(outbox.next(0)).len(), 1, "longer than a request, alone");
        assert_eq!(outbox.users(), 1 + REQUEST_RECORDS + 4);
        assert!(!outbox.settle(first, [Fate::Delivered].into_iter(), 0));
        assert_eq!(outbox.users(), REQUEST_RECORDS + 4);
    }

    #[test]
    fn strays_are_sent_on_their_own() {
        let mut outbox = Outbox::new(secs(1), Spread::new());
        outbox.push("aggregated", 100, 7, 0);
        let request = sent(outbox.next(0));
        assert_eq!(outbox.users(), 7);
        outbox.settle(request, [Fate::Strayed(vec![("a", 10), ("b", 10)])].into_iter(), 5);
        assert_eq!((outbox.records, outbox.users, outbox.bytes), (2, 2, 20));
        let request = sent(outbox.next(5));
        assert_eq!(request.iter().map(|item| item.what).collect::<Vec<_>>(), ["a", "b"]);
        assert!(!outbox.settle(request, [Fate::Delivered, Fate::Delivered].into_iter(), 6));
        assert_eq!((outbox.records, outbox.users, outbox.bytes), (0, 0, 0));
    }

    #[test]
    fn pauses_grow_until_patience_ends() {
        let mut outbox = Outbox::new(secs(60), Spread::new());
        outbox.push((), 1, 1, 0);
        let (mut now, mut pauses) = (0, Vec::new());
        loop {
            let request = match outbox.next(now) {
                Next::Send(request) => request,
                Next::Wait(pause) => {
                    let pause = pause.expect("there is something");
                    pauses.push(pause);
                    now += nanos(pause);
                    continue;
                }
            };
            if outbox.settle(request, [Fate::Failed].into_iter(), now) {
                break;
            }
        }
        assert!(now >= nanos(secs(60)) && outbox.users() == 1);
        for (number, pause) in pauses.iter().enumerate() {
            let whole = LONGEST_PAUSE.min(millis(100 << number.min(10)));
            assert!((whole / 2..=whole).contains(pause), "{number}: {pause:?}");
        }
    }

    /// A service that takes some records and not others, asked by several at once, in a simulated time.
    fn simulate(sizes: &[usize], failures: &[u8]) {
        let mut outbox = Outbox::new(secs(3_600), Spread::new());
        let (mut delivered, mut tries) = (vec![0; sizes.len()], vec![0; sizes.len()]);
        let (mut now, mut next, mut lot) = (0, 0, 0);
        let mut under_way: VecDeque<Vec<Item<usize>>> = VecDeque::new();
        while delivered.contains(&0) {
            while next < sizes.len() && !outbox.is_full() {
                outbox.push(next, sizes[next], 1, now);
                next += 1;
            }
            outbox.flush(next == sizes.len());
            assert!(outbox.records <= BUFFERED_RECORDS && outbox.bytes < BUFFERED_BYTES + REQUEST_BYTES * 2);
            let asked = outbox.next(now);
            match asked {
                Next::Send(request) if under_way.len() < 3 => {
                    let bytes: usize = request.iter().map(|item| item.size).sum();
                    assert!((1..=REQUEST_RECORDS).contains(&request.len()) && (bytes <= REQUEST_BYTES || request.len() == 1));
                    under_way.push_back(request);
                    continue;
                }
                Next::Send(request) => under_way.push_back(request),
                Next::Wait(pause) if under_way.is_empty() => {
                    now += nanos(pause.expect("something is left"));
                    continue;
                }
                Next::Wait(_) => {}
            }
            let request = under_way.pop_front().expect("one is under way");
            now += 1_000_000;
            let fates: Vec<Fate<usize>> = request
                .iter()
                .map(|item| {
                    lot += 1;
                    let fails = tries[item.what] < 4 && failures[lot % failures.len()] > 150;
                    tries[item.what] += 1;
                    delivered[item.what] += usize::from(!fails);
                    if fails { Fate::Failed } else { Fate::Delivered }
                })
                .collect();
            assert!(!outbox.settle(request, fates.into_iter(), now));
        }
        assert!(delivered.iter().all(|count| *count == 1), "each once, as what was delivered is not sent again");
        assert_eq!((outbox.records, outbox.users, outbox.bytes), (0, 0, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn every_record_is_delivered_once(
            sizes in prop::collection::vec(prop_oneof![1usize..2_000, 1usize..6 << 20], 1..3_000),
            failures in prop::collection::vec(any::<u8>(), 1..500),
        ) {
            simulate(&sizes, &failures);
        }
    }
}
