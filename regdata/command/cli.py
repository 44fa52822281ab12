"""`clear.py sql_id action`: runs delete.ipynb through papermill and leaves a report; see program.py for exit codes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from regdata.command.kernel import Kernel
from regdata.command.output import check_place
from regdata.command.program import USAGE, Program, add_conf, given
from regdata.errors import ConfigError, RegdataError

if TYPE_CHECKING:
    from regdata.config import Config
    from regdata.show.blocks import Document

PROGRAM = Program("clear.py")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. Whatever goes wrong is one line."""
    arguments = _parser().parse_args(argv)
    return PROGRAM.run(lambda: clean(PROGRAM, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = PROGRAM.parser(
        description="Deletes the tags that a condition of conf.json selects, and what only they"
        " hold; then has the registry collect its garbage. Leaves a report.",
    )
    add_sql_id(parser)
    parser.add_argument(
        "action",
        choices=("del", "none"),
        help="del: delete and collect; none: list, change nothing",
    )
    add_conf(parser)
    parser.add_argument("--no-gc", dest="gc", action="store_false", help="delete, but leave out the collection")
    parser.add_argument("--force", action="store_true", help="go beyond the limits in conf.json")
    parser.add_argument("--empty-trash", action="store_true", help="free now what earlier runs set aside (trash_days)")
    add_output(parser)
    return parser


def add_sql_id(parser: argparse.ArgumentParser) -> None:
    """The argument that names a condition."""
    parser.add_argument("sql_id", help="name of the condition in conf.json that selects the tags")


def clean(program: Program, arguments: argparse.Namespace) -> int:
    """Runs delete.ipynb with sql_id, action, conf, gc, force and empty_trash; returns the exit code."""
    if arguments.json and arguments.csv == "-":
        return program.fail("--json and --csv - would both print on stdout: give --csv a file", code=USAGE)
    if arguments.csv and arguments.csv != "-":
        check_place(Path(arguments.csv), "give --csv another file")
    config = program.load(arguments.conf)
    try:
        config.condition(arguments.sql_id)
    except ConfigError as error:
        return program.fail(error, code=USAGE)
    with Kernel() as kernel:
        # They load pandas and DuckDB, for which --help and a wrong command line need not wait.
        from regdata.cleaning.checks import check_early
        from regdata.tables.process import release

        Thread(target=_load_ahead).start()
        try:
            check_early(config, arguments.sql_id, arguments.action, gc=arguments.gc)
        finally:
            release()
        return _run(program, arguments, config, kernel)


def add_output(parser: argparse.ArgumentParser) -> None:
    """The options that say how a listing is printed."""
    parser.add_argument("--json", action="store_true", help="print what the run found as JSON, for scripts")
    parser.add_argument(
        "--csv", metavar="FILE", type=given, help="write the tags, with what happens to each and why; - prints them"
    )


def _load_ahead() -> None:
    """papermill and nbconvert, while the check waits for the registry and for DuckDB's process."""
    from regdata.command import execute, html  # noqa: F401


def _run(program: Program, arguments: argparse.Namespace, config: "Config", kernel: Kernel) -> int:
    # It loads tqdm, the others papermill and nbconvert: --help and a wrong command line need not wait for them.
    from regdata.command.ticker import Ticker

    with Ticker():
        from regdata.command.execute import NOTEBOOKS, execute
        from regdata.command.html import export_html
        from regdata.command.saying import say
        from regdata.records.closing import close_killed
        from regdata.records.index import write_index
        from regdata.records.reading import PastRun
        from regdata.records.record import new_folder
        from regdata.records.summary import box

        folder = new_folder(config.reports, arguments.sql_id)
        notebook = folder / "delete.ipynb"
        parameters = {
            "sql_id": arguments.sql_id,
            "action": arguments.action,
            "conf": str(config.path),
            "gc": arguments.gc,
            "force": arguments.force,
            "empty_trash": arguments.empty_trash,
        }
        problem = execute(NOTEBOOKS / notebook.name, notebook, parameters, kernel)

        def opening() -> "Document":
            return box(folder, linked=True, problem=problem and problem.said)

        steps: list[Callable[[], object]] = [
            lambda: close_killed(config, besides=config.reports),  # a kernel that died could not say so
            lambda: notebook.is_file() and export_html(notebook, opening()),
            lambda: write_index(config.reports),
        ]
        notes = [str(error) for error in map(_tried, steps) if error]
    html = notebook.with_suffix(".html")
    page = html if html.is_file() else None
    # Where nothing was done or found out there is nothing to be said but why.
    in_vain = problem is not None and PastRun(folder).was_in_vain
    code = program.failed(problem, page if in_vain else None)
    errors = say(folder, page, as_json=arguments.json, csv=arguments.csv, in_vain=in_vain)
    for note in notes:
        program.fail(f"note: {note}")
    for error in errors if code == 0 else ():
        code = program.fail(error)
    return code


def _tried(step: Callable[[], object]) -> Exception | None:
    """What went wrong, if anything did: on a full disk the run's verdict stands all the same."""
    try:
        step()
    except (RegdataError, OSError) as error:
        return error
    return None


if __name__ == "__main__":
    sys.exit(main())
