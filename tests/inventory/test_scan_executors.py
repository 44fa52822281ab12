"""Scans split over threads, processes and a cluster: the same frames as without."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from regdata.config import Config, load_config
from regdata.demo.local import LocalRegistry
from regdata.errors import StorageError
from regdata.inventory import snapshot
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.sources import processes
from regdata.sources.columns import Columns, merge
from regdata.sources.manifest import Reference
from regdata.sources.source import Part
from regdata.sources.storage import Storage


@contextmanager
def dask() -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


EXECUTORS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    "dask": dask,
}


@pytest.fixture(params=["store", "api"])
def config(demo_registry: LocalRegistry, conf: Callable[..., Path], request: pytest.FixtureRequest) -> Config:
    where = {"url": demo_registry.url, "base_path": str(demo_registry.base_path)}
    if request.param == "api":
        del where["base_path"]
    return load_config(conf(demo_registry, registry=where))


def frames(inventory: Inventory) -> dict[str, list[str]]:
    """The rows of each frame, in no order, without what depends on the time of the scan."""
    found = {name: inventory.frame(name).drop(columns="age_days", errors="ignore") for name in snapshot.TABLES}
    return {name: sorted(repr(row) for row in frame.itertuples(index=False)) for name, frame in found.items()}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_the_same_frames(config: Config, kind: str) -> None:
    """Any executor gives what a scan without one gives."""
    with EXECUTORS[kind]() as executor:
        split = frames(scan(config, executor=executor))
    assert split == frames(scan(config))
    assert len(split["images"]) > 50


def test_the_store_on_all_cores(demo_registry: LocalRegistry) -> None:
    """A store that is large enough is read by processes of its own, with the same result."""
    store = Storage(demo_registry.base_path)
    parts = store.split(3, least=10)
    assert len(parts) == 3
    assert len(store.split(3, least=1000)) == 1
    assert rows(merge(processes.read(store, parts))) == rows(store.read(store.split(1)[0]))


def rows(columns: Columns) -> dict[str, list[str]]:
    """In no order, and without the numbers of rows."""
    found = {name: sorted(map(repr, zip(*columns[name].values(), strict=True))) for name in columns}
    return found | {"references": sorted(map(repr, columns.references()))}


def test_a_share_comes_back_as_columns() -> None:
    """References are handed over as integers: a manifest more with known layers costs a few bytes for each."""
    columns = Columns()
    layers = [Reference(f"sha256:{number:064x}", "layer", number, "layer", None) for number in range(100)]
    for _ in range(2):
        before = len(pickle.dumps(columns))
        for manifest in range(100):
            columns.refer(manifest, layers)
    assert len(columns["references"]["manifest"]) == 2 * 100 * 100
    assert len(pickle.dumps(columns)) - before < 9 * 100 * 100


def test_what_goes_wrong_in_a_process_is_told(demo_registry: LocalRegistry) -> None:
    """An error of a share's process is raised as if it had been read here."""
    store = Storage(demo_registry.base_path)
    link = demo_registry.base_path / "docker/registry/v2/repositories/shop/prod-web/_manifests/tags/latest/current/link"
    link.unlink()
    link.mkdir()
    with pytest.raises(StorageError, match=r"tags/latest/current/link|Is a directory"):
        list(processes.read(store, [Part((), ()), Part(("shop/prod-web",), ())]))


class Dying:
    """A source that ends the process it is unpickled in, as a lack of memory would."""

    def read(self, part: int) -> Columns:
        return Columns()

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_process_that_ends_is_told() -> None:
    """A share's process that ends early is an error that says so."""
    with pytest.raises(StorageError, match=r"ended early \(exit code 9\): see whether memory"):
        list(processes.read(Dying(), [0, 1]))


def test_a_process_needs_nothing_but_the_standard_library() -> None:
    """What a share's process imports is light: no pandas, no DuckDB."""
    script = f"import sys, {processes.__name__}, {Storage.__module__}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "duckdb", "pyarrow", "requests", "pydantic"} & set(run.stdout.split())


def test_a_plain_script_runs_once(demo_registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path) -> None:
    """A script that scans on its top level, without a __main__ guard, is not run again by the processes."""
    path = conf(demo_registry)
    script = tmp_path / "script.py"
    script.write_text(
        f"import regdata\nimport {scan.__module__} as scanning\n"
        "print('begins')\n"
        "scanning.TAGS_PER_PROCESS = 1\n"
        "scanning.processes.cores = lambda: 3\n"
        f"print(len(regdata.scan(regdata.load_config({str(path)!r})).images))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["begins", str(len(scan(load_config(path)).images))]
    assert run.stderr == ""
