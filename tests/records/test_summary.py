"""What is read first of a run: its outcome in a sentence, the box of its report, and the page of all runs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdata.records.index import runs_table, write_index
from regdata.records.reading import PastRun
from regdata.records.runs import all_runs
from regdata.records.summary import box, outcome, status

FACTS = {
    "status": "ok",
    "action": "del",
    "sql_id": "old",
    "condition": "age_days > 90",
    "engine": "duckdb",
    "gc": True,
    "user": "ada@build-7",
    "registry": "http://127.0.0.1:5000",
    "started": "2026-01-31T02:00:00.000Z",
    "finished": "2026-01-31T02:00:09.000Z",
    "conf": "/etc/regdata/conf.json",
    "from_store": True,
    "tags_total": 10,
    "tags_planned": 3,
    "manifests_planned": 4,
    "tags_kept": 1,
    "tags_deleted": 2,
    "tags_untagged": 1,
    "manifests_deleted": 4,
    "bytes_stored": 5000,
    "bytes_stored_after": 3766,
    "bytes_predicted": 1234,
    "bytes_expected": 1234,
    "bytes_freed": 1234,
    "collected": True,
    "verified": {"tags": 7, "manifests": 7, "blobs": 20, "gone": 7},
    "errors": [],
    "notes": [],
}
DELETING = {"event": "deleting", "image": "app", "digest": f"sha256:{'a' * 64}", "media_type": "m"}
COLLECTING = {"event": "running", "step": "gc-command"}


def run(folder: Path, *events: dict[str, Any], **changed: Any) -> PastRun:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(FACTS | changed))
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return PastRun(folder)


@pytest.mark.parametrize(
    ("changed", "events", "word", "sentence"),
    [
        (
            {},
            [DELETING, COLLECTING],
            "ok",
            "✓ As planned: 3 tags and 4 manifests are gone; 1,234 bytes were predicted, and as many were freed.",
        ),
        (
            {"gc": False, "bytes_freed": None},
            [DELETING],
            "ok",
            "✓ Deleted as planned: 3 tags and 4 manifests are gone; no collection was run, the next one frees",
        ),
        (
            {"bytes_freed": None},
            [DELETING, COLLECTING],
            "ok",
            "✓ Done: 3 tags and 4 manifests are gone; how many bytes were freed can't be seen.",
        ),
        (
            {"bytes_freed": 1000, "bytes_expected": 1000},
            [DELETING, COLLECTING],
            "ok",
            "✓ Done: 3 tags and 4 manifests are gone, less than planned, since something changed; 1,000 bytes were "
            "expected of these, and freed.",
        ),
        (
            {"bytes_freed": 2000, "bytes_expected": 2000},
            [DELETING, COLLECTING],
            "ok",
            "✓ Done: 3 tags and 4 manifests are gone; 1,234 bytes were predicted, and 2,000 freed, since "
            "something changed meanwhile.",
        ),
        (
            {"action": "none"},
            [],
            "listed",
            "Nothing was changed: 3 tags and 4 manifests would go, 1 selected tag would stay, 1.23 kB would be freed.",
        ),
        ({"sql_id": "none"}, [], "listed", "Nothing was changed: 3 tags and 4 manifests would go"),
        ({"status": "failed", "errors": ["no"]}, [], "refused", "✗ Refused: nothing was deleted."),
        (
            {"status": "failed", "errors": ["no"], "tags_deleted": 0, "tags_untagged": 0, "manifests_deleted": 0},
            [{"event": "unlinking"}],
            "failed",
            "✗ It did not go as planned: it had begun to delete; a collection had begun",
        ),
        (
            {"status": "failed", "errors": ["no"]},
            [DELETING],
            "failed",
            "✗ It did not go as planned: 3 tags and 4 manifests were deleted, nothing was collected.",
        ),
        (
            {"status": "killed", "tags_deleted": 0, "tags_untagged": 0, "manifests_deleted": 0},
            [DELETING, COLLECTING],
            "killed",
            "✗ The run was killed: it had begun to delete; a collection had begun; the next run finishes",
        ),
        (
            {"status": "interrupted", "errors": ["KeyboardInterrupt"]},
            [DELETING],
            "interrupted",
            "✗ The run was interrupted: 3 tags and 4 manifests were deleted, nothing was collected.",
        ),
        ({"status": "running"}, [], "killed", "✗ The run was killed: nothing was deleted"),
        (
            {"status": "failed", "errors": ["no"], "manifests_deleted": 0},
            [{"event": "untagging", "image": "app", "tag": "1", "digest": "sha256:aa"}],
            "failed",
            "✗ It did not go as planned: 3 tags and 0 manifests were deleted, nothing was collected.",
        ),
    ],
)
def test_outcome(tmp_path: Path, changed: dict[str, Any], events: list[Any], word: str, sentence: str) -> None:
    """A run's outcome is a word and a sentence, by its record and its journal."""
    past = run(tmp_path, *events, **changed)
    assert status(past) == word
    assert outcome(past).text().startswith(sentence)


def test_box(tmp_path: Path) -> None:
    """The box says who did what where, what was verified, how to undo it, and by which digests the files are known."""
    run(tmp_path, DELETING)
    (tmp_path / "tags.csv").write_bytes(b"image_name\n")
    text = box(tmp_path).text
    for said in (
        "ada@build-7",
        "age_days > 90",
        "duckdb, ages by push date",
        "2026-01-31 02:00:00 to 2026-01-31 02:00:09 UTC",
        "10 before, 7 after",
        "7 tags, 7 manifests, 20 blobs that stay were looked for; 7 tags and manifests that went were looked for",
        f"regdata restore {tmp_path} --conf /etc/regdata/conf.json puts all of it back",
        f"{hashlib.sha256(b'image_name' + bytes([10])).hexdigest()}  tags.csv",
    ):
        assert said in text
    assert "href" not in box(tmp_path).html
    assert 'href="tags.csv">tags.csv</a>' in box(tmp_path, linked=True).html


def test_what_can_not_be_undone(tmp_path: Path) -> None:
    """After a collection that kept nothing the box says so, and no command that would bring nothing back first."""
    for collector, cure in (("regdata itself", "trash_days in conf.json"), ("gc-command", "--no-gc")):
        run(tmp_path, DELETING, COLLECTING, collected_by=collector)
        said = rf"^undo +can't be undone: .* for good; {cure} would have kept it\. regdata restore"
        assert re.search(said, box(tmp_path).text, re.MULTILINE)
    run(tmp_path, DELETING, COLLECTING, bytes_freed=0)
    assert re.search(r"^undo +regdata restore .* puts all of it back, until", box(tmp_path).text, re.MULTILINE)
    taken, freed = {"event": "unlinking"}, {"event": "deciding", "count": 5}
    for events, facts, when in (
        ([COLLECTING], {"bytes_set_aside": 7}, "while"),
        ([taken, freed], {"trash_days": 7, "status": "killed"}, "while"),
        ([taken], {"trash_days": 7, "status": "killed"}, "until"),
        ([taken, {**freed, "count": 0}], {"status": "failed"}, "until"),
        ([taken, freed, {"event": "put back"}], {"status": "failed"}, "until"),
    ):
        run(tmp_path, DELETING, *events, **facts)
        assert re.search(rf"^undo +regdata restore .* puts all of it back,? {when}", box(tmp_path).text, re.MULTILINE)
    run(tmp_path, DELETING, taken, freed, status="killed", collected_by="regdata itself")
    assert re.search(r"^undo +can't be undone", box(tmp_path).text, re.MULTILINE)


@pytest.mark.parametrize("action", ["del", "none"])
def test_who_collects(tmp_path: Path, action: str) -> None:
    """Each listing says who will collect, and a run who has; not where nobody was to."""
    run(tmp_path, action=action, collected_by="regdata itself")
    assert re.search(r"^collected by +regdata itself$", box(tmp_path).text, re.MULTILINE)
    run(tmp_path, action=action, collected_by="regdata itself", gc=False)
    assert "collected by" not in box(tmp_path).text


def test_what_is_set_aside(tmp_path: Path) -> None:
    """With trash_days a listing says what would be set aside, and a run what was, and what lies there by now."""
    listed = run(tmp_path, action="none", bytes_predicted=0, bytes_to_set_aside=2000)
    assert (
        outcome(listed)
        .text()
        .endswith("would stay, 2 kB would be set aside (trash_days), and freed when the days are over.")
    )
    both = run(tmp_path, action="none", bytes_predicted=70, bytes_to_set_aside=2000)
    assert outcome(both).text().endswith("70 B would be freed, 2 kB set aside.")
    nothing = dict.fromkeys(("bytes_predicted", "bytes_expected", "bytes_freed"), 0)
    assert outcome(run(tmp_path, DELETING, **nothing, bytes_set_aside=2000)).text() == (
        "✓ As planned: 3 tags and 4 manifests are gone; 2,000 bytes are set aside (trash_days), and freed when the "
        "days are over."
    )
    freed = dict.fromkeys(("bytes_predicted", "bytes_expected", "bytes_freed"), 70)
    done = run(tmp_path, DELETING, **freed, bytes_set_aside=2000, bytes_in_trash=2500)
    assert (
        "2,000 bytes are set aside (trash_days); 70 bytes were predicted, and as many were freed"
        in outcome(done).text()
    )
    assert re.search(r"^set aside +2\.5 kB \(2,500\), freed when trash_days are over", box(tmp_path).text, re.MULTILINE)


def test_errors_are_in_the_box(tmp_path: Path) -> None:
    """An error stands in the box in its own words, and nothing of a record is read as HTML."""
    run(tmp_path, status="failed", errors=["<b>the disk is full: free space"], user="<i>")
    assert "Error: <b>the disk is full: free space" in box(tmp_path).text
    assert "nothing is to be undone" in box(tmp_path).text
    assert "<b>" not in box(tmp_path).html
    assert "<i>" not in box(tmp_path).html


def test_a_run_that_could_not_write(tmp_path: Path) -> None:
    """Where no record was written, the box has what went wrong; where one was, the record's own words."""
    said = box(tmp_path, problem="Kernel died").text
    assert said.startswith("✗ It did not go as planned: nothing was deleted.\nError: Kernel died\n")
    run(tmp_path, status="failed", errors=["KeyboardInterrupt"])
    assert "Error" not in box(tmp_path, problem="interrupted").text


values: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -7, 10**25, 10**400, 1.5, "", "\ud800", "<b>", [], [None, {}], {"tags": "x"}]
)


@given(facts=st.dictionaries(st.sampled_from([*sorted(FACTS), "pulls_since", "tags_in_use", "protect"]), values))
def test_a_damaged_record_can_be_shown(tmp_path_factory: pytest.TempPathFactory, facts: dict[str, Any]) -> None:
    """Whatever stands in a record.json, the box and the page of all runs are made."""
    reports = tmp_path_factory.mktemp("reports")
    run(reports / "20260131T020000Z-old", DELETING, **facts)
    assert box(reports / "20260131T020000Z-old").html
    assert write_index(reports).is_file()


def test_index(tmp_path: Path) -> None:
    """The page of all runs has the newest first, each with its status, and links to the reports that there are."""
    run(tmp_path / "20260101T000000Z-old", DELETING, COLLECTING, started="2026-01-01T00:00:00Z")
    run(tmp_path / "20260102T000000Z-old", started="2026-01-02T00:00:00Z", action="none")
    run(tmp_path / "20260103T000000Z-old", started="2026-01-03T00:00:00Z", status="failed", errors=["<b>limits"])
    (tmp_path / "20260103T000000Z-old" / "delete.html").touch()
    (tmp_path / "20260104T000000Z-report").mkdir()
    page = write_index(tmp_path).read_text("utf-8")
    rows = page.split("<tr>")[2:]
    assert [next(word for word in ("ok", "listed", "refused") if f">{word}<" in row) for row in rows] == [
        "refused",
        "listed",
        "ok",
    ]
    assert 'href="20260103T000000Z-old/delete.html">2026-01-03 00:00:00</a>' in rows[0]
    assert "&lt;b&gt;limits" in rows[0]
    assert 'href="20260102T000000Z-old/">' in rows[1]
    assert ">3 would go<" in rows[1]
    assert "<script" not in page


def test_an_interrupted_run_in_the_list(tmp_path: Path) -> None:
    """A run that was interrupted says so, and no word of Python's; one of an older regdata, too."""
    for number, said in enumerate(("interrupted", "failed")):
        run(tmp_path / f"2026010{number}T000000Z-old", DELETING, status=said, errors=["KeyboardInterrupt"])
    shown = runs_table(all_runs(tmp_path)).text
    assert shown.count("  interrupted  ") == 2
    assert "Keyboard" not in shown


def test_what_an_earlier_batch_had_freed(tmp_path: Path) -> None:
    """What a collection had freed in one batch is gone for good, though it freed nothing in the next one."""
    batches = [{"event": "deciding", "count": count} for count in (5, 0)]
    run(tmp_path, DELETING, {"event": "unlinking"}, *batches, status="killed", collected_by="regdata itself")
    assert re.search(r"^undo +can't be undone", box(tmp_path).text, re.MULTILINE)


def test_what_is_not_known_to_have_freed_nothing(tmp_path: Path) -> None:
    """A collection that had decided, and does not say upon how much, may have freed what went."""
    run(tmp_path, DELETING, {"event": "unlinking"}, {"event": "deciding"}, status="killed")
    assert re.search(r"^undo +can't be undone", box(tmp_path).text, re.MULTILINE)
