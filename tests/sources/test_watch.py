"""What comes into a store after it was read, as its files tell."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from regdata.demo.samples import Image, make_image, make_index, make_layer
from regdata.sources.files import LocalFiles, Stat
from regdata.sources.mediatypes import OCI_INDEX, OCI_MANIFEST
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.storage import Storage
from regdata.sources.watch import Link, Watch, read_links
from tests.support.odd import OCI_LAYER, config_bytes, descriptor, digest_of, image_bytes

LAYER, OTHER = make_layer("layer", 100), make_layer("other", 100)
CHILD = make_image([LAYER])
INDEX = make_index([CHILD])


class Pushed:
    """A store in which the manifests of shop/web were deleted, whose bytes stay."""

    def __init__(self, base_path: Path) -> None:
        self.root = base_path / "docker/registry/v2"
        for folder in ("blobs", "repositories/shop/web/_layers"):
            (self.root / folder).mkdir(parents=True)
        self.storage = Storage(base_path)

    def deleted(self, image: Image, *, bytes_stay: bool = True) -> None:
        (self.root / revision_path("shop/web", image.digest)).parent.mkdir(parents=True)
        if bytes_stay:
            self.write(blob_path(image.digest), image.manifest)

    def pushed(self, image: Image) -> None:
        self.put(image.manifest)

    def put(self, manifest: bytes) -> None:
        digest = digest_of(manifest)
        self.write(blob_path(digest), manifest)
        self.write(revision_path("shop/web", digest), digest.encode())

    def uploaded(self, data: bytes, algorithm: str) -> None:
        """A blob, and the links by which a registry finds it."""
        digest = digest_of(data)
        self.write(blob_path(digest), data)
        for name in {digest, digest_of(data, algorithm)}:
            self.write(layer_path("shop/web", name), digest.encode())

    def write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def watch(self) -> Watch:
        return Watch(self.storage, {}, int(time.time()))


@pytest.fixture
def store(tmp_path: Path) -> Pushed:
    return Pushed(tmp_path)


def needed(watch: Watch, digest: str) -> bool:
    return digest in watch.look((), [digest], int(time.time())).mentioned


@pytest.mark.parametrize("image", [CHILD, INDEX])
def test_what_was_deleted_is_pushed_again(store: Pushed, image: Image) -> None:
    """A layer is needed once a manifest that was deleted is there again: an image, or an index whose child was pushed
    as a blob."""
    store.deleted(image)
    store.write(blob_path(CHILD.digest), CHILD.manifest)
    watch = store.watch()
    assert not needed(watch, LAYER.digest)
    store.pushed(image)
    assert needed(watch, LAYER.digest)
    assert not needed(watch, OTHER.digest)


@pytest.mark.parametrize("image", [CHILD, INDEX])
def test_bytes_that_come_late(store: Pushed, image: Image) -> None:
    """What a deleted manifest mentions is told, too, where its bytes, or its child's, came only after the reading."""
    store.deleted(image, bytes_stay=image is INDEX)
    watch = store.watch()
    assert not needed(watch, LAYER.digest)
    store.write(blob_path(CHILD.digest), CHILD.manifest)
    store.pushed(image)
    assert needed(watch, LAYER.digest)


def test_a_new_manifest(store: Pushed) -> None:
    """A manifest that was never there is as good as one that is there again."""
    watch = store.watch()
    store.pushed(CHILD)
    assert needed(watch, LAYER.digest)


def test_a_link_of_the_same_second(store: Pushed) -> None:
    """A folder's date is that of a second: what comes into it in the second of a look is seen by the next one."""
    folder, now = store.root / "repositories/shop/web/_layers/sha256", int(time.time())
    folder.mkdir()
    os.utime(folder, (now, now))
    watch = Watch(store.storage, {}, now)
    watch.expect({LAYER.digest}, ())
    store.write(layer_path("shop/web", LAYER.digest), LAYER.digest.encode())
    os.utime(folder, (now, now))
    assert watch.look((), (), now).linked == {LAYER.digest}


def test_a_manifest_behind_blanks(store: Pushed) -> None:
    """However many blanks it begins with, it is one."""
    watch = store.watch()
    store.put(b"\r\n\t " * 500 + CHILD.manifest)
    assert needed(watch, LAYER.digest)
    assert not needed(watch, OTHER.digest)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("way", ["manifests", "layers", "config", "subject", "a layer's type"])
def test_a_manifest_among_the_blobs(store: Pushed, way: str, algorithm: str) -> None:
    """What a new manifest names leads on to its own blobs, by whatever digest it is named and as what it is listed."""
    store.uploaded(CHILD.manifest, algorithm)
    watch = store.watch()
    named = descriptor(CHILD.manifest, OCI_LAYER if way == "a layer's type" else OCI_MANIFEST, algorithm)
    said = json.loads(image_bytes(config_bytes(way)))
    if way in ("manifests", "a layer's type"):
        said = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [named]}
    else:
        said[way] = [named] if way == "layers" else named
    store.put(json.dumps(said).encode())
    assert needed(watch, LAYER.digest)
    assert not needed(watch, OTHER.digest)


def test_a_link_by_another_digest(store: Pushed) -> None:
    """A blob that is to go is needed where a repository links it anew, by whatever digest."""
    watch = store.watch()
    watch.expect({LAYER.digest}, ())
    store.write(layer_path("shop/web", digest_of(LAYER.data, "sha512")), LAYER.digest.encode())
    assert watch.look((), (), int(time.time())).linked == {LAYER.digest}


@pytest.mark.parametrize("hours", [0, 2])
def test_a_link_that_is_half_written(store: Pushed, hours: int) -> None:
    """What a registry is writing counts as a link; what a killed one left of it an hour ago does not."""
    link = Link("shop/web", LAYER.digest, None)
    draft = store.root / f"{link.path}.ab12.tmp"  # as 3.x writes it
    store.write(f"{link.path}.ab12.tmp", b"")
    os.utime(draft, (time.time() - hours * 3600,) * 2)
    assert store.watch().is_linked(link, int(time.time())) == (not hours)


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0000000000000001", "@eaDir/x", "link.bak"])
def test_what_others_leave_beside_a_link(store: Pushed, name: str) -> None:
    """A file that no registry writes, however young, is no link, and no manifest that is there again."""
    link = Link("shop/web", LAYER.digest, None)
    store.deleted(CHILD)
    watch = store.watch()
    for path in (link.path, revision_path("shop/web", CHILD.digest)):
        store.write(f"{path.removesuffix('link')}{name}", b"")
    assert not watch.is_linked(link, int(time.time()))
    assert not needed(watch, LAYER.digest)


def test_what_is_named_by_no_digest(store: Pushed) -> None:
    """What no registry could be asked for is nobody's: neither a link, nor what is left of one."""
    watch = store.watch()
    watch.expect({LAYER.digest}, ())
    hex_, layers = LAYER.digest[7:], "repositories/shop/web/_layers"
    for name in ("lost+found/x", f"sha256/{hex_}.bak", f"sha256/{hex_[:40]}", f"sha256.bak/{hex_}", f"sha512/{hex_}"):
        (store.root / layers / f"{name}.empty").mkdir(parents=True)
        store.write(f"{layers}/{name}/link", LAYER.digest.encode())
    store.write(f"{layers}/sha256/README", b"")
    assert list(read_links(store.storage, "shop/web")) == []
    assert store.storage.links("shop/web") == {}
    assert not watch.look((), (), int(time.time())).linked
    store.uploaded(LAYER.data, "sha512")
    assert {link.target for link in read_links(store.storage, "shop/web")} == {LAYER.digest}


class Cached(LocalFiles):
    """A network drive: what a folder's date was is answered for a while, unless the folder is opened."""

    def __init__(self) -> None:
        self.known: dict[str, Stat | None] = {}

    def stat(self, path: str) -> Stat | None:
        return self.known.setdefault(path, super().stat(path)) if os.path.isdir(path) else super().stat(path)


def test_a_date_that_a_network_drive_remembers(tmp_path: Path) -> None:
    """What another machine writes is seen at the next look, whatever this one has cached of its folder."""
    pushed = Pushed(tmp_path)
    pushed.storage = Storage(tmp_path, Cached())
    pushed.deleted(CHILD)
    for folder in (tmp_path, *tmp_path.rglob("*")):
        os.utime(folder, (time.time() - 3600,) * 2)
    watch, other = pushed.watch(), make_image([OTHER])
    pushed.pushed(other)
    assert watch.look((), [OTHER.digest], int(time.time())).mentioned == {OTHER.digest}


def test_a_folder_that_is_left_where_nobody_may_be_asked(tmp_path: Path) -> None:
    """A link that is written anew into its old folder changes nothing above it: it is looked for by its name."""
    pushed = Pushed(tmp_path)
    path = layer_path("shop/web", LAYER.digest)
    (pushed.root / path).parent.mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.rglob("*")):
        os.utime(folder, (time.time() - 3600,) * 2)
    watch = pushed.watch()
    watch.expect([LAYER.digest], [], [Link("shop/web", LAYER.digest, None)])
    assert watch.look((), [LAYER.digest], int(time.time())).linked == frozenset()
    pushed.write(path, LAYER.digest.encode())
    os.utime((pushed.root / path).parent.parent, (time.time() - 3600,) * 2)
    assert watch.look((), [LAYER.digest], int(time.time())).linked == {LAYER.digest}


def test_a_digest_that_is_spelt_with_an_escape(store: Pushed) -> None:
    """However an index spells its children's digests, what these need is needed."""
    store.uploaded(CHILD.manifest, "sha256")
    watch = store.watch()
    store.put(INDEX.manifest.replace(b"sha256:", b"sha256\\u003a"))
    assert needed(watch, LAYER.digest)
    assert not needed(watch, OTHER.digest)


def test_a_file_that_may_not_be_opened(tmp_path: Path) -> None:
    """A stray file that cannot be opened is none of the registry's folders: a look passes over it."""
    pushed = Pushed(tmp_path)
    stray = pushed.root / "repositories/backup"
    os.mkfifo(stray)
    with socket.socket(socket.AF_UNIX) as opened:
        folder = os.open(stray.parent, os.O_RDONLY)
        opened.bind(f"/proc/self/fd/{folder}/socket")  # its own path may be too long
        os.close(folder)
        assert pushed.watch().look((), (), int(time.time())).mentioned == frozenset()


@pytest.mark.parametrize("image", [CHILD, INDEX])
def test_the_bytes_of_manifests_themselves(store: Pushed, image: Image) -> None:
    """Of a manifest that comes its own bytes are needed, too, and those of the manifests that it lists."""
    store.write(blob_path(CHILD.digest), CHILD.manifest)
    watch = store.watch()
    store.pushed(image)
    digests = {CHILD.digest, image.digest}
    assert watch.look((), digests, int(time.time())).mentioned == digests


def test_a_link_that_an_earlier_look_saw(store: Pushed) -> None:
    """A link that came is told by every look from then on, also when nothing has changed since the last one."""
    watch = store.watch()
    watch.expect({LAYER.digest}, ())
    store.write(layer_path("shop/web", LAYER.digest), LAYER.digest.encode())
    now = int(time.time())
    for seconds in (0, 10, 20):
        assert watch.look((), (), now + seconds).linked == {LAYER.digest}


@pytest.mark.parametrize("late", [0, 1])
def test_one_child_whose_bytes_come_late(store: Pushed, late: int) -> None:
    """What each child of a deleted index mentions is told once its bytes are there, though another's were all along."""
    children = CHILD, make_image([OTHER])
    store.deleted(make_index(list(children)))
    store.write(blob_path(children[1 - late].digest), children[1 - late].manifest)
    watch = store.watch()
    store.write(blob_path(children[late].digest), children[late].manifest)
    store.pushed(make_index(list(children)))
    assert needed(watch, LAYER.digest)
    assert needed(watch, OTHER.digest)


def test_links_that_were_there_beside_one_that_came(store: Pushed) -> None:
    """A link that is to go, but was not taken yet, is no news because another came into the same folder."""
    store.write(layer_path("shop/web", LAYER.digest), LAYER.digest.encode())
    watch = store.watch()
    watch.expect({LAYER.digest, OTHER.digest}, read_links(store.storage, "shop/web"))
    store.write(layer_path("shop/web", OTHER.digest), OTHER.digest.encode())
    assert watch.look((), (), int(time.time())).linked == {OTHER.digest}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_link_that_was_taken_is_written_anew(store: Pushed, algorithm: str) -> None:
    """The blob behind a link that was taken away is needed once that is written again, by whatever digest it is."""
    name = digest_of(LAYER.data, algorithm)
    taken = Link("shop/web", name, LAYER.digest)
    (store.root / taken.path).parent.mkdir(parents=True)
    watch = store.watch()
    watch.expect({LAYER.digest}, [taken])
    assert watch.look([taken], (), int(time.time())).linked == frozenset()
    store.write(taken.path, LAYER.digest.encode())
    assert watch.look([taken], (), int(time.time())).linked == {LAYER.digest}


def test_uploads_of_a_new_repository(store: Pushed) -> None:
    """The first upload to a repository is seen, though it has no other folder yet; one that was given up is not."""
    for id_ in ("now", "given-up"):
        store.write(f"repositories/shop/new/_uploads/{id_}/data", b"12345")
    os.utime(store.root / "repositories/shop/new/_uploads/given-up/data", (time.time() - 7200,) * 2)
    assert store.watch().uploads(int(time.time())) == {("shop/new", "now"): 5}


def test_a_manifest_that_nests_too_deep(store: Pushed) -> None:
    """What is nested as no reader can follow is read by its text: no error, and what it mentions is needed."""
    watch = store.watch()
    store.put(b'{"layer": "%s", "x": %s%s}' % (LAYER.digest.encode(), b"[" * 200_000, b"]" * 200_000))
    assert needed(watch, LAYER.digest)
