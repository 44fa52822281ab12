"""What two inventories differ in, on a registry that is changed by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regdata.analysis import space
from regdata.analysis.changes import compare, since
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.errors import ConfigError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.notebook import run, views
from regdata.sources.columns import Columns
from tests.support.helpers import named_rows, store_bytes
from tests.support.small import Small, few

Conf = Callable[..., Path]


def test_compare(demo_registry: LocalRegistry, conf: Conf) -> None:
    """A clean-up by hand shows as tags that went and moved, and the bytes add up."""
    path = conf(demo_registry)
    before = scan(load_config(path))
    tags = demo_registry.base_path / "docker/registry/v2/repositories/shop/prod-web/_manifests/tags"
    shutil.rmtree(tags / "1.0")
    (tags / "1.1/current/link").write_text((tags / "1.2/current/link").read_text())
    (tags / "2.0/current").mkdir(parents=True)
    shutil.copy(tags / "1.3/current/link", tags / "2.0/current/link")
    after = scan(load_config(path))

    changes = compare(before, after)
    rows = changes.tags[["image_name", "tag_name", "change"]].to_numpy().tolist()
    assert rows == [["shop/prod-web", tag, what] for tag, what in (("1.0", "went"), ("1.1", "moved"), ("2.0", "came"))]
    sizes = before.images.set_index(["image_name", "tag_name"])["tag_size"]
    assert changes.tags["size_before"].tolist()[:2] == [sizes["shop/prod-web", tag] for tag in ("1.0", "1.1")]
    assert changes.tags["size_after"].isna().tolist() == [True, False, False]
    assert changes.images.empty  # as many tags as before, and no collection ran
    assert changes.totals.set_index("what")["change"].to_dict() == {
        "images": 0,
        "tags": 0,
        "manifests": 0,
        "orphans": 2,
        "bytes stored": 0,
    }
    assert "1 tag came, 1 tag went, 1 tag moved." in str(changes)


def test_compare_sizes(demo_registry: LocalRegistry, conf: Conf) -> None:
    """Images that grew or shrank add up to what the registry did."""
    inventory = scan(load_config(conf(demo_registry)))
    empty = Inventory.from_columns(Columns(), scanned_at=1_800_000_000, from_store=True, registry="http://r:5000")
    stored = store_bytes(demo_registry.base_path)
    came, went = compare(empty, inventory), compare(inventory, empty)
    assert came.images["bytes_grown"].sum() == -went.images["bytes_grown"].sum() == stored
    own = space.by_image(inventory).set_index("image_name")["own"]
    for row in named_rows(came.images):
        assert str(row.image_name).startswith("(") or row.bytes_after == own[row.image_name]
    assert came.images["tags_after"].sum() == len(inventory.images) == (came.tags["change"] == "came").sum()
    assert came.images["bytes_grown"].is_monotonic_decreasing
    assert "<table" in came._repr_html_()
    assert "shop/prod-web" in str(went)


def test_a_tag_that_can_not_be_read() -> None:
    """A tag that is on no known digest before or after has moved; not one that is on none at both times."""
    readable, broken = few(), few()
    for made, links in ((readable, ["broken"]), (broken, ["broken", "1.0"])):
        for tag in links:
            unread(made, tag)
    changes = compare(readable.inventory(), broken.inventory())
    assert changes.tags[["image_name", "tag_name", "change"]].to_numpy().tolist() == [["a/app", "1.0", "moved"]]
    back = compare(broken.inventory(), readable.inventory())
    assert back.tags[["image_name", "tag_name", "change"]].to_numpy().tolist() == [["a/app", "1.0", "moved"]]


def unread(made: Small, tag: str) -> None:
    """The tag's link says nothing any more; a new tag where there was none."""
    tags = made.columns["tags"]
    if tag not in tags["tag_name"]:
        made.row("tags", image_name="a/app", tag_name=tag)
    at = tags["tag_name"].index(tag)
    tags["tag_hash"][at], tags["error"][at] = None, "the link is empty"


def test_since_a_snapshot(small: Small, demo_registry: LocalRegistry, conf: Conf) -> None:
    """The last snapshot that is old enough is taken, else the first there is; teams and blobs add up."""
    path = conf(demo_registry, snapshots="snapshots")
    config = load_config(path)
    with pytest.raises(ConfigError, match="no earlier snapshot"):
        since(config)
    now = scan(config)
    for days in (9, 3, 1):
        replace(now, scanned_at=now.scanned_at - days * 86400).save(path.parent / "snapshots")
    taken = {days: (now.scanned_at - since(config, days=days).before.scanned_at) // 86400 for days in (0, 2, 5, 30)}
    assert taken == {0: 1, 2: 3, 5: 9, 30: 9}
    with pytest.raises(ConfigError, match="days is -1"):
        since(config, days=-1)
    with pytest.raises(ConfigError, match="has no `snapshots`"):
        since(load_config(conf(demo_registry)))

    empty = Inventory.from_columns(Columns(), scanned_at=1_800_000_000, from_store=True, registry="http://r:5000")
    came = compare(empty, small.inventory())
    stored = space.totals(small.inventory()).stored
    assert came.teams["bytes_grown"].sum() == came.blobs["blob_size"].sum() == stored
    assert set(came.blobs["change"]) == {"came"}


def test_clean_ups_in_between(demo_registry: LocalRegistry, conf: Conf) -> None:
    """The run that saved the earlier snapshot deleted after it: it is what took something. One of another registry, or
    that had ended before, is none."""
    path = conf(demo_registry, snapshots="snapshots")
    config = load_config(path)
    for sql_id in ("autobuild", "autobuild"):
        this_run = run.start(sql_id=sql_id, conf=str(path))
        this_run.apply()
        this_run.finish()
        facts = this_run.record.folder / "record.json"
        known = json.loads(facts.read_text())
        scanned = datetime.fromtimestamp(scan(config).scanned_at - 5, UTC)
        facts.write_text(json.dumps(known | {"started": (scanned - timedelta(seconds=60)).isoformat()}))
    for folder in sorted((path.parent / "snapshots").iterdir())[:1]:
        shutil.rmtree(folder)
    elsewhere = path.parent / "reports/20260101T000000Z-other"
    shutil.copytree(this_run.record.folder, elsewhere)
    (elsewhere / "record.json").write_text(json.dumps(known | {"registry_id": "another"}))
    (one,) = (path.parent / "snapshots").iterdir()
    facts = one / "snapshot.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"scanned_at": int(scanned.timestamp()) - 30}))
    early = path.parent / "reports/20260102T000000Z-early"
    shutil.copytree(this_run.record.folder, early)
    (early / "record.json").write_text(
        json.dumps(known | {"started": "2026-01-02T00:00:00Z", "finished": "2026-01-02T00:01:00Z"})
    )
    shown = views.cleaned(since(config), config).text
    assert this_run.record.folder.name in shown
    assert "other" not in shown
    assert "early" not in shown


@pytest.fixture
def small() -> Small:
    return few()
