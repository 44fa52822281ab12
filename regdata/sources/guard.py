"""Puts back what a run took out of a store, should it be killed before it has decided: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regdata.errors import RegdataError, StorageError
from regdata.sources.aside import Aside
from regdata.sources.interrupts import interrupts_held_back
from regdata.sources.storage import Storage


@contextmanager
def guarded(aside: Aside, run: str) -> Iterator[None]:
    """A folder to set things aside in; should the caller die inside, what it has taken is put back within moments."""
    aside.open(run)
    base = str(aside.storage.base)
    try:
        guard = subprocess.Popen(
            [sys.executable, "-S", "-m", __name__, base, run],  # -S: nothing of site-packages is needed
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,  # what ends us by the terminal must not end it
        )
    except OSError as error:
        aside.close()
        raise StorageError(
            f"no process that would put things back can be started: {error.strerror}: {sys.executable}. See whether "
            "memory or the number of processes is short, then try again"
        ) from None
    try:
        yield
    finally:
        with interrupts_held_back():
            with suppress(OSError):
                guard.communicate(b"decided")
            guard.wait()
            aside.close()


def undo(aside: Aside, run: str = "") -> list[str]:
    """Puts back what is undecided, of one run or of all; returns the digests of the bytes."""
    back = [digest for batch in aside.batches(run) if batch.state == "open" for digest in batch.undo()]
    aside.close()
    return back


def _watch(base: str, run: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != b"decided":
        # Whatever is wrong, the next run puts things back, and says so.
        with suppress(RegdataError):
            undo(Aside(Storage(base)), run)


if __name__ == "__main__":
    _watch(*sys.argv[1:])
