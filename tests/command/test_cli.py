"""clear.py, on a small notebook in the place of delete.ipynb."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter

from regdata.command import cli, html
from regdata.records.record import new_folder
from regdata.show.blocks import Document, Line
from tests.support.helpers import complaints

ROOT = Path(__file__).parents[2]

PARAMETERS = 'sql_id = "none"\naction = "del"\nconf = ""\ngc = True\nforce = False\nempty_trash = False'
RECORD = """
import json, os, sys
from pathlib import Path
run = Path(os.environ["REGDATA_RUN"])
record = {
    "status": "ok", "tags_planned": 9, "manifests_planned": 9,
    "registry": "http://127.0.0.1:5000", "sql_id": sql_id, "action": action, "tags_selected": 12,
    "tags_deleted": 7, "tags_untagged": 2, "tags_kept": 3, "manifests_deleted": 9,
    "orphans_deleted": 1, "bytes_predicted": 1234567, "bytes_freed": None, "errors": [],
    "seen": {"conf": conf, "gc": gc, "force": force, "trash": empty_trash, "python": sys.executable},
}
(run / "record.json").write_text(json.dumps(record))
"""
FAIL = "from regdata.errors import RegistryError\nraise RegistryError('it is down:\\n start it')"
# writes its record when it is interrupted, and takes longer than nbclient's patience
SLEEP = """
import time
print("words of the cell")
(run / "started").touch()
try:
    time.sleep(60)
finally:
    time.sleep(6)
    record["errors"] = ["interrupted"]
    (run / "record.json").write_text(json.dumps(record))
"""
AFTER = '(run / "after").touch()'

# clear.py as it is, but with the notebooks of the test
START = (
    "import sys; from pathlib import Path; from regdata.command import cli, execute; "
    "execute.NOTEBOOKS = Path('nb'); sys.exit(cli.main())"
)

Clear = Callable[..., subprocess.CompletedProcess[str]]


def write_notebook(path: Path, *cells: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# What goes"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(cell) for cell in cells),
    ]
    nbformat.write(notebook, path)
    return path


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)} | changes


@pytest.fixture
def folder(kernel: None, tmp_path: Path) -> Path:
    """The working folder, with a conf.json."""
    conf = {"registry": {"url": "http://127.0.0.1:5000"}, "sql": {"none": "2=1", "a/b": "1=1"}}
    (tmp_path / "conf.json").write_text(json.dumps(conf))
    return tmp_path


@pytest.fixture
def clear(folder: Path) -> Clear:
    """`clear(*arguments, cells=…)` runs clear.py on a notebook of these cells."""

    def run(*arguments: str, cells: tuple[str, ...] = (RECORD,), **changes: str) -> subprocess.CompletedProcess[str]:
        write_notebook(folder / "nb" / "delete.ipynb", *cells)
        return subprocess.run(
            [sys.executable, "-c", START, *arguments],
            cwd=folder,
            env=environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def only_run(folder: Path) -> Path:
    (run,) = (path for path in (folder / "reports").iterdir() if path.is_dir())
    return run


def test_help_is_quick() -> None:
    """`clear.py --help` loads no pandas, DuckDB, pydantic or papermill."""
    code = (
        "import sys; from regdata.command import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pandas', 'duckdb', 'pydantic', 'papermill', 'requests'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: clear.py")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: sql_id, action"),
        (["none"], "the following arguments are required: action"),
        (["none", "delete"], "argument action: invalid choice: 'delete'"),
        (["none", "none", "--gc"], "unrecognized arguments: --gc"),
        (["none", "none", "--forc"], "unrecognized arguments: --forc"),
    ],
)
def test_usage(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """A wrong command line is one line and exit code 2; nothing is started."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"clear.py: {expected}")
    assert error.count("\n") == 1
    assert not (folder / "reports").exists()


def test_unknown_sql_id(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """An unknown sql_id lists those that exist, exit code 2, and starts nothing."""
    assert cli.main(["nine", "del"]) == 2
    assert "it has none, a/b." in capsys.readouterr().err
    assert not (folder / "reports").exists()


def test_bad_conf(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """A mistake in conf.json is one line and exit code 1."""
    (folder / "bad.json").write_text("{")
    assert cli.main(["none", "del", "--conf", "bad.json"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"clear.py: {folder / 'bad.json'}:1:2: not valid JSON")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sql": {"bad": "tag_nam = 'x'"}},
            "sql.bad of CONF: \"tag_nam = 'x'\", read by sqlite: no such column: tag_nam, did you",
        ),
        ({"sql": {"bad": "a = ("}}, "sql.bad of CONF: 'a = (', read by sqlite: "),
        ({"sql": {"bad": "tag_size < '1GB'"}}, "sql.bad of CONF: \"tag_size < '1GB'\" compares a number with a text"),
        ({"sql": {"bad": "tag_name"}, "engine": "duckdb"}, "sql.bad of CONF: 'tag_name' is not BOOLEAN"),
        ({"sql": {"bad": "1=1"}, "protect": "x = 1"}, "protect of CONF: 'x = 1', read by sqlite: no such column: x"),
        ({"sql": {"bad": "1=1"}, "gc-command": ["no-such-program"]}, "gc-command: 'no-such-program' of "),
        (
            {"sql": {"bad": "1=1"}, "registry": {"url": "http://x", "base_path": "/etc"}},
            "/etc has no docker/registry/v2",
        ),
        ({"sql": {"bad": "1=1"}, "registry": {"url": "https://x", "ca": "/no"}}, "registry.ca /no can't be read"),
    ],
    ids=["column", "syntax", "types", "no truth", "protect", "command", "base_path", "ca"],
)
def test_what_is_wrong_without_data(
    capsys: pytest.CaptureFixture[str], folder: Path, changes: dict[str, Any], said: str
) -> None:
    """What is wrong whatever the registry holds is one line, before a kernel starts, and leaves no folder."""
    conf = json.loads((folder / "conf.json").read_text()) | changes
    (folder / "conf.json").write_text(json.dumps(conf))
    assert cli.main(["bad", "del"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.replace(str(folder / "conf.json"), "CONF").startswith(f"clear.py: {said}")
    assert not (folder / "reports").exists()


def test_reports_that_is_a_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """A folder for reports that can't be made is one line and exit code 1."""
    (folder / "reports").touch()
    assert cli.main(["none", "del"]) == 1
    assert str(folder / "reports") in capsys.readouterr().err


def test_run(clear: Clear, folder: Path) -> None:
    """A run leaves the executed notebook and a page, and prints its outcome in a sentence."""
    done = clear("a/b", "none", "--no-gc")
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    run = only_run(folder)
    assert re.fullmatch(r"\d{8}T\d{6}Z-a_b", run.name)
    assert {path.name for path in run.iterdir()} == {"delete.ipynb", "delete.html", "record.json"}
    assert done.stdout.splitlines() == [
        "Nothing was changed: 9 tags and 9 manifests would go, 3 selected tags would stay, at most 1.23 MB would be "
        "freed.",
        f"report  {run / 'delete.html'}",
    ]
    seen = json.loads((run / "record.json").read_text())["seen"]
    assert seen["conf"] == str(folder / "conf.json")
    assert (seen["gc"], seen["force"], seen["trash"]) == (False, False, False)


def test_kernel_is_the_running_python(clear: Clear, folder: Path) -> None:
    """Neither PATH nor a kernel of the user's named python3 decides which Python runs."""
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    done = clear("none", "none", "--force", "--empty-trash", PATH="/nowhere", JUPYTER_PATH=str(folder / "jupyter"))
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    seen = json.loads((only_run(folder) / "record.json").read_text())["seen"]
    assert seen["python"] == sys.executable
    assert (seen["gc"], seen["force"], seen["trash"]) == (True, True, True)


def test_failing_run(clear: Clear, folder: Path) -> None:
    """An error in the notebook is one line and exit code 1; the page and the table are there."""
    done = clear("none", "del", cells=(RECORD.replace('"ok"', '"failed"'), FAIL, AFTER))
    assert done.returncode == 1
    assert complaints(done.stderr) == "clear.py: it is down: start it\n"
    run = only_run(folder)
    assert done.stdout.splitlines()[-1].endswith(str(run / "delete.html"))
    assert "It did not go as planned: nothing was deleted" in done.stdout
    assert "it is down" in (run / "delete.html").read_text()
    assert not (run / "after").exists()


@pytest.mark.parametrize(("reader", "unbuffered"), [("a full disk", ""), ("nobody", "1")])
def test_output_that_nobody_takes(folder: Path, reader: str, unbuffered: str) -> None:
    """Where what is said can't be printed, the page is there all the same, and the exit code is the run's."""
    write_notebook(folder / "nb" / "delete.ipynb", RECORD)
    if reader == "nobody":
        end, out = os.pipe()
        os.close(end)
    else:
        out = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-c", START, "none", "del"],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED=unbuffered),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
    )
    os.close(out)
    assert (done.returncode, complaints(done.stderr.decode())) == (0, "")
    assert (only_run(folder) / "delete.html").is_file()


def test_a_user_without_a_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of whom the machine knows no home gets one for Jupyter, below the folder for temporary files."""
    write_notebook(folder / "nb" / "delete.ipynb", RECORD)
    monkeypatch.delenv("HOME")
    nobody = "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
    done = subprocess.run(
        [sys.executable, "-c", nobody + START, "none", "del"],
        cwd=folder,
        env=environment(TMPDIR=str(folder)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert (only_run(folder) / "delete.html").is_file()


def test_a_page_that_nbconvert_can_not_make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nbconvert raises is a note on the page, which opens as it would."""

    def fail(*_: object) -> None:
        raise LookupError("no template\x1b[31m")

    monkeypatch.setattr(HTMLExporter, "from_notebook_node", fail)
    notebook = write_notebook(folder / "delete.ipynb", RECORD)
    text = html.export_html(notebook, Document((Line("As planned", "."),))).read_text()
    assert "As planned" in text
    assert "delete.ipynb can&#x27;t be shown here: LookupError: no template</div>" in text


def test_a_page_that_can_not_be_written(clear: Clear, folder: Path) -> None:
    """A page that can't be written, on a full disk say, is a note; the run's verdict and exit code stand."""
    done = clear("none", "del", cells=(RECORD, '(run / "delete.html").mkdir()'))
    assert done.returncode == 0
    assert "clear.py: note: [Errno 21] Is a directory" in done.stderr
    assert (only_run(folder) / "record.json").is_file()


def test_what_a_record_holds_does_not_steer_the_terminal(clear: Clear) -> None:
    """Escape sequences in what is printed are taken out, marks that turn the text around are replaced."""
    odd = 'record["errors"] = ["a\\x1b[31m\\x9b31mb\\u202ec"]; (run / "record.json").write_text(json.dumps(record))'
    done = clear("none", "del", cells=(RECORD + odd,))
    assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines())
    assert "a�31mb�c" in done.stderr + done.stdout


def test_record_with_errors(clear: Clear) -> None:
    """A run that ended well, but whose record has errors, exits with 1 and shows them."""
    note = 'record["errors"] = ["a blob is\\nleft"]\n'
    done = clear("none", "del", cells=(RECORD, note + '(run / "record.json").write_text(json.dumps(record))'))
    assert done.returncode == 1
    assert complaints(done.stderr) == "clear.py: a blob is left\n"


def test_dead_kernel(clear: Clear, folder: Path) -> None:
    """A kernel that dies is one line and exit code 1, without a record too."""
    done = clear("none", "del", cells=("import os; os._exit(9)",))
    assert (done.returncode, done.stdout) == (1, "")
    page = only_run(folder) / "delete.html"
    assert complaints(done.stderr) == f"clear.py: Kernel died: how far the run got is in its report (report: {page})\n"


def test_old_key_is_one_line(clear: Clear, folder: Path) -> None:
    """The warning about `curl` is one line, not Python's two with source code."""
    conf = json.loads((folder / "conf.json").read_text()) | {"curl": ["curl"]}
    (folder / "conf.json").write_text(json.dumps(conf))
    done = clear("none", "none")
    assert done.returncode == 0
    assert re.fullmatch(r'clear.py: warning: .*"curl" is ignored.*\n', complaints(done.stderr))


def start(folder: Path, *cells: str) -> subprocess.Popen[str]:
    write_notebook(folder / "nb" / "delete.ipynb", *cells)
    return subprocess.Popen(
        [sys.executable, "-c", START, "none", "del"],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(folder: Path, name: str) -> Path:
    """The run's folder, once the notebook has made the file `name` in it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in folder.glob(f"reports/*/{name}"):
            return path.parent
        time.sleep(0.02)
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(folder: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM interrupt the cell, let it write its record, and exit with 130."""
    process = start(folder, RECORD, SLEEP, AFTER)
    run = wait_for(folder, "started")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, complaints(stderr)) == (130, "clear.py: interrupted\n")
    assert json.loads((run / "record.json").read_text())["errors"] == ["interrupted"]
    assert not (run / "after").exists()
    assert stdout.endswith(f"{run / 'delete.html'}\n")
    assert "words of the cell" in (run / "delete.html").read_text()


def test_signal_between_cells(folder: Path) -> None:
    """A signal that comes before a cell has begun stops the run too."""
    process = start(folder, RECORD, SLEEP)
    wait_for(folder, "delete.ipynb")  # saved before the kernel starts
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.fullmatch(r"clear\.py: interrupted \(report: .*/delete\.html\)\n", complaints(stderr))
    assert not list(folder.glob("reports/*/started"))


def test_second_signal_kills(folder: Path) -> None:
    """A cell that does not heed the signal is killed after the second one, with its kernel."""
    stubborn = """
(run / "pid").write_text(str(os.getpid()))
(run / "started").touch()
import time
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (run / "heard").touch()
"""
    process = start(folder, RECORD, stubborn)
    run = wait_for(folder, "started")
    process.send_signal(signal.SIGINT)
    wait_for(folder, "heard")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, complaints(stderr)) == (130, "clear.py: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int((run / "pid").read_text()), 0)


def test_folders_do_not_collide(tmp_path: Path) -> None:
    """Runs begun in the same second get folders of their own."""
    names = [new_folder(tmp_path / "a" / "b", "x y/…") for _ in range(5)]
    assert len(set(names)) == 5
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-x_y__(-\d)?", path.name) for path in names)
