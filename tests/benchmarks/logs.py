"""The part of `make bench` about access logs: how many lines of them are read a second."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from regdata.usage.accesslog import AccessLog
from tests.benchmarks.timing import Way, compare

LINES = (1_000_000, 10_000_000)
NOW = 1_750_000_000
BEGIN = NOW - 90 * 86400
AGENTS = ("docker/27.3.1 go/go1.22.7 os/linux", "containerd/v1.7.22", "skopeo/1.16.1", "regdata/0.1.0")
# What anybody would type first: how often each manifest was got.
AWK = r'$6 == "\"GET" && $9 == 200 && $7 ~ /\/manifests\// { n[$7]++ } END { for (path in n) print n[path], path }'


def logs(runs: int, folder: Path) -> None:
    """Logs in the combined form; a tenth of their lines are pulls, the rest layers, HEADs and pushes."""
    for lines in LINES:
        log, history = folder / "access.log", folder / "history"
        with log.open("w") as file:
            file.writelines(_lines(lines))
        read_log(log, history)
        ways = [
            Way("awk, GETs of each manifest", awk, (log,)),
            Way("regdata, pulls of each manifest", read_log, (log, None)),
            Way("the same, its history knowing all", read_log, (log, history)),
        ]
        compare(f"Access logs of {log.stat().st_size / 1e6:,.0f} MB", lines, ways, runs, of="lines")


def awk(log: Path) -> None:
    subprocess.run(["awk", AWK, log], check=True, stdout=subprocess.DEVNULL)


def read_log(log: Path, history: Path | None) -> None:
    with AccessLog([log], history) as read:
        assert read.pulls(NOW).table.num_rows


def _lines(number: int) -> Iterator[str]:
    chance = random.Random(number)
    for place in range(number):
        second = BEGIN + place * 90 * 86400 // number
        time = f"{datetime.fromtimestamp(second, UTC):%d/%b/%Y:%H:%M:%S +0000}"
        image, build = f"team-{chance.randrange(40)}/app-{chance.randrange(600)}", chance.randrange(60)
        kind = chance.random()
        path = f"manifests/1.{build}" if kind < 0.2 else f"blobs/sha256:{build:064x}"
        method, status = ("GET" if kind < 0.1 else "HEAD", 200) if kind < 0.2 else ("GET", 200 if kind < 0.9 else 404)
        agent = AGENTS[chance.randrange(len(AGENTS))]
        request = f"{method} /v2/{image}/{path} HTTP/1.1"
        yield f'10.0.{place % 7}.{build} - - [{time}] "{request}" {status} 528 "" "{agent}"\n'
