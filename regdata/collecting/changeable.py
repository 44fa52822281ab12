"""That the folders which a clean-up is to change can be changed, as far as that can be seen without changing them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from os.path import dirname

from regdata.errors import StorageError
from regdata.sources.aside import Aside
from regdata.sources.files import told
from regdata.sources.paths import blob_path, layers_path
from regdata.sources.storage import Storage


def check_tags(storage: Storage, tags: Iterable[tuple[str, str]]) -> None:
    """Raises StorageError unless these tags (repository, tag) can be taken out of the store."""
    wanted: dict[str, list[str]] = {}
    for repository, tag in tags:
        wanted.setdefault(repository, []).append(tag)
    for repository, names in wanted.items():
        manifests = storage.layout.manifests(repository)
        folder = f"{manifests}/tags"
        with told(folder):
            if storage.files.is_folder(folder) and not storage.files.is_own(folder, str(storage.root)):
                raise _refused(
                    f"{folder} is not a folder of the store itself (a symbolic link?)",
                    "have it lie where it seems to, or leave base_path out",
                )
        _changeable(storage, (manifests, folder, *(f"{folder}/{name}" for name in names)))


def check_blobs(storage: Storage, digests: Collection[str], repositories: Iterable[str]) -> None:
    """Raises StorageError unless these blobs, and links to them in these repositories, can be set aside."""
    folder = Aside(storage).folder
    place = dirname(folder)
    _changeable(storage, [folder if storage.files.is_folder(folder) else place])
    folders = {f"{storage.root}/{dirname(blob_path(digest))}" for digest in digests}
    folders |= {dirname(folder) for folder in folders}
    for repository in repositories:
        layers = f"{storage.root}/{layers_path(repository)}"
        with told(layers):
            folders |= {f"{layers}/{name}" for name in storage.files.folders(layers)}
    for folder in _changeable(storage, sorted(folders)):
        with told(folder):
            if not storage.files.is_together(place, folder):
                raise _refused(
                    f"{folder} lies in another file system than {place}, and nothing in it can be set aside by "
                    "moving it",
                    "move it there, or collect by the registry's own gc-command",
                )


def _changeable(storage: Storage, folders: Iterable[str]) -> list[str]:
    """Those that are there; StorageError for one that can't be changed."""
    found = []
    for folder in folders:
        with told(folder):
            if not storage.files.is_folder(folder):
                continue
            if not storage.files.writable(folder):
                raise _refused(
                    f"{folder} can't be changed",
                    "run regdata as a user who may change all of the registry's folder, such as the registry's own",
                )
        found.append(folder)
    return found


def _refused(problem: str, cure: str) -> StorageError:
    return StorageError(f"{problem}, so nothing was deleted: {cure}")
