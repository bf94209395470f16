//! Files of text, packed or not.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;
use zstd::stream::write::Encoder;

use super::parts::Output;
use crate::format::compression::Compression;

/// A file of text that is being written.
pub(super) enum Text {
    Plain(Output),
    Gzip(GzEncoder<Output>),
    Zstd(Encoder<'static, Output>),
    Lz4(Box<FrameEncoder<Output>>),
}

impl Text {
    pub fn new(output: Output, compression: Compression) -> io::Result<Text> {
        Ok(match compression {
            Compression::None => Text::Plain(output),
            Compression::Gzip => Text::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            Compression::Zstd => Text::Zstd(Encoder::new(output, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            Compression::Lz4 => Text::Lz4(Box::new(FrameEncoder::new(output))),
        })
    }

    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Text::Plain(output) => output.write_all(text),
            Text::Gzip(encoder) => encoder.write_all(text),
            Text::Zstd(encoder) => encoder.write_all(text),
            Text::Lz4(encoder) => encoder.write_all(text),
        }
    }

    pub fn output(&self) -> &Output {
        match self {
            Text::Plain(output) => output,
            Text::Gzip(encoder) => encoder.get_ref(),
            Text::Zstd(encoder) => encoder.get_ref(),
            Text::Lz4(encoder) => encoder.get_ref(),
        }
    }

    pub fn finish(self) -> io::Result<Output> {
        match self {
            Text::Plain(output) => Ok(output),
            Text::Gzip(encoder) => encoder.finish(),
            Text::Zstd(encoder) => encoder.finish(),
            Text::Lz4(encoder) => Ok(encoder.finish()?),
        }
    }
}
