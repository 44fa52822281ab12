"""Clean-ups in a loop beside clients that push all the time, and are stopped and continued at random.

``python -m tests.support.soak 600`` does so for so many seconds, and prints what came of it.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

import regdata
from regdata.demo.local import LocalRegistry
from tests.support.pushers import LAYERS, REPOSITORIES, pushed, pushers
from tests.support.sweeping import data_path, link_path

CONDITIONS = ("tag_name <> 'latest'", "tag_name like '%1'", "image_name like 'team-1%'", "1=1", "2=1")
FEWEST, FEWEST_RUNS = 60, 2  # pushes before the first clean-up, and clean-ups
_DIGEST_BEGINS = len("sha256:")


@dataclass
class Outcome:
    """What came of it. accepted, refused: manifests that were pushed; runs: clean-ups, with their errors; gone:
    manifests that they deleted; freed: blobs; broken: what was accepted and is not whole, or is claimed and gone."""

    accepted: int = 0
    refused: int = 0
    runs: int = 0
    gone: int = 0
    freed: int = 0
    spared: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def soak(folder: Path, seconds: float, *, how: str = "own", clients: int = 3, seed: int = 0) -> Outcome:
    """Pushers and clean-ups for so long, on a registry of its own in ``folder``, with its cache.

    ``how``: regdata collects (own), every other time (later), or gc-command does, between a stop and a start.
    """
    outcome, chance = Outcome(), random.Random(seed)
    with at_command(LocalRegistry(folder / "registry", cache=True), folder) as (registry, commands):
        conf = folder / "conf.json"
        settings = {
            "registry": {"url": registry.url, "base_path": str(registry.base_path)},
            "engine": "duckdb",
            "sql": {},
            "reports": "reports",
        } | (commands if how == "gc-command" else {})
        deadline = time.monotonic() + seconds
        with pushers(registry.url, folder, clients, seed=seed) as processes, _stopping(processes, seed):
            while len(pushed(folder)) < FEWEST:
                time.sleep(0.1)
            while time.monotonic() < deadline or outcome.runs < FEWEST_RUNS:
                conf.write_text(json.dumps(settings | {"trash_days": chance.choice([0, 0, 7])}))
                gc = how != "later" or outcome.runs % 2 == 1
                _clean(regdata.load_config(conf), CONDITIONS[outcome.runs % len(CONDITIONS)], outcome, gc=gc)
        answers = Counter(line["status"] for line in pushed(folder))
        outcome.accepted, outcome.refused = answers[201], answers.total() - answers[201]
        outcome.broken = _broken(registry)
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


def _clean(config: regdata.config.Config, condition: str, outcome: Outcome, *, gc: bool) -> None:
    result = regdata.apply(regdata.plan(regdata.scan(config), condition), config, gc=gc)
    outcome.runs += 1
    outcome.errors += result.errors
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


def _broken(registry: LocalRegistry) -> list[str]:
    """By the files alone, and by what the registry says that it has."""
    root = registry.base_path / "docker/registry/v2/repositories"
    found = []
    for link in root.glob("**/_manifests/revisions/sha256/*/link"):
        name = str(link.parents[4].relative_to(root))
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
    with tempfile.TemporaryDirectory() as made:
        print(soak(Path(made), float(sys.argv[1]), clients=3, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0))
