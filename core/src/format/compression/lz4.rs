//! LZ4 frames, pushed in. `lz4_flex` pulls from a reader and takes the end of one for the end of a frame, so frames are cut into
//! their parts (header, blocks, end mark) here, and it is given whole parts only.

use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;

use super::Step;

/// What a frame begins with, little-endian.
const MAGIC: u32 = 0x184D_2204;

/// What a frame begins with that is to be passed over; its last four bits are free.
const SKIPPABLE: u32 = 0x184D_2A50;

/// The longest block that the format has.
const MAX_BLOCK: usize = 4 << 20;

/// Takes frames in and gives what their blocks hold.
pub(super) struct Lz4 {
    decoder: FrameDecoder<Part>,
    /// Whether the decoder has been given a part of which more may come out.
    draining: bool,
    /// The beginning of the next part.
    carry: Vec<u8>,
    state: State,
}

/// A whole part, and how much of it has been read.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    read: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// So many bytes are left of a frame that is passed over.
    Skipping(usize),
    /// In a frame, whose blocks and content may have checksums.
    Within {
        block_checksums: bool,
        content_checksum: bool,
    },
}

impl Default for Lz4 {
    fn default() -> Lz4 {
        Lz4 { decoder: FrameDecoder::new(Part::default()), draining: false, carry: Vec::new(), state: State::Between }
    }
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.bytes[self.read..]).read(into)?;
        self.read += read;
        Ok(read)
    }
}

impl Lz4 {
    /// Bytes of a part that has begun.
    pub(super) fn held(&self) -> usize {
        self.carry.len()
    }

    /// Whether the input would be cut off here.
    pub(super) fn is_within(&self) -> bool {
        self.state != State::Between || !self.carry.is_empty()
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, String> {
        if self.draining {
            let made = self.decoder.read(out).map_err(|error| error.to_string())?;
            self.draining = made > 0;
            return Ok(Step { used: 0, made, stalled: false });
        }
        if let State::Skipping(left) = self.state {
            let used = left.min(input.len());
            self.state = if used == left { State::Between } else { State::Skipping(left - used) };
            return Ok(Step { used, made: 0, stalled: used == 0 });
        }
        let (length, is_whole) = self.length()?;
        let used = (length - self.carry.len()).min(input.len());
        self.carry.extend_from_slice(&input[..used]);
        if is_whole && self.carry.len() == length {
            self.part();
        }
        Ok(Step { used, made: 0, stalled: used == 0 && !self.draining })
    }

    /// How many bytes the part has that `carry` begins, or, if that is not known yet, how many it takes to know.
    fn length(&self) -> Result<(usize, bool), String> {
        let Some(number) = self.number(0) else { return Ok((4, false)) };
        let checksum = |there: bool| if there { 4 } else { 0 };
        match self.state {
            State::Within { content_checksum, .. } if number == 0 => Ok((4 + checksum(content_checksum), true)),
            State::Within { block_checksums, .. } => match (number & 0x7FFF_FFFF) as usize {
                length @ ..=MAX_BLOCK => Ok((4 + length + checksum(block_checksums), true)),
                length => Err(format!("a block claims {length} bytes; there may be {MAX_BLOCK}")),
            },
            _ if number & !0xF == SKIPPABLE => Ok((8, true)),
            _ if number == MAGIC => match self.carry.get(4) {
                Some(flags) => Ok((7 + if flags & 0x08 == 0 { 0 } else { 8 } + checksum(flags & 0x01 != 0), true)),
                None => Ok((5, false)),
            },
            _ => Err("an LZ4 frame does not begin so".to_owned()),
        }
    }

    /// Four bytes of `carry`.
    fn number(&self, at: usize) -> Option<u32> {
        self.carry.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// `carry` is a whole part.
    fn part(&mut self) {
        let (first, second) = (self.number(0).unwrap_or(0), self.number(4).unwrap_or(0));
        self.state = match self.state {
            State::Within { .. } if first == 0 => State::Between,
            State::Within { .. } => self.state,
            _ if first == MAGIC => {
                // One decoder for each frame: it makes room for blocks of one size.
                self.decoder = FrameDecoder::new(Part::default());
                let flags = self.carry[4];
                State::Within { block_checksums: flags & 0x10 != 0, content_checksum: flags & 0x04 != 0 }
            }
            _ => {
                self.carry.clear();
                self.state = if second == 0 { State::Between } else { State::Skipping(second as usize) };
                return;
            }
        };
        let part = self.decoder.get_mut();
        std::mem::swap(&mut part.bytes, &mut self.carry);
        part.read = 0;
        self.carry.clear();
        self.draining = true;
    }
}
