"""Every file of a store and what it is, whether the registry knows of it or not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from regdata.sources import processes
from regdata.sources.aside import NAME
from regdata.sources.files import Entry, told
from regdata.sources.manifest import printable
from regdata.sources.names import is_repository
from regdata.sources.paths import CLOSED, LAYERS, REMOVED, blob_path, layer_path, revision_path, uploads_path
from regdata.sources.storage import Storage

# What there is to say of each: see `Census`.
COLUMNS = ("kind", "image_name", "name", "size", "date", "file")
Listing = dict[str, list[object]]

# Folders in which the shares of a census lie side by side.
_OPEN = ("", "docker", "docker/registry", "docker/registry/v2", "docker/registry/v2/blobs")
_SHARED = (*_OPEN, "docker/registry/v2/blobs/sha256", "docker/registry/v2/repositories")
# A process takes as long to start as so many of them take to be listed.
_FEWEST = 100
_ROOT = "docker/registry/v2/"
# As the registry answers for them.
_DIGEST = "(?:sha256/[0-9a-f]{64}|sha384/[0-9a-f]{96}|sha512/[0-9a-f]{128})"
_REVISION = rf"repositories/(?P<image>.+?)/_manifests/revisions/(?P<name>{_DIGEST}"
_PLACES = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("blob", r"blobs/sha256/(?P<begin>[0-9a-f]{2})/(?P<name>(?P=begin)[0-9a-f]{62})/data"),
        ("layer", rf"repositories/(?P<image>.+?)/_layers/(?P<name>{_DIGEST})/link"),
        ("revision", rf"{_REVISION})/link"),
        (
            "signature",
            rf"{_REVISION}/signatures/{_DIGEST})/link",
        ),
        ("tag", r"repositories/(?P<image>.+?)/_manifests/tags/(?P<name>[^/]+)/current/link"),
        ("history", rf"repositories/(?P<image>.+?)/_manifests/tags/(?P<name>[^/]+/index/{_DIGEST})/link"),
        ("upload", r"repositories/(?P<image>.+?)/_uploads/(?P<name>.+)"),
    )
)
_HALF_REMOVED = (f"/_manifests/{REMOVED}", f"/_manifests/{LAYERS}/", f"/{CLOSED}/")
_FOLDERS = (("folder", re.compile(rf"repositories/(?P<image>.+?)/_layers/(?P<name>{_DIGEST})")), _PLACES[-1])


class Census:
    """Lists ``storage``, also in several processes; its columns:

    kind: blob, layer, revision (links), tag (the link to what it is on), history (its links to what it was on),
    signature (of schema 1), upload, aside (`regdata.sources.aside`, or a tag that is being removed), folder (that of a
    layer's link, which is gone), or foreign. image_name: the repository. name: digest, tag,
    ``tag/index/algorithm/hex``, ``id/…`` of an upload, else the path below base_path. size in bytes, None for an empty
    folder, or one that can't be read; date: UTC epoch seconds, as the file has it. file: the same for two names of one
    file, None for one that has a single name.
    """

    def __init__(self, storage: Storage) -> None:
        self.base, self.files = str(storage.base), storage.files
        # Where the registry's own folders really lie, if a symbolic link leads there: they are listed by its name.
        base, links = (
            self.files.real(self.base),
            [name for name in _SHARED if self.files.is_link(f"{self.base}/{name}")],
        )
        reals = [self.files.real(f"{self.base}/{name}") for name in links]
        self._real = tuple(f"{real.removeprefix(base)}/".lstrip("/") for real in reals if real.startswith(f"{base}/"))

    def split(self, parts: int) -> list[tuple[str, ...]]:
        """The whole of it in so many shares, to be given to `read`."""
        with told(self.base):
            found = [
                f"{folder}/{name}".lstrip("/")
                for folder in _SHARED
                for name in sorted(self.files.names(f"{self.base}/{folder}"))
            ]
        shares = [path for path in found if path not in _SHARED]
        parts = min(parts, len(shares) // _FEWEST) or 1
        return [tuple(shares[number::parts]) for number in range(parts)]

    def read(self, part: Iterable[str]) -> Listing:
        """The rows of what lies below some paths."""
        listing: Listing = {column: [] for column in COLUMNS}
        begin = len(self.base) + 1
        with told(self.base):
            for path in part:
                # What the registry itself follows may lie on another disk.
                apart = self.base if f"{path}/".startswith(_ROOT) else None
                for entry in self.files.below(f"{self.base}/{path}", apart):
                    if f"{entry.path[begin:]}/".startswith(self._real):
                        continue
                    if entry.error and _is_registrys(entry.path[begin:]):
                        raise entry.error
                    _add(listing, entry, entry.path[begin:])
        return listing


def census(base_path: Path | None) -> Listing | None:
    """The columns of `Census` for a whole store; None where there is no base_path. StorageError."""
    if base_path is None:
        return None
    source = Census(Storage(base_path))
    found: Listing = {column: [] for column in COLUMNS}
    for part in processes.read(source, source.split(processes.cores())):
        for column, values in part.items():
            found[column] += values
    return found


def path_of(kind: str, image: str, name: str) -> str:
    """The path of a file below base_path, by what a census says of it."""
    if kind in ("foreign", "aside"):
        return name
    manifests = f"repositories/{image}/_manifests"
    places = {
        "blob": lambda: blob_path(name),
        "layer": lambda: layer_path(image, name),
        "folder": lambda: layer_path(image, name),
        "revision": lambda: revision_path(image, name),
        "signature": lambda: f"{manifests}/revisions/{name}/link",
        "tag": lambda: f"{manifests}/tags/{name}/current/link",
        "history": lambda: f"{manifests}/tags/{name}/link",
        "upload": lambda: f"{uploads_path(image)}/{name}",
    }
    return _ROOT + places[kind]()


def _is_registrys(path: str) -> bool:
    """Whether a folder may hold what the registry serves; one such as lost+found does not."""
    if not f"{path}/".startswith(_ROOT):
        return False
    name, *_ = path.removeprefix(f"{_ROOT}repositories/").split("/_")
    return path.removeprefix(f"{_ROOT}repositories/") == path or is_repository(name)


def _add(listing: Listing, entry: Entry, path: str) -> None:
    if row := _row(path, is_file=entry.is_file or bool(entry.error and not path.endswith("lost+found"))):
        values = (*row, entry.size if entry.is_file else None, entry.date, entry.file)
        for column, value in zip(listing.values(), values, strict=True):
            column.append(value)


def _row(path: str, *, is_file: bool) -> tuple[str, str | None, str] | None:
    """kind, image_name and name; None for an empty folder that says nothing."""
    inner = path[len(_ROOT) :] if path.startswith(_ROOT) else ""
    for kind, pattern in _PLACES if inner and is_file else _FOLDERS:
        if found := pattern.fullmatch(inner):
            image, name = found.groupdict().get("image"), found["name"]
            if kind == "blob":
                name = f"sha256:{name}"
            elif kind in ("layer", "revision", "folder"):
                name = name.replace("/", ":")
            return kind, image and printable(image), printable(name)
    if not is_file:
        return None
    is_aside = NAME in path.split("/")[:3] or any(place in inner for place in _HALF_REMOVED)
    return "aside" if is_aside else "foreign", None, printable(path)
