"""Forests of other packages over rows given as JSON on the standard input: for each a line with points per second."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

# Rows that the slowest of them is given.
FEW = 300


def measured(beside: str, peer: str, step: Callable[[Any], Any], rows: Iterable[Any]) -> None:
    """Scores each row and learns from it; prints how many a second."""
    rows = list(rows)
    # What is made with the first row does not count.
    step(rows[0])
    start = time.perf_counter()
    for row in rows[1:]:
        step(row)
    rate = (len(rows) - 1) / (time.perf_counter() - start)
    print(json.dumps({"beside": beside, "peer": peer, "per_second": rate}), flush=True)


def main() -> None:
    """Measures the packages that are there."""
    rows = json.load(sys.stdin)
    try:
        import rcf3
    except ImportError:
        print("rcf3 is not importable: install it with pip", file=sys.stderr)
    else:
        for shingle in (1, 8):
            forest = rcf3.Forest(
                1, shingle_size=shingle, num_trees=50, capacity=256, time_decay=1 / 2560, initial_accept_fraction=1.0
            )
            measured(
                f"random cut forest, 50 x 256, shingle {shingle}",
                "rcf3 (Rust)",
                forest.update_and_score,
                ([row[0]] for row in rows),
            )
    try:
        from river import anomaly
    except ImportError:
        print("river is not importable: install it with pip", file=sys.stderr)
    else:
        trees = anomaly.HalfSpaceTrees(n_trees=25, height=15, window_size=250, seed=1)

        def step(row: dict[str, float]) -> None:
            trees.score_one(row)
            trees.learn_one(row)

        named = ({f"x{at}": (value + 6) / 16 for at, value in enumerate(row)} for row in rows[:FEW])
        measured("half-space trees, 25 x 15, 8 columns", "River", step, named)


main()
