"""Sample images of every kind, made from a seed, and pushing them: for the demo and the tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import requests

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Blob:
    """Bytes that the registry keeps by their digest: a layer or a config."""

    data: bytes

    @cached_property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    def descriptor(self, media_type: str, **more: Any) -> dict[str, Any]:
        """An OCI descriptor (image-spec descriptor.md); `more` holds platform, annotations..."""
        return {"mediaType": media_type, "digest": self.digest, "size": len(self.data), **more}


@dataclass(frozen=True)
class Image:
    """A manifest's bytes with what must be pushed before it: blobs, and an index's children."""

    manifest: bytes
    media_type: str
    blobs: tuple[Blob, ...] = ()
    children: tuple[Image, ...] = ()
    platform: str | None = None

    @cached_property
    def digest(self) -> str:
        return Blob(self.manifest).digest

    def descriptor(self, **more: Any) -> dict[str, Any]:
        return Blob(self.manifest).descriptor(self.media_type, **more)


def push(url: str, repository: str, reference: str | None, image: Image) -> str:
    """Push an image with its blobs and children; by digest alone if `reference` is None.

    Returns the manifest's digest. Monolithic uploads, OCI distribution-spec "Pushing manifests".
    """
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no business on loopback
        _push(session, f"{url}/v2/{repository}", reference, image)
    return image.digest


def _push(session: requests.Session, base: str, reference: str | None, image: Image) -> None:
    for child in image.children:
        _push(session, base, None, child)
    for blob in image.blobs:
        if session.head(f"{base}/blobs/{blob.digest}").status_code != 200:
            upload = session.post(f"{base}/blobs/uploads/")
            upload.raise_for_status()
            where = upload.headers["Location"]
            done = session.put(where, params={"digest": blob.digest}, data=blob.data)
            done.raise_for_status()
    session.put(
        f"{base}/manifests/{reference or image.digest}",
        data=image.manifest,
        headers={"Content-Type": image.media_type},
    ).raise_for_status()


def make_layer(seed: object, size: int) -> Blob:
    """A gzipped tar with one incompressible file of `size` bytes; the same for the same seed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("data")
        entry.size = size
        tar.addfile(entry, io.BytesIO(random.Random(repr(seed)).randbytes(size)))
    return Blob(gzip.compress(packed.getvalue(), compresslevel=0, mtime=0))


def make_manifest(
    config: Blob,
    config_type: str,
    layers: Iterable[tuple[Blob, str]],
    *,
    media_type: str = OCI_MANIFEST,
    platform: str | None = None,
    **more: Any,
) -> Image:
    """A manifest from a config and (layer, media type) pairs; `more`: annotations, subject..."""
    layers = list(layers)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(config_type),
        "layers": [layer.descriptor(layer_type) for layer, layer_type in layers],
        **more,
    }
    blobs = (config, *(layer for layer, _ in layers))
    return Image(json.dumps(manifest).encode(), media_type, blobs, platform=platform)


def make_image(
    layers: Sequence[Blob],
    *,
    created: int | None = None,
    platform: str = "linux/amd64",
    oci: bool = False,
    **more: Any,
) -> Image:
    """A Docker schema 2 or OCI image; `created` in epoch seconds, None leaves it out."""
    system, architecture, *variant = platform.split("/")
    tars = [gzip.decompress(layer.data) for layer in layers]
    config: dict[str, Any] = {
        "os": system,
        "architecture": architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Blob(tar).digest for tar in tars]},
    }
    if variant:
        config["variant"] = variant[0]
    if created is not None:
        config["created"] = _rfc3339(created)
    return make_manifest(
        Blob(json.dumps(config).encode()),
        OCI_CONFIG if oci else DOCKER_CONFIG,
        [(layer, OCI_LAYER if oci else DOCKER_LAYER) for layer in layers],
        media_type=OCI_MANIFEST if oci else DOCKER_MANIFEST,
        platform=platform,
        **more,
    )


def make_attestation(image: Image) -> Image:
    """BuildKit's provenance of `image`: an image of an unknown platform with an in-toto layer."""
    statement = {"_type": "https://in-toto.io/Statement/v0.1", "subject": [image.digest]}
    config = {"os": "unknown", "architecture": "unknown", "config": {}, "rootfs": {}}
    return make_manifest(
        Blob(json.dumps(config | {"x": image.digest}).encode()),
        OCI_CONFIG,
        [(Blob(json.dumps(statement).encode()), "application/vnd.in-toto+json")],
    )


def make_index(images: Sequence[Image], *, oci: bool = True, attest: bool = False, **more: Any) -> Image:
    """An OCI index or a Docker manifest list; `attest` adds an attestation for each image."""
    children = list(images)
    descriptors = [_child(image) for image in images]
    for image in images if attest else ():
        attestation = make_attestation(image)
        children.append(attestation)
        annotations = {
            "vnd.docker.reference.digest": image.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        }
        unknown = {"os": "unknown", "architecture": "unknown"}
        descriptors.append(attestation.descriptor(platform=unknown, annotations=annotations))
    media_type = OCI_INDEX if oci else DOCKER_LIST
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors, **more}
    return Image(json.dumps(index).encode(), media_type, children=tuple(children))


def _child(image: Image) -> dict[str, Any]:
    if image.platform is None:
        return image.descriptor()
    names = ("os", "architecture", "variant")
    return image.descriptor(platform=dict(zip(names, image.platform.split("/"), strict=False)))


def make_helm_chart(seed: object, size: int) -> Image:
    """What `helm push` makes: an artifact without `created`."""
    return make_manifest(
        Blob(json.dumps({"name": repr(seed), "version": "0.1.0", "apiVersion": "v2"}).encode()),
        "application/vnd.cncf.helm.config.v1+json",
        [(make_layer(seed, size), "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
    )


def make_signature(image: Image) -> Image:
    """A cosign signature of `image`, to be pushed to the tag `signature_tag(image)`."""
    payload = {"critical": {"image": {"docker-manifest-digest": image.digest}}}
    return make_manifest(
        Blob(json.dumps({"os": "", "architecture": "", "config": {"x": image.digest}}).encode()),
        OCI_CONFIG,
        [(Blob(json.dumps(payload).encode()), "application/vnd.dev.cosign.simplesigning.v1+json")],
    )


def signature_tag(image: Image) -> str:
    """cosign's tag for the signature of `image`."""
    return referrers_tag(image) + ".sig"


def make_referrer(image: Image, *, artifact_type: str = "application/spdx+json") -> Image:
    """An OCI artifact (an SBOM) whose `subject` is `image`."""
    return make_manifest(
        Blob(b"{}"),
        "application/vnd.oci.empty.v1+json",
        [(Blob(json.dumps({"describes": image.digest}).encode()), artifact_type)],
        artifactType=artifact_type,
        subject=image.descriptor(),
    )


def referrers_tag(image: Image) -> str:
    """The tag of the index of an image's referrers (distribution-spec, Referrers Tag Schema)."""
    return image.digest.replace(":", "-")


def _rfc3339(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
