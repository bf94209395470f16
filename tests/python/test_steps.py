"""Filter, with_columns, select and detect; errors at the step that is wrong."""

from __future__ import annotations

import math

import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from twins import ewma_twin, make_payments, rows_of


def test_expressions_agree_with_polars(payments: pa.Table) -> None:
    stream = tw.from_arrow(payments).filter("amount > 10").with_columns(fee="amount * 0.02", name="upper(card)")
    ours = stream.select("ts", "name", "fee", "amount * 2 AS doubled").collect().to_polars()
    frame = pl.DataFrame(payments).filter(pl.col("amount") > 10)
    theirs = frame.select(
        "ts",
        pl.col("card").str.to_uppercase().alias("name"),
        (pl.col("amount") * 0.02).alias("fee"),
        (pl.col("amount") * 2).alias("doubled"),
    )
    assert ours.columns == theirs.columns
    assert ours.rows() == theirs.rows()


def test_scores_agree_with_a_twin_of_ten_lines() -> None:
    table = make_payments(2_000).filter(pa.compute.is_valid(make_payments(2_000)["amount"]))
    detector = tw.anomaly.ewma(alpha=0.1, warmup=5)
    result = tw.from_arrow(table).detect(detector, on=["amount"], by="card", threshold=3.0).collect()
    assert result.column_names == ["ts", "card", "amount", "score", "is_anomaly"]
    rows = rows_of(result)
    assert [row["amount"] for row in rows] == table["amount"].to_pylist()
    scores = list(ewma_twin(((row["card"], row["amount"]) for row in rows), 0.1, 5))
    assert [row["score"] for row in rows] == pytest.approx(scores, rel=1e-9, abs=1e-9)
    assert [row["is_anomaly"] for row in rows] == [row["score"] >= 3.0 for row in rows]
    assert 0 < sum(row["is_anomaly"] for row in rows) < len(rows)


def test_a_row_without_a_value_has_no_score() -> None:
    table = pa.table({"value": pa.array([1.0, None, 2.0])})
    rows = rows_of(tw.from_arrow(table).detect(tw.anomaly.ewma(), on="value").collect())
    assert [row["score"] for row in rows] == [0.0, None, 0.0]
    assert [row["is_anomaly"] for row in rows] == [False, False, False]


def test_anomalies_can_be_filtered_and_counted(payments: pa.Table) -> None:
    scored = tw.from_arrow(payments).event_time("ts").detect(tw.anomaly.ewma(), on="amount", by="card")
    anomalies = scored.filter("is_anomaly").collect()
    per_second = scored.filter("is_anomaly").window(tw.tumbling("1s")).agg(n=tw.count()).collect()
    assert len(anomalies) == sum(row["n"] for row in rows_of(per_second)) > 0
    assert all(row["score"] >= 4.0 and math.isfinite(row["score"]) for row in rows_of(anomalies))


def test_a_stream_may_branch_and_run_again(payments: pa.Table) -> None:
    stream = tw.from_arrow(payments)
    small, large = stream.filter("amount < 20"), stream.filter("amount >= 20")
    valid = len(payments) - payments["amount"].null_count
    assert len(small.collect()) + len(large.collect()) == valid
    assert len(small.collect()) == len(small.collect())


def wrong_steps() -> list[tuple[str, type[tw.ThalwegError], str]]:
    """Code on a stream `s` of payments, the error at once, and a word of its message."""
    return [
        ("s.filter('amout > 1')", tw.SchemaError, "amout"),
        ("s.filter('amount >')", tw.ThalwegError, "amount >"),
        ("s.with_columns(x='nope + 1')", tw.SchemaError, "nope"),
        ("s.select('ts', 'nope')", tw.SchemaError, "nope"),
        ("s.event_time('nope')", tw.SchemaError, "nope"),
        ("s.event_time('card')", tw.SchemaError, "card"),
        ("s.event_time('ts', unit='minutes')", tw.ConfigError, "minutes"),
        ("s.event_time('ts', max_delay='soon')", tw.ConfigError, "soon"),
        ("s.event_time('ts', max_delay=500)", tw.ConfigError, "no unit"),
        ("s.event_time('ts').event_time('ts')", tw.ConfigError, "once"),
        ("s.window(tw.tumbling('1s'))", tw.ConfigError, "event_time"),
        ("s.event_time('ts').window(tw.tumbling('1s'), by='nope')", tw.SchemaError, "nope"),
        ("s.event_time('ts').window(tw.hopping('1s', '2s'))", tw.ConfigError, "slide"),
        ("s.event_time('ts').window(tw.tumbling('1s')).agg(x=tw.sum('card'))", tw.SchemaError, "card"),
        ("s.event_time('ts').window(tw.tumbling('1s')).agg(x=tw.sum('nope'))", tw.SchemaError, "nope"),
        ("s.detect(tw.anomaly.ewma(), on='card')", tw.SchemaError, "card"),
        ("s.detect(tw.anomaly.ewma(alpha=2.0), on='amount')", tw.ConfigError, "alpha"),
        ("s.collect(workers=0)", tw.ConfigError, "`workers` is 0; it may be 1 to 256"),
        ("tw.Config(batch_rows=0)", tw.ConfigError, "batch_rows"),
        ("tw.Config(io='magic')", tw.ConfigError, "magic"),
        ("tw.Config(exchange='magic')", tw.ConfigError, "auto, hash, two_phases or windows"),
    ]


@pytest.mark.parametrize(("code", "error", "word"), wrong_steps())
def test_an_error_comes_at_the_step_that_is_wrong(
    payments: pa.Table, code: str, error: type[tw.ThalwegError], word: str
) -> None:
    with pytest.raises(error, match=word) as raised:
        eval(code, {"tw": tw, "s": tw.from_arrow(payments)})
    assert raised.value.code == {tw.SchemaError: "schema", tw.ConfigError: "config"}.get(error, raised.value.code)
    assert raised.value.retriable is False


@pytest.mark.parametrize(
    "code",
    [
        "s.filter(3)",
        "s.select(3)",
        "s.with_columns(x=3)",
        "s.window('1s')",
        "s.detect('ewma', on='amount')",
        "s.event_time('ts').window(tw.tumbling('1s')).agg(n=3)",
        "s.event_time('ts').window(tw.tumbling('1s'), by=3)",
        "s.run(sink=3)",
        "tw.tumbling(None)",
        "tw.callback(3)",
        "tw.from_arrow([1, 2])",
        "tw.listen_tcp('127.0.0.1:0', schema=3)",
        "tw.Config(speed=11)",
    ],
)
def test_an_argument_of_the_wrong_type_is_a_type_error(payments: pa.Table, code: str) -> None:
    with pytest.raises(TypeError):
        eval(code, {"tw": tw, "s": tw.from_arrow(payments)})


def test_errors_form_a_tree() -> None:
    classes = {
        "config": tw.ConfigError,
        "schema": tw.SchemaError,
        "decode": tw.DecodeError,
        "connector": tw.ConnectorError,
        "state": tw.StateError,
        "device": tw.DeviceError,
    }
    for code, error in classes.items():
        assert issubclass(error, tw.ThalwegError)
        assert (error.code, error.retriable) == (code, False)
        assert error.__module__ == "thalweg"


def test_too_many_keys_are_a_state_error(payments: pa.Table) -> None:
    windows = tw.from_arrow(payments).event_time("ts").window(tw.tumbling("1h"), by="amount").agg(n=tw.count())
    with pytest.raises(tw.StateError) as raised:
        windows.collect(config=tw.Config(max_keys=10))
    assert raised.value.code == "state"
