"""A registry over its HTTP API, version 2.

The protocol is the OCI distribution-spec (github.com/opencontainers/distribution-spec, spec.md):
"Pulling manifests", "Pulling blobs", "Content Discovery" (tags), "Content Management" (deletes)
and "Pushing Manifests". ``/v2/_catalog`` is CNCF distribution's own (docs/spec/api.md).

What the registry says is not taken on trust: contents are hashed, listings that repeat are refused.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from regdata.cache import OFF, Cache
from regdata.errors import RegistryError
from regdata.manifest import (
    MANIFEST_TYPES,
    Columns,
    Content,
    is_digest,
    matches,
    parse_config,
    parse_manifest,
    unreadable,
    with_config,
)
from regdata.storage import Part
from regdata.transport import REDIRECTS, Answer, Transport

# Without all four types distribution answers an index tag with its amd64 child, or 404.
_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
# A config is a few KB; the range keeps a layer that calls itself a config out of the memory.
_CONFIG_RANGE = {"Range": f"bytes=0-{4 * 1024 * 1024 - 1}"}

_AT_A_TIME = 16
_T = TypeVar("_T")
_R = TypeVar("_R")


class Manifest(NamedTuple):
    """A manifest's bytes, which hash to the digest; media_type None where none was given."""

    digest: str
    media_type: str | None
    data: bytes


class _Tag(NamedTuple):
    """A tag as read; hash None where the digest can't be known, content None with it."""

    hash: str | None
    error: str | None
    content: Content | None


class Registry:
    """A registry at a URL; every method raises `RegistryError`, and no other error.

    Safe to use from many threads, and picklable: the copy opens its own connections.
    """

    def __init__(
        self, url: str, *, workers: int = 8, timeout: tuple[float, float] = (5, 30), cache: Cache = OFF
    ) -> None:
        """``workers``: requests at a time. ``timeout``: seconds to connect, and to answer. ``cache``: for `read`."""
        self.url = url.rstrip("/")
        self.workers = workers
        self.timeout = timeout
        self.cache = cache
        self._http = Transport(self.url, connections=workers, timeout=timeout)
        self.display = self._http.display  # without user and password

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(Registry, workers=self.workers, timeout=self.timeout, cache=self.cache)
        return make, (self.url,)

    def __repr__(self) -> str:
        return f"Registry({self.display!r})"

    # Reading

    def check(self) -> None:
        """RegistryError unless a registry answers ("Determining Support"); without retries."""
        path = self._http.root
        answer = self._http.send("GET", path, retry=False)
        if answer.status in REDIRECTS:
            cure = "set registry.url to where it redirects to"
        elif answer.status in (401, 403, 429):
            raise self._http.refused("GET", path, answer)
        else:
            cure = "set registry.url to the address of a registry with API v2"
        version = answer.headers.get("Docker-Distribution-Api-Version", "")
        is_registry = version.startswith("registry/2") or answer.data.strip() == b"{}"
        if answer.status != 200 or not is_registry:
            problem = f"{answer.error}, which is not how a registry answers"
            raise self._http.error("GET", path, problem, cure)

    def repositories(self) -> list[str]:
        """Every repository's name, sorted; also of those without tags."""
        path = f"{self._http.root}_catalog"
        try:
            answer = self._http.send("GET", f"{path}?n=1000", retry=False)
        except RegistryError:
            answer = Answer(0, {}, b"")
        if answer.status not in (200, 400):
            self.check()  # says best what is wrong, if it is with the registry as a whole
            answer = self._http.send("GET", f"{path}?n=1000")
        if answer.status == 400:  # more than this registry allows: its own number of them, then
            answer = self._http.send("GET", path)
        return self._listing(path, answer, "repositories")

    def tags(self, repository: str) -> list[str]:
        """A repository's tags, sorted; none where the registry does not know it (404)."""
        path = self._http.path(repository, "tags/list")
        answer = self._http.send("GET", path)
        return [] if answer.status == 404 else self._listing(path, answer, "tags")

    def split(self, parts: int) -> list[Part]:
        """The repositories in at most ``parts`` parts, each to be given to `read`."""
        names = self.repositories()
        return [Part(tuple(names[i::parts]), ()) for i in range(min(parts, len(names)))]

    def read(self, part: Part) -> Columns:
        """The tables of `regdata.manifest.COLUMNS`, but no blobs; nothing has a push date.

        One request for each page of tags, tag, known manifest, distinct child manifest and distinct
        config. A tag or child that can't be read is a row with its error. Where the cache has all
        that hangs on a tag, it takes a HEAD of the tag and nothing else.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            names = part.repositories
            rest = [name for name in names if name not in part.tags]
            listed = {**part.tags, **dict(zip(rest, self._each(pool, self.tags, rest), strict=True))}
            pairs = [(name, tag) for name in names for tag in listed[name]]
            found = self._read_tags(pool, pairs)
            contents: dict[str, Content] = {}
            revisions: dict[tuple[str, str], None] = {}  # a set that keeps its order
            for (name, _), (digest, _, content) in found.items():
                if digest and content:
                    revisions[name, digest] = None
                    if digest not in contents or contents[digest].error:
                        contents[digest] = content
            children = self._each(pool, self._read_child, [(digest, [name]) for name, digest in part.known])
            for pair, (known, _) in zip(part.known, children, strict=True):
                if known:
                    revisions[pair] = None
                    contents.setdefault(pair[1], known)
            self._read_children(pool, revisions, contents)
            self._read_configs(pool, revisions, contents)
        self.cache.flush()
        columns = Columns()
        columns["repositories"]["image_name"].extend(names)
        for (name, tag), (digest, error, _) in found.items():
            columns.add("tags", (name, tag, digest, None, error))
        for name, digest in revisions:
            columns.add("revisions", (name, digest, None))
        for digest in sorted(contents):  # in the same order, whatever the cache had
            columns.add_content(contents[digest])
        return columns

    def state(self, repository: str) -> tuple[dict[str, str | None], None]:
        """The digest of each tag as it is now, by HEAD; the API can't list revisions: None.

        A tag whose digest the registry can't tell (404, 500) has None; the others can still be used.
        """
        tags = self.tags(repository)
        with ThreadPoolExecutor(self.workers) as pool:
            digests = pool.map(partial(self._digest_now, repository), tags)
            return dict(zip(tags, digests, strict=True)), None

    def _digest_now(self, repository: str, tag: str) -> str | None:
        try:
            return self.digest(repository, tag)
        except RegistryError:
            self.check()
            return None

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest that a tag (or digest) stands for; None where there is none (404)."""
        answer = self._found("HEAD", self._http.path(repository, "manifests", reference), _ACCEPT)
        if answer is None or answer.digest:
            return answer and answer.digest
        manifest = self.manifest(repository, reference)
        return manifest and manifest.digest

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """A manifest by tag or digest, verified; None where there is none (404)."""
        path = self._http.path(repository, "manifests", reference)
        answer = self._found("GET", path, _ACCEPT)
        if answer is None:
            return None
        digest = reference if is_digest(reference) else answer.digest or _sha256(answer.data)
        self._verify(path, digest, answer.data)
        return Manifest(digest, answer.headers.get("Content-Type"), answer.data)

    def blob(self, repository: str, digest: str) -> bytes | None:
        """A blob's bytes, verified; None where there is none (404)."""
        path = self._http.path(repository, "blobs", digest)
        answer = self._found("GET", path)
        if answer is None:
            return None
        self._verify(path, digest, answer.data)
        return answer.data

    def blob_exists(self, repository: str, digest: str) -> bool:
        """Whether the registry says that it has the blob (HEAD); its cache may say so of a collected one."""
        return self._found("HEAD", self._http.path(repository, "blobs", digest)) is not None

    def blob_readable(self, repository: str, digest: str) -> bool:
        """Whether the blob's first byte can be had, whatever the registry's cache says."""
        answer = self._attempt(self._http.path(repository, "blobs", digest), {"Range": "bytes=0-0"})
        return answer.status in (200, 206, 416)  # 416: the blob is empty

    # Writing

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest and every tag on it; False where it was gone already (404)."""
        status = self._delete(repository, digest, 202, 404, 405)
        if status == 405:
            path = self._http.path(repository, "manifests", digest)
            cure = "set storage.delete.enabled to true in the registry's configuration"
            raise self._http.error("DELETE", path, "HTTP 405: delete is disabled", cure)
        return status == 202

    def untag(self, repository: str, tag: str) -> bool:
        """Delete a tag alone; True where it is gone, False where this registry can't (2.x)."""
        return self._delete(repository, tag, 202, 404, 400, 405) in (202, 404)

    def _delete(self, repository: str, reference: str, *expected: int) -> int:
        """The status, one of those expected; 202 also where it was carried out and the answer got lost."""
        path = self._http.path(repository, "manifests", reference)
        try:
            answer = self._http.send("DELETE", path)
            if answer.status not in expected:
                raise self._http.refused("DELETE", path, answer)
        except RegistryError:
            if self.digest(repository, reference) is None:
                return 202
            raise
        return answer.status

    def put(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """Push a manifest under a tag or its digest; what it refers to must be there."""
        path = self._http.path(repository, "manifests", reference)
        answer = self._http.send("PUT", path, {"Content-Type": media_type}, data)
        if answer.status != 201:
            raise self._http.refused("PUT", path, answer)

    # Finding out what this registry can do

    def can_delete(self, repository: str) -> bool:
        """Whether delete is enabled; tried on a random digest, which nothing can have."""
        path = self._http.path(repository, "manifests", f"sha256:{secrets.token_hex(32)}")
        answer = self._http.send("DELETE", path)
        if answer.status not in (404, 405):
            raise self._http.refused("DELETE", path, answer)
        return answer.status == 404

    def tags_unpaged(self, repository: str) -> list[str] | None:
        """Every tag, from a registry that can only list all: 2.x. None from 3.x, which can delete a tag alone, too.

        Asked with n=0: 3.x gives an empty list, 2.x every tag, or null where there is none.
        """
        path = self._http.path(repository, "tags/list")
        answer = self._http.send("GET", f"{path}?n=0")
        if answer.status == 200 and answer.member("tags") == []:
            return None
        return [] if answer.status == 404 else self._listing(path, answer, "tags")

    @contextmanager
    def upload_probe(self, repository: str) -> Iterator[str]:
        """An upload's id, while it is open: its folder shows which store the registry writes to.

        2.8.2 leaves the folder behind, with nothing but an empty upload's ``hashstates`` in it.
        """
        path = self._http.path(repository, "blobs/uploads/")
        answer = self._http.send("POST", path)
        if answer.status != 202:
            raise self._http.refused("POST", path, answer)
        location = self._http.local(path, answer.headers.get("Location", ""))
        upload = location.partition("?")[0].rpartition("/")[2]
        try:
            yield answer.headers.get("Docker-Upload-UUID", upload)
        finally:
            # Left behind it does no harm: the registry purges old uploads.
            with suppress(RegistryError):
                self._http.send("DELETE", location)

    # A scan's steps

    def _each(self, pool: ThreadPoolExecutor, function: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
        """As pool.map, but several items at a time: the pool's own work takes a good part of a request's CPU."""
        size = min(max(len(items) // (4 * self.workers), 1), _AT_A_TIME)
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        for answers in pool.map(lambda part: [function(item) for item in part], parts):
            yield from answers

    def _read_tags(self, pool: ThreadPoolExecutor, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], _Tag]:
        """By HEAD those that an earlier scan has read, by GET those whose content is not in the cache."""
        urls = {pair: self._url(pair) for pair in pairs} if self.cache.usable else {}
        met = self.cache.knows(urls.values())
        asked = [pair for pair, url in urls.items() if url in met]
        answers = dict(zip(asked, self._each(pool, self._head, asked), strict=True))
        types = {answer.digest: answer.headers.get("Content-Type") for answer in answers.values() if answer.digest}
        cached = {
            digest: _Tag(digest, None, parse_manifest(digest, data, types[digest]))
            for digest, data in self.cache.read(types)
        }
        found = {pair: cached[answer.digest] for pair, answer in answers.items() if answer.digest in cached}
        rest = [pair for pair in pairs if pair not in found]
        found.update(zip(rest, self._each(pool, self._read_tag, rest), strict=True))
        return {pair: found[pair] for pair in pairs}

    def _url(self, pair: tuple[str, str]) -> str:
        return self.url + self._http.path(pair[0], "manifests", pair[1])

    def _head(self, pair: tuple[str, str]) -> Answer:
        """Trouble is for the GET to tell."""
        with suppress(RegistryError):
            answer = self._http.read("HEAD", self._http.path(pair[0], "manifests", pair[1]), _ACCEPT)
            if answer.status == 200:
                return answer
        return Answer(0, {}, b"")

    def _keep(self, content: Content, data: bytes) -> None:
        """For the next scan: what says by itself what it is, since the cache has no Content-Type."""
        digest = content.manifest_hash
        if self.cache.usable and content == parse_manifest(digest, data, None):
            self.cache.keep(digest, data)

    def _read_tag(self, pair: tuple[str, str]) -> _Tag:
        path = self._http.path(pair[0], "manifests", pair[1])
        answer = self._attempt(path, _ACCEPT)
        digest = answer.digest
        if answer.status == 200:
            known = digest or _sha256(answer.data)
            content = parse_manifest(known, answer.data, answer.headers.get("Content-Type"))
            if digest is None and content.error:  # may be anybody's answer, an error page say
                return _Tag(None, content.error, None)
            self._keep(content, answer.data)
            self.cache.met(self._url(pair))
            return _Tag(known, None if matches(known, answer.data) else content.error, content)
        if digest is None and answer.status != 404:
            with suppress(RegistryError):
                digest = self.digest(*pair)
        return _Tag(digest, answer.error, unreadable(digest, answer.error) if digest else None)

    def _read_children(
        self,
        pool: ThreadPoolExecutor,
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
                dict(unknown), self._each(pool, self._read_child, unknown), strict=True
            ):
                listed[digest] = names
                if content:
                    contents[digest] = content
            level = [(name, digest) for digest, names in listed.items() for name in names]
            revisions.update(dict.fromkeys(level))

    def _read_child(self, wanted: tuple[str, list[str]]) -> tuple[Content | None, list[str]]:
        """The content, and the repositories that have it or were not asked."""
        digest, names = wanted
        for number, name in enumerate(names):
            answer = self._attempt(self._http.path(name, "manifests", digest), _ACCEPT)
            if answer.status == 404:
                continue
            media_type = answer.headers.get("Content-Type")
            if answer.status == 200:
                content = parse_manifest(digest, answer.data, media_type)
                self._keep(content, answer.data)
                return content, names[number:]
            return unreadable(digest, answer.error), names[number:]
        return None, []

    def _read_configs(
        self,
        pool: ThreadPoolExecutor,
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
        configs.update(zip(rest, self._each(pool, self._read_config, list(rest.items())), strict=True))
        for digest, content in contents.items():
            if content.config_hash:
                contents[digest] = with_config(content, configs[content.config_hash])

    def _read_config(self, wanted: tuple[str, str]) -> tuple[int | None, str | None]:
        digest, name = wanted
        answer = self._attempt(self._http.path(name, "blobs", digest), _CONFIG_RANGE)
        # Dates decide what is deleted: none is taken from bytes that are not the config's.
        if answer.status not in (200, 206) or not matches(digest, answer.data):
            return None, None
        self.cache.keep(digest, answer.data)
        return parse_config(answer.data)

    def _attempt(self, path: str, headers: Mapping[str, str]) -> Answer:
        """A GET in a scan: trouble with one content is an answer, with the registry an error."""
        try:
            answer = self._http.read("GET", path, headers)
        except RegistryError:
            self.check()
            return Answer(0, {}, b"")
        if answer.status in (401, 429):
            raise self._http.refused("GET", path, answer)
        return answer

    def _listing(self, path: str, answer: Answer, key: str) -> list[str]:
        """The names on all pages, from the first one on."""
        found: set[str] = set()
        while True:
            if answer.status != 200:
                raise self._http.refused("GET", path, answer)
            names = answer.member(key)
            names = [] if names is None else names  # 2.x where the last tag went
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                problem, cure = f"no JSON list of {key}", "check what is between here and there"
                raise self._http.error("GET", path, problem, cure)
            following = self._http.next_page(path, answer)
            if found.issuperset(names) and (names or following):
                problem, cure = f"the list of {key} repeats itself", "it can't be trusted"
                raise self._http.error("GET", path, problem, cure)
            found.update(names)
            if following is None:
                return sorted(found)
            path = following
            answer = self._http.send("GET", path)

    def _found(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer | None:
        answer = self._http.read(method, path, headers)
        if answer.status not in (200, 404):
            raise self._http.refused(method, path, answer)
        return answer if answer.status == 200 else None

    def _verify(self, path: str, digest: str, data: bytes) -> None:
        if not matches(digest, data):
            problem = "the content does not match its digest"
            raise self._http.error("GET", path, problem, "check the registry's store for damage")


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
