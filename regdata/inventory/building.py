"""A source's columns -> the frames of an inventory, and what holds what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regdata.inventory import families
from regdata.inventory.families import with_families
from regdata.inventory.graph import Collector, Graph
from regdata.inventory.references import References
from regdata.sources.columns import COLUMNS, Columns
from regdata.sources.dates import FIRST
from regdata.tables.schema import TABLES
from regdata.tables.workspace import frame, run_file, to_frame, workspace

INTEGERS = {"pushed", "manifest_size", "created", "reference_size", "blob_size", "blob_date"}
DATES = {"pushed", "created", "blob_date"}


class Earlier(Protocol):
    """What is needed of an earlier inventory."""

    @property
    def manifests(self) -> pd.DataFrame: ...
    @property
    def refers(self) -> References: ...


@dataclass(frozen=True)
class Built:
    """The frames of regdata.inventory.inventory.Inventory; ``graph`` is made from them."""

    images: pd.DataFrame
    manifests: pd.DataFrame
    refers: References
    blobs: pd.DataFrame
    repositories: pd.DataFrame
    oddities: pd.DataFrame
    graph: Graph


def build(
    read: dict[str, pa.Table], *, scanned_at: int, from_store: bool, since: Earlier | None, collector: Collector
) -> Built:
    """The frames of what a source read (see tables_of) by ``scanned_at``; ``since`` knows what it did not read again.

    Takes out of ``read`` what it needs no more.
    """
    if since:
        read |= _completed(read, since)
    setting = pa.table({"scanned_at": [scanned_at], "from_store": [from_store]})
    with workspace(**read, setting=setting) as work:
        refers = References.of(work)
        run_file(work, "inventory/blobs.sql")
        tags, manifests, numbered = (work.sql(query).to_arrow_table() for query in (_TAGS, _MANIFESTS, _BLOBS))
    for name in ("descriptors", "references", "blobs"):  # they are in ``refers`` and ``blobs`` now
        del read[f"read_{name}"]
    blobs = refers.named(numbered, "blob_hash").astype({"stored": "boolean"})
    oddities = read["read_oddities"]
    graph = Graph(
        refers,
        tags=tags,
        manifests=manifests,
        blobs=blobs,
        oddities=oddities,
        scanned_at=scanned_at,
        from_store=from_store,
        collector=collector,
    )
    graph.keep("inventory/parts.sql")
    with graph.open(**read, tags=tags, descriptor=refers.descriptors, numbered=numbered, setting=setting) as work:
        run_file(work, "inventory/inventory.sql")
        return Built(
            images=completed("images", frame(work, "from out_images order by id")),
            manifests=refers.named(work.sql(_OUT_MANIFESTS).to_arrow_table(), "manifest_hash"),
            refers=refers,
            blobs=blobs,
            repositories=frame(work, "from read_repositories order by image_name"),
            oddities=frame(work, "select distinct * from read_oddities order by all"),
            graph=graph,
        )


NO_USES = pd.DataFrame({name: pd.array([], dtype="str") for name in TABLES["uses"]})


def completed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with all columns of a table of regdata.tables.schema; what it lacks is told by names, or unknown."""
    unknown = {
        name: pd.array([None] * len(frame), dtype=_DTYPES[kind])
        for name, kind in TABLES[table].items()
        if name not in frame and name not in families.COLUMNS
    }
    whole = frame.assign(**unknown)
    return (with_families(whole) if table == "images" else whole)[list(TABLES[table])]


_DTYPES: dict[str, Any] = {"INTEGER": "Int64", "REAL": "float64", "TEXT": "str", "BOOLEAN": "boolean"}


def _completed(read: dict[str, pa.Table], since: Earlier) -> dict[str, pa.Table]:
    """The tables that name contents, with what ``since`` knows of the manifests that were not read again."""
    names = ("contents", "descriptors", "references")
    contents, descriptors, references = (read[f"read_{name}"] for name in names)
    refers = since.refers
    with workspace(
        **read,
        manifests=since.manifests,
        digest=refers.digests,
        descriptor=refers.descriptors,
        edge=refers.edges.append_column("row", pa.array(np.arange(len(refers.edges)))),
        counted=pa.table({"contents": [len(contents)], "descriptors": [len(descriptors)]}),
    ) as work:
        run_file(work, "inventory/since.sql")
        more = (
            ("from again order by number", contents),
            ("from descriptor_again order by number", descriptors),
            (
                """select e.manifest, d.number as descriptor
                from edge_again e join descriptor_again d using (descriptor) order by e.row""",
                references,
            ),
        )
        tables = [(work.sql(query).to_arrow_table(), table) for query, table in more]
    return {
        f"read_{name}": pa.concat_tables([table, found.select(table.column_names).cast(table.schema)])
        for name, (found, table) in zip(names, tables, strict=True)
    }


def tables_of(columns: Columns, scanned_at: int) -> dict[str, pa.Table]:
    """A source's tables, as read_<name>; a date that can't be (regdata.sources.dates) is unknown there: NULL."""
    return {f"read_{name}": _dated(_table(columns, name), scanned_at) for name in COLUMNS}


def _dated(table: pa.Table, scanned_at: int) -> pa.Table:
    for name in DATES.intersection(table.column_names):
        dates = table[name]
        known = pc.and_(pc.greater_equal(dates, FIRST), pc.less_equal(dates, scanned_at))
        table = table.set_column(table.column_names.index(name), name, pc.if_else(known, dates, None))
    return table


def _table(columns: Columns, name: str) -> pa.Table:
    """A source's table; the rows that read_references means by their numbers have the column ``number``."""
    rows = {
        column: pa.chunked_array([pa.array(columns[name][column], type=_type(name, column))])
        for column in COLUMNS[name]
    }
    if name in ("contents", "descriptors"):
        rows["number"] = np.arange(len(next(iter(rows.values()))), dtype="int32")
    return pa.table(rows)


def _type(name: str, column: str) -> pa.DataType:
    if name == "references":
        return pa.int32()
    return pa.int64() if column in INTEGERS else pa.large_string()


_TAGS = """
select row_number() over (order by image_name, tag_name) as id, t.* replace (coalesce(t.error, c.error) as error)
from read_tags t left join read_contents c on c.manifest_hash = t.tag_hash"""

_MANIFESTS = """
select r.*, c.subject_hash, c.error, c.kind from read_revisions r left join read_contents c using (manifest_hash)"""

_BLOBS = """
select row_number() over (order by blob) as id, blob as blob_hash, blob_size, blob_date, stored
from blob order by blob"""

_OUT_MANIFESTS = "select * exclude node from out_manifests order by node"

# The frame `oddities` of a registry that has none.
NO_ODDITIES = to_frame(_table(Columns(), "oddities"))
