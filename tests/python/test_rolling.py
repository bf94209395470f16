"""Rolling windows against polars and against their definition."""

from __future__ import annotations

import math
import random
import statistics
from datetime import timedelta

import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from twins import make_payments, rows_of


def shuffled(table: pa.Table, seed: int = 5) -> pa.Table:
    """The same rows, each up to twenty places from where it was."""
    rng = random.Random(seed)
    order = sorted(range(table.num_rows), key=lambda row: row + rng.randrange(20))
    return table.take(order)


@pytest.mark.parametrize("batch_rows", [1, 617, 16_384])
def test_the_last_rows_of_each_card_agree_with_polars(batch_rows: int) -> None:
    payments = make_payments(3_000)
    windows = tw.from_arrow(shuffled(payments)).event_time("ts", max_delay="2s").window(tw.rolling(rows=20), by="card")
    result = windows.agg(m=tw.mean("amount"), s=tw.std("amount"), hi=tw.max("amount"), n=tw.count())
    ours = result.collect(config=tw.Config(batch_rows=batch_rows)).to_polars()
    assert ours.columns == ["ts", "card", "amount", "m", "s", "hi", "n"]
    amount = pl.col("amount")
    theirs = pl.DataFrame(shuffled(payments)).sort("ts", maintain_order=True)
    theirs = theirs.with_columns(
        m=amount.rolling_mean(20, min_samples=1).over("card"),
        s=amount.rolling_std(20, min_samples=2).over("card"),
        hi=amount.rolling_max(20, min_samples=1).over("card"),
    )
    assert ours["amount"].to_list() == theirs["amount"].to_list()
    assert ours["hi"].to_list() == theirs["hi"].to_list()
    for name in ("m", "s"):
        for mine, other in zip(ours[name], theirs[name], strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or math.isclose(mine, other, rel_tol=1e-9)


def test_a_range_of_time_and_the_score_of_a_row() -> None:
    rows = rows_of(make_payments(2_000))
    stream = tw.from_arrow(make_payments(2_000)).event_time("ts")
    windows = stream.window(tw.rolling(range=timedelta(seconds=3)), by="card")
    result = rows_of(windows.agg(n=tw.count(), z=tw.zscore("amount"), v=tw.var("amount")).collect())
    assert len(result) == len(rows)
    seen: dict[str | None, list[tuple[int, float | None]]] = {}
    for row in result:
        history = seen.setdefault(row["card"], [])
        before = [amount for ts, amount in history if ts >= row["ts"] - 3_000]
        assert row["n"] == len(before) + 1
        known = [amount for amount in before if amount is not None]
        if row["amount"] is None or len(known) < 2:
            assert row["z"] is None
        else:
            score = (row["amount"] - statistics.fmean(known)) / statistics.stdev(known)
            assert math.isclose(row["z"], score, rel_tol=1e-9, abs_tol=1e-9)
        history.append((row["ts"], row["amount"]))


def test_without_an_event_time_rows_are_answered_as_they_come() -> None:
    table = pa.table({"v": [1, 2, 3, 4]})
    result = tw.from_arrow(table).window(tw.rolling(rows=2)).agg(total=tw.sum("v")).collect()
    assert result.to_arrow().to_pydict() == {"v": [1, 2, 3, 4], "total": [1, 3, 5, 7]}


def test_late_rows_are_put_aside() -> None:
    table = pa.table({"ts": [0, 1_000, 10, 2_000], "v": [1.0, 2.0, 3.0, 4.0]})
    windows = tw.from_arrow(table).event_time("ts").window(tw.rolling(rows=3)).agg(total=tw.sum("v"))
    with pytest.warns(tw.DroppedRowsWarning):
        result = windows.collect()
    assert result.to_arrow()["total"].to_pylist() == [1.0, 3.0, 7.0]
    assert result.late.to_arrow()["v"].to_pylist() == [3.0]


def test_what_cannot_work_is_refused() -> None:
    stream = tw.from_arrow(make_payments(10))
    with pytest.raises(tw.ConfigError, match="call `event_time"):
        stream.window(tw.rolling(range="1s"))
    with pytest.raises(tw.ConfigError, match="give one of the two"):
        tw.rolling()
    with pytest.raises(tw.ConfigError, match="give one of the two"):
        tw.rolling(rows=1, range="1s")
    with pytest.raises(tw.ConfigError, match="rolling windows"):
        stream.event_time("ts").window(tw.tumbling("1s")).agg(z=tw.zscore("amount"))
