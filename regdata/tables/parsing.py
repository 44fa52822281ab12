"""The text of a condition -> its expression, as the engine that reads it would parse it."""

from __future__ import annotations

from typing import Any, ClassVar

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.sqlite import SQLite
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.parsers.sqlite import SQLiteParser

from regdata.tables.schema import Engine


class Refused(Exception):
    """Why a condition that the engine would run is not run; the text follows the condition's name and text."""


class _SQLiteParser(SQLiteParser):
    """As it is written: each call by its own name, types as they are spelled, and the sign in ``+column``."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {"CAST": lambda self: self.cast()}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {"CASE": lambda self: self._parse_case()}
    UNARY_PARSERS: ClassVar[dict[Any, Any]] = SQLiteParser.UNARY_PARSERS | {
        TokenType.PLUS: lambda self: self.expression(exp.Anonymous(this="+", expressions=[self._parse_unary()])),
    }

    def cast(self) -> exp.Expr:
        this = self._parse_disjunction()
        if not self._match(TokenType.ALIAS):
            self.raise_error("Expected AS after CAST")
        words = []
        while self._curr and self._curr.token_type not in (TokenType.R_PAREN, TokenType.L_PAREN):
            words.append(self._curr.text)
            self._advance()
        if self._match(TokenType.L_PAREN):  # (10, 2): of no consequence
            self._parse_csv(self._parse_unary)
            self._match_r_paren()
        to = exp.DataType(this=exp.DType.USERDEFINED, kind=" ".join(words))
        return self.expression(exp.Cast(this=this, to=to))


class _DuckDBParser(DuckDBParser):
    FUNCTIONS: ClassVar[dict[str, Any]] = {}


class _SQLite(SQLite):
    Parser = _SQLiteParser

    def to_json_path(self, path: exp.Expr | None) -> exp.Expr | None:
        """As it is written: what it means is SQLite's own."""
        return path


class _DuckDB(DuckDB):
    Parser = _DuckDBParser


_DIALECTS: dict[Engine, type[Dialect]] = {"duckdb": _DuckDB, "sqlite": _SQLite}


def parse(condition: str, engine: Engine) -> exp.Expr:
    """The expression. Raises Refused where it is not one, sqlglot.errors.SqlglotError where it can't be parsed."""
    statement = sqlglot.parse_one(f"SELECT 1 FROM images WHERE (\n{condition}\n)", read=_DIALECTS[engine])
    where = statement.args.get("where")
    clauses = {name for name, value in statement.args.items() if value}
    if (
        where is None
        or not isinstance(where.this, exp.Paren | exp.Subquery)
        or clauses != {"expressions", "from_", "where"}
    ):
        raise Refused("closes a parenthesis that it does not open")
    # `main.images` is the table even where a query of the condition's own is called images.
    for part in where.find_all(exp.Table, exp.Column):
        if (schema := part.text("db").lower()) in _SCHEMAS or (schema and isinstance(part, exp.Table)):
            raise Refused(f"names a schema: {text(part, engine)}. Leave {schema} out")
    return where.this


_SCHEMAS = ("main", "temp")


def text(node: exp.Expr, engine: Engine) -> str:
    """The SQL of a part of a condition, much as it was written."""
    return node.sql(_DIALECTS[engine], normalize_functions=False)


def bracketed(condition: str) -> str:
    """``"name"`` as ``[name]``: SQLite silently reads an unknown name in double quotes as a text, in brackets never."""
    for token in reversed(sqlglot.tokenize(condition, read="sqlite")):
        if token.token_type is TokenType.IDENTIFIER and condition[token.start] == '"':
            if "]" in token.text:
                raise Refused(f"names {token.text!r}: no column or table has a ] in its name")
            condition = f"{condition[: token.start]}[{token.text}]{condition[token.end + 1 :]}"
    return condition
