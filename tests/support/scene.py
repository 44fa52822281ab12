"""A small registry with one of everything that a clean-up has to treat with care; what a store holds, by its files.

The condition `CONDITION` selects what is tagged 1.0, 2.0 and old:

* ``prod/app:1.0`` is an OCI index of two platforms with attestations, and signed by cosign: all of it goes;
* ``prod/app:2.0`` shares its digest with ``stable``, which stays: the tag alone goes;
* ``prod/app:latest`` is signed and has an SBOM (by subject, with the fallback tag): all of it stays;
* ``prod/app`` has an orphan, older than the grace;
* ``prod/old:old`` is the only image of its repository, and shares a layer with ``base/lib``, which stays.

Everything is three days old but for the children of 1.0's index, which as orphans would be within the grace.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    referrers_tag,
    signature_tag,
)
from regdata.errors import RegdataError
from regdata.notebook import run
from regdata.sources.paths import REMOVED
from regdata.sources.site import Site
from tests.support.helpers import age
from tests.support.proxy import faults_before

CONDITION = "tag_name in ('1.0', '2.0', 'old')"

BASE = make_layer("base", 4000)
AMD = make_image([BASE, make_layer("amd", 5000)], created=1_700_000_000)
ARM = make_image([BASE, make_layer("arm", 5100)], created=1_700_000_000, platform="linux/arm64/v8")
INDEX = make_index([AMD, ARM], attest=True)
SHARED = make_image([BASE, make_layer("shared", 3000)], created=1_700_000_100)
LATEST = make_image([BASE, make_layer("latest", 6000)], created=1_700_000_200, oci=True)
SBOM = make_referrer(LATEST)
ORPHAN = make_image([make_layer("orphan", 2000)], created=1_600_000_000)
OLD = make_image([BASE, make_layer("old", 7000)], created=1_500_000_000)
LIBRARY = make_image([BASE], created=1_500_000_000)


def push_scene(url: str) -> None:
    """Pushes the images."""
    push(url, "prod/app", "1.0", INDEX)
    push(url, "prod/app", signature_tag(INDEX), make_signature(INDEX))
    push(url, "prod/app", "2.0", SHARED)
    push(url, "prod/app", "stable", SHARED)
    push(url, "prod/app", "latest", LATEST)
    push(url, "prod/app", signature_tag(LATEST), make_signature(LATEST))
    push(url, "prod/app", None, SBOM)
    push(url, "prod/app", referrers_tag(LATEST), make_index([SBOM]))
    push(url, "prod/app", None, ORPHAN)
    push(url, "prod/old", "old", OLD)
    push(url, "base/lib", "1", LIBRARY)


def make_scene(folder: Path) -> None:
    """The folder of a stopped registry with the images."""
    with LocalRegistry(folder) as registry:
        push_scene(registry.url)
    age(registry.base_path, 3 * 86400)
    revisions = repositories(registry.base_path) / "prod/app/_manifests/revisions/sha256"
    for child in INDEX.children:
        os.utime(revisions / child.digest.removeprefix("sha256:") / "link")


class Scene:
    """A copy of the scene; its registry is behind a proxy that is down between gc-before and gc-after.

    ``store``: conf.json has a base_path. ``cache``: the registry has its blob descriptor cache.
    """

    def __init__(
        self, template: Path, folder: Path, stack: ExitStack, *, store: bool = True, cache: bool = False
    ) -> None:
        self.folder = folder
        self.registry = LocalRegistry(folder / "registry", cache=cache)
        self.base_path = self.registry.base_path
        shutil.copytree(template / "store", self.base_path)
        stack.enter_context(self.registry)
        self.proxy = stack.enter_context(faults_before(self.registry.url))
        self.stopped = folder / "stopped"
        self.proxy.down = self.stopped.exists
        self.run: run.Run | None = None
        self.open_site: run.OpenSite = Site.open
        self.conf = folder / "conf.json"
        self.settings: dict[str, Any] = {
            "registry": {"url": self.proxy.url} | ({"base_path": str(self.base_path)} if store else {}),
            "engine": "duckdb",
            "sql": {"none": "2=1", "scene": CONDITION},
            "gc-before": ["touch", str(self.stopped)],
            "gc-command": self.registry.gc_command,
            "gc-after": ["rm", "-f", str(self.stopped)],
            "cache": False,  # each request that may fail is made
        }
        self.set()

    def set(self, **changes: Any) -> None:
        """Changes conf.json, `gc_wait` for gc-wait and so on; None drops a key."""
        self.settings |= {key.replace("gc_", "gc-"): value for key, value in changes.items()}
        self.conf.write_text(json.dumps({key: value for key, value in self.settings.items() if value is not None}))

    def collects_itself(self) -> None:
        """Without commands in conf.json regdata collects by itself."""
        self.set(gc_command=None, gc_before=None, gc_after=None)

    def collect_after(self, script: str) -> list[str]:
        """A gc-command that does something before it collects."""
        return ["sh", "-c", f"{script}; exec {' '.join(self.registry.gc_command)}"]

    def store(self) -> Store:
        """What it holds now."""
        return read_store(self.base_path)

    def records(self) -> list[Path]:
        """The folders of its runs, in their order."""
        return sorted(path.parent for path in (self.folder / "reports").glob("*/record.json"))

    def clean(
        self,
        *,
        gc: bool = True,
        empty_trash: bool = False,
        before_scan: Callable[[], object] = lambda: None,
        before_apply: Callable[[], object] = lambda: None,
    ) -> str:
        """The steps of delete.ipynb on the condition; returns the error that they end with, if there is one."""
        self.run = None
        try:
            how: dict[str, Any] = {"gc": gc, "empty_trash": empty_trash, "open_site": self.open_site}
            self.run = run.start(sql_id="scene", conf=str(self.conf), **how)
            before_scan()
            self.run.scan()
            self.run.plan()
            before_apply()
            self.run.apply()
            self.run.finish()
        except RegdataError as error:
            return str(error)
        return ""


NewScene = Callable[..., Scene]
Finished = dict[bool, "Store"]


@dataclass(frozen=True)
class Store:
    """What a store holds: tags and revisions as (repository, tag or digest, digest), blobs, repositories."""

    tags: frozenset[tuple[str, str, str]]
    revisions: frozenset[tuple[str, str]]
    blobs: frozenset[str]
    repositories: frozenset[str]

    def lacks(self, other: Store) -> Store:
        """What ``other`` has and this one doesn't."""
        return Store(
            other.tags - self.tags,
            other.revisions - self.revisions,
            other.blobs - self.blobs,
            other.repositories - self.repositories,
        )

    def within(self, other: Store) -> bool:
        """Whether ``other`` has all of this."""
        return other.lacks(self) == NOTHING


NOTHING = Store(frozenset(), frozenset(), frozenset(), frozenset())


def repositories(base_path: Path) -> Path:
    return base_path / "docker/registry/v2/repositories"


def read_store(base_path: Path) -> Store:
    """By its files alone."""
    tags, revisions, names = set(), set(), set()
    root = repositories(base_path)
    for folder, subfolders, _ in os.walk(root):
        path = Path(folder)
        if path.name == "_manifests":
            name = str(path.parent.relative_to(root))
            names.add(name)
            tags |= {(name, link.parents[1].name, link.read_text()) for link in path.glob("tags/*/current/link")}
            revisions |= {(name, link.read_text()) for link in path.glob("revisions/*/*/link")}
            held = {child.name for child in path.iterdir() if not child.name.startswith(REMOVED)}
            assert held in ({"revisions"}, {"revisions", "tags"})
            subfolders.clear()
    blobs = {f"sha256:{data.parent.name}" for data in base_path.glob("docker/registry/v2/blobs/sha256/*/*/data")}
    return Store(frozenset(tags), frozenset(revisions), frozenset(blobs), frozenset(names))


def broken(base_path: Path) -> list[str]:
    """The tags that can't be pulled whole: a revision, child, config or layer is missing or damaged."""
    store = read_store(base_path)
    return [
        f"{name}:{tag}" for name, tag, digest in sorted(store.tags) if not _is_whole(base_path, store, name, digest)
    ]


def _is_whole(base_path: Path, store: Store, name: str, digest: str) -> bool:
    hex_ = digest.removeprefix("sha256:")
    path = base_path / f"docker/registry/v2/blobs/sha256/{hex_[:2]}/{hex_}/data"
    if (name, digest) not in store.revisions or digest not in store.blobs:
        return False
    data = path.read_bytes()
    manifest = json.loads(data)
    parts = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
    return (
        hashlib.sha256(data).hexdigest() == hex_
        and all(part["digest"] in store.blobs for part in parts)
        and all(_is_whole(base_path, store, name, child["digest"]) for child in manifest.get("manifests", []))
    )
