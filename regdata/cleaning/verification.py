"""After a clean-up: what should have survived is there, and what was freed is what was predicted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

import pandas as pd

from regdata.cleaning.order import pairs
from regdata.cleaning.outcome import Members, Outcome
from regdata.cleaning.review import pushed_again
from regdata.collecting import commands
from regdata.collecting.own import stops
from regdata.config import Config
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import read_site
from regdata.planning.plan import Plan
from regdata.planning.rules import freed, parts, survivors
from regdata.show.words import count
from regdata.sources.site import Site
from regdata.sources.source import Part, Store


@dataclass(frozen=True)
class Verdict:
    """What the verification found: errors, and notes on differences that are explained.

    ``looked_at``: how many of each kind were asked for: there (tags, manifests, blobs) or gone. ``stored``: the bytes
    that were stored by then, None where that was not looked at.
    """

    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    stored: int | None = None


def verify(
    plan: Plan,
    gone: Members,
    expected: pd.DataFrame,
    collected: commands.Collection,
    site: Site,
) -> Verdict:
    """That every surviving tag, manifest, config and layer is there, and that the freed bytes are the predicted ones.

    ``gone``: what this run or others have deleted; ``expected``: the blobs that nobody needs any more.
    """
    tags, manifests = _survivors(plan, gone)
    staying = list(pairs(tags, "tag_name")), list(pairs(manifests, "manifest_hash"))
    blobs = list(pairs(parts(plan.inventory, manifests), "blob_hash")) if collected.ran else []
    looked_at = {"tags": len(staying[0]), "manifests": len(staying[1]), "blobs": len(blobs)}
    lost = site.lost(*staying, blobs)
    errors = []
    if lost:
        errors.append(
            f"{len(lost)} things that should have survived are gone, such as {lost[0]}: unless others have deleted "
            "them meanwhile, push them again"
        )
    if not collected.ran or collected.freed is None:
        return Verdict(errors=errors, looked_at=looked_at)
    predicted = dict(zip(expected["blob_hash"], expected["blob_size"], strict=True))
    notes: list[str] = []
    stored = site.store.blob_sizes()
    measured = Verdict(notes, errors, looked_at, sum(stored.values()))
    lacks = set(plan.inventory.blobs.query("stored")["blob_hash"]) - stored.keys() - predicted.keys()
    # Another run may have collected what it deleted since the scan.
    missing = sorted(lacks - set(freed(plan.inventory, gone.manifest_rows)["blob_hash"])) if lacks else []
    if missing:
        errors.append(
            f"{len(missing)} blobs that survivors need are gone from the store, such as "
            f"{missing[0]}{_user(plan, missing[0])}: push the images that use them again"
        )
    if collected.exit_code:
        return measured
    known = predicted.keys() | collected.from_trash.keys()
    extra = {digest: size for digest, size in collected.freed.items() if digest not in known}
    told = collected.spared | collected.freed.keys() | collected.set_aside.keys()  # be it pushed again after that
    left = {digest: size for digest, size in predicted.items() if digest in stored and digest not in told}
    if extra:
        notes.append(
            f"{sum(extra.values())} bytes more than predicted were freed: {len(extra)} blobs came after the scan and "
            f"no manifest refers to them"
        )
    if left:
        explained = _not_freed(left)
        if _needed_now(site.store, left, plan.inventory.scanned_at):
            notes.append(f"{explained}{_NEEDED}")
        else:
            errors.append(
                f"{explained}, though nothing refers to them: "
                + (
                    "is gc-command's configuration that of this registry?"
                    if collected.by == commands.COMMAND
                    else "run again"
                )
            )
    return measured


_NAMES = ["image_name", "manifest_hash"]
_NEEDED = ": what was pushed, or put back, since the scan needs them"


def _not_freed(left: Mapping[str, int]) -> str:
    return f"{sum(left.values())} bytes that were predicted were not freed ({len(left)} blobs)"


def needed_again(was: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    """A note on blobs that were expected to be freed, and are no more."""
    left = was[~was["blob_hash"].isin(now["blob_hash"])]
    return [_not_freed(dict(zip(left["blob_hash"], left["blob_size"], strict=True))) + _NEEDED] if len(left) else []


def verify_pushed(
    config: Config, site: Site, fresh: Inventory, was: Inventory, gone: pd.DataFrame, freed: Collection[str] | None
) -> Verdict:
    """That nothing which was pushed while gc-command ran needs what it took. ``fresh`` was read before it; by the API
    it lacks what has no tag, so that it counts with what ``was`` at the scan and is not ``gone`` by this run; nor is it
    known what was ``freed`` (None)."""
    if not freed and stops(config):
        return Verdict()
    now = read_site(site, config, since=fresh)
    if freed is None:
        known = pd.concat([was.manifests[_NAMES].merge(gone, how="left_anti"), fresh.manifests[_NAMES]])
        came = now.manifests[_NAMES].merge(known, how="left_anti")
        bare = _unserved(now) - _unserved(was) - _unserved(fresh)
        # Its owner may have deleted a tag meanwhile.
        listed = {image: set(site.registry.tags(image)) for image in {image for image, _ in bare}}
        broken = _in_want(now, came, site) | {f"{image}:{tag}" for image, tag in bare if tag in listed[image]}
    else:
        broken = _in_need(now, fresh, freed)
    if not broken:
        return Verdict()
    return Verdict(
        errors=[
            f"{count(len(broken), 'manifest')}, such as {min(broken)}, came while gc-command ran and lack "
            "what it took: push them again, and stop the registry by gc-before and start it by gc-after, or leave "
            "gc-command out (regdata itself collects beside pushes)"
        ]
    )


def _in_need(now: Inventory, fresh: Inventory, freed: Collection[str]) -> set[str]:
    """The names of manifests that refer to what was freed, by whatever digest, and is not there again; and of those
    that came since ``fresh`` and are not there themselves."""
    stored = now.blobs["blob_hash"][now.stored]
    lost = set(freed) - set(stored)
    # A child that is linked as a blob alone is nobody's once its index went.
    alive = survivors(now, now.manifests[_NAMES].iloc[:0])
    came = alive.merge(fresh.manifests[_NAMES], how="left_anti")
    aliases = now.oddities[now.oddities["what"] == "alias"]
    bare = came[~came["manifest_hash"].isin(stored) & ~came["manifest_hash"].isin(aliases["hash"])]
    brought = _parts_of(now.references_of(came["manifest_hash"]), came)
    there = {*stored, *aliases["hash"][aliases["target"].isin(stored)]}
    lacking = brought[~brought["reference_hash"].isin(there)]
    named = now.references_to(lost | {*aliases["hash"][aliases["target"].isin(lost)]})
    needed = alive.merge(named[named["reference_kind"] != "mention"], on="manifest_hash")
    return {"@".join(pair) for rows in (bare, lacking, needed) for pair in pairs(rows, "manifest_hash")}


def _unserved(inventory: Inventory) -> set[tuple[str, str]]:
    """The tags that are listed and lead to nothing."""
    return set(pairs(inventory.images[inventory.images["tag_hash"].isna()], "tag_name"))


def _in_want(now: Inventory, came: pd.DataFrame, site: Site) -> set[str]:
    """The names of those manifests of which a config or layer can't be read."""
    held = _parts_of(now.references_of(came["manifest_hash"]), came)
    lost = site.lost([], [], pairs(held.drop_duplicates(["image_name", "reference_hash"]), "reference_hash"))
    missing = {(image, digest) for image, _, digest in (name.partition("@") for name in lost)}
    return {"@".join(pair) for pair in pairs(held[_among(held, "reference_hash", missing)], "manifest_hash")}


def verify_gone(outcome: Outcome, site: Site) -> Verdict:
    """That what the registry said it deleted is gone: some answer 202 and do nothing, with tags or with all.

    Where only a part of it is there, or it was seen to be gone, it has been pushed again. What was never gone does not
    count as deleted.
    """
    tags, manifests = outcome.gone
    there = site.remaining(tags, manifests)
    notes, errors = _there_again(outcome, site)
    alone: set[tuple[str, str]] = set(outcome.untagged)
    for group in (alone, set(manifests), {*tags} - alone):
        left = [pair for pair in there if pair in group]
        if not left:
            continue
        told = (
            f"{len(left)} of {len(group)} tags and manifests that were deleted are there, such as {' '.join(left[0])}"
        )
        read = site.source.read(Part(tuple({image for image, _ in left})))
        again = pushed_again(outcome, read) | outcome.seen_gone
        if len(left) < len(group) or again.issuperset(left):
            notes.append(f"{told}: they have been pushed again")
            continue
        outcome.fail({*left})
        errors.append(_does_not_delete(told, site))
    return Verdict(notes, errors, {"gone": len(tags) + len(manifests)})


def _there_again(outcome: Outcome, site: Site) -> tuple[list[str], list[str]]:
    """Notes and errors on tags that were there after they had gone; a file that was moved away can't come by itself."""
    again = outcome.again
    if not again:
        return [], []
    went = len({*outcome.gone[0]} | again | outcome.taken)
    told = f"of {count(went, 'tag')} that had gone {len(again)} came again, such as {' '.join(min(again))}"
    as_it_was = [] if site.from_store else site.remaining({tag: outcome.tags[tag][0] for tag in again}, set())
    if len(as_it_was) < went:
        return [f"{told}: pushed again, so kept"], []
    return [], [_does_not_delete(told, site)]


def _does_not_delete(told: str, site: Site) -> str:
    return (
        f"{told}, though {site.registry.display} answered that it deleted them: it does not delete, or all of them "
        "have been pushed again; nothing was collected"
    )


def _user(plan: Plan, blob: str) -> str:
    """One of the tags that need a blob, in brackets; empty where no tag does."""
    going = plan.tags.query("action != 'keep'")[["image_name", "tag_name"]]
    users = plan.inventory.relations.query("blob_hash == @blob").merge(going, how="left_anti")
    return f" ({users['image_name'].iloc[0]}:{users['tag_name'].iloc[0]})" if len(users) else ""


def _parts_of(references: pd.DataFrame, manifests: pd.DataFrame) -> pd.DataFrame:
    """References to configs and layers, but for layers that are fetched from elsewhere and usually not pushed."""
    foreign = references["media_type"].str.contains("foreign|nondistributable", na=False)
    stored = references[references["reference_kind"].isin(["config", "layer"]) & ~foreign]
    return stored.merge(manifests[_NAMES], on="manifest_hash")


def _survivors(plan: Plan, gone: Members) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tags and manifests that could be read at the scan and that were not deleted."""
    inventory = plan.inventory
    images, manifests, oddities = inventory.images, inventory.manifests, inventory.oddities
    staying = manifests[~_among(manifests, "manifest_hash", gone.manifests) & manifests["error"].isna()]
    if (oddities["what"] == "blob").any():  # these go with the last one that lists them
        alive = set(pairs(survivors(inventory, gone.manifest_rows), "manifest_hash"))
        staying = staying[_among(staying, "manifest_hash", alive)]
    return (
        images[
            ~_among(images, "tag_hash", gone.manifests)
            & ~_among(images, "tag_name", gone.tags)
            & images["error"].isna()
        ],
        staying,
    )


def _among(frame: pd.DataFrame, column: str, those: Set[tuple[str, str]]) -> pd.Series:
    """Whether image and another column of each row are among those."""
    return pd.Series([pair in those for pair in pairs(frame, column)], index=frame.index, dtype=bool)


def _needed_now(store: Store, blobs: dict[str, int], since: int) -> bool:
    """Whether each is referred to, or was linked again after that time: a push may be on its way."""
    needed: set[str] = set()
    for part in store.split(1):
        columns = store.read(part)
        needed.update(columns["descriptors"]["reference_hash"], columns["revisions"]["manifest_hash"])
        needed.update(columns["oddities"]["target"])  # by another algorithm's digest
        for repository in part.repositories:
            needed.update(blob for blob, date in store.links(repository).items() if date >= since)
    return blobs.keys() <= needed
