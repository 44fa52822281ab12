"""Asking for what a collection took, where others push meanwhile: a registry that answers as a test wants."""

from __future__ import annotations

from pathlib import Path

from regdata.collecting.aftermath import clear
from regdata.collecting.unlinked import known
from regdata.demo.samples import make_layer
from regdata.sources.api import Api
from regdata.sources.claims import Claims
from regdata.sources.paths import layer_path
from regdata.sources.registry import Registry
from regdata.sources.site import ApiSite, StoreSite
from regdata.sources.storage import Storage
from tests.support.fakes import FakeRegistry, error_reply, serve
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
