"""Inventory + condition -> Plan: which tags and manifests go, which stay and why, and the bytes that this frees.

Pure: frames in, frames out.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import pandas as pd

from regdata.errors import RegdataError
from regdata.inventory.inventory import Inventory
from regdata.plain import concealed
from regdata.planning.explain import explain, meaning
from regdata.planning.notes import notes
from regdata.planning.rules import REASONS, Decision, decide, spared
from regdata.show.shown import Shown
from regdata.sources.manifest import printable
from regdata.tables.conditions import Readers
from regdata.tables.schema import Engine
from regdata.tables.workspace import frame, workspace
from regdata.values import check_kind


@dataclass(frozen=True, eq=False)
class Plan(Decision, Shown):
    """What a clean-up will do.

    tags: image_name, tag_name, tag_hash, tag_size, action (delete, untag, keep), reason; a row per selected tag and per
    tag that goes with its subject. manifests: image_name, manifest_hash, reason; a row per manifest that goes. blobs:
    blob_hash, blob_size, image_name (one that held it, or NULL), holders (how many images held it); a row per blob that
    the collection frees. order: image_name, first, second; which manifest is to be deleted before which. selected:
    ids of inventory.images. spared: what the keep-rules spare. ``reclaimable``: the bytes of ``blobs``; exact where the
    registry's folder was read.
    """

    condition: str

    def __repr__(self) -> str:
        rows = f"{len(self.tags):,} tags, {len(self.manifests):,} manifests"
        return f"<Plan of {concealed(self.condition)!r}: {rows}, {self.reclaimable:,} bytes>"

    def explain(self, reference: str) -> str:
        """Why ``image:tag`` or ``image@sha256:…`` goes or stays, in a sentence. RegdataError for an unknown one."""
        return explain(self, reference)

    @property
    def explanations(self) -> pd.DataFrame:
        """image_name, tag_name, tag_timestamp, age_days, tag_size, tag_hash, action, reason, why: a row per tag, first
        those that don't simply go."""
        of = zip(*(self.tags[name] for name in ("image_name", "tag_name", "reason")), strict=True)
        why = [meaning(self, *row) for row in of]
        dates = self.inventory.images[["image_name", "tag_name", "tag_timestamp", "age_days"]]
        rows = self.tags.assign(why=pd.array(why, dtype="str"), last=self.tags["action"] == "delete")
        rows = rows.merge(dates, how="left", on=["image_name", "tag_name"])
        ordered = rows.sort_values(["last", "image_name", "tag_name"], ignore_index=True)
        return ordered[[*dates.columns, "tag_size", "tag_hash", "action", "reason", "why"]]

    @property
    def pushed(self) -> pd.DataFrame | None:
        """image_name, reference (tag or digest), pushed: of all tags and manifests; None where no source tells that."""
        if not self.inventory.from_store:
            return None
        of = {"tag_name": self.inventory.images, "manifest_hash": self.inventory.manifests}
        rows = [frame[["image_name", name, "pushed"]].rename(columns={name: "reference"}) for name, frame in of.items()]
        return pd.concat(rows, ignore_index=True)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader may have meant otherwise, in a sentence each: by which dates ages are counted, and the like."""
        return tuple(notes(self, self.condition))

    @property
    def reclaimable(self) -> int:
        return int(self.blobs["blob_size"].sum())

    @property
    def by_image(self) -> pd.DataFrame:
        """image_name, tags, tags_deleted, tags_untagged, tags_kept, manifests, bytes: a row per image touched.

        Bytes that several images held, and bytes that no manifest refers to, have rows of their own in brackets, so
        that the column adds up to ``reclaimable``.
        """
        with workspace(images=self.inventory.images, tag=self.tags, manifest=self.manifests, blob=self.blobs) as work:
            return frame(
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
    engine: Engine | None = None,
    protect: str | None = None,
    resumed: Iterable[tuple[str, str, int | None]] = (),
) -> Plan:
    """The clean-up of the tags that ``condition`` selects, and of orphans.

    ``engine`` and ``protect`` are the inventory's unless given (``protect=""`` protects nothing). ``resumed`` are
    manifests (image_name, manifest_hash, began) that a run, begun then (UTC epoch seconds) and interrupted, was to
    delete: the grace for orphans doesn't apply to them unless they were pushed again since.
    Raises ConditionError.
    """
    check_kind(Inventory, inventory=inventory)
    resumed = _manifests(resumed)
    with closing(Readers(inventory)) as readers:
        return planned(inventory, readers, condition, engine=engine, protect=protect, resumed=resumed)


def _manifests(resumed: object) -> list[tuple[str, str, int | None]]:
    rows: list[Any] = list(resumed) if isinstance(resumed, Iterable) and not isinstance(resumed, str) else [resumed]
    for row in rows:
        image, digest, began = row if isinstance(row, tuple | list) and len(row) == 3 else (None, None, None)
        names = isinstance(image, str) and isinstance(digest, str)
        if not names or not (began is None or (isinstance(began, Integral) and 0 <= int(began) < 2**40)):
            raise RegdataError(
                f"resumed: {row!r} is no manifest of a run: give image_name, manifest_hash, and when that began (UTC "
                "epoch seconds, or None)"
            )
    return [(printable(image), printable(digest), began) for image, digest, began in rows]


def planned(
    inventory: Inventory,
    readers: Readers,
    condition: str,
    *,
    engine: Engine | None = None,
    protect: str | None = None,
    resumed: Iterable[tuple[str, str, int | None]] = (),
) -> Plan:
    """See `plan`; ``readers`` read the conditions."""
    inventory = _governed(inventory, engine or inventory.engine, inventory.protect if protect is None else protect)
    selected = readers.select(condition, engine=inventory.engine)
    decided = decide(inventory, selected, spared(inventory), resumed=resumed)
    return Plan(**vars(decided), condition=condition.strip())


def _governed(inventory: Inventory, engine: Engine, protect: str | None) -> Inventory:
    """The inventory with these words on conditions."""
    if (engine, protect) == (inventory.engine, inventory.protect):
        return inventory
    governed = replace(inventory, engine=engine, protect=protect)
    governed.once("graph", lambda: inventory.graph)  # what holds what does not depend on them
    return governed
