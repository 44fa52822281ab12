"""explore.ipynb as papermill runs it: its figures are those of the frames, whatever the registry is like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from regdata.analysis import space as analysis
from regdata.command.html import export_html
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.inventory.scan import scan
from regdata.notebook import findings
from tests.support.helpers import ROOT

Conf = Callable[..., Path]
FRAMES = ("totals", "by_image", "by_month", "by_age", "by_tag", "layers", "by_path")


def explore(conf: Path) -> tuple[int, list[Any]]:
    """Runs the notebook; the exit code, and the outputs of its cells."""
    executed = conf.with_name("explore.ipynb")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("papermill")),
            *(str(ROOT / "notebooks/explore.ipynb"), str(executed)),
            *("-p", "conf", str(conf), "--no-progress-bar"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    notebook = nbformat.read(executed, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return done.returncode, [output for cell in cells for output in cell.outputs]


def sentences(outputs: list[Any]) -> list[str]:
    return [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]


def pictures(outputs: list[Any]) -> list[Any]:
    return [output for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.parametrize("base_path", [True, False])
def test_its_figures_are_those_of_the_frames(demo_registry: LocalRegistry, conf: Conf, base_path: bool) -> None:
    """With and without base_path, each chart is there and the sentence above it is the frame's."""
    path = conf(demo_registry) if base_path else conf(demo_registry, registry={"url": demo_registry.url})
    inventory = scan(load_config(path))
    code, outputs = explore(path)
    assert code == 0
    found = {name: getattr(analysis, name)(inventory) for name in FRAMES}
    expected = [str(getattr(findings, name)(found[name])) for name in FRAMES]
    assert [unaged(said) for said in sentences(outputs)] == [unaged(said) for said in expected]
    assert len(pictures(outputs)) == len(FRAMES)
    assert len(outputs) == 2 * len(FRAMES)
    assert ("can't be seen without `registry.base_path`" in expected[0]) is not base_path
    # Exported, the pictures are inside, sharp, and each has a text for who can't see it.
    page = export_html(path.with_name("explore.ipynb")).read_text()
    assert page.count("<img ") == page.count('alt="') == len(FRAMES)
    assert 'alt="Bars: what each image alone holds' in page
    assert "analysis.by_image" not in page
    assert all(600 < picture.metadata["image/png"]["width"] < 800 for picture in pictures(outputs))


def unaged(sentence: str) -> str:
    """Without its last part where that is an age: the notebook ran a little later."""
    return sentence.partition("; the oldest")[0]


def test_an_empty_registry(registry: LocalRegistry, conf: Conf) -> None:
    """On an empty registry it runs to its end and says so."""
    code, outputs = explore(conf(registry))
    assert code == 0
    assert sentences(outputs)[0] == "The registry is empty: it stores no blob at all."
    assert len(pictures(outputs)) == len(FRAMES)


def test_no_registry(registry: LocalRegistry, conf: Conf) -> None:
    """Without a registry it ends with one line that says what to look at."""
    path = conf(registry)
    registry.stop()
    code, outputs = explore(path)
    assert code == 1
    (error,) = outputs
    (line,) = error.traceback
    assert line.startswith(f"RegistryError: GET {registry.url}/v2/: can't connect")
    assert "registry.url" in line


def test_it_is_stored_without_outputs() -> None:
    """The notebook in the project has no outputs and no functions of its own."""
    notebook = nbformat.read(ROOT / "notebooks/explore.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert not any("def " in cell.source or "lambda" in cell.source for cell in cells)
