"""The HTTP API as a source: what is asked for, in which order, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

from regdata.errors import RegistryError
from regdata.sources import progress
from regdata.sources.answers import Answer, unsigned
from regdata.sources.cache import OFF, Cache
from regdata.sources.columns import Columns
from regdata.sources.leads import leads_of, other_names, sought
from regdata.sources.manifest import (
    Config,
    Content,
    matches,
    parse_config,
    parse_manifest,
    sha256_of,
    unreadable,
    with_config,
)
from regdata.sources.registry import ACCEPT, Registry
from regdata.sources.source import NONE_UNCHANGED, Glance, Going, Part, Tags, Unchanged
from regdata.sources.threads import each

# A config is a few KB; the range keeps a layer that calls itself a config out of the memory.
_CONFIG_RANGE = {"Range": f"bytes=0-{4 * 1024 * 1024 - 1}"}
_AT_A_TIME = 16
_NO_TAGS: Mapping[str, list[str]] = {}
_T = TypeVar("_T")
_R = TypeVar("_R")


class _Tag(NamedTuple):
    """A tag as read; hash None where the digest can't be known, content None with it."""

    hash: str | None
    error: str | None
    content: Content | None


class Api:
    """A registry's contents as its API shows them: what a tag leads to, and nothing of when it was pushed.

    Every method raises `RegistryError`, and no other error. Safe to use from many threads, and picklable.
    """

    def __init__(self, registry: Registry, cache: Cache = OFF) -> None:
        self.registry, self.cache = registry, cache

    def repositories(self) -> list[str]:
        """Sorted names of all repositories, those without tags too."""
        return self.registry.repositories()

    def split(
        self,
        parts: int,
        *,
        least: int = 0,
        known: Iterable[tuple[str, str]] = (),
        unchanged: Unchanged = NONE_UNCHANGED,
    ) -> list[Part]:
        """The repositories in at most ``parts`` parts; in one with ``least``: nobody knows how many tags there are.

        ``unchanged`` is of no use: the cache knows what was read before.
        """
        return self.divide(self.repositories(), 1 if least else parts, known=known)

    def divide(
        self,
        names: Sequence[str],
        parts: int,
        *,
        known: Iterable[tuple[str, str]] = (),
        tags: Mapping[str, list[str]] = _NO_TAGS,
    ) -> list[Part]:
        """These repositories in at most ``parts`` parts. ``tags``: those of repositories that need not be asked."""
        looked_for: dict[str, list[tuple[str, str]]] = {}
        for pair in known:
            looked_for.setdefault(pair[0], []).append(pair)
        return [
            Part(
                share,
                known=tuple(pair for name in share for pair in looked_for.get(name, ())),
                tags={name: tags[name] for name in share if name in tags},
            )
            for share in (tuple(names[start::parts]) for start in range(min(parts, len(names))))
        ]

    def read(self, part: Part) -> Columns:
        """The tables of `regdata.sources.columns.COLUMNS`, but no blobs; nothing has a push date.

        One request for each page of tags, tag, known manifest, distinct child manifest and distinct
        config. A tag or child that can't be read is a row with its error. Where the cache has all
        that hangs on a tag, it takes a HEAD of the tag and nothing else.
        """
        with ThreadPoolExecutor(self.registry.workers) as pool:
            return _Reading(self.registry, self.cache, pool).read(part)

    def state(self, repository: str) -> tuple[Tags, None]:
        """The digest of each tag as it is now, by HEAD; the API can't list revisions: None.

        A tag whose digest the registry can't tell (404, 500) has None; the others can still be used.
        """
        tags = self.registry.every_tag(repository)
        with ThreadPoolExecutor(self.registry.workers) as pool:
            return dict(zip(tags, each(pool, partial(self._digest_now, repository), tags), strict=True)), None

    def _digest_now(self, repository: str, tag: str) -> str | None:
        """None where the registry can't tell; who does not let us look, or puts us off for good, is an error."""
        path = self.registry.http.path(repository, "manifests", tag)
        answer = self.registry.attempt(path, ACCEPT, method="HEAD")
        if answer.status == 200 and not answer.digest:
            answer = self.registry.attempt(path, ACCEPT)
            return sha256_of(answer.data) if answer.status == 200 else None
        return answer.digest if answer.status == 200 else None

    def glance(self, repository: str, digests: Collection[str]) -> Glance:
        """By the names of all tags, which are one request, and a HEAD of those that are to go."""
        names = set(self.registry.tags(repository))

        def unchanged(going: Going) -> bool:
            return (
                names.difference(going.gone).issuperset(self.registry.tags(repository))
                and all(self._digest_now(repository, tag) in (going.digest, None) for tag in going.tags)
                and not any(self._digest_now(repository, above) for above in going.above)
            )

        return unchanged

    def manifests(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """The bytes of manifests (repository, digest), verified; the registry is not asked for those in the cache."""
        cached = dict(self.cache.read({digest for _, digest in wanted}))
        found = {pair: cached[pair[1]] for pair in wanted if pair[1] in cached}
        rest = [pair for pair in wanted if pair not in found]
        with ThreadPoolExecutor(self.registry.workers) as pool:
            answers = each(pool, lambda pair: self.registry.manifest(*pair), rest)
            found.update((pair, answer.data) for pair, answer in zip(rest, answers, strict=True) if answer)
        return found


def _counted(answer: _R) -> _R:
    progress.now.step()
    return answer


class _Reading:
    """One reading of a registry, whose requests a pool makes."""

    def __init__(self, registry: Registry, cache: Cache, pool: ThreadPoolExecutor) -> None:
        self.registry, self.cache, self.pool = registry, cache, pool

    def read(self, part: Part) -> Columns:
        names = part.repositories
        rest = [name for name in names if name not in part.tags]
        listed = {**part.tags, **dict(zip(rest, self._each(self.registry.tags, rest, "repositories"), strict=True))}
        pairs = [(name, tag) for name in names for tag in listed[name]]
        found = self._read_tags(pairs)
        contents: dict[str, Content] = {}
        revisions: dict[tuple[str, str], None] = {}  # a set that keeps its order
        for (name, _), (digest, _, content) in found.items():
            if digest and content:
                revisions[name, digest] = None
                if digest not in contents or contents[digest].error:
                    contents[digest] = content
        children = self._each(self._read_child, [(digest, [name]) for name, digest in part.known], "manifests")
        for pair, (known, _) in zip(part.known, children, strict=True):
            if known:
                revisions[pair] = None
                contents.setdefault(pair[1], known)
        self._read_children(revisions, contents)
        self._read_referrers(revisions, contents)
        self._read_configs(revisions, contents)
        self.cache.flush()
        columns = Columns()
        columns["repositories"]["image_name"].extend(names)
        for (name, tag), (digest, error, _) in found.items():
            columns.add("tags", (name, tag, digest, None, error))
        for name, digest in revisions:
            columns.add("revisions", (name, digest, None))
        for digest in sorted(contents):  # in the same order, whatever the cache had
            columns.add_content(contents[digest])
        aliases = self._aliases(revisions, contents)
        for (name, digest), target in aliases.items():
            columns.add("oddities", (name, "alias", digest, target))
        for name, digest, target in self._same(listed, revisions, contents, aliases):
            columns.add("oddities", (name, "same", digest, target))
        return columns

    def _aliases(
        self, revisions: Iterable[tuple[str, str]], contents: Mapping[str, Content]
    ) -> dict[tuple[str, str], str]:
        """Of repository and digest of another algorithm than sha256 what that stands for: a registry tells by which one
        it stores the blob."""
        named = dict.fromkeys(
            (name, other)
            for name, digest in revisions
            for other in contents[digest].named
            if not other.startswith("sha256:")
        )
        targets = each(self.pool, lambda pair: self.registry.stored_as(*pair), named)
        return {pair: target for pair, target in zip(named, targets, strict=True) if target}

    def _same(
        self,
        tags: Mapping[str, list[str]],
        revisions: Mapping[tuple[str, str], None],
        contents: Mapping[str, Content],
        aliases: Mapping[tuple[str, str], str],
    ) -> Iterator[tuple[str, str, str]]:
        """Repository, digest by which a manifest is named there but not served, and that manifest: its bytes tell."""
        held: dict[str, list[str]] = {name: [] for name in tags}
        for name, digest in revisions:
            held[name].append(digest)
        served = {name: [*digests] for name, digests in held.items()}
        for (name, alias), target in aliases.items():
            if (name, target) in revisions:
                served[name].append(alias)
        for name, digests in held.items():
            named = (other for digest in digests for other in leads_of(contents[digest]).named)
            if beginnings := sought(named, tags[name], served[name]):
                for digest, data in self._bytes(name, digests):
                    for other in other_names(data, beginnings):
                        yield name, other, aliases.get((name, digest), digest)

    def _bytes(self, name: str, digests: list[str]) -> Iterator[tuple[str, bytes]]:
        """Those manifests of a repository whose bytes can be had."""
        cached = dict(self.cache.read(digests))
        yield from cached.items()
        rest = [(name, digest) for digest in digests if digest not in cached]
        for (_, digest), data in zip(rest, self._each(self._read_bytes, rest, "manifests"), strict=True):
            if data:
                yield digest, data

    def _read_bytes(self, wanted: tuple[str, str]) -> bytes | None:
        name, digest = wanted
        answer = self.registry.attempt(self.registry.http.path(name, "manifests", digest), ACCEPT)
        data = unsigned(answer)
        return data if answer.status == 200 and matches(digest, data) else None

    def _each(self, function: Callable[[_T], _R], items: Sequence[_T], unit: str) -> Iterator[_R]:
        """As pool.map, but several items at a time: the pool's own work takes a good part of a request's CPU."""
        progress.now.begin("reading", unit, len(items))
        size = min(max(len(items) // (4 * self.registry.workers), 1), _AT_A_TIME)
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        for answers in self.pool.map(lambda part: [_counted(function(item)) for item in part], parts):
            yield from answers

    def _read_tags(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], _Tag]:
        """By HEAD those that an earlier scan has read, by GET those whose content is not in the cache."""
        urls = {pair: self._url(pair) for pair in pairs} if self.cache.usable else {}
        met = self.cache.knows(urls.values())
        asked = [pair for pair, url in urls.items() if url in met]
        answers = dict(zip(asked, self._each(self._head, asked, "tags"), strict=True))
        types = {answer.digest: answer.headers.get("Content-Type") for answer in answers.values() if answer.digest}
        cached = {
            digest: _Tag(digest, None, parse_manifest(digest, data, types[digest]))
            for digest, data in self.cache.read(types)
        }
        found = {pair: cached[answer.digest] for pair, answer in answers.items() if answer.digest in cached}
        rest = [pair for pair in pairs if pair not in found]
        found.update(zip(rest, self._each(self._read_tag, rest, "tags"), strict=True))
        return {pair: found[pair] for pair in pairs}

    def _url(self, pair: tuple[str, str]) -> str:
        return self.registry.url + self.registry.http.path(pair[0], "manifests", pair[1])

    def _head(self, pair: tuple[str, str]) -> Answer:
        """Trouble is for the GET to tell."""
        with suppress(RegistryError):
            answer = self.registry.http.read("HEAD", self.registry.http.path(pair[0], "manifests", pair[1]), ACCEPT)
            if answer.status == 200:
                return answer
        return Answer(0, {}, b"")

    def _keep(self, content: Content, data: bytes) -> None:
        """For the next scan: what says by itself what it is, since the cache has no Content-Type."""
        digest = content.manifest_hash
        if self.cache.usable and content == parse_manifest(digest, data, None):
            self.cache.keep(digest, data)

    def _read_tag(self, pair: tuple[str, str]) -> _Tag:
        path = self.registry.http.path(pair[0], "manifests", pair[1])
        answer = self.registry.attempt(path, ACCEPT)
        digest = answer.digest
        if answer.status == 200:
            data = unsigned(answer)
            known = digest or sha256_of(data)
            content = parse_manifest(known, data, answer.headers.get("Content-Type"))
            if digest is None and content.error:  # may be anybody's answer, an error page say
                return _Tag(None, content.error, None)
            self._keep(content, data)
            self.cache.met(self._url(pair))
            return _Tag(known, None if matches(known, data) else content.error, content)
        if digest is None and answer.status != 404:
            with suppress(RegistryError):
                digest = self.registry.digest(*pair)
        return _Tag(digest, answer.error, unreadable(digest, answer.error) if digest else None)

    def _read_children(
        self,
        revisions: dict[tuple[str, str], None],
        contents: dict[str, Content],
    ) -> None:
        """Add what the indexes list, level by level; each digest is asked for once.

        A repository that lists a child already found elsewhere is taken to have it, too.
        """
        level = list(revisions)
        while level:
            listed: dict[str, list[str]] = {}
            for name, digest in dict.fromkeys(level):
                for reference in contents[digest].references:
                    if reference.kind == "manifest" and (name, reference.hash) not in revisions:
                        listed.setdefault(reference.hash, []).append(name)
            unknown = [item for item in listed.items() if item[0] not in contents]
            for digest, data in self.cache.read(dict(unknown)):
                contents[digest] = parse_manifest(digest, data, None)
            unknown = [item for item in unknown if item[0] not in contents]
            for digest, (content, names) in zip(
                dict(unknown), self._each(self._read_child, unknown, "manifests of indexes"), strict=True
            ):
                listed[digest] = names
                if content:
                    contents[digest] = content
            level = [(name, digest) for digest, names in listed.items() for name in names]
            revisions.update(dict.fromkeys(level))

    def _read_referrers(self, revisions: dict[tuple[str, str], None], contents: dict[str, Content]) -> None:
        """Add what belongs to a manifest and has no tag, from a registry that tells: signatures, SBOMs, and theirs."""
        level = list(revisions)
        if not level or self.registry.referrers(*level[0]) is None:
            return
        while level:
            asked = self._each(lambda pair: self.registry.referrers(*pair) or [], level, "referrers")
            listed = [(name, digest) for (name, _), found in zip(level, asked, strict=True) for digest in found]
            level = [pair for pair in dict.fromkeys(listed) if pair not in revisions]
            unknown = {digest: [name] for name, digest in level if digest not in contents}
            children = self._each(self._read_child, list(unknown.items()), "referrers")
            contents.update({digest: one for digest, (one, _) in zip(unknown, children, strict=True) if one})
            level = [pair for pair in level if pair[1] in contents]
            revisions.update(dict.fromkeys(level))
            self._read_children(revisions, contents)

    def _read_child(self, wanted: tuple[str, list[str]]) -> tuple[Content | None, list[str]]:
        """The content, and the repositories that have it or were not asked."""
        digest, names = wanted
        for number, name in enumerate(names):
            answer = self.registry.attempt(self.registry.http.path(name, "manifests", digest), ACCEPT)
            if answer.status == 404:
                continue
            media_type = answer.headers.get("Content-Type")
            if answer.status == 200:
                data = unsigned(answer)
                content = parse_manifest(digest, data, media_type)
                self._keep(content, data)
                return content, names[number:]
            return unreadable(digest, answer.error), names[number:]
        return None, []

    def _read_configs(
        self,
        revisions: dict[tuple[str, str], None],
        contents: dict[str, Content],
    ) -> None:
        """Complete the images with their configs, each read once."""
        wanted: dict[str, str] = {}
        for name, digest in revisions:
            config = contents[digest].config_hash
            if config:
                wanted.setdefault(config, name)
        configs = {digest: parse_config(data) for digest, data in self.cache.read(wanted)}
        rest = {digest: name for digest, name in wanted.items() if digest not in configs}
        configs.update(zip(rest, self._each(self._read_config, list(rest.items()), "configs"), strict=True))
        for digest, content in contents.items():
            if content.config_hash:
                contents[digest] = with_config(content, configs[content.config_hash])

    def _read_config(self, wanted: tuple[str, str]) -> Config:
        digest, name = wanted
        answer = self.registry.attempt(self.registry.http.path(name, "blobs", digest), _CONFIG_RANGE)
        # Dates decide what is deleted: none is taken from bytes that are not the config's.
        if answer.status not in (200, 206) or not matches(digest, answer.data):
            return Config()
        self.cache.keep(digest, answer.data)
        return parse_config(answer.data)
