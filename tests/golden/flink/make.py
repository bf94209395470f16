"""Lets Flink SQL answer windows over `events.csv`, and writes what it says beside it; `make flink` runs this."""

import csv
import random
from datetime import datetime, timezone
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment
from pyflink.version import __version__

HERE = Path(__file__).parent
HEADER = ["key", "window_start", "window_end", "n", "known", "total", "lo", "hi", "mean", "whole"]
AGGREGATES = """
    COUNT(*) AS n, COUNT(`value`) AS known, SUM(`value`) AS total, MIN(`value`) AS lo, MAX(`value`) AS hi,
    AVG(`value`) AS mean, SUM(whole) AS whole
"""
WINDOWS = {
    "tumble": "TUMBLE(TABLE events, DESCRIPTOR(`at`), INTERVAL '1' SECOND)",
    "hop": "HOP(TABLE events, DESCRIPTOR(`at`), INTERVAL '1' SECOND, INTERVAL '3' SECOND)",
    "cumulate": "CUMULATE(TABLE events, DESCRIPTOR(`at`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)",
    "session": "SESSION(TABLE events PARTITION BY `key`, DESCRIPTOR(`at`), INTERVAL '0.700' SECOND)",
}
# No row is late, whenever Flink lets the watermark go on.
TABLE = """
    CREATE TABLE events (
        ts BIGINT, `key` STRING, `value` DOUBLE, whole BIGINT,
        `at` AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR `at` AS `at` - INTERVAL '0.500' SECOND
    ) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv', 'csv.null-literal' = 'n/a')
"""


def write_events(path: Path) -> None:
    """Rows up to 450 ms behind others, some of one time, gaps of just 700 ms among them; all values are quarters."""
    rng = random.Random(3)
    now, rows = 1_700_000_000_000, []
    for _ in range(400):
        now += rng.choice([0, 1, 50, 90, 350, 700])
        key = rng.choice(["a", "b", "b", "c", "n/a"])
        value = rng.choice(["n/a", *(str(rng.randrange(-400, 400) / 4) for _ in range(9))])
        rows.append([now - rng.choice([0, 0, 0, 50, 450]), key, value, rng.choice(["n/a", rng.randrange(-9, 9), 7])])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def plain(value: object) -> object:
    """Times as milliseconds since 1970, nulls as nothing."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=timezone.utc).timestamp() * 1_000)
    return "" if value is None else value


def main() -> None:
    """Writes all files."""
    write_events(HERE / "events.csv")
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    environment.get_config().set("parallelism.default", "1")
    environment.get_config().set("table.local-time-zone", "UTC")
    environment.execute_sql(TABLE.format(path=HERE / "events.csv"))
    for name, windows in WINDOWS.items():
        keys = "`key`, window_start, window_end"
        query = f"SELECT {keys}, {AGGREGATES} FROM {windows} GROUP BY {keys}"
        with environment.execute_sql(query).collect() as results:
            rows = [[plain(value) for value in row] for row in results]
        rows.sort(key=lambda row: (row[1], row[2], str(row[0])))
        with (HERE / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([HEADER, *rows])
    (HERE / "VERSION").write_text(f"Apache Flink {__version__}\n")


main()
