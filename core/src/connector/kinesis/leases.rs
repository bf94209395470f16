//! Leases in DynamoDB: what [`table`](super::table) decides is asked and written here.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};

use super::event::Wanted;
use super::failure;
use super::lease::{Attribute, COUNTER, Expect, Item, KEY, Kind, Lease, OWNER, Write};
use super::position::Checkpoint;
use super::session::Session;
use super::shards::Shard;
use super::table::{Change, Table};
use crate::error::{Error, Result};

/// How long a table may take to be made, in steps of a quarter of a second.
const TABLE_TRIES: usize = 480;
const TABLE_PAUSE: Duration = Duration::from_millis(250);
/// How long the lease of a shard outlives its use: longer than it takes to list shards and leases.
const DELETE_AFTER: Duration = Duration::from_secs(120);

/// The leases of an application, as this program knows and wants them.
pub(super) struct Leases {
    table: Table,
    /// How often the table is read: twice within the time that a lease lasts.
    scan_every: u64,
    scan_at: u64,
    is_scanning: bool,
    /// Whether the table was read since it was last decided what to take.
    may_take: bool,
    /// Shards that are to be read now, by anybody.
    wanted: BTreeSet<String>,
    /// Writes that wait for their turn, leases to give up, leases to delete and when, and checkpoints to write.
    creates: VecDeque<Write>,
    releases: BTreeSet<String>,
    deletes: BTreeMap<String, u64>,
    /// Leases that were made since the scan was asked for which is under way.
    made: BTreeSet<String>,
    checkpoints: BTreeMap<String, Checkpoint>,
    children: BTreeMap<String, Vec<String>>,
    /// Checkpoints that are on their way.
    writing: BTreeSet<String>,
    /// The request for checkpoints that is not done, and whether it is the last.
    asked: u64,
    done: u64,
    is_last: bool,
    failed: Option<Error>,
    /// Whether the table does not answer, so that it is said once.
    in_trouble: bool,
    me: String,
}

/// What the table says.
#[derive(Default)]
pub(super) struct Scanned {
    /// All shards that it has.
    pub shards: Vec<Shard>,
    /// How far those are that others read, or nobody.
    pub others: Vec<(String, Checkpoint)>,
    /// Shards that it had and has no more.
    pub gone: Vec<String>,
}

/// What is to be asked of DynamoDB.
pub(super) enum Job {
    Scan,
    Write(Box<Write>),
}

/// What became of a write.
pub(super) enum Outcome {
    Done,
    /// The row was not as expected.
    Refused,
    /// It was not done.
    Failed(Error),
    /// Nobody knows.
    Unanswered(Error),
}

impl Leases {
    /// Finds the table or makes it, and reads it.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be had, or holds what is no lease.
    pub async fn begin(at: &At, me: String, failover: Duration, now: u64) -> Result<(Leases, BTreeMap<String, Checkpoint>)> {
        at.make().await?;
        let list = at.scan().await?;
        let checkpoints = list.iter().map(|lease| (lease.key.clone(), lease.checkpoint.clone())).collect();
        let failover = failover.as_nanos() as u64;
        let mut table = Table::new(me.clone(), failover);
        table.listed(list, now);
        let leases = Leases {
            table,
            scan_every: failover / 2,
            scan_at: now + failover / 2,
            is_scanning: false,
            may_take: true,
            wanted: BTreeSet::new(),
            creates: VecDeque::new(),
            releases: BTreeSet::new(),
            deletes: BTreeMap::new(),
            made: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
            children: BTreeMap::new(),
            writing: BTreeSet::new(),
            asked: 0,
            done: 0,
            is_last: false,
            failed: None,
            in_trouble: false,
            me,
        };
        Ok((leases, checkpoints))
    }

    /// Whether the shard is for this program to read.
    pub fn holds(&self, id: &str, now: u64) -> bool {
        self.table.holds(id, now)
    }

    /// The checkpoint of a shard, as the table has it.
    pub fn checkpoint(&self, id: &str) -> Option<&Checkpoint> {
        self.table.lease(id).map(|lease| &lease.checkpoint)
    }

    /// The shards that are to be read now.
    pub fn want(&mut self, ids: impl Iterator<Item = String>) {
        let wanted = ids.collect();
        if self.wanted != wanted {
            // What has become readable is taken at once; but the table is read before, as the row may have changed.
            self.scan_at = 0;
        }
        self.wanted = wanted;
    }

    /// Makes the lease of a new shard; `mine` if its parents were read here, so that it is ready before their checkpoints say so.
    pub fn create(&mut self, shard: &Shard, checkpoint: Checkpoint, mine: bool, now: u64) {
        let mut lease = Lease::new(shard, checkpoint);
        lease.owner = mine.then(|| self.me.clone());
        self.creates.push_back(lease.create(now));
    }

    /// The shards that took over from one that is read to its end.
    pub fn born(&mut self, parent: &str, children: Vec<String>) {
        self.children.insert(parent.to_owned(), children);
    }

    /// Deletes the lease of a shard that is of no more use, after a while: a program that has read the table before may still go by it, and
    /// would take the shard for new.
    pub fn forget(&mut self, id: &str, now: u64) {
        self.deletes.insert(id.to_owned(), now + DELETE_AFTER.as_nanos() as u64);
        self.children.remove(id);
    }

    /// Takes over checkpoints to write, by shard.
    pub fn commit(&mut self, wanted: &Wanted, checkpoints: impl Iterator<Item = (String, Checkpoint)>) {
        self.checkpoints.extend(checkpoints);
        (self.asked, self.is_last) = (wanted.asked, wanted.last);
    }

    /// The requests for checkpoints that are done since the last call, with what failed. The last is done when no lease is held any more: a
    /// row that cannot be given up, as nobody knows whether it is ours, is waited for no longer than a lease lasts.
    pub fn take_done(&mut self, now: u64) -> Option<(u64, Option<Error>)> {
        let idle = self.checkpoints.is_empty() && self.writing.is_empty();
        let given_up = !self.is_last || self.table.leases().all(|lease| !self.table.holds(&lease.key, now));
        if self.asked == self.done || !(idle && given_up || self.failed.is_some()) {
            return None;
        }
        self.done = self.asked;
        Some((self.done, self.failed.take()))
    }

    /// What is to be asked now. `seed` is another number each time and in each program.
    pub fn jobs(&mut self, now: u64, seed: u64) -> Vec<Job> {
        let mut writes: Vec<Write> = self.creates.drain(..).collect();
        for (id, checkpoint) in std::mem::take(&mut self.checkpoints) {
            if !self.table.holds(&id, now) {
                // It is another's now, who reads on from the checkpoint before.
                continue;
            }
            let children = self.children.get(&id).map_or(&[][..], Vec::as_slice);
            match self.table.checkpoint(&id, checkpoint.clone(), children, now) {
                Some(write) => {
                    self.writing.insert(id);
                    writes.push(write);
                }
                None => drop(self.checkpoints.insert(id, checkpoint)),
            }
        }
        let due: Vec<String> = self.deletes.iter().filter(|(_, due)| **due <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.deletes.remove(&id);
            writes.extend(self.table.delete(&id, now));
        }
        for id in std::mem::take(&mut self.releases) {
            writes.extend(self.table.release(&id, now));
        }
        if self.is_last {
            let mine: Vec<String> =
                self.table.leases().filter(|lease| lease.owner.as_ref() == Some(&self.me)).map(|lease| lease.key.clone()).collect();
            let idle = mine.iter().filter(|id| !self.checkpoints.contains_key(*id));
            writes.extend(idle.filter_map(|id| self.table.release(id, now)));
        } else {
            writes.extend(self.table.renewals(now));
            if std::mem::take(&mut self.may_take) {
                let wanted = &self.wanted;
                writes.extend(self.table.takes(now, seed, |lease| wanted.contains(&lease.key)));
            }
        }
        let mut jobs: Vec<Job> = writes.into_iter().map(|write| Job::Write(Box::new(write))).collect();
        if now >= self.scan_at && !self.is_scanning {
            self.is_scanning = true;
            self.made.clear();
            jobs.push(Job::Scan);
        }
        jobs
    }

    /// Takes the table's rows in.
    ///
    /// # Errors
    /// If it cannot be read, and another try does not help.
    pub fn scanned(&mut self, list: Result<Vec<Lease>>, now: u64) -> Result<Scanned> {
        (self.is_scanning, self.scan_at) = (false, now + self.scan_every);
        let list = match list {
            Err(error) if error.is_retriable() => {
                self.trouble(&error);
                return Ok(Scanned::default());
            }
            list => list?,
        };
        self.in_trouble = false;
        let mut gone = self.table.listed(list, now).gone;
        gone.retain(|id| !self.made.contains(id));
        self.may_take = true;
        let others = self.table.leases().filter(|lease| !self.table.holds(&lease.key, now));
        Ok(Scanned {
            shards: self.table.leases().filter_map(Lease::shard).collect(),
            others: others.map(|lease| (lease.key.clone(), lease.checkpoint.clone())).collect(),
            gone,
        })
    }

    /// Takes note of what became of a write; returns the shard and checkpoint of a lease that was acquired by it.
    ///
    /// # Errors
    /// If it failed, and another try does not help.
    pub fn written(&mut self, write: &Write, outcome: Outcome) -> Result<Option<(String, Checkpoint)>> {
        let was_checkpoint = write.kind == Kind::Checkpoint && self.writing.remove(&write.key);
        let again = match outcome {
            Outcome::Done => {
                self.in_trouble = false;
                if write.kind == Kind::Create {
                    self.made.insert(write.key.clone());
                }
                if was_checkpoint && write.after.as_ref().is_some_and(|after| after.checkpoint == Checkpoint::ShardEnd) {
                    self.releases.insert(write.key.clone());
                }
                let acquired = self.table.done(write) == Change::Acquired;
                let lease = self.table.lease(&write.key).filter(|_| acquired);
                return Ok(lease.map(|lease| (lease.key.clone(), lease.checkpoint.clone())));
            }
            Outcome::Refused => {
                self.table.refused(write);
                self.scan_at = 0;
                return Ok(None);
            }
            Outcome::Failed(error) => {
                self.table.failed(write);
                error
            }
            Outcome::Unanswered(error) => {
                self.table.unanswered(write);
                self.scan_at = 0;
                error
            }
        };
        if !again.is_retriable() {
            return Err(again);
        }
        self.trouble(&again);
        match write.kind {
            Kind::Create => self.creates.push_back(write.clone()),
            Kind::Delete => drop(self.deletes.insert(write.key.clone(), 0)),
            Kind::Checkpoint if self.is_last => self.failed = Some(again),
            Kind::Checkpoint if was_checkpoint => {
                let checkpoint = write.after.as_ref().map(|after| after.checkpoint.clone());
                checkpoint.map(|checkpoint| self.checkpoints.entry(write.key.clone()).or_insert(checkpoint));
            }
            _ if self.is_last => self.failed = Some(again),
            _ => {}
        }
        Ok(None)
    }

    fn trouble(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            tracing::warn!(%error, "the lease table cannot be used now, and is tried again");
        }
    }
}

/// The table of an application.
#[derive(Clone)]
pub(super) struct At {
    pub session: Arc<Session>,
    pub name: String,
}

impl At {
    /// Makes the table if it is not there.
    async fn make(&self) -> Result<()> {
        let doing = format!("cannot make the lease table `{}`", self.name);
        for attempt in 0..TABLE_TRIES {
            let told = self.session.dynamodb.describe_table().table_name(&self.name).send().await;
            match told {
                Ok(told) if told.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) => return Ok(()),
                Err(error) if failure::is_missing(&error) && attempt == 0 => self.create(&doing).await?,
                Err(error) if !failure::is_missing(&error) => return Err(self.session.failed(&doing, &error)),
                _ => tokio::time::sleep(TABLE_PAUSE).await,
            }
        }
        Err(Error::connector(format!("{doing}: it does not become active within two minutes; see it in AWS's console")).retriable_if(true))
    }

    async fn create(&self, doing: &str) -> Result<()> {
        let unbuilt = |error| Error::config(format!("{doing}: {error}"));
        let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash).build().map_err(unbuilt)?;
        let text = AttributeDefinition::builder().attribute_name(KEY).attribute_type(ScalarAttributeType::S).build().map_err(unbuilt)?;
        let request = self.session.dynamodb.create_table().table_name(&self.name).billing_mode(BillingMode::PayPerRequest);
        match request.key_schema(key).attribute_definitions(text).send().await {
            // Another program was quicker.
            Err(error) if failure::code(&error) == Some("ResourceInUseException") => Ok(()),
            Err(error) => Err(self.session.failed(doing, &error)),
            Ok(_) => Ok(()),
        }
    }

    /// All leases.
    pub async fn scan(&self) -> Result<Vec<Lease>> {
        let doing = || format!("cannot read the lease table `{}`", self.name);
        let mut leases = Vec::new();
        let mut from = None;
        loop {
            let request = self.session.dynamodb.scan().table_name(&self.name).consistent_read(true).set_exclusive_start_key(from);
            let answer = request.send().await.map_err(|error| self.session.failed(&doing(), &error))?;
            for row in answer.items() {
                leases.extend(Lease::decode(&item(row)).map_err(|error| error.context(format!("table `{}`", self.name)))?);
            }
            from = answer.last_evaluated_key;
            if from.is_none() {
                return Ok(leases);
            }
        }
    }

    /// Writes one lease, if it is as expected.
    pub async fn write(&self, write: &Write) -> Outcome {
        let doing = format!("cannot write {} to the lease table `{}`", write.key, self.name);
        let (condition, mut names, mut values) = condition(&write.expect);
        let key = AttributeValue::S(write.key.clone());
        let failed = if write.kind == Kind::Delete {
            let request = self.session.dynamodb.delete_item().table_name(&self.name).key(KEY, key).condition_expression(condition);
            let request = request.set_expression_attribute_names(Some(names)).set_expression_attribute_values(some(values));
            request
                .send()
                .await
                .err()
                .map(|error| outcome(failure::code(&error), failure::is_unanswered(&error), self.session.failed(&doing, &error)))
        } else {
            let update = update(write, &mut names, &mut values);
            let request = self.session.dynamodb.update_item().table_name(&self.name).key(KEY, key).condition_expression(condition);
            let request = request.update_expression(update).set_expression_attribute_names(Some(names));
            let request = request.set_expression_attribute_values(some(values));
            request
                .send()
                .await
                .err()
                .map(|error| outcome(failure::code(&error), failure::is_unanswered(&error), self.session.failed(&doing, &error)))
        };
        failed.unwrap_or(Outcome::Done)
    }
}

type Names = HashMap<String, String>;
type Values = HashMap<String, AttributeValue>;

fn outcome(code: Option<&str>, is_unanswered: bool, error: Error) -> Outcome {
    match code {
        Some("ConditionalCheckFailedException") => Outcome::Refused,
        _ if is_unanswered => Outcome::Unanswered(error),
        _ => Outcome::Failed(error),
    }
}

/// DynamoDB takes no empty map.
fn some(values: Values) -> Option<Values> {
    (!values.is_empty()).then_some(values)
}

/// The condition of a write, with names and values by their place holders.
fn condition(expect: &Expect) -> (String, Names, Values) {
    let (mut names, mut values) = (Names::new(), Values::new());
    let text = match expect {
        Expect::Absent => {
            names.insert("#key".to_owned(), KEY.to_owned());
            "attribute_not_exists(#key)"
        }
        Expect::Is { owner, counter } => {
            names.extend([("#counter".to_owned(), COUNTER.to_owned()), ("#owner".to_owned(), OWNER.to_owned())]);
            values.insert(":counter".to_owned(), AttributeValue::N(counter.to_string()));
            match owner {
                Some(owner) => {
                    values.insert(":owner".to_owned(), AttributeValue::S(owner.clone()));
                    "#counter = :counter AND #owner = :owner"
                }
                None => "#counter = :counter AND attribute_not_exists(#owner)",
            }
        }
    };
    (text.to_owned(), names, values)
}

/// What a write changes: attributes that are not named stay as they are.
fn update(write: &Write, names: &mut Names, values: &mut Values) -> String {
    let mut set = Vec::new();
    for (number, (name, value)) in write.set.iter().enumerate() {
        names.insert(format!("#s{number}"), (*name).to_owned());
        values.insert(format!(":s{number}"), value_of(value));
        set.push(format!("#s{number} = :s{number}"));
    }
    let mut remove = Vec::new();
    for (number, name) in write.remove.iter().enumerate() {
        names.insert(format!("#r{number}"), (*name).to_owned());
        remove.push(format!("#r{number}"));
    }
    let mut parts = Vec::new();
    if !set.is_empty() {
        parts.push(format!("SET {}", set.join(", ")));
    }
    if !remove.is_empty() {
        parts.push(format!("REMOVE {}", remove.join(", ")));
    }
    parts.join(" ")
}

fn value_of(attribute: &Attribute) -> AttributeValue {
    match attribute {
        Attribute::S(text) => AttributeValue::S(text.clone()),
        Attribute::N(digits) => AttributeValue::N(digits.clone()),
        Attribute::Ss(texts) => AttributeValue::Ss(texts.clone()),
    }
}

/// A row, less the attributes of types that no lease has.
fn item(row: &HashMap<String, AttributeValue>) -> Item {
    let known = |(name, value): (&String, &AttributeValue)| {
        let value = match value {
            AttributeValue::S(text) => Attribute::S(text.clone()),
            AttributeValue::N(digits) => Attribute::N(digits.clone()),
            AttributeValue::Ss(texts) => Attribute::Ss(texts.clone()),
            _ => return None,
        };
        Some((name.clone(), value))
    };
    row.iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_names_what_it_expects_and_changes() {
        let write = Write {
            key: "shardId-0".to_owned(),
            kind: Kind::Release,
            expect: Expect::Is { owner: Some("me".to_owned()), counter: 4 },
            set: vec![(COUNTER, Attribute::N("5".to_owned()))],
            remove: vec![OWNER],
            after: None,
            made: 0,
        };
        let (text, mut names, mut values) = condition(&write.expect);
        assert_eq!(text, "#counter = :counter AND #owner = :owner");
        assert_eq!(update(&write, &mut names, &mut values), "SET #s0 = :s0 REMOVE #r0");
        assert_eq!((names["#s0"].as_str(), names["#r0"].as_str(), names["#counter"].as_str()), (COUNTER, OWNER, COUNTER));
        assert_eq!((&values[":s0"], &values[":counter"]), (&AttributeValue::N("5".to_owned()), &AttributeValue::N("4".to_owned())));
        assert_eq!(condition(&Expect::Absent).0, "attribute_not_exists(#key)");
    }

    #[test]
    fn what_no_lease_has_is_left_out_of_a_row() {
        let row = HashMap::from([("a".to_owned(), AttributeValue::Bool(true)), ("b".to_owned(), AttributeValue::S("x".to_owned()))]);
        assert_eq!(item(&row), Item::from([("b".to_owned(), Attribute::S("x".to_owned()))]));
    }
}
