"""Which layers are a push in flight, and which are what a deleted image left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from regdata.collecting.flight import in_flight
from regdata.inventory.graph import GRACE
from tests.support.small import NOW, Small, digest


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("linked", [NOW - 100, NOW - GRACE - 100])
@pytest.mark.parametrize("deleted", [(), (10,), (100,), (1000,), (10, 1000), (1000, 10)])
def test_layers_that_a_deleted_image_used(deleted: tuple[int, ...], linked: int, dated: bool) -> None:
    """A layer that was just linked, or stored nobody knows when, is in flight, unless one of the deleted manifests that
    name it went in that second or later."""
    made = Small()
    made.repository("a")
    made.blob("layer", 7, 0)
    store = SimpleNamespace(
        links=lambda image: {digest("layer"): linked},
        deleted=lambda image: {digest(f"gone {seconds}"): NOW - seconds for seconds in deleted},
        content=lambda manifest: digest("layer").encode(),
    )
    made.columns["blobs"]["blob_date"][0] = linked if dated else None
    site = SimpleNamespace(now=NOW, uploads=list, store=store)
    flight = in_flight(site, made.inventory())  # type: ignore[arg-type]
    is_young = linked > NOW - GRACE
    in_use = {10, 100}.isdisjoint(deleted) if is_young else not (dated or deleted)
    assert flight.blobs == ([("a", digest("layer"))] if in_use else [])
    held = {("a", digest("layer"))}
    assert in_flight(site, made.inventory(), lambda: held, linked).blobs == []  # type: ignore[arg-type]
    assert in_flight(site, made.inventory(), lambda: held, linked - 1).blobs == flight.blobs  # type: ignore[arg-type]


@pytest.mark.parametrize("needed", [True, False])
def test_layers_that_something_may_need(needed: bool) -> None:
    """A layer that was just linked is no push in flight where something there may need it in a way that can't be
    read."""
    made = Small()
    made.repository("a")
    made.blob("layer", 7, 0)
    if needed:
        made.row("oddities", image_name="a", what="link", hash=digest("layer"))
    store = SimpleNamespace(links=lambda image: {digest("layer"): NOW - 100}, deleted=lambda image: {})
    site = SimpleNamespace(now=NOW, uploads=list, store=store)
    flight = in_flight(site, made.inventory())  # type: ignore[arg-type]
    assert flight.blobs == ([] if needed else [("a", digest("layer"))])
