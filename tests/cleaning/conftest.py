"""The registry of tests/support/team.py, a copy for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import push
from tests.support.helpers import age, docker_ref, pull_all, skopeo_copy
from tests.support.team import HOUR, TAGS, Files, Team, serve


@pytest.fixture(scope="session")
def team_template(tools: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Files]]:
    """The store of a registry that `skopeo copy --all` filled from another one, three hours ago; and what it held."""
    folder = tmp_path_factory.mktemp("team")
    pushed: dict[str, Files] = {}
    with LocalRegistry(folder / "source") as source, LocalRegistry(folder / "filled") as filled:
        for name, image in TAGS.items():
            repository, tag = name.split(":")
            push(source.url, repository, tag, image)
            pushed[name] = pull_all(source, name, folder / f"pulled-{len(pushed)}")
            skopeo_copy(docker_ref(source, name), docker_ref(filled, name))
    age(folder / "filled/store", 3 * HOUR)
    return folder / "filled/store", pushed


@pytest.fixture
def team(team_template: tuple[Path, dict[str, Files]], tmp_path: Path) -> Iterator[Team]:
    """This test's own copy of that registry."""
    template, pushed = team_template
    with serve(template, tmp_path / "registry") as registry:
        yield Team(registry, pushed)


@pytest.fixture
def registry_with_cache(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """An empty one, with its cache as it comes."""
    with LocalRegistry(tmp_path / "cached registry", cache=True) as registry:
        yield registry
