//! A or B: the ways that the engine could do one thing, and the crates that it could use instead.

mod decode;
mod io;
mod messages;
mod rings;

use crate::report::Report;
use crate::{Common, Result};

/// Measures all pairs.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    rings::measure(common, report)?;
    decode::measure(common, report)?;
    messages::measure(common, report)?;
    io::measure(common, report)
}
