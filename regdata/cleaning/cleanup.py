"""Plan -> deletions, collection, verification.

Nothing is deleted before everything that can be checked has been checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Collection as Several
from contextlib import suppress
from typing import Any

import pandas as pd

from regdata.cleaning.bytag import by_tag, left, told
from regdata.cleaning.checks import check_how, check_plan
from regdata.cleaning.collectable import check_collectable, uncollectable
from regdata.cleaning.deletion import Deletion, Progress
from regdata.cleaning.order import Manifest, Tag, pairs
from regdata.cleaning.outcome import Members, Outcome
from regdata.cleaning.result import Result, facts_of
from regdata.cleaning.review import vanished
from regdata.cleaning.revival import Revival
from regdata.cleaning.verification import Verdict, needed_again, verify, verify_gone, verify_pushed
from regdata.collecting.aftermath import Goes, links_to, remove_empty
from regdata.collecting.commands import Collection, collect
from regdata.collecting.flight import Flight, in_flight
from regdata.collecting.own import (
    Promise,
    collect_own,
    collects_itself,
    promised,
    settle_removals,
    stops,
    undo_unplanned,
    unneeded,
    with_trash,
)
from regdata.collecting.sweep import WAIT
from regdata.config import Config
from regdata.errors import CleanupError, RegdataError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import can_change, read_site, scan_site
from regdata.planning.plan import Plan
from regdata.planning.rules import freed, held_by, manifests_left
from regdata.records.record import Record
from regdata.show.words import count, size
from regdata.sources.progress import now
from regdata.sources.site import Site
from regdata.sources.source import Part
from regdata.values import check_kind

# How often the registry is read anew for what misses something that was deleted.
ROUNDS = 10


def apply(
    plan: Plan,
    config: Config,
    *,
    gc: bool = True,
    force: bool = False,
    empty_trash: bool = False,
    progress: Progress | None = None,
    batch: int | None = None,
) -> Result:
    """Carries ``plan`` out: deletes, runs the registry's garbage collection (unless ``gc`` is False), and verifies.

    The run's record is written into a new folder under ``reports``. ``force`` overrides ``limits``; ``empty_trash``
    frees what earlier runs set aside (trash_days) now. ``progress`` is told how many manifests of how many are decided;
    ``batch``: how many may go between two looks at their images (hundreds, if not given). Raises ConfigError,
    CleanupError, RegistryError or StorageError before anything is deleted; what goes wrong later is in Result.errors.
    """
    check_kind(Plan, plan=plan)
    check_kind(Config, config=config)
    how = check_how(gc=gc, force=force, empty_trash=empty_trash, batch=batch)
    record = Record.open(config, sql_id="apply", action="del", condition=plan.condition)
    with record.closed_on_error():
        record.save_plan(plan.tags, plan.manifests, plan.pushed)
        site = Site.open(config)
        result = clean_up(plan, config, site, record, progress=progress, **how)
    record.finish()
    return result


def clean_up(
    plan: Plan,
    config: Config,
    site: Site,
    record: Record,
    *,
    gc: bool,
    force: bool,
    empty_trash: bool = False,
    progress: Progress | None = None,
    batch: int | None = None,
) -> Result:
    """The same of a site at hand, into a record that is open and holds the plan."""
    with site.lock(str(record.folder)):
        site.see_clock()
        undo_unplanned(config, site, plan.inventory)  # of a run that was killed, and was seen by no other
        settle_removals(site)
        images = check_plan(plan, config, site, gc=gc, force=force, say=record.journal)
        if empty_trash and not (gc and can_change(site)):
            raise CleanupError(
                "only a run that collects, and may change the registry's folder, empties the trash, so nothing was "
                f"deleted: see registry.base_path of {config.path}, and run with collection; or leave empty_trash out"
            )
        outcome = Outcome(by_tag(plan, images), images)
        deletion = Deletion(outcome, site, record)
        work = _Work(config, site, record, outcome, gc=gc, empty_trash=empty_trash)
        return work.run(lambda: deletion.run(batch=batch, progress=progress), left(plan, images))


def _make_layers(fresh: Inventory, site: Site, record: Record) -> list[str]:
    """An empty folder ``_layers`` where a repository has none: without one the collector does not find it."""
    bare = site.without_layers(fresh.oddities)
    for repository in bare:
        record.journal({"event": "making layers", "image": repository})
        site.store.make_layers(repository)
    return bare


class _Work:
    """A plan that is being carried out, step by step; what there is to say of it so far."""

    def __init__(
        self, config: Config, site: Site, record: Record, outcome: Outcome, *, gc: bool, empty_trash: bool
    ) -> None:
        self.config, self.site, self.record, self.outcome, self.gc = config, site, record, outcome, gc
        # What it frees of the trash is promised and freed alike; the plan's clock may be ahead of the store's.
        now = min(outcome.plan.inventory.scanned_at, site.now)
        self._trash: dict[str, Any] = {"as_of": now, "empty_trash": empty_trash}
        self.promised = self._promised(outcome.plan.reclaimable)
        self.plan, self.expected, self.collected = outcome.plan, outcome.plan.blobs, Collection()
        self.notes = list(self.plan.notes)
        self.errors: list[str] = []
        self.looked_at: dict[str, int] = {}
        self.stored: int | None = None
        self._others, self._deleted_by = Members(set(), set()), 0.0
        self._revival = Revival(outcome, config, site, record)

    def run(self, delete: Callable[[], list[str]], left: set[Manifest]) -> Result:
        """All steps; also when this is interrupted, the record says how far it came. ``left``: manifests that the
        registry itself collects."""
        self.notes += told(left)
        try:
            self._delete(delete, left)
        except RegdataError as error:
            self.errors.append(str(error))
            with suppress(RegdataError):
                self._settle_tags()
            self._expect()
        finally:
            result = Result(
                tags=self.outcome.tag_rows(),
                manifests=self.outcome.manifest_rows(),
                bytes_predicted=self.promised.total,
                bytes_expected=self._expected,
                bytes_freed=self.collected.bytes_freed,
                collection=self.collected,
                notes=self.notes,
                errors=self.errors,
            )
            errors = [*self.record.facts["errors"], *self.errors]
            facts = facts_of(result) | {"verified": self.looked_at, "bytes_stored_after": self.stored}
            self.record.write(**facts, errors=errors, notes=self.notes)
        return result

    def _promised(self, unneeded: int) -> Promise:
        return promised(self.config, self.site, unneeded, gc=self.gc, **self._trash)

    @property
    def _expected(self) -> int:
        """The bytes that are to be freed for what went; what came back from the trash is not among them."""
        collected, unneeded = self.collected, int(self.expected["blob_size"].sum())
        expected = self._promised(unneeded).unneeded
        if not collected.ran:
            return expected + self.promised.due
        return expected + sum(collected.from_trash.values())

    @property
    def _gone(self) -> Members:
        """What this run or others have deleted."""
        mine, others = self.outcome, self._others
        return Members(mine.deleted | others.manifests, mine.untagged | mine.taken | others.tags)

    def _delete(self, delete: Callable[[], list[str]], left: set[Manifest]) -> None:
        self._others = vanished(self.plan.inventory, self.site)
        if number := len(self._others.manifests) + len(self._others.tags):
            listed = "" if self.site.from_store else ", or were never there but for an index that lists them"
            self.notes.append(f"{number} tags and manifests had been deleted by others since the scan{listed}")
        now.begin("deleting", "manifests", len(self.outcome.planned))
        failed = delete()
        self._deleted_by = time.monotonic()
        now.begin("verifying")
        self.errors += failed
        if failed:
            with suppress(RegdataError):  # the registry may be gone; then the next run sees to it
                self._settle_tags()
                self._revive()
            self._expect()
            return
        self._say(verify_gone(self.outcome, self.site))
        began, fresh = self._revive()
        self._expect()
        if self.gc and not self.errors:
            now.begin("collecting")
            self._collect(began, fresh)
        self._settle_tags()
        now.begin("verifying")
        gone = self._gone._replace(manifests=self._gone.manifests | left)
        self._say(verify(self.plan, gone, self.expected, self.collected, self.site))
        if self.gc and not self.errors:
            before, among = self.plan.inventory.scanned_at, self.collected.emptied
            removed = remove_empty(self.site, self.record, before=before, among=among)
            self.record.write(repositories_removed=removed)

    def _expect(self) -> None:
        """What is to be freed for what went, where that is not all of the plan."""
        if self._gone.manifests != self.outcome.planned:
            self.expected = freed(self.plan.inventory, self._gone.manifest_rows)

    def _settle_tags(self) -> None:
        """Removes the tags that were taken away, once whoever was pushing to them then is through."""
        if not (can_change(self.site) and (self.outcome.taken or self.outcome.untagged)):
            return
        time.sleep(max(0.0, self._deleted_by + WAIT - time.monotonic()))
        if back := {Tag(*pair) for pair in settle_removals(self.site, last=False)}:
            self.outcome.put_back(back)
            self.notes.append(f"{count(len(back), 'tag')} put back: pushed while being taken away")
            with suppress(RegdataError):
                self._revive()

    def _say(self, told: Verdict) -> None:
        self.notes += told.notes
        self.errors += told.errors
        self.looked_at |= told.looked_at
        self.stored = told.stored if self.stored is None else self.stored

    def _revive(self) -> tuple[int, Inventory]:
        """What is alive and misses something that was deleted gets it back; the last reading, and when that began."""
        revival, known = self._revival, len(self._revival.back)
        for _ in range(ROUNDS):
            began, fresh = int(time.time()), self._read()
            if not revival.look(fresh):
                break
        else:
            self.errors.append("what is pushed goes on needing what had been deleted: run again to collect")
        if number := len(revival.back) - known:
            self.notes.append(f"{count(number, 'manifest')} put back: what was pushed since needs what was deleted")
        self._say(Verdict(revival.notes, revival.errors))
        revival.notes, revival.errors = [], []
        return began, fresh

    def _read(self) -> Inventory:
        """The registry anew: all of it where that is collected next, else where something may be missing."""
        site, was = self.site, self.plan.inventory
        if self.gc and not self.errors and not self.collected.ran:
            return scan_site(site, self.config, since=was if site.from_store else None)
        images = tuple(sorted(self._revival.images))
        return Inventory.from_columns(site.source.read(Part(images)), scanned_at=site.now, from_store=site.from_store)

    def _collect(self, began: int, fresh: Inventory) -> None:
        config, site, record, gone = self.config, self.site, self.record, self._gone.manifest_rows
        # Over the API it is not known what there is to be collected.
        if collects_itself(config, site):
            held = held_by(self.plan.inventory, gone)
            self.expected = unneeded(fresh, held, self.plan.inventory)
            what = (fresh, self.expected)
            self.collected = collect_own(config, site, record, *what, held=held, began=began, **self._trash)
        elif landed := self._landed(fresh):
            fresh, version = landed, site.version(list(landed.repositories["image_name"]))
            self.collected = collect(config, site, record, lambda: self._ready(landed, version))
        self.errors += self.collected.errors
        if self.collected.ran and config.gc_command:
            was = self.plan.inventory
            # What no tag was on may never have been there, but for an index that lists it.
            others = self._others.manifests & {Manifest(*pair) for pair in pairs(was.images, "tag_hash")}
            went = Members(self.outcome.deleted | others, set()).manifest_rows
            self._say(verify_pushed(config, site, fresh, was, went, self.collected.freed))
        if config.gc_command and not self.errors:
            self.collected = with_trash(self.collected, config, site, record, fresh, **self._trash)
        self.notes += self.collected.notes
        if not self.collected.ran or self.collected.errors:
            with suppress(RegdataError):  # gc-after may not have started it
                self._revive()
        elif self.outcome.deleted:
            self._revive()  # what was inside the registry all the time

    def _ready(self, fresh: Inventory, version: str) -> Goes:
        """What gc-command is to take. Where gc-before has been run nothing comes any more: all is looked at once more,
        by the store alone, since the registry may be stopped. Raises CleanupError where something would be lost."""
        if fresh.from_store:
            if self.config.gc_before:
                fresh, was = read_site(self.site, self.config, since=fresh), self.expected
                self._check_last(self._in_flight(fresh), self._revival.missed(fresh))
                self.notes += needed_again(was, self.expected)
            check_collectable(fresh, version, _make_layers(fresh, self.site, self.record))
        return Goes(self._links(), manifests_left(fresh), cuts=version == "3.x")

    def _check_last(self, flight: Flight, missed: Several[Manifest]) -> None:
        if missed:
            raise CleanupError(
                f"what was pushed right before gc-before ended needs {count(len(missed), 'manifest')} that had been "
                f"deleted, such as {'@'.join(min(missed))}, so gc-command was not run: run again to collect"
            )
        if flight and self._waits_for(flight):
            raise CleanupError(self._told(flight))

    def _links(self) -> list[tuple[str, str]]:
        """By which images have the blobs that are to be freed; over the API, those that this run deleted from."""
        going, store = set(self.expected["blob_hash"]), self.site.store if self.site.from_store else None
        if store is None:
            gone, inventory = self._gone.manifest_rows, self.plan.inventory
            if not inventory.collector.sees_all:  # nothing is expected, and much may go
                names = ["image_name", "manifest_hash"]
                staying = inventory.manifests[names].merge(gone, how="left_anti")
                kept = {digest for _, digest in _held(inventory, staying)}
                going = {digest for _, digest in _held(inventory, gone)} - kept
            return sorted(pair for pair in _held(inventory, gone) if pair[1] in going)
        return links_to(store, going)

    def _landed(self, fresh: Inventory) -> Inventory | None:
        """The registry as it is once nothing is being pushed, after waiting for that (gc-wait); None if gc-command is
        not to run: it would take layers whose manifest is not there yet, and the push would be broken."""
        config, deadline = self.config, time.monotonic() + self.config.gc_wait
        while flight := self._in_flight(fresh):
            if time.monotonic() >= deadline:
                break
            time.sleep(min(1.0, config.gc_wait))
            _, fresh = self._revive()
        if self.site.from_store and self._expects_only(flight):
            if len(self.expected):
                self.notes.append(f"{flight}: what was brought stays, and nothing else is there to be collected")
            self.expected = self.expected.iloc[:0]
            return None
        if flight and self._waits_for(flight):
            self.errors.append(self._told(flight))
        elif flight:
            self.notes.append(f"{flight}: a push that is not finished may have to be repeated")
        if not self.site.from_store and not self.errors:
            self.errors += uncollectable(fresh, self.plan.inventory, self.site)
        return fresh if not self.errors else None

    def _waits_for(self, flight: Flight) -> bool:
        return bool(self.config.gc_wait or (flight.blobs and not stops(self.config)))

    def _told(self, flight: Flight) -> str:
        stays = f", and {size(due)} of the trash stay, too" if (due := self.promised.due) else ""
        return (
            f"{flight}. Not collected after {self.config.gc_wait:g} s{stays}: run again later, have gc-wait wait "
            "longer, stop the registry by gc-before and start it by gc-after, or leave gc-command out (regdata itself "
            "collects beside pushes)"
        )

    def _in_flight(self, fresh: Inventory) -> Flight:
        if fresh.from_store:
            nothing = self._gone.manifest_rows.iloc[:0]
            self.expected = freed(fresh, nothing)
        was = self.plan.inventory
        return in_flight(self.site, fresh, lambda: held_by(was, self._gone.manifest_rows), was.scanned_at)

    def _expects_only(self, flight: Flight) -> bool:
        """Whether all that would be collected is being pushed."""
        return {digest for _, digest in flight.blobs}.issuperset(self.expected["blob_hash"])


def _held(inventory: Inventory, manifests: pd.DataFrame) -> set[tuple[str, str]]:
    """Image and digest of all that these manifests refer to."""
    rows = inventory.references_of(manifests["manifest_hash"])
    return set(pairs(rows.merge(manifests, on="manifest_hash"), "reference_hash"))
