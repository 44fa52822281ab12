"""A store's files, written by hand."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
PUSHED = 1_700_000_000


class Folder:
    """Writes a store's files as distribution lays them out."""

    def __init__(self, base_path: Path) -> None:
        self.base_path = base_path
        self.root = base_path / "docker/registry/v2"
        self.root.mkdir(parents=True, exist_ok=True)

    def write(self, path: str, data: bytes, mtime: int = PUSHED) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, (mtime, mtime))
        return file

    def blob(self, data: bytes, digest: str | None = None) -> str:
        digest = digest or "sha256:" + hashlib.sha256(data).hexdigest()
        self.write(str(self.blob_path(digest)), data)
        return digest

    def blob_path(self, digest: str) -> Path:
        algorithm, hex_ = digest.split(":")
        return self.root / "blobs" / algorithm / hex_[:2] / hex_ / "data"

    def manifests(self, repository: str) -> Path:
        return self.root / "repositories" / repository / "_manifests"

    def revision(self, repository: str, digest: str, mtime: int = PUSHED) -> None:
        path = self.manifests(repository) / "revisions" / digest.replace(":", "/") / "link"
        self.write(str(path), digest.encode(), mtime)

    def tag(self, repository: str, tag: str, link: str, mtime: int = PUSHED) -> None:
        path = self.manifests(repository) / "tags" / tag / "current/link"
        self.write(str(path), link.encode(), mtime)

    def image(self, repository: str, *tags: str, config: Any = None, **more: Any) -> str:
        config_hash = self.blob(json.dumps(config or {"os": "linux", "architecture": "x"}).encode())
        document = {
            "mediaType": OCI_MANIFEST,
            "config": {"digest": config_hash, "mediaType": OCI_CONFIG, "size": 1},
            "layers": [],
        } | more
        digest = self.blob(json.dumps(document).encode())
        self.revision(repository, digest)
        for tag in tags:
            self.tag(repository, tag, digest)
        return digest
