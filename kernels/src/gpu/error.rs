//! Why the GPU cannot take the work.

use std::fmt;

/// What went wrong. None of them is a reason to give up: the CPU takes the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No adapter that the options allow, or it opens no device.
    Unavailable,
    /// The table or the batch is larger than the device's limits let a buffer be.
    Limit,
    /// The device's memory, or the budget given to the engine, is used up.
    Memory,
    /// The device was lost (reset, removed, destroyed), refuses what it was asked, or answers no more.
    Lost,
}

/// A fault with what was being done and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    fault: Fault,
    message: String,
}

impl Error {
    pub(super) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into() }
    }

    /// The kind of fault.
    pub fn fault(&self) -> Fault {
        self.fault
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
