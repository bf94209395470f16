//! The thread that reads: requests for shards, lists and leases side by side, on a runtime of its own.

mod reading;
mod sharing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use aws_sdk_kinesis::types::ChildShard;
use tokio::task::JoinSet;

pub(super) use self::reading::Reading;
use self::reading::descends;
use super::columns::Extras;
use super::event::{Checkpoints, Closing, Event};
use super::lease::{Lease, Write};
use super::leases::{At, Leases, Outcome};
use super::lookup;
use super::position::Checkpoint;
use super::pull::{Cursor, From, Pull, Pulled, Trouble};
use super::reel::{Into, Reel, Taken};
use super::session::Session;
use super::settings::Settings;
use super::shards::{Lineage, Shard};
use super::{End, OnExpired};
use crate::connector::records::{Chunk, Layout, Shared};
use crate::error::{Error, Result};
use crate::ring::Producer;
use crate::time::{SharedClock, SystemClock};

/// The longest wait for answers before another look at everything else, and that while the ring is full.
const IDLE: Duration = Duration::from_millis(50);
const CROWDED: Duration = Duration::from_millis(1);
/// How much later a shard is asked again that had nothing new.
const NOTHING_NEW: Duration = Duration::from_millis(200);
/// Iterators are used for five minutes at most; older ones are not tried.
const ITERATOR_AGE: Duration = Duration::from_secs(4 * 60);
/// Bytes on their way to the pipeline from which on no shard is asked, and shards that are asked at a time.
const MAX_WAITING_BYTES: usize = 32 << 20;
const MAX_ASKING: usize = 16;
/// How long a subscription may be silent: Kinesis says every few seconds that there is nothing new.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is said how far behind the shards are.
const BEHIND_EVERY: Duration = Duration::from_secs(1);

/// What the reading thread needs beside what is read.
pub(super) struct Setting {
    pub layout: Layout,
    pub shared: Arc<Shared>,
    pub checkpoints: Arc<Checkpoints>,
    pub ring: Producer<Event>,
    pub clock: SharedClock,
}

/// What an answer is to.
enum Answer {
    Listed(Result<Vec<Shard>>),
    Scanned(Result<Vec<Lease>>),
    Written(Box<Write>, Outcome),
    /// Of the reel that this number had at that opening, asked at that time.
    Pulled {
        number: u32,
        opening: u64,
        asked: u64,
        pulled: Result<Pulled, Trouble>,
    },
}

/// The state of the thread that reads.
pub(super) struct Reader {
    session: Arc<Session>,
    reading: Reading,
    setting: Setting,
    lineage: Lineage,
    /// The leases, if shards are shared out.
    sharing: Option<(Leases, At)>,
    /// The ARN of the consumer with enhanced fan-out.
    consumer: Option<String>,
    /// The shards that are being read, by their numbers, and the numbers of all that were.
    reels: BTreeMap<u32, Reel>,
    /// How many were opened so far.
    openings: u64,
    numbers: BTreeMap<String, u32>,
    /// Shards that a bounded read has done with, though they are not at their ends.
    done: BTreeSet<String>,
    /// Shards that the service does not know any more, until the list is had.
    gone: BTreeSet<String>,
    answers: JoinSet<Answer>,
    /// Shards that are asked.
    asking: usize,
    /// Events for which the ring has no room yet, and how many bytes of records they are.
    outbox: VecDeque<Event>,
    waiting_bytes: usize,
    paused: BTreeSet<u32>,
    is_listing: bool,
    list_at: u64,
    /// Whether the plan may have changed.
    is_stale: bool,
    /// When it is said again how far behind shards are, and what.
    behind_at: u64,
    behind: BTreeMap<u32, Duration>,
    until: Option<i64>,
    has_ended: bool,
    /// The clock that the service goes by.
    timer: SharedClock,
}

impl Reader {
    /// Reads until there is no more, something breaks or the source is gone.
    pub fn run(setting: Setting, reading: Reading, settings: &Settings) {
        let _closing = Closing(Arc::clone(&setting.checkpoints));
        let what = format!("stream `{}`", reading.stream);
        let session = match reading.stream.locate(settings).and_then(|settings| Session::connect(&settings)) {
            Ok(session) => Arc::new(session),
            Err(error) => {
                let mut ring = setting.ring;
                let _ = ring.push(Event::Failed(error.context(what)));
                return;
            }
        };
        let mut reader = Reader::new(Arc::clone(&session), reading, setting);
        let read = session.wait(reader.read()).and_then(|read| read);
        if let Err(error) = read {
            reader.outbox.push_back(Event::Failed(error));
            for event in std::mem::take(&mut reader.outbox) {
                if reader.setting.ring.push(event).is_err() {
                    break;
                }
            }
        }
    }

    fn new(session: Arc<Session>, reading: Reading, setting: Setting) -> Reader {
        let timer = SystemClock::shared();
        let until = reading.until(timer.wall() / 1_000_000);
        Reader {
            lineage: Lineage::new(reading.shards_start(), BTreeMap::new()),
            session,
            reading,
            setting,
            sharing: None,
            consumer: None,
            reels: BTreeMap::new(),
            openings: 0,
            numbers: BTreeMap::new(),
            done: BTreeSet::new(),
            gone: BTreeSet::new(),
            answers: JoinSet::new(),
            asking: 0,
            outbox: VecDeque::new(),
            waiting_bytes: 0,
            paused: BTreeSet::new(),
            is_listing: false,
            list_at: 0,
            is_stale: true,
            behind_at: 0,
            behind: BTreeMap::new(),
            until,
            has_ended: false,
            timer,
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.begin().await?;
        while !self.is_stopped() {
            self.hand_over();
            self.chores();
            self.follow_plan()?;
            self.ask();
            self.wait().await?;
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.setting.shared.stop.load(Relaxed) || self.setting.ring.is_closed()
    }

    /// Sees that there is such a stream, and what else is needed.
    async fn begin(&mut self) -> Result<()> {
        let Reading { stream, consumer, application, .. } = &self.reading;
        let list = lookup::shards(&self.session, stream).await?;
        if let Some(name) = consumer {
            self.consumer = Some(lookup::consumer(&self.session, stream, name).await?);
        }
        if let Some(application) = application.clone() {
            self.begin_sharing(application).await?;
        }
        let named = self.name_shards(&list)?;
        self.listed(Ok(list))?;
        self.make_leases(named, false);
        Ok(())
    }

    /// Makes entries of the shards that are named, when there are none yet.
    fn name_shards(&mut self, list: &[Shard]) -> Result<Vec<(String, Checkpoint)>> {
        let named: BTreeSet<String> = self.reading.places().map(|(id, _)| id.clone()).collect();
        if named.is_empty() || !self.lineage.checkpoints().is_empty() {
            return Ok(Vec::new());
        }
        if let Some(id) = list.iter().filter(|shard| !shard.closed).map(|shard| &shard.id).find(|id| !descends(list, id, &named)) {
            return Err(Error::config(format!(
                "`start` names neither {id} of stream `{}` nor a shard that it descends from; name one of every open shard",
                self.reading.stream
            )));
        }
        let named: Vec<_> = named.into_iter().map(|id| (id, Checkpoint::TrimHorizon)).collect();
        named.iter().for_each(|(id, checkpoint)| self.lineage.read_to(id, checkpoint.clone()));
        Ok(named)
    }

    /// Puts events into the ring, as long as it has room.
    fn hand_over(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            let bytes = if let Event::Records(chunk, _) = &event { chunk.bytes.len() } else { 0 };
            match self.setting.ring.try_push(event) {
                Ok(()) => self.waiting_bytes -= bytes,
                Err(event) => return self.outbox.push_front(event),
            }
        }
    }

    /// What is to be done beside reading.
    fn chores(&mut self) {
        let now = self.timer.monotonic();
        if let Some(paused) = self.setting.shared.take_pause() {
            self.paused = paused;
        }
        if now >= self.list_at && !self.is_listing && !self.has_ended {
            self.is_listing = true;
            let (session, stream) = (Arc::clone(&self.session), self.reading.stream.clone());
            self.answers.spawn(async move { Answer::Listed(lookup::shards(&session, &stream).await) });
        }
        if now >= self.behind_at && !self.behind.is_empty() {
            self.behind_at = now + BEHIND_EVERY.as_nanos() as u64;
            self.outbox.push_back(Event::Behind(self.behind.iter().map(|(number, behind)| (*number, *behind)).collect()));
        }
        self.see_to_leases(now);
    }

    /// Begins what is to be read, ends what is not, and says so if nothing is left.
    fn follow_plan(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_stale) {
            return Ok(());
        }
        let mut plan = self.lineage.plan();
        if !plan.expired.is_empty() {
            plan.expired.iter().try_for_each(|id| self.expired(id))?;
            plan = self.lineage.plan();
        }
        plan.forget.iter().for_each(|id| self.forget(id));
        let now = self.timer.monotonic();
        if let Some((leases, _)) = &mut self.sharing {
            leases.want(plan.read.iter().map(|(id, _)| id.clone()));
        }
        let mine = |id: &String| self.sharing.as_ref().is_none_or(|(leases, _)| leases.holds(id, now));
        let wanted: Vec<_> = plan.read.into_iter().filter(|(id, _)| mine(id) && !self.done.contains(id)).collect();
        let mut opened = Vec::new();
        for (id, checkpoint) in &wanted {
            let known = self.numbers.get(id).is_some_and(|number| self.reels.contains_key(number));
            if !known {
                opened.push(self.open(id, checkpoint));
            }
        }
        if !opened.is_empty() {
            self.outbox.push_back(Event::Opened(opened));
        }
        // What waits for shards of which a bounded read has had enough was not there when it began.
        let over = self.reading.end.is_some() && self.reels.is_empty() && wanted.is_empty();
        if over && !std::mem::replace(&mut self.has_ended, true) {
            self.outbox.push_back(Event::End);
        }
        Ok(())
    }

    /// Begins to read a shard; returns its number and what users call it.
    fn open(&mut self, id: &str, checkpoint: &Checkpoint) -> (u32, String) {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(id.to_owned()).or_insert(next);
        let range = self.lineage.shard(id).map_or(super::position::HashRange::ALL, |shard| shard.range);
        let now = self.timer.wall() / 1_000_000;
        self.openings += 1;
        let mut reel = Reel::new(id.to_owned(), (number, self.openings), range, checkpoint, self.reading.time(), now);
        if *checkpoint == Checkpoint::TrimHorizon
            && let Some((_, from)) = self.reading.places().find(|(named, _)| *named == id)
        {
            reel.from = from;
        }
        self.reels.insert(number, reel);
        (number, format!("{}/{id}", self.reading.stream))
    }

    /// A shard's records have gone before they were read.
    fn expired(&mut self, id: &str) -> Result<()> {
        self.gap(id)?;
        self.forget(id);
        if let Some(number) = self.numbers.get(id).copied()
            && self.reels.remove(&number).is_some()
        {
            self.outbox.push_back(Event::Ended { shard: number, for_good: true });
        }
        Ok(())
    }

    fn forget(&mut self, id: &str) {
        self.lineage.forget(id);
        let now = self.timer.monotonic();
        self.sharing.iter_mut().for_each(|(leases, _)| leases.forget(id, now));
    }

    /// Records of a shard have gone.
    fn gap(&mut self, id: &str) -> Result<()> {
        let stream = self.reading.stream.to_string();
        match self.reading.on_expired {
            OnExpired::Error => Err(Error::connector(format!(
                "records of {id} of stream `{stream}` have gone before they were read: the stream keeps them for its retention period; \
                 lengthen that, or go on with the oldest there are (`on_expired`), or read under another `application`"
            ))),
            OnExpired::TrimHorizon => {
                tracing::warn!(shard = id, stream, "records have gone before they were read; going on with the oldest there are");
                self.outbox.push_back(Event::Gap);
                Ok(())
            }
        }
    }

    /// Asks for records of shards that are due.
    fn ask(&mut self) {
        let now = self.timer.monotonic();
        let ready = |reel: &&mut Reel| !reel.asking && reel.pace.is_due(now) && !self.paused.contains(&reel.number);
        let mut due: Vec<&mut Reel> = self.reels.values_mut().filter(ready).collect();
        // Who has waited longest comes first, so that all have their turn.
        due.sort_by_key(|reel| reel.pace.due());
        for reel in due {
            if self.waiting_bytes >= MAX_WAITING_BYTES || (self.asking >= MAX_ASKING && self.consumer.is_none()) {
                break;
            }
            let too_old = ITERATOR_AGE.as_millis() as i64 <= self.timer.wall() / 1_000_000 - reel.answered;
            let cursor = reel.cursor.take().filter(|cursor| !(too_old && matches!(cursor, Cursor::Iterator(_))));
            if let Some(Cursor::Iterator(iterator)) = &cursor {
                reel.cursor = Some(Cursor::Iterator(iterator.clone()));
            }
            if cursor.is_none() && reel.from == From::Latest && too_old {
                reel.from = From::Time(reel.answered);
            }
            let pull = Pull {
                session: Arc::clone(&self.session),
                stream: self.reading.stream.clone(),
                shard: reel.id.clone(),
                from: reel.from.clone(),
                cursor,
                consumer: self.consumer.clone(),
                silence: SILENCE,
            };
            reel.asking = true;
            self.asking += 1;
            let (number, opening) = (reel.number, reel.opening);
            self.answers.spawn(async move { Answer::Pulled { number, opening, asked: now, pulled: pull.run().await } });
        }
    }

    /// Waits for answers, no longer than until something else is due, and takes them in.
    async fn wait(&mut self) -> Result<()> {
        let wait = if self.outbox.is_empty() { self.until_due() } else { CROWDED };
        let first = match self.answers.is_empty() {
            true => {
                tokio::time::sleep(wait).await;
                None
            }
            false => tokio::time::timeout(wait, self.answers.join_next()).await.ok().flatten(),
        };
        let mut next = first;
        while let Some(answer) = next {
            match answer {
                Ok(Answer::Listed(listed)) => self.listed(listed)?,
                Ok(Answer::Scanned(list)) => self.scanned(list)?,
                Ok(Answer::Written(write, outcome)) => self.written(&write, outcome)?,
                Ok(Answer::Pulled { number, opening, asked, pulled }) => self.pulled((number, opening), asked, pulled)?,
                Err(error) => {
                    return Err(Error::connector(format!(
                        "a request to Kinesis has panicked ({error}); this is a defect, please report it"
                    )));
                }
            }
            next = self.answers.try_join_next();
        }
        Ok(())
    }

    /// How long there is nothing to do, if no answer comes.
    fn until_due(&self) -> Duration {
        let now = self.timer.monotonic();
        let due = self.reels.values().filter(|reel| !reel.asking).map(|reel| reel.pace.due()).min().unwrap_or(u64::MAX);
        IDLE.min(Duration::from_nanos(due.saturating_sub(now)).max(CROWDED))
    }

    /// Takes a list of shards in.
    fn listed(&mut self, listed: Result<Vec<Shard>>) -> Result<()> {
        self.is_listing = false;
        self.list_at = self.timer.monotonic() + self.reading.discovery.as_nanos() as u64;
        let list = match listed {
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "the shards of the stream cannot be listed now");
                return Ok(());
            }
            listed => listed?,
        };
        let entries = self.lineage.listed(list);
        std::mem::take(&mut self.gone).iter().for_each(|id| self.lineage.gone(id));
        self.is_stale = true;
        self.make_leases(entries, false);
        Ok(())
    }

    /// Takes the answer of a shard in.
    fn pulled(&mut self, (number, opening): (u32, u64), asked: u64, pulled: Result<Pulled, Trouble>) -> Result<()> {
        self.asking -= 1;
        // A shard that was lost meanwhile, and may be ours again, is read from elsewhere.
        if self.reels.get(&number).is_none_or(|reel| reel.opening != opening) {
            return Ok(());
        }
        let Some(mut reel) = self.reels.remove(&number) else { return Ok(()) };
        reel.asking = false;
        let goes_on = match pulled {
            Ok(pulled) => self.take(&mut reel, asked, pulled)?,
            Err(trouble) => self.trouble(&mut reel, trouble)?,
        };
        if goes_on {
            self.reels.insert(number, reel);
        } else {
            self.behind.remove(&number);
        }
        Ok(())
    }

    /// Takes records in; returns whether there is more to come of the shard.
    fn take(&mut self, reel: &mut Reel, asked: u64, mut pulled: Pulled) -> Result<bool> {
        let wall = self.timer.wall() / 1_000_000;
        (reel.in_trouble, reel.answered, reel.cursor) = (false, wall, pulled.cursor.take());
        let bytes = pulled.records.iter().map(|record| record.data().as_ref().len() as u64).sum();
        let idle = pulled.records.is_empty().then_some(NOTHING_NEW);
        match reel.cursor {
            // What is pushed needs no pace.
            Some(Cursor::Subscription(_)) => {}
            _ => reel.pace.answered(asked, bytes, idle),
        }
        let over = self.take_records(reel, &pulled)?;
        if let Some(next) = pulled.next {
            reel.from = From::After(next);
        }
        if let Some(behind) = pulled.behind {
            self.behind.insert(reel.number, behind);
        }
        let (is_closed, caught_up) = (self.is_closed(reel), pulled.behind == Some(Duration::ZERO));
        // Services that stand in for Amazon's go on with a shard that takes no more records, and say that there are none.
        let at_end = pulled.end.or_else(|| (is_closed && caught_up && pulled.records.is_empty()).then(Vec::new));
        if let (Some(children), false) = (at_end, over) {
            return Ok(self.end(reel, children));
        }
        let caught_up = caught_up
            && !is_closed
            && self.reading.end.is_some_and(|end| match end {
                End::Latest => true,
                End::Timestamp(time) => wall >= time,
            });
        if over || caught_up {
            self.done.insert(reel.id.clone());
            self.outbox.push_back(Event::Ended { shard: reel.number, for_good: false });
            self.is_stale = true;
        }
        Ok(!(over || caught_up))
    }

    /// Whether the shard takes no more records, so far as is known.
    fn is_closed(&self, reel: &Reel) -> bool {
        self.lineage.shard(&reel.id).is_some_and(|shard| shard.closed)
    }

    /// Puts records into chunks; returns whether one of them is beyond the end of the read.
    fn take_records(&mut self, reel: &mut Reel, pulled: &Pulled) -> Result<bool> {
        let (mut chunk, mut extras) = (Chunk::default(), Extras::default());
        let layout = self.setting.layout;
        let mut over = false;
        for record in &pulled.records {
            if chunk.records.is_empty() {
                chunk.received = self.setting.clock.monotonic();
            }
            let mut taken = reel.take(record, self.until, Into { chunk: &mut chunk, extras: &mut extras, layout });
            if taken == Taken::Gap {
                self.gap(&reel.id)?;
                reel.pass_over_gap();
                taken = reel.take(record, self.until, Into { chunk: &mut chunk, extras: &mut extras, layout });
            }
            if taken == Taken::Beyond {
                over = true;
                break;
            }
            if chunk.is_full() {
                self.close(&mut chunk, &mut extras);
            }
        }
        self.close(&mut chunk, &mut extras);
        Ok(over)
    }

    fn close(&mut self, chunk: &mut Chunk, extras: &mut Extras) {
        if !chunk.records.is_empty() {
            self.waiting_bytes += chunk.bytes.len();
            self.outbox.push_back(Event::Records(std::mem::take(chunk), std::mem::take(extras)));
        }
    }

    /// A shard is read to its end, and its children take over.
    fn end(&mut self, reel: &Reel, children: Vec<ChildShard>) -> bool {
        self.outbox.push_back(Event::Ended { shard: reel.number, for_good: true });
        self.lineage.read_to(&reel.id, Checkpoint::ShardEnd);
        if let Some((leases, _)) = &mut self.sharing {
            leases.born(&reel.id, children.iter().map(|child| child.shard_id().to_owned()).collect());
        }
        let children: Vec<Shard> = children.iter().filter_map(|child| lookup::child(child).ok()).collect();
        let entries = self.lineage.born(children);
        self.is_stale = true;
        self.make_leases(entries, true);
        // What the answer does not tell the list does.
        self.list_at = 0;
        false
    }

    /// Deals with trouble; returns whether the shard is there at all.
    fn trouble(&mut self, reel: &mut Reel, trouble: Trouble) -> Result<bool> {
        let now = self.timer.monotonic();
        match trouble {
            Trouble::Expired => {
                reel.cursor = None;
                if reel.from == From::Latest {
                    reel.from = From::Time(reel.answered);
                }
            }
            Trouble::Gone(error) => {
                // The list tells whether it is the shard that has gone, or the stream, which ends the run.
                tracing::warn!(%error, "a shard has gone");
                self.gone.insert(reel.id.clone());
                self.list_at = 0;
                reel.pace.failed(now, self.chance(reel.number));
            }
            Trouble::Passing(error) => {
                if !std::mem::replace(&mut reel.in_trouble, true) {
                    tracing::warn!(%error, "a shard cannot be read now, and is asked again and again");
                }
                reel.pace.failed(now, self.chance(reel.number));
            }
            Trouble::Fatal(error) => return Err(error),
        }
        Ok(true)
    }

    /// A number that differs from one program, shard and moment to the next.
    fn chance(&self, number: u32) -> u64 {
        (self.timer.wall() as u64 ^ (u64::from(number) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
    }
}
