"""Asking for what a collection took, where others push meanwhile: a registry that answers as a test wants."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from regdata.collecting.aftermath import Cache, Claimed, Goes, clear, held, remove_empty
from regdata.collecting.commands import collect, recover
from regdata.collecting.unlinked import known
from regdata.config import load_config
from regdata.demo.samples import make_layer
from regdata.errors import CleanupError, RegistryError, StorageError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.sources.api import Api
from regdata.sources.claims import Claims
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.registry import Registry
from regdata.sources.site import ApiSite, Site, StoreSite
from regdata.sources.storage import Storage
from regdata.sources.transport import Reach
from tests.support.fakes import FakeRegistry, error_reply, serve
from tests.support.folder import Folder
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


class Landing(FakeRegistry):
    """What is asked for is pushed at that moment, into the registry's folder ``root``."""

    root: Path

    def answer(self, method: str, target: str) -> Reply:
        if method != "HEAD":
            return super().answer(method, target)
        digest = BLOB.digest
        for path, data in ((blob_path(digest), BLOB.data), (layer_path("app", digest), digest.encode())):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(data)
        return Reply(200)


def test_pushed_into_the_folder_before_it_was_asked_for(tmp_path: Path) -> None:
    """With the folder, too, a blob that was pushed again since it was seen to be gone is no stale claim: its new link
    stays."""
    registry = Landing()
    registry.root = tmp_path / "docker/registry/v2"
    registry.root.mkdir(parents=True)
    with serve(registry) as fake:
        claimed, _ = clear(StoreSite(Registry(fake.url), Storage(tmp_path)), [("app", BLOB.digest)])
        assert (claimed.asked, claimed.cleared, claimed.left) == (1, [], [])
        assert not [line for line in fake.seen if line.startswith("DELETE")]


def test_a_manifest_that_lands_while_its_repository_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the registry is about to link when an empty repository is closed, and for whose layers it had looked before
    that, is waited for: the repository stays, with its layers."""
    store, conf, manifest = tmp_path / "store", tmp_path / "conf.json", f"sha256:{'ab' * 32}"
    root = store / "docker/registry/v2"
    link, revision = root / layer_path("app", BLOB.digest), root / revision_path("app", manifest)
    link.parent.mkdir(parents=True)
    link.write_text(BLOB.digest)
    age(store, 3 * 86400)

    def land() -> None:
        revision.parent.mkdir(parents=True, exist_ok=True)
        revision.write_text(manifest)

    with serve(FakeRegistry()) as fake:
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        record = Record.open(load_config(conf), sql_id="x", action="del")
        site = StoreSite(Registry(fake.url), Storage(store))
        monkeypatch.setattr(time, "sleep", lambda seconds: land() if seconds else None)
        removed = remove_empty(site, record, before=site.now)
    assert (removed, link.exists(), revision.exists()) == ([], True, True)


def test_a_tag_that_is_being_written_when_an_empty_repository_goes(tmp_path: Path) -> None:
    """A push that has emptied the link of a tag that was taken away, and not written it yet, is not lost where another
    repository is removed meanwhile: the next run finds the tag on what was pushed."""
    folder, conf = Folder(tmp_path / "store"), tmp_path / "conf.json"
    digest, other = folder.image("app", "1"), folder.image("app", config={"os": "other"})
    (folder.root / "repositories/empty/_layers").mkdir(parents=True)
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(load_config(conf), sql_id="x", action="del")
    storage = Storage(folder.base_path)
    os.link(folder.manifests("app") / "tags/1/current/link", tmp_path / "open")  # as an open file is the same one
    assert storage.untag("app", "1", digest)
    (tmp_path / "open").write_text("")
    site = StoreSite(Registry("http://127.0.0.1:1"), storage)
    assert remove_empty(site, record, before=site.now) == ["empty"]
    (tmp_path / "open").write_text(other)
    assert storage.settle() == [("app", "1")]
    assert storage.state("app")[0] == {"1": other}


class Claiming(FakeRegistry):
    """Its cache claims whatever it is asked for, until it is told to forget that."""

    def answer(self, method: str, target: str) -> Reply:
        known = method == "HEAD" and f"DELETE {target}" not in self.seen
        reply = super().answer(method, target)
        return Reply(200) if known else reply


@pytest.mark.parametrize("cuts", [False, True])
def test_what_gc_command_took_with_its_links(tmp_path: Path, cuts: bool) -> None:
    """What went together with the links to it, as 3.x takes them, the registry is made to forget as well, and it is
    told of each once."""
    root, conf = tmp_path / "store/docker/registry/v2", tmp_path / "conf.json"
    digest = BLOB.digest
    for path, data in ((blob_path(digest), BLOB.data), (layer_path("app", digest), digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    takes = ["rm", "-r", str((root / blob_path(digest)).parent), str(root / "repositories/app/_layers/sha256")]
    with serve(Claiming()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        conf.write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": takes}))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([("app", digest)], cuts=cuts))
        assert [line for line in fake.seen if line.startswith("DELETE")] == [f"DELETE /v2/app/blobs/{digest}"]
    assert collected.errors == []
    assert collected.notes == ["the registry's cache was made to forget 1 blob that had been collected"]


def test_what_dangles_outside_of_what_may_be_touched(tmp_path: Path) -> None:
    """Where gc-command has taken something the registry is asked for nothing else that lies outside of
    registry.repositories, such as a link that an earlier collection left there."""
    root, conf, left = tmp_path / "store/docker/registry/v2", tmp_path / "conf.json", make_layer("left", 20).digest
    written = {layer_path(name, digest): digest.encode() for name, digest in (("app", BLOB.digest), ("other", left))}
    for path, data in (written | {blob_path(BLOB.digest): BLOB.data}).items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    takes = ["rm", "-r", str((root / blob_path(BLOB.digest)).parent)]
    with serve(FakeRegistry()) as fake:
        fake.on(f"HEAD /v2/other/blobs/{left}", Reply(200), forever=True)
        registry = {"url": fake.url, "base_path": str(tmp_path / "store"), "repositories": ["app"]}
        conf.write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": takes}))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([("app", BLOB.digest)]))
        assert not [line for line in fake.seen if "/v2/other/" in line]
    assert (collected.errors, collected.freed) == ([], {BLOB.digest: len(BLOB.data)})


class Unsure(FakeRegistry):
    """It does not say whether it has a blob in a repository that is made up."""

    def answer(self, method: str, target: str) -> Reply:
        return error_reply(400) if "regdata-probe-" in target else super().answer(method, target)


def test_who_breaks_off_when_asked_what_the_cache_knows(tmp_path: Path) -> None:
    """Where the registry fails while it is asked after gc-command, that is an error with its cure, and what was freed
    is told all the same."""
    root, conf = tmp_path / "store/docker/registry/v2", tmp_path / "conf.json"
    data = root / blob_path(BLOB.digest)
    data.parent.mkdir(parents=True)
    data.write_bytes(BLOB.data)
    (root / "repositories/app/_layers").mkdir(parents=True)
    with serve(Unsure()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        conf.write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": ["rm", str(data)]}))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([]))
    (error,) = collected.errors
    assert "Its cache may go on claiming what was collected" in error
    assert (collected.ran, collected.freed) == (True, {BLOB.digest: len(BLOB.data)})


def test_put_off_and_not_started_again(tmp_path: Path) -> None:
    """Where the store can't be read after gc-before gc-command is not run, and the run tells that, and what came of
    gc-after: the registry may still be stopped."""
    conf, ran, url = tmp_path / "conf.json", tmp_path / "ran", "http://127.0.0.1:1"
    commands = {"gc-command": ["touch", str(ran)], "gc-after": ["false"]}
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}} | commands))
    config = load_config(conf)
    record = Record.open(config, sql_id="x", action="del")

    def ready() -> Goes:
        raise StorageError("the disk is away")

    collected = collect(config, ApiSite(Api(Registry(url)), tmp_path, start_time=0), record, ready)
    told = [error.partition(":")[0] for error in collected.errors]
    assert told == ["the disk is away", "gc-after failed with exit code 1"]
    assert (collected.ran, ran.exists()) == (False, False)


@pytest.mark.parametrize("began", [True, False])
def test_gc_after_of_a_killed_run(tmp_path: Path, began: bool) -> None:
    """The next run runs gc-after where the killed one had begun with the commands, and tells that it failed; where it
    had not, the registry was never stopped, and is left alone."""
    conf, ran = tmp_path / "conf.json", tmp_path / "ran"
    with serve(FakeRegistry()) as fake:
        commands = {"gc-command": ["true"], "gc-after": ["sh", "-c", f"touch {ran}; exit 5"]}
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}} | commands))
        config = load_config(conf)
        killed, record = (Record.open(config, sql_id=name, action="del") for name in ("killed", "next"))
        killed.journal({"event": "deleting", "image": "app", "digest": BLOB.digest, "media_type": "m"})
        if began:
            killed.journal({"event": "running", "step": "gc-before"})
        told = recover(config, ApiSite(Api(Registry(fake.url)), tmp_path), PastRun(killed.folder), record)
    assert [error.partition(":")[0] for error in told] == ["gc-after failed with exit code 5"] * began
    assert ran.exists() is began


@pytest.mark.parametrize(
    ("cleared", "left", "told"),
    [
        ([], [], ""),
        (["1", "2"], [], "2 of 4 collected blobs from its cache (such as 1). It was made to forget them, but"),
        (["1", "2"], ["3"], "1 of 4 collected blobs from its cache (such as 3), whatever it is told: the next push"),
    ],
)
def test_what_is_said_of_a_cache(cleared: list[str], left: list[str], told: str) -> None:
    """What the cache goes on claiming is counted and named, of all that was asked for, and not what it forgot; where
    it forgot all, that is said, and why it is no good."""
    assert [told in error for error in Claimed(4, cleared, left).error] == [True] * bool(told)


def test_what_is_said_of_blobs_that_stay() -> None:
    """Over the API it is told how many of those that were to be freed are still stored, and one of them."""
    (note,) = held([("app", "1"), ("app", "2"), ("lib", "3")], [("app", "2")])
    assert note.startswith("1 of 3 blobs that were to be freed are still stored, such as 2: ")


@pytest.mark.parametrize(
    ("before", "after"),
    [(["true"], ["false"]), (["false"], ["false"]), (["false"], None)],
    ids=["collected", "put off", "put off, no gc-after"],
)
def test_nobody_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[str], after: list[str] | None
) -> None:
    """A registry that does not answer is not waited for, a minute, where gc-after failed or there is none: nobody has
    started it."""
    conf, url, waits = tmp_path / "conf.json", "http://127.0.0.1:1", list[float]()
    commands = {"gc-before": before, "gc-command": ["true"], "gc-after": after}
    conf.write_text(json.dumps({"registry": {"url": url}, "sql": {}} | commands))
    config = load_config(conf)
    record = Record.open(config, sql_id="x", action="del")

    mine, really = threading.current_thread(), time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread() is not mine:  # somebody else's, of another test
            return really(seconds)
        waits.append(seconds)
        raise CleanupError("it is waited for")

    monkeypatch.setattr(time, "sleep", sleep)
    with suppress(CleanupError):
        collect(config, ApiSite(Api(Registry(url)), tmp_path), record, lambda: Goes([]))
    assert waits == []


@pytest.mark.parametrize(("failures", "told"), [(2, []), (9, ["the registry does not answer after the collection: "])])
def test_a_registry_that_answers_late_after_a_killed_run(tmp_path: Path, failures: int, told: list[str]) -> None:
    """The registry, which gc-after may have started this moment, has the time to answer for what a killed run had
    collected; where it does not, that is an error."""
    conf = tmp_path / "conf.json"
    with serve(FakeRegistry()) as fake:
        fake.on("GET /v2/", *[Reply(500)] * failures)
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(conf)
        killed, record = (Record.open(config, sql_id=name, action="del") for name in ("killed", "next"))
        killed.journal({"event": "running", "step": "gc-command"})
        site = ApiSite(Api(Registry(fake.url)), tmp_path, start_time=1)
        errors = recover(config, site, PastRun(killed.folder), record)
    assert [error[: len(start)] for error, start in zip(errors, told, strict=True)] == told


@pytest.mark.parametrize(("step", "runs"), [("gc-before", True), ("gc-command", True), ("gc-after", False)])
def test_whether_a_killed_run_started_the_registry(tmp_path: Path, step: str, runs: bool) -> None:
    """The next run runs gc-after unless that itself had ended well: what had ended well before it started nothing, and
    a registry that is up is not restarted amid pushes."""
    conf, ran = tmp_path / "conf.json", tmp_path / "ran"
    with serve(FakeRegistry()) as fake:
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}, "gc-after": ["touch", str(ran)]}))
        config = load_config(conf)
        killed, record = (Record.open(config, sql_id=name, action="del") for name in ("killed", "next"))
        killed.journal({"event": "running", "step": step}, {"event": "ran", "step": step, "exit_code": 0})
        assert recover(config, ApiSite(Api(Registry(fake.url)), tmp_path), PastRun(killed.folder), record) == []
    assert ran.exists() is runs


@pytest.mark.parametrize(
    ("kind", "ends", "told"),
    [(FakeRegistry, "true", []), (FakeRegistry, "false", ["gc-command failed"]), (Claiming, "true", ["the registry"])],
    ids=["still stored", "failed", "claimed"],
)
def test_what_a_collection_by_the_api_notes(
    tmp_path: Path, kind: type[FakeRegistry], ends: str, told: list[str]
) -> None:
    """By the API, of 3.x too, a note says that blobs are still stored; where there is an error, which says more, there
    is none: neither that nor that the cache was made to forget some."""
    conf = tmp_path / "conf.json"
    with serve(kind()) as fake:
        fake.blobs = {BLOB.digest: BLOB.data} if kind is FakeRegistry else {}
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}, "gc-command": [ends]}))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([("app", BLOB.digest)], cuts=True))
    assert (collected.ran, collected.freed) == (True, None)
    assert [error[: len(start)] for error, start in zip(collected.errors, told, strict=True)] == told
    assert ["are still stored" in note for note in collected.notes] == [True] * (not told)


def test_nothing_taken_and_nobody_answers(tmp_path: Path) -> None:
    """Where a command failed and nothing was taken the registry is asked for nothing: that it does not answer, since
    gc-after did not start it, is no other error."""
    (tmp_path / "store/docker/registry/v2").mkdir(parents=True)
    conf, base = tmp_path / "conf.json", str(tmp_path / "store")
    commands = {"gc-command": ["true"], "gc-after": ["false"]}
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1", "base_path": base}, "sql": {}} | commands))
    config = load_config(conf)
    record = Record.open(config, sql_id="x", action="del")
    collected = collect(config, Site.open(config, start_time=0), record, lambda: Goes([("app", BLOB.digest)]))
    assert [error.partition(":")[0] for error in collected.errors] == ["gc-after failed with exit code 1"]
    assert collected.freed == {}


@pytest.mark.parametrize("whole", [False, True])
def test_what_goes_on_being_claimed_is_told_once(tmp_path: Path, whole: bool) -> None:
    """A blob that a repository had linked, and that the cache claims whatever it is told, is one error: it is none of
    those that nobody linked, be it that gc-command took the repository as a whole."""
    root, conf, digest = tmp_path / "store/docker/registry/v2", tmp_path / "conf.json", BLOB.digest
    for path, data in ((blob_path(digest), BLOB.data), (layer_path("app", digest), digest.encode())):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    takes = [str((root / blob_path(digest)).parent), *([str(root / "repositories/app")] if whole else [])]
    with serve(FakeRegistry()) as fake:
        fake.blobs[digest] = BLOB.data
        fake.on(f"DELETE /v2/app/blobs/{digest}", Reply(202))
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        conf.write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": ["rm", "-r", *takes]}))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([("app", digest)], cuts=True))
    (error,) = collected.errors
    assert "whatever it is told: the next push" in error


@pytest.mark.parametrize(("among", "removed"), [(None, ["a", "b"]), ({"b"}, ["b"]), ((), [])])
def test_empty_repositories_among_some(tmp_path: Path, among: Collection[str] | None, removed: list[str]) -> None:
    """Of empty repositories those alone are removed that are among what is meant, and none where nothing is."""
    store, conf = tmp_path / "store", tmp_path / "conf.json"
    for name in ("a", "b"):
        (store / f"docker/registry/v2/repositories/{name}/_layers").mkdir(parents=True)
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(load_config(conf), sql_id="x", action="del")
    site = StoreSite(Registry("http://127.0.0.1:1"), Storage(store))
    assert remove_empty(site, record, before=site.now, among=among) == removed
    assert {path.name for path in (store / "docker/registry/v2/repositories").iterdir()} == {"a", "b"} - {*removed}


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_written_down_of_empty_repositories(tmp_path: Path, fails: bool) -> None:
    """The journal names what is to be removed before that, and then what was, also where the next one can't be."""
    store, conf = tmp_path / "store", tmp_path / "conf.json"

    class Kept(Storage):
        def remove_repository(self, name: str, *, before: int) -> bool:
            if name == "b" and fails:
                raise StorageError("b can't be removed")
            assert [event["image"] for event in PastRun(record.folder).events("removing repository")] == ["a", "b"]
            return name != "b" and super().remove_repository(name, before=before)

    for name in ("a", "b"):
        (store / f"docker/registry/v2/repositories/{name}/_layers").mkdir(parents=True)
    conf.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    record = Record.open(load_config(conf), sql_id="x", action="del")
    site = StoreSite(Registry("http://127.0.0.1:1"), Kept(store))
    with pytest.raises(StorageError) if fails else nullcontext():
        assert remove_empty(site, record, before=site.now) == ["a"]
    assert [event["image"] for event in PastRun(record.folder).events("removed repository")] == ["a"]


def test_a_manifest_that_lands_before_its_repository_is_closed(tmp_path: Path) -> None:
    """Where a push ends right before an empty repository is closed, the registry is not told to forget its layers: that
    would take their links away."""
    store, conf, manifest = tmp_path / "store", tmp_path / "conf.json", f"sha256:{'ab' * 32}"
    root = store / "docker/registry/v2"
    link, revision = root / layer_path("app", BLOB.digest), root / revision_path("app", manifest)
    link.parent.mkdir(parents=True)
    link.write_text(BLOB.digest)
    age(store, 3 * 86400)

    class Pushed(Storage):
        def close_repository(self, name: str, *, before: int) -> bool:
            revision.parent.mkdir(parents=True)
            revision.write_text(manifest)
            return super().close_repository(name, before=before)

    with serve(FakeRegistry()) as fake:
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        record = Record.open(load_config(conf), sql_id="x", action="del")
        site = StoreSite(Registry(fake.url), Pushed(store))
        assert remove_empty(site, record, before=site.now) == []
        assert fake.seen == []
    assert link.exists()


class Reading(FakeRegistry):
    """Without a cache: it has the blobs whose links are in its folder ``root``."""

    root: Path

    def answer(self, method: str, target: str) -> Reply:
        name, found, digest = target.removeprefix("/v2/").partition("/blobs/")
        if not found or method != "HEAD":
            return super().answer(method, target)
        return Reply(200 if (self.root / layer_path(name, digest)).exists() else 404)


def test_what_gc_after_is_tried_with(tmp_path: Path) -> None:
    """Whether gc-after restarts the registry is tried out in a repository that registry.repositories means, and what is
    written for that is announced in the journal, for the next run to remove; nothing is left of it."""
    registry, conf = Reading(), tmp_path / "conf.json"
    registry.root = tmp_path / "store/docker/registry/v2"
    for name in ("a", "b"):
        (registry.root / f"repositories/{name}/_layers").mkdir(parents=True)
    with serve(registry) as fake:
        reach = {"url": fake.url, "base_path": str(tmp_path / "store"), "repositories": ["b"]}
        commands = {"gc-command": ["true"], "gc-after": ["true"]}
        conf.write_text(json.dumps({"registry": reach, "sql": {}} | commands))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        assert collect(config, Site.open(config), record, lambda: Goes([])).errors == []
    assert [*PastRun(record.folder).probes.values()] == [["b"]]
    assert not [path for path in registry.root.rglob("*") if path.is_file()]


def test_manifests_bytes_that_a_failing_gc_command_took(tmp_path: Path) -> None:
    """Where gc-command fails, manifests' bytes are back, and not counted as freed, also where gc-after restarted the
    registry."""
    registry, conf = Reading(), tmp_path / "conf.json"
    registry.root = tmp_path / "store/docker/registry/v2"
    data = registry.root / blob_path(BLOB.digest)
    data.parent.mkdir(parents=True)
    data.write_bytes(BLOB.data)
    (registry.root / "repositories/a/_layers").mkdir(parents=True)
    with serve(registry) as fake:
        commands = {"gc-command": ["sh", "-c", f"rm {data}; exit 3"], "gc-after": ["true"]}
        reach = {"url": fake.url, "base_path": str(tmp_path / "store")}
        conf.write_text(json.dumps({"registry": reach, "sql": {}} | commands))
        config = load_config(conf)
        record = Record.open(config, sql_id="x", action="del")
        collected = collect(config, Site.open(config), record, lambda: Goes([], [BLOB.digest]))
    assert (len(collected.errors), collected.freed, [*collected.spared]) == (1, {}, [BLOB.digest])
    assert data.read_bytes() == BLOB.data


class Failing(FakeRegistry):
    """It answers nothing in a repository that is made up."""

    def answer(self, method: str, target: str) -> Reply:
        return error_reply(400) if "regdata-probe-" in target else super().answer(method, target)


def test_a_registry_that_fails_to_say_what_its_cache_knows(tmp_path: Path) -> None:
    """That a registry fails is an error, and no sign that its cache claims a blob; nothing is left of the question."""
    repositories = tmp_path / "docker/registry/v2/repositories"
    repositories.mkdir(parents=True)
    with serve(Failing()) as fake, pytest.raises(RegistryError, match="HTTP 400"):
        known(Claims(Registry(fake.url)), Storage(tmp_path), [BLOB.digest])
    assert not list(repositories.iterdir())


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_blob_that_several_had(tmp_path: Path, stubborn: bool) -> None:
    """Of a blob that was linked in several repositories it is said once that the cache claimed it, and may still."""
    with serve(FakeRegistry()) as fake:
        for name in ("app", "lib"):
            fake.tags[name] = {}
            claims = f"HEAD /v2/{name}/blobs/{BLOB.digest}"
            fake.on(claims, Reply(200, headers={"Docker-Content-Digest": BLOB.digest}), forever=stubborn)
        claimed, _ = clear(ApiSite(Api(Registry(fake.url)), tmp_path), [("app", BLOB.digest), ("lib", BLOB.digest)])
        found = ([], [BLOB.digest]) if stubborn else ([BLOB.digest], [])
        assert (claimed.asked, [*claimed.cleared], [*claimed.left]) == (1, *found)
