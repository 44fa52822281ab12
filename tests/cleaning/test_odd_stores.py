"""Random stores with all that a registry serves beyond what its collector marks, on the real registry."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

import regdata
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Image, make_image, make_index, make_layer, push
from regdata.errors import CleanupError
from regdata.sources.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.helpers import age, listing, store_bytes, store_tags
from tests.support.odd import (
    link_as_blob_only,
    push_blob,
    push_empty_index,
    push_image_by,
    push_index_of_blobs,
    push_manifest,
)

# More of them: ODD_STORES=60 pytest tests/cleaning/test_odd_stores.py
SEEDS = range(int(os.environ["ODD_STORES"])) if "ODD_STORES" in os.environ else (1, 8, 10)
ACCEPT = {"Accept": ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX))}
LAYERS = [make_layer(("odd", number), 200 + 31 * number) for number in range(6)]
IMAGES = ("a", "b/c", "b")
TAGS = ("1", "2", "3", "4")


class OddStore:
    """Fills a registry by steps that clients seldom take."""

    def __init__(self, registry: LocalRegistry, seed: int) -> None:
        self.registry, self.url, self.chance = registry, registry.url, random.Random(seed)

    def fill(self) -> None:
        steps = [self.image, self.image, self.by_alias, self.of_blobs, self.old_style, self.other_case, self.mentions]
        for image in IMAGES:
            for step in self.chance.choices(steps, k=self.chance.randint(1, 5)):
                step(image)
        if self.chance.random() < 0.5:
            push_empty_index(self.url, "empty/index", "1")
        age(self.registry.base_path, 3 * 86400)

    def made(self) -> Image:
        layers = self.chance.sample(LAYERS, self.chance.randint(1, 3))
        return make_image(layers, created=1_600_000_000 + self.chance.randrange(5), oci=self.chance.random() < 0.5)

    def tag(self) -> str:
        return self.chance.choice(TAGS)

    def image(self, image: str) -> None:
        made = self.made()
        push(self.url, image, self.tag(), make_index([made, self.made()]) if self.chance.random() < 0.4 else made)

    def by_alias(self, image: str) -> None:
        algorithm = self.chance.choice(["sha384", "sha512"])
        push_image_by(self.url, image, self.tag(), ("alias", self.chance.randrange(3)), algorithm)

    def of_blobs(self, image: str) -> None:
        push_index_of_blobs(self.url, image, self.tag(), self.made())

    def old_style(self, image: str) -> None:
        made = make_image([self.chance.choice(LAYERS), make_layer(("old", image, self.chance.random()), 150)])
        push(self.url, image, self.tag(), made)
        link_as_blob_only(self.registry.base_path, image, made.digest)

    def other_case(self, image: str) -> None:
        first, last = self.made(), self.made()
        for made in (first, last):
            push(self.url, image, None, made)
        child = json.dumps(first.descriptor())[:-1] + f', "DIGEST": "{last.digest}"}}'
        index = f'{{"schemaVersion": 2, "mediaType": "{OCI_INDEX}", "Manifests": [{child}]}}'
        push_manifest(self.url, image, self.tag(), index.encode(), OCI_INDEX)

    def mentions(self, image: str) -> None:
        """Bytes that are no UTF-8, deep nesting, and a blob of the repository that only the text names."""
        named = make_layer(("named", self.chance.randrange(3)), 90)
        push_blob(self.url, image, named.data)
        made = self.made()
        for blob in made.blobs:
            push_blob(self.url, image, blob.data)
        odd = b'{"x": "\xff", "deep": ' + b"[" * 3000 + b"]" * 3000 + f', "named": "{named.digest}",'.encode()
        push_manifest(self.url, image, self.tag(), made.manifest.replace(b"{", odd, 1), made.media_type)


def served(url: str, image: str, reference: str) -> dict[str, str] | None:
    """All that a client gets below a reference, as it reads it: digest -> sha256 of the bytes; None: not whole."""
    answer = requests.get(f"{url}/v2/{image}/manifests/{reference}", headers=ACCEPT, timeout=10)
    if answer.status_code != 200:
        return None
    got = {reference: hashlib.sha256(answer.content).hexdigest()}
    text = answer.content.decode("utf-8", "replace")
    # Whatever the JSON, a registry serves the last digest of each descriptor.
    for descriptor in re.findall(r'\{[^{}\[\]]*"digest"[^{}]*(?:\{[^{}]*\}[^{}]*)?\}', text, re.IGNORECASE):
        digest = re.findall(r'"digest": ?"([^"]+)"', descriptor, re.IGNORECASE)[-1]
        if '"manifests"' in text.lower():
            below = served(url, image, digest)
        else:
            blob = requests.get(f"{url}/v2/{image}/blobs/{digest}", timeout=10)
            below = {digest: hashlib.sha256(blob.content).hexdigest()} if blob.status_code == 200 else None
        if below is None:
            return None
        got |= below
    return got


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False], ids=["own", "gc-command"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_stays_is_served_or_nothing_is_deleted(
    seed: int, own: bool, registry: LocalRegistry, conf: Callable[..., Path]
) -> None:
    """After a clean-up all that stays is served byte for byte and what was foretold is freed; else it was refused."""
    store = OddStore(registry, seed)
    store.fill()
    tags = sorted(store_tags(registry.base_path))
    selected = store.chance.sample(tags, store.chance.randint(1, len(tags)))
    config = load_config(conf(registry, **({"gc-command": None} if own else {})))
    before = {tag: served(registry.url, *tag.rsplit(":", 1)) for tag in tags}
    assert None not in before.values()
    size, links = store_bytes(registry.base_path), listing(registry.base_path / "docker/registry/v2/repositories")
    names = ", ".join(f"'{tag}'" for tag in selected)
    plan = regdata.plan(regdata.scan(config), f"image_name || ':' || tag_name in ({names})")
    gone = plan.tags[plan.tags["action"].isin(["delete", "untag"])]
    going = set(gone["image_name"] + ":" + gone["tag_name"])
    assert going == set(selected)
    refused, errors, freed = "", [], None
    try:
        result = regdata.apply(plan, config, force=True)
        errors, freed = result.errors, result.bytes_freed
    except CleanupError as error:
        refused = str(error)
    assert errors == []
    if refused:
        assert not own, refused
        assert "what stays needs" in refused
        after = listing(registry.base_path / "docker/registry/v2/repositories")
        assert {path for path in links.items() ^ after.items() if "_uploads" not in path[0]} == set()
        going = set()
    else:
        assert size - store_bytes(registry.base_path) == plan.reclaimable == freed
    for tag in tags:
        assert served(registry.url, *tag.rsplit(":", 1)) == (None if tag in going else before[tag]), tag
