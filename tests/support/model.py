"""A registry made of dicts and sets, and distribution's collector: what a plan is compared with.

It shares no code, no SQL and no frames with regdata, and finds everything by plain search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hypothesis import strategies as st

NOW = 1_700_000_000
GRACE = 2 * 3600
DAY = 86400

Columns = dict[str, dict[str, list[Any]]]

_COLUMNS = {
    "repositories": "image_name",
    "tags": "image_name tag_name tag_hash pushed error",
    "revisions": "image_name manifest_hash pushed",
    "contents": "manifest_hash media_type manifest_size kind created platform subject_hash error labels",
    "references": "manifest_hash reference_hash reference_kind reference_size media_type platform",
    "blobs": "blob_hash blob_size blob_date",
    "oddities": "image_name what hash target",
}
_NAMES_ITS_SUBJECT = re.compile(r"sha256-([0-9a-f]{64})(\.(sig|att|sbom))?")


class Node(NamedTuple):
    """A manifest of an image."""

    image: str
    digest: str


class Tag(NamedTuple):
    """A tag's link; ``digest`` is None where it is broken."""

    image: str
    name: str
    digest: str | None
    pushed: int | None
    error: str | None

    @property
    def full_name(self) -> str:
        return f"{self.image}:{self.name}"


class Reference(NamedTuple):
    digest: str
    kind: str
    size: int | None


class Manifest(NamedTuple):
    digest: str
    size: int
    kind: str | None
    references: tuple[Reference, ...]
    subject: str | None
    created: int | None
    error: str | None


@dataclass(frozen=True, repr=False)
class Model:
    """What a registry holds: revisions with their push dates, tags, manifests, stored blobs."""

    images: tuple[str, ...]
    revisions: dict[Node, int | None]
    tags: tuple[Tag, ...]
    manifests: dict[str, Manifest]
    stored: dict[str, int]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        """Short enough for a failing example to be read."""
        lines = [f"{tag.full_name} {tag.pushed} -> {tag.error or tag.digest}" for tag in self.tags]
        lines += [f"{image}@{digest} {pushed}" for (image, digest), pushed in self.revisions.items()]
        for digest in sorted({node.digest for node in self.revisions}):
            it = self.manifests[digest]
            what = [f"{r.kind} {r.digest}" for r in it.references] + ([it.error] if it.error else [])
            subject = f" of {it.subject}" if it.subject else ""
            lines.append(f"{digest} {it.kind}{subject}: {', '.join(what)}")
        text = "\n  ".join(lines)
        for digest in {*re.findall(r"[0-9a-f]{64}", text)}:
            text = text.replace(digest, digest.lstrip("0"))
        return f"\n  {text}\n".replace("sha256:", "#")

    def columns(self) -> Columns:
        """The same as a source would give it."""
        columns: Columns = {table: {column: [] for column in names.split()} for table, names in _COLUMNS.items()}

        def add(table: str, *row: object) -> None:
            for values, value in zip(columns[table].values(), row, strict=True):
                values.append(value)

        for image in self.images:
            add("repositories", image)
        for tag in self.tags:
            add("tags", *tag)
        for node, pushed in self.revisions.items():
            add("revisions", *node, pushed)
        for digest in sorted({node.digest for node in self.revisions}):
            it = self.manifests[digest]
            size = None if it.error == "missing from the store" else it.size
            add("contents", digest, None, size, it.kind, it.created, None, it.subject, it.error, None)
            for reference in it.references:
                add("references", digest, *reference, None, None)
        for digest, size in self.stored.items():
            add("blobs", digest, size, NOW - DAY)
        return columns

    def ids(self) -> dict[int, Tag]:
        """The tags by the ids that they get in `images`."""
        return dict(enumerate(sorted(self.tags, key=lambda tag: tag[:2]), 1))

    def node(self, tag: Tag) -> Node | None:
        """The manifest of a tag; None where the image doesn't have it."""
        node = Node(tag.image, tag.digest or "")
        return node if node in self.revisions else None

    def tags_on(self, node: Node) -> set[Tag]:
        return {tag for tag in self.tags if self.node(tag) == node}

    def children(self, node: Node) -> set[Node]:
        """What an index lists and a manifest of unknown type names of the same image; a config or layer, too, that is
        also a manifest there."""
        named = {r.digest for r in self.manifests[node.digest].references if r.kind != "mention"}
        return {Node(node.image, digest) for digest in named} & self.revisions.keys() - {node}

    def subject(self, node: Node) -> Node | None:
        """The manifest that a referrer belongs to by OCI `subject`."""
        subject = Node(node.image, self.manifests[node.digest].subject or "")
        return subject if subject in self.revisions and subject != node else None

    def referrers(self, node: Node) -> set[Node]:
        return {other for other in self.revisions if self.subject(other) == node}

    def below(self, node: Node) -> set[Node]:
        """A manifest, its children and its referrers, at any depth."""
        return closure({node}, lambda node: self.children(node) | self.referrers(node))

    def belongs(self, node: Node, digest: str) -> bool:
        """Whether a manifest is, by what it is and says, something that may belong to the one of this digest."""
        it = self.manifests[node.digest]
        if it.subject:
            return it.subject == digest
        if it.kind == "index":
            entries = [self.manifests[child.digest] for child in self.children(node)]
            subjects = {entry.subject for entry in entries}
            sorts = {entry.kind for entry in entries if not entry.subject}
            return bool(entries) and subjects <= {None, digest} and sorts <= {"signature"}
        return it.kind == "signature"  # an artifact that says nothing more may be anything

    def named_subject(self, tag: Tag) -> Node | None:
        """The manifest that a cosign or fallback tag names, where the tag's own manifest is what its name says."""
        match, node = _NAMES_ITS_SUBJECT.fullmatch(tag.name), self.node(tag)
        subject = Node(tag.image, f"sha256:{match[1]}" if match else "")
        if node is None or subject not in self.revisions or subject in self.below(node):
            return None
        return subject if self.belongs(node, subject.digest) else None

    def in_ring(self, tag: Tag) -> bool:
        """Whether following names leads from what a tag names back to it."""
        start, todo = self.named_subject(tag), [self.node(tag)]
        seen: set[Node | None] = set()
        while start and todo:
            node = todo.pop()
            if node and node not in seen:
                reach = self.below(node)
                seen |= reach
                todo += [self.node(t) for t in self.tags if self.named_subject(t) in reach]
        return start in seen

    def attached_to(self, tag: Tag) -> Node | None:
        """The manifest that a tag follows."""
        return None if self.in_ring(tag) else self.named_subject(tag)

    def attachments(self, node: Node) -> set[Node]:
        """The manifests that the tags on `node` follow."""
        return {subject for tag in self.tags_on(node) if (subject := self.attached_to(tag))}

    def held_by(self, node: Node) -> set[Node]:
        """What stays because `node` stays."""
        attached = {self.node(tag) for tag in self.tags if self.attached_to(tag) == node}
        subject = self.subject(node)
        held = self.children(node) | self.referrers(node) | {n for n in attached if n}
        return held | ({subject} if subject else set())

    def standing(self) -> set[Tag]:
        """The tags that follow nothing."""
        return {tag for tag in self.tags if self.node(tag) and not self.attached_to(tag)}

    def reach(self, nodes: Iterable[Node | None]) -> set[Node]:
        return closure({node for node in nodes if node}, self.held_by)

    def reached(self) -> set[Node]:
        """The manifests that are no orphans."""
        return self.reach(self.node(tag) for tag in self.standing())

    def error(self, tag: Tag) -> str | None:
        node = self.node(tag)
        return tag.error or (self.manifests[node.digest].error if node else None)

    def opaque(self) -> set[str]:
        """The images with something that can't be read and might reach anything."""
        manifests = self.manifests
        return {tag.image for tag in self.tags if tag.digest is None} | {
            node.image
            for node in self.revisions
            if not (manifests[node.digest].error or "unknown media type").startswith("unknown med")
        }

    # What a clean-up does

    def must_stay(self, selected: set[Tag], protected: set[Tag], spared: Iterable[Node] = ()) -> set[Node]:
        """What may not go, by design's rules."""
        keeps = {self.node(tag) for tag in self.standing() - selected}
        keeps |= {self.node(tag) for tag in self.tags if tag in protected or self.error(tag) or self.in_ring(tag)}
        keeps |= {*spared}
        unreadable, reached = self.opaque(), self.reached()
        for node, pushed in self.revisions.items():
            if node.image in unreadable or self.manifests[node.digest].error:
                keeps.add(node)
            if node not in reached and (pushed is None or pushed > NOW - GRACE):
                # Something may be in the making, and what it is attached to with it.
                keeps |= closure({node}, self.attachments)
        return self.reach(keeps)

    def collected(self, gone: Iterable[Node]) -> dict[str, int]:
        """What distribution's garbage collector frees once `gone` is deleted: blob -> bytes.

        It marks each manifest left in any repository and what that refers to directly, and sweeps
        the rest (registry/storage/garbagecollect.go). A missing manifest marks nothing more.
        """
        marked: set[str] = set()
        for node in self.revisions.keys() - set(gone):
            marked.add(node.digest)
            marked |= {reference.digest for reference in self.manifests[node.digest].references}
        return {digest: size for digest, size in self.stored.items() if digest not in marked}

    def without(self, gone: set[Node], tags: set[tuple[str, str]]) -> Model:
        """The registry after these deletions and a collection."""
        freed = self.collected(gone)
        return replace(
            self,
            revisions={node: pushed for node, pushed in self.revisions.items() if node not in gone},
            tags=tuple(tag for tag in self.tags if tag[:2] not in tags and self.node(tag) not in gone),
            stored={digest: size for digest, size in self.stored.items() if digest not in freed},
        )

    # What an inventory says

    def exclusive_size(self, tag: Tag) -> int:
        """The bytes that are freed if only this tag goes, beyond those that any clean-up frees."""
        anyway = self.collected(self.revisions.keys() - self.must_stay(set(), set()))
        freed = self.collected(self.revisions.keys() - self.must_stay({tag}, set()))
        return sum(size for digest, size in freed.items() if digest not in anyway)

    def blobs_of(self, tag: Tag) -> dict[str, set[str]]:
        """The layers and configs of a tag's image, over all its children: digest -> kinds."""
        node = self.node(tag)
        kinds: dict[str, set[str]] = {}
        for part in closure({node} if node else set(), self.children):
            for reference in self.manifests[part.digest].references:
                if reference.kind in ("layer", "config"):
                    kinds.setdefault(reference.digest, set()).add(reference.kind)
        return kinds

    def size(self, digest: str) -> int:
        """A blob's bytes: the store's word, else a descriptor's."""
        sizes = [
            reference.size or 0
            for known in {node.digest for node in self.revisions}
            for reference in self.manifests[known].references
            if reference.digest == digest
        ]
        return self.stored.get(digest, max(sizes, default=0))

    def tag_size(self, tag: Tag) -> int:
        layers = {digest for digest, kinds in self.blobs_of(tag).items() if "layer" in kinds}
        return sum(self.size(digest) for digest in layers)


def closure(start: set[Node], step: Any) -> set[Node]:
    """`start` and all that `step` leads to."""
    found, todo = set(start), list(start)
    while todo:
        new = step(todo.pop()) - found
        found |= new
        todo += new
    return found


# Random registries


def digest_of(number: int) -> str:
    return f"sha256:{number:064x}"


ABSENT = digest_of(0xDEAD)
LAYERS = [digest_of(0xB10B0 + number) for number in range(6)]
GARBAGE = [digest_of(0x6A7BA6E + number) for number in range(2)]
ERRORS = ("unknown media type application/x", "missing from the store", "not JSON")
AGES = st.sampled_from([10 * DAY, 10 * DAY, 10 * DAY, GRACE + 1, GRACE - 1, 0, None])
IMAGES = ("a", "b", "b/c", "d", "e", "f")
PLAIN = ("v1", "v2", "v3", "latest", "stable")
SUFFIXES = ("", ".sig", ".att", ".sbom")


@st.composite
def models(draw: st.DrawFn) -> Model:
    """A registry with anything in it that one might hold, and more."""
    digests = [digest_of(1 + number) for number in range(draw(st.integers(1, 9)))]
    # Digests can't form a ring; a frame might.
    rings = draw(st.integers(0, 3)) == 3
    bad = draw(st.sampled_from([None, None, None, *ERRORS]))
    spoilt = draw(st.sampled_from(digests))
    manifests = {}
    for number, digest in enumerate(digests):
        others = digests if rings else digests[:number]
        error = bad if digest == spoilt else None
        manifests[digest] = draw(_manifests(digest, 2**number, others, error))
    images = IMAGES[: draw(st.integers(1, len(IMAGES)))]
    revisions: dict[Node, int | None] = {}
    tags: list[Tag] = []
    for image in images:
        held = draw(st.lists(st.sampled_from(digests), unique=True, max_size=len(digests)))
        revisions |= {Node(image, digest): _pushed(draw(AGES)) for digest in held}
        tags += draw(_tags(image, held)) if held else []
    broken = draw(st.sampled_from([None, None, None, ABSENT, "link"]))
    if broken == ABSENT:
        tags.append(Tag(images[0], "lost", ABSENT, NOW - DAY, "no such manifest in the repository"))
    elif broken:
        tags.append(Tag(images[0], "broken", None, NOW - DAY, "broken tag link"))
    missing = draw(st.sets(st.sampled_from(LAYERS), max_size=1))
    stored = {digest: manifests[digest].size for digest in digests}
    if bad == "missing from the store":
        del stored[spoilt]
    for number, blob in enumerate([*LAYERS, *GARBAGE], 20):
        if blob not in missing:
            stored[blob] = 2**number
    # A collection may have freed what no repository holds.
    held_anywhere = {node.digest for node in revisions}
    if draw(st.booleans()):
        stored = {d: s for d, s in stored.items() if d not in digests or d in held_anywhere}
    return Model(images, revisions, tuple(tags), manifests, stored)


def _pushed(age: int | None) -> int | None:
    return None if age is None else NOW - age


@st.composite
def _manifests(draw: st.DrawFn, digest: str, size: int, others: list[str], error: str | None) -> Manifest:
    def some(digests: list[str], kind: str, most: int) -> tuple[Reference, ...]:
        if not digests:
            return ()
        picked = draw(st.lists(st.sampled_from(digests), max_size=most))
        return tuple(Reference(one, kind, draw(st.sampled_from([None, 7, 2**60]))) for one in picked)

    if error in ("missing from the store",):
        return Manifest(digest, size, None, (), None, None, error)
    if error:
        mentioned = some([*others, *LAYERS, ABSENT], "unknown", 4)
        return Manifest(digest, size, None, tuple(dict.fromkeys(mentioned)), None, None, error)
    kind = draw(st.sampled_from(["image", "image", "index", "index", "signature", "artifact"]))
    if kind == "index":
        references = some([*others, *others, ABSENT], "manifest", 3)
    else:
        config = Reference(draw(st.sampled_from([*LAYERS, *others])), "config", 7)
        references = (config, *some([*LAYERS, *others], "layer", 3))
    subject = draw(st.sampled_from([None, None, None, *others, *others, ABSENT]))
    created = draw(st.sampled_from([None, 0, 315_532_800, NOW - 30 * DAY, NOW - DAY, NOW + 1]))
    return Manifest(digest, size, kind, tuple(dict.fromkeys(references)), subject, created, None)


@st.composite
def _tags(draw: st.DrawFn, image: str, held: list[str]) -> list[Tag]:
    rings = draw(st.integers(0, 4)) == 4
    if rings:
        held = held[:3]
    named = st.builds(
        lambda digest, suffix: digest.replace(":", "-") + suffix,
        st.sampled_from([*held, *held, ABSENT]),
        st.sampled_from(SUFFIXES),
    )
    # Few manifests and many tags that name them form rings.
    usual = named if rings else st.sampled_from(PLAIN) | named
    names = draw(st.lists(usual, unique=True, max_size=6))
    return [Tag(image, name, draw(st.sampled_from(held)), _pushed(draw(AGES)), None) for name in names]
