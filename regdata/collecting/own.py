"""The collection that conf.json asks for when it has no gc-command: regdata's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Digests
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from regdata.collecting import trash
from regdata.collecting.aftermath import check_up
from regdata.collecting.commands import Collection, Commands, check_commands, check_forgets
from regdata.collecting.online import Reading, collect
from regdata.collecting.probes import Say, canary, check_online, remove_left
from regdata.collecting.unlinked import nobodys
from regdata.config import Config
from regdata.errors import CleanupError, RegistryError
from regdata.inventory.graph import GRACE
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import aside_of, can_change
from regdata.planning.rules import freed, manifests_left, spared_for_age
from regdata.records.record import Record
from regdata.records.runs import past_runs
from regdata.show.words import count
from regdata.sources.aside import Aside
from regdata.sources.claims import Claims
from regdata.sources.guard import undo
from regdata.sources.interrupts import interrupts_held_back
from regdata.sources.names import means
from regdata.sources.room import told_if_full
from regdata.sources.site import Site
from regdata.sources.storage import Storage

BY = "regdata itself"


def collects_itself(config: Config, site: Site) -> bool:
    """Whether regdata collects: no gc-command, and the registry's folder can be changed."""
    return not config.gc_command and can_change(site)


def check_collector(
    config: Config, site: Site, images: list[str], say: Say = lambda _: None, *, frees: bool = True
) -> None:
    """Raises CleanupError unless something can collect safely; ``images``: where something goes. Changes nothing.

    ``say``: see `check_online`. ``frees``: whether anything is to be freed, be it in no repository within reach.
    """
    check_somebody_collects(config, site)
    if config.gc_after if config.gc_command else stops(config):
        return
    folder = changeable_folder(config, site)
    names = images or site.within(site.source.repositories())
    if names or (folder and frees):
        with _place(site, folder, names) as name:
            (check_forgets if config.gc_command else _check_running)(config, site, name, say)


def check_somebody_collects(config: Config, site: Site) -> None:
    """Raises CleanupError where conf.json names nobody who can, or StorageError where the folder does not allow it;
    nothing is asked of the registry."""
    check_commands(config)
    if collects_itself(config, site):
        Aside(_folder(config))
    elif not config.gc_command:
        raise CleanupError(
            f"{config.path} has no gc-command, and regdata can't collect by itself without "
            + ("being allowed to change registry.base_path" if site.from_store else "registry.base_path")
            + ", so nothing was deleted: give it that, or gc-command, or run without collection (-p gc False, "
            "clear.py --no-gc)"
        )


def _check_running(config: Config, site: Site, name: str, say: Say) -> None:
    site.registry.check_deletes(name)
    site.check_written(name)
    with told_if_full(site.store):
        check_online(Claims(site.registry), _folder(config), name, say)


def stops(config: Config) -> bool:
    """Whether the registry is stopped, or takes no pushes, while it is collected; it is to start anew after that."""
    return bool(config.gc_before and config.gc_after)


def unneeded(fresh: Inventory, held: Digests[tuple[str, str]], planned: Inventory) -> pd.DataFrame:
    """The blobs that go (see Plan.blobs), as ``fresh`` sees the registry.

    What no manifest used is spared for the grace: a push in flight brings layers before their manifest; what was young
    when the run was ``planned`` does not grow old in it, since that promised not to take it. ``held``: image and digest
    of what those used that this run deleted. Manifests' bytes stay unless the registry restarts.
    """
    nothing = pd.DataFrame(columns=["image_name", "manifest_hash"], dtype="str")
    used = {digest for _, digest in held}
    blobs = freed(fresh, nothing, used=used)
    young = spared_for_age(planned) - used if len(blobs) else set()
    return blobs[~blobs["blob_hash"].isin(young)] if young else blobs


def losing_links(inventory: Inventory, site: Site, going: Set[str], *, heals: bool) -> set[str]:
    """The repositories with a link to what a collection beside the registry takes (digests), or (``heals``, of those
    that registry.repositories means) an earlier one has taken: the registry is told there to forget it, which takes the
    right to delete."""
    if not site.from_store:
        return set()
    within = site.registry.reach.repositories
    staying = {*inventory.blobs.loc[inventory.stored, "blob_hash"]} - going

    def loses(image: str, digests: set[str]) -> bool:
        return bool(digests - staying if heals and means(within, image) else digests & going)

    return {image for image in site.store.repositories() if loses(image, {*site.store.links(image)})}


def collect_own(
    config: Config,
    site: Site,
    record: Record,
    fresh: Inventory,
    blobs: pd.DataFrame,
    *,
    held: Digests[tuple[str, str]],
    began: int,
    as_of: int,
    empty_trash: bool = False,
) -> Collection:
    """Frees ``blobs``, which are `unneeded` as ``fresh``, a reading that began then, sees the registry; and what was
    due ``as_of`` the promise of what was set aside, or all of it (``empty_trash``)."""
    reading = Reading.of(
        fresh,
        began=began,
        frees=dict(zip(blobs["blob_hash"], blobs["blob_size"].astype(int), strict=True)),
        empty=frozenset(site.empty_repositories(before=fresh.scanned_at - GRACE)),
        young=fresh.scanned_at - GRACE,
        held=held,
        lasting=frozenset(manifests_left(fresh)),
    )
    commands = Commands(config, record)
    with ExitStack() as stack:
        place = stack.enter_context(_place(site, _folder(config), site.within(fresh.repositories["image_name"])))
        around = _Around(commands, config, site, record, place)
        stack.enter_context(nullcontext() if stops(config) else around)
        collected = collect(
            _folder(config),
            site.registry,
            reading,
            record,
            run=record.folder.name,
            keeps_days=config.trash_days,
            as_of=as_of,
            empties=empty_trash,
            pause=around if stops(config) else None,
            within=site.registry.reach.repositories,
        )
    record.write(
        claims_healed=collected.healed.cleared,
        links_healed=collected.healed.unlinked,
        bytes_set_aside=sum(collected.set_aside.values()),
        bytes_in_trash=collected.kept,
    )
    return Collection(
        ran=True,
        exit_code=0,
        output=commands.output,
        freed=collected.freed,
        notes=collected.notes,
        errors=commands.errors,
        by=BY,
        set_aside=collected.set_aside,
        from_trash=collected.emptied,
        spared=frozenset(collected.swept.spared),
        emptied=frozenset(reading.empty),
    )


@contextmanager
def _place(site: Site, folder: Storage | None, names: Sequence[str]) -> Iterator[str]:
    """A repository to try something out in: one of these, or else one of our own in ``folder``, which is removed."""
    if names:
        yield names[0]
        return
    assert folder
    own = nobodys(Claims(site.registry), folder)
    try:
        yield own
    finally:
        with suppress(OSError):
            folder.files.remove(f"{folder.root}/repositories/{own}")


class Promise(NamedTuple):
    """The bytes that a run is to free: those that nobody needs, unless they are kept for some days, and those that were
    kept and are due, or have come anew."""

    unneeded: int
    due: int

    @property
    def total(self) -> int:
        return self.unneeded + self.due


def promised(config: Config, site: Site, unneeded: int, *, as_of: int, gc: bool, empty_trash: bool) -> Promise:
    """What a run frees if so many bytes are needed by nobody; without a collection, what the next one does. ``as_of``:
    when (UTC epoch seconds, the store's clock); what is due later the run leaves to the next one."""
    aside, own, due = aside_of(site), collects_itself(config, site), 0
    if gc and aside:
        due = trash.frees(aside, config.trash_days, as_of, all_of_it=empty_trash, copies=own)
    return Promise(0 if own and config.trash_days else unneeded, due)


def with_trash(
    collected: Collection,
    config: Config,
    site: Site,
    record: Record,
    fresh: Inventory,
    *,
    as_of: int,
    empty_trash: bool = False,
) -> Collection:
    """A collection by gc-command, and what was due ``as_of`` the promise of what regdata itself had set aside, or all
    of it (``empty_trash``): what a reading misses comes back, the rest is freed. What has come anew stays until then,
    too: gc-command may have taken that."""
    aside = aside_of(site)
    if aside is None or not any(trash.due(aside, 0, as_of)):
        return collected
    back = trash.bring_back(aside, fresh.missing)
    emptied = trash.empty(trash.due(aside, config.trash_days, as_of, all_of_it=empty_trash))
    record.write(bytes_in_trash=trash.size(aside))
    aside.close()
    told = replace(collected, notes=collected.notes + trash.came_back(back))
    if not emptied:
        return told
    by = told if told.ran else replace(told, ran=True, exit_code=0, by=BY)
    freed = Counter(told.freed)
    freed.update(emptied)
    return replace(by, freed=freed, from_trash=emptied)


def undo_own(config: Config, site: Site) -> list[str]:
    """Puts back what a collection that was interrupted took and had not decided upon; the digests of blobs. What runs
    that were killed had stored to try the registry out is removed."""
    folder, aside = changeable_folder(config, site), aside_of(site)
    if folder is None:
        return []
    for past in past_runs(config):
        for digest, images in past.probes.items() if not past.ended_well else ():
            remove_left(site.registry, folder, digest, images)
    return undo(aside) if aside else []


def undo_unplanned(config: Config, site: Site, inventory: Inventory) -> None:
    """Puts back what a killed run had taken, before a plan is carried out. Raises CleanupError where bytes came back
    that it does not know of."""
    aside = aside_of(site)
    back = {*undo(aside)} if aside else set()
    if unknown := back - {*inventory.blobs.loc[inventory.stored, "blob_hash"]}:
        raise CleanupError(
            f"{count(len(unknown), 'blob')} came back since the plan was made, of a run that was killed, so "
            "nothing was deleted: scan and plan again"
        )


def settle_removals(site: Site, *, last: bool = True) -> list[tuple[str, str]]:
    """Removes for good what this run or one before took away in the folder, or puts it back: see `Store.settle`."""
    return site.store.settle(last=last) if can_change(site) else []


def bring_back_own(config: Config, site: Site, run: str, needed: Set[str]) -> None:
    """Puts back all that a run collected and that is kept (trash_days), data and links; and what its images need
    (digests) of what others collected."""
    settle_removals(site)
    bring_back_parts(config, site, needed)
    if aside := aside_of(site):
        for batch in list(trash.kept(aside, run)):
            batch.undo()
        aside.close()


def bring_back_parts(config: Config, site: Site, needed: Set[str]) -> None:
    """Puts back what is needed (digests) of what runs collected and is kept."""
    if aside := aside_of(site):
        trash.bring_back(aside, needed)
        aside.close()


def oldest_kept(config: Config, site: Site) -> str:
    """The first run of which something is kept; empty if there is none."""
    aside = aside_of(site)
    return min((batch.run for batch in trash.kept(aside)), default="") if aside else ""


def changeable_folder(config: Config, site: Site) -> Storage | None:
    """The registry's folder, if there is one that can be changed."""
    return _folder(config) if can_change(site) else None


def _folder(config: Config) -> Storage:
    assert config.registry.base_path
    return Storage(config.registry.base_path)


class _Around:
    """gc-before and gc-after, between which the registry takes no pushes if there are both."""

    def __init__(self, commands: Commands, config: Config, site: Site, record: Record, repository: str) -> None:
        self.commands, self.config, self.site, self.record = commands, config, site, record
        self.repository = repository
        self._canary = ExitStack()

    def __enter__(self) -> None:
        try:
            if stops(self.config):
                known = canary(*self._probing, say=self.record.journal)
                self._lives = self._canary.enter_context(known)
            self._before()
        except BaseException:
            self._after()
            raise

    def __exit__(self, *error: object) -> None:
        self._after()

    @property
    def _probing(self) -> tuple[Claims, Storage, str]:
        return Claims(self.site.registry), _folder(self.config), self.repository

    def _before(self) -> None:
        with interrupts_held_back():
            done = self.commands.run("gc-before")
        if not done:
            raise CleanupError(self.commands.errors.pop())
        if stops(self.config) and self.site.registry.takes_pushes(self.repository):
            raise CleanupError(
                f"gc-before ended well, but {self.site.registry.display} still takes pushes, so nothing was collected: "
                "have gc-before stop the registry, or leave gc-before and gc-after out (regdata collects while it runs)"
            )

    def _after(self) -> None:
        with interrupts_held_back():
            self.commands.run("gc-after")
        self._canary.close()

    def forgot(self) -> bool:
        """Whether the registry was restarted, or keeps no cache: see `regdata.collecting.online.Pause`."""
        if self.commands.errors:
            raise CleanupError(f"{self.commands.errors.pop()}. Nothing was collected: what was set aside is back")
        try:
            check_up(self.site)
        except RegistryError as error:
            raise CleanupError(
                f"the registry does not answer after gc-after, so nothing was collected: {error}"
            ) from None
        if not self._lives():
            return True
        try:
            _check_running(self.config, self.site, self.repository, self.record.journal)
        except (CleanupError, RegistryError) as error:
            raise CleanupError(
                "gc-after did not restart the registry, whose cache still knows what was to be collected; so that was "
                f"put back: have gc-after restart it. It can't be collected while it runs, either: {error}"
            ) from None
        return False
