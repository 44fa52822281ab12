"""What a symbolic link gives a second name does not go."""

from __future__ import annotations

from pathlib import Path

import pytest

import regdata
from regdata.collecting.othernames import check_names
from regdata.config import load_config
from regdata.errors import StorageError
from regdata.sources.storage import Storage
from tests.support.scene import Scene

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
        for folder in ("_manifests/tags/1/current", REVISION, "_layers/sha256", LAYER):
            (top / name / folder).mkdir(parents=True)
            if folder != "_layers/sha256":
                (top / name / folder / "link").touch()
    (top / link).parent.mkdir(parents=True, exist_ok=True)
    (top / "other/_layers").parent.mkdir(exist_ok=True)
    if link != "other/_layers":
        (top / "other/_layers").mkdir(exist_ok=True)
    (top / link).symlink_to(top / to)

    def check(name: str, tag: str) -> None:
        check_names(storage, {name}, [f"{top}/{name}/_manifests/tags/{tag}", f"{top}/{name}/{REVISION}"])

    check("apart", "1")
    name = f"{link}/new" if to == "b" else link.partition("/_")[0]
    other = (name, "2") if turned else ("b/new", "1")
    with pytest.raises(StorageError, match=f"by the symbolic link {top / link}, .*nothing was deleted: replace it by"):
        check(*other)


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
    for path, to in (("blobs", "blobs"), ("blobs/sha256", "blobs/sha256")):
        (ours / path).parent.mkdir(exist_ok=True)
        (ours / path).symlink_to(theirs / to)
        with pytest.raises(StorageError, match=f"the symbolic link {ours / path} leads to the blobs of another"):
            check_names(Storage(tmp_path / "ours"), {"any"}, [])
        (ours / path).unlink()


@pytest.mark.parametrize("link", ["prod/old-too", "zz", "prod/old/_manifests/tags/too"])
def test_nothing_goes(scene: Scene, link: str) -> None:
    """A registry that serves both names is refused as it is, before it is tried out."""
    config, path = load_config(scene.conf), scene.base_path / "docker/registry/v2/repositories" / link
    path.symlink_to(path.parent / "old" if "_" in link else path.parents[link.count("/")] / "prod/old")
    plan, before = regdata.plan(regdata.scan(config), "image_name = 'prod/old' and tag_name = 'old'"), scene.store()
    with pytest.raises(StorageError, match=f"by the symbolic link {path}, "):
        regdata.apply(plan, config)
    assert scene.store() == before
