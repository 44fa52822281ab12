"""A sweep step by step, in a store of which no registry takes part: what comes in between."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regdata.collecting.sweep import Sweep
from regdata.collecting.swept import Item
from regdata.demo.samples import make_layer
from regdata.errors import AccessError, CleanupError, StorageError
from regdata.sources.aside import Aside
from regdata.sources.claims import Claims
from regdata.sources.files import LocalFiles, Stat
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage
from regdata.sources.watch import Watch, read_links
from tests.collecting.test_sweep import OWN, Stop, files
from tests.support.helpers import age
from tests.support.odd import digest_of, image_bytes
from tests.support.server import Reply, Request, serving
from tests.support.sweeping import Journal, by_hand, written


def test_a_manifest_that_lands_late_and_names_another_digest(tmp_path: Path) -> None:
    """A layer that is linked by its sha512 alone is needed by a manifest that names it so, though it is stored by
    another name: link and data are where they were, as they were."""
    layer = make_layer("by sha512", 1000)
    manifest = image_bytes(b"{}", layer.data, algorithm="sha512")
    write = partial(written, tmp_path)

    def land(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            write(blob_path(digest_of(manifest)), manifest)
            write(revision_path("a", digest_of(manifest)), digest_of(manifest).encode())

    write(blob_path(layer.digest), layer.data)
    write(layer_path("a", digest_of(layer.data, "sha512")), layer.digest.encode())
    age(tmp_path, 60)
    before = files(tmp_path)
    aside, links, watch = by_hand(tmp_path, {layer.digest})
    stopped = Sweep(aside, None, watch, Journal(before=land), run="run", since=aside.now())
    swept = stopped.run([Item(layer.digest, len(layer.data), links)])
    assert (swept.spared, swept.freed) == ({layer.digest: "mentioned"}, {})
    assert before.items() <= files(tmp_path).items()


def test_an_upload_that_begins_late(tmp_path: Path) -> None:
    """An upload that began after the links were taken away, and has all its bytes when the data is, may have found that
    and be about to link it: link and data are where they were."""
    blob = OWN[0]
    write = partial(written, tmp_path)

    def begin(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            write("repositories/a/_uploads/1234/data", blob.data)

    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        write(path, data)
    age(tmp_path, 60)
    before = files(tmp_path)
    aside, links, watch = by_hand(tmp_path, {blob.digest})
    stopped = Sweep(aside, None, watch, Journal(before=begin), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "uploading"}, {})
    assert before.items() <= files(tmp_path).items()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside data"])
def test_what_is_kept_of_links_to_nothing(tmp_path: Path, beside: bool) -> None:
    """A link whose data is gone is not kept for days, but with data that was collected at the same time, which is."""
    root, (gone, freed) = tmp_path / "docker/registry/v2", OWN
    written = {layer_path("a", gone.digest): gone.digest.encode(), blob_path(freed.digest): freed.data}
    for path, data in list(written.items())[: 1 + beside]:
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, {freed.digest})
    stopped = Sweep(aside, None, watch, Journal(), run="run", since=aside.now(), keeps=True)
    items = [Item(gone.digest, 0, links, frees=False), Item(freed.digest, len(freed.data), ())]
    stopped.run(items if beside else items[:1])
    stopped.settle()
    assert [batch.state for batch in aside.batches()] == ["kept"] * beside
    assert not (root / layer_path("a", gone.digest)).exists()


def test_a_manifest_that_needs_what_may_still_come(tmp_path: Path) -> None:
    """A link that an image needs, to data that is not there yet, is where it was after another manifest came that names
    it, too."""
    blob, manifest = OWN[0], image_bytes(b"{}", OWN[0].data)
    write = partial(written, tmp_path)

    def land(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            write(blob_path(digest_of(manifest)), manifest)
            write(revision_path("a", digest_of(manifest)), digest_of(manifest).encode())

    write(layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    before = files(tmp_path)
    aside, links, watch = by_hand(tmp_path, ())
    stopped = Sweep(aside, None, watch, Journal(before=land), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, 0, links, frees=False, needed=links)])
    stopped.settle()
    assert (swept.spared, swept.unlinked) == ({blob.digest: "mentioned"}, 0)
    assert before.items() <= files(tmp_path).items()


@pytest.mark.parametrize(("limit", "value"), [("LONGEST", 1.1), ("STALLS", 0)])
def test_a_registry_that_is_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float) -> None:
    """Where a push may take longer inside the registry than anybody waits, or too often longer than was waited, the
    collection ends with what to do, and what it had taken is back."""
    monkeypatch.setattr(f"regdata.collecting.sweep.{limit}", value)
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(tmp_path, 60)
    before = files(tmp_path)
    aside, links, watch = by_hand(tmp_path, {blob.digest})
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=None))
    asked = {"has": lambda *_: False, "ping": lambda: None, "look_seconds": lambda _: 0.3}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    slow = Sweep(aside, claims, watch, Journal(), run="run", since=aside.now(), wait=0, listed=1)
    with pytest.raises(CleanupError, match=r"too slow 1 times in a row .*put back; run again when less is going on"):
        slow.run([Item(blob.digest, len(blob.data), links)])
    assert before.items() <= files(tmp_path).items()


def test_an_upload_that_has_only_begun(tmp_path: Path) -> None:
    """An upload without a byte, wherever it is open, keeps no link to data that is gone from being taken away."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    written = {layer_path("a", blob.digest): blob.digest.encode(), "repositories/b/_uploads/1234/data": b""}
    for path, data in written.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, ())
    stopped = Sweep(aside, None, watch, Journal(), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, 0, links, frees=False)])
    assert (swept.spared, swept.unlinked) == ({}, 1)


def test_pushed_while_replicas_are_looked_for(tmp_path: Path) -> None:
    """A layer that is linked anew while it is asked whether every replica has forgotten it is a push, and no sign of
    several replicas."""
    blob, root, asked = OWN[0], tmp_path / "docker/registry/v2", itertools.count()
    write = partial(written, tmp_path)

    def answer(request: Request) -> Reply:
        if not request.target.endswith(blob.digest):
            return Reply(404 if request.method == "HEAD" else 200)
        if request.method == "DELETE":
            return Reply(202)
        number = next(asked)  # claimed, made forgotten, asked of one and of another
        if number > 2:
            write(layer_path("a", blob.digest), blob.digest.encode())
        return Reply(404 if number in (1, 2) else 200)

    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        write(path, data)
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, {blob.digest})
    with serving(answer) as url:
        busy = Sweep(aside, Claims(Registry(url)), watch, Journal(), run="run", since=aside.now(), wait=0.1)
        swept = busy.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "pushed"}, {})
    assert all((root / path).exists() for path in (blob_path(blob.digest), layer_path("a", blob.digest)))


def test_linked_anew_after_it_was_read(tmp_path: Path) -> None:
    """A link that was written once more since it was read, and before its turn, is a push: it stays, and so does the
    data."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    data, link = root / blob_path(blob.digest), root / layer_path("a", blob.digest)
    for path, content in ((data, blob.data), (link, blob.digest.encode())):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    age(tmp_path, 60)

    def come(line: dict[str, Any]) -> None:
        if line["event"] == "unlinking":
            link.write_text(blob.digest)

    aside, links, watch = by_hand(tmp_path, {blob.digest})
    stopped = Sweep(aside, None, watch, Journal(before=come), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "pushed"}, {})
    assert (data.read_bytes(), link.read_text()) == (blob.data, blob.digest)


@pytest.mark.parametrize(("times", "stays"), [(2, False), (3, False), (4, True)])
def test_a_claim_that_has_to_be_cleared_again(tmp_path: Path, times: int, stays: bool) -> None:
    """A cache that goes on claiming a blob is told up to three times to forget it, which counts as one claim; when that
    was in vain the blob stays."""
    blob, root, told = OWN[0], tmp_path / "docker/registry/v2", list[str]()

    def answer(request: Request) -> Reply:
        if request.method == "DELETE":
            told.append(request.target)
            return Reply(202)
        claimed = request.target.endswith(blob.digest) and len(told) < times
        return Reply(200 if claimed or request.method == "GET" else 404)

    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, {blob.digest})
    with serving(answer) as url:
        claims, since = Claims(Registry(url)), aside.now()
        busy = Sweep(aside, claims, watch, Journal(), run="run", since=since, wait=0.1, listed=1)
        swept = busy.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.cleared) == ({blob.digest: "claimed"} if stays else {}, 1)
    assert (len(told), (root / blob_path(blob.digest)).exists()) == (min(times, 3), stays)


def test_needed_before_its_data_is_taken(tmp_path: Path) -> None:
    """A layer that a manifest needs which came once its links were away is never out of its place: whoever pulls it
    meanwhile gets it."""
    blob, root, moved = OWN[0], tmp_path / "docker/registry/v2", list[str]()
    manifest, link = image_bytes(b"{}", blob.data), layer_path("a", blob.digest)
    write = partial(written, tmp_path)

    class Busy(LocalFiles):
        def move(self, path: str, target: str) -> None:
            super().move(path, target)
            moved.append(path)
            if path == f"{root}/{link}":
                write(blob_path(digest_of(manifest)), manifest)
                write(revision_path("a", digest_of(manifest)), digest_of(manifest).encode())

    for path, data in ((blob_path(blob.digest), blob.data), (link, blob.digest.encode())):
        write(path, data)
    age(tmp_path, 60)
    before = files(tmp_path)
    aside = Aside(Storage(tmp_path, Busy()))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    watch.expect({blob.digest}, links)
    stopped = Sweep(aside, None, watch, Journal(), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "mentioned"}, {})
    assert f"{root}/{link}" in moved
    assert f"{root}/{blob_path(blob.digest)}" not in moved
    assert before.items() <= files(tmp_path).items()


def test_folders_of_what_was_freed_before_it_ended(tmp_path: Path) -> None:
    """Where a collection ends early nothing is left of what it had freed by then, in however many batches, not even a
    folder; what it had not decided upon is where it was."""
    layers, root = [make_layer(name, 10) for name in range(3)], tmp_path / "docker/registry/v2"
    for blob in layers:
        written(tmp_path, blob_path(blob.digest), blob.data)
        written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, {blob.digest for blob in layers})
    journal = Journal()

    def stop(line: dict[str, Any]) -> None:
        if [event["event"] for event in journal.events].count("collected") == 2:
            raise Stop

    journal.before = stop
    stopped = Sweep(aside, None, watch, journal, run="run", since=aside.now(), size=1)
    with pytest.raises(Stop):
        stopped.run([Item(link.name, 10, (link,)) for link in links])
    assert [path.name for path in root.glob("blobs/sha256/*/*")] == [links[2].name.removeprefix("sha256:")]
    assert [path.name for path in root.glob("repositories/a/_layers/sha256/*")] == [links[2].name[7:]]


def test_interrupted_while_it_puts_back(tmp_path: Path) -> None:
    """A Ctrl-C while what was taken is put back waits until all of it is."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"

    class Interrupted(LocalFiles):
        def move(self, path: str, target: str) -> None:
            super().move(path, target)
            if target.startswith(f"{root}/"):
                os.kill(os.getpid(), signal.SIGINT)

    def stop(line: dict[str, Any]) -> None:
        if line["event"] == "deciding":
            raise Stop

    written(tmp_path, blob_path(blob.digest), blob.data)
    written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    before = files(tmp_path)
    aside = Aside(Storage(tmp_path, Interrupted()))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    stopped = Sweep(aside, None, watch, Journal(before=stop), run="run", since=aside.now())
    with pytest.raises(KeyboardInterrupt):
        stopped.run([Item(blob.digest, len(blob.data), links)])
    assert before.items() <= files(tmp_path).items()


def test_linked_anew_while_dates_are_read(tmp_path: Path) -> None:
    """A link that is written in a second which began while the links' dates were read is a push: it stays."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    link = f"{root}/{layer_path('a', blob.digest)}"

    class Ticking(LocalFiles):
        second = int(time.time())
        pushes = False

        def touch(self, path: str, date: int | None = None) -> None:
            super().touch(path, self.second)

        def stat(self, path: str) -> Stat | None:
            if path == link and self.pushes:
                self.second, self.pushes = self.second + 1, False
                os.utime(link, (self.second, self.second))
            return super().stat(path)

    written(tmp_path, blob_path(blob.digest), blob.data)
    written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    ticking = Ticking()
    aside = Aside(Storage(tmp_path, ticking))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    stopped = Sweep(aside, None, watch, Journal(), run="run", since=aside.now())
    ticking.pushes = True
    swept = stopped.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "pushed"}, {})


def test_slow_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a registry that is too slow so many times in a row ends a collection: not one that is once in each wait."""
    monkeypatch.setattr("regdata.collecting.sweep.STALLS", 1)
    monkeypatch.setattr("regdata.collecting.sweep.WAIT", 0.3)
    blob, seconds = OWN[0], itertools.chain([0.2, 0, 0.2], itertools.repeat(0))
    written(tmp_path, blob_path(blob.digest), blob.data)
    written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, {blob.digest})
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=None))
    asked = {"has": lambda *_: False, "ping": lambda: time.sleep(next(seconds)), "look_seconds": lambda _: 0.0}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    slow = Sweep(aside, claims, watch, Journal(), run="run", since=aside.now(), wait=0)
    assert set(slow.run([Item(blob.digest, len(blob.data), links)]).freed) == {blob.digest}


def test_a_disk_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a disk that stalls, such as a manifest that is written, is waited for though the registry
    answers."""
    monkeypatch.setattr("regdata.collecting.sweep.WAIT", 0.2)
    blob, manifest, waiting = OWN[0], image_bytes(b"{}", OWN[0].data), list[str]()
    write = partial(written, tmp_path)

    def land() -> None:
        write(blob_path(digest_of(manifest)), manifest)
        write(revision_path("a", digest_of(manifest)), digest_of(manifest).encode())

    class Stalling(LocalFiles):
        def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
            super().write(path, data, lasting=lasting)
            if waiting:
                waiting.clear()
                time.sleep(0.2)
                threading.Timer(0.2, land).start()

    write(blob_path(blob.digest), blob.data)
    write(layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside = Aside(Storage(tmp_path, Stalling()))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=None))
    asked = {"has": lambda *_: False, "ping": lambda: None, "look_seconds": lambda _: 0.0}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    journal = Journal(before=lambda line: waiting.append("") if line["event"] == "setting aside" else None)
    busy = Sweep(aside, claims, watch, journal, run="run", since=aside.now(), wait=0)
    swept = busy.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "mentioned"}, {})


def test_storage_that_becomes_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the registry takes to look for what a push lists is found out again and again as it is collected."""
    monkeypatch.setattr("regdata.collecting.sweep.LONGEST", 1.1)
    takes = itertools.chain([0.0], itertools.repeat(0.3))
    for blob in OWN:
        written(tmp_path, blob_path(blob.digest), blob.data)
        written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside, _, watch = by_hand(tmp_path, {blob.digest for blob in OWN})
    links = {link.name: link for link in read_links(aside.storage, "a")}
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=None))
    asked = {"has": lambda *_: False, "ping": lambda: None, "look_seconds": lambda _: next(takes)}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    slower = Sweep(aside, claims, watch, Journal(), run="run", since=aside.now(), wait=0, listed=1)
    first, second = (Item(blob.digest, len(blob.data), (links[blob.digest],)) for blob in OWN)
    assert set(slower.run([first]).freed) == {first.digest}
    time.sleep(1.05)
    with pytest.raises(CleanupError, match="too slow"):
        slower.run([second])


def test_slow_storage_and_blobs_that_nobody_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How slow the registry's storage is is found out in another repository where nobody links what goes: in one that
    the login may ask in."""
    monkeypatch.setattr("regdata.collecting.sweep.LONGEST", 1.1)
    blob = OWN[0]

    def look_seconds(repository: str) -> float:
        if repository != "team/b":
            raise AccessError(f"{repository}: 403")
        return 0.3

    written(tmp_path, blob_path(blob.digest), blob.data)
    aside = Aside(Storage(tmp_path))
    aside.open("run")
    watch = Watch(aside.storage, {"outside": (), "team/b": ()}, aside.now())
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=("team/*",)))
    asked = {"has": lambda *_: False, "ping": lambda: None, "look_seconds": look_seconds}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    slow = Sweep(aside, claims, watch, Journal(), run="run", since=aside.now(), wait=0, listed=1)
    with pytest.raises(CleanupError, match="too slow"):
        slow.run([Item(blob.digest, len(blob.data), ())])


def test_replicas_and_a_push(tmp_path: Path) -> None:
    """Several replicas are found out also where one of the layers that one had to forget is pushed at that time."""
    pushed, other = OWN
    told, turns = list[str](), itertools.count()
    write = partial(written, tmp_path)

    def answer(request: Request) -> Reply:
        digest = request.target.rpartition("/")[2]
        if digest not in {blob.digest for blob in OWN}:
            return Reply(404 if request.method == "HEAD" else 200)
        if request.method == "DELETE":
            told.append(digest)
            if digest == pushed.digest:
                threading.Timer(0.05, write, (layer_path("a", digest), digest.encode())).start()
            return Reply(202)
        claimed = len(told) < 2 or digest == pushed.digest or next(turns) % 2
        return Reply(200 if claimed else 404)

    for blob in OWN:
        write(blob_path(blob.digest), blob.data)
        write(layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside, _, watch = by_hand(tmp_path, {blob.digest for blob in OWN})
    links = {link.name: link for link in read_links(aside.storage, "a")}
    with serving(answer) as url:
        since = aside.now()
        busy = Sweep(aside, Claims(Registry(url)), watch, Journal(), run="run", since=since, wait=0.3, listed=1)
        with pytest.raises(CleanupError, match="several replicas"):
            busy.run([Item(blob.digest, len(blob.data), (links[blob.digest],)) for blob in (pushed, other)])
    assert all((tmp_path / "docker/registry/v2" / blob_path(blob.digest)).exists() for blob in OWN)


def test_a_full_disk_when_it_is_to_be_kept(tmp_path: Path) -> None:
    """Where it can't be written down since when something is kept, all of that is where it was."""
    blob = OWN[0]

    class Full(LocalFiles):
        def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
            if path.endswith("/when-kept"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            super().write(path, data, lasting=lasting)

    written(tmp_path, blob_path(blob.digest), blob.data)
    written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    before = files(tmp_path)
    aside = Aside(Storage(tmp_path, Full()))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=None))
    asked = {"has": lambda *_: False, "ping": lambda: None, "look_seconds": lambda _: 0.0}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    busy = Sweep(aside, claims, watch, Journal(), run="run", since=aside.now(), wait=0, keeps=True)
    with pytest.raises(StorageError, match="No space left"):
        busy.run([Item(blob.digest, len(blob.data), links)])
    assert before.items() <= files(tmp_path).items()


def test_an_upload_that_goes_on(tmp_path: Path) -> None:
    """An upload that has just as many bytes as a blob that goes, and had fewer before, is another blob's."""
    blob, sizes = OWN[0], itertools.chain([1, len(OWN[0].data), len(OWN[0].data) + 1], itertools.repeat(0))

    class Growing(LocalFiles):
        def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
            super().write(path, data, lasting=lasting)
            written(tmp_path, "repositories/b/_uploads/1234/data", b"x" * next(sizes))

    written(tmp_path, blob_path(blob.digest), blob.data)
    written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside = Aside(Storage(tmp_path, Growing()))
    aside.open("run")
    links = tuple(read_links(aside.storage, "a"))
    watch = Watch(aside.storage, {}, aside.now())
    stopped = Sweep(aside, None, watch, Journal(), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, set(swept.freed)) == ({}, {blob.digest})


@pytest.mark.parametrize("algorithm", ["", "sha512"])
def test_a_manifest_that_names_what_is_not_linked_so(tmp_path: Path, algorithm: str) -> None:
    """A layer that nobody links, or by another digest alone, is needed by a manifest that comes late and names it by
    the one by which it is stored."""
    blob, manifest = OWN[0], image_bytes(b"{}", OWN[0].data)
    write = partial(written, tmp_path)

    def land(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            write(blob_path(digest_of(manifest)), manifest)
            write(revision_path("a", digest_of(manifest)), digest_of(manifest).encode())

    write(blob_path(blob.digest), blob.data)
    if algorithm:
        write(layer_path("a", digest_of(blob.data, algorithm)), blob.digest.encode())
    age(tmp_path, 60)
    before = files(tmp_path)
    aside, links, watch = by_hand(tmp_path, {blob.digest})
    stopped = Sweep(aside, None, watch, Journal(before=land), run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, len(blob.data), links)])
    assert (swept.spared, swept.freed) == ({blob.digest: "mentioned"}, {})
    assert before.items() <= files(tmp_path).items()


def test_a_needed_link_by_which_a_cache_claims_again(tmp_path: Path) -> None:
    """A link to data that is away does not come back where the cache claims the blob by it, and that is made to forget;
    it counts once, and is kept with its batch until then."""
    blob, told = OWN[0], list[str]()
    link = tmp_path / "docker/registry/v2" / layer_path("a", blob.digest)

    def answer(request: Request) -> Reply:
        if request.method == "DELETE":
            told.append(request.target)
            link.unlink(missing_ok=True)
            return Reply(202)
        is_claimed = request.target.endswith(blob.digest) and link.exists()
        return Reply(200 if request.method == "GET" or is_claimed else 404)

    written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside, links, watch = by_hand(tmp_path, ())
    with serving(answer) as url:
        claims = Claims(Registry(url))
        busy = Sweep(aside, claims, watch, Journal(), run="run", since=aside.now(), wait=0.1, listed=1)
        swept = busy.run([Item(blob.digest, 0, links, frees=False, needed=links)])
    assert (swept.spared, swept.unlinked, link.exists()) == ({}, 1, False)
    assert told == [f"/v2/a/blobs/{blob.digest}"]


@pytest.mark.parametrize("freed", [0, 1])
def test_what_can_not_be_freed_after_the_registry_was_stopped(tmp_path: Path, freed: int) -> None:
    """Where one of several batches can't be freed the others are put back, each as far as it can be; the journal does
    not say that all was."""
    layers, root, done = [make_layer(name, 10) for name in range(4)], tmp_path / "docker/registry/v2", list[str]()

    class Failing(LocalFiles):
        def move(self, path: str, target: str) -> None:
            back = target.startswith(f"{root}/") and done[-1:] == ["again"]
            if back or (target.endswith("-freed") and len(done) >= freed):
                done.append("failed")
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            super().move(path, target)
            done.extend(["freed"] if target.endswith("-freed") else [])

    for blob in layers:
        written(tmp_path, blob_path(blob.digest), blob.data)
        written(tmp_path, layer_path("a", blob.digest), blob.digest.encode())
    age(tmp_path, 60)
    aside = Aside(Storage(tmp_path, Failing()))
    aside.open("run")
    links, watch = tuple(read_links(aside.storage, "a")), Watch(aside.storage, {}, aside.now())
    journal = Journal()
    swept = Sweep(aside, None, watch, journal, run="run", since=aside.now(), size=1)
    swept.run([Item(link.name, 10, (link,)) for link in links])
    with pytest.raises(StorageError):
        swept.settle()
    done.append("again")
    with pytest.raises(StorageError):
        swept.undo()
    assert "put back" not in [event["event"] for event in journal.events]
    assert len(list(root.glob("blobs/sha256/*/*/data"))) == 4 - freed - 2
