"""What a collection took out of a store, until it is decided whether it is freed, and for as long as it is kept after.

It lies beside the registry's own folder, in the same file system::

    regdata-aside/README.txt
    regdata-aside/<run>/<number>-<state>/blobs/…            laid out like docker/registry/v2
    regdata-aside/<run>/<number>-<state>/repositories/…

A batch that is ``open`` is undecided: whatever was taken can be put back at any time, and is, by the next run, if its
run was interrupted. One that is ``kept`` was collected, and waits to be freed; one that is ``freed`` is being removed.
"""

from __future__ import annotations

import os.path
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress

from regdata.errors import StorageError
from regdata.sources.files import ABSENT, told
from regdata.sources.paths import blob_path
from regdata.sources.storage import Storage

NAME = "regdata-aside"
README = """\
What regdata took out of the registry beside this folder (docker/registry/v2), laid out as it was there.

Nothing that an image needs is in here. A folder ...-open belongs to a clean-up that is at work or was interrupted; the
next one puts its files back. A folder ...-kept was collected; conf.json's trash_days says for how many days it is kept,
and restore.ipynb brings its images back. Don't change anything in here while regdata runs.

By hand: a file goes back by moving it to the same place below docker/registry/v2. To free the space, delete a folder
...-kept or ...-freed.
"""
_BATCH = re.compile(r"(\d+)-(open|kept|freed)")


class Aside:
    """The folder of what was taken out of ``storage``."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.files, self.root = storage, storage.files, str(storage.root)
        with told(storage.base):
            self.folder = f"{self._place()}/{NAME}"

    def _place(self) -> str:
        """Beside the registry's own folder, where things can be moved to by renaming them."""
        parts = [f"{self.root}/{name}" for name in ("blobs", "repositories")]
        parts = [part for part in parts if self.files.is_folder(part)]
        places = [str(self.storage.base), *(str(self.storage.base / name) for name in ("docker", "docker/registry"))]
        for place in places:
            if all(self.files.is_together(place, part) for part in parts):
                return place
        raise StorageError(
            f"{self.root}/blobs and {self.root}/repositories lie in other file systems than {self.storage.base}, so "
            "that nothing can be set aside by moving it: collect by the registry's own gc-command"
        )

    def open(self, run: str) -> None:
        """Makes the folder, and one for the run in it. StorageError where that can't be done."""
        with told(self.folder):
            self.files.make(f"{self.folder}/{run}")
            self.files.write(f"{self.folder}/README.txt", README.encode())

    def batch(self, run: str, number: int) -> Batch:
        """A new batch of the run, which is open."""
        batch = Batch(self, run, number, "open")
        with told(batch.folder):
            self.files.make(batch.folder)
        return batch

    def runs(self) -> list[str]:
        """The names of the runs that something is here of."""
        with told(self.folder):
            return sorted(self.files.folders(self.folder))

    def batches(self, run: str = "") -> list[Batch]:
        """Every batch, of one run or of all, in the order of runs."""
        with told(self.folder):
            return [
                Batch(self, name, int(match[1]), match[2])
                for name in ([run] if run else self.runs())
                for folder in sorted(self.files.folders(f"{self.folder}/{name}"))
                if (match := _BATCH.fullmatch(folder))
            ]

    def has(self, digest: str) -> bool:
        """Whether the store has a blob's data."""
        with told(self.root):
            return self.files.exists(f"{self.root}/{blob_path(digest)}")

    def remove_empty(self, path: str) -> None:
        """Removes a folder of the store if nothing is in it."""
        with suppress(OSError):
            self.files.remove_empty(f"{self.root}/{path}")

    def now(self) -> int:
        """The time of the store's file system (UTC epoch seconds). Asking makes the disk take what was written."""
        path = f"{self.folder}/README.txt"
        with told(path):
            self.files.write(path, README.encode())
            written = self.files.stat(path)
        return written.mtime if written else 0

    def close(self) -> None:
        """Removes what is empty: runs' folders, and with the last one all of it."""
        for run in self.runs():
            with suppress(OSError):
                self.files.remove_empty(f"{self.folder}/{run}")
        with suppress(OSError):
            if self.files.names(self.folder) == ["README.txt"]:
                self.files.remove(self.folder)


class Batch:
    """Some of what was taken; ``state`` is open, kept or freed. Paths are those below ``docker/registry/v2``."""

    def __init__(self, aside: Aside, run: str, number: int, state: str) -> None:
        self.aside, self.files, self.run, self.number, self.state = aside, aside.files, run, number, state

    def __repr__(self) -> str:
        return f"<Batch {self.folder}>"

    @property
    def folder(self) -> str:
        return f"{self.aside.folder}/{self.run}/{self.number:04}-{self.state}"

    def take(self, path: str) -> bool:
        """Takes a file out of the store, at once for everybody who looks; False where it is not there."""
        return self._set_aside(path, self.files.move)

    def twin(self, path: str) -> bool:
        """Keeps a file's bytes, whoever removes it; False where it is not there."""
        return self._set_aside(path, self.files.twin)

    def _set_aside(self, path: str, how: Callable[[str, str], None]) -> bool:
        with told(path):
            self.files.make(os.path.dirname(f"{self.folder}/{path}"))
            try:
                how(f"{self.aside.root}/{path}", f"{self.folder}/{path}")
            except ABSENT:
                return False
            return True

    def give_back(self, path: str) -> bool:
        """Puts a file back where it was, unless it is there anew; False where this batch does not have it."""
        place, own = f"{self.aside.root}/{path}", f"{self.folder}/{path}"
        with told(place), suppress(*ABSENT):
            if self.files.exists(place):
                self.files.remove_file(own)
            else:
                self.files.make(os.path.dirname(place))
                self.files.move(own, place)
            return True
        return False

    def discard(self, path: str) -> None:
        """Frees a file."""
        own = f"{self.folder}/{path}"
        with told(own), suppress(*ABSENT):
            self.files.remove_file(own)

    def data(self) -> dict[str, str]:
        """The paths of blobs' bytes, by digest."""
        folder = f"{self.folder}/blobs/sha256"
        with told(folder):
            hexes = [hex_ for prefix in self.files.folders(folder) for hex_ in self.files.folders(f"{folder}/{prefix}")]
            paths = {f"sha256:{hex_}": blob_path(f"sha256:{hex_}") for hex_ in hexes}
            return {digest: path for digest, path in paths.items() if self.files.exists(f"{self.folder}/{path}")}

    def sizes(self) -> dict[str, int]:
        """Bytes of the blobs that are here."""
        with told(self.folder):
            stats = {digest: self.files.stat(f"{self.folder}/{path}") for digest, path in self.data().items()}
            return {digest: stat.size for digest, stat in stats.items() if stat}

    def date(self) -> int:
        """When it was decided that it goes (UTC epoch seconds, the store's clock)."""
        with told(self.folder):
            stat = self.files.stat(self.folder)
        return stat.mtime if stat else 0

    def links(self) -> dict[str, list[str]]:
        """The paths of links, by the digest that they hold."""
        found = defaultdict(list)
        with told(self.folder):
            for path in self._files("repositories"):
                if (content := self.files.first(f"{self.folder}/{path}", 256)) is not None:
                    found[content[0].decode("ascii", "replace").strip()].append(path)
        return found

    def _files(self, path: str) -> Iterator[str]:
        folders = self.files.folders(f"{self.folder}/{path}")
        for name in folders:
            yield from self._files(f"{path}/{name}")
        for name in {*self.files.names(f"{self.folder}/{path}")}.difference(folders):
            yield f"{path}/{name}"

    def undo(self) -> list[str]:
        """Puts everything back, bytes before links; a link whose bytes are gone is dropped. Returns the digests of
        bytes that were put back."""
        back = [digest for digest, path in self.data().items() if self.give_back(path)]
        for digest, paths in self.links().items():
            for path in paths if self.aside.has(digest) else []:
                self.give_back(path)
        self.drop()
        return back

    def keep(self) -> None:
        """Says that this was collected."""
        self._become("kept")

    def drop(self) -> None:
        """Frees it: what is still in it is gone."""
        self._become("freed")
        with told(self.folder), suppress(*ABSENT):
            self.files.remove(self.folder)

    def _become(self, state: str) -> None:
        before, self.state = self.folder, state
        with told(before), suppress(*ABSENT):
            self.files.move(before, self.folder)
