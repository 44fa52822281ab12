"""What a run deleted, put back, where its parts are named in other ways, or other runs took some of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata import load_config
from regdata.cleaning import undo
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Image, make_image, make_index, make_layer, push
from regdata.errors import RegistryError
from regdata.records.reading import read_facts
from regdata.records.record import Record
from regdata.sources.aside import NAME
from regdata.sources.mediatypes import OCI_INDEX, OCI_MANIFEST
from tests.support.fakes import FakeRegistry, serve
from tests.support.helpers import age
from tests.support.odd import (
    OCI_LAYER,
    config_bytes,
    descriptor,
    digest_of,
    image_bytes,
    push_blob,
    push_image_by,
    push_index_of_blobs,
    push_manifest,
)
from tests.support.proxy import FaultProxy, faults_before
from tests.support.scene import INDEX, NewScene, broken
from tests.support.server import Reply, Request


@pytest.mark.parametrize("given", [True, False], ids=["folder", "api"])
def test_what_is_named_in_other_ways(given: bool, registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """An image comes back whose layers are named by sha512, and one that mentions a digest which is nowhere here."""
    url = registry.url
    base = {"org.opencontainers.image.base.digest": f"sha256:{'0' * 64}"}
    push_image_by(url, "app", "named", "named", "sha512")
    for data in (config_bytes("app"), b"layer"):
        push_blob(url, "app", data)
    push_manifest(url, "app", "mentions", image_bytes(config_bytes("app"), b"layer", annotations=base), OCI_MANIFEST)
    site = {"url": url} | ({"base_path": str(registry.base_path)} if given else {})
    config = load_config(conf(registry, registry=site, **{"gc-command": None}))
    before = pulled(url, "named"), pulled(url, "mentions")
    assert regdata.apply(regdata.plan(regdata.scan(config), "1=1"), config, gc=False).errors == []
    frame = regdata.restore(undo.runs(config)["run"].iloc[0], config)
    assert set(frame["outcome"]) == {"restored"}
    assert (pulled(url, "named"), pulled(url, "mentions")) == before


class Forgetful(FaultProxy):
    """Takes manifests as 3.x does that has just started: an index of blobs only when it was asked for each of them."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.known: set[str] = set()

    def answer(self, request: Request) -> Reply:
        """What comes back, from the registry behind or its cache."""
        if request.method == "HEAD":
            self.known.add(request.target.rpartition("/")[2])
        if request.method == "PUT" and {one["digest"] for one in json.loads(request.body)["manifests"]} - self.known:
            return Reply(400, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}')
        return super().answer(request)


def test_an_index_of_layers_after_a_restart(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """A BuildKit cache comes back to a registry that has to be asked for its parts before; they are not gone."""
    parts = [(b"layer", OCI_LAYER), (b"{}", "application/vnd.buildkit.cacheconfig.v0")]
    for data, _ in parts:
        push_blob(registry.url, "cache", data)
    listed = [descriptor(data, media_type) for data, media_type in parts]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
    digest = push_manifest(registry.url, "cache", "old", index, OCI_INDEX)
    age(registry.base_path, 3 * 86400)
    with faults_before(registry.url, Forgetful) as proxy:
        site = {"url": proxy.url, "base_path": str(registry.base_path)}
        config = load_config(conf(registry, registry=site, **{"gc-command": None}))
        assert regdata.apply(regdata.plan(regdata.scan(config), "1=1"), config, gc=False).errors == []
        frame = regdata.restore(undo.runs(config)["run"].iloc[0], config)
    assert list(zip(frame["reference"], frame["outcome"], strict=True)) == [(digest, "restored"), ("old", "restored")]
    accept = {"Accept": OCI_INDEX}
    assert requests.get(f"{registry.url}/v2/cache/manifests/old", headers=accept, timeout=9).content == index


def test_children_that_are_linked_as_blobs(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """An index comes back with what its children need that were pushed as blobs, by whatever digest, though another run
    set that aside; where it is gone the index is lost."""
    children = {name: make_image([make_layer(name, 900)]) for name in ("sha256", "sha512")}
    by_sha512 = partial(digest_of, algorithm="sha512")
    for name, child in children.items():
        digest = push_blob(registry.url, name, child.manifest, name)
        for tag, system in (("first", "linux"), ("second", "plan9")):
            push_index_of_blobs(registry.url, name, tag, child, digest=digest, platform={"os": system})
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None, "trash_days": 7}))
    for tag, gc in (("first", False), ("second", True)):
        assert regdata.apply(regdata.plan(regdata.scan(config), f"tag_name = '{tag}'"), config, gc=gc).errors == []
    lost, back = children.values()
    (gone,) = (registry.base_path / NAME).glob(f"*/*/*{lost.blobs[-1].digest[7:]}*data")
    gone.unlink()
    first, _ = sorted(config.reports.glob("*/record.json"))
    frame = regdata.restore(first.parent, config)
    assert dict(zip(frame["image_name"], frame["outcome"], strict=True)) == {"sha256": "lost", "sha512": "restored"}
    assert f"its layer {lost.blobs[-1].digest} is gone" in frame["why"][frame["outcome"] == "lost"].iloc[0]
    for digest, data in [(by_sha512(back.manifest), back.manifest), *((one.digest, one.data) for one in back.blobs)]:
        assert requests.get(f"{registry.url}/v2/sha512/blobs/{digest}", timeout=9).content == data


def pulled(url: str, tag: str) -> list[bytes]:
    manifest = requests.get(f"{url}/v2/app/manifests/{tag}", headers={"Accept": OCI_MANIFEST}, timeout=9)
    document = manifest.json()
    parts = [document["config"], *document["layers"]]
    return [
        manifest.content,
        *(requests.get(f"{url}/v2/app/blobs/{one['digest']}", timeout=9).content for one in parts),
    ]


def test_a_child_that_others_had_deleted(new_scene: NewScene) -> None:
    """An index whose child was not served any more when it was deleted is lost, though the child's bytes are there."""
    scene, child = new_scene(), INDEX.children[0].digest
    requests.delete(f"{scene.registry.url}/v2/prod/app/manifests/{child}", timeout=9).raise_for_status()
    assert scene.clean(gc=False) == ""
    outcome = undo.restore(scene.records()[0], load_config(scene.conf)).set_index("reference")
    assert outcome.loc[INDEX.digest, "outcome"] == "lost"
    assert child in str(outcome.loc[INDEX.digest, "why"])


@pytest.mark.parametrize("damaged", [False, True])
def test_interrupted_between_tags_and_manifests(
    new_scene: NewScene, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """The tags that a run took whose manifests another one deleted come back by one restore, with their manifests, be
    the other one's journal damaged."""
    scene = new_scene()
    before = scene.store()
    write = Record.journal

    def journal(record: Record, *events: dict[str, Any]) -> None:
        if any(event["event"] == "deleting" for event in events):
            raise KeyboardInterrupt
        write(record, *events)

    with monkeypatch.context() as patched:
        patched.setattr(Record, "journal", journal)
        with pytest.raises(KeyboardInterrupt):
            scene.clean(gc=False)
    assert scene.clean(gc=False) == ""
    first, second = scene.records()
    with (second / "journal.jsonl").open("a") as lines:
        lines.write('{"event": "deleting", "image": "..", "digest": "none", "media_type": ""}\n' if damaged else "")
    assert set(undo.restore(first, load_config(scene.conf))["outcome"]) == {"restored"}
    assert scene.store().tags == before.tags
    assert broken(scene.base_path) == []


@pytest.mark.parametrize("how", ["doctor", "collected"])
def test_links_that_are_gone(registry: LocalRegistry, conf: Callable[..., Path], how: str) -> None:
    """What is stored is linked again: where a doctor removed the repository that a run had emptied, and where it was
    collected, and pushed by others since."""
    child, plain = (make_image([make_layer(name, 900)], oci=True) for name in ("child", "plain"))
    push_blob(registry.url, "app", child.manifest)
    push_index_of_blobs(registry.url, "app", "index", child)
    push(registry.url, "app", "plain", plain)
    push(registry.url, "all", "1", plain)  # the first: there it is tried whether base_path is the registry's own
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None}))
    gc = how == "collected"
    assert regdata.apply(regdata.plan(regdata.scan(config), "image_name = 'app'"), config, gc=gc).errors == []
    if gc:
        push(registry.url, "elsewhere", "1", child)
    else:
        age(registry.base_path, 9 * 86400)
        found = regdata.doctor(config, repair=True)
        assert "empty repository" in set(found["what"][found["outcome"] == "cured"])
    assert not (registry.base_path / "docker/registry/v2/repositories/app").exists()
    assert set(regdata.restore("latest", config)["outcome"]) == {"restored"}
    for one in (child, plain):
        headers = {"Accept": one.media_type}
        assert requests.get(f"{registry.url}/v2/app/manifests/{one.digest}", headers=headers, timeout=9).ok
        for blob in one.blobs:
            assert requests.get(f"{registry.url}/v2/app/blobs/{blob.digest}", timeout=9).content == blob.data


def test_a_child_that_another_run_deleted(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """An index comes back though its child, which had a tag of its own, went with a later run: that comes back, too."""
    child = make_image([make_layer("child", 900)])
    push(registry.url, "app", "index", make_index([child]))
    push(registry.url, "app", "child", child)
    push(registry.url, "app", "stays", make_image([make_layer("stays", 900)]))
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None}))
    for tag in ("index", "child"):
        planned = regdata.plan(regdata.scan(config), f"tag_name = '{tag}'")
        assert regdata.apply(planned, config, gc=False).errors == []
    first, _ = sorted(config.reports.glob("*/record.json"))
    assert regdata.restore(first.parent, config)["outcome"].tolist() == ["restored", "restored"]
    assert broken(registry.base_path) == []


@pytest.mark.parametrize("answers", [True, False])
def test_what_a_run_collected_that_deleted_nothing(tmp_path: Path, answers: bool) -> None:
    """What a run set aside that nobody needed comes back from it, though it deleted nothing, and its record says
    nothing of images that were restored; without a registry nothing is touched."""
    hex_, base_path = "ab" * 32, tmp_path / "store"
    data = base_path / f"docker/registry/v2/blobs/sha256/ab/{hex_}/data"
    data.parents[3].mkdir(parents=True)
    with serve(FakeRegistry()) as fake:
        site = {"url": fake.url if answers else "http://127.0.0.1:1", "base_path": str(base_path)}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": site, "sql": {}}))
        config = load_config(tmp_path)
        record = Record.open(config, sql_id="x", action="del")
        record.finish()
        batch = base_path / NAME / record.folder.name / "0001-kept"
        batch.mkdir(parents=True)
        (batch / f"blobs+sha256+ab+{hex_}+data").write_bytes(b"x")
        with nullcontext() if answers else pytest.raises(RegistryError):
            assert regdata.restore(record.folder, config).empty
    assert data.exists() is answers
    assert "restored" not in read_facts(record.folder)


class TakesBack(FakeRegistry):
    """It takes an image that is pushed, by a tag or its digest."""

    def __init__(self, image: Image) -> None:
        super().__init__(pages=True)
        self.image = image

    def answer(self, method: str, target: str) -> Reply:
        if method == "PUT":
            reference = target.rpartition("/")[2]
            self.push("app", None if ":" in reference else reference, self.image)
            return Reply(201)
        return super().answer(method, target)


def test_a_tag_that_went_alone_before_others_deleted_what_it_was_on(tmp_path: Path) -> None:
    """A tag that a run took alone comes back though somebody, and no run, has deleted since what it was on: the run
    itself has the bytes of that."""
    image = make_image([make_layer("alone", 90)], oci=True)
    with serve(TakesBack(image)) as fake:
        for tag in ("alone", "same"):
            fake.push("app", tag, image)
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path)
        assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'alone'"), config, gc=False).errors == []
        assert fake.tags["app"] == {"same": image.digest}
        fake.tags["app"].clear()
        fake.manifests["app"].clear()
        assert regdata.restore("latest", config)["outcome"].tolist() == ["restored"]
        assert fake.tags["app"] == {"alone": image.digest}
