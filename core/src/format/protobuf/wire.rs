//! Protocol buffers' wire format: fields one after the other, each a tag and a value.

/// How deep groups may nest that are passed over.
const MAX_DEPTH: usize = 100;

/// A field's value as it is on the wire; what has a length is where it stands in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// From where to where.
    Bytes(usize, usize),
    /// A group, which is passed over.
    Group,
}

/// Reads fields of `bytes` up to `end`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads the fields that stand from `start` to `end`, which are within `bytes`.
    pub(crate) fn new(bytes: &'a [u8], start: usize, end: usize) -> Reader<'a> {
        Reader { bytes, at: start, end }
    }

    /// Where the next field begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// The next field's number and value; `None` at the end.
    ///
    /// # Errors
    /// In words, if there is no field.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Value)>, String> {
        if self.is_at_end() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let value = match kind {
            3 => {
                self.skip_group(number)?;
                Value::Group
            }
            4 => return Err(format!("the group of number {number} ends without having begun")),
            kind => self.value(kind)?,
        };
        Ok(Some((number, value)))
    }

    fn tag(&mut self) -> Result<(u32, u8), String> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..=0x1FFF_FFFF) => Ok((number, (tag & 7) as u8)),
            _ => Err(format!("a field has the number {}, which there is not", tag >> 3)),
        }
    }

    fn value(&mut self, kind: u8) -> Result<Value, String> {
        match kind {
            0 => self.varint().map(Value::Varint),
            1 => self.fixed64().map(Value::Fixed64),
            2 => {
                let length = self.varint()?;
                let left = (self.end - self.at) as u64;
                if length > left {
                    return Err(format!("a field claims {length} bytes of the {left} that are left"));
                }
                let start = self.at;
                self.at += length as usize;
                Ok(Value::Bytes(start, self.at))
            }
            5 => self.fixed32().map(Value::Fixed32),
            _ => Err(format!("a field is of wire type {kind}, which there is not")),
        }
    }

    /// Passes over a group to its end.
    fn skip_group(&mut self, number: u32) -> Result<(), String> {
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            match self.tag()? {
                (number, 3) if open.len() < MAX_DEPTH => open.push(number),
                (_, 3) => return Err(format!("groups nest deeper than {MAX_DEPTH}")),
                (number, 4) if number == *innermost => drop(open.pop()),
                (number, 4) => return Err(format!("the group of number {number} ends without having begun")),
                (_, kind) => drop(self.value(kind)?),
            }
        }
        Ok(())
    }

    /// A number of seven bits a byte, the least first.
    pub(super) fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for place in 0..10 {
            let byte = *self.bytes[..self.end].get(self.at).ok_or("it ends in the middle of a number")?;
            self.at += 1;
            number |= u64::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number has more than ten bytes".to_owned())
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn fixed32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.bytes[self.at..self.end].first_chunk::<N>().ok_or("it ends in the middle of a number")?;
        self.at += N;
        Ok(*bytes)
    }
}
