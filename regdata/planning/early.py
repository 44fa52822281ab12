"""What is wrong with a run's conditions whatever the registry holds: told before anything is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa

from regdata.config import Config
from regdata.tables.conditions import Readers
from regdata.tables.schema import arrow_schema


class _Nothing:
    """The tables of a registry that holds nothing."""

    def batches(self, name: str) -> Iterator[pa.Table]:
        yield arrow_schema(name).empty_table()


def check_conditions(config: Config, sql_id: str) -> None:
    """Reads the condition of that name and `protect` on a registry that holds nothing.

    Raises ConditionError: no valid SQL, an unknown column, a comparison of what can't be compared; ConfigError.
    """
    condition = config.condition(sql_id)
    with closing(Readers(_Nothing())) as readers:
        readers.select(condition, engine=config.engine, name=f"sql.{sql_id} of {config.path}:")
        if config.protect:
            readers.select(config.protect, engine=config.engine, name=f"protect of {config.path}:")
