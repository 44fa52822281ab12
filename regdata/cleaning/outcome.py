"""What became of each tag and each manifest of a plan; the two are never mixed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Set
from typing import NamedTuple

import pandas as pd

from regdata.cleaning.order import Manifest, Tag, pairs
from regdata.planning.plan import Plan
from regdata.sources.dates import Pushed


class Members(NamedTuple):
    """Manifests and tags of images."""

    manifests: Set[Manifest]
    tags: Set[Tag]

    @property
    def manifest_rows(self) -> pd.DataFrame:
        """image_name, manifest_hash."""
        return pd.DataFrame(list(self.manifests), columns=["image_name", "manifest_hash"], dtype="str")


def _dates(plan: Plan) -> dict[Manifest | Tag, int]:
    """When each tag and manifest of the images that a plan touches was pushed, where that is known."""
    touched = {*plan.tags["image_name"], *plan.manifests["image_name"]}
    found: dict[Manifest | Tag, int] = {}
    for make, frame, column in (
        (Tag, plan.inventory.images, "tag_name"),
        (Manifest, plan.inventory.manifests, "manifest_hash"),
    ):
        rows = frame[frame["image_name"].isin(touched) & frame["pushed"].notna()]
        dates = zip(pairs(rows, column), rows["pushed"].astype(int), strict=True)
        found.update({make(*pair): int(pushed) for pair, pushed in dates})
    return found


class Outcome:
    """A plan on its way: what is deleted, untagged, kept or moved (it changed since the scan) so far. ``by_tag``: the
    images whose tags go alone, since the registry deletes no manifests."""

    def __init__(self, plan: Plan, by_tag: Collection[str] = ()) -> None:
        self.plan, self.by_tag = plan, by_tag
        self.deleted: set[Manifest] = set()
        self.seen_gone: set[Manifest] = set()  # right after its DELETE
        self.moved: set[Manifest] = set()
        self.untagged: set[Tag] = set()
        self.kept: set[Tag] = set()
        self.moved_tags: set[Tag] = set()
        self.taken: set[Tag] = set()  # before the manifests that they are on
        self.again: set[Tag] = set()  # there after they had gone
        self.planned = {Manifest(*pair) for pair in pairs(plan.manifests, "manifest_hash")}
        rows = plan.tags[["image_name", "tag_name", "tag_hash", "action"]].itertuples(index=False)
        self.tags = {Tag(image, name): (digest, action) for image, name, digest, action in rows}
        self.tags_on: dict[Manifest, list[Tag]] = defaultdict(list)
        for tag, (digest, action) in self.tags.items():
            if action == "delete":
                self.tags_on[Manifest(tag.image, digest)].append(tag)
        self._dates = _dates(plan)
        self._of_image: dict[str, tuple[set[Manifest], set[Tag]]] = defaultdict(lambda: (set(), set()))
        for manifest in self.planned:
            self._of_image[manifest.image][0].add(manifest)
        for tag, (_, action) in self.tags.items():
            if action != "keep":
                self._of_image[tag.image][1].add(tag)

    def pushed(self, one: Manifest | Tag) -> Pushed:
        """When it was pushed, as the scan saw it."""
        return Pushed(self._dates.get(one), self.plan.inventory.scanned_at, self.plan.inventory.ahead)

    @property
    def images(self) -> set[str]:
        """The images from which something goes."""
        return set(self._of_image)

    @property
    def alone(self) -> list[Tag]:
        """The tags that go while their digests stay."""
        return [tag for tag, (_, action) in self.tags.items() if action == "untag"]

    def left(self, image: str) -> Members:
        """What of the plan for an image is neither done nor given up."""
        manifests, tags = self._of_image[image]
        return Members(manifests - self.deleted - self.moved, {tag for tag in tags if self._is_left(tag)})

    def done(self, image: str) -> Members:
        """What of the plan for an image is deleted or untagged."""
        manifests, tags = self._of_image[image]
        return Members(manifests & self.deleted, (tags & self.untagged) | (tags & self.taken))

    def given_up(self, image: str) -> Set[Manifest]:
        """The manifests of the plan for an image that changed, and stay. One step, since threads ask."""
        return self._of_image[image][0] & self.moved

    def taken_from(self, image: str) -> Set[Tag]:
        """The tags of an image that were taken before their manifests."""
        return self._of_image[image][1] & self.taken

    def tags_gone(self, image: str) -> Set[Tag]:
        """The tags of an image that are not there any more: by themselves, or with their manifests."""
        done = self.done(image)
        with_manifests = {tag for one in done.manifests for tag in self.tags_on.get(one, ())}
        return with_manifests | done.tags

    def going_with_manifests(self, image: str) -> dict[Tag, str]:
        """The tags of an image that are to go with their digests, and are there still."""
        left = sorted(tag for tag in self._of_image[image][1] if self._is_left(tag) and tag not in self.taken)
        return {tag: self.tags[tag][0] for tag in left if self.tags[tag][1] == "delete"}

    def _is_left(self, tag: Tag) -> bool:
        with_manifest = self.tags[tag][1] == "delete" and self._manifest(tag) in self.deleted
        return not with_manifest and tag not in self.moved_tags and tag not in self.untagged and tag not in self.kept

    def give_up(self, those: Members) -> None:
        """They changed since the scan: what is left of the plan leaves them alone."""
        self.moved |= those.manifests
        self.moved_tags |= those.tags - self.taken

    def put_back(self, tags: Set[Tag]) -> None:
        """They are there again: somebody was pushing to them while they were taken away, or did after that."""
        self.taken -= tags
        self.untagged -= tags
        self.moved_tags |= tags

    def revive(self, manifest: Manifest, tags: Set[tuple[str, str]]) -> None:
        """It was put back, and has moved. ``tags``: those that are there; the others went with it all the same."""
        if manifest in self.deleted:
            self.deleted.discard(manifest)
            self.moved.add(manifest)
            on = set(self.tags_on[manifest])
            self.taken = (self.taken | on) - (on & tags)

    def fail(self, those: Set[tuple[str, str]]) -> None:
        """Tags and manifests that were told to be gone, and never were: neither they nor what the tags are on went."""
        on = {self._manifest(tag) for tag in self.tags if tag in those}
        self.untagged.difference_update(those)
        self.taken.difference_update(those)
        self.deleted.difference_update(on.union(those))

    @property
    def gone(self) -> tuple[dict[tuple[str, str], str], set[Manifest]]:
        """What should be gone by now: the tags, each with the digest it was on, and manifests that no tag was on."""
        with_manifest = {tag: self._manifest(tag) for tag, (_, action) in self.tags.items() if action == "delete"}
        tags: dict[tuple[str, str], str] = {tag: self.tags[tag][0] for tag in self.untagged}
        tags.update({tag: manifest.digest for tag, manifest in with_manifest.items() if manifest in self.deleted})
        return tags, self.deleted - set(with_manifest.values())

    @property
    def progress(self) -> tuple[int, int]:
        """How many manifests are decided, of how many."""
        return len(self.deleted) + len(self.moved), len(self.planned)

    def manifest_rows(self) -> pd.DataFrame:
        """plan.manifests with ``outcome``: deleted, moved or failed (not done)."""
        manifests = self.plan.manifests
        return manifests.assign(outcome=[self._became(Manifest(*pair)) for pair in pairs(manifests, "manifest_hash")])

    def tag_rows(self) -> pd.DataFrame:
        """plan.tags with ``outcome``: deleted, untagged, kept, moved or failed."""
        tags = self.plan.tags
        return tags.assign(outcome=[self._tag_became(Tag(*pair)) for pair in pairs(tags, "tag_name")])

    def _manifest(self, tag: Tag) -> Manifest:
        return Manifest(tag.image, self.tags[tag][0])

    def _became(self, manifest: Manifest) -> str:
        return "deleted" if manifest in self.deleted else "moved" if manifest in self.moved else "failed"

    def _tag_became(self, tag: Tag) -> str:
        action = self.tags[tag][1]
        if action == "keep" or tag in self.kept:
            return "kept"
        if tag in self.moved_tags:
            return "moved"
        if action == "delete" and (tag not in self.taken or self._manifest(tag) in self.deleted):
            return self._became(self._manifest(tag))
        return "untagged" if tag in self.untagged or tag in self.taken else "failed"
