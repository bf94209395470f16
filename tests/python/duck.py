"""DuckDB as the judge: all rows of a result against a query over the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import thalweg as tw

# Engines add in different orders.
TOLERANCE = 1e-9


def connect(**tables: Any) -> duckdb.DuckDBPyConnection:
    """A connection that knows these Arrow tables, or Parquet files, by name."""
    connection = duckdb.connect()
    for name, table in tables.items():
        if isinstance(table, Path):
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{table}')")
        else:
            connection.register(name, table)
    return connection


def assert_same(
    connection: duckdb.DuckDBPyConnection,
    ours: tw.Table,
    sql: str,
    keys: Sequence[str],
    exact: Sequence[str] = (),
    close: Sequence[str] = (),
) -> int:
    """Every row of `ours` is a row of the query and the other way round; returns how many there are.

    Rows are told by `keys`; in the other columns nulls and NaN must be where theirs are. Times are integers there.
    """
    metrics = ours.metrics()
    assert (metrics["late_rows"], metrics["quarantined_rows"]) == (0, 0)
    arrow = ours.to_arrow()
    plain = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in arrow.itercolumns()
    ]
    connection.register("results", pa.table(plain, names=arrow.column_names))
    connection.execute("CREATE OR REPLACE TEMP TABLE ours AS SELECT * FROM results")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE theirs AS {sql}")
    for table in ("ours", "theirs"):
        names = ", ".join(keys)
        twice = connection.execute(f"SELECT {names}, count(*) FROM {table} GROUP BY ALL HAVING count(*) > 1 LIMIT 5")
        assert twice.fetchall() == [], f"{table} has more than one row of a key"
    same_key = " AND ".join(f"o.{name} IS NOT DISTINCT FROM t.{name}" for name in keys)
    wrong = ["o.present IS NULL", "t.present IS NULL", *(f"o.{name} IS DISTINCT FROM t.{name}" for name in exact)]
    for name in close:
        near = f"coalesce(abs(o.{name} - t.{name}) <= {TOLERANCE} * greatest(abs(o.{name}), abs(t.{name})), false)"
        wrong.append(f"(o.{name} IS DISTINCT FROM t.{name} AND NOT {near})")
    pairs = "(SELECT *, 1 AS present FROM ours) o FULL JOIN (SELECT *, 1 AS present FROM theirs) t"
    differences = connection.execute(f"SELECT o, t FROM {pairs} ON {same_key} WHERE {' OR '.join(wrong)} LIMIT 5")
    assert differences.fetchall() == []
    assert arrow.num_rows > 0
    return int(arrow.num_rows)
