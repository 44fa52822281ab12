"""Big registries for `make bench`, written straight into a folder as distribution lays it out.

Seeded, with the demo's variety: images and indexes with attestations, base layers that teams share, tags that moved on
and left orphans, signatures, digests with two tags, empty repositories. Layers are sparse files: a size and no bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regdata.demo.samples import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)

NOW = 1_750_000_000
DAY = 86400
TEAMS = ("shop", "data", "ml", "platform", "web", "pay", "search", "ops")
APPS = ("prod-api", "prod-web", "prod-etl", "test-api", "test-web", "dev-sandbox", "notebook", "ci/runner/linux")
TAGS_PER_REPOSITORY = 65


def big_store(folder: Path, tags: int) -> Path:
    """The base_path of a store with so many tags, made in ``folder`` unless it is there; the same bytes each time."""
    base_path = folder / f"{tags}-tags"
    if not base_path.exists():
        draft = folder / f".{base_path.name}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        _Writer(draft / "docker/registry/v2", tags).write()
        draft.rename(base_path)
    return base_path


def one_repository(folder: Path, tags: int) -> Path:
    """The same with a single repository of so many tags."""
    base_path = folder / f"{tags}-tags"
    if not base_path.exists():
        writer = _Writer(base_path / "docker/registry/v2", tags)
        Repository(writer, "shop/prod-api").fill(tags)
    return base_path


class _Writer:
    def __init__(self, root: Path, tags: int) -> None:
        self.root = str(root)
        self.wanted = tags
        self.written = 0
        self.chance = random.Random(tags)
        self.bases = [self.layer(NOW - 900 * DAY, 30_000_000) for _ in range(24)]

    def write(self) -> None:
        number = 0
        while self.written < self.wanted:
            name = f"{TEAMS[number % len(TEAMS)]}/{APPS[number // len(TEAMS) % len(APPS)]}"
            if number >= len(TEAMS) * len(APPS):
                name += f"-{number // (len(TEAMS) * len(APPS))}"
            if number % 50 == 49:
                os.makedirs(f"{self.root}/repositories/{name}/_manifests/tags")
                self.file(f"repositories/{name}/_layers/sha256/{self.bases[0]['hex']}/link", b"", NOW - 300 * DAY)
            else:
                size = int(TAGS_PER_REPOSITORY * min(self.chance.paretovariate(1.2) / 4, 20)) + 1
                Repository(self, name).fill(min(size, self.wanted - self.written))
            number += 1

    def file(self, path: str, data: bytes, when: int, *, size: int | None = None) -> None:
        path = f"{self.root}/{path}"
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder)
        with open(path, "wb", buffering=0) as file:
            file.write(data)
            if size is not None:
                file.truncate(size)
        os.utime(path, (when, when))

    def layer(self, when: int, mean: int) -> dict[str, Any]:
        hex_ = f"{self.chance.getrandbits(256):064x}"
        size = int(self.chance.lognormvariate(0, 1) * mean) + 100
        self.file(f"blobs/sha256/{hex_[:2]}/{hex_}/data", b"", when, size=size)
        return {"hex": hex_, "size": size}

    def blob(self, document: dict[str, Any], when: int) -> tuple[str, int]:
        """Its hex digest and size."""
        data = json.dumps(document, indent=3).encode()  # as Docker writes them
        hex_ = hashlib.sha256(data).hexdigest()
        self.file(f"blobs/sha256/{hex_[:2]}/{hex_}/data", data, when)
        return hex_, len(data)


class Repository:
    """One application's builds, oldest first."""

    def __init__(self, writer: _Writer, name: str) -> None:
        self.writer, self.name, self.chance = writer, name, writer.chance
        self.folder = f"repositories/{name}"
        self.multi = "prod-etl" in name
        self.oci = self.multi or self.chance.random() < 0.4
        self.latest: tuple[str, int] | None = None

    def fill(self, tags: int) -> None:
        """Write builds until the repository has so many tags, `latest` being the last one."""
        times = iter(sorted(NOW - int(self.chance.random() * 730 * DAY) for _ in range(2 * tags + 2)))
        names = self._names()
        written = 1
        while written < tags:
            when = next(times)
            digest = self._build(when)
            self.latest = digest, when
            # A third of the builds moves `latest` and gets no tag of its own: an orphan, once the next one is there.
            for _ in range(self.chance.choices((0, 1, 2), (25, 69, 6))[0]):
                self._tag(next(names), digest, when)
                written += 1
            if self.chance.random() < 0.05 and written < tags:
                self._tag(f"sha256-{digest}.sig", self._signature(digest, when), when)
                written += 1
        digest, when = self.latest or (self._build(NOW - DAY), NOW - DAY)
        self._tag("latest", digest, when)
        self.writer.written += written

    def _names(self) -> Iterator[str]:
        number = 0
        while True:
            yield f"{number // 100 + 1}.{number // 10 % 10}.{number % 10}"
            number += 1

    def _build(self, when: int) -> str:
        if not self.multi:
            return self._image(when, "amd64")[0]
        children = []
        for architecture in ("amd64", "arm64"):
            hex_, size = self._image(when, architecture)
            children.append(self._child(hex_, size, {"os": "linux", "architecture": architecture}))
            hex_, size = self._attestation(hex_, when)
            children.append(self._child(hex_, size, {"os": "unknown", "architecture": "unknown"}))
        return self._manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}, when)[0]

    def _child(self, hex_: str, size: int, platform: dict[str, str]) -> dict[str, Any]:
        return {"mediaType": OCI_MANIFEST, "digest": f"sha256:{hex_}", "size": size, "platform": platform}

    def _image(self, when: int, architecture: str) -> tuple[str, int]:
        base = self.writer.bases[hash_of(self.name, when // (180 * DAY)) % len(self.writer.bases)]
        layers = [base, *(self.writer.layer(when, 3_000_000) for _ in range(self.chance.choice((1, 2, 3, 5))))]
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": f"{_iso(when - 300)}.123456789Z",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"], "Cmd": ["/bin/server", self.name]},
            "history": [
                {"created": _iso(when) + "Z", "created_by": f"RUN /bin/sh -c step {n}"} for n in range(len(layers))
            ],
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer['hex'][::-1]}" for layer in layers]},
        }
        return self._with_config(config, [(layer, OCI_LAYER if self.oci else DOCKER_LAYER) for layer in layers], when)

    def _attestation(self, subject: str, when: int) -> tuple[str, int]:
        config = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"of": subject}}
        return self._with_config(config, [(self.writer.layer(when, 20_000), "application/vnd.in-toto+json")], when)

    def _signature(self, subject: str, when: int) -> str:
        config = {"architecture": "", "os": "", "config": {"of": subject}}
        payload = (self.writer.layer(when, 200), "application/vnd.dev.cosign.simplesigning.v1+json")
        return self._with_config(config, [payload], when)[0]

    def _with_config(
        self, config: dict[str, Any], layers: list[tuple[dict[str, Any], str]], when: int
    ) -> tuple[str, int]:
        hex_, size = self.writer.blob(config, when)
        # Those of layers are left out: only a pull needs them.
        self.writer.file(f"{self.folder}/_layers/sha256/{hex_}/link", f"sha256:{hex_}".encode(), when)
        kind = OCI_CONFIG if self.oci else DOCKER_CONFIG
        return self._manifest(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST if self.oci else DOCKER_MANIFEST,
                "config": {"mediaType": kind, "size": size, "digest": f"sha256:{hex_}"},
                "layers": [
                    {"mediaType": kind, "size": layer["size"], "digest": f"sha256:{layer['hex']}"}
                    for layer, kind in layers
                ],
            },
            when,
        )

    def _manifest(self, document: dict[str, Any], when: int) -> tuple[str, int]:
        hex_, size = self.writer.blob(document, when)
        path = f"{self.folder}/_manifests/revisions/sha256/{hex_}/link"
        self.writer.file(path, f"sha256:{hex_}".encode(), when)
        return hex_, size

    def _tag(self, tag: str, hex_: str, when: int) -> None:
        folder = f"{self.folder}/_manifests/tags/{tag}"
        for link in ("current", f"index/sha256/{hex_}"):
            self.writer.file(f"{folder}/{link}/link", f"sha256:{hex_}".encode(), when)


def hash_of(*parts: object) -> int:
    """The same number for the same parts in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _iso(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
