"""The demo's registry, its images, and how it starts and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

import regdata.demo
from regdata.demo.__main__ import demo_registry as opened
from regdata.demo.filling import EMPTY_REPOSITORY, fill, measure
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer, push
from regdata.errors import RegistryError, StorageError
from tests.support.helpers import ROOT, docker_ref, pull_all, skopeo_copy, store_bytes, store_tags

DAY = 86400


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=5)


def test_registry_starts_stops_and_restarts(registry: LocalRegistry) -> None:
    """A registry answers once started, is gone once stopped, and keeps its port and images."""
    push(registry.url, "a/b", "1", make_image([make_layer(1, 1000)]))
    url = registry.url
    registry.stop()
    with pytest.raises(requests.ConnectionError):
        get(f"{url}/v2/")
    registry.start()
    registry.restart()
    assert registry.url == url
    assert get(f"{url}/v2/a/b/tags/list").json()["tags"] == ["1"]


def test_registry_says_why_it_did_not_start(registry: LocalRegistry, tmp_path: Path) -> None:
    """A port that is taken is one error with the end of the registry's log."""
    with pytest.raises(RegistryError, match="address already in use"):
        LocalRegistry(tmp_path / "second", port=registry.port).start()


def test_registry_without_delete_refuses(tools: None, tmp_path: Path) -> None:
    """delete=False gives a registry that answers 405 to a deletion."""
    with (
        LocalRegistry(tmp_path / "registry", delete=False) as registry,
        requests.Session() as session,
    ):
        session.trust_env = False
        digest = push(registry.url, "a", "1", make_image([]))
        assert session.delete(f"{registry.url}/v2/a/manifests/{digest}").status_code == 405


def test_gc_command_collects(registry: LocalRegistry) -> None:
    """gc_command is this registry's own collection: nothing is left of a deleted image."""
    digest = push(registry.url, "a", "1", make_image([make_layer(1, 1000)]))
    with requests.Session() as session:
        session.trust_env = False
        session.delete(f"{registry.url}/v2/a/manifests/{digest}").raise_for_status()
    assert store_bytes(registry.base_path) > 1000
    subprocess.run(registry.gc_command, check=True, capture_output=True)
    assert store_bytes(registry.base_path) == 0


def test_registry_dies_with_its_process(tools: None, tmp_path: Path) -> None:
    """A killed demo leaves no registry behind."""
    code = f"import sys, time; from {LocalRegistry.__module__} import LocalRegistry as R; r = R(sys.argv[1])\n"
    code += "r.start(); print(r.url, flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert get(f"{url}/v2/").status_code == 200
        process.kill()
    time.sleep(0.5)
    with pytest.raises(requests.ConnectionError):
        get(f"{url}/v2/")


def test_layers_are_deterministic() -> None:
    """The same seed makes the same layer, another seed another."""
    assert make_layer("a", 1000) == make_layer("a", 1000)
    assert make_layer("a", 1000) != make_layer("b", 1000)


def test_fill_makes_what_it_promises(tools: None, tmp_path: Path) -> None:
    """Some 60 images of two years: all kinds, orphans, shared digests, an empty repository."""
    now = int(time.time())
    with LocalRegistry(tmp_path) as registry:
        pushes = fill(registry, now=now)
        catalog = get(f"{registry.url}/v2/_catalog?n=1000").json()["repositories"]
        assert get(f"{registry.url}/v2/{EMPTY_REPOSITORY}/tags/list").json()["tags"] is None
    assert 55 <= len({one.image.digest for one in pushes}) <= 70
    assert set(catalog) == {one.repository for one in pushes} | {EMPTY_REPOSITORY}
    assert "platform/ci/runner/linux" in catalog

    current = {(one.repository, tag): one.image.digest for one in pushes for tag in one.tags}
    assert store_tags(registry.base_path) == {f"{name}:{tag}" for name, tag in current}
    prod = [tag for name, tag in current if "prod" in name and tag != "latest"]
    assert len(current) / 3 < len(prod) < len(current) * 3 / 4
    assert max(Counter((name, digest) for (name, _), digest in current.items()).values()) == 2
    orphans = {one.image.digest for one in pushes if one.tags} - set(current.values())
    assert len(orphans) >= 5

    assert 20e6 < measure(registry.base_path).bytes < 60e6
    assert measure(registry.base_path) == (len(current), store_bytes(registry.base_path))
    for (name, tag), digest in current.items():
        pushed = max(one.when for one in pushes if one.repository == name and tag in one.tags)
        manifests = registry.base_path / f"docker/registry/v2/repositories/{name}/_manifests"
        assert (manifests / f"tags/{tag}/current/link").stat().st_mtime == pushed, (name, tag)
        revision = manifests / "revisions" / digest.replace(":", "/") / "link"
        assert pushed <= revision.stat().st_mtime < now
    store = registry.base_path / "docker/registry/v2"
    layers = [data for data in store.glob("blobs/*/*/*/data") if data.stat().st_size > 1000]
    layers += store.glob("repositories/**/_layers/*/*/link")
    assert max(layer.stat().st_mtime for layer in layers) < now - DAY / 2


def test_skopeo_takes_every_kind(demo_registry: LocalRegistry, tmp_path: Path) -> None:
    """skopeo pulls every kind of image of the demo, and pushes an index back digest for digest."""
    tags = store_tags(demo_registry.base_path)
    kinds = {name.split(":")[0]: name for name in tags} | {tag: tag for tag in tags if "sha256" in tag}
    for number, name in enumerate([*kinds.values(), "data/prod-etl:latest"]):
        files = pull_all(demo_registry, name, tmp_path / str(number))
        if name == "data/prod-etl:latest":
            copy = docker_ref(demo_registry, "copy/etl:1")
            skopeo_copy(f"dir:{tmp_path / str(number)}", copy)
            assert pull_all(demo_registry, "copy/etl:1", tmp_path / "copy") == files


def test_interrupted_demo_is_one_line(tools: None, tmp_path: Path) -> None:
    """SIGTERM or Ctrl-C ends the demo with one line; its folder is free for the next one."""
    command = [sys.executable, "-m", regdata.demo.__name__, "run"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as demo:
            assert demo.stdout is not None
            url = demo.stdout.readline().split()[1].rstrip(",")
            refused = pytest.raises(StorageError, match="in use by a running demo")
            with refused, opened(tmp_path / "demo", fresh=True):
                pass
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=60)
        assert (demo.returncode, len(errors.strip().splitlines())) == (130, 1), errors
        with pytest.raises(requests.ConnectionError):
            get(f"{url}/v2/")
