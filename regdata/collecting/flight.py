"""Pushes in flight: open uploads, and layers and configs that are up while their manifest is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from typing import NamedTuple

from regdata.inventory.graph import GRACE
from regdata.inventory.inventory import Inventory
from regdata.planning.rules import needed
from regdata.show.words import count
from regdata.sources.dates import is_before
from regdata.sources.site import Site
from regdata.sources.used import Used

NAMED = 5  # of the repositories that are pushed to


class Flight(NamedTuple):
    """Where uploads are open, by repository; and the blobs (repository, digest) that no manifest uses yet."""

    uploads: list[str]
    blobs: list[tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.uploads or self.blobs)

    def __str__(self) -> str:
        said = []
        if self.uploads:
            images = _some(self.uploads)
            were = "was" if len(self.uploads) == 1 else "were"
            said.append(f"{count(len(self.uploads), 'upload')} {were} in flight before the collection ({images})")
        if self.blobs:
            images = _some(image for image, _ in self.blobs)
            said.append(
                f"{count(len(self.blobs), 'blob')} pushed less than 2 hours ago, or nobody knows when, had no manifest "
                f"before the collection ({images}): a push may be in flight"
            )
        return ", and ".join(said)


def _some(images: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = sorted(set(images))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def in_flight(
    site: Site, fresh: Inventory, held: Callable[[], Set[tuple[str, str]]] = frozenset, scanned_at: int = 0
) -> Flight:
    """What is being pushed; blobs only where the registry's folder was read, as ``fresh`` has it. ``held``
    gives repository and digest of what those used, at a scan then, that are deleted by now."""
    young = site.now - GRACE
    uploads = [upload.repository for upload in site.uploads() if not is_before(upload.started, young)]
    found = list(_blobs(site, fresh, young)) if fresh.from_store else []
    used = held() if found else ()
    return Flight(uploads, sorted(one for one, date in found if one not in used or not is_before(date, scanned_at + 1)))


def _blobs(site: Site, fresh: Inventory, young: int) -> Iterator[tuple[tuple[str, str], int]]:
    """The blobs that nobody needs and that came, or were linked, after ``young``, or nobody knows when, with that date;
    but for those that a manifest used which was deleted since."""
    stored = fresh.blobs[fresh.stored]
    dates = dict(zip(stored["blob_hash"], stored["blob_date"].fillna(0).astype(int), strict=True))
    unneeded = dates.keys() - needed(fresh)
    for image in fresh.repositories["image_name"] if unneeded else ():
        links = {digest: date for digest, date in site.store.links(image).items() if digest in unneeded}
        came = {digest: max(date, dates[digest]) for digest, date in links.items()}
        came = {
            digest: date
            for digest, date in came.items()
            if not (is_before(links[digest], young) and is_before(dates[digest], young))
        }
        if came:
            used = Used(site.store, image)
            yield from (((image, digest), date) for digest, date in came.items() if not used.has(digest, date))
