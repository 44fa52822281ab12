"""Carries out the cures that can lose nothing; each step is in the journal before it is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os.path import dirname
from typing import Any, NamedTuple

import pandas as pd

from regdata.collecting import trash
from regdata.collecting.aftermath import remove_empty
from regdata.collecting.online import Reading, collect
from regdata.collecting.othernames import check_names
from regdata.collecting.own import losing_links
from regdata.collecting.probes import check_online
from regdata.config import Config
from regdata.errors import CleanupError, RegdataError, StorageError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import aside_of
from regdata.records.record import Record
from regdata.sources.census import path_of
from regdata.sources.claims import Claims
from regdata.sources.files import ABSENT, told
from regdata.sources.site import Site
from regdata.sources.storage import Storage

FOREVER = 36_500.0  # days
# What takes asking the registry, of a repository that it may be asked of.
HEALED = ("link without data", "stale cache")


class Broken(NamedTuple):
    """What was found (regdata.health.ailments), by which inventory, in a look that began then (UTC epoch seconds)."""

    found: pd.DataFrame
    inventory: Inventory
    began: int

    def rows(self, what: str) -> Iterator[tuple[str, str]]:
        """Repository and name of those that are this."""
        rows = self.found[self.found["what"] == what]
        yield from zip(rows["image_name"], rows["name"], strict=True)


def mend(broken: Broken, config: Config, site: Site, storage: Storage, record: Record) -> dict[str, str]:
    """Cures what can be cured safely; why the rest of a kind is left, where a cure failed."""
    mender = _Mender(broken, config, site, storage, record)
    cures: dict[str, Callable[[], object]] = {
        "tag half removed": storage.settle,
        "link not whole": mender.write_links,
        "part not linked": lambda: mender.link("part not linked", "layer"),
        "child not linked": lambda: mender.link("child not linked", "revision"),
        "no folder _layers": mender.make_layers,
        "link without data": mender.heal,
        "stale cache": mender.heal,
        "manifest without parts": mender.bring_back,
        "manifest without bytes": mender.bring_back,
        "abandoned upload": mender.remove_uploads,
        "empty repository": mender.remove_empty,
    }
    left = {}
    for what in [what for what in cures if (broken.found["what"] == what).any()]:
        try:
            cures[what]()
            mender.tell()
        except RegdataError as error:
            record.error(f"{what}: {error}")
            left[what] = str(error)
    return left


def is_sound(storage: Storage, digest: str) -> bool | None:
    """Whether a blob's bytes hash to its digest by sha256; None for one that is not there."""
    with told(storage.root):
        try:
            return storage.files.hash(storage.layout.blob(digest), "sha256") == digest.partition(":")[2]
        except ABSENT:
            return None


class _Mender:
    def __init__(self, broken: Broken, config: Config, site: Site, storage: Storage, record: Record) -> None:
        self.broken, self.config, self.site, self.storage, self.record = broken, config, site, storage, record
        self.healed = False
        self.strange: list[StorageError] = []  # why some of a kind were left, while the others were cured

    def write_links(self) -> None:
        """A link to a manifest or a layer holds its own name, if what it leads to is there, whole."""
        for image, name in self.broken.rows("link not whole"):
            kind, _, digest = name.partition(" ")
            if kind == "history":
                self._write(path_of(kind, image, digest), digest.partition("/index/")[2].replace("/", ":"))
            elif self._is_whole(digest):
                self._write(path_of(kind, image, digest), digest)

    def link(self, what: str, kind: str) -> None:
        """Links what is stored, whole, into a repository that needs it."""
        for image, digest in self.broken.rows(what):
            if self._is_whole(digest):
                self._write(path_of(kind, image, digest), digest)

    def _is_whole(self, digest: str) -> bool:
        return digest.startswith("sha256:") and bool(is_sound(self.storage, digest))

    def _write(self, path: str, digest: str) -> None:
        place = f"{self.storage.base}/{path}"
        try:
            self.storage.check_own(place)
        except StorageError as error:
            self.strange.append(error)
            return
        self.record.journal({"event": "writing link", "path": path, "digest": digest})
        with told(place):
            self.storage.files.make(dirname(place))
            self.storage.files.write(place, digest.encode())

    def tell(self) -> None:
        """Raises what there is to say of the kind that was cured last."""
        strange, self.strange = self.strange, []
        if strange:
            raise strange[0]

    def make_layers(self) -> None:
        for image, _ in self.broken.rows("no folder _layers"):
            self.record.journal({"event": "making layers", "image": image})
            self.storage.make_layers(image)

    def heal(self) -> None:
        """What a clean-up does first: what it needs comes back from what was set aside, links without data go, and the
        registry's cache forgets what is gone."""
        if self.healed:
            return
        self.healed = True
        registry, inventory = self.site.registry, self.broken.inventory
        check_names(self.storage, (), (), losing_links(inventory, self.site, set(), heals=True))
        name = next(iter(self.site.within(inventory.repositories["image_name"])), None)
        if name is None:
            raise CleanupError("there is no repository that registry.repositories means: nothing was tried out")
        registry.check_deletes(name)
        self.site.check_written(name)
        check_online(Claims(registry), self.storage, name, self.record.journal)
        collect(
            self.storage,
            registry,
            Reading.of(inventory, began=self.broken.began),
            _Steps(self.record),
            run=self.record.folder.name,
            keeps_days=FOREVER,
            within=registry.reach.repositories,
        )

    def bring_back(self) -> None:
        """What is missing may have been collected by a run that set it aside."""
        if any(trash.kept(aside) if (aside := aside_of(self.site)) else ()):
            self.heal()

    def remove_uploads(self) -> None:
        check_names(self.storage, (), (), collects=False)
        for image, id_ in self.broken.rows("abandoned upload"):
            path = f"{self.storage.base}/{path_of('upload', image, id_)}"
            if not self.storage.files.is_own(path, str(self.storage.root)):
                said = f"{path} is not a folder of the store itself: not removed. Remove it by hand."
                self.strange.append(StorageError(said))
                continue
            self.record.journal({"event": "removing upload", "image": image, "upload": id_})
            with told(path):
                self.storage.files.remove(path)

    def remove_empty(self) -> None:
        found = {image for image, _ in self.broken.rows("empty repository")}
        check_names(self.storage, found, ())
        remove_empty(self.site, self.record, before=self.site.now, among=found)


class _Steps:
    """The record, for a collector that collects nothing: what it writes down is no collection's."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def journal(self, *events: dict[str, Any]) -> None:
        self.record.journal(*(event | {"event": f"healing: {event['event']}"} for event in events))
