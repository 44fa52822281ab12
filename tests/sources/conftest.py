"""A fake registry that answers at once, and a client of it that has little patience; a store to be filled by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regdata.sources.registry import Registry
from tests.support.fakes import FakeRegistry, serve
from tests.support.folder import Folder


@pytest.fixture
def fake(naps: list[float]) -> Iterator[FakeRegistry]:
    with serve(FakeRegistry()) as server:
        yield server


@pytest.fixture
def client(fake: FakeRegistry) -> Registry:
    return Registry(fake.url, timeout=(1, 0.6))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty store, to be filled by hand."""
    return Folder(tmp_path / "store")
