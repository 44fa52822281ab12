"""What things are shown with: sentences, tables, bars and a command's output, each as HTML and as plain text.

Colours are laid over whatever background there is, so the HTML reads in JupyterLab, light and dark,
and in an exported page; there is no script in it, and every value is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import isnan
from numbers import Integral, Real
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote

from regdata.plain import plain, printable
from regdata.show.words import is_other, shorten, size

LINES_SHOWN = 3  # of a command's output, before one unfolds it
LINES_KEPT = 1000
LINE_KEPT = 2000  # characters
ROWS = 100  # of a frame
SHORT = 16  # letters, such as those of a date and a time
SENTENCE = 80  # letters: more of them take some width
BAR = 30  # characters, in plain text
COLOUR = "#D55E00"  # of bars: that of what goes, in the charts, too


class Bytes(int):
    """A table's cell that is shown as a size."""


class Code(str):
    """What is typed or compared: set in a fixed width."""


class Link(str):
    """What leads to a file, whose path is relative to the page: the path itself, or other words."""

    path: str

    def __new__(cls, path: str, said: str = "") -> Self:
        link = super().__new__(cls, said or path)
        link.path = path
        return link


class Rich(tuple[str, ...]):
    """A table's cell of several parts: texts, Code and Links."""


Cell = str | int | Rich
Tone = Literal["", "good", "bad", "note"]

TONES: dict[Tone, str] = {
    "": "margin:.5em 0",
    "good": "margin:.5em 0;padding:.4em .8em;border-left:4px solid #2da44e;background:#2da44e1a",
    "bad": "margin:.5em 0;padding:.4em .8em;border-left:4px solid #cf222e;background:#cf222e1a",
    "note": "margin:.5em 0;padding:.4em .8em;border-left:4px solid #bf8700;background:#bf87001a",
}
WRAP = "white-space:pre-wrap;overflow-wrap:anywhere"
LEFT = "text-align:left;vertical-align:top;white-space:pre-wrap"
RIGHT = "text-align:right;vertical-align:top;font-variant-numeric:tabular-nums"


class Block(Protocol):
    """A part of what is shown."""

    def html(self) -> str: ...
    def text(self) -> str: ...


@dataclass(frozen=True)
class Line:
    """A sentence; its beginning may be set off."""

    strong: str
    rest: str = ""
    tone: Tone = ""

    def html(self) -> str:
        words = f"<strong>{escape(plain(self.strong))}</strong>" if self.strong else ""
        return f'<div style="{TONES[self.tone]};{WRAP}">{words}{escape(plain(self.rest))}</div>'

    def text(self) -> str:
        return plain(self.strong + self.rest)


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; a column with a number in it is set to the right.

    Without a ``head`` its rows are names and values. ``total`` says that the last row is a sum.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: bool = False

    def html(self) -> str:
        styles = [RIGHT if right else LEFT for right in self._right()]
        head = f"<thead>{self._row('th', self.head, styles)}</thead>" if self.head else ""
        styles = [f"{style};white-space:nowrap" if style == RIGHT else style for style in styles]
        body = [self._row("td", row, styles) for row in self.rows]
        if self.total:
            body[-1] = self._row("th", self.rows[-1], styles)
        return (
            '<div style="overflow-x:auto"><table style="margin:.5em 0">'
            f"{head}<tbody>{''.join(body)}</tbody></table></div>"
        )

    def text(self) -> str:
        rows = [[_said(cell) for cell in row] for row in self.rows]
        rows = [list(self.head), *rows] if self.head else rows
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        aligns = [">" if right else "<" for right in self._right()]
        return "\n".join(
            "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(row, aligns, widths, strict=True)).rstrip()
            for row in rows
        )

    def _right(self) -> list[bool]:
        return [any(isinstance(cell, int) for cell in column) for column in zip(*self.rows, strict=True)]

    @staticmethod
    def _row(tag: str, cells: Sequence[Cell], styles: Sequence[str]) -> str:
        return (
            "<tr>"
            + "".join(
                f'<{tag} style="{style}{_breaks(cell)}">{_cell_html(cell)}</{tag}>'
                for cell, style in zip(cells, styles, strict=True)
            )
            + "</tr>"
        )


@dataclass(frozen=True)
class Output:
    """What a command printed: its last lines, the rest to be unfolded."""

    printed: str

    def html(self) -> str:
        lines = self._lines
        shown = self._pre(lines[-LINES_SHOWN:])
        if len(lines) <= LINES_SHOWN:
            return shown
        kept = lines[-LINES_KEPT:]
        what = f"all {len(lines):,} lines" if kept == lines else f"the last {len(kept):,} of {len(lines):,} lines"
        return f"{shown}<details><summary>{what}</summary>{self._pre(kept)}</details>"

    def text(self) -> str:
        return "\n".join(self._lines[-LINES_SHOWN:])

    @property
    def _lines(self) -> list[str]:
        return [_bounded(line) for line in plain(self.printed).splitlines()]

    @staticmethod
    def _pre(lines: Iterable[str]) -> str:
        return f'<pre style="margin:.5em 0;{WRAP}">{escape(chr(10).join(lines))}</pre>'


@dataclass(frozen=True)
class Fold:
    """What is to be unfolded."""

    title: str
    inside: Document

    def html(self) -> str:
        return f"<details><summary>{escape(plain(self.title))}</summary>{self.inside.html}</details>"

    def text(self) -> str:
        return f"{plain(self.title)}\n{self.inside.text}"


@dataclass(frozen=True)
class Bars:
    """A bar for each row: name, bytes, what is written beside the size. "other (k)" that would dwarf the rest have no
    bar."""

    title: str
    rows: Sequence[tuple[str, int, str]]

    def html(self) -> str:
        cells = "".join(
            f'<div style="overflow-wrap:anywhere;text-align:right" title="{escape(printable(name))}">'
            f"{escape(shorten(printable(name)))}</div>"
            f'<div style="white-space:nowrap;min-width:0"><span style="display:inline-block;'
            f"vertical-align:middle;height:.9em;background:{COLOUR};"
            f'width:calc({self._part(bytes_):.4f} * (100% - 13em))"></span>'
            f" {escape(size(bytes_))}{escape(said)}</div>"
            for name, bytes_, said in self.rows
        )
        grid = (
            "display:grid;grid-template-columns:fit-content(40%) 1fr;gap:.15em .6em;align-items:center;max-width:60em"
        )
        return (
            f'<div style="margin:.8em 0"><strong>{escape(self.title)}</strong><div style="{grid}">{cells}</div></div>'
        )

    def text(self) -> str:
        width = max(len(shorten(name)) for name, _, _ in self.rows)
        bars = (
            f"{shorten(printable(name)):>{width}}  {'█' * round(BAR * self._part(bytes_))} {size(bytes_)}{said}"
            for name, bytes_, said in self.rows
        )
        return "\n".join([self.title, *bars])

    def _part(self, bytes_: int) -> float:
        most = max((bytes_ for name, bytes_, _ in self.rows if not is_other(name)), default=0) or 1
        return bytes_ / most if bytes_ <= most else 0


@dataclass(frozen=True)
class Box:
    """Blocks set off by a frame, in small print: what one reads first."""

    blocks: tuple[Block, ...]

    def html(self) -> str:
        style = "border:1px solid #8c959f99;border-radius:6px;padding:.3em 1em;margin:.5em 0;font-size:.9em"
        return f'<div style="{style}">{"".join(block.html() for block in self.blocks)}</div>'

    def text(self) -> str:
        return "\n".join(block.text() for block in self.blocks)


def _cell_html(cell: Cell) -> str:
    return "".join(map(_part_html, cell if isinstance(cell, Rich) else [_said(cell)]))


def _part_html(part: str) -> str:
    said = escape(printable(part))
    if isinstance(part, Code):
        return f"<code>{said}</code>"
    if isinstance(part, Link):
        return f'<a style="white-space:nowrap" href="{escape(quote(part.path, errors="replace"))}">{said}</a>'
    return said


def _bounded(line: str) -> str:
    return line if len(line) <= LINE_KEPT else f"{line[: LINE_KEPT // 2]} … {line[-LINE_KEPT // 2 :]}"


def _breaks(cell: Cell) -> str:
    """What is short stays on one line; on a phone a long name may break anywhere, but not into single letters; a
    sentence is not squeezed into a column of single words."""
    if isinstance(cell, int):
        return ""
    if len(_said(cell)) <= SHORT:
        return ";white-space:nowrap"
    if len(_said(cell)) > SENTENCE:
        return ";overflow-wrap:anywhere;min-width:14em"
    long = max(map(len, _said(cell).split()), default=0) > 20
    return ";overflow-wrap:anywhere;min-width:9em" if long else ""


def _said(cell: Cell) -> str:
    if isinstance(cell, Bytes):
        return size(cell)
    if isinstance(cell, Rich):
        return printable("".join(cell))
    return f"{cell:,}" if isinstance(cell, int) else printable(cell)


@dataclass(frozen=True)
class Document:
    """Blocks, one below the other."""

    blocks: tuple[Block, ...]

    @property
    def html(self) -> str:
        return f"<div>{''.join(block.html() for block in self.blocks)}</div>"

    @property
    def text(self) -> str:
        return "\n".join(block.text() for block in self.blocks)

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


class Frame(Protocol):
    """What is used here of a pandas.DataFrame, so that nobody has to wait for pandas."""

    @property
    def columns(self) -> Iterable[Any]: ...
    def head(self, n: int, /) -> Self: ...
    def itertuples(self, index: bool) -> Iterable[tuple[Any, ...]]: ...
    def __len__(self) -> int: ...


def frame(shown: Frame) -> Document:
    """The first rows of a frame; bytes as sizes, and long names shortened."""
    cells = [
        [_cell(name, value) for name, value in zip(shown.columns, row, strict=True)]
        for row in shown.head(ROWS).itertuples(index=False)
    ]
    if not cells:
        return Document((Line("", "None."),))
    table = Table([str(name).replace("_", " ") for name in shown.columns], cells)
    if len(shown) <= ROWS:
        return Document((table,))
    return Document((table, Line("", f"… and {len(shown) - ROWS:,} more.")))


def is_size(column: str) -> bool:
    """Whether a frame's column holds bytes, by its name."""
    return (
        column.endswith("size") or column.startswith(("bytes", "size_")) or column in ("own", "shared", "goes", "stays")
    )


def _cell(name: str, value: object) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return Bytes(value) if is_size(name) else int(value)
    if isinstance(value, str):
        return value if " " in value else shorten(value)
    if value is None or str(value) == "<NA>" or (isinstance(value, Real) and isnan(value)):
        return "" if name.endswith(("_before", "_after")) else "unknown"  # it was not there then
    return f"{value:,g}" if isinstance(value, Real) else str(value)
