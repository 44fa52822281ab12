"""What manifests lead to, as a registry serves it: told here to all who read one.

A registry looks at the bytes that a digest stands for, and at nothing that is said of them (distribution's
registry/storage/manifeststore.go, Get): what an index lists as a layer may be a manifest, with layers of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from regdata.sources import gojson
from regdata.sources.manifest import Content, Reference
from regdata.sources.mediatypes import is_manifest

# What registries and clients refuse to read (distribution's maxManifestBodySize, containers/image's
# MaxConfigBodySize): a manifest can claim that a layer of gigabytes is its config.
MAX_DOCUMENT = 4 * 1024 * 1024
BLANKS = b" \t\r\n"  # JSON's own
# As much of a digest as a tag of the referrers fallback has (distribution-spec, "Referrers Tag Schema").
BEGINNING = len("sha512:") + 64
_OTHERS = ("sha384", "sha512")
_TAG = re.compile(r"(sha(?:256|384|512))-([0-9a-f]{64})(?:[.](?:sig|att|sbom))?")
_VERSION: gojson.Fields = {"schemaVersion": gojson.whole}


class Leads(NamedTuple):
    """Digests by which a manifest leads to others: ``manifests``, which it lists as such; ``perhaps``, which are
    manifests if their bytes are; and ``mentions``, which only stand in its text."""

    manifests: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """Those of what may be manifests."""
        return self.manifests + self.perhaps


NONE = Leads()


def leads_of(content: Content) -> Leads:
    """What a manifest that was read leads to: one that is not understood may lead to whatever it names, but schema 1
    lists layers alone."""
    is_unknown = content.kind is None and content.stops == "all"
    return leads("index" if is_unknown else content.kind, content.subject_hash, content.references)


def leads(kind: str | None, subject: str | None, references: Iterable[Reference]) -> Leads:
    """What a manifest of this kind leads to by what it refers to. Its subject may be anything that has bytes; so may
    what an index lists, while an image says of its layers what they are."""
    manifests, perhaps, mentions = [], [], []
    for one in references:
        if one.kind == "manifest":
            manifests.append(one.hash)
        elif one.kind == "mention":
            mentions.append(one.hash)
        elif kind == "index" or is_manifest(one.media_type):
            perhaps.append(one.hash)
    if subject:
        perhaps.append(subject)
    return Leads(tuple(manifests), tuple(perhaps), tuple(mentions)) if manifests or perhaps or mentions else NONE


def may_be_manifest(data: bytes) -> bool:
    """Whether a registry would take these bytes as a manifest: that has to say its schemaVersion."""
    try:
        read = gojson.parse(data) if data.lstrip(BLANKS).startswith(b"{") else None
    except gojson.Mismatch:
        return False
    return isinstance(read, tuple) and any(gojson.member(name, _VERSION) for name, _ in read)


def named_by(tag: str) -> str | None:
    """The beginning of the digest that a tag names, as what is attached to a manifest may be tagged."""
    found = _TAG.fullmatch(tag)
    return f"{found[1]}:{found[2]}" if found else None


def sought(named: Iterable[str], tags: Iterable[str], known: Iterable[str]) -> set[str]:
    """The beginnings of digests by other algorithms than sha256 that manifests and tags name, and that are not known:
    the bytes of some manifest may have them, though no registry serves it by them."""
    by_tags = (beginning for tag in tags if (beginning := named_by(tag)))
    found = {name[:BEGINNING] for name in chain(named, by_tags) if name.startswith(_OTHERS)}
    return found.difference(name[:BEGINNING] for name in known) if found else found


def other_names(data: bytes, beginnings: Container[str]) -> Iterator[str]:
    """Those digests of some bytes, by other algorithms than sha256, that begin so."""
    for algorithm in _OTHERS:
        name = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if name[:BEGINNING] in beginnings:
            yield name
