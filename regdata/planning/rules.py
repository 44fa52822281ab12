"""Inventory + ids -> what goes, what stays and why, what is freed: the only place that names the rules' tables.

The rules are SQL: reach.sql (what holds what), plan.sql (what goes), held.sql and bytes.sql (what is freed).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pandas as pd

from regdata.inventory.inventory import Inventory
from regdata.tables.workspace import frame, run_file

GRACE = 2 * 3600

# Why a tag or a manifest goes or stays, in words.
REASONS = {
    "selected": "the condition selects it",
    "orphan": "no tag reaches it",
    "child": "only a deleted index lists it",
    "referrer": "it belongs to a manifest that goes",
    "protected": "`protect` matches it",
    "shared-digest": "another tag that stays is on the same digest",
    "index-child": "an index that stays lists it",
    "signs-kept-image": "it belongs to a manifest that stays",
    "has-kept-referrer": "a tag that stays belongs to it",
    "unreadable": "it, or something in its repository that may reach it, can't be read",
    "grace": "no tag reaches it, but it is younger than 2 hours: a push may be in flight",
    "moved": "it changed between the scan and the deletion",
}


@contextmanager
def solve(
    inventory: Inventory,
    selected: Iterable[int],
    protected: Iterable[int],
    *,
    resumed: Iterable[tuple[str, str, int]] = (),
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A workspace with the tables of plan.sql, for selected and protected ids of ``inventory.images``."""
    setting = {"scanned_at": [inventory.scanned_at], "grace": [GRACE], "can_untag": [inventory.can_untag]}
    kinds = {"image_name": "str", "manifest_hash": "str", "began": "int64"}
    with inventory.graph.open(
        images=inventory.images,
        selected=pd.DataFrame({"id": pd.array(list(selected), dtype="int64")}),
        protected=pd.DataFrame({"id": pd.array(list(protected), dtype="int64")}),
        resumed=pd.DataFrame(list(resumed), columns=list(kinds)).astype(kinds),
        setting=pd.DataFrame(setting),
    ) as work:
        run_file(work, "planning/plan.sql")
        yield work


@dataclass(frozen=True)
class Decision:
    """What the rules decide, with the columns of regdata.planning.plan.Plan."""

    tags: pd.DataFrame
    manifests: pd.DataFrame
    blobs: pd.DataFrame
    order: pd.DataFrame


def decide(
    inventory: Inventory,
    selected: Iterable[int],
    protected: Iterable[int],
    *,
    resumed: Iterable[tuple[str, str, int]] = (),
) -> Decision:
    """What goes when the tags with the ids ``selected`` are to go and those with the ids ``protected`` must stay."""
    hold(inventory)
    with solve(inventory, selected, protected, resumed=resumed) as work:
        run_file(work, "planning/bytes.sql")
        named = inventory.refers.named
        return Decision(
            tags=frame(work, _TAGS),
            manifests=named(work.sql(_MANIFESTS).to_arrow_table(), "manifest_hash"),
            blobs=named(work.sql(_FREED).to_arrow_table(), "blob_hash"),
            order=named(work.sql(_ORDER).to_arrow_table(), "first", "second"),
        )


def hold(inventory: Inventory) -> None:
    """Has the inventory's graph keep the tables of held.sql: what is stored, and which manifest holds it."""
    inventory.graph.keep(
        "planning/held.sql",
        blobs=inventory.blobs,
        descriptor=inventory.refers.descriptors,
        known=pd.DataFrame({"from_store": [inventory.from_store]}),
    )


def freed(inventory: Inventory, manifests: pd.DataFrame) -> pd.DataFrame:
    """The blobs that the collection frees once ``manifests`` (image_name, manifest_hash) are gone: see Plan.blobs."""
    hold(inventory)
    with inventory.graph.open(going=manifests) as work:
        work.execute(
            """create temp table manifest_plan as
               select i.image, d.digest
               from going g join image i using (image_name) join digest d on d.hash = g.manifest_hash"""
        )
        run_file(work, "planning/bytes.sql")
        return inventory.refers.named(work.sql(_FREED).to_arrow_table(), "blob_hash")


_TAGS = """
select i.image_name, i.tag_name, i.tag_hash, i.tag_size, p.action, p.reason
from tag_plan p join images i using (id) order by i.image_name, i.tag_name"""

_MANIFESTS = """
select i.image_name, p.digest as manifest_hash, p.reason
from manifest_plan p join image i using (image) order by p.node"""

_FREED = """
select blob as blob_hash, s.blob_size, i.image_name, f.holders
from freed_from f join stored s using (blob) left join image i using (image) order by blob"""

_ORDER = """
select i.image_name, o.first, o.second
from deletion_order o join image i using (image) order by o.image, o.first, o.second"""
