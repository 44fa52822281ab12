"""What every source of a registry's contents can do, and what a store can besides.

A source is the registry seen in one way: over its API, in its folder, or in any other place that holds the same. The
suite of tests/sources/test_every_source.py is what they all have to answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from regdata.sources.columns import Columns
from regdata.sources.dates import Pushed
from regdata.sources.leads import Leads


class Unread(NamedTuple):
    """A manifest that need not be read again as long as its file has this size and date, and what it leads to."""

    size: int
    date: int
    leads: Leads


class Part(NamedTuple):
    """A share of the work: names of repositories, and two-hex folders of ``blobs/sha256``.

    ``known``: manifests (repository, digest) to be looked for though no tag may lead to them; the store shows all.
    ``files``: manifests that are not read, so that they have no content, where their files are as they were.
    ``tags``: the tags of repositories that need not be asked for them.
    """

    repositories: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    known: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, Unread] = {}
    tags: Mapping[str, list[str]] = {}


# Manifests that need not be read again, by repository and digest.
Unchanged = Mapping[str, Mapping[str, Unread]]
NONE_UNCHANGED: Unchanged = {}


# Tags with their digests; None for one whose digest can't be told.
Tags = dict[str, str | None]


class Upload(NamedTuple):
    """A push in flight, or one that was given up; ``started`` is a file's date in UTC epoch seconds, which may be
    anything (regdata.sources.dates)."""

    repository: str
    id: str
    started: int


class Going(NamedTuple):
    """A manifest that is about to be deleted, and when it was pushed (None: whenever it was); the tags that are to go
    with it, those of its repository that went before, and the manifests that needed it and were deleted before."""

    digest: str
    pushed: Pushed | None = None
    tags: Collection[str] = ()
    gone: Collection[str] = ()
    above: Collection[str] = ()


# Whether nothing came since the glance was made that may need it, or moved one of its tags.
Glance = Callable[[Going], bool]


class Usage(NamedTuple):
    """Total and free bytes of what a store lies on, and how many files more it takes."""

    total: int
    free: int
    inodes: int


Found_co = TypeVar("Found_co", covariant=True)


class Readable(Protocol[Found_co]):
    """What parts are read from; it and they are pickled, to be read in another process."""

    def read(self, part: Any) -> Found_co:
        """What there is of one part; of a `Source` the columns of `regdata.sources.columns.COLUMNS`."""


class Source(Readable[Columns], Protocol):
    """A registry's contents. Each method raises the source's own RegdataError, and no other error."""

    def repositories(self) -> list[str]:
        """Sorted names of all repositories, those without tags too."""

    def split(
        self,
        parts: int,
        *,
        least: int = 0,
        known: Iterable[tuple[str, str]] = (),
        unchanged: Unchanged = NONE_UNCHANGED,
    ) -> list[Part]:
        """Everything in at most so many parts of about the same work, to be given to `read`.

        ``least``: how many tags a part has or more; all is one part where nobody knows how many tags there are.
        ``known`` and ``unchanged`` (by repository): see `Part`; each source takes what it has a use for.
        """

    def state(self, repository: str) -> tuple[Tags, frozenset[str] | None]:
        """A repository's tags and revisions as they are now; None where only what a tag leads to can be seen."""

    def glance(self, repository: str, digests: Collection[str]) -> Glance:
        """Made before a look at a repository, and asked right before each of these manifests goes: it takes a file or a
        request or two, and where it says no, another look at the repository tells."""

    def manifests(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """The bytes of manifests (repository, digest), without those that are not to be had."""


class Store(Source, Protocol):
    """A source that is the registry's own storage, and can be changed behind its back."""

    base: Path
    writable: bool

    def state(self, repository: str) -> tuple[Tags, frozenset[str]]:
        """A repository's tags and revisions as they are now."""

    def content(self, digest: str) -> bytes | None:
        """The bytes of a blob; None where there is none."""

    def document(self, digest: str) -> bytes | None:
        """The bytes of a blob that may be a manifest, none of another; None where there is none."""

    def blob_sizes(self) -> dict[str, int]:
        """Bytes of every blob, by digest, as they are now."""

    def broken_links(self, repository: str, *, of_blobs: bool = False) -> dict[str, str]:
        """By digest, the files of links to manifests (or blobs) of a repository that hold no digest."""

    def uploads(self) -> list[Upload]:
        """Pushes in flight and those that were given up, of all repositories."""

    def rests(self, repository: str, since: int) -> bool:
        """Whether every layer of a repository was surely pushed before that time (UTC epoch seconds)."""

    def clock(self) -> int | None:
        """The time of the clock that dates what is written (UTC epoch seconds); None where that can't be seen."""

    def is_linked(self, repository: str, digest: str) -> bool:
        """Whether a blob is linked, by this digest."""

    def links(self, repository: str, among: Set[str] | None = None) -> dict[str, int]:
        """When each blob (``among`` some) was linked last (UTC epoch seconds), by the digest that it is stored by; what
        no registry could be asked for is nobody's."""

    def deleted(self, repository: str) -> dict[str, int]:
        """When each manifest was deleted, as far as that left a trace."""

    def untag(self, repository: str, tag: str, digest: str, pushed: Pushed | None = None) -> bool:
        """Take a tag away and nothing else, unless it is on another digest or was pushed at another time; an absent tag
        is no error."""

    def backdate(self, repository: str, tag: str, digest: str, *, pushed: int, linked: int | None) -> bool:
        """Say that a tag that is on a digest was ``pushed`` at that time (UTC epoch seconds), and its manifest
        ``linked`` at that, if given; False where that can't be done."""

    def settle(self, *, last: bool = True) -> list[tuple[str, str]]:
        """Remove what was taken away, or put it back where somebody was pushing to it; returns those (image,
        tag). What a killed run had in hand is back. ``last``: who was still writing then has ended."""

    def remove_upload(self, repository: str, id_: str) -> None:
        """Remove what 2.8.2 leaves of an upload that was given up, where we may; one that goes on stays."""

    def link(self, repository: str, digest: str) -> None:
        """Link a blob that is stored in a repository, unless it is linked there."""

    def make_layers(self, repository: str) -> None:
        """Make the empty folder for links to blobs that a repository without blobs lacks."""

    def close_repository(self, name: str, *, before: int) -> bool:
        """Take away the links of a repository that holds no manifests. False, and it stays, where something came after
        ``before``."""

    def remove_repository(self, name: str, *, before: int) -> bool:
        """Remove a repository that was closed; those below its name stay. False, and it is as it was, where something
        was pushed meanwhile."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep other regdata runs off this store; StorageError if one is at work."""

    def disk(self) -> Usage:
        """Total and free bytes of what it lies on."""
