"""What every source and site answers alike for the same registry: another kind of store takes a line in SITES.

A source may know less than another (the API shows neither orphans nor dates): then it says so, and never otherwise.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    Image,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    signature_tag,
)
from regdata.errors import CleanupError, StorageError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan_site
from regdata.sources.api import Api
from regdata.sources.cache import Cache
from regdata.sources.columns import Columns, merge
from regdata.sources.registry import Registry
from regdata.sources.site import ApiSite, Site, StoreSite
from regdata.sources.storage import Storage
from tests.support.memory import MemoryFiles

SITES: dict[str, Callable[[LocalRegistry, Path], Site]] = {
    "api": lambda registry, folder: ApiSite(Api(Registry(registry.url)), folder),
    "api, cached": lambda registry, folder: ApiSite(Api(Registry(registry.url), Cache(folder)), folder),
    "folder": lambda registry, _: StoreSite(Registry(registry.url), Storage(registry.base_path)),
    "folder in memory": lambda registry, _: StoreSite(
        Registry(registry.url), Storage(registry.base_path, MemoryFiles.of(registry.base_path))
    ),
}

BASE = make_layer("base", 400)
AMD = make_image([BASE, make_layer("amd", 100)], created=1_700_000_000, oci=True)
ARM = make_image([BASE, make_layer("arm", 100)], created=1_700_000_000, platform="linux/arm64/v8", oci=True)
INDEX = make_index([AMD, ARM], attest=True)
DOCKER = make_image([BASE, make_layer("docker", 100)], created=1_600_000_000)
REFERRER = make_referrer(DOCKER)
ORPHAN = make_image([make_layer("orphan", 100)], created=1_500_000_000)
TAGS: dict[str, dict[str, Image]] = {
    "app": {
        "1.0": DOCKER,
        "2.0": INDEX,
        "latest": INDEX,
        "amd": AMD,
        "sbom": REFERRER,
        signature_tag(DOCKER): make_signature(DOCKER),
    },
    "app/nested": {"1.0": DOCKER},
    "team/other": {"nested": make_index([make_index([ARM])])},
    "team/empty": {},
}
UNKNOWN = "sha256:" + "0" * 64


def fill(registry: LocalRegistry) -> None:
    """The tags, an orphan in app, and a repository that was emptied."""
    for repository, tags in TAGS.items():
        for tag, image in tags.items():
            push(registry.url, repository, tag, image)
    push(registry.url, "app", None, ORPHAN)
    push(registry.url, "team/empty", "gone", DOCKER)
    delete(registry, "team/empty", DOCKER)


def delete(registry: LocalRegistry, repository: str, image: Image) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.delete(f"{registry.url}/v2/{repository}/manifests/{image.digest}", timeout=5).raise_for_status()


@pytest.fixture(scope="module")
def filled(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A registry that is only read."""
    with LocalRegistry(tmp_path_factory.mktemp("every-source")) as registry:
        fill(registry)
        yield registry


@pytest.fixture(params=SITES)
def site(filled: LocalRegistry, tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    """Each kind of site of it."""
    return SITES[request.param](filled, tmp_path)


Changed = Callable[[], Site]


@pytest.fixture(params=SITES)
def changed(registry: LocalRegistry, tmp_path: Path, request: pytest.FixtureRequest) -> Changed:
    """Opens a site of a registry that may be changed before."""
    fill(registry)
    return lambda: SITES[request.param](registry, tmp_path)


def read(site: Site, parts: int = 1, **options: Any) -> Columns:
    source = site.source
    return merge(source.read(part) for part in source.split(parts, **options))


def rows(columns: Columns, table: str, *names: str) -> set[tuple[Any, ...]]:
    return set(zip(*(columns[table][name] for name in names), strict=True))


def reached(image: Image) -> Iterator[Image]:
    yield image
    for child in image.children:
        yield from reached(child)


REVISIONS = {
    (repository, image.digest): image
    for repository, tags in TAGS.items()
    for top in tags.values()
    for image in reached(top)
}


# Sources


def test_repositories(site: Site) -> None:
    """Every repository is there, sorted, also one below another, and one that has no tags."""
    assert site.source.repositories() == sorted(TAGS)


def test_tags(site: Site) -> None:
    """Every tag has the digest that it was pushed with, and no error."""
    pushed = {(name, tag, image.digest, None) for name, tags in TAGS.items() for tag, image in tags.items()}
    assert rows(read(site), "tags", "image_name", "tag_name", "tag_hash", "error") == pushed


def test_revisions(site: Site) -> None:
    """All that tags lead to is there, and an orphan where the source shows everything or is told of it."""
    found = rows(read(site), "revisions", "image_name", "manifest_hash")
    orphan = ("app", ORPHAN.digest)
    assert found - {orphan} == REVISIONS.keys()
    assert (orphan in found) == site.from_store
    assert orphan in rows(read(site, known=[orphan, ("app", UNKNOWN)]), "revisions", "image_name", "manifest_hash")


def test_contents(site: Site) -> None:
    """Every manifest has its type, size, date and platform, and what it refers to, by its own bytes."""
    columns = read(site)
    contents = rows(columns, "contents", "manifest_hash", "media_type", "manifest_size", "error")
    images = {*REVISIONS.values(), *([ORPHAN] if site.from_store else [])}
    assert contents == {(image.digest, image.media_type, len(image.manifest), None) for image in images}
    known = {row[0]: row[1:] for row in rows(columns, "contents", "manifest_hash", "kind", "created", "platform")}
    assert known[AMD.digest] == ("image", 1_700_000_000, "linux/amd64")
    assert known[ARM.digest] == ("image", 1_700_000_000, "linux/arm64/v8")
    assert known[INDEX.digest] == ("index", None, None)
    references = set(columns.references())
    for image in images:
        for blob in image.blobs:
            assert any(digest == image.digest and reference.hash == blob.digest for digest, reference in references)
        for child in image.children:
            assert any(digest == image.digest and reference.hash == child.digest for digest, reference in references)


def test_any_split_reads_the_same(site: Site) -> None:
    """Parts are picklable, hold each repository once, and add up to the same; of a few tags there is one part."""
    whole = read(site)
    source = pickle.loads(pickle.dumps(site.source))
    for parts in (2, 3, 50):
        split = pickle.loads(pickle.dumps(source.split(parts)))
        assert 1 < len(split) <= parts
        assert sorted(name for part in split for name in part.repositories) == sorted(TAGS)
        columns = merge(source.read(part) for part in split)
        for table in ("repositories", "tags", "revisions", "contents", "blobs"):
            assert rows(columns, table, *columns[table]) == rows(whole, table, *columns[table])
        assert set(columns.references()) == set(whole.references())
    assert len(source.split(50, least=1000)) == 1


def test_state(site: Site) -> None:
    """The state has every tag's digest, and all revisions or none; nothing of a repository that is not there."""
    for repository, tags in TAGS.items():
        now, revisions = site.source.state(repository)
        assert now == {tag: image.digest for tag, image in tags.items()}
        held = {digest for name, digest in REVISIONS if name == repository}
        assert revisions is None or revisions - {ORPHAN.digest} == held
    now, revisions = site.source.state("nobody")
    assert (now, bool(revisions)) == ({}, False)


def test_manifests(site: Site) -> None:
    """The bytes of manifests come as they were pushed; one that is nowhere is left out."""
    wanted = [*REVISIONS, ("app", UNKNOWN), ("nobody", UNKNOWN)]
    assert site.source.manifests(wanted) == {pair: image.manifest for pair, image in REVISIONS.items()}
    assert site.source.manifests([]) == {}


def test_a_tag_without_its_manifest(registry: LocalRegistry, changed: Changed) -> None:
    """A tag that can't be pulled has an error, and no other tag has."""
    link = registry.base_path / f"docker/registry/v2/repositories/app/_manifests/revisions/sha256/{DOCKER.digest[7:]}"
    (link / "link").unlink()
    found = rows(read(changed()), "tags", "image_name", "tag_name", "error")
    assert {(name, tag) for name, tag, error in found if error} == {("app", "1.0")}


# Sites


def test_the_same_inventory(site: Site, filled: LocalRegistry, conf: Callable[..., Path]) -> None:
    """A scan finds the same tags, of the same size and kind, whatever it reads; what it can't know is unknown."""
    config = load_config(conf(filled))
    found = scan_site(site, config)
    known = ["image_name", "tag_name", "tag_hash", "tag_size", "created", "kind", "platforms", "shared_tags", "error"]
    other = scan_site(SITES["folder"](filled, filled.base_path), config)
    assert rows_of(found, known) == rows_of(other, known)
    assert found.images["pushed"].notna().all() == site.from_store
    assert list(found.repositories["image_name"]) == sorted(TAGS)
    assert (found.from_store, found.registry) == (site.from_store, filled.url)


def rows_of(inventory: Inventory, names: list[str]) -> list[str]:
    return sorted(map(repr, inventory.images[names].itertuples(index=False)))


def test_it_is_the_registrys(site: Site) -> None:
    """What shows the registry's own contents is taken to be its own."""
    site.check_same()


def test_work(site: Site) -> None:
    """A scan's work is all repositories, and tells whether a tag can go alone."""
    parts, can_untag = site.work(2)
    assert sorted(name for part in parts for name in part.repositories) == sorted(TAGS)
    assert can_untag or not site.from_store
    assert len(site.work(2, least=1000).parts) == 1


def test_one_run_at_a_time(site: Site) -> None:
    """A second run is kept off until the first has ended."""
    with site.lock(), pytest.raises(StorageError, match="Another regdata run is working on"), site.lock():
        pass
    with site.lock():
        pass


def test_nothing_is_lost(site: Site) -> None:
    """What is there is not lost, and was not deleted; what never was is both, by its name."""
    tags = {(name, tag): image.digest for name, tags in TAGS.items() for tag, image in tags.items()}
    blobs = [("app", blob.digest) for blob in (*AMD.blobs, *DOCKER.blobs)]
    assert site.lost(tags, REVISIONS, blobs) == []
    assert site.lost([("app", "3.0")], [("app", UNKNOWN)], []) == ["app:3.0", f"app@{UNKNOWN}"]
    assert site.vanished(tags, REVISIONS) == (set(), set())
    assert site.vanished({("app", "3.0"): None}, [("app", UNKNOWN)]) == ({("app", "3.0")}, {("app", UNKNOWN)})


def test_what_others_delete(registry: LocalRegistry, changed: Changed) -> None:
    """Tags and manifests that were deleted since are seen to have vanished, and are lost."""
    delete(registry, "app", INDEX)
    site = changed()
    tags = {("app", tag): TAGS["app"][tag].digest for tag in ("1.0", "2.0", "latest")}
    manifests = [("app", INDEX.digest), ("app", AMD.digest)]
    assert site.vanished(tags, manifests) == ({("app", "2.0"), ("app", "latest")}, {("app", INDEX.digest)})
    assert site.lost([("app", "2.0"), ("app", "amd")], [("app", AMD.digest)], []) == ["app:2.0"]
    push(registry.url, "app", "latest", AMD)  # it is there, and says nothing of what it was on
    assert changed().vanished(tags, manifests) == ({("app", "2.0")}, {("app", INDEX.digest)})


def test_blobs(site: Site) -> None:
    """A blob that is there is present, another is not; and nothing was freed while nobody collected."""
    freed = site.measuring()
    is_there = site.presence()
    assert all(is_there("app", blob.digest) for blob in (*AMD.blobs, *DOCKER.blobs))
    assert not is_there("app", UNKNOWN)
    assert not freed()


def test_uploads(registry: LocalRegistry, changed: Changed) -> None:
    """A push in flight is told, where that can be seen, and its repository is not empty."""
    with requests.Session() as session:
        session.trust_env = False
        session.post(f"{registry.url}/v2/team/empty/blobs/uploads/", timeout=5).raise_for_status()
    site = changed()
    assert [upload.repository for upload in site.uploads()] == ["team/empty"] * site.from_store
    assert all(abs(upload.started - time.time()) < 60 for upload in site.uploads())
    assert not list(site.empty_repositories(before=int(time.time()) + 60))


def test_untag(changed: Changed) -> None:
    """Either the tag is gone and nothing else, or the site says that it can't, and it is there."""
    site = changed()
    before, _ = site.source.state("app")
    assert site.untag("app", "latest", UNKNOWN) is False
    assert site.source.state("app")[0] == before
    gone = bool(site.untag("app", "latest", str(before["latest"])))
    after, _ = site.source.state("app")
    assert after == {tag: digest for tag, digest in before.items() if not (gone and tag == "latest")}
    assert gone == site.work(1).can_untag
    assert ("app", INDEX.digest) in site.source.manifests([("app", INDEX.digest)])


def test_empty_repositories(changed: Changed) -> None:
    """A repository without manifests can be removed where that can be done, if its layers are old enough."""
    site = changed()
    assert list(site.empty_repositories(before=int(time.time()) - 3600)) == []
    found = list(site.empty_repositories(before=int(time.time()) + 60))
    assert found == ["team/empty"] * site.from_store
    for name in found:
        assert site.store.close_repository(name, before=int(time.time()) + 60)
        assert site.store.remove_repository(name, before=int(time.time()) + 60)
    assert set(site.source.repositories()) == TAGS.keys() - set(found)


def test_the_disk(site: Site) -> None:
    """What is free is known of what the registry is stored on, or unknown."""
    disk = site.disk()
    assert (disk is not None) == site.from_store
    assert disk is None or disk.total >= disk.free > 0


def test_what_takes_a_store(site: Site, filled: LocalRegistry) -> None:
    """The store is there, and whole, or is asked for by an error that says how to give it."""
    if not site.from_store:
        with pytest.raises(CleanupError, match=r"give its folder as registry\.base_path"):
            _ = site.store
        return
    sizes = site.store.blob_sizes()
    files = list(filled.base_path.glob("docker/registry/v2/blobs/sha256/*/*/data"))
    assert sizes == {f"sha256:{path.parent.name}": os.stat(path).st_size for path in files}
    assert site.store.content(BASE.digest) == BASE.data
    assert site.store.content(UNKNOWN) is None
    assert not site.store.rests("app", 1_400_000_000)
    assert site.store.rests("app", int(time.time()) + 60)
    assert site.store.rests("nobody", 0)
