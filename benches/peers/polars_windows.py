"""Polars' streaming engine over the Arrow table in memory; the harness sets POLARS_MAX_THREADS=1."""

import sys
from typing import Any

import protocol


def main() -> None:
    """Serves queries over the file named on the command line."""
    try:
        import polars as pl
        import pyarrow  # noqa: F401
    except ImportError:
        protocol.missing("polars")
        return
    events = pl.from_arrow(protocol.load(sys.argv[1]), rechunk=False).lazy()
    value = pl.col("value")
    sums = [pl.col(name).sum() for name in ("n", "sum", "min", "max", "mean")]

    def windows(question: dict[str, Any]) -> Any:
        key, slide = question["key"], question["slide"]
        grouped = events.group_by(pl.col("ts") // slide, key).agg(
            n=pl.len().cast(pl.Int64), sum=value.sum(), min=value.min(), max=value.max(), mean=value.mean()
        )
        panes = question["size"] // slide
        if panes == 1:
            return grouped
        # Panes first, then the panes of each window.
        spread = grouped.with_columns(w=pl.concat_list([pl.col("ts") - back for back in range(panes)])).explode("w")
        parts = [pl.col("n").sum(), pl.col("sum").sum(), pl.col("min").min(), pl.col("max").max()]
        return spread.group_by("w", key).agg(parts).with_columns(mean=pl.col("sum") / pl.col("n"))

    def rolling(question: dict[str, Any]) -> Any:
        size, key, time = question["size"], question["key"], question["time"]
        # A stable sort: rows of one time stay in the order in which they came.
        rows = events.sort(time, maintain_order=True) if time else events
        return rows.select(
            mean=value.rolling_mean(size, min_samples=1).over(key), std=value.rolling_std(size, min_samples=2).over(key)
        ).select(pl.len(), n=0, sum=0.0, min=0.0, max=0.0, mean=pl.col("mean").sum(), std=pl.col("std").sum())

    def session(question: dict[str, Any]) -> Any:
        key = pl.col(question["key"])
        begins = (pl.col("ts").diff() > question["size"]) | (key != key.shift())
        sessions = events.sort(key, "ts").with_columns(session=begins.fill_null(True).cum_sum())
        return sessions.group_by("session").agg(
            n=pl.len().cast(pl.Int64), sum=value.sum(), min=value.min(), max=value.max(), mean=value.mean()
        )

    def answer(question: dict[str, Any]) -> tuple[Any, ...]:
        if question["query"] == "rolling":
            return rolling(question).collect(engine="streaming").row(0)
        if question["query"] == "filter":
            kept = events.filter(value > question["limit"])
            counts = kept.group_by(pl.col("ts") // question["size"]).agg(n=pl.len().cast(pl.Int64))
            return counts.select(pl.len(), pl.col("n").sum()).collect(engine="streaming").row(0)
        grouped = session(question) if question["query"] == "session" else windows(question)
        return grouped.select(pl.len(), *sums).collect(engine="streaming").row(0)

    protocol.serve(f"Polars {pl.__version__}", answer)


main()
