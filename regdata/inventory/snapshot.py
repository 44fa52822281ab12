"""Inventories on disk: for analysis offline, on another machine and over time; and what two of them differ in.

A snapshot is a folder ``<UTC yyyymmddThhmmssZ of the scan>/`` with one Parquet file per table and snapshot.json. Any
tool that reads Parquet reads it; this is DuckDB over all snapshots there are, without loading one::

    select filename, sum(blob_size) from read_parquet('snapshots/*/blobs.parquet', filename = true) group by all
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from regdata.analysis import space as analysis
from regdata.errors import StorageError
from regdata.inventory.inventory import Inventory
from regdata.inventory.references import References
from regdata.show.render import Block, Bytes, Cell, Document, Line, Table, count
from regdata.tables import schema
from regdata.tables.schema import Tables
from regdata.tables.workspace import frame, to_frame, workspace

FORMAT = 1
FACTS = "snapshot.json"
# What is derived from these is not stored.
TABLES = ("images", "manifests", "references", "blobs", "repositories")
COLUMNS = {**schema.TABLES, "repositories": {"image_name": "TEXT"}}
# The fields of an Inventory that are no frames.
KEYS = ("scanned_at", "registry", "from_store", "can_untag", "engine", "protect")
IMAGES_SHOWN = 20
NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


def save(tables: Tables, facts: dict[str, Any], folder: str | Path) -> Path:
    """Writes ``<folder>/<UTC time of the scan>/`` and returns it; a second one of the same second gets -2.

    ``facts`` has KEYS. All or nothing: it is written beside and renamed once it is on the disk. Raises StorageError.
    """
    folder = Path(folder)
    draft = folder / f".{secrets.token_hex(8)}.tmp"
    with _writing(folder, draft):
        draft.mkdir(parents=True)
        for name in TABLES:
            _write(tables.batches(name), draft / f"{name}.parquet")
        written = json.dumps({"format": FORMAT, **facts}, indent=2, ensure_ascii=False)
        (draft / FACTS).write_text(f"{written}\n", "utf-8")
        for path in (*draft.iterdir(), draft):
            _sync(path)
        target = _take(draft, folder / f"{datetime.fromtimestamp(facts['scanned_at'], UTC):%Y%m%dT%H%M%SZ}")
        _sync(folder)
    return target


def load(path: str | Path) -> dict[str, Any]:
    """The fields of the Inventory of a snapshot, or of the newest one in a folder of them. Raises StorageError."""
    path = Path(path)
    if not (path / FACTS).is_file():
        found = saved(path)
        if not found:
            raise StorageError(
                f"no snapshot in {path}: give a snapshot's folder, or the folder that conf.json names as `snapshots`"
            )
        path = found[-1]
    facts = read_facts(path)
    try:
        tables = {name: pq.read_table(path / f"{name}.parquet") for name in TABLES}
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None
    for name, table in tables.items():
        if missing := set(COLUMNS[name]) - set(table.column_names):
            raise _damaged(path, f"{name}.parquet has no {', '.join(sorted(missing))}")
    references = tables.pop("references")
    refers = References.of_frames(references, **{name: tables[name] for name in ("images", "manifests", "blobs")})
    return {name: to_frame(table) for name, table in tables.items()} | {"refers": refers} | facts


def saved(folder: str | Path) -> list[Path]:
    """The snapshots in a folder, oldest first; none where there is no such folder."""
    found = [path.parent for path in Path(folder).glob(f"*/{FACTS}") if NAME.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: (path.name[:16], len(path.name), path.name))


def read_facts(path: Path) -> dict[str, Any]:
    """What snapshot.json says but its format: the fields of an Inventory that are no frames. Raises StorageError."""
    try:
        facts = json.loads((path / FACTS).read_bytes())
        written = int(facts.pop("format"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from None
    if written > FORMAT:
        raise StorageError(
            f"{path} was saved by a newer regdata (format {written}, this one reads up to {FORMAT}): update regdata"
        )
    if set(facts) != set(KEYS):
        raise _damaged(path, f"{FACTS} has the keys {', '.join(sorted(facts)) or 'none'}")
    return dict(facts)


def _write(rows: Iterator[pa.Table], path: Path) -> None:
    first = next(rows)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in (first, *rows):
            writer.write_table(table)


def _damaged(path: Path, why: object) -> StorageError:
    said = str(why).splitlines()[0] if str(why) else type(why).__name__
    return StorageError(f"{path} is not a whole snapshot ({said}): take another one, or delete the folder")


@contextmanager
def _writing(folder: Path, draft: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"no snapshot could be saved in {folder}: {getattr(error, 'strerror', None) or error}. Free space, mend the"
            " permissions, or give another folder as `snapshots` in conf.json"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _take(draft: Path, target: Path) -> Path:
    """Gives the draft its name; a rename never replaces a folder that holds something."""
    for path in (target, *(target.with_name(f"{target.name}-{number}") for number in range(2, 1000))):
        try:
            return draft.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise OSError(f"a thousand snapshots are named {target.name}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, eq=False)
class Changes:
    """What differs between two inventories of a registry.

    tags: image_name, tag_name, change (came, went, moved), size_before, size_after; a row per tag that changed.
    images: image_name, tags_before, tags_after, bytes_before, bytes_after, bytes_grown; a row per image that changed,
    the largest change first. Its bytes are those that no other image holds; what several hold and what none does
    have rows of their own in brackets, so that the columns add up. totals: what, before, after, change.
    """

    tags: pd.DataFrame
    images: pd.DataFrame
    totals: pd.DataFrame
    before: Inventory
    after: Inventory

    def __repr__(self) -> str:
        return _shown(self).text

    def _repr_html_(self) -> str:
        return _shown(self).html


def compare(before: Inventory, after: Inventory) -> Changes:
    """What came, went, moved and grew from one inventory to another."""
    blobs = {"before": analysis.by_blob(before), "after": analysis.by_blob(after)}
    with workspace(
        tags_before=before.images, tags_after=after.images, blobs_before=blobs["before"], blobs_after=blobs["after"]
    ) as work:
        for time in blobs:
            work.execute(_BY_IMAGE.format(time=time))
        return Changes(
            tags=frame(work, _TAGS),
            images=frame(work, _IMAGES),
            totals=_totals(before, blobs["before"])
            .merge(_totals(after, blobs["after"]), on="what")
            .set_axis(["what", "before", "after"], axis="columns")
            .assign(change=lambda totals: totals["after"] - totals["before"]),
            before=before,
            after=after,
        )


_TAGS = """
select image_name, tag_name,
       case when b.id is null then 'came' when a.id is null then 'went' else 'moved' end as change,
       b.tag_size as size_before, a.tag_size as size_after
from tags_before b full join tags_after a using (image_name, tag_name)
where b.id is null or a.id is null or b.tag_hash is distinct from a.tag_hash
order by image_name, tag_name"""

_BY_IMAGE = """
create temp table image_{time} as
with t as (select image_name, count(*) as tags from tags_{time} group by image_name),
b as (select image_name, sum(blob_size)::bigint as bytes from blobs_{time} group by image_name)
select image_name, coalesce(tags, 0) as tags, coalesce(bytes, 0) as bytes from t full join b using (image_name)"""

_IMAGES = """
select image_name, coalesce(b.tags, 0) as tags_before, coalesce(a.tags, 0) as tags_after,
       coalesce(b.bytes, 0) as bytes_before, coalesce(a.bytes, 0) as bytes_after,
       bytes_after - bytes_before as bytes_grown
from image_before b full join image_after a using (image_name)
where tags_before <> tags_after or bytes_grown <> 0
order by abs(bytes_grown) desc, image_name"""


def _totals(inventory: Inventory, blobs: pd.DataFrame) -> pd.DataFrame:
    numbers = {
        "images": len(inventory.repositories),
        "tags": len(inventory.images),
        "manifests": len(inventory.manifests),
        "orphans": int(inventory.manifests["orphan"].sum()),
        "bytes stored": int(blobs["blob_size"].sum()),
    }
    return pd.DataFrame({"what": list(numbers), "number": list(numbers.values())})


def _shown(changes: Changes) -> Document:
    """Totals, what happened to tags, and the images that grew or shrank most."""
    before, after = changes.before, changes.after
    times = [f"{datetime.fromtimestamp(one.scanned_at, UTC):%Y-%m-%d %H:%M}" for one in (before, after)]
    registries = " and ".join(dict.fromkeys([before.registry or "the registry", after.registry or "the registry"]))
    number = changes.tags["change"].value_counts()
    said = ", ".join(f"{count(int(number.get(change, 0)), 'tag')} {change}" for change in ("came", "went", "moved"))
    totals: list[tuple[Cell, ...]] = [
        (str(what), *(Bytes(number) if what == "bytes stored" else int(number) for number in numbers))
        for what, *numbers in changes.totals.itertuples(index=False)
    ]
    blocks: list[Block] = [
        Line(f"{registries}, {times[0]} to {times[1]} (UTC): ", f"{said}."),
        Table(("", "before", "after", "change"), totals),
    ]
    if len(changes.images):
        top = changes.images.head(IMAGES_SHOWN)
        images: list[tuple[Cell, ...]] = [
            (str(name), int(tags), int(then), *map(Bytes, sizes))
            for name, tags, then, *sizes in top.itertuples(index=False)
        ]
        if more := len(changes.images) - len(top):
            images.append((f"and {more:,} more", "", "", "", "", ""))
        blocks.append(Table(("image", "tags before", "after", "only here before", "after", "grown by"), images))
    return Document(tuple(blocks))
