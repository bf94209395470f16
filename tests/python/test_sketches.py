"""Sketches written as columns, read back, and merged later."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import thalweg as tw

ROWS = 120_000


def visits() -> pa.Table:
    users = [f"u{row * 7919 % 9_973 % (4_000 if row % 2 else 50)}" for row in range(ROWS)]
    loads = [((row * 104_729) % 50_021 + 1) / 100 for row in range(ROWS)]
    pages = ["home" if row % 2 else "cart" for row in range(ROWS)]
    return pa.table({"ts": [row * 10 for row in range(ROWS)], "page": pages, "user": users, "load": loads})


def sketches() -> dict[str, tw.Aggregate]:
    return {"users": tw.approx_distinct("user").sketch(), "loads": tw.quantile("load", 0.99).sketch()}


def test_sketches_written_to_parquet_merge_to_those_of_the_whole(tmp_path: Path) -> None:
    stream = tw.from_arrow(visits()).event_time("ts")
    minutes = stream.window(tw.tumbling("1m"), by="page").agg(**sketches())
    minutes.run(sink=tw.write_parquet(str(tmp_path))).wait()
    files = sorted(tmp_path.glob("*.parquet"))
    assert files
    assert pq.read_schema(files[0]).field("users").type == pa.binary()

    kept = tw.read_parquet(str(tmp_path / "*.parquet")).event_time("window_start", max_delay="1h")
    rolled_up = kept.window(tw.tumbling("1h"), by="page").agg(
        users=tw.merge_distinct("users").sketch(),
        loads=tw.merge_quantile("loads", 0.99).sketch(),
        n=tw.merge_distinct("users"),
        p99=tw.merge_quantile("loads", 0.99),
    )
    got = rolled_up.collect().to_polars().sort("page")
    whole = stream.window(tw.tumbling("1h"), by="page").agg(**sketches())
    want = whole.collect(workers=2).to_polars().sort("page")
    assert got["users"].to_list() == want["users"].to_list()
    assert got["loads"].to_list() == want["loads"].to_list()

    exact = (
        pl.DataFrame(visits())
        .group_by("page")
        .agg(n=pl.col("user").n_unique(), p99=pl.col("load").quantile(0.99, interpolation="lower"))
    )
    for row, truth in zip(got.iter_rows(named=True), exact.sort("page").iter_rows(named=True), strict=True):
        assert abs(row["n"] / truth["n"] - 1) < 5 * 0.0163
        assert row["p99"] == pytest.approx(truth["p99"], rel=0.01)


def test_expressions_estimate_from_sketches() -> None:
    windows = tw.from_arrow(visits()).event_time("ts").window(tw.tumbling("1m"), by="page")
    numbers = windows.agg(**sketches(), n=tw.count_distinct("user")).with_columns(
        users="sketch_distinct(users)", p99="sketch_quantile(loads, 0.99)"
    )
    table = numbers.filter("page = 'cart'").collect().to_polars()
    assert table["users"].to_list() == table["n"].to_list()
    assert table["p99"].dtype == pl.Float64
    # Columns of Polars come as large or viewed binary.
    again = windows.agg(**sketches()).collect().to_polars()
    merged = tw.from_arrow(again).event_time("window_start").window(tw.tumbling("1h"), by="page")
    result = merged.agg(users=tw.merge_distinct("users"), some=tw.merge_distinct("users", where="page = 'cart'"))
    by_page = {row["page"]: row for row in result.collect().to_polars().iter_rows(named=True)}
    assert by_page["cart"]["users"] == by_page["cart"]["some"] > by_page["home"]["some"] == 0


def test_bytes_of_something_else_are_refused() -> None:
    table = pa.table({"ts": [0, 1], "s": [None, b"no sketch"], "n": [1, 2]})
    windows = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"))
    with pytest.raises(tw.DecodeError, match="column `s`, row 1 of its batch"):
        windows.agg(n=tw.merge_distinct("s")).collect()
    with pytest.raises(tw.DecodeError, match="not a DDSketch"):
        windows.agg(p=tw.merge_quantile("s", 0.5)).collect()
    with pytest.raises(tw.SchemaError, match="`quantile` makes them"):
        windows.agg(p=tw.merge_quantile("n", 0.5)).collect()
    with pytest.raises(tw.ConfigError, match="there is no sketch of it"):
        windows.agg(n=tw.sum("n").sketch()).collect()
    assert "quantile_sketch(n, error 0.02) AS q" in repr(windows.agg(q=tw.median("n", error=0.02).sketch()))
    one_percent = windows.agg(q=tw.median("n").sketch()).window(tw.tumbling("1m"))
    with pytest.raises(tw.SchemaError, match="only sketches of one error merge"):
        one_percent.agg(p=tw.merge_quantile("q", 0.5, error=0.02)).collect()
