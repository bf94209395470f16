"""Scripted inputs and literal tables."""

from __future__ import annotations

import pyarrow as pa
import pytest

import thalweg as tw
from thalweg import testing

FIRST = """
    ts: int64 | card: string | amount: float64
    100       | a            | 1.5
    900       | b            | null
"""


def counts(stream: tw.Stream) -> tw.Stream:
    return stream.event_time("ts").window(tw.tumbling("1s"), by="card").agg(n=tw.count(), total=tw.sum("amount"))


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_script_is_a_source(batch_rows: int) -> None:
    later = [{"ts": 1_200, "card": "a", "amount": 2.0}, {"ts": 300, "card": "b", "amount": 3.0}]
    stream = counts(testing.source([FIRST, testing.pause("5s"), later]))
    for _ in range(2):
        with pytest.warns(tw.DroppedRowsWarning):
            result = stream.collect(config=tw.Config(batch_rows=batch_rows))
        testing.assert_table(
            result,
            """
            card | window_start | n | total
            a    | 0            | 1 | 1.5
            b    | 0            | 1 | null
            a    | 1_000        | 1 | 2
            """,
        )
        testing.assert_table(
            result.late,
            """
            ts  | card | amount | late_by | missed_start | missed_end
            300 | b    | 3      | 899     | 0            | 1_000
            """,
        )


def test_the_clock_goes_by_the_script() -> None:
    one, other = testing.rows("ts: int64\n5_000"), testing.rows("ts\n100", partition=1)
    patient = testing.source([one, testing.pause("4s"), other]).event_time("ts")
    late = testing.source([one, testing.pause("5s"), other]).event_time("ts")
    windows = [stream.window(tw.tumbling("1s")).agg(n=tw.count()) for stream in (patient, late)]
    testing.assert_table(windows[0].collect(), "window_start | n\n0 | 1\n5_000 | 1")
    with pytest.warns(tw.DroppedRowsWarning):
        testing.assert_table(windows[1].collect(), "window_start | n\n5_000 | 1")
    arrived = testing.source([one, testing.pause("90s"), one]).arrival_time("at").collect()
    testing.assert_table(arrived, "at | ts\n0 | 5000\n90_000 | 5000")


def test_a_script_ends_or_aborts_in_mid_stream() -> None:
    testing.assert_table(testing.source([FIRST, testing.eof(), FIRST]).collect(), FIRST)
    got: list[int] = []
    query = testing.source([FIRST, testing.abort(), FIRST]).run(sink=lambda batch: got.append(len(batch)))
    with pytest.raises(tw.ConnectorError, match="aborts here"):
        query.wait()
    assert sum(got) == 2


def test_a_difference_is_shown_row_by_row() -> None:
    result = pa.table({"card": ["a", "b", "c"], "n": [1, 2, 3]})
    with pytest.raises(AssertionError) as raised:
        testing.assert_table(result, "card | n\na | 1\nb | 20\nc | 3")
    assert str(raised.value).splitlines() == [
        "3 rows came, 3 were expected (+ came, - was expected)",
        "  card | n",
        "  a    | 1",
        "- b    | 20",
        "+ b    | 2",
        "  c    | 3",
    ]
    testing.assert_table(result, {"n": [1, 2, 3]})


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(tw.SchemaError, match="the type of column `ts` is unknown"):
        testing.source(["ts\n1"])
    with pytest.raises(tw.SchemaError, match="column `ts`: a cell does not fit Int64"):
        testing.source(["ts: int64\nsoon"])
    with pytest.raises(tw.SchemaError, match=r"the line `1 \| 2` has 2 cells"):
        testing.source(["ts: int64\n1 | 2"])
    with pytest.raises(tw.SchemaError, match="a script without rows"):
        testing.source([testing.pause("1s")])
    with pytest.raises(TypeError, match="rows must be a literal table"):
        testing.source([3])  # type: ignore[list-item]
    assert repr([testing.pause("5s"), testing.eof(), testing.abort()]) == "[pause(5s), eof(), abort()]"
