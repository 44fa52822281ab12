"""A registry that fails, stalls, lies or breaks off, during scan and clean-up, with and without base_path.

Whatever happens, the outcome is right or an error of one line, nothing is gone that an undisturbed run would leave, and
once the registry is mended another run ends as an undisturbed one does: each time where something was deleted, in
`test_catalog_without_end` where nothing was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from regdata.demo.samples import Image
from regdata.records.reading import read_events, read_facts
from regdata.sources.registry import TIMEOUT
from regdata.sources.site import Site
from tests.support.proxy import Fault
from tests.support.scene import AMD, INDEX, LATEST, OLD, SHARED, Finished, NewScene, Scene, Store, broken

ALWAYS = float("inf")

# Requests
CATALOG = ("GET", "/_catalog")
TAGS = ("GET", "/tags/list")
INDEX_TAG = ("GET", "prod/app/manifests/1.0")
INDEX_HEAD = ("HEAD", "prod/app/manifests/1.0")
CHILD = ("GET", f"prod/app/manifests/{AMD.digest}")
OLD_TAG = ("GET", "prod/old/manifests/old")
ANY_READ = ("GET", "/manifests/")
HEADS = ("HEAD", "/manifests/")
BLOB_HEADS = ("HEAD", "/blobs/")
BLOBS = ("GET", "/blobs/")
DELETE = ("DELETE", INDEX.digest)
PROBE = ("DELETE", "/manifests/sha256:")
UPLOAD = ("POST", "/blobs/uploads/")


def other_manifest(image: Image) -> Fault:
    """A 200 with another manifest, of which every header is right."""
    headers = {"Docker-Content-Digest": image.digest, "Content-Type": image.media_type}
    return Fault(200, headers, body=lambda _: image.manifest)


# Faults
ERROR = Fault(500, body=lambda _: b'{"errors": [{"code": "UNKNOWN", "message": "unknown error"}]}')
LATER = Fault(429, {"Retry-After": "1"})
RESET = Fault(how="reset")
RESET_AFTER = Fault(how="reset", carried_out=True)
ERROR_AFTER = Fault(500, carried_out=True)
CUT = Fault(how="cut", carried_out=True)
HALF = Fault(body=lambda body: body[: len(body) // 2], carried_out=True)
CHANGED = Fault(body=lambda body: body.replace(b"sha256:", b"sha256:f", 1), carried_out=True)
OLDER = Fault(body=lambda body: body.replace(b'"created": "20', b'"created": "19'), carried_out=True)
STALL = Fault(how="stall")
STALL_AFTER = Fault(how="stall", carried_out=True)
NOT_ALLOWED = Fault(405)


class Case(NamedTuple):
    """What is broken for how many requests, and what comes of it: right, undated (right, and no build date is known),
    kept (less goes, no error) or the error."""

    request: tuple[str, str]
    fault: Fault
    times: float
    outcome: str


SCAN_BY_API = {
    "500 once": Case(ANY_READ, ERROR, 1, "right"),
    "500 for a list of tags": Case(TAGS, ERROR, ALWAYS, "GET .*tags/list: HTTP 500"),
    "500 for an index": Case(INDEX_TAG, ERROR, ALWAYS, "kept"),
    "500 for a child": Case(CHILD, ERROR, ALWAYS, "kept"),
    "429 once": Case(ANY_READ, LATER, 1, "right"),
    "429 for ever": Case(ANY_READ, LATER, ALWAYS, "HTTP 429; the registry limits the rate"),
    "reset once": Case(TAGS, RESET, 1, "right"),
    "reset for ever": Case(CATALOG, RESET, ALWAYS, "the connection broke"),
    "connection cut once": Case(TAGS, CUT, 1, "right"),
    "half of the catalog": Case(CATALOG, HALF, ALWAYS, "no JSON list of repositories"),
    "half of a list of tags": Case(TAGS, HALF, ALWAYS, "no JSON list of tags"),
    "half of an index": Case(INDEX_TAG, HALF, ALWAYS, "kept"),
    "a manifest that is not its digest's": Case(OLD_TAG, CHANGED, ALWAYS, "kept"),
    "a config that is not its digest's": Case(BLOBS, OLDER, ALWAYS, "undated"),
    "stall once": Case(ANY_READ, STALL, 1, "right"),
    "stall for ever": Case(TAGS, STALL, ALWAYS, "no answer within 1 s"),
    "a kept image instead of the index": Case(INDEX_TAG, other_manifest(LATEST), ALWAYS, "kept"),
    "another selected image instead of the index": Case(INDEX_TAG, other_manifest(SHARED), ALWAYS, "kept"),
    "another image instead of a child": Case(CHILD, other_manifest(OLD), ALWAYS, "kept"),
}

SCAN_BY_STORE = {
    "500 for ever": Case(CATALOG, ERROR, ALWAYS, "GET .*_catalog.*HTTP 500"),
    "500 once": Case(HEADS, ERROR, 1, "right"),
    "500 for every manifest": Case(HEADS, ERROR, ALWAYS, "HEAD .*HTTP 500"),
    "reset once": Case(CATALOG, RESET, 1, "right"),
    "half of the catalog": Case(CATALOG, HALF, ALWAYS, "no JSON list of repositories"),
    "stall for ever": Case(CATALOG, STALL, ALWAYS, "no answer within 1 s"),
    "another manifest for every tag": Case(HEADS, other_manifest(OLD), ALWAYS, "is not the folder of"),
}

# From the first look before the deletions on; with base_path the store is read, not the API.
APPLY = {
    "500 for a deletion": Case(DELETE, ERROR, 1, "DELETE .*HTTP 500"),
    "500 for a deletion that was carried out": Case(DELETE, ERROR_AFTER, 1, "right"),
    "429 for a deletion": Case(DELETE, LATER, 1, "right"),
    "reset before a deletion": Case(DELETE, RESET, 1, "the connection broke"),
    "reset after a deletion": Case(DELETE, RESET_AFTER, 1, "right"),
    "stall before a deletion": Case(DELETE, STALL, 1, "no answer within 1 s"),
    "stall after a deletion": Case(DELETE, STALL_AFTER, 1, "right"),
    "a deletion that is not allowed": Case(DELETE, NOT_ALLOWED, ALWAYS, "delete is disabled"),
    "202 and nothing": Case(("DELETE", "/manifests/sha256:"), Fault(202), ALWAYS, "answered that it deleted"),
    "202 and nothing for one": Case(("DELETE", OLD.digest), Fault(202), ALWAYS, "answered that it deleted"),
    "500 when asked whether it deletes": Case(PROBE, ERROR, 1, "DELETE .*HTTP 500"),
    "reset when asked whether it deletes": Case(PROBE, RESET, 1, "the connection broke"),
    "no deletion allowed": Case(PROBE, NOT_ALLOWED, ALWAYS, "delete is disabled"),
    "500 for collected blobs": Case(BLOB_HEADS, ERROR, ALWAYS, "does not answer (after|whether)"),
    "stall once for a collected blob": Case(BLOB_HEADS, STALL, 1, "right"),
}

APPLY_BY_API = {
    "500 once for a manifest": Case(HEADS, ERROR, 1, "right"),
    "reset once for a manifest": Case(HEADS, RESET, 1, "right"),
    "a tag that has moved, says HEAD alone": Case(INDEX_HEAD, other_manifest(LATEST), ALWAYS, "kept"),
    "a tag that has moved, it says": Case(("HEAD GET", INDEX_TAG[1]), other_manifest(LATEST), ALWAYS, "kept"),
    "500 for a list of tags": Case(TAGS, ERROR, ALWAYS, "GET .*tags/list: HTTP 500"),
    "half of a list of tags": Case(TAGS, HALF, ALWAYS, "no JSON list of tags"),
    "a manifest that is not its digest's": Case(ANY_READ, CHANGED, ALWAYS, "does not match its digest"),
    "connection cut once": Case(ANY_READ, CUT, 1, "right"),
}

APPLY_BY_STORE = {
    "500 for the upload that base_path is tried with": Case(UPLOAD, ERROR, 1, "POST .*HTTP 500"),
    "an upload that goes elsewhere": Case(
        UPLOAD, Fault(202, {"Location": "/v2/prod/app/blobs/uploads/none"}), ALWAYS, "not the folder that .* writes to"
    ),
}


@pytest.fixture
def new_scene(new_scene: NewScene, request: pytest.FixtureRequest, naps: list[float]) -> NewScene:
    """Nobody waits long for stalls, nor between retries."""
    case = request.node.callspec.params.get("case")
    timeout = (1.0, 1.0) if case and case.fault.how == "stall" else TIMEOUT

    def impatient(**options: bool) -> Scene:
        scene = new_scene(**options)
        scene.open_site = partial(Site.open, timeout=timeout, start_time=0.1)
        return scene

    return impatient


def breaks(scene: Scene, case: Case) -> Callable[[], None]:
    """What breaks the registry, so and no more."""

    def fault() -> None:
        scene.proxy.mend()
        scene.proxy.on(*case.request, case.fault, times=case.times)

    return fault


def check(scene: Scene, before: Store, finished: Store, error: str, case: Case) -> None:
    """See the module's docstring."""
    scene.proxy.mend()
    store = scene.store()
    assert finished.within(store), "more is gone than was planned"
    assert broken(scene.base_path) == []
    check_told(scene, store)
    if case.outcome in ("right", "undated", "kept"):
        assert error == ""
        assert (store == finished) == (case.outcome != "kept")
        assert scene.run
        assert scene.run.inventory
        assert (scene.run.inventory.images["created"].notna().sum() == 0) == (case.outcome == "undated")
    else:
        assert re.search(case.outcome, error)
        assert "\n" not in error
    if store not in (before, finished):
        assert scene.clean() == ""
        assert scene.store() == finished


def check_told(scene: Scene, store: Store) -> None:
    """The outcome of each tag and manifest, the counts of the record and the lines of the journal say what is gone."""
    if not scene.run or not scene.run.result:
        return
    result, facts, events = scene.run.result, read_facts(scene.records()[-1]), [*read_events(scene.records()[-1])]
    tags, revisions = {tag[:2] for tag in store.tags}, store.revisions
    for frame, column, there in ((result.tags, "tag_name", tags), (result.manifests, "manifest_hash", revisions)):
        for *name, outcome in frame[["image_name", column, "outcome"]].itertuples(index=False):
            assert ((name[0], name[1]) in there) == (outcome not in ("deleted", "untagged")), (name, outcome)
    counted = [*result.tags["outcome"], *(f"manifest {outcome}" for outcome in result.manifests["outcome"])]
    assert facts["tags_deleted"] == counted.count("deleted")
    assert facts["tags_untagged"] == counted.count("untagged")
    assert facts["tags_kept"] == counted.count("kept") + counted.count("moved")
    assert facts["manifests_deleted"] == counted.count("manifest deleted")
    begun, done = (
        {(event["image"], event["digest"]) for event in events if event["event"] == kind}
        for kind in ("deleting", "deleted")
    )
    gone = set(
        result.manifests.loc[result.manifests["outcome"] == "deleted", ["image_name", "manifest_hash"]].itertuples(
            index=False, name=None
        )
    )
    assert gone <= done <= begun
    assert {(image, digest) for image, digest in begun if (image, digest) not in revisions} == gone


def cases(*tables: dict[str, Case]) -> pytest.MarkDecorator:
    """The parameter `case`, with its name."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=name) for table in tables for name, case in table.items()]
    )


@cases(SCAN_BY_API)
def test_scan_by_api(new_scene: NewScene, finished: Finished, case: Case) -> None:
    """What the API can't tell during the scan is kept, or ends the run before anything is deleted."""
    scene = new_scene(store=False)
    before = scene.store()
    error = scene.clean(before_scan=breaks(scene, case), before_apply=scene.proxy.mend)
    assert not error or scene.store() == before
    check(scene, before, finished[False], error, case)


@cases(SCAN_BY_STORE)
def test_scan_by_store(new_scene: NewScene, finished: Finished, case: Case) -> None:
    """With base_path the API is asked whether it is the same registry; a wrong answer ends the run."""
    scene = new_scene()
    before = scene.store()
    error = scene.clean(before_scan=breaks(scene, case), before_apply=scene.proxy.mend)
    assert not error or scene.store() == before
    check(scene, before, finished[True], error, case)


@cases(APPLY, APPLY_BY_API)
def test_apply_by_api(new_scene: NewScene, finished: Finished, case: Case) -> None:
    """What fails during the clean-up is asked again, skipped, or ends it."""
    scene = new_scene(store=False)
    check(scene, scene.store(), finished[False], scene.clean(before_apply=breaks(scene, case)), case)


@cases(APPLY, APPLY_BY_STORE)
def test_apply_by_store(new_scene: NewScene, finished: Finished, case: Case) -> None:
    """What fails during the clean-up is asked again, skipped, or ends it."""
    scene = new_scene()
    check(scene, scene.store(), finished[True], scene.clean(before_apply=breaks(scene, case)), case)


@pytest.mark.parametrize(
    ("store", "link"),
    [(True, "</v2/_catalog?n=1000>"), (False, "</v2/_catalog?last=prod%2Fold&n=1000>")],
    ids=["store, loops", "api, repeats"],
)
def test_catalog_without_end(new_scene: NewScene, finished: Finished, store: bool, link: str) -> None:
    """A catalog whose pages repeat can't be trusted: nothing is deleted, and nothing is in the way of the next run."""
    scene = new_scene(store=store)
    page = json.dumps({"repositories": ["base/lib", "prod/app", "prod/old"]}).encode()
    before = scene.store()
    scene.proxy.on(*CATALOG, Fault(200, {"Link": f'{link}; rel="next"'}, body=lambda _: page))
    assert "the list of repositories repeats itself" in scene.clean()
    assert scene.store() == before
    scene.proxy.mend()
    assert scene.clean() == ""
    assert scene.store() == finished[store]
