//! Typed rows to columns: the events of a Rust program, transposed without parsing.
//!
//! [`event!`](crate::event) declares a row type; a [`Transposer`] collects rows of it and gives [`RecordBatch`]es.
//!
//! ```
//! use thalweg::format::pod::Transposer;
//!
//! thalweg::event! {
//!     /// A card is charged.
//!     pub struct Payment {
//!         pub ts: i64 as timestamp_ms,
//!         pub card: u64,
//!         pub amount: f64,
//!     }
//! }
//!
//! let mut columns = Transposer::<Payment>::new(1_024)?;
//! columns.push_rows(&[Payment { ts: 1_700_000_000_000, card: 7, amount: 9.5 }]);
//! assert_eq!(columns.take()?.num_columns(), 3);
//! # Ok::<(), thalweg::error::Error>(())
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BooleanArray, RecordBatch, make_array};
use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::time::Unit;

/// Rows that are transposed together. The columns are gathered one after the other, so a block should stay in the L1 cache
/// from the first to the last: this many rows of 64 bytes are 16 KiB.
const BLOCK_ROWS: usize = 256;

#[doc(hidden)]
pub use bytemuck;

/// A row type: plain bytes with columns at known places. [`event!`](crate::event) writes this for you.
pub trait Event: bytemuck::Pod + Send {
    /// The columns, in order.
    const FIELDS: &'static [EventField];
}

/// One column of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventField {
    /// The column's name.
    pub name: &'static str,
    /// Where in the row its first byte is.
    pub offset: usize,
    /// What its bytes are.
    pub kind: FieldKind,
}

/// What the bytes of a field are, in this machine's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// `i8`.
    I8,
    /// `i16`.
    I16,
    /// `i32`.
    I32,
    /// `i64`.
    I64,
    /// `u8`.
    U8,
    /// `u16`.
    U16,
    /// `u32`.
    U32,
    /// `u64`.
    U64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// A `u8` that is false if zero and true otherwise.
    Bool8,
    /// `i64` milliseconds since the Unix epoch.
    TimestampMs,
    /// `i64` microseconds since the Unix epoch.
    TimestampUs,
    /// `i64` nanoseconds since the Unix epoch.
    TimestampNs,
    /// So many bytes: an identifier, a hash, an address.
    FixedBytes(usize),
}

impl FieldKind {
    /// How many bytes of the row.
    pub const fn bytes(self) -> usize {
        use FieldKind::*;
        match self {
            I8 | U8 | Bool8 => 1,
            I16 | U16 => 2,
            I32 | U32 | F32 => 4,
            I64 | U64 | F64 | TimestampMs | TimestampUs | TimestampNs => 8,
            FixedBytes(bytes) => bytes,
        }
    }

    /// The Arrow type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            FieldKind::I8 => DataType::Int8,
            FieldKind::I16 => DataType::Int16,
            FieldKind::I32 => DataType::Int32,
            FieldKind::I64 => DataType::Int64,
            FieldKind::U8 => DataType::UInt8,
            FieldKind::U16 => DataType::UInt16,
            FieldKind::U32 => DataType::UInt32,
            FieldKind::U64 => DataType::UInt64,
            FieldKind::F32 => DataType::Float32,
            FieldKind::F64 => DataType::Float64,
            FieldKind::Bool8 => DataType::Boolean,
            FieldKind::TimestampMs => DataType::Timestamp(Unit::Millisecond.arrow(), None),
            FieldKind::TimestampUs => DataType::Timestamp(Unit::Microsecond.arrow(), None),
            FieldKind::TimestampNs => DataType::Timestamp(Unit::Nanosecond.arrow(), None),
            FieldKind::FixedBytes(bytes) => DataType::FixedSizeBinary(i32::try_from(bytes).unwrap_or(i32::MAX)),
        }
    }
}

/// Types that [`event!`](crate::event) knows, each with its column.
pub trait FieldType {
    /// The column of this type.
    const KIND: FieldKind;
}

macro_rules! field_types {
    ($($type:ty => $kind:ident),+) => {
        $(impl FieldType for $type {
            const KIND: FieldKind = FieldKind::$kind;
        })+
    };
}

field_types!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64, f32 => F32, f64 => F64);

impl<const N: usize> FieldType for [u8; N] {
    const KIND: FieldKind = FieldKind::FixedBytes(N);
}

/// What a field declared with `as` may be, by the type that it is stored in.
pub trait FieldAs {
    /// `as timestamp_ms`.
    const TIMESTAMP_MS: FieldKind;
    /// `as timestamp_us`.
    const TIMESTAMP_US: FieldKind;
    /// `as timestamp_ns`.
    const TIMESTAMP_NS: FieldKind;
}

impl FieldAs for i64 {
    const TIMESTAMP_MS: FieldKind = FieldKind::TimestampMs;
    const TIMESTAMP_US: FieldKind = FieldKind::TimestampUs;
    const TIMESTAMP_NS: FieldKind = FieldKind::TimestampNs;
}

/// What a `u8` declared `as bool` is.
pub trait FieldAsBool {
    /// `as bool`.
    const BOOL: FieldKind;
}

impl FieldAsBool for u8 {
    const BOOL: FieldKind = FieldKind::Bool8;
}

/// A field's name without the `r#` that lets it be a keyword.
#[doc(hidden)]
pub const fn column_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares a row type that implements [`Event`](crate::format::pod::Event): `#[repr(C)]`, `Copy`, `Pod`.
///
/// Fields are `i8` to `i64`, `u8` to `u64`, `f32`, `f64` and `[u8; N]` (N up to 32, and 48, 64, 96, 128 and on). An `i64` may be declared `as timestamp_ms`,
/// `timestamp_us` or `timestamp_ns`, a `u8` `as bool`. A layout with padding does not compile: order the fields from the widest
/// to the narrowest, or fill the gap with a field.
///
/// ```
/// thalweg::event! {
///     /// What a device reports.
///     pub struct Reading {
///         pub ts: i64 as timestamp_us,
///         pub device: [u8; 4],
///         pub celsius: f32,
///     }
/// }
/// let reading = Reading { ts: 0, device: *b"d001", celsius: 21.5 };
/// ```
#[macro_export]
macro_rules! event {
    (@kind $type:ty) => { <$type as $crate::format::pod::FieldType>::KIND };
    (@kind $type:ty, timestamp_ms) => { <$type as $crate::format::pod::FieldAs>::TIMESTAMP_MS };
    (@kind $type:ty, timestamp_us) => { <$type as $crate::format::pod::FieldAs>::TIMESTAMP_US };
    (@kind $type:ty, timestamp_ns) => { <$type as $crate::format::pod::FieldAs>::TIMESTAMP_NS };
    (@kind $type:ty, bool) => { <$type as $crate::format::pod::FieldAsBool>::BOOL };
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_visibility:vis $field:ident: $type:ty $(as $kind:ident)?),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, $crate::format::pod::bytemuck::Pod, $crate::format::pod::bytemuck::Zeroable)]
        #[bytemuck(crate = "::thalweg::format::pod::bytemuck")]
        #[repr(C)]
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $type,)+
        }

        impl $crate::format::pod::Event for $name {
            const FIELDS: &'static [$crate::format::pod::EventField] = &[$(
                $crate::format::pod::EventField {
                    name: $crate::format::pod::column_name(::core::stringify!($field)),
                    offset: ::core::mem::offset_of!($name, $field),
                    kind: $crate::event!(@kind $type $(, $kind)?),
                },
            )+];
        }
    };
}

/// The columns of an event type; none of them has nulls.
pub fn schema<E: Event>() -> SchemaRef {
    let field = |field: &EventField| Field::new(field.name, field.kind.data_type(), false);
    Arc::new(Schema::new(E::FIELDS.iter().map(field).collect::<Vec<_>>()))
}

/// Collects rows as columns.
pub struct Transposer<E> {
    schema: SchemaRef,
    /// One per field: its bytes, row after row.
    columns: Vec<MutableBuffer>,
    rows: usize,
    /// Rows for which a batch has space from the start.
    capacity: usize,
    event: PhantomData<fn(E)>,
}

impl<E: Event> Transposer<E> {
    /// A transposer whose batches have space for `capacity` rows from the start.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the event has no fields, two of one name, one of no bytes, or one that does not
    /// lie within the row; those declared by [`event!`](crate::event) can only have one of no bytes, `[u8; 0]`.
    pub fn new(capacity: usize) -> Result<Transposer<E>> {
        let name = std::any::type_name::<E>();
        if E::FIELDS.is_empty() {
            return Err(Error::schema(format!("the event `{name}` has no fields; give it at least one")));
        }
        for (index, field) in E::FIELDS.iter().enumerate() {
            let bytes = field.kind.bytes();
            if bytes == 0 || i32::try_from(bytes).is_err() {
                let field = field.name;
                return Err(Error::schema(format!("`{field}` of the event `{name}` has {bytes} bytes; it may have 1 to {}", i32::MAX)));
            }
            if field.offset.checked_add(bytes).is_none_or(|end| end > size_of::<E>()) {
                let (field, offset, size) = (field.name, field.offset, size_of::<E>());
                return Err(Error::schema(format!(
                    "`{field}` of the event `{name}` is said to be the {bytes} bytes at {offset}, but a row has {size} bytes; use offset_of!"
                )));
            }
            if E::FIELDS[..index].iter().any(|other| other.name == field.name) {
                return Err(Error::schema(format!("the event `{name}` has two fields named `{}`; rename one", field.name)));
            }
        }
        Ok(Transposer { schema: schema::<E>(), columns: buffers::<E>(capacity), rows: 0, capacity, event: PhantomData })
    }

    /// The columns of the batches to come.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Adds `rows` at the end.
    pub fn push_rows(&mut self, rows: &[E]) {
        for block in rows.chunks(BLOCK_ROWS) {
            for (field, column) in E::FIELDS.iter().zip(&mut self.columns) {
                let start = column.len();
                let bytes = field.kind.bytes();
                column.resize(start + block.len() * bytes, 0);
                let into = &mut column.as_slice_mut()[start..];
                match bytes {
                    1 => gather::<E, 1>(block, field.offset, into),
                    2 => gather::<E, 2>(block, field.offset, into),
                    4 => gather::<E, 4>(block, field.offset, into),
                    8 => gather::<E, 8>(block, field.offset, into),
                    _ => gather_bytes(block, field.offset, bytes, into),
                }
            }
        }
        self.rows += rows.len();
    }

    /// How many rows [`Transposer::take`] would give.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes the rows so far.
    ///
    /// # Errors
    /// If the columns cannot be built, which is a defect of this type.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let columns = std::mem::replace(&mut self.columns, buffers::<E>(self.capacity));
        let rows = std::mem::take(&mut self.rows);
        let arrays = E::FIELDS.iter().zip(columns).map(|(field, column)| array(field.kind, column, rows)).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

impl<E> fmt::Debug for Transposer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transposer").field("schema", &self.schema).field("rows", &self.rows).finish_non_exhaustive()
    }
}

fn buffers<E: Event>(rows: usize) -> Vec<MutableBuffer> {
    E::FIELDS.iter().map(|field| MutableBuffer::with_capacity(rows.saturating_mul(field.kind.bytes()))).collect()
}

/// Copies `N` bytes at `offset` of each row to `into`. The width is known to the compiler, so each copy is one load and one store.
fn gather<E: Event, const N: usize>(rows: &[E], offset: usize, into: &mut [u8]) {
    let rows = bytemuck::cast_slice::<E, u8>(rows).chunks_exact(size_of::<E>());
    for (row, value) in rows.zip(into.as_chunks_mut::<N>().0) {
        if let Some(bytes) = row[offset..].first_chunk() {
            *value = *bytes;
        }
    }
}

/// [`gather`] for any width.
fn gather_bytes<E: Event>(rows: &[E], offset: usize, width: usize, into: &mut [u8]) {
    let rows = bytemuck::cast_slice::<E, u8>(rows).chunks_exact(size_of::<E>());
    for (row, value) in rows.zip(into.chunks_exact_mut(width)) {
        value.copy_from_slice(&row[offset..offset + width]);
    }
}

fn array(kind: FieldKind, column: MutableBuffer, rows: usize) -> Result<ArrayRef> {
    if kind == FieldKind::Bool8 {
        let bytes = column.as_slice();
        return Ok(Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(rows, |row| bytes[row] != 0), None)));
    }
    Ok(make_array(ArrayData::builder(kind.data_type()).len(rows).add_buffer(column.into()).build()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{
        Array, AsArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
        TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    };
    use proptest::prelude::*;

    use super::*;

    crate::event! {
        struct Every {
            ms: i64 as timestamp_ms,
            us: i64 as timestamp_us,
            ns: i64 as timestamp_ns,
            long: i64,
            id: u64,
            amount: f64,
            int: i32,
            count: u32,
            ratio: f32,
            short: i16,
            port: u16,
            tiny: i8,
            r#type: u8,
            fraud: u8 as bool,
            hash: [u8; 5],
        }
    }

    fn row(seed: u64) -> Every {
        // Every byte of the row from its own bits of a product, so that a wrong offset or width cannot go unseen.
        let mut bytes = [0; size_of::<Every>()];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (seed.wrapping_add(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        let mut row: Every = bytemuck::pod_read_unaligned(&bytes);
        (row.fraud, row.amount, row.ratio) = ((seed % 3) as u8, seed as f64 / 3.0, seed as f32 / 7.0);
        row
    }

    /// The slow twin: each column from the rows' fields by name.
    fn expected(rows: &[Every]) -> RecordBatch {
        macro_rules! column {
            ($array:ident, $field:ident) => {
                Arc::new($array::from(rows.iter().map(|row| row.$field).collect::<Vec<_>>())) as ArrayRef
            };
        }
        let hashes = FixedSizeBinaryArray::try_new(5, rows.iter().flat_map(|row| row.hash).collect::<Vec<u8>>().into(), None).unwrap();
        let columns = vec![
            column!(TimestampMillisecondArray, ms),
            column!(TimestampMicrosecondArray, us),
            column!(TimestampNanosecondArray, ns),
            column!(Int64Array, long),
            column!(UInt64Array, id),
            column!(Float64Array, amount),
            column!(Int32Array, int),
            column!(UInt32Array, count),
            column!(Float32Array, ratio),
            column!(Int16Array, short),
            column!(UInt16Array, port),
            column!(Int8Array, tiny),
            column!(UInt8Array, r#type),
            Arc::new(BooleanArray::from(rows.iter().map(|row| row.fraud != 0).collect::<Vec<_>>())) as ArrayRef,
            Arc::new(hashes) as ArrayRef,
        ];
        RecordBatch::try_new(schema::<Every>(), columns).unwrap()
    }

    #[test]
    fn every_kind_of_field_arrives() {
        let rows: Vec<_> = (0..3).map(row).collect();
        let mut columns = Transposer::new(2).unwrap();
        columns.push_rows(&rows[..1]);
        columns.push_rows(&rows[1..]);
        assert_eq!(columns.rows(), 3);
        let batch = columns.take().unwrap();
        assert_eq!(batch, expected(&rows));
        assert_eq!(batch.column_by_name("fraud").unwrap().as_boolean().iter().flatten().collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(batch.column_by_name("type").unwrap().data_type(), &DataType::UInt8);
        assert_eq!((columns.rows(), columns.take().unwrap().num_rows()), (0, 0));
    }

    #[test]
    fn the_schema_is_in_the_order_of_the_fields() {
        crate::event! {
            pub struct Payment { ts: i64 as timestamp_ms, card: u64, amount: f64 }
        }
        let expected = Schema::new(vec![
            Field::new("ts", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None), false),
            Field::new("card", DataType::UInt64, false),
            Field::new("amount", DataType::Float64, false),
        ]);
        assert_eq!(*schema::<Payment>(), expected);
        let payment = Payment { ts: 1, card: 2, amount: 3.0 };
        assert_eq!((payment.ts, payment.card, payment.amount), (1, 2, 3.0));
    }

    macro_rules! refused {
        ($fields:expr, $message:literal) => {{
            #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
            #[repr(C)]
            struct Bad(u32);
            impl Event for Bad {
                const FIELDS: &'static [EventField] = $fields;
            }
            let message = Transposer::<Bad>::new(1).unwrap_err().to_string();
            assert!(message.contains($message), "{message}");
        }};
    }

    #[test]
    fn a_field_that_cannot_be_is_named() {
        const fn field(name: &'static str, offset: usize, kind: FieldKind) -> EventField {
            EventField { name, offset, kind }
        }
        refused!(&[], "has no fields");
        refused!(&[field("a", 1, FieldKind::U32)], "`a` of the event");
        refused!(&[field("a", usize::MAX, FieldKind::U32)], "but a row has 4 bytes");
        refused!(&[field("a", 0, FieldKind::FixedBytes(0))], "has 0 bytes");
        refused!(&[field("a", 0, FieldKind::U16), field("a", 2, FieldKind::U16)], "two fields named `a`");
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_columns(seeds in proptest::collection::vec(any::<u64>(), 0..700), piece in 1usize..600) {
            let rows: Vec<_> = seeds.into_iter().map(row).collect();
            let mut columns = Transposer::new(16).unwrap();
            rows.chunks(piece).for_each(|piece| columns.push_rows(piece));
            prop_assert_eq!(columns.take().unwrap(), expected(&rows));
        }
    }
}
