"""What several tests need: skopeo, measurements of the store that regdata takes no part in."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from regdata.demo.local import LocalRegistry
from regdata.sources.columns import COLUMNS, Columns
from regdata.sources.manifest import Reference

ROOT = Path(__file__).resolve().parents[2]


def docker_ref(registry: LocalRegistry, name: str) -> str:
    """skopeo's name of an image: `name` is repository:tag or repository@digest."""
    return f"docker://{registry.url.removeprefix('http://')}/{name}"


def skopeo_copy(src: str, dst: str, *, all: bool = True) -> None:
    """Copy an image with every platform of an index (`all`); AssertionError if skopeo fails."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet"]
    command += ["--src-tls-verify=false", "--dest-tls-verify=false"]
    done = subprocess.run(
        [*command, *(["--all"] if all else []), src, dst],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"skopeo copy {src} {dst}: {done.stderr}"


def pull_all(registry: LocalRegistry, name: str, folder: Path) -> dict[str, str]:
    """Pull `name` into `folder`, a new one; returns each file's sha256 (manifests and blobs)."""
    skopeo_copy(docker_ref(registry, name), f"dir:{folder}")
    return {file.name: "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def store_bytes(base_path: Path) -> int:
    """Bytes of all blobs in a store, by their files' sizes."""
    blobs = base_path / "docker/registry/v2/blobs"
    return sum(file.stat().st_size for file in blobs.glob("*/*/*/data"))


def store_tags(base_path: Path) -> set[str]:
    """Every `repository:tag` in a store, by its folders."""
    repositories = base_path / "docker/registry/v2/repositories"
    found = set()
    for folder, subfolders, _ in os.walk(repositories):
        path = Path(folder)
        if path.name == "tags" and path.parent.name == "_manifests":
            name = path.parents[1].relative_to(repositories)
            found |= {f"{name}:{tag}" for tag in subfolders}
            subfolders.clear()
    return found


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time of change."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(where, name)
            status = os.stat(path)
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            found[os.path.relpath(path, folder)] = (size, status.st_mtime_ns)
    return found


def age(base_path: Path, seconds: float) -> None:
    """Make every file of a store `seconds` older."""
    for folder, _, files in os.walk(base_path):
        for file in files:
            path = os.path.join(folder, file)
            then = os.stat(path).st_mtime - seconds
            os.utime(path, (then, then))


def named_rows(frame: pd.DataFrame) -> list[Any]:
    """A frame's rows as named tuples; pandas can't tell the type checker what is in them."""
    return list(frame.itertuples())


def no_rows() -> dict[str, dict[str, list[Any]]]:
    """The tables of a source, to be filled row by row; each reference names its manifest."""
    flat = {name: columns for name, columns in COLUMNS.items() if name != "descriptors"}
    flat["references"] = ("manifest_hash", *COLUMNS["descriptors"])
    return {name: {column: [] for column in columns} for name, columns in flat.items()}


def numbered(flat: dict[str, dict[str, list[Any]]]) -> Columns:
    """The same as a source gives it."""
    columns = Columns()
    for name in flat.keys() - {"references"}:
        for row in zip(*flat[name].values(), strict=True):
            columns.add(name, row)
    rows = {digest: row for row, digest in enumerate(columns["contents"]["manifest_hash"])}
    for digest, *reference in zip(*flat["references"].values(), strict=True):
        columns.refer(rows[digest], [Reference(*reference)])
    return columns


def complaints(stderr: str) -> str:
    """What is on stderr besides the plain lines that say how far a run is, such as "[ 12 s] planning"."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"\[ *\d+ s\] ", line))


def nobodys_blob(base_path: Path) -> Path:
    """The bytes of a blob that nothing refers to, written a day ago."""
    data = base_path / "docker/registry/v2/blobs/sha256" / ("ab/ab" + "0" * 62) / "data"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"nobody's")
    age(data.parent, 86400)
    return data
