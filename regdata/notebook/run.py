"""One run of delete.ipynb: scan, plan, apply, each a step that a cell calls and that the run's record keeps, also
when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from regdata.analysis.backtest import backtest
from regdata.cleaning.checks import check_early, refusals
from regdata.cleaning.cleanup import clean_up
from regdata.cleaning.deletion import Progress
from regdata.cleaning.result import Result, rows_of
from regdata.collecting.commands import recover
from regdata.collecting.own import promised, settle_removals, undo_own
from regdata.config import Config, load_config
from regdata.errors import CleanupError, ConfigError, RegdataError, StorageError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan_site
from regdata.inventory.usage import digests_in_use, in_use, observed
from regdata.notebook.notify import notify
from regdata.notebook.proof_views import headline
from regdata.planning.expectations import Expectations, expectations
from regdata.planning.notes import unlisted
from regdata.planning.plan import Plan, planned
from regdata.records.closing import KILLED, close, close_killed, settle, told
from regdata.records.index import keep_index
from regdata.records.reading import PastRun, deletes
from regdata.records.record import FOLDER_VARIABLE, Record
from regdata.records.runs import is_within, unfinished
from regdata.records.summary import box, counted, not_begun
from regdata.show.blocks import Document, Line
from regdata.show.shown import Shown
from regdata.show.words import size
from regdata.sources.abilities import abilities
from regdata.sources.bounds import Waited
from regdata.sources.names import means
from regdata.sources.progress import Tell, now, watched
from regdata.sources.site import Site
from regdata.tables import process
from regdata.values import check_flags

ACTIONS = ("del", "none")

Note = Callable[[str], None]
Watch = Callable[[Document], None]
Ask = Callable[[str], str]
OpenSite = Callable[[Config], Site]


class Run(Shown):
    """A run from its parameters to its record: ``scan``, ``expect``, ``plan``, ``apply``, ``finish``.

    A step that has not been made yet is made by the one that needs it. ``inventory``, ``expected``, ``planned`` and
    ``result`` are what the steps gave, None before; ``interrupted`` the runs that this one finishes, and ``resumed``
    the manifests (image_name, manifest_hash, began) that those were to delete.
    """

    def __init__(
        self,
        config: Config,
        sql_id: str,
        action: str,
        *,
        gc: bool,
        force: bool,
        empty_trash: bool = False,
        progress: Progress | None = None,
        note: Note | None = None,
        watch: Watch | None = None,
        tick: Tell | None = None,
        ask: Ask | None = None,
        open_site: OpenSite = Site.open,
    ) -> None:
        self.config, self.sql_id, self.action, self.gc, self.force = config, sql_id, action, gc, force
        self.empty_trash = empty_trash
        self.condition = config.condition(sql_id)
        self.interrupted: list[PastRun] = []
        self.finished: list[PastRun] = []  # those of them of which all is within reach
        self.resumed: list[tuple[str, str, int]] = []
        self.inventory: Inventory | None = None
        self.expected: Expectations | None = None
        self.planned: Plan | None = None
        self.result: Result | None = None
        self._progress, self._note, self._watch, self._open_site = progress, note, watch, open_site
        self._tick, self._ask = tick, ask
        self._waited: Waited | None = None
        self._raised = False  # whether what went wrong is said where it was raised
        self._said: list[str] = []  # what the registry is, as far as it is out of the ordinary
        self.record = Record.open(
            config,
            sql_id=sql_id,
            action=action,
            condition=config.written("sql", sql_id),
            protect=config.written("protect"),
            engine=config.engine,
            gc=gc,
            force=force,
            empty_trash=empty_trash,
        )
        self.tell()
        keep_index(self.record.folder.parent)

    def __repr__(self) -> str:
        return f"<Run of {self.sql_id}, action {self.action}: {self.record.folder}>"

    @property
    def deletes(self) -> bool:
        """Whether this run changes the registry. ``none``, the default, never does: Run All in JupyterLab is
        harmless."""
        return deletes(self.record.facts)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """The record says what ended it, and whoever watches sees what the record says by then."""
        self._raised = False
        try:
            with self.record.closed_on_error(), watched(self._tick):
                yield
        except BaseException:
            self._raised = True
            self._ended()
            raise
        finally:
            self.tell()

    def _ended(self) -> None:
        """What is done of a run that has ended, however that was: the page of all runs, and `notify`."""
        if problem := notify(self.config, PastRun(self.record.folder), self.inventory):
            self.record.write(notes=[*self.record.facts.get("notes", []), problem])
        keep_index(self.record.folder.parent)

    def tell(self) -> None:
        """Shows what the record says by now to whoever watches."""
        if self._watch:
            self._watch(box(self.record.folder, linked=FOLDER_VARIABLE in os.environ, raised=self._raised))

    def _opened(self) -> Site:
        site = self._open_site(self.config)
        http, note = site.registry.http, self._note
        http.waited = self._waited = self._waited or http.waited  # for slow answers, once in a run
        if note:
            said = "the registry puts requests off (429 or 503): regdata waits, and goes on more slowly"
            http.pace.slowed = lambda: note(said)
            site.say = lambda text: self._say(text, note)
        return site

    def _say(self, text: str, note: Note) -> None:
        if text not in self._said:
            self._said.append(text)
            note(text)

    def scan(self) -> Inventory:
        """What the registry holds. Before that, a run that deletes sees to what interrupted runs left."""
        with self._step():
            close_killed(self.config, besides=self.record.folder)
            if self.deletes:
                self._recover()
            self.resumed = [manifest for past in self.interrupted for manifest in past.going]
            known = [(image, digest) for image, digest, _ in self.resumed]
            site = self._opened()
            if self.deletes:  # what only lists writes no file
                site.see_clock()
            uses = in_use(self.config)
            known += digests_in_use(uses, self.config)
            found = observed(scan_site(site, self.config, known=known), self.config, uses)
            self.record.write(
                tags_total=len(found.images),
                from_store=found.from_store,
                **_registry(site, found, tries=self.sql_id != "none"),
                bytes_stored=_stored(found),
                registry_user=site.registry.user,
                can_untag=bool(found.can_untag),
                sees_all=found.collector.sees_all,
                pulls_since=found.pulls_since,
                tags_in_use=int(found.images["in_use"].sum()) if self.config.in_use else None,
            )
            self._save_snapshot(found)
        self.inventory = found
        return found

    def _recover(self) -> None:
        site = self._opened()
        with site.lock(str(self.record.folder)):
            undo_own(self.config, site)
            settle_removals(site)
            self.interrupted = unfinished(self.config, besides=self.record.folder)
            for past in self.interrupted:
                for problem in recover(self.config, site, past, self.record) if not past.is_recovered else []:
                    self.record.error(problem)
            if not self.record.facts["errors"]:
                self.interrupted = [self._looked_at(past, site) for past in self.interrupted]
        if self.interrupted:
            self.finished = [past for past in self.interrupted if is_within(past, self.config)]
            self.record.write(finishes=[told(past) for past in self.finished])

    def _looked_at(self, past: PastRun, site: Site) -> PastRun:
        """What a killed run was doing when it ended is seen in the registry, which answers by now."""
        if past.facts.get("status") != KILLED:
            return past
        return close(past, lambda image, reference, digest: site.registry.digest(image, reference) != digest)

    def earlier(self) -> Document:
        """The runs that did not end well, and whose work this one finishes."""
        if self.inventory is None:
            self.scan()
        lines = [Line("This run finishes the work of another", f": {told(past)}.", "note") for past in self.finished]
        for past in self.interrupted:
            if past not in self.finished:
                left = f": {told(past)}; some of it is outside registry.repositories, and waits for a run that may."
                lines.append(Line("The work of another run is left", left, "note"))
        return Document(tuple(lines or [Line("", "No earlier run left anything undone.")]))

    def _save_snapshot(self, inventory: Inventory) -> None:
        """Where conf.json says so. One that can't be saved is a note: a full disk is what a clean-up is there for."""
        if self.config.snapshots is None:
            return
        try:
            self.record.write(snapshot=str(inventory.save(self.config.snapshots)))
        except StorageError as error:
            self.record.write(snapshot=None, snapshot_error=str(error))
            if self._note:
                self._note(str(error))

    def expect(self) -> Expectations:
        """Whether what conf.json expects of the condition holds. Raises CleanupError for a run that deletes if not."""
        inventory = self.inventory or self.scan()
        with self._step():
            selected = inventory.readers.select(self.condition, engine=inventory.engine)
            expected = expectations(inventory, self.sql_id, selected, self.config.expect.get(self.sql_id))
            self.record.write(expectations=len(expected.frame), expectations_failed=len(expected.failed))
            if expected.failed and self.deletes:
                raise CleanupError(
                    f"{'; '.join(expected.failed)}. Nothing was deleted: mend the condition, or `expect`"
                )
            for problem in expected.failed if self.expected is None else []:
                self.record.error(problem)
        self.expected = expected
        return expected

    def backtest(self) -> Document:
        """In a sentence, what the condition would have broken in the past months, where pulls or uses are known."""
        inventory = self.inventory or self.scan()
        if self.sql_id == "none" or not (self.config.access_log or self.config.in_use):
            return Document((Line("No backtest", ": it takes an access-log, or lists of what is in-use.", "note"),))
        with self._step():
            try:
                found = backtest(inventory, self.condition, self.config)
            except RegdataError as error:  # the past is no reason to stop
                return Document((Line("No backtest", f": {error}", "note"),))
            self.record.write(backtest_tags=found.tags, backtest_missed=len(found.missed))
        return Document((headline(found),))

    def plan(self) -> Plan:
        """The plan of the run's condition; it goes into the record."""
        inventory = self.inventory or self.scan()
        if self.expected is None:
            self.expect()
        with self._step():
            now.begin("planning")
            made = planned(inventory, inventory.readers, self.condition, resumed=self.resumed)
            tags, how = made.tags, {"gc": self.gc, "empty_trash": self.empty_trash}
            site = self._opened()
            promise = promised(self.config, site, made.reclaimable, as_of=inventory.scanned_at, **how)
            can = self.record.facts["registry_can"]["can delete"]
            refused = (
                [] if self.deletes else refusals(made, self.config, site, gc=self.gc, force=self.force, deletes=can)
            )
            self.record.save_plan(tags, made.manifests, made.pushed)
            self.record.save_tags(rows_of(made))
            self.record.write(
                tags_planned=int((tags["action"] != "keep").sum()),
                manifests_planned=len(made.manifests),
                tags_selected=int((tags["reason"] != "referrer").sum()),
                tags_kept=int((tags["action"] == "keep").sum()),
                bytes_predicted=promise.total,
                bytes_to_set_aside=made.reclaimable - promise.unneeded,
                notes=[*self._said, *made.notes, *refused],
            )
        self.planned = made
        return made

    def apply(self) -> Result:
        """Carries the plan out, or says why nothing is changed. Where somebody is there to be asked, the plan has to
        have been made before, and they to confirm it; what is done is not done again."""
        if self.result:
            return self.result
        shown = self.planned is not None
        made = self.planned or self.plan()
        if self.deletes and not self._confirmed(made, shown=shown):
            self.action = "none"
            self.record.write(action="none")
            return self._unchanged(made, "it was not confirmed" if shown else "the plan had not been shown yet")
        if not self.deletes:
            why = "action is none" if self.action == "none" else "sql_id is none, which stands for no clean-up"
            return self._unchanged(made, why)
        with self._step():
            site = self._opened()
            how = {"gc": self.gc, "force": self.force, "empty_trash": self.empty_trash}
            self.result = clean_up(made, self.config, site, self.record, progress=self._progress, **how)
            self.record.save_tags(rows_of(made, self.result))
            for past in self.interrupted if not self.record.facts["errors"] else []:
                settle(past, by=self.record.folder, wholly=past in self.finished)
            finishes = [f"this run finished the work of another: {told(past)}" for past in self.finished]
            self.result = replace(self.result, notes=[*finishes, *self._said, *self.result.notes])
            self.record.write(notes=self.result.notes)
        return self.result

    def _confirmed(self, made: Plan, *, shown: bool) -> bool:
        if not self._ask:
            return True
        number = counted(self.record.facts["tags_planned"], self.record.facts["manifests_planned"])
        go = f"{number} go, {size(made.reclaimable)}"
        asked = f"{go}. Type {self.sql_id} to delete them; anything else deletes nothing: "
        return shown and self._ask(asked) == self.sql_id

    def _unchanged(self, made: Plan, why: str) -> Result:
        self.result = Result.unchanged(made, f"{why}: nothing was changed", *unlisted(made.inventory))
        return self.result

    def explain(self, reference: object) -> Document:
        """Why ``image:tag`` or ``image@sha256:…`` goes or stays; nothing for none. It changes nothing: that there is no
        such thing is a note."""
        planned = self.planned or self.plan()
        with self._step():
            try:
                return Document((Line("", planned.explain(str(reference))),) if reference not in ("", None) else ())
            except RegdataError as error:
                return Document((Line("Not explained", f": {error}", "note"),))

    def finish(self) -> Document:
        """Closes the record, and says where it is. Raises CleanupError when the run did not end as planned."""
        self.record.finish()
        self._ended()
        errors = self.record.facts["errors"]
        self._raised = bool(errors)
        self.tell()
        if errors:
            raise CleanupError("; ".join(errors))
        return Document((Line("", f"The record is in {self.record.folder}"),))


def _registry(site: Site, found: Inventory, *, tries: bool) -> dict[str, Any]:
    """What the record says of the registry: its kind, as it answers, how it was read, and what can be done there."""
    names = [name for name in found.repositories["image_name"] if means(found.within, name)]
    can = abilities(site, names, tries=tries)
    read = f"read {f'from its folder {site.store.base}' if found.from_store else 'over the API alone'}"
    told = {"can delete": can.deletes, "can untag": can.untags, "catalog": can.catalog}
    return {"registry_kind": f"{can.kind}, {read}", "registry_can": told}


def _stored(found: Inventory) -> int:
    """The bytes that are stored; over the API those that can be seen."""
    blobs = found.blobs[found.stored] if found.from_store else found.blobs
    return int(blobs["blob_size"].sum())


def start(
    *,
    sql_id: str = "none",
    action: str = "del",
    conf: str = "",
    gc: bool = True,
    force: bool = False,
    empty_trash: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
    watch: Watch | None = None,
    tick: Tell | None = None,
    ask: Ask | None = None,
    open_site: OpenSite = Site.open,
) -> Run:
    """Checks a run's parameters and opens its record.

    ``progress`` is told how many manifests of how many are deleted, ``note`` what is to be said beside a step's result
    (regdata.notebook.live has both), ``watch`` what the record says, again and again, ``tick`` twice a second how far
    it is; ``ask`` gives somebody's answer to a question, where somebody is there; ``open_site`` reaches the registry.
    Raises ConfigError; nothing has been asked of the registry by then.
    """
    try:
        check_flags(gc=gc, force=force, empty_trash=empty_trash)
        if action not in ACTIONS:
            there = f"{', '.join(ACTIONS)} (del deletes, none only lists)"
            raise ConfigError(f"action is {action!r}, but there are: {there}")
        config = load_config(conf)
        process.prepare()
        check_early(config, sql_id, action, gc=gc)
        how: dict[str, Any] = {"gc": gc, "force": force, "empty_trash": empty_trash}
        how |= {"progress": progress, "note": note, "watch": watch, "tick": tick, "ask": ask, "open_site": open_site}
        return Run(config, sql_id, action, **how)
    except RegdataError:
        if watch:
            watch(not_begun())
        raise
