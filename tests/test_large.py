"""What large registries take: no product of two numbers that may both be large, nothing that is held without need."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from regdata.cleaning.deletion import Deletion
from regdata.cleaning.order import Manifest, Tag
from regdata.cleaning.outcome import Outcome
from regdata.cleaning.review import states
from regdata.cleaning.undo import runs
from regdata.collecting import sweep, trash
from regdata.collecting.flight import Flight
from regdata.collecting.swept import Item
from regdata.config import Config, load_config
from regdata.demo.samples import make_image, make_layer
from regdata.inventory.graph import Collector
from regdata.inventory.usage import with_usage
from regdata.planning import previews
from regdata.planning.explain import users_of
from regdata.planning.plan import Plan, plan
from regdata.planning.rules import parts
from regdata.records.closing import settle
from regdata.records.index import write_index
from regdata.records.reading import PastRun, read_facts
from regdata.records.record import Record
from regdata.records.runs import past_runs
from regdata.sources.aside import Aside
from regdata.sources.files import LocalFiles
from regdata.sources.names import means
from regdata.sources.paths import blob_path, layer_path, revision_path
from regdata.sources.storage import Storage
from regdata.sources.threads import AHEAD, each
from regdata.sources.watch import Link, Watch
from regdata.tables.workspace import sql_text
from regdata.usage.inuse import Use
from tests.support.small import DAY, NOW, Small, digest, few
from tests.support.sweeping import Journal

URL = "http://127.0.0.1:5000"
MB = 1_000_000


class Peak:
    """The bytes that were held at most, of what Python's own memory holds."""

    bytes = 0


@contextmanager
def traced() -> Iterator[Peak]:
    peak = Peak()
    gc.collect()
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


class Whole(set[Any]):
    """A set of which no other is made, which would take as long as it is large."""

    def __or__(self, other: object) -> Any:
        raise AssertionError("all of it was gone through")

    __ror__ = __or__


def test_what_became_of_each_tag() -> None:
    """It is looked up, tag by tag and image by image: no set of all is made for each."""
    small = Small()
    small.push("app", "1", days=9, layer=100)
    small.push("app", "2", days=9, layer=100)
    found = Outcome(plan(small.inventory(), "1=1"))
    found.tags[Tag("app", "1")] = (digest("app1"), "untag")
    found.untagged, found.taken = Whole([Tag("app", "1")]), Whole()
    assert set(found.tag_rows()["outcome"]) == {"untagged", "failed"}
    assert found.done("app").tags == {Tag("app", "1")}
    assert found.left("app").manifests == {Manifest("app", digest(f"app{tag}")) for tag in "12"}


def test_who_uses_what_is_found_out_once() -> None:
    """However many tags are in use."""
    made = plan(with_usage(few().inventory(), uses={"list": [Use("a/app", "1.0", "", "pod", True)]}), "1=1")
    assert users_of(made) == {("a/app", "1.0"): "pod"}
    assert users_of(made) is users_of(made)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"registry": {"url": URL}, "sql": {"none": "2=1", **dict.fromkeys("abc", "1=1")}}))
    return load_config(path)


def test_journals_of_earlier_runs(config: Config) -> None:
    """They are read line by line: none is held, nor several at once."""
    lines = 5000
    for number in range(3):
        record = Record.open(config, sql_id=f"{number}", action="del")
        tags = pd.DataFrame(columns=["image_name", "tag_name", "tag_hash", "tag_size", "action", "reason"])
        record.save_plan(tags.astype({"tag_size": "Int64"}), pd.DataFrame(columns=["image_name", "manifest_hash"]))
        deleting = {"event": "deleting", "image": "app", "digest": digest("one"), "media_type": "m" * 60}
        record.journal(*[deleting] * lines, {"event": "unlinking"})
        record.error("it failed")
        record.finish()
    held = sum(path.stat().st_size for path in config.reports.glob("*/journal.jsonl"))
    assert held > 3 * MB
    with traced() as peak:
        assert list(runs(config)["manifests"]) == [1, 1, 1]
        write_index(config.reports)
        assert all(run.began_to_collect for run in map(PastRun, config.reports.iterdir()) if run.facts)
    assert peak.bytes < 3 * MB
    assert PastRun(record.folder).media_types == {digest("one"): "m" * 60}


def test_what_is_handed_to_threads() -> None:
    """No more is handed over than can be done soon; what it comes to is in order, and what nobody wants is not done."""
    asked = []

    def items() -> Iterator[int]:
        for number in range(10 * AHEAD):
            asked.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        found = each(pool, lambda number: -number, items())
        assert next(found) == 0
        assert len(asked) == AHEAD
        assert list(found) == [-number for number in range(1, 10 * AHEAD)]
        with pytest.raises(ZeroDivisionError):
            list(each(pool, lambda number: 1 // number, range(AHEAD)))


def test_manifests_that_were_ever_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch keeps of each which digests it mentions, and little of what it read."""
    monkeypatch.setattr("regdata.sources.watch.KEPT", 100)
    root, number = tmp_path / "docker/registry/v2", 500
    (root / "repositories/app/_layers").mkdir(parents=True)
    layers = [make_layer(name, 10) for name in range(12)]
    for created in range(number):
        image = make_image(layers, created=created + 1)
        (root / revision_path("app", image.digest)).parent.mkdir(parents=True)
        data = root / blob_path(image.digest)
        data.parent.mkdir(parents=True)
        data.write_bytes(image.manifest)
    storage = Storage(tmp_path)
    with traced() as peak:
        watch = Watch(storage, {}, NOW)
    assert peak.bytes < number * 2000
    (root / revision_path("app", image.digest)).write_text(image.digest)
    assert watch.look((), [layers[0].digest], NOW).mentioned == {layers[0].digest}


def test_parts_of_what_stays() -> None:
    """They are found by their numbers, each once, without a row for each reference that there is."""
    inventory = few().inventory()
    staying = inventory.manifests[inventory.manifests["image_name"] == "a/app"]
    found = parts(inventory, staying)
    held = inventory.references.merge(staying[["image_name", "manifest_hash"]], on="manifest_hash")
    assert list(found["blob_hash"]) == sorted(set(held["reference_hash"]))
    assert set(found["image_name"]) == {"a/app"}


def test_plans_of_many_conditions(config: Config) -> None:
    """They are made one after the other, and none is kept."""
    alive = []

    class Told(dict[str, str]):
        def values(self) -> Any:
            for text in super().values():
                gc.collect()
                alive.append(sum(isinstance(one, Plan) for one in gc.get_objects()))
                yield text

    shown = previews.conditions(few().inventory(), config.model_copy(update={"sql": Told(config.sql)}))
    assert list(shown.frame["selected"]) == [0, 3, 3, 3]
    assert max(alive) <= alive[0] + 1


def test_repositories_that_are_pushed_to() -> None:
    """A sentence names some of them."""
    flight = Flight([f"r{number}" for number in range(1000)], [])
    assert str(flight) == "1,000 uploads were in flight before the collection (r0, r1, r10, r100, r101 and 995 more)"


@pytest.mark.parametrize(("wide", "batches"), [(sweep.WIDE, 20), (1, 7)])
def test_looks_at_a_wide_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: int, batches: int) -> None:
    """The more a look takes in, the fewer there are, each for more links: for as many as are away at a time anyhow."""
    monkeypatch.setattr(sweep, "WIDE", wide)
    root, layers = tmp_path / "docker/registry/v2", [make_layer(name, 10) for name in range(20)]
    for layer in layers:
        for path in (blob_path(layer.digest), layer_path("app", layer.digest)):
            (root / path).parent.mkdir(parents=True)
            (root / path).write_text(layer.digest)
    aside, journal = Aside(Storage(tmp_path)), Journal()
    aside.open("run")
    watch = Watch(aside.storage, {}, aside.now())
    items = [Item(one.digest, 10, (Link("app", one.digest, one.digest),)) for one in layers]
    sweep.Sweep(aside, None, watch, journal, run="run", since=aside.now() + 10, size=1).run(items)
    assert [event["event"] for event in journal.events].count("unlinking") == batches
    assert sum(event["count"] for event in journal.events if event["event"] == "collected") == 20


def most_rows(work: Any, file: str, table: str) -> int:
    """The most rows that any step gives by which an .sql file makes a table."""
    (made,) = (one.partition(f" {table} as\n")[2] for one in sql_text(file).split(";") if f" {table} as\n" in one)
    [[_, told]] = work.execute(f"explain (analyze, format json) {made}").fetchall()
    steps, most = [*json.loads(told)["operator"]], 0
    while steps:
        step = steps.pop()
        most = max(most, step["intermediate_rows"])
        steps += step.get("children", [])
    return most


def test_what_is_mentioned_beside_links() -> None:
    """What a repository links is found by what is mentioned there: not all of the one beside all of the other."""
    small, number = Small(), 200
    for one in range(number):
        small.push("a", f"t{one}", days=9, **{f"l{one}": 5})
        mention = {"manifest_hash": digest(f"at{one}"), "reference_hash": digest(f"l{one}")}
        small.row("references", **mention, reference_kind="mention")
        small.row("oddities", image_name="a", what="link", hash=digest(f"l{one}"))
    inventory = small.inventory(collector=Collector(own=True))
    setting = pa.table({"own": [True], "from_store": [True]})
    with inventory.graph.open(blobs=inventory.blobs, descriptor=inventory.refers.descriptors, setting=setting) as work:
        assert 3 * number <= most_rows(work, "inventory/held.sql", "held") < 10 * number


def test_tags_on_one_index() -> None:
    """They are not followed to its children one by one."""
    small, number = Small(), 50
    small.push("a", "multi", days=9)
    small.columns["contents"]["kind"][0] = "index"
    for one in range(number):
        small.push("a", f"c{one}", days=9)
        small.row("tags", image_name="a", tag_name=f"t{one}", tag_hash=digest("amulti"), pushed=NOW - 9 * DAY)
        small.row(
            "references",
            manifest_hash=digest("amulti"),
            reference_hash=digest(f"ac{one}"),
            reference_kind="manifest",
        )
    inventory = small.inventory()
    with inventory.graph.open() as work:
        assert number < most_rows(work, "inventory/inventory.sql", "holder") < 10 * number


def test_steps_are_written_down_together() -> None:
    """A journal is on the disk before a step is taken, which takes long: not once for each tag or image of a batch."""
    small, lines = Small(), []
    for number in range(30):
        small.push(f"a{number}", "keep", days=9, x=1)
        small.row("tags", image_name=f"a{number}", tag_name="1", tag_hash=digest(f"a{number}keep"))
        small.push(f"a{number}", "2", days=9, x=1)
    inventory = small.inventory()
    outcome = Outcome(plan(inventory, "tag_name <> 'keep'"))
    now = states(inventory, outcome.images)
    site: Any = SimpleNamespace(
        batch=200,
        from_store=True,
        untag=lambda *tag: True,
        registry=SimpleNamespace(workers=2, delete=lambda *manifest: True, keeps=lambda *manifest: False),
        source=SimpleNamespace(state=now.get, glance=lambda *_: lambda going: True, manifests=lambda wanted: {}),
    )
    record: Any = SimpleNamespace(
        journal=lambda *events: lines.append([event["event"] for event in events]),
        save_manifest=lambda digest, data: None,
    )
    assert Deletion(outcome, site, record).run() == []
    assert outcome.tag_rows()["outcome"].value_counts().to_dict() == {"deleted": 30, "untagged": 30}
    steps = ["beginning", "taking", "taken", "untagging", "untagged", "deleting", "deleted"]
    assert lines == [[step] * 30 for step in steps]


def test_what_is_set_aside_is_gone_through_once(tmp_path: Path) -> None:
    """Where nothing of it has come anew, that is seen by one listing of each batch, whatever lies in it."""
    listed = []

    class Listed(LocalFiles):
        def names(self, folder: str) -> list[str]:
            listed.append(folder)
            return super().names(folder)

    layer = make_layer("aside", 10)
    data = tmp_path / "docker/registry/v2" / blob_path(layer.digest)
    data.parent.mkdir(parents=True)
    data.write_bytes(layer.data)
    aside = Aside(Storage(tmp_path, Listed()))
    aside.open("run")
    batch = aside.batch("run", 1)
    assert batch.take(blob_path(layer.digest))
    batch.keep()
    assert trash.drop_copies(aside) == {}
    assert listed.count(batch.folder) == 1
    data.write_bytes(layer.data)
    assert trash.drop_copies(aside) == {layer.digest: len(layer.data)}
    assert aside.batches() == []


def test_many_names_of_repositories() -> None:
    """Names and patterns are one pattern together, which means what each of them means by itself."""
    chance = random.Random(7)

    def text(letters: str, most: int) -> str:
        return "".join(chance.choice(letters) for _ in range(chance.randint(0, most)))

    for _ in range(2000):
        names, repository = [text("ab/*?[]!-.", 5) for _ in range(chance.randint(0, 4))], text("ab/.-", 4) + "a"
        assert means(names, repository) == any(fnmatchcase(repository, name) for name in names), (names, repository)
    assert means(None, "a")


def test_blobs_that_nobody_links(tmp_path: Path) -> None:
    """A name of a repository that nobody has is looked for once, not for each batch: that lists all that there are."""
    walks, layers = [], [make_layer(name, 10) for name in range(3)]

    class Walked(LocalFiles):
        def folders(self, folder: str) -> list[str]:
            walks.append(folder.rstrip("/"))
            return super().folders(folder)

    for layer in layers:
        data = tmp_path / "docker/registry/v2" / blob_path(layer.digest)
        data.parent.mkdir(parents=True)
        data.write_bytes(layer.data)
    aside = Aside(Storage(tmp_path, Walked()))
    aside.open("run")
    reach = SimpleNamespace(repositories=None)
    registry = SimpleNamespace(workers=1, reach=reach)
    claims: Any = SimpleNamespace(registry=registry, has=lambda *_: False, ping=lambda: None)
    watch = Watch(aside.storage, {}, aside.now())
    items = [Item(one.digest, 10, ()) for one in layers]
    swept = sweep.Sweep(aside, claims, watch, Journal(), run="run", since=0, wait=0, size=1).run(items)
    assert len(swept.freed) == 3
    assert walks.count(f"{aside.root}/repositories") == 1


def test_what_commands_printed_in_earlier_runs(config: Config) -> None:
    """It is not held, run for run, and stays in the record of one that is settled."""
    for _ in range(20):
        record = Record.open(config, sql_id="all", action="del")
        record.write(gc_output="x" * 100_000)
        record.finish()
    with traced() as peak:
        found = past_runs(config)
    assert len(found) == 20
    assert peak.bytes < MB
    settle(found[0], by=Path("later"))
    assert read_facts(found[0].folder)["gc_output"] == "x" * 100_000
    assert read_facts(found[0].folder)["finished_by"] == "later"
