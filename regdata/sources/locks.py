"""Locks on folders, and who holds one.

A lock ends with the process, and with the collection that it began: a command that inherits descriptors
(``close_fds=False``) holds it, too.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regdata.errors import StorageError

HOLDER = "holder.json"


@contextmanager
def lock_folder(folder: str | Path, what: str = "", *, run: str | None = None) -> Iterator[None]:
    """Holds a lock on a folder; StorageError while another run does. ``run``: it is said in the folder who it is."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}. Check the disk and base_path.") from error
    try:
        os.set_inheritable(descriptor, True)  # for a command that is to hold it, too
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(_told(Path(folder), what or str(folder))) from None
        except OSError as error:
            raise StorageError(f"{folder} can't be locked: {error.strerror}. Check its file system.") from error
        if run is not None:
            with suppress(OSError):
                (Path(folder) / HOLDER).write_text(json.dumps(_me(run)))
        yield
    finally:
        os.close(descriptor)


def _me(run: str) -> dict[str, Any]:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"pid": os.getpid(), "born": _born(os.getpid()), "host": socket.gethostname(), "run": run, "since": now}


def _born(pid: int) -> str | None:
    """When a process began, in the kernel's own count; None where it is gone, or was never here."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else rest[18]


def _told(folder: Path, what: str) -> str:
    """Who holds the lock on a folder, and whether that process lives or only the collection that it began."""
    try:
        known = json.loads((folder / HOLDER).read_bytes())
        pid, host, run, since = int(known["pid"]), str(known["host"]), str(known["run"]), str(known["since"])
        born = known["born"]
    except (OSError, ValueError, KeyError, TypeError):
        return _told_by_kernel(folder, what)
    who = f"process {pid} on {host}, since {since}"
    who += f"; its record is {run}" if run else ""
    return _said(host != socket.gethostname() or _born(pid) == born, who, what)


def _said(alive: bool, who: str, what: str) -> str:
    if alive:
        return f"Another regdata run is working on {what}: {who}. Wait until it has ended"
    return (
        f"Another regdata run has ended, but the collection that it began on {what} has not (it was {who}). Wait until "
        "that command has ended"
    )


def _told_by_kernel(folder: Path, what: str) -> str:
    """The same where the holder is another user: Linux tells the process that took the lock (proc(5), /proc/locks)."""
    inode = str(folder.stat().st_ino)
    with suppress(OSError, IndexError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                pid = int(fields[4])
                return _said(_born(pid) is not None, f"process {pid} on this machine", what)
    return f"Another regdata run is working on {what}, or the collection that it began. Wait until it has ended"
