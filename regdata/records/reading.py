"""Reads what runs left behind: the one reader of records.

A record may be of an older regdata, cut short by a crash, or edited: what is not as it was written is told by an error
of one line, or is as good as not written, but nothing is made of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from regdata.config import Config
from regdata.errors import CleanupError
from regdata.sources.manifest import is_digest
from regdata.sources.names import is_repository, is_tag
from regdata.values import identity

PLAN = ("image_name", "tag_name", "tag_hash", "action", "reason")
# Bytes of a record.json at most: what it holds of a command's output is shortened.
_MOST = 64 << 20
# Whether a manifest (by its digest) or a tag, that was on a digest, is gone from a repository by now.
IsGone = Callable[[str, str, str], bool]


class DeletedManifest(NamedTuple):
    """A manifest that a run deleted or, killed before it could say so, was about to delete."""

    image: str
    digest: str
    media_type: str


class DeletedTag(NamedTuple):
    """A tag that went with its manifest, or was removed alone; ``digest`` is what it was on."""

    image: str
    tag: str
    digest: str


class PastRun:
    """The run whose record is in a folder; ``facts`` is record.json, empty where that can't be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = read_facts(folder)

    @property
    def registry(self) -> object:
        """The URL that it was about; None where that can't be read."""
        return self.facts.get("registry")

    def is_on(self, config: Config) -> bool:
        """Whether it was about the registry of ``config``; older records have its URL alone."""
        known = self.facts.get("registry_id")
        if isinstance(known, str):
            return known == config.registry_id
        try:
            return isinstance(self.registry, str) and identity(self.registry) == identity(config.registry.url)
        except ValueError:
            return False

    @property
    def started(self) -> str:
        """When, in UTC as ISO 8601 writes it; empty where the record does not say."""
        return str(self.facts.get("started") or "")

    @property
    def ended(self) -> str:
        """The same of its end, or of the last that is known of it; later than all where it is at work."""
        return str(self.facts.get("finished") or self.facts.get("last_event") or "~")

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Its journal, or what is of these kinds in it; see `read_events`."""
        return read_events(self.folder, *kinds)

    def said(self, key: str) -> str | None:
        """A text of record.json; None where there is none."""
        value = self.facts.get(key)
        return value if isinstance(value, str) else None

    @property
    def ended_well(self) -> bool:
        """Whether it, or a later run in its place, did what was to be done."""
        return self.facts.get("status") == "ok" or "finished_by" in self.facts

    @property
    def is_recovered(self) -> bool:
        """Whether a later run has seen to what its commands left."""
        return "recovered_by" in self.facts

    @cached_property
    def began_to_change(self) -> bool:
        """Whether it began to delete or to collect."""
        return self.began_to_delete or any(self.events("running", "unlinking"))

    @cached_property
    def began_to_delete(self) -> bool:
        """Whether it began to delete or to untag."""
        return any(self.events("taking", "deleting", "untagging"))

    @property
    def was_in_vain(self) -> bool:
        """Whether it neither changed anything nor, if it only lists, came to a plan."""
        return not self.began_to_change and (deletes(self.facts) or "tags_planned" not in self.facts)

    @cached_property
    def began_to_collect(self) -> bool:
        """Whether something may have been collected."""
        return self._began_command or any(self.events("unlinking"))

    @cached_property
    def _began_command(self) -> bool:
        return any(event.get("step") == "gc-command" for event in self.events("running", "ran"))

    @cached_property
    def may_have_freed(self) -> bool:
        """Whether something may have been collected for good, or set aside for some days: what had not been decided
        upon is put back, and all of it where the registry came back from gc-after as it was."""
        decided = False
        for event in self.events("deciding", "put back"):
            decided = event["event"] == "deciding" and (decided or event.get("count") != 0)
        return decided or self._began_command

    @property
    def is_at_command(self) -> bool:
        """Whether one of conf.json's commands is running, or was when it was killed."""
        steps = [event["event"] for event in self.events("running", "ran")]
        return steps[-1:] == ["running"]

    @property
    def blobs(self) -> list[tuple[str, str]]:
        """Image and digest of blobs that were to be collected; some of them."""
        found = (event.get("blobs") for event in self.events("collecting"))
        pairs = [pair for pairs in found if isinstance(pairs, list) for pair in pairs if _texts(pair, 2)]
        return [(name, digest) for name, digest, *_ in pairs if is_repository(name) and is_digest(digest)]

    @property
    def probes(self) -> dict[str, list[str]]:
        """Digests of what it was about to store, to try the registry out, with the images to do so in."""
        found: dict[str, list[str]] = {}
        for image, digest in ((event.get("image"), event.get("digest")) for event in self.events("probing")):
            if is_repository(image) and is_digest(digest):
                found.setdefault(str(digest), []).append(str(image))
        return found

    @cached_property
    def manifests(self) -> list[DeletedManifest]:
        """What it deleted, in that order. Raises CleanupError where the journal is damaged."""
        rows = (self._said(event, "image", "digest", "media_type") for event in self.events("deleting"))
        found = [DeletedManifest(*row) for row in rows]
        for image, digest, _ in found:
            if not (is_repository(image) and is_digest(digest)):
                raise self._damaged(f"{image!r}@{digest!r} is no manifest of a repository")
        return list({(one.image, one.digest): one for one in found}.values())

    @cached_property
    def media_types(self) -> dict[str, str]:
        """That of each of `manifests`, by digest."""
        return {one.digest: one.media_type for one in reversed(self.manifests)}

    @property
    def tags(self) -> list[DeletedTag]:
        """What it deleted and untagged. Raises CleanupError where the plan or the journal is damaged."""
        gone = {(one.image, one.digest) for one in self.manifests}
        with_manifest = [DeletedTag(*row) for row in self._deleted_tags() if (row[0], row[2]) in gone] if gone else []
        events = (event for kind in ("untagging", "taking") for event in self.events(kind))
        alone = [DeletedTag(*self._said(event, "image", "tag", "digest")) for event in events]
        done = {(event["image"], event["tag"]) for kind in ("untagged", "taken") for event in self._marked(kind, "tag")}
        stayed = {(event["image"], event["name"]) for event in self._marked("moved", "name")} - done
        return [one for one in dict.fromkeys(with_manifest + alone) if one[:2] not in stayed]

    @cached_property
    def pushed(self) -> dict[tuple[str, str], int]:
        """When what it deleted was pushed (UTC epoch seconds), by image and tag or digest; 0: the date was not to be
        believed. Empty where it says nothing: over the API, as older ones, or if it can't be read."""
        with suppress(OSError, ValueError):
            rows = self._columns("image_name", "tag_name", "tag_hash", "pushed")
            named = [(image, tag or digest, _date(pushed)) for image, tag, digest, pushed in rows]
            return {(image, reference): date for image, reference, date in named if _texts((image, reference), 2)}
        return {}

    @property
    def followers(self) -> dict[tuple[str, str], list[str]]:
        """Image and digest of what it deleted, or untagged, and that is attached to another manifest; with the tags
        that went."""
        went, gone = {(one.image, one.tag) for one in self.tags}, {(one.image, one.digest) for one in self.manifests}
        beginnings = [event for event in self.events("beginning") if isinstance(event.get("attached"), list)]
        listed = [(event.get("image"), digest) for event in beginnings for digest in event["attached"]]
        attached = {pair for pair in listed if _texts(pair, 2)}
        found: dict[tuple[str, str], list[str]] = {}
        for image, tag, digest, _, reason in self._readable_plan():
            if reason != "referrer" and (image, digest) not in attached:
                continue
            if (image, digest) in gone if tag is None else (image, tag) in went:
                found.setdefault((image, digest), []).extend([tag] if tag else [])
        return found

    @property
    def going(self) -> list[tuple[str, str, int]]:
        """The manifests of images with which it had begun, that were to go: image, digest, and when they were read (UTC
        epoch seconds). None is said to have been read later than now."""
        now, moved = time.time(), {(event.get("image"), event.get("name")) for event in self._marked("moved", "name")}
        found: dict[tuple[str, str], int] = {}
        for event in self.events("beginning"):
            image, scanned, digests = event.get("image"), event.get("scanned"), event.get("digests")
            if is_repository(image) and type(scanned) is int and 0 < scanned <= now and isinstance(digests, list):
                found.update({(str(image), digest): scanned for digest in digests if is_digest(digest)})
        return [(*pair, scanned) for pair, scanned in found.items() if pair not in moved]

    def counts(self, is_gone: IsGone) -> dict[str, int]:
        """What it did, by its journal, as record.json counts it. What it was doing when it ended is looked at."""
        deleted = self._done("deleting", "deleted", "digest", is_gone) - {
            (event["image"], event["digest"]) for event in self._marked("brought back", "digest")
        }
        rows = self._readable_plan()
        selected = [row for row in rows if row[1] is not None and row[3] == "delete"]
        tags = {(image, tag) for image, tag, digest, *_ in selected if (image, digest) in deleted}
        alone = self._done("taking", "taken", "tag", is_gone) | self._done("untagging", "untagged", "tag", is_gone)
        orphans = {(image, digest) for image, tag, digest, _, reason in rows if tag is None and reason == "orphan"}
        return {
            "tags_deleted": len(tags),
            "tags_untagged": len(alone - tags),
            "manifests_deleted": len(deleted),
            "orphans_deleted": len(orphans & deleted),
        }

    def _done(self, before: str, after: str, key: str, is_gone: IsGone) -> set[tuple[str, str]]:
        done = {(event["image"], event[key]) for event in self._marked(after, key)}
        begun = {(event["image"], event[key]): event.get("digest") for event in self._marked(before, key)}
        is_name = is_digest if key == "digest" else is_tag
        return done | {
            pair
            for pair, digest in begun.items()
            if pair not in done and is_repository(pair[0]) and is_name(pair[1]) and is_gone(*pair, str(digest))
        }

    def _marked(self, kind: str, key: str) -> Iterator[dict[str, Any]]:
        """The events of a kind that name an image and something of it."""
        return (event for event in self.events(kind) if _texts([event.get("image"), event.get(key)], 2))

    def _readable_plan(self) -> list[tuple[Any, Any, Any, Any, Any]]:
        try:
            rows = self._plan()
        except (OSError, ValueError):
            return []
        return [row for row in rows if all(value is None or isinstance(value, str) for value in row)]

    def manifest(self, digest: str) -> bytes:
        """The bytes of a manifest that it deleted; OSError where they are not there."""
        return self.manifest_path(digest).read_bytes()

    def manifest_path(self, digest: str) -> Path:
        """The file with these bytes."""
        return self.folder / "manifests" / digest.replace(":", "-")

    def _said(self, event: dict[str, Any], *keys: str) -> tuple[str, ...]:
        values = tuple(event.get(key) for key in keys)
        if not _texts(values, len(keys)):
            raise self._damaged(f"a line of {event['event']!r} without {', '.join(keys)}")
        return tuple(map(str, values))

    def _damaged(self, why: str) -> CleanupError:
        return CleanupError(f"{self.folder / 'journal.jsonl'} is damaged: {why}. Nothing was restored")

    def _deleted_tags(self) -> list[tuple[str, str, str]]:
        try:
            rows = self._plan()
        except (OSError, ValueError) as error:
            said = " ".join(str(error).splitlines()[:1])
            raise CleanupError(
                f"{self.folder / 'plan.parquet'} can't be read ({said}): it says which tags the run deleted"
            ) from None
        return [row[:3] for row in rows if isinstance(row[3], str) and row[3] == "delete" and _texts(row, 3)]

    def _plan(self) -> list[tuple[Any, Any, Any, Any, Any]]:
        return self._columns(*PLAN)

    def _columns(self, *names: str) -> list[tuple[Any, ...]]:
        """Of its plan. OSError or ValueError where they are not to be had."""
        import pyarrow as pa  # clear.py loads this module, and reads no plan
        import pyarrow.parquet as pq

        try:
            columns = pq.read_table(self.folder / "plan.parquet", columns=list(names)).to_pydict()
        except pa.ArrowException as error:
            raise ValueError(str(error)) from None
        if missing := {*names} - columns.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        return list(zip(*(columns[name] for name in names), strict=True))


def _date(said: object) -> int:
    return said if type(said) is int and 0 < said <= time.time() else 0


def deletes(facts: dict[str, Any]) -> bool:
    """Whether a run was to change the registry."""
    return facts.get("action") == "del" and facts.get("sql_id") != "none"


def read_facts(folder: Path) -> dict[str, Any]:
    """record.json; empty where it can't be read."""
    try:
        facts = _loads(_bytes(folder / "record.json", _MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_events(folder: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """journal.jsonl, line by line, for it may be long; of some ``kinds`` of events alone, if given. What can't be
    read, such as a line cut short by a crash, is left out."""
    marks = [f'"{kind}"'.encode() for kind in kinds]
    for line in _lines(folder / "journal.jsonl"):
        if marks and not any(mark in line for mark in marks):
            continue
        try:
            event = _loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and (not kinds or event.get("event") in kinds):
            yield event


def _lines(path: Path) -> Iterator[bytes]:
    """Those of a file, as far as they can be read; none of what would be read for ever."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as lines:
                yield from lines


def _loads(data: bytes) -> Any:
    """The JSON document; halves of characters, which JSON can name and no table can hold, are replaced."""
    document = json.loads(data)
    return _whole(document) if b"\\ud" in data.lower() or b"\xed" in data else document


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {_whole(key): _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _bytes(path: Path, most: int) -> bytes:
    """What is in a file; OSError where there is none, or what would be read for ever."""
    if not path.is_file() or path.stat().st_size > most:
        raise OSError(f"{path} is no file of a record")
    return path.read_bytes()


def _texts(values: object, number: int) -> bool:
    """Whether the first of some values are texts."""
    return (
        isinstance(values, list | tuple)
        and len(values) >= number
        and all(isinstance(value, str) for value in values[:number])
    )
