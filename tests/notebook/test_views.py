"""What a notebook shows of an inventory, a plan, a run's result and its collection."""

from __future__ import annotations

from typing import Any

import pytest

from regdata.cleaning.result import Result
from regdata.collecting.commands import Collection
from regdata.inventory.inventory import Inventory
from regdata.notebook import views
from regdata.planning.plan import plan
from regdata.show import blocks
from regdata.show.words import size
from regdata.sources.columns import Columns
from tests.support.small import NOW, Small, few

pytestmark = pytest.mark.slow

NOTHING = Inventory.from_columns(Columns(), scanned_at=NOW, from_store=True)


@pytest.fixture
def small() -> Small:
    return few()


def test_an_inventory_is_shown(small: Small) -> None:
    """An inventory is a sentence and its largest images, in HTML and in plain text."""
    inventory = small.inventory(registry="http://r:5000")
    assert str(inventory).startswith("http://r:5000: 339 B are stored for 3 tags of 3 images")
    assert "a/app      2      193 B   100 B" in str(inventory)
    assert "193 B</td>" in inventory._repr_html_()


def test_many_images_are_summed_up() -> None:
    """Beyond the largest images a line says what the others come to."""
    many = Small()
    for number in range(30):
        many.push(f"a/app{number}", "1", days=1, **{f"layer{number}": 1000})
    inventory = many.inventory()
    assert str(inventory).splitlines()[-1].split() == ["other", "(15)", "15", "15.2", "kB"]
    shown = plan(inventory, "1=1")
    assert "other (10)" in str(shown)
    (total,) = (line.split() for line in str(shown).splitlines() if line.startswith("total"))
    assert total == ["total", *size(shown.reclaimable).split(), "30", "0", "30", "30"]


def test_a_plan_is_shown(small: Small) -> None:
    """A plan is a sentence in numbers, a table by image that adds up, and its reasons in words."""
    shown = plan(small.inventory(protect="tag_name = '2.0'"), "image_name = 'a/app'")
    lines = str(shown).splitlines()
    assert lines[0] == "1 tag goes, 1 stays although selected, 2 manifests go, 117 B will be freed."
    assert ["total", "117", "B", "1", "1", "2", "2"] in [line.split() for line in lines]
    assert "tags stay, although selected      1  protect matches it (protected)" in lines
    assert "Nothing goes" in str(plan(NOTHING, "1=1"))


def test_html_is_escaped() -> None:
    """No name, condition or output is read as HTML."""
    odd = Small()
    odd.push("<script>x", "<b>", days=9, layer=5)
    shown = plan(odd.inventory(registry="<i>"), "tag_name <> '<u>'")
    pages = [
        shown._repr_html_(),
        shown.inventory._repr_html_(),
        blocks.frame(shown.explanations)._repr_html_(),
        Collection(ran=True, exit_code=1, output="<script>\n" * 9)._repr_html_(),
        result(shown, errors=["<script>"], notes=["<b>"])._repr_html_(),
    ]
    assert not any(tag in page for page in pages for tag in ("<script", "<b>", "<i>", "<u>"))


def result(shown: Any, **more: Any) -> Result:
    """The result of a run that did all of a plan."""
    facts = {
        "tags": shown.tags.assign(outcome="deleted"),
        "manifests": shown.manifests.assign(outcome="deleted"),
        "bytes_predicted": shown.reclaimable,
        "bytes_expected": shown.reclaimable,
        "bytes_freed": shown.reclaimable,
        "collection": Collection(ran=True, exit_code=0, output="done\n"),
    }
    return Result(**(facts | more))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "✓ As planned: 198 bytes were predicted, and as many were freed."),
        ({"bytes_freed": None}, "✓ Deleted and collected: how many bytes that freed can't be seen without base_path."),
        ({"bytes_freed": 208}, "✓ Done: 208 bytes were freed, 10 more than expected; the notes say why."),
        (
            {"bytes_expected": 100, "bytes_freed": 100},
            "✓ Less went than was planned, since something changed meanwhile: 100 bytes were expected for what went, "
            "and as many were freed.",
        ),
        (
            {"bytes_expected": 208, "bytes_freed": 208},
            "✓ More was freed than was planned, since something changed meanwhile: 198 bytes were predicted, "
            "and 208 freed.",
        ),
        (
            {"bytes_freed": None, "collection": Collection()},
            "✓ Deleted as planned: no collection was run; the next one frees the bytes.",
        ),
        ({"errors": ["it broke"]}, "✗ It did not go as planned: see the errors.\nError: it broke"),
    ],
)
def test_a_result_says_in_words_how_it_went(small: Small, more: dict[str, Any], words: str) -> None:
    """A result opens with a clear yes or no, and what was predicted stands beside what was freed."""
    shown = result(plan(small.inventory(), "image_name = 'a/app'"), **more)
    assert str(shown).startswith(words)
    assert "predicted by the plan" in str(shown)
    assert words.split(":")[0] in shown._repr_html_()


def test_a_result_that_only_listed(small: Small) -> None:
    """Where nothing was to be done, the result says that nothing was changed."""
    listed = Result.unchanged(plan(small.inventory(), "1=1"), "action is none")
    assert str(listed).startswith("Nothing was changed.\nNote: action is none\n")
    assert "✓" not in str(listed)


def test_a_collection_shows_its_last_lines() -> None:
    """A long output is folded, its end is not."""
    page = Collection(ran=True, exit_code=0, output="".join(f"line {n}\n" for n in range(5000)))._repr_html_()
    shown, folded = page.split("<details>")
    assert "line 4999" in shown
    assert "line 4000" not in shown
    assert "line 4000" in folded
    assert "the last 1,000 of 5,000 lines" in folded
    assert "line 3999\n" not in folded
    assert str(Collection()) == "Nothing was collected."


def test_a_tag_that_leads_to_nothing(small: Small) -> None:
    """Of a selected tag without a digest the table says that it is not known."""
    small.row("tags", image_name="a/app", tag_name="broken", error="holds no digest")
    assert "not known" in str(views.tags(plan(small.inventory(), "tag_name = 'broken'")))
