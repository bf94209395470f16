"""Avro, beside what fastavro writes: files of every codec, schemas that change, records of a broker."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

import thalweg as tw
from twins import rows_of

FIRST = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
        {"name": "card", "type": ["null", "string"]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["debit", "credit"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
SECOND = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "shop", "type": "string", "default": "web"},
        {"name": "id", "type": "long"},
        {"name": "card", "type": "string"},
    ],
}


def first(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "at": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(milliseconds=number),
        "price": decimal.Decimal(number).scaleb(-2),
        "card": None if number % 3 == 0 else f"card {number}",
        "kind": ["debit", "credit"][number % 2],
        "tags": ["t"] * (number % 4),
    }


def container(schema: dict[str, Any], rows: list[dict[str, Any]], codec: str = "null") -> bytes:
    buffer = io.BytesIO()
    fastavro.writer(buffer, fastavro.parse_schema(schema), rows, codec=codec, sync_interval=500)
    return buffer.getvalue()


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_files_give_what_fastavro_wrote(tmp_path: Path, codec: str) -> None:
    rows = [first(number) for number in range(1_000)]
    (tmp_path / "a.avro").write_bytes(container(FIRST, rows, codec))
    stream = tw.read_avro(tmp_path / "a.avro")
    assert stream.schema["at"].startswith("timestamp[ms")
    found = stream.collect().to_arrow().to_pylist()
    assert found == rows


def test_files_of_several_schemas_give_the_columns_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.avro").write_bytes(container(FIRST, [first(1)]))
    (tmp_path / "b.avro").write_bytes(container(SECOND, [{"shop": "here", "id": 1 << 40, "card": "c"}]))
    columns = {"id": "int64", "card": "string", "kind": "string", "shop": "string"}
    found = rows_of(tw.read_avro(tmp_path / "*.avro", schema=columns).collect())
    assert found == [
        {"id": 1, "card": "card 1", "kind": "credit", "shop": None},
        {"id": 1 << 40, "card": "c", "kind": None, "shop": "here"},
    ]
    # Avro's own resolution has defaults.
    for reader in (SECOND, json.dumps(SECOND)):
        found = rows_of(tw.read_avro(tmp_path / "*.avro", reader_schema=reader).collect())
        assert found == [{"shop": "web", "id": 1, "card": "card 1"}, {"shop": "here", "id": 1 << 40, "card": "c"}]


def test_a_file_that_is_cut_off_is_reported(tmp_path: Path) -> None:
    bytes_ = container(FIRST, [first(number) for number in range(1_000)])
    (tmp_path / "a.avro").write_bytes(bytes_[:-20])
    with pytest.warns(tw.DroppedRowsWarning, match="1 row did not decode"):
        result = tw.read_avro(tmp_path / "a.avro").collect()
    assert 900 < len(result) < 1_000
    assert "the Avro file ends in the middle" in rows_of(result.quarantined)[0]["error"]
    (tmp_path / "b.avro").write_text("{}")
    with pytest.raises(tw.DecodeError, match="this is no Avro file"):
        tw.read_avro(tmp_path / "b.avro")


def test_formats_say_what_they_lack() -> None:
    avro = tw.formats.avro(FIRST)
    assert repr(avro) == "Format(avro_bare)"
    with pytest.raises(tw.ConfigError, match="have no ends of their own"):
        tw.listen_tcp("0", schema={"id": "int64"}, format=avro).collect()
    with pytest.raises(tw.ConfigError, match="needs a `schema`"):
        tw.read_kafka("localhost:1", "t", format=tw.formats.avro_confluent({1: FIRST}))
    with pytest.raises(tw.SchemaError, match="no JSON"):
        tw.formats.avro_single_object(["{"])
    stream = tw.read_kafka("localhost:1", "t", format=avro)
    assert list(stream.schema) == ["id", "at", "price", "card", "kind", "tags"]
