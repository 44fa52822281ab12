"""What ``import regdata`` offers, to a notebook's completion and to who gives it something else than it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import regdata as typed
from regdata.errors import ConfigError, RegdataError
from tests.support.small import indexed

regdata: Any = typed  # what is given here is no such thing


def test_names() -> None:
    """An editor offers what there is, though it is loaded on first use."""
    assert dir(regdata) == sorted(regdata.__all__)
    assert all(getattr(regdata, name) is not None for name in regdata.__all__)


A_CONFIG = "must be what regdata.load_config(path) gives"
AN_INVENTORY = "must be what regdata.scan(config) gives"
CALLS: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "scan": (lambda found, conf: regdata.scan("conf.json"), f"config is 'conf.json' (str), but {A_CONFIG}"),
    "scan since": (lambda found, conf: regdata.scan(conf, since="x"), f"since is 'x' (str), but {AN_INVENTORY}"),
    "doctor": (lambda found, conf: regdata.doctor(found), f"(Inventory), but {A_CONFIG}"),
    "plan": (lambda found, conf: regdata.plan(conf, "1=1"), f"(Config), but {AN_INVENTORY}"),
    "preview": (lambda found, conf: regdata.preview(None, "1=1"), f"inventory is None (NoneType), but {AN_INVENTORY}"),
    "compare": (lambda found, conf: regdata.compare_conditions("x", "1=1", "1=2"), AN_INVENTORY),
    "backtest": (lambda found, conf: regdata.backtest(found, "1=1", "conf.json"), A_CONFIG),
    "backtest of": (lambda found, conf: regdata.backtest(conf, "1=1", conf), AN_INVENTORY),
    "months": (
        lambda found, conf: regdata.backtest(found, "1=1", conf, months="3"),
        "months is '3', but must",
    ),
    "no months": (lambda found, conf: regdata.backtest(found, "1=1", conf, months=0), "whole number from 1 to 240"),
    "batch": (
        lambda found, conf: regdata.apply(regdata.plan(found, "1=1"), conf, batch=True),
        "whole number from 1 on",
    ),
    "apply": (lambda found, conf: regdata.apply("1=1", conf), "must be what regdata.plan(inventory, condition)"),
    "restore": (lambda found, conf: regdata.restore("latest", "conf.json"), A_CONFIG),
    "engine": (lambda found, conf: regdata.plan(found, "1=1", engine="SQLite"), "must be duckdb or sqlite"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_something_else(tmp_path: Path, name: str) -> None:
    """It is told by its name, with the function that makes what is to be given."""
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    call, told = CALLS[name]
    with pytest.raises(ConfigError) as raised:
        call(indexed().inventory(), regdata.load_config(tmp_path))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda found: regdata.plan(found, "1=1", resumed=5), "resumed: 5 is no manifest"),
        (lambda found: regdata.plan(found, "1=1", resumed=[("a", "b")]), "give image_name, manifest_hash"),
        (lambda found: regdata.plan(found, "1=1", resumed=[("a", "b", "now")]), "and when that began"),
        (lambda found: regdata.plan(found, "1=1").explain(5), "5 (int) names no tag"),
        (lambda found: regdata.plan(found, "1=1").explain("app:\ud800"), "app:"),
        (lambda found: found.save(5), "5 (int) is no folder of snapshots"),
        (lambda found: regdata.Inventory.load(None), "None (NoneType) is no folder of snapshots"),
    ],
)
def test_what_a_method_can_not_take(call: Callable[[Any], object], told: str) -> None:
    """It is one sentence, as every error is."""
    with pytest.raises(RegdataError) as raised:
        call(indexed().inventory())
    assert told in str(raised.value)
