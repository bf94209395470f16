"""Aggregates against Polars and their definitions."""

from __future__ import annotations

import math

import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of


def answers(table: pa.Table, **aggregates: tw.Aggregate) -> pl.DataFrame:
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"), by="card").agg(**aggregates)
    return windows.collect().to_polars().sort("window_start", "card")


def peers(table: pa.Table, **expressions: pl.Expr) -> pl.DataFrame:
    # Polars takes rows in order of arrival; first and last go by event time.
    frame = (
        pl.DataFrame(table).sort("ts", maintain_order=True).with_columns(window_start=pl.col("ts").dt.truncate("1s"))
    )
    return frame.group_by("window_start", "card").agg(**expressions).sort("window_start", "card")


def test_positional_and_distinct_aggregates_agree_with_polars(payments: pa.Table) -> None:
    amount, known = pl.col("amount"), pl.col("amount").drop_nulls()
    ours = answers(
        payments,
        opened=tw.first("amount"),
        closed=tw.last("amount"),
        change=tw.delta("amount"),
        different=tw.count_distinct("amount"),
        nearly=tw.approx_distinct("amount"),
        middle=tw.median("amount"),
        p90=tw.quantile("amount", 0.9),
        large=tw.count(where="amount > 50"),
        large_sum=tw.sum("amount", where="amount > 50"),
    )
    theirs = peers(
        payments,
        opened=known.first(),
        closed=known.last(),
        change=known.last() - known.first(),
        different=known.n_unique().cast(pl.Int64),
        nearly=known.n_unique().cast(pl.Int64),
        middle=amount.quantile(0.5, interpolation="lower"),
        p90=amount.quantile(0.9, interpolation="lower"),
        large=(amount > 50).sum().cast(pl.Int64),
        large_sum=pl.when((amount > 50).any()).then(amount.filter(amount > 50).sum()),
    )
    for column in ["opened", "closed", "change", "different", "nearly", "middle", "p90", "large"]:
        assert ours[column].to_list() == theirs[column].to_list(), column
    for got, want in zip(ours["large_sum"], theirs["large_sum"], strict=True):
        assert (got is None) == (want is None)
        assert got is None or math.isclose(got, want, rel_tol=1e-12)


def test_lists_and_structs_come_out_as_arrow_types() -> None:
    table = pa.table({"ts": [0, 3, 1, 2], "page": ["home", "cart", "search", "cart"], "load": [0.2, 0.05, 3.0, 0.7]})
    stream = tw.from_arrow(table).event_time("ts", max_delay="1s")
    result = stream.window(tw.tumbling("1s")).agg(
        path=tw.collect_list("page", limit=3),
        best=tw.top_k("page", 1),
        bins=tw.histogram("load", edges=[0.1, 1.0]),
        slowest=tw.arg_max("page", by="load"),
        fastest=tw.arg_min("page", "load"),
        per_second=tw.rate(),
        load=tw.rate("load"),
        together=tw.corr("load", "load"),
    )
    (row,) = rows_of(result.collect())
    assert row["path"] == ["home", "search", "cart"]
    assert row["best"] == [{"value": "cart", "count": 2}]
    assert row["bins"] == [1, 2, 1]
    assert (row["slowest"], row["fastest"], row["per_second"]) == ("search", "cart", 4.0)
    assert row["load"] == pytest.approx(3.95)
    assert row["together"] == pytest.approx(1.0)


def test_sketches_of_many_values_are_within_their_errors() -> None:
    rows = 200_000
    users = [f"u{row * 7919 % 30_000}" for row in range(rows)]
    windows = tw.from_arrow(pa.table({"ts": range(rows), "user": users})).event_time("ts").window(tw.tumbling("1h"))
    result = windows.agg(users=tw.approx_distinct("user"), p99=tw.quantile("ts", 0.99, error=0.001))
    (row,) = rows_of(result.collect())
    assert abs(row["users"] / 30_000 - 1) < 5 * 0.0163
    assert row["p99"] == pytest.approx(0.99 * rows, rel=0.001)


def test_a_condition_shows_in_the_plan_and_is_checked() -> None:
    table = pa.table({"ts": [1], "v": [1.0]})
    windowed = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"))
    assert "count(*) FILTER (v > 3) AS n" in repr(windowed.agg(n=tw.count(where="v > 3")))
    with pytest.raises(tw.SchemaError, match="must be true or false"):
        windowed.agg(n=tw.count(where="v"))
    with pytest.raises(tw.ConfigError, match="from 0 to 1"):
        windowed.agg(p=tw.quantile("v", 99))
