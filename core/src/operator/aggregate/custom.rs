//! Your own aggregate: a state for each group, that takes rows, adds up with another and becomes a value.
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{ArrayRef, AsArray, Float64Array};
//! use arrow::datatypes::{DataType, Float64Type};
//! use thalweg::{AggregateFunction, Result, custom};
//!
//! /// The mean price, weighted by volume.
//! struct Vwap;
//!
//! impl AggregateFunction for Vwap {
//!     /// Money and volume.
//!     type State = (f64, f64);
//!
//!     fn data_type(&self, _inputs: &[DataType]) -> Result<DataType> {
//!         Ok(DataType::Float64)
//!     }
//!
//!     fn accumulate(&self, state: &mut (f64, f64), rows: &[ArrayRef]) -> Result<()> {
//!         let [price, volume] = [0, 1].map(|column| rows[column].as_primitive::<Float64Type>());
//!         for (price, volume) in price.iter().zip(volume).filter_map(|(price, volume)| price.zip(volume)) {
//!             *state = (state.0 + price * volume, state.1 + volume);
//!         }
//!         Ok(())
//!     }
//!
//!     fn merge(&self, state: &mut (f64, f64), other: &(f64, f64)) -> Result<()> {
//!         *state = (state.0 + other.0, state.1 + other.1);
//!         Ok(())
//!     }
//!
//!     fn finish(&self, states: &[&(f64, f64)]) -> Result<ArrayRef> {
//!         Ok(Arc::new(states.iter().map(|(money, volume)| (*volume > 0.0).then(|| money / volume)).collect::<Float64Array>()))
//!     }
//! }
//!
//! let vwap = custom(Vwap, ["price", "volume"]).filter("venue = 'X'").alias("vwap");
//! ```
//!
//! A group's rows come in the order of arrival, cut as batches and panes cut them: a function that shall give the same answer for any
//! batch size must not care. Windows of several panes merge the states of their panes, and workers those of theirs.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use thalweg_kernels::order_by_part;

use super::table::{CellKind, Cells, Table};
use super::{Aggregate, Function, Values};
use crate::error::{Error, Result};
use crate::state::{Reader, Writer};

/// An aggregate of your own, see the [module documentation](self). The value holds parameters; what it knows of a group is in the state.
pub trait AggregateFunction: Send + Sync + 'static {
    /// What is kept for a group; its default is that of a group without rows.
    type State: Default + Clone + Send;

    /// The type of the results, when `inputs` are those of its columns.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it cannot work on such columns.
    fn data_type(&self, inputs: &[DataType]) -> Result<DataType>;

    /// Takes rows of one group: a column each, nulls included; rows that the aggregate's condition leaves out do not come.
    ///
    /// # Errors
    /// Any, which ends the run.
    fn accumulate(&self, state: &mut Self::State, rows: &[ArrayRef]) -> Result<()>;

    /// Adds the state of other rows of the group.
    ///
    /// # Errors
    /// Any, which ends the run when the group is put out.
    fn merge(&self, state: &mut Self::State, other: &Self::State) -> Result<()>;

    /// The results of some groups, one each, of [`AggregateFunction::data_type`].
    ///
    /// # Errors
    /// Any, which ends the run.
    fn finish(&self, states: &[&Self::State]) -> Result<ArrayRef>;

    /// What plans and errors call it.
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path).to_lowercase()
    }

    /// Bytes that a state holds, itself included.
    fn state_bytes(&self, state: &Self::State) -> usize {
        size_of_val(state)
    }

    /// Writes a state for a snapshot.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) unless it is implemented, with [`AggregateFunction::load`].
    fn save(&self, state: &Self::State, out: &mut Writer) -> Result<()> {
        let _ = (state, out);
        Err(not_saved(&self.name()))
    }

    /// The state that was written.
    ///
    /// # Errors
    /// As [`AggregateFunction::save`], and [`Kind::State`](crate::error::Kind::State) if it is not what that wrote.
    fn load(&self, from: &mut Reader<'_>) -> Result<Self::State> {
        let _ = from;
        Err(not_saved(&self.name()))
    }
}

fn not_saved(name: &str) -> Error {
    Error::config(format!("the state of `{name}` is not made for snapshots: implement `AggregateFunction::save` and `load`"))
}

/// An aggregate of your own over some columns.
pub fn custom<S: Into<String>>(function: impl AggregateFunction, columns: impl IntoIterator<Item = S>) -> Aggregate {
    let columns = columns.into_iter().map(Into::into).collect();
    Aggregate::of(Function::Custom(Custom { function: Arc::new(function), columns }))
}

/// A function of any state, with its columns.
#[derive(Clone)]
pub struct Custom {
    function: Arc<dyn AnyFunction>,
    pub(super) columns: Vec<String>,
}

impl Custom {
    pub(super) fn name(&self) -> String {
        self.function.name()
    }

    pub(super) fn data_type(&self, inputs: &[DataType]) -> Result<DataType> {
        self.function.data_type(inputs)
    }

    /// A table of its states: of the columns `inputs`, of the rows where the input `counted`, if there is one, is not null.
    pub(super) fn table(&self, inputs: Vec<usize>, counted: Option<usize>) -> Box<dyn Table> {
        Arc::clone(&self.function).table(inputs, counted)
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        Arc::ptr_eq(&self.function, &other.function) && self.columns == other.columns
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.columns.join(", "))
    }
}

/// What a plan asks of a function, whatever its state.
trait AnyFunction: Send + Sync {
    fn name(&self) -> String;
    fn data_type(&self, inputs: &[DataType]) -> Result<DataType>;
    fn table(self: Arc<Self>, inputs: Vec<usize>, counted: Option<usize>) -> Box<dyn Table>;
}

impl<F: AggregateFunction> AnyFunction for F {
    fn name(&self) -> String {
        AggregateFunction::name(self)
    }

    fn data_type(&self, inputs: &[DataType]) -> Result<DataType> {
        AggregateFunction::data_type(self, inputs)
    }

    fn table(self: Arc<F>, inputs: Vec<usize>, counted: Option<usize>) -> Box<dyn Table> {
        Cells::boxed(CustomCells { function: self, inputs, counted })
    }
}

/// The states of a function.
struct CustomCells<F> {
    function: Arc<F>,
    inputs: Vec<usize>,
    counted: Option<usize>,
}

impl<F> Clone for CustomCells<F> {
    fn clone(&self) -> Self {
        CustomCells { function: Arc::clone(&self.function), inputs: self.inputs.clone(), counted: self.counted }
    }
}

/// A state, and why it could not be merged with another: tables combine without an answer, so it is told when the group is put out.
#[derive(Clone, Default)]
struct CustomCell<S> {
    state: S,
    failed: Option<Arc<str>>,
}

impl<F: AggregateFunction> CellKind for CustomCells<F> {
    type Cell = CustomCell<F::State>;

    fn empty(&self) -> Self::Cell {
        CustomCell { state: F::State::default(), failed: None }
    }

    fn accumulate(&self, cells: &mut [Self::Cell], slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let counted = self.counted.and_then(|input| values[input].nulls());
        let rows: Vec<u32> = match &counted {
            Some(nulls) => (0..slots.len() as u32).filter(|&row| nulls.is_valid(row as usize)).collect(),
            None => (0..slots.len() as u32).collect(),
        };
        // Rows of one slot are brought together: in order of their groups, numbered as they first come.
        let (mut numbers, mut groups) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut number_of = std::collections::HashMap::new();
        for &row in &rows {
            let slot = slots[row as usize];
            numbers.push(*number_of.entry(slot).or_insert_with(|| {
                groups.push(slot);
                groups.len() as u32 - 1
            }));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let (mut starts, mut order) = (vec![0; groups.len() + 1], vec![0; rows.len()]);
        order_by_part(&numbers, &mut starts, &mut order);
        let order: UInt32Array = order.into_iter().map(|place| rows[place as usize]).collect::<Vec<u32>>().into();
        let columns = self.inputs.iter().map(|&input| Ok(take(values[input].as_whole(), &order, None)?)).collect::<Result<Vec<_>>>()?;
        for (&slot, run) in groups.iter().zip(starts.windows(2)) {
            let (start, rows) = (run[0] as usize, (run[1] - run[0]) as usize);
            let columns: Vec<ArrayRef> = columns.iter().map(|column| column.slice(start, rows)).collect();
            self.function.accumulate(&mut cells[slot as usize].state, &columns)?;
        }
        Ok(())
    }

    fn combine(&self, into: &mut [Self::Cell], from: &[Self::Cell]) {
        for (into, from) in into.iter_mut().zip(from) {
            let merged = self.function.merge(&mut into.state, &from.state).map_err(|error| Arc::from(error.to_string()));
            into.failed = into.failed.take().or_else(|| from.failed.clone()).or(merged.err());
        }
    }

    fn finish(&self, function: &Function, data_type: &DataType, cells: &[&Self::Cell]) -> Result<ArrayRef> {
        if let Some(why) = cells.iter().find_map(|cell| cell.failed.as_ref()) {
            return Err(Error::state(format!("`{}` could not merge two states: {why}", function.name())));
        }
        let states: Vec<&F::State> = cells.iter().map(|cell| &cell.state).collect();
        let column = self.function.finish(&states)?;
        if (column.len(), column.data_type()) != (states.len(), data_type) {
            return Err(Error::schema(format!(
                "`{}` finished {} groups as {} values of {}; it must give one of {data_type} for each",
                function.name(),
                states.len(),
                column.len(),
                column.data_type()
            )));
        }
        Ok(column)
    }

    fn bytes(&self, cell: &Self::Cell) -> usize {
        self.function.state_bytes(&cell.state).saturating_sub(size_of::<F::State>())
    }

    fn save(&self, cell: &Self::Cell, out: &mut Writer) -> Result<()> {
        match &cell.failed {
            Some(why) => Err(Error::state(format!("`{}` could not merge two states: {why}", self.function.name()))),
            None => self.function.save(&cell.state, out),
        }
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Self::Cell> {
        Ok(CustomCell { state: self.function.load(from)?, failed: None })
    }
}
