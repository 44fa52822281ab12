"""The columns of a query inside a condition, derived from what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sqlglot import exp

from regdata.tables.parsing import Refused, text
from regdata.tables.scopes import Column, Columns, Scope
from regdata.tables.values import BLOB, NUMBER, TEXT, Rules, Value, value

# The parts of a query that are gone through by name; the others only hold expressions.
_NAMED = {"with_", "expressions", "from_", "joins", "laterals", "this", "expression", "alias"}


class Walk(Protocol):
    """What goes through expressions."""

    rules: Rules

    def value(self, node: exp.Expr, scope: Scope) -> Value:
        """The value of an expression; what is in it is checked."""

    def compare(self, node: exp.Expr, pairs: Iterable[tuple[Value, Value]]) -> None:
        """Raises Refused where the values of ``node`` can't be compared."""


def columns(walk: Walk, query: exp.Expr, outer: Scope) -> Columns:
    """Name and value of each column of a query; it is checked."""
    scope = outer.inner()
    ctes = query.ctes if isinstance(query, exp.Query) else []
    if walk.rules.engine == "sqlite":  # one that comes later hides a table, too
        scope.tables |= {cte.alias.lower(): None for cte in ctes}
    for cte in ctes:
        scope.tables[cte.alias.lower()] = _common(walk, cte, scope)
    found = _columns(walk, query, scope)
    for name, part in query.args.items():
        if isinstance(part, exp.Where | exp.Having | exp.Qualify):
            truth(walk, part.this, scope)
        elif name not in _NAMED:
            for each in part if isinstance(part, list) else [part]:
                if isinstance(each, exp.Expr):
                    walk.value(each, scope)
    return found


def truth(walk: Walk, condition: exp.Expr, scope: Scope) -> None:
    """Checks what rows are chosen by: both engines would take any text for true or false."""
    found = walk.value(condition, scope)
    if found.kinds and found.kinds <= {TEXT, BLOB}:
        said = text(condition, walk.rules.engine)
        raise Refused(f"is not BOOLEAN: {said} stands where a comparison should; did you mean one?")


def _columns(walk: Walk, query: exp.Expr, scope: Scope) -> Columns:
    if isinstance(query, exp.Subquery):
        return columns(walk, query.this, scope)
    if isinstance(query, exp.SetOperation):
        return _stacked(walk, query, scope)
    if isinstance(query, exp.Values):
        return _listed(walk, query, scope)
    return _selected(walk, query, scope) if isinstance(query, exp.Select) else None


def _common(walk: Walk, cte: exp.CTE, scope: Scope) -> Columns:
    """A common table expression. A recursive one reads itself: what that adds is derived until nothing is new."""
    first = cte.this
    while isinstance(first, exp.SetOperation):
        first = first.left
    found = _renamed(columns(walk, first, scope), cte)
    while True:
        scope.tables[cte.alias.lower()] = found
        more = _renamed(columns(walk, cte.this, scope), cte)
        if more == found:
            return found
        found = more


def _stacked(walk: Walk, query: exp.SetOperation, scope: Scope) -> Columns:
    left, right = columns(walk, query.left, scope), columns(walk, query.right, scope)
    if left is None or right is None:
        return None
    pairs = [(name, one, other) for (name, one), (_, other) in zip(left, right, strict=False)]
    if walk.rules.engine == "duckdb" or not isinstance(query, exp.Union):
        walk.compare(query, ((one.bare, other.bare) for _, one, other in pairs))
    return [(name, walk.rules.stacked(one, other)) for name, one, other in pairs]


def _listed(walk: Walk, query: exp.Values, scope: Scope) -> Columns:
    rows = [[walk.value(part, scope) for part in row.expressions] for row in query.expressions]
    prefix, first = ("column", 1) if walk.rules.engine == "sqlite" else ("col", 0)
    lists = enumerate(zip(*rows, strict=False), first)
    return [(f"{prefix}{number}", walk.rules.mixed(values)) for number, values in lists]


def _selected(walk: Walk, query: exp.Select, scope: Scope) -> Columns:
    if query.args.get("from_"):
        _add(walk, query.args["from_"].this, scope)
    _add_joins(walk, query, scope)
    found: Columns = []
    for projection in query.expressions:
        more = _projected(walk, projection, scope)
        found = None if found is None or more is None else found + more
    return found


def _projected(walk: Walk, projection: exp.Expr, scope: Scope) -> Columns:
    if projection.is_star:
        return scope.columns(getattr(projection, "table", "")) if _is_plain(projection) else None
    found = walk.value(projection, scope)
    if isinstance(projection, exp.Alias):
        scope.aliases[projection.alias.lower()] = found
    return None if projection.name.lower() == "columns" else [(projection.alias_or_name, found)]


def _is_plain(projection: exp.Expr) -> bool:
    """Whether a star stands for all columns as they are: DuckDB has EXCLUDE, REPLACE and RENAME."""
    return not any(value for star in projection.find_all(exp.Star) for value in star.args.values())


def _add(walk: Walk, source: exp.Expr, scope: Scope) -> None:
    """Adds to ``scope`` what stands in FROM: a table, a query, or several in parentheses."""
    if isinstance(source, exp.Subquery) and isinstance(source.this, exp.Table | exp.Subquery) and not source.alias:
        _add(walk, source.this, scope)
    else:
        is_call = isinstance(source, exp.Table) and isinstance(source.this, exp.Func)  # json_each(…)
        name = source.alias_or_name or (source.this.name if is_call else "")
        scope.add(name, _renamed(_source(walk, source, scope), source))
    _add_joins(walk, source, scope)


def _source(walk: Walk, source: exp.Expr, scope: Scope) -> Columns:
    if isinstance(source, exp.Table):
        if not isinstance(source.this, exp.Func):
            return scope.table(source.name)
        walk.value(source.this, scope)
        return _of_json(source.this, walk.rules) if walk.rules.engine == "sqlite" else None
    if isinstance(source, exp.Lateral):
        return columns(walk, source.this, scope)
    around = scope.beside() if walk.rules.engine == "sqlite" else scope
    if isinstance(source.this, exp.Table):  # several in parentheses, under one name
        inside = around.inner()
        _add(walk, source.this, inside)
        return inside.columns()
    return columns(walk, source, around)


def _of_json(call: exp.Func, rules: Rules) -> Columns:
    """The columns of json_each and json_tree (https://sqlite.org/json1.html#jeach). The keys of an object are texts,
    and so is what ``labels`` holds; else nobody knows."""
    if call.name.lower() not in ("json_each", "json_tree") or not call.expressions:
        return None
    first = call.expressions[0]
    inner = value(TEXT) if holds_texts(first) else rules.unknown
    numbers, texts = ("id", "parent"), ("type", "fullkey", "path", "json", "root")
    kinds = [(name, inner) for name in ("key", "value", "atom")]
    return [*kinds, *((name, value(NUMBER)) for name in numbers), *((name, value(TEXT)) for name in texts)]


def holds_texts(node: exp.Expr) -> bool:
    """The column ``labels`` holds nothing else, and is all that is read here."""
    read = [column.name.lower() for column in node.find_all(exp.Column)]
    return bool(read) and set(read) == {"labels"}


def _add_joins(walk: Walk, node: exp.Expr, scope: Scope) -> None:
    for lateral in node.args.get("laterals") or ():
        _add(walk, lateral, scope)
    for join in node.args.get("joins") or ():
        before = scope.columns() or []
        _add(walk, join.this, scope)
        _same_names(walk, join, before, (scope.columns() or [])[len(before) :])
        if join.args.get("on"):
            truth(walk, join.args["on"], scope)


def _same_names(walk: Walk, join: exp.Join, before: list[Column], after: list[Column]) -> None:
    """USING and NATURAL compare columns of the same name."""
    names = {each.name.lower() for each in join.args.get("using") or ()}
    for name, one in before:
        if join.method == "NATURAL" or name.lower() in names:
            walk.compare(join, ((one, other) for also, other in after if also.lower() == name.lower()))


def _renamed(found: Columns, source: exp.Expr) -> Columns:
    """``found`` under the names that ``AS t(x, y)`` gives it."""
    alias = source.args.get("alias")
    names = [each.name for each in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if found is None or not names:
        return found
    return [(name, each) for name, (_, each) in zip(names, found, strict=False)] + found[len(names) :]
