"""Object stores: what is written there is read by pyarrow's client and by us, and nothing is said of secrets."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pytest

import thalweg as tw
from twins import rows_of

SECRET = "hunter2"


@pytest.fixture(scope="session")
def endpoint(aws: str) -> str:
    """The URL of a store that has a bucket."""
    urllib.request.urlopen(urllib.request.Request(f"{aws}/lake", method="PUT")).close()
    return aws


@pytest.fixture
def options(endpoint: str) -> dict[str, str | int | bool]:
    keys = {"access_key": "a", "secret_key": SECRET}
    return {"endpoint_url": endpoint, "allow_http": True, "region": "us-east-1", **keys}


@pytest.fixture
def lake(endpoint: str) -> fs.S3FileSystem:
    """The store as pyarrow sees it."""
    address = endpoint.removeprefix("http://")
    return fs.S3FileSystem(
        access_key="a", secret_key=SECRET, endpoint_override=address, scheme="http", region="us-east-1"
    )


def numbers(count: int) -> pa.Table:
    return pa.table({"n": list(range(count)), "city": [["Paris", "a/b"][n % 2] for n in range(count)]})


def test_parquet_in_folders_is_read_by_others_and_by_us(
    options: dict[str, str | int | bool], lake: fs.S3FileSystem
) -> None:
    sink = tw.write_parquet("s3://lake/sales", max_rows=100, partition_by="city", storage_options=options)
    tw.from_arrow(numbers(1_000)).run(sink=sink).wait()
    files = [info.path for info in lake.get_file_info(fs.FileSelector("lake/sales", recursive=True)) if info.is_file]
    assert len(files) == 10
    partitioning = ds.partitioning(pa.schema([("city", pa.string())]), flavor="hive")
    theirs = ds.dataset("lake/sales", filesystem=lake, format="parquet", partitioning=partitioning).to_table()
    assert sorted(zip(theirs["n"].to_pylist(), theirs["city"].to_pylist(), strict=True)) == [
        (n, ["Paris", "a/b"][n % 2]) for n in range(1_000)
    ]
    ours = tw.read_parquet("s3://lake/sales/*/*.parquet", storage_options=options)
    assert sorted(row["n"] for row in rows_of(ours.collect())) == list(range(1_000))


def test_the_other_formats_go_there_and_back(options: dict[str, str | int | bool], lake: fs.S3FileSystem) -> None:
    table = numbers(500)
    for sink in (
        tw.write_csv("s3://lake/csv/", storage_options=options),
        tw.write_ndjson("s3://lake/ndjson/", storage_options=options),
        tw.write_arrow("s3://lake/arrow/", compression="zstd", storage_options=options),
    ):
        tw.from_arrow(table).run(sink=sink).wait()
    for format in ("csv", "arrow"):
        assert ds.dataset(f"lake/{format}", filesystem=lake, format=format).to_table().equals(table)
    for stream in (
        tw.read_csv("s3://lake/csv/*.csv", storage_options=options),
        tw.read_ndjson("s3://lake/ndjson/*.ndjson", storage_options=options),
        tw.read_arrow("s3://lake/arrow/*.arrow", storage_options=options),
        tw.watch("s3://lake/ndjson/*.ndjson", end="latest", storage_options=options),
    ):
        assert [row["n"] for row in rows_of(stream.collect())] == list(range(500))


def test_what_goes_wrong_has_a_code_and_no_secret(
    options: dict[str, str | int | bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    sink = tw.write_parquet("s3://pond/out", storage_options=options)
    assert repr(sink) == 'write_parquet("s3://pond/out")'
    with pytest.raises(tw.ConnectorError, match="there is no such bucket; check its name") as wrong:
        tw.from_arrow(numbers(1)).run(sink=sink).wait()
    assert (wrong.value.code, wrong.value.retriable) == ("connector", False)
    gone = {**options, "endpoint_url": "http://127.0.0.1:1", "max_retries": 1}
    with pytest.raises(tw.ConnectorError, match="has been asked again and again") as away:
        tw.read_parquet("s3://lake/*.parquet", storage_options=gone)
    assert away.value.retriable
    with pytest.raises(tw.ConfigError, match="no setting `endpoint`") as unknown:
        tw.read_parquet("s3://lake/*.parquet", storage_options={**options, "endpoint": "x"})
    for error in (wrong, away, unknown):
        assert SECRET not in str(error.value)
    assert SECRET not in caplog.text
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    by_file = {**options, "secret_key": f"file:{path}"}
    tw.from_arrow(numbers(3)).run(sink=tw.write_ndjson("s3://lake/by-file", storage_options=by_file)).wait()
    stream = tw.read_ndjson("s3://lake/by-file/*", storage_options=by_file)
    assert SECRET not in repr(stream) + stream.explain()
    assert stream.collect().num_rows == 3
