"""One process per peer: a query per line comes in as JSON, seconds and sums over the result rows go out."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

COLUMNS = ("rows", "n", "sum", "min", "max", "mean", "std")


def missing(package: str) -> None:
    """Says that this peer cannot take part."""
    print(json.dumps({"missing": package}), flush=True)


def serve(engine: str, answer: Callable[[dict[str, Any]], tuple[Any, ...]]) -> None:
    """Answers until the input ends; `answer` returns the values of `COLUMNS` or the first of them."""
    print(json.dumps({"engine": engine}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        start, cpu_start = time.perf_counter(), time.process_time()
        values = answer(question)
        timing = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
        print(json.dumps({**timing, **dict(zip(COLUMNS, values, strict=False))}), flush=True)


def load(path: str) -> Any:
    """The Arrow file as a table in memory."""
    import pyarrow as pa

    with pa.OSFile(path) as file:
        return pa.ipc.open_file(file).read_all()
