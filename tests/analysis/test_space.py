"""What takes the space, on a registry small enough to add up by hand, and on the demo's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from regdata.analysis import space
from regdata.analysis.space import Totals
from regdata.cleaning.cleanup import apply
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.notebook import findings, views
from regdata.planning.plan import plan
from regdata.sources.columns import Columns
from tests.support.helpers import no_rows, store_bytes
from tests.support.odd import push_image_by, push_index_of_blobs
from tests.support.small import NOW, Small, digest, few

pytestmark = pytest.mark.slow

Conf = Callable[..., Path]

AUTOBUILD = "image_name like '%prod%' and image_tag != 'latest'"


@pytest.fixture
def small() -> Small:
    return few()


NOTHING = Inventory.from_columns(Columns(), scanned_at=NOW, from_store=True)


def test_totals(small: Small) -> None:
    """Every stored byte is in one of the four parts, and nothing shared would be each manifest's own copy."""
    totals = space.totals(small.inventory())
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
    assert findings.totals(totals) == (
        "**339 B** are stored for 3 tags of 3 images; if nothing were shared, it would be 539 B, so sharing saves 37%; "
        "1 orphan holds 51 B, and 5 B are leftovers that no manifest refers to."
    )


def test_who_pays() -> None:
    """What two teams hold is split, to the byte; what nobody refers to is nobody's; the price is that of a GB."""
    two = Small()
    two.push("a/app", "1", days=1, base=101, a=10)
    two.push("b/app", "1", days=1, base=101, b=1000)
    shares = space.who_pays(two.inventory(), 2.5)
    stored = int(shares["bytes"].sum())
    assert list(shares["team"]) == ["b", "a"]
    assert stored == space.totals(two.inventory()).stored
    by_team = dict(zip(shares["team"], shares["bytes"], strict=True))
    assert by_team["b"] - by_team["a"] in (989, 990, 991)
    assert list(shares["price"]) == [pytest.approx(number * 2.5e-9) for number in shares["bytes"]]
    assert "a month" in str(views.who_pays(shares))
    assert "price_per_gb_month" in str(views.who_pays(space.who_pays(two.inventory())))


def test_who_pays_among_many() -> None:
    """Each team has its own name, however many there are; what is beyond the first ones is summed up where shown."""
    many = Small()
    for number in range(30):
        many.push(f"team{number}/app", "1", days=1, **{f"layer{number}": 1000 * (number + 1)})
    shares = space.who_pays(many.inventory())
    assert list(shares["team"]) == [f"team{number}" for number in reversed(range(30))]
    shown = str(views.who_pays(shares)).splitlines()
    assert shown[20].startswith("other (11)")
    assert shown[21].startswith("total")


def test_without_base_path(small: Small) -> None:
    """What only the store can tell is left out, in a sentence; the ages count no leftovers."""
    small.columns["blobs"] = no_rows()["blobs"]
    inventory = small.inventory(from_store=False)
    totals = space.totals(inventory)
    assert totals.orphans is None
    assert "can't be seen without `registry.base_path`" in findings.totals(totals)
    assert space.by_age(inventory)["days"].notna().all()
    assert space.by_month(inventory)["bytes"].sum() == totals.stored
    assert "exact with base_path" in str(plan(inventory, "1=1"))


def test_by_image(small: Small) -> None:
    """What only an image holds, its orphans too, and what it shares; an image without tags has nothing."""
    images = space.by_image(small.inventory())
    assert images.to_numpy().tolist() == [["a/app", 2, 193, 100], ["b/app", 1, 41, 100], ["c/none", 0, 0, 0]]
    assert findings.by_image(images) == (
        "`a/app` takes most: **193 B** that only it holds, 82% of what single images hold; "
        "1 of 3 images holds half of that."
    )


def test_by_path(small: Small) -> None:
    """Every stored byte is once in the areas, also what several images hold, and nobody."""
    paths = space.by_path(small.inventory())
    assert paths.astype({"team": str}).to_numpy().tolist() == [
        ["a/app", "a", 193],
        ["(shared by several images)", "(several teams)", 100],
        ["b/app", "b", 41],
        ["(no manifest refers to it)", "(nobody)", 5],
    ]
    assert findings.by_path(paths).startswith("`a` holds most, **193 B**, 57% of all")


def test_teams() -> None:
    """The six teams that hold most are named, the others are one."""
    many = Small()
    for number in range(10):
        many.push(f"team{number}/app", "1", days=1, **{f"layer{number}": 1000 * (10 - number)})
    paths = space.by_path(many.inventory())
    assert list(paths["team"].cat.categories)[:7] == [*(f"team{number}" for number in range(6)), "other (4)"]
    assert (paths["team"] == "other (4)").sum() == 4


def test_by_month(small: Small) -> None:
    """A blob is of the month of its push, and of the team that alone holds it."""
    months = space.by_month(small.inventory())
    assert months.astype({"team": str}).to_numpy().tolist() == [
        ["2024-05", "a", 61],
        ["2024-05", "(several teams)", 100],
        ["2024-08", "(nobody)", 5],
        ["2025-03", "a", 81],
        ["2025-04", "a", 51],
        ["2025-06", "b", 41],
    ]
    assert findings.by_month(months) == (
        "**2024-05** brought most of what is still stored, 161 B; the 12 months to 2025-06 brought 178 B, 53% of all."
    )


def test_by_age(small: Small) -> None:
    """What is older is what the plan frees, with what any clean-up frees and without what is protected."""
    ages = space.by_age(small.inventory(protect="tag_name = '2.0'"))
    assert ages["days"].tolist()[:4] == [30, 90, 180, 365]
    assert ages["tags"].tolist() == [1, 1, 1, 1, 0]
    assert ages["stay"].tolist() == [1, 1, 0, 0, 0]
    assert ages["bytes"].tolist() == [117, 117, 117, 117, 56]
    assert findings.by_age(ages).endswith("of it 56 B are orphans and leftovers, which any clean-up frees.")


def test_by_age_is_what_a_deletion_frees(demo_registry: LocalRegistry, conf: Conf) -> None:
    """The bytes shown for an age are those by which the store shrinks when all that is older goes."""
    config = load_config(conf(demo_registry, sql={"old": "age_days > 180"}))
    inventory = scan(config)
    ages = space.by_age(inventory)
    (promised,) = ages.loc[ages["days"] == 180, "bytes"]
    before = store_bytes(demo_registry.base_path)
    result = apply(plan(inventory, "age_days > 180"), config)
    assert result.errors == []
    assert before - store_bytes(demo_registry.base_path) == promised > 0


def test_by_tag(small: Small) -> None:
    """A row per tag, largest first; an unknown date is counted as such."""
    small.push("b/app", "2.0", days=1, base=100, v=300)
    small.columns["tags"]["pushed"][-1] = small.columns["contents"]["created"][-1] = None
    tags = space.by_tag(small.inventory())
    assert tags["tag_size"].tolist() == [400, 170, 150, 130]
    assert findings.by_tag(tags) == (
        "The largest of 4 tags is `b/app:2.0` with **400 B**; half are below 160 B; the oldest, `a/app:1.0`, "
        "is 400 days old; 1 have no known date."
    )


def test_layers(small: Small) -> None:
    """A layer's tags and images are those that hold it, also the images that hold it by an orphan alone."""
    layers = space.layers(small.inventory())
    used = {row.blob_hash: (row.tags, row.images, row.users) for row in space.rows(layers)}
    assert layers["blob_size"].tolist() == [100, 70, 50, 40, 30]
    assert used[digest("base")] == (3, 2, "a/app, b/app")
    assert used[digest("w")] == (0, 1, "a/app")
    assert layers["share"].sum() == pytest.approx(1)


def test_goes_and_stays(small: Small) -> None:
    """What goes adds up to the plan's bytes, and with what stays to all that is stored."""
    shown = plan(small.inventory(), "image_name = 'a/app'")
    images = space.goes_and_stays(shown)
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
    totals = space.totals(inventory)
    assert totals.stored == stored
    assert totals.one_image + totals.several_images + totals.orphan_bytes + totals.unreferenced == stored
    assert space.by_path(inventory)["bytes"].sum() == space.by_month(inventory)["bytes"].sum() == stored
    assert space.by_image(inventory)["own"].sum() == totals.one_image + totals.orphan_bytes
    assert totals.saved > 0
    images = space.goes_and_stays(plan(inventory, AUTOBUILD))
    assert images[["goes", "stays"]].sum().sum() == stored


def test_what_is_named_by_another_digest_is_held(registry: LocalRegistry, conf: Conf) -> None:
    """Blobs behind a sha512, and what an index's child holds that is a blob alone, are their image's, as in a plan."""
    push_image_by(registry.url, "alias/app", "1", "a", "sha512")
    push_index_of_blobs(registry.url, "child/app", "1", make_image([make_layer("in", 1000)]))
    inventory = scan(load_config(conf(registry)))
    totals = space.totals(inventory)
    assert totals.stored == totals.one_image == store_bytes(registry.base_path)
    own = space.by_image(inventory).set_index("image_name")["own"]
    assert (own > 1000).all()
    for image in ("alias/app", "child/app"):
        freed = plan(inventory, f"image_name = '{image}'").blobs
        holders = space.by_blob(inventory).set_index("blob_hash")["image_name"]
        assert set(holders[freed["blob_hash"]]) == {image}
    layers = space.layers(inventory)
    assert sorted(layers["users"]) == ["alias/app", "child/app"]
    assert list(layers["tags"]) == [1, 1]


@pytest.mark.parametrize("name", ["by_image", "by_month", "by_age", "by_tag", "layers", "by_path", "totals"])
def test_an_empty_registry(name: str) -> None:
    """An empty registry gives a sentence that says so."""
    found = getattr(space, name)(NOTHING)
    sentence = getattr(findings, name)(found)
    assert sentence.startswith(("No", "There is no ", "The registry is empty"))
    assert sentence._repr_markdown_() == str(sentence)


def test_names_in_a_sentence_are_code() -> None:
    """A name can't be Markdown or HTML."""
    odd = pd.DataFrame({"image_name": ["<b>`*x*"], "tags": [1], "own": [5], "shared": [0]})
    assert findings.by_image(odd).startswith("`<b>'*x*` takes most")
