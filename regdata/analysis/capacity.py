"""How a registry grows, when its disk is full, and what each condition of conf.json would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from regdata.analysis import space as analysis
from regdata.analysis.forecast import DAY, FEWEST, SEEN, Forecast, Full, Past, day, forecast
from regdata.analysis.replay import Option, options
from regdata.analysis.space import Finding
from regdata.config import Config, load_config
from regdata.errors import ConfigError, StorageError
from regdata.inventory import snapshot
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.show.render import Block, Bytes, Cell, Document, Line, Table, count, size
from regdata.sources.storage import Storage

AHEAD = 24  # steps: nobody knows what comes in more than two years
SNAPSHOTS = 40  # that are read: more would not change the picture


@dataclass(frozen=True)
class Disk:
    """What the registry is stored on: its ``size``, and the bytes that the registry may store; None: not known."""

    size: int | None = None
    limit: int | None = None
    origin: str = "not known: give disk_bytes"


@dataclass(frozen=True, eq=False)
class Study:
    """What capacity.ipynb shows.

    past: bytes stored over time. months: analysis.by_month. outlook: the forecast if all goes on as it has, None where
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

    def __repr__(self) -> str:
        return _facts(self).text

    def _repr_html_(self) -> str:
        return _facts(self).html


class Shown(Document):
    """A document that a notebook shows."""

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def study(*, conf: str = "", horizon_days: int = 180, disk_bytes: int = 0) -> Study:
    """Scans the registry of conf.json and looks at its past and future.

    ``disk_bytes`` is what the registry may store; 0: what it stores now and what is free on base_path's file system.
    Raises ConfigError, RegistryError or StorageError.
    """
    for name, value, least in (("horizon_days", horizon_days, 1), ("disk_bytes", disk_bytes, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name} is {value!r}, but must be a whole number, {least} or more")
    config = load_config(conf)
    inventory = scan(config)
    earlier, notes = _snapshots(config, inventory)
    # none stands for no clean-up
    conditions = {name: condition for name, condition in config.sql.items() if name != "none"}
    disk = Disk(disk_bytes, disk_bytes, "as disk_bytes says") if disk_bytes else _disk_of(config, inventory)
    return look(inventory, conditions, disk=disk, horizon_days=horizon_days, earlier=earlier, notes=notes)


def look(
    inventory: Inventory,
    conditions: Mapping[str, str],
    *,
    disk: Disk | None = None,
    horizon_days: int = 180,
    earlier: Sequence[Inventory] = (),
    notes: Sequence[str] = (),
) -> Study:
    """The same of an inventory at hand. ``earlier`` are inventories of the same registry, oldest first."""
    blobs = [analysis.by_blob(one) for one in (*earlier, inventory)]
    measured = {
        "time": [one.scanned_at for one in (*earlier, inventory)],
        "bytes": [int(one["blob_size"].sum()) for one in blobs],
    }
    past = Past(blobs[0], pd.DataFrame(measured))
    ahead = max(-(-horizon_days // 30), min(past.known, AHEAD))
    return Study(
        inventory=inventory,
        past=past,
        months=analysis.by_month(inventory),
        outlook=forecast(past.steps, past.at(past.steps), ahead=ahead),
        options=options(inventory, conditions, blobs=blobs[-1], steps=past.steps, ahead=ahead),
        disk=disk or Disk(),
        horizon_days=horizon_days,
        notes=tuple(notes),
    )


def _snapshots(config: Config, inventory: Inventory) -> tuple[list[Inventory], list[str]]:
    """Earlier inventories of this registry that were read in the same way; and notes on those that can't be loaded."""
    earlier, notes = [], []
    found = snapshot.saved(config.snapshots) if config.snapshots else []
    for path in found[:: -(-len(found) // SNAPSHOTS) or 1]:
        try:
            one = Inventory.load(path)
        except StorageError as error:
            notes.append(f"left out: {error}")
            continue
        same = (one.registry, one.from_store) == (inventory.registry, inventory.from_store)
        if same and one.scanned_at < inventory.scanned_at:
            earlier.append(one)
    return earlier, notes


def _disk_of(config: Config, inventory: Inventory) -> Disk:
    if config.registry.base_path is None:
        return Disk()
    usage = Storage(config.registry.base_path).disk()
    stored = int(analysis.by_blob(inventory)["blob_size"].sum())
    return Disk(usage.total, stored + usage.free, "the file system of base_path")


def _facts(study: Study) -> Document:
    past, inventory = study.past, study.inventory
    dates = "push dates" if inventory.from_store else "build dates: push dates take registry.base_path"
    unknown = int(past.blobs.loc[past.blobs["since"].isna(), "blob_size"].sum())
    limit = study.disk.limit
    rows: list[tuple[str, Cell]] = [
        ("registry", inventory.registry),
        ("scanned", f"{day(inventory.scanned_at)} (UTC)"),
        ("stored", size(int(past.measured["bytes"].iloc[-1]))),
        ("dates", dates + (f"; {size(unknown)} of unknown date count as always there" if unknown else "")),
        ("snapshots", f"{len(past.measured) - 1} since {day(past.first)}" if len(past.measured) > 1 else "none"),
        ("disk", study.disk.origin if limit is None else f"{size(study.disk.size)}, {study.disk.origin}"),
    ]
    if limit is not None:
        free = max(limit - int(past.measured["bytes"].iloc[-1]), 0)
        rows.append(("room", f"{size(limit)} for the registry, {size(free)} of it free"))
    return Document((Table((), rows), *(Line("Note: ", note, "note") for note in study.notes)))


def finding_past(study: Study) -> Finding:
    """What is stored, and what it was a year ago."""
    past, now = study.past, int(study.past.measured["bytes"].iloc[-1])
    if not now:
        return Finding("The registry is empty: it stores no blob at all.")
    back = min(365 * DAY, past.now - past.oldest)
    before = size(int(past.at([past.now - back])[0]))
    ago = f"{count(back // DAY, 'day')} ago"
    if past.now - back >= past.first:
        return Finding(f"**{size(now)}** are stored; {ago} it was {before}.")
    since = "" if past.first == past.now else f" (and until {day(past.first)}, when the snapshots begin)"
    return Finding(
        f"**{size(now)}** are stored. By the dates of what is still there{since}, it was {before} {ago}; "
        "what has been deleted since has left no date, so it may have been more."
    )


def finding_growth(study: Study) -> Finding:
    """What a month brings, and who brings it."""
    months = study.months.dropna(subset="month")
    if months.empty:
        return Finding("Nothing that is stored has a known date, so its growth can't be seen.")
    last = pd.Timestamp(study.inventory.scanned_at, unit="s").to_period("M")
    year = months[months["month"] > str(last - 12)]
    if not year["bytes"].sum():
        return Finding("Nothing that is stored came in the last 12 months.")
    known = min(12, (last - pd.Period(months["month"].min(), freq="M")).n + 1)
    by_month, by_team = (year.groupby(key, observed=True)["bytes"].sum() for key in ("month", "team"))
    first = f"of it {size(by_team.max())} for {_code(str(by_team.idxmax()))}"
    return Finding(
        f"In the {known} months to {last} **{size(int(by_month.sum() / known))} a month** came and stayed, most of it "
        f"in {by_month.idxmax()} ({size(by_month.max())}); {first} ({by_team.max() / by_team.sum():.0%})."
    )


def finding_outlook(study: Study) -> Finding:
    """What to expect at the horizon, when the disk is full, and what half a year ago was to be expected for today."""
    if study.outlook is None:
        known = len(study.past.steps) - 1
        return Finding(
            f"**It can't be forecast honestly**: that takes {FEWEST} months (of 30 days) of growth, "
            f"and {known or 'none'} {'is' if known < 2 else 'are'} known."
        )
    expected, low, high = study.outlook.at(study.horizon)
    said = f"On {day(study.horizon)} **{size(expected)}** are to be expected, "
    said += f"in {SEEN} cases {size(low)} to {size(high)}"
    if full := study.full():
        when, bracket, interval = (f"on {full}" if full.expected and not full.now else str(full)).partition(" (")
        said += f"; the disk is full **{when}**{bracket}{interval}"
    steps = study.past.steps
    then = forecast(steps[:-6], study.past.at(steps[:-6]), ahead=6)
    if then:
        _, low, high = then.at(steps[-1])
        said += f". Half a year ago the same method would have said {size(low)} to {size(high)} for today"
    return Finding(f"{said}.")


def finding_changes(study: Study) -> Finding:
    """Which condition frees most now, and which leaves least if it ran every month."""
    options = [one for one in study.options if not one.error]
    if not options:
        return Finding("conf.json has no condition that could be run.")
    most = max(options, key=lambda one: one.freed)
    if not most.freed:
        return Finding("No condition of conf.json would free anything now.")
    said = f"{_code(most.name)} frees most now: **{size(most.freed)}** with {count(most.tags, 'tag')}"
    changes = study.changes
    if len(changes) > 1:
        least = changes.iloc[1:].sort_values("monthly", kind="stable").iloc[0]
        said += (
            f"; run every month, {_code(least.condition)} keeps the registry smallest: **{size(least.monthly)}** "
            f"on {day(study.horizon)}, instead of {size(changes['monthly'].iloc[0])} without a clean-up"
        )
    return Finding(f"{said}.")


def conditions(study: Study) -> Shown:
    """A table: the tags and bytes that go if a condition ran now, and the day on which the disk is full then."""
    head = ("condition", "tags", "freed now", "full if run now", "full if run every month")
    rows: list[tuple[Cell, ...]] = []
    for one in study.options:
        full = ("" if when is None else str(when) for when in (study.full(one.freed), study.full_monthly(one)))
        rows.append((one.name, one.tags, Bytes(one.freed), *full) if not one.error else (one.name, "", "error", "", ""))
    blocks: list[Block]
    if full_anyway := study.full():
        blocks = [Table(head, [("no clean-up", 0, Bytes(0), str(full_anyway), ""), *rows])]
    else:
        missing = "disk_bytes is not given" if study.outlook else "too little is known for a forecast"
        blocks = [Table(head[:3], [row[:3] for row in rows])] if rows else []
        blocks.append(Line("", f"When the disk is full can't be said: {missing}."))
    blocks += [Line(f"{one.name}: ", one.error, "bad") for one in study.options if one.error]
    return Shown(tuple(blocks))


def _code(name: str) -> str:
    return "`" + name.replace("`", "'") + "`"
