//! Sockets as a source: TCP and Unix connections, UDP datagrams.
//!
//! Every connection is a partition of its own, with a fresh id. All datagrams of a socket are one partition, and each
//! is a whole number of frames, so that the last one in it needs no terminator; offsets count from the start of the
//! datagram, and the error of a quarantined row names its sender. What goes wrong with a client ends its partition, is
//! logged as a warning, and leaves the others alone; bytes whose framing is beyond repair are quarantined first. The bytes of
//! a client that is paused stay with the kernel, and then with the client.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

pub use super::endpoint::{Endpoint, Listener};
use super::gather::{Datagram, Gather};
use super::linger::nanos;
use super::{Delivery, Source};
use crate::batch::PartitionId;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::Decoder;
use crate::io::{Buffer, Completion, Event, Fd, Io, Op, Token};
use crate::quality::Rejected;
use crate::time::SharedClock;

/// The listening socket's operation; clients' tokens are their partition ids, which are far smaller.
const LISTENER: Token = Token(1 << 32);
/// The partition of all datagrams.
const DATAGRAMS: PartitionId = PartitionId(0);
/// How long no connection is taken after the process has run out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads what the clients of one [`Listener`] send. Poll it on one thread only.
pub struct SocketSource {
    listener: Listener,
    io: Box<dyn Io>,
    gather: Gather,
    clients: HashMap<u32, Client>,
    /// Clients that have been taken, which is the next one's partition id.
    taken: u32,
    refused: u64,
    max_clients: usize,
    idle: u64,
    end_on_disconnect: bool,
    begun: bool,
    /// Events that came in and have not been looked at.
    queue: VecDeque<Completion>,
    incoming: Vec<Completion>,
    /// The earliest time at which a client can have been idle for too long.
    idle_check: u64,
    /// When connections are taken again.
    accept_at: Option<u64>,
}

struct Client {
    socket: Fd,
    receiving: Receiving,
    peer: Option<SocketAddr>,
    /// When it last sent something.
    heard: u64,
    /// How many bytes it has sent.
    position: u64,
}

/// Whether a client's bytes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Yes,
    /// No more, once the cancelled operation has had its last event. Then again, if that is what has been asked meanwhile.
    Stopping {
        again: bool,
    },
    Paused,
}

impl SocketSource {
    /// A source of what the clients of `listener` send, in the format of `decoder`. With `end_on_disconnect` the
    /// source ends when clients have come and the last of them has gone.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the backend that `config` demands cannot be had, or if
    /// `end_on_disconnect` is asked of datagrams, whose senders do not disconnect.
    pub fn new(
        listener: Listener,
        decoder: Box<dyn Decoder>,
        config: &Config,
        clock: SharedClock,
        end_on_disconnect: bool,
    ) -> Result<SocketSource> {
        SocketSource::with_io(listener, decoder, config, clock, end_on_disconnect, crate::io::open(config)?)
    }

    /// As [`SocketSource::new`], through a given backend.
    ///
    /// # Errors
    /// As [`SocketSource::new`].
    pub fn with_io(
        listener: Listener,
        decoder: Box<dyn Decoder>,
        config: &Config,
        clock: SharedClock,
        end_on_disconnect: bool,
        io: Box<dyn Io>,
    ) -> Result<SocketSource> {
        if end_on_disconnect && listener.has_datagrams() {
            return Err(Error::config(format!(
                "{} cannot end when its clients have gone, because senders of datagrams do not disconnect; leave out end_on_disconnect",
                listener.endpoint()
            )));
        }
        Ok(SocketSource {
            listener,
            io,
            gather: Gather::new(decoder, config, clock),
            clients: HashMap::new(),
            taken: 0,
            refused: 0,
            max_clients: config.max_connections,
            idle: nanos(config.connection_idle),
            end_on_disconnect,
            begun: false,
            queue: VecDeque::new(),
            incoming: Vec::new(),
            idle_check: u64::MAX,
            accept_at: None,
        })
    }

    /// Connections that were closed at once because as many as allowed were open.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn begin(&mut self, now: u64) -> Result<()> {
        if !self.begun {
            if self.listener.has_datagrams() {
                self.gather.open(DATAGRAMS, Some(self.listener.endpoint().to_string()), now);
            }
            self.listen()?;
            self.begun = true;
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<()> {
        let fd = self.listener.fd();
        let op = if self.listener.has_datagrams() { Op::Recv(fd) } else { Op::Accept(fd) };
        self.io.submit(LISTENER, op).map_err(|error| error.context(format!("cannot listen on {}", self.listener.endpoint())))
    }

    /// Waits for events; says whether there are any to look at.
    fn look(&mut self, timeout: Duration) -> Result<bool> {
        if self.queue.is_empty() {
            self.io.wait(timeout, &mut self.incoming)?;
            self.queue.extend(self.incoming.drain(..));
        }
        Ok(!self.queue.is_empty())
    }

    /// Looks at events until a batch is full.
    fn handle(&mut self, now: u64) -> Result<()> {
        while !self.gather.is_full()
            && let Some(Completion { token, event }) = self.queue.pop_front()
        {
            match event {
                Event::Accepted(client) => self.admit(client, now)?,
                Event::Data(buffer) => self.receive(token, buffer, now)?,
                Event::Failed(error) if token == LISTENER => self.accept_failed(error, now)?,
                Event::Failed(error) if error.raw_os_error() == Some(libc::ECANCELED) && self.stopped(token, now)? => {}
                Event::Failed(error) => self.dismiss(token, Some(&error), now),
                Event::End => self.dismiss(token, None, now),
            }
        }
        Ok(())
    }

    fn admit(&mut self, client: OwnedFd, now: u64) -> Result<()> {
        let peer = rustix::net::getpeername(&client).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
        if self.clients.len() >= self.max_clients {
            self.refused += 1;
            if self.refused.is_power_of_two() {
                tracing::warn!(
                    listener = %self.listener.endpoint(), ?peer, refused = self.refused, max_connections = self.max_clients,
                    "a client was turned away: as many as allowed are connected"
                );
            }
            return Ok(());
        }
        let partition = PartitionId(self.taken);
        self.taken = self.taken.wrapping_add(1);
        let socket = Arc::new(client);
        self.io.submit(Token(u64::from(partition.0)), Op::Recv(Arc::clone(&socket)))?;
        self.clients.insert(partition.0, Client { socket, receiving: Receiving::Yes, peer, heard: now, position: 0 });
        self.idle_check = self.idle_check.min(now.saturating_add(self.idle));
        self.gather.open(partition, peer.map(|peer| peer.to_string()), now);
        Ok(())
    }

    fn receive(&mut self, token: Token, buffer: Buffer, now: u64) -> Result<()> {
        let bytes = self.io.bytes(&buffer);
        let failed = if token == LISTENER {
            let datagram = Datagram { bytes, lost: buffer.sent() - buffer.len(), sender: buffer.sender() };
            if let Err(error) = self.gather.decode_datagram(DATAGRAMS, &datagram, now) {
                tracing::warn!(listener = %self.listener.endpoint(), sender = ?datagram.sender, %error, "a datagram does not decode");
            }
            None
        } else if let Some(client) = self.clients.get_mut(&(token.0 as u32)) {
            let (partition, start) = (PartitionId(token.0 as u32), client.position);
            client.heard = now;
            client.position += bytes.len() as u64;
            let failed = self.gather.decode(partition, bytes, now).err();
            if let Some(error) = &failed {
                let error = format!("the client was disconnected, as nothing from here on can be decoded: {error}");
                self.gather.reject(Rejected::new(partition, start, bytes, error), now);
            }
            failed
        } else {
            // Sent before it was dismissed for being idle.
            None
        };
        self.io.release(buffer);
        if let Some(error) = failed {
            self.io.cancel(token)?;
            self.dismiss(token, Some(&error), now);
        }
        Ok(())
    }

    /// Ends a client's partition, if it has not ended already.
    fn dismiss(&mut self, token: Token, error: Option<&dyn std::fmt::Display>, now: u64) {
        if let Some(client) = self.clients.remove(&(token.0 as u32)) {
            let (listener, peer, partition) = (self.listener.endpoint(), client.peer, token.0);
            match error {
                Some(error) => tracing::warn!(%listener, ?peer, partition, %error, "a client was lost"),
                None => tracing::debug!(%listener, ?peer, partition, "a client has closed its connection"),
            }
            self.gather.end(PartitionId(token.0 as u32), now);
        }
    }

    /// Whether it was for a pause that a client's operation was cancelled, which has ended now.
    fn stopped(&mut self, token: Token, now: u64) -> Result<bool> {
        let Some(client) = self.clients.get_mut(&(token.0 as u32)) else { return Ok(false) };
        match client.receiving {
            Receiving::Yes | Receiving::Paused => return Ok(false),
            Receiving::Stopping { again: false } => client.receiving = Receiving::Paused,
            Receiving::Stopping { again: true } => client.receive(&mut *self.io, token, now)?,
        }
        Ok(true)
    }

    fn accept_failed(&mut self, error: io::Error, now: u64) -> Result<()> {
        match error.raw_os_error() {
            // The client's trouble, not the listener's.
            Some(libc::ECONNABORTED | libc::EPROTO | libc::ENETDOWN | libc::EHOSTUNREACH | libc::ENETUNREACH) => self.listen(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                tracing::warn!(listener = %self.listener.endpoint(), %error, "no connections are taken for a moment; raise `ulimit -n` or lower max_connections");
                self.accept_at = Some(now.saturating_add(nanos(ACCEPT_PAUSE)));
                Ok(())
            }
            // An error that the network had in store for a socket of datagrams; the socket goes on.
            _ if self.listener.has_datagrams() => self.listen(),
            _ => Err(Error::io(format!("cannot take connections on {}", self.listener.endpoint()), error)),
        }
    }

    /// Does what is due by the clock.
    fn chores(&mut self, now: u64) -> Result<()> {
        if self.accept_at.is_some_and(|at| now >= at) {
            self.accept_at = None;
            self.listen()?;
        }
        if now >= self.idle_check {
            let idle = |client: &Client| client.receiving == Receiving::Yes && now.saturating_sub(client.heard) >= self.idle;
            let mut silent: Vec<u32> = self.clients.iter().filter(|(_, client)| idle(client)).map(|(&id, _)| id).collect();
            silent.sort_unstable();
            for id in silent {
                let token = Token(u64::from(id));
                self.io.cancel(token)?;
                self.dismiss(token, Some(&"it has sent nothing for as long as connection_idle allows"), now);
            }
            let received = self.clients.values().filter(|client| client.receiving == Receiving::Yes);
            self.idle_check = received.map(|client| client.heard.saturating_add(self.idle)).min().unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Whether the last client has gone and the source was asked to end then.
    fn is_over(&mut self) -> Result<bool> {
        let gone = self.end_on_disconnect && self.taken > 0 && self.clients.is_empty();
        // Another client may have connected meanwhile.
        Ok(gone && !self.look(Duration::ZERO)?)
    }
}

impl Client {
    /// Takes its bytes, again; while they were not taken it was not idle.
    fn receive(&mut self, io: &mut dyn Io, token: Token, now: u64) -> Result<()> {
        (self.receiving, self.heard) = (Receiving::Yes, now);
        io.submit(token, Op::Recv(Arc::clone(&self.socket)))
    }
}

impl Source for SocketSource {
    fn schema(&self) -> SchemaRef {
        self.gather.schema()
    }

    fn keep_offsets(&mut self) {
        self.gather.keep_offsets();
    }

    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let mut now = self.gather.begin();
        let deadline = now.saturating_add(nanos(wait));
        self.begin(now)?;
        loop {
            // First of all: the last client's end may have been the last thing that the poll before had time for.
            if self.is_over()? {
                return self.gather.take(true);
            }
            let due = self.gather.due().unwrap_or(u64::MAX).min(deadline);
            let wake = due.min(self.idle_check).min(self.accept_at.unwrap_or(u64::MAX));
            let found = self.look(Duration::from_nanos(wake.saturating_sub(now)))?;
            now = self.gather.now();
            self.handle(now)?;
            self.chores(now)?;
            if self.gather.is_full() || now >= deadline {
                return self.gather.take(false);
            }
            // While more is there the batch grows, past the linger if need be: it is full soon.
            if !found && self.gather.due().is_some_and(|due| now >= due) {
                return self.gather.take(false);
            }
        }
    }

    /// Pauses connections; all datagrams are one partition and go on.
    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        let now = self.gather.now();
        for (&id, client) in &mut self.clients {
            let token = Token(u64::from(id));
            match (client.receiving, partitions.contains(&PartitionId(id))) {
                (Receiving::Yes, true) => {
                    client.receiving = Receiving::Stopping { again: false };
                    self.io.cancel(token)?;
                }
                (Receiving::Stopping { .. }, pause) => client.receiving = Receiving::Stopping { again: !pause },
                (Receiving::Paused, false) => {
                    client.receive(&mut *self.io, token, now)?;
                    self.idle_check = self.idle_check.min(now.saturating_add(self.idle));
                }
                (Receiving::Yes, false) | (Receiving::Paused, true) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
