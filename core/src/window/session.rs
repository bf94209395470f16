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
    /// By session.
    sessions: Vec<Session>,
    free: Vec<u32>,
    /// Sessions by when they may end. A session that has grown meanwhile is put into a later bucket.
    timers: Timers,
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

impl Sessions {
    /// No sessions. `gap` is positive.
    pub fn new(gap: i64) -> Sessions {
        Sessions {
            gap,
            heads: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            timers: Timers::new((gap / BUCKETS_PER_GAP).max(1)),
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

    /// Gives back memory that is kept for sessions to come.
    pub fn trim(&mut self) {
        self.timers.trim();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slots = self.heads.capacity() + self.free.capacity();
        slots * size_of::<u32>() + self.sessions.capacity() * size_of::<Session>() + self.timers.bytes()
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
        let session = Session { first: time, last: time, next: self.heads[key as usize], key, timer: NO_TIMER };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.sessions[slot as usize] = session;
                slot
            }
            None => {
                self.sessions.push(session);
                (self.sessions.len() - 1) as u32
            }
        };
        self.heads[key as usize] = slot;
        self.sessions[slot as usize].timer = self.timers.push(time.saturating_add(self.gap), slot);
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
    pub fn ended(&mut self, watermark: i64) -> Vec<u32> {
        let mut ended = Vec::new();
        self.timers.due(watermark, |slot, bucket, bucket_of| {
            let session = &mut self.sessions[slot as usize];
            let end = session.last.saturating_add(self.gap);
            if session.timer != bucket {
                return None; // Of a session that is gone.
            }
            let waits = Some(end).filter(|end| *end > watermark);
            session.timer = waits.map_or(NO_TIMER, bucket_of);
            ended.extend(waits.is_none().then_some(slot));
            waits
        });
        ended
    }

    /// The earliest end of a session, as far as timers know.
    pub fn earliest_end(&self) -> Option<i64> {
        let open = self.timers.first()?.iter().map(|&slot| &self.sessions[slot as usize]).filter(|session| session.timer != NO_TIMER);
        open.map(|session| session.last.saturating_add(self.gap)).min()
    }

    /// Key, start and end of a session.
    pub fn get(&self, slot: u32) -> (u32, i64, i64) {
        let session = &self.sessions[slot as usize];
        (session.key, session.first, session.last.saturating_add(self.gap))
    }

    /// Forgets sessions that have ended; appends the keys that have none left to `keys`, in no order.
    pub fn remove(&mut self, slots: &[u32], keys: &mut Vec<u32>) {
        for &slot in slots {
            let Session { key, next, .. } = self.sessions[slot as usize];
            let mut at = self.heads[key as usize];
            if at == slot {
                self.heads[key as usize] = next;
            } else {
                while self.sessions[at as usize].next != slot {
                    at = self.sessions[at as usize].next;
                }
                self.sessions[at as usize].next = next;
            }
            if self.heads[key as usize] == NOBODY {
                keys.push(key);
            }
        }
        self.free.extend_from_slice(slots);
    }
}
