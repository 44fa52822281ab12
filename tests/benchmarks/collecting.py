"""The parts of `make bench` about collections, regdata's own and the registry's, and the doctor."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import regdata
from regdata.demo.local import LocalRegistry
from tests.benchmarks.timing import Way, compare, measure, serving
from tests.support.stores import DAY, NOW, TEAMS, one_repository

KEPT = 50  # tags
REPOSITORIES = (500, 2_000, 8_000)  # tags of one
OLD = f"pushed < {NOW - 365 * DAY}"  # about half of them


def twin(base_path: Path, folder: Path) -> Path:
    """A copy of the store to collect from; its files are the same until one of them goes."""
    copy = folder / "twin"
    subprocess.run(["rm", "-rf", copy], check=True)
    subprocess.run(["cp", "-al", base_path, copy], check=True)
    return copy


def conf_of(registry: LocalRegistry, folder: Path, *, own: bool) -> regdata.config.Config:
    conf = folder / "conf.json"
    settings = {
        "registry": {"url": registry.url, "base_path": str(registry.base_path)},
        "engine": "duckdb",
        "sql": {},
        "reports": "reports",
    } | ({} if own else {"gc-command": registry.gc_command})
    conf.write_text(json.dumps(settings))
    return regdata.load_config(conf)


def collect(base_path: Path, tags: int, runs: int, folder: Path) -> None:
    """Whole clean-ups of what is old: scan, deletions, collection, verification."""
    ways = [
        Way("garbage-collect, in a clean-up", cleaned, (base_path, folder, False)),
        Way("regdata collects by itself", cleaned, (base_path, folder, True)),
    ]
    compare("Whole clean-ups of the older half", tags, ways, runs)


def kept(base_path: Path, tags: int, runs: int, folder: Path) -> None:
    """Clean-ups of the same, one team's tags, where little or much else is kept; after the scan."""
    condition = f"image_name like '{TEAMS[0]}/%'"
    ways = [
        Way(f"{others} other teams kept", cleaned, (base_path, folder, True, condition, others))
        for others in ((len(TEAMS) - 1) // 2, len(TEAMS) - 1)
    ]
    compare("Clean-ups of one team's tags, after the scan", tags, ways, runs)


def cleaned(base_path: Path, folder: Path, own: bool, condition: str = OLD, others: int | None = None) -> float:
    """Seconds of a clean-up; with ``others``, in a store of so many more teams, without the time of the scan."""
    store = linked(twin(base_path, folder))
    for team in TEAMS[1 + others :] if others is not None else ():
        shutil.rmtree(store / "docker/registry/v2/repositories" / team)
    with serving(folder, store) as (registry, _):
        config = conf_of(registry, folder, own=own)
        if others is not None:  # what goes is then one team's tags, and nothing that others left behind
            regdata.apply(regdata.plan(regdata.scan(config), "false"), config)
        start = time.perf_counter()
        planned = regdata.plan(regdata.scan(config), condition)
        if others is not None:
            start = time.perf_counter()
        result = regdata.apply(planned, config)
        seconds = time.perf_counter() - start
        assert not result.errors, result.errors
        assert result.bytes_freed == result.bytes_expected, result.notes
        return seconds


def repositories(runs: int, folder: Path) -> None:
    """All but some tags of one repository, the more the larger: the time grows as their number."""
    found = {}
    for tags in REPOSITORIES:
        base_path = one_repository(folder / "one", tags)
        way = Way("", cleaned, (base_path, folder, True, f"newest_rank > {KEPT}"))
        found[tags] = min(measure(way, None).seconds for _ in range(runs))
    print(f"\nAll but {KEPT} tags of one repository, deleted and collected by regdata itself")
    for tags, seconds in found.items():
        print(f"{tags:>10,} tags{seconds:9.2f} s{tags / seconds:8.0f} per s")
    (low, first), (high, last) = min(found.items()), max(found.items())
    print(f"time grows with the number of tags to the power of {math.log(last / first) / math.log(high / low):.2f}")


def doctor(base_path: Path, tags: int, runs: int, folder: Path) -> None:
    """What is broken in a store in which nothing is, without its digests."""
    whole = linked(twin(base_path, folder))
    compare("Doctor, without digests", tags, [Way("regdata.doctor", looked_at, (whole, folder))], runs)


def looked_at(base_path: Path, folder: Path) -> float:
    with serving(folder, base_path) as (registry, _):
        config = conf_of(registry, folder, own=True)
        start = time.perf_counter()
        found = regdata.doctor(config)
        seconds = time.perf_counter() - start
        assert set(found["what"]) <= {"empty repository"}, found["what"].value_counts()
        return seconds


def linked(base_path: Path) -> Path:
    """With the links to layers, which the stores of the other measurements do without."""
    root = base_path / "docker/registry/v2"
    for revision in (root / "repositories").glob("**/_manifests/revisions/sha256/*/link"):
        layers = revision.parents[4] / "_layers/sha256"
        for hex_ in _layers(root, revision.parent.name):
            link = layers / hex_ / "link"
            if not link.exists() or not link.stat().st_size:
                link.parent.mkdir(parents=True, exist_ok=True)
                _write(link, hex_, revision.stat().st_mtime)
    for link in (root / "repositories").glob("**/_layers/sha256/*/link"):
        if not link.stat().st_size:
            _write(link, link.parent.name, link.stat().st_mtime)
    return base_path


def _write(link: Path, hex_: str, when: float) -> None:
    link.unlink(missing_ok=True)  # another store's as well
    link.write_text(f"sha256:{hex_}")
    os.utime(link, (when, when))


def _layers(root: Path, manifest: str) -> Iterator[str]:
    document = json.loads((root / f"blobs/sha256/{manifest[:2]}/{manifest}/data").read_bytes())
    for part in document.get("layers", ()):
        yield part["digest"].partition(":")[2]
