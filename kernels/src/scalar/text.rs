//! Twin of [`crate::text`].

use crate::text::{Decimal, Text, WINDOW};

/// Text one byte after the other.
#[derive(Clone, Copy, Debug)]
pub struct Bytewise;

impl Text for Bytewise {
    #[inline(always)]
    fn decimal(self, text: &[u8; WINDOW]) -> Option<Decimal> {
        let (mut magnitude, mut point) = (0_u64, None);
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'0'..=b'9' => magnitude = magnitude * 10 + u64::from(byte - b'0'),
                b'.' if point.is_none() && at > 0 => point = Some(at),
                _ => {
                    let fraction = point.map_or(0, |point| at - point - 1);
                    return (at > 0 && (point.is_none() || fraction > 0)).then_some(Decimal { magnitude, fraction, length: at });
                }
            }
        }
        None
    }

    #[inline(always)]
    fn plain(self, text: &[u8; WINDOW]) -> Option<usize> {
        let length = text.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
        (text[length] == b'"').then_some(length)
    }
}
