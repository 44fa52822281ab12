"""Deletes what a plan names, image by image: an index before its children, what is attached before its subject.

Each image is looked at again right before its deletions; each step is in the journal before it is taken and after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from regdata.errors import RegdataError
from regdata.inventory.inventory import Inventory
from regdata.planning.plan import Plan
from regdata.planning.rules import solve
from regdata.records.record import Record
from regdata.sources.site import Site
from regdata.sources.source import Part
from regdata.tables.conditions import select

Progress = Callable[[int, int], None]


class Key(NamedTuple):
    """A manifest or a tag of an image."""

    image: str
    name: str


class Deleter:
    """Deletes a plan's manifests and tags, batch by batch, and knows how far it came."""

    def __init__(self, plan: Plan, site: Site, record: Record, progress: Progress | None) -> None:
        self.plan, self.site, self.record, self.batch = plan, site, record, site.batch
        self.progress = progress or (lambda done, total: None)
        self.levels = _levels(plan)
        self.planned = set(self.levels)
        self.deleted: set[Key] = set()
        self.untagged: set[Key] = set()
        self.moved: set[Key] = set()
        self.kept: set[Key] = set()
        rows = plan.tags[["image_name", "tag_name", "tag_hash", "action"]].itertuples(index=False)
        self.tag_rows = {Key(image, tag): (digest, action) for image, tag, digest, action in rows}
        self.going: dict[str, set[Key]] = defaultdict(set)
        for key in [*self.planned, *(key for key, (_, action) in self.tag_rows.items() if action != "keep")]:
            self.going[key.image].add(key)
        self.gone: dict[str, set[str]] = defaultdict(set)
        held = plan.manifests.merge(plan.inventory.manifests, on=["image_name", "manifest_hash"])
        self.media_types = {
            Key(*pair): media_type
            for pair, media_type in zip(pairs(held, "manifest_hash"), held["media_type"], strict=True)
        }
        self.scanned = states(plan.inventory, set(self.going))

    def run(self) -> list[str]:
        """Deletes; returns what went wrong. After the first error nothing more is deleted."""
        try:
            with ThreadPoolExecutor(self.site.registry.workers) as pool:
                for batch in self._batches():
                    self._delete_batch(batch, pool)
        except RegdataError as error:
            self.record.journal({"event": "stopped", "error": str(error)})
            return [str(error)]
        return []

    def _batches(self) -> Iterator[list[Key]]:
        """The manifests to delete and tags to remove, image by image, an index before its children."""
        untag = [key for key, (_, action) in self.tag_rows.items() if action == "untag"]
        steps = sorted([*self.planned, *untag], key=lambda key: (key.image, self.levels.get(key, 0), key.name))
        batch: list[Key] = []
        for _, group in groupby(steps, key=lambda key: key.image):
            own = list(group)
            # An image that fits into one batch is looked at once.
            if batch and len(batch) + len(own) > self.batch:
                yield batch
                batch = []
            batch += own
            while len(batch) > self.batch:
                yield batch[: self.batch]
                batch = batch[self.batch :]
        if batch:
            yield batch

    def _delete_batch(self, batch: list[Key], pool: ThreadPoolExecutor) -> None:
        images = sorted({key.image for key in batch})
        for image, still in zip(images, pool.map(self._still_goes, images), strict=True):
            self._skip(self.going[image] - still - self.deleted - self.untagged - self.moved)
        going = [key for key in batch if key not in self.moved]
        self._untag([key for key in going if key not in self.planned], pool)
        by_level = defaultdict(list)
        for key in going:
            if key in self.planned:
                by_level[self.levels[key]].append(key)
        for level in sorted(by_level):
            self._delete(by_level[level], pool)
            self.progress(len(self.deleted) + len(self.moved), len(self.planned))

    def _skip(self, keys: set[Key]) -> None:
        self.moved |= keys
        if keys:
            self.record.journal(*({"event": "moved", "image": key.image, "name": key.name} for key in sorted(keys)))

    def _delete(self, keys: list[Key], pool: ThreadPoolExecutor) -> None:
        self._save(keys, pool)
        self.record.journal(*(self._event("deleting", key) for key in keys))
        sent = {pool.submit(self.site.registry.delete, *key): key for key in keys}
        try:
            wait(sent, return_when=FIRST_EXCEPTION)
        finally:
            # Also when this is interrupted: what is on its way is waited for, and told.
            for future in sent:
                future.cancel()
            wait(sent)
            ended = [future for future in sent if not future.cancelled()]
            done = [sent[future] for future in ended if future.exception() is None]
            self.deleted.update(done)
            for key in done:
                self.gone[key.image].add(key.name)
            self.record.journal(*(self._event("deleted", key) for key in done))
        for future in ended:
            future.result()

    def _event(self, event: str, key: Key) -> dict[str, str]:
        return {"event": event, "image": key.image, "digest": key.name, "media_type": self.media_types[key]}

    def _save(self, keys: list[Key], pool: ThreadPoolExecutor) -> None:
        found = self.site.source.manifests(keys)
        list(pool.map(self.record.save_manifest, [digest for _, digest in found], found.values()))

    def _untag(self, keys: list[Key], pool: ThreadPoolExecutor) -> None:
        self._save([Key(key.image, self.tag_rows[key][0]) for key in keys], pool)
        for key in keys:
            digest = self.tag_rows[key][0]
            self.record.journal({"event": "untagging", "image": key.image, "tag": key.name, "digest": digest})
            if not self.site.untag(key.image, key.name):
                self.kept.add(key)
                self.record.journal(
                    {
                        "event": "kept",
                        "image": key.image,
                        "tag": key.name,
                        "reason": "the registry can't delete a tag alone",
                    }
                )
                continue
            self.untagged.add(key)
            self.record.journal({"event": "untagged", "image": key.image, "tag": key.name, "digest": digest})

    def _still_goes(self, image: str) -> set[Key]:
        """The planned manifests and tags of ``image`` that may go as the registry is now.

        Where nothing changed since the scan but for our own deletions, all of them; else what a plan made anew agrees
        on.
        """
        tags, revisions = self.site.source.state(image)
        was_tags, was_revisions = self.scanned[image]
        gone = self.gone[image]
        mine = {
            tag: digest
            for tag, digest in was_tags.items()
            if digest not in gone and Key(image, tag) not in self.untagged
        }
        unchanged = tags == mine and revisions in (None, was_revisions - gone)
        return self.going[image] if unchanged else self._agreed(image)

    def _agreed(self, image: str) -> set[Key]:
        was = self.plan.inventory
        planned = self.plan.manifests.query("image_name == @image")
        known = tuple(pairs(planned, "manifest_hash"))
        fresh = Inventory.from_columns(
            self.site.source.read(Part((image,), (), known)),
            scanned_at=was.scanned_at,
            from_store=was.from_store,
            can_untag=was.can_untag,
        )
        columns = fresh.images[["id", "tag_name", "tag_hash"]].itertuples(index=False)
        selected = [number for number, tag, digest in columns if self._planned(image, tag)[0] == digest]
        protected = select(fresh, was.protect, engine=was.engine, name="protect") if was.protect else []
        untagged = planned.query("reason in ('orphan', 'child')")
        resumed = [(*pair, was.scanned_at) for pair in pairs(untagged, "manifest_hash")]
        with solve(fresh, selected, protected, resumed=resumed) as work:
            digests = work.execute("select hash from manifest_plan join digest using (digest)").fetchall()
            tags = work.execute("select tag_name, action from tag_plan join tag using (id)").fetchall()
        agreed = {Key(image, digest) for (digest,) in digests}
        agreed |= {Key(image, tag) for tag, action in tags if self._planned(image, tag)[1] == action}
        return agreed & self.going[image]

    def _planned(self, image: str, tag: str) -> tuple[str, str]:
        """The digest that a tag was planned to go with, and how; empty for a tag that the plan leaves alone."""
        return self.tag_rows.get(Key(image, tag), ("", ""))

    def rows(self, keys: Iterable[Key]) -> pd.DataFrame:
        return pd.DataFrame(list(keys), columns=["image_name", "manifest_hash"], dtype="str")

    def manifests(self) -> pd.DataFrame:
        return self.plan.manifests.assign(
            outcome=[self._outcome(Key(*pair)) for pair in pairs(self.plan.manifests, "manifest_hash")]
        )

    def tags(self) -> pd.DataFrame:
        return self.plan.tags.assign(
            outcome=[self._tag_outcome(Key(*pair)) for pair in pairs(self.plan.tags, "tag_name")]
        )

    def _outcome(self, key: Key) -> str:
        return "deleted" if key in self.deleted else "moved" if key in self.moved else "failed"

    def _tag_outcome(self, key: Key) -> str:
        digest, action = self.tag_rows[key]
        if action == "keep" or key in self.kept:
            return "kept"
        if key in self.moved:
            return "moved"
        return (
            "untagged"
            if key in self.untagged
            else self._outcome(Key(key.image, digest))
            if action == "delete"
            else "failed"
        )


def pairs(frame: pd.DataFrame, column: str) -> Iterator[tuple[str, str]]:
    return zip(frame["image_name"], frame[column], strict=True)


def _levels(plan: Plan) -> dict[Key, int]:
    """When each manifest is deleted: level by level, so that an index goes before its children."""
    levels = {Key(*pair): 0 for pair in pairs(plan.manifests, "manifest_hash")}
    edges = [(Key(image, first), Key(image, second)) for image, first, second in plan.order.itertuples(index=False)]
    # Digests can't form a ring, but tag names can: the number of rounds is bounded.
    for _ in range(100):
        late = [(first, second) for first, second in edges if levels[second] <= levels[first]]
        for first, second in late:
            levels[second] = levels[first] + 1
        if not late:
            break
    return levels


def states(inventory: Inventory, images: set[str]) -> dict[str, tuple[dict[str, str | None], frozenset[str]]]:
    """Tags with digests, and revisions, of each image at the time of the scan."""
    tags: dict[str, dict[str, str | None]] = {image: {} for image in images}
    revisions: dict[str, set[str]] = {image: set() for image in images}
    rows = inventory.images[inventory.images["image_name"].isin(images)]
    for image, tag, digest in zip(rows["image_name"], rows["tag_name"], rows["tag_hash"], strict=True):
        tags[image][tag] = digest if isinstance(digest, str) else None
    held = inventory.manifests[inventory.manifests["image_name"].isin(images)]
    for image, digest in pairs(held, "manifest_hash"):
        revisions[image].add(digest)
    return {image: (tags[image], frozenset(revisions[image])) for image in images}
