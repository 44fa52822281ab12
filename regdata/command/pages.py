"""`regdata report`, `doctor`, `restore`: a notebook that came with the package, run into a folder of reports, and its
page for whoever has no Jupyter."""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat

from regdata.command.execute import NOTEBOOKS, execute
from regdata.command.html import export_html
from regdata.command.program import Program
from regdata.command.ticker import Ticker
from regdata.config import Config
from regdata.inventory.snapshot import saved
from regdata.records.record import new_folder
from regdata.sources.site import Site

PAGES = ("explore", "capacity")


def report(program: Program, config: Config) -> int:
    """Runs the notebooks that tell about the registry, and prints the paths of their pages; the exit code."""
    Site.open(config)  # what is wrong with conf.json is told before there is a folder
    folder, codes = new_folder(config.reports, "report"), [0]
    changes = ("changes",) if config.snapshots and saved(config.snapshots) else ()
    for name in (*PAGES, *changes):
        codes.append(_page(program, folder, name, {"conf": str(config.path)}))
        if codes[-1]:  # the next one would fail as well
            break
    return max(codes)


def told(program: Program, config: Config, name: str, cell: int, **parameters: Any) -> int:
    """Runs one notebook; prints what a cell shows (``cell`` counts those with an output) and its page's path."""
    folder = new_folder(config.reports, name)
    return _page(program, folder, name, {"conf": str(config.path)} | parameters, cell=cell)


def _page(program: Program, folder: Path, name: str, parameters: dict[str, Any], *, cell: int | None = None) -> int:
    notebook = folder / f"{name}.ipynb"
    with Ticker(name):
        problem = execute(NOTEBOOKS / notebook.name, notebook, parameters)
    page = None
    try:
        page = export_html(notebook) if notebook.is_file() and not (problem and problem.interrupted) else None
    except OSError as error:
        program.fail(f"note: {error}")
    if problem is None and page:
        if cell is not None:
            print(_shown(notebook, cell))
        print(os.path.relpath(page))
    return program.failed(problem, page)


def _shown(notebook: Path, cell: int) -> str:
    """The text of a cell's last output."""
    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    output = [one.outputs for one in cells if one.get("outputs")][cell][-1]
    data = output.get("data", {})
    said: str = data.get("text/markdown") or data.get("text/plain") or output.get("text", "")
    return said.replace("**", "").replace("`", "").strip()


def main() -> int:
    """`make report`: see `report`."""
    program = Program("regdata report")
    return program.run(lambda: report(program, program.load("")))


if __name__ == "__main__":
    sys.exit(main())
