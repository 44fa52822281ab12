"""A tag's name is only a name: what goes with its subject is what by its content belongs to it."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from regdata.demo.samples import (
    OCI_CONFIG,
    OCI_LAYER,
    Blob,
    Image,
    make_helm_chart,
    make_image,
    make_index,
    make_layer,
    make_manifest,
    make_referrer,
    make_signature,
    push,
    referrers_tag,
)
from tests.support.scene import NewScene, Scene, broken

COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"


class Case(NamedTuple):
    """What a tag is on that seems to belong to an image, and whether it does; its kind."""

    suffix: str
    content: Image
    belongs: bool
    kind: str


def of(number: int) -> Image:
    return make_image([make_layer(("subject", number), 700 + number)])


def attached(seed: str, *media_types: str) -> Image:
    """As cosign makes them: the config is called an image's, whatever the layers are."""
    layers = [(Blob(json.dumps([seed, media_type]).encode()), media_type) for media_type in media_types]
    return make_manifest(Blob(json.dumps({"of": seed}).encode()), OCI_CONFIG, layers)


ORDINARY = [make_image([make_layer(("ordinary", number), 600)], oci=number % 2 == 0) for number in range(8)]
OTHER = make_image([make_layer("another subject", 500)])


def cases() -> list[Case]:
    made = [
        Case(suffix, image, False, "image")
        for suffix, image in zip(("", ".sig", ".att", ".sbom"), ORDINARY, strict=False)
    ]
    made += [
        Case("", make_index(ORDINARY[4:6]), False, "index"),
        Case("", make_index(ORDINARY[6:7], attest=True), False, "index"),
        Case(".sig", make_index([make_signature(OTHER), ORDINARY[7]]), False, "index"),
        Case("", make_index([make_referrer(OTHER)]), False, "signature"),
        Case(".sig", attached("both", COSIGN, OCI_LAYER), False, "image"),
        Case(".sbom", make_referrer(OTHER), False, "signature"),
        Case("", make_index([]), False, "index"),
        Case("", make_helm_chart("a chart", 300), False, "artifact"),
        Case(".sig", make_helm_chart("another chart", 300), False, "artifact"),
        Case("", make_index([make_helm_chart("a third chart", 300)]), False, "index"),
    ]
    for suffix, media_types in (
        (".sig", [COSIGN]),
        (".sig", [COSIGN, COSIGN]),
        (".att", ["application/vnd.dsse.envelope.v1+json"]),
        (".att", ["application/vnd.in-toto+json"]),
        (".sbom", ["text/spdx+json"]),
        (".sbom", ["application/vnd.cyclonedx+json"]),
        (".sbom", ["application/vnd.syft+json"]),
    ):
        made.append(Case(suffix, attached(f"case {len(made)}", *media_types), True, "signature"))
    number = len(made)
    made.append(Case("", make_index([make_referrer(of(number))]), True, "signature"))
    made.append(Case("", make_index([make_signature(of(number + 1))]), True, "signature"))
    made.append(Case(".sbom", make_referrer(of(number + 2)), True, "signature"))
    return made


CASES = cases()


def tag_of(number: int, case: Case) -> str:
    return referrers_tag(of(number)) + case.suffix


@pytest.mark.parametrize("store", [True, False])
def test_content_not_the_name(new_scene: NewScene, store: bool) -> None:
    """What is an image stays when the image goes that its tag names, pulls whole, and has the kind of an image; what
    belongs there by what it is goes; what belongs to another one stays."""
    scene: Scene = new_scene(store=store)
    for number, case in enumerate(CASES):
        push(scene.registry.url, "named", f"v{number}", of(number))
        push(scene.registry.url, "named", tag_of(number, case), case.content)
    scene.set(sql={"none": "2=1", "scene": "tag_name like 'v%' and image_name = 'named'"})
    assert scene.clean() == ""
    assert broken(scene.base_path) == []
    left = {tag for name, tag, _ in scene.store().tags if name == "named"}
    assert left == {tag_of(number, case) for number, case in enumerate(CASES) if not case.belongs}
    assert scene.run
    assert scene.run.inventory
    images = scene.run.inventory.images.query("image_name == 'named'").set_index("tag_name")
    found = {tag_of(number, case): images["kind"][tag_of(number, case)] for number, case in enumerate(CASES)}
    assert found == {tag_of(number, case): case.kind for number, case in enumerate(CASES)}
