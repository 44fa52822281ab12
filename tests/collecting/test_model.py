"""The collector's steps among those of pushers and the registry's cache, in every order that there is.

What these searches assume is that a request that is inside the registry when a wait begins is through when it ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.world import Collector, Pusher, World, search

A, B = frozenset("a"), frozenset("ab")
WORLDS = {
    "linked once": World(),
    "linked twice": World(links=B),
    "linked once, claimed": World(claims=A, known=True),
    "linked twice, claimed": World(links=B, claims=B, known=True),
    "known, not claimed": World(known=True),
    "not linked": World(links=frozenset()),
    "a manifest that was never there": World(bytes=False, told=False),
}
PUSHERS = {
    "one": [Pusher("a")],
    "one who mounts": [Pusher("b", mounts_from="a")],
    "one who tries again": [Pusher("a", tries=2)],
    "one who mounts, one who asks": [Pusher("b", mounts_from="a"), Pusher("a", only_asks=True)],
    "one, and one who is late": [Pusher("a"), Pusher("a", late=True)],
    "two": [Pusher("a"), Pusher("b", mounts_from="a")],
}
# Killed at any moment or not, with uploads that are slower than any wait or not: all of it is searched.
ANY = Collector(killed=True, slow_uploads=True)
VARIANTS = {"ours": ANY, "without the first look": replace(ANY, looks=(False, True))}
MUTANTS: dict[str, dict[str, Any]] = {
    "no link is taken": {"unlinks": False},
    "the cache is not asked": {"asks": False},
    "the cache is not cleared": {"clears": False, "confirms": False},
    "what was cleared is not asked again": {"confirms": False},
    "no second look": {"looks": (True, False)},
    "no wait before the cache is asked": {"waits": (False, True, True)},
    "no wait before what was cleared is asked again": {"waits": (True, False, True)},
    "no wait for uploads and mounts": {"waits": (True, True, False)},
    "slow uploads are not seen": {"slow_uploads": True, "sees_uploads": False},
    "manifests' bytes go": {"keeps_bytes": False},
    "links are not put back": {"puts_links_back": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pushers", PUSHERS)
@pytest.mark.parametrize("world", WORLDS)
def test_what_was_accepted_is_whole(world: str, pushers: str, variant: str) -> None:
    """In no order of steps is an image broken that was accepted, or does the cache claim what is gone."""
    assert search(WORLDS[world], *PUSHERS[pushers], VARIANTS[variant]) == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_safeguard_is_needed(mutant: str) -> None:
    """Without any one of the safeguards some order of steps breaks an image."""
    collector = Collector(**MUTANTS[mutant])
    found = [search(world, pusher, collector) for world in WORLDS.values() for pusher in PUSHERS["two"]]
    assert any("broken" in problem or "gone" in problem for problems in found for problem in problems)


@pytest.mark.parametrize("pusher", [Pusher("a", late=True), Pusher("b", mounts_from="a", late=True)])
@pytest.mark.parametrize("claims", [frozenset(), A, B])
def test_what_a_naive_collection_left_is_healed(claims: frozenset[str], pusher: Pusher) -> None:
    """Where data went behind the registry's back, the same steps leave a registry that takes it anew."""
    poisoned = World(stored=False, links=B, claims=claims, known=True)
    asking = Pusher("a", only_asks=True)
    assert search(poisoned, asking, pusher, Collector()) == []
    assert search(replace(poisoned, swept=True), pusher) != []
