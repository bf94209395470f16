//! Arrow's inter-process format into columns: the stream format piece by piece, the file format from a path.
//!
//! Each partition is one stream (or several, one after the other). Messages are put together here, with a bound on
//! their size and on what they claim to unpack to, before arrow-ipc sees them. A message that does not decode ends its
//! partition, because later ones may depend on it; other partitions go on. Offsets are row numbers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::MessageBuffer;
use arrow::ipc::reader::{FileReader, StreamDecoder, StreamReader};

use super::conform::conform;
use super::{Decoded, Decoder, bulk, runs};
use crate::batch::{Origins, PartitionId, Segment};
use crate::error::{Error, Result};
use crate::quality::Rejected;

/// Bytes of one message, and of one of its buffers when unpacked: far above what writers make, far below what harms.
const MAX_MESSAGE_BYTES: usize = 1 << 30;

/// Rows of one message; columns without buffers claim rows for nothing.
const MAX_MESSAGE_ROWS: usize = 1 << 26;

/// What a file of Arrow's file format begins with.
pub(crate) const FILE_MAGIC: &[u8] = b"ARROW1";

const CONTINUATION: [u8; 4] = [0xFF; 4];

/// A [`Decoder`] of Arrow streams; see the [module documentation](self).
#[derive(Debug)]
pub struct ArrowIpcDecoder {
    schema: SchemaRef,
    partitions: HashMap<PartitionId, Stream>,
    batches: Vec<RecordBatch>,
    rows: usize,
    segments: Vec<Segment>,
    rejected: Vec<Rejected>,
}

/// One partition's stream.
#[derive(Debug, Default)]
struct Stream {
    decoder: StreamDecoder,
    /// Bytes that are not yet a whole message.
    carry: Vec<u8>,
    /// The length that `carry` needs before another look is worth it.
    wanted: usize,
    /// Rows so far.
    rows: u64,
}

/// What the beginning of some bytes is.
enum Frame {
    /// A message, or the mark of a stream's end, of this length.
    Whole(usize),
    /// Part of a message; at least so many bytes are needed to say more.
    Part(usize),
    /// The mark of a stream's end, of this length.
    End(usize),
}

impl ArrowIpcDecoder {
    /// A decoder of streams whose columns are, or can be cast to, those of `schema` with the same names.
    pub fn new(schema: SchemaRef) -> ArrowIpcDecoder {
        let (batches, segments, rejected) = (Vec::new(), Vec::new(), Vec::new());
        ArrowIpcDecoder { schema, partitions: HashMap::new(), batches, rows: 0, segments, rejected }
    }

    /// Decodes the whole messages that `bytes` begins with; returns their length.
    fn messages(&mut self, partition: PartitionId, stream: &mut Stream, bytes: &[u8]) -> Result<usize> {
        let mut used = 0;
        loop {
            let length = match frame(&bytes[used..])? {
                Frame::Whole(length) => length,
                Frame::End(length) => {
                    stream.decoder = StreamDecoder::new();
                    used += length;
                    continue;
                }
                Frame::Part(wanted) => {
                    stream.wanted = wanted;
                    return Ok(used);
                }
            };
            if let Some(batch) = stream.message(&bytes[used..used + length])? {
                let batch = conform(&batch, &self.schema, "stream")?;
                if batch.num_rows() > 0 {
                    runs::extend(&mut self.segments, partition, batch.num_rows(), stream.rows);
                    stream.rows += batch.num_rows() as u64;
                    self.rows += batch.num_rows();
                    self.batches.push(batch);
                }
            }
            used += length;
        }
    }

    fn pieces(&mut self, partition: PartitionId, stream: &mut Stream, bytes: &[u8]) -> Result<()> {
        if stream.carry.is_empty() {
            let used = self.messages(partition, stream, bytes)?;
            stream.carry.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        stream.carry.extend_from_slice(bytes);
        if stream.carry.len() >= stream.wanted {
            let mut carry = std::mem::take(&mut stream.carry);
            let used = self.messages(partition, stream, &carry)?;
            carry.drain(..used);
            stream.carry = carry;
        }
        Ok(())
    }
}

impl Decoder for ArrowIpcDecoder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn decode(&mut self, partition: PartitionId, bytes: &[u8]) -> Result<()> {
        let mut stream = self.partitions.remove(&partition).unwrap_or_default();
        let row = stream.rows;
        self.pieces(partition, &mut stream, bytes).map_err(|error| error.context(format!("the Arrow stream after row {row}")))?;
        self.partitions.insert(partition, stream);
        Ok(())
    }

    fn end(&mut self, partition: PartitionId) {
        if let Some(stream) = self.partitions.remove(&partition).filter(|stream| !stream.carry.is_empty()) {
            let error = "the Arrow stream ends in the middle of a message";
            self.rejected.push(Rejected::new(partition, stream.rows, &stream.carry, error));
        }
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn take(&mut self) -> Result<Option<Decoded>> {
        self.rows = 0;
        let segments = std::mem::take(&mut self.segments);
        Ok(bulk::take(&self.schema, &mut self.batches)?.map(|records| Decoded { records, segments, origins: Origins::default() }))
    }

    fn take_rejected(&mut self, into: &mut Vec<Rejected>) {
        into.append(&mut self.rejected);
    }
}

impl Stream {
    /// Decodes one message, with or without its mark.
    fn message(&mut self, message: &[u8]) -> Result<Option<RecordBatch>> {
        let mut buffer = Buffer::from(message);
        if message.starts_with(&CONTINUATION) {
            buffer.advance(CONTINUATION.len());
        }
        // A message without a body is taken up only when another byte comes: the first of the next message's mark.
        let mut next = Buffer::from(CONTINUATION);
        let mut batch = None;
        for buffer in [&mut buffer, &mut next] {
            while !buffer.is_empty() {
                batch = guarded(|| self.decoder.decode(buffer))?.or(batch);
            }
        }
        Ok(batch)
    }
}

/// Calls arrow-ipc, which panics on some malformed messages. What it worked on is dropped then.
fn guarded<T>(call: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| Error::decode("a message does not decode").with_source(error)),
        Err(_) => Err(Error::decode("a message is malformed")),
    }
}

/// Reads the length of the message that `bytes` begins with and checks what it claims.
fn frame(bytes: &[u8]) -> Result<Frame> {
    if bytes.starts_with(FILE_MAGIC) {
        return Err(Error::decode("this is an Arrow file, not an Arrow stream; read it by its path, unpacked"));
    }
    // Streams of Arrow before 0.15 have no continuation mark.
    let mark = if bytes.starts_with(&CONTINUATION) { 4 } else { 0 };
    let Some(length) = bytes.get(mark..).and_then(<[u8]>::first_chunk) else { return Ok(Frame::Part(mark + 4)) };
    let length = u32::from_le_bytes(*length) as usize;
    let head = mark + 4;
    match length {
        0 => return Ok(Frame::End(head)),
        1..=MAX_MESSAGE_BYTES => {}
        _ => return Err(Error::decode(format!("a message claims {length} bytes of metadata; this is no Arrow stream"))),
    }
    let Some(metadata) = bytes.get(head..head + length) else { return Ok(Frame::Part(head + length)) };
    let message = guarded(|| MessageBuffer::try_new(Buffer::from(metadata)))?;
    let body = message.as_ref().bodyLength();
    let too_large = || Error::decode(format!("a message claims a body of {body} bytes; at most {MAX_MESSAGE_BYTES} are taken"));
    let body = usize::try_from(body).ok().filter(|&body| body <= MAX_MESSAGE_BYTES).ok_or_else(too_large)?;
    let Some(body) = bytes.get(head + length..head + length + body) else { return Ok(Frame::Part(head + length + body)) };
    check(&message, body)?;
    Ok(Frame::Whole(head + length + body.len()))
}

/// Refuses a message that claims to be more than memory should be given for.
fn check(message: &MessageBuffer, body: &[u8]) -> Result<()> {
    let message = message.as_ref();
    let Some(batch) = message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data()) else { return Ok(()) };
    let nodes = batch.nodes().into_iter().flatten().map(|node| node.length()).chain([batch.length()]);
    if let Some(rows) = nodes.max().filter(|&rows| rows > MAX_MESSAGE_ROWS as i64) {
        return Err(Error::decode(format!("a message claims {rows} rows; at most {MAX_MESSAGE_ROWS} are taken")));
    }
    if batch.compression().is_none() {
        return Ok(());
    }
    for buffer in batch.buffers().into_iter().flatten() {
        // A packed buffer begins with its length when unpacked, −1 for one that is not packed after all.
        let start = usize::try_from(buffer.offset()).unwrap_or(usize::MAX);
        let length = body.get(start..).and_then(<[u8]>::first_chunk).map_or(0, |length| i64::from_le_bytes(*length));
        if length > MAX_MESSAGE_BYTES as i64 {
            return Err(Error::decode(format!("a buffer claims {length} bytes; at most {MAX_MESSAGE_BYTES} are taken")));
        }
    }
    Ok(())
}

/// The schema of the stream that begins with `sample`.
pub(super) fn stream_schema(sample: &[u8]) -> Result<Schema> {
    match frame(sample)? {
        Frame::Whole(length) => {
            let mut stream = Stream::default();
            stream.message(&sample[..length])?;
            let schema = stream.decoder.schema().ok_or_else(|| Error::decode("an Arrow stream must begin with its schema"))?;
            Ok(schema.as_ref().clone())
        }
        _ => Err(Error::decode("the sample is shorter than the schema of the Arrow stream")),
    }
}

/// Whether the file at `path` is of Arrow's file format; otherwise it may be a stream.
///
/// # Errors
/// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be read.
pub fn is_arrow_file(path: &Path) -> Result<bool> {
    let doing = |error| Error::io(format!("cannot read `{}`", path.display()), error);
    let mut start = Vec::with_capacity(FILE_MAGIC.len());
    File::open(path).map_err(doing)?.take(FILE_MAGIC.len() as u64).read_to_end(&mut start).map_err(doing)?;
    Ok(start == FILE_MAGIC)
}

/// The batches of an Arrow file, in order.
pub struct ArrowFile {
    reader: Option<Box<dyn RecordBatchReader + Send>>,
    schema: SchemaRef,
    name: String,
}

/// Opens the file of Arrow's file format at `path`. Its batches have the file's own columns.
///
/// # Errors
/// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be read, [`Kind::Decode`](crate::error::Kind::Decode)
/// if it is damaged or of another format.
pub fn read_arrow_file(path: &Path) -> Result<ArrowFile> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Error::io(format!("cannot open `{name}`"), error))?;
    read_arrow(file, name, true)
}

/// As [`read_arrow_file`], of what `file` reads, which users call `name`: of Arrow's file format, or else a stream.
///
/// # Errors
/// As [`read_arrow_file`].
pub(crate) fn read_arrow(file: impl Read + Seek + Send + 'static, name: String, is_file: bool) -> Result<ArrowFile> {
    let opened = guarded(|| -> Result<Box<dyn RecordBatchReader + Send>, ArrowError> {
        match is_file {
            true => Ok(Box::new(FileReader::try_new(file, None)?)),
            false => Ok(Box::new(StreamReader::try_new(file, None)?)),
        }
    });
    let reader = opened.map_err(|error| error.context(format!("`{name}`")))?;
    let schema = reader.schema();
    Ok(ArrowFile { reader: Some(reader), schema, name })
}

impl ArrowFile {
    /// The file's columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Iterator for ArrowFile {
    type Item = Result<RecordBatch>;

    /// The next batch; nothing after an error.
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let mut reader = self.reader.take()?;
        match guarded(|| reader.next().transpose()) {
            Ok(batch) => {
                self.reader = batch.is_some().then_some(reader);
                batch.map(Ok)
            }
            Err(error) => Some(Err(error.context(format!("`{}`", self.name)))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Int32Array, Int64Array, NullArray, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use arrow::ipc::writer::{FileWriter, StreamWriter};
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::format::{Format, infer};

    const ONE: PartitionId = PartitionId(1);

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
        let names = StringArray::from_iter_values((from..from + rows).map(|id| format!("name {id}")));
        let ids = Int64Array::from_iter_values(from..from + rows);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(ids), Arc::new(names)]).unwrap()
    }

    fn stream(batches: &[RecordBatch]) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.into_inner().unwrap()
    }

    #[test]
    fn streams_of_several_partitions() {
        let text = stream(&[batch(0, 3), batch(3, 2)]);
        for piece in [1, 7, 64, 1 << 16] {
            let mut decoder = ArrowIpcDecoder::new(batch(0, 0).schema());
            for bytes in text.chunks(piece) {
                decoder.decode(ONE, bytes).unwrap();
            }
            decoder.decode(PartitionId(2), &stream(&[batch(5, 1)])).unwrap();
            decoder.end(ONE);
            assert_eq!(decoder.rows(), 6);
            let decoded = decoder.take().unwrap().unwrap();
            assert_eq!(decoded.records, batch(0, 6));
            let segments = [(1, 5), (2, 1)].map(|(partition, rows)| Segment { partition: PartitionId(partition), rows, offset: 0 });
            assert_eq!(decoded.segments, segments);
            let mut rejected = Vec::new();
            decoder.take_rejected(&mut rejected);
            assert!(rejected.is_empty());
        }
    }

    #[test]
    fn columns_are_found_by_name_and_cast() {
        let fields = vec![
            Field::new("name", DataType::LargeUtf8, true),
            Field::new("new", DataType::Float64, true),
            Field::new("id", DataType::Int32, false),
        ];
        let mut decoder = ArrowIpcDecoder::new(Arc::new(Schema::new(fields)));
        decoder.decode(ONE, &stream(&[batch(0, 2)])).unwrap();
        let records = decoder.take().unwrap().unwrap().records;
        assert_eq!(records.column(0).as_string::<i64>().value(1), "name 1");
        assert_eq!(records.column(1).null_count(), 2);
        assert_eq!(records.column(2).as_ref(), &Int32Array::from(vec![0, 1]) as &dyn Array);
        let error = decoder.decode(ONE, &stream(&[batch(1 << 40, 1)])).unwrap_err().to_string();
        assert!(error.contains("column `id` is Int64 in the stream and cannot become Int32"), "{error}");
        let fields = vec![Field::new("other", DataType::Int64, false)];
        let mut decoder = ArrowIpcDecoder::new(Arc::new(Schema::new(fields)));
        assert!(decoder.decode(ONE, &stream(&[batch(0, 1)])).unwrap_err().to_string().contains("no column `other`"));
    }

    #[test]
    fn rows_without_buffers_count() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Null, true)]));
        let records = RecordBatch::try_new(schema.clone(), vec![Arc::new(NullArray::new(5))]).unwrap();
        let mut decoder = ArrowIpcDecoder::new(schema.clone());
        decoder.decode(ONE, &stream(&[records])).unwrap();
        assert_eq!(decoder.rows(), 5);
        let records = RecordBatch::try_new(schema, vec![Arc::new(NullArray::new(MAX_MESSAGE_ROWS + 1))]).unwrap();
        assert!(decoder.decode(ONE, &stream(&[records])).unwrap_err().to_string().contains("rows"));
    }

    #[test]
    fn an_unfinished_stream_is_quarantined_and_others_go_on() {
        let text = stream(&[batch(0, 3)]);
        let mut decoder = ArrowIpcDecoder::new(batch(0, 0).schema());
        decoder.decode(ONE, &text[..text.len() - 20]).unwrap();
        decoder.decode(PartitionId(2), b"no arrow").unwrap_err();
        decoder.decode(PartitionId(3), &text).unwrap();
        decoder.end(ONE);
        assert_eq!(decoder.take().unwrap().unwrap().records.column(0).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
        let mut rejected = Vec::new();
        decoder.take_rejected(&mut rejected);
        assert_eq!((rejected.len(), rejected[0].error.as_str()), (1, "the Arrow stream ends in the middle of a message"));
    }

    #[test]
    fn files_are_told_from_streams() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        let mut writer = FileWriter::try_new(File::create(&path).unwrap(), &batch(0, 0).schema()).unwrap();
        writer.write(&batch(0, 3)).unwrap();
        writer.write(&batch(3, 1)).unwrap();
        writer.finish().unwrap();
        assert!(is_arrow_file(&path).unwrap());
        let file = read_arrow_file(&path).unwrap();
        assert_eq!(file.schema(), batch(0, 0).schema());
        let batches: Vec<RecordBatch> = file.map(Result::unwrap).collect();
        assert_eq!(batches, [batch(0, 3), batch(3, 1)]);
        let bytes = std::fs::read(&path).unwrap();
        let error = ArrowIpcDecoder::new(batch(0, 0).schema()).decode(ONE, &bytes).unwrap_err().to_string();
        assert!(error.contains("Arrow file"), "{error}");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read_arrow_file(&path).is_err());
        std::fs::write(&path, stream(&[batch(0, 1)])).unwrap();
        assert!(!is_arrow_file(&path).unwrap());
    }

    #[test]
    fn a_schema_is_inferred_from_the_first_message() {
        let text = stream(&[batch(0, 3)]);
        assert_eq!(infer::infer(&Format::ArrowIpc, &text).unwrap(), *batch(0, 0).schema());
        assert!(infer::infer(&Format::ArrowIpc, &text[..40]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_never_ends_the_process(damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8), piece in 1_usize..300) {
            let mut text = stream(&[batch(0, 3), batch(3, 2)]);
            for (index, byte) in damage {
                let index = index.index(text.len());
                text[index] = byte;
            }
            let mut decoder = ArrowIpcDecoder::new(batch(0, 0).schema());
            let _ = text.chunks(piece).try_for_each(|bytes| decoder.decode(ONE, bytes));
            decoder.end(ONE);
            let rows = decoder.rows();
            let taken = decoder.take().unwrap().map_or(0, |decoded| decoded.records.num_rows());
            prop_assert_eq!(rows, taken);
        }
    }
}
