"""Changes between the scan and the deletion, and two runs at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import requests

import regdata
from regdata.cleaning.result import Result
from regdata.demo.samples import make_image, make_index, make_layer, push
from regdata.errors import StorageError
from regdata.sources.storage import Storage
from tests.support.helpers import listing, pull_all, store_bytes
from tests.support.team import (
    ARM,
    OLD,
    SINGLE,
    TAGS,
    Conf,
    Team,
    check_others,
    check_registry,
    clean,
    outcomes,
    plan_of,
    settings,
    sources,
    status,
)

# Where it is read from, and how many manifests go between two looks.
WAYS = {"folder": (True, None), "folder-2": (True, 2), "api": (False, None), "api-2": (False, 2)}
ways = pytest.mark.parametrize(("folder", "batch"), WAYS.values(), ids=WAYS)


@ways
def test_a_moved_tag(team: Team, conf: Conf, tmp_path: Path, folder: bool, batch: int | None) -> None:
    """A selected tag that was pushed again since the scan is skipped as moved, and pulls its new image."""
    config = settings(team, conf, folder=folder)
    plan = plan_of(config, "tag_name in ('2.0', '3.0')")
    new = make_image([make_layer("new", 800)])
    push(team.registry.url, "team/app", "3.0", new)
    result = regdata.apply(plan, config, batch=batch)
    assert result.errors == []
    assert outcomes(result) == {"team/app:2.0": "deleted", "team/app:3.0": "moved"}
    assert status(team.registry, "team/app:3.0") == 200
    pull_all(team.registry, "team/app:3.0", tmp_path / "new")
    check_others(team, {"team/app:2.0", "team/app:3.0"}, tmp_path)
    if folder:
        assert result.bytes_freed == result.bytes_expected


@ways
def test_a_new_tag_on_a_digest(team: Team, conf: Conf, tmp_path: Path, folder: bool, batch: int | None) -> None:
    """A digest that got another tag since the scan stays with it."""
    config = settings(team, conf, folder=folder)
    plan = plan_of(config, "tag_name in ('2.0', '3.0')")
    push(team.registry.url, "team/app", "release", TAGS["team/app:3.0"])
    result = regdata.apply(plan, config, batch=batch)
    assert result.errors == []
    assert outcomes(result) == {"team/app:2.0": "deleted", "team/app:3.0": "moved"}
    assert pull_all(team.registry, "team/app:release", tmp_path / "release") == team.pushed["team/app:3.0"]
    check_others(team, {"team/app:2.0"}, tmp_path)


@ways
def test_a_new_index_on_a_child(team: Team, conf: Conf, tmp_path: Path, folder: bool, batch: int | None) -> None:
    """An image that a new index lists since the scan stays, and so does the index."""
    config = settings(team, conf, folder=folder)
    plan = plan_of(config, "tag_name = '1.0' and image_name = 'team/app' or tag_name = '3.0'")
    push(team.registry.url, "team/app", "multi", make_index([SINGLE, ARM]))
    result = regdata.apply(plan, config, batch=batch)
    assert result.errors == []
    assert outcomes(result) == {"team/app:1.0": "moved", "team/app:3.0": "deleted"}
    pull_all(team.registry, "team/app:multi", tmp_path / "multi")
    check_others(team, {"team/app:3.0"}, tmp_path)


@ways
def test_a_tag_that_is_gone_already(team: Team, conf: Conf, tmp_path: Path, folder: bool, batch: int | None) -> None:
    """What another one deleted since the scan is no error, and the rest goes as planned."""
    config = settings(team, conf, folder=folder)
    plan, before = plan_of(config, "tag_name in ('2.0', '3.0')"), store_bytes(team.registry.base_path)
    with requests.Session() as session:
        session.trust_env = False
        digest = TAGS["team/app:3.0"].digest
        session.delete(f"{team.registry.url}/v2/team/app/manifests/{digest}").raise_for_status()
    result = regdata.apply(plan, config, batch=batch)
    assert result.errors == []
    (note,) = result.notes
    assert note.startswith("2 tags and manifests had been deleted by others since the scan")
    assert outcomes(result)["team/app:2.0"] == "deleted"
    if folder:  # over the API the children of the other index are out of sight by now
        assert before - store_bytes(team.registry.base_path) == plan.reclaimable == result.bytes_freed
    check_others(team, {"team/app:2.0", "team/app:3.0"}, tmp_path)


@pytest.mark.parametrize("collects", ["regdata", "the registry"])
def test_a_layer_that_is_used_again(team: Team, conf: Conf, tmp_path: Path, collects: str) -> None:
    """A layer of what goes that another repository's image uses since the scan stays, and is not promised as freed."""
    layer = OLD.blobs[-1]
    config = settings(team, conf, **({"gc-command": None} if collects == "regdata" else {}))
    plan, before = plan_of(config, "image_name = 'team/old'"), store_bytes(team.registry.base_path)
    push(team.registry.url, "team/new", "1", make_image([layer, make_layer("new", 800)]))
    grown = store_bytes(team.registry.base_path) - before
    result = regdata.apply(plan, config)
    assert result.errors == []
    assert layer.digest.removeprefix("sha256:") in pull_all(team.registry, "team/new:1", tmp_path / "new")
    freed = before + grown - store_bytes(team.registry.base_path)
    assert result.bytes_predicted > result.bytes_expected == result.bytes_freed == freed > 0


@sources
def test_two_runs_at_once(team: Team, conf: Conf, tmp_path: Path, folder: bool) -> None:
    """The second of two runs at once refuses, and leaves the first one alone."""
    go = tmp_path / "go"
    wait = f"touch {tmp_path}/waiting; while [ ! -e {go} ]; do sleep 0.01; done; {' '.join(team.registry.gc_command)}"
    config = settings(team, conf, folder=folder, **{"gc-command": ["sh", "-c", wait]})
    first, second = plan_of(config, "tag_name = '2.0'"), plan_of(config, "tag_name = '3.0'")
    results: list[Result] = []
    runner = threading.Thread(target=lambda: results.append(regdata.apply(first, config)))
    runner.start()
    try:
        while not (tmp_path / "waiting").exists():
            assert runner.is_alive()
            time.sleep(0.01)
        before = listing(team.registry.base_path)
        with pytest.raises(StorageError, match=r"(?i)another regdata run is working on .*"):
            regdata.apply(second, config)
        assert listing(team.registry.base_path) == before
    finally:
        go.touch()
        runner.join()
    assert results[0].errors == []
    check_registry(team, {"team/app:2.0"}, tmp_path)
    assert regdata.apply(second, config).errors == []


def test_the_lock_ends_with_the_run(team: Team, conf: Conf) -> None:
    """A run that was refused or has ended holds no lock."""
    config = settings(team, conf)
    clean(config, "tag_name = '2.0'")
    with Storage(team.registry.base_path).lock():
        pass


def test_a_child_that_was_never_there(team: Team, conf: Conf) -> None:
    """An index lists a child that is in another repository alone, from where a scan over the API knows it: a clean-up
    of something else has not lost it."""
    url = team.registry.url
    child = make_image([make_layer("elsewhere", 90)], oci=True)
    push(url, "team/first", "child", child)
    push(url, "team/second", "sparse", make_index([child]))
    with requests.Session() as session:
        session.trust_env = False
        session.delete(f"{url}/v2/team/second/manifests/{child.digest}").raise_for_status()
        for blob in child.blobs:
            session.delete(f"{url}/v2/team/second/blobs/{blob.digest}").raise_for_status()
    config = settings(team, conf, folder=False)
    for condition in ("tag_name = '2.0'", "tag_name = '3.0'"):  # the second scan has it from the cache
        result = clean(config, condition)
        assert result.errors == []
        assert any("never there but for an index" in note for note in result.notes)
