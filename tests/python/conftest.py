"""Fixtures."""

from __future__ import annotations

import pyarrow as pa
import pytest

from twins import make_payments


@pytest.fixture(scope="session")
def payments() -> pa.Table:
    return make_payments(5_000)
