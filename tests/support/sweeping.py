"""A collection by ourselves on a real registry, with nothing of regdata before it: what is needed is found by the files
alone."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regdata.collecting.sweep import Sweep
from regdata.collecting.swept import Item, Swept
from regdata.demo.local import LocalRegistry
from regdata.sources.aside import Aside
from regdata.sources.claims import Claims
from regdata.sources.guard import guarded
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage
from regdata.sources.watch import Link, Watch, read_links


@dataclass
class Journal:
    """Keeps what is written down; ``before``: what a test wants done before a line is."""

    events: list[dict[str, Any]] = field(default_factory=list)
    before: Callable[[dict[str, Any]], object] = lambda event: None

    def journal(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.before(event)
            self.events.append(event)


def needed(base_path: Path) -> tuple[dict[str, set[str]], set[str]]:
    """Each repository's manifests, and every digest that any of them mentions."""
    root = base_path / "docker/registry/v2"
    known, mentioned = defaultdict(set), set()
    for link in root.glob("repositories/**/_manifests/revisions/*/*/link"):
        digest = link.read_text()
        known[str(link.parents[4].relative_to(root / "repositories"))].add(digest)
        data = root / f"blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
        mentioned |= {digest, *re.findall(r"sha256:[0-9a-f]{64}", data.read_text())}
    return dict(known), mentioned


def unneeded(base_path: Path, mentioned: set[str]) -> dict[str, int]:
    """The blobs that are no manifests and that nothing mentions, with their bytes."""
    found = {}
    for data in base_path.glob("docker/registry/v2/blobs/sha256/*/*/data"):
        digest = f"sha256:{data.parent.name}"
        if digest not in mentioned and not _is_manifest(data):
            found[digest] = data.stat().st_size
    return found


def _is_manifest(path: Path) -> bool:
    try:
        return "schemaVersion" in json.loads(path.read_bytes())
    except ValueError:
        return False


def sweep(
    registry: LocalRegistry, *, url: str = "", run: str = "run", journal: Journal | None = None, **options: Any
) -> Swept:
    """Sweeps all that is unneeded."""
    storage = Storage(registry.base_path)
    aside = Aside(storage)
    since = int(time.time())
    known, mentioned = needed(registry.base_path)
    blobs = unneeded(registry.base_path, mentioned)
    watch = Watch(storage, known, since)
    links = defaultdict(list)
    for repository in storage.repositories():
        for link in read_links(storage, repository):
            if (digest := link.target or link.name) in blobs:
                links[digest].append(link)
    watch.expect(blobs, [link for found in links.values() for link in found])
    items = [Item(digest, size, tuple(links[digest])) for digest, size in blobs.items()]
    claims = Claims(Registry(url or registry.url))
    options = {"since": since, "wait": 0.3} | options
    with guarded(aside, run):
        return Sweep(aside, claims, watch, journal or Journal(), run=run, **options).run(items)


def link_path(registry: LocalRegistry, repository: str, digest: str) -> Path:
    return registry.base_path / "docker/registry/v2" / Link(repository, digest, digest).path


def data_path(registry: LocalRegistry, digest: str) -> Path:
    return registry.base_path / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"


def written(base_path: Path, path: str, data: bytes) -> None:
    """Writes a file below docker/registry/v2."""
    file = base_path / "docker/registry/v2" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def by_hand(base_path: Path, wanted: Collection[str]) -> tuple[Aside, tuple[Link, ...], Watch]:
    """What a sweep of a store without a registry takes: for what it sets aside, the links of repository a, and a watch
    that knows that these and the blobs that are ``wanted`` go."""
    aside = Aside(Storage(base_path))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    watch.expect(wanted, links)
    return aside, links, watch
