"""config -> what a source reads -> Inventory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor

import pandas as pd

from regdata.config import Config
from regdata.errors import StorageError
from regdata.inventory.graph import GRACE, Collector
from regdata.inventory.inventory import Inventory
from regdata.inventory.usage import digests_in_use, in_use, observed
from regdata.sources import processes, progress
from regdata.sources.aside import Aside
from regdata.sources.columns import Columns, merge
from regdata.sources.dates import is_before
from regdata.sources.leads import MAX_DOCUMENT, NONE, Leads, leads, may_be_manifest
from regdata.sources.manifest import Reference
from regdata.sources.mediatypes import is_image_part
from regdata.sources.site import Site
from regdata.sources.source import NONE_UNCHANGED, Store, Unchanged, Unread
from regdata.sources.storage import Storage
from regdata.sources.used import Used
from regdata.values import check_kind, identity

# A process that reads a share of the store takes as long to start as the store takes to give so many tags.
TAGS_PER_PROCESS = 1000
# An executor may have many workers, and repositories differ in size.
SHARES = 64


def scan(
    config: Config,
    *,
    executor: Executor | None = None,
    since: Inventory | None = None,
    known: Iterable[tuple[str, str]] = (),
) -> Inventory:
    """Reads the registry that ``config`` names: its folder where base_path is given, else its HTTP API.

    With an ``executor`` the work is split by repository over it. ``since``: an earlier inventory; manifests whose files
    in the folder have the size and date that they had then are not read again, so that damage done to them meanwhile is
    not seen (over the API the cache serves this purpose). ``known``: manifests (image_name, manifest_hash) that the
    HTTP API would not show if no tag led to them. What conf.json's access logs and lists of what runs say is in it.
    Raises RegistryError or StorageError, and CleanupError for a list that can't be had.
    """
    check_kind(Config, config=config)
    if since is not None:
        check_kind(Inventory, since=since)
    site, uses = Site.open(config), in_use(config)
    known = [*known, *digests_in_use(uses, config)]
    return observed(scan_site(site, config, executor=executor, since=since, known=known), config, uses)


def scan_site(
    site: Site,
    config: Config,
    *,
    executor: Executor | None = None,
    since: Inventory | None = None,
    known: Iterable[tuple[str, str]] = (),
) -> Inventory:
    """The same of a site at hand, without what access logs and lists of what runs say."""
    progress.now.begin("reading")
    site.check_same()
    return read_site(site, config, executor=executor, since=since, known=known)


def read_site(
    site: Site,
    config: Config,
    *,
    executor: Executor | None = None,
    since: Inventory | None = None,
    known: Iterable[tuple[str, str]] = (),
) -> Inventory:
    """The same where the source is known to be the registry's: a folder is read though nobody serves it."""
    parts, can_untag = site.work(
        SHARES if executor else processes.cores(),
        least=0 if executor else TAGS_PER_PROCESS,
        known=known,
        unchanged=files_of(since) if since else NONE_UNCHANGED,
    )
    read, collector = site.source.read, collector_of(config, site)
    columns = merge(executor.map(read, parts) if executor else processes.read(site.source, parts))
    if site.from_store and not collector.takes_manifests:
        for digest in leftovers(columns, site.store, since):
            columns.add("oddities", (None, "manifest", digest, None))
    now = site.now
    own = collector.own and site.from_store
    for image, digest in linked_lately(columns, site.store, now - GRACE, since) if own else ():
        columns.add("oddities", (image, "young", digest, None))
    return Inventory.from_columns(
        columns,
        scanned_at=now,
        ahead=site.ahead,
        from_store=site.from_store,
        since=since,
        registry=site.registry.display,
        registry_id=config.registry_id,
        address=identity(config.registry.url),
        can_untag=can_untag,
        engine=config.engine,
        protect=config.protect,
        within=config.registry.repositories,
        collector=collector,
    )


def leftovers(columns: Columns, store: Store, since: Inventory | None) -> Iterator[str]:
    """Digests of manifests' bytes that no manifest's link leads to, not even the folder of one that was deleted.

    Nothing refers to them, or as to something else (artifacts list any files, texts mention base images). A collection
    that leaves manifests' bytes leaves these, too. By what is in them.
    """
    odd, blobs = columns["oddities"], columns["blobs"]
    seen = {*columns["revisions"]["manifest_hash"], *odd["hash"], *odd["target"], *_parts(columns["descriptors"])}
    known, looked_at = set[str](), frozenset[str]()
    if since:
        table = since.refers.descriptors
        hashes = since.refers.hashes(table["digest"])
        parts = _parts({"reference_hash": hashes.to_pylist(), "media_type": table["media_type"].to_pylist()})
        seen |= parts.difference(since.manifests["manifest_hash"])  # a layer's may be a manifest's
        known = set(since.oddities.loc[since.oddities["what"] == "manifest", "hash"]) - seen
        if since.from_store and not since.collector.takes_manifests:
            looked_at = frozenset(since.blobs[since.stored]["blob_hash"]).difference(since.manifests["manifest_hash"])
    for digest, size in zip(blobs["blob_hash"], blobs["blob_size"], strict=True):
        is_new = digest not in seen and digest not in looked_at and size <= MAX_DOCUMENT
        if digest in known or (is_new and may_be_manifest(store.document(digest) or b"")):
            yield digest


def linked_lately(
    columns: Columns, store: Store, young: int, since: Inventory | None = None
) -> Iterator[tuple[str, str]]:
    """Image and digest of blobs that are there for long, and that no manifest refers to, but that were not surely
    linked before ``young``: a push in flight may have found them there. Not of those that a manifest used which was
    deleted since."""
    blobs, odd, revisions = columns["blobs"], columns["oddities"], columns["revisions"]["manifest_hash"]
    dates = zip(blobs["blob_hash"], blobs["blob_date"], strict=True)
    old = {digest for digest, date in dates if is_before(date, young)}
    old.difference_update(columns["descriptors"]["reference_hash"], revisions)
    # Manifests' bytes that are left stay in any case.
    old.difference_update(digest for what, digest in zip(odd["what"], odd["hash"], strict=True) if what == "manifest")
    if old and since:  # what was not read again
        there = pd.Series(revisions, dtype="str").drop_duplicates()
        old.difference_update(since.references_of(there)["reference_hash"])
    for image in columns["repositories"]["image_name"] if old else ():
        lately = {one: date for one, date in store.links(image, old).items() if not is_before(date, young)}
        used = Used(store, image) if lately else None
        yield from ((image, one) for one, date in lately.items() if used and not used.has(one, date))


def _parts(descriptors: Mapping[str, Sequence[str]]) -> set[str]:
    """What is referred to as an image's config or files, and as nothing else."""
    pairs = [*zip(descriptors["reference_hash"], map(is_image_part, descriptors["media_type"]), strict=True)]
    return {digest for digest, is_part in pairs if is_part} - {digest for digest, is_part in pairs if not is_part}


def collector_of(config: Config, site: Site) -> Collector:
    """Who collects, as conf.json says, and as far as the registry was seen."""
    own = not config.gc_command and config.registry.base_path is not None
    days = config.trash_days if own else 0
    return Collector(own, not leaves_manifests(config, site), days, site.from_store or site.registry.sees_all)


def leaves_manifests(config: Config, site: Site) -> bool:
    """Whether manifests' bytes stay: where the registry does not start anew it knows them, and would not store the same
    again. gc-command takes them, so that they are put back after it, where that can be done."""
    if not config.gc_command:
        return config.registry.base_path is not None and not (config.gc_before and config.gc_after)
    return not config.gc_after and can_set_aside(site)


def can_change(site: Site) -> bool:
    """Whether the registry's folder is there, and can be changed."""
    return site.from_store and site.store.writable


def can_set_aside(site: Site) -> bool:
    """Whether files of the registry's folder can be set aside beside it."""
    return aside_of(site) is not None


def aside_of(site: Site) -> Aside | None:
    """What was set aside beside the registry's folder; None where nothing can be, so that nothing ever was."""
    try:
        return Aside(Storage(site.store.base)) if can_change(site) else None
    except StorageError:
        return None


def files_of(since: Inventory) -> Unchanged:
    """The manifests that need not be read again, by repository and digest; not those of which a new look may tell more,
    or of which more is to be told."""
    found: dict[str, dict[str, Unread]] = {}
    stops = since.oddities.loc[since.oddities["what"] == "stops", "hash"]
    manifests = since.manifests[since.manifests["error"].isna() & ~since.manifests["manifest_hash"].isin(stops)]
    # An image without a date and a platform may have been without its config.
    known = manifests[["created", "platform"]].notna().any(axis=1) | (manifests["kind"] != "image")
    files = manifests[known].merge(since.blobs.dropna(), left_on="manifest_hash", right_on="blob_hash")
    columns = ("image_name", "manifest_hash", "blob_size", "blob_date")
    led = _leads(since)
    # As plain as the process needs it that reads them.
    for name, digest, size, date in zip(*(files[column].tolist() for column in columns), strict=True):
        found.setdefault(name, {})[digest] = Unread(size, date, led.get(digest, NONE))
    return found


def _leads(since: Inventory) -> dict[str, Leads]:
    """What each manifest leads to, of those that lead anywhere."""
    manifests = since.manifests[["manifest_hash", "kind", "subject_hash"]].drop_duplicates("manifest_hash")
    kinds = dict(zip(manifests["manifest_hash"], manifests["kind"], strict=True))
    subjects = manifests.dropna(subset="subject_hash")
    lists: dict[str, list[Reference]] = {digest: [] for digest in subjects["manifest_hash"]}
    for digest, reference in since.refers.leading([digest for digest, kind in kinds.items() if kind == "index"]):
        lists.setdefault(digest, []).append(reference)
    named = dict(zip(subjects["manifest_hash"], subjects["subject_hash"], strict=True))
    return {digest: leads(kinds.get(digest), named.get(digest), listed) for digest, listed in lists.items()}
