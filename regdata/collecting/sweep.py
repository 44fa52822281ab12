"""Frees blobs that nobody needs while the registry runs and is pushed to.

A blob's links are taken away, so that nobody is told any more that it is there; caches that claim it are made to forget
it; its data is moved aside by one rename; and before each of these is trusted, there is a wait in which what is inside
the registry gets through, and a look at what has come. What is needed by then goes back, link and data. Why it takes
all of these steps: tests/collecting/test_model.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from os.path import dirname
from typing import Any, Protocol, TypeVar

from regdata.collecting.swept import Item, Swept
from regdata.collecting.unlinked import known, nobodys
from regdata.errors import CleanupError, RegdataError
from regdata.sources.aside import Aside, Batch
from regdata.sources.claims import Claims
from regdata.sources.interrupts import interrupts_held_back
from regdata.sources.names import means
from regdata.sources.paths import blob_path
from regdata.sources.threads import each
from regdata.sources.watch import Link, Watch

# Seconds in which a request that is inside the registry gets through. Batches wait at the same time, so that a whole
# run waits two or three times. It is longer where the registry is slow: twice as long as it takes to answer, and as it
# takes to look for all that a manifest lists, one after the other, as it does when that is pushed. A manifest of that
# has as many layers as Docker allows, or as the largest that is there; a look for a layer that is there takes some
# times as long as for one that is not.
WAIT = 1.0
LISTED = 128
LOOK = 4
# Links that are taken away at a time, and how many times as many are on their way: what turns out to be needed comes
# back as soon as these are through.
BATCH = 500
AT_ONCE = 12
# Of so many folders and uploads that a look takes in batches are twice as large, and so on: each has several looks.
# They grow as long as no more links are away at a time, and so for no longer.
WIDE = 10_000
FEWEST = 2
# How often a cache is made to forget the same claim.
ROUNDS = 3
# How often it is asked whether it does on every connection.
REPLICAS = 8
# How often a wait begins anew because the registry or the disk was slow, and seconds from which on it is too slow.
STALLS = 30
LONGEST = 60.0

Told = TypeVar("Told")


class Journal(Protocol):
    """Where each step is written down before it is taken."""

    def journal(self, *events: dict[str, Any]) -> None:
        """Appends events; they are on the disk when this returns."""


@dataclass
class _Group:
    """Items that go through the steps together; ``step`` is to be done when it is ``due``."""

    items: dict[str, Item]
    aside: Batch
    step: Callable[[_Group], None]
    begun: float = 0.0
    due: float = 0.0
    asking: list[tuple[Item, Link]] = field(default_factory=list)
    uploads: dict[tuple[str, str], int] = field(default_factory=dict)
    rounds: int = 0
    stalls: int = 0

    @property
    def links(self) -> list[Link]:
        return [link for item in self.items.values() for link in item.links]


class Sweep:
    """Sweeps items of one store.

    ``since``: when it was begun to find out what is needed (UTC epoch seconds, the store's clock); a link that is
    younger is a need of its own. ``keeps``: what is freed stays aside. ``wait``: seconds; ``size``: links in a batch;
    ``listed``: how much a manifest may list.
    Without ``claims`` the registry is stopped: nobody is waited for, and nobody asked; what was decided stays undecided
    until `settle`.
    """

    def __init__(
        self,
        aside: Aside,
        claims: Claims | None,
        watch: Watch,
        record: Journal,
        *,
        run: str,
        since: int,
        keeps: bool = False,
        wait: float = WAIT,
        size: int = BATCH,
        listed: int = LISTED,
    ) -> None:
        self.aside, self.claims, self.watch, self.record, self.of = aside, claims, watch, record, run
        self.since, self.keeps, self.wait, self.size = since, keeps, wait if claims else 0, size
        self.swept = Swept()
        self._active: list[_Group] = []
        self._decided: list[Item] = []
        self._held: list[tuple[Batch, bool]] = []
        self._settled = False  # some of it
        self._number = max((batch.number for batch in aside.batches(run)), default=0)
        self._now = 0
        self._listed, self._takes, self._looks = listed, 0.0, 0.0
        self._measured = self._looked = 0.0  # when

    def run(self, items: Iterable[Item]) -> Swept:
        """Takes the items through all steps. Whatever ends this early, what is undecided is put back first."""
        self.swept, self._decided = Swept(), []
        times = min(1 + self.watch.breadth(self.aside.now()) // WIDE, AT_ONCE // FEWEST)
        self._at_once = AT_ONCE // times
        todo = list(_batches(items, self.size * times))
        todo.reverse()
        try:
            with ThreadPoolExecutor(self.claims.registry.workers if self.claims else 1) as self._pool:
                try:
                    self._work(todo)
                finally:
                    self._tidy()
        finally:
            with interrupts_held_back():
                for group in self._active:
                    with suppress(RegdataError):
                        group.aside.undo()
        return self.swept

    def settle(self) -> None:
        """Frees what was decided, or keeps it for some days."""
        while self._held:
            self._settled = True
            batch, keeps = self._held.pop()
            batch.keep() if keeps else batch.drop()

    def undo(self) -> None:
        """Puts back all that is not settled."""
        if self._held and not self._settled:
            self.record.journal({"event": "put back"})
        failed: list[RegdataError] = []
        while self._held:
            try:
                self._held.pop()[0].undo()
            except RegdataError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _work(self, todo: list[list[Item]]) -> None:
        while todo or self._active:
            left = min((group.due for group in self._active), default=time.monotonic()) - time.monotonic()
            if self._active and left <= 0:
                self._advance(min(self._active, key=lambda group: group.due))
            elif todo and len(self._active) < self._at_once:
                self._begin(todo.pop())
            else:
                time.sleep(left)

    def _begin(self, items: list[Item]) -> None:
        """Takes the links away."""
        self._number += 1
        group = _Group({item.digest: item for item in items}, self.aside.batch(self.of, self._number), self._ask)
        self._active.append(group)
        self._journal("unlinking", group, digests=list(group.items))
        self._spare(group, dict.fromkeys(self._new(items), "pushed"))
        for link in group.links:
            self.swept.unlinked += group.aside.take(link.path)
        asking = [(item, link) for item in group.items.values() for link in item.links]
        group.asking = asking if self.claims else []
        self._let_wait(group)

    def _new(self, items: list[Item]) -> list[Item]:
        """Those with a link that was written since; what is dated after now was not written now."""
        dates = [[self.watch.date(link) for link in item.links] for item in items]
        now = self.aside.now()
        return [
            item for item, dated in zip(items, dates, strict=True) if any(self.since <= date <= now for date in dated)
        ]

    def _let_wait(self, group: _Group) -> None:
        group.uploads = self.watch.uploads(self.aside.now())
        self._begin_wait(group)

    def _begin_wait(self, group: _Group) -> None:
        group.begun = time.monotonic()
        group.due = group.begun + max(self.wait, 1.1 * self._takes)

    def _advance(self, group: _Group) -> None:
        """The next step, if the wait was one: a registry or a disk that stalled let nobody through."""
        waited = time.monotonic() - group.begun
        if self._measured < group.due:
            self._measure(group)
        self._now = self.aside.now()
        if self._takes <= waited:
            group.stalls = 0
            self._spare_uploads(group)
            group.step(group)
        elif group.stalls < STALLS and self._takes < LONGEST:
            group.stalls += 1
            self._begin_wait(group)
        else:
            raise CleanupError(
                f"the registry or its disk was too slow {group.stalls + 1} times in a row (a push that is inside it "
                f"may take {self._takes:.0f} s): nothing more was collected, and what was undecided was put back; run "
                "again when less is going on, or stop the registry by gc-before and start it by gc-after"
            )

    def _measure(self, group: _Group) -> None:
        """How long a request that is inside the registry may take, where that is longer than the usual wait. It is good
        for every group that is due by then."""
        begun = time.monotonic()
        self.aside.flush()
        if self.claims:
            self.claims.ping()
            answers = 2 * (time.monotonic() - begun)
            if self._looked < begun - 1:
                within = self.claims.registry.reach.repositories
                known = (name for name in self.watch.known if means(within, name))
                repository = next(chain((link.repository for link in group.links), known), None)
                self._looks = self.claims.look_seconds(repository) if repository else 0.0
                self._looked = time.monotonic()
            takes = max(answers, self._looks * LOOK * self._listed)
            self._takes = takes if takes > WAIT else 0.0
        self._measured = begun

    def _ask(self, group: _Group) -> None:
        """Asks whether a cache claims what has no link any more; what does has to forget it, and is asked again."""
        pairs = [(item, link) for item, link in group.asking if item.digest in group.items]
        answers = list(zip(pairs, self._told(Claims.says, pairs), strict=True))
        self._spare(group, {item: "closed" for (item, _), answer in answers if answer is None})
        claimed = [pair for pair, answer in answers if answer]
        self._spare(group, {item: "pushed" for item, link in claimed if self.watch.is_linked(link, self._now)})
        if group.rounds:
            self._see_replicas([(item, link) for item, link in pairs if item.digest in group.items][:1])
        if group.rounds == ROUNDS:
            self._spare(group, {item: "claimed" for item, _ in claimed})
        group.rounds += 1
        group.asking = [(item, link) for item, link in claimed if item.digest in group.items]
        if group.asking:
            self._told(Claims.forget, group.asking)
            self.swept.cleared += len(group.asking) if group.rounds == 1 else 0
            self._let_wait(group)
        else:
            self._move(group)

    def _told(self, what: Callable[[Claims, str, str], Told], pairs: list[tuple[Item, Link]]) -> list[Told]:
        """What the registry answers for each link."""
        if not (claims := self.claims):
            return []
        size = -(-len(pairs) // claims.registry.workers) or 1
        parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        answers = self._pool.map(lambda part: [what(claims, *link[:2]) for _, link in part], parts)
        return [answer for part in answers for answer in part]

    def _see_replicas(self, cleared: list[tuple[Item, Link]]) -> None:
        """One process was made to forget a claim; another that shares its name may still have it."""
        for item, link in cleared:
            answers = set(self._told(Claims.has, [(item, link)] * REPLICAS))
            if len(answers) > 1 and not self.watch.is_linked(link, self._now):
                raise CleanupError(
                    "several replicas of the registry answer, each with a cache of its own: one was made to forget "
                    f"{link.name} of {link.repository}, another still claims it, and the next push to that one would "
                    "be broken. What was undecided was put back. Switch storage.cache off, give them one Redis (from "
                    "3.1 on), or stop them by gc-before and start them by gc-after"
                )

    def _move(self, group: _Group) -> None:
        """Moves the data aside, but for what is needed by now."""
        self._look(group)
        self._journal("setting aside", group)
        for item in group.items.values():
            if item.frees:
                group.aside.take(blob_path(item.digest))
        group.step = self._decide
        self._let_wait(group)

    def _decide(self, group: _Group) -> None:
        """Frees what is not needed after all that; nobody can come to need it any more without bringing it."""
        if self.claims:
            unlinked = [item.digest for item in group.items.values() if item.frees and not item.links]
            told = known(self.claims, self.aside.storage, unlinked, self._probe) if unlinked else ()
            self._spare(group, {group.items[digest]: "unlinked" for digest in told})
        self._look(group)
        self._journal("deciding", group, count=sum(item.frees for item in group.items.values()))
        self._link_needed(group)
        taken = group.aside.data()
        freed = {digest: item.size for digest, item in group.items.items() if digest in taken}
        keeps = self.keeps and any(self.aside.has(digest) or digest in freed for digest in group.items)
        self._held.append((group.aside, keeps))
        if self.claims:
            self.settle()
        self._active.remove(group)
        self.swept.freed |= freed
        self._journal("collected", group, count=len(freed), bytes=sum(freed.values()))
        self._decided += group.items.values()

    @cached_property
    def _probe(self) -> str:
        """The name of a repository that nobody has; all are listed for it."""
        assert self.claims
        return nobodys(self.claims, self.aside.storage)

    def _look(self, group: _Group) -> None:
        items = group.items.values()
        names = [name for item in items for name in item.names]
        seen = self.watch.look(group.links, names, self._now)
        self._spare(
            group,
            {item: "mentioned" for item in items if item.names & seen.mentioned}
            | {item: "pushed" for item in items if item.digest in seen.linked},
        )

    def _spare_uploads(self, group: _Group) -> None:
        """An upload that was open all the time may have found the data there, and be about to link it."""
        now = self.watch.uploads(self._now)
        sizes = {size for key, size in now.items() if group.uploads.get(key) == size}
        self._spare(group, {item: "uploading" for item in group.items.values() if item.frees and item.size in sizes})

    def _spare(self, group: _Group, reasons: Mapping[Item, str]) -> None:
        """Puts back what was taken of some items, link and data."""
        events = []
        for item, why in reasons.items():
            if group.items.pop(item.digest, None) is None:
                continue
            if item.frees:
                group.aside.give_back(blob_path(item.digest))
            self._link(group, item.links if why == "closed" or self.aside.has(item.digest) else item.needed)
            self.swept.spared[item.digest] = why
            events.append({"event": "spared", "batch": group.aside.number, "blob": item.digest, "reason": why})
        if events:
            self.record.journal(*events)

    def _link(self, group: _Group, links: Iterable[Link]) -> None:
        for link in links:
            self.swept.unlinked -= group.aside.give_back(link.path)

    def _link_needed(self, group: _Group) -> None:
        """What the registry's cache knows whatever repository it is of it claims with a link again."""
        pairs = [(item, link) for item in group.items.values() for link in item.needed]
        self._link(group, [link for _, link in pairs])
        claimed = [pair for pair, answer in zip(pairs, self._told(Claims.has, pairs), strict=False) if answer]
        self.swept.unlinked += sum(group.aside.take(link.path) for _, link in claimed)
        self._told(Claims.forget, claimed)

    def _tidy(self) -> None:
        """Removes the folders that are empty now: at the end, since a folder of links that changes is listed again."""
        links = (link.path for item in self._decided for link in item.links)
        data = (blob_path(item.digest) for item in self._decided if item.frees)
        for _ in each(self._pool, self.aside.remove_empty, map(dirname, chain(links, data))):
            pass

    def _journal(self, event: str, group: _Group, **more: Any) -> None:
        self.record.journal({"event": event, "batch": group.aside.number} | more)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items, some links at a time."""
    batch: list[Item] = []
    links = 0
    for item in items:
        batch.append(item)
        links += len(item.links) + 1
        if links >= size:
            yield batch
            batch, links = [], 0
    if batch:
        yield batch
