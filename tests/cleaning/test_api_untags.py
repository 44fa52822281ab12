"""A registry of version 3.x, which can delete a tag alone over its API: as it answers, for the real one here is 2.8."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.cleaning.checks import check_plan
from regdata.cleaning.result import Result
from regdata.config import load_config
from regdata.demo.samples import Image, make_image, make_index, make_layer, make_signature, signature_tag
from regdata.errors import CleanupError, RegdataError, StorageError
from regdata.inventory.scan import collector_of
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.sources import progress
from regdata.sources.site import Site
from tests.cleaning.test_changes import at
from tests.support.fakes import FakeRegistry, error_reply, json_reply, serve
from tests.support.odd import digest_of
from tests.support.server import Reply
from tests.support.small import Small

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


@pytest.mark.parametrize("how", ["listed", "attached"])
def test_an_earlier_record_that_lost_its_bytes(tmp_path: Path, how: str) -> None:
    """What an earlier run deleted, is needed by now, and is in no record any more, is told in a note: the run goes
    on."""
    image, signature = IMAGES[0], make_signature(IMAGES[0])
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, one in (("0", image), (signature_tag(image), signature), ("1", IMAGES[1])):
            fake.push("app", tag, one)
        assert cleaned(fake, tmp_path, "tag_name = '0'").errors == []
        (facts,) = tmp_path.glob("reports/*/record.json")
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"status": "failed"}))
        shutil.rmtree(facts.parent / "manifests")
        if how == "listed":
            index = make_index([image])
            fake.manifests["app"][index.digest] = index
            fake.tags["app"]["index"] = index.digest
        else:
            fake.push("app", "again", image)
        result = cleaned(fake, tmp_path, "2=1")
    assert result.errors == []
    lost = image if how == "listed" else signature
    assert any(f"app@{lost.digest}, which an earlier run deleted, is needed" in note for note in result.notes)


def test_an_earlier_record_that_is_damaged(tmp_path: Path) -> None:
    """An earlier run that failed, and of whose journal nobody can make sense, keeps no later run from its work."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        record = Record.open(load_config(tmp_path / "conf.json"), sql_id="earlier", action="del")
        record.journal({"event": "deleting"})
        record.error("it failed")
        record.finish()
        assert cleaned(fake, tmp_path, "tag_name = '0'").errors == []
        assert fake.tags["app"].keys() == {"1"}


@pytest.mark.parametrize("late", [True, False])
def test_a_tag_that_leads_nowhere_after_gc_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """A tag that came while gc-command ran, and whose very manifest that took, is told; not one that led nowhere
    before."""
    with serve(FakeRegistry(pages=True)) as fake:
        fake.push("app", "1", IMAGES[1])
        fake.tags["app"]["before"] = IMAGES[2].digest
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("other", tag, image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        if late:
            at(monkeypatch, "ran", lambda: fake.tags["app"].update(late=IMAGES[2].digest))
        errors = regdata.apply(plan, config).errors
    assert len(errors) == late
    assert all("1 manifest, such as app:late, came while gc-command ran" in error for error in errors)


def test_a_disk_that_is_full_once_it_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted is told as deleted, though that it was could not be written down."""
    write = Record.journal

    def journal(record: Record, *events: dict[str, Any]) -> None:
        if any(event["event"] == "deleted" for event in events):
            raise StorageError("No space left on device")
        write(record, *events)

    with serve(FakeRegistry()) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        monkeypatch.setattr(Record, "journal", journal)
        result = cleaned(fake, tmp_path, "tag_name in ('0', '1')")
        assert result.errors == ["No space left on device"]
        assert set(fake.tags["app"]) == {"2"}
        assert result.tags["outcome"].tolist() == result.manifests["outcome"].tolist() == ["deleted", "deleted"]


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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        del fake.tags["other"]["2"]
        result = regdata.apply(plan, config, gc=False)
        assert result.errors == []
        assert any(note.startswith("1 tags and manifests had been deleted by others") for note in result.notes)


class Forgets(FakeRegistry):
    """It answers 201 to whatever manifest is pushed, and has it not."""

    def answer(self, method: str, target: str) -> Reply:
        if method == "PUT":
            self.seen.append(f"{method} {target}")
            return Reply(201)
        return super().answer(method, target)


def test_what_is_missed_again_and_again(tmp_path: Path) -> None:
    """Where what was deleted is needed by what was pushed, and is not there however often it is put back, nothing is
    collected."""
    with serve(Forgets()) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        ran = tmp_path / "ran"
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["touch", str(ran)], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        first = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config, gc=False)
        assert first.errors == []
        index = make_index(IMAGES[:1])
        fake.manifests["app"][index.digest] = index  # without its child
        fake.tags["app"]["late"] = index.digest
        (error,) = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config).errors
        assert error == "what is pushed goes on needing what had been deleted: run again to collect"
        assert not ran.exists()


def test_a_gc_command_that_deletes_where_nothing_goes(tmp_path: Path) -> None:
    """A gc-command that deletes what no tag is on is refused where nothing goes, too: over the API it would be run."""
    with serve(FakeRegistry()) as fake:
        fake.push("app", "0", make_index(IMAGES[:2]))
        command = ["sh", "-c", f"touch {tmp_path}/ran; registry garbage-collect c.yml -m"]
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": command, "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "2=1")
        with pytest.raises(CleanupError, match=r"gc-command contains --delete-untagged .* nothing was deleted"):
            regdata.apply(plan, config)
        assert not (tmp_path / "ran").exists()


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


@pytest.mark.parametrize("part", [0, -1], ids=["config", "layer"])
def test_gc_command_took_a_part_of_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """Over the API, be it the config alone that what came while gc-command ran lacks, that is told."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")

        def push() -> None:
            fake.push("app", "2", IMAGES[2])
            del fake.blobs[IMAGES[2].blobs[part].digest]

        at(monkeypatch, "ran", push)
        (lacks,) = regdata.apply(plan, config).errors
    assert f"1 manifest, such as app@{IMAGES[2].digest}, came while gc-command ran and lack what it took" in lacks


class Withdrawn(FakeRegistry):
    """The owner of a tag deletes it when it was listed and is about to be read."""

    def answer(self, method: str, target: str) -> Reply:
        if target == "/v2/app/manifests/late":
            self.tags["app"].pop("late", None)
        return super().answer(method, target)


def test_a_tag_that_came_and_went_while_gc_command_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that came while gc-command ran, and whose owner deletes it while it is looked for, lacks nothing."""
    with serve(Withdrawn(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        at(monkeypatch, "ran", lambda: fake.push("app", "late", IMAGES[2]))
        assert regdata.apply(plan, config).errors == []
        assert "late" not in fake.tags["app"]


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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name <> 'kept'")
        at(monkeypatch, "deleted", lambda: fake.push("app", "kept", second))
        assert regdata.apply(plan, config, gc=False, batch=1).errors == []
        assert fake.tags["app"] == {"second": second.digest, "kept": second.digest}


def test_a_tag_that_goes_alone_is_written_down_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that goes alone is in the journal before it goes, so that it can be restored should the run be killed."""
    there: list[set[str]] = []
    with serve(FakeRegistry(pages=True)) as fake:
        for tag in ("alone", "same"):
            fake.push("app", tag, IMAGES[1])
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = 'alone'")
        at(monkeypatch, "untagging", lambda: there.append({*fake.tags["app"]}))
        assert regdata.apply(plan, config, gc=False).errors == []
        assert there == [{"alone", "same"}]
        assert {*fake.tags["app"]} == {"same"}


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


def test_what_was_given_up_is_not_to_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run had begun with, and left since somebody pushed a tag onto it, is no work for a later run to finish."""
    with serve(FakeRegistry()) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        at(monkeypatch, "deleting", lambda: fake.push("app", "again", IMAGES[0]))
        assert regdata.apply(plan, config, gc=False).errors == []
    (path,) = tmp_path.glob("reports/*/record.json")
    assert [digest for _, digest, _ in PastRun(path.parent).going] == [IMAGES[1].digest]


def test_nobody_can_collect_where_nothing_goes(tmp_path: Path) -> None:
    """A run that nobody can collect for is refused where nothing is to be deleted, too: it is there to collect."""
    with serve(FakeRegistry()) as fake:
        fake.push("app", "0", IMAGES[0])
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "2=1")
        with pytest.raises(CleanupError, match=r"has no gc-command, and regdata can't collect .* nothing was deleted"):
            regdata.apply(plan, config)


class Denied(FakeRegistry):
    """The login may delete nothing in b."""

    def answer(self, method: str, target: str) -> Reply:
        if method == "DELETE" and target.startswith("/v2/b/"):
            return error_reply(403, "DENIED")
        return super().answer(method, target)


def test_one_of_several_images_where_nothing_may_be_deleted(tmp_path: Path) -> None:
    """Each image is tried before anything goes: where nothing may be deleted in the last one nothing is elsewhere."""
    with serve(Denied()) as fake:
        for name, image in zip(("a", "b"), IMAGES, strict=False):
            fake.push(name, "old", image)
        with pytest.raises(CleanupError, match=r"nothing was deleted: DELETE .*/v2/b/.*HTTP 403"):
            cleaned(fake, tmp_path, "tag_name = 'old'")
        assert [*map(len, fake.tags.values())] == [1, 1]


def test_what_was_looked_for_is_told(tmp_path: Path) -> None:
    """The record says how much was looked for at the end: what went, and what stays."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        assert cleaned(fake, tmp_path, "tag_name in ('0', '1')").errors == []
    (path,) = tmp_path.glob("reports/*/record.json")
    assert json.loads(path.read_text())["verified"] == {"gone": 2, "tags": 1, "manifests": 1, "blobs": 0}


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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        at(monkeypatch, "taking", lambda: fake.push("app", "1", IMAGES[2]))
        assert regdata.apply(plan, config, gc=False).errors == []
        assert fake.tags["app"] == {"1": IMAGES[2].digest, "2": IMAGES[2].digest}
    (path,) = tmp_path.glob("reports/*/record.json")
    assert [one.tag for one in PastRun(path.parent).tags] == ["0"]


def test_bytes_of_what_others_deleted(tmp_path: Path) -> None:
    """What is expected to be freed is what this run deleted and what others did since the scan, be it nothing that was
    to go."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        inventory = regdata.scan(config)
        plan, both = (regdata.plan(inventory, f"tag_name in ({tags})") for tags in ("'0'", "'0', '1'"))
        del fake.tags["app"]["1"], fake.manifests["app"][IMAGES[1].digest]
        result = regdata.apply(plan, config, gc=False)
    assert result.errors == []
    assert result.bytes_expected == both.reclaimable > plan.reclaimable == result.bytes_predicted


def test_deleted_by_others_and_pushed_while_gc_command_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the API what others had deleted since the scan, and pushed again while gc-command ran, is told where it
    lacks what that took, as what this run had deleted is."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        del fake.tags["app"]["2"], fake.manifests["app"][IMAGES[2].digest]

        def push() -> None:
            fake.push("app", "2", IMAGES[2])
            del fake.blobs[IMAGES[2].blobs[-1].digest]

        at(monkeypatch, "ran", push)
        (lacks,) = regdata.apply(plan, config).errors
    assert f"1 manifest, such as app@{IMAGES[2].digest}, came while gc-command ran and lack what it took" in lacks


def test_the_registry_is_asked_for_what_others_deleted(tmp_path: Path) -> None:
    """Over the API the registry is asked after gc-command for all that was to go by then, what others had deleted since
    the scan, too."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        del fake.tags["app"]["1"], fake.manifests["app"][IMAGES[1].digest]
        result = regdata.apply(plan, config)
    goes = {blob.digest for image in IMAGES[:2] for blob in image.blobs}
    assert any(note.startswith(f"{len(goes)} of {len(goes)} blobs that were to be freed are") for note in result.notes)


def test_what_a_clean_up_is_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches sees what a clean-up is at, step by step, and of how many manifests."""
    seen: list[tuple[str, str, int]] = []
    known = type(progress.now).begin

    def begin(at: progress.Progress, stage: str, unit: str = "", total: int = 0) -> None:
        seen.append((stage, unit, total))
        known(at, stage, unit, total)

    monkeypatch.setattr(type(progress.now), "begin", begin)
    with serve(FakeRegistry()) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        seen.clear()
        assert regdata.apply(plan, config).collection.ran
    assert [one for one in seen if one[0] != "reading"] == [
        ("deleting", "manifests", 2),
        ("verifying", "", 0),
        ("collecting", "", 0),
        ("verifying", "", 0),
    ]


@pytest.mark.parametrize("own", [True, False], ids=["own", "gc-command"])
def test_a_link_without_data_where_nothing_may_be_deleted(tmp_path: Path, own: bool) -> None:
    """Where regdata itself collects it has the registry forget what an earlier collection left linked: a login that may
    not delete there is refused before anything goes. gc-command needs no such right."""
    repositories, gone = tmp_path / "store/docker/registry/v2/repositories", IMAGES[2].digest
    (repositories / "a/_manifests").mkdir(parents=True)
    link = repositories / "b/_layers" / gone.replace(":", "/") / "link"
    link.parent.mkdir(parents=True)
    link.write_text(gone)
    small = Small()
    small.push("a", "old", days=9, layer=100)
    small.repository("b")
    with serve(Denied()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        settings = {"registry": registry, "sql": {}} | ({} if own else {"gc-command": ["true"]})
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        site = Site.open(config)
        plan = regdata.plan(small.inventory(collector=collector_of(config, site)), "1=1")
        with pytest.raises(RegdataError, match=r"DELETE .*/v2/b/.*HTTP 403" if own else r"POST .*/v2/a/"):
            check_plan(plan, config, site, gc=True, force=False)


def test_a_second_run_is_told_the_record_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts a run while another is at work is told where to look how far that is: in its record."""
    told: list[str] = []
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")

        def start() -> None:
            with pytest.raises(StorageError) as error:
                regdata.apply(plan, config, gc=False)
            told.append(str(error.value))

        at(monkeypatch, "deleting", start)
        assert regdata.apply(plan, config, gc=False).errors == []
    first = min(path.parent for path in tmp_path.glob("reports/*/record.json"))
    assert f"; its record is {first}." in told[0]


def test_the_record_of_a_clean_up_from_python(tmp_path: Path) -> None:
    """Its record says by which condition it deleted."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        assert cleaned(fake, tmp_path, "tag_name = '0'").errors == []
    (path,) = tmp_path.glob("reports/*/record.json")
    facts = PastRun(path.parent).facts
    assert (facts["sql_id"], facts["action"], facts["condition"]) == ("apply", "del", "tag_name = '0'")


class PushedAgain(FakeRegistry):
    """Somebody pushes an image again once it was seen to be gone."""

    def __init__(self, image: Image) -> None:
        super().__init__(pages=True)
        self.image = image

    def answer(self, method: str, target: str) -> Reply:
        reply = super().answer(method, target)
        if (method, target, reply.status) == ("HEAD", f"/v2/app/manifests/{self.image.digest}", 404):
            self.push("app", "late", self.image)
        return reply


def test_a_signature_that_can_not_be_put_back(tmp_path: Path) -> None:
    """Where an image is pushed again right after this run deleted it and its signature, and the registry does not take
    that back, the run ends with an error, and does not collect."""
    image, signature, ran = IMAGES[0], make_signature(IMAGES[0]), tmp_path / "ran"
    with serve(PushedAgain(image)) as fake:
        for tag, one in (("0", image), (signature_tag(image), signature), ("1", IMAGES[1])):
            fake.push("app", tag, one)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["touch", str(ran)], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config)
        assert fake.tags["app"].keys() == {"late", "1"}
    assert any(f"app@{signature.digest}, which this run deleted, is needed" in error for error in result.errors)
    assert not ran.exists()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_signature_of_what_is_there_in_another_image(tmp_path: Path, algorithm: str) -> None:
    """A signature that went with its image is not put back for the sake of the same one in another repository."""
    image, signature = IMAGES[0], make_signature(IMAGES[0])
    tag = f"{digest_of(image.manifest, algorithm).replace(':', '-')[:71]}.sig"
    with serve(FakeRegistry()) as fake:
        for name, of, one in (("a", "0", image), ("a", tag, signature), ("b", "0", image), ("b", "1", IMAGES[1])):
            fake.push(name, of, one)
        result = cleaned(fake, tmp_path, "image_name = 'a' or tag_name = '1'")
        assert {name: {*tags} for name, tags in fake.tags.items()} == {"a": set(), "b": {"0"}}
    assert (result.errors, [note for note in result.notes if "is needed" in note]) == ([], [])


def test_how_much_of_what_went_was_looked_for(tmp_path: Path) -> None:
    """The record says how many tags that went were looked for, and how many manifests that no tag was on."""
    with serve(FakeRegistry(pages=True)) as fake:
        fake.push("app", "0", make_index(IMAGES[:2]))
        fake.push("app", "1", IMAGES[2])
        assert cleaned(fake, tmp_path, "tag_name = '0'").errors == []
    (path,) = tmp_path.glob("reports/*/record.json")
    assert json.loads(path.read_text())["verified"] == {"gone": 3, "tags": 1, "manifests": 1, "blobs": 0}


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
        (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
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


def test_a_manifest_among_the_blobs_of_another_image(tmp_path: Path) -> None:
    """Over the API, a manifest that stays, and may be linked as a blob, refuses gc-command before anything goes, though
    the same one goes in another image."""
    with serve(FakeRegistry()) as fake:
        for name, tag, image in (("a", "0", IMAGES[0]), ("a", "1", IMAGES[1]), ("b", "0", IMAGES[0])):
            fake.push(name, tag, image)
        fake.blobs[IMAGES[0].digest] = IMAGES[0].manifest
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        (tmp_path / "conf.json").write_text(json.dumps(settings))
        config = load_config(tmp_path / "conf.json")
        plan = regdata.plan(regdata.scan(config), "image_name = 'a' and tag_name = '0'")
        assert plan.manifests["image_name"].tolist() == ["a"]
        told = rf"1 manifests may be linked as blobs, such as b@{IMAGES[0].digest}; .* nothing was deleted"
        with pytest.raises(CleanupError, match=told):
            regdata.apply(plan, config)
        assert fake.tags["a"].keys() == {"0", "1"}
