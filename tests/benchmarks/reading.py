"""`make bench`: how long scans, plans and deletions take, beside other ways to do the same.

Each measurement is made in a process of its own, the ways in turn, several times. Figures depend on the machine and on
what else it does; ratios within one table hold. A short one: `python -m tests.benchmarks --tags 2000 --only store`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import requests

import regdata
from regdata.demo.local import LocalRegistry, registry_binary
from regdata.inventory.scan import SHARES, TAGS_PER_PROCESS, files_of
from regdata.sources import processes
from regdata.sources.api import Api
from regdata.sources.cache import Cache
from regdata.sources.columns import Columns, merge
from regdata.sources.mediatypes import MANIFEST_TYPES
from regdata.sources.registry import Registry
from regdata.sources.source import NONE_UNCHANGED
from regdata.sources.storage import Storage
from regdata.sources.transport import PLAIN, Transport
from tests.benchmarks import collecting
from tests.benchmarks.logs import logs
from tests.benchmarks.scale import plans, starts
from tests.benchmarks.timing import Way, compare, serving
from tests.support.stores import big_store

ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
API_LIMIT = 10_000  # tags; beyond, it is the registry that is measured
DELAY = 0.02  # seconds
SAMPLE = 400  # requests, of the ways that make one at a time
SKOPEO_SAMPLE = 20  # tags
WRK_SECONDS = 5


# The registry's folder


def store(base_path: Path, tags: int, runs: int, folder: Path) -> None:
    out = folder / "floor"
    out.mkdir()
    columns = read_columns(base_path, 1)  # fills the machine's own cache
    found = columns["descriptors"]
    configs = [
        hash_ for hash_, kind in zip(found["reference_hash"], found["reference_kind"], strict=True) if kind == "config"
    ]
    hexes = [hash_.partition(":")[2] for hash_ in sorted({*columns["contents"]["manifest_hash"], *configs})]
    (out / "documents").write_text("".join(f"blobs/sha256/{hex_[:2]}/{hex_}/data\n" for hex_ in hexes))
    cores = processes.cores()
    ways = [
        Way("find, and cat of the same files", floor, (base_path, out)),
        Way("regdata, one process", read_store, (base_path, 1)),
        Way(f"regdata, {cores} processes", read_store, (base_path, cores)),
        Way("regdata, up to its tables", read_tables, (base_path,)),
        Way("the same, since an inventory", read_since, (base_path,)),
        *(Way(f"regdata, {name}, started", read_spread, (base_path, name)) for name in EXECUTORS),
    ]
    compare("The registry's folder", tags, ways, runs)


def floor(base_path: Path, out: Path) -> None:
    """Finds the links, reads those of tags, the manifests and the configs, and asks for the size of each blob."""
    script = r"""set -e
    find repositories -name _layers -prune -o -name link -printf '%p %T@\n' >"$0/links"
    grep -o '.*/current/link' "$0/links" | xargs cat >"$0/tags"
    xargs cat <"$0/documents" >"$0/contents"
    find blobs -name data -printf '%p %s %T@\n' >"$0/blobs" """
    root = base_path / "docker/registry/v2"
    subprocess.run(["bash", "-c", script, out], cwd=root, check=True)


def read_columns(base_path: Path, shares: int) -> Columns:
    source = Storage(base_path)
    return merge(processes.read(source, source.split(shares, least=TAGS_PER_PROCESS)))


def read_store(base_path: Path, shares: int) -> None:
    read_columns(base_path, shares)


def read_tables(base_path: Path) -> float:
    return scanned(base_path, None)[1]


def read_since(base_path: Path) -> float:
    return scanned(base_path, scanned(base_path, None)[0])[1]


def scanned(base_path: Path, since: regdata.Inventory | None) -> tuple[regdata.Inventory, float]:
    from_columns = regdata.Inventory.from_columns  # what it needs is imported before the clock starts
    start = time.perf_counter()
    source = Storage(base_path)
    unchanged = files_of(since) if since else NONE_UNCHANGED
    parts = source.split(processes.cores(), least=TAGS_PER_PROCESS, unchanged=unchanged)
    columns = merge(processes.read(source, parts))
    found = from_columns(columns, scanned_at=int(time.time()), from_store=True, since=since)
    return found, time.perf_counter() - start


@contextmanager
def dask() -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client.get_executor()


EXECUTORS: dict[str, Callable[[], Any]] = {
    "2 threads": lambda: ThreadPoolExecutor(2),
    "ProcessPoolExecutor(2)": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    "Dask, 2 workers": dask,
}


def read_spread(base_path: Path, name: str) -> float:
    source = Storage(base_path)
    with EXECUTORS[name]() as executor:
        for _ in range(2):  # the first time its workers start
            start = time.perf_counter()
            merge(executor.map(source.read, source.split(SHARES)))
            seconds = time.perf_counter() - start
    return seconds


# The HTTP API


def api(base_path: Path, tags: int, runs: int, folder: Path) -> None:
    cache = folder / "api-cache"
    with serving(folder, base_path) as (registry, server):
        pairs, paths = asked(registry.url, None)
        asked(registry.url, cache)
        again = len(asked(registry.url, cache)[1])
        random.Random(1).shuffle(paths)
        (folder / "paths").write_text("\n".join(paths))
        count, sample, images = len(paths), paths[:SAMPLE], random.Random(1).sample(pairs, SKOPEO_SAMPLE)
        part = WRK_SECONDS / wrk(registry.url, folder, count)  # of all requests, in the time that wrk is given
        one_by_one = Way("requests.Session.get, one by one", loop, (registry.url, sample), count, len(sample) / count)
        ways = [
            Way("wrk, the same requests", wrk, (registry.url, folder, count, part), count, part),
            Way("regdata", read_api, (registry.url,), count),
            Way("regdata, cache filled", read_api, (registry.url, cache), again),
            one_by_one,
            Way("skopeo inspect, tag by tag", skopeo, (registry.url, images), 0, len(images) / tags),
        ]
        compare("The HTTP API, 8 requests at a time", tags, ways, runs, server)
        with delayed(registry.url) as slow:
            ways = [
                one_by_one._replace(arguments=(slow, sample)),
                Way("regdata", read_api, (slow,), count),
                Way("regdata, cache filled", read_api, (slow, cache), again),
            ]
            compare(f"The same, each answer {1000 * DELAY:.0f} ms later", tags, ways, 1, server)


def read_api(url: str, cache: Path | None = None) -> None:
    source = Api(Registry(url), Cache(cache))
    merge([source.read(part) for part in source.split(1)])


def asked(url: str, cache: Path | None) -> tuple[list[tuple[str, str]], list[str]]:
    """A scan's tags, and the paths of all its requests."""
    seen: list[str] = []
    send = Transport.send

    def watched(self: Transport, method: str, path: str, *rest: Any, **more: Any) -> Any:
        seen.append(path)
        return send(self, method, path, *rest, **more)

    Transport.send = watched  # type: ignore[method-assign]
    try:
        source = Api(Registry(url), Cache(cache))
        found = merge([source.read(part) for part in source.split(1)])["tags"]
    finally:
        Transport.send = send  # type: ignore[method-assign]
    paths = [path for path in seen if "/referrers/" not in path]  # which most registries do not have
    return list(zip(found["image_name"], found["tag_name"], strict=True)), paths


def loop(url: str, paths: list[str]) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for path in paths:
            session.get(url + path, headers=ACCEPT).raise_for_status()


def skopeo(url: str, images: list[tuple[str, str]]) -> None:
    host = url.removeprefix("http://")
    for name, tag in images:
        command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{host}/{name}:{tag}"]
        done = subprocess.run(command, capture_output=True, text=True)
        # What is no image, a signature say, it refuses to look into.
        assert done.returncode == 0 or "unsupported" in done.stderr, done.stderr


def wrk(url: str, folder: Path, count: int, part: float = 1) -> float:
    """Seconds that ``count`` requests, or a part of them, take at its rate: it runs for a time, not for a number."""
    script = folder / "paths.lua"
    script.write_text(
        f"""paths = {{}}
for line in io.lines("{folder}/paths") do paths[#paths + 1] = line end
number = 0
wrk.headers["Accept"] = "{ACCEPT["Accept"]}"
request = function()
  number = number % #paths + 1
  return wrk.format("GET", paths[number])
end"""
    )
    command = ["wrk", "-t1", "-c8", f"-d{WRK_SECONDS}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    (total,) = re.findall(r"(\d+) requests in", said)
    return part * WRK_SECONDS * count / int(total)


@contextmanager
def delayed(url: str) -> Iterator[str]:
    """A URL behind which each of the registry's answers comes later."""
    port = int(url.rpartition(":")[2])
    events = asyncio.new_event_loop()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float) -> None:
        while data := await source.read(2**16):
            await asyncio.sleep(seconds)
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back, 0), pass_on(there, writer, DELAY), return_exceptions=True)

    server = events.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=events.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        events.call_soon_threadsafe(events.stop)
        thread.join()


# Deleting


def delete(base_path: Path, tags: int, runs: int, folder: Path) -> None:
    for where, given in (("base_path", True), ("API alone", False)):
        with serving(folder, copied(base_path, folder)) as (registry, _):
            config = regdata.load_config(write_conf(registry, folder, base_path=given))
            planned = regdata.plan(regdata.scan(config), "1=1")
        manifests = _pairs(planned.manifests, "manifest_hash")
        heads = [] if given else _pairs(planned.tags, "tag_name")
        count = len(manifests)
        ways = [
            Way("DELETE and nothing else", raw_deletes, (base_path, folder, manifests, []), count),
            Way("HEAD of each tag, then DELETE", raw_deletes, (base_path, folder, manifests, heads), count),
            Way(f"regdata.apply, {where}", deletes, (base_path, folder, given), count),
        ]
        ways = [way for way in ways if heads or "HEAD" not in way.name]
        compare("Deleting all, CPU with the registry's", tags, ways, runs)


def _pairs(frame: pd.DataFrame, name: str) -> list[tuple[str, str]]:
    return sorted(zip(frame["image_name"], frame[name], strict=True))


def raw_deletes(base_path: Path, folder: Path, planned: list[tuple[str, str]], heads: list[tuple[str, str]]) -> float:
    with serving(folder, copied(base_path, folder)) as (registry, _), ThreadPoolExecutor(8) as pool:
        client = Transport(registry.url, PLAIN, timeout=(5, 30))
        start = time.perf_counter()
        for method, keys in (("HEAD", heads), ("DELETE", planned)):
            paths = [client.path(name, "manifests", reference) for name, reference in keys]
            answers = pool.map(lambda path, method=method: client.send(method, path, ACCEPT), paths)
            assert {answer.status for answer in answers} <= {200, 202, 404}
        return time.perf_counter() - start


def deletes(base_path: Path, folder: Path, given: bool) -> float:
    with serving(folder, copied(base_path, folder)) as (registry, _):
        config = regdata.load_config(write_conf(registry, folder, base_path=given))
        planned = regdata.plan(regdata.scan(config), "1=1")
        start = time.perf_counter()
        result = regdata.apply(planned, config, gc=False)
        seconds = time.perf_counter() - start
        assert not result.errors, result.errors
        return seconds


def copied(base_path: Path, folder: Path) -> Path:
    """A copy of the store to delete from; the blobs, which are not touched, are the same."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    root, below = copy / "docker/registry/v2", base_path / "docker/registry/v2"
    root.mkdir(parents=True)
    subprocess.run(["cp", "-al", below / "repositories", root], check=True)
    (root / "blobs").symlink_to(below / "blobs")
    return copy


def write_conf(registry: LocalRegistry, folder: Path, *, base_path: bool) -> Path:
    where = {"url": registry.url} | ({"base_path": str(registry.base_path)} if base_path else {})
    conf = folder / "conf.json"
    settings = {"registry": where, "engine": "duckdb", "sql": {"all": "1=1"}, "cache": "conf-cache"}
    conf.write_text(json.dumps(settings))
    return conf


# The command


def describe(folder: Path) -> None:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout
    version = subprocess.run([registry_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    print(
        f"{processes.cores()} cores of {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB, {platform.platform()}"
    )
    print(f"Python {platform.python_version()}, registry {version.split()[-1]}, files on {system.strip()}", end="")
    print(f", load {os.getloadavg()[0]:.1f} at the start")


JOBS = {
    "store": store,
    "api": api,
    "delete": delete,
    "collect": collecting.collect,
    "kept": collecting.kept,
    "doctor": collecting.doctor,
}
LARGEST = {"api": API_LIMIT, "delete": API_LIMIT, "kept": API_LIMIT}
SCALE = ("plan", "start", "repository", "logs")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measures scans, plans and deletions."
    )
    parser.add_argument("--tags", default="2000,10000,100000", help="sizes of the stores (default: %(default)s)")
    parser.add_argument("--plan-tags", default="10000,100000,1000000", help="sizes to plan (default: %(default)s)")
    parser.add_argument("--only", default=",".join([*JOBS, *SCALE]), help="what to measure (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="where stores are kept (default: bench)")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    describe(folder)
    wanted = options.only.split(",")
    with emptied(folder / "work") as work:
        if "start" in wanted:
            starts(options.runs, work)
        if "plan" in wanted:
            plans([int(tags) for tags in options.plan_tags.split(",")], options.runs, work)
        if "repository" in wanted:
            collecting.repositories(options.runs, work)
        if "logs" in wanted:
            logs(options.runs, work)
    for tags in map(int, options.tags.split(",")):
        for name in (name for name in JOBS if name in wanted):
            if tags <= LARGEST.get(name, tags):
                base_path = big_store(folder, tags)
                with emptied(folder / "work") as work:
                    JOBS[name](base_path, tags, options.runs, work)


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)
