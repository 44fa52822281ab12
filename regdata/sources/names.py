"""What repositories and tags may be called: distribution/reference's grammar (regexp.go)."""

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# A registry takes the first part for a host, too, in any case: one with a dot, or 2.x fails at it (splitDockerDomain in
# distribution/reference). With a port no store takes it (storagedriver.go, PathRegexp).
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})+"
_REPOSITORY = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


def is_repository(name: object) -> bool:
    """Whether a registry can have a repository of that name."""
    return isinstance(name, str) and len(name) <= 255 and _REPOSITORY.fullmatch(name) is not None


def may_hold(name: str) -> bool:
    """Whether a folder of that name is a repository's, or holds such."""
    return not name or is_repository(name) or is_repository(f"{name}/a")


def means(names: Iterable[str] | None, repository: str) -> bool:
    """Whether registry.repositories, names and patterns in which * crosses /, means a repository; None means all."""
    return names is None or _pattern(tuple(names)).fullmatch(repository) is not None


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """One for all, which is asked for each repository, some times in a run: both may be many."""
    return re.compile("|".join(map(translate, names)))


def hides(tag: str, other: str) -> bool:
    """Whether the folder of a tag stands before another's in S3's order of keys, and its name is the begin of that."""
    return other.startswith(tag) and other[len(tag) : len(tag) + 1] > "/"


def is_tag(name: object) -> bool:
    """Whether a registry can have a tag of that name."""
    return isinstance(name, str) and _TAG.fullmatch(name) is not None
