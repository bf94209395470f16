//! Sessions: rows of a key that follow each other closely. Pure bookkeeping of which session a row falls into.
//!
//! Rows at most `gap` apart are one session. A session ends once the watermark has reached its last row + gap: no row that is on
//! time can join it any more. So the sessions of rows that are on time depend on those rows alone, not on their order.

use std::fmt;
use std::time::Duration;

use super::timers::Timers;
use crate::error::{Error, Result};
use crate::time::Unit;

/// Which gap parts the sessions of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSpec {
    gap: Duration,
}

/// Sessions: the rows of a key of which each is at most `gap` after the one before. A window's end is its last row + gap, as Flink's.
///
/// A row that is behind the watermark still counts if it falls into a session that has not ended, or if its own would not have.
pub const fn session(gap: Duration) -> SessionSpec {
    SessionSpec { gap }
}

impl SessionSpec {
    /// The gap in the unit of a stream's event time.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is zero or finer than the unit.
    pub fn gap(&self, unit: Unit) -> Result<i64> {
        match unit.count(self.gap)? {
            0 => Err(Error::config("the gap between sessions must be longer than zero")),
            gap => Ok(gap),
        }
    }
}

impl fmt::Display for SessionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session({:?})", self.gap)
    }
}

/// No session.
const NOBODY: u32 = u32::MAX;

/// No bucket of timers: of slots without a session.
const NO_TIMER: i64 = i64::MIN;

/// Timers lie in buckets of this part of a gap: short enough that one is soon over, few enough that most are near.
const BUCKETS_PER_GAP: i64 = 64;

/// Keys to give to [`Sessions::look_up`] at a time.
pub(crate) const TOGETHER: usize = 64;

/// The open sessions of all keys. Keys and sessions have slots of their own.
#[derive(Debug)]
pub(crate) struct Sessions {
    gap: i64,
    /// By key: one of its sessions, which leads to the others.
    heads: Vec<u32>,
    /// Keys that have a session.
    keys: usize,
    /// By session.
    sessions: Vec<Session>,
    free: Vec<u32>,
    /// Sessions by when they may end. A session that has grown meanwhile is put into a later bucket.
    timers: Timers,
    /// Timers of sessions that have become part of others.
    stale: usize,
    /// Room for sessions that may have ended.
    looked: Vec<Ended>,
    /// Sessions that have become part of others since [`Sessions::take_merges`]: `(into, from)`, in the order to merge them.
    merges: Vec<(u32, u32)>,
}

/// One session.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// Event time of its earliest row.
    first: i64,
    /// Event time of its latest row.
    last: i64,
    /// Another session of the key.
    next: u32,
    key: u32,
    /// The bucket that its timer is in; [`NO_TIMER`] of slots without a session.
    timer: i64,
}

/// A session that has ended, or is put out as if it had.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended {
    pub slot: u32,
    pub key: u32,
    pub start: i64,
    pub end: i64,
    /// Whether no other session of its key follows it.
    is_last: bool,
}

impl Sessions {
    /// No sessions. `gap` is positive.
    pub fn new(gap: i64) -> Sessions {
        Sessions {
            gap,
            heads: Vec::new(),
            keys: 0,
            sessions: Vec::new(),
            free: Vec::new(),
            timers: Timers::new((gap / BUCKETS_PER_GAP).max(1)),
            stale: 0,
            looked: Vec::new(),
            merges: Vec::new(),
        }
    }

    /// Makes room for keys whose slots are below `keys`.
    pub fn reserve(&mut self, keys: usize) {
        self.heads.resize(keys.max(self.heads.len()), NOBODY);
    }

    /// One more than the greatest slot of a session.
    pub fn slots(&self) -> usize {
        self.sessions.len()
    }

    /// How many sessions there are.
    pub fn live(&self) -> usize {
        self.sessions.len() - self.free.len()
    }

    /// How many keys have a session.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The keys that have none, of all that there is room for.
    pub fn keys_without(&self) -> Vec<u32> {
        (0u32..).zip(&self.heads).filter(|(_, head)| **head == NOBODY).map(|(key, _)| key).collect()
    }

    /// Gives back memory that is kept for sessions to come.
    pub fn trim(&mut self) {
        self.timers.trim();
        self.looked = Vec::new();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slots = (self.heads.capacity() + self.free.capacity()) * size_of::<u32>();
        let looked = self.looked.capacity() * size_of::<Ended>();
        slots + looked + self.sessions.capacity() * size_of::<Session>() + self.timers.bytes()
    }

    /// Whether a key has a session.
    pub fn has_any(&self, key: u32) -> bool {
        self.heads[key as usize] != NOBODY
    }

    /// Looks at the sessions of some keys, so that they are near when their rows are placed.
    pub fn look_up(&self, keys: &[u32]) {
        let last = |&key: &u32| self.sessions.get(self.heads[key as usize] as usize).map_or(0, |session| session.last);
        std::hint::black_box(keys.iter().map(last).fold(0, |all, last| all ^ last));
    }

    /// The session that takes a row of `key` at `time`, when the watermark before it was `mark`; none if the row is late. A slot
    /// is not given out again before [`Sessions::take_merges`].
    #[inline]
    pub fn place(&mut self, key: u32, time: i64, mark: i64) -> Option<u32> {
        let head = self.heads[key as usize];
        if let Some(session) = self.sessions.get_mut(head as usize)
            && session.next == NOBODY
            && self.gap >= time.saturating_sub(session.last)
            && self.gap >= session.first.saturating_sub(time)
            && session.last.saturating_add(self.gap) > mark
        {
            (session.first, session.last) = (session.first.min(time), session.last.max(time));
            return Some(head);
        }
        self.place_among(key, time, mark)
    }

    /// The same among any number of sessions.
    fn place_among(&mut self, key: u32, time: i64, mark: i64) -> Option<u32> {
        let (mut into, mut before, mut at) = (NOBODY, NOBODY, self.heads[key as usize]);
        while at != NOBODY {
            let session = self.sessions[at as usize];
            let near = time.saturating_sub(session.last) <= self.gap && session.first.saturating_sub(time) <= self.gap;
            if near && session.last.saturating_add(self.gap) > mark {
                if into == NOBODY {
                    into = at;
                } else {
                    let target = &mut self.sessions[into as usize];
                    (target.first, target.last) = (target.first.min(session.first), target.last.max(session.last));
                    self.sessions[before as usize].next = session.next;
                    self.sessions[at as usize].timer = NO_TIMER;
                    self.stale += 1;
                    self.merges.push((into, at));
                    at = session.next;
                    continue;
                }
            }
            (before, at) = (at, session.next);
        }
        if into == NOBODY {
            return (time.saturating_add(self.gap) > mark).then(|| self.begin(key, time));
        }
        let target = &mut self.sessions[into as usize];
        (target.first, target.last) = (target.first.min(time), target.last.max(time));
        Some(into)
    }

    fn begin(&mut self, key: u32, time: i64) -> u32 {
        let (slots, head) = (self.sessions.len(), &mut self.heads[key as usize]);
        let taken = self.free.pop();
        let slot = taken.unwrap_or(slots as u32);
        let timer = self.timers.push(time.saturating_add(self.gap), slot);
        let session = Session { first: time, last: time, next: *head, key, timer };
        self.keys += usize::from(*head == NOBODY);
        *head = slot;
        match taken {
            Some(slot) => self.sessions[slot as usize] = session,
            None => self.sessions.push(session),
        }
        slot
    }

    /// Takes up a session that was open elsewhere; there is room for its key.
    pub fn restore(&mut self, key: u32, first: i64, last: i64) -> u32 {
        let slot = self.begin(key, first);
        self.sessions[slot as usize].last = last;
        slot
    }

    /// The sessions that are open, those of a key together: restored in this order, rows that join several of them merge them alike.
    pub fn open(&self) -> Vec<u32> {
        let mut open = Vec::new();
        for &head in &self.heads {
            let (start, mut at) = (open.len(), head);
            while at != NOBODY {
                open.push(at);
                at = self.sessions[at as usize].next;
            }
            open[start..].reverse();
        }
        open
    }

    /// The open sessions, in no more memory than they need and in the slots of their places in `open`, which is [`Sessions::open`]; with the keys
    /// that have any: these move together in this order.
    pub fn compacted(&self, open: &[u32]) -> (Sessions, Vec<u32>) {
        let (mut compacted, mut keys) = (Sessions::new(self.gap), Vec::new());
        for &slot in open {
            let Session { key, first, last, .. } = self.sessions[slot as usize];
            if keys.last() != Some(&key) {
                keys.push(key);
                compacted.reserve(keys.len());
            }
            compacted.restore((keys.len() - 1) as u32, first, last);
        }
        (compacted, keys)
    }

    /// Merges that whoever keeps the sessions' state has to follow, in this order; the slots of those merged away are free then.
    pub fn take_merges(&mut self) -> Vec<(u32, u32)> {
        self.free.extend(self.merges.iter().map(|(_, from)| *from));
        std::mem::take(&mut self.merges)
    }

    /// The sessions that the watermark has ended. They stay until [`Sessions::remove`].
    pub fn ended(&mut self, watermark: i64) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some((bucket, mut slots)) = self.timers.pop(watermark) {
            self.drop_stale(bucket, &mut slots);
            self.take_ended(watermark, &mut slots, &mut ended);
            slots.retain(|&slot| {
                let session = &mut self.sessions[slot as usize];
                let end = session.last.saturating_add(self.gap);
                let is_here = self.timers.bucket(end) == bucket;
                session.timer = if is_here { bucket } else { self.timers.push(end, slot) };
                is_here
            });
            if !slots.is_empty() {
                // The watermark is within the bucket.
                self.timers.put_back(bucket, slots);
                break;
            }
            self.timers.recycle(slots);
        }
        ended
    }

    /// Takes out the slots whose timer, of this bucket, is that of a session which is gone. The others have none then.
    fn drop_stale(&mut self, bucket: i64, slots: &mut Vec<u32>) {
        if self.stale == 0 {
            return;
        }
        let before = slots.len();
        slots.retain(|&slot| {
            let timer = &mut self.sessions[slot as usize].timer;
            // A slot that is in use again may have another timer, even in the same bucket.
            let is_own = *timer == bucket;
            *timer = if is_own { NO_TIMER } else { *timer };
            is_own
        });
        self.stale -= before - slots.len();
    }

    /// Moves the sessions that have ended from `slots` to `ended`.
    ///
    /// Sessions lie anywhere in memory. They are read once, all that is asked of them later, and without a branch or a write in between: to
    /// guess wrongly whether one has ended would throw away the reads of those behind it, and writes wait for each other.
    fn take_ended(&mut self, watermark: i64, slots: &mut Vec<u32>, ended: &mut Vec<Ended>) {
        let mut looked = std::mem::take(&mut self.looked);
        looked.clear();
        looked.extend(slots.iter().map(|&slot| self.get(slot)));
        let (mut over, mut waiting) = (ended.len(), 0);
        ended.resize(over + slots.len(), Ended::default());
        for session in &looked {
            // Written to both lists, counted in one of them.
            (ended[over], slots[waiting]) = (*session, session.slot);
            over += usize::from(session.end <= watermark);
            waiting += usize::from(session.end > watermark);
        }
        self.looked = looked;
        ended.truncate(over);
        slots.truncate(waiting);
    }

    /// The earliest end of a session, as far as timers know.
    pub fn earliest_end(&self) -> Option<i64> {
        let open = self.timers.first()?.iter().map(|&slot| &self.sessions[slot as usize]).filter(|session| session.timer != NO_TIMER);
        open.map(|session| session.last.saturating_add(self.gap)).min()
    }

    /// A session as it would be put out now.
    #[inline]
    pub fn get(&self, slot: u32) -> Ended {
        let Session { first, last, next, key, .. } = self.sessions[slot as usize];
        Ended { slot, key, start: first, end: last.saturating_add(self.gap), is_last: next == NOBODY }
    }

    /// Forgets sessions that have ended; appends the keys that have none left to `keys`, in no order.
    pub fn remove(&mut self, ended: &[Ended], keys: &mut Vec<u32>) {
        self.free.extend(ended.iter().map(|session| session.slot));
        for &Ended { slot, key, is_last, .. } in ended {
            let mut at = self.heads[key as usize];
            // What was the last of its key's still is: nothing has begun since.
            let next = if is_last { NOBODY } else { self.sessions[slot as usize].next };
            if at == slot {
                self.heads[key as usize] = next;
            } else {
                while self.sessions[at as usize].next != slot {
                    at = self.sessions[at as usize].next;
                }
                self.sessions[at as usize].next = next;
            }
            if self.heads[key as usize] == NOBODY {
                self.keys -= 1;
                keys.push(key);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Sessions;

    fn ended(sessions: &mut Sessions, watermark: i64) -> Vec<(u32, i64, i64)> {
        let ended = sessions.ended(watermark);
        sessions.remove(&ended, &mut Vec::new());
        ended.iter().map(|session| (session.key, session.start, session.end)).collect()
    }

    #[test]
    fn a_session_ends_once_though_the_timer_of_one_that_is_gone_lies_beside_its_own() {
        let mut sessions = Sessions::new(6_400);
        sessions.reserve(2);
        let gone = sessions.place(0, 0, i64::MIN).unwrap();
        let whole = sessions.place(0, 10_000, i64::MIN).unwrap();
        assert_eq!(sessions.place(0, 5_000, i64::MIN), Some(whole));
        assert_eq!(sessions.take_merges(), [(whole, gone)]);
        // In its slot, and due in the same bucket.
        assert_eq!(sessions.place(1, 50, i64::MIN), Some(gone));
        assert_eq!((sessions.keys(), sessions.live()), (2, 2));
        assert_eq!(ended(&mut sessions, 6_449), []);
        assert_eq!(ended(&mut sessions, 6_500), [(1, 50, 6_450)]);
        assert_eq!((sessions.keys(), sessions.keys_without(), sessions.stale), (1, vec![1], 0));
        assert_eq!(ended(&mut sessions, i64::MAX), [(0, 0, 16_400)]);
        assert_eq!((sessions.keys(), sessions.live()), (0, 0));
    }

    #[test]
    fn of_sessions_of_a_key_each_ends_in_its_turn() {
        let mut sessions = Sessions::new(10);
        sessions.reserve(1);
        for time in [100, 0, 50, 75] {
            sessions.place(0, time, i64::MIN).unwrap();
        }
        assert_eq!(ended(&mut sessions, 59), [(0, 0, 10)]);
        let mut both = ended(&mut sessions, 85);
        both.sort_unstable();
        assert_eq!(both, [(0, 50, 60), (0, 75, 85)]);
        assert_eq!((sessions.keys(), sessions.earliest_end()), (1, Some(110)));
        assert_eq!(ended(&mut sessions, 110), [(0, 100, 110)]);
        assert_eq!(sessions.keys_without(), [0]);
    }
}
