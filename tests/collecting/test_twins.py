"""Manifests' bytes that the registry's own collection takes, and that have to be there after it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from regdata.collecting.twins import twins_of
from regdata.errors import StorageError
from regdata.sources.aside import NAME
from regdata.sources.paths import blob_path
from regdata.sources.storage import Storage

DIGEST = f"sha256:{'ab' * 32}"


def test_whatever_ends_it(tmp_path: Path) -> None:
    """Where a run ends right after the collection, on a full disk say, they are in their place, and no copy is left."""
    data = tmp_path / "docker/registry/v2" / blob_path(DIGEST)
    data.parent.mkdir(parents=True)
    data.write_bytes(b"{}")
    with suppress(StorageError), twins_of(Storage(tmp_path), "run", [DIGEST]):
        data.unlink()
        raise StorageError("the run's record can't be written")
    assert data.read_bytes() == b"{}"
    assert not (tmp_path / NAME).exists()


def test_put_back_twice(tmp_path: Path) -> None:
    """However often they are to be put back, it is told which are in their place again."""
    data = tmp_path / "docker/registry/v2" / blob_path(DIGEST)
    data.parent.mkdir(parents=True)
    data.write_bytes(b"{}")
    with twins_of(Storage(tmp_path), "run", [DIGEST]) as twins:
        data.unlink()
        for _ in range(2):
            twins.put_back()
            assert twins.back == {DIGEST}
    assert data.read_bytes() == b"{}"
