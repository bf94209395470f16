//! When a shard may be asked again: no oftener and for no more than Kinesis allows.

use std::time::Duration;

/// A shard answers five requests a second, of all who read it.
const READS_PER_SECOND: u64 = 5;
/// A shard gives two megabytes a second; who had more at once has to wait until the average is met.
const BYTES_PER_SECOND: u64 = 2_000_000;
/// The first pause after trouble, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

const SECOND: u64 = 1_000_000_000;

/// When one shard may be asked again, in nanoseconds of a clock that never goes back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    due: u64,
    /// How often in a row there was trouble.
    troubles: u32,
}

impl Pace {
    pub fn is_due(self, now: u64) -> bool {
        self.due <= now
    }

    pub fn due(self) -> u64 {
        self.due
    }

    /// A request that was made at `asked` has given so many bytes. One that found nothing new is made again after `idle` at the earliest.
    pub fn answered(&mut self, asked: u64, bytes: u64, idle: Option<Duration>) {
        self.troubles = 0;
        let fair = (SECOND / READS_PER_SECOND).max(bytes.saturating_mul(SECOND) / BYTES_PER_SECOND);
        let idle = idle.map_or(0, |idle| idle.as_nanos() as u64);
        self.due = asked.saturating_add(fair.max(idle));
    }

    /// A request has failed, and may succeed later. The pause doubles from one to the next, and a part of it is by chance, so that readers
    /// that were turned away together do not come back together: `chance` is any number.
    pub fn failed(&mut self, now: u64, chance: u64) {
        let whole = FIRST_PAUSE.saturating_mul(1 << self.troubles.min(10)).min(LONGEST_PAUSE).as_nanos() as u64;
        self.troubles = self.troubles.saturating_add(1);
        self.due = now.saturating_add(whole / 2 + chance % (whole / 2 + 1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_shard_is_not_asked_for_more_than_it_gives(answers in proptest::collection::vec((0u64..10_000_000, any::<bool>()), 1..50)) {
            let mut pace = Pace::default();
            let (mut asked, mut last) = (Vec::new(), 0);
            for (bytes, found_nothing) in answers {
                asked.push((pace.due(), bytes));
                last = pace.due();
                pace.answered(last, bytes, found_nothing.then_some(Duration::from_secs(1)));
                prop_assert!(!found_nothing || pace.due() >= last + SECOND);
                prop_assert!(pace.is_due(pace.due()) && !pace.is_due(pace.due() - 1));
            }
            let bytes: u64 = asked[..asked.len() - 1].iter().map(|(_, bytes)| bytes).sum();
            // Each division rounds a nanosecond off.
            prop_assert!(bytes as u128 * SECOND as u128 <= (last as u128 + asked.len() as u128) * BYTES_PER_SECOND as u128);
            for five in asked.windows(READS_PER_SECOND as usize + 1) {
                prop_assert!(five[READS_PER_SECOND as usize].0 - five[0].0 >= SECOND);
            }
        }

        #[test]
        fn pauses_double_up_to_a_bound(troubles in 0u32..100, chance in any::<u64>()) {
            let mut pace = Pace::default();
            (0..troubles).for_each(|_| pace.failed(0, 0));
            pace.failed(0, chance);
            let whole = (FIRST_PAUSE.as_nanos() as u64).saturating_mul(1 << troubles.min(20)).min(LONGEST_PAUSE.as_nanos() as u64);
            prop_assert!((whole / 2..=whole).contains(&pace.due()), "{} of {whole}", pace.due());
            pace.answered(5, 0, None);
            prop_assert_eq!(pace.due(), 5 + SECOND / READS_PER_SECOND);
        }
    }
}
