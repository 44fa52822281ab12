"""A notebook of the project, executed by papermill as people call it, and what its cells show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from tests.support.helpers import ROOT

# The program itself, but for what it would load for nothing: see regdata.command.
_PROGRAM = "import regdata.command; from papermill.cli import papermill; papermill()"
PAPERMILL = (sys.executable, "-c", _PROGRAM, "--no-progress-bar", "--start-timeout", "300")


class Executed:
    """An executed notebook: its exit code, and the outputs of its cells in order."""

    def __init__(self, path: Path, code: int) -> None:
        self.path = path
        self.code = code
        notebook = nbformat.read(path, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.outputs: list[Any] = [output for cell in cells for output in cell.outputs]

    @cached_property
    def pictures(self) -> list[Any]:
        """The outputs that are images."""
        return [output for output in self.outputs if "image/png" in output.get("data", {})]

    @cached_property
    def sentences(self) -> list[str]:
        """The findings that stand above the charts."""
        return [output.data["text/markdown"] for output in self.outputs if "text/markdown" in output.get("data", {})]

    @cached_property
    def texts(self) -> list[str]:
        """The plain text of each output; an error's is its last line."""
        return [_text(output) for output in self.outputs]

    @cached_property
    def said(self) -> str:
        """All that is shown in words, whether found or tabulated."""
        data = [output.get("data", {}) for output in self.outputs]
        said = [one.get("text/markdown", one.get("text/plain", "")) for one in data if "image/png" not in one]
        return "\n".join(said)

    @cached_property
    def streams(self) -> list[str]:
        """What was printed instead of shown."""
        return [output.text for output in self.outputs if output.output_type == "stream"]


def _text(output: Any) -> str:
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return str(output.data["text/plain"] if "data" in output else output.text)


def execute(name: str, conf: Path, **parameters: Any) -> Executed:
    """Runs ``notebooks/<name>.ipynb`` on a conf.json, beside which the executed one is left."""
    executed = conf.with_name(f"{name}.ipynb")
    command = [*PAPERMILL, str(ROOT / f"notebooks/{name}.ipynb"), str(executed)]
    done = subprocess.run(
        [*command, "-y", json.dumps({"conf": str(conf)} | parameters)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
        cwd=conf.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # its errors are shown of a test that fails
        timeout=600,
    )
    return Executed(executed, done.returncode)
