"""What comes into a store after it was read: links, uploads and manifests. Looked at again and again, where it changed.

A registry that takes a push makes a folder, then a file in it: the date of the folder above changes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from regdata.sources.dates import is_before
from regdata.sources.files import Files, told
from regdata.sources.layout import document
from regdata.sources.leads import leads_of
from regdata.sources.manifest import is_served, parse_manifest
from regdata.sources.names import may_hold
from regdata.sources.paths import blob_path, layer_path, layers_path, revision_path, revisions_path, uploads_path
from regdata.sources.storage import Storage

_ANY_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{64,128}")
# Dates are whole seconds here, and the clock that gives them ticks coarsely.
_TICK = 2
# A link, and one that is being written (3.x: link.<uuid>.tmp). File managers and network drives leave files beside it.
_LINK = re.compile(r"link(\..*\.tmp)?", re.DOTALL)
# What a killed registry leaves half-written, and an upload that nothing is added to, is nobody's after an hour.
_ABANDONED = 3600
# Documents that are not read again: many name the same base or child, and all that were ever deleted are read.
KEPT = 20_000


class Link(NamedTuple):
    """A repository's link to a blob by the digest ``name``; ``target`` is what it holds, None where only its folder is
    left. Blobs are stored by sha256: a link by another algorithm holds that name. ``date``: when it was written."""

    repository: str
    name: str
    target: str | None
    date: int = 0

    @property
    def path(self) -> str:
        return layer_path(self.repository, self.name)


def read_links(storage: Storage, repository: str) -> Iterator[Link]:
    """A repository's links to layers and configs, and the folders that are left of some. What no registry could be
    asked for is nobody's."""
    files, root = storage.files, str(storage.root)
    with told(storage.root):
        for algorithm in sorted(files.names(f"{root}/{layers_path(repository)}")):
            for name in _digests(files, f"{root}/{layers_path(repository)}", algorithm):
                yield _read_link(files, root, repository, name)


def _digests(files: Files, folder: str, algorithm: str) -> list[str]:
    names = [f"{algorithm}:{hex_}" for hex_ in files.names(f"{folder}/{algorithm}")]
    return [name for name in names if is_served(name)]


def _read_link(files: Files, root: str, repository: str, name: str) -> Link:
    path = f"{root}/{layer_path(repository, name)}"
    if name.startswith("sha256:"):  # it holds its own name
        stat = files.stat(path)
        return Link(repository, name, name, stat.mtime) if stat else Link(repository, name, None)
    content = files.first(path, 256)
    if content is None:
        return Link(repository, name, None)
    return Link(repository, name, content[0].decode("ascii", "replace").strip(), content[1])


class Seen(NamedTuple):
    """Digests of blobs that are linked by now; and those that manifests which came since the reading mention."""

    linked: frozenset[str]
    mentioned: frozenset[str]


class _Bare(NamedTuple):
    """A manifest that the reading did not see."""

    repository: str
    digest: str


class _Said(NamedTuple):
    """The digests in a document; parts: those that are an image's config and layers, which nobody reads for what they
    mention; others: the rest."""

    others: tuple[str, ...]
    parts: tuple[str, ...]


class Watch:
    """Watches a store for what is pushed to it.

    ``known``: the manifests of each repository at the reading that said what is needed. ``now``, always, is the time of
    the store's file system.
    """

    def __init__(self, storage: Storage, known: Mapping[str, Collection[str]], now: int) -> None:
        self.files, self.root = storage.files, str(storage.root)
        self.known = {name: frozenset(digests) for name, digests in known.items()}
        self.wanted: frozenset[str] = frozenset()
        self._old: frozenset[tuple[str, str]] = frozenset()
        self._left: dict[str, list[Link]] = defaultdict(list)
        self._looked: dict[str, tuple[int, int]] = {}  # a folder's date, and when it was looked at
        self._listed: dict[str, list[str]] = {}
        self._bare: dict[str, set[str]] = defaultdict(set)
        self._naming: dict[str, list[_Bare]] = defaultdict(list)  # by what they mention
        self._unread: set[_Bare] = set()
        self._read: dict[str, _Said] = {}
        self._linked: set[str] = set()
        self._mentioned: set[str] = set()
        self.look((), (), now)
        self._linked.clear()  # what is linked from the beginning is no news

    def expect(self, wanted: Collection[str], links: Iterable[Link], left: Iterable[Link] = ()) -> None:
        """Says what is to go: digests of blobs, a new link to which anywhere is a need, and the links that there are or
        were, which are no news. ``left``: folders of links elsewhere; one in them would not change what lies above."""
        self.wanted = frozenset(wanted)
        self._old = frozenset((link.repository, link.name) for link in links)
        for link in left:
            self._left[link.name].append(link)

    def look(self, taken: Collection[Link], names: Iterable[str], now: int) -> Seen:
        """What is needed by now. ``taken``: links that were taken away, which are looked for one by one: their folders
        are no news. ``names``: the digests that are asked for, by what manifests may mention."""
        with told(self.root):
            names = list(names)
            left = [link for name in names for link in self._left.get(name, ())]
            linked = {link.target or link.name for link in [*taken, *left] if self.is_linked(link, now)}
            for name in self._repositories("", now):
                self._linked |= self._new_links(name, now)
                self._find_bare(name, now)
            is_there = cache(lambda bare: self._is_written(revision_path(bare.repository, bare.digest), now))
            self._mentioned |= {name for name in names if any(map(is_there, self._naming.get(name, ())))}
            for bare in filter(is_there, self._unread):
                self._mentioned |= self._mentions(bare)[0]
        return Seen(frozenset(linked | (self.wanted & self._linked)), frozenset(self._mentioned))

    def is_linked(self, link: Link, now: int) -> bool:
        """Whether a link is there, or is being written at this moment."""
        return self._is_written(link.path, now)

    def uploads(self, now: int) -> dict[tuple[str, str], int]:
        """The bytes that each open upload has by now, by repository and id; not of those that were given up."""
        sizes = {}
        with told(self.root):
            for name in self._repositories("", now):
                for id_ in self._names(uploads_path(name), now):
                    data = self.files.stat(f"{self.root}/{uploads_path(name)}/{id_}/data")
                    if data and not is_before(data.mtime, now - _ABANDONED):
                        sizes[name, id_] = data.size
        return sizes

    def breadth(self, now: int) -> int:
        """How many folders and uploads a look takes in."""
        self.uploads(now)
        return len(self._looked) + len(self._unread) + sum(map(len, self._listed.values()))

    def date(self, link: Link) -> int:
        """When a link was written; 0 where it is not there."""
        with told(self.root):
            stat = self.files.stat(f"{self.root}/{link.path}")
        return stat.mtime if stat else 0

    def _repositories(self, name: str, now: int) -> Iterator[str]:
        """Everything that has a folder of distribution's own, be it for its first upload."""
        try:
            names = self._names(f"repositories/{name}".rstrip("/"), now)
        except PermissionError:
            if may_hold(name):
                raise
            names = self._listed[f"repositories/{name}"] = []  # nobody's, such as lost+found
        if name and any(folder.startswith("_") for folder in names):
            yield name
        for folder in names:
            if not folder.startswith("_"):
                yield from self._repositories(f"{name}/{folder}".lstrip("/"), now)

    def _new_links(self, name: str, now: int) -> set[str]:
        """What of the wanted a repository links in folders that may be new."""
        found = set()
        for algorithm in self._names(layers_path(name), now):
            for digest in self._news(layers_path(name), algorithm, now):
                if (name, digest) not in self._old and (digest in self.wanted or algorithm != "sha256"):
                    link = _read_link(self.files, self.root, name, digest)
                    if self.is_linked(link, now):
                        found.add(link.target or digest)
        return found

    def _find_bare(self, name: str, now: int) -> None:
        """The manifests of a repository that the reading did not see: new ones, and what was deleted, which leaves its
        folder behind that may be used again. Each is looked at again only for what it mentions: they may be many."""
        known, bare = self.known.get(name, frozenset()), self._bare[name]
        for algorithm in self._names(revisions_path(name), now):
            for digest in {*self._news(revisions_path(name), algorithm, now)} - known - bare:
                bare.add(digest)
                one = _Bare(name, digest)
                mentioned, whole = self._mentions(one)
                for other in mentioned:
                    self._naming[other].append(one)
                if not whole:
                    self._unread.add(one)

    def _mentions(self, bare: _Bare) -> tuple[set[str], bool]:
        """A manifest needs what it mentions, and what that mentions: children may be pushed as blobs. The other:
        whether all is there that could mention more."""
        todo, read, found, whole = [bare.digest], set[str](), set[str](), True
        while todo:
            one = todo.pop()
            if one not in read:
                read.add(one)
                said = self._said(self._stored(bare.repository, one))
                whole = whole and said is not None
                found.update(said.parts if said else ())
                todo += said.others if said else ()
        return read | found, whole

    def _stored(self, repository: str, digest: str) -> str:
        """The digest by which a blob is stored that a repository has by this one."""
        if digest.startswith("sha256:"):
            return digest
        return _read_link(self.files, self.root, repository, digest).target or digest

    def _said(self, digest: str) -> _Said | None:
        """What stands in what may be a manifest or an index; None where it is not there."""
        if digest not in self._read:
            data = document(self.files, f"{self.root}/{blob_path(digest)}")
            if data is None:
                return None
            if len(self._read) >= KEPT:
                self._read.clear()
            parts = _parts(digest, data)
            self._read[digest] = _Said(tuple(digests_in(data) - parts), tuple(parts))
        return self._read[digest]

    def _is_written(self, path: str, now: int) -> bool:
        folder = f"{self.root}/{path}".removesuffix("/link")
        for name in filter(_LINK.fullmatch, self.files.names(folder)):
            written = self.files.stat(f"{folder}/{name}")
            if written and (name == "link" or not is_before(written.mtime, now - _ABANDONED)):
                return True
        return False

    def _news(self, folder: str, algorithm: str, now: int) -> list[str]:
        """The digests in a folder that may have changed since it was last looked at; none where it did not."""
        changed = self._changed(f"{folder}/{algorithm}", now)
        return _digests(self.files, f"{self.root}/{folder}", algorithm) if changed else []

    def _names(self, path: str, now: int) -> list[str]:
        """What is in a folder that holds few things; listed again only where it may have changed."""
        if self._changed(path, now):
            self._listed[path] = self.files.names(f"{self.root}/{path}")
        return self._listed[path]

    def _changed(self, path: str, now: int) -> bool:
        version = self.files.version(f"{self.root}/{path}")  # a file server's date, not the one that was cached
        date = version.mtime_ns // 10**9 if version else 0
        before, looked = self._looked.get(path, (-1, 0))
        self._looked[path] = date, now
        return date != before or date >= looked - _TICK


def digests_in(document: bytes) -> set[str]:
    """Every digest that stands anywhere in a document."""
    text = document.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        text += json.dumps(json.loads(text))  # written out again: an escape can't hide a digest then
    return {*_ANY_DIGEST.findall(text)}


def _parts(digest: str, data: bytes) -> set[str]:
    if b"layers" not in data.lower():
        return set()
    content = parse_manifest(digest, data, None)
    listed = {one.hash for one in content.references if one.kind in ("config", "layer")}
    return listed - {*leads_of(content).perhaps}
