"""What is shown of a condition, before anything is done: of one that is being typed, and of all in conf.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from regdata.planning.plan import Plan
from regdata.planning.previews import Conditions, Difference, Preview
from regdata.planning.rules import REASONS
from regdata.show.blocks import Bars, Block, Bytes, Cell, Document, Line, Table
from regdata.show.shown import view
from regdata.show.words import count, other, shorten, size
from regdata.tables.schema import Engine

IMAGES = 20
TAGS = 20
EXAMPLES = 3

ACTIONS = {"delete": "goes", "untag": "goes, its digest stays", "keep": "stays"}
ENGINES: dict[Engine, str] = {"duckdb": "DuckDB", "sqlite": "SQLite"}


@view.register
def preview(shown: Preview, *, tags: bool = True) -> Document:
    """The figures, where the other engine differs, what goes and what stays; then its ``tags``, if they are wanted."""
    if not shown.plan:
        return Document((Line("✗ ", shown.error or "", "bad"),))
    blocks: list[Block] = [_headline(shown, shown.plan)]
    if shown.difference:
        blocks.append(_differs(shown.difference, shown.condition, shown.engine))
    blocks += [Line("Note: ", note, "note") for note in shown.plan.notes]
    images = shown.by_image
    if len(images):
        blocks.append(Bars("What goes, by image", _bars(images)))
    kept = shown.kept
    if len(kept):
        blocks.append(Table(("selected, but stays", "tags", "for example"), list(_kept_rows(kept))))
    if tags and shown.count:
        blocks.append(tags_table(shown.tags))
    return Document(tuple(blocks))


def _headline(shown: Preview, plan: Plan) -> Line:
    about = "" if shown.inventory.from_store else "about "
    strong = f"{count(shown.count, 'tag')} selected, {about}{size(shown.bytes)} would be freed"
    actions = plan.tags["action"].value_counts()
    stay = int(actions.get("keep", 0))
    go = int(actions.get("delete", 0) + actions.get("untag", 0))
    followers = go + stay - shown.count
    with_image = f" ({followers:,} of them with the image that they belong to)" if followers else ""
    parts = [
        f"{count(go, 'tag')} {_verb(go)}{with_image}" if go else "no tag goes",
        f"{count(stay, 'tag')} {'stays' if stay == 1 else 'stay'}" if stay else "",
        f"{count(len(plan.manifests), 'manifest')} {_verb(len(plan.manifests))}" if len(plan.manifests) else "",
    ]
    anyway = f" {size(shown.anyway)} of it goes with any clean-up: no tag holds it." if shown.anyway else ""
    return Line(strong, f": {', '.join(filter(None, parts))}.{anyway}")


def _differs(difference: Difference, condition: str, engine: Engine) -> Line:
    here, there = ENGINES[engine], ENGINES[difference.engine]
    if difference.error:
        return Line(f"Not compared with {there}", f": {difference.error}. Here {here} reads it.")
    changes = [
        f"{count(len(names), 'tag')} {word} ({_some(names)})"
        for names, word in ((difference.more, "more"), (difference.less, "fewer"))
        if names
    ]
    why = (
        " LIKE ignores the case of letters in SQLite, not in DuckDB." if re.search(r"\blike\b", condition, re.I) else ""
    )
    return Line(f"{there} would select {' and '.join(changes)}.", f"{why} Here {here} reads it.", "note")


def _kept_rows(kept: pd.DataFrame) -> list[Sequence[Cell]]:
    return [
        (REASONS[str(reason)], len(rows), _some(list(rows["image_name"] + ":" + rows["tag_name"])))
        for reason, rows in kept.groupby("reason")
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(shorten(name) for name in names[:EXAMPLES])}{more}"


def _verb(number: int) -> str:
    return "goes" if number == 1 else "go"


def tags_table(tags: pd.DataFrame) -> Table:
    """The first of the tags, those that free most: name, age, sizes, and what happens to them."""
    rows = [
        (
            shorten(f"{image}:{tag}", 60),
            "" if pd.isna(age) else count(int(age), "day"),
            Bytes(tag_size),
            Bytes(exclusive_size),
            ACTIONS[action],
        )
        for image, tag, age, tag_size, exclusive_size, action in _rows(
            tags.head(TAGS), "image_name", "tag_name", "age_days", "tag_size", "exclusive_size", "action"
        )
    ]
    what = "tag" if len(tags) <= TAGS else f"tag (of {len(tags):,} the {TAGS} that free most)"
    return Table((what, "age", "size", "only in it", ""), rows)


def _bars(images: pd.DataFrame) -> list[tuple[str, int, str]]:
    rows = [
        (name, int(bytes_), _goes(deleted + untagged, manifests))
        for name, bytes_, deleted, untagged, manifests in _rows(
            images.head(IMAGES), "image_name", "bytes", "tags_deleted", "tags_untagged", "manifests"
        )
    ]
    rest = images.iloc[IMAGES:]
    if len(rest):
        said = _goes(int((rest["tags_deleted"] + rest["tags_untagged"]).sum()), int(rest["manifests"].sum()))
        rows.append((other(len(rest)), int(rest["bytes"].sum()), said))
    return rows


def _rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(frame[column] for column in columns), strict=True)


def _goes(tags: int, manifests: int) -> str:
    """Beside a size; what several images held, or nobody, has neither tags nor manifests."""
    if tags:
        return f", {count(int(tags), 'tag')}"
    return f", {count(int(manifests), 'manifest')}" if manifests else ""


@view.register
def conditions(shown: Conditions) -> Document:
    """A row per condition, with its figures or its error."""
    rows: list[Sequence[Cell]] = [
        (name, condition, "", "", "", f"✗ {error}")
        if isinstance(error, str)
        else (name, condition, int(selected), int(stay), Bytes(bytes_), "")
        for name, condition, selected, stay, bytes_, error in _rows(
            shown.frame, "name", "condition", "selected", "stay", "bytes", "error"
        )
    ]
    head = ("name", "condition", "tags", "of them stay", "freed", "")
    wide = 6 if shown.frame["error"].notna().any() else 5
    blocks: list[Block] = [Table(head[:wide], [row[:wide] for row in rows])]
    if shown.anyway:
        blocks.append(Line("", f"Each holds {size(shown.anyway)} that goes with any clean-up: no tag holds it."))
    return Document(tuple(blocks)) if rows else Document((Line("", "conf.json has no conditions."),))
