"""doctor.ipynb as papermill runs it: what is broken, in a sentence and one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regdata.demo.local import LocalRegistry
from tests.support.damage import damage
from tests.support.helpers import listing
from tests.support.notebooks import execute

Conf = Callable[..., Path]


@pytest.fixture
def registry(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """An empty one, with its cache."""
    with LocalRegistry(tmp_path / "registry", cache=True) as started:
        yield started


def test_what_is_broken(registry: LocalRegistry, conf: Conf) -> None:
    """Run as it is it changes nothing and shows each place; with `repair` it cures, and says what."""
    store, path = damage(registry), conf(registry)
    before = listing(registry.base_path)
    done = execute("doctor", path)
    assert done.code == 1
    assert re.search(
        r"^CleanupError: unlinked-child:1, .*, .* and \d+ more do not pull whole: the table", done.texts[-1]
    )
    assert listing(registry.base_path) == before
    assert [place for _, place in store.found if place not in done.said] == []
    said = re.match(r"\*\*(\d+) things\*\* are broken .*; `repair = True` cures (\d+) of them", done.sentences[0])
    assert said
    assert int(said[1]) == len(store.found)
    assert re.search("19(69|70)-", done.said)
    cured = execute("doctor", path, repair=True)
    assert cured.code == 1  # what has to be pushed again is left
    assert f"; {said[2]} of them are cured now." in cured.sentences[0]
