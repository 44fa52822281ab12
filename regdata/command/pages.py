"""`regdata report`, `doctor`, `restore`: a notebook that came with the package, run into a folder of reports, and its
page for whoever has no Jupyter."""

import sys
from collections.abc import Sequence
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


def told(program: Program, config: Config, name: str, *cells: int, **parameters: Any) -> int:
    """Runs one notebook; prints what some cells show (``cells`` counts those with an output) and its page's path."""
    folder = new_folder(config.reports, name)
    return _page(program, folder, name, {"conf": str(config.path)} | parameters, *cells)


def _page(program: Program, folder: Path, name: str, parameters: dict[str, Any], *cells: int) -> int:
    notebook = folder / f"{name}.ipynb"
    with Ticker(name):
        problem = execute(NOTEBOOKS / notebook.name, notebook, parameters)
    page = None
    try:
        page = export_html(notebook) if notebook.is_file() and not (problem and problem.interrupted) else None
    except OSError as error:
        program.fail(f"note: {error}")
    if page:
        print("".join(f"{said}\n" for said in _shown(notebook, cells)), end="")
    if problem is None and page:
        print(page)
    return program.failed(problem, page)


def _shown(notebook: Path, wanted: Sequence[int]) -> list[str]:
    """The texts of these cells' last outputs, of those that did not fail."""
    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    outputs = [one.outputs[-1] for one in cells if one.get("outputs")]
    there = [outputs[cell] for cell in wanted if -len(outputs) <= cell < len(outputs)]
    data = [output.get("data", {}) for output in there]
    texts = [
        one.get("text/markdown") or one.get("text/plain") or output.get("text", "")
        for one, output in zip(data, there, strict=True)
    ]
    return [text.replace("**", "").replace("`", "").strip() for text in texts if text]


def main() -> int:
    """`make report`: see `report`."""
    program = Program("regdata report")
    return program.run(lambda: report(program, program.load("")))


if __name__ == "__main__":
    sys.exit(main())
