"""registry.repositories: what is outside is not touched, and what is not known of it is not predicted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import requests

import regdata
from regdata.cleaning.checks import check_plan
from regdata.demo.samples import make_image, make_layer
from regdata.errors import CleanupError, RegdataError
from regdata.inventory.scan import collector_of
from regdata.planning.plan import Plan
from regdata.sources.site import Site
from tests.support.fakes import FakeRegistry, serve
from tests.support.helpers import age, nobodys_blob
from tests.support.proxy import Fault
from tests.support.scene import BASE, OLD, NewScene, Scene, read_store
from tests.support.small import Small
from tests.support.sweeping import data_path, link_path

SHARED = make_layer("within-shared", 50)
ONE, TWO, APART = (make_image([SHARED, make_layer(("within", number), 90)], oci=True) for number in range(3))
Planned = Callable[..., tuple[FakeRegistry, Plan]]


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[Planned]:
    """`planned(*patterns)`: the plan, over the API, of all tags of what these mean of team/one, team/two and apart."""
    with ExitStack() as stack:

        def plan(*patterns: str) -> tuple[FakeRegistry, Plan]:
            fake = stack.enter_context(serve(FakeRegistry()))
            for name, image in {"team/one": ONE, "team/two": TWO, "apart": APART}.items():
                fake.push(name, "1", image)
            registry = {"url": fake.url, "repositories": list(patterns)}
            (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}, "cache": False}))
            return fake, regdata.plan(regdata.scan(regdata.load_config(tmp_path)), "1=1")

        yield plan


@pytest.mark.parametrize(
    ("patterns", "images", "known"),
    [
        (["*"], 3, True),
        (["team/*", "apart"], 3, True),
        (["team/*"], 2, False),
        (["t*"], 2, False),
        (["team/one"], 1, False),
        (["team/one", "a*"], 2, False),
        (["team/one", "team/two", "apart"], 3, False),
    ],
)
def test_over_the_api(planned: Planned, patterns: list[str], images: int, known: bool) -> None:
    """Bytes are predicted only where the catalog shows that nothing is outside; else that is said to be unknown."""
    fake, plan = planned(*patterns)
    assert len(plan.tags) == images
    assert bool(plan.reclaimable) is known
    assert bool(plan.inventory.images["exclusive_size"].max()) is known
    assert ("outside registry.repositories" in " ".join(plan.notes)) is not known
    outside = {"team/one", "team/two", "apart"} - {*plan.inventory.repositories["image_name"]}
    assert not [line for line in fake.seen for name in outside if f"/{name}/" in line]
    for name in outside:
        with pytest.raises(RegdataError, match=f"{name}:1 is outside registry.repositories"):
            plan.explain(f"{name}:1")
    assert "nothing in which there is a tag" not in " ".join(plan.notes)


def test_a_name_that_means_nothing(planned: Planned) -> None:
    """A name that the registry does not know, and a pattern that nothing fits, are said."""
    _, plan = planned("team/one", "team/tow", "x*")
    assert "registry.repositories: team/tow, x* mean nothing in which there is a tag" in " ".join(plan.notes)


def test_a_plan_from_before(planned: Planned, tmp_path: Path) -> None:
    """A plan that was made when conf.json meant more is refused, be it for tags that go alone."""
    fake, plan = planned("*")
    registry = {"url": fake.url, "repositories": ["team/*"]}
    (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
    alone = replace(plan, tags=plan.tags.assign(action="untag"), manifests=plan.manifests.iloc[:0])
    for refused in (plan, alone):
        with pytest.raises(CleanupError, match=r"apart is outside registry\.repositories of .*: plan anew"):
            regdata.apply(refused, regdata.load_config(tmp_path), gc=False)
    assert len(fake.tags["apart"]) == 1


def within(scene: Scene, *patterns: str) -> None:
    scene.set(registry={**scene.settings["registry"], "repositories": list(patterns)})


def link_outside(scene: Scene) -> None:
    """A link to data that goes, in a repository outside; a day old."""
    link = link_path(scene.registry, "base/lib", OLD.blobs[-1].digest)
    link.parent.mkdir(parents=True)
    link.write_text(OLD.blobs[-1].digest)
    age(link.parent, 86400)


def leftovers(scene: Scene) -> tuple[Path, Path]:
    """A link to data that is gone, and the folder of a link to data that goes, in a repository outside."""
    gone = make_layer("within-dangling", 5).digest
    dangling, left = (link_path(scene.registry, "base/lib", digest) for digest in (gone, OLD.blobs[-1].digest))
    left.parent.mkdir(parents=True)
    dangling.parent.mkdir()
    dangling.write_text(gone)
    return dangling, left.parent


NOTHING = {"gc_before": None, "gc_command": None, "gc_after": None}


@pytest.mark.parametrize("changes", [NOTHING, {"gc_command": None}, {}], ids=["own", "stopped", "gc-command"])
def test_beside_a_folder(new_scene: NewScene, changes: dict[str, None]) -> None:
    """Beside base_path all is read, so that bytes are exact; outside neither tags nor orphans go, nor empty
    repositories, and the plan says why. A login that opens nothing outside is enough where regdata collects, whatever
    is left there of links."""
    scene = new_scene()
    dangling, left = leftovers(scene)
    within(scene, "prod/ol*", "prod/none")
    scene.set(**changes)
    own = changes == NOTHING
    if changes:
        scene.proxy.on("GET HEAD PUT POST DELETE", "^/v2/(base/lib|prod/app)/", Fault(403))
    empty = scene.base_path / "docker/registry/v2/repositories/prod/apart/_layers"
    empty.mkdir(parents=True)
    before = scene.store()
    assert scene.clean() == ""
    assert empty.is_dir()
    assert scene.run
    plan, facts = scene.run.planned, scene.run.record.facts
    assert plan
    outside = plan.tags[plan.tags["image_name"] == "prod/app"]
    assert set(outside["reason"]) == {"outside"}
    assert "outside registry.repositories" in plan.explain("prod/app:1.0")
    lacks = scene.store().lacks(before)
    assert {name for name, _, _ in lacks.tags} == {name for name, _ in lacks.revisions} == {"prod/old"}
    kept = {BASE.digest, *((OLD.digest,) if own else ())}  # manifests' bytes stay beside a running registry
    assert lacks.blobs | kept == {OLD.digest, *(blob.digest for blob in OLD.blobs)} | kept
    assert facts["bytes_freed"] == facts["bytes_predicted"] > 0
    assert dangling.exists()
    assert left.exists()


def test_a_link_outside_where_the_registry_is_restarted(new_scene: NewScene) -> None:
    """What goes is linked outside, where the login may not ask: a new cache knows nothing of it, and the next run, too,
    has nothing to see to."""
    scene = new_scene()
    within(scene, "prod/*")
    link_outside(scene)
    scene.proxy.on("GET HEAD PUT POST DELETE", "^/v2/base/lib/", Fault(403))
    assert scene.clean() == ""
    assert scene.clean() == ""


def test_a_link_outside_to_what_goes(new_scene: NewScene) -> None:
    """Where what goes is linked outside, too, the registry has to forget it there: without the right to delete there
    the run is refused before anything is deleted."""
    scene = new_scene()
    scene.collects_itself()
    within(scene, "prod/ol*")
    link_outside(scene)
    scene.proxy.on("DELETE", "^/v2/base/lib/", Fault(403))
    before = scene.store()
    assert "403" in scene.clean()
    assert scene.store() == before


def test_what_nobody_links(new_scene: NewScene) -> None:
    """Where nothing goes but data without a link, nothing outside is asked, either."""
    scene = new_scene()
    scene.collects_itself()
    scene.set(sql={"scene": "2=1"})
    within(scene, "prod/old")
    scene.proxy.on("GET HEAD PUT POST DELETE", "^/v2/(base/lib|prod/app)/", Fault(403))
    unlinked = data_path(scene.registry, make_layer("within-unlinked", 5).digest)
    unlinked.parent.mkdir(parents=True)
    unlinked.write_bytes(make_layer("within-unlinked", 5).data)
    age(unlinked.parent, 86400)
    assert scene.clean() == ""
    assert not unlinked.exists()


def test_what_goes_over_the_api(new_scene: NewScene) -> None:
    """Where bytes are unknown, what others inside hold is not said to be still there though it was to go."""
    scene = new_scene(store=False)
    within(scene, "prod/*")
    assert scene.clean() == ""
    assert scene.run
    assert scene.run.result
    assert not any("still stored" in note for note in scene.run.result.notes)


def test_nothing_there(new_scene: NewScene) -> None:
    """Names that mean nothing in the folder leave all of it alone."""
    scene = new_scene()
    within(scene, "nobody")
    before = read_store(scene.base_path)
    assert scene.clean(gc=False) == ""
    assert read_store(scene.base_path) == before


def test_nothing_there_in_another_registrys_folder(new_scene: NewScene, tmp_path: Path) -> None:
    """Where names mean nothing, what nobody needs is collected all the same: but only if base_path is the registry's
    own."""
    scene, other = new_scene(), tmp_path / "other"
    shutil.copytree(scene.base_path, other)
    unlinked = nobodys_blob(other)
    scene.collects_itself()
    scene.set(registry={"url": scene.proxy.url, "base_path": str(other), "repositories": ["nobody"]})
    assert "is not the folder that" in scene.clean()
    assert unlinked.exists()
    scene.set(registry={"url": scene.proxy.url, "base_path": str(scene.base_path), "repositories": ["nobody"]})
    shutil.copytree(unlinked.parent, scene.base_path / unlinked.parent.relative_to(other))
    before = scene.store()
    assert scene.clean() == ""
    lacks = scene.store().lacks(before)
    assert (lacks.tags, lacks.repositories, len(lacks.blobs)) == (frozenset(), frozenset(), 1)
    assert scene.store().repositories == before.repositories


@pytest.mark.parametrize("other", [False, True])
def test_force_goes_beyond_limits_alone(planned: Planned, tmp_path: Path, other: bool) -> None:
    """What is outside registry.repositories, and what another registry has, does not go with force, either."""
    fake, plan = planned("*")
    said = "the plan is of" if other else r"apart is outside registry\.repositories"
    with serve(FakeRegistry()) as elsewhere:
        elsewhere.push("apart", "1", APART)
        registry = {"url": elsewhere.url} if other else {"url": fake.url, "repositories": ["team/*"]}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
        with pytest.raises(CleanupError, match=said):
            regdata.apply(plan, regdata.load_config(tmp_path), gc=False, force=True)
        assert len(elsewhere.tags["apart"]) == len(fake.tags["apart"]) == 1


def test_a_cache_that_claims_what_went_over_the_api(new_scene: NewScene) -> None:
    """Where no bytes can be predicted, too, the registry is asked for what went, and what its cache claims is told."""
    scene = new_scene(store=False, cache=True)
    within(scene, "prod/*")
    for blob in OLD.blobs:  # the cache knows them
        requests.head(f"{scene.registry.url}/v2/prod/old/blobs/{blob.digest}", timeout=9).raise_for_status()
    assert "the registry still answers for" in scene.clean()


def test_nothing_there_and_nothing_to_free(tmp_path: Path) -> None:
    """Where names mean nothing, and nothing is to be collected, the registry is not tried out: a login may open
    nothing there."""
    small = Small()
    small.push("apart", "1", days=9, layer=100)
    (tmp_path / "store/docker/registry/v2/repositories/apart/_manifests").mkdir(parents=True)
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store"), "repositories": ["nobody"]}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
        config = regdata.load_config(tmp_path)
        site = Site.open(config)
        plan = regdata.plan(small.inventory(collector=collector_of(config, site)), "2=1")
        assert check_plan(plan, config, site, gc=True, force=False) == set()
        assert not [line for line in fake.seen if line.split()[0] not in ("GET", "HEAD")]
