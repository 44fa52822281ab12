"""What became of tags and manifests: the two are kept apart, and each row of a plan gets its word."""

from __future__ import annotations

from regdata.cleaning.order import Manifest, Tag
from regdata.cleaning.outcome import Members, Outcome
from regdata.planning.plan import plan
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
