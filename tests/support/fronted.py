"""Real registries as people run them: with passwords, certificates, other storage; and Debian's nginx before one."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from regdata.demo.local import LocalRegistry, die_with_parent


class FrontedRegistry(LocalRegistry):
    """A registry with more in its configuration; ``tls``: it answers with https, and wants a client's certificate where
    that has `clientcas`; ``host``: where it listens."""

    def __init__(
        self,
        folder: Path,
        *,
        more: dict[str, Any] | None = None,
        tls: dict[str, Any] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(folder)
        self.more, self.tls, self.host = more or {}, tls, host

    @property
    def url(self) -> str:
        if self.tls:
            return f"https://localhost:{self.port}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else super().url

    def _config(self) -> dict[str, Any]:
        made = merged(super()._config(), self.more)
        if ":" in self.host:
            made = merged(made, {"http": {"addr": f"[{self.host}]:{self.port}"}})
        return merged(made, {"http": {"tls": self.tls}}) if self.tls else made

    def _answers(self) -> bool:
        if not self.tls and self.host == "127.0.0.1" and "prefix" not in self.more.get("http", {}):
            return super()._answers()
        with suppress(OSError), socket.create_connection((self.host, self.port or 0)):
            return True
        return False


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both, section by section; None takes a key away."""
    both = dict(one)
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(both.get(key), dict):
            both[key] = merged(both[key], value)
        elif value is None:
            both.pop(key, None)
        else:
            both[key] = value
    return both


def htpasswd(path: Path, users: dict[str, str]) -> dict[str, Any]:
    """Writes a file of passwords as Apache's tool does; the registry's section ``auth``."""
    path.unlink(missing_ok=True)
    for name, password in users.items():
        made = "-B" if path.exists() else "-cB"
        subprocess.run(
            ["htpasswd", f"{made}i", "-C", "4", path, name], input=password.encode(), check=True, capture_output=True
        )
    return {"htpasswd": {"realm": "a registry", "path": str(path)}}


def nginx_binary() -> str | None:
    """`make` puts Debian's binary into .venv/bin, so that no service is started."""
    return shutil.which(
        "nginx", path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent), "/usr/sbin"])
    )


@contextmanager
def nginx(folder: Path, server: str, *, before: str = "") -> Iterator[int]:
    """Runs nginx with these directives in its server; yields its port, which stands for PORT in them.

    ``before``: directives beside the server, such as limit_req_zone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"{'user root;' if os.getuid() == 0 else ''}\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{ access_log {folder}/access.log; client_max_body_size 0; {temporary}\n{before}\n"
        f"server {{ listen 127.0.0.1:{port}; {server.replace('PORT', str(port))} }} }}\n"
    )
    process = subprocess.Popen(
        [str(nginx_binary()), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf", "-p", str(folder)],
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        wait_for(port, process, folder / "error.log")
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """moto's server with a bucket; the registry's section ``storage`` for it."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        wait_for(port, process)
        request(port, "PUT", "/bucket")
        driver = {
            "accesskey": "test",
            "secretkey": "test",
            "region": "us-east-1",
            "regionendpoint": f"http://127.0.0.1:{port}",
            "bucket": "bucket",
            "secure": False,
            "v4auth": True,
            "forcepathstyle": True,
        }
        yield {"filesystem": None, "s3": driver, "redirect": {"disable": False}}
    finally:
        process.terminate()
        process.wait()


def request(port: int, method: str, target: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target)
        return connection.getresponse().read()
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Until somebody listens there; AssertionError where the process ended instead."""
    for _ in range(2000):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        told = log.read_text() if log and log.exists() else ""
        assert process.poll() is None, f"{process.args!r} ended: {told}"
        time.sleep(0.02)
    raise AssertionError(f"{process.args!r} does not listen")
