"""Images of schema 1, which 2.x can be told to take: a real registry, and images signed as Docker signed them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import regdata
from regdata.demo.samples import make_image, make_layer, push
from regdata.sources.registry import Registry
from tests.support.fronted import FrontedRegistry
from tests.support.helpers import age
from tests.support.odd import push_schema1

SHARED, OWN, GOING = make_layer("s1", 300), make_layer("s1-own", 200), make_layer("s1-going", 400)


@pytest.mark.parametrize("collector", ["own", "registry's", "api"])
def test_schema1(tools: None, tmp_path: Path, collector: str) -> None:
    """An image of schema 1 stays with all its layers, whatever is selected; what it does not share goes."""
    compatible = {"compatibility": {"schema1": {"enabled": True}}}
    with FrontedRegistry(tmp_path / "registry", more=compatible) as registry:
        digest = push_schema1(registry.url, "old/app", "v1", SHARED, OWN)
        push(registry.url, "old/app", "2", make_image([SHARED, GOING]))
        age(registry.base_path, 3 * 86400)
        base = {} if collector == "api" else {"base_path": str(registry.base_path)}
        conf = {"registry": {"url": registry.url} | base, "engine": "duckdb", "sql": {"none": "2=1"}, "cache": False}
        conf |= {} if collector == "own" else {"gc-command": registry.gc_command}
        (tmp_path / "conf.json").write_text(json.dumps(conf))
        config = regdata.load_config(tmp_path / "conf.json")
        inventory = regdata.scan(config)
        plan = regdata.plan(inventory, "1=1")
        fates = {*plan.tags[["tag_name", "action", "reason"]].itertuples(index=False, name=None)}
        assert fates == {("v1", "keep", "unreadable"), ("2", "delete", "selected")}
        row = inventory.images.set_index("tag_name").loc["v1"]
        assert (row["tag_hash"], row["error"]) == (digest, f"unknown media type {row['media_type']}")
        regdata.apply(plan, config)
        client = Registry(registry.url)
        assert client.digest("old/app", "v1") == digest
        assert client.tags("old/app") == ["v1"]
        assert [client.blob_readable("old/app", blob.digest) for blob in (SHARED, OWN, GOING)] == [True, True, False]
