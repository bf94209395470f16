//! The thread that sends records.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use tokio::sync::Notify;

use super::outbox::{Fate, Item, Next, Outbox};
use super::parcel::{Map, Parcel};
use super::rows::{Entry, Spread};
use crate::connector::kinesis::address::Address;
use crate::connector::kinesis::session::Session;
use crate::connector::kinesis::{failure, lookup};
use crate::error::{Error, Result};
use crate::time::{SharedClock, SystemClock};

/// Requests under way at once: enough that the way to the service and back does not hold them up.
const REQUESTS: usize = 4;

/// Records on their way to one stream, sent by a thread of their own.
pub(super) struct Delivery {
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
}

/// What the pipeline's thread and the one that sends share.
struct Link {
    stream: Address,
    patience: Duration,
    clock: SharedClock,
    /// The shards that records are aggregated for, if they are.
    shards: Option<Mutex<Arc<Map>>>,
    state: Mutex<State>,
    /// Told when records were delivered or something failed.
    settled: Condvar,
    /// Told when there may be something to send.
    work: Notify,
    /// Told when nothing is to be sent any more.
    end: Notify,
}

struct State {
    outbox: Outbox<Parcel>,
    /// Why nothing is sent any more, until somebody has been told.
    failure: Option<Error>,
    is_over: bool,
}

/// What a request came to.
enum Answer {
    /// What became of each record, and why of the last that failed.
    Each(Vec<Fate<Parcel>>, Option<String>),
    /// All failed, and may be sent again.
    NotNow(String),
    /// All failed, and would again.
    Never(Error),
}

impl Delivery {
    /// Starts the thread. Records are aggregated if the stream's shards are given.
    ///
    /// # Errors
    /// If the operating system has none.
    pub(super) fn start(session: Session, stream: &Address, patience: Duration, shards: Option<Map>) -> Result<Delivery> {
        let state = State { outbox: Outbox::new(patience, Spread::new()), failure: None, is_over: false };
        let link = Arc::new(Link {
            stream: stream.clone(),
            patience,
            clock: SystemClock::shared(),
            shards: shards.map(|map| Mutex::new(Arc::new(map))),
            state: Mutex::new(state),
            settled: Condvar::new(),
            work: Notify::new(),
            end: Notify::new(),
        });
        let theirs = Arc::clone(&link);
        let run = move || {
            // Be it by a panic, the pipeline does not wait for a thread that has gone.
            let _over = Over(&theirs);
            theirs.send_all(&session);
        };
        let thread = std::thread::Builder::new().name("thalweg-kinesis".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::io("cannot start the thread that writes to Kinesis", error))?;
        Ok(Delivery { link, thread: Some(thread) })
    }

    /// Takes records, waiting for room.
    ///
    /// # Errors
    /// If records were not delivered, be it some before these.
    pub(super) fn send(&self, entries: Vec<Entry>) -> Result<()> {
        let parcels = match self.link.shards() {
            Some(shards) => shards.pack(entries)?,
            None => entries.into_iter().map(Parcel::plain).collect(),
        };
        let mut state = self.link.lock();
        for parcel in parcels {
            while state.outbox.is_full() && !state.is_over {
                self.link.work.notify_waiters();
                state = self.link.wait(state);
            }
            self.link.check(&mut state)?;
            let (size, users, now) = (parcel.entry.size(), parcel.users, self.link.clock.monotonic());
            state.outbox.push(parcel, size, users, now);
        }
        self.link.check(&mut state)?;
        self.link.work.notify_waiters();
        Ok(())
    }

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// As [`Delivery::send`].
    pub(super) fn flush(&self) -> Result<()> {
        let mut state = self.link.lock();
        state.outbox.flush(true);
        self.link.work.notify_waiters();
        while state.outbox.users() > 0 && !state.is_over {
            state = self.link.wait(state);
        }
        state.outbox.flush(false);
        self.link.check(&mut state)
    }
}

impl Drop for Delivery {
    /// Drops what was not sent.
    fn drop(&mut self) {
        self.link.finish(None);
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it was noticed.
            let _ = thread.join();
        }
    }
}

struct Over<'a>(&'a Link);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.finish(None);
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shards(&self) -> Option<Arc<Map>> {
        self.shards.as_ref().map(|shards| Arc::clone(&shards.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.settled.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, state: &mut State) -> Result<()> {
        match (state.failure.take(), state.is_over) {
            (Some(error), _) => Err(error),
            (None, true) => Err(Error::connector(format!("writing to stream `{}` has ended, as an error before this says", self.stream))),
            (None, false) => Ok(()),
        }
    }

    /// Nothing is sent any more.
    fn finish(&self, failure: Option<Error>) {
        let mut state = self.lock();
        if !state.is_over {
            (state.is_over, state.failure) = (true, failure);
            state.outbox.clear();
        }
        drop(state);
        self.settled.notify_all();
        self.end.notify_one();
    }

    /// Sends records until nothing is to be sent any more.
    fn send_all(&self, session: &Session) {
        let run = async {
            let mut end = pin!(self.end.notified());
            let mut senders: Vec<_> = (0..REQUESTS).map(|_| Box::pin(self.send_some(session))).collect();
            poll_fn(|context| {
                if end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                senders.retain_mut(|sender| sender.as_mut().poll(context).is_pending());
                if senders.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        if let Err(error) = session.wait(run) {
            self.finish(Some(error));
        }
    }

    /// One request after another.
    async fn send_some(&self, session: &Session) {
        loop {
            // Before the look, so that nothing is missed that changes after it.
            let changed = self.work.notified();
            match self.next() {
                None => return,
                Some(Next::Send(request)) => {
                    let answer = self.put(session, &request).await;
                    self.settle(request, answer);
                }
                Some(Next::Wait(None)) => changed.await,
                Some(Next::Wait(Some(pause))) => {
                    let _ = tokio::time::timeout(pause, changed).await;
                }
            }
        }
    }

    /// What to do, if not to end.
    fn next(&self) -> Option<Next<Parcel>> {
        let mut state = self.lock();
        let now = self.clock.monotonic();
        (!state.is_over).then(|| state.outbox.next(now))
    }

    async fn put(&self, session: &Session, request: &[Item<Parcel>]) -> Answer {
        let doing = || format!("cannot write to stream `{}`", self.stream);
        let mut records = Vec::with_capacity(request.len());
        for item in request {
            let Entry { data, partition_key, explicit_hash_key } = item.what.entry.clone();
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(data)).partition_key(partition_key);
            match entry.set_explicit_hash_key(explicit_hash_key).build() {
                Ok(entry) => records.push(entry),
                Err(error) => return Answer::Never(Error::connector(doing()).with_source(error)),
            }
        }
        let put = session.kinesis.put_records().set_stream_name(self.stream.name()).set_stream_arn(self.stream.arn());
        match put.set_records(Some(records)).send().await {
            Ok(answer) if answer.records().len() == request.len() => {
                let failed = answer.records().iter().rfind(|record| record.error_code().is_some());
                let why = failed.map(|record| session.scrubbed(&said(record)));
                match self.fates(session, request, answer.records()).await {
                    Ok(fates) => Answer::Each(fates, why),
                    Err(error) => Answer::Never(error),
                }
            }
            Ok(answer) => Answer::Never(Error::connector(format!(
                "{}: the service answers for {} records of {}; check `endpoint_url`",
                doing(),
                answer.records().len(),
                request.len()
            ))),
            Err(error) => {
                let retriable = failure::is_retriable(&error);
                let error = session.failed(&doing(), &error);
                if retriable { Answer::NotNow(error.to_string()) } else { Answer::Never(error) }
            }
        }
    }

    /// What became of each record of a request.
    async fn fates(&self, session: &Session, request: &[Item<Parcel>], results: &[PutRecordsResultEntry]) -> Result<Vec<Fate<Parcel>>> {
        let strayed = |parcel: &Parcel, result: &PutRecordsResultEntry| {
            result.error_code().is_none() && parcel.shard.is_some() && parcel.shard.as_deref() != result.shard_id()
        };
        let pairs = || request.iter().map(|item| &item.what).zip(results);
        // Shards were split or merged. Without an answer nothing is known of where records are, and all are sent again.
        let shards = match pairs().any(|(parcel, result)| strayed(parcel, result)) {
            true => lookup::shards(session, &self.stream).await.ok().map(|shards| Arc::new(Map::new(shards))),
            false => None,
        };
        let mut fates = Vec::with_capacity(request.len());
        for (parcel, result) in pairs() {
            fates.push(if result.error_code().is_some() {
                Fate::Failed
            } else if strayed(parcel, result) {
                let range = shards.as_ref().and_then(|shards| shards.range(result.shard_id()?));
                let sized = |stray: Parcel| {
                    let size = stray.entry.size();
                    (stray, size)
                };
                Fate::Strayed(parcel.strays(range)?.into_iter().map(sized).collect())
            } else {
                Fate::Delivered
            });
        }
        if let (Some(known), Some(shards)) = (&self.shards, shards) {
            tracing::debug!(stream = %self.stream, "shards were split or merged; records are aggregated for the new ones");
            *known.lock().unwrap_or_else(PoisonError::into_inner) = shards;
        }
        Ok(fates)
    }

    fn settle(&self, request: Vec<Item<Parcel>>, answer: Answer) {
        let count = request.len();
        let (fates, why) = match answer {
            Answer::Each(fates, why) => (fates, why),
            Answer::NotNow(why) => (vec![Fate::Failed; count], Some(why)),
            Answer::Never(error) => return self.finish(Some(error)),
        };
        if let Some(why) = &why {
            let failed = fates.iter().filter(|fate| matches!(fate, Fate::Failed)).count();
            tracing::debug!(stream = %self.stream, failed, why, "records were not delivered and are sent again");
        }
        let mut state = self.lock();
        let expired = state.outbox.settle(request, fates.into_iter(), self.clock.monotonic());
        let left = state.outbox.users();
        drop(state);
        match (expired, why) {
            (true, Some(why)) => self.finish(Some(
                Error::connector(format!(
                    "{left} records were not delivered to stream `{}`, of which the first have been tried for {:?} (`delivery_timeout`): {why}",
                    self.stream, self.patience
                ))
                .retriable_if(true),
            )),
            _ => {
                self.settled.notify_all();
                self.work.notify_waiters();
            }
        }
    }
}

/// Why a record was not taken, in the service's words.
fn said(record: &PutRecordsResultEntry) -> String {
    let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    format!("{}: {}", line(record.error_code().unwrap_or_default()), line(record.error_message().unwrap_or_default()))
}
