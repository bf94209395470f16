//! Windows of your own: a function says which ones a row lies in.

use std::fmt;
use std::sync::Arc;

use super::global::Row;
use crate::error::{Error, Result};

/// What a function of yours fills with the windows of a row, each from its start to below its end.
pub type Spans = Vec<(i64, i64)>;

type Assign = Arc<dyn Fn(Row<'_>, &mut Spans) + Send + Sync>;

/// Windows that a function assigns rows to.
#[derive(Clone)]
pub struct AssignedSpec {
    name: Arc<str>,
    assign: Assign,
}

/// Windows of your own: `assign` says which `[start, end)`, in units of event time, each row lies in; each must hold the row's event
/// time. Rows of the same start and end are of one window, which fires when the watermark passes its end, and may be revised
/// as windows of time are ([`allowed_lateness`](crate::plan::Windowed::allowed_lateness)). A row for which `assign` gives none is in no window, and not late. `name` is what `explain` calls it.
///
/// ```
/// use thalweg::windows_by;
///
/// // From each opening of the exchange at 9:00 to the next, and what came before lunch.
/// let sessions = windows_by("trading day", |row, windows| {
///     let opening = (row.time - 32_400_000).div_euclid(86_400_000) * 86_400_000 + 32_400_000;
///     windows.push((opening, opening + 86_400_000));
///     if row.time < opening + 10_800_000 {
///         windows.push((opening, opening + 10_800_000));
///     }
/// });
/// ```
pub fn windows_by(name: impl AsRef<str>, assign: impl Fn(Row<'_>, &mut Spans) + Send + Sync + 'static) -> AssignedSpec {
    AssignedSpec { name: name.as_ref().into(), assign: Arc::new(assign) }
}

impl AssignedSpec {
    /// Replaces `windows` by those of a row.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if one of them does not hold the row.
    pub(crate) fn assign(&self, row: Row<'_>, windows: &mut Spans) -> Result<()> {
        windows.clear();
        (self.assign)(row, windows);
        match windows.iter().find(|(start, end)| !(*start..*end).contains(&row.time)) {
            None => Ok(()),
            Some((start, end)) => Err(Error::config(format!(
                "`{}` puts a row at {} into the window [{start}, {end}), which does not hold it; a window must hold the event times of its rows",
                self.name, row.time
            ))),
        }
    }
}

impl fmt::Display for AssignedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "windows_by({})", self.name)
    }
}

impl fmt::Debug for AssignedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
