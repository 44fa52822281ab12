"""How types show themselves: one line that costs nothing, and a text and HTML by views that are loaded on request."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import IPython
import matplotlib
import pytest

import regdata
from regdata.analysis.capacity import Study
from regdata.analysis.changes import Changes, compare
from regdata.cleaning.result import Result
from regdata.collecting.commands import Collection
from regdata.inventory.inventory import Inventory
from regdata.notebook import charts, preview_views, views
from regdata.planning.plan import Plan
from regdata.planning.previews import Conditions, Preview
from regdata.show import blocks
from regdata.show.shown import document
from tests.support.small import few

CONDITION = "age_days > 90\nor tag_name = 'x'"


# What makes one of each that shows itself, and nothing of it in a database yet.
SHOWN: dict[str, Callable[[Inventory], Any]] = {
    "inventory": replace,
    "plan": lambda inventory: replace(regdata.plan(inventory, CONDITION), inventory=replace(inventory)),
    "result": lambda inventory: Result.unchanged(regdata.plan(inventory, CONDITION), "only listed"),
    "collection": lambda inventory: Result.unchanged(regdata.plan(inventory, CONDITION), "only listed").collection,
    "preview": lambda inventory: regdata.preview(inventory, CONDITION),
    "changes": lambda inventory: compare(inventory, inventory),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_repr_is_one_line_without_a_query(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A debugger, a log or a list of them asks for no database; the text may."""
    shown = SHOWN[name](few().inventory(registry="http://r:5000"))
    monkeypatch.setattr(duckdb, "connect", _refuse)
    line = repr(shown)
    assert line.startswith(f"<{type(shown).__name__}")
    assert "\n" not in line
    assert len(line) < 200
    if name in ("inventory", "plan"):
        with pytest.raises(AssertionError, match="a query"):
            str(shown)


def _refuse(**_: object) -> None:
    raise AssertionError("a query")


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_both(name: str) -> None:
    """Text and HTML are those of the view."""
    shown = SHOWN[name](few().inventory())
    seen = document(shown)
    assert str(shown) == f"{shown}" == seen.text
    assert shown._repr_html_() == seen.html
    assert shown._repr_mimebundle_(include=None, exclude=None) == {"text/plain": seen.text, "text/html": seen.html}


def test_what_has_no_view() -> None:
    """A type without a view is a TypeError that names it."""
    with pytest.raises(TypeError, match="there is no view of int"):
        document(1)


def loaded(code: str) -> set[str]:
    """Which of the modules that draw or show are loaded once ``code`` has run."""
    drawing = {module.__name__ for module in (blocks, views, preview_views, charts, matplotlib, IPython)}
    told = subprocess.check_output([sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], text=True)
    return drawing & {*told.split()}


def test_views_are_loaded_on_request() -> None:
    """What is scanned, planned, cleaned and counted imports nothing that draws; the first text loads the views."""
    modules = {shown.__module__ for shown in (Inventory, Plan, Preview, Conditions, Result, Collection, Study, Changes)}
    assert loaded(f"import {', '.join(modules)}") == set()
    assert loaded(f"from {Collection.__module__} import Collection\nrepr(Collection())") == set()
    assert loaded(f"from {Collection.__module__} import Collection\nstr(Collection())") == {
        module.__name__ for module in (blocks, views, preview_views)
    }


@pytest.mark.parametrize(
    ("collection", "said", "freed"),
    [
        (Collection(), "not run", None),
        (Collection(True, 0, freed={}), "by gc-command, exit code 0", 0),
        (Collection(True, 3), "by gc-command, exit code 3", None),
        (Collection(True, freed={"a": 1, "b": 2}, by="regdata itself"), "by regdata itself", 3),
    ],
)
def test_a_collection_in_a_line(collection: Collection, said: str, freed: int | None) -> None:
    """Whether it ran, who collected, and the exit code, if there is one; that nothing was freed is not the same as that
    nobody knows."""
    assert (repr(collection), collection.bytes_freed) == (f"<Collection: {said}>", freed)
