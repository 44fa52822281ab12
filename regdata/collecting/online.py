"""A collection of our own, while the registry runs: heal, sweep, and keep or free what was collected."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from collections.abc import Collection as Digests
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc

from regdata.collecting import trash
from regdata.collecting.sweep import LISTED, WAIT, Journal, Sweep
from regdata.collecting.swept import SPARED, Item, Swept
from regdata.collecting.unlinked import ghosts
from regdata.inventory.inventory import Inventory
from regdata.show.words import count
from regdata.sources.aside import Aside
from regdata.sources.claims import Claims
from regdata.sources.dates import is_before
from regdata.sources.guard import guarded
from regdata.sources.interrupts import interrupts_held_back
from regdata.sources.names import means
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage
from regdata.sources.used import Used
from regdata.sources.watch import Link, Watch, read_links


@dataclass(frozen=True)
class Reading:
    """What a fresh reading of a registry says to its collector.

    began: when it began (UTC epoch seconds). manifests: those of each repository. stored: the digests of blobs that are
    there; missing: of those that a manifest names and that are not; lacking: repository and digest of these, and of
    all that may be named where a manifest can't be read. frees: bytes of the blobs that nobody needs, by digest. empty:
    repositories that hold nothing and are to be removed. A link that was not surely written before ``young`` (UTC epoch
    seconds) is a push in flight, unless a manifest used it: it is one of ``held``, repository and digest, or is older
    than the deletion of one that mentions it. lasting: those that are freed only if the registry restarts. listed: how
    much a manifest lists, at most.
    """

    began: int
    manifests: Mapping[str, Digests[str]]
    stored: Digests[str]
    missing: Digests[str] = frozenset()
    lacking: Set[tuple[str, str | None]] = frozenset()
    frees: Mapping[str, int] = field(default_factory=dict)
    empty: Digests[str] = frozenset()
    young: int | None = None
    held: Digests[tuple[str, str]] = frozenset()
    lasting: Digests[str] = frozenset()
    listed: int = LISTED

    @classmethod
    def of(cls, inventory: Inventory, *, began: int, **more: Any) -> Self:
        """What an inventory knows whose reading began then; ``more``: what is to be done about it."""
        manifests, stored = inventory.manifests.groupby("image_name")["manifest_hash"], inventory.stored
        missing = inventory.missing
        return cls(
            began=began,
            manifests={str(image): frozenset(group) for image, group in manifests},
            stored=frozenset(inventory.blobs[stored]["blob_hash"]),
            missing=missing,
            lacking=frozenset(_lacking(inventory, missing)),
            listed=max(LISTED, _most(inventory.refers.edges["manifest"])),
            **more,
        )

    def needed(self, links: Sequence[Link]) -> tuple[Link, ...]:
        """Those of which a manifest of their repository may name what they lead to, which is not there."""
        return tuple(one for one in links if {(one.repository, one.name), (one.repository, one.target)} & self.lacking)


class Pause(AbstractContextManager[object], Protocol):
    """A time in which the registry is stopped, or takes no pushes."""

    def forgot(self) -> bool:
        """Whether its cache knows nothing any more of what it knew before that. CleanupError where that can't be told,
        or where it does and can't be collected while it runs."""


@dataclass(frozen=True)
class Collected:
    """What a collection did. freed: bytes by digest of what is gone, set_aside of what is kept for some days; emptied:
    of the freed what had been kept, kept: the bytes that are by now. back: the digests that came back from
    there. healed: stale claims and links without data; swept: the blobs."""

    freed: dict[str, int]
    set_aside: dict[str, int]
    emptied: dict[str, int]
    kept: int
    back: set[str]
    healed: Swept
    swept: Swept

    @property
    def notes(self) -> list[str]:
        """What there is to say of it."""
        notes = []
        if healed := self.healed.cleared + self.healed.unlinked:
            notes.append(
                f"cleared {count(healed, 'stale claim')} that earlier collections had left "
                f"({count(self.healed.unlinked, 'link')} without data, {self.healed.cleared:,} in the registry's cache)"
            )
        closed = {digest: why for digest, why in self.healed.spared.items() if why == "closed"}
        reasons = list((closed | self.swept.spared).values())
        notes += [
            f"{count(reasons.count(why), 'blob')} stayed: {said}" for why, said in SPARED.items() if why in reasons
        ]
        return notes + trash.came_back(self.back)


def collect(
    storage: Storage,
    registry: Registry,
    reading: Reading,
    record: Journal,
    *,
    run: str,
    keeps_days: float = 0,
    as_of: int | None = None,
    empties: bool = False,
    pause: Pause | None = None,
    wait: float = WAIT,
    within: Sequence[str] | None = None,
) -> Collected:
    """Collects what ``reading`` says, and frees what was set aside more than ``keeps_days`` ago, or before this run
    (``empties``); ``as_of``: ago from then (UTC epoch seconds), else from now.

    ``within``: names and patterns of the repositories that may be asked though nothing in them goes (None: all).
    ``run``: the name of what is set aside. Within ``pause`` it goes without waits; if the registry comes back from that
    knowing what it knew before, all is put back, and collected while it runs. Raises CleanupError, RegistryError or
    StorageError; what was undecided is back by then.
    """
    aside = Aside(storage)
    with guarded(aside, run):
        now = aside.now()
        back = trash.bring_back(aside, frozenset(reading.missing))
        emptied = Counter(trash.drop_copies(aside))
        watch = Watch(storage, reading.manifests, now)
        ailing, going, young, left = _sorted(aside, reading, back, partial(means, within))
        items = [*ailing, *going]
        watch.expect(reading.frees, [link for item in items for link in item.links], left)
        # The file system's clock, which may not be ours, at the time when the reading began.
        since = reading.began + now - int(time.time())
        sweeps = partial(
            Sweep,
            aside,
            watch=watch,
            record=record,
            run=run,
            since=since,
            keeps=keeps_days > 0,
            wait=wait,
            listed=reading.listed,
        )
        done = _paused(pause, sweeps(None), ailing, going) if pause else None
        if done is None:
            lasting = [item.digest for item in going if pause and item.digest in reading.lasting]
            sweep = sweeps(Claims(registry))
            healed = sweep.run(ailing)
            swept = sweep.run([item._replace(frees=item.frees and item.digest not in lasting) for item in going])
            swept.spared |= dict.fromkeys(lasting, "lasting")
        else:
            healed, swept = done
        swept.spared |= dict.fromkeys(young, "young")
        emptied.update(
            trash.empty(trash.due(aside, keeps_days, now if as_of is None else as_of, all_of_it=empties, besides=run))
        )
        kept = trash.size(aside)
    freed, set_aside = ({}, swept.freed) if keeps_days else (swept.freed, {})
    freed = Counter(freed)
    freed.update(emptied)
    return Collected(freed, set_aside, emptied, kept, back, healed, swept)


def _paused(pause: Pause, sweep: Sweep, ailing: list[Item], going: list[Item]) -> tuple[Swept, Swept] | None:
    """What came of them; None where all is back, since the registry goes on claiming it."""
    try:
        with pause:
            done = sweep.run(ailing), sweep.run(going)
        if pause.forgot():
            sweep.settle()
            return done
    finally:
        with interrupts_held_back():
            sweep.undo()
    return None


def _lacking(inventory: Inventory, missing: Digests[str]) -> Iterator[tuple[str, str]]:
    """Repository and digest of what a manifest there names and is not there; and of what is linked where a manifest
    can't be read, which may name it."""
    if missing:
        named = inventory.references_to(missing)[["manifest_hash", "reference_hash"]].merge(inventory.manifests)
        yield from zip(named["image_name"], named["reference_hash"], strict=True)
    linked = inventory.oddities[inventory.oddities["what"] == "link"]
    yield from zip(linked["image_name"], linked["hash"], strict=True)


def _most(numbers: pa.ChunkedArray) -> int:
    """How often the most frequent one is there."""
    return int(pc.max(pc.value_counts(numbers).field("counts")).as_py() or 0)


def _is_young(link: Link, reading: Reading, used: Callable[[str], Used]) -> bool:
    """Whether a push in flight wrote it. ``used``: by the deleted manifests of a repository."""
    if reading.young is None or link.target is None or is_before(link.date, reading.young):
        return False
    held = (link.repository, link.target) in reading.held
    return not held and not used(link.repository).has(link.target, link.date)


def _sorted(
    aside: Aside, reading: Reading, back: Digests[str], is_within: Callable[[str], bool]
) -> tuple[list[Item], list[Item], set[str], list[Link]]:
    """What is to be healed and what is to go, each with its links; what a push in flight links; and the folders that
    are left of links to what goes where nobody may be asked. ``is_within``: whether a repository is one of those that
    may be asked though nothing in it goes. In others there is nothing to be healed.

    To be healed are links to data that is gone, and the folders that are left of links: what the registry's cache may
    still claim, so that the next push that uses it would be broken. Links that a manifest needs come back if that
    claims nothing by then. With an empty repository its links go.
    """
    ailing: dict[str, list[Link]] = defaultdict(list)
    going: dict[str, list[Link]] = defaultdict(list)
    young, left = set(), []
    used = lru_cache(1)(partial(Used, aside.storage))  # all that was ever deleted: that of one repository is kept
    repositories = aside.storage.repositories()
    inside = set(filter(is_within, repositories))
    for repository in repositories:
        for link in read_links(aside.storage, repository):
            digest = link.target or link.name
            if repository not in inside and not (link.target and digest in reading.frees):
                left += [link] if digest in reading.frees else []
            elif digest in reading.frees or repository in reading.empty:
                going[digest].append(link)
                if _is_young(link, reading, used):
                    young.add(digest)
            elif link.target is None or not (digest in reading.stored or digest in back or aside.has(digest)):
                ailing[digest].append(link)
    linked = {one: going[one] for one in reading.frees if one in going}
    for digest, links in ghosts(linked, inside).items():
        going[digest] += links
    return (
        [Item(digest, 0, tuple(links), frees=False, needed=reading.needed(links)) for digest, links in ailing.items()],
        [
            Item(digest, reading.frees.get(digest, 0), tuple(going[digest]), frees=digest in reading.frees)
            for digest in {**reading.frees, **going}
            if digest not in young
        ],
        young,
        left,
    )
