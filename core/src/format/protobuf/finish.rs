//! What was built becomes arrays, and building begins anew.

use std::mem::take;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;

use super::node::{Bytes, Data, Map, Node};
use super::shape::Shape;

type Arrays = Result<Vec<ArrayRef>, ArrowError>;

impl Shape {
    /// The columns, and how many rows they have.
    pub(super) fn finish(&mut self) -> Result<(Vec<ArrayRef>, usize), ArrowError> {
        let arrays: Arrays = self.nodes.iter_mut().zip(self.fields.iter()).map(|(node, field)| node.finish(field)).collect();
        Ok((arrays?, self.take_rows()))
    }

    fn structs(&mut self, validity: Option<NullBuffer>) -> Result<StructArray, ArrowError> {
        let (arrays, rows) = self.finish()?;
        match arrays.is_empty() {
            true => Ok(StructArray::new_empty_fields(rows, validity)),
            false => StructArray::try_new(self.fields.clone(), arrays, validity),
        }
    }
}

impl Node {
    fn finish(&mut self, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
        let nulls = self.validity.as_mut().map(|validity| NullBuffer::from(take(validity)));
        Ok(match &mut self.data {
            Data::Bool(scalar) => Arc::new(BooleanArray::new(take(&mut scalar.values).into(), nulls)),
            Data::Int32(scalar) => Arc::new(Int32Array::new(take(&mut scalar.values).into(), nulls)),
            Data::Int64(scalar) => Arc::new(Int64Array::new(take(&mut scalar.values).into(), nulls)),
            Data::UInt32(scalar) => Arc::new(UInt32Array::new(take(&mut scalar.values).into(), nulls)),
            Data::UInt64(scalar) => Arc::new(UInt64Array::new(take(&mut scalar.values).into(), nulls)),
            Data::Float32(scalar) => Arc::new(Float32Array::new(take(&mut scalar.values).into(), nulls)),
            Data::Float64(scalar) => Arc::new(Float64Array::new(take(&mut scalar.values).into(), nulls)),
            Data::Timestamp(timestamp) => Arc::new(TimestampNanosecondArray::new(take(&mut timestamp.values).into(), nulls)),
            Data::Enum(of) => {
                let keys = Int32Array::new(take(&mut of.keys).into(), nulls);
                let names = StringArray::from_iter_values(&of.names);
                of.reset();
                Arc::new(DictionaryArray::try_new(keys, Arc::new(names))?)
            }
            Data::Text(text) => {
                let Bytes { offsets, bytes, .. } = take(text);
                Arc::new(StringArray::try_new(offsets_of(offsets), bytes.into(), nulls)?)
            }
            Data::Binary(binary) => {
                let Bytes { offsets, bytes, .. } = take(binary);
                Arc::new(BinaryArray::try_new(offsets_of(offsets), bytes.into(), nulls)?)
            }
            Data::Wrapper(inner) => {
                // The wrapper says whether it is there, for what it wraps.
                inner.validity = nulls.map(|nulls| nulls.iter().collect());
                let array = inner.finish(field);
                inner.validity = None;
                array?
            }
            Data::Struct(shape, _) => Arc::new(shape.structs(nulls)?),
            Data::List(list) => {
                let DataType::List(item) = field.data_type() else { return Err(unlike(field)) };
                let values = list.item.finish(item)?;
                let offsets = offsets_of(std::mem::replace(&mut list.offsets, vec![0]));
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
            }
            Data::Map(map) => map.finish(field)?,
        })
    }
}

impl Map {
    fn finish(&mut self, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(entries_field, _) = field.data_type() else { return Err(unlike(field)) };
        let entries = self.entry.structs(None)?;
        let mut offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let mut repeated = take(&mut self.repeated);
        if repeated.is_empty() {
            return Ok(Arc::new(MapArray::try_new(Arc::clone(entries_field), offsets_of(offsets), entries, None, false)?));
        }
        repeated.sort_unstable();
        let mut kept = vec![true; arrow::array::Array::len(&entries)];
        repeated.iter().for_each(|&entry| kept[entry] = false);
        offsets.iter_mut().for_each(|offset| *offset -= repeated.partition_point(|&entry| entry < *offset as usize) as i32);
        let kept = filter(&entries, &BooleanArray::from(kept))?;
        let kept = arrow::array::AsArray::as_struct(&kept).clone();
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries_field), offsets_of(offsets), kept, None, false)?))
    }
}

/// Offsets that were made by adding up lengths.
fn offsets_of(offsets: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn unlike(field: &Field) -> ArrowError {
    ArrowError::SchemaError(format!("column `{}` is built as another type than {}", field.name(), field.data_type()))
}
