"""A registry that lies, stalls and breaks as a test wants, for what a real one won't do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any
from urllib.parse import parse_qs, urlsplit

from regdata.demo.samples import OCI_INDEX, Image
from tests.support.server import Reply, Request, serving

PAGE = Reply(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; in a header's name _ stands for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(document).encode(), named)


def error_reply(status: int, code: str = "UNKNOWN", message: str = "unknown error") -> Reply:
    """A registry's own error."""
    return json_reply({"errors": [{"code": code, "message": message}]}, status)


class FakeRegistry:
    """Distribution 2.x, or 3.x if ``pages``; `on` overrides what it answers, `seen` is its log.

    ``deletes``: what it deletes, if that is not what distribution does: digests, tags; nothing: it answers 202 to both.
    ``refers``: it has the referrers API.
    """

    def __init__(self, *, pages: bool = False, deletes: Collection[str] | None = None, refers: bool = False) -> None:
        self.pages, self.refers = pages, refers
        self.deletes = deletes if deletes is not None else ("digests", "tags") if pages else ("digests",)
        self.manifests: dict[str, dict[str, Image]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.url = ""
        self._odd: dict[str, Iterator[Reply]] = {}

    def push(self, repository: str, tag: str | None, image: Image) -> None:
        """Add an image with its blobs and children."""
        for child in image.children:
            self.push(repository, None, child)
        self.blobs |= {blob.digest: blob.data for blob in image.blobs}
        self.manifests.setdefault(repository, {})[image.digest] = image
        tags = self.tags.setdefault(repository, {})
        if tag:
            tags[tag] = image.digest

    def on(self, request: str, *replies: Reply, forever: bool = False) -> None:
        """Answer a request, `GET /v2/...`, with these first; with the only one again and again."""
        self._odd[request] = repeat(replies[0]) if forever else iter(replies)

    def answer(self, method: str, target: str) -> Reply:
        """What it says to a request."""
        self.seen.append(f"{method} {target}")
        odd = next(self._odd.get(f"{method} {target}", iter(())), None)
        if odd is not None:
            return odd
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/v2/")
        if path == "":
            return json_reply({}, Docker_Distribution_Api_Version="registry/2.0")
        if path == "_catalog":
            return _page("repositories", sorted(self.tags), url.path, query)
        for part, kept in (("/manifests/", self._manifests), ("/blobs/", self._blobs)):
            repository, found, reference = path.partition(part)
            if found:
                return kept(method, repository, reference)
        repository, found, digest = path.partition("/referrers/")
        if found and self.refers:
            return self._referrers(repository, digest)
        repository = path.removesuffix("/tags/list")
        if repository not in self.tags:
            return error_reply(404, "NAME_UNKNOWN")
        query = query if self.pages else {}
        if query.get("n") == "0":
            return json_reply({"tags": []})
        return _page("tags", sorted(self.tags[repository]), url.path, query)

    def _manifests(self, method: str, repository: str, reference: str) -> Reply:
        tags, manifests = self.tags.get(repository, {}), self.manifests.get(repository, {})
        digest = tags.get(reference, reference)
        image = manifests.get(digest)
        if method == "DELETE" and (refused := self._refused(reference)):
            return refused
        if image is None:
            return error_reply(404, "MANIFEST_UNKNOWN")
        if method == "DELETE" and digest != reference:
            del tags[reference]
            return Reply(202)
        if method == "DELETE":
            del manifests[digest]
            self.tags[repository] = {t: d for t, d in tags.items() if d != digest}
            return Reply(202)
        headers = {"Docker-Content-Digest": digest, "Content-Type": image.media_type}
        return Reply(200, image.manifest, headers)

    def _refused(self, reference: str) -> Reply | None:
        is_digest = reference.startswith("sha256:")
        if not self.deletes:
            return Reply(202)
        if ("digests" if is_digest else "tags") in self.deletes:
            return None
        return error_reply(405, "UNSUPPORTED") if is_digest else error_reply(400, "DIGEST_INVALID")

    def _referrers(self, repository: str, digest: str) -> Reply:
        images = self.manifests.get(repository, {}).values()
        named = [image for image in images if json.loads(image.manifest).get("subject", {}).get("digest") == digest]
        listed = [{"mediaType": one.media_type, "digest": one.digest, "size": len(one.manifest)} for one in named]
        return json_reply({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})

    def _blobs(self, method: str, repository: str, digest: str) -> Reply:
        data = self.blobs.get(digest)
        return error_reply(404, "BLOB_UNKNOWN") if data is None else Reply(200, data)


def _page(key: str, names: list[str], path: str, query: dict[str, str]) -> Reply:
    names = [name for name in names if name > query.get("last", "")]
    size = int(query.get("n", len(names)))
    if len(names) <= size:
        return json_reply({key: names})
    link = f'<{path}?last={names[size - 1]}&n={size}>; rel="next"'
    return json_reply({key: names[:size]}, Link=link)


@contextmanager
def serve(registry: FakeRegistry) -> Iterator[FakeRegistry]:
    """Run it on a free loopback port."""

    def answer(request: Request) -> Reply:
        registry.headers_seen.append(request.headers)
        return registry.answer(request.method, request.target)

    with serving(answer) as registry.url:
        yield registry


def rows(table: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """A table of columns as rows."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def sha256(data: bytes) -> str:
    """The digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def names(values: Iterable[int]) -> list[str]:
    """Names in order: r00, r01..."""
    return [f"r{value:02}" for value in values]
