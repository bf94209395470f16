"""Fixtures."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from twins import make_payments

AWS = Path(__file__).parent.parent / "services" / "aws"
KAFKA = Path(__file__).parent.parent / "services" / "kafka"


@pytest.fixture(scope="session")
def payments() -> pa.Table:
    return make_payments(5_000)


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """The URL of S3, Kinesis and DynamoDB, see tests/services/aws; they are ended with the session."""
    with subprocess.Popen([AWS, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        addresses = {}
        for line in server.stdout:
            if line == "ready\n":
                break
            name, value = line.rstrip("\n").split("=", 1)
            addresses[name] = value
        if "endpoint" in addresses:
            yield addresses["endpoint"]
        elif os.environ.get("THALWEG_REQUIRE_SERVICES"):
            pytest.fail("no services of Amazon's; tests/services/aws says why")
        else:
            pytest.skip("no services of Amazon's; tests/services/aws says why")


@pytest.fixture(scope="session")
def kafka() -> Iterator[dict[str, str]]:
    """The addresses of a broker, see tests/services/kafka; it is ended with the session."""
    with subprocess.Popen([KAFKA, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as broker:
        assert broker.stdout is not None
        addresses = {}
        for line in broker.stdout:
            if line == "ready\n":
                break
            name, value = line.rstrip("\n").split("=", 1)
            addresses[name] = value
        if "bootstrap" in addresses:
            yield addresses
        elif os.environ.get("THALWEG_REQUIRE_SERVICES"):
            pytest.fail("no Kafka; tests/services/kafka says why")
        else:
            pytest.skip("no Kafka; tests/services/kafka says why")


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a registry, see tests/services/registry, which lets alice in; it is ended with the test."""
    service = Path(__file__).parent.parent / "services" / "registry"
    command = [str(service), "run", "--user", "alice", "--password", "wonderland"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removeprefix("url=")
        assert process.stdout.readline() == "ready\n"
        yield url
