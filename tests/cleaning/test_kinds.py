"""Registries that delete otherwise than distribution does, or tell more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.cleaning import bytag
from regdata.cleaning.bytag import by_tag, left
from regdata.cleaning.order import Manifest, levels_of
from regdata.demo.samples import make_image, make_layer, make_referrer
from regdata.errors import CleanupError
from regdata.notebook import run
from regdata.planning.plan import plan
from regdata.records.reading import PastRun
from regdata.records.summary import box
from tests.support.fakes import FakeRegistry, error_reply, serve
from tests.support.small import digest, indexed

IMAGES = [make_image([make_layer(("kinds", number), 90)], oci=True) for number in range(3)]
Job = Callable[..., run.Run]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """`job(fake)` serves it with three images, and opens a run that deletes tags 0, 1 and 2; 1 shares with `same`."""
    with ExitStack() as stack:

        def opened(fake: FakeRegistry, action: str = "del", gc: bool = False, **more: Any) -> run.Run:
            if not fake.url:
                stack.enter_context(serve(fake))
                for tag, image in {"0": IMAGES[0], "1": IMAGES[1], "same": IMAGES[1], "2": IMAGES[2]}.items():
                    fake.push("app", tag, image)
            conf = {"registry": {"url": fake.url}, "engine": "duckdb", "sql": {"some": "tag_name < 'a'"}}
            (tmp_path / "conf.json").write_text(json.dumps(conf | {"cache": False} | more))
            return run.start(sql_id="some", action=action, conf=str(tmp_path / "conf.json"), gc=gc)

        yield opened


def done(job: run.Run) -> dict[str, str]:
    """What became of each tag."""
    job.scan()
    job.plan()
    result = job.apply()
    job.finish()
    return dict(zip(result.tags["tag_name"], result.tags["outcome"], strict=True))


def told(job: run.Run) -> dict[str, str]:
    """What was found out of the registry, as the run's table has it."""
    can: dict[str, str] = job.record.facts["registry_can"]
    text = str(box(job.record.folder))
    assert all(f"{what}" in text and said in text for what, said in can.items())
    return can


@pytest.mark.parametrize("pages", [True, False])
def test_tags_only(job: Job, pages: bool) -> None:
    """Where tags alone can be deleted they are, and their manifests are left to the registry."""
    fake = FakeRegistry(pages=pages, deletes={"tags"})
    mine = job(fake)
    expected = {"0": "untagged", "1": "untagged" if pages else "kept", "2": "untagged"}
    assert done(mine) == expected
    assert fake.tags["app"].keys() == {"same"} | {tag for tag, became in expected.items() if became == "kept"}
    assert len(fake.manifests["app"]) == 3
    assert told(mine) == {"can delete": "no, but tags", "can untag": "yes", "catalog": "yes"}
    facts = PastRun(mine.record.folder).facts
    assert "2 manifests are left to its own collection" in " ".join(facts["notes"])
    assert (facts["bytes_predicted"], facts["errors"]) == (0, [])


def test_tags_only_beside_a_push(job: Job) -> None:
    """What else comes into the repository is no reason for what was selected to stay."""
    fake = FakeRegistry(pages=True, deletes={"tags"})
    mine = job(fake)
    mine.plan()
    fake.push("app", "new", make_image([make_layer("kinds", 70)], created=70))
    mine.apply()
    assert mine.result
    became = dict(zip(mine.result.tags["tag_name"], mine.result.tags["outcome"], strict=True))
    assert {became[tag] for tag in "012"} == {"untagged"}
    assert "new" in fake.tags["app"]


def test_what_is_left_to_the_registry() -> None:
    """Where tags alone go, no manifest of theirs is deleted, in whatever order that would have to be."""
    made = plan(indexed().inventory(), "tag_name in ('multi', 'amd64')")
    every = {Manifest("a", digest(name)) for name in ("multi", "aamd64", "aNone")}
    other = Manifest("b", digest("bamd64"))
    assert levels_of(made).keys() == every | {other}
    assert (levels_of(by_tag(made, ["a"])), left(made, ["a"])) == ({other: 0}, every)


def test_a_registry_that_collects_at_once(job: Job) -> None:
    """What such a registry takes with the last tag was not to stay."""
    fake = FakeRegistry(pages=True, deletes={"tags"})
    mine = job(fake)
    answer = fake.answer

    def collecting(method: str, target: str) -> object:
        reply = answer(method, target)
        kept = set(fake.tags["app"].values())
        fake.manifests["app"] = {digest: one for digest, one in fake.manifests["app"].items() if digest in kept}
        return reply

    fake.answer = collecting  # type: ignore[assignment, method-assign]
    assert done(mine) == {"0": "untagged", "1": "untagged", "2": "untagged"}


@pytest.mark.parametrize("again", ["0", "02"])
def test_pushed_again(job: Job, again: str) -> None:
    """One of several that were deleted, and is there again, was pushed again: no error, and the others are deleted. Of
    all of them nobody can tell by the API: that is an error, and none counts as deleted."""
    fake = FakeRegistry()
    mine = job(fake)
    answer = fake.answer

    def pushed(method: str, target: str) -> object:
        if "/tags/list" in target and fake.manifests["app"].keys() == {IMAGES[1].digest}:
            for tag in again:
                fake.push("app", tag, IMAGES[int(tag)])
        return answer(method, target)

    fake.answer = pushed  # type: ignore[assignment, method-assign]
    with nullcontext() if again == "0" else pytest.raises(CleanupError, match="it does not delete, or all of them"):
        done(mine)
    facts = PastRun(mine.record.folder).facts
    assert (len(facts["errors"]), facts["manifests_deleted"]) == ((0, 2) if again == "0" else (1, 0))
    assert (facts["tags_deleted"], facts["tags_kept"]) == ((2, 1) if again == "0" else (0, 1))
    assert ("they have been pushed again" in " ".join(facts["notes"])) == (again == "0")


def test_one_that_refuses(job: Job) -> None:
    """After the first deletion that is refused no other is begun, though they were to go together."""
    fake = FakeRegistry()
    mine = job(fake)
    images = [make_image([make_layer("kinds", 90)], created=number) for number in range(60)]
    for number, image in enumerate(images):
        fake.push("app", f"1{number}", image)
        fake.on(f"DELETE /v2/app/manifests/{image.digest}", error_reply(403), forever=True)
    with pytest.raises(CleanupError, match="HTTP 403"):
        done(mine)
    refused = [line for line in fake.seen for image in images if line.startswith("DELETE") and image.digest in line]
    assert 0 < len(refused) < len(images)


def test_no_batch_after_one_that_refuses(job: Job) -> None:
    """Nothing that was to go later goes after an error."""
    fake = FakeRegistry(deletes={"digests"})
    mine = job(fake, action="none")
    mine.scan()
    mine.plan()
    for image in IMAGES:
        fake.on(f"DELETE /v2/app/manifests/{image.digest}", error_reply(403), forever=True)
    assert mine.planned
    (error,) = regdata.apply(mine.planned, mine.config, gc=False, batch=1).errors
    assert "HTTP 403" in error
    deletes = [line for line in fake.seen if line.startswith("DELETE")]
    assert len({image.digest for image in IMAGES for line in deletes if image.digest in line}) == 1


def test_digests_only(job: Job) -> None:
    """Where a tag can't be deleted alone, though the lists look like those of one where it can, it is kept."""
    fake = FakeRegistry(pages=True, deletes={"digests"})
    mine = job(fake)
    assert done(mine) == {"0": "deleted", "1": "kept", "2": "deleted"}
    assert fake.tags["app"].keys() == {"1", "same"}
    assert told(mine)["can untag"] == "no"


def test_a_list_tries_nothing(job: Job) -> None:
    """A run that only lists asks by GET and HEAD alone, but for DELETE of what nothing can have: a random digest, and a
    random tag. So it says whether `del` would be refused. One of `none` does not even that, and its table says so."""
    fake = FakeRegistry(pages=True)
    mine = job(fake, action="none")
    done(mine)
    tried = [line for line in fake.seen if line.split()[0] not in ("GET", "HEAD")]
    assert [re.sub("[0-9a-f]{32,}", "random", line) for line in tried] == [
        "DELETE /v2/app/manifests/sha256:random",
        "DELETE /v2/app/manifests/regdata-random",
    ]
    assert told(mine)["can delete"] == "yes"
    assert mine.result
    assert mine.result.bytes_expected == 0 < mine.result.bytes_predicted


@pytest.mark.parametrize("gc", [True, False])
def test_a_list_says_that_del_would_be_refused(job: Job, gc: bool) -> None:
    """Where deleting is not allowed, the plan passes a limit, or nobody could collect, a listing says so."""
    mine = job(FakeRegistry(deletes=["nothing"]), action="none", gc=gc, limits={"max_tags": 1})
    mine.plan()
    refused = [note for note in mine.record.facts["notes"] if note.startswith("del would be refused: ")]
    assert [re.search("405|limits.max_tags = 1|has no gc-command", note) is not None for note in refused] == [True] * (
        2 + gc
    )
    assert not any("nothing was deleted" in note for note in refused)
    fine = job(FakeRegistry(pages=True), action="none")
    fine.plan()
    assert not any("refused" in note for note in fine.record.facts["notes"])
    empty = job(FakeRegistry(deletes=["nothing"]), action="none", sql={"some": "2=1"})
    empty.plan()
    assert not any("refused" in note for note in empty.record.facts["notes"])


def test_referrers(job: Job) -> None:
    """Where the registry lists referrers, those without a tag go with their subject, theirs first, and stay with it."""
    fake = FakeRegistry(pages=True, refers=True)
    mine = job(fake)
    going, staying = make_referrer(IMAGES[0]), make_referrer(IMAGES[1])
    above = make_referrer(going)
    for image in (going, staying, above):
        fake.push("app", None, image)
    assert done(mine) == {"0": "deleted", "1": "untagged", "2": "deleted"}
    assert fake.manifests["app"].keys() == {IMAGES[1].digest, staying.digest}
    deleted = [line.rpartition("/")[2] for line in fake.seen if line.startswith("DELETE") and "sha256:" in line]
    assert deleted.index(above.digest) < deleted.index(going.digest) < deleted.index(IMAGES[0].digest)


def test_no_referrers(job: Job) -> None:
    """A registry without the referrers API is asked for it once."""
    fake = FakeRegistry()
    done(job(fake, action="none"))
    assert len([line for line in fake.seen if "/referrers/" in line]) == 1


def test_what_is_freed_beside_what_is_left_to_the_registry() -> None:
    """Where tags alone go in some images, what the others alone held is freed as ever; not what those hold, too."""
    made = plan(indexed().inventory(), "tag_name in ('multi', 'amd64')")
    beside = by_tag(made, ["a"])
    assert set(beside.blobs["blob_hash"]) == {digest("bamd64"), digest("bamd64c")}
    assert (beside.reclaimable, by_tag(made, ["a", "b"]).reclaimable) == (11, 0)


def test_one_manifest_that_is_left_to_the_registry() -> None:
    """Be it a single manifest that is left to the registry's own collection, that is said; where none is, nothing."""
    (note,) = bytag.told({Manifest("a", digest("aNone"))})
    assert "1 manifest " in note
    assert "own collection" in note
    assert [*bytag.told(set())] == []
