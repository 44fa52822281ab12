"""The look at an image right before its deletions: what is spared by then stays."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import regdata
from regdata.cleaning.order import Manifest, Tag
from regdata.cleaning.outcome import Members, Outcome
from regdata.cleaning.review import Review, check_uses, vanished
from regdata.errors import CleanupError
from regdata.planning.plan import Plan
from regdata.planning.rules import Spared
from regdata.sources.columns import Columns
from regdata.sources.dates import Pushed
from regdata.sources.source import Glance, Going, Part
from tests.support.helpers import numbered
from tests.support.small import DAY, NOW, Small, digest

pytestmark = pytest.mark.slow

IMAGE = "a/app"
ALL = ("1.0", "2.0", "3.0")


def store(*tags: str) -> Small:
    """Each version is a day newer than the one before it."""
    made = Small()
    for tag in tags:
        made.push(IMAGE, tag, days=100 - float(tag), base=100)
    return made


class Now:
    """A source with what is left of an image; ``asked``: what was glanced at; ``known``: what it was told to read."""

    def __init__(self, left: Small) -> None:
        self.left = left
        self.asked: list[Going] = []
        self.known: set[tuple[str, str]] = set()

    def state(self, repository: str) -> tuple[dict[str, Any], frozenset[str]]:
        tags = self.left.columns["tags"]
        digests = dict(zip(tags["tag_name"], tags["tag_hash"], strict=True))
        return digests, frozenset(self.left.columns["revisions"]["manifest_hash"])

    def glance(self, repository: str, digests: Collection[str]) -> Glance:
        def asked(going: Going) -> bool:
            self.asked.append(going)
            return True

        return asked

    def read(self, part: Part) -> Columns:
        self.known = {*part.known}
        return numbered(self.left.columns)


def agreed(outcome: Outcome, now: Small) -> Members:
    """What still goes of an image that is as it is now."""
    return Review(outcome, Now(now)).still_goes(IMAGE)  # type: ignore[arg-type]


def still_goes(plan: Plan, *tags: str) -> set[str]:
    """The tags of which the manifests still go when these are left."""
    return names(agreed(Outcome(plan), store(*tags)))


def names(found: Members) -> set[str]:
    """The manifests by the tags that they were pushed with; None is an orphan."""
    return {tag for tag in (*ALL, "None") if Manifest(IMAGE, digest(f"{IMAGE}{tag}")) in found.manifests}


def pushed_at(made: Small, table: str, name: str, when: int | None) -> None:
    """Another date of a tag (by its name) or a revision (by the tag that it was pushed with)."""
    column, key = ("tag_name", name) if table == "tags" else ("manifest_hash", digest(f"{IMAGE}{name}"))
    made.columns[table]["pushed"][made.columns[table][column].index(key)] = when


@pytest.mark.parametrize("told", [False, True], ids=["conf.json", "plan"])
def test_protected_meanwhile(told: bool) -> None:
    """What `protect` matches only now, since another tag was deleted by others, stays; whoever said `protect`, and as
    its engine reads it: LIKE ignores case in SQLite."""
    protect = "newest_rank <= 2 and image_name like 'A/%'"
    inventory = store(*ALL).inventory(protect=None if told else protect, engine="sqlite")
    plan = regdata.plan(inventory, "1=1", protect=protect if told else None)
    assert still_goes(plan, *ALL) == {"1.0"}
    assert still_goes(plan, "1.0", "3.0") == set()


def test_spared_then_and_not_now() -> None:
    """What a keep-rule spared when the plan was made is spared although nothing says so any more."""
    plan = regdata.plan(store(*ALL).inventory(), "1=1")
    assert still_goes(plan, "1.0", "2.0") == {"1.0", "2.0"}
    manifests = pd.DataFrame({"image_name": [IMAGE], "manifest_hash": digest(f"{IMAGE}1.0"), "reason": "protected"})
    tags = pd.DataFrame({"id": [2], "reason": "protected"})
    assert still_goes(replace(plan, spared=Spared.of([manifests, tags])), "1.0", "2.0") == set()


@pytest.mark.parametrize(("known", "late"), [(True, 0), (True, 60), (True, -200 * DAY), (False, 0), (False, 60)])
def test_a_tag_pushed_again(known: bool, late: int) -> None:
    """A tag that was pushed again onto its digest stays with it, be it in the second of the scan, or by a clock that
    was set back; the others go."""
    then, now = store(*ALL), store("2.0", "3.0")
    if not known:
        pushed_at(then, "tags", "2.0", None)
    pushed_at(now, "tags", "2.0", NOW + late)
    assert names(agreed(Outcome(regdata.plan(then.inventory(), "1=1")), now)) == {"3.0"}


def test_a_tag_that_moved_onto_it() -> None:
    """A digest stays onto which another tag was moved, though no tag and no manifest came or went."""
    now = store(*ALL)
    tags = now.columns["tags"]
    tags["tag_hash"][tags["tag_name"].index("3.0")] = digest(f"{IMAGE}2.0")
    outcome = Outcome(regdata.plan(store(*ALL).inventory(), "tag_name = '2.0'"))
    assert names(agreed(outcome, store(*ALL))) == {"2.0"}
    assert agreed(outcome, now) == Members(set(), set())


@pytest.mark.parametrize("late", [0, 60])
def test_an_orphan_pushed_again(late: int) -> None:
    """An orphan that was pushed again stays: an index that lists it may be on its way."""
    then, now, same = (store("1.0", "2.0"), store("2.0"), store("2.0"))
    for made in (then, now, same):
        made.push(IMAGE, None, days=50, base=100)
    pushed_at(now, "revisions", "None", NOW + late)
    outcome = Outcome(regdata.plan(then.inventory(), "1=1"))
    assert names(agreed(outcome, same)) == {"2.0", "None"}
    assert names(agreed(outcome, now)) == {"2.0"}


def test_what_no_tag_leads_to_any_more() -> None:
    """A source that shows only what tags lead to is told what else to look for: all that is to go."""
    now = Now(store("2.0", "3.0"))
    Review(Outcome(regdata.plan(store(*ALL).inventory(), "1=1")), now).still_goes(IMAGE)  # type: ignore[arg-type]
    assert now.known == {(IMAGE, digest(f"{IMAGE}{tag}")) for tag in ALL}


def test_an_index_by_digest_alone() -> None:
    """What an index lists that came without a tag since the scan stays, although no tag has changed."""
    now = store(*ALL)
    now.row("contents", manifest_hash=digest("index"), media_type="m", manifest_size=1, kind="index")
    now.row("revisions", image_name=IMAGE, manifest_hash=digest("index"), pushed=NOW + 1)
    child = {"manifest_hash": digest("index"), "reference_hash": digest(f"{IMAGE}2.0")}
    now.row("references", reference_kind="manifest", reference_size=1, **child)
    outcome = Outcome(regdata.plan(store(*ALL).inventory(), "1=1"))
    assert names(agreed(outcome, store(*ALL))) == set(ALL)
    assert names(agreed(outcome, now)) == {"1.0", "3.0"}


def test_a_child_whose_index_this_run_deleted() -> None:
    """It goes, however young: it is an orphan by our own deletion, also where others have changed its image since."""
    then, now = (indexed(images) for images in (True, False))
    outcome = Outcome(regdata.plan(then.inventory(), "tag_name in ('1.0', '2.0', 'index')"))
    outcome.deleted.add(Manifest(IMAGE, digest("index")))
    assert names(agreed(outcome, now)) == {"2.0", "None"}


def indexed(first: bool) -> Small:
    """An index of a child that was pushed half an hour ago, beside two versions; or what is left without the index and
    the first of them."""
    made = store("1.0", "2.0") if first else store("2.0")
    made.push(IMAGE, None, days=1 / 48, base=100)
    if first:
        made.row("contents", manifest_hash=digest("index"), media_type="m", manifest_size=1, kind="index")
        made.row("revisions", image_name=IMAGE, manifest_hash=digest("index"), pushed=NOW - DAY)
        made.row("tags", image_name=IMAGE, tag_name="index", tag_hash=digest("index"), pushed=NOW - DAY)
        child = {"manifest_hash": digest("index"), "reference_hash": digest(f"{IMAGE}None")}
        made.row("references", reference_kind="manifest", reference_size=1, **child)
    return made


def test_what_a_glance_is_asked() -> None:
    """Right before a manifest goes: is it as old as it was, in an image without tags, too; are on it the tags that are
    left, and is none there of its image that went; is what lists it gone, if this run deleted that. A tag that moved is
    not its own; one that was back at the last look already is no news."""
    then, left = indexed(True), indexed(True)
    then.push("b/app", None, days=50, base=100)
    then.row("tags", image_name=IMAGE, tag_name="same", tag_hash=digest(f"{IMAGE}1.0"), pushed=NOW - DAY)
    then.row("tags", image_name=IMAGE, tag_name="moved", tag_hash=digest(f"{IMAGE}1.0"), pushed=NOW - DAY)
    outcome = Outcome(regdata.plan(then.inventory(), "tag_name <> '2.0'"))
    outcome.deleted.add(Manifest(IMAGE, digest("index")))
    outcome.taken.add(Tag(IMAGE, "same"))
    outcome.give_up(Members(set(), {Tag(IMAGE, "moved")}))
    now = Now(left)
    review = Review(outcome, now)  # type: ignore[arg-type]
    for image, name in (("b/app", "None"), (IMAGE, "1.0"), (IMAGE, "None")):
        review.still_goes(image)
        review.see_gone([image])
        assert review.as_it_was(Manifest(image, digest(f"{image}{name}")))
    assert now.asked == [
        Going(digest("b/appNone"), Pushed(NOW - 50 * DAY, NOW), tags=[], gone=set(), above=[]),
        Going(digest(f"{IMAGE}1.0"), Pushed(NOW - 99 * DAY, NOW), tags=["1.0"], gone={"same"}, above=[]),
        Going(digest(f"{IMAGE}None"), Pushed(NOW - DAY // 48, NOW), tags=[], gone={"same"}, above=[digest("index")]),
    ]


def test_what_our_own_untagging_left() -> None:
    """A young manifest whose tag we took goes, though it is an orphan by now; not one that lost its tag to others."""
    then = Small()
    for tag in ALL:
        then.push(IMAGE, tag, days=1 / 48, base=100)
    outcome = Outcome(regdata.plan(then.inventory(), "1=1"))
    outcome.taken.add(Tag(IMAGE, "1.0"))
    now = Small()
    now.columns = {table: {name: list(cells) for name, cells in of.items()} for table, of in then.columns.items()}
    for cells in now.columns["tags"].values():
        del cells[:2]
    assert names(agreed(outcome, now)) == {"1.0", "3.0"}


def test_a_tag_that_would_go_otherwise() -> None:
    """A tag that was to leave its digest to another tag stays once that other is gone: its digest would go with it."""
    then, now = store("1.0"), store("1.0")
    then.row("tags", image_name=IMAGE, tag_name="same", tag_hash=digest(f"{IMAGE}1.0"), pushed=NOW - DAY)
    outcome = Outcome(regdata.plan(then.inventory(), "tag_name = '1.0'"))
    assert agreed(outcome, then) == Members(set(), {Tag(IMAGE, "1.0")})
    assert agreed(outcome, now) == Members(set(), set())


def test_our_own_deletions_are_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in which only this run deleted, took and untagged something is not read anew."""
    then = store(*ALL)
    then.row("tags", image_name=IMAGE, tag_name="alone", tag_hash=digest(f"{IMAGE}2.0"), pushed=NOW - DAY)
    outcome = Outcome(regdata.plan(then.inventory(), "tag_name <> '2.0'"))
    outcome.deleted.add(Manifest(IMAGE, digest(f"{IMAGE}1.0")))
    outcome.taken |= {Tag(IMAGE, "1.0"), Tag(IMAGE, "3.0")}
    outcome.untagged.add(Tag(IMAGE, "alone"))
    now = store("2.0", "3.0")
    for cells in now.columns["tags"].values():
        del cells[1]
    monkeypatch.delattr(Now, "read")
    assert names(agreed(outcome, now)) == {"3.0"}


@pytest.mark.parametrize("host", ["", "127.0.0.1:5000/"])
@pytest.mark.parametrize("used", [f"{IMAGE}:1.0", f"{IMAGE}:3.0", f"{IMAGE}@{digest(f'{IMAGE}None')}", f"{IMAGE}:same"])
def test_in_use_since_the_plan(used: str, host: str, tmp_path: Path) -> None:
    """A tag that is to go alone, one that goes with its manifest, or an orphan: where it came into use nothing goes,
    also where a list has the registry's own name."""
    made = store("1.0", "3.0")
    made.row("tags", image_name=IMAGE, tag_name="same", tag_hash=digest(f"{IMAGE}1.0"), pushed=NOW - DAY)
    made.push(IMAGE, None, days=50, base=100)
    plan = regdata.plan(made.inventory(), "tag_name <> 'same'")
    (tmp_path / "running.txt").write_text(host + used)
    settings = {"registry": {"url": "http://127.0.0.1:5000"}, "sql": {}, "in-use": ["running.txt"]}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    with nullcontext() if used.endswith("same") else pytest.raises(CleanupError, match=f"in-use: {used} "):
        check_uses(plan, regdata.load_config(tmp_path))


def test_what_others_deleted_where_there_is_no_tag() -> None:
    """All that the scan saw is looked for, in a repository without tags, too: what is gone there others deleted."""
    made = store("1.0")
    made.push("b/app", None, days=50, base=100)
    site: Any = SimpleNamespace(vanished=lambda tags, manifests: ({*tags}, {*manifests}))
    manifests = {Manifest(IMAGE, digest(f"{IMAGE}1.0")), Manifest("b/app", digest("b/appNone"))}
    assert vanished(made.inventory(), site) == Members(manifests, {Tag(IMAGE, "1.0")})


def test_a_tag_pushed_again_by_a_clock_that_is_ahead() -> None:
    """A tag of which the scan saw no date, and that has one by now, was pushed again, be it that this is still to come
    by our clock: the store's is ahead."""
    then, now = store(*ALL), store("2.0", "3.0")
    pushed_at(then, "tags", "2.0", None)
    pushed_at(now, "tags", "2.0", int(time.time()) + 300)
    assert names(agreed(Outcome(regdata.plan(then.inventory(ahead=600), "1=1")), now)) == {"3.0"}


def test_a_tag_that_had_moved_at_an_earlier_look() -> None:
    """It stays with its digest, though it is where the scan saw it by now: somebody has put it there since."""
    outcome = Outcome(regdata.plan(store(*ALL).inventory(), "1=1"))
    outcome.give_up(Members(set(), {Tag(IMAGE, "1.0")}))
    assert names(agreed(outcome, store("1.0", "2.0"))) == {"2.0"}


def test_a_tag_that_goes_alone_and_was_pushed_again_during_the_scan() -> None:
    """A tag that was to leave its digest to another tag stays where it was pushed again since it was read, be it before
    the scan had ended."""
    then, now = store("1.0"), store("1.0", "2.0")
    for made in (then, now):
        made.row("tags", image_name=IMAGE, tag_name="same", tag_hash=digest(f"{IMAGE}1.0"), pushed=NOW - DAY)
    outcome = Outcome(regdata.plan(then.inventory(), "tag_name = '1.0'"))
    assert agreed(outcome, now) == Members(set(), {Tag(IMAGE, "1.0")})
    pushed_at(now, "tags", "1.0", NOW - 60)
    assert agreed(outcome, now) == Members(set(), set())


class Racing(Now):
    """Somebody pushes one more tag as soon as the image was looked at; a glance sees what came since it was made."""

    def state(self, repository: str) -> tuple[dict[str, Any], frozenset[str]]:
        seen = super().state(repository)
        self.left.row("tags", image_name=IMAGE, tag_name="late", tag_hash=digest(f"{IMAGE}1.0"), pushed=NOW)
        return seen

    def glance(self, repository: str, digests: Collection[str]) -> Glance:
        was = list(self.left.columns["tags"]["tag_name"])
        return lambda going: self.left.columns["tags"]["tag_name"] == was


def test_a_tag_that_comes_right_after_the_look() -> None:
    """What comes between the look at an image and the glance at a manifest is no part of what the glance knows: the
    manifest does not go."""
    outcome = Outcome(regdata.plan(store(*ALL).inventory(), "1=1"))
    review = Review(outcome, Racing(store(*ALL)))  # type: ignore[arg-type]
    assert names(review.still_goes(IMAGE)) == set(ALL)
    review.see_gone([IMAGE])
    assert not review.as_it_was(Manifest(IMAGE, digest(f"{IMAGE}1.0")))


def test_an_index_that_was_given_up_keeps_its_children() -> None:
    """Over the API, which tells no dates, what an index lists stays with it at each look after that at which the index
    moved, though this run had taken its tag before."""
    then, now = indexed(True), indexed(True)
    for made in (then, now):
        for table in ("tags", "revisions"):
            made.columns[table]["pushed"] = [None] * len(made.columns[table]["pushed"])
    now.row("tags", image_name=IMAGE, tag_name="late", tag_hash=digest(f"{IMAGE}1.0"))
    for cells in now.columns["tags"].values():
        del cells[2]
    outcome = Outcome(regdata.plan(then.inventory(from_store=False), "tag_name in ('2.0', 'index')"))
    outcome.taken.add(Tag(IMAGE, "index"))
    assert names(agreed(outcome, now)) == {"2.0", "None"}
    outcome.give_up(Members({Manifest(IMAGE, digest("index"))}, set()))
    assert names(agreed(outcome, now)) == {"2.0"}


def over_the_api(*tags: str) -> Small:
    """The same as the API tells it: when an image was made is known, and not when it was pushed."""
    made = store(*tags)
    for table in ("tags", "revisions"):
        made.columns[table]["pushed"] = [None] * len(tags)
    return made


def test_what_the_api_tells_of_an_image_that_changed() -> None:
    """Over the API a plan made anew reads the same out of an image as the first one: ranks go by when images were
    made."""
    then, now = over_the_api(*ALL), over_the_api(*ALL)
    for made in (then, now):
        made.row("tags", image_name=IMAGE, tag_name="same", tag_hash=digest(f"{IMAGE}2.0"))
    now.row("tags", image_name=IMAGE, tag_name="late", tag_hash=digest(f"{IMAGE}3.0"))
    inventory = then.inventory(from_store=False, protect="newest_rank = 1 and tag_name <> 'late'")
    outcome = Outcome(regdata.plan(inventory, "tag_name in ('1.0', '2.0')"))
    expected = Members({Manifest(IMAGE, digest(f"{IMAGE}1.0"))}, {Tag(IMAGE, "1.0"), Tag(IMAGE, "2.0")})
    assert agreed(outcome, now) == expected


def test_a_tag_that_moved_onto_what_goes_with_another() -> None:
    """A tag that was to go with its image, and was moved onto another one that goes, keeps that: it was pushed."""
    now = over_the_api(*ALL)
    now.columns["tags"]["tag_hash"][0] = digest(f"{IMAGE}2.0")
    outcome = Outcome(regdata.plan(over_the_api(*ALL).inventory(from_store=False), "1=1"))
    assert names(agreed(outcome, now)) == {"3.0"}


def test_a_tag_that_came_and_went_and_comes_again() -> None:
    """A tag that went with its manifest is news whenever it comes, though it had come once before: it is no news only
    as long as it is there."""
    outcome = Outcome(regdata.plan(store(*ALL).inventory(), "1=1"))
    outcome.deleted.add(Manifest(IMAGE, digest(f"{IMAGE}1.0")))
    now = Now(store(*ALL))
    review = Review(outcome, now)  # type: ignore[arg-type]
    for left in (store(*ALL), store("2.0", "3.0")):
        now.left = left
        review.still_goes(IMAGE)
        review.see_gone([IMAGE])
        assert review.as_it_was(Manifest(IMAGE, digest(f"{IMAGE}2.0")))
    assert [going.gone for going in now.asked] == [set(), {"1.0"}]


@pytest.mark.parametrize(("used", "more"), [(["1.0"], ""), (["1.0", "2.0"], " and 1 more"), (ALL, " and 2 more")])
def test_how_much_came_into_use(used: Collection[str], more: str, tmp_path: Path) -> None:
    """The refusal names one of what came into use since the plan was made, by whom, and how many more there are."""
    made = store(*ALL)
    (tmp_path / "running.txt").write_text("\n".join(f"{IMAGE}:{tag}" for tag in used))
    settings = {"registry": {"url": "http://127.0.0.1:5000"}, "sql": {}, "in-use": ["running.txt"]}
    (tmp_path / "conf.json").write_text(json.dumps(settings))
    plan = regdata.plan(made.inventory(), "1=1")
    with pytest.raises(CleanupError, match=rf"^in-use: {IMAGE}:1\.0 \([^)]+\){more} would go, but came into use"):
        check_uses(plan, regdata.load_config(tmp_path))


def test_what_a_look_that_sees_no_change_leaves_to_an_index() -> None:
    """What an index lists stays with it where that was given up, though a look finds the image as it was: the index may
    be pushed again, by its digest."""
    outcome = Outcome(regdata.plan(indexed(True).inventory(), "tag_name in ('2.0', 'index')"))
    now = indexed(True)
    assert len(agreed(outcome, now).manifests) == 3
    outcome.give_up(Members({Manifest(IMAGE, digest("index"))}, {Tag(IMAGE, "index")}))
    assert names(agreed(outcome, now)) == {"2.0"}
