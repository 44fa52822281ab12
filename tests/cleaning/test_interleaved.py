"""Pushes of all kinds between any two requests of a clean-up over the API: whatever was accepted pulls at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import regdata
from regdata.config import Config
from regdata.demo.samples import Image, make_image, make_index, make_layer, make_referrer
from regdata.errors import StorageError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from tests.support.fakes import FakeRegistry, error_reply
from tests.support.server import Reply, Request, serving

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "40"))
BASE = make_layer("base", 40)
ONE, TWO, THREE, AMD, ARM, KEPT = (make_image([BASE, make_layer(n, 40)], created=n, oci=True) for n in range(1, 7))
INDEX = make_index([AMD, ARM])
AT_FIRST = {"old-1": ONE, "old-2": TWO, "old-2b": TWO, "old-3": THREE, "stays": THREE, "old-4": INDEX, "kept": KEPT}
GOING = [ONE, TWO, THREE, INDEX, AMD, ARM]


class Push(NamedTuple):
    """Of a tag; ``at``: before which request of the run, or which of its DELETEs; ``late``: it is answered so many
    requests after it was found that all that it refers to is there."""

    tag: str
    image: Image
    at: int
    of_deletes: bool
    late: int

    def __repr__(self) -> str:  # not an image's bytes
        return f"Push({self.tag!r}, {self.image.manifest!r:.4000}, {self.at}, {self.of_deletes}, {self.late})"


@st.composite
def pushes(draw: st.DrawFn) -> list[Push]:
    """A few, onto what goes or of what needs that, and of tags that go."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        going = draw(st.sampled_from(GOING))
        kinds = [(f"new-{number}", going), (f"new-{number}", make_index([going])), ("old-1", KEPT), ("old-4", AMD)]
        kinds.append((f"new-{number}", make_referrer(going)))
        tag, image = draw(st.sampled_from(kinds))
        of_deletes = draw(st.booleans())
        at = draw(st.integers(0, 7 if of_deletes else 70))
        made.append(Push(tag, image, at, of_deletes, draw(st.sampled_from([0, 0, 0, 1, 3]))))
    return made


class Busy(FakeRegistry):
    """Others push while it is asked; ``accepted``: their tags. What they push onto a digest after the last look at the
    tags before its DELETE can't be seen by anybody: ``unseen``; likewise what they push to a tag after the last look at
    that: ``unasked``. ``raced``: what they pushed right after its DELETE, before anybody looked: it may be told that it
    is still there."""

    def begin(self, pushes: Sequence[Push]) -> None:
        self.manifests, self.tags, self.seen = {}, {}, []
        for tag, image in AT_FIRST.items():
            self.push("app", tag, image)
        self.waiting = list(pushes)
        self.accepted: dict[str, Image] = {}
        self.unseen: dict[str, Image] = {}
        self.unasked: set[str] = set()
        self.raced: set[str] = set()
        self.known = {image.manifest: image for push in pushes for image in _all(push.image)}
        self.known |= {image.manifest: image for first in AT_FIRST.values() for image in _all(first)}

    def reply(self, request: Request) -> Reply:
        deletes = sum(line.startswith("DELETE") for line in self.seen)
        for push in list(self.waiting):
            if (push.of_deletes and request.method == "DELETE" and deletes == push.at) or (
                not push.of_deletes and len(self.seen) == push.at
            ):
                self.waiting.remove(push)
                self._begun(push)
        reply = self._put(request) if request.method == "PUT" else self.answer(request.method, request.target)
        if "/tags/list" in request.target:
            self.unseen = {}
        reference = request.target.rpartition("/")[2]
        if request.method == "HEAD":
            self.unasked.discard(reference)
        if request.method == "DELETE" and reply.status == 202:
            if reference in self.unasked:
                del self.accepted[reference]
            for tag, image in self.unseen.items():
                if image.digest == reference and self.accepted.get(tag) == image:
                    del self.accepted[tag]
        return reply

    def _begun(self, push: Push) -> None:
        """Its client brings what is not there; a late one is inside the registry by then."""
        self._race(push)
        had = push.image.digest in self.manifests["app"]
        self.push("app", None, push.image)
        if not push.late:
            return self._done(push)
        if not had:
            del self.manifests["app"][push.image.digest]
        self.waiting.append(push._replace(at=len(self.seen) + push.late, of_deletes=False, late=0))

    def _race(self, push: Push) -> None:
        last = self.seen[-1] if self.seen else ""
        self.raced |= {one.digest for one in _all(push.image) if last == f"DELETE /v2/app/manifests/{one.digest}"}

    def _done(self, push: Push) -> None:
        self._race(push)
        self.manifests["app"][push.image.digest] = push.image
        self.tags["app"][push.tag] = push.image.digest
        self.accepted[push.tag] = self.unseen[push.tag] = push.image
        self.unasked.add(push.tag)

    def _put(self, request: Request) -> Reply:
        image = self.known[request.body]
        if any(child.digest not in self.manifests["app"] for child in image.children):
            return error_reply(400, "MANIFEST_BLOB_UNKNOWN")
        self.manifests["app"][image.digest] = image
        return Reply(201)

    @property
    def broken(self) -> list[str]:
        """Tags that were accepted, or never to go, and are not whole."""
        wanted = {tag: image for tag, image in AT_FIRST.items() if not tag.startswith("old")} | self.accepted
        return [
            tag
            for tag, image in wanted.items()
            if self.tags["app"].get(tag) != image.digest
            or any(one.digest not in self.manifests["app"] for one in _all(image))
        ]


def _all(image: Image) -> list[Image]:
    return [image, *(one for child in image.children for one in _all(child))]


class Ground(NamedTuple):
    """The registry, the plan that deletes its old tags, and the config."""

    busy: Busy
    plan: regdata.Plan
    config: Config

    def __repr__(self) -> str:  # Hypothesis shows it with what fails
        return "Ground()"

    def begin(self, pushes: Sequence[Push]) -> None:
        """As if nothing had been run yet."""
        self.busy.begin(pushes)
        shutil.rmtree(self.config.reports, ignore_errors=True)


@pytest.fixture(scope="module", params=[False, True], ids=["2.x", "3.x"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder: Path = tmp_path_factory.mktemp("interleaved")
    busy = Busy(pages=request.param)
    busy.begin([])
    with serving(busy.reply) as busy.url:
        registry = {"url": busy.url, "requests": {"at_once": 1}}
        (folder / "conf.json").write_text(json.dumps({"registry": registry, "engine": "duckdb", "sql": {}}))
        config = regdata.load_config(folder)
        yield Ground(busy, regdata.plan(regdata.scan(config), "tag_name like 'old%'"), config)


@pytest.mark.long
@pytest.mark.slow
@settings(max_examples=max(EXAMPLES // 10, 5), deadline=None, suppress_health_check=list(HealthCheck))
@example(made=[Push("new-0", make_index([ONE]), 1, True, 0)], batch=200)  # whose child the cache knows
@example(made=[Push("new-0", INDEX, 4, True, 1)], batch=1)  # all that went without a tag is there again
@given(made=pushes(), batch=st.sampled_from([1, 2, 200]))
def test_whatever_was_accepted_pulls(ground: Ground, made: list[Push], batch: int) -> None:
    """New tags on what goes, indexes and referrers of it, tags that move, some of them inside the registry while it
    deletes: whatever was answered 201 is whole at the end, but for a tag that came after the last look before the
    DELETE of the very digest that it is on, or of the tag itself."""
    busy, plan, config = ground
    ground.begin(made)
    result = regdata.apply(plan, config, gc=False, batch=batch)
    assert busy.broken == []
    assert [error for error in result.errors if not any(digest in error for digest in busy.raced)] == []


def test_a_deletion_that_fails_after_a_push(ground: Ground) -> None:
    """Where deleting fails half-way, too, an index that came right before its child's DELETE gets the child back."""
    busy, plan, config = ground
    ground.begin([Push("new", make_index([ONE]), 1, True, 0)])
    busy.on(f"DELETE /v2/app/manifests/{INDEX.digest}", error_reply(403), forever=True)
    result = regdata.apply(plan, config, gc=False, batch=1)
    assert busy.broken == []
    assert len(result.errors) == 1
    busy.on(f"DELETE /v2/app/manifests/{INDEX.digest}")


def test_a_referrer_of_what_an_earlier_run_deleted(ground: Ground) -> None:
    """Gets that back once, if it has to: what has no tag is not seen over the API, and asked for."""
    busy, plan, config = ground
    ground.begin([])
    regdata.apply(plan, config, gc=False)
    with_signature = [Push("new", make_referrer(ONE), 1, True, 0)]
    busy.begin(with_signature)
    result = regdata.apply(plan, config, gc=False, batch=1)
    assert busy.broken == []
    assert result.errors == []
    assert sum(f"PUT /v2/app/manifests/{ONE.digest}" in line for line in busy.seen) <= 1


@pytest.mark.parametrize("has_referrers", [False, True], ids=["fallback tag", "referrers"])
@pytest.mark.parametrize("at", range(1, 5))
def test_a_push_beside_an_image_with_a_referrer(tmp_path: Path, at: int, has_referrers: bool) -> None:
    """Whenever it comes, it is no reason to leave either: without tags, nobody would find them again. A referrer of
    what stays, stays."""
    busy, sbom, other = Busy(pages=True, refers=has_referrers), make_referrer(ONE), make_referrer(KEPT)
    with serving(busy.reply) as busy.url:
        registry = {"url": busy.url, "requests": {"at_once": 1}}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "engine": "duckdb", "sql": {}}))
        config = regdata.load_config(tmp_path)
        busy.begin([Push("new", KEPT, at, True, 0)])
        for subject, referrer in ((ONE, sbom), (KEPT, other)):
            tag = None if has_referrers else subject.digest.replace(":", "-")
            busy.push("app", tag, referrer if has_referrers else make_index([referrer]))
        result = regdata.apply(
            regdata.plan(regdata.scan(config), "tag_name in ('old-1', 'old-2', 'old-2b')"), config, gc=False, batch=2
        )
    assert (busy.broken, result.errors) == ([], [])
    assert set(result.manifests["outcome"]) == {"deleted"}
    assert {ONE.digest, TWO.digest, sbom.digest}.isdisjoint(busy.manifests["app"])
    assert other.digest in busy.manifests["app"]


@pytest.mark.parametrize("batch", [2, 200])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_tag_that_moved_onto_a_child_of_what_it_was_on(ground: Ground, at: int, batch: int) -> None:
    """Whenever it moved, the child stays, and all else goes as it would have."""
    busy, plan, config = ground
    ground.begin([Push("old-4", AMD, at, True, 0)])
    result = regdata.apply(plan, config, gc=False, batch=batch)
    assert busy.broken == []
    assert result.errors == []
    assert {one.digest for one in (ONE, TWO)}.isdisjoint(busy.manifests["app"])


class Lands(Busy):
    """An index is linked when its child has just been deleted: it was found to be whole before that."""

    index = make_index([ONE])

    def answer(self, method: str, target: str) -> Reply:
        reply = super().answer(method, target)
        if (method, target) == ("DELETE", f"/v2/app/manifests/{ONE.digest}"):
            self.manifests["app"][self.index.digest] = self.accepted["late"] = self.index
            self.tags["app"]["late"] = self.index.digest
        return reply


def test_a_record_that_can_not_be_written_after_a_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is our own disk that ends the deletion, too, an index that came meanwhile gets its child back."""
    busy, save = Lands(), Record.save_manifest

    def full(record: Record, digest: str, data: bytes) -> None:
        if "late" in busy.accepted:
            raise StorageError("No space left on device")
        save(record, digest, data)

    monkeypatch.setattr(Record, "save_manifest", full)
    busy.begin([])
    with serving(busy.reply) as busy.url:
        registry = {"url": busy.url, "requests": {"at_once": 1}}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "engine": "duckdb", "sql": {}}))
        config = regdata.load_config(tmp_path)
        plan = regdata.plan(regdata.scan(config), "tag_name like 'old%'")
        result = regdata.apply(plan, config, gc=False, batch=1)
    assert "late" in busy.accepted
    assert busy.broken == []
    assert result.errors == ["No space left on device"]


def test_what_was_given_back_is_in_the_journal(ground: Ground) -> None:
    """By its journal, which is all that there is of a run that was killed, one has deleted as much as its record says:
    without what it gave back since something that was pushed needs it."""
    busy, plan, config = ground
    ground.begin([Push("new", make_index([ONE]), 6 if busy.pages else 1, True, 0)])  # right before its DELETE
    assert regdata.apply(plan, config, gc=False, batch=1).errors == []
    assert ONE.digest in busy.manifests["app"]
    (path,) = config.reports.glob("*/record.json")
    run = PastRun(path.parent)
    counts = run.counts(lambda *_: False)
    assert counts["manifests_deleted"] == run.facts["manifests_deleted"] < len(plan.manifests)


def test_what_was_put_back_is_told_once(tmp_path: Path) -> None:
    """What something pushed needs is looked for before a collection and after it, and told in one note."""
    busy = Lands()
    busy.begin([])
    with serving(busy.reply) as busy.url:
        registry = {"url": busy.url, "requests": {"at_once": 1}}
        settings = {"registry": registry, "engine": "duckdb", "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = regdata.load_config(tmp_path)
        result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name like 'old%'"), config, batch=1)
    assert busy.broken == []
    assert result.collection.ran
    assert [note.partition(":")[0] for note in result.notes if "put back" in note] == ["1 manifest put back"]
