"""Clean-ups in a loop beside clients that push all the time, and are stopped and continued at random.

``python -m tests.support.soak 50`` makes so many clean-ups, in turn by each of the `WAYS`, and prints what came of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

import regdata
from regdata.demo.local import LocalRegistry
from tests.support.pushers import LAYERS, REPOSITORIES, pushed, pushers
from tests.support.sweeping import data_path, link_path

ORPHANS = "2=1"
CONDITIONS = ("tag_name <> 'latest'", "tag_name like '%1'", "image_name like 'team-1%'", "1=1", ORPHANS)
FEWEST = 40  # pushes before the first clean-up
# regdata collects; every other time, what the run before deleted; gc-command does, between a stop and a start; the same
# where only the API is known.
WAYS = ("own", "later", "gc-command", "api")
_DIGEST_BEGINS = len("sha256:")


@dataclass
class Outcome:
    """What came of it. accepted, refused: manifests that were pushed; runs: clean-ups, with their errors; gone:
    manifests that they deleted; back: those that were put back; freed: blobs; broken: what was accepted and is not
    whole, or is claimed and gone."""

    accepted: int = 0
    refused: int = 0
    runs: int = 0
    gone: int = 0
    back: int = 0
    freed: int = 0
    spared: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def soak(folder: Path, runs: int, *, how: str = "own", clients: int = 3, seed: int = 0) -> Outcome:
    """Pushers and so many clean-ups, on a registry of its own in ``folder``, with its cache; ``how``: one of `WAYS`."""
    outcome, chance = Outcome(), random.Random(seed)
    with at_command(LocalRegistry(folder / "registry", cache=True), folder) as (registry, commands):
        conf = folder / "conf.json"
        where = {} if how == "api" else {"base_path": str(registry.base_path)}
        settings = {
            "registry": {"url": registry.url} | where,
            "engine": "duckdb",
            "sql": {},
            "reports": "reports",
        } | (commands if how in ("gc-command", "api") else {})
        with pushers(registry.url, folder, clients, seed=seed) as processes, _stopping(processes, seed):
            while len(pushed(folder)) < FEWEST:
                time.sleep(0.1)
            while outcome.runs < runs:
                conf.write_text(json.dumps(settings | {"trash_days": chance.choice([0, 0, 7])}))
                condition = CONDITIONS[outcome.runs % len(CONDITIONS)]
                if how == "later":
                    condition = ORPHANS if outcome.runs % 2 else CONDITIONS[outcome.runs // 2 % len(CONDITIONS)]
                gc = how != "later" or condition == ORPHANS
                if how == "later" and gc:
                    _age(registry)
                _clean(regdata.load_config(conf), condition, outcome, gc=gc)
        answers = Counter(line["status"] for line in pushed(folder))
        journals = [journal.read_text() for journal in folder.glob("reports/*/journal.jsonl")]
        outcome.back = sum(journal.count("brought back") for journal in journals)
        outcome.accepted, outcome.refused = answers[201], answers.total() - answers[201]
        outcome.broken = _broken(registry, tagged=how == "api")
    return outcome


@contextmanager
def at_command(registry: LocalRegistry, folder: Path) -> Iterator[tuple[LocalRegistry, dict[str, list[str]]]]:
    """The registry, and commands of conf.json's that stop, collect and start it."""
    ended = threading.Event()

    def work() -> None:  # in one thread, with which the registry would go
        registry.start()
        (folder / "began").touch()
        while not ended.wait(0.02):
            for word, do in (("stop", registry.stop), ("start", registry.restart)):
                if (folder / word).exists():
                    do()
                    (folder / word).unlink()
        registry.stop()

    thread = threading.Thread(target=work)
    thread.start()
    while not (folder / "began").exists():
        time.sleep(0.02)
    said = {word: f"cd {folder}; touch {word}; while [ -e {word} ]; do sleep 0.02; done" for word in ("stop", "start")}
    commands = {"gc-before": ["sh", "-c", said["stop"]], "gc-after": ["sh", "-c", said["start"]]}
    try:
        yield registry, commands | {"gc-command": registry.gc_command}
    finally:
        ended.set()
        thread.join()


def _age(registry: LocalRegistry) -> None:
    """Everything that is stored becomes a week older, pushes in flight as well: those may be refused, and no more."""
    for path in (registry.base_path / "docker").rglob("*"):
        with suppress(OSError):
            date = path.stat().st_mtime - 7 * 86400
            os.utime(path, (date, date))


def _clean(config: regdata.config.Config, condition: str, outcome: Outcome, *, gc: bool) -> None:
    result = regdata.apply(regdata.plan(regdata.scan(config), condition), config, gc=gc)
    outcome.runs += 1
    # With gc-command a push can come while it runs; it is told, and then the client pushes again.
    outcome.errors += [error for error in result.errors if "came while gc-command ran" not in error]
    outcome.gone += int((result.manifests["outcome"] == "deleted").sum())
    outcome.freed += len(result.collection.freed or ()) + len(result.collection.set_aside)
    outcome.spared.update(note.partition(": ")[2] for note in result.notes if ": " in note)


class _stopping:
    """Stops any of some processes now and then, for up to two seconds."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], seed: int) -> None:
        self.processes, self.chance = processes, random.Random(seed + 1)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.ended.wait(self.chance.random()):
            process = self.chance.choice(self.processes)
            process.send_signal(signal.SIGSTOP)
            self.ended.wait(self.chance.random() * 2)
            process.send_signal(signal.SIGCONT)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


def _broken(registry: LocalRegistry, *, tagged: bool) -> list[str]:
    """By the files alone, and by what the registry says that it has; ``tagged``: of indexes, only those that a tag is
    on. Over the API nobody sees the others, nor what they list."""
    root = registry.base_path / "docker/registry/v2/repositories"
    found = []
    for link in root.glob("**/_manifests/revisions/sha256/*/link"):
        name = str(link.parents[4].relative_to(root))
        on = {tag.read_text() for tag in root.glob(f"{name}/_manifests/tags/*/current/link")}
        if (
            tagged
            and link.read_text() not in on
            and b'"manifests"' in data_path(registry, link.read_text()).read_bytes()
        ):
            continue
        found += [f"{name}@{link.read_text()}: {what}" for what in _missing(registry, name, link.read_text())]
    for link in root.glob("**/_manifests/tags/*/current/link"):
        name = str(link.parents[4].relative_to(root))
        if not _revision(registry, name, link.read_text()).exists():
            found.append(f"{name}:{link.parents[1].name} leads nowhere")
    for name in REPOSITORIES:
        for layer in LAYERS:
            there = data_path(registry, layer.digest).exists() and link_path(registry, name, layer.digest).exists()
            head = requests.head(f"{registry.url}/v2/{name}/blobs/{layer.digest}", timeout=9)
            if head.status_code == 200 and not there:
                found.append(f"{name}@{layer.digest} is claimed")
    return found


def _revision(registry: LocalRegistry, name: str, digest: str) -> Path:
    folder = registry.base_path / f"docker/registry/v2/repositories/{name}/_manifests/revisions/sha256"
    return folder / digest[_DIGEST_BEGINS:] / "link"


def _missing(registry: LocalRegistry, name: str, digest: str) -> list[str]:
    try:
        manifest = json.loads(data_path(registry, digest).read_bytes())
    except FileNotFoundError:
        return ["its bytes"]
    config = [manifest["config"]] if "config" in manifest else []
    parts = [part["digest"] for part in [*config, *manifest.get("layers", ())]]
    missing = [part for part in parts if not data_path(registry, part).exists()]
    missing += [f"the link to {part}" for part in parts if not link_path(registry, name, part).exists()]
    children = [child["digest"] for child in manifest.get("manifests", ())]
    return missing + [child for child in children if not _revision(registry, name, child).exists()]


if __name__ == "__main__":
    for number, way in enumerate(WAYS):
        with tempfile.TemporaryDirectory() as made:
            print(
                way, soak(Path(made), len(range(number, int(sys.argv[1]), len(WAYS))), how=way, seed=number), flush=True
            )
