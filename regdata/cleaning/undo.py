"""Puts back what a run deleted, from the bytes in its record, until a collection has taken the layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from regdata.collecting.own import bring_back_own
from regdata.config import Config, check_flags
from regdata.errors import CleanupError, RegistryError
from regdata.records.closing import say_restored
from regdata.records.reading import DeletedManifest, DeletedTag, PastRun, find_run, past_runs
from regdata.show.words import count
from regdata.sources.manifest import Content, Reference, parse_manifest
from regdata.sources.site import Site

Outcome = tuple[str, str]
# What is to be said of what is gone.
KEPT = (
    "What a collection took comes back only while it is kept: give trash_days in conf.json before the next run, or "
    "delete with --no-gc"
)
# Why a tag is older or younger in ages and ranks than it was.
TODAY = "its push date is today's"


def restore(run: str | Path, config: Config, *, force: bool = False) -> pd.DataFrame:
    """Puts the manifests and tags of the run in folder ``run`` back: children, then indexes, then tags.

    ``run``: see `find_run`; empty, nothing is restored. A tag is put back where it is absent, where the folder can be
    changed with the push date that it had; ``force`` also moves a tag that is on another digest by now. What no tag
    leads to is as young as if it was pushed now: it has the grace of two hours in which it can be tagged. Returns
    image_name, reference (digest or tag), outcome and why. The outcome is restored, present (it was there), taken (the
    tag is on another digest), lost (a part of it is gone, or its bytes are not in the record) or failed (the registry
    refused; another try may help). Raises CleanupError when ``run`` is no record of this registry, StorageError while a
    run is at work, RegistryError when the registry fails.
    """
    check_flags(force=force)
    rows: list[tuple[str, str, str, str]] = []
    if run:
        past = find_run(run, config)
        tags = past.tags
        site = Site.open(config)
        site.registry.check()
        with site.lock():
            bring_back_own(config, site, past.folder.name, _needed(past))
            restorer = _Restorer(past, site)
            # An index was deleted before its children, what is attached before its subject: now the other way round.
            for manifest in reversed(past.manifests):
                rows.append((manifest.image, manifest.digest, *restorer.manifest(manifest)))
            rows += [(tag.image, tag.tag, *restorer.tag(tag, force=force)) for tag in tags]
            if outcomes := {outcome for _, _, outcome, _ in rows}:
                say_restored(past, wholly=outcomes <= {"restored", "present"})
    return pd.DataFrame(rows, columns=["image_name", "reference", "outcome", "why"])


def _needed(past: PastRun) -> set[str]:
    """The digests that the manifests name which a run deleted."""
    needed = set()
    for _, digest, media_type in past.manifests:
        with suppress(OSError):  # `_Restorer` tells that
            content = parse_manifest(digest, past.manifest(digest), media_type)
            needed |= {digest, *(one.hash for one in _parts(content))}
    return needed


def _parts(content: Content) -> list[Reference]:
    """What has to be there with it; not what its text only mentions."""
    return [reference for reference in content.references if reference.kind != "mention"]


def verdict(outcome: pd.DataFrame) -> str:
    """What `restore` came to, in a line. Raises CleanupError when something was lost or failed."""
    counts = outcome["outcome"].value_counts(sort=False)
    told = ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing was to be restored"
    if young := int(outcome["why"].str.endswith(TODAY).sum()):
        told += (
            f"; as pushed today: {count(young, 'tag')}, whose dates could not be put back. Ages and ranks count from "
            "that where base_path is read (docs/undo.md)"
        )
    bad = outcome[outcome["outcome"].isin(["lost", "failed"])]
    if bad.empty:
        return told
    image, reference, _, why = bad.iloc[0]
    name = f"{image}{'@' if ':' in reference else ':'}{reference}"
    cure = KEPT if (bad["outcome"] == "lost").any() else "Restore again once that is mended"
    raise CleanupError(f"{len(bad)} of {len(outcome)} could not be restored ({told}), such as {name}: {why}. {cure}")


def runs(config: Config) -> pd.DataFrame:
    """The runs on this registry that deleted something, the last one first.

    run (the folder, to be given to `restore`), started, sql_id, manifests, tags (how many it was about to delete) and
    collected (whether a collection has begun since, in this run or a later one: what only these images used is lost).
    """
    rows = []
    for past in past_runs(config):
        folder = past.folder
        try:
            manifests, tags = len(past.manifests), len(past.tags)
        except CleanupError:
            continue
        name = folder.relative_to(config.path.parent) if folder.is_relative_to(config.path.parent) else folder
        started, sql_id = past.said("started"), past.said("sql_id")
        rows.append((str(name), started, sql_id, manifests, tags, past.began_to_collect))
    found = pd.DataFrame(rows, columns=["run", "started", "sql_id", "manifests", "tags", "collected"])
    found = found.sort_values("started", ascending=False)
    found["collected"] = found["collected"].cummax()
    return found[(found["manifests"] > 0) | (found["tags"] > 0)].reset_index(drop=True)


class _Restorer:
    """Puts manifests and tags back; what one of them fails on does not stop the others."""

    def __init__(self, past: PastRun, site: Site) -> None:
        self.past, self.site, self.registry = past, site, site.registry
        self._deleted = {(image, digest) for image, digest, _ in past.manifests}
        # The registry's cache may still claim what a collection took.
        self.is_there = site.presence()

    def manifest(self, manifest: DeletedManifest) -> Outcome:
        """Puts a manifest back where all that it refers to is there."""
        return self._tried(lambda: self._manifest(*manifest))

    def tag(self, tag: DeletedTag, *, force: bool) -> Outcome:
        """Puts a tag back on its digest."""
        return self._tried(lambda: self._tag(tag, force=force))

    def _tried(self, step: Callable[[], Outcome]) -> Outcome:
        try:
            return step()
        except RegistryError as error:
            self.registry.check()  # without a registry there is no use in going on
            return "failed", str(error)

    def _manifest(self, image: str, digest: str, media_type: str | None) -> Outcome:
        if self.registry.digest(image, digest):
            return "present", "it is in the registry"
        path = self.past.manifest_path(digest)
        try:
            data = self.past.manifest(digest)
        except OSError as error:
            return "lost", f"{path}: {error.strerror}"
        content = parse_manifest(digest, data, media_type)
        if content.error:
            return "lost", f"{path} is damaged: {content.error}"
        for reference in _parts(content):
            if not self._has(image, reference):
                return "lost", f"its {reference.kind} {reference.hash} is gone"
        self.registry.put(image, digest, media_type or str(content.media_type), data)
        if self._reads_back(image, digest):
            return "restored", "manifest put back"
        self.registry.delete(image, digest)  # half of it would make the whole repository unreadable
        return "failed", "the registry's cache claims what a collection took: restart the registry and restore again"

    def _has(self, image: str, reference: Reference) -> bool:
        if reference.kind == "manifest":
            return self.registry.digest(image, reference.hash) is not None
        if any(word in (reference.media_type or "") for word in ("foreign", "nondistributable")):
            return True  # fetched from elsewhere
        return self.is_there(image, reference.hash)

    def _reads_back(self, image: str, digest: str) -> bool:
        try:
            return self.registry.manifest(image, digest) is not None
        except RegistryError:
            return False

    def _tag(self, tag: DeletedTag, *, force: bool) -> Outcome:
        now = self.registry.digest(tag.image, tag.tag)
        if now == tag.digest:
            return "present", "the tag is on its digest"
        if now and not force:
            return "taken", f"the tag is on {now} by now; give force to move it back"
        if (tag.image, tag.digest) not in self._deleted and self.registry.digest(tag.image, tag.digest) is None:
            self._manifest(tag.image, tag.digest, None)  # the tag went alone, its digest after that
        manifest = self.registry.manifest(tag.image, tag.digest)
        if manifest is None or manifest.media_type is None:
            return "lost", f"its manifest {tag.digest} is gone"
        self.registry.put(tag.image, tag.tag, manifest.media_type, manifest.data)
        said = f"tag put back on {tag.digest}"
        return "restored", said if self._backdated(tag) else f"{said}; {TODAY}"

    def _backdated(self, tag: DeletedTag) -> bool:
        pushed = self.past.pushed.get((tag.image, tag.tag))
        if pushed is None or not (self.site.from_store and self.site.store.writable):
            return False
        return self.site.store.backdate(*tag, pushed=pushed, linked=self.past.pushed.get((tag.image, tag.digest)))
