"""Records as they were written, and as crashes and editors leave them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from regdata.cleaning.undo import runs
from regdata.config import Config, load_config
from regdata.errors import CleanupError
from regdata.records import closing
from regdata.records.closing import close_killed, say_restored, settle
from regdata.records.reading import PastRun
from regdata.records.record import Record, new_folder
from regdata.records.runs import find_run, is_within, past_runs, uncollected, unfinished

URL = "http://127.0.0.1:5000"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
DELETING = {"event": "deleting", "image": "app", "digest": A, "media_type": "m"}
BEGINNING = {"event": "beginning", "image": "app", "scanned": 1_700_000_000, "digests": [A, C]}
MOVED = {"event": "moved", "image": "app", "name": C}
COUNTED = dict.fromkeys(("tags_deleted", "tags_untagged", "manifests_deleted", "orphans_deleted"), 0)
UNTAGGING = {"event": "untagging", "image": "app", "tag": "2", "digest": B}
COLLECTING = {"event": "collecting", "blobs": [["app", C]]}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"registry": {"url": URL}, "sql": {}}))
    return load_config(path)


@pytest.fixture
def record(config: Config) -> Record:
    """Of a run that deleted app:1 and an orphan, untagged app:2, left what had moved, began to collect, and was killed
    then."""
    record = Record.open(config, sql_id="all", action="del")
    tags = [("app", "1", A, 10, "delete", "selected"), ("app", "2", B, 10, "untag", "shared-digest")]
    tags.append(("app", "3", C, 10, "keep", "protected"))
    columns = ["image_name", "tag_name", "tag_hash", "tag_size", "action", "reason"]
    manifests = pd.DataFrame([("app", A, "selected")], columns=["image_name", "manifest_hash", "reason"])
    record.save_plan(pd.DataFrame(tags, columns=columns).astype({"tag_size": "Int64"}), manifests)
    record.save_manifest(A, b"{}")
    record.journal(BEGINNING, MOVED, UNTAGGING, DELETING, COLLECTING, {"event": "running", "step": "gc-command"})
    return record


def test_a_record_is_read_back(config: Config, record: Record) -> None:
    """What was written is read: what went, what was to go, and how far the run came."""
    (run,) = past_runs(config)
    assert (run.folder, run.registry, run.facts["sql_id"]) == (record.folder, URL, "all")
    assert run.manifests == [("app", A, "m")]
    assert run.tags == [("app", "1", A), ("app", "2", B)]
    assert run.going == [("app", A, 1_700_000_000)]
    assert run.counts(lambda *_: False) == COUNTED
    assert run.counts(lambda *_: True) == COUNTED | {"tags_deleted": 1, "tags_untagged": 1, "manifests_deleted": 1}
    assert run.blobs == [("app", C)]
    assert run.manifest(A) == b"{}"
    assert (run.began_to_change, run.began_to_collect, run.ended_well) == (True, True, False)
    assert run.is_at_command
    record.journal({"event": "ran", "step": "gc-command"})
    assert not PastRun(record.folder).is_at_command
    assert find_run(record.folder.name, config).folder == record.folder


@pytest.mark.parametrize(
    ("name", "folder"),
    [("旧的", "旧的"), ("it's x/y", "it_s_x_y"), ("\ud800", "_"), ("é" * 300, "é" * 50), ("..", "..")],
)
def test_folders_have_the_names_of_conditions(tmp_path: Path, name: str, folder: str) -> None:
    """A run's folder is called as its condition, in any script, as far as a file system takes it."""
    assert new_folder(tmp_path, name).name.partition("Z-")[2] == folder


def test_dates_of_a_plan_that_was_edited(record: Record) -> None:
    """Dates that are none are as good as unknown, and rows that name nothing are passed over."""
    columns = {"image_name": ["app", "app", "app"], "tag_name": [["1"], ["2"], None], "tag_hash": [[A], [A], [B]]}
    pd.DataFrame(columns | {"pushed": [5, 6, 7]}).to_parquet(record.folder / "plan.parquet")
    assert PastRun(record.folder).pushed == {}
    named = {"image_name": ["app"] * 4, "tag_name": ["1", "2", "3", None], "tag_hash": [A] * 4}
    dates = pd.array([1_700_000_000, 2**40, -7, None], dtype="Int64")
    pd.DataFrame(named | {"pushed": dates}).to_parquet(record.folder / "plan.parquet")
    assert PastRun(record.folder).pushed == {
        ("app", "1"): 1_700_000_000,
        ("app", "2"): 0,
        ("app", "3"): 0,
        ("app", A): 0,
    }


def test_a_run_is_unfinished_until_another_ended_well(config: Config, record: Record) -> None:
    """A run that began to delete and did not end well is told, but for the one at work, until it is settled."""
    assert unfinished(config, besides=record.folder) == []
    (run,) = unfinished(config, besides=config.reports)
    settle(run, by=Path("reports/later"))
    assert unfinished(config, besides=config.reports) == []
    assert PastRun(record.folder).facts == run.facts | {"finished_by": "later"}


def test_another_registrys_runs_are_not_ours(config: Config, record: Record) -> None:
    """A record that names another registry, or none, is not among the runs."""
    others: tuple[Any, ...] = ("http://127.0.0.1:1", None, 5, ["x"], "http://[", f"{URL}/path")
    records: list[dict[str, Any]] = [{"registry": other, "registry_id": None} for other in others]
    for known in [{"registry_id": "0" * 32}, *records]:
        record.write(**known)
        assert past_runs(config) == []
        with pytest.raises(CleanupError, match=r"is the record of a run on|is not the record of a run"):
            find_run(record.folder, config)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no journal": lambda folder: (folder / "journal.jsonl").unlink(),
    "a journal that is a folder": lambda folder: as_folder(folder / "journal.jsonl"),
    "no record.json": lambda folder: (folder / "record.json").unlink(),
    "record.json cut short": lambda folder: cut(folder / "record.json"),
    "record.json a list": lambda folder: (folder / "record.json").write_text("[1]"),
    "record.json nested too deep": lambda folder: (folder / "record.json").write_text("[" * 100_000),
    "started is no time": lambda folder: edit(folder, started="yesterday"),
    "started is a number": lambda folder: edit(folder, started=5),
    "started is half a character": lambda folder: edit(folder, started="\ud800"),
    "no plan": lambda folder: (folder / "plan.parquet").unlink(),
    "plan cut short": lambda folder: cut(folder / "plan.parquet"),
    "plan without a column": lambda folder: plan(folder, {"image_name": ["app"], "tag_name": [None]}),
    "plan of numbers": lambda folder: plan(
        folder, {key: [1] for key in ("image_name", "tag_name", "tag_hash", "action")}
    ),
    "no manifests": lambda folder: (folder / "manifests" / A.replace(":", "-")).unlink(),
}
LINES = [
    "5",
    "[]",
    "null",
    '{"event": "deleting"}',
    '{"event": "deleting", "image": 1, "digest": 2, "media_type": 3}',
    '{"event": "deleting", "image": "app", "digest": "sha256:0", "media_type": NaN}',
    '{"event": "untagging", "image": "app", "tag": null, "digest": ""}',
    '{"event": "collecting", "blobs": 5}',
    '{"event": "collecting", "blobs": [1, ["../x", "sha256:0"]]}',
    '{"event": "taken", "image": ["app"], "tag": {}}',
    '{"event": "beginning", "image": "app", "scanned": true, "digests": 5}',
    '{"event": "beginning", "image": "../app", "scanned": 1, "digests": ["x"]}',
    '{"event": "moved", "image": [], "name": {}}',
    '{"event": "deleted", "image": "app", "digest": null, "time": 5}',
    '{"event": "collecting", "blobs": [5, ["a"], ["a", 1], {}]}',
    '{"event": ["deleting"], "step": {}}',
    "[" * 100_000,
    "\ud800",
]


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def edit(folder: Path, **facts: Any) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def plan(folder: Path, columns: dict[str, list[Any]]) -> None:
    pd.DataFrame(columns).to_parquet(folder / "plan.parquet")


def everything(run: PastRun) -> None:
    """Reads all that there is; a CleanupError of one line is the only error."""
    assert isinstance(run.going, list)
    assert isinstance(run.blobs, list)
    assert not run.ended_well
    assert run.began_to_change in (True, False)
    assert run.began_to_collect in (True, False)
    assert run.counts(lambda *_: True).keys() == COUNTED.keys()
    for read in (lambda: run.manifests, lambda: run.tags):
        said = told(read)
        assert "\n" not in said
        assert str(run.folder) in said or not said


def told(read: Callable[[], object]) -> str:
    """The error that it ends with, if there is one."""
    try:
        read()
    except CleanupError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file(config: Config, record: Record, damage: str) -> None:
    """A file of a record that is missing or damaged is told in a line, or is as good as not there."""
    DAMAGE[damage](record.folder)
    everything(PastRun(record.folder))
    assert isinstance(runs(config), pd.DataFrame)
    assert len(past_runs(config)) == (not damage.startswith(("no record", "record")))
    assert isinstance(unfinished(config, besides=config.reports), list)


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_damaged_line(config: Config, record: Record, line: str) -> None:
    """A line of the journal that says nothing sensible is told in a line, or left out; the others count."""
    journal = record.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + line.encode(errors="surrogatepass") + b"\n")
    (run,) = unfinished(config, besides=config.reports)
    assert run.blobs == [("app", C)]
    everything(run)


@pytest.mark.parametrize(
    "line",
    [
        BEGINNING | {"scanned": 4_070_908_800},
        BEGINNING | {"scanned": "2099-01-01"},
        BEGINNING | {"scanned": -1},
        {"event": "finished", "digests": [B]},
    ],
    ids=["2099", "a text", "negative", "another event"],
)
def test_what_was_not_begun_has_its_grace(config: Config, record: Record, line: dict[str, Any]) -> None:
    """A manifest counts as one that was to go only where the journal says that it was begun, and read before now."""
    record.write(started="2099-01-01T00:00:00Z")
    plan(
        record.folder,
        {"image_name": ["app"], "tag_name": [None], "tag_hash": [B], "action": ["delete"], "reason": ["x"]},
    )
    record.journal(line | ({"digests": [B]} if "digests" in line else {}))
    assert PastRun(record.folder).going == [("app", A, 1_700_000_000)]


def test_a_killed_runs_record_is_closed(config: Config, record: Record) -> None:
    """A record that says `running` is closed when its process is gone, with what it had done and a page; not before."""
    record.journal({"event": "deleted", "image": "app", "digest": A}, {"event": "taking", "image": "app"})
    assert close_killed(config, besides=config.reports) == []
    folder = config.reports / "killed"
    shutil.copytree(record.folder, folder)
    assert close_killed(config, besides=folder) == []
    (run,) = close_killed(config, besides=config.reports)
    assert (run.facts["status"], run.facts["tags_deleted"], run.facts["manifests_deleted"]) == ("killed", 1, 1)
    assert "killed" in (folder / "delete.html").read_text()
    assert "(taking)" in run.facts["errors"][0]
    assert close_killed(config, besides=config.reports) == []
    settle(run, by=Path("reports/later"))
    assert "later finished its work" in (folder / "delete.html").read_text()


def test_last_words_on_a_full_disk(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full at the end, the room that was kept lets the record say how the run ended."""
    room = record.folder / ".room"
    assert room.stat().st_blocks * 512 >= 1 << 20

    def full(source: Any, target: Any) -> None:
        if room.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", full)
    record.finish()
    assert PastRun(record.folder).facts["status"] == "ok"
    assert not room.exists()


def test_a_line_cut_short(config: Config, record: Record) -> None:
    """The line that a crash cut short is left out, and nothing of the lines before it."""
    journal = record.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + json.dumps(DELETING | {"digest": C}).encode()[:-9])
    assert PastRun(record.folder).manifests == [("app", A, "m")]


def test_a_tag_that_moved_before_it_was_taken(config: Config, record: Record) -> None:
    """A tag that was about to be taken, and was on something else by then, was not taken: a restore leaves it alone."""
    lines = [{"event": "taking", "image": "app", "tag": tag, "digest": B} for tag in ("4", "5")]
    record.journal(*lines, {"event": "moved", "image": "app", "name": "4"}, lines[1] | {"event": "taken"})
    record.journal({"event": "moved", "image": "app", "name": "5"})
    assert PastRun(record.folder).tags == [("app", "1", A), ("app", "2", B), ("app", "5", B)]


def test_what_a_run_that_may_touch_less_finishes(config: Config, record: Record) -> None:
    """A run that is within reach of only a part of what another had begun with does not finish that one's work."""
    (run,) = past_runs(config)
    for patterns, whole in ((["*"], True), (["a*"], True), (["other"], False)):
        config.path.write_text(json.dumps({"registry": {"url": URL, "repositories": patterns}, "sql": {}}))
        assert is_within(run, load_config(config.path)) is whole


def test_a_run_that_took_tags_alone_is_listed(config: Config) -> None:
    """A run that untagged something and deleted no manifest can be restored, too; not one that did nothing."""
    record = Record.open(config, sql_id="all", action="del")
    record.journal(UNTAGGING)
    record.finish()
    Record.open(config, sql_id="nothing", action="del").finish()
    (found,) = runs(config).to_dict("records")
    assert (found["sql_id"], found["manifests"], found["tags"]) == ("all", 0, 1)


@pytest.mark.parametrize(
    ("patterns", "whole"), [(["app", "begun", "taken"], True), (["app", "begun"], False), (["app", "taken"], False)]
)
def test_what_a_run_that_may_touch_some_images_finishes(
    config: Config, record: Record, patterns: list[str], whole: bool
) -> None:
    """All images have to be within reach with which another run had begun: of manifests that were to go, and of tags
    that went."""
    record.journal(BEGINNING | {"image": "begun"}, UNTAGGING | {"image": "taken"})
    (run,) = past_runs(config)
    config.path.write_text(json.dumps({"registry": {"url": URL, "repositories": patterns}, "sql": {}}))
    assert is_within(run, load_config(config.path)) is whole


def test_whose_deletions_may_still_be_taken_back(config: Config) -> None:
    """Those of the runs since the last collection, with that, the last one first; where what was collected since some
    run is kept, those since the collection before it."""
    records = [Record.open(config, sql_id=name, action="del") for name in "abcde"]
    for record in records[1:3]:
        record.journal({"event": "unlinking"})
    _, b, c, d, e = (record.folder for record in records)
    assert [run.folder for run in uncollected(config, besides=e)] == [d, c]
    assert [run.folder for run in uncollected(config, besides=e, kept=c.name)] == [d, c, b]


def test_the_latest_run(config: Config) -> None:
    """It is the last one that deleted something, be it a tag alone that it was about to take; not one after it that
    only collected, or did nothing. What is said of a name that is none says so, too."""
    journals: dict[str, list[dict[str, Any]]] = {"a": [DELETING], "b": [UNTAGGING | {"event": "taking"}]}
    journals |= {"c": [{"event": "running", "step": "gc-command"}], "d": []}
    for name, events in journals.items():
        Record.open(config, sql_id=name, action="del").journal(*events)
    assert find_run("latest", config).folder.name.endswith("-b")
    with pytest.raises(CleanupError, match=r"the last one that deleted something is \S+-b\. "):
        find_run("nine", config)


def test_a_run_that_only_collected_is_unfinished_too(config: Config) -> None:
    """One that deleted nothing, and was killed between gc-before and gc-after, left the registry stopped: the next run
    sees to that."""
    record = Record.open(config, sql_id="orphans", action="del")
    record.journal({"event": "running", "step": "gc-before"})
    assert [run.folder for run in unfinished(config, besides=config.reports)] == [record.folder]


def test_a_run_in_which_gc_command_was_not_run_collected_nothing(config: Config) -> None:
    """Where gc-before and gc-after alone were run, what went can be restored, and the list of runs says so."""
    record = Record.open(config, sql_id="all", action="del")
    steps = [{"event": event, "step": step} for step in ("gc-before", "gc-after") for event in ("running", "ran")]
    record.journal(UNTAGGING, *steps)
    record.finish()
    (found,) = runs(config).to_dict("records")
    assert not found["collected"]


def test_what_was_given_back_counts_as_not_deleted(record: Record) -> None:
    """A killed run's record counts what it deleted, but for what it had given back since something needed it; and of
    the orphans those that went."""
    columns: dict[str, list[Any]] = {"image_name": ["app"] * 4, "tag_name": ["1", None, None, None]}
    columns |= {"tag_hash": [A, A, B, C], "action": ["delete"] * 4}
    plan(record.folder, columns | {"reason": ["selected", "selected", "orphan", "orphan"]})
    record.journal(*(DELETING | {"event": "deleted", "digest": digest} for digest in (A, B)))
    record.journal({"event": "brought back", "image": "app", "digest": A})
    counts = PastRun(record.folder).counts(lambda *_: False)
    assert counts == COUNTED | {"manifests_deleted": 1, "orphans_deleted": 1}


@pytest.mark.parametrize("wrong", [{"image": ".."}, {"image": "app/../../other"}, {"digest": "sha256:../../../secret"}])
def test_what_no_run_can_have_deleted(record: Record, wrong: dict[str, str]) -> None:
    """A journal that names what is no image, or no digest, is damaged: by it nothing is read beside the record, nor
    pushed anywhere."""
    record.journal(DELETING | wrong)
    assert "is no manifest of a repository. Nothing was restored" in told(lambda: PastRun(record.folder).manifests)


def test_what_was_tried_out_in_several_images(record: Record) -> None:
    """What a killed run had stored to try the registry out is known with every image that it may be linked in."""
    record.journal(*({"event": "probing", "image": image, "digest": B} for image in ("app", "..", "other")))
    assert PastRun(record.folder).probes == {B: ["app", "other"]}


def test_the_end_of_a_killed_run(record: Record) -> None:
    """It is the last that its journal says; what it had begun by then, and nobody can tell of, counts as not done."""
    run = closing.close(PastRun(record.folder))
    assert run.ended == [*run.events()][-1]["time"]
    assert {key: run.facts[key] for key in COUNTED} == COUNTED


def test_that_a_run_was_restored_is_written_down(config: Config, record: Record) -> None:
    """The page of all runs says so at once; where the record can't be written that is no reason to fail."""
    record.finish()
    past = PastRun(record.folder)
    say_restored(past, wholly=False)
    assert ">ok, partly restored<" in (config.reports / "index.html").read_text("utf-8")
    shutil.rmtree(record.folder)
    say_restored(past, wholly=True)


def test_a_tag_that_moved_though_its_manifest_went(config: Config, record: Record) -> None:
    """A tag that was on something else when its manifest went with another tag is nothing to be restored."""
    record.journal({"event": "moved", "image": "app", "name": "1"})
    assert PastRun(record.folder).tags == [("app", "2", B)]


def test_what_was_seen_to_and_not_finished(config: Config, record: Record) -> None:
    """A run that sees to what another one's commands left, and may not finish its work, says so once."""
    (run,) = past_runs(config)
    assert not run.is_recovered
    settle(run, by=record.folder, wholly=False)
    (run,) = past_runs(config)
    assert (run.is_recovered, run.ended_well) == (True, False)


def test_reports_that_lie_elsewhere(tmp_path: Path) -> None:
    """Where they are not below the folder of conf.json a run is listed by its whole path, by which it is found."""
    (tmp_path / "conf").mkdir()
    settings = {"registry": {"url": URL}, "sql": {}, "reports": str(tmp_path / "elsewhere")}
    (tmp_path / "conf/conf.json").write_text(json.dumps(settings))
    config = load_config(tmp_path / "conf/conf.json")
    record = Record.open(config, sql_id="all", action="del")
    record.journal(UNTAGGING)
    (found,) = runs(config)["run"]
    assert found == str(record.folder)
    assert find_run(found, config).folder == record.folder


@pytest.mark.parametrize(
    "line", [DELETING | {"media_type": None}, UNTAGGING | {"tag": None}, UNTAGGING | {"event": "taking", "digest": 5}]
)
def test_a_line_that_does_not_say_what_went(record: Record, line: dict[str, Any]) -> None:
    """The journal is damaged then, and nothing is made of it: no tag of the name None, no manifest of that type."""
    record.journal(line)
    said = told(lambda: PastRun(record.folder).tags)
    assert f"journal.jsonl is damaged: a line of '{line['event']}' without image, " in said


@pytest.mark.parametrize(
    "line",
    [
        DELETING | {"image": "../app"},
        DELETING | {"digest": "sha256:../../secret"},
        UNTAGGING | {"tag": "../2"},
        COLLECTING | {"blobs": [["../app", C]]},
        COLLECTING | {"blobs": [["app", "sha256:../../secret"]]},
    ],
)
def test_what_no_registry_is_asked_for(record: Record, line: dict[str, Any]) -> None:
    """What a journal names that is no image, tag or digest is looked for nowhere, and nobody is told to forget it."""
    record.journal(line)
    run, asked = PastRun(record.folder), set[tuple[str, str]]()

    def is_gone(image: str, reference: str, digest: str) -> bool:
        asked.add((image, reference))
        return True

    counts = run.counts(is_gone)
    assert asked == {("app", A), ("app", "2")}
    assert (counts["manifests_deleted"], counts["tags_untagged"]) == (1, 1)
    assert run.blobs == [("app", C)]


def test_a_run_by_the_folder_above(config: Config, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands in a folder of a record may call the run .., and its own name is known all the same."""
    monkeypatch.chdir(record.folder / "manifests")
    assert find_run("..", config).folder.name == record.folder.name


@pytest.mark.parametrize(
    ("status", "ended"), [("killed", "was killed"), ("interrupted", "was interrupted"), ("failed", "failed")]
)
def test_a_run_that_did_not_end_well_in_a_line(record: Record, status: str, ended: str) -> None:
    """It says how it ended, and how many tags it had removed by then, with their manifests and alone."""
    record.write(status=status, tags_deleted=2, tags_untagged=1, manifests_deleted=1)
    said = closing.told(PastRun(record.folder))
    assert said == f"{record.folder.name} {ended} after it had deleted 3 tags and 1 manifest"


@pytest.mark.parametrize("how", ["restored", "settled"])
def test_the_report_of_a_run_stays(record: Record, how: str) -> None:
    """What happens to a run later stands in its record; the page that it left itself is kept as it is."""
    record.error("it failed")
    record.finish()
    record.save_page("delete.html", "what its cells said")
    past = PastRun(record.folder)
    say_restored(past, wholly=True) if how == "restored" else settle(past, by=Path("later"))
    assert (record.folder / "delete.html").read_text() == "what its cells said"


def test_a_later_run_that_only_collected(config: Config) -> None:
    """A run that deleted nothing is not listed, but what it may have collected is counted against those before it."""
    Record.open(config, sql_id="1", action="del").journal(UNTAGGING)
    Record.open(config, sql_id="2", action="del").journal({"event": "unlinking"})
    (found,) = runs(config).to_dict("records")
    assert (found["sql_id"], found["collected"]) == ("1", True)


def test_a_later_run_that_collected_and_is_damaged(config: Config) -> None:
    """A run of which nothing can be restored, since its journal is damaged, is counted all the same as one that may
    have collected what others deleted."""
    Record.open(config, sql_id="1", action="del").journal(UNTAGGING)
    Record.open(config, sql_id="2", action="del").journal({"event": "deleting", "image": 5}, {"event": "unlinking"})
    assert list(runs(config)["collected"]) == [True]


def test_an_older_record_by_another_spelling(config: Config, record: Record) -> None:
    """A record that has the URL alone, as older ones, is of the registry that it means, however that is written."""
    record.write(registry="http://localhost:5000/", registry_id=None)
    assert [run.folder for run in past_runs(config)] == [record.folder]


def test_a_run_at_work_has_not_ended(record: Record) -> None:
    """What is said of a time up to now includes the run that is at work: it ends later than all."""
    assert PastRun(record.folder).ended > "9999-12-31"


def test_what_was_to_be_collected_in_several_lines(record: Record) -> None:
    """Where a journal says in several lines what is to be collected, all of them count."""
    record.journal(COLLECTING | {"blobs": [["other", B]]})
    assert PastRun(record.folder).blobs == [("app", C), ("other", B)]


def test_what_was_about_to_be_deleted_twice(record: Record) -> None:
    """A manifest that a run came to delete a second time is one, and the same digest in another image is another."""
    record.journal(DELETING, DELETING | {"image": "other"})
    assert PastRun(record.folder).manifests == [("app", A, "m"), ("other", A, "m")]


def test_the_same_names_in_other_images(record: Record) -> None:
    """What became of a tag or a digest in one image says nothing of the same name in another one."""
    columns: dict[str, list[Any]] = {"image_name": ["app", "other"], "tag_name": ["1", "1"], "tag_hash": [A, A]}
    plan(record.folder, columns | {"action": ["delete", "delete"], "reason": ["selected", "selected"]})
    record.journal(BEGINNING | {"image": "other"}, MOVED | {"image": "other", "name": A})
    record.journal(MOVED | {"image": "third", "name": "1"})
    run = PastRun(record.folder)
    assert run.tags == [("app", "1", A), ("app", "2", B)]
    assert run.going == [("app", A, 1_700_000_000), ("other", C, 1_700_000_000)]


def test_dates_of_a_plan_that_is_gone(record: Record) -> None:
    """Tags that went alone can be restored without the plan: their dates are unknown then."""
    (record.folder / "plan.parquet").unlink()
    assert PastRun(record.folder).pushed == {}


def test_a_signature_with_two_tags(record: Record) -> None:
    """What was attached to an image is known with all of its tags that went; a line that says nothing sensible is left
    out."""
    columns: dict[str, list[Any]] = {"image_name": ["app"] * 3, "tag_name": ["s", "t", None], "tag_hash": [A] * 3}
    plan(record.folder, columns | {"action": ["delete"] * 3, "reason": ["referrer"] * 3})
    lines: list[dict[str, Any]] = [{"attached": 5}, {"attached": [{}]}, {"attached": [A], "image": []}]
    record.journal(*(BEGINNING | odd for odd in lines))
    assert PastRun(record.folder).followers == {("app", A): ["s", "t"]}


def test_a_tag_that_is_called_as_an_event(record: Record) -> None:
    """A tag may have the name of something that a journal tells: it is no such line for that."""
    record.journal(UNTAGGING | {"tag": "deleting"})
    run = PastRun(record.folder)
    assert run.manifests == [("app", A, "m")]
    assert ("app", "deleting", B) in run.tags


def test_a_damaged_line_before_others(record: Record) -> None:
    """A line that can't be read, such as one that a full disk cut short, hides none of those after it."""
    journal = record.folder / "journal.jsonl"
    journal.write_bytes(b'{"event": "deleting", "ima\n' + journal.read_bytes())
    assert PastRun(record.folder).manifests == [("app", A, "m")]


@pytest.mark.parametrize("half", [rb"\uD800", b"\xed\xa0\x80"], ids=["escaped", "as it is"])
def test_half_a_character_by_an_editor(record: Record, half: bytes) -> None:
    """Half a character in a record is replaced in whatever way it is written there, so that it can be shown."""
    path = record.folder / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"all"', b'"' + half + b'"'))
    assert str(PastRun(record.folder).said("sql_id")).encode().strip(b"?") == b""


@pytest.mark.parametrize("name", ["record.json", "journal.jsonl"])
def test_what_would_be_read_for_ever(config: Config, record: Record, name: str) -> None:
    """A file of a record that is a pipe is as good as not there: nobody waits for what is never written."""
    (record.folder / name).unlink()
    os.mkfifo(record.folder / name)
    looking = threading.Thread(target=unfinished, args=[config], kwargs={"besides": config.reports}, daemon=True)
    looking.start()
    looking.join(2)
    assert not looking.is_alive()


def test_the_end_of_a_run_whose_journal_was_edited(record: Record) -> None:
    """The end of a killed run is the last time that its journal tells; what is no time is passed over."""
    record.journal({"event": "edited", "time": 5})
    before, _ = [*PastRun(record.folder).events()][-2:]
    assert closing.close(PastRun(record.folder)).ended == before["time"]


def test_a_run_that_was_refused_is_not_unfinished(config: Config) -> None:
    """A run that failed before it changed anything leaves nothing to be finished."""
    record = Record.open(config, sql_id="all", action="del")
    record.error("limits")
    record.finish()
    assert unfinished(config, besides=config.reports) == []


def test_a_run_by_its_path_beside_conf(config: Config, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is found by its path from conf.json's folder, as runs are listed, and by its name, also where another
    folder of these names, which is no record, is in the working folder."""
    (elsewhere := config.path.parent / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    name = record.folder.name
    for given in (name, f"reports/{name}"):
        (elsewhere / given).mkdir(parents=True)
        assert find_run(given, config).folder == record.folder


def test_the_run_in_which_one_stands(config: Config, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands in the folder of a run may call it . and its name is known all the same."""
    monkeypatch.chdir(record.folder)
    assert find_run(".", config).folder.name == record.folder.name


@pytest.mark.parametrize("name", ["latest", "nine"])
def test_where_no_run_deleted_anything(config: Config, name: str) -> None:
    """Whoever asks for a run where none deleted anything is told so, in a line."""
    Record.open(config, sql_id="all", action="none").finish()
    with pytest.raises(CleanupError, match=r"is not the record of a run: in \S+ is none that deleted something from"):
        find_run(name, config)


def test_a_run_that_is_a_number(config: Config) -> None:
    """A run's name of digits alone, which papermill gives as a number, is told in a line."""
    wrong: Any = 20260101
    with pytest.raises(CleanupError, match=r"run is 20260101 \(int\), but must be a text"):
        find_run(wrong, config)
