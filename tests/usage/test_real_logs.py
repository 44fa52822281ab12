"""Logs that the real registry and nginx write while skopeo pushes and pulls: the counts are exact."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from regdata.demo.local import LocalRegistry, free_port
from regdata.demo.samples import make_image, make_index, make_layer, push
from regdata.usage.accesslog import AccessLog
from tests.support.helpers import docker_ref, skopeo_copy

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    log_format json escape=json '{{"time":"$time_iso8601","request":"$request","status":"$status",'
                                '"http_user_agent":"$http_user_agent"}}';
    access_log {folder}/combined.log combined;
    access_log {folder}/json.log json;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {upstream}; proxy_set_header Host $http_host; }}
    }}
}}"""


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[str]:
    """nginx in front of ``upstream``; gives its host:port."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert binary, "there is no nginx on PATH: install it"
    folder.mkdir()
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    process = subprocess.Popen([binary, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        while not (folder / "nginx.pid").exists():
            assert process.poll() is None, (folder / "error.log").read_text()
            time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def listener(path: Path) -> Iterator[str]:
    """An endpoint of notifications that writes each envelope as a line; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with path.open("a") as file:
                file.write(f"{json.dumps(body)}\n")
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def pulls(*files: Path) -> Counter[str]:
    with AccessLog(files) as log:
        rows = log.pulls(int(time.time())).table.to_pylist()
    assert all(row["pulls_30d"] == row["pulls_total"] for row in rows)
    assert all((row["last_pulled"] is None) == (row["pulls_total"] == 0) for row in rows)
    return +Counter({f"{row['image_name']}:{row['reference']}": row["pulls_total"] for row in rows})


@pytest.mark.parametrize("formatter", ["json", "text"])
def test_real_logs(tools: None, tmp_path: Path, formatter: str) -> None:
    """Registry, proxy and notifications know the same pulls, each alone and all together."""
    start = int(time.time())
    with listener(tmp_path / "events.log") as url:
        endpoint = {"name": "log", "url": url, "timeout": "1s", "threshold": 3, "backoff": "1s"}
        settings = {
            "log": {"level": "info", "formatter": formatter, "accesslog": {"disabled": False}},
            "notifications": {"endpoints": [endpoint]},
        }
        registry = LocalRegistry(tmp_path / "registry", settings=settings)
        with registry, nginx(tmp_path / "nginx", registry.url) as proxy:
            image = make_image([make_layer("one", 100)])
            index = make_index([image, make_image([make_layer("two", 100)], platform="linux/arm64")])
            push(registry.url, "shop/api", "1.0", image)
            push(registry.url, "shop/api", "multi", index)
            for number in range(3):
                skopeo_copy(f"docker://{proxy}/shop/api:1.0", f"dir:{tmp_path}/a{number}")
            skopeo_copy(f"docker://{proxy}/shop/api@{image.digest}", f"dir:{tmp_path}/b")
            skopeo_copy(f"docker://{proxy}/shop/api:multi", f"dir:{tmp_path}/c")
            skopeo_copy(f"docker://{proxy}/shop/api:1.0", f"docker://{proxy}/shop/copy:2.0")
            skopeo_copy(docker_ref(registry, "shop/copy:2.0"), f"dir:{tmp_path}/d")
            events = tmp_path / "events.log"
            while '"shop/copy"' not in events.read_text() or '"pull"' not in events.read_text().splitlines()[-1]:
                time.sleep(0.05)
    children = Counter({f"shop/api:{child.digest}": 1 for child in index.children})
    proxied = Counter({"shop/api:1.0": 4, "shop/api:multi": 1, f"shop/api:{image.digest}": 1}) + children
    every = proxied + Counter({"shop/copy:2.0": 1})
    own = registry.log_path
    lines = own.read_text().splitlines()
    parts = {
        "combined": [line for line in lines if line.startswith("127.0.0.1 ")],
        "messages": [line for line in lines if line.startswith(("{", "time="))],
    }
    for name, part in parts.items():
        (tmp_path / name).write_text("\n".join([*part, ""]))
        assert pulls(tmp_path / name) == every, name
    assert pulls(own) == every
    assert pulls(events) == every
    for name in ("combined.log", "json.log"):
        assert pulls(tmp_path / "nginx" / name) == proxied, name
    assert pulls(own, events, *(tmp_path / "nginx").glob("*.log")) == every
    with AccessLog([own]) as log:
        assert start <= (log.pulls(int(time.time())).since or 0) <= time.time()
