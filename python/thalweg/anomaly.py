"""Anomaly detectors for `Stream.detect`: each gives every row a score, from the history of its own key.

| detector | a row is strange if | score | threshold | state a key |
|---|---|---|---|---|
| `ewma` | it lies many deviations from the mean of late | 0 to infinity | 4 | 24 B |
| `rolling_z` | it lies many deviations from the mean of the latest rows | 0 to infinity | 4 | 4 kB |
| `robust_z` | it lies many median distances from the median of late | 0 to infinity | 3.5 | 2 kB |
| `quantile_band` | it lies outside the band between two quantiles of late | 0 to infinity | 1 | 16 kB |
| `peaks_over_threshold` | it is rare by the tail of the most extreme values | 0 to 300 | 4 | 0.3 kB |
| `holt_winters` | level, trend and seasons do not expect it | 0 to infinity | 2 | 4 kB |
| `ar_rls` | the values before it do not expect it | 0 to infinity | 2 | 5 kB |
| `cusum` | values have shifted for good from the first ones, however little | 0 to infinity | 8 | 40 B |
| `page_hinkley` | values have shifted for good from all since the latest shift | 0 to infinity | 15 | 40 B |
| `adwin` | older and newer values differ in their means | 0 to infinity | 1 | 3.5 kB |
| `event_rate` | rows come more often, or came less often, than before | 0 to infinity | 4 | 40 B |
| `novelty` | no value of late is near, for the range of late | 0 to 1 | 1/64 | 1.2 kB |
| `left_discord` | the stretch that it ends has a shape that none had before | 0 to 1.41 | 0.8 | 0.2 MB |
| `random_cut_forest` | random cuts part it early from the rows of late; columns together | 1 is usual | 1.5 | 0.6 MB |
| `half_space_trees` | few rows of the latest window lie near; columns together | 0 to 1 | 0.75 | 40 kB |
| `mahalanobis` | it lies far from the means, for how columns vary together | 0 to infinity | 4 | 8 B a pair |
| `knn` | few rows of late are near; columns together, in deviations | 0 to infinity | 2 | 4 kB a column |
| `loda` | it is rare in histograms of random projections; columns together | 2 to 3 is usual | 5 | 22 kB |
| `isolation_forest` | few cuts across random projections part it from the others | 0 to 1 | 0.65 | 0.1 MB |
| `impossible_travel` | it is too far from the one before for the time between them | speeds, 1 is 900 km/h | 1 | 32 B |
| `velocity` | too many rows of its key, or too much, lie within a span of time | shares of a limit | 1 | 16 B a row |
| `profile` | amount, hour, merchant and place are unlike the key's | 0 up, powers of ten | 3 | 4 kB a quantity |
| `custom` | a class of yours finds it so | as it says, from 0 | 4 | its own |
| `from_river` | a detector of River finds it so | as there | 0.5 | its own |
| `from_sklearn` | an estimator of scikit-learn finds it so | as there, sign turned | 0.6 | its own |
| `ensemble` | several detectors find it so, or one of them | 0 to 5, powers of ten | 3 | theirs |
| `auto` | its value or its shape is new: for a series of which nothing is known | 0 to 1 | 1/64 | 0.2 MB |

A score depends on the rows of the key up to its own alone: never on rows to come, nor on the size of batches. A row
without a value (null, NaN, infinite) has no score and teaches nothing. Detectors count rows, not time,
but for `event_rate`, `impossible_travel` and `velocity`; `profile` looks at hours, too.

Ours go elsewhere too: `to_river` and `to_sklearn` make detectors of those libraries of them, `Scorer` scores rows
without a stream.

Example:
    >>> s.detect(tw.anomaly.ewma(alpha=0.05), on="amount", by="card", threshold=4.0)
    >>> s.detect(tw.anomaly.auto(), on="value", by="sensor", region=64).filter("is_anomaly")
"""

from thalweg._adapters import from_river, from_sklearn, to_river, to_sklearn
from thalweg._native import (
    Detector,
    Scorer,
    adwin,
    ar_rls,
    auto,
    cusum,
    ensemble,
    event_rate,
    ewma,
    half_space_trees,
    holt_winters,
    impossible_travel,
    isolation_forest,
    knn,
    left_discord,
    loda,
    mahalanobis,
    novelty,
    page_hinkley,
    peaks_over_threshold,
    profile,
    quantile_band,
    random_cut_forest,
    robust_z,
    rolling_z,
    velocity,
)
from thalweg._native import custom_detector as custom

__all__ = [
    "Detector",
    "Scorer",
    "adwin",
    "ar_rls",
    "auto",
    "custom",
    "cusum",
    "ensemble",
    "event_rate",
    "ewma",
    "from_river",
    "from_sklearn",
    "half_space_trees",
    "holt_winters",
    "impossible_travel",
    "isolation_forest",
    "knn",
    "left_discord",
    "loda",
    "mahalanobis",
    "novelty",
    "page_hinkley",
    "peaks_over_threshold",
    "profile",
    "quantile_band",
    "random_cut_forest",
    "robust_z",
    "rolling_z",
    "to_river",
    "to_sklearn",
    "velocity",
]
