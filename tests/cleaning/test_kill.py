"""Runs that are killed, interrupted, or lose the registry or the disk, and the run that finishes their work."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from regdata.command import cli
from regdata.demo.samples import Image, make_referrer, make_signature, push, signature_tag
from regdata.records.reading import read_events, read_facts
from regdata.sources.aside import NAME
from regdata.sources.paths import blob_path
from tests.support.helpers import ROOT, age
from tests.support.proxy import Fault
from tests.support.scene import INDEX, OLD, ORPHAN, Finished, NewScene, Scene, Store, broken

KILLED = -signal.SIGKILL


class Runner:
    """Runs delete.ipynb's steps in processes of their own, which can be killed at a moment."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killed"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, conf: Path, moment: str = "", number: int = 0) -> int:
        """The exit code, or minus the signal; killed after that `line` of the journal or answer to a `delete`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"conf": str(conf), "moment": moment, "number": number}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process that starts the others."""
        self._process.communicate()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    started = Runner()
    yield started
    started.close()


def test_scene(runner: Runner, new_scene: NewScene) -> None:
    """An undisturbed run takes what the condition selects and what hangs on it, and nothing else."""
    scene = new_scene()
    before = scene.store()
    assert runner(scene.conf) == 0
    gone = scene.store().lacks(before)
    assert {(name, tag.partition("-")[0]) for name, tag, _ in gone.tags} == {
        ("prod/app", "1.0"),
        ("prod/app", "2.0"),
        ("prod/app", "sha256"),
        ("prod/old", "old"),
    }
    digests = {digest for _, digest in gone.revisions}
    assert {INDEX.digest, *(child.digest for child in INDEX.children), ORPHAN.digest} < digests
    assert len(digests) == 8
    assert gone.repositories == {"prod/old"}
    assert broken(scene.base_path) == []


@pytest.mark.long
@pytest.mark.parametrize(("moment", "store"), [("line", True), ("delete", True), ("delete", False)])
def test_killed(runner: Runner, new_scene: NewScene, moment: str, store: bool) -> None:
    """Killed after a line of the journal, or before it could write down a deletion, another run finishes its work. Of
    the lines the first of every other kind, of the deletions the first of each level, and the last of all; all of them
    with EVERY_LINE=1."""
    scene = new_scene(store=store)
    before = scene.store()
    assert runner(scene.conf) == 0
    after = scene.store()
    journal = list(read_events(scene.records()[0]))
    for number in lines_of(journal) if moment == "line" else deletions_of(journal):
        scene = new_scene(store=store)
        scene.set(cache="cache")
        assert runner(scene.conf, moment, number) == KILLED
        halfway = scene.store()
        assert after.within(halfway), f"more than planned is gone after {moment} {number}"
        assert halfway.within(before)
        assert broken(scene.base_path) == []
        assert runner(scene.conf) == 0, f"after {moment} {number}: {journal[number - 1]}"
        assert scene.store() == after, f"after {moment} {number}: {journal[number - 1]}"
        assert not scene.stopped.exists()
        first, second = scene.records()
        check_told(first, second, halfway.lacks(before))
        scene.registry.stop()


def line_of(scene: Scene, image: Image) -> int:
    """The line of the journal that says that a manifest was deleted, the first one 1."""
    lines = enumerate(read_events(scene.records()[0]), 1)
    return next(n for n, event in lines if (event["event"], event.get("digest")) == ("deleted", image.digest))


def test_a_signature_that_a_killed_run_deleted(runner: Runner, new_scene: NewScene) -> None:
    """It comes back with its image, which was pushed again, by a run that itself deletes nothing."""
    undisturbed, scene, signature = new_scene(), new_scene(), make_signature(INDEX)
    assert runner(undisturbed.conf) == 0
    assert runner(scene.conf, "line", line_of(undisturbed, signature)) == KILLED
    assert ("prod/app", signature.digest) not in scene.store().revisions
    push(scene.registry.url, "prod/app", "late", INDEX)
    scene.set(sql={"scene": "2=1"})
    assert runner(scene.conf) == 0
    assert ("prod/app", signature_tag(INDEX), signature.digest) in scene.store().tags


def test_what_is_attached_to_each_other(runner: Runner, new_scene: NewScene) -> None:
    """A chain of what belongs to an image, which a killed run deleted, comes back with it, however long."""
    undisturbed, scene = new_scene(), new_scene()
    chain = [INDEX]
    for _ in range(5):
        chain.append(make_referrer(chain[-1]))
    for made in (undisturbed, scene):
        for one in chain[1:]:
            push(made.registry.url, "prod/app", None, one)
        age(made.base_path, 3 * 86400)
    assert runner(undisturbed.conf) == 0
    assert runner(scene.conf, "line", line_of(undisturbed, INDEX)) == KILLED
    assert not {("prod/app", one.digest) for one in chain} & scene.store().revisions
    push(scene.registry.url, "prod/app", "late", INDEX)
    scene.set(sql={"scene": "2=1"})
    assert runner(scene.conf) == 0
    assert {("prod/app", one.digest) for one in chain} <= scene.store().revisions


@pytest.mark.parametrize("ends", ["kill -9 $PPID", "exit 1"])
def test_ended_by_its_collection(runner: Runner, new_scene: NewScene, ends: str) -> None:
    """Killed while gc-command runs, or told that it failed when all was freed, the next run has the registry, which was
    not restarted, forget that, and puts manifests' bytes back, also those that went later: what is pushed is whole."""
    scene = new_scene(cache=True)
    push(scene.registry.url, "prod/old", "old", OLD)  # the cache learns it
    scene.set(gc_command=["sh", "-c", f"{shlex.join(scene.registry.gc_command)}; {ends}"])
    assert runner(scene.conf) == (KILLED if "kill" in ends else 1)
    (scene.base_path / f"docker/registry/v2/{blob_path(OLD.digest)}").unlink(missing_ok=True)
    scene.set(gc_command=scene.registry.gc_command)
    assert runner(scene.conf) == 0
    push(scene.registry.url, "prod/old", "old", OLD)
    assert broken(scene.base_path) == []
    assert not (scene.base_path / NAME).exists()


def lines_of(journal: list[dict[str, Any]]) -> list[int]:
    """The numbers, from 1 on, of the lines after which a run is killed."""
    every = range(1, len(journal) + 1)
    if os.environ.get("EVERY_LINE"):
        return list(every)
    kinds = [event["event"] for event in journal]
    first = [number for number in every if kinds[number - 1] not in kinds[: number - 1]]
    return sorted({*first[::2], len(kinds)})


def deletions_of(journal: list[dict[str, Any]]) -> list[int]:
    """The numbers, from 1 on, of the deletions that a killed run can't write down: what goes with others is announced
    before them."""
    kinds = [event["event"] for event in journal if event["event"] in ("deleting", "deleted")]
    done = [place for place, kind in enumerate(kinds) if kind == "deleted"]
    if os.environ.get("EVERY_LINE"):
        return list(range(1, len(done) + 1))
    first = [number for number, place in enumerate(done, 1) if kinds[place - 1] == "deleting"]
    assert len(first) == 3  # images and what is attached, an index, its platforms
    return sorted({*first, len(done)})


def check_told(first: Path, second: Path, gone: Store) -> None:
    """The first run's record is that of a killed one with true counts and a page; the one that finished it names it."""
    killed, finisher = read_facts(first), read_facts(second)
    begun = any(event["event"] in ("taking", "deleting", "running") for event in read_events(first))
    assert (killed["status"], finisher["status"]) == ("killed" if killed["status"] != "ok" else "ok", "ok")
    assert killed.get("finished_by") == (second.name if begun and killed["status"] != "ok" else None)
    if killed["status"] == "ok":  # killed after its last word
        return
    assert killed["tags_deleted"] + killed["tags_untagged"] == len(gone.tags)
    assert killed["manifests_deleted"] == len(gone.revisions)
    assert "was killed" in (first / "delete.html").read_text()
    assert any(first.name in one for one in finisher.get("finishes", [])) == begun
    assert any(first.name in note for note in finisher["notes"]) == begun


def check_second_run(runner: Runner, scene: Scene, finished: Store) -> None:
    """Nothing outside the plan is gone, the registry is up, and another run ends as an undisturbed one does."""
    assert finished.within(scene.store())
    assert broken(scene.base_path) == []
    assert not scene.stopped.exists()
    assert runner(scene.conf) == 0
    assert scene.store() == finished


def test_registry_gone(runner: Runner, new_scene: NewScene, finished: Finished) -> None:
    """A registry that goes away between two deletions ends the run in a line; the next run finishes the work."""
    scene = new_scene()
    gone: list[bytes] = []
    scene.proxy.down = lambda: bool(gone)

    def go(body: bytes) -> bytes:
        gone.append(body)
        return body

    scene.proxy.on("DELETE", INDEX.digest, Fault(carried_out=True, body=go))
    assert scene.proxy.url in scene.clean()
    assert scene.run
    assert scene.run.result
    assert set(scene.run.result.manifests["outcome"]) == {"deleted", "failed"}
    gone.clear()
    scene.proxy.mend()
    check_second_run(runner, scene, finished[True])


@pytest.mark.parametrize("writes", range(1, 54, 8))
def test_disk_full(
    runner: Runner, new_scene: NewScene, finished: Finished, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """When the record can't be written any more nothing more is deleted, and gc-after is run all the same."""
    scene = new_scene()
    left = itertools.count(writes, -1)
    full = False

    def sync(descriptor: int) -> None:
        nonlocal full
        full = next(left) <= 0
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", sync)
        error = scene.clean()
    assert ("No space left on device" in error) == full
    assert "\n" not in error
    check_second_run(runner, scene, finished[True])


def test_interrupted_collection(
    runner: Runner, new_scene: NewScene, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C waits for the collection to end; then gc-after is run and the record says what happened."""
    scene = new_scene()
    scene.set(gc_command=scene.collect_after(f"kill -INT {os.getpid()}; sleep 0.3"))
    with pytest.raises(KeyboardInterrupt):
        scene.clean()
    assert scene.store().blobs == finished[True].blobs
    (folder,) = scene.records()
    record = json.loads((folder / "record.json").read_bytes())
    assert (record["status"], record["errors"]) == ("interrupted", ["KeyboardInterrupt"])
    scene.set(gc_command=scene.registry.gc_command)
    check_second_run(runner, scene, finished[True])


def test_collection_outlives_run(runner: Runner, new_scene: NewScene, finished: Finished) -> None:
    """While the collection of a killed run goes on, the next run is refused, and does not start the registry."""
    scene = new_scene()
    go_on = scene.folder / "go-on"
    wait = f"while [ ! -e {go_on} ]; do sleep 0.05; done"
    scene.set(gc_command=scene.collect_after(f"kill -KILL $PPID; {wait}"))
    assert runner(scene.conf) == KILLED
    scene.set(gc_command=scene.registry.gc_command)
    error = scene.clean()
    assert "Another regdata run has ended, but the collection that it began" in error
    assert scene.stopped.exists()
    go_on.touch()
    wait_until(lambda: "Another regdata run" not in scene.clean())
    assert not scene.stopped.exists()
    assert scene.store() == finished[True]


@pytest.mark.parametrize("store", [True, False], ids=["store", "api"])
def test_cache_of_a_killed_run(runner: Runner, new_scene: NewScene, finished: Finished, store: bool) -> None:
    """What a killed run's collection left in the registry's cache is cleared by the next run; by the API alone, where
    manifests' bytes can't be put back, that fails until a restart."""
    scene = new_scene(store=store, cache=True)
    for blob in OLD.blobs:
        requests.head(f"{scene.registry.url}/v2/prod/old/blobs/{blob.digest}", timeout=5).raise_for_status()
    scene.set(gc_before=None, gc_after=None)
    undisturbed = new_scene(store=store)
    undisturbed.set(gc_before=None, gc_after=None)
    assert runner(undisturbed.conf) == 0
    journal = read_events(undisturbed.records()[0])
    line = next(number for number, event in enumerate(journal, 1) if event["event"] == "ran")
    assert runner(scene.conf, "line", line) == KILLED
    error = scene.clean()
    if store:
        assert error == ""
        push(scene.registry.url, "prod/old", "again", OLD)
        push(scene.registry.url, "prod/app", "again", INDEX)
        assert broken(scene.base_path) == []
        assert not (scene.base_path / NAME).exists()
        return
    assert "from its cache" in error
    assert "Restart the registry" in error
    scene.registry.restart()
    check_second_run(runner, scene, finished[store])


@pytest.mark.parametrize(("moment", "number"), [("deletion", signal.SIGTERM), ("collection", signal.SIGINT)])
def test_signal(runner: Runner, new_scene: NewScene, finished: Finished, number: signal.Signals, moment: str) -> None:
    """clear.py stops at a signal: what is on its way is waited for and told, gc-after is run; another run finishes."""
    scene = new_scene()
    begun = scene.folder / "begun"

    def slow(body: bytes) -> bytes:
        begun.touch()
        time.sleep(1.5)
        return body

    if moment == "deletion":
        scene.proxy.on("DELETE", INDEX.digest, Fault(carried_out=True, body=slow))
    else:
        scene.set(gc_command=scene.collect_after(f"touch {begun}; sleep 1.5"))
    command = [sys.executable, "-m", cli.__name__, "scene", "del", "--conf", str(scene.conf)]
    process = started(scene, command)
    wait_until(begun.exists)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    *moving, said = err.splitlines()
    assert (process.returncode, said) == (130, "clear.py: interrupted")
    assert all(line.startswith("[") for line in moving)
    assert "The run was interrupted" in out
    (folder,) = scene.records()
    events = [(event["event"], event.get("digest")) for event in read_events(folder)]
    assert ("deleted", INDEX.digest) in events
    assert (scene.store().blobs == finished[True].blobs) == (moment == "collection")
    scene.proxy.mend()
    scene.set(gc_command=scene.registry.gc_command)
    check_second_run(runner, scene, finished[True])


@pytest.mark.parametrize("how", ["clear.py", "kernel"])
def test_interrupted_again_and_again(new_scene: NewScene, finished: Finished, how: str) -> None:
    """Three Ctrl-C while gc-command runs, to a terminal or to the kernel: gc-after waits for its end, and is run."""
    scene = new_scene()
    log = scene.folder / "log"
    scene.set(
        gc_command=[
            "sh",
            "-c",
            f"echo begun >> {log}; sleep 3; {' '.join(scene.registry.gc_command)}; echo ended >> {log}",
        ],
        gc_after=["sh", "-c", f"echo after >> {log}; rm -f {scene.stopped}"],
    )
    if how == "clear.py":
        command = [sys.executable, "-m", cli.__name__, "scene", "del", "--conf", str(scene.conf)]
    else:  # the steps that a kernel makes, interrupted as JupyterLab does
        command = [sys.executable, "-c", f"from tests.support.killed import steps; steps({str(scene.conf)!r}, '', 0)"]
    process = started(scene, command, process_group=0)
    wait_until(log.exists)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.7)
    out, err = process.communicate(timeout=60)
    assert log.read_text().split() == ["begun", "ended", "after"], out + err
    assert not scene.stopped.exists()
    assert scene.store().blobs == finished[True].blobs
    (folder,) = scene.records()
    assert json.loads((folder / "record.json").read_bytes())["errors"] == ["KeyboardInterrupt"]


def started(scene: Scene, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process of ours in the scene's folder, whose output is to be read."""
    return subprocess.Popen(
        command,
        cwd=scene.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Polls; AssertionError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
