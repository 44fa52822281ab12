"""Snapshots: an inventory that was saved is the one that is loaded, or it is one clear error."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from regdata.analysis.changes import compare
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.errors import StorageError
from regdata.inventory import snapshot
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.notebook import run
from regdata.planning.plan import plan
from regdata.sources.columns import Columns
from tests.support.helpers import store_bytes
from tests.support.small import few

Conf = Callable[..., Path]
AT = 1_800_000_000
NAME = "20270115T080000Z"  # AT


@pytest.fixture
def empty() -> Inventory:
    return Inventory.from_columns(Columns(), scanned_at=AT, from_store=True, registry="http://r:5000")


def assert_same(found: Inventory, wanted: Inventory) -> None:
    for field in (one for one in fields(Inventory) if one.init and one.name != "address"):  # may be a secret's
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(other, pd.DataFrame):
            assert_frame_equal(one, other)
        else:
            assert (one, type(one)) == (other, type(other)), field.name


@pytest.mark.parametrize("base_path", [True, False], ids=["folder", "API"])
def test_round_trip(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path, base_path: bool) -> None:
    """What is loaded equals what was saved, types included, and so does a plan on it."""
    settings: dict[str, object] = {"protect": "tag_name = 'stable'", "engine": "sqlite"}
    if not base_path:
        settings["registry"] = {"url": demo_registry.url}
    inventory = scan(load_config(conf(demo_registry, **settings)))
    path = inventory.save(tmp_path / "new" / "snapshots")
    loaded = Inventory.load(path)
    assert_same(loaded, inventory)
    assert_frame_equal(loaded.relations, inventory.relations)
    before, after = (plan(one, "image_name like '%prod%'") for one in (inventory, loaded))
    assert before.reclaimable == after.reclaimable > 0
    for name in ("tags", "manifests", "blobs", "order"):
        assert_frame_equal(getattr(after, name), getattr(before, name))
    assert str(compare(inventory, loaded)).count("0 tags") == 3


def test_empty_registry(empty: Inventory, tmp_path: Path) -> None:
    """An empty registry comes back with the types of its columns."""
    assert_same(Inventory.load(empty.save(tmp_path)), empty)


def test_folder_of_snapshots(empty: Inventory, tmp_path: Path) -> None:
    """It is named by the time of its scan, one of the same second gets -2, and a folder stands for its newest."""
    assert empty.save(tmp_path).name == NAME
    assert [path.name for path in snapshot.saved(tmp_path)] == [NAME]
    assert replace(empty, registry="http://second:5000").save(tmp_path).name == f"{NAME}-2"
    for _ in range(8):
        empty.save(tmp_path)
    newest = replace(empty, registry="http://last:5000").save(tmp_path)
    assert newest.name == f"{NAME}-11"
    assert Inventory.load(tmp_path).registry == "http://last:5000"
    replace(empty, scanned_at=AT - 1, registry="http://older:5000").save(tmp_path)
    assert Inventory.load(tmp_path).registry == "http://last:5000"
    assert Inventory.load(str(tmp_path / f"{NAME}-2")).registry == "http://second:5000"


def test_duckdb_reads_it_unloaded(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """Any Parquet reader can query all snapshots of a folder."""
    inventory = scan(load_config(conf(demo_registry)))
    inventory.save(tmp_path / "snapshots")
    replace(inventory, scanned_at=AT).save(tmp_path / "snapshots")
    with duckdb.connect() as connection:
        found = connection.execute(
            f"select sum(blob_size) from read_parquet('{tmp_path}/snapshots/*/blobs.parquet', filename = true) "
            "group by filename"
        ).fetchall()
    assert [int(number) for (number,) in found] == [store_bytes(demo_registry.base_path)] * 2


def test_all_or_nothing(empty: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that fails leaves nothing behind, and what a killed one left is not taken for a snapshot."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"no snapshot could be saved in .*: No space left on device"):
        empty.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    shutil.copytree(empty.save(tmp_path / "elsewhere"), tmp_path / ".0123.tmp")
    with pytest.raises(StorageError, match=r"no snapshot in .*: give a snapshot's folder"):
        Inventory.load(tmp_path)


def test_no_folder(empty: Inventory, tmp_path: Path) -> None:
    """A folder that can't be made, or isn't there, is one clear line."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"no snapshot could be saved in .*file: Not a directory\."):
        empty.save(tmp_path / "file")
    with pytest.raises(StorageError, match="no snapshot in"):
        Inventory.load(tmp_path / "absent")


def test_newer_format(empty: Inventory, tmp_path: Path) -> None:
    """What a newer regdata wrote is not guessed at."""
    path = empty.save(tmp_path)
    facts = json.loads((path / "snapshot.json").read_text())
    (path / "snapshot.json").write_text(json.dumps(facts | {"format": 3, "more": True}))
    with pytest.raises(StorageError, match=r"newer regdata \(format 3, this one reads up to 2\): update regdata"):
        Inventory.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("snapshot.json", b"{"),
        ("snapshot.json", b"[]"),
        ("snapshot.json", b'{"format": 1}'),
        ("snapshot.json", b'{"format": 1e999}'),
        ("snapshot.json", {"scanned_at": "1800000000"}),
        ("snapshot.json", {"scanned_at": None}),
        ("snapshot.json", {"scanned_at": 10**12}),
        ("snapshot.json", {"registry": 5}),
        ("snapshot.json", {"from_store": "yes"}),
        ("blobs.parquet", b"PAR1"),
        ("images.parquet", None),
    ],
)
def test_damaged(empty: Inventory, tmp_path: Path, file: str, content: bytes | dict[str, Any] | None) -> None:
    """A damaged snapshot, or one that was edited, is one line that names it."""
    path = empty.save(tmp_path)
    if isinstance(content, dict):
        content = json.dumps(json.loads((path / file).read_text()) | content).encode()
    (path / file).unlink()
    if content is not None:
        (path / file).write_bytes(content)
    with pytest.raises(StorageError, match=rf"{path} is not a whole snapshot \(.*\): take another one") as caught:
        Inventory.load(path)
    assert "\n" not in str(caught.value)


def test_missing_column(empty: Inventory, tmp_path: Path) -> None:
    """A table without one of its columns is not taken for whole."""
    path = empty.save(tmp_path)
    empty.images.drop(columns=["tag_hash", "kind"]).to_parquet(path / "images.parquet")
    with pytest.raises(StorageError, match=r"images.parquet has no kind, tag_hash"):
        Inventory.load(path)


# A run saves one


@pytest.mark.parametrize("writable", [True, False], ids=["saved", "not to be written"])
def test_run(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path, writable: bool) -> None:
    """A run saves a snapshot where conf.json says so; one that can't be saved is noted, and the clean-up goes on."""
    if not writable:
        (tmp_path / "snapshots").touch()
    before = store_bytes(demo_registry.base_path)
    this_run = run.start(sql_id="autobuild", conf=str(conf(demo_registry, snapshots="snapshots")))
    inventory = this_run.scan()
    this_run.plan()
    result = this_run.apply()
    this_run.finish()
    record = json.loads((this_run.record.folder / "record.json").read_text())
    assert (record["status"], record["errors"]) == ("ok", [])
    assert before - store_bytes(demo_registry.base_path) == result.bytes_freed
    if writable:
        assert_same(Inventory.load(record["snapshot"]), inventory)
        assert Path(record["snapshot"]).parent == tmp_path / "snapshots"
    else:
        assert record["snapshot"] is None
        assert "no snapshot could be saved" in record["snapshot_error"]


def test_an_older_snapshot_of_a_store_without_dates(tmp_path: Path) -> None:
    """Saved when 1970 counted as a date, it is loaded without it: nothing in it is old, and all that was stored is."""
    path = few().inventory().save(tmp_path)
    saved = {name: pq.read_table(path / f"{name}.parquet").to_pandas() for name in ("images", "manifests", "blobs")}
    saved["images"] = saved["images"].assign(pushed=0, tag_timestamp=0, age_days=20_000.0)
    saved["manifests"] = saved["manifests"].assign(pushed=0)
    saved["blobs"] = saved["blobs"].assign(blob_date=0).drop(columns="stored")
    for name, frame in saved.items():
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path / f"{name}.parquet")
    loaded = Inventory.load(path)
    assert loaded.images[["pushed", "tag_timestamp", "age_days", "newest_rank", "family_rank"]].isna().all(axis=None)
    assert loaded.blobs["stored"].all()
    found = plan(loaded, "age_days > 90 or newest_rank > 0")
    assert found.tags.empty
    assert found.manifests.empty
    both = [plan(one, "tag_name = '1.0'").reclaimable for one in (few().inventory(), loaded)]
    assert both[0] - both[1] == 40 + 10 + 1  # the orphan stays


def test_earlier_ones_of_as_much(empty: Inventory, tmp_path: Path) -> None:
    """What was read of other repositories (registry.repositories) is compared with nothing."""
    within = ("team/*",)
    for number, patterns in enumerate((None, within, ("team/one",))):
        replace(empty, scanned_at=empty.scanned_at - 100 + number, within=patterns).save(tmp_path)
    for patterns in (None, within):
        (found,) = snapshot.earlier(tmp_path, replace(empty, within=patterns))
        assert Inventory.load(found).within == patterns
