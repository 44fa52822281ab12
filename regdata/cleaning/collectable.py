"""Whether the registry's own collector may be run: it takes nothing that is needed, and does not stop on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

import pandas as pd

from regdata.cleaning.order import pairs
from regdata.errors import AccessError, CleanupError, RegistryError
from regdata.inventory.inventory import Inventory
from regdata.planning.collectors import AS_BLOB, BARE, objections, without_blobs
from regdata.planning.plan import Plan
from regdata.show.words import count
from regdata.sources.columns import Columns, merge
from regdata.sources.leads import MAX_DOCUMENT, may_be_manifest
from regdata.sources.names import means
from regdata.sources.site import Site
from regdata.sources.source import Part

_NAMES = ["image_name", "manifest_hash"]


def check_plan_collectable(plan: Plan, site: Site) -> None:
    """Raises CleanupError where it may not be run once what goes by the plan is gone."""
    _check(plan.inventory, plan.manifests[_NAMES], site, undone="deleted")


def uncollectable(fresh: Inventory, was: Inventory, site: Site) -> list[str]:
    """Why it may not be run, by the API: ``fresh`` is the registry after the deletions, ``was`` before them."""
    # Where a layer was named there is a folder for layers.
    folders = {*was.repositories["image_name"]}.difference(without_blobs(was))
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
    version = site.version(list(inventory.repositories["image_name"]))
    try:
        for read, gone in [(inventory, going), *((one, one.manifests[_NAMES].iloc[:0]) for one in _beyond(site))]:
            for told in _objections(read, gone, version, site, undone=undone, folders=folders):
                raise CleanupError(told)
    except RegistryError as error:
        raise CleanupError(
            f"the registry does not answer whether its collection would take what stays, so nothing was {undone}: "
            f"{error}"
        ) from None


def _objections(
    inventory: Inventory, going: pd.DataFrame, version: str, site: Site, *, undone: str, folders: Set[str]
) -> list[str]:
    cured = site.without_layers(inventory.oddities)
    told = objections(inventory, going, version=version, cured=cured, undone=undone)
    staying = inventory.manifests[_NAMES].merge(going, how="left_anti")
    # One of 3.x serves no manifest that is linked as a blob, and its cache takes manifests for blobs.
    blobs = site.linked_as_blobs(staying.itertuples(index=False, name=None)) if version == "2.x" else []
    blobs = sorted({*blobs, *(_disguised(inventory, staying, site) if version == "2.x" else ())})
    bare = _bare(sorted({*without_blobs(inventory)} - folders), version, site) if not site.from_store else []
    if blobs:
        told.append(f"{len(blobs)} manifests may be linked as blobs, such as {blobs[0]}; {AS_BLOB.format(undone)}")
    if bare:
        may_lack = f"{count(len(bare), 'repository')} may have no folder _layers, such as {bare[0]}"
        told.append(f"{may_lack}: {BARE.format(undone)}")
    return told


def _disguised(inventory: Inventory, staying: pd.DataFrame, site: Site) -> Iterator[str]:
    """By the API: what an index that stays lists as something else, and is a manifest by its bytes."""
    indexes = inventory.manifests.loc[inventory.manifests["kind"] == "index", "manifest_hash"]
    listed = inventory.references_of(indexes.drop_duplicates())
    sizes = listed["reference_size"].fillna(0)
    small = listed[(listed["reference_kind"] == "layer") & (sizes <= MAX_DOCUMENT)].merge(staying, on="manifest_hash")
    for image, digest in dict.fromkeys(pairs(small, "reference_hash")) if not site.from_store else ():
        answer = site.registry.attempt(site.registry.http.path(image, "blobs", digest), {}, most=MAX_DOCUMENT)
        if answer.status == 200 and may_be_manifest(answer.data):
            yield f"{image}@{digest}"


def _bare(repositories: list[str], version: str, site: Site) -> list[str]:
    """Those that have no folder ``_layers``, as far as the API tells: 2.x leaves them out of its catalog."""
    return sorted({*repositories} - {*site.registry.catalog()}) if repositories and version == "2.x" else repositories


def _beyond(site: Site) -> list[Inventory]:
    """By the API, what registry.repositories leaves out, which is collected as well: as far as the catalog tells of it,
    and the login may look at it. A folder is read as a whole."""
    within = site.registry.reach.repositories
    if site.from_store or within is None:
        return []
    try:
        names = tuple(name for name in site.registry.catalog() if not means(within, name))
    except RegistryError:  # it lists nothing, or not to us
        return []
    return [Inventory.from_columns(read, scanned_at=site.now, from_store=False) for read in _readable(site, names)]


def _readable(site: Site, names: tuple[str, ...]) -> list[Columns]:
    try:
        return [site.source.read(Part(names))] if names else []
    except AccessError:
        if len(names) == 1:
            return []
    half = len(names) // 2
    read = [*_readable(site, names[:half]), *_readable(site, names[half:])]
    return [merge(read)] if read else []
