"""The registry's folder, read and changed in place.

The layout is distribution's (registry/storage/paths.go), below ``docker/registry/v2``::

    blobs/<algorithm>/<first two>/<hex>/data
    repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
    repositories/<name>/_manifests/tags/<tag>/current/link      holds the digest
    repositories/<name>/_layers/<algorithm>/<hex>/link
    repositories/<name>/_uploads/<id>/startedat

The registry runs meanwhile, so a file that vanishes between two looks is nothing special.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from regdata.errors import StorageError
from regdata.sources.columns import Columns
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

# What registries and clients refuse to read (distribution's maxManifestBodySize, containers/image's
# MaxConfigBodySize): a manifest can claim that a layer of gigabytes is its config.
_MAX_DOCUMENT = 4 * 1024 * 1024
_BATCH = 500
_ABSENT = (FileNotFoundError, NotADirectoryError)
# distribution/reference: what a tag may be called.
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}")
# Lies beside tags/ and revisions/, where the registry looks for nothing else.
_ASIDE = ".regdata-removed"


class Part(NamedTuple):
    """A share of the work: names of repositories, and two-hex folders of ``blobs/sha256``.

    ``known``: manifests (repository, digest) to be looked for though no tag may lead to them; the store shows all.
    ``files``: manifests that are not read, so that they have no content, if their files have this size and date.
    ``tags``: the tags of repositories that need not be asked for them.
    """

    repositories: tuple[str, ...]
    prefixes: tuple[str, ...]
    known: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, tuple[int, int]] = {}
    tags: Mapping[str, list[str]] = {}


class Upload(NamedTuple):
    """A push in flight, or one that was given up; ``started`` is in UTC epoch seconds."""

    repository: str
    id: str
    started: int


class Storage:
    """A registry's folder: a source of columns, and the place where tags are removed."""

    base: Path
    root: Path
    writable: bool

    def __init__(self, base_path: str | Path) -> None:
        """Open the folder that holds ``docker/registry/v2``; StorageError if it does not.

        An empty folder is that of a registry into which nothing was pushed yet.
        """
        self.base = base = Path(base_path)
        self.root = base / "docker" / "registry" / "v2"
        with _errors_told(base):
            if not self.root.is_dir() and (not base.is_dir() or os.listdir(base)):
                raise StorageError(_no_store(base))
            os.listdir(self.root if self.root.is_dir() else base)
        self._repositories = f"{self.root}/repositories"
        self._blobs = f"{self.root}/blobs"
        folders = [path for path in (self._repositories, self._blobs) if os.path.isdir(path)]
        self.writable = all(os.access(path, os.W_OK | os.X_OK) for path in folders or [str(base)])

    def repositories(self) -> list[str]:
        """Sorted names of all repositories, those without tags too."""
        with _errors_told(self.root):
            return sorted(set(self._below("")))

    def _below(self, name: str) -> Iterator[str]:
        for entry in _entries(f"{self._repositories}/{name}"):
            if entry.name.startswith("_"):
                if name and entry.name in ("_manifests", "_layers"):
                    yield name
            elif entry.is_dir() and entry.name.isprintable() and not _leads_back(entry):
                yield from self._below(f"{name}/{entry.name}" if name else entry.name)

    def split(self, parts: int, *, least: int = 0) -> list[Part]:
        """The whole store in at most so many shares of about the same work, and of ``least`` tags or more."""
        with _errors_told(self.root):
            loads = {name: len(_names(f"{self._manifests(name)}/tags")) for name in self.repositories()}
            prefixes = sorted(_names(f"{self._blobs}/sha256"))
        if least:
            parts = min(parts, sum(loads.values()) // least)
        shares: list[list[str]] = [[] for _ in range(max(parts, 1))]
        totals = [0] * len(shares)
        for name in sorted(loads, key=lambda name: (-loads[name], name)):
            lightest = totals.index(min(totals))
            shares[lightest].append(name)
            totals[lightest] += loads[name] + 1
        split = [
            Part(tuple(sorted(share)), tuple(prefixes[number :: len(shares)])) for number, share in enumerate(shares)
        ]
        return [part for part in split if part.repositories or part.prefixes] or split[:1]

    def read(self, part: Part) -> Columns:
        """The columns of `regdata.sources.columns.COLUMNS` for this share.

        ``pushed`` and ``blob_date`` are modification times: distribution writes a tag's link at
        each push, a revision's link at the manifest's push, a blob once.
        """
        columns = Columns()
        digests: dict[str, None] = {}
        with _errors_told(self.root):
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

    def state(self, repository: str) -> tuple[dict[str, str | None], frozenset[str]]:
        """Tags with their digests (None: a broken link) and revisions, as they are now."""
        with _errors_told(self.root):
            tags = {tag: digest for tag, digest, _ in self._tags(repository)}
            return tags, frozenset(self._revisions(repository))

    def manifest(self, digest: str) -> bytes | None:
        """The bytes of a manifest; None if the store doesn't have it."""
        with _errors_told(self.root):
            try:
                return _read(self._blob(digest))
            except _ABSENT:
                return None

    def blob_sizes(self) -> dict[str, int]:
        """Bytes of every blob's file, by digest, as they are now."""
        with _errors_told(self.root):
            prefixes = tuple(_names(f"{self._blobs}/sha256"))
            return {digest: size for digest, size, _ in self._sizes(prefixes)}

    def untag(self, repository: str, tag: str) -> None:
        """Remove a tag and nothing else, as distribution 3 does; an absent tag is no error.

        The digest stays, and can be pulled by it. StorageError for what is not a tag's own folder.
        """
        manifests = self._manifests(_checked(repository))
        folder = f"{manifests}/tags/{tag}"
        if not _TAG.fullmatch(tag):
            raise StorageError(f"{tag!r} is not a tag's name: nothing was removed in {manifests}.")
        with _errors_told(folder):
            if os.path.lexists(folder):
                self._check_own_folder(folder)
                # At once for the registry, which could otherwise see half of a tag.
                _remove_aside(folder, f"{manifests}/{_ASIDE}")

    def uploads(self) -> list[Upload]:
        """Pushes in flight and those that were given up, of all repositories.

        2.8.2 leaves a cancelled upload's folder behind, with ``hashstates`` but no ``startedat``.
        """
        uploads = []
        for repository in self.repositories():
            with _errors_told(self.root):
                folder = f"{self._repositories}/{repository}/_uploads"
                for id_ in sorted(_names(folder)):
                    started = _mtime(f"{folder}/{id_}/startedat")
                    if started is not None:
                        uploads.append(Upload(repository, id_, started))
        return uploads

    def last_layer(self, repository: str) -> int:
        """When a layer was last pushed into a repository (UTC epoch seconds); 0 if it has none.

        Layers come before their manifest: a repository without manifests may be about to get one.
        """
        with _errors_told(self.root):
            return max(_links(f"{self._repositories}/{repository}/_layers").values(), default=0)

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
        with _errors_told(folder):
            # In this order it is still a repository, to be found again, if this is interrupted.
            for own in ("_uploads", "_layers", "_manifests"):
                if os.path.lexists(f"{folder}/{own}"):
                    self._check_own_folder(f"{folder}/{own}")
                    shutil.rmtree(f"{folder}/{own}")
            while os.path.isdir(folder) and folder != self._repositories and not _names(folder):
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other regdata runs off this store; StorageError if one is at work."""
        return lock_folder(self.base)

    def disk(self) -> "shutil._ntuple_diskusage":
        """Total, used and free bytes of the file system that holds the store."""
        with _errors_told(self.base):
            return shutil.disk_usage(self.base)

    def _manifests(self, repository: str) -> str:
        return f"{self._repositories}/{repository}/_manifests"

    def _blob(self, digest: str) -> str:
        algorithm, _, hex_ = digest.partition(":")
        return f"{self._blobs}/{algorithm}/{hex_[:2]}/{hex_}/data"

    def _tags(self, repository: str) -> Iterator[tuple[str, str | None, int]]:
        folder = f"{self._manifests(repository)}/tags"
        for tag in sorted(_names(folder)):
            try:
                descriptor = os.open(f"{folder}/{tag}/current/link", os.O_RDONLY)
            except _ABSENT:
                continue
            try:
                pushed = int(os.fstat(descriptor).st_mtime)
                link = os.read(descriptor, 256).decode("ascii", "replace").strip()
            finally:
                os.close(descriptor)
            yield printable(tag), link if is_digest(link) else None, pushed

    def _revisions(self, repository: str) -> dict[str, int]:
        return _links(f"{self._manifests(repository)}/revisions")

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
            data = _read(self._blob(digest), limit=_MAX_DOCUMENT)
        except _ABSENT:
            return "missing from the store"
        if data is None:
            return f"larger than {_MAX_DOCUMENT} bytes"
        return data

    def _is_same(self, digest: str, files: Mapping[str, tuple[int, int]]) -> bool:
        if digest not in files:
            return False
        try:
            stat = os.stat(self._blob(digest))
        except _ABSENT:
            return False
        return (stat.st_size, int(stat.st_mtime)) == files[digest]

    def _sizes(self, prefixes: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
        for prefix in prefixes:
            folder = f"{self._blobs}/sha256/{prefix}"
            for hex_ in _names(folder):
                if _HEX.fullmatch(hex_):
                    try:
                        stat = os.stat(f"{folder}/{hex_}/data")
                    except _ABSENT:
                        continue
                    yield f"sha256:{hex_}", stat.st_size, int(stat.st_mtime)

    def _check_own_folder(self, path: str) -> None:
        """Only a real folder at its real place is removed: a link may lead anywhere."""
        expected = os.path.realpath(self.root) + path.removeprefix(str(self.root))
        if os.path.realpath(path) != expected or not os.path.isdir(path):
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


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except _ABSENT:
        return []


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except _ABSENT:
        return []


def _leads_back(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a symbolic link to a folder above itself, which would never end."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return os.path.commonpath([target, os.path.realpath(os.path.dirname(entry.path))]) == target


def _links(folder: str) -> dict[str, int]:
    """When each digest was linked below ``<folder>/<algorithm>/<hex>/link``."""
    found = {}
    for algorithm in sorted(_names(folder)):
        for hex_ in sorted(_names(f"{folder}/{algorithm}")):
            # What was deleted leaves its folder behind, without the link.
            linked = _mtime(f"{folder}/{algorithm}/{hex_}/link")
            if linked is not None and is_digest(f"{algorithm}:{hex_}"):
                found[f"{algorithm}:{hex_}"] = linked
    return found


def _mtime(path: str) -> int | None:
    try:
        return int(os.stat(path).st_mtime)
    except _ABSENT:
        return None


def _read(path: str, limit: int | None = None) -> bytes | None:
    """The whole file; None if it has more bytes than ``limit``."""
    with open(path, "rb", buffering=0) as file:
        if limit is not None and os.fstat(file.fileno()).st_size > limit:
            return None
        return file.read()


def _remove_aside(folder: str, aside: str) -> None:
    if os.path.lexists(aside):  # an earlier run was interrupted here
        shutil.rmtree(aside)
    os.rename(folder, aside)
    shutil.rmtree(aside)


def _no_store(base: Path) -> str:
    cure = "Set registry.base_path to the folder that holds docker/registry/v2."
    if not base.is_dir():
        return f"{base} is not a folder. {cure}"
    found = sorted(printable(name) for name in os.listdir(base))
    listed = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    return f"{base} has no docker/registry/v2, but {listed}. {cure}"


@contextlib.contextmanager
def _errors_told(path: str | Path) -> Iterator[None]:
    """Every OSError as a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        cure = "Check the disk and base_path."
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            cure = "Run regdata as a user who may read and change the registry's folder."
        raise StorageError(f"{where}: {error.strerror}. {cure}") from error


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a lock on ``folder`` that ends with the process; StorageError if another run has it.

    A child process that inherits descriptors (``close_fds=False``) holds it, too.
    """
    with _errors_told(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.set_inheritable(descriptor, True)  # for a command that is to hold it, too
    try:
        with _errors_told(folder):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(
                    f"Another regdata run is working on {folder}, or the collection that it began. "
                    "Wait until it has ended."
                ) from None
        yield
    finally:
        os.close(descriptor)
