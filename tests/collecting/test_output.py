"""What a command prints, however much."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from regdata.collecting.aftermath import Goes
from regdata.collecting.commands import Commands, collect, recover
from regdata.config import load_config
from regdata.errors import StorageError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.show.blocks import Output
from regdata.sources.api import Api
from regdata.sources.locks import lock_folder
from regdata.sources.registry import Registry
from regdata.sources.site import ApiSite
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
    cure = "Nothing more was deleted; see what it says, and run again to collect"
    assert errors == [f"gc-command failed with exit code 3: end. {cure}"]
    assert 1 << 24 < peak < 1 << 30
    assert len(Output(output).html()) < 50_000


@pytest.mark.parametrize(
    ("step", "ends", "ran", "told"),
    [
        ("gc-before", "true", ["gc-before", "gc-after"], []),
        ("gc-command", "exit 3", ["gc-before", "gc-command", "gc-after"], ["gc-command failed with exit code 3"]),
    ],
)
def test_interrupted_while_a_command_runs(
    tmp_path: Path, step: str, ends: str, ran: list[str], told: list[str]
) -> None:
    """A Ctrl-C waits for the command that runs: after gc-before nothing is collected any more, gc-after is run in any
    case, and what had gone wrong by then is in the run's record."""
    log, conf, url = tmp_path / "log", tmp_path / "conf.json", "http://127.0.0.1:1"
    commands = {name: ["sh", "-c", f"echo {name} >> {log}"] for name in ("gc-before", "gc-command", "gc-after")}
    commands[step][2] += f"; kill -INT {os.getpid()}; sleep 0.3; {ends}"
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}} | commands))
    config = load_config(conf)
    site, record = ApiSite(Api(Registry(url)), tmp_path, start_time=0), Record.open(config, sql_id="x", action="del")
    with pytest.raises(KeyboardInterrupt):
        collect(config, site, record, lambda: Goes([]))
    assert log.read_text().split() == ran
    assert [error.partition(":")[0] for error in record.facts["errors"]][:1] == told


def test_all_that_gc_command_is_to_take_is_written_down(tmp_path: Path) -> None:
    """However many links go, each is in the journal, so that the run after a killed one has them forgotten."""
    conf, url = tmp_path / "conf.json", "http://127.0.0.1:1"
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}, "gc-command": ["true"]}))
    config, links = load_config(conf), [("app", f"sha256:{number:064x}") for number in range(2001)]
    site, record = ApiSite(Api(Registry(url)), tmp_path, start_time=0), Record.open(config, sql_id="x", action="del")
    collect(config, site, record, lambda: Goes(links))
    assert PastRun(record.folder).blobs == links


def test_a_script_that_says_no_interpreter(tmp_path: Path) -> None:
    """A program that can't be started, though it looks like one, is an error of one sentence, as one that fails."""
    script, conf = tmp_path / "gc.sh", tmp_path / "conf.json"
    script.write_text("true\n")
    script.chmod(0o755)
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": [str(script)]}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    assert not commands.run("gc-command")
    (error,) = commands.errors
    assert error.startswith(f"gc-command failed with exit code 127: {script}: Exec format error. Nothing more was")


def test_no_room_for_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or a TMPDIR that is none, keeps no command from running: gc-after has to start the registry."""
    conf, ran = tmp_path / "conf.json", tmp_path / "ran"
    words = ["sh", "-c", f"echo started; touch {ran}"]
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-after": words}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert commands.run("gc-after")
    assert ran.exists()
    assert commands.errors == []


def test_interrupted_while_a_killed_runs_gc_after_runs(tmp_path: Path) -> None:
    """A Ctrl-C waits for the gc-after, too, that a run begins with since one before it was killed: what came of it is
    in the journal."""
    conf, ran, url = tmp_path / "conf.json", tmp_path / "ran", "http://127.0.0.1:1"
    words = ["sh", "-c", f"kill -INT {os.getpid()}; sleep 0.6; touch {ran}"]
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}, "gc-after": words}))
    config = load_config(conf)
    killed, record = (Record.open(config, sql_id=name, action="del") for name in ("killed", "next"))
    killed.journal({"event": "running", "step": "gc-before"})
    site = ApiSite(Api(Registry(url)), tmp_path, start_time=0)
    with pytest.raises(KeyboardInterrupt):
        recover(config, site, PastRun(killed.folder), record)
    assert ran.exists()
    assert [event["exit_code"] for event in PastRun(record.folder).events("ran")] == [0]


@pytest.mark.parametrize(("step", "ran"), [("gc-before", []), ("gc-command", ["gc-before"])])
def test_what_can_not_be_written_down_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, ran: list[str]
) -> None:
    """Neither gc-before nor gc-command is run where the journal can't say so before, since a killed run would leave no
    trace of it; gc-after is run all the same."""
    log, conf, url = tmp_path / "log", tmp_path / "conf.json", "http://127.0.0.1:1"
    commands = {name: ["sh", "-c", f"echo {name} >> {log}"] for name in ("gc-before", "gc-command", "gc-after")}
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}} | commands))
    config, write = load_config(conf), Record.journal
    site, record = ApiSite(Api(Registry(url)), tmp_path, start_time=0), Record.open(config, sql_id="x", action="del")

    def journal(record: Record, *events: dict[str, Any]) -> None:
        if any((event["event"], event.get("step")) == ("running", step) for event in events):
            raise StorageError("No space left on device")
        write(record, *events)

    monkeypatch.setattr(Record, "journal", journal)
    with pytest.raises(StorageError, match="No space left on device"):
        collect(config, site, record, lambda: Goes([]))
    assert log.read_text().split() == [*ran, "gc-after"]


@pytest.mark.parametrize("step", ["gc-before", "gc-after"])
def test_what_goes_on_in_the_background_holds_no_lock(tmp_path: Path, step: str) -> None:
    """What gc-before or gc-after leaves running, such as the registry, keeps no later run from its work: a collection
    alone does."""
    conf = tmp_path / "conf.json"
    words = ["sh", "-c", "sleep 60 & echo $!"]
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, step: words}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    with lock_folder(tmp_path):
        assert commands.run(step)
    try:
        with lock_folder(tmp_path):
            pass
    finally:
        os.kill(int(commands.output), signal.SIGKILL)


@pytest.mark.parametrize("step", ["gc-command", "gc-after"])
def test_a_command_that_a_signal_ends(tmp_path: Path, step: str) -> None:
    """A command that is killed, as the kernel does for want of memory, has failed like any other."""
    conf = tmp_path / "conf.json"
    words = ["sh", "-c", "echo begun; kill -9 $$"]
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, step: words}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    assert not commands.run(step)
    (error,) = commands.errors
    assert error.startswith(f"{step} failed with exit code -9: begun. ")


@pytest.mark.parametrize(
    ("prints", "last"),
    [
        ("echo first; echo last; echo '  '", "last"),
        ("true", "it printed nothing"),
        ("head -c 600 /dev/zero | tr '\\0' x", "x" * 500),
    ],
)
@pytest.mark.parametrize(
    ("step", "cure"),
    [
        ("gc-before", "Nothing was collected; mend it and run again to collect"),
        ("gc-command", "Nothing more was deleted; see what it says, and run again to collect"),
        ("gc-after", "The registry may still be stopped or read-only: run it by hand"),
    ],
)
def test_what_is_said_of_a_command_that_fails(tmp_path: Path, step: str, cure: str, prints: str, last: str) -> None:
    """One line: what failed, the last that it printed, if anything and not for ever, and what is to be done then."""
    conf = tmp_path / "conf.json"
    words = ["sh", "-c", f"{prints}; exit 3"]
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, step: words}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    assert not commands.run(step)
    assert commands.errors == [f"{step} failed with exit code 3: {last}. {cure}"]


@pytest.mark.parametrize(("more", "told"), [(0, ""), (10, "\n… 10 bytes left out …\n")])
def test_a_megabyte_and_some_bytes(tmp_path: Path, more: int, told: str) -> None:
    """Of what a command prints a megabyte is looked at, and how much was left out of more is told."""
    conf, size = tmp_path / "conf.json", (1 << 20) + more
    words = ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"]
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": words}))
    config = load_config(conf)
    commands = Commands(config, Record.open(config, sql_id="x", action="del"))
    assert commands.run("gc-command")
    assert commands.output.replace("x", "") == told
    assert commands.output.count("x") == 1 << 20


def test_what_is_no_text_and_more_than_a_record_holds(tmp_path: Path) -> None:
    """Bytes that are no text fail no collection, and of long output the record holds the begin and the end, where the
    errors stand."""
    conf, url = tmp_path / "conf.json", "http://127.0.0.1:1"
    words = ["sh", "-c", "printf 'begin \\351'; head -c 200000 /dev/zero | tr '\\0' x; echo end"]
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}, "gc-command": words}))
    config = load_config(conf)
    site, record = ApiSite(Api(Registry(url)), tmp_path, start_time=0), Record.open(config, sql_id="x", action="del")
    collected = collect(config, site, record, lambda: Goes([]))
    assert (collected.exit_code, collected.output[:7], collected.output[-4:]) == (0, "begin \ufffd", "end\n")
    said = record.facts["gc_output"]
    assert (said[:6], said[-5:]) == ("begin ", "xend\n")
    assert f"x\n… {len(collected.output) - 100_000} characters left out …\nx" in said


@pytest.mark.parametrize(
    ("fails", "ran", "exit_code"), [("gc-before", False, None), ("gc-command", True, 4), ("gc-after", True, 0)]
)
def test_what_is_kept_of_commands_of_which_one_fails(
    tmp_path: Path, fails: str, ran: bool, exit_code: int | None
) -> None:
    """Whichever fails, what all of them printed is told in its order, and the exit code is that of gc-command, none
    where that was not run."""
    conf, url = tmp_path / "conf.json", "http://127.0.0.1:1"
    steps = ["gc-before", "gc-command", "gc-after"]
    commands = {step: ["sh", "-c", f"echo {step}; exit {4 * (step == fails)}"] for step in steps}
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}} | commands))
    config = load_config(conf)
    site, record = ApiSite(Api(Registry(url)), tmp_path, start_time=0), Record.open(config, sql_id="x", action="del")
    collected = collect(config, site, record, lambda: Goes([]))
    assert (collected.ran, collected.exit_code, record.facts["gc_exit_code"]) == (ran, exit_code, exit_code)
    printed = [step for step in steps if ran or step != "gc-command"]
    assert collected.output.split() == record.facts["gc_output"].split() == printed


def test_gc_after_that_can_not_be_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full once gc-command ran does not keep gc-after from running: the registry may be stopped."""
    conf, ran, url = tmp_path / "conf.json", tmp_path / "ran", "http://127.0.0.1:1"
    commands = {"gc-command": ["true"], "gc-after": ["touch", str(ran)]}
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}} | commands))
    config, write = load_config(conf), Record.journal
    record = Record.open(config, sql_id="x", action="del")

    def journal(record: Record, *events: dict[str, Any]) -> None:
        if any(event.get("step") == "gc-after" for event in events):
            raise StorageError("No space left on device")
        write(record, *events)

    monkeypatch.setattr(Record, "journal", journal)
    assert collect(config, ApiSite(Api(Registry(url)), tmp_path, start_time=0), record, lambda: Goes([])).ran
    assert ran.exists()
