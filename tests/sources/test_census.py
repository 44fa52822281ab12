"""A census: every file of a store, and what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regdata.errors import StorageError
from regdata.sources.census import Census, path_of
from regdata.sources.files import Entry, LocalFiles
from regdata.sources.storage import Storage

HEX = "ab" + "0" * 62
FILES = {
    f"docker/registry/v2/blobs/sha256/ab/{HEX}/data": ("blob", None, f"sha256:{HEX}"),
    f"docker/registry/v2/repositories/a/b/_layers/sha256/{HEX}/link": ("layer", "a/b", f"sha256:{HEX}"),
    f"docker/registry/v2/repositories/a/b/_manifests/revisions/sha256/{HEX}/link": ("revision", "a/b", f"sha256:{HEX}"),
    f"docker/registry/v2/repositories/a/b/_manifests/revisions/sha256/{HEX}/signatures/sha256/{HEX}/link": (
        *("signature", "a/b"),
        f"sha256/{HEX}/signatures/sha256/{HEX}",
    ),
    "docker/registry/v2/repositories/a/_manifests/tags/1.0/current/link": ("tag", "a", "1.0"),
    f"docker/registry/v2/repositories/a/_manifests/tags/1.0/index/sha256/{HEX}/link": (
        *("history", "a"),
        f"1.0/index/sha256/{HEX}",
    ),
    "docker/registry/v2/repositories/a/_uploads/id/startedat": ("upload", "a", "id/startedat"),
    "docker/registry/v2/repositories/a/_uploads/id/hashstates/sha256/0": ("upload", "a", "id/hashstates/sha256/0"),
    "regdata-aside/README.txt": ("aside", None, "regdata-aside/README.txt"),
    f"docker/registry/v2/blobs/sha256/cd/{HEX}/data": (
        "foreign",
        None,
        f"docker/registry/v2/blobs/sha256/cd/{HEX}/data",
    ),
    "docker/registry/v2/notes": ("foreign", None, "docker/registry/v2/notes"),
    "notes": ("foreign", None, "notes"),
    **{
        path: ("foreign", None, path)
        for name in (f"sha256.bak/{HEX}", f"sha256/{HEX[:40]}", f"md5/{HEX[:32]}")  # no registry answers for such
        for path in [f"docker/registry/v2/repositories/a/b/_layers/{name}/link"]
    },
}


def rows(census: Census, parts: int) -> list[tuple[object, object, object]]:
    listings = [census.read(part) for part in census.split(parts)]
    return [row for one in listings for row in zip(one["kind"], one["image_name"], one["name"], strict=True)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for path in FILES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("parts", [1, 2, 50])
def test_every_file_once(store: Path, parts: int) -> None:
    """Each file is listed once, by what it is, in however many parts; from that its path is known."""
    found = rows(Census(Storage(store)), parts)
    assert sorted(map(str, found)) == sorted(map(str, FILES.values()))
    assert {path_of(kind, image or "", name) for kind, image, name in FILES.values()} == FILES.keys()


class Locked(LocalFiles):
    """Files of which some folders may not be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def below(self, path: str, apart: str | None = None) -> Iterator[Entry]:
        if path.startswith(self.folder):
            yield Entry(path, 0, 0, is_file=False, error=PermissionError(13, "Permission denied", path))
        else:
            yield from super().below(path, apart)


@pytest.mark.parametrize("above", ["", "docker/registry/v2/repositories/"])
def test_a_folder_that_may_not_be_read(store: Path, above: str) -> None:
    """What can't be a repository may be anybody's: a file system's lost+found is passed over, others are foreign; in
    what the registry serves it is an error."""
    for name, told in (("lost+found", []), ("Private", [("foreign", None, f"{above}Private")])):
        locked = store / above / name
        locked.mkdir()
        found = rows(Census(Storage(store, Locked(locked))), 1)
        assert sorted(map(str, found)) == sorted(map(str, [*FILES.values(), *told]))
        locked.rmdir()
    with pytest.raises(StorageError, match="Permission denied"):
        rows(Census(Storage(store, Locked(store / "docker/registry/v2/repositories/a"))), 1)
