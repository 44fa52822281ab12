"""What stands on what, by its layers."""

from __future__ import annotations

import pandas as pd

from regdata.analysis.bases import COLUMNS, bases
from regdata.inventory.inventory import Inventory
from regdata.notebook import views
from regdata.sources.columns import Columns
from tests.support.small import Small, indexed


def found(made: Small) -> list[tuple[object, ...]]:
    frame = bases(made.inventory())
    assert list(frame.columns) == COLUMNS
    columns = ["base", "newest", "images", "tags", "layers", "bytes", "such_as"]
    return [tuple(None if pd.isna(cell) else cell for cell in row) for row in frame[columns].itertuples(index=False)]


def platform() -> Small:
    """Two builds of a base, and what stands on them; the layers' names are not in their order."""
    made = Small()
    made.push("base", "1", days=300, z=100, y=20)
    made.push("base", "2", days=30, z=100, x=30)
    made.push("a/app", "1", days=200, z=100, y=20, a1=1)
    made.push("a/app", "2", days=100, z=100, y=20, a2=2)
    made.push("b/app", "1", days=20, z=100, x=30, b1=3)
    return made


def test_what_stands_on_which() -> None:
    """Each build of the base has its own: the newest, and an old one that is still in use; and on what both begin with
    stands everything."""
    assert found(platform()) == [
        (None, None, 3, 5, 1, 100, "a/app:1"),
        ("base:1", False, 1, 2, 2, 120, "a/app:1"),
        ("base:2", True, 1, 1, 2, 130, "b/app:1"),
    ]


def test_a_bottom_that_is_no_image() -> None:
    """Several images that begin alike stand on a base without a name; the longest that all of them have."""
    made = Small()
    made.push("a/app", "1", days=10, os=50, lib=5, a=1)
    made.push("b/app", "1", days=10, os=50, lib=5, b=1)
    made.push("c/app", "1", days=10, lib=5, os=50, c=1)
    assert found(made) == [(None, None, 2, 2, 2, 55, "a/app:1")]


def test_builds_of_one_image() -> None:
    """Builds of one image that begin alike are no base, nor is an orphan."""
    made = Small()
    made.push("a/app", "1", days=10, os=50, x=1)
    made.push("a/app", "2", days=5, os=50, y=1)
    made.push("b/app", None, days=5, os=50, y=1)
    assert found(made) == []


def test_an_index_stands_by_its_children() -> None:
    """A tag on an index stands on what any of its children stands on, and counts once."""
    made = indexed()
    made.push("c/app", "1", days=1, x=1, own=7)
    made.push("c/app", "2", days=1, y=1, own=7)
    assert found(made) == [("b:amd64", True, 1, 1, 1, 1, "c/app:1"), ("a:multi", True, 1, 1, 1, 1, "c/app:2")]


def test_nothing() -> None:
    """An empty registry has none."""
    empty = Inventory.from_columns(Columns(), scanned_at=1_750_000_000, from_store=True)
    assert bases(empty).empty


def test_it_is_said() -> None:
    """What most stands on, and what is left on old builds; or that there is none."""
    said = views.bases(bases(platform().inventory())).text
    assert "5 tags of 3 images stand on what no tag holds alone (1 layer)" in said
    assert "2 tags stand on a base that has a newer build, such as a/app:1 on base:1" in said
    assert views.bases(bases(Small().inventory())).text == "No two images begin with the same layers."
