"""Proof before trust: what a condition would have deleted in the past, and somebody pulled afterwards or runs today.

For each of the last months (30 days) it is run on what there was at its end: on a snapshot where there is one, with the
pulls that were known by then; else on what had been pushed by then and is still there, which is less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from regdata.analysis import space
from regdata.analysis.forecast import STEP
from regdata.analysis.replay import as_of, ranked
from regdata.config import Config
from regdata.inventory import snapshot as snapshots
from regdata.inventory.inventory import Inventory
from regdata.inventory.usage import history, with_usage
from regdata.planning.plan import plan
from regdata.show.shown import Shown
from regdata.tables.workspace import frame, run_file
from regdata.usage.accesslog import AccessLog
from regdata.values import check_kind, check_whole

MONTHS, MOST = 12, 240


@dataclass(frozen=True, eq=False)
class Backtest(Shown):
    """What ``condition`` would have deleted, and what of it would have been missed.

    months: as_of, snapshot (whether one was at hand), tags (that it would have deleted), missed; a row per month.
    missed: image_name, tag_name, as_of (when it would have gone), pulled (when it was first pulled afterwards), used_by
    (who runs it today); a row per tag. ``tags``: how many would have gone in all. ``pulls_since``: from when on pulls
    are known; None where nobody knows. ``uses``: whether there are lists of what runs.
    """

    condition: str
    months: pd.DataFrame
    missed: pd.DataFrame
    tags: int
    pulls_since: int | None
    uses: bool

    def __repr__(self) -> str:
        return f"<Backtest of {self.condition!r}: {len(self.missed):,} of {self.tags:,} tags would have been missed>"


def backtest(inventory: Inventory, condition: str, config: Config, *, months: int = MONTHS) -> Backtest:
    """Runs ``condition`` as of each past month. Raises ConditionError, ConfigError or StorageError; nothing is
    changed."""
    check_kind(Inventory, inventory=inventory)
    check_kind(Config, config=config)
    check_whole(MOST, months=months)
    remembered = history(config) if config.access_log else None
    # A scan that has read the logs has added them to what is remembered.
    again = () if remembered and inventory.pulls_since is not None else config.access_log
    with AccessLog(again, remembered) as log:
        steps = [
            _step(moment, condition, inventory, log, config)
            for moment in _moments(inventory, condition, config, months)
        ]
        since = log.pulls(inventory.scanned_at).since
    tag = ["image_name", "tag_name"]
    missed = pd.concat([step.missed for step in steps]) if steps else _NOT_MISSED
    gone = pd.concat([step.gone for step in steps]) if steps else _NOT_MISSED
    months_ = [(step.as_of, step.snapshot, len(step.gone), len(step.missed)) for step in steps]
    return Backtest(
        condition=condition.strip(),
        months=pd.DataFrame(months_, columns=["as_of", "snapshot", "tags", "missed"]),
        missed=missed.sort_values([*tag, "as_of"]).drop_duplicates(tag, ignore_index=True),
        tags=len(gone[tag].drop_duplicates()),
        pulls_since=since,
        uses=bool(config.in_use),
    )


class _Moment(NamedTuple):
    """What there was; ``snapshot``: as it was seen then."""

    inventory: Inventory
    snapshot: bool


class _Step(NamedTuple):
    """gone: the tags that would have been deleted; missed: see Backtest."""

    as_of: int
    snapshot: bool
    gone: pd.DataFrame
    missed: pd.DataFrame


def _moments(inventory: Inventory, condition: str, config: Config, months: int) -> Iterator[_Moment]:
    """The past, oldest first."""
    saved = {time: path for path, time in snapshots.earlier(config.snapshots, inventory).items()}
    blobs = space.by_blob(inventory)
    # The other tables are most of a snapshot.
    whole = bool(re.search(r"\b(relations|blobs|references)\b", f"{condition} {inventory.protect}", re.IGNORECASE))
    for number in range(months, 0, -1):
        time = inventory.scanned_at - number * STEP
        if near := [then for then in saved if time - STEP < then <= time]:
            found = Inventory(**snapshots.load(saved[max(near)], whole=whole))
            today = {key: getattr(inventory, key) for key in ("engine", "protect", "can_untag")}
            yield _Moment(replace(found, **today), snapshot=True)
        else:
            then = as_of(inventory, time, blobs=blobs, ranks=ranked(condition, inventory.protect))
            # Nobody knows what ran then.
            images = then.images.assign(in_use=False) if config.in_use else then.images
            yield _Moment(replace(then, images=images, uses=inventory.uses.head(0)), snapshot=False)


def _step(moment: _Moment, condition: str, today: Inventory, log: AccessLog, config: Config) -> _Step:
    then, ignored = moment.inventory, config.not_a_pull
    if config.access_log:
        then = with_usage(then, log.pulls(then.scanned_at, ignored=ignored))
    planned = plan(then, condition)
    going = planned.tags[planned.tags["action"] != "keep"]
    then.graph.keep("inventory/parts.sql")
    with then.graph.open(
        going=going[["image_name", "tag_name", "action"]],
        gone=planned.manifests[["image_name", "manifest_hash"]],
        later=log.later(then.scanned_at, ignored=ignored),
        uses=today.uses,
        today=today.images[["image_name", "tag_name", "pushed"]],
        moment=pd.DataFrame({"time": [then.scanned_at]}),
    ) as work:
        run_file(work, "analysis/backtest.sql")
        missed = frame(work, "select *, (select time from moment) as as_of from missed order by image_name, tag_name")
    return _Step(then.scanned_at, moment.snapshot, going, missed[list(_NOT_MISSED.columns)])


_NOT_MISSED = pd.DataFrame(
    {
        "image_name": pd.array([], dtype="str"),
        "tag_name": pd.array([], dtype="str"),
        "as_of": pd.array([], dtype="Int64"),
        "pulled": pd.array([], dtype="Int64"),
        "used_by": pd.array([], dtype="str"),
    }
)
