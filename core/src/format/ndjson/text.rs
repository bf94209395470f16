//! Strings, names and values of no interest in one line of JSON.
//!
//! Everything here accepts a subset of what arrow-json accepts and gives the same result; `None` means that the line
//! is for arrow-json to judge. Positions are into the text; none of these functions reads past the line's `\n`.

use memchr::memchr3;

use super::number::extent;

/// Deepest nesting of a value that is skipped.
const MAX_DEPTH: usize = 64;

/// The string at `at`, behind its quote, up to the next quote, and the position after that; `None` if it has escapes.
pub(super) fn plain(text: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = text.get(at..)?;
    let length = memchr3(b'"', b'\\', b'\n', rest)?;
    (rest[length] == b'"').then(|| (&rest[..length], at + length + 1))
}

/// The string at `at`, behind its quote, without its escapes, and the position after its closing quote.
/// `scratch` holds the string if it has escapes.
pub(super) fn string<'a>(text: &'a [u8], at: usize, scratch: &'a mut Vec<u8>) -> Option<(&'a [u8], usize)> {
    if let Some(found) = plain(text, at) {
        return Some(found);
    }
    scratch.clear();
    let mut at = at;
    loop {
        let rest = text.get(at..)?;
        let length = memchr3(b'"', b'\\', b'\n', rest)?;
        scratch.extend_from_slice(&rest[..length]);
        at += length + 1;
        match rest[length] {
            b'"' => return Some((scratch, at)),
            b'\\' => at = escape(text, at, scratch)?,
            _ => return None,
        }
    }
}

/// Adds the character whose escape goes on at `at`, behind its backslash; returns the position after it.
fn escape(text: &[u8], at: usize, into: &mut Vec<u8>) -> Option<usize> {
    let byte = match text.get(at)? {
        byte @ (b'"' | b'\\' | b'/') => *byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(text, at + 1, into),
        _ => return None,
    };
    into.push(byte);
    Some(at + 1)
}

/// Adds the character whose four hexadecimal digits start at `at`, with a second escape if they are half a surrogate pair.
fn unicode(text: &[u8], at: usize, into: &mut Vec<u8>) -> Option<usize> {
    let first = hex(text, at)?;
    let (character, end) = match char::from_u32(first) {
        Some(character) => (character, at + 4),
        None => {
            let second = text.get(at + 4..at + 6).filter(|next| *next == b"\\u").and_then(|_| hex(text, at + 6))?;
            let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
            (char::decode_utf16(pair).next()?.ok()?, at + 10)
        }
    };
    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(end)
}

/// The four hexadecimal digits at `at`.
fn hex(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// The position of the first byte from `at` on that is not white space within a line.
#[inline]
pub(super) fn space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// The position after `word` if that is at `at`.
#[inline]
pub(super) fn word(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// The position after the value at `at`, whatever it is.
pub(super) fn skip(text: &[u8], at: usize, scratch: &mut Vec<u8>) -> Option<usize> {
    skip_nested(text, at, scratch, 0)
}

fn skip_nested(text: &[u8], at: usize, scratch: &mut Vec<u8>, depth: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => Some(string(text, at + 1, scratch)?.1),
        b'n' => word(text, at, b"null"),
        b't' => word(text, at, b"true"),
        b'f' => word(text, at, b"false"),
        b'{' if depth < MAX_DEPTH => skip_all(text, at + 1, b'}', scratch, depth + 1),
        b'[' if depth < MAX_DEPTH => skip_all(text, at + 1, b']', scratch, depth + 1),
        _ => Some(at + extent(text, at)?.len()),
    }
}

/// Skips what is between the brackets of an object or list, and `close`.
fn skip_all(text: &[u8], at: usize, close: u8, scratch: &mut Vec<u8>, depth: usize) -> Option<usize> {
    let mut at = space(text, at);
    if *text.get(at)? == close {
        return Some(at + 1);
    }
    loop {
        if close == b'}' {
            at = string(text, word(text, at, b"\"")?, scratch)?.1;
            at = space(text, word(text, space(text, at), b":")?);
        }
        at = space(text, skip_nested(text, at, scratch, depth)?);
        match text.get(at)? {
            b',' => at = space(text, at + 1),
            byte if *byte == close => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The names of the fields of a record, in its order, up to where it is not plain JSON.
pub(in crate::format) fn names(line: &[u8]) -> Vec<String> {
    let (mut names, mut scratch, mut unused) = (Vec::new(), Vec::new(), Vec::new());
    let mut next = || -> Option<()> {
        let mut at = space(line, word(line, space(line, 0), b"{")?);
        loop {
            let (name, end) = string(line, word(line, at, b"\"")?, &mut scratch)?;
            names.push(String::from_utf8(name.to_vec()).ok()?);
            let start = space(line, word(line, space(line, end), b":")?);
            at = space(line, word(line, space(line, skip(line, start, &mut unused)?), b",")?);
        }
    };
    next();
    names
}
