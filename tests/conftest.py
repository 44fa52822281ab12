"""Fixtures: a clean environment, and real registries on loopback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regdata.demo import fill
from regdata.errors import RegistryError
from regdata.local import LocalRegistry, registry_binary


def _missing_tool() -> str | None:
    try:
        registry_binary()
    except RegistryError as error:
        return str(error)
    return None if shutil.which("skopeo") else "there is no `skopeo` on PATH: install it"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Under CI=true a missing registry or skopeo is a failure: skipped tests would look green."""
    if os.environ.get("CI") == "true" and (missing := _missing_tool()):
        pytest.exit(missing, returncode=1)


@pytest.fixture(scope="session")
def tools() -> None:
    """Skips a test that needs a real registry and skopeo where there are none."""
    if missing := _missing_tool():
        pytest.skip(missing)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's machine reaches a test, and no test writes into the project."""
    for name in list(os.environ):
        if name.startswith("REGDATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registry(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """A fresh, empty registry."""
    with LocalRegistry(tmp_path / "registry") as fresh:
        yield fresh


@pytest.fixture(scope="session")
def filled_folder(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped registry filled with the demo's images; never written to."""
    folder = tmp_path_factory.mktemp("filled")
    with LocalRegistry(folder) as template:
        fill(template)
    return folder


@pytest.fixture
def demo_registry(filled_folder: Path, tmp_path: Path) -> Iterator[LocalRegistry]:
    """A registry with the demo's images and push dates, this test's own copy."""
    copy = LocalRegistry(tmp_path / "demo")
    shutil.copytree(filled_folder / "store", copy.base_path)  # copy2 keeps the push dates
    with copy:
        yield copy


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., Path]:
    """`conf(registry, **overrides)` writes a conf.json and returns its path; None drops a key."""

    def write(registry: LocalRegistry, **overrides: Any) -> Path:
        settings = {
            "registry": {"url": registry.url, "base_path": str(registry.base_path)},
            "engine": "duckdb",
            "sql": {
                "none": "2=1",
                "all": "1=1",
                "autobuild": "image_name like '%prod%' and image_tag != 'latest'",
            },
            "gc-command": registry.gc_command,
            "reports": "reports",
        } | overrides
        path = tmp_path / "conf.json"
        path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}, indent=2))
        return path

    return write
