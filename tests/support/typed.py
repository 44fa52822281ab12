"""Rows of all kinds of values, for tests of what a condition may compare."""

from __future__ import annotations

from typing import get_args

import pytest

from regdata.errors import ConditionError
from regdata.tables.conditions import Reader
from regdata.tables.schema import Engine
from tests.support.rows import Rows

DAY = 86400
NOW = 1_790_000_000
IMAGES = [
    {
        "image_name": image,
        "tag_name": tag,
        "image_tag": tag,
        "tag_timestamp": pushed,
        "tag_hash": f"sha256:{tag}",
        "tag_size": size,
        "created": created,
        "pushed": pushed,
        "age_days": None if pushed is None else (NOW - pushed) / DAY,
        "newest_rank": rank,
        "kind": kind,
        "error": error,
    }
    for image, tag, size, created, pushed, rank, kind, error in [
        ("app", "abc", 5, NOW - DAY, NOW, 1, "image", None),
        ("app", "10", 10, NOW - 400 * DAY, NOW - 300 * DAY, 2, "index", "why"),
        ("app", "2.5", 2_000_000_000, None, None, None, "artifact", None),
        ("7", "-3", -3, 5, NOW - 100 * DAY, 9, None, "7"),
        ("", " 8 ", 0, 0, 5, 3, "10", ""),
    ]
]
MANIFESTS = [
    {"image_name": "app", "manifest_hash": "sha256:abc", "pushed": NOW, "tagged": True, "orphan": False},
    {"image_name": "7", "manifest_hash": "sha256:10", "manifest_size": 10, "tagged": False, "orphan": None},
]
BLOBS = [{"blob_hash": "sha256:abc", "blob_size": 5}, {"blob_hash": "10", "blob_size": 2, "blob_date": 7}]
ROWS = Rows(images=IMAGES, manifests=MANIFESTS, blobs=BLOBS)
both_engines = pytest.mark.parametrize("engine", get_args(Engine))


def refusal(reader: Reader, condition: str) -> str:
    """What is said of a condition that can't be used."""
    with pytest.raises(ConditionError) as caught:
        reader.select(condition)
    return str(caught.value)
