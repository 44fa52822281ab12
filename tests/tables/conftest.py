"""What the tests of conditions share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from regdata.tables.conditions import Reader
from regdata.tables.schema import Engine
from tests.support.typed import ROWS


@pytest.fixture(scope="module")
def readers() -> Iterator[dict[Engine, Reader]]:
    """One of each engine over the same rows."""
    with closing(Reader(ROWS, "duckdb")) as duckdb, closing(Reader(ROWS, "sqlite")) as sqlite:
        yield {"duckdb": duckdb, "sqlite": sqlite}
