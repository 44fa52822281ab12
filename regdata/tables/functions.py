"""What the functions of the engines give."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import cache

import duckdb
from sqlglot import exp

from regdata.tables.values import BLOB, NUMBER, TEXT, TRUTH, Value, duckdb_kind, known_text, value

# https://sqlite.org/lang_corefunc.html, lang_aggfunc.html, lang_datefunc.html, lang_mathfunc.html,
# windowfunctions.html, json1.html. Those that give what they are given are not here, see below.
_NUMBERS = """abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling changes cos cosh count cume_dist degrees
    dense_rank exp floor instr json_array_length json_error_position julianday last_insert_rowid length ln log log10
    log2 median mod ntile octet_length percent_rank percentile percentile_cont percentile_disc pi pow power radians
    random rank round row_number sign sin sinh sqrt subtype sum tan tanh total total_changes trunc unicode unixepoch"""
_TEXTS = """char concat concat_ws format group_concat hex json json_array json_group_array json_group_object
    json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set lower ltrim printf
    replace rtrim soundex sqlite_compileoption_get sqlite_source_id sqlite_version strftime string_agg trim unistr
    upper"""
# Of these no text reads as a number, whatever they are given.
_WORDS = "current_date current_time current_timestamp date datetime json_type time timediff typeof"
_BLOBS = """jsonb jsonb_array jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove
    jsonb_replace jsonb_set randomblob unhex zeroblob"""
_TRUTHS = "glob json_valid like match regexp sqlite_compileoption_used"

_KINDS = (
    (value(NUMBER), _NUMBERS),
    (value(TEXT), _TEXTS),
    (known_text(numeric=False), _WORDS),
    (value(BLOB), _BLOBS),
    (value(TRUTH), _TRUTHS),
)
SQLITE = {name: kind for kind, names in _KINDS for name in names.split()} | {
    "->": value(TEXT),
    "substr": value(TEXT, BLOB),
    "substring": value(TEXT, BLOB),
}

# What gives its first argument, or another that is no condition.
_FIRST = """any_value arbitrary first first_value last last_value likelihood likely max median min mode nth_value nullif
    quantile quantile_disc unlikely"""
FIRST = frozenset(_FIRST.split())
ONE_OF = frozenset(["coalesce", "greatest", "ifnull", "least"])
OR_DEFAULT = frozenset(["lag", "lead"])
HINTS = frozenset(["likelihood", "likely", "unlikely"])  # which may leave a column its affinity
# What makes a number of each argument.
_CALCULATING = frozenset(
    ["abs", "avg", "ceil", "ceiling", "floor", "mod", "pow", "power", "round", "sign", "sqrt", "sum", "total", "trunc"]
)
BRANCHES = frozenset(["if", "iif"])
_FORMATTING = frozenset(["format", "printf"])
_CONVERSION = re.compile(r"%[-+ 0,!#]*(\*|\d*)(?:\.(\*|\d*))?l{0,2}(.)")


def made_numbers(name: str, arguments: Sequence[exp.Expr]) -> Collection[int]:
    """Of which of its arguments a function makes a number. https://sqlite.org/printf.html"""
    if name in _CALCULATING:
        return range(len(arguments))
    if name not in _FORMATTING or not arguments or not isinstance(arguments[0], exp.Literal):
        return ()
    taken = [False]
    for width, precision, kind in _CONVERSION.findall(arguments[0].name):
        taken += [True] * [width, precision].count("*")
        if kind not in "%n":
            taken.append(kind not in "cqQswz")
    return {position for position, number in enumerate(taken) if number}


def duckdb_returns(connection: duckdb.DuckDBPyConnection) -> Callable[[str], Value | None]:
    """What DuckDB's own catalogue says, for functions that always give the same kind."""

    @cache
    def kinds() -> dict[str, Value]:
        rows = connection.execute("SELECT function_name, list(DISTINCT return_type) FROM duckdb_functions() GROUP BY 1")
        found = {name: {duckdb_kind(kind) for kind in types if kind} for name, types in rows.fetchall()}
        return {name: value(*kinds) for name, kinds in found.items() if len(kinds) == 1}

    return lambda name: kinds().get(name)
