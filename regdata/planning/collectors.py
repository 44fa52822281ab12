"""What the registry's own collector must not do: taking what survivors need, or stopping on the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regdata.inventory.inventory import Inventory
from regdata.planning.rules import obstacles
from regdata.show.words import count

_WHY = {
    "alias": "which names it by another digest than that by which it is stored",
    "blob": "which is linked among the repository's blobs and not among its manifests",
    "no-layers": "whose repository has no folder _layers, so that the collection passes it over",
}
_CURE = (
    "leave gc-command out of conf.json, so that regdata collects by itself and keeps what is needed; or run without "
    "collection (-p gc False, clear.py --no-gc)"
)
# Where the registry is known by its API alone.
_CURE_BY_API = f"give registry.base_path, and {_CURE}"

AS_BLOB = f"the registry's garbage collection would take what they refer to, so nothing was {{}}: {_CURE_BY_API}"
BARE = (
    "no manifest there names a layer, and the registry's garbage collection takes all of such a repository, or stops "
    f"at it, so nothing was {{}}: push an image into it, or {_CURE_BY_API}"
)


def without_blobs(inventory: Inventory) -> list[str]:
    """Repositories of which no manifest names a layer or config, be it one that goes. Where nothing else was ever
    pushed, they have no folder ``_layers``."""
    holding: set[str] = set()
    for batch in inventory.batches("references"):
        of_blobs = pc.is_in(batch["reference_kind"], pa.array(["layer", "config"]))
        holding |= {*pc.unique(batch.filter(of_blobs)["manifest_hash"]).to_pylist()}
    manifests = inventory.manifests
    held = manifests.loc[manifests["manifest_hash"].isin(holding), "image_name"]
    return sorted({*manifests["image_name"]} - {*held})


def objections(
    inventory: Inventory,
    manifests: pd.DataFrame,
    *,
    version: str,
    cured: Iterable[str] = (),
    undone: str = "deleted",
) -> list[str]:
    """Why the registry's own collector must not run once ``manifests`` (image_name, manifest_hash) are gone.

    ``version``: "2.x" or "3.x" of distribution. ``cured``: repositories without a folder ``_layers`` that get an empty
    one before. ``undone``: what is not done then. Each is a sentence that says what, where and how to cure it. Empty
    where it may run.
    """
    taken, stopping = obstacles(inventory, manifests, cured)
    if not inventory.from_store:  # bytes that came in pieces say nothing of those that are stored
        odd = inventory.manifests[inventory.manifests["error"].notna()]
        odd = odd[~odd["error"].str.startswith("unknown media type")]
        stopping = stopping[~stopping["manifest_hash"].isin(odd["manifest_hash"]) & (stopping["what"] != "alias")]
    told = []
    # Of 2.x they are those of which the link is broken, which no collector reads.
    if not inventory.from_store and version == "3.x" and (dead := _unserved(inventory, manifests)):
        told.append(
            f"{count(len(dead), 'tag')} can't be served, such as {dead[0]}, and the registry's collection stops at "
            "what it can't read (or their links are broken, which base_path tells)"
        )
    if len(taken):
        first = taken.iloc[0]
        told.append(
            f"the registry's garbage collection would take {taken['blob_hash'].nunique()} blobs that what stays needs, "
            f"such as {first['blob_hash']} of {first['image_name']}@{first['manifest_hash']}, {_WHY[first['why']]}"
        )
    for what, said in _STOPS.items():
        found = stopping[(stopping["what"] == what) & ((what == "stray") | stopping["said"].isin(["all", version]))]
        if len(found):
            told.append(f"{len(found)} {said.format(_name(found.iloc[0]))} at them")
    cure = _CURE if inventory.from_store else _CURE_BY_API
    return [f"{one}, so nothing was {undone}: {cure}" for one in told]


# What the API tells of a manifest that distribution can't read.
UNSERVED = "HTTP 500"
_STOPS = {
    "stops": "manifests can't be read by distribution, such as {}, and the registry's collection stops",
    "no-layers": "repositories have no folder _layers, such as {}, and the registry's collection stops",
    "alias": "layers are linked by another digest than sha256, and no manifest of their repository that stays names "
    "them by that, such as {}, and the collection of registry 3.x stops",
    "stray": "folders of the store hold data and are no blob's, such as {}, and the registry's collection stops",
}


def _unserved(inventory: Inventory, manifests: pd.DataFrame) -> list[str]:
    """The tags at which the registry fails, and that are not on what goes."""
    going = {*zip(manifests["image_name"], manifests["manifest_hash"], strict=True)}
    dead = inventory.images[inventory.images["error"] == UNSERVED]
    columns = zip(dead["image_name"], dead["tag_name"], dead["tag_hash"], strict=True)
    return [f"{image}:{tag}" for image, tag, digest in columns if (image, digest) not in going]


def _name(row: pd.Series) -> str:
    if row["what"] == "stray":
        return str(row["said"])
    return str(row["image_name"]) + (f"@{row['manifest_hash']}" if row["what"] in ("stops", "alias") else "")
