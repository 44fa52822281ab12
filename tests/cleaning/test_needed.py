"""What a registry serves beyond what its own collector marks: such a collection is refused, and nothing deleted."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.cleaning.order import Manifest, Tag
from regdata.cleaning.outcome import Members
from regdata.cleaning.verification import verify
from regdata.collecting.commands import Collection
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Image, make_image, make_index, make_layer, push
from regdata.errors import CleanupError
from regdata.sources.mediatypes import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from regdata.sources.registry import Registry
from regdata.sources.site import Site
from tests.support.helpers import age, listing, store_bytes
from tests.support.odd import (
    OCI_LAYER,
    config_bytes,
    descriptor,
    image_bytes,
    link_as_blob_only,
    push_blob,
    push_empty_index,
    push_image_by,
    push_index_of_blobs,
    push_manifest,
)

ACCEPT = {"Accept": ", ".join((DOCKER_MANIFEST, OCI_MANIFEST, OCI_INDEX))}
Conf = Callable[..., Path]
Fill = Callable[[LocalRegistry], object]


def old_image() -> Image:
    return make_image([make_layer("old", 3000)])


def served(registry: LocalRegistry, image: str, reference: str) -> dict[str, bytes]:
    """All that a client gets of an image, asked for by the digests that its manifests name."""
    got: dict[str, bytes] = {}

    def manifest(name: str) -> None:
        answer = requests.get(f"{registry.url}/v2/{image}/manifests/{name}", headers=ACCEPT, timeout=10)
        assert answer.status_code == 200, (image, name, answer.text)
        got[name] = answer.content
        document = {key.lower(): value for key, value in json.loads(answer.content).items()}
        for child in document.get("manifests", []):
            manifest({key.lower(): value for key, value in child.items()}["digest"])
        for blob in [*document.get("layers", []), *filter(None, [document.get("config")])]:
            data = requests.get(f"{registry.url}/v2/{image}/blobs/{blob['digest']}", timeout=10)
            assert data.status_code == 200, (image, blob["digest"])
            got[blob["digest"]] = data.content

    manifest(reference)
    return got


def by_algorithm(registry: LocalRegistry, image: str, algorithm: str) -> None:
    push_image_by(registry.url, image, "keep", image, algorithm)


def tag_among_the_blobs(registry: LocalRegistry, image: str) -> None:
    made = make_image([make_layer(image, 2000)])
    push(registry.url, image, "keep", made)
    link_as_blob_only(registry.base_path, image, made.digest)


def children_among_the_blobs(registry: LocalRegistry, image: str, **said: str) -> None:
    push_index_of_blobs(registry.url, image, "keep", make_image([make_layer(image, 2000)]), **said)


def grandchildren_among_the_blobs(registry: LocalRegistry, image: str) -> None:
    inner = make_image([make_layer(image, 2000)])
    middle = make_index([inner])
    for data in (*(blob.data for blob in inner.blobs), inner.manifest, middle.manifest):
        push_blob(registry.url, image, data)
    outer = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [middle.descriptor()]}
    push_manifest(registry.url, image, "keep", json.dumps(outer).encode(), OCI_INDEX)


def named_among_the_blobs(registry: LocalRegistry, image: str, where: str) -> None:
    """A manifest among the blobs that an image names as its subject, or as one of its layers."""
    inner = make_image([make_layer(image, 2000)])
    for data in (*(blob.data for blob in inner.blobs), inner.manifest, config_bytes(image)):
        push_blob(registry.url, image, data)
    outer = json.loads(image_bytes(config_bytes(image)))
    outer[where] = inner.descriptor() if where == "subject" else [inner.descriptor()]
    push_manifest(registry.url, image, "keep", json.dumps(outer).encode(), OCI_MANIFEST)


def listed_as_layers(registry: LocalRegistry, image: str, media_type: str) -> None:
    """An image in an index in an index, listed by other digests and types than theirs; it begins with blanks."""
    inner = make_image([make_layer(image, 2000)], oci=True)
    data = b"\r\n\t " * 20 + inner.manifest
    for blob in inner.blobs:
        push_blob(registry.url, image, blob.data)
    for algorithm in ("sha384", "sha512"):
        push_blob(registry.url, image, data, algorithm)
        listed = descriptor(data, media_type, algorithm)
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode()
    push_manifest(registry.url, image, "keep", data, OCI_INDEX)


def subject_of_a_child(registry: LocalRegistry, image: str) -> None:
    """A child among the blobs names another manifest among them as its subject."""
    subject, child = make_image([make_layer(image, 2000)], oci=True), config_bytes(image)
    child = image_bytes(child, subject=subject.descriptor())
    for data in (*(blob.data for blob in subject.blobs), subject.manifest, config_bytes(image), child):
        push_blob(registry.url, image, data)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(child, OCI_MANIFEST)]}
    push_manifest(registry.url, image, "keep", json.dumps(index).encode(), OCI_INDEX)


def blob_data(registry: LocalRegistry, digest: str) -> Path:
    hex_ = digest.removeprefix("sha256:")
    return registry.base_path / f"docker/registry/v2/blobs/sha256/{hex_[:2]}/{hex_}/data"


def write_manifest(registry: LocalRegistry, document: dict[str, Any]) -> None:
    """A manifest that this registry would not take, linked as one of another version's would be."""
    data = json.dumps(document).encode()
    digest = push_blob(registry.url, "odd", data)
    hex_ = digest.removeprefix("sha256:")
    link = registry.base_path / f"docker/registry/v2/repositories/odd/_manifests/revisions/sha256/{hex_}/link"
    link.parent.mkdir(parents=True)
    link.write_text(digest)


def stray(registry: LocalRegistry, folder: str) -> None:
    path = registry.base_path / "docker/registry/v2/blobs" / folder
    path.mkdir(parents=True)
    (path / "data").touch()


NEEDED: dict[str, Callable[[LocalRegistry, str], object]] = {
    "sha512": partial(by_algorithm, algorithm="sha512"),
    "sha384": partial(by_algorithm, algorithm="sha384"),
    "a tag among the blobs": tag_among_the_blobs,
    "children among the blobs": children_among_the_blobs,
    "grandchildren among the blobs": grandchildren_among_the_blobs,
    "children whose type is in capitals": partial(children_among_the_blobs, mediaType=OCI_MANIFEST.upper()),
    "children whose type has a parameter": partial(children_among_the_blobs, mediaType=f"{OCI_MANIFEST}; a=b"),
    "children whose type is a layer's": partial(children_among_the_blobs, mediaType=OCI_LAYER),
    "a subject among the blobs": partial(named_among_the_blobs, where="subject"),
    "a manifest among the layers": partial(named_among_the_blobs, where="layers"),
}
STOPPING: dict[str, Fill] = {
    "an OCI artifact manifest": lambda registry: write_manifest(
        registry, {"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}
    ),
    "an unknown type": lambda registry: write_manifest(
        registry, {"schemaVersion": 2, "mediaType": "application/vnd.example.manifest+json"}
    ),
    "no schemaVersion": lambda registry: write_manifest(
        registry, json.loads(image_bytes(config_bytes("odd"))) | {"schemaVersion": None}
    ),
    "a backup among the blobs": lambda registry: stray(registry, "backup/ab/abcd"),
    "a copy among the blobs": lambda registry: stray(registry, "sha256/ab/copy"),
    "damaged bytes": lambda registry: blob_data(
        registry, push(registry.url, "odd", "odd", make_image([make_layer("odd", 100)]))
    ).write_bytes(b"{}"),
}


def clean(path: Path, *, gc: bool = True) -> regdata.Plan:
    config = load_config(path)
    plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
    assert set(plan.tags["action"]) == {"delete"}
    result = regdata.apply(plan, config, gc=gc)
    assert (result.errors, result.notes) == ([], [])
    assert result.bytes_freed == (plan.reclaimable if gc else None)
    return plan


def everything(registry: LocalRegistry, reference: str, image: str) -> dict[str, bytes]:
    """The same, with what whatever else its manifests name is served as, a manifest or a blob."""
    got = served(registry, image, reference)
    texts = [data.decode("latin-1") for data in got.values()]
    for name in {name for text in texts for name in re.findall(r"sha(?:256|384|512):[0-9a-f]+", text)} - got.keys():
        path = f"{registry.url}/v2/{image}"
        blob = requests.get(f"{path}/blobs/{name}", timeout=10)
        got |= {f"blob {name}": blob.content} if blob.status_code == 200 else {}
        if requests.get(f"{path}/manifests/{name}", headers=ACCEPT, timeout=10).status_code == 200:
            got |= everything(registry, name, image)
    return got


def blob_as_subject(registry: LocalRegistry, image: str) -> None:
    """A blob that is nothing else: distribution's collector takes it."""
    subject, config = f"of {image}".encode(), config_bytes(image)
    for data in (subject, config):
        push_blob(registry.url, image, data)
    outer = image_bytes(config, subject=descriptor(subject, "text/plain"))
    push_manifest(registry.url, image, "keep", outer, OCI_MANIFEST)


def test_our_own_collection_keeps_it(registry: LocalRegistry, conf: Conf) -> None:
    """Whatever is served is needed, in the second reading as in the first, and stays."""
    push(registry.url, "app", "old", old_image())
    types = (OCI_LAYER.upper(), "application/vnd.buildkit.cacheconfig.v0")
    fills = [*NEEDED.values(), blob_as_subject, subject_of_a_child]
    fills += [partial(listed_as_layers, media_type=media_type) for media_type in types]
    images = [f"needed/{number}" for number in range(len(fills))]
    for image, fill in zip(images, fills, strict=True):
        fill(registry, image)
        push(registry.url, image, "old", make_image([make_layer(("old", image), 100)]))
    age(registry.base_path, 3 * 86400)
    before = [everything(registry, "keep", image) for image in images]
    assert clean(conf(registry, **{"gc-command": None})).reclaimable > 3000
    assert [everything(registry, "keep", image) for image in images] == before
    assert regdata.plan(regdata.scan(load_config(conf(registry, **{"gc-command": None}))), "2=1").reclaimable == 0


@pytest.mark.parametrize("given", [True, False], ids=["folder", "api"])
@pytest.mark.parametrize("where", ["layers", "config", "manifests"])
def test_a_manifest_that_another_one_names_by_another_digest(
    given: bool, where: str, registry: LocalRegistry, conf: Conf
) -> None:
    """A registry that deletes a manifest unlinks the blob of its bytes, by whatever digest a layer, a config or a child
    names that: it stays, and its tag goes alone where that can be done."""
    old = old_image()
    push(registry.url, "app", "old", old)
    push_blob(registry.url, "app", config_bytes("keep"))
    push_blob(registry.url, "app", old.manifest, "sha512")
    named = descriptor(old.manifest, "application/vnd.oci.image.layer.v1.tar", "sha512")
    document = json.loads(image_bytes(config_bytes("keep")))
    if where == "manifests":
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX}
        named["mediaType"] = old.media_type
    document |= {where: named if where == "config" else [named]}
    media_type = document["mediaType"]
    push_manifest(registry.url, "app", "keep", json.dumps(document).encode(), media_type)
    age(registry.base_path, 3 * 86400)
    path = f"{registry.url}/v2/app/blobs/{named['digest']}"
    assert requests.get(path, timeout=9).content == old.manifest
    site = {"url": registry.url} | ({"base_path": str(registry.base_path)} if given else {})
    config = load_config(conf(registry, registry=site))
    plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
    assert plan.manifests.empty
    assert regdata.apply(plan, config, gc=False).errors == []
    assert requests.get(path, timeout=9).content == old.manifest


@pytest.mark.parametrize("fill", NEEDED.values(), ids=NEEDED)
def test_a_collection_that_takes_what_is_needed_is_refused(
    fill: Callable[[LocalRegistry, str], object], registry: LocalRegistry, conf: Conf
) -> None:
    """The run ends with one sentence and the cure before anything is deleted; what is served goes on being served."""
    push(registry.url, "app", "old", old_image())
    fill(registry, "app")
    before, files = served(registry, "app", "keep"), listing(registry.base_path / "docker/registry/v2/repositories")
    with pytest.raises(
        CleanupError, match=r"would take \d+ blobs that what stays needs.*so nothing was deleted: leave gc-command out"
    ):
        clean(conf(registry))
    after = listing(registry.base_path / "docker/registry/v2/repositories")
    assert {path: file for path, file in after.items() if "_uploads" not in path}.items() <= files.items()
    assert served(registry, "app", "keep") == before


@pytest.mark.parametrize("fill", STOPPING.values(), ids=STOPPING)
def test_a_collection_that_would_stop_is_refused(fill: Fill, registry: LocalRegistry, conf: Conf) -> None:
    """What distribution's collector can't read ends the run before anything is deleted; nobody is told to delete it."""
    push(registry.url, "app", "old", old_image())
    fill(registry)
    with pytest.raises(
        CleanupError, match=r"collection stops at them, so nothing was deleted: leave gc-command out"
    ) as caught:
        clean(conf(registry))
    assert "DELETE" not in str(caught.value)
    assert served(registry, "app", "old")


def test_what_stops_a_collector_stops_it(registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """What is foretold of the collector is what it does: it stops at each of these, and frees nothing."""
    for name, fill in STOPPING.items():
        with LocalRegistry(tmp_path / name.replace(" ", "-")) as one:
            push(one.url, "app", "old", old_image())
            fill(one)
            clean(conf(one), gc=False)
            size = store_bytes(one.base_path)
            assert subprocess.run(one.gc_command, capture_output=True).returncode != 0, name
            assert store_bytes(one.base_path) == size, name


def test_a_repository_without_layers_gets_a_folder_for_them(registry: LocalRegistry, conf: Conf) -> None:
    """The collector finds no repository that has no _layers; with an empty folder it does, and keeps what is in it,
    with a tag or without."""
    push(registry.url, "app", "old", old_image())
    references = {"index/only": "keep", "index/untagged": push_empty_index(registry.url, "index/untagged", None)}
    push_empty_index(registry.url, "index/only", "keep")
    before = {name: served(registry, name, reference) for name, reference in references.items()}
    clean(conf(registry))
    assert {name: served(registry, name, reference) for name, reference in references.items()} == before
    for name in references:
        assert (registry.base_path / f"docker/registry/v2/repositories/{name}/_layers").is_dir()


@pytest.mark.parametrize("fill", [NEEDED["sha512"], NEEDED["children among the blobs"]], ids=["sha512", "children"])
def test_by_the_api_too(fill: Callable[[LocalRegistry, str], object], registry: LocalRegistry, conf: Conf) -> None:
    """Without base_path the same is seen by what manifests name and by what answers as a blob."""
    push(registry.url, "app", "old", old_image())
    fill(registry, "app")
    before = served(registry, "app", "keep")
    with pytest.raises(CleanupError, match="leave gc-command out"):
        clean(conf(registry, registry={"url": registry.url}))
    assert served(registry, "app", "keep") == before
    assert served(registry, "app", "old")


def test_what_goes_may_be_linked_as_a_blob(registry: LocalRegistry, conf: Conf) -> None:
    """Without base_path: a manifest that may be linked as a blob refuses no run in which it goes itself."""
    push(registry.url, "app", "keep", make_image([make_layer("kept", 2000)]))
    push(registry.url, "app", "old", old_image())
    push_blob(registry.url, "app", old_image().manifest)
    age(registry.base_path, 3 * 86400)
    before, config = served(registry, "app", "keep"), load_config(conf(registry, registry={"url": registry.url}))
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config)
    assert (result.errors, result.notes, list(result.tags["outcome"])) == ([], [], ["deleted"])
    assert served(registry, "app", "keep") == before
    assert not any(blob_data(registry, blob.digest).exists() for blob in old_image().blobs)


def test_children_among_the_blobs_go_with_their_index(registry: LocalRegistry, conf: Conf) -> None:
    """With the last index that lists them they are nobody's: what the collection takes of them is missed by nobody."""
    push(registry.url, "app", "keep", make_image([make_layer("kept", 2000)]))
    index = push_index_of_blobs(registry.url, "app", "old", old_image())
    age(registry.base_path, 3 * 86400)
    before = served(registry, "app", "keep")
    assert list(clean(conf(registry)).manifests["manifest_hash"]) == [index]
    assert served(registry, "app", "keep") == before
    assert not any(blob_data(registry, blob.digest).exists() for blob in old_image().blobs)


def test_keys_in_any_case_name_the_child(registry: LocalRegistry, conf: Conf) -> None:
    """Of two digests the registry serves the one of the last key, in whatever case: that child stays."""
    first, last = (make_image([make_layer(name, 2000)]) for name in ("first", "last"))
    for image in (first, last):
        push(registry.url, "app", None, image)
    child = json.dumps(first.descriptor())[:-1] + f', "Digest": "{last.digest}"}}'
    index = f'{{"schemaVersion": 2, "mediaType": "{OCI_INDEX}", "manifests": [{child}]}}'
    push_manifest(registry.url, "app", "keep", index.encode(), OCI_INDEX)
    push(registry.url, "app", "old", old_image())
    age(registry.base_path, 3 * 86400)
    plan = clean(conf(registry))
    assert last.digest not in set(plan.manifests["manifest_hash"])
    assert served(registry, "app", last.digest)


def test_what_lies_among_the_blobs_is_looked_at_afterwards(registry: LocalRegistry, conf: Conf) -> None:
    """A manifest that went from below another one, linked as blobs alone, is missed; not once nobody lists it."""
    grandchildren_among_the_blobs(registry, "app")
    push(registry.url, "app", "old", old_image())
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry))
    planned, site = regdata.plan(regdata.scan(config), "2=1"), Site.open(config)
    inner = make_image([make_layer("app", 2000)]).digest
    assert verify(planned, Members(set(), set()), planned.blobs, Collection(), site).errors == []
    link = f"docker/registry/v2/repositories/app/_layers/sha256/{inner.removeprefix('sha256:')}/link"
    (registry.base_path / link).unlink()
    (error,) = verify(planned, Members(set(), set()), planned.blobs, Collection(), site).errors
    assert inner in error
    keep = regdata.plan(planned.inventory, "tag_name = 'keep'").tags["tag_hash"].iloc[0]
    gone = Members({Manifest("app", keep)}, {Tag("app", "keep")})
    assert verify(planned, gone, planned.blobs, Collection(), site).errors == []


def test_what_goes_though_it_is_young(registry: LocalRegistry, conf: Conf) -> None:
    """All that an image held which goes is freed with it, however it held it: it is no push in flight."""
    push(registry.url, "app", "kept", old_image())
    age(registry.base_path, 3 * 86400)
    for number, fill in enumerate(NEEDED.values()):
        fill(registry, f"young/{number}")
    age(registry.base_path, 5)
    config = load_config(conf(registry, **{"gc-command": None}))
    before = store_bytes(registry.base_path)
    result = regdata.apply(regdata.plan(regdata.scan(config), "image_name like 'young/%'"), config)
    assert result.errors == result.notes == []
    assert result.bytes_predicted == result.bytes_freed == before - store_bytes(registry.base_path) > 10_000


def test_a_tag_among_the_blobs_goes(registry: LocalRegistry, conf: Conf) -> None:
    """A manifest that is linked as a blob alone is deleted by its tag like others, and is not looked for afterwards."""
    tag_among_the_blobs(registry, "app")
    push(registry.url, "kept", "1", old_image())
    age(registry.base_path, 3 * 86400)
    config = load_config(conf(registry, **{"gc-command": None}))
    assert regdata.apply(regdata.plan(regdata.scan(config), "image_name = 'app'"), config).errors == []


@pytest.mark.parametrize("by_api", [False, True], ids=["base_path", "api"])
def test_a_repository_that_is_named_by_a_host(by_api: bool, registry: LocalRegistry, conf: Conf) -> None:
    """Registries take a host, in capitals, for the first part of a name: it is one as all others."""
    name = "Reg.Example/team/app"
    push(registry.url, name, "old", old_image())
    push(registry.url, name, "keep", make_image([make_layer("kept", 2000)]))
    before = served(registry, name, "keep")
    config = load_config(conf(registry, **({"registry": {"url": registry.url}} if by_api else {})))
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config)
    assert result.errors == []
    assert served(registry, name, "keep") == before
    assert Registry(registry.url).tags(name) == ["keep"]


@pytest.mark.parametrize("fill", [NEEDED["sha512"], NEEDED["children among the blobs"]], ids=["sha512", "children"])
def test_what_is_outside_is_collected_too(
    fill: Callable[[LocalRegistry, str], object], registry: LocalRegistry, conf: Conf
) -> None:
    """Without base_path: gc-command collects also what registry.repositories leaves out, so that this is looked at."""
    push(registry.url, "app", "old", old_image())
    fill(registry, "team/x")
    before = served(registry, "team/x", "keep")
    with pytest.raises(CleanupError, match=r"nothing was deleted: give registry\.base_path, and leave"):
        clean(conf(registry, registry={"url": registry.url, "repositories": ["app"]}))
    assert served(registry, "team/x", "keep") == before
    assert served(registry, "app", "old")


@pytest.mark.parametrize("fill", [NEEDED["sha512"], NEEDED["children among the blobs"]], ids=["sha512", "children"])
def test_what_came_since_is_looked_at_by_the_api(
    fill: Callable[[LocalRegistry, str], object], registry: LocalRegistry, conf: Conf
) -> None:
    """Without base_path: where gc-command would take a part of what was pushed since the scan, into whichever
    repository, it is not run."""
    push(registry.url, "app", "old", old_image())
    config = load_config(conf(registry, registry={"url": registry.url}))
    plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
    fill(registry, "team/x")
    before = served(registry, "team/x", "keep")
    (error,) = regdata.apply(plan, config).errors
    assert "so nothing was collected: give registry.base_path, and leave gc-command out" in error
    assert served(registry, "team/x", "keep") == before


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
def test_children_that_are_listed_as_something_else(media_type: str, registry: LocalRegistry, conf: Conf) -> None:
    """Without base_path: what an index lists as something else is read, if it is small, and is a manifest by its bytes:
    the collector would take its layers. One that is no blob, and is served as a manifest, is not gone for that."""
    child = make_image([make_layer("child", 1000)])
    push(registry.url, "app", "old", old_image())
    push(registry.url, "app", "child", child)
    listed = child.descriptor() | {"mediaType": media_type}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode()
    push_blob(registry.url, "app", child.manifest)
    push_manifest(registry.url, "app", "keep", index, OCI_INDEX)
    path = conf(registry, registry={"url": registry.url})
    with pytest.raises(CleanupError, match=r"1 manifests may be linked as blobs, such as app@.*nothing was deleted"):
        clean(path)
    link = registry.base_path / "docker/registry/v2/repositories/app/_layers/sha256" / child.digest[7:] / "link"
    link.unlink()
    registry.restart()
    config = load_config(path)
    assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config).errors == []
    assert served(registry, "app", "child")
