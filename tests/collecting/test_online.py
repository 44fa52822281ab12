"""A collection of our own on a real registry: what others left is healed, what was set aside comes back or goes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.collecting import trash
from regdata.collecting.online import Collected, Reading, collect
from regdata.collecting.sweep import LISTED
from regdata.collecting.swept import Swept
from regdata.collecting.unlinked import MOST, ghosts, is_own, known, nobodys
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Blob, make_layer, push
from regdata.errors import CleanupError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.sources.aside import NAME, Aside, Batch
from regdata.sources.claims import Claims
from regdata.sources.files import LocalFiles, Stat
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage
from regdata.sources.transport import Reach
from regdata.sources.watch import Link
from tests.collecting.test_sweep import GONE, KEPT, OWN, files, has, pulls, upload
from tests.support.helpers import age
from tests.support.odd import digest_of, push_image_by
from tests.support.proxy import Fault, faults_before
from tests.support.server import Reply, Request, serving
from tests.support.small import NOW, Small, few
from tests.support.sweeping import Journal, data_path, link_path, needed, unneeded

DAY = 86400


@pytest.fixture
def registry(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """With its cache, and two images in two repositories, of which one was deleted in both."""
    with LocalRegistry(tmp_path / "registry", cache=True) as started:
        for name in ("a", "b/c"):
            push(started.url, name, "kept", KEPT)
            push(started.url, name, "gone", GONE)
            delete(started, name)
        age(started.base_path, 60)
        yield started


def delete(registry: LocalRegistry, name: str) -> None:
    requests.delete(f"{registry.url}/v2/{name}/manifests/{GONE.digest}", timeout=9).raise_for_status()


def run(registry: LocalRegistry, name: str = "run", **options: Any) -> Collected:
    """A collection of what is unneeded."""
    known, mentioned = needed(registry.base_path)
    blobs = registry.base_path / "docker/registry/v2/blobs/sha256"
    stored = {f"sha256:{data.parent.name}" for data in blobs.glob("*/*/data")}
    frees = unneeded(registry.base_path, mentioned)
    empty, young = options.pop("empty", frozenset()), options.pop("young", None)
    reading = Reading(int(time.time()), known, stored, mentioned - stored, frees=frees, empty=empty, young=young)
    options = {"wait": 0.3} | options
    client = Registry(options.pop("url", registry.url))
    record = options.pop("record", None) or Journal()
    return collect(Storage(registry.base_path), client, reading, record, run=name, **options)


def test_what_was_used_before(registry: LocalRegistry) -> None:
    """Young links to what deleted manifests used in that repository are no push in flight: but those that were written
    after the deletion are, and those to what no manifest used there."""
    brought = make_layer("brought", 1000)
    upload(registry.url, "a", brought)
    age(registry.base_path, 60)
    went = registry.base_path / "docker/registry/v2" / revision_path("b/c", GONE.digest)
    for path, ago in ((went.parent, 30), (link_path(registry, "b/c", OWN[1].digest), 5)):
        os.utime(path, (time.time() - ago,) * 2)
    collected = run(registry, young=int(time.time()) - 3600)
    assert set(collected.freed) == {OWN[0].digest}
    assert collected.swept.spared == dict.fromkeys([OWN[1].digest, brought.digest], "young")
    (went.parent / ".DS_Store").write_bytes(b"")  # the folder's date is not that of the deletion any more
    assert run(registry, "later", young=int(time.time()) - 3600).swept.spared == collected.swept.spared


def naive(registry: LocalRegistry) -> None:
    """Collects by the registry's own collector, beside the running registry."""
    subprocess.run(registry.gc_command, check=True, capture_output=True)


def test_what_a_naive_collection_left(registry: LocalRegistry) -> None:
    """Where data went behind the registry's back, its claims are cleared and the links go; pushes are whole again."""
    naive(registry)
    assert has(registry.url, "a", OWN[0])  # the registry is poisoned
    collected = run(registry)
    assert (collected.healed.unlinked, collected.healed.cleared) == (4, 4)
    assert collected.notes[0] == (
        "cleared 8 stale claims that earlier collections had left (4 links without data, 4 in the registry's cache)"
    )
    assert collected.freed == {}
    assert not any(has(registry.url, name, blob) for name in ("a", "b/c") for blob in OWN)
    assert not link_path(registry, "a", OWN[0].digest).parent.exists()
    again = run(registry, "again")
    assert (again.healed.unlinked, again.healed.cleared, again.notes) == (0, 0, [])


def test_a_claim_on_what_is_gone_that_stays(registry: LocalRegistry) -> None:
    """Whatever the registry goes on claiming, no link to data that is gone is put back."""
    naive(registry)
    with faults_before(registry.url) as proxy:
        proxy.on("HEAD", f"/v2/a/blobs/{OWN[0].digest}", Fault(200))
        assert run(registry, url=proxy.url).healed.spared == {OWN[0].digest: "claimed"}
    assert not any(link_path(registry, name, OWN[0].digest).exists() for name in ("a", "b/c"))


def test_claims_whose_links_are_gone(registry: LocalRegistry) -> None:
    """3.x's collector takes the links as well, and leaves their folders: by these the claims are found."""
    naive(registry)
    for name in ("a", "b/c"):
        for blob in OWN:
            link_path(registry, name, blob.digest).unlink()
    kept = KEPT.blobs[0]  # its link is taken, since another repository alone needs it
    link_path(registry, "a", kept.digest).unlink()
    assert has(registry.url, "a", OWN[0])
    assert has(registry.url, "a", kept)
    assert run(registry).healed.cleared == 5
    assert not has(registry.url, "a", OWN[0])
    assert not has(registry.url, "a", kept)


def test_links_that_may_have_been_in_a_large_store() -> None:
    """Where they are too many to ask for they are counted alone: a link for each blob in each repository is more than
    memory holds."""
    links = {digest: [Link("r0", digest, digest)] for digest in map(str, range(500))}
    names = [f"r{number}" for number in range(2000)]
    tracemalloc.start()
    try:
        assert ghosts(links, names) == {}
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert ghosts({"0": links["0"]}, names[:3]) == {"0": [Link("r1", "0", None), Link("r2", "0", None)]}


@pytest.mark.parametrize("whole", [True, False], ids=["repository", "links"])
def test_links_that_somebody_removed(registry: LocalRegistry, whole: bool) -> None:
    """Where links, or a repository, were removed behind the running registry's back, it is not known who claims what
    they led to: that stays, so that pushes of it are whole, until the registry was restarted."""
    for name in ("a", "b/c"):
        assert all(has(registry.url, name, blob) for blob in OWN)
        for blob in OWN:
            shutil.rmtree(link_path(registry, name, blob.digest).parent)
    if whole:
        shutil.rmtree(registry.base_path / "docker/registry/v2/repositories/b")
    before = files(registry.base_path)
    collected = run(registry)
    assert collected.freed == {}
    assert set(collected.swept.spared.values()) == {"unlinked"}
    assert "restart the registry" in collected.notes[0]
    assert files(registry.base_path) == before
    push(registry.url, "b/c", "gone", GONE)
    assert pulls(registry.url, "b/c", "gone", GONE)
    delete(registry, "b/c")
    for blob in OWN:
        shutil.rmtree(link_path(registry, "b/c", blob.digest).parent, ignore_errors=True)
    registry.restart()
    assert set(run(registry, "again").freed) == {blob.digest for blob in OWN}


@pytest.mark.parametrize("event", ["unlinking", "setting aside", "deciding"])
def test_pushed_though_nobody_linked_it(registry: LocalRegistry, event: str) -> None:
    """What no repository linked, and is pushed anew as it is collected, is whole afterwards."""
    for name in ("a", "b/c"):
        for blob in OWN:
            shutil.rmtree(link_path(registry, name, blob.digest).parent)
    registry.restart()
    waiting = [event]

    def before(line: dict[str, Any]) -> None:
        if line["event"] in waiting:
            waiting.clear()
            push(registry.url, "b/c", "again", GONE)

    run(registry, record=Journal(before=before))
    assert not waiting
    registry.restart()
    assert pulls(registry.url, "b/c", "again", GONE)


def test_asked_for_though_names_are_long(tools: None, tmp_path: Path) -> None:
    """Who claims what nobody links is asked for in a repository with the shortest name that can be, within reach."""
    first, blob, nobody = "first/" * 39 + "first", KEPT.blobs[0].digest, make_layer("nobody", 10).digest
    with LocalRegistry(tmp_path / "registry", cache=True) as registry, faults_before(registry.url) as proxy:
        for number, (names, within, below) in enumerate(
            [([first], None, ""), (["long/" * 44 + "a", "team/a"], None, "team/a/"), (["z"], ("team/*",), "team/a/")]
        ):
            for name in names:
                push(registry.url, name, "1", KEPT)
            data_path(registry, blob).unlink()
            claims = Claims(Registry(proxy.url, reach=Reach(repositories=within)))
            assert known(claims, Storage(registry.base_path), [blob, nobody]) == {blob}
            assert {line.partition("regdata-probe-")[0] for line in proxy.seen} == {f"HEAD /v2/{below}"}, number
            proxy.seen.clear()


@pytest.mark.parametrize("removed", [OWN, OWN[:1]], ids=["all", "one"])
def test_a_link_that_somebody_removed(registry: LocalRegistry, removed: list[Blob]) -> None:
    """What one repository links may be claimed by another that did: the others are asked, too, for each blob."""
    for name in ("a", "b/c"):
        assert all(has(registry.url, name, blob) for blob in OWN)
    for blob in removed:
        shutil.rmtree(link_path(registry, "b/c", blob.digest).parent)
    assert set(run(registry).freed) == {blob.digest for blob in OWN}
    push(registry.url, "b/c", "gone", GONE)
    assert pulls(registry.url, "b/c", "gone", GONE)


def test_a_blob_that_is_needed_and_gone(registry: LocalRegistry) -> None:
    """The claim on a layer that a kept image lost is cleared, too: pushed again, the image is whole."""
    lost = KEPT.blobs[-1]
    data_path(registry, lost.digest).unlink()
    push(registry.url, "a", "kept", KEPT)
    assert not pulls(registry.url, "a", "kept", KEPT)
    run(registry)
    push(registry.url, "a", "kept", KEPT)
    assert pulls(registry.url, "a", "kept", KEPT)


@pytest.mark.parametrize("days", [0, 7])
def test_an_empty_repository(registry: LocalRegistry, days: int) -> None:
    """With a repository that is to be removed go its links, also those to blobs that others need; they are kept as long
    as what is collected."""
    delete_kept = f"{registry.url}/v2/b/c/manifests/{KEPT.digest}"
    requests.delete(delete_kept, timeout=9).raise_for_status()
    if days:
        run(registry)  # then nothing but its links goes
    collected = run(registry, "later", empty={"b/c"}, keeps_days=days)
    assert set(collected.freed) == {blob.digest for blob in OWN if not days}
    kept = {digest for batch in Aside(Storage(registry.base_path)).batches() for digest in batch.links()}
    assert kept >= {blob.digest for blob in KEPT.blobs} if days else not kept
    assert not has(registry.url, "b/c", KEPT.blobs[0])
    assert not list((registry.base_path / "docker/registry/v2/repositories/b/c/_layers/sha256").iterdir())
    assert pulls(registry.url, "a", "kept", KEPT)


def test_set_aside(registry: LocalRegistry) -> None:
    """What is kept for some days frees nothing yet; a later run frees it when the days are over."""
    collected = run(registry, keeps_days=7)
    assert collected.set_aside == {blob.digest: len(blob.data) for blob in OWN}
    assert collected.freed == {}
    assert run(registry, "early", keeps_days=7).freed == {}
    (batch,) = Aside(Storage(registry.base_path)).batches()
    then = time.time() - 8 * DAY
    os.utime(f"{batch.folder}/when-kept", (then, then))
    assert run(registry, "late", keeps_days=7).freed == collected.set_aside
    assert not (registry.base_path / NAME).exists()


def test_set_aside_and_no_days_any_more(registry: LocalRegistry) -> None:
    """When nothing is to be kept any more, what was set aside goes with the next run."""
    kept = run(registry, keeps_days=7).set_aside
    assert run(registry, "later").freed == kept
    assert not (registry.base_path / NAME).exists()


def test_needed_again(registry: LocalRegistry) -> None:
    """What was set aside comes back, as it was, once a manifest refers to it again."""
    before = files(registry.base_path)
    run(registry, keeps_days=7)
    link = registry.base_path / f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{GONE.digest[7:]}/link"
    link.write_text(GONE.digest)
    collected = run(registry, "later", keeps_days=0)
    assert collected.back == {blob.digest for blob in OWN}
    assert collected.notes == ["2 blobs came back from what was set aside: they are needed again"]
    assert pulls(registry.url, "a", GONE.digest, GONE)
    link.unlink()
    assert files(registry.base_path) == before


@pytest.mark.parametrize("steps", range(7))
def test_killed_as_it_brings_back(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """After any of its steps the next run finds what is missing still, data and links."""
    before = files(registry.base_path)
    run(registry, keeps_days=7)
    link = registry.base_path / f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{GONE.digest[7:]}/link"
    link.write_text(GONE.digest)
    left = iter(range(steps))
    give_back = Batch.give_back

    def killed(batch: Batch, path: str) -> bool:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return give_back(batch, path)

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "give_back", killed)
        with suppress(KeyboardInterrupt):
            trash.bring_back(Aside(Storage(registry.base_path)), {blob.digest for blob in OWN})
    run(registry, "later", keeps_days=7)
    assert pulls(registry.url, "a", GONE.digest, GONE)
    link.unlink()
    assert files(registry.base_path) == before


def test_needed_again_by_another_name(registry: LocalRegistry) -> None:
    """What is missed by its sha512 comes back as well, with that link."""
    blob = make_layer("by sha512", 1000)
    named = "sha512:" + hashlib.sha512(blob.data).hexdigest()
    upload(registry.url, "a", blob, digest=named)
    age(registry.base_path, 60)
    assert blob.digest in run(registry, keeps_days=7).set_aside
    assert not has(registry.url, "a", blob, named)
    aside = Aside(Storage(registry.base_path))
    assert trash.bring_back(aside, {named}) == {blob.digest}
    aside.close()
    assert has(registry.url, "a", blob, named)


def test_pushed_again_while_set_aside(registry: LocalRegistry) -> None:
    """Of a blob that was brought anew no copy is kept: that frees bytes. Other repositories' links to it are,
    and come back where they are needed."""
    kept = run(registry, keeps_days=7).set_aside
    push(registry.url, "a", "again", GONE)
    collected = run(registry, "later", keeps_days=7)
    assert (collected.back, collected.freed, collected.emptied) == (set(), kept, kept)
    (batch,) = Aside(Storage(registry.base_path)).batches()
    assert batch.sizes() == {}
    assert {path for paths in batch.links().values() for path in paths} == {
        f"repositories/b/c/_layers/sha256/{blob.digest[7:]}/link" for blob in OWN
    }
    assert pulls(registry.url, "a", "again", GONE)
    assert trash.bring_back(Aside(Storage(registry.base_path)), set(kept)) == set()
    assert all(link_path(registry, "b/c", digest).exists() for digest in kept)


def test_owner_and_mode(registry: LocalRegistry) -> None:
    """Folders that have to be made anew for what comes back are as those around them."""
    root = registry.base_path / "docker"
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            path.chmod(0o2770)
            shutil.chown(path, 1234, 1234)
    run(registry, keeps_days=7)
    assert not data_path(registry, OWN[0].digest).parent.exists()
    link = registry.base_path / f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{GONE.digest[7:]}/link"
    link.write_text(GONE.digest)
    run(registry, "later")
    for path in (data_path(registry, OWN[0].digest).parent, link_path(registry, "b/c", OWN[0].digest).parent):
        seen = path.stat()
        assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777) == (1234, 1234, 0o2770)


def test_links_whose_data_may_still_come(registry: LocalRegistry) -> None:
    """Where a layer is missing that images of several repositories need, or a manifest's bytes are, so that nobody
    knows what it needs, links stay: once the data is there again, all of it is served."""
    lost, store = KEPT.blobs[-1], Storage(registry.base_path)
    for name in ("a", "b/c"):
        push(registry.url, name, "gone", GONE)
    away = {
        path: path.read_bytes()
        for path in (data_path(registry, digest) for digest in (lost.digest, GONE.digest, OWN[0].digest))
    }
    for path in away:
        path.unlink()
    registry.restart()  # what its cache knows it would claim
    links = [link_path(registry, name, blob.digest) for name in ("a", "b/c") for blob in (lost, OWN[0])]
    (registry.base_path.parent / "conf.json").write_text(
        json.dumps({"registry": {"url": registry.url, "base_path": str(registry.base_path)}, "sql": {}})
    )
    inventory = regdata.scan(regdata.load_config(registry.base_path.parent))
    reading = Reading.of(inventory, began=int(time.time()))
    collect(store, Registry(registry.url), reading, Journal(), run="run", wait=0.3)
    assert all(link.exists() for link in links)
    for path, data in away.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    for name in ("a", "b/c"):
        assert pulls(registry.url, name, "kept", KEPT)
        assert pulls(registry.url, name, "gone", GONE)


def test_where_the_login_may_not_ask(registry: LocalRegistry) -> None:
    """A repository in which the login may not ask may have had a link: what its registry's cache may claim stays."""
    push(registry.url, "closed", "kept", KEPT)
    before = files(registry.base_path)
    with faults_before(registry.url) as proxy:
        proxy.on("HEAD", "/v2/closed/", Fault(403))
        collected = run(registry, url=proxy.url)
    assert set(collected.swept.spared) == {blob.digest for blob in OWN}
    assert "give it the right to pull there" in " ".join(collected.notes)
    assert files(registry.base_path) == before
    gone = KEPT.blobs[-1].digest
    data_path(registry, gone).unlink()
    with faults_before(registry.url) as proxy:
        proxy.on("HEAD", "/v2/closed/", Fault(403))
        collected = run(registry, url=proxy.url)
    assert collected.healed.spared == {gone: "closed"}
    assert (collected.healed.unlinked, link_path(registry, "closed", gone).exists()) == (0, True)


def test_a_copy_that_is_none(registry: LocalRegistry) -> None:
    """What came anew and lost its bytes (the machine's power failed) is no reason to free what is set aside: that comes
    back in its place."""
    kept = run(registry, keeps_days=7).set_aside
    for blob in OWN:
        upload(registry.url, "a", blob)
        data_path(registry, blob.digest).write_bytes(b"")
    age(registry.base_path, 60)
    aside = Aside(Storage(registry.base_path))
    assert trash.drop_copies(aside) == {}
    assert trash.frees(aside, 7, int(time.time())) == 0
    for batch in trash.kept(aside):
        batch.undo()
    assert all(data_path(registry, digest).stat().st_size == size for digest, size in kept.items())


def test_what_is_there_by_another_name_is_not_missing(registry: LocalRegistry) -> None:
    """A layer that an image names by sha512 is stored by sha256: nothing of it comes back from the trash."""
    push_image_by(registry.url, "a", "by", ("alias", 0), "sha512")
    (registry.base_path.parent / "conf.json").write_text(
        json.dumps({"registry": {"url": registry.url, "base_path": str(registry.base_path)}, "sql": {}})
    )
    inventory = regdata.scan(regdata.load_config(registry.base_path.parent))
    assert any(digest.startswith("sha512:") for digest in inventory.blobs["blob_hash"])
    assert inventory.missing == frozenset()


class Shifted(LocalFiles):
    """A file server whose clock is so many seconds ahead."""

    ahead: int

    def stat(self, path: str) -> Stat | None:
        found = super().stat(path)
        return found and found._replace(mtime=found.mtime + self.ahead)


class Restarted(nullcontext[None]):
    """A registry that is stopped while it is collected, and knows nothing after that."""

    def forgot(self) -> bool:
        return True


@pytest.mark.parametrize("ahead", [-600, 600])
def test_a_store_whose_clock_is_wrong(tmp_path: Path, ahead: int) -> None:
    """Whichever clock is ahead, a link that was written since the reading began is a push, and one of before is not."""
    new, old = OWN
    shifted, began = Shifted(), int(time.time())
    shifted.ahead = ahead
    for blob, date in ((new, began), (old, began - 60)):
        for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
            file = tmp_path / "docker/registry/v2" / path
            file.parent.mkdir(parents=True)
            file.write_bytes(data)
            os.utime(file, (date, date))
    frees = {blob.digest: len(blob.data) for blob in OWN}
    reading, nobody = Reading(began, {}, set(frees), frees=frees), Registry("http://127.0.0.1:1")
    collected = collect(Storage(tmp_path, shifted), nobody, reading, Journal(), run="run", pause=Restarted())
    assert collected.swept.spared == {new.digest: "pushed"}
    assert set(collected.freed) == {old.digest}


@pytest.mark.parametrize("why", ["pushed", "young", "mentioned", "uploading", "unlinked", "lasting", "claimed"])
def test_why_blobs_stayed_is_told(why: str) -> None:
    """Whatever the reason is for which blobs were not collected, a note says how many they are, and why."""
    stayed = Swept(spared=dict.fromkeys(("sha256:1", "sha256:2"), why))
    notes = Collected({}, {}, {}, 0, set(), Swept(), stayed).notes
    assert [note.partition(": ")[0] for note in notes] == ["2 blobs stayed"]


def test_linked_anew_where_nobody_may_be_asked(tmp_path: Path) -> None:
    """What goes stays where it is linked meanwhile, be it into an old link's folder of a repository outside of
    registry.repositories, above which nothing changes."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    again = root / layer_path("outside", blob.digest)
    again.parent.mkdir(parents=True)
    for path_there in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path_there, (time.time() - 3600,) * 2)

    def link(line: dict[str, Any]) -> None:
        if line["event"] == "setting aside":
            again.write_text(blob.digest)

    reading = Reading(int(time.time()), {}, {blob.digest}, frees={blob.digest: len(blob.data)})
    journal, nobody = Journal(before=link), Registry("http://127.0.0.1:1")
    collected = collect(Storage(tmp_path), nobody, reading, journal, run="run", pause=Restarted(), within=["a"])
    assert collected.swept.spared == {blob.digest: "pushed"}
    assert (root / blob_path(blob.digest)).read_bytes() == blob.data


def test_it_goes_and_so_does_its_copy(tmp_path: Path) -> None:
    """Of a blob that had been set aside, came anew and goes again both the copy and the new bytes count as freed."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    data, link = root / blob_path(blob.digest), root / layer_path("a", blob.digest)
    for path in (data, link):
        path.parent.mkdir(parents=True)
    data.write_bytes(blob.data)
    link.write_text(blob.digest)
    aside = Aside(Storage(tmp_path))
    aside.open("earlier")
    batch = aside.batch("earlier", 1)
    assert batch.take(blob_path(blob.digest))
    batch.keep()
    data.write_bytes(blob.data)
    age(tmp_path, 60)
    size, nobody = len(blob.data), Registry("http://127.0.0.1:1")
    reading = Reading(int(time.time()), {}, {blob.digest}, frees={blob.digest: size})
    collected = collect(Storage(tmp_path), nobody, reading, Journal(), run="later", pause=Restarted())
    assert (collected.freed, collected.emptied) == ({blob.digest: 2 * size}, {blob.digest: size})
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    ("repository", "named", "stays"), [("a", "sha512:2", True), ("a", "sha256:1", True), ("b", "sha512:2", False)]
)
def test_links_that_a_manifest_may_need(repository: str, named: str, stays: bool) -> None:
    """A link to bytes that are away is needed by a manifest of its repository that names them, by whichever of their
    digests; what another repository's names is no matter."""
    link = Link("a", "sha512:2", "sha256:1")
    assert Reading(0, {}, set(), lacking={(repository, named)}).needed([link]) == ((link,) if stays else ())


def test_how_much_a_push_may_look_for() -> None:
    """A push is waited for as long as one takes of the largest manifest that is there; of as many layers as Docker
    allows where there is none so large."""
    large = Small()
    large.push("a", "1", days=9, **{f"layer{number}": 1 for number in range(2 * LISTED)})
    large.push("a", "2", days=9, x=1)
    assert Reading.of(few().inventory(), began=NOW).listed == LISTED
    assert Reading.of(large.inventory(), began=NOW).listed == 2 * LISTED + 1  # with its config


class Lost(nullcontext[None]):
    """A registry that is stopped while it is collected, and does not come back."""

    def forgot(self) -> bool:
        raise CleanupError("gc-after failed")


def test_the_registry_does_not_come_back(tmp_path: Path) -> None:
    """Where nobody knows what the registry knows after it was collected all is put back, and the run counts as one that
    freed nothing, so that it can be undone."""
    blob, base_path = OWN[0], tmp_path / "store"
    root = base_path / "docker/registry/v2"
    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(base_path, 60)
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(regdata.load_config(tmp_path), sql_id="x", action="del")
    reading = Reading(int(time.time()), {}, {blob.digest}, frees={blob.digest: len(blob.data)})
    nobody = Registry("http://127.0.0.1:1")
    with pytest.raises(CleanupError, match="gc-after failed"):
        collect(Storage(base_path), nobody, reading, record, run="run", pause=Lost())
    assert (root / blob_path(blob.digest)).read_bytes() == blob.data
    past = PastRun(record.folder)
    assert (past.began_to_collect, past.may_have_freed) == (True, False)


def test_a_folder_that_is_left_of_a_link_is_no_push(tmp_path: Path) -> None:
    """What goes is freed though an earlier collection has left, in another repository, the folder of a link to it,
    which says no date: that is no push in flight."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    (root / layer_path("b", blob.digest)).parent.mkdir(parents=True)
    age(tmp_path, 3 * 3600)
    now, nobody = int(time.time()), Registry("http://127.0.0.1:1")
    reading = Reading(now, {}, {blob.digest}, frees={blob.digest: len(blob.data)}, young=now - 2 * 3600)
    collected = collect(Storage(tmp_path), nobody, reading, Journal(), run="run", pause=Restarted())
    assert (set(collected.freed), collected.swept.spared) == ({blob.digest}, {})


def test_data_that_came_after_the_reading(tmp_path: Path) -> None:
    """A link whose data was not there when the registry was read, and is by the time of the collection, on a disk that
    was mounted since say, is no link without data: it stays."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    link = root / layer_path("a", blob.digest)
    for path, data in ((root / blob_path(blob.digest), blob.data), (link, blob.digest.encode())):
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    age(tmp_path, 60)
    reading, nobody = Reading(int(time.time()), {}, set()), Registry("http://127.0.0.1:1")
    collected = collect(Storage(tmp_path), nobody, reading, Journal(), run="run", pause=Restarted())
    assert collected.healed.unlinked == 0
    assert link.read_text() == blob.digest


def test_what_a_manifest_that_can_not_be_read_may_need() -> None:
    """What is linked where a manifest can't be read may be named by that: it counts as needed, also where nothing else
    is missing."""
    made, lost = few(), f"sha256:{'e' * 64}"
    made.row("oddities", image_name="a/app", what="link", hash=lost)
    inventory = made.inventory()
    assert inventory.missing == frozenset()
    assert Reading.of(inventory, began=NOW).lacking == {("a/app", lost)}


def test_a_run_that_only_heals(tmp_path: Path) -> None:
    """A run that took away nothing but links to data that is gone has freed nothing: it can be undone as before."""
    base_path, digest = tmp_path / "store", OWN[0].digest
    link = base_path / "docker/registry/v2" / layer_path("a", digest)
    link.parent.mkdir(parents=True)
    link.write_text(digest)
    age(base_path, 60)
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(regdata.load_config(tmp_path), sql_id="x", action="del")
    reading, nobody = Reading(int(time.time()), {}, set()), Registry("http://127.0.0.1:1")
    collected = collect(Storage(base_path), nobody, reading, record, run="run", pause=Restarted())
    assert (collected.healed.unlinked, collected.freed) == (1, {})
    past = PastRun(record.folder)
    assert (past.began_to_collect, past.may_have_freed) == (True, False)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_old_link_is_no_push_in_flight(tmp_path: Path, algorithm: str) -> None:
    """A blob that was linked a day ago, by whatever digest, and that no manifest ever used, goes."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    link = layer_path("a", digest_of(blob.data, algorithm))
    for path, data in ((blob_path(blob.digest), blob.data), (link, blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(tmp_path, DAY)
    now, nobody = int(time.time()), Registry("http://127.0.0.1:1")
    reading = Reading(now, {}, {blob.digest}, frees={blob.digest: len(blob.data)}, young=now - 7200)
    collected = collect(Storage(tmp_path), nobody, reading, Journal(), run="run", pause=Restarted())
    assert (collected.freed, collected.swept.spared) == ({blob.digest: len(blob.data)}, {})
    assert not (root / link).exists()


@pytest.mark.parametrize(
    ("healed", "swept", "told"),
    [
        ({"sha256:1": "closed"}, {}, ["1 blob stayed"]),
        ({"sha256:1": "closed"}, {"sha256:1": "closed", "sha256:2": "closed"}, ["2 blobs stayed"]),
        ({"sha256:1": "pushed", "sha256:2": "claimed", "sha256:3": "mentioned"}, {}, []),
    ],
)
def test_what_is_told_of_links_without_data(healed: dict[str, str], swept: dict[str, str], told: list[str]) -> None:
    """That the login may not ask is told of links without data, too, of each blob once; what else keeps those concerns
    no blob."""
    notes = Collected({}, {}, {}, 0, set(), Swept(spared=healed), Swept(spared=swept)).notes
    assert [note.partition(": ")[0] for note in notes] == told


def test_a_large_manifest_on_a_slow_storage(tmp_path: Path) -> None:
    """A push of as much as the largest manifest lists is waited for; where it may take longer in the registry than
    anybody waits, nothing is collected."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    for path, data in ((blob_path(blob.digest), blob.data), (layer_path("a", blob.digest), blob.digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    age(tmp_path, 60)

    def answer(request: Request) -> Reply:
        time.sleep(0.005 if request.method == "HEAD" else 0)
        return Reply(404 if request.method == "HEAD" else 200)

    reading = Reading(int(time.time()), {}, {blob.digest}, frees={blob.digest: len(blob.data)}, listed=100_000)
    with serving(answer) as url, pytest.raises(CleanupError, match="was too slow 1 times in a row"):
        collect(Storage(tmp_path), Registry(url), reading, Journal(), run="run", wait=0.1)
    assert (root / blob_path(blob.digest)).read_bytes() == blob.data


def test_copies_of_which_a_run_was_killed_over_one(tmp_path: Path) -> None:
    """Of a blob that came anew, both the copy that is kept and the one that a run was killed over as it freed it count
    as freed."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    data = root / blob_path(blob.digest)
    data.parent.mkdir(parents=True)
    aside = Aside(Storage(tmp_path))
    for run_ in ("killed", "earlier"):
        data.write_bytes(blob.data)
        aside.open(run_)
        batch = aside.batch(run_, 1)
        assert batch.take(blob_path(blob.digest))
        batch.keep()
    kept = Path(aside.folder) / "killed/0001-kept"
    kept.rename(kept.with_name("0001-freed"))
    data.write_bytes(blob.data)
    age(data.parent, 60)
    assert trash.frees(aside, 7, int(time.time())) == 2 * len(blob.data)
    reading, nobody = Reading(int(time.time()), {}, {blob.digest}), Registry("http://127.0.0.1:1")
    collected = collect(Storage(tmp_path), nobody, reading, Journal(), run="run", keeps_days=7, pause=Restarted())
    assert (collected.freed, collected.emptied, collected.kept) == (({blob.digest: 2 * len(blob.data)},) * 2 + (0,))
    assert data.read_bytes() == blob.data


def test_a_push_in_flight_outside(tmp_path: Path) -> None:
    """A layer that goes stays where it was linked just now in a repository outside of registry.repositories, for a push
    whose manifest is to come."""
    blob, root = OWN[0], tmp_path / "docker/registry/v2"
    links = [root / layer_path(name, blob.digest) for name in ("a", "outside")]
    for path, data in ((root / blob_path(blob.digest), blob.data), *((link, blob.digest.encode()) for link in links)):
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    age(tmp_path, 3 * 3600)
    now, nobody = int(time.time()), Registry("http://127.0.0.1:1")
    os.utime(links[1], (now - 60,) * 2)
    reading = Reading(now, {}, {blob.digest}, frees={blob.digest: len(blob.data)}, young=now - 2 * 3600)
    collected = collect(Storage(tmp_path), nobody, reading, Journal(), run="run", pause=Restarted(), within=["a"])
    assert (collected.freed, collected.swept.spared) == ({}, {blob.digest: "young"})
    assert all(link.exists() for link in links)


def test_names_of_our_own_repositories(tmp_path: Path) -> None:
    """What is made up to try something out in is known as ours by its name, should a run be killed over it, in a store
    without repositories, too; what only begins or ends like that is somebody else's."""
    claims, repositories = Claims(Registry("http://127.0.0.1:1")), tmp_path / "docker/registry/v2/repositories"
    repositories.mkdir(parents=True)
    for begin in ("", "app/"):
        (repositories / begin / "_layers").mkdir(parents=True)
        name = nobodys(claims, Storage(tmp_path))
        assert name.startswith(begin)
        assert is_own(name)
        assert not any(map(is_own, (f"{name}0", f"{name}-of/mine", f"{name}/below", f"my{name.replace('/', '-')}")))


@pytest.mark.parametrize(
    ("holder", "others", "asked"), [("r0", MOST, True), ("r0", MOST + 1, False), ("x", MOST, False)]
)
def test_how_many_links_may_have_been(holder: str, others: int, asked: bool) -> None:
    """Links that are not there, but may have been, are asked for up to a number; each repository counts that has none,
    also where one that has is not among those that may be asked."""
    links = {"0": [Link(holder, "0", "0")]}
    assert len(ghosts(links, [f"r{number}" for number in range(others + 1)]).get("0", ())) == (others if asked else 0)


def test_what_was_freed_while_the_registry_was_stopped(tmp_path: Path) -> None:
    """A run that collected while the registry was stopped, and found it restarted after that, counts as one that has
    freed something."""
    blob, base_path = OWN[0], tmp_path / "store"
    data = base_path / "docker/registry/v2" / blob_path(blob.digest)
    data.parent.mkdir(parents=True)
    data.write_bytes(blob.data)
    age(base_path, 60)
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(regdata.load_config(tmp_path), sql_id="x", action="del")
    frees = {blob.digest: len(blob.data)}
    reading, nobody = Reading(int(time.time()), {}, {blob.digest}, frees=frees), Registry("http://127.0.0.1:1")
    assert collect(Storage(base_path), nobody, reading, record, run="run", pause=Restarted()).freed == frees
    past = PastRun(record.folder)
    assert (past.began_to_collect, past.may_have_freed) == (True, True)
