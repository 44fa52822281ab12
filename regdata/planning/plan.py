"""Inventory + condition -> Plan: which tags and manifests go, which stay and why, and the bytes that this frees.

Pure: frames in, frames out. The rules are SQL: reach.sql (what holds what), plan.sql (what goes), held.sql and
bytes.sql (what is freed).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import duckdb
import pandas as pd

from regdata.inventory.inventory import Inventory
from regdata.planning.explain import explain
from regdata.show import render
from regdata.tables import database

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


@dataclass(frozen=True, eq=False)
class Plan:
    """What a clean-up will do.

    tags: image_name, tag_name, tag_hash, tag_size, action (delete, untag, keep), reason; a row per selected tag and per
    tag that goes with its subject. manifests: image_name, manifest_hash, reason; a row per manifest that goes. blobs:
    blob_hash, blob_size, image_name (one that held it, or NULL), holders (how many images held it); a row per blob that
    the collection frees. order: image_name, first, second; which manifest is to be deleted before which. selected,
    protected: ids of inventory.images. ``reclaimable``: the bytes of ``blobs``; exact where the registry's folder was
    read.
    """

    tags: pd.DataFrame
    manifests: pd.DataFrame
    blobs: pd.DataFrame
    order: pd.DataFrame
    condition: str
    inventory: Inventory
    selected: list[int]
    protected: list[int]

    def __repr__(self) -> str:
        return render.plan(self).text

    def _repr_html_(self) -> str:
        return render.plan(self).html

    def explain(self, reference: str) -> str:
        """Why ``image:tag`` or ``image@sha256:…`` goes or stays, in a sentence. RegdataError for an unknown one."""
        return explain(self, reference)

    @property
    def explanations(self) -> pd.DataFrame:
        """image_name, tag_name, tag_size, action, reason, why: a row per tag, first those that don't simply go."""
        rows = self.tags.assign(why=self.tags["reason"].map(REASONS), last=self.tags["action"] == "delete")
        ordered = rows.sort_values(["last", "image_name", "tag_name"], ignore_index=True)
        return ordered[["image_name", "tag_name", "tag_size", "action", "reason", "why"]]

    @property
    def reclaimable(self) -> int:
        return int(self.blobs["blob_size"].sum())

    @property
    def by_image(self) -> pd.DataFrame:
        """image_name, tags, tags_deleted, tags_untagged, tags_kept, manifests, bytes: a row per image touched.

        Bytes that several images held, and bytes that no manifest refers to, have rows of their own in brackets, so
        that the column adds up to ``reclaimable``.
        """
        with database.workspace(
            images=self.inventory.images, tag=self.tags, manifest=self.manifests, blob=self.blobs
        ) as work:
            return database.frame(
                work,
                """
                with t as (
                    select image_name, count(*) filter (action = 'delete') as tags_deleted,
                           count(*) filter (action = 'untag') as tags_untagged,
                           count(*) filter (action = 'keep') as tags_kept
                    from tag group by image_name
                ),
                m as (select image_name, count(*) as manifests from manifest group by image_name),
                b as (
                    select case holders when 0 then '(no manifest refers to it)' when 1 then image_name
                                else '(shared by several images)' end as image_name,
                           sum(blob_size)::bigint as bytes
                    from blob group by all
                ),
                i as (select image_name, count(*) as tags from images group by image_name)
                select image_name, coalesce(i.tags, 0) as tags, coalesce(tags_deleted, 0) as tags_deleted,
                       coalesce(tags_untagged, 0) as tags_untagged, coalesce(tags_kept, 0) as tags_kept,
                       coalesce(manifests, 0) as manifests, coalesce(bytes, 0) as bytes
                from t full join m using (image_name) full join b using (image_name) left join i using (image_name)
                order by bytes desc, image_name
                """,
            )

    @property
    def reasons(self) -> pd.DataFrame:
        """what (tag, manifest), action, reason, meaning, count."""
        tags = self.tags.groupby(["action", "reason"]).size().rename("count").reset_index().assign(what="tag")
        manifests = (
            self.manifests.groupby("reason")
            .size()
            .rename("count")
            .reset_index()
            .assign(what="manifest", action="delete")
        )
        both = pd.concat([tags, manifests], ignore_index=True)
        return both.assign(meaning=both["reason"].map(REASONS))[["what", "action", "reason", "meaning", "count"]]


def plan(
    inventory: Inventory,
    condition: str,
    *,
    engine: database.Engine | None = None,
    protect: str | None = None,
    resumed: Iterable[tuple[str, str, int]] = (),
) -> Plan:
    """The clean-up of the tags that ``condition`` selects, and of orphans.

    ``engine`` and ``protect`` are the inventory's unless given (``protect=""`` protects nothing). ``resumed`` are
    manifests (image_name, manifest_hash, began) that a run, begun then (UTC epoch seconds) and interrupted, was to
    delete: the grace for orphans doesn't apply to them unless they were pushed again since.
    Raises ConditionError.
    """
    with Workbench(inventory) as bench:
        return bench.plan(condition, engine=engine, protect=protect, resumed=resumed)


class Workbench:
    """An inventory made ready once for many conditions; what one does no other sees. Threads take turns."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._readers: dict[database.Engine, database.Reader] = {}
        self._lock = threading.RLock()

    def select(
        self, condition: str, *, engine: database.Engine, name: str = "condition", limit: float | None = None
    ) -> list[int]:
        """The ids of inventory.images that ``condition`` selects: see regdata.tables.database.Reader.select."""
        with self._lock:
            return self._reader(engine).select(condition, name=name, limit=limit)

    def query(self, sql: str) -> pd.DataFrame:
        """What a query over the tables gives; DuckDB reads it. Raises ConditionError."""
        with self._lock:
            return self._reader("duckdb").query(sql)

    def plan(
        self,
        condition: str,
        *,
        engine: database.Engine | None = None,
        protect: str | None = None,
        resumed: Iterable[tuple[str, str, int]] = (),
    ) -> Plan:
        """The plan of ``condition``: see regdata.plan.plan."""
        engine = engine or self.inventory.engine
        protect = self.inventory.protect if protect is None else protect
        with self._lock:
            selected = self.select(condition, engine=engine)
            protected = self.select(protect, engine=engine, name="protect") if protect else []
            _hold(self.inventory)
            with solve(self.inventory, selected, protected, resumed=resumed) as work:
                database.run_file(work, "planning/bytes.sql")
                named = self.inventory.refers.named
                return Plan(
                    tags=database.frame(work, _TAGS),
                    manifests=named(work.sql(_MANIFESTS).to_arrow_table(), "manifest_hash"),
                    blobs=named(work.sql(_FREED).to_arrow_table(), "blob_hash"),
                    order=named(work.sql(_ORDER).to_arrow_table(), "first", "second"),
                    condition=condition.strip(),
                    inventory=self.inventory,
                    selected=selected,
                    protected=protected,
                )

    @cached_property
    def anyway(self) -> int:
        """The bytes that a clean-up frees whatever its condition: of orphans, and those that nothing refers to."""
        return self.plan("1=0").reclaimable

    def interrupt(self) -> None:
        """Stops the condition that another thread is reading: it gets a ConditionError."""
        for reader in list(self._readers.values()):
            reader.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers.values():
            reader.close()

    def _reader(self, engine: database.Engine) -> database.Reader:
        if engine not in self._readers:
            self._readers[engine] = database.Reader(self.inventory, engine)
        return self._readers[engine]


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
        database.run_file(work, "planning/plan.sql")
        yield work


def _hold(inventory: Inventory) -> None:
    inventory.graph.keep(
        "planning/held.sql",
        blobs=inventory.blobs,
        descriptor=inventory.refers.descriptors,
        known=pd.DataFrame({"from_store": [inventory.from_store]}),
    )


def freed(inventory: Inventory, manifests: pd.DataFrame) -> pd.DataFrame:
    """The blobs that the collection frees once ``manifests`` (image_name, manifest_hash) are gone: see Plan.blobs."""
    _hold(inventory)
    with inventory.graph.open(going=manifests) as work:
        work.execute(
            """create temp table manifest_plan as
               select i.image, d.digest
               from going g join image i using (image_name) join digest d on d.hash = g.manifest_hash"""
        )
        database.run_file(work, "planning/bytes.sql")
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
