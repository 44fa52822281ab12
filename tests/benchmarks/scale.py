"""The parts of `make bench` that read no registry: plans up to a million tags, snapshots, start-up."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import duckdb
import nbformat
from nbformat.v4 import new_code_cell, new_notebook

import regdata
from regdata.demo.filling import fill
from regdata.demo.local import LocalRegistry
from tests.benchmarks.timing import Way, compare
from tests.support import synthetic
from tests.support.helpers import ROOT

CONDITION = "age_days > 90"
TYPED = ("age_days > 120", "image_name like 'team-1%' and newest_rank > 5")
# What DuckDB answers from a snapshot's files: who pushed most in the last 30 days.
QUERY = """
select split_part(image_name, '/', 1) as team, count(*) as tags, sum(exclusive_size) as bytes
from read_parquet('{}/images.parquet') where age_days < 30 group by team order by bytes desc limit 10"""


class Planned(NamedTuple):
    """Seconds of each step on synthetic frames, and the memory of the whole process at its highest."""

    relations: int
    inventory: float
    plan: float
    again: float
    preview: float
    save: float
    load: float
    query: float
    snapshot: float  # MB on disk
    gigabytes: float


def plans(sizes: list[int], runs: int, folder: Path) -> None:
    """Tables (exclusive_size included), condition, and plan with bytes; in a process of its own each time."""
    found: dict[int, list[Planned]] = {}
    for tags in sizes:
        found[tags] = []
        for _ in range(runs):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found[tags].append(pool.submit(planned, tags, folder).result())
    totals = {tags: [one.inventory + one.plan for one in own] for tags, own in found.items()}
    print("\nFrom what was read to a plan with bytes; the condition is", CONDITION)
    print(f"{'tags':>10}{'relations':>12}{'min':>8}{'median':>8}{'max':>8} s", end="")
    print(f"{'tables':>9}{'plan':>7}{'next':>7}{'preview':>9}{'GiB':>7}")
    for tags, own in found.items():
        middle = Planned(*(statistics.median(values) for values in zip(*own, strict=True)))
        line = f"{tags:>10,}{middle.relations:>12,.0f}{min(totals[tags]):8.2f}{statistics.median(totals[tags]):8.2f}"
        line += f"{max(totals[tags]):8.2f}  {middle.inventory:9.2f}{middle.plan:7.2f}{middle.again:7.2f}"
        print(f"{line}{middle.preview:9.2f}{max(one.gigabytes for one in own):7.2f}")
    low, high = min(sizes), max(sizes)
    if low < high:
        growth = statistics.median(totals[high]) / statistics.median(totals[low])
        print(f"time grows with the number of tags to the power of {math.log(growth) / math.log(high / low):.2f}")
    print("\nSnapshots, seconds (medians)")
    print(f"{'tags':>10}{'MB':>9}{'save':>8}{'load':>8}{'DuckDB on the files, nothing loaded':>38}")
    for tags, own in found.items():
        middle = Planned(*(statistics.median(values) for values in zip(*own, strict=True)))
        print(f"{tags:>10,}{middle.snapshot:>9.1f}{middle.save:8.2f}{middle.load:8.2f}{middle.query:38.3f}")


def planned(tags: int, folder: Path) -> Planned:
    read = [synthetic.columns(tags)]
    start = time.perf_counter()
    inventory = regdata.Inventory.from_columns(read.pop(), scanned_at=synthetic.NOW, from_store=True)
    tables = time.perf_counter()
    made = regdata.plan(inventory, CONDITION)
    plan = time.perf_counter()
    assert made.reclaimable > 0
    with inventory.graph.open() as work:
        ((relations,),) = work.execute("select count(*) from tag_node t join part_blob p on p.top = t.node").fetchall()
    peak = _peak()
    start_again = time.perf_counter()
    made = regdata.plan(inventory, TYPED[1])
    again = time.perf_counter() - start_again
    del made
    str(regdata.preview(inventory, TYPED[0]))
    start_preview = time.perf_counter()
    str(regdata.preview(inventory, TYPED[1]))
    preview = time.perf_counter() - start_preview
    shutil.rmtree(folder / "snapshots", ignore_errors=True)
    start_save = time.perf_counter()
    path = inventory.save(folder / "snapshots")
    save = time.perf_counter() - start_save
    del inventory
    start_load = time.perf_counter()
    loaded = regdata.Inventory.load(path)
    load = time.perf_counter() - start_load
    assert len(loaded.images) >= 0.9 * tags
    start_query = time.perf_counter()
    assert duckdb.connect().sql(QUERY.format(path)).fetchall()
    query = time.perf_counter() - start_query
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    return Planned(relations, tables - start, plan - tables, again, preview, save, load, query, size, peak)


def _peak() -> float:
    kilobytes = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert kilobytes
    return int(kilobytes[1]) / 2**20


# Start-up: what people wait for before anything happens


def starts(runs: int, folder: Path) -> None:
    """clear.py --help, and delete.ipynb as a whole on the demo's 65 tags: deletes, collects, verifies."""
    scripts = Path(sys.executable).parent
    help_ = [
        Way("python, doing nothing", command, ([sys.executable, "-c", "pass"],)),
        Way("clear.py --help", command, ([str(scripts / "clear.py"), "--help"],)),
    ]
    compare("Start-up", 0, help_, runs)
    with LocalRegistry(folder / "template") as template:
        fill(template)
    papermill = [
        Way("papermill, a notebook that does nothing", notebook, (folder, "empty")),
        Way("papermill delete.ipynb, sql_id none", notebook, (folder, "none")),
        Way("papermill delete.ipynb, autobuild", notebook, (folder, "autobuild")),
    ]
    compare("A whole run", 65, papermill, runs)


def command(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def notebook(folder: Path, sql_id: str) -> float:
    work = folder / "run"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    registry = LocalRegistry(work / "demo")
    shutil.copytree(folder / "template/store", registry.base_path)
    source = ROOT / "notebooks/delete.ipynb"
    with registry:
        conf = {
            "registry": {"url": registry.url, "base_path": str(registry.base_path)},
            "engine": "duckdb",
            "sql": {"none": "2=1", "autobuild": "image_name like '%prod%' and image_tag != 'latest'"},
            "gc-command": registry.gc_command,
        }
        (work / "conf.json").write_text(json.dumps(conf))
        parameters = ["-p", "sql_id", sql_id, "-p", "conf", str(work / "conf.json")]
        if sql_id == "empty":
            source, parameters = work / "empty.ipynb", []
            source.write_text(_EMPTY)
        start = time.perf_counter()
        scripts = Path(sys.executable).parent
        done = subprocess.run(
            [scripts / "papermill", "--no-progress-bar", source, work / "out.ipynb", *parameters],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    # With the registry running, its cache still answers for what was collected: that is told as an error.
    assert done.returncode == 0 or "cache" in done.stderr, done.stderr
    return seconds


_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_EMPTY = nbformat.writes(new_notebook(cells=[new_code_cell("1")], metadata={"kernelspec": _KERNEL}))
