"""The files of a store in memory: what `regdata.sources.files.Files` takes, and nothing of a file system."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regdata.errors import StorageError
from regdata.sources.files import Entry, Stat, Version
from regdata.sources.source import Usage


class MemoryFiles:
    """Folders as dicts of what lies in them, files as their bytes and date."""

    def __init__(self) -> None:
        self.folder: dict[str, set[str]] = {}
        self.file: dict[str, tuple[bytes, int]] = {}
        self.locked = False

    @classmethod
    def of(cls, base_path: Path) -> MemoryFiles:
        """A copy of a folder, under the same paths."""
        copy = cls()
        for where, folders, files in os.walk(base_path):
            copy.folder[where] = {*folders, *files}
            for name in files:
                path = f"{where}/{name}"
                copy.file[path] = (Path(path).read_bytes(), int(os.stat(path).st_mtime))
        return copy

    def names(self, folder: str) -> list[str]:
        return list(self.folder.get(folder.rstrip("/"), ()))

    def folders(self, folder: str) -> list[str]:
        folder = folder.rstrip("/")
        return [name for name in self.names(folder) if self.is_folder(f"{folder}/{name}")]

    def below(self, path: str, apart: str | None = None) -> Iterator[Entry]:
        for name, (data, date) in list(self.file.items()):
            if _is_in(name, path):
                yield Entry(name, len(data), date)
        for folder, names in list(self.folder.items()):
            if _is_in(folder, path) and not names:
                yield Entry(folder, 0, 0, is_file=False)

    def hash(self, path: str, algorithm: str) -> str:
        return hashlib.new(algorithm, self.file[path][0]).hexdigest()

    def is_folder(self, path: str) -> bool:
        return path in self.folder

    def exists(self, path: str) -> bool:
        return path in self.folder or path in self.file

    def is_link(self, path: str) -> bool:
        return False

    def links(self, folder: str) -> Iterator[str]:
        return iter(())

    def real(self, path: str) -> str:
        return path

    def place(self, path: str) -> object:
        return path if self.exists(path) else None

    def is_own(self, folder: str, root: str) -> bool:
        return folder.startswith(f"{root}/") and self.is_folder(folder)

    def writable(self, folder: str) -> bool:
        return True

    def stat(self, path: str) -> Stat | None:
        return Stat(len(self.file[path][0]), self.file[path][1]) if path in self.file else None

    def version(self, path: str) -> Version | None:
        if path in self.file:
            data, date = self.file[path]
            return Version(0, date * 10**9, hash(data))
        return Version(0, 0, hash(frozenset(self.folder[path]))) if path in self.folder else None

    def first(self, path: str, size: int) -> tuple[bytes, int] | None:
        return (self.file[path][0][:size], self.file[path][1]) if path in self.file else None

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        if path not in self.file:
            raise FileNotFoundError(path)
        data = self.file[path][0]
        return None if limit is not None and len(data) > limit else data

    def move(self, path: str, target: str) -> None:
        _move(self.folder, path, target)
        _move(self.file, path, target)
        self._listed(path, False)
        self._listed(target, True)

    def twin(self, path: str, target: str) -> None:
        self.file[target] = self.file[path]
        self._listed(target, True)

    def make(self, folder: str) -> None:
        if not self.is_folder(folder):
            self.make(folder.rpartition("/")[0])
            self.folder[folder] = set()
            self._listed(folder, True)

    def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
        self.file[path] = (data, int(time.time()))
        self._listed(path, True)

    def touch(self, path: str, date: int | None = None) -> None:
        self.file[path] = (self.file[path][0], int(time.time()) if date is None else date)

    def beside(self, folder: str) -> Callable[[str], bool]:
        return lambda other: True

    def remove_file(self, path: str) -> None:
        del self.file[path]
        self._listed(path, False)

    def remove(self, folder: str) -> None:
        self.folder = {path: names for path, names in self.folder.items() if not _is_in(path, folder)}
        self.file = {path: file for path, file in self.file.items() if not _is_in(path, folder)}
        self._listed(folder, False)

    def remove_empty(self, folder: str) -> None:
        if self.folder[folder]:
            raise OSError(f"{folder} is not empty")
        self.remove(folder)

    def _listed(self, path: str, there: bool) -> None:
        where, _, name = path.rpartition("/")
        self.folder[where].add(name) if there else self.folder[where].discard(name)

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        if self.locked:
            raise StorageError(f"Another regdata run is working on {folder}.")
        self.locked = True
        yield
        self.locked = False

    def usage(self, folder: str) -> Usage:
        used = sum(len(data) for data, _ in self.file.values())
        return Usage(2 * used + 1, used + 1, 1)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _move(found: dict[str, Any], path: str, target: str) -> None:
    for old in [old for old in found if _is_in(old, path)]:
        found[target + old.removeprefix(path)] = found.pop(old)
