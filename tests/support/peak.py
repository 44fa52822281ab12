"""How much memory a process and all that it starts take, as the kernel counts it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

LOOK = 0.02  # seconds between two looks


def run(argv: Sequence[str], *, cwd: Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """What it came to, and the most bytes that each process of its tree had, together: at least what it had at once."""
    peaks: dict[int, int] = {}
    # Files: a pipe that nobody empties would hold it up.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        process = subprocess.Popen(argv, cwd=cwd, stdout=out, stderr=error)
        while process.poll() is None:
            for pid in tree(process.pid):
                peaks[pid] = max(peaks.get(pid, 0), peak(pid))
            time.sleep(LOOK)
        out.seek(0)
        error.seek(0)
        done = subprocess.CompletedProcess(list(argv), process.returncode, out.read(), error.read())
    return done, sum(peaks.values())


def tree(pid: int) -> Iterator[int]:
    """A process, and those that it and they have started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # threads come and go
            for child in task.read_text().split():
                yield from tree(int(child))


def peak(pid: int) -> int:
    """The most bytes that a process had; 0 for one that is no more."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return 0
