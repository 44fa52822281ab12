"""Runs that collect by themselves, killed amid it, and the run after them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regdata.cleaning.cleanup import apply
from regdata.collecting.own import settle_removals
from regdata.config import load_config
from regdata.errors import CleanupError
from regdata.inventory.scan import scan
from regdata.planning.plan import plan
from regdata.records.reading import read_events
from regdata.sources.aside import NAME, Aside
from regdata.sources.paths import REMOVED, blob_path, layer_path
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from tests.cleaning.test_kill import KILLED, Runner, lines_of, runner
from tests.support.folder import Folder
from tests.support.scene import LATEST, SHARED, NewScene, Scene, broken

__all__ = ["runner"]
Conf = Callable[..., Path]


@pytest.mark.long
def test_killed_while_it_collects(runner: Runner, new_scene: NewScene) -> None:
    """Killed after any line of its collection's journal, another run ends as an undisturbed one does. Of the lines the
    first of every other kind; all of them with EVERY_LINE=1."""

    def fresh() -> Scene:
        made = new_scene(cache=True)
        made.collects_itself()
        return made

    scene = fresh()
    assert runner(scene.conf) == 0
    after = scene.store()
    journal = list(read_events(scene.records()[0]))
    lines = [event["event"] for event in journal]
    first = lines.index("unlinking")
    for number in (first + number for number in lines_of(journal[first:-1])):
        scene = fresh()
        assert runner(scene.conf, "line", number) == KILLED
        assert after.within(scene.store())
        assert broken(scene.base_path) == []
        assert runner(scene.conf) == 0, lines[number - 1]
        assert scene.store() == after, lines[number - 1]
        assert not (scene.base_path / NAME).exists()
        scene.registry.stop()


def test_what_a_killed_run_had_taken_comes_back_first(new_scene: NewScene) -> None:
    """A clean-up from Python, too, puts it back; where its plan does not know of it, another plan is needed."""
    scene = new_scene()
    scene.collects_itself()
    config = load_config(scene.conf)

    def take(*paths: str) -> None:
        aside = Aside(Storage(scene.base_path))
        aside.open("killed")
        batch = aside.batch("killed", 1)
        for path in paths:
            assert batch.take(path)

    layer = LATEST.blobs[-1].digest
    before = scene.store()
    take(blob_path(layer), layer_path("prod/app", layer))
    planned = plan(scan(config), "2=1")
    with pytest.raises(CleanupError, match=r"1 blob came back since the plan was made, .*scan and plan again"):
        apply(planned, config)
    assert scene.store() == before
    planned = plan(scan(config), "tag_name = 'old'")
    take(layer_path("prod/app", layer))
    assert apply(planned, config).errors == []
    assert broken(scene.base_path) == []


def test_killed_while_it_removes_tags(scene: Scene) -> None:
    """A tag that a killed run had taken out of its place and not looked at is back before anything else, whether the
    run was killed before the scan or after it: what it is on is no orphan then, and whole."""
    tags = {"latest": LATEST, "stable": SHARED}
    manifests = scene.base_path / "docker/registry/v2/repositories/prod/app/_manifests"

    def take(tag: str) -> None:
        (manifests / "tags" / tag).rename(manifests / f"{REMOVED}{tag}")

    take("latest")
    assert scene.clean(before_apply=lambda: take("stable")) == ""
    assert broken(scene.base_path) == []
    assert {("prod/app", tag, image.digest) for tag, image in tags.items()} <= scene.store().tags
    assert ("prod/app", "2.0", SHARED.digest) not in scene.store().tags  # nothing has changed for it


@pytest.mark.parametrize("how", ["own", "gc-command"])
def test_killed_while_it_tries_the_registry_out(runner: Runner, scene: Scene, how: str) -> None:
    """What a run had stored to try the registry out, and was killed over, is removed by the next run, before it scans;
    what a record says of other blobs is not believed."""
    if how == "gc-command":
        scene.set(gc_command=scene.registry.gc_command)
    before = scene.store()
    assert runner(scene.conf, "upload") == KILLED
    left = scene.store().blobs - before.blobs
    assert len(left) == 1
    (folder,) = scene.records()
    with (folder / "journal.jsonl").open("a") as journal:
        for digest in before.blobs:
            journal.write(json.dumps({"event": "probing", "image": "prod/app", "digest": digest}) + "\n")
    assert runner(scene.conf) == 0
    assert not left & scene.store().blobs
    assert broken(scene.base_path) == []
    layers = scene.base_path / "docker/registry/v2/repositories/prod/app/_layers/sha256"
    assert not left & {f"sha256:{name}" for name in os.listdir(layers)}
    record = json.loads((scene.records()[1] / "record.json").read_bytes())
    assert (record["status"], record["bytes_freed"]) == ("ok", record["bytes_predicted"])


def test_killed_before_gc_after(runner: Runner, new_scene: NewScene) -> None:
    """Killed when all was collected, and before it is known whether the registry was restarted, all of it is put back;
    the next run starts the registry, and collects."""
    scene = new_scene(cache=False)
    scene.set(gc_command=None)
    before = scene.store()
    assert runner(scene.conf) == 0
    lines = [event["event"] for event in read_events(scene.records()[0])]
    scene = new_scene(cache=False)
    scene.set(gc_command=None)
    assert runner(scene.conf, "line", lines.index("collected") + 1) == KILLED
    assert scene.stopped.exists()
    while (scene.base_path / NAME).exists():  # its guard is at work
        time.sleep(0.05)
    assert scene.store().blobs == before.blobs
    assert runner(scene.conf) == 0
    assert not scene.stopped.exists()
    assert not (scene.base_path / NAME).exists()
    assert scene.store().blobs < before.blobs


def test_a_tag_that_is_being_pushed_while_it_is_taken_away(tmp_path: Path) -> None:
    """A tag whose link a push has just opened, and not written yet, is waited for: it comes back on what is pushed,
    unless nobody can be at it any more."""
    folder = Folder(tmp_path / "store")
    digest, other = folder.image("app", "1"), folder.image("app", config={"os": "other"})
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path / "store")}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
    site, opened = Site.open(load_config(tmp_path)), tmp_path / "opened"
    os.link(folder.manifests("app") / "tags/1/current/link", opened)  # as an open file is the same one
    assert site.store.untag("app", "1", digest, None)
    opened.write_text("")
    assert settle_removals(site, last=False) == []
    opened.write_text(other)
    assert settle_removals(site, last=False) == [("app", "1")]
