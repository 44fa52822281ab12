"""Locked in-memory DuckDBs over frames: the package's .sql files are run in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

# Given at connect; locked before a condition is read, so that it can't unlock them.
_LOCKED: dict[str, Any] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "allow_community_extensions": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "temp_directory": "",
}


def connect() -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB."""
    connection = duckdb.connect(config=_LOCKED)
    # A local setting, which can't be given at connect; in a notebook it would draw into the report.
    connection.execute("SET enable_progress_bar = false; SET lock_configuration = true")
    return connection


def workspace(**frames: pd.DataFrame | pa.Table) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB that sees ``frames`` as views of the same names."""
    connection = connect()
    for name, frame in frames.items():
        connection.register(name, frame)
    return connection


def run_file(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Runs one of the package's .sql files, such as planning/plan.sql."""
    connection.execute(sql_text(name))


def sql_text(name: str) -> str:
    """The text of one of the package's .sql files, for a notebook to show."""
    return resources.files("regdata").joinpath(name).read_text("utf-8")


def frame(connection: duckdb.DuckDBPyConnection, query: str) -> pd.DataFrame:
    """The result of ``query``; integers are Int64 (they may be unknown), text is str."""
    return to_frame(connection.sql(query).to_arrow_table())


def to_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a frame, see `frame`."""
    types = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int64Dtype()}
    result: pd.DataFrame = table.to_pandas(types_mapper=types.get)
    return result


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
