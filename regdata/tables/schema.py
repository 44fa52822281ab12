"""The tables that people query: their columns, and how DuckDB and SQLite get them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import duckdb
import pyarrow as pa

from regdata.tables.workspace import connect

Engine = Literal["duckdb", "sqlite"]

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


def to_duckdb(tables: Tables) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB that holds the tables."""
    connection = connect()
    for name in TABLES:
        load_duckdb(connection, tables, name)
    return connection


def to_sqlite(tables: Tables) -> sqlite3.Connection:
    """An in-memory SQLite that holds the tables; it can only be read."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    for name in TABLES:
        load_sqlite(connection, tables, name)
    return connection


def load_duckdb(connection: duckdb.DuckDBPyConnection, tables: Tables, name: str) -> None:
    """Puts the table of this name into ``connection``."""
    kinds = {
        column: kind.replace("INTEGER", "BIGINT").replace("REAL", "DOUBLE") for column, kind in TABLES[name].items()
    }
    with _whole(connection, name):
        connection.execute(_create(name, kinds))
        for rows in tables.batches(name):
            connection.register("incoming", rows)
            connection.execute(f'INSERT INTO "{name}" SELECT {_columns(name)} FROM incoming')
            connection.unregister("incoming")


def load_sqlite(connection: sqlite3.Connection, tables: Tables, name: str) -> None:
    """Puts the table of this name into ``connection``, which then can only be read."""
    connection.set_authorizer(None)
    connection.execute("PRAGMA query_only = 0")
    insert = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(TABLES[name]))})'
    try:
        with _whole(connection, name):
            connection.execute(_create(name, TABLES[name]))
            for rows in tables.batches(name):
                for batch in rows.to_batches(_BATCH):
                    columns = (batch[column].to_pylist() for column in TABLES[name])
                    connection.executemany(insert, zip(*columns, strict=True))
    finally:
        connection.commit()
        connection.execute("PRAGMA query_only = 1")
        connection.set_authorizer(_only_reads)


@contextmanager
def _whole(connection: duckdb.DuckDBPyConnection | sqlite3.Connection, name: str) -> Iterator[None]:
    """The whole table, or none when this is interrupted."""
    try:
        yield
    except BaseException:
        connection.execute(f'DROP TABLE IF EXISTS "{name}"')
        raise


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
