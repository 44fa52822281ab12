"""Reading on several cores: shares of a source's work in Python processes of their own.

Not multiprocessing: its fork copies what other threads hold locked (a notebook's kernel has many), its spawn and
forkserver run the caller's script once more in each process, and that script may be one that deletes. These processes
import the source's module and nothing else, start in some 30 ms, and end with their share.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from regdata.errors import RegdataError, StorageError
from regdata.sources.source import Readable

Found = TypeVar("Found")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read(source: Readable[Found], parts: Sequence[Any]) -> Iterator[Found]:
    """What each part holds: the first is read here, the others in processes. Raises what the source's read raises."""
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts[1:]:
            worker = _start()
            workers.append(worker)
            # One that has ended by now is told of below.
            with suppress(BrokenPipeError), _stream(worker.stdin) as stream:
                pickle.dump((source, part), stream)
        yield from (source.read(part) for part in parts[:1])
        for worker in workers:
            found: Found = _received(worker)
            yield found
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            _stream(worker.stdout).close()


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-S", "-m", __name__],  # -S: nothing of site-packages is needed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
    except OSError as error:
        raise StorageError(
            f"no process for a share of the store can be started: {error.strerror}: {sys.executable}. See whether "
            "memory or the number of processes is short, then try again"
        ) from None


def _received(worker: subprocess.Popen[bytes]) -> Any:
    try:
        answer = pickle.load(_stream(worker.stdout))
    except (EOFError, pickle.UnpicklingError):
        raise StorageError(
            f"a process that read a share of the store ended early (exit code {worker.wait()}): see whether memory was "
            "short, then try again"
        ) from None
    if isinstance(answer, RegdataError):
        raise answer
    return answer


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that started this one, which ends it
    source, part = pickle.load(sys.stdin.buffer)
    try:
        answer = source.read(part)
    except RegdataError as error:
        answer = error
    pickle.dump(answer, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    _work()
