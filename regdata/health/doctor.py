"""Looks a registry through for what is broken, and carries out the cures that are safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from regdata.collecting.own import undo_own
from regdata.config import Config
from regdata.errors import CleanupError
from regdata.health.ailments import Look, ailments, told
from regdata.health.mending import HEALED, Broken, is_sound, mend
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan_site
from regdata.records.record import Record
from regdata.sources import processes
from regdata.sources.census import COLUMNS, Listing, census, path_of
from regdata.sources.claims import Claims
from regdata.sources.files import told as told_files
from regdata.sources.gojson import Fields, Mismatch, array, member, parse, text
from regdata.sources.manifest import is_digest, is_served, printable
from regdata.sources.names import means
from regdata.sources.paths import blob_path
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from regdata.sources.threads import each
from regdata.values import check_flags, check_kind

_SIZE_OF_A_LINK = 71  # sha256: and 64 digits
# Of a descriptor, what is looked at here.
_DESCRIPTOR: Fields = {"digest": text, "urls": array(text)}
# Told how many bytes of how many are checked.
Progress = Callable[[int, int], None]


def doctor(
    config: Config, *, repair: bool = False, digests: bool = False, progress: Progress | None = None
) -> pd.DataFrame:
    """What is broken in the registry that ``config`` names; changes nothing, unless ``repair``.

    what, place, tags (image:tag, of those that do not pull for it), bytes, since (UTC epoch seconds; NULL: not known),
    detail, means (for who pulls), cure, safe (whether ``repair`` carries the cure out) and, after ``repair``, outcome:
    cured, left (and why), or new. ``digests``: reads every byte of the store, to see whether it is what its digest
    says; ``progress`` is told how many. Without base_path tags and manifests alone are looked at. Raises RegistryError,
    StorageError and, where ``repair`` can't change the registry, CleanupError.
    """
    check_kind(Config, config=config)
    check_flags(repair=repair, digests=digests)
    site = Site.open(config)
    storage = Storage(config.registry.base_path) if config.registry.base_path else None
    look = _Look(config, site, storage, progress if digests else None, digests)
    if not repair:
        return told(look.found()).assign(outcome=pd.array([""], dtype="str")[0])
    if storage is None or not storage.writable:
        raise CleanupError(f"{config.path}: repair takes a registry.base_path that can be changed; nothing was changed")
    with site.lock():
        site.see_clock()
        undo_own(config, site)
        before = look.found()
        if not before.empty:
            record = Record.open(config, sql_id="doctor", action="repair")
            with record.closed_on_error():
                left = mend(Broken(before, look.inventory, look.began), config, site, storage, record)
                after = look.found()
                outcome = _compared(before, after, left, config.registry.repositories)
                record.write(found=len(before), cured=int((outcome["outcome"] == "cured").sum()))
            record.finish()
            return outcome
        return told(before).assign(outcome="")


def _compared(
    before: pd.DataFrame, after: pd.DataFrame, left: dict[str, str], within: Sequence[str] | None
) -> pd.DataFrame:
    """What was found, and whether it is found no more; then what is found now and was not. The registry is asked of
    nothing that registry.repositories does not mean (``within``)."""
    keys = ["what", "image_name", "name"]
    was, now = (list(frame[keys].fillna("").itertuples(index=False, name=None)) for frame in (before, after))
    still, known = {*now}, {*was}
    outcomes = ["cured" if key not in still else _left(key, left, within) for key in was]
    new = after[pd.Series([key not in known for key in now], index=after.index, dtype=bool)]
    rows = [told(before).assign(outcome=pd.array(outcomes, dtype="str"))]
    if len(new):
        rows.append(told(new).assign(outcome="new"))
    return pd.concat(rows, ignore_index=True)


def _left(key: tuple[str, str, str], left: dict[str, str], within: Sequence[str] | None) -> str:
    what, image, _ = key
    if what in HEALED and not means(within, image):
        return "left: it is outside registry.repositories"
    return f"left: {left[what]}" if what in left else "left"


@dataclass
class _Look:
    """Looks at everything, each time it is asked; ``inventory`` is that of the last look, which ``began`` then."""

    config: Config
    site: Site
    storage: Storage | None
    progress: Progress | None
    digests: bool

    def found(self) -> pd.DataFrame:
        self.began = int(time.time())
        self.inventory = scan_site(self.site, self.config)
        files = census(self.storage.base) if self.storage else None
        claims, altered, bare = [], [], []
        look = Look()
        if self.storage and files:
            claims = list(_claimed(self.site, self.storage, files))
            altered = list(_altered(self.storage, files, self.progress)) if self.digests else []
            bare = list(_bare_tags(self.storage, self.inventory))
            files = files | {"size": list(_sizes(self.storage, files))}
            look = Look(partial(is_sound, self.storage), partial(_fetched, self.storage))
        return ailments(self.inventory, files, now=self.site.now, claims=claims, altered=altered, bare=bare, look=look)


def _rows(files: Listing) -> Iterator[tuple[str, str, str, int]]:
    return zip(*(files[column] for column in COLUMNS[:4]), strict=True)


def _sizes(storage: Storage, files: Listing) -> Iterator[int | None]:
    """Those of files; of a registry's link that is a symbolic link, that of what this leads to."""
    for kind, image, name, size in _rows(files):
        if kind in ("layer", "revision", "history") and size != _SIZE_OF_A_LINK:
            path = f"{storage.base}/{path_of(kind, image, name)}"
            stat = storage.files.stat(path) if storage.files.is_link(path) else None
            yield stat.size if stat else size
        else:
            yield size


def _claimed(site: Site, storage: Storage, files: Listing) -> Iterator[tuple[str, str]]:
    """Repository and digest of blobs that are gone, or whose link is, and that the registry says it has; only where it
    may be asked."""
    within = site.registry.reach.repositories
    stored = {name for kind, _, name, _ in _rows(files) if kind == "blob"}
    asked = [
        (image, name)
        for kind, image, name, _ in _rows(files)
        if is_served(name)
        and (kind == "folder" or (kind == "layer" and name.startswith("sha256:") and name not in stored))
        and means(within, image)
    ]
    if not asked:
        return
    claims = Claims(site.registry)
    with ThreadPoolExecutor(site.registry.workers) as pool:
        answers = list(each(pool, lambda pair: claims.says(*pair), asked))
    exists = storage.files.exists
    for (image, name), claimed in zip(asked, answers, strict=True):
        paths = (f"{storage.base}/{path_of('layer', image, name)}", f"{storage.root}/{blob_path(name)}")
        if claimed and not all(map(exists, paths)):
            yield image, name


def _bare_tags(storage: Storage, inventory: Inventory) -> Iterator[tuple[str, str, int | None]]:
    """Repository, name and date of tags' folders that hold no link; a registry lists them as tags."""
    known = set(zip(inventory.images["image_name"], inventory.images["tag_name"], strict=True))
    files, layout = storage.files, storage.layout
    for image in storage.repositories():
        folder = f"{layout.manifests(image)}/tags"
        with told_files(folder):
            for tag in files.names(folder):
                place = f"{folder}/{tag}"
                stat = files.stat(place)
                is_one = stat is None or files.is_folder(place)  # None: a symbolic link to nowhere
                if (image, tag) not in known and is_one and layout.tag(image, tag) is None:
                    yield image, printable(tag), stat and stat.mtime


def _fetched(storage: Storage, manifest: str) -> set[str]:
    """The layers for which a manifest says from where they are fetched (``urls``), and nowhere that they are not."""
    try:
        found = list(_descriptors(parse(storage.content(manifest) or b"")))
    except Mismatch:
        return set()
    return {digest for digest, urls in found if urls} - {digest for digest, urls in found if not urls}


def _descriptors(value: Any) -> Iterator[tuple[str, bool]]:
    """Each digest that stands in a document, and whether there are addresses beside it."""
    if isinstance(value, tuple):
        fields = {member(name, _DESCRIPTOR): inner for name, inner in value}
        if isinstance(digest := fields.get("digest"), str):
            yield digest, bool(fields.get("urls"))
    for inner in [one for _, one in value] if isinstance(value, tuple) else value if isinstance(value, list) else ():
        yield from _descriptors(inner)


def _altered(storage: Storage, files: Listing, progress: Progress | None) -> Iterator[tuple[str, str | None, str]]:
    """kind, repository and name of blobs whose bytes, and links whose text, are not what their names say."""
    blobs = [(name, size) for kind, _, name, size in _rows(files) if kind == "blob"]
    total, done = sum(size for _, size in blobs), 0
    with ThreadPoolExecutor(processes.cores()) as pool:  # hashing holds no lock
        for (name, size), sound in zip(blobs, each(pool, lambda blob: is_sound(storage, blob[0]), blobs), strict=True):
            if sound is False:
                yield "blob", None, name
            done += size
            if progress:
                progress(done, total)
    for kind, image, name, size in _rows(files):
        if kind in ("layer", "revision", "history") and size:
            expected = name.partition("/index/")[2].replace("/", ":") if kind == "history" else name
            first = storage.files.first(f"{storage.base}/{path_of(kind, image, name)}", 256)
            text = first[0].decode("ascii", "replace") if first else expected
            if text != expected and not (kind == "layer" and not name.startswith("sha256:") and is_digest(text)):
                yield kind, image, f"{name}"
