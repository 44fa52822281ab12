"""How long and how large an answer may be, whatever a server sends: a byte now and then, or without end."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from threading import Lock
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import BaseHTTPResponse

from regdata.sources.answers import one_line

# Seconds for a whole answer, by the seconds that its server may be silent.
WHOLE = 4 / 3
# Bytes: of a document (distribution's maxManifestBodySize), and of a list, which 2.x gives in one piece.
DOCUMENT = 4 << 20
LIST = 16 << 20
LATE, UNBOUNDED, AWAY = "late", "unbounded", "away"
# Names of a list at most, and seconds for all of its pages.
NAMES, LISTED = 2_000_000, 60.0
# By the seconds that a server may be silent: from when on an answer is a slow one (after a second at least), what slow
# ones may take in all, and what each that is not slow gives back of that.
SLOW, ALLOWED, QUICK = 1 / 3, 2, 1 / 120


class Unbounded(ValueError):
    """An answer that is larger than such answers are, or compressed."""


class _Timed(io.RawIOBase):
    """What a socket receives until a moment; then it is a timeout, however often a byte comes."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        self._silent = sock.gettimeout()
        self._until = time.monotonic() + (self._silent or 0) * WHOLE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._silent:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the whole answer took too long")
            self._sock.settimeout(min(left, self._silent))
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *values: Any, **options: Any) -> None:
        super().__init__(sock, *values, **options)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class BoundedAdapter(HTTPAdapter):
    """Whose answers have to be whole in time."""

    def init_poolmanager(self, *values: Any, **options: Any) -> None:
        super().init_poolmanager(*values, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


class Waited:
    """How long slow answers, and those that never came, have kept everybody waiting: seconds in which any was due.

    One deadline is not enough where each of many answers comes just before it. ``last``: what was asked for last that
    was slow. Safe to use from many threads.
    """

    def __init__(self, silent: float) -> None:
        """``silent``: the seconds that a server may be silent."""
        self.most, self._least, self._quick = silent * ALLOWED, silent * SLOW, silent * QUICK
        self._slow = max(self._least, 1.0)
        self._seconds = self._counted = 0.0
        self._due: list[float] = []
        self._lock = Lock()
        self.last = ""

    @property
    def left(self) -> float:
        """The seconds that another answer may take; 0 where they are too few to ask for one."""
        with self._lock:
            due = time.monotonic() - max(min(self._due), self._counted) if self._due else 0.0
            left = self.most - self._seconds - max(due, 0.0)
        return left if left > self._least else 0.0

    def begin(self) -> float:
        """Something is asked for; when that is."""
        began = time.monotonic()
        with self._lock:
            self._due.append(began)
        return began

    def took(self, what: str, began: float, *, failed: bool, may_be_slow: bool = False) -> None:
        """An answer that was asked for then has come by now, or has ``failed`` to."""
        with self._lock:
            now = time.monotonic()
            self._due.remove(began)
            if failed or (now - began > self._slow and not may_be_slow):
                self._seconds += now - max(began, self._counted)
                self._counted, self.last = now, what
            else:
                self._seconds = max(self._seconds - self._quick, 0.0)


class Until(Retry):
    """Tries again until a moment; then what went wrong is raised."""

    until = 0.0

    @property
    def is_over(self) -> bool:
        """Whether that moment has come."""
        return time.monotonic() >= self.until

    @property
    def silent(self) -> float:
        """The seconds that a server may be silent, so that what it sends is whole by then."""
        return max(self.until - time.monotonic(), 0.01) / WHOLE

    def new(self, **changes: Any) -> Until:
        made = super().new(**changes)
        made.until = self.until
        return made

    def increment(self, *values: Any, **options: Any) -> Until:
        error = options.get("error")
        if error and self.is_over:
            raise error
        return super().increment(*values, **options)


def received(response: BaseHTTPResponse, most: int, *, cut: bool = False) -> bytes:
    """The bytes of an answer, of a larger one the first (``cut``) or none. Raises Unbounded, and urllib3's errors."""
    try:
        encoding = response.headers.get("Content-Encoding") or "identity"
        if encoding.strip().lower() != "identity":
            response.close()
            raise Unbounded(f"the answer is compressed ({one_line(encoding)[:20]}), though it was asked not to be")
        parts, left = [], most + 1
        while left and (part := response.read(left, decode_content=False)):
            parts.append(part)
            left -= len(part)
        if not left:
            response.close()
            if not cut:
                raise Unbounded(f"the answer is larger than {most} bytes")
        return b"".join(parts)[:most]
    finally:
        response.release_conn()


def is_endless(names: int, pages: int, began: float, per_second: float | None) -> bool:
    """Whether a list of so many names on so many pages, asked for since ``began``, has gone on for too long."""
    return names > NAMES or time.monotonic() - began > LISTED + (pages / per_second if per_second else 0)


def kind(error: Exception, problem: str) -> str:
    """Of an error that was told as ``problem``: see RegistryError."""
    return UNBOUNDED if isinstance(error, Unbounded) else LATE if problem.startswith("no answer") else ""
