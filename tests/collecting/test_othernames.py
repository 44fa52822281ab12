"""What a symbolic link gives a second name does not go."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import regdata
from regdata.cleaning.checks import check_plan
from regdata.collecting.othernames import check_names
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer, push
from regdata.errors import StorageError
from regdata.inventory.graph import Collector
from regdata.inventory.scan import collector_of
from regdata.sources.aside import NAME
from regdata.sources.claims import Claims
from regdata.sources.files import LocalFiles
from regdata.sources.paths import blob_path, layer_path
from regdata.sources.registry import Registry
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from tests.collecting.test_sweep import pulls
from tests.support.fakes import FakeRegistry, serve
from tests.support.helpers import age
from tests.support.scene import NewScene, Scene
from tests.support.small import NOW, Small, digest

REVISION = f"_manifests/revisions/sha256/{'ab' * 32}"
LAYER = f"_layers/sha512/{'cd' * 64}"


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("zz", "b/new"),
        ("zz", "b"),
        ("other/_manifests", "b/new/_manifests"),
        ("other/_manifests/tags", "b/new/_manifests/tags"),
        ("other/_manifests/revisions", "b/new/_manifests/revisions"),
        ("other/_layers", "b/new/_layers"),
        ("other/_manifests/tags/2", "b/new/_manifests/tags/1"),
        ("b/new/_manifests/tags/2", "b/new/_manifests/tags/1"),
        (f"other/{REVISION}", f"b/new/{REVISION}"),
        ("other/_manifests/tags/2/current", "b/new/_manifests/tags/1/current"),
        ("b/new/_manifests/tags/2/current", "b/new/_manifests/tags/1/current"),
        ("other/_manifests/tags/2/current/link", "b/new/_manifests/tags/1/current/link"),
        (f"other/{REVISION}/link", f"b/new/{REVISION}/link"),
        ("other/_manifests/tags/2/current/link", "b/new/_manifests/tags/1/index/sha256/x/link"),
        ("other/_manifests/tags/2/current", "b/new/_manifests/tags/1/index/sha256/x"),
        ("b/new/_manifests/tags/2/current/link", "b/new/_manifests/tags/1/index/sha256/x/link"),
        (f"b/new/{REVISION}/link", "b/new/_manifests/tags/1/index/sha256/x/link"),
        ("b/new/_manifests/tags/2/index", "b/new/_manifests/tags/1/index"),
        ("other/_layers/sha512", "b/new/_layers/sha512"),
        ("other/_layers/sha256/link", f"b/new/{LAYER}/link"),
        ("b/new/_uploads", "apart"),
        (f"other/{LAYER}", f"b/new/{LAYER}"),
        (f"other/{LAYER}/link", f"b/new/{LAYER}/link"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_every_folder(tmp_path: Path, link: str, to: str, turned: bool) -> None:
    """The link and the other name are told, whichever of the two something goes from; what goes elsewhere may go."""
    storage = Storage(tmp_path)
    top = tmp_path / "docker/registry/v2/repositories"
    for name in ("b/new", "apart"):
        history = "_manifests/tags/1/index/sha256/x"
        for folder in ("_manifests/tags/1/current", history, REVISION, "_layers/sha256", LAYER):
            (top / name / folder).mkdir(parents=True)
            if folder != "_layers/sha256":
                (top / name / folder / "link").touch()
    (top / link).parent.mkdir(parents=True, exist_ok=True)
    (top / "other/_layers").parent.mkdir(exist_ok=True)
    if link != "other/_layers":
        (top / "other/_layers").mkdir(exist_ok=True)
    if (top / link).exists():
        (top / link).unlink()
    (top / link).symlink_to(top / to)
    if to != "apart":
        check_names(storage, {"apart"}, [])
    name = f"{link}/new" if to == "b" else link.partition("/_")[0]
    with pytest.raises(StorageError, match=f"by the symbolic link {top / link}, .*nothing was deleted: replace it by"):
        check_names(storage, {name if turned else "b/new"}, [])


def test_blobs_of_another_registry(tmp_path: Path) -> None:
    """What this registry's repositories don't need may be needed by those that lie beside the blobs."""
    ours, theirs, alone = (tmp_path / name / "docker/registry/v2" for name in ("ours", "theirs", "alone"))
    for top in (ours, theirs):
        (top / "repositories").mkdir(parents=True)
    for top in (theirs, alone):
        (top / "blobs/sha256").mkdir(parents=True)
    (ours / "blobs").symlink_to(alone / "blobs")  # on another disk, say
    check_names(Storage(tmp_path / "ours"), {"any"}, [])
    (ours / "blobs").unlink()
    digest = f"sha256:{'ab' * 32}"
    (theirs / blob_path(digest)).parent.mkdir(parents=True)
    for folder in (Path(blob_path(digest)).parent, *Path(blob_path(digest)).parents[1:-1]):
        (ours / folder).parent.mkdir(parents=True, exist_ok=True)
        (ours / folder).symlink_to(theirs / folder)
        with pytest.raises(StorageError, match=f"the symbolic link {ours / folder} leads to the blobs of another"):
            check_names(Storage(tmp_path / "ours"), {"any"}, [digest])
        (ours / folder).unlink()
        shutil.rmtree(ours / "blobs", ignore_errors=True)


@pytest.mark.parametrize("link", ["prod/old-too", "zz", "prod/old/_manifests/tags/too"])
def test_nothing_goes(scene: Scene, link: str) -> None:
    """A registry that serves both names is refused as it is, before it is tried out."""
    config, path = load_config(scene.conf), scene.base_path / "docker/registry/v2/repositories" / link
    path.symlink_to(path.parent / "old" if "_" in link else path.parents[link.count("/")] / "prod/old")
    plan, before = regdata.plan(regdata.scan(config), "image_name = 'prod/old' and tag_name = 'old'"), scene.store()
    with pytest.raises(StorageError, match=f"by the symbolic link {path}, "):
        regdata.apply(plan, config)
    assert scene.store() == before


@pytest.mark.parametrize("name", ["prod", "prod/old"])
def test_a_repository_that_lies_elsewhere(scene: Scene, name: str) -> None:
    """A link out of the registry's folder is told as what it is: nobody knows whose it is, too."""
    path = scene.base_path / "docker/registry/v2/repositories" / name
    path.rename(scene.folder / "elsewhere")
    path.symlink_to(scene.folder / "elsewhere")
    config = load_config(scene.conf)
    plan, before = regdata.plan(regdata.scan(config), "image_name = 'prod/old' and tag_name = 'old'"), scene.store()
    with pytest.raises(StorageError, match=f"the symbolic link {path} leads out of .*so nothing was deleted: have it"):
        regdata.apply(plan, config)
    assert scene.store() == before


@pytest.mark.parametrize("itself", [False, True], ids=["gc-command", "itself"])
@pytest.mark.parametrize("folder", [False, True], ids=["data", "folder"])
def test_bytes_behind_a_link(new_scene: NewScene, folder: bool, itself: bool) -> None:
    """Where a blob, or its folder, is a link to a pool, whoever collects removes the link, and the pool keeps the
    bytes: nothing is deleted."""
    scene = new_scene()
    if itself:
        scene.collects_itself()
    config = load_config(scene.conf)
    plan = regdata.plan(regdata.scan(config), "tag_name = 'old'")
    data = scene.base_path / "docker/registry/v2" / blob_path(plan.blobs["blob_hash"].iloc[0])
    path = data.parent if folder else data
    path.rename(scene.folder / "pool")
    path.symlink_to(scene.folder / "pool")
    before = scene.store()
    with pytest.raises(StorageError, match=f"{path} is a symbolic link, and the bytes .* so nothing was deleted: have"):
        regdata.apply(plan, config)
    assert scene.store() == before
    path.unlink()
    (scene.folder / "pool").rename(path)
    assert regdata.apply(plan, config).bytes_freed == plan.reclaimable


@pytest.mark.parametrize("where", ["trash", "upload"])
def test_bytes_that_are_removed_sooner_or_later(new_scene: NewScene, where: str) -> None:
    """A link to what the trash or an upload has is told before anything goes, by a clean-up and by doctor, with a
    command that cures it; the image behind it pulls all the time."""
    scene = new_scene()
    scene.collects_itself()
    scene.set(trash_days=7)
    config, image = load_config(scene.conf), make_image([make_layer("lent", 3000)], created=1, oci=True)
    push(scene.registry.url, "prod/lent", "gone", image)
    age(scene.base_path, 3 * 86400)
    regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'gone'"), config)
    push(scene.registry.url, "prod/lent", "again", image)
    root = scene.base_path / "docker/registry/v2"
    data = root / blob_path(image.blobs[-1].digest)
    if where == "trash":
        (copy,) = (scene.base_path / "regdata-aside").rglob(f"*{data.parent.name}+data")
    else:
        copy = root / "repositories/base/lib/_uploads/1234/data"
        copy.parent.mkdir()
        shutil.copy(data, copy)
    data.unlink()
    data.symlink_to(copy)
    age(scene.base_path, 30 * 86400)
    told = f"the symbolic link {data} leads to {copy}, and what is there is removed sooner or later, so nothing was"
    with pytest.raises(StorageError, match=re.escape(told)) as raised:
        regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config, empty_trash=True)
    assert [*regdata.doctor(config)["what"]] == (["abandoned upload"] if where == "upload" else [])
    assert not (regdata.doctor(config, repair=True)["outcome"] == "cured").any()
    assert pulls(scene.registry.url, "prod/lent", "again", image)
    subprocess.run(str(raised.value).rpartition("(")[2].strip(")"), shell=True, check=True)
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config, empty_trash=True)
    assert result.bytes_freed == result.bytes_predicted > 0
    assert (regdata.doctor(config, repair=True)["outcome"] == "cured").all()
    assert not copy.exists()
    assert pulls(scene.registry.url, "prod/lent", "again", image)


@pytest.mark.parametrize(
    ("links", "means"),
    [
        ({"ext": "theirs/ext"}, None),
        ({"team": "theirs/team"}, None),
        ({"ext/_layers": "theirs/ext/_layers"}, None),
        ({"ext/_layers/sha256": "theirs/ext/_layers/sha256"}, None),
        ({"real/ext": "theirs/ext", "too": "ours/real"}, ["app", "too/*"]),
        ({"_hid/ext": "theirs/ext", "too": "ours/_hid"}, None),
        ({"../mid/ext": "theirs/ext", "too": "ours/../mid"}, None),
        ({"": "theirs"}, None),
    ],
    ids=str,
)
def test_links_out_of_this_registry(
    tools: None, tmp_path: Path, conf: Callable[..., Path], links: dict[str, str], means: list[str] | None
) -> None:
    """Links without data are taken away in no repository that is another registry's: that has the data. A clean-up is
    refused as it is, and doctor leaves them, also where it cures another."""
    image = make_image([make_layer("theirs", 300)], created=1, oci=True)
    gone = make_image([make_layer("gone", 300)], created=1, oci=True)
    with LocalRegistry(tmp_path / "ours") as ours, LocalRegistry(tmp_path / "theirs") as theirs:
        name = "team/ext" if "team" in links else "ext"
        push(theirs.url, name, "1", image)
        tops = {one: tmp_path / one / "store/docker/registry/v2/repositories" for one in ("ours", "theirs")}
        for one in (ours, *([theirs] if "" in links else [])):
            push(one.url, "app", "1", make_image([make_layer("ours", 300)], created=1, oci=True))
            push(one.url, "app", "gone", gone)
        for blob in gone.blobs:
            shutil.rmtree((ours.base_path / "docker/registry/v2" / blob_path(blob.digest)).parent)
        for link, to in links.items():
            place, (registry, _, rest) = tops["ours"] / link, to.partition("/")
            if "_layers" in link:
                shutil.copytree(tops["theirs"] / "ext", tops["ours"] / "ext")
            if place.is_dir():
                shutil.rmtree(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(tops[registry] / rest)
        age(ours.base_path, 3 * 86400)
        age(theirs.base_path, 3 * 86400)
        path = conf(ours, **{"gc-command": None})
        settings = json.loads(path.read_text())
        settings["registry"] |= {"repositories": means} if means else {}
        path.write_text(json.dumps(settings))
        config = load_config(path)
        plan = regdata.plan(regdata.scan(config), "2=1")
        with pytest.raises(StorageError, match=r"the symbolic link .* another registry"):
            regdata.apply(plan, config)
        found = regdata.doctor(config, repair=True)
        assert "cured" not in found["outcome"].tolist()
        assert pulls(theirs.url, name, "1", image)


def test_doctor_and_layers_of_another_registry(tools: None, tmp_path: Path, conf: Callable[..., Path]) -> None:
    """What looks like an empty repository has its layers in another registry: they stay linked, also where a link
    without data is cured elsewhere."""
    image = make_image([make_layer("theirs", 300)], created=1, oci=True)
    with LocalRegistry(tmp_path / "ours") as ours, LocalRegistry(tmp_path / "theirs") as theirs:
        for one in (ours, theirs):
            push(one.url, "ext", "1", image)
            push(one.url, "app", "1", make_image([make_layer("ours", 300)], created=1, oci=True))
        here, there = (one.base_path / "docker/registry/v2/repositories" for one in (ours, theirs))
        for folder in ("ext/_manifests", "ext/_layers"):
            shutil.rmtree(here / folder)
        (here / "ext/_manifests").mkdir()
        (here / "ext/_layers").symlink_to(there / "ext/_layers")
        for blob in image.blobs:
            shutil.rmtree((ours.base_path / "docker/registry/v2" / blob_path(blob.digest)).parent)
            shutil.copytree(
                there / "ext/_layers/sha256" / blob.digest[7:], here / f"app/_layers/sha256/{blob.digest[7:]}"
            )
        for one in (ours, theirs):
            age(one.base_path, 3 * 86400)
        found = regdata.doctor(load_config(conf(ours)), repair=True)
        assert "link without data" in found["what"].tolist()
        assert pulls(theirs.url, "ext", "1", image)


AWAY = ("repositories/ext", "repositories/ext/_layers", "repositories/ext/_manifests", "blobs/sha256/{}", "{}")


@pytest.mark.parametrize("itself", [True, False], ids=["itself", "gc-command"])
@pytest.mark.parametrize("where", AWAY)
def test_a_disk_that_is_away(new_scene: NewScene, where: str, itself: bool) -> None:
    """What lies behind a link that leads nowhere is not known: nothing is collected, and all is there once the disk is;
    what collects nothing goes on."""
    scene, image = new_scene(), make_image([make_layer("away", 3000)], created=1, oci=True)
    if itself:
        scene.collects_itself()
    push(scene.registry.url, "ext", "1", image)
    age(scene.base_path, 3 * 86400)
    root, disk = scene.base_path / "docker/registry/v2", scene.folder / "disk"
    data = blob_path(image.blobs[-1].digest)
    path = root / where.format(image.blobs[-1].digest[7:9] if "/" in where else data)
    path.rename(disk)
    path.symlink_to(disk)
    assert pulls(scene.registry.url, "ext", "1", image)
    disk.rename(scene.folder / "away")
    scene.registry.restart()
    config, before = load_config(scene.conf), scene.store()
    for condition in ("2=1", "tag_name = 'old'"):
        with pytest.raises(StorageError, match=f"the symbolic link {path} leads to {disk}, where nothing is: a disk"):
            regdata.apply(regdata.plan(regdata.scan(config), condition), config)
        assert scene.store() == before
    assert regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config, gc=False).errors == []
    assert not (regdata.doctor(config, repair=True)["what"] == "new").any()
    (scene.folder / "away").rename(disk)
    scene.registry.restart()
    assert pulls(scene.registry.url, "ext", "1", image)
    assert regdata.apply(regdata.plan(regdata.scan(config), "2=1"), config).errors == []
    assert pulls(scene.registry.url, "ext", "1", image)


@pytest.mark.parametrize("where", ["repositories/ext", "blobs/sha256", "repositories"])
def test_a_disk_that_is_away_behind_another(tmp_path: Path, where: str) -> None:
    """A link that leads nowhere is seen behind one that leads somewhere, and so is the folder of all repositories."""
    root, disk = tmp_path / "docker/registry/v2", tmp_path / "disk"
    for folder in (root / "repositories/app", root / "blobs/sha256/aa"):
        folder.mkdir(parents=True)
    path = root / where
    if where == "repositories":
        shutil.rmtree(path)
    else:
        (disk / "inner").mkdir(parents=True)
        (disk / "inner/link").symlink_to(tmp_path / "away")
        (disk / "again").symlink_to(disk)
        if path.exists():
            shutil.rmtree(path)
    path.symlink_to(disk)
    with pytest.raises(StorageError, match=r"the symbolic link .* leads to .*, where nothing is: a disk may be away"):
        check_names(Storage(tmp_path), (), ())
    check_names(Storage(tmp_path), (), (), collects=False)


@pytest.mark.parametrize("known", [False, True])
def test_data_that_comes_later(new_scene: NewScene, known: bool) -> None:
    """A store whose repositories are there before its blobs, with a clean-up in between: links that a manifest needs
    stay, and all pulls in the end; unless a cache knows the blob, which would be claimed."""
    scene, image = new_scene(cache=True), make_image([make_layer("later", 3000)], created=1, oci=True)
    scene.collects_itself()
    push(scene.registry.url, "prod/later", "1", image)
    age(scene.base_path, 3 * 86400)
    assert pulls(scene.registry.url, "prod/later", "1", image)
    digest = image.blobs[-1].digest
    data = scene.base_path / "docker/registry/v2" / blob_path(digest)
    data.rename(scene.folder / "data")
    if not known:
        scene.registry.restart()
    config = load_config(scene.conf)
    result = regdata.apply(regdata.plan(regdata.scan(config), "tag_name = 'old'"), config)
    assert result.bytes_freed == result.bytes_predicted > 0
    assert not Claims(Registry(scene.registry.url)).has("prod/later", digest)
    (scene.folder / "data").rename(data)
    assert pulls(scene.registry.url, "prod/later", "1", image) is not known
    if known:
        assert (regdata.doctor(config, repair=True)["outcome"] == "cured").any()
        assert pulls(scene.registry.url, "prod/later", "1", image)


def test_a_folder_where_a_link_leads_nowhere(registry: LocalRegistry, conf: Callable[..., Path]) -> None:
    """What would be written behind it is an error of one line."""
    push(registry.url, "app", "1", make_image([make_layer("nowhere", 300)], created=1, oci=True))
    layers = registry.base_path / "docker/registry/v2/repositories/app/_layers"
    layers.rename(layers.with_name("_elsewhere"))
    layers.symlink_to("away")
    found = regdata.doctor(load_config(conf(registry)), repair=True)
    assert any(str(outcome).startswith("left: ") and "File exists" in str(outcome) for outcome in found["outcome"])


def test_a_link_inside_this_registry_that_loses_nothing(tmp_path: Path) -> None:
    """What nobody needs, or is gone, no other name of the same registry needs."""
    top = tmp_path / "docker/registry/v2/repositories"
    (top / "app/_layers").mkdir(parents=True)
    (top / "too").symlink_to(top / "app")
    check_names(Storage(tmp_path), (), (), {"app", "too"})


class Mounted(LocalFiles):
    """The folder of repository a is mounted at b, too."""

    def place(self, path: str) -> object:
        return super().place(path.replace("/repositories/b", "/repositories/a"))


@pytest.mark.parametrize("goes", ["a", "b"])
def test_a_folder_that_is_mounted_twice(tmp_path: Path, goes: str) -> None:
    """Two repositories that are one folder, without any link, are told, whichever of the two something goes from; what
    goes elsewhere may go."""
    for name in ("a", "b", "c"):
        (tmp_path / "docker/registry/v2/repositories" / name / "_layers").mkdir(parents=True)
    storage = Storage(tmp_path, Mounted())
    check_names(storage, {"c"}, [])
    with pytest.raises(StorageError, match=r"repositories/b is the same as .*repositories/a, .*so nothing was deleted"):
        check_names(storage, {goes}, [])


@pytest.mark.parametrize("link", [blob_path(f"sha256:{'ab' * 32}"), layer_path("app", f"sha256:{'ab' * 32}")])
@pytest.mark.parametrize("place", ["", "docker", "docker/registry"])
def test_what_the_trash_has_wherever_it_lies(tmp_path: Path, place: str, link: str) -> None:
    """A link into the trash is told, be it a blob's or a repository's, and in whichever folder above the registry's own
    the trash lies: beside a mount it is further down."""
    kept, path = tmp_path / place / NAME / "run/0001-kept/kept", tmp_path / "docker/registry/v2" / link
    for folder in (kept.parent, path.parent):
        folder.mkdir(parents=True)
    kept.write_bytes(b"x")
    path.symlink_to(kept)
    with pytest.raises(StorageError, match=f"{path} leads to {kept}, and what is there is removed sooner or later"):
        check_names(Storage(tmp_path), (), ())


@pytest.mark.parametrize("folder", ["repositories", "blobs"])
def test_all_of_it_on_a_disk_that_is_away(tmp_path: Path, folder: str) -> None:
    """Where the folder of all repositories, or of all blobs, leads to a disk that is away, nothing is collected; what
    collects nothing goes on."""
    root = tmp_path / "docker/registry/v2"
    for name in {"repositories", "blobs"} - {folder}:
        (root / name).mkdir(parents=True)
    (root / folder).symlink_to(tmp_path / "away")
    told = f"the symbolic link {root / folder} leads to {tmp_path}/away, where nothing is: a disk may be away"
    with pytest.raises(StorageError, match=told):
        check_names(Storage(tmp_path), (), ())
    check_names(Storage(tmp_path), (), (), collects=False)


def test_a_link_where_all_repositories_lie_elsewhere(tmp_path: Path) -> None:
    """A link in a repository from which something goes is told, too, where the folder of all repositories is a symbolic
    link itself, to another disk."""
    root, disk = tmp_path / "docker/registry/v2", tmp_path / "disk"
    for folder in (root, disk / "app/_manifests", disk / "other/_uploads"):
        folder.mkdir(parents=True)
    (root / "repositories").symlink_to(disk)
    (disk / "app/_uploads").symlink_to(disk / "other/_uploads")
    link = root / "repositories/app/_uploads"
    with pytest.raises(StorageError, match=f"by the symbolic link {link}, .*nothing was deleted: replace it by"):
        check_names(Storage(tmp_path), {"app"}, [])


class PartlyMounted(LocalFiles):
    """A folder of repository a is mounted in b, too."""

    folder: str

    def place(self, path: str) -> object:
        return super().place(path.replace(f"/repositories/b{self.folder}", f"/repositories/a{self.folder}"))


@pytest.mark.parametrize(
    "folder",
    [
        "/_manifests",
        "/_manifests/revisions",
        "/_manifests/revisions/sha256",
        "/_manifests/tags",
        "/_layers",
        "/_layers/sha256",
    ],
)
def test_a_part_that_is_mounted_twice(tmp_path: Path, folder: str) -> None:
    """Two repositories that have one of their folders in common, without any link, are told."""
    files = PartlyMounted()
    files.folder = folder
    for name in ("a", "b"):
        Path(f"{tmp_path}/docker/registry/v2/repositories/{name}{folder}").mkdir(parents=True)
    told = f"repositories/b{folder} is the same as .*repositories/a{folder}, .*so nothing was deleted"
    with pytest.raises(StorageError, match=told):
        check_names(Storage(tmp_path, files), {"a"}, [])


def test_an_empty_repository_in_which_another_has_its_layers(tmp_path: Path) -> None:
    """A collection removes what holds no manifest: not where a link of another repository leads into it."""
    top = tmp_path / "store/docker/registry/v2/repositories"
    (top / "app/_manifests").mkdir(parents=True)
    (top / "empty/_layers").mkdir(parents=True)
    link = top / "app/_layers"
    link.symlink_to(top / "empty/_layers")
    made = Small()
    made.push("app", "1", days=9, layer=100)
    made.repository("empty")
    plan = regdata.plan(made.inventory(collector=Collector(own=True, takes_manifests=False)), "2=1")
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store")}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}}))
        with pytest.raises(StorageError, match=f"by the symbolic link {link}, .*so nothing was deleted"):
            regdata.apply(plan, load_config(tmp_path / "conf.json"))


@pytest.mark.parametrize("what", ["an orphan", "a tag", "a kept tag", "outside", "no collection"])
def test_another_name_of_what_stays(tmp_path: Path, what: str) -> None:
    """Another name is in nobody's way where nothing goes: neither a tag nor a manifest that is there, nor an empty
    repository that is out of reach, or in a run that does not collect."""
    top, name = tmp_path / "store/docker/registry/v2/repositories", "out" if what == "outside" else "app"
    (top / name / "_layers").mkdir(parents=True)
    (top / "app/too").parent.mkdir(exist_ok=True)
    (top / "app/too").symlink_to(top / name)
    made = Small()
    made.push("other", "1", days=9, layer=100)
    made.repository(name)
    if what == "an orphan":
        made.push("app", None, days=0, layer=100)
    if what == "a tag":
        made.row("tags", image_name="app", tag_name="1", tag_hash=digest("other1"), pushed=NOW)
    if what == "a kept tag":
        made.push("app", "1", days=9, layer=100)
    with serve(FakeRegistry()) as fake:
        registry = {"url": fake.url, "base_path": str(tmp_path / "store"), "repositories": ["app", "other"]}
        (tmp_path / "conf.json").write_text(json.dumps({"registry": registry, "sql": {}, "gc-command": ["true"]}))
        config = load_config(tmp_path / "conf.json")
        site = Site.open(config)
        inventory = made.inventory(collector=collector_of(config, site))
        plan = regdata.plan(inventory, "tag_name = '1'", protect="1=1")
        assert check_plan(plan, config, site, gc=what != "no collection", force=False) == set()


@pytest.mark.parametrize(
    ("link", "to", "told"),
    [
        (blob_path(f"sha256:{'ab' * 32}"), f"disk/{NAME}/run/0001-kept/kept", "leads to .* is removed sooner or later"),
        (
            blob_path(f"sha256:{'ab' * 32}"),
            "disk/docker/registry/v2/repositories/app/_uploads/1/data",
            "leads to .* is removed sooner or later",
        ),
        ("repositories/ext", "elsewhere", "leads out of the registry's folder"),
    ],
    ids=["trash", "upload", "elsewhere"],
)
def test_where_base_path_is_a_link(tmp_path: Path, link: str, to: str, told: str) -> None:
    """Where base_path itself is a symbolic link that alone is no reason to refuse anything, and whatever is refused
    elsewhere is refused there, by the name of the link that is at fault."""
    root = tmp_path / "store/docker/registry/v2"
    for folder in ("disk/docker/registry/v2/repositories/app/_layers", "disk/docker/registry/v2/blobs/sha256"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    check_names(Storage(tmp_path / "store"), {"app"}, (), {"app"})
    (tmp_path / to).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / to).mkdir() if to == "elsewhere" else (tmp_path / to).write_bytes(b"x")
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(tmp_path / to)
    with pytest.raises(StorageError, match=f"^the symbolic link {root / link} {told}"):
        check_names(Storage(tmp_path / "store"), (), (), {"app", "ext"})


def test_all_of_it_lies_on_another_disk(tmp_path: Path) -> None:
    """Where the folders of all repositories and of all blobs are links to one disk, where they lie beside each other as
    here, they are no other registry's: what goes may go."""
    root, disk, digest = tmp_path / "docker/registry/v2", tmp_path / "disk", f"sha256:{'ab' * 32}"
    root.mkdir(parents=True)
    for name, inner in (("repositories", "app/_layers"), ("blobs", str(Path(blob_path(digest)).parent)[6:])):
        (disk / name / inner).mkdir(parents=True)
        (root / name).symlink_to(disk / name)
    check_names(Storage(tmp_path), {"app"}, [digest], {"app"})


class Closed(LocalFiles):
    """As for a user who may not look into a folder."""

    def links(self, folder: str) -> Iterator[str]:
        raise PermissionError(errno.EACCES, "Permission denied", folder)


def test_a_folder_that_can_not_be_looked_into(tmp_path: Path) -> None:
    """Where it can't be seen what else leads to what goes, that is one clear error."""
    (tmp_path / "docker/registry/v2/repositories").mkdir(parents=True)
    with pytest.raises(StorageError, match="repositories: Permission denied"):
        check_names(Storage(tmp_path, Closed()), (), ())


def test_a_cure_where_names_have_spaces(tmp_path: Path) -> None:
    """The command that cures a link into the trash can be pasted into a shell as it is, whatever folders are called."""
    kept = tmp_path / f"my store/{NAME}/run/0001-kept/kept"
    path = tmp_path / "my store/docker/registry/v2" / blob_path(f"sha256:{'ab' * 32}")
    for file in (kept, path):
        file.parent.mkdir(parents=True)
    kept.write_bytes(b"x")
    path.symlink_to(kept)
    with pytest.raises(StorageError) as raised:
        check_names(Storage(tmp_path / "my store"), (), ())
    subprocess.run(str(raised.value).rpartition("(")[2].strip(")"), shell=True, check=True)
    assert (path.is_symlink(), path.read_bytes()) == (False, b"x")
