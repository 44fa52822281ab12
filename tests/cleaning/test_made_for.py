"""A plan is carried out in the registry that it is of, as conf.json was when it was made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.config import load_config
from regdata.errors import CleanupError, ConditionError, ConfigError
from regdata.planning.plan import Plan
from regdata.values import identity
from tests.support.fakes import FakeRegistry, serve
from tests.support.scene import OLD, NewScene, Scene, read_store
from tests.support.small import Small

OWN = {"gc_before": None, "gc_command": None, "gc_after": None}


def planned(scene: Scene, **more: Any) -> Plan:
    return regdata.plan(regdata.scan(load_config(scene.conf)), "tag_name = 'old'", **more)


@pytest.mark.parametrize("store", [True, False])
def test_another_registry(new_scene: NewScene, store: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another registry has by the same name is not deleted there."""
    scene = new_scene(store=store)
    plan, before = planned(scene), read_store(scene.base_path)
    with serve(FakeRegistry()) as fake:
        fake.push("prod/old", "old", OLD)
        loaded = replace(plan, inventory=replace(plan.inventory, registry="x", registry_id=""))  # an old snapshot
        monkeypatch.setenv("WHERE", scene.proxy.url)
        scene.set(registry=scene.settings["registry"] | {"url": "${WHERE}"})
        by_variable = planned(scene)
        same = replace(by_variable.inventory, registry_id=identity(fake.url))  # as where it differs in its path alone
        by_path = replace(by_variable, inventory=same)
        for made, url, names in (
            (plan, fake.url, ".*"),
            (loaded, scene.proxy.url, ".*"),
            (by_variable, "${WHERE}", "another registry by it: its"),
            (by_path, "${WHERE}", "another registry by it: its"),
        ):
            monkeypatch.setenv("WHERE", fake.url)
            scene.set(registry=scene.settings["registry"] | {"url": url})
            with pytest.raises(CleanupError, match=rf"the plan is of .*, and .* names {names}.*: scan and plan again"):
                regdata.apply(made, load_config(scene.conf), gc=False)
        assert fake.tags["prod/old"]
    assert read_store(scene.base_path) == before


def test_conf_changed(new_scene: NewScene) -> None:
    """What is protected by now, or collected otherwise than was predicted, needs another plan; not what is not
    collected, nor where a caller wants nothing protected."""
    scene = new_scene()
    for before, after, named in (
        ({}, {"protect": "tag_name = 'old'"}, "protect"),
        ({"protect": "tag_name = 'new'"}, {"protect": "tag_name = 'old'"}, "protect"),
        (OWN, {"trash_days": 3}, "who collects"),
        ({"trash_days": 3}, {"trash_days": None}, "who collects"),
        ({}, {"gc_before": ["true"], "gc_after": ["true"]}, "who collects"),
        ({}, {"gc_before": None, "gc_after": None}, "who collects"),
        ({}, {"gc_command": scene.registry.gc_command}, "who collects"),
    ):
        scene.set(**{"protect": None} | before)
        plan, store = planned(scene), scene.store()
        scene.set(**after)
        for gc in [True] if named == "who collects" else [True, False]:
            with pytest.raises(CleanupError, match=f"{named}.* differs from what this plan was made with, so nothing"):
                regdata.apply(plan, load_config(scene.conf), gc=gc)
            assert scene.store() == store
    scene.set(protect="tag_name = 'old'")
    plan = planned(scene, protect="")
    scene.set(**OWN)
    assert regdata.apply(plan, load_config(scene.conf), gc=False).errors == []
    assert not [one for one in scene.store().tags if one[1] == "old"]


@pytest.mark.parametrize("force", [False, True])
def test_what_came_into_use(new_scene: NewScene, force: bool) -> None:
    """What runs by now does not go, be it that limits are overridden."""
    scene = new_scene()
    plan, before = planned(scene), scene.store()
    (scene.folder / "running.txt").write_text("prod/old:old")
    scene.settings["in-use"] = ["running.txt"]
    scene.set()
    with pytest.raises(CleanupError, match="in-use: prod/old:old "):
        regdata.apply(plan, load_config(scene.conf), gc=False, force=force)
    assert scene.store() == before


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"gc": "False"}, "gc is 'False'"),
    ({"force": 1}, "force is 1 "),
    ({"empty_trash": "x"}, "empty_trash is 'x'"),
    ({"batch": 0}, "batch is 0"),
    ({"batch": -1}, "batch is -1"),
    ({"batch": 1.5}, r"batch is 1\.5"),
    ({"batch": True}, "batch is True"),
]


def test_how(scene: Scene) -> None:
    """What is no flag, no number of manifests, and no condition is an error that shows it, and no run."""
    plan, before = planned(scene), scene.store()
    for how, named in WRONG:
        with pytest.raises(ConfigError, match=f"{named}.* must be"):
            regdata.apply(plan, load_config(scene.conf), **how)
    assert (scene.store(), scene.records()) == (before, [])
    no_text: list[Any] = [None, 5, ["1=1"], b"1=1"]
    for given in no_text:
        with pytest.raises(ConditionError, match=r"condition is .*must be a text"):
            regdata.plan(plan.inventory, given)
        with pytest.raises(ConditionError, match=r"query is .*must be a text"):
            plan.inventory.sql(given)


def test_all_that_changed_is_named(tmp_path: Path) -> None:
    """Where both what is protected and who collects differ from what the plan was made with, both are named."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    plan = regdata.plan(small.inventory(), "1=1", protect="tag_name = '2'")
    registry = {"url": "http://127.0.0.1:1", "base_path": str(tmp_path)}
    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}, "protect": "tag_name = '3'"}))
    with pytest.raises(CleanupError, match=r"^protect and who collects \(.*\) of .*/conf.json differs from what"):
        regdata.apply(plan, load_config(tmp_path))
