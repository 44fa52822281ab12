"""What the files of a store are: to the byte what du says, whatever lies in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import regdata
from regdata.analysis.space import PARTS, every_byte
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer, push
from regdata.sources.aside import NAME
from regdata.sources.census import census
from tests.support.damage import damage
from tests.support.helpers import store_bytes
from tests.support.odd import push_blob, push_image_by
from tests.support.small import few

Conf = Callable[..., Path]


def du(folder: Path) -> int:
    """Of the files, not of the folders; a file that has two names counts once."""
    found = subprocess.run(["find", folder, "!", "-type", "d", "-print0"], capture_output=True, check=True).stdout
    command = ["du", "--files0-from=-", "--apparent-size", "-b", "-c"]
    return int(subprocess.run(command, input=found, capture_output=True, check=True).stdout.split()[-2])


def parts_of(registry: LocalRegistry, conf: Conf) -> pd.Series:
    inventory = regdata.scan(load_config(conf(registry)))
    frame = every_byte(inventory, census(registry.base_path))
    return frame.set_index("what")["bytes"]


def test_is_what_du_says(registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """Blobs of all kinds, links, uploads, what is set aside and what is nobody's add up to what du says of files; a
    symbolic link is itself a file, wherever it leads."""
    store = damage(registry)
    push_blob(registry.url, "some", b"of nobody")
    for name in ("some", "other"):
        push(registry.url, name, "shared", make_image([make_layer("shared", 123)]))
    push_image_by(registry.url, "some", "1", "sha512", "sha512")
    push(registry.url, "some", None, make_image([make_layer("orphan", 321)]))
    for folder in ("run/0001-kept", "run/0002-open"):
        place = registry.base_path / NAME / folder / "blobs/sha256/ab"
        place.mkdir(parents=True)
        (place / "data").write_bytes(b"x" * 1000)
    whole = next(path for path in (store.root / "blobs/sha256").glob("*/*/data") if path.stat().st_size > 500)
    os.link(whole, registry.base_path / NAME / "run/twin")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_bytes(b"x" * 100_000)
    (store.root / "blobs/sha256/odd").symlink_to("nowhere")
    for name, target in (
        ("odd", "nowhere"),
        ("loop", "loop"),
        ("blobs", store.root / "blobs"),
        ("blob", whole),
        ("out", tmp_path / "out"),
    ):
        (registry.base_path / name).symlink_to(target)
    (registry.base_path / "\udcff\n").write_bytes(b"a name that is no text")
    found = parts_of(registry, conf)
    assert found.sum() == du(registry.base_path)
    assert found[PARTS["aside"]] == 2000 + 2 * 71  # a tag that is half removed has two links
    blobs = [PARTS[part] for part in ("one", "several", "orphans", "nobody")]
    assert found[blobs].sum() == store_bytes(registry.base_path)
    assert (found > 0).all()
    assert {*found.index} == {*PARTS.values()} - {PARTS["new"]}


def test_folders_elsewhere(registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """What lies behind a symbolic link to a folder counts, once."""
    push(registry.url, "app", "1", make_image([make_layer("a", 500)]))
    before = parts_of(registry, conf)
    blobs = registry.base_path / "docker/registry/v2/blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    pd.testing.assert_series_equal(parts_of(registry, conf), before)


def test_what_came_meanwhile(registry: LocalRegistry, conf: Conf) -> None:
    """Blobs that were pushed between the scan and the census are told apart."""
    inventory = regdata.scan(load_config(conf(registry)))
    push_blob(registry.url, "app", b"late")
    parts = every_byte(inventory, census(registry.base_path))
    assert parts[parts["what"] == PARTS["new"]][["files", "bytes"]].to_numpy().tolist() == [[1, 4]]


@pytest.mark.parametrize("from_store", [True, False])
def test_without_a_census(from_store: bool) -> None:
    """Without base_path the blobs alone are split, as an inventory knows them."""
    inventory = few().inventory(from_store=from_store)
    parts = every_byte(inventory, None)
    assert parts["bytes"].sum() == sum(inventory.blobs["blob_size"])
    assert parts["what"].tolist() == [PARTS[part] for part in ("one", "several", "orphans", "nobody")]
