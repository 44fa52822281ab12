"""What is refused before anything is deleted."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.cleaning.checks import check_plan
from regdata.collecting.commands import check_commands
from regdata.errors import AccessError, CleanupError, RegdataError, RegistryError, StorageError
from regdata.inventory.scan import collector_of
from regdata.sources.files import LocalFiles
from regdata.sources.site import Site
from tests.support import fakes
from tests.support.fakes import FakeRegistry, error_reply
from tests.support.helpers import listing, nobodys_blob, store_tags
from tests.support.proxy import Fault
from tests.support.scene import NewScene
from tests.support.small import Small
from tests.support.team import OLD, TAGS, Conf, Files, Team, clean, plan_of, record_of, serve, settings


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
        *(
            ({"gc-command": ["sh", "-c", words]}, CleanupError, r"contains --delete-untagged")
            for words in (
                "gc --delete-untagged=1",
                "registry garbage-collect c.yml -m; echo done",
                "registry garbage-collect c.yml --delete-untagged>/var/log/gc.log 2>&1",
                "registry garbage-collect '-m' c.yml",
                "(registry garbage-collect c.yml -m)",
                "docker run -m 512m registry:2 garbage-collect c.yml -md|tee gc.log",
                "exec bash -c 'registry garbage-collect \"-m\" c.yml && true'",
                "echo $(registry garbage-collect c.yml -m)",
                "echo `/bin/registry garbage-collect c.yml -m`",
                "registry garbage-collect c.yml -m # it's all",
            )
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
    ("own", "of", "text"),
    [(True, "team/app:2.0-amd64", ""), (False, "team/app:1.0", "{}\n"), (False, "charts/web:0.1", "")],
)
def test_a_link_that_holds_no_digest(team: Team, conf: Conf, own: bool, of: str, text: str) -> None:
    """A link that a crash left empty, or an editor with a line end, is named before anything goes: of what is to go,
    and of what a collector reads."""
    config = settings(team, conf, **({"gc-command": None} if own else {}))
    repositories = team.registry.base_path / "docker/registry/v2/repositories"
    digest = TAGS[of].digest
    link = repositories / of.split(":")[0] / "_manifests/revisions" / digest.replace(":", "/") / "link"
    link.write_text(text.format(digest))
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
        nobodys_blob(registry.base_path)
        before = content(registry.base_path)
        # Its cache could not be made to forget what the collection takes.
        with pytest.raises(CleanupError, match=r"nothing was deleted: .* delete is disabled; set storage\.delete"):
            clean(settings(team, conf, folder=True), "2=1")
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


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("registry garbage-collect c.yml -m=true", True),
        ("registry garbage-collect -qm c.yml", True),
        ("docker run -m 512m registry:2 garbage-collect c.yml", False),
        ("registry garbage-collect -d c.yml", False),
    ],
)
def test_flags_of_a_collector(tmp_path: Path, words: str, refused: bool) -> None:
    """However the flag is written by which it deletes untagged manifests, it is refused; the same letter before
    garbage-collect is the flag of another program."""
    settings = {"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": ["sh", "-c", words]}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    with pytest.raises(CleanupError, match="contains --delete-untagged") if refused else nullcontext():
        check_commands(regdata.load_config(tmp_path))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("a copy", r"copy is not the folder that .* writes to .* nothing was deleted"),
        ("another name", r"by the symbolic link .*/team/too, .* nothing was deleted"),
        ("fixed", r"tags/same can't be changed, so nothing was deleted"),
    ],
)
def test_a_tag_that_goes_alone(
    team: Team, conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    """What keeps a manifest from being deleted keeps a tag, too, that goes while its digest stays, and all others."""
    base = team.registry.base_path
    if what == "a copy":
        shutil.copytree(base, tmp_path / "copy")
        base = tmp_path / "copy"
    repositories = base / "docker/registry/v2/repositories/team"
    if what == "another name":
        (repositories / "too").symlink_to(repositories / "app")
    if what == "fixed":
        monkeypatch.setattr(LocalFiles, "writable", lambda files, folder: not folder.endswith("/tags/same"))
    config = settings(team, conf, registry={"url": team.registry.url, "base_path": str(base)})
    planned = plan_of(config, "image_name = 'team/app' and tag_name = 'same'")
    assert (list(planned.tags["action"]), len(planned.manifests)) == (["untag"], 0)
    before = store_tags(base)
    with pytest.raises(RegdataError, match=message):
        regdata.apply(planned, config)
    assert store_tags(base) == before


def test_a_program_beside_conf_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is a path is looked for from conf.json's folder on, as it is run, wherever regdata is started."""
    settings = {"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": ["./gc.sh"]}
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conf.json").write_text(json.dumps(settings))
    (tmp_path / "here/gc.sh").write_text("#!/bin/sh\n")
    (tmp_path / "here/gc.sh").chmod(0o755)
    check_commands(regdata.load_config(tmp_path / "here"))
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(CleanupError, match=r"'\./gc\.sh' of .* is not a program"):
        check_commands(regdata.load_config(tmp_path / "elsewhere"))


def test_a_registry_that_takes_no_uploads(new_scene: NewScene) -> None:
    """Where no upload can be begun, for a full disk say, nobody can tell whether base_path is the registry's own folder
    or a copy: nothing is deleted, be it that nothing is to be collected."""
    scene = new_scene()
    before = scene.store()

    def refuse() -> None:
        scene.proxy.on("POST", "/blobs/uploads/", Fault(500))

    error = scene.clean(gc=False, before_apply=refuse)
    assert "POST" in error
    assert "HTTP 500" in error
    assert scene.store() == before


@pytest.mark.parametrize("within", [["b"], ["a", "b"]])
def test_a_login_that_may_not_push(tmp_path: Path, within: list[str]) -> None:
    """Where nothing goes, and gc-command is to collect, an upload tells whether base_path is the registry's own folder:
    a login that may not begin one is refused; what is outside registry.repositories is not tried."""
    small = Small()
    for name in ("a", "b"):
        small.push(name, "1", days=9, layer=100)
        (tmp_path / "store/docker/registry/v2/repositories" / name / "_manifests").mkdir(parents=True)
    small.blob("nobody", 5, 9)
    with fakes.serve(FakeRegistry()) as fake:
        fake.on("POST /v2/a/blobs/uploads/", error_reply(403, "DENIED"), forever=True)
        registry = {"url": fake.url, "base_path": str(tmp_path / "store"), "repositories": within}
        settings = {"registry": registry, "sql": {}, "gc-command": ["true"]}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = regdata.load_config(tmp_path)
        site = Site.open(config)
        plan = regdata.plan(small.inventory(collector=collector_of(config, site)), "2=1")
        assert (len(plan.manifests), plan.reclaimable) == (0, 5)
        with nullcontext() if within == ["b"] else pytest.raises(AccessError, match=r"POST .*HTTP 403"):
            assert check_plan(plan, config, site, gc=True, force=False) == set()


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("docker run -m 512m registry:2 garbage-collect c.yml", False),
        ("docker run -m 512m registry:2 garbage-collect -m c.yml", True),
        ("docker run -m 512m own /opt/registry-garbage-collect c.yml", False),
        ("sh -c 'registry garbage-collect -m a.yml && registry garbage-collect b.yml'", True),
        ("sh -c 'registry garbage-collect /etc/c#1.yml -m'", True),
    ],
)
def test_flags_that_are_words_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, refused: bool
) -> None:
    """A command's flags are judged by all of its words together: from the first collection on, be there a second one,
    to the last, whatever is in a file's name."""
    settings = {"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "gc-command": shlex.split(words)}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    monkeypatch.setattr(shutil, "which", str)  # as if there were a docker
    with pytest.raises(CleanupError, match="contains --delete-untagged") if refused else nullcontext():
        check_commands(regdata.load_config(tmp_path))
