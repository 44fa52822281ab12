"""`make report`: explore.ipynb and capacity.ipynb as HTML pages for whoever has no Jupyter."""

import os
import sys

from regdata.command.execute import NOTEBOOKS, execute
from regdata.command.html import export_html
from regdata.config import load_config
from regdata.errors import RegdataError
from regdata.records.record import new_folder

PAGES = ("explore", "capacity")
INTERRUPTED = 130


def main() -> int:
    """Runs the notebooks on the conf.json that load_config finds, and prints the paths of their pages.

    Exit codes: 0 done; 1 a notebook failed, and its page says why; 130 interrupted by Ctrl-C or SIGTERM.
    """
    try:
        return _run()
    except (RegdataError, OSError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail("interrupted", code=INTERRUPTED)


def _run() -> int:
    config, code = load_config(), 0
    folder = new_folder(config.reports, "report")
    for name in PAGES:
        notebook = folder / f"{name}.ipynb"
        problem = execute(NOTEBOOKS / notebook.name, notebook, {"conf": str(config.path)})
        if problem and problem.interrupted:
            return _fail(problem.said, code=INTERRUPTED)
        if problem:
            code = _fail(problem.said)
        print(os.path.relpath(export_html(notebook)))
    return code


def _fail(problem: object, *, code: int = 1) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
