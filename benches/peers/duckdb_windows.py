"""DuckDB on one thread over the Arrow table in memory."""

import sys
from typing import Any

import protocol

WINDOWS = """
SELECT count(*), sum(n)::BIGINT, sum(s), sum(lo), sum(hi), sum(m) FROM (
    SELECT ts // {slide} AS w, {key}, count(*) AS n, sum(value) AS s, min(value) AS lo, max(value) AS hi, avg(value) AS m
    FROM events GROUP BY ALL)
"""

# Panes first, then the panes of each window: ten times as fast as joining rows to windows.
HOPPING = """
SELECT count(*), sum(n)::BIGINT, sum(s), sum(lo), sum(hi), sum(s / n) FROM (
    SELECT w, {key}, sum(n) AS n, sum(s) AS s, min(lo) AS lo, max(hi) AS hi
    FROM (SELECT pane - back AS w, {key}, n, s, lo, hi FROM (
            SELECT ts // {slide} AS pane, {key}, count(*) AS n, sum(value) AS s, min(value) AS lo, max(value) AS hi
            FROM events GROUP BY ALL), range({panes}) AS backs(back))
    GROUP BY ALL)
"""

# A RANGE frame: rows of one time are of one session.
SESSION = """
SELECT count(*), sum(n)::BIGINT, sum(s), sum(lo), sum(hi), sum(m) FROM (
    SELECT {key}, session, count(*) AS n, sum(value) AS s, min(value) AS lo, max(value) AS hi, avg(value) AS m FROM (
        SELECT {key}, value, sum(begins) OVER (PARTITION BY {key} ORDER BY ts RANGE UNBOUNDED PRECEDING) AS session FROM (
            SELECT {key}, ts, value, CASE WHEN ts - lag(ts) OVER (PARTITION BY {key} ORDER BY ts) <= {size} THEN 0 ELSE 1 END AS begins
            FROM events))
    GROUP BY ALL)
"""

# Rows of one time in the order in which they came, as a stream takes them.
ROLLING = """
SELECT count(*), 0::BIGINT, 0::DOUBLE, 0::DOUBLE, 0::DOUBLE, sum(m), sum(s) FROM (
    SELECT avg(value) OVER w AS m, stddev_samp(value) OVER w AS s
    FROM (SELECT *, row_number() OVER () AS arrival FROM events)
    WINDOW w AS (PARTITION BY {key} ORDER BY {order} ROWS BETWEEN {size} - 1 PRECEDING AND CURRENT ROW))
"""

FILTER = "SELECT count(*), sum(n)::BIGINT FROM (SELECT ts // {size} AS w, count(*) AS n FROM events WHERE value > {limit} GROUP BY ALL)"


def order(question: dict[str, Any]) -> str:
    """What the rows of a rolling window are ordered by."""
    return f"{question['time']}, arrival" if question["time"] else "arrival"


def main() -> None:
    """Serves queries over the file named on the command line."""
    try:
        import duckdb
        import pyarrow  # noqa: F401
    except ImportError:
        protocol.missing("duckdb")
        return
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.register("events", protocol.load(sys.argv[1]))

    def answer(question: dict[str, Any]) -> tuple[Any, ...]:
        if question["query"] == "filter":
            text = FILTER
        elif question["query"] == "session":
            return connection.execute(SESSION.format(**question)).fetchone()
        elif question["query"] == "rolling":
            return connection.execute(ROLLING.format(order=order(question), **question)).fetchone()
        else:
            text = WINDOWS if question["size"] == question["slide"] else HOPPING
        panes = question["size"] // question["slide"]
        return connection.execute(text.format(panes=panes, **question)).fetchone()

    protocol.serve(f"DuckDB {duckdb.__version__}", answer)


main()
