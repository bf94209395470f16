"""Detectors of River and scikit-learn as ours, and ours as theirs."""

from __future__ import annotations

import collections
import copy
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thalweg._native import Detector, Scorer, custom_detector

if TYPE_CHECKING:
    from thalweg._native import Table


def from_river(model: Any, *, threshold: float = 0.5, copies: bool = True) -> Detector:
    """A detector of River's: each key has a copy of `model`, which scores a row, then learns it.

    Features are named as the columns that are watched. A row with a null has no score and is not learnt. A model of
    River's takes some microseconds to milliseconds a row, as it does there.

    Args:
        model: Anything with `score_one(x)` and `learn_one(x)` that gives numbers from 0 on, a pipeline too.
        threshold: The score from which a row is an anomaly unless `detect` is told otherwise.
        copies: Whether keys get a deep copy; else the model's own `clone()`, without what it has learnt.

    Example:
        >>> from river import anomaly, compose, preprocessing
        >>> trees = compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=1))
        >>> s.detect(tw.anomaly.from_river(trees, threshold=0.9), on=["load", "temperature"], by="machine")
    """
    for name in ("score_one", "learn_one"):
        if not hasattr(model, name):
            raise TypeError(f"from_river takes an object with score_one and learn_one; {model!r} has no {name}")
    make = functools.partial(_RiverModel, copy.deepcopy(model) if copies else model.clone())
    return custom_detector(make, threshold, name=f"river {type(model).__name__}")


class _RiverModel:
    """What a key has of a model of River's."""

    def __init__(self, model: Any) -> None:
        self.model = copy.deepcopy(model)

    def score(self, rows: Table) -> list[float]:
        return [self.score_row(row) for row in rows.to_arrow().to_pylist()]

    def score_row(self, row: dict[str, float | None]) -> float:
        if any(value is None or not math.isfinite(value) for value in row.values()):
            return math.nan
        score = float(self.model.score_one(row))
        self.model.learn_one(row)
        return score


def from_sklearn(estimator: Any, *, window: int = 1024, every: int = 256, threshold: float = 0.6) -> Detector:
    """A detector of scikit-learn's: each key has a clone of `estimator`, fitted on its latest rows.

    A score is what `score_samples` gives, with its sign turned, so that larger is stranger, and at least 0: of an
    `IsolationForest` some 0.5 and more. The first `every` rows of a key have none. A row with a null has none and is
    not learnt.

    Args:
        estimator: Anything with `fit(X)` and `score_samples(X)`: `IsolationForest`, `OneClassSVM`, `LocalOutlierFactor`
            with `novelty=True`.
        window: How many of the latest rows it is fitted on.
        every: After how many rows it is fitted anew.
        threshold: The score from which a row is an anomaly unless `detect` is told otherwise.

    Example:
        >>> from sklearn.ensemble import IsolationForest
        >>> s.detect(tw.anomaly.from_sklearn(IsolationForest(random_state=1)), on=["x", "y"], by="machine")
    """
    for name in ("fit", "score_samples"):
        if not hasattr(estimator, name):
            raise TypeError(
                f"from_sklearn takes an estimator with fit and score_samples; {estimator!r} has no {name} "
                "(of LocalOutlierFactor it needs novelty=True)"
            )
    if not 1 <= every <= window:
        raise ValueError(f"`every` is {every} and `window` {window}; `every` must lie between 1 and `window`")
    make = functools.partial(_SklearnModel, estimator, window, every)
    return custom_detector(make, threshold, name=f"sklearn {type(estimator).__name__}")


class _SklearnModel:
    """What a key has of an estimator of scikit-learn's."""

    def __init__(self, estimator: Any, window: int, every: int) -> None:
        self.estimator = estimator
        self.fitted: Any = None
        self.latest: collections.deque[list[float]] = collections.deque(maxlen=window)
        self.every, self.since = every, 0

    def score(self, rows: Table) -> list[float]:
        values = [list(row.values()) for row in rows.to_arrow().to_pylist()]
        whole = [all(value is not None and math.isfinite(value) for value in row) for row in values]
        scores = iter(self.scores([row for row, is_whole in zip(values, whole, strict=True) if is_whole]))
        return [next(scores) if is_whole else math.nan for is_whole in whole]

    def scores(self, rows: list[list[float]]) -> list[float]:
        """Scores rows up to the next fit at once, so that how rows are cut into batches changes nothing."""
        found: list[float] = []
        while rows:
            now, rows = rows[: self.every - self.since], rows[self.every - self.since :]
            if self.fitted is None:
                found += [math.nan] * len(now)
            else:
                found += [max(0.0, -float(score)) for score in self.fitted.score_samples(now)]
            self.latest.extend(now)
            self.since += len(now)
            if self.since == self.every:
                from sklearn.base import clone

                self.fitted = clone(self.estimator).fit(list(self.latest))
                self.since = 0
        return found


def to_river(detector: Detector, on: Sequence[str]) -> Any:
    """One of our detectors as one of River's: an `AnomalyDetector` with `score_one(x)` and `learn_one(x)`.

    Ours score a row and learn it at once. So a row that is scored is learnt at once too, and unlearnt if it is not the
    one that `learn_one` is called with next, for which the state is saved before each score: little of the statistics,
    half a megabyte of a forest. Needs River.

    Args:
        detector: Of `thalweg.anomaly`.
        on: The features that it watches.

    Example:
        >>> model = tw.anomaly.to_river(tw.anomaly.random_cut_forest(), on=["x", "y"])
        >>> for x in rows: score = model.score_one(x); model.learn_one(x)
    """
    try:
        from river.base import AnomalyDetector
    except ImportError:  # Before 0.23.
        from river.anomaly.base import AnomalyDetector

    class ThalwegDetector(AnomalyDetector):  # type: ignore[misc]
        """A detector of Thalweg's."""

        def __init__(self, detector: Detector, on: Sequence[str]) -> None:
            self.detector, self.on = detector, list(on)
            self._scorer = Scorer(detector, self.on)
            self._pending: tuple[dict[Any, Any], bytes] | None = None

        def score_one(self, x: dict[Any, Any]) -> float:
            self._forget()
            self._pending = (dict(x), self._scorer.save())
            score = self._score(x)
            return 0.0 if math.isnan(score) else score

        def learn_one(self, x: dict[Any, Any]) -> None:
            if self._pending is not None and self._pending[0] == x:
                self._pending = None
                return
            self._forget()
            self._score(x)

        def _forget(self) -> None:
            if self._pending is not None:
                self._scorer = Scorer(self.detector, self.on)
                self._scorer.load(self._pending[1])
                self._pending = None

        def _score(self, x: dict[Any, Any]) -> float:
            return self._scorer.score(_columns(self.on, [[x.get(name)] for name in self.on]))[0]

    return ThalwegDetector(detector, on)


def to_sklearn(detector: Detector, threshold: float) -> Any:
    """One of our detectors as an outlier detector of scikit-learn's.

    `fit(X)` learns the rows in their order. Each row of `score_samples(X)` is scored by that alone, and not learnt; the
    lower the stranger, as there: our score with its sign turned, NaN where there is none. `predict(X)` gives -1 from
    `threshold` on, else 1; `decision_function(X)` is 0 there. Needs scikit-learn.

    Args:
        detector: Of `thalweg.anomaly`.
        threshold: The score from which a row is an outlier.

    Example:
        >>> model = tw.anomaly.to_sklearn(tw.anomaly.half_space_trees(), threshold=0.75).fit(X)
        >>> model.predict(Y)
    """
    import numpy as np
    from sklearn.base import BaseEstimator, OutlierMixin
    from sklearn.utils.validation import check_is_fitted, validate_data

    class ThalwegDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
        """A detector of Thalweg's."""

        def __init__(self, detector: Detector, threshold: float) -> None:
            self.detector, self.threshold = detector, threshold

        def fit(self, X: Any, y: Any = None) -> Any:  # noqa: N803
            X = validate_data(self, X, dtype=float)  # noqa: N806
            scorer = self._fresh(X.shape[1])
            scorer.score(_columns(scorer.on, X.T))
            self.state_ = scorer.save()
            return self

        def score_samples(self, X: Any) -> Any:  # noqa: N803
            check_is_fitted(self, "state_")
            X = validate_data(self, X, dtype=float, reset=False)  # noqa: N806
            return -np.array([self._score_alone(row) for row in X])

        def decision_function(self, X: Any) -> Any:  # noqa: N803
            return self.score_samples(X) + self.threshold

        def predict(self, X: Any) -> Any:  # noqa: N803
            return np.where(self.decision_function(X) <= 0, -1, 1)

        def _fresh(self, columns: int) -> Scorer:
            return Scorer(self.detector, [f"x{place}" for place in range(columns)])

        def _score_alone(self, row: Any) -> float:
            scorer = self._fresh(len(row))
            scorer.load(self.state_)
            return scorer.score(_columns(scorer.on, [[value] for value in row]))[0]

    return ThalwegDetector(detector, threshold)


def _columns(names: Sequence[str], columns: Any) -> Any:
    """Columns of numbers as Arrow takes them."""
    import pyarrow as pa

    return pa.table({name: pa.array(column, pa.float64()) for name, column in zip(names, columns, strict=True)})
