//! Tests of lineage: the KCL's own examples, and random streams read beside a model of their records.

use proptest::prelude::*;

use super::super::position::Sequence;
use super::*;

fn shard(id: &str, parents: &[&str], range: (u128, u128), closed: bool) -> Shard {
    let parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
    Shard { id: id.to_owned(), parents, range: HashRange { start: range.0, end: range.1 }, closed }
}

fn after(number: usize) -> Checkpoint {
    Checkpoint::After { sequence: Sequence::parse(&number.to_string()).unwrap(), sub_sequence: 0 }
}

/// The graph of shards in the KCL's documentation of `NonEmptyLeaseTableSynchronizer`: 0 and 1 merge to 6, 2 and 3 to 7, 6 and 7 to 8; 5 is
/// split into 9 and 10; 4 stays.
fn graph() -> Vec<Shard> {
    vec![
        shard("0", &[], (0, 9), true),
        shard("1", &[], (10, 19), true),
        shard("10", &["5"], (55, 59), false),
        shard("2", &[], (20, 29), true),
        shard("3", &[], (30, 39), true),
        shard("4", &[], (40, 49), false),
        shard("5", &[], (50, 59), true),
        shard("6", &["0", "1"], (0, 19), true),
        shard("7", &["2", "3"], (20, 39), true),
        shard("8", &["6", "7"], (0, 39), false),
        shard("9", &["5"], (50, 54), false),
    ]
}

fn entries(made: &[(String, Checkpoint)]) -> Vec<String> {
    let mut entries: Vec<String> = made.iter().map(|(id, checkpoint)| format!("{id} {checkpoint}")).collect();
    entries.sort();
    entries
}

fn ids(entries: &[(String, Checkpoint)]) -> Vec<&str> {
    entries.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn the_first_look_takes_all_or_the_youngest() {
    let mut all = Lineage::new(Start::TrimHorizon, BTreeMap::new());
    let made = all.listed(graph());
    assert_eq!(ids(&made), ["0", "1", "2", "3", "4", "5", "6", "7", "10", "9", "8"]);
    assert!(made.iter().all(|(_, checkpoint)| *checkpoint == Checkpoint::TrimHorizon));
    assert_eq!(ids(&all.plan().read), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(all.plan().waiting, ["6", "7", "10", "9", "8"]);

    let mut latest = Lineage::new(Start::Latest, BTreeMap::new());
    assert_eq!(entries(&latest.listed(graph())), ["10 LATEST", "4 LATEST", "8 LATEST", "9 LATEST"]);
    assert_eq!(latest.plan().read.len(), 4);

    let mut timed = Lineage::new(Start::AtTimestamp, BTreeMap::new());
    assert!(timed.listed(graph()).iter().all(|(_, checkpoint)| *checkpoint == Checkpoint::AtTimestamp));
    assert_eq!(ids(&timed.plan().read), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn descendants_of_what_is_read_begin_at_the_horizon() {
    let known = ["3", "4", "5"].map(|id| (id.to_owned(), after(7)));
    let mut latest = Lineage::new(Start::Latest, BTreeMap::from(known.clone()));
    assert_eq!(entries(&latest.listed(graph())), ["10 TRIM_HORIZON", "7 TRIM_HORIZON", "8 TRIM_HORIZON", "9 TRIM_HORIZON"]);
    assert_eq!(ids(&latest.plan().read), ["3", "4", "5"]);
    latest.read_to("3", Checkpoint::ShardEnd);
    assert_eq!(ids(&latest.plan().read), ["4", "5", "7"]);

    let mut all = Lineage::new(Start::TrimHorizon, BTreeMap::from(known));
    assert_eq!(ids(&all.listed(graph())), ["0", "1", "2", "6", "7", "10", "9", "8"]);
}

#[test]
fn children_told_at_the_end_of_a_shard_are_read_before_they_are_listed() {
    let mut lineage = Lineage::new(Start::Latest, BTreeMap::new());
    lineage.listed(vec![shard("a", &[], (0, 99), false)]);
    lineage.read_to("a", Checkpoint::ShardEnd);
    let children = [shard("b", &["a"], (0, 49), false), shard("c", &["a"], (50, 99), false)];
    assert_eq!(entries(&lineage.born(children.to_vec())), ["b TRIM_HORIZON", "c TRIM_HORIZON"]);
    assert!(lineage.listed(vec![shard("a", &[], (0, 99), false)]).is_empty());
    assert_eq!(ids(&lineage.plan().read), ["b", "c"]);
    assert!(lineage.born(children.to_vec()).is_empty());
}

#[test]
fn a_child_with_a_parent_that_is_not_listed_waits_for_the_list() {
    let mut lineage = Lineage::new(Start::TrimHorizon, BTreeMap::new());
    lineage.listed(vec![shard("a", &[], (0, 49), false), shard("z", &[], (50, 99), false)]);
    // Since then a was split into x and y, and y merged with z: y is to be read before m.
    lineage.read_to("z", Checkpoint::ShardEnd);
    let merged = shard("m", &["y", "z"], (25, 99), false);
    assert!(lineage.born(vec![merged.clone()]).is_empty());
    let halves = [shard("x", &["a"], (0, 24), false), shard("y", &["a"], (25, 49), true)];
    let list = [shard("a", &[], (0, 49), true), shard("z", &[], (50, 99), true), merged].into_iter().chain(halves).collect();
    assert_eq!(ids(&lineage.listed(list)), ["x", "y", "m"]);
    assert_eq!((ids(&lineage.plan().read), lineage.plan().waiting.len()), (vec!["a"], 3));
}

#[test]
fn a_finished_shard_is_kept_until_its_children_have_begun() {
    let mut lineage = Lineage::new(Start::TrimHorizon, BTreeMap::new());
    let list = [shard("a", &[], (0, 99), true), shard("b", &["a"], (0, 49), true), shard("c", &["a"], (50, 99), false)];
    let list: Vec<Shard> = list.into_iter().chain([shard("d", &["b"], (0, 49), false)]).collect();
    lineage.listed(list.clone());
    lineage.read_to("a", Checkpoint::ShardEnd);
    lineage.read_to("b", Checkpoint::ShardEnd);
    lineage.read_to("d", after(3));
    assert_eq!((lineage.plan().finished.len(), lineage.plan().forget.len()), (2, 0));
    lineage.read_to("c", after(2));
    assert_eq!(lineage.plan().forget, ["a", "b"]);
    for id in lineage.plan().forget {
        lineage.forget(&id);
    }
    assert!(lineage.listed(list).is_empty());
    assert_eq!(ids(&lineage.plan().read), ["c", "d"]);
}

#[test]
fn a_child_that_is_not_listed_yet_keeps_its_parent() {
    let mut lineage = Lineage::new(Start::TrimHorizon, BTreeMap::new());
    lineage.listed(vec![shard("a", &[], (0, 99), true), shard("b", &["a"], (0, 49), false)]);
    lineage.read_to("a", Checkpoint::ShardEnd);
    lineage.read_to("b", after(1));
    assert!(lineage.plan().forget.is_empty());
}

#[test]
fn expired_shards_are_told_of_and_block_nothing() {
    let known = BTreeMap::from([("a".to_owned(), after(5))]);
    let mut lineage = Lineage::new(Start::Latest, known.clone());
    assert_eq!(lineage.plan(), Plan::default());
    assert_eq!(entries(&lineage.listed(vec![shard("b", &["a"], (0, 99), false)])), ["b TRIM_HORIZON"]);
    assert_eq!(lineage.plan().expired, ["a"]);
    assert_eq!(ids(&lineage.plan().read), ["b"]);

    let mut gap = Lineage::new(Start::Latest, known);
    let list = vec![shard("c", &["b"], (0, 99), true), shard("d", &["c"], (0, 99), false)];
    assert_eq!(entries(&gap.listed(list)), ["c TRIM_HORIZON", "d TRIM_HORIZON"]);
    gap.gone("c");
    assert_eq!(ids(&gap.plan().read), ["d"]);
}

#[test]
fn a_closed_shard_without_listed_children_is_one_of_the_youngest() {
    let mut lineage = Lineage::new(Start::Latest, BTreeMap::new());
    assert_eq!(entries(&lineage.listed(vec![shard("a", &[], (0, 99), true)])), ["a LATEST"]);
    let both = vec![shard("a", &[], (0, 99), true), shard("b", &["a"], (0, 99), false)];
    assert_eq!(entries(&lineage.listed(both)), ["b TRIM_HORIZON"]);
}

#[test]
fn what_another_worker_read_and_forgot_is_not_read_anew() {
    let mut lineage = Lineage::new(Start::TrimHorizon, BTreeMap::new());
    lineage.listed(vec![shard("a", &[], (0, 99), false)]);
    lineage.read_to("a", after(1));
    lineage.told(shard("b", &["a"], (0, 99), false));
    lineage.read_to("b", after(2));
    lineage.forget("a");
    assert!(lineage.born(Vec::new()).is_empty());
    assert_eq!(lineage.plan(), Plan { read: vec![("b".to_owned(), after(2))], ..Plan::default() });
    assert!(lineage.listed(vec![shard("a", &[], (0, 99), true)]).is_empty());
    assert_eq!(ids(&lineage.plan().read), ["b"]);
}

#[test]
fn shards_that_are_their_own_ancestors_hang_nothing() {
    let mut lineage = Lineage::new(Start::TrimHorizon, BTreeMap::new());
    lineage.listed(vec![shard("a", &["b"], (0, 9), false), shard("b", &["a"], (0, 9), false), shard("c", &["c"], (0, 9), false)]);
    assert!(lineage.plan().read.is_empty());
}

/// A record of the model: its number in the stream, which is also its sequence number and its time, and its hash key.
type Record = (usize, u128);

/// A stream as it is: each record went to the shard that had its hash key at its time.
#[derive(Debug, Default)]
struct Stream {
    shards: Vec<(Shard, Vec<Record>)>,
    expired: BTreeSet<String>,
    clock: usize,
}

impl Stream {
    fn add(&mut self, parents: &[String], range: HashRange) {
        let id = format!("shardId-{:012}", self.shards.len());
        self.shards.push((Shard { id, parents: parents.to_vec(), range, closed: false }, Vec::new()));
    }

    fn open(&self) -> Vec<usize> {
        (0..self.shards.len()).filter(|at| !self.shards[*at].0.closed).collect()
    }

    fn put(&mut self, hash: u128) {
        self.clock += 1;
        let (_, records) = self.shards.iter_mut().find(|(shard, _)| !shard.closed && shard.range.contains(hash)).unwrap();
        records.push((self.clock, hash));
    }

    fn split(&mut self, choice: usize) {
        let open = self.open();
        let at = open[choice % open.len()];
        let Shard { id, range, .. } = self.shards[at].0.clone();
        if range.start < range.end {
            let middle = range.start + (range.end - range.start) / 2;
            self.shards[at].0.closed = true;
            self.add(std::slice::from_ref(&id), HashRange { start: range.start, end: middle });
            self.add(&[id], HashRange { start: middle + 1, end: range.end });
        }
    }

    fn merge(&mut self, choice: usize) {
        let mut open = self.open();
        open.sort_by_key(|at| self.shards[*at].0.range.start);
        if open.len() > 1 {
            let at = choice % (open.len() - 1);
            let (left, right) = (open[at], open[at + 1]);
            let range = HashRange { start: self.shards[left].0.range.start, end: self.shards[right].0.range.end };
            let parents = [left, right].map(|at| {
                self.shards[at].0.closed = true;
                self.shards[at].0.id.clone()
            });
            self.add(&parents, range);
        }
    }

    /// Expires a closed shard whose parents have expired and that may go.
    fn expire(&mut self, may_go: impl Fn(&str) -> bool) {
        let gone = |id: &String| self.expired.contains(id);
        let eldest =
            self.shards.iter().map(|(shard, _)| shard).find(|shard| shard.closed && !gone(&shard.id) && shard.parents.iter().all(gone));
        if let Some(shard) = eldest.filter(|shard| may_go(&shard.id)) {
            self.expired.insert(shard.id.clone());
        }
    }

    fn list(&self) -> Vec<Shard> {
        self.shards.iter().map(|(shard, _)| shard.clone()).filter(|shard| !self.expired.contains(&shard.id)).collect()
    }

    fn records(&self) -> BTreeSet<Record> {
        self.shards.iter().filter(|(shard, _)| !self.expired.contains(&shard.id)).flat_map(|(_, records)| records.iter().copied()).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Split(usize),
    Merge(usize),
    Expire,
    Look,
    /// Reads some records of a shard; the flag says whether its end tells of its children.
    Read(usize, usize, bool),
    Forget,
    Save,
    Crash,
    /// Another worker looks at the lease table and the shards; the flag says whether it reads on from then.
    Other(bool),
}

/// A reader with what it has delivered, and both as they were last saved.
struct Reader {
    lineage: Lineage,
    /// What another worker knows, which is older.
    other: Lineage,
    delivered: Vec<Record>,
    saved: (BTreeMap<String, Checkpoint>, Vec<Record>),
    /// Per shard, how many of its records were behind `LATEST` when it was entered.
    latest: BTreeMap<String, usize>,
    time: usize,
    /// Shards that are never needed again: finished when last saved, or passed over at the first look.
    done: BTreeSet<String>,
}

impl Reader {
    fn entered(&mut self, stream: &Stream, made: Vec<(String, Checkpoint)>) {
        for (id, _) in made.into_iter().filter(|(_, checkpoint)| *checkpoint == Checkpoint::Latest) {
            let (_, records) = stream.shards.iter().find(|(shard, _)| shard.id == id).unwrap();
            self.latest.insert(id, records.len());
        }
    }

    fn look(&mut self, stream: &Stream) {
        let made = self.lineage.listed(stream.list());
        self.entered(stream, made);
    }

    fn read(&mut self, stream: &Stream, choice: usize, count: usize, tells: bool) {
        let read = self.lineage.plan().read;
        let Some((id, checkpoint)) = read.get(choice % read.len().max(1)) else { return };
        let (shard, records) = stream.shards.iter().find(|(shard, _)| shard.id == *id).unwrap();
        let from = match checkpoint {
            Checkpoint::TrimHorizon => 0,
            Checkpoint::Latest => self.latest[id],
            Checkpoint::AtTimestamp => records.partition_point(|record| record.0 < self.time),
            Checkpoint::After { sequence, .. } => records.partition_point(|record| record.0 <= sequence.as_str().parse().unwrap()),
            Checkpoint::ShardEnd => unreachable!(),
        };
        let to = records.len().min(from + count);
        self.delivered.extend(&records[from..to]);
        if to > from {
            self.lineage.read_to(id, after(records[to - 1].0));
        }
        if to == records.len() && shard.closed {
            self.lineage.read_to(id, Checkpoint::ShardEnd);
            let children =
                stream.shards.iter().map(|(shard, _)| shard).filter(|shard| tells && shard.parents.contains(id)).cloned().collect();
            let made = self.lineage.born(children);
            self.entered(stream, made);
        }
    }

    fn forget(&mut self) {
        for id in self.lineage.plan().forget {
            self.lineage.forget(&id);
        }
    }

    /// The other worker takes in the lease table, here the entries of the one that reads, and lists the shards.
    fn other(&mut self, stream: &Stream, reads_on: bool) {
        let table = self.lineage.checkpoints();
        for (id, checkpoint) in table {
            let (shard, _) = stream.shards.iter().find(|(shard, _)| shard.id == *id).unwrap();
            self.other.told(shard.clone());
            self.other.read_to(id, checkpoint.clone());
        }
        let gone: Vec<String> = self.other.checkpoints().keys().filter(|id| !table.contains_key(*id)).cloned().collect();
        gone.iter().for_each(|id| self.other.forget(id));
        for (id, checkpoint) in self.other.listed(stream.list()) {
            self.lineage.told(self.other.shard(&id).unwrap().clone());
            self.lineage.read_to(&id, checkpoint);
        }
        if reads_on {
            std::mem::swap(&mut self.lineage, &mut self.other);
        }
    }

    fn save(&mut self) {
        self.saved = (self.lineage.checkpoints().clone(), self.delivered.clone());
        self.done.extend(self.saved.0.iter().filter(|(_, entry)| **entry == Checkpoint::ShardEnd).map(|(id, _)| id.clone()));
    }

    fn crash(&mut self, stream: &Stream) {
        self.lineage = Lineage::new(self.lineage.start, self.saved.0.clone());
        self.other = self.lineage.clone();
        self.delivered = self.saved.1.clone();
        self.look(stream);
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u8>().prop_map(Step::Put),
        2 => any::<usize>().prop_map(Step::Split),
        2 => any::<usize>().prop_map(Step::Merge),
        1 => Just(Step::Expire),
        2 => Just(Step::Look),
        6 => (any::<usize>(), 0..4_usize, any::<bool>()).prop_map(|(choice, count, tells)| Step::Read(choice, count, tells)),
        2 => Just(Step::Forget),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
        2 => any::<bool>().prop_map(Step::Other),
    ]
}

fn change(stream: &mut Stream, step: &Step, may_go: impl Fn(&str) -> bool) {
    match step {
        Step::Put(hash) => stream.put(u128::from(*hash)),
        Step::Split(choice) => stream.split(*choice),
        Step::Merge(choice) => stream.merge(*choice),
        Step::Expire => stream.expire(may_go),
        _ => (),
    }
}

/// Reads all there is, looking again until nothing is left.
fn drain(reader: &mut Reader, stream: &Stream) {
    let mut rounds = 0;
    let is_open = |shard: &str| stream.shards.iter().any(|(known, _)| known.id == shard && !known.closed);
    let mut before = BTreeMap::new();
    while before != *reader.lineage.checkpoints() || reader.lineage.plan().read.iter().any(|(id, _)| !is_open(id)) {
        rounds += 1;
        before = reader.lineage.checkpoints().clone();
        assert!(rounds < 4 * stream.shards.len() + 4, "it goes on and on");
        reader.look(stream);
        reader.forget();
        for choice in 0..reader.lineage.plan().read.len() {
            reader.read(stream, choice, usize::MAX >> 1, rounds % 2 == 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_record_is_read_once_and_in_the_order_of_its_key(
        start in prop_oneof![Just(Start::TrimHorizon), Just(Start::Latest), Just(Start::AtTimestamp)],
        shards in 1..4_u128,
        before in prop::collection::vec(step(), 0..60),
        during in prop::collection::vec(step(), 0..160),
        time in 0..60_usize,
    ) {
        let mut stream = Stream::default();
        for at in 0..shards {
            stream.add(&[], HashRange { start: at * 256 / shards, end: (at + 1) * 256 / shards - 1 });
        }
        for step in &before {
            change(&mut stream, step, |_| true);
        }
        let time = time.min(stream.clock + 1);
        let lineage = Lineage::new(start, BTreeMap::new());
        let (saved, latest, done) = Default::default();
        let mut reader = Reader { other: lineage.clone(), lineage, delivered: Vec::new(), saved, latest, time, done };
        let (kept, first) = (stream.records(), stream.clock);
        reader.look(&stream);
        reader.save();
        let entries = reader.lineage.checkpoints().clone();
        reader.done.extend(stream.list().into_iter().map(|shard| shard.id).filter(|id| !entries.contains_key(id)));
        let mut ever = kept.clone();
        for step in &during {
            let entries = reader.lineage.checkpoints();
            let is_unread = |id: &str| entries.get(id).is_some_and(|entry| *entry != Checkpoint::ShardEnd);
            change(&mut stream, step, |id| reader.done.contains(id) && !is_unread(id));
            ever.extend(stream.records());
            match step {
                Step::Look => reader.look(&stream),
                Step::Read(choice, count, tells) => reader.read(&stream, *choice, *count, *tells),
                Step::Forget => reader.forget(),
                Step::Save => reader.save(),
                Step::Crash => reader.crash(&stream),
                Step::Other(reads_on) => reader.other(&stream, *reads_on),
                _ => (),
            }
            prop_assert!(reader.lineage.plan().expired.is_empty());
        }
        drain(&mut reader, &stream);
        let expected: BTreeSet<Record> = ever.into_iter().filter(|record| match start {
            Start::TrimHorizon => true,
            Start::Latest => record.0 > first,
            Start::AtTimestamp => record.0 >= time,
        }).collect();
        let delivered: BTreeSet<Record> = reader.delivered.iter().copied().collect();
        prop_assert_eq!(delivered.len(), reader.delivered.len(), "a record is read twice");
        prop_assert_eq!(delivered, expected);
        let mut last = BTreeMap::new();
        for (number, hash) in &reader.delivered {
            prop_assert!(last.insert(*hash, *number).is_none_or(|before| before < *number), "hash key {} is out of order", hash);
        }
        let plan = reader.lineage.plan();
        prop_assert!(plan.waiting.is_empty());
        prop_assert_eq!(plan.read.len(), stream.open().len());
    }

    #[test]
    fn covering_is_that_of_each_key(
        parts in prop::collection::vec((0..20_u128, 0..8_u128), 0..6),
        start in 0..20_u128,
        length in 0..12_u128,
    ) {
        let mut ranges: Vec<HashRange> = parts.iter().map(|(start, length)| HashRange { start: *start, end: start + length }).collect();
        let whole = HashRange { start, end: start + length };
        let slow = (whole.start..=whole.end).all(|hash| ranges.iter().any(|range| range.contains(hash)));
        prop_assert_eq!(covers(&mut ranges, whole), slow);
    }
}
