"""`notify`: a command that hears what each run came to, with the recipe of docs/schedule.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from regdata.demo.local import LocalRegistry
from regdata.errors import CleanupError
from regdata.notebook import notify, run
from tests.support.helpers import ROOT

Conf = Callable[..., Path]
KEEP = [sys.executable, "-c", "import sys; open('heard.json', 'w').write(sys.stdin.read())"]


def test_the_textfile_of_prometheus(
    demo_registry: LocalRegistry, conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script in docs/schedule.md writes what the run knows: bytes, tags, orphans, and whether all went well."""
    script = re.search(r"```python\n(#!.*?)```", (ROOT / "docs/schedule.md").read_text("utf-8"), re.DOTALL)
    assert script
    (tmp_path / "textfile.py").write_text(script[1])
    monkeypatch.setenv("TEXTFILE", str(tmp_path / "regdata.prom"))
    path = conf(demo_registry, notify=[sys.executable, "textfile.py"])
    this_run = run.start(sql_id="autobuild", action="none", conf=str(path))
    this_run.apply()
    this_run.finish()
    facts = this_run.record.facts
    assert facts.get("notes", []) == []
    written = dict(line.split(" ") for line in (tmp_path / "regdata.prom").read_text().splitlines())
    label = f'{{registry="{demo_registry.url}"}}'
    assert written[f"regdata_ok{label}"] == "1"
    assert written[f"regdata_tags_total{label}"] == str(facts["tags_total"])
    assert written[f"regdata_bytes_stored{label}"] == str(facts["bytes_stored"])
    assert int(written[f"regdata_orphans{label}"]) > 0


def test_a_refused_run_is_told(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """A run that ends before it deletes is told as well, with its error."""
    this_run = run.start(sql_id="autobuild", conf=str(conf(demo_registry, notify=KEEP, limits={"max_tags": 1})))
    with pytest.raises(CleanupError, match="max_tags"):
        this_run.apply()
    heard = json.loads((tmp_path / "heard.json").read_text())
    assert (heard["status"], heard["outcome"]) == ("refused", "✗ Refused: nothing was deleted.")
    assert "max_tags" in heard["errors"][0]
    assert heard["record"] == str(this_run.record.folder)


def test_a_disk_that_is_full(demo_registry: LocalRegistry, conf: Conf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is told can't be written the run is as good as before."""
    this_run = run.start(sql_id="none", conf=str(conf(demo_registry, notify=["true"])))
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "r+b"))
    this_run.finish()
    facts = this_run.record.facts
    assert (facts["status"], facts["notes"]) == ("ok", ["notify: true: No space left on device"])


def test_what_goes_wrong_there_is_a_note(
    demo_registry: LocalRegistry, conf: Conf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that fails, or is not there, is a note of the run, which is as good as before."""
    monkeypatch.setattr(notify, "MOST", 1 << 16)
    for command, said in (
        (["yes"], "notify: yes printed more than 65536 bytes"),
        ([sys.executable, "-c", "raise SystemExit('no pushgateway')"], "notify: exit code 1: no pushgateway"),
        (["/no/such"], "notify: /no/such: No such file or directory"),
        (["true"], "notify: true: No such file or directory"),  # there is no folder for temporary files
    ):
        if command == ["true"]:
            monkeypatch.setattr("tempfile.tempdir", "/absent")
        this_run = run.start(sql_id="none", conf=str(conf(demo_registry, notify=command)))
        this_run.finish()
        assert (this_run.record.facts["status"], this_run.record.facts["notes"]) == ("ok", [said])
