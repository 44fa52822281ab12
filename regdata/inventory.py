"""A source -> Inventory: what a registry holds, as frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import duckdb
import pandas as pd

from regdata import database
from regdata.errors import StorageError
from regdata.manifest import COLUMNS, Columns, merge
from regdata.registry import Registry
from regdata.storage import Storage

if TYPE_CHECKING:
    from regdata.config import Config

INTEGERS = {"pushed", "manifest_size", "created", "reference_size", "blob_size", "blob_date"}


class Source(Protocol):
    """Where metadata is read from: the HTTP API or the registry's folder."""

    def split(self, parts: int) -> list[Any]:
        """The work, cut by repository into about ``parts`` picklable parts."""

    def read(self, part: Any) -> Columns:
        """What one part holds, as columns (see regdata.manifest.COLUMNS)."""


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a registry holds. Frames have the columns of regdata.database.TABLES; times are UTC epoch seconds, sizes bytes.

    images: a row per tag. manifests: a row per manifest of a repository. references: manifest to child manifest, config
    and layers, once per digest. blobs: everything stored or referred to. repositories: every name, also those without tags.
    ``scanned_at`` is the time of the scan, ``from_store`` whether the registry's folder was read (then sizes, dates and
    orphans are known exactly), ``can_untag`` whether a tag can go while its digest stays, ``engine`` and ``protect``
    what conf.json says of conditions.
    """

    images: pd.DataFrame
    manifests: pd.DataFrame
    references: pd.DataFrame
    blobs: pd.DataFrame
    repositories: pd.DataFrame
    scanned_at: int
    registry: str = ""
    from_store: bool = True
    can_untag: bool = True
    engine: database.Engine = "duckdb"
    protect: str | None = None

    @classmethod
    def from_columns(cls, columns: Columns, *, scanned_at: int, from_store: bool, **known: Any) -> Inventory:
        """The inventory of what a source read, as of ``scanned_at``."""
        tables = {f"read_{name}": frame_of(columns, name) for name in COLUMNS}
        with database.workspace(**tables) as work:
            work.execute(
                "create table setting as select ?::bigint as scanned_at, ?::boolean as from_store",
                [scanned_at, from_store],
            )
            work.execute(
                """create view manifests as select r.*, c.subject_hash, c.error
                   from read_revisions r left join read_contents c using (manifest_hash);
                   create view "references" as select * from read_references;
                   create table tags as select row_number() over (order by image_name, tag_name) as id, * from read_tags"""
            )
            for file in ("reach.sql", "parts.sql", "inventory.sql"):
                database.run_file(work, file)
            return cls(
                images=database.frame(work, "from out_images"),
                manifests=database.frame(work, "from out_manifests"),
                references=database.frame(work, "from read_references"),
                blobs=database.frame(work, "from out_blobs"),
                repositories=database.frame(work, "from read_repositories order by image_name"),
                scanned_at=scanned_at,
                from_store=from_store,
                **known,
            )

    @cached_property
    def relations(self) -> pd.DataFrame:
        """id, image_name, tag_name, blob_hash, blob_kind: the layers and configs of each tag, over all platforms."""
        with database.workspace(tags=self.images, manifests=self.manifests, references=self.references) as work:
            for file in ("reach.sql", "parts.sql"):
                database.run_file(work, file)
            return database.frame(
                work,
                """select row_number() over (order by t.id, b.blob_hash) as id, t.image_name, t.tag_name, b.blob_hash, b.blob_kind
                   from tag_node t join part_blob b on b.top = t.node order by 1""",
            )

    def frame(self, name: str) -> pd.DataFrame:
        """The frame of a table of regdata.database.TABLES."""
        result: pd.DataFrame = getattr(self, name)
        return result

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """The tables in a locked in-memory DuckDB."""
        return database.connect_duckdb(self)

    def to_sqlite(self) -> Any:
        """The tables in a read-only in-memory ``sqlite3.Connection``."""
        return database.connect_sqlite(self)


def scan(config: Config, *, executor: Executor | None = None) -> Inventory:
    """Reads the registry that ``config`` names: its folder where base_path is given, else its HTTP API.

    With an ``executor`` the work is split by repository over it. Raises RegistryError or StorageError.
    """
    registry = Registry(config.registry.url)
    registry.check()
    storage = Storage(config.registry.base_path) if config.registry.base_path else None
    if storage:
        check_same_registry(registry, storage)
    source: Source = storage or registry
    return Inventory.from_columns(
        _read(source, executor),
        scanned_at=int(time.time()),
        from_store=storage is not None,
        registry=registry.display,
        can_untag=storage.writable if storage else _untags(registry),
        engine=config.engine,
        protect=config.protect,
    )


def _read(source: Source, executor: Executor | None) -> Columns:
    if executor is None:
        return merge([source.read(part) for part in source.split(1)])
    return merge(executor.map(source.read, source.split(64)))


def check_same_registry(registry: Registry, storage: Storage) -> None:
    """Raises StorageError when ``storage`` is visibly not the folder of the registry that answers at ``registry``."""
    served, stored = set(registry.repositories()), set(storage.repositories())
    strange = sorted(served - stored) or (sorted(stored) if stored and not served else [])
    if strange:
        where = "the registry serves" if served else "the folder holds"
        raise StorageError(
            f"registry.base_path {storage.root.parents[2]} is not the folder of {registry.display}: {where} {strange[0]}, "
            "the other does not know it. Give the folder that this registry's filesystem storage writes to (rootdirectory)"
        )
    for repository in sorted(served & stored)[:5]:
        links, revisions = storage.state(repository)
        for tag in sorted(tag for tag, digest in links.items() if digest in revisions)[:2]:
            digest = registry.digest(repository, tag)
            # Asked again, since the tag may just have been pushed.
            if digest != links[tag] and registry.digest(repository, tag) != storage.state(repository)[0].get(tag):
                raise StorageError(
                    f"registry.base_path {storage.root.parents[2]} is not the folder of {registry.display}: {repository}:{tag} is "
                    f"{digest or 'absent'} there and {links[tag]} in the folder. Give the folder that this registry writes to"
                )


def _untags(registry: Registry) -> bool:
    """Whether the API can delete a tag alone (distribution 3.x does, and is told from 2.x by its paged tag lists)."""
    return any(registry.lists_tags_in_pages(repository) for repository in registry.repositories()[:1])


def frame_of(columns: Columns, name: str) -> pd.DataFrame:
    """A source's table as a frame: Int64 and str columns."""
    table: Mapping[str, list[Any]] = columns[name]
    return pd.DataFrame(
        {column: pd.array(table[column], dtype="Int64" if column in INTEGERS else "str") for column in COLUMNS[name]}
    )
