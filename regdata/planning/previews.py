"""What a condition would do, shown before anything is done: for one that is being typed, and for all of conf.json."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from regdata.errors import ConditionError
from regdata.planning.bench import workbench
from regdata.planning.plan import Plan
from regdata.planning.rules import REASONS
from regdata.show.shown import Shown

if TYPE_CHECKING:
    from regdata.config import Config
    from regdata.inventory.inventory import Inventory
    from regdata.tables.schema import Engine

EXAMPLE = "age_days > 90"

COMPARING = 1.0  # seconds that the other engine has for a condition


@dataclass(frozen=True)
class Difference:
    """What the other engine would select: more and less, as image:tag; or why it can't read the condition."""

    engine: Engine
    more: list[str]
    less: list[str]
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Preview(Shown):
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

    def __repr__(self) -> str:
        said = f"{self.count:,} tags, {self.bytes:,} bytes" if self.plan else "it can't be read"
        return f"<Preview of {self.condition!r}: {said}>"

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
        return most_first(selected.merge(what, on=["image_name", "tag_name"]))

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


def preview(inventory: Inventory, condition: str, *, engine: Engine | None = None) -> Preview:
    """What ``condition`` would do to the registry, by the plan's own rules; nothing is changed.

    A condition that can't be read is no exception here, since people type: Preview.error says what is wrong.
    """
    bench = workbench(inventory)
    engine = engine or inventory.engine
    try:
        found = bench.plan(condition, engine=engine)
    except ConditionError as error:
        return Preview(inventory, condition, engine, error=str(error))
    return Preview(
        inventory, condition, engine, found, bench.anyway, _difference(inventory, condition, engine, found.selected)
    )


def most_first(tags: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``Preview.tags``, first those that free most."""
    keys = ["exclusive_size", "image_name", "tag_name"]
    return tags.sort_values(keys, ascending=[False, True, True], ignore_index=True)


def _difference(inventory: Inventory, condition: str, engine: Engine, selected: list[int]) -> Difference | None:
    other: Engine = "sqlite" if engine == "duckdb" else "duckdb"
    try:
        others = workbench(inventory).select(condition, engine=other, limit=COMPARING)
    except ConditionError as error:
        return Difference(other, [], [], error.said)
    if others == selected:
        return None
    here, there = set(selected), set(others)
    return Difference(other, _names(inventory, there - here), _names(inventory, here - there))


def _names(inventory: Inventory, ids: set[int]) -> list[str]:
    rows = inventory.images[inventory.images["id"].isin(ids)]
    return sorted(rows["image_name"] + ":" + rows["tag_name"])


@dataclass(frozen=True, eq=False)
class Conditions(Shown):
    """What each condition of conf.json would do.

    frame: name, condition, selected, go, stay (tags), bytes, error; a row per condition, in conf.json's order.
    """

    frame: pd.DataFrame
    anyway: int

    def __repr__(self) -> str:
        return f"<Conditions: {', '.join(self.frame['name'])}>"


def conditions(inventory: Inventory, config: Config) -> Conditions:
    """What each condition of conf.json would do, one by one."""
    named = pd.DataFrame({"name": list(config.sql), "condition": list(config.written("sql").values())}, dtype="str")
    # One at a time: a plan of a large registry takes much memory.
    figures = [_figures(preview(inventory, text)) for text in config.sql.values()]
    found = pd.DataFrame(figures, columns=["selected", "go", "stay", "bytes", "error"])
    found = found.astype({name: "str" if name == "error" else "Int64" for name in found})
    return Conditions(pd.concat([named, found], axis=1), workbench(inventory).anyway)


def _figures(shown: Preview) -> tuple[int | None, int | None, int | None, int | None, str | None]:
    """selected, go, stay, bytes, error."""
    if not shown.plan:
        return None, None, None, None, shown.error
    go = int((shown.plan.tags["action"] != "keep").sum())
    return shown.count, go, len(shown.kept), shown.bytes, None
