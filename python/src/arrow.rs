//! The Arrow border: columns come in and go out as pointers, through the PyCapsule interface.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use pyo3_arrow::ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule};
use pyo3_arrow::input::AnyRecordBatch;
use pyo3_arrow::{PyField, PySchema};
use thalweg::format::infer::parse_type;
use thalweg::{Error, Stream};

use crate::error::{detached, raise};

/// A stream over any object of the PyCapsule interface. What has a length (tables, frames, batches) is taken over as
/// it is and can be read again; what has none is a reader that can be read once.
pub fn stream_of(data: &Bound<'_, PyAny>) -> PyResult<Stream> {
    let py = data.py();
    if !data.hasattr("__arrow_c_array__")? && !data.hasattr("__arrow_c_stream__")? {
        let kind = data.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "from_arrow takes an object with __arrow_c_stream__ or __arrow_c_array__ (pyarrow, polars, pandas >= 2.2, …), not {kind}"
        )));
    }
    let reader = data.extract::<AnyRecordBatch>().and_then(AnyRecordBatch::into_reader).map_err(|error| not_a_table(py, error))?;
    if !data.hasattr("__len__")? {
        return Ok(Stream::from_reader(reader));
    }
    detached(py, move || {
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
        Ok(Stream::from_batches(schema, batches))
    })
}

/// What pyo3-arrow says about columns that do not come as a table, as an error of ours.
fn not_a_table(py: Python<'_>, error: PyErr) -> PyErr {
    match error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<pyo3::exceptions::PyValueError>(py) {
        true => raise(Error::schema(format!("the object does not hold columns with names: {}", error.value(py)))),
        false => error,
    }
}

/// Columns as `{"ts": "timestamp[ms]", …}`, or any object with `__arrow_c_schema__`.
pub fn schema_from(value: &Bound<'_, PyAny>) -> PyResult<SchemaRef> {
    let Ok(columns) = value.cast::<PyDict>() else {
        if value.hasattr("__arrow_c_schema__")? {
            return Ok(value.extract::<PySchema>()?.into_inner());
        }
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a schema must be a dict of names and types or an Arrow schema, not {kind}")));
    };
    let mut fields = Vec::with_capacity(columns.len());
    for (name, data_type) in columns {
        let name: String = name.extract()?;
        let data_type = type_from(&data_type).map_err(|error| in_column(value.py(), &name, error))?;
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A type as `"float64"`, or any object with `__arrow_c_schema__`.
pub fn type_from(value: &Bound<'_, PyAny>) -> PyResult<DataType> {
    match value.extract::<String>() {
        Ok(text) => parse_type(&text).map_err(raise),
        Err(_) if value.hasattr("__arrow_c_schema__")? => Ok(value.extract::<PyField>()?.into_inner().data_type().clone()),
        Err(_) => Err(PyTypeError::new_err("a type must be a str such as \"float64\" or an Arrow type")),
    }
}

/// The same error, naming the column whose type is wrong.
fn in_column(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    match error.is_instance_of::<PyTypeError>(py) {
        true => PyTypeError::new_err(format!("column `{name}`: {}", error.value(py))),
        false => raise(Error::schema(format!("column `{name}`: {}", error.value(py)))),
    }
}

/// A capsule that hands out `batches` without a copy.
pub fn stream_capsule<'py>(
    py: Python<'py>,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    requested_schema: Option<Bound<'py, PyCapsule>>,
) -> PyResult<Bound<'py, PyCapsule>> {
    let field = Field::new_struct("", schema.fields().clone(), false).with_metadata(schema.metadata().clone());
    let arrays: Vec<_> = batches.iter().map(|batch| Ok(Arc::new(StructArray::from(batch.clone())) as ArrayRef)).collect();
    Ok(to_stream_pycapsule(py, Box::new(ArrayIterator::new(arrays, Arc::new(field))), requested_schema)?)
}

/// Names and types of columns: a read-only mapping that Arrow libraries understand.
///
/// Example:
///     >>> dict(tw.from_arrow(table).schema)
///     {'ts': 'timestamp[ms]', 'card': 'string', 'amount': 'float64'}
#[pyclass(name = "Schema", module = "thalweg", frozen, mapping)]
pub struct PyColumns(pub SchemaRef);

#[pymethods]
impl PyColumns {
    /// The names of the columns, in order.
    fn keys(&self) -> Vec<String> {
        self.0.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The types of the columns, in order.
    fn values(&self) -> Vec<String> {
        self.0.fields().iter().map(|field| type_name(field.data_type())).collect()
    }

    /// Names with types, in order.
    pub fn items(&self) -> Vec<(String, String)> {
        self.keys().into_iter().zip(self.values()).collect()
    }

    fn __getitem__(&self, name: &str) -> PyResult<String> {
        let field = self.0.field_with_name(name).map_err(|_| PyKeyError::new_err(name.to_owned()))?;
        Ok(type_name(field.data_type()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.0.index_of(&name).is_ok())
    }

    fn __len__(&self) -> usize {
        self.0.fields().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys().into_pyobject(py)?.call_method0("__iter__")
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        match other.cast::<PyColumns>() {
            Ok(columns) => self.items() == columns.get().items(),
            Err(_) => schema_from(other).is_ok_and(|schema| PyColumns(schema).items() == self.items()),
        }
    }

    fn __repr__(&self) -> String {
        let columns: Vec<_> = self.items().into_iter().map(|(name, data_type)| format!("{name}: {data_type}")).collect();
        format!("Schema({})", columns.join(", "))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, &*self.0)?)
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// The name of a type as pyarrow writes it.
pub fn type_name(data_type: &DataType) -> String {
    let list = |kind: &str, item: &FieldRef| format!("{kind}<{}>", type_name(item.data_type()));
    match data_type {
        DataType::Boolean => "bool".to_owned(),
        DataType::Float16 => "float16".to_owned(),
        DataType::Float32 => "float32".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::LargeUtf8 => "large_string".to_owned(),
        DataType::Utf8View => "string_view".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::LargeBinary => "large_binary".to_owned(),
        DataType::BinaryView => "binary_view".to_owned(),
        DataType::Timestamp(unit, None) => format!("timestamp[{}]", unit_name(*unit)),
        DataType::Timestamp(unit, Some(zone)) => format!("timestamp[{}, tz={zone}]", unit_name(*unit)),
        DataType::Duration(unit) => format!("duration[{}]", unit_name(*unit)),
        DataType::Time32(unit) => format!("time32[{}]", unit_name(*unit)),
        DataType::Time64(unit) => format!("time64[{}]", unit_name(*unit)),
        DataType::Date32 => "date32".to_owned(),
        DataType::Date64 => "date64".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "month_day_nano_interval".to_owned(),
        DataType::List(item) => list("list", item),
        DataType::LargeList(item) => list("large_list", item),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|field| format!("{}: {}", field.name(), type_name(field.data_type()))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        DataType::Dictionary(key, value) => format!("dictionary<{}, {}>", type_name(key), type_name(value)),
        DataType::Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        other => other.to_string().to_lowercase(),
    }
}
