"""A few rows in the tables that conditions are about, without an inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from regdata.tables.schema import TABLES, arrow_schema


class Rows:
    """A regdata.tables.schema.Tables; a column that is not given is NULL, `id` counts from 1."""

    def __init__(self, **rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def batches(self, name: str) -> Iterator[pa.Table]:
        rows = [{"id": number} | dict(row) for number, row in enumerate(self._rows.get(name, []), 1)]
        yield pa.Table.from_pylist(
            [{column: row.get(column) for column in TABLES[name]} for row in rows], arrow_schema(name)
        )
