"""Deletes what a plan names, batch by batch.

Each image is looked at again before its deletions, and each manifest glanced at right before its own. Each step is in
the journal before it is taken and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress

from regdata.cleaning.order import Batch, Manifest, Tag, batches, levels_of, pairs
from regdata.cleaning.outcome import Members, Outcome
from regdata.cleaning.review import Review
from regdata.errors import RegdataError, RegistryError
from regdata.planning.rules import attached
from regdata.records.record import Record
from regdata.sources.progress import now
from regdata.sources.site import Site

# Told how many manifests are decided, of how many.
Progress = Callable[[int, int], None]
# A look takes the longer the more an image holds: from so many looks on they are fewer.
MANY = 20
# How often an image that goes on changing is looked at again; what is left then stays.
LOOKS = 3


class Deletion:
    """Carries a plan out; ``outcome`` follows, also when this is interrupted."""

    def __init__(self, outcome: Outcome, site: Site, record: Record) -> None:
        self.outcome, self.site, self.record = outcome, site, record
        self._review = Review(outcome, site.source)
        plan = outcome.plan
        held = plan.manifests.merge(plan.inventory.manifests, on=["image_name", "manifest_hash"])
        types = zip(pairs(held, "manifest_hash"), held["media_type"], strict=True)
        self._media_types = {Manifest(*pair): media_type for pair, media_type in types}
        self._attached = {Manifest(*pair) for pair in attached(plan.inventory)}
        self._begun: set[str] = set()

    def run(self, *, batch: int | None = None, progress: Progress | None = None) -> list[str]:
        """Deletes; returns what went wrong. After the first error nothing more is deleted.

        ``batch``: how many manifests may go between two looks at their images; the site's own number, or more where
        there are many, if not given.
        """
        size = batch or max(self.site.batch, len(self.outcome.planned) // MANY)
        try:
            with ThreadPoolExecutor(self.site.registry.workers) as pool:
                for part in batches(levels_of(self.outcome.plan), self.outcome.alone, size):
                    self._batch(part, pool, progress or _untold)
        except RegdataError as error:
            self.record.journal({"event": "stopped", "error": str(error)})
            return [str(error)]
        return []

    def _batch(self, batch: Batch, pool: ThreadPoolExecutor, progress: Progress) -> None:
        images = batch.images
        self._look(images, pool)
        self._begin([image for image in images if image not in self._begun])
        known = set(self.outcome.moved_tags)
        if self.outcome.plan.inventory.can_untag:
            self._take_tags(images)
        self._untag([tag for tag in batch.tags if tag not in known], pool)
        # One that moved meanwhile may be on something that goes.
        self._look(sorted({tag.image for tag in self.outcome.moved_tags - known}), pool)
        for level in batch.levels:
            if going := [manifest for manifest in level if manifest not in self.outcome.moved]:
                self._delete(going, pool)
            progress(*self.outcome.progress)
            now.step(self.outcome.progress[0] - now.done)

    def _look(self, images: Iterable[str], pool: ThreadPoolExecutor) -> None:
        """Gives up what does not go any more, as these images are now."""
        images = list(images)
        for image, still in zip(images, pool.map(self._review.still_goes, images), strict=True):
            left = self.outcome.left(image)
            self._give_up(image, Members(left.manifests - still.manifests, left.tags - still.tags - self.outcome.taken))
            self.outcome.again |= (back := self._review.back(image))
            self.outcome.put_back(back)

    def _begin(self, images: list[str]) -> None:
        """Says which manifests go, of the images with which this begins: should it be killed, they are finished."""
        scanned, lines = self.outcome.plan.inventory.scanned_at, []
        for image in images:
            left = sorted(self.outcome.left(image).manifests)
            line = {"event": "beginning", "image": image, "scanned": scanned, "digests": [one.digest for one in left]}
            attached = [one.digest for one in left if one in self._attached]
            lines.append(line | ({"attached": attached} if attached else {}))
        self.record.journal(*lines)
        self._begun.update(images)

    def _take_tags(self, images: Iterable[str]) -> None:
        """Takes away the tags that go with their manifests, all of some images at once: a DELETE of a manifest has the
        registry read every tag that its repository still has."""
        tags = {tag: on for image in images for tag, on in self.outcome.going_with_manifests(image).items()}
        lines = {tag: {"image": tag.image, "tag": tag.name, "digest": digest} for tag, digest in tags.items()}
        if not tags:
            return
        self.record.journal(*({"event": "taking"} | line for line in lines.values()))
        try:
            for tag, digest in tags.items():
                taken = self.site.untag(*tag, digest, self.outcome.pushed(tag))
                if taken is None:  # it goes with its manifest
                    break
                if taken:
                    self.outcome.taken.add(tag)
                else:
                    with_it = {Manifest(tag.image, digest)} & self.outcome.left(tag.image).manifests
                    self._give_up(tag.image, Members(with_it, {tag}))
        finally:
            if done := [{"event": "taken"} | line for tag, line in lines.items() if tag in self.outcome.taken]:
                self.record.journal(*done)

    def _give_up(self, image: str, changed: Members) -> None:
        self.outcome.give_up(changed)
        names = sorted([*(one.digest for one in changed.manifests), *(tag.name for tag in changed.tags)])
        if names:
            self.record.journal(*({"event": "moved", "image": image, "name": name} for name in names))

    def _delete(self, manifests: list[Manifest], pool: ThreadPoolExecutor, *, looks: int = LOOKS) -> None:
        changed = self._deleted_unless_changed(manifests, pool)
        self._look({manifest.image for manifest in changed}, pool)
        again = [manifest for manifest in changed if manifest not in self.outcome.moved]
        if again and looks:
            return self._delete(again, pool, looks=looks - 1)
        for manifest in again:
            tags = {tag for tag in self.outcome.tags_on[manifest] if tag not in self.outcome.taken}
            self._give_up(manifest.image, Members({manifest}, tags))
        # What only went for their sake stays with them.
        self._look({manifest.image for manifest in again}, pool)

    def _deleted_unless_changed(self, manifests: list[Manifest], pool: ThreadPoolExecutor) -> list[Manifest]:
        """Deletes those at which nothing has changed since the last look at their images; returns the others."""
        self._save(manifests, pool)
        self._review.see_gone({manifest.image for manifest in manifests})
        self.record.journal(*(self._event("deleting", manifest) for manifest in manifests))
        sent = {pool.submit(self._delete_one, manifest): manifest for manifest in manifests}
        try:
            wait(sent, return_when=FIRST_EXCEPTION)
        finally:
            # Also when this is interrupted: what is on its way is waited for, and told.
            for future in sent:
                future.cancel()
            wait(sent)
            ended = [future for future in sent if not future.cancelled()]
            done = [sent[future] for future in ended if future.exception() is None and future.result()]
            self.outcome.deleted.update(done)
            self.record.journal(*(self._event("deleted", manifest) for manifest in done))
        return [sent[future] for future in ended if not future.result()]

    def _delete_one(self, manifest: Manifest) -> bool:
        """Whether it was as it had been; distribution refuses (400) what is being pushed again at that moment."""
        if not self._review.as_it_was(manifest):
            return False
        try:
            self.site.registry.delete(*manifest)
        except RegistryError:
            if self._review.as_it_was(manifest):
                raise
            return False
        if self._is_kept(manifest):
            raise self.site.registry.not_gone(*manifest)
        return True

    def _is_kept(self, manifest: Manifest) -> bool:
        """Whether it is there after its deletion; in the folder, what was pushed at that moment is told from it. A look
        that fails says nothing."""
        with suppress(RegistryError):
            if self.site.from_store and not self._review.as_it_was(manifest):
                return False
            if self.site.registry.keeps(*manifest):
                return True
            self.outcome.seen_gone.add(manifest)
        return False

    def _event(self, event: str, manifest: Manifest) -> dict[str, str]:
        image, digest = manifest
        return {"event": event, "image": image, "digest": digest, "media_type": self._media_types[manifest]}

    def _save(self, manifests: list[Manifest], pool: ThreadPoolExecutor) -> None:
        found = self.site.source.manifests(manifests)
        list(pool.map(self.record.save_manifest, [digest for _, digest in found], found.values()))

    def _untag(self, tags: list[Tag], pool: ThreadPoolExecutor) -> None:
        if not tags:
            return
        self._save([Manifest(tag.image, self.outcome.tags[tag][0]) for tag in tags], pool)
        lines = {tag: {"image": tag.image, "tag": tag.name, "digest": self.outcome.tags[tag][0]} for tag in tags}
        self.record.journal(*({"event": "untagging"} | line for line in lines.values()))
        done: list[dict[str, str]] = []
        try:
            for tag, line in lines.items():
                untagged = self.site.untag(*tag, line["digest"], self.outcome.pushed(tag))
                if untagged:
                    self.outcome.untagged.add(tag)
                    done.append({"event": "untagged"} | line)
                elif untagged is False:
                    self._give_up(tag.image, Members(set(), {tag}))
                else:
                    self.outcome.kept.add(tag)
                    reason = "the registry can't delete a tag alone"
                    done.append({"event": "kept", "image": tag.image, "tag": tag.name, "reason": reason})
        finally:
            self.record.journal(*done)


def _untold(done: int, total: int) -> None:
    """Nobody wants to know."""
