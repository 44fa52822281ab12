"""What the registry's access logs say of pulls; their history outlives the logs.

Lines are read by DuckDB (accesslog.sql), and each is known by what it says, not by its file: a log that was rotated,
compressed or copied counts once. Alike lines of one file (their clock has seconds) count as often as they are there.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from regdata.errors import StorageError
from regdata.sources.visible import matching
from regdata.tables.workspace import sql_text

# Our own requests are no pulls.
OURS = ("regdata", "regdata/*")
MEMORY = "1GB"
# So many files of a history are made one.
MANY = 20
_COLUMNS = "id, time, form, method, repository, reference, agent, n"


@dataclass(frozen=True)
class Pulls:
    """What is known of pulls.

    since: from when on (UTC epoch seconds); None where nothing is. table: image_name, reference (a tag or a digest),
    last_pulled, pulls_30d, pulls_total, last_seen (the last GET, HEAD or PUT of the manifest); a row for each manifest
    that was asked for.
    """

    since: int | None
    table: pa.Table


class AccessLog:
    """What logs say, and what a history of them (a folder of Parquet files) knows; to be closed."""

    def __init__(self, patterns: Sequence[str | Path], history: Path | None = None) -> None:
        """Reads the files that ``patterns`` (paths or globs) name, and adds what is new to ``history``.

        Raises StorageError: a file that can't be read or is no access log, or a damaged history.
        """
        self._spill = tempfile.TemporaryDirectory(prefix="regdata-")
        self._work = duckdb.connect(config={"temp_directory": self._spill.name, "memory_limit": MEMORY})
        self._work.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        self._work.execute(sql_text("usage/accesslog.sql"))
        try:
            self._read(patterns)
            self._remember(history)
        except BaseException:
            self.close()
            raise

    def pulls(self, until: int, *, ignored: Sequence[str] = (), later: bool = False) -> Pulls:
        """As of ``until`` (UTC epoch seconds); ``later``: what comes after it counts as of it, a clock being ahead.

        ``ignored``: globs over the User-Agent, in any case; what asks with one that matches pulls nothing.
        """
        known = self._work.execute("select min(time) from line where time <= ?", [until]).fetchall()
        options = {"until": until, "ignored": _globs(ignored), "later": later}
        return Pulls(known[0][0], self._work.sql(sql_text("usage/pulls.sql"), params=options).to_arrow_table())

    def later(self, after: int, *, ignored: Sequence[str] = ()) -> pa.Table:
        """image_name, reference, pulled, pushed: when each manifest was first pulled and pushed after a moment."""
        return self._work.sql(
            sql_text("usage/later.sql"), params={"after": after, "ignored": _globs(ignored)}
        ).to_arrow_table()

    def close(self) -> None:
        """Frees memory and disk."""
        self._work.close()
        self._spill.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, patterns: Sequence[str | Path]) -> None:
        files = _files(patterns)
        logs = {log: number for number, log in enumerate(dict.fromkeys(map(_log, files)))}
        for file in files:
            with _told(file):
                # In DuckDB, too, the name of a file may be a glob.
                options = {"log": logs[_log(file)], "file": escape(str(file)), "packed": _packed(file)}
                self._work.execute("insert into seen select $log, * from requested($file, $packed)", options)
        (read,) = self._work.execute("select count(*) from seen").fetchall()
        if not read[0] and (filled := [file for file in files if os.path.getsize(file)]):
            raise StorageError(
                f"access-log: no line of {filled[0]} is a request in a known form (distribution's log, nginx's or "
                "Apache's combined form, JSON with a time, method, URI and status, or notifications, one a line): give "
                "the registry's access log"
            )
        # Whatever else is in the log of something else says nothing of when this registry's begins.
        self._work.execute("""
            delete from seen where method is null
            and log in (select log from seen group by log having not bool_or(about))""")

    def _remember(self, history: Path | None) -> None:
        if history is None:
            self._merge([])
            return
        with _locked(history):
            known = sorted(history.glob("*.parquet"))
            with _told(history, "a damaged history of pulls: delete the folder, and what it knows is lost"):
                self._merge(known)
            try:
                self._write(history, known)
            except OSError as error:
                raise StorageError(
                    f"the history of pulls can't be written into {history} ({error.strerror}): free space, mend the "
                    "permissions, or give another folder as `snapshots` or `cache` in conf.json"
                ) from None

    def _merge(self, known: Sequence[Path]) -> None:
        """The table ``line``: each line once; ``fresh`` where ``known`` lacks it, or some of those that are alike."""
        earlier = (
            f"select {_COLUMNS} from read_parquet($known)" if known else f"select {_COLUMNS} from seen where false"
        )
        self._work.execute(
            f"""create temp table line as
            select id, min(time) as time, any_value(form) as form, any_value(method) as method,
                   any_value(repository) as repository, any_value(reference) as reference,
                   any_value(agent) as agent, max(n) as n,
                   coalesce(max(n) > max(n) filter (old) and any_value(method) is not null
                            or min(time) < min(time) filter (old), true) as fresh
            from (select *, true as old from ({earlier}) union all select {_COLUMNS}, false from seen)
            group by id""",
            {"known": [escape(str(path)) for path in known]} if known else {},
        )
        self._work.execute("drop table seen")

    def _write(self, history: Path, known: Sequence[Path]) -> None:
        (fresh,) = self._work.execute("select count(*) from line where fresh").fetchall()
        if not fresh[0]:
            return
        whole = len(known) >= MANY
        draft = history / f".{secrets.token_hex(8)}.tmp"
        try:
            target = str(draft).replace("'", "''")
            self._work.execute(
                f"""copy (select {_COLUMNS} from line where {"true" if whole else "fresh"} order by time)
                to '{target}' (format parquet, compression zstd)"""
            )
            _sync(draft)
            draft.rename(history / f"{secrets.token_hex(8)}.parquet")
            _sync(history)
        except duckdb.Error as error:
            raise OSError(0, str(error).splitlines()[0]) from None
        finally:
            draft.unlink(missing_ok=True)
        for path in known if whole else ():  # what they hold is in the new one
            path.unlink()


def _globs(ignored: Sequence[str]) -> list[str]:
    """As is_ignored wants them; to GLOB a backslash is an escape."""
    return [pattern.lower().replace("\\", "\\\\") for pattern in (*OURS, *ignored)]


def _files(patterns: Sequence[str | Path]) -> list[Path]:
    """The files, each once; a file that a pattern names by itself must be there, and a glob must find one."""
    found: dict[tuple[int, int], Path] = {}
    for pattern in map(str, patterns):
        paths = matching(pattern)
        if not paths:
            raise StorageError(f"access-log: no file matches {pattern}: correct the pattern")
        for path in paths:
            with _told(path):
                status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.setdefault((status.st_dev, status.st_ino), path)
            elif len(paths) == 1:
                raise StorageError(
                    f"access-log: {path} is no file: give a log's file, or a pattern such as {path}/*.log*"
                )
    return list(found.values())


def _log(file: Path) -> str:
    """The log that a file is, or was before it was rotated: access.log for access.log.2.gz and access.log-20261125."""
    return str(file.with_name(re.split(r"[.-]\d|\.gz$|\.zst$", file.name)[0]))


def _packed(file: Path) -> str:
    """How it is compressed, whatever its name says."""
    with file.open("rb") as opened:
        magic = opened.read(4)
    return "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic == b"\x28\xb5\x2f\xfd" else "none"


@contextmanager
def _told(file: Path, cure: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, duckdb.Error) as error:
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if isinstance(error, duckdb.OutOfMemoryException) or "No space left" in said:
            cure = f"it may be sound; free memory, or space in {tempfile.gettempdir()}"
        cure = cure or "make it a readable file, or give another"
        raise StorageError(f"access-log: {file} can't be read ({said}): {cure}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run at a time reads and writes a history; another waits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(
            f"no history of pulls can be kept in {folder} ({error.strerror}): mend the permissions, or give another "
            "folder as `snapshots` or `cache` in conf.json"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(".*.tmp"):  # by a run that was killed
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
