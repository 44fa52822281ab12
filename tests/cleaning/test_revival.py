"""What lands in the registry while a run deletes, or after it: what is alive and misses something gets it back."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import regdata
from regdata.cleaning.order import Manifest
from regdata.cleaning.revival import Revival, meant
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Image, make_image, make_index, make_layer, make_signature, push, signature_tag
from regdata.errors import RegistryError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.sources.mediatypes import OCI_MANIFEST
from tests.cleaning.test_changes import at
from tests.support.helpers import ROOT, age, store_tags
from tests.support.odd import config_bytes, descriptor, digest_of, image_bytes, push_blob, push_manifest
from tests.support.proxy import Fault
from tests.support.scene import CONDITION, INDEX, LATEST, OLD, NewScene, Scene, broken, repositories
from tests.support.small import Small

CHILD = INDEX.children[0]
LANDS = {"tag": CHILD, "index": make_index([CHILD, LATEST]), "index of an index": make_index([INDEX])}


def land(scene: Scene, image: Image) -> None:
    """Writes what a registry writes last of a push that it has checked: a manifest's bytes, its link, its tag."""
    write(scene.base_path, image)


def write(base_path: Path, image: Image) -> None:
    root = base_path / "docker/registry/v2"
    hex_ = image.digest[7:]
    manifests = repositories(base_path) / "prod/app/_manifests"
    written = {manifests / "tags/late/current/link": image.digest.encode()}
    if image.digest != CHILD.digest:
        written[root / f"blobs/sha256/{hex_[:2]}/{hex_}/data"] = image.manifest
        written[manifests / f"revisions/sha256/{hex_}/link"] = image.digest.encode()
    for path, data in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def late_before(scene: Scene, *, stops: bool = True) -> list[str]:
    """A gc-before in which what lies in the folder ``late`` lands, before it stops the registry."""
    landing = f"cp -r {scene.folder}/late/docker {scene.base_path}"
    return ["sh", "-c", f"{landing}; touch {scene.stopped}" if stops else landing]


def after_deletion(scene: Scene, do: Callable[[], object]) -> None:
    """Has something happen when a child has just been deleted."""

    def answered(body: bytes) -> bytes:
        do()
        return body

    scene.proxy.on("DELETE", CHILD.digest, Fault(carried_out=True, body=answered), times=1)


def check(scene: Scene, what: str, status: str = "ok") -> None:
    """The tag that landed leads to something whole, which the record of the last run speaks of."""
    assert broken(scene.base_path) == []
    assert ("prod/app", "late", LANDS[what].digest) in scene.store().tags
    record = json.loads((scene.records()[-1] / "record.json").read_bytes())
    assert record["status"] == status
    assert any("put back" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("how", "what"),
    [
        *(("own", what) for what in LANDS),
        ("gc-command", "index of an index"),
        ("api", "tag"),
        ("api", "index of an index"),
        ("no collection", "index"),
    ],
)
def test_landed_after_the_deletion(new_scene: NewScene, how: str, what: str) -> None:
    """What landed when a part of it had just been deleted is whole at the end, whoever collects."""
    scene = new_scene(store=how != "api", cache=how == "own")
    if how == "own":
        scene.set(gc_command=None)
    if how != "api":
        scene.set(gc_before=None, gc_after=None)
    after_deletion(scene, lambda: land(scene, LANDS[what]))
    assert scene.clean(gc=how != "no collection") == ""
    check(scene, what)
    assert scene.run
    assert scene.run.result
    assert scene.run.result.bytes_freed in (None, scene.run.result.bytes_expected)
    assert scene.run.result.bytes_expected < scene.run.result.bytes_predicted  # what is back is not expected
    manifests = scene.run.result.manifests
    assert CHILD.digest in set(manifests.loc[manifests["outcome"] == "moved", "manifest_hash"])
    assert "failed" not in set(manifests["outcome"])


@pytest.mark.parametrize(
    ("how", "what"), [("own", "index"), ("gc-command", "tag"), ("api", "index"), ("api", "index of an index")]
)
def test_landed_before_the_next_run(new_scene: NewScene, how: str, what: str) -> None:
    """What landed when a run without a collection had ended is made whole by the next run, which collects."""
    scene = new_scene(store=how != "api", cache=how == "own")
    if how == "own":
        scene.collects_itself()
    assert scene.clean(gc=False) == ""
    land(scene, LANDS[what])
    assert scene.clean() == ""
    check(scene, what)


def test_landed_after_several_runs(new_scene: NewScene) -> None:
    """What any run since the last collection deleted is given back, not the first one's or the last one's alone."""
    scene = new_scene()
    for condition in ("2=1", CONDITION, "2=1"):
        scene.set(sql=scene.settings["sql"] | {"scene": condition})
        assert scene.clean(gc=False) == ""
    land(scene, LANDS["index"])
    assert scene.clean() == ""
    check(scene, "index")


def test_pushed_again_after_its_run(new_scene: NewScene) -> None:
    """An image that is pushed again when the run had ended well that deleted it comes without its old signature."""
    scene = new_scene()
    assert scene.clean(gc=False) == ""
    push(scene.registry.url, "prod/app", "again", INDEX)
    assert scene.clean(gc=False) == ""
    assert ("prod/app", make_signature(INDEX).digest) not in scene.store().revisions


def test_signed_anew_since_the_reading(new_scene: NewScene) -> None:
    """What is put back with an image that was pushed again leaves its tag to what a client put there meanwhile."""
    scene, signature = new_scene(), make_signature(INDEX)
    anew = replace(signature, manifest=b" " + signature.manifest)

    def sign(body: bytes) -> bytes:
        push(scene.registry.url, "prod/app", signature_tag(INDEX), anew)
        return body

    after_deletion(scene, lambda: push(scene.registry.url, "prod/app", "late", INDEX))
    scene.proxy.on("PUT", signature.digest, Fault(carried_out=True, body=sign), times=1)
    assert scene.clean(gc=False) == ""
    assert ("prod/app", signature_tag(INDEX), anew.digest) in scene.store().tags


def test_what_is_attached_to_several(new_scene: NewScene) -> None:
    """What belongs to several images that go is put back where one of them is alive."""
    scene, signature = new_scene(), make_signature(INDEX)
    other = make_image([make_layer("signed, too", 300)])
    push(scene.registry.url, "prod/app", "old", other)
    push(scene.registry.url, "prod/app", signature_tag(other), signature)
    after_deletion(scene, lambda: push(scene.registry.url, "prod/app", "late", INDEX))
    assert scene.clean(gc=False) == ""
    assert ("prod/app", other.digest) not in scene.store().revisions
    assert ("prod/app", signature_tag(INDEX), signature.digest) in scene.store().tags


def test_landed_of_an_unknown_type(new_scene: NewScene) -> None:
    """What a manifest of unknown type may need is put back, too."""
    scene = new_scene()
    kind = "application/vnd.example+json"
    odd = {"schemaVersion": 2, "mediaType": kind, "parts": [CHILD.descriptor()]}
    after_deletion(scene, lambda: land(scene, Image(json.dumps(odd).encode(), kind)))
    assert scene.clean(gc=False) == ""
    assert ("prod/app", CHILD.digest) in scene.store().revisions


@pytest.mark.parametrize("how", ["own", "api"])
def test_landed_by_another_digest(new_scene: NewScene, how: str) -> None:
    """What a signature comes to be pushed to is put back, whichever of its digests that names; what that belongs to in
    turn, too."""
    scene = new_scene(store=how != "api")
    url, config = scene.registry.url, config_bytes("bom")
    push_blob(url, "prod/app", config)
    below = image_bytes(config, subject=descriptor(CHILD.manifest, OCI_MANIFEST, "sha384"))
    push_manifest(url, "prod/app", "old", below, OCI_MANIFEST)
    age(scene.base_path, 3 * 86400)
    above = image_bytes(config, subject=descriptor(below, OCI_MANIFEST, "sha512"))
    after_deletion(scene, lambda: push_manifest(url, "prod/app", "late", above, OCI_MANIFEST))
    assert scene.clean(gc=False) == ""
    assert {("prod/app", one) for one in (CHILD.digest, digest_of(below))} <= scene.store().revisions


def test_landed_where_another_image_has_the_same(new_scene: NewScene) -> None:
    """Over the API no child is taken to be there because another image, which is read with it, has it."""
    scene = new_scene(store=False)
    push(scene.registry.url, "prod/old", "kept", CHILD)
    after_deletion(scene, lambda: land(scene, LANDS["index"]))
    assert scene.clean() == ""
    check(scene, "index")


def test_landed_on_several_tags(new_scene: NewScene) -> None:
    """Over the API each tag of which the registry alone tells on what it is gets that back, be they many."""
    scene, first, second = new_scene(store=False), *INDEX.children[:2]
    tags = {("prod/app", f"late-{number}", one.digest) for number, one in enumerate((INDEX, first, second))}
    tags.add(("prod/old", "late", OLD.digest))
    assert scene.clean(gc=False) == ""
    for image, tag, digest in tags:
        link = repositories(scene.base_path) / image / "_manifests/tags" / tag / "current/link"
        link.parent.mkdir(parents=True)
        link.write_text(digest)
    assert scene.clean(gc=False) == ""
    assert tags <= scene.store().tags
    assert broken(scene.base_path) == []


def test_landed_on_the_tag_that_went(new_scene: NewScene) -> None:
    """A tag that is there again, and that only the registry can tell on what it is, has moved: it did not go."""
    scene = new_scene(store=False)

    def write_tag() -> None:
        link = repositories(scene.base_path) / "prod/app/_manifests/tags/1.0/current/link"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text(INDEX.digest)

    after_deletion(scene, write_tag)
    assert scene.clean(gc=False) == ""
    assert broken(scene.base_path) == []
    assert scene.run
    assert scene.run.result
    outcomes = scene.run.result.tags.set_index(["image_name", "tag_name"])["outcome"]
    assert outcomes["prod/app", "1.0"] == "moved"


def test_its_image_could_not_be_deleted(new_scene: NewScene) -> None:
    """A signature stays away whose image the registry did not delete this time: the next run does."""
    scene = new_scene()
    scene.proxy.on("DELETE", INDEX.digest, Fault(500))
    assert "HTTP 500" in scene.clean(gc=False)
    assert ("prod/app", INDEX.digest) in scene.store().revisions
    assert ("prod/app", make_signature(INDEX).digest) not in scene.store().revisions
    assert scene.run
    assert scene.run.result
    assert not any("put back" in note for note in scene.run.result.notes)


def test_by_another_digest_in_one_image() -> None:
    """What an image names by another digest is put back there, not where the same was deleted, too."""
    data = b'{"schemaVersion": 2}'
    run: Any = SimpleNamespace(manifest=lambda digest: data)
    deleted = {Manifest(image, digest_of(data)): (run, OCI_MANIFEST) for image in ("a", "b")}
    assert meant({("a", digest_of(data, "sha512"))}, deleted) == {Manifest("a", digest_of(data))}


def test_landed_late(new_scene: NewScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lands while regdata collects is whole, too: what it mentions was spared, and is put back."""
    scene = new_scene(cache=True)
    scene.collects_itself()
    at(monkeypatch, "unlinking", lambda: land(scene, LANDS["index"]))
    assert scene.clean() == ""
    check(scene, "index")


@pytest.mark.parametrize("own", [True, False])
def test_what_can_not_be_put_back(new_scene: NewScene, own: bool) -> None:
    """Where the registry does not take it back nothing is collected, and the run says what is to be pushed again."""
    scene = new_scene(cache=own)
    if own:
        scene.collects_itself()
    blobs = scene.store().blobs
    after_deletion(scene, lambda: land(scene, LANDS["index"]))
    scene.proxy.on("PUT", CHILD.digest, Fault(status=400))
    error = scene.clean()
    assert f"prod/app@{CHILD.digest}, which this run deleted, is needed" in error
    assert "push it again" in error
    assert blobs <= scene.store().blobs


def test_what_an_earlier_run_deleted_and_nobody_can_put_back(new_scene: NewScene) -> None:
    """It is told, and keeps no later run from collecting."""
    scene = new_scene()
    assert scene.clean(gc=False) == ""
    land(scene, LANDS["index"])
    scene.proxy.on("PUT", CHILD.digest, Fault(status=400))
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.result
    assert scene.run.result.collection.ran
    assert any(f"{CHILD.digest}, which an earlier run deleted, is needed" in note for note in scene.run.result.notes)


@pytest.mark.parametrize(("what", "stops"), [*((what, True) for what in LANDS), ("index", False)])
def test_landed_before_the_registry_stopped(new_scene: NewScene, what: str, stops: bool) -> None:
    """What landed after the last look, before gc-before had stopped the registry, is whole: gc-command is not run, what
    it needs is put back, and the next run collects."""
    scene = new_scene()
    write(scene.folder / "late", LANDS[what])
    scene.set(gc_before=late_before(scene, stops=stops), gc_after=scene.settings["gc-after"] if stops else None)
    error = scene.clean()
    assert "so gc-command was not run" in error
    assert broken(scene.base_path) == []
    assert not scene.stopped.exists()
    check(scene, what, "failed")
    assert scene.clean() == ""
    assert broken(scene.base_path) == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("push_image_by as push; push({url!r}, 'prod/new', '1', 0.5, 'sha512')", "which names it by another digest"),
        ("push_blob as push; push({url!r}, 'prod/new', b'of no manifest yet')", "a push may be in flight"),
    ],
    ids=["image", "layer"],
)
def test_pushed_before_the_registry_stopped(new_scene: NewScene, what: str, said: str) -> None:
    """What was pushed after the last look, and which the registry's own collector would take, keeps it from running."""
    scene = new_scene()
    pushing = f"from tests.support.odd import {what.format(url=scene.registry.url)}; open('{scene.stopped}', 'w')"
    scene.set(gc_before=["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", pushing], gc_wait=0.1)
    blobs = scene.store().blobs
    assert said in scene.clean()
    assert blobs < scene.store().blobs


@pytest.mark.parametrize("what", ["pushed again", "listed"])
def test_a_selected_signature(new_scene: NewScene, what: str) -> None:
    """A signature that the condition selects with its image stays with it, too, where that stays."""
    scene, signature = new_scene(), make_signature(INDEX)
    scene.set(sql={"none": "2=1", "scene": f"{CONDITION} or tag_name like '%.sig'"})
    again = INDEX if what == "pushed again" else make_index([INDEX, LATEST])
    after_deletion(scene, lambda: push(scene.registry.url, "prod/app", "late", again))
    assert scene.clean(gc=False) == ""
    assert ("prod/app", "late", again.digest) in scene.store().tags
    assert ("prod/app", signature_tag(INDEX), signature.digest) in scene.store().tags
    assert broken(scene.base_path) == []


@pytest.mark.parametrize("given", [True, False], ids=["folder", "api"])
def test_a_signature_of_which_a_killed_run_took_the_tag(
    registry: LocalRegistry, conf: Callable[..., Path], given: bool
) -> None:
    """What lost its tag alone, for the sake of an image that is there, gets it back from the next run, though neither
    of them deletes anything."""
    image = make_image([make_layer("signed", 300)])
    signature, tag = make_signature(image), signature_tag(image)
    push(registry.url, "app", "1", image)
    push(registry.url, "app", None, signature)
    site = {"url": registry.url} | ({"base_path": str(registry.base_path)} if given else {})
    config = load_config(conf(registry, registry=site))
    killed = Record.open(config, sql_id="killed", action="del")
    columns = ["image_name", "tag_name", "tag_hash", "tag_size", "action", "reason"]
    tags = pd.DataFrame([("app", tag, signature.digest, 10, "delete", "referrer")], columns=columns)
    manifests = pd.DataFrame([("app", signature.digest, "referrer")], columns=["image_name", "manifest_hash", "reason"])
    killed.save_plan(tags.astype({"tag_size": "Int64"}), manifests)
    killed.journal({"event": "taking", "image": "app", "tag": tag, "digest": signature.digest})
    killed.error("KeyboardInterrupt")
    killed.finish()
    result = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config, gc=False)
    assert result.errors == []
    assert f"app:{tag}" in store_tags(registry.base_path)


@pytest.mark.parametrize(
    ("kind", "algorithm", "is_missed"),
    [
        ("manifest", "sha256", True),
        ("manifest", "sha512", True),
        ("unknown", "sha256", True),
        ("layer", "sha256", False),
        ("mention", "sha512", False),
    ],
)
def test_what_is_missed_of_an_earlier_run(tmp_path: Path, kind: str, algorithm: str, is_missed: bool) -> None:
    """What a manifest that came lists as a manifest, or may, is missed, by whichever of its digests; not what it only
    has as a layer, or mentions."""
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    config, data = load_config(tmp_path / "conf.json"), b'{"schemaVersion": 2}'
    earlier, record = (Record.open(config, sql_id=name, action="del") for name in ("earlier", "now"))
    gone = Manifest("a", digest_of(data))
    earlier.journal({"event": "deleting", "image": "a", "digest": gone.digest, "media_type": OCI_MANIFEST})
    earlier.save_manifest(gone.digest, data)
    came = Small()
    came.push("a", "late", days=0, base=1)
    (late,) = came.columns["contents"]["manifest_hash"]
    named = {"reference_hash": digest_of(data, algorithm), "reference_kind": kind, "reference_size": 1}
    came.row("references", manifest_hash=late, **named)
    outcome: Any = SimpleNamespace(deleted=set())
    site: Any = SimpleNamespace(from_store=False)
    missed = Revival(outcome, config, site, record).missed(came.inventory(from_store=False))
    assert missed == ({gone} if is_missed else set())


def test_by_another_digest_though_a_record_lost_its_bytes() -> None:
    """What can't be read in the records any more is passed over; what can, and has that digest, is put back."""
    data = b'{"schemaVersion": 2}'

    def lost(digest: str) -> bytes:
        raise FileNotFoundError(digest)

    runs: list[Any] = [SimpleNamespace(manifest=lost), SimpleNamespace(manifest=lambda digest: data)]
    deleted = {Manifest("a", digest_of(of)): (run, OCI_MANIFEST) for of, run in zip((b"lost", data), runs, strict=True)}
    assert meant({("a", digest_of(data, "sha512"))}, deleted) == {Manifest("a", digest_of(data))}


def test_landed_where_the_deletions_stopped(new_scene: NewScene) -> None:
    """What landed when a part of it had just been deleted is made whole also by a run that an error then stops."""
    scene, landed = new_scene(), threading.Event()

    def come() -> None:
        land(scene, LANDS["index"])
        landed.set()

    after_deletion(scene, come)
    scene.proxy.on("DELETE", INDEX.children[1].digest, Fault(500, before=lambda: landed.wait(9)))
    assert "HTTP 500" in scene.clean(gc=False)
    check(scene, "index", "failed")


class Looking:
    """A run that looks for what is missed of ``gone`` by what has come, over the API; ``put``: what it puts back, but
    for what is refused."""

    def __init__(self, folder: Path, *gone: bytes, refused: str = "") -> None:
        (folder / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
        self.config, self.gone, self.put, self.refused = load_config(folder / "conf.json"), gone, list[str](), refused
        self.digests = [digest_of(data) for data in gone]

    def record(self, name: str, *, whole: bool = True) -> Record:
        """Of a run that deleted all of it, with the bytes or without."""
        record = Record.open(self.config, sql_id=name, action="del")
        for digest, data in zip(self.digests, self.gone, strict=True):
            record.journal({"event": "deleting", "image": "a", "digest": digest, "media_type": OCI_MANIFEST})
            if whole:
                record.save_manifest(digest, data)
        return record

    def came(self, algorithm: str = "sha256") -> Small:
        """An index that lists all of it."""
        came = Small()
        came.push("a", "late", days=0, base=1)
        (late,) = came.columns["contents"]["manifest_hash"]
        for data in self.gone:
            listed = {"reference_hash": digest_of(data, algorithm), "reference_kind": "manifest", "reference_size": 1}
            came.row("references", manifest_hash=late, **listed)
        return came

    def revival(self, record: Record, *, own: bool = False) -> Revival:
        """Of the run with this record, which deleted all of it itself, or nothing."""
        outcome: Any = SimpleNamespace(deleted={Manifest("a", digest) for digest in self.digests if own})
        outcome.planned, outcome.moved = set(outcome.deleted), set[Manifest]()
        outcome.revive, outcome.put_back = (lambda *_: None), (lambda _: None)
        registry = SimpleNamespace(digest=lambda *_: None, put=self._put)
        site: Any = SimpleNamespace(from_store=False, registry=registry)
        return Revival(outcome, self.config, site, record)

    def _put(self, image: str, reference: str, media_type: str, data: bytes) -> None:
        if reference == self.refused:
            raise RegistryError("HTTP 400")
        self.put.append(reference)


@pytest.mark.parametrize("own", [True, False])
def test_deleted_by_several_runs(tmp_path: Path, own: bool) -> None:
    """What several runs deleted, since it was pushed again between them, is put back from the record of the last one:
    an older one may have lost its bytes."""
    looking = Looking(tmp_path, b'{"schemaVersion": 2}')
    looking.record("1", whole=False)
    record = looking.record("2")
    record = record if own else Record.open(looking.config, sql_id="3", action="del")
    revival = looking.revival(record, own=own)
    revival.look(looking.came().inventory(from_store=False))
    assert (looking.put, revival.errors, revival.notes) == (looking.digests, [], [])


def test_deleted_before_a_run_whose_record_is_damaged(tmp_path: Path) -> None:
    """Of a run whose journal is damaged nothing is known; what the one before it deleted is put back all the same."""
    looking = Looking(tmp_path, b'{"schemaVersion": 2}')
    looking.record("1")
    Record.open(looking.config, sql_id="2", action="del").journal({"event": "deleting"})
    looking.revival(Record.open(looking.config, sql_id="3", action="del")).look(
        looking.came().inventory(from_store=False)
    )
    assert looking.put == looking.digests


def test_taken_before_a_run_whose_record_is_damaged(tmp_path: Path) -> None:
    """A killed run's signatures are looked for also where the journal of a later one that failed is damaged."""
    looking = Looking(tmp_path)
    killed, damaged, record = (Record.open(looking.config, sql_id=name, action="del") for name in "123")
    columns = ["image_name", "tag_name", "tag_hash", "tag_size", "action", "reason"]
    of, tag = digest_of(b"signature"), f"{digest_of(b'image').replace(':', '-')}.sig"
    tags = pd.DataFrame([("a", tag, of, 10, "delete", "referrer")], columns=columns)
    manifests = pd.DataFrame([("a", of, "referrer")], columns=["image_name", "manifest_hash", "reason"])
    killed.save_plan(tags.astype({"tag_size": "Int64"}), manifests)
    killed.journal({"event": "taking", "image": "a", "tag": tag, "digest": of})
    damaged.journal({"event": "deleting"})
    assert looking.revival(record).images == {"a"}


def test_one_of_several_that_is_refused(tmp_path: Path) -> None:
    """What the registry does not take back keeps nothing else from being put back, and is in no journal as if it had
    been."""
    gone = sorted((b'{"schemaVersion": 2}', b'{"schemaVersion":2}'), key=digest_of)
    looking = Looking(tmp_path, *gone, refused=digest_of(gone[0]))
    record = looking.record("1")
    revival = looking.revival(record, own=True)
    assert revival.look(looking.came().inventory(from_store=False)) == {Manifest("a", digest_of(gone[1]))}
    assert looking.put == [digest_of(gone[1])]
    assert ["HTTP 400" in error for error in revival.errors] == [True]
    told = [event["digest"] for event in PastRun(record.folder).events("brought back")]
    assert told == looking.put
    revival.look(looking.came().inventory(from_store=False))  # tries again, and says nothing anew
    assert len(revival.errors + revival.notes) == 1


@pytest.mark.parametrize("served", [True, False])
def test_what_is_served_by_another_digest(tmp_path: Path, served: bool) -> None:
    """What is listed by a digest by which the registry serves it is not missed, though the same had been deleted by
    another name."""
    looking = Looking(tmp_path, b'{"schemaVersion": 2}')
    looking.record("1")
    came = looking.came("sha512")
    if served:
        came.row("revisions", image_name="a", manifest_hash=digest_of(looking.gone[0], "sha512"))
    revival = looking.revival(Record.open(looking.config, sql_id="2", action="del"))
    missed = revival.missed(came.inventory(from_store=False))
    assert missed == (set() if served else {Manifest("a", looking.digests[0])})


@pytest.mark.parametrize("how", ["through", "through, and kept in the trash", "killed", "its own"])
def test_a_referrer_of_what_was_deleted(tmp_path: Path, how: str) -> None:
    """What is signed after a run was through with it, and had left it to the next collection, stays away, as the plan
    says: a registry takes a signature of what it does not have. Where that may have come in between, or what was
    collected is kept, it is put back, and no signature is any worse without."""
    looking = Looking(tmp_path, b'{"schemaVersion": 2}', refused=digest_of(b"not this one"))
    record = looking.record("1")
    if how.endswith("trash"):
        record.journal({"event": "unlinking"})
    if how.startswith("through"):
        record.finish()
    came = Small()
    came.push("a", "late", days=0, base=1)
    (of,) = looking.digests
    came.columns["contents"]["subject_hash"] = [of]
    own = how == "its own"
    again = record if own else Record.open(looking.config, sql_id="2", action="del")
    revival, fresh = looking.revival(again, own=own), came.inventory(from_store=False)
    assert revival.missed(fresh) == (set() if how == "through" else {Manifest("a", of)})
    assert revival.look(fresh) == revival.missed(fresh)
    looking.refused = of
    revival = looking.revival(again, own=own)
    assert revival.look(fresh) == set()
    assert revival.errors == []
    assert ["can't be put back (HTTP 400), though" in note for note in revival.notes] == [True] * (how != "through")


def test_what_belongs_to_what_is_put_back(tmp_path: Path) -> None:
    """With an image that is alive its SBOM is put back, and by the same look what that is signed by, whichever is known
    first: over the API the next look may not see what no tag leads to."""
    there = Small()
    there.push("a", "1", days=0, base=1)
    (alive,) = there.columns["contents"]["manifest_hash"]
    sbom = image_bytes(b"{}", subject={"mediaType": OCI_MANIFEST, "digest": alive, "size": 1})
    signature = image_bytes(b"{}", subject=descriptor(sbom, OCI_MANIFEST))
    looking = Looking(tmp_path, signature, sbom)
    record = looking.record("1")
    columns = ["image_name", "tag_name", "tag_hash", "tag_size", "action", "reason"]
    tags = pd.DataFrame([("a", "2", digest_of(b"other"), 10, "delete", "selected")], columns=columns)
    went = [("a", digest, "referrer") for digest in looking.digests]
    manifests = pd.DataFrame(went, columns=["image_name", "manifest_hash", "reason"])
    record.save_plan(tags.astype({"tag_size": "Int64"}), manifests)
    revival = looking.revival(record, own=True)
    back = revival.look(there.inventory(from_store=False))
    assert back == {Manifest("a", digest) for digest in looking.digests}
    assert (looking.put, revival.errors) == ([digest_of(sbom), digest_of(signature)], [])
