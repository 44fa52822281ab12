"""What two inventories of a registry differ in: what came, went, moved and grew from one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from regdata.analysis import space
from regdata.inventory.inventory import Inventory
from regdata.show.shown import Shown
from regdata.tables.workspace import frame, workspace


@dataclass(frozen=True, eq=False)
class Changes(Shown):
    """What differs between two inventories of a registry.

    tags: image_name, tag_name, change (came, went, moved), size_before, size_after; a row per tag that changed.
    images: image_name, tags_before, tags_after, bytes_before, bytes_after, bytes_grown; a row per image that changed,
    the largest change first. Its bytes are those that no other image holds; what several hold and what none does
    have rows of their own in brackets, so that the columns add up. totals: what, before, after, change.
    """

    tags: pd.DataFrame
    images: pd.DataFrame
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


def _totals(inventory: Inventory, blobs: pd.DataFrame) -> pd.DataFrame:
    numbers = {
        "images": len(inventory.repositories),
        "tags": len(inventory.images),
        "manifests": len(inventory.manifests),
        "orphans": int(inventory.manifests["orphan"].sum()),
        "bytes stored": int(blobs["blob_size"].sum()),
    }
    return pd.DataFrame({"what": list(numbers), "number": list(numbers.values())})
