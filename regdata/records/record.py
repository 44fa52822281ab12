"""Writes a run's record as it happens: a folder with record.json, plan.parquet, journal.jsonl and the bytes of every
manifest that was deleted."""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import platform
import re
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from regdata._version import __version__
from regdata.config import Config
from regdata.errors import RegdataError, StorageError
from regdata.plain import plain

if TYPE_CHECKING:
    import pandas as pd

# Set by clear.py: the folder that it has already made for the executed notebook.
FOLDER_VARIABLE = "REGDATA_RUN"
# What a record says of Ctrl-C or SIGTERM.
INTERRUPT = "KeyboardInterrupt"
LONGEST = 50  # letters, of four bytes at most: a file system takes 255 bytes
# Of the folders of reports: what was run, and on what, is not everybody's.
MODE = 0o750
# Bytes that are kept free for the record's last words: a disk may be full by then.
ROOM = 1 << 20
# What is told in words, which may hold values from the environment: they stand there as conf.json has them.
SAID = {"condition", "protect", "error", "errors", "notes", "finishes", "gc_output", "snapshot_error"}


class Record:
    """The folder of one run. Everything that is written is on the disk (fsync) before the call returns.

    Raises StorageError where a file can't be written, for instance on a full disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {"errors": []}
        self._room = folder / ".room"
        self._release = _nothing

    @classmethod
    def open(cls, config: Config, *, sql_id: str, action: str, **facts: Any) -> Record:
        """Makes ``<reports>/<UTC time>-<sql_id>/`` and writes the first record.json, so that even a killed run
        leaves one."""
        record = cls(Path(os.environ.get(FOLDER_VARIABLE) or new_folder(config.reports, sql_id)))
        with _disk(record.folder):
            record.folder.mkdir(MODE, parents=True, exist_ok=True)
            (record.folder / "manifests").mkdir(MODE, exist_ok=True)
        record._begin()
        record.write(
            status="running",
            started=_now(),
            user=f"{_user()}@{socket.gethostname()}",
            software=f"regdata {__version__}, Python {platform.python_version()}",
            conf=str(config.path),
            conf_digest=config.digest,
            registry=config.registry_url,
            registry_id=config.registry_id,
            sql_id=sql_id,
            action=action,
            gc_command=config.source.get("gc-command"),
            collected_by=_collector(config),
            trash_days=0 if config.gc_command else config.trash_days,
            **dict.fromkeys(COUNTS, 0),
            bytes_predicted=0,
            bytes_freed=None,
            **facts,
        )
        record.journal({"event": "started", "sql_id": sql_id, "action": action})
        return record

    def _begin(self) -> None:
        """Says to others that this process is at it (see `lives`), and keeps room for the end; both if it can be."""
        with suppress(OSError):
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            self._release = weakref.finalize(self, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            with self._room.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, ROOM)
        except OSError:
            self._give_room()

    def _give_room(self) -> None:
        with suppress(OSError):
            self._room.unlink()

    def write(self, **facts: Any) -> None:
        """Adds ``facts`` to record.json, which is replaced as a whole."""
        self.facts |= {key: _shown(value) if key in SAID else value for key, value in facts.items()}
        path, data = self.folder / "record.json", _json(self.facts, indent=2) + b"\n"
        with _disk(path):
            try:
                _write_through(path, data)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._give_room()
                _write_through(path, data)

    def error(self, message: str) -> None:
        """Adds ``message`` to the run's errors."""
        self.write(errors=[*self.facts["errors"], message])

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Says in the record what ended the steps inside: an error, or an interrupt."""
        try:
            yield
        except BaseException as error:
            told = (
                str(error) if isinstance(error, RegdataError) else f"{type(error).__name__}: {error}".removesuffix(": ")
            )
            with suppress(StorageError):
                if told not in self.facts["errors"]:
                    self.error(told)
                self.finish()
            raise

    def finish(self) -> None:
        """Says in record.json and the journal how the run ended."""
        errors = self.facts["errors"]
        status = "interrupted" if INTERRUPT in errors else "failed" if errors else "ok"
        try:
            self.write(status=status, finished=_now())
            self._give_room()
            self.journal({"event": "finished", "status": status})
        finally:
            self._give_room()
            self._release()

    def journal(self, *events: dict[str, Any]) -> None:
        """Appends ``events`` to journal.jsonl, each with its time."""
        time = _now()
        told = [{key: _shown(value) if key in SAID else value for key, value in event.items()} for event in events]
        lines = b"".join(_json({"time": time} | event) + b"\n" for event in told)
        path = self.folder / "journal.jsonl"
        with _disk(path), path.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def save_plan(self, tags: pd.DataFrame, manifests: pd.DataFrame, pushed: pd.DataFrame | None = None) -> None:
        """plan.parquet: image_name, tag_name (NULL for a manifest's row), tag_hash, tag_size, action, reason; and, if
        given, when each was pushed (image_name, reference, pushed), for whoever restores it."""
        import pandas as pd  # takes half a second to load, and clear.py needs only this module's folder names

        rows = manifests.rename(columns={"manifest_hash": "tag_hash"}).assign(
            tag_name=None, tag_size=None, action="delete"
        )
        both = pd.concat([tags, rows.astype({"tag_name": "str", "tag_size": "Int64"})], ignore_index=True)
        both = both[list(tags.columns)]
        if pushed is not None:
            named = both.assign(reference=both["tag_name"].fillna(both["tag_hash"]))
            both = named.merge(pushed, how="left", on=["image_name", "reference"]).drop(columns="reference")
        path = self.folder / "plan.parquet"
        with _disk(path):
            _write_through(path, both.to_parquet())

    def save_tags(self, tags: pd.DataFrame) -> None:
        """tags.csv: what became of each tag of the plan, or is to become, for whoever reads no Parquet."""
        path = self.folder / "tags.csv"
        with _disk(path):
            _write_through(path, tags.to_csv(index=False, lineterminator="\n").encode())

    def save_manifest(self, digest: str, data: bytes) -> None:
        """manifests/<algorithm>-<hex>: the raw bytes of a manifest, for restore."""
        path = self.folder / "manifests" / digest.replace(":", "-")
        with _disk(path):
            _write_through(path, data)

    def save_page(self, name: str, page: str) -> None:
        """A page for people, beside the record."""
        path = self.folder / name
        with _disk(path):
            _write_through(path, page.encode(errors="replace"))


COUNTS = (
    "tags_selected",
    "tags_deleted",
    "tags_untagged",
    "tags_kept",
    "manifests_deleted",
    "orphans_deleted",
)


def new_folder(reports: Path, sql_id: str) -> Path:
    """Makes and returns ``<reports>/<UTC yyyymmddThhmmssZ>-<sql_id>/``; a second one in the same second gets -2.

    Letters of any script stay, as many as `LONGEST`; whatever else may have a meaning somewhere is a _.
    """
    name = re.sub(r"[^\w.-]", "_", sql_id)[:LONGEST]
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
    cure = "Give a folder that can be written as `reports` in conf.json, or mend the permissions or the disk"
    with _disk(reports, said="no report can be written", cure=cure):
        reports.mkdir(MODE, parents=True, exist_ok=True)
        for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
            try:
                (reports / name).mkdir(MODE)
            except FileExistsError:
                continue
            return reports / name
    raise StorageError(f"{reports}: a thousand runs in one second")


def lives(folder: Path) -> bool:
    """Whether the process that writes the record in a folder is alive; its lock ends with it, wherever it runs."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _nothing() -> object:
    """There is nothing to be released."""


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def _json(document: Any, indent: int | None = None) -> bytes:
    """Text that is no Unicode, such as a file's name may be, as JSON's own escapes."""
    return json.dumps(document, indent=indent, ensure_ascii=False, default=str).encode(errors="backslashreplace")


def write_file(path: Path, data: bytes) -> None:
    """Writes a file as a whole: whoever reads it meanwhile finds the old one. Raises StorageError."""
    with _disk(path):
        _write_through(path, data)


def _collector(config: Config) -> str:
    """Who collects for a run, as conf.json has it."""
    if config.gc_command:
        return "gc-command"
    return "regdata itself" if config.registry.base_path else "nobody: conf.json has neither gc-command nor base_path"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _write_through(path: Path, data: bytes) -> None:
    """The whole file or, if this is interrupted, what was there before."""
    draft = path.with_name(f"{path.name}.{get_ident()}.tmp")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


WRITTEN = "the run's record can't be written"
CURE = "Nothing more is deleted; free space or mend the permissions, then run again"


@contextmanager
def _disk(path: Path, *, said: str = WRITTEN, cure: str = CURE) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{said}: {error.strerror}: {path}. {cure}") from None
