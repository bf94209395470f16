"""Files and sockets: what is written is what is read; what does not decode goes to quarantine."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import thalweg as tw
from twins import SCHEMA, make_payments, rows_of, send


def as_ndjson(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows_of(table)).encode()


@pytest.fixture
def parts(tmp_path: Path) -> list[pa.Table]:
    """Three tables, each also a file of every format in `tmp_path`."""
    tables = [make_payments(300, seed) for seed in range(3)]
    for number, table in enumerate(tables):
        pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
        (tmp_path / f"{number}.ndjson").write_bytes(as_ndjson(table))
        pyarrow.csv.write_csv(table.set_column(0, "ts", table["ts"].cast(pa.int64())), tmp_path / f"{number}.csv")
        with pa.OSFile(str(tmp_path / f"{number}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return tables


def sorted_rows(table: object) -> list[tuple[int, str, float]]:
    return sorted((row["ts"], row["card"] or "", row["amount"] or 0.0) for row in rows_of(table))


@pytest.mark.parametrize("pattern", ["*", "1"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "ndjson", "csv"])
def test_files_come_back_whole(tmp_path: Path, parts: list[pa.Table], kind: str, pattern: str) -> None:
    path = tmp_path / f"{pattern}.{kind}"
    streams = {
        "parquet": lambda: tw.read_parquet(path),
        "arrow": lambda: tw.read_arrow(str(path)),
        "ndjson": lambda: tw.read_ndjson(path, schema=SCHEMA),
        "csv": lambda: tw.read_csv(path, schema={**SCHEMA, "ts": "int64"}),
    }
    stream = streams[kind]()
    expected = pa.concat_tables(parts) if pattern == "*" else parts[1]
    assert sorted_rows(stream.collect()) == sorted_rows(expected)
    assert len(stream.collect()) == len(expected)


def test_schemas_are_inferred(tmp_path: Path, parts: list[pa.Table]) -> None:
    inferred = tw.read_ndjson(tmp_path / "*.ndjson").schema
    assert dict(inferred) == {"ts": "int64", "card": "string", "amount": "float64"}
    assert dict(tw.read_csv(tmp_path / "0.csv").schema) == {"ts": "int64", "card": "string", "amount": "float64"}
    rows = rows_of(tw.read_csv(tmp_path / "0.csv").collect())
    assert [row["ts"] for row in rows] == parts[0]["ts"].cast(pa.int64()).to_pylist()


def test_a_schema_may_be_arrows(tmp_path: Path, parts: list[pa.Table]) -> None:
    by_schema = tw.read_ndjson(tmp_path / "0.ndjson", schema=parts[0].schema).collect()
    by_types = tw.read_ndjson(
        tmp_path / "0.ndjson", schema={"ts": pa.timestamp("ms"), "card": "string", "amount": pa.float64()}
    )
    assert by_schema.to_arrow().equals(parts[0])
    assert by_types.schema == parts[0].schema
    with pytest.raises(tw.SchemaError, match=r"`ts`.*timestomp"):
        tw.read_ndjson(tmp_path / "0.ndjson", schema={"ts": "timestomp"})


def test_csv_may_have_another_delimiter_and_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1;x\n2;y\n")
    stream = tw.read_csv(tmp_path / "a.csv", schema={"n": "int64", "word": "string"}, delimiter=";", header=False)
    assert rows_of(stream.collect()) == [{"n": 1, "word": "x"}, {"n": 2, "word": "y"}]
    with pytest.raises(tw.ConfigError, match="delimiter"):
        tw.read_csv(tmp_path / "a.csv", delimiter=";;")


def pack(text: bytes, kind: str) -> bytes:
    if kind == "gzip":
        half = len(text) // 2
        return gzip.compress(text[:half]) + gzip.compress(text[half:])
    return pa.compress(text, codec=kind, asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("kind", "suffix"), [("gzip", "gz"), ("zstd", "zst"), ("lz4", "lz4")])
def test_packed_files_are_unpacked(tmp_path: Path, parts: list[pa.Table], kind: str, suffix: str) -> None:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, parts[0].schema) as writer:
        writer.write_table(parts[0])
    formats: dict[str, tuple[bytes, Callable[..., tw.Stream]]] = {
        "ndjson": (as_ndjson(parts[0]), tw.read_ndjson),
        "csv": ((tmp_path / "0.csv").read_bytes(), tw.read_csv),
        "arrow": (stream.getvalue().to_pybytes(), tw.read_arrow),
    }
    for name, (text, read) in formats.items():
        path = tmp_path / f"packed.{name}.{suffix}"
        path.write_bytes(pack(text, kind))
        if name == "ndjson":
            plain = tmp_path / "plain.ndjson"
            plain.write_bytes(text)
            expected = rows_of(tw.read_ndjson(plain).collect())
            assert rows_of(read(path).collect()) == expected
            path.rename(tmp_path / "unnamed")
            assert rows_of(read(tmp_path / "unnamed", compression=kind).collect()) == expected
        else:
            assert sorted_rows(read(path).collect()) == sorted_rows(parts[0])
    with pytest.raises(tw.ConfigError, match="`rar` is not a compression"):
        tw.read_ndjson(tmp_path / "unnamed", compression="rar")  # type: ignore[arg-type]


def test_a_packed_file_that_is_cut_off_is_reported(tmp_path: Path, parts: list[pa.Table]) -> None:
    packed = gzip.compress(as_ndjson(parts[0]))
    (tmp_path / "a.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "b.ndjson.gz").write_bytes(packed)
    with pytest.warns(tw.DroppedRowsWarning):
        result = tw.read_ndjson(tmp_path / "*.gz", schema=SCHEMA).collect()
    assert len(parts[0]) < len(result) < 2 * len(parts[0])
    errors = [row["error"] for row in rows_of(result.quarantined)]
    assert any(f"a.ndjson.gz: the gzip data is cut off at byte {len(packed) // 2}" in error for error in errors)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (tw.read_parquet, tw.read_arrow, tw.read_ndjson, tw.read_csv):
        with pytest.raises(tw.ThalwegError, match=r"nowhere\.bin"):
            read(tmp_path / "nowhere.bin").collect()


@pytest.mark.parametrize("io", ["auto", "portable"])
def test_lines_that_do_not_decode_are_quarantined_with_their_bytes(tmp_path: Path, io: str) -> None:
    lines = [b'{"ts": 1, "amount": 1.5}', b"{nonsense", b'{"ts": 2, "amount": "many"}', b'{"ts": 3, "amount": 2.5}']
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(lines))
    stream = tw.read_ndjson(tmp_path / "a.ndjson", schema={"ts": "timestamp[ms]", "amount": "float64"})
    with pytest.warns(tw.DroppedRowsWarning, match="2 rows did not decode"):
        result = stream.collect(config=tw.Config(io=io))  # type: ignore[arg-type]
    assert rows_of(result) == [{"ts": 1, "amount": 1.5}, {"ts": 3, "amount": 2.5}]
    rejected = rows_of(result.quarantined)
    assert [row["bytes"] for row in rejected] == lines[1:3]
    assert [row["offset"] for row in rejected] == [25, 35]
    assert all(row["error"] for row in rejected)
    metrics = result.metrics()
    assert (metrics["rows_in"], metrics["quarantined_rows"]) == (2, 2)


@pytest.mark.parametrize("io", ["auto", "portable"])
def test_tcp_clients_are_heard_until_the_last_has_gone(io: str) -> None:
    table = make_payments(2_000)
    lines = as_ndjson(table).splitlines(keepends=True)
    stream = tw.listen_tcp("127.0.0.1:0", schema=SCHEMA, end_on_disconnect=True)
    address = stream.local_addr
    assert address is not None
    # All clients are connected before the first one leaves, so that none is the last too early.
    barrier = threading.Barrier(3)

    def talk(part: list[bytes]) -> None:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as client:
            barrier.wait()
            client.sendall(b"".join(part))

    clients = [threading.Thread(target=talk, args=(lines[number::3],)) for number in range(3)]
    for client in clients:
        client.start()
    windows = stream.event_time("ts", max_delay="1h").window(tw.tumbling("1s"), by="card")
    result = windows.agg(n=tw.count(), total=tw.sum("amount")).collect(config=tw.Config(io=io))  # type: ignore[arg-type]
    for client in clients:
        client.join()
    expected = tw.from_arrow(table).event_time("ts").window(tw.tumbling("1s"), by="card")
    twin = rows_of(expected.agg(n=tw.count(), total=tw.sum("amount")).collect())
    counts = {(row["card"], row["window_start"]): row["n"] for row in twin}
    assert {(row["card"], row["window_start"]): row["n"] for row in rows_of(result)} == counts
    assert result.metrics()["rows_in"] == 2_000


def test_a_unix_socket_speaks_csv(tmp_path: Path) -> None:
    path = tmp_path / "events.sock"
    schema = {"n": "int64", "word": "string"}
    stream = tw.listen_unix(path, schema=schema, format="csv", end_on_disconnect=True, delimiter="|")
    assert stream.local_addr == str(path)
    client = threading.Thread(target=send, args=(str(path), b"n|word\n1|a\n2|b\n"))
    client.start()
    assert rows_of(stream.collect()) == [{"n": 1, "word": "a"}, {"n": 2, "word": "b"}]
    client.join()


def test_udp_datagrams_become_rows() -> None:
    stream = tw.listen_udp("127.0.0.1:0", schema={"n": "int64"})
    assert stream.local_addr is not None
    host, port = stream.local_addr.split(":")
    batches = stream.batches()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for number in range(10):
            client.sendto(b'{"n": %d}\n' % number, (host, int(port)))
    seen: list[int] = []
    while len(seen) < 10:
        seen += [row["n"] for row in rows_of(next(batches))]
    assert seen == list(range(10))


@pytest.mark.parametrize("io", ["auto", "portable"])
def test_a_datagram_that_does_not_decode_names_its_sender(io: str) -> None:
    stream = tw.listen_udp("127.0.0.1:0", schema={"n": "int64"})
    assert stream.local_addr is not None
    host, port = stream.local_addr.split(":")
    seen: list[int] = []
    rejected: list[dict[str, Any]] = []
    came, refused = threading.Event(), threading.Event()

    def take(batch: tw.Table) -> None:
        seen.extend(row["n"] for row in rows_of(batch))
        if len(seen) == 2:
            came.set()

    def refuse(batch: tw.Table) -> None:
        rejected.extend(rows_of(batch))
        refused.set()

    query = stream.run(sink=take, quarantine=refuse, config=tw.Config(io=io))  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        sender = f"127.0.0.1:{client.getsockname()[1]}"
        for datagram in (b'{"n": 1}\nnonsense', b'{"n": 2}'):
            client.sendto(datagram, (host, int(port)))
        assert came.wait(timeout=60)
        assert refused.wait(timeout=60)
    query.stop()
    query.wait()
    assert seen == [1, 2]
    assert [(row["bytes"], row["offset"]) for row in rejected] == [(b"nonsense", 9)]
    assert rejected[0]["error"].startswith(f"datagram from {sender}: ")


def test_an_address_in_use_is_a_connector_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(tw.ConnectorError, match=address) as raised:
            tw.listen_tcp(address, schema=SCHEMA)
        assert raised.value.code == "connector"


def test_only_listeners_have_an_address(payments: pa.Table) -> None:
    assert tw.from_arrow(payments).local_addr is None
