"""Inventory -> DuckDB or SQLite tables, and conditions over them.

A condition is the text of a WHERE clause over ``images``. It is read on a throwaway, locked, in-memory copy: it can't
write, read a file, or run for longer than ``TIME_LIMIT`` seconds, and only the ids that it selects are taken back.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, Protocol

import duckdb
import pandas as pd
import pyarrow as pa
import sqlglot

from regdata.errors import ConditionError

if TYPE_CHECKING:
    from regdata.inventory import Inventory

Engine = Literal["duckdb", "sqlite"]

TIME_LIMIT = 30.0

# The user's tables and columns, in the user's order; INTEGER is 64 bits wide in both engines.
TABLES: dict[str, dict[str, str]] = {
    "images": {
        "id": "INTEGER PRIMARY KEY",
        "image_name": "TEXT",
        "tag_name": "TEXT",
        "tag_timestamp": "INTEGER",
        "tag_hash": "TEXT",
        "tag_size": "INTEGER",
        "image_tag": "TEXT",
        "created": "INTEGER",
        "pushed": "INTEGER",
        "age_days": "REAL",
        "newest_rank": "INTEGER",
        "kind": "TEXT",
        "media_type": "TEXT",
        "platforms": "TEXT",
        "exclusive_size": "INTEGER",
        "shared_tags": "INTEGER",
        "error": "TEXT",
    },
    "relations": {
        "id": "INTEGER PRIMARY KEY",
        "image_name": "TEXT",
        "tag_name": "TEXT",
        "blob_hash": "TEXT",
        "blob_kind": "TEXT",
    },
    "blobs": {
        "id": "INTEGER PRIMARY KEY",
        "blob_hash": "TEXT",
        "blob_size": "INTEGER",
        "blob_date": "INTEGER",
    },
    "manifests": {
        "image_name": "TEXT",
        "manifest_hash": "TEXT",
        "media_type": "TEXT",
        "manifest_size": "INTEGER",
        "subject_hash": "TEXT",
        "pushed": "INTEGER",
        "tagged": "BOOLEAN",
        "orphan": "BOOLEAN",
        "kind": "TEXT",
        "created": "INTEGER",
        "platform": "TEXT",
        "error": "TEXT",
    },
    "references": {
        "manifest_hash": "TEXT",
        "reference_hash": "TEXT",
        "reference_kind": "TEXT",
        "reference_size": "INTEGER",
        "media_type": "TEXT",
        "platform": "TEXT",
    },
}

# Given at connect; locked before a condition is read, so that it can't unlock them.
_LOCKED: dict[str, Any] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "allow_community_extensions": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "temp_directory": "",
}


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config=_LOCKED)
    # A local setting, which can't be given at connect; in a notebook it would draw into the report.
    connection.execute("SET enable_progress_bar = false; SET lock_configuration = true")
    return connection


def workspace(**frames: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB that sees ``frames`` as views of the same names."""
    connection = _connect()
    for name, frame in frames.items():
        connection.register(name, frame)
    return connection


def run_file(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Runs one of the package's .sql files."""
    connection.execute(sql_text(name))


def sql_text(name: str) -> str:
    """The text of one of the package's .sql files, for a notebook to show."""
    return resources.files("regdata").joinpath(name).read_text("utf-8")


def frame(connection: duckdb.DuckDBPyConnection, query: str) -> pd.DataFrame:
    """The result of ``query``; integers are Int64 (they may be unknown), text is str."""
    table = connection.sql(query).to_arrow_table()
    types = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int64Dtype()}
    return table.to_pandas(types_mapper=types.get)


def connect_duckdb(inventory: Inventory, tables: Iterable[str] = TABLES) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB that holds the inventory's tables, or those of them that are named."""
    connection = _connect()
    for name in tables:
        kinds = {
            column: kind.replace("INTEGER", "BIGINT").replace("REAL", "DOUBLE") for column, kind in TABLES[name].items()
        }
        connection.register("incoming", inventory.frame(name))
        connection.execute(f'{_create(name, kinds)}; INSERT INTO "{name}" SELECT {_columns(name)} FROM incoming')
        connection.unregister("incoming")
    return connection


def connect_sqlite(inventory: Inventory, tables: Iterable[str] = TABLES) -> sqlite3.Connection:
    """An in-memory SQLite that holds the inventory's tables, or those of them that are named; it can only be read."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    for name in tables:
        connection.execute(_create(name, TABLES[name]))
        source = inventory.frame(name)
        rows = zip(
            *(source[column].astype(object).where(source[column].notna(), None) for column in TABLES[name]),
            strict=True,
        )
        connection.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(TABLES[name]))})', rows)
    connection.commit()
    connection.execute("PRAGMA query_only = 1")
    connection.set_authorizer(_only_reads)
    return connection


def select(inventory: Inventory, condition: str, *, engine: Engine, name: str = "condition") -> list[int]:
    """The ids of the rows of ``images`` for which ``condition`` is true.

    Raises ConditionError, which shows the condition under ``name``, what the engine says and the columns there are.
    """
    mentioned = [table for table in TABLES if table == "images" or re.search(rf"\b{table}\b", condition, re.IGNORECASE)]
    try:
        if engine == "duckdb":
            return _select_duckdb(connect_duckdb(inventory, mentioned), condition)
        return _select_sqlite(connect_sqlite(inventory, mentioned), condition)
    except _Refused as error:
        raise ConditionError(f"{name} {condition.strip()!r} {error}") from None
    except (duckdb.Error, sqlite3.Error, sqlglot.errors.SqlglotError) as error:
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[0]
        if "interrupt" in said.lower():
            said = f"it took more than {TIME_LIMIT:.0f} s and was stopped"
        columns = ", ".join(TABLES["images"])
        raise ConditionError(
            f"{name} {condition.strip()!r}, read by {engine}: {said.rstrip('!.')}. Columns of images: {columns}"
        ) from None


class _Refused(Exception):
    """Why a condition that the engine would run is not run."""


_NOT_BOOLEAN = _Refused("is not BOOLEAN: it must be true or false for a row, such as tag_name = 'x' or age_days > 90")


def _select_duckdb(connection: duckdb.DuckDBPyConnection, condition: str) -> list[int]:
    with connection, _deadline(connection):
        # Without this, 1 or 'yes' would match every row.
        if [str(kind) for kind in connection.sql(f"SELECT (\n{condition}\n) FROM images").types] != ["BOOLEAN"]:
            raise _NOT_BOOLEAN
        _check_operands(_parse(condition, "duckdb"))
        rows = connection.execute(f"SELECT id FROM images WHERE (\n{condition}\n) ORDER BY id").fetchall()
    return [row[0] for row in rows]


def _select_sqlite(connection: sqlite3.Connection, condition: str) -> list[int]:
    with closing(connection), _deadline(connection):
        rows = connection.execute(f"SELECT id FROM images WHERE (\n{condition}\n) ORDER BY id").fetchall()
        parsed = _parse(condition, "sqlite")
        # SQLite has no BOOLEAN type to ask for, so the expression's own form must be one.
        if not isinstance(
            parsed,
            sqlglot.exp.Predicate | sqlglot.exp.Connector | sqlglot.exp.Not | sqlglot.exp.Boolean,
        ):
            raise _NOT_BOOLEAN
        _check_operands(parsed)
        _check_quoted(parsed)
    return [row[0] for row in rows]


def _parse(condition: str, dialect: Engine) -> sqlglot.exp.Expression:
    (statement,) = sqlglot.parse(f"SELECT 1 FROM images WHERE (\n{condition}\n)", read=dialect)
    return statement.args["where"].this.unnest()  # type: ignore[union-attr,no-any-return]


def _check_operands(parsed: sqlglot.exp.Expression) -> None:
    """Refuses ``tag_name = 'a' or 'yes'``: both engines would take the bare value for true."""
    for operator in parsed.find_all(sqlglot.exp.Connector, sqlglot.exp.Not):
        for operand in operator.iter_expressions():
            if isinstance(operand.unnest(), sqlglot.exp.Literal):
                raise _Refused(
                    f"is not BOOLEAN: {operand.sql()} stands alone beside AND, OR or NOT; did you mean a comparison?"
                )


def _check_quoted(parsed: sqlglot.exp.Expression) -> None:
    """Refuses "unknown" = 'x': SQLite would silently read the unknown name as a string."""
    known = {column for columns in TABLES.values() for column in columns} | {
        alias.alias for alias in parsed.find_all(sqlglot.exp.Alias)
    }
    for column in parsed.find_all(sqlglot.exp.Column):
        if column.this.quoted and column.name.lower() not in known:
            raise _Refused(
                f'names a column "{column.name}" that does not exist. Text goes in single quotes. Columns of images: {", ".join(TABLES["images"])}'
            )


class _Interruptible(Protocol):
    def interrupt(self) -> None: ...


@contextmanager
def _deadline(connection: _Interruptible) -> Iterator[None]:
    timer = threading.Timer(TIME_LIMIT, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _only_reads(action: int, *_: str | None) -> int:
    allowed = {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _create(name: str, kinds: dict[str, str]) -> str:
    return f'CREATE TABLE "{name}" ({", ".join(f"{column} {kind}" for column, kind in kinds.items())})'


def _columns(name: str) -> str:
    return ", ".join(TABLES[name])
