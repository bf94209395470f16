//! Late rows: those that came when nothing waited for them any more. They keep their columns and say how late they were.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::batch::Batch;
use crate::error::Result;
use crate::operator::keys::KeyColumns;
use crate::time::Unit;
use crate::watermark::NONE;

/// Late rows of one batch.
#[derive(Debug)]
pub struct Late {
    batch: Batch,
    /// How far the watermark had gone past each row, in units of event time.
    by: Vec<i64>,
    /// Start and end of the last window that could have counted each row, where a step has windows.
    windows: Option<(Vec<i64>, Vec<i64>)>,
    key_groups: Vec<u8>,
}

impl Late {
    /// The rows of `batch` that `late` selects; `watermark` is that of the step, and `keys` are its columns.
    ///
    /// # Errors
    /// If columns cannot be filtered, which would be a defect.
    pub(crate) fn of(batch: &Batch, late: &BooleanArray, watermark: i64, keys: &mut KeyColumns) -> Result<Late> {
        let batch = batch.clone().filter(late)?;
        let by = batch.time.as_ref().map_or_else(Vec::new, |time| {
            let mark = |row: usize| time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(watermark);
            time.times.iter().enumerate().map(|(row, &time)| mark(row).saturating_sub(time)).collect()
        });
        let mut key_groups = Vec::new();
        keys.encode(&batch.records)?.groups(&mut key_groups)?;
        Ok(Late { batch, by, windows: None, key_groups })
    }

    /// The same rows, which have missed the windows that `bounds` tells from their event times.
    pub(crate) fn missed(self, mut bounds: impl FnMut(i64) -> (i64, i64)) -> Late {
        let times = self.batch.time.as_ref().map_or(&[][..], |time| &time.times);
        Late { windows: Some(times.iter().map(|&time| bounds(time)).unzip()), ..self }
    }

    /// The key group of each row.
    pub(crate) fn key_groups(&self) -> &[u8] {
        &self.key_groups
    }

    /// The rows with the columns of [`late_schema`]; event time counts `unit`s.
    ///
    /// # Errors
    /// If the columns do not fit that schema, which would be a defect.
    pub(crate) fn into_batch(self, unit: Unit) -> Result<Batch> {
        let Late { batch, by, windows, .. } = self;
        let rows = batch.rows();
        let numbers = |values: Vec<i64>, data_type: DataType| cast(&Int64Array::from(values), &data_type);
        let timestamp = DataType::Timestamp(unit.arrow(), None);
        let bound = |values: Option<Vec<i64>>| match values {
            Some(values) => numbers(values, timestamp.clone()),
            None => Ok(arrow::array::new_null_array(&timestamp, rows)),
        };
        let (starts, ends) = windows.unzip();
        let (partitions, offsets) = origins(&batch);
        let schema = late_schema(batch.records.schema_ref(), unit);
        let mut columns = batch.records.columns().to_vec();
        columns.extend([numbers(by, DataType::Duration(unit.arrow()))?, bound(starts)?, bound(ends)?, partitions, offsets]);
        let records = arrow::array::RecordBatch::try_new(schema, columns)?;
        Ok(batch.with_records(records))
    }
}

/// Partition and offset of each row; null of rows that come from no partition, as they are made of many.
fn origins(batch: &Batch) -> (ArrayRef, ArrayRef) {
    let found = batch.origins.of_rows(&batch.segments, batch.rows());
    let partitions: UInt32Array = found.iter().map(|origin| origin.map(|(partition, _)| partition.0)).collect();
    let offsets: UInt64Array = found.iter().map(|origin| origin.map(|(_, offset)| offset)).collect();
    (Arc::new(partitions), Arc::new(offsets))
}

/// The columns of late rows of a step that takes in `input`, whose event time counts `unit`s: those that went in, then
///
/// * `late_by`: by how much the watermark, as it was when the row came, is past its event time (a duration);
/// * `missed_start` and `missed_end`: the last window that could have counted it, null of steps without windows;
/// * `partition` and `offset`: where it stands in the source, as quarantined rows say it too: the position of its first byte in files and
///   connections of text, after unpacking, the offset of its record in Kafka, which several rows may share, the number of its record or row elsewhere.
///
/// Rows know their place behind every step that puts out those it takes in: filters, columns, detectors and `dedup`. Behind windows without
/// revisions, rolling ones too, no row is late. `partition` and `offset` are null behind the two steps whose rows are new ones: a process emits
/// what it likes, whenever it likes, and a result of a window with allowed lateness or early results is made of many rows.
///
/// Where a column of the input has one of these names, the name gets a `_` behind it.
pub fn late_schema(input: &Schema, unit: Unit) -> SchemaRef {
    let timestamp = DataType::Timestamp(unit.arrow(), None);
    let added = [
        ("late_by", DataType::Duration(unit.arrow()), false),
        ("missed_start", timestamp.clone(), true),
        ("missed_end", timestamp, true),
        ("partition", DataType::UInt32, true),
        ("offset", DataType::UInt64, true),
    ];
    let mut fields = input.fields().to_vec();
    for (name, data_type, nullable) in added {
        let mut name = name.to_owned();
        while fields.iter().any(|field| *field.name() == name) {
            name.push('_');
        }
        fields.push(Arc::new(Field::new(name, data_type, nullable)));
    }
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::{DurationMillisecondType, TimestampMillisecondType, UInt32Type, UInt64Type};

    use super::*;
    use crate::batch::{EventTime, PartitionId, Segment};

    #[test]
    fn a_late_row_says_by_how_much_what_it_missed_and_where_it_came_from() {
        let offsets: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let records = RecordBatch::try_from_iter([("offset", offsets)]).unwrap();
        let watermarks = vec![NONE, NONE, 60, 60].into();
        let time = EventTime { times: vec![10, 90, 30, 40].into(), watermarks: Some(watermarks), earliest: 10, latest: 90 };
        let segment = |partition, rows, offset| Segment { partition: PartitionId(partition), rows, offset };
        let segments = vec![segment(3, 2, 100), segment(5, 2, 700)];
        let batch = Batch { time: Some(time), segments, ..Batch::new(records, 0, 0) };
        let mut keys = KeyColumns::new(&["offset".to_owned()], batch.records.schema_ref(), 10).unwrap();
        let late = Late::of(&batch, &BooleanArray::from(vec![true, false, true, true]), 50, &mut keys).unwrap();
        assert_eq!(late.key_groups().len(), 3);
        let records = late.missed(|time| (time / 20 * 20, time / 20 * 20 + 20)).into_batch(Unit::Millisecond).unwrap().records;
        let names: Vec<&str> = records.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["offset", "late_by", "missed_start", "missed_end", "partition", "offset_"]);
        assert_eq!(records.column(1).as_primitive::<DurationMillisecondType>().values(), &[40, 30, 20]);
        assert_eq!(records.column(2).as_primitive::<TimestampMillisecondType>().values(), &[0, 20, 40]);
        assert_eq!(records.column(3).as_primitive::<TimestampMillisecondType>().values(), &[20, 40, 60]);
        assert_eq!(records.column(4).as_primitive::<UInt32Type>().values(), &[3, 5, 5]);
        assert_eq!(records.column(5).as_primitive::<UInt64Type>().values(), &[100, 700, 701]);
        let results = Batch { segments: Vec::new(), ..batch };
        let late = Late::of(&results, &BooleanArray::from(vec![true; 4]), 50, &mut keys).unwrap();
        let records = late.into_batch(Unit::Millisecond).unwrap().records;
        assert!((2..6).all(|column| records.column(column).null_count() == 4), "neither a window nor an origin");
    }
}
