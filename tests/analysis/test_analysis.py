"""What takes the space, on a registry small enough to add up by hand, and on the demo's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from regdata.analysis import space as analysis
from regdata.analysis.space import Totals
from regdata.cleaning.cleanup import Result, apply
from regdata.collecting.collection import Collection
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.planning.plan import plan
from regdata.show import render
from regdata.sources.columns import Columns
from tests.support.helpers import no_rows, numbered, store_bytes

Conf = Callable[..., Path]

NOW = 1_750_000_000  # 2025-06-15
DAY = 86400
AUTOBUILD = "image_name like '%prod%' and image_tag != 'latest'"


def digest(name: str) -> str:
    return "sha256:" + name.encode().hex().rjust(64, "0")


class Small:
    """A store of a few manifests; each is 1 byte, its config 10, and its layers as large as they say."""

    def __init__(self) -> None:
        self.columns = no_rows()

    def row(self, table: str, **values: Any) -> None:
        for column, cells in self.columns[table].items():
            cells.append(values.get(column))

    def blob(self, name: str, size: int, days: float) -> None:
        if digest(name) not in self.columns["blobs"]["blob_hash"]:
            self.row("blobs", blob_hash=digest(name), blob_size=size, blob_date=NOW - int(days * DAY))

    def push(self, image: str, tag: str | None, *, days: float, **layers: int) -> None:
        """An image; without a tag it is an orphan."""
        self.repository(image)
        manifest, pushed = f"{image}{tag}", NOW - int(days * DAY)
        self.row("revisions", image_name=image, manifest_hash=digest(manifest), pushed=pushed)
        if tag:
            self.row("tags", image_name=image, tag_name=tag, tag_hash=digest(manifest), pushed=pushed)
        self.row(
            "contents", manifest_hash=digest(manifest), media_type="m", manifest_size=1, kind="image", created=pushed
        )
        self.blob(manifest, 1, days)
        for kind, name, size in [("config", f"{manifest}c", 10), *(("layer", *layer) for layer in layers.items())]:
            self.blob(name, size, days)
            self.row(
                "references",
                manifest_hash=digest(manifest),
                reference_hash=digest(name),
                reference_kind=kind,
                reference_size=size,
                media_type="l",
            )

    def repository(self, image: str) -> None:
        if image not in self.columns["repositories"]["image_name"]:
            self.row("repositories", image_name=image)

    def inventory(self, *, from_store: bool = True, **known: Any) -> Inventory:
        return Inventory.from_columns(numbered(self.columns), scanned_at=NOW, from_store=from_store, **known)


@pytest.fixture
def small() -> Small:
    made = Small()
    made.push("a/app", "1.0", days=400, base=100, x=50)
    made.push("a/app", "2.0", days=100, base=100, y=70)
    made.push("b/app", "1.0", days=10, base=100, z=30)
    made.push("a/app", None, days=50, w=40)
    made.blob("nobody", 5, 300)
    made.repository("c/none")
    return made


NOTHING = Inventory.from_columns(Columns(), scanned_at=NOW, from_store=True)


def test_totals(small: Small) -> None:
    """Every stored byte is in one of the four parts, and nothing shared would be each manifest's own copy."""
    totals = analysis.totals(small.inventory())
    assert totals == Totals(
        images=3,
        tags=3,
        orphans=1,
        stored=339,
        unshared=539,
        one_image=183,
        several_images=100,
        orphan_bytes=51,
        unreferenced=5,
    )
    assert totals.saved == 200
    assert analysis.finding_totals(totals) == (
        "**339 B** are stored for 3 tags of 3 images; if nothing were shared, it would be 539 B, so sharing saves 37%; "
        "1 orphan holds 51 B, and 5 B are leftovers that no manifest refers to."
    )


def test_without_base_path(small: Small) -> None:
    """What only the store can tell is left out, in a sentence; the ages count no leftovers."""
    small.columns["blobs"] = no_rows()["blobs"]
    inventory = small.inventory(from_store=False)
    totals = analysis.totals(inventory)
    assert totals.orphans is None
    assert "can't be seen without `registry.base_path`" in analysis.finding_totals(totals)
    assert analysis.by_age(inventory)["days"].notna().all()
    assert analysis.by_month(inventory)["bytes"].sum() == totals.stored
    assert "exact with base_path" in render.plan(plan(inventory, "1=1")).text


def test_by_image(small: Small) -> None:
    """What only an image holds, its orphans too, and what it shares; an image without tags has nothing."""
    images = analysis.by_image(small.inventory())
    assert images.to_numpy().tolist() == [["a/app", 2, 193, 100], ["b/app", 1, 41, 100], ["c/none", 0, 0, 0]]
    assert analysis.finding_by_image(images) == (
        "`a/app` takes most: **193 B** that only it holds, 82% of what single images hold; "
        "1 of 3 images holds half of that."
    )


def test_by_path(small: Small) -> None:
    """Every stored byte is once in the areas, also what several images hold, and nobody."""
    paths = analysis.by_path(small.inventory())
    assert paths.astype({"team": str}).to_numpy().tolist() == [
        ["a/app", "a", 193],
        ["(shared by several images)", "(several teams)", 100],
        ["b/app", "b", 41],
        ["(no manifest refers to it)", "(nobody)", 5],
    ]
    assert analysis.finding_by_path(paths).startswith("`a` holds most, **193 B**, 57% of all")


def test_teams() -> None:
    """The six teams that hold most are named, the others are one."""
    many = Small()
    for number in range(10):
        many.push(f"team{number}/app", "1", days=1, **{f"layer{number}": 1000 * (10 - number)})
    paths = analysis.by_path(many.inventory())
    assert list(paths["team"].cat.categories)[:7] == [*(f"team{number}" for number in range(6)), "other (4)"]
    assert (paths["team"] == "other (4)").sum() == 4


def test_by_month(small: Small) -> None:
    """A blob is of the month of its push, and of the team that alone holds it."""
    months = analysis.by_month(small.inventory())
    assert months.astype({"team": str}).to_numpy().tolist() == [
        ["2024-05", "a", 61],
        ["2024-05", "(several teams)", 100],
        ["2024-08", "(nobody)", 5],
        ["2025-03", "a", 81],
        ["2025-04", "a", 51],
        ["2025-06", "b", 41],
    ]
    assert analysis.finding_by_month(months) == (
        "**2024-05** brought most of what is still stored, 161 B; the 12 months to 2025-06 brought 178 B, 53% of all."
    )


def test_by_age(small: Small) -> None:
    """What is older is what the plan frees, with what any clean-up frees and without what is protected."""
    ages = analysis.by_age(small.inventory(protect="tag_name = '2.0'"))
    assert ages["days"].tolist()[:4] == [30, 90, 180, 365]
    assert ages["tags"].tolist() == [1, 1, 1, 1, 0]
    assert ages["stay"].tolist() == [1, 1, 0, 0, 0]
    assert ages["bytes"].tolist() == [117, 117, 117, 117, 56]
    assert analysis.finding_by_age(ages).endswith("of it 56 B are orphans and leftovers, which any clean-up frees.")


def test_by_age_is_what_a_deletion_frees(demo_registry: LocalRegistry, conf: Conf) -> None:
    """The bytes shown for an age are those by which the store shrinks when all that is older goes."""
    config = load_config(conf(demo_registry, sql={"old": "age_days > 180"}))
    inventory = scan(config)
    ages = analysis.by_age(inventory)
    (promised,) = ages.loc[ages["days"] == 180, "bytes"]
    before = store_bytes(demo_registry.base_path)
    result = apply(plan(inventory, "age_days > 180"), config)
    assert result.errors == []
    assert before - store_bytes(demo_registry.base_path) == promised > 0


def test_by_tag(small: Small) -> None:
    """A row per tag, largest first; an unknown date is counted as such."""
    small.push("b/app", "2.0", days=1, base=100, v=300)
    small.columns["tags"]["pushed"][-1] = small.columns["contents"]["created"][-1] = None
    tags = analysis.by_tag(small.inventory())
    assert tags["tag_size"].tolist() == [400, 170, 150, 130]
    assert analysis.finding_by_tag(tags) == (
        "The largest of 4 tags is `b/app:2.0` with **400 B**; half are below 160 B; the oldest, `a/app:1.0`, "
        "is 400 days old; 1 have no known date."
    )


def test_layers(small: Small) -> None:
    """A layer's tags and images are those that hold it, also the images that hold it by an orphan alone."""
    layers = analysis.layers(small.inventory())
    used = {row.blob_hash: (row.tags, row.images, row.users) for row in analysis.rows(layers)}
    assert layers["blob_size"].tolist() == [100, 70, 50, 40, 30]
    assert used[digest("base")] == (3, 2, "a/app, b/app")
    assert used[digest("w")] == (0, 1, "a/app")
    assert layers["share"].sum() == pytest.approx(1)


def test_goes_and_stays(small: Small) -> None:
    """What goes adds up to the plan's bytes, and with what stays to all that is stored."""
    shown = plan(small.inventory(), "image_name = 'a/app'")
    images = analysis.goes_and_stays(shown)
    assert images.set_index("image_name").T.to_dict("list") == {
        "a/app": [193, 0],
        "(no manifest refers to it)": [5, 0],
        "(shared by several images)": [0, 100],
        "b/app": [0, 41],
    }
    assert images["goes"].sum() == shown.reclaimable


def test_on_the_demo(demo_registry: LocalRegistry, conf: Conf) -> None:
    """All that is stored is what the files of the store add up to, however it is cut."""
    inventory = scan(load_config(conf(demo_registry)))
    stored = store_bytes(demo_registry.base_path)
    totals = analysis.totals(inventory)
    assert totals.stored == stored
    assert totals.one_image + totals.several_images + totals.orphan_bytes + totals.unreferenced == stored
    assert analysis.by_path(inventory)["bytes"].sum() == analysis.by_month(inventory)["bytes"].sum() == stored
    assert analysis.by_image(inventory)["own"].sum() == totals.one_image + totals.orphan_bytes
    assert totals.saved > 0
    images = analysis.goes_and_stays(plan(inventory, AUTOBUILD))
    assert images[["goes", "stays"]].sum().sum() == stored


@pytest.mark.parametrize("name", ["by_image", "by_month", "by_age", "by_tag", "layers", "by_path", "totals"])
def test_an_empty_registry(name: str) -> None:
    """An empty registry gives a sentence that says so."""
    found = getattr(analysis, name)(NOTHING)
    sentence = getattr(analysis, f"finding_{name}")(found)
    assert sentence.startswith(("No", "There is no ", "The registry is empty"))
    assert sentence._repr_markdown_() == str(sentence)


def test_names_in_a_sentence_are_code() -> None:
    """A name can't be Markdown or HTML."""
    odd = pd.DataFrame({"image_name": ["<b>`*x*"], "tags": [1], "own": [5], "shared": [0]})
    assert analysis.finding_by_image(odd).startswith("`<b>'*x*` takes most")


# What a notebook shows of them


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        *((None, "not known"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB")),
        *((999_500, "1 MB"), (1_234_567, "1.23 MB"), (42_053_791, "42.1 MB"), (5 * 10**12, "5 TB")),
    ],
)
def test_sizes(number: int | None, shown: str) -> None:
    """Sizes have three digits and powers of 1000."""
    assert render.size(number) == shown


def test_shares_are_not_rounded_to_nothing() -> None:
    """What is there is never 0%."""
    assert [render.percent(*pair) for pair in ((0, 5), (0, 0), (1, 1000), (1, 3))] == ["0%", "0%", "under 1%", "33%"]


def test_an_inventory_is_shown(small: Small) -> None:
    """An inventory is a sentence and its largest images, in HTML and in plain text."""
    inventory = small.inventory(registry="http://r:5000")
    assert repr(inventory).startswith("http://r:5000: 339 B are stored for 3 tags of 3 images")
    assert "a/app      2      193 B   100 B" in repr(inventory)
    assert "193 B</td>" in inventory._repr_html_()


def test_many_images_are_summed_up() -> None:
    """Beyond the largest images a line says what the others come to."""
    many = Small()
    for number in range(30):
        many.push(f"a/app{number}", "1", days=1, **{f"layer{number}": 1000})
    inventory = many.inventory()
    assert repr(inventory).splitlines()[-1].split() == ["other", "(15)", "15", "15.2", "kB"]
    shown = plan(inventory, "1=1")
    assert "other (10)" in repr(shown)
    (total,) = (line.split() for line in repr(shown).splitlines() if line.startswith("total"))
    assert total == ["total", *render.size(shown.reclaimable).split(), "30", "0", "30", "30"]


def test_a_plan_is_shown(small: Small) -> None:
    """A plan is a sentence in numbers, a table by image that adds up, and its reasons in words."""
    shown = plan(small.inventory(protect="tag_name = '2.0'"), "image_name = 'a/app'")
    lines = repr(shown).splitlines()
    assert lines[0] == "1 tag goes, 1 stays although selected, 2 manifests go, 117 B will be freed."
    assert ["total", "117", "B", "1", "1", "2", "2"] in [line.split() for line in lines]
    assert "tags stay, although selected      1  protect matches it (protected)" in lines
    assert "Nothing goes" in repr(plan(NOTHING, "1=1"))


def test_html_is_escaped() -> None:
    """No name, condition or output is read as HTML."""
    odd = Small()
    odd.push("<script>x", "<b>", days=9, layer=5)
    shown = plan(odd.inventory(registry="<i>"), "tag_name <> '<u>'")
    pages = [
        render.plan(shown).html,
        render.inventory(shown.inventory).html,
        render.frame(shown.explanations).html,
        render.collection(Collection(ran=True, exit_code=1, output="<script>\n" * 9)).html,
        render.result(result(shown, errors=["<script>"], notes=["<b>"])).html,
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
            "✓ Less went than was planned, since some had moved: 100 bytes were expected for what went, "
            "and as many were freed.",
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
    assert repr(shown).startswith(words)
    assert "predicted by the plan" in repr(shown)
    assert words.split(":")[0] in shown._repr_html_()


def test_a_result_that_only_listed(small: Small) -> None:
    """Where nothing was to be done, the result says that nothing was changed."""
    listed = Result.unchanged(plan(small.inventory(), "1=1"), "action is none")
    assert repr(listed).startswith("Nothing was changed.\nNote: action is none\n")
    assert "✓" not in repr(listed)


def test_a_collection_shows_its_last_lines() -> None:
    """A long output is folded, its end is not."""
    page = render.collection(Collection(ran=True, exit_code=0, output="".join(f"line {n}\n" for n in range(5000)))).html
    shown, folded = page.split("<details>")
    assert "line 4999" in shown
    assert "line 4000" not in shown
    assert "line 4000" in folded
    assert "the last 1,000 of 5,000 lines" in folded
    assert "line 3999\n" not in folded
    assert "not run" in repr(Collection())


def test_a_frame_is_shown() -> None:
    """A frame has sizes, shortened names and an end."""
    frame = pd.DataFrame({"tag_name": ["x" * 100] * 1001, "tag_size": pd.array([1500] * 1000 + [None], dtype="Int64")})
    lines = repr(render.frame(frame)).splitlines()
    assert lines[0].split() == ["tag", "name", "tag", "size"]
    assert lines[1] == f"{'x' * 19}…{'x' * 20}    1.5 kB"
    assert lines[-1] == "… and 1 more."
    assert repr(render.frame(frame.head(0))) == "None."


def test_size_needs_no_pandas() -> None:
    """clear.py takes `size` from here, and must not wait for pandas."""
    code = "import sys, regdata.show.render; print(sorted({'pandas', 'duckdb', 'matplotlib'} & {*sys.modules}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
