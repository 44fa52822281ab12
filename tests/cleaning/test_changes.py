"""Tags of one image that change between the scan and the deletion, with more manifests than are deleted at a time."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

import regdata
from regdata.cleaning.order import Manifest
from regdata.cleaning.result import Result
from regdata.cleaning.review import Review
from regdata.config import Config, load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    signature_tag,
)
from regdata.records.record import Record
from tests.support.helpers import age, store_tags
from tests.support.odd import digest_of, push_manifest
from tests.support.proxy import Fault, faults_before
from tests.support.scene import broken

TAGS = 6
IMAGES = [make_image([make_layer(number, 100 + number)]) for number in range(TAGS)]
NEW = make_image([make_layer("new", 50)])
ACCEPT = {"Accept": ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX))}


@pytest.fixture(params=["folder", "api"])
def config(registry: LocalRegistry, conf: Callable[..., Path], request: pytest.FixtureRequest) -> Config:
    """A registry with tags 0, 1, 2… of app and one of another image, pushed three hours ago."""
    for number, image in enumerate(IMAGES):
        push(registry.url, "app", str(number), image)
    push(registry.url, "other", "kept", NEW)
    age(registry.base_path, 3 * 3600)
    where = {"url": registry.url, "base_path": str(registry.base_path)}
    if request.param == "api":
        del where["base_path"]
    return load_config(conf(registry, registry=where))


def outcomes(result: Result) -> dict[str, Counter[str]]:
    return {"tags": Counter(result.tags["outcome"]), "manifests": Counter(result.manifests["outcome"])}


def record(config: Config) -> dict[str, Any]:
    (path,) = config.reports.glob("*/record.json")
    facts: dict[str, Any] = json.loads(path.read_bytes())
    return facts


def journal(config: Config) -> list[dict[str, Any]]:
    (path,) = config.reports.glob("*/journal.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


# What other tests do not ask for; they take the site's own number, in which all have room.
@pytest.mark.parametrize("batch", [1, 4, TAGS])
def test_one_was_pushed_again(registry: LocalRegistry, config: Config, batch: int) -> None:
    """One of many tags that go has moved: it alone stays, and the record, the journal and the progress say so."""
    plan = regdata.plan(regdata.scan(config), "image_name = 'app'")
    push(registry.url, "app", "4", NEW)
    seen: list[tuple[int, int]] = []
    result = regdata.apply(plan, config, batch=batch, progress=lambda *done: seen.append(done))
    assert result.errors == []
    assert store_tags(registry.base_path) == {"app:4", "other:kept"}
    assert outcomes(result) == {
        "tags": {"deleted": TAGS - 1, "moved": 1},
        # What its tag has left is an orphan by now; over the API it is not known to be an old one.
        "manifests": {"deleted": TAGS} if plan.inventory.from_store else {"deleted": TAGS - 1, "moved": 1},
    }
    assert (result.bytes_expected < result.bytes_predicted) == (not plan.inventory.from_store)
    facts = record(config)
    assert (facts["tags_deleted"], facts["tags_kept"], facts["tags_moved"]) == (TAGS - 1, 1, 1)
    moved = [event["name"] for event in journal(config) if event["event"] == "moved" and ":" not in event["name"]]
    assert moved == ["4"]
    assert seen[-1] == (TAGS, TAGS)
    assert len(seen) >= (TAGS - 1) // batch
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    again = regdata.plan(regdata.scan(config), "tag_name <> '4' and image_name = 'app'")
    assert again.tags.empty


def at(monkeypatch: pytest.MonkeyPatch, event: str, do: Callable[[], object]) -> None:
    """Has something happen when the first such line of a journal is written, right before what it says is done."""
    journal, left = Record.journal, [do]

    def write(record: Record, *events: dict[str, Any]) -> None:
        journal(record, *events)
        if left and any(one["event"] == event for one in events):
            left.pop()()

    monkeypatch.setattr(Record, "journal", write)


Pushes = dict[str, tuple[str | None, Image]]
# What the API does not show, or not in a request: a tag that is moved or was pushed again, and what has no tag.
HIDDEN = {"a tag that stays", "the same tag", "by digest alone", "an index by digest alone"}
PUSHES: Pushes = {
    "a new tag": ("release", IMAGES[5]),
    "a tag that stays": ("kept", IMAGES[5]),
    "the same tag": ("5", IMAGES[5]),
    "a new index": ("index", make_index([IMAGES[5]])),
    "a referrer": ("signature", make_referrer(IMAGES[5])),
    "by digest alone": (None, IMAGES[5]),
    "an index by digest alone": (None, make_index([IMAGES[5]], oci=False)),
}


@pytest.mark.parametrize(
    ("config", "what"),
    [(source, what) for source in ("folder", "api") for what in PUSHES if source == "folder" or what not in HIDDEN],
    indirect=["config"],
)
def test_pushed_right_before_its_deletion(
    registry: LocalRegistry, config: Config, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pushed onto a digest, or comes to need it, when its image was looked at already, is seen right before."""
    tag, image = PUSHES[what]
    folder = config.registry.base_path is not None
    push(registry.url, "app", "kept", NEW)
    age(registry.base_path, 3 * 3600)
    plan = regdata.plan(regdata.scan(config), "image_name = 'app' and tag_name <> 'kept'")
    at(monkeypatch, "deleting", lambda: push(registry.url, "app", tag, image))
    result = regdata.apply(plan, config)
    assert result.errors == []
    assert broken(registry.base_path) == []
    assert store_tags(registry.base_path) == {
        *("app:kept", "other:kept"),
        *([f"app:{tag}"] if tag else []),
        *([] if folder else ["app:5"]),  # in the folder it was taken away before its manifest
    }
    assert all(
        requests.head(f"{registry.url}/v2/app/manifests/{image.digest}", headers=ACCEPT, timeout=9).ok
        for image in [IMAGES[5], image]
    )
    became = dict(zip(result.manifests["manifest_hash"], result.manifests["outcome"], strict=True))
    assert {digest for digest, outcome in became.items() if outcome == "moved"} == {IMAGES[5].digest}


def test_a_tag_that_moves_right_before_it_is_taken(
    registry: LocalRegistry, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tag, alone or with its digest, that is pushed again at the last moment stays on what it is on by then."""
    push(registry.url, "app", "alone", IMAGES[5])
    age(registry.base_path, 3 * 3600)
    folder = config.registry.base_path is not None
    plan = regdata.plan(regdata.scan(config), "image_name = 'app' and tag_name <> '5'")

    def move() -> None:
        push(registry.url, "app", "alone", NEW)
        push(registry.url, "app", "4", NEW)

    at(monkeypatch, "taking" if folder else "deleting", move)
    result = regdata.apply(plan, config)
    assert result.errors == []
    assert store_tags(registry.base_path) == {"app:alone", "app:4", "app:5", "other:kept"}
    assert broken(registry.base_path) == []
    assert result.tags.set_index("tag_name")["outcome"].loc[["alone", "4"]].tolist() == [
        "moved" if folder else "kept",
        "moved",
    ]


def test_an_orphan_of_another_image_is_none_here(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """A young manifest whose tag moved stays, though in another image the same one goes as an old orphan."""
    image, url = IMAGES[0], registry.url
    push(url, "other", None, image)
    push(url, "other", "kept", NEW)
    age(registry.base_path, 3 * 3600)
    push(url, "app", "old", image)
    push(url, "app", "kept", NEW)
    config = load_config(conf(registry))
    plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
    assert set(plan.manifests["reason"]) == {"orphan", "selected"}
    push(url, "app", "old", NEW)
    result = regdata.apply(plan, config)
    assert result.errors == []
    there = [requests.head(f"{url}/v2/{name}/manifests/{image.digest}", timeout=9).ok for name in ("app", "other")]
    assert there == [True, False]


@pytest.mark.parametrize("refused", ["", "DELETE /v2/app/manifests", "HEAD /v2/app/blobs"])
def test_a_tag_into_which_the_registry_writes(
    registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """A push that had a tag's link open when it was taken away, and writes it afterwards, is not lost: the tag is on
    what was pushed, and the record says so, though the run could not delete or collect after that."""
    push(registry.url, "app", "old", IMAGES[0])
    push(registry.url, "app", "alone", IMAGES[1])
    push(registry.url, "app", "kept", IMAGES[1])
    age(registry.base_path, 3 * 3600)
    tags = registry.base_path / "docker/registry/v2/repositories/app/_manifests/tags"
    for tag in ("old", "alone"):
        os.link(tags / tag / "current/link", tmp_path / tag)  # as an open file is the same one

    method, _, path = refused.partition(" ")
    with faults_before(registry.url) as proxy:

        def write() -> None:
            push(registry.url, "app", None, NEW)
            for tag in ("old", "alone"):
                (tmp_path / tag).write_text(NEW.digest)
            if refused:
                proxy.on(method, path, Fault(403))

        at(monkeypatch, "untagged", write)
        where = {"url": proxy.url, "base_path": str(registry.base_path)}
        config = load_config(conf(registry, registry=where, **{"gc-command": None}))
        result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name in ('old', 'alone')"), config)
    assert [error.split()[0] for error in result.errors] == ([method] if refused else [])
    assert "2 tags put back: pushed while being taken away" in result.notes
    assert result.tags["outcome"].tolist() == ["moved", "moved"]
    assert store_tags(registry.base_path) == {"app:old", "app:alone", "app:kept"}
    assert broken(registry.base_path) == []
    for tag in ("old", "alone"):
        assert requests.get(f"{registry.url}/v2/app/manifests/{tag}", headers=ACCEPT, timeout=9).content == NEW.manifest


def test_a_tag_that_comes_back_to_what_went(
    registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a push writes into a tag's link that was taken away, and the run deletes what that is on by then, this is
    put back with the tag."""
    for number in range(3):
        push(registry.url, "app", str(number), IMAGES[number])
    age(registry.base_path, 3 * 3600)
    tags = registry.base_path / "docker/registry/v2/repositories/app/_manifests/tags"
    os.link(tags / "0/current/link", tmp_path / "open")
    at(monkeypatch, "deleting", lambda: (tmp_path / "open").write_text(IMAGES[1].digest))
    config = load_config(conf(registry))
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name <> '2'"), config, gc=False)
    assert result.errors == []
    assert store_tags(registry.base_path) == {"app:0", "app:2"}
    assert broken(registry.base_path) == []
    assert requests.get(f"{registry.url}/v2/app/manifests/0", headers=ACCEPT, timeout=9).content == IMAGES[1].manifest


def test_a_push_is_inside_the_registry(
    registry: LocalRegistry, conf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest whose link is being written at the moment of its DELETE, which is refused, stays; the run goes on."""
    config = load_config(conf(registry))
    for number in range(3):
        push(registry.url, "app", str(number), IMAGES[number])
    age(registry.base_path, 3 * 3600)
    plan = regdata.plan(regdata.scan(config), "tag_name <> ''")
    folder = registry.base_path / "docker/registry/v2/repositories/app/_manifests/revisions/sha256"
    link = folder / IMAGES[1].digest[7:] / "link"

    def deleting(asked: Review, manifest: Manifest, was: Any = Review.as_it_was) -> bool:
        as_it_was: bool = was(asked, manifest)
        if manifest.digest == IMAGES[1].digest and as_it_was:
            link.write_text("")
            threading.Timer(0.3, link.write_text, [IMAGES[1].digest]).start()
        return as_it_was

    monkeypatch.setattr(Review, "as_it_was", deleting)
    result = regdata.apply(plan, config)
    assert result.errors == []
    became = dict(zip(result.manifests["manifest_hash"], result.manifests["outcome"], strict=True))
    assert [became[image.digest] for image in IMAGES[:3]] == ["deleted", "moved", "deleted"]


@pytest.mark.parametrize("what", ["the same tag", "a new tag", "a new index"])
def test_pushed_again_after_its_signature_went(
    registry: LocalRegistry, config: Config, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is pushed again, or comes to be needed, when its signature and SBOM were deleted already, and their
    own, stays with all of them: they went for its sake alone. A tag that was pushed anew stays as it is."""
    tag, image = PUSHES[what]
    folder = config.registry.base_path is not None
    if not folder and what in HIDDEN:
        return
    signature, sbom = make_signature(IMAGES[5]), make_referrer(IMAGES[5])
    attached = {signature_tag(IMAGES[5]): signature, signature_tag(signature): make_signature(signature)}
    for name, one in attached.items():
        push(registry.url, "app", name, one)
    by_sha512 = sbom.manifest.replace(IMAGES[5].digest.encode(), digest_of(IMAGES[5].manifest, "sha512").encode())
    if folder:  # the API shows nothing without a tag
        push(registry.url, "app", None, sbom)
        push_manifest(registry.url, "app", None, by_sha512, sbom.media_type)
    push(registry.url, "app", "kept", NEW)
    age(registry.base_path, 3 * 3600)
    plan = regdata.plan(regdata.scan(config), "image_name = 'app' and length(tag_name) = 1")
    pushed: list[set[Any]] = []

    def deleted(record: Record, *events: dict[str, Any], journal: Any = Record.journal) -> None:
        journal(record, *events)
        gone = {one.get("digest") for one in events if one["event"] == "deleted"}
        if gone & {signature.digest, sbom.digest} and not pushed:
            push(registry.url, "app", tag, image)
            pushed.append(gone)
            if signature.digest in gone:
                push(registry.url, "app", signature_tag(signature), NEW)

    monkeypatch.setattr(Record, "journal", deleted)
    result = regdata.apply(plan, config)
    assert pushed
    assert result.errors == []
    assert broken(registry.base_path) == []
    assert {f"app:{name}" for name in (tag, *attached)} <= store_tags(registry.base_path)
    whole = {one.digest for one in (IMAGES[5], image, *attached.values())}
    if signature.digest in pushed[0]:
        url = f"{registry.url}/v2/app/manifests/{signature_tag(signature)}"
        assert requests.head(url, headers=ACCEPT, timeout=9).headers["Docker-Content-Digest"] == NEW.digest
    for digest in whole | ({sbom.digest, digest_of(by_sha512)} if folder else set()):
        assert requests.head(f"{registry.url}/v2/app/manifests/{digest}", headers=ACCEPT, timeout=9).ok
    outcome = result.tags.set_index("tag_name")["outcome"]
    assert set(outcome[list(attached)]) == {"moved"}


@pytest.mark.parametrize("at_once", [False, True])
def test_all_of_it_was_pushed_again(
    registry: LocalRegistry, conf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """Where all that was deleted is there again, by its date, it was pushed again: that is no error, be it that it was
    there before its deletion was answered."""
    push(registry.url, "app", "0", IMAGES[0])
    push(registry.url, "other", "kept", NEW)
    age(registry.base_path, 3 * 3600)

    def again(body: bytes = b"") -> bytes:
        push(registry.url, "app", "0", IMAGES[0])
        return body

    with faults_before(registry.url) as proxy:
        where = {"url": proxy.url, "base_path": str(registry.base_path)}
        config = load_config(conf(registry, registry=where))
        plan = regdata.plan(regdata.scan(config), "image_name = 'app'")
        if at_once:
            proxy.on("DELETE", IMAGES[0].digest, Fault(carried_out=True, body=again), times=1)
        else:
            at(monkeypatch, "deleted", again)
        result = regdata.apply(plan, config)
    assert result.errors == []
    assert any("they have been pushed again" in note for note in result.notes)
    assert store_tags(registry.base_path) == {"app:0", "other:kept"}
    assert broken(registry.base_path) == []


def test_a_tag_that_goes_alone_into_which_the_registry_writes(
    registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that only takes tags away, and deletes nothing, sees to them, too: the one that was pushed meanwhile is put
    back, and nothing is left of the other."""
    for tag in ("alone", "too", "kept"):
        push(registry.url, "app", tag, IMAGES[1])
    age(registry.base_path, 3 * 3600)
    manifests = registry.base_path / "docker/registry/v2/repositories/app/_manifests"
    os.link(manifests / "tags/alone/current/link", tmp_path / "alone")  # as an open file is the same one

    def write() -> None:
        push(registry.url, "app", None, NEW)
        (tmp_path / "alone").write_text(NEW.digest)

    at(monkeypatch, "untagged", write)
    config = load_config(conf(registry))
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name in ('alone', 'too')"), config, gc=False)
    assert result.errors == []
    assert "1 tag put back: pushed while being taken away" in result.notes
    assert dict(zip(result.tags["tag_name"], result.tags["outcome"], strict=True)) == {
        "alone": "moved",
        "too": "untagged",
    }
    assert store_tags(registry.base_path) == {"app:alone", "app:kept"}
    assert {path.name for path in manifests.iterdir()} == {"revisions", "tags"}
    assert broken(registry.base_path) == []


def test_the_same_is_pushed_right_before_its_tag_is_taken(
    registry: LocalRegistry, conf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tag, alone or with its digest, that is pushed at the last moment onto the very digest that it was on stays."""
    for tag, image in (("4", IMAGES[4]), ("5", IMAGES[5]), ("alone", IMAGES[5])):
        push(registry.url, "app", tag, image)
    age(registry.base_path, 3 * 3600)
    config = load_config(conf(registry))
    plan = regdata.plan(regdata.scan(config), "tag_name <> '5'")

    def again() -> None:
        push(registry.url, "app", "4", IMAGES[4])
        push(registry.url, "app", "alone", IMAGES[5])

    at(monkeypatch, "taking", again)
    result = regdata.apply(plan, config, gc=False)
    assert result.errors == []
    assert result.tags["outcome"].tolist() == ["moved", "moved"]
    assert store_tags(registry.base_path) == {"app:4", "app:5", "app:alone"}
    assert broken(registry.base_path) == []


def test_a_tag_into_which_the_registry_writes_a_moment_later(
    registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that had a tag's link open when that was taken away has a moment to write it, and is not lost."""
    for tag in ("alone", "kept"):
        push(registry.url, "app", tag, IMAGES[1])
    age(registry.base_path, 3 * 3600)
    push(registry.url, "app", None, NEW)
    link = registry.base_path / "docker/registry/v2/repositories/app/_manifests/tags/alone/current/link"
    os.link(link, tmp_path / "alone")  # as an open file is the same one
    later = threading.Timer(0.5, (tmp_path / "alone").write_text, [NEW.digest])
    at(monkeypatch, "untagged", later.start)
    config = load_config(conf(registry))
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'alone'"), config, gc=False)
    later.join()
    assert (result.errors, result.tags["outcome"].tolist()) == ([], ["moved"])
    assert store_tags(registry.base_path) == {"app:alone", "app:kept"}
    assert broken(registry.base_path) == []


def test_a_tag_into_which_the_registry_goes_on_writing(
    registry: LocalRegistry, conf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that has emptied a tag's link, and not written it when the run ends, is not lost: the next run sees it."""
    for tag in ("alone", "kept"):
        push(registry.url, "app", tag, IMAGES[1])
    age(registry.base_path, 3 * 3600)
    link = registry.base_path / "docker/registry/v2/repositories/app/_manifests/tags/alone/current/link"
    os.link(link, tmp_path / "alone")  # as an open file is the same one
    at(monkeypatch, "untagged", lambda: (tmp_path / "alone").write_text(""))
    config = load_config(conf(registry))
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'alone'"), config, gc=False)
    assert (result.errors, result.tags["outcome"].tolist()) == ([], ["untagged"])
    assert store_tags(registry.base_path) == {"app:kept"}
    push(registry.url, "app", None, NEW)
    (tmp_path / "alone").write_text(NEW.digest)
    assert regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config, gc=False).errors == []
    assert store_tags(registry.base_path) == {"app:alone", "app:kept"}
    assert broken(registry.base_path) == []


def test_the_only_tag_that_went_comes_again(
    registry: LocalRegistry, conf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was moved away can't come by itself: in the folder a tag that is there again, as it was, has been
    pushed, be it the only one that had gone."""
    push(registry.url, "app", "0", IMAGES[0])
    push(registry.url, "other", "kept", NEW)
    age(registry.base_path, 3 * 3600)
    config = load_config(conf(registry))
    plan = regdata.plan(regdata.scan(config), "image_name = 'app'")
    at(monkeypatch, "deleting", lambda: push(registry.url, "app", "0", IMAGES[0]))
    result = regdata.apply(plan, config, gc=False)
    assert result.errors == []
    assert "of 1 tag that had gone 1 came again, such as app 0: pushed again, so kept" in result.notes
    assert store_tags(registry.base_path) == {"app:0", "other:kept"}
    assert broken(registry.base_path) == []
