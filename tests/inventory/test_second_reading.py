"""Reading a folder again with what was read before, over odd stores: the same as reading it for the first time."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import pytest

from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import files_of
from regdata.planning.rules import needed
from regdata.sources.columns import merge
from regdata.sources.leads import MAX_DOCUMENT
from regdata.sources.mediatypes import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from regdata.sources.storage import Storage
from tests.support.memory import MemoryFiles
from tests.support.odd import OCI_CONFIG, OCI_LAYER, config_bytes, descriptor, digest_of

NOW, THEN = 1_760_000_000, 1_750_000_000
FRAMES = ("repositories", "images", "manifests", "references", "relations", "blobs")
CONFIG, LAYER = config_bytes("odd"), b"a layer"
TYPES = (OCI_MANIFEST, OCI_INDEX, OCI_LAYER, OCI_MANIFEST.upper(), "application/json", None)
ALGORITHMS = ("sha256", "sha384", "sha512")
PADDING = b" " * (MAX_DOCUMENT + 1)


class Link(NamedTuple):
    """How a repository has a document at a time: as a manifest or not, as blobs by these algorithms, with these tags.
    ``damaged``: the bytes are others than they were."""

    as_manifest: bool
    as_blob: frozenset[str]
    tags: frozenset[str]
    damaged: bool


class Store:
    """A registry's folder in memory."""

    def __init__(self) -> None:
        self.files, self.root = MemoryFiles(), "/store/docker/registry/v2"
        self.files.folder["/store"] = set()
        self.files.make(f"{self.root}/repositories")
        self.blob(CONFIG)
        self.blob(LAYER)

    def write(self, path: str, data: bytes, date: int = THEN) -> None:
        path = f"{self.root}/{path}"
        self.files.make(os.path.dirname(path))
        self.files.write(path, data)
        self.files.file[path] = data, date

    def blob(self, data: bytes, stored: bytes | None = None) -> str:
        digest = digest_of(data)
        hex_ = digest.removeprefix("sha256:")
        self.write(f"blobs/sha256/{hex_[:2]}/{hex_}/data", stored or data, THEN + bool(stored))
        return digest

    def link(self, repository: str, data: bytes, link: Link) -> None:
        digest = self.blob(data, b'{"damaged": "' + digest_of(LAYER).encode() if link.damaged else None)
        manifests = f"repositories/{repository}/_manifests"
        if link.as_manifest:
            self.write(f"{manifests}/revisions/{digest.replace(':', '/')}/link", digest.encode())
        for algorithm in link.as_blob:
            name = digest_of(data, algorithm).replace(":", "/")
            self.write(f"repositories/{repository}/_layers/{name}/link", digest.encode())
        for tag in link.tags:
            self.write(f"{manifests}/tags/{tag}/current/link", digest.encode())

    def read(self, parts: int, since: Inventory | None = None) -> Inventory:
        storage = Storage("/store", files=self.files)
        shares = storage.split(parts, unchanged=files_of(since) if since else {})
        columns = merge(storage.read(share) for share in shares)
        return Inventory.from_columns(columns, scanned_at=NOW, from_store=True, since=since)


def documents(chance: random.Random, repository: str) -> Iterator[bytes]:
    """Manifests and indexes, each of which may name those before it in any way."""
    made: list[bytes] = []

    def any_of_them(media_type: str | None) -> dict[str, Any]:
        return descriptor(chance.choice(made), media_type or "", chance.choice(ALGORITHMS))

    for number in range(chance.randint(2, 6)):
        named = [any_of_them(chance.choice(TYPES)) for _ in range(chance.randint(0, 2) if made else 0)]
        media_type = chance.choice([OCI_MANIFEST, OCI_INDEX, OCI_INDEX, DOCKER_LIST])
        said: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "annotations": {"n": repository}}
        said["annotations"]["number"] = str(number)
        if media_type == OCI_MANIFEST:
            said |= {"config": descriptor(CONFIG, OCI_CONFIG), "layers": [descriptor(LAYER, OCI_LAYER), *named]}
        else:
            said["manifests"] = named
        if made and chance.random() < 0.4:
            said["subject"] = any_of_them(OCI_MANIFEST)
        if made and chance.random() < 0.2:
            said["annotations"]["base"] = any_of_them(None)["digest"]
        if chance.random() < 0.1:
            del said["schemaVersion"]  # readable, though collectors stop at it
        blanks = b"\r\n\t " * 20 if chance.random() < 0.2 else b""
        made.append((PADDING if chance.random() < 0.03 else blanks) + json.dumps(said).encode())
        yield made[-1]


def any_link(chance: random.Random) -> Link:
    as_blob = frozenset(algorithm for algorithm in ALGORITHMS if chance.random() < 0.4)
    tags = frozenset(tag for tag in ("1", "2") if chance.random() < 0.3)
    return Link(chance.random() < 0.6, as_blob, tags, chance.random() < 0.02)


def frames(found: Inventory) -> dict[str, pd.DataFrame]:
    made = {name: found.frame(name) for name in FRAMES} | {"oddities": found.oddities}
    return {name: frame.sort_values(list(frame.columns), ignore_index=True) for name, frame in made.items()}


@pytest.mark.parametrize("seed", range(int(os.environ.get("SECOND_READINGS", "3"))))
def test_the_second_reading_finds_what_a_first_one_would(seed: int) -> None:
    """Whatever came, went or was damaged since the first reading: children, subjects and layers that are manifests,
    among the blobs or not, by any digest, and too large or not."""
    chance, first, second = random.Random(seed), Store(), Store()
    for repository in (f"shop/{number}" for number in range(60)):
        for document in documents(chance, repository):
            was = any_link(chance)
            first.link(repository, document, was)
            second.link(repository, document, was if chance.random() < 0.7 else any_link(chance))
    before = first.read(1)
    for store in (first, second):
        again, anew = store.read(seed % 3 + 1, since=before), store.read(1)
        for (name, left), right in zip(frames(again).items(), frames(anew).values(), strict=True):
            pd.testing.assert_frame_equal(left, right, obj=name)
        assert needed(again) == needed(anew)


@pytest.mark.parametrize("held", [digest_of(LAYER), digest_of(LAYER, "sha384"), "nothing", None])
@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_a_subject_whose_name_leads_elsewhere(held: str | None, algorithm: str) -> None:
    """A link by another digest that holds what is not the subject's hides from nobody what that digest is of."""
    store, image = Store(), json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    subject = descriptor(image, OCI_INDEX, algorithm)
    referrer = json.dumps({**json.loads(image), "subject": subject}).encode()
    store.link("shop", image, Link(True, frozenset(), frozenset({"1"}), False))
    store.link("shop", referrer, Link(True, frozenset(), frozenset(), False))
    if held:
        store.write(f"repositories/shop/_layers/{subject['digest'].replace(':', '/')}/link", held.encode())
    assert not store.read(1).manifests["orphan"].any()
