"""The client of a registry's HTTP API, version 2: what can be asked and told it, one thing at a time.

The protocol is the OCI distribution-spec (github.com/opencontainers/distribution-spec, spec.md):
"Pulling manifests", "Pulling blobs", "Content Discovery" (tags), "Content Management" (deletes)
and "Pushing Manifests". ``/v2/_catalog`` is CNCF distribution's own (docs/spec/api.md).

What the registry says is not taken on trust: contents are hashed, listings that repeat are refused.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Self
from urllib.parse import urljoin

from regdata.config import RegistryConfig
from regdata.errors import AccessError, RegistryError
from regdata.sources.answers import REDIRECTS, TOO_LARGE, Answer, place
from regdata.sources.bounds import AWAY, DOCUMENT, UNBOUNDED
from regdata.sources.lists import Lists
from regdata.sources.manifest import is_digest, matches, parse_manifest, sha256_of
from regdata.sources.mediatypes import MANIFEST_TYPES
from regdata.sources.pace import TOO_MUCH, is_patient
from regdata.sources.tls import Tls, mistaken
from regdata.sources.transport import PLAIN, Reach, Transport

# Without all four types distribution answers an index tag with its amd64 child, or 404.
ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
TIMEOUT = (5.0, 30.0)  # seconds to connect, and to answer
# How registries answer a kind of DELETE that they don't have.
_UNSUPPORTED = (400, 405, 501)
# After how many seconds each something is asked again that may take a moment.
_MOMENTS = (0, 0.1, 0.3, 0.6)


class Manifest(NamedTuple):
    """A manifest's bytes, which hash to the digest; media_type None where none was given."""

    digest: str
    media_type: str | None
    data: bytes


class Registry:
    """A registry at a URL; every method raises `RegistryError`, and no other error.

    Safe to use from many threads, and picklable: the copy opens its own connections.
    """

    def __init__(self, url: str, *, reach: Reach = PLAIN, timeout: tuple[float, float] = TIMEOUT) -> None:
        """``timeout``: seconds to connect, and to answer."""
        self.url = url.rstrip("/")
        self.reach = reach
        self.workers = reach.at_once
        self.timeout = timeout
        self.http = Transport(self.url, reach, timeout=timeout)
        self.display = self.http.display  # without user and password
        self.is_cache = False  # a pull-through cache, as far as it was found out (regdata.sources.upstream)
        self._lists = Lists(self.http, reach, self.check)

    @classmethod
    def open(cls, config: RegistryConfig, *, timeout: tuple[float, float] = TIMEOUT) -> Self:
        """The registry that conf.json's ``registry`` tells how to reach."""
        requests = config.requests
        reach = Reach(
            Tls(config.ca, config.cert, config.key), requests.at_once, requests.per_second, config.repositories
        )
        return cls(config.url, reach=reach, timeout=timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(Registry, reach=self.reach, timeout=self.timeout)
        return make, (self.url,)

    def __repr__(self) -> str:
        return f"Registry({self.display!r})"

    @property
    def user(self) -> str:
        """As whom it has been asked so far, and where the credentials come from."""
        return self.http.authorization.who()

    # Reading

    def check(self) -> None:
        """RegistryError unless a registry answers ("Determining Support"); without retries."""
        path = self.http.root
        answer = self.http.send("GET", path, retry=False)
        version = answer.headers.get("Docker-Distribution-Api-Version", "")
        if answer.status == 200 and (version.startswith("registry/2") or answer.data.strip() == b"{}"):
            return
        if answer.status in (401, 403, 502, 504, *TOO_MUCH):
            raise self.http.refused("GET", path, answer)
        cure = "set registry.url to the address of a registry with API v2"
        if answer.status in REDIRECTS:
            there = place(urljoin(self.display + "/v2/", answer.headers.get("Location", "")))
            cure = f"set registry.url to where it redirects to, {there.removesuffix('/v2/')}"
        elif self.url.endswith("/v2"):
            cure = "leave /v2 out of registry.url"
        elif "/v2/" in self.url:
            cure = "leave /v2 and what follows it out of registry.url"
        problem = f"{answer.error}, which is not how a registry answers"
        raise self.http.error("GET", path, *mistaken(answer) or (problem, cure))

    def repositories(self) -> list[str]:
        """The names of the catalog, sorted, also of those without tags; those of them that registry.repositories means.

        Names in registry.repositories that are no patterns need no catalog, and need not be in it.
        """
        return self._lists.repositories()

    def catalog(self) -> list[str]:
        """The names of the catalog, whatever registry.repositories means."""
        return self._lists.catalog()

    @property
    def sees_all(self) -> bool:
        """Whether `repositories` left none out, as far as that is known."""
        return self._lists.sees_all

    def tags(self, repository: str) -> list[str]:
        """A repository's tags, sorted; none where the registry does not know it (404)."""
        return self._lists.tags(repository)

    def every_tag(self, repository: str) -> list[str]:
        """The same, with those that 3.1.0 and 3.1.1 leave out of the list where they store on S3."""
        return self._lists.every_tag(repository)

    def tags_unpaged(self, repository: str) -> list[str] | None:
        """Every tag, from a registry that can only list all: 2.x. None from 3.x, which can delete a tag alone, too."""
        return self._lists.tags_unpaged(repository)

    def referrers(self, repository: str, digest: str) -> list[str] | None:
        """The digests of the manifests that name this one as their subject; None from a registry without that API."""
        return self._lists.referrers(repository, digest)

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest that a tag (or digest) stands for; None where there is none (404)."""
        answer = self._found("HEAD", self.http.path(repository, "manifests", reference), ACCEPT)
        if answer is None or answer.digest:
            return answer and answer.digest
        manifest = self.manifest(repository, reference)
        return manifest and manifest.digest

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """A manifest by tag or digest, verified; None where there is none (404)."""
        path = self.http.path(repository, "manifests", reference)
        answer = self._found("GET", path, ACCEPT)
        if answer is None:
            return None
        digest = reference if is_digest(reference) else answer.digest or sha256_of(answer.data)
        self._verify(path, digest, answer.data)
        return Manifest(digest, answer.headers.get("Content-Type"), answer.data)

    def blob(self, repository: str, digest: str) -> bytes | None:
        """A blob's bytes, verified; None where there is none (404)."""
        path = self.http.path(repository, "blobs", digest)
        answer = self._found("GET", path)
        if answer is None:
            return None
        self._verify(path, digest, answer.data)
        return answer.data

    def blob_exists(self, repository: str, digest: str) -> bool:
        """Whether the registry says that it has the blob (HEAD); its cache may say so of a collected one."""
        return self._found("HEAD", self.http.path(repository, "blobs", digest)) is not None

    def stored_as(self, repository: str, digest: str) -> str | None:
        """The digest by which the registry stores a blob (HEAD); None where it has none or does not say.

        distribution stores by sha256 whatever a blob is uploaded by (registry/storage/blobwriter.go, validateBlob).
        """
        answer = self.attempt(self.http.path(repository, "blobs", digest), {}, method="HEAD")
        return answer.digest if answer.status == 200 else None

    def blob_readable(self, repository: str, digest: str) -> bool:
        """Whether the blob's first byte can be had, whatever the registry's cache says."""
        answer = self.attempt(self.http.path(repository, "blobs", digest), {"Range": "bytes=0-0"}, most=1, cut=True)
        return answer.status in (200, 206, 416)  # 416: the blob is empty

    # Writing

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest and every tag on it; False where it was gone already (404)."""
        answer = self._delete(repository, digest, 202, 404)
        return answer.status == 202

    def untag(self, repository: str, tag: str, digest: str) -> bool:
        """Delete a tag alone that is on a digest; True where it is gone, or on another by now, False where this
        registry can't (2.x)."""
        if self._delete(repository, tag, 202, 404, *_UNSUPPORTED).status not in (202, 404):
            return False
        if self.keeps(repository, tag, digest):
            raise self.not_gone(repository, tag)
        return True

    def keeps(self, repository: str, reference: str, digest: str | None = None) -> bool:
        """Whether a manifest, or a tag on a digest, is there after its DELETE: some answer 202 and do nothing, some a
        little later."""
        for seconds in _MOMENTS:
            time.sleep(seconds)
            found = self.digest(repository, reference)
            if found is None or (digest and found != digest):
                return False
        return True

    def not_gone(self, repository: str, reference: str) -> RegistryError:
        """That it is."""
        path = self.http.path(repository, "manifests", reference)
        cure = "it, or what is before it, does not delete; or somebody pushed it at that moment: then run again"
        return self.http.error("DELETE", path, "the registry answered that it deleted this, and still has it", cure)

    def _delete(self, repository: str, reference: str, *expected: int) -> Answer:
        """An answer with a status that is expected; 202 also where it was carried out and the answer got lost.

        One that was put off (429, 503) is sent again, each time after a look: it may have been carried out.
        """
        path = self.http.path(repository, "manifests", reference)
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                answer = self.http.send("DELETE", path)
            except AccessError:
                raise
            except RegistryError as error:
                answer, problem = Answer(0, {}, b""), error
            else:
                if answer.status in expected:
                    return answer
                problem = self._not_deleted(repository, path, answer)
            put_off = answer.status in TOO_MUCH
            if (put_off or not 0 < answer.status < 500) and self.digest(repository, reference) is None:
                return Answer(202, {}, b"")
            if not (put_off and is_patient(tries, began)):
                raise problem

    def _not_deleted(self, repository: str, path: str, answer: Answer) -> RegistryError:
        """What a refused DELETE means. 405 has three meanings, see docs/registries.md."""
        if answer.status != 405:
            return self.http.refused("DELETE", path, answer)
        if "DELETE" not in answer.headers.get("Allow", "DELETE"):
            problem = "the registry is read-only"
            cure = "take storage.maintenance.readonly out of its configuration while regdata deletes"
        elif not self._takes_uploads(repository):
            problem = "the registry is a pull-through cache, which deletes nothing on request"
            cure = "clean up the registry that it caches (proxy.remoteurl); the cache itself forgets what is not pulled"
        else:
            problem = "delete is disabled"
            cure = (
                "set storage.delete.enabled: true in the registry's configuration (or "
                "REGISTRY_STORAGE_DELETE_ENABLED=true) and restart it"
            )
            if not answer.member("errors"):  # distribution's own 405 has words
                cure += "; or have what is before the registry let DELETE through"
        return self.http.error("DELETE", path, f"HTTP 405: {problem}", cure)

    def _takes_uploads(self, repository: str) -> bool:
        with self._upload(repository) as answer:
            return answer.status == 202

    def takes_pushes(self, repository: str) -> bool:
        """Whether an upload can be begun there now; False also where nobody answers, or what is before the registry
        says in its place (503) that it is stopped: which a limit may say once or twice, too."""
        with suppress(RegistryError):
            for seconds in _MOMENTS:
                time.sleep(seconds)
                with self._upload(repository, patient=False) as answer:
                    if answer.status not in TOO_MUCH:
                        return answer.status == 202
        return False

    def put(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """Push a manifest under a tag or its digest; what it refers to must be there.

        3.x takes an index of what is no manifest, as BuildKit's caches are, only while its cache knows that: it is
        asked for, then.
        """
        path = self.http.path(repository, "manifests", reference)
        began, asked = time.monotonic(), False
        for tries in count(1):
            answer = self.http.send("PUT", path, {"Content-Type": media_type}, data)
            if answer.status == 201:
                return
            if not asked and answer.status == 400 and b"MANIFEST_BLOB_UNKNOWN" in answer.data:
                asked = True
                for part in parse_manifest(sha256_of(data), data, media_type).references:
                    self.attempt(self.http.path(repository, "blobs", part.hash), {}, method="HEAD")
                continue
            # It may have been carried out, and the tag moved on since: then it is not for us to move it back.
            if answer.status not in TOO_MUCH or not is_patient(tries, began):
                raise self.http.refused("PUT", path, answer)
            if self.digest(repository, reference) == sha256_of(data):
                return

    # Finding out what this registry can do

    def check_deletes(self, repository: str) -> bool:
        """Whether manifests can be deleted there, or tags alone. RegistryError where neither can.

        Tried on a random digest, which nothing can have.
        """
        path = self.http.path(repository, "manifests", f"sha256:{secrets.token_hex(32)}")
        answer = self.patiently("DELETE", path)
        if answer.status in (202, 404):
            return True
        if answer.status in _UNSUPPORTED and self.untags(repository):
            return False
        raise self._not_deleted(repository, path, answer)

    def untags(self, repository: str) -> bool:
        """Whether a tag can be deleted there while its digest stays; tried on a random one. RegistryError where we may
        not."""
        path = self.http.path(repository, "manifests", f"regdata-{secrets.token_hex(16)}")
        answer = self.patiently("DELETE", path)
        if answer.status in (401, 403):
            raise self.http.refused("DELETE", path, answer)
        return answer.status in (202, 404)

    def patiently(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        """The answer to a write that does no harm when it is carried out twice: sent again where it is put off."""
        began, tries = time.monotonic(), 1
        while (answer := self.http.send(method, path, headers, content)).status in TOO_MUCH and is_patient(
            tries, began
        ):
            tries += 1
        return answer

    @contextmanager
    def upload_probe(self, repository: str) -> Iterator[str]:
        """An upload's id, while it is open: its folder shows which store the registry writes to.

        2.8.2 leaves the folder behind, with nothing but an empty upload's ``hashstates`` in it.
        """
        path = self.http.path(repository, "blobs/uploads/")
        with self._upload(repository) as answer:
            if answer.status != 202:
                raise self.http.refused("POST", path, answer)
            yield self.http.upload(path, answer)[0]

    @contextmanager
    def _upload(self, repository: str, *, patient: bool = True) -> Iterator[Answer]:
        """The answer to the begin of an upload, which is given up at the end."""
        path = self.http.path(repository, "blobs/uploads/")
        answer = self.patiently("POST", path) if patient else self.http.send("POST", path)
        try:
            yield answer
        finally:
            if answer.status == 202:
                # Left behind it does no harm: the registry purges old uploads.
                with suppress(RegistryError):
                    self.patiently("DELETE", self.http.upload(path, answer)[1])

    def attempt(
        self, path: str, headers: Mapping[str, str], *, method: str = "GET", most: int = DOCUMENT, cut: bool = False
    ) -> Answer:
        """A look: trouble with one content is an answer, with the registry or a proxy before it an error."""
        try:
            answer = self.http.read(method, path, headers, most=most, cut=cut)
        except AccessError:
            raise
        except RegistryError as error:
            if error.kind == UNBOUNDED:
                return Answer(TOO_LARGE, {}, b"")
            if error.kind == AWAY:  # as all that is kept there
                raise
            self.check()
            return Answer(0, {}, b"")
        if answer.status in (401, 403, 502, 504, *TOO_MUCH):
            raise self.http.refused(method, path, answer)
        return answer

    def _found(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer | None:
        answer = self.http.read(method, path, headers)
        if answer.status not in (200, 404):
            raise self.http.refused(method, path, answer)
        return answer if answer.status == 200 else None

    def _verify(self, path: str, digest: str, data: bytes) -> None:
        if not matches(digest, data):
            problem = "the content does not match its digest"
            raise self.http.error("GET", path, problem, "check the registry's store for damage")
