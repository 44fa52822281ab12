"""A clean-up of a real registry: what goes, what still pulls, the bytes, and everything that is refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.cleaning.cleanup import Result
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    Image,
    make_helm_chart,
    make_image,
    make_index,
    make_layer,
    make_signature,
    push,
    signature_tag,
)
from regdata.errors import CleanupError, RegdataError, RegistryError, StorageError
from regdata.planning.plan import Plan
from regdata.sources.storage import Storage
from tests.support.helpers import age, docker_ref, listing, pull_all, skopeo_copy, store_bytes, store_tags
from tests.support.scene import broken

HOUR = 3600
BASE = make_layer("base", 4000)
AMD = make_image([BASE, make_layer("amd", 1500)], oci=True)
ARM = make_image([BASE, make_layer("arm", 1600)], platform="linux/arm64/v8", oci=True)
DOCKER_AMD = make_image([BASE, make_layer("docker amd", 1700)])
DOCKER_ARM = make_image([BASE, make_layer("docker arm", 1800)], platform="linux/arm64")
SINGLE = make_image([BASE, make_layer("single", 2000)])
OLD = make_image([make_layer("old", 2100)])
INDEX = make_index([AMD, ARM], attest=True)

SIGNATURE = f"team/app/worker:{signature_tag(SINGLE)}"

# What skopeo copies into the registry.
TAGS: dict[str, Image] = {
    "team/app:1.0": SINGLE,
    "team/app:2.0": INDEX,
    "team/app:2.0-amd64": AMD,
    "team/app:3.0": make_index([DOCKER_AMD, DOCKER_ARM], oci=False),
    "team/app:latest": make_image([BASE, make_layer("latest", 1900)]),
    "team/app:same": make_image([BASE, make_layer("latest", 1900)]),
    "team/app/worker:1.0": SINGLE,
    "team/api:1.0": make_index([ARM, make_image([make_layer("api", 900)], oci=True)]),
    "team/old:1.0": OLD,
    "charts/web:0.1": make_helm_chart("web", 800),
    SIGNATURE: make_signature(SINGLE),
}

Files = dict[str, str]


@dataclass(frozen=True)
class Team:
    """A registry that skopeo filled, and what every tag pulled as when it was pushed."""

    registry: LocalRegistry
    pushed: dict[str, Files]


@pytest.fixture(scope="session")
def team_template(tools: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Files]]:
    """The store of a registry that `skopeo copy --all` filled from another one, three hours ago; and what it held."""
    folder = tmp_path_factory.mktemp("team")
    pushed: dict[str, Files] = {}
    with LocalRegistry(folder / "source") as source, LocalRegistry(folder / "filled") as filled:
        for name, image in TAGS.items():
            repository, tag = name.split(":")
            push(source.url, repository, tag, image)
            pushed[name] = pull_all(source, name, folder / f"pulled-{len(pushed)}")
            skopeo_copy(docker_ref(source, name), docker_ref(filled, name))
    age(folder / "filled/store", 3 * HOUR)
    return folder / "filled/store", pushed


def serve(template: Path, folder: Path, *, delete: bool = True, cache: bool = False) -> LocalRegistry:
    copy = LocalRegistry(folder, delete=delete, cache=cache)
    shutil.copytree(template, copy.base_path)
    return copy


@pytest.fixture
def team(team_template: tuple[Path, dict[str, Files]], tmp_path: Path) -> Iterator[Team]:
    """This test's own copy of that registry."""
    template, pushed = team_template
    with serve(template, tmp_path / "registry") as registry:
        yield Team(registry, pushed)


@pytest.fixture
def registry_with_cache(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """An empty one, with its cache as it comes."""
    with LocalRegistry(tmp_path / "cached registry", cache=True) as registry:
        yield registry


Conf = Callable[..., Path]
sources = pytest.mark.parametrize("folder", [True, False], ids=["folder", "api"])
# How many manifests go between two looks.
batches = pytest.mark.parametrize("batch", [2, None], ids=["two at a time", "all at once"])


def settings(team: Team, conf: Conf, *, folder: Any = True, **overrides: Any) -> regdata.config.Config:
    if not folder:
        overrides["registry"] = {"url": team.registry.url}
    return load_config(conf(team.registry, **overrides))


def plan_of(config: regdata.config.Config, condition: str) -> Plan:
    return regdata.plan(regdata.scan(config), condition)


def clean(config: regdata.config.Config, condition: str, **options: Any) -> Result:
    return regdata.apply(plan_of(config, condition), config, **options)


def check_registry(team: Team, gone: set[str], tmp_path: Path) -> None:
    """Every tag but those that are gone pulls as it was pushed; those answer 404."""
    assert store_tags(team.registry.base_path) == TAGS.keys() - gone
    for number, name in enumerate(sorted(TAGS)):
        if name in gone:
            assert status(team.registry, name) == 404, name
        else:
            assert pull_all(team.registry, name, tmp_path / f"after-{number}") == team.pushed[name], name


def status(registry: LocalRegistry, name: str) -> int:
    repository, _, tag = name.partition(":")
    with requests.Session() as session:
        session.trust_env = False
        accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"
        url = f"{registry.url}/v2/{repository}/manifests/{tag}"
        return session.get(url, headers={"Accept": accept}, timeout=5).status_code


def catalog(registry: LocalRegistry) -> list[str]:
    with requests.Session() as session:
        session.trust_env = False
        found: list[str] = session.get(f"{registry.url}/v2/_catalog", timeout=5).json()["repositories"]
        return found


def outcomes(result: Result) -> dict[str, str]:
    tags = result.tags
    return dict(zip(tags["image_name"] + ":" + tags["tag_name"], tags["outcome"], strict=True))


def record_of(config: regdata.config.Config) -> dict[str, Any]:
    *_, path = sorted(config.reports.glob("*/record.json"))
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def events(config: regdata.config.Config) -> list[str]:
    *_, path = sorted(config.reports.glob("*/journal.jsonl"))
    return [
        " ".join(str(event[key]) for key in ("event", "step") if key in event)
        for event in map(json.loads, path.read_text().splitlines())
    ]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# What goes and what stays


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
    assert clean(config, condition).bytes_predicted == 0, "nothing is left to do"


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
    """With the folder a tag goes alone where another tag needs its digest; nothing is collected."""
    config = settings(team, conf)
    before = store_bytes(team.registry.base_path)
    result = clean(config, "tag_name = 'same'")
    assert (result.errors, outcomes(result)) == ([], {"team/app:same": "untagged"})
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


# What is refused


def write_only(folder: Path) -> Path:
    folder.mkdir()
    (folder / "notes.txt").write_text("not a store")
    return folder


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"registry": "missing"}, StorageError, r"missing is not a folder\. Set registry\.base_path to the folder"),
        (
            {"registry": "other things"},
            StorageError,
            r"has no docker/registry/v2, but notes\.txt\. Set registry\.base_path",
        ),
        ({"registry": "another's"}, StorageError, r"base_path .* is not the folder of .*: the registry serves"),
        ({"gc-command": ["no-such-program"]}, CleanupError, r"gc-command: 'no-such-program' of .* is not a program"),
        ({"gc-command": ["./no/such"]}, CleanupError, r"gc-command: './no/such' of .* is not a program"),
        ({"gc-before": ["no-such-program"]}, CleanupError, r"gc-before: 'no-such-program' of .* is not a program"),
        ({"gc-after": ["no-such-program"]}, CleanupError, r"gc-after: 'no-such-program' of .* is not a program"),
        (
            {"gc-command": ["sh", "-m", "c"]},
            CleanupError,
            r"contains --delete-untagged",
        ),
        (
            {"gc-command": ["sh", "-dm", "c"]},
            CleanupError,
            r"contains --delete-untagged",
        ),
        (
            {"gc-command": ["sh", "-c", "gc --delete-untagged=1"]},
            CleanupError,
            r"contains --delete-untagged",
        ),
        (
            {"limits": {"max_tags": 1}},
            CleanupError,
            r"delete 2 tags, which passes limits\.max_tags = 1 of .* by 1",
        ),
        (
            {"limits": {"max_percent": 10}},
            CleanupError,
            r"18\.2 % of all tags \(2 of 11\), .* limits\.max_percent",
        ),
        (
            {"limits": {"max_bytes": 10}},
            CleanupError,
            r"delete \d+ bytes, which passes limits\.max_bytes = 10 of",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_refused(
    team: Team, conf: Conf, tmp_path: Path, overrides: dict[str, Any], error: type[RegdataError], message: str
) -> None:
    """A clean-up that can't be sure is one clear error, and not a file of the store has changed."""
    if where := overrides.get("registry"):
        folder = tmp_path / where
        if where == "other things":
            write_only(folder)
        if where == "another's":
            (folder / "docker/registry/v2").mkdir(parents=True)
        overrides = {"registry": {"url": team.registry.url, "base_path": str(folder)}}
    before = listing(team.registry.base_path)
    with pytest.raises(error, match=message) as caught:
        clean(settings(team, conf, **overrides), "tag_name in ('2.0', '3.0')")
    assert "\n" not in str(caught.value)
    assert listing(team.registry.base_path) == before


def test_a_copy_is_refused(team: Team, conf: Conf, tmp_path: Path) -> None:
    """A copy of the right store, with its own uploads, is not what the registry writes to: nothing goes in either."""
    for name in ("team/api", "team/app"):
        requests.post(f"{team.registry.url}/v2/{name}/blobs/uploads/", timeout=5).raise_for_status()
    shutil.copytree(team.registry.base_path, tmp_path / "copy")
    config = settings(team, conf, registry={"url": team.registry.url, "base_path": str(tmp_path / "copy")})
    copied, tags = listing(tmp_path / "copy"), listing(team.registry.base_path)
    with pytest.raises(CleanupError, match=r"copy is not the folder that .* writes to .* nothing was deleted"):
        clean(config, "tag_name = '2.0'")
    assert listing(tmp_path / "copy") == copied
    now = listing(team.registry.base_path)
    assert {path for path in now.keys() ^ tags.keys() if "_uploads" not in path} == set()


@pytest.mark.parametrize(
    ("own", "of"), [(True, "team/app:2.0-amd64"), (False, "team/app:1.0"), (False, "charts/web:0.1")]
)
def test_a_link_of_no_length(team: Team, conf: Conf, own: bool, of: str) -> None:
    """A link that a crash left empty is named before anything goes: of what is to go, and of what a collector reads."""
    config = settings(team, conf, **({"gc-command": None} if own else {}))
    repositories = team.registry.base_path / "docker/registry/v2/repositories"
    digest = TAGS[of].digest
    link = repositories / of.split(":")[0] / "_manifests/revisions" / digest.replace(":", "/") / "link"
    link.write_bytes(b"")
    planned = plan_of(config, "tag_name like '2.0%'")
    with pytest.raises(CleanupError) as error:
        regdata.apply(planned, config)
    assert f"nothing was deleted: {link} holds no digest" in str(error.value)
    link.write_text(digest)
    assert clean(config, "tag_name like '2.0%'").errors == []


def test_a_link_to_a_blob_of_no_length(team: Team, conf: Conf) -> None:
    """An empty link at which the registry fails after its collection is named."""
    layers = team.registry.base_path / "docker/registry/v2/repositories/team/old/_layers"
    link = layers / OLD.blobs[-1].digest.replace(":", "/") / "link"
    pushed = link.stat().st_mtime
    link.write_bytes(b"")
    os.utime(link, (pushed, pushed))
    (error,) = clean(settings(team, conf), "image_name = 'team/old'").errors
    assert f"since {link} holds no digest" in error
    assert "HTTP 500" in error


def test_delete_disabled(team_template: tuple[Path, dict[str, Files]], conf: Conf, tmp_path: Path) -> None:
    """A registry that does not allow deletions is told before the first one, with the setting to change.

    What may be new is an upload that was begun and given up: it tells a pull-through cache.
    """

    def content(base_path: Path) -> dict[str, tuple[int, int]]:
        return {path: what for path, what in listing(base_path).items() if "_uploads" not in path and what[0]}

    template, pushed = team_template
    with serve(template, tmp_path / "registry", delete=False) as registry:
        team = Team(registry, pushed)
        before = content(registry.base_path)
        for folder in (True, False):
            with pytest.raises(CleanupError, match=r"nothing was deleted: .* delete is disabled; set storage\.delete"):
                clean(settings(team, conf, folder=folder), "tag_name in ('2.0', 'same')")
        assert content(registry.base_path) == before


def test_registry_down(team: Team, conf: Conf) -> None:
    """A registry that went down after the scan is one line; its record says so too."""
    config = settings(team, conf)
    plan = plan_of(config, "tag_name = '2.0'")
    team.registry.stop()
    before = listing(team.registry.base_path)
    with pytest.raises(RegistryError, match=r"can't connect: Connection refused; check that the registry runs"):
        regdata.apply(plan, config)
    assert listing(team.registry.base_path) == before
    facts = record_of(config)
    assert facts["status"] == "failed"
    assert "Connection refused" in facts["errors"][0]


def test_base_path_gone_after_the_scan(team: Team, conf: Conf, tmp_path: Path) -> None:
    """Whatever stops a clean-up before its first deletion is in its record."""
    config = settings(team, conf)
    plan = plan_of(config, "tag_name = '2.0'")
    team.registry.base_path.rename(tmp_path / "away")
    with pytest.raises(StorageError, match="is not a folder"):
        regdata.apply(plan, config)
    assert record_of(config)["status"] == "failed"


def test_force(team: Team, conf: Conf) -> None:
    """force goes beyond the limits; a plan within them needs none."""
    config = settings(team, conf, limits={"max_tags": 1, "max_percent": 10, "max_bytes": 10**9})
    assert clean(config, "tag_name = '2.0'").errors == []
    assert clean(config, "1=1", force=True).errors == []
    assert store_tags(team.registry.base_path) == set()


# The collection


def test_without_collection(team: Team, conf: Conf) -> None:
    """gc=False needs no gc-command, deletes and frees nothing; the next run frees what was left."""
    before = store_bytes(team.registry.base_path)
    plan = plan_of(settings(team, conf), "tag_name = '2.0'")
    result = clean(settings(team, conf, **{"gc-command": None}), "tag_name = '2.0'", gc=False)
    assert (result.errors, result.bytes_freed) == ([], None)
    assert status(team.registry, "team/app:2.0") == 404
    assert store_bytes(team.registry.base_path) == before
    second = clean(settings(team, conf), "2=1")
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
    """A gc-command that collects another store frees nothing of ours: the run says so."""
    with LocalRegistry(tmp_path / "other") as other:
        push(other.url, "a", "1", OLD)
        result = clean(settings(team, conf, **{"gc-command": other.gc_command}), "tag_name = '2.0'")
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


def test_gc_after_that_restarts_nothing(
    team_template: tuple[Path, dict[str, Files]], conf: Conf, tmp_path: Path
) -> None:
    """Where gc-after left the registry's cache as it was the run says so, and the image can be pushed again."""
    template, pushed = team_template
    with serve(template, tmp_path / "registry", cache=True) as registry:
        team = Team(registry, pushed)
        pull_all(registry, "team/app:2.0", tmp_path / "cached")
        result = clean(settings(team, conf, **{"gc-after": ["true"]}), "tag_name = '2.0'")
        assert any("Restart the registry now, and have gc-after do so" in error for error in result.errors)
        push(registry.url, "team/app", "2.0", INDEX)
        assert pull_all(registry, "team/app:2.0", tmp_path / "again") == pushed["team/app:2.0"]


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


# Changes between the scan and the deletion


@batches
@sources
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


@batches
@sources
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


@batches
@sources
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


@batches
@sources
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
    assert result.notes == ["2 tags and manifests had been deleted by others since the scan"]
    assert outcomes(result)["team/app:2.0"] == "deleted"
    if folder:  # over the API the children of the other index are out of sight by now
        assert before - store_bytes(team.registry.base_path) == plan.reclaimable == result.bytes_freed
    check_others(team, {"team/app:2.0", "team/app:3.0"}, tmp_path)


def check_others(team: Team, besides: set[str], tmp_path: Path) -> None:
    """Every tag as skopeo pushed it pulls as it did, besides some."""
    for number, name in enumerate(sorted(TAGS.keys() - besides)):
        assert pull_all(team.registry, name, tmp_path / f"other-{number}") == team.pushed[name], name


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
