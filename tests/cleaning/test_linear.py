"""Tags go before their manifests, so that the registry need not read them for each manifest that is deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import regdata
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer, push
from regdata.records.reading import read_events
from regdata.sources.storage import Storage
from tests.cleaning.test_changes import at
from tests.support.helpers import store_tags

Conf = Callable[..., Path]
IMAGES = [make_image([make_layer(("linear", number), 100)], created=number + 1) for number in range(12)]


def test_tags_go_first(registry: LocalRegistry, conf: Conf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches of two, all tags of an image are gone before the first of its manifests, and can be restored: they
    are written down before."""
    for number, image in enumerate(IMAGES):
        push(registry.url, "app", f"v{number}", image)
    config = load_config(conf(registry))
    before = store_tags(registry.base_path)
    plan = regdata.plan(regdata.scan(config), "tag_name <> 'v0'")
    there: list[set[str]] = []
    at(monkeypatch, "taking", lambda: there.append(store_tags(registry.base_path)))
    result = regdata.apply(plan, config, gc=False, batch=2)
    assert there == [before]
    assert result.errors == []
    assert set(result.tags["outcome"]) == set(result.manifests["outcome"]) == {"deleted"}
    (folder,) = [path.parent for path in config.reports.glob("*/record.json")]
    events = [event["event"] for event in read_events(folder)]
    assert events.count("taken") == 11
    assert max(i for i, event in enumerate(events) if event == "taken") < events.index("deleting")
    assert json.loads((folder / "record.json").read_bytes())["tags_deleted"] == 11
    assert store_tags(registry.base_path) == {"app:v0"}
    assert set(regdata.restore(folder, config)["outcome"]) == {"restored"}
    assert store_tags(registry.base_path) == before


def test_a_tag_that_moved_is_put_back(registry: LocalRegistry) -> None:
    """A tag that is on another digest by now is moved aside, read, and put back as it was."""
    push(registry.url, "app", "v", IMAGES[0])
    storage = Storage(registry.base_path)
    link = registry.base_path / "docker/registry/v2/repositories/app/_manifests/tags/v/current/link"
    os.utime(link, (1_500_000_000, 1_500_000_000))
    assert not storage.untag("app", "v", IMAGES[1].digest)
    assert link.stat().st_mtime == 1_500_000_000
    assert storage.untag("app", "v", IMAGES[0].digest)
    assert not link.exists()
