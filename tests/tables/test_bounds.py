"""Conditions are read in processes of their own: whatever one does, it ends, stays small, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import get_args

import pytest

from regdata.errors import ConditionError
from regdata.tables import process
from regdata.tables.conditions import Reader, Readers
from regdata.tables.schema import Engine
from tests.support.rows import Rows

pytestmark = pytest.mark.slow

ROWS = Rows(images=[{"image_name": "app", "tag_name": f"v{number}", "tag_size": number} for number in range(20_000)])
GIB = 2**30
ENDLESS = "exists (with recursive r(n) as (select 1 union all select n + 1 from r) select 1 from r where n < 0)"
# One call of a function in SQLite, which no interrupt ends.
DEAF = "instr(hex(zeroblob(4500000)), hex(zeroblob(2000000)) || '1') > 0"
both_engines = pytest.mark.parametrize("engine", get_args(Engine))

HOSTILE: list[tuple[Engine, str]] = [
    *(
        ("duckdb", condition)
        for condition in (
            "list_sum(list_transform(range(400000000), lambda x: x)) > 5",
            "list_sum(list_transform(range(100000), lambda x: x + id)) > 5",
            "length(repeat(tag_name, 1000000)) > 5",
            "format('{:>1000000000}', 'x') = 'y'",
            "lpad(tag_name, 2000000000, 'y') = 'x'",
            "(select len(list(a.tag_name)) from images a, images b) > 5",
            "(select count(distinct a.tag_name || b.tag_name) from images a, images b) > 5",
            "(select max(n) from (select a.tag_name || b.tag_name n from images a, images b order by 1)) = 'x'",
            "exists (with recursive r(n) as (select 'x' union all select n || n from r) select 1 from r where n = 'y')",
            "levenshtein(repeat('a', 100000), repeat('b', 100000)) > 5",
            "regexp_matches(repeat('a', 1000000) || tag_name, '(a|aa)+b')",
            "len(range(1000000000)) > 5",
            ENDLESS,
        )
    ),
    *(
        ("sqlite", condition)
        for condition in (
            "length(hex(zeroblob(10000000))) > 5",
            "length(hex(randomblob(4000000 + id))) < 5",
            "length(randomblob(1000000000)) > 5",
            "(select count(distinct a.tag_name || b.tag_name) from images a, images b) > 5",
            "(select max(n) from (select a.kind || b.tag_name n from images a, images b order by a.id + b.id)) = 'x'",
            "length((select json_group_array(a.tag_name || b.tag_name) from images a, images b)) > 5",
            "exists (with recursive r(n) as (select 'x' union all select n || n from r) select 1 from r where n = 'y')",
            "exists (select 1 from images a, images b, images c where a.id + b.id * c.id = 0.5)",
            f"tag_name in ({', '.join(repr(str(number)) for number in range(300_000))})",
            DEAF,
            ENDLESS,
        )
    ),
]


@pytest.mark.parametrize(("engine", "condition"), HOSTILE, ids=lambda value: value[:50])
def test_hostile_conditions(engine: Engine, condition: str) -> None:
    """None takes a gigabyte, none goes on after its time; the next one is read as if nothing had been."""
    with closing(Reader(ROWS, engine)) as reader:
        reader.select("1=1")
        with watched() as peak, pytest.raises(ConditionError) as caught:
            reader.select(condition, limit=2)
        assert peak() < GIB
        said = str(caught.value)
        assert "\n" not in said
        assert any(why in said for why in ("needs more than 400 MB", "took more than 2 s", "too big"))
        assert len(reader.select("tag_size < 10")) == 10


def test_long_answers() -> None:
    """A query that gives more than there is room for is refused, and the process that asked stays small."""
    with closing(Reader(ROWS, "duckdb")) as reader, watched() as peak:
        before = memory(os.getpid())
        with pytest.raises(ConditionError, match="it gives more than 500 MB"):
            reader.query("select a.*, b.* from images a, images b")
        assert peak() + memory(os.getpid()) - before < GIB
        assert len(reader.query("select * from images")) == 20_000


@both_engines
def test_interrupting(engine: Engine) -> None:
    """Another thread can stop what is read, also where the engine takes no interrupt; an idle reader goes on."""
    with closing(Readers(ROWS)) as readers:
        readers.interrupt()
        assert readers.select("id = 1", engine=engine) == [1]
        readers.interrupt()
        for condition in (ENDLESS, DEAF if engine == "sqlite" else ENDLESS):
            stopper = threading.Timer(0.5, readers.interrupt)
            stopper.start()
            with pytest.raises(ConditionError, match="was stopped"):
                readers.select(condition, engine=engine)
            stopper.join()
            assert readers.select("id = 2", engine=engine) == [2]


@both_engines
def test_a_process_that_was_killed(engine: Engine) -> None:
    """Between two conditions another takes its place; while one is read, that is an error of one line."""
    end_spare()
    with closing(Reader(ROWS, engine)) as reader:
        reader.select("1=1")
        end_spare()
        assert reader.select("id = 1") == [1]
        [worker] = workers()
        killer = threading.Timer(0.5, os.kill, (worker, signal.SIGKILL))
        killer.start()
        with pytest.raises(ConditionError, match=r"the process that read it ended early \(signal 9\)"):
            reader.select(ENDLESS)
        assert reader.select("id = 1") == [1]


@both_engines
def test_a_process_that_waits_for_an_inventory(engine: Engine) -> None:
    """It is the one that the next reader takes; one that ends is seen to at once, since a kernel that shuts down waits
    for all its children."""
    end_spare()
    process.prepare()
    process.prepare()
    until(lambda: bool(workers()))
    [ready] = workers()
    with closing(Reader(ROWS, engine)) as reader:
        reader.select("1=1")
        assert workers() == [ready]
    os.kill(ready, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{ready}").exists())


def test_a_process_that_can_not_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That is an error of one line, which says why."""
    end_spare()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConditionError, match=r"can be started: No such file or directory: .*python\. See whether"):
        Reader(ROWS, "duckdb").select("1=1")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConditionError, match=r"ended at its start \(exit code 1\)"):
        Reader(ROWS, "duckdb").select("1=1")


def test_modules_of_the_working_folder(tmp_path: Path) -> None:
    """A file beside a notebook that is named as a library is not taken for it."""
    end_spare()
    for name in ("duckdb", "json", "sqlglot", "regdata"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    assert Reader(ROWS, "duckdb").select("id = 1") == [1]


def test_a_copied_process() -> None:
    """A fork of this process has processes of its own: the two can't get each other's answers."""
    script = """
import os
from regdata.tables.conditions import Reader
from tests.support.rows import Rows
reader = Reader(Rows(images=[{"tag_name": "x"}, {"tag_name": "y"}]), "duckdb")
reader.select("1=1")
child = os.fork()
for _ in range(20):
    assert reader.select("id = 1" if child else "id = 2") == [1 if child else 2]
assert not child or os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


ROOT = Path(__file__).parents[2]
READING = """
import sys
from regdata.tables.conditions import Reader
from tests.support.rows import Rows
reader = Reader(Rows(images=[{"tag_name": "x"}]), sys.argv[1])
reader.select("1=1")
print("reading", flush=True)
reader.select(sys.argv[2])
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("engine", "condition"), [("duckdb", ENDLESS), ("sqlite", DEAF)])
def test_nothing_is_left_running(engine: Engine, condition: str, sent: signal.Signals) -> None:
    """However the process ends that has a condition read, by Ctrl-C or at once, what reads it ends with it."""
    command = [sys.executable, "-c", READING, engine, condition]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as reading:
        assert reading.stdout
        assert reading.stdout.readline() == b"reading\n"
        [worker] = workers(reading.pid)
        time.sleep(0.3)
        os.killpg(reading.pid, sent) if sent == signal.SIGINT else reading.send_signal(sent)
        assert reading.wait() != 0
    until(lambda: not Path(f"/proc/{worker}").exists())


@both_engines
def test_nothing_is_left_of_a_reader(engine: Engine) -> None:
    """A reader that was forgotten takes its process with it; one that was closed leaves it for the next."""
    end_spare()
    reader = Reader(ROWS, engine)
    reader.select("1=1")
    [worker] = workers()
    del reader
    until(lambda: not Path(f"/proc/{worker}").exists())
    for _ in range(3):
        with closing(Reader(Rows(), engine)) as reader:
            reader.select("1=1")
            kept = workers()
        assert workers() == kept


# What the system says of processes


def workers(pid: int | None = None) -> list[int]:
    """The processes that read conditions for a process, this one unless given."""
    found = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        with suppress(OSError):  # threads come and go
            found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if "regdata.tables.worker" in said(child, "cmdline")]


def end_spare() -> None:
    """Ends all that read conditions for this process: those that wait for an inventory, too."""
    ended = workers()
    for worker in ended:
        os.kill(worker, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in ended))


def said(pid: int, what: str) -> str:
    """A file of /proc; empty for a process that is no more."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_text()
    return ""


def memory(pid: int) -> int:
    """The most bytes that a process had; 0 for one that is no more."""
    peak = said(pid, "status").partition("VmHWM:")[2].split()
    return int(peak[0]) * 1024 if peak else 0


@contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """What gives the most memory that any process had which reads conditions for this one."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most.append(max([0, *(memory(worker) for worker in workers())]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(most)
    finally:
        done.set()
        watcher.join()


def until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")
