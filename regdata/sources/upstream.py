"""Whether a registry is a pull-through cache, found out by reading alone, and said before it is listed."""

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress

from regdata.errors import RegistryError
from regdata.sources import progress
from regdata.sources.registry import ACCEPT, Registry


def say_if_cache(registry: Registry, repositories: Iterable[str], say: Callable[[str], object]) -> None:
    """Says what reading one of these repositories does, where it is in a pull-through cache."""
    progress.now.how = ""
    registry.is_cache = any(_is_cached(registry, repository) for repository in repositories)
    if registry.is_cache:
        progress.now.how = " through a pull-through cache"
        say(
            f"{registry.display} answers as a pull-through cache does: its lists are those of the registry behind it, "
            "and reading them brings every manifest into the cache and counts against that registry's limits. A cache "
            "deletes nothing on request: give the registry behind it as registry.url"
        )


def _is_cached(registry: Registry, repository: str) -> bool:
    """Asks for a digest that nothing can have. To that distribution's cache answers 500, since it passes on what the
    registry behind it says (registry/proxy/proxymanifeststore.go, handlers/manifests.go), any other registry 404."""
    path = registry.http.path(repository, "manifests", f"sha256:{secrets.token_hex(32)}")
    with suppress(RegistryError):  # for the scan to tell
        # Once may be chance.
        return all(registry.http.send("GET", path, ACCEPT, retry=False).status == 500 for _ in range(2))
    return False
