//! The aggregates of one operator, resolved against a schema: which inputs they need, which states, how results are made.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, Float64Array, Int64Array, PrimitiveArray, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::compute::kernels::numeric::sub;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, SchemaRef};
use thalweg_kernels::{Cell, DdLayout, Want};

use super::accumulators::{Accumulators, Spans};
use super::finished::{Finished, Number};
use super::images::Sketch;
use super::table::{Cells, Table, Wanted};
use super::tables::{
    Distinct, EarliestRow, GreatestRow, HistogramCells, Keeper, LatestRow, LeastRow, Lists, MomentCells, PairCells, Quantiles, Rows,
    Sketched, ValueCounts, top_k_type,
};
use super::values::lane;
use super::{Aggregate, Custom, Function, Inputs, Lane, Values, unexpected};
use crate::error::{Error, Result};
use crate::operator::keys::Slots;

/// Buckets of a quantile's sketch for each sign: they span a factor of 6·10⁸ at an error of 1%.
const QUANTILE_BUCKETS: usize = 1_024;

/// Cells of one input: count, sum and order.
#[derive(Debug, Clone)]
pub(crate) struct CellColumn {
    pub input: usize,
    pub lane: Lane,
    pub want: Want,
}

/// The aggregates of one window operator, resolved against a schema.
pub(crate) struct Aggregates {
    inputs: Inputs,
    pub columns: Vec<CellColumn>,
    /// Without groups; those of windows are made from them.
    pub tables: Vec<Box<dyn Table>>,
    /// What each table is, so that aggregates that can share one do.
    kinds: Vec<TableKind>,
    results: Vec<ResultColumn>,
}

/// What a table keeps, of which inputs.
#[derive(Debug, Clone, PartialEq)]
enum TableKind {
    Moments(usize),
    Pairs([usize; 2]),
    First(usize),
    Last(usize),
    Least(usize, usize),
    Greatest(usize, usize),
    Counts(usize),
    Distinct(usize),
    Quantiles(usize, f64),
    MergedDistinct(usize),
    MergedQuantiles(usize, f64),
    Histogram(usize, Arc<[f64]>),
    List(usize, usize),
    Custom(Custom, Vec<usize>, Option<usize>),
}

impl TableKind {
    /// The same of other inputs: those that `input` says are in the place of these, if all have one.
    fn on(&self, input: &impl Fn(usize) -> Option<usize>) -> Option<TableKind> {
        Some(match self {
            TableKind::Moments(of) => TableKind::Moments(input(*of)?),
            TableKind::Pairs([a, b]) => TableKind::Pairs([input(*a)?, input(*b)?]),
            TableKind::First(of) => TableKind::First(input(*of)?),
            TableKind::Last(of) => TableKind::Last(input(*of)?),
            TableKind::Least(of, order) => TableKind::Least(input(*of)?, input(*order)?),
            TableKind::Greatest(of, order) => TableKind::Greatest(input(*of)?, input(*order)?),
            TableKind::Counts(of) => TableKind::Counts(input(*of)?),
            TableKind::Distinct(of) => TableKind::Distinct(input(*of)?),
            TableKind::Quantiles(of, error) => TableKind::Quantiles(input(*of)?, *error),
            TableKind::MergedDistinct(of) => TableKind::MergedDistinct(input(*of)?),
            TableKind::MergedQuantiles(of, error) => TableKind::MergedQuantiles(input(*of)?, *error),
            TableKind::Histogram(of, edges) => TableKind::Histogram(input(*of)?, Arc::clone(edges)),
            TableKind::List(of, limit) => TableKind::List(input(*of)?, *limit),
            TableKind::Custom(custom, inputs, counted) => {
                let inputs = inputs.iter().map(|of| input(*of)).collect::<Option<_>>()?;
                let counted = match counted {
                    Some(of) => Some(input(*of)?),
                    None => None,
                };
                TableKind::Custom(custom.clone(), inputs, counted)
            }
        })
    }
}

/// Which columns and tables of some aggregates are those of others.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The number there of each column.
    pub columns: Vec<usize>,
    /// The number there of each table.
    pub tables: Vec<usize>,
}

/// One result.
struct ResultColumn {
    function: Function,
    state: State,
    field: Field,
}

/// What a result is made of.
enum State {
    /// The number of rows.
    Rows,
    /// Cells of a column.
    Cells(usize),
    Table(usize),
    /// The last and the first value.
    Ends(usize, usize),
}

impl Aggregates {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or its type does not fit the function;
    /// [`Kind::Config`](crate::error::Kind::Config) if a parameter of a function is out of its range.
    pub fn new(aggregates: &[Aggregate], schema: &SchemaRef) -> Result<Aggregates> {
        let mut resolved =
            Aggregates { inputs: Inputs::new(schema), columns: Vec::new(), tables: Vec::new(), kinds: Vec::new(), results: Vec::new() };
        for aggregate in aggregates {
            check(aggregate)?;
            let state = resolved.state(aggregate)?;
            let data_type = resolved.data_type(aggregate)?;
            let never_null = !aggregate.sketch
                && matches!(
                    aggregate.function,
                    Function::Count
                        | Function::CountDistinct
                        | Function::ApproxDistinct
                        | Function::MergeDistinct
                        | Function::TopK(_)
                        | Function::Collect(_)
                        | Function::Histogram(_)
                );
            let field = Field::new(aggregate.name(), data_type, !never_null);
            resolved.results.push(ResultColumn { function: aggregate.function.clone(), state, field });
        }
        Ok(resolved)
    }

    /// What `aggregate` is answered from, made on first use.
    fn state(&mut self, aggregate: &Aggregate) -> Result<State> {
        if let Function::Custom(custom) = &aggregate.function {
            return self.custom(aggregate, custom);
        }
        let Some(name) = aggregate.column.as_deref() else {
            return match &aggregate.condition {
                None => Ok(State::Rows),
                Some(_) => {
                    let input = self.inputs.marks(aggregate)?;
                    Ok(State::Cells(self.cells(input, Lane::Int, &aggregate.function)))
                }
            };
        };
        let other = aggregate.other.as_deref().unwrap_or(name);
        let kind = match &aggregate.function {
            Function::Var | Function::Std => TableKind::Moments(self.inputs.numbers(aggregate, name)?.0),
            Function::Covar | Function::Corr => {
                TableKind::Pairs([self.inputs.numbers(aggregate, name)?.0, self.inputs.numbers(aggregate, other)?.0])
            }
            Function::First => TableKind::First(self.inputs.whole(aggregate, name)?),
            Function::Last => TableKind::Last(self.inputs.whole(aggregate, name)?),
            Function::ArgMin => TableKind::Least(self.inputs.whole(aggregate, name)?, self.inputs.numbers(aggregate, other)?.0),
            Function::ArgMax => TableKind::Greatest(self.inputs.whole(aggregate, name)?, self.inputs.numbers(aggregate, other)?.0),
            Function::CountDistinct | Function::TopK(_) => TableKind::Counts(self.inputs.whole(aggregate, name)?),
            Function::ApproxDistinct if aggregate.sketch => TableKind::Distinct(self.inputs.coupons(aggregate, name)?),
            Function::ApproxDistinct => TableKind::Distinct(self.inputs.hashes(aggregate, name)?),
            Function::MergeDistinct => TableKind::MergedDistinct(self.inputs.sketches(aggregate, name, Sketch::Distinct)?),
            Function::MergeQuantile { error, .. } => {
                TableKind::MergedQuantiles(self.inputs.sketches(aggregate, name, Sketch::Quantiles(*error))?, *error)
            }
            Function::Quantile { error, .. } => TableKind::Quantiles(self.inputs.floats(aggregate, name)?, *error),
            Function::Histogram(edges) => TableKind::Histogram(self.inputs.floats(aggregate, name)?, Arc::clone(edges)),
            Function::Collect(limit) => TableKind::List(self.inputs.whole(aggregate, name)?, *limit),
            Function::Delta => {
                self.inputs.numbers(aggregate, name)?;
                let input = self.inputs.whole(aggregate, name)?;
                return Ok(State::Ends(self.table(TableKind::Last(input), name)?, self.table(TableKind::First(input), name)?));
            }
            _ => {
                let (input, lane) = self.inputs.numbers(aggregate, name)?;
                return Ok(State::Cells(self.cells(input, lane, &aggregate.function)));
            }
        };
        Ok(State::Table(self.table(kind, name)?))
    }

    /// The table of a function of the user's own.
    fn custom(&mut self, aggregate: &Aggregate, custom: &Custom) -> Result<State> {
        let plain = Aggregate { condition: None, ..aggregate.clone() };
        let inputs: Vec<usize> = custom.columns.iter().map(|name| self.inputs.whole(&plain, name)).collect::<Result<_>>()?;
        let counted = aggregate.condition.as_ref().map(|_| self.inputs.marks(aggregate)).transpose()?;
        let kind = TableKind::Custom(custom.clone(), inputs, counted);
        Ok(State::Table(self.table(kind, "")?))
    }

    /// The cells of an input, with what `function` wants of them.
    fn cells(&mut self, input: usize, lane: Lane, function: &Function) -> usize {
        let position = self.columns.iter().position(|column| column.input == input).unwrap_or_else(|| {
            self.columns.push(CellColumn { input, lane, want: Want { sum: false, order: false } });
            self.columns.len() - 1
        });
        let want = &mut self.columns[position].want;
        want.sum |= matches!(function, Function::Sum | Function::Mean | Function::Rate);
        want.order |= matches!(function, Function::Min | Function::Max);
        position
    }

    /// The table of that kind over the column `name`.
    fn table(&mut self, kind: TableKind, name: &str) -> Result<usize> {
        if let Some(known) = self.kinds.iter().position(|known| *known == kind) {
            return Ok(known);
        }
        let data_type = match &kind {
            // It may be of any number of columns, and keeps none of their values.
            TableKind::Custom(..) => DataType::Null,
            _ => self.inputs.data_type(name)?,
        };
        let keeper = || Keeper::new(&data_type);
        let quantiles = |error| Quantiles::new(DdLayout::new(error, QUANTILE_BUCKETS));
        let table = match &kind {
            TableKind::Moments(input) => Cells::boxed(MomentCells { input: *input }),
            TableKind::Pairs(inputs) => Cells::boxed(PairCells { inputs: *inputs }),
            TableKind::First(value) => Rows::<EarliestRow>::boxed(*value, self.inputs.times(), keeper()?),
            TableKind::Last(value) => Rows::<LatestRow>::boxed(*value, self.inputs.times(), keeper()?),
            TableKind::Least(value, order) => Rows::<LeastRow>::boxed(*value, *order, keeper()?),
            TableKind::Greatest(value, order) => Rows::<GreatestRow>::boxed(*value, *order, keeper()?),
            TableKind::Counts(input) => Cells::boxed(ValueCounts { input: *input, keeper: keeper()? }),
            TableKind::Distinct(input) => Sketched::boxed(*input, Distinct::default()),
            TableKind::MergedDistinct(input) => Sketched::merging(*input, Distinct::default()),
            TableKind::Quantiles(input, error) => Sketched::boxed(*input, quantiles(*error)),
            TableKind::MergedQuantiles(input, error) => Sketched::merging(*input, quantiles(*error)),
            TableKind::Histogram(input, edges) => Cells::boxed(HistogramCells { input: *input, edges: Arc::clone(edges) }),
            TableKind::List(input, limit) => {
                let (keeper, times) = (keeper()?, self.inputs.times());
                Cells::boxed(Lists { input: *input, times, limit: *limit, keeper })
            }
            TableKind::Custom(custom, inputs, counted) => custom.table(inputs.clone(), *counted),
        };
        self.tables.push(table);
        self.kinds.push(kind);
        Ok(self.tables.len() - 1)
    }

    /// The type of a result.
    fn data_type(&self, aggregate: &Aggregate) -> Result<DataType> {
        let of_column = || aggregate.column.as_deref().map_or(Ok(DataType::Int64), |name| self.inputs.data_type(name));
        Ok(match &aggregate.function {
            _ if aggregate.sketch => DataType::Binary,
            Function::Count | Function::CountDistinct | Function::ApproxDistinct | Function::MergeDistinct => DataType::Int64,
            Function::Sum | Function::Delta if lane(&of_column()?) == Some(Lane::Int) => DataType::Int64,
            Function::Min | Function::Max | Function::First | Function::Last | Function::ArgMin | Function::ArgMax => of_column()?,
            Function::TopK(_) => top_k_type(&of_column()?),
            Function::Collect(_) => DataType::List(Arc::new(Field::new("item", of_column()?, false))),
            Function::Custom(custom) => {
                let types = custom.columns.iter().map(|name| self.inputs.data_type(name)).collect::<Result<Vec<_>>>()?;
                custom.data_type(&types).map_err(|error| error.context(aggregate))?
            }
            Function::Histogram(_) => DataType::List(Arc::new(Field::new("item", DataType::Int64, false))),
            _ => DataType::Float64,
        })
    }

    /// Which columns and tables of `whole` are those here. `whole` has all aggregates that these have, on the same schema.
    pub fn parts_of(&self, whole: &Aggregates) -> Option<Parts> {
        let input = |input: usize| whole.inputs.position_of(&self.inputs, input);
        let column = |column: &CellColumn| {
            let input = input(column.input)?;
            whole.columns.iter().position(|known| known.input == input)
        };
        let table = |kind: &TableKind| {
            let kind = kind.on(&input)?;
            whole.kinds.iter().position(|known| *known == kind)
        };
        let columns = self.columns.iter().map(column).collect::<Option<_>>()?;
        Some(Parts { columns, tables: self.kinds.iter().map(table).collect::<Option<_>>()? })
    }

    /// The fields of the results, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.results.iter().map(|result| result.field.clone())
    }

    /// In words, what is kept besides counts, sums and extremes, each once.
    pub fn tables_in_words(&self) -> Vec<&'static str> {
        let word = |kind: &TableKind| match kind {
            TableKind::Moments(_) => "moments",
            TableKind::Pairs(_) => "co-moments",
            TableKind::First(_) | TableKind::Last(_) => "first and last rows",
            TableKind::Least(..) | TableKind::Greatest(..) => "extreme rows",
            TableKind::Counts(_) => "counts of values",
            TableKind::Distinct(_) | TableKind::MergedDistinct(_) => "distinct values",
            TableKind::Quantiles(..) | TableKind::MergedQuantiles(..) => "quantiles",
            TableKind::Histogram(..) => "histograms",
            TableKind::List(..) => "lists",
            TableKind::Custom(..) => "functions of yours",
        };
        let mut words: Vec<_> = self.kinds.iter().map(word).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    /// The inputs of the rows of `records`, whose event times are `times`.
    ///
    /// # Errors
    /// As [`Inputs::values`].
    pub fn values(&self, records: &RecordBatch, times: &ScalarBuffer<i64>) -> Result<Vec<Values>> {
        self.inputs.values(records, times)
    }

    /// Room for the results where all are numbers of one cell each, as [`Aggregates::finish`] would make them and cannot fail to.
    pub fn finished(&self) -> Option<Finished> {
        let number = |result: &ResultColumn| match result.state {
            State::Rows => (result.function == Function::Count).then_some((Number::Rows, 0)),
            State::Cells(column) => {
                let number = Number::of(&result.function, self.columns[column].lane, result.field.data_type())?;
                Some((number, column))
            }
            State::Table(_) | State::Ends(..) => None,
        };
        Some(Finished::new(&self.results.iter().map(number).collect::<Option<Vec<_>>>()?))
    }

    /// The results of the groups in `slots`, one row each. `spans` are their windows.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a sum of integers does not fit `int64`.
    pub fn finish(&self, groups: &Accumulators, slots: &Slots<'_>, spans: &Spans) -> Result<Vec<ArrayRef>> {
        let rows = || groups.rows(slots);
        let cells = groups.cells(slots);
        let nulls: Vec<_> = cells.iter().map(|cells| nulls(cells)).collect();
        let mut tables = self.finish_tables(groups, slots)?.into_iter();
        let mut of_table = || tables.next().unwrap_or_else(|| unreachable!("every result of a table has its column"));
        let mut finish = |result: &ResultColumn| -> Result<ArrayRef> {
            let array: ArrayRef = match &result.state {
                State::Rows if result.function == Function::Rate => {
                    let rates = rows().into_iter().zip(spans.seconds()).map(|(rows, seconds)| rows as f64 / seconds);
                    Arc::new(Float64Array::from_iter_values(rates))
                }
                State::Rows => Arc::new(Int64Array::from(rows())),
                State::Cells(column) => {
                    let counted = self.inputs.is_marks(self.columns[*column].input);
                    let groups = Groups { cells: &cells[*column], nulls: &nulls[*column], spans, counted };
                    result.of_cells(&groups, self.columns[*column].lane)?
                }
                State::Table(_) => of_table(),
                State::Ends(..) => result.difference(&of_table(), &of_table())?,
            };
            Ok(if array.data_type() == result.field.data_type() { array } else { cast(&array, result.field.data_type())? })
        };
        self.results.iter().map(&mut finish).collect()
    }

    /// The columns of the results that come from tables, in the order of the results. Each table is asked once.
    fn finish_tables(&self, groups: &Accumulators, slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        let asked: Vec<(usize, Wanted<'_>)> = self.results.iter().flat_map(ResultColumn::asks).collect();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; asked.len()];
        for table in 0..self.tables.len() {
            let own = || asked.iter().enumerate().filter(|(_, (asked, _))| *asked == table);
            let wanted: Vec<Wanted<'_>> = own().map(|(_, (_, wanted))| *wanted).collect();
            let answers = groups.table(table).finish(&wanted, slots)?;
            own().zip(answers).for_each(|((place, _), answer)| columns[place] = Some(answer));
        }
        Ok(columns.into_iter().flatten().collect())
    }
}

/// Refuses parameters out of range.
fn check(aggregate: &Aggregate) -> Result<()> {
    aggregate.check_sketch()?;
    let wrong = |why: String| Err(Error::config(format!("{aggregate}: {why}")));
    match &aggregate.function {
        Function::Zscore => wrong("zscore is an aggregate of rolling windows; use `rolling_rows(n)` or `rolling_range(length)`".to_owned()),
        Function::Quantile { q, .. } | Function::MergeQuantile { q, .. } if !(0.0..=1.0).contains(q) => {
            wrong(format!("a quantile is from 0 to 1, not {q}"))
        }
        Function::Quantile { error, .. } | Function::MergeQuantile { error, .. } if !(0.00001..=0.5).contains(error) => {
            wrong(format!("the relative error of a quantile is from 0.00001 to 0.5, not {error}"))
        }
        Function::Histogram(edges) if edges.len() < 2 || !edges.is_sorted_by(|a, b| a < b) => {
            wrong(format!("a histogram takes two or more edges, each greater than the one before, not {edges:?}"))
        }
        Function::TopK(0) => wrong("`k` is 0; ask for at least one value".to_owned()),
        Function::Collect(0) => wrong("`limit` is 0; ask for at least one value".to_owned()),
        _ => Ok(()),
    }
}

/// The groups of a result with their accumulators of one column.
struct Groups<'a> {
    cells: &'a [Cell],
    nulls: &'a Option<NullBuffer>,
    spans: &'a Spans,
    /// Whether rows are counted rather than values.
    counted: bool,
}

impl Groups<'_> {
    /// The values of the groups; null where a group has none.
    fn collect<T: ArrowPrimitiveType>(&self, value: impl Fn(&Cell) -> T::Native) -> ArrayRef {
        let values: Vec<T::Native> = self.cells.iter().map(value).collect();
        Arc::new(PrimitiveArray::<T>::new(values.into(), self.nulls.clone()))
    }

    /// The amounts of the groups by second.
    fn rates(&self, amount: impl Fn(&Cell) -> f64) -> ArrayRef {
        let rates = self.cells.iter().zip(self.spans.seconds()).map(|(cell, seconds)| amount(cell) / seconds);
        let nulls = if self.counted { None } else { self.nulls.clone() };
        Arc::new(Float64Array::new(rates.collect(), nulls))
    }
}

/// Which groups have values, unless all have.
fn nulls(cells: &[Cell]) -> Option<NullBuffer> {
    let filled = |cell: &Cell| cell.count > 0;
    (!cells.iter().all(filled)).then(|| cells.iter().map(filled).collect())
}

impl ResultColumn {
    /// The tables that it needs columns of, in order.
    fn asks(&self) -> impl Iterator<Item = (usize, Wanted<'_>)> {
        let tables = match self.state {
            State::Rows | State::Cells(_) => [None, None],
            State::Table(table) => [Some(table), None],
            State::Ends(last, first) => [Some(last), Some(first)],
        };
        tables.into_iter().flatten().map(|table| (table, (&self.function, self.field.data_type())))
    }

    /// The last values less the first.
    fn difference(&self, last: &ArrayRef, first: &ArrayRef) -> Result<ArrayRef> {
        let [last, first] = [cast(last, self.field.data_type())?, cast(first, self.field.data_type())?];
        sub(&last, &first).map_err(|error| {
            Error::schema(format!("`{}` does not fit int64; cast the column to float64", self.field.name())).with_source(error)
        })
    }

    fn of_cells(&self, groups: &Groups<'_>, lane: Lane) -> Result<ArrayRef> {
        Ok(match (&self.function, lane) {
            (Function::Count, _) => Arc::new(Int64Array::from_iter_values(groups.cells.iter().map(|cell| cell.count as i64))),
            (Function::Rate, _) if groups.counted => groups.rates(|cell| cell.count as f64),
            (Function::Rate, Lane::Float) => groups.rates(Cell::float_sum),
            (Function::Rate, Lane::Int) => groups.rates(|cell| cell.int_sum() as f64),
            (Function::Sum, Lane::Float) => groups.collect::<Float64Type>(Cell::float_sum),
            (Function::Sum, Lane::Int) => self.integer_sums(groups)?,
            (Function::Mean, Lane::Float) => groups.collect::<Float64Type>(|cell| cell.float_sum() / cell.count as f64),
            (Function::Mean, Lane::Int) => groups.collect::<Float64Type>(|cell| cell.int_sum() as f64 / cell.count as f64),
            (Function::Min, Lane::Float) => groups.collect::<Float64Type>(Cell::float_min),
            (Function::Max, Lane::Float) => groups.collect::<Float64Type>(Cell::float_max),
            (Function::Min, Lane::Int) => groups.collect::<Int64Type>(Cell::int_min),
            (Function::Max, Lane::Int) => groups.collect::<Int64Type>(Cell::int_max),
            (other, _) => unexpected(other),
        })
    }

    fn integer_sums(&self, groups: &Groups<'_>) -> Result<ArrayRef> {
        match groups.cells.iter().map(Cell::int_sum).find(|&sum| i64::try_from(sum).is_err()) {
            None => Ok(groups.collect::<Int64Type>(|cell| cell.int_sum() as i64)),
            Some(sum) => {
                Err(Error::schema(format!("`{}` is {sum}, which does not fit int64; sum the column as float64 instead", self.field.name())))
            }
        }
    }
}
