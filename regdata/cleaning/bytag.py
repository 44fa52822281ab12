"""A plan for a registry that deletes tags, and no manifests: it collects by itself what no tag leads to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from dataclasses import replace

import pandas as pd

from regdata.cleaning.order import Manifest, pairs
from regdata.planning.plan import Plan
from regdata.planning.rules import freed
from regdata.show.words import count


def by_tag(plan: Plan, images: Collection[str]) -> Plan:
    """The same of these images by their tags alone: what goes with its manifest is untagged, and nothing is freed by
    us."""
    if not images:
        return plan
    manifests, order = (frame[~frame["image_name"].isin(images)] for frame in (plan.manifests, plan.order))
    return replace(
        plan,
        tags=tags_alone(plan.tags, images),
        manifests=manifests,
        order=order,
        blobs=freed(plan.inventory, manifests[["image_name", "manifest_hash"]]),
    )


def tags_alone(tags: pd.DataFrame, images: Collection[str]) -> pd.DataFrame:
    """Rows of a plan's tags; of these images what would go with its manifest goes alone."""
    with_manifest = tags["image_name"].isin(images) & (tags["action"] == "delete")
    return tags.assign(action=tags["action"].mask(with_manifest, "untag"))


def left(plan: Plan, images: Collection[str]) -> set[Manifest]:
    """What the registry itself collects of ``plan``: it need not stay."""
    manifests = plan.manifests[plan.manifests["image_name"].isin(images)]
    return {Manifest(*pair) for pair in pairs(manifests, "manifest_hash")}


def told(left: Set[Manifest]) -> Iterator[str]:
    """That these are left, in a sentence."""
    if left:
        yield (
            f"the registry deletes tags, and no manifests: {count(len(left), 'manifest')} are left to its own "
            "collection, which frees the bytes"
        )
