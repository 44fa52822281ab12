"""What was collected and is kept for some days: it comes back where it is needed again, or is freed in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set

from regdata.show.words import count
from regdata.sources.aside import Aside, Batch
from regdata.sources.dates import is_before
from regdata.sources.paths import linked_as

DAY = 86400


def kept(aside: Aside, run: str = "") -> Iterator[Batch]:
    """What is kept, of one run or of all."""
    return (batch for batch in aside.batches(run) if batch.state == "kept")


def size(aside: Aside) -> int:
    """The bytes of blobs that are kept."""
    return sum(sum(batch.sizes().values()) for batch in kept(aside))


def bring_back(aside: Aside, needed: Set[str]) -> set[str]:
    """Puts back the blobs that are needed, by any of their names, and their links, whichever run took them; the digests
    of those that came back. Links come first: data that is there is missed by no later run, should this be killed."""
    batches = [(batch, batch.data(), batch.links()) for batch in kept(aside)] if needed else []
    taken = [(digest, paths) for *_, links in batches for digest, paths in links.items()]
    wanted = needed | {digest for digest, paths in taken if not needed.isdisjoint(map(linked_as, paths))}
    here = {digest for _, data, _ in batches for digest in data}
    for batch, _, links in batches:
        for digest in wanted & links.keys():
            for path in links[digest] if digest in here or aside.has(digest) else []:
                batch.give_back(path)
    back = set()
    for batch, data, _ in batches:
        sizes = batch.sizes() if wanted & data.keys() else {}
        for digest in wanted & data.keys():
            if not aside.has_again(digest, sizes[digest]) and batch.give_back(data[digest]):
                back.add(digest)
    return back


def drop_copies(aside: Aside) -> dict[str, int]:
    """Frees the data that has come anew, and links that have; bytes of blobs by digest. Other links to that data stay:
    an image that needs them may be brought back. What a disk has lost a part of is no copy."""
    freed: Counter[str] = Counter()
    for batch in kept(aside):
        data = batch.data()
        if came := [digest for digest in data if aside.has(digest)]:
            sizes, links = batch.sizes(), batch.links()
            again = [digest for digest in came if aside.has_again(digest, sizes[digest])]
            for path in [data[digest] for digest in again] + [one for digest in again for one in links.get(digest, [])]:
                if aside.is_whole(path):
                    batch.discard(path)
            freed.update({digest: sizes[digest] for digest in again})
            data = batch.data()
        if not data and not batch.links():
            batch.drop()
    return freed


def frees(aside: Aside, days: float, now: int, *, all_of_it: bool = False, copies: bool = True) -> int:
    """The bytes that a run frees here: what is due, and (``copies``) what has come anew."""
    going = {batch.folder: sum(batch.sizes().values()) for batch in due(aside, days, now, all_of_it=all_of_it)}
    staying = [batch.sizes() for batch in kept(aside) if batch.folder not in going] if copies else []
    again = (size for sizes in staying for digest, size in sizes.items() if aside.has_again(digest, size))
    return sum(going.values()) + sum(again)


def due(aside: Aside, days: float, now: int, *, all_of_it: bool = False, besides: str = "") -> Iterator[Batch]:
    """What was surely collected more than so many days ago (``now``: UTC epoch seconds, the store's clock), or all of
    it; ``besides``: not by this run. What a run was killed over as it freed it is due whatever its age."""
    for batch in kept(aside):
        is_due = all_of_it or not days or is_before(batch.date(), now - int(days * DAY))
        if is_due and batch.run != besides:
            yield batch
    yield from (batch for batch in aside.batches() if batch.state == "freed")


def came_back(back: Set[str]) -> list[str]:
    """A note on what was brought back."""
    if not back:
        return []
    return [f"{count(len(back), 'blob')} came back from what was set aside: they are needed again"]


def empty(batches: Iterable[Batch]) -> dict[str, int]:
    """Frees them; bytes by digest."""
    freed: Counter[str] = Counter()
    for batch in batches:
        freed.update(batch.sizes())
        batch.drop()
    return freed
