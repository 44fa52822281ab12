"""`regdata init`: looks at a registry, says what can be done there, and writes a first conf.json."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from regdata.collecting.own import check_collector, collects_itself
from regdata.command.output import check_place
from regdata.command.program import Program
from regdata.config import Config, check_config
from regdata.errors import ConfigError, RegdataError
from regdata.sources.abilities import UNTRIED, abilities
from regdata.sources.site import Site

CONDITION = "old"
FIRST: dict[str, Any] = {
    "engine": "duckdb",
    "protect": "tag_name in ('latest', 'stable')",
    # Old, and not among the ten newest of its family: what nobody pushes to any more keeps ten.
    "sql": {"none": "2=1", CONDITION: "age_days > 90 and family_rank > 10"},
    "limits": {"max_percent": 50},
    "reports": "reports",
}


# Where regdata collects: a wrong condition can be undone, and a disk that is full now is freed by one option.
TRASH, TRASH_DAYS = "trash_days", 7


def init(program: Program, url: str, base_path: str | None, file: Path) -> int:
    """Writes ``file``, which must not be there, for the registry at ``url``; returns the exit code.

    Where the registry does not answer, or ``base_path`` is not its folder, nothing is written; what else can't be done
    there is said with its cure. All is looked at, too, where ``file`` is there. Raises RegdataError.
    """
    file = file.absolute()
    if not file.exists():
        check_place(file, "give another file (--conf), or run it in another folder")
    if base_path is None and sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(EOFError):
            base_path = input("The registry's folder, if it can be read here (Enter: none): ").strip()
    registry = {"url": url if "://" in url else f"{_scheme(url)}://{url}"}
    if base_path:
        registry["base_path"] = str(_path(base_path))
    first = {"registry": registry} | FIRST
    config = check_config(file, json.dumps(first).encode())
    for name, said in _looked_at(config):
        print(f"{name:<14}{said}", flush=True)
    if collects_itself(config, Site.open(config)):
        first[TRASH] = TRASH_DAYS
        print(f"{'undo':<14}for {TRASH_DAYS} days, in which the bytes are kept ({TRASH} in conf.json)")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(json.dumps(first, indent=2) + "\n")
    except FileExistsError:
        raise ConfigError(
            f"{file} exists, and nothing is overwritten: it stays as it is, whatever it says. Give another file "
            "(--conf), or remove it"
        ) from None
    given = "" if file.name == "conf.json" and file.parent == Path.cwd() else f" --conf {file}"
    print(f"{'written':<14}{file}; now: {program.name} list {CONDITION}{given}, {program.name} lab{given}")
    return 0


def _scheme(url: str) -> str:
    """Of an address without one: a registry on this machine has seldom a certificate."""
    try:
        host = urlsplit(f"//{url}").hostname
    except ValueError:  # which conf.json's check tells
        host = None
    return "http" if host in ("localhost", "127.0.0.1", "::1") else "https"


def _path(typed: str) -> Path:
    try:
        return Path(typed).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(f"{typed}: nobody of that name has a home here: write the whole path") from None


def _looked_at(config: Config) -> Iterator[tuple[str, str]]:
    """What is found out, a line each. Raises RegdataError where it is no registry, or the folder not its own."""
    site = Site.open(config)
    site.registry.check()
    yield "reachable", f"yes, {config.registry_url}"
    site.check_same()
    try:
        names = site.source.repositories()
    except RegdataError as error:
        names = []
        yield "repositories", f"can't be listed: {error}"
    else:
        yield "repositories", f"{len(names):,}{f', such as {names[0]}' if names else ': the registry is empty'}"
    can = abilities(site, names, tries=True)
    yield "kind", can.kind
    yield "who am I", site.registry.user
    if site.from_store:
        yield "its folder", f"yes, {config.written('registry', 'base_path')}"
    else:
        yield "its folder", "not given: no push dates, no orphans, no exact bytes; give it where it can be read"
    yield "may I delete", can.deletes
    yield "a tag alone", can.untags
    yield "collection", _tried(lambda: check_collector(config, site, names[:1])) if names else UNTRIED


def _tried(check: Callable[[], None]) -> str:
    try:
        check()
    except RegdataError as error:
        return f"no: {error}".replace(", so nothing was deleted", "")  # nobody asked for it
    return "yes"
