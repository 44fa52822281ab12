"""The processes that read conditions: each is one that can be ended, and is kept for the next inventory.

Not multiprocessing's: see regdata.sources.processes. They end when this process does, however that comes about, since
their end of the socket closes.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from regdata.errors import ConditionError

MORE, END = b"+", b""  # before each part of an answer and after the last; END after a table, too
GRACE = 1.0  # seconds in which a process that is interrupted must have stopped, before it is ended
SPARE = 2  # processes that are kept: for one reader in each engine


class Stopped(Exception):
    """What was asked for took too long, or another thread stopped it."""


class Ended(Exception):
    """The process ended by itself; the text says how."""


class TooMuch(Exception):
    """The answer is larger than its asker takes."""


class Worker:
    """A process, see regdata.tables.worker. For one thread at a time, but for ``stop``."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        with theirs:
            self._process = _start(theirs.fileno())
        # Seen to as soon as it ends: a kernel that shuts down waits for its children, also for those that are gone.
        threading.Thread(target=self._process.wait, daemon=True).start()
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._question = 0  # which may be stopped; 0: none
        self._stopping = False
        self._asked = itertools.count(1)
        self.end = weakref.finalize(self, _end, self._owner, self._process, self._connection)

    @property
    def usable(self) -> bool:
        # Between two questions it says nothing: what can be read is the end that it came to.
        return self.end.alive and self._owner == os.getpid() and not self._connection.poll()

    def ask(
        self,
        order: dict[str, Any],
        sent: Iterable[bytes | pa.Buffer] = (),
        *,
        limit: float | None = None,
        most: int | None = None,
    ) -> list[bytes]:
        """The parts of the answer to ``order`` and what is ``sent`` with it.

        After ``limit`` seconds it is stopped. Raises ConditionError, Stopped and Ended; after these two, and where
        anything else interrupts it, the process may be gone.
        """
        while True:
            with self._asking(limit):
                for part in (json.dumps(order).encode(), *sent):
                    self._connection.send_bytes(part)
                parts = list(self._parts(most))
                outcome = json.loads(self._connection.recv_bytes())
            if outcome["spent"]:
                self.end()
            if outcome.get("refused"):
                raise ConditionError(*outcome["refused"])
            if not outcome.get("interrupted"):
                return parts
            if self._stopping or outcome["spent"]:
                raise Stopped

    def stop(self) -> None:
        """Interrupts what is read, and ends the process where that doesn't help."""
        with self._lock:
            if self._question and not self._stopping:
                self._stopping = True
                self._process.send_signal(signal.SIGUSR1)
                _later(GRACE, self._give_up, self._question)

    def _give_up(self, question: int) -> None:
        with self._lock:
            if self._question == question:
                self._process.kill()

    def _parts(self, most: int | None) -> Iterator[bytes]:
        size = 0
        while self._connection.recv_bytes() == MORE:
            part = self._connection.recv_bytes()
            size += len(part)
            if most is not None and size > most:
                raise TooMuch
            yield part

    @contextmanager
    def _asking(self, limit: float | None) -> Iterator[None]:
        with self._lock:
            self._question, self._stopping = next(self._asked) if limit is not None else 0, False
        timer = _later(limit, self.stop) if limit is not None else None
        try:
            yield
        except (EOFError, ConnectionError):
            how = self._how()
            self.end()
            raise (Stopped() if self._stopping else Ended(how)) from None
        except BaseException:
            self.end()
            raise
        finally:
            with self._lock:
                self._question = 0
            if timer:
                timer.cancel()

    def _how(self) -> str:
        """How the process ended, and the last that it said."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        assert self._process.stderr
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return ": ".join([f"exit code {code}" if code >= 0 else f"signal {-code}", *said])


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        return subprocess.Popen(
            # -P: a file of the working folder is not to be taken for a module.
            [sys.executable, "-P", "-m", "regdata.tables.worker", str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[descriptor],
            # Arrow's own allocator would take a gigabyte of addresses at once, which is beyond the process's bound.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
    except OSError as error:
        raise ConditionError(
            f"no process that reads conditions can be started: {error.strerror}: {sys.executable}. See whether memory "
            "or the number of processes is short, then try again"
        ) from None


def _end(owner: int, process: subprocess.Popen[bytes], connection: Connection) -> None:
    if owner != os.getpid():  # a copy of the process that has started it
        return
    process.kill()
    process.wait()
    connection.close()
    assert process.stderr
    process.stderr.close()


def _later(seconds: float, what: Callable[..., None], *arguments: int) -> threading.Timer:
    timer = threading.Timer(seconds, what, arguments)
    timer.daemon = True
    timer.start()
    return timer


_EMPTY = {"do": "close"}
_spare: list[Worker] = []


def prepare() -> None:
    """Starts a process for the next who takes one: it is ready when a scan is."""
    _spare[:] = [worker for worker in _spare if worker.usable] or [Worker()]


def release() -> None:
    """Ends the processes that wait for the next one who takes them."""
    while _spare:
        _spare.pop().end()


def take() -> Worker:
    """A process that holds no tables."""
    while _spare:
        worker = _spare.pop()
        if worker.usable:
            with suppress(Ended):
                worker.ask(_EMPTY)  # it answers
                return worker
    return Worker()


def give_back(worker: Worker) -> None:
    """Keeps a process for others, where it is as good as new."""
    with suppress(Ended):
        worker.ask(_EMPTY)
    if worker.usable:
        _spare.append(worker)
    if len(_spare) > SPARE:
        _spare.pop(0).end()


def streamed(rows: pa.Table | pa.RecordBatch) -> pa.Buffer:
    """Rows, ready to be sent."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write(rows)
    return sink.getvalue()
