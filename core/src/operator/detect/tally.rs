//! How much memory the states of many keys hold, looked at now and then.

/// Bytes that states hold when last looked at, and rows since: so that looking costs little however many keys there are.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: usize,
    rows: usize,
}

impl Tally {
    /// So many rows came to `states`: looks at them once in as many rows as there are keys.
    pub fn look<S>(&mut self, rows: usize, states: &[S], bytes: impl Fn(&S) -> usize) {
        self.rows += rows;
        if self.rows >= states.len() {
            (self.bytes, self.rows) = (states.iter().map(bytes).sum(), 0);
        }
    }

    /// Bytes of all states when last looked at.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
