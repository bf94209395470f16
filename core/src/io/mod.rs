//! Bytes in: operations go in under a token, completions come back as values.
//!
//! An [`Io`] belongs to one thread and has no thread of its own. What was received stays in memory that the
//! backend shares with the kernel until [`Io::release`], so that nothing is copied on the way to a decoder. The
//! number of buffers is fixed: while all are out, receiving pauses and the sender feels it. That is backpressure.
//!
//! | backend | how | when |
//! |---|---|---|
//! | io_uring | multishot accept, receive and receive-message into provided buffers, file reads at depth into registered buffers | sockets and direct reads on Linux 6.0 or later, where allowed |
//! | portable | epoll, non-blocking receives, blocking reads | files through the page cache, and everything elsewhere |
//! | [`sim::Sim`] | a seeded script of clients and faults | tests and simulations |

#[cfg(target_os = "linux")]
mod memory;
mod pool;
mod portable;
pub mod sim;
#[cfg(target_os = "linux")]
mod uring;

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::config::{Config, IoBackend, READ_BUFFER_BYTES, READ_DEPTH};
use crate::error::Result;

/// Buffers for [`Op::Read`], and with it the reads that may be under way or unreleased at once: four files at full
/// depth. At [`READ_BUFFER_BYTES`] each they come to half of the memory that
/// Linux lets an unprivileged process pin by default (8 MiB).
pub const READ_BUFFERS: usize = 4 * READ_DEPTH;

const _: () = assert!(READ_BUFFERS * READ_BUFFER_BYTES <= 8 << 20, "read buffers fit the default limit on locked memory");

/// Names an operation. The caller chooses it, unique among the operations under way; `u64::MAX` is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// An open descriptor. A backend holds on to it until the operation is over, so its number cannot be reused meanwhile.
pub type Fd = Arc<OwnedFd>;

/// Something to be done.
#[derive(Debug, Clone)]
pub enum Op {
    /// Takes the connections of a listening socket, until it fails or is cancelled.
    Accept(Fd),
    /// Receives the bytes of a connection or the datagrams of a socket, each into a buffer of its own, until the
    /// connection ends, fails or is cancelled. Empty datagrams are left out.
    Recv(Fd),
    /// Reads a pipe, terminal or other input without positions until it ends, fails or is cancelled. A pipe that no
    /// writer has opened yet has not ended.
    Stream(Fd),
    /// Reads once, at most `len` bytes at `offset`. With `O_DIRECT` both must be multiples of the disk's block.
    Read {
        /// A regular file.
        file: Fd,
        /// Position of the first byte.
        offset: u64,
        /// Bytes wanted, at most [`READ_BUFFER_BYTES`].
        len: usize,
    },
}

/// Bytes that came in, still in the backend's memory. Give it back with [`Io::release`]: a buffer that is dropped
/// instead is lost to its backend.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is not released is lost to its backend"]
pub struct Buffer {
    slot: u32,
    /// Where in its slot the bytes begin.
    start: u32,
    len: u32,
    /// How many bytes there would be, had the slot had room for them.
    sent: u32,
    sender: Option<SocketAddr>,
}

impl Buffer {
    /// The first `len` bytes of a slot: a piece of a connection or file.
    fn piece(slot: u32, len: usize) -> Buffer {
        Buffer { slot, start: 0, len: len as u32, sent: len as u32, sender: None }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the datagram had that this is: more than [`Buffer::len`] if its end was cut off for want of room.
    pub fn sent(&self) -> usize {
        self.sent as usize
    }

    /// Who sent the datagram that this is. `None` for pieces of connections and files, whose origin is known beforehand.
    pub fn sender(&self) -> Option<SocketAddr> {
        self.sender
    }

    /// Where in its slot the bytes lie.
    fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// What has become of an operation. [`Event::End`], [`Event::Failed`] and a read's [`Event::Data`] are its last.
#[derive(Debug)]
pub enum Event {
    /// A client has connected.
    Accepted(OwnedFd),
    /// Bytes, at least one.
    Data(Buffer),
    /// Nothing will come any more: the client has closed, the file has ended.
    End,
    /// The operation has failed; `ECANCELED` after [`Io::cancel`].
    Failed(std::io::Error),
}

/// One event of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation.
    pub token: Token,
    /// What has become of it.
    pub event: Event,
}

/// A way of getting bytes in. Built on any thread, then used on one: the first [`Io::wait`] settles which.
pub trait Io: Send {
    /// Begins an operation. It may not reach the kernel before the next [`Io::wait`].
    ///
    /// # Errors
    /// If the operation cannot be begun: the descriptor is of the wrong kind, or more than [`READ_BUFFERS`] reads
    /// are under way or unreleased.
    fn submit(&mut self, token: Token, op: Op) -> Result<()>;

    /// Ends an operation early. Events that were under way may still come; the last is [`Event::End`],
    /// [`Event::Failed`] or a read's data. Does nothing if the operation is over.
    ///
    /// # Errors
    /// If the backend as a whole has failed.
    fn cancel(&mut self, token: Token) -> Result<()>;

    /// Moves what has completed to the end of `out`, waiting no longer than `timeout` for the first. Returns
    /// early, with nothing, when a signal arrives. The events of one operation come in order.
    ///
    /// # Errors
    /// If the backend as a whole has failed.
    fn wait(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> Result<()>;

    /// The bytes of a buffer of this backend.
    fn bytes(&self, buffer: &Buffer) -> &[u8];

    /// Gives a buffer back, to be filled anew.
    fn release(&mut self, buffer: Buffer);

    /// The backend's name, for logs and metrics.
    fn name(&self) -> &'static str;
}

/// Opens the backend that `config` asks for. Which one runs, and why, is logged once per process.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if io_uring was demanded and is not to be had here, with what to do.
pub fn open(config: &Config) -> Result<Box<dyn Io>> {
    static SAID: Once = Once::new();
    let uring = match config.io {
        IoBackend::Portable => {
            SAID.call_once(|| tracing::info!(backend = portable::NAME, "reads through epoll, as configured"));
            return portable();
        }
        IoBackend::Auto | IoBackend::Uring => uring(),
    };
    match uring {
        Ok(io) => {
            SAID.call_once(|| tracing::info!(backend = io.name(), "reads through io_uring"));
            Ok(io)
        }
        Err(error) if config.io == IoBackend::Uring => Err(error),
        Err(error) => {
            SAID.call_once(|| tracing::warn!(backend = portable::NAME, %error, "reads through epoll instead of io_uring"));
            portable()
        }
    }
}

/// Opens the backend for files, pipes and terminals: as [`open`], but [`IoBackend::Auto`] takes blocking reads unless files
/// are read past the page cache, where reads in flight together pay. Through the cache, warm or cold, io_uring was not
/// faster than the kernel's own reading ahead (`thalweg-bench ab`).
///
/// # Errors
/// As [`open`].
pub fn open_for_files(config: &Config) -> Result<Box<dyn Io>> {
    match config.io {
        IoBackend::Auto if !config.direct_io => portable(),
        _ => open(config),
    }
}

/// Whether io_uring works here.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) that says why not and what to do.
pub fn probe() -> Result<()> {
    uring().map(drop)
}

fn portable() -> Result<Box<dyn Io>> {
    Ok(Box::new(portable::Portable::new()?))
}

#[cfg(target_os = "linux")]
fn uring() -> Result<Box<dyn Io>> {
    Ok(Box::new(uring::Uring::new()?))
}

#[cfg(not(target_os = "linux"))]
fn uring() -> Result<Box<dyn Io>> {
    Err(crate::error::Error::config("io_uring exists on Linux only; set THALWEG_IO to auto or portable"))
}

#[cfg(test)]
mod tests;
