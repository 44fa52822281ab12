"""Which column a name means in a query."""

from __future__ import annotations

from collections.abc import Iterator

from regdata.tables.schema import TABLES
from regdata.tables.values import NUMBER, Rules, Value, value

Column = tuple[str, Value]
Columns = list[Column] | None  # None: not known

_ROW_IDS = {"rowid", "oid", "_rowid_"}  # https://sqlite.org/lang_createtable.html#rowid


class Scope:
    """The names that an expression can mean: of its own query's sources, then of the queries around it."""

    def __init__(self, rules: Rules, outer: Scope | None = None) -> None:
        self._rules, self._outer = rules, outer
        self._sources: list[tuple[str, Columns]] = []
        self.tables: dict[str, Columns] = {}
        self.aliases: dict[str, Value] = {}

    def inner(self) -> Scope:
        """That of a query which sees this one."""
        return Scope(self._rules, self)

    def beside(self) -> Scope:
        """That of a query in FROM: it doesn't see its neighbours."""
        scope = Scope(self._rules, self._outer)
        scope.tables = self.tables
        return scope

    def add(self, name: str, columns: Columns) -> None:
        """A source of the query: a table, or a query in FROM."""
        self._sources.append((name.lower(), columns))

    def table(self, name: str) -> Columns:
        """The columns of a common table expression or of a table."""
        for scope in self._chain():
            if name.lower() in scope.tables:
                return scope.tables[name.lower()]
        if name.lower() not in TABLES:
            return None
        kinds = TABLES[name.lower()].items()
        return [(column, self._rules.declared(kind.partition(" ")[0])) for column, kind in kinds]

    def column(self, name: str, source: str) -> Value:
        """The value of ``source.name``; ``source`` is empty where the query doesn't name one."""
        for scope in self._chain():
            found = scope._own(name.lower(), source.lower())
            if found is not None:
                return found
        if name.lower() in _ROW_IDS and self._rules.engine == "sqlite":
            return value(NUMBER, affinity=NUMBER)
        return self._rules.unknown

    def columns(self, source: str = "") -> Columns:
        """What ``*`` or ``source.*`` stands for."""
        found: list[Column] = []
        for name, columns in self._sources:
            if source and name != source.lower():
                continue
            if columns is None:
                return None
            found += columns
        return found

    def _own(self, name: str, source: str) -> Value | None:
        for each, columns in self._sources:
            if source and each != source:
                continue
            if columns is None:
                return self._rules.unknown
            for column, found in columns:
                if column.lower() == name:
                    return found
        return None if source else self.aliases.get(name)

    def _chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope:
            yield scope
            scope = scope._outer
