"""What is set aside lies under names that say where it was."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regdata.collecting import trash
from regdata.errors import StorageError
from regdata.sources.aside import NAME, Aside
from regdata.sources.files import LocalFiles
from regdata.sources.guard import guarded, undo
from regdata.sources.paths import blob_path, layer_path
from regdata.sources.storage import Storage
from tests.support.helpers import ROOT, age

DIGEST = f"sha256:{'ab' * 32}"
PATHS = (
    blob_path(DIGEST),
    layer_path("shop/web", DIGEST),
    layer_path("/".join(["a-long-name" * 4] * 5), f"sha512:{'cd' * 64}"),
    layer_path("shop/web", "sha256+b64u.v%2F_1:" + "ab" * 32),
)


@pytest.fixture
def aside(tmp_path: Path) -> Aside:
    """That of a store with those files, each of which holds the blob's digest."""
    root = tmp_path / "docker/registry/v2"
    for path in PATHS:
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(DIGEST)
    return Aside(Storage(tmp_path))


@pytest.mark.parametrize("path", PATHS)
def test_a_file_comes_back(aside: Aside, path: str) -> None:
    """Whatever its path, be it longer than a file's name can be, a file is found by the next run, and comes back."""
    root = Path(aside.root)
    aside.open("run")
    assert aside.batch("run", 1).take(path)
    assert not (root / path).exists()
    (batch,) = aside.batches()
    assert [*batch.data().values(), *(one for of in batch.links().values() for one in of)] == [path]
    batch.undo()
    assert (root / path).read_text() == DIGEST
    aside.close()
    assert not Path(aside.folder).exists()


@pytest.mark.parametrize("leads_to_it", [False, True])
def test_a_link_to_nothing_else(aside: Aside, leads_to_it: bool) -> None:
    """Where a link to nowhere, or to the very file that was set aside, has its place, the file comes back for it."""
    path, place = PATHS[0], Path(aside.root) / PATHS[0]
    aside.open("run")
    batch = aside.batch("run", 1)
    batch.take(path)
    (own,) = Path(batch.folder).iterdir()
    place.symlink_to(own if leads_to_it else "nowhere")
    assert aside.has(DIGEST) is leads_to_it
    assert batch.give_back(path)
    assert place.read_text() == DIGEST
    assert not place.is_symlink()
    batch.twin(path)
    assert batch.give_back(path)
    assert place.read_text() == DIGEST


def test_files_of_a_batch_lie_in_one_folder(aside: Aside) -> None:
    """A batch makes no folders of its own: removing them would take longer than all else."""
    aside.open("run")
    batch = aside.batch("run", 1)
    for path in PATHS[:2]:
        batch.take(path)
    assert all(path.is_file() for path in Path(batch.folder).iterdir())
    assert batch.sizes() == {DIGEST: len(DIGEST)}


def test_as_first_versions_laid_it_out(aside: Aside) -> None:
    """What a run of an earlier version set aside, laid out as in the store, counts, comes back and goes."""
    for run in ("first", "second"):
        for path in PATHS[:2]:
            place = Path(aside.folder) / run / "0001-kept" / path
            place.parent.mkdir(parents=True)
            (Path(aside.root) / path).rename(place) if run == "first" else place.write_text(DIGEST)
    first, second = aside.batches()
    assert first.sizes() == second.sizes() == {DIGEST: len(DIGEST)}
    assert first.links() == {DIGEST: [PATHS[1]]}
    second.discard(PATHS[0])
    assert second.sizes() == {}
    second.drop()
    assert first.undo() == [DIGEST]
    assert all((Path(aside.root) / path).exists() for path in PATHS)


def test_a_link_to_data_that_is_gone(aside: Aside) -> None:
    """What is undone puts back whatever a killed run had taken, as it was; of what was kept for some days no link whose
    bytes nobody has."""
    data, link = PATHS[:2]
    aside.open("run")
    (Path(aside.root) / data).unlink()
    for keeps in (False, True):
        batch = aside.batch("run", 1)
        assert batch.take(link)
        if keeps:
            batch.keep()
        assert batch.undo() == []
        assert aside.has_file(link) is not keeps
        assert not Path(batch.folder).exists()


class Killed(LocalFiles):
    """Ends as if the process was killed when the first bytes of a folder that is removed are gone."""

    def remove(self, folder: str) -> None:
        next(Path(folder).glob("*data")).unlink()
        raise KeyboardInterrupt


@pytest.mark.parametrize("keeps", [False, True])
def test_killed_while_it_frees(aside: Aside, tmp_path: Path, keeps: bool) -> None:
    """Of what was decided to go the next run puts nothing back, such as a link whose bytes are gone: it is told that it
    is being removed."""
    killed = Aside(Storage(tmp_path, Killed()))
    killed.open("run")
    batch = killed.batch("run", 1)
    for path in PATHS[:2]:
        assert batch.take(path)
    if keeps:
        batch.keep()
    with pytest.raises(KeyboardInterrupt):
        batch.drop()
    assert undo(aside) == []
    assert not any(aside.has_file(path) for path in PATHS[:2])
    assert [one.state for one in aside.batches()] == ["freed"]


def test_bytes_on_another_disk(aside: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file can't have a second name, whatever the system says of it, its bytes are copied."""

    def refuse(path: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)

    monkeypatch.setattr(os, "link", refuse)
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.twin(PATHS[0])
    (Path(aside.root) / PATHS[0]).unlink()
    assert batch.give_back(PATHS[0])
    assert (Path(aside.root) / PATHS[0]).read_text() == DIGEST
    assert not batch.twin(blob_path(f"sha256:{'00' * 32}"))


def test_a_copy_that_was_damaged(aside: Aside) -> None:
    """Bytes that are whole in their place stay, whatever became of those that were set aside."""
    data = b"a layer"
    path = blob_path(f"sha256:{hashlib.sha256(data).hexdigest()}")
    place = Path(aside.root) / path
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(path)
    (own,) = Path(batch.folder).iterdir()
    own.write_bytes(data[:3])
    place.write_bytes(data)
    batch.undo()
    assert place.read_bytes() == data
    assert not Path(batch.folder).exists()


def ignored(process: int) -> int:
    """The signals that a process ignores, as a bit each."""
    return int(Path(f"/proc/{process}/status").read_text().partition("SigIgn:")[2].split()[0], 16)


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", ENDS)
def test_a_guard_outlives_what_ends_its_run(aside: Aside, number: signal.Signals) -> None:
    """A signal that goes to all processes of a session or a service leaves the guard at work: when its run is gone it
    puts back what that had taken."""
    aside.open("run")
    assert aside.batch("run", 1).take(PATHS[0])
    command = [sys.executable, "-S", "-m", "regdata.sources.guard", str(aside.storage.base), "run"]
    all_of_them, deadline = sum(1 << (one - 1) for one in ENDS), time.monotonic() + 5
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as guard:
        while ignored(guard.pid) & all_of_them != all_of_them and time.monotonic() < deadline:
            time.sleep(0.02)
        guard.send_signal(number)
    assert (Path(aside.root) / PATHS[0]).read_text() == DIGEST
    assert not Path(aside.folder).exists()


def test_a_guard_outlives_the_processes_around_its_run(aside: Aside) -> None:
    """Where a job's processes are killed all at once the guard is none of them: it puts back what its run had taken."""
    script = f"""
import time
from regdata.sources.aside import Aside
from regdata.sources.guard import guarded
from regdata.sources.storage import Storage
aside = Aside(Storage({str(aside.storage.base)!r}))
with guarded(aside, "run"):
    print(aside.batch("run", 1).take({PATHS[0]!r}), flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-S", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, process_group=0) as run:
        assert run.stdout
        assert run.stdout.readline() == b"True\n"
        os.killpg(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(aside.folder).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(aside.folder).exists()
    assert (Path(aside.root) / PATHS[0]).read_text() == DIGEST


@pytest.mark.parametrize("path", [PATHS[1], PATHS[2]])
def test_a_link_that_holds_nothing_by_now(aside: Aside, path: str) -> None:
    """A link that is set aside comes back where a full disk left an empty one in its place, and is no copy of that."""
    place = Path(aside.root) / path
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(path)
    assert batch.take(PATHS[0])
    batch.keep()
    place.write_bytes(b"")
    Path(aside.root, PATHS[0]).write_text(DIGEST)  # its bytes came anew
    trash.drop_copies(aside)
    batch.undo()
    assert place.read_text() == DIGEST


def test_a_copy_of_which_a_part_was_lost(tmp_path: Path) -> None:
    """Bytes that came anew, and of which a disk has lost a part, are no copy; where they are needed the whole ones are
    put in their place."""
    data = b"whole"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    place = tmp_path / "docker/registry/v2" / blob_path(digest)
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    aside = Aside(Storage(tmp_path))
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(blob_path(digest))
    batch.keep()
    place.write_bytes(data[:2])
    assert trash.drop_copies(aside) == {}
    assert trash.bring_back(aside, {digest}) == {digest}
    assert place.read_bytes() == data


def test_a_guard_and_the_next_run(aside: Aside) -> None:
    """A guard puts back what its own run had taken, and nothing of a run that is at work by then."""
    for run, path in zip(("killed", "next"), PATHS[:2], strict=True):
        aside.open(run)
        assert aside.batch(run, 1).take(path)
    command = [sys.executable, "-S", "-m", "regdata.sources.guard", str(aside.storage.base), "killed"]
    subprocess.run(command, input=b"", cwd=ROOT, check=True)
    assert [aside.has_file(path) for path in PATHS[:2]] == [True, False]
    assert [batch.run for batch in aside.batches()] == ["next"]


def test_no_process_can_be_started(aside: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started that would put things back nothing is taken, and the error says what is short."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    told = "no process that would put things back can be started: Resource temporarily unavailable: .* memory or"
    with pytest.raises(StorageError, match=told), guarded(aside, "run"):
        pytest.fail("something could be taken")
    assert not Path(aside.folder).exists()


def test_what_was_not_taken(aside: Aside) -> None:
    """What a batch does not have it gives back nowhere: not even a folder is made for it."""
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(PATHS[0])
    assert not batch.give_back(layer_path("nobody", DIGEST))
    assert not (Path(aside.root) / "repositories/nobody").exists()


@pytest.mark.parametrize(("where", "comes"), [("nowhere", False), ("another run", True)])
def test_a_kept_link_and_its_bytes(aside: Aside, where: str, comes: bool) -> None:
    """A link that is kept comes back with bytes that another run set aside, and not where nobody has them."""
    data, link = PATHS[:2]
    for run, path in (("links", link), ("data", data)):
        aside.open(run)
        batch = aside.batch(run, 1)
        assert batch.take(path)
        batch.keep()
    if where == "nowhere":
        batch.discard(data)
    assert trash.bring_back(aside, {DIGEST}) == ({DIGEST} if comes else set())
    assert [aside.has_file(path) for path in (data, link)] == [comes, comes]


@pytest.mark.parametrize("anew", [True, False])
def test_copies_of_several_runs(aside: Aside, anew: bool) -> None:
    """Each copy of a blob that is freed counts, whether it came anew or is due; of its batches nothing is left."""
    for run in ("first", "second"):
        aside.open(run)
        batch = aside.batch(run, 1)
        assert batch.take(PATHS[0])
        batch.keep()
        Path(aside.root, PATHS[0]).write_text(DIGEST)
    if not anew:
        Path(aside.root, PATHS[0]).unlink()
    freed = trash.drop_copies(aside) if anew else trash.empty(trash.due(aside, 0, 0))
    assert freed == {DIGEST: 2 * len(DIGEST)}
    assert aside.batches() == []


def test_a_guard_in_another_folder(aside: Aside, tmp_path: Path) -> None:
    """Wherever a run is started its guard finds regdata, and puts back what the run had taken."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from regdata.sources.aside import Aside
from regdata.sources.guard import guarded
from regdata.sources.storage import Storage
aside = Aside(Storage({str(aside.storage.base)!r}))
with guarded(aside, "run"):
    aside.batch("run", 1).take({PATHS[0]!r})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    killed = subprocess.run([sys.executable, "-S", "-c", script], cwd=tmp_path, env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while Path(aside.folder).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(aside.folder).exists()
    assert (Path(aside.root) / PATHS[0]).read_text() == DIGEST


def test_what_others_left_beside_it(aside: Aside) -> None:
    """The folder for what is set aside stays where somebody keeps something in it, and goes once that is gone."""
    aside.open("run")
    notes = Path(aside.folder) / "notes.txt"
    notes.touch()
    aside.close()
    assert notes.exists()
    assert aside.runs() == []
    notes.unlink()
    aside.close()
    assert not Path(aside.folder).exists()


def test_when_it_was_decided(aside: Aside) -> None:
    """What is kept is as old as the decision, whatever has come back from it, or was freed, since."""
    aside.open("run")
    batch = aside.batch("run", 1)
    for path in PATHS[:3]:
        assert batch.take(path)
    batch.keep()
    age(Path(aside.folder), 7200)
    assert batch.give_back(PATHS[0])
    batch.discard(PATHS[1])
    (found,) = aside.batches()
    assert 7000 < time.time() - found.date() < 7400


def test_removed_by_hand_as_it_is_freed(aside: Aside) -> None:
    """What an administrator deletes, as its README allows, while a run is about to free it is no error."""
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(PATHS[0])
    batch.keep()
    shutil.rmtree(batch.folder)
    batch.drop()
    assert aside.batches() == []


class Mounted(LocalFiles):
    """Only beside one folder are the store's in the same mount."""

    def __init__(self, place: Path) -> None:
        self.near = str(place)

    def beside(self, folder: str) -> Callable[[str], bool]:
        return lambda other: folder == self.near


@pytest.mark.parametrize("place", [".", "docker", "docker/registry"])
def test_a_mount_somewhere_above_the_store(tmp_path: Path, place: str) -> None:
    """What is set aside lies beside the store or above it, wherever it can be moved to by renaming it."""
    (tmp_path / "docker/registry/v2/blobs").mkdir(parents=True)
    assert Aside(Storage(tmp_path, Mounted(tmp_path / place))).folder == str(tmp_path / place / NAME)
