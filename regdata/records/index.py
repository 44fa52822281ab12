"""All runs on one page, `reports/index.html`: the newest first, each with its outcome and a link to its report."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from regdata.errors import StorageError
from regdata.records.reading import PastRun, deletes
from regdata.records.record import INTERRUPT, write_file
from regdata.records.runs import all_runs
from regdata.records.summary import moment, number, status, tags_gone, texts
from regdata.show.blocks import Bytes, Cell, Code, Document, Line, Link, Rich, Table
from regdata.show.page import page
from regdata.show.words import count

HEAD = ("run", "condition", "status", "run by", "tags", "predicted", "freed", "said")
PAGE = "index.html"
SAID = 100  # characters of an error


def write_index(reports: Path) -> Path:
    """Writes the page anew and returns its path. StorageError where it can't be written."""
    shown = runs_table(all_runs(reports), linked=True)
    write_file(reports / PAGE, page("Runs", f"<h1>Runs</h1>{shown.html}").encode(errors="replace"))
    return reports / PAGE


def keep_index(reports: Path) -> None:
    """The same for a run that has more to do: a page that can't be written is no reason to stop."""
    with suppress(StorageError, OSError):
        write_index(reports)


def runs_table(runs: Sequence[PastRun], *, linked: bool = False) -> Document:
    """A row for each run (see `all_runs`), the newest first. ``linked``: whether it is shown in a page that lies beside
    the runs' folders."""
    if not runs:
        return Document((Line("", "There is no run yet."),))
    return Document(
        (
            Line("", f"{count(len(runs), 'run')}, the newest first."),
            Table(HEAD, [_row(run, linked) for run in reversed(runs)]),
        )
    )


def _row(run: PastRun, linked: bool) -> Sequence[Cell]:
    facts, what = run.facts, status(run)
    gone = tags_gone(facts) if deletes(facts) else number(facts, "tags_planned")
    errors = [error for error in texts(facts, "errors") if error != INTERRUPT]
    freed = facts.get("bytes_freed")
    page_of = run.folder / "delete.html"
    when = moment(facts.get("started"))
    link = Link(f"{run.folder.name}/{page_of.name if page_of.is_file() else ''}", when)
    if restored := facts.get("restored"):
        what += ", restored" if restored == "wholly" else ", partly restored"
    return (
        Rich((link, f" {run.folder.name}")) if linked else run.folder.name,
        Rich((f"{facts.get('sql_id')}: ", Code(str(facts.get("condition", "")).strip()))),
        what,
        str(facts.get("user", "unknown")),
        f"{gone:,}{'' if deletes(facts) else ' would go'}",
        Bytes(number(facts, "bytes_predicted")),
        Bytes(freed) if isinstance(freed, int) else "",
        textwrap.shorten(errors[0], SAID, placeholder=" …") if errors else "",
    )
