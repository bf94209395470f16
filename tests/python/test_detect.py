"""Detectors and what `detect` adds: columns, which rows are anomalies, and that no score depends on rows to come."""

import math
import random
import statistics
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of

DETECTORS: list[Callable[[], tw.anomaly.Detector]] = [
    tw.anomaly.ewma,
    tw.anomaly.robust_z,
    tw.anomaly.cusum,
    tw.anomaly.page_hinkley,
    tw.anomaly.novelty,
    lambda: tw.anomaly.left_discord(length=10, history=100),
    tw.anomaly.auto,
    lambda: tw.anomaly.random_cut_forest(number_of_trees=5, sample_size=32, shingle_size=3),
    lambda: tw.anomaly.random_cut_forest(number_of_trees=5, sample_size=32, thresholded=True),
    lambda: tw.anomaly.half_space_trees(number_of_trees=5, window_size=50),
    tw.anomaly.rolling_z,
    lambda: tw.anomaly.adwin(delta=0.1),
    lambda: tw.anomaly.peaks_over_threshold(risk=0.01, calibration=100, depth=5),
    lambda: tw.anomaly.quantile_band(lower=0.1, upper=0.9, window=200),
    lambda: tw.anomaly.event_rate("10ms", warmup=3),
    lambda: tw.anomaly.holt_winters(season=7, second_season=28, residuals=64),
    lambda: tw.anomaly.ar_rls(order=4, residuals=64),
    lambda: tw.anomaly.loda(projections=10, bins=4, window_size=50),
    lambda: tw.anomaly.knn(k=3, history=100),
    lambda: tw.anomaly.knn(k=3, history=100, mean=True, warmup=10),
    lambda: tw.anomaly.profile(window=50),
    lambda: tw.anomaly.isolation_forest(number_of_trees=10, sample_size=16, window_size=50),
    lambda: tw.anomaly.ensemble([tw.anomaly.ewma(), tw.anomaly.robust_z()], how="mean", weights=[2.0, 1.0]),
]


def series(rows: int, seed: int = 1) -> pa.Table:
    """Waves of two keys in turns, with noise, holes and spikes."""
    chance = random.Random(seed)
    value: list[float | None] = [math.sin(n / 9) + chance.random() for n in range(rows)]
    for n in range(50, rows, 97):
        value[n] = None if n % 2 else chance.random() * 50
    ts = pa.array(range(rows), pa.timestamp("ms"))
    return pa.table({"ts": ts, "key": [n % 2 for n in range(rows)], "value": value})


def detect(table: pa.Table, detector: tw.anomaly.Detector, **options: Any) -> list[dict[str, Any]]:
    return rows_of(tw.from_arrow(table).event_time("ts").detect(detector, on="value", by="key", **options).collect())


@pytest.mark.parametrize("make", DETECTORS)
def test_scores_of_a_prefix_are_the_prefix_of_the_scores(make: Callable[[], tw.anomaly.Detector]) -> None:
    table, options = series(1_200), {"p": True, "refractory": 20, "region": 10}
    whole = detect(table, make(), **options)
    assert detect(table.slice(0, 700), make(), **options) == whole[:700]
    in_pieces = pa.concat_tables([table.slice(start, 37) for start in range(0, len(table), 37)])
    assert detect(in_pieces, make(), **options) == whole
    scored = [row["score"] for row in whole if row["score"] is not None]
    assert len(scored) > 1_000
    assert any(score > 0 for score in scored)


def test_columns_come_as_asked_for() -> None:
    def names(detector: tw.anomaly.Detector, **options: Any) -> list[str]:
        return list(detect(series(5), detector, **options)[0])[3:]

    assert names(tw.anomaly.ewma()) == ["score", "is_anomaly"]
    assert names(tw.anomaly.ewma(), false_alarm_rate=0.01) == ["score", "p", "is_anomaly"]
    assert names(tw.anomaly.auto()) == ["score", "event_score", "is_anomaly"]
    assert names(tw.anomaly.auto(), refractory=0, region=9) == ["score", "region", "is_anomaly"]


def test_p_is_the_share_of_earlier_scores_at_least_as_high() -> None:
    rows = detect(series(3_000), tw.anomaly.ewma(), p=True)
    earlier: dict[int, list[float]] = {0: [], 1: []}
    for row in rows:
        if row["score"] is None:
            assert row["p"] is None
            continue
        before = earlier[row["key"]]
        # Scores are told apart by eighths of a doubling.
        least, most = (sum(score >= row["score"] * factor for score in before) for factor in (1.13, 1 / 1.13))
        assert (1 + least) / (1 + len(before)) <= row["p"] + 1e-12
        assert row["p"] <= (1 + most) / (1 + len(before)) + 1e-12 or row["score"] < 2**-16
        before.append(row["score"])


def test_what_is_expected_is_the_median_of_late() -> None:
    rows = detect(series(600), tw.anomaly.robust_z(window=9, warmup=1), expected=True, attribution=True)
    latest: dict[int, list[float]] = {0: [], 1: []}
    for row in rows:
        known = latest[row["key"]][-9:]
        if row["value"] is None:
            assert row["score"] is None
            assert row["expected"] is None
            continue
        assert row["expected"] == (statistics.median_low(known) if known else None)
        if known:
            assert row["attribution"] == math.copysign(row["score"], row["value"] - row["expected"])
        latest[row["key"]].append(row["value"])


def test_a_rate_says_which_rows_are_anomalies() -> None:
    rows = detect(series(4_000), tw.anomaly.novelty(), false_alarm_rate=0.02)
    assert [row["is_anomaly"] for row in rows] == [row["p"] is not None and row["p"] <= 0.02 for row in rows]
    assert 0 < sum(row["is_anomaly"] for row in rows) < 300


def test_the_strangest_of_the_latest_rows_are_anomalies() -> None:
    rows = detect(series(4_000), tw.anomaly.ewma(), top_k=(2, 50))
    earlier: dict[int, list[float]] = {0: [], 1: []}
    for row in rows:
        before = earlier[row["key"]][-49:]
        higher = sum(score >= row["score"] for score in before if row["score"] is not None)
        assert row["is_anomaly"] == (row["score"] is not None and len(before) == 49 and higher < 2)
        if row["score"] is not None:
            earlier[row["key"]].append(row["score"])
    assert 80 < sum(row["is_anomaly"] for row in rows) < 400
    with pytest.raises(tw.ConfigError, match="give one of them"):
        detect(series(5), tw.anomaly.ewma(), top_k=(2, 50), threshold=3.0)


@pytest.mark.parametrize("span", ["40ms", timedelta(milliseconds=40)])
def test_the_strangest_of_a_span_of_time_are_anomalies(span: str | timedelta) -> None:
    rows = detect(series(4_000), tw.anomaly.ewma(), top_k=(2, span))
    earlier: dict[int, list[tuple[int, float]]] = {0: [], 1: []}
    for number, row in enumerate(rows):
        known = earlier[row["key"]]
        before = [score for at, score in known if number - at < 40]
        higher = sum(score >= row["score"] for score in before if row["score"] is not None)
        is_whole = bool(known) and number - known[0][0] >= 40 and len(before) >= 2
        assert row["is_anomaly"] == (row["score"] is not None and is_whole and higher < 2)
        if row["score"] is not None:
            known.append((number, row["score"]))
    assert 200 < sum(row["is_anomaly"] for row in rows) < 1_000
    with pytest.raises(tw.ConfigError, match="from 1 to 1024 are wanted"):
        detect(series(5), tw.anomaly.ewma(), top_k=(0, span))
    with pytest.raises(tw.ConfigError, match="top_k` is 5 of 4294967295 rows"):
        detect(series(5), tw.anomaly.ewma(), top_k=(5, 1 << 40))


@pytest.mark.parametrize(("refractory", "span"), [(15, 15), ("30ms", 30)])
def test_later_rows_of_an_event_are_held_back(refractory: int | str, span: int) -> None:
    rows = detect(series(3_000), tw.anomaly.ewma(), threshold=2.0, refractory=refractory)
    events: dict[int, tuple[float, int]] = {}
    seen = {0: 0, 1: 0}
    for number, row in enumerate(rows):
        score, key = row["score"], row["key"]
        if score is None:
            assert row["event_score"] is None
            continue
        seen[key] += 1
        place = number if isinstance(refractory, str) else seen[key]
        peak, latest = events.get(key, (0.0, place))
        keeps = score > 0 and (place - latest > span or score > peak)
        assert row["event_score"] == (score if keeps else 0.0)
        assert row["is_anomaly"] == (keeps and score >= 2.0)
        if keeps:
            events[key] = (score, place)
    assert sum(row["is_anomaly"] for row in rows) > 5


def test_a_new_value_is_novel_and_one_that_was_is_not() -> None:
    value = [float(n % 50) for n in range(3_000)] + [80.0, 25.0, 80.0]
    rows = rows_of(tw.from_arrow(pa.table({"value": value})).detect(tw.anomaly.novelty(), on="value").collect())
    assert [row["is_anomaly"] for row in rows[-3:]] == [True, False, False]
    assert not any(row["is_anomaly"] for row in rows[200:-3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 4.0, "false_alarm_rate": 0.1}, "give one of them"),
        ({"false_alarm_rate": 2.0}, "`false_alarm_rate` is 2"),
        ({"region": 0}, "`region` is 0 rows"),
        ({"refractory": "5us"}, "not a whole number"),
    ],
)
def test_what_cannot_be_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(tw.ConfigError, match=said):
        detect(series(5), tw.anomaly.ewma(), **options)


def test_what_is_expected_is_the_mean_of_the_latest_rows() -> None:
    rows = detect(series(600), tw.anomaly.rolling_z(window=9, warmup=2), expected=True)
    latest: dict[int, list[float]] = {0: [], 1: []}
    for row in (row for row in rows if row["value"] is not None):
        known = latest[row["key"]][-9:]
        if len(known) >= 2:
            assert row["expected"] == pytest.approx(statistics.fmean(known))
            assert row["score"] == pytest.approx(abs(row["value"] - statistics.fmean(known)) / statistics.pstdev(known))
        latest[row["key"]].append(row["value"])


def test_an_ensemble_is_as_strange_as_the_strangest_of_its_detectors() -> None:
    table, members = series(2_000), [tw.anomaly.ewma(), tw.anomaly.robust_z()]
    p = [[row["p"] for row in detect(table, member, p=True)] for member in members]
    rows = detect(table, tw.anomaly.ensemble(members))
    for row, *both in zip(rows, *p, strict=True):
        assert row["score"] == (None if both[0] is None else pytest.approx(-math.log10(min(both)), abs=1e-12))
    assert repr(tw.anomaly.ensemble(members)).startswith("ensemble([ewma(alpha=0.05), robust_z(")
    with pytest.raises(ValueError, match="`how` is"):
        tw.anomaly.ensemble(members, how="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='how="mean"'):
        tw.anomaly.ensemble(members, weights=[1.0, 2.0])
    with pytest.raises(tw.ConfigError, match="has 1 weights"):
        detect(series(5), tw.anomaly.ensemble(members, how="mean", weights=[1.0]))


def test_a_card_in_two_places_at_once_is_found() -> None:
    places = [(0, 52.52, 13.4), (30, 52.4, 13.06), (90, 38.72, -9.14), (1_530, 52.52, 13.4), (1_540, 95.0, 0.0)]
    ts, lat, lon = zip(*places, strict=True)
    table = pa.table({"ts": pa.array([minute * 60_000 for minute in ts], pa.timestamp("ms")), "lat": lat, "lon": lon})
    stream = tw.from_arrow(table).event_time("ts")
    rows = rows_of(stream.detect(tw.anomaly.impossible_travel(), on=["lat", "lon"]).collect())
    assert [row["is_anomaly"] for row in rows] == [False, False, True, False, False]
    assert rows[-1]["score"] is None
    with pytest.raises(tw.ConfigError, match="watches two columns"):
        stream.detect(tw.anomaly.impossible_travel(), on="lat")


def test_a_card_that_is_paid_with_too_often_or_too_much_is_found() -> None:
    rows = [(0, 1.0), (20, 1.0), (40, 1.0), (59, 1.0), (40_000, 600.0), (60_000, 600.0), (80_000, 900.0), (9**6, 1.0)]
    ts = pa.array([second * 1_000 for second, _ in rows], pa.timestamp("ms"))
    table = pa.table({"ts": ts, "card": ["a"] * len(rows), "amount": [amount for _, amount in rows]})
    detector = tw.anomaly.velocity(rows={"1min": 4}, sums={"1d": 2_000.0})
    assert repr(detector) == "velocity(4 rows in 60s, 2000 in 86400s)"
    stream = tw.from_arrow(table).event_time("ts").detect(detector, on="amount", by="card")
    found = rows_of(stream.collect())
    assert [row["score"] for row in found[:4]] == [0.25, 0.5, 0.75, 1.0]
    assert [place for place, row in enumerate(found) if row["is_anomaly"]] == [3, 6]
    with pytest.raises(tw.ConfigError, match="at least one limit"):
        tw.from_arrow(table).event_time("ts").detect(tw.anomaly.velocity(), on="amount")


def test_a_payment_that_is_unlike_its_card_is_found_and_says_why() -> None:
    day, hour = 86_400_000, 3_600_000
    usual = [
        (n * day + (10 + n * 5 % 6) * hour, 20.0 + n * 37 % 20, "abcde"[n * 3 % 5], 52.5, 13.4) for n in range(300)
    ]
    rows = [*usual, (300 * day + 3 * hour, 45.0, "x", 48.1, 11.6), (301 * day + 12 * hour, 30.0, None, 52.5, 13.4)]
    ts, amount, shop, lat, lon = zip(*rows, strict=True)
    table = pa.table({"ts": pa.array(ts, pa.timestamp("ms")), "amount": amount, "shop": shop, "lat": lat, "lon": lon})
    habits = tw.anomaly.profile(names="shop", place=("lat", "lon"))
    assert repr(habits) == "profile(names=[shop], place=(lat, lon), hours=true, window=256)"
    stream = tw.from_arrow(table).event_time("ts").detect(habits, on=["amount", "shop", "lat", "lon"], attribution=True)
    found = rows_of(stream.collect())
    assert [place for place, row in enumerate(found) if row["is_anomaly"]] == [300]
    assert all(part > 0 for part in found[300]["attribution"].values())
    assert found[301]["score"] is None
    with pytest.raises(tw.ConfigError, match="is told what `shop` is"):
        tw.from_arrow(table).event_time("ts").detect(habits, on=["amount", "lat", "lon"]).collect()
    scorer = tw.anomaly.Scorer(tw.anomaly.profile(["shop"], hours=False), on=["amount", "shop"])
    scores = scorer.score(table)
    assert max(scores[:300]) < 3.0 < scores[300]
    assert math.isnan(scores[301])


class Farthest:
    """How far a value is from the mean of all of its key before it."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def score(self, rows: tw.Table) -> list[float]:
        scores = []
        for value in rows.to_arrow()["value"].to_pylist():
            scores.append(abs(value - statistics.fmean(self.values)) if self.values else 0.0)
            self.values.append(value)
        return scores


@pytest.mark.parametrize("make", [tw.anomaly.ewma, tw.anomaly.novelty, lambda: tw.anomaly.custom(Farthest)])
def test_a_key_begins_anew_after_its_time_to_live(make: Callable[[], tw.anomaly.Detector]) -> None:
    chance = random.Random(7)
    rows = [
        (ts + 500 * (ts >= 300), key, chance.random())
        for ts in range(600)
        for key in (0, 1)
        if key == 0 or ts % 200 < 120
    ]
    ts, keys, values = (list(column) for column in zip(*rows, strict=True))
    lives, seen = [], {0: (0, 0), 1: (0, 0)}
    for time, key in zip(ts, keys, strict=True):
        life, latest = seen[key]
        seen[key] = (life + (time - latest > 60), time)
        lives.append(10 * key + seen[key][0])
    assert len(set(lives)) == 6
    times = pa.array(ts, pa.timestamp("ms"))
    mortal = detect(pa.table({"ts": times, "key": keys, "value": values}), make(), ttl="60ms", region=5)
    apart = detect(pa.table({"ts": times, "key": lives, "value": values}), make(), region=5)
    added = [name for name in apart[0] if name not in ("ts", "key", "value")]
    assert [[row[name] for name in added] for row in mortal] == [[row[name] for name in added] for row in apart]
    with pytest.raises(tw.ConfigError, match="`ttl` counts event time, and the stream has none"):
        tw.from_arrow(pa.table({"value": values})).detect(make(), on="value", ttl="1h").collect()


def test_parameters_are_checked_and_shown() -> None:
    assert repr(tw.anomaly.novelty()) == "novelty(history=4096)"
    assert repr(tw.anomaly.left_discord()) == "left_discord(length=64, history=4000)"
    assert repr(tw.anomaly.knn()) == "knn(k=5, history=512, mean=false, warmup=50)"
    assert repr(tw.anomaly.auto()) == "auto-v1()"
    with pytest.raises(tw.ConfigError, match="`history` is 9 rows"):
        detect(series(5), tw.anomaly.novelty(history=9))
    with pytest.raises(tw.ConfigError, match="`k` is 0 and `history` 512 rows"):
        detect(series(5), tw.anomaly.knn(k=0))
    with pytest.raises(tw.ConfigError, match="at least two stretches"):
        detect(series(5), tw.anomaly.left_discord(length=50, history=60))
    with pytest.raises(TypeError):
        detect(series(5), tw.anomaly.ewma(), refractory=-1)
