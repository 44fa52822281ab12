"""Families of tags and versions: what names mean, on examples, and against the library's own order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from regdata.inventory.families import with_families


def images(
    *names: str, image: str = "a", kind: str = "image", times: Sequence[int | None] | None = None
) -> pd.DataFrame:
    """Rows of ``images``; the later a name stands, the newer it is."""
    times = range(len(names)) if times is None else times
    return pd.DataFrame(
        {
            "id": range(1, len(names) + 1),
            "image_name": image,
            "tag_name": pd.array(names, dtype="str"),
            "kind": kind,
            "tag_timestamp": pd.array(list(times), dtype="Int64"),
        }
    )


def column(name: str, *names: str) -> list[object]:
    found = with_families(images(*names))[name]
    return [None if pd.isna(value) else value for value in found]


def ranks(*names: str) -> dict[str, object]:
    return dict(zip(names, column("version_rank", *names), strict=True))


@pytest.mark.parametrize(
    ("tag", "family"),
    {
        "latest": "latest",
        "main": "main",
        "main-17": "main-#",
        "main-3f2a1bc": "main-#",
        "main-3f2a1bc9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3": "main-#",
        "main-abcdefa": "main-abcdefa",
        "main-abc12": "main-abc#",
        "pr-7": "pr-#",
        "feature-deadbeef": "feature-deadbeef",
        "sha-860c190": "sha-#",
        "860c190": "#",
        "1.2.3": "#.#.#",
        "v1.2.3": "v#.#.#",
        "1.2.3-alpine": "#.#.#-alpine",
        "1.2.3-alpine3.19": "#.#.#-alpine#.#",
        "1.2.3-rc.1": "#.#.#-rc.#",
        "v1.2.3-4-g3f2a1bc": "v#.#.#-#-g#",
        "2024-01-15": "#",
        "20240115": "#",
        "20240115T101112Z": "#",
        "nightly-2024-01-15": "nightly-#",
        "nightly-20240115": "nightly-#",
        "nightly-2024-01-15T10-11-12Z": "nightly-#",
        "build_2024_01_15_x": "build_#_x",
        "2024.01.15": "#.#.#",
        "2024-13-45": "#-#-#",
        "x86_64": "x#_#",
        f"sha256-{'0f' * 32}.sig": "sha#-#.sig",
        "___": "___",
    }.items(),
)
def test_families(tag: str, family: str) -> None:
    """A family is the tag without its numbers, dates and commit ids."""
    assert column("tag_family", tag) == [family]


def test_family_rank() -> None:
    """1 for the newest of its image and family; alike times share a rank, an unknown time has none."""
    names = ("main-1", "main-2", "main-3", "latest", "dev-1", "main-4", "main-5")
    tags = images(*names, times=[10, 30, 20, 5, 1, None, 30])
    both = pd.concat([tags, tags.assign(id=tags["id"] + 100, image_name="b")], ignore_index=True)
    found = with_families(both)["family_rank"]
    assert [None if pd.isna(rank) else rank for rank in found] == 2 * [4, 1, 3, 1, 1, None, 1]


def test_signatures_take_no_ranks() -> None:
    """A signature is no member of an image's family, be its tag alike."""
    tags = images("a-1", "a-2").assign(kind=["image", "signature"])
    assert list(with_families(tags)["family_rank"]) == [1, 1]


def test_version_rank() -> None:
    """1 for the highest version, in the order of versions, not of texts; a leading v makes no difference."""
    assert ranks("1.9.0", "v1.10.0", "1.2.0", "1.2.0.post1") == {"1.9.0": 2, "v1.10.0": 1, "1.2.0": 4, "1.2.0.post1": 3}
    assert ranks("1", "12", "2", "latest", "main-3f2a1bc") == {
        "1": 3,
        "12": 1,
        "2": 2,
        "latest": None,
        "main-3f2a1bc": None,
    }
    assert ranks("2024.1.9", "2024.1.10", "2023.12.31") == {"2024.1.9": 2, "2024.1.10": 1, "2023.12.31": 3}


def test_alike_versions_share_a_rank() -> None:
    """Ranks count versions, not tags."""
    assert ranks("1.2.3", "v1.2.3", "1.2.2", "1.2.3-alpine3.18", "1.2.3-alpine3.19", "1.2.1-alpine3.18") == {
        **{"1.2.3": 1, "v1.2.3": 1, "1.2.2": 2},
        **{"1.2.3-alpine3.18": 1, "1.2.3-alpine3.19": 1, "1.2.1-alpine3.18": 2},
    }


def test_variants_rank_apart() -> None:
    """Each suffix has a highest version of its own, and so has each image."""
    assert ranks("1.1.0", "1.0.0", "1.0.0-alpine", "0.9.0-alpine", "1.0.0-slim-bookworm") == {
        **{"1.1.0": 1, "1.0.0": 2, "1.0.0-alpine": 1, "0.9.0-alpine": 2, "1.0.0-slim-bookworm": 1}
    }
    both = pd.concat([images("1.0"), images("2.0", image="b").assign(id=9)], ignore_index=True)
    assert list(with_families(both)["version_rank"]) == [1, 1]


def test_pre_releases() -> None:
    """They rank among themselves and push no release down."""
    names = (
        "1.0.0",
        "1.1.0",
        "1.2.0-rc.1",
        "1.2.0-rc.2",
        "1.2.0b1",
        "1.2.0.dev3",
        "1.1.0-SNAPSHOT",
        "1.2.0-rc1-alpine",
    )
    assert ranks(*names) == {
        **{"1.0.0": 2, "1.1.0": 1, "1.2.0-rc.1": 2, "1.2.0-rc.2": 1, "1.2.0b1": 3, "1.2.0.dev3": 4},
        **{"1.1.0-SNAPSHOT": 1, "1.2.0-rc1-alpine": 1},
    }
    assert column("is_prerelease", *names) == [False, False, *[True] * 6]
    assert column("is_prerelease", "latest", "1.0-alpine", "1.0-beta-alpine", "dev") == [None, False, True, None]


def test_short_versions() -> None:
    """`1` and `1.2` beside longer ones name the newest of their line, and rank as it does."""
    names = ("1", "1.2", "1.2.3", "1.2.4", "1.3.0", "2.0.0", "1.1")
    assert ranks(*names) == {"1": 2, "1.2": 3, "1.2.3": 4, "1.2.4": 3, "1.3.0": 2, "2.0.0": 1, "1.1": 5}


@pytest.mark.parametrize(
    "tag",
    ["latest", "main", "2024-01-15", "abc1234", "v", "release-1.2", "1..2", "1.2.3alpine", "-1", "8u392", "9" * 5000],
)
def test_no_versions(tag: str) -> None:
    """What is no version has no rank."""
    assert column("version_rank", tag) == column("is_prerelease", tag) == [None]


RELEASES = st.lists(st.integers(0, 12), min_size=3, max_size=3).map(lambda parts: ".".join(map(str, parts)))
VERSIONS = st.builds(
    "{}{}{}".format, st.sampled_from(["", "v"]), RELEASES, st.sampled_from(["", "-rc.1", "a2", ".dev1", "-1"])
)
SUFFIXES = st.sampled_from(["", "-alpine", "-slim"])


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(VERSIONS, SUFFIXES), unique=True, min_size=1, max_size=30))
def test_ranks_are_the_librarys_order(pairs: list[tuple[str, str]]) -> None:
    """A rank is one more than the number of higher versions of its suffix that are releases, or are not, as it is."""
    found = ranks(*(version + suffix for version, suffix in pairs))
    for text, suffix in pairs:
        mine = Version(text)
        alike = {Version(t) for t, s in pairs if s == suffix and Version(t).is_prerelease == mine.is_prerelease}
        assert found[text + suffix] == 1 + sum(other > mine for other in alike), text


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.from_regex(r"[\w][\w.-]{0,20}", fullmatch=True), unique=True, max_size=20))
def test_any_names(names: list[str]) -> None:
    """Whatever tags are called, each is in one family that holds no number, and the rows stay as they are."""
    found = with_families(images(*names))
    assert list(found["tag_name"]) == names
    assert not any(re.search(r"[0-9]", family) for family in found["tag_family"])
    again = with_families(found)
    pd.testing.assert_frame_equal(found, again)


def test_no_tags() -> None:
    """A registry without tags has the columns."""
    found = with_families(images())
    assert {"tag_family", "family_rank", "version_rank", "is_prerelease"} <= set(found)


def test_short_versions_of_a_variant() -> None:
    """`1.2-alpine` names the newest of its own line: a version without -alpine does not count, nor another image's."""
    mine = images("1.2.9", "1.2.3-alpine", "1.2-alpine", "1.1.0-alpine")
    both = pd.concat([mine, images("1.2.7-alpine", image="b").assign(id=9)], ignore_index=True)
    assert list(with_families(both)["version_rank"]) == [1, 1, 1, 2, 1]


def test_every_day_of_a_year() -> None:
    """A date is one number, whatever day it is of, and however it is written."""
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(366)]
    names = [f"nightly-{day:{form}}" for day in days for form in ("%Y-%m-%d", "%Y%m%d", "%Y_%m_%d")]
    assert set(column("tag_family", *names)) == {"nightly-#"}


@pytest.mark.parametrize(
    ("tag", "family"),
    {
        "main-3F2A1BC": "main-#",
        "nightly-20240115-101112": "nightly-#",
        "nightly-2024-01-15_10-11-12": "nightly-#",
        "nightly-20240115t101112z": "nightly-#",
    }.items(),
)
def test_other_ways_to_write_it(tag: str, family: str) -> None:
    """A commit id in capitals is one, too; a date with a time behind it is one number, however that is set apart."""
    assert column("tag_family", tag) == [family]


@pytest.mark.parametrize(
    ("tag", "family"),
    {
        "main-3f2a1b": "main-#f#a#b",
        "nightly-1999-12-31": "nightly-#",
        "2024-01-15-to-2024-02-16": "#-to-#",
        "202401151030": "#",
    }.items(),
)
def test_odd_numbers(tag: str, family: str) -> None:
    """Six hex digits are no commit id; a date may be of the last century, there may be two of them, and what only
    begins as one is a number."""
    assert column("tag_family", tag) == [family]


def test_what_nobody_knows_takes_ranks() -> None:
    """A tag of which nobody knows what it is is a member of its family like any image, and no signature."""
    tags = images("a-1", "a-2", "a-3").assign(kind=pd.Series(["image", None, "image"], dtype="str"))
    assert list(with_families(tags)["family_rank"]) == [3, 2, 1]
