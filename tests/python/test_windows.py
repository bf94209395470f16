"""Windows against their definition in plain Python and against polars."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from thalweg import testing
from twins import make_payments, rows_of, window_twin


def aggregates() -> dict[str, tw.Aggregate]:
    return {
        "n": tw.count(),
        "known": tw.count("amount"),
        "total": tw.sum("amount"),
        "avg": tw.mean("amount"),
        "lo": tw.min("amount"),
        "hi": tw.max("amount"),
    }


@pytest.mark.parametrize(("size", "slide"), [(1_000, 1_000), (10_000, 1_000), (9_000, 6_000), (7, 7)])
@pytest.mark.parametrize("batch_rows", [1, 617, 16_384])
def test_every_group_of_every_window_has_the_answer_of_the_definition(size: int, slide: int, batch_rows: int) -> None:
    table = make_payments(700)
    spec = tw.tumbling(f"{size}ms") if size == slide else tw.hopping(f"{size}ms", timedelta(milliseconds=slide))
    windows = tw.from_arrow(table).event_time("ts").window(spec, by="card").agg(**aggregates())
    result = windows.collect(config=tw.Config(batch_rows=batch_rows))
    names = ["card", "window_start", "window_end", "n", "known", "total", "avg", "lo", "hi"]
    assert result.column_names == names
    expected = window_twin(rows_of(table), size, slide)
    rows = rows_of(result)
    assert len(rows) == len(expected)
    for row in rows:
        group = expected.pop((row["card"], row["window_start"]))
        amounts = [member["amount"] for member in group if member["amount"] is not None]
        assert row["window_end"] == row["window_start"] + size
        assert (row["n"], row["known"]) == (len(group), len(amounts))
        if not amounts:
            assert row["total"] is row["avg"] is row["lo"] is row["hi"] is None
            continue
        assert math.isclose(row["total"], math.fsum(amounts), rel_tol=1e-12)
        assert math.isclose(row["avg"], math.fsum(amounts) / len(amounts), rel_tol=1e-12)
        assert (row["lo"], row["hi"]) == (min(amounts), max(amounts))
    assert not expected


def test_tumbling_agrees_with_polars(payments: pa.Table) -> None:
    windows = tw.from_arrow(payments).event_time("ts").window(tw.tumbling("1s"), by="card")
    results = windows.agg(n=tw.count(), total=tw.sum("amount"), spread=tw.std("amount"))
    ours = results.collect().to_polars().sort("window_start", "card")
    frame = pl.DataFrame(payments).with_columns(window_start=pl.col("ts").dt.truncate("1s"))
    amount = pl.col("amount")
    groups = frame.group_by("window_start", "card")
    theirs = groups.agg(n=pl.len().cast(pl.Int64), total=amount.sum(), spread=amount.std()).sort("window_start", "card")
    assert ours["n"].to_list() == theirs["n"].to_list()
    assert ours["card"].to_list() == theirs["card"].to_list()
    assert ours["total"].fill_null(0).to_list() == pytest.approx(theirs["total"].to_list(), rel=1e-12)
    assert ours["spread"].is_null().to_list() == theirs["spread"].is_null().to_list()
    assert ours["spread"].fill_null(0).to_list() == pytest.approx(theirs["spread"].fill_null(0).to_list(), rel=1e-12)


@pytest.mark.parametrize("by", [None, ["card", "amount"], ("card",)])
def test_groups_may_have_no_key_or_several(payments: pa.Table, by: list[str] | None) -> None:
    keys = list(by or [])
    windows = tw.from_arrow(payments).event_time("ts").window(tw.tumbling("1h"), by=by).agg(n=tw.count())
    ours = windows.collect().to_polars()
    assert ours.columns == [*keys, "window_start", "window_end", "n"]
    frame = pl.DataFrame(payments).with_columns(window_start=pl.col("ts").dt.truncate("1h"))
    theirs = frame.group_by("window_start", *keys).agg(n=pl.len())
    assert sorted(ours["n"].to_list()) == sorted(theirs["n"].to_list())


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_string_keys_of_any_layout_come_back_as_they_went_in(kind: pa.DataType) -> None:
    words = ["a", None, "a", "a string longer than twelve bytes", "", None]
    table = pa.table({"ts": [1, 2, 3, 4, 5, 6], "key": pa.array(words, pa.string()).cast(kind)})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"), by="key").agg(n=tw.count())
    counts = {row["key"]: row["n"] for row in rows_of(windows.collect())}
    assert counts == {"a": 2, None: 2, "a string longer than twelve bytes": 1, "": 1}


def test_integer_sums_are_exact_and_integers() -> None:
    table = pa.table({"ts": [0, 1, 2], "value": [2**53, 1, 1]})
    total = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s")).agg(total=tw.sum("value")).collect()
    assert dict(total.schema)["total"] == "int64"
    assert rows_of(total)[0]["total"] == 2**53 + 2


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
def test_integers_count_in_the_unit_that_was_said(unit: str, factor: int) -> None:
    table = pa.table({"ts": [factor * second for second in (0, 1, 59, 60, 61)]})
    stream = tw.from_arrow(table).event_time("ts", unit=unit)  # type: ignore[arg-type]
    counts = stream.window(tw.tumbling("1min")).agg(n=tw.count()).collect()
    assert [row["n"] for row in rows_of(counts)] == [3, 2]


def test_late_rows_are_counted_kept_and_warned_of() -> None:
    table = pa.table({"ts": [0, 100, 1_600, 500, 1_700, 3_000, 1_650], "value": [1, 2, 3, 4, 5, 6, 7]})
    stream = tw.from_arrow(table).event_time("ts", max_delay="100ms")
    windows = stream.window(tw.tumbling("1s")).agg(total=tw.sum("value"))
    with pytest.warns(tw.DroppedRowsWarning, match="2 rows came after their windows had fired"):
        result = windows.collect()
    assert [row["total"] for row in rows_of(result)] == [3, 8, 6]
    assert rows_of(result.late) == [
        {"ts": 500, "value": 4, "late_by": 999, "missed_start": 0, "missed_end": 1_000, "partition": 0, "offset": 3},
        {
            "ts": 1_650,
            "value": 7,
            "late_by": 1_249,
            "missed_start": 1_000,
            "missed_end": 2_000,
            "partition": 0,
            "offset": 6,
        },
    ]
    metrics = result.metrics()
    assert sum(metrics["late_key_groups"].values()) == 2
    assert (metrics["rows_in"], metrics["rows_out"], metrics["late_rows"]) == (7, 3, 2)
    assert len(result.quarantined) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_late_rows_say_where_they_stand_in_the_source(workers: int, tmp_path: Path) -> None:
    first = testing.rows("ts: int64 | amount: int64\n0 | 5\n100 | 0\n2_500 | 7")
    second = testing.rows("ts | amount\n2_400 | 1\n10 | 0\n20 | 0\n30 | 8", partition=1)
    stream = testing.source([first, second]).event_time("ts").filter("amount > 0")
    windows = stream.window(tw.tumbling("1s")).agg(n=tw.count())
    with pytest.warns(tw.DroppedRowsWarning):
        late = windows.collect(workers=workers).late
    testing.assert_table(late, "ts | amount | partition | offset\n30 | 8 | 1 | 3")

    lines = ['{"ts":5000}', "", '{"ts":"no"}', '{"ts":7}', '{"ts":6000}', '{"ts":8}']
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(f"{line}\n" for line in lines))
    windows = tw.read_ndjson(path, schema={"ts": "int64"}).event_time("ts").window(tw.tumbling("1s")).agg(n=tw.count())
    with pytest.warns(tw.DroppedRowsWarning):
        late = windows.collect(workers=workers).late
    starts = [sum(len(line) + 1 for line in lines[:row]) for row in (3, 5)]
    assert [(row["ts"], row["offset"]) for row in rows_of(late)] == [(7, starts[0]), (8, starts[1])]


def test_max_delay_keeps_late_rows_in(payments: pa.Table) -> None:
    table = pa.table({"ts": [0, 1_600, 500], "value": [1, 2, 3]})
    windows = tw.from_arrow(table).event_time("ts", max_delay=timedelta(seconds=1)).window(tw.tumbling("1s"))
    result = windows.agg(total=tw.sum("value")).collect()
    assert [row["total"] for row in rows_of(result)] == [4, 2]
    assert result.metrics()["late_rows"] == 0
    assert result.late.column_names == ["ts", "value", "late_by", "missed_start", "missed_end", "partition", "offset"]
    assert len(result.late) == 0


def test_rows_without_event_time_go_to_quarantine() -> None:
    table = pa.table({"ts": [0, None, 1], "value": [1, 2, 3]})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s")).agg(n=tw.count())
    with pytest.warns(tw.DroppedRowsWarning, match="1 row did not decode or had no event time"):
        result = windows.collect()
    assert [row["n"] for row in rows_of(result)] == [2]
    (rejected,) = rows_of(result.quarantined)
    assert b'"value":2' in rejected["bytes"]
    assert "ts" in rejected["error"]


def test_windows_of_windows(payments: pa.Table) -> None:
    seconds = tw.from_arrow(payments).event_time("ts").window(tw.tumbling("1s"), by="card").agg(n=tw.count())
    assert sum(row["n"] for row in rows_of(seconds.collect())) == len(payments)


@pytest.mark.parametrize("batch_rows", [7, 16_384])
def test_sessions_agree_with_polars(payments: pa.Table, batch_rows: int) -> None:
    windows = tw.from_arrow(payments).event_time("ts").window(tw.session("150ms"), by="card")
    results = windows.agg(n=tw.count(), total=tw.sum("amount"), hi=tw.max("amount"))
    ours = results.collect(config=tw.Config(batch_rows=batch_rows)).to_polars().sort("card", "window_start")
    ts, amount = pl.col("ts"), pl.col("amount")
    rows = pl.DataFrame(payments).sort("card", "ts")
    begins = (ts.diff() > timedelta(milliseconds=150)) | (pl.col("card").ne_missing(pl.col("card").shift()))
    theirs = (
        rows.with_columns(session=begins.fill_null(True).cum_sum())
        .group_by("session", "card")
        .agg(
            window_start=ts.min(),
            window_end=ts.max() + timedelta(milliseconds=150),
            n=pl.len().cast(pl.Int64),
            total=amount.sum(),
            hi=amount.max(),
        )
        .sort("card", "window_start")
    )
    for column in ["card", "window_start", "window_end", "n", "hi"]:
        assert ours[column].to_list() == theirs[column].to_list(), column
    assert ours["total"].fill_null(0).to_list() == pytest.approx(theirs["total"].to_list(), rel=1e-12)


def test_days_of_a_time_zone_agree_with_polars() -> None:
    # Two weeks of half hours around the day on which the clock is put forward.
    hours = [1_710_000_000_000 + 1_800_000 * step for step in range(14 * 48)]
    table = pa.table({"ts": pa.array(hours, pa.timestamp("ms"))})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1d", zone="America/New_York"))
    ours = windows.agg(n=tw.count()).collect().to_polars()
    local = pl.col("ts").dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York").dt.truncate("1d")
    theirs = pl.DataFrame(table).group_by(day=local).agg(n=pl.len().cast(pl.Int64)).sort("day")
    days = theirs["day"].dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    assert ours["window_start"].to_list() == days.to_list()
    assert ours["n"].to_list() == theirs["n"].to_list()
    assert min(ours["n"].to_list()[1:-1]) == 46


def test_cumulating_windows_and_offsets() -> None:
    table = pa.table({"ts": [0, 1_000, 2_500, 3_999, 4_000]})
    stream = tw.from_arrow(table).event_time("ts")
    steps = rows_of(stream.window(tw.cumulate("4s", "1s")).agg(n=tw.count()).collect())
    counts = [(row["window_start"], row["window_end"], row["n"]) for row in steps]
    first = [(0, 1_000, 1), (0, 2_000, 2), (0, 3_000, 3), (0, 4_000, 4)]
    assert counts == first + [(4_000, end, 1) for end in (5_000, 6_000, 7_000, 8_000)]
    shifted = rows_of(stream.window(tw.tumbling("2s", offset="500ms")).agg(n=tw.count()).collect())
    assert [(row["window_start"], row["n"]) for row in shifted] == [(-1_500, 1), (500, 1), (2_500, 3)]


def test_late_rows_correct_their_windows_while_they_may() -> None:
    table = pa.table({"ts": [0, 1_200, 500, 4_000, 600], "value": [1, 2, 4, 8, 16]})
    windowed = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"), allowed_lateness="2s")
    with pytest.warns(tw.DroppedRowsWarning):
        result = windowed.agg(total=tw.sum("value")).collect(config=tw.Config(batch_rows=1))
    totals = [(row["window_start"], row["total"]) for row in rows_of(result)]
    assert totals == [(0, 1), (0, 5), (1_000, 2), (4_000, 8)]
    assert [(row["ts"], row["value"], row["late_by"]) for row in rows_of(result.late)] == [(600, 16, 3_399)]


def test_results_may_come_early_or_with_every_update() -> None:
    stream = tw.from_arrow(pa.table({"ts": [0, 400, 800, 1_200]})).event_time("ts")
    config = tw.Config(batch_rows=1)
    early = rows_of(stream.window(tw.tumbling("1s"), early="300ms").agg(n=tw.count()).collect(config=config))
    assert [row["n"] for row in early if row["window_start"] == 0] == [2, 3, 3]
    updates = rows_of(stream.window(tw.tumbling("1s"), updates=True).agg(n=tw.count()).collect(config=config))
    assert [(row["window_start"], row["n"]) for row in updates] == [(0, 1), (0, 2), (0, 3), (1_000, 1)]
    sessions = rows_of(stream.window(tw.session("500ms"), early="300ms").agg(n=tw.count()).collect(config=config))
    assert [(row["window_start"], row["window_end"], row["n"]) for row in sessions] == [
        (0, 900, 2),
        (0, 1_300, 3),
        (0, 1_700, 4),
    ]
    with pytest.raises(tw.ConfigError, match="windows of time and of sessions"):
        stream.window(tw.count_window(3), early="1s")


def test_a_global_window_comes_when_it_is_told_to() -> None:
    table = pa.table(
        {"ts": [0, 10, 20, 400, 990, 1_000, 9_000], "key": ["a"] * 6 + ["b"], "value": [1, 2, 4, 8, 16, 32, 64]}
    )
    stream = tw.from_arrow(table).event_time("ts")

    def totals(window: tw.Window, ttl: str | None = None) -> list[tuple[str, int, int, int]]:
        results = rows_of(stream.window(window, by="key", ttl=ttl).agg(total=tw.sum("value")).collect())
        return [(row["key"], row["window_start"], row["window_end"], row["total"]) for row in results]

    assert totals(tw.global_window()) == [("a", 0, 1_000, 63), ("b", 9_000, 9_000, 64)]
    assert totals(tw.global_window(rows=3)) == [("a", 0, 20, 7), ("a", 0, 1_000, 63), ("b", 9_000, 9_000, 64)]
    purged = [("a", 0, 990, 31), ("a", 1_000, 1_000, 32), ("b", 9_000, 9_000, 64)]
    assert totals(tw.global_window(every="1s", purge=True)) == purged
    assert totals(tw.global_window(), ttl="100ms") == [
        ("a", 0, 20, 7),
        ("a", 400, 400, 8),
        ("a", 990, 1_000, 48),
        ("b", 9_000, 9_000, 64),
    ]
    with pytest.raises(tw.ConfigError, match="a key is forgotten with its last window"):
        stream.window(tw.tumbling("1s"), ttl="1s")


def test_a_budget_of_state_is_kept_by_the_policy() -> None:
    rows = 200_000
    table = pa.table({"ts": [row // 1_000 for row in range(rows)], "key": list(range(rows))})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"), by="key").agg(n=tw.count())
    with pytest.raises(tw.StateError, match="over its budget of 1000000 bytes"):
        windows.collect(config=tw.Config(state_budget=1_000_000))
    result = windows.collect(config=tw.Config(state_budget=1_000_000, over_budget="shed"))
    assert len(result) + result.metrics()["shed_rows"] == rows
    assert 0 < len(result) < rows
    with pytest.raises(tw.ConfigError, match="error, backpressure or shed"):
        tw.Config(over_budget="drop")  # type: ignore[arg-type]


def test_windows_of_rows_come_with_their_last_row() -> None:
    table = pa.table({"ts": [0, 1, 2, 3, 4], "key": ["a", "b", "a", "a", "a"], "value": [1, 2, 4, 8, 16]})
    stream = tw.from_arrow(table).event_time("ts")
    pairs = rows_of(stream.window(tw.count_window(2), by="key").agg(total=tw.sum("value")).collect())
    windows = [(row["key"], row["window_start"], row["window_end"], row["total"]) for row in pairs]
    assert windows == [("a", 0, 2, 5), ("a", 3, 4, 24), ("b", 1, 1, 2)]
    sliding = rows_of(stream.window(tw.count_window(2, slide=1)).agg(total=tw.sum("value")).collect())
    assert [row["total"] for row in sliding] == [1, 3, 6, 12, 24]
