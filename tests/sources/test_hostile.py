"""Answers without end, too large, compressed or drop by drop: each ends in one line, in time and in little memory."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from regdata.demo.samples import make_image, make_layer
from regdata.errors import RegistryError
from regdata.sources import bounds
from regdata.sources.api import Api
from regdata.sources.registry import Registry
from tests.support.fakes import FakeRegistry, serve
from tests.support.helpers import ROOT
from tests.support.peak import run as peak_run
from tests.support.server import Reply

pytestmark = pytest.mark.slow

IMAGE = make_image([make_layer("hostile", 100)])
MANIFEST = "GET /v2/app/manifests/1"
CATALOG = "GET /v2/_catalog?n=1000"
TAGS = "GET /v2/app/tags/list"


def endless(piece: bytes, first: bytes = b"") -> Callable[[], Iterator[bytes]]:
    """A body of this again and again."""
    return lambda: itertools.chain([first or piece], itertools.repeat(piece))


def drops(first: bytes, piece: bytes = b" ") -> Callable[[], Iterator[bytes]]:
    """A byte now and then, more often than a client gives up on silence."""

    def body() -> Iterator[bytes]:
        yield first
        while True:
            time.sleep(0.05)
            yield piece

    return body


BOMB = {"Content-Encoding": "gzip"}
ODD = {
    "endless": (Reply(stream=endless(b"x" * 65536)), "larger than"),
    "endless JSON": (Reply(stream=endless(b'"a",' * 20000, b'{"repositories": [')), "larger than"),
    "endless error": (Reply(500, stream=endless(b"x" * 65536)), "larger than"),
    "endless chunks": (
        Reply(headers={"Transfer-Encoding": "chunked"}, stream=endless(b"10000\r\n" + b"x" * 65536 + b"\r\n")),
        "larger than",
    ),
    "gzip bomb": (Reply(200, gzip.compress(b" " * (64 << 20)), BOMB), "compressed"),
    "a byte now and then": (Reply(stream=drops(b"{")), r"no answer within 1 s"),
    "a head that never ends": (Reply(stream=drops(b"HTTP/1.1 200 OK\r\nX-A: ", b"a")), r"no answer within 1 s"),
    "redirects without end": (Reply(307, b"", {"Location": "/v2/app/manifests/1"}), "."),
    "an endless redirect": (Reply(307, headers={"Location": "/x"}, stream=endless(b"x" * 65536)), "."),
}


@pytest.fixture
def fake(naps: list[float]) -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    registry.push("app", "1", IMAGE)
    with serve(registry):
        yield registry


@pytest.fixture
def client(fake: FakeRegistry) -> Registry:
    return Registry(fake.url, timeout=(5.0, 1.0))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("request_line", [CATALOG, TAGS, "GET /v2/"])
def test_a_list_or_the_registry_itself(fake: FakeRegistry, client: Registry, request_line: str, odd: str) -> None:
    """Where the catalog, a list of tags or the registry itself answers like that, it is an error of one line."""
    reply, said = ODD[odd]
    fake.on(request_line, reply, forever=True)
    ask = {CATALOG: client.repositories, TAGS: lambda: client.tags("app")}.get(request_line, client.check)
    with pytest.raises(RegistryError) as error:
        ask()
    assert "\n" not in str(error.value)
    if not odd.startswith(("redirects", "an endless redirect")):
        assert error.match(said)


@pytest.mark.parametrize("odd", ODD)
def test_a_manifest(fake: FakeRegistry, client: Registry, odd: str) -> None:
    """Where one manifest is answered like that, it is unreadable, and the others are read."""
    fake.push("other", "1", IMAGE)
    fake.on(MANIFEST, ODD[odd][0], forever=True)
    fake.on("HEAD /v2/app/manifests/1", Reply(404), forever=True)
    columns = Api(client).read(Api(client).split(1)[0])
    errors = dict(zip(columns["tags"]["image_name"], columns["tags"]["error"], strict=True))
    assert errors["app"]
    assert errors["other"] is None


def test_all_manifests_drop_by_drop(fake: FakeRegistry, client: Registry) -> None:
    """Where every manifest comes drop by drop, the scan gives up after some, and says so."""
    for number in range(200):
        fake.push("app", f"t{number}", IMAGE)
        fake.on(f"GET /v2/app/manifests/t{number}", Reply(stream=drops(b"{")), forever=True)
    with pytest.raises(RegistryError, match=r"manifests/t\d+: its answer came late .*, for 2 s together"):
        Api(client).read(Api(client).split(1)[0])
    assert sum("manifests/t" in line for line in fake.seen) < 100


def just_in_time(body: bytes) -> Callable[[], Iterator[bytes]]:
    """The whole answer, some time after its first line."""

    def pieces() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        time.sleep(0.6)
        yield b"X-A: b\r\n"
        time.sleep(0.6)
        yield b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    return pieces


def test_answers_just_in_time(fake: FakeRegistry, client: Registry) -> None:
    """Where each answer comes just before it would be too late there is an end to it, though many come at a time."""
    for number in range(40):
        fake.push("app", f"t{number}", IMAGE)
        fake.on(f"GET /v2/app/manifests/t{number}", Reply(stream=just_in_time(IMAGE.manifest)), forever=True)
    with pytest.raises(RegistryError, match=r"manifests/t\d+: its answer came late or not at all, and so did others"):
        Api(client).read(Api(client).split(1)[0])


def test_slow_answers_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that are slow among many are no reason to give up, nor is one that many wait for at the same time."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(bounds, "time", clock)
    waited = bounds.Waited(30.0)

    def ask(seconds: float, *, at_once: int = 1, failed: bool = False) -> None:
        began = [waited.begin() for _ in range(at_once)]
        clock.now += seconds
        for moment in began:
            waited.took("GET a", moment, failed=failed)

    for _ in range(100):
        ask(20)
        ask(0.1, at_once=100)
    assert waited.left == 60
    ask(30, at_once=8, failed=True)
    assert waited.left == 60 - 30
    early = waited.begin()
    clock.now += 10
    late = waited.begin()
    clock.now += 5
    assert waited.left == 60 - 30 - 15
    waited.took("GET b", early, failed=False)
    clock.now += 6
    assert waited.left == 0
    waited.took("GET c", late, failed=True)
    assert (waited.last, waited.left) == ("GET c", 0)


def test_a_large_manifest(fake: FakeRegistry, client: Registry) -> None:
    """A manifest of more than 4 MiB, which registries refuse, is unreadable."""
    fake.on(MANIFEST, Reply(200, b" " * ((4 << 20) + 1)))
    columns = Api(client).read(Api(client).split(1)[0])
    assert columns["tags"]["error"] == ["larger than such a document may be"]


def test_a_registry_that_ignores_the_range(fake: FakeRegistry, client: Registry) -> None:
    """A blob is there when its first byte comes, also where all of it would come, however large."""
    fake.on("GET /v2/app/blobs/sha256:a", Reply(stream=endless(b"x" * 65536)))
    assert client.blob_readable("app", "sha256:a")


def fresh_pages(key: str, per_page: int) -> Callable[[str, str], Reply]:
    """Ever new names, and always a next page."""
    number = itertools.count()

    def answer(method: str, target: str) -> Reply:
        path = target.partition("?")[0]
        names = [f"n{next(number)}" for _ in range(per_page)]
        return Reply(200, json.dumps({key: names}).encode(), {"Link": f'<{path}?last={names[-1]}>; rel="next"'})

    return answer


@pytest.mark.parametrize("key", ["repositories", "tags"])
def test_pages_without_end(fake: FakeRegistry, client: Registry, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A list whose pages never end is given up, and the cure says how to do without."""
    monkeypatch.setattr("regdata.sources.bounds.NAMES", 20_000)
    answer = fresh_pages(key, 1000)
    monkeypatch.setattr(fake, "answer", answer)
    with pytest.raises(RegistryError, match=rf"the list of {key} does not end; name what matters"):
        client.repositories() if key == "repositories" else client.tags("app")


@pytest.mark.parametrize("name", ["App", "a b", "a\x1b[31m", "a\u202eb", "a/../b", "_a", "a" * 256, "\x9b", ""])
def test_names_that_no_registry_can_have(fake: FakeRegistry, client: Registry, name: str) -> None:
    """A name outside distribution's grammar is an error in which nothing steers the terminal."""
    fake.on(CATALOG, Reply(200, json.dumps({"repositories": ["app", name]}).encode()))
    fake.on(TAGS, Reply(200, json.dumps({"tags": ["1", f"{name}:"]}).encode()))
    for ask in (client.repositories, lambda: client.tags("app")):
        with pytest.raises(RegistryError, match="which no registry can have") as error:
            ask()
        assert str(error.value).isprintable()


def test_memory(fake: FakeRegistry) -> None:
    """Whatever comes, a scan takes less than 1 GiB, and so does all that it starts with it."""
    for number, (reply, _) in enumerate(odd for name, odd in ODD.items() if "a " not in name):
        for copy in range(8):
            fake.push("app", f"{copy}-{number}", IMAGE)
            fake.on(f"GET /v2/app/manifests/{copy}-{number}", reply, forever=True)
    script = f"""
from regdata.sources.api import Api
from regdata.sources.registry import Registry
api = Api(Registry({fake.url!r}))
print(len(api.read(api.split(1)[0])["tags"]["image_name"]))
"""
    done, peak = peak_run([sys.executable, "-c", script], cwd=ROOT)
    assert int(done.stdout) > 20, done.stderr
    assert 1 << 24 < peak < 1 << 30
