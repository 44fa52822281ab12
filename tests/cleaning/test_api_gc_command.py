"""Over the API alone, beside gc-command: what that would take, took, or left, as far as a registry tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import regdata
from regdata.cleaning.checks import check_plan
from regdata.config import load_config
from regdata.demo.samples import make_index
from regdata.errors import CleanupError, RegdataError
from regdata.inventory.scan import collector_of
from regdata.sources.site import Site
from tests.cleaning.test_changes import at
from tests.support.by_api import IMAGES, cleaned, configured
from tests.support.fakes import FakeRegistry, error_reply, json_reply, serve
from tests.support.server import Reply
from tests.support.small import Small


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
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        with pytest.raises(CleanupError, match=r"1 repository may have no folder _layers, such as bare: .* deleted"):
            regdata.apply(plan, config)
        assert set(fake.tags["app"]) == {"0", "1"}
        fake.push("bare", "2", IMAGES[2])
        fake.on("GET /v2/_catalog?n=1000", json_reply({"repositories": ["app", "bare"]}), forever=True)
        assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name = '0'"), config).collection.ran


def test_pushed_while_a_gc_command_ran_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile and lacks what gc-command took is told where that failed, too, beside its exit code."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["false"], "gc-wait": 0}
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")

        def push() -> None:
            fake.push("app", "2", IMAGES[2])
            del fake.blobs[IMAGES[2].blobs[-1].digest]

        at(monkeypatch, "ran", push)
        failed, lacks = regdata.apply(plan, config).errors
        assert "gc-command failed with exit code 1" in failed
        assert f"1 manifest, such as app@{IMAGES[2].digest}, came while gc-command ran and lack what it took" in lacks


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
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        if late:
            at(monkeypatch, "ran", lambda: fake.tags["app"].update(late=IMAGES[2].digest))
        errors = regdata.apply(plan, config).errors
    assert len(errors) == late
    assert all("1 manifest, such as app:late, came while gc-command ran" in error for error in errors)


def test_a_gc_command_that_deletes_where_nothing_goes(tmp_path: Path) -> None:
    """A gc-command that deletes what no tag is on is refused where nothing goes, too: over the API it would be run."""
    with serve(FakeRegistry()) as fake:
        fake.push("app", "0", make_index(IMAGES[:2]))
        command = ["sh", "-c", f"touch {tmp_path}/ran; registry garbage-collect c.yml -m"]
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": command, "gc-wait": 0}
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "2=1")
        with pytest.raises(CleanupError, match=r"gc-command contains --delete-untagged .* nothing was deleted"):
            regdata.apply(plan, config)
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", [0, -1], ids=["config", "layer"])
def test_gc_command_took_a_part_of_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """Over the API, be it the config alone that what came while gc-command ran lacks, that is told."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in zip(("0", "1"), IMAGES, strict=False):
            fake.push("app", tag, image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        config = configured(tmp_path, settings)
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
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        at(monkeypatch, "ran", lambda: fake.push("app", "late", IMAGES[2]))
        assert regdata.apply(plan, config).errors == []
        assert "late" not in fake.tags["app"]


def test_nobody_can_collect_where_nothing_goes(tmp_path: Path) -> None:
    """A run that nobody can collect for is refused where nothing is to be deleted, too: it is there to collect."""
    with serve(FakeRegistry()) as fake:
        fake.push("app", "0", IMAGES[0])
        config = configured(tmp_path, {"registry": {"url": fake.url}, "sql": {}})
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


def test_deleted_by_others_and_pushed_while_gc_command_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the API what others had deleted since the scan, and pushed again while gc-command ran, is told where it
    lacks what that took, as what this run had deleted is."""
    with serve(FakeRegistry(pages=True)) as fake:
        for number, image in enumerate(IMAGES):
            fake.push("app", str(number), image)
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = '0'")
        del fake.tags["app"]["2"], fake.manifests["app"][IMAGES[2].digest]

        def push() -> None:
            fake.push("app", "2", IMAGES[2])
            del fake.blobs[IMAGES[2].blobs[-1].digest]

        at(monkeypatch, "ran", push)
        (lacks,) = regdata.apply(plan, config).errors
    assert f"1 manifest, such as app@{IMAGES[2].digest}, came while gc-command ran and lack what it took" in lacks


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
        config = configured(tmp_path, settings)
        site = Site.open(config)
        plan = regdata.plan(small.inventory(collector=collector_of(config, site)), "1=1")
        with pytest.raises(RegdataError, match=r"DELETE .*/v2/b/.*HTTP 403" if own else r"POST .*/v2/a/"):
            check_plan(plan, config, site, gc=True, force=False)


def test_a_manifest_among_the_blobs_of_another_image(tmp_path: Path) -> None:
    """Over the API, a manifest that stays, and may be linked as a blob, refuses gc-command before anything goes, though
    the same one goes in another image."""
    with serve(FakeRegistry()) as fake:
        for name, tag, image in (("a", "0", IMAGES[0]), ("a", "1", IMAGES[1]), ("b", "0", IMAGES[0])):
            fake.push(name, tag, image)
        fake.blobs[IMAGES[0].digest] = IMAGES[0].manifest
        settings = {"registry": {"url": fake.url}, "sql": {}, "gc-command": ["true"], "gc-wait": 0}
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "image_name = 'a' and tag_name = '0'")
        assert plan.manifests["image_name"].tolist() == ["a"]
        told = rf"1 manifests may be linked as blobs, such as b@{IMAGES[0].digest}; .* nothing was deleted"
        with pytest.raises(CleanupError, match=told):
            regdata.apply(plan, config)
        assert fake.tags["a"].keys() == {"0", "1"}


@pytest.mark.parametrize("status", [403, 500])
def test_what_is_outside_and_can_not_be_looked_at(tmp_path: Path, naps: list[float], status: int) -> None:
    """Of what registry.repositories leaves out all is looked at that the login may look at; a repository at which the
    registry fails is nobody's business."""
    with serve(FakeRegistry()) as fake:
        fake.push("app", "old", IMAGES[0])
        for name, image in zip(("x", "y", "z"), (*IMAGES[1:], make_index(IMAGES[:1])), strict=True):
            fake.push(name, "1", image)
        fake.on("GET /v2/y/tags/list", error_reply(status, "DENIED"), forever=True)
        registry = {"url": fake.url, "repositories": ["app"]}
        settings = {
            "registry": registry,
            "gc-command": ["true"],
            "gc-before": ["true"],
            "gc-after": ["true"],
            "sql": {},
        }
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
        fake.seen.clear()
        assert regdata.apply(plan, config).errors == []
        assert {f"GET /v2/{name}/manifests/1" in fake.seen for name in "xz"} == {True}


def test_a_tag_at_which_the_registry_fails(tmp_path: Path) -> None:
    """Where the registry can't serve a tag (3.x, of schema 1) its collector would stop at that: nothing is deleted."""
    with serve(FakeRegistry(pages=True)) as fake:
        for tag, image in {"old": IMAGES[0], "1": IMAGES[1], "dead": IMAGES[2]}.items():
            fake.push("app", tag, image)
        for reference in ("dead", IMAGES[2].digest):
            for method in ("GET", "HEAD"):
                fake.on(f"{method} /v2/app/manifests/{reference}", error_reply(500, "UNKNOWN"), forever=True)
        settings = {"registry": {"url": fake.url}, "gc-command": ["true"], "sql": {}}
        config = configured(tmp_path, settings)
        plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
        with pytest.raises(
            CleanupError, match=r"1 tag can't be served, such as app:dead, .* stops .* nothing was deleted"
        ):
            regdata.apply(plan, config)
        assert set(fake.tags["app"]) == {"old", "1", "dead"}
