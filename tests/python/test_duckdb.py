"""Windows against DuckDB, from one Parquet file of disordered rows."""

from __future__ import annotations

import math
import random
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import thalweg as tw
from duck import assert_same, connect

ROWS = 6_000
DELAY = 500
AGGREGATES = """
    count(*) AS n, count(value) AS known, sum(value) AS total, avg(value) AS mean, min(value) AS lo, max(value) AS hi,
    sum(whole)::BIGINT AS whole
"""
EXACT, CLOSE = ["n", "known", "lo", "hi", "whole"], ["total", "mean"]

# Of several types: narrow and wide integers, text, a date, a float with NaN, a boolean, and some of them together.
KEYS = [["small"], ["wide"], ["text"], ["day"], ["float"], ["flag"], ["text", "small"], ["flag", "float", "day"]]


def aggregates() -> dict[str, tw.Aggregate]:
    return {
        "n": tw.count(),
        "known": tw.count("value"),
        "total": tw.sum("value"),
        "mean": tw.mean("value"),
        "lo": tw.min("value"),
        "hi": tw.max("value"),
        "whole": tw.sum("whole"),
    }


def make_rows() -> pa.Table:
    """Rows up to `DELAY` behind those before them, some of one time; nulls in all columns but the time, and NaN."""
    rng = random.Random(11)
    now, ts = 1_700_000_000_000, []
    for row in range(ROWS):
        now += rng.choice([0, 0, 1, 7, 20]) + (4_000 if row % 1_500 == 1_499 else 0)
        ts.append(now - rng.randrange(DELAY))

    def column(values: list[object], kind: pa.DataType) -> pa.Array:
        return pa.array([None if rng.random() < 0.06 else rng.choice(values) for _ in ts], kind)

    words = ["a", "", "a string longer than twelve bytes", "δ"]
    values = [None if rng.random() < 0.05 else round(rng.lognormvariate(3, 1), 3) for _ in ts]
    for row in rng.sample(range(ROWS), 25):
        values[row] = math.nan
    columns = {
        "ts": pa.array(ts, pa.int64()),
        "arrival": pa.array(range(ROWS), pa.int64()),
        "small": column([-1, 0, 3], pa.int8()),
        "wide": column([-(2**62), 7, 2**62], pa.int64()),
        "text": column([*words], pa.string()),
        "day": column([0, 19_000], pa.date32()),
        "float": column([0.5, -1e300, math.nan], pa.float64()),
        "flag": column([True, False], pa.bool_()),
        "value": pa.array(values, pa.float64()),
        "whole": column([*range(-50, 50)], pa.int64()),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("duckdb") / "events.parquet"
    pq.write_table(make_rows(), path, row_group_size=1_000)
    return path


@pytest.fixture(scope="module")
def duck(path: Path) -> duckdb.DuckDBPyConnection:
    return connect(events=path)


def stream(path: Path) -> tw.Stream:
    return tw.read_parquet(str(path)).event_time("ts", unit="ms", max_delay=f"{DELAY}ms")


def hopping_sql(keys: list[str], size: int, slide: int) -> str:
    """Each row in every window that covers it; windows begin with the multiples of the slide."""
    columns = ", ".join([*keys, "window_start", "window_start + {size} AS window_end"]).format(size=size)
    starts = f"range((ts - {size}) // {slide} * {slide} + {slide}, ts + 1, {slide})"
    rows = f"SELECT *, unnest({starts}) AS window_start FROM events"
    return f"SELECT {columns}, {AGGREGATES} FROM ({rows}) GROUP BY ALL"


@pytest.mark.parametrize("keys", KEYS, ids="+".join)
@pytest.mark.parametrize(("size", "slide"), [(1_000, 1_000), (10_000, 1_000), (7_000, 3_000), (4_100, 300)])
def test_tumbling_and_hopping_windows(
    path: Path, duck: duckdb.DuckDBPyConnection, keys: list[str], size: int, slide: int
) -> None:
    spec = tw.tumbling(f"{size}ms") if size == slide else tw.hopping(f"{size}ms", f"{slide}ms")
    result = stream(path).window(spec, by=keys).agg(**aggregates()).collect(config=tw.Config(batch_rows=700))
    assert_same(duck, result, hopping_sql(keys, size, slide), [*keys, "window_start", "window_end"], EXACT, CLOSE)


def test_hopping_windows_agree_with_polars(path: Path) -> None:
    """Not by `group_by_dynamic`, which leaves out the windows that begin before the first row of a key."""
    size, slide = 7_000, 3_000
    windows = stream(path).window(tw.hopping(f"{size}ms", f"{slide}ms"), by="small")
    ours = windows.agg(n=tw.count(), known=tw.count("value"), whole=tw.sum("whole")).collect().to_polars()
    ts = pl.col("ts")
    starts = pl.int_ranges((ts - size) // slide * slide + slide, ts + 1, slide)
    rows = pl.read_parquet(path).with_columns(window_start=starts).explode("window_start")
    theirs = rows.group_by("small", "window_start").agg(
        n=pl.len().cast(pl.Int64), known=pl.col("value").count().cast(pl.Int64), whole=pl.col("whole").sum()
    )
    ours = ours.with_columns(pl.col("window_start").dt.epoch("ms")).drop("window_end").sort("window_start", "small")
    ours = ours.with_columns(pl.col("whole").fill_null(0))  # the sum of nothing is zero to Polars
    assert ours.rows() == theirs.sort("window_start", "small").rows()


@pytest.mark.parametrize("keys", KEYS, ids="+".join)
@pytest.mark.parametrize("gap", [40, 1_500])
def test_sessions(path: Path, duck: duckdb.DuckDBPyConnection, keys: list[str], gap: int) -> None:
    names = ", ".join(keys)
    # RANGE frames: with ROWS, rows of one time could begin a session each.
    by_time = f"OVER (PARTITION BY {names} ORDER BY ts"
    begins = f"SELECT *, CASE WHEN ts - lag(ts) {by_time}) <= {gap} THEN 0 ELSE 1 END AS begins FROM events"
    sessions = f"SELECT *, sum(begins) {by_time} RANGE UNBOUNDED PRECEDING) AS session FROM ({begins})"
    bounds = f"min(ts) AS window_start, max(ts) + {gap} AS window_end"
    groups = f"SELECT {names}, session, {bounds}, {AGGREGATES} FROM ({sessions}) GROUP BY {names}, session"
    result = stream(path).window(tw.session(f"{gap}ms"), by=keys).agg(**aggregates()).collect()
    told_by = [*keys, "window_start", "window_end"]
    assert_same(duck, result, f"SELECT * EXCLUDE (session) FROM ({groups})", told_by, EXACT, CLOSE)


ROLLING = """
    count(*) OVER w AS n, sum(value) OVER w AS total, avg(value) OVER w AS mean,
    min(value) OVER w AS lo, max(value) OVER w AS hi
"""


def rolling(path: Path, spec: tw.Window, keys: list[str]) -> tw.Table:
    windows = stream(path).select("ts", "arrival", "value", *keys).window(spec, by=keys)
    aggregates = {"total": tw.sum("value"), "mean": tw.mean("value"), "lo": tw.min("value"), "hi": tw.max("value")}
    return windows.agg(n=tw.count(), **aggregates).collect()


@pytest.mark.parametrize("keys", KEYS, ids="+".join)
def test_rolling_rows(path: Path, duck: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
    window = f"PARTITION BY {', '.join(keys)} ORDER BY ts, arrival ROWS BETWEEN 29 PRECEDING AND CURRENT ROW"
    sql = f"SELECT arrival, {ROLLING} FROM events WINDOW w AS ({window})"
    result = rolling(path, tw.rolling(rows=30), keys)
    assert assert_same(duck, result, sql, ["arrival"], ["n", "lo", "hi"], ["total", "mean"]) == ROWS


@pytest.mark.parametrize("keys", KEYS, ids="+".join)
def test_rolling_ranges(path: Path, duck: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
    # A RANGE takes in later rows of the same time, which a stream does not wait for: the order is by row number, too.
    order = f"PARTITION BY {', '.join(keys)} ORDER BY ts * {ROWS} + arrival"
    window = f"{order} RANGE BETWEEN 2000 * {ROWS} + arrival PRECEDING AND CURRENT ROW"
    sql = f"SELECT arrival, {ROLLING} FROM events WINDOW w AS ({window})"
    result = rolling(path, tw.rolling(range="2s"), keys)
    assert assert_same(duck, result, sql, ["arrival"], ["n", "lo", "hi"], ["total", "mean"]) == ROWS
