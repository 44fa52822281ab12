"""A collection of regdata's own, or the registry's, between gc-before and gc-after."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from regdata.collecting.own import check_collector, collect_own
from regdata.config import load_config
from regdata.demo.samples import make_image, make_layer, push
from regdata.errors import RegistryError
from regdata.records.reading import PastRun, read_events
from regdata.records.record import Record
from regdata.sources.aside import NAME
from regdata.sources.site import Site
from tests.collecting.test_sweep import has, pulls
from tests.support.fakes import FakeRegistry, serve
from tests.support.helpers import age, store_bytes
from tests.support.proxy import Fault
from tests.support.scene import OLD, NewScene, Scene, broken, repositories
from tests.support.small import Small

Conf = Callable[..., Path]


def test_stopped_around_it(new_scene: NewScene) -> None:
    """With gc-before and gc-after nobody is waited for or asked, and manifests' bytes go, too, where the registry knows
    nothing afterwards of what went: it was restarted, or keeps no cache. A link that an earlier collection left without
    its data goes as well, and is told."""
    scene = new_scene(cache=False)
    scene.set(gc_command=None)
    dangling = repositories(scene.base_path) / "prod/app/_layers/sha256" / ("e" * 64) / "link"
    dangling.parent.mkdir()
    dangling.write_text(f"sha256:{'e' * 64}")
    age(dangling.parent, 3 * 86400)
    size = store_bytes(scene.base_path)
    assert scene.clean() == ""
    (folder,) = scene.records()
    record = json.loads((folder / "record.json").read_bytes())
    assert record["bytes_freed"] == record["bytes_predicted"] == size - store_bytes(scene.base_path)
    assert not scene.stopped.exists()
    assert not dangling.exists()
    assert record["links_healed"] == 1
    assert any("1 link without data" in note for note in record["notes"])


@pytest.mark.parametrize("own", [True, False], ids=["own", "gc-command"])
def test_not_restarted_by_gc_after(new_scene: NewScene, own: bool) -> None:
    """Where gc-before and gc-after keep pushes off and don't restart the registry, manifests' bytes stay, and what was
    collected can be pushed again, by others, too: it pulls."""
    scene = new_scene(cache=True)
    url = scene.registry.url
    if own:
        scene.set(gc_command=None)
        assert all(has(url, "prod/old", blob) for blob in OLD.blobs)  # else manifests alone are known to the cache
    size = store_bytes(scene.base_path)
    assert scene.clean() == ""
    freed = size - store_bytes(scene.base_path)
    other = make_image([OLD.blobs[-1], make_layer("other", 900)], created=1)
    for name in ("prod/old", "prod/new"):
        for tag, image in (("other", other), ("old", OLD)):
            push(url, name, tag, image)
            assert pulls(url, name, tag, image)
    assert broken(scene.base_path) == []
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert any("gc-after did not restart the registry" in note for note in record["notes"])
    assert record["bytes_predicted"] > record["bytes_freed"] == freed > 0
    assert not (scene.base_path / NAME).exists()


def test_not_restarted_and_not_to_be_collected_beside_pushes(new_scene: NewScene) -> None:
    """Where gc-after did not restart a registry that can't be collected while it runs nothing is collected."""
    scene = new_scene(cache=True)
    scene.set(gc_command=None)
    scene.proxy.on("PUT", "/manifests/sha256:", Fault(201))  # it takes what lacks its parts
    blobs = scene.store().blobs
    error = scene.clean()
    assert "gc-after did not restart the registry" in error
    assert "It can't be collected while it runs, either" in error
    assert scene.store().blobs == blobs


def test_a_failing_gc_before_and_no_gc_after(scene: Scene) -> None:
    """Where gc-before fails nothing is collected, whether or not there is a gc-after."""
    scene.set(gc_before=["sh", "-c", "echo can not; exit 4"])
    blobs = scene.store().blobs
    assert "exit code 4: can not" in scene.clean()
    assert scene.store().blobs == blobs


def test_not_stopped_by_gc_before(new_scene: NewScene) -> None:
    """A gc-before that leaves the registry taking pushes ends the run: nothing is collected, and gc-after runs."""
    scene = new_scene(cache=True)
    ended = scene.folder / "ended"
    scene.set(gc_command=None, gc_before=["true"], gc_after=["touch", str(ended)])
    blobs = scene.store().blobs
    assert "gc-before ended well, but" in scene.clean()
    assert scene.store().blobs == blobs
    assert ended.exists()


def test_interrupted_while_gc_before_runs(new_scene: NewScene) -> None:
    """A Ctrl-C waits until gc-before has stopped the registry; then gc-after starts it, and nothing was collected: the
    next run does that."""
    scene = new_scene(cache=False)
    blobs, stop = scene.store().blobs, scene.settings["gc-before"]
    interrupt = f"touch {scene.stopped}; kill -INT {os.getpid()}; sleep 0.3"
    scene.set(gc_command=None, gc_before=["sh", "-c", interrupt])
    with pytest.raises(KeyboardInterrupt):
        scene.clean()
    assert not scene.stopped.exists()
    assert scene.store().blobs == blobs
    scene.set(gc_before=stop)
    assert scene.clean() == ""
    assert scene.store().blobs < blobs


@pytest.mark.parametrize("given", [["gc-before"], ["gc-after"], ["gc-before", "gc-after"]], ids=" and ".join)
def test_is_tried_out_unless_it_is_stopped(tmp_path: Path, given: list[str]) -> None:
    """A registry that regdata collects is asked before whether it can be collected while it runs (one that takes no
    upload is refused), unless it takes no pushes meanwhile: there is both a gc-before and a gc-after."""
    (tmp_path / "store/docker/registry/v2").mkdir(parents=True)
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        commands = {name: ["true"] for name in given}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}} | commands))
        config = load_config(tmp_path)
        with nullcontext() if len(given) == 2 else pytest.raises(RegistryError, match=r"POST .*uploads"):
            check_collector(config, Site.open(config), ["app"])
        assert bool(fake.seen) == (len(given) == 1)


@pytest.mark.parametrize("stops", [True, False])
def test_a_failing_gc_after(new_scene: NewScene, stops: bool) -> None:
    """A gc-after that fails is an error. Where the registry had been stopped nobody knows what it knows now: nothing is
    collected, and all is back."""
    scene = new_scene(cache=False)
    before = scene.settings["gc-before"] if stops else None
    scene.set(gc_command=None, gc_before=before, gc_after=["sh", "-c", f"rm -f {scene.stopped}; exit 5"])
    blobs = scene.store().blobs
    assert "gc-after failed with exit code 5" in scene.clean()
    assert (scene.store().blobs == blobs) is stops
    assert not (scene.base_path / NAME).exists()


@pytest.mark.parametrize("frees", [True, False])
def test_nothing_is_tried_out_where_nothing_goes(tmp_path: Path, frees: bool) -> None:
    """Where no repository is within reach, a registry that takes no upload is refused only if something is to be
    freed."""
    (tmp_path / "store/docker/registry/v2/repositories/app/_layers").mkdir(parents=True)
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store"), "repositories": ["nobody"]}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
        config = load_config(tmp_path)
        with pytest.raises(RegistryError, match=r"POST .*uploads") if frees else nullcontext():
            check_collector(config, Site.open(config), [], frees=frees)
        assert bool(fake.seen) == frees


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_gc_after_printed(tmp_path: Path, interrupted: bool) -> None:
    """What commands around regdata's own collection print can be looked at; a Ctrl-C waits until gc-after has ended,
    and what came of it is in the journal."""
    (tmp_path / "store/docker/registry/v2").mkdir(parents=True)
    made = Small()
    made.repository("app")
    kill = f"kill -INT {os.getpid()}; sleep 0.5; " if interrupted else ""
    with serve(FakeRegistry()) as fake:
        registry, after = {"url": fake.url, "base_path": str(tmp_path / "store")}, ["sh", "-c", f"{kill}echo started"]
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}, "gc-after": after}))
        config = load_config(tmp_path)
        record, fresh = Record.open(config, sql_id="x", action="del"), made.inventory()
        nothing, now = fresh.blobs.iloc[:0], fresh.scanned_at
        with pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
            collected = collect_own(config, Site.open(config), record, fresh, nothing, held=(), began=now, as_of=now)
            assert (collected.output, collected.errors) == ("started\n", [])
    assert [event["exit_code"] for event in PastRun(record.folder).events("ran")] == [0]


def test_what_is_tried_out_around_gc_after_is_written_down(new_scene: NewScene) -> None:
    """A run that is killed leaves nothing behind of how it found out whether gc-after restarted the registry, and
    whether that can be collected while it runs: it says before what it stores for that."""
    scene = new_scene(cache=True)
    scene.set(gc_command=None)
    scene.proxy.on("PUT", "/blobs/uploads/", Fault(500))
    assert "It can't be collected while it runs, either" in scene.clean()
    events = [(event["event"], event.get("step")) for event in read_events(scene.records()[0])]
    begun, ended = events.index(("running", "gc-before")), events.index(("ran", "gc-after"))
    tried = [number for number, (event, _) in enumerate(events) if event == "probing"]
    assert len(tried) == 2
    assert tried[0] < begun < ended < tried[1]


def test_not_started_by_gc_after(new_scene: NewScene) -> None:
    """A gc-after that ends well and does not start the registry is told, and that nothing was collected: all is
    back."""
    scene = new_scene(cache=False)
    scene.set(gc_command=None, gc_after=["true"])
    scene.open_site = partial(Site.open, start_time=0.2)
    blobs = scene.store().blobs
    assert "the registry does not answer after gc-after, so nothing was collected: " in scene.clean()
    assert scene.store().blobs == blobs
    assert not (scene.base_path / NAME).exists()
