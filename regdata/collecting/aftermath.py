"""After a collection: caches that claim what is gone, repositories that are empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

from regdata.collecting.sweep import WAIT
from regdata.errors import CleanupError, RegistryError
from regdata.inventory.graph import GRACE
from regdata.records.record import Record
from regdata.show.words import count
from regdata.sources.claims import Claims
from regdata.sources.site import Site

# How often a cache that was made to forget a claim is asked whether it did, on connections of their own.
REPLICAS = 8


class Claimed(NamedTuple):
    """What the registry's cache claimed of blobs that are gone: of how many that were asked for, which (digests) it was
    made to forget, and which it goes on claiming. Then a push would skip the layer, get 201, and be broken."""

    asked: int = 0
    cleared: Sequence[str] = ()
    left: Sequence[str] = ()

    @property
    def note(self) -> list[str]:
        """That nothing is to be done about it."""
        if not self.cleared:
            return []
        return [f"the registry's cache was made to forget {count(len(self.cleared), 'blob')} that had been collected"]

    @property
    def error(self) -> list[str]:
        """What is to be done about it, where manifests' bytes are gone, too: those it can't be made to forget."""
        claimed = self.left or self.cleared
        if not claimed:
            return []
        told = (
            f"the registry still answers for {len(claimed)} of {self.asked} collected blobs from its cache (such as "
            f"{claimed[0]})"
        )
        if self.left:
            told += ", whatever it is told: the next push that uses one of them would be broken"
        else:
            told += ". It was made to forget them, but the very same image that is pushed again could not be pulled"
        return [f"{told}. Restart the registry now, and have gc-after do so (or flush its Redis)"]


Blobs = list[tuple[str, str]]


def clear(site: Site, blobs: Iterable[tuple[str, str]], *, seconds: float | None = None) -> tuple[Claimed, Blobs]:
    """Asks the registry for those blobs (image, digest) that are gone, and makes its cache forget what it claims; those
    that are not gone. Raises CleanupError where it does not answer, and be it after some ``seconds`` (if not given, as
    many as it may take to start)."""
    claims, blobs = Claims(site.registry), list(blobs)
    try:
        check_up(site, seconds)
        with ThreadPoolExecutor(site.registry.workers) as pool:
            there, gone = _told(pool, site.presence(), blobs)
            claimed, _ = _told(pool, site.registry.blob_exists, gone)
            # Some may have been pushed again.
            _, claimed = _told(pool, site.presence() if claimed else _nobody, claimed)
            list(pool.map(lambda blob: claims.forget(*blob), claimed))
            left, _ = _told(pool, claims.has, claimed + claimed[:1] * REPLICAS)
    except RegistryError as error:
        told = f"the registry does not answer after the collection{_broken_link(site, blobs)}: {error}"
        raise CleanupError(told) from None
    cleared = [digest for image, digest in claimed if (image, digest) not in left]
    return Claimed(len(gone), cleared, sorted({digest for _, digest in left})), there


def _broken_link(site: Site, blobs: Blobs) -> str:
    """In words, the file of a link to one of these blobs at which the registry fails; empty where there is none."""
    for image in sorted({image for image, _ in blobs}) if site.from_store else ():
        for path in site.store.broken_links(image, of_blobs=True).values():
            return f", since {path} holds no digest (remove the folder that it is in)"
    return ""


def _told(pool: Executor, ask: Callable[[str, str], bool], blobs: Iterable[tuple[str, str]]) -> tuple[Blobs, Blobs]:
    """Those of which it is said, and the others."""
    asked = list(blobs)
    answers = list(zip(asked, pool.map(lambda blob: ask(*blob), asked), strict=True))
    return [blob for blob, answer in answers if answer], [blob for blob, answer in answers if not answer]


def _nobody(image: str, digest: str) -> bool:
    return False


def held(blobs: Sequence[tuple[str, str]], left: Sequence[tuple[str, str]]) -> list[str]:
    """A note on blobs that were to be freed and are still stored, where the registry is known by its API alone."""
    if not left:
        return []
    return [
        f"{len(left)} of {len(blobs)} blobs that were to be freed are still stored, such as {left[0][1]}: manifests "
        "that no tag leads to, which the API does not show, or what is outside registry.repositories hold them, or "
        "gc-command collects another store. Without "
        "base_path the bytes predicted are the most that can be freed"
    ]


def check_up(site: Site, seconds: float | None = None) -> None:
    """Gives a registry that gc-after has just started the time to answer."""
    deadline = time.monotonic() + (site.start_time if seconds is None else seconds)
    while True:
        try:
            return site.registry.check()
        except RegistryError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def remove_empty(
    site: Site, record: Record, *, before: int, among: Collection[str] | None = None, unlinked: bool = False
) -> list[str]:
    """Removes repositories that hold no tag, no manifest and no upload, and got no layer for the grace: the catalog
    then no longer lists them. ``among``: no others. Unless they are ``unlinked`` already, their links are taken away
    first, and the registry's cache forgets them: it would go on claiming what is linked no more."""
    before -= GRACE
    found = [one for one in site.empty_repositories(before=before) if among is None or one in among]
    if found and not unlinked:
        claims, links = (
            Claims(site.registry),
            [(one, digest) for one in found for digest in site.store.links(one)],
        )
        with ThreadPoolExecutor(site.registry.workers) as pool:
            list(pool.map(lambda link: claims.forget(*link), links))
    closed = []
    for repository in found:
        record.journal({"event": "removing repository", "image": repository})
        if site.store.close_repository(repository, before=before):
            closed.append(repository)
    if closed:
        time.sleep(WAIT)  # what is inside the registry gets through, and is seen
    removed = []
    for repository in closed:
        if site.store.remove_repository(repository):
            record.journal({"event": "removed repository", "image": repository})
            removed.append(repository)
    return removed
