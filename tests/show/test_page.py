"""A page of its own: no script, nothing from elsewhere, for the light and for the dark."""

from __future__ import annotations

from regdata.show.blocks import Box, Code, Document, Link, Rich, Table
from regdata.show.page import page


def test_a_page_is_on_its_own() -> None:
    """Its title is escaped, its policy lets no script run, and it says how it looks in the dark and in print."""
    whole = page("<b>", "body")
    assert "<title>&lt;b&gt;</title>" in whole
    assert "default-src 'none'" in whole
    assert "<script" not in whole
    assert "prefers-color-scheme: dark" in whole
    assert "@media print" in whole


def test_a_cell_of_several_parts() -> None:
    """Texts, code and links stand in one cell, each escaped; as text they are put together."""
    cell = Rich(("a <b> ", Code("x < 1"), Link("a b/c.html", "here")))
    shown = Document((Box((Table((), [("name", cell)]),)),))
    assert shown.text == "name  a <b> x < 1here"
    assert "a &lt;b&gt; <code>x &lt; 1</code>" in shown.html
    assert 'href="a%20b/c.html">here</a>' in shown.html


def test_what_is_short_stays_on_one_line() -> None:
    """A date does not break at its hyphens; a name of many letters may break anywhere."""
    html = Table(("pushed", "image"), [("2026-10-29 08:46", "a" * 30)]).html()
    assert 'white-space:nowrap">2026-10-29 08:46<' in html
    assert f'overflow-wrap:anywhere;min-width:9em">{"a" * 30}<' in html
