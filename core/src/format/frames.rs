//! Framing of messages that stand behind their lengths: pieces of any size in, whole messages out.

use std::collections::HashMap;
use std::ops::Range;

use arrow::datatypes::SchemaRef;

use super::messages::Messages;
use super::runs::Runs;
use super::{Decoded, Decoder};
use crate::batch::PartitionId;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::quality::Rejected;

/// A [`Decoder`] of messages, each behind its length: a number of seven bits a byte, the least first.
///
/// A message of more than `max_line_bytes` is quarantined once, cut, and passed over without being kept. Memory per partition is at most that
/// of one message and one piece. Offsets are those of lengths.
pub(super) struct FrameDecoder<M> {
    run: Run<M>,
    max_bytes: usize,
    partitions: HashMap<PartitionId, Straddle>,
}

/// What all partitions share.
struct Run<M> {
    messages: M,
    runs: Runs,
    rejected: Vec<Rejected>,
    bad: Vec<(usize, String)>,
}

/// What a partition is in the middle of.
#[derive(Default)]
struct Straddle {
    /// The partition's offset of the first byte that has not been used.
    position: u64,
    /// The beginning of the next message, with its length.
    carry: Vec<u8>,
    /// How many bytes of a message that is too long are still to come.
    skip: u64,
}

impl<M: Messages> FrameDecoder<M> {
    pub(super) fn new(messages: M, config: &Config) -> FrameDecoder<M> {
        let run = Run { messages, runs: Runs::default(), rejected: Vec::new(), bad: Vec::new() };
        FrameDecoder { run, max_bytes: config.max_line_bytes, partitions: HashMap::new() }
    }
}

impl<M: Messages> Run<M> {
    /// Decodes the whole messages that `bytes`, at the partition's offset `start`, begins with; returns the bytes used, and how many more
    /// are to be passed over.
    fn frames(&mut self, partition: PartitionId, start: u64, bytes: &[u8], max_bytes: usize) -> Result<(usize, u64)> {
        let (mut used, mut frames) = (0, Vec::new());
        while let Some((length, head)) = length(&bytes[used..]).map_err(|error| error.context(format!("byte {}", start + used as u64)))? {
            let body = used + head;
            let there = length.min((bytes.len() - body) as u64);
            let end = body + there as usize;
            if length > max_bytes as u64 {
                self.decode(partition, start, bytes, &mut frames)?;
                let why = format!("the message is of {length} bytes; at most {max_bytes} are taken (`max_line_bytes`)");
                self.rejected.push(Rejected::new(partition, start + used as u64, &bytes[body..end], why));
            } else if there < length {
                break;
            } else {
                frames.push((used, body..end));
            }
            used = end;
            if there < length {
                return Ok((used, length - there));
            }
        }
        self.decode(partition, start, bytes, &mut frames)?;
        Ok((used, 0))
    }

    /// Decodes messages, each with the place of its length.
    fn decode(&mut self, partition: PartitionId, start: u64, bytes: &[u8], frames: &mut Vec<(usize, Range<usize>)>) -> Result<()> {
        let messages: Vec<Range<usize>> = frames.iter().map(|(_, body)| body.clone()).collect();
        self.messages.decode(bytes, &messages, &mut self.bad)?;
        let mut bad = self.bad.drain(..).peekable();
        for (place, (at, body)) in frames.drain(..).enumerate() {
            let offset = start + at as u64;
            match bad.next_if(|(bad, _)| *bad == place) {
                Some((_, why)) => self.rejected.push(Rejected::new(partition, offset, &bytes[body], why)),
                None => self.runs.add(partition, 1, offset, || [offset]),
            }
        }
        Ok(())
    }
}

impl<M: Messages> Decoder for FrameDecoder<M> {
    fn schema(&self) -> SchemaRef {
        self.run.messages.schema()
    }

    fn keep_offsets(&mut self) {
        self.run.runs.keep_offsets();
    }

    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()> {
        let straddle = self.partitions.entry(partition).or_default();
        let skipped = straddle.skip.min(bytes.len() as u64);
        straddle.skip -= skipped;
        straddle.position += skipped;
        let bytes = &bytes[skipped as usize..];
        let used = if straddle.carry.is_empty() {
            let (used, skip) = self.run.frames(partition, straddle.position, bytes, self.max_bytes)?;
            straddle.carry.extend_from_slice(&bytes[used..]);
            straddle.skip += skip;
            used
        } else {
            straddle.carry.extend_from_slice(bytes);
            let (used, skip) = self.run.frames(partition, straddle.position, &straddle.carry, self.max_bytes)?;
            straddle.carry.drain(..used);
            straddle.skip += skip;
            used
        };
        straddle.position += used as u64;
        Ok(())
    }

    fn end(&mut self, partition: PartitionId) {
        if let Some(straddle) = self.partitions.remove(&partition).filter(|straddle| !straddle.carry.is_empty()) {
            let why = "the input ends in the middle of a message";
            self.run.rejected.push(Rejected::new(partition, straddle.position, &straddle.carry, why));
        }
    }

    fn rows(&self) -> usize {
        self.run.messages.rows()
    }

    fn take(&mut self) -> Result<Option<Decoded>> {
        let (segments, origins) = self.run.runs.take();
        Ok(self.run.messages.take()?.map(|records| Decoded { records, segments, origins }))
    }

    fn take_rejected(&mut self, into: &mut Vec<Rejected>) {
        into.append(&mut self.run.rejected);
    }
}

/// Bytes of the longest length, of 32 bits.
const MAX_HEAD: usize = 5;

/// The length that `bytes` begins with, and how long that is; `None` if it is not whole.
fn length(bytes: &[u8]) -> Result<Option<(u64, usize)>> {
    let mut length = 0_u64;
    for (place, byte) in bytes.iter().take(MAX_HEAD).enumerate() {
        length |= u64::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    match bytes.len() < MAX_HEAD {
        true => Ok(None),
        false => Err(Error::decode("no message stands there behind its length: the length has more than five bytes")),
    }
}
