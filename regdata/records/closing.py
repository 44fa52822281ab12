"""Closes the records of runs that were killed: what they had done by then, and a page that says so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from regdata.config import Config
from regdata.errors import StorageError
from regdata.records.index import keep_index
from regdata.records.reading import IsGone, PastRun, read_facts
from regdata.records.record import COUNTS, Record, lives
from regdata.records.runs import past_runs
from regdata.records.summary import box
from regdata.show.page import page
from regdata.show.words import count

KILLED = "killed"
PAGE = "delete.html"


def close_killed(config: Config, *, besides: Path) -> list[PastRun]:
    """Closes the records on this registry that say `running`, though nobody writes them any more."""
    found = [run for run in past_runs(config) if run.facts.get("status") == "running" and run.folder != besides]
    return [close(run) for run in found if not lives(run.folder)]


def close(run: PastRun, is_gone: IsGone | None = None) -> PastRun:
    """The run, its record closed as that of a killed one. Raises StorageError where it can't be written.

    What it was doing when it ended counts as done if ``is_gone`` says so; not if nobody can tell.
    """
    counts = run.counts(is_gone or _unknown)
    last: dict[str, Any] = {}
    for event in run.events():
        last = event if isinstance(event.get("time"), str) else last
    said = f"the run was killed; its journal ends {last.get('time', 'without a word')} ({last.get('event', 'nothing')})"
    _rewrite(run, {"status": KILLED, "last_event": last.get("time"), "errors": [said]} | counts)
    return PastRun(run.folder)


def settle(run: PastRun, *, by: Path, wholly: bool = True) -> None:
    """Says in the record of a run that did not end well which run has finished its work, or seen to what its commands
    left and can't finish the rest."""
    _rewrite(run, {"finished_by" if wholly else "recovered_by": by.name})


def say_restored(run: PastRun, *, wholly: bool) -> None:
    """Says in the record of a run that what it deleted was put back: all of it, or some; if it can be written."""
    with suppress(StorageError):
        _rewrite(run, {"restored": "wholly" if wholly else "partly"})


def told(run: PastRun) -> str:
    """A run that did not end well, and what it had done, in a line."""
    counts = {key: number for key in COUNTS if isinstance(number := run.facts.get(key), int)}
    tags = counts.get("tags_deleted", 0) + counts.get("tags_untagged", 0)
    ended = {KILLED: "was killed", "interrupted": "was interrupted"}.get(str(run.facts.get("status")), "failed")
    return (
        f"{run.folder.name} {ended} after it had deleted {count(tags, 'tag')} and "
        f"{count(counts.get('manifests_deleted', 0), 'manifest')}"
    )


def _unknown(image: str, reference: str, digest: str) -> bool:
    return False


def _rewrite(run: PastRun, facts: dict[str, Any]) -> None:
    record = Record(run.folder)
    record.facts = read_facts(run.folder) or dict(run.facts)  # of many runs not all is held: see `all_runs`
    record.write(**facts)
    if record.facts.get("status") == KILLED:
        title = f"delete {run.folder.name}"
        record.save_page(PAGE, page(title, f"<h1>Clean-up</h1>{box(run.folder, linked=True).html}"))
    keep_index(run.folder.parent)
