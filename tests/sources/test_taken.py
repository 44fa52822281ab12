"""What a registry takes, serves and collects is healthy to us, however odd it is: manifests changed at random."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import requests

from regdata.demo.local import LocalRegistry
from regdata.sources.manifest import parse_manifest
from regdata.sources.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from regdata.sources.registry import ACCEPT
from tests.support.odd import OCI_CONFIG, OCI_LAYER, digest_of, image_bytes, push_blob, push_manifest

DRAWS = 400
VALUES: tuple[Any, ...] = (
    *(None, 0, -1, 1.5, 2**63, True, "", "x", "YQ==", [], {}, [1], ["x"], [None], [{}]),
    *({"a": 1}, {"a": "b"}, {"a": None}, {"a": {}}, f"sha256:{'a' * 64}", "\ud800"),
)
KEYS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject", "artifactType")
OF_DESCRIPTORS = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
OF_PLATFORMS = ("os", "architecture", "variant", "os.version", "os.features")
ENDS = ("", "", "", *(f', "{name}": null}}' for name in ("layers", "manifests", "config")), ', "LAYERS": []}')


class Odd:
    """Manifests that are changed a little: of blobs and of a child that a registry has."""

    def __init__(self, seed: int, blobs: list[str], child: str) -> None:
        self.chance = random.Random(seed)
        self.blobs, self.child = blobs, child

    def document(self) -> tuple[str, bytes]:
        """A media type, and bytes that are pushed as it."""
        kind = self.chance.choice([OCI_MANIFEST, OCI_INDEX, DOCKER_LIST, DOCKER_MANIFEST])
        made: dict[str, Any] = {"schemaVersion": 2} | ({"mediaType": kind} if self.chance.random() < 0.7 else {})
        if kind in (OCI_INDEX, DOCKER_LIST):
            made["manifests"] = [self.descriptor(OCI_MANIFEST, self.child) for _ in range(self.chance.randrange(3))]
        else:
            made["config"] = self.descriptor(OCI_CONFIG, self.blobs[0])
            layers = self.chance.choices(self.blobs, k=self.chance.randrange(3))
            made["layers"] = [self.descriptor(OCI_LAYER, layer) for layer in layers]
        for _ in range(self.chance.choice([0, 1, 1, 2])):
            self.change(made)
        text, end = json.dumps(made), self.chance.choice(ENDS)
        return kind, (text[:-1] + end if end and made else text).encode()

    def descriptor(self, media_type: str, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": 5}
        return found | ({"platform": {"os": "linux", "architecture": "x"}} if self.chance.random() < 0.5 else {})

    def change(self, made: dict[str, Any]) -> None:
        places: list[tuple[dict[str, Any], tuple[str, ...]]] = [(made, KEYS)]
        for value in made.values():
            descriptors = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
            places += [(one, OF_DESCRIPTORS) for one in descriptors]
            platforms = [one["platform"] for one in descriptors if isinstance(one.get("platform"), dict)]
            places += [(one, OF_PLATFORMS) for one in platforms]
        place, names = self.chance.choice(places)
        if place and self.chance.random() < 0.2:
            place.pop(self.chance.choice([*place]))
            return
        name = self.chance.choice(names)
        name = self.chance.choice([name, name, name.upper(), name.replace("s", "\u017f")])
        place[name] = self.chance.choice(VALUES)


def test_what_a_registry_takes_is_healthy(registry: LocalRegistry) -> None:
    """Manifests that a registry takes, and its collector reads, are read here, too, served as they are or stored, and
    stop no collection."""
    url = registry.url
    blobs = [push_blob(url, "app", b"{}"), push_blob(url, "app", b"layer"), push_blob(url, "app", b"x", "sha512")]
    child = push_manifest(url, "app", "child", image_bytes(b"{}"), OCI_MANIFEST)
    odd, taken = Odd(7, blobs, child), 0
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(DRAWS):
            kind, data = odd.document()
            digest = digest_of(data)
            where = f"{url}/v2/app/manifests/{digest}"
            if session.put(where, data=data, headers={"Content-Type": kind}).status_code != 201:
                continue
            taken += 1
            served = session.get(where, headers=ACCEPT)
            assert (served.status_code, served.content) == (200, data)
            for known in (None, served.headers["Content-Type"]):
                content = parse_manifest(digest, data, known)
                assert (content.error, content.stops in (None, "3.x")) == (None, True), data
    assert taken > DRAWS / 4
    assert subprocess.run(registry.gc_command, capture_output=True).returncode == 0
