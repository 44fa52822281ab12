"""A token server as distribution wants it (docs/content/spec/auth/token.md and oauth.md), for a few users."""

from __future__ import annotations

import base64
import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import trustme

from tests.support.fakes import json_reply
from tests.support.server import Reply, Request, serving

SERVICE = "the registry's service"
ISSUER = "regdata's tests"


@dataclass
class User:
    """``rights``: actions by pattern of what they are on: `repository:team/*`, `registry:catalog`."""

    password: str
    rights: dict[str, set[str]]
    refresh: str = field(default_factory=lambda: secrets.token_hex(16))


EVERYTHING = {"repository:*": {"pull", "push", "delete"}, "registry:catalog": {"*"}}


class TokenServer:
    """``seconds``: how long its tokens last, which the registry takes for a minute more. ``methods``: what it answers.

    ``tokens`` and ``asked`` are its log: what it gave, and method, user and scopes of each request.
    """

    def __init__(self, folder: Path, *, seconds: int = 300, methods: tuple[str, ...] = ("GET", "POST")) -> None:
        self.users = {"": User("", {})}  # nobody in particular
        self.seconds, self.methods = seconds, methods
        self.tokens: list[str] = []
        self.asked: list[tuple[str, str, list[str]]] = []
        self.url = ""
        ca = trustme.CA()
        self._leaf = ca.issue_cert("token-server")
        self.bundle = folder / "token-roots.pem"
        ca.cert_pem.write_to_path(str(self.bundle))

    def registry_settings(self) -> dict[str, Any]:
        """The registry's section ``auth``."""
        return {
            "token": {
                "realm": f"{self.url}/token?kept=yes",
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.bundle),
            }
        }

    def answer(self, request: Request) -> Reply:
        """What it says to a request."""
        if request.method not in self.methods:
            return Reply(405)
        asked = parse_qs(urlsplit(request.target).query if request.method == "GET" else request.body.decode())
        scopes = [scope for given in asked.get("scope", []) for scope in given.split()]
        name = self._user(request, asked)
        self.asked.append((request.method, str(name), scopes))
        if name is None:
            return json_reply({"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]}, 401)
        token = self.token(name, scopes)
        self.tokens.append(token)
        return json_reply({"token": token, "expires_in": self.seconds})

    def _user(self, request: Request, asked: dict[str, list[str]]) -> str | None:
        """Who asks; None for a wrong password."""
        if request.method == "POST":
            if asked["grant_type"] == ["refresh_token"]:
                known = (name for name, user in self.users.items() if [user.refresh] == asked["refresh_token"])
                return next(known, None)
            name, password = asked["username"][0], asked["password"][0]
        else:
            given = request.headers.get("Authorization", "Basic Og==")
            name, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
        return name if name in self.users and self.users[name].password == password else None

    def token(self, name: str, scopes: list[str]) -> str:
        """A token with those of the scopes' actions that the user has."""
        access = []
        for scope in scopes:
            resource, _, actions = scope.rpartition(":")
            granted = {
                action
                for pattern, allowed in self.users[name].rights.items()
                if fnmatchcase(resource, pattern)
                for action in actions.split(",")
                if action in allowed
            }
            kind, _, what = resource.partition(":")
            access.append({"type": kind, "name": what, "actions": sorted(granted)})
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": name, "aud": SERVICE, "iat": now, "nbf": now - 5, "exp": now + self.seconds}
        claims |= {"jti": secrets.token_hex(8), "access": access}
        chain = [pem.bytes().decode() for pem in self._leaf.cert_chain_pems]
        der = [base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode() for pem in chain]
        return jwt.encode(claims, self._leaf.private_key_pem.bytes(), "ES256", {"x5c": der})


@contextmanager
def token_server(folder: Path, **options: Any) -> Iterator[TokenServer]:
    """Runs one on a free loopback port."""
    server = TokenServer(folder, **options)
    with serving(server.answer) as server.url:
        yield server
