"""What a source read, as columns: the hand-over from the registry to the inventory, and between processes."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from itertools import accumulate, compress
from typing import Any

from regdata.sources.manifest import Content, Reference

COLUMNS: dict[str, tuple[str, ...]] = {
    "repositories": ("image_name",),
    "tags": ("image_name", "tag_name", "tag_hash", "pushed", "error"),
    "revisions": ("image_name", "manifest_hash", "pushed"),
    "contents": (
        "manifest_hash",
        "media_type",
        "manifest_size",
        "kind",
        "created",
        "platform",
        "subject_hash",
        "error",
        "labels",
    ),
    # Each distinct descriptor once: most stand in many manifests.
    "descriptors": (
        "reference_hash",
        "reference_kind",
        "reference_size",
        "media_type",
        "platform",
    ),
    # The numbers of rows of `contents` and `descriptors`: by far the longest table.
    "references": ("manifest", "descriptor"),
    "blobs": ("blob_hash", "blob_size", "blob_date"),
    # What few stores hold, and what a registry or its collector makes of it; see ODDITIES.
    "oddities": ("image_name", "what", "hash", "target"),
}

ODDITIES = {
    "alias": "the repository serves the blob `target` under the digest `hash`, too",
    "blob": "the manifest `hash` is linked among the repository's blobs alone",
    "link": "the repository holds the blob `hash`, and something in it may need that in a way that can't be read",
    "manifest": "the manifest `hash` is linked nowhere (deleted, or an artifact's file), and its bytes may be there",
    "same": "the manifest `target` is called by the digest `hash` in the repository, by which nobody serves it",
    "no-layers": "the repository has no `_layers`: a collector of 2.x passes it over, one of 3.x stops",
    "stray": "the folder `hash` holds data like a blob's, and no registry made it: a collector stops there",
    "young": "the repository linked the blob `hash` a moment ago, or nobody knows when, and no manifest refers to it",
    "stops": "a collector (`target`: all, or 3.x) stops at the manifest `hash`",
}


class Columns(dict[str, Mapping[str, MutableSequence[Any]]]):
    """What a source read: the tables of `COLUMNS`, as columns. Cheap to pickle."""

    def __init__(self) -> None:
        """Every table, without rows."""
        super().__init__({table: {name: _column(table) for name in names} for table, names in COLUMNS.items()})
        self._numbers: dict[Reference, int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Columns, (), None, None, iter(self.items())

    def add(self, table: str, row: Iterable[object]) -> None:
        """Append a row, in the order of `COLUMNS`."""
        for values, value in zip(self[table].values(), row, strict=True):
            values.append(value)

    def add_content(self, content: Content) -> None:
        """Append a content's row, and one row for each of its references."""
        number = len(self["contents"]["manifest_hash"])
        self.add("contents", content[: len(COLUMNS["contents"])])
        self.refer(number, content.references)
        if content.stops:
            self.add("oddities", (None, "stops", content.manifest_hash, content.stops))

    def refer(self, manifest: int, references: Iterable[Reference]) -> None:
        """Append what the manifest in this row of ``contents`` refers to."""
        table = self["references"]
        for reference in references:
            table["manifest"].append(manifest)
            table["descriptor"].append(self.number(reference))

    def number(self, reference: Reference) -> int:
        """The row of ``descriptors`` that is this one."""
        number = self._numbers.setdefault(reference, len(self._numbers))
        if number == len(self["descriptors"]["reference_hash"]):
            self.add("descriptors", reference)
        return number

    def references(self) -> Iterator[tuple[str, Reference]]:
        """Each manifest's digest with each of its references."""
        hashes = self["contents"]["manifest_hash"]
        descriptors = [Reference(*row) for row in zip(*self["descriptors"].values(), strict=True)]
        for manifest, number in zip(*self["references"].values(), strict=True):
            yield hashes[manifest], descriptors[number]


def _column(table: str) -> MutableSequence[Any]:
    return array("i") if table == "references" else []


def merge(parts: Iterable[Columns]) -> Columns:
    """Concatenate the columns of several reads.

    A digest is kept once in contents, references and blobs; a content that was read wins over one
    with an error, and brings its references.
    """
    parts = list(parts)
    merged = Columns()
    for part in parts:
        for table in ("repositories", "tags", "revisions", "oddities"):
            for name, values in part[table].items():
                merged[table][name].extend(values)
    winners: dict[str, tuple[int, bool]] = {}
    for number, part in enumerate(parts):
        contents = part["contents"]
        for digest, error in zip(contents["manifest_hash"], contents["error"], strict=True):
            if digest not in winners or (error is None and not winners[digest][1]):
                winners[digest] = (number, error is None)
    seen: set[str] = set()
    for number, part in enumerate(parts):
        kept = [winners[digest][0] == number for digest in part["contents"]["manifest_hash"]]
        _take_references(merged, part, kept)
        _take(merged, part, "contents", kept)
        hashes = part["blobs"]["blob_hash"]
        _take(merged, part, "blobs", [digest not in seen for digest in hashes])
        seen.update(hashes)
    return merged


def _take(merged: Columns, part: Columns, table: str, kept: list[bool]) -> None:
    for name, values in part[table].items():
        merged[table][name].extend(compress(values, kept))


def _take_references(merged: Columns, part: Columns, kept: list[bool]) -> None:
    """The references of those contents that are kept, which are appended to ``merged`` next."""
    begin = len(merged["contents"]["manifest_hash"])
    row_of = list(accumulate(kept, initial=begin))
    table = part["references"]
    stays = [kept[manifest] for manifest in table["manifest"]]
    merged["references"]["manifest"].extend(map(row_of.__getitem__, compress(table["manifest"], stays)))
    numbers = {}
    descriptors = list(zip(*part["descriptors"].values(), strict=True))
    for number in dict.fromkeys(compress(table["descriptor"], stays)):
        numbers[number] = merged.number(Reference(*descriptors[number]))
    merged["references"]["descriptor"].extend(map(numbers.__getitem__, compress(table["descriptor"], stays)))
