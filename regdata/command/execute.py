"""A notebook and its parameters -> the executed notebook, and what went wrong."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient.exceptions import CellExecutionError
from papermill import PapermillExecutionError, execute_notebook
from papermill.execute import remove_error_markers
from papermill.iorw import load_notebook_node, write_ipynb
from papermill.log import logger

from regdata import errors
from regdata.command.kernel import Kernel
from regdata.records.reading import PastRun
from regdata.records.record import FOLDER_VARIABLE

PACKAGE = Path(__file__).parents[1]
# in the package when that is from a wheel, beside it in a checkout
NOTEBOOKS = PACKAGE / "notebooks"
if not NOTEBOOKS.is_dir():
    NOTEBOOKS = PACKAGE.parent / "notebooks"
# A kernel drops a signal that comes before it has begun with a cell it was sent.
SIGNAL_DELAY = 0.5  # seconds


class Problem(NamedTuple):
    """Why a notebook did not run to its end, in one line; whether that was Ctrl-C or SIGTERM."""

    said: str
    interrupted: bool = False


def execute(source: Path, target: Path, parameters: dict[str, Any], kernel: Kernel | None = None) -> Problem | None:
    """Runs the notebook, which writes its record into the folder of `target`; what went wrong, if anything did.

    ``kernel``: one that has begun to load.
    """
    logger.setLevel(logging.CRITICAL)  # what it logs as errors it raises as well
    interrupter = _Interrupter(target.parent, kernel)
    try:
        with _environment(target.parent), interrupter:
            execute_notebook(
                source,
                target,
                parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                log_output=False,
                kernel_manager_class=interrupter.kernel_manager_class(),
                on_cell_execute=interrupter.check,
            )
    except PapermillExecutionError as error:
        _without_banner(target)
        if not interrupter.requested:
            kind = "" if hasattr(errors, error.ename) else f"{error.ename}: "  # of ours the message says it all
            return Problem(" ".join(f"{kind}{error.evalue}".split()))
    except KeyboardInterrupt:  # the second signal: the kernel was stopped at once
        pass
    except (RuntimeError, OSError) as error:  # no kernel, or it died; the disk is full
        return Problem(f"{error}: how far the run got is in its report")
    else:
        return None  # also where a signal came too late to stop anything
    return Problem("interrupted", interrupted=True)


def _without_banner(target: Path) -> None:
    """papermill's own words on the cell that failed are taken out: the report opens with what went wrong."""
    with suppress(OSError):
        write_ipynb(remove_error_markers(load_notebook_node(str(target))), str(target))


@contextmanager
def _environment(run: Path) -> Iterator[None]:
    """What the kernel inherits: where its record goes, and no remarks of the debugger's."""
    before = os.environ.copy()
    os.environ[FOLDER_VARIABLE] = str(run)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Interrupter:
    """Turns SIGINT or SIGTERM into an interrupt of the running cell, and waits for its end.

    So regdata, in the kernel, can finish the step it is at and write its record. Without it
    SIGTERM would end us but not the kernel, and SIGINT would kill the kernel after five seconds;
    that is what the second signal does. Not while a command of conf.json's runs: gc-after would
    never be run, or beside the collection.
    """

    def __init__(self, run: Path, ahead: Kernel | None) -> None:
        """``run``: the folder of its record; ``ahead``: a kernel that has begun to load."""
        self.run, self.ahead = run, ahead
        self.requested = False
        self.started = False  # a kernel that is still loading would die of the signal
        self.kernel: KernelManager | None = None
        self.previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self.handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            if PastRun(self.run).is_at_command:
                return
            raise KeyboardInterrupt
        self.requested = True
        timer = threading.Timer(SIGNAL_DELAY, self.interrupt)
        timer.daemon = True
        timer.start()

    def interrupt(self) -> None:
        """SIGINT for the kernel and what it started, as JupyterLab's stop button does."""
        group = getattr(self.kernel and self.kernel.provisioner, "pgid", None)
        if group and self.started:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGINT)

    def check(self, **_: object) -> None:
        """Before each code cell: a signal that came between two cells ends the run as well."""
        if self.requested:
            raise CellExecutionError("", "KeyboardInterrupt", "")
        self.started = True

    def kernel_manager_class(self) -> type[KernelManager]:
        """Starts the kernel with this interpreter, whatever python3 is on PATH or in a home."""
        interrupter = self

        class OwnKernel(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                own = KernelSpecManager(kernel_dirs=[])
                super().__init__(kernel_spec_manager=own, **options)
                interrupter.kernel = self

            async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
                # Its remarks on sockets, debuggers and interrupts are no errors of ours.
                await super().start_kernel(stderr=subprocess.DEVNULL, **options)

            async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
                if interrupter.ahead is None:
                    return await super()._async_launch_kernel(kernel_cmd, **options)
                process = interrupter.ahead.become(kernel_cmd, options["env"])
                provisioner: Any = self.provisioner
                provisioner.process, provisioner.pid, provisioner.pgid = process, process.pid, process.pid

        return OwnKernel
