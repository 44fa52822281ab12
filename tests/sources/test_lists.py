"""Lists of repositories and of tags, from registries that give pages, leave something out, or lie."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from regdata.demo.samples import make_image, make_layer
from regdata.errors import RegistryError
from regdata.sources.api import Api
from regdata.sources.manifest import sha256_of
from regdata.sources.registry import Registry
from regdata.sources.transport import Reach
from tests.support.fakes import PAGE, FakeRegistry, error_reply, json_reply, names, serve
from tests.support.server import Reply

AMD = make_image([make_layer("base", 50)], created=1_700_000_000, oci=True)


@pytest.mark.parametrize("prefix", ["", "{url}", "http://127.0.0.1:1", "https://example.com:5000/inner"])
def test_pages(fake: FakeRegistry, client: Registry, prefix: str) -> None:
    """Links are followed on the registry's own host and path, whatever name and path it thinks that it has."""
    fake.tags = {name: {} for name in names(range(5))}
    link = prefix.format(url=fake.url) + "/v2/_catalog?last=r01&n=2"
    page = json_reply({"repositories": names(range(2))}, Link=f'<{link}>; rel="next"')
    fake.on("GET /v2/_catalog?n=1000", page)
    assert client.repositories() == names(range(5))
    assert fake.seen[1:] == ["GET /v2/_catalog?last=r01&n=2", "GET /v2/_catalog?last=r03&n=2"]


def test_tags_in_pages(fake: FakeRegistry, client: Registry) -> None:
    """Tags, too, may come in pages."""
    page = json_reply({"tags": ["b"]}, Link='<list?last=b>; rel="next"')
    fake.tags["app"] = {"a": AMD.digest, "b": AMD.digest}
    fake.on("GET /v2/app/tags/list", page)
    assert client.tags("app") == ["a", "b"]
    assert fake.seen[1] == "GET /v2/app/tags/list?last=b"


@pytest.mark.parametrize("rest", ['; Rel="next"', "; rel=NEXT", '; rel="last next"', "", '; title="x"; REL=next'])
def test_any_link(fake: FakeRegistry, client: Registry, rest: str) -> None:
    """However a registry writes that there is a next page (RFC 8288), no page is left out."""
    fake.push("r01", None, AMD)
    fake.on(
        "GET /v2/_catalog?n=1000", json_reply({"repositories": ["r00"]}, Link=f"</v2/_catalog?last=r00&n=1000>{rest}")
    )
    assert client.repositories() == names(range(2))


LOOP = json_reply({"repositories": ["a"]}, Link='</v2/_catalog?n=1000>; rel="next"')
AWAY = json_reply({"repositories": ["a"]}, Link='<http://example.com/v2/a/tags/list?n=1>; rel="next"')
HOLLOW = json_reply({"repositories": []}, Link='</v2/_catalog?last=a>; rel="next"')


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (LOOP, "repeats itself"),
        (HOLLOW, "repeats itself"),
        (AWAY, "Link leads elsewhere, to http://example.com"),
        (PAGE, "no JSON list"),
        (json_reply({"repositories": "abc"}), "no JSON list"),
        (json_reply({"repositories": [1]}), "no JSON list"),
        (json_reply(["a"]), "no JSON list"),
        (Reply(200, b'{"repositories": ["a", "b'), "no JSON list"),
        (Reply(200, b'{"repositories": ["a", "b"]}', how="cut"), "the connection broke"),
        (error_reply(404, "NOT_FOUND", "no\ncatalog\x1b[2J"), r"HTTP 404 NOT_FOUND: no catalog \["),
        (Reply(how="stall"), r"no answer within 0\.6 s"),
    ],
)
def test_listing_that_lies(fake: FakeRegistry, client: Registry, reply: Reply, problem: str) -> None:
    """A list that can't be true or whole is an error of one line, never a shorter list."""
    fake.on("GET /v2/_catalog?n=1000", reply, forever=True)
    with pytest.raises(RegistryError, match=problem) as error:
        client.repositories()
    assert str(error.value).isprintable()
    assert str(error.value).startswith(f"GET {fake.url}/v2/_catalog")


def test_smaller_pages(fake: FakeRegistry, client: Registry) -> None:
    """A registry that forbids pages of 1000 is asked for its own."""
    fake.tags["app"] = {}
    fake.on("GET /v2/_catalog?n=1000", error_reply(400, "PAGINATION_NUMBER_INVALID"))
    assert client.repositories() == ["app"]


def test_null_tags(fake: FakeRegistry, client: Registry) -> None:
    """A repository whose last tag went has none."""
    fake.on("GET /v2/app/tags/list", json_reply({"name": "app", "tags": None}))
    assert client.tags("app") == []


def test_tags_left_out_of_the_list() -> None:
    """Tags that 3.1 on S3 leaves out of its list are asked for before something goes, and from then on."""
    with serve(FakeRegistry(pages=True)) as fake:
        hidden = ["10", "100", "101", "11", "1_"]
        for tag in ("1", "1-rc", "2", *hidden):
            fake.push("app", tag, AMD)
        fake.on("GET /v2/app/tags/list", json_reply({"tags": ["1", "1-rc", "2"]}), forever=True)
        client = Registry(fake.url)
        assert client.tags("app") == ["1", "1-rc", "2"]
        assert Api(client).state("app")[0].keys() == {"1", "1-rc", "2", *hidden}
        assert client.tags("app") == ["1", "1-rc", *hidden, "2"]


@pytest.mark.parametrize(("status", "told"), [(403, True), (500, True), (400, False), (404, False)])
def test_a_registry_that_does_not_tell_what_its_list_leaves_out(status: int, told: bool) -> None:
    """Where it is in trouble, nobody knows whether tags are left out, and that is an error; one that does not know how
    to answer is no distribution 3.1."""
    with serve(FakeRegistry(pages=True)) as fake:
        fake.push("app", "1", AMD)
        fake.on("GET /v2/app/tags/list?n=1&last=1%2F~", error_reply(status), forever=True)
        client = Registry(fake.url)
        with pytest.raises(RegistryError, match=r"GET .*/v2/app/tags/list: HTTP") if told else nullcontext():
            assert client.every_tag("app") == ["1"]


@pytest.mark.parametrize("pages", [True, False])
def test_a_list_that_is_whole(pages: bool) -> None:
    """A list with two tags of which one extends the other is whole, as are the others; 2.x is asked once."""
    with serve(FakeRegistry(pages=pages)) as fake:
        fake.push("app", "1", AMD)
        fake.push("app", "10" if pages else "2", AMD)
        fake.push("other", "1", AMD)
        client = Registry(fake.url, reach=Reach(at_once=1))
        assert [client.every_tag(name) for name in ("app", "other")] == [sorted(fake.tags["app"]), ["1"]]
        lists = ["GET /v2/app/tags/list", "GET /v2/other/tags/list"]
        asked = [request for request in fake.seen if request not in lists]
        assert asked == ([] if pages else ["GET /v2/app/tags/list?n=1&last=1%2F~"])


def test_names_at_a_mistaken_address(fake: FakeRegistry) -> None:
    """Where repositories are named and no catalog is asked for, an address that is none is told all the same."""
    fake.push("app", "1", AMD)
    client = Registry(f"{fake.url}/v2", reach=Reach(repositories=("app",)))
    with pytest.raises(RegistryError, match="leave /v2 out of"):
        client.repositories()


def test_a_list_that_tells_more_than_names(fake: FakeRegistry) -> None:
    """Beside the tags some registries list every manifest with its size and tags; one of brackets alone is no list."""
    told = {
        sha256_of(str(number).encode()): {"imageSizeBytes": "1", "layerId": "", "mediaType": "x", "tag": [str(number)]}
        for number in range(100)
    }
    fake.on("GET /v2/app/tags/list", Reply(200, json.dumps({"name": "app", "tags": ["1"], "manifest": told}).encode()))
    client = Registry(fake.url)
    assert client.tags("app") == ["1"]
    fake.on("GET /v2/app/tags/list", Reply(200, b'{"tags": ["1"], "child": [%s]}' % (b"[]," * 1000 + b"[]")))
    with pytest.raises(RegistryError, match="no JSON list of tags"):
        client.tags("app")
