"""What holds what in a registry: the tables of numbers.sql, reach.sql and held.sql, in a DuckDB of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa

from regdata.inventory.once import Once
from regdata.inventory.references import References
from regdata.tables.locked import committed, rolled_back
from regdata.tables.workspace import run_file, workspace

# How old an orphan must be to go, in seconds: a push in flight writes children before their index.
GRACE = 2 * 3600


class Collector(NamedTuple):
    """Who collects: regdata itself (``own``) or the registry's own command; whether manifests' bytes go, too; for how
    many days what was collected is kept; whether all is seen that may need a blob (``sees_all``)."""

    own: bool = False
    takes_manifests: bool = True
    keeps_days: float = 0
    sees_all: bool = True


REGISTRY = Collector()

Table: TypeAlias = pd.DataFrame | pa.Table


class Graph:
    """Made once for an inventory; what one user of it does, no other sees. Threads take turns."""

    def __init__(
        self,
        references: References,
        *,
        tags: Table,
        manifests: Table,
        blobs: Table,
        oddities: Table,
        scanned_at: int,
        from_store: bool,
        collector: Collector,
    ) -> None:
        """``tags``: id, image_name, tag_name, tag_hash, error; the rest as in an inventory."""
        self._lock = threading.Lock()
        self._work = workspace(digest=references.digests)
        self._once = Once()
        setting = pa.table(
            {
                "scanned_at": [scanned_at],
                "grace": [GRACE],
                "from_store": [from_store],
                "own": [collector.own],
                "manifests_go": [collector.takes_manifests],
                "sees_all": [collector.sees_all],
            }
        )
        self.keep("inventory/numbers.sql", edge=references.resolved, tags=tags, manifests=manifests, oddities=oddities)
        self.keep("inventory/reach.sql", descriptor=references.descriptors, setting=setting)
        self.keep("inventory/held.sql", blobs=blobs, descriptor=references.descriptors, setting=setting)

    def keep(self, file: str, **tables: Table) -> None:
        """Runs one of the package's .sql files, unless it was run, over ``tables`` too; what it makes stays."""
        self._once(file, lambda: self._run(file, tables))

    @contextmanager
    def open(self, **tables: Table) -> Iterator[duckdb.DuckDBPyConnection]:
        """A workspace with ``tables``, too; what is made in it goes at the end."""
        with self._lock, self._seeing(tables), rolled_back(self._work):
            yield self._work

    def _run(self, file: str, tables: dict[str, Table]) -> None:
        with self._lock, self._seeing(tables), committed(self._work):
            run_file(self._work, file)

    @contextmanager
    def _seeing(self, tables: dict[str, Table]) -> Iterator[None]:
        for name, table in tables.items():
            self._work.register(name, table)
        try:
            yield
        finally:
            for name in tables:
                self._work.unregister(name)
