"""conditions.ipynb as papermill runs it: its figures are those of the frames, whatever the registry is like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import regdata
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.inventory.scan import scan
from regdata.planning import previews
from tests.support.helpers import ROOT
from tests.support.notebooks import execute

Conf = Callable[..., Path]


@pytest.mark.parametrize(
    ("base_path", "condition"), [(True, "image_name like '%PROD%' -- in capitals"), (False, "")], ids=["folder", "api"]
)
def test_its_figures(demo_registry: LocalRegistry, conf: Conf, base_path: bool, condition: str) -> None:
    """With and without base_path: the tables of conf.json's conditions and of one condition are the frames'."""
    path = conf(demo_registry) if base_path else conf(demo_registry, registry={"url": demo_registry.url})
    done = execute("conditions", path, condition=condition)
    assert done.code == 0, done.texts[-1]
    texts = done.texts
    config = load_config(path)
    inventory = scan(config)
    shown = regdata.preview(inventory, condition or previews.EXAMPLE)
    assert texts[1] == str(previews.conditions(inventory, config))
    assert texts[2].splitlines()[0] == str(shown).splitlines()[0]
    assert ("SQLite would select" in texts[2]) is bool(condition)
    assert texts[3].startswith("They ")
    assert "image_name" in texts[5]
    layers = inventory.sql("select blob_hash from blobs join relations using (blob_hash) where blob_kind = 'layer'")
    assert any(digest[:20] in texts[6] for digest in layers["blob_hash"])
    assert "platform" in texts[7]
    assert shown.plan is not None
    missed = inventory.images[~inventory.images["id"].isin(shown.plan.selected)]
    assert missed.nlargest(1, "exclusive_size")["image_name"].iloc[0] in texts[9]


def test_a_condition_with_an_error(demo_registry: LocalRegistry, conf: Conf) -> None:
    """One in conf.json that can't be read shows its error in the table, and the others their figures."""
    done = execute("conditions", conf(demo_registry, sql={"good": "1=1", "bad": "tag_nam = 'x'"}))
    assert done.code == 0
    texts = done.texts
    assert "✗ condition \"tag_nam = 'x'\", read by duckdb: Binder Error" in texts[1]
    assert "good  1=1" in texts[1]


@pytest.mark.parametrize("name", ["start", "conditions"])
def test_the_notebooks_are_stored_without_outputs(name: str) -> None:
    """A notebook that is stored holds no outputs, and no functions: cells call regdata."""
    notebook = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not any("def " in cell["source"] for cell in code)


def test_the_start_page_names_every_notebook() -> None:
    """The way through has a link to each notebook that there is."""
    text = (ROOT / "notebooks/start.ipynb").read_text()
    others = [path.name for path in (ROOT / "notebooks").glob("*.ipynb") if path.name != "start.ipynb"]
    assert [name for name in others if f"]({name})" not in text] == []
