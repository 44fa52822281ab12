"""What is wrong with a run's conditions whatever the registry holds: told before anything is asked of it."""

from __future__ import annotations

from contextlib import closing

from regdata.config import Config
from regdata.inventory.inventory import Inventory
from regdata.sources.columns import Columns
from regdata.tables.conditions import Readers


def check_conditions(config: Config, sql_id: str) -> None:
    """Reads the condition of that name and `protect` on a registry that holds nothing.

    Raises ConditionError: no valid SQL, an unknown column, a comparison of what can't be compared; ConfigError.
    """
    condition = config.condition(sql_id)
    with closing(Readers(Inventory.from_columns(Columns(), scanned_at=0, from_store=True))) as readers:
        readers.select(condition, engine=config.engine)
        if config.protect:
            readers.select(config.protect, engine=config.engine, name="protect")
