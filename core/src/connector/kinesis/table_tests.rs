//! Tests of what workers do about leases: single decisions, and several workers at one simulated table with late answers, pauses and
//! crashes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::lease::{Attribute, COUNTER, Expect, Item, OWNER};
use super::super::position::{HashRange, Sequence};
use super::super::shards::Shard;
use super::*;

const SECOND: u64 = 1_000_000_000;
/// The KCL's `failoverTimeMillis`.
const FAILOVER: u64 = 10 * SECOND;

fn lease(key: &str, owner: Option<&str>, counter: u64) -> Lease {
    let shard = Shard { id: key.to_owned(), parents: Vec::new(), range: HashRange::ALL, closed: false };
    Lease { owner: owner.map(str::to_owned), counter, ..Lease::new(&shard, Checkpoint::TrimHorizon) }
}

fn keys(writes: &[Write]) -> Vec<(Kind, &str)> {
    writes.iter().map(|write| (write.kind, write.key.as_str())).collect()
}

fn at(number: u64) -> Checkpoint {
    Checkpoint::After { sequence: Sequence::parse(&number.to_string()).unwrap(), sub_sequence: 0 }
}

/// A table that has listed these leases, owner after key.
fn listed(leases: &[(&str, &str)]) -> Table {
    let mut table = Table::new("me", FAILOVER);
    let owner = |owner| Some(owner).filter(|owner: &&str| !owner.is_empty());
    table.listed(leases.iter().map(|(key, name)| lease(key, owner(*name), 1)).collect(), 0);
    table
}

#[test]
fn free_leases_are_taken_up_to_the_share() {
    let mut table = listed(&[("a", ""), ("b", ""), ("c", ""), ("d", "x")]);
    let writes = table.takes(0, 1, |_| true);
    assert_eq!(writes.len(), 2);
    assert!(writes.iter().all(|write| write.kind == Kind::Take && write.key != "d"));
    assert!(table.takes(0, 2, |_| true).is_empty(), "the takes on their way count");
    assert_eq!(table.done(&writes[0]), Change::Acquired);
    assert_eq!(table.refused(&writes[1]), Change::None);
    assert!(table.holds(&writes[0].key, FAILOVER - 1) && !table.holds(&writes[0].key, FAILOVER));
    assert!(!table.holds(&writes[1].key, 0));
}

#[test]
fn only_leases_of_shards_that_are_to_be_read_are_taken() {
    let mut table = listed(&[("a", ""), ("b", ""), ("c", "")]);
    assert_eq!(keys(&table.takes(0, 1, |lease| lease.key == "b")), [(Kind::Take, "b")]);
    assert!(listed(&[("a", "x"), ("b", "x")]).takes(0, 1, |lease| lease.key == "a").is_empty());
}

#[test]
fn a_lease_expires_when_its_counter_stands_still() {
    let mut table = listed(&[("a", "x"), ("b", "y")]);
    table.listed(vec![lease("a", Some("x"), 2), lease("b", Some("y"), 1)], SECOND);
    assert!(table.takes(FAILOVER - 1, 1, |_| true).is_empty());
    assert_eq!(keys(&table.takes(FAILOVER, 1, |_| true)), [(Kind::Take, "b")]);
}

#[test]
fn one_lease_is_stolen_from_the_worker_with_the_most() {
    let mut table = listed(&[("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")]);
    let writes = table.takes(0, 1, |_| true);
    assert_eq!(writes.len(), 1);
    assert_eq!((writes[0].kind, writes[0].key.as_str() < "d"), (Kind::Steal, true));
    let just_the_share = |leases: &[(&str, &str)]| listed(leases).takes(0, 1, |_| true).len();
    assert_eq!(just_the_share(&[("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]), 1, "two are lacking");
    assert_eq!(just_the_share(&[("a", "x"), ("b", "y"), ("c", "z")]), 0, "one is lacking");
    assert_eq!(just_the_share(&[("a", "x"), ("b", "x"), ("c", "me")]), 0);
}

#[test]
fn the_seed_chooses_among_equals() {
    let chosen: BTreeSet<String> =
        (0..64).map(|seed| listed(&[("a", ""), ("b", ""), ("c", "x")]).takes(0, seed, |_| true)[0].key.clone()).collect();
    assert_eq!(chosen.len(), 2);
}

#[test]
fn leases_are_renewed_each_third_of_the_time() {
    let mut table = listed(&[("a", "")]);
    let take = table.takes(0, 1, |_| true).remove(0);
    assert!(table.renewals(FAILOVER).is_empty());
    table.done(&take);
    assert!(table.renewals(FAILOVER / 3 - 1).is_empty());
    let renewal = table.renewals(FAILOVER / 3).remove(0);
    assert_eq!(renewal.expect, Expect::Is { owner: Some("me".to_owned()), counter: 2 });
    assert!(table.checkpoint("a", at(1), &[], FAILOVER / 3).is_none(), "one write at a time");
    assert_eq!(table.done(&renewal), Change::None);
    let checkpoint = table.checkpoint("a", at(1), &[], FAILOVER / 2).unwrap();
    assert_eq!(table.done(&checkpoint), Change::None);
    assert!(table.renewals(FAILOVER / 2 + FAILOVER / 3 - 1).is_empty(), "a checkpoint renews");
    let release = table.release("a", FAILOVER).unwrap();
    assert_eq!(table.done(&release), Change::Lost);
    let delete = table.delete("a", FAILOVER).unwrap();
    assert_eq!((table.done(&delete), table.lease("a")), (Change::None, None));
}

#[test]
fn a_lease_is_lost_by_a_refusal_or_a_list() {
    for by_list in [false, true] {
        let mut table = listed(&[("a", "")]);
        let take = table.takes(0, 1, |_| true).remove(0);
        table.done(&take);
        let renewal = table.renewals(FAILOVER / 2).remove(0);
        assert_eq!(table.listed(vec![lease("a", None, 1)], FAILOVER / 2), Listed::default(), "a list from before the take tells nothing");
        if by_list {
            assert_eq!(table.listed(vec![lease("a", Some("x"), 3)], FAILOVER / 2).lost, ["a"]);
            assert_eq!(table.refused(&renewal), Change::None);
        } else {
            assert_eq!(table.refused(&renewal), Change::Lost);
        }
        assert!(!table.holds("a", FAILOVER / 2) && table.renewals(FAILOVER).is_empty());
        assert!(table.checkpoint("a", at(1), &[], FAILOVER / 2).is_none());
    }
}

#[test]
fn rows_that_are_gone_are_told_of_but_for_held_ones() {
    let mut table = listed(&[("a", ""), ("b", "x")]);
    let take = table.takes(0, 1, |lease| lease.key == "a").remove(0);
    table.done(&take);
    let listed = table.listed(Vec::new(), SECOND);
    assert_eq!((listed.lost.len(), &listed.gone[..], table.leases().count()), (0, &["b".to_owned()][..], 1));
}

#[test]
fn writes_without_an_answer_are_settled_by_the_next_list() {
    let mut table = listed(&[("a", "")]);
    let take = table.takes(0, 1, |_| true).remove(0);
    table.unanswered(&take);
    table.listed(vec![take.after.clone().unwrap()], SECOND);
    let renewal = table.renewals(SECOND).remove(0);
    assert_eq!(table.done(&renewal), Change::Acquired);
    let renewal = table.renewals(FAILOVER).remove(0);
    table.unanswered(&renewal);
    assert!(table.renewals(FAILOVER).is_empty());
    assert_eq!(table.listed(vec![renewal.after.clone().unwrap()], FAILOVER), Listed::default());
    let renewal = table.renewals(FAILOVER).remove(0);
    table.failed(&renewal);
    assert_eq!(table.renewals(FAILOVER), [renewal]);
}

/// The table as DynamoDB has it: rows, changed by what writes say and nothing else.
#[derive(Default)]
struct Database {
    rows: BTreeMap<String, Item>,
}

impl Database {
    fn apply(&mut self, write: &Write) -> bool {
        let row = self.rows.get(&write.key);
        let is_met = match &write.expect {
            Expect::Absent => row.is_none(),
            Expect::Is { owner, counter } => row.is_some_and(|row| {
                let owner = owner.clone().map(Attribute::S);
                row.get(OWNER) == owner.as_ref() && row.get(COUNTER) == Some(&Attribute::N(counter.to_string()))
            }),
        };
        if is_met && write.kind == Kind::Delete {
            self.rows.remove(&write.key);
        } else if is_met {
            let key = ("leaseKey".to_owned(), Attribute::S(write.key.clone()));
            let row = self.rows.entry(write.key.clone()).or_insert_with(|| Item::from([key]));
            row.extend(write.set.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            row.retain(|name, _| !write.remove.contains(&name.as_str()));
            assert_eq!(Lease::decode(row).unwrap(), write.after, "what is set and removed makes the lease as foretold");
        }
        is_met
    }

    fn list(&self) -> Vec<Lease> {
        self.rows.values().map(|row| Lease::decode(row).unwrap().unwrap()).collect()
    }
}

/// What befalls a worker.
#[derive(Debug, Clone)]
struct Fault {
    at: u64,
    worker: usize,
    /// For how long it stands still; none for a crash, after which it comes back by another name.
    pause: Option<u64>,
}

/// A write on its way.
struct Sent {
    write: Write,
    /// When it is at the table; none once it is.
    arrives: Option<u64>,
    answer: u64,
    /// What the answer is; none if it does not come.
    outcome: Option<bool>,
}

struct Worker {
    table: Table,
    born: u64,
    /// Does nothing until then.
    paused: u64,
    /// Per lease, how far the shard is read.
    places: BTreeMap<String, u64>,
    writes: Vec<Sent>,
    lists: Vec<(u64, Vec<Lease>)>,
}

impl Worker {
    fn new(name: String, born: u64) -> Worker {
        let table = Table::new(name, FAILOVER);
        Worker { table, born, paused: 0, places: BTreeMap::new(), writes: Vec::new(), lists: Vec::new() }
    }

    /// Takes what has come in, and tells whether a list has.
    fn answers(&mut self, now: u64) -> bool {
        let (answered, open) = std::mem::take(&mut self.writes).into_iter().partition(|sent| sent.arrives.is_none() && sent.answer <= now);
        self.writes = open;
        for Sent { write, outcome, .. } in answered {
            match outcome {
                Some(true) => drop(self.table.done(&write)),
                Some(false) => drop(self.table.refused(&write)),
                None => self.table.unanswered(&write),
            }
        }
        let (arrived, open) = std::mem::take(&mut self.lists).into_iter().partition(|(arrives, _)| *arrives <= now);
        self.lists = open;
        let is_listed = !arrived.is_empty();
        for (_, list) in arrived {
            self.table.listed(list, now * SECOND);
        }
        is_listed
    }

    /// One second of a worker's life.
    fn act(&mut self, now: u64, number: u64, late: u64, database: &Database) {
        if self.answers(now) {
            let writes = self.table.takes(now * SECOND, now.wrapping_mul(31).wrapping_add(number), |_| true);
            self.send(writes, now, late);
        }
        if (now + self.born).is_multiple_of(3) {
            self.lists.push((now + late, database.list()));
        }
        for lease in self.table.leases().cloned().collect::<Vec<Lease>>() {
            if !self.table.holds(&lease.key, now * SECOND) {
                self.places.remove(&lease.key);
                continue;
            }
            let from = match &lease.checkpoint {
                Checkpoint::After { sequence, .. } => sequence.as_str().parse().unwrap(),
                _ => 0,
            };
            let place = self.places.entry(lease.key.clone()).or_insert(from);
            *place += 1;
            let place = *place;
            if place.is_multiple_of(4) {
                let write = self.table.checkpoint(&lease.key, at(place), &[], now * SECOND);
                self.send(write.into_iter().collect(), now, late);
            }
        }
        let renewals = self.table.renewals(now * SECOND);
        self.send(renewals, now, late);
    }

    fn send(&mut self, writes: Vec<Write>, now: u64, late: u64) {
        let sent = |write| Sent { write, arrives: Some(now + late), answer: now + 2 * late, outcome: None };
        self.writes.extend(writes.into_iter().map(sent));
    }
}

struct World {
    database: Database,
    workers: Vec<Worker>,
    names: usize,
    /// When each kind of take was last done.
    taken: u64,
    places: BTreeMap<String, Checkpoint>,
    now: u64,
}

impl World {
    fn new(leases: usize, workers: usize) -> World {
        let mut database = Database::default();
        for number in 0..leases {
            assert!(database.apply(&lease(&format!("shardId-{number:03}"), None, 0).create(0)));
        }
        let all = (0..workers).map(|number| Worker::new(format!("worker {number}"), number as u64)).collect();
        World { database, workers: all, names: workers, taken: 0, places: BTreeMap::new(), now: 0 }
    }

    /// Lets writes arrive at the table; a write without an answer is done all the same.
    fn arrive(&mut self, is_answered: bool) -> Result<(), TestCaseError> {
        for at in 0..self.workers.len() {
            for place in 0..self.workers[at].writes.len() {
                let sent = &mut self.workers[at].writes[place];
                if sent.arrives.take_if(|arrives| *arrives <= self.now).is_none() {
                    continue;
                }
                let write = sent.write.clone();
                let holders = self.holders(&write.key);
                let is_done = self.database.apply(&write);
                self.workers[at].writes[place].outcome = is_answered.then_some(is_done);
                if !is_done {
                    continue;
                }
                if write.kind == Kind::Take {
                    prop_assert!(holders.is_empty(), "{} is taken as expired while {:?} hold it", write.key, holders);
                }
                if matches!(write.kind, Kind::Take | Kind::Steal) {
                    self.taken = self.now;
                }
                let place = write.after.as_ref().unwrap().checkpoint.clone();
                let before = self.places.insert(write.key.clone(), place.clone());
                prop_assert!(before.is_none_or(|before| before <= place), "a checkpoint of {} goes back", write.key);
            }
        }
        Ok(())
    }

    fn holders(&self, key: &str) -> Vec<usize> {
        (0..self.workers.len()).filter(|at| self.workers[*at].table.holds(key, self.now * SECOND)).collect()
    }

    /// No two workers know the row as it is and own it: at most one can write.
    fn check(&self) -> Result<(), TestCaseError> {
        for row in self.database.list() {
            let can_write = |worker: &&Worker| worker.table.lease(&row.key) == Some(&row) && row.owner.as_ref() == Some(&worker.table.me);
            prop_assert!(self.workers.iter().filter(can_write).count() <= 1);
        }
        Ok(())
    }

    fn second(&mut self, faults: &[Fault], late: u64, is_answered: bool) -> Result<(), TestCaseError> {
        self.now += 1;
        for fault in faults.iter().filter(|fault| fault.at == self.now) {
            let at = fault.worker % self.workers.len();
            match fault.pause {
                Some(pause) => self.workers[at].paused = self.now + pause,
                None => {
                    self.names += 1;
                    self.workers[at] = Worker::new(format!("worker {}", self.names), self.now);
                }
            }
        }
        self.arrive(is_answered)?;
        for (number, worker) in self.workers.iter_mut().enumerate().filter(|(_, worker)| worker.paused <= self.now) {
            worker.act(self.now, number as u64, late, &self.database);
        }
        self.check()
    }

    /// How many leases each worker owns; `None` if some lease is owned by none of them.
    fn loads(&self) -> Option<Vec<usize>> {
        let owners: Vec<Option<String>> = self.database.list().into_iter().map(|lease| lease.owner).collect();
        let of = |worker: &Worker| owners.iter().filter(|owner| owner.as_ref() == Some(&worker.table.me)).count();
        let loads: Vec<usize> = self.workers.iter().map(of).collect();
        (loads.iter().sum::<usize>() == owners.len()).then_some(loads)
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    (1..120_u64, any::<usize>(), prop::option::weighted(0.7, 1..40_u64)).prop_map(|(at, worker, pause)| Fault { at, worker, pause })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn workers_share_the_leases_through_faults(
        leases in 1..10_usize,
        workers in 1..5_usize,
        faults in prop::collection::vec(fault(), 0..12),
        lates in prop::collection::vec((0..3_u64, prop::bool::weighted(0.95)), 160),
    ) {
        let mut world = World::new(leases, workers);
        for (late, is_answered) in lates {
            world.second(&faults, late, is_answered)?;
        }
        // Quiet: all is taken, evenly, and stays so.
        for _ in 0..150 {
            world.second(&[], 0, true)?;
        }
        let loads = world.loads().expect("all are owned");
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
        prop_assert!(world.taken + 60 < world.now, "they take on and on: at {} of {}", world.taken, world.now);
        prop_assert!(world.database.list().iter().all(|lease| lease.checkpoint > at(3)));

        // A crash: all its leases are taken by others in time.
        if workers > 1 {
            world.workers.pop();
            for _ in 0..2 * FAILOVER / SECOND {
                world.second(&[], 0, true)?;
            }
            prop_assert!(world.loads().is_some(), "a lease is left behind");
        }
    }
}
