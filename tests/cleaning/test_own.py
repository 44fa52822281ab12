"""Clean-ups with a conf.json without gc-command: regdata collects by itself, and the registry runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.collecting.aftermath import remove_empty
from regdata.collecting.own import check_somebody_collects, losing_links
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Blob, make_image, make_index, make_layer, make_manifest, push
from regdata.errors import CleanupError, RegdataError, StorageError
from regdata.records.record import Record
from regdata.sources.aside import NAME
from regdata.sources.files import LocalFiles
from regdata.sources.paths import layer_path
from regdata.sources.site import Site
from tests.collecting.test_sweep import has, pulls
from tests.support.helpers import age, store_bytes
from tests.support.odd import push_blob
from tests.support.proxy import Fault
from tests.support.scene import BASE, INDEX, LIBRARY, OLD, NewScene, Scene, broken, repositories
from tests.support.small import digest, few

Conf = Callable[..., Path]


def test_collects_by_itself(scene: Scene) -> None:
    """What is predicted for what goes is freed, be it pushed just now; what was collected pushes and pulls again, with
    nothing restarted."""
    young = make_image([BASE, make_layer("just now", 800)])
    push(scene.registry.url, "prod/app", "old", young)
    time.sleep(1.1)  # what was linked in the second in which the reading begins may be a push
    for blob in OLD.blobs:  # the cache knows them
        assert has(scene.registry.url, "prod/old", blob)
    before = scene.store()
    size = store_bytes(scene.base_path)
    assert scene.clean() == ""
    gone = scene.store().lacks(before)
    assert gone.repositories == {"prod/old"}
    assert young.blobs[-1].digest in gone.blobs
    assert broken(scene.base_path) == []
    (folder,) = scene.records()
    record = json.loads((folder / "record.json").read_bytes())
    assert record["collected_by"] == "regdata itself"
    assert record["bytes_freed"] == record["bytes_expected"] == size - store_bytes(scene.base_path) > 0
    assert not (scene.base_path / NAME).exists()
    assert not list(scene.base_path.glob("**/_uploads/*"))  # of what was tried
    for name in ("prod/old", "prod/new"):
        push(scene.registry.url, name, "again", OLD)
        push(scene.registry.url, name, "index", INDEX)
    assert broken(scene.base_path) == []
    for name in ("prod/old", "prod/new"):
        assert pulls(scene.registry.url, name, "again", OLD)


def test_deleted_by_others_since_the_scan(scene: Scene) -> None:
    """What is predicted is freed also where others delete the image first, be it of today."""
    url, young = scene.registry.url, make_image([BASE, make_layer("just now", 800)])
    push(url, "prod/app", "old", young)
    time.sleep(1.1)
    gone = partial(requests.delete, f"{url}/v2/prod/app/manifests/{young.digest}", timeout=9)
    assert scene.clean(before_apply=gone) == ""
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert record["bytes_freed"] == record["bytes_predicted"] > 0
    assert not has(url, "prod/app", young.blobs[-1])


def test_nobody_can_collect(new_scene: NewScene) -> None:
    """Where the registry's folder is not known nobody collects, be it stopped and started: nothing is deleted."""
    scene = new_scene(store=False)
    scene.set(gc_command=None)
    before = scene.store()
    assert "has no gc-command, and regdata can't collect by itself" in scene.clean()
    assert scene.store() == before


def test_gc_command_needs_no_restart(scene: Scene) -> None:
    """With gc-command and nothing around it: what is predicted is freed, and what was collected pushes and pulls again,
    layers and the very same manifests, from a registry that was never restarted."""
    scene.set(gc_command=scene.registry.gc_command)
    url = scene.registry.url
    for blob in OLD.blobs:  # the cache knows them, and the manifests
        assert has(url, "prod/old", blob)
    for name, image in (("prod/old", OLD), ("prod/app", INDEX), *(("prod/app", child) for child in INDEX.children)):
        headers = {"Accept": image.media_type}
        requests.get(f"{url}/v2/{name}/manifests/{image.digest}", headers=headers, timeout=9).raise_for_status()
    size = store_bytes(scene.base_path)
    assert scene.clean() == ""
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert record["bytes_predicted"] == record["bytes_freed"] == size - store_bytes(scene.base_path) > 0
    assert not (scene.base_path / NAME).exists()
    assert regdata.plan(regdata.scan(load_config(scene.conf)), "2=1").reclaimable == 0
    for name in ("prod/old", "prod/app", "prod/new"):
        push(url, name, "again", OLD)
        push(url, name, "index", INDEX)
        assert pulls(url, name, "again", OLD)
        for child in INDEX.children:
            headers = {"Accept": child.media_type}
            assert requests.get(f"{url}/v2/{name}/manifests/{child.digest}", headers=headers, timeout=9).ok
    assert broken(scene.base_path) == []


@pytest.mark.parametrize("own", [True, False], ids=["own", "gc-command"])
@pytest.mark.parametrize("unread", [True, False], ids=["", "since"])
def test_a_manifest_that_an_artifact_had_as_a_file(scene: Scene, own: bool, unread: bool) -> None:
    """A package of an OCI layout's files lists manifests as what they are not. When it was collected the image itself
    pushes and pulls: the registry knows these bytes, and would not store them again. What is predicted is freed."""
    if not own:
        scene.set(gc_command=scene.registry.gc_command)
    url, inner = scene.registry.url, make_image([make_layer("inner", 3000)])
    files = [(blob, "application/vnd.zarf.layer.v1.blob") for blob in (Blob(inner.manifest), *inner.blobs)]
    push(url, "prod/package", "old", make_manifest(Blob(b'{"kind": "package"}'), "application/vnd.zarf.config", files))
    age(scene.base_path, 3 * 86400)
    config = load_config(scene.conf)
    scanned = regdata.scan(config)
    planned = regdata.plan(regdata.scan(config, since=scanned) if unread else scanned, "image_name = 'prod/package'")
    size = store_bytes(scene.base_path)
    result = regdata.apply(planned, config)
    assert result.errors == []
    assert result.bytes_predicted == result.bytes_freed == size - store_bytes(scene.base_path) > 3000
    push(url, "prod/new", "inner", inner)
    assert pulls(url, "prod/new", "inner", inner)


@pytest.mark.parametrize("own", [True, False], ids=["own", "gc-command"])
def test_a_repository_that_went_and_comes_again(scene: Scene, own: bool) -> None:
    """When an empty repository was removed nothing is claimed of it: what is pushed into it again has all its links."""
    if not own:
        scene.set(gc_command=scene.registry.gc_command)
    url = scene.registry.url
    for blob in LIBRARY.blobs:  # shared with what stays
        assert has(url, "base/lib", blob)
    push(url, "prod/old", "old", LIBRARY)  # the same, in the repository that goes
    age(scene.base_path, 3 * 86400)
    assert all(has(url, "prod/old", blob) for blob in LIBRARY.blobs)
    assert scene.clean() == ""
    assert "prod/old" not in scene.store().repositories
    push(url, "prod/old", "again", LIBRARY)
    scene.registry.restart()
    assert pulls(url, "prod/old", "again", LIBRARY)


def test_a_repository_that_goes_beside_a_push(scene: Scene) -> None:
    """Nothing is claimed of a repository that was removed either where one of its layers stays, linked just now
    elsewhere: it is pushed again whole."""
    url, layers = scene.registry.url, [blob for blob in OLD.blobs if blob != BASE]
    assert all(has(url, "prod/old", blob) for blob in OLD.blobs)
    for blob in layers:
        query = {"mount": blob.digest, "from": "prod/old"}
        assert requests.post(f"{url}/v2/prod/coming/blobs/uploads/", params=query, timeout=9).status_code == 201
    assert scene.clean() == ""
    assert "prod/old" not in scene.store().repositories
    assert not any(has(url, "prod/old", blob) for blob in OLD.blobs)
    assert all(has(url, "prod/coming", blob) for blob in layers)
    push(url, "prod/old", "again", OLD)
    assert pulls(url, "prod/old", "again", OLD)
    assert broken(scene.base_path) == []


@pytest.mark.parametrize("forgets", [True, False])
def test_a_push_into_a_repository_that_goes(scene: Scene, forgets: bool) -> None:
    """What is accepted while an emptied repository is being removed stays whole, and where the registry's cache does
    not forget what was linked there, the repository stays, with its links."""
    url, layer = scene.registry.url, next(blob for blob in OLD.blobs if blob != BASE)
    assert has(url, "prod/old", layer)
    query = {"mount": layer.digest, "from": "prod/old"}  # young: it stays, and so does its link in prod/old
    assert requests.post(f"{url}/v2/prod/coming/blobs/uploads/", params=query, timeout=9).status_code == 201
    pushing = Fault(carried_out=True, before=lambda: push(url, "prod/old", "again", OLD))
    fault, times = (pushing, 1) if forgets else (Fault(500), 9)
    scene.proxy.on("DELETE", f"/prod/old/blobs/{layer.digest}", fault, times=times)
    assert scene.clean() == ""
    assert pulls(url, "prod/old", "again", OLD) == forgets
    assert has(url, "prod/old", layer)
    link = repositories(scene.base_path) / "prod/old/_layers" / layer.digest.replace(":", "/") / "link"
    assert link.read_text() == layer.digest
    assert broken(scene.base_path) == []


def test_repositories_of_which_one_can_not_be_removed(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """Where one of several can't be removed, the others have their links again: the registry's cache has them still."""
    registry = registry_with_cache
    for name in ("a", "b", "kept"):
        push(registry.url, name, "1", OLD)
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry))
    assert regdata.apply(regdata.plan(regdata.scan(config), "image_name <> 'kept'"), config, gc=False).errors == []
    uploads = repositories(registry.base_path) / "b/_uploads"
    uploads.rmdir()
    uploads.symlink_to(repositories(registry.base_path) / "kept")
    site = Site.open(config)
    record = Record.open(config, sql_id="x", action="del")
    with pytest.raises(StorageError, match="_uploads is not a folder of the store itself"):
        remove_empty(site, record, before=site.now)
    push(registry.url, "a", "again", OLD)
    registry.restart()
    assert pulls(registry.url, "a", "again", OLD)


def test_what_grows_old_in_a_run(scene: Scene) -> None:
    """A blob that was too young to go when the run was planned stays, though it is old by the collection: what
    was predicted is freed."""
    stray = push_blob(scene.registry.url, "prod/app", b"of no manifest")
    hex_ = stray.removeprefix("sha256:")
    root = scene.base_path / "docker/registry/v2"
    files = (root / f"blobs/sha256/{hex_[:2]}/{hex_}/data", root / f"repositories/prod/app/_layers/sha256/{hex_}/link")

    def grow_old() -> None:
        for file in files:
            os.utime(file, (time.time() - 9000,) * 2)

    assert scene.clean(before_apply=grow_old) == ""
    assert stray in scene.store().blobs
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert record["bytes_predicted"] == record["bytes_freed"] > 0
    assert scene.clean() == ""
    assert stray not in scene.store().blobs


def test_poisoned_before(scene: Scene) -> None:
    """Where the registry's own collector ran beside the running registry, so that its next pushes would be broken, a
    run heals that first: other images of the same layers that are pushed afterwards pull."""
    url, layers = scene.registry.url, [BASE, make_layer("poisoned", 3000)]
    names = ("prod/old", "base/lib")
    first, again = (make_image(layers, created=created) for created in (1, 2))
    for name in names:
        push(url, name, "poisoned", first)
        requests.delete(f"{url}/v2/{name}/manifests/{first.digest}", timeout=9).raise_for_status()
    subprocess.run(scene.registry.gc_command, check=True, capture_output=True)
    assert all(has(url, name, layers[1]) for name in names)  # its cache claims what is gone
    time.sleep(1.1)  # what was linked in the second in which the reading begins may be a push
    assert scene.clean() == ""
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert record["claims_healed"] > 0
    for name in (*names, "prod/app"):
        push(url, name, "again", again)
        assert pulls(url, name, "again", again)
    assert broken(scene.base_path) == []


def test_a_push_in_flight(scene: Scene) -> None:
    """Layers without a manifest, pushed a minute ago, stay: their push goes on and is whole."""
    url = scene.registry.url
    image = OLD
    for blob in image.blobs:
        begun = requests.post(f"{url}/v2/new/app/blobs/uploads/", timeout=9)
        where = begun.headers["Location"]
        requests.put(where, params={"digest": blob.digest}, data=blob.data, timeout=9).raise_for_status()
    time.sleep(1.1)
    assert scene.clean() == ""
    headers = {"Content-Type": image.media_type}
    put = requests.put(f"{url}/v2/new/app/manifests/1", data=image.manifest, headers=headers, timeout=9)
    assert put.status_code == 201
    assert broken(scene.base_path) == []
    assert all(has(url, "new/app", blob) for blob in image.blobs)


def test_a_store_without_repositories(new_scene: NewScene) -> None:
    """Whether the registry was restarted is tried out in a repository of our own where there is none; it is removed."""
    scene = new_scene(cache=True)
    scene.set(gc_command=None)
    for part in ("prod", "base"):
        shutil.rmtree(repositories(scene.base_path) / part)
    assert scene.clean() == ""
    assert not list(repositories(scene.base_path).iterdir())
    assert not requests.get(f"{scene.registry.url}/v2/_catalog", timeout=9).json()["repositories"]
    shutil.rmtree(scene.base_path / "docker")  # as before the first push
    assert scene.clean() == ""
    assert not [path for path in scene.base_path.rglob("*") if path.is_file()]


def test_an_index_that_lands_late(scene: Scene) -> None:
    """An index that was verified before its child was deleted, and is linked after, gets the child back, whole."""
    child = INDEX.children[0]
    index = make_index([child])

    def land(body: bytes) -> bytes:
        root = scene.base_path / "docker/registry/v2"
        hex_ = index.digest[7:]
        manifests = root / "repositories/prod/app/_manifests"
        for path, data in (
            (root / f"blobs/sha256/{hex_[:2]}/{hex_}/data", index.manifest),
            (manifests / f"revisions/sha256/{hex_}/link", index.digest.encode()),
            (manifests / "tags/late/current/link", index.digest.encode()),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return body

    scene.proxy.on("DELETE", child.digest, Fault(carried_out=True, body=land))
    assert scene.clean() == ""
    assert broken(scene.base_path) == []
    store = scene.store()
    assert ("prod/app", child.digest) in store.revisions
    assert ("prod/app", "late", index.digest) in store.tags
    assert INDEX.digest not in {digest for _, digest in store.revisions}


def test_nothing_can_collect(registry: LocalRegistry, conf: Conf) -> None:
    """Without gc-command and without a folder nothing is deleted; the sentence says what to give."""
    push(registry.url, "app", "1", OLD)
    age(registry.base_path, 9 * 86400)
    path = conf(registry, **{"gc-command": None, "registry": {"url": registry.url}})
    config = load_config(path)
    plan = regdata.plan(regdata.scan(config), "1=1")
    with pytest.raises(CleanupError, match=r"no gc-command.*registry\.base_path.*nothing was deleted"):
        regdata.apply(plan, config)
    assert pulls(registry.url, "app", "1", OLD)


def test_leftovers_of_a_repository_that_is_gone(scene: Scene) -> None:
    """What stays of manifests when their repository goes is not predicted by later runs, which free other things."""
    assert scene.clean() == ""
    assert "prod/old" not in scene.store().repositories
    plan = regdata.plan(regdata.scan(load_config(scene.conf)), "2=1")
    assert plan.reclaimable == 0
    push(scene.registry.url, "base/lib", "old", OLD)
    push(scene.registry.url, "gone/soon", "old", make_index([OLD]))
    age(scene.base_path, 3 * 86400)
    size = store_bytes(scene.base_path)
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.planned
    assert scene.run.planned.reclaimable == size - store_bytes(scene.base_path) > 0
    again = regdata.scan(load_config(scene.conf))
    assert regdata.plan(regdata.scan(load_config(scene.conf), since=again), "2=1").reclaimable == 0


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("gc-before", "gc-before: 'no-such-program' of .* is not a program"),
        ("gc-after", "gc-after: 'no-such-program' of .* is not a program"),
        ("mount", "lie in other file systems or mounts than .*collect by the registry's own gc-command"),
        ("rights", r"by itself without being allowed to change registry\.base_path, so nothing was deleted"),
        ("folder", r"by itself without registry\.base_path, so nothing was deleted"),
    ],
)
def test_who_can_not_collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, told: str) -> None:
    """Without a gc-command it is said before anything goes why regdata can't collect, or not safely, by conf.json and
    the registry's folder alone."""
    (tmp_path / "store/docker/registry/v2/blobs").mkdir(parents=True)
    registry = {"url": "http://127.0.0.1:1"} | ({"base_path": str(tmp_path / "store")} if why != "folder" else {})
    settings: dict[str, Any] = {"registry": registry, "sql": {}}
    settings |= {why: ["no-such-program"]} if why.startswith("gc-") else {}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    config = load_config(tmp_path)
    if why == "mount":
        mounted = str(tmp_path / "store/docker/registry/v2/blobs")
        monkeypatch.setattr("regdata.sources.mounts.mounts", lambda: {mounted})
    if why == "rights":
        monkeypatch.setattr(LocalFiles, "writable", lambda files, folder: False)
    with pytest.raises(RegdataError, match=told):
        check_somebody_collects(config, Site.open(config))


@pytest.mark.parametrize(
    ("heals", "within", "loses"),
    [
        (True, ["*"], {"goes", "missing", "unknown"}),
        (True, ["goes", "k*"], {"goes"}),
        (True, ["missing", "k*"], {"goes", "missing"}),
        (False, ["*"], {"goes"}),
    ],
)
def test_where_links_go(tmp_path: Path, heals: bool, within: list[str], loses: set[str]) -> None:
    """Links to what goes are taken away wherever they are; those to what is gone, be it named by a manifest or unknown,
    where registry.repositories means them, and by regdata's own collection alone."""
    made = few()
    made.row("references", manifest_hash=digest("a/app1.0"), reference_hash=digest("missing"), reference_kind="layer")
    for image, blob in {"goes": "x", "keeps": "y", "missing": "missing", "unknown": "unknown"}.items():
        link = tmp_path / "store/docker/registry/v2" / layer_path(image, digest(blob))
        link.parent.mkdir(parents=True)
        link.write_text(digest(blob))
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path / "store"), "repositories": within}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
    site = Site.open(load_config(tmp_path))
    assert losing_links(made.inventory(), site, {digest("x")}, heals=heals) == loses
