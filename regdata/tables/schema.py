"""The tables that people query: their columns, and how DuckDB and SQLite get them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol, get_args

import duckdb
import pyarrow as pa

from regdata.tables.locked import connect, lock

Engine = Literal["duckdb", "sqlite"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

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
        "labels": "TEXT",
        "tag_family": "TEXT",
        "family_rank": "INTEGER",
        "version_rank": "INTEGER",
        "is_prerelease": "BOOLEAN",
        "last_pulled": "INTEGER",
        "pulls_30d": "INTEGER",
        "pulls_total": "INTEGER",
        "idle_days": "REAL",
        "in_use": "BOOLEAN",
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
        "stored": "BOOLEAN",
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
        "labels": "TEXT",
    },
    "uses": {
        "image_name": "TEXT",
        "tag_name": "TEXT",
        "manifest_hash": "TEXT",
        "used_by": "TEXT",
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

_BATCH = 10_000


class Tables(Protocol):
    """What holds the rows of TABLES: an inventory."""

    def batches(self, name: str) -> Iterator[pa.Table]:
        """The rows of a table, those of a long one some at a time."""


def mentioned(sql: str) -> list[str]:
    """The tables that ``sql`` may read."""
    return [table for table in TABLES if re.search(rf"\b{table}\b", sql, re.IGNORECASE)]


def arrow_schema(name: str) -> pa.Schema:
    """The columns of a table of TABLES, as Arrow has them."""
    kinds = {"TEXT": pa.string(), "REAL": pa.float64(), "BOOLEAN": pa.bool_()}
    return pa.schema([(column, kinds.get(kind, pa.int64())) for column, kind in TABLES[name].items()])


def to_duckdb(tables: Tables) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB that holds the tables."""
    connection = connect()
    for name in TABLES:
        load_duckdb(connection, name, tables.batches(name))
    lock(connection)
    return connection


def to_sqlite(tables: Tables) -> sqlite3.Connection:
    """An in-memory SQLite that holds the tables; it can only be read."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    for name in TABLES:
        load_sqlite(connection, name, tables.batches(name))
    lock_sqlite(connection)
    return connection


def load_duckdb(connection: duckdb.DuckDBPyConnection, name: str, rows: Iterable[pa.Table]) -> None:
    """Puts the table of this name into ``connection``."""
    kinds = {
        column: kind.replace("INTEGER", "BIGINT").replace("REAL", "DOUBLE") for column, kind in TABLES[name].items()
    }
    connection.execute(_create(name, kinds))
    for some in rows:
        connection.register("incoming", some)
        connection.execute(f'INSERT INTO "{name}" SELECT {", ".join(TABLES[name])} FROM incoming')
        connection.unregister("incoming")


def load_sqlite(connection: sqlite3.Connection, name: str, rows: Iterable[pa.Table]) -> None:
    """Puts the table of this name into ``connection``."""
    connection.execute(_create(name, TABLES[name]))
    insert = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(TABLES[name]))})'
    for some in rows:
        for batch in some.to_batches(_BATCH):
            columns = (batch[column].to_pylist() for column in TABLES[name])
            connection.executemany(insert, zip(*columns, strict=True))
    connection.commit()


def lock_sqlite(connection: sqlite3.Connection) -> None:
    """From now on ``connection`` can only be read."""
    for function in ("json_each", "json_tree"):  # which are tables, and take more than reading when first used
        connection.execute(f"SELECT * FROM {function}('[]')")
    connection.execute("PRAGMA query_only = 1")
    connection.set_authorizer(_only_reads)


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
