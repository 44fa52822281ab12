"""One run of delete.ipynb: scan, plan, apply, each a step that a cell calls and that the run's record keeps, also
when it fails."""

from __future__ import annotations

from pathlib import Path

from IPython import get_ipython
from IPython.display import Markdown, display

from regdata.cleaning import cleanup
from regdata.cleaning.deletion import Progress
from regdata.collecting import collection
from regdata.config import Config, check_flags, load_config
from regdata.errors import CleanupError, ConfigError, StorageError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan as scan_registry
from regdata.planning.plan import Plan
from regdata.planning.plan import plan as make_plan
from regdata.records import record as report
from regdata.records.record import Record
from regdata.show.shown import Shown
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage

ACTIONS = ("del", "none")


class Run(Shown):
    """A run from its parameters to its record."""

    def __init__(self, config: Config, sql_id: str, action: str, *, gc: bool, force: bool) -> None:
        self.config, self.sql_id, self.action, self.gc, self.force = config, sql_id, action, gc, force
        self.condition = config.condition(sql_id)
        self.record = Record.open(
            config,
            sql_id=sql_id,
            action=action,
            condition=self.condition,
            protect=config.protect,
            engine=config.engine,
            gc=gc,
            force=force,
        )
        self.interrupted: list[Path] = []
        self.result: cleanup.Result | None = None

    def __repr__(self) -> str:
        return f"<Run of {self.sql_id}, action {self.action}: {self.record.folder}>"

    @property
    def deletes(self) -> bool:
        """Whether this run changes the registry. ``none``, the default, never does: Run All in JupyterLab is
        harmless."""
        return self.action == "del" and self.sql_id != "none"

    def scan(self) -> Inventory:
        """What the registry holds. Before that, a run that deletes sees to what interrupted runs left."""
        with self.record.closed_on_error():
            if self.deletes:
                self._recover()
            self.resumed = [manifest for folder in self.interrupted for manifest in report.planned(folder)]
            self.inventory = scan_registry(self.config, known=[(image, digest) for image, digest, _ in self.resumed])
            self.record.write(tags_total=len(self.inventory.images))
            self._save_snapshot()
        return self.inventory

    def _recover(self) -> None:
        registry = Registry(self.config.registry.url)
        storage = Storage(self.config.registry.base_path) if self.config.registry.base_path else None
        # Whoever holds the lock knows that a run whose record says `running` does not run any more.
        with collection.lock(self.config, storage):
            self.interrupted = list(report.unfinished(self.config, besides=self.record.folder))
            for folder in self.interrupted:
                for problem in collection.recover(self.config, registry, storage, report.events(folder), self.record):
                    self.record.error(problem)

    def _save_snapshot(self) -> None:
        """Where conf.json says so. One that can't be saved is a note: a full disk is what a clean-up is there for."""
        if self.config.snapshots is None:
            return
        try:
            self.record.write(snapshot=str(self.inventory.save(self.config.snapshots)))
        except StorageError as error:
            self.record.write(snapshot=None, snapshot_error=str(error))
            if get_ipython():
                display(Markdown(f"Note: {error}"))

    def plan(self) -> Plan:
        """The plan of the run's condition; it goes into the record."""
        with self.record.closed_on_error():
            self.planned = make_plan(self.inventory, self.condition, resumed=self.resumed)
            tags = self.planned.tags
            self.record.save_plan(tags, self.planned.manifests)
            self.record.write(
                tags_selected=int((tags["reason"] != "referrer").sum()),
                tags_kept=int((tags["action"] == "keep").sum()),
                bytes_predicted=self.planned.reclaimable,
            )
        return self.planned

    def apply(self) -> cleanup.Result:
        """Carries the plan out, or says why nothing is changed."""
        if not self.deletes:
            why = "action is none" if self.action == "none" else "sql_id is none, which stands for no clean-up"
            return cleanup.Result.unchanged(self.planned, f"{why}: nothing was changed")
        with self.record.closed_on_error():
            self.result = cleanup.apply(
                self.planned, self.config, gc=self.gc, force=self.force, record=self.record, progress=_progress()
            )
            for folder in self.interrupted if not self.record.facts["errors"] else []:
                report.settle(folder, by=self.record.folder)
        return self.result

    def finish(self) -> str:
        """Closes the record. Raises CleanupError when the run did not end as planned."""
        self.record.finish()
        if errors := self.record.facts["errors"]:
            raise CleanupError("; ".join(errors))
        return str(self.record.folder)


def _progress() -> Progress:
    """One line in the notebook that is replaced as the run goes on, so that the report keeps one."""
    handle = display(Markdown("…"), display_id=True) if get_ipython() else None

    def show(done: int, total: int) -> None:
        if handle:
            handle.update(Markdown(f"{done:,} of {total:,} manifests deleted"))

    return show


def start(*, sql_id: str = "none", action: str = "del", conf: str = "", gc: bool = True, force: bool = False) -> Run:
    """Checks a run's parameters and opens its record. Raises ConfigError; nothing has been asked of the registry by
    then."""
    check_flags(gc=gc, force=force)
    if action not in ACTIONS:
        raise ConfigError(f"action is {action!r}, but there are: {', '.join(ACTIONS)} (del deletes, none only lists)")
    return Run(load_config(conf), sql_id, action, gc=gc, force=force)
