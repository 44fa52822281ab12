"""The types of an expression's parts, derived from those of the columns: what may not be compared is refused.

SQLite compares anything with anything: a number is less than every text, so that ``tag_size < '1GB'`` is true for every
row. DuckDB refuses most of that itself. What can't be derived is taken for anything in SQLite, where a cast tells, and
left to DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import singledispatchmethod

from sqlglot import exp

from regdata.tables.functions import BRANCHES, FIRST, HINTS, ONE_OF, OR_DEFAULT, made_numbers
from regdata.tables.parsing import Refused, text
from regdata.tables.queries import columns, holds_texts, truth
from regdata.tables.scopes import Scope
from regdata.tables.values import (
    BIT,
    BLOB,
    NULL,
    NUMBER,
    OTHER,
    TEXT,
    TRUTH,
    Rules,
    Value,
    known_text,
    may_be_like_a_number,
    reads_as_number,
    value,
)

NOT_BOOLEAN = Refused("is not BOOLEAN: it must be true or false for a row, such as tag_name = 'x' or age_days > 90")

_CHANGING = (exp.Column, exp.Query, exp.Placeholder, exp.Window, exp.Star)


# A function that SQLite is given: something else for a text that is no number, or what it is given.
NUMBER_OR_ELSE = "number_or_else"


def check(condition: exp.Expr, rules: Rules, reads_as_number: Callable[[str], bool]) -> str:
    """Raises Refused where a condition over ``images`` is not true or false, or compares what can't be compared.

    ``reads_as_number`` asks the engine it of the text that an expression without columns gives. Returns the condition
    with `NUMBER_OR_ELSE` around what SQLite may make another number of than it reads; empty where there is nothing.
    """
    walk = _Walk(rules, reads_as_number)
    scope = Scope(rules)
    scope.add("images", scope.table("images"))
    if not _is_truth(walk.value(condition, scope)):
        raise NOT_BOOLEAN
    for node in walk.doubtful.values():
        around = exp.Anonymous(this=NUMBER_OR_ELSE, expressions=[exp.Null()])
        node.replace(around)
        around.set("expressions", [node])
    return text(condition, rules.engine) if walk.doubtful else ""


def _is_truth(found: Value) -> bool:
    return bool(found.kinds & {TRUTH, OTHER}) and found.kinds <= {TRUTH, BIT, OTHER}


class _Walk:
    """Goes through an expression for its value; on the way everything in it is checked."""

    def __init__(self, rules: Rules, asked: Callable[[str], bool]) -> None:
        self.rules, self._asked = rules, asked
        self.doubtful: dict[int, exp.Expr] = {}  # texts of which it is not known before whether they are numbers

    @singledispatchmethod
    def value(self, node: exp.Expr, scope: Scope) -> Value:
        """The value of an expression."""
        self._parts(node, scope)
        return self.rules.unknown

    def compare(self, node: exp.Expr, pairs: Iterable[tuple[Value, Value]]) -> None:
        """Raises Refused where the values of ``node`` can't be compared."""
        for one, other in pairs:
            clash = self.rules.clash(one, other)
            if clash:
                raise Refused(_mixed_up(text(node, self.rules.engine), clash, self.rules.engine))

    def _parts(self, node: exp.Expr, scope: Scope) -> list[Value]:
        return [self.value(part, scope) for part in node.iter_expressions()]

    def _row(self, node: exp.Expr | None, scope: Scope) -> list[Value]:
        """The values of a row: (a, b), or the columns of a query; else of the one expression."""
        if isinstance(node, exp.Tuple):
            return [self._read(part, scope) for part in node.expressions]
        if isinstance(node, exp.Query | exp.Values):
            found = columns(self, node, scope)
            return [self.rules.unknown] if found is None else [each for _, each in found]
        if isinstance(node, exp.Paren | exp.Any | exp.All):
            return self._row(node.this, scope)
        return [] if node is None else [self._read(node, scope)]

    def _read(self, node: exp.Expr, scope: Scope) -> Value:
        """The value, and whether a text that is the same for every row reads as a number."""
        found = self.value(node, scope)
        if TEXT in found.kinds and not (found.numeric or found.literal) and _is_constant(node):
            numeric = self._asked(text(node, self.rules.engine))
            return replace(found, numeric=numeric, worded=not numeric)
        return found

    def _number(self, node: exp.Expr, scope: Scope) -> Value:
        """Of a text SQLite calculates with the number that it begins with: '1GB' is 1, a date its year."""
        found = self._read(node, scope)
        if self._lax and found.worded:
            said = text(node, self.rules.engine)
            raise Refused(f"calculates with a text that is no number: {said}. {_CURES[frozenset({NUMBER, TEXT})]}")
        if self._lax and found.kinds & {TEXT, BLOB} and not found.numeric:
            self.doubtful[id(node)] = node
        return found

    def _operand(self, node: exp.Expr, scope: Scope) -> None:
        """Checks what AND, OR and NOT join: both engines would take a bare value for true."""
        if not _is_truth(self.value(node, scope)):
            raise Refused(
                f"is not BOOLEAN: {text(node, self.rules.engine)} stands alone beside AND, OR or NOT; did you mean a "
                "comparison?"
            )

    @value.register(exp.Column)
    def _(self, node: exp.Column, scope: Scope) -> Value:
        return scope.column(node.name, node.table)

    @value.register(exp.Literal)
    def _(self, node: exp.Literal, scope: Scope) -> Value:
        if node.is_string:
            return known_text(numeric=reads_as_number(node.name), literal=True)
        return value(BIT if node.name in ("0", "1") else NUMBER)

    @value.register(exp.Null)
    def _(self, node: exp.Null, scope: Scope) -> Value:
        return NULL

    @value.register(exp.HexString)
    def _(self, node: exp.HexString, scope: Scope) -> Value:
        return value(BLOB)

    @value.register(exp.Boolean)
    def _(self, node: exp.Boolean, scope: Scope) -> Value:
        return value(TRUTH)

    @value.register(exp.Predicate)
    @value.register(exp.Escape)
    def _(self, node: exp.Expr, scope: Scope) -> Value:
        self._parts(node, scope)
        return value(TRUTH)

    @value.register(exp.Like)
    @value.register(exp.Glob)
    def _(self, node: exp.Binary, scope: Scope) -> Value:
        """No number looks like some texts: no time, counted in seconds, is like '2024-%'."""
        found, _ = self._read(node.this, scope), self._read(node.expression, scope)
        pattern = node.expression.name if isinstance(node.expression, exp.Literal) else ""
        if self._lax and found.kinds and found.kinds <= {NUMBER, TRUTH} and not may_be_like_a_number(pattern):
            said = text(node, self.rules.engine)
            raise Refused(f"compares a number with what none looks like: {said}. {_CURES[frozenset({NUMBER, TEXT})]}")
        return value(TRUTH)

    @value.register(exp.Match)
    def _(self, node: exp.Match, scope: Scope) -> Value:
        raise Refused("asks by MATCH, which only full-text tables know: ask by LIKE or GLOB")

    @value.register(exp.Connector)
    @value.register(exp.Not)
    def _(self, node: exp.Expr, scope: Scope) -> Value:
        for operand in _spread(node):
            self._operand(operand, scope)
        return value(TRUTH)

    @value.register(exp.EQ)
    @value.register(exp.NEQ)
    @value.register(exp.GT)
    @value.register(exp.GTE)
    @value.register(exp.LT)
    @value.register(exp.LTE)
    @value.register(exp.NullSafeEQ)
    @value.register(exp.NullSafeNEQ)
    def _(self, node: exp.Binary, scope: Scope) -> Value:
        self.compare(node, zip(self._row(node.left, scope), self._row(node.right, scope), strict=False))
        return value(TRUTH)

    @value.register(exp.Is)
    def _(self, node: exp.Is, scope: Scope) -> Value:
        """Of a text SQLite asks whether the number that it begins with is 0: 'true' is not true."""
        found = self._read(node.this, scope)
        if self._lax and isinstance(node.expression, exp.Boolean):
            self.compare(node, [(found, self.value(node.expression, scope))])
        return value(TRUTH)

    @value.register(exp.Between)
    def _(self, node: exp.Between, scope: Scope) -> Value:
        found = self._row(node.this, scope)
        for bound in (node.args["low"], node.args["high"]):
            self.compare(node, zip(found, self._row(bound, scope), strict=False))
        return value(TRUTH)

    @value.register(exp.In)
    def _(self, node: exp.In, scope: Scope) -> Value:
        found = self._row(node.this, scope)
        query = node.args.get("query")
        for item in node.expressions:
            self._in_list(node, found, item, scope)
        if isinstance(query, exp.Subquery) and isinstance(query.this, exp.Subquery):
            self._in_list(node, found, query, scope)  # in ((select …)): its first row, as an expression
        else:
            self.compare(node, zip(found, self._row(query, scope), strict=False))
        if node.args.get("field"):  # the name of a table
            self.compare(
                node, zip(found, (each for _, each in scope.table(node.args["field"].name) or ()), strict=False)
            )
        return value(TRUTH)

    def _in_list(self, node: exp.In, found: list[Value], item: exp.Expr, scope: Scope) -> None:
        """What stands in a list has no affinity."""
        self.compare(node, zip(found, (each.bare for each in self._row(item, scope)), strict=False))

    @value.register(exp.Exists)
    def _(self, node: exp.Exists, scope: Scope) -> Value:
        self._row(node.this, scope)
        return value(TRUTH)

    @value.register(exp.Query)
    @value.register(exp.Tuple)
    @value.register(exp.Any)
    @value.register(exp.All)
    def _(self, node: exp.Expr, scope: Scope) -> Value:
        found = self._row(node, scope)
        return found[0] if len(found) == 1 else self.rules.unknown

    @value.register(exp.Paren)
    @value.register(exp.Collate)
    @value.register(exp.Alias)
    @value.register(exp.Window)
    @value.register(exp.IgnoreNulls)
    @value.register(exp.RespectNulls)
    @value.register(exp.Order)
    def _(self, node: exp.Expr, scope: Scope) -> Value:
        first, *_ = self._parts(node, scope)
        return first

    @value.register(exp.Ordered)
    def _(self, node: exp.Ordered, scope: Scope) -> Value:
        """What decides which rows are the first ones."""
        found = self._read(node.this, scope)
        if self._lax and found.kinds != self.rules.unknown.kinds:
            self.compare(node, [(found, found)])
        return found

    @value.register(exp.Filter)
    def _(self, node: exp.Filter, scope: Scope) -> Value:
        truth(self, node.expression.this, scope)
        return self.value(node.this, scope)

    @value.register(exp.Distinct)
    def _(self, node: exp.Distinct, scope: Scope) -> Value:
        return next(iter(self._parts(node, scope)), NULL)

    @value.register(exp.Add)
    @value.register(exp.Sub)
    @value.register(exp.Mul)
    @value.register(exp.Div)
    @value.register(exp.IntDiv)
    @value.register(exp.Mod)
    @value.register(exp.Neg)
    @value.register(exp.BitwiseAnd)
    @value.register(exp.BitwiseOr)
    @value.register(exp.BitwiseNot)
    @value.register(exp.BitwiseLeftShift)
    @value.register(exp.BitwiseRightShift)
    def _(self, node: exp.Expr, scope: Scope) -> Value:
        return self.rules.calculated([self._number(each, scope) for each in _spread(node)])

    @value.register(exp.DPipe)
    def _(self, node: exp.DPipe, scope: Scope) -> Value:
        """With a beginning or an end that no number has, it is none."""
        parts = _spread(node)
        found = self.rules.joined([self.value(each, scope) for each in parts])
        edges = [(parts[0], "({}) || '0'"), (parts[-1], "'0' || ({})")] if self._lax else []
        constant = [form.format(text(edge, "sqlite")) for edge, form in edges if _is_constant(edge)]
        return replace(found, worded=not all(map(self._asked, constant)))

    @value.register(exp.Cast)
    def _(self, node: exp.Cast, scope: Scope) -> Value:
        found = self.rules.declared(text(node.to, self.rules.engine))
        counts = found.kinds & {NUMBER, TRUTH}
        given = self._number(node.this, scope) if counts else self.value(node.this, scope)
        return replace(found, numeric=given.kinds <= {NUMBER, BIT, TRUTH})

    @value.register(exp.Case)
    def _(self, node: exp.Case, scope: Scope) -> Value:
        for branch in node.args["ifs"]:
            if node.this:
                self.compare(node, zip(self._row(node.this, scope), self._row(branch.this, scope), strict=False))
            else:
                truth(self, branch.this, scope)
        given = [branch.args["true"] for branch in node.args["ifs"]] + [node.args.get("default")]
        return self._one_of(node, [self._read(each, scope) for each in given if each is not None])

    @value.register(exp.JSONExtract)
    def _(self, node: exp.JSONExtract, scope: Scope) -> Value:
        self._parts(node, scope)
        return self.rules.function("->", [])

    @value.register(exp.JSONExtractScalar)
    def _(self, node: exp.JSONExtractScalar, scope: Scope) -> Value:
        self._parts(node, scope)
        return value(TEXT) if holds_texts(node.this) else self.rules.function("->>", [])

    @value.register(exp.Func)
    def _(self, node: exp.Func, scope: Scope) -> Value:
        """A function that the parser knows: DuckDB's, with a syntax of their own; and current_date."""
        return self._call(node.sql_name().lower(), node, list(node.iter_expressions()), scope)

    @value.register(exp.Anonymous)
    def _(self, node: exp.Anonymous, scope: Scope) -> Value:
        return self._call(node.name.lower(), node, node.expressions, scope)

    def _call(self, name: str, node: exp.Expr, arguments: Sequence[exp.Expr], scope: Scope) -> Value:
        if name in BRANCHES and arguments:
            return self._branches(node, arguments, scope)
        numbers = made_numbers(name, arguments)
        found = [(self._number if at in numbers else self._read)(each, scope) for at, each in enumerate(arguments)]
        if name == "json_extract" and arguments and holds_texts(arguments[0]):
            return value(TEXT)
        if name == "+":
            return found[0].bare
        if name in ONE_OF or (name in ("max", "min") and len(found) > 1 and self._lax):
            return self._one_of(node, found, compared=name not in ("coalesce", "ifnull"))
        if name in OR_DEFAULT:
            return self._one_of(node, [*found[:1], *found[2:]])
        if name == "nullif" and len(found) == 2:
            self.compare(node, [(found[0].bare, found[1].bare)])
        if name in FIRST and found:
            return replace(found[0], affinities=found[0].affinities | {""} if name in HINTS else frozenset({""}))
        if name == "strftime" and self._lax and arguments and isinstance(arguments[0], exp.Literal):
            return known_text(numeric=self._asked(f"strftime({text(arguments[0], 'sqlite')}, 'now')"))
        return self.rules.function(name, found)

    @property
    def _lax(self) -> bool:
        return self.rules.engine == "sqlite"

    def _branches(self, node: exp.Expr, arguments: Sequence[exp.Expr], scope: Scope) -> Value:
        """``iif(this, that, this, that, else)``."""
        pairs = len(arguments) // 2 * 2
        for condition in arguments[:pairs:2]:
            truth(self, condition, scope)
        return self._one_of(node, [self._read(each, scope) for each in (*arguments[1:pairs:2], *arguments[pairs:])])

    def _one_of(self, node: exp.Expr, found: list[Value], compared: bool = False) -> Value:
        """DuckDB gives them one type; ``compared``: the function itself compares them."""
        mixed = NULL
        for each in found:
            if compared or not self._lax:
                self.compare(node, [(mixed.bare, each.bare)])
            mixed = self.rules.mixed([mixed, each]) if mixed.kinds else each.bare
        return mixed


def _is_constant(node: exp.Expr) -> bool:
    """Whether it is the same for every row."""
    return not any(node.find_all(*_CHANGING))


def _spread(node: exp.Expr) -> list[exp.Expr]:
    """The operands of ``a or b or c``, which may be thousands, without recursion."""
    found: list[exp.Expr] = []
    while isinstance(node.this, type(node)):
        *more, node = reversed(list(node.iter_expressions()))
        found += more
    return [*node.iter_expressions(), *reversed(found)]


_NOUNS = {NUMBER: "a number", TEXT: "a text", BLOB: "a blob", TRUTH: "true or false"}
_CURES = {
    frozenset({NUMBER, TEXT}): "Write a number without quotes, a text in quotes, cast(… as integer) around a text that "
    "is a number, cast(… as text) around what may be either, and for dates age_days > 90",
    frozenset({NUMBER, TRUTH}): "Join two comparisons by AND",
}


def _mixed_up(where: str, clash: tuple[str, str], engine: str) -> str:
    one, other = sorted(clash)
    says_nothing = (
        ". SQLite finds every number less than every text"
        if engine == "sqlite" and {one, other} == {NUMBER, TEXT}
        else ""
    )
    cure = _CURES.get(frozenset(clash), "Cast one to the other's type")
    return f"compares {_NOUNS[one]} with {_NOUNS[other]}: {where}{says_nothing}. {cure}"
