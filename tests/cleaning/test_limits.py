"""What a plan may delete at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.cleaning.checks import refusals
from regdata.config import load_config
from regdata.errors import CleanupError, RegistryError
from regdata.planning.plan import Plan
from tests.support.small import Small, digest


def plan_that_untags() -> Plan:
    """One of two tags that share a digest goes, of three tags."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    small.push("app", "2", days=9, layer=100)
    small.row("tags", image_name="app", tag_name="same", tag_hash=digest("app1"), pushed=0)
    return regdata.plan(small.inventory(can_untag=True), "tag_name = '1'")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_tags": 0}, r"delete 1 tags, which passes limits\.max_tags = 0"),
        ({"max_percent": 33}, r"33\.3 % of all tags \(1 of 3\), which passes limits\.max_percent = 33"),
        ({"max_tags": 1, "max_percent": 34, "max_bytes": 0}, None),
    ],
)
def test_tags_that_go_alone_count(tmp_path: Path, limits: dict[str, float], told: str | None) -> None:
    """A tag that goes while its digest stays is a tag that is deleted, and frees no bytes."""
    plan = plan_that_untags()
    assert list(plan.tags["action"]) == ["untag"]
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "limits": limits}))
    with pytest.raises(CleanupError if told else RegistryError, match=told or "can't connect"):
        regdata.apply(plan, load_config(path), gc=False)


def test_a_listing_says_what_would_be_refused(tmp_path: Path) -> None:
    """Also where tags go alone, and no manifest, or orphans alone, and no tag; where nothing goes there is nothing to
    be refused."""
    kept, orphaned = Small(), Small()
    for small in (kept, orphaned):
        small.push("app", "1", days=9, layer=100)
    orphaned.push("app", None, days=9, other=100)
    path = tmp_path / "conf.json"
    limits = {"max_tags": 0, "max_bytes": 0}
    path.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "limits": limits}))
    how: dict[str, Any] = {"config": load_config(path), "site": None, "gc": False, "force": False, "deletes": "yes"}
    (tag,) = refusals(plan_that_untags(), **how)
    assert tag.startswith("del would be refused: the plan would delete 1 tags, which passes limits.max_tags = 0")
    orphans = regdata.plan(orphaned.inventory(), "2=1")
    (orphan,) = refusals(orphans, **how)
    assert f"the plan would delete {orphans.reclaimable} bytes, which passes limits.max_bytes = 0" in orphan
    assert refusals(regdata.plan(kept.inventory(), "2=1"), **how) == []


def test_a_listing_with_force_says_nothing_of_limits(tmp_path: Path) -> None:
    """What a clean-up with force would pass is no refusal in a listing with force."""
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}, "limits": {"max_tags": 0}}))
    how: dict[str, Any] = {"config": load_config(path), "site": None, "gc": False, "deletes": "yes"}
    told = [len(refusals(plan_that_untags(), force=force, **how)) for force in (False, True)]
    assert told == [1, 0]


def test_a_listing_of_what_is_kept_says_nothing(tmp_path: Path) -> None:
    """Where all that was selected is kept there is nothing to be refused, whatever the registry allows."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    plan = regdata.plan(small.inventory(), "1=1", protect="tag_name = '1'")
    assert list(plan.tags["action"]) == ["keep"]
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    how: dict[str, Any] = {"config": load_config(path), "site": None, "gc": False, "force": False}
    assert refusals(plan, deletes="no: DELETE is disabled", **how) == []
