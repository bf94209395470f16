"""The Arrow border: what comes in, what goes out, and that nothing is copied on the way."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of


def test_a_column_that_passes_through_keeps_its_address(payments: pa.Table) -> None:
    batch = payments.combine_chunks().to_batches()[0]
    config = tw.Config(batch_rows=1 << 20)
    out = tw.from_arrow(batch).with_columns(double="amount * 2").collect(config=config).to_arrow()
    assert out["amount"].num_chunks == 1
    for name in ("ts", "amount"):
        into, back = batch.column(name), out[name].chunk(0)
        assert back.buffers()[1].address + 8 * back.offset == into.buffers()[1].address + 8 * into.offset


def test_a_slice_stays_a_slice(payments: pa.Table) -> None:
    batch = payments.combine_chunks().to_batches()[0]
    part = batch.slice(1_000, 500)
    out = tw.from_arrow(part).collect().to_arrow()
    assert out.equals(pa.Table.from_batches([part]))
    assert out["amount"].chunk(0).buffers()[1].address >= batch.column("amount").buffers()[1].address


@pytest.mark.parametrize(
    "wrap", [lambda t: t, pl.DataFrame, lambda t: t.to_pandas(), lambda t: t.combine_chunks().to_batches()[0]]
)
def test_any_table_can_be_read_again(payments: pa.Table, wrap: Any) -> None:
    stream = tw.from_arrow(wrap(payments)).filter("amount > 50")
    first, second = stream.collect(), stream.collect()
    expected = payments.filter(pa.compute.greater(payments["amount"], 50.0))
    assert len(first) == len(second) == len(expected) > 0
    assert first.to_arrow()["amount"].to_pylist() == expected["amount"].to_pylist()


def test_a_reader_can_be_read_once(payments: pa.Table) -> None:
    stream = tw.from_arrow(payments.to_reader(max_chunksize=100))
    assert len(stream.collect()) == len(payments)
    with pytest.raises(tw.ConfigError, match="once"):
        stream.collect()


def test_a_reader_is_read_as_it_goes() -> None:
    asked: list[int] = []

    def batches() -> Any:
        for number in range(1_000):
            asked.append(number)
            yield pa.record_batch({"value": [number]})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"value": pa.int64()}), batches())
    for batch in tw.from_arrow(reader):
        assert len(batch) == 1
        break
    assert len(asked) < 1_000


def test_a_table_of_ours_goes_in_again(payments: pa.Table) -> None:
    once = tw.from_arrow(payments).filter("amount > 50").collect()
    twice = tw.from_arrow(once).filter("amount > 100").collect()
    assert rows_of(twice) == rows_of(tw.from_arrow(payments).filter("amount > 100").collect())


def test_an_empty_table_has_its_columns(payments: pa.Table) -> None:
    none = tw.from_arrow(payments.slice(0, 0)).filter("amount > 1").collect()
    assert (len(none), none.column_names) == (0, ["ts", "card", "amount"])
    assert none.to_arrow().schema.names == payments.schema.names
    assert none.to_polars().shape == (0, 3)


def test_tables_convert(payments: pa.Table) -> None:
    table = tw.from_arrow(payments).collect()
    assert table.to_arrow().equals(payments)
    assert pa.table(table).equals(payments)
    assert table.to_polars().equals(pl.DataFrame(payments))
    pd.testing.assert_frame_equal(table.to_pandas(), payments.to_pandas())
    assert table.num_rows == len(table) == 5_000
    assert table.head(3).to_arrow().equals(payments.slice(0, 3))
    assert len(table.head(10_000)) == 5_000


def test_a_requested_schema_is_followed(payments: pa.Table) -> None:
    table = tw.from_arrow(payments.select(["amount"])).collect()
    wanted = pa.schema({"amount": pa.float32()})
    reader = pa.RecordBatchReader.from_stream(table, schema=wanted)
    assert reader.schema.field("amount").type == pa.float32()


def test_schema_is_a_mapping_that_arrow_understands(payments: pa.Table) -> None:
    schema = tw.from_arrow(payments).schema
    assert dict(schema) == {"ts": "timestamp[ms]", "card": "string", "amount": "float64"}
    assert list(schema) == schema.keys() == ["ts", "card", "amount"]
    assert ("card" in schema, "nope" in schema, len(schema)) == (True, False, 3)
    assert pa.schema(schema).equals(payments.schema)
    assert schema == dict(schema)
    assert schema == payments.schema
    assert schema != {"ts": "int64"}
    with pytest.raises(KeyError):
        schema["nope"]


def test_columns_without_names_are_refused() -> None:
    with pytest.raises(tw.SchemaError, match="columns"):
        tw.from_arrow(pa.array([1, 2, 3]))
    with pytest.raises(tw.SchemaError, match="columns"):
        tw.from_arrow(pa.chunked_array([[1, 2, 3]]))


def test_metrics_belong_to_whole_runs(payments: pa.Table) -> None:
    table = tw.from_arrow(payments).collect()
    metrics = table.metrics()
    assert (metrics["rows_in"], metrics["rows_out"], metrics["watermark"]) == (5_000, 5_000, None)
    assert metrics["latency_max_ms"] >= metrics["latency_p50_ms"] >= 0
    with pytest.raises(ValueError, match="whole run"):
        table.head().metrics()


def test_printing_shows_the_first_rows() -> None:
    table = tw.from_arrow(pa.table({"value": list(range(100)), "word": ["wörd"] * 100})).collect()
    text = repr(table)
    assert "100 rows × 2 columns, the first 20 shown" in text
    assert "| 19 " in text
    assert "| 20 " not in text
    assert "wörd" in text
    assert "0 rows × 2 columns" in repr(table.head(0))
    assert "value" in repr(table.head(0))


def test_notebooks_show_values_not_markup() -> None:
    evil = "<script>alert('x')</script>"
    table = tw.from_arrow(pa.table({evil: [evil, None, "&" * 500]})).collect()
    html = table._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in html
    assert "&amp;" * 120 + "…" in html
    assert "<td>null</td>" in html


def test_plans_are_shown_as_text_and_as_html(payments: pa.Table) -> None:
    stream = tw.from_arrow(payments).event_time("ts", max_delay="500ms").filter("card <> '<b>'")
    windows = stream.window(tw.tumbling("1s"), by="card").agg(n=tw.count())
    lines = windows.explain().splitlines()
    assert len(lines) == 4
    assert "5000 rows" in lines[0]
    assert "event_time(ts" in lines[1]
    assert "filter(" in lines[2]
    assert "window(tumbling(1s) by [card]" in lines[3]
    assert lines[:3] == repr(windows).splitlines()[:3]
    assert lines[3].startswith(repr(windows).splitlines()[3] + " on ")
    html = windows._repr_html_()
    assert html.count("<tr>") == 4
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
