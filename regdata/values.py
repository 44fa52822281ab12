"""The kinds of values that conf.json may hold, each with its check.

The context of a validation is the folder of the file, to which paths are relative.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo


def _url(value: str) -> str:
    parts = urlsplit(value)  # ValueError: a broken IPv6 address; parts.port raises it too
    well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not well_formed or re.search(r"[\s?#@]", value):
        raise ValueError("not a registry's URL")
    return value.rstrip("/")


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("empty")
    return value


def blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _path(value: object, info: ValidationInfo) -> object:
    """Relative to the folder of conf.json, the context; `~` is a folder of that name."""
    folder: Any = info.context
    if isinstance(value, str):
        value = Path(_not_blank(value))
    return folder / value if isinstance(value, Path) else value


def _cache(value: object, info: ValidationInfo) -> object:
    if value is None or value is True:
        raise ValueError("neither a folder nor false")
    return None if value is False else _path(value, info)


def default_cache() -> Path | None:
    """The user's own; XDG Base Directory Specification: $XDG_CACHE_HOME, which must be absolute, else ~/.cache."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".cache") / "regdata"
    except RuntimeError:  # a user without a home
        return None


def _argv(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _several(value: object) -> tuple[str, ...]:
    """Texts; one stands for itself."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts:
        raise ValueError("neither a text nor a list of texts")
    return tuple(_not_blank(text) if isinstance(text, str) else _not_blank("") for text in texts)


def _paths(value: object, info: ValidationInfo) -> object:
    return tuple(_path(text, info) for text in _several(value))


def _lists(value: object, info: ValidationInfo) -> object:
    """A text is a file; a list of texts in the list is a command."""
    if not isinstance(value, list) or not value:
        raise ValueError("not a list")
    return tuple(_several(item) if isinstance(item, list) else _path(_several(item)[0], info) for item in value)


def _with_cert(value: Path | None, info: ValidationInfo) -> Path | None:
    if value is not None and info.data.get("cert") is None:
        raise ValueError("without a certificate")
    return value


def _repository(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9*?\[\]!_.-]+(/[a-z0-9*?\[\]!_.-]+)*", value):
        raise ValueError("neither a repository's name nor a pattern of names")
    return value


Url = Annotated[str, AfterValidator(_url)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
Condition = Annotated[str, AfterValidator(_not_blank)]
Folder = Annotated[Path, BeforeValidator(_path)]
Argv = Annotated[tuple[str, ...], BeforeValidator(_argv), Field(min_length=1)]
Files = Annotated[tuple[Path, ...], BeforeValidator(_paths)]
Lists = Annotated[tuple[Path | tuple[str, ...], ...], BeforeValidator(_lists)]
Key = Annotated[Folder | None, AfterValidator(_with_cert)]
Repositories = Annotated[tuple[Annotated[str, AfterValidator(_repository)], ...], BeforeValidator(_argv)]
Cache = Annotated[Path | None, BeforeValidator(_cache)]
