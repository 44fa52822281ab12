"""The inventory of a real registry, read from its folder and over its API."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

import regdata
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    make_helm_chart,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    referrers_tag,
    signature_tag,
)
from regdata.errors import RegistryError, StorageError
from regdata.inventory import references
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.sources.api import Api
from regdata.sources.columns import merge
from regdata.sources.registry import Registry
from regdata.sources.site import Site
from regdata.sources.source import Source
from regdata.sources.storage import Storage
from tests.support import synthetic
from tests.support.helpers import age
from tests.support.odd import push_empty_index

DAY = 86400
NOW = int(time.time())
BUILT = NOW - 500 * DAY

BASE = make_layer("base", 1000)
AMD = make_image([BASE, make_layer("amd", 300)], created=BUILT, oci=True)
ARM = make_image([BASE, make_layer("arm", 400)], created=BUILT + 60, platform="linux/arm64/v8", oci=True)
INDEX = make_index([AMD, ARM], attest=True)
DOCKER_AMD = make_image([BASE, make_layer("docker amd", 350)], created=BUILT)
DOCKER_INDEX = make_index([DOCKER_AMD], oci=False)
NESTED = make_index([make_index([ARM]), AMD])
PLAIN = make_image([BASE, make_layer("plain", 500)], created=BUILT)
MOVED = make_image([BASE, make_layer("moved", 600)], created=BUILT - DAY)
EPOCH = make_image([make_layer("1970", 200)], created=0)
YEAR_1980 = make_image([make_layer("1980", 200)], created=315532800)
FUTURE = make_image([make_layer("future", 200)], created=NOW + 400 * DAY)
CHART = make_helm_chart("chart", 700)
SBOM = make_referrer(PLAIN)

# repository, tag, image, and how many days ago it was pushed; the first 1.0 of team/app becomes an orphan.
PUSHES: list[tuple[str, str, Image, int]] = [
    ("team/app", "1.0", MOVED, 40),
    ("team/app", "1.0", PLAIN, 30),
    ("team/app", "stable", PLAIN, 20),
    ("team/app", "2.0", INDEX, 10),
    ("team/app", referrers_tag(PLAIN), make_index([SBOM]), 29),
    ("team/app", signature_tag(PLAIN), make_signature(PLAIN), 28),
    ("team/app/worker", "1.0", PLAIN, 30),
    ("team/app/worker/deep", "1.0", NESTED, 5),
    ("team/list", "1.0", DOCKER_INDEX, 5),
    ("epoch", "1970", EPOCH, 3),
    ("epoch", "1980", YEAR_1980, 2),
    ("epoch", "future", FUTURE, 1),
    ("charts/web", "0.1", CHART, 100),
]
EMPTY = "team/empty"

COLUMNS = {
    "images": "id image_name tag_name tag_timestamp tag_hash tag_size image_tag created pushed age_days newest_rank "
    "kind media_type platforms exclusive_size shared_tags error labels tag_family family_rank version_rank "
    "is_prerelease last_pulled pulls_30d pulls_total idle_days in_use",
    "relations": "id image_name tag_name blob_hash blob_kind",
    "blobs": "id blob_hash blob_size blob_date stored",
    "manifests": "image_name manifest_hash media_type manifest_size subject_hash pushed tagged orphan kind created "
    "platform error labels",
    "references": "manifest_hash reference_hash reference_kind reference_size media_type platform",
}


def read(source: Source, *, from_store: bool) -> Inventory:
    parts = [source.read(part) for part in source.split(3)]
    return Inventory.from_columns(merge(parts), scanned_at=NOW, from_store=from_store)


@pytest.fixture(scope="module")
def filled(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A registry with an image of every kind; only read."""
    with LocalRegistry(tmp_path_factory.mktemp("inventory")) as registry:
        root = registry.base_path / "docker/registry/v2/repositories"
        for repository, tag, image, _ in PUSHES:
            push(registry.url, repository, tag, image)
        push(registry.url, EMPTY, "1.0", PLAIN)
        age(registry.base_path, 3600)  # what is dated after the scan has no date
        for repository, tag, image, days in PUSHES:
            folder = root / repository / "_manifests"
            for link in (folder / "tags" / tag / "current/link", *folder.glob(f"revisions/*/{image.digest[7:]}/link")):
                os.utime(link, (NOW - days * DAY, NOW - days * DAY))
        with requests.Session() as session:
            session.trust_env = False
            session.delete(f"{registry.url}/v2/{EMPTY}/manifests/{PLAIN.digest}").raise_for_status()
        yield registry


@pytest.fixture(scope="module")
def stored(filled: LocalRegistry) -> Inventory:
    """What its folder says."""
    return read(Storage(filled.base_path), from_store=True)


@pytest.fixture(scope="module")
def served(filled: LocalRegistry) -> Inventory:
    """What its API says."""
    return read(Api(Registry(filled.url)), from_store=False)


def tag(inventory: Inventory, name: str) -> dict[str, Any]:
    rows = inventory.images[inventory.images["image_name"] + ":" + inventory.images["tag_name"] == name]
    (row,) = rows.to_dict("records")
    return {str(key): None if value is pd.NA or value != value else value for key, value in row.items()}


def layers(*images: Image) -> int:
    """Bytes of the distinct layers of some images, without their configs."""
    return sum(len(blob.data) for blob in {blob for image in images for blob in image.blobs[1:]})


# One contract, two sources


@pytest.mark.parametrize(
    "table",
    ["repositories", "images", "relations", "references", "manifests", "blobs"],
)
def test_both_sources_find_the_same(stored: Inventory, served: Inventory, table: str) -> None:
    """The folder and the API give the same rows and columns, where both can know."""
    known = set(served.manifests["manifest_hash"])

    def comparable(inventory: Inventory) -> pd.DataFrame:
        frame = inventory.frame(table)
        if table == "images":  # push dates, and what hangs on them, are the folder's alone
            return frame.drop(columns=["tag_timestamp", "pushed", "age_days", "newest_rank", "family_rank"])
        if table in ("manifests", "references"):  # so are orphans, and referrers that no tag reaches
            frame = frame[frame["manifest_hash"].isin(known)]
        if table == "blobs":
            frame = frame[frame["blob_hash"].isin([*served.relations["blob_hash"], *known])]
        frame = frame.drop(columns=["id", "pushed", "blob_date", "stored"], errors="ignore")
        return frame.sort_values(list(frame.columns), ignore_index=True)

    pd.testing.assert_frame_equal(comparable(stored), comparable(served))


def test_what_only_the_folder_knows(stored: Inventory, served: Inventory) -> None:
    """Push dates, blob dates and orphans come from the folder; over the API they are unknown, not wrong."""
    assert served.images["pushed"].isna().all()
    assert served.manifests["pushed"].isna().all()
    assert served.blobs[["blob_date", "stored"]].isna().all(axis=None)
    assert not served.manifests["orphan"].any()
    assert stored.images["pushed"].notna().all()
    assert stored.blobs["blob_date"].notna().all()
    assert list(stored.manifests.query("orphan")["manifest_hash"]) == [MOVED.digest]
    assert MOVED.digest not in set(served.manifests["manifest_hash"])


def test_an_executor_changes_nothing(filled: LocalRegistry, conf: Callable[..., Path], stored: Inventory) -> None:
    """A scan that is split over an executor finds the same rows."""
    # As the other inventory was made: manifests' bytes go with a collection.
    config = load_config(conf(filled, **{"gc-before": ["true"], "gc-after": ["true"]}))
    with ThreadPoolExecutor(3) as executor:
        split = scan(config, executor=executor)
    for table in ("images", "manifests", "references", "blobs", "repositories", "relations"):
        columns = [name for name in split.frame(table).columns if name != "age_days"]
        one, other = (found.frame(table)[columns].sort_values(columns, ignore_index=True) for found in (split, stored))
        pd.testing.assert_frame_equal(one, other)
    assert (split.registry, split.from_store, split.can_untag, split.engine) == (filled.url, True, True, "duckdb")


def test_what_a_scan_knows(filled: LocalRegistry, conf: Callable[..., Path]) -> None:
    """Without base_path a scan reads the API, where 2.x can't delete a tag alone; conf.json's settings go with it."""
    config = load_config(conf(filled, registry={"url": filled.url}, engine="sqlite", protect="tag_name = 'stable'"))
    inventory = scan(config)
    assert (inventory.from_store, inventory.can_untag) == (False, False)
    assert (inventory.engine, inventory.protect) == ("sqlite", "tag_name = 'stable'")
    assert abs(inventory.scanned_at - time.time()) < 60


# Columns


@pytest.mark.parametrize("table", COLUMNS)
def test_columns(stored: Inventory, served: Inventory, table: str) -> None:
    """Every table has the promised columns, in the promised order, as a frame, in SQLite and in DuckDB."""
    for inventory in (stored, served):
        expected = COLUMNS[table].split()
        assert list(inventory.frame(table).columns) == expected
        with inventory.to_duckdb() as duck:
            found = duck.execute(f'select * from "{table}"')
            assert [column[0] for column in found.description or []] == expected
            duck_rows = found.fetchall()
        with closing(inventory.to_sqlite()) as lite:
            cursor = lite.execute(f'select * from "{table}"')
            assert [column[0] for column in cursor.description] == expected
            lite_rows = cursor.fetchall()
        # SQLite's booleans are 0 and 1.
        numbers = [tuple(int(value) if isinstance(value, bool) else value for value in row) for row in duck_rows]
        assert sorted(numbers, key=repr) == sorted(lite_rows, key=repr)
        assert len(lite_rows) == len(inventory.frame(table)) > 0


def test_long_tables_come_in_parts(stored: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows are written out at a time, the long tables are the same, also in SQLite and in a snapshot."""
    fresh = replace(stored)
    monkeypatch.setattr(references, "BATCH", 3)
    for table in ("references", "relations"):
        assert len(list(fresh.batches(table))) > 3
        pd.testing.assert_frame_equal(fresh.frame(table), stored.frame(table))
        with closing(fresh.to_sqlite()) as lite:
            assert len(lite.execute(f'select * from "{table}"').fetchall()) == len(stored.frame(table))


def test_a_registry_of_any_size() -> None:
    """What `make bench` plans has shared layers, indexes, signatures, orphans and second tags, and is planned right."""
    found = Inventory.from_columns(synthetic.columns(2000), scanned_at=synthetic.NOW, from_store=True)
    assert abs(len(found.images) / 2000 - 1) < 0.05
    assert 13 < len(found.relations) / len(found.images) < 17
    assert set(found.images["kind"]) == {"image", "index", "signature"}
    assert 0 < found.manifests["orphan"].sum() < 200
    assert (found.images["shared_tags"] > 1).sum() > 50
    planned = regdata.plan(found, "age_days > 90")
    assert set(planned.manifests["reason"]) == {"selected", "child", "referrer", "orphan"}
    stays = found.manifests.merge(planned.manifests, on=["image_name", "manifest_hash"], how="left_anti")
    kept = {*stays["manifest_hash"]}
    kept |= {*found.references[found.references["manifest_hash"].isin(kept)]["reference_hash"]}
    assert planned.reclaimable == found.blobs[~found.blobs["blob_hash"].isin(kept)]["blob_size"].sum()


def test_the_tables_can_only_be_read(stored: Inventory) -> None:
    """The SQLite tables can't be written to, and DuckDB's settings can't be changed."""
    with closing(stored.to_sqlite()) as lite, pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        lite.execute("delete from images")
    with stored.to_duckdb() as duck, pytest.raises(Exception, match="locked"):
        duck.execute("set enable_external_access = true")


# What the rows say


def test_sizes_and_platforms(stored: Inventory) -> None:
    """tag_size counts a tag's distinct layers once, over all platforms of an index, nested ones too."""
    attestations = INDEX.children[2:]
    index = tag(stored, "team/app:2.0")
    assert index["tag_size"] == layers(AMD, ARM, *attestations)
    assert (index["kind"], index["media_type"], index["platforms"]) == (
        "index",
        OCI_INDEX,
        "linux/amd64,linux/arm64/v8",
    )
    nested = tag(stored, "team/app/worker/deep:1.0")
    assert (nested["tag_size"], nested["platforms"]) == (layers(AMD, ARM), "linux/amd64,linux/arm64/v8")
    docker = tag(stored, "team/list:1.0")
    assert (docker["kind"], docker["media_type"], docker["platforms"]) == ("index", DOCKER_LIST, "linux/amd64")
    assert docker["tag_size"] == layers(DOCKER_AMD)
    plain = tag(stored, "team/app:1.0")
    assert (plain["kind"], plain["media_type"], plain["tag_size"]) == ("image", DOCKER_MANIFEST, layers(PLAIN))
    assert (plain["tag_hash"], plain["image_tag"]) == (PLAIN.digest, "1.0")


def test_dates(stored: Inventory, served: Inventory) -> None:
    """1970 and the future are no dates; tag_timestamp is the push, else `created`; NULL has no age, no rank."""
    for name in ("epoch:1970", "epoch:1980", "epoch:future"):
        assert tag(stored, name)["created"] is None
        assert tag(stored, name)["tag_timestamp"] is not None
        unknown = tag(served, name)
        assert [unknown[key] for key in ("created", "tag_timestamp", "age_days", "newest_rank")] == [None] * 4
    app = tag(stored, "team/app:1.0")
    assert (app["created"], app["pushed"], app["tag_timestamp"]) == (BUILT, NOW - 30 * DAY, NOW - 30 * DAY)
    assert app["age_days"] == 30
    over_api = tag(served, "team/app:1.0")
    assert (over_api["pushed"], over_api["tag_timestamp"], over_api["age_days"]) == (None, BUILT, 500)
    assert tag(stored, "team/app:2.0")["created"] == BUILT + 60, "an index is as old as its newest platform"
    assert tag(stored, "charts/web:0.1")["created"] is None


def test_ranks(stored: Inventory) -> None:
    """newest_rank counts from the newest tag of an image; what is attached to an image uses up none of its ranks."""
    ranks = {name: tag(stored, f"team/app:{name}")["newest_rank"] for name in ("2.0", "stable", "1.0")}
    assert ranks == {"2.0": 1, "stable": 2, "1.0": 3}
    assert tag(stored, "team/app/worker:1.0")["newest_rank"] == 1
    assert [tag(stored, f"epoch:{name}")["newest_rank"] for name in ("future", "1980", "1970")] == [1, 2, 3]


def test_shared_digests(stored: Inventory) -> None:
    """shared_tags counts the tags of the same image on the same digest; another repository's don't count."""
    assert tag(stored, "team/app:1.0")["shared_tags"] == tag(stored, "team/app:stable")["shared_tags"] == 2
    assert tag(stored, "team/app/worker:1.0")["shared_tags"] == 1
    assert tag(stored, "team/app:1.0")["exclusive_size"] == 0
    config = len(CHART.blobs[0].data)
    alone = tag(stored, "charts/web:0.1")
    assert alone["exclusive_size"] == layers(CHART) + config + len(CHART.manifest)
    assert (alone["kind"], alone["platforms"]) == ("artifact", None)


def test_attached_manifests(stored: Inventory) -> None:
    """Signatures and referrers have their kind and subject; an attestation inside an index is no platform."""
    assert tag(stored, f"team/app:{signature_tag(PLAIN)}")["kind"] == "signature"
    manifests = stored.manifests.query("image_name == 'team/app'").set_index("manifest_hash")
    assert manifests.loc[SBOM.digest, "subject_hash"] == PLAIN.digest
    assert not manifests.loc[SBOM.digest, "orphan"]
    assert not manifests.loc[SBOM.digest, "tagged"]
    assert manifests.loc[PLAIN.digest, "tagged"]
    attestation = INDEX.children[2]
    assert manifests.loc[attestation.digest, "kind"] == "artifact"
    assert manifests.loc[attestation.digest, "media_type"] == OCI_MANIFEST


def test_names(stored: Inventory) -> None:
    """Nested repositories are told apart, and an empty one is known without a row in images."""
    assert EMPTY in set(stored.repositories["image_name"])
    assert set(stored.images["image_name"]) == {repository for repository, *_ in PUSHES}


def test_relations(stored: Inventory) -> None:
    """A tag's relations are the layers and configs of all its platforms, each once."""
    rows = stored.relations.query("image_name == 'team/app' and tag_name == '2.0'")
    expected = {blob.digest for child in INDEX.children for blob in child.blobs}
    assert sorted(rows["blob_hash"]) == sorted(expected)
    configs = {child.blobs[0].digest for child in INDEX.children}
    assert set(rows.query("blob_kind == 'config'")["blob_hash"]) == configs


# What can't be read


def damaged(registry: LocalRegistry, repository: str, data: bytes | None) -> Image:
    """Push an image and a sound one, then put `data` in the place of the first one's manifest; None removes it."""
    image = make_image([BASE, make_layer(repository, 100)], created=BUILT)
    push(registry.url, repository, "broken", image)
    push(registry.url, repository, "sound", PLAIN)
    file = registry.base_path / "docker/registry/v2/blobs/sha256" / image.digest[7:9] / image.digest[7:] / "data"
    file.unlink() if data is None else file.write_bytes(data)
    return image


def test_damage_is_a_row_with_an_error(registry: LocalRegistry, conf: Callable[..., Path], naps: list[float]) -> None:
    """A manifest that can't be read is a row that says why; the scan goes on, and the tag beside it is whole."""
    kinds = {"a/missing": None, "b/garbage": b"garbage", "c/other": b'{"schemaVersion": 2}', "d/empty": b""}
    for repository, data in kinds.items():
        damaged(registry, repository, data)
    with_folder = scan(load_config(conf(registry)))
    without = scan(load_config(conf(registry, registry={"url": registry.url})))
    reasons = {repository: tag(with_folder, f"{repository}:broken")["error"] for repository in kinds}
    assert reasons == {
        "a/missing": "missing from the store",
        **dict.fromkeys(list(kinds)[1:], "content does not match its digest"),
    }
    over_api = {repository: tag(without, f"{repository}:broken")["error"] for repository in kinds}
    assert over_api == {
        "a/missing": "HTTP 404",
        "b/garbage": "HTTP 500",
        "c/other": "content does not match its digest",
        "d/empty": "HTTP 500",
    }
    for inventory in (with_folder, without):
        for repository in kinds:
            sound = tag(inventory, f"{repository}:sound")
            assert (sound["tag_hash"], sound["error"]) == (PLAIN.digest, None)
            assert tag(inventory, f"{repository}:broken")["exclusive_size"] == 0
            assert tag(inventory, f"{repository}:broken")["kind"] is None


@pytest.mark.parametrize("text", ["", "{}\n"])
def test_a_broken_link(registry: LocalRegistry, conf: Callable[..., Path], naps: list[float], text: str) -> None:
    """A tag whose link is empty, or ends in a line end, has no digest, and says so; the registry answers HTTP 500."""
    push(registry.url, "a", "1", PLAIN)
    push(registry.url, "a", "2", PLAIN)
    link = registry.base_path / "docker/registry/v2/repositories/a/_manifests/tags/1/current/link"
    link.write_text(text.format(PLAIN.digest))
    assert requests.get(f"{registry.url}/v2/a/manifests/1", timeout=10).status_code == 500
    inventory = scan(load_config(conf(registry)))
    broken = tag(inventory, "a:1")
    assert [broken[key] for key in ("tag_hash", "error", "shared_tags")] == [None, "broken tag link", None]
    assert tag(inventory, "a:2")["shared_tags"] == 1


def test_state_of_a_damaged_repository(registry: LocalRegistry, naps: list[float]) -> None:
    """A tag for which the registry answers 404 or 500 has no digest now; the others are known all the same."""
    for repository, data in (("a", None), ("b", b"garbage")):
        damaged(registry, repository, data)
        assert Api(Registry(registry.url)).state(repository) == ({"broken": None, "sound": PLAIN.digest}, None)
    registry.stop()
    with pytest.raises(RegistryError, match="Connection refused"):
        Api(Registry(registry.url)).state("a")


# Which folder is whose


def test_a_registry_without_a_blob(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """What the catalog leaves out is no sign of another registry: a repository that holds an empty index alone."""
    push_empty_index(registry.url, "app", "keep")
    found = scan(load_config(conf(registry)))
    assert list(found.images["tag_name"]) == ["keep"]


def test_another_registrys_folder(registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path) -> None:
    """A base_path that is visibly another registry's is refused, whichever holds more."""
    push(registry.url, "shop/web", "1", PLAIN)
    with LocalRegistry(tmp_path / "other") as other:
        config = conf(registry, registry={"url": registry.url, "base_path": str(other.base_path)})
        (other.base_path / "docker/registry/v2").mkdir(parents=True)
        with pytest.raises(StorageError, match=r"is not the folder of .*: the registry serves shop/web"):
            scan(load_config(config))
        push(other.url, "shop/web", "1", MOVED)
        with pytest.raises(StorageError, match=rf"shop/web:1 is {PLAIN.digest} there and {MOVED.digest} in the folder"):
            scan(load_config(config))
        shutil.rmtree(registry.base_path / "docker/registry/v2/repositories")
        with pytest.raises(StorageError, match=r"the folder holds shop/web, the other does not know it"):
            scan(load_config(config))


def test_odd_tags_say_nothing(registry: LocalRegistry, conf: Callable[..., Path], naps: list[float]) -> None:
    """Tags that the registry answers with 500, wherever they stand, don't make its own folder another one's."""
    push(registry.url, "a/first", "z", make_image([make_layer("x", 10)]))
    push(registry.url, "b/second", "z", make_image([make_layer("y", 10)]))
    data = b'{"schemaVersion": 2, "mediaType": "application/vnd.odd"}'
    digest = hashlib.sha256(data).hexdigest()
    root = registry.base_path / "docker/registry/v2"
    files = {f"blobs/sha256/{digest[:2]}/{digest}/data": data.decode()}
    for number in range(12):
        link = "repositories/a/first/_manifests/{}/link"
        files[link.format(f"revisions/sha256/{digest}")] = f"sha256:{digest}"
        files[link.format(f"tags/{number:02}/current")] = f"sha256:{digest}"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    with pytest.raises(RegistryError, match="HTTP 500"):
        Registry(registry.url).digest("a/first", "00")
    Site.open(load_config(conf(registry))).check_same()
