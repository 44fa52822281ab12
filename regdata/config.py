"""conf.json: where it is, what it may hold, and one clear line for each thing wrong in it."""

import hashlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
)

from regdata.errors import ConfigError
from regdata.plain import conceal, concealed
from regdata.values import (
    Argv,
    Cache,
    Condition,
    Files,
    Folder,
    Key,
    Lists,
    Names,
    Repositories,
    Texts,
    Url,
    blank_is_none,
    default_cache,
    did_you_mean,
    found_there,
    identity,
    json_cure,
    listing,
    may_be_there,
    no_text,
    problem,
    quote,
    without_dots,
)

NAME = "conf.json"
MINIMUM = '{"registry": {"url": "http://127.0.0.1:5000"}, "sql": {"none": "2=1"}}'
SHOWN = 5  # problems of one file that a message lists
# Numbers at most, so that no computation with them fails.
_MUCH, _MOST = 1e6, 10**18
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ConfigWarning(UserWarning):
    """conf.json holds something that has no effect."""


class _Section(BaseModel):
    """A field's description is what an error says is wanted there."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    def __repr__(self) -> str:
        return concealed(super().__repr__())

    __str__ = __repr__


class Requests(_Section):
    """How hard the registry may be asked."""

    at_once: int = Field(default=8, ge=1, le=64, description="a whole number from 1 to 64")
    per_second: float | None = Field(
        default=None, ge=0.01, le=_MUCH, description="a number, 0.01 or more (at most 10^6), or no such key"
    )


class RegistryConfig(_Section):
    """Where the registry is: its endpoint, its folder if that is at hand; how it may be reached, and how much of it."""

    url: Url = Field(
        description='http(s)://host[:port][/path] without user, password or query, such as "http://127.0.0.1:5000"'
    )
    base_path: Folder | None = Field(
        default=None,
        description='the folder that holds docker/registry/v2, such as "/var/lib/registry", or no such key',
    )
    ca: Folder | None = Field(
        default=None, description='a file or folder of CAs\' certificates (PEM), such as "ca.pem", or no such key'
    )
    cert: Folder | None = Field(
        default=None, description='the file of a client\'s certificate (PEM), such as "client.pem", or no such key'
    )
    key: Key = Field(
        default=None, description="the file of registry.cert's own key (PEM), beside registry.cert, or no such key"
    )
    repositories: Repositories | None = Field(
        default=None,
        min_length=1,
        description='a list of names or patterns of repositories, such as ["team/app", "prod/*"], or no such key',
    )
    requests: Requests = Field(
        default=Requests(), description='an object such as {"at_once": 8, "per_second": 50}, or no such key'
    )
    names: Names = Field(
        default=(),
        description='host[:port][/path] by which others call it, without https://, such as ["registry.prod.svc:5000"]',
    )


class Limits(_Section):
    """A plan that goes beyond one of these is refused. None: no such limit."""

    max_tags: int | None = Field(default=None, ge=0, le=_MOST, description="a whole number, 0 or more (at most 10^18)")
    max_percent: float | None = Field(default=None, ge=0, le=100, description="a number from 0 to 100")
    max_bytes: int | None = Field(
        default=None, ge=0, le=_MOST, description="a whole number of bytes, 0 or more (at most 10^18)"
    )


class Expectation(_Section):
    """Tags (globs over image:tag) that a condition must select, and that it must never select."""

    selects: Texts = Field(default=(), description='globs over image:tag, such as ["shop/prod-*:1.*"]')
    never: Texts = Field(default=(), description='globs over image:tag, such as ["*:latest"]')


def _of_conditions(value: dict[str, Expectation], info: ValidationInfo) -> dict[str, Expectation]:
    if set(value) - set(info.data.get("sql", value)):
        raise ValueError("no such condition")
    return value


class Config(_Section):
    """A valid conf.json: paths are absolute, every `${NAME}` is filled in."""

    registry: RegistryConfig = Field(description='an object such as {"url": "http://127.0.0.1:5000"}')
    engine: Literal["duckdb", "sqlite"] = Field(default="sqlite", description='"duckdb" or "sqlite"')
    protect: Annotated[str | None, BeforeValidator(blank_is_none)] = Field(
        default=None, description="a condition such as \"tag_name = 'latest'\", or no such key"
    )
    sql: dict[str, Condition] = Field(
        description='the text of a WHERE clause for each sql_id, such as {"dummy": "tag_name = \'dummy\'"}'
    )
    gc_command: Argv | None = Field(
        default=None,
        alias="gc-command",
        description='a list, one item per argument, such as ["registry", "garbage-collect",'
        ' "/etc/docker/registry/config.yml"], or no such key',
    )
    gc_before: Argv | None = Field(
        default=None,
        alias="gc-before",
        description='a list, one item per argument, such as ["docker", "stop", "registry"], or no such key',
    )
    gc_after: Argv | None = Field(
        default=None,
        alias="gc-after",
        description='a list, one item per argument, such as ["docker", "start", "registry"], or no such key',
    )
    gc_wait: float = Field(
        default=0.0,
        ge=0,
        le=_MUCH,
        alias="gc-wait",
        description="the seconds to wait for uploads in flight, a number, 0 or more (at most 10^6)",
    )
    trash_days: float = Field(
        default=0.0, ge=0, le=_MUCH, description="the days to keep what was collected, 0 or more (at most 10^6)"
    )
    reports: Folder = Field(
        default=Path("reports"),
        validate_default=True,
        description='the folder for reports, such as "reports"',
    )
    limits: Limits = Field(default=Limits(), description='an object such as {"max_percent": 50}')
    snapshots: Folder | None = Field(default=None, description='a folder such as "snapshots", or no such key')
    cache: Cache = Field(default_factory=default_cache, description='a folder such as "cache", false, or no such key')
    access_log: Files = Field(
        default=(),
        alias="access-log",
        description='a file, a glob, or a list of them, such as ["/var/log/nginx/access.log*"], or no such key',
    )
    not_a_pull: Texts = Field(
        default=(), alias="not-a-pull", description='globs over the User-Agent, such as ["*trivy*"], or no such key'
    )
    in_use: Lists = Field(
        default=(),
        alias="in-use",
        description='a list of files (or globs) and of commands, each a list of its arguments, such as ["running.txt",'
        ' ["kubectl", "get", "pods,deployments", "-A", "-o", "json"]], or no such key',
    )
    expect: Annotated[dict[str, Expectation], AfterValidator(_of_conditions)] = Field(
        default={},
        description='by a name in sql, such as {"autobuild": {"selects": ["shop/prod-*:1.*"], "never": ["*:latest"]}}',
    )

    price_per_gb_month: float | None = Field(
        default=None,
        ge=0,
        le=_MUCH,
        description="what a GB costs in a month, a number, 0 or more (at most 10^6), or no such key",
    )
    notify: Argv | None = Field(
        default=None,
        description='a list, one item per argument, such as ["/etc/regdata/textfile.py"], or no such key',
    )

    _path: Path = PrivateAttr()
    _source: dict[str, Any] = PrivateAttr()
    _digest: str = PrivateAttr()

    @property
    def path(self) -> Path:
        """The file itself, absolute."""
        return self._path

    @property
    def source(self) -> dict[str, Any]:
        """The file as it was written, `${NAME}` not filled in: no secret gets into a report.

        Without `curl`, which is ignored and in old files may hold a password.
        """
        return self._source

    @property
    def registry_url(self) -> str:
        """registry.url as it may be shown: as the file has it."""
        return str(self._source["registry"]["url"]).rstrip("/")

    @property
    def registry_id(self) -> str:
        """Which registry it is, in a word of 32 letters; the same for another spelling, or for another secret in its
        path."""
        return identity(self.registry.url, shown=self.registry_url)

    def written(self, *keys: str) -> Any:
        """What the file has under these keys, `${NAME}` not filled in; None where it has nothing there."""
        found: Any = self._source
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the file's bytes."""
        return self._digest

    def condition(self, sql_id: object) -> str:
        """The condition of that name.

        Raises ConfigError when there is none, or when `sql_id` is not a text: papermill's `-p`
        makes a number of `0123` and a truth value of `true`.
        """
        if not isinstance(sql_id, str):
            raise ConfigError(
                f"sql_id is {sql_id!r} ({type(sql_id).__name__}), but must be a text: with"
                " papermill write `-r sql_id …`, which keeps it as typed, instead of"
                f" `-p sql_id …`; {self.path} has {listing(self.sql)}."
            )
        if sql_id not in self.sql:
            raise ConfigError(
                f"No condition {quote(sql_id)}{did_you_mean(sql_id, self.sql)} in {self.path};"
                f" it has {listing(self.sql)}."
            )
        return self.sql[sql_id]


def load_config(path: str | Path | None = "") -> Config:
    """Finds, reads and checks conf.json.

    `path` is the file or its folder; where it is empty, REGDATA_CONF says it; else it is the
    conf.json of the working folder or of the nearest folder above. Raises ConfigError, which lists
    what is wrong in the file. Warns with ConfigWarning of the old key `curl`.
    """
    file = _find(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} can't be read ({error.strerror}): make it readable, or give another file.") from None
    return check_config(file, data)


def check_config(file: Path, data: bytes) -> Config:
    """What a conf.json at ``file`` with the content ``data`` says; see load_config."""
    source = _parse(file, data)
    if "curl" in source:
        warnings.warn(
            f'{file}: the key "curl" is ignored, regdata speaks HTTP itself: use registry.url, and'
            " for certificates the environment variable REQUESTS_CA_BUNDLE; remove the key.",
            ConfigWarning,
            stacklevel=3,
        )
        del source["curl"]
    config = _validate(file, source)
    if config.protect is None and (written := (source.get("protect") or "").strip()):
        raise ConfigError(f"{file}: protect: {quote(written)} is empty, and protects nothing: set what it stands for.")
    config._path = file
    config._source = source
    config._digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return config


def _find(path: object) -> Path:
    if path is not None and not isinstance(path, str | Path):
        raise ConfigError(
            f"conf is {path!r} ({type(path).__name__}), but must be the path of a {NAME}:"
            " with papermill write `-r conf …`."
        )
    given, origin = path or os.environ.get("REGDATA_CONF", ""), "" if path else " (REGDATA_CONF)"
    try:
        here = Path.cwd()
    except OSError as error:
        raise ConfigError(f"The working folder can't be told ({error.strerror}): go to one that is there.") from None
    if given:
        file = without_dots(here / given)
        file = file / NAME if os.path.isdir(file) else file
        if not may_be_there(file):
            raise ConfigError(f"No file {file}{origin}: correct the path, or write one: {MINIMUM}.")
        return file
    for folder in (here, *here.parents):
        if may_be_there(folder / NAME) and not os.path.isdir(folder / NAME):
            return folder / NAME
    raise ConfigError(
        f"No {NAME} in {here} nor in a folder above it: have `regdata init URL` write one, or write one, such as "
        f"{MINIMUM}, or say where it is by the parameter conf (clear.py: --conf) or by REGDATA_CONF."
    )


def _parse(file: Path, data: bytes) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{file}: the key {quote(key)} is there twice: remove one.")
            seen[key] = value
        return seen

    try:
        source = json.loads(data.decode("utf-8-sig"), object_pairs_hook=no_duplicates)
    except json.JSONDecodeError as error:
        said = f"{file}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}"
        raise ConfigError(f"{said}{json_cure(error)}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is not UTF-8: save it as UTF-8.") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; an endless number
        raise ConfigError(f"{file}: not a conf.json: {error}.") from None
    if not isinstance(source, dict):
        raise ConfigError(f"{file}: found {found_there(source)}, wanted an object such as {MINIMUM}.")
    return source


def _validate(file: Path, source: dict[str, Any]) -> Config:
    problems: list[str] = []
    values = _expand(source, "", problems)
    if not problems:  # an unset variable would show up again as a wrong value
        try:
            return Config.model_validate(values, context=file.parent)
        except ValidationError as error:
            problems = [problem(Config, detail, source) for detail in error.errors()]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    raise ConfigError("\n".join(f"{file}: {problem}" for problem in problems[:SHOWN] + more))


def _expand(value: Any, key: str, problems: list[str]) -> Any:
    """`value` with each ${NAME} taken from the environment; one not set is a problem, and so is what is no text."""
    if isinstance(value, dict):
        problems += [f"{key}: the name {json.dumps(name)} holds {what}" for name in value if (what := no_text(name))]
        return {name: _expand(inner, f"{key}.{name}".lstrip("."), problems) for name, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, f"{key}[{i}]", problems) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    if what := no_text(value):
        problems.append(f"{key}: the text {json.dumps(value)[:60]} holds {what}")
    for name in VARIABLE.findall(value):
        said = f"{key}: ${{{name}}} stands for the environment variable {name}, which"
        if name not in os.environ:
            problems.append(f"{said} is not set: set it, or write the value.")
        elif os.environ[name].encode(errors="replace").decode() != os.environ[name]:
            problems.append(f"{said} holds bytes that are no text (UTF-8): write it anew.")
        else:
            conceal(name, os.environ[name])
    return filled(value)


def filled(text: str) -> str:
    """The text with each ${NAME} taken from the environment; one that is not set stays."""
    return VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), text)
