"""What a registry takes though few clients push it: blobs by other digests, children as blobs, keys in other cases."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from regdata.demo.samples import Blob, Image, make_layer
from regdata.sources.mediatypes import OCI_INDEX, OCI_MANIFEST

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def push_blob(url: str, repository: str, data: bytes, algorithm: str = "sha256") -> str:
    """Uploads a blob under its digest by an algorithm; returns that."""
    digest = digest_of(data, algorithm)
    with requests.Session() as session:
        session.trust_env = False
        started = session.post(f"{url}/v2/{repository}/blobs/uploads/")
        started.raise_for_status()
        where = started.headers["Location"]
        where = where if where.startswith("http") else url + where
        done = session.put(where, params={"digest": digest}, data=data)
        assert done.status_code == 201, done.text
    return digest


def push_manifest(url: str, repository: str, reference: str | None, data: bytes, media_type: str) -> str:
    """Pushes a manifest under a tag or, None, its digest; returns that."""
    digest = digest_of(data)
    with requests.Session() as session:
        session.trust_env = False
        where = f"{url}/v2/{repository}/manifests/{reference or digest}"
        done = session.put(where, data=data, headers={"Content-Type": media_type})
        assert done.status_code == 201, done.text
    return digest


def push_schema1(url: str, repository: str, tag: str, *layers: Blob) -> str:
    """Pushes an image as Docker did until 2016, signed by a key of its own; returns its digest."""
    for layer in layers:
        push_blob(url, repository, layer.data)
    history = json.dumps({"id": "a" * 64, "created": "2015-01-01T00:00:00Z", "architecture": "amd64", "os": "linux"})
    manifest = {
        "schemaVersion": 1,
        "name": repository,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": layer.digest} for layer in layers],
        "history": [{"v1Compatibility": history} for _ in layers],
    }
    payload = json.dumps(manifest, indent=3).encode()
    signed = payload[:-2] + b',\n   "signatures": [' + json.dumps(_signature(payload)).encode() + b"]\n}"
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
        done = session.put(f"{url}/v2/{repository}/manifests/{tag}", data=signed, headers=headers)
        assert done.status_code == 201, done.text
    return digest_of(payload)


def _signature(payload: bytes) -> dict[str, Any]:
    """As docker's libtrust signs JSON (jsonsign.go): all but the payload's last two bytes stand before it."""
    key, algorithm = generate_private_key(SECP256R1()), ECAlgorithm(ECAlgorithm.SHA256)
    described = {"formatLength": len(payload) - 2, "formatTail": _base64(payload[-2:]), "time": "2015-01-01T00:00:00Z"}
    protected = _base64(json.dumps(described).encode())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
    jwk = {name: str(value) for name, value in ECAlgorithm.to_jwk(key.public_key(), as_dict=True).items()}
    jwk["kid"] = ":".join(name[start : start + 4] for start in range(0, len(name), 4))
    signature = algorithm.sign(f"{protected}.{_base64(payload)}".encode(), key)
    return {"header": {"jwk": jwk, "alg": "ES256"}, "signature": _base64(signature), "protected": protected}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def descriptor(data: bytes, media_type: str, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data, algorithm), "size": len(data), **more}


def image_bytes(config: bytes, *layers: bytes, algorithm: str = "sha256", **more: Any) -> bytes:
    """An OCI image; its descriptors are by ``algorithm``."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, OCI_CONFIG, algorithm),
            "layers": [descriptor(layer, OCI_LAYER, algorithm) for layer in layers],
            **more,
        }
    ).encode()


def config_bytes(name: object) -> bytes:
    return json.dumps({"os": "linux", "architecture": "amd64", "config": {"Labels": {"name": repr(name)}}}).encode()


def push_image_by(url: str, repository: str, tag: str | None, name: object, algorithm: str, size: int = 1000) -> str:
    """An image whose blobs were pushed, and are named, by another algorithm than sha256; returns its digest."""
    config, layer = config_bytes(name), make_layer(name, size).data
    for data in (config, layer):
        push_blob(url, repository, data, algorithm)
    return push_manifest(url, repository, tag, image_bytes(config, layer, algorithm=algorithm), OCI_MANIFEST)


def push_index_of_blobs(url: str, repository: str, tag: str, image: Image, **said: Any) -> str:
    """An index whose child was pushed as a blob, which 2.x takes; returns its digest. ``said``: of the child."""
    for blob in image.blobs:
        push_blob(url, repository, blob.data)
    push_blob(url, repository, image.manifest)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.descriptor() | said]}
    return push_manifest(url, repository, tag, json.dumps(index).encode(), OCI_INDEX)


def push_empty_index(url: str, repository: str, tag: str | None) -> str:
    """An index without children, by a tag or its digest: all that the repository holds; it has no ``_layers``."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"in": repository}}
    data = json.dumps(index).encode()
    return push_manifest(url, repository, tag or digest_of(data), data, OCI_INDEX)


def link_as_blob_only(base_path: Path, repository: str, digest: str) -> None:
    """What registries before 2.1 wrote: the manifest is linked among the blobs, and not among the revisions."""
    folder = base_path / "docker/registry/v2/repositories" / repository
    algorithm, hex_ = digest.split(":")
    link = folder / "_layers" / algorithm / hex_ / "link"
    link.parent.mkdir(parents=True)
    (folder / "_manifests/revisions" / algorithm / hex_ / "link").rename(link)
