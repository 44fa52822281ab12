"""docs/cookbook.md: each condition selects what the table below it says."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pyarrow as pa
import pytest

import regdata
from regdata.inventory.usage import with_usage
from regdata.usage.accesslog import Pulls
from tests.support.helpers import ROOT
from tests.support.small import DAY, NOW, Small, digest

pytestmark = pytest.mark.slow

IMAGE = "team/app"
TEXT = (ROOT / "docs/cookbook.md").read_text()


class Recipe(NamedTuple):
    """A condition with its name, and what it does with tags: rows of its table by the words of their heading."""

    name: str
    condition: str
    rows: list[dict[str, str]]


def recipes() -> list[Recipe]:
    found = []
    for section in TEXT.split("\n### ")[1:]:
        snippets = re.findall(r"```json\n(.*?)\n```", section, re.DOTALL)
        heading, _, *lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"
        ]
        ((name, condition),) = json.loads(f"{{{snippets[0]}}}").items()
        found.append(Recipe(name, condition, [dict(zip(heading, line, strict=True)) for line in lines]))
    return found


def inventory(recipe: Recipe) -> regdata.Inventory:
    """A registry of one image with these tags; its logs go back for two years."""
    made, pulled, pushed = Small(), [], dict[str, str]()
    for row in recipe.rows:
        tag, days = row["tag"], int(row["pushed"])
        first = pushed.setdefault(row.get("image", tag), tag)
        if first == tag:
            made.push(IMAGE, tag, days=days, **{tag: 1})
            if row.get("label"):
                made.columns["contents"]["labels"][-1] = json.dumps({"org.example.purpose": row["label"]})
        else:
            made.row(
                "tags",
                image_name=IMAGE,
                tag_name=tag,
                tag_hash=digest(f"{IMAGE}{first}"),
                pushed=NOW - days * DAY,
            )
        if row.get("pulled"):
            pulled.append((tag, NOW - int(row["pulled"]) * DAY))
    table = pa.table(
        {
            "image_name": pa.array([IMAGE] * len(pulled), pa.string()),
            "reference": pa.array([tag for tag, _ in pulled], pa.string()),
            **{name: pa.array([when for _, when in pulled], pa.int64()) for name in ("last_pulled", "last_seen")},
            **{name: pa.array([1] * len(pulled), pa.int64()) for name in ("pulls_30d", "pulls_total")},
        }
    )
    return with_usage(made.inventory(engine="duckdb"), Pulls(NOW - 730 * DAY, table))


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_recipe(recipe: Recipe) -> None:
    """What goes goes, and what stays stays."""
    tags = regdata.plan(inventory(recipe), recipe.condition).tags
    assert {row[""] for row in recipe.rows} == {"goes", "stays"}
    assert set(tags.loc[tags["action"] != "keep", "tag_name"]) == {
        row["tag"] for row in recipe.rows if row[""] == "goes"
    }


def test_a_dozen() -> None:
    """There are a dozen of them or more, under names of their own, and each registry has its page cited."""
    names = [recipe.name for recipe in recipes()]
    assert len(set(names)) == len(names) >= 12
    for registry in TEXT.split("\n## ")[1:-1]:
        assert "](https://" in registry
