#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::config::IoBackend;
use crate::io::sim::Sim;
use crate::source::testing::{Lines, Run, run};
use crate::time::{SimulatedClock, SystemClock};

fn source(paths: &[PathBuf], config: &Config) -> FileSource {
    FileSource::new(paths.to_vec(), None, Lines::boxed(), config, SystemClock::shared()).unwrap()
}

/// Files of numbered lines, `lines` of `width` bytes in each.
fn files(directory: &Path, files: &[(usize, usize)]) -> Vec<PathBuf> {
    let write = |(at, &(lines, width)): (usize, &(usize, usize))| {
        let path = directory.join(format!("{at:04}.txt"));
        let text: Vec<u8> = (0..lines).flat_map(|line| row(line, width).into_bytes().into_iter().chain([b'\n'])).collect();
        std::fs::write(&path, text).unwrap();
        path
    };
    files.iter().enumerate().map(write).collect()
}

fn row(line: usize, width: usize) -> String {
    format!("{line:0width$};", width = width.saturating_sub(2))
}

/// Every way of reading that this system allows.
fn backends() -> impl Iterator<Item = IoBackend> {
    let uring = crate::io::probe().is_ok().then_some(IoBackend::Uring);
    [IoBackend::Auto, IoBackend::Portable].into_iter().chain(uring)
}

#[test]
fn files_are_byte_exact_and_alike_on_every_backend() {
    let directory = tempfile::tempdir_in(".").unwrap();
    // Of no bytes, of less than a buffer, of one exactly, of one byte more, and of many.
    let shapes = [(0, 8), (3, 20), (READ_BUFFER_BYTES / 64, 64), (READ_BUFFER_BYTES / 64, 65), (30_000, 100)];
    let paths = files(directory.path(), &shapes);
    let mut runs = Vec::new();
    for io in backends() {
        for direct_io in [false, true] {
            let run = run(&mut source(&paths, &Config { io, direct_io, batch_rows: 5_000, ..Config::default() }));
            for (at, &(lines, width)) in shapes.iter().enumerate() {
                assert!(run.of(at as u32).into_iter().eq((0..lines).map(|line| row(line, width))), "file {at}");
            }
            assert_eq!(run.bytes, shapes.iter().map(|(lines, width)| (lines * width) as u64).sum::<u64>());
            assert_eq!((run.opened.clone(), run.ended.len()), (vec![0, 1, 2, 3, 4], 5));
            // The empty file is read as it comes; all others have one order.
            runs.push((run.rows, run.ended.into_iter().filter(|&at| at > 0).collect::<Vec<_>>()));
        }
    }
    assert!(runs.iter().all(|run| *run == runs[0]));
}

#[test]
fn files_advance_together() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &[(100_000, 20), (100_000, 20)]);
    let run = run(&mut source(&paths, &Config::default()));
    let (mut first, mut second) = (0_i64, 0_i64);
    for (partition, _) in &run.rows {
        *(if *partition == 0 { &mut first } else { &mut second }) += 1;
        assert!((first - second).unsigned_abs() as usize <= READ_BUFFER_BYTES / 20 + 2);
    }
}

#[test]
fn more_files_than_may_be_open_are_read_too() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &vec![(2, 10); OPEN_FILES + 50]);
    let run = run(&mut source(&paths, &Config::default()));
    assert_eq!((run.rows.len(), run.ended.len()), (2 * (OPEN_FILES + 50), OPEN_FILES + 50));
}

#[test]
fn pipes_are_read_beside_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = files(directory.path(), &[(10, 10)]);
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    paths.push(fifo.clone());
    for io in backends() {
        let mut source = source(&paths, &Config { io, ..Config::default() });
        let fifo = fifo.clone();
        let writer = thread::spawn(move || {
            let mut writer = OpenOptions::new().write(true).open(fifo).unwrap();
            (0..20_000).for_each(|line| writeln!(writer, "{line};").unwrap());
            writer.write_all(b"half").unwrap();
        });
        let run = run(&mut source);
        writer.join().unwrap();
        assert_eq!((run.of(0).len(), run.of(1).len(), run.rejected.len()), (10, 20_000, 1));
        assert!(run.of(1).into_iter().eq((0..20_000).map(|line| format!("{line};"))));
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let refuse = |paths: Vec<PathBuf>| {
        FileSource::new(paths, None, Lines::boxed(), &Config::default(), SystemClock::shared()).err().unwrap().to_string()
    };
    assert!(refuse(vec![]).starts_with("no file to read"));
    assert!(refuse(vec![directory.path().join("absent")]).contains("absent: No such file"));
    assert!(refuse(vec![directory.path().into()]).contains("is a folder; name its files"));
    let path = directory.path().join("poisoned");
    std::fs::write(&path, "a;\npoison;\n").unwrap();
    let error = source(&[path], &Config::default()).poll(Duration::from_secs(600)).unwrap_err().to_string();
    assert!(error.starts_with("cannot decode ") && error.ends_with("poisoned: poisoned"), "{error}");
}

#[test]
fn a_file_cut_short_ends_where_it_now_ends() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &[(100_000, 20), (10, 20)]);
    let mut source = source(&paths, &Config::default());
    OpenOptions::new().write(true).open(&paths[0]).unwrap().set_len(20 * 20_000 + 5).unwrap();
    let run = run(&mut source);
    assert_eq!((run.of(0).len(), run.of(1).len(), run.rejected.len()), (20_000, 10, 1));
    assert_eq!(run.ended.len(), 2);
}

#[test]
fn a_failed_read_names_the_file_and_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &[(1_000, 20)]);
    let clock = SimulatedClock::shared();
    let sim = Sim::new(3, clock.clone(), READ_BUFFERS, 100).with_read_failure(3);
    let mut source = FileSource::with_io(paths, None, Lines::boxed(), &Config::default(), clock, Box::new(sim)).unwrap();
    let error = source.poll(Duration::from_secs(600)).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("0000.txt at byte "), "{error}");
}

#[test]
fn a_paused_file_misses_its_turns() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &[(30_000, 100), (30_000, 100)]);
    for io in backends() {
        let mut source = source(&paths, &Config { io, batch_rows: 5_000, ..Config::default() });
        source.pause(&BTreeSet::from([PartitionId(0)])).unwrap();
        let mut seen = Run::default();
        while seen.ended.is_empty() {
            seen.add(source.poll(Duration::from_secs(600)).unwrap());
        }
        assert_eq!((seen.of(0).len(), seen.of(1).len()), (0, 30_000));
        let nothing = source.poll(Duration::from_secs(600)).unwrap();
        assert!(nothing.batch.is_none() && !nothing.end, "without waiting");
        source.pause(&BTreeSet::new()).unwrap();
        seen.add_all(&mut source);
        assert_eq!(seen.of(0).len(), 30_000);
    }
}

/// Packs what is at `path` beside it; returns the packed file.
fn pack(path: &Path, compression: Compression) -> PathBuf {
    let text = std::fs::read(path).unwrap();
    let (suffix, packed) = match compression {
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(&text).unwrap();
            ("gz", writer.finish().unwrap())
        }
        Compression::Zstd => ("zst", zstd::encode_all(&text[..], 1).unwrap()),
        Compression::Lz4 => {
            let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
            writer.write_all(&text).unwrap();
            ("lz4", writer.finish().unwrap())
        }
        Compression::None => ("plain", text),
    };
    let path = path.with_extension(suffix);
    std::fs::write(&path, packed).unwrap();
    path
}

#[test]
fn packed_files_give_what_they_were_made_of() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let shapes = [(3, 20), (30_000, 100), (200_000, 10)];
    let plain = files(directory.path(), &shapes);
    let compressions = [Compression::Gzip, Compression::Zstd, Compression::Lz4];
    let packed: Vec<PathBuf> = plain.iter().zip(compressions).map(|(path, compression)| pack(path, compression)).collect();
    for io in backends() {
        for direct_io in [false, true] {
            let config = Config { io, direct_io, batch_rows: 500, ..Config::default() };
            let run = run(&mut source(&packed, &config));
            for (at, &(lines, width)) in shapes.iter().enumerate() {
                assert!(run.of(at as u32).into_iter().eq((0..lines).map(|line| row(line, width))), "file {at}");
            }
            assert!(run.rejected.is_empty() && run.ended.len() == 3);
            assert_eq!(run.bytes, packed.iter().map(|path| path.metadata().unwrap().len()).sum::<u64>(), "packed bytes are what is read");
            // However much a read unpacks to, a batch is no longer than a batch and what comes out at once.
            assert!(run.batches.iter().all(|&rows| rows <= 500 + crate::config::UNPACKED_BYTES / 10));
        }
    }
    let offsets = |paths: &[PathBuf]| {
        let mut source = source(&paths[2..], &Config::default());
        source.poll(Duration::from_secs(600)).unwrap().batch.unwrap().segments
    };
    assert_eq!(offsets(&packed)[..1_000], offsets(&plain)[..1_000], "offsets count what comes out");
}

#[test]
fn a_packed_file_that_is_cut_off_or_damaged_ends_there_and_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &[(100_000, 20), (50_000, 20), (10, 20)]);
    let gzip = pack(&paths[0], Compression::Gzip);
    let zstd = pack(&paths[1], Compression::Zstd);
    let cut = std::fs::metadata(&gzip).unwrap().len() / 2;
    OpenOptions::new().write(true).open(&gzip).unwrap().set_len(cut).unwrap();
    let mut bytes = std::fs::read(&zstd).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9].copy_from_slice(b"damage!!!");
    std::fs::write(&zstd, bytes).unwrap();
    for io in backends() {
        let config = Config { io, ..Config::default() };
        let run = run(&mut source(&[gzip.clone(), zstd.clone(), paths[2].clone()], &config));
        for (at, name) in
            [(0, "0000.gz: the gzip data is cut off at byte "), (1, "0001.zst: the zstd data is damaged, or is none, at byte ")]
        {
            let rows = run.of(at);
            assert!(rows.len() < 100_000 && rows.iter().enumerate().all(|(line, found)| *found == row(line, 20)));
            let last = run.rejected.iter().rfind(|rejected| rejected.partition.0 == at).unwrap();
            assert!(last.error.contains(name), "{}", last.error);
        }
        assert_eq!((run.of(2).len(), run.ended.len()), (10, 3));
    }
}

#[test]
fn packed_pipes_are_unpacked_when_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let paths = files(directory.path(), &[(50_000, 20)]);
    for (damage, compression) in [(false, Compression::Gzip), (false, Compression::Lz4), (true, Compression::Zstd)] {
        let mut packed = std::fs::read(pack(&paths[0], compression)).unwrap();
        if damage {
            packed[5..20].fill(0xFF);
        }
        let fifo = directory.path().join(format!("fifo of {compression}"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let config = Config::default();
        let mut source = FileSource::new(vec![fifo.clone()], Some(compression), Lines::boxed(), &config, SystemClock::shared()).unwrap();
        let writer = thread::spawn(move || {
            // A reader that has seen enough may close the pipe.
            let _ = OpenOptions::new().write(true).open(fifo).unwrap().write_all(&packed);
        });
        let run = run(&mut source);
        drop(source);
        writer.join().unwrap();
        assert_eq!((run.of(0).len(), run.rejected.len()), if damage { (0, 1) } else { (50_000, 0) }, "{compression}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn short_and_reordered_reads_change_nothing(
        shapes in proptest::collection::vec((0..400_usize, 4..40_usize), 1..8),
        seed in any::<u64>(), piece in 1..5_000_usize, batch_rows in 1..500_usize,
        pauses in proptest::collection::vec(any::<u8>(), 0..20), packed in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut paths = files(directory.path(), &shapes);
        if packed {
            let compressions = [Compression::Gzip, Compression::None, Compression::Zstd, Compression::Lz4];
            let pack_if_any = |(path, compression): (&PathBuf, &Compression)| match path.metadata().unwrap().len() {
                0 => path.clone(),
                _ => pack(path, *compression),
            };
            paths = paths.iter().zip(compressions.iter().cycle()).map(pack_if_any).collect();
        }
        let clock = SimulatedClock::shared();
        let sim = Sim::new(seed, clock.clone(), READ_BUFFERS, piece);
        let config = Config { batch_rows, ..Config::default() };
        // The simulation's streams are clients: empty files, which are read as streams, are left out.
        let paths: Vec<PathBuf> = paths.into_iter().filter(|path| path.metadata().unwrap().len() > 0).collect();
        prop_assume!(!paths.is_empty());
        let shapes: Vec<_> = shapes.into_iter().filter(|(lines, _)| *lines > 0).collect();
        let mut source = FileSource::with_io(paths, None, Lines::boxed(), &config, clock, Box::new(sim)).unwrap();
        let mut run = Run::default();
        for mask in pauses.into_iter().chain([0]) {
            source.pause(&(0..8).filter(|bit| mask & 1 << bit != 0).map(PartitionId).collect()).unwrap();
            let delivery = source.poll(Duration::from_millis(50)).unwrap();
            prop_assume!(!delivery.end);
            run.add(delivery);
        }
        run.add_all(&mut source);
        for (at, &(lines, width)) in shapes.iter().enumerate() {
            prop_assert!(run.of(at as u32).into_iter().eq((0..lines).map(|line| row(line, width))));
        }
        prop_assert_eq!(run.ended.len(), shapes.len());
    }
}
