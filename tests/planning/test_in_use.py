"""What runs stays: a thousand made-up clusters on random registries, held against the naive model; and who uses it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import regdata
from regdata.inventory.inventory import Inventory
from regdata.inventory.usage import with_usage
from regdata.planning.plan import Plan
from regdata.tables.schema import Engine
from regdata.usage.inuse import Use, read
from tests.support.helpers import numbered
from tests.support.model import NOW, Model, Node, Tag, closure, models
from tests.support.small import digest, few, indexed

REGISTRY = "registry.prod.svc:5000"
CLUSTERS = 4  # on each registry
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "8")) * 100 // 60  # registries, four clusters each


class Cluster(NamedTuple):
    """What runs, and the lists that say it."""

    tags: frozenset[tuple[str, str]]
    nodes: frozenset[Node]
    documents: list[Any]


KINDS = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet")


def workload(kind: str, name: str, image: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": image}]}
    if kind != "Pod":
        spec = {"replicas": 0, "template": {"spec": spec}}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    return {"kind": kind, "metadata": {"name": name, "namespace": "n"}, "spec": spec}


def pod(name: str, image: str, digest: str) -> dict[str, Any]:
    """A pod whose tag may have moved since it was started."""
    status = {"containerStatuses": [{"image": image, "imageID": f"docker-pullable://{REGISTRY}/{digest}"}]}
    return workload("Pod", name, f"{REGISTRY}/{image}") | {"status": status}


@st.composite
def clusters(draw: st.DrawFn, model: Model) -> Cluster:
    tags, nodes, objects, lines = set(), set(), [], [f"{REGISTRY}/absent:1", "quay.io/other/app:1"]
    names = [tag[:2] for tag in model.tags] or [("a", "gone")]
    held = sorted(model.revisions)
    for number in range(draw(st.integers(0, 3))):
        image, name = draw(st.sampled_from(names))
        tags.add((image, name))
        objects.append(workload(draw(st.sampled_from(KINDS)), f"w{number}", f"{REGISTRY}/{image}:{name}"))
    for number in range(draw(st.integers(0, 3)) if held else 0):
        node = draw(st.sampled_from(held))
        nodes.add(node)
        if draw(st.booleans()):
            objects.append(pod(f"p{number}", f"{node.image}:moved", f"{node.image}@{node.digest}"))
            tags.add((node.image, "moved"))
        else:
            lines.append(f"{REGISTRY}/{node.image}@{node.digest}")
    return Cluster(frozenset(tags), frozenset(nodes), [{"kind": "List", "items": objects}, "\n".join(lines)])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Model, list[tuple[Cluster, set[Tag]]], bool]:
    model = draw(models())
    made = [(draw(clusters(model)), {tag for tag in model.tags if draw(st.booleans())}) for _ in range(CLUSTERS)]
    return model, made, draw(st.booleans())


def listed(cluster: Cluster, folder: Path) -> dict[str, list[Use]]:
    paths = []
    for number, document in enumerate(cluster.documents):
        if document != {"kind": "List", "items": []}:
            paths.append(folder / f"list{number}")
            paths[-1].write_text(document if isinstance(document, str) else json.dumps(document))
    return read(paths, [REGISTRY], Path())


def condition_of(tags: set[Tag]) -> str:
    names = ", ".join(sorted(f"'{tag.full_name}'" for tag in tags))
    return f"image_name || ':' || tag_name in ({names})" if tags else "2=1"


@pytest.mark.long
@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(case=cases())
def test_many_clusters(tmp_path: Path, case: tuple[Model, list[tuple[Cluster, set[Tag]]], bool]) -> None:
    """Every tag and digest that runs is kept, with children and referrers; and what nothing needs goes all the same."""
    model, made, can_untag = case
    inventory = Inventory.from_columns(numbered(model.columns()), scanned_at=NOW, from_store=True, can_untag=can_untag)
    for cluster, selected in made:
        found = with_usage(inventory, uses=listed(cluster, tmp_path))
        check(model, cluster, selected, regdata.plan(found, condition_of(selected)))


def check(model: Model, cluster: Cluster, selected: set[Tag], plan: Plan) -> None:
    used = {tag for tag in model.tags if tag[:2] in cluster.tags or reaches(model, tag) & cluster.nodes}
    rows = plan.inventory.images
    in_use = rows[rows["in_use"]]
    assert set(in_use["image_name"] + ":" + in_use["tag_name"]) == {tag.full_name for tag in used}
    gone = {Node(*row) for row in plan.manifests[["image_name", "manifest_hash"]].itertuples(index=False)}
    running = cluster.nodes & model.revisions.keys()
    for node in running:
        assert not closure({node}, lambda node: model.children(node) | model.referrers(node)) & gone
    assert gone == model.revisions.keys() - model.must_stay(selected, used) - model.reach(running)
    going = plan.tags[plan.tags["action"] != "keep"]
    assert not set(going["image_name"] + ":" + going["tag_name"]) & {tag.full_name for tag in used}
    for tag in sorted(used & selected):
        rows = plan.tags[(plan.tags["image_name"] == tag.image) & (plan.tags["tag_name"] == tag.name)]
        assert list(rows["reason"]) == ["in-use"]


def reaches(model: Model, tag: Tag) -> set[Node]:
    """The manifests that a tag leads to: its own, and an index's children at any depth."""
    node = model.node(tag)
    return closure({node}, model.children) if node else set()


@pytest.fixture
def inventory() -> Inventory:
    return indexed().inventory()


def test_who_uses_it(inventory: Inventory) -> None:
    """The plan says who uses what stays, of tags and of digests."""
    old, multi = inventory.images["tag_hash"][2], inventory.images["tag_hash"][1]
    uses = [Use("a", "old", "", f"shop/Pod/{letter}") for letter in "dcba"]
    used = with_usage(inventory, uses={"l": [*uses, Use("a", "", multi, "ops/Job/x")]})
    plan = regdata.plan(used, "1=1")
    why = dict(zip(plan.explanations["tag_name"], plan.explanations["why"], strict=True))
    assert why["old"] == "it is in use (shop/Pod/a, shop/Pod/b, shop/Pod/c and 1 more)"
    assert plan.explain("a:old") == f"a:old stays although the condition selects it: {why['old']}."
    assert plan.explain(f"a@{multi}") == f"a@{multi} stays: it is in use (ops/Job/x)."
    assert plan.explain(f"a@{old}").startswith(f"a@{old} stays: something that stays needs it (a:old)")
    assert "it is in use" in str(plan)


@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
def test_whatever_the_condition_says(inventory: Inventory, engine: Engine) -> None:
    """Nothing that is in use goes, be it selected for that."""
    used = with_usage(inventory, uses={"l": [Use("a", "multi", "", "x")]})
    plan = regdata.plan(used, "in_use", engine=engine)
    assert list(plan.tags["action"]) == ["keep"]
    assert plan.manifests.empty


def test_a_digest_without_a_tag() -> None:
    """An old manifest whose tag has moved stays while it runs, and goes when it does not."""
    inventory = few().inventory()
    orphan = inventory.manifests.query("orphan")["manifest_hash"].iloc[0]
    assert list(regdata.plan(inventory, "2=1").manifests["manifest_hash"]) == [orphan]
    used = with_usage(inventory, uses={"l": [Use("a/app", "moved", orphan, "shop/Pod/x")]})
    assert regdata.plan(used, "2=1").manifests.empty
    elsewhere = with_usage(inventory, uses={"l": [Use("b/app", "", orphan, "shop/Pod/x")]})
    assert len(regdata.plan(elsewhere, "2=1").manifests) == 1
    by_id = with_usage(inventory, uses={"l": [Use("", "", orphan.removeprefix("sha256:"), "x", ours=False)]})
    assert regdata.plan(by_id, "2=1").manifests.empty


def test_what_several_rules_spare() -> None:
    """The first of them says why: what is outside registry.repositories, what `protect` matches, what is in use."""
    inventory = few().inventory(within=("a/*",), protect="tag_name = '1.0'")
    uses = [Use(image, tag, "", "x") for image, tag in (("a/app", "1.0"), ("a/app", "2.0"), ("b/app", "1.0"))]
    rows = regdata.plan(with_usage(inventory, uses={"l": uses}), "1=1").tags[["image_name", "tag_name", "reason"]]
    assert rows.to_numpy().tolist() == [
        ["a/app", "1.0", "protected"],
        ["a/app", "2.0", "in-use"],
        ["b/app", "1.0", "outside"],
    ]


def test_a_manifest_that_runs_from_two_repositories() -> None:
    """What several repositories have, and runs, stays in each of them."""
    made, orphan = few(), digest("a/appNone")
    made.row("revisions", image_name="b/app", manifest_hash=orphan, pushed=NOW)
    inventory = made.inventory()
    assert list(regdata.plan(inventory, "2=1").manifests["image_name"]) == ["a/app", "b/app"]
    uses = [Use(image, "moved", orphan, "shop/Pod/x") for image in ("a/app", "b/app")]
    assert regdata.plan(with_usage(inventory, uses={"l": uses}), "2=1").manifests.empty


def test_who_uses_a_digest() -> None:
    """Three of those who use a manifest without a tag are named; who uses it in another repository is told there."""
    made, orphan = few(), digest("a/appNone")
    made.row("revisions", image_name="b/app", manifest_hash=orphan, pushed=NOW)
    users = [("b/app", "a"), *(("a/app", letter) for letter in "edcb")]
    uses = [Use(image, "", orphan, f"shop/Pod/{letter}") for image, letter in users]
    plan = regdata.plan(with_usage(made.inventory(), uses={"l": uses}), "2=1")
    said = "stays: it is in use (shop/Pod/b, shop/Pod/c, shop/Pod/d)."
    assert plan.explain(f"a/app@{orphan}") == f"a/app@{orphan} {said}"
    assert plan.explain(f"b/app@{orphan}") == f"b/app@{orphan} stays: it is in use (shop/Pod/a)."


def test_what_is_outside_and_runs() -> None:
    """A tag has one row, and is counted once, though its manifest stays by two rules: the first says why."""
    uses = {"l": [Use("b/app", "", digest("b/app1.0"), "shop/Pod/x")]}
    plan = regdata.plan(with_usage(few().inventory(within=("a/*",)), uses=uses), "image_name = 'b/app'")
    assert plan.tags[["tag_name", "action", "reason"]].to_numpy().tolist() == [["1.0", "keep", "outside"]]
