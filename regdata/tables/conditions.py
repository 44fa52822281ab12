"""A condition over the tables -> the ids that it selects.

A condition is the text of a WHERE clause over ``images``. It is read on a locked in-memory copy that it can't change:
it can't write, read a file or run for longer than ``TIME_LIMIT`` seconds, and only the ids that it selects are taken
back.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pandas as pd
import pyarrow as pa

from regdata.errors import ConditionError, ConfigError
from regdata.show.words import shorten
from regdata.tables import process
from regdata.tables.process import END, streamed
from regdata.tables.schema import ENGINES, TABLES, Engine, Tables, mentioned
from regdata.tables.workspace import to_frame

MB = 1_000_000
LARGEST = 500 * MB  # what a query may give
_BATCH = 100_000
TIME_LIMIT = 30.0
SHOWN = 1000  # characters of a condition in a message


def select(tables: Tables, condition: str, *, engine: Engine, name: str = "condition") -> list[int]:
    """The ids of the rows of ``images`` for which ``condition`` is true, read on a throwaway copy: see Reader."""
    with closing(Reader(tables, engine)) as reader:
        return reader.select(condition, name=name)


class Reader:
    """Reads conditions over the tables of an inventory in one engine, in a process of its own.

    That gets a table when it is first mentioned; what it reads can't change the tables, nor take more than a bound of
    memory or of time: then the process is ended, and the next condition starts another. Not for several threads at
    once, but for ``interrupt``.
    """

    def __init__(self, tables: Tables, engine: Engine) -> None:
        self.engine = engine
        self._tables = tables
        self._worker: process.Worker | None = None
        self._loaded: set[str] = set()

    def select(self, condition: str, *, name: str = "condition", limit: float | None = None) -> list[int]:
        """The ids of the rows of ``images`` for which ``condition`` is true, read in ``limit`` or TIME_LIMIT seconds.

        Raises ConditionError, which shows the condition under ``name``, what the engine says and the columns there are.
        """
        what = f"{name} {shorten(repr(_text(name, condition).strip()), SHOWN)}"
        order = {"do": "select", "what": what, "condition": condition, "engine": self.engine}
        ids = array("q")
        for part in self._ask(order, {"images", *mentioned(condition)}, limit or TIME_LIMIT):
            ids.frombytes(part)
        return ids.tolist()

    def query(self, sql: str) -> pd.DataFrame:
        """What a query over the tables gives; in DuckDB only. Raises ConditionError."""
        mentions = mentioned(_text("the query", sql))
        parts = self._ask({"do": "query", "what": "the query", "sql": sql}, set(mentions or TABLES), TIME_LIMIT)
        return to_frame(pa.concat_tables(pa.ipc.open_stream(part).read_all() for part in parts))

    def interrupt(self) -> None:
        """Stops what another thread is reading: it gets a ConditionError."""
        worker = self._worker
        if worker:
            worker.stop()

    def close(self) -> None:
        """Frees the tables."""
        worker, self._worker = self._worker, None
        if worker and worker.usable:
            process.give_back(worker)

    def _ask(self, order: dict[str, Any], tables: set[str], limit: float) -> list[bytes]:
        worker = self._opened(tables)
        try:
            return worker.ask(order, limit=limit, most=LARGEST)
        except process.Stopped:
            said = f"it took more than {limit:g} s and was stopped"
        except process.TooMuch:
            said = f"it gives more than {LARGEST // MB} MB: ask for less, or ask to_duckdb()"
        except process.Ended as how:
            said = f"the process that read it ended early ({how}), which may be for want of memory: let it look at less"
        raise ConditionError(f"{order['what']}, read by {self.engine}: {said}", said)

    def _opened(self, tables: set[str]) -> process.Worker:
        """The process, with these tables in it."""
        worker, self._worker = self._worker, None
        if not worker or not worker.usable:
            worker, self._loaded = process.take(), set()
        if not tables <= self._loaded:
            self._fill(worker, tables | self._loaded)
        self._worker = worker
        return worker

    def _fill(self, worker: process.Worker, tables: set[str]) -> None:
        try:
            worker.ask({"do": "open", "engine": self.engine, "tables": sorted(tables)}, self._sent(sorted(tables)))
        except process.Ended as how:
            raise ConditionError(
                f"the process that reads conditions ended at its start ({how}): see whether memory is short, then try "
                "again"
            ) from None
        self._loaded = tables

    def _sent(self, tables: Iterable[str]) -> Iterator[bytes | pa.Buffer]:
        for name in tables:
            for rows in self._tables.batches(name):
                yield from (streamed(batch) for batch in rows.to_batches(_BATCH))
            yield END


def _text(name: str, given: object) -> str:
    if not isinstance(given, str):
        raise ConditionError(f"{name} is {given!r} ({type(given).__name__}), but must be a text in SQL")
    return given


class Readers:
    """Reads conditions over an inventory's tables in either engine. Threads take turns, but for ``interrupt``."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._readers: dict[Engine, Reader] = {}
        self._lock = threading.Lock()

    def select(
        self, condition: str, *, engine: Engine, name: str = "condition", limit: float | None = None
    ) -> list[int]:
        """The ids of the rows of ``images`` that ``condition`` selects: see Reader.select."""
        with self._lock:
            return self._reader(engine).select(condition, name=name, limit=limit)

    def query(self, sql: str) -> pd.DataFrame:
        """What a query over the tables gives; DuckDB reads it. Raises ConditionError."""
        with self._lock:
            return self._reader("duckdb").query(sql)

    def interrupt(self) -> None:
        """Stops the condition that another thread is reading: it gets a ConditionError."""
        for reader in list(self._readers.values()):
            reader.interrupt()

    def close(self) -> None:
        """Frees the tables."""
        for reader in self._readers.values():
            reader.close()

    def _reader(self, engine: Engine) -> Reader:
        if engine not in ENGINES:
            raise ConfigError(f"engine is {engine!r}, but must be {' or '.join(ENGINES)}")
        if engine not in self._readers:
            self._readers[engine] = Reader(self._tables, engine)
        return self._readers[engine]
