"""What earlier collections left behind the registry's back: links to data that is gone, and folders of links that are.

Each is a digest that the registry's cache may still claim, so that the next push that uses it would be broken. They go
through the steps of a sweep, which frees nothing here: the link goes, and the cache is made to forget it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from regdata.collecting.sweep import Item
from regdata.sources.aside import Aside
from regdata.sources.watch import Link


def ailing(links: Iterable[Link], stored: Collection[str], aside: Aside) -> list[Item]:
    """What is to be healed. ``stored``: the digests of blobs whose data was there."""
    found: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        digest = link.target or link.name
        if link.target is None or (digest not in stored and not aside.has(digest)):
            found[digest].append(link)
    return [Item(digest, 0, tuple(left), frees=False) for digest, left in found.items()]
