"""In which order a plan's deletions are made: level by level, in batches. Pure.

An index goes before its children, what is attached before its subject: so an interrupted run leaves nothing that a
second one would not find again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from regdata.planning.plan import Plan


class Manifest(NamedTuple):
    """A manifest of an image."""

    image: str
    digest: str


class Tag(NamedTuple):
    """A tag of an image."""

    image: str
    name: str


class Batch(NamedTuple):
    """What is done between two looks at the images: tags are removed, then each level of manifests is deleted."""

    tags: list[Tag]
    levels: list[list[Manifest]]

    @property
    def images(self) -> list[str]:
        """The images that are to be looked at."""
        return sorted({tag.image for tag in self.tags} | {one.image for level in self.levels for one in level})


_Step = tuple[str, int, str, Manifest | Tag]


def levels_of(plan: Plan) -> dict[Manifest, int]:
    """The level of each manifest that a plan deletes."""
    manifests = (Manifest(*pair) for pair in pairs(plan.manifests, "manifest_hash"))
    rows = plan.order[["image_name", "first", "second"]].itertuples(index=False)
    return levels(manifests, [(Manifest(image, first), Manifest(image, second)) for image, first, second in rows])


def levels(manifests: Iterable[Manifest], edges: Sequence[tuple[Manifest, Manifest]]) -> dict[Manifest, int]:
    """The level of each manifest, the first one 0. ``edges``: which is deleted before which."""
    found = dict.fromkeys(manifests, 0)
    # Digests can't form a ring, but tag names can: the number of rounds is bounded.
    for _ in range(100):
        late = [(first, second) for first, second in edges if found[second] <= found[first]]
        for first, second in late:
            found[second] = found[first] + 1
        if not late:
            break
    return found


def batches(levels: Mapping[Manifest, int], tags: Iterable[Tag], size: int) -> Iterator[Batch]:
    """All manifests and the tags to be removed alone, image by image, at most ``size`` at a time."""
    steps: list[_Step] = [(one.image, level, one.digest, one) for one, level in levels.items()]
    steps += [(tag.image, 0, tag.name, tag) for tag in tags]
    waiting: list[_Step] = []
    for _, group in groupby(sorted(steps), key=lambda step: step[0]):
        own = list(group)
        # An image that fits into one batch is looked at once.
        if waiting and len(waiting) + len(own) > size:
            yield _batch(waiting)
            waiting = []
        waiting += own
        while len(waiting) > size:
            yield _batch(waiting[:size])
            waiting = waiting[size:]
    if waiting:
        yield _batch(waiting)


def _batch(steps: list[_Step]) -> Batch:
    by_level: dict[int, list[Manifest]] = defaultdict(list)
    tags = []
    for _, level, _, step in steps:
        if isinstance(step, Tag):
            tags.append(step)
        else:
            by_level[level].append(step)
    return Batch(tags, [by_level[level] for level in sorted(by_level)])


def pairs(frame: pd.DataFrame, column: str) -> Iterator[tuple[str, str]]:
    """Image and another column of each row."""
    return zip(frame["image_name"], frame[column], strict=True)
