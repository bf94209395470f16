"""Running: iteration, background queries, sinks, several branches, exceptions, Ctrl-C, and the interpreter's lock."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

import thalweg as tw
from twins import SCHEMA, rows_of, send


def per_second(table: pa.Table) -> tw.Stream:
    stream = tw.from_arrow(table).event_time("ts")
    return stream.window(tw.tumbling("1s"), by="card").agg(n=tw.count(), total=tw.sum("amount"))


def test_iteration_gives_the_rows_of_collect_in_batches(payments: pa.Table) -> None:
    windows = per_second(payments)
    batches = windows.batches(config=tw.Config(batch_rows=500))
    rows = [row for batch in batches for row in rows_of(batch)]
    assert rows == rows_of(windows.collect(config=tw.Config(batch_rows=500)))
    assert batches.ended
    assert list(batches) == []
    assert batches.metrics()["rows_in"] == len(payments)
    assert sum(len(batch) for batch in windows) == len(rows)


def test_asynchronous_iteration_lets_other_tasks_run(payments: pa.Table) -> None:
    async def consume() -> tuple[list[object], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        rows: list[object] = []
        async for batch in per_second(payments):
            rows += rows_of(batch)
        ticker.cancel()
        return rows, ticks

    rows, ticks = asyncio.run(consume())
    assert rows == rows_of(per_second(payments).collect())
    assert ticks > 0


def test_asynchronous_iteration_of_a_socket_keeps_to_one_thread() -> None:
    stream = tw.listen_tcp("127.0.0.1:0", schema={"n": "int64"}, end_on_disconnect=True)
    assert stream.local_addr is not None
    host, port = stream.local_addr.split(":")
    release = threading.Event()

    async def consume() -> list[int]:
        seen: list[int] = []
        others = []
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b'{"n": 0}\n')
            async for batch in stream:
                seen += [row["n"] for row in rows_of(batch)]
                # Takes whatever thread of the loop's pool has come free.
                others.append(asyncio.create_task(asyncio.to_thread(release.wait, 60)))
                await asyncio.sleep(0)
                if len(seen) < 5:
                    client.sendall(b'{"n": %d}\n' % len(seen))
                else:
                    client.shutdown(socket.SHUT_WR)
        release.set()
        await asyncio.gather(*others)
        return seen

    assert asyncio.run(consume()) == list(range(5))


def test_a_silent_stream_can_be_polled_and_abandoned() -> None:
    stream = tw.listen_tcp("127.0.0.1:0", schema=SCHEMA)
    batches = stream.batches()
    assert batches.pull(0.01) is None
    assert not batches.ended
    del batches

    async def cancelled() -> None:
        async def consume() -> None:
            async for _ in stream:
                raise AssertionError("nothing was sent")

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(consume(), timeout=0.05)

    asyncio.run(cancelled())


def test_iteration_warns_once_and_keeps_what_was_dropped() -> None:
    table = pa.table({"ts": [0, 5_000, 1], "value": [1, 2, 3]})
    batches = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s")).agg(n=tw.count()).batches()
    with pytest.warns(tw.DroppedRowsWarning, match="1 row came after") as warned:
        rows = [row for _ in range(2) for batch in batches for row in rows_of(batch)]
    assert (len(rows), len(warned)) == (2, 1)
    assert [(row["ts"], row["value"]) for row in rows_of(batches.late)] == [(1, 3)]
    assert len(batches.quarantined) == 0


def test_parquet_files_appear_whole(tmp_path: Path, payments: pa.Table) -> None:
    query = tw.from_arrow(payments).run(sink=tw.write_parquet(tmp_path / "out", max_rows=1_000))
    metrics = query.wait(timeout=60)
    assert (metrics["rows_in"], metrics["rows_out"]) == (5_000, 5_000)
    assert not query.is_running
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(files) > 1
    assert pyarrow.dataset.dataset(files).to_table().sort_by("ts")["ts"].equals(payments["ts"])
    assert len(tw.read_parquet(tmp_path / "out" / "*.parquet").collect()) == 5_000


def test_ndjson_is_written_and_appended(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    stream = tw.from_arrow(pa.table({"n": [1, 2], "word": ['"', None]}))
    for append, lines in [(False, 2), (True, 4), (False, 2)]:
        stream.run(sink=tw.write_ndjson(path, append=append)).wait(timeout=60)
        written = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(written) == lines
        assert written[0] == {"n": 1, "word": '"'}
        assert written[1].get("word") is None


def test_ndjson_goes_to_standard_output() -> None:
    code = """
        import thalweg as tw, pyarrow as pa
        tw.from_arrow(pa.table({"n": [1, 2]})).run(sink=tw.write_ndjson("-")).wait()
    """
    done = run_python(code)
    assert done.stdout.splitlines() == ['{"n":1}', '{"n":2}']


def test_a_callable_is_a_sink_and_gets_tables(payments: pa.Table) -> None:
    seen: list[pa.Table] = []
    threads: set[int] = set()

    def take(batch: tw.Table) -> None:
        threads.add(threading.get_ident())
        seen.append(batch.to_arrow())

    per_second(payments).run(sink=take).wait(timeout=60)
    per_second(payments).run(sink=tw.callback(take)).wait(timeout=60)
    expected = rows_of(per_second(payments).collect())
    assert rows_of(pa.concat_tables(seen)) == expected * 2
    assert threading.get_ident() not in threads


def test_an_exception_of_a_callback_comes_out_of_wait(payments: pa.Table) -> None:
    called = threading.Event()

    def fail(batch: tw.Table) -> None:
        called.set()
        raise LookupError(f"no place for {len(batch)} rows")

    query = tw.from_arrow(payments).run(sink=fail)
    for _ in range(2):
        with pytest.raises(LookupError, match="no place for 5000 rows") as raised:
            query.wait(timeout=60)
    if sys.version_info >= (3, 11):
        assert "the callback raised" in raised.value.__notes__[0]
    assert not query.is_running
    called.clear()
    with pytest.raises(LookupError), tw.from_arrow(payments).run(sink=fail):
        assert called.wait(timeout=60)


def test_late_and_quarantined_rows_have_sinks_of_their_own() -> None:
    table = pa.table({"ts": [0, 5_000, 1, None], "value": [1, 2, 3, 4]})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s")).agg(n=tw.count())
    results: list[object] = []
    late: list[object] = []
    bad: list[object] = []
    query = windows.run(
        sink=lambda batch: results.extend(rows_of(batch)),
        late=lambda batch: late.extend((row["ts"], row["value"]) for row in rows_of(batch)),
        quarantine=lambda batch: bad.extend(rows_of(batch)),
    )
    metrics = query.wait(timeout=60)
    assert (len(results), late, len(bad)) == (2, [(1, 3)], 1)
    assert (metrics["late_rows"], metrics["quarantined_rows"]) == (1, 1)
    query = windows.run(sink=lambda batch: None)
    with pytest.warns(tw.DroppedRowsWarning) as warned:
        query.wait(timeout=60)
    assert [str(warning.message).split(";")[0] for warning in warned] == [
        "1 row came after their windows had fired",
        "1 row did not decode or had no event time",
    ]
    assert query.wait() == query.metrics()


def test_late_rows_need_a_window(payments: pa.Table) -> None:
    with pytest.raises(tw.ConfigError, match="window"):
        tw.from_arrow(payments).run(sink=print, late=print)


def test_branches_of_one_source_run_together(payments: pa.Table) -> None:
    stream = tw.from_arrow(payments).event_time("ts")
    rows: list[int] = []
    large: list[object] = []
    counts: list[int] = []
    late: list[int] = []
    query = tw.run(
        [
            (stream, lambda batch: rows.append(len(batch))),
            (stream.filter("amount > 50"), lambda batch: large.extend(rows_of(batch))),
            (
                stream.window(tw.tumbling("1s")).agg(n=tw.count()),
                lambda batch: counts.extend(row["n"] for row in rows_of(batch)),
                lambda batch: late.append(len(batch)),
            ),
        ],
        config=tw.Config(batch_rows=1_000),
    )
    metrics = query.wait(timeout=60)
    assert sum(rows) == sum(counts) == metrics["rows_in"] == 5_000
    assert large == rows_of(stream.filter("amount > 50").collect())
    assert late == []
    with pytest.raises(tw.ConfigError, match="source"):
        tw.run([(stream, print), (tw.from_arrow(payments), print)])
    with pytest.raises(TypeError, match="pair"):
        tw.run([(stream,)])  # type: ignore[list-item]
    with pytest.raises(tw.ConfigError, match="at least one"):
        tw.run([])


def test_stop_fires_what_is_open() -> None:
    stream = tw.listen_tcp("127.0.0.1:0", schema={"ts": "int64"}).event_time("ts")
    windows = stream.window(tw.tumbling("1h")).agg(n=tw.count())
    results: list[object] = []
    came = threading.Event()
    with tw.run([(windows, lambda batch: results.extend(rows_of(batch))), (stream, lambda batch: came.set())]) as query:
        assert stream.local_addr is not None
        send(stream.local_addr, b'{"ts": 7}\n')
        assert came.wait(timeout=60)
        assert query.is_running
        assert "running" in repr(query)
        with pytest.raises(TimeoutError, match="still runs"):
            query.wait(timeout=0.01)
        with pytest.raises(TimeoutError):
            query.wait(timeout="10ms")
        assert results == []
    assert results == [{"window_start": 0, "window_end": 3_600_000, "n": 1}]
    assert "ended" in repr(query)


def test_a_query_that_nobody_holds_ends_without_a_deadlock() -> None:
    stream = tw.listen_tcp("127.0.0.1:0", schema=SCHEMA)
    called = threading.Event()
    query = stream.run(sink=lambda batch: called.set())
    assert stream.local_addr is not None
    send(stream.local_addr, b'{"ts": 1, "card": "a", "amount": 1.0}\n')
    assert called.wait(timeout=60)
    del query
    gc.collect()


def run_python(code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)


def test_queries_that_still_run_at_exit_publish(tmp_path: Path) -> None:
    done = run_python(f"""
        import socket, threading, thalweg as tw
        stream = tw.listen_tcp("127.0.0.1:0", schema={{"n": "int64"}})
        came = threading.Event()
        sink = tw.write_ndjson({str(tmp_path / "out.ndjson")!r})
        query = tw.run([(stream, sink), (stream, lambda batch: came.set())])
        host, port = stream.local_addr.split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b'{{"n": 1}}\\n')
        assert came.wait(30)
    """)
    assert done.stderr == ""
    assert (tmp_path / "out.ndjson").read_text() == '{"n":1}\n'


@pytest.mark.parametrize(
    "wait",
    ["stream.collect()", "next(iter(stream))", "stream.run(sink=print).wait()", "asyncio.run(first(stream))"],
)
def test_control_c_is_answered(wait: str) -> None:
    # The event loop's own start and stop do not stand an interruption: "ready" comes from inside it.
    code = f"""
        import asyncio, thalweg as tw
        async def first(stream):
            print("ready", flush=True)
            async for batch in stream:
                return batch
        stream = tw.listen_tcp("127.0.0.1:0", schema={{"n": "int64"}})
        try:
            if "asyncio" not in {wait!r}:
                print("ready", flush=True)
            {wait}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (out, error, process.returncode) == ("interrupted\n", "", 0)


def test_other_threads_run_while_the_engine_works() -> None:
    """The input ends when another thread hangs up, and that thread can run only if `collect` gives the lock away."""
    done = run_python("""
        import socket, sys, threading, thalweg as tw
        sys.setswitchinterval(1_000)
        stream = tw.listen_tcp("127.0.0.1:0", schema={"n": "int64"}, end_on_disconnect=True)
        host, port = stream.local_addr.split(":")
        client = socket.create_connection((host, int(port)))
        collecting = threading.Event()
        def hang_up():
            collecting.wait()
            client.sendall(b'{"n": 1}\\n')
            client.close()
        threading.Thread(target=hang_up).start()
        collecting.set()
        print(len(stream.collect()))
    """)
    assert done.stdout == "1\n"


def test_the_package_works_without_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"n": 1}\n{"n": 2}\n')
    done = run_python(f"""
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("pyarrow", "polars", "pandas", "numpy"):
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Blocker())
        import thalweg as tw
        table = tw.read_ndjson({str(tmp_path / "*.ndjson")!r}, schema={{"n": "int64"}}).filter("n > 1").collect()
        assert len(table) == 1 and "| 2 |" in repr(table), table
        for convert in (table.to_arrow, table.to_polars, table.to_pandas):
            try:
                convert()
            except ImportError as error:
                print(error)
    """)
    assert done.stdout.splitlines() == [
        f"this needs {name}, which is not installed; run `pip install {name}`"
        for name in ("pyarrow", "polars", "pandas")
    ]


def test_the_engine_logs_to_python(caplog: pytest.LogCaptureFixture) -> None:
    table = pa.table({"ts": [0, 5_000, 1]})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s")).agg(n=tw.count())
    with caplog.at_level(logging.WARNING, logger="thalweg"), pytest.warns(tw.DroppedRowsWarning):
        windows.run(sink=lambda batch: None).wait(timeout=60)
    assert any("rows came after" in record.message and "rows=1" in record.message for record in caplog.records)


def test_documented_names_exist_and_have_examples() -> None:
    for name in tw.__all__:
        member = getattr(tw, name)
        assert name == "__version__" or member.__doc__, name
    for function in (tw.from_arrow, tw.listen_tcp, tw.run, tw.Stream.window, tw.Stream.detect, tw.anomaly.ewma):
        assert "Example" in (function.__doc__ or "")


def test_control_c_survives_the_logger() -> None:
    """Python may run the signal's handler inside a call of the logger, whose exceptions go nowhere."""
    done = run_python("""
        import logging, thalweg as tw
        class Interrupted(logging.Handler):
            def emit(self, record):
                raise KeyboardInterrupt
        logging.basicConfig(level=logging.INFO, handlers=[Interrupted()])
        stream = tw.listen_tcp("127.0.0.1:0", schema={"n": "int64"})
        try:
            stream.collect()
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert done.stdout == "interrupted\n"
