//! Panes that are open, by number.

use std::collections::VecDeque;

/// Panes in the order of their numbers. New ones mostly come behind all others and the first go: both at no cost that grows with their
/// number.
pub(super) struct OpenPanes<T> {
    panes: VecDeque<(i64, T)>,
}

impl<T> Default for OpenPanes<T> {
    fn default() -> Self {
        OpenPanes { panes: VecDeque::new() }
    }
}

impl<T> OpenPanes<T> {
    /// How many.
    pub fn len(&self) -> usize {
        self.panes.len()
    }

    /// The number of the first.
    pub fn first(&self) -> Option<i64> {
        Some(self.panes.front()?.0)
    }

    /// The pane of that number, which is `new` if there was none.
    pub fn get_or_insert_with(&mut self, number: i64, new: impl FnOnce() -> T) -> &mut T {
        let place = match self.panes.back() {
            Some((last, _)) if *last == number => self.panes.len() - 1,
            Some((last, _)) if *last > number => self.panes.partition_point(|(known, _)| *known < number),
            _ => self.panes.len(),
        };
        if self.panes.get(place).is_none_or(|(known, _)| *known != number) {
            self.panes.insert(place, (number, new()));
        }
        &mut self.panes[place].1
    }

    /// Takes out the first pane, if its number is below `end`.
    pub fn pop_before(&mut self, end: i64) -> Option<(i64, T)> {
        self.panes.pop_front_if(|(number, _)| *number < end)
    }

    /// The panes, in order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.panes.iter().map(|(_, pane)| pane)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.panes.iter_mut().map(|(_, pane)| pane)
    }

    /// The panes with their numbers, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut T)> {
        self.panes.iter_mut().map(|(number, pane)| (*number, pane))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::OpenPanes;

    #[test]
    fn panes_are_those_of_an_ordered_map() {
        let (mut panes, mut model) = (OpenPanes::default(), BTreeMap::new());
        let mut number = 1_u64;
        for step in 0..5_000_i64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Mostly the last or the next, at times one that was left out or that has gone.
            let pane = step / 3 - if number >> 61 == 0 { (number >> 40) as i64 % 40 } else { 0 };
            panes.get_or_insert_with(pane, Vec::new).push(step);
            model.entry(pane).or_insert_with(Vec::new).push(step);
            let end = step / 3 - 20;
            while let Some((first, rows)) = panes.pop_before(end) {
                assert_eq!(model.pop_first(), Some((first, rows)));
            }
            assert!(model.keys().next().is_none_or(|first| *first >= end));
            assert_eq!((panes.first(), panes.len()), (model.keys().next().copied(), model.len()));
        }
        assert!(panes.len() > 10);
        assert!(panes.values().eq(model.values()));
        assert!(panes.iter_mut().map(|(number, rows)| (number, rows.clone())).eq(model));
        panes.values_mut().for_each(Vec::clear);
        assert!(panes.values().all(Vec::is_empty));
    }
}
