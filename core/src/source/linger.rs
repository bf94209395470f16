//! How long a batch may wait for more rows.

use std::time::Duration;

use crate::config::Config;

/// The share of the latency target that lingering may take: the rest is for the work on the batch.
const LINGER_SHARE: u32 = 2;

/// A linger that adapts to the latency target, where there is one. Times are monotonic nanoseconds.
#[derive(Debug)]
pub(crate) struct Linger {
    current: Duration,
    target: Option<Duration>,
    /// When the last batch was handed on.
    handed: Option<u64>,
    /// How long the last batch kept the pipeline busy.
    busy: Duration,
}

impl Linger {
    pub(crate) fn new(config: &Config) -> Linger {
        let current = config.latency_target.map_or(config.linger, |target| config.linger.min(target / LINGER_SHARE));
        Linger { current, target: config.latency_target, handed: None, busy: Duration::ZERO }
    }

    /// Notes that the pipeline is back for more.
    pub(crate) fn back(&mut self, now: u64) {
        self.busy = self.handed.take().map_or(self.busy, |handed| Duration::from_nanos(now.saturating_sub(handed)));
    }

    /// When rows of which the first arrived at `since` have to be handed on.
    pub(crate) fn due(&self, since: u64) -> u64 {
        since.saturating_add(nanos(self.current))
    }

    /// Notes that rows of which the first arrived at `received` are handed on.
    pub(crate) fn handed(&mut self, received: u64, now: u64) {
        if let Some(target) = self.target {
            let took = Duration::from_nanos(now.saturating_sub(received)) + self.busy;
            self.current = adapt(self.current, took, target);
        }
        self.handed = Some(now);
    }
}

/// The next linger, when a batch took `took` from its first byte to the end of the work on it: half as long when that
/// nears the target, a quarter longer when it is far below, never more than the linger's share of the target.
fn adapt(linger: Duration, took: Duration, target: Duration) -> Duration {
    let longest = target / LINGER_SHARE;
    if took > target / 4 * 3 {
        linger.min(longest) / 2
    } else if took < target / 2 {
        (linger + linger / 4 + Duration::from_micros(1)).min(longest)
    } else {
        linger.min(longest)
    }
}

/// A duration in the clock's nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linger_adapts_within_its_bounds() {
        let target = Duration::from_millis(10);
        let micros = Duration::from_micros;
        assert_eq!(adapt(micros(1_000), micros(9_000), target), micros(500), "too slow: halved");
        assert_eq!(adapt(micros(1_000), micros(6_000), target), micros(1_000), "near enough: kept");
        assert_eq!(adapt(micros(1_000), micros(2_000), target), micros(1_251), "room to spare: grown");
        assert_eq!(adapt(micros(4_900), micros(0), target), micros(5_000), "never more than half of the target");
        assert_eq!(adapt(micros(90_000), micros(6_000), target), micros(5_000));
        assert_eq!(adapt(micros(0), micros(20_000), target), micros(0));
        let settled = (0..100).fold(micros(0), |linger, _| adapt(linger, linger + micros(3_000), target));
        assert!((micros(1_000)..=micros(4_500)).contains(&settled), "{settled:?}");
    }
}
