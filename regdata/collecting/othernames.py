"""That nothing goes which the registry serves by another name, too: by a symbolic link, both names lose it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from os.path import dirname

from regdata.errors import StorageError
from regdata.sources.files import Files, told
from regdata.sources.storage import Storage

_PARTS = ("/_manifests/tags", "/_manifests/revisions/sha256")
# Where another repository's content may be found, in a repository's folder.
_FOLDERS = ("", "/_manifests", "/_manifests/revisions", *_PARTS, "/_layers", "/_layers/sha256")
_TAG, _LINK = ("", "/current", "/current/link"), ("", "/link")  # what may be a symbolic link, in a folder of these


def check_names(storage: Storage, repositories: Collection[str], parts: Iterable[str]) -> None:
    """Raises StorageError where one of the ``repositories``, from which something goes, shares a folder with another,
    where a symbolic link leads to one of the ``parts``, the folders of tags and of links to manifests that go, to what
    is in them, or to a link to a layer of the repositories', or where the blobs are another registry's as well."""
    files, top = storage.files, storage.layout.repositories_folder
    seen: dict[object, tuple[str, str]] = {}
    links: dict[object, str] = {}
    with told(storage.root):
        _check_blobs(storage)
        for name in storage.repositories():
            for folder in _FOLDERS:
                if place := files.place(f"{top}/{name}{folder}"):
                    other, there = seen.setdefault(place, (name, folder))
                    if other != name and (name in repositories or other in repositories):
                        raise _refused(storage, f"{top}/{name}{folder}", f"{top}/{other}{there}")
            links |= {files.place(path): path for path in _links(files, f"{top}/{name}")}
        layers = (path for name in sorted(repositories) for path in _layers(files, f"{top}/{name}"))
        for path in chain.from_iterable(map(_below, chain(parts, layers))) if links else ():
            if (place := files.place(path)) and place in links:
                raise _refused(storage, links[place], path if path != links[place] else "what it leads to")


def _links(files: Files, repository: str) -> Iterator[str]:
    """The symbolic links among a repository's tags, and its links to manifests and layers."""
    named = (f"{repository}{part}/{name}" for part in _PARTS for name in files.names(f"{repository}{part}"))
    return filter(files.is_link, chain.from_iterable(map(_below, chain(named, _layers(files, repository)))))


def _layers(files: Files, repository: str) -> Iterator[str]:
    """The folders of a repository's links to layers, by whichever digests."""
    for folder in (f"{repository}/_layers/{algorithm}" for algorithm in files.names(f"{repository}/_layers")):
        yield from (f"{folder}/{name}" for name in files.names(folder))


def _below(path: str) -> Iterator[str]:
    return (path + below for below in (_TAG if "/_manifests/tags/" in path else _LINK))


def _check_blobs(storage: Storage) -> None:
    """Behind a symbolic link may be the blobs of a registry whose repositories nobody has looked into."""
    files, top = storage.files, storage.layout.repositories_folder
    blobs = storage.layout.blobs_folder
    for path, up in (blobs, ".."), (f"{blobs}/sha256", "../.."):
        others = f"{path}/{up}/repositories"  # beside what the link leads to
        if files.is_link(path) and files.place(others) not in (None, files.place(top)):
            raise StorageError(
                f"the symbolic link {path} leads to the blobs of another registry, whose repositories lie beside them "
                "and are not known here: what nobody needs here it may need, so nothing was deleted: replace the link "
                "by a folder of this registry's own"
            )


def _refused(storage: Storage, path: str, other: str) -> StorageError:
    link = _link(storage, path) or _link(storage, other)
    by = f" by the symbolic link {link}" if link else ""
    return StorageError(
        f"{path} is the same as {other}{by}, and what goes from one name goes from the other, too, so nothing was "
        f"deleted: replace {'it' if link else 'one of them'} by a folder of its own, or remove it"
    )


def _link(storage: Storage, path: str) -> str | None:
    """The symbolic link on the way from the store to a path; None: there is none."""
    while path != storage.layout.repositories_folder:
        if storage.files.is_link(path):
            return path
        path = dirname(path)
    return None
