"""What names an image as its subject in ways that few clients take: it stays and goes with that all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import regdata
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Image, make_image, make_layer, push
from regdata.sources.mediatypes import OCI_INDEX, OCI_MANIFEST
from tests.support.helpers import age
from tests.support.odd import config_bytes, descriptor, image_bytes, push_blob, push_manifest

Conf = Callable[..., Path]


def push_referrers(url: str, image: str, made: Image) -> dict[str, str]:
    """What names an image as its subject, by the digests of its bytes and in other ways; each by how it does."""
    config = config_bytes(image)
    for data in (config, *(blob.data for blob in made.blobs)):
        push_blob(url, image, data)
    said = {way: descriptor(made.manifest, OCI_MANIFEST, way) for way in ("sha256", "sha384", "sha512")}
    said |= {"a size that is a text": said["sha256"] | {"size": "1"}, "no object": said["sha256"]["digest"]}
    found = {}
    for way, subject in said.items():
        data = image_bytes(config, subject=subject, annotations={"way": way})
        found[way] = push_manifest(url, image, None, data, OCI_MANIFEST)
        above = image_bytes(config, subject=descriptor(data, OCI_MANIFEST, "sha512"))
        found[f"what names {way}"] = push_manifest(url, image, None, above, OCI_MANIFEST)
    return found


def test_referrers_stay_and_go_with_what_they_name(registry: LocalRegistry, conf: Conf) -> None:
    """By whatever digest of its bytes they name it, served or not, and whether it is linked among the blobs; and so do
    theirs."""
    url, made = registry.url, make_image([make_layer("named", 2000)], oci=True)
    for image in ("app", "linked"):
        push(url, image, "old", made)
    push_blob(url, "linked", made.manifest, "sha512")
    for blob in made.blobs:
        push_blob(url, "child", blob.data)
    push_blob(url, "child", made.manifest, "sha384")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    index["manifests"] = [descriptor(made.manifest, OCI_MANIFEST, "sha384")]
    push_manifest(url, "child", "old", json.dumps(index).encode(), OCI_INDEX)
    referrers = {
        (image, digest) for image in ("app", "linked", "child") for digest in push_referrers(url, image, made).values()
    }
    age(registry.base_path, 3 * 86400)
    inventory = regdata.scan(load_config(conf(registry)))
    assert regdata.plan(inventory, "2=1").manifests.empty
    going = regdata.plan(inventory, "tag_name = 'old'").manifests
    gone = going[going["reason"] == "referrer"]
    assert referrers == set(zip(gone["image_name"], gone["manifest_hash"], strict=True))


@pytest.mark.parametrize("given", [True, False], ids=["folder", "api"])
def test_a_referrer_with_a_tag_keeps_what_it_names(given: bool, registry: LocalRegistry, conf: Conf) -> None:
    """By a digest that the registry serves, over the API too."""
    made = make_image([make_layer("named", 2000)], oci=True)
    push(registry.url, "app", "old", made)
    for data, algorithm in ((made.manifest, "sha512"), (config_bytes("bom"), "sha256")):
        push_blob(registry.url, "app", data, algorithm)
    subject = descriptor(made.manifest, OCI_MANIFEST, "sha512")
    push_manifest(registry.url, "app", "bom", image_bytes(config_bytes("bom"), subject=subject), OCI_MANIFEST)
    site = {"url": registry.url} | ({"base_path": str(registry.base_path)} if given else {})
    plan = regdata.plan(regdata.scan(load_config(conf(registry, registry=site))), "tag_name = 'old'")
    assert plan.manifests.empty
    assert set(plan.tags["reason"]) == {"has-kept-referrer"}
