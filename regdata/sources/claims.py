"""What a registry says that it has, from its cache of descriptors, and making it forget that.

DELETE of a blob clears the repository's entry in the cache of the process that answers, whether or not the link is
still there (registry/storage/cache/cachedblobdescriptorstore.go): 3.x then answers 500 where it is not.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable

from regdata.errors import AccessError, RegistryError
from regdata.sources.registry import Registry

# Another replica behind the same name has a cache of its own: each request is one on a new connection.
_ALONE = {"Connection": "close"}
_SAMPLES = 3


class Claims:
    """Asks a registry by connections of its own, so that none is left open."""

    def __init__(self, registry: Registry) -> None:
        self.registry = copy.copy(registry)
        self.http = self.registry.http

    def ping(self) -> None:
        """Returns when the registry answers."""
        self.http.send("GET", self.http.root, _ALONE)

    def look_seconds(self, repository: str) -> float:
        """How long a look for a blob takes that is not there, beyond the answer itself: what the registry's storage
        takes. The shortest of some times, since what else the machine does is no matter of the storage."""
        looks = _shortest(lambda: self.has(repository, f"sha256:{secrets.token_hex(32)}"))
        return max(looks - _shortest(self.ping), 0.0)

    def has(self, repository: str, digest: str) -> bool:
        """Whether it says that a repository has a blob."""
        path = self.http.path(repository, "blobs", digest)
        answer = self.http.send("HEAD", path, _ALONE)
        if answer.status not in (200, 307, 404):  # 307: it is kept elsewhere
            raise self.http.refused("HEAD", path, answer)
        return answer.status != 404

    def says(self, repository: str, digest: str) -> bool | None:
        """The same; None where the login must not ask."""
        try:
            return self.has(repository, digest)
        except AccessError:
            return None

    def forget(self, repository: str, digest: str) -> None:
        """Removes a link, and has the cache forget it; whether it did is to be asked."""
        path = self.http.path(repository, "blobs", digest)
        try:
            answer = self.registry.patiently("DELETE", path, _ALONE)
        except RegistryError:
            answer = self.registry.patiently("DELETE", path, _ALONE)  # twice does no harm
        if answer.status not in (202, 404, 500):
            raise self.http.refused("DELETE", path, answer)


def _shortest(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(_SAMPLES):
        begun = time.monotonic()
        ask()
        times.append(time.monotonic() - begun)
    return min(times)
