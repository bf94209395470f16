"""How event time goes on, and what can be learnt when it does not."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of


@contextlib.contextmanager
def client(stream: tw.Stream) -> Iterator[socket.socket]:
    assert stream.local_addr is not None
    host, port = stream.local_addr.split(":")
    with socket.create_connection((host, int(port))) as connected:
        yield connected


def counted(stream: tw.Stream) -> tw.Stream:
    return stream.window(tw.tumbling("1s")).agg(n=tw.count())


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
@pytest.mark.parametrize(("column", "counts", "late"), [("done", [2, 1, 1], 1), ("until", [2, 1, 1], 1)])
def test_a_column_punctuates_the_stream(batch_rows: int, column: str, counts: list[int], late: int) -> None:
    table = pa.table(
        {
            "ts": [0, 5_000, 900, 1_000, 990],
            "done": [False, None, False, True, False],
            "until": [None, None, None, 999, None],
        }
    )
    stream = tw.from_arrow(table).event_time("ts", punctuated_by=column)
    with pytest.warns(tw.DroppedRowsWarning):
        result = counted(stream).collect(config=tw.Config(batch_rows=batch_rows))
    assert [row["n"] for row in rows_of(result)] == counts
    assert result.metrics()["late_rows"] == late


def test_what_cannot_be_is_refused() -> None:
    stream = tw.from_arrow(pa.table({"ts": [1], "text": ["a"]}))
    with pytest.raises(tw.SchemaError, match="a column that punctuates is a boolean or a time"):
        stream.event_time("ts", punctuated_by="text")
    with pytest.raises(tw.ConfigError, match="leave out one of the two"):
        stream.event_time("ts", max_delay="1s", punctuated_by="ts")
    with pytest.raises(tw.ConfigError, match="`advance_after` is zero"):
        stream.event_time("ts", advance_after=0)
    with pytest.raises(tw.SchemaError, match="there is a column `ts` already"):
        stream.arrival_time("ts")
    with pytest.raises(tw.ConfigError, match="once per stream"):
        stream.arrival_time("arrived").event_time("ts")


def test_the_time_of_arrival_is_the_clocks() -> None:
    before = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(milliseconds=1)
    stream = tw.from_arrow(pa.table({"x": [1, 2, 3]})).arrival_time("arrived")
    assert dict(stream.schema)["arrived"].startswith("timestamp[ms]")
    table = stream.collect().to_arrow()
    assert not table.schema.field("arrived").nullable
    after = datetime.now(timezone.utc).replace(tzinfo=None)
    assert all(before <= arrived <= after for arrived in table["arrived"].to_pylist())
    assert sum(row["n"] for row in rows_of(counted(stream).collect())) == 3


@pytest.mark.parametrize("arrival", [True, False])
def test_windows_fire_by_the_clock_while_no_row_comes(arrival: bool) -> None:
    source = tw.listen_tcp("127.0.0.1:0", schema={"ts": "int64"})
    stream = source.arrival_time("arrived") if arrival else source.event_time("ts", advance_after="50ms")
    with client(source) as connected:
        connected.sendall(b'{"ts":10}\n')
        batch = next(iter(stream.window(tw.tumbling("20ms")).agg(n=tw.count())))
    assert [row["n"] for row in rows_of(batch)] == [1]


def test_a_query_that_waits_says_for_whom() -> None:
    source = tw.listen_tcp("127.0.0.1:0", schema={"ts": "int64"})
    windows = counted(source.event_time("ts", idle_timeout=None))
    with windows.run(sink=lambda _: None) as query, client(source) as silent, client(source) as busy:
        busy.sendall(b'{"ts":1500}\n')
        held = None
        while held is None:
            with contextlib.suppress(TimeoutError):
                query.wait(timeout="5ms")
            held = query.why_not_firing()
        host, port = silent.getsockname()
        assert held.partition == f"{host}:{port}"
        assert (held.window_end, held.watermark, held.partition_watermark, held.unit) == (2_000, None, None, "ms")
        assert held.quiet_for is not None
        assert timedelta(0) <= held.quiet_for < timedelta(minutes=1)
        assert re.search(rf"partition {host}:{port} has had no rows since it began .* ago; send it rows", str(held))
    assert query.why_not_firing() is None


def test_an_iterator_says_what_it_waits_for() -> None:
    table = pa.table({"ts": [0, 1_500]})
    batches = counted(tw.from_arrow(table).event_time("ts", max_delay="1h")).batches(config=tw.Config(batch_rows=1))
    assert batches.why_not_firing() is None
    assert len(list(batches)) == 2
    assert batches.why_not_firing() is None


def test_files_that_wait_for_each_other_give_the_same_answer(tmp_path: Path) -> None:
    for name, pad in (("short", 0), ("long", 200)):
        lines = (json.dumps({"ts": time, "pad": "x" * pad}) for time in range(0, 60_000, 5))
        (tmp_path / f"{name}.ndjson").write_text("\n".join(lines))
    stream = tw.read_ndjson(tmp_path / "*.ndjson", schema={"ts": "int64"})
    free = rows_of(counted(stream.event_time("ts")).collect())
    aligned = rows_of(counted(stream.event_time("ts", max_skew="1s")).collect())
    assert free == aligned
    assert len(free) == 60


def test_a_query_may_be_told_when_to_warn() -> None:
    assert "held_back_warning: 5s" in repr(tw.Config(held_back_warning="5s"))
