"""Images with layers that are fetched from elsewhere (OCI image-spec, "Non-Distributable Layers"): never pushed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import regdata
from regdata.config import Config, load_config
from regdata.demo.samples import Image, make_image, make_layer, push
from tests.cleaning.test_changes import at
from tests.support.fronted import FrontedRegistry
from tests.support.helpers import age, store_bytes, store_tags

ALLOWED = {"validation": {"manifests": {"urls": {"allow": ["^https://"]}}}}
FOREIGN = {
    "docker": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "oci": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
}


def with_foreign_layer(kind: str, seed: str) -> Image:
    """An image with a layer of its own and one that the registry does not get."""
    image = make_image([make_layer(seed, 900)], oci=kind == "oci")
    manifest = json.loads(image.manifest)
    elsewhere = make_layer((seed, "foreign"), 800).descriptor(FOREIGN[kind])
    manifest["layers"].insert(0, elsewhere | {"urls": ["https://elsewhere.example/layer"]})
    return Image(json.dumps(manifest).encode(), image.media_type, image.blobs, platform=image.platform)


@pytest.fixture
def registry(tools: None, tmp_path: Path) -> Iterator[FrontedRegistry]:
    """One that takes such images: of each kind one that goes and one that stays."""
    with FrontedRegistry(tmp_path / "registry", more=ALLOWED) as registry:
        for kind in FOREIGN:
            push(registry.url, "app", f"old-{kind}", with_foreign_layer(kind, f"old {kind}"))
            push(registry.url, "app", f"kept-{kind}", with_foreign_layer(kind, f"kept {kind}"))
        age(registry.base_path, 3 * 3600)
        yield registry


@pytest.fixture(params=["folder", "api"])
def config(registry: FrontedRegistry, conf: Callable[..., Path], request: pytest.FixtureRequest) -> Config:
    where = {"url": registry.url, "base_path": str(registry.base_path)}
    if request.param == "api":
        del where["base_path"]
    return load_config(conf(registry, registry=where))


def test_nobody_misses_them(registry: FrontedRegistry, config: Config) -> None:
    """What stays is verified, and what goes is counted, without them."""
    before = store_bytes(registry.base_path)
    plan = regdata.plan(regdata.scan(config), "tag_name like 'old-%'")
    result = regdata.apply(plan, config)
    assert (result.errors, result.notes) == ([], [])
    assert plan.reclaimable == before - store_bytes(registry.base_path) > 1800
    assert store_tags(registry.base_path) == {"app:kept-docker", "app:kept-oci"}


def test_they_can_be_restored(registry: FrontedRegistry, config: Config) -> None:
    """Before a collection the images come back, though the registry has nothing of those layers."""
    before = store_tags(registry.base_path)
    plan = regdata.plan(regdata.scan(config), "tag_name like 'old-%'")
    assert regdata.apply(plan, config, gc=False).errors == []
    (record,) = config.reports.glob("*/record.json")
    assert set(regdata.restore(record.parent, config)["outcome"]) == {"restored"}
    assert store_tags(registry.base_path) == before


def test_pushed_while_it_is_collected(
    registry: FrontedRegistry, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that comes while gc-command runs lacks nothing for the sake of such a layer."""

    def push_all() -> None:
        for kind in FOREIGN:
            push(registry.url, "app", f"late-{kind}", with_foreign_layer(kind, f"late {kind}"))

    at(monkeypatch, "running", push_all)
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name like 'old-%'"), config)
    assert result.errors == []
    assert {"app:late-docker", "app:late-oci"} <= store_tags(registry.base_path)
