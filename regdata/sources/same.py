"""Whether a folder is the one that a registry writes to, as far as both show the same.

Only what both of them serve can tell: what is damaged, or within nobody's reach, says nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from functools import partial

from regdata.errors import AccessError, RegistryError, StorageError
from regdata.sources.manifest import matches
from regdata.sources.names import means
from regdata.sources.registry import Registry
from regdata.sources.source import Store

COMPARED = 10  # tags that show it
PATIENCE = 120.0  # seconds with a registry that does not serve some of them


def check_same(registry: Registry, store: Store) -> None:
    """Raises StorageError where a folder is not the registry's; RegistryError where it serves nothing of it."""
    wanted = registry.reach.repositories
    stored = set(filter(partial(means, wanted), store.repositories()))
    # What is wanted by its name may not be there yet, or any more.
    served = {name for name in registry.repositories() if name in stored or name not in (wanted or ())}
    # The catalog leaves out repositories in which no blob was ever linked.
    missing = served - stored
    missing -= {*store.repositories()} if missing else set()  # which may just have been pushed
    strange = sorted(missing or (name for name in stored if not served and store.links(name)))
    if strange:
        raise StorageError(
            f"{_not_the_same(registry, store)}: the {'registry serves' if served else 'folder holds'} {strange[0]}, "
            "the other does not know it. Give the folder that this registry's filesystem storage writes to "
            "(rootdirectory)"
        )
    same, trouble, since = 0, None, 0.0
    asked = deque(_compared(registry, store, name) for name in sorted(served & stored))
    while asked and same < COMPARED and not (trouble and time.monotonic() > since + PATIENCE):
        tags = asked.popleft()
        try:
            answer = next(tags)
        except StopIteration:
            continue
        asked.append(tags)  # its next tag comes after one of each other repository
        if answer is None:
            same += 1
        else:
            trouble, since = trouble or answer, since or time.monotonic()
    if trouble and not same:
        links = [link for name in sorted(served & stored) for link in store.broken_links(name).values()]
        raise StorageError(f"{links[0]} holds no digest: {trouble}") if links else trouble


def _compared(registry: Registry, store: Store, repository: str) -> Iterator[RegistryError | None]:
    """None for each tag that is the same in the registry and in the folder; StorageError for one that is not.

    What the registry can't serve says nothing: its error is given instead.
    """
    links, revisions = store.state(repository)
    for tag in sorted(links)[:COMPARED]:
        if links[tag] not in revisions or not _is_sound(store, links[tag] or ""):
            continue
        try:
            digest = registry.digest(repository, tag)
            # Asked again, since the tag may just have been pushed.
            same = digest == links[tag] or registry.digest(repository, tag) == store.state(repository)[0].get(tag)
        except AccessError:
            raise
        except RegistryError as error:
            registry.check()
            yield error
            continue
        if digest is None and store.is_linked(repository, links[tag] or ""):  # 3.x serves none that is linked as a blob
            continue
        if not same:
            raise StorageError(
                f"{_not_the_same(registry, store)}: {repository}:{tag} is {digest or 'absent'} there and {links[tag]} "
                "in the folder. Give the folder that this registry writes to"
            )
        yield None


def _not_the_same(registry: Registry, store: Store) -> str:
    return f"registry.base_path {store.base} is not the folder of {registry.display}"


def _is_sound(store: Store, digest: str) -> bool:
    """Whether the registry can serve the manifest: for a damaged one it answers 404 or 500, which says nothing."""
    data = store.content(digest)
    return data is not None and matches(digest, data)
