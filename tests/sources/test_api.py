"""The HTTP API as a source: what a scan asks, and how it goes on where the registry lies, stalls and breaks."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    OCI_MANIFEST,
    make_image,
    make_index,
    make_layer,
    push,
)
from regdata.errors import RegistryError
from regdata.sources.api import Api
from regdata.sources.cache import OFF, Cache
from regdata.sources.columns import Columns, merge
from regdata.sources.registry import Registry
from regdata.sources.site import ApiSite
from regdata.sources.storage import Storage
from regdata.sources.transport import Reach
from tests.support.fakes import PAGE, FakeRegistry, error_reply, rows, serve
from tests.support.server import Reply

BASE = make_layer("base", 50)
AMD = make_image([BASE, make_layer(1, 10)], created=1_700_000_000, oci=True)
ARM = make_image([BASE, make_layer(2, 10)], created=1_700_000_000, platform="linux/arm64", oci=True)
INDEX = make_index([AMD, ARM], attest=True)


def scan(api: Api, parts: int = 1) -> Columns:
    return merge([api.read(part) for part in api.split(parts)])


def tag_rows(columns: Columns) -> dict[str, tuple[str | None, str | None]]:
    return {row["tag_name"]: (row["tag_hash"], row["error"]) for row in rows(columns["tags"])}


def content_rows(columns: Columns) -> dict[str, dict[str, Any]]:
    return {row["manifest_hash"]: row for row in rows(columns["contents"])}


def pairs(columns: Columns) -> set[tuple[str, str]]:
    return {(row["image_name"], row["manifest_hash"]) for row in rows(columns["revisions"])}


@pytest.fixture(params=[(8, False), (1, True)], ids=["8 workers", "1 worker, cache"])
def api(fake: FakeRegistry, tmp_path: Path, request: pytest.FixtureRequest) -> Api:
    workers, caches = request.param
    return Api(Registry(fake.url, reach=Reach(at_once=workers), timeout=(1, 0.8)), Cache(tmp_path) if caches else OFF)


def test_same_as_the_folder(demo_registry: LocalRegistry) -> None:
    """The API tells of tags and contents what the registry's own folder tells."""
    api = scan(Api(Registry(demo_registry.url)), parts=3)
    storage = Storage(demo_registry.base_path)
    folder = merge([storage.read(part) for part in storage.split(1)])
    assert sorted(api["repositories"]["image_name"]) == folder["repositories"]["image_name"]
    tags = [{**row, "pushed": None} for row in rows(folder["tags"])]
    assert sorted(map(str, rows(api["tags"]))) == sorted(map(str, tags))
    contents = content_rows(folder)
    assert content_rows(api) == {digest: contents[digest] for digest in content_rows(api)}
    assert pairs(api) <= pairs(folder)
    assert set(api.references()) == {row for row in folder.references() if row[0] in content_rows(api)}


def test_pickle(registry: LocalRegistry) -> None:
    """A copy made by pickle, even of one in use, opens its own connections."""
    push(registry.url, "app", "1.0", AMD)
    real = Api(Registry(registry.url, reach=Reach(at_once=2), timeout=(1, 2)))
    copy = pickle.loads(pickle.dumps((real, real.split(1))))
    assert copy[0].read(copy[1][0]) == scan(real)
    assert (copy[0].registry.workers, copy[0].registry.timeout) == (2, (1, 2))


@pytest.mark.parametrize("pages", [False, True])
def test_budget(pages: bool) -> None:
    """A scan asks once for each page, tag, distinct child and distinct config, and once for referrers."""
    with serve(FakeRegistry(pages=pages)) as fake:
        for repository in ("a", "b"):
            fake.push(repository, "1", INDEX)
            fake.push(repository, "latest", INDEX)
            fake.push(repository, "amd", AMD)
        fake.push("nested", "1", make_index([make_index([AMD, ARM])]))
        fake.tags["empty"] = {}
        columns = scan(Api(Registry(fake.url)))
    assert set(Counter(fake.seen).values()) == {1}
    kinds = Counter(request.split("?")[0].split("/")[-2] for request in fake.seen)
    tags, children = 7, 4  # ARM, two attestations, the nested index; AMD was a tag's
    assert kinds == {"v2": 1, "tags": 4, "manifests": tags + children, "blobs": 2, "referrers": 1}
    assert columns["repositories"]["image_name"] == ["a", "b", "empty", "nested"]
    assert not any([*columns["contents"]["error"], *columns["tags"]["error"]])
    assert {row["platform"] for row in rows(columns["contents"])} >= {"linux/amd64", "linux/arm64"}
    assert len(pairs(columns)) == 5 + 5 + 4


PROBE = "GET /v2/app/manifests/sha256:"


class PullThrough(FakeRegistry):
    """As distribution's pull-through cache answers, whose registry behind it does not know a digest."""

    def answer(self, method: str, target: str) -> Reply:
        reply = super().answer(method, target)
        return error_reply(500) if reply.status == 404 and "/manifests/sha256:" in target else reply


@pytest.mark.parametrize(("make", "told"), [(FakeRegistry, 0), (PullThrough, 1)])
def test_a_cache_is_told_before_it_is_listed(make: type[FakeRegistry], told: int, tmp_path: Path) -> None:
    """That reading through a pull-through cache reads the registry behind it is said before any tag is listed."""
    said: list[tuple[str, list[str]]] = []
    with serve(make()) as fake:
        fake.push("app", "1.0", AMD)
        site = ApiSite(Api(Registry(fake.url)), tmp_path)
        site.say = lambda text: said.append((text, [line for line in fake.seen if "_catalog" not in line]))
        work = site.work(1)
        assert [site.source.read(part)["tags"]["tag_name"] for part in work.parts] == [["1.0"]]
    assert len(said) == told
    for text, seen in said:
        assert "answers as a pull-through cache does" in text
        assert {line[: len(PROBE)] for line in seen} == {PROBE}


def test_child_of_another_repository(fake: FakeRegistry, api: Api) -> None:
    """A child that one repository lacks is read from the next; one that all lack is no revision."""
    for repository in ("a", "b"):
        fake.push(repository, "1", make_index([AMD, ARM]))
        del fake.manifests[repository][ARM.digest]
    del fake.manifests["a"][AMD.digest]
    columns = scan(api)
    assert {pair for pair in pairs(columns) if pair[1] == AMD.digest} == {("b", AMD.digest)}
    assert ARM.digest not in content_rows(columns)


MANIFEST = "GET /v2/app/manifests/{}"
OTHER = Reply(200, ARM.manifest, {"Content-Type": OCI_MANIFEST})
LIAR = Reply(200, b"{}", {"Docker-Content-Digest": AMD.digest, "Content-Type": OCI_MANIFEST})


@pytest.mark.parametrize(
    ("reply", "digest", "error"),
    [
        (error_reply(404, "MANIFEST_UNKNOWN"), None, "HTTP 404"),
        (error_reply(500), AMD.digest, "HTTP 500"),
        (Reply(how="reset"), AMD.digest, "no complete answer"),
        (Reply(200, AMD.manifest, how="cut"), AMD.digest, "no complete answer"),
        (Reply(how="stall"), AMD.digest, "no complete answer"),
        (LIAR, AMD.digest, "content does not match its digest"),
        (PAGE, None, "not JSON"),
    ],
)
def test_unreadable_tag(fake: FakeRegistry, api: Api, reply: Reply, digest: str | None, error: str) -> None:
    """A tag that can't be read is a row with its error; the scan goes on."""
    fake.push("app", "bad", AMD)
    fake.push("app", "good", ARM)
    fake.on(MANIFEST.format("bad"), reply, forever=True)
    columns = scan(api)
    assert tag_rows(columns) == {"bad": (digest, error), "good": (ARM.digest, None)}
    assert content_rows(columns)[ARM.digest]["error"] is None
    if digest:
        assert ("app", digest) in pairs(columns)
        assert content_rows(columns)[digest]["error"] == error


@pytest.mark.parametrize(
    ("reply", "error"),
    [(error_reply(500), "HTTP 500"), (OTHER, "content does not match its digest")],
)
def test_unreadable_child(fake: FakeRegistry, api: Api, reply: Reply, error: str) -> None:
    """A child that can't be read is a revision whose content has the error."""
    fake.push("app", "1", INDEX)
    fake.on(MANIFEST.format(AMD.digest), reply, forever=True)
    columns = scan(api)
    assert ("app", AMD.digest) in pairs(columns)
    assert content_rows(columns)[AMD.digest]["error"] == error


def test_readable_wins(fake: FakeRegistry, api: Api) -> None:
    """A content that one tag could not read is taken from another tag on the same digest."""
    fake.push("app", "1", AMD)
    fake.push("app", "2", AMD)
    fake.on(MANIFEST.format("1"), error_reply(500), forever=True)
    assert content_rows(scan(api))[AMD.digest]["error"] is None


@pytest.mark.parametrize("reply", [error_reply(404), Reply(200, ARM.blobs[0].data), Reply(how="cut")])
def test_config_that_lies(fake: FakeRegistry, api: Api, reply: Reply) -> None:
    """No date and no platform is taken from a config whose bytes are not the ones named."""
    fake.push("app", "1", AMD)
    fake.on(f"GET /v2/app/blobs/{AMD.blobs[0].digest}", reply, forever=True)
    row = content_rows(scan(api))[AMD.digest]
    assert (row["error"], row["created"], row["platform"]) == (None, None, None)


@pytest.mark.parametrize("how", ["reset", "stall"])
def test_registry_goes_down(fake: FakeRegistry, api: Api, how: str) -> None:
    """When the registry itself stops answering, the scan stops with one error."""
    fake.push("app", "1", AMD)
    part = api.split(1)[0]
    for request in ("GET /v2/", MANIFEST.format("1")):
        fake.on(request, Reply(how=how), forever=True)
    with pytest.raises(
        RegistryError, match=r"(GET|HEAD) \S+/v2/\S*: (the connection broke|no answer|its answer came late)"
    ):
        api.read(part)


def test_referrers_that_can_not_be_asked(fake: FakeRegistry, api: Api) -> None:
    """An answer that says nothing of whether there is such an API ends a scan: signatures would be overlooked."""
    fake.push("app", "1", AMD)
    fake.on(f"GET /v2/app/referrers/{AMD.digest}", error_reply(503), forever=True)
    with pytest.raises(RegistryError, match=r"GET \S+/referrers/\S+: HTTP 503"):
        scan(api)


def test_rate_limit_ends_a_scan(fake: FakeRegistry, api: Api) -> None:
    """A registry that keeps on limiting the rate is not a registry of unreadable tags."""
    fake.push("app", "1", AMD)
    fake.on(MANIFEST.format("1"), error_reply(429, "TOOMANYREQUESTS"), forever=True)
    with pytest.raises(RegistryError, match="HTTP 429 TOOMANYREQUESTS"):
        scan(api)
