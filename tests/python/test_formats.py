"""Avro, beside what fastavro writes: files of every codec, schemas that change, records of a broker."""

from __future__ import annotations

import base64
import datetime
import decimal
import gzip
import io
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2

import thalweg as tw
from twins import rows_of, send

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


def test_a_registry_has_the_schemas(registry: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("wonderland\n")
    client = tw.SchemaRegistry(registry, user="alice", password=f"file:{tmp_path / 'secret'}", timeout="5s")
    assert repr(client) == f'SchemaRegistry("{registry}")'
    number = client.register("payments-value", {**FIRST, "fields": FIRST["fields"][:1]})
    assert client.schema(99) is None
    assert json.loads(client.schema(number) or "")["name"] == "Payment"
    assert client.conflicts("payments-value", SECOND) == ["READER_FIELD_MISSING_DEFAULT_VALUE: card"]
    with pytest.raises(tw.SchemaError, match="as incompatible"):
        client.register("payments-value", SECOND)
    assert client.version("payments-value")["version"] == 1
    stream = tw.read_kafka("localhost:1", "t", format=tw.formats.avro_confluent(client, subject="payments-value"))
    assert dict(stream.schema) == {"id": "int32"}
    with pytest.raises(tw.ConnectorError, match="does not let us in"):
        tw.SchemaRegistry(registry, token="hunter2").schema(1)
    with pytest.raises(tw.ConnectorError, match="cannot be reached") as caught:
        tw.SchemaRegistry("http://127.0.0.1:1", retries=0).schema(1)
    assert caught.value.retriable
    with pytest.raises(tw.ConfigError, match="`subject` is asked of a `SchemaRegistry`"):
        tw.formats.avro_confluent({1: FIRST}, subject="s")


def test_schemas_that_refer_to_others(registry: str) -> None:
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    money = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "cents", "type": "long"}]}
    fields = [{"name": "price", "type": "shop.Money"}, {"name": "tax", "type": ["null", "shop.Money"], "default": None}]
    payment = {"type": "record", "name": "Payment", "namespace": "sales", "fields": fields}
    references = [{"name": "shop.Money", "subject": "money", "version": 1}]
    with pytest.raises(tw.SchemaError, match="No schema reference found"):
        client.register("payments-value", payment, references=references)
    client.register("money", money)
    number = client.register("payments-value", payment, references=references)
    assert client.conflicts("payments-value", payment, references=references) == []
    schema = client.schema(number)
    assert schema is not None
    assert client.version("payments-value")["schema"] == schema
    # One schema, which others understand too.
    fastavro.parse_schema(json.loads(schema))
    assert json.loads(schema)["fields"][0]["type"] == money
    stream = tw.read_kafka("localhost:1", "t", format=tw.formats.avro_confluent(client, subject="payments-value"))
    assert dict(stream.schema) == {"price": "struct<cents: int64>", "tax": "struct<cents: int64>"}
    with pytest.raises(KeyError, match="version"):
        client.register("payments-value", payment, references=[{"name": "shop.Money", "subject": "money"}])


def envelope(*fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of change events, as Kafka Connect's Avro converter writes it, of a table with `fields`."""
    value = {"type": "record", "name": "Value", "fields": list(fields), "connect.name": "shop.public.orders.Value"}
    source = {"type": "record", "name": "io.debezium.Source", "fields": [{"name": "db", "type": "string"}]}
    parts = [
        {"name": "before", "type": ["null", value], "default": None},
        {"name": "after", "type": ["null", "Value"], "default": None},
        {"name": "source", "type": source},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"], "default": None},
    ]
    return {"type": "record", "name": "Envelope", "namespace": "shop.public.orders", "fields": parts}


ORDERS = envelope(
    {"name": "id", "type": "int"},
    {"name": "placed", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}},
    {"name": "total", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
)


def test_columns_of_change_events_in_avro(registry: str) -> None:
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    client.register("shop.public.orders-value", ORDERS)
    client.register("payments-value", FIRST)
    format = tw.formats.debezium_avro(client, subject="shop.public.orders-value")
    assert repr(format) == "Format(debezium_avro)"
    assert dict(tw.read_kafka("localhost:1", "t", format=format).schema) == {
        "id": "int32",
        "placed": "timestamp[us]",
        "total": "decimal128(10, 2)",
        "__op": "string",
        "__ts_ms": "int64",
        "__deleted": "bool",
    }
    with pytest.raises(tw.SchemaError, match="is no envelope of Debezium"):
        tw.read_kafka("localhost:1", "t", format=tw.formats.debezium_avro(client, subject="payments-value"))
    with pytest.raises(tw.ConfigError, match="needs a `schema`"):
        tw.read_kafka("localhost:1", "t", format=tw.formats.debezium_avro({1: ORDERS}))
    with pytest.raises(tw.ConfigError, match="`subject` is asked of a `SchemaRegistry`"):
        tw.formats.debezium_avro({1: ORDERS}, subject="s")
    with pytest.raises(tw.ConfigError, match="have no ends of their own"):
        tw.listen_tcp("0", schema={"id": "int64"}, format=tw.formats.debezium_avro({1: ORDERS})).collect()


def test_protocol_buffers_by_a_file_of_the_registry_and_what_it_refers_to(registry: str) -> None:
    money = descriptor_pb2.FileDescriptorProto(name="money.proto", package="shop", syntax="proto3")
    amount = money.message_type.add(name="Amount")
    amount.field.add(name="cents", number=1, type=3, label=1)
    pay = descriptor_pb2.FileDescriptorProto(name="pay.proto", package="shop", syntax="proto3")
    pay.dependency.extend(["money.proto", "google/protobuf/timestamp.proto", "google/protobuf/duration.proto"])
    payment = pay.message_type.add(name="Payment")
    payment.field.add(name="id", number=1, type=5, label=1)
    payment.field.add(name="amount", number=2, type=11, label=1, type_name=".shop.Amount")
    payment.field.add(name="times", number=3, type=11, label=3, type_name=".google.protobuf.Timestamp")
    payment.field.add(name="took", number=4, type=11, label=1, type_name=".google.protobuf.Duration")
    pay.message_type.add(name="Refund").field.add(name="why", number=1, type=9, label=1)
    references = [{"name": "money.proto", "subject": "money.proto", "version": 1}]
    for subject, file, refers in (("money.proto", money, []), ("payments-value", pay, references)):
        schema = base64.b64encode(file.SerializeToString()).decode()
        body = json.dumps({"schemaType": "PROTOBUF", "schema": schema, "references": refers}).encode()
        request = urllib.request.Request(f"{registry}/subjects/{subject}/versions", data=body)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"alice:wonderland").decode())
        urllib.request.urlopen(request).close()
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    format = tw.formats.protobuf_confluent(client, "payments-value")
    assert repr(format) == "Format(protobuf_confluent)"
    assert dict(tw.read_kafka("localhost:1", "t", format=format).schema) == {
        "id": "int32",
        "amount": "struct<cents: int64>",
        "times": "list<timestamp[ns]>",
        "took": "struct<seconds: int64, nanos: int32>",
    }
    second = tw.formats.protobuf_confluent(client, "payments-value", message="shop.Refund", version=1)
    assert dict(tw.read_kafka("localhost:1", "t", format=second).schema) == {"why": "string"}
    with pytest.raises(tw.SchemaError, match=r"no message `shop\.None`; it has shop\.Amount, shop\.Payment"):
        tw.formats.protobuf_confluent(client, "payments-value", message="shop.None")
    with pytest.raises(tw.ConnectorError, match="does not have version 9 of subject `payments-value`"):
        tw.formats.protobuf_confluent(client, "payments-value", version=9)


def test_json_behind_the_number_of_its_schema(registry: str) -> None:
    json_schema = {"type": "object", "properties": {"id": {"type": "integer"}, "card": {"type": ["null", "string"]}}}
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    client.register("payments-value", json_schema, kind="json")
    for format in (
        tw.formats.json_confluent(client, subject="payments-value"),
        tw.formats.json_confluent(json_schema=json_schema),
    ):
        assert dict(tw.read_kafka("localhost:1", "t", format=format).schema) == {"card": "string", "id": "int64"}
    with pytest.raises(tw.ConfigError, match="needs a `schema`"):
        tw.read_kafka("localhost:1", "t", format=tw.formats.json_confluent())
    with pytest.raises(tw.ConfigError, match="NDJSON has no schema's number"):
        tw.listen_tcp("0", schema={"id": "int64"}, format=tw.formats.json_confluent()).collect()
    with pytest.raises(tw.ConfigError, match="needs a `schema`"):
        tw.read_kafka("localhost:1", "t", format=tw.formats.json_confluent(client))
    with pytest.raises(tw.ConfigError, match="a `subject` is asked of a registry"):
        tw.formats.json_confluent(subject="payments-value")
    with pytest.raises(tw.ConnectorError, match="does not have version latest of subject `none`"):
        tw.read_kafka("localhost:1", "t", format=tw.formats.json_confluent(client, subject="none"))


def test_not_every_format_is_written() -> None:
    def refused(says: str, **options: Any) -> None:
        with pytest.raises(tw.ConfigError, match=says):
            tw.write_kafka("localhost:1", "t", **options)
        with pytest.raises(tw.ConfigError, match=says):
            tw.write_kinesis("t", **options)

    refused("`avro` is not a format of records that are written; it may be ndjson, csv, tsv or arrow", format="avro")
    refused("give either `value`, .* or `format`", format="csv", value="a")
    refused("`delimiter` is of the format csv", format="arrow", delimiter=";")
    refused("numbers of a `SchemaRegistry`", format=tw.formats.avro_confluent({1: FIRST}))
    refused("written by one schema", format=tw.formats.avro_single_object([FIRST, SECOND]))
    refused("give `registry`", format=tw.formats.json_confluent())
    registry = tw.SchemaRegistry("http://127.0.0.1:1")
    refused("a `version` is of reading", format=tw.formats.json_confluent(registry, subject="s", version=1))
    assert repr(tw.formats.avro_confluent(registry, subject="s")) == "Format(avro_confluent)"


def change_events() -> bytes:
    row = {"id": 1, "name": "a"}
    events = [
        {"before": None, "after": row, "op": "r", "ts_ms": 1},
        {
            "schema": {"type": "struct"},
            "payload": {"before": row, "after": {**row, "name": "b"}, "op": "u", "ts_ms": 2},
        },
        {"before": {"id": 1}, "after": None, "op": "d", "ts_ms": 3},
        {"op": "t", "ts_ms": 4},
    ]
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


CHANGES = [
    {"id": 1, "name": "a", "__op": "r", "__ts_ms": 1, "__deleted": False},
    {"id": 1, "name": "b", "__op": "u", "__ts_ms": 2, "__deleted": False},
    {"id": 1, "name": None, "__op": "d", "__ts_ms": 3, "__deleted": True},
]


def test_change_events_are_the_rows_that_they_are_about() -> None:
    columns = {"id": "int64", "name": "string", "__op": "string", "__ts_ms": "int64", "__deleted": "bool"}
    stream = tw.listen_tcp("0", schema=columns, format="debezium", end_on_disconnect=True)
    sender = threading.Thread(target=send, args=(str(stream.local_addr), change_events()))
    sender.start()
    with pytest.warns(tw.DroppedRowsWarning, match="1 row did not decode"):
        result = stream.collect()
    sender.join()
    assert rows_of(result) == CHANGES
    assert "is of no row" in rows_of(result.quarantined)[0]["error"]


def test_change_events_in_files(tmp_path: Path) -> None:
    (tmp_path / "orders.json.gz").write_bytes(gzip.compress(change_events()))
    stream = tw.read_debezium(tmp_path / "*.json.gz")
    columns = {"id": "int64", "name": "string", "__op": "string", "__ts_ms": "int64", "__deleted": "bool"}
    assert dict(stream.schema) == columns
    with pytest.warns(tw.DroppedRowsWarning, match="1 row did not decode"):
        result = stream.collect()
    assert rows_of(result) == CHANGES
    assert rows_of(result.quarantined)[0]["bytes"] == b'{"op": "t", "ts_ms": 4}'
    asked = {"__ts_ms": "timestamp[ms]", "name": "string"}
    with pytest.warns(tw.DroppedRowsWarning):
        watched = tw.watch(tmp_path / "*.json.gz", "debezium", asked, end="latest", settle=0).collect()
    with pytest.warns(tw.DroppedRowsWarning):
        found = tw.read_debezium(tmp_path / "*.json.gz", asked, "gzip").collect()
    assert rows_of(found) == rows_of(watched)
    assert [row["name"] for row in rows_of(found)] == ["a", "b", None]


def test_an_inferred_schema_can_be_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.avro").write_bytes(container(FIRST, [first(number) for number in range(3)]))
    simple = {
        name: kind for name, kind in tw.read_avro(tmp_path / "a.avro").schema.items() if name in ("id", "at", "card")
    }
    assert simple == {"id": "int32", "at": "timestamp[ms, tz=+00:00]", "card": "string"}
    assert dict(tw.read_avro(tmp_path / "a.avro", schema=simple).schema) == simple
