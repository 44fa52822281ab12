"""Kinds of damage, each done to the files of a real store: what a doctor has to find, and where."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import OCI_INDEX, Image, make_image, make_index, make_layer, push
from tests.support.helpers import age
from tests.support.odd import digest_of, push_empty_index, push_manifest

DAY = 86400
Found = set[tuple[str, str]]


def some_image(name: str) -> Image:
    """An image that shares nothing with others."""
    return make_image([make_layer(name, 900)], created=1_700_000_000 + sum(name.encode()))


class Damaged:
    """A registry, and the damage that was done to it; ``found``: what and place of all that has to be found."""

    def __init__(self, registry: LocalRegistry) -> None:
        self.registry, self.url = registry, registry.url
        self.root = registry.base_path / "docker/registry/v2"
        self.found: Found = set()

    def push(self, name: str, image: Image | None = None) -> Image:
        """An image in a repository of its own, tagged 1, a few days old."""
        image = image or some_image(name)
        push(self.url, name, "1", image)
        return image

    def data(self, digest: str) -> Path:
        return self.root / f"blobs/sha256/{digest[7:9]}/{digest[7:]}/data"

    def revision(self, name: str, digest: str) -> Path:
        return self.root / f"repositories/{name}/_manifests/revisions/sha256/{digest[7:]}/link"

    def layer(self, name: str, digest: str) -> Path:
        return self.root / f"repositories/{name}/_layers/sha256/{digest[7:]}/link"

    def is_found(self, what: str, place: str | Path) -> None:
        path = place.relative_to(self.registry.base_path) if isinstance(place, Path) else place
        self.found.add((what, str(path)))


def damage(registry: LocalRegistry) -> Damaged:
    """Every kind of it, done to a store, each to an image of its own."""
    store = Damaged(registry)
    for do in KINDS:
        before = do(store)
        next(before)  # pushes what it needs
        age(registry.base_path, 3 * DAY)
        next(before, None)  # and breaks it
    return store


Steps = Iterator[None]


def tag_without_manifest(store: Damaged) -> Steps:
    image = store.push("tag-alone")
    yield
    shutil.rmtree(store.revision("tag-alone", image.digest).parent)
    store.is_found("tag without manifest", "tag-alone:1")


def tag_links_that_hold_no_digest(store: Damaged) -> Steps:
    store.push("tag-empty")
    store.push("tag-line")
    yield
    _empty(store.root / "repositories/tag-empty/_manifests/tags/1/current/link")
    link = store.root / "repositories/tag-line/_manifests/tags/1/current/link"
    link.write_text(f"{link.read_text()}\n")
    _old(link)
    for repository in ("tag-empty", "tag-line"):
        store.is_found("tag without digest", f"{repository}:1")


def tags_without_links(store: Damaged) -> Steps:
    store.push("tag-bare")
    yield
    tags = store.root / "repositories/tag-bare/_manifests/tags"
    (tags / "begun/index/sha256").mkdir(parents=True)
    (tags / "empty").mkdir()
    for tag in ("begun", "empty"):
        _old(tags / tag)
    listed = requests.get(f"{store.url}/v2/tag-bare/tags/list", timeout=9).json()["tags"]
    assert {*listed} == {"1", "begun", "empty"}
    for tag in ("begun", "empty"):
        store.is_found("tag without digest", f"tag-bare:{tag}")


def tag_half_removed(store: Damaged) -> Steps:
    store.push("a/tag-removed")
    yield
    manifests = store.root / "repositories/a/tag-removed/_manifests"
    (manifests / "tags/1").rename(manifests / ".regdata-removed-1")
    store.is_found("tag half removed", "a/tag-removed:1")


def index_without_child(store: Damaged) -> Steps:
    children = [some_image("child a"), some_image("child b")]
    index = store.push("childless", make_index(children))
    yield
    for path in (store.revision("childless", children[0].digest), store.data(children[0].digest)):
        shutil.rmtree(path.parent)
    for blob in children[0].blobs:
        shutil.rmtree(store.data(blob.digest).parent)
        shutil.rmtree(store.layer("childless", blob.digest).parent)
    store.is_found("index without child", f"childless@{index.digest}")


def child_not_linked(store: Damaged) -> Steps:
    child = some_image("child c")
    store.push("unlinked-child", make_index([child]))
    yield
    shutil.rmtree(store.revision("unlinked-child", child.digest).parent)
    store.is_found("child not linked", f"unlinked-child@{child.digest}")


def manifest_without_bytes(store: Damaged) -> Steps:
    image = store.push("no-bytes")
    yield
    shutil.rmtree(store.data(image.digest).parent)
    store.is_found("manifest without bytes", f"no-bytes@{image.digest}")


def manifest_without_config(store: Damaged) -> Steps:
    image = store.push("no-config")
    yield
    config = image.blobs[-1].digest
    shutil.rmtree(store.data(config).parent)
    store.is_found("manifest without parts", f"no-config@{image.digest}")
    store.is_found("stale cache", f"no-config@{config}")


def layer_not_linked(store: Damaged) -> Steps:
    image = store.push("unlinked-layer")
    yield
    store.layer("unlinked-layer", image.blobs[0].digest).unlink()
    store.is_found("part not linked", f"unlinked-layer@{image.blobs[0].digest}")


def layer_cut_short(store: Damaged) -> Steps:
    image = store.push("short-layer")
    yield
    os.truncate(store.data(image.blobs[0].digest), 10)
    store.is_found("damaged bytes", f"short-layer@{image.blobs[0].digest}")


def changed_manifest(store: Damaged) -> Steps:
    image = store.push("changed-manifest")
    yield
    path = store.data(image.digest)
    path.write_bytes(path.read_bytes().replace(b"application", b"applicatiom"))
    _old(path)
    store.is_found("damaged bytes", f"changed-manifest@{image.digest}")


def unreadable_manifest(store: Damaged) -> Steps:
    store.push("unreadable")
    data = b'{"schemaVersion": 2, "layers": 7}'  # whole, by its digest; no registry takes it
    digest = digest_of(data)
    yield
    for path, content in ((store.data(digest), data), (store.revision("unreadable", digest), digest.encode())):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        _old(path)
    store.is_found("unreadable manifest", f"unreadable@{digest}")


def link_without_data(store: Damaged) -> Steps:
    image = store.push("dangling")
    path = store.layer("dangling", f"sha256:{'d' * 64}")
    yield
    path.parent.mkdir()
    path.write_text(f"sha256:{'d' * 64}")
    _old(path)
    assert image
    store.is_found("link without data", f"dangling@sha256:{'d' * 64}")


def stale_cache(store: Damaged) -> Steps:
    store.push("stale")
    layer = make_layer("stale", 700)
    with requests.Session() as session:
        begun = session.post(f"{store.url}/v2/stale/blobs/uploads/")
        where = begun.headers["Location"]
        session.put(where, params={"digest": layer.digest}, data=layer.data).raise_for_status()
        assert session.head(f"{store.url}/v2/stale/blobs/{layer.digest}").status_code == 200
    yield
    shutil.rmtree(store.data(layer.digest).parent)
    store.layer("stale", layer.digest).unlink()  # its folder stays, as with every link that was deleted
    store.is_found("stale cache", f"stale@{layer.digest}")


def empty_repository(store: Damaged) -> Steps:
    image = store.push("empty")
    yield
    deleted = requests.delete(f"{store.url}/v2/empty/manifests/{image.digest}", timeout=9)
    deleted.raise_for_status()
    store.is_found("empty repository", "empty")


def abandoned_upload(store: Damaged) -> Steps:
    store.push("uploading")
    begun = requests.post(f"{store.url}/v2/uploading/blobs/uploads/", timeout=9)
    yield
    (folder,) = (store.root / "repositories/uploading/_uploads").iterdir()
    assert folder.name in begun.headers["Location"]
    for file in folder.rglob("*"):
        _old(file, 8 * DAY)
    store.is_found("abandoned upload", folder)


def foreign_file(store: Damaged) -> Steps:
    yield
    for path in (store.root / "repositories/notes.txt", store.registry.base_path / "backup/old.tar"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        _old(path)
        store.is_found("foreign file", path)


def impossible_date(store: Damaged) -> Steps:
    image, later = store.push("undated"), store.push("from-the-future")
    yield
    os.utime(store.revision("undated", image.digest), (0, 0))
    then = time.time() + 30 * DAY
    os.utime(store.revision("from-the-future", later.digest), (then, then))
    store.is_found("impossible date", "undated")
    store.is_found("impossible date", "from-the-future")


def empty_links(store: Damaged) -> Steps:
    image = store.push("empty-links")
    yield
    (history,) = (store.root / "repositories/empty-links/_manifests/tags/1/index").rglob("link")
    links = (history, store.revision("empty-links", image.digest), store.layer("empty-links", image.blobs[0].digest))
    for path in links:
        _empty(path)
        store.is_found("link not whole", path)


def wrong_sizes(store: Damaged) -> Steps:
    image = store.push("sized")
    document = json.loads(image.manifest)
    document["config"]["size"] += 7
    digest = push_manifest(store.url, "sized", "wrong", json.dumps(document).encode(), image.media_type)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.descriptor() | {"size": 1}]}
    listing = push_manifest(store.url, "sized", "list", json.dumps(index).encode(), OCI_INDEX)
    yield
    for wrong in (digest, listing):
        store.is_found("wrong size", f"sized@{wrong}")


def no_layers(store: Damaged) -> Steps:
    push_empty_index(store.url, "layerless", "1")
    yield
    store.is_found("no folder _layers", "layerless")


def _empty(path: Path) -> None:
    path.write_bytes(b"")
    _old(path)


def _old(path: Path, seconds: float = DAY) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


KINDS: tuple[Callable[[Damaged], Steps], ...] = (
    tag_without_manifest,
    tag_links_that_hold_no_digest,
    tags_without_links,
    tag_half_removed,
    index_without_child,
    child_not_linked,
    manifest_without_bytes,
    manifest_without_config,
    layer_not_linked,
    layer_cut_short,
    changed_manifest,
    unreadable_manifest,
    link_without_data,
    stale_cache,
    empty_repository,
    foreign_file,
    no_layers,
    empty_links,
    wrong_sizes,
    impossible_date,
    abandoned_upload,
)
