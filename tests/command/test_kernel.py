"""The kernel that loads while the command line is still checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from regdata.command.execute import execute
from regdata.command.kernel import Kernel


def notebook(path: Path, source: str) -> Path:
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    return path


def test_it_ends_with_the_block() -> None:
    """A kernel that nobody needed after all is gone."""
    with Kernel() as kernel:
        assert kernel.process.poll() is None
    assert kernel.process.returncode is not None


def test_it_becomes_the_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the environment and the folder of who runs it by then."""
    with Kernel() as kernel:
        monkeypatch.setenv("SAID", "ü")
        monkeypatch.chdir(tmp_path)
        run = tmp_path / "run"
        run.mkdir()
        source = notebook(tmp_path / "source.ipynb", "import os; print(os.environ['SAID'], os.getcwd(), os.getpid())")
        assert execute(source, run / "out.ipynb", {}, kernel) is None
    (text,) = (o["text"] for c in json.loads((run / "out.ipynb").read_text())["cells"] for o in c.get("outputs", []))
    assert "".join(text).split() == ["ü", os.fspath(tmp_path), str(kernel.process.pid)]


def test_it_died(tmp_path: Path) -> None:
    """One that died before it was needed is an error like that of any kernel."""
    with Kernel() as kernel:
        kernel.process.kill()
        kernel.process.wait()
        run = tmp_path / "run"
        run.mkdir()
        problem = execute(notebook(tmp_path / "source.ipynb", "1"), run / "out.ipynb", {}, kernel)
    assert problem
    assert "Kernel died" in problem.said
