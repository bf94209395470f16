//! Results to a function.

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Sink;
use crate::error::Result;

/// Calls a function with each batch.
///
/// **Guarantee:** at least once. The function is called as results come, before any commit, and what it does cannot be
/// taken back: after a crash and a restart it is called again with the results since the last checkpoint.
pub struct Callback<F>(F);

impl<F: FnMut(&RecordBatch) -> Result<()> + Send> Callback<F> {
    /// A sink that calls `function`; its error ends the pipeline.
    pub fn new(function: F) -> Callback<F> {
        Callback(function)
    }
}

impl<F: FnMut(&RecordBatch) -> Result<()> + Send> Sink for Callback<F> {
    fn open(&mut self, _schema: &SchemaRef) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match batch.num_rows() {
            0 => Ok(()),
            _ => (self.0)(batch),
        }
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}

impl<F> fmt::Debug for Callback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;
    use crate::error::Error;

    #[test]
    fn is_called_once_per_batch_and_its_error_is_passed_on() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
        let mut rows = 0;
        let mut sink = Callback::new(|batch: &RecordBatch| {
            rows += batch.num_rows();
            if rows > 3 { Err(Error::connector("the pager is off")) } else { Ok(()) }
        });
        sink.open(&batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        sink.write(&batch.slice(0, 0)).unwrap();
        assert_eq!(sink.write(&batch).unwrap_err().to_string(), "the pager is off");
        sink.abort();
        assert_eq!(rows, 4);
    }
}
