"""What a server answered, and its words as they can be shown."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from regdata.sources.manifest import is_digest

TOO_LARGE = -1
REDIRECTS = (301, 302, 303, 307, 308)
# A list of names has two, and one that tells more of each name some for each; documents with very many for their size
# take very much memory.
_BRACKETS, _BYTES_EACH = 10, 50
# By status: what is to be done where one was not hoped for.
CURES = {
    404: "check registry.url and the name",
    405: "the registry does not allow it: it is read-only, or lacks this part of the API",
    429: "the registry limits the rate of requests: try again later, or set registry.requests.per_second",
    502: "what is before the registry can't reach it: see whether it runs",
    504: "what is before the registry got no answer from it: see whether it runs",
    503: "the registry is overloaded, or limits the rate of requests: try again later, or set "
    "registry.requests.per_second",
}
_NONE = {0: "no complete answer", TOO_LARGE: "larger than such a document may be"}


class Answer(NamedTuple):
    """What came back; status 0 where no complete answer did, TOO_LARGE where it was larger than it may be."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def digest(self) -> str | None:
        """The digest that the registry says the content has, if it says a valid one."""
        digest = self.headers.get("Docker-Content-Digest")
        return digest if is_digest(digest) else None

    @property
    def error(self) -> str:
        """The status in words."""
        return _NONE.get(self.status, f"HTTP {self.status}")

    def member(self, key: str) -> object:
        """A member of the JSON object in the body; False, which no listing holds, without one."""
        try:
            document = json.loads(self.data)
        except (ValueError, RecursionError):
            return False
        return document.get(key, False) if isinstance(document, dict) else False

    def names(self, key: str) -> object:
        """A member that should be a list of names; [] for null, which 2.x gives where the last tag went."""
        if self.data.count(b"[") + self.data.count(b"{") > _BRACKETS + len(self.data) // _BYTES_EACH:
            return False
        names = self.member(key)
        return [] if names is None else names

    def own_message(self, redacted: Callable[[str], str] = str) -> str:
        """The server's own words after a blank: the first of a registry's errors (distribution-spec, "Error Codes"), or
        a token server's error (RFC 6749, 5.2)."""
        errors = self.member("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        if isinstance(first, dict):
            texts: Iterable[object] = (first.get("code"), first.get("message"))
        else:
            texts = (self.member("error"), self.member("error_description"), self.member("details"))
        told = ": ".join(text for text in texts if isinstance(text, str) and text)
        return f" {one_line(redacted(told))}" if told else ""


def one_line(text: str) -> str:
    """Strangers' text on one short line, safe for a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)[:200]


def place(url: str) -> str:
    """A URL without what may be secret in it: a query's signature, a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return one_line(url.partition("?")[0])
    host = parts.netloc.rpartition("@")[2]
    return one_line(urlunsplit((parts.scheme, host, parts.path, "", "")))


def unsigned(answer: Answer) -> bytes:
    """A manifest's own bytes: schema 1 is served with signatures, which its digest leaves out (docker's libtrust,
    jsonsign.go)."""
    data = answer.data
    if answer.headers.get("Content-Type", "").endswith(".manifest.v1+prettyjws"):
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            described = json.loads(_decoded(json.loads(data)["signatures"][0]["protected"]))
            return data[: described["formatLength"]] + _decoded(described["formatTail"])
    return data


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
