"""The README tells all there is, and what it shows is so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest

from regdata.config import Config, Limits, RegistryConfig, load_config
from regdata.planning.rules import REASONS
from regdata.tables.schema import TABLES
from tests.support.helpers import ROOT

README = (ROOT / "README.md").read_text("utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def keys() -> set[str]:
    """Every key that conf.json may have."""
    models = (Config, Limits, RegistryConfig)
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


@pytest.mark.parametrize("key", sorted(keys()))
def test_every_key(key: str) -> None:
    """Each key of conf.json is in the README."""
    assert re.search(rf"`(registry\.)?{re.escape(key)}`", README)


def test_every_make_target() -> None:
    """Each target of the Makefile that people call is in the README."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    for target in {"demo", "lab", "test", "check", "lint", "bench", "clean", "report"} & set(targets[1].split()):
        assert f"`{target}`" in README


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks(path: Path) -> None:
    """Each notebook and parameter is in the README; outputs are stripped, and no cell defines anything."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert f"`{path.name}`" in README
    for cell in cells:
        assert not cell.outputs
        assert cell.execution_count is None
        assert not re.search(r"^(def|class) ", cell.source, re.MULTILINE)
        if "parameters" in cell.metadata.get("tags", []):
            for name in re.findall(r"^(\w+):", cell.source, re.MULTILINE):
                assert f"`{name}`" in README


@pytest.mark.parametrize("reason", sorted(REASONS.keys() - {"grace"}))
def test_every_reason(reason: str) -> None:
    """Each reason code of a plan is in the README's table."""
    assert f"| `{reason}` |" in README


@pytest.mark.parametrize("column", sorted(TABLES["images"]))
def test_every_column(column: str) -> None:
    """Each column of images is in the README."""
    assert re.search(rf"\b{column}\b", README)


def test_shown_conf_is_valid(tmp_path: Path) -> None:
    """The conf.json that the README shows, and the one that is shipped, can be loaded."""
    shown = re.search(r"```json\n(\{.*?\n\})\n```", README, re.DOTALL)
    assert shown
    (tmp_path / "conf.json").write_text(shown[1])
    assert load_config(tmp_path).limits == load_config(ROOT / "conf.json").limits


def test_environment_has_no_list_of_its_own() -> None:
    """Dependencies stand in pyproject.toml alone."""
    assert "- -e ." in (ROOT / "environment.yml").read_text()
    assert {"duckdb", "pandas", "papermill", "requests", "matplotlib", "jupyterlab"} <= {
        re.split(r"[<>=]", name)[0]
        for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert json.loads((ROOT / "conf.json").read_text())["limits"] == {"max_percent": 50}
