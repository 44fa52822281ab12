"""A run without a notebook: its steps in any order, and whom it tells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from regdata.demo.local import LocalRegistry
from regdata.errors import CleanupError, ConfigError
from regdata.notebook import run
from tests.support.helpers import store_bytes

Conf = Callable[..., Path]


def test_a_step_makes_those_before_it(demo_registry: LocalRegistry, conf: Conf) -> None:
    """Whoever runs only the last cells gets what they need: the scan, the plan, then the deletion."""
    before = store_bytes(demo_registry.base_path)
    this_run = run.start(sql_id="autobuild", conf=str(conf(demo_registry)))
    assert (this_run.inventory, this_run.planned, this_run.result) == (None, None, None)
    result = this_run.apply()
    assert this_run.inventory is not None
    assert this_run.planned is not None
    assert this_run.result is result
    assert before - store_bytes(demo_registry.base_path) == result.bytes_freed == this_run.planned.reclaimable
    assert str(this_run.record.folder) in this_run.finish().text
    record = json.loads((this_run.record.folder / "record.json").read_text())
    assert (record["status"], record["tags_total"]) == ("ok", len(this_run.inventory.images))


def test_it_tells_how_far_it_is_and_what_is_to_be_noted(
    demo_registry: LocalRegistry, conf: Conf, tmp_path: Path
) -> None:
    """Progress goes up to the plan's manifests; a snapshot that can't be saved is a note."""
    (tmp_path / "snapshots").touch()
    told: list[tuple[int, int]] = []
    notes: list[str] = []
    this_run = run.start(
        sql_id="autobuild",
        conf=str(conf(demo_registry, snapshots="snapshots")),
        progress=lambda done, total: told.append((done, total)),
        note=notes.append,
    )
    number = len(this_run.plan().manifests)
    this_run.apply()
    assert told == sorted(told)
    assert told[-1] == (number, number)
    assert [note.partition(": ")[0] for note in notes] == [f"no snapshot could be saved in {tmp_path / 'snapshots'}"]


def test_what_can_not_be_explained(demo_registry: LocalRegistry, conf: Conf) -> None:
    """Nothing to explain is no reason to stop: the run goes on, and ends as planned."""
    this_run = run.start(sql_id="autobuild", conf=str(conf(demo_registry)))
    for asked in ("app:typo", 1.2, True, ["x"]):
        assert "Not explained: the registry had no " in this_run.explain(asked).text
    assert this_run.explain("").text == this_run.explain(None).text == ""
    assert this_run.apply().errors == []
    this_run.finish()
    assert this_run.record.facts["status"] == "ok"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sql_id": "autobuilt"}, r'No condition .*did you mean "autobuild"\?\) in .*; it has none, all, auto'),
        ({"action": "delete"}, "action is 'delete', but there are: del, none"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_parameter(
    tmp_path: Path, registry: LocalRegistry, conf: Conf, wrong: dict[str, str], message: str
) -> None:
    """It is an error of one line before anything is touched; in a notebook see test_delete_notebook."""
    path = conf(registry)
    registry.stop()  # and it was not asked
    given: dict[str, Any] = {"sql_id": "autobuild", "action": "del", "conf": str(path)} | wrong
    with pytest.raises(ConfigError, match=message):
        run.start(**given)
    assert not (tmp_path / "reports").exists()


def test_what_collects_nothing_needs_no_command(registry: LocalRegistry, conf: Conf) -> None:
    """A listing, and a run without collection, begin where gc-command can't be run; one that collects does not."""
    path = str(conf(registry, **{"gc-command": ["no-such-program"]}))
    for sql_id, action, gc in (("all", "none", True), ("none", "del", True), ("all", "del", False)):
        run.start(sql_id=sql_id, action=action, conf=path, gc=gc)
    with pytest.raises(CleanupError, match=r"'no-such-program' of .* is not a program"):
        run.start(sql_id="all", action="del", conf=path)


def answering(answer: str, asked: list[str]) -> Callable[[str], str]:
    def ask(question: str) -> str:
        asked.append(question)
        return answer

    return ask


@pytest.mark.parametrize(
    ("shown", "answer", "said"),
    [(True, "no", "it was not confirmed"), (False, "autobuild", "the plan had not been shown")],
)
def test_nothing_goes_unless_it_is_confirmed(
    demo_registry: LocalRegistry, conf: Conf, *, shown: bool, answer: str, said: str
) -> None:
    """Where somebody can be asked, a run deletes only what was shown and confirmed; else it is a listing."""
    before, asked = store_bytes(demo_registry.base_path), list[str]()
    this_run = run.start(sql_id="autobuild", conf=str(conf(demo_registry)), ask=answering(answer, asked))
    if shown:
        this_run.plan()
    assert said in this_run.apply().notes[0]
    this_run.finish()
    assert store_bytes(demo_registry.base_path) == before
    assert [bool(re.match(r"\d+ tags and \d+ manifests go, ", question)) for question in asked] == [True] * shown
    assert "would go" in str(this_run)


def test_what_is_confirmed_goes_once(demo_registry: LocalRegistry, conf: Conf) -> None:
    """The condition's name confirms the plan; the step made again gives what came of it, and asks nothing."""
    asked = list[str]()
    this_run = run.start(sql_id="autobuild", conf=str(conf(demo_registry)), ask=answering("autobuild", asked))
    this_run.plan()
    result = this_run.apply()
    assert result.bytes_freed == result.bytes_predicted > 0
    assert this_run.apply() is result
    assert len(asked) == 1


def test_it_needs_no_notebook() -> None:
    """What draws and what shows in a cell is not loaded by a run."""
    code = f"import sys, {run.__name__}; print(sorted({{'IPython', 'matplotlib', 'ipywidgets'}} & {{*sys.modules}}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("attended", [True, False])
def test_whether_somebody_is_there(*, attended: bool) -> None:
    """A kernel that may ask for input is somebody's; one that papermill runs is not, and nothing is asked there."""
    code = "from regdata.notebook import live\nlive.ask('Go? ') if live.attended() else 'nobody'"
    manager, client = start_new_kernel()
    told = list[str]()
    try:
        client.execute_interactive(
            code,
            allow_stdin=attended,
            stdin_hook=lambda message: client.input(f"answer to {message['content']['prompt']}"),
            output_hook=lambda message: told.append(message["content"].get("data", {}).get("text/plain", "")),
            timeout=60,
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert ("'answer to Go?'" if attended else "'nobody'") in told
