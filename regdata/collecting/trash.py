"""What was collected and is kept for some days: it comes back where it is needed again, or is freed in the end."""

from __future__ import annotations

from collections.abc import Iterator, Set

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


def empty(aside: Aside, before: int | None) -> dict[str, int]:
    """Frees what was surely collected before that time (UTC epoch seconds, the store's clock; None: all); bytes by
    digest."""
    freed: dict[str, int] = {}
    for batch in kept(aside):
        if before is None or is_before(batch.date(), before):
            freed |= batch.sizes()
            batch.drop()
    return freed
