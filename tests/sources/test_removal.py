"""What is removed in a registry's folder: tags, and repositories that are empty, while somebody pushes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_layer, push
from regdata.errors import StorageError
from regdata.sources.dates import Pushed
from regdata.sources.files import LocalFiles
from regdata.sources.paths import CLOSED
from regdata.sources.storage import Storage
from tests.support.folder import PUSHED, Folder

SOON = int(time.time()) + 86400


def test_untag_removes_the_tag_alone(folder: Folder) -> None:
    """Other tags and the manifest stay; a second time, and after one that was killed half-way, is harmless."""
    digest = folder.image("app", "v1", "v2")
    storage = Storage(folder.base_path)
    left_over = folder.manifests("app") / ".regdata-removed-v1"
    (left_over / "current").mkdir(parents=True)
    assert not storage.untag("app", "v1", digest, Pushed(PUSHED - 1, PUSHED + 9))  # it was pushed again since
    assert storage.state("app")[0] == {"v1": digest, "v2": digest}
    assert not storage.untag("app", "v1", digest, Pushed(None, PUSHED))
    assert storage.untag("app", "v1", digest, Pushed(PUSHED, PUSHED + 9))
    storage.untag("app", "v1", digest)
    assert storage.settle() == []
    assert storage.state("app") == ({"v2": digest}, frozenset({digest}))
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]


def test_who_had_a_tag_open(folder: Folder, tmp_path: Path) -> None:
    """What a registry writes into a tag's link, which it opened before the tag was taken away, is a push: the tag is
    back on that. It is waited for, but not for ever."""
    digest, other = folder.image("app", "v1", "v2", "v3"), folder.image("app", config={"os": "other"})
    storage = Storage(folder.base_path)
    for tag in ("v1", "v2", "v3"):
        os.link(folder.manifests("app") / f"tags/{tag}/current/link", tmp_path / tag)  # as an open file is the same one
        assert storage.untag("app", tag, digest)
        (tmp_path / tag).write_text("")
    assert storage.settle(last=False) == []
    assert storage.state("app")[0] == {}
    for tag in ("v1", "v2"):
        (tmp_path / tag).write_text(other)
    folder.tag("app", "v2", digest)  # pushed once more
    assert storage.settle() == [("app", "v1")]
    assert storage.state("app")[0] == {"v1": other, "v2": digest}
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]


@pytest.mark.parametrize("what", ["nothing", "layer", "same layer", "link in between", "manifest", "manifest, late"])
@pytest.mark.parametrize("killed", [False, True])
def test_who_pushes_into_a_repository_that_is_removed(folder: Folder, what: str, killed: bool) -> None:
    """Whatever is written into a repository on its way out brings it back, with all that it had; and so does the next
    run, if this one was killed."""
    digest = folder.image("other", "v1")
    mine = folder.root / "repositories/app"
    link = mine / f"_layers/sha256/{digest[7:]}/link"
    link.parent.mkdir(parents=True)
    link.write_text(digest)
    os.utime(link, (PUSHED, PUSHED))
    (mine / "_manifests/revisions/sha256").mkdir(parents=True)

    def push() -> None:
        if what == "layer":
            folder.write("repositories/app/_layers/sha256/ab/link", b"sha256:ab")
        elif what == "same layer":
            folder.write(str(link), digest.encode(), PUSHED + 9)
        elif what != "nothing":
            folder.tag("app", "v1", digest)

    class Late(LocalFiles):
        def move(self, path: str, target: str) -> None:
            if path.endswith("/_manifests") and what == "manifest, late":
                push()
            if path.endswith("/_layers") and what == "link in between":
                os.utime(link)
            super().move(path, target)

    storage, before = Storage(folder.base_path, Late()), int(time.time()) - 60
    assert storage.close_repository("app", before=before)
    assert not link.exists()
    if what in ("layer", "same layer", "manifest"):
        push()
    if killed:
        storage.settle()
        assert link.read_text() == digest
    else:
        assert storage.remove_repository("app", before=before) == (what == "nothing")
        assert link.exists() == (what != "nothing")
    if "manifest" in what and not (killed and "late" in what):
        assert storage.state("app")[0] == {"v1": digest}
    if what != "nothing":
        assert sorted(os.listdir(mine)) == ["_layers", "_manifests"]
        assert what != "same layer" or link.stat().st_mtime == PUSHED + 9


class Killed(LocalFiles):
    """Ends as if the process was killed, right after one of the steps that change something; before that, somebody
    pushes: ``between``."""

    def __init__(self, steps: int, between: Callable[[], object]) -> None:
        self.steps, self.between = steps, between

    def _step(self, do: Callable[..., None], *paths: str) -> None:
        self.between()
        do(*paths)
        self.steps -= 1
        if not self.steps:
            raise KeyboardInterrupt

    def move(self, path: str, target: str) -> None:
        self._step(super().move, path, target)

    def remove_file(self, path: str) -> None:
        self._step(super().remove_file, path)

    def remove(self, folder: str) -> None:
        self._step(super().remove, folder)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("when", ["never", "before", "after"])
@pytest.mark.parametrize("again", [False, True], ids=["the next run", "the same again"])
def test_untag_is_killed(folder: Folder, steps: int, when: str, again: bool) -> None:
    """Killed after any step, a tag that was pushed right before its folder is moved, or after, is there in the end, on
    what was pushed; one that was not is as before, or gone. The next run sees to it, or the same once more."""
    digest, other = folder.image("app", "v1"), folder.image("app", "v2", config={"os": "other"})
    tags = folder.manifests("app") / "tags"
    pushes = [when == "never"]

    def between() -> None:
        if (tags / "v1").exists() == (when == "before") and not pushes[0]:
            pushes[0] = True
            folder.tag("app", "v1", other)

    with suppress(KeyboardInterrupt):
        Storage(folder.base_path, Killed(steps, between)).untag("app", "v1", digest)
    storage = Storage(folder.base_path)
    storage.untag("app", "v1", digest) if again else storage.settle()
    storage.settle()
    left = storage.state("app")[0]
    if when == "never":
        assert left.get("v1", digest) == digest
        assert "v1" not in left or (steps == 1 and not again)
    elif pushes[0]:
        assert left["v1"] == other
    assert left["v2"] == other
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]


def test_untag_between_two_pushes(folder: Folder) -> None:
    """A tag that was pushed right before its folder is moved, and once more right after, is on what was pushed last."""
    digest, *others = (folder.image("app", *tags, config={"os": tags}) for tags in (["v1"], ["v2"], ["v3"]))

    class Busy(LocalFiles):
        def move(self, path: str, target: str) -> None:
            folder.tag("app", "v1", others[0])
            super().move(path, target)
            folder.tag("app", "v1", others[1])

    assert not Storage(folder.base_path, Busy()).untag("app", "v1", digest)
    assert Storage(folder.base_path).state("app")[0] == {"v1": others[1], "v2": others[0], "v3": others[1]}
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]


@pytest.mark.parametrize(
    ("repository", "tag"),
    [("app", "../revisions"), ("app", ".."), ("app", ""), ("..", "v1"), ("a/../app", "v1")],
)
def test_untag_takes_names_only(folder: Folder, repository: str, tag: str) -> None:
    """A path in place of a name is refused."""
    digest = folder.image("app", "v1")
    storage = Storage(folder.base_path)
    with pytest.raises(StorageError, match="nothing was removed"):
        storage.untag(repository, tag, digest)
    assert storage.state("app") == ({"v1": digest}, frozenset({digest}))


def test_untag_follows_no_link(folder: Folder, tmp_path: Path) -> None:
    """Neither a tag nor a repository that is a symbolic link is touched."""
    outside = Folder(tmp_path / "outside")
    digest = outside.image("app", "v1")
    folder.image("app", "v1")
    (folder.manifests("app") / "tags/link").symlink_to(outside.manifests("app") / "tags/v1")
    (folder.root / "repositories/moved").symlink_to(outside.root / "repositories/app")
    storage = Storage(folder.base_path)
    for repository, tag in (("app", "link"), ("moved", "v1")):
        with pytest.raises(StorageError, match="symbolic link"):
            storage.untag(repository, tag, digest)
    assert Storage(outside.base_path).state("app")[0] == {"v1": digest}


def test_remove_repository_spares_its_neighbours(folder: Folder) -> None:
    """An empty repository goes with the folders that it leaves empty, and nothing else."""
    digest = folder.image("team/a/nested", "v1")
    for name in ("team/a", "team/b/c", "lonely"):
        for own in ("_manifests/tags", "_layers/sha256", "_uploads"):
            (folder.root / "repositories" / name / own).mkdir(parents=True)
    storage = Storage(folder.base_path)
    for name in ("team/a", "team/b/c", "team/b/c", "lonely"):
        assert storage.close_repository(name, before=SOON)
        assert storage.remove_repository(name, before=SOON)
    assert storage.repositories() == ["team/a/nested"]
    assert storage.state("team/a/nested")[0] == {"v1": digest}
    assert sorted(os.listdir(folder.root / "repositories/team")) == ["a"]
    assert os.listdir(folder.root / "repositories") == ["team"]


def test_remove_repository_refuses_one_that_is_not_empty(folder: Folder) -> None:
    """A repository with a manifest, or a path in place of a name, is left alone."""
    folder.image("app")
    storage = Storage(folder.base_path)
    assert not storage.close_repository("app", before=SOON)
    for name in ("", "..", "app/_manifests", "/app"):
        for remove in (storage.close_repository, storage.remove_repository):
            with pytest.raises(StorageError, match="nothing was removed"):
                remove(name, before=SOON)
    assert len(storage.state("app")[1]) == 1


def test_a_real_registry_forgets_a_removed_repository(registry: LocalRegistry) -> None:
    """An emptied repository stays in the catalog until its folder is removed."""
    image = make_image([make_layer(1, 1000)])
    push(registry.url, "team/app", "v1", image)
    push(registry.url, "team/app/nested", "v1", image)
    base = f"{registry.url}/v2/team/app"
    assert requests.post(f"{base}/blobs/uploads/", timeout=5).status_code == 202
    storage = Storage(registry.base_path)
    [upload] = storage.uploads()
    assert upload.repository == "team/app"
    assert abs(upload.started - time.time()) < 60
    assert requests.delete(f"{base}/manifests/{image.digest}", timeout=5).status_code == 202
    assert storage.state("team/app") == ({}, frozenset())
    assert storage.close_repository("team/app", before=SOON)
    assert storage.remove_repository("team/app", before=SOON)
    catalog = requests.get(f"{registry.url}/v2/_catalog", timeout=5).json()
    assert catalog == {"repositories": ["team/app/nested"]}


@pytest.mark.parametrize("pushed", [False, True])
def test_removing_a_repository_is_killed(folder: Folder, pushed: bool) -> None:
    """Killed when its folder of manifests was taken out of its place, the next run removes that; with what somebody was
    writing into it, it is back, and so are the layers."""
    digest, mine, before = folder.image("other", "v1"), folder.root / "repositories/app", int(time.time()) - 60
    link = folder.write(f"repositories/app/_layers/sha256/{digest[7:]}/link", digest.encode())
    assert Storage(folder.base_path).close_repository("app", before=before)
    with suppress(KeyboardInterrupt):
        Storage(folder.base_path, Killed(1, lambda: None)).remove_repository("app", before=before)
    assert os.listdir(mine) == [CLOSED]
    if pushed:
        folder.write(f"repositories/app/{CLOSED}/tags/v1/current/link", digest.encode())
    storage = Storage(folder.base_path)
    assert storage.settle() == []
    assert storage.state("app")[0] == ({"v1": digest} if pushed else {})
    assert sorted(os.listdir(mine)) == (["_layers", "_manifests"] if pushed else [])
    assert link.exists() == pushed


@pytest.mark.parametrize("again", [False, True], ids=["the next run", "the same again"])
def test_pushed_after_a_run_was_killed_over_its_tag(folder: Folder, again: bool) -> None:
    """A tag that a killed run had taken away and not looked at, and that was pushed since, is on what was pushed."""
    digest, other = folder.image("app", "v1"), folder.image("app", config={"os": "other"})
    manifests, storage = folder.manifests("app"), Storage(folder.base_path)
    (manifests / "tags/v1").rename(manifests / ".regdata-removed-v1")
    folder.tag("app", "v1", other)
    if again:
        assert not storage.untag("app", "v1", digest)
    assert storage.settle() == []
    assert storage.state("app")[0] == {"v1": other}
    assert sorted(os.listdir(manifests)) == ["revisions", "tags"]


def test_a_layer_came_since(folder: Folder) -> None:
    """A repository stays open, with all that it has, where a layer was linked at that time or later: its manifest may
    be on its way."""
    dates = {"1": PUSHED - 9, "2": PUSHED}
    links = [
        folder.write(f"repositories/app/_layers/sha256/{digit * 64}/link", b"", date) for digit, date in dates.items()
    ]
    assert not Storage(folder.base_path).close_repository("app", before=PUSHED)
    assert all(link.exists() for link in links)
    assert Storage(folder.base_path).close_repository("app", before=PUSHED + 1)


def test_the_last_repository(folder: Folder) -> None:
    """When it goes, the folder of all repositories stays, as does whatever is above that."""
    (folder.root / "repositories/team/app/_layers").mkdir(parents=True)
    storage = Storage(folder.base_path)
    assert storage.close_repository("team/app", before=SOON)
    assert storage.remove_repository("team/app", before=SOON)
    assert os.listdir(folder.root / "repositories") == []


def test_untag_what_another_is_removing(folder: Folder) -> None:
    """A tag whose link somebody else has removed, but not yet its folder, goes: no error, and nothing of it is left."""
    digest = folder.image("app", "v1", "v2")
    (folder.manifests("app") / "tags/v1/current/link").unlink()
    storage = Storage(folder.base_path)
    assert storage.untag("app", "v1", digest)
    assert storage.settle() == []
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]
    assert os.listdir(folder.manifests("app") / "tags") == ["v2"]


@pytest.mark.parametrize("tag", ["v1/../../revisions", "v1/", "v1\n", "\u00fc", "v" * 129])
def test_untag_takes_no_more_than_a_name(folder: Folder, tag: str) -> None:
    """What only begins as a tag's name does, or that no registry would take as one, is refused."""
    digest = folder.image("app", "v1")
    with pytest.raises(StorageError, match="is not a tag's name: nothing was removed"):
        Storage(folder.base_path).untag("app", tag, digest)
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]


def test_what_was_taken_is_a_link(folder: Folder, tmp_path: Path) -> None:
    """A symbolic link under the name of what was taken away is told, and nothing behind it is removed."""
    outside = Folder(tmp_path / "outside")
    digest = outside.image("app", "v1")
    folder.image("app", "v1")
    (folder.manifests("app") / ".regdata-removed-v1").symlink_to(outside.manifests("app") / "tags/v1")
    with pytest.raises(StorageError, match="symbolic link"):
        Storage(folder.base_path).settle()
    assert Storage(outside.base_path).state("app")[0] == {"v1": digest}


class Torn(LocalFiles):
    """Ends as if the process was killed when it began to remove a folder."""

    def remove(self, folder: str) -> None:
        raise KeyboardInterrupt


def test_killed_as_it_removes_what_was_pushed_to_twice(folder: Folder) -> None:
    """What a tag was on before it was pushed to is not brought back by the next run, once somebody has deleted the tag
    in between."""
    folder.image("app", "v1")
    tags, storage = folder.manifests("app") / "tags", Storage(folder.base_path, Torn())
    (tags / "v1").rename(folder.manifests("app") / ".regdata-removed-v1")
    folder.tag("app", "v1", folder.image("app", config={"os": "other"}))
    with pytest.raises(KeyboardInterrupt):
        storage.settle()
    shutil.rmtree(tags / "v1")
    assert Storage(folder.base_path).settle() == []
    assert Storage(folder.base_path).state("app") == ({}, storage.state("app")[1])
    assert sorted(os.listdir(folder.manifests("app"))) == ["revisions", "tags"]


def test_a_tag_that_nobody_had_looked_at(folder: Folder) -> None:
    """A tag that a killed run had just taken is back, and is none that somebody was pushing to."""
    digest = folder.image("app", "v1", "v2")
    (folder.manifests("app") / "tags/v1").rename(folder.manifests("app") / ".regdata-removed-v1")
    storage = Storage(folder.base_path)
    assert storage.settle() == []
    assert storage.state("app")[0] == {"v1": digest, "v2": digest}


def test_a_repository_with_a_tag_alone(folder: Folder) -> None:
    """A tag whose manifest is not there keeps its repository open, with all its layers."""
    link = folder.write(f"repositories/app/_layers/sha256/{'1' * 64}/link", b"")
    folder.tag("app", "v1", f"sha256:{'2' * 64}")
    assert not Storage(folder.base_path).close_repository("app", before=SOON)
    assert link.exists()


@pytest.mark.parametrize("own", ["_uploads", "_layers", "_manifests"])
def test_an_empty_repository_behind_a_link(folder: Folder, tmp_path: Path, own: str) -> None:
    """A repository that lies elsewhere is not removed there, though it is empty, and nothing in it is."""
    outside = Folder(tmp_path / "outside")
    (outside.root / f"repositories/app/{own}/sha256").mkdir(parents=True)
    (folder.root / "repositories").mkdir()
    (folder.root / "repositories/moved").symlink_to(outside.root / "repositories/app")
    storage = Storage(folder.base_path)

    def remove() -> None:
        storage.close_repository("moved", before=SOON)
        storage.remove_repository("moved", before=SOON)

    with pytest.raises(StorageError, match="symbolic link"):
        remove()
    assert os.listdir(outside.root / "repositories/app") == [own]
    assert os.listdir(outside.root / f"repositories/app/{own}") == ["sha256"]
