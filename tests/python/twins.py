"""What the tests share: payments with all that makes them hard, and plain-Python twins of the engine."""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

SCHEMA = {"ts": "timestamp[ms]", "card": "string", "amount": "float64"}

Row = dict[str, Any]


def make_payments(rows: int, seed: int = 7) -> pa.Table:
    """Payments in the order of event time: several cards, one of them null, some amounts null."""
    rng = random.Random(seed)
    ts, cards, amounts = [], [], []
    now = 1_700_000_000_000
    for _ in range(rows):
        now += rng.randrange(40)
        ts.append(now)
        cards.append(rng.choice(["alpha", "beta", "gamma", "δ", None]))
        amounts.append(None if rng.random() < 0.05 else round(rng.lognormvariate(3, 1), 2))
    columns: dict[str, Any] = {
        "ts": pa.array(ts, pa.timestamp("ms")),
        "card": pa.array(cards, pa.string()),
        "amount": pa.array(amounts, pa.float64()),
    }
    return pa.table(columns)


def rows_of(table: Any) -> list[Row]:
    """Rows as dicts, times as integers of their unit."""
    arrow = table.to_arrow() if hasattr(table, "to_arrow") else table
    plain = [column.cast(pa.int64()) if pa.types.is_temporal(column.type) else column for column in arrow.itercolumns()]
    rows: list[Row] = pa.table(plain, names=arrow.column_names).to_pylist()
    return rows


def window_twin(rows: Iterable[Row], size: int, slide: int) -> dict[tuple[str | None, int], list[Row]]:
    """The rows of each card and window, by the definition: a window [start, start + size) begins every `slide`."""
    groups: dict[tuple[str | None, int], list[Row]] = {}
    for row in rows:
        start = row["ts"] // slide * slide
        while start > row["ts"] - size:
            groups.setdefault((row["card"], start), []).append(row)
            start -= slide
    return groups


def ewma_twin(values: Iterable[tuple[Any, float]], alpha: float, warmup: int) -> Iterator[float]:
    """The score of each (key, value): |x − mean| / standard deviation before the row, then learn from it."""
    state: dict[Any, tuple[int, float, float]] = {}
    for key, value in values:
        seen, mean, variance = state.get(key, (0, 0.0, 0.0))
        if seen == 0:
            score, mean = 0.0, value
        else:
            difference = value - mean
            score = 0.0 if seen < warmup else abs(difference) / math.sqrt(variance) if variance > 0 else math.inf
            mean += alpha * difference
            variance = (1 - alpha) * (variance + alpha * difference * difference)
        state[key] = (seen + 1, mean, variance)
        yield score


def send(address: str, payload: bytes) -> None:
    """Sends to "host:port" or a Unix socket's path and hangs up."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET if host else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.connect((host, int(port)) if host else address)
        client.sendall(payload)
