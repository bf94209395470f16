//! How long keys stay in the dictionary when their sessions have ended: as long as it pays.
//!
//! To forget a key and to take it in again costs about as much as all else that its session does. So keys without a session stay, up to a
//! share of those that have one, and are forgotten together; the share is greater while keys do come again.

/// Keys without a session that stay for each that has one, and how many while keys come again: in numbers, so many take as much memory as
/// one session with its key.
const FEW: usize = 1;
const MANY: usize = 4;

/// Keys come again if one session in so many, of those that are the only one of their key, begins with a key that stayed.
const SESSIONS_PER_RETURN: usize = 16;

/// Where memory was short, no key stays until so many times as many have gone as there are slots: what it takes to give memory back is
/// shared by them.
const ROUNDS: usize = 16;

/// What is known since keys without a session were last forgotten.
#[derive(Debug)]
pub(super) struct IdleKeys {
    /// Those that may stay for each key that has a session.
    per_live: usize,
    /// Keys that have lost their last session.
    gone: usize,
    /// Keys that were new.
    new: usize,
    /// Keys that had a session then.
    live: usize,
}

impl IdleKeys {
    /// None are idle; `live` keys have a session.
    pub fn new(live: usize) -> IdleKeys {
        IdleKeys { per_live: FEW, gone: 0, new: 0, live }
    }

    /// Keys came that were not there.
    pub fn note_new(&mut self, keys: usize) {
        self.new += keys;
    }

    /// Keys have lost their last session, of `slots` slots.
    pub fn note_gone(&mut self, keys: usize, slots: usize) {
        self.gone += keys;
        if self.per_live == 0 && self.gone > ROUNDS * slots {
            self.per_live = FEW;
        }
    }

    /// Whether keys go with their last session.
    pub fn none_may_stay(&self) -> bool {
        self.per_live == 0
    }

    /// Whether it is time to forget all of them: there are `idle`, and `live` keys that have a session, in `slots` slots. As half as
    /// many keys have gone by then as there are slots, a key's share of going over all of these is constant.
    pub fn are_too_many(&self, idle: usize, live: usize, slots: usize) -> bool {
        idle > self.per_live * live && 2 * self.gone >= slots
    }

    /// They have been forgotten; `live` keys have a session.
    pub fn forgotten(&mut self, live: usize) {
        let begun = (self.gone + live).saturating_sub(self.live);
        let returned = begun.saturating_sub(self.new);
        let come_again = returned > 0 && SESSIONS_PER_RETURN * returned >= begun;
        *self = IdleKeys { per_live: if come_again { MANY } else { FEW }, ..IdleKeys::new(live) };
    }

    /// They have been forgotten as memory is short; `live` keys have a session.
    pub fn spare(&mut self, live: usize) {
        *self = IdleKeys { per_live: 0, ..IdleKeys::new(live) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 keys have a session; then 1,000 sessions end and as many begin, so many of them with a new key.
    fn after(new: usize) -> IdleKeys {
        let mut keys = IdleKeys::new(100);
        keys.note_gone(1_000, 200);
        keys.note_new(new);
        keys
    }

    #[test]
    fn more_may_stay_while_keys_come_again() {
        for (new, per_live) in [(1_000, FEW), (950, FEW), (937, MANY), (0, MANY), (2_000, FEW)] {
            let mut keys = after(new);
            assert!(keys.are_too_many(101, 100, 200) && !keys.are_too_many(100, 100, 200));
            keys.forgotten(100);
            assert_eq!(keys.per_live, per_live, "{new} of 1000 are new");
            keys.note_gone(1_000, 1_000);
            assert!(keys.are_too_many(per_live * 100 + 1, 100, 1_000) && !keys.are_too_many(per_live * 100, 100, 1_000));
        }
    }

    #[test]
    fn all_slots_are_gone_over_once_in_half_as_many_keys() {
        let keys = after(1_000);
        assert!(keys.are_too_many(900, 100, 2_000) && !keys.are_too_many(900, 100, 2_001));
    }

    #[test]
    fn none_stays_for_a_while_where_memory_was_short() {
        let mut keys = after(0);
        keys.spare(100);
        for _ in 0..ROUNDS {
            keys.note_gone(200, 200);
            assert!(keys.none_may_stay());
        }
        keys.note_gone(1, 200);
        assert!(!keys.none_may_stay());
    }
}
