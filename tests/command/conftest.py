"""Fixtures: a test's own ground for registries, and one whose token server knows rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.ground import Ground, SetUp
from tests.support.tokenserver import TokenServer, token_server


@pytest.fixture
def ground(servers: None, scene_folder: Path, home: Path, tmp_path: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        yield Ground(tmp_path, home, scene_folder, stack)


@pytest.fixture
def guarded(ground: Ground) -> tuple[TokenServer, SetUp]:
    server: TokenServer = ground.stack.enter_context(token_server(ground.folder))
    registry = ground.registry(more={"auth": server.registry_settings()})
    ground.log_in(registry.url)
    return server, SetUp(registry, registry.url)
