"""Whether a folder is the one that a registry writes to, as far as both show the same.

Only what both of them serve can tell: what is damaged, or within nobody's reach, says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from regdata.errors import AccessError, RegistryError, StorageError
from regdata.sources.manifest import matches
from regdata.sources.names import means
from regdata.sources.registry import Registry
from regdata.sources.source import Store

COMPARED = 10  # tags that show it
ODD = 2  # tags of one repository that the registry can't serve: then the next one is asked
MOST_ODD = 30  # of all: then it serves nothing


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
    same, odd, trouble = 0, 0, None
    for answer in chain.from_iterable(map(partial(_compared, registry, store), sorted(served & stored))):
        same, odd, trouble = same + (answer is None), odd + (answer is not None), trouble or answer
        if same == COMPARED or odd == MOST_ODD:
            break
    if trouble and not same:
        links = [link for name in sorted(served & stored) for link in store.broken_links(name).values()]
        raise StorageError(f"{links[0]} holds no digest: {trouble}") if links else trouble


def _compared(registry: Registry, store: Store, repository: str) -> Iterator[RegistryError | None]:
    """None for each tag that is the same in the registry and in the folder; StorageError for one that is not.

    What the registry can't serve says nothing: its error is given instead.
    """
    links, revisions = store.state(repository)
    odd = 0
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
            if (odd := odd + 1) == ODD:
                return
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
