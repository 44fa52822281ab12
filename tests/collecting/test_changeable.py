"""What can't be changed in a store is seen before anything goes."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import regdata
from regdata.cleaning.checks import check_plan
from regdata.collecting.changeable import check_blobs, check_tags
from regdata.config import load_config
from regdata.errors import StorageError
from regdata.sources.aside import NAME, Aside
from regdata.sources.files import LocalFiles
from regdata.sources.paths import blob_path, layer_path, layers_path
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from tests.support.fakes import FakeRegistry, serve
from tests.support.scene import OLD, Scene
from tests.support.small import Small

BLOB = OLD.blobs[-1].digest


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder in another file system."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


class ReadOnly(LocalFiles):
    """As for a user who may change all but some folders."""

    fixed: str

    def writable(self, folder: str) -> bool:
        return not folder.endswith(self.fixed)


def test_is_refused_before_anything_goes(scene: Scene, elsewhere: Path) -> None:
    """Tags behind a symbolic link, and blobs or links to them in another file system, are an error that names the
    folder; every tag is there then."""
    config, root = load_config(scene.conf), scene.base_path / "docker/registry/v2"
    plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
    before = scene.store()
    for number, (path, problem) in enumerate(
        (
            ("repositories/prod/old/_manifests/tags", r"the symbolic link .*/prod/old/_manifests/tags leads out"),
            (layers_path("prod/old"), r"the symbolic link .*/prod/old/_layers leads out"),
            (str(Path(blob_path(BLOB)).parents[1]), r"blobs/sha256/.. lies in another file system or mount than"),
            (str(Path(blob_path(BLOB)).parent), r"blobs/sha256/../[0-9a-f]* is a symbolic link"),
        )
    ):
        moved = elsewhere / str(number)
        shutil.copytree(root / path, moved)
        (root / path).rename(scene.folder / "was")
        (root / path).symlink_to(moved)
        with pytest.raises(StorageError, match=f"{problem}.*so nothing was deleted"):
            regdata.apply(plan, config)
        (root / path).unlink()
        (scene.folder / "was").rename(root / path)
        assert scene.store() == before
    assert regdata.apply(plan, config).errors == []


@pytest.mark.parametrize(
    "fixed",
    [
        "/store",
        "prod/old/_manifests",
        "prod/old/_manifests/tags",
        "prod/old/_manifests/tags/old",
        "prod/old/_manifests/tags/old/current",
        "prod/old/_manifests/tags/old/index/sha256",
        f"prod/old/_manifests/tags/old/index/{BLOB.replace(':', '/')}",
        "prod/old",
        "prod/old/_layers",
        "prod/old/_layers/sha256",
        f"prod/old/_layers/{BLOB.replace(':', '/')}",
        str(Path(blob_path(BLOB)).parent),
        str(Path(blob_path(BLOB)).parents[1]),
    ],
)
def test_is_not_ours_to_change(tmp_path: Path, fixed: str) -> None:
    """A folder that the user may not change is named, of tags, links and blobs; folders that are not there are none."""
    base_path = tmp_path / "store"
    root = base_path / "docker/registry/v2"
    tag = "repositories/prod/old/_manifests/tags/old"
    history = f"{tag}/index/{BLOB.replace(':', '/')}/link"
    for path in (f"{tag}/current/link", history, blob_path(BLOB), layer_path("prod/old", BLOB)):
        (root / path).parent.mkdir(parents=True)
        (root / path).touch()
    files = ReadOnly()
    files.fixed = "nowhere"
    storage = Storage(base_path, files)

    def check() -> None:
        check_tags(storage, [("prod/old", "old"), ("prod/old", "gone"), ("gone", "1")])
        check_blobs(storage, {BLOB, f"sha256:{'ab' * 32}"}, ["prod/old", "gone"])

    check()
    files.fixed = fixed
    with pytest.raises(StorageError, match=f"{fixed} can't be changed, so nothing was deleted: run regdata as a user"):
        check()


class Closed(LocalFiles):
    """As for a user who may not list some folders."""

    def names(self, folder: str) -> list[str]:
        if folder.endswith(("/index", "/_layers/sha256")):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return super().names(folder)


def test_what_can_not_be_listed(tmp_path: Path) -> None:
    """A folder of a tag, or of links to layers, that we may not look into is one clear error."""
    for folder in ("_manifests/tags/1/index", "_layers/sha256"):
        (tmp_path / "docker/registry/v2/repositories/a" / folder).mkdir(parents=True)
    with pytest.raises(StorageError, match="index: Permission denied"):
        check_tags(Storage(tmp_path, Closed()), [("a", "1")])
    with pytest.raises(StorageError, match=r"_layers.*: Permission denied"):
        check_blobs(Storage(tmp_path, Closed()), {BLOB}, ["a"])


def test_what_is_elsewhere(scene: Scene, elsewhere: Path) -> None:
    """Where the folder for what is set aside is none, or lies in another file system, nothing is deleted."""
    config = load_config(scene.conf)
    plan, before, aside = regdata.plan(regdata.scan(config), "tag_name = 'old'"), scene.store(), scene.base_path / NAME

    def refused(problem: str) -> None:
        with pytest.raises(StorageError, match=f"{problem}.*so nothing was deleted"):
            regdata.apply(plan, config)
        assert scene.store() == before

    aside.write_text("")
    refused(f"{aside} is no folder")
    aside.unlink()
    aside.symlink_to(elsewhere)
    refused(f"lies in another file system or mount than {aside}")
    aside.unlink()
    assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config).errors == []


def test_a_mount_of_the_same_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is mounted below base_path from the same disk: nothing can be renamed out of it, so what is set
    aside lies in it; where that is the registry's own folder there is no place for it."""
    (tmp_path / "docker/registry/v2/blobs").mkdir(parents=True)
    assert Aside(Storage(tmp_path)).folder == f"{tmp_path}/{NAME}"
    monkeypatch.setattr("regdata.sources.mounts.mounts", lambda: {str(tmp_path / "docker")})
    assert Aside(Storage(tmp_path)).folder == f"{tmp_path}/docker/{NAME}"
    monkeypatch.setattr("regdata.sources.mounts.mounts", lambda: {str(tmp_path / "docker/registry/v2/blobs")})
    with pytest.raises(StorageError, match="lie in other file systems or mounts than"):
        Aside(Storage(tmp_path))


def test_a_link_by_another_digest(tmp_path: Path) -> None:
    """The folder of a link by sha512 to a blob that goes has to be ours to change like those by sha256."""
    root, link = tmp_path / "docker/registry/v2", layer_path("app", f"sha512:{'cd' * 64}")
    for path in (blob_path(BLOB), link):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(BLOB)
    files = ReadOnly()
    files.fixed = "nowhere"
    storage = Storage(tmp_path, files)
    check_blobs(storage, {BLOB}, ["app"])
    files.fixed = str(Path(link).parent)
    with pytest.raises(StorageError, match=f"{files.fixed} can't be changed, so nothing was deleted"):
        check_blobs(storage, {BLOB}, ["app"])


def test_where_nothing_can_be_set_aside(scene: Scene, elsewhere: Path) -> None:
    """Blobs on another disk are collected by the registry's own collector, and what it left is restored; where regdata
    itself would collect nothing is deleted, and the error names who can."""
    blobs = scene.base_path / "docker/registry/v2/blobs"
    shutil.copytree(blobs, elsewhere / "blobs")
    shutil.rmtree(blobs)
    blobs.symlink_to(elsewhere / "blobs")
    before = scene.store()
    config = load_config(scene.conf)
    with pytest.raises(StorageError, match="collect by the registry's own gc-command"):
        regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config)
    assert scene.store() == before
    scene.set(gc_command=scene.registry.gc_command)
    assert scene.clean() == ""
    facts = json.loads((scene.records()[-1] / "record.json").read_bytes())
    assert facts["bytes_freed"] == facts["bytes_predicted"] > 0
    config = load_config(scene.conf)
    assert set(regdata.restore(scene.records()[-1], config)["outcome"]) == {"lost", "restored"}
    regdata.doctor(config, repair=True)


def test_each_folder_of_blobs_elsewhere(scene: Scene, elsewhere: Path) -> None:
    """Where a single folder of blobs is a symbolic link to another disk, manifests' bytes are kept there by a copy."""
    root = (scene.base_path / "docker/registry/v2" / blob_path(OLD.digest)).parents[1]
    shutil.copytree(root, elsewhere / root.name)
    shutil.rmtree(root)
    root.symlink_to(elsewhere / root.name)
    scene.set(gc_command=scene.registry.gc_command)
    assert scene.clean() == ""
    facts = json.loads((scene.records()[-1] / "record.json").read_bytes())
    assert facts["bytes_freed"] == facts["bytes_predicted"] > 0


@pytest.mark.parametrize("goes", [True, False], ids=["goes", "stays"])
def test_links_in_another_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes: bool) -> None:
    """The links to what goes have to lie where they can be set aside by moving them, as the blobs themselves; where
    those to what stays lie is no matter."""
    root, stays = tmp_path / "docker/registry/v2", f"sha256:{'cd' * 32}"
    for path in (blob_path(BLOB), layer_path("app", BLOB), layer_path("app", stays)):
        (root / path).parent.mkdir(parents=True)
        (root / path).touch()
    mounted = (root / layer_path("app", BLOB if goes else stays)).parent
    monkeypatch.setattr("regdata.sources.mounts.mounts", lambda: {str(mounted)})
    told = f"{mounted} lies in another file system or mount than {tmp_path}, .* so nothing was deleted"
    with pytest.raises(StorageError, match=told) if goes else nullcontext():
        check_blobs(Storage(tmp_path), {BLOB}, ["app"])


def test_links_that_are_not_ours_to_change(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the links to what goes can't be taken away no tag is deleted, either."""
    fixed, before = "prod/old/_layers/sha256", scene.store()
    monkeypatch.setattr(LocalFiles, "writable", lambda files, folder: not folder.endswith(fixed))
    assert f"{fixed} can't be changed, so nothing was deleted" in scene.clean()
    assert scene.store() == before


def test_a_tag_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a tag that was selected, and stays, need not be ours to change."""
    folder = tmp_path / "store/docker/registry/v2/repositories/app/_manifests/tags/kept"
    folder.mkdir(parents=True)
    monkeypatch.setattr(LocalFiles, "writable", lambda files, path: not path.endswith("/tags/kept"))
    small = Small()
    small.push("app", "kept", days=9, layer=100)
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
        config = load_config(tmp_path / "conf.json")
        kept = regdata.plan(small.inventory(), "1=1", protect="1=1")
        assert check_plan(kept, config, Site.open(config), gc=False, force=False) == set()
        with pytest.raises(StorageError, match=r"tags/kept can't be changed, so nothing was deleted"):
            check_plan(regdata.plan(small.inventory(), "1=1"), config, Site.open(config), gc=False, force=False)


@pytest.mark.parametrize("fixed", ["tags/1/index", "tags/2", "tags/2/index"])
def test_every_tag_that_goes(tmp_path: Path, fixed: str) -> None:
    """Of each of several tags of a repository that go, the folder of what it was on before has to be ours to change,
    too."""
    for tag in ("1", "2"):
        (tmp_path / f"docker/registry/v2/repositories/app/_manifests/tags/{tag}/index/sha256").mkdir(parents=True)
    files = ReadOnly()
    files.fixed = fixed
    with pytest.raises(StorageError, match=f"{fixed} can't be changed, so nothing was deleted"):
        check_tags(Storage(tmp_path, files), [("app", "1"), ("app", "2")])


def test_the_trash_is_not_ours_to_change(tmp_path: Path) -> None:
    """Where there is a folder of what was set aside, by another user say, that has to be ours to change."""
    (tmp_path / "docker/registry/v2/blobs").mkdir(parents=True)
    (tmp_path / NAME).mkdir()
    files = ReadOnly()
    files.fixed = NAME
    with pytest.raises(StorageError, match=f"{tmp_path}/{NAME} can't be changed, so nothing was deleted"):
        check_blobs(Storage(tmp_path, files), (), ())
