"""The digest cache: what it keeps, what it survives, and what a second scan asks for."""

from __future__ import annotations

import json
import pickle
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, make_image, make_index, make_layer
from regdata.sources.api import Api
from regdata.sources.cache import OFF, Cache
from regdata.sources.columns import Columns, merge
from regdata.sources.registry import Registry
from regdata.sources.transport import Reach
from tests.support.fakes import FakeRegistry, error_reply, serve, sha256
from tests.support.server import Reply

BASE = make_layer("base", 50)
AMD = make_image([BASE, make_layer(1, 10)], created=1_700_000_000, oci=True)
ARM = make_image([BASE, make_layer(2, 10)], created=1_700_000_000, platform="linux/arm64", oci=True)
INDEX = make_index([AMD, ARM], attest=True)
CONTENTS = {sha256(text): text for text in (b"%d" % number for number in range(1200))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "regdata"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serve(FakeRegistry()) as server:
        yield server


def filled(folder: Path, contents: dict[str, bytes] = CONTENTS, **options: Any) -> Cache:
    cache = Cache(folder, **options)
    for digest, data in contents.items():
        cache.keep(digest, data)
    cache.flush()
    return cache


def held(folder: Path) -> dict[str, bytes]:
    return dict(Cache(folder).read(CONTENTS))


def file_of(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_is_kept_is_read_by_another_run(folder: Path) -> None:
    """Contents and references met are there for every later cache on the folder, which is the user's alone."""
    cache = filled(folder)
    cache.met("app:1")
    assert cache.knows(["app:1"]) == set()
    cache.flush()
    assert held(folder) == CONTENTS
    assert Cache(folder).knows(["app:1", "app:2"]) == {"app:1"}
    assert dict(Cache(folder).read([sha256(b"never kept")])) == {}
    assert folder.stat().st_mode & 0o077 == 0


def test_only_what_is_verified_is_kept(folder: Path) -> None:
    """Bytes that are not their digest's, or of a digest that can't be checked, are not kept."""
    filled(folder, {sha256(b"a"): b"b", f"blake3:{'0' * 64}": b"c", sha256(b"d"): b"d"})
    with sqlite3.connect(file_of(folder)) as connection:
        assert connection.execute("SELECT data FROM content").fetchall() == [(b"d",)]
    connection.close()


@pytest.mark.parametrize("damage", [b"x", "text", 5])
def test_a_damaged_entry_is_none(folder: Path, damage: object) -> None:
    """Bytes in the cache that don't hash to their digest are not given out, and can be kept again."""
    filled(folder)
    with sqlite3.connect(file_of(folder)) as connection:
        connection.execute("UPDATE content SET data = ? WHERE number <= 1000", (damage,))
    connection.close()
    assert len(held(folder)) == 200
    filled(folder)
    assert held(folder) == CONTENTS


@pytest.mark.parametrize("where", [0, 4096, 40_000])
def test_a_damaged_file_is_made_anew(folder: Path, where: int) -> None:
    """A file that is damaged, or no database at all, costs what was in it and nothing else."""
    filled(folder)
    with file_of(folder).open("r+b") as file:
        file.seek(where)
        file.write(b"\xff" * 20_000)
    assert held(folder).items() <= CONTENTS.items()
    for _ in range(2):  # the damage may be met by the writing only
        filled(folder)
    assert held(folder) == CONTENTS


def test_where_it_cannot_be_written_it_is_not_used(tmp_path: Path) -> None:
    """A folder that can't be made is no error: nothing is kept."""
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        filled(folder)
        assert held(folder) == {}


def test_a_lock_is_not_waited_for_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another program holds the file, this run goes on without a cache."""
    filled(folder)
    monkeypatch.setattr(f"{Cache.__module__}.LOCK_TIMEOUT", 0.01)
    connection = sqlite3.connect(file_of(folder))
    connection.execute("BEGIN EXCLUSIVE")
    cache = Cache(folder)
    assert dict(cache.read(CONTENTS)) == {}
    connection.close()
    assert not cache.usable
    assert held(folder) == CONTENTS


def test_it_stays_in_its_bounds(folder: Path) -> None:
    """Beyond the limit the older half goes."""
    for start in range(0, 3000, 100):
        contents = {sha256(data): data for data in (b"%4000d" % number for number in range(start, start + 100))}
        filled(folder, contents, limit=2_000_000)
    assert dict(Cache(folder).read(contents)) == contents
    assert file_of(folder).stat().st_size < 3_000_000


def test_many_at_once(folder: Path) -> None:
    """Caches on the same folder may be filled at the same time, and one cache from many threads."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: filled(folder), range(8)))
        shared = Cache(folder)
        list(pool.map(shared.keep, *zip(*((sha256(b"%dx" % n), b"%dx" % n) for n in range(2000)), strict=True)))
    shared.flush()
    assert held(folder) == CONTENTS
    assert len(dict(shared.read(sha256(b"%dx" % n) for n in range(2000)))) == 2000


def test_a_copy_in_another_process(folder: Path) -> None:
    """It can be pickled, and its copy reads the same file; no cache stays none."""
    cache = pickle.loads(pickle.dumps(filled(folder, limit=5)))
    assert (dict(cache.read(CONTENTS)), cache.limit) == (held(folder), 5)
    assert not pickle.loads(pickle.dumps(OFF)).usable


# Over the API


def scan(url: str, folder: Path | None, workers: int = 8) -> Columns:
    api = Api(Registry(url, reach=Reach(at_once=workers), timeout=(5, 5)), Cache(folder))
    return merge([api.read(part) for part in api.split(1)])


def manifests_asked(fake: FakeRegistry) -> Counter[str]:
    """The methods of the requests for anything but lists; forgets them."""
    methods = Counter(
        request.split()[0] for request in fake.seen if not re.search(r"/tags/list|\?n=|/referrers/", request)
    )
    fake.seen.clear()
    return methods


def test_second_scan(fake: FakeRegistry, folder: Path) -> None:
    """The first scan keeps to its budget; the second costs one HEAD per tag, and nothing but the lists besides."""
    for repository in ("a", "b"):
        fake.push(repository, "1", INDEX)
        fake.push(repository, "latest", INDEX)
        fake.push(repository, "amd", AMD)
    fake.push("nested", "1", make_index([make_index([AMD, ARM])]))
    tags, children, configs = 7, 4, 2
    plain = scan(fake.url, None)
    assert manifests_asked(fake) == {"GET": tags + children + configs}
    assert scan(fake.url, folder) == plain
    assert manifests_asked(fake) == {"GET": tags + children + configs}
    assert scan(fake.url, folder) == plain
    assert manifests_asked(fake) == {"HEAD": tags}


@pytest.mark.parametrize("pages", [False, True], ids=["2.x", "3.x"])
def test_a_whole_scan(tmp_path: Path, pages: bool) -> None:
    """A scan asks for its lists and contents, each once, and for nothing else but one digest that nothing has (a
    pull-through cache's answer to that is another one), and referrers; 3.x also whether it lists in pages."""
    conf = tmp_path / "conf.json"
    with serve(FakeRegistry(pages=pages)) as fake:
        for repository in ("a", "b", "c"):
            fake.push(repository, "1", INDEX)
            fake.push(repository, "amd", AMD)
        conf.write_text(json.dumps({"registry": {"url": fake.url}, "sql": {}, "cache": "cache"}))
        for request in ("GET", "HEAD"):
            fake.seen.clear()
            found = regdata.scan(regdata.load_config(conf))
            assert (found.can_untag, len(found.images)) == (pages, 6)
            lists = [one for one in fake.seen if re.search("/tags/list|_catalog|/referrers/", one)]
            assert len(lists) == 1 + 3 + 1 + pages
            contents = {"GET": 6 + 3 + 2, "HEAD": 6}[request]  # tags, children without tags, configs; then tags
            assert len(fake.seen) == len(lists) + 1 + contents


def test_what_changed_is_read(fake: FakeRegistry, folder: Path) -> None:
    """A new tag costs a GET; a moved one a HEAD, and a GET where its content is new; a deleted one nothing."""
    for tag in ("gone", "moved", "moved-to-known"):
        fake.push("app", tag, AMD)
    fake.push("app", "arm", ARM)
    scan(fake.url, folder)
    other = make_image([BASE, make_layer(3, 10)], created=1_700_000_001, oci=True)
    del fake.tags["app"]["gone"]
    fake.push("app", "moved", other)
    fake.push("app", "moved-to-known", ARM)
    fake.push("app", "new", AMD)
    fake.seen.clear()
    assert scan(fake.url, folder) == scan(fake.url, None)
    first = Counter(request.split("/")[-1] for request in fake.seen[: len(fake.seen) // 2] if "HEAD" in request)
    assert first == {"arm": 1, "moved": 1, "moved-to-known": 1}
    fake.seen.clear()
    scan(fake.url, folder)
    assert manifests_asked(fake) == {"HEAD": 4}


def test_a_child_that_does_not_say_its_type(fake: FakeRegistry, folder: Path) -> None:
    """A child whose type only its index, or only the registry's answer tells reads the same from the cache."""
    for number, told in enumerate(("descriptor", "answer", "docker")):
        child = untyped(make_image([make_layer(number, 9)], oci=told != "docker"))
        index = json.loads(make_index([child]).manifest)
        if told == "answer":
            del index["manifests"][0]["mediaType"]
        fake.push("app", told, untyped(Image(json.dumps(index).encode(), OCI_INDEX, children=(child,))))
    plain = scan(fake.url, None)
    assert plain["contents"]["error"] == [None] * 6
    assert sorted(plain["contents"]["media_type"]) == [DOCKER_MANIFEST, *[OCI_INDEX] * 3, *[OCI_MANIFEST] * 2]
    assert scan(fake.url, folder) == plain
    assert scan(fake.url, folder) == plain


def untyped(image: Image) -> Image:
    """The same without its mediaType, which OCI leaves out if it likes."""
    document = json.loads(image.manifest)
    del document["mediaType"]
    return replace(image, manifest=json.dumps(document).encode())


def test_a_lost_cache_is_read_again(fake: FakeRegistry, folder: Path) -> None:
    """Contents that are no longer in the cache, though their tags were met before, are asked for."""
    fake.push("app", "1", INDEX)
    plain = scan(fake.url, folder)
    with sqlite3.connect(file_of(folder)) as connection:
        connection.execute("DELETE FROM content WHERE length(data) > 0")
    connection.close()
    assert scan(fake.url, folder) == plain


@pytest.mark.slow
@pytest.mark.parametrize("reply", [error_reply(404), error_reply(405), Reply(200), Reply(how="reset")])
def test_a_head_that_does_not_tell(fake: FakeRegistry, folder: Path, reply: Reply) -> None:
    """Where a HEAD fails or gives no digest, the tag is read as without a cache."""
    fake.push("app", "1", AMD)
    plain = scan(fake.url, folder)
    fake.on("HEAD /v2/app/manifests/1", reply, forever=True)
    assert scan(fake.url, folder) == plain


def test_a_type_that_contradicts_is_told(fake: FakeRegistry, folder: Path) -> None:
    """A tag that is served as another type than its content says is unreadable, cached or not."""
    fake.push("app", "1", AMD)
    scan(fake.url, folder)
    headers = {"Docker-Content-Digest": AMD.digest, "Content-Type": INDEX.media_type}
    fake.on("HEAD /v2/app/manifests/1", Reply(200, b"", headers), forever=True)
    fake.on("GET /v2/app/manifests/1", Reply(200, AMD.manifest, headers), forever=True)
    cached = scan(fake.url, folder)
    assert cached == scan(fake.url, None)
    assert "served as" in cached["contents"]["error"][0]


@pytest.mark.parametrize("workers", [1, 8])
def test_the_same_with_and_without(demo_registry: LocalRegistry, folder: Path, workers: int) -> None:
    """A registry reads the same without a cache as with a new, a filled and a damaged one."""
    plain = scan(demo_registry.url, None, workers)
    for step in ("new", "filled", "damaged"):
        assert scan(demo_registry.url, folder, workers) == plain, step
        if step == "filled":
            file_of(folder).write_bytes(b"\0" * 100_000)
