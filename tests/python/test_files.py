"""CSV, NDJSON and Arrow files in folders: DuckDB and Polars read what was written, and so do we."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of

HOUR = 3_600_000
ENDS = {None: "", "gzip": ".gz", "zstd": ".zst"}


def query(sql: str) -> list[tuple[Any, ...]]:
    """The rows of DuckDB's answer."""
    return duckdb.connect().execute(sql).fetchall()


@pytest.fixture
def sales() -> pa.Table:
    cities = ["Paris", None, "São Paulo", 'a/b, "c"']
    start = int(datetime(2026, 11, 27, tzinfo=timezone.utc).timestamp()) * 1_000
    return pa.table(
        {
            "ts": pa.array([start + n * HOUR for n in range(100)], pa.timestamp("ms")),
            "city": pa.array([cities[n % 4] for n in range(100)]),
            "n": pa.array(range(100), pa.int64()),
        }
    )


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_csv_in_folders(sales: pa.Table, tmp_path: Path, compression: Any) -> None:
    sink = tw.write_csv(tmp_path, partition_by="day(ts)", max_rows=10, compression=compression)
    tw.from_arrow(sales).run(sink=sink).wait()
    end = f"csv{ENDS[compression]}"
    files = sorted(tmp_path.glob(f"ts_day=2026-11-27/part-*.{end}"))
    assert len(files) == 3
    read = f"read_csv('{tmp_path}/*/*.{end}', hive_partitioning=true)"
    expected = list(zip(*(sales.to_pydict()[name] for name in ("ts", "city", "n")), strict=True))
    assert query(f"SELECT ts, city, n FROM {read} ORDER BY n") == expected
    assert query(f"SELECT count(*) FROM {read} WHERE ts_day = '2026-11-28'") == [(24,)]
    frame = pl.read_csv(files[0], try_parse_dates=True)
    assert frame.columns == ["ts", "city", "n"]
    assert frame.get_column("n").to_list() == list(range(10))
    assert frame.get_column("ts").dt.epoch("ms").to_list() == sales["ts"].cast(pa.int64()).to_pylist()[:10]
    if compression is None:
        ours = rows_of(tw.read_csv(f"{tmp_path}/*/*.csv").collect())
        assert sorted(row["n"] for row in ours) == list(range(100))


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_ndjson_in_folders(sales: pa.Table, tmp_path: Path, compression: Any) -> None:
    sink = tw.write_ndjson(tmp_path, partition_by=["city"], sort_by="n", compression=compression)
    tw.from_arrow(sales).run(sink=sink).wait()
    end = f"ndjson{ENDS[compression]}"
    read = f"read_json('{tmp_path}/*/*.{end}', format='newline_delimited', hive_partitioning=true)"
    by_city = query(f"SELECT city, count(*), min(n) FROM {read} GROUP BY city ORDER BY min(n)")
    assert by_city == [("Paris", 25, 0), (None, 25, 1), ("São Paulo", 25, 2), ('a/b, "c"', 25, 3)]
    [paris] = (tmp_path / "city=Paris").iterdir()
    if compression is None:
        frame = pl.read_ndjson(paris)
        assert frame.columns == ["ts", "n"]
        assert frame.get_column("n").to_list() == list(range(0, 100, 4))
        ours = rows_of(tw.read_ndjson(f"{tmp_path}/*/*.ndjson").collect())
        assert sorted(row["n"] for row in ours) == list(range(100))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_arrow_in_folders(sales: pa.Table, tmp_path: Path, compression: Any) -> None:
    coded = sales.set_column(1, "city", sales["city"].dictionary_encode())
    tw.from_arrow(coded).run(sink=tw.write_arrow(tmp_path, max_rows=40, compression=compression)).wait()
    files = sorted(tmp_path.glob("part-*.arrow"))
    assert [pa.ipc.open_file(file).read_all().num_rows for file in files] == [40, 40, 20]
    assert pa.concat_tables([pa.ipc.open_file(file).read_all() for file in files]).equals(sales)
    assert pl.scan_ipc(f"{tmp_path}/*.arrow").collect().get_column("n").to_list() == list(range(100))
    ours = rows_of(tw.read_arrow(f"{tmp_path}/*.arrow").collect())
    assert sorted(row["n"] for row in ours) == list(range(100))


def test_what_a_path_of_ndjson_means(sales: pa.Table, tmp_path: Path) -> None:
    tw.from_arrow(sales).run(sink=tw.write_ndjson(tmp_path / "one.ndjson")).wait()
    assert (tmp_path / "one.ndjson").is_file()
    tw.from_arrow(sales).run(sink=tw.write_ndjson(f"{tmp_path}/many/")).wait()
    assert len(list((tmp_path / "many").glob("part-*.ndjson"))) == 1
    with pytest.raises(tw.ConfigError, match="are not appended to"):
        tw.write_ndjson(tmp_path / "many", append=True, max_rows=5)


def test_what_cannot_be_written_is_refused(sales: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(tw.ConfigError, match="`brotli` is not a compression; it may be none, gzip, zstd or lz4"):
        tw.write_csv(tmp_path, compression="brotli")  # type: ignore[arg-type]
    with pytest.raises(tw.ConfigError, match="`storage_options` are of object stores"):
        tw.write_csv(tmp_path, storage_options={"region": "eu-west-1"})
    lists = pa.table({"l": pa.array([[1]])})
    with pytest.raises(tw.SchemaError, match="cannot be written as CSV"):
        tw.from_arrow(lists).run(sink=tw.write_csv(tmp_path / "out")).wait()
    assert repr(tw.write_csv("out/")) == 'write_csv("out/")'
    assert repr(tw.write_arrow("out/")) == 'write_arrow("out/")'
