"""What a doctor finds in a real store that was damaged, what it cures, and that it finds nothing in a healthy one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import regdata
from regdata.analysis.space import every_byte
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import OCI_LAYER, OCI_MANIFEST, make_image, make_index, make_layer, push
from regdata.errors import CleanupError, ConfigError, StorageError
from regdata.health.ailments import AILMENTS
from regdata.sources.aside import NAME
from regdata.sources.census import census
from regdata.sources.paths import REMOVED, blob_path, layer_path
from regdata.sources.storage import Storage
from tests.collecting.test_sweep import pulls
from tests.support.damage import Damaged, damage, some_image
from tests.support.healthy import unwell
from tests.support.helpers import ROOT, age, listing, store_bytes
from tests.support.odd import push_blob
from tests.support.proxy import Fault
from tests.support.scene import NewScene

Conf = Callable[..., Path]
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "8"))


@pytest.fixture
def registry(tools: None, tmp_path: Path) -> Iterator[LocalRegistry]:
    """An empty one, with its cache."""
    with LocalRegistry(tmp_path / "registry", cache=True) as started:
        yield started


def pairs(found: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(found["what"], found["place"], strict=True))


def test_finds_all_damage(registry: LocalRegistry, conf: Conf) -> None:
    """Every kind of damage is found at its place, with what it means and a cure; nothing else is, and all stays."""
    store = damage(registry)
    before = listing(registry.base_path)
    found = regdata.doctor(load_config(conf(registry)))
    assert pairs(found) == store.found
    assert len(found) == len(store.found)
    tags = found.set_index("what")["tags"]
    assert tags["index without child"] == "childless:1"
    assert tags["child not linked"] == "unlinked-child:1"  # which is on its index
    assert listing(registry.base_path) == before
    assert {what for what, _ in store.found} == AILMENTS.keys()
    assert found[["what", "place", "means", "cure", "safe", "outcome"]].notna().all(axis=None)


def test_layers_fetched_from_elsewhere(tools: None, tmp_path: Path, conf: Conf) -> None:
    """A layer that a manifest gives addresses for need not be there: a repair does not link another repository's into
    the one that names it. Where a size is stated wrongly the bytes are no damage: clients may mind it."""
    addresses = {"validation": {"manifests": {"urls": {"allow": ["^https?://"]}}}}
    with LocalRegistry(tmp_path / "registry", cache=True, settings=addresses) as registry:
        secret, nobody = make_layer("secret", 500), make_layer("nobody", 500)
        push(registry.url, "private", "1", make_image([secret], oci=True))
        image = make_image([make_layer("kept", 300)], oci=True)
        push(registry.url, "public", "1", image)
        document = json.loads(image.manifest)
        for layer in (secret, nobody):
            descriptor = {**layer.descriptor(OCI_LAYER), "urls": ["https://example.org/layer"]}
            put(registry, "fetched", document | {"layers": [*document["layers"], descriptor]})
        put(registry, "resized", document | {"layers": [one | {"size": 7} for one in document["layers"]]})
        age(registry.base_path, 9000)
        for repair in (False, True):
            found = regdata.doctor(load_config(conf(registry)), repair=repair, digests=repair)
            assert found[["what", "tags"]].to_numpy().tolist() == [["wrong size", "public:resized"]]
        answer = requests.get(f"{registry.url}/v2/public/blobs/{secret.digest}", timeout=9)
        assert answer.status_code == 404


def put(registry: LocalRegistry, tag: str, document: dict[str, Any]) -> None:
    """Pushes a manifest to the repository public."""
    url, headers = f"{registry.url}/v2/public/manifests/{tag}", {"Content-Type": OCI_MANIFEST}
    requests.put(url, data=json.dumps(document), headers=headers, timeout=9).raise_for_status()


def test_cures_what_is_safe(registry: LocalRegistry, conf: Conf) -> None:
    """`repair` cures what it calls safe, and nothing that was whole is touched: what it linked again pulls, what the
    cache claimed can be pushed again; the rest is found by the next look, too."""
    store = damage(registry)
    config = load_config(conf(registry))
    images = {"unlinked-layer": some_image("unlinked-layer"), "empty-links": some_image("empty-links")}
    cured = regdata.doctor(config, repair=True)
    assert pairs(cured) == store.found
    assert (cured["safe"] == (cured["outcome"] == "cured")).all(), cured[cured["safe"] != (cured["outcome"] == "cured")]
    assert pairs(regdata.doctor(config)) == pairs(cured[~cured["safe"]])
    registry.restart()  # nothing comes from its cache
    assert all(pulls(registry.url, name, "1", image) for name, image in images.items())
    assert pulls(registry.url, "unlinked-child", some_image("child c").digest, some_image("child c"))
    image = some_image("no-config")
    push(registry.url, "no-config", "again", image)
    assert pulls(registry.url, "no-config", "again", image)
    (record,) = (Path(config.reports)).glob("*-doctor/record.json")
    assert '"status": "ok"' in record.read_text()
    assert listing(registry.base_path).keys() >= {"backup/old.tar", "docker/registry/v2/repositories/notes.txt"}


def test_reads_every_byte(registry: LocalRegistry, conf: Conf) -> None:
    """With `digests` bytes that changed, and links that name something else, are found, though their number is right;
    it is told how much is read."""
    image, other = some_image("a"), some_image("b")
    for name, one in (("a", image), ("b", other)):
        push(registry.url, name, "1", one)
    store = Damaged(registry)
    layer, link = store.data(image.blobs[0].digest), store.layer("b", other.blobs[0].digest)
    layer.write_bytes(layer.read_bytes()[::-1])
    link.write_text(image.blobs[0].digest)
    age(registry.base_path, 9 * 86400)
    config = load_config(conf(registry))
    assert regdata.doctor(config).empty
    seen: list[tuple[int, int]] = []
    found = regdata.doctor(config, digests=True, progress=lambda done, total: seen.append((done, total)))
    assert pairs(found) == {
        ("damaged bytes", f"a@{image.blobs[0].digest}"),
        ("link not whole", str(link.relative_to(registry.base_path))),
    }
    assert seen[-1] == (store_bytes(registry.base_path),) * 2
    assert regdata.doctor(config, digests=True, repair=True)["outcome"].tolist() == ["left", "cured"]
    assert pulls(registry.url, "b", "1", other)


def test_by_the_api_alone(registry: LocalRegistry, conf: Conf) -> None:
    """Without base_path tags and manifests are looked at, and a repair is refused."""
    store = Damaged(registry)
    store.push("whole")
    image = store.push("broken")
    store.data(image.digest).write_bytes(b"{}")
    config = load_config(conf(registry, registry={"url": registry.url}))
    found = regdata.doctor(config)
    assert pairs(found) == {("tag without digest", "broken:1")}
    with pytest.raises(CleanupError, match=r"repair takes a registry\.base_path"):
        regdata.doctor(config, repair=True)


def test_a_parameter_that_is_a_text(registry: LocalRegistry, conf: Conf) -> None:
    """papermill's `-p repair false` is an error, as for the other notebooks."""
    with pytest.raises(ConfigError, match="repair is 'false'"):
        regdata.doctor(load_config(conf(registry)), repair="false")  # type: ignore[arg-type]


def test_finds_nothing_in_healthy_stores(tools: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In whatever was pushed to a registry, in any order, with deletions between, nothing is broken."""

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        assert unwell(seed, tmp_path_factory.mktemp("healthy")) == set()

    check()


def test_what_is_young_or_undated(registry: LocalRegistry, conf: Conf) -> None:
    """What may be a push in flight is no ailment: a new upload, one without a date, layers without a manifest, files
    that were written just now. Nor are empty folders that a registry can't be asked about."""
    store = Damaged(registry)
    store.push("app")
    for name in (f"sha256.bak/{'a' * 64}", f"sha256/{'a' * 40}"):
        (store.root / "repositories/app/_layers" / name).mkdir(parents=True)
    for name in ("app", "new/one", "undated"):
        requests.post(f"{registry.url}/v2/{name}/blobs/uploads/", timeout=9).raise_for_status()
    push_blob(registry.url, "new/two", b"a layer that comes before its manifest")
    (store.root / "repositories/app/link.tmp").write_bytes(b"")
    for path in (store.root / "repositories/undated").rglob("*"):
        os.utime(path, (0, 0))
    found = regdata.doctor(load_config(conf(registry)))
    assert pairs(found) == {("impossible date", "undated")}
    assert regdata.doctor(load_config(conf(registry)), repair=True)["outcome"].tolist() == ["left"]
    assert (store.root / "repositories/undated/_uploads").exists()


def test_what_was_set_aside_comes_back(registry: LocalRegistry, conf: Conf) -> None:
    """What is missing and was set aside, collected (trash_days) or not decided upon by a run that was killed, is back
    after `repair`, and pulls; a tag, too."""
    store = Damaged(registry)
    images = {"kept": store.push("kept"), "open": store.push("open")}
    tag = store.push("a/tag")
    for state, image in images.items():
        path = store.data(image.blobs[0].digest)
        aside = registry.base_path / NAME / f"run/0001-{state}" / path.relative_to(store.root)
        aside.parent.mkdir(parents=True)
        path.rename(aside)
    manifests = store.root / "repositories/a/tag/_manifests"
    (manifests / "tags/1").rename(manifests / f"{REMOVED}1")
    age(registry.base_path, 86400)
    registry.restart()
    config = load_config(conf(registry))
    assert pairs(regdata.doctor(config)) == {("tag half removed", "a/tag:1")} | {
        ("manifest without parts", f"{name}@{image.digest}") for name, image in images.items()
    }
    cured = regdata.doctor(config, repair=True)
    assert cured[["place", "outcome"]].to_numpy().tolist() == [
        [f"kept@{images['kept'].digest}", "cured"],
        ["a/tag:1", "cured"],
    ]
    assert all(pulls(registry.url, name, "1", image) for name, image in {**images, "a/tag": tag}.items())
    assert not (registry.base_path / NAME).exists()


def test_an_empty_repository_that_comes_again(registry: LocalRegistry, conf: Conf) -> None:
    """When an empty repository was removed nothing is claimed of it: what is pushed into it again has all its links."""
    image = some_image("went")
    for name in ("stays", "went"):
        push(registry.url, name, "1", image)
    requests.delete(f"{registry.url}/v2/went/manifests/{image.digest}", timeout=9).raise_for_status()
    for blob in image.blobs:
        requests.head(f"{registry.url}/v2/went/blobs/{blob.digest}", timeout=9).raise_for_status()
    age(registry.base_path, 3 * 86400)
    cured = regdata.doctor(load_config(conf(registry)), repair=True)
    assert ("empty repository", "went") in pairs(cured[cured["outcome"] == "cured"])
    push(registry.url, "went", "again", image)
    registry.restart()
    assert pulls(registry.url, "went", "again", image)


def test_an_empty_repository_that_others_link_into(registry: LocalRegistry, conf: Conf) -> None:
    """An empty repository into which another one's symbolic links lead stays: it would lose its layers."""
    image, top = some_image("went"), registry.base_path / "docker/registry/v2/repositories"
    for name in ("stays", "went"):
        push(registry.url, name, "1", image)
    shutil.rmtree(top / "went/_manifests")
    for link in (top / "stays/_layers/sha256").glob("*/link"):
        link.unlink()
        link.symlink_to(top / "went/_layers/sha256" / link.parent.name / "link")
    age(registry.base_path, 3 * 86400)
    found = regdata.doctor(load_config(conf(registry)), repair=True)
    left = found[found["what"] == "empty repository"]
    assert left["place"].tolist() == ["went"]
    assert "cured" not in left["outcome"].tolist()
    assert pulls(registry.url, "stays", "1", image)


def test_bytes_behind_a_link(registry: LocalRegistry, conf: Conf) -> None:
    """Of a blob whose bytes lie elsewhere in base_path, and are whole, only that file is told, as nobody's."""
    store = Damaged(registry)
    data = store.data(store.push("app").blobs[-1].digest)
    data.rename(registry.base_path / "pool")
    data.symlink_to(registry.base_path / "pool")
    age(registry.base_path, 86400)
    for digests in (False, True):
        assert pairs(regdata.doctor(load_config(conf(registry)), digests=digests)) == {("foreign file", "pool")}


@pytest.mark.parametrize("number", [0, -1])
def test_a_pipe_where_bytes_should_be(registry: LocalRegistry, conf: Conf, number: int) -> None:
    """Nobody writes into it: it is not waited for, and is told as bytes that are not there. A clean-up goes on."""
    store = Damaged(registry)
    image, old = store.push("app"), store.push("old")
    digest = [image.digest, *(blob.digest for blob in image.blobs)][number]
    store.data(digest).unlink()
    os.mkfifo(store.data(digest))
    age(registry.base_path, 86400)
    config = load_config(conf(registry, **{"gc-command": None}))
    signal.alarm(120)  # which ends the tests: a pipe would be waited for without end
    try:
        assert ("damaged bytes", f"app@{digest}") in pairs(regdata.doctor(config, digests=True))
        result = regdata.apply(regdata.plan(regdata.scan(config), "image_name = 'old'"), config)
    finally:
        signal.alarm(0)
    assert result.bytes_freed == result.bytes_predicted > 0
    assert requests.get(f"{registry.url}/v2/old/manifests/{old.digest}", timeout=9).status_code == 404


def test_owner(registry: LocalRegistry, conf: Conf) -> None:
    """What is linked again belongs to whom its repository belongs: a registry that is not root can write it anew."""
    store = Damaged(registry)
    image = store.push("app")
    link = store.layer("app", image.blobs[0].digest)
    shutil.rmtree(link.parent)
    for path in (registry.base_path / "docker").rglob("*"):
        shutil.chown(path, 1234, 1234)
    age(registry.base_path, 86400)
    assert regdata.doctor(load_config(conf(registry)), repair=True)["outcome"].tolist() == ["cured"]
    for path in (link, link.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)


def test_a_cure_that_fails(registry: LocalRegistry, conf: Conf) -> None:
    """What can't be cured, since the registry forbids it, is left, with the reason; the rest is cured."""
    store = Damaged(registry)
    store.push("app")
    link, digest = store.layer("app", f"sha256:{'e' * 64}"), f"sha256:{'e' * 64}"
    link.parent.mkdir()
    link.write_text(digest)
    history = next((store.root / "repositories/app/_manifests/tags/1/index").rglob("link"))
    history.write_text("")
    age(registry.base_path, 86400)
    registry.stop()
    with LocalRegistry(registry.folder, delete=False) as forbidding:
        cured = regdata.doctor(load_config(conf(forbidding)), repair=True)
    outcomes = dict(zip(cured["what"], cured["outcome"], strict=True))
    assert outcomes["link not whole"] == "cured"
    assert outcomes["link without data"].startswith("left: ")
    assert "delet" in outcomes["link without data"]
    assert link.exists()


def test_links_to_what_others_miss(registry: LocalRegistry, conf: Conf) -> None:
    """A link without data goes where no manifest needs it, though one of another repository does: there it stays."""
    image = make_image([make_layer("missed", 300)], created=1, oci=True)
    push(registry.url, "a", "1", image)
    push(registry.url, "b", "1", make_image([make_layer("whole", 300)], created=1, oci=True))
    root, digest = registry.base_path / "docker/registry/v2", image.blobs[-1].digest
    links = [root / layer_path(name, digest) for name in "ab"]
    links[1].parent.mkdir()
    links[1].write_text(digest)
    (root / blob_path(digest)).unlink()
    age(registry.base_path, 86400)
    registry.restart()
    found = regdata.doctor(load_config(conf(registry)), repair=True)
    assert found.set_index("what")["outcome"].to_dict() == {
        "link without data": "cured",
        "manifest without parts": "left",
    }
    assert [link.exists() for link in links] == [True, False]


def test_a_login_for_some_repositories(new_scene: NewScene) -> None:
    """The registry is asked of what registry.repositories means alone, and what is left elsewhere says why."""
    scene = new_scene()
    scene.collects_itself()
    url = scene.proxy.url
    for image in ("base/lib", "prod/old"):
        digest = f"sha256:{'e' * 64}"
        link = scene.base_path / "docker/registry/v2/repositories" / image / "_layers/sha256" / digest[7:] / "link"
        link.parent.mkdir(parents=True)
        link.write_text(digest)
    age(scene.base_path, 86400)
    scene.proxy.on("GET HEAD PUT POST PATCH DELETE", "^/v2/(base/lib|prod/app)/", Fault(403))
    scene.set(registry={"url": url, "base_path": str(scene.base_path), "repositories": ["prod/ol*"]})
    found = regdata.doctor(load_config(scene.conf), repair=True)
    found = found[found["what"] == "link without data"].sort_values("place")
    assert found["outcome"].tolist() == ["left: it is outside registry.repositories", "cured"]


@pytest.mark.parametrize("what", sorted(AILMENTS))
def test_every_ailment(what: str) -> None:
    """What can be found is in docs/doctor.md, with the same meaning and cure."""
    means, cure, safe = AILMENTS[what]
    row = f"| {what} | {means} | {cure} | {'yes' if safe else ''} |"
    assert row in (ROOT / "docs/doctor.md").read_text()


@pytest.mark.parametrize("path", ["", "/blobs", "/blobs/sha256", "/repositories"])
def test_a_folder_behind_a_link(registry: LocalRegistry, conf: Conf, path: str) -> None:
    """The registry's own folder may be a symbolic link to another one of base_path: each file is listed once, as what
    it is, and none is told to be nobody's."""
    Damaged(registry).push("app")
    age(registry.base_path, 86400)
    config = load_config(conf(registry))
    before = every_byte(regdata.scan(config), census(registry.base_path))
    place = Path(f"{registry.base_path}/docker/registry/v2{path}")
    moved = registry.base_path / "disk" / place.name
    moved.parent.mkdir()
    place.rename(moved)
    place.symlink_to(moved)
    assert pairs(regdata.doctor(config)) == set()
    pd.testing.assert_frame_equal(every_byte(regdata.scan(config), census(registry.base_path)), before)


def test_links_that_are_symbolic_links(registry: LocalRegistry, conf: Conf) -> None:
    """Links of a healthy store that became symbolic links to one another are whole; where one is broken a repair writes
    that one, and not what others lead to."""
    store = Damaged(registry)
    image = store.push("one")
    store.push("two", image)
    top = registry.base_path / "docker/registry/v2/repositories"
    for link in (top / "two/_layers/sha256").glob("*/link"):
        link.unlink()
        link.symlink_to(top / "one/_layers/sha256" / link.parent.name / "link")
    age(registry.base_path, 86400)
    config = load_config(conf(registry))
    assert pairs(regdata.doctor(config)) == set()
    broken = next((top / "two/_layers/sha256").glob("*/link"))
    wrong = registry.base_path / "wrong"
    wrong.write_text("nothing")
    broken.unlink()
    broken.symlink_to(wrong)
    age(registry.base_path, 86400)
    os.utime(broken, (wrong.stat().st_mtime,) * 2, follow_symlinks=False)
    found = regdata.doctor(config, repair=True)
    assert set(found["what"]) == {"link not whole", "foreign file"}
    assert wrong.read_text() == "nothing"
    assert not broken.is_symlink()
    assert pulls(registry.url, "two", "1", image)


def test_what_a_cache_keeps_beside(registry: LocalRegistry, conf: Conf) -> None:
    """The file in which a pull-through cache keeps when its blobs expire is its own."""
    Damaged(registry).push("app")
    (registry.base_path / "scheduler-state.json").write_text("{}")
    age(registry.base_path, 86400)
    assert pairs(regdata.doctor(load_config(conf(registry)))) == set()


def test_a_file_among_uploads(registry: LocalRegistry, conf: Conf) -> None:
    """A stray file beside abandoned uploads is told, and left; they go all the same."""
    store = Damaged(registry)
    store.push("app")
    uploads = registry.base_path / "docker/registry/v2/repositories/app/_uploads"
    for name in ("aaaa", "zzzz"):
        (uploads / name).mkdir(parents=True)
        (uploads / name / "data").write_bytes(b"half")
    (uploads / ".nfs0001").write_bytes(b"")
    age(registry.base_path, 9 * 86400)
    regdata.doctor(load_config(conf(registry)), repair=True)
    assert [path.name for path in uploads.iterdir()] == [".nfs0001"]


@pytest.mark.parametrize("what", ["repair", "restore"])
def test_another_registrys_folder_behind_a_link(registry: LocalRegistry, conf: Conf, tmp_path: Path, what: str) -> None:
    """Where the folder for layers is a symbolic link, nothing is written through it, and it is said why."""
    image = Damaged(registry).push("app")
    whole = Damaged(registry).push("zoo")
    also = registry.base_path / "docker/registry/v2/repositories/zoo/_layers/sha256" / whole.blobs[-1].digest[7:]
    layers = registry.base_path / "docker/registry/v2/repositories/app/_layers"
    other = tmp_path / "other"
    layers.rename(other)
    layers.symlink_to(other)
    (link,) = other.glob(f"sha256/{image.blobs[-1].digest[7:]}/link")
    link.unlink()
    link.parent.rmdir()
    age(registry.base_path, 86400)
    age(other, 86400)
    config = load_config(conf(registry))
    if what == "repair":
        shutil.rmtree(also)
        age(also.parent, 86400)
        found = regdata.doctor(config, repair=True)
        outcomes = found.loc[found["what"] == "part not linked"].set_index("place")["outcome"]
        assert outcomes[f"zoo@{whole.blobs[-1].digest}"] == "cured"
        assert "behind, a symbolic link" in outcomes[f"app@{image.blobs[-1].digest}"]
    else:
        with pytest.raises(StorageError, match="lies behind, a symbolic link"):
            Storage(registry.base_path).link("app", image.blobs[-1].digest)
    assert not link.exists()


def test_links_beside_what_can_not_be_read(registry: LocalRegistry, conf: Conf) -> None:
    """A link whose data is missing is nothing to be cured where a manifest that cannot be read may need it."""
    store = Damaged(registry)
    first = store.push("app")
    store.push("app", some_image("another"))
    store.data(first.digest).unlink()
    store.data(first.blobs[-1].digest).unlink()
    age(registry.base_path, 86400)
    registry.restart()
    found = regdata.doctor(load_config(conf(registry)), repair=True)
    assert "link without data" not in set(found["what"])
    assert store.layer("app", first.blobs[-1].digest).exists()


def test_several_that_are_left_of_a_kind(registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """Why links of one kind are left is no reason to call another kind left."""
    store = Damaged(registry)
    image = store.push("app")
    layers = registry.base_path / "docker/registry/v2/repositories/app/_layers"
    layers.rename(tmp_path / "other")
    layers.symlink_to(tmp_path / "other")
    for blob in image.blobs:
        shutil.rmtree(layers / "sha256" / blob.digest[7:])
    child = some_image("of an index")
    store.push("zoo", make_index([child]))
    shutil.rmtree(store.revision("zoo", child.digest).parent)
    for folder in (registry.base_path, tmp_path / "other"):
        age(folder, 9 * 86400)
    config = load_config(conf(registry))
    found = regdata.doctor(config, repair=True)
    assert set(found.loc[found["what"] == "child not linked", "outcome"]) == {"cured"}
    (record,) = config.reports.glob("*-doctor/record.json")
    (error,) = json.loads(record.read_text())["errors"]
    assert error.startswith("part not linked")
    left = found.loc[found["what"] == "part not linked", "outcome"]
    assert len(left) > 1
    assert left.str.contains("behind, a symbolic link").all()
