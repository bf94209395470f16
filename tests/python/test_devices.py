"""Where kernels run: asked for, told, counted."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest

import thalweg as tw


def windows(payments: pa.Table) -> tw.Stream:
    stream = tw.from_arrow(payments).event_time("ts", max_delay="500ms")
    return stream.window(tw.tumbling("1s"), by="card").agg(n=tw.count(), total=tw.sum("amount"))


def test_unknown_devices_and_backends_are_told_the_known_ones(payments: pa.Table) -> None:
    with pytest.raises(tw.ConfigError, match="`device` is `tpu`; it may be auto, cpu or gpu"):
        tw.Config(device="tpu")  # type: ignore[arg-type]
    with pytest.raises(tw.ConfigError, match="no backend `avx1024` on this processor; it has auto, scalar"):
        windows(payments).collect(config=tw.Config(backend="avx1024"))


def test_values_are_counted_by_device(payments: pa.Table) -> None:
    counters = windows(payments).collect(config=tw.Config(device="cpu")).metrics()
    assert counters["kernel_rows_cpu"] == payments.num_rows
    assert counters["kernel_rows_gpu"] == 0
    assert counters["gpu_break_even_rows"] is None


def test_a_gpu_asked_for_gives_the_same_answers_and_at_most_one_warning(
    payments: pa.Table, caplog: pytest.LogCaptureFixture
) -> None:
    expected = windows(payments).collect(config=tw.Config(device="cpu"))
    with caplog.at_level(logging.WARNING, logger="thalweg"):
        table = windows(payments).collect(config=tw.Config(device="gpu"))
    assert table.to_arrow().drop_columns("total") == expected.to_arrow().drop_columns("total")
    assert len([record for record in caplog.records if "GPU" in record.getMessage()]) <= 1
    counters = table.metrics()
    assert counters["kernel_rows_cpu"] + counters["kernel_rows_gpu"] == payments.num_rows


def test_plans_say_where_and_why(payments: pa.Table) -> None:
    stream = windows(payments)
    assert stream.explain(config=tw.Config(device="cpu")).endswith("(asked for)")
    assert "(auto: " in stream.explain(config=tw.Config(device="auto"))
    scored = stream.detect(tw.anomaly.ewma(), on="total")
    assert scored.explain().splitlines()[-1].endswith("(no GPU kernel)")
