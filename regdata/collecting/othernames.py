"""That nothing goes which the registry serves by another name, too: by a symbolic link, both names lose it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from os.path import dirname

from regdata.errors import StorageError
from regdata.sources.files import told
from regdata.sources.storage import Storage

_PARTS = ("/_manifests/tags", "/_manifests/revisions/sha256")
# Where another repository's content may be found, in a repository's folder.
_FOLDERS = ("", "/_manifests", "/_manifests/revisions", *_PARTS, "/_layers", "/_layers/sha256")


def check_names(storage: Storage, repositories: Collection[str], parts: Iterable[str]) -> None:
    """Raises StorageError where one of the ``repositories``, from which something goes, shares a folder with another,
    or where a symbolic link leads to one of the ``parts``, the folders of tags and of links to manifests that go."""
    files, top = storage.files, storage.layout.repositories_folder
    seen: dict[object, tuple[str, str]] = {}
    links: dict[object, str] = {}
    with told(storage.root):
        for name in storage.repositories():
            for folder in _FOLDERS:
                if place := files.place(f"{top}/{name}{folder}"):
                    other, there = seen.setdefault(place, (name, folder))
                    if other != name and (name in repositories or other in repositories):
                        raise _refused(storage, f"{top}/{name}{folder}", f"{top}/{other}{there}")
            for part in _PARTS:
                paths = [f"{top}/{name}{part}/{link}" for link in files.links(f"{top}/{name}{part}")]
                links |= {files.place(path): path for path in paths}
        for path in parts if links else ():
            if (place := files.place(path)) and place in links:
                raise _refused(storage, links[place], path)


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
