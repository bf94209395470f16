"""Windows against what Flink SQL made of the same rows; `make flink` lets it do so again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import thalweg as tw
from twins import rows_of

GOLDEN = Path(__file__).parents[1] / "golden/flink"

WINDOWS = {
    "tumble": tw.tumbling("1s"),
    "hop": tw.hopping("3s", "1s"),
    "cumulate": tw.cumulate("10s", "2s"),
    "session": tw.session("700ms"),
}
NUMBERS = ["total", "lo", "hi", "mean"]


def golden(name: str) -> list[dict[str, Any]]:
    with (GOLDEN / f"{name}.csv").open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for column, text in row.items():
            kind = str if column == "key" else float if column in NUMBERS else int
            row[column] = None if text == "" else kind(text)
    return rows


def events() -> tw.Stream:
    schema = {"ts": "int64", "key": "string", "value": "string", "whole": "string"}
    rows = tw.read_csv(str(GOLDEN / "events.csv"), schema=schema, header=False)
    known = {"key": "nullif(key, 'n/a')", "value": "cast(nullif(value, 'n/a') AS double)"}
    return rows.event_time("ts", max_delay="500ms").with_columns(**known, whole="cast(nullif(whole, 'n/a') AS bigint)")


@pytest.mark.parametrize("batch_rows", [1, 64, 16_384])
@pytest.mark.parametrize("name", WINDOWS)
def test_every_window_is_that_of_flink(name: str, batch_rows: int) -> None:
    aggregates = {"n": tw.count(), "known": tw.count("value"), "total": tw.sum("value"), "lo": tw.min("value")}
    windows = events().window(WINDOWS[name], by="key")
    results = windows.agg(**aggregates, hi=tw.max("value"), mean=tw.mean("value"), whole=tw.sum("whole"))
    ours = results.collect(config=tw.Config(batch_rows=batch_rows))
    assert ours.metrics()["late_rows"] == 0

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["window_start"], row["window_end"], str(row["key"]))

    theirs = golden(name)
    # All values are quarters: sums are exact, and means are what division makes of them.
    assert sorted(rows_of(ours), key=place) == sorted(theirs, key=place)
    assert len(theirs) > 50
