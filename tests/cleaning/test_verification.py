"""What a run sees of uploads in flight, and of things that break during it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import requests

import regdata
from regdata.cleaning.order import Manifest, Tag, pairs
from regdata.cleaning.outcome import Members
from regdata.cleaning.verification import Verdict, needed_again, verify
from regdata.collecting.commands import Collection
from regdata.demo.samples import Image, make_image, make_index, make_layer, push
from regdata.sources.source import Part
from tests.cleaning.test_around import pusher
from tests.cleaning.test_changes import at
from tests.cleaning.test_odd_stores import served
from tests.collecting.test_sweep import pulls
from tests.support.helpers import numbered
from tests.support.odd import push_image_by
from tests.support.scene import (
    BASE,
    CONDITION,
    LATEST,
    LIBRARY,
    OLD,
    Finished,
    NewScene,
    Scene,
    broken,
    repositories,
)
from tests.support.small import DAY, NOW, Small, digest


def open_upload(scene: Scene, repository: str) -> str:
    """A real push in flight, with some bytes already there; returns its URL."""
    upload = requests.post(f"{scene.registry.url}/v2/{repository}/blobs/uploads/", timeout=5)
    upload.raise_for_status()
    more = requests.patch(upload.headers["Location"], data=b"half of a layer", timeout=5)
    more.raise_for_status()
    return more.headers["Location"]


def record(scene: Scene) -> dict[str, object]:
    """The last run's record.json."""
    facts: dict[str, object] = json.loads((scene.records()[-1] / "record.json").read_bytes())
    return facts


def test_upload_in_flight(new_scene: NewScene, finished: Finished) -> None:
    """An upload in flight is told in the report; its repository is left alone."""
    scene = new_scene()
    where = open_upload(scene, "prod/old")
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.result
    (note,) = scene.run.result.notes
    assert "1 upload was in flight before the collection (prod/old)" in note
    assert scene.store().blobs == finished[True].blobs
    assert scene.store().repositories == finished[True].repositories | {"prod/old"}
    requests.put(where, params={"digest": "sha256:" + "0" * 64}, timeout=5)


def test_wait_in_vain(new_scene: NewScene, finished: Finished) -> None:
    """With gc-wait an upload that does not end in time keeps the collection off; the next run collects."""
    scene = new_scene()
    scene.set(gc_wait=0.2)
    where = open_upload(scene, "base/lib")
    error = scene.clean()
    assert "1 upload was in flight before the collection (base/lib)" in error
    assert "Not collected after 0.2 s" in error
    assert record(scene)["status"] == "failed"
    store = scene.store()
    assert (store.tags, store.revisions) == (finished[True].tags, finished[True].revisions)
    assert finished[True].blobs < store.blobs
    requests.delete(where, timeout=5).raise_for_status()
    assert scene.clean() == ""
    assert scene.store() == finished[True]


def test_wait(new_scene: NewScene, finished: Finished) -> None:
    """With gc-wait the collection starts when the upload has ended."""
    scene = new_scene()
    scene.set(gc_wait=30)
    where = open_upload(scene, "base/lib")
    end = threading.Timer(1, requests.delete, [where], {"timeout": 5})
    end.start()
    assert scene.clean() == ""
    end.join()
    assert scene.run
    assert scene.run.result
    assert scene.run.result.notes == []
    assert scene.store() == finished[True]


def test_an_old_upload(new_scene: NewScene, finished: Finished) -> None:
    """An upload that was begun three hours ago is given up: gc-wait does not wait for it."""
    scene = new_scene()
    scene.set(gc_wait=0.2)
    open_upload(scene, "base/lib")
    (begun,) = scene.base_path.glob("**/_uploads/*/startedat")
    os.utime(begun, (time.time() - 3 * 3600,) * 2)
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.result
    assert scene.run.result.notes == []
    assert scene.store() == finished[True]


def blob_path(base_path: Path, digest: str) -> Path:
    hex_ = digest.removeprefix("sha256:")
    return base_path / f"docker/registry/v2/blobs/sha256/{hex_[:2]}/{hex_}"


NEW = make_image([make_layer("in flight", 900), make_layer("in flight, too", 800)])


def push_layers(scene: Scene, image: Image, repository: str = "new/app") -> Callable[[], int]:
    """Pushes all but the manifest; returns what pushes that, and gives the answer."""
    url = f"{scene.registry.url}/v2/{repository}"
    for blob in image.blobs:
        begun = requests.post(f"{url}/blobs/uploads/", timeout=9)
        put = requests.put(begun.headers["Location"], params={"digest": blob.digest}, data=blob.data, timeout=9)
        put.raise_for_status()
    headers = {"Content-Type": image.media_type}
    return lambda: requests.put(f"{url}/manifests/1", data=image.manifest, headers=headers, timeout=9).status_code


@pytest.mark.parametrize(
    ("old", "before", "after"), [("nothing", None, None), ("link", ["true"], None), ("data", None, ["true"])]
)
def test_layers_without_their_manifest(
    new_scene: NewScene, finished: Finished, old: str, before: list[str] | None, after: list[str] | None
) -> None:
    """gc-command is put off where layers are up and their manifest is not, unless both gc-before and gc-after are
    there; the push goes on and is whole."""
    scene = new_scene(cache=True)
    scene.set(gc_before=before, gc_after=after)
    go_on = push_layers(scene, NEW)
    for blob in NEW.blobs if old != "nothing" else ():
        hex_ = blob.digest[7:]
        data, link = f"blobs/sha256/{hex_[:2]}/{hex_}/data", f"repositories/new/app/_layers/sha256/{hex_}/link"
        path = scene.base_path / "docker/registry/v2" / (data if old == "data" else link)
        os.utime(path, (1_500_000_000, 1_500_000_000))
    error = scene.clean()
    assert (
        "3 blobs pushed less than 2 hours ago, or nobody knows when, had no manifest before the collection (new/app)"
        in error
    )
    assert "Not collected after 0 s" in error
    assert all(cure in error for cure in ("gc-wait", "gc-before", "leave gc-command out"))
    assert scene.store().revisions == finished[True].revisions
    assert go_on() == 201
    assert broken(scene.base_path) == []
    assert pulls(scene.registry.url, "new/app", "1", NEW)


def test_layers_whose_manifest_comes(new_scene: NewScene, finished: Finished) -> None:
    """With gc-wait the collection starts when the manifest of the layers has come."""
    scene = new_scene()
    scene.set(gc_wait=60)
    end = threading.Timer(2, push_layers(scene, NEW))
    end.start()
    assert scene.clean() == ""
    end.join()
    assert broken(scene.base_path) == []
    assert scene.store().blobs == finished[True].blobs | {NEW.digest, *(blob.digest for blob in NEW.blobs)}


def test_deleted_since_they_were_pushed(new_scene: NewScene, finished: Finished) -> None:
    """Layers that just came and whose image was deleted, by a run or by others, are no push in flight."""
    scene = new_scene()
    scene.set(gc_before=None, sql={"none": "2=1", "scene": f"{CONDITION} or image_name like 'new/%'"})
    push(scene.registry.url, "new/1", "1", OLD)
    assert scene.clean(gc=False) == ""
    other = make_image([make_layer("by others", 300)])
    push(scene.registry.url, "new/2", "1", other)
    requests.delete(f"{scene.registry.url}/v2/new/2/manifests/{other.digest}", timeout=9).raise_for_status()
    push(scene.registry.url, "new/3", "1", NEW)
    assert scene.clean() == ""
    assert scene.store().blobs == finished[True].blobs


def test_collected_by_others(new_scene: NewScene) -> None:
    """What others deleted and collected since the scan is no loss."""
    scene = new_scene()

    def others() -> None:
        requests.delete(f"{scene.registry.url}/v2/prod/old/manifests/{OLD.digest}", timeout=9).raise_for_status()
        subprocess.run(scene.registry.gc_command, check=True, capture_output=True)

    assert scene.clean(before_apply=others) == ""


PAUSE = "touch made; while [ ! -e go ]; do sleep 0.05; done"


def clean_with(scene: Scene, command: str, meanwhile: Callable[[], object]) -> str:
    """A clean-up with this gc-command alone, which goes on after its `PAUSE` once something was done; its error."""
    scene.set(gc_before=None, gc_after=None, gc_command=["sh", "-c", f"cd {scene.folder}; {command}"])
    errors: list[str] = []
    running = threading.Thread(target=lambda: errors.append(scene.clean()))
    running.start()
    while not (scene.folder / "made").exists():
        assert running.is_alive()
        time.sleep(0.05)
    meanwhile()
    (scene.folder / "go").touch()
    running.join()
    return errors[0]


def test_pushed_while_gc_command_ran(new_scene: NewScene) -> None:
    """A push beside gc-command, of what it took, is told: its answer was 201, and it can't be pulled."""
    scene = new_scene(cache=True)
    collect = " ".join(scene.registry.gc_command)
    for blob in OLD.blobs:  # the cache knows them
        requests.head(f"{scene.registry.url}/v2/prod/old/blobs/{blob.digest}", timeout=9).raise_for_status()
    error = clean_with(scene, f"{collect}; {PAUSE}", lambda: push(scene.registry.url, "prod/old", "again", OLD))
    assert f"such as prod/old@{OLD.digest}, came while gc-command ran" in error
    push(scene.registry.url, "prod/old", "again", OLD)  # as the sentence says
    assert pulls(scene.registry.url, "prod/old", "again", OLD)
    assert broken(scene.base_path) == []


def test_pushed_between_mark_and_sweep_by_the_api(new_scene: NewScene) -> None:
    """By the API, too, what came while gc-command ran and lacks what it took is told."""
    scene = new_scene(store=False)
    taken = " ".join(str(blob_path(scene.base_path, blob.digest)) for blob in OLD.blobs if blob != BASE)

    def put() -> None:
        path = f"{scene.registry.url}/v2/prod/old/manifests/again"
        answer = requests.put(path, data=OLD.manifest, headers={"Content-Type": OLD.media_type}, timeout=9)
        assert answer.status_code == 201

    error = clean_with(scene, f"{PAUSE}; rm -r {taken}", put)
    assert f"1 manifest, such as prod/old@{OLD.digest}, came while gc-command ran and lack" in error


def test_nothing_but_a_push(new_scene: NewScene) -> None:
    """Where nothing is to be collected a push in flight is no error."""
    scene = new_scene()
    scene.set(gc_before=None, gc_after=None)
    assert scene.clean() == ""
    push_layers(scene, NEW)
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.result
    assert not scene.run.result.collection.ran


@pytest.mark.parametrize(
    ("store", "exit_code"), [(True, 0), (True, 3), (False, 1)], ids=["store", "store fails", "api"]
)
def test_lost_layer(new_scene: NewScene, store: bool, exit_code: int) -> None:
    """A collection that takes a config and a layer of an image that stays fails the run, which names the image."""
    scene = new_scene(store=store)
    lost = [blob.digest for blob in LATEST.blobs if blob != BASE]
    taken = " ".join(str(blob_path(scene.base_path, digest)) for digest in lost)
    scene.set(gc_command=["sh", "-c", f"rm -r {taken}; exit {exit_code}"])
    error = scene.clean()
    assert any(digest in error for digest in lost)
    assert f"{len(lost)} blobs that survivors need" if store else f"{len(lost)} things that should have" in error
    assert "(prod/app:latest)" in error if store else "such as prod/app@" in error
    assert record(scene)["status"] == "failed"
    assert ("gc-command failed" in error) == bool(exit_code)


REVISION = f"base/lib/_manifests/revisions/sha256/{LIBRARY.digest.removeprefix('sha256:')}"


@pytest.mark.parametrize(
    ("store", "path", "name"),
    [
        (True, "base/lib/_manifests/tags/1", "base/lib:1"),
        (False, "prod/app/_manifests/tags/stable", "prod/app:stable"),
        (True, REVISION, "base/lib"),
        (False, REVISION, "base/lib"),
    ],
)
def test_lost_link(new_scene: NewScene, store: bool, path: str, name: str) -> None:
    """A tag or manifest that goes without being planned fails the run, which names it, and what else is lost."""
    scene = new_scene(store=store)
    layer = LATEST.blobs[2].digest
    lost = f"{repositories(scene.base_path) / path} {blob_path(scene.base_path, layer)}"
    scene.set(gc_command=scene.collect_after(f"rm -r {lost}"))
    error = scene.clean()
    assert "that should have survived are gone, such as" in error
    assert name in error
    if store:
        assert "blobs that survivors need are gone from the store" in error
    assert record(scene)["status"] == "failed"


@pytest.mark.parametrize("store", [True, False], ids=["store", "api"])
def test_cache_that_hides_a_loss(new_scene: NewScene, store: bool) -> None:
    """A layer that the registry's cache still claims is seen to be gone."""
    scene = new_scene(store=store, cache=True)
    layer = LATEST.blobs[2].digest
    requests.head(f"{scene.registry.url}/v2/prod/app/blobs/{layer}", timeout=5).raise_for_status()
    scene.set(gc_command=scene.collect_after(f"rm -r {blob_path(scene.base_path, layer)}"))
    assert layer in scene.clean()


def test_what_the_api_does_not_show(new_scene: NewScene, finished: Finished) -> None:
    """Over the API a manifest without a tag may hold what was to be freed: that is told, and no failure."""
    scene = new_scene(store=False)
    hidden = make_image([OLD.blobs[2], make_layer("hidden", 900)], created=1_500_000_000)
    push(scene.registry.url, "prod/old", None, hidden)
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.result
    assert any("the bytes predicted are the most that can be freed" in note for note in scene.run.result.notes)
    assert scene.store().revisions == finished[False].revisions | {("prod/old", hidden.digest)}


def test_what_is_needed_again() -> None:
    """Of what was expected to be freed and is no more it is told how much that is, not of what came to be."""
    was, now = (
        pd.DataFrame({"blob_hash": [f"sha256:{size}" for size in sizes], "blob_size": sizes})
        for sizes in ([1, 20, 300], [20, 4000])
    )
    (note,) = needed_again(was, now)
    assert note.startswith("301 bytes that were predicted were not freed (2 blobs)")
    assert needed_again(now, pd.concat([was, now])) == []


@pytest.mark.parametrize("what", ["an index", "by sha512"])
def test_pushed_between_mark_and_sweep(new_scene: NewScene, what: str) -> None:
    """What came while gc-command ran, and of which that took the very manifest, or a layer that it names by another
    digest, is told; what was taken and is there again by the end is not."""
    scene = new_scene()
    url = scene.registry.url

    def come() -> None:
        if what == "an index":
            push(url, "prod/app", "again", make_index([LATEST]))
        else:
            push_image_by(url, "prod/app", "again", "between", "sha512")

    before = {path.name for path in blobs(scene)}
    script = f"{PAUSE}; {' '.join(scene.registry.gc_command)}; for one in $(cat taken); do rm -r $one; done"

    def meanwhile() -> None:
        come()
        new = [path for path in blobs(scene) if path.name not in before]
        assert new
        (scene.folder / "taken").write_text("\n".join(map(str, new)))

    error = clean_with(scene, script, meanwhile)
    assert "1 manifest, such as prod/app@" in error
    assert "came while gc-command ran and lack what it took" in error


def blobs(scene: Scene) -> list[Path]:
    """The folders of its blobs."""
    return [path.parent for path in (scene.base_path / "docker/registry/v2/blobs/sha256").glob("*/*/data")]


def test_brought_again_before_the_last_look(new_scene: NewScene) -> None:
    """What gc-command took, and a client has brought anew with its image by the end, is no loss."""
    scene = new_scene(cache=False)
    collect = " ".join(scene.registry.gc_command)
    error = clean_with(scene, f"{collect}; {PAUSE}", lambda: push(scene.registry.url, "prod/old", "again", OLD))
    assert error == ""
    assert pulls(scene.registry.url, "prod/old", "again", OLD)


def test_what_landed_in_the_wait_is_judged_as_well(new_scene: NewScene) -> None:
    """Where a push that gc-command would break ends while it is waited for, that is not run."""
    scene = new_scene()
    scene.set(gc_wait=60, gc_before=None, gc_after=None)
    end = push_layers(scene, NEW)

    def land() -> None:
        push_image_by(scene.registry.url, "new/other", "1", "in the wait", "sha512")
        assert end() == 201

    later = threading.Timer(2, land)
    later.start()
    error = scene.clean()
    later.join()
    assert "new/other" in error
    assert "nothing was collected" in error
    assert served(scene.registry.url, "new/other", "1")


def test_an_image_that_was_broken_before(new_scene: NewScene) -> None:
    """An image that lacked a layer before the run did not come while gc-command ran: the run ends well."""
    scene = new_scene()
    shutil.rmtree(blob_path(scene.base_path, LATEST.blobs[-1].digest))
    assert scene.clean() == ""


def test_layers_brought_again_since_their_image_was_deleted(
    new_scene: NewScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that come anew to where their image has just been deleted are a push in flight: gc-command is put off."""
    scene, come = new_scene(), list[Callable[[], int]]()
    scene.set(gc_before=None, gc_after=None)

    def bring() -> None:
        time.sleep(1.1)  # what came in the second of the deletion was of use until then
        come.append(push_layers(scene, OLD, "prod/old"))

    at(monkeypatch, "deleted", bring)
    assert "had no manifest before the collection (prod/old)" in scene.clean()
    (go_on,) = come
    assert go_on() == 201
    assert pulls(scene.registry.url, "prod/old", "1", OLD)
    assert broken(scene.base_path) == []


def looked(
    small: Small,
    condition: str,
    collected: Collection,
    stored: set[str],
    *,
    now: Small | None = None,
    links: dict[str, int] | None = None,
) -> Verdict:
    """The verdict on a clean-up that deleted as planned, by what is ``stored`` after it, is read ``now``, and when what
    was linked last."""
    plan, blobs = regdata.plan(small.inventory(), condition), small.columns["blobs"]
    manifests = {Manifest(*pair) for pair in pairs(plan.manifests, "manifest_hash")}
    gone = Members(manifests, {Tag(*pair) for pair in pairs(plan.tags, "tag_name")})
    sizes = dict(zip(blobs["blob_hash"], blobs["blob_size"], strict=True))
    store = SimpleNamespace(
        blob_sizes=lambda: {digest(name): sizes[digest(name)] for name in stored},
        split=lambda parts: [Part(("a",))],
        read=lambda part: numbered((now or small).columns),
        links=lambda repository: links or {},
    )
    site: Any = SimpleNamespace(store=store, lost=lambda tags, manifests, blobs: [])
    return verify(plan, gone, plan.blobs, collected, site)


@pytest.mark.parametrize(
    ("what", "notes", "errors"),
    [
        ("it is nobody's", 0, 1),
        ("it was linked before the scan", 0, 1),
        ("it was linked in the second of the scan", 1, 0),
        ("an image needs it", 1, 0),
        ("an image needs it by another digest", 1, 0),
        ("others took it", 0, 0),
        ("it was freed, and came again", 0, 0),
        ("it was set aside, and came again", 0, 0),
    ],
)
def test_what_was_predicted_and_is_there(what: str, notes: int, errors: int) -> None:
    """It is an error that a collection left it, but a note where something needs it by now, or it was linked since the
    scan; and neither where it was freed, or set aside, and came again, nor where others took it."""
    small, now, blob = Small(), Small(), digest("x")
    for made in (small, now):
        made.push("a", "kept", days=9, base=100)
    small.push("a", "old", days=9, x=50)
    if what == "an image needs it":
        now.push("a", "new", days=0, x=50)
    if what.endswith("another digest"):
        now.row("oddities", image_name="a", what="alias", hash=f"sha512:{'0' * 128}", target=blob)
    freed = {digest("aold"): 1, digest("aoldc"): 10} | ({blob: 50} if "freed" in what else {})
    collected = Collection(True, 0, freed=freed, set_aside={blob: 50} if "aside" in what else {})
    stored = {"akept", "akeptc", "base"} | ({"x"} if "others" not in what else set())
    links = {blob: NOW - ("before" in what)} if "linked" in what else {}
    found = looked(small, "tag_name = 'old'", collected, stored, now=now, links=links)
    assert (len(found.notes), len(found.errors)) == (notes, errors)
    said = "50 bytes that were predicted were not freed (1 blobs)"
    assert all(one.startswith(said) for one in found.notes + found.errors)


def test_what_was_looked_for_and_what_else_was_freed() -> None:
    """It is told how many tags, manifests, and configs and layers that stay were looked for; and how much was freed
    that came after the scan, so that nobody wonders why it is more than predicted."""
    small = Small()
    small.push("a", "kept", days=9, base=100, more=7)
    small.row("tags", image_name="a", tag_name="same", tag_hash=digest("akept"), pushed=NOW - DAY)
    small.push("a", "old", days=9, x=50)
    freed = {digest("aold"): 1, digest("aoldc"): 10, digest("x"): 50, digest("late"): 5}
    collected = Collection(True, 0, freed=freed)
    found = looked(small, "tag_name = 'old'", collected, {"akept", "akeptc", "base", "more"})
    assert found.looked_at == {"tags": 2, "manifests": 1, "blobs": 3}
    (note,) = found.notes
    assert note.startswith("5 bytes more than predicted were freed: 1 blobs came after the scan")
    assert (found.errors, found.stored) == ([], 118)


def test_who_needs_what_is_gone() -> None:
    """Of a blob that what stays needs no tag is named that went: its image is not to be pushed again."""
    small = Small()
    small.push("a", "gone", days=9, base=100)
    small.push("a", None, days=0, base=100)  # its tag is still to come
    collected = Collection(True, 0, freed={digest("agone"): 1, digest("agonec"): 10})
    (error,) = looked(small, "tag_name = 'gone'", collected, {"aNone", "aNonec"}).errors
    assert f"1 blobs that survivors need are gone from the store, such as {digest('base')}: push" in error


def test_named_by_sha512_while_gc_command_ran(new_scene: NewScene) -> None:
    """An image that comes beside gc-command, and names its layers by another digest than they are stored by, is whole:
    nobody is told to push it again."""
    scene = new_scene()
    collect = " ".join(scene.registry.gc_command)
    come = partial(push_image_by, scene.registry.url, "prod/app", "again", "beside", "sha512")
    assert clean_with(scene, f"{collect}; {PAUSE}", come) == ""
    assert served(scene.registry.url, "prod/app", "again")


def test_pushed_while_gc_command_ran_and_nothing_was_stopped(new_scene: NewScene) -> None:
    """A push beside gc-command is looked for also where there are a gc-before and a gc-after: they may not have stopped
    the registry."""
    scene = new_scene(cache=True)
    for blob in OLD.blobs:  # the cache knows them
        requests.head(f"{scene.registry.url}/v2/prod/old/blobs/{blob.digest}", timeout=9).raise_for_status()
    collect = " ".join(scene.registry.gc_command)
    scene.set(gc_before=["true"], gc_after=["true"])
    scene.set(gc_command=["sh", "-c", f"{collect} && {pusher(scene, OLD)}"])
    assert f"such as prod/old@{OLD.digest}, came while gc-command ran" in scene.clean()


def test_who_needs_what_is_gone_and_lost_no_more_than_a_tag() -> None:
    """Of a blob that is gone a tag is named that stays, not one that was taken from the same manifest."""
    small = Small()
    small.push("a", "1", days=9, base=100)
    small.row("tags", image_name="a", tag_name="2", tag_hash=digest("a1"), pushed=NOW - 9 * DAY)
    (error,) = looked(small, "tag_name = '1'", Collection(True, 0, freed={}), {"a1", "a1c"}).errors
    assert f"such as {digest('base')} (a:2): push" in error


def test_what_a_collection_left_that_failed() -> None:
    """Where gc-command failed that is the error; that it has not freed what was predicted needs no second one."""
    small = Small()
    small.push("a", "old", days=9, x=50)
    found = looked(small, "tag_name = 'old'", Collection(True, 3, freed={}), {"aold", "aoldc", "x"})
    assert (found.notes, found.errors, found.stored) == ([], [], 61)


@pytest.mark.parametrize(
    ("by", "cure"),
    [("gc-command", "is gc-command's configuration that of this registry?"), ("regdata itself", "run again")],
)
def test_what_helps_where_something_was_left(by: str, cure: str) -> None:
    """It depends on who collected: gc-command may be about another store; regdata itself is to run again."""
    small = Small()
    small.push("a", "old", days=9, x=50)
    collected = Collection(True, 0, freed={}, by=by)
    (error,) = looked(small, "tag_name = 'old'", collected, {"aold", "aoldc", "x"}, now=Small()).errors
    assert error == f"61 bytes that were predicted were not freed (3 blobs), though nothing refers to them: {cure}"


def test_the_same_image_is_there_again() -> None:
    """Where the very image that was deleted was pushed again, what the collection left of it is no error."""
    small, now = Small(), Small()
    small.push("a", "old", days=9, x=50)
    now.push("a", "old", days=0, x=50)
    collected = Collection(True, 0, freed={})
    found = looked(small, "tag_name = 'old'", collected, {"aold", "aoldc", "x"}, now=now)
    assert found.errors == []
    (note,) = found.notes
    assert note.startswith("61 bytes that were predicted were not freed (3 blobs)")


def test_what_is_looked_for_without_a_collection() -> None:
    """Where nothing was collected the tags and manifests that stay were looked for, and the record says how many; no
    blob can have gone."""
    small = Small()
    small.push("a", "kept", days=9, base=100)
    small.push("a", "old", days=9, x=50)
    found = looked(small, "tag_name = 'old'", Collection(), {"akept", "akeptc", "base"})
    assert found == Verdict(looked_at={"tags": 1, "manifests": 1, "blobs": 0})
