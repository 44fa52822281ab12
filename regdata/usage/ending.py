"""A command of conf.json's: how it is started, and how it comes to its end, by itself or because it takes too long."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

POLL = 0.02  # seconds


# What commands don't get: what they print is recorded, and a registry takes REGISTRY_… for its configuration.
_OURS = ("REGDATA_PASSWORD", "REGDATA_TOKEN", "REGISTRY_AUTH_FILE")


def started(
    command: Sequence[str],
    folder: Path,
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes],
    stderr: IO[bytes] | int = subprocess.STDOUT,
    close_fds: bool = True,
) -> subprocess.Popen[bytes]:
    """Starts it in ``folder``, conf.json's, in a session of its own, where no Ctrl-C reaches it. Raises OSError."""
    ours = {name: value for name, value in os.environ.items() if name not in _OURS}
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=ours,
        start_new_session=True,
        close_fds=close_fds,
    )


class TooMuch(Exception):
    """Why a command was ended, as what it did."""


def ended(process: subprocess.Popen[bytes], limit: float, files: Sequence[IO[bytes]], most: int) -> int:
    """Its exit code, once it has ended, which it has with ``limit`` seconds and ``most`` bytes in each of the files to
    which it prints: then it is ended with what it started, which it leads in a session of its own. Raises TooMuch."""
    deadline = time.monotonic() + limit
    try:
        while (code := process.poll()) is None:
            if max(os.fstat(file.fileno()).st_size for file in files) > most:
                raise TooMuch(f"printed more than {most} bytes")
            if time.monotonic() > deadline:
                raise TooMuch(f"took more than {limit:g} s")
            time.sleep(POLL)
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code
