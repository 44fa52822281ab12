"""What few stores hold, but registries serve: the folder is read as the registry reads it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_index, make_layer, push
from regdata.errors import AccessError, RegdataError, RegistryError, StorageError
from regdata.sources import same
from regdata.sources.columns import Columns, merge
from regdata.sources.mediatypes import OCI_INDEX
from regdata.sources.same import check_same
from regdata.sources.storage import Storage
from regdata.sources.transport import Reach
from tests.support.odd import (
    config_bytes,
    digest_of,
    link_as_blob_only,
    push_blob,
    push_empty_index,
    push_image_by,
    push_index_of_blobs,
    push_manifest,
)


def read(base_path: Path, parts: int = 1) -> Columns:
    storage = Storage(base_path)
    return merge(storage.read(part) for part in storage.split(parts))


def rows(columns: Columns, table: str) -> set[tuple[Any, ...]]:
    return set(zip(*columns[table].values(), strict=True))


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_an_alias_names_the_blob_behind_it(registry: LocalRegistry, algorithm: str) -> None:
    """A blob pushed by another digest is stored by its sha256; the repository's link under that digest says so."""
    push_image_by(registry.url, "app", "1", "a", algorithm)
    found = rows(read(registry.base_path), "oddities")
    expected = {
        ("app", "alias", digest_of(data, algorithm), digest_of(data))
        for data in (config_bytes("a"), make_layer("a", 1000).data)
    }
    assert found == expected


def test_children_pushed_as_blobs_are_read(registry: LocalRegistry) -> None:
    """2.x takes an index whose children are blobs, and serves them as manifests: at any depth, once, and no layer."""
    inner, layer = make_image([make_layer("in", 1000)]), make_layer("in", 1000)
    middle = make_index([inner])
    push_index_of_blobs(registry.url, "app", "1", inner)
    push_blob(registry.url, "app", middle.manifest)
    outer = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [middle.descriptor(), inner.descriptor()]}
    push_manifest(registry.url, "app", "2", json.dumps(outer).encode(), OCI_INDEX)
    columns = read(registry.base_path)
    assert rows(columns, "oddities") == {("app", "blob", child.digest, None) for child in (inner, middle)}
    read_ones = columns["contents"]["manifest_hash"]
    assert len(read_ones) == len(set(read_ones)) == 4
    assert (inner.digest, layer.digest) in {(digest, reference.hash) for digest, reference in columns.references()}


def test_what_an_unknown_type_names(registry: LocalRegistry) -> None:
    """What a manifest of unknown type names anywhere is read if it is a manifest among the blobs."""
    inner = make_image([make_layer("in", 1000)])
    odd = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.example+json", "parts": [inner.descriptor()]})
    digest = push_blob(registry.url, "odd", odd.encode())
    push_blob(registry.url, "odd", inner.manifest)
    link = registry.base_path / "docker/registry/v2/repositories/odd/_manifests/revisions/sha256" / digest[7:] / "link"
    link.parent.mkdir(parents=True)
    link.write_text(digest)
    assert ("odd", "blob", inner.digest, None) in rows(read(registry.base_path), "oddities")


def test_a_tag_on_a_manifest_among_the_blobs_is_sound(registry: LocalRegistry) -> None:
    """What very old registries linked into _layers alone is served, and is a manifest of the repository."""
    image = make_image([make_layer("old", 1000)])
    push(registry.url, "app", "1", image)
    link_as_blob_only(registry.base_path, "app", image.digest)
    columns = read(registry.base_path)
    assert columns["tags"]["error"] == [None]
    assert columns["revisions"]["manifest_hash"] == [image.digest]
    left = ("app", "manifest", image.digest, None)  # the folder of the link that is gone
    assert rows(columns, "oddities") == {("app", "blob", image.digest, None), left}
    assert Storage(registry.base_path).state("app") == ({"1": image.digest}, frozenset([image.digest]))


def test_a_repository_without_layers(registry: LocalRegistry) -> None:
    """One that holds an empty index alone has no _layers."""
    push_empty_index(registry.url, "app", "1")
    assert rows(read(registry.base_path), "oddities") == {("app", "no-layers", None, None)}


def test_what_a_text_mentions_is_linked_or_not(registry: LocalRegistry) -> None:
    """A digest that only stands in a manifest's text counts where the repository holds a blob of that digest."""
    here, elsewhere = make_layer("here", 500), make_layer("elsewhere", 500)
    push_blob(registry.url, "app", here.data)
    push_blob(registry.url, "lib", elsewhere.data)
    annotations = {"base": f"{here.digest} {elsewhere.digest}"}
    push(registry.url, "app", "1", make_index([make_image([make_layer("x", 100)])], annotations=annotations))
    assert rows(read(registry.base_path), "oddities") == {("app", "link", here.digest, None)}


def test_all_links_of_a_repository_that_cannot_be_read(registry: LocalRegistry) -> None:
    """Damaged bytes may have meant any blob of their repository, also one under another name."""
    image = make_image([make_layer("a", 1000)])
    push(registry.url, "app", "1", image)
    push_blob(registry.url, "app", b"by another name", "sha512")
    hex_ = image.digest.removeprefix("sha256:")
    (registry.base_path / f"docker/registry/v2/blobs/sha256/{hex_[:2]}/{hex_}/data").write_bytes(b"{")
    found = rows(read(registry.base_path), "oddities")
    linked = {digest for _, what, digest, _ in found if what == "link"}
    assert linked == {*(blob.digest for blob in image.blobs), digest_of(b"by another name")}
    assert (None, "stops", image.digest, "all") in found


def test_data_that_is_no_blob_is_told(registry: LocalRegistry) -> None:
    """A folder with data beside the blobs' own is told once, however many parts the store is read in."""
    for name in ("a", "b"):
        push(registry.url, name, "1", make_image([make_layer(name, 1000)]))
    blobs = registry.base_path / "docker/registry/v2/blobs"
    (blobs / "empty/ab/abcd").mkdir(parents=True)
    strays = ["backup/ab/abcd", "sha256/ab/copy"]
    for stray in strays:
        (blobs / stray).mkdir(parents=True)
        (blobs / stray / "data").touch()
    found = rows(read(registry.base_path, parts=2), "oddities")
    assert found == {(None, "stray", f"blobs/{stray}", None) for stray in strays}


class Folders:
    """A store with ten tags in each repository; ``comes`` is there the second time that it is asked."""

    base = "folder"

    def __init__(self, *names: str, comes: str = "") -> None:
        self.names, self.comes = list(names), comes

    def repositories(self) -> list[str]:
        found = [*self.names]
        self.names += [self.comes] if self.comes and self.comes not in self.names else []
        return found

    def state(self, name: str) -> tuple[dict[str, str], set[str]]:
        return {str(tag): digest_of(b"{}") for tag in range(10)}, {digest_of(b"{}")}

    def content(self, digest: str) -> bytes:
        return b"{}"

    def links(self, name: str) -> dict[str, int]:
        return {}

    def broken_links(self, name: str) -> dict[str, str]:
        return {}

    def is_linked(self, name: str, digest: str) -> bool:
        return name.startswith("as-blob")


class Served:
    """The registry on it: it has 500 for what begins with odd, 404 for what begins with as-blob."""

    display, reach = "registry", Reach()

    def __init__(self, *names: str) -> None:
        self.names = names

    def repositories(self) -> list[str]:
        return list(self.names)

    def check(self) -> None:
        """It answers."""

    def digest(self, name: str, tag: str) -> str | None:
        if name.startswith("odd"):
            raise RegistryError("HTTP 500")
        return None if name.startswith("as-blob") else digest_of(b"{}")


@pytest.mark.parametrize(
    ("served", "store"),
    [
        (["new", "old"], Folders("old", comes="new")),
        (
            [*(f"odd{number}" for number in range(20)), "well"],
            Folders(*(f"odd{number}" for number in range(20)), "well"),
        ),
        (["as-blob", "well"], Folders("as-blob", "well")),
    ],
    ids=["just pushed", "odd ones first", "linked as blobs"],
)
def test_a_folder_that_is_the_registrys(served: list[str], store: Any) -> None:
    """A repository that came meanwhile, many tags that the registry can't serve, and manifests that 3.x does not: a
    folder is its own all the same."""
    check_same(Served(*served), store)  # type: ignore[arg-type]


class ClosedInPart(Served):
    """The login may not pull in what begins with closed."""

    def digest(self, name: str, tag: str) -> str | None:
        if name.startswith("closed"):
            raise AccessError("has not the right to pull")
        return super().digest(name, tag)


def test_a_repository_that_the_login_may_not_pull_from() -> None:
    """A right that is missing is an error, though all else that is served is the folder's."""
    with pytest.raises(AccessError, match="has not the right to pull"):
        check_same(ClosedInPart("closed", "well"), Folders("closed", "well"))  # type: ignore[arg-type]


class FolderPushedTo(Folders):
    """A tag is pushed to right after it was looked at."""

    looks = 0

    def state(self, name: str) -> tuple[dict[str, str], set[str]]:
        tags, revisions = super().state(name)
        self.looks += 1
        return (tags | {"0": digest_of(b"[]")} if self.looks > 1 else tags), revisions


class ServedAnew(Served):
    """The registry on that one."""

    def digest(self, name: str, tag: str) -> str | None:
        return digest_of(b"[]") if tag == "0" else super().digest(name, tag)


def test_a_tag_that_is_pushed_to_as_it_is_compared() -> None:
    """It is no sign of another registry's folder: both are asked once more."""
    check_same(ServedAnew("app"), FolderPushedTo("app"))  # type: ignore[arg-type]


class HalfWritten(Folders):
    """A store whose links to manifests hold nothing, as a full disk leaves them."""

    def broken_links(self, name: str) -> dict[str, str]:
        return {digest_of(b"{}"): f"{name}/link"}


@pytest.mark.parametrize(
    ("store", "error", "told"),
    [
        (Folders("odd"), RegistryError, "^HTTP 500$"),
        (HalfWritten("odd"), StorageError, "^odd/link holds no digest: HTTP 500$"),
    ],
    ids=["unknown why", "empty links"],
)
def test_a_registry_that_serves_nothing_of_it(store: Any, error: type[RegdataError], told: str) -> None:
    """Where the registry fails at all that it could be compared by that is an error, which names a link that holds no
    digest."""
    with pytest.raises(error, match=told):
        check_same(Served("odd"), store)  # type: ignore[arg-type]


class Copied(Served):
    """The registry of another folder, in which one tag is on another manifest."""

    def digest(self, name: str, tag: str) -> str | None:
        return digest_of(b"[]") if tag == "7" else super().digest(name, tag)


def test_a_folder_that_differs_in_one_tag() -> None:
    """A copy of the folder is told by any of the tags that are compared, not by the first of a repository alone."""
    with pytest.raises(StorageError, match=rf"app:7 is {digest_of(b'[]')} there and {digest_of(b'{}')} in the folder"):
        check_same(Copied("app"), Folders("app"))  # type: ignore[arg-type]


class Unanswering(Served):
    """A registry that is gone after its first answers."""

    def check(self) -> None:
        raise RegistryError("Connection refused")


def test_a_registry_that_ends_as_it_is_compared() -> None:
    """It is told at once, though tags that were compared before are the same."""
    with pytest.raises(RegistryError, match="Connection refused"):
        check_same(Unanswering("a", "odd"), Folders("a", "odd"))  # type: ignore[arg-type]


class Slow(Served):
    """Each error takes a minute."""

    asked = 0

    def digest(self, name: str, tag: str) -> str | None:
        self.asked += 1
        return super().digest(name, tag)


def test_a_registry_that_is_slow_and_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for some minutes, however many tags there are that could be asked for."""
    registry = Slow(*(f"odd{number}" for number in range(20)))
    monkeypatch.setattr(same, "time", SimpleNamespace(monotonic=lambda: 1000 + 60.0 * registry.asked))
    with pytest.raises(RegistryError, match="HTTP 500"):
        check_same(registry, Folders(*registry.names))  # type: ignore[arg-type]
    assert registry.asked < 10


class Deleted(Folders):
    """The manifests are deleted, or damaged, the tags on them left."""

    def __init__(self, data: bytes, revisions: set[str]) -> None:
        super().__init__("app")
        self.data, self.revisions = data, revisions

    def state(self, name: str) -> tuple[dict[str, str], set[str]]:
        return super().state(name)[0], self.revisions

    def content(self, digest: str) -> bytes:
        return self.data


class ServedNothing(Served):
    """It has none of them."""

    def digest(self, name: str, tag: str) -> str | None:
        return None


@pytest.mark.parametrize(
    "store", [Deleted(b"{}", set()), Deleted(b"{", {digest_of(b"{}")})], ids=["deleted", "damaged"]
)
def test_tags_without_a_manifest(store: Any) -> None:
    """Tags whose manifest was deleted, or is damaged, and which the registry does not serve, say nothing."""
    check_same(ServedNothing("app"), store)  # type: ignore[arg-type]
