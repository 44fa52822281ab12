"""Inventory -> small frames that say what takes the space.

Pure. Bytes are those that the registry stores, as the plan counts them: a blob once, however many
images hold it. The frames are what regdata.notebook.charts draws, and regdata.notebook.findings puts into words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb
import pandas as pd

from regdata.inventory.inventory import Inventory
from regdata.planning.bench import Workbench
from regdata.planning.plan import Plan
from regdata.planning.rules import freed
from regdata.tables.workspace import frame, run_file, workspace

AGES = (30, 90, 180, 365)  # days
LAYERS = 15


class Totals(NamedTuple):
    """How big a registry is; everything but the counts in bytes.

    stored = one_image + several_images + orphan_bytes + unreferenced: what one image holds, what
    several hold, what only orphans hold, what no manifest refers to. ``unshared`` is what would be
    stored if each manifest had its own copy of what it needs. ``orphans`` (manifests that no tag
    reaches) is None where the registry's folder was not read: then they can't be seen.
    """

    images: int
    tags: int
    orphans: int | None
    stored: int
    unshared: int
    one_image: int
    several_images: int
    orphan_bytes: int
    unreferenced: int

    @property
    def saved(self) -> int:
        """What sharing saves."""
        return self.unshared - self.stored


def totals(inventory: Inventory) -> Totals:
    """The registry as a whole."""
    with _workspace(inventory) as work:
        ((images, tags, orphans, needed),) = work.execute(
            """
            select (select count(*) from repositories), (select count(*) from images),
                   (select count(*) from manifests where orphan),
                   (select coalesce(sum(blob_size), 0)::bigint from need join stored using (blob_hash))
            """
        ).fetchall()
        query = "select holders, orphan, sum(blob_size)::bigint from owned group by all"
        bytes_of = [(min(holders, 2), orphan, bytes_) for holders, orphan, bytes_ in work.execute(query).fetchall()]

    def total(holders: int, *, orphan: bool) -> int:
        return sum(bytes_ for held, by_orphan, bytes_ in bytes_of if (held, by_orphan) == (holders, orphan))

    unreferenced = total(0, orphan=False)
    return Totals(
        images=images,
        tags=tags,
        orphans=orphans if inventory.from_store else None,
        stored=sum(bytes_ for *_, bytes_ in bytes_of),
        unshared=needed + unreferenced,
        one_image=total(1, orphan=False),
        several_images=total(2, orphan=False),
        orphan_bytes=total(1, orphan=True) + total(2, orphan=True),
        unreferenced=unreferenced,
    )


def by_image(inventory: Inventory) -> pd.DataFrame:
    """image_name, tags, own, shared: a row per image, largest first.

    own: bytes that only this image holds; shared: bytes that others hold, too.
    """
    return _query(inventory, "from image order by own desc, shared desc, image_name")


def by_path(inventory: Inventory) -> pd.DataFrame:
    """image_name, team, bytes: what each image alone holds; what several hold, and nobody, has rows in brackets.

    team: the first part of the image's path, or "other (k)" of the smaller ones; a categorical in
    the order of size. The column bytes adds up to all that is stored.
    """
    return _query(
        inventory,
        """
        select image_name, team, sum(blob_size)::bigint as bytes from owned join team using (path)
        group by all having bytes > 0 order by bytes desc, image_name
        """,
    )


def by_month(inventory: Inventory) -> pd.DataFrame:
    """month, team, bytes: when what is stored was pushed, or, without base_path, built.

    month: "2025-03"; NULL: unknown. team: see by_path.
    """
    return _query(
        inventory,
        """
        select strftime(make_timestamp(since * 1000000), '%Y-%m') as month, team, sum(blob_size)::bigint as bytes
        from owned join team using (path) group by all order by month, min(rank)
        """,
    )


def by_blob(inventory: Inventory) -> pd.DataFrame:
    """blob_hash, blob_size, since, image_name, team: a row per stored blob; names and teams as in `by_path`.

    since: UTC epoch seconds of its push, or, without base_path, of the first build that needs it; NULL: unknown.
    """
    query = "select blob_hash, blob_size, since, image_name, team from owned join team using (path) order by blob_hash"
    return _query(inventory, query)


def by_age(inventory: Inventory) -> pd.DataFrame:
    """what, days, tags, stay, bytes: what a clean-up of everything older than ``days`` would remove and free.

    The bytes are the plan's own (``age_days > N``, with conf.json's `protect`), so they are those
    that the deletion then frees. They contain what any clean-up frees, which is the row without
    days; there is none where the registry's folder was not read, since that can't be seen then.
    """
    with Workbench(inventory) as bench:
        plans: list[tuple[str, int | None, Plan]] = [
            (f"older than {days} days", days, bench.plan(f"age_days > {days}")) for days in AGES
        ]
        if inventory.from_store:
            plans.append(("orphans and leftovers alone", None, bench.plan("2=1")))
    frame = pd.DataFrame(
        [
            (
                what,
                days,
                int((one.tags["action"] != "keep").sum()),
                int((one.tags["action"] == "keep").sum()),
                one.reclaimable,
            )
            for what, days, one in plans
        ],
        columns=["what", "days", "tags", "stay", "bytes"],
    )
    return frame.astype({"days": "Int64"})


def by_tag(inventory: Inventory) -> pd.DataFrame:
    """image_name, tag_name, team (see by_path), age_days (NULL: unknown), tag_size: a row per tag, largest first."""
    return _query(
        inventory,
        """
        select image_name, tag_name, team, age_days, tag_size from images
        join team on path = split_part(image_name, '/', 1) order by tag_size desc, image_name, tag_name
        """,
    )


def layers(inventory: Inventory) -> pd.DataFrame:
    """blob_hash, blob_size, tags, images, users, share: the layers that cost most, and who uses them.

    users: the images that hold it, those with most tags on it first. share: of all layers' bytes.
    """
    with _workspace(inventory) as work:
        work.register("relations", inventory.relations)
        return frame(
            work,
            f"""
            with layer as (
                select blob_hash, blob_size, blob_size / nullif(sum(blob_size) over (), 0) as share
                from stored where blob_hash in (select reference_hash from "references" where reference_kind = 'layer')
                order by blob_size desc, blob_hash limit {LAYERS}
            ),
            use as (
                select l.blob_hash, n.image_name, count(distinct r.tag_name) as tags
                from layer l join (select distinct image_name, blob_hash from need) n using (blob_hash)
                left join relations r on r.blob_hash = l.blob_hash and r.image_name = n.image_name
                group by all
            )
            select blob_hash, any_value(blob_size) as blob_size, sum(tags)::bigint as tags, count(*) as images,
                   string_agg(image_name, ', ' order by tags desc, image_name) as users, any_value(share) as share
            from layer join use using (blob_hash) group by blob_hash order by blob_size desc, blob_hash
            """,
        )


def goes_and_stays(shown: Plan) -> pd.DataFrame:
    """image_name, goes, stays: bytes of each image, and of those that several images hold, or nobody (in brackets).

    goes adds up to ``shown.reclaimable``, both together to all that is stored.
    """
    with _workspace(shown.inventory) as work:
        work.register("gone", shown.blobs)
        return frame(
            work,
            """
            select image_name, coalesce(sum(o.blob_size) filter (g.blob_hash is not null), 0)::bigint as goes,
                   coalesce(sum(o.blob_size) filter (g.blob_hash is null), 0)::bigint as stays
            from owned o left join (select blob_hash from gone) g on g.blob_hash = o.blob_hash
            group by image_name order by goes desc, stays desc, image_name
            """,
        )


def rows(frame: pd.DataFrame) -> Iterator[Any]:
    """The frame's rows as named tuples, whose types only the frame knows."""
    return frame.itertuples(index=False)


@contextmanager
def _workspace(inventory: Inventory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of analysis.sql.

    The blobs that a collection would free if every manifest went are all that is stored: so this
    module means the same by "stored" and by "holds" as a plan.
    """
    with workspace(
        repositories=inventory.repositories,
        images=inventory.images,
        manifests=inventory.manifests,
        references=inventory.references,
        blobs=inventory.blobs,
        stored=freed(inventory, inventory.manifests[["image_name", "manifest_hash"]]),
    ) as work:
        run_file(work, "analysis/analysis.sql")
        yield work


def _query(inventory: Inventory, query: str) -> pd.DataFrame:
    with _workspace(inventory) as work:
        found = frame(work, query)
        if "team" in found:
            teams = work.execute("select team from team group by team order by min(rank)").fetchall()
            found["team"] = pd.Categorical(found["team"], categories=[name for (name,) in teams], ordered=True)
    return found
