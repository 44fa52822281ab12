"""A proxy between us and a real registry that breaks what a test wants broken."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What happens to a request: it is carried out or not, and then answered otherwise, cut short, reset or stalled."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[bytes], bytes] = lambda body: body
    how: str = "whole"
    carried_out: bool = False


@dataclass
class _Rule:
    method: str
    path: re.Pattern[str]
    fault: Fault
    times: float


class FaultProxy:
    """Passes everything on to ``upstream`` but for what `on` says; ``seen`` is its log."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.url = ""
        self.seen: list[str] = []
        self.down: Callable[[], bool] = lambda: False
        self.closing = threading.Event()
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def on(self, method: str, path: str, fault: Fault, *, times: float = float("inf")) -> None:
        """Does ``fault`` to the first requests, so many ``times``, whose path matches somewhere.

        ``method`` may be several, with blanks between them.
        """
        self._rules.append(_Rule(method, re.compile(path), fault, times))

    def mend(self) -> None:
        """From now on nothing is broken."""
        self._rules.clear()

    def fault(self, method: str, path: str) -> Fault | None:
        """What is to happen to this request."""
        if self.down():
            return Fault(how="reset")
        with self._lock:
            self.seen.append(f"{method} {path}")
            for rule in self._rules:
                if method in rule.method.split() and rule.times > 0 and rule.path.search(path):
                    rule.times -= 1
                    return rule.fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    proxy: FaultProxy

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the test's terminal."""

    def _serve(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.fault(self.command, self.path)
        if fault is None or fault.carried_out:
            status, headers, body = self._pass_on(sent)
        else:
            status, headers, body = 200, {}, b""
        fault = fault or Fault()
        if fault.how == "stall":
            self.proxy.closing.wait(10)
        if fault.how in ("stall", "reset"):
            linger = struct.pack("ii", 1, 0)  # close() then sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        body = fault.body(body)
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(body))
        self.send_response(fault.status or status)
        for name, value in (headers | fault.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if fault.how == "cut" else body)
        self.close_connection = self.close_connection or fault.how == "cut"

    def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # With the client's Host, so that the registry's Location is on the proxy.
        connection = http.client.HTTPConnection(self.proxy.upstream)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            dropped = ("connection", "transfer-encoding", "date")
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""


@contextmanager
def faults_before(upstream: str) -> Iterator[FaultProxy]:
    """Runs a proxy to the registry at ``upstream`` on a free loopback port."""
    proxy = FaultProxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            server.shutdown()
            thread.join()
