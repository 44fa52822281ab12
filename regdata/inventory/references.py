"""What refers to what, in numbers: there may be many millions of references, and each digest stands in many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regdata.sources.manifest import Reference
from regdata.sources.mediatypes import is_manifest
from regdata.tables.workspace import run_file, to_frame, workspace

# Rows that are written out at a time.
BATCH = 2**20


@dataclass(frozen=True)
class References:
    """The table ``references`` without its repetitions.

    digests: digest (its number, from 1 on), hash; every digest of an inventory, in the order of their text.
    descriptors: number (from 0 on), digest, reference_kind, reference_size, media_type, platform; each distinct
    descriptor once. edges: manifest (a digest's number), descriptor (a descriptor's); a row per reference.
    """

    digests: pa.Table
    descriptors: pa.Table
    edges: pa.Table

    @classmethod
    def of(cls, work: duckdb.DuckDBPyConnection) -> References:
        """Those of a workspace with what digests.sql reads; leaves its table ``digest`` there."""
        run_file(work, "inventory/digests.sql")
        manifests = work.sql("from manifest order by number").to_arrow_table()
        edges = work.sql("from read_references").to_arrow_table()
        descriptors = work.sql("from descriptor order by number").to_arrow_table()
        for name in ("reference_kind", "media_type", "platform"):
            position = descriptors.column_names.index(name)
            descriptors = descriptors.set_column(position, name, pc.dictionary_encode(descriptors[name]))
        return cls(
            digests=work.sql("from digest order by digest").to_arrow_table().cast(_DIGESTS).combine_chunks(),
            descriptors=descriptors.unify_dictionaries().combine_chunks(),
            edges=edges.set_column(0, "manifest", pc.take(manifests["digest"].combine_chunks(), edges["manifest"])),
        )

    @classmethod
    def of_frames(cls, references: pa.Table, **frames: pa.Table) -> References:
        """Those of the tables references, images, manifests and blobs."""
        flat = references.append_column("row", pa.array(np.arange(len(references))))
        with workspace(flat=flat, **frames) as work:
            run_file(work, "inventory/frames.sql")
            return cls.of(work)

    @property
    def resolved(self) -> pa.Table:
        """manifest and blob (numbers of digests), kind; a row per reference."""
        numbers = self.edges["descriptor"]
        return pa.table(
            {
                "manifest": self.edges["manifest"],
                "blob": pc.take(self.descriptors["digest"].combine_chunks(), numbers),
                "kind": pc.take(self.descriptors["reference_kind"].combine_chunks(), numbers),
            }
        )

    def hashes(self, numbers: pa.ChunkedArray) -> pa.ChunkedArray:
        """The digests with these numbers."""
        return self.digests["hash"].take(pc.subtract(numbers, 1))

    def named(self, table: pa.Table, *columns: str) -> pd.DataFrame:
        """The table as a frame, with digests for the numbers in ``columns``."""
        for column in columns:
            table = table.set_column(table.column_names.index(column), column, self.hashes(table[column]))
        return to_frame(table)

    def leading(self, indexes: list[str]) -> Iterator[tuple[str, Reference]]:
        """Manifests' digests with what they refer to, of what may lead to other manifests (regdata.sources.leads): all
        that ``indexes`` list, of others what says that it is one, and what their texts mention."""
        names = ("reference_kind", "media_type")
        said = list(zip(*(self.descriptors[name].to_pylist() for name in names), strict=True))
        leading = {pair for pair in set(said) if pair[0] in ("manifest", "mention") or is_manifest(pair[1])}
        numbers = pa.array([number for number, pair in enumerate(said) if pair in leading], pa.int32())
        is_index = pc.is_in(self.digests["hash"], pa.array(indexes, pa.large_string()))
        lists = pc.is_in(self.edges["manifest"], self.digests["digest"].filter(is_index).combine_chunks())
        edges = self.edges.filter(pc.or_(pc.is_in(self.edges["descriptor"], numbers), lists))
        found = self.descriptors.take(edges["descriptor"])
        hashes = (self.hashes(column).to_pylist() for column in (edges["manifest"], found["digest"]))
        for manifest, digest, number in zip(*hashes, edges["descriptor"].to_pylist(), strict=True):
            yield manifest, Reference(digest, said[number][0], None, said[number][1], None)

    def flat(self) -> Iterator[pa.Table]:
        """manifest_hash, reference_hash, reference_kind, reference_size, media_type, platform: BATCH rows at a time."""
        for edges in batches(self.edges):
            found = self.descriptors.take(edges["descriptor"]).cast(_PLAIN)
            hashes = {
                "manifest_hash": self.hashes(edges["manifest"]),
                "reference_hash": self.hashes(found["digest"]),
            }
            yield pa.table(hashes | {name: found[name] for name in found.column_names[2:]})


_DIGESTS = pa.schema({"digest": pa.int32(), "hash": pa.large_string()})  # may be more than 2 GB
_PLAIN = pa.schema(
    {
        "number": pa.int32(),
        "digest": pa.int32(),
        "reference_kind": pa.string(),
        "reference_size": pa.int64(),
        "media_type": pa.string(),
        "platform": pa.string(),
    }
)


def batches(table: pa.Table) -> Iterator[pa.Table]:
    """The rows, BATCH at a time; at least one part, so that there are columns."""
    for start in range(0, max(len(table), 1), BATCH):
        yield table.slice(start, BATCH)
