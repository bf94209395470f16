//! Hours of a profile: at which times of the day a key's rows come.

/// Hours of a day.
pub const HOURS: usize = 24;

/// How many of a key's rows came in each hour of the day. When there are as many as the window, all counts are halved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// Rows by hour.
    pub counts: [u32; HOURS],
}

/// The hour of a day of so many units in which a time lies, as days go by in UTC: those of another zone are the same hours turned.
pub fn hour(time: i64, day: i64) -> usize {
    ((i128::from(time.rem_euclid(day)) * HOURS as i128 / i128::from(day)) as usize).min(HOURS - 1)
}

impl Hours {
    /// -ln of the share of rows that fall in hours no more usual than this one, counted before it. An hour counts a half, and a quarter for each of its
    /// neighbours, and all of them one row that may come at any time.
    pub(super) fn take(&mut self, hour: usize, window: u32) -> f64 {
        let at = |hour: usize| u64::from(self.counts[hour % HOURS]);
        let usual = |hour: usize| at(hour + HOURS - 1) + 2 * at(hour) + at(hour + 1);
        let own = usual(hour);
        let (mut hours, mut rows) = (0.0, 0);
        for other in (0..HOURS).map(usual).filter(|other| *other <= own) {
            hours += 1.0;
            rows += other;
        }
        let all = self.counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let share = (rows as f64 / 4.0 + hours / HOURS as f64) / (all + 1) as f64;
        self.counts[hour] += 1;
        if all + 1 >= u64::from(window) {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        (-share.ln()).max(0.0)
    }

    /// Whether these can be what a kernel with this window left: for what comes from a snapshot.
    pub fn is_sound(&self, window: u32) -> bool {
        self.counts.iter().map(|count| u64::from(*count)).sum::<u64>() < u64::from(window)
    }
}
