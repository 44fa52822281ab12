"""A condition over the tables -> the ids that it selects.

A condition is the text of a WHERE clause over ``images``. It is read on a locked in-memory copy that it can't change:
it can't write, read a file or run for longer than ``TIME_LIMIT`` seconds, and only the ids that it selects are taken
back.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

import duckdb
import pandas as pd
import sqlglot

from regdata.errors import ConditionError
from regdata.tables.functions import SQLITE, duckdb_returns
from regdata.tables.parsing import Refused, bracketed, parse
from regdata.tables.schema import TABLES, Engine, Tables, load_duckdb, load_sqlite
from regdata.tables.types import NOT_BOOLEAN, check
from regdata.tables.values import DuckDB, Rules, SQLite
from regdata.tables.workspace import connect, frame, rolled_back

TIME_LIMIT = 30.0


def select(tables: Tables, condition: str, *, engine: Engine, name: str = "condition") -> list[int]:
    """The ids of the rows of ``images`` for which ``condition`` is true, read on a throwaway copy: see Reader."""
    with closing(Reader(tables, engine)) as reader:
        return reader.select(condition, name=name)


class Reader:
    """Reads conditions over the tables of an inventory in one engine; a table is loaded when it is first mentioned.

    What is read can't change the tables: SQLite is set to allow nothing but reading, and DuckDB gets one query at a
    time, in a transaction that is rolled back. Not for several threads at once, but for ``interrupt``.
    """

    def __init__(self, tables: Tables, engine: Engine) -> None:
        self.engine = engine
        self._tables = tables
        self._loaded: set[str] = set()
        self._connection: duckdb.DuckDBPyConnection | sqlite3.Connection = (
            connect() if engine == "duckdb" else sqlite3.connect(":memory:", check_same_thread=False)
        )
        self._rules: Rules = (
            SQLite(SQLITE)
            if isinstance(self._connection, sqlite3.Connection)
            else DuckDB(duckdb_returns(self._connection))
        )

    def select(self, condition: str, *, name: str = "condition", limit: float | None = None) -> list[int]:
        """The ids of the rows of ``images`` for which ``condition`` is true, read in ``limit`` or TIME_LIMIT seconds.

        Raises ConditionError, which shows the condition under ``name``, what the engine says and the columns there are.
        """
        seconds = limit or TIME_LIMIT
        with self._reading(f"{name} {condition.strip()!r}", condition, seconds, ["images", *_mentioned(condition)]):
            if isinstance(self._connection, sqlite3.Connection):
                return _select_sqlite(self._connection, self._rules, condition)
            return _select_duckdb(self._connection, self._rules, condition)

    def query(self, sql: str) -> pd.DataFrame:
        """What a query over the tables gives; in DuckDB only. Raises ConditionError."""
        assert not isinstance(self._connection, sqlite3.Connection)
        with self._reading("the query", sql, TIME_LIMIT, _mentioned(sql) or TABLES):
            _check_single(self._connection, sql)
            with rolled_back(self._connection):
                return frame(self._connection, sql)

    def interrupt(self) -> None:
        """Stops what another thread is reading: it gets a ConditionError."""
        self._connection.interrupt()

    def close(self) -> None:
        """Frees the tables."""
        self._connection.close()

    @contextmanager
    def _reading(self, what: str, sql: str, limit: float, names: Iterable[str]) -> Iterator[None]:
        with _explained(what, sql, self.engine, limit):
            for name in names:
                self._load(name)
            with _deadline(self._connection, limit):
                yield

    def _load(self, name: str) -> None:
        if name in self._loaded:
            return
        if isinstance(self._connection, sqlite3.Connection):
            load_sqlite(self._connection, self._tables, name)
        else:
            load_duckdb(self._connection, self._tables, name)
        self._loaded.add(name)


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
        if engine not in self._readers:
            self._readers[engine] = Reader(self._tables, engine)
        return self._readers[engine]


def _mentioned(sql: str) -> list[str]:
    return [table for table in TABLES if re.search(rf"\b{table}\b", sql, re.IGNORECASE)]


@contextmanager
def _explained(what: str, sql: str, engine: Engine, limit: float) -> Iterator[None]:
    """Why ``sql`` can't be read, as a ConditionError of one line."""
    try:
        sql.encode()
        yield
    except UnicodeEncodeError:
        raise ConditionError(f"{what} holds half a character, which no text can: type it again") from None
    except Refused as error:
        raise ConditionError(f"{what} {error}") from None
    except RecursionError:
        name = what.split()[0]
        raise ConditionError(
            f"{name} of {len(sql)} characters is nested too deeply: write it with fewer parentheses"
        ) from None
    except (duckdb.Error, sqlite3.Error, sqlglot.errors.SqlglotError) as error:
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[0].rstrip("!.")
        if isinstance(error, duckdb.InterruptException) or said == "interrupted":
            said = f"it took more than {limit:g} s and was stopped"
        if said.startswith("no such column") and '"' in sql:
            said += ". Text goes in single quotes"
        columns = ", ".join(TABLES["images"])
        raise ConditionError(f"{what}, read by {engine}: {said}. Columns of images: {columns}") from None


def _select_duckdb(connection: duckdb.DuckDBPyConnection, rules: Rules, condition: str) -> list[int]:
    query = f"SELECT id FROM images WHERE (\n{condition}\n) ORDER BY id"
    _check_single(connection, query)
    _check_single(connection, f"SELECT (\n{condition}\n) FROM images")
    # Without this, 1 or 'yes' would match every row.
    if [str(kind) for kind in connection.sql(f"SELECT (\n{condition}\n) FROM images").types] != ["BOOLEAN"]:
        raise NOT_BOOLEAN
    check(parse(condition, "duckdb"), rules, lambda text: False)
    with rolled_back(connection):
        return [row[0] for row in connection.execute(query).fetchall()]


def _check_single(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuses what is not one query: another statement could end the transaction that is to be rolled back."""
    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if len(kinds) != 1 or kinds[0] not in _QUERIES:
        raise Refused("is not one query: it must be a single SELECT, which can only read")


_QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def _select_sqlite(connection: sqlite3.Connection, rules: Rules, condition: str) -> list[int]:
    query = f"SELECT id FROM images WHERE (\n{bracketed(condition)}\n) ORDER BY id"
    connection.execute(f"EXPLAIN {query}")  # an error of its own says more than what follows
    check(parse(condition, "sqlite"), rules, lambda text: _reads_as_number(connection, text))
    return [row[0] for row in connection.execute(query)]


def _reads_as_number(connection: sqlite3.Connection, expression: str) -> bool:
    """Whether SQLite finds it at most infinite when it is compared with a number: no text that stays one is."""
    try:
        [[found]] = connection.execute(f"SELECT CAST(9e999 AS REAL) >= ({expression})")
    except sqlite3.Error:
        return False
    return bool(found != 0)


class _Interruptible(Protocol):
    def interrupt(self) -> None: ...


@contextmanager
def _deadline(connection: _Interruptible, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
