"""Challenges, scopes and tokens, without any network: a function is the token server."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import werkzeug.datastructures
from hypothesis import given, settings
from hypothesis import strategies as st

from regdata.errors import AccessError
from regdata.sources.answers import Answer
from regdata.sources.tokens import Authorization, Need, challenges, need, normalised

URL = "https://registry.example.com"
REALM = "https://auth.example.com/token"
SECRET = "p€ss w:ö"
PULL = Need("app", "pull")


def bearer(scope: str = "repository:app:pull", realm: str = REALM, **more: str) -> str:
    items = {"realm": realm, "service": "the service"} | ({"scope": scope} if scope else {}) | more
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in items.items())


class Server:
    """A token server; ``refuse`` makes a status of a request."""

    def __init__(self, refuse: Callable[[str, dict[str, list[str]]], int] = lambda *_: 200, **reply: Any) -> None:
        self.refuse, self.reply = refuse, reply
        self.asked: list[tuple[str, str, dict[str, list[str]], dict[str, str]]] = []

    def __call__(self, method: str, url: str, headers: Any, body: str | None) -> Answer:
        query = parse_qs(urlsplit(url).query if body is None else body, strict_parsing=True)
        self.asked.append((method, url.partition("?")[0], query, dict(headers)))
        status = self.refuse(method, query)
        token = f"token-{len(self.asked)}"
        return Answer(status, {}, json.dumps({"token": token, "expires_in": 60} | self.reply).encode())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REGDATA_USERNAME", "pöss")
    monkeypatch.setenv("REGDATA_PASSWORD", SECRET)
    return "Basic " + base64.b64encode(f"pöss:{SECRET}".encode()).decode()


def identity(home: Path, **more: str) -> None:
    (home / ".docker").mkdir()
    entry = {"identitytoken": SECRET} | more
    (home / ".docker/config.json").write_text(json.dumps({"auths": {"registry.example.com": entry}}))


# Challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Negotiate", [("negotiate", {})]),
        (
            'Bearer realm="r",service="s",scope="repository:a:pull,push"',
            [("bearer", {"realm": "r", "service": "s", "scope": "repository:a:pull,push"})],
        ),
        (
            'Basic realm="a \\"b\\", c" , bearer REALM = r , scope="x"',
            [("basic", {"realm": 'a "b", c'}), ("bearer", {"realm": "r", "scope": "x"})],
        ),
        ("Bearer realm=r", [("bearer", {"realm": "r"})]),
        ('Bearer realm="open', [("bearer", {"realm": '"open'})]),
        (",, =,x", [("x", {})]),
    ],
)
def test_challenges(header: str, expected: list[Any]) -> None:
    """One or several challenges, with commas in quotes, in any spelling that RFC 9110 allows."""
    assert challenges(header) == expected


_tokens = st.text("abXY09._~-", min_size=1, max_size=5)
_quotable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=12)


@settings(deadline=None)
@given(
    scheme=st.text("abcXY", min_size=1, max_size=6),
    parameters=st.dictionaries(_tokens.map(str.lower), _quotable, min_size=1),
)
def test_challenges_as_werkzeug(scheme: str, parameters: dict[str, str]) -> None:
    """A single challenge is read as another library reads it."""
    header = f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    theirs = werkzeug.datastructures.WWWAuthenticate.from_header(header)
    assert theirs
    assert challenges(header) == [(theirs.type, theirs.parameters)]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_header(header: str) -> None:
    """No header breaks it."""
    challenges(header)
    challenges(f"Bearer {header}")


def test_normalised() -> None:
    """The order of actions and of scopes says nothing."""
    assert normalised("repository:a:push,pull") == normalised("repository:a:pull,push,pull")
    assert normalised("registry:catalog:* repository:a:b:pull") == normalised("repository:a:b:pull registry:catalog:*")
    assert normalised("repository:a:pull") != normalised("repository:a:push")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "", ("", "")),
        ("GET", "_catalog?n=1000", ("", "catalog")),
        ("GET", "a/b/tags/list?last=x", ("a/b", "pull")),
        ("HEAD", "a/manifests/1.0", ("a", "pull")),
        ("DELETE", "a/manifests/sha256:x", ("a", "delete")),
        ("PUT", "a/manifests/1", ("a", "upload")),
        ("GET", "tags/list/manifests/manifests/1", ("tags/list/manifests", "pull")),
        ("DELETE", "a/blobs/sha256:x", ("a", "delete")),
        ("POST", "a/blobs/uploads/", ("a", "upload")),
        ("DELETE", "a/blobs/uploads/uuid?_state=x", ("a", "upload")),
        ("POST", "a/blobs/uploads/?mount=x&from=b/c", ("a", "upload")),
    ],
)
def test_need(method: str, path: str, expected: tuple[str, str]) -> None:
    """What right each request needs."""
    assert need(method, path) == expected


# Tokens


def test_token(user: str) -> None:
    """A token is asked for as the challenge says, with the password, and sent from then on without being asked."""
    server = Server()
    mine = Authorization(URL, server)
    assert mine.header(PULL) is None
    assert mine.who() == "anonymous"
    assert mine.challenged(PULL, bearer(), None) == "Bearer token-1"
    query = {"service": ["the service"], "scope": ["repository:app:pull"], "account": ["pöss"]}
    assert server.asked == [("GET", REALM, query, {"Authorization": user})]
    assert mine.header(PULL) == "Bearer token-1"
    assert mine.who() == "pöss (REGDATA_USERNAME)"
    assert len(server.asked) == 1


def test_realm_with_a_query(user: str) -> None:
    """What the realm's own query says is kept; several scopes are several parameters."""
    server = Server()
    header = bearer("registry:catalog:* repository:a:pull", realm=f"{REALM}?tenant=7&scope=x")
    Authorization(URL, server).challenged(PULL, header, None)
    assert server.asked[0][2]["scope"] == ["x", "registry:catalog:*", "repository:a:pull"]
    assert server.asked[0][2]["tenant"] == ["7"]


def test_anonymous() -> None:
    """Where nobody knows any credentials an anonymous token is asked for."""
    server = Server()
    assert Authorization(URL, server).challenged(PULL, bearer(), None) == "Bearer token-1"
    assert server.asked[0][3] == {}


def test_other_repositories(user: str) -> None:
    """What one repository's challenge said is expected of the others; another action is waited for."""
    server = Server()
    mine = Authorization(URL, server)
    mine.challenged(PULL, bearer(), None)
    assert mine.header(Need("other/one", "pull")) == "Bearer token-2"
    assert server.asked[1][2]["scope"] == ["repository:other/one:pull"]
    assert mine.header(Need("other/one", "delete")) is None
    assert mine.header(Need("", "catalog")) is None


def test_renewal(user: str) -> None:
    """A token is renewed before it expires, for many threads once; the same rights are the same token."""
    server, clock = Server(), Clock()
    mine = Authorization(URL, server, clock=clock)
    mine.challenged(PULL, bearer("repository:app:push,pull"), None)
    clock.now = 47
    assert mine.header(PULL) == "Bearer token-1"
    clock.now = 49
    threads = [threading.Thread(target=mine.header, args=(PULL,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mine.header(PULL) == "Bearer token-2"
    assert mine.challenged(Need("app", "upload"), bearer("repository:app:pull,push"), None) == "Bearer token-2"
    assert len(server.asked) == 2


def test_a_login_for_each_namespace(home: Path) -> None:
    """A token is its login's alone, also where a registry's challenges say nothing of a repository."""
    (home / ".docker").mkdir()
    auths = {f"registry.example.com/{name}": {"username": name, "password": f"of {name}"} for name in ("a", "b")}
    (home / ".docker/config.json").write_text(json.dumps({"auths": auths}))
    server = Server()
    mine = Authorization(URL, server)
    for repository, expected in (("a/app", 1), ("b/app", 2), ("c/app", 3), ("a/lib", 1), ("b/lib", 2)):
        need = Need(repository, "pull")
        assert mine.challenged(need, bearer(scope=""), None) == f"Bearer token-{expected}"
        assert mine.header(need) == f"Bearer token-{expected}"
    assert [asked[2].get("account") for asked in server.asked] == [["a"], ["b"], None]


def test_a_newer_login(home: Path) -> None:
    """Who logs in anew amid a run, by a helper say, is known by the new password when the old one is refused."""
    (home / ".docker").mkdir()
    login = home / ".docker/config.json"
    entry = {"username": "u", "password": "old"}
    login.write_text(json.dumps({"auths": {"registry.example.com": entry}}))
    good = "Basic " + base64.b64encode(b"u:new").decode()
    server = Server()
    mine = Authorization(URL, server)
    mine.challenged(PULL, bearer(), None)
    login.write_text(json.dumps({"auths": {"registry.example.com": entry | {"password": "new"}}}))
    server.refuse = lambda *_: 200 if server.asked[-1][3].get("Authorization") == good else 401
    assert mine.challenged(PULL, bearer(error="invalid_token"), "Bearer token-1") == "Bearer token-3"
    assert mine.header(Need("other", "pull")) == "Bearer token-4"


@pytest.mark.parametrize("lifetime", [None, "60", -1, 0, 1e300, [], True, float("inf")])
def test_odd_lifetimes(user: str, lifetime: object) -> None:
    """A lifetime that can't be is taken for the 60 seconds of the specification, or the token is just renewed often."""
    server, clock = Server(expires_in=lifetime), Clock()
    mine = Authorization(URL, server, clock=clock)
    assert mine.challenged(PULL, bearer(), None) == "Bearer token-1"
    clock.now = 49
    assert mine.header(PULL) == "Bearer token-2"


def test_token_refused(user: str) -> None:
    """A 401 leads to one new token; a token that another thread has got meanwhile is taken."""
    server = Server()
    mine = Authorization(URL, server)
    first = mine.challenged(PULL, bearer(), None)
    second = mine.challenged(PULL, bearer(error="invalid_token"), first)
    assert second == "Bearer token-2"
    assert mine.challenged(PULL, bearer(error="invalid_token"), first) == second
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [404, 405])
def test_other_method(user: str, status: int) -> None:
    """A token server that refuses GET is asked by POST, with the password as OAuth 2 has it."""
    server = Server(lambda method, _: status if method == "GET" else 200)
    assert Authorization(URL, server).challenged(PULL, bearer(), None) == "Bearer token-2"
    method, url, form, headers = server.asked[1]
    assert (method, url, headers) == ("POST", REALM, {"Content-Type": "application/x-www-form-urlencoded"})
    assert form == {
        "grant_type": ["password"],
        "username": ["pöss"],
        "password": [SECRET],
        "service": ["the service"],
        "scope": ["repository:app:pull"],
        "client_id": ["regdata"],
    }


def test_identity_token(home: Path) -> None:
    """An identity token is a refresh token, by POST; a server that gives a new one gets that next time."""
    identity(home)
    server = Server(token=None, access_token="a", refresh_token="second")
    mine = Authorization(URL, server)
    assert mine.challenged(PULL, bearer(), None) == "Bearer a"
    mine.challenged(Need("b", "pull"), bearer("repository:b:pull"), None)
    assert [asked[0] for asked in server.asked] == ["POST", "POST"]
    assert [asked[2]["refresh_token"] for asked in server.asked] == [[SECRET], ["second"]]
    assert server.asked[0][2]["grant_type"] == ["refresh_token"]


def test_identity_token_by_get(home: Path) -> None:
    """Where POST is refused an identity token is sent as the password of its user."""
    identity(home, username="00000000")
    server = Server(lambda method, _: 405 if method == "POST" else 200)
    assert Authorization(URL, server).challenged(PULL, bearer(), None) == "Bearer token-2"
    sent = server.asked[1][3]["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"00000000:{SECRET}"


def test_registry_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry token is sent as it is, no token server asked."""
    monkeypatch.setenv("REGDATA_TOKEN", "as.it.is")
    server = Server()
    mine = Authorization(URL, server)
    assert mine.challenged(PULL, bearer(), None) == "Bearer as.it.is"
    assert mine.challenged(PULL, bearer(), "Bearer as.it.is") is None
    assert server.asked == []


def test_registry_token_of_basic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry token goes to whoever asks, in whatever way, and from then on at once; one that wants a user's
    password says so."""
    monkeypatch.setenv("REGDATA_TOKEN", "as.it.is")
    for challenge in ('Basic realm="x"', "", "Negotiate", bearer()):
        mine = Authorization(URL, Server())
        assert mine.header(PULL) is None
        assert mine.challenged(PULL, challenge, None) == "Bearer as.it.is"
        assert mine.challenged(PULL, challenge, "Bearer as.it.is") is None
        assert mine.header(Need("other", "delete")) == "Bearer as.it.is"
        wants_a_user = "takes no token such as the token of REGDATA_TOKEN, but a user's password; set REGDATA_USERNAME"
        expected = "does not take the token of REGDATA_TOKEN" if "Bearer" in challenge else wants_a_user
        assert expected in str(mine.refused(PULL, challenge))


def test_basic(user: str) -> None:
    """Basic in UTF-8, sent from then on; refused once, it is not sent again."""
    mine = Authorization(URL, Server())
    assert mine.challenged(PULL, 'Basic realm="Registry"', None) == user
    assert mine.header(Need("other", "delete")) == user
    assert mine.challenged(PULL, 'Basic realm="Registry"', user) is None


def test_bearer_before_basic(user: str) -> None:
    """Of two challenges the token's is taken."""
    assert Authorization(URL, Server()).challenged(PULL, f'Basic realm="x", {bearer()}', None) == "Bearer token-1"


def test_nothing_to_answer(user: str) -> None:
    """A challenge that we have no answer to, or none at all, is left to the status."""
    mine = Authorization(URL, Server())
    for header in ("", "Negotiate", 'Bearer error="x"', 'Digest realm="x"'):
        assert mine.challenged(PULL, header, None) is None
        assert "in no way that is known here" in str(mine.refused(Need("", ""), header))
        assert "password" not in str(mine.refused(Need("", ""), header))
    assert Authorization("http://x", Server()).challenged(PULL, "Basic", None) is not None


def test_no_credentials_for_basic(home: Path) -> None:
    """Where the registry wants to know who asks and nobody knows, the message says where it was looked for."""
    mine = Authorization(URL, Server())
    assert mine.challenged(PULL, "Basic", None) is None
    told = str(mine.refused(PULL, "Basic"))
    for place in ("REGDATA_USERNAME", "auth.json", "config.json", ".netrc", "docker login", "registry.example.com"):
        assert place in told


# What the messages say


def refused(mine: Authorization, need: Need, header: str) -> str:
    sent = mine.challenged(need, header, None)
    mine.challenged(need, header, sent)
    return str(mine.refused(need, header))


DELETE = "repository:app:delete"


@pytest.mark.parametrize(
    ("needed", "header", "problem"),
    [
        (
            Need("app", "delete"),
            bearer(DELETE, error="insufficient_scope"),
            r"pöss \(REGDATA_USERNAME\) has not the right to delete in app; have it granted",
        ),
        (Need("app", "delete"), bearer(DELETE), "has not the right to delete in app; have it granted"),
        (Need("app", "upload"), bearer(DELETE, error="insufficient_scope"), "has not the right to upload to app"),
        (
            Need("", "catalog"),
            bearer("registry:catalog:*", error="insufficient_scope"),
            "to list the catalog; name the repositories in registry.repositories",
        ),
        (PULL, bearer(error="invalid_token"), f"does not take the token that {REALM} gave to pöss .*clocks agree"),
        (PULL, "Basic", r"the registry does not take the user or password of pöss \(REGDATA_USERNAME\); log in anew"),
    ],
)
def test_refused(user: str, needed: Need, header: str, problem: str) -> None:
    """A missing right, a wrong password and an untrusted token are told apart; each names the user and the origin."""
    assert re.search(problem, refused(Authorization(URL, Server()), needed, header))


def test_forbidden(user: str) -> None:
    """A 403 has no challenge: it is a missing right."""
    told = str(Authorization(URL, Server()).refused(PULL, None))
    assert "has not the right to pull in app; have it granted" in told
    assert told.endswith("or name only the others in registry.repositories")


def test_anonymous_lacks(user: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no credentials is told to log in."""
    monkeypatch.delenv("REGDATA_USERNAME")
    monkeypatch.delenv("REGDATA_PASSWORD")
    told = refused(Authorization(URL, Server()), Need("app", "delete"), bearer(DELETE, error="insufficient_scope"))
    assert "anonymous has not the right to delete in app, and there are no credentials for registry.example.com" in told


@pytest.mark.parametrize(
    ("status", "reply", "problem"),
    [
        (401, {}, f"{REALM} does not take the user or password of pöss"),
        (
            400,
            {"error": "invalid_grant", "error_description": "no"},
            "of pöss .REGDATA_USERNAME. invalid_grant: no; log in",
        ),
        (403, {}, f"{REALM} gives pöss .* no token for repository:app:pull; have it granted"),
        (404, {}, "gives no token: HTTP 404"),
        (500, {"errors": [{"code": "A", "message": "b\nc"}]}, "gives no token: HTTP 500 A: b c; its log"),
        (302, {}, "gives no token: HTTP 302; its log"),
        (200, {"token": None}, "answers without a token"),
        (200, {"token": ""}, "answers without a token"),
        (200, {"token": f"a\r\n{SECRET}"}, "answers without a token"),
        (200, {"token": [SECRET]}, "answers without a token"),
    ],
)
def test_token_server(user: str, status: int, reply: dict[str, Any], problem: str) -> None:
    """What a token server may answer instead of a token: one error that names it, and no secret."""
    mine = Authorization(URL, Server(lambda *_: status, **reply))
    with pytest.raises(AccessError, match=problem) as error:
        mine.challenged(PULL, bearer(), None)
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("location", "there"), [("/x?a=b", "https://auth.example.com/x"), ("//u:p@e/y", "https://e/y")]
)
def test_a_server_that_redirects(user: str, location: str, there: str) -> None:
    """A password follows no redirect; where it leads is told."""
    mine = Authorization(URL, lambda *_: Answer(307, {"Location": location}, b""))
    with pytest.raises(AccessError, match=f"HTTP 307; it redirects to {there}, where no password is sent: set auth"):
        mine.challenged(PULL, bearer(), None)


def test_created(user: str) -> None:
    """A token server may say 201."""
    assert Authorization(URL, Server(lambda *_: 201)).challenged(PULL, bearer(), None) == "Bearer token-1"


@pytest.mark.parametrize("data", [b"", b"[]", b"<html>", b"\xff", b"[" * 100_000, b'"token"'])
def test_rubbish(user: str, data: bytes) -> None:
    """Rubbish is no token."""
    mine = Authorization(URL, lambda *_: Answer(200, {}, data))
    with pytest.raises(AccessError, match="answers without a token"):
        mine.challenged(PULL, bearer(), None)


@pytest.mark.parametrize(
    ("realm", "problem"),
    [
        ("http://auth.example.com/token", "has no TLS, which the registry has, so no password is sent"),
        ("http://registry.example.com/token", "has no TLS"),
        ("file:///etc/passwd", "names no token server"),
        ("/token", "names no token server, but '/token'"),
        ("", "names no token server"),
        ("https://[::1", "names no token server"),
    ],
)
def test_realms_that_get_nothing(user: str, realm: str, problem: str) -> None:
    """No password goes to what is no HTTP server, or over http where the registry has TLS."""
    server = Server()
    with pytest.raises(AccessError, match=problem):
        Authorization(URL, server).challenged(PULL, bearer(realm=realm), None)
    assert server.asked == []


def test_no_token_for_the_catalog(user: str) -> None:
    """A token server that gives none for the catalog is told with what does without it."""
    mine = Authorization(URL, Server(lambda *_: 403))
    with pytest.raises(AccessError, match=r"for registry:catalog:\*; name the repositories in registry\.repositories"):
        mine.challenged(Need("", "catalog"), bearer("registry:catalog:*"), None)


def test_plain_registry_and_realm(user: str) -> None:
    """A registry without TLS may have a token server without it."""
    mine = Authorization("http://registry.example.com", Server())
    assert mine.challenged(PULL, bearer(realm="http://auth.example.com"), None) == "Bearer token-1"


def test_a_server_that_repeats_secrets(user: str) -> None:
    """What a server repeats of a secret is taken out of its words."""
    basic = user.removeprefix("Basic ")
    told = f"{SECRET} {basic} p%E2%82%ACss%20w%3A%C3%B6 p%E2%82%ACss+w%3A%C3%B6"
    mine = Authorization(URL, Server(lambda *_: 401, errors=[{"code": "X", "message": told}]))
    with pytest.raises(AccessError, match=r"X: \*\*\* \*\*\* \*\*\* \*\*\*;"):
        mine.challenged(PULL, bearer(), None)


def test_an_empty_password(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """A user without a password has no secret, and messages stay readable."""
    (home / ".netrc").write_text("machine registry.example.com login user")
    mine = Authorization(URL, Server())
    assert mine.challenged(PULL, "Basic", None) == "Basic " + base64.b64encode(b"user:").decode()
    assert mine.redacted("HTTP 404") == "HTTP 404"


def test_one_failure_for_many(user: str) -> None:
    """Who waited for a token that could not be had is told so, and does not ask and wait once more."""
    asked: list[str] = []
    waiting = threading.Barrier(8)

    def fail(*_: object) -> Answer:
        asked.append("x")
        # All others wait for the lock by then.
        time.sleep(0.2)
        return Answer(500, {}, b"")

    mine = Authorization(URL, fail)

    def challenged(_: int) -> str:
        waiting.wait()
        with pytest.raises(AccessError) as error:
            mine.challenged(PULL, bearer(), None)
        return str(error.value)

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(challenged, range(8)))
    assert len(told) == len(asked) == 1
    with pytest.raises(AccessError):
        mine.challenged(PULL, bearer(), None)
    assert len(asked) == 2
