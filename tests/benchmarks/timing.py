"""What `make bench` measures with: ways to do a job, each in a process of its own, and tables of what they took."""

from __future__ import annotations

import os
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from regdata.demo.local import LocalRegistry


class Sample(NamedTuple):
    """One measurement: seconds, CPU seconds of it and its children, memory that it took; the registry's CPU seconds."""

    seconds: float
    cpu: float
    megabytes: float
    server: float = 0.0


class Way(NamedTuple):
    """A way to do a job. ``share``: how much of the job it does.

    ``work`` may return the seconds that it took; CPU and memory are then with those of what it prepared.
    """

    name: str
    work: Callable[..., float | None]
    arguments: tuple[Any, ...]
    requests: int = 0
    share: float = 1.0


def timed(way: Way) -> Sample:
    with watched_memory() as seen:
        before, start = _cpu(), time.perf_counter()
        seconds = way.work(*way.arguments)
        seconds = time.perf_counter() - start if seconds is None else seconds
        used = _cpu() - before
    return Sample(seconds / way.share, used / way.share, max(seen) - seen[0])


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """MB of this process and its children, as they go: a process's own ru_maxrss begins with that of its parent."""
    seen, ended = [_memory(os.getpid())], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            seen.append(_memory(os.getpid()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _memory(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = [
            child for file in Path(f"/proc/{process}/task").glob("*/children") for child in file.read_text().split()
        ]
    except OSError:  # it has ended meanwhile
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(_memory(int(child)) for child in children)


def _cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(way: Way, server: int | None) -> Sample:
    """``server``: the process of a registry, whose CPU is counted, too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        before = _cpu_of(server)
        sample = pool.submit(timed, way).result()
    return sample._replace(server=(_cpu_of(server) - before) / way.share)


def _cpu_of(process: int | None) -> float:
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(
    title: str, tags: int, ways: Sequence[Way], runs: int, server: int | None = None, *, of: str = "tags"
) -> None:
    """Measures the ways in turn and prints a table; `times` is beside the first way, `per s` so many ``of`` these."""
    samples: list[list[Sample]] = [[] for _ in ways]
    for _ in range(runs):
        for number, way in enumerate(ways):
            samples[number].append(measure(way, server))
    print(f"\n{title}, {tags:,} {of}" if tags else f"\n{title}")
    print(f"{'':40}{'min':>8}{'median':>8}{'max':>8} s{'times':>7}{'per s':>8}{'CPU s':>8}{'MB':>6}", end="")
    print(f"{'requests':>10}{'/tag':>6}{'CPU ms':>8}{'registry':>9}" if server else "", flush=True)
    middles = [statistics.median(sample.seconds for sample in own) for own in samples]
    for way, own, middle in zip(ways, samples, middles, strict=True):
        fastest, slowest = min(own).seconds, max(own).seconds
        cpu, memory = statistics.median(sample.cpu for sample in own), max(sample.megabytes for sample in own)
        line = f"{way.name:40}{fastest:8.2f}{middle:8.2f}{slowest:8.2f}  {middle / middles[0]:7.2f}"
        line += f"{(way.requests or tags or 1) / middle:8.0f}{cpu:8.2f}{memory:6.0f}"
        if server and way.requests:
            registry = statistics.median(sample.server for sample in own)
            line += f"{way.requests:10}{way.requests / tags:6.2f}"
            line += f"{1000 * cpu / way.requests:8.2f}{1000 * registry / way.requests:9.2f}"
        print(line, flush=True)


@contextmanager
def serving(folder: Path, base_path: Path) -> Iterator[tuple[LocalRegistry, int]]:
    """A registry on a store, and its process."""
    link = folder / "registry" / "store"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(base_path)
    with LocalRegistry(link.parent) as registry:
        yield registry, registry.pid
