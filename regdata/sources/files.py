"""The files of a store, wherever they lie: listing, reading, moving, locking.

`Storage` knows distribution's layout and asks a `Files` for everything else, so that the same layout may lie elsewhere.
Paths are absolute, with ``/`` between their parts. A registry runs meanwhile, so a file that vanishes between two looks
is nothing special: what is absent is empty, or None, except for `Files.read`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from stat import S_IMODE, S_ISDIR
from typing import Any, NamedTuple, Protocol

from regdata.errors import StorageError
from regdata.sources.locks import lock_folder
from regdata.sources.mounts import beside, copy, replacing
from regdata.sources.source import Usage

ABSENT = (FileNotFoundError, NotADirectoryError)
# What is no file at all, such as a pipe, is read at once, and is empty.
_READ = os.O_RDONLY | os.O_NONBLOCK


class Version(NamedTuple):
    """What differs once something was written again."""

    inode: int
    mtime_ns: int
    ctime_ns: int


class Stat(NamedTuple):
    """Bytes of a file, and when it was last written (UTC epoch seconds)."""

    size: int
    mtime: int


class Entry(NamedTuple):
    """A file, or a folder that is empty or (``error``) can't be read. ``file`` is the same for two names of one file;
    None: it has a single name."""

    path: str
    size: int
    date: int
    file: str | None = None
    is_file: bool = True
    error: PermissionError | None = None


class Files(Protocol):
    """Where files lie. What goes wrong is an OSError; `told` makes one a StorageError. Picklable."""

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, in any order."""

    def folders(self, folder: str) -> list[str]:
        """The folders in a folder, in any order; not those that lead back to a folder above them."""

    def below(self, path: str, apart: str | None = None) -> Iterator[Entry]:
        """Every file below a path, or at it, and every folder that is empty or can't be read. A symbolic link is a
        file, unless it leads out of the folder ``apart``: what is there is nowhere else."""

    def hash(self, path: str, algorithm: str) -> str:
        """The hash of a file's bytes, as hex digits. One of `ABSENT` where there is none."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder."""

    def exists(self, path: str) -> bool:
        """Whether there is anything, be it a link that leads nowhere."""

    def is_link(self, path: str) -> bool:
        """Whether there is a symbolic link."""

    def links(self, folder: str) -> Iterator[str]:
        """The symbolic links below a folder, at any depth, none of them followed."""

    def real(self, path: str) -> str:
        """Where a path leads to in the end, without symbolic links."""

    def place(self, path: str) -> object:
        """What is the same for two names of one folder, or file; None where there is nothing."""

    def is_own(self, folder: str, root: str) -> bool:
        """Whether it is a folder that really lies where it seems to below ``root``: a link may lead anywhere."""

    def writable(self, folder: str) -> bool:
        """Whether something in a folder may be changed."""

    def stat(self, path: str) -> Stat | None:
        """Size and date of a file."""

    def version(self, path: str) -> Version | None:
        """What differs once a file, or what lies in a folder, was written again, as a file server has it now; None
        where it is absent."""

    def first(self, path: str, size: int) -> tuple[bytes, int] | None:
        """The first bytes of a file, and its date."""

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        """The whole file; None if it has more bytes than ``limit``. One of `ABSENT` where there is none."""

    def move(self, path: str, target: str) -> None:
        """Rename, at once for everybody who looks; to another disk by a copy."""

    def twin(self, path: str, target: str) -> None:
        """Give a file a second name, or else copy it: its bytes stay while one of them does."""

    def make(self, folder: str) -> None:
        """Make a folder, and those above it that are missing; each gets the owner and mode of the one it lies in."""

    def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
        """Write a small file, a new one for the folder's owner; when this returns it is on the disk, and so is what was
        written there before: unless it need not be ``lasting``."""

    def touch(self, path: str, date: int | None = None) -> None:
        """Date a file: anew, by the clock that dates what is written, or so (UTC epoch seconds)."""

    def beside(self, folder: str) -> Callable[[str], bool]:
        """Whether something can be moved from another folder to this one, by renaming it; to be asked of many."""

    def remove(self, folder: str) -> None:
        """Remove a folder with all that is in it."""

    def remove_file(self, path: str) -> None:
        """Remove a file."""

    def remove_empty(self, folder: str) -> None:
        """Remove a folder that is empty."""

    def lock(self, folder: str) -> AbstractContextManager[None]:
        """Hold a lock that ends with the process; StorageError if another run has it."""

    def usage(self, folder: str) -> Usage:
        """What is free where the folder lies."""


class LocalFiles:
    """The files of this machine's file systems. Plain system calls: a scan makes one or two for each blob and link."""

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(folder)
        except ABSENT:
            return []

    def folders(self, folder: str) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if entry.is_dir() and not _leads_back(entry)]
        except ABSENT:
            return []

    def below(self, path: str, apart: str | None = None) -> Iterator[Entry]:
        base = None if apart is None else os.path.realpath(apart)
        followed = os.path.islink(path) and _leads_out(path, base)
        if not os.path.isdir(path) or (os.path.islink(path) and not followed):
            yield from _entry(path, linked=followed, follow=followed)
            return
        todo = [(path, followed)]
        while todo:
            folder, linked = todo.pop()
            try:
                with os.scandir(folder) as found:
                    entries = list(found)
            except ABSENT:
                continue
            except PermissionError as error:
                yield Entry(folder, 0, int(os.stat(folder).st_mtime), is_file=False, error=error)
                continue
            for entry in entries:
                followed = entry.is_symlink() and _leads_out(entry.path, base)
                if entry.is_dir(follow_symlinks=followed):
                    todo.append((entry.path, linked or followed))
                else:
                    yield from _entry(entry.path, linked=linked or followed, follow=followed)
            if not entries:
                yield Entry(folder, 0, int(os.stat(folder).st_mtime), is_file=False)

    def hash(self, path: str, algorithm: str) -> str:
        with open(path, "rb", buffering=0, opener=_opener) as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    def is_folder(self, path: str) -> bool:
        try:
            return S_ISDIR(os.stat(path).st_mode)
        except ABSENT:
            return False

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_link(self, path: str) -> bool:
        return os.path.islink(path)

    def links(self, folder: str) -> Iterator[str]:
        todo = [folder]
        while todo:
            try:
                with os.scandir(todo.pop()) as entries:
                    for entry in entries:
                        if entry.is_symlink():
                            yield entry.path
                        elif entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
            except ABSENT:
                continue

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def place(self, path: str) -> object:
        try:
            stat = os.stat(path)
        except ABSENT:
            return None
        return stat.st_dev, stat.st_ino

    def is_own(self, folder: str, root: str) -> bool:
        expected = os.path.realpath(root) + folder.removeprefix(root)
        return os.path.realpath(folder) == expected and os.path.isdir(folder)

    def writable(self, folder: str) -> bool:
        return os.access(folder, os.W_OK | os.X_OK)

    def stat(self, path: str) -> Stat | None:
        try:
            stat = os.stat(path)
        except ABSENT:
            return None
        return Stat(stat.st_size, int(stat.st_mtime))

    def version(self, path: str) -> Version | None:
        try:
            descriptor = os.open(path, _READ)  # which has a file server asked, where a stat might not
        except ABSENT:
            return None
        except OSError:  # it may not be opened, or is no file
            stat = os.stat(path)
        else:
            try:
                stat = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        return Version(stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)

    def first(self, path: str, size: int) -> tuple[bytes, int] | None:
        try:
            descriptor = os.open(path, _READ)
        except ABSENT:
            return None
        try:
            mtime = int(os.fstat(descriptor).st_mtime)
            return os.read(descriptor, size), mtime
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        with open(path, "rb", buffering=0, opener=_opener) as file:
            if limit is not None and os.fstat(file.fileno()).st_size > limit:
                return None
            return file.read()

    def move(self, path: str, target: str) -> None:
        try:
            os.rename(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV or os.path.isdir(path):
                raise
            copy(path, target, lasting=True)
            os.unlink(path)

    def twin(self, path: str, target: str) -> None:
        try:
            os.link(path, target)
        except ABSENT:
            raise
        except OSError:  # another's file, another disk, or a file system without second names
            copy(path, target, lasting=False)

    def make(self, folder: str) -> None:
        above = os.path.dirname(folder)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if os.path.isdir(folder):  # not a symbolic link that leads nowhere
                return
            raise
        except FileNotFoundError:
            self.make(above)
            return self.make(folder)
        like = os.stat(above)
        os.chmod(folder, S_IMODE(like.st_mode))
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
            os.chown(folder, like.st_uid, like.st_gid)

    def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
        with replacing(path) as begun, open(begun, "wb") as file:
            if os.geteuid() == 0:  # else the registry could not write it anew
                like = os.stat(os.path.dirname(path))
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())

    def touch(self, path: str, date: int | None = None) -> None:
        os.utime(path, date if date is None else (date, date))

    def beside(self, folder: str) -> Callable[[str], bool]:
        return beside(folder)

    def remove(self, folder: str) -> None:
        shutil.rmtree(folder, onerror=_with_path)

    def remove_file(self, path: str) -> None:
        os.unlink(path)

    def remove_empty(self, folder: str) -> None:
        os.rmdir(folder)

    def lock(self, folder: str) -> AbstractContextManager[None]:
        return lock_folder(folder)

    def usage(self, folder: str) -> Usage:
        found = os.statvfs(folder)
        # Some file systems make their inodes as they need them, and count none.
        inodes = found.f_favail if found.f_files else sys.maxsize
        return Usage(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, inodes)


LOCAL = LocalFiles()


def _opener(path: str, _: int) -> int:
    return os.open(path, _READ)


def _entry(path: str, *, linked: bool, follow: bool = False) -> Iterator[Entry]:
    """``linked``: a symbolic link led there, so that there may be another way; ``follow``: it is one."""
    try:
        found = os.stat(path, follow_symlinks=follow)
    except ABSENT:
        return
    several = linked or found.st_nlink > 1
    yield Entry(path, found.st_size, int(found.st_mtime), f"{found.st_dev}:{found.st_ino}" if several else None)


def _leads_out(link: str, base: str | None) -> bool:
    """Whether a symbolic link leads to something outside a folder, and not to a folder above itself."""
    if base is None or not os.path.exists(link):
        return False
    target, above = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return os.path.commonpath([target, base]) != base and os.path.commonpath([target, above]) != target


def _with_path(function: object, path: str, raised: tuple[Any, BaseException, Any]) -> None:
    """An error of what is removed with all that is in it names a file there by its name alone."""
    error = raised[1]
    raise type(error)(error.errno, error.strerror, path) if isinstance(error, OSError) else error


def _leads_back(entry: os.DirEntry[str]) -> bool:
    """Whether it is a symbolic link to a folder above itself, which would never end."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return os.path.commonpath([target, os.path.realpath(os.path.dirname(entry.path))]) == target


@contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Every OSError as a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        cure = "Check the disk and base_path."
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            cure = "Run regdata as a user who may read and change the registry's folder."
        raise StorageError(f"{where}: {error.strerror}. {cure}") from error
