"""The registry's folder, read and changed in place.

Where what lies in it is for `regdata.sources.layout`; where its files lie, and what may happen to them meanwhile, for
`regdata.sources.files`.
"""

from __future__ import annotations

import os.path
import secrets
from collections.abc import Collection, Iterable, Set
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from regdata.errors import StorageError
from regdata.sources.columns import Columns
from regdata.sources.dates import Pushed, is_before
from regdata.sources.files import ABSENT, LOCAL, Files, told
from regdata.sources.folder import Reading
from regdata.sources.layout import Layout, document
from regdata.sources.manifest import is_digest, is_served, printable
from regdata.sources.paths import ASIDE, CLOCK, layer_path
from regdata.sources.removal import Removal, checked
from regdata.sources.source import NONE_UNCHANGED, Glance, Going, Part, Tags, Unchanged, Upload, Usage


class Storage:
    """A registry's folder: a source of columns, and the place where tags are removed."""

    base: Path
    root: Path
    writable: bool

    def __init__(self, base_path: str | Path, files: Files = LOCAL) -> None:
        """Open the folder that holds ``docker/registry/v2``; StorageError if it does not.

        An empty folder, or one with what regdata made in it alone, is that of a registry into which nothing was pushed
        yet.
        """
        self.files = files
        self.base = base = Path(base_path)
        self.root = base / "docker" / "registry" / "v2"
        self.layout = layout = Layout(str(self.root), files)
        with told(base):
            is_store = files.is_folder(str(self.root))
            others = (name for name in files.names(str(base)) if name != ASIDE and not name.startswith(CLOCK))
            if not is_store and (not files.is_folder(str(base)) or any(others)):
                raise _no_store(base, files.names(str(base)))
            files.names(str(self.root))
            folders = [path for path in (layout.repositories_folder, layout.blobs_folder) if files.is_folder(path)]
            self.writable = all(files.writable(path) for path in folders or [str(base)])

    def repositories(self) -> list[str]:
        """Sorted names of all repositories, those without tags too."""
        with told(self.root):
            return self.layout.repositories()

    def split(
        self,
        parts: int,
        *,
        least: int = 0,
        known: Iterable[tuple[str, str]] = (),
        unchanged: Unchanged = NONE_UNCHANGED,
    ) -> list[Part]:
        """The whole store in at most so many parts of about the same work, and of ``least`` tags or more.

        ``known`` need not be told to a source that shows all.
        """
        with told(self.root):
            loads = {name: len(self.files.names(f"{self.layout.manifests(name)}/tags")) for name in self.repositories()}
            prefixes = sorted(self.files.names(f"{self.layout.blobs_folder}/sha256"))
        if least:
            parts = min(parts, sum(loads.values()) // least)
        shares: list[list[str]] = [[] for _ in range(max(parts, 1))]
        totals = [0] * len(shares)
        for name in sorted(loads, key=lambda name: (-loads[name], name)):
            lightest = totals.index(min(totals))
            shares[lightest].append(name)
            totals[lightest] += loads[name] + 1
        split = [
            Part(
                tuple(sorted(share)),
                tuple(prefixes[number :: len(shares)]),
                files={digest: file for name in share for digest, file in unchanged.get(name, {}).items()},
            )
            for number, share in enumerate(shares)
        ]
        return [part for part in split if part.repositories or part.prefixes] or split[:1]

    def read(self, part: Part) -> Columns:
        """The columns of `regdata.sources.columns.COLUMNS` for this share; see `regdata.sources.folder`."""
        with told(self.root):
            return Reading(self.layout).read(part)

    def state(self, repository: str) -> tuple[Tags, frozenset[str]]:
        """Tags with their digests (None: a broken link) and revisions, as they are now."""
        with told(self.root):
            tags = {tag: digest for tag, digest, _ in self.layout.tags(repository)}
            revisions = set(self.layout.revisions(repository))
            others = {digest for digest in tags.values() if digest} - revisions
            return tags, frozenset(revisions | {digest for digest in others if self.layout.layer(repository, digest)})

    def glance(self, repository: str, digests: Collection[str]) -> Glance:
        """By the manifest's own link, which each push of it writes anew, whatever its tag, and the folder of all links,
        which changes with a manifest that was not there before."""
        layout, version = self.layout, self.files.version

        def versions(digest: str) -> tuple[object, object]:
            link = layout.revision(repository, digest)
            return version(link), version(os.path.dirname(os.path.dirname(link)))

        def unchanged(going: Going) -> bool:
            with told(self.root):
                return (
                    versions(going.digest) == before[going.digest]
                    and self._is_of(layout.revision(repository, going.digest), going.pushed)
                    and all(layout.tag(repository, tag) in (going.digest, None) for tag in going.tags)
                    and not any(self.files.exists(layout.revision(repository, above)) for above in going.above)
                )

        with told(self.root):
            before = {digest: versions(digest) for digest in digests}
        return unchanged

    def _is_of(self, path: str, pushed: Pushed | None) -> bool:
        """Whether a file, if it is there, has not been written again."""
        stat = self.files.stat(path)
        return stat is None or pushed is None or not pushed.is_again(stat.mtime)

    def manifests(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """The bytes of manifests (repository, digest), as they are; every repository's lie in one place."""
        found = {pair: self.content(pair[1]) for pair in wanted}
        return {pair: data for pair, data in found.items() if data is not None}

    def content(self, digest: str) -> bytes | None:
        """The bytes of a blob; None if the store doesn't have it."""
        with told(self.root):
            try:
                return self.files.read(self.layout.blob(digest))
            except ABSENT:
                return None

    def document(self, digest: str) -> bytes | None:
        """The bytes of a blob that may be a manifest, none of another; None where there is none."""
        with told(self.root):
            return document(self.files, self.layout.blob(digest))

    def blob_sizes(self) -> dict[str, int]:
        """Bytes of every blob's file, by digest, as they are now."""
        with told(self.root):
            prefixes = tuple(self.files.names(f"{self.layout.blobs_folder}/sha256"))
            return {digest: size for digest, size, _ in self.layout.sizes(prefixes)}

    def untag(self, repository: str, tag: str, digest: str, pushed: Pushed | None = None) -> bool:
        """Take a tag that is on a digest out of its place, and nothing else; `settle` removes it. An absent tag is no
        error.

        The digest stays, and can be pulled by it. False, and nothing is done, where the tag is on another one, or
        was ``pushed`` again. StorageError for what is not a tag's own folder.
        """
        return Removal(self.layout).untag(repository, tag, digest, pushed)

    def backdate(self, repository: str, tag: str, digest: str, *, pushed: int, linked: int | None) -> bool:
        """By the dates of its links, which only their owner may set: False where that is another."""
        folder = f"{self.layout.manifests(checked(repository))}/tags/{tag}"
        dates = {f"{folder}/{name}/link": pushed for name in ("current", f"index/{digest.replace(':', '/')}")}
        if linked is not None:
            dates[self.layout.revision(repository, digest)] = linked
        if self.layout.tag(repository, tag) != digest:
            return False
        with told(folder):
            for path, date in dates.items():
                with suppress(*ABSENT):  # a tag may have no history
                    try:
                        self.files.touch(path, date)
                    except PermissionError:
                        return False
        return True

    def settle(self, *, last: bool = True) -> list[tuple[str, str]]:
        """Remove what was taken out of its place, or put it back where somebody wrote to it: see `Removal.settle`."""
        return Removal(self.layout).settle(last=last)

    def broken_links(self, repository: str, *, of_blobs: bool = False) -> dict[str, str]:
        """By digest, the files of links to manifests (or blobs) of a repository that hold no digest."""
        with told(self.root):
            return dict(self.layout.broken_links(repository, of_blobs=of_blobs))

    def uploads(self) -> list[Upload]:
        """Pushes in flight and those that were given up, of all repositories, also where nothing else is yet.

        2.8.2 leaves a cancelled upload's folder behind, with ``hashstates`` but no ``startedat``.
        """
        uploads = []
        with told(self.root):
            for repository in self.layout.repositories(by=["_uploads"]):
                folder = f"{self.layout.repositories_folder}/{repository}/_uploads"
                for id_ in sorted(self.files.names(folder)):
                    started = self.files.stat(f"{folder}/{id_}/startedat")
                    if started is not None:
                        uploads.append(Upload(repository, id_, started.mtime))
        return uploads

    def remove_upload(self, repository: str, id_: str) -> None:
        """Remove what 2.8.2 leaves of an upload that was given up, where we may; one that goes on stays."""
        folder = f"{self.layout.repositories_folder}/{checked(repository)}/_uploads/{id_}"
        with suppress(OSError):
            if not self.files.exists(f"{folder}/startedat") and self.files.is_own(folder, str(self.root)):
                self.files.remove(folder)

    def rests(self, repository: str, since: int) -> bool:
        """Whether every layer of a repository was surely pushed before that time (UTC epoch seconds).

        Layers come before their manifest: a repository without manifests may be about to get one.
        """
        with told(self.root):
            return all(is_before(date, since) for date in self.layout.layers(repository).values())

    def clock(self) -> int | None:
        """The time of the store's file system (UTC epoch seconds); None where nothing can be written."""
        path = f"{self.base}/{CLOCK}{secrets.token_hex(8)}"
        with suppress(OSError):
            try:
                self.files.write(path, b"")
                written = self.files.stat(path)
            finally:
                self.files.remove_file(path)
            return written.mtime if written else None
        return None

    def links(self, repository: str, among: Set[str] | None = None) -> dict[str, int]:
        """When each blob (``among`` some) was linked last (UTC epoch seconds), by the digest that it is stored by; what
        no registry could be asked for is nobody's."""
        found: dict[str, int] = {}
        with told(self.root):
            aliases = self.layout.aliases(repository)
            names = among
            if among is not None and aliases:
                names = among | {alias for alias, blob in aliases.items() if blob in among}
            for name, date in self.layout.layers(repository, names).items():
                blob = aliases.get(name, name)
                if is_served(name) and is_served(blob):
                    found[blob] = max(date, found.get(blob, date))
        return found

    def is_linked(self, repository: str, digest: str) -> bool:
        """Whether a blob is linked, by this digest."""
        with told(self.root):
            return self.layout.layer(repository, digest) is not None

    def deleted(self, repository: str) -> dict[str, int]:
        """When each manifest was deleted: its link is gone then, and its folder is left. 0 where others left something
        there since then, or before: its date may be theirs."""
        with told(self.root):
            folders = {
                one: os.path.dirname(self.layout.revision(repository, one)) for one in self.layout.deleted(repository)
            }
            stats = {digest: self.files.stat(folder) for digest, folder in folders.items()}
            names = self.files.names
            return {one: 0 if names(folders[one]) else stat.mtime for one, stat in stats.items() if stat}

    def link(self, repository: str, digest: str) -> None:
        """Link a blob that is stored in a repository, unless it is linked there: a link that holds a digest."""
        path = f"{self.layout.root}/{layer_path(checked(repository), digest)}"
        with told(path):
            if not self.holds_digest(layer_path(repository, digest)):
                self.check_own(path)
                self.files.make(os.path.dirname(path))
                self.files.write(path, digest.encode())

    def holds_digest(self, path: str) -> bool:
        """Whether there is a link (its path below docker/registry/v2) that holds a digest."""
        with told(self.root):
            content = self.files.first(f"{self.root}/{path}", 256)
        return content is not None and is_digest(content[0].decode("ascii", "replace"))

    def check_own(self, path: str) -> None:
        """Raises StorageError where a symbolic link in a repository leads to what has another name, or is another's."""
        with told(path):
            folder = os.path.dirname(path)
            while not self.files.exists(folder):
                folder = os.path.dirname(folder)
            if not self.files.is_own(folder, self.layout.repositories_folder):
                raise StorageError(f"{folder} is, or lies behind, a symbolic link: nothing was written there")

    def make_layers(self, repository: str) -> None:
        """Make the empty folder for links to blobs that a repository without blobs lacks."""
        folder = f"{self.layout.repositories_folder}/{checked(repository)}/_layers"
        self.check_own(folder)
        with told(self.root):
            self.files.make(folder)

    def close_repository(self, name: str, *, before: int) -> bool:
        """Take the layers of a repository without manifests out of their place, and its uploads away: a push into it at
        this moment has to be repeated. False, and it stays, where a layer came after ``before`` (UTC epoch seconds), or
        it holds tags or manifests."""
        return Removal(self.layout).close(name, before)

    def remove_repository(self, name: str, *, before: int) -> bool:
        """Remove a repository that was closed; repositories below its name stay. False, and it is as it was, where
        something was pushed meanwhile, or a layer since ``before``."""
        return Removal(self.layout).remove(name, before)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other regdata runs off this store; StorageError if one is at work."""
        return self.files.lock(str(self.base))

    def disk(self) -> Usage:
        """Total and free bytes of the file system that holds the store."""
        with told(self.base):
            return self.files.usage(str(self.base))


def _no_store(base: Path, found: list[str]) -> StorageError:
    cure = "Set registry.base_path to the folder that holds docker/registry/v2."
    if not found:
        return StorageError(f"{base} is not a folder. {cure}")
    listed = ", ".join(sorted(map(printable, found))[:5]) + (", …" if len(found) > 5 else "")
    return StorageError(f"{base} has no docker/registry/v2, but {listed}. {cure}")
