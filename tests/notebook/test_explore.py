"""explore.ipynb as papermill runs it: its figures are those of the frames, whatever the registry is like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from regdata.analysis import space
from regdata.command.html import export_html
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.inventory.scan import scan
from regdata.notebook import findings, views
from regdata.sources.census import census
from tests.support.helpers import ROOT
from tests.support.notebooks import execute

Conf = Callable[..., Path]
FRAMES = ("totals", "by_image", "by_month", "by_age", "by_tag", "layers", "by_path", "every_byte")


@pytest.mark.parametrize("base_path", [True, False])
def test_its_figures_are_those_of_the_frames(demo_registry: LocalRegistry, conf: Conf, base_path: bool) -> None:
    """With and without base_path, each chart is there and the sentence above it is the frame's."""
    path = conf(demo_registry) if base_path else conf(demo_registry, registry={"url": demo_registry.url})
    inventory = scan(load_config(path))
    done = execute("explore", path)
    assert done.code == 0
    found = {name: getattr(space, name)(inventory) for name in FRAMES if name != "every_byte"}
    found["every_byte"] = space.every_byte(inventory, census(demo_registry.base_path if base_path else None))
    expected = [str(getattr(findings, name)(found[name])) for name in FRAMES]
    assert [unaged(said) for said in done.sentences] == [unaged(said) for said in expected]
    assert len(done.pictures) == len(FRAMES)
    assert len(done.outputs) == 3 * len(FRAMES) + 1
    assert "team  " in done.said
    assert str(views.who_pays(space.who_pays(inventory))) in done.said
    assert ("can't be seen without `registry.base_path`" in expected[0]) is not base_path
    assert ("can't be seen without a `base_path`" in expected[-1]) is not base_path
    # Exported, the pictures are inside, sharp, and each has a text for who can't see it.
    page = export_html(done.path).read_text()
    assert page.count("<img ") == page.count('alt="') == len(FRAMES)
    assert 'alt="Bars: what each image alone holds' in page
    assert "space.by_image" not in page
    assert all(400 < picture.metadata["image/png"]["width"] < 640 for picture in done.pictures)


def unaged(sentence: str) -> str:
    """Without its last part where that is an age: the notebook ran a little later."""
    return sentence.partition("; the oldest")[0]


def test_it_is_stored_without_outputs() -> None:
    """The notebook in the project has no outputs and no functions of its own."""
    notebook = nbformat.read(ROOT / "notebooks/explore.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert not any("def " in cell.source or "lambda" in cell.source for cell in cells)
