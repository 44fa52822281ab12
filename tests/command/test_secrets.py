"""What conf.json takes from the environment is in nothing that is written or printed."""

from __future__ import annotations

import base64
import html
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IMODE
from urllib.parse import quote

import pytest

from regdata.cleaning.undo import runs
from regdata.command import cli
from regdata.config import load_config
from regdata.errors import RegdataError
from regdata.notebook import run
from regdata.records.runs import past_runs
from regdata.show.blocks import Document
from regdata.sources.site import Site
from tests.support.helpers import ROOT
from tests.support.proxy import FaultProxy
from tests.support.scene import NewScene, Scene
from tests.support.server import Reply, Request, serving

SECRETS = {"PATH_TOKEN": "path-Zq81xK", "PROTECT_TOKEN": "protect Vb77", "GC_TOKEN": "gc/Hh29 öp"}


@pytest.fixture
def scene(new_scene: NewScene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A registry behind a secret path; conf.json has a secret in each place that takes one."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    scene = new_scene()
    behind = FaultProxy(scene.registry.url)
    prefix = f"/{SECRETS['PATH_TOKEN']}"

    def answer(request: Request) -> Reply:
        if scene.stopped.exists() or not request.target.startswith(prefix):
            return Reply(404)
        return behind.answer(request._replace(target=request.target.removeprefix(prefix)))

    with serving(answer) as url:
        scene.set(
            registry={"url": f"{url}/${{PATH_TOKEN}}", "base_path": str(scene.base_path)},
            protect="tag_name = '${PROTECT_TOKEN}'",
            snapshots="snapshots",
            gc_command=["sh", "-c", f'echo "$0"; exec {" ".join(scene.registry.gc_command)}', "${GC_TOKEN}"],
        )
        yield scene


def clear(scene: Scene, action: str) -> str:
    """All that clear.py says."""
    done = subprocess.run(
        [sys.executable, "-m", cli.__name__, "scene", action, "--conf", str(scene.conf)],
        cwd=scene.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file that regdata wrote."""
    for name in ("reports", "snapshots"):
        yield from ((path, path.read_bytes()) for path in (folder / name).rglob("*") if path.is_file())


def check_none(scene: Scene, said: str) -> None:
    found = [*written(scene.folder), (Path("said"), said.encode())]
    for value in SECRETS.values():
        forms = {value, json.dumps(value)[1:-1], repr(value)[1:-1], value.replace("'", "&#x27;")}
        for form in forms:
            assert [str(path) for path, data in found if form.encode() in data] == []


def test_no_secret_is_written_or_said(scene: Scene) -> None:
    """The URL's path, protect and gc-command are shown as the file has them, in what goes well and in what fails."""
    said = clear(scene, "del")
    assert said.startswith("0 "), said
    check_none(scene, said)
    (folder,) = scene.records()
    assert "${PATH_TOKEN}" in (folder / "delete.html").read_text("utf-8")
    record = json.loads((folder / "record.json").read_bytes())
    assert record["registry"].endswith("/${PATH_TOKEN}")
    assert record["gc_output"].startswith("${GC_TOKEN}\n")
    assert {S_IMODE(path.stat().st_mode) for path in (folder, folder / "manifests", folder.parent)} == {0o750}

    scene.set(
        gc_command=["sh", "-c", "echo no $0; exit 3", "${GC_TOKEN}"], protect="tag_name = '${PROTECT_TOKEN}' or x"
    )
    said += clear(scene, "del")
    assert "${PROTECT_TOKEN}" in said
    scene.set(protect=None)
    said += clear(scene, "del")
    scene.stopped.touch()
    said += clear(scene, "none")
    check_none(scene, said)


def test_a_record_still_matches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is of this registry by another spelling, with a new secret in its path, and as older ones were."""
    listing = run.start(sql_id="scene", action="none", conf=str(scene.conf))
    listing.plan()
    listing.finish()
    (folder,) = scene.records()
    url = str(scene.settings["registry"]["url"])
    scene.set(registry={"url": url.replace("127.0.0.1", "localhost") + "/"})
    monkeypatch.setenv("PATH_TOKEN", "another-one")
    assert len(past_runs(load_config(scene.conf))) == 1
    record = json.loads((folder / "record.json").read_bytes())
    del record["registry_id"]
    record["registry"] = load_config(scene.conf).registry.url
    (folder / "record.json").write_text(json.dumps(record))
    config = load_config(scene.conf)
    assert len(past_runs(config)) == 1
    assert runs(config).empty
    scene.set(registry={"url": "http://127.0.0.1:1/${PATH_TOKEN}"})
    assert past_runs(load_config(scene.conf)) == []


# Runs that fail: everything that a server is told it says again, in its answer's body and headers.

USER, PASSWORD, TOKEN = "robot$ci", 'pass/Kx81 ö="', "eyJ0b2tlbiI6.Zq81xKVb77"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
HIDDEN = {"password": (PASSWORD, BASIC), "token": (TOKEN,)}


def echo(request: Request, status: int, **headers: str) -> Reply:
    # An error shows the first 200 letters of it.
    header = request.headers.get("Authorization", "")
    sent = f"{header} {PASSWORD if header.startswith('Basic') else TOKEN}" if header else ""
    said = f"{sent} {request.body.decode()} {request.target} {request.headers}"
    error = {"errors": [{"code": "DENIED", "message": said}], "error": "invalid", "error_description": said}
    return Reply(status, json.dumps(error).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


def basic(status: int) -> Callable[[Request], Reply]:
    """Asks for a password, and then says this to it."""

    def answer(request: Request) -> Reply:
        if "Authorization" in request.headers:
            return echo(request, status, WWW_Authenticate=f'Basic realm="{request.headers["Authorization"]}"')
        return echo(request, 401, WWW_Authenticate='Basic realm="here"')

    return answer


def token(given: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """Wants a token, and does not take it."""

    def answer(request: Request) -> Reply:
        if "/token" in request.target:
            return given(request)
        error = 'error="invalid_token"' if "Authorization" in request.headers else ""
        where = f"http://{request.headers['Host']}/token"
        return echo(
            request, 401, WWW_Authenticate=f'Bearer realm="{where}",service="r",scope="registry:catalog:*",{error}'
        )

    return answer


FAILING: dict[str, Callable[[Request], Reply]] = {
    "401": basic(401),
    "403": basic(403),
    "404": basic(404),
    "500": basic(500),
    "503": basic(503),
    "redirect": lambda request: echo(request, 307, Location=f"/?{quote(PASSWORD)}"),
    "late": lambda request: Reply(how="stall"),
    "reset": lambda request: Reply(how="reset"),
    "a token that is not taken": token(lambda request: Reply(200, json.dumps({"token": TOKEN}).encode())),
    "no token": token(lambda request: echo(request, 401)),
    "a right that is missing": token(lambda request: echo(request, 403)),
    "a token server that is broken": token(lambda request: echo(request, 500)),
    "a token server that is gone": token(lambda request: Reply(how="reset")),
    "a token server that is late": token(lambda request: Reply(how="stall")),
}


@pytest.mark.parametrize("kind", [*FAILING, "TLS", "a condition"])
@pytest.mark.parametrize("how", ["password", "token"])
def test_nor_by_a_run_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float], kind: str, how: str
) -> None:
    """Whatever a registry, a token server or what is between answers: no error, traceback, record or page holds a
    password, a token, the two in base64, or what conf.json takes from the environment."""
    given = {"REGDATA_USERNAME": USER, "REGDATA_PASSWORD": PASSWORD} if how == "password" else {"REGDATA_TOKEN": TOKEN}
    for name, value in (given | SECRETS).items():
        monkeypatch.setenv(name, value)
    shown: list[Document] = []
    with serving(FAILING.get(kind, basic(401))) as url:
        conf = {
            "registry": {"url": f"{url.replace('http:', 'https:' if kind == 'TLS' else 'http:')}/${{PATH_TOKEN}}"},
            "sql": {"none": "2=1", "all": "tag_name = '${PROTECT_TOKEN}'" + (" or x" if kind == "a condition" else "")},
            "cache": False,
        }
        (tmp_path / "conf.json").write_text(json.dumps(conf))
        with pytest.raises(RegdataError) as caught:
            run.start(
                sql_id="all",
                conf=str(tmp_path / "conf.json"),
                watch=shown.append,
                open_site=lambda config: Site.open(config, timeout=(1.0, 0.5)),
            ).scan()
    rendered = "\n".join([*caught.value._render_traceback_(), *(document.html for document in shown)])
    said = f"{caught.value} {caught.value!s} {''.join(traceback.format_exception(caught.value))} {rendered}"
    found = [("said", said.encode()), *((str(path), data) for path, data in written(tmp_path))]
    assert len(found) > 2 or kind == "a condition"
    for value in (*HIDDEN[how], SECRETS["PATH_TOKEN"], SECRETS["PROTECT_TOKEN"]):
        for form in {
            value,
            json.dumps(value)[1:-1],
            repr(value)[1:-1],
            quote(value),
            quote(value, safe=""),
            html.escape(value),
        }:
            assert [name for name, data in found if form.encode() in data] == [], f"{form} in {said}"
