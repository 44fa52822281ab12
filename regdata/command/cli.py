"""`clear.py sql_id action`: runs delete.ipynb through papermill and leaves a report; see program.py for exit codes."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from regdata.command.program import USAGE, Program, add_conf
from regdata.errors import ConfigError
from regdata.show.words import size

if TYPE_CHECKING:
    from regdata.config import Config

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
    return parser


def add_sql_id(parser: argparse.ArgumentParser) -> None:
    """The argument that names a condition."""
    parser.add_argument("sql_id", help="name of the condition in conf.json that selects the tags")


def clean(program: Program, arguments: argparse.Namespace) -> int:
    """Runs delete.ipynb with sql_id, action, conf, gc and force; returns the exit code."""
    config = program.load(arguments.conf)
    try:
        config.condition(arguments.sql_id)
    except ConfigError as error:
        return program.fail(error, code=USAGE)
    return _run(program, arguments, config)


def _run(program: Program, arguments: argparse.Namespace, config: "Config") -> int:
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
    code = program.failed(problem)
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
    rows += [("set aside", size(record["bytes_in_trash"]))] if record.get("bytes_in_trash") else []
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
