"""The registry's own garbage collection, and conf.json's commands around it.

The registry collects blobs that no manifest refers to (registry/storage/garbagecollect.go in distribution). It is never
run with --delete-untagged, which deletes children and referrers of live images.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from regdata.collecting.aftermath import Cache, Goes, check_up, clear, held, links_now, made_to_forget
from regdata.collecting.probes import REMEMBERS, Say, canary, remembers
from regdata.collecting.swept import SPARED
from regdata.collecting.twins import Twins, twins_of
from regdata.config import Config
from regdata.errors import AccessError, CleanupError, RegdataError, RegistryError, StorageError
from regdata.inventory.scan import can_set_aside
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.show.shown import Shown
from regdata.show.words import count
from regdata.sources.claims import Claims
from regdata.sources.interrupts import interrupts_held_back
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from regdata.usage.ending import started

# As the registry reads it: flags of one letter may stand together.
_DELETE_UNTAGGED = re.compile(r"-[dq]*m[dqm]*(=.*)?|--delete-untagged(=.*)?")
# Bytes of a command's output that are looked at.
_MOST = 1 << 20
# Links that are written down at a time.
_LINKS = 1000
# Who collects where conf.json says so.
COMMAND = "gc-command"


@dataclass(frozen=True)
class Collection(Shown):
    """What the collection did: whether it ran, its exit code and output, what was freed (blob digest -> bytes; None:
    not to be seen without base_path), and what there is to say.

    ``by``: who collected. set_aside: what is kept for some days, as ``freed``. from_trash: of the freed
    what earlier runs had set aside. spared: blobs that are needed by now.
    emptied: repositories that lost their links (None: nobody looked).
    """

    ran: bool = False
    exit_code: int | None = None
    output: str = ""
    freed: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    by: str = COMMAND
    set_aside: dict[str, int] = field(default_factory=dict)
    from_trash: dict[str, int] = field(default_factory=dict)
    spared: frozenset[str] = frozenset()
    emptied: frozenset[str] | None = None

    def __repr__(self) -> str:
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"<Collection: {f'by {self.by}{code}' if self.ran else 'not run'}>"

    @property
    def bytes_freed(self) -> int | None:
        return None if self.freed is None else sum(self.freed.values())


def check_commands(config: Config) -> None:
    """Raises CleanupError unless conf.json's commands can be run and collect safely."""
    words = [word for item in config.gc_command or () for word in _words(item)]
    # A flag before the subcommand is another program's, as Docker's -m is.
    begin = next((at for at, word in enumerate(words) if word.endswith("garbage-collect")), 0)
    if any(map(_DELETE_UNTAGGED.fullmatch, words[begin:])):
        raise CleanupError(
            "gc-command contains --delete-untagged (-m), which deletes children of multi-arch images, so nothing was "
            "deleted: take it out; regdata removes orphans itself"
        )
    for name, command in (
        ("gc-command", config.gc_command),
        ("gc-before", config.gc_before),
        ("gc-after", config.gc_after),
    ):
        # As it will be run: a path is relative to conf.json's folder, a name is looked up in PATH.
        if command and not shutil.which(config.path.parent / command[0] if "/" in command[0] else command[0]):
            raise CleanupError(
                f"{name}: {command[0]!r} of {config.path} is not a program that can be run here, so nothing was "
                f"deleted: install it or give its path"
            )


def _words(text: str) -> Iterator[str]:
    """Those that a shell would make of it, and a shell that it starts of those."""
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        words = list(lexer)
    except ValueError:  # an open quote
        words = re.split(r"[^\w=-]+", text)
    for word in words:
        if word != text and re.search(r"[\s;|&<>()'\"`]", word) and not re.fullmatch(r"[;|&<>()]+", word):
            yield from _words(word)
        else:
            yield from re.split(r"[`$()]+", word)


def collect(config: Config, site: Site, record: Record, ready: Callable[[], Goes]) -> Collection:
    """gc-before, gc-command, gc-after.

    ``ready`` is asked after gc-before; where it raises a RegdataError gc-command is not run.
    """
    commands, storage = Commands(config, record), changeable(config, site)
    measured, goes, twins = _unknown, None, Twins(None, ())
    linked: dict[str, set[str]] = {}
    with ExitStack() as stack:
        interrupted = stack.enter_context(interrupts_held_back())
        lives = _canary(stack, config, site, storage, record)
        try:
            if commands.run("gc-before") and not interrupted() and (goes := _told(ready, commands.errors)):
                for start in range(0, max(len(goes.links), 1), _LINKS):
                    record.journal({"event": "collecting", "blobs": goes.links[start : start + _LINKS]})
                twins = stack.enter_context(twins_of(storage, record.folder.name, goes.manifests))
                measured, linked = site.measuring(), links_now(site) if goes.cuts and storage else {}
                commands.run("gc-command")
        finally:
            ended = commands.run("gc-after")
            if not config.gc_after:
                twins.put_back()
        record.write(gc_exit_code=commands.exit_code, gc_output=_shortened(commands.output))
        if goes is None:
            return _put_off(commands, site, started=ended and bool(config.gc_after))
        freed, failed = measured(), bool(commands.errors)
        cache = Cache()
        if not failed or freed != {}:
            cache = made_to_forget(site, storage, goes, freed, lives, ended=ended, linked=linked)
        if commands.exit_code or cache.may_know:
            twins.put_back()
        if commands.exit_code:  # what it has left running may go on taking them
            twins.stay()
        told = cache.errors(storage)
        notes = [] if told else cache.claimed.note
        if not failed and not told:
            notes += held(goes.links, cache.left) if freed is None else []
            notes += [f"{count(len(twins.back), 'blob')} stayed: {SPARED['lasting']}"] if cache.lives else []
        errors = commands.errors + told
        for error in errors if interrupted() else ():  # nobody gets what is returned
            record.error(error)
    freed = freed and {digest: size for digest, size in freed.items() if digest not in twins.back}
    return Collection(True, commands.exit_code, commands.output, freed, notes, errors, spared=twins.back)


def check_forgets(config: Config, site: Site, repository: str, say: Say) -> None:
    """Raises CleanupError where the cache of a registry that is not restarted can't be made to forget what gc-command
    takes; ``say``: see `check_online`."""
    storage = changeable(config, site)
    if not storage or not site.registry.takes_pushes(repository):  # it is read-only, or its disk is full
        return
    try:
        site.registry.check_deletes(repository)
    except AccessError:
        raise
    except RegistryError as error:
        raise CleanupError(f"nothing was deleted: {error}") from None
    _check_forgets(Claims(site.registry), storage, repository, say)


def _check_forgets(claims: Claims, storage: Storage, repository: str, say: Say) -> None:
    if remembers(claims, storage, repository, say):
        raise CleanupError(f"{claims.registry.display} {REMEMBERS}")


def _canary(
    stack: ExitStack, config: Config, site: Site, storage: Storage | None, record: Record
) -> Callable[[], bool]:
    """Tells whether the registry's cache survives gc-after, where that decides what becomes of manifests' bytes."""
    names = site.within(site.store.repositories()) if storage and config.gc_after else []
    if not (storage and names):
        return lambda: False
    claims = Claims(site.registry)
    try:
        knows = stack.enter_context(canary(claims, storage, names[0], record.journal))
    except RegistryError as error:
        told = f"the registry does not answer whether it has a blob, so nothing was collected: {error}"
        raise CleanupError(told) from None

    def lives() -> bool:
        if (found := knows()) and claims.registry.takes_pushes(names[0]):
            _check_forgets(claims, storage, names[0], record.journal)
        return found

    return lives


def _told(ready: Callable[[], Goes], errors: list[str]) -> Goes | None:
    try:
        return ready()
    except RegdataError as error:
        errors.append(str(error))
        return None


def _put_off(commands: Commands, site: Site, *, started: bool) -> Collection:
    """gc-command was not run; the registry, where gc-after ``started`` it, is waited for."""
    with suppress(RegistryError):
        if started:
            check_up(site)
    return Collection(output=commands.output, errors=commands.errors)


def changeable(config: Config, site: Site) -> Storage | None:
    """The registry's folder, where things can be put aside in it."""
    return Storage(config.registry.base_path) if config.registry.base_path and can_set_aside(site) else None


def _unknown() -> dict[str, int] | None:
    return None


class Commands:
    """conf.json's commands around the collection: their output, what failed, and the collection's exit code.

    They are run while interrupts are held back.
    """

    def __init__(self, config: Config, record: Record) -> None:
        self.folder, self.record = config.path.parent, record
        self.commands = {"gc-before": config.gc_before, "gc-command": config.gc_command, "gc-after": config.gc_after}
        self.cures = {
            "gc-before": "Nothing was collected; mend it and run again to collect",
            "gc-command": "Nothing more was deleted; see what it says, and run again to collect",
            "gc-after": "The registry may still be stopped or read-only: run it by hand",
        }
        self.exit_code: int | None = None
        self.output = ""
        self.errors: list[str] = []

    def run(self, step: str) -> bool:
        """Runs the command of ``step``, if there is one; whether that went well."""
        command = self.commands[step]
        if not command:
            return True
        self._journal({"event": "running", "step": step})
        # What a killed run leaves collecting keeps the lock that the next run asks for.
        code, said = _execute(command, self.folder, keep_lock=step == "gc-command")
        self._journal({"event": "ran", "step": step, "exit_code": code})
        self.output += said
        if step == "gc-command":
            self.exit_code = code
        if code:
            self.errors.append(f"{step} failed with exit code {code}: {_last_line(said)}. {self.cures[step]}")
        return code == 0

    def _journal(self, event: dict[str, Any]) -> None:
        """gc-after has to run even where this can't be written, since the registry may be stopped; and what a command
        did has to be seen to."""
        with suppress(StorageError) if event["step"] == "gc-after" or event["event"] == "ran" else nullcontext():
            self.record.journal(event)


def _execute(command: tuple[str, ...], folder: Path, *, keep_lock: bool) -> tuple[int, str]:
    """Exit code and output of a command; see `started`.

    Its output is a file: a pipe would be held open by what it starts in the background, such as the registry.
    """
    with _output_file() as output:
        try:
            process = started(command, folder, stdout=output, close_fds=not keep_lock)
        except OSError as error:
            return 127, f"{command[0]}: {error.strerror}\n"
        process.wait()
        return process.returncode, _printed(output)


def _printed(output: IO[bytes]) -> str:
    """What was printed; of very much, the begin and the end."""
    size = output.seek(0, os.SEEK_END)
    output.seek(0)
    if size <= _MOST:
        return output.read().decode(errors="replace")
    begin = output.read(_MOST // 2).decode(errors="replace")
    output.seek(-_MOST // 2, os.SEEK_END)
    left_out = f"\n… {size - _MOST} bytes left out …\n"
    return begin + left_out + output.read(_MOST // 2).decode(errors="replace")


def _output_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # a full disk must not keep gc-after from running
        return open(os.devnull, "w+b")


def recover(config: Config, site: Site, past: PastRun, record: Record) -> list[str]:
    """Sees to what a run left that was killed, or failed, around its collection; returns what is still wrong.

    The registry may still be stopped: gc-after is run. Its cache may still claim what was collected: it is asked.
    Manifests' bytes are back by then, where they can be set aside.
    """
    if not any(past.events("running")):
        return []
    commands = Commands(config, record)
    if not any(event.get("step") == "gc-after" and event.get("exit_code") == 0 for event in past.events("ran")):
        with interrupts_held_back():
            commands.run("gc-after")
    if commands.errors:
        return commands.errors
    try:
        claimed, _ = clear(site, past.blobs)
    except CleanupError as error:
        return [str(error)]
    return claimed.error if claimed.left or not can_set_aside(site) else []


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it printed nothing"


def _shortened(output: str, most: int = 100_000) -> str:
    if len(output) <= most:
        return output
    return f"{output[: most // 2]}\n… {len(output) - most} characters left out …\n{output[-most // 2 :]}"
