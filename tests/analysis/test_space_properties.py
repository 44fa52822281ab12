"""What takes the space on random registries, compared with sums over a naive model."""

from __future__ import annotations

import os
from collections import Counter, defaultdict

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from regdata.analysis import space
from regdata.inventory.inventory import Inventory
from tests.support.helpers import numbered
from tests.support.model import NOW, Model, Node, models
from tests.support.small import few

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "20"))


def inventory_of(model: Model) -> Inventory:
    return Inventory.from_columns(numbered(model.columns()), scanned_at=NOW, from_store=True)


def needs(model: Model, node: Node) -> set[str]:
    """The stored blobs that a manifest needs beside the other manifests of its image."""
    mentioned = {reference.digest for reference in model.manifests[node.digest].references}
    others = {digest for digest in mentioned if Node(node.image, digest) in model.revisions}
    return {node.digest, *(mentioned - others)} & model.stored.keys()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(models())
def test_sums(model: Model) -> None:
    """Each stored byte is its image's own, shared, or nobody's; orphans' bytes are those that only orphans need."""
    inventory, reached = inventory_of(model), model.reached()
    holders: dict[str, set[str]] = defaultdict(set)
    for node in model.revisions:
        for blob in needs(model, node):
            holders[blob].add(node.image)
    own: Counter[str] = Counter()
    shared: Counter[str] = Counter()
    for blob, images in holders.items():
        for image in images:
            (own if len(images) == 1 else shared)[image] += model.stored[blob]
    rows = space.by_image(inventory).itertuples(index=False)
    assert {row.image_name: (row.own, row.shared) for row in rows} == {
        image: (own[image], shared[image]) for image in model.images
    }
    paid: Counter[str] = Counter()
    for blob, size in model.stored.items():
        teams = sorted({image.split("/")[0] for image in holders.get(blob, ())}) or ["(nobody)"]
        for place, team in enumerate(teams):
            paid[team] += size // len(teams) + (place < size % len(teams))
    shares = space.who_pays(inventory, 2.0)
    assert dict(zip(shares["team"], shares["bytes"], strict=True)) == {
        team: size for team, size in paid.items() if size
    }
    assert shares["bytes"].sum() == sum(model.stored.values())
    assert shares["price"].sum() == pytest.approx(sum(model.stored.values()) * 2e-9)
    totals = space.totals(inventory)
    alive = {blob for node in model.revisions if node in reached for blob in needs(model, node)}
    unreferenced = sum(size for blob, size in model.stored.items() if blob not in holders)
    assert totals.stored == sum(model.stored.values()) == space.by_path(inventory)["bytes"].sum()
    assert totals.unreferenced == unreferenced
    assert totals.orphan_bytes == sum(model.stored[blob] for blob in holders if blob not in alive)
    assert totals.unshared == unreferenced + sum(
        model.stored[blob] for node in model.revisions for blob in needs(model, node)
    )


def test_the_tables_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frames come from one set of tables, in the DuckDB that the inventory has anyway."""
    inventory = few().inventory()
    monkeypatch.setattr(duckdb, "connect", lambda **_: pytest.fail("another DuckDB"))
    seen = set()
    for frame in (space.totals, space.by_image, space.by_month, space.by_tag, space.layers, space.by_path):
        frame(inventory)
        with inventory.graph.open() as work:
            query = "select table_oid from duckdb_tables() where schema_name = 'space' order by all"
            seen.add(tuple(work.sql(query).fetchall()))
    assert len(seen) == 1
    assert seen != {()}
