"""What a condition would free now, and what would be stored if it had run every month.

The latter by replay: for each step of 30 days it is run on what had been pushed a step before and is still there, with
ages and ranks as of then; what it leaves and what came until the step is what is stored just before its next run. That
is simple, not exact: what was deleted since is missing, and an earlier image of a moved tag counts as an orphan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from regdata.analysis.forecast import DAY, STEP, Forecast, Past, day, forecast
from regdata.errors import ConditionError
from regdata.inventory.families import with_families
from regdata.inventory.inventory import Inventory
from regdata.planning.bench import Workbench


@dataclass(frozen=True, eq=False)
class Option:
    """A condition of conf.json: the tags that go and the bytes that are freed if it ran now.

    peaks: the bytes at each of the last steps just before its run, if it ran every month; ``monthly``: their forecast.
    ``error``: why it can't be said.
    """

    name: str
    condition: str
    tags: int = 0
    freed: int = 0
    peaks: tuple[int, ...] = ()
    monthly: Forecast | None = None
    error: str = ""


def as_of(inventory: Inventory, time: int, *, blobs: pd.DataFrame, ranks: bool = True) -> Inventory:
    """What had been pushed by ``time`` (UTC epoch seconds) and is still there.

    ``blobs`` is space.by_blob(inventory). Ages and ranks are as of then (family_rank and version_rank, which take long,
    unless ``ranks`` is off), and idle_days is for what was not seen since; the rest is as of today. What has no date
    was there.
    """
    since = blobs.set_index("blob_hash")["since"]
    images = inventory.images[~(inventory.images["tag_timestamp"] > time).fillna(False)]
    newest = images.groupby(["image_name", images["kind"] == "signature"])["newest_rank"]
    images = images.assign(
        age_days=images["age_days"] - (inventory.scanned_at - time) / DAY,
        newest_rank=images["newest_rank"] - newest.transform("min") + 1,
        idle_days=images["idle_days"] - (inventory.scanned_at - time) / DAY,
    )
    manifests = inventory.manifests
    pushed = manifests["pushed"].fillna(manifests["manifest_hash"].map(since).astype("Int64"))
    stored = inventory.blobs["blob_hash"].map(since).astype("Int64")
    return replace(
        inventory,
        images=with_families(images)[list(images.columns)] if ranks else images,
        manifests=manifests[~(pushed > time).fillna(False)],
        blobs=inventory.blobs[~(stored > time).fillna(False)],
        scanned_at=time,
    )


def ranked(*conditions: str | None) -> bool:
    """Whether a condition asks for family_rank or version_rank."""
    return any(re.search(r"\b(family|version)_rank\b", condition or "", re.IGNORECASE) for condition in conditions)


def options(
    inventory: Inventory, conditions: Mapping[str, str], *, blobs: pd.DataFrame, steps: Sequence[int], ahead: int
) -> tuple[Option, ...]:
    """What each of ``conditions`` would change; ``blobs`` is space.by_blob(inventory), ``steps`` are Past.steps."""
    with Workbench(inventory) as bench:
        tried = [_option(bench, name, condition) for name, condition in conditions.items()]
    freed = []
    ranks = ranked(inventory.protect, *conditions.values())
    for time in steps:
        tried, freed_then = _replay(as_of(inventory, time - STEP, blobs=blobs, ranks=ranks), tried)
        freed.append(freed_then)
    stored = Past.of(blobs, now=inventory.scanned_at).at(steps)
    found = []
    for one in tried:
        peaks = [] if one.error else [int(now) - then[one.name] for now, then in zip(stored, freed, strict=True)]
        found.append(replace(one, peaks=tuple(peaks), monthly=forecast(steps, peaks, ahead=ahead)))
    return tuple(found)


def _option(bench: Workbench, name: str, condition: str) -> Option:
    try:
        now = bench.plan(condition)
    except ConditionError as error:
        return Option(name, condition, error=str(error))
    return Option(name, condition, tags=int((now.tags["action"] != "keep").sum()), freed=now.reclaimable)


def _replay(then: Inventory, options: Sequence[Option]) -> tuple[list[Option], dict[str, int]]:
    """The options, with their errors, and the bytes that each would have freed on the inventory as of then."""
    tried, freed = [], {}
    same: dict[frozenset[int], int] = {}  # conditions that select the same free the same
    with Workbench(then) as bench:
        for option in options:
            try:
                if not option.error:
                    selected = frozenset(bench.select(option.condition, engine=then.engine, name=option.name))
                    if selected not in same:
                        same[selected] = bench.plan(option.condition).reclaimable
                    freed[option.name] = same[selected]
            except ConditionError as error:
                option = replace(option, error=f"as of {day(then.scanned_at)}: {error}")
            tried.append(option)
    return tried, freed
