"""What was collected and is kept for some days: it comes back where it is needed again, or is freed in the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from regdata.sources.aside import Aside, Batch
from regdata.sources.dates import is_before
from regdata.sources.paths import blob_path

DAY = 86400


def kept(aside: Aside, run: str = "") -> Iterator[Batch]:
    """What is kept, of one run or of all."""
    return (batch for batch in aside.batches(run) if batch.state == "kept")


def size(aside: Aside) -> int:
    """The bytes of blobs that are kept."""
    return sum(sum(batch.sizes().values()) for batch in kept(aside))


def bring_back(aside: Aside, needed: Set[str], run: str = "") -> set[str]:
    """Puts back the blobs that are needed, data and links, and drops what has come anew; the digests that came back."""
    back = set()
    for batch in kept(aside, run):
        data = batch.data()
        again = {digest for digest in data if aside.has(digest)}
        links = batch.links() if again or not needed.isdisjoint(data) else {}
        for digest in again:
            for path in (blob_path(digest), *links.get(digest, [])):
                batch.discard(path)
        for digest in (needed & data.keys()) - again:
            for path in (blob_path(digest), *links.get(digest, [])):
                batch.give_back(path)
            back.add(digest)
        if not batch.data() and not batch.links():
            batch.drop()
    return back


def due(aside: Aside, days: float, now: int, *, all_of_it: bool = False, besides: str = "") -> Iterator[Batch]:
    """What was surely collected more than so many days ago (``now``: UTC epoch seconds, the store's clock), or all of
    it; ``besides``: not by this run. What a run was killed over as it freed it is due whatever its age."""
    for batch in kept(aside):
        is_due = all_of_it or not days or is_before(batch.date(), now - int(days * DAY))
        if is_due and batch.run != besides:
            yield batch
    yield from half_freed(aside)


def half_freed(aside: Aside) -> Iterator[Batch]:
    """What a run was killed over as it freed it."""
    return (batch for batch in aside.batches() if batch.state == "freed")


def empty(batches: Iterable[Batch]) -> dict[str, int]:
    """Frees them; bytes by digest."""
    freed: dict[str, int] = {}
    for batch in batches:
        freed |= batch.sizes()
        batch.drop()
    return freed
