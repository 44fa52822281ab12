"""Clean-ups over the API of a registry that is not real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import regdata
from regdata.cleaning.result import Result
from regdata.config import Config, load_config
from regdata.demo.samples import make_image, make_layer
from tests.support.fakes import FakeRegistry

IMAGES = [make_image([make_layer(("3.x", number), 90)]) for number in range(3)]


def configured(folder: Path, settings: dict[str, Any]) -> Config:
    """By a conf.json in that folder."""
    (folder / "conf.json").write_text(json.dumps(settings))
    return load_config(folder / "conf.json")


def cleaned(fake: FakeRegistry, folder: Path, condition: str, batch: int | None = None) -> Result:
    """What became of a clean-up of it, over the API."""
    config = configured(folder, {"registry": {"url": fake.url}, "sql": {}})
    return regdata.apply(regdata.plan(regdata.scan(config), condition), config, gc=False, batch=batch)
