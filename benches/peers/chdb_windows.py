"""chDB (ClickHouse in the process) on one thread over the Arrow table in memory: rolling windows."""

import json
import sys
from typing import Any

import protocol

ROLLING = """
SELECT count(), 0, 0., 0., 0., sum(m), sumIf(s, NOT isNaN(s)) FROM (
    SELECT avg(value) OVER w AS m, stddevSamp(value) OVER w AS s
    FROM events WINDOW w AS (PARTITION BY {key} ORDER BY {order} ROWS BETWEEN {before} PRECEDING AND CURRENT ROW))
SETTINGS max_threads = 1
"""


def main() -> None:
    """Serves queries over the file named on the command line."""
    try:
        import chdb
        import pyarrow as pa
        from chdb.session import Session
    except ImportError:
        protocol.missing("chdb")
        return
    events = protocol.load(sys.argv[1])
    # Windows are ordered by something: the row's number, as the rows came.
    events = events.append_column("arrival", pa.array(range(events.num_rows), pa.int64()))
    connection = Session()
    connection.query("CREATE TABLE events ENGINE = Memory AS SELECT * FROM Python(events)")

    def answer(question: dict[str, Any]) -> tuple[Any, ...]:
        order = f"{question['time']}, arrival" if question["time"] else "arrival"
        text = ROLLING.format(key=question["key"], order=order, before=question["size"] - 1)
        row = json.loads(connection.query(text, "JSONCompactEachRow").bytes())
        return (int(row[0]), int(row[1]), *(float(value) for value in row[2:]))

    protocol.serve(f"chDB {chdb.__version__}", answer)


main()
