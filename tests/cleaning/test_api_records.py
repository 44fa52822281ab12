"""What a clean-up over the API says and writes down, and what a later one makes of that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.config import load_config
from regdata.demo.samples import Image, make_index, make_signature, signature_tag
from regdata.errors import StorageError
from regdata.records.reading import PastRun
from regdata.records.record import Record
from regdata.sources import progress
from tests.cleaning.test_changes import at
from tests.support.by_api import IMAGES, cleaned, configured
from tests.support.fakes import FakeRegistry, serve
from tests.support.odd import digest_of
from tests.support.server import Reply


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
        config = configured(tmp_path, settings)
        first = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config, gc=False)
        assert first.errors == []
        index = make_index(IMAGES[:1])
        fake.manifests["app"][index.digest] = index  # without its child
        fake.tags["app"]["late"] = index.digest
        (error,) = regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config).errors
        assert error == "what is pushed goes on needing what had been deleted: run again to collect"
        assert not ran.exists()


def test_a_tag_that_goes_alone_is_written_down_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that goes alone is in the journal before it goes, so that it can be restored should the run be killed."""
    there: list[set[str]] = []
    with serve(FakeRegistry(pages=True)) as fake:
        for tag in ("alone", "same"):
            fake.push("app", tag, IMAGES[1])
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name = 'alone'")
        at(monkeypatch, "untagging", lambda: there.append({*fake.tags["app"]}))
        assert regdata.apply(plan, config, gc=False).errors == []
        assert there == [{"alone", "same"}]
        assert {*fake.tags["app"]} == {"same"}


def test_what_was_given_up_is_not_to_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run had begun with, and left since somebody pushed a tag onto it, is no work for a later run to finish."""
    with serve(FakeRegistry()) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        at(monkeypatch, "deleting", lambda: fake.push("app", "again", IMAGES[0]))
        assert regdata.apply(plan, config, gc=False).errors == []
    (path,) = tmp_path.glob("reports/*/record.json")
    assert [digest for _, digest, _ in PastRun(path.parent).going] == [IMAGES[1].digest]


def test_what_was_looked_for_is_told(tmp_path: Path) -> None:
    """The record says how much was looked for at the end: what went, and what stays."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        assert cleaned(fake, tmp_path, "tag_name in ('0', '1')").errors == []
    (path,) = tmp_path.glob("reports/*/record.json")
    assert json.loads(path.read_text())["verified"] == {"gone": 2, "tags": 1, "manifests": 1, "blobs": 0}


def test_bytes_of_what_others_deleted(tmp_path: Path) -> None:
    """What is expected to be freed is what this run deleted and what others did since the scan, be it nothing that was
    to go."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
        inventory = regdata.scan(config)
        plan, both = (regdata.plan(inventory, f"tag_name in ({tags})") for tags in ("'0'", "'0', '1'"))
        del fake.tags["app"]["1"], fake.manifests["app"][IMAGES[1].digest]
        result = regdata.apply(plan, config, gc=False)
    assert result.errors == []
    assert result.bytes_expected == both.reclaimable > plan.reclaimable == result.bytes_predicted


def test_the_registry_is_asked_for_what_others_deleted(tmp_path: Path) -> None:
    """Over the API the registry is asked after gc-command for all that was to go by then, what others had deleted since
    the scan, too."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        config = configured(tmp_path, settings)
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
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name in ('0', '1')")
        seen.clear()
        assert regdata.apply(plan, config).collection.ran
    assert [one for one in seen if one[0] != "reading"] == [
        ("deleting", "manifests", 2),
        ("verifying", "", 0),
        ("collecting", "", 0),
        ("verifying", "", 0),
    ]


def test_a_second_run_is_told_the_record_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts a run while another is at work is told where to look how far that is: in its record."""
    told: list[str] = []
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
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
        config = configured(tmp_path, settings)
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
