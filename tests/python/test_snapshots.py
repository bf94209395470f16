"""Streams that stop between two batches and go on from the bytes of their state."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import thalweg as tw
from thalweg import testing
from twins import rows_of

PARTS = [
    "ts: int64 | card: string | amount: int64\n 0 | a | 1\n 100 | b | 2\n 900 | a | 4",
    "ts | card | amount\n 1_100 | a | 8\n 1_200 | b | 16",
    "ts | card | amount\n 1_300 | a | 32\n 2_500 | b | 64\n 2_600 | a | 128",
]
COLUMNS = "ts: int64 | card: string | amount: int64"


class Amounts:
    """The amounts of a group, as a list of Python's."""

    def init(self) -> list[int]:
        return []

    def accumulate(self, state: list[int], rows: tw.Table) -> None:
        state.extend(row["amount"] for row in rows_of(rows))

    def merge(self, state: list[int], other: list[int]) -> None:
        state.extend(other)

    def finish(self, state: list[int]) -> str:
        return "+".join(str(amount) for amount in sorted(state))


def total_so_far(rows: tw.Table, state: dict[str, Any], ctx: tw.Context) -> dict[str, list[Any]]:
    state["total"] = state.get("total", 0) + sum(row["amount"] for row in rows_of(rows))
    return {"card": [rows_of(ctx.key)[0]["card"]], "total": [state["total"]]}


STEPS: dict[str, Callable[[tw.Stream], tw.Stream]] = {
    "custom": lambda s: s.window(tw.hopping("2s", "1s"), by="card").agg(
        amounts=tw.custom(Amounts, "amount", "string"), typical=tw.median("amount")
    ),
    "global": lambda s: s.window(tw.global_window(rows=2, purge=True), by="card", ttl="5s").agg(total=tw.sum("amount")),
    "process": lambda s: s.process(total_so_far, by="card", schema={"card": "string", "total": "int64"}, in_order=True),
    "rolling": lambda s: s.window(tw.rolling(rows=2), by="card", ttl="1s").agg(total=tw.sum("amount")),
}


def stream(parts: list[str], steps: Callable[[tw.Stream], tw.Stream]) -> tw.Stream:
    script = [testing.rows(COLUMNS), *(testing.rows(part) for part in parts)]
    return steps(testing.source(script).event_time("ts"))


def drained(batches: tw.Batches) -> list[dict[str, Any]]:
    rows = []
    while (batch := batches.pull(0)) is not None:
        rows += rows_of(batch)
    return rows


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", STEPS)
def test_a_stream_goes_on_from_its_snapshot(name: str, workers: int) -> None:
    steps = STEPS[name]
    expected = [row for batch in stream(PARTS, steps).batches() for row in rows_of(batch)]
    assert len(expected) > 3
    before = stream(PARTS, steps).batches()
    first = before.pull(60)
    assert first is not None
    found = rows_of(first) + drained(before)
    saved = before.snapshot()
    # The counters say how far it has read: the first part, or the second as well.
    left = {3: PARTS[1:], 5: PARTS[2:]}[before.metrics()["rows_in"]]
    after = stream(left, steps).batches(restore=saved, workers=workers)
    found += [row for batch in after for row in rows_of(batch)]

    def in_order(rows: list[dict[str, Any]]) -> list[str]:
        return sorted(str(row) for row in rows)

    assert in_order(found) == in_order(expected)


def test_what_cannot_be_saved_or_restored_is_said() -> None:
    batches = stream(PARTS, STEPS["custom"]).batches()
    with pytest.raises(tw.ConfigError, match="the snapshot is of another pipeline"):
        stream(PARTS, STEPS["rolling"]).batches(restore=batches.snapshot())
    with pytest.raises(tw.StateError):
        stream(PARTS, STEPS["custom"]).batches(restore=b"nothing of ours")
    while not batches.ended:
        batches.pull()
    with pytest.raises(tw.StateError, match="has no state any more"):
        batches.snapshot()

    def keeps_a_function(rows: tw.Table, state: dict[str, Any], ctx: tw.Context) -> dict[str, list[Any]]:
        state["f"] = lambda: None
        return {"card": [rows_of(ctx.key)[0]["card"]]}

    unsaved = stream(PARTS, lambda s: s.process(keeps_a_function, by="card", schema={"card": "string"})).batches()
    assert unsaved.pull(60) is not None
    drained(unsaved)
    # What Python raised comes out as it is, with a note of where.
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        unsaved.snapshot()
