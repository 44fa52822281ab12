"""After a collection: caches that claim what is gone, repositories that are empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from regdata.collecting.sweep import WAIT
from regdata.collecting.unlinked import known
from regdata.errors import AccessError, CleanupError, RegdataError, RegistryError
from regdata.inventory.graph import GRACE
from regdata.records.record import Record
from regdata.show.words import count
from regdata.sources.claims import Claims
from regdata.sources.names import means
from regdata.sources.site import Site
from regdata.sources.source import Store
from regdata.sources.storage import Storage
from regdata.sources.threads import each

# How often a cache that was made to forget a claim is asked whether it did, on connections of their own.
REPLICAS = 8
_BEFORE_A_PUSH = (
    "Its cache may go on claiming what was collected, and a push that uses it would be broken: restart the registry "
    "(or flush its Redis), then run again (clear.py orphans del is enough), which has it forget that first"
)


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
NONE: Blobs = []


def clear(
    site: Site, blobs: Iterable[tuple[str, str]], *, cut: Blobs = NONE, seconds: float | None = None
) -> tuple[Claimed, Blobs]:
    """Asks the registry for those blobs (image, digest) that are gone, and makes its cache forget what it claims; those
    that are not gone. ``cut``: blobs that are there, and are linked by that image no more. Outside
    registry.repositories a login that may not ask is not asked again: where the registry is not restarted, a run that
    would need it is refused before. Raises CleanupError where it does not answer, and be it after some ``seconds`` (if
    not given, as many as it may take to start)."""
    claims, blobs, may = Claims(site.registry), list(blobs), partial(_where_it_may, site.registry.reach.repositories)
    try:
        check_up(site, seconds)
        with ThreadPoolExecutor(site.registry.workers) as pool:
            there, gone = _told(pool, site.presence(), blobs)
            claimed, _ = _told(pool, may(site.registry.blob_exists), gone)
            # Some may have been pushed again.
            _, claimed = _told(pool, site.presence() if claimed else _nobody, claimed)
            claims_still, _ = _told(pool, may(site.registry.blob_exists), cut)
            claimed += [one for one in claims_still if not site.store.is_linked(*one)]
            list(each(pool, lambda blob: claims.forget(*blob), claimed))
            left, _ = _told(pool, claims.has, claimed + claimed[:1] * REPLICAS)
    except RegistryError as error:
        told = f"the registry does not answer after the collection{_broken_link(site, blobs)}: {error}"
        raise CleanupError(told) from None
    asked, remaining = {digest for _, digest in [*gone, *cut]}, {digest for _, digest in left}
    cleared = dict.fromkeys(digest for _, digest in claimed if digest not in remaining)
    return Claimed(len(asked), [*cleared], sorted(remaining)), there


def _where_it_may(within: Sequence[str] | None, ask: Callable[[str, str], bool]) -> Callable[[str, str], bool]:
    """``ask``, which is no where the login may not, outside of what registry.repositories means."""

    def answer(image: str, digest: str) -> bool:
        try:
            return ask(image, digest)
        except AccessError:
            if means(within, image):
                raise
            return False

    return answer


def _broken_link(site: Site, blobs: Blobs) -> str:
    """In words, the file of a link to one of these blobs at which the registry fails; empty where there is none."""
    for image in sorted({image for image, _ in blobs}) if site.from_store else ():
        for path in site.store.broken_links(image, of_blobs=True).values():
            return f", since {path} holds no digest (remove the folder that it is in)"
    return ""


def _told(pool: Executor, ask: Callable[[str, str], bool], blobs: Iterable[tuple[str, str]]) -> tuple[Blobs, Blobs]:
    """Those of which it is said, and the others."""
    asked = list(blobs)
    answers = list(zip(asked, each(pool, lambda blob: ask(*blob), asked), strict=True))
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


class Goes(NamedTuple):
    """What gc-command is to take. links: by which images (image, digest) have the blobs that are to be freed; the
    registry's cache is made to forget them. manifests: digests of manifests' bytes, which are put back where the
    registry is not restarted by gc-after: its cache knows them, and it would not store the same again. cuts: whether it
    also takes links to blobs that stay, as 3.x does of those that another repository alone needs."""

    links: Sequence[tuple[str, str]]
    manifests: Sequence[str] = ()
    cuts: bool = False


class Cache(NamedTuple):
    """What the registry's cache said after gc-command. lives: whether it is that of before; silent: why it can't be
    told; unlinked: see `_unlinked`."""

    claimed: Claimed = Claimed()
    left: Sequence[tuple[str, str]] = ()
    lives: bool = False
    silent: str = ""
    unlinked: Sequence[str] = ()

    @property
    def may_know(self) -> bool:
        """Whether it may know manifests' bytes that were collected."""
        return bool(self.lives or self.silent or self.claimed.left or self.claimed.cleared)

    def errors(self, storage: Storage | None) -> list[str]:
        """What is to be done about it. In a ``storage`` that can be changed manifests' bytes are put back."""
        claimed = self.claimed.error if self.claimed.left or (self.claimed.cleared and not storage) else []
        return [*([self.silent] if self.silent else []), *claimed, *self.unlinked]


def made_to_forget(
    site: Site,
    storage: Storage | None,
    goes: Goes,
    freed: Mapping[str, int] | None,
    lives: Callable[[], bool],
    *,
    ended: bool,
    linked: Mapping[str, Set[str]],
) -> Cache:
    """Has the registry's cache forget what it claims of what is gone, however the commands ended; it is waited for
    where gc-after ``ended`` well. ``linked``: see `links_now`."""
    try:
        now = {} if freed is None else links_now(site)
        gone = goes.links if freed is None else _linked(site, goes, freed, now)
        cut = [(image, digest) for image, was in linked.items() for digest in was - now.get(image, set())]
        cut = sorted({*cut} - {*gone})
        claimed, left = clear(site, gone, cut=cut, seconds=site.start_time if ended else 0)
        unlinked = [] if storage is None else _unlinked(site, storage, gone, {*(freed or {})} - {*goes.manifests})
        return Cache(claimed, left, lives(), unlinked=unlinked)
    except RegdataError as error:
        return Cache(silent=f"{error}. {_BEFORE_A_PUSH}")


def _linked(site: Site, goes: Goes, freed: Mapping[str, int], now: Mapping[str, Set[str]]) -> list[tuple[str, str]]:
    """Where that which is gone was linked; what was not to go may be among it, and what came and went beside. ``now``:
    see `links_now`."""
    stored = site.store.blob_sizes()
    dangling = {(image, digest) for image, digests in now.items() for digest in digests if digest not in stored}
    return sorted(dangling | {one for one in goes.links if one[1] in freed})


def links_now(site: Site) -> dict[str, set[str]]:
    """The blobs that each repository has links to, of those that registry.repositories means."""
    within = site.registry.reach.repositories
    return {image: {*site.store.links(image)} for image in site.store.repositories() if means(within, image)}


def links_to(store: Store, digests: Set[str]) -> Blobs:
    """By which images these blobs are linked."""
    return [(image, digest) for image in store.repositories() for digest in store.links(image) if digest in digests]


def _unlinked(site: Site, storage: Storage, links: Iterable[tuple[str, str]], gone: set[str]) -> list[str]:
    """What is to be done about blobs that were collected and that no repository linked, but one may claim."""
    claimed = known(Claims(site.registry), storage, gone - {digest for _, digest in links})
    if not claimed:
        return []
    return [
        f"the registry's cache knows {count(len(claimed), 'blob')} that were collected and that no repository linked "
        f"(such as {min(claimed)}), or the login may not ask: a folder of one may have been removed by hand, and a "
        "push into it would be broken. Restart the registry now, and have gc-after do so (or flush its Redis)"
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


def remove_empty(site: Site, record: Record, *, before: int, among: Collection[str] | None = None) -> list[str]:
    """Removes repositories that hold no tag, no manifest and no upload, and got no layer for the grace: the catalog
    then no longer lists them. ``among``: no others. The registry's cache forgets what links they have (a collection
    beside pushes leaves some) once these are out of its reach: it would go on claiming what is linked no more, and to
    forget takes a link away. They are put back where something was pushed meanwhile."""
    before -= GRACE
    wanted = [one for one in site.empty_repositories(before=before) if among is None or one in among]
    removed: list[str] = []
    if not wanted:
        return removed
    record.journal(*({"event": "removing repository", "image": one} for one in wanted))
    try:
        closed = {one: links for one in wanted if (links := _closed(site, one, before)) is not None}
        pairs = [(one, digest) for one, links in closed.items() for digest in links]
        if pairs and not _forgets(site, pairs):  # else nobody can find a layer there that he has not brought
            return removed
        time.sleep(WAIT if pairs else 0)  # what is inside the registry gets through, and is seen
        for repository in closed:
            if site.store.remove_repository(repository, before=before):
                removed.append(repository)
        return removed
    finally:
        site.store.settle(last=False)  # what was not removed is open again
        if removed:
            record.journal(*({"event": "removed repository", "image": one} for one in removed))


def _closed(site: Site, repository: str, before: int) -> list[str] | None:
    """The links that a repository had when it was closed; None where something came into it."""
    links = [*site.store.links(repository)]
    return links if site.store.close_repository(repository, before=before) else None


def _forgets(site: Site, links: Blobs) -> bool:
    """Whether the registry's cache, and each of several, forgets these links, which were taken out of its reach."""
    claims = Claims(site.registry)
    with ThreadPoolExecutor(site.registry.workers) as pool:
        list(each(pool, lambda link: claims.forget(*link), links))
        return not any(each(pool, lambda link: claims.has(*link), links + links[:1] * REPLICAS))
