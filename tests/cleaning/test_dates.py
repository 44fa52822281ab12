"""Dates that can't be, and clocks that are wrong: unknown is young, and nothing young is deleted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import requests

from regdata.cleaning import undo
from regdata.cleaning.checks import check_plan
from regdata.cleaning.cleanup import apply
from regdata.config import Config, load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Blob, make_image, make_layer, push
from regdata.errors import CleanupError
from regdata.health.doctor import doctor
from regdata.inventory.scan import scan
from regdata.planning.plan import plan
from regdata.sources.files import LocalFiles, Stat
from regdata.sources.registry import Registry
from regdata.sources.site import Site, StoreSite
from regdata.sources.storage import Storage
from tests.cleaning.test_changes import at
from tests.support.helpers import age, store_bytes
from tests.support.odd import push_blob
from tests.support.scene import BASE, CONDITION, OLD, ORPHAN, NewScene, Scene, broken, repositories

DAY = 86400
YEAR_1970, YEAR_1980, YEAR_2099 = 0, 315_532_800, 4_070_908_800
BEGUN = make_image([make_layer("in flight", 900)])
NONE: dict[str, None] = dict.fromkeys(("gc_command", "gc_before", "gc_after"))


def date_all(base_path: Path, when: float) -> None:
    """Gives every file and folder of a store the same date."""
    for folder, _, files in os.walk(base_path):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            os.utime(path, (when, when))


def upload(registry: LocalRegistry, name: str, blob: Blob) -> None:
    """A layer or config of a push whose manifest is still to come."""
    begun = requests.post(f"{registry.url}/v2/{name}/blobs/uploads/", timeout=9)
    where = begun.headers["Location"]
    requests.put(where, params={"digest": blob.digest}, data=blob.data, timeout=9).raise_for_status()


def facts(scene: Scene) -> dict[str, int]:
    """What the record of the last run says."""
    found: dict[str, int] = json.loads((scene.records()[-1] / "record.json").read_bytes())
    return found


@pytest.mark.parametrize(
    ("date", "own"), [(YEAR_1970, True), (YEAR_1980, False), (YEAR_2099, False), ("tomorrow", True)]
)
def test_dates_that_cannot_be(new_scene: NewScene, date: float | str, own: bool) -> None:
    """A store without its dates has nothing old in it: no tag, no orphan, no layer of a push, no empty repository; what
    is selected otherwise goes as ever, and frees what was predicted."""
    scene = new_scene(cache=own)
    if own:
        for blob in BEGUN.blobs:
            upload(scene.registry, "new/app", blob)
        requests.post(f"{scene.registry.url}/v2/other/app/blobs/uploads/", timeout=9).raise_for_status()
    when = time.time() + DAY if isinstance(date, str) else date
    date_all(scene.base_path, when)
    before = scene.store()
    scene.set(sql={"none": "2=1", "scene": "age_days > 90"}, **(NONE if own else {}))
    assert scene.clean() == ""
    assert scene.store() == before

    date_all(scene.base_path, when)
    size = store_bytes(scene.base_path)
    scene.set(sql={"none": "2=1", "scene": CONDITION})
    assert scene.clean() == ""
    assert facts(scene)["bytes_freed"] == facts(scene)["bytes_predicted"] == size - store_bytes(scene.base_path) > 0
    assert facts(scene)["orphans_deleted"] == 0
    assert broken(scene.base_path) == []
    if own:
        push(scene.registry.url, "new/app", "1", BEGUN)
        assert broken(scene.base_path) == []


@pytest.mark.parametrize("same_second", [False, True])
@pytest.mark.parametrize("date", [YEAR_1970, YEAR_2099])
def test_pushed_again_where_no_date_was_known(new_scene: NewScene, date: int, same_second: bool) -> None:
    """Of a tag that had no date the scan can't say when it was pushed: a push after it is one that has a date."""
    scene = new_scene()
    scene.collects_itself()
    date_all(scene.base_path, date)

    def again() -> None:
        if not same_second:
            time.sleep(1.1)
        push(scene.registry.url, "prod/old", "old", OLD)

    assert scene.clean(before_apply=again) == ""
    assert ("prod/old", "old", OLD.digest) in scene.store().tags
    assert broken(scene.base_path) == []
    assert facts(scene)["tags_moved"] == 1


@pytest.mark.parametrize("date", [YEAR_1970, YEAR_2099])
def test_an_upload_without_a_date(new_scene: NewScene, date: int) -> None:
    """An upload of which nobody knows when it began is in flight, be it the first thing in its repository: with gc-wait
    the collection is put off."""
    scene = new_scene()
    requests.post(f"{scene.registry.url}/v2/other/app/blobs/uploads/", timeout=9).raise_for_status()
    date_all(repositories(scene.base_path) / "other", date)
    scene.set(gc_wait=0.1)
    assert "1 upload was in flight before the collection (other/app)" in scene.clean()


def test_what_a_doctor_leaves(new_scene: NewScene) -> None:
    """Without their dates no upload is abandoned, and no repository empty for long: a repair leaves both."""
    scene = new_scene(cache=True)
    upload(scene.registry, "empty/app", BEGUN.blobs[0])
    requests.post(f"{scene.registry.url}/v2/other/app/blobs/uploads/", timeout=9).raise_for_status()
    date_all(scene.base_path, YEAR_1970)
    found = doctor(load_config(str(scene.conf)), repair=True)
    assert {"abandoned upload", "empty repository"}.isdisjoint(found["what"])
    assert list((repositories(scene.base_path) / "other/app/_uploads").iterdir())
    assert list((repositories(scene.base_path) / "empty/app/_layers/sha256").iterdir())


def test_kept_for_days_that_nobody_counts(new_scene: NewScene) -> None:
    """What is set aside for some days stays while it has no date, and goes when no days are asked for."""
    scene = new_scene(cache=True)
    scene.settings["trash_days"] = 7
    scene.set(**NONE)
    assert scene.clean() == ""
    kept = list((scene.base_path / "regdata-aside").glob("*/*-kept"))
    for batch in kept:
        os.utime(batch / "when-kept", (0, 0))
    assert scene.clean() == ""
    assert all(batch.is_dir() for batch in kept)
    scene.settings["trash_days"] = 0
    scene.set()
    assert scene.clean() == ""
    assert not (scene.base_path / "regdata-aside").exists()


class Lagging(LocalFiles):
    """A file server whose clock is two days behind."""

    def stat(self, path: str) -> Stat | None:
        found = super().stat(path)
        return found and found._replace(mtime=found.mtime - 2 * DAY)

    def first(self, path: str, size: int) -> tuple[bytes, int] | None:
        found = super().first(path, size)
        return found and (found[0], found[1] - 2 * DAY)


def lagging(config: Config) -> Site:
    assert config.registry.base_path
    return StoreSite(Registry.open(config.registry), Storage(config.registry.base_path, Lagging()))


def test_a_clock_that_is_behind(new_scene: NewScene) -> None:
    """Where the store's clock is behind, what was just pushed looks old: a run sees that, and keeps it."""
    scene = new_scene()
    scene.open_site = lagging
    tagged, child = (make_image([make_layer(name, 800)]) for name in ("tagged", "child"))
    push(scene.registry.url, "prod/app", "fresh", tagged)
    push(scene.registry.url, "prod/app", None, child)  # its index is still to come
    scene.set(sql={"none": "2=1", "scene": "age_days > 1 and tag_name = 'fresh'"})
    assert scene.clean() == ""
    assert ("prod/app", "fresh", tagged.digest) in scene.store().tags
    assert ("prod/app", child.digest) in scene.store().revisions
    assert scene.run
    assert scene.run.inventory
    assert -2 * DAY - 5 <= scene.run.inventory.ahead <= -2 * DAY + 5


def test_a_plan_that_did_not_know_the_clock(new_scene: NewScene) -> None:
    """A plan that took a lagging clock's dates as they are is not carried out, and the error says what to do."""
    scene = new_scene()
    config = load_config(str(scene.conf))
    planned = plan(scan(config), CONDITION)
    site = lagging(config)
    with pytest.raises(CleanupError, match=r"is 17\d+ seconds behind this machine's, and .* nothing was deleted: set"):
        check_plan(planned, config, site, gc=True, force=False)
    check_plan(planned, config, Site.open(config), gc=True, force=False)


def test_push_dates_come_back(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """What is restored has the age and rank that it had, so that the next run selects the same; what has no tag has the
    grace. By a record without dates, such as an older one, tags are as pushed today, and that is said."""
    for number, days in enumerate((400, 300, 200, 100, 50, 1, 20_000)):  # the last one's date is not to be believed
        push(registry.url, "app", f"b{number}", make_image([BASE], created=1_600_000_000 + number))
        for link in (repositories(registry.base_path) / f"app/_manifests/tags/b{number}").rglob("link"):
            os.utime(link, (time.time() - days * DAY,) * 2)
    push(registry.url, "app", None, make_image([BASE]))
    for link in (repositories(registry.base_path) / "app/_manifests/revisions").rglob("link"):
        os.utime(link, (time.time() - 9 * DAY,) * 2)
    config = load_config(conf(registry))
    before = scan(config)
    made = plan(before, "newest_rank > 3 or tag_name = 'b6'")
    assert made.manifests["reason"].value_counts().to_dict() == {"selected": 4, "orphan": 1}
    assert apply(made, config, gc=False).errors == []
    run = undo.runs(config)["run"].iloc[0]
    assert undo.verdict(undo.restore(run, config)) == "9 restored"
    dated = ["tag_name", "tag_timestamp", "pushed", "newest_rank"]
    after = scan(config)
    assert after.images[dated].to_dict("records") == before.images[dated].to_dict("records")
    tagged = [
        found.manifests.query("tagged")[["manifest_hash", "pushed"]].to_dict("records") for found in (before, after)
    ]
    assert tagged[0] == tagged[1]
    again = plan(after, made.condition)
    assert again.tags.to_dict("records") == made.tags.to_dict("records")
    assert set(again.manifests["reason"]) == {"selected"}
    assert apply(again, config, gc=False).errors == []
    newest = undo.runs(config)["run"].iloc[0]
    path = config.path.parent / newest / "plan.parquet"
    pd.read_parquet(path).drop(columns="pushed").to_parquet(path)
    assert "as pushed today: 4 tags" in undo.verdict(undo.restore(newest, config))


def test_a_plan_that_did_not_know_the_clock_and_deletes_nothing(
    registry: LocalRegistry, conf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused also where regdata would only collect: what is being pushed looks old by that clock."""
    push(registry.url, "app", "1", make_image([BASE]))
    config = load_config(conf(registry, **{"gc-command": None}))
    planned = plan(scan(config), "2=1")
    assert planned.manifests.empty
    monkeypatch.setattr(Site, "open", lagging)
    with pytest.raises(CleanupError, match=r"is 17\d+ seconds behind this machine's, and .* nothing was deleted: set"):
        apply(planned, config)


def test_pushed_again_since_an_interrupted_run_by_a_clock_that_is_behind(
    new_scene: NewScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted run was to delete, and was pushed again since, has its grace, also where the store's clock is
    behind."""
    scene = new_scene()
    scene.open_site = lagging

    def interrupt() -> None:
        raise KeyboardInterrupt

    at(monkeypatch, "deleting", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scene.clean(gc=False)
    time.sleep(1.1)  # dates are by the second
    push(scene.registry.url, "prod/app", None, ORPHAN)
    assert scene.clean(gc=False) == ""
    assert ("prod/old", OLD.digest) not in scene.store().revisions
    assert ("prod/app", ORPHAN.digest) in scene.store().revisions


def test_a_repository_that_is_being_pushed_by_a_clock_that_is_behind(new_scene: NewScene) -> None:
    """A repository that just got a layer is not removed as an empty one where, by the store's clock, that was long
    ago."""
    scene = new_scene()
    scene.open_site = lagging
    link = repositories(scene.base_path) / "new/app/_layers" / BASE.digest.replace(":", "/") / "link"
    link.parent.mkdir(parents=True)
    link.write_text(BASE.digest)
    assert scene.clean() == ""
    assert ("prod/old", OLD.digest) not in scene.store().revisions
    assert link.exists()


@pytest.mark.parametrize("how", ["linked anew", "by sha512", "mounted", "nobody knows when", "long ago", "used"])
def test_how_old_a_link_is(registry: LocalRegistry, conf: Callable[..., Path], how: str) -> None:
    """Bytes that are there for long and that no manifest uses stay where they were linked a moment ago, or nobody knows
    when: a push may have found them there. The plan knows it, so that what it predicts is freed."""
    url, layer = registry.url, make_layer("old", 5000)
    data = layer.data
    push(url, "app", "keep", make_image([make_layer("kept", 500)]))
    used = make_image([layer])
    digest = push_blob(url, "app", data)
    if how == "used":
        push(url, "app", "gone", used)
    age(registry.base_path, 200 * 86400)
    if how == "linked anew":
        push_blob(url, "app", data)
    if how == "by sha512":
        push_blob(url, "app", data, "sha512")
    if how == "mounted":
        where = f"{url}/v2/team/new/blobs/uploads/"
        assert requests.post(where, params={"mount": digest, "from": "app"}, timeout=9).status_code == 201
    link = repositories(registry.base_path) / f"app/_layers/sha256/{digest[7:]}/link"
    if how == "nobody knows when":
        os.utime(link, (0, 0))
    if how == "used":
        os.utime(link, (time.time() - 60,) * 2)
        Registry(url).delete("app", used.digest)
    blob = registry.base_path / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
    os.utime(blob, (time.time() - 200 * 86400,) * 2)
    config = load_config(conf(registry, **{"gc-command": None}))
    made = plan(scan(config), "2=1")
    result = apply(made, config)
    assert (digest in set(made.blobs["blob_hash"])) is (how in ("long ago", "used"))
    assert (result.errors, result.bytes_freed, result.bytes_expected) == ([], made.reclaimable, made.reclaimable)
