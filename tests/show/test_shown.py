"""How types show themselves: one line that costs nothing, and a text and HTML by views that are loaded on request."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import duckdb
import pytest

import regdata
from regdata.analysis.changes import compare
from regdata.cleaning.cleanup import Result
from regdata.inventory.inventory import Inventory
from regdata.show.shown import document
from tests.support.small import few

CONDITION = "age_days > 90\nor tag_name = 'x'"


def shown_of(inventory: Inventory) -> dict[str, Any]:
    """One of each that shows itself, and nothing of it in a database yet."""
    plan = regdata.plan(inventory, CONDITION)
    fresh = replace(inventory)
    return {
        "inventory": fresh,
        "plan": replace(plan, inventory=fresh),
        "result": Result.unchanged(plan, "only listed"),
        "collection": Result.unchanged(plan, "only listed").collection,
        "preview": regdata.preview(inventory, CONDITION),
        "changes": compare(inventory, inventory),
    }


SHOWN = ("inventory", "plan", "result", "collection", "preview", "changes")


@pytest.mark.parametrize("name", SHOWN)
def test_a_repr_is_one_line_without_a_query(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A debugger, a log or a list of them asks for no database; the text may."""
    shown = shown_of(few().inventory(registry="http://r:5000"))[name]
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
    shown = shown_of(few().inventory())[name]
    seen = document(shown)
    assert str(shown) == f"{shown}" == seen.text
    assert shown._repr_html_() == seen.html
    assert shown._repr_mimebundle_(include=None, exclude=None) == {"text/plain": seen.text, "text/html": seen.html}


def test_what_has_no_view() -> None:
    """A type without a view is a TypeError that names it."""
    with pytest.raises(TypeError, match="there is no view of int"):
        document(1)


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import regdata.inventory.inventory, regdata.cleaning.cleanup, regdata.analysis.capacity", []),
        ("from regdata.planning.previews import Conditions; repr(Conditions({'name': ['a']}, 0))", []),
        ("from regdata.collecting.collection import Collection; str(Collection())", ["blocks", "views"]),
    ],
    ids=["imports", "repr", "str"],
)
def test_views_are_loaded_on_request(code: str, loaded: list[str]) -> None:
    """What is scanned, planned, cleaned and counted imports nothing that draws; the first text loads the views."""
    drawing = {"regdata.show.blocks", "regdata.notebook.views", "regdata.notebook.charts", "matplotlib", "IPython"}
    code = f"import sys; {code}; print(sorted(name.split('.')[-1] for name in {drawing} & {{*sys.modules}}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == str(loaded)
