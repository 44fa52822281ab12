"""A store small enough to add up by hand, row by row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from regdata.inventory.inventory import Inventory
from tests.support.helpers import no_rows, numbered

NOW = 1_750_000_000  # 2025-06-15
DAY = 86400


def digest(name: str) -> str:
    return "sha256:" + name.encode().hex().rjust(64, "0")


class Small:
    """A store of a few manifests; each is 1 byte, its config 10, and its layers as large as they say."""

    def __init__(self) -> None:
        self.columns = no_rows()

    def row(self, table: str, **values: Any) -> None:
        for column, cells in self.columns[table].items():
            cells.append(values.get(column))

    def blob(self, name: str, size: int, days: float) -> None:
        if digest(name) not in self.columns["blobs"]["blob_hash"]:
            self.row("blobs", blob_hash=digest(name), blob_size=size, blob_date=NOW - int(days * DAY))

    def push(self, image: str, tag: str | None, *, days: float, **layers: int) -> None:
        """An image; without a tag it is an orphan."""
        self.repository(image)
        manifest, pushed = f"{image}{tag}", NOW - int(days * DAY)
        self.row("revisions", image_name=image, manifest_hash=digest(manifest), pushed=pushed)
        if tag:
            self.row("tags", image_name=image, tag_name=tag, tag_hash=digest(manifest), pushed=pushed)
        self.row(
            "contents", manifest_hash=digest(manifest), media_type="m", manifest_size=1, kind="image", created=pushed
        )
        self.blob(manifest, 1, days)
        for kind, name, size in [("config", f"{manifest}c", 10), *(("layer", *layer) for layer in layers.items())]:
            self.blob(name, size, days)
            self.row(
                "references",
                manifest_hash=digest(manifest),
                reference_hash=digest(name),
                reference_kind=kind,
                reference_size=size,
                media_type="l",
            )

    def repository(self, image: str) -> None:
        if image not in self.columns["repositories"]["image_name"]:
            self.row("repositories", image_name=image)

    def inventory(self, *, from_store: bool = True, scanned_at: int = NOW, **known: Any) -> Inventory:
        return Inventory.from_columns(numbered(self.columns), scanned_at=scanned_at, from_store=from_store, **known)


def few() -> Small:
    """Two images that share a layer, an orphan, a blob that nobody refers to, and an image without tags."""
    made = Small()
    made.push("a/app", "1.0", days=400, base=100, x=50)
    made.push("a/app", "2.0", days=100, base=100, y=70)
    made.push("b/app", "1.0", days=10, base=100, z=30)
    made.push("a/app", None, days=50, w=40)
    made.blob("nobody", 5, 300)
    made.repository("c/none")
    return made


def indexed(*, labels: Sequence[dict[str, str] | None] = (None, None, None), **index: Any) -> Small:
    """An index, tagged multi, of two children; the first is tagged amd64, too. `old` is another image."""
    made = Small()
    made.push("a", "amd64", days=100, x=1)
    made.push("a", None, days=100, y=1)
    made.push("a", "old", days=300, z=1)
    made.push("b", "amd64", days=5, x=1)
    for name, text in zip(("aamd64", "aNone", "aold"), labels, strict=True):
        made.columns["contents"]["labels"][made.columns["contents"]["manifest_hash"].index(digest(name))] = (
            text and json.dumps(text)
        )
    row: dict[str, Any] = {"manifest_hash": digest("multi"), "manifest_size": 1, "kind": "index", "media_type": "m"}
    made.row("contents", **row | index)
    made.row("revisions", image_name="a", manifest_hash=digest("multi"), pushed=NOW - 90 * DAY)
    made.row("tags", image_name="a", tag_name="multi", tag_hash=digest("multi"), pushed=NOW - 90 * DAY)
    for child in ("aamd64", "aNone"):
        made.row(
            "references",
            manifest_hash=digest("multi"),
            reference_hash=digest(child),
            reference_kind="manifest",
            reference_size=1,
        )
    return made
