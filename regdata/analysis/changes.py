"""What two inventories of a registry differ in: what came, went, moved and grew from one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from regdata.analysis import space
from regdata.analysis.forecast import DAY
from regdata.config import Config
from regdata.errors import ConfigError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.inventory.snapshot import earlier
from regdata.show.shown import Shown
from regdata.tables.workspace import frame, workspace
from regdata.values import check_whole


@dataclass(frozen=True, eq=False)
class Changes(Shown):
    """What differs between two inventories of a registry.

    tags: image_name, tag_name, change (came, went, moved), size_before, size_after; a row per tag that changed.
    images: image_name, tags_before, tags_after, bytes_before, bytes_after, bytes_grown; a row per image that changed,
    the largest change first. Its bytes are those that no other image holds; what several hold and what none does
    have rows of their own in brackets, so that the columns add up. teams: team, bytes_before, bytes_after, bytes_grown;
    the same by team, the first part of an image's path. blobs: blob_hash, blob_size, image_name, change (came, went); a
    row per blob, the largest first. totals: what, before, after, change.
    """

    tags: pd.DataFrame
    images: pd.DataFrame
    teams: pd.DataFrame
    blobs: pd.DataFrame
    totals: pd.DataFrame
    before: Inventory
    after: Inventory

    def __repr__(self) -> str:
        rows = f"{len(self.tags):,} tags, {len(self.images):,} images"
        return f"<Changes of {self.after.registry or 'a registry'}: {rows}>"


def compare(before: Inventory, after: Inventory) -> Changes:
    """What came, went, moved and grew from one inventory to another."""
    blobs = {"before": space.by_blob(before), "after": space.by_blob(after)}
    with workspace(
        tags_before=before.images, tags_after=after.images, blobs_before=blobs["before"], blobs_after=blobs["after"]
    ) as work:
        for time in blobs:
            work.execute(_BY_IMAGE.format(time=time))
        return Changes(
            tags=frame(work, _TAGS),
            images=frame(work, _IMAGES),
            teams=frame(work, _TEAMS),
            blobs=frame(work, _BLOBS),
            totals=_totals(before, blobs["before"])
            .merge(_totals(after, blobs["after"]), on="what")
            .set_axis(["what", "before", "after"], axis="columns")
            .assign(change=lambda totals: totals["after"] - totals["before"]),
            before=before,
            after=after,
        )


_TAGS = """
select image_name, tag_name,
       case when b.id is null then 'came' when a.id is null then 'went' else 'moved' end as change,
       b.tag_size as size_before, a.tag_size as size_after
from tags_before b full join tags_after a using (image_name, tag_name)
where b.id is null or a.id is null or b.tag_hash is distinct from a.tag_hash
order by image_name, tag_name"""

_BY_IMAGE = """
create temp table image_{time} as
with t as (select image_name, count(*) as tags from tags_{time} group by image_name),
b as (select image_name, sum(blob_size)::bigint as bytes from blobs_{time} group by image_name)
select image_name, coalesce(tags, 0) as tags, coalesce(bytes, 0) as bytes from t full join b using (image_name)"""

_IMAGES = """
select image_name, coalesce(b.tags, 0) as tags_before, coalesce(a.tags, 0) as tags_after,
       coalesce(b.bytes, 0) as bytes_before, coalesce(a.bytes, 0) as bytes_after,
       bytes_after - bytes_before as bytes_grown
from image_before b full join image_after a using (image_name)
where tags_before <> tags_after or bytes_grown <> 0
order by abs(bytes_grown) desc, image_name"""


_TEAMS = """
with b as (select split_part(image_name, '/', 1) as team, sum(bytes)::bigint as bytes from image_before group by team),
a as (select split_part(image_name, '/', 1) as team, sum(bytes)::bigint as bytes from image_after group by team)
select team, coalesce(b.bytes, 0) as bytes_before, coalesce(a.bytes, 0) as bytes_after,
       bytes_after - bytes_before as bytes_grown
from b full join a using (team)
where bytes_grown <> 0
order by abs(bytes_grown) desc, team"""

_BLOBS = """
select blob_hash, coalesce(a.blob_size, b.blob_size) as blob_size, coalesce(a.image_name, b.image_name) as image_name,
       if(b.blob_hash is null, 'came', 'went') as change
from blobs_before b full join blobs_after a using (blob_hash)
where b.blob_hash is null or a.blob_hash is null
order by blob_size desc, blob_hash"""


def since(config: Config, *, days: int = 0) -> Changes:
    """What changed from the last snapshot that is ``days`` old, or else the first there is, to now.

    Raises ConfigError where conf.json names no ``snapshots``, or none of this registry is there.
    """
    check_whole(least=0, days=days)
    after = scan(config)
    cure = "each run of delete.ipynb saves one, where conf.json says `snapshots`; regdata.scan(…).save(folder) does"
    if config.snapshots is None:
        raise ConfigError(f"{config.path} has no `snapshots`, so that nothing earlier is known: {cure}")
    known = earlier(config.snapshots, after)
    if not known:
        raise ConfigError(f"{config.snapshots} has no earlier snapshot of {config.registry_url}: {cure}")
    old = [path for path, time in known.items() if time <= after.scanned_at - days * DAY]
    return compare(Inventory.load(old[-1] if old else next(iter(known))), after)


def _totals(inventory: Inventory, blobs: pd.DataFrame) -> pd.DataFrame:
    numbers = {
        "images": len(inventory.repositories),
        "tags": len(inventory.images),
        "manifests": len(inventory.manifests),
        "orphans": int(inventory.manifests["orphan"].sum()),
        "bytes stored": int(blobs["blob_size"].sum()),
    }
    return pd.DataFrame({"what": list(numbers), "number": list(numbers.values())})
