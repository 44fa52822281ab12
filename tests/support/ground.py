"""Registries as people run them, each a real one that holds the scene, and the runs of commands on it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

import regdata
from tests.support.fronted import FrontedRegistry, htpasswd, nginx, s3
from tests.support.scene import CONDITION, push_scene
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
        (self.home / ".docker").mkdir(exist_ok=True)
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


def run(ground: Ground, *command: str, code: int = 0) -> str:
    """What a command printed; AssertionError where it ends with another code."""
    done = subprocess.run(
        command, cwd=ground.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def left_behind(ground: Ground) -> Iterator[tuple[str, str]]:
    """Everything that the runs wrote."""
    for folder in ("reports", ".cache", "out"):
        for path in sorted((ground.folder / folder).rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes().decode(errors="replace")


def clean(path: Path) -> None:
    """The job in this process."""
    config = regdata.load_config(path)
    regdata.apply(regdata.plan(regdata.scan(config), CONDITION), config)
