"""The whole job (list, delete, restore, delete and collect) on registries as people run them; it leaves no secret.

Each is a real registry: with passwords, with tokens, with certificates, behind nginx, on S3; and those that delete
nothing.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

import regdata
from regdata.command import cli
from regdata.errors import CleanupError
from regdata.notebook import run as steps
from tests.support.ground import (
    NAME,
    Ground,
    SetUp,
    certificates,
    clean,
    identity_token,
    left_behind,
    limited,
    object_store,
    passwords,
    run,
    sub_path,
    tokens,
)
from tests.support.helpers import ROOT
from tests.support.notebooks import PAPERMILL, execute
from tests.support.scene import Finished, Store, broken, read_store

CLEAR, REGDATA = (str(Path(sys.executable).with_name(name)) for name in ("clear.py", "regdata"))
Made = Callable[[Ground], SetUp]


class Way:
    """How a step is done: by the console scripts, by papermill, or in this process; what was said is kept."""

    def __init__(self, ground: Ground, conf: Path) -> None:
        self.ground, self.conf, self.said = ground, conf, ""
        (ground.folder / "out").mkdir()

    def clear(self, action: str, *more: str) -> None:
        self.said += run(self.ground, CLEAR, "scene", action, *more, "--conf", str(self.conf))

    def papermill(self, name: str, **parameters: str) -> None:
        given = [word for pair in ({"conf": str(self.conf)} | parameters).items() for word in ("-p", *pair)]
        out = f"out/{name}-{len(self.said)}.ipynb"
        self.said += run(self.ground, *PAPERMILL, str(ROOT / f"notebooks/{name}.ipynb"), out, *given)

    def restore(self) -> None:
        self.said += run(self.ground, REGDATA, "restore", str(self.record()), "--conf", str(self.conf))

    def here(self, action: str, *, gc: bool = True) -> None:
        job = steps.start(sql_id="scene", action=action, conf=str(self.conf), gc=gc)
        job.scan()
        job.plan()
        self.said += f"{job.apply()}{job.finish()}"

    def record(self) -> Path:
        """The folder of the last run's record."""
        return max(path.parent for path in (self.ground.folder / "reports").glob("*/record.json"))


def scripts_first(way: Way) -> tuple[Callable[[], object], ...]:
    return (
        lambda: way.clear("none"),
        lambda: way.clear("del", "--no-gc"),
        lambda: way.papermill("restore", run=str(way.record())),
        lambda: way.papermill("delete", sql_id="scene"),
    )


def papermill_first(way: Way) -> tuple[Callable[[], object], ...]:
    return (
        lambda: way.papermill("delete", sql_id="scene", action="none"),
        lambda: way.papermill("delete", sql_id="scene", gc="False"),
        way.restore,
        lambda: way.clear("del"),
    )


def in_process(way: Way) -> tuple[Callable[[], object], ...]:
    return (
        lambda: way.here("none"),
        lambda: way.here("del", gc=False),
        lambda: regdata.restore(way.record(), regdata.load_config(way.conf)),
        lambda: way.here("del"),
    )


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(
    ("set_up", "ways"),
    [
        (passwords, scripts_first),
        (tokens, papermill_first),
        (identity_token, in_process),
        (certificates, scripts_first),
        (sub_path, in_process),
        (limited, in_process),
        (object_store, in_process),
    ],
    ids=lambda value: value.__name__,
)
def test_the_whole_job(
    ground: Ground, finished: Finished, set_up: Made, ways: Callable[[Way], tuple[Callable[[], object], ...]]
) -> None:
    """Listed, deleted, restored, deleted and collected; no secret in what is left. By clear.py and by papermill where
    the logins differ, since their kernels have to find those, too."""
    made = set_up(ground)
    way = Way(ground, ground.conf(made))
    on_files = set_up is not object_store
    list_, delete, restore, collect = ways(way)

    def store() -> Store:
        return read_store(made.registry.base_path)

    before = store() if on_files else None
    list_()
    assert not on_files or store() == before
    delete()
    user = json.loads((way.record() / "record.json").read_text())["registry_user"]
    logins: dict[Made, str] = {
        passwords: f"{NAME} ({ground.home}/run/containers/auth.json)",
        tokens: "/.docker/config.json)",
    }
    assert user.endswith(logins.get(set_up, ("config.json", "anonymous")))
    assert store() != before if on_files else "1.0" not in tags_of(way)
    restore()
    assert store().tags == before.tags if before else "1.0" in tags_of(way)
    collect()
    if on_files:
        expected = finished["base_path" in made.more]
        assert store().tags == expected.tags
        assert expected.within(store())  # what was put back is young: an orphan's blobs stay for the time being
        assert broken(made.registry.base_path) == []
    assert {"stable", "latest"} <= tags_of(way)
    assert "1.0" not in tags_of(way)
    secrets = made.secrets()
    for secret in [*secrets, *(base64.b64encode(secret.encode()).decode() for secret in secrets)]:
        assert secret not in way.said
        assert [path for path, text in left_behind(ground) if secret in text] == []


def tags_of(way: Way) -> set[str]:
    """The tags of prod/app now."""
    return {*regdata.scan(regdata.load_config(way.conf)).images.query("image_name == 'prod/app'")["tag_name"]}


# What can't be deleted from


READ_ONLY = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
NO_DELETE = {"storage": {"delete": {"enabled": False}}}
TOLD = {
    "read-only": "the registry is read-only; take storage.maintenance.readonly out",
    "no delete": "delete is disabled; set storage.delete.enabled",
    "cache": "the registry is a pull-through cache, which deletes nothing on request",
}
IS_CACHE = "answers as a pull-through cache does: its lists are those of the reg"


def not_deletable(ground: Ground, kind: str) -> SetUp:
    more = {"read-only": READ_ONLY, "no delete": NO_DELETE}.get(kind)
    more = more or {"proxy": {"remoteurl": ground.registry("upstream").url}}
    registry = ground.registry(more=more)
    return SetUp(registry, registry.url, {"repositories": ["prod/old"]})


@pytest.mark.real
@pytest.mark.parametrize("kind", TOLD)
def test_not_deletable(ground: Ground, kind: str) -> None:
    """405 means three things; each is told by its name and its cure, and nothing is deleted."""
    made = not_deletable(ground, kind)
    told: AbstractContextManager[object] = nullcontext()
    if kind == "cache":
        told = pytest.warns(UserWarning, match=IS_CACHE)
    before = read_store(made.registry.base_path)
    with told, pytest.raises(CleanupError, match=TOLD[kind]):
        clean(ground.conf(made))
    assert read_store(made.registry.base_path) == before


@pytest.mark.real
@pytest.mark.parametrize("kind", ["read-only", "cache"])
def test_list_and_refusal(ground: Ground, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    """Where nothing can be deleted the list works, and both ways to delete end with that sentence, before anything."""
    made = not_deletable(ground, kind)
    conf = ground.conf(made)
    before = read_store(made.registry.base_path)
    assert cli.main(["scene", "none", "--conf", str(conf)]) == 0
    listed = capfd.readouterr()
    assert "prod/old" in listed.out
    assert (IS_CACHE in listed.out) == (kind == "cache")
    record = max((ground.folder / "reports").glob("*/record.json"))
    assert ("as a pull-through cache" in json.loads(record.read_text())["registry_kind"]) == (kind == "cache")
    assert cli.main(["scene", "del", "--conf", str(conf)]) == 1
    assert TOLD[kind] in capfd.readouterr().err
    done = execute("delete", conf, sql_id="scene")
    assert done.code == 1
    assert TOLD[kind] in done.texts[-1]
    assert read_store(made.registry.base_path) == before


@pytest.mark.real
def test_a_slow_limit(ground: Ground) -> None:
    """nginx at five requests a second, with 503: the scan is complete, at that pace."""
    registry = ground.registry()
    port = ground.nginx(
        f"location / {{ limit_req zone=all; proxy_pass {registry.url}; }}",
        "limit_req_zone $server_name zone=all:1m rate=5r/s;",
    )
    through = regdata.scan(regdata.load_config(ground.conf(SetUp(registry, f"http://127.0.0.1:{port}"))))
    direct = regdata.scan(regdata.load_config(ground.conf(SetUp(registry, registry.url))))
    assert through.images["error"].isna().all()
    same = ["image_name", "tag_name", "tag_hash", "tag_size", "platforms"]
    assert through.images[same].equals(direct.images[same])
    assert set(through.manifests["manifest_hash"]) == set(direct.manifests["manifest_hash"])
