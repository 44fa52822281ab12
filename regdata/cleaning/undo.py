"""Puts back what a run deleted, from the bytes in its record, until a collection has taken the layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from regdata.config import Config, check_flags
from regdata.errors import CleanupError, RegistryError
from regdata.records import record as report
from regdata.sources.manifest import Reference, parse_manifest
from regdata.sources.site import Site

Outcome = tuple[str, str]


class _Key(NamedTuple):
    image: str
    digest: str


class _Tag(NamedTuple):
    image: str
    tag: str
    digest: str


def restore(run: str | Path, config: Config, *, force: bool = False) -> pd.DataFrame:
    """Puts the manifests and tags of the run in folder ``run`` back: children, then indexes, then tags.

    ``run`` is relative to the working folder, to that of conf.json or to its ``reports``; empty, nothing is restored.
    A tag is put back where it is absent; ``force`` also moves a tag that is on another digest by now. Returns
    image_name, reference (digest or tag), outcome and why. The outcome is restored, present (it was there), taken (the
    tag is on another digest), lost (a part of it is gone, or its bytes are not in the record) or failed (the registry
    refused; another try may help). Raises CleanupError when ``run`` is no record of this registry, StorageError while a
    run is at work, RegistryError when the registry fails.
    """
    check_flags(force=force)
    rows: list[tuple[str, str, str, str]] = []
    if run:
        folder = _find(run, config)
        journal = report.events(folder)
        tags = _tags(folder, journal)
        site = Site.open(config)
        site.registry.check()
        with site.lock():
            restorer = _Restorer(folder, site)
            # An index was deleted before its children, what is attached before its subject: now the other way round.
            for key, media_type in reversed(_manifests(journal).items()):
                rows.append((*key, *restorer.manifest(key, media_type)))
            rows += [(tag.image, tag.tag, *restorer.tag(tag, force=force)) for tag in tags]
    return pd.DataFrame(rows, columns=["image_name", "reference", "outcome", "why"])


def verdict(outcome: pd.DataFrame) -> str:
    """What `restore` came to, in a line. Raises CleanupError when something was lost or failed."""
    counts = outcome["outcome"].value_counts(sort=False)
    told = ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing was to be restored"
    bad = outcome[outcome["outcome"].isin(["lost", "failed"])]
    if bad.empty:
        return told
    image, reference, _, why = bad.iloc[0]
    name = f"{image}{'@' if ':' in reference else ':'}{reference}"
    raise CleanupError(f"{len(bad)} of {len(outcome)} could not be restored ({told}), such as {name}: {why}")


def runs(config: Config) -> pd.DataFrame:
    """The runs on this registry that deleted something, the last one first.

    run (the folder, to be given to `restore`), started, sql_id, manifests, tags (how many it was about to delete) and
    collected (whether a collection has begun since, in this run or a later one: what only these images used is lost).
    """
    rows = []
    for path in config.reports.glob("*/record.json"):
        folder, facts = path.parent, _facts(path.parent)
        if facts.get("registry") != config.registry.url:
            continue
        journal = report.events(folder)
        try:
            manifests, tags = _manifests(journal), _tags(folder, journal)
        except CleanupError:
            continue
        name = folder.relative_to(config.path.parent) if folder.is_relative_to(config.path.parent) else folder
        collected = any(event.get("step") == "gc-command" for event in journal)
        rows.append((str(name), facts.get("started"), facts.get("sql_id"), len(manifests), len(tags), collected))
    found = pd.DataFrame(rows, columns=["run", "started", "sql_id", "manifests", "tags", "collected"])
    found = found.sort_values("started", ascending=False)
    found["collected"] = found["collected"].cummax()
    return found[(found["manifests"] > 0) | (found["tags"] > 0)].reset_index(drop=True)


class _Restorer:
    """Puts manifests and tags back; what one of them fails on does not stop the others."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.registry = folder, site.registry
        # The registry's cache may still claim what a collection took.
        self.is_there = site.presence()

    def manifest(self, key: _Key, media_type: str) -> Outcome:
        """Puts a manifest back where all that it refers to is there."""
        return self._tried(lambda: self._manifest(key, media_type))

    def tag(self, tag: _Tag, *, force: bool) -> Outcome:
        """Puts a tag back on its digest."""
        return self._tried(lambda: self._tag(tag, force=force))

    def _tried(self, step: Callable[[], Outcome]) -> Outcome:
        try:
            return step()
        except RegistryError as error:
            self.registry.check()  # without a registry there is no use in going on
            return "failed", str(error)

    def _manifest(self, key: _Key, media_type: str) -> Outcome:
        if self.registry.digest(*key):
            return "present", "it is in the registry"
        path = self.folder / "manifests" / key.digest.replace(":", "-")
        try:
            data = path.read_bytes()
        except OSError as error:
            return "lost", f"{path}: {error.strerror}"
        content = parse_manifest(key.digest, data, media_type)
        if content.error:
            return "lost", f"{path} is damaged: {content.error}"
        for reference in content.references:
            if reference.kind != "mention" and not self._has(key.image, reference):
                return "lost", f"its {reference.kind} {reference.hash} is gone"
        self.registry.put(*key, media_type, data)
        if self._reads_back(key):
            return "restored", "manifest put back"
        self.registry.delete(*key)  # half of it would make the whole repository unreadable
        return "failed", "the registry's cache claims what a collection took: restart the registry and restore again"

    def _has(self, image: str, reference: Reference) -> bool:
        if reference.kind == "manifest":
            return self.registry.digest(image, reference.hash) is not None
        if any(word in (reference.media_type or "") for word in ("foreign", "nondistributable")):
            return True  # fetched from elsewhere
        return self.is_there(image, reference.hash)

    def _reads_back(self, key: _Key) -> bool:
        try:
            return self.registry.manifest(*key) is not None
        except RegistryError:
            return False

    def _tag(self, tag: _Tag, *, force: bool) -> Outcome:
        now = self.registry.digest(tag.image, tag.tag)
        if now == tag.digest:
            return "present", "the tag is on its digest"
        if now and not force:
            return "taken", f"the tag is on {now} by now; give force to move it back"
        manifest = self.registry.manifest(tag.image, tag.digest)
        if manifest is None or manifest.media_type is None:
            return "lost", f"its manifest {tag.digest} is gone"
        self.registry.put(tag.image, tag.tag, manifest.media_type, manifest.data)
        return "restored", f"tag put back on {tag.digest}"


def _find(run: str | Path, config: Config) -> Path:
    """The run's folder. Raises CleanupError when it is none, or one of another registry."""
    folders = [Path(run), config.path.parent / run, config.reports / run]
    folder = next((folder for folder in folders if (folder / "record.json").is_file()), Path(run))
    registry = _facts(folder).get("registry")
    if registry is None:
        raise CleanupError(
            f"{folder} is not the record of a run: give a folder of {config.reports} that holds record.json, "
            "journal.jsonl and manifests/"
        )
    if registry != config.registry.url:
        raise CleanupError(
            f"{folder} is the record of a run on {registry}, but {config.path} is about {config.registry.url}: "
            "give the conf.json of that registry"
        )
    return folder


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "record.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _manifests(journal: list[dict[str, Any]]) -> dict[_Key, str]:
    """The media types of the manifests that the run deleted or, killed before it could say so, was about to delete."""
    return {
        _Key(event["image"], event["digest"]): event["media_type"]
        for event in journal
        if event.get("event") == "deleting"
    }


def _tags(folder: Path, journal: list[dict[str, Any]]) -> list[_Tag]:
    """The tags that went with those manifests, and those that the run removed alone."""
    manifests = _manifests(journal)
    tags = [_Tag(*row) for row in _planned_tags(folder) if (row[0], row[2]) in manifests] if manifests else []
    alone = [
        _Tag(event["image"], event["tag"], event["digest"]) for event in journal if event.get("event") == "untagging"
    ]
    return tags + alone


def _planned_tags(folder: Path) -> Iterator[tuple[str, str, str]]:
    try:
        plan = pd.read_parquet(folder / "plan.parquet").query("action == 'delete' and tag_name.notna()")
    except (OSError, ValueError) as error:
        raise CleanupError(
            f"{folder / 'plan.parquet'} can't be read ({error}): it says which tags the run deleted"
        ) from None
    rows: Iterator[tuple[str, str, str]] = plan[["image_name", "tag_name", "tag_hash"]].itertuples(
        index=False, name=None
    )
    return rows
