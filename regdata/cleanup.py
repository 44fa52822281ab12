"""Plan -> deletions, collection, verification.

Nothing is deleted before everything that can be checked has been checked; each image is looked at again right before
its deletions; each step is in the journal before it is taken and after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from regdata import collection, database, render
from regdata.cache import Cache
from regdata.collection import Collection
from regdata.config import Config
from regdata.errors import CleanupError, RegdataError
from regdata.inventory import Inventory
from regdata.plan import Plan, freed, solve
from regdata.registry import Registry
from regdata.report import Record
from regdata.storage import Part, Storage

__all__ = ["Result", "apply", "check"]

# How many manifests may go between two looks at their images.
BATCH = 200

Progress = Callable[[int, int], None]


class Key(NamedTuple):
    """A manifest or a tag of an image."""

    image: str
    name: str


@dataclass(frozen=True, eq=False)
class Result:
    """What a clean-up did.

    tags, manifests: the plan's rows with ``outcome``: deleted, untagged, kept, moved (it changed since the scan),
    failed (not done, because a step before it failed) or listed (nothing was to be done). ``bytes_predicted`` is what
    the plan said, ``bytes_expected`` the same for what really went, ``bytes_freed`` what the collection freed (None:
    not collected, or not to be seen without base_path).
    """

    tags: pd.DataFrame
    manifests: pd.DataFrame
    bytes_predicted: int
    bytes_expected: int
    bytes_freed: int | None
    collection: Collection
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return render.result(self).text

    def _repr_html_(self) -> str:
        return render.result(self).html

    @classmethod
    def unchanged(cls, plan: Plan, why: str) -> Result:
        """The result of a run that only listed."""
        return cls(
            tags=plan.tags.assign(outcome="listed"),
            manifests=plan.manifests.assign(outcome="listed"),
            bytes_predicted=plan.reclaimable,
            bytes_expected=0,
            bytes_freed=None,
            collection=Collection(),
            notes=[why],
        )


def apply(
    plan: Plan,
    config: Config,
    *,
    gc: bool = True,
    force: bool = False,
    record: Record | None = None,
    progress: Progress | None = None,
) -> Result:
    """Carries ``plan`` out: deletes, runs the registry's garbage collection (unless ``gc`` is False), and verifies.

    ``force`` overrides ``limits``. The run's record is written into a new folder under ``reports`` unless ``record`` is
    given. Raises CleanupError, RegistryError or StorageError before anything is deleted; what goes wrong later is in
    Result.errors.
    """
    if record is None:
        record = Record.open(config, sql_id="apply", action="del", condition=plan.condition)
        with record.closed_on_error():
            record.save_plan(plan.tags, plan.manifests)
            result = apply(plan, config, gc=gc, force=force, record=record, progress=progress)
        record.finish()
        return result
    registry = Registry(config.registry.url)
    storage = Storage(config.registry.base_path) if config.registry.base_path else None
    with collection.lock(config, storage):
        check(plan, config, registry, storage, gc=gc, force=force)
        return _carry_out(plan, config, registry, storage, record, gc=gc, progress=progress)


def check(plan: Plan, config: Config, registry: Registry, storage: Storage | None, *, gc: bool, force: bool) -> None:
    """Everything that can be known before the first deletion. Raises RegdataError; changes nothing."""
    if not force:
        _check_limits(plan, config)
    if gc:
        collection.check(config)
        _check_collectable(plan)
    registry.check()
    images = sorted({*plan.manifests["image_name"], *plan.tags.query("action == 'untag'")["image_name"]})
    if not images:
        return
    if not registry.can_delete(images[0]):
        raise CleanupError(
            f"{registry.display} does not allow deletions, so nothing was deleted: set storage.delete.enabled: true in "
            "the registry's configuration (or REGISTRY_STORAGE_DELETE_ENABLED=true) and restart it"
        )
    if storage:
        # A copy of the store, or another registry with the same images, would not show an upload that starts now.
        with registry.upload_probe(images[0]) as upload:
            if not any(seen.id == upload and seen.repository == images[0] for seen in storage.uploads()):
                raise CleanupError(
                    f"registry.base_path {config.registry.base_path} is not the folder that {registry.display} writes "
                    f"to (an upload to {images[0]} did not appear in it), so nothing was deleted: give the registry's "
                    "rootdirectory, or leave base_path out"
                )


def _check_collectable(plan: Plan) -> None:
    """2.8.2's collection stops at bytes that are no manifest; a manifest whose bytes are gone it passes over."""
    if not plan.inventory.from_store:
        return
    broken = plan.inventory.manifests.query(
        "error.notna() and not error.str.startswith('missing') and not error.str.startswith('unknown media type')"
    )
    if len(broken):
        name = f"{broken['image_name'].iloc[0]}@{broken['manifest_hash'].iloc[0]}"
        raise CleanupError(
            f"{len(broken)} manifests in the store can't be read, such as {name} ({broken['error'].iloc[0]}), and the "
            "registry's garbage collection stops at them, so nothing was deleted: push that image again, or delete "
            f"the manifest (curl -X DELETE {plan.inventory.registry}/v2/{name.replace('@', '/manifests/')}); or run "
            "without collection (-p gc False, clear.py --no-gc)"
        )


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


def _carry_out(
    plan: Plan,
    config: Config,
    registry: Registry,
    storage: Storage | None,
    record: Record,
    *,
    gc: bool,
    progress: Progress | None,
) -> Result:
    cache = Cache(None if storage else config.cache)
    deleter = _Deleter(plan, registry, storage, record, progress, cache)
    errors, collected, notes = [], Collection(), []
    expected = plan.blobs
    try:
        others = _vanished(plan.inventory, registry, storage)
        if others:
            notes.append(f"{len(others)} tags and manifests had been deleted by others since the scan")
        failed = deleter.run()
        errors += failed
        gone = deleter.deleted | others
        if gone != deleter.planned:
            expected = freed(plan.inventory, deleter.rows(gone))
        if gc and not errors and (len(expected) or not storage):
            collected = collection.collect(config, registry, storage, record, expected)
        errors += collected.errors
        notes += collected.notes
        if not failed:
            told = collection.verify(plan, gone | deleter.untagged, expected, collected, registry, storage)
            notes, errors = notes + told.notes, errors + told.errors
        if gc and not errors and storage and storage.writable:
            removed = collection.remove_empty(storage, record, before=plan.inventory.scanned_at)
            record.write(repositories_removed=removed)
    except RegdataError as error:
        errors.append(str(error))
    finally:
        # Also when this is interrupted: the record says how far it came.
        result = Result(
            tags=deleter.tags(),
            manifests=deleter.manifests(),
            bytes_predicted=plan.reclaimable,
            bytes_expected=int(expected["blob_size"].sum()),
            bytes_freed=collected.bytes_freed,
            collection=collected,
            notes=notes,
            errors=errors,
        )
        record.write(**_facts(result), errors=[*record.facts["errors"], *errors], notes=notes)
    return result


def _facts(result: Result) -> dict[str, object]:
    tags, manifests = result.tags["outcome"].value_counts(), result.manifests
    return {
        "tags_deleted": int(tags.get("deleted", 0)),
        "tags_untagged": int(tags.get("untagged", 0)),
        "tags_kept": int(tags.get("kept", 0) + tags.get("moved", 0)),
        "tags_moved": int(tags.get("moved", 0)),
        "manifests_deleted": int((manifests["outcome"] == "deleted").sum()),
        "orphans_deleted": int(((manifests["outcome"] == "deleted") & (manifests["reason"] == "orphan")).sum()),
        "bytes_predicted": result.bytes_predicted,
        "bytes_expected": result.bytes_expected,
        "bytes_freed": result.bytes_freed,
    }


class _Deleter:
    """Deletes a plan's manifests and tags, batch by batch, and knows how far it came."""

    def __init__(
        self,
        plan: Plan,
        registry: Registry,
        storage: Storage | None,
        record: Record,
        progress: Progress | None,
        cache: Cache,
    ) -> None:
        self.plan, self.registry, self.storage, self.record, self.cache = plan, registry, storage, record, cache
        self.source = storage or registry
        self.progress = progress or (lambda done, total: None)
        self.levels = _levels(plan)
        self.planned = set(self.levels)
        self.deleted: set[Key] = set()
        self.untagged: set[Key] = set()
        self.moved: set[Key] = set()
        self.kept: set[Key] = set()
        rows = plan.tags[["image_name", "tag_name", "tag_hash", "action"]].itertuples(index=False)
        self.tag_rows = {Key(image, tag): (digest, action) for image, tag, digest, action in rows}
        self.going: dict[str, set[Key]] = defaultdict(set)
        for key in [*self.planned, *(key for key, (_, action) in self.tag_rows.items() if action != "keep")]:
            self.going[key.image].add(key)
        self.gone: dict[str, set[str]] = defaultdict(set)
        held = plan.manifests.merge(plan.inventory.manifests, on=["image_name", "manifest_hash"])
        self.media_types = {
            Key(*pair): media_type
            for pair, media_type in zip(_pairs(held, "manifest_hash"), held["media_type"], strict=True)
        }
        self.scanned = _states(plan.inventory, set(self.going))

    def run(self) -> list[str]:
        """Deletes; returns what went wrong. After the first error nothing more is deleted."""
        try:
            with ThreadPoolExecutor(self.registry.workers) as pool:
                for batch in self._batches():
                    self._delete_batch(batch, pool)
        except RegdataError as error:
            self.record.journal({"event": "stopped", "error": str(error)})
            return [str(error)]
        return []

    def _batches(self) -> Iterator[list[Key]]:
        """The manifests to delete and tags to remove, image by image, an index before its children."""
        untag = [key for key, (_, action) in self.tag_rows.items() if action == "untag"]
        steps = sorted([*self.planned, *untag], key=lambda key: (key.image, self.levels.get(key, 0), key.name))
        batch: list[Key] = []
        for _, group in groupby(steps, key=lambda key: key.image):
            own = list(group)
            # An image that fits into one batch is looked at once.
            if batch and len(batch) + len(own) > BATCH:
                yield batch
                batch = []
            batch += own
            while len(batch) > BATCH:
                yield batch[:BATCH]
                batch = batch[BATCH:]
        if batch:
            yield batch

    def _delete_batch(self, batch: list[Key], pool: ThreadPoolExecutor) -> None:
        images = sorted({key.image for key in batch})
        for image, still in zip(images, pool.map(self._still_goes, images), strict=True):
            self._skip(self.going[image] - still - self.deleted - self.untagged - self.moved)
        going = [key for key in batch if key not in self.moved]
        self._untag([key for key in going if key not in self.planned])
        by_level = defaultdict(list)
        for key in going:
            if key in self.planned:
                by_level[self.levels[key]].append(key)
        for level in sorted(by_level):
            self._delete(by_level[level], pool)
            self.progress(len(self.deleted) + len(self.moved), len(self.planned))

    def _skip(self, keys: set[Key]) -> None:
        self.moved |= keys
        if keys:
            self.record.journal(*({"event": "moved", "image": key.image, "name": key.name} for key in sorted(keys)))

    def _delete(self, keys: list[Key], pool: ThreadPoolExecutor) -> None:
        # By digest and verified: as good as the registry's own, and it need not be asked.
        cached = dict(self.cache.read({key.name for key in keys}))
        list(pool.map(lambda key: self._save(key, cached.get(key.name)), keys))
        self.record.journal(*(self._event("deleting", key) for key in keys))
        sent = {pool.submit(self.registry.delete, *key): key for key in keys}
        try:
            wait(sent, return_when=FIRST_EXCEPTION)
        finally:
            # Also when this is interrupted: what is on its way is waited for, and told.
            for future in sent:
                future.cancel()
            wait(sent)
            ended = [future for future in sent if not future.cancelled()]
            done = [sent[future] for future in ended if future.exception() is None]
            self.deleted.update(done)
            for key in done:
                self.gone[key.image].add(key.name)
            self.record.journal(*(self._event("deleted", key) for key in done))
        for future in ended:
            future.result()

    def _event(self, event: str, key: Key) -> dict[str, str]:
        return {"event": event, "image": key.image, "digest": key.name, "media_type": self.media_types[key]}

    def _save(self, key: Key, data: bytes | None = None) -> None:
        if self.storage:
            data = self.storage.manifest(key.name)
        elif data is None:
            manifest = self.registry.manifest(key.image, key.name)
            data = manifest.data if manifest else None
        if data is not None:
            self.record.save_manifest(key.name, data)

    def _untag(self, keys: list[Key]) -> None:
        for key in keys:
            digest = self.tag_rows[key][0]
            self._save(Key(key.image, digest))
            self.record.journal({"event": "untagging", "image": key.image, "tag": key.name, "digest": digest})
            if self.registry.untag(key.image, key.name):
                pass
            elif self.storage and self.storage.writable:
                self.storage.untag(key.image, key.name)
            else:
                self.kept.add(key)
                self.record.journal(
                    {
                        "event": "kept",
                        "image": key.image,
                        "tag": key.name,
                        "reason": "the registry can't delete a tag alone",
                    }
                )
                continue
            self.untagged.add(key)
            self.record.journal({"event": "untagged", "image": key.image, "tag": key.name, "digest": digest})

    def _still_goes(self, image: str) -> set[Key]:
        """The planned manifests and tags of ``image`` that may go as the registry is now.

        Where nothing changed since the scan but for our own deletions, all of them; else what a plan made anew agrees
        on.
        """
        tags, revisions = self.source.state(image)
        was_tags, was_revisions = self.scanned[image]
        gone = self.gone[image]
        mine = {
            tag: digest
            for tag, digest in was_tags.items()
            if digest not in gone and Key(image, tag) not in self.untagged
        }
        unchanged = tags == mine and revisions in (None, was_revisions - gone)
        return self.going[image] if unchanged else self._agreed(image)

    def _agreed(self, image: str) -> set[Key]:
        was = self.plan.inventory
        planned = self.plan.manifests.query("image_name == @image")
        known = tuple(_pairs(planned, "manifest_hash"))
        fresh = Inventory.from_columns(
            self.source.read(Part((image,), (), known)),
            scanned_at=was.scanned_at,
            from_store=was.from_store,
            can_untag=was.can_untag,
        )
        columns = fresh.images[["id", "tag_name", "tag_hash"]].itertuples(index=False)
        selected = [number for number, tag, digest in columns if self._planned(image, tag)[0] == digest]
        protected = database.select(fresh, was.protect, engine=was.engine, name="protect") if was.protect else []
        untagged = planned.query("reason in ('orphan', 'child')")
        resumed = [(*pair, was.scanned_at) for pair in _pairs(untagged, "manifest_hash")]
        with solve(fresh, selected, protected, resumed=resumed) as work:
            manifests, tags = database.frame(work, "from manifest_plan"), database.frame(work, "from tag_plan")
        agreed = {Key(image, digest) for digest in manifests["manifest_hash"]}
        rows = tags[["tag_name", "action"]].itertuples(index=False)
        agreed |= {Key(image, tag) for tag, action in rows if self._planned(image, tag)[1] == action}
        return agreed & self.going[image]

    def _planned(self, image: str, tag: str) -> tuple[str, str]:
        """The digest that a tag was planned to go with, and how; empty for a tag that the plan leaves alone."""
        return self.tag_rows.get(Key(image, tag), ("", ""))

    def rows(self, keys: Iterable[Key]) -> pd.DataFrame:
        return pd.DataFrame(list(keys), columns=["image_name", "manifest_hash"], dtype="str")

    def manifests(self) -> pd.DataFrame:
        return self.plan.manifests.assign(
            outcome=[self._outcome(Key(*pair)) for pair in _pairs(self.plan.manifests, "manifest_hash")]
        )

    def tags(self) -> pd.DataFrame:
        return self.plan.tags.assign(
            outcome=[self._tag_outcome(Key(*pair)) for pair in _pairs(self.plan.tags, "tag_name")]
        )

    def _outcome(self, key: Key) -> str:
        return "deleted" if key in self.deleted else "moved" if key in self.moved else "failed"

    def _tag_outcome(self, key: Key) -> str:
        digest, action = self.tag_rows[key]
        if action == "keep" or key in self.kept:
            return "kept"
        if key in self.moved:
            return "moved"
        return (
            "untagged"
            if key in self.untagged
            else self._outcome(Key(key.image, digest))
            if action == "delete"
            else "failed"
        )


def _vanished(inventory: Inventory, registry: Registry, storage: Storage | None) -> set[Key]:
    """The tags and manifests of the scan that are not there any more: this run has not lost them."""
    scanned = _states(inventory, {*inventory.images["image_name"], *inventory.manifests["image_name"]})

    def names(image: str) -> list[str]:
        tags, revisions = scanned[image]
        if storage:
            now = storage.state(image)
            return [*(tags.keys() - now[0]), *(revisions - now[1])]
        gone = list(tags.keys() - registry.tags(image))
        return gone + [digest for digest in revisions if gone and not registry.digest(image, digest)]

    with ThreadPoolExecutor(registry.workers) as pool:
        found = zip(scanned, pool.map(names, scanned), strict=True)
        return {Key(image, name) for image, gone in found for name in gone}


def _pairs(frame: pd.DataFrame, column: str) -> Iterator[tuple[str, str]]:
    return zip(frame["image_name"], frame[column], strict=True)


def _levels(plan: Plan) -> dict[Key, int]:
    """When each manifest is deleted: level by level, so that an index goes before its children."""
    levels = {Key(*pair): 0 for pair in _pairs(plan.manifests, "manifest_hash")}
    edges = [(Key(image, first), Key(image, second)) for image, first, second in plan.order.itertuples(index=False)]
    # Digests can't form a ring, but tag names can: the number of rounds is bounded.
    for _ in range(100):
        late = [(first, second) for first, second in edges if levels[second] <= levels[first]]
        for first, second in late:
            levels[second] = levels[first] + 1
        if not late:
            break
    return levels


def _states(inventory: Inventory, images: set[str]) -> dict[str, tuple[dict[str, str | None], frozenset[str]]]:
    """Tags with digests, and revisions, of each image at the time of the scan."""
    tags: dict[str, dict[str, str | None]] = {image: {} for image in images}
    revisions: dict[str, set[str]] = {image: set() for image in images}
    rows = inventory.images[inventory.images["image_name"].isin(images)]
    for image, tag, digest in zip(rows["image_name"], rows["tag_name"], rows["tag_hash"], strict=True):
        tags[image][tag] = digest if isinstance(digest, str) else None
    held = inventory.manifests[inventory.manifests["image_name"].isin(images)]
    for image, digest in _pairs(held, "manifest_hash"):
        revisions[image].add(digest)
    return {image: (tags[image], frozenset(revisions[image])) for image in images}
