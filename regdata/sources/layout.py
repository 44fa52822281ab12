"""Where distribution keeps what in its folder ``docker/registry/v2`` (registry/storage/paths.go)::

blobs/<algorithm>/<first two>/<hex>/data
repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
repositories/<name>/_manifests/tags/<tag>/current/link      holds the digest
repositories/<name>/_layers/<algorithm>/<hex>/link          holds the blob's digest by sha256
repositories/<name>/_uploads/<id>/startedat
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator

from regdata.errors import StorageError
from regdata.sources.files import ABSENT, Files
from regdata.sources.leads import BLANKS, MAX_DOCUMENT
from regdata.sources.manifest import is_digest, printable
from regdata.sources.names import is_repository, is_tag, may_hold
from regdata.sources.paths import blob_path, layers_path, revision_path

_MAX_LINK = 256
_LINK = len("sha256:") + 64
_FIRST = 64
_HEX = re.compile(r"[0-9a-f]{64}")


class Layout:
    """What lies below ``root``, looked up name by name. What goes wrong is an OSError."""

    def __init__(self, root: str, files: Files) -> None:
        self.files, self.root = files, root
        self.repositories_folder = f"{root}/repositories"
        self.blobs_folder = f"{root}/blobs"

    def repositories(self, *, by: Collection[str] = ("_manifests", "_layers")) -> list[str]:
        """Sorted names of all repositories, those without tags too; they are told ``by`` their folders. StorageError
        for one that none can have."""
        names = sorted(set(self._below("", by)))
        for name in names:
            self._check(is_repository(name), f"{self.repositories_folder}/{name}", "a repository")
        return names

    @staticmethod
    def _check(right: bool, folder: str, what: str) -> None:
        if not right:
            raise StorageError(
                f"{printable(folder)} has a name that {what} can't have: no registry made it, and none serves it. "
                "Rename or remove that folder"
            )

    def _below(self, name: str, by: Collection[str]) -> Iterator[str]:
        try:
            folders = self.files.folders(f"{self.repositories_folder}/{name}")
        except PermissionError:
            if may_hold(name):
                raise
            return  # nobody's, such as lost+found
        for folder in folders:
            if folder.startswith("_"):
                if name and folder in by:
                    yield name
            else:
                yield from self._below(f"{name}/{folder}" if name else folder, by)

    def manifests(self, repository: str) -> str:
        """The folder of a repository's tags and revisions."""
        return f"{self.repositories_folder}/{repository}/_manifests"

    def _layers(self, repository: str) -> str:
        return f"{self.root}/{layers_path(repository)}"

    def blob(self, digest: str) -> str:
        """The path of a blob's data."""
        return f"{self.root}/{blob_path(digest)}"

    def tags(self, repository: str) -> Iterator[tuple[str, str | None, int]]:
        """Name, digest (None: a broken link) and push date of each tag."""
        folder = f"{self.manifests(repository)}/tags"
        for tag in sorted(self.files.names(folder)):
            found = self.files.first(f"{folder}/{tag}/current/link", _MAX_LINK)
            if found is None:
                continue
            self._check(is_tag(tag), f"{folder}/{tag}", "a tag")
            data, pushed = found
            link = data.decode("ascii", "replace")  # a registry reads it as it is: what a line end follows is no digest
            yield tag, link if is_digest(link) else None, pushed

    def tag(self, repository: str, tag: str) -> str | None:
        """What a tag's link holds; None where there is none."""
        found = self.files.first(f"{self.manifests(repository)}/tags/{tag}/current/link", _MAX_LINK)
        return found and found[0].decode("ascii", "replace")

    def revision(self, repository: str, digest: str) -> str:
        """The path of a manifest's link."""
        return f"{self.root}/{revision_path(repository, digest)}"

    def broken_links(self, repository: str, *, of_blobs: bool = False) -> Iterator[tuple[str, str]]:
        """The digest and file of each link to a manifest (or blob) that holds no digest, as a crash leaves them."""
        folder = self._layers(repository) if of_blobs else f"{self.manifests(repository)}/revisions"
        for digest in self._links(folder):
            path = f"{folder}/{digest.replace(':', '/')}/link"
            linked = self.files.stat(path)
            # A digest by sha256 has so many letters: what has them is read by nobody here.
            found = self.files.first(path, _MAX_LINK) if linked and linked.size != _LINK else None
            if found and not is_digest(found[0].decode("ascii", "replace")):
                yield digest, path

    def revisions(self, repository: str) -> dict[str, int]:
        """When each manifest was linked."""
        return self._links(f"{self.manifests(repository)}/revisions")

    def deleted(self, repository: str) -> Iterator[str]:
        """Manifests whose links were deleted: that leaves their folders behind."""
        folder = f"{self.manifests(repository)}/revisions"
        for algorithm in sorted(self.files.names(folder)):
            for hex_ in sorted(self.files.names(f"{folder}/{algorithm}")):
                digest = f"{algorithm}:{hex_}"
                if is_digest(digest) and not self.files.exists(f"{folder}/{algorithm}/{hex_}/link"):
                    yield digest

    def layers(self, repository: str, among: Container[str] | None = None) -> dict[str, int]:
        """When each blob was linked, by its digest and by its aliases; those ``among`` some alone."""
        return self._links(self._layers(repository), among)

    def layer(self, repository: str, digest: str) -> int | None:
        """When a blob was linked; None where it is not."""
        linked = self.files.stat(f"{self._layers(repository)}/{digest.replace(':', '/')}/link")
        return linked.mtime if linked else None

    def has_layers(self, repository: str) -> bool:
        """Whether there is a folder for links to blobs: registries and collectors find a repository by it."""
        return self.files.is_folder(self._layers(repository))

    def aliases(self, repository: str) -> dict[str, str]:
        """The blobs behind links by other algorithms than sha256."""
        found, folder = {}, self._layers(repository)
        for algorithm in sorted(set(self.files.names(folder)) - {"sha256"}):
            for hex_ in sorted(self.files.names(f"{folder}/{algorithm}")):
                alias = f"{algorithm}:{hex_}"
                link = self.files.first(f"{folder}/{algorithm}/{hex_}/link", _MAX_LINK)
                target = link[0].decode("ascii", "replace").strip() if link else None
                if is_digest(alias) and is_digest(target):
                    found[alias] = str(target)
        return found

    def strays(self, prefixes: Iterable[str]) -> Iterator[str]:
        """Folders that hold data as blobs do, and are none that a registry makes: beside sha256 and in these of it."""
        names = self.files.names
        places = [f"sha256/{prefix}" for prefix in prefixes]
        for algorithm in sorted(set(names(self.blobs_folder)) - {"sha256"}):
            places += [f"{algorithm}/{prefix}" for prefix in sorted(names(f"{self.blobs_folder}/{algorithm}"))]
        for place in places:
            for name in sorted(names(f"{self.blobs_folder}/{place}")):
                ours = place.startswith("sha256/") and _HEX.fullmatch(name)
                if not ours and self.files.stat(f"{self.blobs_folder}/{place}/{name}/data"):
                    yield f"blobs/{place}/{name}"

    def _links(self, folder: str, among: Container[str] | None = None) -> dict[str, int]:
        """When each digest (``among`` some) was linked below ``<folder>/<algorithm>/<hex>/link``."""
        names, stat = self.files.names, self.files.stat
        found = {}
        for algorithm in sorted(names(folder)):
            for hex_ in sorted(names(f"{folder}/{algorithm}")):
                if among is not None and f"{algorithm}:{hex_}" not in among:
                    continue
                # What was deleted leaves its folder behind, without the link.
                linked = stat(f"{folder}/{algorithm}/{hex_}/link")
                if linked is not None and is_digest(f"{algorithm}:{hex_}"):
                    found[f"{algorithm}:{hex_}"] = linked.mtime
        return found

    def sizes(self, prefixes: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
        """Digest, bytes and date of each blob in these folders."""
        stat = self.files.stat
        for prefix in prefixes:
            folder = f"{self.blobs_folder}/sha256/{prefix}"
            for hex_ in self.files.names(folder):
                if _HEX.fullmatch(hex_) and (found := stat(f"{folder}/{hex_}/data")) is not None:
                    yield f"sha256:{hex_}", *found


def document(files: Files, path: str) -> bytes | None:
    """The bytes of what may be a manifest, none of anything else; None where there is nothing. Of anything else only
    the beginning is read."""
    begin = files.first(path, _FIRST)
    if begin is None:
        return None
    if begin[0].lstrip(BLANKS)[:1] not in (b"", b"{"):
        return b""
    try:
        data = files.read(path, MAX_DOCUMENT) or b""
    except ABSENT:
        return None
    return data if data.lstrip(BLANKS).startswith(b"{") else b""
