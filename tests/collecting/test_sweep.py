"""A real registry, with its cache on, that is collected while it runs: what goes, what is spared and comes back."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from regdata.collecting.sweep import Sweep
from regdata.collecting.swept import Item
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import DOCKER_MANIFEST, OCI_MANIFEST, Blob, Image, make_image, make_layer, push
from regdata.errors import CleanupError, StorageError
from regdata.sources.aside import NAME, Aside
from regdata.sources.files import LocalFiles
from regdata.sources.paths import blob_path, layer_path
from regdata.sources.storage import Storage
from regdata.sources.watch import Watch, read_links
from tests.support.helpers import age, store_bytes
from tests.support.proxy import Fault, FaultProxy, faults_before
from tests.support.server import Reply, Request, serving
from tests.support.sweeping import Journal, data_path, link_path, sweep

BASE = make_layer("base", 3000)
KEPT = make_image([BASE, make_layer("kept", 2000)], created=1)
GONE = make_image([BASE, make_layer("gone", 4000)], created=2)
OWN = [blob for blob in GONE.blobs if blob not in KEPT.blobs]


@pytest.fixture
def registry(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """With its cache, two images in two repositories, and one of the two deleted in both: two blobs are unneeded."""
    with LocalRegistry(tmp_path / "registry", cache=True) as started:
        for name in ("a", "b/c"):
            push(started.url, name, "kept", KEPT)
            push(started.url, name, "gone", GONE)
            requests.delete(f"{started.url}/v2/{name}/manifests/{GONE.digest}", timeout=9).raise_for_status()
        age(started.base_path, 60)
        yield started


def pulls(url: str, name: str, reference: str, image: Image) -> bool:
    """Whether an image comes as it was pushed."""
    accept = {"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
    manifest = requests.get(f"{url}/v2/{name}/manifests/{reference}", headers=accept, timeout=9)
    try:
        parts = [requests.get(f"{url}/v2/{name}/blobs/{blob.digest}", timeout=9).content for blob in image.blobs]
    except requests.RequestException:  # fewer bytes than were announced
        return False
    return manifest.content == image.manifest and parts == [blob.data for blob in image.blobs]


def has(url: str, name: str, blob: Blob, digest: str = "") -> bool:
    return requests.head(f"{url}/v2/{name}/blobs/{digest or blob.digest}", timeout=9).status_code == 200


def upload(url: str, name: str, blob: Blob, *, digest: str = "", all_of_it: bool = True) -> None:
    """A blob's upload; without its last request, which names it, it stays open."""
    session = requests.Session()
    session.trust_env = False
    begun = session.post(f"{url}/v2/{name}/blobs/uploads/")
    where = begun.headers["Location"]
    sent = session.patch(where, data=blob.data, headers={"Content-Type": "application/octet-stream"})
    if all_of_it:
        where = sent.headers["Location"]
        session.put(where, params={"digest": digest or blob.digest}).raise_for_status()
    session.close()


def files(base_path: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Every file with what may change about it."""
    found = {}
    for folder, _, names in os.walk(base_path):
        for name in names:
            path = Path(folder, name)
            with suppress(FileNotFoundError):  # the guard is at work
                seen = path.stat()
                known = (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, seen.st_size)
                found[str(path.relative_to(base_path))] = known
    return found


def test_what_is_unneeded_goes_and_can_be_pushed_again(registry: LocalRegistry) -> None:
    """The unneeded blobs are freed in all repositories; the same image, pushed again, pulls: nothing was restarted."""
    before = store_bytes(registry.base_path)
    swept = sweep(registry)
    assert swept.freed == {blob.digest: len(blob.data) for blob in OWN}
    assert before - store_bytes(registry.base_path) == sum(swept.freed.values())
    assert (swept.unlinked, swept.cleared, swept.spared) == (4, 4, {})
    assert not any(has(registry.url, name, blob) for name in ("a", "b/c") for blob in OWN)
    assert os.listdir(registry.base_path) == ["docker"]
    for blob in OWN:
        assert not link_path(registry, "a", blob.digest).parent.exists()
        assert not data_path(registry, blob.digest).parent.exists()
    for name in ("a", "b/c"):
        push(registry.url, name, "again", GONE)
        assert pulls(registry.url, name, "again", GONE)
        assert pulls(registry.url, name, "kept", KEPT)


def test_a_link_by_another_algorithm_goes_too(registry: LocalRegistry) -> None:
    """A layer that was pushed by its sha512 is not claimed by it any more, and can be pushed by it again."""
    blob = make_layer("by sha512", 1000)
    digest = "sha512:" + hashlib.sha512(blob.data).hexdigest()
    upload(registry.url, "a", blob, digest=digest)
    assert has(registry.url, "a", blob, digest)
    age(registry.base_path, 60)
    assert blob.digest in sweep(registry).freed
    assert not has(registry.url, "a", blob, digest)
    upload(registry.url, "a", blob, digest=digest)
    assert has(registry.url, "a", blob, digest)


@pytest.mark.parametrize("event", ["unlinking", "setting aside", "deciding"])
def test_pushed_meanwhile(registry: LocalRegistry, event: str) -> None:
    """An image that is pushed between any two steps is whole at the end; where its blobs were taken they came back as
    they were, and in no repository is anything broken."""
    journal = Journal()
    before = files(registry.base_path)

    def come(line: dict[str, Any]) -> None:
        if line["event"] == event:
            push(registry.url, "a", "again", GONE)

    journal.before = come
    swept = sweep(registry, journal=journal, wait=1)
    assert pulls(registry.url, "a", "again", GONE)
    if event != "deciding":  # by then it has to be brought anew
        # Before its links went the image had only to be named.
        why = "mentioned" if event == "unlinking" else "pushed"
        assert swept.spared == {blob.digest: why for blob in OWN}
        after = files(registry.base_path)
        name = next(blob.digest for blob in OWN)
        for path in (data_path(registry, name), link_path(registry, "b/c", name)):
            assert after[str(path.relative_to(registry.base_path))] == before[str(path.relative_to(registry.base_path))]
    push(registry.url, "b/c", "again", GONE)
    assert pulls(registry.url, "b/c", "again", GONE)


def test_linked_in_the_second_in_which_the_reading_began(registry: LocalRegistry) -> None:
    """It may have been linked after it was read: it is spared."""
    since = int(time.time())
    for date, blob in zip((since, since - 1), OWN, strict=True):
        os.utime(link_path(registry, "a", blob.digest), (date, date))
    swept = sweep(registry, since=since)
    assert swept.spared == {OWN[0].digest: "pushed"}
    assert set(swept.freed) == {OWN[1].digest}


def test_a_manifest_that_lands_late(registry: LocalRegistry) -> None:
    """A manifest that was verified before the links went, and is linked after, has its blobs, links and all."""
    journal = Journal()
    revision = registry.base_path / f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{GONE.digest[7:]}"

    def land(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            (revision / "link").write_text(GONE.digest)

    journal.before = land
    assert sweep(registry, journal=journal, wait=1).spared == {blob.digest: "mentioned" for blob in OWN}
    assert pulls(registry.url, "a", GONE.digest, GONE)


def test_uploaded_right_before_it_is_asked_for(registry: LocalRegistry) -> None:
    """A layer that is uploaded again when its link was just taken keeps its new link: it is not made forgotten."""
    with faults_before(registry.url) as proxy:
        again = Fault(carried_out=True, before=lambda: upload(registry.url, "a", OWN[0]))
        proxy.on("HEAD", f"/v2/a/blobs/{OWN[0].digest}", again, times=1)
        assert sweep(registry, url=proxy.url).spared == {OWN[0].digest: "pushed"}
    assert link_path(registry, "a", OWN[0].digest).exists()
    assert has(registry.url, "a", OWN[0])


def test_an_upload_that_does_not_end(registry: LocalRegistry) -> None:
    """A blob is spared while an upload that may be it, by its size, is open."""
    upload(registry.url, "new/one", OWN[0], all_of_it=False)
    swept = sweep(registry)
    assert swept.spared == {OWN[0].digest: "uploading"}
    assert set(swept.freed) == {OWN[1].digest}
    age(registry.base_path, 7200)
    assert set(sweep(registry, run="2").freed) == {OWN[0].digest}


def test_a_claim_that_stays(registry: LocalRegistry) -> None:
    """A blob that the registry goes on claiming is left where it was, and it is said why; the others go."""
    with faults_before(registry.url) as proxy:
        proxy.on("HEAD", f"/v2/a/blobs/{OWN[0].digest}", Fault(200))
        swept = sweep(registry, url=proxy.url)
    assert swept.spared == {OWN[0].digest: "claimed"}
    assert set(swept.freed) == {OWN[1].digest}
    assert has(registry.url, "b/c", OWN[0])


def test_replicas(registry: LocalRegistry, tmp_path: Path) -> None:
    """Of several replicas with caches of their own one is made to forget, another goes on: nothing is collected."""
    other = LocalRegistry(tmp_path / "other", cache=True)
    other.base_path = registry.base_path
    other.folder.mkdir()
    with other:
        proxies = itertools.cycle([FaultProxy(registry.url), FaultProxy(other.url)])
        for name, blob in itertools.product(("a", "b/c"), OWN):
            assert has(other.url, name, blob)
        before = files(registry.base_path)
        with (
            serving(lambda request: next(proxies).answer(request)) as url,
            pytest.raises(CleanupError, match="several replicas"),
        ):
            sweep(registry, url=url)
    assert files(registry.base_path) == before


def test_a_registry_that_stalls(registry: LocalRegistry) -> None:
    """What was inside the registry when it stalled is waited for: the wait begins anew."""
    assert registry._process is not None
    stalled = registry._process
    journal = Journal()
    revision = registry.base_path / f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{GONE.digest[7:]}"

    def go_on() -> None:
        stalled.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        (revision / "link").write_text(GONE.digest)  # a push that was checked before it stalled

    def stall(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            stalled.send_signal(signal.SIGSTOP)
            threading.Timer(1.6, go_on).start()

    journal.before = stall
    assert sweep(registry, journal=journal, wait=1).spared == {blob.digest: "mentioned" for blob in OWN}
    assert pulls(registry.url, "a", GONE.digest, GONE)


class SlowStorage(FaultProxy):
    """A registry that takes its time to look for a blob, and for nothing else."""

    def answer(self, request: Request) -> Reply:
        if request.method == "HEAD":
            time.sleep(0.04)
        return super().answer(request)


def test_a_registry_whose_storage_is_slow(registry: LocalRegistry) -> None:
    """A push that is inside such a registry looks for all that its manifest lists, however fast it answers: it is
    waited for."""
    journal = Journal()
    revision = registry.base_path / f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{GONE.digest[7:]}"

    def land(line: dict[str, Any]) -> None:
        if line["event"] == "unlinking":
            threading.Timer(1.0, lambda: (revision / "link").write_text(GONE.digest)).start()

    journal.before = land
    with serving(SlowStorage(registry.url).answer) as url:
        swept = sweep(registry, url=url, journal=journal, listed=9, wait=0.1)
    assert swept.spared == {blob.digest: "mentioned" for blob in OWN}
    assert pulls(registry.url, "a", GONE.digest, GONE)


def test_kept(registry: LocalRegistry) -> None:
    """What is kept lies beside the registry's folder, and its folder says what it is."""
    swept = sweep(registry, keeps=True)
    storage = Storage(registry.base_path)
    (batch,) = Aside(storage).batches()
    assert batch.state == "kept"
    assert set(batch.data()) == set(swept.freed) == {blob.digest for blob in OWN}
    assert {digest: len(paths) for digest, paths in batch.links().items()} == dict.fromkeys(swept.freed, 2)
    assert "docker/registry/v2" in (registry.base_path / NAME / "README.txt").read_text()
    push(registry.url, "a", "again", GONE)
    assert pulls(registry.url, "a", "again", GONE)


class Stop(Exception):
    """Something that nobody expects."""


@pytest.mark.parametrize("line", range(4))
def test_what_is_undecided_is_put_back(registry: LocalRegistry, line: int) -> None:
    """Whatever ends a collection early, each file that was not decided upon is where it was, as it was."""
    journal = Journal()
    before = files(registry.base_path)

    def stop(event: dict[str, Any]) -> None:
        if len(journal.events) == line:
            raise Stop

    journal.before = stop
    with pytest.raises(Stop):
        sweep(registry, journal=journal)
    decided = line == 3
    assert (files(registry.base_path) == before) != decided
    assert not (registry.base_path / NAME).exists() or decided
    assert pulls(registry.url, "a", "kept", KEPT)


@pytest.mark.parametrize("line", range(4))
def test_killed(registry: LocalRegistry, line: int) -> None:
    """After a SIGKILL what is undecided is put back within moments, and another run frees it."""
    before = files(registry.base_path)
    if (child := os.fork()) == 0:
        journal = Journal()

        def kill(event: dict[str, Any]) -> None:
            if len(journal.events) == line:
                os.kill(os.getpid(), signal.SIGKILL)

        journal.before = kill
        with suppress(BaseException):
            sweep(registry, journal=journal)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if line < 3:
        wait_until(lambda: files(registry.base_path) == before)
    assert pulls(registry.url, "a", "kept", KEPT)
    sweep(registry, run="second")
    assert not any(data_path(registry, blob.digest).exists() for blob in OWN)
    push(registry.url, "a", "again", GONE)
    assert pulls(registry.url, "a", "again", GONE)


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Polls; AssertionError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_data_that_went_before_its_turn(tmp_path: Path) -> None:
    """What somebody else removed since the reading is not counted as freed."""
    there = OWN[1]
    data = tmp_path / "docker/registry/v2" / blob_path(there.digest)
    data.parent.mkdir(parents=True)
    data.write_bytes(there.data)
    aside, journal = Aside(Storage(tmp_path)), Journal()
    aside.open("run")
    watch = Watch(aside.storage, {}, aside.now())
    stopped = Sweep(aside, None, watch, journal, run="run", since=aside.now())
    swept = stopped.run([Item(blob.digest, len(blob.data), ()) for blob in OWN])
    assert (swept.freed, swept.spared) == ({there.digest: len(there.data)}, {})
    assert (journal.events[-1]["count"], journal.events[-1]["bytes"]) == (1, len(there.data))


def test_a_link_that_can_not_be_taken(tmp_path: Path) -> None:
    """Where one of several links can't be taken away the collection ends, and those that were are where they were."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"

    class Fixed(LocalFiles):
        def move(self, path: str, target: str) -> None:
            if path == f"{root}/{layer_path('b', blob.digest)}":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            super().move(path, target)

    for name in ("a", "b"):
        link = root / layer_path(name, blob.digest)
        link.parent.mkdir(parents=True)
        link.write_text(blob.digest)
    age(tmp_path, 60)
    before = files(tmp_path)
    aside = Aside(Storage(tmp_path, Fixed()))
    aside.open("run")
    links = tuple(link for name in ("a", "b") for link in read_links(aside.storage, name))
    watch = Watch(aside.storage, {}, aside.now())
    watch.expect((), links)
    stopped = Sweep(aside, None, watch, Journal(), run="run", since=aside.now())
    with pytest.raises(StorageError, match="Permission denied"):
        stopped.run([Item(blob.digest, 0, links, frees=False)])
    assert before.items() <= files(tmp_path).items()


def test_a_batch_that_can_not_be_put_back(tmp_path: Path) -> None:
    """Where a collection ends early and one file can't be put back, what was taken in other batches is."""
    root, fixed = tmp_path / "docker/registry/v2", set[str]()

    class Fixed(LocalFiles):
        def move(self, path: str, target: str) -> None:
            if target in fixed:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
            super().move(path, target)

    def stop(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            fixed.add(f"{root}/{layer_path('a', OWN[0].digest)}")
            raise Stop

    for blob in OWN:
        for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(data)
    age(tmp_path, 60)
    aside = Aside(Storage(tmp_path, Fixed()))
    aside.open("run")
    links = {link.name: link for link in read_links(aside.storage, "a")}
    watch = Watch(aside.storage, {}, aside.now())
    watch.expect(links, links.values())
    registry = SimpleNamespace(workers=1, reach=SimpleNamespace(repositories=None))
    asked = {"has": lambda *_: False, "ping": lambda: None, "look_seconds": lambda _: 0.0}
    claims: Any = SimpleNamespace(registry=registry, **asked)
    busy = Sweep(aside, claims, watch, Journal(before=stop), run="run", since=aside.now(), wait=0.3, size=1)
    with pytest.raises(Stop):
        busy.run([Item(blob.digest, len(blob.data), (links[blob.digest],)) for blob in OWN])
    assert (root / layer_path("a", OWN[1].digest)).read_text() == OWN[1].digest
