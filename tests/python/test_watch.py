"""Folders that are watched: each file once, whole, in order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import thalweg as tw
from twins import rows_of

SCHEMA = {"a": "int64"}


def write(folder: Path, name: str, numbers: list[int], modified: int) -> None:
    """Makes a file of numbers appear by a rename."""
    hidden = folder / f"_{name}"
    hidden.write_text("".join(json.dumps({"a": number}) + "\n" for number in numbers))
    os.utime(hidden, (modified, modified))
    hidden.rename(folder / name)


def test_what_is_there_is_read_in_order_and_the_stream_ends(tmp_path: Path) -> None:
    write(tmp_path, "b.ndjson", [3, 4], 30)
    write(tmp_path, "a.ndjson", [5], 40)
    write(tmp_path, "c.ndjson", [1, 2], 20)
    (tmp_path / "d.ndjson.part").write_text('{"a": 100}\n')
    stream = tw.watch(tmp_path / "*.ndjson", schema=SCHEMA, settle=0, end="latest")
    assert [row["a"] for row in rows_of(stream.collect())] == [1, 2, 3, 4, 5]
    assert "watch(" in stream.explain()


def test_new_files_come_while_it_runs(tmp_path: Path) -> None:
    write(tmp_path, "old.ndjson", [100], 10)
    stream = tw.watch(tmp_path / "*.ndjson", schema=SCHEMA, settle=0, poll="5ms", existing=False)
    seen: list[int] = []

    def take(batch: tw.Table) -> None:
        seen.extend(row["a"] for row in rows_of(batch))

    with stream.run(sink=take) as query:
        # Nobody says when the first look was: files are added until one is seen, and from then on each must be.
        added = 0
        while not seen:
            assert query.is_running, query.wait()
            write(tmp_path, f"{added:06}.ndjson", [added], 20 + added)
            added += 1
        first = seen[0]
        while len(seen) < added - first:
            assert query.is_running, query.wait()
        write(tmp_path, "last.ndjson", [added, added + 1], 10**6)
        while len(seen) < added + 2 - first:
            assert query.is_running, query.wait()
        query.stop()
        query.wait()
    assert sorted(seen) == list(range(first, added + 2))
    assert query.metrics()["missing_files"] == 0


def test_parquet_is_watched_and_a_broken_file_is_quarantined(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"a": [3]}), tmp_path / "3.parquet")
    letters: list[str] = []
    seen: list[int] = []
    stream = tw.watch(tmp_path / "*.parquet", "parquet", settle=0, end="latest")
    query = stream.run(
        sink=lambda batch: seen.extend(row["a"] for row in rows_of(batch)),
        quarantine=lambda batch: letters.extend(row["error"] for row in rows_of(batch)),
    )
    query.wait()
    assert sorted(seen) == [1, 2, 3]
    assert len(letters) == 1
    assert "2.parquet cannot be read as Parquet" in letters[0]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tw.ConfigError, match="the columns cannot be inferred; give a schema"):
        tw.watch(tmp_path / "*.ndjson")
    with pytest.raises(tw.ConfigError, match="names no files"):
        tw.watch(tmp_path, schema=SCHEMA)
    with pytest.raises(tw.ConfigError, match="ndjson, debezium, csv, tsv, avro, arrow or parquet"):
        tw.watch(tmp_path / "*", "xml", schema=SCHEMA)  # type: ignore[arg-type]
    with pytest.raises(tw.ConfigError, match='`end` is "now"'):
        tw.watch(tmp_path / "*", schema=SCHEMA, end="now")  # type: ignore[arg-type]
