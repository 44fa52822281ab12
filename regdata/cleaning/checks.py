"""Everything that can be known before the first deletion: what is against a plan is one error, nothing is changed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from regdata.cleaning.collectable import check_plan_collectable
from regdata.cleaning.order import pairs
from regdata.cleaning.review import check_uses
from regdata.collecting.changeable import check_blobs, check_tags
from regdata.collecting.commands import check_commands
from regdata.collecting.othernames import check_names
from regdata.collecting.own import (
    changeable_folder,
    check_collector,
    check_somebody_collects,
    collects_itself,
    losing_links,
    stops,
)
from regdata.collecting.probes import Say
from regdata.config import Config
from regdata.errors import AccessError, CleanupError, RegdataError, RegistryError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import collector_of
from regdata.planning.early import check_conditions
from regdata.planning.plan import Plan
from regdata.records.reading import deletes
from regdata.sources.names import means
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from regdata.sources.threads import each
from regdata.values import check_flags, check_whole, identity

# By how many seconds a store's clock may be behind what a plan took for its time.
BEHIND = 300


def check_early(config: Config, sql_id: str, action: str, *, gc: bool) -> None:
    """What is wrong with a run whatever the registry holds: how it is to be reached, the conditions and, if it
    collects, its commands. Raises RegdataError; nothing is asked of the registry."""
    Site.open(config)
    check_conditions(config, sql_id)
    if gc and deletes({"sql_id": sql_id, "action": action}):
        check_commands(config)


def check_how(*, batch: int | None, **flags: bool) -> dict[str, Any]:
    """How a plan is to be carried out, if it can be; ConfigError for what is no such thing."""
    check_flags(**flags)
    if batch is not None:
        check_whole(batch=batch)
    return {"batch": batch, **flags}


def check_plan(plan: Plan, config: Config, site: Site, *, gc: bool, force: bool, say: Say = lambda _: None) -> set[str]:
    """Everything that can be known before the first deletion; the images whose tags alone can be deleted, no manifest.
    ``say``: see `check_online`. Raises RegdataError; changes nothing."""
    if not force:
        _check_limits(plan, config)
    _check_within(plan, config)
    _check_made_for(plan, config, site, gc=gc)
    if gc and config.gc_command:
        check_commands(config)
    site.registry.check()
    going, heals = {*plan.blobs["blob_hash"]}, not config.gc_command
    linked = losing_links(plan.inventory, site, going, heals=heals) if gc else set()
    _check_names(plan, site, linked, gc=gc)
    if gc and config.gc_command:
        check_plan_collectable(plan, site)
    images = sorted({*plan.manifests["image_name"], *plan.tags.query("action == 'untag'")["image_name"]})
    _check_links(plan, site, collects=bool(gc and config.gc_command))
    by_tag: set[str] = set()
    _check_changeable(plan, config, site, linked, gc=gc)
    if images:
        by_tag = _check_deletes(site, sorted({*images, *(() if stops(config) else linked)}))
        site.check_written(images[0])
    elif gc and config.gc_command and plan.reclaimable:
        for name in site.within(plan.inventory.repositories["image_name"])[:1]:
            _check_written(site, name)
    _check_clock(plan.inventory, site)
    # Where gc-command takes nothing there is nothing to forget; regdata itself heals first, whatever goes.
    if gc and (images or plan.reclaimable or not config.gc_command):
        check_collector(config, site, images, say, frees=not plan.blobs.empty)
    check_uses(plan, config)
    return by_tag


def refusals(plan: Plan, config: Config, site: Site, *, gc: bool, force: bool, deletes: str) -> list[str]:
    """Why `check_plan` would refuse the plan, as far as that is known without asking anything: a sentence each.

    ``deletes``: whether manifests may be deleted, in the words of `regdata.sources.abilities`.
    """
    if plan.manifests.empty and plan.tags.query("action != 'keep'").empty:
        return []
    told = [deletes.removeprefix("no: ")] if deletes.startswith("no: ") else []
    checks = [] if force else [partial(_check_limits, plan, config)]
    for check in [*checks, *([partial(check_somebody_collects, config, site)] if gc else [])]:
        try:
            check()
        except RegdataError as error:
            told.append(re.sub(r"[,;] (so )?nothing was deleted", "", str(error)))
    return [f"del would be refused: {one}" for one in told]


def _check_changeable(plan: Plan, config: Config, site: Site, linked: set[str], *, gc: bool) -> None:
    """What regdata itself changes in the folder can be changed."""
    storage = changeable_folder(config, site)
    if storage is None:
        return
    going = plan.tags[plan.tags["action"] != "keep"]
    check_tags(storage, pairs(going, "tag_name"))
    if gc and collects_itself(config, site):
        check_blobs(storage, {*plan.blobs["blob_hash"]}, linked)


def _check_names(plan: Plan, site: Site, linked: set[str], *, gc: bool) -> None:
    """Nothing goes that is served by another name, too; a collection removes empty repositories, and takes links away
    in those that are ``linked``."""
    if not site.from_store:
        return
    inventory = plan.inventory
    going = {*plan.manifests["image_name"], *plan.tags.query("action != 'keep'")["image_name"]}
    if gc:
        empty = {*inventory.repositories["image_name"]} - {*inventory.images["image_name"]}
        empty -= {*inventory.manifests["image_name"]}
        going |= {image for image in empty if means(site.registry.reach.repositories, image)}
    blobs = {*plan.blobs["blob_hash"]} if gc else ()
    check_names(Storage(site.store.base), going, blobs, linked, collects=gc)


def _check_links(plan: Plan, site: Site, *, collects: bool) -> None:
    """No link to a manifest is one at which the registry would fail half-way: what goes, what its collector reads."""
    going = set(pairs(plan.manifests, "manifest_hash"))
    read = {*plan.inventory.repositories["image_name"]} if collects else {image for image, _ in going}
    for image in sorted(read) if site.from_store else ():
        for digest, path in site.store.broken_links(image).items():
            if collects or (image, digest) in going:
                raise CleanupError(
                    f"nothing was deleted: {path} holds no digest, at which the registry fails. Push again what it is "
                    "a link to, or remove the folder that it is in"
                )


def _check_written(site: Site, image: str) -> None:
    """As far as the registry takes anything: it may be read-only, or its disk full."""
    try:
        site.check_written(image)
    except AccessError:
        raise
    except RegdataError:
        if site.registry.takes_pushes(image):
            raise


def _check_clock(inventory: Inventory, site: Site) -> None:
    """What is dated by a clock that is behind looks older than it is: a push that is in flight looks abandoned."""
    behind = inventory.ahead - site.ahead
    if behind > BEHIND:
        raise CleanupError(
            f"the clock that dates the files of {site.store.base} is {behind} seconds behind this machine's, and the "
            "plan was made without knowing it, so nothing was deleted: set the clocks right, or have regdata run as a "
            "user who may write into base_path (delete.ipynb then sees the clock before it scans)"
        )


def _check_within(plan: Plan, config: Config) -> None:
    """A plan may be older than conf.json, or made by hand."""
    going = {*plan.manifests["image_name"], *plan.tags.query("action != 'keep'")["image_name"]}
    if outside := sorted(image for image in going if not means(config.registry.repositories, image)):
        raise CleanupError(
            f"{outside[0]} is outside registry.repositories of {config.path}, so nothing was deleted: plan anew"
        )


def _check_made_for(plan: Plan, config: Config, site: Site, *, gc: bool) -> None:
    """It may be another registry's, too, or know less of what is protected, or predict what another collection frees.
    A caller who gave `plan` no protection at all wants it so."""
    inventory, here = plan.inventory, site.registry.display
    of, named = (inventory.registry_id, config.registry_id) if inventory.registry_id else (inventory.registry, here)
    if of not in ("", named) or inventory.address not in ("", identity(config.registry.url)):
        other = here if here != inventory.registry else "another registry by it: its variables have other values"
        raise CleanupError(
            f"the plan is of {inventory.registry}, and {config.path} names {other}, so nothing was deleted: scan and "
            "plan again with this conf.json"
        )
    changed = ["protect"] if config.protect and inventory.protect not in ("", config.protect) else []
    # Whether all was seen is known after a scan alone.
    if gc and inventory.collector._replace(sees_all=True) != collector_of(config, site)._replace(sees_all=True):
        changed.append("who collects (gc-before, gc-command, gc-after, trash_days, registry.base_path)")
    if changed:
        raise CleanupError(
            f"{' and '.join(changed)} of {config.path} differs from what this plan was made with, so nothing was "
            "deleted: scan and plan again"
        )


def _check_deletes(site: Site, images: list[str]) -> set[str]:
    """That each image's manifests may be deleted, and that we have the right to; those of which tags alone may."""
    try:
        with ThreadPoolExecutor(site.registry.workers) as pool:
            whole = zip(images, each(pool, site.registry.check_deletes, images), strict=True)
            return {image for image, manifests in whole if not manifests}
    except RegistryError as error:
        raise CleanupError(f"nothing was deleted: {error}") from None


def _check_limits(plan: Plan, config: Config) -> None:
    tags = int(plan.tags["action"].isin(["delete", "untag"]).sum())
    percent = 100 * tags / max(len(plan.inventory.images), 1)
    for name, limit, value, said in (
        ("max_tags", config.limits.max_tags, tags, f"{tags} tags"),
        (
            "max_percent",
            config.limits.max_percent,
            percent,
            f"{percent:.1f} % of all tags ({tags} of {len(plan.inventory.images)})",
        ),
        ("max_bytes", config.limits.max_bytes, plan.reclaimable, f"{plan.reclaimable} bytes"),
    ):
        if limit is not None and value > limit:
            raise CleanupError(
                f"the plan would delete {said}, which passes limits.{name} = {limit:g} of {config.path} by "
                f"{value - limit:g}; nothing was deleted. Look at the plan with action none; then narrow the "
                "condition, raise the limit, or give force"
            )
