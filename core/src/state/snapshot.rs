//! The state of a pipeline at one moment, and its bytes.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::bytes::{Reader, Writer, damaged};
use super::saved::Saved;
use crate::error::{Error, Result};

/// What the bytes of a snapshot begin with.
const MAGIC: &[u8; 8] = b"thalwegs";

/// The version of the bytes. It changes with the form of any state, and with the version of Arrow whose row format some values have.
const VERSION: u64 = 1;

/// The state of all steps of a pipeline between two batches, with the names of the steps.
///
/// It says nothing of how far the source was read; whoever takes it notes that beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    steps: Vec<(String, Saved)>,
}

impl Snapshot {
    /// Adds the state of a step.
    pub(crate) fn push(&mut self, step: impl Into<String>, saved: Saved) {
        self.steps.push((step.into(), saved));
    }

    /// The states of the steps of a pipeline, which must be those of this snapshot.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if they are others.
    pub(crate) fn of(&self, steps: &[String]) -> Result<impl Iterator<Item = &Saved>> {
        let known = |place: usize| self.steps.get(place).map(|(step, _)| step.as_str());
        let other = (0..steps.len().max(self.steps.len())).find(|&place| known(place) != steps.get(place).map(String::as_str));
        if let Some(place) = other {
            let of = |step: Option<&str>| step.map_or("nothing".to_owned(), |step| format!("`{step}`"));
            return Err(Error::config(format!(
                "the snapshot is of another pipeline: its step {} is {}, here it is {}; restore it into the pipeline that it was taken of",
                place + 1,
                of(known(place)),
                of(steps.get(place).map(String::as_str))
            )));
        }
        Ok(self.steps.iter().map(|(_, saved)| saved))
    }

    /// The snapshot as bytes: a version, the steps with their tables as Arrow streams, and a checksum.
    ///
    /// # Errors
    /// If Arrow cannot write a table, which would be a defect.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::default();
        writer.words(&[u64::from_le_bytes(*MAGIC), VERSION, self.steps.len() as u64]);
        for (step, saved) in &self.steps {
            writer.bytes(step.as_bytes());
            writer.word(saved.marks().len() as u64);
            for (name, value) in saved.marks() {
                writer.bytes(name.as_bytes());
                writer.word(*value as u64);
            }
            writer.word(saved.tables().len() as u64);
            for (name, table) in saved.tables() {
                writer.bytes(name.as_bytes());
                writer.bytes(&write(table)?);
            }
        }
        let mut bytes = writer.take();
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// The snapshot that was written as `bytes`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if they are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot> {
        let mut start = Reader::new(bytes);
        if start.word().ok() != Some(u64::from_le_bytes(*MAGIC)) {
            return Err(damaged("it does not begin as one"));
        }
        match start.word()? {
            VERSION => {}
            other => return Err(damaged(&format!("it is of version {other}, this library reads version {VERSION}"))),
        }
        let (body, sum) = bytes.split_at(bytes.len() - 8);
        if body.len() < 16 || checksum(body).to_le_bytes() != sum {
            return Err(damaged("its checksum is not that of its bytes"));
        }
        let mut reader = Reader::new(&body[16..]);
        let mut snapshot = Snapshot::default();
        for _ in 0..reader.count(24)? {
            let step = text(reader.bytes()?)?;
            let mut saved = Saved::default();
            for _ in 0..reader.count(16)? {
                let name = text(reader.bytes()?)?;
                saved.mark(&name, reader.word()? as i64);
            }
            for _ in 0..reader.count(16)? {
                let name = text(reader.bytes()?)?;
                saved.insert(name, read(reader.bytes()?)?)?;
            }
            snapshot.push(step, saved);
        }
        reader.end()?;
        Ok(snapshot)
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged("a name is not UTF-8"))
}

fn write(table: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), table.schema_ref())?;
    writer.write(table)?;
    Ok(writer.into_inner()?)
}

fn read(bytes: &[u8]) -> Result<RecordBatch> {
    let unreadable = |error: arrow::error::ArrowError| damaged("a table is no Arrow stream").with_source(error);
    let mut reader = StreamReader::try_new(bytes, None).map_err(unreadable)?;
    let table = reader.next().ok_or_else(|| damaged("a table is empty"))?;
    table.map_err(unreadable)
}

/// A sum that differs where a few bytes do: against accidents, not against malice.
fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    bytes.chunks(8).fold(bytes.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::UInt8Array;
    use arrow::compute::kernels::cmp::lt;
    use arrow::compute::not;

    use super::super::saved::numbers;
    use super::*;

    fn snapshot() -> Snapshot {
        let mut saved = Saved::default();
        saved.mark("watermark", -5);
        saved.add("times", vec![3, 200], vec![numbers("time", vec![7, 8])]).unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.push("filter", Saved::default());
        snapshot.push("dedup", saved);
        snapshot
    }

    #[test]
    fn bytes_bring_the_snapshot_back_or_say_what_is_wrong() {
        let bytes = snapshot().to_bytes().unwrap();
        assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), snapshot());
        for place in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[place] ^= 1;
            let why = Snapshot::from_bytes(&wrong).unwrap_err().to_string();
            assert!(why.contains("the snapshot cannot be read"), "{place}: {why}");
        }
        (0..bytes.len()).for_each(|cut| assert!(Snapshot::from_bytes(&bytes[..cut]).is_err(), "{cut}"));
    }

    #[test]
    fn rows_part_and_add_up() {
        let saved = &snapshot().steps[1].1;
        let low = |table: &RecordBatch| lt(&table.column(0), &UInt8Array::new_scalar(128)).unwrap();
        let [low, high] =
            [saved.select(|table| Ok(low(table))), saved.select(|table| Ok(not(&low(table)).unwrap()))].map(|part| part.unwrap());
        assert_eq!(low.table("times").unwrap().numbers("time").unwrap().values(), &[7]);
        let mut whole = low;
        whole.merge(high).unwrap();
        assert_eq!(whole, *saved);
    }

    #[test]
    fn another_pipeline_is_refused() {
        let steps = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(snapshot().of(&steps(&["filter", "dedup"])).unwrap().count(), 2);
        let why = |names: &[&str]| snapshot().of(&steps(names)).map(|_| ()).unwrap_err().to_string();
        assert!(why(&["filter"]).contains("its step 2 is `dedup`, here it is nothing"));
        assert!(why(&["filter", "window"]).contains("its step 2 is `dedup`, here it is `window`"));
    }
}
