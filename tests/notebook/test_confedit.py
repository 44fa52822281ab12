"""A condition that is added to conf.json: everything else in the file stays as it was written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdata.config import check_config, load_config
from regdata.errors import ConfigError
from regdata.notebook.confedit import add_condition, with_condition
from tests.support.helpers import ROOT

TIDY = """{
  "registry": {"url": "http://127.0.0.1:5000"},
  "sql": {
    "none": "2=1",
    "dummy": "tag_name = 'dummy'"
  },
  "reports": "reports"
}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"sql": {"a": "1=1"}}', '{"sql": {"a": "1=1", "new": "age_days > 90"}}'),
        ('{"sql":{"a":"1=1"}}', '{"sql":{"a":"1=1","new":"age_days > 90"}}'),
        ('{"sql": {"a": 1, "b": 2}, "x": 1}', '{"sql": {"a": 1, "b": 2, "new": "age_days > 90"}, "x": 1}'),
        ('{"sql": {}}', '{"sql": {"new": "age_days > 90"}}'),
        ('{\r\n\t"sql": {}\r\n}', '{\r\n\t"sql": {\r\n\t\t"new": "age_days > 90"\r\n\t}\r\n}'),
        ('{"sql": {\n  "a" : "1=1"\n}}', '{"sql": {\n  "a" : "1=1",\n  "new" : "age_days > 90"\n}}'),
        ('{"sql": {\n  "a": 1\n, "b": 2\n}}', '{"sql": {\n  "a": 1\n, "b": 2\n, "new": "age_days > 90"\n}}'),
        ('{"x": {"sql": {}}, "sql": {"b": "}"}}', '{"x": {"sql": {}}, "sql": {"b": "}", "new": "age_days > 90"}}'),
    ],
)
def test_written_as_its_neighbours(before: str, after: str) -> None:
    """The new line has the indentation, the spaces and the line ends of those beside it."""
    assert with_condition(before, "new", "age_days > 90") == after


def test_replaced_in_its_place() -> None:
    """A condition that is replaced keeps its place."""
    assert with_condition(TIDY, "none", "3=1") == TIDY.replace("2=1", "3=1")


spaces = st.text(" \t\n\r", max_size=3)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    texts | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """``value`` as JSON, with white space anywhere that JSON allows it."""
    pad = [draw(spaces) for _ in range(4)]
    if isinstance(value, dict):
        members = [
            f"{draw(spaces)}{json.dumps(key)}{draw(spaces)}:{draw(spaces)}{draw(written(inner))}{draw(spaces)}"
            for key, inner in value.items()
        ]
        return f"{{{','.join(members) or pad[0]}}}"
    if isinstance(value, list):
        return f"[{','.join(pad[1] + draw(written(inner)) + pad[2] for inner in value) or pad[0]}]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@given(st.data(), st.dictionaries(texts, values, max_size=4), st.dictionaries(texts, texts, max_size=4), texts)
def test_nothing_else_changes(data: st.DataObject, others: dict[str, Any], sql: dict[str, str], condition: str) -> None:
    """Whatever the formatting: one more entry at the end of "sql", and the text around it as it was."""
    whole = list((others | {"sql": sql}).items())
    text = data.draw(spaces) + data.draw(written(dict(data.draw(st.permutations(whole))))) + data.draw(spaces)
    name = data.draw(st.sampled_from(["new", *sql]))
    changed = with_condition(text, name, condition)

    was, now = json.loads(text), json.loads(changed)
    assert list(now["sql"].items()) == list((was["sql"] | {name: condition}).items())
    assert list(now) == list(was)
    assert {**now, "sql": None} == {**was, "sql": None}
    if sql and name not in sql:
        same = next((at for at, (old, new) in enumerate(zip(text, changed, strict=False)) if old != new), len(text))
        assert changed.endswith(text[same:])


def test_the_projects_own_file(tmp_path: Path) -> None:
    """In the conf.json that comes with regdata one line is added and one gets a comma."""
    path = tmp_path / "conf.json"
    path.write_text((ROOT / "conf.json").read_text())
    before = path.read_text().splitlines()
    add_condition(path, "huge", "tag_size > 1e9")
    after = path.read_text().splitlines()
    added = [line for line in after if line not in before]
    assert added == ['    "keep_last_10": "family_rank > 10",', '    "huge": "tag_size > 1e9"']
    assert len(after) == len(before) + 1


def test_mode_and_links_stay(tmp_path: Path) -> None:
    """The file keeps its mode, and a link to it stays a link; no draft is left behind."""
    path, link = tmp_path / "real.json", tmp_path / "conf.json"
    path.write_text(TIDY)
    path.chmod(0o640)
    link.symlink_to(path)
    config = add_condition(link, "new", "age_days > 90")
    assert config.sql["new"] == load_config(path).sql["new"] == "age_days > 90"
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {file.name for file in tmp_path.iterdir()} == {"real.json", "conf.json"}


@pytest.mark.parametrize(
    ("name", "condition", "said"),
    [
        ("dummy", "1=1", "has a condition 'dummy' already: tag_name = 'dummy'"),
        ("", "1=1", "can't be a condition's name"),
        ("9lives", "1=1", "can't be a condition's name"),
        ("--all", "1=1", "can't be a condition's name"),
        ("a b", "1=1", "can't be a condition's name"),
        ("x" * 101, "1=1", "can't be a condition's name"),
        ("None", "1=1", "can't be a condition's name"),
        ("new", "   ", "sql.new"),
        ("new", "tag_name = '${REGISTRY_TAG}'", "REGISTRY_TAG"),
        ("new", "tag_name = '${HOME}'", "would be an environment variable"),
        ("new", "tag_name = '\ud800'", "half a character"),
    ],
)
def test_refused(tmp_path: Path, name: str, condition: str, said: str) -> None:
    """What would not be a condition of that name leaves the file as it was, and is said in one line."""
    path = tmp_path / "conf.json"
    path.write_text(TIDY)
    with pytest.raises(ConfigError) as caught:
        add_condition(path, name, condition)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == TIDY


def test_replace(tmp_path: Path) -> None:
    """A name that is taken is replaced when that is asked for."""
    path = tmp_path / "conf.json"
    path.write_text(TIDY)
    assert add_condition(path, "dummy", "1=1", replace=True).sql == {"none": "2=1", "dummy": "1=1"}


def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file can't be written it is as it was, and no draft is left."""
    path = tmp_path / "conf.json"
    path.write_text(TIDY)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        add_condition(path, "new", "1=1")
    assert path.read_text() == TIDY
    assert [file.name for file in tmp_path.iterdir()] == ["conf.json"]


def test_byte_order_mark(tmp_path: Path) -> None:
    """A file that an editor of Windows wrote keeps its byte order mark and its line ends."""
    path = tmp_path / "conf.json"
    data = b"\xef\xbb\xbf" + TIDY.replace("\n", "\r\n").encode()
    path.write_bytes(data)
    add_condition(path, "new", "tag_name = 'größe'")
    after = path.read_bytes()
    assert after.startswith(data[: data.index(b"'dummy'")])
    assert b'",\r\n    "new": "tag_name = \'gr\xc3\xb6\xc3\x9fe\'"\r\n  },' in after
    assert check_config(path, after).sql["new"] == "tag_name = 'größe'"
