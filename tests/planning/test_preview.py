"""regdata.preview and the editor: what a condition would do, shown while it is typed."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import regdata
from regdata.cleaning import cleanup
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import Blob, make_image, make_layer
from regdata.errors import ConditionError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.notebook import drawing, preview_views
from regdata.notebook import editor as widgets
from regdata.notebook.editor import Editor
from regdata.planning import previews
from regdata.planning.bench import Workbench
from regdata.show.blocks import Bars
from regdata.show.words import size
from regdata.sources.columns import Columns
from regdata.sources.manifest import parse_manifest
from regdata.tables.schema import Engine
from tests.support.helpers import store_bytes

pytestmark = pytest.mark.slow

NOW = 1_700_000_000
DAY = 86400
Conf = Callable[..., Path]


def inventory_of(images: int, *, protect: str | None = None) -> Inventory:
    """Images app-0, app-1 …, each with one layer of its own and one that all share; app-k is k days old."""
    columns = Columns()
    base = make_layer("base", 1000)

    found: dict[str, bytes] = {}
    for number in range(images):
        name, when = f"team/app-{number}", NOW - number * DAY
        image = make_image([base, make_layer(f"own {number}", 20_000 * number)])
        columns.add("repositories", (name,))
        columns.add("tags", (name, "latest", image.digest, when, None))
        columns.add("revisions", (name, image.digest, when))
        columns.add_content(parse_manifest(image.digest, image.manifest, image.media_type))
        found |= {blob.digest: blob.data for blob in (Blob(image.manifest), *image.blobs)}
    for digest, data in found.items():
        columns.add("blobs", (digest, len(data), NOW))
    return Inventory.from_columns(columns, scanned_at=NOW, from_store=True, protect=protect)


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return inventory_of(30, protect="image_name = 'team/app-29'")


# What is shown


def test_the_figures_are_those_of_the_plan(inventory: Inventory) -> None:
    """Tags and bytes are those of regdata.plan, and are in the HTML as in the plain text."""
    shown = regdata.preview(inventory, "age_days > 20")
    plan = regdata.plan(inventory, "age_days > 20")
    assert shown.error is None
    assert shown.plan is not None
    assert (shown.count, shown.bytes) == (9, plan.reclaimable)
    pd.testing.assert_frame_equal(shown.plan.tags, plan.tags)
    headline = f"9 tags selected, {size(plan.reclaimable)} would be freed"
    assert headline in str(shown)
    assert headline in shown._repr_html_()
    assert "8 tags go, 1 tag stays, 8 manifests go." in str(shown)


def test_the_bytes_are_those_that_are_then_freed(demo_registry: LocalRegistry, conf: Conf) -> None:
    """What is shown before is what a clean-up and the collection then free, to the byte."""
    config = load_config(conf(demo_registry))
    found = scan(config)
    shown = regdata.preview(found, "age_days > 90")
    before = store_bytes(demo_registry.base_path)
    assert shown.plan is not None
    result = cleanup.apply(shown.plan, config)
    assert result.errors == []
    assert shown.bytes == before - store_bytes(demo_registry.base_path) > 0


def test_what_stays_and_why(inventory: Inventory) -> None:
    """A selected tag that stays is listed with the reason, and counted."""
    shown = regdata.preview(inventory, "1=1")
    assert list(shown.kept["image_name"]) == ["team/app-29"]
    assert list(shown.kept["why"]) == ["`protect` matches it"]
    assert "`protect` matches it     1  team/app-29:latest" in str(shown)
    assert (shown.tags["action"] == "keep").sum() == 1
    assert len(shown.tags) == 30


def test_the_bars(inventory: Inventory) -> None:
    """The bars add up to what is freed: the first twenty images, and the rest as one."""
    shown = regdata.preview(inventory, "1=1")
    (bars,) = [block for block in preview_views.preview(shown).blocks if isinstance(block, Bars)]
    assert sum(bytes_ for _, bytes_, _ in bars.rows) == shown.bytes
    assert len(bars.rows) == 21
    assert bars.rows[-1][0] == "other (9)"
    assert bars.rows[0][0] == "team/app-28"
    assert shown._repr_html_().count(f"background:{drawing.RED}") == 21
    assert "<script" not in shown._repr_html_()


def test_the_tags_that_are_listed(inventory: Inventory) -> None:
    """Those that free most, and the table says so; where they are shown in another way, none."""
    found = regdata.preview(inventory, "1=1")
    _, _, table = preview_views.preview(found).text.partition("tag (of 30 the 20 that free most)")
    assert table.splitlines()[1].startswith("team/app-29:latest")
    assert "that free most" not in preview_views.preview(found, tags=False).text


def test_nothing_selected(inventory: Inventory) -> None:
    """A condition that selects nothing says so."""
    assert str(regdata.preview(inventory, "2=1")) == "0 tags selected, 0 B would be freed: no tag goes."


def test_bytes_that_go_anyway(demo_registry: LocalRegistry, conf: Conf) -> None:
    """What orphans hold is freed whatever the condition, and said to be."""
    shown = regdata.preview(scan(load_config(conf(demo_registry))), "2=1")
    assert shown.count == 0
    assert shown.bytes == shown.anyway > 0
    assert f"{size(shown.anyway)} of it goes with any clean-up" in str(shown)


def test_without_base_path(demo_registry: LocalRegistry, conf: Conf) -> None:
    """Through the API alone the bytes are about right, and no more is claimed."""
    shown = regdata.preview(
        scan(load_config(conf(demo_registry, registry={"url": demo_registry.url}))), "age_days > 90"
    )
    assert f"selected, about {size(shown.bytes)} would be freed" in str(shown)


def test_names_are_escaped() -> None:
    """Whatever a condition or a tag is called, it is text."""
    html = regdata.preview(inventory_of(1), "image_name = '<b>'+1")._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html


# Errors


@pytest.mark.parametrize("condition", ["", "tag_nam = 'x'", "1", "tag_name = '", "1=1; drop table images", "\ud800"])
@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
def test_an_error_is_shown_not_raised(inventory: Inventory, condition: str, engine: Engine) -> None:
    """People type: a condition that can't be read is a preview with the error in it, in one line."""
    shown = regdata.preview(inventory, condition, engine=engine)
    assert shown.error
    assert "\n" not in shown.error
    assert (shown.plan, shown.count, shown.bytes, len(shown.tags), len(shown.kept)) == (None, 0, 0, 0, 0)
    assert str(shown).startswith("✗ condition ")


def test_the_columns_there_are(inventory: Inventory) -> None:
    """An unknown column lists those there are."""
    shown = regdata.preview(inventory, "tag_nam = 'x'")
    assert '"tag_nam" not found' in str(shown)
    assert "Columns of images: id, image_name, tag_name, tag_timestamp" in shown._repr_html_()


# Two engines


def test_where_the_engines_differ(inventory: Inventory) -> None:
    """LIKE: what the other engine would select more or less, how many, and a few of them."""
    here = regdata.preview(inventory, "image_name like 'TEAM/%' or tag_name = 'x'")
    assert here.count == 0
    assert here.difference is not None
    assert (here.difference.engine, len(here.difference.more), here.difference.less) == ("sqlite", 30, [])
    assert (
        "SQLite would select 30 tags more (team/app-0:latest, team/app-10:latest, team/app-11:latest and 27 more"
        in str(here)
    )
    assert "LIKE ignores the case of letters in SQLite, not in DuckDB." in str(here)
    there = regdata.preview(inventory, "image_name like 'TEAM/%'", engine="sqlite")
    assert there.count == 30
    assert "DuckDB would select 30 tags fewer" in str(there)


def test_what_one_engine_can_not_read(inventory: Inventory) -> None:
    """A function that only one engine has is no error, but is said."""
    shown = regdata.preview(inventory, "regexp_matches(image_name, '-1$')")
    assert shown.count == 1
    assert "Not compared with SQLite: no such function: regexp_matches. Here DuckDB reads it." in str(shown)


def test_engines_that_agree_are_not_mentioned(inventory: Inventory) -> None:
    """Where both engines select the same, one has nothing to read about them."""
    assert "SQLite" not in str(regdata.preview(inventory, "image_name like 'team/%'"))


# One inventory, many conditions

SEVERAL = ["age_days > 20", "1=1", "nonsense", "2=1", "newest_rank > 1", "tag_hash in (select tag_hash from relations)"]


def test_one_condition_leaves_nothing_to_the_next(inventory: Inventory) -> None:
    """A workbench gives for each condition what a fresh one would, in any order."""
    bench = Workbench(inventory)
    for condition in [*SEVERAL, *reversed(SEVERAL)]:
        if condition == "nonsense":
            with pytest.raises(ConditionError):
                bench.plan(condition)
            continue
        kept, fresh = bench.plan(condition), regdata.plan(inventory, condition)
        for name in ("tags", "manifests", "blobs", "order"):
            pd.testing.assert_frame_equal(getattr(kept, name), getattr(fresh, name))


@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
@pytest.mark.parametrize(
    "attack",
    [
        "1=1); commit; delete from images; select (1=1",
        "1=1); rollback; drop table images; select (1=1",
        "id in (with gone as (delete from images returning id) select id from gone)",
        "id in (select id from query('delete from images'))",
        "1=1; create table node as select 1",
    ],
)
def test_a_condition_can_not_harm_the_next(inventory: Inventory, attack: str, engine: Engine) -> None:
    """The tables are loaded once for many conditions: none of these may change them."""
    bench = Workbench(inventory)
    with pytest.raises(ConditionError):
        bench.select(attack, engine=engine)
    assert len(bench.select("1=1", engine=engine)) == 30


def test_inventory_sql(inventory: Inventory) -> None:
    """A query of one's own gives a frame; writing is undone or refused."""
    assert list(inventory.sql("select count(*) as n from images")["n"]) == [30]
    assert len(inventory.sql("with gone as (delete from images returning id) select * from gone")) == 30
    for query in ("drop table images", "select 1; select 2", "copy images to 'x.csv'", "selec 1", ""):
        with pytest.raises(ConditionError, match="the query"):
            inventory.sql(query)
    assert list(inventory.sql("select count(*) as n from images join relations using (image_name)")["n"]) == [90]
    tables = {"images", "relations", "blobs", "manifests", "references", "uses"}
    assert set(inventory.sql("show tables")["name"]) == tables


def test_an_inventory_travels(inventory: Inventory) -> None:
    """After a preview an inventory can still be sent to another process, and a changed copy has its own tables."""
    assert regdata.preview(inventory, "1=1").count == 30
    assert regdata.preview(pickle.loads(pickle.dumps(inventory)), "1=1").count == 30
    assert regdata.preview(replace(inventory, images=inventory.images.head(3)), "1=1").count == 3


# All of conf.json


def test_the_conditions_of_conf_json(inventory: Inventory, tmp_path: Path) -> None:
    """A row per condition with the figures of its preview; one that can't be read shows its error."""
    path = tmp_path / "conf.json"
    sql = {"old": "age_days > 20", "wrong": "tag_nam = 'x'", "all": "1=1"}
    path.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:5000"}, "sql": sql}))
    shown = previews.conditions(inventory, load_config(path))
    expected = {name: regdata.preview(inventory, condition) for name, condition in sql.items()}
    assert list(shown.frame["name"]) == list(sql)
    assert list(shown.frame["selected"].fillna(-1)) == [9, -1, 30]
    assert list(shown.frame["stay"].fillna(-1)) == [1, -1, 1]
    assert list(shown.frame["go"].fillna(-1)) == [8, -1, 29]
    assert list(shown.frame["bytes"].fillna(-1)) == [expected["old"].bytes, -1, expected["all"].bytes]
    assert str(shown.frame["error"][1]) == expected["wrong"].error
    assert f"old    age_days > 20     9             1  {size(expected['old'].bytes)}" in str(shown)
    assert shown._repr_html_().count("✗ condition") == 1


# The editor


@pytest.fixture
def editor(inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    monkeypatch.setattr(widgets, "DELAY", 0.02)
    path = tmp_path / "conf.json"
    path.write_text('{"registry": {"url": "http://127.0.0.1:5000"}, "sql": {"a": "1=1"}}\n')
    return widgets.editor(inventory, load_config(path))


async def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_it_shows_something_at_once(editor: Editor) -> None:
    """Before anything is typed it shows its first condition, also where there is no browser."""
    assert editor.text.value == "age_days > 90"
    assert "0 tags selected" in editor.output.value
    assert editor._repr_mimebundle_()["text/plain"].startswith("0 tags selected")


def test_a_condition_of_conf_json_is_chosen(editor: Editor) -> None:
    """It is put where one types, under its name, and shown."""

    async def choosing() -> None:
        editor.choice.value = "a"
        await until(lambda: "30 tags selected" in editor.output.value)

    asyncio.run(choosing())
    assert (editor.text.value, editor.name.value, editor.condition) == ("1=1", "a", "1=1")
    assert len(editor.tags) == 30


@pytest.mark.parametrize(
    ("typed", "hints"),
    [
        ("age_days > 5 and newest_r", ["newest_rank"]),
        ("tag_s", ["tag_size"]),
        ("exclusive_sise", ["exclusive_size"]),
        ("PULLS_", ["pulls_30d", "pulls_total"]),
        ("age_days", []),
        ("age_days > ", []),
        ("", []),
    ],
)
def test_completions(inventory: Inventory, typed: str, hints: list[str]) -> None:
    """The columns that the last word begins, or resembles; none where it is one."""
    assert widgets.completions(typed, inventory.images.columns) == hints


def test_a_column_is_completed(editor: Editor) -> None:
    """A button for each column that the word may become; it puts it there."""

    async def typing() -> None:
        editor.text.value = "age_days > 5 and newest_r"
        (button,) = editor.hints.children
        button.click()
        await asyncio.sleep(0)

    asyncio.run(typing())
    assert editor.text.value == "age_days > 5 and newest_rank "


def test_the_last_that_is_typed_is_shown(editor: Editor) -> None:
    """Each key starts the wait again; only what was typed last is read."""
    read: list[str] = []

    async def typing() -> None:
        editor.output.observe(lambda change: read.append(change["new"]), "value")
        for days in range(20, 30):
            editor.text.value = f"age_days > {days - 1}"
        await until(lambda: bool(read))

    asyncio.run(typing())
    assert len(read) == 1
    assert "1 tag selected" in read[0]


def test_a_slow_condition_is_given_up(editor: Editor) -> None:
    """What is typed meanwhile stops a condition that takes long; its result is never shown."""
    endless = "exists(with recursive r(n) as (select 1 union all select n + 1 from r) select 1 from r where n < 0)"
    shown: list[str] = []

    async def typing() -> None:
        editor.output.observe(lambda change: shown.append(change["new"]), "value")
        editor.text.value = endless
        await asyncio.sleep(0.3)  # it is being read
        editor.text.value = "age_days > 28"
        await until(lambda: bool(shown))

    began = time.monotonic()
    asyncio.run(typing())
    assert time.monotonic() - began < 15
    assert ["1 tag selected" in html for html in shown] == [True]


def test_the_button(editor: Editor, tmp_path: Path) -> None:
    """It adds what can be read under a name; what can't, or a name that is taken, is said and changes nothing."""
    conf = tmp_path / "conf.json"

    async def adding(name: str, condition: str, *, tick: bool = False) -> str:
        editor.saved.value = ""
        editor.name.value, editor.replace.value = name, tick
        editor.text.value = condition
        editor.button.click()
        await until(lambda: bool(editor.saved.value))
        return str(editor.saved.value)

    assert "Not added" in asyncio.run(adding("b", "tag_nam = 1"))
    assert "already" in asyncio.run(adding("a", "age_days > 1"))
    assert load_config(conf).sql == {"a": "1=1"}
    assert "is in" in asyncio.run(adding("b", " age_days > 1 "))
    assert "is in" in asyncio.run(adding("a", "age_days > 2", tick=True))
    assert load_config(conf).sql == {"a": "age_days > 2", "b": "age_days > 1"}
