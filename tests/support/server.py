"""An HTTP server on loopback that answers as a function says: whole, cut short, too late or not at all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What a client asks; ``target`` is the path with its query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """An answer; ``how``: whole, cut (half the body), reset (none at all), stall (too late). ``stream`` gives its body
    piece by piece, as long as the client listens; its first piece is a head where it begins with HTTP/."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "whole"
    stream: Callable[[], Iterator[bytes]] | None = None


Answer = Callable[[Request], Reply]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the test's terminal."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = self.server.answer(Request(self.command, self.path, dict(self.headers.items()), body))
        if reply.how == "stall":
            self.server.closing.wait(10)
        if reply.how in ("stall", "reset"):
            linger = struct.pack("ii", 1, 0)  # close() then sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        if reply.stream:
            return self._stream(reply, reply.stream())
        self.send_response(reply.status)
        for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
            self.send_header(name, value)
        if self.close_connection:  # the client said so
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.how == "cut" else reply.body)
        self.close_connection = self.close_connection or reply.how == "cut"

    def _stream(self, reply: Reply, pieces: Iterator[bytes]) -> None:
        self.close_connection = True
        first = next(pieces)
        if not first.startswith(b"HTTP/"):
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
        self.wfile.write(first)
        self.wfile.flush()
        for piece in pieces:
            if self.server.closing.is_set():
                return
            self.wfile.write(piece)
            self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Runs it on a free loopback port; its URL."""
    with _Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
