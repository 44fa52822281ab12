"""What the console scripts have in common: a usage error, a mistake, an interrupt are one line each and an exit code.

Exit codes: 0 done; 1 it failed, or its record has errors; 2 the command line is wrong; 130 interrupted by Ctrl-C or
SIGTERM.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from regdata._version import __version__
from regdata.command.output import have_home, tolerant_output
from regdata.errors import RegdataError
from regdata.plain import plain

if TYPE_CHECKING:
    from regdata.command.execute import Problem
    from regdata.config import Config

USAGE = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """One line for a wrong command line; options are not to be shortened."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


class Program:
    """A console script of this name; ``tells``: what it prints is what it is for."""

    def __init__(self, name: str, *, tells: bool = False) -> None:
        self.name, self.tells = name, tells

    def parser(self, **options: Any) -> Parser:
        """Its parser, which knows --version."""
        parser = Parser(prog=self.name, **options)
        parser.add_argument("--version", action="version", version=f"regdata {__version__}")
        return parser

    def run(self, job: Callable[[], int]) -> int:
        """The job's exit code; whatever goes wrong is one line, and where that can't be printed, it is not."""
        with tolerant_output() as printed:
            try:
                have_home()
                code = job()
                printed.flush()
                if self.tells and printed.lost and not code:
                    return self.fail(f"what it says can't be printed: {printed.lost}")
                return code
            except (RegdataError, OSError) as error:
                return self.fail(error)
            except KeyboardInterrupt:
                return self.fail("interrupted", code=INTERRUPTED)

    def fail(self, problem: object, *, code: int = 1) -> int:
        """Says what went wrong; returns the exit code."""
        print(plain(f"{self.name}: {problem}"), file=sys.stderr)
        return code

    def failed(self, problem: "Problem | None", page: Path | None = None) -> int:
        """The same for what became of a notebook: 0 where nothing went wrong. ``page``: where more is to be read."""
        if problem is None:
            return 0
        more = f" (report: {page})" if page else ""
        return self.fail(problem.said + more, code=INTERRUPTED if problem.interrupted else 1)

    def load(self, path: str | None) -> "Config":
        """The conf.json at ``path``, or the one that is found; what it warns of is said in one line."""
        from regdata.config import load_config  # loads pydantic, for which --help need not wait

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            config = load_config(path)
        for warning in caught:
            self.fail(f"warning: {warning.message}")
        return config


def given(text: str) -> str:
    """An option's value; an empty one is a variable that is not set, and no default."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; is a variable not set?")
    return text


def add_conf(parser: argparse.ArgumentParser) -> None:
    """The option --conf."""
    parser.add_argument(
        "--conf",
        metavar="FILE",
        type=given,
        help="default: $REGDATA_CONF, else conf.json in this folder or the nearest one above",
    )
