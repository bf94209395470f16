"""Anomaly detectors for `Stream.detect`: each gives every row a score, from the history of its own key.

Example:
    >>> s.detect(tw.anomaly.ewma(alpha=0.05), on="amount", by="card", threshold=4.0)
"""

from thalweg._native import Detector, ewma

__all__ = ["Detector", "ewma"]
