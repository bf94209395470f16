//! The partitions that a source has had, each with a number for life, and what is to become of them.

use std::collections::{BTreeSet, HashMap};

use rdkafka::message::{BorrowedMessage, Message};

use super::positions::{Offsets, Place};

/// Partitions by number, which is their [`PartitionId`](crate::batch::PartitionId).
#[derive(Default)]
pub(super) struct Partitions {
    all: Vec<Partition>,
    numbers: HashMap<Place, u32>,
    /// The partition of the last record: the address of librdkafka's topic, its number there, and the number here.
    last: Option<(usize, i32, u32)>,
}

/// A partition and how far it was read.
pub(super) struct Partition {
    pub(super) place: Place,
    /// The offset after the last record that was read.
    pub(super) next: i64,
    /// Where reading ends, if it does.
    pub(super) end: Option<i64>,
    /// Whether it is ours now and has more to come.
    pub(super) open: bool,
    /// Whether librdkafka was told to pause it.
    pub(super) paused: bool,
    /// Whether that was before it was ours again, so that nobody knows what it has kept of it.
    stale: bool,
}

impl Partitions {
    /// Takes over a partition, which begins at `next`; returns its number.
    pub(super) fn open(&mut self, place: &Place, next: i64, end: Option<i64>) -> u32 {
        let fresh = Partition { place: place.clone(), next, end, open: true, paused: false, stale: false };
        match self.numbers.get(place) {
            Some(&number) => {
                let known = &mut self.all[number as usize];
                *known = Partition { stale: known.paused, ..fresh };
                number
            }
            None => {
                let number = self.all.len() as u32;
                self.all.push(fresh);
                self.numbers.insert(place.clone(), number);
                number
            }
        }
    }

    /// Gives partitions back; returns the numbers of those that were open.
    pub(super) fn close<'a>(&mut self, places: impl Iterator<Item = (&'a str, i32)>) -> Vec<u32> {
        self.last = None;
        let numbers = places.filter_map(|(topic, number)| self.numbers.get(&(topic.to_owned(), number)).copied());
        numbers.filter(|number| std::mem::replace(&mut self.all[*number as usize].open, false)).collect()
    }

    /// The number of a record's partition.
    pub(super) fn of(&mut self, message: &BorrowedMessage<'_>) -> Option<u32> {
        let (address, partition) = (message.topic_ptr().addr(), message.partition());
        if let Some((topic, known, number)) = self.last
            && topic == address
            && known == partition
        {
            return Some(number);
        }
        let number = *self.numbers.get(&(message.topic().to_owned(), partition))?;
        self.last = Some((address, partition, number));
        Some(number)
    }

    pub(super) fn get(&mut self, number: u32) -> &mut Partition {
        &mut self.all[number as usize]
    }

    /// Those that are ours now and have more to come, by number.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = (u32, &Partition)> {
        (0..).zip(&self.all).filter(|(_, partition)| partition.open)
    }

    /// The places of those that are open.
    pub(super) fn places(&self) -> Vec<Place> {
        self.open_ones().map(|(_, partition)| partition.place.clone()).collect()
    }

    /// Of `places`, those that were never here.
    pub(super) fn unknown(&self, places: Vec<Place>) -> Vec<Place> {
        places.into_iter().filter(|place| !self.numbers.contains_key(place)).collect()
    }

    /// The open partition that is alone, among all there were, with its number in its topic.
    pub(super) fn alone(&self, partition: i32) -> Option<u32> {
        let mut such = (0..).zip(&self.all).filter(|(_, known)| known.place.1 == partition);
        let (number, only) = such.next()?;
        (such.next().is_none() && only.open).then_some(number)
    }

    /// Open partitions of which the next offset is not within what there is, with where it is and both ends.
    pub(super) fn out_of_range(&self, oldest: &Offsets, newest: &Offsets) -> Vec<(u32, i64, i64, i64)> {
        let ranged = self.open_ones().filter_map(|(number, partition)| {
            let (low, high) = (*oldest.get(&partition.place)?, *newest.get(&partition.place)?);
            (!(low..=high).contains(&partition.next)).then_some((number, partition.next, low, high))
        });
        ranged.collect()
    }

    /// Decides who is paused: all, those of `asked`, and those that have ended. Returns whom to pause, after it was seen to whom to resume.
    pub(super) fn pauses(&mut self, all: bool, asked: &BTreeSet<u32>) -> (Vec<Place>, Vec<Place>) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (number, partition) in (0..).zip(&mut self.all) {
            let ended = !partition.open && partition.end.is_some();
            if partition.open && std::mem::replace(&mut partition.stale, false) {
                resume.push(partition.place.clone());
            }
            let wanted = ended || (partition.open && (all || asked.contains(&number)));
            if wanted != partition.paused && (partition.open || ended) {
                if wanted { &mut pause } else { &mut resume }.push(partition.place.clone());
                partition.paused = wanted;
            }
        }
        (pause, resume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_keeps_its_number_and_a_pause_is_said_once() {
        let mut partitions = Partitions::default();
        let place = |topic: &str, number| (topic.to_owned(), number);
        assert_eq!(partitions.open(&place("a", 0), 5, None), 0);
        assert_eq!(partitions.open(&place("b", 0), 0, Some(9)), 1);
        assert_eq!(partitions.open(&place("b", 1), 0, None), 2);
        assert_eq!((partitions.alone(0), partitions.alone(1), partitions.alone(2)), (None, Some(2), None));
        assert_eq!(partitions.pauses(false, &BTreeSet::from([0])), (vec![place("a", 0)], vec![]));
        assert_eq!(partitions.pauses(false, &BTreeSet::from([0])), (vec![], vec![]));
        assert_eq!(partitions.pauses(true, &BTreeSet::new()).0, [place("b", 0), place("b", 1)]);
        partitions.get(1).open = false;
        assert_eq!(partitions.pauses(false, &BTreeSet::new()), (vec![], vec![place("a", 0), place("b", 1)]), "b[0] has ended");
        assert_eq!(partitions.close([("a", 0), ("b", 0), ("c", 0)].into_iter()), [0]);
        assert_eq!(partitions.open(&place("a", 0), 7, None), 0);
        assert_eq!(partitions.unknown(vec![place("a", 0), place("c", 0)]), [place("c", 0)]);
        let offsets = |a, b| Offsets::from([(place("a", 0), a), (place("b", 1), b)]);
        assert_eq!(partitions.out_of_range(&offsets(8, 0), &offsets(9, 0)), [(0, 7, 8, 9)]);
        assert_eq!(partitions.out_of_range(&offsets(7, 1), &offsets(7, 9)), [(2, 0, 1, 9)]);
    }
}
