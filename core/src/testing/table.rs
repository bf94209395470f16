//! Literal tables: read into columns, and held against results.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::format::infer::parse_type;

/// The rows of a literal table: a line of names with types, then a line for each row, cells parted by `|`.
///
/// ```text
/// ts: int64 | card: string | amount: float64
/// 1_000     | a            | 1.5
/// 2_000     | null         | -3
/// ```
///
/// Numbers may have `_` between digits. Timestamps and dates are written as such, or as numbers in the column's unit, as durations are. `null` is null;
/// a text in `"` may be empty, be called null or have blanks at its ends.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema), naming the line or the column that cannot be read.
pub fn table(text: &str) -> Result<RecordBatch> {
    parse(text, None)
}

/// A literal table taken apart.
struct Literal<'a> {
    /// Names, with types where they are given.
    columns: Vec<(&'a str, Option<&'a str>)>,
    rows: Vec<Vec<Option<&'a str>>>,
}

impl<'a> Literal<'a> {
    fn new(text: &'a str) -> Result<Literal<'a>> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let header = lines.next().ok_or_else(|| Error::schema("a table needs a first line with the names of its columns"))?;
        let columns: Vec<_> = header.split('|').map(|cell| cell.split_once(':').unwrap_or((cell, ""))).collect();
        let columns: Vec<_> =
            columns.into_iter().map(|(name, kind)| (name.trim(), Some(kind.trim()).filter(|kind| !kind.is_empty()))).collect();
        let rows = lines.map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            match cells.len() == columns.len() {
                true => Ok(cells.into_iter().map(cell).collect()),
                false => {
                    Err(Error::schema(format!("the line `{line}` has {} cells, the table has {} columns", cells.len(), columns.len())))
                }
            }
        });
        Ok(Literal { rows: rows.collect::<Result<_>>()?, columns })
    }

    fn column(&self, index: usize) -> Vec<Option<&'a str>> {
        self.rows.iter().map(|row| row[index]).collect()
    }
}

/// The text of a cell, unless it is null.
fn cell(text: &str) -> Option<&str> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => Some(quoted),
        None => Some(text).filter(|text| *text != "null"),
    }
}

/// The rows of a literal table, whose types may be left out where `known` has a column of the name.
pub(super) fn parse(text: &str, known: Option<&SchemaRef>) -> Result<RecordBatch> {
    let literal = Literal::new(text)?;
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (index, (name, kind)) in literal.columns.iter().enumerate() {
        let data_type = match (kind, known.and_then(|schema| schema.field_with_name(name).ok())) {
            (Some(kind), _) => parse_type(kind).map_err(|error| error.context(format!("column `{name}`")))?,
            (None, Some(field)) => field.data_type().clone(),
            (None, None) => return Err(Error::schema(format!("the type of column `{name}` is unknown; write `{name}: int64`, say"))),
        };
        columns.push(column(&literal.column(index), &data_type).map_err(|error| error.context(format!("column `{name}`")))?);
        fields.push(Field::new(*name, data_type, true));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Cells as a column of a type.
fn column(cells: &[Option<&str>], data_type: &DataType) -> Result<ArrayRef> {
    let checked = CastOptions { safe: false, ..CastOptions::default() };
    let number = |cell: &str| cell.replace('_', "").parse::<i64>().ok();
    let is_time = matches!(data_type, DataType::Timestamp(..) | DataType::Duration(_) | DataType::Date32 | DataType::Date64);
    let (numbers, texts): (Vec<Option<i64>>, Vec<Option<String>>) = cells
        .iter()
        .map(|cell| {
            let plain = |cell: &str| if data_type.is_numeric() { cell.replace('_', "") } else { cell.to_owned() };
            (cell.and_then(number), cell.map(plain))
        })
        .unzip();
    if is_time && cells.iter().zip(&numbers).all(|(cell, number)| cell.is_some() == number.is_some()) {
        let narrow = if *data_type == DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
        let numbers = cast_with_options(&Int64Array::from(numbers), &narrow, &checked)?;
        return Ok(cast_with_options(&numbers, data_type, &checked)?);
    }
    cast_with_options(&StringArray::from(texts), data_type, &checked)
        .map_err(|error| Error::schema(format!("a cell does not fit {data_type}")).with_source(error))
}

/// The same rows with the columns of `schema`, which must have the same names.
pub(super) fn conform(records: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(" | ");
    let (given, known) = (names(&records.schema()), names(schema));
    if given != known {
        return Err(Error::schema(format!("the columns are `{given}`, those of the first rows `{known}`")));
    }
    Ok(RecordBatch::try_new(SchemaRef::clone(schema), records.columns().to_vec())?)
}

/// Cells as they are shown and compared.
struct Shown {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Shown {
    /// The columns `names` of some batches.
    fn of(batches: &[RecordBatch], names: &[&str]) -> Result<Shown> {
        let options = FormatOptions::default().with_null("null").with_display_error(true);
        let mut rows = Vec::new();
        for batch in batches {
            let columns = names.iter().map(|name| Ok(batch.column(crate::operator::column_index(&batch.schema(), name)?).as_ref()));
            let columns = columns.map(|column: Result<_>| Ok(ArrayFormatter::try_new(column?, &options)?)).collect::<Result<Vec<_>>>()?;
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()));
        }
        Ok(Shown { names: names.iter().map(|name| (*name).to_owned()).collect(), rows })
    }

    /// A literal table as it would be shown if its columns had the types of `schema`, where they can be read as such.
    fn literal(literal: &Literal<'_>, schema: &SchemaRef) -> Result<Shown> {
        let mut shown = Shown { names: Vec::new(), rows: vec![Vec::new(); literal.rows.len()] };
        for (index, (name, _)) in literal.columns.iter().enumerate() {
            let cells = literal.column(index);
            let field = schema.field(crate::operator::column_index(schema, name)?);
            let own = match column(&cells, field.data_type()) {
                Ok(column) => {
                    let records = RecordBatch::try_from_iter_with_nullable([(*name, column, true)])?;
                    Shown::of(&[records], &[name])?.rows.into_iter().flatten().collect()
                }
                Err(_) => cells.iter().map(|cell| cell.unwrap_or("null").to_owned()).collect::<Vec<_>>(),
            };
            shown.rows.iter_mut().zip(own).for_each(|(row, cell)| row.push(cell));
            shown.names.push((*name).to_owned());
        }
        Ok(shown)
    }

    /// What is other in `expected`, unless nothing is.
    fn difference(&self, expected: &Shown) -> Option<String> {
        if self.rows == expected.rows {
            return None;
        }
        let rows = || self.rows.iter().chain(&expected.rows).chain([&self.names]);
        let widths: Vec<usize> = (0..self.names.len()).map(|at| rows().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
        };
        let mut text = format!("{} rows came, {} were expected (+ came, - was expected)", self.rows.len(), expected.rows.len());
        let _ = write!(text, "\n  {}", line(&self.names));
        for (sign, row) in merge(&self.rows, &expected.rows) {
            let _ = write!(text, "\n{sign} {}", line(row));
        }
        Some(text)
    }
}

/// Rows of both tables in order, those that they have in common once.
fn merge<'a>(came: &'a [Vec<String>], expected: &'a [Vec<String>]) -> Vec<(char, &'a [String])> {
    // By how many rows the rests of both have in common, from each pair of rows on.
    let mut common = vec![vec![0_usize; expected.len() + 1]; came.len() + 1];
    for a in (0..came.len()).rev() {
        for b in (0..expected.len()).rev() {
            common[a][b] = if came[a] == expected[b] { common[a + 1][b + 1] + 1 } else { common[a + 1][b].max(common[a][b + 1]) };
        }
    }
    let (mut a, mut b, mut merged) = (0, 0, Vec::new());
    while a < came.len() || b < expected.len() {
        if a < came.len() && b < expected.len() && came[a] == expected[b] {
            merged.push((' ', came[a].as_slice()));
            (a, b) = (a + 1, b + 1);
        } else if b < expected.len() && (a == came.len() || common[a][b + 1] >= common[a + 1][b]) {
            merged.push(('-', expected[b].as_slice()));
            b += 1;
        } else {
            merged.push(('+', came[a].as_slice()));
            a += 1;
        }
    }
    merged
}

/// In what results are other than a literal table; `None` if they are the same. The table names the columns to look at; their types
/// are those of the results. Rows are compared as they are shown, in order; numbers that are not the same to the last bit differ.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if the table cannot be read or names a column that the results do not have.
pub fn difference(results: &[RecordBatch], expected: &str) -> Result<Option<String>> {
    let literal = Literal::new(expected)?;
    let names: Vec<&str> = literal.columns.iter().map(|(name, _)| *name).collect();
    let shown = Shown::of(results, &names)?;
    let expected = match results.first() {
        Some(first) => Shown::literal(&literal, &first.schema())?,
        None => {
            let text = |row: &Vec<Option<&str>>| row.iter().map(|cell| cell.unwrap_or("null").to_owned()).collect();
            Shown { names: shown.names.clone(), rows: literal.rows.iter().map(text).collect() }
        }
    };
    Ok(shown.difference(&expected))
}

/// In what results are other than rows in Arrow columns, which name the columns to look at; as [`difference`].
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if the results lack a column.
pub fn difference_of(results: &[RecordBatch], expected: &[RecordBatch]) -> Result<Option<String>> {
    let schema = expected.first().or(results.first()).map(RecordBatch::schema);
    let fields = schema.iter().flat_map(|schema| schema.fields().iter());
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    Ok(Shown::of(results, &names)?.difference(&Shown::of(expected, &names)?))
}

/// Panics, showing the [`difference`], unless results are as a literal table says.
#[track_caller]
pub fn assert_table(results: &[RecordBatch], expected: &str) {
    match difference(results, expected) {
        Ok(None) => {}
        Ok(Some(difference)) => panic!("{difference}"),
        Err(error) => panic!("{error}"),
    }
}
