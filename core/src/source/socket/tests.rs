#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::config::IoBackend;
use crate::io::sim::{Sim, Step};
use crate::source::testing::{Lines, Run, run};
use crate::time::{Clock, SimulatedClock, SystemClock};

const PATIENCE: Duration = Duration::from_secs(600);

fn config(io: IoBackend) -> Config {
    Config { io, ..Config::default() }
}

fn tcp() -> (Listener, SocketAddr) {
    let listener = Listener::bind(Endpoint::Tcp("0".into())).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn source(listener: &Listener, config: &Config, end_on_disconnect: bool) -> SocketSource {
    SocketSource::new(listener.clone(), Lines::boxed(), config, SystemClock::shared(), end_on_disconnect).unwrap()
}

/// Every test of real sockets runs on both backends; where io_uring is forbidden the first is the portable one too.
fn on_both(test: impl Fn(IoBackend)) {
    test(IoBackend::Auto);
    test(IoBackend::Portable);
}

#[test]
fn clients_are_partitions_and_the_last_one_ends_the_source() {
    on_both(|io| {
        let (listener, address) = tcp();
        // A stream over the same listener can run twice.
        for _ in 0..2 {
            let clients = thread::spawn(move || {
                let mut clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
                for line in 0..1_000 {
                    for (at, client) in clients.iter_mut().enumerate() {
                        writeln!(client, "{at}:{line};").unwrap();
                    }
                }
            });
            let run = run(&mut source(&listener, &config(io), true));
            clients.join().unwrap();
            assert_eq!(run.rows.len(), 5_000);
            assert_eq!((run.opened.clone(), run.ended.len()), (vec![0, 1, 2, 3, 4], 5));
            for partition in 0..5 {
                let rows = run.of(partition);
                let client = rows[0].split_once(':').unwrap().0;
                assert!(rows.iter().enumerate().all(|(line, row)| *row == format!("{client}:{line};")));
            }
        }
    });
}

#[test]
fn a_source_that_is_given_no_time_ends_too() {
    on_both(|io| {
        let (listener, address) = tcp();
        let mut source = source(&listener, &config(io), true);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"a;\n").unwrap();
        drop(client);
        let mut seen = Run::default();
        loop {
            let delivery = source.poll(Duration::ZERO).unwrap();
            let end = delivery.end;
            seen.add(delivery);
            if end {
                break;
            }
        }
        assert_eq!((seen.of(0), seen.ended.len()), (vec!["a;"], 1));
    });
}

#[test]
fn a_paused_client_is_heard_later_and_loses_nothing() {
    on_both(|io| {
        let (listener, address) = tcp();
        let mut source = source(&listener, &config(io), true);
        let mut clients: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut seen = Run::default();
        let mut until = |source: &mut SocketSource, rows: usize| {
            while seen.rows.len() < rows {
                seen.add(source.poll(PATIENCE).unwrap());
            }
            seen.rows.iter().map(|(partition, _)| *partition).collect::<Vec<_>>()
        };
        clients.iter_mut().for_each(|client| client.write_all(b"first;\n").unwrap());
        until(&mut source, 2);
        for round in 0..3 {
            let rows = 2 + 4 * round;
            source.pause(&BTreeSet::from([PartitionId(0)])).unwrap();
            // The pause is on its way to the kernel, and has come when the second line has.
            clients[1].write_all(b"b;\n").unwrap();
            until(&mut source, rows + 1);
            clients[1].write_all(b"b;\n").unwrap();
            until(&mut source, rows + 2);
            clients[0].write_all(b"a;\n").unwrap();
            clients[1].write_all(b"b;\n").unwrap();
            assert_eq!(until(&mut source, rows + 3)[rows..], [1, 1, 1]);
            source.pause(&BTreeSet::new()).unwrap();
            assert_eq!(until(&mut source, rows + 4)[rows + 3..], [0]);
        }
        source.pause(&BTreeSet::from([PartitionId(0)])).unwrap();
        source.pause(&BTreeSet::new()).unwrap();
        clients[0].write_all(b"last;\n").unwrap();
        drop(clients);
        seen.add_all(&mut source);
        assert_eq!((seen.of(0), seen.of(1).len()), (vec!["first;", "a;", "a;", "a;", "last;"], 10));
        assert_eq!(seen.ended.len(), 2);
    });
}

#[test]
fn a_half_line_a_reset_and_a_poisoned_client_leave_the_others_alone() {
    on_both(|io| {
        let (listener, address) = tcp();
        let mut half = TcpStream::connect(address).unwrap();
        half.write_all(b"a;\nhal").unwrap();
        drop(half);
        let mut reset = TcpStream::connect(address).unwrap();
        rustix::net::sockopt::set_socket_linger(&reset, Some(Duration::ZERO)).unwrap();
        let mut poisoned = TcpStream::connect(address).unwrap();
        let mut good = TcpStream::connect(address).unwrap();
        let mut source = source(&listener, &config(io), true);
        reset.write_all(b"b;\nrese").unwrap();
        poisoned.write_all(b"c;\npoison;\nd;\n").unwrap();
        good.write_all(b"e;\n").unwrap();
        let mut seen = Run::default();
        while seen.rows.len() < 4 {
            seen.add(source.poll(PATIENCE).unwrap());
        }
        drop(reset);
        good.write_all(b"f;\n").unwrap();
        drop((good, poisoned));
        seen.add_all(&mut source);
        assert_eq!((seen.of(0), seen.of(1), seen.of(2), seen.of(3)), (vec!["a;"], vec!["b;"], vec!["c;"], vec!["e;", "f;"]));
        let mut rejected: Vec<_> = seen.rejected.iter().map(|row| (row.partition.0, row.offset, &row.bytes[..])).collect();
        rejected.sort_unstable();
        assert_eq!(rejected, [(0, 3, &b"hal"[..]), (1, 3, b"rese"), (2, 0, b"c;\npoison;\nd;\n")]);
    });
}

#[test]
fn datagrams_are_whole_numbers_of_frames_in_one_partition() {
    on_both(|io| {
        let listener = Listener::bind(Endpoint::Udp("0".into())).unwrap();
        let mut source = source(&listener, &config(io), false);
        let clients = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut seen = Run::default();
        for (at, datagram) in ["a;\nb;\n", "c;", "", "half", "poison;\nx;", "d;\ne;"].into_iter().enumerate() {
            clients[at % 2].send_to(datagram.as_bytes(), listener.local_addr().unwrap()).unwrap();
        }
        while seen.rows.len() < 5 {
            seen.add(source.poll(PATIENCE).unwrap());
        }
        assert_eq!(seen.of(0), ["a;", "b;", "c;", "d;", "e;"]);
        assert_eq!((seen.opened, seen.ended.len()), (vec![0], 0));
        let rejected: Vec<_> = seen.rejected.iter().map(|row| (&row.bytes[..], row.error.clone())).collect();
        let error = |client: &UdpSocket, why: &str| format!("datagram from {}: {why}", client.local_addr().unwrap());
        assert_eq!(
            rejected,
            [(&b"half"[..], error(&clients[1], "the line is not whole")), (b"poison;\nx;", error(&clients[0], "poisoned"))]
        );
    });
    let listener = Listener::bind(Endpoint::Udp("0".into())).unwrap();
    let refused = SocketSource::new(listener, Lines::boxed(), &Config::default(), SystemClock::shared(), true);
    assert!(refused.err().unwrap().to_string().contains("do not disconnect"));
}

#[test]
fn a_cut_datagram_is_quarantined_whole() {
    let clock = SimulatedClock::shared();
    let sender = "203.0.113.7:514".parse().unwrap();
    let sim = Sim::new(3, clock.clone(), 4, 64).with_datagram(sender, "x;\n".repeat(30)).with_datagram(sender, "a;");
    let listener = Listener::bind(Endpoint::Udp("0".into())).unwrap();
    let mut source = SocketSource::with_io(listener, Lines::boxed(), &Config::default(), clock, false, Box::new(sim)).unwrap();
    let mut seen = Run::default();
    while seen.rows.is_empty() {
        seen.add(source.poll(PATIENCE).unwrap());
    }
    assert_eq!((seen.of(0), seen.rejected.len()), (vec!["a;"], 1));
    let error = "datagram from 203.0.113.7:514: its last 26 bytes are missing: it is longer than a buffer";
    assert_eq!((&seen.rejected[0].error[..], seen.rejected[0].bytes.len()), (error, 64));
}

#[test]
fn unix_sockets_are_read() {
    on_both(|io| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(Endpoint::Unix(path.clone())).unwrap();
        UnixStream::connect(&path).unwrap().write_all(b"a;\nb;").unwrap();
        assert_eq!(run(&mut source(&listener, &config(io), true)).of(0), ["a;", "b;"]);
    });
}

#[test]
fn further_clients_than_allowed_are_turned_away() {
    on_both(|io| {
        let (listener, address) = tcp();
        let mut source = source(&listener, &Config { max_connections: 2, ..config(io) }, true);
        let mut clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut seen = Run::default();
        while source.refused() < 3 {
            seen.add(source.poll(Duration::from_millis(1)).unwrap());
        }
        for client in &mut clients[2..] {
            let turned_away = client.read(&mut [0]);
            assert!(matches!(turned_away, Ok(0) | Err(_)), "{turned_away:?}");
        }
        clients.truncate(2);
        clients.iter_mut().for_each(|client| client.write_all(b"a;\n").unwrap());
        drop(clients);
        seen.add_all(&mut source);
        assert_eq!((seen.rows.len(), seen.opened, seen.ended.len()), (2, vec![0, 1], 2));
    });
}

#[test]
fn a_full_batch_does_not_wait_and_a_small_one_waits_for_the_linger() {
    let clock = SimulatedClock::shared();
    let lines = |count| Step::Send("x;\n".repeat(count).into_bytes());
    let sim = Sim::new(1, clock.clone(), 4, 64).with_client([
        lines(100),
        Step::Pause(Duration::from_secs(1)),
        lines(3),
        Step::Pause(Duration::from_secs(60)),
        lines(1),
    ]);
    let config = Config { batch_rows: 10, linger: Duration::from_millis(5), ..Config::default() };
    let mut source = SocketSource::with_io(tcp().0, Lines::boxed(), &config, clock.clone(), true, Box::new(sim)).unwrap();
    let mut seen = Run::default();
    while seen.rows.len() < 100 {
        let before = clock.monotonic();
        seen.add(source.poll(PATIENCE).unwrap());
        assert!(clock.monotonic() - before <= 5_100_000, "nothing waits longer than the linger");
    }
    // All full but the last: a piece of 64 bytes brings up to 22 rows more than the batch needs.
    assert!(seen.batches.iter().rev().skip(1).all(|rows| (10..32).contains(rows)), "{:?}", seen.batches);
    let before = clock.monotonic();
    let batch = source.poll(PATIENCE).unwrap().batch.unwrap();
    assert!(batch.received - before >= 900_000_000 && clock.monotonic() - batch.received >= 5_000_000, "the linger counts from arrival");
}

#[test]
fn a_silent_client_is_disconnected() {
    let clock = SimulatedClock::shared();
    let line = |text: &str| Step::Send(text.as_bytes().to_vec());
    let sim = Sim::new(2, clock.clone(), 4, 64)
        .with_client([line("a;\nhal"), Step::Pause(Duration::from_secs(3_600)), line("f;\n")])
        .with_client((0..100).flat_map(|_| [line("b;\n"), Step::Pause(Duration::from_secs(20))]));
    let config = Config { connection_idle: Duration::from_secs(60), ..Config::default() };
    let mut source = SocketSource::with_io(tcp().0, Lines::boxed(), &config, clock, true, Box::new(sim)).unwrap();
    let seen = run(&mut source);
    assert_eq!((seen.of(0), seen.of(1).len()), (vec!["a;"], 100));
    assert_eq!(seen.ended, [0, 1]);
    assert_eq!((seen.rejected.len(), &seen.rejected[0].bytes[..]), (1, &b"hal"[..]));
}

/// A script of one client with the rows it should bring; a reset or the end in mid-line loses that line alone.
fn scripts() -> impl Strategy<Value = Vec<(Vec<Step>, usize, bool)>> {
    let client = (0..60_usize, 0..5_usize, any::<bool>(), any::<bool>(), 0..2_000_u64);
    let script = client.prop_map(|(lines, pauses, reset, half, pause)| {
        let mut steps = Vec::new();
        for part in 0..=pauses {
            let range = lines * part / (pauses + 1)..lines * (part + 1) / (pauses + 1);
            steps.push(Step::Send(range.flat_map(|line| format!("line {line};\n").into_bytes()).collect()));
            steps.push(Step::Pause(Duration::from_micros(pause)));
        }
        steps.extend(half.then(|| Step::Send(b"unfinished".to_vec())));
        steps.extend(reset.then_some(Step::Reset));
        (steps, lines, half)
    });
    proptest::collection::vec(script, 1..6)
}

proptest! {
    #[test]
    fn every_line_arrives_once_in_order_whatever_happens(
        scripts in scripts(), seed in any::<u64>(), buffers in 1..5_usize, piece in 1..200_usize, batch_rows in 1..50_usize,
        target in proptest::option::of(1..20_u64), pauses in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let clock = SimulatedClock::shared();
        let mut sim = Sim::new(seed, clock.clone(), buffers, piece);
        for (steps, _, _) in &scripts {
            sim = sim.with_client(steps.clone());
        }
        let config = Config { batch_rows, latency_target: target.map(Duration::from_millis), ..Config::default() };
        let mut source = SocketSource::with_io(tcp().0, Lines::boxed(), &config, clock, false, Box::new(sim)).unwrap();
        let mut seen = Run::default();
        // Now these clients are paused, now those, and at last none.
        for mask in pauses.into_iter().chain([0]) {
            source.pause(&(0..8).filter(|bit| mask & 1 << bit != 0).map(PartitionId).collect()).unwrap();
            seen.add(source.poll(Duration::from_millis(50)).unwrap());
        }
        while seen.ended.len() < scripts.len() {
            seen.add(source.poll(Duration::from_millis(50)).unwrap());
        }
        let halves = scripts.iter().filter(|(_, _, half)| *half).count();
        prop_assert_eq!(seen.rejected.len(), halves);
        for (partition, (_, lines, _)) in scripts.iter().enumerate() {
            let expected: Vec<String> = (0..*lines).map(|line| format!("line {line};")).collect();
            prop_assert_eq!(seen.of(partition as u32), expected);
        }
        // A piece may complete as many lines as it has bytes for, six at least each.
        prop_assert!(seen.batches.iter().all(|&rows| rows < batch_rows + piece / 6 + 2 + scripts.len()));
    }
}
