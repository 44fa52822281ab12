"""How a registry grows, when its disk is full, and what each condition of conf.json would change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from regdata.analysis import space
from regdata.analysis.forecast import DAY, Forecast, Full, Past, forecast
from regdata.analysis.replay import Option, options
from regdata.config import Config, load_config
from regdata.errors import StorageError
from regdata.inventory import snapshot
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.show.shown import Shown
from regdata.sources.site import Site
from regdata.values import check_whole

AHEAD = 24  # steps: nobody knows what comes in more than two years
MOST_DAYS = 36_500
SNAPSHOTS = 40  # that are read: more would not change the picture


@dataclass(frozen=True)
class Disk:
    """What the registry is stored on: its ``size``, and the bytes that the registry may store; None: not known."""

    size: int | None = None
    limit: int | None = None
    origin: str = "not known: give disk_bytes"


@dataclass(frozen=True, eq=False)
class Study(Shown):
    """What capacity.ipynb shows.

    past: bytes stored over time. months: space.by_month. outlook: the forecast if all goes on as it has, None where
    too little is known for one. options: what each condition of conf.json would change.
    """

    inventory: Inventory
    past: Past
    months: pd.DataFrame
    outlook: Forecast | None
    options: tuple[Option, ...]
    disk: Disk
    horizon_days: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Study of {self.inventory.registry or 'a registry'}: {self.horizon_days} days ahead>"

    @property
    def horizon(self) -> int:
        """UTC epoch seconds."""
        return self.inventory.scanned_at + self.horizon_days * DAY

    @property
    def ahead(self) -> pd.DataFrame:
        """time, bytes, low, high up to the horizon; empty where it can't be forecast."""
        if self.outlook is None:
            return pd.DataFrame({"time": [], "bytes": [], "low": [], "high": []}).astype("int64")
        path = self.outlook.path[self.outlook.path["time"] < self.horizon]
        last = pd.DataFrame([dict(zip(path, (self.horizon, *self.outlook.at(self.horizon)), strict=True))])
        return pd.concat([path, last], ignore_index=True)

    @property
    def changes(self) -> pd.DataFrame:
        """condition, now, monthly: bytes at the horizon if it ran now, and if every month; first "no clean-up"."""
        rows: list[tuple[str, int, int]] = []
        if self.outlook is not None:
            stored = self.outlook.at(self.horizon)[0]
            rows.append(("no clean-up", stored, stored))
            rows += [
                (one.name, stored - one.freed, one.monthly.at(self.horizon)[0]) for one in self.options if one.monthly
            ]
        return pd.DataFrame(rows, columns=["condition", "now", "monthly"])

    def full(self, freed: int = 0) -> Full | None:
        """When the disk is full if ``freed`` bytes went now; None where that can't be said."""
        return self.outlook.full(self.disk.limit + freed) if self.outlook and self.disk.limit is not None else None

    def full_monthly(self, option: Option) -> Full | None:
        """When it is full if ``option`` ran every month."""
        limit = self.disk.limit
        return option.monthly.full(limit) if option.monthly and limit is not None else None


def study(*, conf: str = "", horizon_days: int = 180, disk_bytes: int = 0) -> Study:
    """Scans the registry of conf.json and looks at its past and future.

    ``disk_bytes`` is what the registry may store; 0: what it stores now and what is free on base_path's file system.
    Raises ConfigError, RegistryError or StorageError.
    """
    check_whole(MOST_DAYS, horizon_days=horizon_days)
    check_whole(least=0, disk_bytes=disk_bytes)
    config = load_config(conf)
    inventory = scan(config)
    notes: list[str] = []
    earlier = _snapshots(config, inventory, notes)
    # none stands for no clean-up
    conditions = {name: condition for name, condition in config.sql.items() if name != "none"}
    disk = Disk(disk_bytes, disk_bytes, "as disk_bytes says") if disk_bytes else disk_of(config, inventory)
    return look(inventory, conditions, disk=disk, horizon_days=horizon_days, earlier=earlier, notes=notes)


def look(
    inventory: Inventory,
    conditions: Mapping[str, str],
    *,
    disk: Disk | None = None,
    horizon_days: int = 180,
    earlier: Iterable[Inventory] = (),
    notes: Sequence[str] = (),
) -> Study:
    """The same of an inventory at hand. ``earlier`` are inventories of the same registry, oldest first."""
    past, blobs = _past(chain(earlier, [inventory]))
    ahead = max(-(-horizon_days // 30), min(past.known, AHEAD))
    return Study(
        inventory=inventory,
        past=past,
        months=space.by_month(inventory),
        outlook=forecast(past.steps, past.at(past.steps), ahead=ahead),
        options=options(inventory, conditions, blobs=blobs, steps=past.steps, ahead=ahead),
        disk=disk or Disk(),
        horizon_days=horizon_days,
        notes=tuple(notes),
    )


def _past(inventories: Iterable[Inventory]) -> tuple[Past, pd.DataFrame]:
    """What they measured, and the last one's blobs. One is looked at at a time, since each takes much memory."""
    held: list[pd.DataFrame] = []
    measured = []
    for one in inventories:
        held = [*held[:1], space.by_blob(one)]
        measured.append((one.scanned_at, int(held[-1]["blob_size"].sum())))
    return Past(held[0], pd.DataFrame(measured, columns=["time", "bytes"])), held[-1]


def _snapshots(config: Config, inventory: Inventory, notes: list[str]) -> Iterator[Inventory]:
    """Earlier inventories of this registry read in the same way; ``notes`` gets those that can't be loaded."""
    found = list(snapshot.earlier(config.snapshots, inventory, notes))
    for path in found[:: -(-len(found) // SNAPSHOTS) or 1]:
        try:
            yield Inventory.load(path)
        except StorageError as error:
            notes.append(f"left out: {error}")


def disk_of(config: Config, inventory: Inventory) -> Disk:
    """The room that there is on base_path's file system."""
    usage = Site.open(config).disk()
    if usage is None:
        return Disk()
    stored = int(space.by_blob(inventory)["blob_size"].sum())
    return Disk(usage.total, stored + usage.free, "the file system of base_path")
