"""LightSaber's benchmark queries over its data sets, every row against DuckDB.

The data is not part of the repository: `THALWEG_DATA` names its folder.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import thalweg as tw
from duck import assert_same, connect

ROOT = Path(__file__).parents[2]
STREAMS = Path(os.environ.get("THALWEG_DATA") or ROOT.parent / "shared/data") / "streams"

pytestmark = pytest.mark.skipif(not STREAMS.is_dir(), reason=f"no data in {STREAMS}: let THALWEG_DATA name its folder")


def seconds_of(word: str) -> int:
    """Whole seconds of a time with seven decimals, since those of the data set's first."""
    first = "2012-02-22T16:46:28.9670320+00:00"
    whole = [datetime.fromisoformat(text[:19]) for text in (word, first)]
    fraction = int(word[20:27]) - int(first[20:27])
    return int((whole[0] - whole[1]).total_seconds()) + (fraction // 10_000_000)


@cache
def columns_of(file: str, rows: int) -> tuple[tuple[str, ...], ...]:
    with gzip.open(STREAMS / file, "rt") as lines:
        return tuple(zip(*(line.split() for _, line in zip(range(rows), lines, strict=False)), strict=True))


def table(file: str, rows: int, **fields: tuple[int, pa.DataType]) -> pa.Table:
    columns = columns_of(file, rows)
    return pa.table({name: pa.array(map(float, columns[at])).cast(kind) for name, (at, kind) in fields.items()})


def cluster() -> pa.Table:
    names = {"ts": (0, pa.int64()), "job": (1, pa.int64()), "event": (4, pa.int32())}
    return table("google-cluster-data.txt.gz", 8_192, **names, category=(6, pa.int32()), cpu=(8, pa.float64()))


def plugs(rows: int) -> pa.Table:
    keys = {"plug": (3, pa.int32()), "household": (4, pa.int32()), "house": (5, pa.int32())}
    result = table("smartgrid-data.txt.gz", rows, ts=(0, pa.int64()), value=(1, pa.float64()), **keys)
    return result.set_column(0, "ts", pc.subtract(result["ts"], result["ts"][0]))


def roads(rows: int) -> pa.Table:
    names = {"ts": (0, pa.int64()), "vehicle": (1, pa.int32()), "speed": (2, pa.float64()), "highway": (3, pa.int32())}
    return table("lrb-data-small-ht.txt.gz", rows, **names, direction=(5, pa.int32()), position=(6, pa.int32()))


def equipment() -> pa.Table:
    times = [seconds_of(word) for word in columns_of("DEBS2012-small.txt.gz", 4_096)[0]]
    names = {name: (at, pa.int32()) for at, name in enumerate(["mf01", "mf02", "mf03"], start=2)}
    result = table("DEBS2012-small.txt.gz", 4_096, **names)
    return result.add_column(0, "ts", pa.array(times, pa.int64()))


@dataclass
class Query:
    rows: Callable[[], pa.Table]
    size: int
    aggregates: dict[str, tw.Aggregate]
    # What DuckDB keeps of a pane, and makes of the panes of a window.
    of_pane: str
    of_window: str
    by: list[str] = field(default_factory=list)
    where: str = "true"
    columns: dict[str, str] = field(default_factory=dict)
    having: str = "true"
    exact: list[str] = field(default_factory=list)
    close: list[str] = field(default_factory=list)


def mean_query(rows: Callable[[], pa.Table], size: int, column: str, **rest: object) -> Query:
    pane = f"sum({column}) AS s, count(*) AS c"
    aggregates = {"mean": tw.mean(column)}
    return Query(rows, size, aggregates, pane, "sum(s) / sum(c) AS mean", close=["mean"], **rest)  # type: ignore[arg-type]


def sum_query(**rest: object) -> Query:
    return Query(cluster, 60, {"total": tw.sum("cpu")}, "sum(cpu) AS s", "sum(s) AS total", close=["total"], **rest)  # type: ignore[arg-type]


PLUG = ["plug", "household", "house"]
SEGMENT = ["highway", "direction", "segment"]
SEGMENTS = {"segment": "position / 5280"}

QUERIES = {
    "CM1": sum_query(by=["category"]),
    "CM2": sum_query(by=["job"], where="event = 3"),
    "SG1": mean_query(lambda: plugs(32_768), 3_600, "value"),
    "SG2": mean_query(lambda: plugs(16_384), 128, "value", by=PLUG),
    "SG3": mean_query(lambda: plugs(16_384), 3_600, "value", by=PLUG, where="household = 3"),
    "LRB1": mean_query(lambda: roads(16_384), 300, "speed", by=SEGMENT, columns=SEGMENTS, having="mean < 40"),
    "LRB2": Query(
        lambda: roads(8_192),
        30,
        {"n": tw.count()},
        "count(*) AS c",
        "sum(c)::BIGINT AS n",
        by=["vehicle", *SEGMENT],
        columns=SEGMENTS,
        exact=["n"],
    ),
    "ME1": Query(
        equipment,
        60,
        {name: tw.mean(name) for name in ("mf01", "mf02", "mf03")},
        "sum(mf01) AS s1, sum(mf02) AS s2, sum(mf03) AS s3, count(*) AS c",
        "sum(s1) / sum(c) AS mf01, sum(s2) / sum(c) AS mf02, sum(s3) / sum(c) AS mf03",
        close=["mf01", "mf02", "mf03"],
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_row_of_the_query_is_that_of_duckdb(name: str) -> None:
    query = QUERIES[name]
    rows = query.rows()
    stream = tw.from_arrow(rows).event_time("ts").filter(query.where)
    if query.columns:
        stream = stream.with_columns(**query.columns)
    windows = stream.window(tw.hopping(f"{query.size}ms", "1ms"), by=query.by).agg(**query.aggregates)
    names = "".join(f"{name}, " for name in query.by)
    derived = "".join(f", {text.replace('/', '//')} AS {name}" for name, text in query.columns.items())
    # Panes first, as windows of an hour of seconds would each take in every row.
    panes = f"SELECT {names} ts, {query.of_pane} FROM (SELECT *{derived} FROM events) WHERE {query.where} GROUP BY ALL"
    spread = f"SELECT *, unnest(range(ts - {query.size} + 1, ts + 1)) AS window_start FROM ({panes})"
    sql = f"SELECT {names} window_start, {query.of_window} FROM ({spread}) GROUP BY ALL HAVING {query.having}"
    result = windows.filter(query.having).collect()
    assert_same(connect(events=rows), result, sql, [*query.by, "window_start"], query.exact, query.close)
