//! The other side of a socket, in a process of its own on the other core: the same program under a hidden command.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use clap::Args;

use crate::latency::{Clock, Load, line};
use crate::{Result, machine};

/// What to send where.
#[derive(Args)]
pub struct Send {
    /// `host:port`.
    #[arg(long)]
    to: String,
    /// Sends the bytes of this file each time a line comes on standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Shares the file out to so many connections, which take turns.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Bytes that a connection sends in its turn; everything if there is one connection.
    #[arg(long, default_value_t = usize::MAX)]
    piece: usize,
    /// Sends so many lines of the file instead, each a datagram, each time a line comes on standard input.
    #[arg(long, default_value_t = 0)]
    datagrams: usize,
    /// Sends events at this rate instead, each when it is due.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// For how many seconds.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

/// Nanoseconds from the announcement of the first event to when it is due: time to start the pipeline.
const LEAD: i64 = 200_000_000;

/// How long the open loop sleeps between looks at the clock.
const NAP: Duration = Duration::from_micros(100);

/// The hidden command.
pub fn run(send: &Send) -> Result<()> {
    let bytes = send.file.as_ref().map(fs::read).transpose()?;
    println!("ready");
    if let (Some(bytes), 1..) = (&bytes, send.datagrams) {
        return in_datagrams(&send.to, bytes, send.datagrams);
    }
    for _ in std::io::stdin().lines() {
        let mut sockets = (0..send.clients).map(|_| connect(&send.to)).collect::<Result<Vec<_>>>()?;
        match &bytes {
            Some(bytes) => {
                println!("{}", bytes.len());
                in_turns(&mut sockets, bytes, send.piece)?;
            }
            None => open_loop(&mut sockets[0], Load { rate: send.rate, seconds: send.seconds })?,
        }
    }
    Ok(())
}

fn connect(to: &str) -> Result<TcpStream> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Sends each socket its share of whole lines, `piece` bytes at a time.
fn in_turns(sockets: &mut [TcpStream], bytes: &[u8], piece: usize) -> Result<()> {
    let mut shares = Vec::with_capacity(sockets.len());
    let mut rest = bytes;
    for left in (1..=sockets.len()).rev() {
        let whole_lines = rest[rest.len() / left..].iter().position(|byte| *byte == b'\n').map_or(0, |at| rest.len() / left + at + 1);
        let (share, others) = rest.split_at(if left == 1 { rest.len() } else { whole_lines });
        shares.push(share.chunks(piece));
        rest = others;
    }
    let mut sent = true;
    while std::mem::take(&mut sent) {
        for (socket, share) in sockets.iter_mut().zip(&mut shares) {
            if let Some(piece) = share.next() {
                socket.write_all(piece)?;
                sent = true;
            }
        }
    }
    Ok(())
}

/// Sends `burst` lines on each order, going through the file again and again.
fn in_datagrams(to: &str, bytes: &[u8], burst: usize) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to)?;
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').cycle();
    for _ in std::io::stdin().lines() {
        for line in lines.by_ref().take(burst) {
            socket.send(line)?;
        }
        println!("{burst}");
    }
    Ok(())
}

/// Sends every event as soon as it is due, whether or not the receiver keeps up; its time is when it was due.
fn open_loop(socket: &mut TcpStream, load: Load) -> Result<()> {
    let start = Clock::now() + LEAD;
    println!("{start}");
    let mut text = Vec::with_capacity(1 << 16);
    let mut event = 0;
    while event < load.events() {
        let now = Clock::now();
        while event < load.events() && load.due(start, event) <= now && text.len() < 1 << 16 {
            line(&mut text, load.due(start, event), event)?;
            event += 1;
        }
        match text.is_empty() {
            true => std::thread::sleep(NAP),
            false => socket.write_all(&text)?,
        }
        text.clear();
    }
    Ok(())
}

/// How many connections send, and how many bytes at a time.
#[derive(Clone, Copy)]
pub struct Crowd {
    pub clients: usize,
    pub piece: usize,
}

impl Crowd {
    /// One connection that sends as fast as it can.
    pub const ONE: Crowd = Crowd { clients: 1, piece: usize::MAX };
}

/// A running sender.
pub struct Sender {
    child: Child,
    orders: Option<ChildStdin>,
    words: BufReader<ChildStdout>,
}

impl Sender {
    /// A sender of the bytes of `file`, which it has read when this returns, over as many connections as `crowd` says.
    pub fn of_file(to: &str, file: &Path, crowd: Crowd) -> Result<Sender> {
        let Crowd { clients, piece } = crowd;
        Sender::start(to, &["--file", &file.display().to_string(), "--clients", &clients.to_string(), "--piece", &piece.to_string()])
    }

    /// A sender of the lines of `file` as datagrams, `burst` of them on each command.
    pub fn of_datagrams(to: &str, file: &Path, burst: usize) -> Result<Sender> {
        Sender::start(to, &["--file", &file.display().to_string(), "--datagrams", &burst.to_string()])
    }

    /// A sender of events at a rate.
    pub fn of_events(to: &str, load: Load) -> Result<Sender> {
        Sender::start(to, &["--rate", &load.rate.to_string(), "--seconds", &load.seconds.to_string()])
    }

    fn start(to: &str, arguments: &[&str]) -> Result<Sender> {
        let mut command = machine::pinned(1, &std::env::current_exe()?);
        command.args(["send", "--to", to]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let orders = child.stdin.take();
        let mut words = BufReader::new(child.stdout.take().ok_or("no pipe to the sender")?);
        words.read_line(&mut String::new())?;
        Ok(Sender { child, orders, words })
    }

    /// Lets it connect and send once. It says how many bytes it sends, or when its first event is due.
    pub fn go(&mut self) -> Result<String> {
        let orders = self.orders.as_mut().ok_or("the sender has ended")?;
        writeln!(orders, "go")?;
        orders.flush()?;
        let mut word = String::new();
        self.words.read_line(&mut word)?;
        Ok(word)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // It ends with its input.
        self.orders = None;
        let _ = self.child.wait();
    }
}
