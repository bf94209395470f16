//! Rows onto the wire: all messages in one buffer, each field behind its tag, what has a length behind that.

use std::ops::Range;

use super::columns::{Data, Values, kind_name};
use super::plan::{How, Plan, Planned, Type};

/// The seconds since the Unix epoch that `google.protobuf.Timestamp` has: those of the years 1 to 9999.
const SECONDS: Range<i64> = -62_135_596_800..253_402_300_800;

/// A scalar as it is on the wire.
#[derive(Debug, Clone, Copy)]
enum Scalar<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl Scalar<'_> {
    fn is_default(self) -> bool {
        match self {
            Scalar::Varint(bits) | Scalar::Fixed64(bits) => bits == 0,
            Scalar::Fixed32(bits) => bits == 0,
            Scalar::Bytes(bytes) => bytes.is_empty(),
        }
    }

    /// Behind its tag.
    fn put(self, number: u32, out: &mut Vec<u8>) {
        let wire_type = match self {
            Scalar::Varint(_) => 0,
            Scalar::Fixed64(_) => 1,
            Scalar::Bytes(_) => 2,
            Scalar::Fixed32(_) => 5,
        };
        put_tag(out, number, wire_type);
        self.put_alone(out);
    }

    fn put_alone(self, out: &mut Vec<u8>) {
        match self {
            Scalar::Varint(bits) => put_varint(out, bits),
            Scalar::Fixed64(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Scalar::Fixed32(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Scalar::Bytes(bytes) => {
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
}

impl Plan {
    /// Writes a row.
    ///
    /// # Errors
    /// In words, naming a column with a value that its field cannot hold.
    pub(super) fn write(&self, columns: &[Values], row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        for members in &self.choices {
            let mut there = members.iter().filter(|place| !columns[**place].is_null(row));
            if let (Some(one), Some(other)) = (there.next(), there.next()) {
                let (one, other) = (&self.fields[*one].path, &self.fields[*other].path);
                return Err(format!("columns `{one}` and `{other}` both have a value, and are members of one `oneof`; let one be null"));
            }
        }
        self.fields.iter().zip(columns).try_for_each(|(field, values)| field.write(values, row, out))
    }
}

impl Planned {
    fn write(&self, values: &Values, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if values.is_null(row) {
            return if self.how == How::Required { Err(self.null()) } else { Ok(()) };
        }
        match (self.how, &values.data) {
            (How::Packed, Data::List(offsets, items)) => match offsets[row] as usize..offsets[row + 1] as usize {
                range if range.is_empty() => Ok(()),
                mut range => {
                    put_tag(out, self.number, 2);
                    put_prefixed(out, |out| range.try_for_each(|at| self.item(items, at).map(|scalar| scalar.put_alone(out))))
                }
            },
            (How::Each, Data::List(offsets, items)) => {
                (offsets[row] as usize..offsets[row + 1] as usize).try_for_each(|at| match items.is_null(at) {
                    true => Err(self.null()),
                    false => self.one(items, at, out),
                })
            }
            _ => self.one(values, row, out),
        }
    }

    /// Writes a value that is there, behind its tag.
    fn one(&self, values: &Values, at: usize, out: &mut Vec<u8>) -> Result<(), String> {
        match (&self.of, &values.data) {
            (Type::Message(plan), Data::Struct(columns)) => {
                put_tag(out, self.number, 2);
                put_prefixed(out, |out| plan.write(columns, at, out))
            }
            (Type::Timestamp, Data::Times(times, per_second)) => {
                let (seconds, rest) = (times[at].div_euclid(*per_second), times[at].rem_euclid(*per_second));
                if !SECONDS.contains(&seconds) {
                    return Err(self.fault("has a time beyond the years 1 to 9999, which `google.protobuf.Timestamp` has"));
                }
                put_tag(out, self.number, 2);
                put_prefixed(out, |out| {
                    let parts = [(1, seconds as u64), (2, (rest * (1_000_000_000 / per_second)) as u64)];
                    parts.into_iter().filter(|(_, part)| *part != 0).for_each(|(number, part)| Scalar::Varint(part).put(number, out));
                    Ok(())
                })
            }
            (Type::Wrapper(kind), data) => {
                let scalar = self.scalar(*kind, data, at)?;
                put_tag(out, self.number, 2);
                put_prefixed(out, |out| {
                    if !scalar.is_default() {
                        scalar.put(1, out);
                    }
                    Ok(())
                })
            }
            _ => {
                let scalar = self.item(values, at)?;
                if self.how != How::Implicit || !scalar.is_default() {
                    scalar.put(self.number, out);
                }
                Ok(())
            }
        }
    }

    /// A scalar or an enum's value, which may not be null.
    fn item<'a>(&self, values: &'a Values, at: usize) -> Result<Scalar<'a>, String> {
        match &self.of {
            _ if values.is_null(at) => Err(self.null()),
            Type::Scalar(kind) => self.scalar(*kind, &values.data, at),
            Type::Enum(_) => self.scalar(14, &values.data, at),
            _ => Err(self.defect()),
        }
    }

    fn scalar<'a>(&self, kind: u64, data: &'a Data, at: usize) -> Result<Scalar<'a>, String> {
        Ok(match (kind, data) {
            (1, Data::Float(values)) => Scalar::Fixed64(values[at].to_bits()),
            (2, Data::Float(values)) => {
                let (wide, narrow) = (values[at], values[at] as f32);
                if wide.is_finite() && !narrow.is_finite() {
                    return Err(self.unfit(wide, kind));
                }
                Scalar::Fixed32(narrow.to_bits())
            }
            (8, Data::Bool(values)) => Scalar::Varint(values.value(at).into()),
            (9 | 12, Data::Text(values)) | (12, Data::Bytes(values)) => Scalar::Bytes(values.value(at)),
            (9, Data::Bytes(values)) => match std::str::from_utf8(values.value(at)) {
                Ok(text) => Scalar::Bytes(text.as_bytes()),
                Err(_) => return Err(self.fault("has bytes that are not UTF-8, and the field is a string")),
            },
            (14, Data::Names(names)) => match names.number(at) {
                Ok(number) => Scalar::Varint(i64::from(number) as u64),
                Err(text) => return Err(self.unnamed(text)),
            },
            (_, Data::Int(values)) => self.integer(kind, values[at])?,
            (_, Data::UInt(values)) => match (kind, i64::try_from(values[at])) {
                (4, _) => Scalar::Varint(values[at]),
                (6, _) => Scalar::Fixed64(values[at]),
                (_, Ok(value)) => self.integer(kind, value)?,
                (_, Err(_)) => return Err(self.unfit(values[at], kind)),
            },
            _ => return Err(self.defect()),
        })
    }

    fn integer(&self, kind: u64, value: i64) -> Result<Scalar<'static>, String> {
        let narrow = || i32::try_from(value).map_err(|_| self.unfit(value, kind));
        Ok(match kind {
            3 => Scalar::Varint(value as u64),
            4 => Scalar::Varint(u64::try_from(value).map_err(|_| self.unfit(value, kind))?),
            // Below zero they are as long as those of 64 bits.
            5 | 14 => Scalar::Varint(i64::from(narrow()?) as u64),
            6 => Scalar::Fixed64(u64::try_from(value).map_err(|_| self.unfit(value, kind))?),
            7 => Scalar::Fixed32(u32::try_from(value).map_err(|_| self.unfit(value, kind))?),
            13 => Scalar::Varint(u32::try_from(value).map_err(|_| self.unfit(value, kind))?.into()),
            15 => Scalar::Fixed32(narrow()? as u32),
            16 => Scalar::Fixed64(value as u64),
            17 => Scalar::Varint(zigzag(narrow()?.into())),
            18 => Scalar::Varint(zigzag(value)),
            _ => return Err(self.defect()),
        })
    }

    fn fault(&self, what: &str) -> String {
        format!("column `{}` {what}", self.path)
    }

    fn null(&self) -> String {
        self.fault("is null, which the field may not be; fill it, or leave such rows out")
    }

    fn unfit(&self, value: impl std::fmt::Display, kind: u64) -> String {
        self.fault(&format!("has {value}, which does not fit into {}", kind_name(kind).unwrap_or("the field")))
    }

    fn unnamed(&self, text: &str) -> String {
        let Type::Enum(numbers) = &self.of else { return self.defect() };
        let mut names: Vec<&str> = numbers.keys().map(String::as_str).collect();
        names.sort_unstable();
        self.fault(&format!("has the text {text:?}, and the field is an enum of {}", names.join(", ")))
    }

    fn defect(&self) -> String {
        self.fault("is taken for another type; this is a defect, please report it")
    }
}

/// Numbers near zero as small ones: 0, -1, 1, -2 are 0, 1, 2, 3.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u64) {
    put_varint(out, u64::from(number) << 3 | wire_type);
}

/// A number of seven bits a byte, the least first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Adds what is written behind its length, for which there is a byte until it is known; where that is not enough, what was written moves.
fn put_prefixed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(), String> {
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    match u8::try_from(length) {
        Ok(length @ 0..0x80) => out[start] = length,
        _ => {
            let mut prefix = Vec::with_capacity(5);
            put_varint(&mut prefix, length as u64);
            out.splice(start..=start, prefix);
        }
    }
    Ok(())
}
