"""A run without a notebook: its steps in any order, and whom it tells."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from regdata.demo.local import LocalRegistry
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


def test_it_needs_no_notebook() -> None:
    """What draws and what shows in a cell is not loaded by a run."""
    code = f"import sys, {run.__name__}; print(sorted({{'IPython', 'matplotlib', 'ipywidgets'}} & {{*sys.modules}}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
