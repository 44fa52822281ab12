"""A sweep step by step, in a store of which no registry takes part: what comes in between."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regdata.collecting.sweep import Sweep
from regdata.collecting.swept import Item
from regdata.demo.samples import make_layer
from regdata.errors import CleanupError
from regdata.sources.aside import Aside
from regdata.sources.claims import Claims
from regdata.sources.files import LocalFiles
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage
from regdata.sources.watch import Watch, read_links
from tests.collecting.test_sweep import OWN, files
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
