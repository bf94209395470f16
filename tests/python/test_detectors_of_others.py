"""Detectors that are Python classes, those of River and scikit-learn as ours, and ours as theirs."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pyarrow as pa
import pytest
import sklearn.base
import sklearn.ensemble
import sklearn.neighbors
from river import anomaly

import thalweg as tw
from twins import rows_of


class Jump:
    """How far a value is from the one before it."""

    def __init__(self) -> None:
        self.last: float | None = None

    def score(self, rows: tw.Table) -> list[float]:
        scores = []
        for value in rows.to_arrow()["value"].to_pylist():
            known = value is not None and self.last is not None
            scores.append(abs(value - self.last) if known else math.nan)
            self.last = value if value is not None else self.last
        return scores


def series(rows: int = 500) -> pa.Table:
    chance = random.Random(7)
    keys = [chance.choice("abc") for _ in range(rows)]
    values = [None if chance.random() < 0.05 else chance.gauss(0, 1) + 100 * (row % 97 == 50) for row in range(rows)]
    others = [chance.random() for _ in range(rows)]
    return pa.table({"key": keys, "value": pa.array(values, pa.float64()), "other": others})


def jumps(table: pa.Table) -> list[float | None]:
    last: dict[str, float] = {}
    expected: list[float | None] = []
    for row in table.to_pylist():
        key, value = row["key"], row["value"]
        expected.append(abs(value - last[key]) if value is not None and key in last else None)
        if value is not None:
            last[key] = value
    return expected


def in_batches(table: pa.Table, rows: int) -> tw.Stream:
    return tw.from_arrow(pa.Table.from_batches(table.to_batches(rows)))


def test_a_class_is_a_detector_with_an_object_for_each_key() -> None:
    table = series()
    detector = tw.anomaly.custom(Jump, threshold=50.0)
    assert repr(detector) == "custom(Jump)"
    for rows, workers in ((7, 1), (500, 1), (50, 3)):
        stream = in_batches(table, rows).with_columns(row="other").detect(detector, on="value", by="key")
        found = {row["row"]: row for row in rows_of(stream.collect(workers=workers))}
        scores = [found[row["other"]]["score"] for row in table.to_pylist()]
        assert scores == pytest.approx(jumps(table), nan_ok=True) if None not in scores else scores == jumps(table)
        assert all(row["is_anomaly"] == (row["score"] is not None and row["score"] >= 50) for row in found.values())


def test_its_objects_go_on_from_a_snapshot() -> None:
    table = series()
    stream = in_batches(table, 50).detect(tw.anomaly.custom(Jump), on="value", by="key")
    batches = iter(stream)
    first = [row for batch in itertools.islice(batches, 4) for row in rows_of(batch)]
    snapshot = batches.snapshot()
    rest = in_batches(table.slice(len(first)), 50).detect(tw.anomaly.custom(Jump), on="value", by="key")
    scores = [row["score"] for batch in rest.batches(restore=snapshot) for row in rows_of(batch)]
    assert [row["score"] for row in first] + scores == jumps(table)


def test_what_it_does_wrong_is_told() -> None:
    def scoring(scores: Any) -> Any:
        return type("Wrong", (), {"score": lambda self, rows: scores})

    wrong: list[tuple[Any, type[Exception], str]] = [
        ([1.0], ValueError, "returned 1 numbers for 500 rows"),
        ([-1.0] * 500, ValueError, "below 0"),
        (None, TypeError, "not an instance of 'Sequence'"),
    ]
    for scores, kind, says in wrong:
        with pytest.raises(kind, match=says) as caught:
            tw.from_arrow(series()).detect(tw.anomaly.custom(scoring(scores)), on="value").collect()
        assert "detect(custom(Wrong) on [value]" in "".join(caught.value.__notes__)
    with pytest.raises(TypeError, match="custom takes a class"):
        tw.anomaly.custom(5)  # type: ignore[arg-type]


def test_a_scorer_gives_the_scores_of_a_stream() -> None:
    table = series().select(["value", "other"])
    for detector in (tw.anomaly.ewma(), tw.anomaly.random_cut_forest(number_of_trees=10, sample_size=32)):
        stream = tw.from_arrow(table).detect(detector, on=["value", "other"])
        expected = [math.nan if row["score"] is None else row["score"] for row in rows_of(stream.collect())]
        scorer = tw.anomaly.Scorer(detector, on=["value", "other"])
        assert scorer.on == ["value", "other"]
        found = scorer.score(table.slice(0, 200))
        state = scorer.save()
        later = scorer.score(table.slice(200))
        assert found + later == pytest.approx(expected, nan_ok=True)
        again = tw.anomaly.Scorer(detector, on=["value", "other"])
        again.load(state)
        assert again.score(table.slice(200)) == pytest.approx(later, nan_ok=True)
    with pytest.raises(tw.ConfigError, match="by event time, but the stream has none"):
        tw.anomaly.Scorer(tw.anomaly.event_rate("1s"), on="value")
    with pytest.raises(tw.SchemaError, match="no column `value`"):
        tw.anomaly.Scorer(tw.anomaly.ewma(), on="value").score(pa.table({"x": [1.0]}))
    with pytest.raises(tw.StateError):
        tw.anomaly.Scorer(tw.anomaly.ewma(), on="value").load(b"x")


def points(rows: int) -> pa.Table:
    chance = random.Random(3)
    return pa.table({name: [chance.random() for _ in range(rows)] for name in ("x", "y")})


def test_a_model_of_river_is_a_detector() -> None:
    model = anomaly.HalfSpaceTrees(n_trees=5, height=6, window_size=50, seed=1)
    twin = model.clone()
    table = points(300)
    expected = []
    for row in table.to_pylist():
        expected.append(twin.score_one(row))
        twin.learn_one(row)
    stream = in_batches(table, 77).detect(tw.anomaly.from_river(model), on=["x", "y"])
    assert [row["score"] for row in rows_of(stream.collect())] == expected
    assert max(expected) > 0
    with pytest.raises(TypeError, match="has no score_one"):
        tw.anomaly.from_river(object())


def test_a_detector_is_a_model_of_river() -> None:
    table = points(200)
    detector = tw.anomaly.half_space_trees(window_size=20)
    expected = tw.anomaly.Scorer(detector, on=["x", "y"]).score(table)
    model = tw.anomaly.to_river(detector, on=["x", "y"])
    assert "AnomalyDetector" in [kind.__name__ for kind in type(model).__mro__]
    found = []
    for number, x in enumerate(table.to_pylist()):
        if number % 3 == 0:
            # Scored and not learnt.
            model.score_one({"x": 5.0, "y": 5.0})
        found.append(model.score_one(x))
        model.learn_one(x)
    assert found == expected
    # Within a model of River's own.
    quantile = anomaly.QuantileFilter(tw.anomaly.to_river(detector, on=["x", "y"]), q=0.9)
    for x in table.to_pylist():
        quantile.classify(quantile.score_one(x))
        quantile.learn_one(x)


def test_an_estimator_of_sklearn_is_a_detector() -> None:
    rows = [list(row.values()) for row in points(300).to_pylist()]
    estimator = sklearn.ensemble.IsolationForest(n_estimators=10, random_state=1)
    detector = tw.anomaly.from_sklearn(estimator, window=100, every=60)
    expected: list[float | None] = [None] * 60
    for start in range(60, 300, 60):
        latest = rows[max(0, start - 100) : start]
        fitted = sklearn.ensemble.IsolationForest(n_estimators=10, random_state=1).fit(latest)
        expected += [-score for score in fitted.score_samples(rows[start : start + 60])]
    for size in (300, 7):
        found = rows_of(in_batches(points(300), size).detect(detector, on=["x", "y"]).collect())
        assert [row["score"] for row in found] == pytest.approx(expected)
    with pytest.raises(TypeError, match="novelty=True"):
        tw.anomaly.from_sklearn(sklearn.neighbors.LocalOutlierFactor())
    with pytest.raises(ValueError, match="`every`"):
        tw.anomaly.from_sklearn(estimator, window=10, every=20)


def test_a_detector_is_an_estimator_of_sklearn() -> None:
    chance = random.Random(5)
    usual = [[chance.gauss(0, 1), chance.gauss(0, 1)] for _ in range(500)]
    model = tw.anomaly.to_sklearn(tw.anomaly.mahalanobis(), threshold=4.0)
    assert isinstance(model, sklearn.base.OutlierMixin)
    assert list(model.fit(usual).predict([[0.0, 0.0], [9.0, 9.0], [0.1, -0.2]])) == [1, -1, 1]
    alone = model.score_samples([[1.0, 1.0], [1.0, 1.0]])
    assert alone[0] == alone[1] < 0
    assert sklearn.base.clone(model).threshold == 4.0
    assert list(model.fit_predict([*usual[:300], [50.0, 50.0]]))[-1] in (-1, 1)
