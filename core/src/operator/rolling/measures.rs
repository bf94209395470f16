//! The aggregates of rolling windows: which kernel answers each of them, over which column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, Float64Array, Int64Array, LargeBinaryArray, PrimitiveArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, SchemaRef};
use thalweg_kernels::placement::Rolling;
use thalweg_kernels::{
    Bits, Divisor, Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns, Value,
};

use crate::error::{Error, Result};
use crate::operator::aggregate::{Aggregate, Function, Inputs, Lane, Values};
use crate::operator::devices::{self, Devices};
use crate::state::{Reader, Writer, damaged};

/// The aggregates of one operator with the state of their windows.
pub(super) struct Measures {
    inputs: Inputs,
    groups: Vec<Group>,
    fields: Vec<Field>,
    extent: Extent,
    placed: Rolling,
}

/// Results that one kernel answers in one call.
struct Group {
    /// The column that the windows are over; without one, rows are counted.
    column: Option<usize>,
    kind: Kind,
    windows: Windows,
    results: Vec<Measure>,
}

/// One result: its function and its place among the results.
struct Measure {
    function: Function,
    place: usize,
}

enum Windows {
    Moments(RollingMoments),
    Order(RollingOrder),
    Sums(RollingSums),
}

/// Which windows a function is answered from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Moments(Frame),
    Order,
    Sums,
}

impl Kind {
    fn of(function: &Function, lane: Lane) -> Kind {
        match (function, lane) {
            (Function::Min | Function::Max, _) => Kind::Order,
            (Function::Sum, Lane::Int) => Kind::Sums,
            (Function::Zscore, _) => Kind::Moments(Frame::Preceding),
            _ => Kind::Moments(Frame::Including),
        }
    }

    fn windows(self, extent: Extent) -> Windows {
        match self {
            Kind::Moments(frame) => Windows::Moments(RollingMoments::new(extent, frame)),
            Kind::Order => Windows::Order(RollingOrder::new(extent, Frame::Including)),
            Kind::Sums => Windows::Sums(RollingSums::new(extent, Frame::Including)),
        }
    }
}

impl Measures {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or its type does not fit the function.
    pub fn new(aggregates: &[Aggregate], schema: &SchemaRef, extent: Extent) -> Result<Measures> {
        let mut measures = Measures {
            inputs: Inputs::new(schema),
            groups: Vec::new(),
            fields: Vec::new(),
            extent,
            placed: Rolling::new(&devices::unused()),
        };
        let mut kinds: Vec<(Option<usize>, Kind)> = Vec::new();
        for aggregate in aggregates {
            aggregate.check_sketch()?;
            let function = &aggregate.function;
            if !is_rolling(function) {
                return Err(Error::config(format!(
                    "{aggregate}: rolling windows know count, sum, mean, min, max, var, std and zscore; use windows of time for others"
                )));
            }
            let (column, lane) = match (&aggregate.column, &aggregate.condition) {
                (Some(name), _) => {
                    let (input, lane) = measures.inputs.numbers(aggregate, name)?;
                    (Some(input), lane)
                }
                (None, Some(_)) => (Some(measures.inputs.marks(aggregate)?), Lane::Int),
                (None, None) => (None, Lane::Int),
            };
            let data_type = match (function, &aggregate.column) {
                (Function::Count, _) | (_, None) => DataType::Int64,
                (Function::Sum, Some(_)) if lane == Lane::Int => DataType::Int64,
                (Function::Min | Function::Max, Some(name)) => measures.inputs.data_type(name)?,
                _ => DataType::Float64,
            };
            let measure = Measure { function: function.clone(), place: measures.fields.len() };
            measures.fields.push(Field::new(aggregate.name(), data_type, *function != Function::Count));
            let kind = (column, Kind::of(function, lane));
            match kinds.iter().position(|known| *known == kind) {
                Some(group) => measures.groups[group].results.push(measure),
                None => {
                    kinds.push(kind);
                    measures.groups.push(Group { column, kind: kind.1, windows: kind.1.windows(extent), results: vec![measure] });
                }
            }
        }
        Ok(measures)
    }

    /// Runs the kernels on these devices from now on.
    pub fn place(&mut self, devices: &Devices) {
        self.placed = Rolling::new(devices);
    }

    /// In words, where the kernels run and why.
    pub fn placement(&self) -> String {
        self.placed.explain()
    }

    /// The fields of the results, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Bytes of the windows.
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.windows.bytes()).sum()
    }

    /// Empties the windows of keys that are gone.
    pub fn forget(&mut self, slots: &[u32]) {
        for group in &mut self.groups {
            slots.iter().for_each(|&slot| group.windows.forget(slot));
        }
    }

    /// Whether most of the memory for rows is that of rows that have gone.
    pub fn is_sparse(&self) -> bool {
        self.groups.iter().any(|group| group.windows.is_sparse())
    }

    /// Moves the windows of the keys in `slots` together in this order, and forgets all others.
    ///
    /// # Errors
    /// If windows cannot be moved, which would be a defect.
    pub fn keep(&mut self, slots: &[u32]) -> Result<()> {
        let mut words = Vec::new();
        for group in &mut self.groups {
            let mut kept = group.kind.windows(self.extent);
            kept.reserve_slots(slots.len());
            for (to, &from) in (0u32..).zip(slots) {
                words.clear();
                group.windows.save(from, &mut words);
                kept.load(to, &words)?;
            }
            group.windows = kept;
        }
        Ok(())
    }

    /// The windows of the keys in `slots`, for a snapshot.
    pub fn save(&self, slots: &[u32]) -> LargeBinaryArray {
        let (mut out, mut words) = (Writer::default(), Vec::new());
        let mut save = |slot: u32| {
            for group in &self.groups {
                words.clear();
                group.windows.save(slot, &mut words);
                out.word(words.len() as u64);
                out.words(&words);
            }
            Some(out.take())
        };
        slots.iter().map(|&slot| save(slot)).collect()
    }

    /// Takes up the windows of a snapshot into `slots`, all below `keys`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if they are not such windows.
    pub fn load(&mut self, slots: &[u32], keys: usize, saved: &LargeBinaryArray) -> Result<()> {
        self.groups.iter_mut().for_each(|group| group.windows.reserve_slots(keys));
        for (&slot, state) in slots.iter().zip(saved) {
            let mut from = Reader::new(state.unwrap_or_default());
            for group in &mut self.groups {
                let words = (0..from.count(8)?).map(|_| from.word()).collect::<Result<Vec<u64>>>()?;
                group.windows.load(slot, &words)?;
            }
            from.end()?;
        }
        Ok(())
    }

    /// Takes rows into the windows of their keys, whose slots are all below `keys`; returns a column per aggregate. `times` are
    /// looked at for windows of time only.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if an unsigned value or a sum of integers does not fit `int64`.
    pub fn answer(&mut self, records: &RecordBatch, slots: &[u32], keys: usize, times: &[i64]) -> Result<Vec<ArrayRef>> {
        let values = self.inputs.values(records, &ScalarBuffer::from(Vec::new()))?;
        let mut answers: Vec<Option<ArrayRef>> = vec![None; self.fields.len()];
        for group in &mut self.groups {
            group.windows.reserve_slots(keys);
            let values = group.column.map(|column| &values[column]);
            let columns = group.windows.answer(&self.placed, &Rows { slots, times, values }, &group.results).map_err(|sum| {
                let name = group.results.first().map_or("", |result| self.fields[result.place].name());
                Error::schema(format!("`{name}` is {sum}, which does not fit int64; sum the column as float64 instead"))
            })?;
            for (result, column) in group.results.iter().zip(columns) {
                answers[result.place] = Some(column);
            }
        }
        let typed = |(column, field): (ArrayRef, &Field)| {
            Ok(if column.data_type() == field.data_type() { column } else { cast(&column, field.data_type())? })
        };
        answers.into_iter().flatten().zip(&self.fields).map(typed).collect()
    }
}

/// Whether the kernels of rolling windows answer a function.
fn is_rolling(function: &Function) -> bool {
    use Function::{Count, Max, Mean, Min, Std, Sum, Var, Zscore};
    matches!(function, Count | Sum | Mean | Min | Max | Var | Std | Zscore)
}

/// What a kernel is given.
struct Rows<'a> {
    slots: &'a [u32],
    times: &'a [i64],
    /// Without values, every row counts.
    values: Option<&'a Values>,
}

impl<'a> Rows<'a> {
    fn with<T>(&self, values: &'a [T], nulls: Option<&'a NullBuffer>) -> RollingRows<'a, T> {
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        let validity = nulls.map(|nulls| Bits { bytes: nulls.validity(), offset: nulls.offset(), len: nulls.len() });
        RollingRows { slots: self.slots, values, validity, times: self.times }
    }

    fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Windows {
    fn reserve_slots(&mut self, slots: usize) {
        match self {
            Windows::Moments(windows) => windows.reserve_slots(slots),
            Windows::Order(windows) => windows.reserve_slots(slots),
            Windows::Sums(windows) => windows.reserve_slots(slots),
        }
    }

    fn save(&self, slot: u32, words: &mut Vec<u64>) {
        match self {
            Windows::Moments(windows) => windows.save_slot(slot, words),
            Windows::Order(windows) => windows.save_slot(slot, words),
            Windows::Sums(windows) => windows.save_slot(slot, words),
        }
    }

    fn load(&mut self, slot: u32, words: &[u64]) -> Result<()> {
        match self {
            Windows::Moments(windows) => windows.load_slot(slot, words),
            Windows::Order(windows) => windows.load_slot(slot, words),
            Windows::Sums(windows) => windows.load_slot(slot, words),
        }
        .map_err(|error| damaged("the rows of a rolling window are not whole").with_source(error))
    }

    fn forget(&mut self, slot: u32) {
        match self {
            Windows::Moments(windows) => windows.forget(slot),
            Windows::Order(windows) => windows.forget(slot),
            Windows::Sums(windows) => windows.forget(slot),
        }
    }

    fn is_sparse(&self) -> bool {
        match self {
            Windows::Moments(windows) => windows.is_sparse(),
            Windows::Order(windows) => windows.is_sparse(),
            Windows::Sums(windows) => windows.is_sparse(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Windows::Moments(windows) => windows.state_bytes(),
            Windows::Order(windows) => windows.state_bytes(),
            Windows::Sums(windows) => windows.state_bytes(),
        }
    }

    /// A column per result, or the first sum that does not fit `int64`.
    fn answer(&mut self, placed: &Rolling, rows: &Rows<'_>, results: &[Measure]) -> std::result::Result<Vec<ArrayRef>, i128> {
        match (self, rows.values) {
            (Windows::Moments(windows), Some(Values::Float(array))) => {
                Ok(moments(placed, windows, &rows.with(array.values(), array.nulls()), results))
            }
            (Windows::Moments(windows), Some(Values::Int(array))) => {
                let values: Vec<f64> = array.values().iter().map(|&value| value as f64).collect();
                Ok(moments(placed, windows, &rows.with(&values, array.nulls()), results))
            }
            (Windows::Moments(windows), None) => Ok(moments(placed, windows, &rows.with(&vec![0.0; rows.len()], None), results)),
            (Windows::Order(windows), Some(Values::Float(array))) => {
                Ok(order::<Float64Type>(placed, windows, &rows.with(array.values(), array.nulls()), results))
            }
            (Windows::Order(windows), Some(Values::Int(array))) => {
                Ok(order::<Int64Type>(placed, windows, &rows.with(array.values(), array.nulls()), results))
            }
            (Windows::Sums(windows), Some(Values::Int(array))) => sums(placed, windows, &rows.with(array.values(), array.nulls()), results),
            _ => {
                unreachable!("values are numbers, rows alone have moments only, and sums that are not moments are of integers")
            }
        }
    }
}

fn moments(placed: &Rolling, windows: &mut RollingMoments, rows: &RollingRows<'_>, results: &[Measure]) -> Vec<ArrayRef> {
    let len = rows.slots.len();
    let column = |function| results.iter().any(|result| result.function == function).then(|| vec![0.0; len]);
    let [mut sums, mut means, mut variances, mut deviations, mut scores] =
        [Function::Sum, Function::Mean, Function::Var, Function::Std, Function::Zscore].map(column);
    let mut counts = vec![0; len];
    let columns = MomentColumns {
        counts: Some(&mut counts),
        sums: sums.as_deref_mut(),
        means: means.as_deref_mut(),
        m2s: None,
        variances: variances.as_deref_mut(),
        deviations: deviations.as_deref_mut(),
        scores: scores.as_deref_mut(),
        divisor: Divisor::Sample,
    };
    placed.moments(windows, rows, columns);
    let scored = scores.as_deref().and_then(|scores| valid_rows(len, |row| !scores[row].is_nan()));
    let [sums, means, variances, deviations, scores] =
        [sums, means, variances, deviations, scores].map(|column| ScalarBuffer::from(column.unwrap_or_default()));
    let column = |values: &ScalarBuffer<f64>, nulls| Arc::new(Float64Array::new(values.clone(), nulls)) as ArrayRef;
    let answer = |result: &Measure| match result.function {
        Function::Sum => column(&sums, at_least(1, &counts)),
        Function::Mean => column(&means, at_least(1, &counts)),
        Function::Var => column(&variances, at_least(2, &counts)),
        Function::Std => column(&deviations, at_least(2, &counts)),
        Function::Zscore => column(&scores, scored.clone()),
        _ => Arc::new(counts.iter().map(|&count| i64::from(count)).collect::<Int64Array>()),
    };
    results.iter().map(answer).collect()
}

fn order<T: ArrowPrimitiveType>(
    placed: &Rolling,
    windows: &mut RollingOrder,
    rows: &RollingRows<'_, T::Native>,
    results: &[Measure],
) -> Vec<ArrayRef>
where
    T::Native: Value,
{
    let len = rows.slots.len();
    let column = |function| results.iter().any(|result| result.function == function).then(|| vec![T::Native::default(); len]);
    let (mut mins, mut maxs, mut any) = (column(Function::Min), column(Function::Max), vec![false; len]);
    placed.order(windows, rows, OrderColumns { mins: mins.as_deref_mut(), maxs: maxs.as_deref_mut(), any: Some(&mut any) });
    let nulls = valid_rows(len, |row| any[row]);
    let [mins, maxs] = [mins, maxs].map(|column| ScalarBuffer::from(column.unwrap_or_default()));
    let answer = |result: &Measure| {
        let values = if result.function == Function::Min { &mins } else { &maxs };
        Arc::new(PrimitiveArray::<T>::new(values.clone(), nulls.clone())) as ArrayRef
    };
    results.iter().map(answer).collect()
}

fn sums(
    placed: &Rolling,
    windows: &mut RollingSums,
    rows: &RollingRows<'_, i64>,
    results: &[Measure],
) -> std::result::Result<Vec<ArrayRef>, i128> {
    let (mut counts, mut sums) = (vec![0; rows.slots.len()], vec![0; rows.slots.len()]);
    placed.sums(windows, rows, SumColumns { counts: Some(&mut counts), sums: Some(&mut sums) });
    let sums = sums.into_iter().map(|sum| i64::try_from(sum).map_err(|_| sum)).collect::<std::result::Result<Vec<i64>, i128>>()?;
    let column = Arc::new(Int64Array::new(sums.into(), at_least(1, &counts))) as ArrayRef;
    Ok(results.iter().map(|_| Arc::clone(&column)).collect())
}

/// The rows whose windows hold at least so many values, unless all do.
fn at_least(least: u32, counts: &[u32]) -> Option<NullBuffer> {
    let fewest = counts.iter().fold(u32::MAX, |fewest, &count| fewest.min(count));
    (fewest < least).then(|| NullBuffer::new(BooleanBuffer::collect_bool(counts.len(), |row| counts[row] >= least)))
}

/// The rows that are valid, unless all are.
fn valid_rows(rows: usize, valid: impl Fn(usize) -> bool) -> Option<NullBuffer> {
    Some(NullBuffer::new(BooleanBuffer::collect_bool(rows, valid))).filter(|nulls| nulls.null_count() > 0)
}
