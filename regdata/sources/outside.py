"""What the API shows besides: repositories that registry.repositories leaves out, and manifests among the blobs."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from regdata.errors import AccessError, RegistryError
from regdata.sources.api import Api
from regdata.sources.columns import Columns
from regdata.sources.leads import BLANKS, MAX_DOCUMENT, may_be_manifest
from regdata.sources.names import means
from regdata.sources.registry import Registry
from regdata.sources.source import Part
from regdata.sources.threads import each

_BEGINNING = 64  # bytes


def beyond(source: Api) -> Columns | None:
    """What registry.repositories leaves out, as far as the catalog tells of it and the login may look; None where it
    leaves nothing out, or nothing is told. Raises RegistryError."""
    registry = source.registry
    within = registry.reach.repositories
    if within is None:
        return None
    try:
        names = [name for name in registry.catalog() if not means(within, name)]
    except RegistryError:  # it lists nothing, or not to us
        return None
    with ThreadPoolExecutor(registry.workers) as pool:
        listed = zip(names, each(pool, partial(_tags, registry), names), strict=True)
        tags = {name: found for name, found in listed if found is not None}
    return source.read(Part(tuple(tags), tags=tags)) if tags else Columns()


def _tags(registry: Registry, repository: str) -> list[str] | None:
    """None for one that is not ours to look at, or at which the registry fails: nobody asked for it."""
    try:
        return registry.tags(repository)
    except AccessError:
        return None
    except RegistryError:
        registry.check()
        return None


def disguised(registry: Registry, blobs: Iterable[tuple[str, str]]) -> list[str]:
    """The names of those blobs (repository, digest) that are manifests by their bytes. Raises RegistryError."""

    def is_manifest(pair: tuple[str, str]) -> bool:
        path = registry.http.path(pair[0], "blobs", pair[1])
        begin = registry.attempt(path, {"Range": f"bytes=0-{_BEGINNING - 1}"}, most=_BEGINNING, cut=True)
        if begin.status not in (200, 206) or begin.data.lstrip(BLANKS)[:1] not in (b"", b"{"):
            return False
        whole = registry.attempt(path, {}, most=MAX_DOCUMENT)
        return whole.status == 200 and may_be_manifest(whole.data)

    asked = list(blobs)
    with ThreadPoolExecutor(registry.workers) as pool:
        return ["@".join(pair) for pair, found in zip(asked, each(pool, is_manifest, asked), strict=True) if found]
