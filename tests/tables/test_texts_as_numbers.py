"""What a condition calculates with texts in SQLite, which makes a number of each: what is none must not decide."""

from __future__ import annotations

import re

import pytest

from regdata.tables.conditions import Reader
from regdata.tables.schema import Engine
from tests.support.typed import refusal


@pytest.mark.parametrize(
    "condition",
    [
        "created > date('now') - 90",
        "created > '2020-01-01' + 0",
        "not pushed < cast(date('now', '-90 days') as integer)",
        "tag_size > 1 + '1GB'",
        "tag_size > -'1GB'",
        "tag_size % '7x' = 0",
        "tag_size > abs('1GB')",
        "age_days > round('90 days')",
        "tag_size > (select sum('1GB') from blobs)",
        "tag_size > cast('1' || 'GB' as real)",
        "exists (select 1 from (select lower('X') * 2 as n) where n < tag_size)",
        "julianday('now') - datetime(pushed, 'unixepoch') > 90",
        "strftime('%s', 'now') - date(pushed, 'unixepoch') > 90 * 86400",
        "julianday('now') - strftime('%Y-%m-%d', pushed, 'unixepoch') > 90",
        "created > cast(date(pushed, 'unixepoch') as integer)",
        "created > (select date('now')) - 90",
        "exists (with c(d) as (select date('now')) select 1 from c where created > cast(d as integer))",
        "pushed > (select max(d) from (select date('now') as d)) * 1",
        "tag_size > coalesce('1GB', 0) * 1",
        "tag_size > case kind when 'image' then '1GB' else '500MB' end + 0",
        "tag_size > (tag_name || 'GB') + 0",
        "tag_size > ('v' || tag_size) + 0",
        "tag_size > json_extract('{\"a\": \"1GB\"}', '$.a') + 0",
        "age_days > cast(iif(kind = 'image', 'x90', 'x30') as integer)",
        "age_days > length(typeof(age_days) + 0)",
        "printf('%s and %05d', tag_name, '1GB') < 'x'",
    ],
)
def test_calculating_with_a_text(readers: dict[Engine, Reader], condition: str) -> None:
    """A text that is no number is no number in a calculation: SQLite takes '1GB' for 1, and a date for its year."""
    assert " calculates with a text that is no number: " in refusal(readers["sqlite"], condition)


@pytest.mark.parametrize(
    "condition",
    [
        "strftime('%s', 'now') - pushed > 90 * 86400",
        "tag_size > '500' * 1000000 and tag_size > cast(' 1e6 ' as integer) and tag_size > abs('-5')",
        "tag_name + 0 > 5 and cast(substr(tag_name, 1, 2) as integer) > 5 and round(tag_name) > 1",
        "cast(strftime('%Y', 'now') as integer) > 5 and tag_size + null is null",
        "printf('%s-%05d', tag_name, tag_size) < 'x' and printf(kind, tag_name) > '1' and printf('%q', tag_name) > '1'",
    ],
)
def test_calculating_with_numbers_in_texts(readers: dict[Engine, Reader], condition: str) -> None:
    """A text that reads as a number is one, and what a column holds nobody knows before."""
    readers["sqlite"].select(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "tag_name + 0 < 100",
        "cast(tag_name as integer) < 100",
        "not cast(tag_name as integer) > 5000",
        "abs(tag_name) < 100 and kind = kind",
        "cast(substr(tag_name, 2) as real) between 0 and 3",
        "exists (with c as (select tag_name n from images) select 1 from c where n = images.tag_name and n * 1 < 9)",
        "cast(cast(tag_name as blob) as integer) < 100",
        "printf('%05d', tag_name) < '00100'",
        "format('%s%%%*.2f', kind, 9, tag_name) like '%%     0.00' and kind = 'image'",
        "cast(tag_name as boolean) = 0",
        "not cast(tag_name as boolean)",
        "id not in (select id from images where cast(tag_name as integer) >= 3)",
        "(cast(tag_name as integer) >= 3) is not true",
        "nullif(tag_name + 0, 0) is null",
        "iif(cast(tag_name as integer) >= 3, 'keeps', 'goes') = 'goes'",
        "not exists (select 1 from images b where cast(b.tag_name as integer) < cast(images.tag_name as integer))",
        "id not in (select id from images order by cast(tag_name as integer) desc limit 1)",
        "id in (select id from (select id, rank() over (order by cast(tag_name as integer) desc) as p from images) "
        "where p > 1)",
    ],
)
def test_tags_found_for_a_text_that_is_no_number(readers: dict[Engine, Reader], condition: str) -> None:
    """What a column holds is seen when it is read: a tag that is found only since SQLite makes 0 of it is an error."""
    message = refusal(readers["sqlite"], condition)
    assert re.search(
        r"no number, such as '\w*', and SQLite finds \d tags? only since it takes such a text for 0", message
    )
    assert "read by" not in message


@pytest.mark.parametrize(
    "condition",
    [
        "cast(coalesce(labels->>'keep', '') as integer) > 5",
        "cast(case when tag_name glob 'v*' then substr(tag_name, 2) else 'x' end as integer) > 1",
        "random() % 2 = 0 and tag_name not glob '*[^0-9]*' and cast(tag_name as integer) > 0",
        "labels->>'*' is null and labels->>'a.b-c' is null and cast(tag_name as integer) > 0",
        "id in (with recursive s(rest, part) as (select tag_name || '.', '' from images union all "
        "select substr(rest, instr(rest, '.') + 1), substr(rest, 1, instr(rest, '.') - 1) from s where rest <> '') "
        "select cast(part as integer) from s where part not glob '*[^0-9]*' and part <> '')",
        "exists (select 1 from json_each(coalesce(labels, '{}')) where key = 'team')",
        "(age_days > 90) is true and in_use is not true and (age_days > 3) is not false",
    ],
)
def test_numbers_with_a_guard_or_a_default(readers: dict[Engine, Reader], condition: str) -> None:
    """Where one of several texts is no number and takes no part, or is not found for it, there is nothing to tell."""
    readers["sqlite"].select(condition)


@pytest.mark.parametrize("condition", ["tag_name is true", "tag_name is not true", "not (tag_name is false)"])
def test_a_text_that_is_true(readers: dict[Engine, Reader], condition: str) -> None:
    """SQLite asks for the number: 'true' is not true."""
    assert " compares a number with a text: " in refusal(readers["sqlite"], condition)


def test_a_commit_that_looks_like_a_number(readers: dict[Engine, Reader]) -> None:
    """12e4 is 12 as an integer, and 120,000 as a number."""
    message = refusal(readers["sqlite"], "cast('1' || substr(tag_name, 1, 0) || 'e4' as integer) < 5")
    assert "such as '1e4', and SQLite finds" in message
    assert "such a text for the number that it begins with" in message


def test_texts_that_are_left_out(readers: dict[Engine, Reader]) -> None:
    """A guard, in whatever order, or another part of the condition leaves them out; then nothing is to be told."""
    found = readers["sqlite"].select("tag_name not glob '*[^0-9]*' and cast(tag_name as integer) < 100")
    assert found == readers["sqlite"].select("cast(tag_name as integer) < 100 and tag_name not glob '*[^0-9]*'")
    assert found == readers["sqlite"].select("tag_name not glob '*[^0-9]*' and length(tag_name) < 3") != []
