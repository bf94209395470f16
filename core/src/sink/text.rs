//! Files of text, compressed or not.

use std::io::{self, Write};
use std::str::FromStr;

use flate2::write::GzEncoder;
use zstd::stream::write::Encoder;

use super::parts::Output;
use crate::error::{Error, Result};

/// What files are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// gzip: for text, whose files' names end in `.gz` then.
    Gzip,
    /// Zstandard: in text the whole file, whose name ends in `.zst`; in Arrow's format each buffer.
    Zstd,
}

impl Compression {
    /// One of these ends of a file's name.
    pub(super) fn extension(self, plain: &'static str, gzip: &'static str, zstd: &'static str) -> &'static str {
        match self {
            Compression::None => plain,
            Compression::Gzip => gzip,
            Compression::Zstd => zstd,
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Compression> {
        match name {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            other => Err(Error::config(format!("`compression` is `{other}`; it may be none, gzip or zstd"))),
        }
    }
}

/// A file of text that is being written.
pub(super) enum Text {
    Plain(Output),
    Gzip(GzEncoder<Output>),
    Zstd(Encoder<'static, Output>),
}

impl Text {
    pub fn new(output: Output, compression: Compression) -> io::Result<Text> {
        Ok(match compression {
            Compression::None => Text::Plain(output),
            Compression::Gzip => Text::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            Compression::Zstd => Text::Zstd(Encoder::new(output, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }

    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Text::Plain(output) => output.write_all(text),
            Text::Gzip(encoder) => encoder.write_all(text),
            Text::Zstd(encoder) => encoder.write_all(text),
        }
    }

    pub fn output(&self) -> &Output {
        match self {
            Text::Plain(output) => output,
            Text::Gzip(encoder) => encoder.get_ref(),
            Text::Zstd(encoder) => encoder.get_ref(),
        }
    }

    pub fn finish(self) -> io::Result<Output> {
        match self {
            Text::Plain(output) => Ok(output),
            Text::Gzip(encoder) => encoder.finish(),
            Text::Zstd(encoder) => encoder.finish(),
        }
    }
}
