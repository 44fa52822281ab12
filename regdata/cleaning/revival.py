"""Between the deletions and the collection: what is alive and misses something that this run deleted gets it back."""

from __future__ import annotations

from regdata.cleaning.order import Manifest, levels_of, pairs
from regdata.cleaning.outcome import Outcome
from regdata.errors import StorageError
from regdata.inventory.inventory import Inventory
from regdata.records.record import Record
from regdata.sources.site import Site


def revive(outcome: Outcome, fresh: Inventory, site: Site, record: Record) -> list[Manifest]:
    """Puts back what tags, indexes and referrers of ``fresh`` need of the deleted: a push was faster than our look.

    Returns it; by ``outcome`` it is moved. Raises RegistryError or StorageError.
    """
    found = _missed(fresh) & outcome.deleted
    below = {Manifest(*pair) for pair in _listed(outcome.plan.inventory, found)} & outcome.deleted
    while not below <= found:
        found |= below
        below = {Manifest(*pair) for pair in _listed(outcome.plan.inventory, found)} & outcome.deleted
    levels, known = levels_of(outcome.plan), outcome.plan.inventory.manifests
    types = dict(zip(known["manifest_hash"], known["media_type"], strict=True))
    back = sorted(found, key=lambda manifest: (-levels[manifest], manifest))
    for manifest in back:
        path = record.folder / "manifests" / manifest.digest.replace(":", "-")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}; push {'@'.join(manifest)} again") from None
        site.registry.put(manifest.image, manifest.digest, str(types[manifest.digest]), data)
        record.journal({"event": "brought back", "image": manifest.image, "digest": manifest.digest})
        outcome.deleted.discard(manifest)
        outcome.moved.add(manifest)
    return back


def _missed(fresh: Inventory) -> set[Manifest]:
    """What tags, indexes and referrers name."""
    tags = fresh.images[fresh.images["tag_hash"].notna()]
    subjects = fresh.manifests[fresh.manifests["subject_hash"].notna()]
    held = set(pairs(fresh.manifests, "manifest_hash"))
    named = {*pairs(tags, "tag_hash"), *pairs(subjects, "subject_hash"), *_listed(fresh, held)}
    return {Manifest(*pair) for pair in named}


def _listed(inventory: Inventory, manifests: set[Manifest] | set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Image and digest of what these list as manifests, or may."""
    references = inventory.references
    references = references[references["reference_kind"].isin(["manifest", "unknown"])]
    held = inventory.manifests[["image_name", "manifest_hash"]]
    held = held[[pair in manifests for pair in pairs(held, "manifest_hash")]]
    return set(pairs(held.merge(references, on="manifest_hash"), "reference_hash"))
