"""A process that reads conditions: it can be ended whatever it does, and has bounds of its own.

`python -m regdata.tables.worker FD` talks over a socket with process.Worker. Orders are JSON; a table's rows, and what
is given back, are Arrow streams. It ends when its starter's end of the socket closes, and ignores Ctrl-C, which is for
its starter.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any

import pyarrow as pa

from regdata.errors import ConditionError
from regdata.tables.explaining import Interrupted, explained
from regdata.tables.process import END, MORE, streamed
from regdata.tables.reading import SESSIONS, DuckDBSession, SQLiteSession

MB = 1_000_000
DATA = 500 * MB  # bytes that the process may take beyond the tables
KEPT = 200 * MB  # bytes that may stay with it after it was asked: with more it would soon meet its bound


class _Worker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._received: Queue[bytes] = Queue(maxsize=2)
        self._session: DuckDBSession | SQLiteSession | None = None
        self._fresh = self._base = _taken() or 0

    def receive(self) -> None:
        """Passes on what comes, to the end: so that the end is seen while something is read."""
        with suppress(EOFError, OSError):
            while True:
                self._received.put(self._connection.recv_bytes())
        os._exit(0)

    def interrupt(self, *_: object) -> None:
        """Stops what is read."""
        if self._session:
            self._session.interrupt()

    def work(self) -> None:
        """Does what is asked, one after the other."""
        try:
            while True:
                order = json.loads(self._received.get())
                outcome = self._outcome(order)
                self._connection.send_bytes(END)
                self._connection.send_bytes(json.dumps(outcome).encode())
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def _outcome(self, order: dict[str, Any]) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        try:
            getattr(self, f"_{order.pop('do')}")(**order)
        except ConditionError as error:
            outcome["refused"] = [str(error), error.said]
        except Interrupted:
            outcome["interrupted"] = True
        return outcome | {"spent": (_taken() or 0) > self._base + KEPT}

    def _open(self, engine: Any, tables: list[str]) -> None:
        if self._session:
            self._session.close()
        _bound(None)
        self._session = SESSIONS[engine]()
        for name in tables:
            self._session.load(name, self._rows())
        self._session.lock()
        self._base = _taken() or 0
        _bound(DATA)

    def _close(self) -> None:
        """Frees the tables."""
        if self._session:
            self._session.close()
            self._session = None
        self._base = self._fresh

    def _rows(self) -> Iterator[pa.Table]:
        while part := self._received.get():
            yield pa.ipc.open_stream(part).read_all()

    def _select(self, what: str, condition: str, engine: Any) -> None:
        assert self._session
        with explained(what, condition, engine, condition=True):
            self._give(array("q", self._session.select(condition)).tobytes())

    def _query(self, what: str, sql: str) -> None:
        assert isinstance(self._session, DuckDBSession)
        with explained(what, sql, "duckdb", condition=False):
            for batch in self._session.query(sql):
                self._give(streamed(batch))

    def _give(self, part: bytes | pa.Buffer) -> None:
        self._connection.send_bytes(MORE)
        self._connection.send_bytes(part)


def _taken() -> int | None:
    """The bytes of memory that the process has asked for; None where the system doesn't tell as Linux does."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.partition("VmData:")[2].split()[0]) * 1024


def _bound(more: int | None) -> None:
    """Lets the process take ``more`` bytes than it has, or as many as at its start."""
    taken, (_, most) = _taken(), resource.getrlimit(resource.RLIMIT_DATA)
    if more is None or taken is None:
        limit = most
    else:
        limit = taken + more if most == resource.RLIM_INFINITY else min(taken + more, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def main(descriptor: int) -> None:
    """Works for the process at the other end of the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))  # nothing that is read has a file to write
    worker = _Worker(Connection(descriptor))
    signal.signal(signal.SIGUSR1, worker.interrupt)
    threading.Thread(target=worker.work, daemon=True).start()
    worker.receive()


if __name__ == "__main__":
    main(int(sys.argv[1]))
