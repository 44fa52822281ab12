"""Pulls and uses as columns of images, labels of indexes, and all of them in both engines and in snapshots."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regdata.config import Config, load_config
from regdata.demo.samples import make_image, make_index, make_layer
from regdata.errors import CleanupError
from regdata.inventory import families
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.inventory.usage import history, names, with_usage
from regdata.planning.plan import plan
from regdata.tables.conditions import select
from regdata.tables.schema import Engine
from regdata.usage.accesslog import Pulls
from regdata.usage.inuse import Use
from tests.support.fakes import FakeRegistry, serve
from tests.support.small import DAY, NOW, digest, indexed

pytestmark = pytest.mark.slow

ENGINES: tuple[Engine, Engine] = ("duckdb", "sqlite")


def pulls(*rows: tuple[str, str, int | None, int, int, int], since: int | None = NOW - 50 * DAY) -> Pulls:
    """(image, reference, days ago of the last pull, pulls in 30 days, in all, days ago when last seen)."""
    names = ("image_name", "reference", "last_pulled", "pulls_30d", "pulls_total", "last_seen")
    kinds = [pa.string(), pa.string(), *[pa.int64()] * 4]
    made = [
        (image, reference, None if last is None else NOW - last * DAY, recent, total, NOW - seen * DAY)
        for image, reference, last, recent, total, seen in rows
    ]
    columns = list(zip(*made, strict=True)) or [()] * 6
    table = pa.table({name: pa.array(values, kind) for name, values, kind in zip(names, columns, kinds, strict=True)})
    return Pulls(since, table)


def column(inventory: Inventory, name: str) -> dict[str, Any]:
    images = inventory.images
    values = [None if pd.isna(value) else value for value in images[name]]
    return dict(zip(images["image_name"] + ":" + images["tag_name"], values, strict=True))


@pytest.fixture
def inventory() -> Inventory:
    return indexed().inventory()


def test_unknown_without_logs_and_lists(inventory: Inventory) -> None:
    """Where nobody knows, the columns are NULL, and select nothing either way."""
    for name in ("last_pulled", "pulls_30d", "pulls_total", "idle_days", "in_use"):
        assert set(column(inventory, name).values()) == {None}
    for condition in ("in_use", "not in_use", "idle_days > 0", "not idle_days > 0", "pulls_total = 0"):
        for engine in ENGINES:
            assert select(inventory, condition, engine=engine) == []
    silent = with_usage(inventory, pulls(("a", "old", 1, 1, 1, 1), since=None))
    assert set(column(silent, "pulls_total").values()) == set(column(silent, "idle_days").values()) == {None}


def test_pulls_by_tag_and_digest(inventory: Inventory) -> None:
    """A pull counts for its tag; by digest for the tags on it and, of a child, for those whose index holds it."""
    found = with_usage(
        inventory,
        pulls(
            ("a", "multi", 7, 1, 2, 7),
            ("a", digest("multi"), 6, 10, 20, 6),
            ("a", digest("aamd64"), 5, 100, 200, 5),
            ("a", digest("aNone"), 4, 1000, 2000, 4),
            ("a", digest("aold"), 40, 0, 1, 40),
            ("a", digest("aoldc"), 1, 5, 5, 1),
            ("c", "old", 1, 5, 5, 1),
            ("b", "old", 1, 5, 5, 1),
        ),
    )
    assert column(found, "pulls_total") == {"a:amd64": 200, "a:multi": 2222, "a:old": 1, "b:amd64": 0}
    assert column(found, "pulls_30d") == {"a:amd64": 100, "a:multi": 1111, "a:old": 0, "b:amd64": 0}
    days = {name: last and (NOW - last) / DAY for name, last in column(found, "last_pulled").items()}
    assert days == {"a:amd64": 5, "a:multi": 4, "a:old": 40, "b:amd64": None}
    assert found.pulls_since == NOW - 50 * DAY


def test_idle_days(inventory: Inventory) -> None:
    """Days since the latest of the last pull or look, the push, and the beginning of the logs."""
    found = with_usage(inventory, pulls(("a", "amd64", 30, 1, 1, 20), ("a", "old", None, 0, 0, 45)))
    assert column(found, "idle_days") == {"a:amd64": 20, "a:multi": 50, "a:old": 45, "b:amd64": 5}
    ahead = with_usage(inventory, pulls(("a", "amd64", -1, 1, 1, -1)))
    assert column(ahead, "idle_days")["a:amd64"] == 0


def test_idle_days_of_what_has_no_date() -> None:
    """What nobody pulled and has no date that can be may have come by a way that is in no log: nobody knows. Over the
    API no push has a date, and the logs' beginning counts."""
    made = indexed()
    made.columns["tags"]["pushed"][0] = None
    undated = {name for name, pushed in column(made.inventory(), "pushed").items() if pushed is None}
    assert len(undated) == 1
    idle = column(with_usage(made.inventory(), pulls()), "idle_days")
    assert {name for name, days in idle.items() if days is None} == undated
    (image, tag), *_ = [name.split(":") for name in undated]
    seen = with_usage(made.inventory(), pulls((image, tag, 7, 1, 1, 7)))
    assert column(seen, "idle_days")[f"{image}:{tag}"] == 7
    assert None not in column(with_usage(made.inventory(from_store=False), pulls()), "idle_days").values()


def test_the_first_day(inventory: Inventory) -> None:
    """Where the logs begin yesterday, `idle_days > 90` selects nothing: all may have been pulled before."""
    first = with_usage(inventory, pulls(since=NOW - DAY))
    for engine in ENGINES:
        assert select(first, "idle_days > 90", engine=engine) == []
        assert select(first, "last_pulled is null", engine=engine) == [1, 2, 3, 4]


def test_over_the_api() -> None:
    """Where nobody knows when a tag was pushed, the logs may: a push is in them."""
    made = indexed()
    made.columns["tags"]["pushed"] = [None] * 4
    found = with_usage(made.inventory(from_store=False), pulls(("a", "old", None, 0, 0, 3)))
    assert column(found, "idle_days") == {"a:amd64": 50, "a:multi": 50, "a:old": 3, "b:amd64": 50}


def used(inventory: Inventory, *uses: Use) -> set[str]:
    return {name for name, value in column(with_usage(inventory, uses={"list": uses}), "in_use").items() if value}


def test_in_use(inventory: Inventory) -> None:
    """A tag is in use by its name, by its digest, by its index's child; in its own repository, or by a bare id."""
    assert used(inventory, Use("a", "old", "", "x")) == {"a:old"}
    assert used(inventory, Use("a", "", digest("aold"), "x")) == {"a:old"}
    assert used(inventory, Use("a", "gone", digest("aNone"), "x")) == {"a:multi"}
    assert used(inventory, Use("a", "", digest("aamd64"), "x")) == {"a:multi", "a:amd64"}
    assert used(inventory, Use("b", "", digest("aold"), "x")) == set()
    assert used(inventory, Use("c", "old", "", "x")) == set()
    for length in (12, 64):
        assert used(inventory, Use("", "", digest("aold")[7:][:length], "x", ours=False)) == set(
            column(inventory, "in_use") if length == 12 else {"a:old"}  # these begin with zeros
        )
        assert "a:old" in used(inventory, Use("", "", digest("aoldc")[7:][:length], "x", ours=False))
    assert used(inventory, Use("a", "old", "", "x", ours=False)) == {"a:old"}


def test_uses(inventory: Inventory) -> None:
    """The table uses says what of this registry is named, and by whom."""
    lists = {
        "one": [Use("a", "old", "", "shop/Pod/x"), Use("a", "", digest("aNone"), "shop/Pod/x")],
        "two": [Use("a", "old", "", "ops/Pod/y"), Use("a", "gone", "", "ops/Pod/y"), Use("z", "1", "", "ops/Pod/y")],
    }
    found = with_usage(inventory, uses=lists)
    rows = [tuple(None if pd.isna(cell) else cell for cell in row) for row in found.uses.itertuples(index=False)]
    assert sorted(rows, key=str) == [
        ("a", "old", None, "ops/Pod/y"),
        ("a", "old", None, "shop/Pod/x"),
        ("a", None, digest("aNone"), "shop/Pod/x"),
    ]
    condition = "tag_name in (select tag_name from uses where used_by like 'ops/%')"
    assert [select(found, condition, engine=engine) for engine in ENGINES] == [[3], [3]]
    assert [select(found, "not in_use and image_name = 'a'", engine=engine) for engine in ENGINES] == [[1], [1]]


def test_another_registrys_list(inventory: Inventory) -> None:
    """A list that names nothing of this registry stops the run: it may have another name there."""
    foreign = Use("quay.io/a", "old", "", "x", ours=False)
    with pytest.raises(
        CleanupError, match=r"in-use: bad names nothing of this registry, but quay.io/a:old.*registry\.names"
    ):
        with_usage(inventory, uses={"good": [Use("a", "old", "", "x")], "bad": [foreign]})
    with_usage(inventory, uses={"good": [Use("gone", "1", "", "x"), foreign]})
    with_usage(inventory, uses={"good": [Use("a", "old", "", "x", ours=False), foreign]})


LABELS = [{"team": "x", "arch": "1", "z": "child"}, {"team": "x", "arch": "2", "only": "one"}, {"team": "y"}]


def test_labels_of_an_index() -> None:
    """An index has its own annotations, and of its children's labels those that they agree on."""
    made = indexed(labels=LABELS)
    made.columns["contents"]["labels"][-1] = json.dumps({"z": "own"})
    inventory = made.inventory()
    found = {name: labels and json.loads(labels) for name, labels in column(inventory, "labels").items()}
    assert found == {
        "a:amd64": LABELS[0],
        "a:multi": {"team": "x", "only": "one", "z": "own"},
        "a:old": {"team": "y"},
        "b:amd64": None,
    }
    assert [select(inventory, "labels->>'team' = 'x'", engine=engine) for engine in ENGINES] == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "condition",
    [
        """labels->>'$."org.opencontainers.image.source"' like 'https://%'""",
        """not labels->>'$."org.opencontainers.image.source"' like 'http://%' and image_name = 'a'""",
        """labels->>'$."org.opencontainers.image.source"' in ('https://x/y') or labels->>'team' = 'none'""",
        """coalesce(labels->>'$."org.opencontainers.image.source"', '') <> ''""",
    ],
)
def test_dotted_labels(condition: str) -> None:
    """A label with dots is asked for by a path, the same in both engines."""
    inventory = indexed(labels=[None, None, {"org.opencontainers.image.source": "https://x/y"}]).inventory()
    assert [select(inventory, condition, engine=engine) for engine in ENGINES] == [[3], [3]]


def test_snapshots(inventory: Inventory, tmp_path: Path) -> None:
    """What is known of pulls and uses is in a snapshot; an older one loads without."""
    made = with_usage(inventory, pulls(("a", "old", 7, 1, 2, 7)), {"list": [Use("a", "old", "", "x")]})
    path = made.save(tmp_path)
    loaded = Inventory.load(path)
    pd.testing.assert_frame_equal(loaded.images, made.images)
    pd.testing.assert_frame_equal(loaded.uses, made.uses)
    assert loaded.pulls_since == made.pulls_since
    pulled = ["last_pulled", "pulls_30d", "pulls_total", "idle_days", "in_use"]
    later = ["labels", *families.COLUMNS, *pulled]  # than the oldest snapshots
    for name, gone in (("images", later), ("manifests", ["labels"])):
        table = pq.read_table(path / f"{name}.parquet")
        pq.write_table(table.drop_columns(gone), path / f"{name}.parquet")
    (path / "uses.parquet").unlink()
    facts = json.loads((path / "snapshot.json").read_text())
    del facts["pulls_since"]
    (path / "snapshot.json").write_text(json.dumps(facts | {"format": 1}))
    old = Inventory.load(path)
    pd.testing.assert_frame_equal(old.images, inventory.images.assign(labels=pd.array([None] * 4, dtype="str")))
    assert old.pulls_since is None
    assert old.uses.empty
    assert [select(old, "version_rank is null and family_rank = 1", engine=engine) for engine in ENGINES] == [
        [1, 2, 3, 4]
    ] * 2


def test_what_was_made_once_stays(inventory: Inventory) -> None:
    """What holds what is not found out again for new columns."""
    graph = inventory.graph
    assert with_usage(inventory, pulls()).graph is graph
    assert replace(inventory).graph is not graph


def test_registries_on_one_host(tmp_path: Path) -> None:
    """Each has its own history of pulls, and is called by its path, too."""

    def config_of(url: str) -> Config:
        path = tmp_path / "conf.json"
        path.write_text(json.dumps({"registry": {"url": url}, "sql": {}, "cache": "cache"}))
        return load_config(path)

    one, two, plain = map(config_of, ("https://h/one", "https://h/two", "https://h"))
    assert len({history(one), history(two), history(plain)}) == 3
    assert names(one)[:2] == ["h", "h/one"]
    assert names(plain) == ["h"]


def test_a_running_manifest_without_a_tag(tmp_path: Path) -> None:
    """Over the API, too, what runs by its digest is known though no tag leads to it any more, with its children."""
    children = [make_image([make_layer(("runs", number), 90)], oci=True) for number in range(2)]
    index = make_index(children)
    with serve(FakeRegistry()) as fake:
        fake.push("app", None, index)
        fake.push("app", "amd64", children[0])
        fake.push("app", "other", make_image([make_layer("other", 90)], oci=True))
        (tmp_path / "list").write_text(f"{fake.url.removeprefix('http://')}/app@{index.digest}\n")
        settings = {"registry": {"url": fake.url}, "sql": {}, "in-use": ["list"], "cache": False}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        found = plan(scan(load_config(tmp_path)), "1=1").tags.set_index("tag_name")
    assert dict(found["action"]) == {"amd64": "keep", "other": "delete"}
