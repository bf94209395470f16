//! Which files of a folder are new, whole and next: pure decisions from one listing to the next.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::source::FileEntry;

/// What is known of the files. It remembers the names that are listed, and no others.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// How long a file has to stay as it is before it is taken for whole, in nanoseconds.
    settle: u64,
    /// Names that were seen to the end: handed out, or there before anybody asked for them.
    done: HashSet<String>,
    /// Files that may still be written, as they were at the last look and since when.
    changing: HashMap<String, (FileEntry, u64)>,
    /// Files whose names say that they are unfinished, by what stays the same when they are renamed.
    unfinished: HashSet<String>,
    /// Whole files by time of modification, then name.
    ready: BTreeMap<(i64, String), FileEntry>,
    /// Whether names that were not there at the first look are of no interest.
    closed: bool,
}

/// Whether a name says that its file is not to be read: hidden, or on its way.
pub(super) fn is_unfinished(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.starts_with(['_', '.']) || name.ends_with(".tmp") || name.ends_with(".part")
}

impl Arrivals {
    pub fn new(settle: u64) -> Arrivals {
        Arrivals { settle, ..Arrivals::default() }
    }

    /// Passes over what is there.
    pub fn ignore(&mut self, listed: Vec<FileEntry>) {
        self.done = listed.into_iter().map(|entry| entry.name).filter(|name| !is_unfinished(name)).collect();
    }

    /// No file that was not there at the last look will be handed out.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Takes in what is there at `now`.
    pub fn look(&mut self, listed: Vec<FileEntry>, now: u64) {
        let mut before = std::mem::take(&mut self.changing);
        let was_unfinished = std::mem::take(&mut self.unfinished);
        let was_done = std::mem::take(&mut self.done);
        for entry in listed {
            if is_unfinished(&entry.name) {
                self.unfinished.insert(entry.id);
            } else if was_done.contains(&entry.name) {
                self.done.insert(entry.name);
            } else {
                let since = match before.remove(&entry.name) {
                    Some((known, since)) if known == entry => since,
                    Some(_) => now,
                    None if self.closed => continue,
                    // A file that was under another name until it was finished is whole.
                    None if was_unfinished.contains(&entry.id) => now.saturating_sub(self.settle),
                    None => now,
                };
                match now - since >= self.settle {
                    true => {
                        self.done.insert(entry.name.clone());
                        self.ready.insert((entry.modified, entry.name.clone()), entry);
                    }
                    false => _ = self.changing.insert(entry.name.clone(), (entry, since)),
                }
            }
        }
    }

    /// The next whole file.
    pub fn next(&mut self) -> Option<FileEntry> {
        self.ready.pop_first().map(|(_, entry)| entry)
    }

    /// Whether a file is waited for that may still be written.
    pub fn is_waiting(&self) -> bool {
        !self.changing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, modified: i64, size: u64) -> FileEntry {
        FileEntry { name: name.to_owned(), modified, size, id: format!("inode of {name}") }
    }

    fn names(arrivals: &mut Arrivals) -> Vec<String> {
        std::iter::from_fn(|| arrivals.next()).map(|entry| entry.name).collect()
    }

    #[test]
    fn a_file_is_waited_for_until_it_stays_as_it_is() {
        let mut arrivals = Arrivals::new(10);
        arrivals.look(vec![file("a", 0, 1), file("b", 0, 1)], 0);
        arrivals.look(vec![file("a", 1, 2), file("b", 0, 1)], 9);
        assert_eq!(names(&mut arrivals), [""; 0]);
        arrivals.look(vec![file("a", 1, 2), file("b", 0, 1)], 12);
        assert_eq!(names(&mut arrivals), ["b"]);
        assert!(arrivals.is_waiting());
        arrivals.look(vec![file("a", 1, 2), file("b", 5, 9)], 19);
        assert_eq!(names(&mut arrivals), ["a"], "b was read once, and is not read again while it is there");
        assert!(!arrivals.is_waiting());
        arrivals.look(vec![file("a", 1, 2)], 20);
        arrivals.look(vec![file("a", 1, 2), file("b", 5, 9)], 30);
        arrivals.look(vec![file("a", 1, 2), file("b", 5, 9)], 40);
        assert_eq!(names(&mut arrivals), ["b"], "it had gone and came again");
    }

    #[test]
    fn a_renamed_file_is_whole_at_once_and_names_of_unfinished_ones_are_skipped() {
        let mut arrivals = Arrivals::new(1_000);
        let half = ["in/_a", "in/.a", "in/a.tmp", "in/a.part"].map(|name| file(name, 0, 1));
        arrivals.look(half.to_vec(), 0);
        arrivals.look(half.to_vec(), 5_000);
        assert_eq!(names(&mut arrivals), [""; 0]);
        let renamed = FileEntry { name: "in/a".to_owned(), ..file("in/a.tmp", 3, 7) };
        arrivals.look(vec![renamed], 5_001);
        assert_eq!(names(&mut arrivals), ["in/a"]);
        assert!(is_unfinished("s3://b/_x/_y") && !is_unfinished("s3://b/_x/y"));
    }

    #[test]
    fn what_is_there_can_be_passed_over_and_what_comes_can() {
        let mut new = Arrivals::new(0);
        new.ignore(vec![file("a", 0, 1), file("b.tmp", 0, 1)]);
        new.look(vec![file("a", 0, 1), file("b", 2, 1), file("c", 1, 1)], 0);
        assert_eq!(names(&mut new), ["c", "b"], "by time of modification");
        let mut old = Arrivals::new(10);
        old.look(vec![file("a", 0, 1)], 0);
        old.close();
        old.look(vec![file("a", 0, 1), file("b", 2, 1)], 10);
        assert_eq!((names(&mut old), old.is_waiting()), (vec!["a".to_owned()], false));
    }

    proptest! {
        /// Whatever comes, grows and goes: each file is handed out once while it is there, and whole.
        #[test]
        fn each_file_is_handed_out_once_and_whole(
            grows in prop::collection::vec(prop::collection::vec(0_u64..3, 1..8), 1..12),
            settle in 0_u64..30,
        ) {
            let mut arrivals = Arrivals::new(settle);
            let mut sizes = vec![0_u64; grows.len()];
            let mut handed = BTreeSet::new();
            let longest = grows.iter().map(Vec::len).max().unwrap() as u64;
            for step in 0..longest + settle / 10 + 2 {
                let mut listed = Vec::new();
                for (number, growth) in grows.iter().enumerate() {
                    sizes[number] += growth.get(step as usize).copied().unwrap_or(0);
                    if sizes[number] > 0 {
                        listed.push(file(&format!("{number}"), sizes[number] as i64, sizes[number]));
                    }
                }
                arrivals.look(listed, step * 10);
                let mut last = None;
                while let Some(entry) = arrivals.next() {
                    prop_assert!(last.as_ref() <= Some(&(entry.modified, entry.name.clone())), "in order");
                    last = Some((entry.modified, entry.name.clone()));
                    prop_assert!(handed.insert(entry.name.clone()), "once");
                    let number: usize = entry.name.parse().unwrap();
                    let quiet = settle.div_ceil(10) as usize;
                    let lately = (step as usize).saturating_sub(quiet) + 1..=step as usize;
                    prop_assert!(lately.clone().all(|step| quiet == 0 || grows[number].get(step).is_none_or(|by| *by == 0)), "{lately:?}");
                }
            }
            let expected: BTreeSet<String> =
                grows.iter().enumerate().filter(|(_, growth)| growth.iter().sum::<u64>() > 0).map(|(number, _)| number.to_string()).collect();
            prop_assert_eq!(handed, expected);
        }
    }
}
