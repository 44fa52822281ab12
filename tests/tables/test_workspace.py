"""Locked in-memory DuckDBs."""

from __future__ import annotations

import duckdb
import pytest

from regdata.tables.locked import committed, rolled_back
from regdata.tables.workspace import workspace


def test_committed_is_all_or_nothing() -> None:
    """What was stopped midway, as by Ctrl-C, leaves nothing, so that it can be done again; what was not leaves all."""
    work = workspace()
    with pytest.raises(KeyboardInterrupt):
        _stopped(work)
    with committed(work):
        work.execute("create table one as select 2 as n")
    assert work.execute("from one").fetchall() == [(2,)]


def test_rolled_back_leaves_nothing() -> None:
    """What is made in it goes at its end."""
    work = workspace()
    with rolled_back(work):
        work.execute("create table one as select 1 as n")
    assert work.execute("show tables").fetchall() == []


def _stopped(work: duckdb.DuckDBPyConnection) -> None:
    with committed(work):
        work.execute("create table one as select 1 as n")
        raise KeyboardInterrupt
