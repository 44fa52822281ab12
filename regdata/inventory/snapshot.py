"""Inventories on disk: for analysis offline, on another machine and over time.

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
from datetime import UTC, datetime
from itertools import dropwhile
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from regdata.config import filled
from regdata.errors import StorageError
from regdata.inventory.building import DATES, NO_ODDITIES, NO_USES, completed
from regdata.inventory.graph import Collector
from regdata.inventory.references import References
from regdata.plain import concealed
from regdata.sources.dates import FIRST
from regdata.sources.manifest import printable
from regdata.sources.visible import check_visible
from regdata.tables import schema
from regdata.tables.schema import Tables
from regdata.tables.workspace import to_frame

FORMAT = 2
FACTS = "snapshot.json"
# What is derived from these is not stored.
TABLES = ("images", "manifests", "references", "blobs", "repositories", "uses", "oddities")
COLUMNS = {
    **schema.TABLES,
    "repositories": {"image_name": "TEXT"},
    "oddities": dict.fromkeys(("image_name", "what", "hash", "target"), "TEXT"),
}
# The fields of an Inventory that are no frames.
KEYS = (
    *("scanned_at", "registry", "registry_id", "from_store", "can_untag", "engine", "protect", "pulls_since"),
    *("collector", "within"),
)
_KINDS = {"scanned_at": int, "registry": str, "registry_id": str, "from_store": bool, "engine": str}
_LAST = 10**11  # UTC epoch seconds: no calendar goes much further
# What came later than format 1, behind `error`: an older snapshot lacks it, so that it is unknown, or told by names.
LATER = {
    name: {*dropwhile(lambda column: column != "error", schema.TABLES[name])} - {"error"}
    for name in ("images", "manifests")
} | {"blobs": {"stored"}}
_PARTS = {"references": ~pc.field("reference_kind").isin(["layer", "config"]), "blobs": pc.scalar(False)}
NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


class Known(Protocol):
    """What tells an inventory from others; see `regdata.inventory.inventory.Inventory`."""

    @property
    def registry(self) -> str: ...
    @property
    def registry_id(self) -> str: ...
    @property
    def from_store(self) -> bool: ...
    @property
    def scanned_at(self) -> int: ...
    @property
    def within(self) -> tuple[str, ...] | None: ...


def save(tables: Tables, facts: dict[str, Any], folder: str | Path) -> Path:
    """Writes ``<folder>/<UTC time of the scan>/`` and returns it; a second one of the same second gets -2.

    ``facts`` has KEYS. All or nothing: it is written beside and renamed once it is on the disk. Raises StorageError.
    """
    folder = _path(folder)
    draft = folder / f".{secrets.token_hex(8)}.tmp"
    with _writing(folder, draft):
        draft.mkdir(parents=True)
        for name in TABLES:
            _write(tables.batches(name), draft / f"{name}.parquet")
        known = {key: concealed(value) if isinstance(value, str) else value for key, value in facts.items()}
        written = json.dumps({"format": FORMAT, **known}, indent=2, ensure_ascii=False)
        (draft / FACTS).write_text(f"{written}\n", "utf-8")
        for path in (*draft.iterdir(), draft):
            _sync(path)
        target = _take(draft, folder / f"{datetime.fromtimestamp(facts['scanned_at'], UTC):%Y%m%dT%H%M%SZ}")
        _sync(folder)
    return target


def load(path: str | Path, *, whole: bool = True) -> dict[str, Any]:
    """The fields of the Inventory of a snapshot, or of the newest one in a folder of them. Raises StorageError.

    Not ``whole``: without blobs, and without references to layers and configs, which are nearly all of it.
    """
    path = _path(path)
    if not (path / FACTS).is_file():
        found = saved(path)
        if not found:
            raise StorageError(
                f"no snapshot in {path}: give a snapshot's folder, or the folder that conf.json names as `snapshots`"
            )
        path = found[-1]
    facts = read_facts(path)
    tables = {name: _table(path, name, whole) for name in TABLES}
    frames = {name: to_frame(table) for name, table in tables.items() if name != "references"}
    if "stored" not in frames["blobs"]:  # then every blob that was had its date
        frames["blobs"]["stored"] = frames["blobs"]["blob_date"].notna() if facts["from_store"] else pd.NA
        _forget_dates(frames, facts)
    for name in LATER:
        if set(schema.TABLES[name]) - set(frames[name]):
            frames[name] = completed(name, frames[name])
    frames["blobs"] = frames["blobs"].astype({"stored": "boolean"})
    refers = References.of_frames(
        tables["references"], **{name: tables[name] for name in ("images", "manifests", "blobs", "oddities")}
    )
    return frames | {"refers": refers} | facts


def _forget_dates(frames: dict[str, pd.DataFrame], facts: dict[str, Any]) -> None:
    """Dates that can't be, and the ages by them: an older snapshot says 1970 where a store had lost its dates."""
    for name in ("images", "manifests", "blobs"):
        for column in DATES.intersection(frames[name]):
            dates = frames[name][column]
            frames[name][column] = dates.where(dates.between(FIRST, facts["scanned_at"]))
    images = frames["images"]
    counted = images["pushed" if facts["from_store"] else "created"]
    images["tag_timestamp"] = counted
    images.loc[counted.isna(), [name for name in ("age_days", "newest_rank", "family_rank") if name in images]] = None


def _table(path: Path, name: str, whole: bool) -> pa.Table:
    file = path / f"{name}.parquet"
    if name in _EMPTY and not file.exists():  # format 1
        return pa.Table.from_pandas(_EMPTY[name])
    try:
        table = pq.read_table(file, filters=None if whole else _PARTS.get(name))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None
    if missing := set(COLUMNS[name]) - set(table.column_names) - LATER.get(name, set()):
        raise _damaged(path, f"{name}.parquet has no {', '.join(sorted(missing))}")
    return table


def _path(given: object) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise StorageError(f"{given!r} ({type(given).__name__}) is no folder of snapshots: give a path")
    try:
        os.lstat(given)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # too long a name, or one that no file system has
        raise StorageError(f"{printable(str(given))} is no folder of snapshots: {error}") from None
    return Path(given)


def saved(folder: str | Path) -> list[Path]:
    """The snapshots in a folder, oldest first; none where there is no such folder. Raises StorageError."""
    check_visible(Path(folder))
    found = [path.parent for path in Path(folder).glob(f"*/{FACTS}") if NAME.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: (path.name[:16], len(path.name), path.name))


def earlier(folder: Path | None, than: Known, left_out: list[str] | None = None) -> dict[Path, int]:
    """The snapshots of the same registry that were read in the same way before an inventory, oldest first, with their
    times. One that can't be read raises StorageError, or is told in ``left_out``."""
    found = {}
    for path in saved(folder) if folder else ():
        try:
            facts = read_facts(path)
        except StorageError as error:
            if left_out is None:
                raise
            left_out.append(f"left out: {error}")
            continue
        key = "registry_id" if facts["registry_id"] and than.registry_id else "registry"
        within = facts["within"] and tuple(facts["within"])
        same = (facts[key], facts["from_store"], within) == (getattr(than, key), than.from_store, than.within)
        if same and facts["scanned_at"] < than.scanned_at:
            found[path] = facts["scanned_at"]
    return found


def read_facts(path: Path) -> dict[str, Any]:
    """What snapshot.json says but its format: the fields of an Inventory that are no frames. Raises StorageError."""
    try:
        facts = json.loads((path / FACTS).read_bytes())
        written = int(facts.pop("format"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise _damaged(path, error) from None
    if written > FORMAT:
        raise StorageError(
            f"{path} was saved by a newer regdata (format {written}, this one reads up to {FORMAT}): update regdata"
        )
    facts = {"within": None, "registry_id": ""} | facts  # what is older knew of no such thing
    if written == 1:
        facts = {"pulls_since": None, "collector": (False, True)} | facts
    if set(facts) != set(KEYS):
        raise _damaged(path, f"{FACTS} has the keys {', '.join(sorted(facts)) or 'none'}")
    if wrong := [key for key, kinds in _KINDS.items() if not isinstance(facts[key], kinds)]:
        raise _damaged(path, f"{wrong[0]} of {FACTS} is {facts[wrong[0]]!r:.60}")
    if not 0 <= facts["scanned_at"] < _LAST:
        raise _damaged(path, f"scanned_at of {FACTS} is no time")
    if isinstance(facts["protect"], str):
        facts["protect"] = filled(facts["protect"])
    try:
        return dict(facts) | {
            "registry": concealed(facts["registry"]),
            "collector": Collector(*facts["collector"]),
            "within": None if facts["within"] is None else tuple(map(str, facts["within"])),
        }
    except (AttributeError, TypeError) as error:
        raise _damaged(path, error) from None


def _write(rows: Iterator[pa.Table], path: Path) -> None:
    first = next(rows)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in (first, *rows):
            writer.write_table(table)


_EMPTY = {"uses": NO_USES, "oddities": NO_ODDITIES}


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
