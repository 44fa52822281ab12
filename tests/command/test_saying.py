"""What a run says on the terminal, and to scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook, new_output

from regdata.command.saying import say
from regdata.errors import StorageError

FACTS = {"status": "ok", "action": "none", "sql_id": "old", "tags_planned": 2, "errors": ["a blob\nis left"]}
TAGS = (
    "image_name,tag_name,age_days,tag_size,action,reason,why\na/app,1,9.5,1200,delete,selected,it is selected\n"
    "a/app,3,2.0,,untag,shared-digest,b has it\na/app,2,,0,keep,protected,it matches protect\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "record.json").write_text(json.dumps(FACTS))
    (tmp_path / "tags.csv").write_text(TAGS)
    return tmp_path


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is one document: what the record says, and a row per tag; nothing else is printed."""
    assert say(folder, None, as_json=True, csv=None) == ["a blob is left"]
    said = json.loads(capsys.readouterr().out)
    assert (said["tags_planned"], said["record"], said["status"]) == (2, str(folder), "listed")
    assert said["tags"] == [
        {
            "image_name": "a/app",
            "tag_name": tag,
            "age_days": age,
            "tag_size": size,
            "action": action,
            "reason": reason,
            "why": why,
        }
        for tag, age, size, action, reason, why in (
            ("1", 9.5, 1200, "delete", "selected", "it is selected"),
            ("3", 2, None, "untag", "shared-digest", "b has it"),
            ("2", None, 0, "keep", "protected", "it matches protect"),
        )
    ]


def test_csv(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV goes into a file, beside the sentence, or alone to stdout."""
    say(folder, None, as_json=False, csv=str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_text() == TAGS
    assert capsys.readouterr().out.startswith("Nothing was changed: 2 tags and 0 manifests would go")
    say(folder, None, as_json=False, csv="-")
    assert capsys.readouterr().out == TAGS


def test_csv_that_can_not_be_written(folder: Path) -> None:
    """A file that can't be written is named, with the cure."""
    with pytest.raises(
        StorageError, match=r"--csv: .*/none/out\.csv can't be written \(No such file or directory\): give"
    ):
        say(folder, None, as_json=False, csv=str(folder / "none/out.csv"))


def test_a_run_without_a_plan(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that did not get so far has no tags: JSON lists none, and no file is made."""
    (folder / "tags.csv").unlink()
    say(folder, None, as_json=True, csv=str(tmp_path / "out.csv"))
    assert json.loads(capsys.readouterr().out)["tags"] == []
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("expectations", [0, 1])
def test_a_listing(folder: Path, capsys: pytest.CaptureFixture[str], expectations: int) -> None:
    """It says what is expected of the condition, where something is, then what would go, also tag by tag, the youngest
    first, then the sentence."""
    (folder / "record.json").write_text(json.dumps(FACTS | {"expectations": expectations}))
    cells = [
        new_code_cell("", metadata={"tags": [tag]}, outputs=[new_output("display_data", {"text/plain": said})])
        for tag, said in (("expect", "It holds"), ("plan", "2 tags would go"))
    ]
    write(new_notebook(cells=cells), folder / "delete.ipynb")
    say(folder, folder / "delete.html", as_json=False, csv=None)
    first, *said, last = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in said if "a/app" in line or line.endswith(":")] == [
        "2 tags would go, the youngest first:",
        "a/app:3 2.0 days size not known the tag alone, its digest stays: shared-digest",
        "a/app:1 9.5 days 1.2 kB selected",
        "1 tag would stay, although selected:",
        "a/app:2 age not known 0 B it matches protect",
    ]
    assert first == ("It holds" if expectations else "2 tags would go")
    assert last == f"report  {folder / 'delete.html'}"
