"""Why a condition can't be read, in one line that says what to do."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from difflib import get_close_matches

import duckdb
from sqlglot.errors import SqlglotError

from regdata.errors import ConditionError
from regdata.show.words import shorten
from regdata.tables.parsing import Refused
from regdata.tables.reading import MEMORY, SESSIONS, DuckDBSession, SQLiteSession
from regdata.tables.schema import TABLES, Engine, mentioned

LONGEST = 400  # characters of what an engine says: it may repeat all of a condition
NAMES: dict[Engine, str] = {"duckdb": "DuckDB", "sqlite": "SQLite"}


class Interrupted(Exception):
    """It was stopped."""


@contextmanager
def explained(what: str, sql: str, engine: Engine, *, condition: bool) -> Iterator[None]:
    """Why ``sql`` can't be read, as a ConditionError of one line; ``what`` names it. Raises Interrupted, too."""
    try:
        sql.encode()
        yield
    except UnicodeEncodeError:
        raise ConditionError(f"{what} holds half a character, which no text can: type it again") from None
    except Refused as error:
        said = shorten(str(error), LONGEST)
        raise ConditionError(f"{what} {said}", f"it {said}") from None
    except RecursionError:
        raise ConditionError(
            f"{what.split()[0]} of {len(sql)} characters is nested too deeply: write it with fewer parentheses"
        ) from None
    except (MemoryError, SystemError, duckdb.OutOfMemoryException):  # sqlite3 raises the second for the first
        said = f"needs more than {MEMORY // 1_000_000} MB beside the tables"
        raise ConditionError(f"{what}, read by {engine}, {said}: let it look at less", f"it {said}") from None
    except SqlglotError as error:
        said = f"can't be checked ({_first_line(error)})"
        raise ConditionError(f"{what} {said}: write it in another way", f"it {said}") from None
    except (duckdb.Error, sqlite3.Error) as error:
        said = _first_line(error)
        if isinstance(error, duckdb.InterruptException) or said == "interrupted":
            raise Interrupted from None
        cure = (condition and _begun(said, sql)) or _meant(said, sql) + (
            _elsewhere(said, sql, engine) if condition else ""
        )
        columns = ", ".join(TABLES["images"])
        raise ConditionError(
            f"{what}, read by {engine}: {said}{cure or '.'} Columns of images: {columns}", said
        ) from None


def _first_line(error: Exception) -> str:
    return shorten(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[0].rstrip("!."), LONGEST)


_UNKNOWN = (
    r"no such (?:column|table): (.+)",
    r'Referenced (?:column|table) "(.+?)"',
    r"Table with name (\w+) does",
    r'does not have a column named "(\w+)"',
)


_VERY = 0.8  # how like a name has to be to another to be taken for it though it may be a text
_BEGINS = re.compile(r"\s*(?:where\b|select\b.*?\bwhere\b|select\b)", re.IGNORECASE | re.DOTALL)
# What is pasted from a page instead of a space: DuckDB reads it as one, SQLite as a part of a name.
_SPACE = re.compile("[\\u00a0\\u2000-\\u200b\\u202f\\u3000\\ufeff]")


def _begun(said: str, condition: str) -> str:
    """That it is no condition, or only the beginning of one."""
    if begins := _BEGINS.match(condition):
        return f". A condition is what stands after WHERE: leave {' '.join(begins[0].split())!r} out."
    if 'near ")"' in said and ")" not in condition:
        return ". It ends where something should follow."
    if "no such column" in said and (odd := _SPACE.search(condition)):
        return f". It holds U+{ord(odd[0]):04X}, which looks like a space and is none: type that again."
    return ""


def _meant(said: str, sql: str) -> str:
    """The name that an unknown one is most like."""
    known = [*(column for table in ["images", *mentioned(sql)] for column in TABLES[table]), *TABLES]
    for name in (name for pattern in _UNKNOWN for name in re.findall(pattern, said)):
        if f'"{name}"' in sql or re.search(rf"(?:=|<>|like|in\s*\()\s*{re.escape(name)}(?!\w)", sql, re.IGNORECASE):
            near = get_close_matches(name.lower(), known, 1, _VERY)
            return f". Text goes in single quotes: '{name}'{f'; or did you mean {near[0]}?' if near else '.'}"
        name = name.rpartition(".")[2]
        # Of t.x, where x is unknown, DuckDB may say that t is.
        for each in map(str.lower, (name, *re.findall(rf"\b{re.escape(name)}\.(\w+)", sql))):
            whole = [one for one in known if one in (f"{each}_name", f"tag_{each}", f"{each}_days")]
            for like in [*whole, *get_close_matches(each, known, 1)] if each not in known else ():
                return f", did you mean {like}?"
    return ""


def _elsewhere(said: str, condition: str, engine: Engine) -> str:
    """That the other engine reads it, or has the function that is unknown here."""
    other: Engine = "sqlite" if engine == "duckdb" else "duckdb"
    with closing(SESSIONS[other]()) as session:
        unknown = re.search(r"(?:no such function: |Function with name )(\w+)", said)
        if _reads(session, condition):
            does = "reads it"
        elif unknown and unknown[1].lower() in session.functions():
            does = f"has {unknown[1]}"
        elif unknown and other == "duckdb" and unknown[1].lower().startswith("regexp"):
            does = "has regexp_matches"
        else:
            return ""
    return f'. {NAMES[other]} {does}: if that is meant, set "engine": "{other}" in conf.json.'


def _reads(session: DuckDBSession | SQLiteSession, condition: str) -> bool:
    for table in TABLES:
        session.load(table, ())
    try:
        doubted = session.prepare(condition)
    except (Refused, SqlglotError, duckdb.Error, sqlite3.Error):
        return False
    return not doubted  # the more lenient engine is no cure
