"""One run at a time on a registry, and who that is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from regdata.errors import StorageError
from regdata.sources.locks import lock_folder
from regdata.sources.registrylock import lock_registry

SPELLINGS = ("http://localhost:5000", "http://127.0.0.1:5000/", "http://[::1]:5000", "http://127.1:5000")


@pytest.mark.parametrize("other", SPELLINGS)
def test_one_lock_however_it_is_spelled(other: str) -> None:
    """The second run is refused whatever it calls this machine, and told which process holds the registry."""
    with lock_registry(SPELLINGS[0], "reports/first"):
        with pytest.raises(StorageError) as error, lock_registry(other):
            pass
        told = f"is working on the registry {other}: process {os.getpid()} on {socket.gethostname()}, since 20"
        assert told in str(error.value)
        assert "its record is reports/first" in str(error.value)
    with lock_registry(other):
        pass


@pytest.mark.parametrize("other", ["http://localhost:5001", "http://localhost:5000/path", "http://192.0.2.1:5000"])
def test_other_registries_are_not_locked(other: str) -> None:
    """A registry on another port, path or host is another one."""
    with lock_registry(SPELLINGS[0]), lock_registry(other):
        pass


@pytest.mark.parametrize("run", ["reports/first", None], ids=["its own", "anybody's"])
def test_a_collection_that_outlives_its_run(tmp_path: Path, run: str | None) -> None:
    """Where the process that took the lock is gone and a command of it still holds it, that is what is said."""
    script = f"""
import subprocess, os
from regdata.sources.locks import lock_folder
with lock_folder({str(tmp_path)!r}, run={run!r}):
    child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=-3, stderr=-3)
    print(child.pid, flush=True)
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    try:
        with pytest.raises(StorageError, match="has ended, but") as error, lock_folder(tmp_path):
            pass
        assert ("its record is reports/first" in str(error.value)) == (run is not None)
    finally:
        os.kill(int(done.stdout), 9)


def test_what_says_who_it_is_may_be_damaged(tmp_path: Path) -> None:
    """Odd words in the lock's folder make no difference."""
    for said in ("", "[]", "{}", '{"pid": "x", "born": [], "host": 1, "run": 2, "since": null}', "\ud800"):
        with lock_folder(tmp_path):
            (tmp_path / "holder.json").write_text(said, errors="surrogatepass")
            with pytest.raises(StorageError, match="Another regdata run"), lock_folder(tmp_path):
                pass
