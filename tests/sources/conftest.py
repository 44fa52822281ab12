"""A fake registry that answers at once, and a client of it that has little patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regdata.sources.registry import Registry
from tests.support.fakes import FakeRegistry, serve


@pytest.fixture
def fake(naps: list[float]) -> Iterator[FakeRegistry]:
    with serve(FakeRegistry()) as server:
        yield server


@pytest.fixture
def client(fake: FakeRegistry) -> Registry:
    return Registry(fake.url, timeout=(1, 0.6))
