"""What conf.json's `expect` says of a condition, held against what the condition selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from regdata.inventory.inventory import Inventory
from regdata.show.shown import Shown
from regdata.tables.workspace import frame, workspace

if TYPE_CHECKING:
    from regdata.config import Expectation

SHOWN = 3  # tags that a sentence names


@dataclass(frozen=True, eq=False)
class Expectations(Shown):
    """Whether they hold. frame: expect (selects, never), pattern, tags (that it matches), wrong, such_as: a row each.

    A pattern that matches no tag holds: what must be selected goes with the first run.
    """

    sql_id: str
    frame: pd.DataFrame

    def __repr__(self) -> str:
        return f"<Expectations of {self.sql_id}: {len(self.frame)}, {len(self.failed)} fail>"

    @property
    def failed(self) -> list[str]:
        """A sentence for each that does not hold."""
        return [
            f"expect.{self.sql_id}.{expect}: {pattern!r} {_said(expect, int(wrong))}, such as {such_as}"
            for expect, pattern, _, wrong, such_as in self.frame.itertuples(index=False)
            if wrong
        ]


def _said(expect: str, wrong: int) -> str:
    tags = "a tag" if wrong == 1 else f"{wrong:,} tags"
    if expect == "never":
        return f"must never be selected, but {tags} would be"
    return f"must be selected, but {tags} would not be"


def expectations(
    inventory: Inventory, sql_id: str, selected: Sequence[int], expected: Expectation | None
) -> Expectations:
    """Those of a condition that selects the tags with these ids. Patterns are globs over image:tag."""
    patterns = [("selects", text) for text in expected.selects] if expected else []
    patterns += [("never", text) for text in expected.never] if expected else []
    rows = pd.DataFrame(patterns, columns=["expect", "pattern"], dtype="str").rename_axis("number").reset_index()
    with workspace(
        images=inventory.images[["id", "image_name", "tag_name"]],
        selected=pd.DataFrame({"id": pd.array(list(selected), dtype="int64")}),
        expected=rows.assign(glob=rows["pattern"].str.replace("\\", "\\\\")),
    ) as work:
        return Expectations(sql_id, frame(work, _HELD))


_HELD = f"""
with tag as (
    select image_name || ':' || tag_name as name, id in (from selected) as selected from images
),
matched as (
    select e.number, t.name, t.selected = (e.expect = 'never') as wrong from expected e join tag t on t.name glob e.glob
)
select e.expect, e.pattern, count(m.name) as tags, count(m.name) filter (m.wrong) as wrong,
       coalesce(array_to_string(list(m.name order by m.name) filter (m.wrong)[1:{SHOWN}], ', '), '') as such_as
from expected e left join matched m using (number) group by e.number, e.expect, e.pattern order by e.number"""
