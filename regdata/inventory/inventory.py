"""What a registry holds, as frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regdata.inventory import snapshot
from regdata.inventory.building import NO_ODDITIES, NO_USES, build, tables_of
from regdata.inventory.graph import REGISTRY, Collector, Graph
from regdata.inventory.once import Once
from regdata.inventory.references import References, batches
from regdata.show.shown import Shown
from regdata.sources.columns import Columns
from regdata.tables import schema
from regdata.tables.conditions import Readers
from regdata.tables.schema import Engine
from regdata.tables.workspace import to_frame


@dataclass(frozen=True, eq=False)
class Inventory(Shown):
    """What a registry holds. Frames have the columns of regdata.tables.schema.TABLES; times are UTC epoch seconds,
    sizes bytes.

    images: a row per tag. manifests: a row per manifest of a repository. refers: manifest to child manifest, config and
    layers, once per digest; ``references`` is the same as a frame. blobs: everything stored or referred to.
    repositories: every name, also those without tags. uses: what lists of what runs name, and who uses it.
    ``scanned_at`` is the time of the scan, ``from_store`` whether the registry's folder was read (then sizes, dates and
    orphans are known exactly), ``can_untag`` whether a tag can go while its digest stays, ``engine`` and ``protect``
    what conf.json says of conditions, ``pulls_since`` from when on access logs tell of pulls (None: nobody knows).
    oddities: image_name, what, hash, target; what few stores hold (regdata.sources.columns.ODDITIES). ``collector``:
    what a collection takes. ``ahead``: by how many seconds the clock that dates what is stored was seen to be ahead of
    ours; ``scanned_at`` is that clock's time.
    ``within``: the repositories, by names and patterns, that may be touched (None: all). ``registry_id``: which
    registry it is, whatever ``registry``, which may be shown, hides of its address; ``address``: the same by all of
    that, which no file holds (empty: unknown).
    ``once`` keeps what is made of it, for as long as it lives.
    """

    images: pd.DataFrame
    manifests: pd.DataFrame
    refers: References
    blobs: pd.DataFrame
    repositories: pd.DataFrame
    scanned_at: int
    registry: str = ""
    registry_id: str = ""
    address: str = ""
    from_store: bool = True
    can_untag: bool = True
    engine: Engine = "duckdb"
    protect: str | None = None
    uses: pd.DataFrame = field(default_factory=lambda: NO_USES)
    pulls_since: int | None = None
    oddities: pd.DataFrame = field(default_factory=lambda: NO_ODDITIES)
    collector: Collector = REGISTRY
    ahead: int = 0
    within: tuple[str, ...] | None = None
    once: Once = field(default_factory=Once, init=False)

    def __repr__(self) -> str:
        rows = f"{len(self.images):,} tags, {len(self.manifests):,} manifests, {len(self.blobs):,} blobs"
        return f"<Inventory of {self.registry or 'a registry'}: {rows}>"

    @classmethod
    def from_columns(
        cls,
        columns: Columns,
        *,
        scanned_at: int,
        from_store: bool,
        since: Inventory | None = None,
        collector: Collector = REGISTRY,
        **known: Any,
    ) -> Inventory:
        """The inventory of what a source read, as of ``scanned_at``; ``since`` knows what it did not read again."""
        read = tables_of(columns, scanned_at)
        del columns  # which takes much memory, and may be needed no more
        built = build(read, scanned_at=scanned_at, from_store=from_store, since=since, collector=collector)
        inventory = cls(
            images=built.images,
            manifests=built.manifests,
            refers=built.refers,
            blobs=built.blobs,
            repositories=built.repositories,
            oddities=built.oddities,
            collector=collector,
            scanned_at=scanned_at,
            from_store=from_store,
            **known,
        )
        inventory.once("graph", lambda: built.graph)
        return inventory

    @property
    def graph(self) -> Graph:
        """What holds what; it takes memory until the inventory goes."""
        return self.once(
            "graph",
            lambda: Graph(
                self.refers,
                tags=self.images,
                manifests=self.manifests,
                blobs=self.blobs,
                oddities=self.oddities,
                scanned_at=self.scanned_at,
                from_store=self.from_store,
                collector=self.collector,
            ),
        )

    @property
    def references(self) -> pd.DataFrame:
        """manifest_hash, reference_hash, reference_kind, reference_size, media_type, platform: a row per reference."""
        return self.once("references", lambda: to_frame(pa.concat_tables(self.batches("references"))))

    def references_of(self, manifests: Iterable[str]) -> pd.DataFrame:
        """The rows of ``references`` that are of these manifests; all there are may be many millions."""
        wanted = pa.array(sorted({*manifests}), pa.large_string())
        found = (table.filter(pc.is_in(table["manifest_hash"], wanted)) for table in self.batches("references"))
        return to_frame(pa.concat_tables(found))

    def references_to(self, digests: Iterable[str]) -> pd.DataFrame:
        """The rows of ``references`` that are to these digests."""
        wanted = pa.array(sorted({*digests}), pa.string())
        found = (
            table.filter(pc.is_in(table["reference_hash"].cast(pa.string()), wanted))
            for table in self.batches("references")
        )
        return to_frame(pa.concat_tables(found))

    @property
    def relations(self) -> pd.DataFrame:
        """id, image_name, tag_name, blob_hash, blob_kind: the layers and configs of each tag, over all platforms."""
        return self.once("relations", lambda: to_frame(pa.concat_tables(self.batches("relations"))))

    @property
    def stored(self) -> pd.Series[bool]:
        """Whether the registry's folder has each of ``blobs``; of none where it was not read."""
        return self.blobs["stored"].fillna(False).astype(bool)

    @property
    def missing(self) -> frozenset[str]:
        """The digests of what manifests refer to and is not there, by another digest of it either."""
        aliases = self.oddities[self.oddities["what"] == "alias"]
        there = aliases["hash"][aliases["target"].isin(self.blobs["blob_hash"][self.stored])]
        return frozenset(self.blobs["blob_hash"][~self.stored]) - frozenset(there)

    @property
    def readers(self) -> Readers:
        """What reads conditions over the tables; it takes memory until the inventory goes."""
        return self.once("readers", lambda: Readers(self))

    def batches(self, name: str) -> Iterator[pa.Table]:
        """The rows of a table, those of a long one some at a time."""
        if name == "references":
            yield from self.refers.flat()
        elif name == "relations":
            yield from self._relations()
        else:
            yield pa.Table.from_pandas(self.frame(name), preserve_index=False)

    def _relations(self) -> Iterator[pa.Table]:
        self.graph.keep("inventory/parts.sql")
        tags = pa.table({"id": self.images["id"], "row": np.arange(len(self.images))})
        with self.graph.open(row_of=tags) as work:
            rows = work.sql(_RELATIONS).to_arrow_table()
        names = pa.Table.from_pandas(self.images[["image_name", "tag_name"]], preserve_index=False)
        for part in batches(rows):
            yield pa.table(
                {"id": part["id"]}
                | {name: names[name].take(part["row"]) for name in names.column_names}
                | {"blob_hash": self.refers.hashes(part["blob"]), "blob_kind": part["kind"].cast(pa.string())}
            )

    def frame(self, name: str) -> pd.DataFrame:
        """The frame of a table of regdata.tables.schema.TABLES."""
        result: pd.DataFrame = getattr(self, name)
        return result

    def save(self, folder: str | Path) -> Path:
        """Writes a snapshot into ``folder`` and returns its path; see inventory.snapshot. Raises StorageError."""
        facts = {key: getattr(self, key) for key in snapshot.KEYS}
        return snapshot.save(self, facts, folder)

    @classmethod
    def load(cls, path: str | Path) -> Inventory:
        """The inventory of a snapshot, or of the newest one in a folder of them. Raises StorageError."""
        return cls(**snapshot.load(path))

    def sql(self, query: str) -> pd.DataFrame:
        """What a SELECT over the tables gives; DuckDB reads it, and it can change nothing. Raises ConditionError."""
        return self.readers.query(query)

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """The tables in a locked in-memory DuckDB."""
        return schema.to_duckdb(self)

    def to_sqlite(self) -> Any:
        """The tables in a read-only in-memory ``sqlite3.Connection``."""
        return schema.to_sqlite(self)


_RELATIONS = """
select row_number() over (order by t.id, p.blob) as id, r.row, p.blob, p.kind
from tag_node t join part_blob p on p.top = t.node join row_of r on r.id = t.id order by 1"""
