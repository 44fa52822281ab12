"""Locked in-memory DuckDBs over frames: the package's .sql files are run in them."""

from __future__ import annotations

from importlib import resources

import duckdb
import pandas as pd
import pyarrow as pa

from regdata.tables.locked import connect, lock


def workspace(**frames: pd.DataFrame | pa.Table) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB that sees ``frames`` as views of the same names."""
    connection = connect()
    lock(connection)
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
