"""A distribution registry of one's own on loopback: for the demo, and for the tests."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from regdata.errors import RegistryError


def registry_binary() -> str:
    """Path of `docker-registry` or `registry`; RegistryError when there is none."""
    # `make` puts Docker's own binary into .venv/bin where it can't install Debian's package.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    for name in ("docker-registry", "registry"):
        if binary := shutil.which(name, path=path):
            return binary
    raise RegistryError(
        "there is no `docker-registry` or `registry` on PATH: install Debian's docker-registry, "
        "or copy /bin/registry out of Docker's registry:2 image"
    )


def die_with_parent() -> None:
    """Ask Linux for a SIGTERM when the parent is gone (prctl PR_SET_PDEATHSIG), however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class LocalRegistry:
    """A distribution registry on 127.0.0.1 whose config, log and store are in `folder`.

    Used as a context manager, or with start() and stop(). A stopped registry keeps its port.
    `delete` is storage.delete.enabled; `cache` is the inmemory blob descriptor cache; `settings` are sections of its
    configuration that take the place of ours, such as `log`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        port: int | None = None,
        delete: bool = True,
        cache: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.base_path = self.folder / "store"
        self.config_path = self.folder / "config.yml"
        self.log_path = self.folder / "registry.log"
        self.port = port
        self._delete = delete
        self._cache = cache
        self._settings = settings or {}
        self._token = secrets.token_hex(8)  # tells this registry from another one on its port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:<port>`, known once it was started."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process; RegistryError where none runs."""
        if self._process is None:
            raise RegistryError(f"the registry in {self.folder} does not run: start it")
        return self._process.pid

    @property
    def gc_command(self) -> list[str]:
        """argv of this registry's garbage collection, as in conf.json's gc-command."""
        return [registry_binary(), "garbage-collect", str(self.config_path)]

    def start(self) -> None:
        """Start it and wait until it answers; RegistryError with the end of its log if it won't."""
        if self._process is not None:
            raise RegistryError(f"the registry on {self.url} is already running")
        self.base_path.mkdir(parents=True, exist_ok=True)
        fixed = self.port is not None
        for attempts_left in (2, 1, 0):
            if not fixed:
                self.port = free_port()
            if self._try_start():
                return
            if fixed or not attempts_left:  # else another process may have taken the free port
                break
        tail = self.log_path.read_text(errors="replace")[-500:].strip()
        raise RegistryError(f"the registry in {self.folder} did not start on {self.url}: {tail}")

    def _try_start(self) -> bool:
        self.config_path.write_text(json.dumps(self._config(), indent=2))  # JSON is valid YAML
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [registry_binary(), "serve", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                process_group=0,  # a Ctrl-C is ours to handle: the job may still need the registry
                preexec_fn=die_with_parent,
            )
        answers = False
        try:
            deadline = time.monotonic() + 10
            while not answers and time.monotonic() < deadline and self._process.poll() is None:
                time.sleep(0.005)
                answers = self._answers()
        finally:  # a Ctrl-C may come while we wait
            if not answers:
                self.stop()
        return answers

    def _config(self) -> dict[str, Any]:
        storage: dict[str, Any] = {
            "filesystem": {"rootdirectory": str(self.base_path)},
            "delete": {"enabled": self._delete},
        }
        if self._cache:
            storage["cache"] = {"blobdescriptor": "inmemory"}
        return {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": storage,
            "http": {
                "addr": f"127.0.0.1:{self.port}",
                "headers": {"X-Demo": [self._token]},
            },
            **self._settings,
        }

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().headers["X-Demo"] == self._token
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop it for certain; harmless when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop and start on the same port: the only way to empty the inmemory cache."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    """Ours, but for what a registry would take for its configuration, such as podman's REGISTRY_AUTH_FILE."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "AWS_"))}
    return kept | {"OTEL_TRACES_EXPORTER": "none"}  # 3.x waits for a collector


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
