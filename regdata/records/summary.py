"""A run's record -> what is read first: its outcome in a sentence, and the box with which its report opens."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regdata.records.reading import PastRun, deletes
from regdata.records.record import INTERRUPT, lives
from regdata.show.blocks import Box, Cell, Code, Document, Line, Link, Rich, Table
from regdata.show.words import count, size

_LAST = 253402300799  # the last second that a date can say
BELOW = "the cell that failed says what is wrong"
HASHED = ("plan.parquet", "journal.jsonl", "tags.csv")
FILES = ("record.json", *HASHED, "manifests", "delete.ipynb")


def status(run: PastRun) -> str:
    """ok, listed (nothing was to be changed), refused (nothing was deleted), failed, interrupted, killed or running."""
    said = str(run.facts.get("status"))
    if said == "running" and not lives(run.folder):
        return "killed"
    if said == "ok" and not deletes(run.facts):
        return "listed"
    if said == "failed" and INTERRUPT in texts(run.facts, "errors"):  # a record of an older regdata
        return "interrupted"
    return "refused" if said == "failed" and deletes(run.facts) and not run.began_to_change else said


def outcome(run: PastRun) -> Line:
    """What a run came to, in a sentence."""
    facts, what = run.facts, status(run)
    if what == "ok":
        return _done(facts)
    if what == "listed":
        return Line("Nothing was changed", f": {planned(facts)}.", "note")
    if what == "running":
        return Line("The run is under way", ".", "note")
    deleted = _deleted(run)
    if what == "killed":
        by = run.facts.get("finished_by")
        then = f"{by} finished its work" if by else "the next run finishes what was begun"
        return Line("✗ The run was killed", f": {deleted}; {then}.", "bad")
    if what == "interrupted":
        return Line("✗ The run was interrupted", f": {deleted}.", "bad")
    if what == "refused":
        return Line("✗ Refused", ": nothing was deleted.", "bad")
    return Line("✗ It did not go as planned", f": {deleted}.", "bad")


def planned(facts: dict[str, Any]) -> str:
    """What a run that only lists says: what would go, and what would stay."""
    if "tags_planned" not in facts:
        return "the registry was not read to the end"
    would = counted(number(facts, "tags_planned"), number(facts, "manifests_planned"))
    most = "" if facts.get("from_store") else "at most "
    kept, freed = number(facts, "tags_kept"), f"{most}{size(number(facts, 'bytes_predicted'))}"
    if facts.get("sees_all") is False:
        freed = "an unknown number of bytes"
    stay, aside = f"{would} would go, {count(kept, 'selected tag')} would stay", number(facts, "bytes_to_set_aside")
    if aside and not facts.get("bytes_predicted"):
        return f"{stay}, {size(aside)} would be set aside (trash_days), and freed when the days are over"
    return f"{stay}, {freed} would be freed{f', {size(aside)} set aside' if aside else ''}"


def _done(facts: dict[str, Any]) -> Line:
    freed, expected = facts.get("bytes_freed"), number(facts, "bytes_expected")
    gone = f": {counted(tags_gone(facts), number(facts, 'manifests_deleted'))} are gone"
    if aside := number(facts, "bytes_set_aside"):
        gone += f"; {aside:,} bytes are set aside (trash_days)"
    if not facts.get("gc", True):
        return Line("✓ Deleted as planned", f"{gone}; no collection was run, the next one frees the bytes.", "good")
    if not isinstance(freed, int):
        rest = (
            "; how many bytes were freed can't be seen" if facts.get("collected") else "; nothing was to be collected"
        )
        return Line("✓ Done", f"{gone}{rest}.", "good")
    if freed == facts.get("bytes_predicted"):
        if aside and not freed:  # and nothing of earlier runs was due
            return Line("✓ As planned", f"{gone}, and freed when the days are over.", "good")
        return Line("✓ As planned", f"{gone}; {freed:,} bytes were predicted, and as many were freed.", "good")
    if freed == expected:
        if freed > (predicted := number(facts, "bytes_predicted")):
            more = f"{predicted:,} bytes were predicted, and {freed:,} freed, since something changed meanwhile."
            return Line("✓ Done", f"{gone}; {more}", "good")
        moved = (
            f"{gone}, less than planned, since something changed; {freed:,} bytes were expected of these, and freed."
        )
        return Line("✓ Done", moved, "good")
    return Line("✓ Done", f"{gone}; {freed:,} bytes were freed, {expected:,} expected: the notes say why.", "good")


def _deleted(run: PastRun) -> str:
    """How far a run got that did not end well."""
    tags, manifests = tags_gone(run.facts), number(run.facts, "manifests_deleted")
    if not run.began_to_change:
        return "nothing was deleted"
    collected = "a collection had begun" if run.began_to_collect else "nothing was collected"
    if not (tags or manifests):
        return f"it had begun to delete; {collected}"
    return f"{counted(tags, manifests)} were deleted, {collected}"


def number(facts: dict[str, Any], name: str) -> int:
    """A count of a record; 0 where it has none, for it may be old or damaged."""
    found = facts.get(name)
    return found if isinstance(found, int) else 0


def tags_gone(facts: dict[str, Any]) -> int:
    """How many tags a run removed, with their manifests or alone."""
    return number(facts, "tags_deleted") + number(facts, "tags_untagged")


def texts(facts: dict[str, Any], name: str) -> list[str]:
    """What a record lists; empty where that is no list."""
    found = facts.get(name)
    return [str(one) for one in found] if isinstance(found, list) else []


def counted(tags: int, manifests: int) -> str:
    """So many of both, in words."""
    return f"{count(tags, 'tag')} and {count(manifests, 'manifest')}"


def box(folder: Path, *, linked: bool = False, problem: str | None = None, raised: bool = False) -> Document:
    """What the report opens with. ``linked``: whether it is shown in a page that lies in the record's folder;
    ``problem``: what went wrong with a run that could not write it down; ``raised``: whether a cell below says it."""
    run = PastRun(folder)
    told = [error for error in texts(run.facts, "errors") if error != INTERRUPT]
    told = told or ([problem] if problem and not run.facts else [])
    errors = [Line("Error: ", error, "bad") for error in ([BELOW] if told and raised else told)]
    notes = [Line("Note: ", note, "note") for note in texts(run.facts, "notes")]
    rows: list[Sequence[Cell]] = [*_who(run.facts), *_what(run.facts), *_after(run), *_files(folder, linked=linked)]
    return Document((Box((outcome(run), *errors, Table((), rows), *notes)),))


def not_begun() -> Document:
    """What stands there instead where a run ended before it had a record; the cell's own error says why."""
    return Document((Box((Line("✗ The run was not begun", ": nothing was deleted.", "bad"),)),))


def _who(facts: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    kind = f", {facts['registry_kind']}" if facts.get("registry_kind") else ""
    yield "registry", f"{facts.get('registry', 'unknown')}{kind}"
    can = facts.get("registry_can")
    yield from ((str(what), str(said)) for what, said in (can.items() if isinstance(can, dict) else ()))
    asked = f", asked the registry as {facts['registry_user']}" if facts.get("registry_user") else ""
    yield "run by", f"{facts.get('user', 'unknown')}{asked}"
    yield "from, to", f"{moment(facts.get('started'))} to {moment(facts.get('finished'))} UTC"
    yield "with", str(facts.get("software", "unknown"))


def _what(facts: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    does = "deletes and collects" if facts.get("gc", True) else "deletes, does not collect"
    forced = ", beyond the limits (force)" if facts.get("force") else ""
    yield "action", f"{facts.get('action')} ({does + forced if deletes(facts) else 'changes nothing'})"
    yield "condition", Rich((f"{facts.get('sql_id')}: ", Code(str(facts.get("condition", "unknown")).strip())))
    yield "protect", Rich((Code(str(facts["protect"])),)) if facts.get("protect") else "nothing"
    dates = "" if "from_store" not in facts else f", ages by {'push' if facts['from_store'] else 'build'} date"
    yield "engine", f"{facts.get('engine', 'unknown')}{dates}"
    if facts.get("gc", True):
        yield "collected by", str(facts.get("collected_by"))
    yield "conf", Rich((f"{facts.get('conf')} ", Code(str(facts.get("conf_digest")))))
    if since := number(facts, "pulls_since"):
        yield "pulls_since", f"{moment(datetime.fromtimestamp(max(0, min(since, _LAST)), UTC))} UTC"
    if facts.get("tags_in_use") is not None:
        yield "in use", count(number(facts, "tags_in_use"), "tag")


def _after(run: PastRun) -> Iterator[tuple[str, Cell]]:
    facts = run.facts
    if "tags_total" in facts:
        tags, stored = number(facts, "tags_total"), facts.get("bytes_stored")
        if status(run) == "listed":
            yield "tags", f"{tags:,}; {number(facts, 'tags_planned'):,} would go"
            yield "bytes", f"{_exact(stored)}; {_exact(facts.get('bytes_predicted'))} would be freed"
        else:
            after = facts.get("bytes_stored_after") if run.began_to_collect else stored
            yield "tags", f"{tags:,} before, {tags - tags_gone(facts):,} after"
            yield "bytes", f"{_exact(stored)} before, {_exact(after)} after"
    if facts.get("bytes_in_trash"):
        yield "set aside", f"{_exact(facts['bytes_in_trash'])}, freed when trash_days are over (or by empty_trash)"
    if deletes(facts):
        yield "verified", _verified(facts)
        yield "undo", _undo(run)


def _exact(bytes_: object) -> str:
    """Bytes, rounded and to the byte."""
    if not isinstance(bytes_, int):
        return "not known"
    return size(bytes_) if bytes_ < 1000 else f"{size(bytes_)} ({bytes_:,})"


def _verified(facts: dict[str, Any]) -> str:
    found = facts.get("verified")
    found = found if isinstance(found, dict) else {}
    sought = [f"{number(found, name):,} {name}" for name in ("tags", "manifests", "blobs") if found.get(name)]
    there = f"{', '.join(sought)} that stay were looked for" if sought else ""
    gone = f"{number(found, 'gone'):,} tags and manifests that went were looked for" if found.get("gone") else ""
    said = "; ".join(filter(None, (there, gone)))
    ending = ", and all is as it should be" if facts.get("status") == "ok" else ": see the errors"
    return said + ending if said else "nothing: the run did not get so far"


def _undo(run: PastRun) -> Cell:
    if not run.began_to_change:
        return "nothing is to be undone"
    command = shlex.join(["regdata", "restore", str(run.folder.absolute()), "--conf", str(run.facts.get("conf"))])
    if run.may_have_freed and (run.facts.get("bytes_set_aside") or run.facts.get("trash_days")):
        return Rich((Code(command), " puts all of it back while what was collected is set aside (trash_days)"))
    if not run.may_have_freed or (run.facts.get("status") == "ok" and run.facts.get("bytes_freed") == 0):
        return Rich((Code(command), " puts all of it back, until a collection runs"))
    keeps = "trash_days in conf.json" if run.facts.get("collected_by") == "regdata itself" else "--no-gc"
    gone = f"what was collected is gone for good; {keeps} would have kept it. "
    return Rich((f"can't be undone: {gone}", Code(command), " puts back what is still stored"))


def _files(folder: Path, *, linked: bool) -> Iterator[tuple[str, Cell]]:
    digests = [f"{_sha256(folder / name)}  {name}" for name in HASHED if (folder / name).is_file()]
    yield "SHA-256", Rich((Code("\n".join(digests)),)) if digests else "nothing was written"
    there = [Link(name) if linked else name for name in FILES if (folder / name).exists()]
    spaced = [part for name in there for part in (name, "  ")]
    yield "record", Rich((str(folder.absolute()), "\n", *spaced[:-1]))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"can't be read ({error.strerror})"


def moment(said: object) -> str:
    """A time of a record, as "2026-11-25 18:44:25"; "…" for what is none."""
    try:
        return f"{datetime.fromisoformat(str(said)):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return "…"
