"""Many conditions on one inventory, which is made ready once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Self

from regdata.inventory.inventory import Inventory
from regdata.planning.plan import Plan, planned
from regdata.tables.conditions import Readers
from regdata.tables.schema import Engine
from regdata.values import check_kind


class Workbench:
    """An inventory made ready once for many conditions; what one does no other sees. Threads take turns."""

    def __init__(self, inventory: Inventory, readers: Readers | None = None) -> None:
        """``readers``: others than its own, which go with it."""
        self.inventory = inventory
        self._readers = readers or Readers(inventory)
        self.select = self._readers.select
        self.interrupt = self._readers.interrupt

    def plan(
        self,
        condition: str,
        *,
        engine: Engine | None = None,
        protect: str | None = None,
        resumed: Iterable[tuple[str, str, int]] = (),
    ) -> Plan:
        """The plan of ``condition``: see regdata.planning.plan.plan."""
        return planned(self.inventory, self._readers, condition, engine=engine, protect=protect, resumed=resumed)

    @cached_property
    def anyway(self) -> int:
        """The bytes that a clean-up frees whatever its condition: of orphans, and those that nothing refers to."""
        return self.plan("1=0").reclaimable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.close()


def workbench(inventory: Inventory) -> Workbench:
    """The one that stays with the inventory; it takes memory until the inventory goes."""
    check_kind(Inventory, inventory=inventory)
    return inventory.once("workbench", lambda: Workbench(inventory, inventory.readers))
