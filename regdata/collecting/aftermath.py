"""After a collection: caches that claim what is gone, repositories that are empty."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator

import pandas as pd

from regdata.errors import CleanupError, RegistryError
from regdata.inventory.graph import GRACE
from regdata.records.record import Record
from regdata.sources.site import Site

# How many collected blobs the registry is asked for afterwards.
PROBES = 20


def probes(expected: pd.DataFrame) -> list[tuple[str, str]]:
    """image_name and blob_hash of the largest blobs that are to be collected, as far as an image held them."""
    held = expected[expected["image_name"].notna()].sort_values("blob_size", ascending=False).head(PROBES)
    return list(zip(held["image_name"], held["blob_hash"], strict=True))


def taken(site: Site, blobs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those blobs (image, digest) that are not there any more."""
    there = site.presence()
    yield from (blob for blob in blobs if not there(*blob))


def stale(site: Site, blobs: Iterable[tuple[str, str]]) -> list[str]:
    """What the registry's cache still claims to have of blobs that are no longer stored.

    Then a push would skip the layer, get 201, and be broken.
    """
    try:
        _check_up(site)
        asked = list(blobs)
        claimed = [digest for image, digest in asked if site.registry.blob_exists(image, digest)]
    except RegistryError as error:
        return [f"the registry does not answer after the collection: {error}"]
    if not claimed:
        return []
    return [
        f"the registry still answers for {len(claimed)} of {len(asked)} collected blobs from its cache (such as "
        f"{claimed[0]}): the next push that uses one of them would be broken. Restart the registry now, and have "
        "gc-after do so (or flush its Redis)"
    ]


def held(site: Site, blobs: Iterable[tuple[str, str]]) -> list[str]:
    """A note on blobs that were to be freed and are still stored, where the registry is known by its API alone."""
    asked, there = list(blobs), site.presence()
    try:
        left = [digest for image, digest in asked if there(image, digest)]
    except RegistryError as error:
        raise CleanupError(f"the registry does not answer after the collection: {error}") from None
    if not left:
        return []
    return [
        f"{len(left)} of {len(asked)} blobs that were to be freed are still stored, such as {left[0]}: manifests that "
        "no tag leads to, which the API does not show, hold them, or gc-command collects another store. Without "
        "base_path the bytes predicted are the most that can be freed"
    ]


def _check_up(site: Site) -> None:
    """Gives a registry that gc-after has just started the time to answer."""
    deadline = time.monotonic() + site.start_time
    while True:
        try:
            return site.registry.check()
        except RegistryError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def remove_empty(site: Site, record: Record, *, before: int, among: Collection[str] | None = None) -> list[str]:
    """Removes repositories that hold no tag, no manifest and no upload, and got no layer for the grace: the catalog
    then no longer lists them. ``among``: no others."""
    removed = []
    for repository in site.empty_repositories(before=before - GRACE):
        if among is not None and repository not in among:
            continue
        record.journal({"event": "removing repository", "image": repository})
        site.store.remove_repository(repository)
        record.journal({"event": "removed repository", "image": repository})
        removed.append(repository)
    return removed
