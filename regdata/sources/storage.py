"""The registry's folder, read and changed in place.

The layout is distribution's (registry/storage/paths.go), below ``docker/registry/v2``::

    blobs/<algorithm>/<first two>/<hex>/data
    repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
    repositories/<name>/_manifests/tags/<tag>/current/link      holds the digest
    repositories/<name>/_layers/<algorithm>/<hex>/link
    repositories/<name>/_uploads/<id>/startedat

Where the files lie, and what may happen to them meanwhile, is for `regdata.sources.files`.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

from regdata.errors import StorageError
from regdata.sources.columns import Columns
from regdata.sources.files import ABSENT, LOCAL, Files, told
from regdata.sources.manifest import (
    Content,
    is_digest,
    matches,
    parse_config,
    parse_manifest,
    printable,
    unreadable,
    with_config,
)
from regdata.sources.source import NONE_UNCHANGED, Part, Tags, Unchanged, Upload, Usage

# What registries and clients refuse to read (distribution's maxManifestBodySize, containers/image's
# MaxConfigBodySize): a manifest can claim that a layer of gigabytes is its config.
_MAX_DOCUMENT = 4 * 1024 * 1024
_MAX_LINK = 256
_BATCH = 500
# distribution/reference: what a tag may be called.
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}")
# Lies beside tags/ and revisions/, where the registry looks for nothing else.
_ASIDE = ".regdata-removed"


class Storage:
    """A registry's folder: a source of columns, and the place where tags are removed."""

    base: Path
    root: Path
    writable: bool

    def __init__(self, base_path: str | Path, files: Files = LOCAL) -> None:
        """Open the folder that holds ``docker/registry/v2``; StorageError if it does not.

        An empty folder is that of a registry into which nothing was pushed yet.
        """
        self.files = files
        self.base = base = Path(base_path)
        self.root = base / "docker" / "registry" / "v2"
        with told(base):
            is_store = files.is_folder(str(self.root))
            if not is_store and (not files.is_folder(str(base)) or files.names(str(base))):
                raise _no_store(base, files.names(str(base)))
            files.names(str(self.root))
            self._repositories = f"{self.root}/repositories"
            self._blobs = f"{self.root}/blobs"
            folders = [path for path in (self._repositories, self._blobs) if files.is_folder(path)]
            self.writable = all(files.writable(path) for path in folders or [str(base)])

    def repositories(self) -> list[str]:
        """Sorted names of all repositories, those without tags too."""
        with told(self.root):
            return sorted(set(self._below("")))

    def _below(self, name: str) -> Iterator[str]:
        for folder in self.files.folders(f"{self._repositories}/{name}"):
            if folder.startswith("_"):
                if name and folder in ("_manifests", "_layers"):
                    yield name
            elif folder.isprintable():
                yield from self._below(f"{name}/{folder}" if name else folder)

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
            loads = {name: len(self.files.names(f"{self._manifests(name)}/tags")) for name in self.repositories()}
            prefixes = sorted(self.files.names(f"{self._blobs}/sha256"))
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
        """The columns of `regdata.sources.columns.COLUMNS` for this share.

        ``pushed`` and ``blob_date`` are modification times: distribution writes a tag's link at
        each push, a revision's link at the manifest's push, a blob once.
        """
        columns = Columns()
        digests: dict[str, None] = {}
        with told(self.root):
            for name in part.repositories:
                columns["repositories"]["image_name"].append(name)
                # A push writes the revision before the tag: read the other way round.
                tags = list(self._tags(name))
                revisions = self._revisions(name)
                for tag, digest, pushed in tags:
                    error = _tag_error(digest, revisions)
                    columns.add("tags", (name, tag, digest, pushed, error))
                for manifest, pushed in revisions.items():
                    columns.add("revisions", (name, manifest, pushed))
                digests.update(dict.fromkeys(revisions))
            for content in self._contents(digest for digest in digests if not self._is_same(digest, part.files)):
                columns.add_content(content)
            for row in self._sizes(part.prefixes):
                columns.add("blobs", row)
        return columns

    def state(self, repository: str) -> tuple[Tags, frozenset[str]]:
        """Tags with their digests (None: a broken link) and revisions, as they are now."""
        with told(self.root):
            tags = {tag: digest for tag, digest, _ in self._tags(repository)}
            return tags, frozenset(self._revisions(repository))

    def manifests(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """The bytes of manifests (repository, digest), as they are; without those that are not there."""
        found = {}
        for repository, digest in wanted:
            link = f"{self._manifests(repository)}/revisions/{digest.replace(':', '/')}/link"
            with told(self.root):
                data = self.content(digest) if self.files.exists(link) else None
            if data is not None:
                found[repository, digest] = data
        return found

    def content(self, digest: str) -> bytes | None:
        """The bytes of a blob; None if the store doesn't have it."""
        with told(self.root):
            try:
                return self.files.read(self._blob(digest))
            except ABSENT:
                return None

    def blob_sizes(self) -> dict[str, int]:
        """Bytes of every blob's file, by digest, as they are now."""
        with told(self.root):
            prefixes = tuple(self.files.names(f"{self._blobs}/sha256"))
            return {digest: size for digest, size, _ in self._sizes(prefixes)}

    def untag(self, repository: str, tag: str) -> None:
        """Remove a tag and nothing else, as distribution 3 does; an absent tag is no error.

        The digest stays, and can be pulled by it. StorageError for what is not a tag's own folder.
        """
        manifests = self._manifests(_checked(repository))
        folder = f"{manifests}/tags/{tag}"
        if not _TAG.fullmatch(tag):
            raise StorageError(f"{tag!r} is not a tag's name: nothing was removed in {manifests}.")
        with told(folder):
            if self.files.exists(folder):
                self._check_own_folder(folder)
                aside = f"{manifests}/{_ASIDE}"
                if self.files.exists(aside):  # an earlier run was interrupted here
                    self.files.remove(aside)
                # At once for the registry, which could otherwise see half of a tag.
                self.files.move(folder, aside)
                self.files.remove(aside)

    def uploads(self) -> list[Upload]:
        """Pushes in flight and those that were given up, of all repositories.

        2.8.2 leaves a cancelled upload's folder behind, with ``hashstates`` but no ``startedat``.
        """
        uploads = []
        for repository in self.repositories():
            with told(self.root):
                folder = f"{self._repositories}/{repository}/_uploads"
                for id_ in sorted(self.files.names(folder)):
                    started = self.files.stat(f"{folder}/{id_}/startedat")
                    if started is not None:
                        uploads.append(Upload(repository, id_, started.mtime))
        return uploads

    def last_layer(self, repository: str) -> int:
        """When a layer was last pushed into a repository (UTC epoch seconds); 0 if it has none.

        Layers come before their manifest: a repository without manifests may be about to get one.
        """
        with told(self.root):
            return max(self._links(f"{self._repositories}/{repository}/_layers").values(), default=0)

    def remove_repository(self, name: str) -> None:
        """Remove a repository that holds no manifests; repositories below its name stay.

        Its layer links and uploads go: a push into it at this moment has to be repeated.
        StorageError if it still holds tags or manifests.
        """
        folder = f"{self._repositories}/{_checked(name)}"
        tags, revisions = self.state(name)
        if tags or revisions:
            raise StorageError(
                f"{folder} holds {len(tags)} tags and {len(revisions)} manifests: not removed. Delete them first."
            )
        with told(folder):
            # In this order it is still a repository, to be found again, if this is interrupted.
            for own in ("_uploads", "_layers", "_manifests"):
                if self.files.exists(f"{folder}/{own}"):
                    self._check_own_folder(f"{folder}/{own}")
                    self.files.remove(f"{folder}/{own}")
            while self.files.is_folder(folder) and folder != self._repositories and not self.files.names(folder):
                self.files.remove_empty(folder)
                folder = os.path.dirname(folder)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other regdata runs off this store; StorageError if one is at work."""
        return self.files.lock(str(self.base))

    def disk(self) -> Usage:
        """Total and free bytes of the file system that holds the store."""
        with told(self.base):
            return self.files.usage(str(self.base))

    def _manifests(self, repository: str) -> str:
        return f"{self._repositories}/{repository}/_manifests"

    def _blob(self, digest: str) -> str:
        algorithm, _, hex_ = digest.partition(":")
        return f"{self._blobs}/{algorithm}/{hex_[:2]}/{hex_}/data"

    def _tags(self, repository: str) -> Iterator[tuple[str, str | None, int]]:
        folder = f"{self._manifests(repository)}/tags"
        for tag in sorted(self.files.names(folder)):
            found = self.files.first(f"{folder}/{tag}/current/link", _MAX_LINK)
            if found is None:
                continue
            data, pushed = found
            link = data.decode("ascii", "replace").strip()
            yield printable(tag), link if is_digest(link) else None, pushed

    def _revisions(self, repository: str) -> dict[str, int]:
        return self._links(f"{self._manifests(repository)}/revisions")

    def _links(self, folder: str) -> dict[str, int]:
        """When each digest was linked below ``<folder>/<algorithm>/<hex>/link``."""
        names, stat = self.files.names, self.files.stat
        found = {}
        for algorithm in sorted(names(folder)):
            for hex_ in sorted(names(f"{folder}/{algorithm}")):
                # What was deleted leaves its folder behind, without the link.
                linked = stat(f"{folder}/{algorithm}/{hex_}/link")
                if linked is not None and is_digest(f"{algorithm}:{hex_}"):
                    found[f"{algorithm}:{hex_}"] = linked.mtime
        return found

    def _contents(self, digests: Iterable[str]) -> Iterator[Content]:
        rest = iter(digests)
        while batch := list(islice(rest, _BATCH)):
            documents = self._documents(batch)
            contents = [
                unreadable(digest, document) if isinstance(document, str) else parse_manifest(digest, document, None)
                for digest, document in documents.items()
            ]
            wanted = {content.config_hash for content in contents if content.config_hash}
            configs = {
                digest: parse_config(document)
                for digest, document in self._documents(wanted).items()
                if not isinstance(document, str) and matches(digest, document)
            }
            for content in contents:
                config = configs.get(content.config_hash or "")
                yield with_config(content, config) if config else content

    def _documents(self, digests: Iterable[str]) -> dict[str, bytes | str]:
        """The bytes of each, or why there are none."""
        return {digest: self._document(digest) for digest in digests}

    def _document(self, digest: str) -> bytes | str:
        try:
            data = self.files.read(self._blob(digest), _MAX_DOCUMENT)
        except ABSENT:
            return "missing from the store"
        if data is None:
            return f"larger than {_MAX_DOCUMENT} bytes"
        return data

    def _is_same(self, digest: str, files: Mapping[str, tuple[int, int]]) -> bool:
        return digest in files and self.files.stat(self._blob(digest)) == files[digest]

    def _sizes(self, prefixes: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
        stat = self.files.stat
        for prefix in prefixes:
            folder = f"{self._blobs}/sha256/{prefix}"
            for hex_ in self.files.names(folder):
                if _HEX.fullmatch(hex_) and (found := stat(f"{folder}/{hex_}/data")) is not None:
                    yield f"sha256:{hex_}", *found

    def _check_own_folder(self, path: str) -> None:
        """Only a real folder at its real place is removed: a link may lead anywhere."""
        if not self.files.is_own(path, str(self.root)):
            raise StorageError(
                f"{path} is not a folder of the store itself (a symbolic link?): not removed. Remove it by hand."
            )


def _tag_error(digest: str | None, revisions: dict[str, int]) -> str | None:
    if digest is None:
        return "broken tag link"
    return None if digest in revisions else "no such manifest in the repository"


def _checked(repository: str) -> str:
    """A name can't lead out of the repositories' folder, nor into what is distribution's own."""
    if any(not part or part.startswith(("_", ".")) for part in repository.split("/")):
        raise StorageError(f"{repository!r} is not a repository's name: nothing was removed.")
    return repository


def _no_store(base: Path, found: list[str]) -> StorageError:
    cure = "Set registry.base_path to the folder that holds docker/registry/v2."
    if not found:
        return StorageError(f"{base} is not a folder. {cure}")
    listed = ", ".join(sorted(map(printable, found))[:5]) + (", …" if len(found) > 5 else "")
    return StorageError(f"{base} has no docker/registry/v2, but {listed}. {cure}")
