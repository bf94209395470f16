"""Detectors of several columns: Random Cut Forest beside `rrcf`, and which columns are blamed."""

import math
import random
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rrcf

import thalweg as tw
from twins import rows_of

POINTS = 64


def detect(columns: dict[str, list[float]], detector: tw.anomaly.Detector, **options: Any) -> list[dict[str, Any]]:
    return rows_of(tw.from_arrow(pa.table(columns)).detect(detector, on=list(columns), **options).collect())


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("place", ["far", "edge", "middle"])
def test_scores_are_those_of_the_trees_of_rrcf(dimensions: int, place: str) -> None:
    chance = random.Random(dimensions)
    points = np.array([[chance.gauss(0, 1) for _ in range(dimensions)] for _ in range(POINTS)])
    query = np.full(dimensions, {"far": 9.0, "edge": 2.2, "middle": 0.05}[place])
    # An inserted point has the depth at which it was parted from the others, and one.
    theirs = []
    for seed in range(150):
        np.random.seed(seed)
        tree = rrcf.RCTree(points)
        for _ in range(3):
            leaf = tree.insert_point(query, index="query")
            theirs.append(math.log2(POINTS + 1) / leaf.d)
            tree.forget_point("query")
    columns = {f"x{at}": [*points[:, at], query[at]] for at in range(dimensions)}
    forest = tw.anomaly.random_cut_forest(number_of_trees=600, sample_size=POINTS, time_decay=0.0, output_after=1)
    ours = detect(columns, forest)[-1]["score"]
    # Insertions into one tree are not independent: a third of them count.
    error = statistics.stdev(theirs) / math.sqrt(len(theirs) / 3)
    assert abs(ours - statistics.mean(theirs)) < 5 * error, (ours, statistics.mean(theirs), error)


def test_the_column_that_is_strange_is_blamed_with_its_direction() -> None:
    chance = random.Random(5)
    columns = {name: [chance.gauss(0, 1) for _ in range(1_000)] for name in ("cpu", "memory")}
    columns["memory"][900] = -12.0
    rows = detect(columns, tw.anomaly.random_cut_forest(), attribution=True)
    parts = rows[900]["attribution"]
    assert rows[900]["is_anomaly"]
    assert parts["memory"] < -0.8 * rows[900]["score"]
    for row in rows:
        assert abs(sum(map(abs, row["attribution"].values())) - row["score"]) < 1e-4
    assert list(rows[0]) == ["cpu", "memory", "score", "attribution", "is_anomaly"]


def test_a_row_that_breaks_a_correlation_is_found() -> None:
    chance = random.Random(6)
    load = [chance.gauss(50, 10) for _ in range(2_000)]
    columns = {"load": load, "heat": [0.5 * x + chance.gauss(0, 0.5) for x in load]}
    columns["load"][1_500], columns["heat"][1_500] = 60.0, 20.0
    rows = detect(columns, tw.anomaly.mahalanobis(shrinkage=0.01), attribution=True, expected=True)
    assert rows[1_500]["is_anomaly"]
    assert rows[1_500]["attribution"]["load"] > 0 > rows[1_500]["attribution"]["heat"]
    assert abs(rows[1_500]["expected"]["load"] - 50) < 5
    assert sum(row["is_anomaly"] for row in rows) < 10


def test_a_row_within_a_ring_is_found_by_its_neighbours() -> None:
    chance = random.Random(7)
    angles = [chance.uniform(0, 2 * math.pi) for _ in range(2_000)]
    columns = {"x": [math.cos(angle) for angle in angles], "y": [1e6 * math.sin(angle) for angle in angles]}
    columns["x"][1_500], columns["y"][1_500] = 0.0, 2e5
    for mean in (False, True):
        rows = detect(columns, tw.anomaly.knn(mean=mean, warmup=200), threshold=0.5, attribution=True)
        assert [n for n, row in enumerate(rows) if row["is_anomaly"]] == [1_500]
        parts = rows[1_500]["attribution"]
        assert abs(sum(map(abs, parts.values())) - rows[1_500]["score"]) < 1e-9


def test_what_a_detector_cannot_tell_is_said() -> None:
    with pytest.raises(tw.ConfigError, match="cannot tell `attribution`"):
        detect({"x": [1.0]}, tw.anomaly.half_space_trees(), attribution=True)
    with pytest.raises(tw.ConfigError, match="`window_size` is 9"):
        detect({"x": [1.0]}, tw.anomaly.half_space_trees(window_size=9))
    rows = detect({"x": [1.0, 3.0]}, tw.anomaly.ewma(), expected=True)
    assert [row["expected"] for row in rows] == [None, 1.0]
