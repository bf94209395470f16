#![allow(clippy::unwrap_used)]

use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Int32Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;

use super::*;
use crate::error::Kind;

/// Four rows that have every type of interest, with nulls in the columns that may have them.
fn batch() -> RecordBatch {
    let card: DictionaryArray<Int32Type> = vec![Some("c1"), Some("c2"), None, Some("c1")].into_iter().collect();
    let fields = vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("cardId", DataType::Int64, false),
        Field::new("card", card.data_type().clone(), true),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, false),
        Field::new("limit", DataType::Float64, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("user", DataType::Utf8, false),
        Field::new("timestamp", DataType::Int64, false),
        Field::new("net amount", DataType::Int64, false),
        Field::new("a.b", DataType::Int64, false),
    ];
    let hour = 3_600_000;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(vec![0, hour, 24 * hour + 250, 1_706_702_400_000])),
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(card),
        Arc::new(StringArray::from(vec![Some("Ada"), Some("bob"), None, Some("x%y")])),
        Arc::new(Float64Array::from(vec![10.0, -2.5, 0.0, 99.99])),
        Arc::new(Float64Array::from(vec![Some(5.0), None, Some(0.0), Some(100.0)])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])),
        Arc::new(StringArray::from(vec!["u1", "u2", "u3", "u4"])),
        Arc::new(Int64Array::from(vec![10, 20, 30, 40])),
        Arc::new(Int64Array::from(vec![7, 8, 9, 10])),
        Arc::new(Int64Array::from(vec![-1, -2, -3, -4])),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The results as text, with `-` for null.
fn evaluate(expression: impl Into<Expression>) -> Vec<String> {
    let batch = batch();
    let compiled = Compiled::new(&expression.into(), &batch.schema()).unwrap();
    let array = compiled.evaluate(&batch).unwrap();
    assert_eq!(array.data_type(), compiled.field().data_type(), "{compiled}");
    assert!(compiled.field().is_nullable() || array.null_count() == 0, "{compiled} has nulls but says it has none");
    let options = FormatOptions::default().with_null("-");
    let shown = ArrayFormatter::try_new(&array, &options).unwrap();
    (0..array.len()).map(|row| shown.value(row).to_string()).collect()
}

fn error(expression: &str) -> String {
    let error = Compiled::new(&expression.into(), &batch().schema()).unwrap_err();
    assert_eq!(error.kind(), Kind::Schema);
    error.to_string()
}

/// Expressions and their results for the rows of [`batch`].
const ANSWERS: &[(&str, &str)] = &[
    // Names as written, in any case, also where SQL knows the word.
    ("cardId > 2", "false false true true"),
    ("\"cardId\" + \"net amount\"", "8 10 12 14"),
    ("`net amount` - 7", "0 1 2 3"),
    ("\"a.b\" * 2", "-2 -4 -6 -8"),
    ("user || '!'", "u1! u2! u3! u4!"),
    ("timestamp / 10", "1 2 3 4"),
    ("limit IS NULL AND timestamp IN (20)", "false true false false"),
    // Arithmetic and comparison.
    ("amount * 2 + 1", "21.0 -4.0 1.0 200.98"),
    ("-cardId % 3", "-1 -2 0 -1"),
    ("amount > limit", "true - false false"),
    ("amount <> 0 OR ok", "true true - true"),
    ("NOT ok", "false true - false"),
    ("cardId = 2.0", "false true false false"),
    // Conditions.
    ("CASE WHEN amount > 50 THEN 'high' WHEN amount < 0 THEN 'low' END", "- low - high"),
    ("CASE cardId WHEN 1 THEN 'one' ELSE 'more' END", "one more more more"),
    ("cardId IN (1, 3, 5)", "true false true false"),
    ("name NOT IN ('Ada', 'bob')", "false false - true"),
    ("amount BETWEEN 0 AND 50", "true false true false"),
    ("name LIKE 'A%'", "true false - false"),
    ("name ILIKE 'B_B'", "false true - false"),
    ("name LIKE '%\\%%'", "false false - true"),
    ("limit IS NOT NULL", "true false true true"),
    ("ok IS NOT TRUE", "false true true false"),
    ("name IS DISTINCT FROM 'Ada'", "false true true true"),
    // A dictionary column is its values.
    ("card = 'c1'", "true false - true"),
    ("upper(card)", "C1 C2 - C1"),
    // Functions, in any case.
    ("abs(amount)", "10.0 2.5 0.0 99.99"),
    ("ROUND(amount, 1)", "10.0 -2.5 0.0 100.0"),
    ("floor(amount) + ceil(amount)", "20.0 -5.0 0.0 199.0"),
    ("sqrt(power(cardId, 2))", "1.0 2.0 3.0 4.0"),
    ("Lower(name)", "ada bob - x%y"),
    ("upper(name)", "ADA BOB - X%Y"),
    ("concat(name, '-', cardId)", "Ada-1 bob-2 -3 x%y-4"),
    ("length(name)", "3 3 - 3"),
    ("substring(user, 2, 1)", "1 2 3 4"),
    ("lpad(user, 4, '.') || repeat('-', 2)", "..u1-- ..u2-- ..u3-- ..u4--"),
    ("trim('  x ')", "x x x x"),
    ("coalesce(limit, amount)", "5.0 -2.5 0.0 100.0"),
    ("amount * nullif(limit, 0)", "50.0 - - 9999.0"),
    ("greatest(cardId, 3)", "3 3 3 4"),
    ("starts_with(user, 'u1')", "true false false false"),
    ("CAST(cardId AS VARCHAR) || 'x'", "1x 2x 3x 4x"),
    ("cardId::double / 2", "0.5 1.0 1.5 2.0"),
    ("try_cast(name AS INT)", "- - - -"),
    // Time.
    ("ts > '1970-01-01T00:30:00'", "false true true true"),
    ("ts >= TIMESTAMP '2024-01-31 12:00:00'", "false false false true"),
    ("ts = to_timestamp('2024-01-31T12:00:00')", "false false false true"),
    ("ts + INTERVAL '1 hour' > '1970-01-01T01:30:00Z'", "false true true true"),
    ("date_trunc('day', ts) = '1970-01-01'", "true true false false"),
    ("extract(hour FROM ts)", "0 1 0 12"),
    ("date_part('year', ts)", "1970 1970 1970 2024"),
    ("to_timestamp_millis(cardId) < ts", "false true true true"),
    // Constants fill the batch.
    ("1 + 1", "2 2 2 2"),
    ("NULL", "- - - -"),
    ("true AND 1 < 2", "true true true true"),
];

#[test]
fn expressions_have_the_answers_of_sql() {
    for &(expression, expected) in ANSWERS {
        assert_eq!(evaluate(expression).join(" "), expected, "{expression}");
    }
}

#[test]
fn typed_expressions_are_text_in_another_spelling() {
    assert_eq!(evaluate(col("cardId").gt(lit(2))), evaluate("cardId > 2"));
    assert_eq!(evaluate(col("limit").is_null().or(col("name").like(lit("A%")))), evaluate("limit IS NULL OR name LIKE 'A%'"));
    let schema = batch().schema();
    let named = Compiled::new(&(col("amount") * lit(2)).alias("twice").into(), &schema).unwrap();
    assert_eq!((named.field().name().as_str(), named.field().data_type()), ("twice", &DataType::Float64));
    let unknown = Compiled::new(&col("ammount").gt(lit(1)).into(), &schema).unwrap_err().to_string();
    assert!(unknown.contains("there is no column `ammount` (did you mean `amount`?)"), "{unknown}");
    let subquery = Compiled::new(&datafusion_expr::placeholder("$1").into(), &schema).unwrap_err().to_string();
    assert!(subquery.contains("placeholder"), "{subquery}");
}

#[test]
fn names_types_and_nullability_are_known_before_any_row() {
    let schema = batch().schema();
    let field = |text: &str| Compiled::new(&text.into(), &schema).unwrap().field().clone();
    assert_eq!(field(" amount "), *schema.field_with_name("amount").unwrap());
    assert_eq!(field("\"net amount\"").name(), "net amount");
    assert_eq!(field("amount*2").name(), "amount * 2");
    assert_eq!(field("amount*2 AS \"Twice As Much\"").name(), "Twice As Much");
    assert_eq!((field("amount * 2").is_nullable(), field("limit * 2").is_nullable()), (false, true));
    assert_eq!(field("user || 'x'").data_type(), &DataType::Utf8);
    assert_eq!(field("CAST(cardId AS VARCHAR)").data_type(), &DataType::Utf8);
    assert_eq!(Compiled::new(&"card".into(), &schema).unwrap().column(), Some(2));
    assert_eq!(Compiled::new(&"card = ''".into(), &schema).unwrap().column(), None);
    assert_eq!(Compiled::new(&"cardId".into(), &schema).unwrap().named("id").field().name(), "id");
}

#[test]
fn a_list_has_its_expressions_in_order() {
    let names = |text: &str| -> Vec<String> {
        let list = Compiled::list(&text.into(), &batch().schema()).unwrap();
        list.iter().map(|compiled| compiled.field().name().clone()).collect()
    };
    assert_eq!(names("amount, cardId*2 AS twice, coalesce(limit, 0)"), ["amount", "twice", "coalesce(limit, 0)"]);
    assert_eq!(names("*, 1 AS one").len(), 12);
    assert!(error("amount, limit").contains("is a list of 2 expressions where one is wanted"));
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    const COLUMNS: &str =
        "the columns are `ts`, `cardId`, `card`, `name`, `amount`, `limit`, `ok`, `user`, `timestamp`, `net amount`, `a.b`";
    for (expression, expected) in [
        ("ammount > 1", format!("expression `ammount > 1`: there is no column `ammount` (did you mean `amount`?); {COLUMNS}")),
        ("cardid > 1", format!("expression `cardid > 1`: there is no column `cardid` (did you mean `cardId`?); {COLUMNS}")),
        ("zzz > 1", format!("expression `zzz > 1`: there is no column `zzz`; {COLUMNS}")),
        (
            "user = \"anna\"",
            format!("expression `user = \"anna\"`: there is no column `anna` (text is written in single quotes: 'anna'); {COLUMNS}"),
        ),
        ("a.b > 1", format!("expression `a.b > 1`: there is no column `a.b` (write it in double quotes: \"a.b\"); {COLUMNS}")),
        ("amount >", "expression `amount >`: syntax error at the end: expected an expression, found the end".to_owned()),
        ("amount > > 1", "expression `amount > > 1`: syntax error at line 1, column 10: expected an expression, found >".to_owned()),
        (
            "amount > 1 1",
            "expression `amount > 1 1`: syntax error at line 1, column 12: expected an operator or the end, found 1".to_owned(),
        ),
        ("name = 'x", "expression `name = 'x`: syntax error at line 1, column 8: unterminated string literal".to_owned()),
        (" ", "expression ``: the text is empty; write for example `amount > 10`".to_owned()),
        ("lenght(name)", "expression `lenght(name)`: there is no function `lenght` (did you mean `length`?)".to_owned()),
        ("frobnicate(name)", "expression `frobnicate(name)`: there is no function `frobnicate`".to_owned()),
    ] {
        assert_eq!(error(expression), expected);
    }
}

#[test]
fn what_looks_at_more_than_one_row_or_the_clock_is_refused() {
    for (expression, expected) in [
        (
            "sum(amount) > 1",
            "`sum` looks at more than one row, but an expression sees one row at a time; use `.window(..).agg(..)` for that",
        ),
        ("count(*)", "`count` looks at more than one row"),
        ("abs(MAX(amount))", "`MAX` looks at more than one row"),
        ("row_number() OVER (ORDER BY ts)", "`row_number(..) OVER (..)` looks at more than one row; use `.window(..).agg(..)` for that"),
        ("amount > (SELECT 1)", "a subquery reads a whole table, but an expression sees one row at a time; join the other stream instead"),
        ("EXISTS (SELECT 1)", "a subquery reads a whole table"),
        ("cardId IN (SELECT 1)", "a subquery reads a whole table"),
        ("now()", "`now` gives another answer each time"),
        ("current_timestamp", "`current_timestamp` gives another answer each time"),
        ("random() < 0.1", "`random` gives another answer each time"),
        ("cardId = $1", "`$1` is a placeholder"),
        ("cardId = ?", "`?` is a placeholder"),
        ("lpad(name, cardId)", "`lpad` makes text as long as it is told to, so the length must be written out, as a number of 0 to 4096"),
        ("repeat('x', 9223372036854775807)", "`repeat` makes text as long as it is told to"),
        ("rpad(name, -1)", "`rpad` makes text as long as it is told to"),
        ("name.*", "a star has nothing before or behind it"),
    ] {
        let message = error(expression);
        assert!(message.starts_with(&format!("expression `{expression}`: {expected}")), "{message}");
    }
}

#[test]
fn types_that_do_not_fit_are_refused() {
    for (expression, parts) in [
        ("name + 1", ["name", "Utf8"]),
        ("abs(name)", ["abs", "String"]),
        ("ok > ts", ["Boolean", "Timestamp"]),
        ("ts > 'soon'", ["soon", "imestamp"]),
        ("round()", ["round", "argument"]),
    ] {
        let message = error(expression);
        assert!(message.starts_with(&format!("expression `{expression}`: ")), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn a_condition_must_be_true_or_false() {
    let schema = batch().schema();
    let refused = |text: &str| Compiled::predicate(&text.into(), &schema).unwrap_err().to_string();
    assert!(Compiled::predicate(&"ok".into(), &schema).is_ok());
    assert!(refused("amount").contains("is of type Float64, but a condition must be true or false"));
    assert!(refused("NULL").contains("is of type Null"));
    assert!(refused("amount > 1 adn").contains("`adn` after it would be one; is an operator such as AND missing"));
}

#[test]
fn a_row_that_cannot_be_computed_is_an_error() {
    let batch = batch();
    let compiled = Compiled::new(&"cardId / (cardId - 2)".into(), &batch.schema()).unwrap();
    let error = compiled.evaluate(&batch).unwrap_err();
    assert_eq!(error.to_string(), "expression `cardId / (cardId - 2)` cannot be computed for a row: Divide by zero error");
}

#[test]
fn a_panic_of_a_function_is_an_error() {
    assert_eq!(plan::guarded(|| Ok(1)).unwrap(), 1);
    let error = plan::guarded(|| -> datafusion_common::Result<()> {
        Vec::<u8>::with_capacity(std::hint::black_box(usize::MAX)).push(1);
        Ok(())
    });
    assert_eq!(plan::message(&error.unwrap_err()), "a function failed on its arguments: capacity overflow");
}

#[test]
fn expressions_of_any_depth_return() {
    let schema = batch().schema();
    let chain = |links: usize| format!("cardId{}", " + 1".repeat(links));
    assert_eq!(evaluate(chain(100).as_str()), ["101", "102", "103", "104"]);
    for text in [
        chain(1_000),
        chain(100_000),
        "(".repeat(100_000),
        format!("{}1{}", "(".repeat(45), ")".repeat(45)),
        "NOT ".repeat(10_000) + "ok",
        "- ".repeat(10_000) + "1",
        format!("ok{}", " IS NULL".repeat(2_000)),
        format!("cardId{}", "::int".repeat(2_000)),
        "abs(".repeat(60) + "1" + &")".repeat(60),
        "CASE WHEN ".repeat(60),
    ] {
        let _ = Compiled::new(&text.into(), &schema);
    }
    let list = (0..5_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(evaluate(format!("cardId IN ({list})")), ["true"; 4]);
}

/// Pieces that, put together at random, get past the parser often enough to test what is behind it.
const PIECES: &[&str] = &[
    "amount",
    "cardId",
    "name",
    "ts",
    "ok",
    "limit",
    "card",
    "zzz",
    "1",
    "0",
    "-1",
    "2.5",
    "1e308",
    "9223372036854775807",
    "'x'",
    "''",
    "'2024-01-01'",
    "NULL",
    "true",
    "(",
    ")",
    "(",
    ")",
    ",",
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<",
    ">=",
    "<>",
    "||",
    "AND",
    "OR",
    "NOT",
    "IS",
    "IN",
    "LIKE",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "AS",
    "abs(",
    "round(",
    "repeat(",
    "substr(",
    "lpad(",
    "date_trunc('day',",
    "to_timestamp(",
    "coalesce(",
    "make_date(",
    "chr(",
    "factorial(",
    "power(",
    "INTERVAL '1 day'",
    "CAST(",
    "INT",
    "::",
    "::timestamp",
    "DATE '2024-01-01'",
    "[",
    "]",
    "->",
    ".",
    "\"",
    "extract(year FROM",
    "date_bin(INTERVAL '1 hour',",
    "to_char(",
    "split_part(",
    "struct(",
];

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 1..9).prop_map(|words| words.join(" "))
}

/// Arguments at the ends of their types' ranges, where a careless function would overflow or run out of memory.
const EXTREMES: &[&str] = &[
    "cardId",
    "name",
    "amount",
    "ts",
    "card",
    "ok",
    "NULL",
    "0",
    "1",
    "-1",
    "3",
    "9223372036854775807",
    "(-9223372036854775807 - 1)",
    "1e308",
    "-0.0",
    "(1e308 * 10)",
    "(0e0 / 0e0)",
    "''",
    "'é😀'",
    "'day'",
    "'2024-02-30'",
    "'%Y-%m-%d'",
    "INTERVAL '0 seconds'",
    "INTERVAL '1000000 years'",
    "TIMESTAMP '2262-04-11T23:47:16.854775807'",
    "DATE '1677-09-21'",
    "CAST(-7.25 AS DECIMAL(38, 10))",
    "X'00ff'",
];

fn extreme_calls() -> impl Strategy<Value = String> {
    let mut names: Vec<String> = thalweg_sql::FUNCTIONS.names().map(str::to_owned).collect();
    names.sort_unstable();
    let arguments = || prop::collection::vec(prop::sample::select(EXTREMES), 0..4).prop_map(|arguments| arguments.join(", "));
    let binary = (
        prop::sample::select(EXTREMES),
        prop::sample::select(&["+", "-", "*", "/", "%", "<", "=", "LIKE", "||", "&", "<<", "~"][..]),
        prop::sample::select(EXTREMES),
    );
    let types = prop::sample::select(
        &[
            "INT",
            "TINYINT",
            "BIGINT UNSIGNED",
            "DECIMAL(38, 38)",
            "DECIMAL(400, 2)",
            "TIMESTAMP",
            "DATE",
            "TIME",
            "VARCHAR",
            "BOOLEAN",
            "FLOAT",
            "INTERVAL",
        ][..],
    );
    prop_oneof![
        4 => (prop::sample::select(names), arguments()).prop_map(|(name, arguments)| format!("{name}({arguments})")),
        1 => binary.prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        1 => (prop::sample::select(EXTREMES), types).prop_map(|(value, to)| format!("CAST({value} AS {to})")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(text in prop_oneof![2 => pieces(), 2 => extreme_calls(), 1 => "\\PC{0,40}", 1 => "[a-z0-9 ()'\",.*+-<>=|&^~!@#$%:;\\[\\]{}]{0,30}"]) {
        let batch = batch();
        if let Ok(list) = Compiled::list(&text.as_str().into(), &batch.schema()) {
            for compiled in list {
                if let Ok(array) = compiled.evaluate(&batch) {
                    prop_assert_eq!(array.len(), 4);
                    prop_assert_eq!(array.data_type(), compiled.field().data_type());
                    prop_assert!(compiled.field().is_nullable() || array.null_count() == 0, "{} has nulls", compiled);
                }
            }
        }
    }

    #[test]
    fn arithmetic_and_comparison_agree_with_rust(rows in prop::collection::vec((any::<i32>(), prop::option::of(-1e6..1e6_f64)), 0..50), k in -1000i64..1000) {
        let ints = Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.0)));
        let floats = Float64Array::from_iter(rows.iter().map(|row| row.1));
        let batch = RecordBatch::try_from_iter_with_nullable([("i", Arc::new(ints) as ArrayRef, false), ("f", Arc::new(floats) as ArrayRef, true)]).unwrap();
        let compile = |text: String| Compiled::new(&text.into(), &batch.schema()).unwrap().evaluate(&batch).unwrap();
        let sum = compile(format!("i * 2 + {k}"));
        prop_assert_eq!(sum.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec(), rows.iter().map(|row| i64::from(row.0) * 2 + k).collect::<Vec<_>>());
        let above = compile(format!("f > {k} OR i < {k}"));
        let expected: BooleanArray = rows.iter().map(|(i, f)| match (f.map(|f| f > k as f64), i64::from(*i) < k) {
            (_, true) | (Some(true), _) => Some(true),
            (Some(false), false) => Some(false),
            (None, false) => None,
        }).collect();
        prop_assert_eq!(above.as_boolean(), &expected);
    }
}
