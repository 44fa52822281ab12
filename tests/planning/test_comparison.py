"""Two conditions beside one another, and what conf.json expects of one, against plain sets."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import regdata
from regdata.config import Expectation
from regdata.errors import ConditionError
from regdata.inventory.inventory import Inventory
from regdata.planning.expectations import Expectations, expectations
from tests.support.helpers import numbered
from tests.support.model import NOW, Model, Tag, models
from tests.support.small import few

PROPERTY = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def condition_of(tags: set[Tag]) -> str:
    names = ", ".join(sorted(f"'{tag.full_name}'" for tag in tags))
    return f"image_name || ':' || tag_name in ({names})" if tags else "2=1"


@st.composite
def cases(draw: st.DrawFn) -> tuple[Model, set[Tag], set[Tag]]:
    model = draw(models())
    first, second = ({tag for tag in model.tags if draw(st.booleans())} for _ in range(2))
    return model, first, second


@pytest.mark.slow
@PROPERTY
@given(cases())
def test_against_plain_sets(case: tuple[Model, set[Tag], set[Tag]]) -> None:
    """What only one selects is the sets' difference, with what its own plan does to it; bytes are the plans'."""
    model, first, second = case
    inventory = Inventory.from_columns(numbered(model.columns()), scanned_at=NOW, from_store=True)
    found = regdata.compare_conditions(inventory, condition_of(first), condition_of(second))
    assert found.both == len(first & second)
    for tags, rows, plan in ((first - second, found.only_a, found.a), (second - first, found.only_b, found.b)):
        assert sorted(rows["image_name"] + ":" + rows["tag_name"]) == sorted(tag.full_name for tag in tags)
        columns = ["image_name", "tag_name", "action", "reason"]
        assert set(rows[columns].itertuples(index=False)) <= set(plan.tags[columns].itertuples(index=False))
    assert found.bytes_a == regdata.plan(inventory, condition_of(first)).reclaimable
    assert found.bytes_b == regdata.plan(inventory, condition_of(second)).reclaimable


def test_it_shows_itself() -> None:
    """It says what differs and what each frees; a condition that can't be read is an error."""
    inventory = few().inventory()
    found = regdata.compare_conditions(inventory, "age_days > 50", "tag_name = '1.0'")
    assert (
        "1 tag by both, 1 by the first alone, 1 by the second alone. The first frees 198 B, the second 158 B."
        in str(found)
    )
    assert "Only age_days > 50 selects 1 tag:" in str(found)
    assert "They select the same tags" in str(regdata.compare_conditions(inventory, "1=1", "2=2"))
    assert "1 tags by a only" in repr(found)
    for conditions in (("1=1", "nonsense"), ("nonsense", "1=1")):
        with pytest.raises(ConditionError, match="nonsense"):
            regdata.compare_conditions(inventory, *conditions)


def held(selected: list[int], **patterns: tuple[str, ...]) -> Expectations:
    return expectations(few().inventory(), "old", selected, Expectation(**patterns))


def test_expectations() -> None:
    """Each pattern holds or fails by the tags that it matches: a/app:1.0, a/app:2.0, b/app:1.0."""
    found = held([1], selects=("a/app:1.*", "a/*", "absent"), never=("*:2.0", "*:1.0", "[b]/app:?.0"))
    assert list(found.frame["tags"]) == [1, 2, 0, 1, 2, 1]
    assert list(found.frame["wrong"]) == [0, 1, 0, 0, 1, 0]
    assert found.failed == [
        "expect.old.selects: 'a/*' must be selected, but a tag would not be, such as a/app:2.0",
        "expect.old.never: '*:1.0' must never be selected, but a tag would be, such as a/app:1.0",
    ]
    shown = str(found)
    assert "✗ 2 of 6 expectations fail" in shown
    assert "✓ (matches no tag)" in shown
    assert "✓ What is expected holds" in str(held([1], selects=("a/app:1.0",)))
    assert "Nothing is expected of old" in str(expectations(few().inventory(), "old", [1], None))


@pytest.mark.slow
@PROPERTY
@given(models(), st.text("ab/c:v123*?", max_size=6), st.data())
def test_patterns(model: Model, pattern: str, data: st.DataObject) -> None:
    """A pattern matches what a glob matches, over the whole of image:tag."""
    inventory = Inventory.from_columns(numbered(model.columns()), scanned_at=NOW, from_store=True)
    selected = [id_ for id_ in model.ids() if data.draw(st.booleans())]
    if not pattern.strip():
        return
    frame = expectations(inventory, "x", selected, Expectation(never=(pattern,))).frame
    wanted = [id_ for id_, tag in model.ids().items() if fnmatchcase(tag.full_name, pattern)]
    assert list(frame["tags"]) == [len(wanted)]
    assert list(frame["wrong"]) == [len(set(wanted) & set(selected))]
