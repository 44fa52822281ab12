"""What a registry says that it has, from its cache of descriptors, and making it forget that.

DELETE of a blob clears the repository's entry in the cache of the process that answers, whether or not the link is
still there (registry/storage/cache/cachedblobdescriptorstore.go): 3.x then answers 500 where it is not.
"""

from __future__ import annotations

import copy

from regdata.errors import RegistryError
from regdata.sources.registry import Registry

# Another replica behind the same name has a cache of its own: each request is one on a new connection.
_ALONE = {"Connection": "close"}


class Claims:
    """Asks a registry by connections of its own, so that none is left open."""

    def __init__(self, registry: Registry) -> None:
        self.registry = copy.copy(registry)
        self.http = self.registry.http

    def ping(self) -> None:
        """Returns when the registry answers."""
        self.http.send("GET", self.http.root, _ALONE)

    def has(self, repository: str, digest: str) -> bool:
        """Whether it says that a repository has a blob."""
        path = self.http.path(repository, "blobs", digest)
        answer = self.http.send("HEAD", path, _ALONE)
        if answer.status not in (200, 307, 404):  # 307: it is kept elsewhere
            raise self.http.refused("HEAD", path, answer)
        return answer.status != 404

    def forget(self, repository: str, digest: str) -> None:
        """Removes a link, and has the cache forget it; whether it did is to be asked."""
        path = self.http.path(repository, "blobs", digest)
        try:
            answer = self.http.send("DELETE", path, _ALONE)
        except RegistryError:
            answer = self.http.send("DELETE", path, _ALONE)  # twice does no harm
        if answer.status not in (202, 404, 500):
            raise self.http.refused("DELETE", path, answer)
