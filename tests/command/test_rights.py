"""Who may not do all that a job needs, or whose tokens expire: what is missing is said before anything is deleted."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import Any

import pytest

from regdata.command import cli
from regdata.errors import AccessError, CleanupError, RegdataError
from tests.support.ground import NAME, PASSWORD, Ground, SetUp, clean
from tests.support.proxy import FaultProxy
from tests.support.scene import OLD, Finished, read_store
from tests.support.server import Reply, Request, serving
from tests.support.tokenserver import EVERYTHING, TokenServer, User

REFUSED = [
    ({"repository:*": {"pull"}, "registry:catalog": {"*"}}, {}, "has not the right to delete in prod/app"),
    (
        {"repository:prod/old": {"delete"}, "repository:*": {"pull"}, "registry:catalog": {"*"}},
        {},
        "to delete in prod/app",
    ),
    (
        {"repository:*": {"pull", "delete"}, "registry:catalog": {"*"}},
        {"base_path": 1},
        "has not the right to upload to",
    ),
    (
        {"repository:*": {"pull", "delete"}},
        {},
        "has not the right to list the catalog; name the repositories in registry.rep",
    ),
    ({"repository:prod/*": {"pull"}, "registry:catalog": {"*"}}, {}, "has not the right to pull in base/lib"),
    ({"repository:*": {"pull"}}, {"repositories": ["prod/app"]}, "has not the right to delete in prod/app"),
]


@pytest.mark.real
@pytest.mark.parametrize(("rights", "more", "problem"), REFUSED)
def test_rights(
    ground: Ground,
    guarded: tuple[TokenServer, SetUp],
    rights: dict[str, set[str]],
    more: dict[str, Any],
    problem: str,
) -> None:
    """Who lacks a right that the job needs is told which before anything is deleted, and where the login is from."""
    server, made = guarded
    server.users[NAME] = User(PASSWORD, rights)
    made.more = {key: str(made.registry.base_path) if key == "base_path" else value for key, value in more.items()}
    before = read_store(made.registry.base_path)
    with pytest.raises(RegdataError) as error:
        clean(ground.conf(made))
    assert problem in str(error.value)
    assert f"{NAME} ({ground.home}/.docker/config.json)" in str(error.value)
    assert read_store(made.registry.base_path) == before


@pytest.mark.real
@pytest.mark.parametrize("own", [True, False])
def test_right_where_only_links_go(ground: Ground, guarded: tuple[TokenServer, SetUp], own: bool) -> None:
    """Where another repository has a link to what is collected, or was, the right to have it forgotten there is tried,
    too."""
    server, made = guarded
    server.users[NAME] = User(
        PASSWORD, EVERYTHING | {"repository:*": {"pull"}, "repository:prod/*": {"push", "delete"}}
    )
    made.more = {"base_path": str(made.registry.base_path)}
    conf = ground.conf(made, **{"gc-command": None if own else made.registry.gc_command})
    layers = made.registry.base_path / "docker/registry/v2/repositories/base/lib/_layers"
    before = read_store(made.registry.base_path)
    gone = f"sha256:{'0' * 64}"  # by an earlier collection; regdata has it forgotten
    for digest in (OLD.blobs[-1].digest, *([gone] if own else [])):
        link = layers / digest.replace(":", "/") / "link"
        link.parent.mkdir(parents=True)
        link.write_text(digest)
        with pytest.raises(CleanupError, match="has not the right to delete in base/lib"):
            clean(conf)
        assert read_store(made.registry.base_path) == before
        shutil.rmtree(link.parent)
    if not own:
        clean(conf)
        assert read_store(made.registry.base_path).lacks(before).tags


@pytest.mark.real
def test_without_the_catalog(ground: Ground, guarded: tuple[TokenServer, SetUp]) -> None:
    """registry.repositories is enough for who may not list the catalog; nothing else is read or touched."""
    server, made = guarded
    server.users[NAME] = User(PASSWORD, {"repository:prod/old": {"pull", "push", "delete"}})
    made.more = {"repositories": ["prod/old"]}
    before = read_store(made.registry.base_path)
    clean(ground.conf(made))
    after = read_store(made.registry.base_path)
    assert {name for name, _, _ in after.tags} == {"prod/app", "base/lib"}
    assert {tag for tag in before.tags if tag[0] != "prod/old"} == after.tags


@pytest.mark.real
def test_who_may_only_pull(
    ground: Ground, guarded: tuple[TokenServer, SetUp], capfd: pytest.CaptureFixture[str]
) -> None:
    """`clear.py NAME none` lists for who may only pull, without the catalog by registry.repositories; `clear.py NAME
    del` names the right that is missing before anything is deleted."""
    server, made = guarded
    server.users[NAME] = User(PASSWORD, {"repository:*": {"pull"}})
    made.more = {"repositories": ["prod/app", "prod/old"]}
    before = read_store(made.registry.base_path)
    conf = str(ground.conf(made))
    assert cli.main(["scene", "none", "--conf", conf]) == 0
    assert "prod/old" in capfd.readouterr().out
    assert cli.main(["scene", "del", "--conf", conf]) == 1
    told = capfd.readouterr().err
    assert f"{NAME} ({ground.home}/.docker/config.json) has not the right to delete in prod/app; have it" in told
    assert "delete.enabled" not in told
    assert read_store(made.registry.base_path) == before


class Expiring(FaultProxy):
    """Before a registry: a token that was sent three times is refused as one that has expired."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.sent: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def answer(self, request: Request) -> Reply:
        token = request.headers.get("Authorization", "")
        self.sent[token] += 1
        if not token or self.sent[token] <= 3:
            return super().answer(request)
        nobody = request.headers.copy()
        del nobody["Authorization"]
        asked = super().answer(request._replace(headers=nobody))
        self.refused[token] += asked.status == 401
        told = {name: f'{text},error="invalid_token"' for name, text in asked.headers.items() if "auth" in name.lower()}
        return Reply(asked.status, asked.body, told)


@pytest.mark.real
def test_tokens_that_expire_early(ground: Ground, guarded: tuple[TokenServer, SetUp], finished: Finished) -> None:
    """A token that is refused before its time is renewed unseen, by one new one, however often that happens."""
    server, made = guarded
    server.users[NAME] = User(PASSWORD, EVERYTHING)
    proxy = Expiring(made.registry.url)
    with serving(proxy.answer) as url:
        ground.log_in(url)
        clean(ground.conf(SetUp(made.registry, url, {"requests": {"at_once": 1}}), cache=False))
    assert read_store(made.registry.base_path).tags == finished[False].tags
    assert len(proxy.refused) > 5
    assert {*proxy.refused.values()} == {1}
    scopes = {" ".join(scopes) for _, _, scopes in server.asked}
    assert len(server.asked) <= 2 * len(scopes) + len(proxy.refused)  # the scan and the clean-up have their own


@pytest.mark.real
def test_a_login_for_each_namespace(ground: Ground, guarded: tuple[TokenServer, SetUp], finished: Finished) -> None:
    """Two namespaces with a login each, of which none may pull what is the other's: one run cleans up both."""
    server, made = guarded
    names = {"prod": "prod/*", "base": "base/*"}
    for name, pattern in names.items():
        server.users[name] = User(f"of {name}", {f"repository:{pattern}": {"pull", "push", "delete"}})
    host = made.url.partition("//")[2]
    auths = {f"{host}/{name}": {"username": name, "password": f"of {name}"} for name in names}
    (ground.home / ".docker/config.json").write_text(json.dumps({"auths": auths}))
    made.more = {"repositories": ["prod/app", "prod/old", "base/lib"]}
    clean(ground.conf(made))
    assert read_store(made.registry.base_path).tags == finished[False].tags
    asked = {(name, scope) for _, name, scopes in server.asked for scope in scopes if not scope.startswith("registry:")}
    assert {(name, scope.split(":")[1].partition("/")[0]) for name, scope in asked} == {
        ("prod", "prod"),
        ("base", "base"),
    }


@pytest.mark.real
@pytest.mark.parametrize("password", ["wrong", ""])
def test_wrong_or_no_password(ground: Ground, guarded: tuple[TokenServer, SetUp], password: str) -> None:
    """A wrong password and none are told apart."""
    server, made = guarded
    server.users[NAME] = User("right", EVERYTHING)
    if not password:
        (ground.home / ".docker/config.json").unlink()
    with pytest.raises(AccessError, match="does not take the user or password" if password else "log in as somebody"):
        clean(ground.conf(made))
