//! Numbers and strings in text, sixteen bytes at a time: what decoders of text formats spend their time on.
//!
//! These are too small to be called one by one through a choice of backend. A decoder runs its loop as a [`Task`](crate::Task),
//! which hands it the [`Text`] of the backend in use, and all of it is compiled for that instruction set.
//!
//! The vector form follows the digit conversion of Wojciech Muła ("SIMD-ized faster parse of integers", 2014): digits are
//! shuffled to the end of a register and joined by three multiply-adds; a point is left out by the same shuffle.

/// Bytes that are looked at.
pub const WINDOW: usize = 16;

/// An unsigned decimal number at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// The number that all its digits make.
    pub magnitude: u64,
    /// How many of the digits are behind the point.
    pub fraction: usize,
    /// Bytes of it, with the point.
    pub length: usize,
}

/// How a backend reads text.
pub trait Text: Copy {
    /// The number that `text` starts with: digits, and if a point follows, at least one digit behind it. `None` if there is
    /// none, or none that ends within [`WINDOW`] - 1 bytes: what follows it must be in sight.
    fn decimal(self, text: &[u8; WINDOW]) -> Option<Decimal>;

    /// The length of the string that `text` starts with, behind its opening quote; `None` if before a closing quote there is a
    /// backslash or a control character, or no closing quote is in sight.
    fn plain(self, text: &[u8; WINDOW]) -> Option<usize>;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{Decimal, Text, WINDOW};
    use crate::backend::{Backend, Task};

    /// One call on a backend.
    struct Ask<'a>(&'a [u8; WINDOW]);

    impl Task for Ask<'_> {
        type Output = (Option<Decimal>, Option<usize>);

        #[inline(always)]
        fn run<T: Text>(self, text: T) -> Self::Output {
            (text.decimal(self.0), text.plain(self.0))
        }
    }

    fn ask(backend: Backend, text: &str) -> (Option<Decimal>, Option<usize>) {
        let mut window = [b' '; WINDOW];
        window[..text.len()].copy_from_slice(text.as_bytes());
        backend.run(Ask(&window))
    }

    #[test]
    fn numbers_as_they_come() {
        let number = |magnitude, fraction, length| Some(Decimal { magnitude, fraction, length });
        let cases = [
            ("0,", number(0, 0, 1)),
            ("7}", number(7, 0, 1)),
            ("1700000040000,", number(1_700_000_040_000, 0, 13)),
            ("999999999999999,", number(999_999_999_999_999, 0, 15)),
            ("1234567890123456", None),
            ("12.3456}", number(123_456, 4, 7)),
            ("0.00000000001,", number(1, 11, 13)),
            ("1234567890.1234,", number(12_345_678_901_234, 4, 15)),
            ("1234567890.12345", None),
            ("1.5.2,", number(15, 1, 3)),
            ("1e5", number(1, 0, 1)),
            ("007,", number(7, 0, 3)),
            (".5,", None),
            ("5.,", None),
            ("-5,", None),
            ("", None),
            ("/:,", None),
        ];
        for backend in Backend::available() {
            for (text, expected) in cases {
                assert_eq!(ask(backend, text).0, expected, "{backend}: {text}");
            }
        }
    }

    #[test]
    fn strings_as_they_come() {
        let cases = [
            ("\"", Some(0)),
            ("Lisboa\",", Some(6)),
            ("Kraków\",", Some(7)),
            ("123456789012345\"", Some(15)),
            ("1234567890123456", None),
            ("a\\\"b\"", None),
            ("a\tb\"", None),
            ("a\"\\", Some(1)),
            ("\u{7f}\"", Some(1)),
        ];
        for backend in Backend::available() {
            for (text, expected) in cases {
                assert_eq!(ask(backend, text).1, expected, "{backend}: {text:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn every_backend_reads_the_same(
            likely in prop::array::uniform16(prop::sample::select(&b"0123456789.0123456789\",-+e\\}\x1f\x20"[..])),
            any in prop::array::uniform16(any::<u8>()),
            mix in prop::array::uniform16(0..12u8),
        ) {
            let mut window = likely;
            window.iter_mut().zip(any.iter().zip(mix)).filter(|(_, (_, mix))| *mix == 0).for_each(|(byte, (any, _))| *byte = *any);
            let expected = Backend::Scalar.run(Ask(&window));
            for backend in Backend::available() {
                prop_assert_eq!(backend.run(Ask(&window)), expected, "{}: {:?}", backend, window);
            }
        }
    }
}
