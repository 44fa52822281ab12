"""That the folders which a clean-up is to change can be changed, as far as that can be seen without changing them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
        _changeable(storage, (manifests, folder))
        for name in names:
            with told(f"{folder}/{name}"):
                inside = [*_tag(storage, f"{folder}/{name}")]
            _changeable(storage, inside)


def _tag(storage: Storage, folder: str) -> Iterator[str]:
    """All folders of a tag, which is removed with what it was on before."""
    history = f"{folder}/index"
    yield from (folder, f"{folder}/current", history)
    for algorithm in storage.files.names(history):
        yield f"{history}/{algorithm}"
        yield from (f"{history}/{algorithm}/{name}" for name in storage.files.names(f"{history}/{algorithm}"))


def check_blobs(storage: Storage, digests: Collection[str], repositories: Iterable[str]) -> None:
    """Raises StorageError unless these blobs, and links to them in these repositories, can be set aside."""
    place = _place(storage)
    _changeable(storage, [place])
    folders = {dirname(f"{storage.root}/{blob_path(digest)}") for digest in digests}
    folders |= {dirname(folder) for folder in folders}
    for repository in repositories:
        layers = f"{storage.root}/{layers_path(repository)}"
        _changeable(storage, [dirname(layers), layers])
        with told(layers):
            folders |= {*_links(storage, layers, digests)}
    with told(place):
        is_beside = storage.files.beside(place)
    for folder in _changeable(storage, sorted(folders)):
        with told(folder):
            if not is_beside(folder):
                raise _refused(
                    f"{folder} lies in another file system or mount than {place}, and nothing in it can be set aside "
                    "by moving it",
                    "move it there, or collect by the registry's own gc-command",
                )


def _place(storage: Storage) -> str:
    """Where what is set aside is to lie: in the folder for it, or where that will be made."""
    folder = Aside(storage).folder
    if storage.files.is_folder(folder):
        return folder
    if storage.files.exists(folder):
        raise _refused(f"{folder} is no folder, and what is collected is set aside there", "move it away")
    return dirname(folder)


def _links(storage: Storage, layers: str, digests: Collection[str]) -> Iterator[str]:
    """The folders of links to these blobs, and of those that hold another name than theirs."""
    for algorithm in storage.files.folders(layers):
        yield f"{layers}/{algorithm}"
        for name in storage.files.names(f"{layers}/{algorithm}"):
            if algorithm != "sha256" or f"sha256:{name}" in digests:
                yield f"{layers}/{algorithm}/{name}"


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
