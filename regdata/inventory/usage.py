"""What is known of who pulls and who uses what, as columns of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, urlsplit

import duckdb
import pandas as pd
import pyarrow as pa

from regdata.errors import CleanupError
from regdata.inventory.inventory import Inventory
from regdata.sources.manifest import is_digest
from regdata.sources.names import is_repository, means
from regdata.tables.workspace import frame, run_file
from regdata.usage import inuse
from regdata.usage.accesslog import AccessLog, Pulls
from regdata.usage.inuse import Use

if TYPE_CHECKING:
    from regdata.config import Config

_NO_PULLS = pa.schema(
    {"image_name": pa.string(), "reference": pa.string()}
    | dict.fromkeys(("last_pulled", "pulls_30d", "pulls_total", "last_seen"), pa.int64())
).empty_table()
USERS = 3  # of a tag that are named
_OF_PULLS = ("last_pulled", "pulls_30d", "pulls_total", "idle_days")
_OF_USES = ("in_use",)


Listed: TypeAlias = Mapping[str, Sequence[Use]] | None  # None: nobody is asked


def in_use(config: Config) -> Listed:
    """What the lists of ``config`` name. Raises CleanupError."""
    return inuse.read(config.in_use, names(config), config.path.parent) if config.in_use else None


def digests_in_use(uses: Listed, config: Config) -> list[tuple[str, str]]:
    """Repository and digest of the manifests that lists name: what runs may have no tag any more."""
    named = {(one.repository, one.digest) for found in (uses or {}).values() for one in found}
    wanted = config.registry.repositories
    return sorted(pair for pair in named if is_repository(pair[0]) and is_digest(pair[1]) and means(wanted, pair[0]))


def observed(inventory: Inventory, config: Config, uses: Listed) -> Inventory:
    """The inventory with what the access logs of ``config`` say, and its lists (`in_use`). Raises CleanupError or
    StorageError."""
    if not (config.access_log or config.in_use):
        return inventory
    pulls = None
    if config.access_log:
        with AccessLog(config.access_log, history(config)) as log:
            pulls = log.pulls(inventory.scanned_at, ignored=config.not_a_pull, later=True)
    return with_usage(inventory, pulls, uses)


def names(config: Config) -> list[str]:
    """By which references call the registry: host[:port], some with a path."""
    url = urlsplit(config.registry.url)
    loopback = ("localhost", "127.0.0.1", "[::1]") if url.hostname in ("localhost", "127.0.0.1", "::1") else ()
    port = f":{url.port}" if url.port else ""
    path = [f"{url.netloc}{url.path}"] if url.path else []
    return [url.netloc, *path, *(f"{host}{port}" for host in loopback), *config.registry.names]


def history(config: Config) -> Path | None:
    """The folder of what is remembered of pulls, the registry's own; None where conf.json lets nothing be kept."""
    folder = config.snapshots or config.cache
    url = urlsplit(config.registry.url)
    return folder and folder / "pulls" / quote(f"{url.netloc.lower()}{url.path}", safe="")


def with_usage(
    inventory: Inventory, pulls: Pulls | None = None, uses: Mapping[str, Sequence[Use]] | None = None
) -> Inventory:
    """The inventory with what access logs and lists of what runs say of its tags; None: what it says of them stays.

    Raises CleanupError for a list that names nothing of this registry: it may have another name there.
    """
    listed = [(number, *use) for number, found in enumerate((uses or {}).values()) for use in found]
    kinds = {"list": "int64", "repository": "str", "tag": "str", "digest": "str", "used_by": "str", "ours": "bool"}
    known = {
        "scanned_at": [inventory.scanned_at],
        "since": pa.array([pulls and pulls.since], pa.int64()),
        "lists": [len(uses or ())],
        "dated": [inventory.from_store],
    }
    graph = inventory.graph
    graph.keep("inventory/parts.sql")
    with graph.open(
        images=inventory.images[["id", "pushed"]],
        pulls=pulls.table if pulls else _NO_PULLS,
        listed=pd.DataFrame(listed, columns=list(kinds)).astype(kinds),
        known=pa.table(known),
    ) as work:
        run_file(work, "inventory/names.sql")
        run_file(work, "inventory/usage.sql")
        _check(work, list(uses or ()))
        found = frame(work, "from out_usage").astype({"in_use": "boolean"})
        used = frame(work, "from out_uses")
    made = [*(_OF_PULLS if pulls else ()), *(_OF_USES if uses is not None else ())]
    images = inventory.images.drop(columns=made).merge(found[["id", *made]], on="id")
    result = replace(
        inventory,
        images=images[list(inventory.images.columns)],
        uses=inventory.uses if uses is None else used,
        pulls_since=pulls.since if pulls else inventory.pulls_since,
    )
    result.once("graph", lambda: graph)
    return result


def _check(work: duckdb.DuckDBPyConnection, lists: Sequence[str]) -> None:
    for number, named in work.execute("from strange").fetchall():
        raise CleanupError(
            f"in-use: {lists[number]} names nothing of this registry, but {named}: where that is this registry, add "
            "the name that it has there to registry.names; else take the list out. Nothing was deleted"
        )


def users(inventory: Inventory) -> pd.DataFrame:
    """image_name, tag_name, used_by (the first of them): a row per tag that is in use."""
    inventory.graph.keep("inventory/parts.sql")
    with inventory.graph.open(uses=inventory.uses) as work:
        run_file(work, "inventory/names.sql")
        return frame(work, _USERS)


_USERS = f"""
with used as (
    select image_name, tag_name as reference, used_by from uses
    union all select image_name, manifest_hash, used_by from uses
),
named as (
    select distinct l.id, u.used_by
    from led_to l join image i using (image)
    join used u on u.image_name = i.image_name and u.reference = l.reference
)
select i.image_name, t.tag_name,
       array_to_string(list(used_by order by used_by)[1:{USERS}], ', ')
       || if(count(*) > {USERS}, format(' and {{}} more', count(*) - {USERS}), '') as used_by
from named join tag t using (id) join image i using (image) group by t.id, i.image_name, t.tag_name order by t.id"""
