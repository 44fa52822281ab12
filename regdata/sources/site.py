"""A registry as conf.json tells how to reach it: its client, and the source that shows most of what it holds.

Nobody else asks which kind of source there is. Each kind of site answers every question as well as it can; what it
can't tell is unknown (None), and what takes a store says so (`Site.store`). Another kind of store takes a class with
the methods of `regdata.sources.source.Store`, a line in `Site.open`, and a line in tests/sources/test_every_source.py.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regdata.errors import AccessError, CleanupError, RegistryError
from regdata.sources.api import Api
from regdata.sources.cache import Cache
from regdata.sources.columns import Columns
from regdata.sources.dates import Pushed, ahead
from regdata.sources.locks import lock_folder
from regdata.sources.names import means
from regdata.sources.outside import beyond, disguised
from regdata.sources.registry import TIMEOUT, Registry
from regdata.sources.registrylock import lock_registry
from regdata.sources.room import told_if_full
from regdata.sources.same import check_same
from regdata.sources.source import NONE_UNCHANGED, Part, Source, Store, Unchanged, Upload, Usage
from regdata.sources.storage import Storage
from regdata.sources.threads import each
from regdata.sources.upstream import say_if_cache

if TYPE_CHECKING:
    import pandas as pd

    from regdata.config import Config

START_TIME = 60.0  # seconds that a registry may take to start

Pair = tuple[str, str]  # a repository, and a tag or digest
Pairs = Iterable[Pair]


class Work(NamedTuple):
    """A scan's work, and whether a tag can go while its digest stays."""

    parts: list[Part]
    can_untag: bool


class Site(ABC):
    """A registry and its contents. Methods raise RegistryError or StorageError.

    ``from_store``: whether the source shows everything that is stored, with its size and date. ``batch``: how many
    manifests may be deleted between two looks at their repositories. ``start_time``: the seconds that the registry may
    take to start. ``ahead``: by how many seconds the clock that dates what is stored is ahead of ours (below 0: behind
    it), as far as `see_clock` and `check_written` have seen that. ``say``: is told what is to be known before a scan.
    """

    registry: Registry
    source: Source
    from_store: bool
    batch = 200
    start_time: float
    ahead = 0
    say: Callable[[str], object] = staticmethod(warnings.warn)

    @staticmethod
    def open(config: Config, *, timeout: tuple[float, float] = TIMEOUT, start_time: float = START_TIME) -> Site:
        """The site that conf.json names; nothing is asked of the registry. StorageError for an unusable base_path."""
        registry = Registry.open(config.registry, timeout=timeout)
        if config.registry.base_path:
            # Read without the cache: damage is to be seen, and reading a folder is fast.
            return StoreSite(registry, Storage(config.registry.base_path), start_time=start_time)
        return ApiSite(Api(registry, Cache(config.cache)), config.reports, start_time=start_time)

    @property
    @abstractmethod
    def store(self) -> Store:
        """The registry's own storage, for what can be done nowhere else; CleanupError where it can't be reached."""

    @abstractmethod
    def check_same(self) -> None:
        """StorageError where the source is visibly not that of the registry which answers."""

    @property
    def now(self) -> int:
        """The time by the clock that dates what is stored (UTC epoch seconds)."""
        return int(time.time()) + self.ahead

    @abstractmethod
    def see_clock(self) -> None:
        """Looks what time it is where things are stored, where that can be done; writes a file for it."""

    @abstractmethod
    def check_written(self, repository: str) -> None:
        """CleanupError where the source is not what the registry writes to, though it may look like it: a copy."""

    @abstractmethod
    def work(self, parts: int, *, least: int = 0, known: Pairs = (), unchanged: Unchanged = NONE_UNCHANGED) -> Work:
        """What a scan has to read: see `Source.split`."""

    @contextmanager
    def lock(self, run: str = "") -> Iterator[None]:
        """Keeps other runs and their collections off this registry; StorageError, with who it is, while one is at work.

        ``run``: the folder of the record of who asks.
        """
        with lock_registry(self.registry.url, run), self._lock_shared():
            yield

    @abstractmethod
    def _lock_shared(self) -> AbstractContextManager[None]:
        """Keeps off what other users run."""

    def within(self, repositories: Iterable[str]) -> list[str]:
        """Those that registry.repositories means."""
        return [name for name in repositories if means(self.registry.reach.repositories, name)]

    @abstractmethod
    def disk(self) -> Usage | None:
        """Total and free bytes of what the registry is stored on; None: not known."""

    @abstractmethod
    def uploads(self) -> list[Upload]:
        """Pushes in flight and those that were given up, as far as they can be seen."""

    @abstractmethod
    def vanished(self, tags: Mapping[Pair, str | None], manifests: Pairs) -> tuple[set[Pair], set[Pair]]:
        """Those of the tags (with their digests at the scan) and of the manifests that are not there."""

    @abstractmethod
    def remaining(self, tags: Mapping[Pair, str], manifests: Pairs) -> list[Pair]:
        """Those of the tags that are still on these digests, and those of the manifests that are still there."""

    @abstractmethod
    def lost(self, tags: Pairs, manifests: Pairs, blobs: Pairs) -> list[str]:
        """The names of those that should be there and are not; a store's blobs are for `Store.blob_sizes` to tell."""

    @abstractmethod
    def presence(self) -> Callable[[str, str], bool]:
        """Tells whether the bytes of a blob (repository, digest) are there, whatever the registry's cache says."""

    @abstractmethod
    def measuring(self) -> Callable[[], dict[str, int] | None]:
        """Tells what is freed from now on, the bytes of each blob that went; None: it can't be seen."""

    def version(self, repositories: Sequence[str]) -> str:
        """Of distribution, "2.x" or "3.x", as it lists the tags of one of these, within reach if there is one."""
        asked = sorted(repositories, key=lambda name: not means(self.registry.reach.repositories, name))
        return "3.x" if asked and self.registry.tags_unpaged(asked[0]) is None else "2.x"

    @abstractmethod
    def without_layers(self, oddities: pd.DataFrame) -> list[str]:
        """Repositories (of an inventory's oddities) without a folder `_layers` that can be given one."""

    @abstractmethod
    def linked_as_blobs(self, manifests: Pairs) -> list[str]:
        """The names of manifests that may be linked as blobs, where a scan can't see it."""

    @abstractmethod
    def disguised(self, blobs: Pairs) -> list[str]:
        """The names of those blobs that are manifests by their bytes, where a scan can't see it."""

    @abstractmethod
    def beyond(self) -> Columns | None:
        """What registry.repositories leaves out, where a scan does not see it: see `regdata.sources.outside`."""

    def untag(self, repository: str, tag: str, digest: str, pushed: Pushed | None = None) -> bool | None:
        """Removes a tag alone; False where it is on another digest by now or ``pushed`` again, None if it can't."""
        if self.registry.digest(repository, tag) not in (digest, None):
            return False
        return self.registry.untag(repository, tag, digest) or None

    @abstractmethod
    def empty_repositories(self, *, before: int) -> Iterator[str]:
        """What could be removed: no tag, manifest or upload in it, and every layer linked ``before`` that time."""


class ApiSite(Site):
    """A registry of which only the API can be reached."""

    source: Api
    from_store = False

    def __init__(self, source: Api, reports: Path, *, start_time: float = START_TIME) -> None:
        """``reports``: the folder whose lock keeps other runs off that write their records into it."""
        self.registry, self.source, self.reports, self.start_time = source.registry, source, reports, start_time
        self._no_blobs, self._tells_all = set[str](), True

    @property
    def store(self) -> Store:
        raise CleanupError(f"{self.registry.display} is known by its API alone: give its folder as registry.base_path")

    def check_same(self) -> None:
        """The API is the registry's own."""

    def see_clock(self) -> None:
        """The API tells no dates of what is stored."""

    def check_written(self, repository: str) -> None:
        """The API is the registry's own."""

    def work(self, parts: int, *, least: int = 0, known: Pairs = (), unchanged: Unchanged = NONE_UNCHANGED) -> Work:
        names = self.source.repositories()
        say_if_cache(self.registry, names[:1], self.say)
        # Asked in the way that 3.x answers otherwise, which can delete a tag alone.
        unpaged = {name: self.registry.tags_unpaged(name) for name in names[:1]}
        tags = {name: found for name, found in unpaged.items() if found is not None}
        return Work(self.source.divide(names, 1 if least else parts, known=known, tags=tags), tags != unpaged)

    def _lock_shared(self) -> AbstractContextManager[None]:
        self.reports.mkdir(parents=True, exist_ok=True)
        return lock_folder(self.reports)

    def disk(self) -> Usage | None:
        return None

    def uploads(self) -> list[Upload]:
        return []

    def vanished(self, tags: Mapping[Pair, str | None], manifests: Pairs) -> tuple[set[Pair], set[Pair]]:
        names = sorted({name for name, _ in tags})
        with ThreadPoolExecutor(self.registry.workers) as pool:
            listed = dict(zip(names, each(pool, lambda name: set(self.registry.tags(name)), names), strict=True))
            gone = {(name, tag) for name, tag in tags if tag not in listed[name]}
            on = {(name, digest): (name, tag) in gone for (name, tag), digest in tags.items()}
            on |= {(name, tags[name, tag]): True for name, tag in gone}  # whatever else was on it may have moved
            served = {pair for pair, left in on.items() if not left}
            # A manifest that no tag serves may never have been there: a scan takes an index's word for its children.
            asked = [pair for pair in manifests if pair not in served]
            absent = each(pool, lambda pair: self._served(*pair) is False, asked)
            return gone, {pair for pair, gone in zip(asked, absent, strict=True) if gone}

    def _served(self, image: str, digest: str) -> bool | None:
        """None where it is there, and can't be served."""
        try:
            return self.registry.digest(image, digest) is not None
        except AccessError:
            raise
        except RegistryError:
            self.registry.check()
            return None

    def remaining(self, tags: Mapping[Pair, str], manifests: Pairs) -> list[Pair]:
        names, held = sorted({name for name, _ in tags}), list(manifests)
        with ThreadPoolExecutor(self.registry.workers) as pool:
            listed = dict(zip(names, each(pool, lambda name: set(self.registry.tags(name)), names), strict=True))
            there = [(name, tag) for name, tag in tags if tag in listed[name]]
            digests = zip(there, each(pool, lambda pair: self.registry.digest(*pair), there), strict=True)
            found = zip(held, each(pool, lambda pair: self.registry.digest(*pair), held), strict=True)
            return [pair for pair, digest in digests if digest == tags[pair]] + [pair for pair, there in found if there]

    def lost(self, tags: Pairs, manifests: Pairs, blobs: Pairs) -> list[str]:
        lost = self._missing(":", self.registry.digest, tags) + self._missing("@", self.registry.digest, manifests)
        # An index may list a manifest as something else: it is served as what it is.
        unread = [name.partition("@") for name in self._missing("@", self.registry.blob_readable, blobs)]
        return lost + self._missing("@", self._served, [(image, digest) for image, _, digest in unread])

    def _missing(self, sign: str, ask: Callable[[str, str], object], pairs: Pairs) -> list[str]:
        asked = list(pairs)
        with ThreadPoolExecutor(self.registry.workers) as pool:
            answers = each(pool, lambda pair: ask(*pair), asked)
            return [sign.join(pair) for pair, answer in zip(asked, answers, strict=True) if not answer]

    def presence(self) -> Callable[[str, str], bool]:
        return self.registry.blob_readable

    def measuring(self) -> Callable[[], dict[str, int] | None]:
        return lambda: None

    def without_layers(self, oddities: pd.DataFrame) -> list[str]:
        return []

    def linked_as_blobs(self, manifests: Pairs) -> list[str]:
        asked = [pair for pair in manifests if "@".join(pair) not in self._no_blobs]  # a second look: what is new
        missing = self._missing("@", self.registry.blob_exists, asked)
        self._no_blobs.update(missing)
        return sorted({"@".join(pair) for pair in asked}.difference(missing))

    def disguised(self, blobs: Pairs) -> list[str]:
        return disguised(self.registry, blobs)

    def beyond(self) -> Columns | None:
        found = beyond(self.source) if self._tells_all else None
        self._tells_all = found is not None
        return found

    def empty_repositories(self, *, before: int) -> Iterator[str]:
        return iter(())


class StoreSite(Site):
    """A registry whose own storage can be reached, too."""

    source: Store
    from_store = True

    def __init__(self, registry: Registry, source: Store, *, start_time: float = START_TIME) -> None:
        self.registry, self.source, self.start_time = registry, source, start_time

    @property
    def store(self) -> Store:
        return self.source

    def check_same(self) -> None:
        check_same(self.registry, self.store)

    def see_clock(self) -> None:
        if (time_there := self.store.clock()) is not None:
            self.ahead = ahead(time_there, int(time.time()))

    def check_written(self, repository: str) -> None:
        with told_if_full(self.store), self.registry.upload_probe(repository) as upload:
            now = int(time.time())
            seen = [one.started for one in self.uploads() if (one.repository, one.id) == (repository, upload)]
            self.ahead = ahead(seen[0], now) if seen else self.ahead  # dated by whom dates what is pushed
            if not seen:
                raise CleanupError(
                    f"registry.base_path {self.store.base} is not the folder that {self.registry.display} writes to "
                    f"(an upload to {repository} did not appear in it), so nothing was deleted: give the registry's "
                    "rootdirectory, or leave base_path out"
                )
        self.store.remove_upload(repository, upload)

    def work(self, parts: int, *, least: int = 0, known: Pairs = (), unchanged: Unchanged = NONE_UNCHANGED) -> Work:
        return Work(self.store.split(parts, least=least, known=known, unchanged=unchanged), self.store.writable)

    def _lock_shared(self) -> AbstractContextManager[None]:
        return self.store.lock()

    def disk(self) -> Usage | None:
        return self.store.disk()

    def uploads(self) -> list[Upload]:
        return self.store.uploads()

    def vanished(self, tags: Mapping[Pair, str | None], manifests: Pairs) -> tuple[set[Pair], set[Pair]]:
        held = list(manifests)
        names = sorted({name for name, _ in [*tags, *held]})
        with ThreadPoolExecutor(self.registry.workers) as pool:
            state = dict(zip(names, each(pool, self.store.state, names), strict=True))
        gone = {(name, digest) for name, digest in held if digest not in state[name][1]}
        untagged = {(name, tag) for name, tag in tags if tag not in state[name][0]}
        return untagged, {pair for pair in gone if not self.store.is_linked(*pair)}

    def remaining(self, tags: Mapping[Pair, str], manifests: Pairs) -> list[Pair]:
        state = cache(self.store.state)
        there = [(name, tag) for (name, tag), digest in tags.items() if state(name)[0].get(tag) == digest]
        return there + [(name, digest) for name, digest in manifests if digest in state(name)[1]]

    def lost(self, tags: Pairs, manifests: Pairs, blobs: Pairs) -> list[str]:
        state = cache(self.store.state)
        lost = [f"{name}:{tag}" for name, tag in tags if tag not in state(name)[0]]
        gone = [(name, digest) for name, digest in manifests if digest not in state(name)[1]]
        return lost + ["@".join(pair) for pair in gone if not self.store.is_linked(*pair)]

    def presence(self) -> Callable[[str, str], bool]:
        stored, named = self.store.blob_sizes(), self.registry.stored_as
        return lambda name, digest: (digest if digest.startswith("sha256:") else named(name, digest)) in stored

    def measuring(self) -> Callable[[], dict[str, int] | None]:
        before = self.store.blob_sizes()

        def freed() -> dict[str, int]:
            now = self.store.blob_sizes()
            return {digest: size for digest, size in before.items() if digest not in now}

        return freed

    def without_layers(self, oddities: pd.DataFrame) -> list[str]:
        return list(oddities[oddities["what"] == "no-layers"]["image_name"]) if self.store.writable else []

    def linked_as_blobs(self, manifests: Pairs) -> list[str]:
        return []

    def disguised(self, blobs: Pairs) -> list[str]:
        return []

    def beyond(self) -> Columns | None:
        return None

    def untag(self, repository: str, tag: str, digest: str, pushed: Pushed | None = None) -> bool | None:
        """In the folder, where a tag that moved can be put back; else by the registry."""
        if self.store.writable:
            return self.store.untag(repository, tag, digest, pushed)
        return super().untag(repository, tag, digest, pushed)

    def empty_repositories(self, *, before: int) -> Iterator[str]:
        busy = {upload.repository for upload in self.uploads()}
        names = self.store.repositories() if self.store.writable else ()
        for repository in filter(partial(means, self.registry.reach.repositories), names):
            tags, revisions = self.store.state(repository)
            held = tags or revisions or repository in busy
            if not held and self.store.rests(repository, before):
                yield repository
