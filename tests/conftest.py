"""Fixtures: a clean environment, and real registries on loopback."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from urllib3 import BaseHTTPResponse, Retry

import regdata.command  # noqa: F401  # before the first nbformat: what that would load for nothing takes a second
from regdata.demo.filling import fill
from regdata.demo.local import LocalRegistry, registry_binary
from regdata.errors import RegistryError
from regdata.sources.pace import Pace
from regdata.sources.tls import BUNDLES
from tests.support.scene import Finished, NewScene, Scene, make_scene
from tests.support.standstill import Watch

REAL = {"tools", "chromium", "kernel"}
WATCH = Watch()


def _missing_tool() -> str | None:
    try:
        registry_binary()
    except RegistryError as error:
        return str(error)
    return None if shutil.which("skopeo") else "there is no `skopeo` on PATH: install it"


def _missing_browser() -> str | None:
    return None if shutil.which("chromium") else "there is no `chromium` on PATH: install it"


def _missing_server() -> str | None:
    missing = [name for name in ("nginx", "htpasswd") if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    return f"there is no `{missing[0]}` on PATH: install it" if missing else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Under CI=true a missing registry, skopeo or browser is a failure: skipped tests would look green. What a test
    starts is to be interrupted, also where a shell had us ignore that (in the background)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI") != "true" or session.config.getoption("markexpr") == "not real":
        return
    if missing := _missing_tool() or _missing_browser() or _missing_server():
        pytest.exit(missing, returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What stands on a real registry, kernel or browser is marked `real`: `make check` leaves it out. What is `long`
    comes first, for no worker to have it left when the others are done. What fails while the machine stands still
    says nothing: it runs again."""
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=1, condition=WATCH.stood))
        if isinstance(item, pytest.Function) and not REAL.isdisjoint(item.fixturenames):
            item.add_marker("real")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_runtest_logstart() -> None:
    """Each test asks for itself whether the machine stood still."""
    WATCH.begin()


@pytest.fixture(scope="session")
def kernel() -> None:
    """For tests that start a Jupyter kernel, but no registry."""


@pytest.fixture(scope="session")
def tools() -> None:
    """Skips a test that needs a real registry and skopeo where there are none."""
    if missing := _missing_tool():
        pytest.skip(missing)


@pytest.fixture(scope="session")
def servers(tools: None) -> None:
    """Skips a test that needs nginx and Apache's htpasswd where there are none."""
    if missing := _missing_server():
        pytest.skip(missing)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path; skips a test that needs it where there is none."""
    if missing := _missing_browser():
        pytest.skip(missing)
    return str(shutil.which("chromium"))


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where matplotlib writes down the fonts that there are: once, and not in the cache of each test."""
    return tmp_path_factory.mktemp("fonts")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fonts: Path) -> None:
    """No setting of the developer's machine reaches a test, and no test writes into the project."""
    for name in list(os.environ):
        if name.startswith(("REGDATA_", "REGISTRY_")) or name.lower().endswith("_proxy") or name in BUNDLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ".run"))
    monkeypatch.setenv("MPLCONFIGDIR", str(fonts))
    for name in _CREDENTIALS:
        monkeypatch.setenv(name, str(tmp_path / ".none"))
    monkeypatch.chdir(tmp_path)


# Where the developer's own credentials may be, besides the home, in which the tools' own settings are.
_CREDENTIALS = ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "NETRC")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of the test's own, in which it can put credentials, with a folder for their helpers on PATH."""
    folder = tmp_path / "home"
    (folder / "bin").mkdir(parents=True)
    for name in _CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds to be waited between retries; nobody waits for them."""
    slept: list[float] = []

    def sleep(retry: Retry, response: BaseHTTPResponse | None = None) -> None:
        asked = retry.get_retry_after(response) if response and retry.respect_retry_after_header else None
        if seconds := asked or retry.get_backoff_time():
            slept.append(seconds)

    monkeypatch.setattr(Retry, "sleep", sleep)
    monkeypatch.setattr(Pace, "sleep", lambda pace, seconds: slept.append(round(seconds, 1)))
    return slept


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


@pytest.fixture(scope="session")
def scene_folder(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped registry with the images of tests/support/scene.py; never written to."""
    folder = tmp_path_factory.mktemp("scene")
    make_scene(folder)
    return folder


@pytest.fixture
def new_scene(scene_folder: Path, tmp_path: Path) -> Iterator[NewScene]:
    """`new_scene(store=True, cache=False)` starts a copy of the scene."""
    with ExitStack() as stack:
        number = itertools.count()

        def copy(**options: bool) -> Scene:
            folder = tmp_path / str(next(number))
            folder.mkdir()
            return Scene(scene_folder, folder, stack, **options)

        yield copy


@pytest.fixture(scope="session")
def finished(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What the scene's store holds after an undisturbed run, by whether conf.json has a base_path."""
    stores = {}
    for store in (True, False):
        with ExitStack() as stack:
            scene = Scene(scene_folder, tmp_path_factory.mktemp("finished"), stack, store=store)
            assert scene.clean() == ""
            stores[store] = scene.store()
    return stores


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., Path]:
    """`conf(registry, **overrides)` writes a conf.json and returns its path; None drops a key."""

    def write(registry: LocalRegistry, /, **overrides: Any) -> Path:
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


@pytest.fixture
def scene(new_scene: NewScene) -> Scene:
    """Where regdata collects by itself, with the registry's cache on, as it comes."""
    made = new_scene(cache=True)
    made.collects_itself()
    return made
