"""Inventory -> small frames that say what takes the space, and the sentences that state what is in them.

Pure. Bytes are those that the registry stores, as the plan counts them: a blob once, however many
images hold it. The frames are what regdata.notebook.charts draws; `finding_*` puts one into a sentence.
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
from regdata.show.render import count, percent, size
from regdata.tables.workspace import frame, run_file, workspace

AGES = (30, 90, 180, 365)  # days
LAYERS = 15


class Finding(str):
    """A sentence in Markdown, which a notebook shows as such."""

    def _repr_markdown_(self) -> str:
        return str(self)

    @property
    def plain(self) -> str:
        """The sentence without its marks."""
        return self.replace("**", "").replace("`", "")


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


def finding_totals(found: Totals) -> Finding:
    """How big the registry is, and what sharing saves."""
    if not found.stored:
        return Finding("The registry is empty: it stores no blob at all.")
    said = f"**{size(found.stored)}** are stored for {count(found.tags, 'tag')} of {count(found.images, 'image')}"
    saves = percent(found.saved, found.unshared)
    said += f"; if nothing were shared, it would be {size(found.unshared)}, so sharing saves {saves}"
    if found.orphans is None:
        return Finding(f"{said}. Orphans and what nobody refers to can't be seen without `registry.base_path`.")
    orphans = f"{count(found.orphans, 'orphan')} {'holds' if found.orphans == 1 else 'hold'} {size(found.orphan_bytes)}"
    return Finding(f"{said}; {orphans}, and {size(found.unreferenced)} are leftovers that no manifest refers to.")


def finding_by_image(images: pd.DataFrame) -> Finding:
    """Which image takes most, and in how few images half of it is."""
    own = images["own"].sum()
    if not own:
        return Finding("No image holds anything that is its own.")
    first = images.iloc[0]
    half = int((images["own"].cumsum() < own / 2).sum()) + 1
    most = f"{_code(first.image_name)} takes most: **{size(first.own)}** that only it holds"
    of_all = f"{half:,} of {count(len(images), 'image')} {'holds' if half == 1 else 'hold'} half of that"
    return Finding(f"{most}, {percent(first.own, own)} of what single images hold; {of_all}.")


def finding_by_month(months: pd.DataFrame) -> Finding:
    """Which month brought most, and what the last twelve brought."""
    dated = months.dropna(subset="month").groupby("month")["bytes"].sum()
    if dated.empty:
        return Finding("Nothing that is stored has a known date.")
    last = pd.Period(dated.index.max(), freq="M")
    year = int(dated[dated.index > str(last - 12)].sum())
    unknown = int(months["bytes"].sum() - dated.sum())
    rest = f"; {size(unknown)} have no known date" if unknown else ""
    return Finding(
        f"**{dated.idxmax()}** brought most of what is still stored, {size(int(dated.max()))}; the 12 months to {last} "
        f"brought {size(year)}, {percent(year, int(dated.sum()))} of all{rest}."
    )


def finding_by_age(ages: pd.DataFrame) -> Finding:
    """What would be freed if all that is older than so many days went."""
    if not ages["bytes"].sum():
        return Finding("Nothing would be freed, however old the tags that went.")
    older = ages.dropna(subset="days")
    parts = [f"**{size(row.bytes)}** for {row.days} days ({count(row.tags, 'tag')})" for row in rows(older)]
    leftovers = int(ages.loc[ages["days"].isna(), "bytes"].sum())
    rest = f"; of it {size(leftovers)} are orphans and leftovers, which any clean-up frees" if leftovers else ""
    return Finding(f"If all that is older went, this would be freed: {', '.join(parts)}{rest}.")


def finding_by_tag(tags: pd.DataFrame) -> Finding:
    """The largest and the oldest tag, and the middle size."""
    if tags.empty:
        return Finding("There is no tag.")
    first = tags.iloc[0]
    name = _code(f"{first.image_name}:{first.tag_name}")
    said = f"The largest of {count(len(tags), 'tag')} is {name} with **{size(first.tag_size)}**"
    said += f"; half are below {size(int(tags['tag_size'].median()))}"
    unknown = int(tags["age_days"].isna().sum())
    if unknown < len(tags):
        oldest = tags.sort_values("age_days").dropna(subset="age_days").iloc[-1]
        name = _code(f"{oldest.image_name}:{oldest.tag_name}")
        said += f"; the oldest, {name}, is {count(int(oldest.age_days), 'day')} old"
    return Finding(f"{said}{f'; {unknown:,} have no known date' if unknown else ''}.")


def finding_layers(costly: pd.DataFrame) -> Finding:
    """What the largest layers take together, and who uses the first."""
    if costly.empty:
        return Finding("There is no layer.")
    first = costly.iloc[0]
    used = f"{count(first.tags, 'tag')} of {count(first.images, 'image')}" if first.tags else "no tag at all"
    together = f"**{size(int(costly['blob_size'].sum()))}**, {percent(costly['share'].sum(), 1)} of all layers"
    return Finding(
        f"The {count(len(costly), 'layer')} that cost most hold {together}; "
        f"the largest, {size(first.blob_size)}, is used by {used}."
    )


def finding_by_path(paths: pd.DataFrame) -> Finding:
    """Which team holds most."""
    if paths.empty:
        return Finding("Nothing is stored under any path.")
    teams = paths.groupby("team", observed=True)["bytes"].sum()
    named = teams[[not str(name).startswith("(") for name in teams.index]]
    between = int(teams.sum() - named.sum())
    if named.empty:
        return Finding(f"All of the **{size(between)}** is shared by several teams, or nobody refers to it.")
    most = int(named.max())
    return Finding(
        f"{_code(str(named.idxmax()))} holds most, **{size(most)}**, {percent(most, int(teams.sum()))} of all "
        f"that is stored; {size(between)} are shared by several teams or referred to by nobody."
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


def _code(name: str) -> str:
    """A name as Markdown's code, in which nothing else has a meaning."""
    plain = name.replace("`", "'")
    return f"`{plain}`"
