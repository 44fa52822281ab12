"""What moves on a terminal, and what is printed where there is none."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.helpers import ROOT

pytestmark = pytest.mark.slow

Conf = Callable[..., Path]
CODE = """
import json, os, time
from pathlib import Path
import pytest

from regdata.command.ticker import Ticker
with Ticker():
    file = Path(os.environ["REGDATA_PROGRESS"])
    file.write_text(json.dumps({"stage": "reading", "unit": "tags", "done": 7, "total": 20, "requests": 9}))
    time.sleep(3)
"""


def test_a_bar_on_a_terminal() -> None:
    """On a terminal something is drawn within a second, and anew at least every two, with counts and the time left."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", CODE], cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn, times = b"", []
    while True:
        try:
            some = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        drawn += some
        times.append(time.monotonic())
    assert process.wait() == 0
    assert b"starting" in drawn
    assert re.search(rb"reading tags:  35%\|.*\| 7/20 \[\d\d:\d\d<[\d:?]+, 9 requests\]", drawn)
    assert len(times) > 3


def test_a_short_run_says_nothing() -> None:
    """Where there is no terminal, and a run ends soon, what it comes to is all that is said."""
    code = CODE.replace("sleep(3)", "sleep(1)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_plain_lines_elsewhere() -> None:
    """Where there is no terminal they are whole lines, and what is drawn over itself is not among them."""
    code = f"from regdata.command import ticker\nticker.PLAIN = 1.0\n{CODE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == ""
    assert re.fullmatch(r"(\[ *\d+ s\] reading: 7 of 20 tags, 9 requests so far\n)+", done.stderr)


def test_no_room_for_it() -> None:
    """Where no temporary file can be made, what is to be run runs all the same."""
    code = CODE.replace('file = Path(os.environ["REGDATA_PROGRESS"])', "file = Path(os.devnull)").replace("3)", "0.1)")
    environment = os.environ | {"TMPDIR": "/nowhere"}
    lines = "import tempfile, regdata.command.ticker\ntempfile.tempdir = '/nowhere'\n" + code + "print('ran')"
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
