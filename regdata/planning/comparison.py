"""Two conditions on one inventory: what only one of them selects, and what each would free."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from regdata.inventory.inventory import Inventory
from regdata.planning.bench import workbench
from regdata.planning.plan import Plan
from regdata.planning.previews import most_first
from regdata.planning.rules import REASONS
from regdata.show.shown import Shown
from regdata.tables.schema import Engine

OTHER = "family_rank > 10"


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """What the conditions ``a`` and ``b`` differ in. In a notebook it shows itself.

    only_a, only_b: image_name, tag_name, age_days, tag_size, exclusive_size, action, reason, why: a row per tag that
    only this one selects, and what its plan does with it. ``both``: how many tags both select. ``bytes_a`` and
    ``bytes_b``: what each plan frees.
    """

    a: Plan
    b: Plan
    only_a: pd.DataFrame
    only_b: pd.DataFrame
    both: int

    @property
    def bytes_a(self) -> int:
        return self.a.reclaimable

    @property
    def bytes_b(self) -> int:
        return self.b.reclaimable

    def __repr__(self) -> str:
        return (
            f"<Comparison: {len(self.only_a):,} tags by a only, {len(self.only_b):,} by b only, {self.both:,} by both>"
        )


def compare_conditions(inventory: Inventory, a: str, b: str, *, engine: Engine | None = None) -> Comparison:
    """What the conditions ``a`` and ``b`` would do differently; nothing is changed. Raises ConditionError."""
    bench = workbench(inventory)
    first, second = bench.plan(a, engine=engine), bench.plan(b, engine=engine)
    by_a, by_b = set(first.selected), set(second.selected)
    return Comparison(first, second, _tags(first, by_a - by_b), _tags(second, by_b - by_a), len(by_a & by_b))


def _tags(plan: Plan, ids: set[int]) -> pd.DataFrame:
    images = plan.inventory.images
    columns = ["image_name", "tag_name", "age_days", "tag_size", "exclusive_size"]
    what = plan.tags[["image_name", "tag_name", "action", "reason"]]
    tags = images.loc[images["id"].isin(ids), columns].merge(what, on=["image_name", "tag_name"])
    return most_first(tags.assign(why=tags["reason"].map(REASONS)))
