"""Which layers are a push in flight, and which are what a deleted image left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from regdata.collecting.flight import Flight, in_flight
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


@pytest.mark.parametrize(
    ("uploads", "blobs", "said"),
    [
        (["a", "a"], [], "2 uploads were in flight before the collection (a)"),
        (list("edcba"), [], "5 uploads were in flight before the collection (a, b, c, d, e)"),
        (list("fedcba"), [], "6 uploads were in flight before the collection (a, b, c, d, e and 1 more)"),
        (
            ["a"],
            [("b", digest("1"))],
            "1 upload was in flight before the collection (a), and 1 blob pushed less than 2 hours ago, or nobody "
            "knows when, had no manifest before the collection (b): a push may be in flight",
        ),
    ],
)
def test_what_is_said_of_pushes(uploads: list[str], blobs: list[tuple[str, str]], said: str) -> None:
    """Uploads and layers are both told, how many there are and in which repositories, of which some may be left out."""
    assert str(Flight(uploads, blobs)) == said


def test_pushes_into_several_repositories() -> None:
    """Each repository is looked at for itself: what a deleted image of one of them had used is no push there, be some
    deleted manifest's bytes gone, and is one in the others."""
    made, layer = Small(), digest("layer")
    made.blob("layer", 7, 3)
    for name in ("a", "b", "c"):
        made.repository(name)
    store = SimpleNamespace(
        links=lambda image: {layer: NOW - 100},
        deleted=lambda image: {digest("gone"): NOW, digest("used"): NOW} if image == "a" else {},
        content=lambda manifest: layer.encode() if manifest == digest("used") else None,
    )
    site = SimpleNamespace(now=NOW, uploads=list, store=store)
    assert in_flight(site, made.inventory()).blobs == [("b", layer), ("c", layer)]  # type: ignore[arg-type]


def test_a_layer_of_a_deleted_image_that_has_no_date() -> None:
    """A layer that this run's images used counts as pushed again where nobody knows when it came."""
    made, layer = Small(), digest("layer")
    made.repository("a")
    made.blob("layer", 7, 0)
    made.columns["blobs"]["blob_date"][0] = None
    store = SimpleNamespace(links=lambda image: {layer: 0}, deleted=lambda image: {})
    site = SimpleNamespace(now=NOW, uploads=list, store=store)
    flight = in_flight(site, made.inventory(), lambda: {("a", layer)}, NOW)  # type: ignore[arg-type]
    assert flight.blobs == [("a", layer)]
