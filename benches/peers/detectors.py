"""Detectors of other packages over rows given as JSON on the standard input: for each a line with points per second.

The arguments are the entries of the harness that peers are wanted for.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

# Rows that the slowest of them is given.
FEW = 300

# Values of a stretch whose shape is looked for, and of the history that it is looked for in.
LENGTH = 64
HISTORY = 4_000

# Rows that a matrix profile is kept up with.
SOME = 2_000


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


def forests(rows: list[list[float]], wanted: set[str]) -> None:
    """Random Cut Forests of the first column."""
    names = {f"random cut forest, 50 x 256, shingle {shingle}": shingle for shingle in (1, 8)}
    if not wanted & names.keys():
        return
    import rcf3

    for name in sorted(wanted & names.keys()):
        forest = rcf3.Forest(
            1, shingle_size=names[name], num_trees=50, capacity=256, time_decay=1 / 2560, initial_accept_fraction=1.0
        )
        measured(name, "rcf3 (Rust)", forest.update_and_score, ([row[0]] for row in rows))


def half_space_trees(rows: list[list[float]], wanted: set[str]) -> None:
    """Half-Space Trees of all columns, each of which lies between 0 and 1 as they ask for."""
    name = "half-space trees, 25 x 15, 8 columns"
    if name not in wanted:
        return
    from river import anomaly

    trees = anomaly.HalfSpaceTrees(n_trees=25, height=15, window_size=250, seed=1)

    def step(row: dict[str, float]) -> None:
        trees.score_one(row)
        trees.learn_one(row)

    measured(name, "River", step, ({f"x{at}": (value + 6) / 16 for at, value in enumerate(row)} for row in rows[:FEW]))


def matrix_profile(values: Any) -> Any:
    """The nearest neighbours of all stretches, as stumpy has them: its own way is compiled for minutes first."""
    import numpy as np

    stretches = np.lib.stride_tricks.sliding_window_view(values, LENGTH)
    deviations = stretches - stretches.mean(axis=1, keepdims=True)
    units = deviations / np.linalg.norm(deviations, axis=1, keepdims=True)
    correlations = units @ units.T
    apart = np.arange(len(units))[:, None] - np.arange(len(units))[None, :]
    # Stretches that lie within a quarter of a length of each other are the same one.
    correlations[np.abs(apart) <= LENGTH // 4] = -np.inf
    left, right = np.where(apart > 0, correlations, -np.inf), np.where(apart < 0, correlations, -np.inf)
    nearest = correlations.argmax(axis=1)
    profile = np.empty((len(units), 4), dtype=object)
    profile[:, 0] = np.sqrt(2 * LENGTH * np.maximum(0, 1 - correlations.max(axis=1)))
    profile[:, 1] = nearest
    for place, side in ((2, left), (3, right)):
        profile[:, place] = np.where(np.isneginf(side.max(axis=1)), -1, side.argmax(axis=1))
    return profile


def left_discord(rows: list[list[float]], wanted: set[str]) -> None:
    """A matrix profile that is kept up with the first column."""
    name = "left discord, 64 of 4,000"
    if name not in wanted:
        return
    import numpy as np
    import stumpy

    values = np.array([row[0] for row in rows])
    # Of few rows half are the history.
    history = min(HISTORY, len(values) // 2)
    series = stumpy.stumpi(values[:history].copy(), m=LENGTH, egress=True, mp=matrix_profile(values[:history]))
    measured(name, "stumpy.stumpi", series.update, values[history : history + SOME])


def main() -> None:
    """Measures the packages that are there."""
    rows, wanted = json.load(sys.stdin), set(sys.argv[1:])
    for measure in (forests, half_space_trees, left_discord):
        try:
            measure(rows, wanted)
        except ImportError as missing:
            print(f"{missing.name} is not importable: install it with pip", file=sys.stderr)


main()
