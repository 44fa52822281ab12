"""What regdata collected and keeps for some days (trash_days): freed then, or brought back."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import requests

import regdata
from regdata.collecting import trash
from regdata.collecting.commands import COMMAND, Collection
from regdata.collecting.own import BY, bring_back_own, oldest_kept, promised, with_trash
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import OCI_LAYER, make_image, make_layer, make_referrer, push
from regdata.records.record import Record
from regdata.show import words
from regdata.sources.aside import NAME, Aside
from regdata.sources.paths import REMOVED
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from tests.collecting.test_sweep import pulls
from tests.support.fakes import FakeRegistry, serve
from tests.support.folder import Folder
from tests.support.helpers import age, nobodys_blob, store_bytes
from tests.support.scene import LIBRARY, OLD, Scene, broken
from tests.support.small import few

Conf = Callable[..., Path]


def test_trash(scene: Scene) -> None:
    """With trash_days what was collected is set aside, and freed by a run when the days are over; what a run frees of
    that is what it predicts, nothing without a collection."""
    scene.settings["trash_days"] = 7
    scene.set()
    size = store_bytes(scene.base_path)
    assert scene.clean() == ""
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert record["bytes_freed"] == record["bytes_predicted"] == record["bytes_expected"] == 0
    aside = size - store_bytes(scene.base_path)
    assert record["bytes_set_aside"] == record["bytes_in_trash"] == aside > 0
    assert record["bytes_to_set_aside"] >= aside
    _date(scene, 8)
    assert scene.clean(gc=False) == ""
    record = json.loads((scene.records()[1] / "record.json").read_bytes())
    assert (record["bytes_freed"], record["bytes_predicted"], record["bytes_expected"]) == (None, 0, 0)
    assert scene.clean() == ""
    record = json.loads((scene.records()[2] / "record.json").read_bytes())
    assert record["bytes_freed"] == record["bytes_predicted"] == record["bytes_expected"] == aside
    assert record["bytes_in_trash"] == 0
    assert record["notes"] == []
    assert not (scene.base_path / NAME).exists()


def test_killed_while_it_frees(scene: Scene) -> None:
    """What a run was killed over as it freed it, the next run frees, as predicted, also what is kept for some days; one
    with gc-command, too."""
    batch = scene.base_path / NAME / "20260101-000000/0001-freed"
    scene.settings["trash_days"] = 7

    for number, command in enumerate((None, scene.registry.gc_command)):
        batch.mkdir(parents=True)
        (batch / f"blobs+sha256+ab+{'ab' * 32}+data").write_bytes(b"x" * 1000)
        scene.set(gc_command=command)
        assert scene.clean() == ""
        record = json.loads((scene.records()[number] / "record.json").read_bytes())
        assert record["bytes_freed"] == record["bytes_predicted"] == record["bytes_expected"] == 1000
        assert not batch.exists()


def test_due_in_a_run_with_gc_command(scene: Scene) -> None:
    """Whoever collects, a run frees what is due, as predicted: where the registry's own collector has nothing to do,
    and beside what that frees."""
    aside = _set_aside(scene)
    scene.set(gc_command=scene.registry.gc_command)
    push(scene.registry.url, "prod/old", "old", OLD)
    age(scene.base_path, 9000)
    freed = []
    for days in (0, 8):
        _date(scene, days)
        stored = _bytes(scene.base_path)
        assert scene.clean() == ""
        record = json.loads((scene.records()[-1] / "record.json").read_bytes())
        assert record["bytes_freed"] == record["bytes_predicted"] == record["bytes_expected"]
        assert stored - _bytes(scene.base_path) == record["bytes_freed"]
        assert record["bytes_in_trash"] == (0 if days else aside)
        freed.append(record["bytes_freed"])
    assert freed == [freed[0], aside]
    assert freed[0] > 0
    assert not (scene.base_path / NAME).exists()


def _begin_push(scene: Scene) -> None:
    """A layer that has no manifest yet."""
    layer, top = make_layer("in flight", 300), f"{scene.registry.url}/v2/prod/kept/blobs/uploads/"
    place = requests.post(top, timeout=10).headers["Location"]
    assert requests.put(place, layer.data, params={"digest": layer.digest}, timeout=10).status_code == 201


def test_what_is_due_is_put_off_with_the_collection(scene: Scene) -> None:
    """Where gc-command may not run beside a push, the trash waits with it, and the error says so."""
    aside = _set_aside(scene)
    scene.set(gc_command=scene.registry.gc_command)
    push(scene.registry.url, "prod/old", "old", OLD)
    age(scene.base_path, 9000)
    _date(scene, 8)
    _begin_push(scene)
    assert f"Not collected after 0 s, and {words.size(aside)} of the trash stay, too: run again later" in scene.clean()
    record = json.loads((scene.records()[-1] / "record.json").read_bytes())
    assert record["bytes_freed"] is None
    assert sum(file.stat().st_size for file in (scene.base_path / NAME).glob("*/*/blobs+*+data")) == aside


def test_due_while_a_push_is_in_flight(scene: Scene) -> None:
    """Where all that gc-command could take is being pushed, what is due is freed, and the push is told."""
    aside = _set_aside(scene)
    _date(scene, 8)
    scene.set(gc_command=scene.registry.gc_command)
    _begin_push(scene)
    for freed in (aside, None):
        assert scene.clean() == ""
        record = json.loads((scene.records()[-1] / "record.json").read_bytes())
        assert (record["bytes_freed"], record["bytes_expected"]) == (freed, freed or 0)
        assert ["stays, and nothing else" in note for note in record["notes"]] == [True]


def test_needed_in_a_run_with_gc_command(scene: Scene) -> None:
    """What was set aside and is due comes back where it is needed again, and is told."""
    aside = _set_aside(scene)
    _date(scene, 8)
    layer = max((scene.base_path / NAME).glob("*/*-kept/blobs+sha256+*+data"), key=lambda file: file.stat().st_size)
    digest, size = layer.name.split("+")[3], layer.stat().st_size
    layers = [{"digest": f"sha256:{digest}", "size": size, "mediaType": OCI_LAYER}]
    Folder(scene.base_path).image("prod/needs", "it", layers=layers, schemaVersion=2)
    scene.set(gc_command=scene.registry.gc_command)
    assert scene.clean() == ""
    record = json.loads((scene.records()[1] / "record.json").read_bytes())
    assert record["notes"] == ["1 blob came back from what was set aside: they are needed again"]
    assert record["bytes_freed"] == aside - size
    assert (scene.base_path / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data").exists()


def _set_aside(scene: Scene) -> int:
    """The bytes that a run which collects by itself keeps for seven days."""
    scene.settings["trash_days"] = 7
    scene.set()
    assert scene.clean() == ""
    aside: int = json.loads((scene.records()[0] / "record.json").read_bytes())["bytes_in_trash"]
    return aside


def _date(scene: Scene, days: int) -> None:
    """What is kept has been for so many days."""
    for batch in (scene.base_path / NAME).glob("*/*-kept"):
        os.utime(batch / "when-kept", (time.time() - days * 86400,) * 2)


def _bytes(base: Path) -> int:
    """Of all blobs, those that are kept, too."""
    stored = [*base.rglob("blobs/sha256/*/*/data"), *(base / NAME).rglob("blobs+*+data")]
    return sum(file.stat().st_size for file in stored)


def test_due_after_the_plan(scene: Scene) -> None:
    """What becomes due after the plan was made the next run frees: this one frees what it has promised."""
    batch = scene.base_path / NAME / "20260101-000000/0001-kept"
    batch.mkdir(parents=True)
    (batch / f"blobs+sha256+ab+{'ab' * 32}+data").write_bytes(b"x" * 1000)
    (batch / "when-kept").touch()
    scene.settings["trash_days"] = 7
    scene.set()

    def pass_time() -> None:
        assert scene.run
        assert scene.run.inventory
        scanned = scene.run.inventory.scanned_at
        os.utime(batch / "when-kept", (scanned - 7 * 86400,) * 2)
        time.sleep(max(0.0, scanned + 1.1 - time.time()))

    assert scene.clean(before_apply=pass_time) == ""
    record = json.loads((scene.records()[0] / "record.json").read_bytes())
    assert record["bytes_freed"] == record["bytes_predicted"] == record["bytes_expected"] == 0
    assert batch.exists()


def test_the_trash_is_emptied(scene: Scene) -> None:
    """With `empty_trash` a run frees now what earlier ones set aside, as predicted; what it collects itself is kept."""
    scene.settings["trash_days"] = 7
    scene.set()
    assert scene.clean() == ""
    first = json.loads((scene.records()[0] / "record.json").read_bytes())
    push(scene.registry.url, "prod/old", "old", OLD)
    age(scene.base_path, 9000)
    assert scene.clean(empty_trash=True) == ""
    record = json.loads((scene.records()[1] / "record.json").read_bytes())
    own = record["bytes_set_aside"]
    assert own == record["bytes_in_trash"] > 0
    assert record["bytes_freed"] == record["bytes_expected"] > 0
    # What was pushed again is not kept twice: it had been set aside, and is again.
    assert record["bytes_freed"] == record["bytes_predicted"] == first["bytes_in_trash"] >= own
    assert scene.clean(empty_trash=True) == ""
    record = json.loads((scene.records()[2] / "record.json").read_bytes())
    assert record["bytes_freed"] == record["bytes_predicted"] == own
    assert not (scene.base_path / NAME).exists()


def test_there_is_no_trash_to_be_emptied(scene: Scene) -> None:
    """Without a collection, or without the registry's folder, `empty_trash` is refused before anything goes."""
    before = scene.store()
    assert "only a run that collects, and may change the registry's folder" in scene.clean(empty_trash=True, gc=False)
    scene.set(gc_command=scene.registry.gc_command, registry={"url": scene.proxy.url})
    assert "only a run that collects, and may change the registry's folder" in scene.clean(empty_trash=True)
    assert scene.store() == before


def test_restored_after_the_collection(scene: Scene) -> None:
    """While it is kept, what a run collected comes back: the same tags, manifests and blobs as before."""
    scene.settings["trash_days"] = 7
    scene.set()
    before = scene.store()
    assert scene.clean() == ""
    assert scene.store() != before
    (folder,) = scene.records()
    outcome = regdata.restore(folder, load_config(scene.conf))
    bad = outcome[~outcome["outcome"].isin(["restored", "present"])]
    assert bad.empty, bad.to_dict("records")
    assert scene.store().tags == before.tags
    assert scene.store().blobs == before.blobs
    assert broken(scene.base_path) == []


@pytest.mark.parametrize("shared", ["pushed elsewhere", "collected later", "collected later, all of it"])
def test_restored_though_another_has_its_layers(registry_with_cache: LocalRegistry, conf: Conf, shared: str) -> None:
    """A collected image comes back, byte for byte, where one of its layers was pushed by another repository since, or
    was collected by a later run with another image."""
    registry, layer = registry_with_cache, make_layer("shared", 900)
    first, second = (make_image([layer, make_layer(name, 500)], created=1) for name in ("first", "second"))
    if "all" in shared:
        second = replace(first, manifest=b" " + first.manifest)
    push(registry.url, "app", "1", first)
    push(registry.url, "other", "1", LIBRARY)
    if "later" in shared:
        push(registry.url, "other", "2", second)
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None, "trash_days": 7}))

    def clean(condition: str, *, frees: bool = False) -> str:
        result = regdata.apply(regdata.plan(regdata.scan(config), condition), config)
        assert result.errors == []
        assert (result.bytes_predicted, result.bytes_freed) == ((len(layer.data),) * 2 if frees else (0, 0))
        return max(path.parent.name for path in config.reports.glob("*/record.json"))

    runs = [clean("image_name = 'app'")]
    if "later" in shared:
        runs.append(clean("tag_name = '2'"))
    else:
        push(registry.url, "other", "2", second)
        clean("2=1", frees=True)  # the copy that is kept of what came anew
    for run in runs:
        assert set(regdata.restore(run, config)["outcome"]) == {"restored"}
    assert pulls(registry.url, "app", "1", first)
    assert pulls(registry.url, "other", "2", second)
    registry.restart()
    assert pulls(registry.url, "app", "1", first)


def test_restored_where_a_collection_was_cut_short(scene: Scene) -> None:
    """What a collection had taken when the machine went down `restore` puts back, though no run came before it."""
    scene.settings["trash_days"] = 7
    scene.set()
    before = scene.store()
    assert scene.clean() == ""
    for batch in (scene.base_path / NAME).glob("*/*-kept"):
        (batch / "when-kept").unlink()
        batch.rename(batch.with_name(batch.name.replace("kept", "open")))
    outcome = regdata.restore("latest", load_config(scene.conf))
    assert set(outcome["outcome"]) <= {"restored", "present"}
    assert scene.store().tags == before.tags
    assert broken(scene.base_path) == []


def test_referred_to_again(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """A collected image that is the subject of what is pushed later comes back from the trash, whole, though others
    were collected after it."""
    registry = registry_with_cache
    image = make_image([make_layer("image", 500)], created=1, oci=True)
    push(registry.url, "app", "1", image)
    push(registry.url, "app", "keep", LIBRARY)
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None, "trash_days": 7}))
    regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '1'"), config)
    (record,) = config.reports.glob("*/record.json")
    later = config.reports / f"{record.parent.name}-later"
    later.mkdir()
    shutil.copy(record, later)
    (later / "journal.jsonl").write_text('{"event": "unlinking"}\n')
    push(registry.url, "app", "sbom", make_referrer(image))
    result = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config, gc=False)
    assert result.errors == []
    assert result.notes == ["1 manifest put back: what was pushed since needs what was deleted"]
    assert pulls(registry.url, "app", image.digest, image)


@pytest.mark.parametrize(
    ("days", "hours", "goes"), [(0.5, 11, False), (0.5, 13, True), (1.5, 35, False), (1.5, 37, True)]
)
def test_parts_of_a_day(tmp_path: Path, days: float, hours: int, goes: bool) -> None:
    """What was set aside is kept for the hours of half a day, too, and no longer."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    aside, now = Aside(Storage(tmp_path)), int(time.time())
    aside.open("run")
    batch = aside.batch("run", 1)
    batch.keep()
    os.utime(f"{batch.folder}/when-kept", (now - hours * 3600,) * 2)
    assert [one.run for one in trash.due(aside, days, now)] == ["run"] * goes


def test_restored_from_where_its_record_is(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's folder may be the working folder: what comes back is what that run collected, not what others did."""
    scene.settings["trash_days"] = 7
    scene.set()
    assert scene.clean() == ""
    other = scene.base_path / NAME / "20260101T000000Z-other/0001-kept"
    other.mkdir(parents=True)
    (other / f"blobs+sha256+ab+{'ab' * 32}+data").write_bytes(b"x")
    (folder,) = scene.records()
    monkeypatch.chdir(folder)
    assert set(regdata.restore(".", load_config(scene.conf))["outcome"]) <= {"restored", "present"}
    assert [path.parent.name for path in (scene.base_path / NAME).glob("*/*-kept")] == [other.parent.name]


@pytest.mark.parametrize("ran", [True, False])
def test_emptied_beside_gc_command(tmp_path: Path, ran: bool) -> None:
    """A blob that gc-command took, and whose copy was due, counts twice; where gc-command had nothing to do, it is told
    that regdata itself collected."""
    hex_, base_path = "ab" * 32, tmp_path / "store"
    data = base_path / f"docker/registry/v2/blobs/sha256/ab/{hex_}/data"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"x" * 20)
    aside = Aside(Storage(base_path))
    aside.open("earlier")
    batch = aside.batch("earlier", 1)
    assert batch.take(f"blobs/sha256/ab/{hex_}/data")
    batch.keep()
    registry = {"url": "http://127.0.0.1:1", "base_path": str(base_path)}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": ["true"]}))
    config = load_config(tmp_path)
    record = Record.open(config, sql_id="x", action="del")
    collected = Collection(True, 0, freed={f"sha256:{hex_}": 20}) if ran else Collection()
    told = with_trash(collected, config, Site.open(config), record, few().inventory(), as_of=int(time.time()))
    assert (told.bytes_freed, sum(told.from_trash.values())) == (40 if ran else 20, 20)
    assert (told.ran, told.by) == (True, COMMAND if ran else BY)
    assert not (base_path / NAME).exists()


def test_the_first_run_of_which_something_is_kept(tmp_path: Path) -> None:
    """However many came after it; what was undecided, or is being freed, is not kept."""
    (tmp_path / "store/docker/registry/v2").mkdir(parents=True)
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path / "store")}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
    config = load_config(tmp_path)
    for run, state, oldest in (("1", "freed", ""), ("2", "open", ""), ("4", "kept", "4"), ("3", "kept", "3")):
        (tmp_path / "store" / NAME / run / f"0001-{state}").mkdir(parents=True)
        assert oldest_kept(config, Site.open(config)) == oldest


@pytest.mark.parametrize(("days", "goes"), [(6, False), (8, True)])
def test_what_first_versions_kept(tmp_path: Path, days: int, goes: bool) -> None:
    """What a version set aside that wrote down no date is kept from the date of its folder on, and no longer."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    aside, now = Aside(Storage(tmp_path)), int(time.time())
    batch = Path(aside.folder) / "run/0001-kept"
    batch.mkdir(parents=True)
    os.utime(batch, (now - days * 86400,) * 2)
    assert [one.run for one in trash.due(aside, 7, now)] == ["run"] * goes


def test_a_tag_that_went_alone_before_its_image_was_collected(registry_with_cache: LocalRegistry, conf: Conf) -> None:
    """A tag that one run took alone comes back though a later one deleted what it was on, and set its layers aside."""
    registry, image = registry_with_cache, make_image([make_layer("image", 500)], created=1)
    for tag, one in (("1", image), ("2", image), ("keep", LIBRARY)):
        push(registry.url, "app", tag, one)
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None, "trash_days": 7}))
    for tag, gc in (("1", False), ("2", True)):
        assert regdata.apply(regdata.plan(regdata.scan(config), f"tag_name = '{tag}'"), config, gc=gc).errors == []
    first, _ = sorted(config.reports.glob("*/record.json"))
    assert regdata.restore(first.parent, config)["outcome"].tolist() == ["restored"]
    assert pulls(registry.url, "app", "1", image)


def test_needed_by_what_came_after_the_scan(scene: Scene) -> None:
    """What is due comes back in a run with gc-command, too, where only what was pushed since the scan needs it."""
    aside = _set_aside(scene)
    _date(scene, 8)
    layer = max((scene.base_path / NAME).glob("*/*-kept/blobs+sha256+*+data"), key=lambda file: file.stat().st_size)
    digest, size = layer.name.split("+")[3], layer.stat().st_size
    layers = [{"digest": f"sha256:{digest}", "size": size, "mediaType": OCI_LAYER}]
    scene.set(gc_command=scene.registry.gc_command)

    def come() -> None:
        Folder(scene.base_path).image("prod/needs", "it", layers=layers, schemaVersion=2)

    assert scene.clean(before_apply=come) == ""
    record = json.loads((scene.records()[1] / "record.json").read_bytes())
    assert record["bytes_freed"] == aside - size
    assert (scene.base_path / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data").exists()


def test_what_is_expected_of_a_collection_that_is_put_off(scene: Scene) -> None:
    """What is due is expected with the rest where gc-command may not run beside a push: the next run frees both."""
    aside = _set_aside(scene)
    scene.set(gc_command=scene.registry.gc_command)
    push(scene.registry.url, "prod/old", "old", OLD)
    age(scene.base_path, 9000)
    _date(scene, 8)
    _begin_push(scene)
    assert "Not collected after 0 s" in scene.clean()
    record = json.loads((scene.records()[-1] / "record.json").read_bytes())
    assert record["bytes_expected"] == record["bytes_predicted"] > aside


@pytest.mark.parametrize("fails", [True, False])
def test_due_where_gc_command_fails(tmp_path: Path, fails: bool) -> None:
    """What is due stays where gc-command has failed: the run frees it that ends well."""
    data = nobodys_blob(tmp_path / "store")
    batch = tmp_path / "store" / NAME / "20260101-000000/0001-kept"
    batch.mkdir(parents=True)
    (batch / f"blobs+sha256+cd+{'cd' * 32}+data").write_bytes(b"x" * 1000)
    (batch / "when-kept").touch()
    os.utime(batch / "when-kept", (time.time() - 8 * 86400,) * 2)
    (tmp_path / "store/docker/registry/v2/repositories").mkdir()
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        collect = ["sh", "-c", f"rm {data}; exit {int(fails)}"]
        settings = {"registry": registry, "sql": {}, "gc-command": collect, "trash_days": 7}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path)
        result = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config)
    assert [error.partition(":")[0] for error in result.errors] == ["gc-command failed with exit code 1"] * fails
    assert (result.bytes_freed, batch.exists()) == (8 if fails else 1008, fails)


def test_due_by_the_clock_that_is_ahead(tmp_path: Path) -> None:
    """What is not due yet by the store's clock stays, though it is by the clock that a plan took for its time."""
    batch, size = tmp_path / "store" / NAME / "20260101-000000/0001-kept", 1000
    batch.mkdir(parents=True)
    (batch / f"blobs+sha256+cd+{'cd' * 32}+data").write_bytes(b"x" * size)
    (batch / "when-kept").touch()
    (tmp_path / "store/docker/registry/v2/repositories").mkdir(parents=True)
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        settings = {"registry": registry, "sql": {}, "gc-command": ["true"], "trash_days": 7}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path)
        for minutes, freed in ((-1, None), (1, size)):
            os.utime(batch / "when-kept", (time.time() - 7 * 86400 - minutes * 60,) * 2)
            scanned = regdata.scan(config)
            plan = regdata.plan(replace(scanned, scanned_at=scanned.scanned_at + 200), "2=1")
            result = regdata.apply(plan, config)
            assert (result.errors, result.bytes_freed, result.bytes_predicted) == ([], freed, freed or 0)


@pytest.mark.parametrize("gc", [True, False])
@pytest.mark.parametrize(("days", "frees"), [(7, 0), (0, 100)])
def test_what_is_promised_where_it_is_kept(tmp_path: Path, gc: bool, days: int, frees: int) -> None:
    """What regdata itself collects and keeps for some days frees nothing, be it by the next run since this one does not
    collect; what is not kept does."""
    (tmp_path / "store/docker/registry/v2").mkdir(parents=True)
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path / "store")}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}, "trash_days": days}))
    config = load_config(tmp_path)
    assert promised(config, Site.open(config), 100, as_of=0, gc=gc, empty_trash=False).total == frees


def test_nothing_was_collected_and_nothing_is_due(tmp_path: Path) -> None:
    """Where gc-command had nothing to do, and what was set aside is not due, nobody has collected: nothing is told as
    freed, but how much is kept."""
    data = f"blobs/sha256/ab/{'ab' * 32}/data"
    path = tmp_path / "store/docker/registry/v2" / data
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 20)
    aside = Aside(Storage(tmp_path / "store"))
    aside.open("earlier")
    batch = aside.batch("earlier", 1)
    assert batch.take(data)
    batch.keep()
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path / "store")}
    settings = {"registry": registry, "sql": {}, "gc-command": ["true"], "trash_days": 7}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    config, now = load_config(tmp_path), int(time.time())
    record = Record.open(config, sql_id="x", action="del")
    told = with_trash(Collection(), config, Site.open(config), record, few().inventory(), as_of=now)
    assert (told.ran, told.by, told.bytes_freed) == (False, COMMAND, None)
    assert record.facts["bytes_in_trash"] == 20


def test_what_a_restore_leaves_in_the_folder(tmp_path: Path) -> None:
    """All of what a run had set aside is back after it was restored, a tag that was taken out of its place, too, and no
    empty folder of the trash is left."""
    folder = Folder(tmp_path / "store")
    folder.image("app", "1")
    tags = folder.manifests("app") / "tags"
    (tags / "1").rename(tags.with_name(f"{REMOVED}1"))
    data = folder.root / folder.blob_path(folder.blob(b"layer"))
    aside = Aside(Storage(tmp_path / "store"))
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(str(data.relative_to(folder.root)))
    batch.keep()
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path / "store")}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
    config = load_config(tmp_path)
    bring_back_own(config, Site.open(config), "run", set())
    assert data.read_bytes() == b"layer"
    assert [path.name for path in tags.iterdir()] == ["1"]
    assert not (tmp_path / "store" / NAME).exists()
