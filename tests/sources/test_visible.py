"""What may not be looked at is not taken for what is not there: as somebody who has no rights in a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regdata.config import load_config
from regdata.errors import CleanupError, ConfigError, RegdataError, StorageError
from regdata.inventory.snapshot import saved
from regdata.records.runs import all_runs
from regdata.sources.visible import matching
from regdata.usage.accesslog import AccessLog
from regdata.usage.inuse import read

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others can go through, and not list."""
    above = Path(tempfile.mkdtemp(prefix="regdata-test-"))
    above.chmod(0o755)
    path = above / "folder"
    path.mkdir()
    (path / "a.log").write_text("")
    path.chmod(0o711)
    user = os.geteuid()
    if user:
        path.chmod(0o311)
    else:
        os.seteuid(NOBODY)
    yield path
    os.seteuid(user)
    path.chmod(0o755)
    shutil.rmtree(above)


LOOKS: dict[str, tuple[Callable[[Path], object], type[RegdataError]]] = {
    "glob": (lambda folder: matching(folder / "*.log"), StorageError),
    "glob of folders": (lambda folder: matching(folder / "*" / "x.log"), StorageError),
    "access-log": (lambda folder: AccessLog([folder / "*.log"]), StorageError),
    "in-use": (lambda folder: read([folder / "*.log"], ["r"], folder), CleanupError),
    "snapshots": (saved, StorageError),
    "reports": (all_runs, StorageError),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_folder_that_may_not_be_looked_at(folder: Path, look: str) -> None:
    """It is told by its name, and that somebody has to be let in."""
    call, kind = LOOKS[look]
    with pytest.raises(kind) as caught:
        call(folder)
    assert f"{folder} can't be looked at (Permission denied)" in str(caught.value)


@pytest.mark.parametrize("pattern", ["*/running.txt", "**/*.txt", "*/*.txt"])
def test_a_glob_of_which_a_part_is_closed(folder: Path, pattern: str) -> None:
    """What lies in an open folder does not stand for all: what the other says would be unknown."""
    above = folder.parent / "lists"
    os.seteuid(os.getuid())
    for name in ("east", "west"):
        (above / name).mkdir(parents=True)
        (above / name / "running.txt").write_text("r.svc/app:1")
    (above / "west").chmod(0o700 if not os.getuid() else 0)
    if not os.getuid():
        os.seteuid(NOBODY)
    with pytest.raises(StorageError, match="lists/west can't be looked at"):
        matching(above / pattern)
    os.seteuid(os.getuid())
    (above / "west").chmod(0o755)
    assert [path.parent.name for path in matching(above / pattern)] == ["east", "west"]


def test_a_closed_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other conf.json is taken in its place."""
    os.seteuid(os.getuid())
    for place in (folder, folder.parent):
        (place / "conf.json").write_text('{"registry": {"url": "http://above:5000"}, "sql": {}}')
    monkeypatch.chdir(folder)
    folder.chmod(0o600)
    if not os.getuid():
        os.seteuid(NOBODY)
    with pytest.raises(ConfigError, match=r"folder/conf\.json can't be read \(Permission denied\)"):
        load_config()


def test_what_can_be_seen(folder: Path) -> None:
    """A file by its own name, and a folder that is not there."""
    assert matching(folder / "a.log") == [folder / "a.log"]
    assert matching(folder.parent / "no*") == matching(folder.parent / "absent/*.log") == []
    assert [*all_runs(folder.parent / "absent"), *saved(folder.parent / "absent")] == []


def test_a_conf_in_a_closed_folder(folder: Path) -> None:
    """It may well be there."""
    os.seteuid(os.getuid())
    folder.chmod(0o600)
    if not os.getuid():
        os.seteuid(NOBODY)
    with pytest.raises(ConfigError, match=r"conf\.json can't be read \(Permission denied\)"):
        load_config(folder / "conf.json")
