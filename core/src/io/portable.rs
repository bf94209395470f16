//! epoll for what may have to wait, blocking reads for files.
//!
//! Descriptors are watched level-triggered. Receives never block, whatever the descriptor's own flags say, so that
//! flags which other processes share (standard input's, say) stay as they are.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::socket_type;
use rustix::net::{RecvFlags, SocketFlags, SocketType, accept_with, recv, recvfrom};

use super::pool::Pool;
use super::{Buffer, Completion, Event, Fd, Io, Op, READ_BUFFERS, Token};
use crate::config::{READ_BUFFER_BYTES, RECV_BUFFER_BYTES, RECV_BUFFERS};
use crate::error::{Error, Result};

/// The backend's name.
pub(super) const NAME: &str = "epoll";

/// Descriptors that one look at epoll reports; the others are reported by the next look.
const EVENTS: usize = 256;
/// Pieces that one descriptor may bring per look, so that a fast one does not starve the others.
const PIECES: usize = 8;
/// The longest single wait, so that any `Duration` fits the kernel's clock; the caller waits again.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// The portable backend.
pub(super) struct Portable {
    epoll: OwnedFd,
    ops: HashMap<u64, Watched>,
    reads: VecDeque<Read>,
    /// Streams that epoll does not take because they are always ready: regular files, `/dev/null`.
    always: VecDeque<u64>,
    /// Receives that are not watched for want of buffers, oldest first.
    starved: VecDeque<u64>,
    cancelled: Vec<u64>,
    recv: Pool,
    read: Pool,
}

struct Watched {
    fd: Fd,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept,
    Recv,
    Datagrams,
    Stream,
}

struct Read {
    token: Token,
    file: Fd,
    offset: u64,
    len: usize,
    slot: u32,
}

/// Whether a descriptor may have more to give.
enum Next {
    Again,
    Later,
    Over,
}

impl Portable {
    pub(super) fn new() -> Result<Portable> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| Error::io("cannot create an epoll descriptor", error.into()))?;
        Ok(Portable {
            epoll,
            ops: HashMap::new(),
            reads: VecDeque::new(),
            always: VecDeque::new(),
            starved: VecDeque::new(),
            cancelled: Vec::new(),
            recv: Pool::new(usize::from(RECV_BUFFERS), RECV_BUFFER_BYTES),
            read: Pool::new(READ_BUFFERS, READ_BUFFER_BYTES),
        })
    }

    fn watch(&mut self, token: u64, fd: Fd, kind: Kind) -> Result<()> {
        match epoll::add(&self.epoll, &fd, EventData::new_u64(token), EventFlags::IN) {
            Ok(()) => {}
            Err(Errno::PERM) if kind == Kind::Stream => self.always.push_back(token),
            Err(error) => return Err(Error::io("cannot watch a descriptor through epoll", error.into())),
        }
        self.ops.insert(token, Watched { fd, kind });
        Ok(())
    }

    fn forget(&mut self, token: u64) {
        if let Some(op) = self.ops.remove(&token) {
            // Fails for the streams that epoll did not take; there is nothing to undo then.
            let _ = epoll::delete(&self.epoll, &op.fd);
            self.starved.retain(|&starved| starved != token);
            self.always.retain(|&always| always != token);
        }
    }

    /// Does the oldest read.
    fn read_file(&mut self, out: &mut Vec<Completion>) {
        let Some(Read { token, file, offset, len, slot }) = self.reads.pop_front() else { return };
        let read = loop {
            match rustix::io::pread(&file, &mut self.read.slot_mut(slot)[..len], offset) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        let event = match read {
            Ok(0) => Event::End,
            Ok(len) => Event::Data(Buffer::piece(u32::from(RECV_BUFFERS) + slot, len)),
            Err(error) => Event::Failed(error.into()),
        };
        if !matches!(event, Event::Data(_)) {
            self.read.give_back(slot);
        }
        out.push(Completion { token, event });
    }

    /// Takes what a ready descriptor has to give.
    fn ready(&mut self, token: u64, out: &mut Vec<Completion>) -> Result<()> {
        for _ in 0..PIECES {
            let Some(op) = self.ops.get(&token) else { return Ok(()) };
            let next = match op.kind {
                Kind::Accept => accept(token, op, out),
                _ if self.recv.is_exhausted() => {
                    // Level-triggered, a descriptor that is not read would be reported for ever.
                    if !self.always.contains(&token) {
                        epoll::modify(&self.epoll, &op.fd, EventData::new_u64(token), EventFlags::empty())
                            .map_err(|error| Error::io("cannot pause a descriptor in epoll", error.into()))?;
                        self.starved.push_back(token);
                    }
                    return Ok(());
                }
                kind => receive(token, &op.fd, kind, &mut self.recv, out),
            };
            match next {
                Next::Again => {}
                Next::Later => return Ok(()),
                Next::Over => self.forget(token),
            }
        }
        Ok(())
    }

    /// Watches starved receives again, as many as there are buffers.
    fn resume(&mut self) -> Result<()> {
        while !self.recv.is_exhausted()
            && let Some(token) = self.starved.pop_front()
        {
            if let Some(op) = self.ops.get(&token) {
                epoll::modify(&self.epoll, &op.fd, EventData::new_u64(token), EventFlags::IN)
                    .map_err(|error| Error::io("cannot resume a descriptor in epoll", error.into()))?;
            }
        }
        Ok(())
    }

    /// Looks which descriptors are ready, without waiting.
    fn look(&mut self, out: &mut Vec<Completion>) -> Result<()> {
        let mut events = [MaybeUninit::uninit(); EVENTS];
        match epoll::wait(&self.epoll, &mut events, Some(&Timespec::default())) {
            Ok((events, _)) => events.iter().try_for_each(|event| self.ready(event.data.u64(), out)),
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("cannot look at epoll", error.into())),
        }
    }
}

impl Io for Portable {
    fn submit(&mut self, token: Token, op: Op) -> Result<()> {
        match op {
            Op::Accept(fd) => {
                // A client that has gone before its connection is taken would block the call otherwise.
                fcntl_getfl(&fd)
                    .and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK))
                    .map_err(|error| Error::io("cannot make a listening socket non-blocking", error.into()))?;
                self.watch(token.0, fd, Kind::Accept)
            }
            Op::Recv(fd) => {
                let socket = socket_type(&fd).map_err(|error| Error::io("cannot receive from what is not a socket", error.into()))?;
                self.watch(token.0, fd, if socket == SocketType::DGRAM { Kind::Datagrams } else { Kind::Recv })
            }
            Op::Stream(fd) => self.watch(token.0, fd, Kind::Stream),
            Op::Read { file, offset, len } => {
                let slot = self
                    .read
                    .take()
                    .ok_or_else(|| Error::connector(format!("more than {READ_BUFFERS} file reads are under way or unreleased")))?;
                self.reads.push_back(Read { token, file, offset, len: len.min(READ_BUFFER_BYTES), slot });
                Ok(())
            }
        }
    }

    fn cancel(&mut self, token: Token) -> Result<()> {
        if let Some(at) = self.reads.iter().position(|read| read.token == token) {
            let read = self.reads.remove(at);
            read.into_iter().for_each(|read| self.read.give_back(read.slot));
            self.cancelled.push(token.0);
        } else if self.ops.contains_key(&token.0) {
            self.forget(token.0);
            self.cancelled.push(token.0);
        }
        Ok(())
    }

    /// Does one file read per call at most: the next one is wanted in the cache when this one is done with.
    fn wait(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> Result<()> {
        let before = out.len();
        let cancelled = std::mem::take(&mut self.cancelled);
        out.extend(cancelled.into_iter().map(|token| Completion { token: Token(token), event: Event::Failed(Errno::CANCELED.into()) }));
        self.resume()?;
        self.read_file(out);
        if let Some(token) = self.always.pop_front() {
            self.always.push_back(token);
            self.ready(token, out)?;
        }
        if self.ops.len() > self.always.len() {
            self.look(out)?;
        }
        if out.len() == before && !timeout.is_zero() {
            // `epoll_wait` counts in milliseconds, which is longer than a row may have to wait; `ppoll` in nanoseconds.
            let timeout = Timespec::try_from(timeout.min(LONGEST_WAIT)).unwrap_or_default();
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => self.look(out)?,
                Err(error) => return Err(Error::io("cannot wait for epoll", error.into())),
            }
        }
        Ok(())
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let bytes = match buffer.slot.checked_sub(u32::from(RECV_BUFFERS)) {
            Some(slot) => self.read.slot(slot),
            None => self.recv.slot(buffer.slot),
        };
        &bytes[buffer.range()]
    }

    fn release(&mut self, buffer: Buffer) {
        match buffer.slot.checked_sub(u32::from(RECV_BUFFERS)) {
            Some(slot) => self.read.give_back(slot),
            None => self.recv.give_back(buffer.slot),
        }
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

fn accept(token: u64, op: &Watched, out: &mut Vec<Completion>) -> Next {
    let (event, next) = match accept_with(&op.fd, SocketFlags::CLOEXEC) {
        Ok(client) => (Event::Accepted(client), Next::Again),
        Err(Errno::AGAIN) => return Next::Later,
        Err(Errno::INTR) => return Next::Again,
        Err(error) => (Event::Failed(error.into()), Next::Over),
    };
    out.push(Completion { token: Token(token), event });
    next
}

/// Receives one piece; there is a free buffer.
fn receive(token: u64, fd: &Fd, kind: Kind, pool: &mut Pool, out: &mut Vec<Completion>) -> Next {
    let Some(slot) = pool.take() else { return Next::Later };
    let into = pool.slot_mut(slot);
    let room = into.len();
    let received = match kind {
        Kind::Datagrams => datagram(fd, slot, into),
        Kind::Stream => rustix::io::read(fd.as_fd(), into).map(|len| Buffer::piece(slot, len)),
        _ => recv(fd, into, RecvFlags::DONTWAIT).map(|(len, _)| Buffer::piece(slot, len)),
    };
    let (event, next) = match received {
        Err(Errno::AGAIN) => (None, Next::Later),
        Err(Errno::INTR) => (None, Next::Again),
        Err(error) => (Some(Event::Failed(io::Error::from(error))), Next::Over),
        Ok(buffer) if buffer.is_empty() && kind == Kind::Datagrams => (None, Next::Again),
        Ok(buffer) if buffer.is_empty() => (Some(Event::End), Next::Over),
        // One readiness allows one read of a stream: a second may block. A connection that fills less than a buffer is
        // drained.
        Ok(buffer) => {
            let drained = kind == Kind::Stream || kind == Kind::Recv && buffer.len() < room;
            (Some(Event::Data(buffer)), if drained { Next::Later } else { Next::Again })
        }
    };
    if !matches!(event, Some(Event::Data(_))) {
        pool.give_back(slot);
    }
    out.extend(event.map(|event| Completion { token: Token(token), event }));
    next
}

/// Receives one datagram with its sender; with `TRUNC` the system tells how long it was, whatever the room for it.
fn datagram(fd: &Fd, slot: u32, into: &mut [u8]) -> rustix::io::Result<Buffer> {
    let room = into.len();
    let (_, sent, sender) = recvfrom(fd, into, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    let sender = sender.and_then(|sender| SocketAddr::try_from(sender).ok());
    Ok(Buffer { slot, start: 0, len: sent.min(room) as u32, sent: sent as u32, sender })
}
