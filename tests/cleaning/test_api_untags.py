"""A registry of version 3.x, which can delete a tag alone over its API: as it answers, for the real one here is 2.8."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import regdata
from regdata.demo.samples import Image, make_index
from regdata.records.reading import PastRun
from tests.cleaning.test_changes import at
from tests.support.by_api import IMAGES, cleaned, configured
from tests.support.fakes import FakeRegistry, error_reply, serve
from tests.support.server import Reply


def test_tags_and_their_manifests_go(tmp_path: Path) -> None:
    """Tags that were taken first are no reason to keep their manifests; a tag that shares its digest goes alone."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in {"0": IMAGES[0], "1": IMAGES[1], "same": IMAGES[1], "2": IMAGES[2], "3": IMAGES[2]}.items():
            fake.push("app", tag, image)
        result = cleaned(fake, tmp_path, "tag_name in ('0', '1', '2', '3')")
        assert result.errors == []
        assert dict(zip(result.tags["tag_name"], result.tags["outcome"], strict=True)) == {
            "0": "deleted",
            "1": "untagged",
            "2": "deleted",
            "3": "deleted",
        }
        assert fake.tags["app"] == {"same": IMAGES[1].digest}
        assert set(fake.manifests["app"]) == {IMAGES[1].digest}


def test_a_tag_pushed_again_after_it_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that comes back between its own deletion and its manifest's keeps the manifest."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        at(monkeypatch, "deleting", lambda: fake.push("app", "1", IMAGES[1]))
        assert regdata.apply(plan, config, gc=False).errors == []
        assert fake.tags["app"] == {"1": IMAGES[1].digest, "2": IMAGES[2].digest}
        assert set(fake.manifests["app"]) == {IMAGES[1].digest, IMAGES[2].digest}


def test_beside_a_tag_that_leads_nowhere(tmp_path: Path) -> None:
    """A tag that could not be read before the run is not missed after it."""
    with serve(FakeRegistry()) as fake:
        fake.push("app", "0", IMAGES[0])
        fake.push("other", "1", IMAGES[1])
        fake.tags["app"]["dangling"] = IMAGES[2].digest
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        result = regdata.apply(regdata.plan(regdata.scan(config), "image_name = 'other'"), config, gc=False)
        assert result.errors == []
        assert list(result.tags["outcome"]) == ["deleted"]


def test_beside_a_child_that_can_not_be_read(tmp_path: Path) -> None:
    """A manifest that could not be read before the run is not missed after it; elsewhere all goes as planned."""
    with serve(FakeRegistry(pages=True)) as fake:
        fake.push("app", "index", make_index(IMAGES[:1]))
        for method in ("GET", "HEAD"):
            fake.on(f"{method} /v2/app/manifests/{IMAGES[0].digest}", error_reply(400), forever=True)
        fake.push("other", "0", IMAGES[1])
        fake.push("other", "1", IMAGES[2])
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config, gc=False)
        assert result.errors == []
        assert {name: [*tags] for name, tags in fake.tags.items()} == {"app": ["index"], "other": ["1"]}


def test_what_answers_that_it_deletes(tmp_path: Path) -> None:
    """A registry, or what is before it, that answers 202 to the DELETE of a tag and keeps it ends the run."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        fake.on("DELETE /v2/app/manifests/1", Reply(202), forever=True)
        (error,) = cleaned(fake, tmp_path, "tag_name in ('0', '1')").errors
        assert "DELETE" in error
        assert "/app/manifests/1: the registry answered that it deleted this, and still has it" in error
        assert {"1", "2"} <= set(fake.tags["app"])


class Late(FakeRegistry):
    """Its tags, or some, are gone right after their DELETE, and are there again soon after."""

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__(pages=True)
        self.late, self.hidden = tags, set[str]()

    def answer(self, method: str, target: str) -> Reply:
        tag = target.rpartition("/")[2]
        if method == "DELETE" and tag in self.late:
            self.seen.append(f"{method} {target}")
            self.hidden.add(tag)
            return Reply(202)
        if tag in self.hidden:
            self.hidden.discard(tag)
            return error_reply(404, "MANIFEST_UNKNOWN")
        return super().answer(method, target)


@pytest.mark.parametrize("late", [["0", "1"], ["0"]])
def test_tags_that_come_again(tmp_path: Path, late: list[str]) -> None:
    """One of several has been pushed; where all are there again, as they were, the registry may not delete."""
    with serve(Late(late)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        result = cleaned(fake, tmp_path, "tag_name in ('0', '1')")
        told = [one for one in (*result.errors, *result.notes) if "came again" in one]
        assert told[0].startswith(f"of 2 tags that had gone {len(late)} came again, such as app 0")
        assert (told == result.errors) == (len(late) == 2)
        assert result.tags["outcome"].tolist() == ["moved", "moved" if len(late) == 2 else "deleted"]
        assert {*late, "2"} == fake.tags["app"].keys()


class Again(FakeRegistry):
    """Somebody pushes an image to a tag right after the DELETE of that, or of its manifest."""

    def __init__(self, after: str, image: Image, *, pages: bool) -> None:
        super().__init__(pages=pages)
        self.after, self.image = f"DELETE /v2/app/manifests/{after}", image

    def answer(self, method: str, target: str) -> Reply:
        reply = super().answer(method, target)
        if f"{method} {target}" == self.after:
            self.push("app", "again", self.image)
        return reply


@pytest.mark.parametrize(("pages", "of_tag"), [(False, False), (True, False), (True, True)])
def test_what_is_pushed_right_after_its_deletion(tmp_path: Path, pages: bool, of_tag: bool) -> None:
    """It stays. Over the API nobody can tell that from a registry that does not delete: the run says both, and to run
    again, which ends well."""
    first, image = sorted(IMAGES[:2], key=lambda one: one.digest)
    fake = Again("again" if of_tag else image.digest, image, pages=pages)
    with serve(fake):
        for tag, one in (("a", first), ("again", image), ("other", IMAGES[2])):
            fake.push("app", tag, one)
        registry = {"url": fake.url, "requests": {"at_once": 1}}
        config = configured(tmp_path, {"registry": registry, "sql": {}})
        (error,) = regdata.apply(regdata.plan(regdata.scan(config), "tag_name like 'a%'"), config, gc=False).errors
        assert "still has it; it, or what is before it, does not delete; or somebody pushed it at that moment" in error
        assert fake.tags["app"]["again"] == image.digest
        assert image.digest in fake.manifests["app"]
        fake.after = ""
        assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name like 'a%'"), config, gc=False).errors == []
        assert fake.tags["app"] == {"other": IMAGES[2].digest}


def test_a_run_that_stops_at_its_first_image(tmp_path: Path) -> None:
    """Of the images that it had not begun with no tag was taken away."""
    with serve(FakeRegistry(pages=True)) as fake:
        for name, image in zip(("a", "b", "c"), IMAGES, strict=True):
            fake.push(name, "old", image)
            fake.on(f"DELETE /v2/{name}/manifests/{image.digest}", error_reply(403), forever=True)
        result = cleaned(fake, tmp_path, "tag_name = 'old'", batch=1)
        assert len(result.errors) == 1
        assert (result.bytes_predicted > 0, result.bytes_expected) == (True, 0)
        assert sorted(len(tags) for tags in fake.tags.values()) == [0, 1, 1]
        assert sorted(result.tags["outcome"]) == ["failed", "failed", "untagged"]


@pytest.mark.parametrize("pages", [False, True], ids=["2.x", "as 3.x"])
def test_tags_that_can_not_go_alone(tmp_path: Path, pages: bool) -> None:
    """2.x deletes no tag alone, nor does another that lists them in pages: each that shares its digest with one that
    stays is kept, and told so; what the plan had to say is in the result, too."""
    with serve(FakeRegistry(pages=pages, deletes=("digests",))) as fake:
        for tag in ("old-1", "old-2", "old-3", "stays"):
            fake.push("app", tag, IMAGES[0])
        fake.push("app", "old-4", IMAGES[1])
        result = cleaned(fake, tmp_path, "tag_name like 'old%' and (age_days > 0 or age_days is null)")
        assert result.errors == []
        assert dict(zip(result.tags["tag_name"], result.tags["outcome"], strict=True)) == {
            **dict.fromkeys(("old-1", "old-2", "old-3"), "kept"),
            "old-4": "deleted",
        }
        assert fake.tags["app"].keys() == {"old-1", "old-2", "old-3", "stays"}
        assert any("without registry.base_path" in note for note in result.notes)


class Mute(FakeRegistry):
    """It fails when it is asked for a manifest that it has deleted."""

    def answer(self, method: str, target: str) -> Reply:
        asked, reference = f"{method} {target}", target.rpartition("/")[2]
        if asked.startswith("HEAD /v2/app/manifests/sha256:") and reference not in self.manifests["app"]:
            self.seen.append(asked)
            return error_reply(500)
        return super().answer(method, target)


def test_a_look_after_a_deletion_that_fails(tmp_path: Path, naps: list[float]) -> None:
    """Where the registry can't say whether a manifest is gone that it answered to have deleted, it is deleted."""
    with serve(Mute()) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        result = cleaned(fake, tmp_path, "tag_name in ('0', '1')", batch=1)
        assert f"HEAD /v2/app/manifests/{IMAGES[0].digest}" in fake.seen
        assert result.errors == []
        assert result.tags["outcome"].tolist() == ["deleted", "deleted"]
        assert set(fake.tags["app"]) == {"2"}


def test_a_tag_that_others_took_away(tmp_path: Path) -> None:
    """A tag that somebody else removed alone since the scan is told, and was not lost by this run."""
    with serve(FakeRegistry(pages=True)) as fake:
        fake.push("app", "0", IMAGES[0])
        for tag in ("1", "2"):
            fake.push("other", tag, IMAGES[1])
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        del fake.tags["other"]["2"]
        result = regdata.apply(plan, config, gc=False)
        assert result.errors == []
        assert any(note.startswith("1 tags and manifests had been deleted by others") for note in result.notes)


class Gone(FakeRegistry):
    """Somebody pushes an image by its digest alone, once it was seen to be gone."""

    def __init__(self, image: Image) -> None:
        super().__init__()
        self.image = image

    def answer(self, method: str, target: str) -> Reply:
        reply = super().answer(method, target)
        if (method, target, reply.status) == ("HEAD", f"/v2/app/manifests/{self.image.digest}", 404):
            self.push("app", None, self.image)
        return reply


def test_all_that_went_without_a_tag_is_there_again(tmp_path: Path) -> None:
    """Where all of the deleted that no tag was on is there by the end, and was seen to be gone, it has been pushed
    again: that is a note, and no registry that does not delete."""
    with serve(Gone(IMAGES[0])) as fake:
        fake.push("app", "0", make_index(IMAGES[:1]))
        fake.push("app", "1", IMAGES[1])
        result = cleaned(fake, tmp_path, "tag_name = '0'")
        assert IMAGES[0].digest in fake.manifests["app"]
    assert result.errors == []
    assert any("they have been pushed again" in note for note in result.notes)
    assert result.manifests["outcome"].tolist() == ["deleted", "deleted"]


def test_a_tag_that_went_alone_and_comes_again(tmp_path: Path) -> None:
    """Where all tags that went alone are there again by the end, as they were, the registry may not delete: that is an
    error, and they do not count as gone."""
    with serve(Late(["1"])) as fake:
        for tag in ("1", "same"):
            fake.push("app", tag, IMAGES[1])
        result = cleaned(fake, tmp_path, "tag_name = '1'")
    (error,) = result.errors
    assert error.startswith("1 of 1 tags and manifests that were deleted are there, such as app 1, though ")
    assert result.tags["outcome"].tolist() == ["failed"]


def test_a_tag_that_goes_alone_and_moves_onto_what_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that was to go alone, and is moved at the last moment onto an image that goes, keeps that."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in {"0": IMAGES[0], "alone": IMAGES[1], "same": IMAGES[1]}.items():
            fake.push("app", tag, image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', 'alone')")
        at(monkeypatch, "untagging", lambda: fake.push("app", "alone", IMAGES[0]))
        result = regdata.apply(plan, config, gc=False)
        assert result.errors == []
        assert fake.tags["app"] == {"alone": IMAGES[0].digest, "same": IMAGES[1].digest}
        assert set(fake.manifests["app"]) == {IMAGES[0].digest, IMAGES[1].digest}


def test_a_tag_that_moves_between_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is looked at before each of its batches: what a tag that stays has moved onto by then stays with it."""
    first, second = sorted(IMAGES[:2], key=lambda one: one.digest)
    with serve(FakeRegistry()) as fake:
        for tag, image in (("first", first), ("second", second), ("kept", IMAGES[2])):
            fake.push("app", tag, image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name <> 'kept'")
        at(monkeypatch, "deleted", lambda: fake.push("app", "kept", second))
        assert regdata.apply(plan, config, gc=False, batch=1).errors == []
        assert fake.tags["app"] == {"second": second.digest, "kept": second.digest}


@pytest.mark.parametrize("alone", [False, True])
def test_a_tag_that_may_not_be_deleted(tmp_path: Path, alone: bool) -> None:
    """Where the second of two tags is refused, be it that they go alone, the first is gone, and the record says so."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
            if alone:
                fake.push("app", f"same-{number}", image)
        fake.on("DELETE /v2/app/manifests/1", error_reply(403), forever=True)
        result = cleaned(fake, tmp_path, "tag_name in ('0', '1')")
        assert ["HTTP 403" in error for error in result.errors] == [True]
        assert result.tags["outcome"].tolist() == ["untagged", "failed"]
        assert {"0", "1", "2"} & fake.tags["app"].keys() == {"1", "2"}
    (path,) = tmp_path.glob("reports/*/record.json")
    assert json.loads(path.read_text())["tags_untagged"] == 1


def test_tags_that_come_again_before_another_image_is_looked_at(tmp_path: Path) -> None:
    """A tag that was there again in one image is told, though others were looked at after that, and nothing came again
    in them."""
    with serve(Late(["0"])) as fake:
        for name, tag, image in (("app", "0", IMAGES[0]), ("other", "1", IMAGES[1])):
            fake.push(name, tag, image)
            fake.push(name, "2", IMAGES[2])
        result = cleaned(fake, tmp_path, "tag_name in ('0', '1')", batch=1)
    assert result.errors == []
    assert [note.partition(":")[0] for note in result.notes if "came again" in note] == [
        "of 2 tags that had gone 1 came again, such as app 0"
    ]
    assert result.tags["outcome"].tolist() == ["moved", "deleted"]


def test_a_tag_that_moved_is_none_that_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that is on something else when it is to be taken away before its manifest is, by the run's record, none of
    those that went: a restore leaves it alone."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        at(monkeypatch, "taking", lambda: fake.push("app", "1", IMAGES[2]))
        assert regdata.apply(plan, config, gc=False).errors == []
        assert fake.tags["app"] == {"1": IMAGES[2].digest, "2": IMAGES[2].digest}
    (path,) = tmp_path.glob("reports/*/record.json")
    assert [one.tag for one in PastRun(path.parent).tags] == ["0"]


class Restless(FakeRegistry):
    """Somebody pushes one more tag of what stays whenever its tags are listed, ``left`` times."""

    left = 0

    def answer(self, method: str, target: str) -> Reply:
        if self.left and "/tags/list" in target:
            self.left -= 1
            self.push("app", f"new-{self.left}", IMAGES[2])
        return super().answer(method, target)


@pytest.mark.parametrize("pages", [False, True], ids=["2.x", "3.x"])
def test_an_image_that_goes_on_changing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: bool) -> None:
    """After a few looks at an image that is pushed to all the time, what is left of it stays, as moved; and what had
    gone of it, and what stays, is in the record."""
    fake = Restless(pages=pages)
    with serve(fake):
        for tag, image in {"0": IMAGES[0], "0b": IMAGES[0], "2": IMAGES[2]}.items():
            fake.push("app", tag, image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "image_name = 'app' and tag_name <> '2'")
        at(monkeypatch, "deleting", lambda: setattr(fake, "left", 30))
        result = regdata.apply(plan, config, gc=False)
        assert fake.left > 0
        assert result.errors == []
        assert IMAGES[0].digest in fake.manifests["app"]
        assert ("0" in fake.tags["app"]) != pages
    assert result.manifests["outcome"].tolist() == ["moved"]
    assert result.tags["outcome"].tolist() == ["untagged" if pages else "moved"] * 2
    (path,) = tmp_path.glob("reports/*/record.json")
    past = PastRun(path.parent)
    moved = {event["name"] for event in past.events("moved")}
    assert moved == {IMAGES[0].digest} | (set() if pages else {"0", "0b"})
    assert [one.tag for one in past.tags] == (["0", "0b"] if pages else [])


def test_no_tag_is_tried_that_can_not_go_alone(tmp_path: Path) -> None:
    """One of 2.x is asked to delete no tag that goes with its manifest, nor does the journal say that it would be."""
    with serve(FakeRegistry()) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        assert cleaned(fake, tmp_path, "tag_name in ('0', '1')").errors == []
        assert set(fake.tags["app"]) == {"2"}
        assert not {"DELETE /v2/app/manifests/0", "DELETE /v2/app/manifests/1"} & {*fake.seen}
    (path,) = tmp_path.glob("reports/*/record.json")
    assert [*PastRun(path.parent).events("taking")] == []


class Keeps(FakeRegistry):
    """It answers 202 to the DELETE of a manifest and keeps it, while somebody pushes another tag."""

    def answer(self, method: str, target: str) -> Reply:
        if method == "DELETE" and target.rpartition("/")[2] in self.manifests.get("app", ()):
            self.seen.append(f"{method} {target}")
            self.push("app", "new", IMAGES[2])
            return Reply(202)
        return super().answer(method, target)


def test_one_that_keeps_it_beside_a_push(tmp_path: Path) -> None:
    """A registry that keeps what it answered to have deleted ends the run, be it that something else was pushed to the
    image at that moment."""
    with serve(Keeps()) as fake:
        fake.push("app", "0", IMAGES[0])
        fake.push("other", "0", IMAGES[1])
        (error,) = cleaned(fake, tmp_path, "tag_name = '0'", batch=1).errors
        assert "the registry answered that it deleted this, and still has it" in error
        assert "0" in fake.tags["other"]
