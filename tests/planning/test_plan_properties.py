"""The plan on random registries, compared with a naive model of a registry and its collector."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import regdata
from regdata.inventory.inventory import Inventory
from regdata.planning.bench import Workbench
from regdata.planning.plan import Plan
from regdata.planning.rules import REASONS, Spared, decide, protected
from regdata.tables.conditions import select
from regdata.tables.schema import Engine
from tests.support.helpers import named_rows, numbered
from tests.support.model import LAYERS, NOW, Columns, Model, Node, Tag, closure, models

pytestmark = pytest.mark.slow

# Each is a registry of one to six images. A few thousand may find what these don't:
# PROPERTY_EXAMPLES=5000 pytest tests/planning/test_plan_properties.py
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "30"))
property_of = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def condition_of(tags: set[Tag]) -> str:
    names = ", ".join(sorted(f"'{tag.full_name}'" for tag in tags))
    return f"image_name || ':' || tag_name in ({names})" if tags else "2=1"


@dataclass(frozen=True)
class Case:
    """A registry, what is selected, protected and (manifests) spared in it, and whether a tag can go alone."""

    model: Model
    selected: set[Tag]
    protected: set[Tag]
    spared: set[Node]
    can_untag: bool

    def inventory(self, model: Model) -> Inventory:
        return Inventory.from_columns(
            numbered(model.columns()),
            scanned_at=NOW,
            from_store=True,
            can_untag=self.can_untag,
            protect=condition_of(self.protected) if self.protected else None,
        )

    def plan_of(self, model: Model) -> Plan:
        inventory, condition = self.inventory(model), condition_of(self.selected)
        if not self.spared:
            return regdata.plan(inventory, condition)
        manifests = pd.DataFrame(sorted(self.spared), columns=["image_name", "manifest_hash"]).assign(
            reason="protected"
        )
        selected = select(inventory, condition, engine="duckdb")
        decided = decide(inventory, selected, Spared.of([protected(inventory), manifests.assign(reason="protected")]))
        return Plan(**vars(decided), condition=condition)

    @cached_property
    def plan(self) -> Plan:
        return self.plan_of(self.model)

    @cached_property
    def gone(self) -> set[Node]:
        rows = self.plan.manifests[["image_name", "manifest_hash"]].itertuples(index=False)
        return {Node(*row) for row in rows}

    @cached_property
    def stays(self) -> set[Node]:
        return self.model.revisions.keys() - self.gone

    @cached_property
    def actions(self) -> dict[Tag, tuple[str, str]]:
        """tag -> (action, reason)."""
        tags = {tag[:2]: tag for tag in self.model.tags}
        rows = self.plan.tags[["image_name", "tag_name", "action", "reason"]]
        return {tags[image, name]: (action, reason) for image, name, action, reason in rows.itertuples(index=False)}

    def with_action(self, *actions: str) -> set[Tag]:
        return {tag for tag, (action, _) in self.actions.items() if action in actions}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    model = draw(models())
    selected = {tag for tag in model.tags if draw(st.booleans())}
    protected = {tag for tag in model.tags if draw(st.integers(0, 7)) == 7}
    spared = {node for node in model.revisions if draw(st.integers(0, 11)) == 11}
    return Case(model, selected, protected, spared, draw(st.booleans()))


@property_of
@given(cases())
def test_plan(case: Case) -> None:
    """What a plan says is what the rules say, and its bytes are what the collector frees."""
    check_every_tag_has_one_row_and_a_reason(case)
    check_kept_tags(case)
    check_nothing_that_stays_loses_anything(case)
    check_what_is_not_held_goes(case)
    check_unreadable(case)
    check_orphans(case)
    check_bytes(case)
    check_order(case)


@settings(property_of, max_examples=max(EXAMPLES // 3, 1))
@given(cases())
def test_second_plan_is_empty(case: Case) -> None:
    """Once a plan is carried out, a second one finds nothing to do."""
    left = case.model.without(case.gone, {tag[:2] for tag in case.with_action("delete", "untag")})
    again = case.plan_of(left)
    assert not set(again.tags["action"]) & {"delete", "untag"}
    assert again.manifests.empty
    assert again.blobs.empty


def check_every_tag_has_one_row_and_a_reason(case: Case) -> None:
    """Selected tags and those that go are in the plan once, with an action and a reason that is true."""
    assert len(case.actions) == len(case.plan.tags)
    assert case.selected <= case.actions.keys()
    assert set(case.plan.manifests["reason"]) <= {"selected", "orphan", "child", "referrer"}
    assert len(case.gone) == len(case.plan.manifests)
    for tag, (action, reason) in case.actions.items():
        assert action in ("delete", "untag", "keep")
        assert reason in REASONS
        node = case.model.node(tag)
        assert (action == "delete") == (node in case.gone)
        assert is_true(reason, tag, action, case), (tag, action, reason)
    for row in named_rows(case.plan.manifests):
        check_manifest_reason(case, Node(row.image_name, row.manifest_hash), row.reason)


def is_true(reason: str, tag: Tag, action: str, case: Case) -> bool:
    model, node = case.model, case.model.node(tag)
    subjects = {model.named_subject(tag), model.subject(node) if node else None} - {None}
    if reason == "protected" and tag in case.protected:
        return action == "keep"
    if reason == "unreadable" and model.error(tag):
        return action == "keep"
    if reason == "signs-kept-image":
        return action == "keep" and bool(subjects & case.stays)
    if reason in ("selected", "referrer"):
        return action == "delete" and (tag in case.selected) == (reason == "selected")
    # What is left is a tag that goes, or would go, while its digest stays.
    if node is None or action != ("untag" if case.can_untag else "keep"):
        return False
    if reason == "protected":
        return node in case.spared
    if reason == "shared-digest":
        return bool(model.tags_on(node) - {tag} - case.with_action("untag"))
    if reason == "index-child":
        return any(node in model.children(parent) for parent in case.stays)
    if reason == "unreadable":
        return node.image in model.opaque()
    return reason == "has-kept-referrer" and bool(model.referrers(node) & case.stays)


def check_manifest_reason(case: Case, node: Node, reason: str) -> None:
    model = case.model
    if reason == "selected":
        assert model.tags_on(node) & case.selected
    elif reason == "orphan":
        # Also one that only a referrer's tag held, which goes.
        assert node not in model.reached() or model.referrers(node) & case.gone
    elif reason == "child":
        assert any(node in model.children(parent) for parent in case.gone)
    else:
        attached = {model.attached_to(tag) for tag in model.tags_on(node)}
        assert (attached | {model.subject(node)}) & case.gone


def check_kept_tags(case: Case) -> None:
    """A tag goes only if it is selected, or attached to what goes; never if it is protected."""
    going = case.with_action("delete", "untag")
    assert not going & case.protected
    assert case.can_untag or not case.with_action("untag")
    for tag in going - case.selected:
        assert case.model.attached_to(tag) in case.gone
    for node in case.gone:
        assert case.model.tags_on(node) <= case.with_action("delete")


def check_nothing_that_stays_loses_anything(case: Case) -> None:
    """What a kept tag reaches stays: children, what belongs to it, and what it belongs to."""
    model = case.model
    kept = {model.node(tag) for tag in set(model.tags) - case.with_action("delete")} - {None}
    assert kept <= case.stays
    for node in case.stays:
        assert not model.children(node) & case.gone
        assert not model.referrers(node) & case.gone
        assert model.subject(node) not in case.gone
    for tag in model.tags:
        subject = model.attached_to(tag)
        if subject in case.stays and tag not in case.protected:
            assert model.node(tag) in case.stays
            assert tag not in case.with_action("delete", "untag")
    # The same once more over any number of steps, from the tags alone.
    standing = {at for tag in model.standing() - case.selected if (at := model.node(tag))}
    assert not closure(standing, model.held_by) & case.gone


def check_what_is_not_held_goes(case: Case) -> None:
    """A manifest that nothing holds any more goes, and so do the tags that follow it."""
    assert not case.spared & case.gone
    assert case.gone == case.model.revisions.keys() - case.model.must_stay(case.selected, case.protected, case.spared)
    for tag in case.model.tags:
        followed = case.model.attached_to(tag)
        if followed in case.gone and tag not in case.protected and not case.model.error(tag):
            stays = not case.can_untag and case.model.node(tag) in case.stays
            assert stays or tag in case.with_action("delete", "untag")


def check_unreadable(case: Case) -> None:
    """What can't be read stays, and everything beside it that it might reach."""
    opaque = case.model.opaque()
    for node in case.gone:
        assert case.model.manifests[node.digest].error is None
        assert node.image not in opaque
    for tag in case.with_action("delete", "untag"):
        assert case.model.error(tag) is None


def check_orphans(case: Case) -> None:
    """Orphans go once they are two hours old; younger ones stay, and so do undated ones."""
    orphans = case.model.revisions.keys() - case.model.reached()
    for node in orphans & case.gone:
        pushed = case.model.revisions[node]
        assert pushed is not None
        assert pushed <= NOW - 2 * 3600
    named = case.plan.inventory.manifests.query("orphan")[["image_name", "manifest_hash"]]
    assert {Node(*row) for row in named.itertuples(index=False)} == orphans


def check_bytes(case: Case) -> None:
    """The bytes are those that the collector frees, each once."""
    blobs = dict(zip(case.plan.blobs["blob_hash"], case.plan.blobs["blob_size"], strict=True))
    assert len(blobs) == len(case.plan.blobs)
    assert blobs == case.model.collected(case.gone)
    assert case.plan.reclaimable == sum(blobs.values())
    assert {row[0]: row[1:] for row in case.plan.by_image.itertuples(index=False)} == rows_by_image(case, blobs)
    assert case.plan.by_image["image_name"].is_unique


def rows_by_image(case: Case, freed: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Tags, tags deleted, untagged and kept, manifests, and bytes of each image that is touched, and in brackets."""
    rows: dict[str, list[int]] = {}

    def count(image: str, column: int, number: int = 1) -> None:
        rows.setdefault(image, [0] * 6)[column] += number

    for tag, (action, _) in case.actions.items():
        count(tag.image, ["delete", "untag", "keep"].index(action) + 1)
    for node in case.gone:
        count(node.image, 4)
    for digest, size in freed.items():
        held = {node.image for node in case.model.revisions if digest in names_of(case.model, node)}
        shared = "(shared by several images)" if held else "(no manifest refers to it)"
        count(held.pop() if len(held) == 1 else shared, 5, size)
    for tag in case.model.tags:
        if tag.image in rows:
            count(tag.image, 0)
    return {image: tuple(row) for image, row in rows.items()}


def names_of(model: Model, node: Node) -> set[str]:
    """A manifest's digest and all that it names."""
    references = model.manifests[node.digest].references
    return {node.digest, *(reference.digest for reference in references if reference.kind != "mention")}


def check_order(case: Case) -> None:
    """An index is deleted before its children."""
    order = {(row.image_name, row.first, row.second) for row in named_rows(case.plan.order)}
    for node in case.gone:
        for child in case.model.children(node) & case.gone:
            assert (node.image, node.digest, child.digest) in order


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def over_the_api(model: Model) -> Columns:
    """What the registry shows without its folder: no stored blobs; one layer is fetched from elsewhere."""
    columns = model.columns()
    columns["blobs"] = {name: [] for name in columns["blobs"]}
    references = columns["references"]
    references["media_type"] = [FOREIGN if digest == LAYERS[0] else None for digest in references["reference_hash"]]
    return columns


@settings(property_of, max_examples=max(EXAMPLES // 3, 1))
@given(models(), st.booleans())
def test_exclusive_size_is_what_the_plan_frees(model: Model, from_store: bool) -> None:
    """exclusive_size is what the plan of that tag alone frees beyond what any clean-up frees, to the byte."""
    columns = model.columns() if from_store else over_the_api(model)
    inventory = Inventory.from_columns(numbered(columns), scanned_at=NOW, from_store=from_store)
    with Workbench(inventory) as bench:
        alone = {number: bench.plan(f"id = {number}").reclaimable - bench.anyway for number in inventory.images["id"]}
    assert dict(zip(inventory.images["id"], inventory.images["exclusive_size"], strict=True)) == alone


@property_of
@given(models())
def test_inventory(model: Model) -> None:
    """The figures of images and relations are those of a naive count."""
    inventory = Inventory.from_columns(numbered(model.columns()), scanned_at=NOW, from_store=True)
    ids = model.ids()
    assert len(inventory.images) == len(ids)
    for row in named_rows(inventory.images):
        tag = ids[row.id]
        assert (row.image_name, row.tag_name, row.image_tag) == (tag.image, tag.name, tag.name)
        assert row.exclusive_size == model.exclusive_size(tag), tag
        assert row.tag_size == model.tag_size(tag), tag
        beside = [t for t in model.tags if (t.image, t.digest) == (tag.image, tag.digest)]
        assert none(row.shared_tags) == (len(beside) if tag.digest else None)
        assert none(row.error) == model.error(tag)
    relations = [
        (row.image_name, row.tag_name, row.blob_hash, row.blob_kind) for row in named_rows(inventory.relations)
    ]
    wanted = {
        (tag.image, tag.name, digest): kinds for tag in model.tags for digest, kinds in model.blobs_of(tag).items()
    }
    assert {row[:3] for row in relations} == wanted.keys()
    assert len(relations) == len(wanted)
    assert all(kind in wanted[key] for *key_, kind in relations for key in [tuple(key_)])
    check_ranks(model, inventory)


def check_ranks(model: Model, inventory: Inventory) -> None:
    """newest_rank is 1 and the number of newer tags of the image, signatures apart."""
    rows = named_rows(inventory.images)
    ids = model.ids()
    for row in rows:
        pushed = ids[row.id].pushed
        assert pushed is None or row.tag_timestamp == pushed
        when = none(row.tag_timestamp)
        assert none(row.age_days) == (None if when is None else (NOW - when) / 86400)
        beside = [
            none(other.tag_timestamp)
            for other in rows
            if other.image_name == row.image_name
            and (none(other.kind) == "signature") == (none(row.kind) == "signature")
        ]
        newer = [other for other in beside if other is not None and when is not None and other > when]
        assert none(row.newest_rank) == (None if when is None else 1 + len(newer))


def none(value: Any) -> Any:
    """A frame's missing value as None."""
    return None if pd.isna(value) else value


CONDITIONS = (
    "tag_name = 'v1'",
    "image_name like 'b%' and image_tag != 'latest'",
    "tag_name like 'sha256-%' or newest_rank > 1",
    "age_days > 9",
    "not age_days > 9",
    "tag_timestamp is null",
    "kind in ('index', 'signature')",
    "exclusive_size > 0 and shared_tags = 1",
    "error is not null",
    "tag_size > (select avg(blob_size) from blobs)",
    "tag_hash in (select manifest_hash from manifests where orphan)",
    "family_rank > 1 and tag_family like '%#'",
    "version_rank > 1 or is_prerelease",
    "not is_prerelease",
    "in_use or idle_days > 90 or labels->>'team' = 'x'",
)


@settings(property_of, max_examples=max(EXAMPLES // 5, 1))
@given(models(), st.sampled_from(CONDITIONS))
def test_engines_agree(model: Model, condition: str) -> None:
    """DuckDB and SQLite select the same tags."""
    inventory = Inventory.from_columns(numbered(model.columns()), scanned_at=NOW, from_store=True)
    engines: tuple[Engine, Engine] = ("duckdb", "sqlite")
    duckdb, sqlite = (select(inventory, condition, engine=engine) for engine in engines)
    assert duckdb == sqlite
