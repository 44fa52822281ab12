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

from regdata.inventory.files import file_table
from regdata.inventory.graph import Table
from regdata.inventory.inventory import Inventory
from regdata.planning.bench import Workbench
from regdata.planning.plan import Plan
from regdata.sources.census import Listing

AGES = (30, 90, 180, 365)  # days


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
        ((copies,),) = work.sql("from space.copies").fetchall()
        query = "select least(holders, 2), orphan, sum(blob_size)::bigint from space.owned group by all"
        bytes_of = {(holders, orphan): bytes_ for holders, orphan, bytes_ in work.sql(query).fetchall()}
    unreferenced = bytes_of.get((0, False), 0)
    return Totals(
        images=len(inventory.repositories),
        tags=len(inventory.images),
        orphans=int(inventory.manifests["orphan"].sum()) if inventory.from_store else None,
        stored=sum(bytes_of.values()),
        unshared=copies + unreferenced,
        one_image=bytes_of.get((1, False), 0),
        several_images=bytes_of.get((2, False), 0),
        orphan_bytes=bytes_of.get((1, True), 0) + bytes_of.get((2, True), 0),
        unreferenced=unreferenced,
    )


def by_image(inventory: Inventory) -> pd.DataFrame:
    """image_name, tags, own, shared: a row per image, largest first.

    own: bytes that only this image holds; shared: bytes that others hold, too.
    """
    return _query(inventory, "from space.image order by own desc, shared desc, image_name")


def by_path(inventory: Inventory) -> pd.DataFrame:
    """image_name, team, bytes: what each image alone holds; what several hold, and nobody, has rows in brackets.

    team: the first part of the image's path, or "other (k)" of the smaller ones; a categorical in
    the order of size. The column bytes adds up to all that is stored.
    """
    return _query(
        inventory,
        """
        select image_name, team, sum(blob_size)::bigint as bytes
        from space.owned join space.owner using (image) join space.team using (path)
        group by all having bytes > 0 order by bytes desc, image_name
        """,
    )


def who_pays(inventory: Inventory, price_per_gb_month: float | None = None) -> pd.DataFrame:
    """team, bytes, price: what each team is to pay for, the largest first; a team is the first part of a path.

    What several teams hold is split among them in equal shares, so that bytes add up to all that is stored; what no
    manifest refers to is "(nobody)". price: of a month; NaN without ``price_per_gb_month`` (a GB is 10^9 bytes).
    """
    found = _query(inventory, "from space.payer where bytes > 0 order by bytes desc, payer")
    shares = found.rename(columns={"payer": "team"})  # by its own name, not as one of the few that charts tell apart
    price = float("nan") if price_per_gb_month is None else price_per_gb_month
    return shares.assign(price=shares["bytes"] / 1e9 * price)


def by_month(inventory: Inventory) -> pd.DataFrame:
    """month, team, bytes: when what is stored was pushed, or, without base_path, built.

    month: "2025-03"; NULL: unknown. team: see by_path.
    """
    return _query(
        inventory,
        """
        select strftime(make_timestamp(since * 1000000), '%Y-%m') as month, team, sum(blob_size)::bigint as bytes
        from space.owned join space.team using (path) group by all order by month, min(rank)
        """,
    )


def by_blob(inventory: Inventory) -> pd.DataFrame:
    """blob_hash, blob_size, since, image_name, team: a row per stored blob; names and teams as in `by_path`.

    since: UTC epoch seconds of its push, or, without base_path, of the first build that needs it; NULL: unknown.
    """
    return _query(
        inventory,
        """
        select blob as blob_hash, blob_size, since, image_name, team
        from space.owned join space.owner using (image) join space.team using (path) order by blob
        """,
    )


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
        select image_name, tag_name, team, age_days, tag_size
        from images join image using (image_name) join space.home using (image) join space.team using (path)
        order by tag_size desc, image_name, tag_name
        """,
        images=inventory.images,
    )


def layers(inventory: Inventory) -> pd.DataFrame:
    """blob_hash, blob_size, tags, images, users, share: the layers that cost most, and who uses them.

    users: the images that hold it, those with most tags on it first. share: of all layers' bytes.
    """
    return _query(inventory, "select blob as blob_hash, * exclude blob from space.layer order by blob_size desc, blob")


def goes_and_stays(shown: Plan) -> pd.DataFrame:
    """image_name, goes, stays: bytes of each image, and of those that several images hold, or nobody (in brackets).

    goes adds up to ``shown.reclaimable``, both together to all that is stored.
    """
    return _query(
        shown.inventory,
        """
        select image_name, coalesce(sum(blob_size) filter (gone), 0)::bigint as goes,
               coalesce(sum(blob_size) filter (not gone), 0)::bigint as stays
        from (select o.*, o.blob in (select d.digest from digest d semi join freed f on f.blob_hash = d.hash) as gone
              from space.owned o)
        join space.owner using (image)
        group by image_name order by goes desc, stays desc, image_name
        """,
        freed=shown.blobs,
    )


# What the bytes of a store are, in the order in which they are told.
PARTS = {
    "one": "blobs that one image needs",
    "several": "blobs that several images need",
    "orphans": "blobs that only orphans need",
    "nobody": "blobs that no manifest refers to",
    "new": "blobs that came during the scan",
    "links": "links",
    "uploads": "uploads",
    "aside": "set aside by regdata",
    "foreign": "files that no registry made",
}


def every_byte(inventory: Inventory, files: Listing | None) -> pd.DataFrame:
    """what (`PARTS`), files, bytes: what the files below base_path are, a row for each kind of which there is any.

    ``files``: a census of the store; without one (None) blobs alone are known, by the inventory. The bytes are those of
    files, each counted once however many names it has, and add up to what ``du --apparent-size -b`` says of the files;
    folders, which take as much as their file system likes, count nothing.
    """
    names = pd.DataFrame({"part": PARTS.keys(), "what": PARTS.values(), "rank": range(len(PARTS))})
    found = _query(inventory, _EVERY_BYTE if files else _EVERY_BLOB, names=names, listed=file_table(files))
    return found[["what", "files", "bytes"]]


_BLOB_PART = (
    "case when holders = 0 then 'nobody' when orphan then 'orphans' when holders = 1 then 'one' else 'several' end"
)
_EVERY_BLOB = f"""
select what, count(*) as files, sum(blob_size)::bigint as bytes
from (select {_BLOB_PART} as part, blob_size from space.owned) join names using (part) group by rank, what order by rank
"""
_EVERY_BYTE = f"""
with once as (
    select kind, name, size from listed where size is not null
    qualify file is null or row_number() over (partition by file order by kind = 'aside', kind, name) = 1
),
owned as (select d.hash, {_BLOB_PART} as part from space.owned o join digest d on d.digest = o.blob),
parted as (
    select f.size, case f.kind when 'blob' then coalesce(o.part, 'new') when 'upload' then 'uploads'
                   when 'aside' then 'aside' when 'foreign' then 'foreign' else 'links' end as part
    from once f left join owned o on f.kind = 'blob' and o.hash = f.name
)
select what, count(*) as files, sum(size)::bigint as bytes
from parted join names using (part) group by rank, what order by rank
"""


def rows(frame: pd.DataFrame) -> Iterator[Any]:
    """The frame's rows as named tuples, whose types only the frame knows."""
    return frame.itertuples(index=False)


@contextmanager
def _workspace(inventory: Inventory, **tables: Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of space.sql, which are made once for an inventory.

    What is stored, and what holds it, are the tables by which a plan counts: so both mean the same.
    """
    inventory.graph.keep("inventory/parts.sql")
    inventory.graph.keep("analysis/space.sql", repositories=inventory.repositories, manifests=inventory.manifests)
    with inventory.graph.open(**tables) as work:
        yield work


def _query(inventory: Inventory, query: str, **tables: Table) -> pd.DataFrame:
    with _workspace(inventory, **tables) as work:
        table = work.sql(query).to_arrow_table()
        teams = work.sql("select team from space.team group by team order by min(rank)").fetchall()
    found = inventory.refers.named(table, *({"blob_hash"} & {*table.column_names}))
    if "team" in found:
        found["team"] = pd.Categorical(found["team"], categories=[name for (name,) in teams], ordered=True)
    return found
