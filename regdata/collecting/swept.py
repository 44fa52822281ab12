"""What is to be swept, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from regdata.sources.watch import Link

SPARED = {
    "pushed": "pushed again meanwhile",
    "young": "linked less than 2 hours ago, or nobody knows when, and no manifest uses it: a push may be in flight",
    "mentioned": "needed by a manifest that came meanwhile",
    "uploading": "an upload that does not end may be the same",
    "unlinked": "known to the registry's cache, or the login may not ask, and no repository links them: a folder of "
    "one may have been removed by hand, and a push into it would be broken; restart the registry, and run again",
    "closed": "the login may not ask in a repository that has, or had, a link to them whether the registry's cache "
    "claims them: give it the right to pull there, or name in registry.repositories what it may ask",
    "lasting": "manifests' bytes: gc-after did not restart the registry, whose cache knows them; have it do so",
    "claimed": "claimed by the registry, whatever it is told (has it several replicas, or a proxy that keeps answers?)",
}


class Item(NamedTuple):
    """A blob with its bytes, and the links that there are or were. ``frees``: its data is to go, not these alone;
    ``needed``: those of which the data is gone and may come, since a manifest names it: they go back if no cache claims
    them then."""

    digest: str
    size: int
    links: tuple[Link, ...]
    frees: bool = True
    needed: tuple[Link, ...] = ()

    @property
    def names(self) -> set[str]:
        """The digests that it goes by."""
        return {self.digest, *(link.name for link in self.links)}


@dataclass
class Swept:
    """What came of it. freed: blobs' bytes by digest. spared: why others stay (a key of `SPARED`). unlinked: how many
    links went; cleared: how many claims of a cache."""

    freed: dict[str, int] = field(default_factory=dict)
    spared: dict[str, str] = field(default_factory=dict)
    unlinked: int = 0
    cleared: int = 0
