"""Conditions, in both engines: what they select, and what is refused with one clear line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

import regdata
from regdata.config import load_config
from regdata.demo.samples import Blob, Image, make_image, make_layer, make_manifest
from regdata.errors import ConditionError
from regdata.inventory.inventory import Inventory
from regdata.sources.columns import Columns
from regdata.sources.manifest import parse_manifest
from regdata.tables import conditions
from regdata.tables.conditions import Reader, select
from regdata.tables.schema import TABLES, Engine

NOW = 1_700_000_000
DAY = 86400
BASE = make_layer("base", 100)
WEB = make_image([BASE, make_layer("web", 5000)])
BIG = make_image([BASE, make_layer("big", 90_000)], oci=True)
OLD = make_image([BASE, make_layer("old", 10)])
CHART = make_manifest(make_layer("chart", 5), "application/vnd.cncf.helm.config.v1+json", [])

TAGS: list[tuple[str, str, Image, int]] = [
    ("shop/prod-web", "latest", WEB, 1),
    ("shop/prod-web", "1.0", OLD, 100),
    ("shop/prod-web", "dummy", OLD, 200),
    ("shop/test-web", "latest", BIG, 5),
    ("charts/web", "0.1", CHART, 400),
]
ALL = {f"{image}:{tag}" for image, tag, *_ in TAGS}
both_engines = pytest.mark.parametrize("engine", get_args(Engine))


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    """Five tags of three images."""
    columns = Columns()
    rows: dict[str, set[tuple[object, ...]]] = {
        "repositories": {(image,) for image, *_ in TAGS},
        "tags": {(image, tag, what.digest, NOW - days * DAY, None) for image, tag, what, days in TAGS},
        "revisions": {(image, what.digest, NOW - DAY) for image, _, what, _ in TAGS},
        "blobs": {
            (b.digest, len(b.data), NOW - DAY) for *_, what, _ in TAGS for b in (Blob(what.manifest), *what.blobs)
        },
    }
    for table, found in rows.items():
        for row in sorted(found, key=repr):
            columns.add(table, row)
    for what in {what.digest: what for *_, what, _ in TAGS}.values():
        columns.add_content(parse_manifest(what.digest, what.manifest, what.media_type))
    return Inventory.from_columns(columns, scanned_at=NOW, from_store=True)


def selected(inventory: Inventory, condition: str, engine: Engine) -> set[str]:
    ids = select(inventory, condition, engine=engine)
    rows = inventory.images[inventory.images["id"].isin(ids)]
    return set(rows["image_name"] + ":" + rows["tag_name"])


def refusal(inventory: Inventory, condition: str, engine: Engine) -> str:
    with pytest.raises(ConditionError) as caught:
        select(inventory, condition, engine=engine)
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    return message


# What a condition can say


@both_engines
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (" tag_name = 'dummy'", {"shop/prod-web:dummy"}),
        ("image_name = '<none>'", set()),
        ("tag_name <> 'latest'", {"shop/prod-web:1.0", "shop/prod-web:dummy", "charts/web:0.1"}),
        ("1=1", ALL),
        ("2=1", set()),
        ("image_name like '%prod%' and image_tag != 'latest'", {"shop/prod-web:1.0", "shop/prod-web:dummy"}),
        ("age_days > 90", {"shop/prod-web:1.0", "shop/prod-web:dummy", "charts/web:0.1"}),
        ("newest_rank > 1", {"shop/prod-web:1.0", "shop/prod-web:dummy"}),
        ("shared_tags > 1", {"shop/prod-web:1.0", "shop/prod-web:dummy"}),
        ("kind = 'artifact' and created is null", {"charts/web:0.1"}),
        ("tag_name in ('1.0', '0.1') and not image_name like 'charts/%'", {"shop/prod-web:1.0"}),
        ("true", ALL),
        ("tag_name = 'nothing' or true", ALL),
        ("tag_name = 'dummy' -- the old one", {"shop/prod-web:dummy"}),
        ("tag_name = 'dummy' /* the old one */", {"shop/prod-web:dummy"}),
        ("\"tag_name\" = 'dummy'", {"shop/prod-web:dummy"}),
    ],
)
def test_what_is_selected(inventory: Inventory, engine: Engine, condition: str, expected: set[str]) -> None:
    """The original examples run as written, and so does what people write next; in either engine."""
    assert selected(inventory, condition, engine) == expected


def test_json_in_sqlite(inventory: Inventory) -> None:
    """Its functions that are tables are read, too; what they hold has any type, and is cast to be compared."""
    named = 'tag_name in (select cast(value as text) from json_each(\'["1.0", "0.1"]\'))'
    assert selected(inventory, named, "sqlite") == {"shop/prod-web:1.0", "charts/web:0.1"}
    nested = "tag_size > (select max(cast(atom as integer)) from json_tree('{\"of\": [7, 50000]}'))"
    assert selected(inventory, nested, "sqlite") == {"shop/test-web:latest"}
    assert "tag_size > value" in refusal(
        inventory, "exists (select 1 from json_each('[1]') where tag_size > value)", "sqlite"
    )


@both_engines
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # Tags that hold a blob of more than 50 kB.
        (
            "exists (select 1 from relations r join blobs b on b.blob_hash = r.blob_hash where"
            " r.image_name = images.image_name and r.tag_name = images.tag_name and r.blob_kind = 'layer'"
            " and b.blob_size > 50000)",
            {"shop/test-web:latest"},
        ),
        # Tags that are built on the shared base.
        (
            "image_name || ':' || tag_name in"
            f" (select image_name || ':' || tag_name from relations where blob_hash = '{BASE.digest}')",
            ALL - {"charts/web:0.1"},
        ),
        ("tag_size > (select avg(tag_size) from images)", {"shop/test-web:latest"}),
        (
            "tag_hash in (select manifest_hash from manifests where media_type like 'application/vnd.oci.%'"
            " and tagged and not orphan and kind = 'image')",
            {"shop/test-web:latest"},
        ),
        (
            'tag_hash in (select manifest_hash from "references"'
            " where reference_kind = 'layer'"
            " and reference_size > 50000)",
            {"shop/test-web:latest"},
        ),
        ("(select count(*) from blobs) = 11", set()),
    ],
)
def test_subqueries(inventory: Inventory, engine: Engine, condition: str, expected: set[str]) -> None:
    """A condition may look into relations, blobs, manifests and "references"."""
    assert selected(inventory, condition, engine) == expected


def test_like_differs_between_the_engines(inventory: Inventory) -> None:
    """LIKE ignores the case of ASCII letters in SQLite, not in DuckDB: so the engine is a key of conf.json."""
    assert selected(inventory, "tag_name like 'LATEST'", "duckdb") == set()
    assert selected(inventory, "tag_name like 'LATEST'", "sqlite") == {"shop/prod-web:latest", "shop/test-web:latest"}


@both_engines
def test_nothing_is_left_behind(inventory: Inventory, engine: Engine) -> None:
    """A condition runs on a throwaway copy: the frames are as they were, and it can be asked again."""
    before = inventory.images.copy()
    assert selected(inventory, "1=1", engine) == selected(inventory, "1=1", engine) == ALL
    assert inventory.images.equals(before)


def test_the_plan_reads_it_with_the_conf_engine(inventory: Inventory, tmp_path: Path) -> None:
    """A conf.json without `engine` is an old one: SQLite reads its conditions."""
    path = tmp_path / "conf.json"
    path.write_text(json.dumps({"registry": {"url": "http://127.0.0.1:5000"}, "sql": {"all": "1=1"}}))
    assert load_config(path).engine == "sqlite"
    assert len(regdata.plan(inventory, "tag_name like 'LATEST'", engine="sqlite").selected) == 2


# What is refused


@both_engines
@pytest.mark.parametrize(
    "condition", ["tag_name =", "(1=1", "1=1)", "1=1 /* open", "tag_name = 'open", "1=1 union select 1"]
)
def test_syntax_errors(inventory: Inventory, engine: Engine, condition: str) -> None:
    """A syntax error shows the condition, the engine's own first line, and the columns there are."""
    message = refusal(inventory, condition, engine)
    assert message.startswith(f"condition {condition!r}, read by {engine}: ")
    assert message.endswith(f"Columns of images: {', '.join(TABLES['images'])}")


@both_engines
@pytest.mark.parametrize(
    "condition",
    ["1=1) or (1=1", "1=1) group by (tag_name", "1=1) union select id from images where (1=1", "1=1) limit (1"],
)
def test_a_condition_stays_in_its_parentheses(inventory: Inventory, engine: Engine, condition: str) -> None:
    """A condition is one expression: it can't close the WHERE that it stands in and go on."""
    refusal(inventory, condition, engine)


@both_engines
@pytest.mark.parametrize("condition", ["image_tags = 'x'", "\"image_tags\" = 'x'", '"blob_kind" is not null'])
def test_unknown_columns(inventory: Inventory, engine: Engine, condition: str) -> None:
    """An unknown column lists those there are, also in double quotes, which SQLite would take for a text."""
    message = refusal(inventory, condition, engine)
    assert "image_tags" in message or "blob_kind" in message
    assert message.endswith(f"Columns of images: {', '.join(TABLES['images'])}")


def test_a_space_that_is_none(inventory: Inventory) -> None:
    """What was pasted from a page may hold one; SQLite takes it for a part of a name."""
    assert "It holds U+00A0, which looks like a space" in refusal(inventory, "age_days\u00a0> 90", "sqlite")
    select(inventory, "age_days\u00a0> 90", engine="duckdb")


@both_engines
@pytest.mark.parametrize(
    "condition",
    [" or ".join(["tag_name = 5"] * 9000), "[" * 30_000, f"tag_name = {'x' * 90_000}"],
    ids=["compares", "does not end", "unknown"],
)
def test_a_long_condition(inventory: Inventory, engine: Engine, condition: str) -> None:
    """What is wrong with a condition of 100 kB is told in a few lines: neither it nor what the engine says is all
    repeated."""
    assert len(refusal(inventory, condition, engine)) < 2_500


@both_engines
@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        ("image_tags = 'x'", "image_tag"),
        ("images.tagname = 'x'", "tag_name"),
        ("agedays > 90", "age_days"),
        ("tag = 'x'", "tag_name"),
        ("image = 'x'", "image_name"),
        ("size > 5", "tag_size"),
        ("exists (select 1 from manifest)", "manifests"),
        ("exists (select 1 from manifests where manifst_hash = 'x')", "manifest_hash"),
        ("exists (select 1 from blobs b where b.blobsize > 1)", "blob_size"),
    ],
)
def test_names_that_are_meant(inventory: Inventory, engine: Engine, condition: str, meant: str) -> None:
    """An unknown column or table is answered with the one that it is most like."""
    assert f", did you mean {meant}?" in refusal(inventory, condition, engine)


@pytest.mark.parametrize(
    ("engine", "condition", "hint"),
    [
        ("sqlite", "regexp_matches(tag_name, '^v')", "DuckDB reads it"),
        ("sqlite", "list_contains(['latest', 'stable'], tag_name)", "DuckDB reads it"),
        ("sqlite", "tag_name ~ '^v' or regexp_matches(tag_name, 'x') and nonsense = 1", ""),
        (
            "sqlite",
            "regexp_matches(tag_name, '^v') and tag_name glob date('now', 'start of day')",
            "has regexp_matches",
        ),
        ("duckdb", "julianday('now') - julianday(pushed, 'unixepoch') > 90", "SQLite reads it"),
        ("duckdb", "pushed < strftime('%s', 'now', '-90 days')", "SQLite reads it"),
        ("duckdb", "tag_name = printf('%s', unixepoch()) and regexp_matches(tag_name, 'x')", "SQLite has unixepoch"),
        ("duckdb", "tag_timestamp < date('now', '-90 days')", ""),  # SQLite would compare a number with a text
        ("duckdb", "nonsense(tag_name)", ""),
        ("sqlite", "nonsense(tag_name)", ""),
    ],
)
def test_functions_of_the_other_engine(inventory: Inventory, engine: Engine, condition: str, hint: str) -> None:
    """What the other engine reads, or a function that only it has, is said to be so, with the key to change."""
    message = refusal(inventory, condition, engine)
    other = "duckdb" if engine == "sqlite" else "sqlite"
    said = f'{hint}: if that is meant, set "engine": "{other}" in conf.json'
    assert (said in message) if hint else ("conf.json" not in message)


@both_engines
@pytest.mark.parametrize(
    ("condition", "cure"),
    [
        ("tag_name = latest", "Text goes in single quotes: 'latest'"),
        ('tag_name = "1.4"', "Text goes in single quotes: '1.4'"),
        ("tag_name not in ('a') and tag_name in (stable)", "Text goes in single quotes: 'stable'"),
        ("tag_name = image_nam", "Text goes in single quotes: 'image_nam'; or did you mean image_name?"),
        ("where age_days > 90", "A condition is what stands after WHERE: leave 'where' out."),
        ("select * from images where id > 1", "after WHERE: leave 'select * from images where' out."),
        ("age_days >", "It ends where something should follow."),
    ],
)
def test_what_people_write(inventory: Inventory, engine: Engine, condition: str, cure: str) -> None:
    """What is no condition, or a text without quotes, is told with what to write."""
    assert cure in refusal(inventory, condition, engine)


def test_text_in_double_quotes_in_sqlite(inventory: Inventory) -> None:
    """SQLite would silently select nothing, or everything: the message says how text is written."""
    message = refusal(inventory, 'tag_name <> "latest"', "sqlite")
    assert "no such column: latest. Text goes in single quotes: 'latest'. Columns of images: id, image_name" in message
    assert selected(inventory, "tag_name = 'a\"b\"' or tag_name = 'dummy'", "sqlite") == {"shop/prod-web:dummy"}


@both_engines
@pytest.mark.parametrize(
    "condition", ["1", "'yes'", "tag_name", "tag_size", "null", "tag_size + 1", "(select 'x')", "length(tag_name)"]
)
def test_what_is_not_boolean(inventory: Inventory, engine: Engine, condition: str) -> None:
    """What an engine would take for true in every row is refused."""
    message = refusal(inventory, condition, engine)
    assert "is not BOOLEAN: it must be true or false for a row, such as tag_name = 'x'" in message


@both_engines
@pytest.mark.parametrize(
    ("condition", "alone"),
    [
        ("tag_name = 'a' or 'yes'", "'yes'"),
        ("tag_name = 'a' or ('yes')", "('yes')"),
        ("age_days > 90 and 1", "1"),
        ("not 0", "0"),
        ("tag_name = 'a' or tag_size", "tag_size"),
        ("tag_name = 'a' or null", "NULL"),
        ("tag_name = 'a' or length(tag_name)", "length(tag_name)"),
        ("tag_name = 'a' or 1 + 1", "1 + 1"),
        ("not (tag_name = 'a' or (1=1 and -1))", "-1"),
    ],
)
def test_what_stands_alone(inventory: Inventory, engine: Engine, condition: str, alone: str) -> None:
    """A bare value beside AND, OR or NOT is a slip that both engines would take for true."""
    assert f"{alone} stands alone beside AND, OR or NOT; did you mean a comparison?" in refusal(
        inventory, condition, engine
    )


@both_engines
@pytest.mark.parametrize(
    "condition",
    [
        "1=1; delete from images",
        "1=1; drop table images",
        "1=1); delete from images; select (1",
        "exists(with x as (delete from images returning *) select 1 from x)",
        "exists(with x as (insert into blobs values (1, 'x', 1, 1) returning *) select 1 from x)",
    ],
)
def test_second_statements_and_writes(inventory: Inventory, engine: Engine, condition: str) -> None:
    """Neither a second statement nor a write is run."""
    refusal(inventory, condition, engine)
    assert selected(inventory, "1=1", engine) == ALL


@both_engines
@pytest.mark.parametrize(
    "read",
    [
        "exists(select * from read_csv('{file}'))",
        "exists(select * from read_text('{file}'))",
        "exists(select * from read_parquet('{file}'))",
        "exists(select * from '{file}')",
        "exists(select * from glob('{file}'))",
        "readfile('{file}') is not null",
        "load_extension('{file}') is null",
        "1=1; attach '{file}' as other",
    ],
)
def test_files_can_not_be_read(inventory: Inventory, engine: Engine, read: str, tmp_path: Path) -> None:
    """A condition sees the tables, never the disk; and no file comes to be."""
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    refusal(inventory, read.format(file=file), engine)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@both_engines
def test_endless_queries(inventory: Inventory, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that does not end is stopped, and said to be."""
    monkeypatch.setattr(conditions, "TIME_LIMIT", 0.3)
    endless = "exists(with recursive r(n) as (select 1 union all select n + 1 from r) select 1 from r where n < 0)"
    message = refusal(inventory, endless, engine)
    assert f"read by {engine}: it took more than 0.3 s and was stopped" in message


@both_engines
def test_deep_nesting(inventory: Inventory, engine: Engine) -> None:
    """Thousands of parentheses are an error of the condition, not a crash; a long list of ORs is fine."""
    refusal(inventory, "(" * 3000 + "1=1" + ")" * 3000, engine)
    names = " or ".join(f"tag_name = '{number}'" for number in range(500))
    assert selected(inventory, f"tag_name = 'dummy' or {names}", engine) == {"shop/prod-web:dummy"}


@both_engines
def test_protect_is_named(inventory: Inventory, engine: Engine) -> None:
    """An error in `protect` is not taken for one in the condition."""
    with pytest.raises(ConditionError, match=r"^protect 'nonsense'"):
        regdata.plan(inventory, "1=1", engine=engine, protect="nonsense")


class Interrupted:
    """The tables of an inventory; the first reading of one is stopped midway, as by Ctrl-C."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.stopped = False

    def batches(self, name: str) -> Iterator[pa.Table]:
        rows = pa.concat_tables(self.inventory.batches(name))
        yield rows.slice(0, 2)
        if not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt
        yield rows.slice(2)


@both_engines
def test_interrupted_while_a_table_is_loaded(inventory: Inventory, engine: Engine) -> None:
    """What was stopped while it loaded a table leaves none of it, and the next condition loads all."""
    reader = Reader(Interrupted(inventory), engine)
    with pytest.raises(KeyboardInterrupt):
        reader.select("1=1")
    assert len(reader.select("1=1")) == len(TAGS)
