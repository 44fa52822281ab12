"""A source -> Inventory: what a registry holds, as frames."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from regdata.errors import StorageError
from regdata.inventory.graph import Graph
from regdata.inventory.references import References, batches
from regdata.show import render
from regdata.sources import processes
from regdata.sources.cache import Cache
from regdata.sources.columns import COLUMNS, Columns, merge
from regdata.sources.manifest import matches
from regdata.sources.registry import Registry
from regdata.sources.storage import Part, Storage
from regdata.tables import database

if TYPE_CHECKING:
    from regdata.config import Config
    from regdata.planning.plan import Workbench

# A process that reads a share of the store takes as long to start as the store takes to give so many tags.
TAGS_PER_PROCESS = 1000
# An executor may have many workers, and repositories differ in size.
SHARES = 64

INTEGERS = {"pushed", "manifest_size", "created", "reference_size", "blob_size", "blob_date"}


class Source(Protocol):
    """Where metadata is read from: the HTTP API or the registry's folder."""

    def split(self, parts: int) -> list[Any]:
        """The work, cut by repository into about ``parts`` picklable parts."""

    def read(self, part: Any) -> Columns:
        """What one part holds, as columns (see regdata.sources.columns.COLUMNS)."""


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a registry holds. Frames have the columns of regdata.tables.database.TABLES; times are UTC epoch seconds,
    sizes bytes.

    images: a row per tag. manifests: a row per manifest of a repository. refers: manifest to child manifest, config and
    layers, once per digest; ``references`` is the same as a frame. blobs: everything stored or referred to.
    repositories: every name, also those without tags. ``scanned_at`` is the time of the scan, ``from_store`` whether
    the registry's folder was read (then sizes, dates and orphans are known exactly), ``can_untag`` whether a tag can go
    while its digest stays, ``engine`` and ``protect`` what conf.json says of conditions.
    """

    images: pd.DataFrame
    manifests: pd.DataFrame
    refers: References
    blobs: pd.DataFrame
    repositories: pd.DataFrame
    scanned_at: int
    registry: str = ""
    from_store: bool = True
    can_untag: bool = True
    engine: database.Engine = "duckdb"
    protect: str | None = None

    def __repr__(self) -> str:
        return render.inventory(self).text

    def _repr_html_(self) -> str:
        return render.inventory(self).html

    @classmethod
    def from_columns(
        cls, columns: Columns, *, scanned_at: int, from_store: bool, since: Inventory | None = None, **known: Any
    ) -> Inventory:
        """The inventory of what a source read, as of ``scanned_at``; ``since`` knows what it did not read again."""
        read = {f"read_{name}": table_of(columns, name) for name in COLUMNS}
        del columns  # which takes much memory, and may be needed no more
        if since:
            read |= _completed(read, since)
        with database.workspace(**read) as work:
            refers = References.of(work)
            tags, manifests = (work.sql(query).to_arrow_table() for query in (_TAGS, _MANIFESTS))
        for name in ("descriptors", "references"):  # they are in ``refers`` now
            del read[f"read_{name}"]
        graph = Graph(refers, tags=tags, manifests=manifests)
        graph.keep("inventory/parts.sql")
        setting = pa.table({"scanned_at": [scanned_at], "from_store": [from_store]})
        with graph.open(**read, tags=tags, descriptor=refers.descriptors, setting=setting) as work:
            database.run_file(work, "inventory/inventory.sql")
            inventory = cls(
                images=database.frame(work, "from out_images order by id"),
                manifests=refers.named(work.sql(_OUT_MANIFESTS).to_arrow_table(), "manifest_hash"),
                refers=refers,
                blobs=refers.named(work.sql("from out_blobs order by id").to_arrow_table(), "blob_hash"),
                repositories=database.frame(work, "from read_repositories order by image_name"),
                scanned_at=scanned_at,
                from_store=from_store,
                **known,
            )
        inventory.__dict__["graph"] = graph
        return inventory

    @cached_property
    def graph(self) -> Graph:
        """What holds what; it takes memory until the inventory goes."""
        return Graph(self.refers, tags=self.images, manifests=self.manifests)

    @cached_property
    def references(self) -> pd.DataFrame:
        """manifest_hash, reference_hash, reference_kind, reference_size, media_type, platform: a row per reference."""
        return database.to_frame(pa.concat_tables(self.batches("references")))

    @cached_property
    def relations(self) -> pd.DataFrame:
        """id, image_name, tag_name, blob_hash, blob_kind: the layers and configs of each tag, over all platforms."""
        return database.to_frame(pa.concat_tables(self.batches("relations")))

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
        """The frame of a table of regdata.tables.database.TABLES."""
        result: pd.DataFrame = getattr(self, name)
        return result

    def save(self, folder: str | Path) -> Path:
        """Writes a snapshot into ``folder`` and returns its path; see inventory.snapshot. Raises StorageError."""
        from regdata.inventory import snapshot  # it stands on this module

        return snapshot.save(self, folder)

    @classmethod
    def load(cls, path: str | Path) -> Inventory:
        """The inventory of a snapshot, or of the newest one in a folder of them. Raises StorageError."""
        from regdata.inventory import snapshot

        return snapshot.load(path)

    @cached_property
    def workbench(self) -> Workbench:
        """The inventory made ready for many conditions; it takes memory until the inventory goes."""
        from regdata.planning.plan import Workbench  # it stands on this module

        return Workbench(self)

    def sql(self, query: str) -> pd.DataFrame:
        """What a SELECT over the tables gives; DuckDB reads it, and it can change nothing. Raises ConditionError."""
        return self.workbench.query(query)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is derived, such as the connections of ``workbench``."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """The tables in a locked in-memory DuckDB."""
        return database.connect_duckdb(self)

    def to_sqlite(self) -> Any:
        """The tables in a read-only in-memory ``sqlite3.Connection``."""
        return database.connect_sqlite(self)


def scan(
    config: Config,
    *,
    executor: Executor | None = None,
    since: Inventory | None = None,
    known: Iterable[tuple[str, str]] = (),
) -> Inventory:
    """Reads the registry that ``config`` names: its folder where base_path is given, else its HTTP API.

    With an ``executor`` the work is split by repository over it. ``since``: an earlier inventory; manifests whose files
    in the folder have the size and date that they had then are not read again, so that damage done to them meanwhile is
    not seen (over the API the cache serves this purpose). ``known``: manifests (image_name, manifest_hash) that the
    HTTP API would not show if no tag led to them. Raises RegistryError or StorageError.
    """
    registry = Registry(config.registry.url, cache=Cache(config.cache))
    if config.registry.base_path:
        # The folder is read without the cache: damage is to be seen, and reading it is fast.
        storage = Storage(config.registry.base_path)
        check_same_registry(registry, storage)
        parts = store_parts(storage, executor, since)
        source: Source = storage
        can_untag = storage.writable
    else:
        parts = registry.split(SHARES if executor else 1)
        known = list(known)  # each part looks through it
        tags = {name: registry.tags_unpaged(name) for part in parts[:1] for name in part.repositories[:1]}
        source = registry
        can_untag = None in tags.values()  # distribution 3.x
        parts = [
            part._replace(
                known=tuple(pair for pair in known if pair[0] in part.repositories),
                tags={name: found for name, found in tags.items() if found is not None and name in part.repositories},
            )
            for part in parts
        ]
    return Inventory.from_columns(
        merge(executor.map(source.read, parts) if executor else processes.read(source, parts)),
        scanned_at=int(time.time()),
        from_store=source is not registry,
        since=since,
        registry=registry.display,
        can_untag=can_untag,
        engine=config.engine,
        protect=config.protect,
    )


def store_parts(storage: Storage, executor: Executor | None, since: Inventory | None) -> list[Part]:
    """The shares of the work; they name the files that need not be read ``since`` then."""
    parts = storage.split(SHARES) if executor else storage.split(processes.cores(), least=TAGS_PER_PROCESS)
    if since is None:
        return parts
    files = _files(since)
    return [
        part._replace(files={k: file for name in part.repositories for k, file in files.get(name, {}).items()})
        for part in parts
    ]


def _files(since: Inventory) -> dict[str, dict[str, tuple[int, int]]]:
    """Size and date of each manifest's file, by repository and digest; not where a new look may tell more."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    manifests = since.manifests[since.manifests["error"].isna()]
    # An image without a date and a platform may have been without its config.
    known = manifests[["created", "platform"]].notna().any(axis=1) | (manifests["kind"] != "image")
    files = manifests[known].merge(since.blobs.dropna(), left_on="manifest_hash", right_on="blob_hash")
    columns = ("image_name", "manifest_hash", "blob_size", "blob_date")
    # As plain as the process needs it that reads them.
    for name, digest, *file in zip(*(files[column].tolist() for column in columns), strict=True):
        found.setdefault(name, {})[digest] = tuple(file)
    return found


def _completed(read: dict[str, pa.Table], since: Inventory) -> dict[str, pa.Table]:
    """The tables that name contents, with what ``since`` knows of the manifests that were not read again."""
    names = ("contents", "descriptors", "references")
    contents, descriptors, references = (read[f"read_{name}"] for name in names)
    refers = since.refers
    with database.workspace(
        **read,
        manifests=since.manifests,
        digest=refers.digests,
        descriptor=refers.descriptors,
        edge=refers.edges.append_column("row", pa.array(np.arange(len(refers.edges)))),
        counted=pa.table({"contents": [len(contents)], "descriptors": [len(descriptors)]}),
    ) as work:
        database.run_file(work, "inventory/since.sql")
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


def check_same_registry(registry: Registry, storage: Storage) -> None:
    """Raises StorageError when ``storage`` is visibly not the folder of the registry that answers at ``registry``."""
    served, stored = set(registry.repositories()), set(storage.repositories())
    strange = sorted(served - stored) or (sorted(stored) if stored and not served else [])
    if strange:
        where = "the registry serves" if served else "the folder holds"
        raise StorageError(
            f"registry.base_path {storage.root.parents[2]} is not the folder of {registry.display}: {where} "
            f"{strange[0]}, the other does not know it. Give the folder that this registry's filesystem storage writes "
            "to (rootdirectory)"
        )
    for repository in sorted(served & stored)[:5]:
        links, revisions = storage.state(repository)
        sound = (tag for tag, digest in sorted(links.items()) if digest in revisions and _is_sound(storage, digest))
        for tag in islice(sound, 2):
            digest = registry.digest(repository, tag)
            # Asked again, since the tag may just have been pushed.
            if digest != links[tag] and registry.digest(repository, tag) != storage.state(repository)[0].get(tag):
                raise StorageError(
                    f"registry.base_path {storage.root.parents[2]} is not the folder of {registry.display}: "
                    f"{repository}:{tag} is {digest or 'absent'} there and {links[tag]} in the folder. Give the folder "
                    "that this registry writes to"
                )


def _is_sound(storage: Storage, digest: str) -> bool:
    """Whether the registry can serve the manifest: for a damaged one it answers 404 or 500, which says nothing."""
    data = storage.manifest(digest)
    return data is not None and matches(digest, data)


def table_of(columns: Columns, name: str) -> pa.Table:
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
select r.*, c.subject_hash, c.error from read_revisions r left join read_contents c using (manifest_hash)"""

_OUT_MANIFESTS = "select * exclude node from out_manifests order by node"

_RELATIONS = """
select row_number() over (order by t.id, p.blob) as id, r.row, p.blob, p.kind
from tag_node t join part_blob p on p.top = t.node join row_of r on r.id = t.id order by 1"""
