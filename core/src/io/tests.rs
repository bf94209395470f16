//! One table of cases that every backend passes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{PipeWriter, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::config::{MAX_DATAGRAM_BYTES, RECV_BUFFERS};

/// Long enough that a wait which should end early does; a test that reaches it hangs rather than flickers.
const PATIENCE: Duration = Duration::from_secs(600);

const LISTENER: Token = Token(1_000_000);

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What one operation has brought.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    failed: Option<std::io::Error>,
    over: bool,
}

/// Receives from every client until `clients` of them have come and gone; clients are numbered as they are taken.
fn serve(io: &mut dyn Io, listener: impl Into<OwnedFd>, clients: usize) -> BTreeMap<u64, Seen> {
    io.submit(LISTENER, Op::Accept(Arc::new(listener.into()))).unwrap();
    let (mut seen, mut accepted) = (BTreeMap::new(), 0);
    collect(io, &mut seen, |io, client| {
        io.submit(Token(accepted), Op::Recv(Arc::new(client))).unwrap();
        accepted += 1;
        accepted as usize == clients
    });
    seen
}

/// Gathers events until no operation is left. `accept` says whether the client it is given was the last.
fn collect(io: &mut dyn Io, seen: &mut BTreeMap<u64, Seen>, mut accept: impl FnMut(&mut dyn Io, OwnedFd) -> bool) {
    let mut out = Vec::new();
    let mut accepting = true;
    while accepting || seen.values().any(|seen| !seen.over) {
        io.wait(PATIENCE, &mut out).unwrap();
        for Completion { token, event } in out.drain(..) {
            match event {
                Event::Accepted(client) => {
                    seen.insert(seen.len() as u64, Seen::default());
                    if accept(io, client) {
                        io.cancel(LISTENER).unwrap();
                    }
                }
                Event::Failed(error) if token == LISTENER => {
                    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                    accepting = false;
                }
                Event::Data(buffer) => {
                    let seen = seen.get_mut(&token.0).unwrap();
                    seen.bytes.extend_from_slice(io.bytes(&buffer));
                    seen.pieces.push(buffer.len());
                    io.release(buffer);
                }
                Event::End => seen.get_mut(&token.0).unwrap().over = true,
                Event::Failed(error) => {
                    let seen = seen.get_mut(&token.0).unwrap();
                    (seen.failed, seen.over) = (Some(error), true);
                }
            }
        }
    }
}

fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn random_writes_arrive_byte_exact(io: &mut dyn Io) {
    let (listener, address) = listener();
    let sent = bytes(1, 24 << 20);
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        let (mut rest, mut size) = (&sent[..], 1);
        while !rest.is_empty() {
            size = (size * 7 + 13) % 200_000 + 1;
            let (now, later) = rest.split_at(size.min(rest.len()));
            client.write_all(now).unwrap();
            rest = later;
        }
    });
    let seen = serve(io, listener, 1);
    sender.join().unwrap();
    assert!(seen[&0].bytes == expected && seen[&0].failed.is_none());
}

fn many_connections_arrive_apart(io: &mut dyn Io) {
    let (listener, address) = listener();
    let senders: Vec<_> = (0..4)
        .map(|thread| {
            thread::spawn(move || {
                let mut clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
                for round in 0..20 {
                    for (at, client) in clients.iter_mut().enumerate() {
                        client.write_all(&[thread * 50 + at as u8; 300][round..]).unwrap();
                    }
                }
            })
        })
        .collect();
    let seen = serve(io, listener, 200);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let expected: usize = (0..20).map(|round| 300 - round).sum();
    let mut names: Vec<u8> = seen.values().map(|seen| seen.bytes[0]).collect();
    names.sort_unstable();
    assert_eq!(names, (0..200).collect::<Vec<u8>>());
    for seen in seen.values() {
        assert!(seen.bytes.len() == expected && seen.bytes.iter().all(|&byte| byte == seen.bytes[0]));
    }
}

fn a_reset_is_an_error_of_that_client_alone(io: &mut dyn Io) {
    let (listener, address) = listener();
    let rude = TcpStream::connect(address).unwrap();
    rustix::net::sockopt::set_socket_linger(&rude, Some(Duration::ZERO)).unwrap();
    drop(rude);
    let mut polite = TcpStream::connect(address).unwrap();
    polite.write_all(b"half a li").unwrap();
    drop(polite);
    let seen = serve(io, listener, 2);
    assert_eq!(seen[&0].failed.as_ref().unwrap().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(seen[&1].bytes == b"half a li" && seen[&1].failed.is_none());
}

fn unix_sockets_work_alike(io: &mut dyn Io) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap().write_all(b"one\n").unwrap();
    assert_eq!(serve(io, listener, 1)[&0].bytes, b"one\n");
}

/// The next completion's buffer, as its bytes and origin.
fn next_datagram(io: &mut dyn Io) -> (Token, Vec<u8>, usize, Option<SocketAddr>) {
    let mut out = Vec::new();
    while out.is_empty() {
        io.wait(PATIENCE, &mut out).unwrap();
    }
    let Some(Completion { token, event: Event::Data(buffer) }) = out.pop() else { panic!("{out:?}") };
    assert!(out.is_empty(), "{out:?}");
    let (bytes, sent, sender) = (io.bytes(&buffer).to_vec(), buffer.sent(), buffer.sender());
    io.release(buffer);
    (token, bytes, sent, sender)
}

/// A socket of a loopback address under `token`, with two clients of it; `None` where the system lacks the family.
fn datagram_socket(io: &mut dyn Io, token: Token, host: &str) -> Option<[UdpSocket; 2]> {
    let socket = UdpSocket::bind((host, 0)).ok()?;
    let clients = [0, 1].map(|_| UdpSocket::bind((host, 0)).unwrap());
    clients.iter().for_each(|client| client.connect(socket.local_addr().unwrap()).unwrap());
    io.submit(token, Op::Recv(Arc::new(socket.into()))).unwrap();
    Some(clients)
}

fn datagrams_stay_whole_and_name_their_sender(io: &mut dyn Io) {
    for (family, (host, longest)) in [("127.0.0.1", 65_507), ("::1", MAX_DATAGRAM_BYTES)].into_iter().enumerate() {
        let token = Token(family as u64);
        let Some(clients) = datagram_socket(io, token, host) else {
            eprintln!("not tested: no {host}");
            continue;
        };
        // One at a time, as the system's socket buffer need not hold them all; more of them than there are buffers.
        for (seed, size) in [1, 100, 9_000, longest, 7].into_iter().cycle().take(3 * usize::from(RECV_BUFFERS)).enumerate() {
            let client = &clients[seed % 2];
            let sent = bytes(seed as u64, size);
            client.send(&[]).unwrap();
            client.send(&sent).unwrap();
            assert!(next_datagram(io) == (token, sent, size, Some(client.local_addr().unwrap())), "{size} bytes over {host}");
        }
        io.cancel(token).unwrap();
        let mut out = Vec::new();
        io.wait(PATIENCE, &mut out).unwrap();
        assert!(matches!(&out[..], [Completion { token: ended, event: Event::Failed(_) }] if *ended == token));
    }
}

/// As many as there are buffers come and are held; the next come once those are released.
fn datagrams_wait_for_buffers(io: &mut dyn Io) {
    let Some([client, _]) = datagram_socket(io, Token(0), "127.0.0.1") else { return };
    let (held, waiting) = (usize::from(RECV_BUFFERS), 20);
    (0..held + waiting).for_each(|at| assert_eq!(client.send(&[at as u8]).unwrap(), 1));
    let mut out = Vec::new();
    while out.len() < held {
        io.wait(PATIENCE, &mut out).unwrap();
    }
    io.wait(Duration::from_millis(1), &mut out).unwrap();
    assert_eq!(out.len(), held);
    let mut seen = Vec::new();
    while seen.len() < held + waiting {
        for completion in out.drain(..) {
            let Event::Data(buffer) = completion.event else { panic!("{completion:?}") };
            seen.extend_from_slice(io.bytes(&buffer));
            io.release(buffer);
        }
        io.wait(Duration::from_millis(1), &mut out).unwrap();
    }
    assert_eq!(seen, (0..(held + waiting) as u8).collect::<Vec<u8>>());
}

fn pipe() -> (Fd, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Arc::new(reader.into()), writer)
}

fn pipes_are_read_to_their_end(io: &mut dyn Io) {
    let (reader, mut writer) = pipe();
    let sent = bytes(2, 3 << 20);
    let expected = sent.clone();
    let sender = thread::spawn(move || writer.write_all(&sent).unwrap());
    io.submit(Token(0), Op::Stream(reader)).unwrap();
    let mut seen = BTreeMap::from([(0, Seen::default())]);
    io.submit(LISTENER, Op::Stream(pipe().0)).unwrap();
    io.cancel(LISTENER).unwrap();
    collect(io, &mut seen, |_, _| true);
    sender.join().unwrap();
    assert!(seen[&0].bytes == expected);
}

fn a_pipe_without_a_writer_has_not_ended(io: &mut dyn Io) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    io.submit(Token(0), Op::Stream(Arc::new(reader.into()))).unwrap();
    let mut out = Vec::new();
    for _ in 0..3 {
        io.wait(Duration::from_millis(1), &mut out).unwrap();
    }
    assert!(out.is_empty(), "{out:?}");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"late").unwrap();
    let mut seen = BTreeMap::from([(0, Seen::default())]);
    io.submit(LISTENER, Op::Stream(pipe().0)).unwrap();
    io.cancel(LISTENER).unwrap();
    collect(io, &mut seen, |_, _| true);
    assert_eq!(seen[&0].bytes, b"late");
}

fn streams_of_regular_files_end_too(io: &mut dyn Io) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes(5, 200_000)).unwrap();
    io.submit(Token(0), Op::Stream(Arc::new(file.reopen().unwrap().into()))).unwrap();
    let mut seen = BTreeMap::from([(0, Seen::default())]);
    io.submit(LISTENER, Op::Stream(pipe().0)).unwrap();
    io.cancel(LISTENER).unwrap();
    collect(io, &mut seen, |_, _| true);
    assert!(seen[&0].bytes == bytes(5, 200_000));
}

fn files_are_read_byte_exact(io: &mut dyn Io) {
    for direct in [false, true] {
        for size in [0, 1, 4_095, 4_096, READ_BUFFER_BYTES - 1, READ_BUFFER_BYTES, READ_BUFFER_BYTES + 1, 5 * READ_BUFFER_BYTES + 17] {
            // In the working directory: temporary file systems may not know O_DIRECT.
            let mut file = tempfile::NamedTempFile::new_in(".").unwrap();
            file.write_all(&bytes(size as u64, size)).unwrap();
            file.as_file().sync_all().unwrap();
            let flags = if direct { libc::O_DIRECT } else { 0 };
            let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(file.path()).unwrap();
            let opened: Fd = Arc::new(opened.into());
            let pieces = size / READ_BUFFER_BYTES + 1;
            for piece in 0..pieces {
                let offset = (piece * READ_BUFFER_BYTES) as u64;
                io.submit(Token(piece as u64), Op::Read { file: opened.clone(), offset, len: READ_BUFFER_BYTES }).unwrap();
            }
            let mut read: Vec<Option<Vec<u8>>> = vec![None; pieces];
            let mut out = Vec::new();
            while read.iter().any(Option::is_none) {
                io.wait(PATIENCE, &mut out).unwrap();
                for Completion { token, event } in out.drain(..) {
                    read[token.0 as usize] = Some(match event {
                        Event::Data(buffer) => {
                            let read = io.bytes(&buffer).to_vec();
                            io.release(buffer);
                            read
                        }
                        Event::End => Vec::new(),
                        event => panic!("{event:?}"),
                    });
                }
            }
            let read: Vec<u8> = read.into_iter().flatten().flatten().collect();
            assert!(read == bytes(size as u64, size), "{size} bytes, direct: {direct}");
        }
    }
}

fn reads_are_bounded_and_their_buffers_come_back(io: &mut dyn Io) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"x").unwrap();
    let opened: Fd = Arc::new(file.reopen().unwrap().into());
    for round in 0..3 {
        for token in 0..READ_BUFFERS as u64 {
            io.submit(Token(token), Op::Read { file: opened.clone(), offset: round % 2, len: 1 }).unwrap();
        }
        let error = io.submit(Token(99), Op::Read { file: opened.clone(), offset: 0, len: 1 }).unwrap_err();
        assert!(error.to_string().contains("more than 16"), "{error}");
        let mut out = Vec::new();
        while out.len() < READ_BUFFERS {
            io.wait(PATIENCE, &mut out).unwrap();
        }
        for completion in out {
            match completion.event {
                Event::Data(buffer) if round % 2 == 0 => io.release(buffer),
                Event::End if round % 2 == 1 => {}
                event => panic!("{event:?}"),
            }
        }
    }
}

/// Nobody releases buffers: the sender is held up, and nothing is lost once they come back.
fn held_buffers_hold_the_sender(io: &mut dyn Io) {
    let (listener, address) = listener();
    let sent = bytes(3, 32 << 20);
    let mut client = TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();
    io.submit(Token(0), Op::Recv(Arc::new(server.into()))).unwrap();
    client.set_nonblocking(true).unwrap();
    let (mut written, mut held, mut read, mut out) = (0, Vec::new(), Vec::new(), Vec::new());
    // Full when the socket takes no more and receiving brings no more.
    loop {
        let before = (written, held.len());
        while let Ok(taken @ 1..) = client.write(&sent[written..]) {
            written += taken;
        }
        io.wait(Duration::from_millis(20), &mut out).unwrap();
        held.extend(out.drain(..).map(|completion| match completion.event {
            Event::Data(buffer) => buffer,
            event => panic!("{event:?}"),
        }));
        if (written, held.len()) == before && held.len() == usize::from(RECV_BUFFERS) {
            break;
        }
    }
    assert!(written < sent.len(), "the sender was not held up");
    for buffer in held {
        read.extend_from_slice(io.bytes(&buffer));
        io.release(buffer);
    }
    client.set_nonblocking(false).unwrap();
    let rest = sent[written..].to_vec();
    let sender = thread::spawn(move || client.write_all(&rest).unwrap());
    let mut seen = BTreeMap::from([(0, Seen::default())]);
    io.submit(LISTENER, Op::Stream(pipe().0)).unwrap();
    io.cancel(LISTENER).unwrap();
    collect(io, &mut seen, |_, _| true);
    sender.join().unwrap();
    read.extend_from_slice(&seen[&0].bytes);
    assert!(read == sent);
}

fn cancelled_while_starved_it_still_ends(io: &mut dyn Io) {
    let (listener, address) = listener();
    let mut client = TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();
    io.submit(Token(0), Op::Recv(Arc::new(server.into()))).unwrap();
    let sender = thread::spawn(move || client.write_all(&vec![7; 64 << 20]));
    let (mut out, mut held) = (Vec::new(), Vec::new());
    while held.len() < usize::from(RECV_BUFFERS) {
        io.wait(PATIENCE, &mut out).unwrap();
        held.extend(out.drain(..).map(|completion| match completion.event {
            Event::Data(buffer) => buffer,
            event => panic!("{event:?}"),
        }));
    }
    io.wait(Duration::from_millis(1), &mut out).unwrap();
    io.cancel(Token(0)).unwrap();
    while out.is_empty() {
        io.wait(PATIENCE, &mut out).unwrap();
    }
    let [Completion { token: Token(0), event: Event::Failed(error) }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    held.into_iter().for_each(|buffer| io.release(buffer));
    // Closed with bytes unread, the connection is reset: the sender learns of it.
    assert!(sender.join().unwrap().is_err());
}

fn a_wait_ends_with_its_timeout(io: &mut dyn Io) {
    let mut out = Vec::new();
    let (listener, _address) = listener();
    io.submit(LISTENER, Op::Accept(Arc::new(listener.into()))).unwrap();
    for timeout in [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(2)] {
        io.wait(timeout, &mut out).unwrap();
        assert!(out.is_empty());
    }
}

fn what_is_no_socket_is_refused(io: &mut dyn Io) {
    let null: Fd = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
    let error = io.submit(Token(0), Op::Recv(null)).unwrap_err();
    assert!(error.to_string().starts_with("cannot receive from what is not a socket"), "{error}");
}

/// Dropping a backend with everything under way frees its memory only when the kernel is done with it.
fn dropped_in_full_flight_nothing_breaks(io: &mut dyn Io) {
    let (listener, address) = listener();
    let sender = thread::spawn(move || TcpStream::connect(address).map(|mut client| client.write_all(&vec![1; 8 << 20])));
    let (server, _) = listener.accept().unwrap();
    io.submit(Token(0), Op::Recv(Arc::new(server.into()))).unwrap();
    io.submit(LISTENER, Op::Accept(Arc::new(listener.into()))).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes(4, 2 * READ_BUFFER_BYTES)).unwrap();
    let opened: Fd = Arc::new(file.reopen().unwrap().into());
    for token in 1..9 {
        io.submit(Token(token), Op::Read { file: opened.clone(), offset: 0, len: READ_BUFFER_BYTES }).unwrap();
    }
    let mut out = Vec::new();
    io.wait(PATIENCE, &mut out).unwrap();
    // The events are dropped with their buffers, the backend by the caller.
    drop(out);
    drop(sender);
}

macro_rules! cases {
    ($backend:ident, $open:expr, $($case:ident),+ $(,)?) => {
        mod $backend {
            $(#[test]
            fn $case() {
                match $open {
                    Ok(mut io) => super::$case(&mut *io),
                    Err(error) => eprintln!("not tested: {error}"),
                }
            })+
        }
    };
}

macro_rules! backends {
    ($($case:ident),+ $(,)?) => {
        cases!(uring, crate::io::uring(), $($case),+);
        cases!(portable, crate::io::portable(), $($case),+);
    };
}

backends!(
    random_writes_arrive_byte_exact,
    many_connections_arrive_apart,
    a_reset_is_an_error_of_that_client_alone,
    unix_sockets_work_alike,
    datagrams_stay_whole_and_name_their_sender,
    datagrams_wait_for_buffers,
    pipes_are_read_to_their_end,
    a_pipe_without_a_writer_has_not_ended,
    streams_of_regular_files_end_too,
    files_are_read_byte_exact,
    reads_are_bounded_and_their_buffers_come_back,
    held_buffers_hold_the_sender,
    cancelled_while_starved_it_still_ends,
    a_wait_ends_with_its_timeout,
    what_is_no_socket_is_refused,
    dropped_in_full_flight_nothing_breaks,
);

#[test]
fn a_ring_belongs_to_the_thread_that_waits_first() {
    let Ok(mut io) = uring() else { return };
    let mut out = Vec::new();
    io.wait(Duration::ZERO, &mut out).unwrap();
    let error = thread::spawn(move || {
        io.submit(Token(0), Op::Stream(pipe().0)).unwrap();
        io.wait(Duration::from_millis(1), &mut Vec::new()).unwrap_err()
    });
    assert!(error.join().unwrap().to_string().contains("one thread"));
}

/// Backends that are to be had here.
fn backends() -> Vec<Box<dyn Io>> {
    [uring(), portable()].into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_datagram_of_any_sender_arrives_as_it_was_sent(
        datagrams in proptest::collection::vec((prop_oneof![1..200_usize, 60_000..=65_507_usize], 0..2_usize), 1..100),
    ) {
        for mut io in backends() {
            let clients = datagram_socket(&mut *io, Token(0), "127.0.0.1").unwrap();
            for (seed, &(size, client)) in datagrams.iter().enumerate() {
                let sent = bytes(seed as u64, size);
                clients[client].send(&sent).unwrap();
                prop_assert!(next_datagram(&mut *io) == (Token(0), sent, size, Some(clients[client].local_addr().unwrap())));
            }
        }
    }
}

#[test]
fn a_cut_datagram_says_how_long_it_was() {
    let sender = "[2001:db8::7]:514".parse().unwrap();
    let clock = crate::time::SimulatedClock::shared();
    let datagrams = [bytes(1, 100), Vec::new(), bytes(2, 64)];
    // One buffer, so that one datagram comes at a time.
    let mut io = datagrams.into_iter().fold(sim::Sim::new(1, clock, 1, 64), |io, datagram| io.with_datagram(sender, datagram));
    io.submit(Token(0), Op::Recv(pipe().0)).unwrap();
    assert_eq!(next_datagram(&mut io), (Token(0), bytes(1, 100)[..64].to_vec(), 100, Some(sender)));
    assert_eq!(next_datagram(&mut io), (Token(0), bytes(2, 64), 64, Some(sender)));
}
