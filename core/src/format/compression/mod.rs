//! Packed files: gzip (RFC 1952), zstd (RFC 8878) and LZ4 frames, unpacked piece by piece.
//!
//! A file is a number of members (frames), one after the other, as `cat` of two such files makes it. Every check that the
//! format has (checksums, lengths) is made. What comes out in one step is bounded, however much the input unpacks to, and so is what
//! is kept: for gzip its window of 32 KiB, for LZ4 two blocks of 4 MiB, for zstd a window of 128 MiB, the most that the reference
//! decoder takes without being told otherwise.

mod lz4;

use std::fmt;
use std::path::Path;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as ZstdDecoder, Operation};

use self::lz4::Lz4;
use crate::config::UNPACKED_BYTES;
use crate::error::{Error, Result};

/// The window of gzip, as a power of two: the most that the format has.
const WINDOW_BITS: u8 = 15;

/// How a file is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As `gzip` does, suffix `.gz`.
    Gzip,
    /// As `zstd` does, suffix `.zst`. No dictionary, and a window of at most 128 MiB (`zstd --long=27`).
    Zstd,
    /// As `lz4` does, suffix `.lz4`. No dictionary, and not the legacy frames of `lz4 -l`.
    Lz4,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
        })
    }
}

impl Compression {
    /// What a user's `name` means: `none`, `gzip`, `zstd` or `lz4`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<Compression> {
        match name.to_ascii_lowercase().as_str() {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            "lz4" => Ok(Compression::Lz4),
            _ => Err(Error::config(format!("`{name}` is not a compression; it may be none, gzip, zstd or lz4"))),
        }
    }

    /// What the suffix of a path says: `.gz`, `.zst`, `.lz4`, or none.
    pub fn of_path(path: &Path) -> Compression {
        let suffix = path.extension().map(|suffix| suffix.to_ascii_lowercase());
        match suffix.as_ref().and_then(|suffix| suffix.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            Some("lz4") => Compression::Lz4,
            _ => Compression::None,
        }
    }
}

/// Unpacks one file.
pub struct Unpacker {
    compression: Compression,
    codec: Codec,
    out: Vec<u8>,
    /// Packed bytes taken in, and bytes that came out of them.
    taken: u64,
    unpacked: u64,
}

enum Codec {
    Gzip(Gzip),
    Zstd { decoder: ZstdDecoder<'static>, within: bool },
    Lz4(Box<Lz4>),
}

struct Gzip {
    inflate: Decompress,
    /// Whether a member has begun and not ended.
    within: bool,
    /// Whether one has ended.
    ended: bool,
}

/// What one step of a codec did.
struct Step {
    /// Bytes taken in.
    used: usize,
    /// Bytes put out.
    made: usize,
    /// Nothing more can be done without more input.
    stalled: bool,
}

impl Unpacker {
    /// An unpacker at the beginning of a file; `None` where there is nothing to unpack.
    ///
    /// # Errors
    /// If zstd has no memory.
    pub fn new(compression: Compression) -> Result<Option<Unpacker>> {
        let codec = match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => Codec::Gzip(Gzip { inflate: Decompress::new_gzip(WINDOW_BITS), within: false, ended: false }),
            Compression::Zstd => {
                let decoder = ZstdDecoder::new().map_err(|error| Error::io("cannot make a decoder of zstd", error))?;
                Codec::Zstd { decoder, within: false }
            }
            Compression::Lz4 => Codec::Lz4(Box::default()),
        };
        Ok(Some(Unpacker { compression, codec, out: vec![0; UNPACKED_BYTES], taken: 0, unpacked: 0 }))
    }

    /// How many bytes have come out.
    pub fn unpacked(&self) -> u64 {
        self.unpacked
    }

    /// Takes in the beginning of `packed`; returns how much of it, and what has come out: at most [`UNPACKED_BYTES`]. If nothing has,
    /// all of `packed` is taken in and more is needed; otherwise there may be more in what was taken in, too.
    ///
    /// # Errors
    /// [`Kind::Decode`](crate::error::Kind::Decode), naming the place, if this is no such file or it is damaged; it cannot go on then.
    pub fn step(&mut self, packed: &[u8]) -> Result<(usize, &[u8])> {
        let mut used = 0;
        loop {
            let input = &packed[used..];
            let step = match &mut self.codec {
                Codec::Gzip(gzip) => gzip.step(input, &mut self.out),
                Codec::Zstd { decoder, within } => unzstd(decoder, within, input, &mut self.out),
                Codec::Lz4(lz4) => lz4.step(input, &mut self.out),
            };
            let step = match step {
                Ok(Step { stalled: true, .. }) if !input.is_empty() => Err("it does not go on".to_owned()),
                other => other,
            };
            let step = step.map_err(|why| {
                let held = if let Codec::Lz4(lz4) = &self.codec { lz4.held() } else { 0 };
                let (name, at) = (self.compression, self.taken - held as u64);
                Error::decode(format!("the {name} data is damaged, or is none, at byte {at} of the file: {why}"))
            })?;
            used += step.used;
            self.taken += step.used as u64;
            self.unpacked += step.made as u64;
            if step.made > 0 || step.stalled {
                return Ok((used, &self.out[..step.made]));
            }
        }
    }

    /// Checks that the file may end here.
    ///
    /// # Errors
    /// [`Kind::Decode`](crate::error::Kind::Decode) if it is in the middle of a member.
    pub fn finish(&self) -> Result<()> {
        let within = match &self.codec {
            Codec::Gzip(Gzip { within, .. }) | Codec::Zstd { within, .. } => *within,
            Codec::Lz4(lz4) => lz4.is_within(),
        };
        let (name, at) = (self.compression, self.taken);
        match within {
            false => Ok(()),
            true => {
                Err(Error::decode(format!("the {name} data is cut off at byte {at} of the file: it is damaged, or still being written")))
            }
        }
    }
}

impl Gzip {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, String> {
        if !self.within {
            // Zeros behind a member are padding, as on tapes.
            let padding = if self.ended { input.iter().take_while(|&&byte| byte == 0).count() } else { 0 };
            if padding > 0 || input.is_empty() {
                return Ok(Step { used: padding, made: 0, stalled: input.is_empty() });
            }
            if self.ended {
                self.inflate.reset(true);
            }
            self.within = true;
        }
        let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, out, FlushDecompress::None).map_err(|error| error.to_string())?;
        let (used, made) = ((self.inflate.total_in() - taken) as usize, (self.inflate.total_out() - made) as usize);
        if status == Status::StreamEnd {
            (self.within, self.ended) = (false, true);
        }
        Ok(Step { used, made, stalled: used == 0 && made == 0 && status != Status::StreamEnd })
    }
}

/// One step of zstd.
fn unzstd(decoder: &mut ZstdDecoder<'static>, within: &mut bool, input: &[u8], out: &mut [u8]) -> Result<Step, String> {
    if !*within && input.is_empty() {
        return Ok(Step { used: 0, made: 0, stalled: true });
    }
    let status = decoder.run_on_buffers(input, out).map_err(|error| error.to_string())?;
    *within = status.remaining > 0;
    let (used, made) = (status.bytes_read, status.bytes_written);
    Ok(Step { used, made, stalled: used == 0 && made == 0 && *within })
}

#[cfg(test)]
mod tests;
