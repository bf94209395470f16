//! Packed files on their way to the decoder.

use std::ops::Range;

use super::{FileSource, Kind};
use crate::batch::PartitionId;
use crate::error::{Error, Result};
use crate::format::compression::{Compression, Unpacker};
use crate::io::{Buffer, Token};
use crate::quality::Rejected;

/// How often a packed input is unpacked before the caller looks at the time again: 4 MiB.
const STEPS: usize = 16;

/// How an input is packed, and how far it is unpacked.
pub(super) enum Packed {
    Not,
    /// Nothing has been read yet: what unpacks it is made when it is needed.
    Closed(Compression),
    Open(Box<Unpacker>),
    /// It has ended, or could not be unpacked any further, and the rest is not looked at.
    Done,
}

/// A buffer of a packed input, not all of which has been unpacked.
pub(super) struct Unpacking {
    pub(super) input: usize,
    pub(super) buffer: Buffer,
    pub(super) rest: Range<usize>,
    /// Whether the input ends with it.
    pub(super) ends: bool,
}

impl Packed {
    pub(super) fn new(compression: Compression) -> Packed {
        match compression {
            Compression::None => Packed::Not,
            packed => Packed::Closed(packed),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Packed::Done)
    }

    /// Makes ready for bytes; whether they have to be unpacked.
    pub(super) fn open(&mut self) -> Result<bool> {
        if let Packed::Closed(compression) = *self
            && let Some(unpacker) = Unpacker::new(compression)?
        {
            *self = Packed::Open(Box::new(unpacker));
        }
        Ok(matches!(self, Packed::Open(_)))
    }
}

impl FileSource {
    /// Whether there is room for more rows and no input is half unpacked.
    pub(super) fn has_room(&self) -> bool {
        self.unpacking.is_none() && !self.gather.is_full()
    }

    /// Unpacks and decodes what there is of a packed input, until a batch is full or for [`STEPS`].
    pub(super) fn unpack(&mut self, now: u64) -> Result<()> {
        for _ in 0..STEPS {
            if self.gather.is_full() {
                break;
            }
            let Some(Unpacking { input: at, buffer, mut rest, ends }) = self.unpacking.take() else { break };
            let input = &mut self.inputs[at];
            let Packed::Open(unpacker) = &mut input.packed else { break };
            let packed = &self.io.bytes(&buffer)[rest.clone()];
            let (used, unpacked) = match unpacker.step(packed) {
                Ok(step) => step,
                Err(error) => {
                    let rejected = Rejected::new(PartitionId(at as u32), unpacker.unpacked(), packed, String::new());
                    self.io.release(buffer);
                    return self.damaged(at, error, rejected, now);
                }
            };
            rest.start += used;
            let is_done = unpacked.is_empty();
            let decoded = self.gather.decode_unpacked(PartitionId(at as u32), unpacked, used, now);
            if is_done || decoded.is_err() {
                self.io.release(buffer);
                decoded.map_err(|error| error.context(format!("cannot decode {}", input.path.display())))?;
                if ends {
                    self.end(at, now);
                }
            } else {
                self.unpacking = Some(Unpacking { input: at, buffer, rest, ends });
            }
        }
        Ok(())
    }

    /// An input cannot be unpacked any further: it ends here.
    fn damaged(&mut self, at: usize, error: Error, mut rejected: Rejected, now: u64) -> Result<()> {
        let path = self.inputs[at].path.display().to_string();
        tracing::warn!(path, %error, "a packed file cannot be read to its end");
        rejected.error = format!("{path}: {error}");
        self.gather.cut(rejected.partition, &rejected.error);
        self.gather.reject(rejected, now);
        self.inputs[at].packed = Packed::Done;
        match self.inputs[at].kind {
            Kind::File { .. } => self.stop(at),
            Kind::Stream(_) => self.io.cancel(Token(at as u64))?,
        }
        self.end(at, now);
        Ok(())
    }

    /// Quarantines what is missing if an input that has no more bytes should have had more.
    pub(super) fn check_end(&mut self, at: usize, now: u64) {
        let input = &mut self.inputs[at];
        if let Packed::Open(unpacker) = &input.packed
            && let Err(error) = unpacker.finish()
        {
            let error = format!("{}: {error}", input.path.display());
            let rejected = Rejected::new(PartitionId(at as u32), unpacker.unpacked(), &[], error);
            tracing::warn!(error = rejected.error, "a packed file is cut off");
            self.gather.cut(rejected.partition, &rejected.error);
            self.gather.reject(rejected, now);
        }
        if matches!(input.packed, Packed::Open(_)) {
            input.packed = Packed::Done;
        }
    }
}
