"""After the deletions: what is alive by now and misses something that was deleted gets it back.

A push may be faster than the last look, or inside the registry while it happens: an index is linked after its child,
which was there when the registry asked for it, was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from regdata.cleaning.order import Manifest, Tag, pairs
from regdata.cleaning.outcome import Outcome
from regdata.collecting.own import bring_back_parts, oldest_kept
from regdata.config import Config
from regdata.errors import CleanupError, RegistryError
from regdata.inventory.inventory import Inventory
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.records.runs import uncollected
from regdata.sources.leads import BEGINNING, named_by, other_names, sought
from regdata.sources.manifest import Content, parse_manifest
from regdata.sources.registry import ACCEPT, Registry
from regdata.sources.site import Site
from regdata.sources.watch import digests_in

Deleted = dict[Manifest, tuple[PastRun, str]]


@dataclass
class Revival:
    """Gives back what this run deleted, or one before it since the last collection, or since the first of which
    something is kept. ``back``: what it gave back so far; ``hopeless``: what it could not; notes, errors: what there is
    to say of it."""

    outcome: Outcome
    config: Config
    site: Site
    record: Record
    back: set[Manifest] = field(default_factory=set)
    hopeless: set[Manifest] = field(default_factory=set)
    noted: set[Manifest] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @cached_property
    def _runs(self) -> list[PastRun]:
        kept = oldest_kept(self.config, self.site)
        return list(uncollected(self.config, besides=self.record.folder, kept=kept))

    @cached_property
    def _earlier(self) -> Deleted:
        """What runs before this one deleted, with its record and its media type."""
        found: Deleted = {}
        for run in self._runs:
            with suppress(CleanupError):  # a damaged record
                found = _deleted(run) | found
        return found

    @cached_property
    def _begun(self) -> Deleted:
        """What this run was about to delete, when it was done with that."""
        return _deleted(PastRun(self.record.folder))

    @property
    def _own(self) -> Deleted:
        return {one: of for one, of in self._begun.items() if one in self.outcome.deleted}

    @property
    def images(self) -> set[str]:
        """Where something may be missing."""
        return {one.image for one in (*self.outcome.deleted, *self._earlier, *(one for one, *_ in self._attached))}

    def look(self, fresh: Inventory) -> set[Manifest]:
        """Puts back what tags, indexes and referrers of ``fresh`` miss; returns it. By the outcome it is moved."""
        own, deleted = self._own, self._deleted(fresh)
        back: set[Manifest] = set()
        needed = _needed(fresh, deleted) | self._missed_by_links(fresh, deleted)
        for manifest in sorted(needed | _belonged_to(fresh, deleted)):
            try:
                self._bring(manifest, deleted, back)
            except (RegistryError, OSError) as error:
                self._told(manifest, error, own=manifest in own, needed=manifest in needed)
        tags = set(pairs(fresh.images, "tag_name"))
        tags |= self._bring_attached(fresh, tags, deleted, back)
        for manifest in back:
            self.outcome.revive(manifest, tags)
        self.back |= back
        return back

    def missed(self, fresh: Inventory) -> set[Manifest]:
        """What `look` would try to put back; the registry is not asked, and what could not be put back is not told."""
        deleted = self._deleted(fresh)
        return (_needed(fresh, deleted) | (_belonged_to(fresh, deleted) - self.noted)) - self.hopeless

    def _deleted(self, fresh: Inventory) -> Deleted:
        """What was deleted, but for what a reading of the store says is there. One over the API takes it that a child
        is there which it knows from another image, or from the cache, and doesn't see what has no tag: each is asked
        for before it is put back."""
        deleted = self._earlier | self._own
        if not fresh.from_store:
            return deleted
        there = {Manifest(*pair) for pair in pairs(fresh.manifests, "manifest_hash")}
        return {one: of for one, of in deleted.items() if one not in there}

    def _told(self, manifest: Manifest, error: Exception, *, own: bool, needed: bool = True) -> None:
        known = self.hopeless if needed else self.noted
        if manifest in known | self.hopeless:  # each look tries again
            return
        known.add(manifest)
        whose = f"{'@'.join(manifest)}, which {'this' if own else 'an earlier'} run deleted"
        if needed:
            said = f"{whose}, is needed by what was pushed meanwhile and can't be put back ({error}): push it again"
        else:  # what belongs to it is served all the same
            said = f"{whose}, can't be put back ({error}), though something that belongs to it was pushed meanwhile"
        (self.errors if own and needed else self.notes).append(said)

    def _missed_by_links(self, fresh: Inventory, deleted: Deleted) -> set[Manifest]:
        """By tags whose digest the registry alone may tell."""
        missed: set[Manifest] = set()
        for image, tag in pairs(fresh.images[fresh.images["tag_hash"].isna()], "tag_name") if deleted else ():
            missed |= {Manifest(image, digest) for digest in _on(self.site.registry, image, tag)} & deleted.keys()
        return missed

    @cached_property
    def _attached(self) -> list[tuple[Manifest, set[str], list[str]]]:
        """What this run deleted for the sake of what it is attached to, or one that was killed: to which digests, and
        its tags."""
        runs = [PastRun(self.record.folder), *(run for run in self._runs if not run.ended_well)]
        found = []
        for run in runs:
            with suppress(CleanupError):
                for (image, digest), tags in run.followers.items():
                    found.append((Manifest(image, digest), _subjects(run, digest, tags), tags))
        return found

    def _bring_attached(
        self, fresh: Inventory, there: set[tuple[str, str]], deleted: Deleted, back: set[Manifest]
    ) -> set[tuple[str, str]]:
        """Puts back signatures, attestations and SBOMs of what is alive; the tags that it put back."""
        failed = self.outcome.planned - self.outcome.moved - self.outcome.deleted  # the next run deletes it
        alive = {Manifest(*pair) for pair in pairs(fresh.manifests, "manifest_hash")} - failed | back
        put: set[tuple[str, str]] = set()
        waiting, known = list(self._attached), -1
        while known < len(alive):  # what is put back may itself be signed
            known, asked, waiting = len(alive), waiting, []
            for one, subjects, tags in asked:
                if not any(self._is_alive(one.image, subject, alive) for subject in subjects):
                    waiting.append((one, subjects, tags))
                    continue
                try:
                    self._bring(one, deleted, back)
                    put |= self._tag_again(one, [tag for tag in tags if (one.image, tag) not in there])
                except (RegistryError, OSError) as error:
                    self._told(one, error, own=one in self._own)
            alive |= back
        self.outcome.put_back({Tag(*pair) for pair in put})
        return put

    def _tag_again(self, one: Manifest, tags: list[str]) -> set[tuple[str, str]]:
        """Puts its tags back that are not there: it may have been signed anew since the reading."""
        registry, put = self.site.registry, set()
        for tag in tags:
            if not registry.digest(one.image, tag) and (manifest := registry.manifest(*one)):
                registry.put(one.image, tag, manifest.media_type or "", manifest.data)
                put.add((one.image, tag))
        return put

    def _is_alive(self, image: str, digest: str, alive: set[Manifest]) -> bool:
        if digest.startswith("sha256:"):
            return Manifest(image, digest) in alive
        stored = self.site.source.manifests([one for one in alive if one.image == image])
        return any(name for data in stored.values() for name in other_names(data, {digest[:BEGINNING]}))

    def _bring(self, manifest: Manifest, deleted: Deleted, back: set[Manifest]) -> None:
        """Puts back a manifest that is not there, after what it lists as manifests and its subject."""
        if manifest not in deleted:
            return
        run, media_type = deleted.pop(manifest)
        data = run.manifest(manifest.digest)
        content = parse_manifest(manifest.digest, data, media_type)
        for one in sorted(meant({(manifest.image, digest) for digest in _needs(content)}, deleted)):
            self._bring(one, deleted, back)
        if not self.site.from_store and self.site.registry.digest(*manifest):
            return
        needed = {manifest.digest, *(one.hash for one in content.references if one.kind != "mention")}
        bring_back_parts(self.config, self.site, needed)
        self.site.registry.put(manifest.image, manifest.digest, media_type, data)
        self.record.journal({"event": "brought back", "image": manifest.image, "digest": manifest.digest})
        back.add(manifest)


def _on(registry: Registry, image: str, tag: str) -> set[str]:
    """The digests that a 404 for a tag names: distribution says on which manifest it is that is not there."""
    answer = registry.http.read("GET", registry.http.path(image, "manifests", tag), ACCEPT)
    return digests_in(answer.data) if answer.status == 404 else set()


def _needed(fresh: Inventory, deleted: Deleted) -> set[Manifest]:
    """What tags and indexes of ``fresh`` name, which can't be pulled without it."""
    if not deleted:
        return set()
    tags = fresh.images[fresh.images["tag_hash"].notna()]
    return meant({*pairs(tags, "tag_hash"), *_listed(fresh, deleted)} - _served(fresh), deleted)


def _belonged_to(fresh: Inventory, deleted: Deleted) -> set[Manifest]:
    """What referrers of ``fresh`` name, unless it is promised to be freed: a run that was through had left it to the
    next collection. What is pushed for it then is as good without it, as a registry takes it at any time."""
    left = {run.folder for run, _ in deleted.values() if run.ended_well and not run.began_to_collect}
    deleted = {one: of for one, of in deleted.items() if of[0].folder not in left}
    subjects = fresh.manifests[fresh.manifests["subject_hash"].notna()]
    return meant({*pairs(subjects, "subject_hash")} - _served(fresh), deleted)


def _served(fresh: Inventory) -> set[tuple[str, str]]:
    """The manifests that are served by another digest than that by sha256."""
    return {pair for pair in pairs(fresh.manifests, "manifest_hash") if not pair[1].startswith("sha256:")}


def meant(named: set[tuple[str, str]], deleted: Deleted) -> set[Manifest]:
    """Those of the deleted whose digest is among images and digests, or a digest of whose bytes by another
    algorithm."""
    found = {Manifest(*pair) for pair in named} & deleted.keys()
    others: dict[str, set[str]] = {}
    for image, digest in named:
        if more := sought([digest], (), ()):
            others.setdefault(image, set()).update(more)
    for one, (run, _) in deleted.items() if others else ():
        if beginnings := others.get(one.image):
            with suppress(OSError):
                found |= {one for _ in other_names(run.manifest(one.digest), beginnings)}
    return found


def _deleted(run: PastRun) -> Deleted:
    return {Manifest(image, digest): (run, media_type) for image, digest, media_type in run.manifests}


def _subjects(run: PastRun, digest: str, tags: list[str]) -> set[str]:
    """What a manifest of which a run has the bytes is attached to: by its content, or, as far as that says it, by its
    tag's name."""
    named = {beginning for tag in tags if (beginning := named_by(tag))}
    with suppress(OSError):
        subject = parse_manifest(digest, run.manifest(digest), None).subject_hash
        return {subject} if subject else named
    return named


def _needs(content: Content) -> list[str]:
    listed = [one.hash for one in content.references if one.kind in ("manifest", "unknown")]
    return listed + ([content.subject_hash] if content.subject_hash else [])


def _listed(fresh: Inventory, deleted: Iterable[Manifest]) -> set[tuple[str, str]]:
    """Image and digest of those of the deleted that manifests list as manifests, or may; and whatever those list by
    another algorithm."""
    wanted = pa.array(sorted({digest for _, digest in deleted}), pa.string())
    found = []
    for table in fresh.batches("references"):
        kinds = pc.is_in(table["reference_kind"].cast(pa.string()), pa.array(["manifest", "unknown"]))
        listed = table["reference_hash"].cast(pa.large_string())
        hashes = pc.or_(pc.is_in(listed, wanted.cast(pa.large_string())), pc.invert(pc.starts_with(listed, "sha256:")))
        found.append(table.filter(pc.and_(kinds, hashes)).select(["manifest_hash", "reference_hash"]).to_pandas())
    held = fresh.manifests[["image_name", "manifest_hash"]]
    return {pair for rows in found for pair in pairs(held.merge(rows, on="manifest_hash"), "reference_hash")}
