"""Claims of a registry's cache that no link leads to: somebody removed links, or whole repositories, behind its back.

A claim is a repository's: as long as one has it, a push into that repository skips the blob. Which one it is can't be
asked; but what a repository claims is in a second cache, too, which all repositories share (distribution,
registry/storage/cache): that is asked about by a link in a repository of our own, while the data is not there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os.path import dirname

from regdata.errors import AccessError
from regdata.sources.claims import Claims
from regdata.sources.files import told
from regdata.sources.names import means
from regdata.sources.paths import layer_path
from regdata.sources.storage import Storage
from regdata.sources.threads import each
from regdata.sources.watch import Link

OWN = "regdata-probe-"  # how the names of our own repositories begin
# Requests that a run makes for links that are not there, but may have been: a few seconds.
MOST = 2000
# Of the 255 characters of a name 10 are docker.io/ to the cache (registry/storage/cache/memory in distribution).
_LONGEST = 245


def known(claims: Claims, storage: Storage, digests: Collection[str], probe: str = "") -> set[str]:
    """Which of these blobs, whose data is not in its place, the registry's cache knows, whoever claims them; all, where
    the login must not ask. ``probe``: the name of a repository that nobody has, if one is known; see `nobodys`."""
    if not digests:
        return set()
    probe = probe or nobodys(claims, storage)
    folder = f"{storage.root}/repositories/{probe}"

    def is_known(digest: str) -> bool:
        path = f"{storage.root}/{layer_path(probe, digest)}"
        storage.files.make(dirname(path))
        storage.files.write(path, digest.encode(), lasting=False)  # gone in a moment
        return claims.has(probe, digest)

    with told(folder):
        try:
            with ThreadPoolExecutor(claims.registry.workers) as pool:
                return {one for one, answer in zip(digests, each(pool, is_known, digests), strict=True) if answer}
        except AccessError:
            return set(digests)
        finally:
            storage.files.remove(folder)


def nobodys(claims: Claims, storage: Storage) -> str:
    """The name of a repository that nobody has: below one within reach, where the login may most likely ask, if a name
    can be as long as that."""
    within, own = claims.registry.reach.repositories, f"{OWN}{secrets.token_hex(4)}"
    names = [f"{name}/{own}" for name in storage.repositories() if means(within, name)]
    return min((name for name in names if len(name) <= _LONGEST), key=len, default=own)


def is_own(repository: str) -> bool:
    """Whether a name is one that `nobodys` makes up."""
    return re.fullmatch(f"(.*/)?{OWN}[0-9a-f]{{8}}", repository) is not None


def ghosts(links: Mapping[str, Sequence[Link]], repositories: Iterable[str]) -> dict[str, list[Link]]:
    """Links that may have been beside those that there are, by digest: one in every other of these repositories. None
    at all where that were too many to ask for."""
    names = set(repositories)
    present = {digest: {link.repository for link in found} for digest, found in links.items() if found}
    if sum(len(names) - len(names & holders) for holders in present.values()) > MOST:
        return {}
    return {
        digest: [Link(name, digest, None) for name in sorted(names - holders)] for digest, holders in present.items()
    }
