"""Protocol buffers, beside Google's own: random messages are the rows that they make of them."""

from __future__ import annotations

import itertools
import random
import socket
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2

import thalweg as tw
from twins import rows_of

SCALARS = ["double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "bytes", "uint32"]
SCALARS += ["sfixed32", "sfixed64", "sint32", "sint64"]
Field = descriptor_pb2.FieldDescriptorProto


def add(
    message: Any, name: str, kind: str, type_name: str = "", repeated: bool = False, oneof: int | None = None
) -> None:
    field = message.field.add(name=name, number=len(message.field) + 1)
    if type_name:
        field.type_name = type_name
    field.type = getattr(Field, f"TYPE_{kind.upper()}")
    field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    if oneof is not None:
        field.oneof_index = oneof


def descriptors() -> Any:
    """A set whose message `twin.Event` has fields of every kind: single, repeated, nested, in maps and in a `oneof`."""
    file = descriptor_pb2.FileDescriptorProto(name="twin.proto", package="twin", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    kind = file.enum_type.add(name="Kind")
    for number, name in enumerate(["UNKNOWN", "FIRST", "SECOND"]):
        kind.value.add(name=name, number=number)
    inner = file.message_type.add(name="Inner")
    add(inner, "x", "int32")
    add(inner, "words", "string", repeated=True)
    event = file.message_type.add(name="Event")
    for scalar in SCALARS:
        add(event, f"one_{scalar}", scalar)
        add(event, f"many_{scalar}", scalar, repeated=True)
    add(event, "kind", "enum", ".twin.Kind")
    add(event, "inner", "message", ".twin.Inner")
    add(event, "inners", "message", ".twin.Inner", repeated=True)
    add(event, "at", "message", ".google.protobuf.Timestamp")
    add(event, "limit", "message", ".google.protobuf.Int64Value")
    event.oneof_decl.add(name="choice")
    add(event, "text_choice", "string", oneof=0)
    add(event, "inner_choice", "message", ".twin.Inner", oneof=0)
    entry = event.nested_type.add(name="CountsEntry")
    add(entry, "key", "string")
    add(entry, "value", "int32")
    entry.options.map_entry = True
    add(event, "counts", "message", ".twin.Event.CountsEntry", repeated=True)
    found = descriptor_pb2.FileDescriptorSet()
    for known in (timestamp_pb2, wrappers_pb2):
        known.DESCRIPTOR.CopyToProto(found.file.add())
    found.file.append(file)
    return found


SET = descriptors()
POOL = descriptor_pool.DescriptorPool()
for proto in SET.file:
    POOL.Add(proto)
Event = message_factory.GetMessageClass(POOL.FindMessageTypeByName("twin.Event"))


def value(chance: random.Random, scalar: str) -> Any:
    if scalar in ("double", "float"):
        return chance.choice([0.0, -1.5, 0.25, float(chance.randrange(1 << 20))])
    if scalar == "bool":
        return chance.random() < 0.5
    if scalar == "string":
        return chance.choice(["", "a", "häuser", "x" * chance.randrange(40)])
    if scalar == "bytes":
        return chance.randbytes(chance.randrange(10))
    bits = 64 if "64" in scalar else 32
    number = chance.choice([0, 1, (1 << (bits - 1)) - 1, chance.getrandbits(bits - 1)])
    return number if scalar[0] in "uf" or chance.random() < 0.5 else -number - 1


def fill_inner(chance: random.Random, inner: Any) -> None:
    inner.x = chance.choice([0, chance.getrandbits(20)])
    inner.words.extend(value(chance, "string") for _ in range(chance.randrange(3)))


def event(chance: random.Random) -> Any:
    made = Event()
    for scalar in SCALARS:
        if chance.random() < 0.6:
            setattr(made, f"one_{scalar}", value(chance, scalar))
        getattr(made, f"many_{scalar}").extend(value(chance, scalar) for _ in range(chance.randrange(4)))
    made.kind = chance.choice([0, 1, 2, 17])
    if chance.random() < 0.5:
        made.inner.SetInParent()
        fill_inner(chance, made.inner)
    for _ in range(chance.randrange(3)):
        fill_inner(chance, made.inners.add())
    if chance.random() < 0.5:
        made.at.seconds, made.at.nanos = chance.randrange(-(10**9), 10**9), chance.randrange(10**9)
    if chance.random() < 0.5:
        made.limit.value = chance.choice([0, 5, -(1 << 63)])
    if chance.random() < 0.3:
        made.text_choice = value(chance, "string")
    elif chance.random() < 0.5:
        made.inner_choice.SetInParent()
        fill_inner(chance, made.inner_choice)
    for _ in range(chance.randrange(4)):
        made.counts[chance.choice("abc")] = chance.randrange(5)
    return made


def inner_row(inner: Any) -> dict[str, Any]:
    return {"x": inner.x, "words": list(inner.words)}


def row(made: Any) -> dict[str, Any]:
    """What the columns of a message must be."""
    names = {0: "UNKNOWN", 1: "FIRST", 2: "SECOND"}
    found: dict[str, Any] = {}
    for scalar in SCALARS:
        found[f"one_{scalar}"] = getattr(made, f"one_{scalar}")
        found[f"many_{scalar}"] = list(getattr(made, f"many_{scalar}"))
    found["kind"] = names.get(made.kind, str(made.kind))
    found["inner"] = inner_row(made.inner) if made.HasField("inner") else None
    found["inners"] = [inner_row(inner) for inner in made.inners]
    found["at"] = made.at.seconds * 10**9 + made.at.nanos if made.HasField("at") else None
    found["limit"] = made.limit.value if made.HasField("limit") else None
    choice = made.WhichOneof("choice")
    found["text_choice"] = made.text_choice if choice == "text_choice" else None
    found["inner_choice"] = inner_row(made.inner_choice) if choice == "inner_choice" else None
    found["counts"] = dict(made.counts)
    return found


def varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def delimited(messages: list[bytes]) -> bytes:
    return b"".join(varint(len(message)) + message for message in messages)


def rows(table: tw.Table) -> list[dict[str, Any]]:
    arrow = table.to_arrow()
    at = arrow.schema.get_field_index("at")
    arrow = arrow.set_column(at, "at", arrow["at"].cast(pa.int64()))
    return [{**row, "counts": dict(row["counts"])} for row in arrow.to_pylist()]


@pytest.mark.parametrize("seed", range(3))
def test_messages_are_what_googles_decoder_makes_of_them(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    messages = [event(chance) for _ in range(300)]
    # Two messages in one are merged, so that fields come twice.
    merged = [one.SerializeToString() + other.SerializeToString() for one, other in itertools.pairwise(messages)]
    written = [message.SerializeToString() for message in messages] + merged
    expected = [row(Event.FromString(message)) for message in written]
    (tmp_path / "events.bin").write_bytes(delimited(written))
    (tmp_path / "set.bin").write_bytes(SET.SerializeToString())
    stream = tw.read_protobuf(tmp_path / "events.bin", tmp_path / "set.bin", "twin.Event")
    assert stream.schema["at"] == "timestamp[ns]"
    assert rows(stream.collect()) == expected
    assert rows(tw.read_protobuf(tmp_path / "events.bin", SET.SerializeToString(), "twin.Event").collect()) == expected


def test_messages_come_in_over_sockets() -> None:
    chance = random.Random(7)
    messages = [event(chance) for _ in range(50)]
    format = tw.formats.protobuf(SET.SerializeToString(), "twin.Event")
    assert repr(format) == "Format(protobuf)"
    columns = {"one_int32": "int64", "kind": "string"}
    stream = tw.listen_tcp("0", schema=columns, format=format, end_on_disconnect=True)
    host, port = str(stream.local_addr).rsplit(":", 1)

    def send() -> None:
        with socket.create_connection((host, int(port))) as client:
            client.sendall(delimited([*(message.SerializeToString() for message in messages), b"\x0f"]))

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.warns(tw.DroppedRowsWarning, match="1 row did not decode"):
        result = stream.collect()
    sender.join()
    expected = [row(message) for message in messages]
    assert rows_of(result) == [{name: made[name] for name in columns} for made in expected]
    assert "wire type 7" in rows_of(result.quarantined)[0]["error"]


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(tw.SchemaError, match=r"no message `twin\.Other`; it has .*twin\.Event"):
        tw.formats.protobuf(SET.SerializeToString(), "twin.Other")
    with pytest.raises(tw.SchemaError, match="no descriptor set"):
        tw.formats.protobuf(b"\xff", "twin.Event")
    with pytest.raises(tw.ConnectorError, match="nowhere"):
        tw.formats.protobuf(tmp_path / "nowhere", "twin.Event")
    format = tw.formats.protobuf(SET.SerializeToString(), "twin.Inner", confluent=True)
    assert dict(tw.read_kafka("localhost:1", "t", format=format).schema) == {"x": "int32", "words": "list<string>"}


def table_of(tmp_path: Path, messages: list[Any]) -> pa.Table:
    """The rows of messages, which the tests above hold against Google's decoder."""
    (tmp_path / "in.bin").write_bytes(
        delimited([message.SerializeToString(deterministic=True) for message in messages])
    )
    return tw.read_protobuf(tmp_path / "in.bin", SET.SerializeToString(), "twin.Event").collect().to_arrow()


def write(kafka: dict[str, str], topic: str, table: pa.Table, format: Any) -> None:
    tw.from_arrow(table).run(sink=tw.write_kafka(kafka["bootstrap"], topic, format=format)).wait()


def bytes_of(kafka: dict[str, str], topic: str) -> list[bytes]:
    """The values of a topic as they are."""
    return [row["value"] for row in rows_of(tw.read_kafka(kafka["bootstrap"], topic, end="latest").collect())]


def test_what_is_written_is_what_googles_encoder_writes(kafka: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random(11)
    messages = [event(chance) for _ in range(500)]
    table = table_of(tmp_path, messages)
    format = tw.formats.protobuf(SET.SerializeToString(), "twin.Event")
    write(kafka, "events", table, format)
    written = bytes_of(kafka, "events")
    assert [Event.FromString(value) for value in written] == messages
    assert written == [message.SerializeToString(deterministic=True) for message in messages]
    # Other types of the same values, in another order.
    other = pa.table(
        {
            "at": table["at"].cast(pa.int64()).cast(pa.timestamp("ns", "UTC")),
            "kind": table["kind"].cast(pa.string()),
            "one_int32": table["one_int32"].cast(pa.int64()),
            "one_string": table["one_string"].cast(pa.large_string()),
            "many_double": table["many_double"].cast(pa.large_list(pa.float64())),
        }
    )
    write(kafka, "some-of-events", other, format)
    for value, message in zip(bytes_of(kafka, "some-of-events"), messages, strict=True):
        found = Event.FromString(value)
        assert [field.name for field, _ in found.ListFields()] == [
            field.name for field, _ in message.ListFields() if field.name in other.column_names
        ]
        assert all(getattr(found, name) == getattr(message, name) for name in other.column_names)
    read = tw.read_kafka(kafka["bootstrap"], "events", end="latest", format=format)
    assert rows(read.collect()) == [row(message) for message in messages]


def test_files_are_registered_and_written_by(kafka: dict[str, str], registry: str, tmp_path: Path) -> None:
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    chance = random.Random(12)
    messages = [event(chance) for _ in range(50)]
    table = table_of(tmp_path, messages)
    unregistered = tw.formats.protobuf(SET.SerializeToString(), "twin.Event", registry=client, auto_register=False)
    with pytest.raises(tw.SchemaError, match="does not have this schema under subject `framed-value`"):
        write(kafka, "framed", table, unregistered)
    format = tw.formats.protobuf(SET.SerializeToString(), "twin.Event", registry=client)
    assert repr(format) == "Format(protobuf_confluent)"
    write(kafka, "framed", table, format)
    write(kafka, "framed", table, unregistered)
    by_subject = tw.formats.protobuf_confluent(client, "framed-value", message="twin.Event")
    write(kafka, "framed", table, by_subject)
    latest = client.version("framed-value")
    assert latest["version"] == 1
    # The event is the second message of its file.
    head = b"\0" + latest["id"].to_bytes(4, "big") + b"\x02\x02"
    assert bytes_of(kafka, "framed") == [
        head + message.SerializeToString(deterministic=True) for message in messages * 3
    ]
    read = tw.read_kafka(kafka["bootstrap"], "framed", end="latest", format=by_subject)
    assert rows(read.collect()) == [row(message) for message in messages * 3]


def test_what_cannot_be_written_says_why(kafka: dict[str, str]) -> None:
    descriptor_set = SET.SerializeToString()
    format = tw.formats.protobuf(descriptor_set, "twin.Event")
    for columns, says in (
        ({"shop": [1]}, "column `shop` is no field of message `twin.Event`, which has one_double"),
        ({"one_int32": ["x"]}, "column `one_int32` of type Utf8 cannot be written as int32"),
        ({"one_int32": [1, 1 << 40]}, "row 1 of a batch .*column `one_int32` has 1099511627776, which does not fit"),
        ({"kind": ["THIRD"]}, 'column `kind` has the text "THIRD", and the field is an enum of FIRST, SECOND, UNKNOWN'),
        ({"inner": [{"y": 1}]}, r"column `inner\.y` is no field of message `twin\.Inner`, which has x, words"),
        ({"text_choice": ["a"], "inner_choice": [{"x": 1}]}, "`text_choice` and `inner_choice` both have a value"),
    ):
        with pytest.raises(tw.SchemaError, match=says):
            write(kafka, "no-events", pa.table(columns), format)
    unnumbered = tw.formats.protobuf(descriptor_set, "twin.Event", confluent=True)
    with pytest.raises(tw.ConfigError, match="cannot be written: the number of its schema"):
        tw.write_kafka("localhost:1", "t", format=unnumbered)
    with pytest.raises(tw.ConfigError, match="give `registry` too"):
        tw.formats.protobuf(descriptor_set, "twin.Event", subject="s")
