"""The kinds of values that conf.json and parameters may hold, each with its check, and what is wrong in a line.

The context of a validation is the folder of the file, to which paths are relative.
"""

import difflib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo
from pydantic_core import ErrorDetails

from regdata.errors import ConfigError


def without_dots(path: Path) -> Path:
    """The same place without ``..``, which stands for something else behind a symbolic link."""
    return path.parent.resolve() / path.name if ".." in path.parts[:-1] else path


def identity(url: str, *, shown: str = "") -> str:
    """Which registry a URL means: host, port and path. ``shown``: the same with `${NAME}`; its path counts."""
    parts, written = urlsplit(url), shown.partition("://")[2].partition("/")
    host = (parts.hostname or "").rstrip(".")
    if host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){0,3}", host):
        host = "localhost"
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    path = written[2] if written[1] else parts.path
    return hashlib.sha256(f"{host}:{port}/{path.strip('/')}".encode()).hexdigest()[:32]


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
    return without_dots(folder / value) if isinstance(value, Path) else value


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
    part = r"(?:[a-z0-9*?\]_.-]|\[!?)+"  # a ! elsewhere looks like an exception, of which there are none
    if not re.fullmatch(f"{part}(?:/{part})*", value):
        raise ValueError("neither a repository's name nor a pattern of names")
    return value


def _name(value: str) -> str:
    """As references begin with it: a host, perhaps with a port and a path."""
    name = value.strip().rstrip("/")
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?(/[^\s/:@]+)*", name, re.ASCII):
        raise ValueError("no reference begins like this")
    return name


Url = Annotated[str, AfterValidator(_url)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
Names = Annotated[tuple[Annotated[str, AfterValidator(_name)], ...], BeforeValidator(_several)]
Condition = Annotated[str, AfterValidator(_not_blank)]
Folder = Annotated[Path, BeforeValidator(_path)]
Argv = Annotated[tuple[str, ...], BeforeValidator(_argv), Field(min_length=1)]
Files = Annotated[tuple[Path, ...], BeforeValidator(_paths)]
Lists = Annotated[tuple[Path | tuple[str, ...], ...], BeforeValidator(_lists)]
Key = Annotated[Folder | None, AfterValidator(_with_cert)]
Repositories = Annotated[tuple[Annotated[str, AfterValidator(_repository)], ...], BeforeValidator(_argv)]
Cache = Annotated[Path | None, BeforeValidator(_cache)]


def problem(root: type[BaseModel], detail: ErrorDetails, source: dict[str, Any]) -> str:
    """One line: the key, what the file says there (variables as written), what is wanted."""
    keys = detail["loc"]
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    model, wanted = _wanted(root, keys)
    if detail["type"] == "extra_forbidden":
        names = [field.alias or name for name, field in model.model_fields.items()]
        near = did_you_mean(str(keys[-1]), names)
        return f"{where}: unknown key{near}; the keys there are: {listing(names)}."
    if detail["type"] == "missing":
        return f"{where}: missing, wanted {wanted}."
    found: Any = source
    for key in keys:
        found = found[key]
    if where == "registry.url" and "@" in str(found):
        return f"{where}: found a user or password, wanted {wanted}."  # not to be shown
    if str(keys[0]).startswith("gc-") and isinstance(found, str) and found.strip():
        return f"{where}: found {found_there(found)}, wanted a list: {json.dumps(_split(found))}."
    return f"{where}: found {found_there(found)}, wanted {wanted}."


def _wanted(root: type[BaseModel], keys: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The section that the keys lead to, and the description of the last field on the way."""
    model = root
    wanted = ""
    rest = iter(keys)
    for key in rest:
        by_key = {field.alias or name: field for name, field in model.model_fields.items()}
        if key not in by_key:
            break
        field = by_key[str(key)]
        wanted = field.description or ""
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
        if get_origin(field.annotation) is dict:  # of sections, by a name
            next(rest, None)
    return model, wanted


def may_be_there(file: Path) -> bool:
    """Who may not look is told so when it is read."""
    try:
        file.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def no_text(value: str) -> str:
    """In words, what a JSON text can hold, and no path, argument, URL or condition."""
    if "\0" in value:
        return "the character NUL: take it out."
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return "half a character: write the whole one."
    return ""


def found_there(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an open quote
        return command.split()


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def listing(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(names), n=1)
    return f" (did you mean {quote(near[0])}?)" if near else ""


def json_cure(error: json.JSONDecodeError) -> str:
    """What to do about text that is no JSON, where people often go wrong."""
    before, there = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip(", \t\r\n")[:1]
    if there and there in "}]" and (before.endswith(",") or error.doc[error.pos] == ","):
        return f": a comma too many before {there}"
    if there and there in "\u201c\u201d\u201e\u00ab\u2018\u2019'":
        return f': {there} is no quotation mark of JSON, write "'
    if there in ("/", "#"):
        return ": JSON has no comments, remove it"
    return f": a comma is missing before {there}" if error.msg.startswith("Expecting ','") and there == '"' else ""


# How each of these comes about, for who gives something else.
_MADE_BY = {
    "Config": "regdata.load_config(path)",
    "Inventory": "regdata.scan(config)",
    "Plan": "regdata.plan(inventory, condition)",
}


def check_kind(kind: type, **given: object) -> None:
    """Raises ConfigError for a parameter of a public function that is not what another one gives."""
    for name, value in given.items():
        if not isinstance(value, kind):
            raise ConfigError(
                f"{name} is {value!r:.60} ({type(value).__name__}), but must be what {_MADE_BY[kind.__name__]} gives"
            )


_ENDLESS = 10**18


def check_whole(most: int = _ENDLESS, least: int = 1, **given: object) -> None:
    """Raises ConfigError for a parameter that is no whole number from ``least`` on, up to ``most``."""
    end = f"to {most}" if most < _ENDLESS else "on"
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name} is {value!r:.60}, but must be a whole number from {least} {end}")


def check_flags(**flags: object) -> None:
    """Raises ConfigError for a parameter that is neither True nor False: papermill's `-p x false` is a text."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigError(
                f"{name} is {value!r} ({type(value).__name__}), but must be True or False:"
                f" with papermill, -p {name} False"
            )
