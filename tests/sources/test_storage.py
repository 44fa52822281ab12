"""The registry's folder: layouts written by hand, and a real registry's."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_index, make_layer, push
from regdata.errors import StorageError
from regdata.sources.columns import Columns, merge
from regdata.sources.dates import Pushed
from regdata.sources.files import LocalFiles
from regdata.sources.paths import ASIDE, layer_path
from regdata.sources.source import Going, Part
from regdata.sources.storage import Storage
from regdata.sources.watch import Watch
from tests.support.folder import OCI_CONFIG, OCI_MANIFEST, PUSHED, Folder
from tests.support.helpers import ROOT


def read(folder: Folder, parts: int = 1) -> Columns:
    storage = Storage(folder.base_path)
    return merge(storage.read(part) for part in storage.split(parts))


def rows(columns: Columns, table: str) -> list[tuple[Any, ...]]:
    return sorted(zip(*columns[table].values(), strict=True), key=repr)


def errors(columns: Columns) -> dict[str, str | None]:
    contents = columns["contents"]
    return dict(zip(contents["manifest_hash"], contents["error"], strict=True))


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    """An error says what was found instead of a store, and how to set base_path."""
    with pytest.raises(StorageError, match=r"nowhere is not a folder\. Set registry\.base_path"):
        Storage(tmp_path / "nowhere")
    assert Storage(tmp_path).repositories() == []  # of a registry into which nothing was pushed yet
    for name in ("blobs", "repositories"):
        (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="but blobs, repositories") as caught:
        Storage(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_empty_store_is_empty(folder: Folder) -> None:
    """A store to which nothing was ever pushed can be read."""
    storage = Storage(folder.base_path)
    assert storage.root == folder.root
    assert storage.writable
    assert storage.repositories() == []
    assert storage.split(3) == [Part((), ())]
    assert not any(any(lists.values()) for lists in read(folder).values())
    assert (storage.blob_sizes(), storage.uploads()) == ({}, [])
    assert storage.disk().free > 0


def test_repositories_are_found_at_any_depth(folder: Folder) -> None:
    """Repositories may lie beside and below each other, and may be empty."""
    for name in ("b", "a/b", "a/b/c/d"):
        folder.image(name, "latest")
    (folder.root / "repositories/a/empty/_layers").mkdir(parents=True)
    (folder.root / "repositories/a/none/at/all").mkdir(parents=True)
    (folder.root / "repositories/b/_uploads/x/_manifests").mkdir(parents=True)
    (folder.root / "repositories/file").touch()
    assert Storage(folder.base_path).repositories() == ["a/b", "a/b/c/d", "a/empty", "b"]


def test_links_that_lead_back_end(folder: Folder, tmp_path: Path) -> None:
    """A symbolic link to another place is followed as the registry does, but not for ever."""
    folder.image("a/b", "latest")
    outside = Folder(tmp_path / "outside")
    outside.image("moved", "latest")
    repositories = folder.root / "repositories"
    (repositories / "a/b/up").symlink_to(repositories / "a")
    (repositories / "moved").symlink_to(outside.root / "repositories/moved")
    assert Storage(folder.base_path).repositories() == ["a/b", "moved"]


def test_columns(folder: Folder) -> None:
    """A tag, its manifest, what it refers to and all blobs come with dates and sizes."""
    config = {"created": "2023-05-01T12:34:56Z", "os": "linux", "architecture": "amd64"}
    digest = folder.image("team/app", "v1", "v2", config=config)
    folder.tag("team/app", "v2", digest, mtime=PUSHED + 5)
    config_hash = "sha256:" + hashlib.sha256(json.dumps(config).encode()).hexdigest()
    size = folder.blob_path(digest).stat().st_size
    columns = read(folder)
    assert rows(columns, "repositories") == [("team/app",)]
    assert rows(columns, "tags") == [
        ("team/app", "v1", digest, PUSHED, None),
        ("team/app", "v2", digest, PUSHED + 5, None),
    ]
    assert rows(columns, "revisions") == [("team/app", digest, PUSHED)]
    assert rows(columns, "contents") == [
        (digest, OCI_MANIFEST, size, "image", 1682944496, "linux/amd64", None, None, None)
    ]
    assert list(columns.references()) == [(digest, (config_hash, "config", 1, OCI_CONFIG, None))]
    assert rows(columns, "blobs") == sorted(
        [
            (digest, size, PUSHED),
            (config_hash, len(json.dumps(config)), PUSHED),
        ]
    )


def test_any_split_reads_the_same(folder: Folder) -> None:
    """Shares are picklable, cover everything once, and add up to the whole."""
    for number in range(30):
        folder.image(f"team/app{number % 7}", f"v{number}", annotations={"n": str(number)})
    whole = read(folder)
    storage: Storage = pickle.loads(pickle.dumps(Storage(folder.base_path)))
    for parts in (2, 5, 100):
        split = pickle.loads(pickle.dumps(storage.split(parts)))
        assert 1 < len(split) <= parts
        assert sorted(n for part in split for n in part.repositories) == storage.repositories()
        columns = merge(storage.read(part) for part in split)
        for table in whole:
            assert rows(columns, table) == rows(whole, table)


@pytest.mark.parametrize("link", ["", "sha256:", "sha256:../../etc", "\udcff\udcfe", "x" * 300])
def test_a_broken_tag_link_is_told(folder: Folder, link: str) -> None:
    """A link that holds no digest leaves a tag whose digest nobody knows."""
    folder.image("app", "good")
    path = folder.manifests("app") / "tags/bad/current/link"
    folder.write(str(path), link.encode(errors="surrogateescape"))
    assert ("app", "bad", None, PUSHED, "broken tag link") in rows(read(folder), "tags")
    assert Storage(folder.base_path).state("app")[0]["bad"] is None


def test_links_that_hold_no_digest(folder: Folder) -> None:
    """Links to manifests and to blobs are told where they hold no digest, be it nothing, as a crash leaves them."""
    digest, storage = folder.image("app"), Storage(folder.base_path)
    texts = {f"sha256:{number * 64}": text for number, text in zip("123", ["", f"{digest}\n", "x" * 300], strict=True)}
    folders = (str(folder.manifests("app") / "revisions"), str(folder.root / "repositories/app/_layers"))
    for place in folders:
        for name, text in {**texts, digest: digest}.items():
            folder.write(f"{place}/{name.replace(':', '/')}/link", text.encode())
    for place, of_blobs in zip(folders, (False, True), strict=True):
        expected = {name: f"{place}/{name.replace(':', '/')}/link" for name in texts}
        assert storage.broken_links("app", of_blobs=of_blobs) == expected


def test_a_tag_whose_manifest_is_gone_is_told(folder: Folder) -> None:
    """A tag on a digest that its repository doesn't have can't be pulled, whoever else has it."""
    digest = folder.image("other")
    folder.tag("app", "lost", digest)
    error = "no such manifest in the repository"
    assert rows(read(folder), "tags") == [("app", "lost", digest, PUSHED, error)]


def test_what_is_no_tag_is_passed_over(folder: Folder) -> None:
    """Stray files, half-removed tags and deleted revisions are not there."""
    digest = folder.image("app", "v1")
    (folder.manifests("app") / "tags/.DS_Store").touch()
    (folder.manifests("app") / "tags/half").mkdir()
    (folder.manifests("app") / "revisions/sha256" / ("0" * 64)).mkdir()
    folder.write(str(folder.manifests("app") / "revisions/sha256/odd/link"), b"")
    folder.write("blobs/sha256/00/odd/data", b"")
    (folder.root / "blobs/sha256/00" / ("0" * 64)).mkdir()
    columns = read(folder)
    assert columns["tags"]["tag_name"] == ["v1"]
    assert columns["revisions"]["manifest_hash"] == [digest]
    assert len(columns["blobs"]["blob_hash"]) == 2


def test_unreadable_manifests_are_told(folder: Folder) -> None:
    """A lost, changed or oversized manifest has an error, and the scan goes on."""
    good = folder.image("app", "v1")
    lost, changed = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    folder.blob(b"{}", changed)
    huge = folder.blob(b" " * (4 * 1024 * 1024 + 1))
    for digest in (lost, changed, huge):
        folder.revision("app", digest)
    columns = read(folder)
    assert errors(columns) == {
        good: None,
        lost: "missing from the store",
        changed: "content does not match its digest",
        huge: "larger than 4194304 bytes",
    }
    stopping = {(None, "stops", digest, "all") for digest in (changed, huge)}  # a collector passes over what is lost
    assert stopping <= set(rows(columns, "oddities"))
    assert lost not in columns["oddities"]["hash"]


@pytest.mark.parametrize("damage", ["missing", "changed", "huge"])
def test_an_unreadable_config_leaves_the_date_unknown(folder: Folder, damage: str) -> None:
    """An image whose config is lost, changed or a huge blob is an image of unknown age."""
    config = {"created": "2023-05-01T12:34:56Z", "os": "linux", "architecture": "amd64"}
    folder.image("app", "v1", config=config)
    path = folder.blob_path(
        "sha256:" + hashlib.sha256(json.dumps(config).encode()).hexdigest(),
    )
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        path.write_text(json.dumps(config | {"os": "windows"}))
    else:
        os.truncate(path, 5 * 1024 * 1024)
    [row] = rows(read(folder), "contents")
    assert row[3:] == ("image", None, None, None, None, None)


def test_revisions_of_any_algorithm_are_read(folder: Folder) -> None:
    """A manifest by sha512 is read and verified as well."""
    data = json.dumps({"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
    digest = "sha512:" + hashlib.sha512(data.encode()).hexdigest()
    folder.blob(data.encode(), digest)
    folder.revision("app", digest)
    assert errors(read(folder)) == {digest: None}
    assert Storage(folder.base_path).content(digest) == data.encode()


def test_a_file_that_cannot_be_read_stops_with_its_path(folder: Folder) -> None:
    """What the system refuses becomes one line with the path."""
    digest = folder.image("app", "v1")
    path = folder.blob_path(digest)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StorageError, match=digest.removeprefix("sha256:")) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_missing_permission_is_told(folder: Folder, tmp_path: Path) -> None:
    """A folder of another user's says so, and that the store can't be written."""
    folder.image("app", "v1")
    tags = folder.manifests("app") / "tags"
    tags.chmod(0)
    if os.access(tags, os.R_OK):  # root may, unless it gives that up
        this = f"{__file__}::test_a_missing_permission_is_told"
        drop = ["setpriv", *(f"--{name}=-dac_override,-dac_read_search" for name in ("bounding-set", "inh-caps"))]
        # In a folder of its own: it could not clear away those that other runs of pytest left, and would fail by that.
        own = ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'own'}"]
        command = [*drop, sys.executable, "-m", "pytest", "-q", *own, this]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr
        return
    try:
        with pytest.raises(StorageError, match=r"tags: Permission denied\. Run regdata as a user"):
            read(folder)
    finally:
        tags.chmod(0o755)
    repositories = folder.root / "repositories"
    repositories.chmod(0o555)
    assert not Storage(folder.base_path).writable
    repositories.chmod(0o755)


def test_reading_survives_a_busy_registry(folder: Folder) -> None:
    """Tags, revisions and blobs that come and go during the scan do no harm."""
    for number in range(40):
        folder.image(f"app{number % 4}", f"v{number}", annotations={"n": str(number)})
    stop = threading.Event()
    before = {name: folder.manifests(name) for name in ("app0", "app1")}

    def churn() -> None:
        while not stop.is_set():
            for name, path in before.items():
                shutil.move(path, path.with_name("_aside"))
                shutil.move(path.with_name("_aside"), path)
                folder.image(name, "moving", annotations={"now": str(time.time())})

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            kept = read(folder)
            assert {"app2", "app3"} <= set(kept["repositories"]["image_name"])
    finally:
        stop.set()
        thread.join()


def test_state_is_as_of_now(folder: Folder) -> None:
    """The state of a repository follows every change, and is empty where there is none."""
    storage = Storage(folder.base_path)
    assert storage.state("app") == ({}, frozenset())
    digest = folder.image("app", "v1")
    assert storage.state("app") == ({"v1": digest}, frozenset({digest}))
    storage.untag("app", "v1", digest)
    assert storage.state("app") == ({}, frozenset({digest}))


def test_a_glance(folder: Folder) -> None:
    """A manifest is as it was until it is pushed again, be it before the glance, or what may need it comes."""
    storage, digest, above = Storage(folder.base_path), folder.image("app"), folder.image("app", config={"os": "other"})
    as_it_was = storage.glance("app", [digest])
    assert as_it_was(Going(digest, Pushed(PUSHED, PUSHED + 5)))
    assert as_it_was(Going(digest))
    assert not as_it_was(Going(digest, Pushed(PUSHED - 1, PUSHED + 5)))
    assert as_it_was(Going(digest, Pushed(None, PUSHED + 1)))
    assert not as_it_was(Going(digest, Pushed(None, PUSHED)))
    assert not as_it_was(Going(digest, above=[above]))
    (folder.manifests("app") / f"revisions/sha256/{above[7:]}/link").unlink()
    assert as_it_was(Going(digest, above=[above]))
    folder.revision("app", digest)
    assert not as_it_was(Going(digest))
    as_it_was = storage.glance("app", [digest])
    folder.image("app", config={"os": "new"})  # which may need it
    assert not as_it_was(Going(digest))


def test_blob_sizes_and_manifest(folder: Folder) -> None:
    """The bytes of each file, and of one manifest; None for one that is not there."""
    storage = Storage(folder.base_path)
    digest = folder.blob(b"12345")
    assert storage.blob_sizes() == {digest: 5}
    assert storage.content(digest) == b"12345"
    assert storage.content("sha256:" + "0" * 64) is None


def test_a_base_path_that_is_a_link_is_fine(folder: Folder, tmp_path: Path) -> None:
    """The store itself may be reached through a symbolic link, and by a relative path."""
    digest = folder.image("app", "v1", "v2")
    (tmp_path / "linked").symlink_to(folder.base_path)
    Storage(tmp_path / "linked").untag("app", "v1", digest)
    Storage("linked").untag("app", "v2", digest)
    assert Storage(folder.base_path).state("app")[0] == {}


@pytest.mark.parametrize("name", ["App", "a b", "a\x1b[31m", "a\u202eb", "\x9b31m", "a/-b", "ü"])
def test_names_that_none_can_have(folder: Folder, name: str) -> None:
    """A folder of a repository or tag whose name is outside distribution's grammar is an error, not passed over."""
    digest = folder.image(name)
    with pytest.raises(StorageError, match="has a name that a repository can't have") as error:
        Storage(folder.base_path).split(1)
    assert str(error.value).isprintable()
    shutil.rmtree(folder.root / "repositories" / name.partition("/")[0])
    folder.revision("app", digest)
    folder.tag("app", name.replace("/", "") + ":", digest)
    with pytest.raises(StorageError, match="has a name that a tag can't have"):
        Storage(folder.base_path).state("app")


def test_one_run_at_a_time(folder: Folder) -> None:
    """The second run is refused until the first has ended, and no file is left behind."""
    first, second = Storage(folder.base_path), Storage(folder.base_path)
    with first.lock():
        with (
            pytest.raises(StorageError, match=r"Another regdata run is working on "),
            second.lock(),
        ):
            pass
        assert os.listdir(folder.root) == []
    with second.lock():
        pass


def test_uploads(folder: Folder) -> None:
    """A push in flight is told by its repository, id and start."""
    folder.image("app", "v1")
    folder.write("repositories/app/_uploads/some-id/startedat", b"2023-05-01T00:00:00Z", 1234)
    folder.write("repositories/new/app/_uploads/first/startedat", b"", 1234)  # nothing else is in it yet
    assert Storage(folder.base_path).uploads() == [("app", "some-id", 1234), ("new/app", "first", 1234)]


def test_rests(folder: Folder) -> None:
    """The newest layer link tells whether a push was at work in a repository; one without a date that can be might."""
    storage = Storage(folder.base_path)
    assert storage.rests("app", PUSHED)
    for digit, moment in (("1", PUSHED - 30), ("2", PUSHED - 20)):
        folder.write(f"repositories/app/_layers/sha256/{digit * 64}/link", b"", moment)
    assert (storage.rests("app", PUSHED - 19), storage.rests("app", PUSHED - 20)) == (True, False)
    for moment in (0, 315_532_800, PUSHED + 60):
        folder.write(f"repositories/app/_layers/sha256/{'3' * 64}/link", b"", moment)
        assert not storage.rests("app", PUSHED)


def test_clock(folder: Folder) -> None:
    """The store's own clock is told by a file that does not stay, and unknown where none can be written."""
    storage = Storage(folder.base_path)
    before = sorted(os.listdir(folder.base_path))
    assert abs((storage.clock() or 0) - time.time()) < 60
    assert sorted(os.listdir(folder.base_path)) == before
    storage.base = folder.base_path / "absent"
    assert storage.clock() is None


def test_a_real_registry_is_read_and_changed(registry: LocalRegistry) -> None:
    """What was pushed is read; a tag removed in the folder is gone for the running registry."""
    amd64 = make_image([make_layer(1, 2000)], created=1_600_000_000)
    arm64 = make_image([make_layer(2, 3000)], platform="linux/arm64/v8", oci=True)
    index = make_index([amd64, arm64], oci=False)
    push(registry.url, "team/app", "multi", index)
    push(registry.url, "team/app", "v1", amd64)
    storage = Storage(registry.base_path)
    columns = merge(storage.read(part) for part in storage.split(4))
    assert {row[1]: (row[2], row[4]) for row in rows(columns, "tags")} == {
        "multi": (index.digest, None),
        "v1": (amd64.digest, None),
    }
    contents = {row[0]: row[3:] for row in rows(columns, "contents")}
    assert contents == {
        index.digest: ("index", None, None, None, None, None),
        amd64.digest: ("image", 1_600_000_000, "linux/amd64", None, None, None),
        arm64.digest: ("image", None, "linux/arm64/v8", None, None, None),
    }
    assert set(columns["revisions"]["manifest_hash"]) == set(contents)
    assert all(abs(pushed - time.time()) < 60 for pushed in columns["tags"]["pushed"])
    assert set(columns["descriptors"]["reference_hash"]) <= set(columns["blobs"]["blob_hash"])
    assert storage.content(index.digest) == index.manifest
    assert storage.blob_sizes()[index.digest] == len(index.manifest)

    storage.untag("team/app", "v1", amd64.digest)
    base = f"{registry.url}/v2/team/app"
    accept = {"Accept": amd64.media_type}
    assert requests.get(f"{base}/tags/list", timeout=5).json()["tags"] == ["multi"]
    assert requests.get(f"{base}/manifests/v1", headers=accept, timeout=5).status_code == 404
    by_digest = requests.get(f"{base}/manifests/{amd64.digest}", headers=accept, timeout=5)
    assert by_digest.content == amd64.manifest


def test_a_real_registry_keeps_no_cancelled_upload(registry: LocalRegistry) -> None:
    """A cancelled upload is none any more, though its folder stays; one that broke off still is."""
    push(registry.url, "app", "v1", make_image([make_layer(1, 1000)]))
    storage = Storage(registry.base_path)
    assert storage.uploads() == []
    started = [requests.post(f"{registry.url}/v2/app/blobs/uploads/", timeout=5).headers["Location"] for _ in range(2)]
    broken, cancelled = (requests.patch(url, data=b"half", timeout=5).headers for url in started)
    assert len(storage.uploads()) == 2
    assert requests.delete(cancelled["Location"], timeout=5).status_code == 204
    assert [upload.id for upload in storage.uploads()] == [broken["Docker-Upload-UUID"]]


class Locked(LocalFiles):
    """Files of which one folder may not be read."""

    locked: str

    def folders(self, folder: str) -> list[str]:
        return super().folders(self._readable(folder))

    def names(self, folder: str) -> list[str]:
        return super().names(self._readable(folder))

    def _readable(self, folder: str) -> str:
        if folder.endswith(self.locked):
            raise PermissionError(13, "Permission denied", folder)
        return folder


@pytest.mark.parametrize(
    ("locked", "is_nobodys"), [("lost+found", True), ("a/Private", True), ("a/private", False), ("Reg.Example", False)]
)
def test_a_folder_that_is_no_repository(folder: Folder, locked: str, is_nobodys: bool) -> None:
    """A folder among the repositories that may not be read is passed over if its name can be no repository's."""
    folder.image("a", "1")
    (folder.root / "repositories" / locked).mkdir()
    files = Locked()
    files.locked = f"repositories/{locked}"
    storage = Storage(folder.base_path, files)
    if is_nobodys:
        assert storage.repositories() == ["a"]
        later = int(time.time()) + 100  # nothing has changed when it looks again
        watch = Watch(storage, {}, later)
        assert watch.uploads(later) == {}
    else:
        for look in (storage.repositories, lambda: Watch(storage, {}, PUSHED)):
            with pytest.raises(StorageError, match="Permission denied"):
                look()


@pytest.mark.parametrize("behind", ["", "\n"], ids=["empty", "with a line end"])
def test_a_link_that_holds_no_digest(folder: Folder, monkeypatch: pytest.MonkeyPatch, behind: str) -> None:
    """A link that a full disk left empty, or that somebody wrote with a line end, at which the registry fails, is
    written anew; one that can't be written is not left half-way."""
    storage, digest = Storage(folder.base_path), f"sha256:{'ab' * 32}"
    path = Path(f"{storage.root}/{layer_path('app', digest)}")
    path.parent.mkdir(parents=True)
    path.write_text(behind and digest + behind)
    storage.link("app", digest)
    assert path.read_text() == digest
    path.unlink()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        storage.link("app", digest)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("newer", ["sha256", "sha512"])
def test_a_blob_that_is_linked_by_two_digests(folder: Folder, newer: str) -> None:
    """It was linked when the later of its links was written, by whichever digest that is."""
    digest = folder.blob(b"layer")
    for algorithm in ("sha256", "sha512"):
        link = layer_path("app", f"{algorithm}:{hashlib.new(algorithm, b'layer').hexdigest()}")
        folder.write(link, digest.encode(), PUSHED + 9 if algorithm == newer else PUSHED)
    assert Storage(folder.base_path).links("app") == {digest: PUSHED + 9}


class Others(LocalFiles):
    """Files that only another user may date."""

    def touch(self, path: str, date: int | None = None) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)


def test_dates_that_are_not_put_back(folder: Folder) -> None:
    """A tag that somebody pushed to since keeps that date, and where we may not date a tag it is as it is: no error."""
    digest, other = folder.image("app", "v1"), folder.image("app", config={"os": "other"})
    folder.tag("app", "v1", other, mtime=PUSHED + 9)
    assert not Storage(folder.base_path).backdate("app", "v1", digest, pushed=PUSHED - 9, linked=None)
    assert not Storage(folder.base_path, Others()).backdate("app", "v1", other, pushed=PUSHED - 9, linked=None)
    assert (folder.manifests("app") / "tags/v1/current/link").stat().st_mtime == PUSHED + 9


def test_a_glance_at_tags(folder: Folder) -> None:
    """A manifest is not as it was where a tag that goes with it is on another one by now; a tag that is gone is no
    matter."""
    digest, other = folder.image("app", "v1", "v2"), folder.image("app", config={"os": "other"})
    as_it_was = Storage(folder.base_path).glance("app", [digest])
    assert as_it_was(Going(digest, tags=["v1", "v2", "gone"]))
    folder.tag("app", "v2", other)
    assert as_it_was(Going(digest, tags=["v1"]))
    assert not as_it_was(Going(digest, tags=["v1", "v2"]))


def test_what_a_killed_run_left_in_an_empty_store(tmp_path: Path) -> None:
    """A folder that holds nothing but what regdata made in it is that of a registry without a push, as before."""
    (tmp_path / ASIDE / "run").mkdir(parents=True)

    class Killed(LocalFiles):
        def remove_file(self, path: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Storage(tmp_path, Killed()).clock()
    assert len(list(tmp_path.iterdir())) == 2
    assert Storage(tmp_path).repositories() == []


class ReadOnly(LocalFiles):
    """A disk on which nothing may be changed."""

    def writable(self, folder: str) -> bool:
        return False


def test_an_empty_store_that_may_not_be_changed(folder: Folder) -> None:
    """A store to which nothing was pushed yet can't be changed where its folder can't."""
    assert not Storage(folder.base_path, ReadOnly()).writable


def test_a_glance_at_what_is_linked_as_a_blob_alone(folder: Folder) -> None:
    """A manifest without a link of its own (2.x serves it) is as it was until it is pushed as one."""
    storage, digest = Storage(folder.base_path), folder.blob(b"{}")
    folder.write(layer_path("app", digest), digest.encode())
    as_it_was = storage.glance("app", [digest])
    assert as_it_was(Going(digest, Pushed(PUSHED, PUSHED + 5)))
    folder.revision("app", digest)
    assert not as_it_was(Going(digest, Pushed(PUSHED, PUSHED + 5)))


@pytest.mark.parametrize("history", [True, False], ids=["as registries write it", "without its history"])
def test_dates_that_are_put_back(folder: Folder, history: bool) -> None:
    """A tag and its manifest have the dates again that they had, each its own; a tag by another hand, of which there is
    no history, is no error."""
    digest = folder.image("app", "v1")
    tag, revision = folder.manifests("app") / "tags/v1", folder.manifests("app") / f"revisions/sha256/{digest[7:]}/link"
    if history:
        folder.write(str(tag / f"index/sha256/{digest[7:]}/link"), digest.encode())
    backdate = Storage(folder.base_path).backdate
    assert backdate("app", "v1", digest, pushed=PUSHED - 9, linked=None)
    assert revision.stat().st_mtime == PUSHED
    assert backdate("app", "v1", digest, pushed=PUSHED - 9, linked=PUSHED - 99)
    assert (tag / "current/link").stat().st_mtime == PUSHED - 9
    assert revision.stat().st_mtime == PUSHED - 99


@pytest.mark.parametrize("what", ["given up", "goes on", "another registry's"])
def test_what_is_left_of_an_upload(folder: Folder, tmp_path: Path, what: str) -> None:
    """The folder of an upload that was given up goes; one that goes on stays, and what lies behind a symbolic link."""
    place = folder if what != "another registry's" else Folder(tmp_path / "other")
    left = place.root / "repositories/app/_uploads/1234"
    (left / "hashstates").mkdir(parents=True)
    if what == "goes on":
        (left / "startedat").touch()
    if place is not folder:
        (folder.root / "repositories").mkdir()
        (folder.root / "repositories/app").symlink_to(place.root / "repositories/app")
    Storage(folder.base_path).remove_upload("app", "1234")
    assert left.exists() is (what != "given up")


def test_a_folder_of_links_behind_a_link(folder: Folder, tmp_path: Path) -> None:
    """For a repository that lies elsewhere no folder is made: another registry may be at work there."""
    other = Folder(tmp_path / "other")
    other.image("app", "v1")
    (folder.root / "repositories").mkdir()
    (folder.root / "repositories/app").symlink_to(other.root / "repositories/app")
    with pytest.raises(StorageError, match="behind, a symbolic link"):
        Storage(folder.base_path).make_layers("app")
    assert os.listdir(other.root / "repositories/app") == ["_manifests"]


@pytest.mark.parametrize("names", ["1234", "12345"])
def test_what_is_told_of_a_folder_that_is_no_store(tmp_path: Path, names: str) -> None:
    """Five names of what lies there, and that there are more; none of them can change a terminal's colours."""
    for name in (*names, "\x1b[31m"):
        (tmp_path / name).touch()
    with pytest.raises(StorageError) as caught:
        Storage(tmp_path)
    assert str(caught.value).isprintable()
    assert (", …. Set" in str(caught.value)) is (len(names) == 5)
