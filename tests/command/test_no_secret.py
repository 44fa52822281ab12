"""Whatever goes wrong with a login, nothing that a run writes, says or raises holds a secret."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from regdata.errors import RegdataError
from regdata.notebook import run
from regdata.sources import credentials
from regdata.sources.tokens import need
from tests.sources.test_registry import AMD, ARM
from tests.support.fakes import FakeRegistry, json_reply
from tests.support.server import Reply, Request, serving

NAME, PASSWORD = "pöss", "S3cr€t w:ö"
TOKEN, REFRESH, AS_IT_IS = "tok.en-5ecret.Zz9", "refre5h-s3cret-1", "regt0ken.s3cret"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


BASIC = b64(f"{NAME}:{PASSWORD}")
_PLAIN = (PASSWORD, TOKEN, REFRESH, AS_IT_IS)
SECRETS = [*_PLAIN, *map(b64, _PLAIN), BASIC, b64(f"<token>:{REFRESH}"), json.dumps(PASSWORD)[1:-1]]


def give(_: Request) -> Reply:
    return json_reply({"token": TOKEN, "refresh_token": REFRESH, "expires_in": 60})


def repeat(status: int) -> Callable[[Request], Reply]:
    """A token server that says all that it was told."""

    def answer(request: Request) -> Reply:
        told = f"{request.headers} {request.target} {request.body.decode()} {PASSWORD} {BASIC} {REFRESH} "
        return json_reply({"error": "x", "error_description": told}, status)

    return answer


@dataclass
class Case:
    """``entry``: of the login's file; ``file``: that file itself. ``takes``: the requests for which a token is good."""

    server: Callable[[Request], Reply] = give
    entry: dict[str, Any] = field(default_factory=lambda: {"auth": BASIC})
    file: str = ""
    helper: str = ""
    netrc: str = ""
    realm: str = ""
    error: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    takes: Callable[[Request], bool] = lambda request: True
    odd: Callable[[FakeRegistry], object] = lambda fake: None


IDENTITY = {"auth": b64("u:"), "identitytoken": REFRESH}
ELSEWHERE = {"Location": f"http://127.0.0.1:9/{BASIC}?sig={TOKEN}"}
LINK = json_reply({"repositories": ["app"]}, Link=f'<http://e/{BASIC}>; rel="next"')
CASES = {
    "all is well": Case(),
    "identity token": Case(entry=IDENTITY),
    "registry token refused": Case(entry={"registrytoken": AS_IT_IS}),
    "server breaks": Case(repeat(500)),
    "wrong password": Case(repeat(401)),
    "wrong identity token": Case(repeat(401), entry=IDENTITY),
    "forbidden": Case(repeat(403)),
    "server redirects": Case(lambda _: Reply(302, headers=ELSEWHERE)),
    "rubbish": Case(lambda _: Reply(200, b"\xff" + BASIC.encode())),
    "a token that is none": Case(lambda _: json_reply({"token": f"{TOKEN}\n"})),
    "endless": Case(lambda _: Reply(200, TOKEN.encode() * 100_000)),
    "cut": Case(lambda _: Reply(200, f'{{"token": "{TOKEN}"'.encode(), how="cut")),
    "down": Case(realm="http://127.0.0.1:9/token"),
    "a realm with a password": Case(realm=f"http://u:{AS_IT_IS}@127.0.0.1:9/token?x={TOKEN}"),
    "a realm with a password and no port": Case(realm=f"http://u:{AS_IT_IS}@127.0.0.1:x/token?x={TOKEN}"),
    "never good": Case(takes=lambda request: False),
    "never trusted": Case(takes=lambda request: False, error="invalid_token"),
    "may not delete": Case(takes=lambda request: request.method != "DELETE", error="insufficient_scope"),
    "no catalog": Case(takes=lambda request: "_catalog" not in request.target, error="insufficient_scope"),
    "no JSON": Case(file=f'{{"auths": {{"x": {{"auth": "{BASIC}"'),
    "another shape": Case(entry={"auth": [PASSWORD]}),
    "helper fails": Case(helper=f"echo '{PASSWORD}'; echo '{PASSWORD}' >&2; exit 1"),
    "helper hangs": Case(helper=f"echo '{PASSWORD}'; sleep 9"),
    "helper prints rubbish": Case(helper=f'echo \'{{"Username": "u", "Secret": "{PASSWORD}"\''),
    "helper that is wrong": Case(repeat(401), helper=f'echo \'{{"Username": "u", "Secret": "{PASSWORD}"}}\''),
    "helper without a name": Case(file=json.dumps({"credsStore": AS_IT_IS + "/" + PASSWORD})),
    "netrc": Case(file="{}", netrc=f"machine 127.0.0.1 login u\n password\n{AS_IT_IS} {PASSWORD}"),
    "environment": Case(environment={"REGDATA_TOKEN": PASSWORD}),
    "environment refused": Case(environment={"REGDATA_TOKEN": AS_IT_IS}),
    "a link with a secret": Case(odd=lambda fake: fake.on("GET /v2/_catalog?n=1000", LINK)),
    "a redirect with a secret": Case(
        odd=lambda fake: fake.on("GET /v2/app/manifests/1", Reply(307, headers=ELSEWHERE), forever=True)
    ),
}


class Guarded:
    """A registry that wants tokens; in its errors it says with what it was asked."""

    def __init__(self, case: Case, realm: str) -> None:
        self.case, self.realm, self.fake = case, case.realm or f"{realm}/token", FakeRegistry()
        self.fake.push("app", "1", AMD)
        self.fake.push("app", "2", ARM)
        case.odd(self.fake)

    def answer(self, request: Request) -> Reply:
        sent = request.headers.get("Authorization", "")
        if sent == f"Bearer {TOKEN}" and self.case.takes(request):
            return self.fake.answer(request.method, request.target)
        needed = need(request.method, request.target.removeprefix("/v2/"))
        scope = f"repository:{needed.repository}:{needed.action}" if needed.repository else "registry:catalog:*"
        error = f',error="{self.case.error}"' if sent and self.case.error else ""
        challenge = f'Bearer realm="{self.realm}",service="s",scope="{scope}"{error}'
        told = {"errors": [{"code": "UNAUTHORIZED", "message": f"you sent {sent}"}]}
        return json_reply(told, 401, WWW_Authenticate=challenge)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


@pytest.mark.parametrize("name", CASES)
def test_no_secret(
    name: str,
    stack: ExitStack,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    naps: list[float],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Secrets, their base64, and tokens are in no record, on no terminal and in no traceback."""
    case = CASES[name]
    url = stack.enter_context(serving(Guarded(case, stack.enter_context(serving(case.server))).answer))
    login = {"credsStore": "odd"} if case.helper else {"auths": {url.partition("//")[2]: case.entry}}
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(case.file or json.dumps(login))
    (home / ".netrc").write_text(case.netrc)
    program = home / "bin/docker-credential-odd"
    program.write_text(f"#!/bin/sh\n{case.helper}\n")
    program.chmod(0o755)
    monkeypatch.setattr(credentials, "HELPER_TIME", 0.5 if "sleep" in case.helper else 30.0)
    for variable, value in case.environment.items():
        monkeypatch.setenv(variable, value)
    conf = {"registry": {"url": url}, "engine": "duckdb", "sql": {"one": "tag_name = '1'"}, "cache": False}
    (tmp_path / "conf.json").write_text(json.dumps(conf))
    raised = ""
    with suppress(RegdataError):
        try:
            job = run.start(sql_id="one", gc=False, note=print)
            job.scan()
            job.plan()
            print(job.apply())
            print(job.finish())
        except RegdataError as error:
            raised = "".join(traceback.format_exception(error))
            raise
    assert bool(raised) == (name not in ("all is well", "identity token"))
    printed = capfd.readouterr()
    written = {str(path): path.read_text("utf-8", "replace") for path in tmp_path.glob("reports/**/*.*")}
    assert any(path.endswith("record.json") for path in written)
    for said in (raised, printed.out, printed.err, *written.values()):
        assert [secret for secret in SECRETS if secret in said] == []
