"""The look at an image right before its deletions: what is spared by then stays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

import regdata
from regdata.cleaning.order import Manifest
from regdata.cleaning.outcome import Outcome
from regdata.cleaning.review import Review
from regdata.planning.plan import Plan
from regdata.planning.rules import Spared
from regdata.sources.columns import Columns
from regdata.sources.source import Glance, Part
from tests.support.helpers import numbered
from tests.support.small import Small, digest

IMAGE = "a/app"
ALL = ("1.0", "2.0", "3.0")


def store(*tags: str) -> Small:
    """Each tag is a day newer than the one before it."""
    made = Small()
    for number, tag in enumerate(tags):
        made.push(IMAGE, tag, days=100 - number, base=100)
    return made


class Now:
    """A source with what is left of an image."""

    def __init__(self, left: Small) -> None:
        self.left = left

    def state(self, repository: str) -> tuple[dict[str, Any], frozenset[str]]:
        tags = self.left.columns["tags"]
        digests = dict(zip(tags["tag_name"], tags["tag_hash"], strict=True))
        return digests, frozenset(self.left.columns["revisions"]["manifest_hash"])

    def glance(self, repository: str, digests: Collection[str]) -> Glance:
        return lambda going: True

    def read(self, part: Part) -> Columns:
        return numbered(self.left.columns)


def still_goes(plan: Plan, *tags: str) -> set[str]:
    """The tags of which the manifests still go when these are left."""
    found = Review(Outcome(plan), Now(store(*tags))).still_goes(IMAGE).manifests  # type: ignore[arg-type]
    return {tag for tag in ALL if Manifest(IMAGE, digest(f"{IMAGE}{tag}")) in found}


@pytest.mark.parametrize("told", [None, "newest_rank <= 2"], ids=["conf.json", "plan"])
def test_protected_meanwhile(told: str | None) -> None:
    """What `protect` matches only now, since another tag was deleted by others, stays; whoever said `protect`."""
    inventory = store(*ALL).inventory(protect=None if told else "newest_rank <= 2")
    plan = regdata.plan(inventory, "1=1", protect=told)
    assert still_goes(plan, *ALL) == {"1.0"}
    assert still_goes(plan, "1.0", "3.0") == set()


def test_spared_then_and_not_now() -> None:
    """What a keep-rule spared when the plan was made is spared although nothing says so any more."""
    plan = regdata.plan(store(*ALL).inventory(), "1=1")
    assert still_goes(plan, "1.0", "2.0") == {"1.0", "2.0"}
    manifests = pd.DataFrame({"image_name": [IMAGE], "manifest_hash": digest(f"{IMAGE}1.0"), "reason": "protected"})
    tags = pd.DataFrame({"id": [2], "reason": "protected"})
    assert still_goes(replace(plan, spared=Spared.of([manifests, tags])), "1.0", "2.0") == set()
