"""Parquet in folders: DuckDB and Polars read it as one table, and open only the files that they need."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import thalweg as tw

HOUR = 3_600_000


def query(sql: str) -> list[tuple[Any, ...]]:
    """The rows of DuckDB's answer."""
    return duckdb.connect().execute(sql).fetchall()


@pytest.fixture
def sales() -> pa.Table:
    cities = ["Paris", None, "São Paulo", "a/b"]
    times = [datetime(2026, 11, 27, tzinfo=timezone.utc).timestamp() * 1_000 + n * HOUR for n in range(200)]
    return pa.table(
        {
            "ts": pa.array([int(time) for time in times], pa.timestamp("ms")),
            "city": pa.array([cities[n % 4] for n in range(200)]),
            "n": pa.array([n * 7 % 200 for n in range(200)], pa.int64()),
        }
    )


def test_folders_by_city_and_day_are_read_back_by_duckdb_and_polars(sales: pa.Table, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tw.from_arrow(sales).run(sink=tw.write_parquet(out, partition_by=["city", "day(ts)"], sort_by="n")).wait()
    days = {path.name for path in (out / "city=Paris").iterdir()}
    assert days == {
        f"ts_day=2026-{day}" for day in ["11-27", "11-28", "11-29", "11-30", *(f"12-0{n}" for n in range(1, 6))]
    }
    assert (out / "city=a%2Fb").is_dir()
    assert (out / "city=__HIVE_DEFAULT_PARTITION__").is_dir()

    expected = sorted(sales.to_pydict()["n"])
    read = f"read_parquet('{out}/**/*.parquet', hive_partitioning=true)"
    assert [row[0] for row in query(f"SELECT n FROM {read} ORDER BY n")] == expected
    by_city = query(f"SELECT city, count(*) FROM {read} GROUP BY city ORDER BY city NULLS FIRST")
    assert by_city == [(None, 50), ("Paris", 50), ("São Paulo", 50), ("a/b", 50)]
    one_day = query(f"SELECT count(*), min(ts) FROM {read} WHERE ts_day = '2026-11-28' AND city = 'Paris'")
    assert one_day == [(6, datetime(2026, 11, 28, 0))]

    frame = pl.scan_parquet(f"{out}/**/*.parquet", hive_partitioning=True)
    assert frame.collect().get_column("n").sort().to_list() == expected
    paris = frame.filter(pl.col("city") == "Paris").collect()
    assert paris.height == 50
    assert set(paris.columns) == {"ts", "n", "city", "ts_day"}


def test_files_are_sorted_and_say_which_values_they_lack(sales: pa.Table, tmp_path: Path) -> None:
    sink = tw.write_parquet(
        tmp_path, sort_by=["city", "n"], bloom_filters="n", row_group_rows=50, max_rows=100, zstd_level=3
    )
    tw.from_arrow(sales).run(sink=sink).wait()
    files = sorted(tmp_path.glob("*.parquet"))
    assert len(files) == 2
    for file in files:
        rows = pq.read_table(file).to_pydict()
        pairs = [(city or "", n) for city, n in zip(rows["city"], rows["n"], strict=True)]
        assert pairs == sorted(pairs)
        assert pq.read_metadata(file).num_row_groups == 2
    probe = query(f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{files[0]}', 'n', 5000)")
    assert probe
    assert all(excluded for (excluded,) in probe)


def test_what_cannot_be_a_folder_is_refused(sales: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(tw.ConfigError, match="`week` of `week\\(ts\\)` is none of year, month, day and hour"):
        tw.write_parquet(tmp_path, partition_by="week(ts)")
    with pytest.raises(tw.SchemaError, match="there is no column `town`"):
        tw.from_arrow(sales).run(sink=tw.write_parquet(tmp_path, partition_by="town")).wait()
    with pytest.raises(tw.SchemaError, match="partitioned by `day\\(n\\)`"):
        tw.from_arrow(sales).run(sink=tw.write_parquet(tmp_path, partition_by="day(n)")).wait()


def scanned(sql: str) -> tuple[int, int, int]:
    """How many files and row groups DuckDB reads for a query, and of how many groups in them."""
    [(_, plan)] = duckdb.connect().execute(f"EXPLAIN ANALYZE {sql}").fetchall()
    files = re.search(r"Total Files Read: (\d+)", plan)
    groups = re.search(r"Row Groups Scanned: (\d+) / (\d+)", plan)
    assert files, plan
    assert groups, plan
    return int(files[1]), int(groups[1]), int(groups[2])


def test_a_look_up_of_one_key_and_hour_reads_little(tmp_path: Path) -> None:
    start = int(datetime(2026, 11, 27, tzinfo=timezone.utc).timestamp()) * 1_000
    cards = [f"card-{n * 7919 % 50_000:05}" for n in range(100_000)]
    payments = pa.table(
        {
            "ts": pa.array([start + n * 72 for n in range(100_000)], pa.timestamp("ms")),
            "card": cards,
            "amount": pa.array([n % 100 for n in range(100_000)], pa.int64()),
        }
    )
    options: dict[str, Any] = {"partition_by": "hour(ts)", "row_group_rows": 2_000}
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "sorted": {"sort_by": "card"},
        "filtered": {"sort_by": "ts", "bloom_filters": "card"},
    }
    for name, more in kinds.items():
        sink = tw.write_parquet(tmp_path / name, **options, **more)
        tw.from_arrow(payments).run(sink=sink).wait()

    def look_up(name: str) -> str:
        read = f"read_parquet('{tmp_path}/{name}/*/*.parquet', hive_partitioning=true)"
        return f"SELECT sum(amount) FROM {read} WHERE ts_hour = '2026-11-27-01' AND card = '{cards[60_000]}'"

    hour = range(50_000, 100_000)
    expected = sum(n % 100 for n in hour if cards[n] == cards[60_000])
    assert all(query(look_up(name)) == [(expected,)] for name in ("plain", "sorted", "filtered"))
    files, groups, of = scanned(look_up("plain"))
    assert (files, groups, of) == (1, 25, 25), "one hour's folder, but all of it"
    assert scanned(look_up("sorted"))[:2] == (1, 1), "statistics tell where a sorted key is"
    files, groups, _ = scanned(look_up("filtered"))
    assert files == 1
    assert groups <= 3, "bloom filters tell where a key is not; some say wrongly that it may be there"
