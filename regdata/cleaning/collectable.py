"""Whether the registry's own collector may be run: it takes nothing that is needed, and does not stop on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import chain

import pandas as pd

from regdata.cleaning.order import pairs
from regdata.errors import CleanupError, RegistryError
from regdata.inventory.inventory import Inventory
from regdata.planning.collectors import AS_BLOB, BARE, objections, without_blobs
from regdata.planning.plan import Plan
from regdata.show.words import count
from regdata.sources.leads import MAX_DOCUMENT
from regdata.sources.site import Site

_NAMES = ["image_name", "manifest_hash"]


def check_plan_collectable(plan: Plan, site: Site) -> None:
    """Raises CleanupError where it may not be run once what goes by the plan is gone."""
    _check(plan.inventory, plan.manifests[_NAMES], site, undone="deleted")


def uncollectable(fresh: Inventory, was: Inventory, site: Site) -> list[str]:
    """Why it may not be run, by the API: ``fresh`` is the registry after the deletions, ``was`` before them."""
    # Where a layer was named there is a folder for layers.
    folders = {*was.manifests["image_name"]}.difference(without_blobs(was))
    try:
        _check(fresh, fresh.manifests[_NAMES].iloc[:0], site, undone="collected", folders=folders)
    except CleanupError as error:
        return [str(error)]
    return []


def check_collectable(fresh: Inventory, version: str, cured: Iterable[str]) -> None:
    """The same by the folder; nothing is asked of the registry, which may be stopped."""
    nothing = fresh.manifests[_NAMES].iloc[:0]
    for told in objections(fresh, nothing, version=version, cured=cured, undone="collected"):
        raise CleanupError(told)


def _check(
    inventory: Inventory, going: pd.DataFrame, site: Site, *, undone: str, folders: Set[str] = frozenset()
) -> None:
    try:
        version = site.version(list(inventory.repositories["image_name"]))
        for told in chain(
            _objections(inventory, going, version, site, undone=undone, folders=folders),
            _objections_outside(version, site, undone=undone, folders=folders),
        ):
            raise CleanupError(told)
    except RegistryError as error:
        raise CleanupError(
            f"the registry does not answer whether its collection would take what stays, so nothing was {undone}: "
            f"{error}"
        ) from None


def _objections_outside(version: str, site: Site, *, undone: str, folders: Set[str]) -> Iterator[str]:
    """What is outside of registry.repositories is collected as well."""
    beyond = site.beyond()
    if beyond and beyond["repositories"]["image_name"]:
        outside = Inventory.from_columns(beyond, scanned_at=site.now, from_store=False)
        nothing = outside.manifests[_NAMES].iloc[:0]
        yield from _objections(outside, nothing, version, site, undone=undone, folders=folders)


def _objections(
    inventory: Inventory, going: pd.DataFrame, version: str, site: Site, *, undone: str, folders: Set[str]
) -> list[str]:
    cured = site.without_layers(inventory.oddities)
    told = objections(inventory, going, version=version, cured=cured, undone=undone)
    staying = inventory.manifests[_NAMES].merge(going, how="left_anti")
    # One of 3.x serves no manifest that is linked as a blob, and its cache takes manifests for blobs.
    blobs: list[str] = []
    if version == "2.x":
        linked = site.linked_as_blobs(staying.itertuples(index=False, name=None))
        blobs = sorted({*linked, *site.disguised(_parts_of_indexes(inventory, staying))})
    bare = _bare(sorted({*without_blobs(inventory)} - folders), version, site) if not site.from_store else []
    if blobs:
        told.append(f"{len(blobs)} manifests may be linked as blobs, such as {blobs[0]}; {AS_BLOB.format(undone)}")
    if bare:
        may_lack = f"{count(len(bare), 'repository')} may have no folder _layers, such as {bare[0]}"
        told.append(f"{may_lack}: {BARE.format(undone)}")
    return told


def _parts_of_indexes(inventory: Inventory, staying: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Image and digest of what an index that stays lists as no manifest, and is small enough to be one."""
    indexes = inventory.manifests.loc[inventory.manifests["kind"] == "index", "manifest_hash"]
    listed = inventory.references_of(indexes.drop_duplicates())
    small = (listed["reference_kind"] == "layer") & (listed["reference_size"].fillna(0) <= MAX_DOCUMENT)
    yield from dict.fromkeys(pairs(listed[small].merge(staying, on="manifest_hash"), "reference_hash"))


def _bare(repositories: list[str], version: str, site: Site) -> list[str]:
    """Those that have no folder ``_layers``, as far as the API tells: 2.x leaves them out of its catalog."""
    return sorted({*repositories} - {*site.registry.catalog()}) if repositories and version == "2.x" else repositories
