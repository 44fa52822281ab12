"""What became of tags and manifests: the two are kept apart, and each row of a plan gets its word."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from regdata.cleaning.deletion import Deletion
from regdata.cleaning.order import Manifest, Tag
from regdata.cleaning.outcome import Members, Outcome
from regdata.cleaning.review import states
from regdata.cleaning.verification import verify_gone
from regdata.errors import RegistryError
from regdata.planning.plan import plan
from regdata.sources.columns import Columns
from regdata.sources.progress import now
from regdata.sources.source import Part
from tests.support.helpers import numbered
from tests.support.small import Small, digest


def outcome() -> Outcome:
    """Of a plan that deletes the tags 1, 2 and 3 of app, and the tag 1 of other, and keeps a protected one."""
    small = Small()
    for image, tag in (("app", "1"), ("app", "2"), ("app", "3"), ("app", "safe"), ("other", "1")):
        small.push(image, tag, days=9, layer=100)
    return Outcome(plan(small.inventory(), "1=1", protect="tag_name = 'safe'"))


def manifest(image: str, tag: str) -> Manifest:
    return Manifest(image, digest(f"{image}{tag}"))


def words(found: Outcome) -> dict[str, str]:
    """Each tag's outcome, and each manifest's by the tag that it was pushed with."""
    tags, manifests = found.tag_rows(), found.manifest_rows()
    said = dict(zip(tags["image_name"] + ":" + tags["tag_name"], tags["outcome"], strict=True))
    names = {manifest(*name.split(":")): name for name in said}
    for image, hash_, word in zip(
        manifests["image_name"], manifests["manifest_hash"], manifests["outcome"], strict=True
    ):
        said["@" + names[Manifest(image, hash_)]] = word
    return said


def test_nothing_done() -> None:
    """What was not done has failed, and all of the plan is left."""
    found = outcome()
    assert found.images == {"app", "other"}
    assert found.left("app") == Members({manifest("app", tag) for tag in "123"}, {Tag("app", tag) for tag in "123"})
    assert found.done("app") == Members(set(), set())
    assert found.progress == (0, 4)
    assert set(words(found).values()) == {"failed", "kept"}
    assert words(found)["app:safe"] == "kept"


def test_a_tag_goes_with_its_manifest() -> None:
    """A tag whose manifest was deleted is deleted, and not left; nothing else changes."""
    found = outcome()
    found.deleted.add(manifest("app", "1"))
    assert Tag("app", "1") not in found.left("app").tags
    assert found.left("app").manifests == {manifest("app", "2"), manifest("app", "3")}
    assert found.done("app").manifests == {manifest("app", "1")}
    assert found.progress == (1, 4)
    assert words(found)["app:1"] == words(found)["@app:1"] == "deleted"
    assert words(found)["app:2"] == "failed"


def test_a_tag_that_moved() -> None:
    """A tag that moved counts as a tag: its manifest may go all the same, and the progress counts manifests."""
    found = outcome()
    found.give_up(Members(set(), {Tag("app", "1")}))
    found.deleted.add(manifest("app", "1"))
    assert (words(found)["app:1"], words(found)["@app:1"]) == ("moved", "deleted")
    assert found.progress == (1, 4)


def test_a_manifest_that_moved() -> None:
    """A manifest that is left alone leaves its tag alone."""
    found = outcome()
    found.give_up(Members({manifest("app", "2")}, set()))
    assert words(found)["app:2"] == words(found)["@app:2"] == "moved"
    assert manifest("app", "2") not in found.left("app").manifests
    assert found.left("other") == Members({manifest("other", "1")}, {Tag("other", "1")})


def test_tags_that_go_alone() -> None:
    """A tag that shares its digest is untagged, kept or put back, and its digest is no manifest that goes."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    small.row("tags", image_name="app", tag_name="2", tag_hash=digest("app1"), pushed=0)
    found = Outcome(plan(small.inventory(), "tag_name = '1'"))
    assert (found.alone, found.planned) == ([Tag("app", "1")], set())
    assert words(found) == {"app:1": "failed"}
    found.untagged.add(Tag("app", "1"))
    assert (words(found), found.left("app")) == ({"app:1": "untagged"}, Members(set(), set()))
    assert found.done("app").tags == {Tag("app", "1")}
    found.put_back({Tag("app", "1")})
    assert (words(found), found.done("app").tags, found.gone) == ({"app:1": "moved"}, set(), ({}, set()))
    found.moved_tags.clear()
    found.kept.add(Tag("app", "1"))
    assert (words(found), found.left("app")) == ({"app:1": "kept"}, Members(set(), set()))


def test_a_tag_that_was_taken() -> None:
    """A tag that was taken before its manifest is no tag that moved, whatever becomes of the manifest after that."""
    found = outcome()
    found.taken |= {Tag("app", "1"), Tag("app", "2")}
    found.deleted.add(manifest("app", "1"))
    found.give_up(Members({manifest("app", "2")}, {Tag("app", "2")}))
    assert (words(found)["app:1"], words(found)["@app:1"]) == ("deleted", "deleted")
    assert (words(found)["app:2"], words(found)["@app:2"]) == ("untagged", "moved")
    assert found.going_with_manifests("app") == {Tag("app", "3"): manifest("app", "3").digest}


def test_what_was_put_back() -> None:
    """A manifest that was put back has moved; so have its tags that are there, and the others are gone."""
    found = outcome()
    found.taken.add(Tag("app", "2"))
    found.deleted |= {manifest("app", tag) for tag in "12"}
    for tag in "12":
        found.revive(manifest("app", tag), {("app", "1")})
    assert (words(found)["app:1"], words(found)["@app:1"]) == ("moved", "moved")
    assert (words(found)["app:2"], words(found)["@app:2"]) == ("untagged", "moved")


def test_what_was_put_back_without_its_tags() -> None:
    """Of several tags of a manifest that was put back all are gone that are not there."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    for tag in ("2", "3"):
        small.row("tags", image_name="app", tag_name=tag, tag_hash=digest("app1"), pushed=0)
    found = Outcome(plan(small.inventory(), "1=1"))
    found.deleted.add(manifest("app", "1"))
    found.revive(manifest("app", "1"), {("app", "2")})
    assert words(found) == {"app:1": "untagged", "app:2": "moved", "app:3": "untagged", "@app:1": "moved"}


def test_what_should_be_gone() -> None:
    """Tags with the digests that they were on, however they went, and those manifests that no tag was on."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    small.push("app", "2", days=9, layer=100)
    small.push("app", None, days=9, layer=100)
    small.row("tags", image_name="app", tag_name="same", tag_hash=digest("app1"), pushed=0)
    found = Outcome(plan(small.inventory(), "tag_name in ('1', '2')"))
    assert found.gone == ({}, set())
    found.untagged.add(Tag("app", "1"))
    found.deleted |= {manifest("app", "2"), manifest("app", "None")}
    tags = {Tag("app", "1"): digest("app1"), Tag("app", "2"): digest("app2")}
    assert found.gone == (tags, {manifest("app", "None")})


def test_what_was_never_gone() -> None:
    """A tag that the registry kept, and what it is on, are not deleted; what else went is."""
    found = outcome()
    found.untagged.add(Tag("app", "3"))
    found.deleted |= {manifest("app", "1"), manifest("app", "2"), manifest("other", "1")}
    found.fail({("app", "1"), ("app", "3"), ("other", digest("other1"))})
    assert found.deleted == {manifest("app", "2")}
    assert {words(found)[name] for name in ("app:1", "@app:1", "app:3", "other:1", "@other:1")} == {"failed"}
    assert words(found)["app:2"] == words(found)["@app:2"] == "deleted"


def test_a_tag_that_is_on_what_was_put_back() -> None:
    """A tag that was taken, and is there again when its manifest is put back, did not go."""
    found = outcome()
    found.taken |= {Tag("app", "1"), Tag("app", "2")}
    found.deleted.add(manifest("app", "1"))
    found.revive(manifest("app", "1"), {("app", "1")})
    assert (words(found)["app:1"], words(found)["@app:1"]) == ("moved", "moved")
    assert found.taken == {Tag("app", "2")}


def test_what_was_given_up_is_not_gone() -> None:
    """Of what changed since the scan, and so stays, nothing counts as gone: no tag of it comes again."""
    found = outcome()
    found.deleted.add(manifest("app", "1"))
    found.give_up(Members({manifest("app", "2")}, {Tag("app", "2")}))
    assert found.done("app") == Members({manifest("app", "1")}, set())
    assert found.tags_gone("app") == {Tag("app", "1")}


NOTHING: Mapping[str, object] = {}


def small_run(
    outcome: Outcome,
    *,
    tags: Mapping[str, object] = NOTHING,
    can: int = 4,
    changing: Collection[str] = (),
    store: Small | None = None,
) -> tuple[Deletion, list[list[dict[str, Any]]], list[int]]:
    """The deletion of a plan where nothing else changes, which waits to be run; the lines of its journal, as they are
    written, and how many manifests were on their way at each DELETE. ``tags``: what comes of it where these are to be
    taken away, an error maybe; ``can``: requests at once; ``changing``: digests that are pushed all the time;
    ``store``: what is read then."""
    scanned = states(outcome.plan.inventory, outcome.images)
    lines: list[list[dict[str, Any]]] = []
    busy, at_once = [0], list[int]()

    def delete(image: str, digest: str) -> bool:
        busy[0] += 1
        at_once.append(busy[0])
        time.sleep(0.02)
        busy[0] -= 1
        return True

    def untag(image: str, tag: str, *_: object) -> object:
        became = tags.get(tag, True)
        if isinstance(became, BaseException):
            raise became
        return became

    def state(image: str) -> tuple[dict[str, str | None], frozenset[str]]:
        named, revisions = scanned[image]
        went = {tag.name for tag in outcome.tags_gone(image)}
        left = revisions - {one.digest for one in outcome.deleted if one.image == image}
        return {tag: digest for tag, digest in named.items() if tag not in went}, left

    def read(part: Part) -> Columns:
        made = store or Small()
        for image in () if store else part.repositories:
            there = state(image)[0]
            for tag in scanned[image][0]:
                made.push(image, tag, days=9, layer=100)
            tags = made.columns["tags"]
            stay = [number for number, tag in enumerate(tags["tag_name"]) if tag in there]
            tags.update({name: [cells[number] for number in stay] for name, cells in tags.items()})
        return numbered(made.columns)

    site: Any = SimpleNamespace(
        batch=200,
        from_store=True,
        untag=untag,
        registry=SimpleNamespace(workers=can, delete=delete, keeps=lambda *manifest: False),
        source=SimpleNamespace(
            state=state,
            glance=lambda *_: lambda going: going.digest not in changing,
            manifests=lambda wanted: {},
            read=read,
        ),
    )
    record: Any = SimpleNamespace(
        journal=lambda *events: lines.append([*events]), save_manifest=lambda digest, data: None
    )
    return Deletion(outcome, site, record), lines, at_once


def many(number: int) -> Outcome:
    """Of a plan that deletes so many tags of app."""
    small = Small()
    for tag in range(number):
        small.push("app", str(tag), days=9, layer=100)
    return Outcome(plan(small.inventory(), "1=1"))


def test_as_many_at_a_time_as_was_said() -> None:
    """Who says how many manifests may go between two looks is heard, however many are to go."""
    deletion, lines, _ = small_run(many(45))
    assert deletion.run(batch=1) == []
    assert [len(events) for events in lines if events and events[0]["event"] == "deleting"] == [1] * 45


def test_no_more_requests_at_once_than_were_allowed() -> None:
    """Manifests are deleted so many at once as registry.requests allows, and no more."""
    for can in (1, 3):
        deletion, _, at_once = small_run(many(6), can=can)
        assert deletion.run() == []
        assert max(at_once) <= can


def test_how_far_the_deletion_is() -> None:
    """What is shown of how far it is counts what is decided, once: what goes and what was given up, batch by batch."""
    found = many(6)
    found.give_up(Members({manifest("app", "3")}, {Tag("app", "3")}))
    shown: list[tuple[int, int]] = []
    deletion, _, _ = small_run(found)
    now.begin("deleting", "manifests", 6)
    assert deletion.run(batch=2, progress=lambda done, total: shown.append((done, now.done))) == []
    assert shown == [(3, 0), (4, 3), (6, 4)]
    assert str(now).startswith("deleting: 6 of 6 manifests")


def events_of(lines: list[list[dict[str, Any]]], *kinds: str) -> list[dict[str, Any]]:
    return [event for written in lines for event in written if event["event"] in kinds]


def sharing(*tags: str) -> Outcome:
    """Of a plan that takes these tags from a digest that stays."""
    small = Small()
    small.push("app", "stays", days=9, layer=100)
    for tag in tags:
        small.row("tags", image_name="app", tag_name=tag, tag_hash=digest("appstays"), pushed=0)
    return Outcome(plan(small.inventory(), "tag_name <> 'stays'"))


@pytest.mark.parametrize("error", [RegistryError("DELETE: HTTP 403"), KeyboardInterrupt()], ids=["refused", "Ctrl-C"])
def test_what_went_alone_before_it_ended(error: BaseException) -> None:
    """The journal says which tags went alone, also where the next one was refused, or the run was interrupted; and what
    stopped it."""
    deletion, lines, _ = small_run(sharing("1", "2", "3"), tags={"2": error})
    with pytest.raises(KeyboardInterrupt) if isinstance(error, KeyboardInterrupt) else nullcontext():
        assert deletion.run() == ["DELETE: HTTP 403"]
    assert [event["tag"] for event in events_of(lines, "untagged")] == ["1"]
    stopped = [event["error"] for event in events_of(lines, "stopped")]
    assert stopped == (["DELETE: HTTP 403"] if isinstance(error, RegistryError) else [])


def test_each_image_is_begun_with_once() -> None:
    """Before anything of an image goes the journal says what is to go of all of it, once, however many batches that
    takes: a run that is killed after that is finished."""
    deletion, lines, _ = small_run(outcome())
    assert deletion.run(batch=1) == []
    begun = [(event["image"], set(event["digests"])) for event in events_of(lines, "beginning")]
    going = (("app", "123"), ("other", "1"))
    assert begun == [(name, {manifest(name, tag).digest for tag in tags}) for name, tags in going]


def test_a_tag_that_is_not_taken_keeps_its_manifest() -> None:
    """Where a tag has moved, or was pushed again, when it is to be taken before its manifest, both stay."""
    deletion, lines, _ = small_run(outcome(), tags={"2": False})
    assert deletion.run() == []
    found = words(deletion.outcome)
    assert [name for name, word in found.items() if word == "moved"] == ["app:2", "@app:2"]
    assert {event["name"] for event in events_of(lines, "moved")} == {"2", manifest("app", "2").digest}


def test_a_tag_that_does_not_go_alone() -> None:
    """Of a tag that has moved when it is to go alone it alone counts as moved: its digest was to stay anyway."""
    deletion, lines, _ = small_run(sharing("1", "2"), tags={"1": False})
    assert deletion.run() == []
    assert words(deletion.outcome) == {"app:1": "moved", "app:2": "untagged"}
    assert [event["name"] for event in events_of(lines, "moved")] == ["1"]
    assert deletion.outcome.progress == (0, 0)


def test_tags_that_were_taken_before_one_that_can_not() -> None:
    """Where a registry deletes tags alone in some repositories only, the journal says which ones were taken before
    that was known; the others go with their manifests."""
    deletion, lines, _ = small_run(outcome(), tags={"3": None})
    assert deletion.run() == []
    assert [event["tag"] for event in events_of(lines, "taken")] == ["1", "2"]
    assert set(words(deletion.outcome).values()) == {"deleted", "kept"}


def test_children_of_an_index_that_is_pushed_all_the_time() -> None:
    """An index that is pushed again whenever it is to go stays after some looks, and what it lists stays with it."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    for name, listed in (("index", "app1"), ("other", "")):
        small.row("contents", manifest_hash=digest(name), media_type="m", manifest_size=1, kind="index")
        small.row("revisions", image_name="app", manifest_hash=digest(name), pushed=0)
        small.row("tags", image_name="app", tag_name=name, tag_hash=digest(name), pushed=0)
        row = {"manifest_hash": digest(name), "reference_hash": digest(listed), "reference_size": 1}
        small.row("references", reference_kind="manifest", **row)
    planned = plan(small.inventory(), "1=1")
    deletion, lines, _ = small_run(Outcome(planned), changing=[digest("index")], store=small)
    assert deletion.run() == []
    assert {manifest.digest for manifest in deletion.outcome.deleted} == {digest("other")}
    assert digest("app1") not in {event["digest"] for event in events_of(lines, "deleting")}


def test_tags_that_were_told_to_be_gone() -> None:
    """A tag that was taken before its manifest, and is there after all, is told as one that did not go."""
    found = outcome()
    found.taken.add(Tag("app", "1"))
    found.deleted.add(manifest("app", "1"))
    found.fail({("app", "1")})
    assert words(found)["app:1"] == words(found)["@app:1"] == "failed"


@pytest.mark.parametrize("error", [RegistryError("no"), KeyboardInterrupt()], ids=["refused", "Ctrl-C"])
def test_what_was_taken_before_it_ended(error: BaseException) -> None:
    """The journal says which tags were taken before their manifests, also where the next one was refused."""
    deletion, lines, _ = small_run(outcome(), tags={"2": error})
    with pytest.raises(KeyboardInterrupt) if isinstance(error, KeyboardInterrupt) else nullcontext():
        assert deletion.run() == ["no"]
    assert [event["tag"] for event in events_of(lines, "taken")] == ["1"]


def test_a_last_batch_of_what_was_given_up() -> None:
    """Whoever is told how far the deletion is hears of its end, whatever becomes of the last batch."""
    found, shown = many(3), list[tuple[int, int]]()
    found.give_up(Members({manifest("app", "2")}, {Tag("app", "2")}))
    deletion, _, _ = small_run(found)
    assert deletion.run(batch=1, progress=lambda *done: shown.append(done)) == []
    assert shown[-1] == (3, 3)


@pytest.mark.parametrize(("again", "became"), [("1", "failed"), ("12", "deleted")])
def test_all_that_went_is_there(again: str, became: str) -> None:
    """Where all that went is there, and only some of it was pushed again by its date, the registry does not delete:
    that is an error, and none of it counts as deleted. Where all of it was pushed again that is a note."""
    found, there = outcome(), Small()
    found.deleted |= {manifest("app", tag) for tag in "12"}
    for tag in "12":
        there.push("app", tag, days=1 if tag in again else 9, layer=100)
    site: Any = SimpleNamespace(
        remaining=lambda tags, manifests: [*tags, *manifests],
        source=SimpleNamespace(read=lambda part: numbered(there.columns)),
        registry=SimpleNamespace(display="http://127.0.0.1:5000"),
    )
    verdict = verify_gone(found, site)
    (told,) = verdict.errors if became == "failed" else verdict.notes
    assert told.startswith("2 of 2 tags and manifests that were deleted are there, such as app 1")
    assert len(verdict.errors + verdict.notes) == 1
    assert {words(found)[name] for name in ("app:1", "@app:1", "app:2", "@app:2")} == {became}
