"""What a notebook shows of an inventory, a plan, a run and its result: HTML, and the same in plain text.

Colours are laid over whatever background there is, so the HTML reads in JupyterLab, light and dark,
and in an exported page; there is no script in it, and every value is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from regdata.cleaning.cleanup import Result
    from regdata.collecting.collection import Collection
    from regdata.inventory.inventory import Inventory
    from regdata.notebook.run import Run
    from regdata.planning.plan import Plan

IMAGES_OF_INVENTORY = 15
IMAGES_OF_PLAN = 20
LINES_SHOWN = 3  # of a command's output, before one unfolds it
LINES_KEPT = 1000
ROWS = 1000  # of a frame

HAPPENS = {
    ("tag", "delete"): "tags go",
    ("tag", "untag"): "tags go, their digests stay",
    ("tag", "keep"): "tags stay, although selected",
    ("manifest", "delete"): "manifests go",
}


def size(number: int | None) -> str:
    """1234567 as "1.23 MB": three digits, powers of 1000; None is "not known"."""
    if number is None:
        return "not known"
    value, units = float(number), ["B", "kB", "MB", "GB", "TB", "PB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"


def shorten(name: str, most: int = 40) -> str:
    """``name`` with its middle left out where it is longer than ``most`` characters."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def percent(part: float, whole: float) -> str:
    """1 of 3 as "33%"; what is there is never "0%"."""
    if part and part < whole / 100:
        return "under 1%"
    return f"{part / whole:.0%}" if whole else "0%"


def count(number: int, thing: str) -> str:
    """2 and "tag" as "2 tags"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


class Bytes(int):
    """A table's cell that is shown as a size."""


Cell = str | int
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
        words = f"<strong>{escape(self.strong)}</strong>" if self.strong else ""
        return f'<div style="{TONES[self.tone]};{WRAP}">{words}{escape(self.rest)}</div>'

    def text(self) -> str:
        return self.strong + self.rest


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
                f'<{tag} style="{style}{_breaks(cell)}">{escape(_said(cell))}</{tag}>'
                for cell, style in zip(cells, styles, strict=True)
            )
            + "</tr>"
        )


@dataclass(frozen=True)
class Output:
    """What a command printed: its last lines, the rest to be unfolded."""

    printed: str

    def html(self) -> str:
        lines = self.printed.splitlines()
        shown = self._pre(lines[-LINES_SHOWN:])
        if len(lines) <= LINES_SHOWN:
            return shown
        kept = lines[-LINES_KEPT:]
        what = f"all {len(lines):,} lines" if kept == lines else f"the last {len(kept):,} of {len(lines):,} lines"
        return f"{shown}<details><summary>{what}</summary>{self._pre(kept)}</details>"

    def text(self) -> str:
        return "\n".join(self.printed.splitlines()[-LINES_SHOWN:])

    @staticmethod
    def _pre(lines: Iterable[str]) -> str:
        return f'<pre style="margin:.5em 0;{WRAP}">{escape(chr(10).join(lines))}</pre>'


def _breaks(cell: Cell) -> str:
    """On a phone a long name may break anywhere, but not into single letters."""
    long = isinstance(cell, str) and max(map(len, cell.split()), default=0) > 20
    return ";overflow-wrap:anywhere;min-width:9em" if long else ""


def _said(cell: Cell) -> str:
    if isinstance(cell, Bytes):
        return size(cell)
    return f"{cell:,}" if isinstance(cell, int) else cell


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


def frame(shown: pd.DataFrame) -> Document:
    """The rows of a frame; columns that end in "size" as sizes, and long names shortened."""
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


def _cell(name: str, value: object) -> Cell:
    if isinstance(value, Integral):
        return Bytes(value) if name.endswith("size") else int(value)
    if isinstance(value, str):
        return value if " " in value else shorten(value)
    return "unknown"


def inventory(shown: Inventory) -> Document:
    """A sentence of figures, and the images that take most."""
    from regdata.analysis import space as analysis  # it reads inventories itself

    images = analysis.by_image(shown)
    rows: list[Sequence[Cell]] = [
        (row.image_name, int(row.tags), Bytes(row.own), Bytes(row.shared))
        for row in analysis.rows(images.head(IMAGES_OF_INVENTORY))
    ]
    if len(images) > len(rows):
        rest = images.iloc[len(rows) :]
        rows.append((f"other ({len(rest):,})", int(rest["tags"].sum()), Bytes(rest["own"].sum()), ""))
    table = Table(("image", "tags", "only here", "shared"), rows)
    where = f"{shown.registry or 'The registry'}: "
    sentence = Line(where, analysis.finding_totals(analysis.totals(shown)).plain)
    return Document((sentence, table) if rows else (sentence,))


def plan(shown: Plan) -> Document:
    """What goes and what stays, by image and by reason."""
    actions = shown.tags["action"].value_counts()
    go, stay = int(actions.get("delete", 0) + actions.get("untag", 0)), int(actions.get("keep", 0))
    bytes_ = size(shown.reclaimable)
    if not (go or stay or len(shown.manifests) or shown.reclaimable):
        return Document((Line("Nothing goes", ": the condition selects no tag, and there is nothing else to free."),))
    freed = (
        f"{bytes_} will be freed"
        if shown.inventory.from_store
        else f"about {bytes_} will be freed (exact with base_path)"
    )
    said = Line(
        f"{count(go, 'tag')} {'goes' if go == 1 else 'go'}",
        f", {stay:,} {'stays' if stay == 1 else 'stay'} although selected, {count(len(shown.manifests), 'manifest')} "
        f"{'goes' if len(shown.manifests) == 1 else 'go'}, {freed}.",
    )
    rows: list[Sequence[Cell]] = [
        (happens, int(number), f"{meaning.replace('`', '')} ({reason})")
        for key, happens in HAPPENS.items()
        for what, action, reason, meaning, number in shown.reasons.itertuples(index=False)
        if (what, action) == key
    ]
    reasons = Table(("what happens", "count", "why"), rows)
    blocks: list[Block] = [said]
    if images := list(_plan_rows(shown)):
        blocks.append(
            Table(("image", "freed", "tags go", "selected, but stay", "manifests go", "tags now"), images, total=True)
        )
    return Document((*blocks, reasons) if rows else tuple(blocks))


def _plan_rows(shown: Plan) -> Iterator[Sequence[Cell]]:
    images = shown.by_image
    images = images.assign(go=images["tags_deleted"] + images["tags_untagged"])
    columns = ["bytes", "go", "tags_kept", "manifests", "tags"]
    top, rest = images.iloc[:IMAGES_OF_PLAN], images.iloc[IMAGES_OF_PLAN:]
    for name, freed, *numbers in top[["image_name", *columns]].itertuples(index=False):
        # What several images held, or nobody, has no tags.
        yield (name, Bytes(freed), *("" if name.startswith("(") else int(n) for n in numbers))
    for name, some in ((f"other ({len(rest):,})", rest), ("total", images)):
        if len(some):
            freed, *sums = some[columns].sum()
            yield (name, Bytes(freed), *map(int, sums))


def result(shown: Result) -> Document:
    """Whether it went as planned: predicted beside freed bytes, outcomes, notes and errors."""
    blocks: list[Block] = [_verdict(shown)]
    if shown.errors:
        blocks.append(Line("Errors\n" if len(shown.errors) > 1 else "Error: ", "\n".join(shown.errors), "bad"))
    blocks += [Line("Note: ", note, "note") for note in shown.notes]
    said: list[tuple[str, int | None]] = [("predicted by the plan", shown.bytes_predicted)]
    if _changed(shown):
        if shown.bytes_expected != shown.bytes_predicted:
            said.append(("expected for what went", shown.bytes_expected))
        said.append(("freed by the collection", shown.bytes_freed))
    rows = [(name, *_size_and_bytes(number)) for name, number in said]
    blocks.append(Table(("", "size", "bytes"), rows))
    outcomes = [
        (what, str(outcome), int(number))
        for what, frame in (("tags", shown.tags), ("manifests", shown.manifests))
        for outcome, number in frame["outcome"].value_counts().items()
    ]
    if outcomes:
        blocks.append(Table(("what", "outcome", "count"), outcomes))
    return Document(tuple(blocks))


def _size_and_bytes(number: int | None) -> tuple[Cell, Cell]:
    return ("not known", "") if number is None else (Bytes(number), int(number))


def _changed(shown: Result) -> bool:
    outcomes = {*shown.tags["outcome"], *shown.manifests["outcome"]}
    return shown.collection.ran or bool(outcomes & {"deleted", "untagged"})


def _verdict(shown: Result) -> Line:
    freed, expected = shown.bytes_freed, shown.bytes_expected
    if shown.errors:
        return Line("✗ It did not go as planned", ": see the errors.", "bad")
    if not _changed(shown):
        return Line("Nothing was changed", ".", "note")
    if not shown.collection.ran:
        rest = ": no collection was run; the next one frees the bytes."
        return Line("✓ Deleted as planned", rest if expected else ".", "good")
    if freed is None:
        rest = ": how many bytes that freed can't be seen without base_path."
        return Line("✓ Deleted and collected", rest, "good")
    if freed != expected:
        more = f"{abs(freed - expected):,} {'more' if freed > expected else 'fewer'} than expected"
        return Line("✓ Done", f": {freed:,} bytes were freed, {more}; the notes say why.", "good")
    if freed != shown.bytes_predicted:
        rest = f": {freed:,} bytes were expected for what went, and as many were freed."
        return Line("✓ Less went than was planned, since some had moved", rest, "good")
    rest = f": {freed:,} bytes were predicted, and as many were freed."
    return Line("✓ As planned", rest, "good")


def collection(shown: Collection) -> Document:
    """The exit code of the registry's garbage collection, and what it printed."""
    if not shown.ran:
        return Document((Line("", "The registry's garbage collection was not run."),))
    lines = count(len(shown.output.splitlines()), "line")
    good = shown.exit_code == 0
    line = Line(
        f"{'✓' if good else '✗'} Exit code {shown.exit_code}", f", {lines} of output.", "good" if good else "bad"
    )
    return Document((line, Output(shown.output)) if shown.output else (line,))


def run(shown: Run) -> Document:
    """The run's parameters, what they stand for, and where its record is."""
    config = shown.config
    rows: list[tuple[str, str]] = [
        ("registry", config.registry.url),
        ("base_path", str(config.registry.base_path or "none: read through the API alone")),
        ("sql_id", shown.sql_id),
        ("condition", shown.condition.strip()),
        ("protect", config.protect or "nothing"),
        ("engine", config.engine),
        ("action", f"{shown.action} ({'deletes' if shown.deletes else 'changes nothing'})"),
        ("gc", str(shown.gc)),
        ("force", str(shown.force)),
        ("conf", f"{config.path}\n{config.digest}"),
        ("record", str(shown.record.folder)),
    ]
    return Document((Table((), rows),))
