//! What a source has gathered of records since its last delivery.

use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::chunk::{Chunk, Layout};
use super::values::{Outcome, Values};
use crate::batch::{Batch, Origins, PartitionId, Segment};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::quality::Rejected;
use crate::ring::{Consumer, Empty};
use crate::source::Delivery;
use crate::source::linger::{Linger, nanos};
use crate::time::SharedClock;

/// Rows and news on their way to the pipeline.
pub(in crate::connector) struct Gathered {
    schema: SchemaRef,
    values: Values,
    outcome: Outcome,
    /// Everything but the rows.
    pub(in crate::connector) news: Delivery,
    places: Places,
    /// When the first record came, and when anything else did, in the clock's nanoseconds.
    received: Option<u64>,
    changed: Option<u64>,
    /// Partitions to give back once the sinks have committed.
    pub(in crate::connector) revoked: Vec<Vec<u32>>,
    batch_rows: usize,
    linger: Linger,
    clock: SharedClock,
}

impl Gathered {
    /// Rows of `schema`: the columns of the values, then others.
    pub(in crate::connector) fn new(schema: SchemaRef, values: Values, config: &Config, clock: &SharedClock) -> Gathered {
        Gathered {
            schema,
            values,
            outcome: Outcome::default(),
            news: Delivery::default(),
            places: Places::default(),
            received: None,
            changed: None,
            revoked: Vec::new(),
            batch_rows: config.batch_rows,
            linger: Linger::new(config),
            clock: SharedClock::clone(clock),
        }
    }

    /// The columns of all rows.
    pub(in crate::connector) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// How chunks are to lay values out.
    pub(in crate::connector) fn layout(&self) -> Layout {
        self.values.layout()
    }

    /// Decodes a chunk, stretch by stretch of one partition. `row` is told of each record, by its place in the chunk, that became rows, and
    /// how many; records without a value are rows of nulls if `null_rows`.
    ///
    /// # Errors
    /// As [`Values::decode`].
    pub(in crate::connector) fn decode(&mut self, chunk: &Chunk, null_rows: bool, mut row: impl FnMut(usize, usize)) -> Result<()> {
        self.received.get_or_insert(chunk.received);
        let mut at = 0;
        while let Some(first) = chunk.records.get(at) {
            let same =
                chunk.records[at..].iter().take_while(|record| (record.partition, record.is_null) == (first.partition, first.is_null));
            let range = at..at + same.count();
            at = range.end;
            match first.is_null {
                true => range.for_each(|place| self.take_null(chunk, place, null_rows, &mut row)),
                false => {
                    self.values.decode(chunk, range.clone(), &mut self.outcome)?;
                    self.take_rows(chunk, range.start, &mut row);
                }
            }
            self.news.bytes += (chunk.records[at - 1].end - first.start) as u64;
        }
        Ok(())
    }

    /// Takes note of where the rows of the last stretch, which begins at `first`, come from.
    fn take_rows(&mut self, chunk: &Chunk, first: usize, row: &mut impl FnMut(usize, usize)) {
        for (place, &rows) in (first..).zip(&self.outcome.rows) {
            if rows > 0 {
                let record = &chunk.records[place];
                self.places.add(PartitionId(record.partition), record.offset as u64, rows);
                row(place, rows);
            }
        }
        for (place, error) in self.outcome.bad.drain(..) {
            let record = &chunk.records[place];
            let rejected = Rejected::new(PartitionId(record.partition), record.offset as u64, &chunk.original(record), error);
            self.news.rejected.push(rejected);
        }
    }

    /// A record without a value.
    fn take_null(&mut self, chunk: &Chunk, place: usize, null_rows: bool, row: &mut impl FnMut(usize, usize)) {
        let record = &chunk.records[place];
        let (partition, offset) = (PartitionId(record.partition), record.offset as u64);
        if !null_rows {
            self.news.null_values += 1;
        } else if let Some(column) = self.values.refuses_null() {
            let error = format!("the record has no value, and `{column}` may not be null");
            self.news.rejected.push(Rejected::new(partition, offset, &[], error));
        } else {
            self.values.push_null();
            row(place, 1);
            self.places.add(partition, offset, 1);
        }
    }

    /// Anything but records came.
    pub(in crate::connector) fn changed(&mut self, now: u64) {
        self.changed.get_or_insert(now);
    }

    /// A partition begins.
    pub(in crate::connector) fn open(&mut self, number: u32, name: String) {
        self.news.opened.push(PartitionId(number));
        self.news.names.push((PartitionId(number), name));
    }

    /// A partition ends.
    pub(in crate::connector) fn end(&mut self, number: u32) {
        self.values.end(PartitionId(number));
        self.news.ended.push(PartitionId(number));
    }

    /// When what there is has to be handed on; `None` if there is nothing.
    fn due(&self) -> Option<u64> {
        let rows = self.values.rows() > 0 || !self.news.rejected.is_empty();
        let since = [self.received.filter(|_| rows), self.changed].into_iter().flatten().min()?;
        Some(self.linger.due(since))
    }

    /// Everything so far, with `others` for the columns that are not the values'.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect.
    pub(in crate::connector) fn deliver(&mut self, others: impl Iterator<Item = ArrayRef>) -> Result<Delivery> {
        let now = self.clock.monotonic();
        let (mut delivery, (segments, origins)) = (std::mem::take(&mut self.news), self.places.take());
        let received = self.received.take().unwrap_or(now);
        self.changed = None;
        if let Some(mut columns) = self.values.take()? {
            columns.extend(others);
            let records = RecordBatch::try_new(self.schema(), columns)?;
            self.linger.handed(received, now);
            delivery.batch = Some(Batch { origins, ..Batch::of_source(records, segments, received) });
        }
        Ok(delivery)
    }
}

/// Where the rows since the last delivery come from.
#[derive(Debug, Default)]
struct Places {
    segments: Vec<Segment>,
    /// The offset of each row, if a record holds several: segments do not tell those.
    offsets: Option<Vec<u64>>,
}

impl Places {
    /// Adds rows of the record at `offset`: they continue the last segment if the record follows its last one.
    fn add(&mut self, partition: PartitionId, offset: u64, rows: usize) {
        if rows > 1 && self.offsets.is_none() {
            let so_far = self.segments.iter().flat_map(|segment| segment.offset..segment.offset + segment.rows as u64);
            self.offsets = Some(so_far.collect());
        }
        match self.segments.last_mut() {
            Some(last) if last.partition == partition && last.offset + last.rows as u64 == offset => last.rows += rows,
            _ => self.segments.push(Segment { partition, rows, offset }),
        }
        if let Some(offsets) = &mut self.offsets {
            offsets.extend(std::iter::repeat_n(offset, rows));
        }
    }

    /// What was added; begins anew.
    fn take(&mut self) -> (Vec<Segment>, Origins) {
        let Places { segments, offsets } = std::mem::take(self);
        let origins = offsets.map_or_else(Origins::default, |offsets| Origins::told(&segments, offsets));
        (segments, origins)
    }
}

/// A source whose thread of its own reads from a broker and hands events over.
pub(in crate::connector) trait Gatherer {
    /// What is handed over.
    type Event;

    /// What there is since the last delivery.
    fn gathered(&mut self) -> &mut Gathered;

    /// Where events come from; `None` when the source is closed.
    fn ring(&mut self) -> Option<&mut Consumer<Self::Event>>;

    /// Takes an event in; returns whether what was gathered has to be handed on at once.
    fn take_in(&mut self, event: Self::Event, now: u64) -> Result<bool>;

    /// Hands everything on.
    fn deliver(&mut self) -> Result<Delivery>;
}

/// The next delivery of such a source, as [`Source::poll`](crate::source::Source::poll) has it.
pub(in crate::connector) fn poll(source: &mut impl Gatherer, wait: Duration) -> Result<Delivery> {
    let clock = SharedClock::clone(&source.gathered().clock);
    let mut now = clock.monotonic();
    source.gathered().linger.back(now);
    let deadline = now.saturating_add(nanos(wait));
    loop {
        let due = source.gathered().due().unwrap_or(u64::MAX);
        let wait = Duration::from_nanos(due.min(deadline).saturating_sub(now));
        let Some(ring) = source.ring() else { return Ok(Delivery { end: true, ..Delivery::default() }) };
        let event = match ring.pop_timeout(wait) {
            Ok(event) => Some(event),
            Err(Empty::TimedOut) => None,
            Err(Empty::Closed) => {
                return Err(Error::connector("the thread that reads from the broker has panicked; this is a defect, please report it"));
            }
        };
        now = clock.monotonic();
        let came = event.is_some();
        let at_once = event.map_or(Ok(false), |event| source.take_in(event, now))?;
        // While more is there the batch grows, past the linger if need be: it is full soon.
        let lingered = !came && due <= deadline;
        let gathered = source.gathered();
        if at_once || lingered || gathered.values.rows() >= gathered.batch_rows || now >= deadline {
            return source.deliver();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;
    use crate::connector::records::Encoding;
    use crate::format::Format;
    use crate::time::SystemClock;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("at", DataType::Int64, true)]))
    }

    /// Records of a format come in; each says in its rows which it is.
    fn gathered(format: Format) -> Gathered {
        let values = Encoding::formatted(format, schema()).values(&Config::default()).unwrap();
        Gathered::new(schema(), values, &Config::default(), &SystemClock::shared())
    }

    /// Partition and offset of each row, as the batch tells them, beside the value of the row.
    fn told(gathered: &mut Gathered) -> Vec<((u32, u64), Option<i64>)> {
        let batch = gathered.deliver(std::iter::empty()).unwrap().batch.unwrap();
        let origins = batch.origins.of_rows(&batch.segments, batch.rows()).into_iter();
        let places = origins.map(|origin| origin.map(|(partition, offset)| (partition.0, offset)).unwrap());
        places.zip(batch.records.column(0).as_primitive::<Int64Type>()).collect()
    }

    fn csv() -> Format {
        Format::Csv { delimiter: b',', header: false }
    }

    /// A record of so many rows that say where it is.
    fn rows(format: &Format, rows: usize, says: i64) -> Vec<u8> {
        if matches!(format, Format::Csv { .. }) {
            return format!("{says}\n").repeat(rows).into_bytes();
        }
        let records = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![says; rows]))]).unwrap();
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &schema()).unwrap();
        writer.write(&records).unwrap();
        writer.into_inner().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_row_has_the_offset_of_its_record(
            records in prop::collection::vec((0_u32..3, 0_u64..4, prop_oneof![3 => Just(1_usize), 1 => 0_usize..5]), 1..60), of_arrow: bool,
        ) {
            let format = if of_arrow { Format::ArrowIpc } else { csv() };
            let mut gathered = gathered(format.clone());
            let mut next = [0_u64; 3];
            for records in records.chunks(20) {
                let (mut chunk, mut expected) = (Chunk::default(), Vec::new());
                for &(partition, skipped, count) in records {
                    let offset = next[partition as usize] + skipped;
                    next[partition as usize] = offset + 1;
                    let says = i64::from(partition) * 1_000 + offset as i64;
                    // A record without a value is a row of nulls.
                    let value = (count > 0).then(|| rows(&format, count, says));
                    chunk.push(partition, offset as i64, value.as_deref(), gathered.layout());
                    expected.extend(std::iter::repeat_n(((partition, offset), value.is_some().then_some(says)), count.max(1)));
                }
                gathered.decode(&chunk, true, |_, _| {}).unwrap();
                prop_assert_eq!(told(&mut gathered), expected);
            }
        }
    }

    #[test]
    fn records_of_one_row_each_cost_no_offsets() {
        let mut gathered = gathered(csv());
        let mut take = |values: &[&[u8]]| {
            let mut chunk = Chunk::default();
            (7..).zip(values).for_each(|(offset, value)| chunk.push(0, offset, Some(value), Layout::Plain));
            gathered.decode(&chunk, false, |_, _| {}).unwrap();
            let kept = gathered.places.offsets.clone();
            (kept, told(&mut gathered).into_iter().map(|((_, offset), _)| offset).collect::<Vec<_>>())
        };
        assert_eq!(take(&[b"1", b"2", b"3"]), (None, vec![7, 8, 9]));
        // The last record follows the first in offsets that count rows.
        assert_eq!(take(&[b"1\n1\n1", b"x", b"y", b"2"]), (Some(vec![7, 7, 7, 10]), vec![7, 7, 7, 10]));
        assert_eq!(take(&[b"1", b"2"]), (None, vec![7, 8]));
    }

    #[test]
    fn a_record_of_several_lines_of_json_is_turned_away_with_its_offset() {
        let mut gathered = gathered(Format::Ndjson);
        let mut chunk = Chunk::default();
        let values: [&[u8]; 4] = [b"{\"at\":3}", b"{\"at\":4}\n{\"at\":4}\n", b"[{\"at\":5}]", b"{\"at\":\n6}\n"];
        (3..).zip(values).for_each(|(offset, value)| chunk.push(1, offset, Some(value), gathered.layout()));
        gathered.decode(&chunk, false, |_, _| {}).unwrap();
        let bad: Vec<(u64, &[u8])> = gathered.news.rejected.iter().map(|row| (row.offset, row.bytes.as_slice())).collect();
        assert_eq!(bad, [(4, &b"{\"at\":4}\n{\"at\":4}"[..]), (5, b"[{\"at\":5}]")]);
        assert_eq!(told(&mut gathered), [((1, 3), Some(3)), ((1, 6), Some(6))]);
    }
}
