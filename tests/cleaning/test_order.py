"""The order of deletion: an index before its children, what fits together in one batch."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

import regdata
from regdata.cleaning.order import Batch, Manifest, Tag, batches, levels, levels_of
from tests.support.small import DAY, NOW, Small, digest

IMAGES = st.sampled_from(["a", "a/b", "c"])
MANIFESTS = st.builds(Manifest, IMAGES, st.integers(0, 30).map(lambda number: f"sha256:{number:064x}"))
TAGS = st.builds(Tag, IMAGES, st.integers(0, 9).map(str))
Edge = tuple[Manifest, Manifest]


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Manifest], list[Edge]]:
    """Manifests, and which is deleted before which: they form no ring, and digests have no order in it."""
    manifests = draw(st.lists(MANIFESTS, unique=True, min_size=1, max_size=25))
    pairs = st.tuples(st.sampled_from(manifests), st.sampled_from(manifests))
    edges = [
        (first, second)
        for first, second in draw(st.lists(pairs, max_size=30))
        if first.image == second.image and manifests.index(first) < manifests.index(second)
    ]
    return manifests, edges


def steps(batch: Batch) -> int:
    return len(batch.tags) + sum(map(len, batch.levels))


@given(plans(), st.sets(TAGS), st.integers(1, 40))
def test_batches(plan: tuple[list[Manifest], list[Edge]], tags: set[Tag], size: int) -> None:
    """Each manifest and tag comes once, first things first, so many at a time; what fits is looked at once."""
    manifests, edges = plan
    found = list(batches(levels(manifests, edges), tags, size))
    order = [manifest for batch in found for level in batch.levels for manifest in level]
    assert sorted(order) == sorted(manifests)
    assert sorted(tag for batch in found for tag in batch.tags) == sorted(tags)
    assert all(0 < steps(batch) <= size for batch in found)
    for first, second in edges:
        assert order.index(first) < order.index(second)
    images = [*(manifest.image for manifest in manifests), *(tag.image for tag in tags)]
    for image in set(images):
        own = [batch for batch in found if image in batch.images]
        assert len(own) == 1 or images.count(image) > size


@given(plans())
def test_levels(plan: tuple[list[Manifest], list[Edge]]) -> None:
    """A level holds nothing that has to wait for another of the same level, and none is later than it must be."""
    manifests, edges = plan
    found = levels(manifests, edges)
    assert found.keys() == set(manifests)
    for manifest, level in found.items():
        before = [found[first] for first, second in edges if second == manifest]
        assert level == max(before, default=-1) + 1


def test_a_chain() -> None:
    """Each of a chain has a level of its own, in whatever order its links are named."""
    chain = [Manifest("a", f"sha256:{number}") for number in range(9)]
    links = list(pairwise(chain))
    for edges in (links, links[::-1]):
        assert levels(chain, edges) == {one: level for level, one in enumerate(chain)}


def test_a_chain_in_batches() -> None:
    """What does not fit into one batch keeps its order, whatever the digests are."""
    chain = [Manifest("a", f"sha256:{9 - number}") for number in range(9)]
    found = [
        one for batch in batches(levels(chain, [*pairwise(chain)]), [], 2) for level in batch.levels for one in level
    ]
    assert found == chain


def test_a_ring_ends() -> None:
    """Tag names can form a ring of what is attached to what: each is deleted all the same."""
    one, other = Manifest("a", "sha256:1"), Manifest("a", "sha256:2")
    assert levels([one, other], [(one, other), (other, one)]).keys() == {one, other}


def test_an_index_after_the_rest_of_another_image() -> None:
    """In a batch that begins with what did not fit into the one before, children, an index goes before its own."""
    many = [Manifest("a", f"sha256:{number}") for number in range(4)]
    index, child = Manifest("b", "sha256:9"), Manifest("b", "sha256:1")
    found = list(batches(levels([*many, index, child], [(many[0], many[3]), (index, child)]), [], 3))
    assert [batch.images for batch in found] == [["a"], ["a", "b"]]
    assert found[1].levels == [[index], [many[3], child]]


def test_a_child_that_two_indexes_list() -> None:
    """A child goes after each of the indexes that list it, also after one that another lists, whichever is read
    first."""
    made = Small()
    for image in "ab":
        made.push(image, "child", days=9, base=1)
    listed = {"a1": ["a2", "achild"], "a2": ["achild"], "b1": ["bchild"], "b2": ["b1", "bchild"]}
    for name, children in listed.items():
        made.row("contents", manifest_hash=digest(name), manifest_size=1, kind="index", media_type="m")
        made.row("revisions", image_name=name[0], manifest_hash=digest(name), pushed=NOW - 9 * DAY)
        made.row("tags", image_name=name[0], tag_name=name, tag_hash=digest(name), pushed=NOW - 9 * DAY)
        for child in children:
            named = {"manifest_hash": digest(name), "reference_hash": digest(child)}
            made.row("references", reference_kind="manifest", reference_size=1, **named)
    found = levels_of(regdata.plan(made.inventory(), "1=1"))
    expected = {"a1": 0, "a2": 1, "achild": 2, "b2": 0, "b1": 1, "bchild": 2}
    assert found == {Manifest(name[0], digest(name)): level for name, level in expected.items()}
