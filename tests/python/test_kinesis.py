"""Amazon Kinesis: what is written to a stream is read from it, and nothing is said of secrets."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import thalweg as tw
from twins import rows_of

REGION = "eu-west-1"
SECRET = "hunter2"
SCHEMA = {"a": "int64", "word": "string"}
SETTINGS: dict[str, str | int | bool] = {"allow_http": True, "access_key": "AKIAEXAMPLE", "secret_key": SECRET}
NAMES = count()


def ask(aws: str, action: str, **body: object) -> Any:
    """One request to the service, without a client of Amazon's or ours."""
    scope = f"Credential=AKIAEXAMPLE/20261127/{REGION}/kinesis/aws4_request, SignedHeaders=host, Signature=0"
    headers = {
        "X-Amz-Target": f"Kinesis_20131202.{action}",
        "Authorization": f"AWS4-HMAC-SHA256 {scope}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    request = urllib.request.Request(aws, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def records(aws: str, stream: str) -> list[tuple[str, str, bytes]]:
    """Everything in a stream: shards, keys and values."""
    found = []
    for shard in ask(aws, "ListShards", StreamName=stream)["Shards"]:
        place = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = ask(aws, "GetShardIterator", **place)["ShardIterator"]
        for record in ask(aws, "GetRecords", ShardIterator=iterator)["Records"]:
            found.append((shard["ShardId"], record["PartitionKey"], base64.b64decode(record["Data"])))
    return found


def aggregated_record() -> Any:
    """The message of the Kinesis Producer Library, from its `messages.proto`, by Google's own code."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="messages.proto", syntax="proto2")
    record = file.message_type.add(name="Record")
    record.field.add(name="partition_key_index", number=1, type=field.TYPE_UINT64, label=field.LABEL_REQUIRED)
    record.field.add(name="explicit_hash_key_index", number=2, type=field.TYPE_UINT64, label=field.LABEL_OPTIONAL)
    record.field.add(name="data", number=3, type=field.TYPE_BYTES, label=field.LABEL_REQUIRED)
    whole = file.message_type.add(name="AggregatedRecord")
    whole.field.add(name="partition_key_table", number=1, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    whole.field.add(name="explicit_hash_key_table", number=2, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    records = whole.field.add(name="records", number=3, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED)
    records.type_name = ".Record"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("AggregatedRecord"))


MAGIC = b"\xf3\x89\x9a\xc2"
Aggregated = aggregated_record()


@pytest.fixture
def stream(aws: str) -> str:
    """A new stream of two shards."""
    name = f"words-{next(NAMES)}"
    ask(aws, "CreateStream", StreamName=name, ShardCount=2)
    return name


@pytest.fixture
def write(aws: str) -> Callable[..., None]:
    def write(stream: str, table: pa.Table, **options: Any) -> None:
        sink = tw.write_kinesis(stream, region=REGION, endpoint_url=aws, settings=SETTINGS, **options)
        tw.from_arrow(table).run(sink=sink).wait()

    return write


@pytest.fixture
def read(aws: str) -> Callable[..., tw.Stream]:
    def read(stream: str, **options: Any) -> tw.Stream:
        options = {"end": "latest", **options}
        return tw.read_kinesis(stream, region=REGION, endpoint_url=aws, settings=SETTINGS, **options)

    return read


def numbers(first: int, last: int) -> pa.Table:
    return pa.table({"a": list(range(first, last)), "word": [f"w{number}" for number in range(first, last)]})


def test_what_is_written_is_there_for_others(aws: str, stream: str, write: Callable[..., None]) -> None:
    write(stream, numbers(0, 700), partition_key="word")
    low = pa.table({"text": ["low"], "hash": ["0"]})
    write(stream, low, value="text", explicit_hash_key="hash")
    found = records(aws, stream)
    assert ("shardId-000000000000", b"low") in [(shard, data) for shard, _, data in found]
    keyed = sorted((json.loads(data)["a"], key) for _, key, data in found if data != b"low")
    assert keyed == [(number, f"w{number}") for number in range(700)]


def test_what_is_written_is_read(stream: str, write: Callable[..., None], read: Callable[..., tw.Stream]) -> None:
    write(stream, numbers(0, 1_000), partition_key="word")
    metadata = ["partition_key", "sequence_number", "shard", "timestamp"]
    rows = sorted(rows_of(read(stream, schema=SCHEMA, metadata=metadata).collect()), key=lambda row: row["a"])
    assert [(row["a"], row["word"]) for row in rows] == [(number, f"w{number}") for number in range(1_000)]
    assert all(row["_partition_key"] == row["word"] and row["_sequence_number"].isdigit() for row in rows)
    assert {row["_shard"] for row in rows} == {f"{stream}/shardId-{number:012}" for number in range(2)}
    later = read(stream, schema=SCHEMA, start=datetime(2100, 1, 1, tzinfo=timezone.utc))
    assert rows_of(later.collect()) == []
    [text, *_] = rows_of(read(stream, format="text").collect())
    assert json.loads(text["value"]).keys() == {"a", "word"}


def test_a_read_begins_behind_records(stream: str, write: Callable[..., None], read: Callable[..., tw.Stream]) -> None:
    write(stream, numbers(0, 20))
    metadata = ["sequence_number", "shard"]
    rows = rows_of(read(stream, schema=SCHEMA, metadata=metadata).collect())
    by_shard: dict[str, list[Any]] = {}
    for row in rows:
        by_shard.setdefault(row["_shard"].removeprefix(f"{stream}/"), []).append(row)
    for found in by_shard.values():
        found.sort(key=lambda row: int(row["_sequence_number"]))
    places = {shard: found[3]["_sequence_number"] for shard, found in by_shard.items()}
    assert len(places) == 2
    for option, skipped in [("start", 3), ("start_after", 4)]:
        expected = [row["a"] for found in by_shard.values() for row in found[skipped:]]
        options = {option: places, "shard_discovery": "1s"}
        assert sorted(row["a"] for row in rows_of(read(stream, schema=SCHEMA, **options).collect())) == sorted(expected)


def test_a_stream_is_named_by_its_arn(aws: str, stream: str) -> None:
    arn = f"arn:aws:kinesis:{REGION}:123456789012:stream/{stream}"
    sink = tw.write_kinesis(arn, endpoint_url=aws, partition_key="word", settings=SETTINGS)
    tw.from_arrow(numbers(0, 10)).run(sink=sink).wait()
    there = tw.read_kinesis(arn, endpoint_url=aws, end="latest", schema=SCHEMA, settings=SETTINGS)
    assert sorted(row["a"] for row in rows_of(there.collect())) == list(range(10))
    wrong = tw.write_kinesis(f"{arn}:1", endpoint_url=aws, settings=SETTINGS)
    with pytest.raises(tw.ConfigError, match="is not the ARN of a stream of Kinesis"):
        tw.from_arrow(numbers(0, 1)).run(sink=wrong).wait()


def test_values_are_written_in_any_format(
    aws: str, stream: str, registry: str, write: Callable[..., None], read: Callable[..., tw.Stream]
) -> None:
    client = tw.SchemaRegistry(registry, user="alice", password="wonderland")
    written = tw.formats.avro_confluent(client)
    write(stream, numbers(0, 100), partition_key="word", format=written)
    latest = client.version(f"{stream}-value")
    assert all(data[:5] == b"\0" + latest["id"].to_bytes(4, "big") for _, _, data in records(aws, stream))
    rows = sorted(rows_of(read(stream, schema=SCHEMA, format=written).collect()), key=lambda row: row["a"])
    assert [(row["a"], row["word"]) for row in rows] == [(number, f"w{number}") for number in range(100)]


def test_many_rows_are_one_record(
    aws: str, stream: str, write: Callable[..., None], read: Callable[..., tw.Stream]
) -> None:
    write(stream, numbers(0, 3_000), partition_key="word", aggregate=True)
    theirs = []
    for _, _, data in records(aws, stream):
        assert data.startswith(MAGIC)
        assert hashlib.md5(data[4:-16]).digest() == data[-16:]
        whole = Aggregated.FromString(data[4:-16])
        theirs += [
            (json.loads(each.data)["a"], whole.partition_key_table[each.partition_key_index]) for each in whole.records
        ]
    assert sorted(theirs) == [(number, f"w{number}") for number in range(3_000)]
    metadata = ["partition_key", "sub_sequence_number", "sequence_number", "shard"]
    rows = sorted(rows_of(read(stream, schema=SCHEMA, metadata=metadata).collect()), key=lambda row: row["a"])
    assert [(row["a"], row["_partition_key"]) for row in rows] == [(number, f"w{number}") for number in range(3_000)]
    wholes = {(row["_shard"], row["_sequence_number"]) for row in rows}
    places = {(row["_shard"], row["_sequence_number"], row["_sub_sequence_number"]) for row in rows}
    assert 2 <= len(wholes) <= 8
    assert len(places) == 3_000


def test_what_others_have_aggregated_is_taken_apart(aws: str, stream: str, read: Callable[..., tw.Stream]) -> None:
    whole = Aggregated(partition_key_table=["low", "high"], explicit_hash_key_table=["1", str(2**128 - 2)])
    for number in range(10):
        # Those of the other shard are dropped: their producer sends them there too.
        whole.records.add(
            partition_key_index=number % 2, explicit_hash_key_index=number % 2, data=b'{"a": %d}' % number
        )
    body = whole.SerializeToString()
    data = base64.b64encode(MAGIC + body + hashlib.md5(body).digest()).decode()
    ask(aws, "PutRecord", StreamName=stream, Data=data, PartitionKey="low", ExplicitHashKey="1")
    metadata = ["partition_key", "sub_sequence_number"]
    rows = rows_of(read(stream, schema={"a": "int64"}, metadata=metadata).collect())
    assert [tuple(row.values()) for row in rows] == [(number, "low", number) for number in range(0, 10, 2)]


def test_a_live_stream_is_read(stream: str, write: Callable[..., None], read: Callable[..., tw.Stream]) -> None:
    write(stream, numbers(0, 50))
    live = read(stream, end=None, schema=SCHEMA).event_time("a", unit="ms", max_delay="1s", idle_timeout="100ms")
    seen: list[int] = []
    with live.filter("a < 50").run(sink=lambda batch: seen.extend(row["a"] for row in rows_of(batch))) as query:
        while len(seen) < 50:
            assert query.is_running, query.wait()
        query.stop()
        query.wait()
    assert sorted(seen) == list(range(50))


def test_what_goes_wrong_has_a_code_and_no_secret(aws: str, read: Callable[..., tw.Stream]) -> None:
    stream = read("no-such-stream")
    sink = tw.write_kinesis("no-such-stream", region=REGION, endpoint_url=aws, settings=SETTINGS)
    assert SECRET not in repr(stream) + stream.explain() + repr(sink)
    with pytest.raises(tw.ConnectorError, match="there is nothing of that name in region `eu-west-1`") as wrong:
        tw.from_arrow(numbers(0, 1)).run(sink=sink).wait()
    assert (wrong.value.code, wrong.value.retriable) == ("connector", False)
    with pytest.raises(tw.ConnectorError, match="no-such-stream") as missing:
        stream.collect()
    assert SECRET not in str(wrong.value) + str(missing.value)


PROGRAM = """
import sys
import pyarrow as pa
import thalweg as tw
sink = tw.write_kinesis(sys.argv[1], settings={"allow_http": True, **dict(pair.split("=") for pair in sys.argv[2:])})
try:
    tw.from_arrow(pa.table({"a": [1]})).run(sink=sink).wait()
except tw.ThalwegError as error:
    sys.exit(f"{error.code}: {error}")
"""


def test_region_and_credentials_are_found_by_the_chain_of_aws(aws: str, stream: str, tmp_path: Path) -> None:
    def run(environment: dict[str, str], *settings: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        files = {"AWS_CONFIG_FILE": f"{tmp_path}/config", "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/credentials"}
        environment = {**kept, **files, "AWS_EC2_METADATA_DISABLED": "true", **environment}
        command = [sys.executable, "-c", PROGRAM, stream, *settings]
        return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True).stderr

    (tmp_path / "config").write_text(f"[profile local]\nregion = {REGION}\nendpoint_url = {aws}\n")
    (tmp_path / "credentials").write_text(
        f"[local]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n"
    )
    region = {"AWS_REGION": REGION}
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET}
    assert run({**region, **keys, "AWS_ENDPOINT_URL_KINESIS": aws}) == ""
    assert run({"AWS_PROFILE": "local"}) == ""
    assert run({}, "profile=local") == ""
    assert run({"KEY": SECRET, **region}, "access_key=AKIAEXAMPLE", "secret_key=env:KEY", f"endpoint_url={aws}") == ""
    assert len(records(aws, stream)) == 4
    assert "config: sink 0: no AWS region is known" in run(keys)
    assert "no AWS credentials can be had" in run(region)
    assert "the `profile` that is set gives no AWS credentials" in run(region, "profile=nobody")
    assert "is not encrypted" in run({**region, **keys, "AWS_ENDPOINT_URL": aws}, "allow_http=false")


def test_settings_that_make_no_sense_are_named() -> None:
    for options, says in [
        ({"start": "begin"}, "trim_horizon, latest"),
        ({"end": "never"}, "it may be latest"),
        ({"format": "ndjson"}, "needs a `schema`"),
        ({"metadata": ["size"]}, "has no `size`"),
        ({"on_expired": "skip"}, "error or trim_horizon"),
        ({"settings": {"no_such": 1}}, "no setting `no_such`"),
        ({"application": "a", "end": "latest"}, "`application`"),
        ({"start": "latest", "start_after": {"shardId-0": "1"}}, "`start_after`"),
        ({"start_after": {"shardId-0": "x"}}, "is not a sequence number"),
        ({"shard_discovery": 0}, "`shard_discovery`"),
        ({"schema": {"_shard": "string"}, "metadata": "shard"}, "two columns are called `_shard`"),
    ]:
        with pytest.raises(tw.ConfigError, match=says):
            tw.read_kinesis("payments", **options)  # type: ignore[arg-type]
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/payments"
    for name, options, says in [
        (arn, {"region": "us-east-1"}, "leave `region` away"),
        (arn.replace("kinesis", "sqs"), {}, "is not the ARN of a stream of Kinesis"),
    ]:
        with pytest.raises(tw.ConfigError, match=says):
            tw.read_kinesis(name, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a word or a time"):
        tw.read_kinesis("payments", start=[])  # type: ignore[arg-type]
