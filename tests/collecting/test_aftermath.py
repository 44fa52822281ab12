"""Asking for what a collection took, where others push meanwhile: a registry that answers as a test wants."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from regdata.collecting.aftermath import Cache, Claimed, Goes, clear, remove_empty
from regdata.collecting.commands import collect, recover
from regdata.collecting.unlinked import known
from regdata.config import load_config
from regdata.demo.samples import make_layer
from regdata.errors import CleanupError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.sources.api import Api
from regdata.sources.claims import Claims
from regdata.sources.paths import blob_path, layer_path
from regdata.sources.registry import Registry
from regdata.sources.site import ApiSite, Site, StoreSite
from regdata.sources.storage import Storage
from regdata.sources.transport import Reach
from tests.support.fakes import FakeRegistry, error_reply, serve
from tests.support.helpers import age
from tests.support.server import Reply

BLOB = make_layer("blob", 20)


class PushedWhenAsked(FakeRegistry):
    """The blob comes back between the look whether it is gone and the question whether it is claimed."""

    def answer(self, method: str, target: str) -> Reply:
        if method == "HEAD" and "/blobs/" in target:
            self.blobs[BLOB.digest] = BLOB.data
        return super().answer(method, target)


def test_pushed_again_before_it_was_asked_for(tmp_path: Path) -> None:
    """A blob that was pushed again is no stale claim: its link is not taken away to clear the registry's cache."""
    with serve(PushedWhenAsked()) as fake:
        fake.tags["app"] = {}
        claimed, _ = clear(ApiSite(Api(Registry(fake.url)), tmp_path), [("app", BLOB.digest)])
        assert (claimed.asked, claimed.cleared, claimed.left) == (1, [], [])
        assert not [line for line in fake.seen if line.startswith("DELETE")]


class Guarded(FakeRegistry):
    """The login may not ask in a repository that is made up."""

    def answer(self, method: str, target: str) -> Reply:
        return error_reply(403, "DENIED") if "regdata-probe-" in target else super().answer(method, target)


def test_who_may_not_ask_what_the_cache_knows(tmp_path: Path) -> None:
    """What can't be asked for counts as known: the cache may claim it, and a push that uses it would be broken."""
    repositories = tmp_path / "docker/registry/v2/repositories"
    repositories.mkdir(parents=True)
    for kind, expected in ((FakeRegistry, set()), (Guarded, {BLOB.digest})):
        with serve(kind()) as fake:
            assert known(Claims(Registry(fake.url)), Storage(tmp_path), [BLOB.digest]) == expected
        assert not list(repositories.iterdir())


def test_a_link_that_is_back(tmp_path: Path) -> None:
    """What somebody pushed again since its link was seen to be cut, the registry claims rightly: the new link stays.
    Without a link it is a claim that has to go."""
    link = tmp_path / "docker/registry/v2" / layer_path("app", BLOB.digest)
    link.parent.mkdir(parents=True)
    link.write_text(BLOB.digest)
    with serve(FakeRegistry()) as fake:
        fake.blobs[BLOB.digest] = BLOB.data
        fake.on(f"DELETE /v2/app/blobs/{BLOB.digest}", Reply(202))
        site, cut = StoreSite(Registry(fake.url), Storage(tmp_path)), [("app", BLOB.digest)]
        claimed, _ = clear(site, [], cut=cut)
        assert (claimed.asked, claimed.cleared, claimed.left) == (1, [], [])
        assert not [line for line in fake.seen if line.startswith("DELETE")]
        link.unlink()
        claimed, _ = clear(site, [], cut=cut)
        assert claimed.left == [BLOB.digest]
        assert len([line for line in fake.seen if line.startswith("DELETE")]) == 1


def test_one_of_several_replicas_forgets(tmp_path: Path) -> None:
    """Where several registries answer by one name, each with a cache of its own, what one of them goes on claiming is
    found, though another was made to forget it."""
    with serve(FakeRegistry()) as fake:
        fake.on(f"HEAD /v2/app/blobs/{BLOB.digest}", Reply(200), Reply(404), *[Reply(200)] * 8)
        claimed, _ = clear(ApiSite(Api(Registry(fake.url)), tmp_path), [("app", BLOB.digest)])
    assert (claimed.cleared, claimed.left) == ([], [BLOB.digest])


@pytest.mark.parametrize("answers", [[[], [200] * 9], [[404, *[200] * 8]]], ids=["a link of two", "a replica of two"])
def test_an_empty_repository_that_is_claimed_in_part(tmp_path: Path, answers: list[list[int]]) -> None:
    """An empty repository stays, links and all, where the registry's cache does not forget one of its links, or one
    replica of several does not."""
    store, conf = tmp_path / "store", tmp_path / "conf.json"
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(load_config(conf), sql_id="x", action="del")
    with serve(FakeRegistry()) as fake:
        links = []
        for number, statuses in enumerate(answers):
            digest = make_layer(("claimed", number), 20).digest
            links.append(store / "docker/registry/v2" / layer_path("app", digest))
            links[-1].parent.mkdir(parents=True)
            links[-1].write_text(digest)
            fake.on(f"HEAD /v2/app/blobs/{digest}", *map(Reply, statuses))
        age(store, 3 * 86400)
        site = StoreSite(Registry(fake.url), Storage(store))
        assert remove_empty(site, record, before=site.now) == []
    assert all(link.exists() for link in links)


@pytest.mark.parametrize("within", [None, ("app",), ("team/*",)])
def test_who_may_not_ask_for_what_was_collected(tmp_path: Path, within: tuple[str, ...] | None) -> None:
    """Where the login may not ask whether something is claimed that is an error: but for what lies outside of
    registry.repositories, where it need not."""
    with serve(FakeRegistry()) as fake:
        fake.on(f"HEAD /v2/app/blobs/{BLOB.digest}", error_reply(403, "DENIED"), forever=True)
        site = ApiSite(Api(Registry(fake.url, reach=Reach(repositories=within))), tmp_path)
        outside = within == ("team/*",)
        with nullcontext() if outside else pytest.raises(CleanupError, match="does not answer after the collection"):
            assert clear(site, [("app", BLOB.digest)])[0].asked == 1


@pytest.mark.parametrize(
    ("cache", "may_know", "told"),
    [
        (Cache(), False, ""),
        (Cache(lives=True), True, ""),
        (Cache(silent="it does not answer"), True, "it does not answer"),
        (Cache(Claimed(1, cleared=["sha256:1"])), True, ""),
        (Cache(Claimed(1, left=["sha256:1"])), True, "whatever it is told: the next push"),
        (Cache(unlinked=["a folder was removed"]), False, "a folder was removed"),
    ],
)
def test_what_the_cache_says_after_gc_command(tmp_path: Path, cache: Cache, may_know: bool, told: str) -> None:
    """Manifests' bytes are put back wherever the cache may know them, also where nobody answers; what it can't be made
    to forget is an error, what it forgot is none where they can be put back."""
    (tmp_path / "docker/registry/v2").mkdir(parents=True)
    assert cache.may_know is may_know
    errors = cache.errors(Storage(tmp_path))
    assert (len(errors), told in "".join(errors)) == (bool(told), True)


def test_links_that_gc_command_cuts(tmp_path: Path) -> None:
    """Where gc-command takes links to what stays, too, as 3.x does, the registry's cache is made to forget those as
    well as what is gone: what is pushed next has all its links."""
    stays, root, conf = make_layer("stays", 20), tmp_path / "store/docker/registry/v2", tmp_path / "conf.json"
    for blob in (BLOB, stays):
        for path, data in ((blob_path(blob.digest), blob.data), (layer_path("app", blob.digest), blob.digest.encode())):
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(data)
    takes = f"rm -r {(root / blob_path(BLOB.digest)).parent} {root}/repositories/app/_layers/sha256"
    with serve(FakeRegistry()) as fake:
        for blob in (BLOB, stays):  # its cache claims both until it is told
            fake.on(f"HEAD /v2/app/blobs/{blob.digest}", Reply(200))
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        conf.write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": ["sh", "-c", takes]}))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([("app", BLOB.digest)], cuts=True))
    assert collected.errors == []
    assert collected.notes == ["the registry's cache was made to forget 2 blobs that had been collected"]


def test_put_off_and_started_slowly(tmp_path: Path) -> None:
    """Where gc-command is not run, too, a registry that gc-after has just started is given the time to answer."""
    conf = tmp_path / "conf.json"
    with serve(FakeRegistry()) as fake:
        fake.on("GET /v2/", Reply(500), Reply(500))
        commands = {"gc-before": ["false"], "gc-command": ["true"], "gc-after": ["true"]}
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}} | commands))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, ApiSite(Api(Registry(fake.url)), tmp_path), record, lambda: Goes([]))
        assert fake.seen == ["GET /v2/"] * 3
    assert (collected.ran, len(collected.errors)) == (False, 1)


@pytest.mark.parametrize("forgets", [True, False])
def test_what_a_killed_run_left_in_the_cache(tmp_path: Path, forgets: bool) -> None:
    """What a killed run had collected the next one has the registry forget; where that goes on claiming it, it is an
    error, be base_path given."""
    (tmp_path / "store/docker/registry/v2").mkdir(parents=True)
    conf = tmp_path / "conf.json"
    with serve(FakeRegistry()) as fake:
        fake.on(f"HEAD /v2/app/blobs/{BLOB.digest}", Reply(200), forever=not forgets)
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        conf.write_text(json.dumps({"registry": registry, "sql": {}}))
        config = load_config(conf)
        killed, record = (Record.open(config, sql_id=name, action="del") for name in ("killed", "next"))
        killed.journal({"event": "collecting", "blobs": [["app", BLOB.digest]]})
        killed.journal({"event": "running", "step": "gc-command"})
        told = recover(config, Site.open(config), PastRun(killed.folder), record)
    assert ["whatever it is told" in error for error in told] == ([] if forgets else [True])
