"""A registry that skopeo filled as a team would, and a clean-up of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.cleaning.result import Result
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    Image,
    make_helm_chart,
    make_image,
    make_index,
    make_layer,
    make_signature,
    signature_tag,
)
from regdata.planning.plan import Plan
from tests.support.helpers import pull_all, store_tags

HOUR = 3600
BASE = make_layer("base", 4000)
AMD = make_image([BASE, make_layer("amd", 1500)], oci=True)
ARM = make_image([BASE, make_layer("arm", 1600)], platform="linux/arm64/v8", oci=True)
DOCKER_AMD = make_image([BASE, make_layer("docker amd", 1700)])
DOCKER_ARM = make_image([BASE, make_layer("docker arm", 1800)], platform="linux/arm64")
SINGLE = make_image([BASE, make_layer("single", 2000)])
OLD = make_image([make_layer("old", 2100)])
INDEX = make_index([AMD, ARM], attest=True)

SIGNATURE = f"team/app/worker:{signature_tag(SINGLE)}"

# What skopeo copies into the registry.
TAGS: dict[str, Image] = {
    "team/app:1.0": SINGLE,
    "team/app:2.0": INDEX,
    "team/app:2.0-amd64": AMD,
    "team/app:3.0": make_index([DOCKER_AMD, DOCKER_ARM], oci=False),
    "team/app:latest": make_image([BASE, make_layer("latest", 1900)]),
    "team/app:same": make_image([BASE, make_layer("latest", 1900)]),
    "team/app/worker:1.0": SINGLE,
    "team/api:1.0": make_index([ARM, make_image([make_layer("api", 900)], oci=True)]),
    "team/old:1.0": OLD,
    "charts/web:0.1": make_helm_chart("web", 800),
    SIGNATURE: make_signature(SINGLE),
}

Files = dict[str, str]


@dataclass(frozen=True)
class Team:
    """A registry that skopeo filled, and what every tag pulled as when it was pushed."""

    registry: LocalRegistry
    pushed: dict[str, Files]


def serve(template: Path, folder: Path, *, delete: bool = True, cache: bool = False) -> LocalRegistry:
    copy = LocalRegistry(folder, delete=delete, cache=cache)
    shutil.copytree(template, copy.base_path)
    return copy


Conf = Callable[..., Path]
sources = pytest.mark.parametrize("folder", [True, False], ids=["folder", "api"])


def settings(team: Team, conf: Conf, *, folder: Any = True, **overrides: Any) -> regdata.config.Config:
    if not folder:
        overrides["registry"] = {"url": team.registry.url}
    return load_config(conf(team.registry, **overrides))


def plan_of(config: regdata.config.Config, condition: str) -> Plan:
    return regdata.plan(regdata.scan(config), condition)


def clean(config: regdata.config.Config, condition: str, **options: Any) -> Result:
    return regdata.apply(plan_of(config, condition), config, **options)


def check_registry(team: Team, gone: set[str], tmp_path: Path) -> None:
    """Every tag but those that are gone pulls as it was pushed; those answer 404."""
    assert store_tags(team.registry.base_path) == TAGS.keys() - gone
    for name in sorted(gone):
        assert status(team.registry, name) == 404, name
    check_others(team, gone, tmp_path)


def status(registry: LocalRegistry, name: str) -> int:
    repository, _, tag = name.partition(":")
    with requests.Session() as session:
        session.trust_env = False
        accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"
        url = f"{registry.url}/v2/{repository}/manifests/{tag}"
        return session.get(url, headers={"Accept": accept}, timeout=5).status_code


def catalog(registry: LocalRegistry) -> list[str]:
    with requests.Session() as session:
        session.trust_env = False
        found: list[str] = session.get(f"{registry.url}/v2/_catalog", timeout=5).json()["repositories"]
        return found


def outcomes(result: Result) -> dict[str, str]:
    tags = result.tags
    return dict(zip(tags["image_name"] + ":" + tags["tag_name"], tags["outcome"], strict=True))


def record_of(config: regdata.config.Config) -> dict[str, Any]:
    *_, path = sorted(config.reports.glob("*/record.json"))
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def events(config: regdata.config.Config) -> list[str]:
    *_, path = sorted(config.reports.glob("*/journal.jsonl"))
    return [
        " ".join(str(event[key]) for key in ("event", "step") if key in event)
        for event in map(json.loads, path.read_text().splitlines())
    ]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def check_others(team: Team, besides: set[str], tmp_path: Path) -> None:
    """Every tag as skopeo pushed it pulls as it did, besides some."""
    for number, name in enumerate(sorted(TAGS.keys() - besides)):
        assert pull_all(team.registry, name, tmp_path / f"other-{number}") == team.pushed[name], name
