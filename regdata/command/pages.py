"""`make report`: explore.ipynb and capacity.ipynb as HTML pages for whoever has no Jupyter."""

import os
import sys

from regdata.command.cli import NOTEBOOKS, execute
from regdata.command.html import export_html
from regdata.config import load_config
from regdata.errors import RegdataError
from regdata.records.record import new_folder

PAGES = ("explore", "capacity")


def main() -> int:
    """Runs the notebooks on the conf.json that load_config finds; the worst exit code. Prints the pages' paths."""
    try:
        config = load_config()
        folder = new_folder(config.reports, "report")
    except RegdataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    codes = []
    for name in PAGES:
        notebook = folder / f"{name}.ipynb"
        codes.append(execute(NOTEBOOKS / notebook.name, notebook, {"conf": str(config.path)}))
        print(os.path.relpath(export_html(notebook)))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
