"""Registries whose blobs can't be collected safely while they run are refused, and nothing is changed."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regdata.collecting.probes import canary, check_online, remove_left
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import push
from regdata.errors import CleanupError, RegistryError, StorageError
from regdata.sources.claims import Claims
from regdata.sources.files import LocalFiles
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.registry import Registry
from regdata.sources.room import told_if_full
from regdata.sources.site import StoreSite
from regdata.sources.source import Usage
from regdata.sources.storage import Storage
from regdata.sources.transport import Reach
from tests.collecting.test_sweep import KEPT, files
from tests.support.folder import Folder
from tests.support.odd import digest_of, push_blob
from tests.support.proxy import Fault, OldRedis, faults_before
from tests.support.server import Reply, Request, serving
from tests.support.sweeping import data_path, link_path


@pytest.fixture
def filled(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path / "registry", cache=True) as started:
        push(started.url, "a", "kept", KEPT)
        yield started


def check(registry: LocalRegistry, url: str = "") -> None:
    check_online(Claims(Registry(url or registry.url)), Storage(registry.base_path), "a", dict)


def test_a_sound_registry(filled: LocalRegistry) -> None:
    """It passes, and nothing of what was tried is left, not even the folder of a repository; no other blob goes."""
    other = push_blob(filled.url, "a", b"x" * 32)
    before = files(filled.base_path)
    check(filled)
    assert files(filled.base_path) == before
    assert Storage(filled.base_path).repositories() == ["a"]
    remove_left(Registry(filled.url), Storage(filled.base_path), other, ["a"])
    assert files(filled.base_path) == before
    assert not list(filled.base_path.glob("docker/registry/v2/repositories/a/_uploads/*"))


def test_what_is_tried_is_said_before(filled: LocalRegistry) -> None:
    """Who is killed while a blob is sent has written down which, so that the next run removes it."""
    said: list[dict[str, Any]] = []
    with faults_before(filled.url) as proxy:
        proxy.on("PUT", "/v2/a/blobs/uploads/", Fault(500, carried_out=True))
        with pytest.raises(RegistryError):
            check_online(Claims(Registry(proxy.url)), Storage(filled.base_path), "a", said.append)
    digests = {event["digest"] for event in said if event["event"] == "probing"}
    (left,) = {digest for digest in digests if data_path(filled, digest).exists()}
    link = link_path(filled, "other", left)
    link.parent.mkdir(parents=True)
    link.write_text(left)
    remove_left(Registry(filled.url), Storage(filled.base_path), left, ["a", "other"])
    for path in (data_path(filled, left), link_path(filled, "a", left), link):
        assert not path.parent.exists()


def test_killed_in_a_repository_of_our_own(filled: LocalRegistry) -> None:
    """With what a run had stored there goes the repository that it had made up, as far as the registry lists it."""
    said: list[dict[str, Any]] = []
    with faults_before(filled.url) as proxy:
        proxy.on("PUT", "/v2/a/regdata-probe-01234567/blobs/uploads/", Fault(500, carried_out=True))
        with pytest.raises(RegistryError):
            check_online(
                Claims(Registry(proxy.url)), Storage(filled.base_path), "a/regdata-probe-01234567", said.append
            )
    for digest in {event["digest"] for event in said}:
        remove_left(Registry(filled.url), Storage(filled.base_path), digest, ["a/regdata-probe-01234567"])
    assert Registry(filled.url).catalog() == ["a"]


@pytest.mark.parametrize("name", ["regdata-probe-users", "regdata-probe-0123abcd"])
def test_a_repository_that_only_looks_like_ours(filled: LocalRegistry, name: str) -> None:
    """What somebody has pushed into a repository of such a name stays, be it tried out in, or left by a killed run."""
    push(filled.url, name, "1", KEPT)
    push(filled.url, f"{name}/below", "1", KEPT)
    before = files(filled.base_path)
    check_online(Claims(Registry(filled.url)), Storage(filled.base_path), name, dict)
    other = push_blob(filled.url, name, b"x" * 32)
    remove_left(Registry(filled.url), Storage(filled.base_path), other, [name])
    assert before.items() <= files(filled.base_path).items()


def test_a_canary_is_said_before(filled: LocalRegistry) -> None:
    """What tells whether a registry was restarted is written down before it is stored, and gone after that."""
    said: list[str] = []

    def say(event: dict[str, Any]) -> None:
        assert not data_path(filled, event["digest"]).exists()
        said.append(event["digest"])

    before = files(filled.base_path)
    with canary(Claims(Registry(filled.url)), Storage(filled.base_path), "a", say) as knows:
        assert knows()
        filled.restart()
        assert not knows()
    assert len(said) == 1
    assert files(filled.base_path) == before


def test_another_name(filled: LocalRegistry) -> None:
    """What claims the blob by another name of the same repository, a symbolic link, remembers nothing."""
    (filled.base_path / "docker/registry/v2/repositories/aa").symlink_to("a")
    check(filled)


@pytest.mark.parametrize("carried_out", [False, True])
def test_put_off(filled: LocalRegistry, carried_out: bool) -> None:
    """What a rate limit puts off is sent again, whether or not it was carried out, and nothing is left behind."""
    before = files(filled.base_path)
    later = Fault(429, {"Retry-After": "0"}, carried_out=carried_out)
    with faults_before(filled.url) as proxy:
        for method, path in (("PUT", "manifests/"), ("PUT", "uploads/"), ("DELETE", "blobs/sha")):
            proxy.on(method, f"/v2/a/.*{path}", later, times=1)
        if not carried_out:  # else the registry purges what was begun
            proxy.on("POST", "/v2/a/blobs/uploads/", later, times=1)
        check(filled, proxy.url)
    assert files(filled.base_path) == before


@pytest.mark.parametrize("kind", ["image", "index"])
def test_validation_is_off(filled: LocalRegistry, kind: str) -> None:
    """A registry that takes manifests whose parts it lacks is refused, and what it took is deleted."""
    before = files(filled.base_path)
    with faults_before(filled.url) as proxy:
        proxy.on("PUT", "/v2/a/manifests/sha256:", Fault(400), times=kind == "index")
        proxy.on("PUT", "/v2/a/manifests/sha256:", Fault(201))
        with pytest.raises(CleanupError, match=f"takes an {kind} whose parts it does not have.*validation"):
            check(filled, proxy.url)
        assert any(line.startswith("DELETE /v2/a/manifests/sha256:") for line in proxy.seen)
    assert files(filled.base_path) == before


def test_read_only(filled: LocalRegistry) -> None:
    """Read-only mode is told by its name, with its cure."""
    filled.stop()
    storage = {
        "filesystem": {"rootdirectory": str(filled.base_path)},
        "maintenance": {"readonly": {"enabled": True}},
    }
    with (
        LocalRegistry(filled.folder, settings={"storage": storage}) as read_only,
        pytest.raises(CleanupError, match=r"is read-only.*storage\.maintenance\.readonly.*gc-before"),
    ):
        check(read_only)


def test_pull_through_cache(filled: LocalRegistry, tmp_path: Path) -> None:
    """So is a pull-through cache."""
    settings = {"proxy": {"remoteurl": filled.url}}
    (tmp_path / "cache").mkdir()
    with (
        LocalRegistry(tmp_path / "cache", settings=settings) as cache,
        pytest.raises(CleanupError, match="is a pull-through cache"),
    ):
        check(cache)


class Full(LocalFiles):
    """A disk with so much room left."""

    left: Usage

    def usage(self, folder: str) -> Usage:
        return self.left


@pytest.mark.parametrize("left", [Usage(1 << 40, 4096, 1000), Usage(1 << 40, 1 << 30, 0), Usage(1 << 40, 1 << 30, 99)])
def test_full_disk(filled: LocalRegistry, left: Usage) -> None:
    """Where a full disk explains that an upload is refused, the error names it and the cure; else it is the registry's
    own."""
    files = Full()
    files.left = left
    storage = Storage(filled.base_path, files)
    full = left.free < 1 << 20 or not left.inodes
    with faults_before(filled.url) as proxy:
        proxy.on("POST", "/v2/a/blobs/uploads/", Fault(500), times=2)
        expected = (
            r"the disk of .* is full \(.*nothing was deleted: free some MB there.*HTTP 500" if full else "HTTP 500"
        )
        with pytest.raises(CleanupError if full else RegistryError, match=expected):
            StoreSite(Registry(proxy.url), storage).check_written("a")
        with pytest.raises(CleanupError if full else RegistryError, match=expected), told_if_full(storage):
            check(filled, proxy.url)


def test_claims_stay(filled: LocalRegistry) -> None:
    """A registry that claims a blob after its link was deleted, at times, is refused; the blob is removed."""
    before = files(filled.base_path)
    with faults_before(filled.url) as proxy:
        proxy.on("HEAD", "/v2/a/blobs/", Fault(200), times=20)
        with pytest.raises(CleanupError, match=r"claiming a blob.*\(4 of 16 times\).*replicas"):
            check(filled, proxy.url)
    assert files(filled.base_path) == before


@pytest.mark.parametrize("others", [[], ["b/c"]], ids=["alone", "beside another"])
def test_redis_before_3_1(filled: LocalRegistry, others: list[str]) -> None:
    """A cache in Redis that keeps which repositories ever had a blob is refused, with its cures; nothing is left of
    what was tried, in no repository."""
    for name in others:
        push(filled.url, name, "kept", KEPT)
    before = files(filled.base_path)
    with (
        faults_before(filled.url, OldRedis) as proxy,
        pytest.raises(CleanupError, match=r"as soon as another repository has it.*flush its Redis.*upgrade it to 3\.1"),
    ):
        check(filled, proxy.url)
    assert files(filled.base_path) == before


def test_a_canary_and_two_replicas(tmp_path: Path) -> None:
    """Where several answer by one name, the cache is new only when none of them knows what was known before."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    knowing, turns = [True, True], itertools.cycle(range(2))
    with (
        serving(lambda request: Reply(200 if knowing[next(turns)] else 404)) as url,
        canary(Claims(Registry(url)), Storage(tmp_path), "a", dict) as knows,
    ):
        assert knows()
        for replica, known in ((0, True), (1, False)):
            knowing[replica] = False
            assert knows() is known


def test_a_canary_that_is_not_found(tmp_path: Path) -> None:
    """Where the registry, or a replica of it, does not find what was written into base_path, it reads another folder:
    nothing is collected, and nothing of that is left."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    answers = itertools.cycle([Reply(200), Reply(404)])
    with (
        serving(lambda request: next(answers)) as url,
        pytest.raises(CleanupError, match=r"is not the folder that .* reads .*so nothing was collected"),
        canary(Claims(Registry(url)), Storage(tmp_path), "a", dict),
    ):
        pass
    assert files(tmp_path / "docker") == {}


def test_another_repository_that_the_login_may_not_see(filled: LocalRegistry) -> None:
    """A registry is sound though another repository, which is tried with, is closed to the login; nothing is left
    there."""
    push(filled.url, "b/c", "kept", KEPT)
    before = files(filled.base_path)
    with faults_before(filled.url) as proxy:
        proxy.on("HEAD", "/v2/b/c/blobs/", Fault(403))
        check(filled, proxy.url)
        assert any(line.startswith("HEAD /v2/b/c/blobs/") for line in proxy.seen)
    assert files(filled.base_path) == before


def test_redis_before_3_1_beside_what_is_closed(filled: LocalRegistry) -> None:
    """It is found out within registry.repositories; nothing outside, where the login may not be let in, is asked."""
    push(filled.url, "b/c", "kept", KEPT)
    before = files(filled.base_path)
    with faults_before(filled.url, OldRedis) as proxy:
        proxy.on("HEAD DELETE", "/v2/b/c/blobs/", Fault(403))
        claims = Claims(Registry(proxy.url, reach=Reach(repositories=("a",))))
        with pytest.raises(CleanupError, match="as soon as another repository has it"):
            check_online(claims, Storage(filled.base_path), "a", dict)
        assert not [line for line in proxy.seen if "/v2/b/c/" in line]
    assert files(filled.base_path) == before


def test_each_place_is_said_before(filled: LocalRegistry) -> None:
    """Each repository in which a blob is tried with is written down before anything of it is there."""
    push(filled.url, "b/c", "kept", KEPT)
    said: list[str] = []

    def say(event: dict[str, Any]) -> None:
        assert not link_path(filled, event["image"], event["digest"]).exists()
        said.append(event["image"])

    check_online(Claims(Registry(filled.url)), Storage(filled.base_path), "a", say)
    assert said == ["a", "b/c"]


def test_what_it_was_tried_with_and_took(filled: LocalRegistry) -> None:
    """Of a manifest that a registry took though it lacks its parts nothing is left, neither link nor bytes."""
    before = files(filled.base_path)
    with faults_before(filled.url) as proxy:

        def take() -> None:
            digest = proxy.seen[-1].rpartition("/")[2]
            for path, data in ((blob_path(digest), b"{}"), (revision_path("a", digest), digest.encode())):
                file = filled.base_path / "docker/registry/v2" / path
                file.parent.mkdir(parents=True)
                file.write_bytes(data)

        proxy.on("PUT", "/v2/a/manifests/sha256:", Fault(201, before=take))
        with pytest.raises(CleanupError, match="takes an image whose parts it does not have"):
            check(filled, proxy.url)
    assert files(filled.base_path) == before


def sound(request: Request) -> Reply:
    """What a registry answers to all that is tried, and keeps nothing."""
    if request.method == "PUT" and "/manifests/" in request.target:
        return Reply(400)
    if request.method == "POST":
        return Reply(202, headers={"Location": f"{request.target}1?_state=x"})
    return Reply({"PUT": 201, "DELETE": 202, "HEAD": 404}[request.method])


def test_another_repository_in_which_the_login_may_not_delete(tmp_path: Path) -> None:
    """A registry is sound though the login may only pull in the repository that is tried with; nothing is left
    there."""
    folder = Folder(tmp_path)
    for name in ("a", "b/c"):
        folder.image(name, "1")
        folder.write(layer_path(name, KEPT.blobs[0].digest), KEPT.blobs[0].digest.encode())
    before, seen = files(tmp_path), list[str]()

    def answer(request: Request) -> Reply:
        seen.append(f"{request.method} {request.target}")
        return Reply(403) if seen[-1].startswith("DELETE /v2/b/c/") else sound(request)

    with serving(answer) as url:
        check_online(Claims(Registry(url)), Storage(tmp_path), "a", dict)
    assert any(line.startswith("DELETE /v2/b/c/blobs/") for line in seen)
    assert files(tmp_path) == before


@pytest.mark.parametrize("what", ["canary", "link"])
def test_what_it_is_tried_with_can_not_be_written(tmp_path: Path, what: str) -> None:
    """Where the disk takes nothing of what is tried with, the error says so, and nothing is left."""

    class NoRoom(LocalFiles):
        def write(self, path: str, data: bytes, *, lasting: bool = True) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    storage = Storage(tmp_path, NoRoom())

    with serving(sound) as url:
        claims = Claims(Registry(url))
        tried = canary(claims, storage, "a", dict)
        with pytest.raises(StorageError, match="No space left"):
            check_online(claims, storage, "a", dict) if what == "link" else tried.__enter__()
    assert files(tmp_path / "docker") == {}


def test_validation_of_common_platforms_alone(tmp_path: Path) -> None:
    """A registry that looks for but those children of an index which are of a platform that most use is refused."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)

    def answer(request: Request) -> Reply:
        if request.method != "PUT":
            return Reply(202)
        listed = json.loads(request.body).get("manifests")
        looked_for = listed is None or any(one["platform"]["architecture"] in ("amd64", "arm64") for one in listed)
        return Reply(400 if looked_for else 201)

    with serving(answer) as url, pytest.raises(CleanupError, match="takes an index whose parts it does not have"):
        check_online(Claims(Registry(url)), Storage(tmp_path), "a", dict)


@pytest.mark.parametrize(
    ("name", "pushed", "longer"),
    [("regdata-probe-0123abcd", True, False), ("regdata-probe-0123abcd", True, True), ("app", False, False)],
)
def test_left_in_a_repository_that_is_somebodys(tmp_path: Path, name: str, pushed: bool, longer: bool) -> None:
    """Of what a killed run left nothing stays, be the registry down by now; what somebody has pushed there does, be it
    layers alone, or bytes that only begin as ours do."""
    folder, layer, data = Folder(tmp_path), KEPT.blobs[0], b"regdata's probe ".ljust(33 if longer else 32, b"x")
    folder.write(layer_path(name, layer.digest), layer.digest.encode())
    if pushed:
        folder.image(name, "1")
    before = files(tmp_path)
    digest = folder.blob(data)
    folder.write(layer_path(name, digest), digest.encode())
    left = files(tmp_path)
    remove_left(Registry("http://127.0.0.1:1"), Storage(tmp_path), digest, [name])
    assert files(tmp_path) == (left if longer else before)


def test_killed_while_it_removes_what_was_left(tmp_path: Path) -> None:
    """Whoever is killed while he removes what was tried with has left enough for the next run to remove the rest."""

    class Killed(LocalFiles):
        def remove(self, folder: str) -> None:
            super().remove(folder)
            raise KeyboardInterrupt

    folder = Folder(tmp_path)
    digest = folder.blob(b"regdata's probe ".ljust(32, b"x"))
    for name in ("a", "b/c"):
        folder.write(layer_path(name, digest), digest.encode())
    nobody = Registry("http://127.0.0.1:1")
    with pytest.raises(KeyboardInterrupt):
        remove_left(nobody, Storage(tmp_path, Killed()), digest, ["a", "b/c"])
    remove_left(nobody, Storage(tmp_path), digest, ["a", "b/c"])
    assert files(tmp_path) == {}


@pytest.mark.parametrize("kind", ["image", "index"])
def test_a_registry_that_refuses_but_what_is_malformed(tmp_path: Path, kind: str) -> None:
    """What a registry is tried with has nothing wrong but that its parts are not there: one that refuses all else does
    not pass for sound."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)

    def answer(request: Request) -> Reply:
        if request.method != "PUT" or "/manifests/" not in request.target:
            return Reply(202)
        said = json.loads(request.body)
        parts = said["manifests"] if "manifests" in said else [said["config"], *said["layers"]]
        is_well_formed = (
            (said["schemaVersion"], said["mediaType"]) == (2, request.headers["Content-Type"])
            and request.target.endswith(f"/{digest_of(request.body)}")
            and said["mediaType"].endswith({"image": ".manifest.v1+json", "index": ".index.v1+json"}[kind])
            and all(re.fullmatch("sha256:[0-9a-f]{64}", one["digest"]) and one["size"] for one in parts)
        )
        return Reply(201 if is_well_formed else 400)

    with serving(answer) as url, pytest.raises(CleanupError, match=f"takes an {kind} whose parts it does not have"):
        check_online(Claims(Registry(url)), Storage(tmp_path), "a", dict)


def test_killed_while_a_canary_is_removed(tmp_path: Path) -> None:
    """What a run leaves that is killed over its canary is known by its bytes: the next one removes all of it."""

    class Killed(LocalFiles):
        def remove(self, folder: str) -> None:
            super().remove(folder)
            raise KeyboardInterrupt

    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    said: list[dict[str, Any]] = []
    with serving(lambda request: Reply(200)) as url:
        tried = canary(Claims(Registry(url)), Storage(tmp_path, Killed()), "a", said.append)
        with pytest.raises(KeyboardInterrupt):
            tried.__enter__()
    (event,) = said
    remove_left(Registry("http://127.0.0.1:1"), Storage(tmp_path), event["digest"], ["a"])
    assert files(tmp_path) == {}
