"""Manifests, indexes and image configs: from the bytes that a registry holds to records.

Formats: OCI image-spec (manifest.md, image-index.md, descriptor.md, config.md) and Docker's
"Image Manifest V 2, Schema 2". What a registry holds was written by strangers, so nothing here
raises on odd content: what can't be understood becomes a row with an ``error``.
"""

import hashlib
import json
import re
from datetime import datetime
from typing import Any, NamedTuple

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPES: tuple[str, ...] = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)

# Withdrawn from the OCI specification before 1.1, but some registries hold it.
_OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
_DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_KNOWN_TYPES = frozenset((*MANIFEST_TYPES, _OCI_ARTIFACT))
_INDEX_TYPES = frozenset((DOCKER_LIST, OCI_INDEX))
_IMAGE_CONFIGS = frozenset(
    ("application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json")
)
_SIGNATURE_TYPES = (
    "application/vnd.dev.cosign.",
    "application/vnd.dev.sigstore.",
    "application/vnd.cncf.notary.signature",
)
_ATTESTATION_TYPES = ("application/vnd.in-toto", "application/vnd.dsse.envelope")
_CREATED = "org.opencontainers.image.created"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|(?!sha256:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,128}")
_ANY_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# Registries read JSON with Go, to which "Manifests" is the same key as "manifests".
_KEYS = ("mediaType", "artifactType", "config", "layers", "manifests", "blobs", "subject")
_KEYS_FOLDED = {key.casefold(): key for key in _KEYS}
_MAX_SIZE = 2**63 - 1  # a larger number fits in no BIGINT column, nor in Go's int64
_MAX_TEXT = 255


class Reference(NamedTuple):
    """An edge from a manifest: ``kind`` is manifest, config, layer or unknown; size in bytes."""

    hash: str
    kind: str
    size: int | None
    media_type: str | None
    platform: str | None


class Content(NamedTuple):
    """What one manifest says; the fields are the columns of ``contents``, and what it refers to.

    ``config_hash`` is the digest of the image config that `with_config` can complete it from.
    """

    manifest_hash: str
    media_type: str | None
    manifest_size: int | None
    kind: str | None
    created: int | None
    platform: str | None
    subject_hash: str | None
    error: str | None
    references: tuple[Reference, ...]
    config_hash: str | None


class _Invalid(Exception):
    """A manifest that breaks its own format; the message says where."""


def is_digest(value: object) -> bool:
    """Whether it is a digest that may name content (image-spec, descriptor.md "Digests")."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def matches(digest: str, data: bytes) -> bool:
    """Whether the bytes hash to the digest; only sha256 and sha512 can be told to be wrong."""
    algorithm, _, expected = digest.partition(":")
    if algorithm not in ("sha256", "sha512"):
        return True
    return hashlib.new(algorithm, data).hexdigest() == expected


def parse_manifest(digest: str, data: bytes, media_type: str | None) -> Content:
    """Read a manifest or index. Never raises: what is wrong is in ``error``.

    ``media_type`` is the Content-Type that the bytes came with; None where they had none.
    What can't be understood refers, with kind ``unknown``, to every digest found in its text.
    """
    document: object = data.decode(errors="replace")
    if not matches(digest, data):
        error = "content does not match its digest"
        return _not_understood(digest, data, document, None, error)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _not_understood(digest, data, document, None, "not JSON")
    if not isinstance(document, dict):
        error = "not a valid manifest: not a JSON object"
        return _not_understood(digest, data, document, None, error)
    found = None
    try:
        found = _media_type(document, media_type)
        if found not in _KNOWN_TYPES:
            error = f"unknown media type {found or '(none given)'}"
            return _not_understood(digest, data, document, found, error)
        return _understood(digest, data, document, found)
    except _Invalid as reason:
        error = f"not a valid manifest: {reason}"
        return _not_understood(digest, data, document, found, error)


def unreadable(digest: str, error: str) -> Content:
    """The content of a manifest that could not be read at all."""
    return Content(digest, None, None, None, None, None, None, printable(error), (), None)


def parse_config(data: bytes) -> tuple[int | None, str | None]:
    """Creation time (UTC epoch seconds) and platform of an image config; None for what is odd."""
    try:
        config = json.loads(data)
        if not isinstance(config, dict):
            return None, None
        return _epoch(config.get("created")), _platform(config)
    except (ValueError, RecursionError, _Invalid):
        return None, None


def with_config(content: Content, config: tuple[int | None, str | None]) -> Content:
    """The content with what `parse_config` found; an annotation's date stays if it found none."""
    created, platform = config
    return content._replace(created=content.created if created is None else created, platform=platform)


def _understood(digest: str, data: bytes, document: dict[str, Any], media_type: str) -> Content:
    subject = document.get("subject")
    subject_hash = None if subject is None else _descriptor(subject, "manifest", "subject").hash
    created = _epoch(_object(document, "annotations").get(_CREATED))
    config_hash = None
    if media_type in _INDEX_TYPES:
        kind = "index"
        references = _descriptors(document, "manifests", "manifest")
    elif media_type == _OCI_ARTIFACT:
        references = _descriptors(document, "blobs", "layer")
        kind = _kind(document, references, None)
    else:
        config = _descriptor(document.get("config"), "config", "config")
        references = [config, *_descriptors(document, "layers", "layer")]
        kind = _kind(document, references, config)
        config_hash = config.hash if kind == "image" else None
    return Content(
        manifest_hash=digest,
        media_type=media_type,
        manifest_size=len(data),
        kind=kind,
        created=created,
        platform=None,
        subject_hash=subject_hash,
        error=None,
        references=tuple(dict.fromkeys(references)),
        config_hash=config_hash,
    )


def _not_understood(digest: str, data: bytes, document: object, media_type: str | None, error: str) -> Content:
    """What it might refer to is all that is known of it: enough to keep those."""
    try:
        # Written out again: an escape can't hide a digest then.
        found = dict.fromkeys(_ANY_DIGEST.findall(json.dumps(document)))
    except (ValueError, RecursionError):
        found = {}
    return unreadable(digest, error)._replace(
        media_type=media_type,
        manifest_size=len(data),
        references=tuple(Reference(hash_, "unknown", None, None, None) for hash_ in found),
    )


def _media_type(document: dict[str, Any], served: str | None) -> str | None:
    """Its own word, else the Content-Type, else its shape. Two readings make it invalid."""
    for key in document:
        if _KEYS_FOLDED.get(key.casefold(), key) != key:
            raise _Invalid(f"key {printable(key)!r}")
    # Both shapes at once: clients differ on what it is (CVE-2021-41190).
    is_index, is_manifest = "manifests" in document, "layers" in document or "config" in document
    if is_index and is_manifest:
        raise _Invalid("both an index and a manifest")
    own = _text(document, "mediaType")
    served = printable(served.partition(";")[0].strip()) if served else None
    if own:
        if own in _KNOWN_TYPES and served in _KNOWN_TYPES and own != served:
            raise _Invalid(f"says {own}, served as {served}")
        return own
    if served in _KNOWN_TYPES:
        return served
    if is_index:
        return OCI_INDEX
    if is_manifest:
        return OCI_MANIFEST
    return _DOCKER_SCHEMA1 if document.get("schemaVersion") == 1 else served


def _kind(document: dict[str, Any], references: list[Reference], config: Reference | None) -> str:
    artifact_type = _text(document, "artifactType")
    types = [reference.media_type or "" for reference in references]
    if any(type_.startswith(_SIGNATURE_TYPES) for type_ in (artifact_type or "", *types)):
        return "signature"
    if artifact_type or document.get("subject") is not None:
        return "artifact"
    if config is None or config.media_type not in _IMAGE_CONFIGS:
        return "artifact"
    return "artifact" if any(t.startswith(_ATTESTATION_TYPES) for t in types) else "image"


def _descriptors(document: dict[str, Any], key: str, kind: str) -> list[Reference]:
    if key not in document:
        raise _Invalid(f"no {key}")
    values = document[key]
    if values is None:  # how Go writes a list that was never filled
        return []
    if not isinstance(values, list):
        raise _Invalid(f"{key} is not a list")
    return [_descriptor(value, kind, key) for value in values]


def _descriptor(value: object, kind: str, where: str) -> Reference:
    if not isinstance(value, dict):
        raise _Invalid(f"{where}: no descriptor")
    digest = value.get("digest")
    if not is_digest(digest):
        raise _Invalid(f"{where}: no digest")
    size = value.get("size")
    if size is not None and (type(size) is not int or not 0 <= size <= _MAX_SIZE):
        raise _Invalid(f"{where}: size is not a number of bytes")
    platform = None
    if kind == "manifest" and "platform" in value:
        platform = _platform(_object(value, "platform"))
    return Reference(str(digest), kind, size, _text(value, "mediaType"), platform)


def _platform(value: dict[str, Any]) -> str | None:
    """os/architecture[/variant]; "unknown/unknown" is how BuildKit marks an attestation."""
    parts = [_text(value, key) for key in ("os", "architecture", "variant")]
    if not parts[0] or not parts[1] or parts[:2] == ["unknown", "unknown"]:
        return None
    return "/".join(part for part in parts if part)


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Invalid(f"{key} is not an object")
    return value


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Invalid(f"{key} is not a string")
    return printable(value)


def printable(text: str) -> str:
    """Safe for a terminal, a report and UTF-8 (JSON can hold half a surrogate pair)."""
    text = text[:_MAX_TEXT]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _epoch(value: object) -> int | None:
    """An RFC 3339 time as UTC epoch seconds; one without an offset is no such time."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return None if moment.tzinfo is None else int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
