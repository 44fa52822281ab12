"""Adds a condition to conf.json: everything else in the file stays as it was written, byte for byte."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from regdata.config import Config, ConfigWarning, check_config, load_config
from regdata.errors import ConfigError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
# `none` stands for no clean-up; papermill's -p makes something else than a text of the others.
RESERVED = {"none", "null", "true", "false", "nan", "inf", "infinity"}
SPACE = " \t\n\r"


def add_condition(path: str | Path, name: str, condition: str, *, replace: bool = False) -> Config:
    """Writes ``condition`` under ``name`` into the conf.json at ``path``, at once; returns what the file now says.

    Raises ConfigError, and leaves the file as it was, when the name is not one or is taken (unless ``replace``), when
    the file would not be valid afterwards, or can't be written.
    """
    if not NAME.fullmatch(name) or name.lower() in RESERVED:
        raise ConfigError(
            f"{name!r} can't be a condition's name: it begins with a letter, has at most 100 letters, digits, '_', '-' "
            f"and '.', and is none of {', '.join(sorted(RESERVED))}"
        )
    old = load_config(path)
    file = old.path.resolve()  # a link stays a link
    if name in old.sql and not replace:
        raise ConfigError(f"{file} has a condition {name!r} already: {old.sql[name]}. Replace it, or take another name")
    try:
        data = with_condition(file.read_bytes().decode(), name, condition).encode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConfigWarning)  # load_config has just said it
            new = check_config(old.path, data)
        if new.sql != old.sql | {name: condition}:
            raise ConfigError(
                f"{name}: conf.json can't hold this condition: ${{…}} in it would be an environment variable"
            )
        _replace(file, data)
    except UnicodeEncodeError:
        raise ConfigError(f"{name}: the condition holds half a character, which no file can: type it again") from None
    except OSError as error:
        raise ConfigError(f"{file} can't be written ({error.strerror}): it is as it was") from None
    return new


def with_condition(text: str, name: str, condition: str) -> str:
    """The text of a conf.json with ``condition`` under ``name``, written as its neighbours are."""
    top = _members(text, text.index("{"))
    sql = next(member for member in top if member.key == "sql")
    members = _members(text, sql.value)
    value = json.dumps(condition, ensure_ascii=False)
    for member in members:
        if member.key == name:
            return text[: member.value] + value + text[member.end :]
    if not members:
        gap, end = _gap(text, top, sql)
        colon = text[sql.after_key : sql.value]
        return f"{text[: sql.value]}{{{gap}{json.dumps(name)}{colon}{value}{end}}}{text[sql.end :]}"
    last = members[-1]
    colon = text[last.after_key : last.value]
    if len(members) > 1:
        separator = text[members[-2].end : last.start]
    else:
        before = text[sql.value + 1 : last.start]
        separator = "," + (before if "\n" in before else " " if colon.endswith(" ") else "")
    return f"{text[: last.end]}{separator}{json.dumps(name)}{colon}{value}{text[last.end :]}"


class _Member(NamedTuple):
    """One member of a JSON object: its key, and where in the text key and value begin and end."""

    key: str
    start: int
    after_key: int
    value: int
    end: int


def _members(text: str, start: int) -> list[_Member]:
    """The members of the object that begins at ``start``, in valid JSON."""
    decode = json.JSONDecoder().raw_decode
    found: list[_Member] = []
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, after_key = decode(text, at)
        value = _skip(text, after_key, ":")
        _, end = decode(text, value)
        found.append(_Member(key, at, after_key, value, end))
        at = _skip(text, end, ",")
    return found


def _skip(text: str, at: int, sign: str = "") -> int:
    """Where the next token begins, after white space and at most one ``sign``."""
    while text[at] in SPACE + sign:
        at += 1
    return at


def _gap(text: str, top: list[_Member], sql: _Member) -> tuple[str, str]:
    """What comes before and after the first member of the empty object ``sql``: as deep again as its own key is."""
    before = text[text.index("{") + 1 : top[0].start]
    _, newline, indent = before.rpartition("\n")
    if not newline:
        return "", ""
    newline = "\r\n" if "\r\n" in before else "\n"
    return newline + 2 * indent, newline + indent


def _replace(file: Path, data: bytes) -> None:
    """Puts ``data`` in the file's place: a crash leaves the old one or the new one, whole. Mode and owner stay."""
    was = file.stat()
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "wb") as writing:
            writing.write(data)
            with suppress(PermissionError):  # the file is ours then, as with an editor
                os.fchown(writing.fileno(), was.st_uid, was.st_gid)
            os.fchmod(writing.fileno(), stat.S_IMODE(was.st_mode))
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(draft, file)
    except BaseException:
        os.unlink(draft)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
