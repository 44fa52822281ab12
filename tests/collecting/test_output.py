"""What a command prints, however much."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from regdata.collecting.commands import Commands
from regdata.config import load_config
from regdata.records.record import Record
from regdata.show.blocks import Output
from tests.support.helpers import ROOT
from tests.support.peak import run


def test_no_signal_of_a_terminal_reaches_it(tmp_path: Path) -> None:
    """A command runs in a session of its own: a Ctrl-C in a terminal does not end it half-way."""
    said = "import os; print(os.getsid(0) == os.getpid())"
    conf = tmp_path / "conf.json"
    words = [sys.executable, "-c", said]
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": words}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    assert commands.run("gc-command")
    assert commands.output == "True\n"


@pytest.mark.slow
def test_three_hundred_megabytes_in_one_line(tmp_path: Path) -> None:
    """Of very much output the begin and the end are kept, in little memory, and a line that is shown is not as long."""
    words = ["sh", "-c", "echo begin; head -c 300000000 /dev/zero | tr '\\0' x; echo; echo end; exit 3"]
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": words}))
    script = f"""
import json
from regdata.collecting.commands import Commands
from regdata.config import load_config
from regdata.records.record import Record
config = load_config({str(conf)!r})
commands = Commands(config, Record.open(config, sql_id="x", action="del"))
commands.run("gc-command")
print(json.dumps([commands.output, commands.errors]))
"""
    done, peak = run([sys.executable, "-c", script], cwd=ROOT)
    output, errors = json.loads(done.stdout)
    assert output.startswith("begin\nxxx")
    assert output.endswith("xxx\nend\n")
    assert len(output) < 2 << 20
    assert errors == ["gc-command failed with exit code 3: end. Nothing more was deleted; run again to collect"]
    assert 1 << 24 < peak < 1 << 30
    assert len(Output(output).html()) < 50_000
