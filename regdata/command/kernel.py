"""A kernel that loads what a notebook needs while `clear.py` loads what runs it: they wait for each other otherwise.

`python -P -m regdata.command.kernel` loads, reads how it is to be started as one line of JSON from stdin, and becomes
that kernel; without such a line it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# Read when matplotlib is loaded; a kernel sets the one itself, before that.
_ENVIRONMENT = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


class Kernel:
    """A process that loads, in a session of its own; it is ended with the block."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "regdata.command.kernel"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=_ENVIRONMENT | os.environ,
        )

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(OSError):
            assert self.process.stdin
            self.process.stdin.close()

    def become(self, command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """The process, which is told to be the kernel that this command (`python -m ipykernel_launcher …`) starts."""
        assert self.process.stdin
        parent = {"JPY_PARENT_PID": str(os.getpid())}  # with which it ends
        told = {"arguments": command[command.index("-f") :], "environment": environment | parent, "cwd": os.getcwd()}
        with suppress(BrokenPipeError):  # it died: that is seen as with any kernel
            self.process.stdin.write(json.dumps(told).encode() + b"\n")
            self.process.stdin.close()
        return self.process


def main() -> None:
    from ipykernel import kernelapp

    from regdata.notebook import charts, live, run, views  # noqa: F401

    line = sys.stdin.readline()
    if not line:
        return
    told: dict[str, Any] = json.loads(line)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = ["ipykernel_launcher", *told["arguments"]]
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
