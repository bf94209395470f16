//! Leases: the rows of a table in DynamoDB by which several workers share the shards of a stream, and the writes that change them.
//!
//! Source: the Kinesis Client Library, versions 2 and 3 (`DynamoDBLeaseSerializer`, `DynamoDBLeaseRefresher`), whose names of attributes
//! and conditions are copied, so that its workers and tools can read the table. A row's key is the shard's id. Attributes that are not ours
//! stay as they are, since each write names what it sets and what it removes.
//!
//! Every write but that of a new row is on the condition that the row's owner and counter are as they were seen, and raises the counter. So
//! of two writes that follow from the same sight only one is done, and a worker that stood still for long writes nothing after its lease
//! was taken. (The KCL's conditions are the counter for takes, renewals and checkpoints, the owner for releases; ours are both for each.)

use std::collections::BTreeMap;

use super::position::{Checkpoint, HashRange};
use super::shards::Shard;
use crate::error::{Error, Result};

/// The attribute that is the key of the table, of type S.
pub(super) const KEY: &str = "leaseKey";
/// The worker's name; absent from a row that nobody owns.
pub(super) const OWNER: &str = "leaseOwner";
/// Raised by each write of the row's owner.
pub(super) const COUNTER: &str = "leaseCounter";
const SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
const CHECKPOINT: &str = "checkpoint";
const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";
const PARENTS: &str = "parentShardId";
const CHILDREN: &str = "childShardIds";
const RANGE_START: &str = "startingHashKey";
const RANGE_END: &str = "endingHashKey";
/// In tables of KCL 3: what a row is about, `LEASE` if it is one.
const ENTITY: &str = "entityType";
/// In tables of KCL 3: who may still checkpoint while a lease is handed over. Whoever takes the lease removes it.
const CHECKPOINT_OWNER: &str = "checkpointOwner";
/// What the KCL keeps of a checkpoint that is prepared and not done. A checkpoint that is done removes it.
const PENDING: [&str; 3] = ["pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState"];

/// A value of DynamoDB, of the types that leases have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    S(String),
    N(String),
    Ss(Vec<String>),
}

impl Attribute {
    fn number(number: u64) -> Attribute {
        Attribute::N(number.to_string())
    }
}

/// A row of the table, by the names of its attributes. Those of other types than [`Attribute`] has are left out.
pub(super) type Item = BTreeMap<String, Attribute>;

/// A shard's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    /// The shard's id.
    pub(super) key: String,
    pub(super) owner: Option<String>,
    pub(super) counter: u64,
    pub(super) owner_switches: u64,
    pub(super) checkpoint: Checkpoint,
    pub(super) parents: Vec<String>,
    /// Known once the shard is read to its end.
    pub(super) children: Vec<String>,
    /// Absent from rows that KCL 1 wrote.
    pub(super) range: Option<HashRange>,
}

impl Lease {
    /// A lease of `shard` that nobody owns yet.
    pub(super) fn new(shard: &Shard, checkpoint: Checkpoint) -> Lease {
        let (key, parents, range) = (shard.id.clone(), shard.parents.clone(), Some(shard.range));
        Lease { key, owner: None, counter: 0, owner_switches: 0, checkpoint, parents, children: Vec::new(), range }
    }

    /// The shard, as far as the row tells; `None` if it lacks the range of hash keys. Whether it is closed is not told.
    pub(super) fn shard(&self) -> Option<Shard> {
        let (id, parents) = (self.key.clone(), self.parents.clone());
        self.range.map(|range| Shard { id, parents, range, closed: false })
    }

    /// Reads a row; `None` if KCL 3 keeps something else in it than a lease.
    ///
    /// # Errors
    /// [`Kind::Decode`](crate::error::Kind::Decode) if an attribute is missing, of another type, or damaged.
    pub(super) fn decode(item: &Item) -> Result<Option<Lease>> {
        if text(item, ENTITY)?.is_some_and(|entity| entity != "LEASE") {
            return Ok(None);
        }
        let key = text(item, KEY)?.ok_or_else(|| Error::decode(format!("a row of the lease table has no {KEY}")))?;
        Lease::of(item, key).map(Some).map_err(|error| error.context(format!("lease {key}")))
    }

    fn of(item: &Item, key: &str) -> Result<Lease> {
        let needed = |name: &str| Error::decode(format!("{name} is missing; delete the row to read the shard anew"));
        let checkpoint = text(item, CHECKPOINT)?.ok_or_else(|| needed(CHECKPOINT))?;
        let range = match (text(item, RANGE_START)?, text(item, RANGE_END)?) {
            (Some(start), Some(end)) => Some(HashRange::parse(start, end)?),
            _ => None,
        };
        Ok(Lease {
            key: key.to_owned(),
            owner: text(item, OWNER)?.map(str::to_owned),
            counter: number(item, COUNTER)?.ok_or_else(|| needed(COUNTER))?,
            owner_switches: number(item, SWITCHES)?.unwrap_or(0),
            checkpoint: Checkpoint::from_fields(checkpoint, number(item, SUB_SEQUENCE)?.unwrap_or(0))?,
            parents: texts(item, PARENTS)?,
            children: texts(item, CHILDREN)?,
            range,
        })
    }

    /// Makes the row; refused if there is one.
    pub(super) fn create(&self, now: u64) -> Write {
        let mut set = vec![(COUNTER, Attribute::number(self.counter)), (SWITCHES, Attribute::number(self.owner_switches))];
        set.extend(self.place());
        set.extend(self.owner.iter().map(|owner| (OWNER, Attribute::S(owner.clone()))));
        for (name, ids) in [(PARENTS, &self.parents), (CHILDREN, &self.children)] {
            if !ids.is_empty() {
                set.push((name, Attribute::Ss(ids.clone())));
            }
        }
        if let Some(range) = self.range {
            set.extend([(RANGE_START, range.start), (RANGE_END, range.end)].map(|(name, key)| (name, Attribute::S(key.to_string()))));
        }
        Write {
            key: self.key.clone(),
            kind: Kind::Create,
            expect: Expect::Absent,
            set,
            remove: Vec::new(),
            after: Some(self.clone()),
            made: now,
        }
    }

    /// Takes the lease for the worker `me`, from its owner if it has one.
    pub(super) fn take(&self, me: &str, kind: Kind, now: u64) -> Write {
        let mut after = self.next();
        after.owner = Some(me.to_owned());
        after.owner_switches += u64::from(self.owner.as_deref().is_some_and(|owner| owner != me));
        let set = vec![(OWNER, Attribute::S(me.to_owned())), (SWITCHES, Attribute::number(after.owner_switches))];
        self.change(kind, set, vec![CHECKPOINT_OWNER], after, now)
    }

    /// Raises the counter, by which others see that the owner lives.
    pub(super) fn renew(&self, now: u64) -> Write {
        self.change(Kind::Renew, Vec::new(), Vec::new(), self.next(), now)
    }

    /// Writes how far the shard is read, and at its end its children.
    pub(super) fn checkpoint(&self, checkpoint: Checkpoint, children: &[String], now: u64) -> Write {
        let mut after = Lease { checkpoint, owner_switches: 0, ..self.next() };
        let mut set = vec![(SWITCHES, Attribute::number(0))];
        set.extend(after.place());
        if !children.is_empty() {
            after.children = children.to_vec();
            set.push((CHILDREN, Attribute::Ss(children.to_vec())));
        }
        self.change(Kind::Checkpoint, set, PENDING.to_vec(), after, now)
    }

    /// Gives the lease up, so that others need not wait until it expires.
    pub(super) fn release(&self, now: u64) -> Write {
        let after = Lease { owner: None, ..self.next() };
        self.change(Kind::Release, Vec::new(), vec![OWNER, CHECKPOINT_OWNER], after, now)
    }

    /// Deletes the row.
    pub(super) fn delete(&self, now: u64) -> Write {
        let (key, expect) = (self.key.clone(), self.seen());
        Write { key, kind: Kind::Delete, expect, set: Vec::new(), remove: Vec::new(), after: None, made: now }
    }

    fn next(&self) -> Lease {
        Lease { counter: self.counter + 1, ..self.clone() }
    }

    fn seen(&self) -> Expect {
        Expect::Is { owner: self.owner.clone(), counter: self.counter }
    }

    fn place(&self) -> [(&'static str, Attribute); 2] {
        let (checkpoint, sub_sequence) = self.checkpoint.to_fields();
        [(CHECKPOINT, Attribute::S(checkpoint.to_owned())), (SUB_SEQUENCE, Attribute::number(sub_sequence))]
    }

    fn change(&self, kind: Kind, mut set: Vec<(&'static str, Attribute)>, remove: Vec<&'static str>, after: Lease, now: u64) -> Write {
        set.push((COUNTER, Attribute::number(after.counter)));
        Write { key: self.key.clone(), kind, expect: self.seen(), set, remove, after: Some(after), made: now }
    }
}

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    /// Of a lease that nobody owns, or whose owner has not renewed it in time.
    Take,
    /// Of a lease whose owner lives and has more than others.
    Steal,
    Renew,
    Checkpoint,
    Release,
    Delete,
}

/// The condition of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expect {
    /// There is no such row: `attribute_not_exists(leaseKey)`.
    Absent,
    /// `leaseCounter` is `counter` and `leaseOwner` is `owner`, or absent.
    Is { owner: Option<String>, counter: u64 },
}

/// A conditional write of one row: an update that sets and removes attributes, or for [`Kind::Delete`] a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) expect: Expect,
    pub(super) set: Vec<(&'static str, Attribute)>,
    pub(super) remove: Vec<&'static str>,
    /// The lease when the write is done; none after a deletion.
    pub(super) after: Option<Lease>,
    /// When it was made, in nanoseconds: the hold on the lease counts from then, not from the answer.
    pub(super) made: u64,
}

fn wrong(name: &str, what: &str) -> Error {
    Error::decode(format!("{name} is not {what}; delete the row to read the shard anew"))
}

fn text<'i>(item: &'i Item, name: &str) -> Result<Option<&'i str>> {
    match item.get(name) {
        Some(Attribute::S(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "a string")),
        None => Ok(None),
    }
}

fn texts(item: &Item, name: &str) -> Result<Vec<String>> {
    match item.get(name) {
        Some(Attribute::Ss(texts)) => Ok(texts.clone()),
        Some(_) => Err(wrong(name, "a set of strings")),
        None => Ok(Vec::new()),
    }
}

fn number(item: &Item, name: &str) -> Result<Option<u64>> {
    match item.get(name) {
        Some(Attribute::N(digits)) => digits.parse().map(Some).map_err(|_| wrong(name, "a number from 0 to 2^64 - 1")),
        Some(_) => Err(wrong(name, "a number")),
        None => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::position::Sequence;
    use super::*;

    fn lease() -> Lease {
        let (sequence, sub_sequence) = (Sequence::parse("4959").unwrap(), 3);
        let (parents, children) = (vec!["p".to_owned()], vec!["c".to_owned(), "d".to_owned()]);
        let checkpoint = Checkpoint::After { sequence, sub_sequence };
        let range = Some(HashRange { start: 5, end: u128::MAX });
        Lease {
            key: "shardId-7".to_owned(),
            owner: Some("w".to_owned()),
            counter: 41,
            owner_switches: 2,
            checkpoint,
            parents,
            children,
            range,
        }
    }

    fn s(text: &str) -> Attribute {
        Attribute::S(text.to_owned())
    }

    fn n(digits: &str) -> Attribute {
        Attribute::N(digits.to_owned())
    }

    /// The whole row of a lease, as it is made.
    fn encode(lease: &Lease) -> Item {
        let key = (KEY.to_owned(), Attribute::S(lease.key.clone()));
        lease.create(0).set.into_iter().map(|(name, value)| (name.to_owned(), value)).chain([key]).collect()
    }

    #[test]
    fn a_row_is_as_the_kcl_has_it() {
        let row = [
            ("leaseKey", s("shardId-7")),
            ("leaseOwner", s("w")),
            ("leaseCounter", n("41")),
            ("ownerSwitchesSinceCheckpoint", n("2")),
            ("checkpoint", s("4959")),
            ("checkpointSubSequenceNumber", n("3")),
            ("parentShardId", Attribute::Ss(vec!["p".to_owned()])),
            ("childShardIds", Attribute::Ss(vec!["c".to_owned(), "d".to_owned()])),
            ("startingHashKey", s("5")),
            ("endingHashKey", s("340282366920938463463374607431768211455")),
        ];
        let row: Item = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(encode(&lease()), row);
        assert_eq!(Lease::decode(&row).unwrap(), Some(lease()));
    }

    /// What workers of KCL 2.7.2 and 3.5.1 have written of shards, as `make kcl` runs them: one that was read to its end, and a child of it.
    #[test]
    fn rows_that_the_kcl_has_written_are_read() {
        let [one, two, three] = [0, 1, 2].map(|number| format!("shardId-{number:012}"));
        let top = "340282366920938463463374607431768211455";
        let parent = [
            ("checkpoint", s("SHARD_END")),
            ("checkpointSubSequenceNumber", n("0")),
            ("childShardIds", Attribute::Ss(vec![three.clone(), two.clone()])),
            ("endingHashKey", s(top)),
            ("leaseCounter", n("14")),
            ("leaseKey", s(&one)),
            ("leaseOwner", s("kcl-5")),
            ("ownerSwitchesSinceCheckpoint", n("0")),
            ("startingHashKey", s("0")),
        ];
        let child = [
            ("checkpoint", s("57")),
            ("checkpointSubSequenceNumber", n("6")),
            ("endingHashKey", s(top)),
            ("leaseCounter", n("3")),
            ("leaseKey", s(&three)),
            ("leaseOwner", s("kcl-5")),
            ("ownerSwitchesSinceCheckpoint", n("0")),
            ("parentShardId", Attribute::Ss(vec![one.clone()])),
            ("startingHashKey", s("170141183460469231731687303715884105728")),
        ];
        let after = |number| Checkpoint::After { sequence: Sequence::parse(number).unwrap(), sub_sequence: 6 };
        let owned = |key: &String, counter, checkpoint, range| Lease {
            key: key.clone(),
            owner: Some("kcl-5".to_owned()),
            counter,
            owner_switches: 0,
            checkpoint,
            parents: Vec::new(),
            children: Vec::new(),
            range: Some(range),
        };
        let whole = Lease { children: vec![three.clone(), two], ..owned(&one, 14, Checkpoint::ShardEnd, HashRange::ALL) };
        let upper = HashRange { start: 1 << 127, end: u128::MAX };
        let half = Lease { parents: vec![one.clone()], ..owned(&three, 3, after("57"), upper) };
        let of_3 = [("entityType", s("LEASE")), ("throughputKBps", n("0.135216"))];
        for more in [&[][..], &of_3] {
            let read = |row: &[(&str, Attribute)]| {
                let row: Item = row.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                Lease::decode(&row).unwrap()
            };
            assert_eq!((read(&parent), read(&child)), (Some(whole.clone()), Some(half.clone())));
        }
    }

    /// What else KCL 3.5.1 keeps in the table, less the attributes that are maps and lists.
    #[test]
    fn what_kcl_3_keeps_beside_leases_is_passed_over() {
        let migration = [
            ("cv", s("CLIENT_VERSION_UPGRADE_FROM_2X")),
            ("entityType", s("CLIENT_VERSION_MIGRATION")),
            ("leaseKey", s("Migration3.0")),
            ("mb", s("kcl-1")),
            ("mts", n("1795826974457")),
        ];
        let worker = [("entityType", s("WORKER_METRIC_STATS")), ("leaseKey", s("kcl-1")), ("lut", n("1795826976")), ("sup", n("1"))];
        for row in [&migration[..], &worker] {
            let row = row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!(Lease::decode(&row).unwrap(), None);
        }
    }

    #[test]
    fn a_new_row_has_what_is_known_and_no_empty_sets() {
        let shard = Shard { id: "a".to_owned(), parents: vec![], range: HashRange::ALL, closed: false };
        let write = Lease::new(&shard, Checkpoint::TrimHorizon).create(9);
        assert_eq!((write.kind, &write.expect, write.made), (Kind::Create, &Expect::Absent, 9));
        let names: Vec<&str> = write.set.iter().map(|(name, _)| *name).collect();
        let expected = ["leaseCounter", SWITCHES, CHECKPOINT, SUB_SEQUENCE, RANGE_START, RANGE_END];
        assert_eq!(names, expected);
        let old = Item::from([(KEY, s("a")), (COUNTER, n("0")), (CHECKPOINT, s("LATEST"))].map(|(name, value)| (name.to_owned(), value)));
        let lease = Lease::decode(&old).unwrap().unwrap();
        assert_eq!((lease.shard(), Lease::new(&shard, Checkpoint::Latest).shard()), (None, Some(shard)));
        assert_eq!((lease.owner, lease.range, lease.checkpoint), (None, None, Checkpoint::Latest));
    }

    #[test]
    fn rows_that_are_no_leases_are_passed_over_and_damage_is_told() {
        let mut row = encode(&lease());
        row.insert("entityType".to_owned(), s("LEADER"));
        assert_eq!(Lease::decode(&row).unwrap(), None);
        row.insert("entityType".to_owned(), s("LEASE"));
        assert_eq!(Lease::decode(&row).unwrap(), Some(lease()));
        for (name, value, why) in [
            ("leaseCounter", s("41"), "lease shardId-7: leaseCounter is not a number"),
            ("leaseCounter", n("-1"), "lease shardId-7: leaseCounter is not a number from 0"),
            ("leaseOwner", n("1"), "lease shardId-7: leaseOwner is not a string"),
            ("parentShardId", s("p"), "lease shardId-7: parentShardId is not a set of strings"),
            ("checkpoint", s("END"), "lease shardId-7: a checkpoint is"),
            ("endingHashKey", s("x"), "is not a hash key"),
        ] {
            let mut row = row.clone();
            row.insert(name.to_owned(), value);
            let error = Lease::decode(&row).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        for (name, why) in
            [("leaseKey", "has no leaseKey"), ("leaseCounter", "leaseCounter is missing"), ("checkpoint", "checkpoint is missing")]
        {
            let mut row = row.clone();
            row.remove(name);
            let error = Lease::decode(&row).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn each_write_sets_what_the_kcl_sets() {
        let lease = lease();
        let expect = Expect::Is { owner: Some("w".to_owned()), counter: 41 };
        let take = lease.take("me", Kind::Steal, 5);
        assert_eq!(take.set, [(OWNER, s("me")), (SWITCHES, n("3")), (COUNTER, n("42"))]);
        assert_eq!((&take.expect, &take.remove[..], take.made), (&expect, &["checkpointOwner"][..], 5));
        let free = Lease { owner: None, ..lease.clone() };
        assert_eq!(free.take("me", Kind::Take, 5).set[1], (SWITCHES, n("2")));
        assert_eq!(free.take("me", Kind::Take, 5).expect, Expect::Is { owner: None, counter: 41 });

        let renew = lease.renew(6);
        assert_eq!((&renew.set[..], &renew.remove[..], &renew.expect), (&[(COUNTER, n("42"))][..], &[][..], &expect));

        let end = lease.checkpoint(Checkpoint::ShardEnd, &["x".to_owned()], 7);
        let children = (CHILDREN, Attribute::Ss(vec!["x".to_owned()]));
        assert_eq!(end.set, [(SWITCHES, n("0")), (CHECKPOINT, s("SHARD_END")), (SUB_SEQUENCE, n("0")), children, (COUNTER, n("42"))]);
        assert_eq!((&end.remove[..], &end.expect), (&PENDING[..], &expect));

        let release = lease.release(8);
        assert_eq!((&release.set[..], &release.remove[..]), (&[(COUNTER, n("42"))][..], &[OWNER, CHECKPOINT_OWNER][..]));
        let delete = lease.delete(9);
        assert_eq!((delete.kind, &delete.expect, &delete.after), (Kind::Delete, &expect, &None));
    }
}
