"""What a run says on the terminal: what would go and stay by image, or one sentence; for scripts JSON and CSV."""

import csv as tables
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from regdata.errors import StorageError
from regdata.plain import plain
from regdata.records.reading import PastRun, deletes
from regdata.records.summary import outcome, status, texts
from regdata.show.blocks import Block, Cell, Document, Line, Table
from regdata.show.words import count, size

# The tags of the cells that show what is expected of the condition, and what goes and what stays.
EXPECT, PLAN = "expect", "plan"
NUMBERS = ("age_days", "tag_size")
TAGS = 20
UNTAGGED = "the tag alone, its digest stays: "


def say(folder: Path, page: Path | None, *, as_json: bool, csv: str | None, in_vain: bool = False) -> list[str]:
    """Prints what the run in ``folder`` came to, and the path of its page; returns the errors that its record has.

    ``in_vain``: nothing was changed or found out, so that there is nothing to print but JSON. Raises StorageError where
    ``csv`` can't be written.
    """
    run = PastRun(folder)
    rows = folder / "tags.csv"
    if as_json:
        print(json.dumps(run.facts | {"status": status(run), "record": str(folder), "tags": _tags(rows)}, indent=2))
    elif csv != "-" and not in_vain:
        _print(run, page)
    if csv and rows.is_file():  # a run that failed may not have got so far
        if csv == "-":
            print(rows.read_text("utf-8"), end="")
        else:
            _copy(rows, csv)
    return [" ".join(error.split()) for error in texts(run.facts, "errors")]


def _copy(rows: Path, csv: str) -> None:
    try:
        Path(csv).write_bytes(rows.read_bytes())  # a pipe, too
    except OSError as error:
        raise StorageError(f"--csv: {csv} can't be written ({error.strerror}): give another file, or -") from None


def _print(run: PastRun, page: Path | None) -> None:
    shown = [EXPECT, PLAN] if run.facts.get("expectations") else [PLAN]
    listing = "" if deletes(run.facts) or page is None else _listing(page.with_suffix(".ipynb"), shown)
    notes = [f"Note: {note}" for note in texts(run.facts, "notes") if listing and note not in listing]
    sentence = outcome(run).text() if run.facts else ""
    tags = _tags_told(run.folder / "tags.csv") if listing else ""
    for said in filter(None, (listing, tags, *notes, sentence, f"report  {page}" if page else "")):
        print(plain(said))


def _tags_told(rows: Path) -> str:
    """The youngest tags that would go, where a wrong condition shows first; and those selected that would stay."""
    tags = sorted(_tags(rows), key=lambda row: (row["age_days"] is not None, row["age_days"] or 0))
    going, staying = ([row for row in tags if (row["action"] == "keep") == keep] for keep in (False, True))
    blocks: list[Block] = []
    for said, some in (("would go, the youngest first", going), ("would stay, although selected", staying)):
        if some:
            more = f"; {len(some) - TAGS:,} more are in tags.csv" if len(some) > TAGS else ""
            blocks += [Line("", f"{count(len(some), 'tag')} {said}{more}:"), Table((), list(map(_row, some[:TAGS])))]
    return Document(tuple(blocks)).text + "\n" if blocks else ""


def _row(row: dict[str, Any]) -> Sequence[Cell]:
    known = row["age_days"] is not None
    age = f"{row['age_days']:,.1f} days" if known else "age not known"
    bytes_ = size(row["tag_size"]) if row["tag_size"] is not None else "size not known"
    why = row["why"] if row["action"] == "keep" else row["reason"]
    return f"{row['image_name']}:{row['tag_name']}", age, bytes_, f"{UNTAGGED if row['action'] == 'untag' else ''}{why}"


def _listing(notebook: Path, shown: list[str]) -> str:
    """What the notebook's cells with these tags say as text; nothing where the run did not get so far."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    except Exception:  # whatever is wrong with it, the page has said so
        return ""
    outputs = [cell.get("outputs") for cell in cells if {*shown} & {*cell.metadata.get("tags", [])}]
    said = [last[-1].get("data", {}).get("text/plain") for last in outputs if last]
    return "".join(f"{text}\n\n" for text in said if text).removesuffix("\n")


def _tags(rows: Path) -> list[dict[str, Any]]:
    """The rows of tags.csv, their numbers as such; null where one is not known."""
    if not rows.is_file():
        return []
    with rows.open(encoding="utf-8", newline="") as file:
        return [
            {name: json.loads(said or "null") if name in NUMBERS else said for name, said in row.items()}
            for row in tables.DictReader(file)
        ]
