"""Apache Kafka: what is written to a topic is read from it, and nothing is said of secrets."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import pyarrow as pa
import pytest

import thalweg as tw
from twins import rows_of

SCHEMA = {"a": "int64", "word": "string"}


def write(kafka: dict[str, str], topic: str, table: pa.Table, **options: object) -> None:
    sink = tw.write_kafka(kafka["bootstrap"], topic, **options)  # type: ignore[arg-type]
    tw.from_arrow(table).run(sink=sink).wait()


def numbers(first: int, last: int) -> pa.Table:
    return pa.table({"a": list(range(first, last)), "word": [f"w{number}" for number in range(first, last)]})


def test_what_is_written_is_read(kafka: dict[str, str]) -> None:
    when = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    table = numbers(0, 100).append_column("at", pa.array([when] * 100, pa.timestamp("ms", "UTC")))
    write(kafka, "words", table, key="word", headers=["word"], timestamp="at", config={"compression.type": "zstd"})
    metadata = ["key", "headers", "offset", "timestamp"]
    read = tw.read_kafka(kafka["bootstrap"], topics=["words"], end="latest", schema=SCHEMA, metadata=metadata)
    rows = rows_of(read.collect())
    assert [(row["a"], row["word"]) for row in rows] == [(number, f"w{number}") for number in range(100)]
    assert [row["_offset"] for row in rows] == list(range(100))
    assert {row["_timestamp"] for row in rows} == {1_769_860_800_000}
    assert rows[7]["_key"] == b"w7"
    assert rows[7]["_headers"] == [{"name": "word", "value": b"w7"}]


def test_reads_begin_and_end_where_they_are_told_to(kafka: dict[str, str]) -> None:
    write(kafka, "counted", numbers(0, 10))

    def read(**options: object) -> list[int]:
        stream = tw.read_kafka(kafka["bootstrap"], "counted", schema=SCHEMA, **options)  # type: ignore[arg-type]
        return [row["a"] for row in rows_of(stream.collect())]

    place = ("counted", 0)
    assert read(end="latest") == list(range(10))
    assert read(start={place: 3}, end={place: 5}) == [3, 4]
    assert read(start="latest", end="latest") == []
    assert read(start=datetime(2100, 1, 1, tzinfo=timezone.utc), end="latest") == []
    assert read(end="latest", group="counters") == list(range(10))
    assert read(end="latest", group="counters") == []
    text = tw.read_kafka(kafka["bootstrap"], partitions=[place], end="latest", format="text").collect()
    assert rows_of(text)[0] == {"value": '{"a":0,"word":"w0"}'}


def test_windows_of_a_live_topic(kafka: dict[str, str]) -> None:
    write(kafka, "live", numbers(0, 50))
    stream = tw.read_kafka(kafka["bootstrap"], "live", group="live", schema=SCHEMA).event_time("a", unit="ms")
    seen: list[tuple[int, int]] = []

    def take(batch: tw.Table) -> None:
        seen.extend((row["window_start"], row["n"]) for row in rows_of(batch))

    with stream.window(tw.tumbling("10ms")).agg(n=tw.count()).run(sink=take) as query:
        while len(seen) < 4:
            assert query.is_running, query.wait()
        query.stop()
        query.wait()
    assert seen == [(start, 10) for start in range(0, 50, 10)]
    assert query.metrics()["rows_in"] == 50


def test_results_and_offsets_are_committed_together(kafka: dict[str, str]) -> None:
    write(kafka, "given", numbers(0, 100))
    offsets = tw.KafkaOffsets()

    def copy() -> tw.Query:
        read = tw.read_kafka(kafka["bootstrap"], "given", group="copier", offsets=offsets, schema=SCHEMA)
        sink = tw.write_kafka(kafka["bootstrap"], "copied", transactional_id="copier", offsets=offsets)
        return read.filter("a >= 10").run(sink=sink)

    def copied() -> list[int]:
        read = tw.read_kafka(kafka["bootstrap"], "copied", end="latest", schema=SCHEMA)
        return [row["a"] for row in rows_of(read.collect())]

    with copy() as query:
        while query.metrics()["rows_in"] < 100:
            assert query.is_running, query.wait()
        query.stop()
        query.wait()
    assert copied() == list(range(10, 100))
    write(kafka, "given", numbers(100, 101))
    with copy() as query:
        while query.metrics()["rows_in"] < 1:
            assert query.is_running, query.wait()
        query.stop()
        query.wait()
    assert copied() == list(range(10, 101))
    with pytest.raises(tw.ConfigError, match="no `group` is named"):
        tw.read_kafka(kafka["bootstrap"], "given", offsets=offsets, schema=SCHEMA)


def test_rows_are_shared_out_by_key(kafka: dict[str, str]) -> None:
    by_word = tw.KafkaRepartition(kafka["bootstrap"], "by-word", by="word", partitions=3, replication=1)
    by_word.create()
    by_word.create()
    with pytest.raises(tw.ConfigError, match="`by-word` has 3 partitions, not 4"):
        tw.KafkaRepartition(kafka["bootstrap"], "by-word", by="word", partitions=4).create()
    tw.from_arrow(numbers(0, 90)).run(sink=by_word.sink()).wait()
    seen: list[int] = []
    rows = by_word.source(group="counters", schema=SCHEMA)
    with rows.run(sink=lambda batch: seen.extend(row["a"] for row in rows_of(batch))) as query:
        while len(seen) < 90:
            assert query.is_running, query.wait()
    assert sorted(seen) == list(range(90))
    assert repr(by_word) == f'KafkaRepartition("{kafka["bootstrap"]}", "by-word")'


def test_poison_goes_to_a_topic_of_its_own(kafka: dict[str, str]) -> None:
    write(kafka, "mixed", pa.table({"text": ['{"a": 1}', "poison", '{"a": 2}']}), value="text")
    dead = tw.write_kafka(kafka["bootstrap"], "dead", value="bytes", headers=["error", "partition", "offset"])
    read = tw.read_kafka(kafka["bootstrap"], "mixed", end="latest", schema={"a": "int64"})
    query = read.run(sink=lambda batch: None, quarantine=dead)
    query.wait()
    assert query.metrics()["quarantined_rows"] == 1
    letters = tw.read_kafka(kafka["bootstrap"], "dead", end="latest", format="text", metadata="headers").collect()
    [letter] = rows_of(letters)
    headers = {each["name"]: each["value"] for each in letter["_headers"]}
    assert (letter["value"], headers["partition"], headers["offset"]) == ("poison", b"0", b"1")


def test_change_events_in_avro_are_the_rows_that_they_are_about(kafka: dict[str, str]) -> None:
    placed = {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}
    fields = [{"name": "id", "type": "int"}, {"name": "placed", "type": ["null", placed], "default": None}]
    value = {"type": "record", "name": "Value", "fields": fields}
    parts = [
        {"name": "before", "type": ["null", value]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"]},
    ]
    schema = {"type": "record", "name": "Envelope", "namespace": "shop.public.orders", "fields": parts}
    micros = 1_767_225_600_000_001
    events: list[dict[str, object]] = [
        {"before": None, "after": {"id": 1, "placed": micros}, "op": "c", "ts_ms": 5},
        {"before": {"id": 1, "placed": micros}, "after": {"id": 1, "placed": None}, "op": "u", "ts_ms": 6},
        {"before": {"id": 1, "placed": None}, "after": None, "op": "d", "ts_ms": None},
        {"before": None, "after": None, "op": "t", "ts_ms": 7},
    ]

    def record(event: dict[str, object]) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), event)
        return b"\0\0\0\0\7" + buffer.getvalue()

    # A tombstone is behind the delete.
    values = [record(event) for event in events[:3]] + [None] + [record(event) for event in events[3:]]
    write(kafka, "changes", pa.table({"value": pa.array(values, pa.binary())}), value="value")
    columns = {"id": "int64", "placed": "timestamp[us]", "__op": "string", "__ts_ms": "int64", "__deleted": "bool"}
    format = tw.formats.debezium_avro({7: schema})
    with pytest.warns(tw.DroppedRowsWarning, match="1 row did not decode"):
        result = tw.read_kafka(kafka["bootstrap"], "changes", end="latest", format=format, schema=columns).collect()
    when = datetime(2026, 1, 1, microsecond=1)
    assert result.to_arrow().to_pylist() == [
        {"id": 1, "placed": when, "__op": "c", "__ts_ms": 5, "__deleted": False},
        {"id": 1, "placed": None, "__op": "u", "__ts_ms": 6, "__deleted": False},
        {"id": 1, "placed": None, "__op": "d", "__ts_ms": None, "__deleted": True},
    ]
    assert rows_of(result.quarantined)[0]["error"] == 'the event\'s `op` is "t", which is of no row'
    assert result.metrics()["null_values"] == 1


def test_what_goes_wrong_has_a_code_and_no_secret(kafka: dict[str, str]) -> None:
    secure = {"security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN", "sasl.username": "alice"}
    stream = tw.read_kafka(kafka["sasl"], "t", end="latest", config={**secure, "sasl.password": "hunter2"})
    assert "hunter2" not in repr(stream) + stream.explain()
    assert "hunter2" not in repr(tw.write_kafka(kafka["sasl"], "t", config={"sasl.password": "hunter2"}))
    with pytest.raises(tw.ConnectorError, match="check the credentials") as wrong:
        stream.collect()
    assert (wrong.value.code, wrong.value.retriable) == ("connector", False)
    assert "hunter2" not in str(wrong.value)
    gone = tw.read_kafka("127.0.0.1:1", "t", end="latest", config={"socket.timeout.ms": 600})
    with pytest.raises(tw.ConnectorError, match="is it running") as unreachable:
        gone.collect()
    assert unreachable.value.retriable


def unsecured(life: float) -> str:
    """A token without a signature, as the broker takes it, that is good for so many seconds."""
    now = time.time()
    parts = [{"alg": "none"}, {"sub": "alice", "iat": int(now) - 1, "exp": int(now + life)}]
    return "".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") + "." for part in parts)


PLAINTEXT = {"security.protocol": "sasl_plaintext"}


def test_tokens_come_from_a_function(kafka: dict[str, str]) -> None:
    callers = set()

    def token() -> tuple[str, float]:
        callers.add(threading.get_ident())
        return unsecured(60), time.time() + 60

    def named() -> tuple[str, float, str]:
        return (*token(), "alice")

    sink = tw.write_kafka(kafka["sasl"], "guarded", config=PLAINTEXT, oauth=named)
    write(kafka, "guarded", numbers(0, 1))
    tw.from_arrow(numbers(1, 10)).run(sink=sink).wait()
    read = tw.read_kafka(kafka["sasl"], "guarded", end="latest", schema=SCHEMA, config=PLAINTEXT, oauth=token)
    assert [row["a"] for row in rows_of(read.collect())] == list(range(10))
    assert callers
    assert threading.get_ident() not in callers
    by_word = tw.KafkaRepartition(kafka["sasl"], "guarded", by="word", partitions=1, config=PLAINTEXT, oauth=token)
    by_word.create()
    tw.from_arrow(numbers(10, 12)).run(sink=by_word.sink()).wait()
    assert len(rows_of(read.collect())) == 12


def test_tokens_of_an_openid_provider(kafka: dict[str, str]) -> None:
    class Provider(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            who = base64.b64decode(self.headers["Authorization"].removeprefix("Basic "))
            form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            allowed = who == b"alice:wonderland" and form == {"grant_type": ["client_credentials"]}
            self.send_response(200 if allowed else 401)
            self.end_headers()
            if allowed:
                self.wfile.write(json.dumps({"access_token": unsecured(60), "expires_in": 60}).encode())

        def log_message(self, *_: object) -> None:
            pass

    def token_for(secret: str) -> Callable[[], tuple[str, float]]:
        def token() -> tuple[str, float]:
            asked = time.time()
            credentials = base64.b64encode(f"alice:{secret}".encode()).decode()
            form = urllib.parse.urlencode({"grant_type": "client_credentials"}).encode()
            request = urllib.request.Request(url, form, {"Authorization": f"Basic {credentials}"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                given = json.load(answer)
            return given["access_token"], asked + given["expires_in"]

        return token

    write(kafka, "provided", numbers(0, 5))
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{provider.server_port}/token"

        def read(secret: str) -> tw.Stream:
            options = {"schema": SCHEMA, "config": PLAINTEXT, "oauth": token_for(secret)}
            return tw.read_kafka(kafka["sasl"], "provided", end="latest", **options)  # type: ignore[arg-type]

        assert len(rows_of(read("wonderland").collect())) == 5
        with pytest.raises(urllib.error.HTTPError, match="401"):
            read("hunter2").collect()
        provider.shutdown()


def test_a_function_that_makes_no_token_says_why(kafka: dict[str, str]) -> None:
    def broken() -> tuple[str, float]:
        raise RuntimeError("the provider is asleep")

    def read(oauth: object) -> tw.Stream:
        return tw.read_kafka(kafka["sasl"], "t", end="latest", config=PLAINTEXT, oauth=oauth)  # type: ignore[arg-type]

    later = time.time() + 60
    for oauth, kind, says in [
        (broken, RuntimeError, "the provider is asleep"),
        (lambda: "hunter2", TypeError, "must return .*; not str"),
        (lambda: ("hunter2", "soon"), TypeError, "must return .*; not str"),
        (lambda: (b"hunter2", later), TypeError, "must return .*; not bytes"),
        (lambda: ("hunter2", later, 7), TypeError, "must return .*; not int"),
        (lambda: ("hunter2", later * 1000), ValueError, "in seconds since 1970"),
        (lambda: ("hunter2", 1), tw.ConnectorError, "it has expired"),
        (lambda: ("hunter2\n", later), tw.ConnectorError, "such as a line end"),
        (lambda: ("hunter2", later), tw.ConnectorError, "check the credentials"),
    ]:
        stream = read(oauth)
        with pytest.raises(kind, match=says) as raised:
            stream.collect()
        shown = [str(raised.value), *getattr(raised.value, "__notes__", []), repr(stream), stream.explain()]
        assert "hunter2" not in " ".join(shown)
    with pytest.raises(TypeError, match="`oauth` is a function"):
        read("hunter2")
    with pytest.raises(tw.ConfigError, match="would not use them"):
        tw.read_kafka(kafka["sasl"], "t", config={"sasl.mechanisms": "PLAIN"}, oauth=broken)


def test_settings_that_make_no_sense_are_named() -> None:
    for options, says in [
        ({"topics": "t", "start": "begin"}, "earliest, latest, committed"),
        ({"topics": "t", "format": "ndjson"}, "needs a `schema`"),
        ({"topics": "t", "metadata": ["size"]}, "has no `size`"),
        ({"topics": "t", "on_out_of_range": "skip"}, "error, earliest or latest"),
        ({"topics": "t", "config": {"group.id": "g"}}, "use `group`"),
        ({"topics": "t", "start": "committed"}, "no `group` is named"),
        ({"topics": "t", "schema": {"_key": "string"}, "metadata": "key"}, "two columns are called `_key`"),
        ({"topics": "t", "config": {"sasl.oauthbearer.method": "oidc"}}, "in Python `oauth`"),
        ({"topics": "t", "config": {"sasl.mechanisms": "OAUTHBEARER", **PLAINTEXT}}, "nothing makes tokens"),
        ({}, "either `topics` or `partitions`"),
    ]:
        with pytest.raises(tw.ConfigError, match=says):
            tw.read_kafka("localhost:1", **options)  # type: ignore[arg-type]


def bytes_of(kafka: dict[str, str], topic: str) -> list[bytes]:
    """The values of a topic as they are."""
    return [row["value"] for row in rows_of(tw.read_kafka(kafka["bootstrap"], topic, end="latest").collect())]


def test_values_are_written_in_any_format(kafka: dict[str, str], registry: str) -> None:
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    when = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=timezone.utc)
    table = pa.table(
        {
            "a": pa.array([1, 2, 3]),
            "word": pa.array(["x, y", None, "é"]),
            "at": pa.array([when, when, None], pa.timestamp("ms", "UTC")),
            "price": pa.array([Decimal("1.50"), None, Decimal("-0.07")], pa.decimal128(9, 2)),
            "tags": pa.array([["a", None], [], None], pa.list_(pa.string())),
            "place": pa.array([{"lat": 1.5}, None, {"lat": None}], pa.struct([("lat", pa.float32())])),
        }
    )
    write(kafka, "as-avro", table, key="a", format=tw.formats.avro_confluent(client))
    read = tw.read_kafka(
        kafka["bootstrap"], "as-avro", end="latest", format=tw.formats.avro_confluent(client, subject="as-avro-value")
    )
    assert read.collect().to_arrow().to_pylist() == table.to_pylist()
    # As others read it.
    latest = client.version("as-avro-value")
    schema = fastavro.parse_schema(json.loads(latest["schema"]))
    theirs = []
    for value in bytes_of(kafka, "as-avro"):
        assert value[:5] == b"\0" + latest["id"].to_bytes(4, "big")
        buffer = io.BytesIO(value[5:])
        theirs.append(fastavro.schemaless_reader(buffer, schema, None))
        assert buffer.read() == b""
    assert theirs == table.to_pylist()
    flat = table.select(["a", "word"])
    formats: dict[str, Any] = {"as-json": tw.formats.json_confluent(client), "as-csv": "csv", "as-arrow": "arrow"}
    for name, format in formats.items():
        write(kafka, name, flat, format=format)
        found = tw.read_kafka(
            kafka["bootstrap"], name, end="latest", format=format, schema={"a": "int64", "word": "string"}
        )
        assert found.collect().to_arrow().to_pylist() == flat.to_pylist()
    assert bytes_of(kafka, "as-csv") == [b'1,"x, y"', b"2,", "3,é".encode()]
    [stream] = bytes_of(kafka, "as-arrow")
    assert pa.ipc.open_stream(stream).read_all().to_pylist() == flat.to_pylist()
    json_schema = json.loads(client.version("as-json-value")["schema"])
    assert json_schema["properties"]["word"] == {"oneOf": [{"type": "null"}, {"type": "string"}]}


def test_a_schema_that_does_not_fit_is_told_before_anything_is_written(kafka: dict[str, str], registry: str) -> None:
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    fields = [
        {"name": "a", "type": "int"},
        {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["x", "y"]}},
    ]
    schema = {"type": "record", "name": "R", "fields": fields}
    format = tw.formats.avro_confluent(client, subject="kinds", writer_schema=schema)
    write(kafka, "kinds", pa.table({"kind": ["x", "y"], "a": [1, 2]}), format=format)
    latest = tw.formats.avro_confluent(client, subject="kinds", auto_register=False)
    write(kafka, "kinds", pa.table({"a": [3], "kind": ["x"]}), format=latest)
    for table, says in (
        (pa.table({"a": [4]}), "there is no column `kind`"),
        (
            pa.table({"a": [4], "kind": ["x"], "more": [1]}),
            "column `more` is no field of the Avro schema",
        ),
        (pa.table({"a": [4.5], "kind": ["x"]}), "column `a` of type Float64 cannot be written as Int32"),
        (pa.table({"a": [1 << 40], "kind": ["x"]}), "column `a` of type Int64 has a value that is no Int32"),
        (pa.table({"a": [4], "kind": ["z"]}), 'column `kind` has the text "z", and the Avro schema an enum of x, y'),
    ):
        with pytest.raises(tw.SchemaError, match=says):
            write(kafka, "kinds", table, format=latest)
    with pytest.raises(tw.SchemaError, match=r"refuses a schema for subject `kinds` as incompatible.*shop"):
        write(
            kafka,
            "kinds",
            pa.table({"shop": [1]}).cast(pa.schema([pa.field("shop", pa.int64(), False)])),
            format=tw.formats.avro_confluent(client, subject="kinds"),
        )
    found = tw.read_kafka(kafka["bootstrap"], "kinds", end="latest", format=format).collect()
    assert found.to_arrow().to_pylist() == [{"a": 1, "kind": "x"}, {"a": 2, "kind": "y"}, {"a": 3, "kind": "x"}]
