"""Puts back what a run deleted, from the bytes in its record, until a collection has taken the layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

import pandas as pd

from regdata.collecting.own import bring_back_own, undo_own
from regdata.config import Config
from regdata.errors import CleanupError, RegistryError, StorageError
from regdata.inventory.scan import can_change
from regdata.records.closing import say_restored
from regdata.records.reading import DeletedManifest, DeletedTag, PastRun
from regdata.records.runs import find_run, past_runs
from regdata.show.words import count
from regdata.sources.leads import leads_of, may_be_manifest
from regdata.sources.manifest import Content, Reference, parse_manifest
from regdata.sources.names import means
from regdata.sources.site import Site
from regdata.values import check_flags, check_kind

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
    check_kind(Config, config=config)
    check_flags(force=force)
    rows: list[tuple[str, str, str, str]] = []
    if run not in ("", None):
        past = find_run(run, config)
        tags = past.tags
        site = Site.open(config)
        site.registry.check()
        with site.lock():
            undo_own(config, site)
            known = _Known(past, config, site)
            _bring_back(past, config, site, known)
            restorer = _Restorer(past, site, known)
            # An index was deleted before its children, what is attached before its subject: now the other way round.
            for manifest in reversed(past.manifests):
                rows.append((manifest.image, manifest.digest, *restorer.manifest(manifest)))
            rows += [(tag.image, tag.tag, *restorer.tag(tag, force=force)) for tag in tags]
            if outcomes := {outcome for _, _, outcome, _ in rows}:
                say_restored(past, wholly=outcomes <= {"restored", "present"})
    return pd.DataFrame(rows, columns=["image_name", "reference", "outcome", "why"])


class _Known:
    """What manifests say that a run deleted, or that those lead to: by its record, else as they are there, else by
    another run's record."""

    def __init__(self, past: PastRun, config: Config, site: Site) -> None:
        self.past, self.config, self.site = past, config, site
        self._own = {digest for _, digest, _ in past.manifests}

    @cached_property
    def _runs(self) -> list[PastRun]:
        """That run, then the others, the last one first."""
        return [self.past, *(run for run in reversed(past_runs(self.config)) if run.folder != self.past.folder)]

    def recorded(self, digest: str) -> tuple[bytes, str | None]:
        """The bytes of a manifest that a run deleted, and its media type if that is known; OSError where they are in
        nobody's record."""
        for run in [self.past] if digest in self._own else self._runs:
            with suppress(FileNotFoundError):
                return run.manifest(digest), _media_type(run, digest)
        return self.past.manifest(digest), None

    def content(self, image: str, digest: str) -> Content | None:
        """What it says; None where it is not known, or no manifest."""
        data, media_type = None if digest in self._own else self._there(image, digest), None
        with suppress(OSError):
            data, media_type = (data, None) if data else self.recorded(digest)
        return parse_manifest(digest, data, media_type) if data and may_be_manifest(data) else None

    def _there(self, image: str, digest: str) -> bytes | None:
        if not self.site.from_store:
            found = self.site.registry.manifest(image, digest)
            return found and found.data
        stored = self.stored_as(image, digest)
        return self.site.store.document(stored) if stored else None

    def stored_as(self, image: str, digest: str) -> str | None:
        """The digest that its bytes are stored by; None where it is not linked."""
        return digest if digest.startswith("sha256:") else self.site.registry.stored_as(image, digest)


def _media_type(run: PastRun, digest: str) -> str | None:
    with suppress(CleanupError):
        return run.media_types.get(digest)
    return None


def _bring_back(past: PastRun, config: Config, site: Site, known: _Known) -> None:
    """Puts back what was set aside of all that is to be restored needs, whichever run took it: what its manifests name,
    and what those name that are linked as blobs, at any depth."""
    going = {(image, digest) for image, digest, _ in past.manifests} | {(tag.image, tag.digest) for tag in past.tags}
    needed, seen = {digest for _, digest in going}, set(going)
    if not (going and site.from_store):
        bring_back_own(config, site, past.folder.name, needed)
    while going and site.from_store:  # data comes back before that run's links to it
        named = [(image, content) for image, digest in sorted(going) if (content := known.content(image, digest))]
        needed |= {one.hash for _, content in named for one in _parts(content)}
        going = {(image, digest) for image, content in named for digest in leads_of(content).named} - seen
        needed |= {digest for _, digest in going}
        seen |= going
        bring_back_own(config, site, past.folder.name, needed)


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
    image, reference, became, why = bad.iloc[0]  # the others may be lost for its sake
    name = f"{image}{'@' if ':' in reference else ':'}{reference}"
    cure = KEPT if became == "lost" else "Restore again once that is mended"
    raise CleanupError(f"{len(bad)} of {len(outcome)} could not be restored ({told}), such as {name}: {why}. {cure}")


def runs(config: Config) -> pd.DataFrame:
    """The runs on this registry that deleted something, the last one first.

    run (the folder, to be given to `restore`), started, sql_id, manifests, tags (how many it was about to delete) and
    collected (whether a collection has begun since, in this run or a later one: what only these images used is lost).
    """
    rows = []
    for folder in [past.folder for past in past_runs(config)]:
        past = PastRun(folder)  # what is read of one is not kept for the next
        try:
            manifests, tags = len(past.manifests), len(past.tags)
        except CleanupError:  # nothing can be restored of it, but it may have collected what others had deleted
            manifests = tags = 0
        name = folder.relative_to(config.path.parent) if folder.is_relative_to(config.path.parent) else folder
        started, sql_id = past.said("started"), past.said("sql_id")
        rows.append((str(name), started, sql_id, manifests, tags, past.began_to_collect))
    found = pd.DataFrame(rows, columns=["run", "started", "sql_id", "manifests", "tags", "collected"])
    found = found.sort_values("started", ascending=False)
    found["collected"] = found["collected"].cummax()
    return found[(found["manifests"] > 0) | (found["tags"] > 0)].reset_index(drop=True)


class _Restorer:
    """Puts manifests and tags back; what one of them fails on does not stop the others."""

    def __init__(self, past: PastRun, site: Site, known: _Known) -> None:
        self.past, self.site, self.registry, self.known = past, site, site.registry, known
        self._deleted = {(image, digest) for image, digest, _ in past.manifests}
        self._whole: set[tuple[str, str]] = set()
        # The registry's cache may still claim what a collection took.
        self.is_there = site.presence()
        self._broken = cache(lambda image: site.store.broken_links(image))

    def manifest(self, manifest: DeletedManifest) -> Outcome:
        """Puts a manifest back where all that it refers to is there."""
        return self._tried(lambda: self._manifest(*manifest), manifest.image)

    def tag(self, tag: DeletedTag, *, force: bool) -> Outcome:
        """Puts a tag back on its digest."""
        return self._tried(lambda: self._tag(tag, force=force), tag.image)

    def _tried(self, step: Callable[[], Outcome], image: str) -> Outcome:
        if not means(self.registry.reach.repositories, image):
            return "failed", "it is outside registry.repositories: give it there"
        try:
            return step()
        except (RegistryError, StorageError) as error:
            self.registry.check()  # without a registry there is no use in going on
            links = self._broken(image) if self.site.from_store else {}
            cure = f"; {min(links.values())} holds no digest: remove the folder that it is in" if links else ""
            return "failed", f"{error}{cure}"

    def _manifest(self, image: str, digest: str, media_type: str | None) -> Outcome:
        if self.registry.digest(image, digest):
            return "present", "it is in the registry"
        path = self.past.manifest_path(digest)
        try:
            data, recorded = self.known.recorded(digest)
        except OSError as error:
            return "lost", f"{path}: {error.strerror}"
        content = parse_manifest(digest, data, media_type := media_type or recorded)
        if content.error:
            return "lost", f"{path} is damaged: {content.error}"
        if lacking := self._lacking(image, content):
            return "lost", f"{lacking} is gone"
        self.registry.put(image, digest, media_type or str(content.media_type), data)
        if self._reads_back(image, digest):
            self._whole.add((image, digest))
            return "restored", "manifest put back"
        if digest not in self.site.source.state(image)[0].values():
            self.registry.delete(image, digest)  # half of it would make the whole repository unreadable
        return "failed", "the registry's cache claims what a collection took: restart the registry and restore again"

    def _lacking(self, image: str, content: Content) -> str:
        """In words, what is not there of what has to be; of an index also what its children lack, however they are
        linked."""
        leads = leads_of(content)
        # A registry that is asked for a layer as a manifest reads it all.
        named = leads.named if self.site.from_store else leads.manifests
        children = {*named} if content.kind == "index" else set()
        for one in _parts(content):
            said = f"its {one.kind} {one.hash}"
            if not self._has(image, one):
                return said
            if one.hash in children and (image, one.hash) not in self._whole:
                child = self.known.content(image, one.hash)
                if child and (lacking := self._lacking(image, child)):
                    return f"of {said}, {lacking}"
                self._whole.add((image, one.hash))
        return ""

    def _has(self, image: str, reference: Reference) -> bool:
        if reference.kind == "manifest":
            there = self.registry.digest(image, reference.hash) is not None
            there = there or self._came_back(image, reference.hash, reference.media_type)
            return there or self._linked(image, reference)
        if any(word in (reference.media_type or "") for word in ("foreign", "nondistributable")):
            return True  # fetched from elsewhere
        return self._linked(image, reference)

    def _linked(self, image: str, reference: Reference) -> bool:
        """Whether it is stored; it is then linked as well, where somebody took away an emptied repository's links."""
        if not self.is_there(image, reference.hash):
            return False
        is_blob = reference.kind != "manifest" or self._was_blob(image, reference.hash)
        if is_blob and can_change(self.site) and reference.hash.startswith("sha256:"):
            self.site.store.link(image, reference.hash)
        return reference.kind != "manifest" or self.registry.digest(image, reference.hash) is not None

    def _was_blob(self, image: str, digest: str) -> bool:
        """Whether a manifest was linked as a blob alone, as 2.x takes it: nobody has deleted it."""
        try:
            self.known.recorded(digest)
        except OSError:
            is_deleted = self.site.from_store and digest in self.site.store.deleted(image)
            return not is_deleted and self.site.version([image]) == "2.x"
        return False

    def _came_back(self, image: str, digest: str, media_type: str | None) -> bool:
        """Whether what another run deleted could be put back, too: it finished this one's work, or took what is shared
        later."""
        return (image, digest) not in self._deleted and self._manifest(image, digest, media_type)[0] == "restored"

    def _reads_back(self, image: str, digest: str) -> bool:
        """RegistryError where the registry fails though the bytes are there."""
        try:
            return self.registry.manifest(image, digest) is not None
        except RegistryError:
            if self.site.from_store:
                stored = self.known.stored_as(image, digest)
                if stored is None or self.site.store.content(stored) is None:
                    return False
            raise

    def _tag(self, tag: DeletedTag, *, force: bool) -> Outcome:
        now = self.registry.digest(tag.image, tag.tag)
        if now == tag.digest:
            return "present", "the tag is on its digest"
        if now and not force:
            return "taken", f"the tag is on {now} by now; give force to move it back"
        if self.registry.digest(tag.image, tag.digest) is None:
            self._came_back(tag.image, tag.digest, None)  # the tag went alone, its digest after that
        manifest = self.registry.manifest(tag.image, tag.digest)
        if manifest is None or manifest.media_type is None:
            return "lost", f"its manifest {tag.digest} is gone"
        self.registry.put(tag.image, tag.tag, manifest.media_type, manifest.data)
        said = f"tag put back on {tag.digest}"
        return "restored", said if self._backdated(tag) else f"{said}; {TODAY}"

    def _backdated(self, tag: DeletedTag) -> bool:
        pushed = self.past.pushed.get((tag.image, tag.tag))
        if pushed is None or not can_change(self.site):
            return False
        return self.site.store.backdate(*tag, pushed=pushed, linked=self.past.pushed.get((tag.image, tag.digest)))
