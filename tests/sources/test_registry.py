"""The HTTP API: a real registry, and one that lies, stalls and breaks."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    OCI_INDEX,
    OCI_MANIFEST,
    make_image,
    make_index,
    make_layer,
    push,
)
from regdata.errors import AccessError, RegistryError
from regdata.sources import pace
from regdata.sources.api import Api
from regdata.sources.registry import Registry
from regdata.sources.source import Going
from tests.support.fakes import PAGE, FakeRegistry, error_reply, json_reply, serve, sha256
from tests.support.server import Reply, serving

BASE = make_layer("base", 50)
AMD = make_image([BASE, make_layer(1, 10)], created=1_700_000_000, oci=True)
ARM = make_image([BASE, make_layer(2, 10)], created=1_700_000_000, platform="linux/arm64", oci=True)
INDEX = make_index([AMD, ARM], attest=True)
UNKNOWN = "sha256:" + "0" * 64

MANIFEST = "GET /v2/app/manifests/{}"
OTHER = Reply(200, ARM.manifest, {"Content-Type": OCI_MANIFEST})
LIAR = Reply(200, b"{}", {"Docker-Content-Digest": AMD.digest, "Content-Type": OCI_MANIFEST})


# A real registry


def test_reading(registry: LocalRegistry) -> None:
    """What was pushed is read back, byte for byte; what is not there is None or empty."""
    push(registry.url, "team/app", "1.0", INDEX)
    real = Registry(registry.url + "/")
    real.check()
    assert real.repositories() == ["team/app"]
    assert real.tags("team/app") == ["1.0"]
    assert Api(real).state("team/app") == ({"1.0": INDEX.digest}, None)
    assert real.manifest("team/app", "1.0") == (INDEX.digest, OCI_INDEX, INDEX.manifest)
    assert real.manifest("team/app", AMD.digest) == (AMD.digest, OCI_MANIFEST, AMD.manifest)
    assert real.blob("team/app", BASE.digest) == BASE.data
    assert real.blob_exists("team/app", BASE.digest)
    assert real.tags("nobody") == []
    assert real.digest("team/app", "2.0") is None
    assert real.manifest("team/app", "2.0") is None
    assert real.blob("team/app", UNKNOWN) is None
    assert not real.blob_exists("team/app", UNKNOWN)


def test_delete_and_put_back(registry: LocalRegistry) -> None:
    """A deleted manifest takes its tags along; put back, it is there again."""
    push(registry.url, "app", "1.0", AMD)
    real = Registry(registry.url)
    real.check_deletes("app")
    assert real.delete("app", AMD.digest)
    assert not real.delete("app", AMD.digest)
    assert real.tags("app") == []
    real.put("app", "1.0", AMD.media_type, AMD.manifest)
    assert real.digest("app", "1.0") == AMD.digest
    with pytest.raises(RegistryError, match=r"PUT .*/2\.0: HTTP 400 MANIFEST_BLOB_UNKNOWN"):
        real.put("app", "2.0", ARM.media_type, ARM.manifest)


def test_untag(registry: LocalRegistry) -> None:
    """A registry that lists tags in pages, and no other, deletes a tag alone."""
    for tag in ("1.0", "2.0"):
        push(registry.url, "app", tag, AMD)
    real = Registry(registry.url)
    pages = real.tags_unpaged("app") is None
    assert real.untag("app", "1.0", AMD.digest) is pages
    assert real.tags("app") == (["2.0"] if pages else ["1.0", "2.0"])


def test_a_tag_that_is_pushed_while_it_is_untagged(fake: FakeRegistry, client: Registry) -> None:
    """It is on another manifest right after its DELETE: that is no registry which does not delete."""
    fake.push("app", "1", AMD)
    fake.on("DELETE /v2/app/manifests/1", Reply(202))
    fake.push("app", "1", ARM)
    assert client.untag("app", "1", AMD.digest)
    fake.on("DELETE /v2/app/manifests/1", Reply(202))
    with pytest.raises(RegistryError, match="still has it"):
        client.untag("app", "1", ARM.digest)


def test_delete_disabled(tools: None, tmp_path: Path) -> None:
    """Where delete is disabled, that is known beforehand, and the error says how to enable it."""
    with LocalRegistry(tmp_path, delete=False) as server:
        push(server.url, "app", "1.0", AMD)
        real = Registry(server.url)
        with pytest.raises(RegistryError, match="405: delete is disabled; set storage"):
            real.check_deletes("app")
        with pytest.raises(RegistryError, match=r"HTTP 405.*storage\.delete\.enabled"):
            real.delete("app", AMD.digest)
        assert not real.untag("app", "1.0", AMD.digest)


def test_upload_probe(registry: LocalRegistry) -> None:
    """The probe's upload is in the registry's store as long as the probe is open."""
    push(registry.url, "app", "1.0", AMD)
    uploads = registry.base_path / "docker/registry/v2/repositories/app/_uploads"
    with Registry(registry.url).upload_probe("app") as upload:
        assert (uploads / upload / "startedat").is_file()
    assert not (uploads / upload / "startedat").exists()


# Retries


@pytest.mark.parametrize(
    ("reply", "waits"),
    [
        (Reply(429, headers={"Retry-After": "7"}), [7]),
        (Reply(429, headers={"Retry-After": "86400"}), [60]),
        (Reply(503), [0.2]),
        (Reply(500), []),
        (Reply(how="reset"), []),
        (Reply(200, AMD.manifest, how="cut"), []),
        (Reply(how="stall"), []),
    ],
)
def test_read_again(fake: FakeRegistry, client: Registry, naps: list[float], reply: Reply, waits: list[float]) -> None:
    """A read that failed once is repeated, after the time that the registry asks for."""
    fake.push("app", "1", AMD)
    fake.on(MANIFEST.format("1"), reply)
    manifest = client.manifest("app", "1")
    assert manifest
    assert manifest.data == AMD.manifest
    assert naps == waits


WRITES: dict[str, Callable[[Registry], object]] = {
    "DELETE /v2/app/manifests/" + AMD.digest: lambda r: r.delete("app", AMD.digest),
    "DELETE /v2/app/manifests/1": lambda r: r.untag("app", "1", AMD.digest),
    "PUT /v2/app/manifests/1": lambda r: r.put("app", "1", AMD.media_type, AMD.manifest),
    "POST /v2/app/blobs/uploads/": lambda r: r.upload_probe("app").__enter__(),
}


@pytest.mark.parametrize("request_line", WRITES)
@pytest.mark.parametrize("reply", [error_reply(500), Reply(how="reset")])
def test_writes_are_not_repeated(fake: FakeRegistry, client: Registry, request_line: str, reply: Reply) -> None:
    """A write that may have been carried out is an error, not sent twice."""
    fake.push("app", "1", AMD)
    fake.on(request_line, reply, forever=True)
    with pytest.raises(RegistryError, match=request_line.split()[0]):
        WRITES[request_line](client)
    assert [line for line in fake.seen if not line.startswith("HEAD")] == [request_line]


@pytest.mark.parametrize("reply", [error_reply(500), Reply(how="reset")])
def test_lost_answer_to_a_delete(fake: FakeRegistry, client: Registry, reply: Reply) -> None:
    """A deletion whose answer got lost is asked after: it is done where the manifest or tag is gone."""
    fake.on(f"DELETE /v2/app/manifests/{AMD.digest}", reply)
    fake.on("DELETE /v2/app/manifests/1", reply)
    assert client.delete("app", AMD.digest)
    assert client.untag("app", "1", AMD.digest)


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_tag_that_can_not_go_alone(fake: FakeRegistry, client: Registry, status: int) -> None:
    """However a registry answers a kind of DELETE that it does not have, the tag is kept, and nothing has failed."""
    fake.push("app", "1", AMD)
    fake.on("DELETE /v2/app/manifests/1", error_reply(status, "UNSUPPORTED"))
    assert client.untag("app", "1", AMD.digest) is False


@pytest.mark.parametrize(
    ("reply", "waits"), [(Reply(429, headers={"Retry-After": "2"}), [2]), (error_reply(503), [0.2])]
)
@pytest.mark.parametrize("request_line", WRITES)
def test_write_put_off(
    fake: FakeRegistry, client: Registry, naps: list[float], request_line: str, reply: Reply, waits: list[float]
) -> None:
    """A write that the registry put off is sent again in its turn, after a look whether it was carried out."""
    fake.push("app", "1", ARM)
    fake.push("app", "2", AMD)
    done = Reply({"DELETE": 202, "PUT": 201, "POST": 202}[request_line.split()[0]])
    fake.on(request_line, reply, done)
    if request_line.startswith("DELETE"):
        there = Reply(200, headers={"Docker-Content-Digest": AMD.digest})
        fake.on(request_line.replace("DELETE", "HEAD"), there, error_reply(404))  # gone by the second one
    WRITES[request_line](client)
    looked = [] if request_line.startswith("POST") else [request_line.replace("DELETE", "HEAD").replace("PUT", "HEAD")]
    assert fake.seen[: 2 + len(looked)] == [request_line, *looked, request_line]
    assert naps[:1] == waits


def test_whether_pushes_are_taken(fake: FakeRegistry, client: Registry) -> None:
    """A registry that a limit puts off is no stopped one; what is stopped, and a proxy says so, is soon seen."""
    request_line = "POST /v2/app/blobs/uploads/"
    fake.on(request_line, Reply(429, headers={"Retry-After": "2"}), Reply(202))
    assert client.takes_pushes("app")
    fake.on(request_line, error_reply(503), forever=True)
    assert not client.takes_pushes("app")
    assert fake.seen.count(request_line) < pace.PATIENCE


@pytest.mark.parametrize("tag", ["1", AMD.digest])
def test_deletion_put_off_and_done(fake: FakeRegistry, client: Registry, tag: str) -> None:
    """A deletion that was answered with 503 and carried out is not sent again: somebody may push the tag anew."""
    fake.on(f"DELETE /v2/app/manifests/{tag}", error_reply(503))
    assert client.untag("app", tag, AMD.digest)
    assert fake.seen.count(f"DELETE /v2/app/manifests/{tag}") == 1


def test_a_registry_that_always_puts_off(fake: FakeRegistry, client: Registry, naps: list[float]) -> None:
    """There is an end to waiting, and the error says what could help."""
    fake.push("app", "1", AMD)
    for method, read in (("DELETE", client.delete), ("GET", client.manifest)):
        fake.on(f"{method} /v2/app/manifests/{AMD.digest}", error_reply(503), forever=True)
        with pytest.raises(RegistryError, match=r"HTTP 503 .* registry.requests.per_second"):
            read("app", AMD.digest)
        assert fake.seen.count(f"{method} /v2/app/manifests/{AMD.digest}") == pace.PATIENCE


def test_a_registry_that_puts_off_for_an_hour(
    fake: FakeRegistry, client: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing comes but refusals that ask for an hour, a run ends after about a minute, whoever asks."""
    clock = SimpleNamespace(now=0.0, time=lambda: 1e9)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(pace.Pace, "sleep", lambda pace, seconds: setattr(clock, "now", clock.now + seconds))
    fake.on("HEAD /v2/app/manifests/1", Reply(429, headers={"Retry-After": "3600"}), forever=True)
    for _ in range(100):
        with pytest.raises(RegistryError, match="HTTP 429") as error:
            client.digest("app", "1")
    assert "again and again" in str(error.value)
    assert clock.now < pace.PUT_OFF
    assert len(fake.seen) < 10
    clock.now += 100
    assert client.tags("app") == []


# Not what it should be


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (PAGE, "not how a registry answers; set registry.url"),
        (Reply(404), "HTTP 404, which is not how"),
        (error_reply(401, "UNAUTHORIZED"), "401 UNAUTHORIZED: .* no credentials for 127.0.0.1.* docker login"),
        (Reply(301, headers={"Location": "https://x/v2/"}), "registry.url to where it redirects to, https://x$"),
        (Reply(502), "HTTP 502; what is before the registry can't reach it: see whether it runs"),
        (Reply(407), "the proxy wants a user and a password; write them into its URL"),
        (Reply(how="reset"), "the connection broke"),
        (Reply(how="stall"), r"no answer within 0\.6 s; check that the registry runs"),
    ],
)
def test_check(fake: FakeRegistry, client: Registry, reply: Reply, problem: str) -> None:
    """What is no registry, or is closed to us, is told apart at the first request."""
    fake.on("GET /v2/", reply, forever=True)
    with pytest.raises(RegistryError, match=problem):
        client.check()
    assert fake.seen == ["GET /v2/"]


@pytest.mark.parametrize("own", [True, False])
def test_no_delete(fake: FakeRegistry, client: Registry, own: bool) -> None:
    """A 405 without a registry's own words may be that of what is before it."""
    refusal = error_reply(405, "UNSUPPORTED") if own else Reply(405, b"<html>")
    fake.answer = lambda method, target: refusal if method == "DELETE" else Reply(202)  # type: ignore[method-assign]
    with pytest.raises(RegistryError, match=r"delete is disabled; set storage\.delete\.enabled") as error:
        client.check_deletes("app")
    assert ("let DELETE through" in str(error.value)) != own


@pytest.mark.parametrize("status", [405, 501])
def test_no_head(fake: FakeRegistry, client: Registry, status: int) -> None:
    """Where HEAD is not allowed, GET tells the same; of a blob no more than a byte is read."""
    fake.push("app", "1", AMD)
    blob = AMD.blobs[0].digest
    for path in ("app/manifests/1", f"app/blobs/{blob}", f"app/blobs/{UNKNOWN}"):
        fake.on(f"HEAD /v2/{path}", Reply(status), forever=True)
    assert client.digest("app", "1") == AMD.digest
    assert Api(client).state("app") == ({"1": AMD.digest}, None)
    assert client.blob_exists("app", blob)
    assert not client.blob_exists("app", UNKNOWN)


def test_plain_answer(fake: FakeRegistry, client: Registry) -> None:
    """A registry that leaves out the version header is one if it answers {}."""
    fake.on("GET /v2/", json_reply({}))
    client.check()


def test_nobody_there() -> None:
    """A port where nobody listens is one line with the cure."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(RegistryError, match="can't connect: Connection refused; check that"):
            Registry(url).check()


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "", "ftp://host", "http://", "http://[::1"])
def test_no_url(url: str) -> None:
    """What is no HTTP URL is refused at once."""
    with pytest.raises(RegistryError, match=r"write it like http://127\.0\.0\.1:5000"):
        Registry(url)


def test_content_is_verified(fake: FakeRegistry, client: Registry) -> None:
    """Another manifest's bytes, or another blob's, are an error."""
    fake.on(MANIFEST.format(AMD.digest), OTHER)
    fake.on(MANIFEST.format("1"), LIAR)
    fake.on(f"GET /v2/app/blobs/{BASE.digest}", Reply(200, b"x"))
    for read in (client.manifest, client.blob):
        with pytest.raises(RegistryError, match="does not match its digest"):
            read("app", AMD.digest if read == client.manifest else BASE.digest)
    with pytest.raises(RegistryError, match="does not match its digest"):
        client.manifest("app", "1")


def test_no_digest_header(fake: FakeRegistry, client: Registry) -> None:
    """Where the registry gives no digest, it is taken from the bytes."""
    fake.on("HEAD /v2/app/manifests/1", Reply())
    fake.on(MANIFEST.format("1"), OTHER)
    assert client.digest("app", "1") == ARM.digest == sha256(ARM.manifest)


def test_odd_names(fake: FakeRegistry, client: Registry) -> None:
    """A name can't lead a request elsewhere."""
    assert client.tags("a?b#c d\r\n") == []
    assert fake.seen == ["GET /v2/a%3Fb%23c%20d%0D%0A/tags/list"]


def test_3x() -> None:
    """Distribution 3.x lists tags in pages and deletes a tag alone."""
    with serve(FakeRegistry(pages=True)) as fake:
        fake.push("app", "1", AMD)
        fake.push("app", "2", AMD)
        client = Registry(fake.url)
        assert client.tags_unpaged("app") is None
        assert client.untag("app", "1", AMD.digest)
        assert client.untag("app", "1", AMD.digest)
        assert Api(client).state("app") == ({"2": AMD.digest}, None)


ASKS = Reply(401, headers={"WWW-Authenticate": 'Basic realm="Registry"'})


def test_password_and_redirect(fake: FakeRegistry, home: Path) -> None:
    """A password goes to the registry alone, not to an object store, of which ~/.netrc knows one, nor to a message."""
    (home / ".netrc").write_text("default login netrc password secret")
    client = Registry(fake.url.replace("//", "//user:secret@"))
    with serve(FakeRegistry()) as store, serve(FakeRegistry()) as second:
        store.on("GET /bucket/x?sig=1", Reply(307, headers={"Location": f"{second.url}/y"}))
        second.on("GET /y", Reply(200, BASE.data))
        there = Reply(307, headers={"Location": f"{store.url}/bucket/x?sig=1"})
        fake.on(f"GET /v2/app/blobs/{BASE.digest}", ASKS, there)
        assert client.blob("app", BASE.digest) == BASE.data
        assert "Authorization" not in store.headers_seen[0] | second.headers_seen[0]
    assert "Authorization" not in fake.headers_seen[0]
    assert fake.headers_seen[1]["Authorization"].startswith("Basic ")
    with pytest.raises(RegistryError, match="HTTP 404") as error:
        client.put("nobody", "1", OCI_MANIFEST, b"{}")
    assert "secret" not in f"{error.value} {client!r} {client.display}"


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        (None, "can't connect: Connection refused; check that it can be reached from here, or set storage.redirect"),
        (Reply(403), "HTTP 403; it does not take what the registry signed: see whether their clocks agree"),
        (Reply(how="reset"), "the connection broke: .* or set storage.redirect.disable: true"),
    ],
)
def test_an_object_store_out_of_reach(fake: FakeRegistry, client: Registry, there: Reply | None, problem: str) -> None:
    """Where the store to which the registry redirects can't be asked from here, a scan is an error, not one without
    the dates that are kept there; nothing of the redirect's signature is said."""
    fake.push("app", "1", AMD)
    answer = fake.answer
    with serving(lambda request: there or Reply()) as store:
        where = store if there else "http://127.0.0.1:9"
        away = Reply(307, headers={"Location": f"{where}/bucket/x?sig=secret"})
        fake.answer = lambda *asked: away if "/blobs/" in asked[1] else answer(*asked)  # type: ignore[method-assign]
        with pytest.raises(
            RegistryError, match=f"GET {where}/bucket/x, to which the registry redirects: {problem}"
        ) as e:
            Api(client).read(Api(client).split(1)[0])
        with pytest.raises(RegistryError):
            client.blob_readable("app", AMD.blobs[0].digest)
    assert "secret" not in str(e.value)


def test_netrc(fake: FakeRegistry, home: Path) -> None:
    """A user and password for the registry's host are taken from ~/.netrc, once the registry asks for them."""
    (home / ".netrc").write_text("machine 127.0.0.1 login user password secret")
    fake.on("GET /v2/", ASKS)
    client = Registry(fake.url)
    client.check()
    client.tags("app")
    sent = [seen.get("Authorization") for seen in fake.headers_seen]
    assert sent == [None, "Basic dXNlcjpzZWNyZXQ=", "Basic dXNlcjpzZWNyZXQ="]


@pytest.mark.parametrize(
    "broken", [Reply(503), Reply(429, headers={"Retry-After": "1"}), Reply(500), Reply(how="reset")]
)
def test_a_token_server_that_breaks_once(fake: FakeRegistry, client: Registry, broken: Reply) -> None:
    """A token server that restarts or puts us off amid a run is asked again; one that stays broken is an error."""
    replies = [broken]
    with serving(lambda _: replies.pop() if replies else json_reply({"token": "a-token"})) as realm:
        asks = Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}/t",scope="repository:app:pull"'})
        fake.push("app", "1", AMD)
        fake.on("GET /v2/app/tags/list", asks)
        assert client.tags("app") == ["1"]
        assert fake.headers_seen[-1]["Authorization"] == "Bearer a-token"
        replies[:] = [broken] * 99
        fake.on("GET /v2/other/tags/list", asks)
        with pytest.raises(AccessError, match="the registry's token server"):
            client.tags("other")


def test_tls_of_others(fake: FakeRegistry, client: Registry) -> None:
    """What is wrong with the TLS of a token server or an object store is said of its own setting."""
    with serving(lambda _: Reply()) as other:
        where = other.replace("http:", "https:")
        fake.on(f"GET /v2/app/blobs/{UNKNOWN}", Reply(307, headers={"Location": f"{where}/x"}))
        with pytest.raises(RegistryError, match="speaks no TLS; write http:// in the registry's storage"):
            client.blob("app", UNKNOWN)
        ask = Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{where}/t"'})
        fake.on("GET /v2/app/tags/list", ask)
        with pytest.raises(AccessError, match=r"speaks no TLS; write http:// in auth\.token\.realm"):
            client.tags("app")


def test_no_look(fake: FakeRegistry, client: Registry) -> None:
    """Who may not look, or is put off for good, does not know how things are: an error, not an unknown digest."""
    fake.push("app", "1", AMD)
    api = Api(client)
    look = api.glance("app", [AMD.digest])
    going = Going(AMD.digest, None, tags=["1"], gone=[], above=[])
    fake.on("HEAD /v2/app/manifests/1", error_reply(500), error_reply(500), error_reply(500), error_reply(500))
    assert look(going)
    for status in (401, 403, 429, 503):
        fake.on("HEAD /v2/app/manifests/1", Reply(status), forever=True)
        for ask in (lambda: api.state("app"), lambda: look(going)):
            with pytest.raises(RegistryError, match=f"HTTP {status}"):
                ask()
