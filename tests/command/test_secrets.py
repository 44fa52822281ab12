"""What conf.json takes from the environment is in nothing that is written or printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest

from regdata.cleaning.undo import runs
from regdata.command import cli
from regdata.config import load_config
from regdata.records.reading import past_runs
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
    assert clear(scene, "none").startswith("0 ")
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
