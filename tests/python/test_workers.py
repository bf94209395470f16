"""Several workers give what one gives."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of


def payments(rows: int = 5_000) -> pa.Table:
    dice = random.Random(7)
    return pa.table(
        {
            "ts": [row - dice.randrange(40) for row in range(rows)],
            "card": [dice.choice(["a", "b", "c", None]) for _ in range(rows)],
            "amount": [float(dice.randrange(1_000)) for _ in range(rows)],
        }
    )


def per_card() -> tw.Stream:
    timed = tw.from_arrow(payments()).event_time("ts", max_delay="50ms").filter("amount > 10")
    return timed.window(tw.tumbling("100ms"), by="card").agg(
        n=tw.count(), total=tw.sum("amount"), first=tw.first("amount"), last=tw.last("amount")
    )


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["window_start"], str(row["card"])))


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("exchange", ["auto", "hash", "two_phases", "windows"])
def test_workers_change_nothing(workers: int, exchange: Any) -> None:
    config = tw.Config(batch_rows=256, exchange=exchange)
    one, several = per_card().collect(config=config), per_card().collect(workers=workers, config=config)
    assert in_order(rows_of(several)) == in_order(rows_of(one))
    for counter in ("rows_in", "rows_out", "late_rows"):
        assert several.metrics()[counter] == one.metrics()[counter]
    if exchange != "hash":
        assert rows_of(several) == rows_of(one), "in two phases and by window not even the order changes"
    (how,) = several.metrics()["exchanges"]
    ways = {"hash": ["by key hash"], "two_phases": ["in two phases"], "windows": ["by window"]}
    possible = ways.get(exchange, ["in two phases", "by window"])
    assert any(f"{workers} workers share the rows {way}" in how for way in possible), how
    assert one.metrics()["exchanges"] == []


def test_iterating_and_running_take_workers_too() -> None:
    expected = in_order(rows_of(per_card().collect()))
    pulled = [row for batch in per_card().batches(workers=2) for row in rows_of(batch)]
    assert in_order(pulled) == expected
    seen: list[dict[str, Any]] = []
    with per_card().run(lambda batch: seen.extend(rows_of(batch)), workers=2) as query:
        query.wait()
    assert in_order(seen) == expected


def test_a_function_in_python_runs_in_workers() -> None:
    def big(rows: tw.Table, state: dict[str, Any], context: tw.Context) -> Any:
        state["n"] = state.get("n", 0) + len(rows)
        return pa.table({"card": [rows.to_arrow()["card"][0].as_py()], "n": [state["n"]]})

    stream = tw.from_arrow(payments(500)).event_time("ts", max_delay="50ms")
    counted = stream.process(big, by="card", schema={"card": "string", "n": "int64"})

    def last(table: tw.Table) -> dict[str, int]:
        return {row["card"]: row["n"] for row in rows_of(table)}

    assert last(counted.collect(workers=2)) == last(counted.collect())


def test_a_plan_says_who_shares_what() -> None:
    assert "2 workers share its rows by key hash, in two phases" in per_card().explain(config=tw.Config(workers=2))
    assert "workers" not in per_card().explain()


def test_a_query_says_which_windows_share_panes_before_and_after_its_end() -> None:
    timed = tw.from_arrow(payments()).event_time("ts", max_delay="50ms")
    hopping = timed.window(tw.hopping("200ms", "50ms"), by="card").agg(n=tw.count())
    tumbling = timed.window(tw.tumbling("1s"), by="card").agg(total=tw.sum("amount"))

    def run(workers: int) -> tw.Query:
        return tw.run([(hopping, lambda _: None), (tumbling, lambda _: None)], workers=workers)

    shared = (
        "panes of 50ms by [card] are shared by `window(hopping(200ms, 50ms) by [card]: count(*) AS n)`, "
        "`window(tumbling(1s) by [card]: sum(amount) AS total)`"
    )
    with run(2) as query:
        running = query.explain()
        query.wait()
    assert query.explain() == running
    assert running.splitlines()[-1] == shared + ", in each worker"
    assert running.count("2 workers share its rows by key hash") == 2
    assert running.count("event_time(ts, max_delay 50ms") == 2, "the steps of each stream"
    with run(1) as alone:
        assert alone.explain().splitlines()[-1] == shared
