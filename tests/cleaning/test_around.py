"""What others do around the steps of a run: a tag that comes to be protected, links that break, pushes beside the
collection; and a run that ends between two deletions."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    Image,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    referrers_tag,
    signature_tag,
)
from regdata.notebook import run
from regdata.records.record import Record
from regdata.sources.site import ApiSite
from tests.support.odd import push_blob
from tests.support.scene import (
    BASE,
    INDEX,
    LATEST,
    OLD,
    ORPHAN,
    Finished,
    NewScene,
    Scene,
    broken,
    read_store,
    repositories,
)


def became(scene: Scene) -> dict[str, str]:
    """Each tag of the plan by its outcome."""
    assert scene.run
    assert scene.run.result
    tags = scene.run.result.tags
    return dict(zip(tags["image_name"] + ":" + tags["tag_name"], tags["outcome"], strict=True))


def tags_of(scene: Scene, image: str) -> set[str]:
    return {tag for name, tag, _ in scene.store().tags if name == image}


@pytest.mark.parametrize("store", [True, False], ids=["store", "api"])
def test_a_tag_that_comes_to_be_protected(new_scene: NewScene, store: bool) -> None:
    """A tag that `protect` matches only when its turn comes stays, with all that it needs, and be it one that was to go
    alone; and so does an orphan that is pushed again. The others go."""
    scene = new_scene(store=store)

    def push_both() -> None:
        push(scene.registry.url, "prod/app", "canary", LATEST)
        push(scene.registry.url, "prod/app", None, ORPHAN)

    scene.set(protect="tag_name in ('1.0', '2.0') and 'canary' in (select tag_name from images)")
    assert scene.clean(before_apply=push_both) == ""
    signature = signature_tag(INDEX)
    assert {"1.0", "2.0", signature, "canary"} < tags_of(scene, "prod/app")
    assert broken(scene.base_path) == []
    assert {("prod/app", one.digest) for one in (INDEX, *INDEX.children, ORPHAN)} <= scene.store().revisions
    assert scene.run
    assert scene.run.record.facts["orphans_deleted"] == 0
    assert became(scene)["prod/app:1.0"] == "moved"
    assert became(scene)["prod/app:2.0"] == ("moved" if store else "kept")
    assert became(scene)["prod/old:old"] == "deleted"


@pytest.mark.parametrize("when", ["before_scan", "before_apply"])
def test_a_broken_tag_link(new_scene: NewScene, when: str) -> None:
    """Beside a tag whose link is empty no manifest goes, be it found by the scan or after it; elsewhere all goes on."""
    scene = new_scene()
    link = repositories(scene.base_path) / "prod/app/_manifests/tags/stable/current/link"
    before = scene.store()
    assert scene.clean(**{when: lambda: link.write_text("")}) == ""  # type: ignore[arg-type]
    gone = scene.store().lacks(before)
    assert gone.revisions == {("prod/old", OLD.digest)}
    assert gone.blobs == {OLD.digest, OLD.blobs[0].digest, OLD.blobs[2].digest}
    # A tag goes alone; not one that was to go with its manifest.
    alone = {"prod/app:2.0", *(["prod/app:1.0"] if when == "before_scan" else [])}
    assert {name for name, outcome in became(scene).items() if outcome == "untagged"} == alone
    assert became(scene)["prod/old:old"] == "deleted"


def pusher(scene: Scene, image: Image) -> str:
    """A command that pushes an image to prod/old:old, as somebody elsewhere may at that time."""
    script = scene.folder / "push.py"
    script.write_text(
        "from regdata.demo.samples import Blob, Image, push\n"
        f"push({scene.registry.url!r}, 'prod/old', 'old', {image!r})\n"
    )
    return f"{sys.executable} {script}"


@pytest.mark.parametrize("moment", ["gc-before", "gc-command"])
def test_pushed_again_beside_the_collection(new_scene: NewScene, moment: str) -> None:
    """A deleted image that is pushed again before the collection, or beside it, is whole; the difference is told."""
    scene = new_scene()
    stop, collect = f"touch {scene.stopped}", " ".join(scene.registry.gc_command)
    if moment == "gc-before":
        scene.set(gc_before=["sh", "-c", f"{pusher(scene, OLD)} && {stop}"])
    else:
        scene.set(gc_command=["sh", "-c", f"{collect} && {pusher(scene, OLD)}"])
    assert scene.clean() == ""
    assert ("prod/old", "old", OLD.digest) in scene.store().tags
    assert broken(scene.base_path) == []
    assert scene.run
    result = scene.run.result
    assert result
    assert result.bytes_freed is not None
    missing = sum(len(data) for data in (OLD.manifest, OLD.blobs[0].data, OLD.blobs[2].data))
    assert result.bytes_predicted - result.bytes_freed == missing
    assert result.bytes_expected == result.bytes_freed + (missing if moment == "gc-command" else 0)
    assert any(f"{missing} bytes that were predicted were not freed (3 blobs)" in note for note in result.notes)


RAN = {"event": "ran", "step": "gc-command", "exit_code": 0}


@pytest.mark.parametrize("own", [True, False], ids=["regdata", "gc-command"])
def test_a_blob_uploaded_again_beside_the_collection(
    own: bool, new_scene: NewScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is uploaded anew after it was freed, by whatever digest, is no fault of the collection."""
    scene = new_scene(cache=True)
    scene.set(gc_command=None if own else scene.registry.gc_command, gc_before=None, gc_after=None)
    write = Record.journal

    def journal(record: Record, *events: dict[str, Any]) -> None:
        write(record, *events)
        if any(event["event"] == "collected" or event == RAN for event in events):
            for blob, algorithm in zip(OLD.blobs, ("sha256", "sha512", "sha256"), strict=True):
                push_blob(scene.registry.url, "prod/new", blob.data, algorithm)

    monkeypatch.setattr(Record, "journal", journal)
    assert scene.clean() == ""
    assert ("prod/old", "old", OLD.digest) not in scene.store().tags
    assert broken(scene.base_path) == []


def test_gc_after_failed_last_time(new_scene: NewScene, finished: Finished) -> None:
    """Where gc-after failed the registry may be stopped: the next run begins with it, before it scans; until then a
    restart is needed, which is said."""
    scene = new_scene()
    start = scene.settings["gc-after"]
    scene.set(gc_after=["sh", "-c", "exit 5"])
    assert "gc-after failed with exit code 5" in scene.clean()
    _, told = scene.records()[0].joinpath("record.json").read_text().split("does not answer after the collection")
    assert "restart the registry (or flush its Redis), then run again" in told
    assert scene.stopped.exists()
    scene.set(gc_after=start)
    assert scene.clean() == ""
    assert scene.store() == finished[True]


def test_what_was_left_by_the_api(new_scene: NewScene, finished: Finished) -> None:
    """Over the API, too, a run that deletes nothing collects what a run without collection left."""
    scene = new_scene(store=False)
    blobs = scene.store().blobs
    assert scene.clean(gc=False) == ""
    assert scene.store().blobs == blobs
    scene.set(sql={"none": "2=1", "scene": "2=1"})
    assert scene.clean() == ""
    assert scene.store() == finished[False]


@pytest.mark.parametrize("own", [True, False], ids=["regdata", "gc-command"])
def test_empty_repositories_with_layers(new_scene: NewScene, own: bool) -> None:
    """A repository that got a layer an hour ago stays, whatever collects: its manifest may be on its way."""
    scene = new_scene()
    if own:
        scene.set(gc_before=None, gc_command=None, gc_after=None)
    layer = BASE.digest.removeprefix("sha256:")
    for hours in (1, 3):
        link = repositories(scene.base_path) / f"new/{hours}/_layers/sha256/{layer}/link"
        link.parent.mkdir(parents=True)
        link.write_text(BASE.digest)
        os.utime(link, (time.time() - hours * 3600,) * 2)
    assert scene.clean() == ""
    assert [path.name for path in (repositories(scene.base_path) / "new").iterdir()] == ["1"]


def test_a_repository_that_is_empty_by_the_end_alone(new_scene: NewScene) -> None:
    """One in which an upload was open when regdata began to collect is left to the next run: nobody has taken its links
    away, and the registry's cache may claim them."""
    scene = new_scene()
    folder, layer = repositories(scene.base_path) / "new/busy", BASE.digest.removeprefix("sha256:")
    for path, text in ((f"_layers/sha256/{layer}/link", BASE.digest), ("_uploads/1/startedat", "2020-01-01T00:00:00Z")):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
        os.utime(folder / path, (time.time() - 3 * 3600,) * 2)
    scene.set(gc_before=["rm", "-r", str(folder / "_uploads")], gc_command=None, gc_after=None)
    assert scene.clean() == ""
    assert (folder / f"_layers/sha256/{layer}/link").exists()
    scene.set(gc_before=None)
    assert scene.clean() == ""
    assert not folder.exists()


def test_a_run_that_failed_leaves_empty_repositories(new_scene: NewScene) -> None:
    """They go with the first run that ends well."""
    scene = new_scene()
    (repositories(scene.base_path) / "new/empty/_layers").mkdir(parents=True)
    os.utime(repositories(scene.base_path) / "new/empty/_layers", (time.time() - 3 * 3600,) * 2)
    scene.set(gc_command=["false"])
    assert "exit code 1" in scene.clean()
    assert (repositories(scene.base_path) / "new/empty").exists()
    scene.set(gc_command=scene.registry.gc_command)
    assert scene.clean() == ""
    assert not (repositories(scene.base_path) / "new").exists()


def first_of_all() -> Image:
    """An image with a smaller digest than what is attached to it has, so that nothing else puts it last."""
    for number in count():
        image = make_image([make_layer(("first", number), 100)])
        if image.digest < min(one.digest for one in attached(image).values()):
            return image
    raise AssertionError


def attached(image: Image) -> dict[str | None, Image]:
    """By tag: its signature, and its SBOM with the tag of its referrers."""
    sbom = make_referrer(image)
    return {signature_tag(image): make_signature(image), None: sbom, referrers_tag(image): make_index([sbom])}


@pytest.mark.parametrize("done", [1, 2, 3])
def test_ended_between_two_deletions(
    registry: LocalRegistry, conf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """With one manifest at a time, over the API: what is attached goes first, so that another run finds the rest."""
    image = first_of_all()
    for tag, one in {"1": image, **attached(image)}.items():
        push(registry.url, "app", tag, one)
    push(registry.url, "other", "kept", LATEST)
    monkeypatch.setattr(ApiSite, "batch", 1)
    path = conf(registry, registry={"url": registry.url}, sql={"app": "tag_name = '1'"})
    with monkeypatch.context() as patched:
        interrupt_after(patched, done)
        with pytest.raises(KeyboardInterrupt):
            clean(path)
    halfway = read_store(registry.base_path)
    assert len(halfway.revisions) == 5 - done
    assert ("app", "1", image.digest) in halfway.tags
    clean(path)
    after = read_store(registry.base_path)
    assert (set(after.tags), set(after.revisions)) == ({("other", "kept", LATEST.digest)}, {("other", LATEST.digest)})


def interrupt_after(patched: pytest.MonkeyPatch, deletions: int) -> None:
    """A Ctrl-C when so many deletions are in the journal."""
    journal, left = Record.journal, [None] * deletions

    def write(record: Record, *events: dict[str, Any]) -> None:
        journal(record, *events)
        for event in events:
            if left and event["event"] == "deleted":
                left.pop()
                if not left:
                    raise KeyboardInterrupt

    patched.setattr(Record, "journal", write)


def clean(conf: Path) -> None:
    """The steps of delete.ipynb."""
    this_run = run.start(sql_id="app", conf=str(conf))
    this_run.scan()
    this_run.plan()
    this_run.apply()
    this_run.finish()
