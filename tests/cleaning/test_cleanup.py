"""A clean-up of a real registry: what goes, what still pulls, and the bytes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

import regdata
from regdata.demo.samples import make_image, make_layer, push
from regdata.errors import CleanupError
from tests.support.helpers import listing, store_bytes
from tests.support.team import (
    HOUR,
    OLD,
    SIGNATURE,
    TAGS,
    Conf,
    Team,
    catalog,
    check_others,
    check_registry,
    clean,
    outcomes,
    plan_of,
    record_of,
    settings,
    sources,
    status,
)


@pytest.mark.parametrize(
    ("condition", "gone"),
    [
        ("image_name = 'team/app' and tag_name = '2.0'", {"team/app:2.0"}),
        ("tag_name in ('2.0', '2.0-amd64')", {"team/app:2.0", "team/app:2.0-amd64"}),
        (
            "image_name like 'team/app%' and tag_name in ('1.0', '3.0')",
            {"team/app:1.0", "team/app:3.0", "team/app/worker:1.0", SIGNATURE},
        ),
        ("kind = 'artifact' or image_name = 'team/old'", {"charts/web:0.1", "team/old:1.0"}),
        ("tag_name in ('latest', 'same')", {"team/app:latest", "team/app:same"}),
        ("1=1", set(TAGS)),
    ],
)
def test_what_stays_still_pulls(team: Team, conf: Conf, tmp_path: Path, condition: str, gone: set[str]) -> None:
    """Tags not selected pull digest for digest, selected ones answer 404; the bytes are the predicted ones."""
    config = settings(team, conf)
    plan = plan_of(config, condition)
    before = store_bytes(team.registry.base_path)
    result = regdata.apply(plan, config)
    assert result.errors == []
    assert result.notes == []
    assert before - store_bytes(team.registry.base_path) == plan.reclaimable > 0
    assert plan.reclaimable == result.bytes_predicted == result.bytes_expected == result.bytes_freed
    check_registry(team, gone, tmp_path)
    assert set(outcomes(result).values()) == {"deleted"}
    assert set(result.manifests["outcome"]) == {"deleted"}
    assert plan_of(config, condition).reclaimable == 0, "nothing is left to do"


@sources
def test_selecting_nothing(team: Team, conf: Conf, folder: bool) -> None:
    """A condition that selects nothing, in a registry without orphans, leaves every file as it was."""
    before = listing(team.registry.base_path)
    result = clean(settings(team, conf, folder=folder), "2=1")
    assert (result.errors, len(result.tags), len(result.manifests)) == ([], 0, 0)
    assert listing(team.registry.base_path) == before


def test_api_alone(team: Team, conf: Conf, tmp_path: Path) -> None:
    """Without base_path the same tags go; on 2.x, one whose digest another tag needs stays."""
    config = settings(team, conf, folder=False)
    before = store_bytes(team.registry.base_path)
    result = clean(config, "tag_name in ('2.0', 'same')")
    assert result.errors == []
    assert outcomes(result) == {"team/app:2.0": "deleted", "team/app:same": "kept"}
    assert dict(zip(result.tags["tag_name"], result.tags["reason"], strict=True))["same"] == "shared-digest"
    check_registry(team, {"team/app:2.0"}, tmp_path)
    assert result.bytes_freed is None
    assert before - store_bytes(team.registry.base_path) == result.bytes_predicted


def test_untag(team: Team, conf: Conf, tmp_path: Path) -> None:
    """With the folder a tag goes alone where another tag needs its digest, whose bytes the record has; nothing is
    collected."""
    config = settings(team, conf)
    before = store_bytes(team.registry.base_path)
    result = clean(config, "tag_name = 'same'")
    assert (result.errors, outcomes(result)) == ([], {"team/app:same": "untagged"})
    digest = result.tags["tag_hash"].iloc[0]
    (saved,) = config.reports.glob(f"*/manifests/{digest.replace(':', '-')}")
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == digest[7:]
    check_registry(team, {"team/app:same"}, tmp_path)
    assert (store_bytes(team.registry.base_path), result.bytes_predicted, result.collection.ran) == (before, 0, False)


def test_protect(team: Team, conf: Conf, tmp_path: Path) -> None:
    """What `protect` matches stays, whatever the condition says, and all that it needs."""
    result = clean(settings(team, conf, protect="tag_name = '2.0'"), "1=1")
    assert result.errors == []
    check_registry(team, TAGS.keys() - {"team/app:2.0"}, tmp_path)


def test_orphans(team: Team, conf: Conf, tmp_path: Path) -> None:
    """An old orphan goes with any run, a young one stays: a push may be in flight."""
    root = team.registry.base_path / "docker/registry/v2/repositories/team/old/_manifests"
    orphans = [make_image([make_layer(seed, 700)]) for seed in ("old orphan", "young orphan")]
    for orphan in orphans:
        push(team.registry.url, "team/old", None, orphan)
    then = time.time() - 3 * HOUR
    os.utime(root / "revisions/sha256" / orphans[0].digest[7:] / "link", (then, then))
    result = clean(settings(team, conf), "2=1")
    assert result.errors == []
    assert list(result.manifests["manifest_hash"]) == [orphans[0].digest]
    assert status(team.registry, f"team/old:{orphans[0].digest}") == 404
    assert status(team.registry, f"team/old:{orphans[1].digest}") == 200
    check_registry(team, set(), tmp_path)


def test_empty_repositories_go(team: Team, conf: Conf) -> None:
    """A repository that is left without a manifest leaves the catalog; not one that got a layer just now."""
    push(team.registry.url, "team/new", "1.0", OLD)
    result = clean(settings(team, conf), "image_name in ('team/old', 'team/new', 'team/app')")
    assert result.errors == []
    assert set(catalog(team.registry)) == {"charts/web", "team/api", "team/app/worker", "team/new"}


@sources
def test_a_damaged_manifest(team: Team, conf: Conf, folder: bool, tmp_path: Path, naps: list[float]) -> None:
    """A manifest that can't be read is kept with all that it might reach; the collection would stop at it."""
    push(team.registry.url, "charts/web", "other", OLD)
    chart = TAGS["charts/web:0.1"].digest
    blob = team.registry.base_path / "docker/registry/v2/blobs/sha256" / chart[7:9] / chart[7:] / "data"
    blob.write_bytes(b"garbage")
    before = store_bytes(team.registry.base_path)
    config, condition = settings(team, conf, folder=folder), "image_name like 'charts/%' or tag_name = '2.0'"
    if folder:  # it is seen before anything is deleted
        told = listing(team.registry.base_path)
        with pytest.raises(CleanupError, match=r"charts/web@.*collection stops at them, so nothing was deleted"):
            clean(config, condition)
        assert listing(team.registry.base_path) == told
    result = clean(config, condition, gc=not folder)
    assert outcomes(result)["team/app:2.0"] == "deleted"
    assert outcomes(result)["charts/web:0.1"] == "kept"
    root = team.registry.base_path / "docker/registry/v2/repositories/charts/web/_manifests/revisions/sha256"
    for digest in (chart, OLD.digest):
        assert (root / digest[7:] / "link").exists()
    if not folder:
        assert "gc-command failed" in result.errors[0]
        assert "failed to garbage collect" in result.errors[0]
    assert store_bytes(team.registry.base_path) == before
    check_others(team, {"team/app:2.0", "charts/web:0.1"}, tmp_path)


def test_what_the_record_says_of_the_store(team: Team, conf: Conf) -> None:
    """The record says how much is stored after the collection, and which repositories were removed."""
    config = settings(team, conf)
    assert clean(config, "image_name = 'team/old'").errors == []
    facts = record_of(config)
    assert facts["bytes_stored_after"] == store_bytes(team.registry.base_path)
    assert facts["repositories_removed"] == ["team/old"]
