//! Rolling windows: how far back from each row of a key they reach.

use std::fmt;
use std::time::Duration;

/// A window that ends with each row and holds it, as SQL's `OVER (… AND CURRENT ROW)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollingSpec {
    /// The row and the rows of its key before it, so many in all.
    Rows(u32),
    /// The row and the rows of its key before it that are earlier by at most this.
    Range(Duration),
}

/// The last `rows` rows of the key, the row itself being one: SQL's `ROWS BETWEEN rows - 1 PRECEDING AND CURRENT ROW`.
pub const fn rolling_rows(rows: u32) -> RollingSpec {
    RollingSpec::Rows(rows)
}

/// The row and those of its key before it that are earlier by at most `length`: SQL's `RANGE BETWEEN length PRECEDING AND
/// CURRENT ROW`, except that rows of the same time that come later are not waited for.
pub const fn rolling_range(length: Duration) -> RollingSpec {
    RollingSpec::Range(length)
}

impl fmt::Display for RollingSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RollingSpec::Rows(rows) => write!(f, "rolling({rows} rows)"),
            RollingSpec::Range(length) => write!(f, "rolling({length:?})"),
        }
    }
}
