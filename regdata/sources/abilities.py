"""What a registry can do, and we may: found by trying, since its version can't be asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from regdata.errors import RegdataError
from regdata.sources.site import Site

UNTRIED = "not tried: there is no repository to try it on"
LISTED = "not tried: nothing is to be deleted"


class Abilities(NamedTuple):
    """In words: which kind of registry it is, whether it deletes manifests, and tags alone, for us, and lists its
    repositories."""

    kind: str
    deletes: str
    untags: str
    catalog: str


def abilities(site: Site, names: Sequence[str], *, tries: bool) -> Abilities:
    """Of the first of its repositories. ``tries``: by DELETE of a random digest and of a random tag, which nothing can
    have; else what needs that is not tried. Raises RegistryError where it does not answer at all."""
    wanted = site.registry.reach.repositories
    catalog = "yes" if wanted is None else f"of it {', '.join(wanted)} (registry.repositories)"
    if not names:
        return Abilities("kind not known", UNTRIED, UNTRIED, catalog)
    name, registry = names[0], site.registry
    version = site.version(names)
    kind = f"distribution {version}{' as a pull-through cache' if registry.is_cache else ''}, as it answers"
    in_folder = "yes, in its folder" if site.from_store and site.store.writable else ""
    if not tries:
        listing = "yes, as it lists its tags" if version == "3.x" else "no, as it lists its tags"
        return Abilities(kind, LISTED, in_folder or listing, catalog)
    deletes = _tried(lambda: "yes" if registry.check_deletes(name) else "no, but tags")
    untags = in_folder or _tried(lambda: "yes" if registry.untags(name) else "no")
    return Abilities(kind, deletes, untags, catalog)


def _tried(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except RegdataError as error:
        return f"no: {error}"
