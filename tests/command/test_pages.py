"""`make report`: pages for whoever has no Jupyter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from regdata.command import pages
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.inventory.scan import scan
from tests.support.helpers import ROOT, complaints

Conf = Callable[..., Path]


def start(conf: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", pages.__name__],
        env=os.environ | {"PYTHONPATH": str(ROOT), "REGDATA_CONF": str(conf), "JUPYTER_PLATFORM_DIRS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_pages(demo_registry: LocalRegistry, conf: Conf) -> None:
    """A page for each notebook, with its pictures, and exit code 0."""
    path = conf(demo_registry, snapshots="snapshots")
    scan(load_config(path)).save(path.parent / "snapshots")
    time.sleep(1)  # what changed is asked of an earlier one
    process = start(path)
    stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, complaints(stderr)) == (0, "")
    made = [Path(line) for line in stdout.splitlines()]
    assert [page.name for page in made] == ["explore.html", "capacity.html", "changes.html"]
    assert all("<img " in page.read_text("utf-8") for page in made[:2])
    assert "0 tags came, 0 tags went, 0 tags moved" in made[2].read_text("utf-8")


def test_no_registry(registry: LocalRegistry, conf: Conf) -> None:
    """Without a registry the exit code is 1, and a line and a page say why; another would say the same."""
    path = conf(registry)
    registry.stop()
    process = start(path)
    stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, stdout) == (1, "")
    (line,) = complaints(stderr).splitlines()
    assert line.startswith("regdata report: GET ")
    assert "can't connect" in line
    (page,) = path.parent.glob("reports/*/*.html")
    assert line.endswith(f" (report: {page})")
    assert page.read_text("utf-8").count("connect: Connection refused") == 1


def test_no_conf(tmp_path: Path) -> None:
    """Without a conf.json it is one line, and nothing is written."""
    process = start(tmp_path / "absent.json")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr.count("\n")) == (1, "", 1)
    assert "absent.json" in stderr
    assert not (tmp_path / "reports").exists()


def test_interrupted(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """Ctrl-C ends it with 130: the next notebook is not begun."""
    process = start(conf(demo_registry))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("reports/*/explore.ipynb")):  # saved before the kernel starts
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, complaints(stderr)) == (130, "regdata report: interrupted\n")
    assert not list(tmp_path.glob("reports/*/capacity.ipynb"))
