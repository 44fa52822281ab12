"""What an expression can give, and what the two engines make of a comparison of two of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from regdata.tables.schema import Engine

NUMBER, TEXT, BLOB = "number", "text", "blob"
TRUTH = "truth"  # the result of a comparison and the like, and a column of type BOOLEAN
BIT = "bit"  # 0 and 1 as they are written: a number that a truth may be compared with
OTHER = "other"  # a date, a list …: DuckDB itself sees to it that they are not compared with anything else


@dataclass(frozen=True)
class Value:
    """What an expression can give besides NULL.

    affinities: those that it may have in SQLite ("" for none, https://sqlite.org/datatype3.html section 3). numeric:
    whether each text among it reads as a number; worded: whether it is known that none does. literal: whether it is a
    text as it is written.
    """

    kinds: frozenset[str]
    affinities: frozenset[str] = frozenset({""})
    numeric: bool = False
    literal: bool = False
    worded: bool = False

    @property
    def bare(self) -> Value:
        """The same as an expression: only columns and casts have an affinity."""
        return replace(self, affinities=frozenset({""}))


def value(*kinds: str, affinity: str = "") -> Value:
    return Value(frozenset(kinds), frozenset({affinity}))


def known_text(*, numeric: bool, literal: bool = False) -> Value:
    """A text of which it is known whether it reads as a number."""
    return Value(frozenset({TEXT}), numeric=numeric, literal=literal, worded=not numeric)


NULL = value()
_ANYTHING = value(NUMBER, TEXT, BLOB)
_SOMETHING = value(OTHER)


class Rules(Protocol):
    """What differs between the engines."""

    @property
    def engine(self) -> Engine: ...

    @property
    def unknown(self) -> Value: ...

    def declared(self, kind: str) -> Value:
        """A column or a cast of this type."""

    def function(self, name: str, arguments: list[Value]) -> Value:
        """What a function gives."""

    def calculated(self, values: list[Value]) -> Value:
        """What arithmetic gives."""

    def joined(self, values: list[Value]) -> Value:
        """What ``||`` gives."""

    def mixed(self, values: Iterable[Value]) -> Value:
        """Any of ``values``: of a CASE, coalesce and the like."""

    def stacked(self, one: Value, other: Value) -> Value:
        """A column of a UNION."""

    def clash(self, one: Value, other: Value) -> tuple[str, str] | None:
        """The kinds that a comparison of the two may meet and that can't be compared."""


def reads_as_number(text: str) -> bool:
    """Whether SQLite makes a number of a text that is compared with a numeric column."""
    return re.fullmatch(r"[ \t-\r]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t-\r]*", text) is not None


def may_be_like_a_number(pattern: str) -> bool:
    """Whether some number may look as a pattern of LIKE or GLOB asks."""
    return re.fullmatch(r"-?(?:[0-9.%_*?]|\[[^\]]*\])*", pattern) is not None


def _union(values: Iterable[Value]) -> Value:
    found = list(values)
    texts = [each for each in found if TEXT in each.kinds]
    return Value(
        frozenset().union(*(each.kinds for each in found)),
        frozenset().union(*(each.affinities for each in found)) or frozenset({""}),
        all(each.numeric for each in texts),
        bool(texts) and all(each.literal for each in texts),
        bool(texts) and all(each.worded for each in texts),
    )


def _truth_and_number(one: Value, other: Value) -> tuple[str, str] | None:
    if (TRUTH in one.kinds and NUMBER in other.kinds) or (NUMBER in one.kinds and TRUTH in other.kinds):
        return TRUTH, NUMBER
    return None


@dataclass(frozen=True)
class SQLite:
    """A value has a storage class, and those of different classes are never equal; an affinity may convert one."""

    returns: Mapping[str, Value]
    engine: Engine = "sqlite"
    unknown: Value = _ANYTHING

    def declared(self, kind: str) -> Value:
        """https://sqlite.org/datatype3.html section 3.1."""
        kind = kind.upper()
        if "INT" in kind:
            return value(NUMBER, affinity=NUMBER)
        if any(word in kind for word in ("CHAR", "CLOB", "TEXT")):
            return value(TEXT, affinity=TEXT)
        if "BLOB" in kind or not kind:
            return value(BLOB, affinity=BLOB)
        return value(TRUTH if kind == "BOOLEAN" else NUMBER, affinity=NUMBER)

    def function(self, name: str, arguments: list[Value]) -> Value:
        found = self.returns.get(name, self.unknown)
        if name in ("substr", "substring") and arguments and BLOB not in arguments[0].kinds:
            return value(TEXT)
        return found

    def calculated(self, values: list[Value]) -> Value:
        return value(NUMBER)

    def joined(self, values: list[Value]) -> Value:
        return value(TEXT)

    def mixed(self, values: Iterable[Value]) -> Value:
        return _union(values).bare

    def stacked(self, one: Value, other: Value) -> Value:
        """Which affinity it has SQLite leaves open (section 3.3)."""
        return _union([one, other])

    def clash(self, one: Value, other: Value) -> tuple[str, str] | None:
        """Section 4.2. That a number beside a text column becomes a text is taken for a slip: '10' < '9' then."""
        for converts in {NUMBER in (a, b) for a in one.affinities for b in other.affinities}:
            for a in _stored(one, converts):
                for b in _stored(other, converts):
                    if a != b:
                        return a, b
        return _truth_and_number(one, other)


def _stored(each: Value, converts: bool) -> set[str]:
    text = NUMBER if converts and each.numeric else TEXT
    return {{TEXT: text, BLOB: BLOB}.get(kind, NUMBER) for kind in each.kinds}


@dataclass(frozen=True)
class DuckDB:
    """It refuses most comparisons of different types, and casts a text as it is written to the other side's type.

    What it lets through: ``=``, IN, nullif and CASE cast a text column to the number's type, which fails only where a
    row gets there; true and false count as 1 and 0; a UNION of a number and a text is a text.
    """

    returns: Callable[[str], Value | None]
    engine: Engine = "duckdb"
    unknown: Value = _SOMETHING

    def declared(self, kind: str) -> Value:
        return value(duckdb_kind(kind))

    def function(self, name: str, arguments: list[Value]) -> Value:
        return self.returns(name) or self.unknown

    def calculated(self, values: list[Value]) -> Value:
        """Dates and lists can be added, too."""
        return value(NUMBER) if all(each.kinds <= {NUMBER, BIT} for each in values) else self.unknown

    def joined(self, values: list[Value]) -> Value:
        return value(TEXT) if all(OTHER not in each.kinds for each in values) else self.unknown

    def mixed(self, values: Iterable[Value]) -> Value:
        """A text as it is written takes the type of the others."""
        found = list(values)
        return _union([each for each in found if not each.literal] or found)

    def stacked(self, one: Value, other: Value) -> Value:
        return replace(_union([one, other]), literal=False)

    def clash(self, one: Value, other: Value) -> tuple[str, str] | None:
        for a, b in ((one, other), (other, one)):
            if TEXT in a.kinds and b.kinds & {NUMBER, BIT} and not (a.literal and a.numeric):
                return TEXT, NUMBER
            if TEXT in a.kinds and TRUTH in b.kinds and not a.literal:
                return TEXT, TRUTH
        return _truth_and_number(one, other)


def duckdb_kind(kind: str) -> str:
    """https://duckdb.org/docs/stable/sql/data_types/overview."""
    name = re.match(r"[A-Z_0-9 ]*", kind.upper())
    if kind.endswith("]") or name is None:
        return OTHER
    word = name.group().strip()
    if word in {"VARCHAR", "TEXT", "STRING", "CHAR", "BPCHAR", "NVARCHAR"}:
        return TEXT
    if word in {"BOOLEAN", "BOOL", "LOGICAL"}:
        return TRUTH
    if word in {"BLOB", "BYTEA", "BINARY", "VARBINARY"}:
        return BLOB
    return NUMBER if re.search(r"INT$|INTEGER$|^INT\d?$|LONG|SHORT|SIGNED|DOUBLE|FLOAT|REAL|DEC|NUM", word) else OTHER
