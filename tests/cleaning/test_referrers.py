"""What names an image as its subject in ways that few clients take: it stays and goes with that all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import regdata
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Image, make_image, make_layer, make_signature, push
from regdata.sources.mediatypes import OCI_INDEX, OCI_MANIFEST
from tests.support.helpers import age
from tests.support.odd import config_bytes, descriptor, digest_of, image_bytes, push_blob, push_manifest

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


def planned(registry: LocalRegistry, conf: Conf, condition: str, *, folder: bool) -> dict[str, tuple[str, str]]:
    """What a plan says of the tags that are not merely kept; the same for one by a second reading."""
    site = {"url": registry.url} | ({"base_path": str(registry.base_path)} if folder else {})
    config = load_config(conf(registry, registry=site))
    first = regdata.scan(config)
    second = regdata.scan(config, since=first)
    pd.testing.assert_frame_equal(first.oddities, second.oddities)
    tags = regdata.plan(second, condition).tags
    names = tags["image_name"] + ":" + tags["tag_name"]
    return dict(zip(names, zip(tags["action"], tags["reason"], strict=True), strict=True))


def push_referrer(url: str, image: str, tag: str | None, subject: dict[str, object]) -> bytes:
    data = image_bytes(config_bytes("bom"), subject=subject)
    push_blob(url, image, config_bytes("bom"))
    push_manifest(url, image, tag, data, OCI_MANIFEST)
    return data


@pytest.mark.parametrize("folder", [True, False], ids=["folder", "api"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_subjects_by_any_digest(folder: bool, algorithm: str, registry: LocalRegistry, conf: Conf) -> None:
    """The same rules hold whichever of its digests names a subject, though nobody serves it by that: in a manifest, in
    the referrers fallback's tag and in a signature's. A tag's name proves nothing."""
    url, made = registry.url, make_image([make_layer("named", 2000)], oci=True)
    subject, tag = descriptor(made.manifest, OCI_MANIFEST, algorithm), digest_of(made.manifest, algorithm)
    tag = tag.replace(":", "-")[:71]
    for image in ("has", "old-signed", "old-attached"):
        push(url, image, "old", made)
    for image in ("tagged", "attached", "signed", "image"):
        push(url, image, "keep", made)
    push_referrer(url, "has", "bom", subject)
    push_referrer(url, "tagged", "old", subject)
    for image in ("attached", "old-attached"):
        listed = [descriptor(push_referrer(url, image, None, subject), OCI_MANIFEST)]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        push_manifest(url, image, tag, json.dumps(index).encode(), OCI_INDEX)
    for image in ("signed", "old-signed"):
        push(url, image, f"{tag}.sig", make_signature(made))
    push(url, "image", tag, make_image([make_layer("other", 2000)], oci=True))
    age(registry.base_path, 3 * 86400)
    condition = "tag_name = 'old' or not starts_with(image_name, 'old') and starts_with(tag_name, 'sha')"
    plan = planned(registry, conf, condition, folder=folder)
    assert plan == {
        "has:old": ("untag" if folder else "keep", "has-kept-referrer"),
        "tagged:old": ("keep", "signs-kept-image"),
        f"attached:{tag}": ("keep", "signs-kept-image"),
        f"signed:{tag}.sig": ("keep", "signs-kept-image"),
        f"image:{tag}": ("delete", "selected"),
        "old-attached:old": ("delete", "selected"),
        f"old-attached:{tag}": ("delete", "referrer"),
        "old-signed:old": ("delete", "selected"),
        f"old-signed:{tag}.sig": ("delete", "referrer"),
    }


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
