"""What the names of tags mean: families (the tags that differ in numbers alone) and versions."""

from __future__ import annotations

import re

import pandas as pd
from packaging.version import Version

from regdata.tables.workspace import frame, run_file, workspace

COLUMNS = ("tag_family", "family_rank", "version_rank", "is_prerelease")

# A version as `packaging` reads it, up to a separator; what follows is the variant, such as -alpine.
_VERSION = re.compile(
    r"""(v?(?P<release>\d+(?:\.\d+)*)
        (?:[-_.]?(?:alpha|beta|preview|pre|rc|a|b|c)[-_.]?\d*)?
        (?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?
        (?:[-_.]?dev[-_.]?\d*)?)
        (?P<suffix>(?:(?:[-_]|\.(?!\d))(?=[0-9a-z]).*)?)""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_DATE = re.compile(r"(19|20)\d\d[-_]\d\d[-_]\d\d\b.*")
# What others call a pre-release.
_UNFINISHED = re.compile(
    r"(^|.*[-_.])(snapshot|nightly|canary|milestone|alpha|beta|preview|pre|rc|dev)\d*($|[-_.].*)", re.IGNORECASE
)


def with_families(images: pd.DataFrame) -> pd.DataFrame:
    """``images`` (id, image_name, tag_name, kind, tag_timestamp and more) with COLUMNS added or made anew."""
    kept = images.drop(columns=[name for name in COLUMNS if name in images])
    tags = images[["id", "image_name", "tag_name", "kind", "tag_timestamp"]]
    with workspace(tags=tags, version=_versions(images["tag_name"].drop_duplicates())) as work:
        run_file(work, "inventory/families.sql")
        found = frame(work, "from out_families")
    return kept.merge(found.astype({"is_prerelease": "boolean"}), on="id", how="left")


def _versions(names: pd.Series[str]) -> pd.DataFrame:
    """tag_name, release, ordinal, suffix, is_prerelease: a row for each name that is a version."""
    found = []
    for name in names:
        match = _VERSION.fullmatch(name)
        if match and not _DATE.fullmatch(name):
            try:
                version = Version(match[1])
                plain = not (version.is_prerelease or version.is_postrelease)
                release = ".".join(map(str, version.release)) if plain else None
            except ValueError:  # a number that is too long for Python
                continue
            unfinished = version.is_prerelease or bool(_UNFINISHED.fullmatch(match["suffix"]))
            found.append((name, release, version, match["suffix"], unfinished))
    ordinals = {version: number for number, version in enumerate(sorted(dict.fromkeys(row[2] for row in found)))}
    rows = [(name, release, ordinals[version], suffix, pre) for name, release, version, suffix, pre in found]
    kinds = {"tag_name": "str", "release": "str", "ordinal": "int64", "suffix": "str", "is_prerelease": "bool"}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
