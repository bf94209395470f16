//! Change events of Debezium in JSON into the rows that they are about; [`Avro::debezium`](super::avro::Avro::debezium) for those in Avro.
//!
//! An event is an envelope: `{"before": …, "after": …, "op": "u", "ts_ms": …}`, alone or as the `payload` beside a `schema`. Its row is what
//! is `after`, and of a delete what was `before`, which is as much as the database logs: PostgreSQL the key alone unless the table's
//! `REPLICA IDENTITY` is `FULL`. To the columns of the table come, where they are asked for:
//!
//! | column | of | is |
//! |---|---|---|
//! | `__op` | string | `c` created, `u` updated, `d` deleted, `r` read by a snapshot |
//! | `__ts_ms` | int64 or `timestamp[ms]` | when the connector took the event in, in milliseconds since 1970 |
//! | `__deleted` | bool | whether the row is gone |
//!
//! Truncations (`t`), messages (`m`) and what is no envelope are no rows and go to quarantine. The tombstones that Debezium sends behind
//! deletes are records without a value, which Kafka's source leaves out and counts.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::lines::{BadLine, Lines, is_blank};

/// The columns that are beside those of the table.
pub(super) const OP: &str = "__op";
pub(super) const TS_MS: &str = "__ts_ms";
pub(super) const DELETED: &str = "__deleted";

/// A format of lines, each the envelope of a row that `L` decodes.
#[derive(Debug)]
pub(super) struct DebeziumLines<L> {
    rows: L,
    /// The rows of the lines that are being decoded, and where those begin and end.
    text: Vec<u8>,
    origins: Vec<Origin>,
    bad: Vec<BadLine>,
}

/// Where a row's text begins, and where the line is that it was made of.
#[derive(Debug)]
struct Origin {
    text: usize,
    line: Range<usize>,
}

impl<L> DebeziumLines<L> {
    pub(super) fn new(rows: L) -> DebeziumLines<L> {
        DebeziumLines { rows, text: Vec::new(), origins: Vec::new(), bad: Vec::new() }
    }
}

impl<L: Lines> Lines for DebeziumLines<L> {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn decode(&mut self, lines: &[u8], bad: &mut Vec<BadLine>) {
        self.text.clear();
        self.origins.clear();
        let (known, mut start) = (bad.len(), 0);
        for end in memchr::memchr_iter(b'\n', lines) {
            let line = &lines[start..end];
            if !is_blank(line) {
                let text = self.text.len();
                match unwrapped(line, &mut self.text) {
                    Ok(()) => self.origins.push(Origin { text, line: start..end }),
                    Err(error) => bad.push(BadLine { start, end, error }),
                }
            }
            start = end + 1;
        }
        self.rows.decode(&self.text, &mut self.bad);
        for row in self.bad.drain(..) {
            let place = self.origins.partition_point(|origin| origin.text <= row.start);
            if let Some(origin) = self.origins[..place].last() {
                bad.push(BadLine { start: origin.line.start, end: origin.line.end, error: row.error });
            }
        }
        bad[known..].sort_by_key(|bad| bad.start);
    }

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn take(&mut self) -> crate::error::Result<Option<RecordBatch>> {
        self.rows.take()
    }
}

/// Adds the row of an envelope to `into`, as a line; nothing if there is an error.
///
/// # Errors
/// In words, if it is no envelope of a row.
pub(super) fn unwrapped(line: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    let mut envelope = Envelope::read(line)?;
    if envelope.op.is_none()
        && let Some(payload) = envelope.payload
    {
        envelope = Envelope::read(payload)?;
    }
    let op = envelope.op.ok_or_else(without_op)?;
    let (row, is_deleted) = match op {
        b"\"c\"" | b"\"u\"" | b"\"r\"" => (envelope.after, false),
        b"\"d\"" => (envelope.before, true),
        other => return Err(of_no_row(&String::from_utf8_lossy(other))),
    };
    let of = if is_deleted { "before" } else { "after" };
    let row = row.and_then(|row| row.strip_prefix(b"{")?.strip_suffix(b"}"));
    let row = row.ok_or_else(|| without_row(of, &String::from_utf8_lossy(op)))?;
    let millis = envelope.ts_ms.filter(|millis| !millis.is_empty() && millis.iter().all(u8::is_ascii_digit)).unwrap_or(b"null");
    into.push(b'{');
    into.extend_from_slice(row);
    if !row.trim_ascii().is_empty() {
        into.push(b',');
    }
    into.extend_from_slice(b"\"__op\":");
    into.extend_from_slice(op);
    into.extend_from_slice(b",\"__ts_ms\":");
    into.extend_from_slice(millis);
    into.extend_from_slice(if is_deleted { b",\"__deleted\":true}\n" } else { b",\"__deleted\":false}\n" });
    Ok(())
}

/// Why what has no `op` is no row.
pub(super) fn without_op() -> String {
    "the event has no `op`: it is no envelope of Debezium, or was unwrapped already".to_owned()
}

/// Why an event of another `op`, as JSON has it, is no row.
pub(super) fn of_no_row(op: &str) -> String {
    format!("the event's `op` is {op}, which is of no row")
}

/// Why an event is no row that has none where its `op`, as JSON has it, says.
pub(super) fn without_row(of: &str, op: &str) -> String {
    format!("the event has no row in `{of}`, whose `op` is {op}")
}

/// The parts of an envelope, as they are written.
#[derive(Default)]
struct Envelope<'a> {
    before: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    op: Option<&'a [u8]>,
    ts_ms: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
}

impl Envelope<'_> {
    /// Reads an object's members. What they hold is looked at no further than to their ends: that is for the decoder of rows.
    fn read(text: &[u8]) -> Result<Envelope<'_>, String> {
        let broken = || "the event is no JSON object".to_owned();
        let mut found = Envelope::default();
        let mut at = blanks(text, 0);
        if text.get(at) != Some(&b'{') {
            return Err(broken());
        }
        at = blanks(text, at + 1);
        while text.get(at) != Some(&b'}') {
            let key = string(text, at).ok_or_else(broken)?;
            let colon = blanks(text, key.end);
            if text.get(colon) != Some(&b':') {
                return Err(broken());
            }
            let value = value(text, blanks(text, colon + 1)).ok_or_else(broken)?;
            let part = match &text[key] {
                b"\"before\"" => Some(&mut found.before),
                b"\"after\"" => Some(&mut found.after),
                b"\"op\"" => Some(&mut found.op),
                b"\"ts_ms\"" => Some(&mut found.ts_ms),
                b"\"payload\"" => Some(&mut found.payload),
                _ => None,
            };
            at = blanks(text, value.end);
            if let Some(part) = part {
                *part = Some(&text[value]);
            }
            match text.get(at) {
                Some(b',') => at = blanks(text, at + 1),
                Some(b'}') => {}
                _ => return Err(broken()),
            }
        }
        match blanks(text, at + 1) == text.len() {
            true => Ok(found),
            false => Err(broken()),
        }
    }
}

/// Where white space from `at` on ends.
fn blanks(text: &[u8], at: usize) -> usize {
    text[at.min(text.len())..]
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .map_or(text.len(), |length| at + length)
}

/// The string that begins at `at`, with its quotes.
fn string(text: &[u8], at: usize) -> Option<Range<usize>> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut next = at + 1;
    loop {
        let found = memchr::memchr2(b'"', b'\\', text.get(next..)?)?;
        match text[next + found] {
            b'"' => return Some(at..next + found + 1),
            _ => next += found + 2,
        }
    }
}

/// The value that begins at `at`.
fn value(text: &[u8], at: usize) -> Option<Range<usize>> {
    match text.get(at)? {
        b'"' => string(text, at),
        b'{' | b'[' => {
            let (mut next, mut depth) = (at, 0_usize);
            loop {
                match text.get(next)? {
                    b'"' => next = string(text, next)?.end,
                    b'{' | b'[' => (next, depth) = (next + 1, depth + 1),
                    b'}' | b']' => (next, depth) = (next + 1, depth - 1),
                    _ => next += 1,
                }
                if depth == 0 {
                    return Some(at..next);
                }
            }
        }
        _ => {
            let end = text[at..].iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'));
            let end = end.map_or(text.len(), |length| at + length);
            (end > at).then_some(at..end)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, BooleanArray, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
    use proptest::prelude::*;

    use super::*;
    use crate::batch::PartitionId;
    use crate::config::Config;
    use crate::format::Format;
    use crate::format::infer::infer;
    use crate::quality::Rejected;

    fn schema() -> SchemaRef {
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        let fields = [("id", DataType::Int64), ("name", DataType::Utf8), ("__op", DataType::Utf8), ("__ts_ms", millis)];
        let fields = fields.into_iter().chain([("__deleted", DataType::Boolean)]).map(|(name, kind)| Field::new(name, kind, true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn decode(text: &[u8], piece: usize) -> (Option<RecordBatch>, Vec<Rejected>) {
        let mut decoder = Format::Debezium.decoder(schema(), &Config::default()).unwrap();
        text.chunks(piece).for_each(|bytes| decoder.decode(PartitionId(0), bytes).unwrap());
        decoder.end(PartitionId(0));
        let mut rejected = Vec::new();
        decoder.take_rejected(&mut rejected);
        (decoder.take().unwrap().map(|decoded| decoded.records), rejected)
    }

    const EVENTS: &str = r#"{"before":null,"after":{"id":1,"name":"a \"quoted\" {name"},"source":{"db":"shop","ts_ms":5},"op":"c","ts_ms":1700000000001}
{"schema":{"type":"struct","fields":[{"field":"before"}]}, "payload" : { "before":{"id":1,"name":"a"}, "after" : {"id":1,"name":"b"}, "op":"u", "ts_ms":1700000000002 } }
{"before":{"id":1},"after":null,"op":"d","ts_ms":1700000000003}
{"after":{"id":2,"name":null},"op":"r"}

{"after":{},"op":"r","ts_ms":1700000000005}
"#;

    #[test]
    fn rows_of_events() {
        for piece in [1, 50, 1 << 16] {
            let (rows, rejected) = decode(EVENTS.as_bytes(), piece);
            assert!(rejected.is_empty(), "{rejected:?}");
            let rows = rows.unwrap();
            assert_eq!(rows["id"].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), Some(1), Some(1), Some(2), None]);
            let names = StringArray::from(vec![Some("a \"quoted\" {name"), Some("b"), None, None, None]);
            assert_eq!(rows["name"].as_ref(), &names as &dyn Array);
            assert_eq!(rows["__op"].as_ref(), &StringArray::from(vec!["c", "u", "d", "r", "r"]) as &dyn Array);
            let millis = rows["__ts_ms"].as_primitive::<TimestampMillisecondType>();
            assert_eq!((millis.value(1), millis.is_null(3)), (1_700_000_000_002, true));
            assert_eq!(rows["__deleted"].as_ref(), &BooleanArray::from(vec![false, false, true, false, false]) as &dyn Array);
        }
        let inferred = infer(&Format::parse("debezium").unwrap(), EVENTS.as_bytes()).unwrap();
        let names: Vec<&str> = inferred.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "name", "__op", "__ts_ms", "__deleted"]);
    }

    #[test]
    fn what_is_no_row_says_why() {
        let cases = [
            (r#"{"id":1}"#, "the event has no `op`"),
            (r#"{"op":"t","ts_ms":1}"#, "the event's `op` is \"t\", which is of no row"),
            (r#"{"op":"d","before":null}"#, "the event has no row in `before`, whose `op` is \"d\""),
            (r#"{"op":"c","after":[1]}"#, "the event has no row in `after`"),
            (r#"{"op":"c","after":{"id":"x"}}"#, ""),
            (r#"{"op":"c","after":{"id":1]}"#, ""),
            (r#"{"op":"c","after":{"id":1}"#, "the event is no JSON object"),
            (r#"["op"]"#, "the event is no JSON object"),
            (r#"{"payload":null}"#, "the event is no JSON object"),
        ];
        let text: String = cases.iter().map(|(line, _)| format!("{line}\n{{\"op\":\"c\",\"after\":{{\"id\":7}}}}\n")).collect();
        let (rows, rejected) = decode(text.as_bytes(), 1_000);
        assert_eq!((rows.unwrap().num_rows(), rejected.len()), (cases.len(), cases.len()));
        for (row, (line, words)) in rejected.iter().zip(cases) {
            assert!(row.bytes == line.as_bytes() && row.error.starts_with(words), "{line}: {}", row.error);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damaged_events_are_rows_or_quarantined(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), piece in 1..99_usize) {
            let mut text = EVENTS.as_bytes().to_vec();
            for (index, byte) in damage {
                let index = index.index(text.len());
                text[index] = byte;
            }
            let lines = text.split(|&byte| byte == b'\n').filter(|line| !is_blank(line)).count();
            let (rows, rejected) = decode(&text, piece);
            prop_assert_eq!(rows.map_or(0, |rows| rows.num_rows()) + rejected.len(), lines);
        }
    }
}
