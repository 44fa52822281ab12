"""A registry of version 3.x, which can delete a tag alone over its API: as it answers, for the real one here is 2.8."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import regdata
from regdata.cleaning.result import Result
from regdata.config import load_config
from regdata.demo.samples import Image, make_image, make_index, make_layer
from regdata.errors import CleanupError
from tests.cleaning.test_changes import at
from tests.support.fakes import FakeRegistry, error_reply, json_reply, serve
from tests.support.server import Reply

IMAGES = [make_image([make_layer(("3.x", number), 90)]) for number in range(3)]


def cleaned(fake: FakeRegistry, folder: Path, condition: str, batch: int | None = None) -> Result:
    """What became of a clean-up of it, over the API."""
    (folder / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
    config = load_config(folder / "conf.json")
    return regdata.apply(regdata.plan(regdata.scan(config), condition), config, gc=False, batch=batch)


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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config, gc=False)
        assert result.errors == []
        assert {name: [*tags] for name, tags in fake.tags.items()} == {"app": ["index"], "other": ["1"]}


def test_its_cache_takes_manifests_for_blobs(tmp_path: Path) -> None:
    """With a cache, 3.x answers that it has a manifest as a blob once it was pushed or read: nothing is linked so, and
    gc-command runs."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
            fake.blobs[image.digest] = image.manifest
        (tmp_path / "conf.json").write_text(
            json.dumps({"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0})
        )
        config = load_config(tmp_path / "conf.json")
        result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config)
        assert result.collection.ran
        assert set(fake.tags["app"]) == {"1"}


@pytest.mark.parametrize("pages", [False, True])
def test_a_repository_without_layers(tmp_path: Path, pages: bool) -> None:
    """Where a repository may have no folder for layers, gc-command is refused before anything goes: 2.x takes all of
    it, and does not list it, so that it is known by its name alone; 3.x lists it, and stops at it."""
    with serve(FakeRegistry(pages=pages)) as fake:
        fake.push("app", "0", IMAGES[0])
        fake.push("app", "1", make_index([]))  # where a layer was named, there is that folder
        fake.push("bare", "1", make_index([]))
        catalog = {"repositories": ["app", "bare"] if pages else ["app"]}
        fake.on("GET /v2/_catalog?n=1000", json_reply(catalog), forever=True)
        registry = {"url": fake.url, "repositories": ["app", "bare"]}
        settings = {"registry": registry, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        with pytest.raises(CleanupError, match=r"1 repository may have no folder _layers, such as bare: .* deleted"):
            regdata.apply(plan, config)
        assert set(fake.tags["app"]) == {"0", "1"}
        fake.push("bare", "2", IMAGES[2])
        fake.on("GET /v2/_catalog?n=1000", json_reply({"repositories": ["app", "bare"]}), forever=True)
        assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config).collection.ran


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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
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


def test_pushed_while_a_gc_command_ran_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile and lacks what gc-command took is told where that failed, too, beside its exit code."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["false"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")

        def push() -> None:
            fake.push("app", "2", IMAGES[2])
            del fake.blobs[IMAGES[2].blobs[-1].digest]

        at(monkeypatch, "ran", push)
        failed, lacks = regdata.apply(plan, config).errors
        assert "gc-command failed with exit code 1" in failed
        assert f"1 manifest, such as app@{IMAGES[2].digest}, came while gc-command ran and lack what it took" in lacks
