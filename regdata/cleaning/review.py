"""A look at an image as it is now: what of a plan may still go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from typing import TYPE_CHECKING

import pandas as pd

from regdata.cleaning.bytag import tags_alone
from regdata.cleaning.order import Manifest, Tag, pairs
from regdata.cleaning.outcome import Members, Outcome
from regdata.errors import CleanupError
from regdata.inventory.inventory import Inventory
from regdata.inventory.usage import names, users, with_usage
from regdata.planning.rules import Spared, goes, spared_again
from regdata.sources.columns import Columns
from regdata.sources.source import Glance, Going, Part, Source, Tags
from regdata.usage import inuse

if TYPE_CHECKING:
    from regdata.config import Config
    from regdata.planning.plan import Plan
    from regdata.sources.site import Site


class Review:
    """Compares images with what the scan saw of them."""

    def __init__(self, outcome: Outcome, source: Source) -> None:
        self.outcome, self.plan, self.source = outcome, outcome.plan, source
        self.scanned = states(self.plan.inventory, outcome.images)
        self._glances: dict[str, Glance] = {}
        self._gone: dict[str, Set[str]] = {}  # the tags of each image that went: one that is there has moved
        self._back: dict[str, Set[str]] = {}  # those of them that were there at the last look: no news
        self._above: dict[Manifest, list[Manifest]] = defaultdict(list)
        for image, first, second in _rows(self.plan.order, "image_name", "first", "second"):
            self._above[Manifest(image, second)].append(Manifest(image, first))

    def still_goes(self, image: str) -> Members:
        """Where nothing changed since the scan but by our own deletions, and nothing was given up, all that is left;
        else what of it a plan made anew agrees on."""
        left = self.outcome.left(image)
        self._glances[image] = self.source.glance(image, [manifest.digest for manifest in left.manifests])
        tags, revisions = self.source.state(image)
        went = {tag.name for tag in self.outcome.tags_gone(image)}
        self._back[image] = tags.keys() & went
        gone = {manifest.digest for manifest in self.outcome.done(image).manifests}
        was_tags, was_revisions = self.scanned[image]
        mine = {tag: digest for tag, digest in was_tags.items() if tag not in went}
        if tags == mine and revisions in (None, was_revisions - gone) and not self.outcome.given_up(image):
            return left
        agreed = self._agreed(image)
        return Members(left.manifests & agreed.manifests, left.tags & agreed.tags)

    def back(self, image: str) -> Set[Tag]:
        """The tags that had gone and were there at the last look: they have been pushed again."""
        return {Tag(image, name) for name in self._back[image]}

    def see_gone(self, images: Iterable[str]) -> None:
        """To be told before manifests of these images go, at once: which of their tags have gone by now."""
        for image in images:
            self._gone[image] = {tag.name for tag in self.outcome.tags_gone(image)} - self._back[image]

    def as_it_was(self, manifest: Manifest) -> bool:
        """A glance at a manifest right before it goes: whether it is as it was at the last look at its image."""
        taken, deleted = self.outcome.taken, self.outcome.deleted
        tags = [tag for tag in self.outcome.tags_on[manifest] if tag not in self.outcome.moved_tags]
        return self._glances[manifest.image](
            Going(
                manifest.digest,
                self.outcome.pushed(manifest),
                tags=[tag.name for tag in tags if tag not in taken],
                gone=self._gone[manifest.image],
                above=[one.digest for one in self._above[manifest] if one in deleted],
            )
        )

    def _agreed(self, image: str) -> Members:
        was = self.plan.inventory
        planned = self.plan.manifests
        planned = planned[planned["image_name"] == image]  # several threads are here, for which `query` is not made
        known = tuple(pairs(planned, "manifest_hash"))
        read = self.source.read(Part((image,), known=known))
        again = pushed_again(self.outcome, read) | self.back(image) | self.outcome.moved_tags | self.outcome.moved
        fresh = Inventory.from_columns(
            read,
            scanned_at=was.scanned_at,
            from_store=was.from_store,
            can_untag=was.can_untag,
            engine=was.engine,
            protect=was.protect,
        )
        columns = fresh.images[["id", "tag_name", "tag_hash"]].itertuples(index=False)
        selected = [
            number
            for number, tag, digest in columns
            if self._planned(image, tag)[0] == digest and Tag(image, tag) not in again
        ]
        # Those whose tags we took are orphans by now, as are those that had none, but for what came onto them.
        untagged = {digest for _, digest in known if not self.outcome.tags_on.get(Manifest(image, digest))}
        untagged |= {self._planned(image, tag.name)[0] for tag in self.outcome.taken_from(image)}
        resumed = [(image, digest, None) for digest in untagged if Manifest(image, digest) not in again]
        # What was given up stays, and what hangs on it, though it may look as it was.
        given_up = pd.DataFrame(sorted(self.outcome.given_up(image)), columns=["image_name", "manifest_hash"])
        spared = Spared.of([*spared_again(self.plan, fresh), given_up.assign(reason="moved")])
        tags, manifests = goes(fresh, selected, spared, resumed=resumed)
        tags = tags_alone(tags, self.outcome.by_tag)
        return Members(
            {Manifest(*pair) for pair in pairs(manifests, "manifest_hash")},
            {
                Tag(image, tag)
                for tag, action in zip(tags["tag_name"], tags["action"], strict=True)
                if self._planned(image, tag)[1] == action
            },
        )

    def _planned(self, image: str, tag: str) -> tuple[str, str]:
        """The digest that a tag was planned to go with, and how; empty for a tag that the plan leaves alone."""
        return self.outcome.tags.get(Tag(image, tag), ("", ""))


def pushed_again(outcome: Outcome, read: Columns) -> set[Manifest | Tag]:
    """What has another date than the scan saw; where it saw none, what is not older than the scan."""
    now: dict[Manifest | Tag, int | None] = {}
    for make, table in ((Tag, read["tags"]), (Manifest, read["revisions"])):
        images, names, *_ = table.values()
        now.update({make(*pair): pushed for *pair, pushed in zip(images, names, table["pushed"], strict=True)})
    return {one for one, date in now.items() if date is not None and outcome.pushed(one).is_again(date)}


def check_uses(plan: Plan, config: Config) -> None:
    """What runs may have changed since the scan. Raises CleanupError where something is in use that is to go."""
    if not config.in_use:
        return
    now = with_usage(plan.inventory, uses=inuse.read(config.in_use, names(config), config.path.parent))
    going = plan.tags[plan.tags["action"] != "keep"].merge(users(now), on=["image_name", "tag_name"])
    gone = plan.manifests.merge(now.uses.dropna(subset=["manifest_hash"]), on=["image_name", "manifest_hash"])
    used = [f"{image}:{tag} ({by})" for image, tag, by in _rows(going, "image_name", "tag_name", "used_by")]
    used += [f"{image}@{digest} ({by})" for image, digest, by in _rows(gone, "image_name", "manifest_hash", "used_by")]
    if used:
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        raise CleanupError(
            f"in-use: {used[0]}{more} would go, but came into use since the plan was made, so nothing was deleted: run "
            "again"
        )


def _rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[str, ...]]:
    return zip(*(frame[column] for column in columns), strict=True)


def states(inventory: Inventory, images: set[str]) -> dict[str, tuple[Tags, frozenset[str]]]:
    """Tags with digests, and revisions, of each image at the time of the scan."""
    tags: dict[str, Tags] = {image: {} for image in images}
    revisions: dict[str, set[str]] = {image: set() for image in images}
    rows = inventory.images[inventory.images["image_name"].isin(images)]
    for image, tag, digest in zip(rows["image_name"], rows["tag_name"], rows["tag_hash"], strict=True):
        tags[image][tag] = digest if isinstance(digest, str) else None
    held = inventory.manifests[inventory.manifests["image_name"].isin(images)]
    for image, digest in pairs(held, "manifest_hash"):
        revisions[image].add(digest)
    return {image: (tags[image], frozenset(revisions[image])) for image in images}


def vanished(inventory: Inventory, site: Site) -> Members:
    """The tags and manifests of the scan that are not there, any more or at all: this run has not lost them."""
    images = inventory.images
    tags = dict(zip(pairs(images, "tag_name"), images["tag_hash"].where(images["tag_hash"].notna(), None), strict=True))
    names, digests = site.vanished(tags, pairs(inventory.manifests, "manifest_hash"))
    return Members({Manifest(*pair) for pair in digests}, {Tag(*pair) for pair in names})
