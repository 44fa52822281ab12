"""How long and how large an answer may be, whatever a server sends: a byte now and then, or without end."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
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
LATE, UNBOUNDED = "late", "unbounded"
# Names of a list at most, and seconds for all of its pages.
NAMES, LISTED = 2_000_000, 60.0


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


class Until(Retry):
    """Tries again until a moment; then what went wrong is raised."""

    until = 0.0

    def new(self, **changes: Any) -> Until:
        made = super().new(**changes)
        made.until = self.until
        return made

    def increment(self, *values: Any, **options: Any) -> Until:
        error = options.get("error")
        if error and time.monotonic() >= self.until:
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
