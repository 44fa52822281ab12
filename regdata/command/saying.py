"""What a run says on the terminal: what would go and stay by image, or one sentence; for scripts JSON and CSV."""

import csv as tables
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat

from regdata.errors import StorageError
from regdata.plain import plain
from regdata.records.reading import PastRun, deletes
from regdata.records.summary import outcome, texts

# The tags of the cells that show what is expected of the condition, and what goes and what stays.
EXPECT, PLAN = "expect", "plan"
NUMBERS = ("age_days", "tag_size")


def say(folder: Path, page: Path | None, *, as_json: bool, csv: str | None, in_vain: bool = False) -> list[str]:
    """Prints what the run in ``folder`` came to, and the path of its page; returns the errors that its record has.

    ``in_vain``: nothing was changed or found out, so that there is nothing to print but JSON. Raises StorageError where
    ``csv`` can't be written.
    """
    run = PastRun(folder)
    rows = folder / "tags.csv"
    if as_json:
        print(json.dumps(run.facts | {"record": str(folder), "tags": _tags(rows)}, indent=2))
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
        shutil.copyfile(rows, csv)
    except OSError as error:
        raise StorageError(f"--csv: {csv} can't be written ({error.strerror}): give another file, or -") from None


def _print(run: PastRun, page: Path | None) -> None:
    shown = [EXPECT, PLAN] if run.facts.get("expectations") else [PLAN]
    listing = "" if deletes(run.facts) or page is None else _listing(page.with_suffix(".ipynb"), shown)
    notes = [f"Note: {note}" for note in texts(run.facts, "notes") if listing and note not in listing]
    sentence = outcome(run).text() if run.facts else ""
    for said in filter(None, (listing, *notes, sentence, f"report  {page}" if page else "")):
        print(plain(said))


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
