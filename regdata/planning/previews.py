"""What a condition would do, shown before anything is done: for one that is being typed, and for all of conf.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from regdata.errors import ConditionError
from regdata.planning.bench import workbench
from regdata.planning.plan import Plan
from regdata.planning.rules import REASONS
from regdata.show.render import Block, Bytes, Cell, Document, Line, Table, count, shorten, size

if TYPE_CHECKING:
    from regdata.config import Config
    from regdata.inventory.inventory import Inventory
    from regdata.tables.schema import Engine

EXAMPLE = "age_days > 90"

COMPARING = 1.0  # seconds that the other engine has for a condition
IMAGES = 20
TAGS = 20
EXAMPLES = 3
BAR = 30  # characters, in plain text
COLOUR = "#D55E00"  # that of what goes, in the charts, too

ACTIONS = {"delete": "goes", "untag": "goes, its digest stays", "keep": "stays"}
ENGINES: dict[Engine, str] = {"duckdb": "DuckDB", "sqlite": "SQLite"}
# What the tags that are listed can be sorted by: a column, and whether its largest value comes first.
ORDERS = {
    "frees most": ("exclusive_size", True),
    "largest": ("tag_size", True),
    "oldest": ("age_days", True),
    "newest": ("age_days", False),
    "name": ("image_name", False),
}


@dataclass(frozen=True)
class Difference:
    """What the other engine would select: more and less, as image:tag; or why it can't read the condition."""

    engine: Engine
    more: list[str]
    less: list[str]
    error: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Preview:
    """What ``condition`` would do. In a notebook it shows itself.

    plan: what regdata.plan gives, None where the condition can't be read; then ``error`` says why. ``anyway``: the part
    of ``bytes`` that any clean-up frees, since no tag holds it. ``difference``: None where both engines agree.
    """

    inventory: Inventory
    condition: str
    engine: Engine
    plan: Plan | None = None
    anyway: int = 0
    difference: Difference | None = None
    error: str | None = None

    @property
    def count(self) -> int:
        """The tags that the condition selects."""
        return len(self.plan.selected) if self.plan else 0

    @property
    def bytes(self) -> int:
        """What the collection would free after a clean-up with this condition."""
        return self.plan.reclaimable if self.plan else 0

    @cached_property
    def tags(self) -> pd.DataFrame:
        """image_name, tag_name, age_days, tag_size, exclusive_size, action, reason: a row per selected tag.

        What the inventory and the plan say of it; first those that free most.
        """
        columns = ["image_name", "tag_name", "age_days", "tag_size", "exclusive_size"]
        images = self.inventory.images
        if not self.plan:
            return images.loc[[], columns].assign(action=None, reason=None)
        selected = images.loc[images["id"].isin(self.plan.selected), columns]
        what = self.plan.tags[["image_name", "tag_name", "action", "reason"]]
        return _sorted(selected.merge(what, on=["image_name", "tag_name"]), "frees most")

    @property
    def kept(self) -> pd.DataFrame:
        """image_name, tag_name, tag_size, reason, why: the selected tags that stay."""
        stays = self.tags[self.tags["action"] == "keep"]
        return stays[["image_name", "tag_name", "tag_size", "reason"]].assign(why=stays["reason"].map(REASONS))

    @property
    def by_image(self) -> pd.DataFrame:
        """See Plan.by_image; without the images of which nothing goes."""
        if not self.plan:
            return pd.DataFrame()
        images = self.plan.by_image
        return images[images[["tags_deleted", "tags_untagged", "manifests", "bytes"]].sum(axis=1) > 0]

    def document(self, order: str = "frees most") -> Document:
        """What is shown; ``order`` is one of ORDERS."""
        if not self.plan:
            return Document((Line("✗ ", self.error or "", "bad"),))
        blocks: list[Block] = [self._headline(self.plan)]
        if self.difference:
            blocks.append(_differs(self.difference, self.condition, self.engine))
        images = self.by_image
        if len(images):
            blocks.append(Bars("What goes, by image", _bars(images)))
        kept = self.kept
        if len(kept):
            blocks.append(Table(("selected, but stays", "tags", "for example"), list(_kept_rows(kept))))
        if self.count:
            blocks.append(_tags(_sorted(self.tags, order), order))
        return Document(tuple(blocks))

    def _headline(self, plan: Plan) -> Line:
        about = "" if self.inventory.from_store else "about "
        strong = f"{count(self.count, 'tag')} selected, {about}{size(self.bytes)} would be freed"
        actions = plan.tags["action"].value_counts()
        stay = int(actions.get("keep", 0))
        go = int(actions.get("delete", 0) + actions.get("untag", 0))
        followers = go + stay - self.count
        with_image = f" ({followers:,} of them with the image that they belong to)" if followers else ""
        parts = [
            f"{count(go, 'tag')} {_verb(go)}{with_image}" if go else "no tag goes",
            f"{count(stay, 'tag')} {'stays' if stay == 1 else 'stay'}" if stay else "",
            f"{count(len(plan.manifests), 'manifest')} {_verb(len(plan.manifests))}" if len(plan.manifests) else "",
        ]
        anyway = f" {size(self.anyway)} of it goes with any clean-up: no tag holds it." if self.anyway else ""
        return Line(strong, f": {', '.join(filter(None, parts))}.{anyway}")

    def _repr_html_(self) -> str:
        return self.document().html

    def __repr__(self) -> str:
        return self.document().text


def preview(inventory: Inventory, condition: str, *, engine: Engine | None = None) -> Preview:
    """What ``condition`` would do to the registry, by the plan's own rules; nothing is changed.

    A condition that can't be read is no exception here, since people type: Preview.error says what is wrong.
    """
    engine = engine or inventory.engine
    bench = workbench(inventory)
    try:
        found = bench.plan(condition, engine=engine)
    except ConditionError as error:
        return Preview(inventory, condition, engine, error=str(error))
    return Preview(
        inventory, condition, engine, found, bench.anyway, _difference(inventory, condition, engine, found.selected)
    )


def _difference(inventory: Inventory, condition: str, engine: Engine, selected: list[int]) -> Difference | None:
    other: Engine = "sqlite" if engine == "duckdb" else "duckdb"
    try:
        others = workbench(inventory).select(condition, engine=other, limit=COMPARING)
    except ConditionError as error:
        return Difference(other, [], [], str(error))
    if others == selected:
        return None
    here, there = set(selected), set(others)
    return Difference(other, _names(inventory, there - here), _names(inventory, here - there))


def _names(inventory: Inventory, ids: set[int]) -> list[str]:
    rows = inventory.images[inventory.images["id"].isin(ids)]
    return sorted(rows["image_name"] + ":" + rows["tag_name"])


def _differs(difference: Difference, condition: str, engine: Engine) -> Line:
    here, there = ENGINES[engine], ENGINES[difference.engine]
    if difference.error:
        said = difference.error.partition(f", read by {difference.engine}: ")[2].partition(". Columns of images")[0]
        return Line(f"Not compared with {there}", f": {said or difference.error}. Here {here} reads it.")
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


def _sorted(tags: pd.DataFrame, order: str) -> pd.DataFrame:
    column, descending = ORDERS[order]
    keys = list(dict.fromkeys([column, "image_name", "tag_name"]))
    return tags.sort_values(keys, ascending=[not descending, *[True] * (len(keys) - 1)], ignore_index=True)


def _tags(tags: pd.DataFrame, order: str) -> Table:
    rows = [
        (
            shorten(f"{image}:{tag}", 60),
            "" if pd.isna(age) else f"{age:,.0f} days",
            Bytes(tag_size),
            Bytes(exclusive_size),
            ACTIONS[action],
        )
        for image, tag, age, tag_size, exclusive_size, action in _rows(
            tags.head(TAGS), "image_name", "tag_name", "age_days", "tag_size", "exclusive_size", "action"
        )
    ]
    what = "tag" if len(tags) <= TAGS else f"tag (the first {TAGS} of {len(tags):,}, by: {order})"
    return Table((what, "age", "size", "only in it", ""), rows)


@dataclass(frozen=True)
class Bars:
    """A bar for each row: name, bytes, what is written beside the size."""

    title: str
    rows: Sequence[tuple[str, int, str]]

    def html(self) -> str:
        most = max(bytes_ for _, bytes_, _ in self.rows) or 1
        cells = "".join(
            f'<div style="overflow-wrap:anywhere;text-align:right" title="{escape(name)}">'
            f"{escape(shorten(name))}</div>"
            f'<div style="white-space:nowrap;min-width:0"><span style="display:inline-block;'
            f"vertical-align:middle;height:.9em;background:{COLOUR};"
            f'width:calc({bytes_ / most:.4f} * (100% - 13em))"></span>'
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
        most = max(bytes_ for _, bytes_, _ in self.rows) or 1
        width = max(len(shorten(name)) for name, _, _ in self.rows)
        return "\n".join(
            [
                self.title,
                *(
                    f"{shorten(name):>{width}}  {'█' * round(BAR * bytes_ / most)} {size(bytes_)}{said}"
                    for name, bytes_, said in self.rows
                ),
            ]
        )


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
        rows.append((f"other ({len(rest):,})", int(rest["bytes"].sum()), said))
    return rows


def _rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(frame[column] for column in columns), strict=True)


def _goes(tags: int, manifests: int) -> str:
    """Beside a size; what several images held, or nobody, has neither tags nor manifests."""
    if tags:
        return f", {count(int(tags), 'tag')}"
    return f", {count(int(manifests), 'manifest')}" if manifests else ""


@dataclass(frozen=True, eq=False, repr=False)
class Conditions:
    """What each condition of conf.json would do.

    frame: name, condition, selected, go, stay (tags), bytes, error; a row per condition, in conf.json's order.
    """

    frame: pd.DataFrame
    anyway: int

    @property
    def document(self) -> Document:
        """What is shown."""
        rows: list[Sequence[Cell]] = [
            (name, condition, "", "", "", f"✗ {error}")
            if isinstance(error, str)
            else (name, condition, int(selected), int(stay), Bytes(bytes_), "")
            for name, condition, selected, stay, bytes_, error in _rows(
                self.frame, "name", "condition", "selected", "stay", "bytes", "error"
            )
        ]
        head = ("name", "condition", "tags", "of them stay", "freed", "")
        wide = 6 if self.frame["error"].notna().any() else 5
        blocks: list[Block] = [Table(head[:wide], [row[:wide] for row in rows])]
        if self.anyway:
            blocks.append(Line("", f"Each holds {size(self.anyway)} that goes with any clean-up: no tag holds it."))
        return Document(tuple(blocks)) if rows else Document((Line("", "conf.json has no conditions."),))

    def _repr_html_(self) -> str:
        return self.document.html

    def __repr__(self) -> str:
        return self.document.text


def conditions(inventory: Inventory, config: Config) -> Conditions:
    """What each condition of conf.json would do, one by one."""
    previews = [preview(inventory, text) for text in config.sql.values()]
    plans = [(p, p.plan) for p in previews]
    frame = pd.DataFrame(
        {
            "name": pd.array(list(config.sql), dtype="str"),
            "condition": pd.array(list(config.sql.values()), dtype="str"),
            "selected": _integers(p.count if plan else None for p, plan in plans),
            "go": _integers(int((plan.tags["action"] != "keep").sum()) if plan else None for _, plan in plans),
            "stay": _integers(len(p.kept) if plan else None for p, plan in plans),
            "bytes": _integers(p.bytes if plan else None for p, plan in plans),
            "error": pd.array([p.error for p in previews], dtype="str"),
        }
    )
    return Conditions(frame, workbench(inventory).anyway)


def _integers(values: Iterable[int | None]) -> pd.api.extensions.ExtensionArray:
    return pd.array(list(values), dtype="Int64")
