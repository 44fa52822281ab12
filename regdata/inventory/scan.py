"""config -> what a source reads -> Inventory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Executor
from itertools import islice
from typing import TYPE_CHECKING

from regdata.errors import StorageError
from regdata.inventory.inventory import Inventory
from regdata.sources import processes
from regdata.sources.cache import Cache
from regdata.sources.columns import merge
from regdata.sources.manifest import matches
from regdata.sources.registry import Registry
from regdata.sources.source import Part, Readable
from regdata.sources.storage import Storage

if TYPE_CHECKING:
    from regdata.config import Config

# A process that reads a share of the store takes as long to start as the store takes to give so many tags.
TAGS_PER_PROCESS = 1000
# An executor may have many workers, and repositories differ in size.
SHARES = 64


def scan(
    config: Config,
    *,
    executor: Executor | None = None,
    since: Inventory | None = None,
    known: Iterable[tuple[str, str]] = (),
) -> Inventory:
    """Reads the registry that ``config`` names: its folder where base_path is given, else its HTTP API.

    With an ``executor`` the work is split by repository over it. ``since``: an earlier inventory; manifests whose files
    in the folder have the size and date that they had then are not read again, so that damage done to them meanwhile is
    not seen (over the API the cache serves this purpose). ``known``: manifests (image_name, manifest_hash) that the
    HTTP API would not show if no tag led to them. Raises RegistryError or StorageError.
    """
    registry = Registry(config.registry.url, cache=Cache(config.cache))
    if config.registry.base_path:
        # The folder is read without the cache: damage is to be seen, and reading it is fast.
        storage = Storage(config.registry.base_path)
        check_same_registry(registry, storage)
        parts = store_parts(storage, executor, since)
        source: Readable = storage
        can_untag = storage.writable
    else:
        parts = registry.split(SHARES if executor else 1)
        known = list(known)  # each part looks through it
        tags = {name: registry.tags_unpaged(name) for part in parts[:1] for name in part.repositories[:1]}
        source = registry
        can_untag = None in tags.values()  # distribution 3.x
        parts = [
            part._replace(
                known=tuple(pair for pair in known if pair[0] in part.repositories),
                tags={name: found for name, found in tags.items() if found is not None and name in part.repositories},
            )
            for part in parts
        ]
    return Inventory.from_columns(
        merge(executor.map(source.read, parts) if executor else processes.read(source, parts)),
        scanned_at=int(time.time()),
        from_store=source is not registry,
        since=since,
        registry=registry.display,
        can_untag=can_untag,
        engine=config.engine,
        protect=config.protect,
    )


def store_parts(storage: Storage, executor: Executor | None, since: Inventory | None) -> list[Part]:
    """The shares of the work; they name the files that need not be read ``since`` then."""
    parts = storage.split(SHARES) if executor else storage.split(processes.cores(), least=TAGS_PER_PROCESS)
    if since is None:
        return parts
    files = _files(since)
    return [
        part._replace(files={k: file for name in part.repositories for k, file in files.get(name, {}).items()})
        for part in parts
    ]


def _files(since: Inventory) -> dict[str, dict[str, tuple[int, int]]]:
    """Size and date of each manifest's file, by repository and digest; not where a new look may tell more."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    manifests = since.manifests[since.manifests["error"].isna()]
    # An image without a date and a platform may have been without its config.
    known = manifests[["created", "platform"]].notna().any(axis=1) | (manifests["kind"] != "image")
    files = manifests[known].merge(since.blobs.dropna(), left_on="manifest_hash", right_on="blob_hash")
    columns = ("image_name", "manifest_hash", "blob_size", "blob_date")
    # As plain as the process needs it that reads them.
    for name, digest, *file in zip(*(files[column].tolist() for column in columns), strict=True):
        found.setdefault(name, {})[digest] = tuple(file)
    return found


def check_same_registry(registry: Registry, storage: Storage) -> None:
    """Raises StorageError when ``storage`` is visibly not the folder of the registry that answers at ``registry``."""
    served, stored = set(registry.repositories()), set(storage.repositories())
    strange = sorted(served - stored) or (sorted(stored) if stored and not served else [])
    if strange:
        where = "the registry serves" if served else "the folder holds"
        raise StorageError(
            f"registry.base_path {storage.root.parents[2]} is not the folder of {registry.display}: {where} "
            f"{strange[0]}, the other does not know it. Give the folder that this registry's filesystem storage writes "
            "to (rootdirectory)"
        )
    for repository in sorted(served & stored)[:5]:
        links, revisions = storage.state(repository)
        sound = (tag for tag, digest in sorted(links.items()) if digest in revisions and _is_sound(storage, digest))
        for tag in islice(sound, 2):
            digest = registry.digest(repository, tag)
            # Asked again, since the tag may just have been pushed.
            if digest != links[tag] and registry.digest(repository, tag) != storage.state(repository)[0].get(tag):
                raise StorageError(
                    f"registry.base_path {storage.root.parents[2]} is not the folder of {registry.display}: "
                    f"{repository}:{tag} is {digest or 'absent'} there and {links[tag]} in the folder. Give the folder "
                    "that this registry writes to"
                )


def _is_sound(storage: Storage, digest: str) -> bool:
    """Whether the registry can serve the manifest: for a damaged one it answers 404 or 500, which says nothing."""
    data = storage.content(digest)
    return data is not None and matches(digest, data)
