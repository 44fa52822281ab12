"""Reads conditions and queries in one engine, over tables that they can't change, within a bound of memory.

This runs in a process of its own, see worker.py: time is bounded by ending it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.errors import SqlglotError

from regdata.show.words import count
from regdata.tables.functions import SQLITE, duckdb_returns
from regdata.tables.locked import connect, lock, rolled_back
from regdata.tables.parsing import Refused, bracketed, parse
from regdata.tables.schema import Engine, load_duckdb, load_sqlite, lock_sqlite
from regdata.tables.types import NOT_BOOLEAN, NUMBER_OR_ELSE, check
from regdata.tables.values import DuckDB, SQLite, Value, reads_as_number

MEMORY = 400_000_000  # bytes that DuckDB may use beyond the tables
TEXT = 10_000_000  # bytes of a text in SQLite, which can't be interrupted while it makes one
_BATCH = 100_000


class DuckDBSession:
    """Tables in DuckDB, to be loaded, locked and read: one query at a time, in a transaction that is rolled back."""

    def __init__(self) -> None:
        self._connection = connect()

    def load(self, name: str, rows: Iterable[pa.Table]) -> None:
        """Puts the table of this name in."""
        load_duckdb(self._connection, name, rows)

    def lock(self) -> None:
        """What is read from now on changes nothing."""
        [[used]] = self._connection.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
        self._connection.execute(f"SET memory_limit = '{used + MEMORY}B'")
        lock(self._connection)

    def prepare(self, condition: str) -> str:
        """Raises Refused or the engine's error where ``condition`` can't be read; see `regdata.tables.types.check`."""
        self._check_single(_selecting(condition))
        self._check_single(f"SELECT (\n{condition}\n) FROM images")
        # Without this, 1 or 'yes' would match every row.
        kinds = self._connection.sql(f"SELECT (\n{condition}\n) FROM images").types
        if [str(kind) for kind in kinds] != ["BOOLEAN"]:
            raise NOT_BOOLEAN
        self._connection.sql(_selecting(condition))  # in WHERE not all may stand that may in SELECT
        return check(parse(condition, "duckdb"), DuckDB(_catalogue()), lambda text: False)

    def select(self, condition: str) -> list[int]:
        """The ids of the rows of ``images`` for which ``condition`` is true. See `prepare`."""
        self.prepare(condition)
        with rolled_back(self._connection):
            return [row[0] for row in self._connection.execute(_selecting(condition)).fetchall()]

    def query(self, sql: str) -> Iterator[pa.RecordBatch]:
        """What a query gives; an empty batch first, which tells the columns."""
        self._check_single(sql)
        with rolled_back(self._connection):
            found = self._connection.sql(sql).to_arrow_reader(_BATCH)
            yield pa.RecordBatch.from_pylist([], found.schema)
            yield from found

    def functions(self) -> set[str]:
        """The names of the functions that there are."""
        return {row[0] for row in self._connection.execute("SELECT function_name FROM duckdb_functions()").fetchall()}

    def interrupt(self) -> None:
        """Stops what another thread reads."""
        self._connection.interrupt()

    def close(self) -> None:
        """Frees the tables."""
        self._connection.close()

    def _check_single(self, sql: str) -> None:
        """Refuses what is not one query: another statement could end the transaction that is to be rolled back."""
        kinds = [statement.type for statement in self._connection.extract_statements(sql)]
        if len(kinds) != 1 or kinds[0] not in _QUERIES:
            raise Refused("is not one query: it must be a single SELECT, which can only read")


_QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@cache
def _catalogue() -> Callable[[str], Value | None]:
    return duckdb_returns(connect())


class SQLiteSession:
    """Tables in SQLite, to be loaded, locked and read: nothing but reading is allowed then."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute("PRAGMA temp_store = memory")  # no files
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TEXT)

    def load(self, name: str, rows: Iterable[pa.Table]) -> None:
        load_sqlite(self._connection, name, rows)

    def lock(self) -> None:
        lock_sqlite(self._connection)

    def prepare(self, condition: str) -> str:
        try:
            readable = bracketed(condition)
        except SqlglotError:
            self._connection.execute(f"EXPLAIN {_selecting(condition)}")  # SQLite says it better
            raise
        self._connection.execute(f"EXPLAIN {_selecting(readable)}")
        return check(parse(condition, "sqlite"), SQLite(SQLITE), self._reads_as_number)

    def select(self, condition: str) -> list[int]:
        doubted = self.prepare(condition)
        found = [row[0] for row in self._connection.execute(_selecting(bracketed(condition)))]
        if doubted and found:
            self._check_numbers(doubted, found)
        return found

    def _check_numbers(self, doubted: str, found: list[int]) -> None:
        """Raises Refused where rows are found only since SQLite makes a number of a text that is none: 0, or that with
        which it begins. Whatever else such a text counts as, they have to be found."""
        count_as = _CountAs()
        self._connection.create_function(NUMBER_OR_ELSE, 1, count_as)
        for instead in _INSTEAD:
            count_as.instead, count_as.met = instead, None
            kept = {row[0] for row in self._connection.execute(_selecting(doubted))}
            if count_as.met is None:
                return
            if lost := [one for one in found if one not in kept]:
                count_as.met = None
                self._connection.execute(f"SELECT id FROM images WHERE id = {lost[0]} AND (\n{doubted}\n)").fetchall()
                raise Refused(_no_number(count_as.met, len(lost)))

    def functions(self) -> set[str]:
        with closing(sqlite3.connect(":memory:")) as free:
            return {row[0] for row in free.execute("SELECT name FROM pragma_function_list")}

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    def _reads_as_number(self, expression: str) -> bool:
        """Whether SQLite finds it at most infinite when it is compared with a number: no text that stays one is."""
        try:
            [[found]] = self._connection.execute(f"SELECT CAST(9e999 AS REAL) >= ({expression})")
        except sqlite3.Error:
            return False
        return bool(found != 0)


# What a text that is no number counts as: unknown, more and less than all others.
_INSTEAD = (None, 10**15, -(10**15))


class _CountAs:
    """A function of SQLite: ``instead`` of a text that is no number, of which ``met`` is the first; or what it gets."""

    def __init__(self) -> None:
        self.instead: int | None = None
        self.met: str | None = None
        self._known: dict[str, bool] = {}

    def __call__(self, given: Any) -> Any:
        if not isinstance(given, str | bytes):
            return given
        said = given if isinstance(given, str) else given.decode(errors="replace")
        if said not in self._known:
            self._known[said] = reads_as_number(said) and "e" not in said.lower()  # 12e4 may be a commit, and is 12
        if self._known[said]:
            return given
        self.met = said if self.met is None else self.met
        return self.instead


def _no_number(met: str | None, lost: int) -> str:
    """https://sqlite.org/lang_expr.html#castexpr"""
    such = "" if met is None else f", such as {met!r}"
    takes = "the number that it begins with" if met and re.match(r"\s*[+-]?\.?\d", met) else "0"
    return (
        f"calculates with a text that is no number{such}, and SQLite finds {count(lost, 'tag')} only since it takes "
        f"such a text for {takes}. Leave it out, for example by … and tag_name not glob '*[^0-9]*', or cast the part "
        "that is a number"
    )


def _selecting(condition: str) -> str:
    return f"SELECT id FROM images WHERE (\n{condition}\n) ORDER BY id"


SESSIONS: dict[Engine, type[DuckDBSession] | type[SQLiteSession]] = {"duckdb": DuckDBSession, "sqlite": SQLiteSession}
