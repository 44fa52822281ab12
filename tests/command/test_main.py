"""`regdata …`: from nothing to a first listing, and what it does with runs; no checkout is looked at."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regdata.command import main as program
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from tests.support.helpers import ROOT, complaints, store_bytes, store_tags

Conf = Callable[..., Path]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def regdata(tmp_path: Path) -> Call:
    """`regdata(*arguments)` runs it in an empty folder, without a terminal."""

    def run(*arguments: str, script: str = "regdata.command.main") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", script, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    return run


def test_help_is_quick() -> None:
    """`regdata --help` loads no pandas, DuckDB, pydantic or papermill."""
    code = (
        "import sys; from regdata.command import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pandas', 'duckdb', 'pydantic', 'papermill', 'requests'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: regdata")
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_runs_notebooks_loads_no_grammar() -> None:
    """A grammar of addresses, which jsonschema would load, takes longer than papermill and nbconvert together."""
    code = "import sys; from regdata.command import execute, html; print({'papermill', 'lark'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "{'papermill'}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: command"),
        (["clean"], "argument command: invalid choice: 'clean'"),
        (["init"], "the following arguments are required: url"),
        (["list"], "the following arguments are required: sql_id"),
        (["restore", "x", "--forc"], "unrecognized arguments: --forc"),
        (["restore", ""], "argument run: it is empty; is a variable not set?"),
        (["list", "old", "--conf", ""], "argument --conf: it is empty; is a variable not set?"),
        (["list", "old", "--csv", ""], "argument --csv: it is empty; is a variable not set?"),
        (["init", "localhost:5000", "--conf", ""], "argument --conf: it is empty; is a variable not set?"),
    ],
)
def test_usage(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is one line and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["list", "x", "--json", "--csv", "-"], 2, "--json and --csv - would both print on stdout"),
        (["list", "x", "--csv", "none/x.csv"], 1, "none/x.csv has no folder"),
        (["list", "x", "--csv", "."], 1, ". is a folder"),
        (["init", "http://127.0.0.1:1", "--conf", "none/conf.json"], 1, "none/conf.json has no folder"),
        (["init", "[::1:5000"], 1, "registry.url: found"),
        (["init", "http://127.0.0.1:1", "~nosuchuser/x"], 1, "nobody of that name has a home here"),
    ],
)
def test_where_to_write_is_looked_at_first(
    arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that can't be written is told before a registry is asked, a folder made or anything deleted."""
    assert program.main(arguments) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not list(Path.cwd().glob("reports"))


def test_from_nothing_to_a_listing(demo_registry: LocalRegistry, regdata: Call, tmp_path: Path) -> None:
    """`init` says what can be done and writes a conf.json by which `list` lists; neither changes what is stored."""
    before = store_tags(demo_registry.base_path), store_bytes(demo_registry.base_path)
    done = regdata("init", demo_registry.url, str(demo_registry.base_path))
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    said = dict(line.split(maxsplit=1) for line in done.stdout.replace("who am I", "who").splitlines())
    assert (said["kind"], said["who"]) == ("distribution 2.x, as it answers", "anonymous")
    assert "may I delete  yes\na tag alone   yes, in its folder\ncollection    yes\n" in done.stdout
    assert load_config(tmp_path).registry.base_path == demo_registry.base_path
    assert load_config(tmp_path).trash_days == 7
    done = regdata("list", "old")
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert re.search(r"would be set aside \(trash_days\), and freed when the days are over\.\n", done.stdout)
    assert (store_tags(demo_registry.base_path), store_bytes(demo_registry.base_path)) == before
    done = regdata("runs")
    assert done.returncode == 0
    assert "old: age_days > 90 and family_rank > 10  listed" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "reports/index.html")
    (tmp_path / "reports/index.html").unlink()
    (tmp_path / "reports/index.html").mkdir()
    listed = regdata("runs")
    assert (listed.returncode, listed.stdout) == (0, "".join(done.stdout.splitlines(keepends=True)[:-1]))
    assert re.search(r"^regdata: note: .*index\.html", listed.stderr, re.M)


def test_init_says_what_can_not_be_done(demo_registry: LocalRegistry, regdata: Call, tmp_path: Path) -> None:
    """Without its folder nothing can be collected: that is said with the cure, and conf.json is written."""
    done = regdata("init", demo_registry.url, "--conf", "other.json")
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "collection    no: " in done.stdout
    assert "gc-command" in done.stdout
    assert load_config(tmp_path / "other.json").registry.base_path is None
    assert load_config(tmp_path / "other.json").trash_days == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["http://127.0.0.1:1"], "can't connect"), (["URL", "/etc"], "/etc has no docker/registry/v2")],
    ids=["nobody answers", "not its folder"],
)
def test_init_writes_nothing(
    registry: LocalRegistry, regdata: Call, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    """Where nobody answers, or the folder is not the registry's, it is one line, exit code 1, and no file."""
    done = regdata("init", *(registry.url if word == "URL" else word for word in arguments))
    assert (done.returncode, complaints(done.stderr).count("\n")) == (1, 1)
    assert expected in complaints(done.stderr)
    assert not (tmp_path / "conf.json").exists()


def test_init_overwrites_nothing(registry: LocalRegistry, regdata: Call, tmp_path: Path) -> None:
    """A conf.json that is there stays as it is."""
    (tmp_path / "conf.json").write_text("mine")
    done = regdata("init", registry.url)
    assert (done.returncode, complaints(done.stderr).count("\n")) == (1, 1)
    assert "nothing is overwritten" in complaints(done.stderr)
    assert "reachable     yes" in done.stdout
    assert (tmp_path / "conf.json").read_text() == "mine"


def test_as_a_module(regdata: Call) -> None:
    """`python -m regdata` is `regdata`."""
    done = regdata("--version", script="regdata")
    assert (done.returncode, done.stdout.split()[0]) == (0, "regdata")


def test_what_can_not_be_printed(conf: Conf, tmp_path: Path) -> None:
    """Where the runs can't be listed since the disk is full that is said, and is no success; a reader who has read
    enough is one."""
    (tmp_path / "conf.json").write_text('{"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}')
    command = [sys.executable, "-m", "regdata", "runs"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "regdata: what it says can't be printed: No space left on device\n")
    end, out = os.pipe()
    os.close(end)
    assert subprocess.run(command, stdout=out, env=env, cwd=tmp_path).returncode == 0
    os.close(out)
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        shell = ["sh", "-c", f"{shlex.join(command)} {closed}"]
        done = subprocess.run(shell, capture_output=True, text=True, env=env, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), closed


def test_where_no_report_can_be(registry: LocalRegistry, conf: Conf, regdata: Call, tmp_path: Path) -> None:
    """Where reports can't be written that is said with the key to change, and where notebooks can't be, too."""
    conf(registry, reports="taken")
    (tmp_path / "taken").touch()
    (tmp_path / "notebooks").touch()
    done = regdata("list", "all")
    assert (done.returncode, complaints(done.stderr).count("\n")) == (1, 1)
    assert re.search(r"no report can be written: .* Give a folder .* as `reports` in conf.json", done.stderr)
    done = regdata("lab")
    assert (done.returncode, complaints(done.stderr).count("\n")) == (1, 1)
    assert "notebooks can't be written (File exists): the notebooks lie beside conf.json" in done.stderr


def test_restore(demo_registry: LocalRegistry, conf: Conf, regdata: Call, tmp_path: Path) -> None:
    """The command that a report names puts back what the run deleted, and leaves a page."""
    conf(demo_registry)
    tags = store_tags(demo_registry.base_path)
    done = regdata("autobuild", "del", "--no-gc", script="regdata.command.cli")
    assert done.returncode == 0, done.stderr
    assert store_tags(demo_registry.base_path) < tags
    (folder,) = (path.parent for path in (tmp_path / "reports").glob("*/record.json"))
    assert f"{folder.name}  autobuild: " in regdata("runs").stdout
    done = regdata("restore", "latest", "--conf", str(tmp_path / "conf.json"))
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "restored" in done.stdout.splitlines()[0]
    assert (tmp_path / done.stdout.splitlines()[-1]).read_text("utf-8")
    assert store_tags(demo_registry.base_path) == tags
    assert "  ok, restored  " in regdata("runs").stdout
    before = {*(tmp_path / "reports").iterdir()}
    done = regdata("restore", "nine")
    assert {*(tmp_path / "reports").iterdir()} == before
    assert (done.returncode, complaints(done.stderr).count("\n")) == (1, 1)
    assert f"nine is not the record of a run: the last one that deleted something is {folder.name}" in done.stderr
    done = regdata("restore", folder.name[1:])
    assert f"did you mean {folder.name}?" in complaints(done.stderr)


def test_lab_leaves_copies(registry: LocalRegistry, conf: Conf, tmp_path: Path, regdata: Call) -> None:
    """`lab` puts the notebooks beside conf.json, so that one can work in them, and leaves alone what is there."""
    conf(registry)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/delete.ipynb").write_text("mine")
    done = regdata("lab", "--version")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.name for path in (tmp_path / "notebooks").iterdir()} == names
    assert (tmp_path / "notebooks/delete.ipynb").read_text() == "mine"
    assert json.loads((tmp_path / "notebooks/explore.ipynb").read_text())
