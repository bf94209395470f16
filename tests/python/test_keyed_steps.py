"""Duplicates, and functions over the rows of each key."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of

SESSIONS = {"card": "string", "rows": "int64", "total": "float64", "closed": "int64"}


def orders() -> pa.Table:
    return pa.table({"ts": [0, 10, 20, 1_200, 1_201, 100], "order_id": ["a", "b", "a", "a", "c", "a"]})


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_the_first_of_equal_rows_is_kept(batch_rows: int) -> None:
    once = tw.from_arrow(orders()).event_time("ts", max_delay="500ms").dedup("order_id", within="1s")
    result = once.collect(config=tw.Config(batch_rows=batch_rows))
    kept = [(row["ts"], row["order_id"]) for row in rows_of(result)]
    assert kept == [(0, "a"), (10, "b"), (1_200, "a"), (1_201, "c")]
    assert (result.metrics()["duplicate_rows"], result.metrics()["late_rows"]) == (2, 0)


def test_rows_too_late_to_tell_are_late() -> None:
    once = tw.from_arrow(orders()).event_time("ts").dedup(["order_id"], within="100ms")
    with pytest.warns(tw.DroppedRowsWarning):
        result = once.collect()
    assert [(row["ts"], row["order_id"], row["missed_start"]) for row in rows_of(result.late)] == [(100, "a", None)]
    with pytest.raises(tw.ConfigError, match="before `dedup`"):
        tw.from_arrow(orders()).dedup("order_id", within="1s")


@pytest.mark.parametrize("batch_rows", [1, 7, 100])
def test_a_key_that_falls_silent_is_told(batch_rows: int) -> None:
    beats = [(n * 10, "a") for n in [*range(11), *range(20, 25)]] + [(n * 50, "b") for n in range(5)]
    ts, sensor = zip(*sorted(beats), strict=True)
    table = pa.table({"ts": pa.array(ts, pa.timestamp("ms")), "sensor": sensor})
    silent = tw.from_arrow(table).event_time("ts").heartbeat(by="sensor", factor=3.0)
    result = silent.collect(config=tw.Config(batch_rows=batch_rows)).to_arrow()
    assert result.schema.names == ["sensor", "last_seen", "usual_interval", "silent_since"]
    assert result.schema.field("usual_interval").type == pa.duration("ms")
    columns = [result["sensor"], *(result[name].cast(pa.int64()) for name in result.schema.names[1:])]
    assert [column.to_pylist() for column in columns] == [["a"], [100], [10], [130]]
    patient = tw.from_arrow(table).event_time("ts").heartbeat(by="sensor", at_least="150ms").collect()
    assert len(patient) == 0
    with pytest.raises(tw.ConfigError, match="needs event times"):
        tw.from_arrow(table).heartbeat(by="sensor")


def payments() -> pa.Table:
    ts, amount = [0, 5, 30, 40, 200, 210, 1_000], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    return pa.table({"ts": ts, "card": ["a", "b", "a", "b", "a", "a", "b"], "amount": amount})


class Sessions:
    """Closes a card's session when it has had no rows for so long."""

    def __init__(self, gap: int = 100) -> None:
        self.gap = gap

    def on_rows(self, rows: tw.Table, state: dict[str, Any], ctx: tw.Context) -> None:
        frame = rows.to_arrow()
        assert frame["card"].unique().to_pylist() == ctx.key.to_arrow()["card"].to_pylist()
        state["rows"] = state.get("rows", 0) + len(rows)
        state["total"] = state.get("total", 0.0) + sum(frame["amount"].to_pylist())
        if "due" in state:
            ctx.delete_timer(state["due"])
        state["due"] = ctx.time + self.gap
        ctx.set_timer(state["due"])

    def on_timer(self, time: int, state: dict[str, Any], ctx: tw.Context) -> dict[str, Any]:
        assert ctx.time == state["due"] == time
        ctx.clear()
        card = ctx.key.to_arrow()["card"].to_pylist()
        return {"card": card, "rows": [state["rows"]], "total": [state["total"]], "closed": [time]}


def test_state_and_timers_say_what_windows_do() -> None:
    stream = tw.from_arrow(payments()).event_time("ts")
    expected = [("b", 2, 6.0, 140), ("a", 2, 4.0, 130), ("a", 2, 11.0, 310), ("b", 1, 7.0, 1_100)]
    expected.sort(key=lambda row: row[3])
    for batch_rows in [1, 3, 100]:
        by_class = stream.process(Sessions, by="card", schema=SESSIONS, in_order=True)
        for closed in [by_class, stream.process(Sessions(100), by="card", schema=SESSIONS, in_order=True)]:
            result = closed.collect(config=tw.Config(batch_rows=batch_rows))
            assert [tuple(row.values()) for row in rows_of(result)] == expected
    assert "process(Sessions by [card])" in repr(by_class)
    windows = stream.window(tw.session("100ms"), by="card").agg(rows=tw.count(), total=tw.sum("amount"))
    theirs = [(row["card"], row["rows"], row["total"]) for row in rows_of(windows.collect())]
    assert sorted(theirs) == sorted(row[:3] for row in expected)


def test_a_function_may_return_what_any_arrow_library_makes() -> None:
    def large(rows: tw.Table, _state: dict[str, Any], _ctx: tw.Context) -> pl.DataFrame:
        return rows.to_polars().filter(pl.col("amount") > 3.5)

    stream = tw.from_arrow(payments()).event_time("ts").process(large, by="card", time="ts")
    assert stream.schema == tw.from_arrow(payments()).schema
    counts = stream.window(tw.tumbling("1s")).agg(n=tw.count(), total=tw.sum("amount")).collect()
    assert [(row["n"], row["total"]) for row in rows_of(counts)] == [(3, 15.0), (1, 7.0)]


def test_late_rows_and_the_watermark_are_seen() -> None:
    table = pa.table({"ts": [0, 1_000, 500], "key": [1, 1, 1]})
    seen: list[tuple[list[int], int, int | None]] = []

    def look(rows: tw.Table, state: dict[str, Any], ctx: tw.Context) -> None:
        seen.append((rows.to_arrow()["ts"].to_pylist(), ctx.time, ctx.watermark))
        assert repr(ctx).startswith(f"Context(time={ctx.time}, watermark=")
        ctx.clear()
        assert not state
        state["here"] = True

    result = tw.from_arrow(table).event_time("ts").process(look, by="key").collect(config=tw.Config(batch_rows=1))
    assert seen == [([0], 0, None), ([1_000], 1_000, -1), ([500], 500, 999)]
    assert (len(result), result.metrics()["late_rows"], result.metrics()["rows_out"]) == (0, 0, 0)


class OddError(Exception):
    pass


def test_what_a_function_raises_comes_out() -> None:
    stream = tw.from_arrow(payments()).event_time("ts")

    def fail(rows: tw.Table, state: dict[str, Any], ctx: tw.Context) -> None:
        raise OddError(len(rows))

    with pytest.raises(OddError):
        stream.process(fail, by="card").collect()
    query = stream.process(fail, by="card").run(sink=lambda _: None)
    with pytest.raises(OddError):
        query.wait()

    def timer(rows: tw.Table, state: dict[str, Any], ctx: tw.Context) -> None:
        ctx.set_timer(ctx.time)

    with pytest.raises(tw.ConfigError, match="has no `on_timer`"):
        stream.process(timer, by="card").collect()
    with pytest.raises(TypeError, match="it must return rows"):
        stream.process(lambda rows, state, ctx: 3, by="card").collect()  # type: ignore[arg-type, return-value]
    with pytest.raises(tw.SchemaError, match="without the column `card`"):
        stream.process(lambda rows, state, ctx: pa.table({"ts": [1]}), by="card").collect()
    with pytest.raises(TypeError, match="process takes a function"):
        stream.process(3, by="card")  # type: ignore[arg-type]
    with pytest.raises(tw.SchemaError, match="kard"):
        stream.process(fail, by="kard")
