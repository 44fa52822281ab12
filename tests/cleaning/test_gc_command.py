"""The collection by conf.json's commands: their order, what fails, and the registry's cache."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.collecting.aftermath import clear
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import OCI_LAYER, make_image, make_layer, push
from regdata.errors import CleanupError, StorageError
from regdata.records.record import Record
from regdata.sources.files import LocalFiles
from regdata.sources.site import Site
from tests.support import fakes
from tests.support.fakes import FakeRegistry
from tests.support.folder import Folder
from tests.support.helpers import ROOT, age, nobodys_blob, pull_all, store_bytes
from tests.support.odd import push_blob
from tests.support.proxy import Fault, OldRedis, faults_before
from tests.support.scene import LIBRARY, NewScene, broken, repositories
from tests.support.scene import OLD as OLD_OF_SCENE
from tests.support.server import Reply
from tests.support.sweeping import data_path, link_path
from tests.support.team import (
    HOUR,
    INDEX,
    OLD,
    Conf,
    Files,
    Team,
    clean,
    events,
    plan_of,
    record_of,
    script,
    serve,
    settings,
    status,
)

STRAY = make_layer("stray", 300)


def test_without_collection(team: Team, conf: Conf) -> None:
    """gc=False needs no gc-command, deletes and frees nothing; the next run frees what was left, though a manifest
    mentions it."""
    before = store_bytes(team.registry.base_path)
    plan = plan_of(settings(team, conf), "tag_name = '2.0'")
    result = clean(settings(team, conf, **{"gc-command": None}), "tag_name = '2.0'", gc=False)
    assert (result.errors, result.bytes_freed) == ([], None)
    assert status(team.registry, "team/app:2.0") == 404
    assert store_bytes(team.registry.base_path) == before
    based = {"org.opencontainers.image.base.digest": min(plan.blobs["blob_hash"])}
    push(team.registry.url, "team/app", "based", make_image([OLD.blobs[-1]], oci=True, annotations=based))
    second = clean(settings(team, conf), "2=1")
    assert second.errors == []
    # Who collects makes no difference here: manifests' bytes stay where the registry is not restarted.
    assert second.bytes_freed == second.bytes_predicted == plan.reclaimable == result.bytes_predicted > 0


def test_the_order_of_the_commands(team: Team, conf: Conf, tmp_path: Path) -> None:
    """gc-before, gc-command and gc-after run in this order, after the deletions, and the journal says so."""
    log = tmp_path / "log"
    gc = script(tmp_path / "gc.sh", f"echo gc >> {log}\n{' '.join(team.registry.gc_command)}")
    config = settings(
        team,
        conf,
        **{
            "gc-before": ["sh", "-c", f"echo before >> {log}"],
            "gc-command": ["./gc.sh"],
            "gc-after": ["sh", "-c", f"echo after >> {log}"],
        },
    )
    result = clean(config, "tag_name = '2.0'")
    assert result.errors == []
    assert gc.endswith("gc.sh")
    assert log.read_text().split() == ["before", "gc", "after"]
    steps = [event for event in events(config) if event.startswith(("running ", "ran "))]
    assert " ".join(steps) == (
        "running gc-before ran gc-before running gc-command ran gc-command running gc-after ran gc-after"
    )
    facts = record_of(config)
    assert (facts["gc_exit_code"], facts["status"]) == (0, "ok")
    assert "blobs marked" in facts["gc_output"]


def test_a_failing_collection(team: Team, conf: Conf, tmp_path: Path) -> None:
    """A failing gc-command is an error in its own words; gc-after runs all the same; the next run collects."""
    log = tmp_path / "log"
    failing = {
        "gc-command": ["sh", "-c", "echo configuration error: no such file; exit 3"],
        "gc-after": ["sh", "-c", f"echo restarted; echo after >> {log}"],
    }
    config = settings(team, conf, **failing)
    before = store_bytes(team.registry.base_path)
    result = clean(config, "tag_name = '2.0'")
    assert len(result.errors) == 1
    assert "exit code 3: configuration error: no such file" in result.errors[0]
    assert log.read_text() == "after\n"
    assert store_bytes(team.registry.base_path) == before
    facts = record_of(config)
    assert (facts["status"], facts["gc_exit_code"], facts["errors"]) == ("failed", 3, result.errors)
    second = clean(settings(team, conf, **{"gc-after": failing["gc-after"]}), "2=1")
    assert second.errors == []
    assert before - store_bytes(team.registry.base_path) == second.bytes_predicted == result.bytes_predicted > 0


def test_a_failing_collection_and_a_cache(new_scene: NewScene) -> None:
    """Of a gc-command that fails when it has collected both is told, that and what the cache goes on claiming."""
    scene = new_scene(store=False, cache=True)
    for blob in OLD_OF_SCENE.blobs:
        requests.head(f"{scene.registry.url}/v2/prod/old/blobs/{blob.digest}", timeout=9).raise_for_status()
    scene.set(gc_command=["sh", "-c", f"{shlex.join(scene.registry.gc_command)}; echo no log; exit 3"])
    scene.clean()
    assert scene.run
    assert scene.run.result
    first, second = scene.run.result.errors
    assert "gc-command failed with exit code 3: no log" in first
    assert "the registry still answers for" in second


def test_a_disk_that_is_full_once_it_ran(new_scene: NewScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """That gc-command ended can't be written down: what it took is seen to all the same, and the registry started."""
    scene, write = new_scene(), Record.journal

    def journal(record: Record, *events: dict[str, Any]) -> None:
        if any(event["event"] == "ran" for event in events):
            raise StorageError("No space left on device")
        write(record, *events)

    monkeypatch.setattr(Record, "journal", journal)
    scene.clean()
    assert scene.run
    assert scene.run.result
    assert scene.run.result.bytes_freed == scene.run.result.bytes_predicted > 0
    assert not scene.stopped.exists()
    assert scene.run.result.errors == []


def test_a_layers_link_that_is_broken(new_scene: NewScene) -> None:
    """At a link without a digest the registry fails once its blob was collected: the run names the file, and the cure,
    after which the next one ends well."""
    scene = new_scene()
    digest = OLD_OF_SCENE.blobs[-1].digest
    link = repositories(scene.base_path) / f"prod/old/_layers/sha256/{digest.removeprefix('sha256:')}/link"
    link.write_text("")
    age(link.parent, 3 * 86400)
    error = scene.clean()
    assert f"{link} holds no digest (remove the folder that it is in)" in error
    assert "does not answer after the collection" in error
    shutil.rmtree(link.parent)
    assert scene.clean() == ""


def test_the_registry_does_not_come_up(new_scene: NewScene) -> None:
    """Why gc-command was not run is told also where gc-after does not start the registry again."""
    scene = new_scene()
    pushing = f"from tests.support.odd import push_blob; push_blob({scene.registry.url!r}, 'prod/new', b'in flight')"
    stop = f"{sys.executable} -c {shlex.quote(pushing)} && touch {scene.stopped}"
    scene.set(gc_before=["env", f"PYTHONPATH={ROOT}", "sh", "-c", stop], gc_after=["true"], gc_wait=0.1)
    scene.open_site = partial(Site.open, start_time=1)
    scene.clean()
    assert scene.run
    assert scene.run.result
    assert "a push may be in flight" in scene.run.result.errors[0]


def test_a_failing_gc_before(team: Team, conf: Conf, tmp_path: Path) -> None:
    """Where gc-before fails nothing is collected, and gc-after runs: what it stopped is started."""
    log = tmp_path / "log"
    config = settings(
        team,
        conf,
        **{
            "gc-before": ["sh", "-c", "echo can not stop it; exit 4"],
            "gc-command": ["sh", "-c", f"echo gc >> {log}"],
            "gc-after": ["sh", "-c", f"echo after >> {log}"],
        },
    )
    result = clean(config, "tag_name = '2.0'")
    assert "exit code 4: can not stop it" in result.errors[0]
    assert log.read_text() == "after\n"


def test_a_failing_gc_after(team: Team, conf: Conf) -> None:
    """A failing gc-after is an error, since the registry may still be stopped; the collection counts."""
    result = clean(settings(team, conf, **{"gc-after": ["sh", "-c", "echo no such unit; exit 5"]}), "tag_name = '2.0'")
    (error,) = result.errors
    assert "gc-after" in error
    assert "exit code 5" in error
    assert result.bytes_freed == result.bytes_predicted


def test_another_registrys_collection(team: Team, conf: Conf, tmp_path: Path) -> None:
    """A gc-command that collects another store frees nothing of ours: the run says so, be it that one of many blobs was
    linked again meanwhile."""
    layers = team.registry.base_path / "docker/registry/v2/repositories/team/app/_layers/sha256"
    goes = {digest[7:] for digest in plan_of(settings(team, conf), "tag_name = '2.0'").blobs["blob_hash"]}
    again = next(layers / name / "link" for name in sorted(goes) if (layers / name).exists())
    with LocalRegistry(tmp_path / "other") as other:
        push(other.url, "a", "1", OLD)
        collect = ["sh", "-c", f"touch {again} && {shlex.join(other.gc_command)}"]
        result = clean(settings(team, conf, **{"gc-command": collect}), "tag_name = '2.0'")
    assert any("predicted were not freed" in error and "gc-command" in error for error in result.errors)


def test_a_slow_restart(team: Team, conf: Conf, tmp_path: Path) -> None:
    """gc-after may return before the registry listens again, as docker restart does: it is waited for."""
    with registry_at_command(team.registry, tmp_path, seconds=0.5) as (stop, start):
        config = settings(team, conf, **{"gc-before": stop, "gc-after": start})
        result = clean(config, "tag_name = '2.0'")
        assert result.errors == []
        assert result.bytes_freed == result.bytes_predicted > 0


class registry_at_command:
    """Two commands that stop a registry and start it again, `seconds` after the second one has returned."""

    def __init__(self, registry: LocalRegistry, folder: Path, *, seconds: float = 0) -> None:
        self.registry, self.folder, self.seconds = registry, folder, seconds
        self.ended = threading.Event()
        # It lives on until the end: a registry goes with the thread that started it.
        self.thread = threading.Thread(target=self.work)

    def __enter__(self) -> tuple[list[str], list[str]]:
        self.thread.start()
        answered = "" if self.seconds else f"; while [ ! -e {self.folder}/started ]; do sleep 0.01; done"
        stop = f"touch {self.folder}/stop; while [ ! -e {self.folder}/stopped ]; do sleep 0.01; done"
        return ["sh", "-c", stop], ["sh", "-c", f"touch {self.folder}/start{answered}"]

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def work(self) -> None:
        while not self.ended.wait(0.01):
            if (self.folder / "stop").exists() and not (self.folder / "stopped").exists():
                self.registry.stop()
                (self.folder / "stopped").touch()
            if (self.folder / "start").exists() and not (self.folder / "started").exists():
                time.sleep(self.seconds)
                self.registry.stop()
                self.registry.start()
                (self.folder / "started").touch()
        self.registry.stop()


def test_a_stale_cache(team_template: tuple[Path, dict[str, Files]], conf: Conf, tmp_path: Path) -> None:
    """A registry that claims collected blobs is made to forget them, and with its folder manifests' bytes stay: the
    image can be pushed again. By the API alone those would break that push: an error, with the cure."""
    template, pushed = team_template
    with serve(template, tmp_path / "registry", cache=True) as registry:
        team = Team(registry, pushed)
        pull_all(registry, "team/app:2.0", tmp_path / "cached")  # the cache learns its blobs
        for folder, name in ((True, "2.0"), (False, "3.0")):
            pull_all(registry, f"team/app:{name}", tmp_path / f"cached-{name}")
            before = store_bytes(registry.base_path)
            result = clean(settings(team, conf, folder=folder), f"tag_name = '{name}'")
            assert status(registry, f"team/app:{name}") == 404
            if folder:
                assert result.errors == []
                assert any("made to forget" in note for note in result.notes)
                assert result.bytes_freed == result.bytes_predicted == before - store_bytes(registry.base_path)
                push(registry.url, "team/app", "2.0", INDEX)
                assert pull_all(registry, "team/app:2.0", tmp_path / "again") == pushed["team/app:2.0"]
            else:
                assert any("cache" in error and "estart" in error for error in result.errors), result.errors


def test_every_claim_is_cleared(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """Of many images that were collected each is asked for where it had a link, not only the largest."""
    registry = registry_with_cache
    images = [make_image([make_layer(("many", number), 200 + 100 * number)]) for number in range(25)]
    for number, image in enumerate(images):
        push(registry.url, "many", str(number), image)
        push(registry.url, f"some/{number % 3}", "1", image)
    push(registry.url, "other", "1", OLD)
    age(registry.base_path, 3 * HOUR)
    registry.restart()
    for name, image in (("many", images[0]), ("some/0", images[0]), ("many", images[24])):
        for blob in image.blobs:
            assert requests.head(f"{registry.url}/v2/{name}/blobs/{blob.digest}", timeout=5).ok
    assert clean(load_config(conf(registry)), "image_name <> 'other'").errors == []
    for name in ("many", "some/0"):
        push(registry.url, name, "again", images[0])
        push(registry.url, name, "too", images[24])
    assert broken(registry.base_path) == []


def test_a_manifest_alone_is_known(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """Where the cache claims no blob that went, and knows a manifest, that is whole when it is pushed again."""
    registry = registry_with_cache
    labelled = make_image(OLD.blobs[1:], annotations={"label": "another"})
    for tag, image in (("kept", OLD), ("old", labelled)):
        push(registry.url, "a", tag, image)
    push_blob(registry.url, "a", STRAY.data)
    age(registry.base_path, 3 * HOUR)
    registry.restart()
    assert status(registry, "a:old") == 200
    result = clean(load_config(conf(registry)), "tag_name = 'old'")
    assert (result.errors, result.bytes_freed) == ([], result.bytes_predicted)
    push(registry.url, "a", "old", labelled)
    assert broken(registry.base_path) == []


def test_a_repository_that_somebody_removed(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """What gc-command took, and no repository linked, may be claimed by one whose folder was removed by hand: the run
    ends with what is to be done about that."""
    registry = registry_with_cache
    for name in ("gone", "other"):
        push(registry.url, name, "1", OLD if name == "gone" else INDEX)
    age(registry.base_path, 3 * HOUR)
    shutil.rmtree(registry.base_path / "docker/registry/v2/repositories/gone")
    (error,) = clean(load_config(conf(registry)), "2=1").errors
    assert "no repository linked" in error
    assert "Restart the registry now" in error


def test_gc_after_that_restarts_nothing(
    team_template: tuple[Path, dict[str, Files]], conf: Conf, tmp_path: Path
) -> None:
    """Where gc-after left the registry's cache as it was it is made to forget what it claims, the run says so, and the
    image can be pushed again."""
    template, pushed = team_template
    with serve(template, tmp_path / "registry", cache=True) as registry:
        team = Team(registry, pushed)
        pull_all(registry, "team/app:2.0", tmp_path / "cached")
        before = store_bytes(registry.base_path)
        result = clean(settings(team, conf, **{"gc-after": ["true"]}), "tag_name = '2.0'")
        assert result.errors == []
        assert result.bytes_freed == before - store_bytes(registry.base_path) > 0
        assert any("made to forget" in note for note in result.notes)
        assert any("gc-after did not restart the registry" in note for note in result.notes)
        push(registry.url, "team/app", "2.0", INDEX)
        assert pull_all(registry, "team/app:2.0", tmp_path / "again") == pushed["team/app:2.0"]


@pytest.mark.parametrize(
    ("before", "collects", "after"),
    [(None, "; exit 1", None), (["true"], "; exit 1", ["true"]), (["true"], "", ["false"])],
    ids=["gc-command", "gc-command, nothing restarts", "gc-after"],
)
def test_a_command_that_fails_after_all_was_freed(
    registry_with_cache: LocalRegistry, conf: Conf, before: object, collects: str, after: object
) -> None:
    """However the commands end, a registry that runs is made to forget what was freed, and manifests' bytes are put
    back: what is pushed next is whole, be it with a blob that was pushed beside."""
    registry = registry_with_cache
    push(registry.url, "team/app", "old", OLD)
    push(registry.url, "team/app", "kept", INDEX)
    age(registry.base_path, 3 * HOUR)
    beside = f"""import requests
where = requests.post("{registry.url}/v2/other/blobs/uploads/").headers["Location"]
requests.put(where, params={{"digest": "{STRAY.digest}"}}, data=bytes.fromhex("{STRAY.data.hex()}"))
assert requests.head("{registry.url}/v2/other/blobs/{STRAY.digest}").ok"""  # so that the cache knows it
    pushes = shlex.join([sys.executable, "-c", beside])
    collect = ["sh", "-c", f"{pushes} && {shlex.join(registry.gc_command)}{collects}"]
    commands = {"gc-before": before, "gc-command": collect, "gc-after": after}
    result = clean(load_config(conf(registry, **commands)), "tag_name = 'old'")
    (error,) = result.errors
    assert "failed with exit code 1" in error
    assert result.bytes_freed
    assert any("made to forget" in note for note in result.notes)
    push(registry.url, "team/app", "old", OLD)
    push(registry.url, "other", "1", make_image([STRAY, OLD.blobs[-1]]))
    assert broken(registry.base_path) == []


def test_links_to_what_stays(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """A collection of 3.x takes links to blobs that others need: the cache is made to forget those that it claims."""
    registry = registry_with_cache
    for name in ("a", "b"):
        push(registry.url, name, "1", OLD)
    cut = [("a", blob.digest) for blob in OLD.blobs]
    assert all(registry_has(registry, *one) for one in cut)
    for path in (registry.base_path / "docker/registry/v2/repositories/a/_layers/sha256").iterdir():
        shutil.rmtree(path)
    site = Site.open(load_config(conf(registry)))
    claimed, left = clear(site, [], cut=cut)
    assert (claimed.asked, sorted(claimed.cleared), claimed.left, left) == (
        len(cut),
        sorted(one[1] for one in cut),
        [],
        [],
    )
    assert not any(registry_has(registry, *one) for one in cut)


def registry_has(registry: LocalRegistry, image: str, digest: str) -> bool:
    return requests.head(f"{registry.url}/v2/{image}/blobs/{digest}", timeout=9).ok


def test_redis_before_3_1(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """Where the cache can't be made to forget for good nothing is deleted; with a gc-after, which may flush it and did
    not, that is an error."""
    registry = registry_with_cache
    for name, image in (("a", OLD), ("b", INDEX)):
        push(registry.url, name, "1", image)
    age(registry.base_path, 3 * HOUR)
    before = store_bytes(registry.base_path)
    with faults_before(registry.url, OldRedis) as proxy:
        site = {"url": proxy.url, "base_path": str(registry.base_path)}
        for more in ({}, {"gc-before": ["true"]}):
            with pytest.raises(CleanupError, match="flush its Redis"):
                clean(load_config(conf(registry, registry=site, **more)), "image_name = 'a'")
            assert store_bytes(registry.base_path) == before
        (error,) = clean(
            load_config(conf(registry, registry=site, **{"gc-after": ["true"]})), "image_name = 'a'"
        ).errors
        assert "flush its Redis" in error


def test_what_is_left_in_a_registry_that_is_read_only(tools: None, conf: Conf, tmp_path: Path) -> None:
    """A registry that is read-only is collected where nothing is to be deleted: its cache can't be tried out."""
    with LocalRegistry(tmp_path / "registry") as registry:
        push(registry.url, "a", "1", OLD)
        push_blob(registry.url, "a", STRAY.data)
    age(registry.base_path, 3 * HOUR)
    storage = {
        "filesystem": {"rootdirectory": str(registry.base_path)},
        "maintenance": {"readonly": {"enabled": True}},
    }
    with LocalRegistry(registry.folder, settings={"storage": storage}) as read_only:
        result = clean(load_config(conf(read_only)), "2=1")
    assert (result.errors, result.bytes_freed) == ([], len(STRAY.data))


def test_a_restart_cures_the_cache(team_template: tuple[Path, dict[str, Files]], conf: Conf, tmp_path: Path) -> None:
    """gc-after that restarts the registry empties its cache, and the image can be pushed again."""
    template, pushed = team_template
    with serve(template, tmp_path / "registry", cache=True) as registry:
        team = Team(registry, pushed)
        pull_all(registry, "team/app:2.0", tmp_path / "cached")
        with registry_at_command(registry, tmp_path) as (_, restart):
            result = clean(settings(team, conf, **{"gc-after": restart}), "tag_name = '2.0'")
            assert result.errors == []
            push(registry.url, "team/app", "2.0", INDEX)
            assert pull_all(registry, "team/app:2.0", tmp_path / "again") == pushed["team/app:2.0"]


def test_a_copy_where_nothing_is_deleted(new_scene: NewScene, tmp_path: Path) -> None:
    """Beside a copy of its folder gc-command is not run on a registry, be it that no tag goes."""
    scene, copy = new_scene(), tmp_path / "copy"
    shutil.copytree(scene.base_path, copy)
    nobodys_blob(copy)
    ran = scene.folder / "ran"
    scene.set(sql={"scene": "2=1"}, gc_before=None, gc_after=None, gc_command=["touch", str(ran)])
    scene.set(registry={"url": scene.proxy.url, "base_path": str(copy), "repositories": ["prod/old"]})
    assert "is not the folder that" in scene.clean()
    assert not ran.exists()


def test_redis_before_3_1_where_nothing_is_deleted(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """Where the cache can't be made to forget for good, what an earlier run left is not collected, either."""
    registry = registry_with_cache
    for name, image in (("a", OLD), ("b", INDEX)):
        push(registry.url, name, "1", image)
    age(registry.base_path, 3 * HOUR)
    assert clean(load_config(conf(registry)), "image_name = 'a'", gc=False).errors == []
    before = store_bytes(registry.base_path)
    with faults_before(registry.url, OldRedis) as proxy:
        config = load_config(conf(registry, registry={"url": proxy.url, "base_path": str(registry.base_path)}))
        plan = plan_of(config, "2=1")
        assert (len(plan.manifests), plan.reclaimable > 0) == (0, True)
        with pytest.raises(CleanupError, match="flush its Redis"):
            regdata.apply(plan, config)
    assert store_bytes(registry.base_path) == before


@pytest.mark.parametrize("what", ["command", "link to a manifest", "right", "blob", "folder"])
def test_what_a_collection_alone_runs_into(
    new_scene: NewScene, monkeypatch: pytest.MonkeyPatch, naps: list[float], what: str
) -> None:
    """A run that does not collect is not refused for what only a collection needs: it deletes as planned."""
    scene, layer = new_scene(), OLD_OF_SCENE.blobs[-1].digest
    data, link = data_path(scene.registry, layer), link_path(scene.registry, "base/lib", layer)
    if what == "command":
        scene.set(gc_command=["no-such-program"])
    elif what == "link to a manifest":
        revisions = repositories(scene.base_path) / "base/lib/_manifests/revisions"
        (revisions / LIBRARY.digest.replace(":", "/") / "link").write_text("")
    else:
        scene.collects_itself()
    if what == "right":  # to have what goes forgotten where nothing is deleted
        scene.set(registry=scene.settings["registry"] | {"repositories": ["prod/*"]})
        link.parent.mkdir(parents=True)
        link.write_text(layer)
        scene.proxy.on("DELETE", "^/v2/base/lib/", Fault(403))
    if what == "blob":
        data.rename(scene.folder / "pool")
        data.symlink_to(scene.folder / "pool")
    if what == "folder":
        monkeypatch.setattr(LocalFiles, "writable", lambda files, folder: not folder.endswith(data.parent.name))
    assert scene.clean(gc=False) == ""
    assert ("prod/old", "old", OLD_OF_SCENE.digest) not in scene.store().tags


def test_a_slow_restart_after_our_own_collection(team: Team, conf: Conf, tmp_path: Path) -> None:
    """Where regdata itself collects, too, a registry that listens only a moment after gc-after is waited for, and what
    was predicted is freed."""
    with registry_at_command(team.registry, tmp_path, seconds=0.5) as (stop, start):
        config = settings(team, conf, **{"gc-command": None, "gc-before": stop, "gc-after": start})
        result = clean(config, "tag_name = '2.0'")
        assert result.errors == []
        assert result.bytes_freed == result.bytes_predicted > 0


def test_links_that_the_collector_of_3_x_takes(new_scene: NewScene) -> None:
    """Where a registry of 3.x collects, the cache is made to forget links to what another repository alone needs."""
    scene = new_scene(cache=True)
    for name, tag in (("base/lib", "stray"), ("prod/app", "old")):
        push(scene.registry.url, name, tag, make_image([STRAY, make_layer(name, 400)]))
    age(scene.base_path, 3 * HOUR)
    assert registry_has(scene.registry, "prod/app", STRAY.digest)  # its cache knows it
    link = link_path(scene.registry, "prod/app", STRAY.digest)
    collect = f"{shlex.join(scene.registry.gc_command)} && rm -r {link.parent}"
    scene.set(gc_before=None, gc_after=None, gc_command=["sh", "-c", collect])
    scene.proxy.on("GET", r"/tags/list\?n=0", Fault(200, body=lambda _: b'{"tags": []}'))  # as 3.x answers
    assert scene.clean() == ""
    assert registry_has(scene.registry, "base/lib", STRAY.digest)
    assert not registry_has(scene.registry, "prod/app", STRAY.digest)


def test_nothing_to_be_collected(tmp_path: Path) -> None:
    """Where nothing is to be collected, and nobody pushes, gc-command is not run, and there is nothing to say of it."""
    (tmp_path / "store/docker/registry/v2/repositories").mkdir(parents=True)
    with fakes.serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        settings = {"registry": registry, "sql": {}, "gc-command": ["touch", str(tmp_path / "ran")]}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path)
        result = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config)
    assert (result.errors, result.notes, result.collection.ran) == ([], [], False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("wait", [0, 0.1])
def test_an_open_upload_beside_gc_command(tmp_path: Path, wait: float) -> None:
    """An upload that is open, while no layer waits for its manifest, keeps gc-command from nothing, and is told;
    unless gc-wait asks to wait for it."""
    data = nobodys_blob(tmp_path / "store")
    upload = tmp_path / "store/docker/registry/v2/repositories/app/_uploads/1/startedat"
    upload.parent.mkdir(parents=True)
    upload.write_text(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    with fakes.serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        settings = {"registry": registry, "sql": {}, "gc-command": ["rm", str(data)], "gc-wait": wait}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path)
        result = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config)
    (told,) = result.errors if wait else result.notes
    assert told.startswith("1 upload was in flight before the collection (app)")
    assert (data.exists(), result.bytes_freed) == ((True, None) if wait else (False, 8))


def test_what_came_while_it_was_waited(tmp_path: Path) -> None:
    """An image that lacks a layer, and came while a push was waited for, did not come while gc-command ran."""
    data, folder = nobodys_blob(tmp_path / "store"), Folder(tmp_path / "store")
    upload = folder.root / "repositories/app/_uploads/1/startedat"
    upload.parent.mkdir(parents=True)
    upload.write_text(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")

    class Busy(FakeRegistry):
        def answer(self, method: str, target: str) -> Reply:
            if "_catalog" in target and sum("_catalog" in line for line in self.seen) == 2:  # read in the wait
                folder.image("app", "1", layers=[STRAY.descriptor(OCI_LAYER)], schemaVersion=2)
                shutil.rmtree(upload.parent)
            return super().answer(method, target)

    with fakes.serve(Busy()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        settings = {"registry": registry, "sql": {}, "gc-command": ["rm", str(data)], "gc-wait": 9}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path)
        result = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config)
    assert not upload.exists()
    assert (result.errors, result.notes, result.bytes_freed) == ([], [], 8)
