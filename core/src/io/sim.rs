//! A seeded simulation: scripted clients, short reads, resets, events out of order between operations, few buffers.
//!
//! The same seed and script give the same events in the same order. Time is a [`SimulatedClock`] that the
//! simulation moves: a little with every [`Io::wait`], and by the whole timeout when nothing is due.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use super::pool::Pool;
use super::{Buffer, Completion, Event, Fd, Io, Op, READ_BUFFERS, Token};
use crate::error::{Error, Result};
use crate::time::{Clock, SimulatedClock};

/// What a simulated client does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends bytes, which arrive in pieces of any size.
    Send(Vec<u8>),
    /// Sends nothing for a while.
    Pause(Duration),
    /// Resets the connection. A script that just ends closes it in order.
    Reset,
}

/// The simulated backend; see the [module documentation](self).
pub struct Sim {
    clock: Arc<SimulatedClock>,
    random: u64,
    pool: Pool,
    piece: usize,
    /// Clients that have not been taken yet.
    arriving: VecDeque<Client>,
    /// Clients that have been taken, under the descriptor that stands for each.
    clients: HashMap<RawFd, Client>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    ops: Vec<(Token, Op)>,
    cancelled: Vec<Token>,
    reads_until_failure: Option<u64>,
}

#[derive(Default)]
struct Client {
    script: VecDeque<Step>,
    /// The clock's time up to which a pause lasts.
    paused_until: Option<u64>,
}

impl Sim {
    /// A simulation with `buffers` buffers of `piece` bytes, the most that one event brings.
    pub fn new(seed: u64, clock: Arc<SimulatedClock>, buffers: usize, piece: usize) -> Sim {
        Sim {
            clock,
            random: seed,
            pool: Pool::new(buffers, piece),
            piece,
            arriving: VecDeque::new(),
            clients: HashMap::new(),
            datagrams: VecDeque::new(),
            ops: Vec::new(),
            cancelled: Vec::new(),
            reads_until_failure: None,
        }
    }

    /// Adds a client that connects at some time and follows `script`.
    pub fn with_client(mut self, script: impl IntoIterator<Item = Step>) -> Sim {
        self.arriving.push_back(Client { script: script.into_iter().collect(), paused_until: None });
        self
    }

    /// Adds a datagram for a receive on a descriptor that is not a client's. What is longer than a piece is cut.
    pub fn with_datagram(mut self, sender: SocketAddr, bytes: impl Into<Vec<u8>>) -> Sim {
        self.datagrams.push_back((sender, bytes.into()));
        self
    }

    /// Lets a file read fail with `EIO` after `reads` good ones.
    pub fn with_read_failure(mut self, reads: u64) -> Sim {
        self.reads_until_failure = Some(reads);
        self
    }

    /// The next number of the seed's sequence below `bound` (SplitMix64, Steele et al. 2014).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }

    /// Fills a buffer with the first bytes of `bytes`, any number of them but at least one.
    fn piece(&mut self, bytes: &mut Vec<u8>) -> Option<Event> {
        let slot = self.pool.take()?;
        let len = 1 + self.below(bytes.len().min(self.piece));
        self.pool.slot_mut(slot)[..len].copy_from_slice(&bytes[..len]);
        bytes.drain(..len);
        Some(Event::Data(Buffer::piece(slot, len)))
    }

    /// The next event of an operation; `None` if it has to wait.
    fn step(&mut self, op: &Op) -> Option<Event> {
        match op {
            Op::Accept(_) => {
                let client = self.arriving.pop_front()?;
                // Any descriptor does: its number stands for the client.
                match File::open("/dev/null") {
                    Ok(file) => {
                        self.clients.insert(file.as_raw_fd(), client);
                        Some(Event::Accepted(OwnedFd::from(file)))
                    }
                    Err(error) => Some(Event::Failed(error)),
                }
            }
            Op::Recv(fd) | Op::Stream(fd) => match self.clients.remove(&fd.as_raw_fd()) {
                Some(mut client) => {
                    let event = self.receive(&mut client);
                    if !matches!(event, Some(Event::End | Event::Failed(_))) {
                        self.clients.insert(fd.as_raw_fd(), client);
                    }
                    event
                }
                None => self.datagram(),
            },
            Op::Read { file, offset, len } => self.read(file, *offset, *len),
        }
    }

    fn receive(&mut self, client: &mut Client) -> Option<Event> {
        if client.paused_until.is_some_and(|until| self.clock.monotonic() < until) {
            return None;
        }
        client.paused_until = None;
        match client.script.pop_front() {
            None => Some(Event::End),
            Some(Step::Reset) => Some(Event::Failed(io::ErrorKind::ConnectionReset.into())),
            Some(Step::Pause(time)) => {
                client.paused_until = Some(self.clock.monotonic() + time.as_nanos() as u64);
                None
            }
            Some(Step::Send(mut bytes)) => {
                let event = if bytes.is_empty() { None } else { self.piece(&mut bytes) };
                if !bytes.is_empty() {
                    client.script.push_front(Step::Send(bytes));
                }
                event
            }
        }
    }

    fn datagram(&mut self) -> Option<Event> {
        while self.datagrams.front().is_some_and(|(_, bytes)| bytes.is_empty()) {
            self.datagrams.pop_front();
        }
        let slot = if self.datagrams.is_empty() { None } else { self.pool.take() }?;
        let (sender, bytes) = self.datagrams.pop_front()?;
        let len = bytes.len().min(self.piece);
        self.pool.slot_mut(slot)[..len].copy_from_slice(&bytes[..len]);
        Some(Event::Data(Buffer { slot, start: 0, len: len as u32, sent: bytes.len() as u32, sender: Some(sender) }))
    }

    fn read(&mut self, file: &Fd, offset: u64, len: usize) -> Option<Event> {
        if self.reads_until_failure == Some(0) {
            return Some(Event::Failed(io::Error::from_raw_os_error(libc::EIO)));
        }
        let slot = self.pool.take()?;
        self.reads_until_failure = self.reads_until_failure.map(|reads| reads - 1);
        let len = 1 + self.below(len.min(self.piece));
        let read = file.try_clone().and_then(|file| File::from(file).read_at(&mut self.pool.slot_mut(slot)[..len], offset));
        if !matches!(read, Ok(1..)) {
            self.pool.give_back(slot);
        }
        Some(match read {
            Ok(0) => Event::End,
            Ok(len) => Event::Data(Buffer::piece(slot, len)),
            Err(error) => Event::Failed(error),
        })
    }

    /// Lets one operation, chosen by the seed, make its next step.
    fn advance(&mut self, out: &mut Vec<Completion>) {
        if self.ops.is_empty() {
            return;
        }
        let at = self.below(self.ops.len());
        let (token, op) = self.ops[at].clone();
        let Some(event) = self.step(&op) else { return };
        if matches!((&event, &op), (Event::End | Event::Failed(_), _) | (_, Op::Read { .. })) {
            self.ops.remove(at);
        }
        out.push(Completion { token, event });
    }
}

impl Io for Sim {
    fn submit(&mut self, token: Token, op: Op) -> Result<()> {
        let reads = self.ops.iter().filter(|(_, op)| matches!(op, Op::Read { .. })).count();
        if reads >= READ_BUFFERS && matches!(op, Op::Read { .. }) {
            return Err(Error::connector(format!("more than {READ_BUFFERS} file reads are under way or unreleased")));
        }
        self.ops.push((token, op));
        Ok(())
    }

    fn cancel(&mut self, token: Token) -> Result<()> {
        if let Some(at) = self.ops.iter().position(|(under_way, _)| *under_way == token) {
            self.ops.remove(at);
            self.cancelled.push(token);
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> Result<()> {
        let before = out.len();
        let failed = |token| Completion { token, event: Event::Failed(io::Error::from_raw_os_error(libc::ECANCELED)) };
        out.extend(self.cancelled.drain(..).map(failed));
        for _ in 0..=self.below(2 * self.ops.len() + 2) {
            self.advance(out);
        }
        let passed = Duration::from_nanos(self.below(20_000) as u64).min(timeout);
        self.clock.advance(if out.len() == before { timeout.min(Duration::from_secs(1)) } else { passed });
        Ok(())
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        &self.pool.slot(buffer.slot)[buffer.range()]
    }

    fn release(&mut self, buffer: Buffer) {
        self.pool.give_back(buffer.slot);
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}
