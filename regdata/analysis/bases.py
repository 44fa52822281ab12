"""Inventory -> the base images: chains of layers, from the bottom up, on which several images stand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regdata.inventory.inventory import Inventory

COLUMNS = ["base", "newest", "images", "tags", "layers", "bytes", "such_as"]


def bases(inventory: Inventory) -> pd.DataFrame:
    """base, newest, images, tags, layers, bytes, such_as: a row per base, those on which most tags stand first.

    A base is a chain of layers, from the first one on, on which tags of other images stand, or of several images where
    no longer chain has all of these. base: the newest tag that is this chain and no more, NULL where the registry holds
    none; newest: whether that is its image's newest build. images, tags: those that stand on it, other builds of its
    own image not counted; layers, bytes: of the chain; such_as: one of the tags.
    """
    chains, ends = _chains(inventory)
    tags = _tags(inventory).merge(ends, on="manifest")
    own = tags.sort_values("date", na_position="first").drop_duplicates("chain", keep="last").set_index("chain")
    latest = tags.groupby("image_name")["date"].transform("max")
    newest = set(tags.loc[tags["date"].eq(latest) | latest.isna(), "chain"])
    standing = _standing(chains, tags)
    named = standing["chain"].map(own["image_name"].to_dict())
    # On a base of its own image stands its next build; that says nothing.
    standing = standing[(standing["image_name"] != named) & (standing["ends"] != standing["chain"])]
    found = standing.groupby("chain").agg(
        images=("image_name", "nunique"), tags=("tag", "nunique"), such_as=("tag", "min")
    )
    found = found.join(chains.set_index("chain")[["below", "layers", "bytes"]])
    longer = found.groupby("below")["tags"].max().reindex(found.index).fillna(0)
    is_named = found.index.isin(own.index)
    found = found[(is_named & (found["images"] > 0)) | ((found["images"] > 1) & (longer < found["tags"]))]
    base = found.index.map(own["tag"].to_dict())
    found = found.assign(base=base, newest=pd.array(found.index.isin(newest), dtype="boolean"))
    found.loc[found["base"].isna(), "newest"] = pd.NA
    order = ["tags", "images", "layers", "such_as"]
    return found.sort_values(order, ascending=[False, False, False, True])[COLUMNS].reset_index(drop=True)


def _tags(inventory: Inventory) -> pd.DataFrame:
    """image_name, tag_name, tag, date, manifest (a number): of each tag the manifests with layers that it leads to."""
    refers = inventory.refers
    digests = refers.digests.to_pandas()
    images = inventory.images[["image_name", "tag_name", "tag_hash", "created", "pushed"]].dropna(subset=["tag_hash"])
    images = images.merge(digests, left_on="tag_hash", right_on="hash")
    images = images.assign(
        tag=images["image_name"] + ":" + images["tag_name"], date=images["pushed"].fillna(images["created"])
    )
    listed = refers.resolved.to_pandas()
    listed = listed[listed["kind"].astype(str) == "manifest"].rename(columns={"manifest": "digest", "blob": "child"})
    children = images.merge(listed[["digest", "child"]], on="digest").assign(manifest=lambda rows: rows["child"])
    columns = ["image_name", "tag_name", "tag", "date", "manifest"]
    return pd.concat([images.assign(manifest=images["digest"])[columns], children[columns]], ignore_index=True)


def _chains(inventory: Inventory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """chain, below, layers, bytes: each chain of layers that there is, and the one that it adds a layer to; and
    manifest, chain: where each manifest's ends."""
    refers = inventory.refers
    edges = refers.resolved.to_pandas()
    sizes = refers.descriptors.column("reference_size").to_numpy(zero_copy_only=False)
    edges = edges.assign(size=sizes[refers.edges["descriptor"].to_numpy()])
    edges = edges[edges["kind"].astype(str) == "layer"]
    edges = edges.assign(place=edges.groupby("manifest").cumcount())
    last = pd.Series(-1, index=edges["manifest"].unique())
    bytes_of, made, begin = {-1: 0}, [], 0
    for place, rows in edges.groupby("place"):
        below = last[rows["manifest"]].to_numpy()
        keys = pd.MultiIndex.from_arrays([below, rows["blob"]])
        numbers, unique = pd.factorize(keys)
        last[rows["manifest"]] = numbers + begin
        first = np.unique(numbers, return_index=True)[1]
        sums = [
            bytes_of[one] + int(size) for one, size in zip(below[first], rows["size"].to_numpy()[first], strict=True)
        ]
        chains = np.arange(begin, begin + len(unique))
        bytes_of = dict(zip(chains, sums, strict=True))
        made.append(pd.DataFrame({"chain": chains, "below": below[first], "layers": int(place) + 1, "bytes": sums}))
        begin += len(unique)
    found = pd.concat(made, ignore_index=True) if made else pd.DataFrame(columns=["chain", "below", "layers", "bytes"])
    return found, pd.DataFrame({"manifest": last.index, "chain": last.to_numpy()})


def _standing(chains: pd.DataFrame, tags: pd.DataFrame) -> pd.DataFrame:
    """chain, image_name, tag, ends: a row for each chain on which a tag stands, and the whole one of that tag."""
    below = dict(zip(chains["chain"], chains["below"], strict=True))
    rows, now = [], tags[["image_name", "tag", "chain"]].assign(ends=tags["chain"])
    while len(now):
        rows.append(now)
        now = now.assign(chain=now["chain"].map(below))
        now = now[now["chain"] >= 0]
    empty = pd.DataFrame(columns=["image_name", "tag", "chain", "ends"])
    return pd.concat(rows, ignore_index=True) if rows else empty
