"""What a collection took out of a store, until it is decided whether it is freed, and for as long as it is kept after.

It lies beside the registry's own folder, in the same file system::

    regdata-aside/README.txt
    regdata-aside/<run>/<number>-<state>/<path below docker/registry/v2, with + for each />

All of a batch lies in one folder, since making and removing folders is what a collection would take most time for. What
else may not stand in a name is quoted as in a URL, and a name that would be too long goes on in a folder below.

A batch that is ``open`` is undecided: whatever was taken can be put back at any time, and is, by the next run, if its
run was interrupted. One that is ``kept`` was collected, and waits to be freed; one that is ``freed`` is being removed.
"""

from __future__ import annotations

import os.path
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote, unquote

from regdata.errors import StorageError
from regdata.sources.files import ABSENT, told
from regdata.sources.paths import ASIDE, blob_path, digest_of
from regdata.sources.storage import Storage

NAME = ASIDE
README = """\
What regdata took out of the registry beside this folder (docker/registry/v2). A file's name is the path that it had
there, with + for each /; a long one goes on in a folder below.

Nothing that an image needs is in here. A folder ...-open belongs to a clean-up that is at work or was interrupted; the
next one puts its files back. A folder ...-kept was collected; conf.json's trash_days says for how many days it is kept,
and restore.ipynb brings its images back. Don't change anything in here while regdata runs.

By hand: a file goes back by moving it to the path below docker/registry/v2 that its name says, for example
repositories+shop+web+_layers+sha256+0a1b…+link to repositories/shop/web/_layers/sha256/0a1b…/link.
To free the space, delete a folder ...-kept or ...-freed.
"""
# A file system takes names of 255 bytes.
_PIECE = 240
# An empty file, whose date is that of the decision.
_DECIDED = "when-kept"
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
            if all(map(self.files.beside(place), parts)):
                return place
        raise StorageError(
            f"{self.root}/blobs and {self.root}/repositories lie in other file systems or mounts than "
            f"{self.storage.base}, so that nothing can be set aside by moving it: collect by the registry's own "
            "gc-command"
        )

    def open(self, run: str) -> None:
        """Makes the folder, and one for the run in it. StorageError where that can't be done."""
        with told(self.folder):
            self.files.make(f"{self.folder}/{run}")
        self.flush()

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
        return self.has_file(blob_path(digest))

    def has_again(self, digest: str, size: int) -> bool:
        """Whether the store has a blob's data anew, as far as its bytes' number tells: what a disk lost is no copy."""
        with told(self.root):
            stat = self.files.stat(f"{self.root}/{blob_path(digest)}")
        return stat is not None and stat.size == size

    def is_whole(self, path: str) -> bool:
        """Whether the store has a file; of a link, one that holds a digest."""
        return self.storage.holds_digest(path) if path.endswith("/link") else self.has_file(path)

    def has_file(self, path: str) -> bool:
        """Whether the store has a file; not a symbolic link that leads nowhere."""
        with told(self.root):
            return self.files.place(f"{self.root}/{path}") is not None

    def remove_empty(self, path: str) -> None:
        """Removes a folder of the store if nothing is in it."""
        with suppress(OSError):
            self.files.remove_empty(f"{self.root}/{path}")

    def now(self) -> int:
        """The time of the store's file system (UTC epoch seconds)."""
        path = f"{self.folder}/README.txt"
        with told(path):
            self.files.touch(path)
            touched = self.files.stat(path)
        return touched.mtime if touched else 0

    def flush(self) -> None:
        """Returns when the disk has taken what was written."""
        with told(self.folder):
            self.files.write(f"{self.folder}/README.txt", README.encode())

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
        own = f"{self.folder}/{_name(path)}"
        with told(path):
            if len(own) > len(self.folder) + _PIECE + 1:
                self.files.make(os.path.dirname(own))
            try:
                how(f"{self.aside.root}/{path}", own)
            except ABSENT:
                return False
            return True

    def give_back(self, path: str) -> bool:
        """Puts a file back where it was, unless it is there anew, whole; False where this batch does not have it."""
        place = f"{self.aside.root}/{path}"
        for own in self._places(path):
            with told(place), suppress(*ABSENT):
                if self.files.exists(place) and not self._is_hollow(place, own) and not self._is_better(path, own):
                    self.files.remove_file(own)
                else:
                    if not self.files.exists(own):
                        continue
                    self.files.make(os.path.dirname(place))
                    self.files.move(own, place)
                return True
        return False

    def _is_hollow(self, place: str, own: str) -> bool:
        """Whether a symbolic link is there that leads to nothing but the file that is here."""
        return self.files.is_link(place) and self.files.place(place) in (None, self.files.place(own))

    def _is_better(self, path: str, own: str) -> bool:
        """Whether a blob's bytes are here, and only some of them in their place; or a link's digest, and none there."""
        stat, digest = self.files.stat(own), digest_of(path)
        if path.endswith("/link"):
            return not self.aside.is_whole(path)
        if not stat or not digest or self.aside.has_again(digest, stat.size):
            return False
        return f"sha256:{self.files.hash(own, 'sha256')}" == digest

    def discard(self, path: str) -> None:
        """Frees a file."""
        for own in self._places(path):
            with told(own), suppress(*ABSENT):
                self.files.remove_file(own)

    def _places(self, path: str) -> tuple[str, str]:
        """Where a file of the store may lie: regdata's first versions laid it out as it was there."""
        return f"{self.folder}/{_name(path)}", f"{self.folder}/{path}"

    def _held(self) -> Iterator[tuple[str, str]]:
        """Each file that is here: its path in the store, and where it lies."""
        with told(self.folder):
            folders = {*self.files.folders(self.folder)}
            for name in self.files.names(self.folder):
                if name in ("blobs", "repositories"):
                    yield from ((path, f"{self.folder}/{path}") for path in self._files(name))
                elif name in folders:
                    for rest in self._files(name):
                        yield _path(rest), f"{self.folder}/{rest}"
                else:
                    yield _path(name), f"{self.folder}/{name}"

    def _files(self, path: str) -> Iterator[str]:
        folders = self.files.folders(f"{self.folder}/{path}")
        for name in folders:
            yield from self._files(f"{path}/{name}")
        for name in {*self.files.names(f"{self.folder}/{path}")}.difference(folders):
            yield f"{path}/{name}"

    def data(self) -> dict[str, str]:
        """The paths of blobs' bytes, by digest."""
        return {digest: path for path, _ in self._held() if (digest := digest_of(path))}

    def sizes(self) -> dict[str, int]:
        """Bytes of the blobs that are here."""
        with told(self.folder):
            stats = {digest: self.files.stat(own) for path, own in self._held() if (digest := digest_of(path))}
            return {digest: stat.size for digest, stat in stats.items() if stat}

    def date(self) -> int:
        """When it was decided that it goes (UTC epoch seconds, the store's clock); the folder's own date, which changes
        with what is in it, for one of regdata's first versions."""
        with told(self.folder):
            stat = self.files.stat(f"{self.folder}/{_DECIDED}") or self.files.stat(self.folder)
        return stat.mtime if stat else 0

    def links(self) -> dict[str, list[str]]:
        """The paths of links, by the digest that they hold."""
        found = defaultdict(list)
        with told(self.folder):
            for path, own in self._held():
                if path.startswith("repositories/") and (content := self.files.first(own, 256)) is not None:
                    found[content[0].decode("ascii", "replace").strip()].append(path)
        return found

    def undo(self) -> list[str]:
        """Puts everything back, bytes before links; of what was kept a link whose bytes are gone is dropped. Returns
        the digests of bytes that were put back."""
        back = [digest for digest, path in self.data().items() if self.give_back(path)]
        for digest, paths in self.links().items():
            for path in paths if self.state == "open" or self.aside.has(digest) else []:
                self.give_back(path)
        self.drop()
        return back

    def keep(self) -> None:
        """Says that this was collected, and when."""
        with told(self.folder):
            self.files.write(f"{self.folder}/{_DECIDED}", b"")
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


def _name(path: str) -> str:
    """A path of the store as a file's name, or several, one below the other."""
    name = quote(path, errors="surrogateescape").replace("/", "+")
    return "/".join(name[start : start + _PIECE] for start in range(0, len(name), _PIECE))


def _path(name: str) -> str:
    """The path of the store that `_name` made a name of."""
    return unquote(name.replace("/", "").replace("+", "/"), errors="surrogateescape")
