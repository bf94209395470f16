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
