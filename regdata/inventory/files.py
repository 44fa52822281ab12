"""A census of a store's files, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from regdata.sources.census import COLUMNS

_NUMBERS = {"size", "date"}


def file_table(files: Mapping[str, Sequence[object]] | None) -> pa.Table:
    """kind, image_name, name, size, date, file, see `regdata.sources.census.Census`; no rows where there is none."""
    columns = files or {}
    types = {name: pa.int64() if name in _NUMBERS else pa.large_string() for name in COLUMNS}
    return pa.table({name: pa.array(columns.get(name, ()), type_) for name, type_ in types.items()})
