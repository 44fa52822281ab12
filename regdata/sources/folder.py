"""A scan of the registry's folder: which links and contents are looked at, and what is made of them.

What a repository serves is what it has a link to (distribution's registry/storage/linkedblobstore.go): a manifest in
``_manifests/revisions``, or, with 2.x, in ``_layers``; a blob in ``_layers``, where the name of a link by another
algorithm than sha256 is an alias of the blob that the link holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from regdata.sources.columns import Columns
from regdata.sources.files import ABSENT
from regdata.sources.layout import Layout, document
from regdata.sources.leads import MAX_DOCUMENT, NONE, Leads, leads_of, may_be_manifest, other_names, sought
from regdata.sources.manifest import (
    Content,
    matches,
    parse_config,
    parse_manifest,
    printable,
    unreadable,
    with_config,
)
from regdata.sources.source import Part

_BATCH = 500
MISSING = "missing from the store"
_TOO_LARGE = f"larger than {MAX_DOCUMENT} bytes"


class Repository:
    """What was read of one repository: its manifests, when each was linked, its tags, and its aliases."""

    def __init__(self, name: str, revisions: dict[str, int], tags: list[str], aliases: dict[str, str]) -> None:
        self.name, self.revisions, self.tags, self.aliases = name, revisions, tags, aliases
        self.manifests = dict(revisions)  # those that are linked as blobs alone, too
        self.opaque = False


class Reading:
    """One reading of a folder, or of a share of it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.columns = Columns()
        self.leads: dict[str, Leads] = {}  # of each manifest that leads anywhere
        self.opaque: set[str] = set()  # those that can't be read
        self.seen: set[str] = set()

    def read(self, part: Part) -> Columns:
        """The columns of `regdata.sources.columns.COLUMNS` for this share.

        ``pushed`` and ``blob_date`` are modification times: distribution writes a tag's link at
        each push, a revision's link at the manifest's push, a blob once.
        """
        repositories = [self._repository(name) for name in part.repositories]
        digests = dict.fromkeys(digest for repository in repositories for digest in repository.manifests)
        same = {digest for digest in digests if self._is_same(digest, part)}
        self.leads.update((digest, part.files[digest].leads) for digest in same)
        self._add_contents(digest for digest in digests if digest not in same)
        for repository in repositories:
            self._add_linked_as_blobs(repository)
            self._add_names(repository)
            self._add_links(repository)
        for folder in self.layout.strays(part.prefixes):
            self._odd(None, "stray", printable(folder))
        for row in self.layout.sizes(part.prefixes):
            self.columns.add("blobs", row)
        return self.columns

    def _is_same(self, digest: str, part: Part) -> bool:
        """Whether a manifest's file is as it was when it was read before."""
        known = part.files.get(digest)
        return known is not None and self.layout.files.stat(self.layout.blob(digest)) == (known.size, known.date)

    def _repository(self, name: str) -> Repository:
        self.columns["repositories"]["image_name"].append(name)
        # A push writes the revision before the tag: read the other way round.
        tags = list(self.layout.tags(name))
        names = [tag for tag, _, _ in tags]
        repository = Repository(name, self.layout.revisions(name), names, self.layout.aliases(name))
        for revision, linked in repository.revisions.items():
            self.columns.add("revisions", (name, revision, linked))
        for tag, digest, pushed in tags:
            there = digest in repository.manifests or (digest is not None and self._is_blob(repository, digest))
            repository.opaque |= digest is None
            self.columns.add("tags", (name, tag, digest, pushed, _tag_error(digest, there)))
        for alias, blob in repository.aliases.items():
            self._odd(name, "alias", alias, blob)
        for digest in self.layout.deleted(name):
            self._odd(name, "manifest", digest)
        if not self.layout.has_layers(name):
            self._odd(name, "no-layers")
        return repository

    def _is_blob(self, repository: Repository, digest: str) -> bool:
        """Whether a manifest is linked among the blobs; then it is one of the repository's."""
        linked = self.layout.layer(repository.name, digest)
        if linked is None:
            return False
        repository.manifests[digest] = linked
        self.columns.add("revisions", (repository.name, digest, linked))
        self._odd(repository.name, "blob", digest)
        return True

    def _add_linked_as_blobs(self, repository: Repository) -> None:
        """The children and subjects that are linked as blobs alone, at any depth."""
        found = list(repository.manifests)
        while found:
            listed = dict.fromkeys(child for digest in found for child in self._led_to(digest, repository))
            found = [
                child for child in listed if child not in repository.manifests and self._is_blob(repository, child)
            ]
            self._add_contents([digest for digest in found if digest not in self.seen], repository.aliases)

    def _led_to(self, digest: str, repository: Repository) -> Iterator[str]:
        """What a manifest lists as one, or as something else though its bytes are one."""
        leads = self.leads.get(digest, NONE)
        yield from leads.manifests
        for other in leads.perhaps:
            if other not in repository.manifests and self.layout.layer(repository.name, other) is not None:
                data = document(self.layout.files, self.layout.blob(repository.aliases.get(other, other)))
                if data and may_be_manifest(data):
                    yield other

    def _add_names(self, repository: Repository) -> None:
        """The digests by which manifests are named here, but not served, or something else is: their bytes tell."""
        there, aliases = repository.manifests.keys(), repository.aliases
        named = (name for digest in there for name in self.leads.get(digest, NONE).named)
        known = (*there, *(alias for alias, blob in aliases.items() if blob in there))
        beginnings = sought(named, repository.tags, known)
        for stored in dict.fromkeys(aliases.get(digest, digest) for digest in there) if beginnings else ():
            data = self._document(stored)
            if isinstance(data, bytes):
                for name in other_names(data, beginnings):
                    self._odd(repository.name, "same", name, stored)

    def _add_links(self, repository: Repository) -> None:
        """Blobs that the repository holds and that something in it may need in a way that can't be read."""
        if repository.opaque or not self.opaque.isdisjoint(repository.manifests):
            linked: Iterable[str] = self.layout.layers(repository.name)
        else:
            mentioned = dict.fromkeys(
                other for digest in repository.manifests for other in self.leads.get(digest, NONE).mentions
            )
            linked = [digest for digest in mentioned if self.layout.layer(repository.name, digest) is not None]
        for digest in linked:
            self._odd(repository.name, "link", repository.aliases.get(digest, digest))

    def _odd(self, repository: str | None, what: str, digest: str | None = None, target: str | None = None) -> None:
        self.columns.add("oddities", (repository, what, digest, target))

    def _add_contents(self, digests: Iterable[str], aliases: dict[str, str] | None = None) -> None:
        for content in self._contents(digests, aliases or {}):
            self.columns.add_content(content)
            self.seen.add(content.manifest_hash)
            if content.error and not content.error.startswith("unknown media type"):
                self.opaque.add(content.manifest_hash)
            if (leads := leads_of(content)) is not NONE:
                self.leads[content.manifest_hash] = leads

    def _contents(self, digests: Iterable[str], aliases: dict[str, str]) -> Iterator[Content]:
        rest = iter(digests)
        while batch := list(islice(rest, _BATCH)):
            contents = [self._content(digest, aliases.get(digest, digest)) for digest in batch]
            configs = {
                digest: parse_config(document)
                for digest in {content.config_hash for content in contents if content.config_hash}
                if isinstance(document := self._document(digest), bytes) and matches(digest, document)
            }
            for content in contents:
                config = configs.get(content.config_hash or "")
                yield with_config(content, config) if config else content

    def _content(self, digest: str, stored: str) -> Content:
        document = self._document(stored)
        if isinstance(document, bytes):
            return parse_manifest(digest, document, None)
        # A collector passes over what is not there.
        return unreadable(digest, document)._replace(stops="all" if document == _TOO_LARGE else None)

    def _document(self, digest: str) -> bytes | str:
        """The bytes, or why there are none."""
        try:
            data = self.layout.files.read(self.layout.blob(digest), MAX_DOCUMENT)
        except ABSENT:
            return MISSING
        return _TOO_LARGE if data is None else data


def _tag_error(digest: str | None, there: bool) -> str | None:
    if digest is None:
        return "broken tag link"
    return None if there else "no such manifest in the repository"
