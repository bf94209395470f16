//! io_uring: one ring per [`Uring`], used by one thread.
//!
//! Accept and receive are multishot: one submission, then a completion per connection or piece of data, with no
//! call in between. Received bytes land in buffers that were provided to the kernel in a ring of their own; when it
//! runs empty the kernel ends the receive with `ENOBUFS`, and it is armed again once buffers come back. File reads go
//! into memory that is registered (pinned and mapped once) where the limit on locked memory allows it.
//!
//! The kernel does the work of completions in [`Io::wait`] only (`IORING_SETUP_DEFER_TASKRUN`), so nothing
//! interrupts a decoder. Such a ring belongs to one thread: it is built disabled, on any thread, and the first
//! `wait` enables it for the thread that calls. A later `wait` on another thread is an error.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd as RingFd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use super::memory::Memory;
use super::{Buffer, Completion, Event, Fd, Io, Op, READ_BUFFERS, Token};
use crate::config::{MAX_DATAGRAM_BYTES, READ_BUFFER_BYTES, RECV_BUFFER_BYTES, RECV_BUFFERS};
use crate::error::{Error, Result};

/// Submissions that are written down before the kernel is called: a burst of re-armed receives fits.
const SUBMISSIONS: u32 = 256;
/// Completions that fit before the kernel spills over into slower memory: every connection may complete at once.
const COMPLETIONS: u32 = 4_096;
/// Receive buffers that the kernel has at least, while there are some: it uses those provided first, so all of them go round,
/// and these fit the second-level cache. More clients get a buffer each.
const WARM_BUFFERS: usize = 8;
/// The group of the provided receive buffers; a ring has only this one.
const RECV_GROUP: u16 = 0;
/// Completions of cancellations; nobody waits for them.
const UNHEARD: u64 = u64::MAX;
/// Bytes that the kernel writes before a datagram: what `struct io_uring_recvmsg_out` holds, then the sender's address.
const ENVELOPE_BYTES: usize = 4 * size_of::<u32>() + size_of::<libc::sockaddr_in6>();
/// The longest single wait, so that any `Duration` fits the kernel's clock; the caller waits again.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

const _: () = assert!(ENVELOPE_BYTES + MAX_DATAGRAM_BYTES <= RECV_BUFFER_BYTES, "every datagram fits a buffer whole");

/// The io_uring backend.
pub(super) struct Uring {
    ring: IoUring,
    enabled: bool,
    ops: HashMap<u64, Pending>,
    /// Receives that ended for want of buffers, oldest first.
    starved: VecDeque<u64>,
    /// Operations that were cancelled while the kernel did not have them.
    cancelled: Vec<u64>,
    recv: RecvBuffers,
    /// Whether datagrams are received: each takes a buffer, of which it touches little.
    datagrams: bool,
    envelope: Envelope,
    read: Option<ReadBuffers>,
    scratch: Vec<cqueue::Entry>,
}

struct Pending {
    fd: Fd,
    kind: Kind,
    cancelled: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Accept,
    Recv,
    Datagrams,
    /// A stream that waits to become readable: a pipe that has no writer yet reads as ended.
    Await,
    Stream,
    Read {
        slot: u16,
        offset: u64,
        len: u32,
    },
}

impl Uring {
    /// A ring that is ready to use.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the kernel lacks or forbids what is needed.
    pub(super) fn new() -> Result<Uring> {
        let ring = build()?;
        let recv = RecvBuffers::register(&ring)?;
        Ok(Uring {
            ring,
            enabled: false,
            ops: HashMap::new(),
            starved: VecDeque::new(),
            cancelled: Vec::new(),
            recv,
            datagrams: false,
            envelope: Envelope::new(),
            read: None,
            scratch: Vec::with_capacity(COMPLETIONS as usize),
        })
    }

    /// Writes down the submission of the operation `token`, or ends it if it was cancelled meanwhile.
    fn arm(&mut self, token: u64) -> Result<()> {
        let Some(op) = self.ops.get(&token) else { return Ok(()) };
        if op.cancelled {
            self.cancelled.push(token);
            return Ok(());
        }
        let fd = RingFd(op.fd.as_raw_fd());
        let entry = match op.kind {
            Kind::Accept => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
            Kind::Recv => opcode::RecvMulti::new(fd, RECV_GROUP).build(),
            Kind::Datagrams => opcode::RecvMsgMulti::new(fd, &raw const *self.envelope.0, RECV_GROUP).build(),
            Kind::Await => opcode::PollAdd::new(fd, libc::POLLIN as u32).build(),
            Kind::Stream => opcode::Read::new(fd, std::ptr::null_mut(), RECV_BUFFER_BYTES as u32)
                .offset(u64::MAX)
                .buf_group(RECV_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Kind::Read { slot, offset, len } => match &self.read {
                Some(read) => read.entry(fd, slot, offset, len),
                None => return Err(Error::connector("a file read has no buffer")),
            },
        };
        self.push(entry.user_data(token))
    }

    fn push(&mut self, entry: squeue::Entry) -> Result<()> {
        loop {
            // SAFETY: whatever an entry points to lives as long as the operation: descriptors are held in `ops`, the
            // envelope is kept to the end, and buffers belong to `recv` and `read`, which `drop` keeps until the kernel is
            // done with them.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.enter(0, Duration::ZERO)?;
        }
    }

    /// Hands the written submissions to the kernel, runs its deferred work and waits for `want` completions.
    fn enter(&mut self, want: usize, timeout: Duration) -> Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings().map_err(|error| Error::io("cannot enable io_uring", error))?;
            self.enabled = true;
        }
        let entered = match want {
            0 => self.ring.submit(),
            _ => {
                let timeout = Timespec::from(timeout.min(LONGEST_WAIT));
                self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((Some(libc::EEXIST), _)) => {
                Err(Error::config("io_uring was begun on one thread and used on another; poll a source on one thread only"))
            }
            Err((_, error)) => Err(Error::io("cannot enter io_uring", error)),
        }
    }

    /// Takes what the kernel has completed.
    fn drain(&mut self, out: &mut Vec<Completion>) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.extend(self.ring.completion());
        let drained = scratch.drain(..).try_for_each(|entry| self.complete(&entry, out));
        self.scratch = scratch;
        drained
    }

    fn complete(&mut self, entry: &cqueue::Entry, out: &mut Vec<Completion>) -> Result<()> {
        let (token, result) = (entry.user_data(), entry.result());
        let more = cqueue::more(entry.flags());
        let received = cqueue::buffer_select(entry.flags()).inspect(|_| self.recv.provided -= 1);
        let Some(kind) = self.ops.get(&token).map(|op| op.kind) else {
            // A cancellation, or the last word of a stream that has failed already.
            received.into_iter().for_each(|slot| self.recv.give_back(slot));
            return Ok(());
        };
        let mut say = |event| out.push(Completion { token: Token(token), event });
        match (result, kind) {
            (error, Kind::Recv | Kind::Datagrams | Kind::Stream) if error == -libc::ENOBUFS => self.starved.push_back(token),
            (error, Kind::Stream | Kind::Await) if error == -libc::EAGAIN => {
                self.ops.entry(token).and_modify(|op| op.kind = Kind::Await);
                self.arm(token)?;
            }
            (error, _) if error == -libc::EINTR => self.arm(token)?,
            (error, _) if error < 0 => {
                say(Event::Failed(io::Error::from_raw_os_error(-error)));
                self.forget(token);
            }
            (_, Kind::Await) => {
                self.ops.entry(token).and_modify(|op| op.kind = Kind::Stream);
                self.arm(token)?;
            }
            (fd, Kind::Accept) => {
                // SAFETY: a completed accept hands over a descriptor that nobody else owns.
                say(Event::Accepted(unsafe { OwnedFd::from_raw_fd(fd) }));
                if !more {
                    self.arm(token)?;
                }
            }
            (0, _) => {
                received.into_iter().for_each(|slot| self.recv.give_back(slot));
                say(Event::End);
                self.forget(token);
            }
            (len, Kind::Read { slot, .. }) => {
                say(Event::Data(Buffer::piece(u32::from(RECV_BUFFERS) + u32::from(slot), len as usize)));
                self.ops.remove(&token);
            }
            (len, Kind::Recv | Kind::Datagrams | Kind::Stream) => {
                let buffer = received.map(|slot| match kind {
                    Kind::Datagrams => self.envelope.open(&self.recv, slot, len as usize),
                    _ => Buffer::piece(u32::from(slot), len as usize),
                });
                match buffer {
                    // An empty datagram is left out, and the kernel takes it for the end.
                    Some(buffer) if buffer.is_empty() => self.release(buffer),
                    Some(buffer) => say(Event::Data(buffer)),
                    None => {}
                }
                if !more {
                    self.arm(token)?;
                }
            }
        }
        Ok(())
    }

    /// Forgets an operation that is over, freeing the buffer of a read that brought nothing.
    fn forget(&mut self, token: u64) {
        if let (Some(Pending { kind: Kind::Read { slot, .. }, .. }), Some(read)) = (self.ops.remove(&token), &mut self.read) {
            read.free.push(slot);
        }
    }

    /// Arms as many starved receives again as there are buffers.
    fn resume(&mut self) -> Result<()> {
        for _ in 0..self.starved.len().min(usize::from(self.recv.provided)) {
            if let Some(token) = self.starved.pop_front() {
                self.arm(token)?;
            }
        }
        Ok(())
    }
}

impl Io for Uring {
    fn submit(&mut self, token: Token, op: Op) -> Result<()> {
        let (fd, kind) = match op {
            Op::Accept(fd) => (fd, Kind::Accept),
            Op::Recv(fd) => {
                let socket = socket_type(&fd).map_err(|error| Error::io("cannot receive from what is not a socket", error.into()))?;
                (fd, if socket == SocketType::DGRAM { Kind::Datagrams } else { Kind::Recv })
            }
            Op::Stream(fd) => (fd, Kind::Await),
            Op::Read { file, offset, len } => {
                let slot = match &mut self.read {
                    Some(read) => read,
                    None => self.read.insert(ReadBuffers::register(&self.ring)),
                }
                .free
                .pop()
                .ok_or_else(|| Error::connector(format!("more than {READ_BUFFERS} file reads are under way or unreleased")))?;
                (file, Kind::Read { slot, offset, len: len.min(READ_BUFFER_BYTES) as u32 })
            }
        };
        self.datagrams |= matches!(kind, Kind::Datagrams);
        self.ops.insert(token.0, Pending { fd, kind, cancelled: false });
        self.arm(token.0)
    }

    fn cancel(&mut self, token: Token) -> Result<()> {
        let Some(op) = self.ops.get_mut(&token.0) else { return Ok(()) };
        op.cancelled = true;
        match self.starved.iter().position(|&starved| starved == token.0) {
            Some(at) => {
                self.starved.remove(at);
                self.cancelled.push(token.0);
                Ok(())
            }
            None => self.push(opcode::AsyncCancel::new(token.0).build().user_data(UNHEARD)),
        }
    }

    fn wait(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> Result<()> {
        let before = out.len();
        self.recv.provide_up_to(if self.datagrams { RECV_BUFFERS.into() } else { self.ops.len().max(WARM_BUFFERS) });
        self.resume()?;
        self.drain(out)?;
        if out.len() == before || !self.ring.submission().is_empty() {
            let idle = out.len() == before && self.cancelled.is_empty() && !timeout.is_zero();
            self.enter(usize::from(idle), timeout)?;
            self.drain(out)?;
        }
        for token in std::mem::take(&mut self.cancelled) {
            out.push(Completion { token: Token(token), event: Event::Failed(io::Error::from_raw_os_error(libc::ECANCELED)) });
            self.forget(token);
        }
        Ok(())
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let slot = buffer.slot as usize;
        let (memory, offset) = match (slot.checked_sub(usize::from(RECV_BUFFERS)), &self.read) {
            (Some(slot), Some(read)) => (&read.memory, slot * READ_BUFFER_BYTES + buffer.start as usize),
            _ => (&self.recv.memory, slot * RECV_BUFFER_BYTES + buffer.start as usize),
        };
        // SAFETY: the kernel has filled these bytes and leaves a completed buffer alone until it is provided or read
        // into again, which takes `release` to consume the `Buffer` that is borrowed here.
        unsafe { memory.bytes(offset, buffer.len()) }
    }

    fn release(&mut self, buffer: Buffer) {
        match (buffer.slot.checked_sub(u32::from(RECV_BUFFERS)), &mut self.read) {
            (Some(slot), Some(read)) => read.free.push(slot as u16),
            _ => self.recv.give_back(buffer.slot as u16),
        }
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for Uring {
    /// Ends what is under way before the memory that the kernel writes to is freed. Where that cannot be done (the
    /// thread that used the ring is another one, or a disk does not answer within a second) the memory is left
    /// allocated instead.
    fn drop(&mut self) {
        let tokens: Vec<u64> = self.ops.keys().copied().collect();
        let mut quiet = tokens.iter().try_for_each(|&token| self.cancel(Token(token))).is_ok();
        let mut out = Vec::new();
        for _ in 0..100 {
            if self.ops.is_empty() || !quiet {
                break;
            }
            quiet = self.wait(Duration::from_millis(10), &mut out).is_ok();
        }
        if !self.ops.is_empty() {
            self.recv.memory.keep = true;
            self.recv.entries.keep = true;
            self.read.iter_mut().for_each(|read| read.memory.keep = true);
        }
    }
}

/// Builds a ring with the cheapest way of running completions that this kernel has.
fn build() -> Result<IoUring> {
    let mut refused = io::Error::from_raw_os_error(libc::ENOSYS);
    for deferred in [true, false] {
        let mut builder = IoUring::builder();
        builder.setup_r_disabled().setup_single_issuer().setup_taskrun_flag().setup_submit_all().setup_cqsize(COMPLETIONS);
        match deferred {
            true => builder.setup_defer_taskrun(),
            false => builder.setup_coop_taskrun(),
        };
        match builder.build(SUBMISSIONS) {
            Ok(ring) => return usable(ring),
            Err(error) => refused = error,
        }
    }
    Err(forbidden(refused))
}

/// Checks for waits with a timeout and, by an operation of the same age, for multishot receive (Linux 6.0).
fn usable(ring: IoUring) -> Result<IoUring> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(forbidden)?;
    match ring.params().is_feature_ext_arg() && probe.is_supported(opcode::SendZc::CODE) {
        true => Ok(ring),
        false => Err(forbidden(io::Error::from_raw_os_error(libc::EINVAL))),
    }
}

/// Says why io_uring is not to be had, and what to do.
fn forbidden(error: io::Error) -> Error {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let why = match (error.raw_os_error(), sysctl.trim()) {
        (Some(libc::EPERM), "1" | "2") => "the system forbids it; set the sysctl kernel.io_uring_disabled to 0",
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a sandbox forbids it; run the container with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOSYS), _) => "the kernel lacks it or a sandbox hides it; use Linux 6.0 or later and allow its calls",
        (Some(libc::EINVAL), _) => "the kernel is too old; use Linux 6.0 or later",
        (Some(libc::ENOMEM), _) => "too little memory may be locked; raise `ulimit -l`",
        _ => "the kernel refused it",
    };
    Error::config(format!("io_uring cannot be used: {why}; or set THALWEG_IO to auto or portable")).with_source(error)
}

/// Receive buffers and the ring in which they are provided to the kernel.
struct RecvBuffers {
    memory: Memory,
    /// [`RECV_BUFFERS`] entries of the kernel's layout; the tail lies in the first.
    entries: Memory,
    tail: u16,
    /// Buffers that the kernel has and has not used.
    provided: u16,
    /// Buffers that nobody has. The last one given back is the next one provided: it is in the cache.
    free: Vec<u16>,
}

impl RecvBuffers {
    fn register(ring: &IoUring) -> Result<RecvBuffers> {
        let memory = Memory::new(usize::from(RECV_BUFFERS) * RECV_BUFFER_BYTES);
        let entries = Memory::new(usize::from(RECV_BUFFERS) * size_of::<BufRingEntry>());
        // SAFETY: `entries` holds as many zeroed entries as are announced and outlives the ring's use of them.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.at(0) as u64, RECV_BUFFERS, RECV_GROUP, 0) }.map_err(forbidden)?;
        Ok(RecvBuffers { memory, entries, tail: 0, provided: 0, free: (0..RECV_BUFFERS).rev().collect() })
    }

    fn give_back(&mut self, slot: u16) {
        self.free.push(slot);
    }

    /// Provides free buffers until the kernel has `buffers`.
    fn provide_up_to(&mut self, buffers: usize) {
        while usize::from(self.provided) < buffers
            && let Some(slot) = self.free.pop()
        {
            self.provide(slot);
        }
    }

    fn provide(&mut self, slot: u16) {
        let ring = self.entries.at(0).cast::<BufRingEntry>();
        // SAFETY: the masked index lies within the ring, the offset within the memory of the buffers. The kernel does
        // not read the entry before the tail has passed it.
        unsafe {
            let entry = &mut *ring.add(usize::from(self.tail & (RECV_BUFFERS - 1)));
            entry.set_addr(self.memory.at(usize::from(slot) * RECV_BUFFER_BYTES) as u64);
            entry.set_len(RECV_BUFFER_BYTES as u32);
            entry.set_bid(slot);
        }
        self.tail = self.tail.wrapping_add(1);
        self.provided += 1;
        // SAFETY: the tail is an aligned `u16` in `entries`, which the kernel reads at any time, hence the atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        // Release: the kernel must see the entry before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }
}

/// What the kernel is told to write before a datagram: nothing but its header and the sender's address.
struct Envelope(Box<libc::msghdr>);

// SAFETY: all of the pointers are null.
unsafe impl Send for Envelope {}

impl Envelope {
    fn new() -> Envelope {
        // SAFETY: a message header of zeros and null pointers is valid; it names no buffer, no address, no control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        Envelope(Box::new(header))
    }

    /// The datagram in `slot`, of which the kernel has filled the first `filled` bytes. Empty if the datagram is.
    fn open(&self, recv: &RecvBuffers, slot: u16, filled: usize) -> Buffer {
        // SAFETY: the kernel has filled these bytes and leaves the slot alone until it is given back.
        let bytes = unsafe { recv.memory.bytes(usize::from(slot) * RECV_BUFFER_BYTES, filled) };
        match RecvMsgOut::parse(bytes, &self.0) {
            Ok(datagram) => {
                let len = datagram.payload_data().len();
                let (start, sent) = ((filled - len) as u32, datagram.incoming_payload_len());
                Buffer { slot: u32::from(slot), start, len: len as u32, sent, sender: address(datagram.name_data()) }
            }
            // Shorter than an envelope, which the kernel does not write.
            Err(()) => Buffer::piece(u32::from(slot), 0),
        }
    }
}

/// The address in the system's layout: family and port, then IPv4's four bytes or IPv6's flow, sixteen bytes and scope.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let word = |at: usize| name.get(at..at + 4)?.first_chunk::<4>().copied();
    let family = libc::c_int::from(u16::from_ne_bytes(*name.first_chunk()?));
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(word(4)?)), port)),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?);
            // As the standard library has them: flow and scope as the system wrote them.
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, u32::from_ne_bytes(word(4)?), u32::from_ne_bytes(word(24)?))))
        }
        _ => None,
    }
}

/// Buffers for file reads.
struct ReadBuffers {
    memory: Memory,
    /// Whether the kernel has the memory pinned and mapped.
    registered: bool,
    free: Vec<u16>,
}

impl ReadBuffers {
    /// Allocates the buffers and registers them if the limit on locked memory allows it.
    fn register(ring: &IoUring) -> ReadBuffers {
        let bytes = READ_BUFFERS * READ_BUFFER_BYTES;
        let memory = Memory::new(bytes);
        let whole = libc::iovec { iov_base: memory.at(0).cast(), iov_len: bytes };
        // SAFETY: the memory is valid and outlives the ring's use of it.
        let registered = unsafe { ring.submitter().register_buffers(&[whole]) };
        if let Err(error) = &registered {
            tracing::info!(%error, bytes, "file reads use unregistered buffers; raise `ulimit -l` to save some work per read");
        }
        ReadBuffers { memory, registered: registered.is_ok(), free: (0..READ_BUFFERS as u16).rev().collect() }
    }

    fn entry(&self, fd: RingFd, slot: u16, offset: u64, len: u32) -> squeue::Entry {
        let start = self.memory.at(usize::from(slot) * READ_BUFFER_BYTES);
        match self.registered {
            true => opcode::ReadFixed::new(fd, start, len, 0).offset(offset).build(),
            false => opcode::Read::new(fd, start, len).offset(offset).build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_the_reason_and_a_way_out() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EIO] {
            let message = forbidden(io::Error::from_raw_os_error(errno)).to_string();
            assert!(message.starts_with("io_uring cannot be used: ") && message.contains("THALWEG_IO"), "{message}");
        }
    }
}
