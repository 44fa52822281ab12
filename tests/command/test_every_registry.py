"""The whole job (list, delete, restore, delete and collect) on registries as people run them; it leaves no secret.

Each is a real registry: with passwords, with tokens, with certificates, behind nginx, on S3.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

import regdata
from regdata.errors import AccessError, CleanupError, RegdataError, RegistryError
from tests.support.fronted import FrontedRegistry, htpasswd, nginx, s3
from tests.support.helpers import ROOT
from tests.support.scene import CONDITION, OLD, Finished, Store, broken, push_scene, read_store
from tests.support.tokenserver import EVERYTHING, TokenServer, User, token_server

NAME, PASSWORD = "pöss", "p€ss w:ö"


def basic() -> str:
    return base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()


@dataclass
class SetUp:
    """A running registry, conf.json's section for it, and what must not show."""

    registry: FrontedRegistry
    url: str
    more: dict[str, Any] = field(default_factory=dict)
    secrets: Callable[[], list[str]] = lambda: []


class Ground:
    """A test's folder: where its registries, its conf.json and its home are."""

    def __init__(self, folder: Path, home: Path, scene: Path, stack: ExitStack) -> None:
        self.folder, self.home, self.scene, self.stack = folder, home, scene, stack

    def registry(self, name: str = "registry", **options: Any) -> FrontedRegistry:
        """One that holds the scene."""
        made = FrontedRegistry(self.folder / name, **options)
        shutil.copytree(self.scene / "store", made.base_path)
        return self.stack.enter_context(made)

    def log_in(self, url: str, **entry: str) -> None:
        """What `docker login` leaves."""
        (self.home / ".docker").mkdir()
        host = url.partition("//")[2].partition("/")[0]
        (self.home / ".docker/config.json").write_text(json.dumps({"auths": {host: entry or {"auth": basic()}}}))

    def nginx(self, server: str, before: str = "") -> int:
        return self.stack.enter_context(nginx(self.folder / "nginx", server, before=before))

    def conf(self, made: SetUp, **more: Any) -> Path:
        path = self.folder / "conf.json"
        settings = {
            "registry": {"url": made.url} | made.more,
            "engine": "duckdb",
            "sql": {"none": "2=1", "scene": CONDITION},
            "gc-command": made.registry.gc_command,
        }
        path.write_text(json.dumps({key: value for key, value in (settings | more).items() if value is not None}))
        return path


@pytest.fixture
def ground(servers: None, scene_folder: Path, home: Path, tmp_path: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        yield Ground(tmp_path, home, scene_folder, stack)


# The set-ups


def passwords(ground: Ground) -> SetUp:
    """With the login that skopeo leaves, as podman does."""
    registry = ground.registry(more={"auth": htpasswd(ground.folder / "htpasswd", {NAME: PASSWORD})})
    login = ["skopeo", "login", "--tls-verify=false", "-u", NAME, "--password-stdin", registry.url[len("http://") :]]
    (ground.home / "run").mkdir()
    subprocess.run(login, input=PASSWORD.encode(), check=True, capture_output=True)
    return SetUp(registry, registry.url, {"base_path": str(registry.base_path)}, lambda: [PASSWORD, basic()])


def tokens(ground: Ground) -> SetUp:
    """With tokens of two seconds, which the run outlasts."""
    server: TokenServer = ground.stack.enter_context(token_server(ground.folder, seconds=2))
    server.users[NAME] = User(PASSWORD, EVERYTHING)
    registry = ground.registry(more={"auth": server.registry_settings()})
    ground.log_in(registry.url)
    return SetUp(registry, registry.url, secrets=lambda: [PASSWORD, basic(), *server.tokens])


def identity_token(ground: Ground) -> SetUp:
    """With an identity token, which goes by POST alone."""
    server: TokenServer = ground.stack.enter_context(token_server(ground.folder, methods=("POST",)))
    server.users[NAME] = User(PASSWORD, EVERYTHING)
    registry = ground.registry(more={"auth": server.registry_settings()})
    refresh = server.users[NAME].refresh
    ground.log_in(registry.url, identitytoken=refresh)
    return SetUp(registry, registry.url, secrets=lambda: [refresh, *server.tokens])


def certificates(ground: Ground) -> SetUp:
    ca = trustme.CA()
    for name, made in (("server", ca.issue_cert("localhost")), ("client", ca.issue_cert("me@example.com"))):
        (ground.folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        (ground.folder / f"{name}.key").write_bytes(made.private_key_pem.bytes())
    (ground.folder / "ca.pem").write_bytes(ca.cert_pem.bytes())
    files = {key: str(ground.folder / f"server.{end}") for key, end in (("certificate", "pem"), ("key", "key"))}
    registry = ground.registry(tls={**files, "clientcas": [str(ground.folder / "ca.pem")]})
    more = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key", "base_path": str(registry.base_path)}
    key = (ground.folder / "client.key").read_text().splitlines()[1]
    return SetUp(registry, registry.url, more, lambda: [key])


def sub_path(ground: Ground) -> SetUp:
    """Behind nginx, which takes the path away; the registry gives itself a name that nobody knows."""
    registry = ground.registry(more={"http": {"host": "https://inside.example.com"}})
    port = ground.nginx(f"location /registry/ {{ proxy_pass {registry.url}/; }}")
    return SetUp(registry, f"http://127.0.0.1:{port}/registry", {"base_path": str(registry.base_path)})


def limited(ground: Ground) -> SetUp:
    registry = ground.registry()
    before = "limit_req_zone $server_name zone=all:1m rate=20r/s;"
    port = ground.nginx(
        f"location / {{ limit_req zone=all; proxy_pass {registry.url}; proxy_set_header Host $http_host; }}", before
    )
    return SetUp(registry, f"http://127.0.0.1:{port}")


def object_store(ground: Ground) -> SetUp:
    """On S3, to which a pull is redirected."""
    registry = FrontedRegistry(ground.folder / "registry", more={"storage": ground.stack.enter_context(s3())})
    ground.stack.enter_context(registry)
    push_scene(registry.url)
    return SetUp(registry, registry.url)


SET_UPS = (passwords, tokens, identity_token, certificates, sub_path, limited, object_store)


def run(ground: Ground, *command: str) -> str:
    """What a command printed; AssertionError if it failed."""
    done = subprocess.run(
        command, cwd=ground.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def left_behind(ground: Ground) -> Iterator[tuple[str, str]]:
    """Everything that the runs wrote."""
    for folder in ("reports", ".cache", "out"):
        for path in sorted((ground.folder / folder).rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes().decode(errors="replace")


@pytest.mark.real
@pytest.mark.parametrize("set_up", SET_UPS, ids=lambda set_up: set_up.__name__)
def test_the_whole_job(ground: Ground, finished: Finished, set_up: Callable[[Ground], SetUp]) -> None:
    """By clear.py and by papermill: listed, deleted, restored, deleted and collected; no secret in what is left."""
    made = set_up(ground)
    conf = str(ground.conf(made))
    clear = str(Path(sys.executable).parent / "clear.py")
    papermill = [sys.executable, "-m", "papermill", "--no-progress-bar"]
    (ground.folder / "out").mkdir()
    on_files = set_up is not object_store

    def store() -> Store:
        return read_store(made.registry.base_path)

    before = store() if on_files else None
    said = run(ground, clear, "scene", "none", "--conf", conf)
    assert not on_files or store() == before
    said += run(ground, clear, "scene", "del", "--no-gc", "--conf", conf)
    folder = max(path.parent for path in (ground.folder / "reports").glob("*/record.json"))
    user = json.loads((folder / "record.json").read_text())["registry_user"]
    logins: dict[Callable[[Ground], SetUp], str] = {
        passwords: f"{NAME} ({ground.home}/run/containers/auth.json)",
        tokens: "/.docker/config.json)",
    }
    assert user.endswith(logins.get(set_up, ("config.json", "anonymous")))
    restore, delete = str(ROOT / "notebooks/restore.ipynb"), str(ROOT / "notebooks/delete.ipynb")
    said += run(ground, *papermill, restore, "out/restore.ipynb", "-p", "run", str(folder), "-p", "conf", conf)
    assert not on_files or store().tags == before.tags  # type: ignore[union-attr]
    said += run(ground, *papermill, delete, "out/delete.ipynb", "-p", "sql_id", "scene", "-p", "conf", conf)
    if on_files:
        expected = finished["base_path" in made.more]
        assert store().tags == expected.tags
        assert expected.within(store())  # what was put back is young: an orphan's blobs stay for the time being
        assert broken(made.registry.base_path) == []
    tags = {(row.image_name, row.tag_name) for row in regdata.scan(regdata.load_config(conf)).images.itertuples()}
    assert ("prod/app", "stable") in tags
    assert ("prod/app", "1.0") not in tags
    secrets = made.secrets()
    for secret in [*secrets, *(base64.b64encode(secret.encode()).decode() for secret in secrets)]:
        assert secret not in said
        assert [path for path, text in left_behind(ground) if secret in text] == []


# Rights


@pytest.fixture
def guarded(ground: Ground) -> tuple[TokenServer, SetUp]:
    server: TokenServer = ground.stack.enter_context(token_server(ground.folder))
    registry = ground.registry(more={"auth": server.registry_settings()})
    ground.log_in(registry.url)
    return server, SetUp(registry, registry.url)


def clean(path: Path) -> None:
    config = regdata.load_config(path)
    regdata.apply(regdata.plan(regdata.scan(config), CONDITION), config)


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
    """Where another repository has a link to what is collected, the right to have it forgotten there is tried, too."""
    server, made = guarded
    server.users[NAME] = User(
        PASSWORD, EVERYTHING | {"repository:*": {"pull"}, "repository:prod/*": {"push", "delete"}}
    )
    made.more = {"base_path": str(made.registry.base_path)}
    conf = ground.conf(made, **{"gc-command": None if own else made.registry.gc_command})
    layer = OLD.blobs[-1].digest
    link = made.registry.base_path / f"docker/registry/v2/repositories/base/lib/_layers/{layer.replace(':', '/')}/link"
    link.parent.mkdir(parents=True)
    link.write_text(layer)
    before = read_store(made.registry.base_path)
    with pytest.raises(CleanupError, match="has not the right to delete in base/lib"):
        clean(conf)
    assert read_store(made.registry.base_path) == before
    if not own:
        shutil.rmtree(link.parent)
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
    assert {(name, scope.split(":")[1].partition("/")[0]) for _, name, scopes in server.asked for scope in scopes} == {
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


# What can't be deleted from


@pytest.mark.real
@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"storage": {"maintenance": {"readonly": {"enabled": True}}}}, "read-only; take storage.maintenance.readonly"),
        ({"storage": {"delete": {"enabled": False}}}, "delete is disabled; set storage.delete.enabled"),
        ({"proxy": {"remoteurl": ""}}, "a pull-through cache, which deletes nothing"),
    ],
)
def test_not_deletable(ground: Ground, more: dict[str, Any], problem: str) -> None:
    """405 means three things; each is told by its name and its cure, and nothing is deleted."""
    told: AbstractContextManager[object] = nullcontext()
    if "proxy" in more:
        more = {"proxy": {"remoteurl": ground.registry("upstream").url}}
        told = pytest.warns(UserWarning, match="answers as a pull-through cache does: its lists are those of the reg")
    registry = ground.registry(more=more)
    made = SetUp(registry, registry.url, {"repositories": ["prod/old"]})
    before = read_store(registry.base_path)
    with told, pytest.raises(CleanupError, match=problem):
        clean(ground.conf(made))
    assert read_store(registry.base_path) == before


# Certificates and addresses


@pytest.mark.real
def test_errors_of_tls(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way in which TLS can fail is told by its cause and the key that cures it."""
    made = certificates(ground)
    url, good = made.url, {key: made.more[key] for key in ("ca", "cert", "key")}
    (ground.folder / "other.pem").write_bytes(trustme.CA().cert_pem.bytes())
    cases: list[tuple[str, dict[str, str], str]] = [
        (url, {}, "a CA that is not known here .* set registry.ca"),
        (url, {"ca": "other.pem"}, "a CA that is not known here"),
        (url, {"ca": "none.pem"}, r"registry.ca .*none.pem can't be read \(No such file"),
        (url, {"ca": "client.key"}, "registry.ca .*client.key does not hold a CA's certificate"),
        (url, {"ca": "ca.pem"}, "wants a client's certificate; set registry.cert and registry.key"),
        (url, good | {"key": "server.key"}, "registry.key .* does not hold the certificate's own key"),
        (url.replace("localhost", "127.0.0.1"), good, "its certificate is not for 127.0.0.1; .*subjectAltName"),
        (url.replace("https", "http"), {}, "the port speaks TLS; write https://"),
    ]
    for address, more, problem in cases:
        with pytest.raises(RegistryError, match=problem):
            regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, address, more))))
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(ground.folder / "ca.pem"))
        rest = {key: good[key] for key in ("cert", "key")}
        assert len(regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, rest)))).images) > 3
        monkeypatch.setenv(variable, str(ground.folder / "other.pem"))
        assert len(regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, good)))).images) > 3
        monkeypatch.delenv(variable)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ground.folder / "client.key"))
    with pytest.raises(RegistryError, match="REQUESTS_CA_BUNDLE holds no CA's certificate in PEM form; correct it"):
        regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, rest))))


@pytest.mark.real
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("{url}/v2", "leave /v2 out of registry.url"),
        ("{url}/v2/prod/app", "leave /v2 and what follows it out of registry.url"),
        ("https://{host}", "the port speaks no TLS; write http://"),
        ("http://no.such.host.invalid", "there is no host no.such.host.invalid"),
    ],
)
def test_mistaken_addresses(ground: Ground, address: str, problem: str) -> None:
    """An address that is nearly right is told with what is wrong in it."""
    registry = ground.registry()
    mistaken = address.format(url=registry.url, host=registry.url.partition("//")[2])
    with pytest.raises(RegistryError, match=problem):
        regdata.scan(regdata.load_config(ground.conf(SetUp(registry, mistaken))))


@pytest.mark.real
@pytest.mark.parametrize("how", ["ipv6", "prefix"])
def test_addresses(ground: Ground, how: str) -> None:
    """By an IPv6 address, and below a path of the registry's own with relative URLs, a clean-up is as any other."""
    if how == "ipv6":
        registry = ground.registry(host="::1")
        url = registry.url
    else:
        registry = ground.registry(more={"http": {"prefix": "/deep/er/", "relativeurls": True}})
        url = f"{registry.url}/deep/er/"
    clean(ground.conf(SetUp(registry, url, {"base_path": str(registry.base_path)})))
    assert {(name, tag) for name, tag, _ in read_store(registry.base_path).tags} >= {("prod/app", "stable")}
    assert not {tag for _, tag, _ in read_store(registry.base_path).tags} & {"1.0", "2.0", "old"}


@pytest.mark.real
def test_dead_proxy(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is not there is told by its name, without its password."""
    registry = ground.registry()
    monkeypatch.setenv("HTTP_PROXY", "http://somebody:secret@127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"the proxy 127\.0\.0\.1:9 does not let us through") as error:
        regdata.scan(regdata.load_config(ground.conf(SetUp(registry, registry.url))))
    assert "secret" not in str(error.value)
    for proxy, problem in (("socks5://u:secret@127.0.0.1:9", "Missing dependencies"), ("::::", "not a valid")):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(RegistryError, match=f"the proxy .* can't be used .*{problem}.*check HTTP_PROXY") as error:
            regdata.scan(regdata.load_config(ground.conf(SetUp(registry, registry.url))))
        assert "secret" not in str(error.value)


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
