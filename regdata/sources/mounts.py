"""Where other file systems are mounted, what can be renamed into what, and what else is copied."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path


@cache
def mounts() -> frozenset[str]:
    """Where something is mounted (proc(5), mountinfo); nowhere where nobody can tell."""
    try:
        fields = [line.split(b" ")[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    except OSError:
        return frozenset()
    return frozenset(
        os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), one)) for one in fields
    )


def mount_of(path: str) -> str:
    """The mount in which a real path lies: nothing is renamed into another, be it of the same file system
    (rename(2))."""
    while path not in mounts() and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def beside(folder: str) -> Callable[[str], bool]:
    """Whether something can be moved from another folder to this one, by renaming it; to be asked of many."""
    real, mount = lru_cache(os.path.realpath), lru_cache(mount_of)  # many folders have few parents
    device, within = os.stat(folder).st_dev, mount_of(os.path.realpath(folder))

    def is_beside(other: str) -> bool:
        parent, name = os.path.split(other)
        path = os.path.realpath(other) if os.path.islink(other) else os.path.join(real(parent), name)
        lies_in = path if path in mounts() else mount(os.path.dirname(path))
        return lies_in == within and os.stat(other).st_dev == device

    return is_beside


def copy(path: str, target: str, *, lasting: bool) -> None:
    """A file's bytes, date, mode and owner: all of it, and on the disk if it is to be ``lasting``, or nothing."""
    with replacing(target) as begun:
        shutil.copy2(path, begun)
        if os.geteuid() == 0:
            like = os.stat(path)
            os.chown(begun, like.st_uid, like.st_gid)
        if lasting:
            with open(begun, "rb") as file:
                os.fsync(file.fileno())


@contextmanager
def replacing(target: str) -> Iterator[str]:
    """A name to write under, which takes the place of ``target``, be that a symbolic link, in the end or not at all."""
    begun = f"{target}.regdata.tmp"
    try:
        yield begun
        os.replace(begun, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(begun)
        raise
