"""In-memory DuckDBs that can't leave their process: no files, no extensions, no settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

_SETTINGS: dict[str, Any] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "allow_community_extensions": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "temp_directory": "",
}


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB, whose settings can still be changed until `lock`."""
    connection = duckdb.connect(config=_SETTINGS)
    # A local setting, which can't be given at connect; in a notebook it would draw into the report.
    connection.execute("SET enable_progress_bar = false")
    return connection


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """What is read from now on can't change a setting."""
    connection.execute("SET lock_configuration = true")


@contextmanager
def rolled_back(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction that leaves nothing behind."""
    connection.begin()
    try:
        yield connection
    finally:
        connection.rollback()


@contextmanager
def committed(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction that leaves all behind, or nothing when it is interrupted."""
    connection.begin()
    try:
        yield connection
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
