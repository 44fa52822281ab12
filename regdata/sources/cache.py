"""Manifests and configs on disk by digest: what a digest names never changes, so no scan has to read it twice.

One SQLite file that any number of processes may share. Nothing in it is taken on trust: bytes that don't hash to their
digest are as good as none. A cache that can't be read or written is one that is not used; nothing here raises.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from regdata.sources.manifest import matches

# About 600,000 manifests and configs.
LIMIT = 2**30
_NAME = "contents-1.sqlite"  # to be counted up when the table changes
_TABLE = (
    "CREATE TABLE IF NOT EXISTS content (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB NOT NULL)"
)
_BATCH = 500
LOCK_TIMEOUT = 5  # seconds
_VERIFIABLE = ("sha256:", "sha512:")
_T = TypeVar("_T")


class Cache:
    """Contents in ``folder``, at most about ``limit`` bytes; None: no cache. Picklable, and safe between threads."""

    def __init__(self, folder: Path | None, *, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self.usable = folder is not None
        self._kept: dict[str, bytes] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _cache, (self.folder, self.limit)

    def read(self, digests: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Those contents that are here and true to their digests."""
        return ((digest, data) for digest, data in self._select(digests) if _is_true(digest, data))

    def keep(self, digest: str, data: bytes) -> None:
        """Remember a content; `flush` it at last."""
        if self.usable and digest.startswith(_VERIFIABLE) and matches(digest, data):
            self._put(digest, data)

    def knows(self, references: Iterable[str]) -> set[str]:
        """Those of the references (of any text) that were `met` before."""
        names = {_mark(reference): reference for reference in references} if self.usable else {}
        return {names[name] for name, _ in self._select(names)}

    def met(self, reference: str) -> None:
        """Remember that there is such a reference; what it leads to is not for a cache to say."""
        if self.usable:
            self._put(_mark(reference), b"")

    def flush(self) -> None:
        """Write what is to be kept."""
        with self._lock:
            kept, self._kept = self._kept, {}
        if kept:
            self._do(partial(self._insert, kept), None)

    def _put(self, name: str, data: bytes) -> None:
        with self._lock:
            self._kept[name] = data
            full = len(self._kept) >= _BATCH
        if full:
            self.flush()

    def _select(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        rest = iter(names)
        while self.usable and (batch := list(islice(rest, _BATCH))):
            nothing: list[tuple[str, bytes]] = []
            yield from self._do(partial(_rows, batch), nothing)

    def _insert(self, kept: dict[str, bytes], connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT OR REPLACE INTO content (name, data) VALUES (?, ?)", kept.items())
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self.limit:  # the older half goes
            connection.execute(
                "DELETE FROM content WHERE number <= (SELECT (min(number) + max(number)) / 2 FROM content)"
            )

    def _do(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        if self.folder is None or not self.usable:
            return otherwise
        path = self.folder / _NAME
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT)) as connection, connection:
                connection.execute("PRAGMA synchronous = OFF")  # losing it in a power cut does no harm
                connection.execute(_TABLE)
                return work(connection)
        except (sqlite3.OperationalError, OSError):
            self.usable = False  # not to wait for its lock, say, again and again
        except sqlite3.DatabaseError:  # damaged, or no database: the next run makes it anew
            self.usable = False
            with suppress(OSError):
                path.unlink()
        return otherwise


OFF = Cache(None)


def _cache(folder: Path | None, limit: int) -> Cache:
    return Cache(folder, limit=limit)


def _rows(names: list[str], connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
    marks = ", ".join("?" * len(names))
    return connection.execute(f"SELECT name, data FROM content WHERE name IN ({marks})", names).fetchall()


def _mark(reference: str) -> str:
    return hashlib.sha256(reference.encode()).hexdigest()[:32]


def _is_true(digest: str, data: object) -> bool:
    return isinstance(data, bytes) and matches(digest, data)
