"""A second scan of the folder: what did not change since an earlier inventory is not read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from regdata.config import Config, load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_index, make_layer, push
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import leftovers, scan, scan_site
from regdata.sources.columns import Columns
from regdata.sources.files import LocalFiles
from regdata.sources.registry import Registry
from regdata.sources.site import StoreSite
from regdata.sources.storage import Storage
from tests.support import small

TABLES = ("repositories", "images", "manifests", "references", "relations", "blobs")
NEW = make_image([make_layer("new", 30)], oci=True)
INDEX = make_index([NEW, make_image([make_layer("other", 30)], platform="linux/arm64", oci=True)], attest=True)


@pytest.fixture
def config(demo_registry: LocalRegistry, conf: Callable[..., Path]) -> Config:
    return load_config(conf(demo_registry))


class Opened(LocalFiles):
    """Notes which manifests and configs are opened in this process: all, since the demo is small."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        self.paths.append(path)
        return super().read(path, limit)

    def scan(self, config: Config, **options: Any) -> Inventory:
        """A scan of the folder by way of these files."""
        storage = Storage(str(config.registry.base_path), files=self)
        return scan_site(Trusting(Registry(config.registry.url), storage), config, **options)


class Trusting(StoreSite):
    """Does not look into some manifests to see whether the folder is that of the registry."""

    def check_same(self) -> None:
        """It is."""


def frames(found: Inventory) -> dict[str, pd.DataFrame]:
    columns = {name: found.frame(name).drop(columns="age_days", errors="ignore") for name in TABLES}
    return {name: frame.sort_values(list(frame.columns), ignore_index=True) for name, frame in columns.items()}


def assert_same(one: Inventory, other: Inventory) -> None:
    for (name, left), right in zip(frames(one).items(), frames(other).values(), strict=True):
        pd.testing.assert_frame_equal(left, right, obj=name)


def data_of(registry: LocalRegistry, digest: str) -> Path:
    hex_ = digest.partition(":")[2]
    return registry.base_path / "docker/registry/v2/blobs/sha256" / hex_[:2] / hex_ / "data"


@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "from a snapshot"])
def test_only_what_is_new_is_read(demo_registry: LocalRegistry, config: Config, tmp_path: Path, saved: bool) -> None:
    """With an earlier inventory, a scan opens the manifests and configs that came since, and finds the same."""
    opened = Opened()
    before = opened.scan(config)
    assert len(opened.paths) > 100
    if saved:
        before = Inventory.load(before.save(tmp_path))
    opened.paths.clear()
    assert_same(opened.scan(config, since=before), before)
    assert opened.paths == []
    push(demo_registry.url, "shop/new", "1", INDEX)
    after = opened.scan(config, since=before)
    # The index, two images with their configs, two attestations and what these list (their configs say nothing).
    assert len(opened.paths) == 9
    assert_same(after, scan(config))


def test_what_went_is_forgotten(demo_registry: LocalRegistry, config: Config) -> None:
    """What only the earlier inventory knows is in no table of the later one."""
    push(demo_registry.url, "shop/new", "1", NEW)
    before = scan(config)
    root = demo_registry.base_path / "docker/registry/v2/repositories/shop/new/_manifests"
    (root / "tags/1/current/link").unlink()
    (root / f"revisions/sha256/{NEW.digest[7:]}/link").unlink()
    for digest in (NEW.digest, *(blob.digest for blob in NEW.blobs)):
        data_of(demo_registry, digest).unlink()
    after = scan(config, since=before)
    assert_same(after, scan(config))
    assert NEW.digest not in {*after.blobs["blob_hash"], *after.references["manifest_hash"]}


@pytest.mark.parametrize("damage", ["gone", "shorter", "written again"])
def test_damage_is_seen(demo_registry: LocalRegistry, config: Config, damage: str) -> None:
    """A manifest whose file is gone, or has another size or date, is looked at again."""
    push(demo_registry.url, "shop/new", "1", NEW)
    before = scan(config)
    data = data_of(demo_registry, NEW.digest)
    if damage == "gone":
        data.unlink()
    elif damage == "shorter":
        when = data.stat().st_mtime
        data.write_bytes(b"{}")
        os.utime(data, (when, when))
    else:
        data.write_bytes(b"x" * data.stat().st_size)
        os.utime(data, (1_700_000_000, 1_700_000_000))
    after = scan(config, since=before)
    assert_same(after, scan(config))
    assert set(after.manifests[after.manifests["error"].notna()]["manifest_hash"]) == {NEW.digest}


def test_what_could_not_be_read_is_read_again(demo_registry: LocalRegistry, config: Config) -> None:
    """An error is not taken over, nor an image without a date: its config may be there by now."""
    push(demo_registry.url, "shop/new", "1", NEW)
    config_blob = data_of(demo_registry, NEW.blobs[0].digest)
    data = config_blob.read_bytes()
    config_blob.unlink()
    before = scan(config)
    config_blob.write_bytes(data)
    assert_same(scan(config, since=before), scan(config))


def test_split_over_an_executor(config: Config) -> None:
    """The shares of an executor's work know what need not be read, too."""
    opened = Opened()
    before = scan(config)
    with ThreadPoolExecutor(2) as executor:
        assert_same(opened.scan(config, since=before, executor=executor), before)
    assert opened.paths == []


def test_the_api_has_its_cache(demo_registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """Over the API an earlier inventory changes nothing."""
    config = load_config(conf(demo_registry, registry={"url": demo_registry.url}))
    assert_same(scan(config, since=scan(config)), scan(config))


def test_what_a_text_mentions_may_be_a_manifest() -> None:
    """Bytes that stay are found by what is in them, however others refer to them: as a base image, or as a file. What
    is an image's layer by its type is not read."""
    columns = Columns()
    for number, (kind, type_) in enumerate(
        [("mention", None), ("layer", "application/zip"), ("layer", "application/vnd.oci.image.layer.v1.tar")]
    ):
        columns.add("blobs", (small.digest(str(number)), 30, small.NOW))
        columns.add("descriptors", (small.digest(str(number)), kind, 30, type_, None))
    store: Any = SimpleNamespace(document=lambda _: b'{"schemaVersion": 2}')
    assert [*leftovers(columns, store, None)] == [small.digest("0"), small.digest("1")]
