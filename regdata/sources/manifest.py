"""Manifests, indexes and image configs: from the bytes that a registry holds to records.

Formats: OCI image-spec (manifest.md, image-index.md, descriptor.md, config.md) and Docker's "Image Manifest V 2, Schema
2". Strangers wrote what a registry holds: what can't be understood raises nothing, and is a row with an ``error``.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from threading import Lock
from typing import Any, NamedTuple

from regdata.sources import gojson
from regdata.sources.dates import FIRST, epoch
from regdata.sources.labels import as_labels
from regdata.sources.mediatypes import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    KNOWN_TYPES,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    is_manifest,
    kind_of,
)

_CREATED = "org.opencontainers.image.created"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|(?!sha256:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,128}")
_ANY_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_ANY_DIGEST_BYTES = re.compile(_ANY_DIGEST.pattern.encode())
_MAX_TEXT = 255
# Bytes of a document that is read beside others; a larger one may take thirty times as many, and waits for its turn.
_LARGEST = 256 * 1024
_LARGE = Lock()
_BIGGEST = 1 << 44  # bytes: no blob is larger, and the sum of many such sizes is still a number of 64 bits

# The fields that registries and clients read (distribution's manifest/…, image-spec's specs-go/v1).
_PLATFORM: gojson.Fields = {"os": gojson.text, "architecture": gojson.text, "variant": gojson.text}
_FEATURES: gojson.Fields = {"os.version": gojson.text, "os.features": gojson.array(gojson.text)}
# 3.x alone reads these of a descriptor: what is found is whether they are odd.
_LATER: gojson.Fields = {"data": gojson.unfit(gojson.raw), "artifactType": gojson.unfit(gojson.text)}
_DESCRIPTOR: gojson.Fields = _LATER | {
    "mediaType": gojson.text,
    "digest": gojson.text,
    "size": gojson.whole,
    "urls": gojson.array(gojson.text),
    "annotations": gojson.only_texts,
    "platform": gojson.pointer(gojson.struct(_PLATFORM | _FEATURES)),
}
_DESCRIPTORS = gojson.array(gojson.struct(_DESCRIPTOR))
_VERSIONED: gojson.Fields = {"schemaVersion": gojson.whole, "mediaType": gojson.text}
_IMAGE: gojson.Fields = {"config": gojson.unless_null(gojson.struct(_DESCRIPTOR)), "layers": _DESCRIPTORS}
_LIST: gojson.Fields = {"manifests": _DESCRIPTORS}
# What a registry reads has to fit, or it serves nothing of it; it looks at no other field of that type.
_READ_AS: dict[str, gojson.Fields] = {
    DOCKER_MANIFEST: _IMAGE,
    OCI_MANIFEST: _IMAGE | {"annotations": gojson.only_texts},
    DOCKER_LIST: _LIST,
    OCI_INDEX: _LIST,
    OCI_ARTIFACT: {"blobs": _DESCRIPTORS},
}
_NAMED = gojson.struct({"digest": gojson.lenient(gojson.text)})


def _subject(value: Any, before: Any) -> Any:
    """What it belongs to, whatever else is wrong with that: no registry looks at it, and clients differ."""
    if value is None:
        return None
    found = _NAMED(value, before) if isinstance(value, tuple) else before or {}
    if is_digest(found.get("digest")) or not (named := _digests(value)):
        return found
    return found | {"digest": named[0]}


_ASIDE: gojson.Fields = {
    "annotations": gojson.lenient(gojson.texts),
    "artifactType": gojson.lenient(gojson.text),
    "subject": _subject,
}
_RUN = gojson.struct({"Labels": gojson.lenient(gojson.texts)})
_CONFIG: gojson.Fields = {name: gojson.lenient(gojson.text) for name in (*_PLATFORM, "created")} | {
    "config": gojson.lenient(gojson.pointer(_RUN))
}
# What the collectors of distribution 2.x and 3.x have to read, or stop (registry/storage/manifeststore.go, Get).
_COLLECTED_TYPES = frozenset((*MANIFEST_TYPES, "", None))


class Reference(NamedTuple):
    """An edge from a manifest: ``kind`` is manifest, config, layer or unknown; size in bytes.

    A ``mention`` is a digest that stands elsewhere in its text, such as the base image's in an annotation.
    """

    hash: str
    kind: str
    size: int | None
    media_type: str | None
    platform: str | None


class Content(NamedTuple):
    """What one manifest says; the fields are the columns of ``contents``, and what it refers to.

    ``labels``: a JSON object of texts. ``stops``: which of distribution's collectors stop at it: all, 3.x or, None,
    none of them. ``config_hash`` is the digest of the image config that `with_config` can complete it from.
    """

    manifest_hash: str
    media_type: str | None
    manifest_size: int | None
    kind: str | None
    created: int | None
    platform: str | None
    subject_hash: str | None
    error: str | None
    labels: str | None
    stops: str | None
    references: tuple[Reference, ...]
    config_hash: str | None

    @property
    def named(self) -> Iterator[str]:
        """The digests of what it refers to or belongs to, not of what it mentions."""
        yield from (reference.hash for reference in self.references if reference.kind != "mention")
        if self.subject_hash:
            yield self.subject_hash


class _Invalid(Exception):
    """Bytes that are not what they should be."""


def is_digest(value: object) -> bool:
    """Whether it is a digest that may name content (image-spec, descriptor.md "Digests")."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_served(digest: str) -> bool:
    """Whether registries answer for content by such a digest; any other is a bad request to them."""
    return _ANY_DIGEST.fullmatch(digest) is not None


def matches(digest: str, data: bytes) -> bool:
    """Whether the bytes hash to the digest; only by an algorithm that registries know can it be told to be wrong."""
    algorithm, _, expected = digest.partition(":")
    if algorithm not in ("sha256", "sha384", "sha512"):
        return True
    return hashlib.new(algorithm, data).hexdigest() == expected


def parse_manifest(digest: str, data: bytes, media_type: str | None) -> Content:
    """Read a manifest or index as a registry does. Never raises: what is wrong is in ``error``.

    ``media_type`` is the Content-Type that the bytes came with; None where they had none.
    What can't be understood refers, with kind ``unknown``, to every digest found in its text.
    """
    with _LARGE if len(data) > _LARGEST else nullcontext():
        return _parsed(digest, data, media_type)


def _parsed(digest: str, data: bytes, media_type: str | None) -> Content:
    found = None
    document: Any = _NOTHING
    try:
        if not matches(digest, data):
            raise _Invalid("content does not match its digest")
        document = gojson.parse(data)
        if not isinstance(document, tuple):
            raise gojson.Mismatch("not a JSON object")
        fields = _SHAPE(document, None)
        found = _media_type(fields, media_type)
        if found not in KNOWN_TYPES:
            return _unknown(digest, data, document, found, fields)
        return _understood(digest, data, document, _READERS[found](document, None), found)
    except _Invalid as reason:
        error = str(reason)
    except gojson.Mismatch as reason:
        error = str(reason) if document is _NOTHING else f"not a valid manifest: {printable(str(reason))}"
    return _not_understood(digest, data, None if document is _NOTHING else document, found, error)


_NOTHING = object()
_SHAPE = gojson.struct(_VERSIONED | dict.fromkeys((*_IMAGE, *_LIST), lambda value, _: value))
_READERS = {media_type: gojson.struct(_VERSIONED | _ASIDE | fields) for media_type, fields in _READ_AS.items()}
_READ_CONFIG = gojson.struct(_CONFIG)
_ANNOTATED = gojson.struct({"annotations": gojson.unfit(gojson.only_texts)})


def unreadable(digest: str, error: str) -> Content:
    """The content of a manifest that could not be read at all."""
    return Content(digest, None, None, None, None, None, None, printable(error), None, None, (), None)


class Config(NamedTuple):
    """What an image config says: creation time (UTC epoch seconds), platform, labels; None for what is odd."""

    created: int | None = None
    platform: str | None = None
    labels: str | None = None


def parse_config(data: bytes) -> Config:
    """Read an image config. Never raises."""
    try:
        with _LARGE if len(data) > _LARGEST else nullcontext():
            config = _READ_CONFIG(gojson.parse(data), None)
    except gojson.Mismatch:
        return Config()
    labels = as_labels((config.get("config") or {}).get("Labels"))
    return Config(epoch(config.get("created")), _platform(config), labels)


def with_config(content: Content, config: Config) -> Content:
    """The content with what `parse_config` found; an annotation's date stays if it found none, its text in any case."""
    labels = content.labels or config.labels
    if content.labels and config.labels:
        labels = as_labels(json.loads(config.labels) | json.loads(content.labels))
    annotated = config.created is None or config.created < FIRST <= (content.created or 0)
    created = content.created if annotated else config.created
    return content._replace(created=created, platform=config.platform, labels=labels)


def _understood(digest: str, data: bytes, document: object, fields: dict[str, Any], media_type: str) -> Content:
    subject = _descriptors([fields.get("subject") or {}], "manifest", "subject")
    config_hash = None
    if media_type in INDEX_TYPES:
        kind = "index"
        references = [_child(value) for value in fields.get("manifests") or []]
    elif media_type == OCI_ARTIFACT:
        references = _descriptors(fields.get("blobs"), "layer", "blobs")
        kind = _kind(fields, references, None, subject)
    else:
        config = _descriptor(fields.get("config") or {}, "config", "config")
        references = [config, *_descriptors(fields.get("layers"), "layer", "layers")]
        kind = _kind(fields, references, config, subject)
        config_hash = config.hash if kind == "image" else None
    subject_hash = subject[0].hash if subject else None
    known = {reference.hash for reference in references}
    return Content(
        manifest_hash=digest,
        media_type=media_type,
        manifest_size=len(data),
        kind=kind,
        created=epoch((fields.get("annotations") or {}).get(_CREATED)),
        platform=None,
        subject_hash=subject_hash,
        error=None,
        labels=as_labels(fields.get("annotations")),
        stops=_stops(document, fields, media_type),
        references=(
            *dict.fromkeys(references),
            *_mentions(data, document, known),
        ),
        config_hash=config_hash,
    )


def _stops(document: object, fields: dict[str, Any], media_type: str) -> str | None:
    """Which collectors stop at it: 3.x reads more of a descriptor, and an OCI index's annotations."""
    if fields.get("schemaVersion") != 2 or fields.get("mediaType") not in _COLLECTED_TYPES:
        return "all"
    named = [fields.get("config") or {}, *(fields.get("layers") or []), *(fields.get("manifests") or [])]
    odd = any(descriptor.get(name) for descriptor in named for name in _LATER)
    return "3.x" if odd or (media_type == OCI_INDEX and _ANNOTATED(document, None).get("annotations")) else None


def _unknown(digest: str, data: bytes, document: object, media_type: str | None, fields: dict[str, Any]) -> Content:
    """A manifest of a type that is not known here; the collector of 2.x knows schema 1."""
    content = _not_understood(digest, data, document, media_type, f"unknown media type {media_type or '(none given)'}")
    if fields.get("schemaVersion") != 1:
        return content
    layers = {hash_ for name, value in _pairs(document) if name.lower() == "fslayers" for hash_ in _digests(value)}
    kinds = {hash_: "unknown" if hash_ in layers else "mention" for hash_ in (ref.hash for ref in content.references)}
    references = tuple(Reference(hash_, kind, None, None, None) for hash_, kind in kinds.items())
    return content._replace(stops="3.x", references=references)


def _pairs(document: object) -> Iterable[tuple[str, Any]]:
    return document if isinstance(document, tuple) else ()


def _not_understood(digest: str, data: bytes, document: object, media_type: str | None, error: str) -> Content:
    """What it might refer to is all that is known of it: enough to keep those."""
    found = dict.fromkeys([*_in_text(data), *_digests(document)])
    return unreadable(digest, error)._replace(
        media_type=media_type,
        manifest_size=len(data),
        stops="all",
        references=tuple(Reference(hash_, "unknown", None, None, None) for hash_ in found),
    )


def _mentions(data: bytes, document: object, referred: set[str]) -> list[Reference]:
    found = dict.fromkeys(_in_text(data))
    if b"\\" in data:  # an escape can hide a digest
        found |= dict.fromkeys(_digests(document))
    return [Reference(hash_, "mention", None, None, None) for hash_ in found if hash_ not in referred]


def _in_text(data: bytes) -> list[str]:
    return [found.decode() for found in _ANY_DIGEST_BYTES.findall(data)]


def _digests(document: object) -> list[str]:
    """Those in the names and texts of a JSON value, written out again."""
    return _ANY_DIGEST.findall(json.dumps(document))


def _media_type(fields: dict[str, Any], served: str | None) -> str | None:
    """Its own word, else the Content-Type, else its shape. Two readings make it invalid."""
    is_index = fields.get("manifests") is not None
    is_image = fields.get("layers") is not None or fields.get("config") is not None
    # Both shapes at once: clients differ on what it is (CVE-2021-41190). Registries take neither of OCI's types so, and
    # read Docker's as what they say.
    if is_index and is_image and fields.get("mediaType") not in (DOCKER_MANIFEST, DOCKER_LIST):
        raise gojson.Mismatch("both an index and a manifest")
    own = printable(fields.get("mediaType") or "")
    served = printable(served.partition(";")[0].strip()) if served else None
    if own:
        if own in KNOWN_TYPES and served in KNOWN_TYPES and own != served:
            raise gojson.Mismatch(f"says {own}, served as {served}")
        return own
    is_empty = not is_index and not is_image and fields.get("schemaVersion") == 2
    if is_empty and served in (None, OCI_MANIFEST):  # taken as an index that lists nothing, and served as either
        return OCI_INDEX
    if served in KNOWN_TYPES:
        return served
    if is_index:
        return OCI_INDEX
    if is_image:
        return OCI_MANIFEST
    return SCHEMA1 if fields.get("schemaVersion") == 1 else served


def _kind(
    fields: dict[str, Any], references: list[Reference], config: Reference | None, subject: list[Reference]
) -> str:
    types = [reference.media_type or "" for reference in references]
    config_type = config.media_type if config else None
    return kind_of(fields.get("artifactType") or "", config_type, types, is_attached=bool(subject))


def _descriptors(values: list[dict[str, Any]] | None, kind: str, where: str) -> list[Reference]:
    """Those that name something: what is fetched from elsewhere may have no digest. None of them where the list is
    null or left out: for Go it is then an empty one."""
    return [_descriptor(value, kind, where) for value in values or [] if is_digest(value.get("digest"))]


def _child(value: dict[str, Any]) -> Reference:
    """A manifest, unless its type is another one: BuildKit's cache is an index of layers."""
    child = _descriptor(value, "manifest", "manifests")
    return child if not child.media_type or is_manifest(child.media_type) else child._replace(kind="layer")


def _descriptor(value: dict[str, Any], kind: str, where: str) -> Reference:
    digest = value.get("digest")
    if not is_digest(digest):
        raise gojson.Mismatch(f"{where}: no digest")
    size = value.get("size")
    media_type = value.get("mediaType")
    platform = _platform(value.get("platform") or {}) if kind == "manifest" else None
    size = size if size is not None and 0 <= size <= _BIGGEST else None
    return Reference(str(digest), kind, size, None if media_type is None else printable(media_type), platform)


def _platform(value: dict[str, Any]) -> str | None:
    """os/architecture[/variant]; "unknown/unknown" is how BuildKit marks an attestation."""
    parts = [printable(value.get(key) or "") for key in ("os", "architecture", "variant")]
    if not parts[0] or not parts[1] or parts[:2] == ["unknown", "unknown"]:
        return None
    return "/".join(part for part in parts if part)


def sha256_of(data: bytes) -> str:
    """The digest that registries give to some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def printable(text: str) -> str:
    """Safe for a terminal, a report and UTF-8 (JSON can hold half a surrogate pair)."""
    text = text[:_MAX_TEXT]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
