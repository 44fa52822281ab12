"""`clear.py sql_id action`: runs delete.ipynb through papermill and leaves a report.

Exit codes: 0 done; 1 the run failed, or its record has errors; 2 the command line is wrong;
130 interrupted by Ctrl-C or SIGTERM.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from regdata._version import __version__
from regdata.errors import ConfigError, RegdataError
from regdata.show.words import size

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager

    from regdata.config import Config

PROG = "clear.py"
PACKAGE = Path(__file__).parents[1]
# in the package when that is from a wheel, beside it in a checkout
NOTEBOOKS = PACKAGE / "notebooks"
if not NOTEBOOKS.is_dir():
    NOTEBOOKS = PACKAGE.parent / "notebooks"
INTERRUPTED = 130
# A kernel drops a signal that comes before it has begun with a cell it was sent.
SIGNAL_DELAY = 0.5  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (see above). Whatever goes wrong is one line."""
    arguments = _parser().parse_args(argv)
    try:
        config = _load(arguments.conf)
        try:
            config.condition(arguments.sql_id)
        except ConfigError as error:
            return _fail(error, code=2)
        return _run(arguments, config)
    except (RegdataError, OSError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail("interrupted", code=INTERRUPTED)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROG}: {message}; see {PROG} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROG,
        description="Deletes the tags that a condition of conf.json selects, and what only they"
        " hold; then has the registry collect its garbage. Leaves a report.",
        allow_abbrev=False,
    )
    parser.add_argument("sql_id", help="name of the condition in conf.json that selects the tags")
    parser.add_argument(
        "action",
        choices=("del", "none"),
        help="del: delete and collect; none: list, change nothing",
    )
    parser.add_argument(
        "--conf",
        metavar="FILE",
        default="",
        help="default: $REGDATA_CONF, else conf.json in this folder or the nearest one above",
    )
    parser.add_argument("--no-gc", dest="gc", action="store_false", help="delete, but leave out the collection")
    parser.add_argument("--force", action="store_true", help="go beyond the limits in conf.json")
    parser.add_argument("--version", action="version", version=f"regdata {__version__}")
    return parser


def _fail(problem: object, *, code: int = 1) -> int:
    print(f"{PROG}: {problem}", file=sys.stderr)
    return code


def _load(path: str) -> "Config":
    from regdata.config import load_config

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = load_config(path)
    for warning in caught:
        _fail(f"warning: {warning.message}")
    return config


def _run(arguments: argparse.Namespace, config: "Config") -> int:
    from regdata.command.html import export_html
    from regdata.records.record import new_folder

    folder = new_folder(config.reports, arguments.sql_id)
    notebook = folder / "delete.ipynb"
    parameters = {
        "sql_id": arguments.sql_id,
        "action": arguments.action,
        "conf": str(config.path),
        "gc": arguments.gc,
        "force": arguments.force,
    }
    code = execute(NOTEBOOKS / notebook.name, notebook, parameters)
    record = _read_record(folder / "record.json")
    for name, value in _table(record):
        print(f"{name:<18} {value}")
    if notebook.is_file():
        print(f"{'report':<18} {export_html(notebook)}")
    return 1 if code == 0 and record.get("errors") else code


def execute(source: Path, target: Path, parameters: dict[str, Any]) -> int:
    """Runs the notebook, which writes its record into the folder of `target`; the exit code."""
    from papermill import PapermillExecutionError, execute_notebook
    from papermill.log import logger

    logger.setLevel(logging.CRITICAL)  # what it logs as errors it raises as well
    interrupter = _Interrupter()
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
        if not interrupter.requested:
            return _fail(" ".join(f"{error.ename}: {error.evalue}".split()))
    except KeyboardInterrupt:  # the second signal: the kernel was stopped at once
        pass
    except (RuntimeError, OSError) as error:  # no kernel, or it died; the disk is full
        return _fail(f"{error}; the report shows how far the run got")
    else:
        return 0  # also where a signal came too late to stop anything
    return _fail("interrupted", code=INTERRUPTED)


@contextmanager
def _environment(run: Path) -> Iterator[None]:
    """What the kernel inherits: where its record goes, and no remarks of the debugger's."""
    from regdata.records.record import FOLDER_VARIABLE

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
    that is what the second signal does.
    """

    def __init__(self) -> None:
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
        from nbclient.exceptions import CellExecutionError

        if self.requested:
            raise CellExecutionError("", "KeyboardInterrupt", "")
        self.started = True

    def kernel_manager_class(self) -> "type[KernelManager]":
        """Starts the kernel with this interpreter, whatever python3 is on PATH or in a home."""
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager

        interrupter = self

        class OwnKernel(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                own = KernelSpecManager(kernel_dirs=[])
                super().__init__(kernel_spec_manager=own, **options)
                interrupter.kernel = self

            async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
                # Its remarks on sockets, debuggers and interrupts are no errors of ours.
                await super().start_kernel(stderr=subprocess.DEVNULL, **options)

        return OwnKernel


def _read_record(path: Path) -> dict[str, Any]:
    """Empty when the run ended before it had written one."""
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record


def _table(record: dict[str, Any]) -> list[tuple[str, str]]:
    from regdata.records.record import COUNTS

    if not record:
        return []
    rows = [(key, str(record.get(key))) for key in ("registry", "sql_id", "action")]
    rows += [(key.replace("_", " "), str(record.get(key))) for key in COUNTS]
    rows += [(key.replace("_", " "), size(record.get(key))) for key in ("bytes_predicted", "bytes_freed")]
    return rows + [("error", " ".join(str(error).split())) for error in record.get("errors", [])]


if __name__ == "__main__":
    sys.exit(main())
