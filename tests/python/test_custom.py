"""Aggregates that are Python classes."""

from __future__ import annotations

import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of

TRADES = pa.table(
    {
        "ts": pa.array([0, 100, 900, 1_200, 1_300], pa.timestamp("ms")),
        "symbol": ["a", "b", "a", "a", "b"],
        "price": [10.0, 5.0, 20.0, 30.0, 7.0],
        "volume": [1.0, 2.0, 3.0, 0.0, 1.0],
    }
)


class Vwap:
    """Keeps money and volume in a list that it changes in place."""

    def init(self) -> list[float]:
        return [0.0, 0.0]

    def accumulate(self, state: list[float], rows: tw.Table) -> None:
        columns = rows.to_arrow().to_pydict()
        for price, volume in zip(columns["price"], columns["volume"], strict=True):
            state[0] += price * volume
            state[1] += volume

    def merge(self, state: list[float], other: list[float]) -> None:
        state[0] += other[0]
        state[1] += other[1]

    def finish(self, state: list[float]) -> float | None:
        return state[0] / state[1] if state[1] else None


class Last:
    """Has no state to begin with."""

    def accumulate(self, state: float | None, rows: tw.Table) -> float | None:
        price: float | None = rows.to_arrow()["price"].to_pylist()[-1]
        return price

    def merge(self, state: float | None, other: float | None) -> float | None:
        return other

    def finish(self, state: float | None) -> float | None:
        return state


def windows(window: tw.Window) -> tw.Windowed:
    return tw.from_arrow(TRADES).event_time("ts").window(window, by="symbol")


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_class_is_an_aggregate(batch_rows: int) -> None:
    stream = windows(tw.tumbling("1s")).agg(
        vwap=tw.custom(Vwap, ["price", "volume"], "float64"),
        big=tw.custom(Vwap(), ["price", "volume"], pa.float64(), where="volume > 2"),
        last=tw.custom(Last, "price", "float64"),
    )
    config = tw.Config(batch_rows=batch_rows)
    found = [(row["symbol"], row["vwap"], row["big"], row["last"]) for row in rows_of(stream.collect(config=config))]
    assert found == [("a", 17.5, 20.0, 20.0), ("b", 5.0, None, 5.0), ("a", None, None, 30.0), ("b", 7.0, None, 7.0)]


def test_overlapping_windows_merge_states_and_change_no_shared_one() -> None:
    stream = windows(tw.hopping("2s", "1s")).agg(vwap=tw.custom(Vwap, ["price", "volume"], "float64"))
    found = [(row["symbol"], row["vwap"]) for row in rows_of(stream.collect())]
    assert found == [("a", 17.5), ("b", 5.0), ("a", 17.5), ("b", 17.0 / 3), ("a", None), ("b", 7.0)]


def test_what_goes_wrong_is_said() -> None:
    class Fails(Last):
        def finish(self, state: float | None) -> float | None:
            raise ValueError("no such price")

    with pytest.raises(ValueError, match="no such price"):
        windows(tw.tumbling("1s")).agg(x=tw.custom(Fails, "price", "float64")).collect()
    with pytest.raises(TypeError, match="object has no accumulate"):
        tw.custom(object(), "price", "float64")  # type: ignore[arg-type]
    with pytest.raises(tw.SchemaError, match="no column `prize`"):
        _ = windows(tw.tumbling("1s")).agg(x=tw.custom(Last, "prize", "float64")).schema
