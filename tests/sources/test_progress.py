"""How far a run is, as another process and the eye see it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from regdata.sources import progress
from regdata.sources.progress import FILE_VARIABLE, Progress, read, watched


def test_it_is_told_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the work lasts it is said again and again, here and to another process; at the end the line is cleared."""
    file = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    told: list[str] = []
    with watched(told.append):
        progress.now.begin("reading", "tags", 3)
        progress.now.step()
        while "reading: 1 of 3 tags" not in told[-1]:
            time.sleep(0.05)
        known = read(file)
        assert known is not None
        assert (known.stage, known.unit, known.done, known.total) == ("reading", "tags", 1, 3)
    assert told[-1] == ""


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    """A file that is absent, or half written, is no error."""
    assert read(tmp_path / "absent") is None
    (tmp_path / "half").write_text('{"stage": "rea')
    assert read(tmp_path / "half") is None


def test_in_words() -> None:
    """Where it is not known of how many, only the work is named."""
    assert str(Progress("planning")) == "planning"
    assert str(Progress("reading", "tags", 1000, 3768, 2500)) == "reading: 1,000 of 3,768 tags, 2,500 requests so far"
