"""`clear.py sql_id action`: runs delete.ipynb through papermill and leaves a report.

Exit codes: 0 done; 1 the run failed, or its record has errors; 2 the command line is wrong;
130 interrupted by Ctrl-C or SIGTERM.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from regdata._version import __version__
from regdata.errors import ConfigError, RegdataError
from regdata.show.words import size

if TYPE_CHECKING:
    from regdata.config import Config

PROG = "clear.py"
INTERRUPTED = 130


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
    from regdata.config import load_config  # loads pydantic, for which --help need not wait

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = load_config(path)
    for warning in caught:
        _fail(f"warning: {warning.message}")
    return config


def _run(arguments: argparse.Namespace, config: "Config") -> int:
    # They load papermill and nbconvert, for which --help and a wrong command line need not wait.
    from regdata.command.execute import NOTEBOOKS, execute
    from regdata.command.html import export_html
    from regdata.records.closing import close_killed
    from regdata.records.index import write_index
    from regdata.records.reading import read_facts
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
    }
    problem = execute(NOTEBOOKS / notebook.name, notebook, parameters)
    code = _fail(problem.said, code=INTERRUPTED if problem.interrupted else 1) if problem else 0
    close_killed(config, besides=config.reports)  # a kernel that died could not say so
    record = read_facts(folder)  # empty when the run ended before it had written one
    for name, value in _table(record):
        print(f"{name:<18} {value}")
    if notebook.is_file():
        print(f"{'report':<18} {export_html(notebook, box(folder, linked=True))}")
    write_index(config.reports)
    return 1 if code == 0 and record.get("errors") else code


def _table(record: dict[str, Any]) -> list[tuple[str, str]]:
    from regdata.records.record import COUNTS  # loads pandas

    if not record:
        return []
    rows = [(key, str(record.get(key))) for key in ("registry", "sql_id", "action")]
    rows += [("collected by", str(record["collected_by"]))] if "collected_by" in record else []
    rows += [(key.replace("_", " "), str(record.get(key))) for key in COUNTS]
    rows += [(key.replace("_", " "), size(record.get(key))) for key in ("bytes_predicted", "bytes_freed")]
    rows += _known(record)
    return rows + [("error", " ".join(str(error).split())) for error in record.get("errors", [])]


def _known(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of pulls, uses, expectations and the past, where conf.json names what tells."""
    rows = []
    if (since := record.get("pulls_since")) is not None:
        rows.append(("pulls since", f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M} UTC"))
    if (used := record.get("tags_in_use")) is not None:
        rows.append(("tags in use", str(used)))
    if expected := record.get("expectations"):
        rows.append(("expected", f"{expected - record['expectations_failed']} of {expected} hold"))
    if (tags := record.get("backtest_tags")) is not None:
        rows.append(("backtest", f"{record['backtest_missed']} of {tags} tags would have been missed"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
