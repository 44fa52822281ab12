"""What is selected and what is spared -> what goes, what stays and why, and what is freed.

The rules are SQL: reach.sql (what holds what), plan.sql (the rules by their numbers), held.sql and bytes.sql (what is
freed). Only this module names their tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import duckdb
import pandas as pd

from regdata.inventory.inventory import Inventory
from regdata.sources.names import means
from regdata.tables.workspace import frame, run_file

# Why a tag or a manifest goes or stays, in words.
REASONS = {
    "selected": "the condition selects it",
    "orphan": "no tag reaches it",
    "child": "only a deleted index lists it",
    "referrer": "it belongs to a manifest that goes",
    "outside": "it is outside registry.repositories, where nothing is touched",
    "protected": "`protect` matches it",
    "in-use": "it is in use",
    "shared-digest": "another tag that stays is on the same digest",
    "index-child": "an index that stays lists it",
    "signs-kept-image": "it belongs to a manifest that stays",
    "has-kept-referrer": "a tag that stays belongs to it",
    "unreadable": "it, or something in its repository that may reach it, can't be read",
    "grace": "no tag reaches it, but it is younger than 2 hours, or nobody knows how old: a push may be in flight",
    "moved": "it changed between the scan and the deletion",
}


# For these a tag or its digest stays because of something else that stays.
BECAUSE_OF_OTHERS = {"shared-digest", "index-child", "signs-kept-image", "has-kept-referrer"}


# Columns of images that tell ages, and those that tell dates in any way.
AGES = ("age_days", "newest_rank", "family_rank", "tag_timestamp")
DATES = {*AGES, "pushed", "created", "idle_days"}


def words(condition: str) -> list[str]:
    """Each once, in their order."""
    return list(dict.fromkeys(word.lower() for word in re.findall(r"\w+", condition)))


def tags_outside(inventory: Inventory) -> pd.DataFrame:
    """Keep-rule: the tags of repositories that registry.repositories does not mean."""
    return inventory.images.loc[_outside(inventory, inventory.images), ["id"]].assign(reason="outside")


def manifests_outside(inventory: Inventory) -> pd.DataFrame:
    """Keep-rule: their manifests, whether a tag leads to them or not."""
    rows = inventory.manifests.loc[_outside(inventory, inventory.manifests), ["image_name", "manifest_hash"]]
    return rows.assign(reason="outside")


def _outside(inventory: Inventory, frame: pd.DataFrame) -> pd.Series[bool]:
    if inventory.within is None:
        return pd.Series(False, index=frame.index)
    names = frame["image_name"].drop_duplicates()
    return frame["image_name"].isin([name for name in names if not means(inventory.within, name)])


def protected(inventory: Inventory) -> pd.DataFrame:
    """Keep-rule: the tags that conf.json's `protect` matches; and, where that asks for dates, those without one of
    which it can't say it: whatever is unknown is young. Raises ConditionError."""
    if not (condition := inventory.protect):
        return pd.DataFrame({"id": [], "reason": "protected"})
    select = partial(inventory.readers.select, engine=inventory.engine, name="protect")
    ids, images = select(condition), inventory.images
    undated = images.loc[images["tag_timestamp"].isna() & images["error"].isna(), "id"]
    if len(undated) and not DATES.isdisjoint(words(condition)):
        ids = sorted({*ids, *undated[undated.isin(select(f"(\n{condition}\n) is null"))]})
    return pd.DataFrame({"id": ids, "reason": "protected"})


def tags_in_use(inventory: Inventory) -> pd.DataFrame:
    """Keep-rule: the tags that a list of what runs names, or whose manifest or child it names."""
    images = inventory.images
    return images.loc[images["in_use"].fillna(False).astype(bool), ["id"]].assign(reason="in-use")


def manifests_in_use(inventory: Inventory) -> pd.DataFrame:
    """Keep-rule: the manifests that a list of what runs names, whether a tag leads to them or not."""
    uses = inventory.uses
    return uses.loc[uses["manifest_hash"].notna(), ["image_name", "manifest_hash"]].assign(reason="in-use")


# What must stay whatever is selected: id (of Inventory.images), reason; or, of manifests, image_name, manifest_hash,
# reason. Where several rules spare the same, the first says why, by a key of REASONS.
KEEP_RULES: tuple[Callable[[Inventory], pd.DataFrame], ...] = (
    tags_outside,
    manifests_outside,
    protected,
    tags_in_use,
    manifests_in_use,
)

_TAG_COLUMNS = {"id": "int64", "reason": "str"}
_MANIFEST_COLUMNS = {"image_name": "str", "manifest_hash": "str", "reason": "str"}


class Spared(NamedTuple):
    """What must stay whatever is selected. tags: id, reason; manifests: image_name, manifest_hash, reason."""

    tags: pd.DataFrame
    manifests: pd.DataFrame

    @classmethod
    def of(cls, frames: Iterable[pd.DataFrame]) -> Spared:
        """What keep-rules gave; of several reasons the first."""
        tags, manifests = [pd.DataFrame(columns=list(_TAG_COLUMNS))], [pd.DataFrame(columns=list(_MANIFEST_COLUMNS))]
        for found in frames:
            (tags if "id" in found else manifests).append(found)
        return cls(
            pd.concat(tags).astype(_TAG_COLUMNS).drop_duplicates("id", ignore_index=True),
            pd.concat(manifests)
            .astype(_MANIFEST_COLUMNS)
            .drop_duplicates(["image_name", "manifest_hash"], ignore_index=True),
        )


def spared(inventory: Inventory) -> Spared:
    """What the keep-rules spare. Raises ConditionError."""
    return inventory.once("spared", lambda: Spared.of(rule(inventory) for rule in KEEP_RULES))


def spared_again(decided: Decision, fresh: Inventory) -> Spared:
    """What must stay of ``fresh``, a newer reading of some repositories: by the keep-rules, now and when decided."""
    was = decided.inventory.images
    was = was[was["image_name"].isin(fresh.repositories["image_name"])].merge(decided.spared.tags, on="id")
    names = ["image_name", "tag_name"]
    still = fresh.images[["id", *names]].merge(was[[*names, "reason"]], on=names)
    return Spared.of([*spared(fresh), still[["id", "reason"]], decided.spared.manifests])


# A manifest that an interrupted run, begun then, was to delete; None: it is known not to have been pushed again since.
Resumed = Iterable[tuple[str, str, int | None]]


@dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """What the rules were asked, and what goes; the columns are those of regdata.planning.plan.Plan."""

    inventory: Inventory
    selected: list[int]
    spared: Spared
    resumed: list[tuple[str, str, int | None]]
    tags: pd.DataFrame
    manifests: pd.DataFrame
    blobs: pd.DataFrame
    order: pd.DataFrame


def decide(inventory: Inventory, selected: list[int], spared: Spared, *, resumed: Resumed = ()) -> Decision:
    """What goes when the tags with the ids ``selected`` are to go; ``resumed``: see regdata.planning.plan.plan."""
    resumed = list(resumed)
    with _solved(inventory, selected, spared, resumed) as work:
        run_file(work, "planning/bytes.sql")
        named = inventory.refers.named
        return Decision(
            inventory=inventory,
            selected=selected,
            spared=spared,
            resumed=resumed,
            tags=frame(work, _TAGS),
            manifests=named(work.sql(_MANIFESTS).to_arrow_table(), "manifest_hash"),
            blobs=named(work.sql(_FREED).to_arrow_table(), "blob_hash"),
            order=named(work.sql(_ORDER).to_arrow_table(), "first", "second"),
        )


def goes(
    inventory: Inventory, selected: list[int], spared: Spared, *, resumed: Resumed = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decision.tags and .manifests alone: quicker, where the bytes don't matter."""
    with _solved(inventory, selected, spared, resumed) as work:
        return frame(work, _TAGS), inventory.refers.named(work.sql(_MANIFESTS).to_arrow_table(), "manifest_hash")


def freed(inventory: Inventory, manifests: pd.DataFrame, *, used: Iterable[str] = ()) -> pd.DataFrame:
    """The blobs that the collection frees once ``manifests`` (image_name, manifest_hash) are gone: see Plan.blobs.

    ``used``: digests that are not spared for their age, since a manifest that is gone by now used them.
    """
    with _without(inventory, manifests, used=used) as work:
        return inventory.refers.named(work.sql(_FREED).to_arrow_table(), "blob_hash")


def spared_for_age(inventory: Inventory) -> set[str]:
    """Digests of blobs that no manifest of the inventory refers to, and that stay since they are young by its time."""
    with inventory.graph.open() as work:
        return {blob for (blob,) in work.execute(_SPARED).fetchall()}


def needed(inventory: Inventory) -> set[str]:
    """Digests of all blobs that a manifest of the inventory can serve, as the registry reads it."""
    with inventory.graph.open() as work:
        return {blob for (blob,) in work.execute(_NEEDED).fetchall()}


def manifests_left(inventory: Inventory) -> list[str]:
    """Digests of manifests' bytes that are stored, and that no manifest of the inventory is or refers to; one that is
    linked as a blob alone is there only as long as another lists it."""
    nothing = pd.DataFrame(columns=["image_name", "manifest_hash"], dtype="str")
    with _without(inventory, nothing) as work:
        return [blob for (blob,) in work.execute(_LEFT).fetchall()]


def survivors(inventory: Inventory, manifests: pd.DataFrame) -> pd.DataFrame:
    """image_name and manifest_hash of what is there once ``manifests`` are gone: what is linked as a blob alone is, as
    long as a survivor lists it or names it its subject."""
    with _without(inventory, manifests) as work:
        return inventory.refers.named(work.sql(_SURVIVORS).to_arrow_table(), "manifest_hash")


def held_by(inventory: Inventory, manifests: pd.DataFrame) -> set[tuple[str, str]]:
    """Image and digest (as it is stored) of all blobs that what goes with ``manifests`` holds: with what is linked as a
    blob alone and goes with the last one that lists it."""
    with _without(inventory, manifests) as work:
        return set(work.execute(_HELD).fetchall())


def attached(inventory: Inventory) -> set[tuple[str, str]]:
    """Image and digest of what is attached to another manifest: by its subject, or by its tag and what it is."""
    with inventory.graph.open() as work:
        return set(work.execute(_ATTACHED).fetchall())


def parts(inventory: Inventory, manifests: pd.DataFrame) -> pd.DataFrame:
    """image_name, blob_hash: configs and layers that ``manifests`` (image_name, manifest_hash) refer to, each once; but
    for layers that are fetched from elsewhere and usually not pushed."""
    of = {"staying": manifests, "descriptor": inventory.refers.descriptors, "edge": inventory.refers.edges}
    with inventory.graph.open(**of) as work:
        return inventory.refers.named(work.sql(_PARTS).to_arrow_table(), "blob_hash")


def obstacles(inventory: Inventory, manifests: pd.DataFrame, cured: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the registry's own collector would do that it must not, once ``manifests`` are gone.

    The first frame: blob_hash, image_name, manifest_hash, why; a row per blob that it would take from a manifest that
    needs it: by an ``alias``, linked as a ``blob`` alone, in a repository with ``no-layers``. The second: what (stops,
    no-layers, alias, stray), image_name, manifest_hash, said; where it would stop. ``cured``: repositories without a
    folder ``_layers`` that will have one by then.
    """
    named = inventory.refers.named
    with _without(inventory, manifests, cured=pd.DataFrame({"image_name": pd.array(list(cured), "str")})) as work:
        run_file(work, "planning/marked.sql")
        return (
            named(work.sql(_TAKEN).to_arrow_table(), "blob_hash", "manifest_hash"),
            named(work.sql(_STOPPING).to_arrow_table(), "manifest_hash"),
        )


def reasons(decided: Decision, image: str, digest: str) -> set[str]:
    """For which of REASONS a manifest stays by itself; none where it goes, or something else that stays needs it."""
    with _solved(decided.inventory, decided.selected, decided.spared, decided.resumed) as work:
        return {why for (why,) in work.execute(_REASONS, [image, digest]).fetchall()}


def holders(decided: Decision, image: str, digest: str, *, besides: str = "") -> list[str]:
    """The tags, other than ``besides``, that stay and so keep a manifest."""
    with _solved(decided.inventory, decided.selected, decided.spared, decided.resumed) as work:
        return [tag for (tag,) in work.execute(_HOLDERS, [image, digest, besides]).fetchall()]


@contextmanager
def _without(
    inventory: Inventory, manifests: pd.DataFrame, *, used: Iterable[str] = (), **tables: pd.DataFrame
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A workspace with the tables of bytes.sql, for when ``manifests`` are gone; ``used``: see `freed`."""
    of = {"going": manifests, "used": pd.DataFrame({"hash": pd.array(list(used), "str")})}
    with inventory.graph.open(**of, **tables) as work:
        work.execute(_GONE)
        work.execute("delete from resting where blob in (select digest from digest semi join used using (hash))")
        run_file(work, "planning/bytes.sql")
        yield work


@contextmanager
def _solved(
    inventory: Inventory, selected: list[int], spared: Spared, resumed: Resumed
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A workspace with the tables of plan.sql."""
    kinds = {"image_name": "str", "manifest_hash": "str", "began": "Int64"}
    with inventory.graph.open(
        images=inventory.images,
        selected=pd.DataFrame({"id": pd.array(selected, dtype="int64")}),
        spared_tag=spared.tags,
        spared_manifest=spared.manifests,
        resumed=pd.DataFrame(list(resumed), columns=list(kinds)).astype(kinds),
        setting=pd.DataFrame({"can_untag": [inventory.can_untag], "from_store": [inventory.from_store]}),
    ) as work:
        run_file(work, "planning/plan.sql")
        yield work


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

_GONE = """
create temp table gone as
select i.image, d.digest
from going g join image i using (image_name) join digest d on d.hash = g.manifest_hash"""

_ATTACHED = """
select i.image_name, d.hash from (select node from attachment union select node from referrer)
join node using (node) join image i using (image) join digest d using (digest)"""

_SURVIVORS = """
select i.image_name, s.digest as manifest_hash from survivor s join image i using (image)"""

_HELD = """
with recursive l(node) as (
    select node from node semi join gone using (image, digest)
    union
    select e.dst from l join (from child union all select node, subject from referrer) e on e.src = l.node
    where e.dst in (from as_blob)
)
select distinct i.image_name, d.hash
from (from l anti join survivor using (node)) join node n using (node)
join held h on h.digest = n.digest join image i on i.image = n.image join digest d on d.digest = h.blob"""

_PARTS = """
with part as (
    select number, digest from descriptor
    where reference_kind in ('config', 'layer')
      and not coalesce(contains(media_type, 'foreign') or contains(media_type, 'nondistributable'), false)
),
held as (
    select p.digest, min(i.image_name) as image_name
    from staying s join image i using (image_name) join digest d on d.hash = s.manifest_hash
    join edge e on e.manifest = d.digest join part p on p.number = e.descriptor
    group by p.digest
)
select image_name, digest as blob_hash from held order by digest"""

_SPARED = """
select hash from digest semi join resting on digest.digest = resting.blob"""

_NEEDED = """
select hash from digest semi join (from (select blob from held union select digest from odd where what = 'link'))
on digest.digest = blob"""

_LEFT = """
select hash from digest join (
    from (select blob from written) semi join stored using (blob)
    anti join (select blob from held semi join alive using (digest)) using (blob)
) on digest.digest = blob order by hash"""

_TAKEN = """
select t.blob as blob_hash, i.image_name, t.digest as manifest_hash, t.why
from taken t join image i using (image) order by t.blob, i.image_name"""

_STOPPING = """
select s.what, i.image_name, s.digest as manifest_hash, s.said
from stopping s left join image i using (image) order by s.what, i.image_name, s.digest, s.said"""

_NODE = """
select n.node from node n join image i using (image) join digest d using (digest)
where i.image_name = ? and d.hash = ?"""

_REASONS = f"""
select why from root where why <> 'tag' and node in ({_NODE})"""

_HOLDERS = f"""
with recursive up(node) as (
    {_NODE}
    union
    select h.src from up join holds h on h.dst = up.node
)
select t.tag_name from up join root r on r.node = up.node and r.why = 'tag' join tag_node t on t.node = up.node
where t.tag_name <> ? and t.id not in (select id from touched where kept_because is null)
order by t.tag_name"""
