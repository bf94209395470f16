//! Files, pipes and standard input as a source.
//!
//! Every input is a partition; all of them are announced with the first delivery, so that none is overtaken before
//! its first row. Files are read in turns of [`READ_BUFFER_BYTES`], so that files which cover the same time advance
//! together, and decoded in exactly that order whatever order the reads complete in: the rows of a run are the same on
//! every backend. A file that is paused misses its turns. A file is read up to the length that it has when the source is made. Pipes, terminals and standard
//! input (`-`) are read as they come.
//!
//! What is packed is unpacked on the way to the decoder, [`UNPACKED_BYTES`](crate::config::UNPACKED_BYTES) at a time and no further than
//! until a batch is full. Packed files take turns by their packed bytes; offsets count the bytes that come out. A file that is damaged
//! or cut off ends there: what could not be unpacked goes to quarantine with the file and the place, and so does the frame that it
//! cuts in two.

mod unpack;

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use self::unpack::{Packed, Unpacking};
use super::gather::Gather;
pub use super::glob::expand;
use super::linger::nanos;
use super::{Delivery, Source};
use crate::batch::PartitionId;
use crate::config::{Config, READ_BUFFER_BYTES, READ_DEPTH};
use crate::error::{Error, Result};
use crate::format::Decoder;
use crate::format::compression::Compression;
use crate::io::{Buffer, Completion, Event, Fd, Io, Op, READ_BUFFERS, Token};
use crate::time::SharedClock;

/// Files that stay open between their reads. Of more files each is opened for every read and closed after it, which
/// costs a few microseconds in [`READ_BUFFER_BYTES`], so that no number of files runs into the process's limit.
const OPEN_FILES: usize = 256;

/// The unit of offsets and lengths under `O_DIRECT`; disks' blocks divide it.
const DIRECT_BLOCK: u64 = 4_096;

const _: () = assert!(READ_BUFFER_BYTES.is_multiple_of(DIRECT_BLOCK as usize), "direct reads are whole blocks");

/// Reads files, pipes and standard input to their ends. Poll it on one thread only.
pub struct FileSource {
    io: Box<dyn Io>,
    gather: Gather,
    inputs: Vec<Input>,
    /// Inputs that have not ended.
    alive: usize,
    streams: usize,
    direct: bool,
    /// Files that have bytes nobody has asked for yet, the next one's first.
    turns: VecDeque<usize>,
    /// Files that are not asked for more for now.
    paused: BTreeSet<PartitionId>,
    /// Pieces of files that have been asked for, in the order in which they are decoded.
    pieces: VecDeque<Piece>,
    /// The next read's token; streams have the first ones, by input.
    next_token: u64,
    begun: bool,
    /// What streams have brought and has not been decoded.
    queue: VecDeque<Completion>,
    incoming: Vec<Completion>,
    /// What was read of a packed file and is being unpacked.
    unpacking: Option<Unpacking>,
}

struct Input {
    path: PathBuf,
    kind: Kind,
    packed: Packed,
}

enum Kind {
    File {
        /// Kept open between reads if there are few enough files.
        fd: Option<Fd>,
        /// Device and inode: the file that was there at first.
        identity: (u64, u64),
        len: u64,
        /// The first byte that nobody has asked for.
        next: u64,
    },
    Stream(Fd),
}

/// A part of a file that is being read.
struct Piece {
    input: usize,
    token: Token,
    /// The first byte that is still wanted.
    start: u64,
    end: u64,
    /// Where the read began: at or before `start`, on a block of the disk.
    offset: u64,
    event: Option<Event>,
}

impl FileSource {
    /// A source of the rows in `paths`, in the format of `decoder`. `-` is standard input. Without `compression`, the suffix of each
    /// path says how it is packed.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if there is no path or the backend that `config` demands cannot be
    /// had, [`Kind::Connector`](crate::error::Kind::Connector) for what cannot be opened or is a folder.
    pub fn new(
        paths: Vec<PathBuf>,
        compression: Option<Compression>,
        decoder: Box<dyn Decoder>,
        config: &Config,
        clock: SharedClock,
    ) -> Result<FileSource> {
        FileSource::with_io(paths, compression, decoder, config, clock, crate::io::open_for_files(config)?)
    }

    /// As [`FileSource::new`], through a given backend.
    ///
    /// # Errors
    /// As [`FileSource::new`].
    pub fn with_io(
        paths: Vec<PathBuf>,
        compression: Option<Compression>,
        decoder: Box<dyn Decoder>,
        config: &Config,
        clock: SharedClock,
        io: Box<dyn Io>,
    ) -> Result<FileSource> {
        if paths.is_empty() {
            return Err(Error::config("no file to read; give at least one path, or `-` for standard input"));
        }
        let inputs = paths.into_iter().map(|path| Input::new(path, compression)).collect::<Result<Vec<_>>>()?;
        let is_file = |at: &usize| matches!(inputs[*at].kind, Kind::File { .. });
        let turns: VecDeque<usize> = (0..inputs.len()).filter(is_file).collect();
        Ok(FileSource {
            io,
            gather: Gather::new(decoder, config, clock),
            alive: inputs.len(),
            streams: inputs.len() - turns.len(),
            direct: config.direct_io,
            turns,
            paused: BTreeSet::new(),
            pieces: VecDeque::new(),
            next_token: inputs.len() as u64,
            inputs,
            begun: false,
            queue: VecDeque::new(),
            incoming: Vec::new(),
            unpacking: None,
        })
    }

    fn begin(&mut self, now: u64) -> Result<()> {
        if !self.begun {
            for (at, input) in self.inputs.iter().enumerate() {
                self.gather.open(PartitionId(at as u32), Some(input.path.display().to_string()), now);
                if let Kind::Stream(fd) = &input.kind {
                    self.io.submit(Token(at as u64), Op::Stream(Arc::clone(fd)))?;
                }
            }
            self.begun = true;
        }
        Ok(())
    }

    /// The file whose turn it is.
    fn next_turn(&mut self) -> Option<usize> {
        let next = self.turns.iter().position(|&at| !self.paused.contains(&PartitionId(at as u32)))?;
        self.turns.remove(next)
    }

    /// Asks for the next pieces, one of each file in turn, as many as may be under way.
    fn ask(&mut self) -> Result<()> {
        let files = self.alive - self.streams;
        while self.pieces.len() < READ_BUFFERS.min(READ_DEPTH * files)
            && let Some(at) = self.next_turn()
        {
            let Kind::File { len, next, .. } = &mut self.inputs[at].kind else { continue };
            let start = *next;
            *next = (start + READ_BUFFER_BYTES as u64).min(*len);
            let end = *next;
            if end < *len {
                self.turns.push_back(at);
            }
            let piece = self.read(at, start, end)?;
            self.pieces.push_back(piece);
        }
        Ok(())
    }

    /// Submits the read of one piece.
    fn read(&mut self, at: usize, start: u64, end: u64) -> Result<Piece> {
        let block = if self.direct { DIRECT_BLOCK } else { 1 };
        let offset = start / block * block;
        let len = (end - offset).next_multiple_of(block) as usize;
        let keep = self.inputs.len() <= OPEN_FILES;
        let file = self.inputs[at].open(self.direct, keep)?;
        let token = Token(self.next_token);
        self.next_token += 1;
        self.io.submit(token, Op::Read { file, offset, len })?;
        Ok(Piece { input: at, token, start, end, offset, event: None })
    }

    /// Waits for events; says whether there are any to look at.
    fn look(&mut self, timeout: Duration) -> Result<bool> {
        let ready = |source: &FileSource| {
            source.unpacking.is_some() || !source.queue.is_empty() || source.pieces.front().is_some_and(|piece| piece.event.is_some())
        };
        if !ready(self) {
            self.io.wait(timeout, &mut self.incoming)?;
            for completion in self.incoming.drain(..) {
                match self.pieces.iter_mut().find(|piece| piece.token == completion.token) {
                    Some(piece) => piece.event = Some(completion.event),
                    None => self.queue.push_back(completion),
                }
            }
        }
        Ok(ready(self))
    }

    /// Decodes what has come, in order, until a batch is full.
    fn handle(&mut self, now: u64) -> Result<()> {
        self.unpack(now)?;
        while self.has_room()
            && let Some(Completion { token, event }) = self.queue.pop_front()
        {
            self.stream(token.0 as usize, event, now)?;
        }
        while self.has_room()
            && let Some(event) = self.pieces.front_mut().and_then(|piece| piece.event.take())
        {
            if let Some(piece) = self.pieces.pop_front() {
                self.piece(piece, event, now)?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, at: usize, event: Event, now: u64) -> Result<()> {
        match event {
            Event::Data(buffer) if self.inputs[at].packed.is_done() => {
                self.io.release(buffer);
                Ok(())
            }
            Event::Failed(_) | Event::End if self.inputs[at].packed.is_done() => {
                self.streams -= 1;
                Ok(())
            }
            Event::Data(buffer) => {
                let len = buffer.len();
                self.decode(at, buffer, 0..len, now)
            }
            Event::Failed(error) => Err(Error::io(format!("cannot read {}", self.inputs[at].path.display()), error)),
            Event::End | Event::Accepted(_) => {
                self.streams -= 1;
                self.end(at, now);
                Ok(())
            }
        }
    }

    fn piece(&mut self, mut piece: Piece, event: Event, now: u64) -> Result<()> {
        let Kind::File { len, .. } = self.inputs[piece.input].kind else { return Ok(()) };
        match event {
            // The file was cut short before this piece.
            Event::Data(buffer) if len == 0 => {
                self.io.release(buffer);
                Ok(())
            }
            _ if len == 0 => Ok(()),
            Event::Data(buffer) => {
                let skipped = (piece.start - piece.offset) as usize;
                let wanted = (piece.end - piece.offset) as usize;
                let read = skipped.min(buffer.len())..wanted.min(buffer.len());
                let advanced = read.len() as u64;
                self.decode(piece.input, buffer, read, now)?;
                piece.start += advanced;
                if self.inputs[piece.input].packed.is_done() {
                    return Ok(());
                }
                if advanced == 0 {
                    self.truncated(&piece, now);
                } else if piece.start < piece.end {
                    let rest = self.read(piece.input, piece.start, piece.end)?;
                    self.pieces.push_front(rest);
                } else if piece.end == len {
                    self.end(piece.input, now);
                }
                Ok(())
            }
            Event::Failed(error) => {
                Err(Error::io(format!("cannot read {} at byte {}", self.inputs[piece.input].path.display(), piece.start), error))
            }
            Event::End | Event::Accepted(_) => {
                self.truncated(&piece, now);
                Ok(())
            }
        }
    }

    /// A file has become shorter: it ends here.
    fn truncated(&mut self, piece: &Piece, now: u64) {
        let at = piece.input;
        let Input { path, kind: Kind::File { len, .. }, .. } = &self.inputs[at] else { return };
        tracing::warn!(path = %path.display(), expected = *len, found = piece.start, "a file was cut short while it was read");
        self.stop(at);
        self.end(at, now);
    }

    /// Asks for no more of a file.
    fn stop(&mut self, at: usize) {
        if let Kind::File { len, next, .. } = &mut self.inputs[at].kind {
            (*len, *next) = (0, 0);
            self.turns.retain(|&turn| turn != at);
        }
    }

    fn decode(&mut self, at: usize, buffer: Buffer, range: Range<usize>, now: u64) -> Result<()> {
        if self.inputs[at].packed.open()? {
            self.unpacking = Some(Unpacking { input: at, buffer, rest: range, ends: false });
            return self.unpack(now);
        }
        let decoded = self.gather.decode(PartitionId(at as u32), &self.io.bytes(&buffer)[range], now);
        self.io.release(buffer);
        decoded.map_err(|error| error.context(format!("cannot decode {}", self.inputs[at].path.display())))
    }

    fn end(&mut self, at: usize, now: u64) {
        if let Some(unpacking) = self.unpacking.as_mut().filter(|unpacking| unpacking.input == at) {
            unpacking.ends = true;
            return;
        }
        self.check_end(at, now);
        self.alive -= 1;
        if let Kind::File { fd, .. } = &mut self.inputs[at].kind {
            *fd = None;
        }
        self.gather.end(PartitionId(at as u32), now);
    }
}

impl Input {
    /// Looks at a path and opens it if it is to be read as it comes.
    fn new(path: PathBuf, compression: Option<Compression>) -> Result<Input> {
        let packed = Packed::new(compression.unwrap_or_else(|| Compression::of_path(&path)));
        let failed = |error| Error::io(format!("cannot open {}", path.display()), error);
        if path.as_os_str() == "-" {
            let fd = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
            return Ok(Input { path, kind: Kind::Stream(Arc::new(fd)), packed });
        }
        let data = path.metadata().map_err(failed)?;
        if data.is_dir() {
            return Err(Error::connector(format!("{0} is a folder; name its files, for example {0}/*", path.display())));
        }
        if data.file_type().is_socket() {
            return Err(Error::connector(format!("{} is a socket; listen on it instead of reading it", path.display())));
        }
        // Files that the kernel makes up as they are read have no length either.
        if data.is_file() && data.len() > 0 {
            File::open(&path).map_err(failed)?;
            let kind = Kind::File { fd: None, identity: (data.dev(), data.ino()), len: data.len(), next: 0 };
            return Ok(Input { path, kind, packed });
        }
        // Otherwise opening a pipe would wait for its writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).map_err(failed)?;
        Ok(Input { path, kind: Kind::Stream(Arc::new(file.into())), packed })
    }

    /// The open file; it stays open if `keep`.
    fn open(&mut self, direct: bool, keep: bool) -> Result<Fd> {
        let Input { path, kind, .. } = self;
        match kind {
            Kind::Stream(fd) | Kind::File { fd: Some(fd), .. } => Ok(Arc::clone(fd)),
            Kind::File { fd, identity, .. } => {
                let file = open(path, direct).map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
                let data = file.metadata().map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
                if (data.dev(), data.ino()) != *identity {
                    return Err(Error::connector(format!("{} was replaced while it was read; read it again", path.display())));
                }
                let opened: Fd = Arc::new(OwnedFd::from(file));
                if keep {
                    *fd = Some(Arc::clone(&opened));
                }
                Ok(opened)
            }
        }
    }
}

/// Opens a file for direct reads where the file system has them, else for ordinary ones.
fn open(path: &Path, direct: bool) -> io::Result<File> {
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    match open(if direct { libc::O_DIRECT } else { 0 }) {
        Err(error) if direct && error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::info!(path = %path.display(), "the file system has no direct reads; reads through the page cache");
            open(0)
        }
        opened => opened,
    }
}

impl Source for FileSource {
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
            self.ask()?;
            if self.alive > 0 && self.streams == 0 && self.pieces.is_empty() && self.unpacking.is_none() {
                // All that is left is paused: who paused it has to see first what has ended.
                return self.gather.take(false);
            }
            // Only streams make anybody wait; the bytes of files are there.
            let lingers = self.streams > 0;
            let due = self.gather.due().filter(|_| lingers).unwrap_or(u64::MAX).min(deadline);
            let found = self.alive > 0 && self.look(Duration::from_nanos(due.saturating_sub(now)))?;
            now = self.gather.now();
            self.handle(now)?;
            if self.alive == 0 || self.gather.is_full() || now >= deadline {
                return self.gather.take(self.alive == 0);
            }
            if lingers && !found && self.gather.due().is_some_and(|due| now >= due) {
                return self.gather.take(false);
            }
        }
    }

    /// Pauses files; what comes as it likes, pipes and the like, goes on.
    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        self.paused.clone_from(partitions);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
