"""Tags of one image that change between the scan and the deletion, with more manifests than are deleted at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.cleaning.cleanup import Result
from regdata.config import Config, load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer, push
from tests.support.helpers import age, store_tags

TAGS = 9
IMAGES = [make_image([make_layer(number, 100 + number)]) for number in range(TAGS)]
NEW = make_image([make_layer("new", 50)])

batches = pytest.mark.parametrize("batch", [1, 2, TAGS, None])


@pytest.fixture(params=["folder", "api"])
def config(registry: LocalRegistry, conf: Callable[..., Path], request: pytest.FixtureRequest) -> Config:
    """A registry with tags 0, 1, 2… of app and one of another image, pushed three hours ago."""
    for number, image in enumerate(IMAGES):
        push(registry.url, "app", str(number), image)
    push(registry.url, "other", "kept", NEW)
    age(registry.base_path, 3 * 3600)
    where = {"url": registry.url, "base_path": str(registry.base_path)}
    if request.param == "api":
        del where["base_path"]
    return load_config(conf(registry, registry=where))


def outcomes(result: Result) -> dict[str, Counter[str]]:
    return {"tags": Counter(result.tags["outcome"]), "manifests": Counter(result.manifests["outcome"])}


def record(config: Config) -> dict[str, Any]:
    (path,) = config.reports.glob("*/record.json")
    facts: dict[str, Any] = json.loads(path.read_bytes())
    return facts


def journal(config: Config) -> list[dict[str, Any]]:
    (path,) = config.reports.glob("*/journal.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@batches
def test_one_was_pushed_again(registry: LocalRegistry, config: Config, batch: int | None) -> None:
    """One of many tags that go has moved: it alone stays, and the record, the journal and the progress say so."""
    plan = regdata.plan(regdata.scan(config), "image_name = 'app'")
    push(registry.url, "app", "4", NEW)
    seen: list[tuple[int, int]] = []
    result = regdata.apply(plan, config, batch=batch, progress=lambda *done: seen.append(done))
    assert result.errors == []
    assert store_tags(registry.base_path) == {"app:4", "other:kept"}
    assert outcomes(result) == {
        "tags": {"deleted": TAGS - 1, "moved": 1},
        # What its tag has left is an orphan by now; over the API it is not known to be an old one.
        "manifests": {"deleted": TAGS} if plan.inventory.from_store else {"deleted": TAGS - 1, "moved": 1},
    }
    facts = record(config)
    assert (facts["tags_deleted"], facts["tags_kept"], facts["tags_moved"]) == (TAGS - 1, 1, 1)
    moved = [event["name"] for event in journal(config) if event["event"] == "moved" and ":" not in event["name"]]
    assert moved == ["4"]
    assert seen[-1] == (TAGS, TAGS)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    again = regdata.plan(regdata.scan(config), "tag_name <> '4' and image_name = 'app'")
    assert again.tags.empty
