"""Lists of what runs -> the tags and digests of this registry that are in use, and by whom.

A list is a file, a glob or a command's output: references, one a line, or JSON, as ``kubectl get -o json`` and
``docker ps --format json`` write it. A list that can't be had, or that has nothing to say, is an error: what it would
have named must not be deleted.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from regdata.errors import CleanupError, StorageError
from regdata.plain import concealed
from regdata.sources.manifest import printable
from regdata.sources.visible import matching
from regdata.usage.ending import TooMuch, ended, started

LIMIT = 120.0  # seconds that a command has
LARGEST = 2**27  # bytes of a list: 10,000 pods as JSON
PARTS = 10_000_000  # lines and parts of JSON that it may have, each of which takes memory
SHOWN = 80  # characters of what is quoted in an error

# distribution/reference: grammar.
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<host>(?:localhost|[\w-]+(?:\.[\w-]+)+|\[[0-9a-fA-F:]+\]|[\w-]+(?=:))(?::\d+)?)/)?(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,128}))?",
    re.ASCII,
)
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
_SCHEME = re.compile(r"\A[a-z][a-z0-9+.-]*://")
# The keys that name an image, in Kubernetes, Docker, Podman, crictl and others, in any case.
_KEYS = {"image", "imageid", "imageref", "imagename", "imagedigest", "userspecifiedimage"}


class Use(NamedTuple):
    """Something that a list names.

    ``repository`` is "" for the id of an image, whole or its first digits, which is in ``digest``. ``by``: who uses it.
    ``ours``: it is named as this registry's; else without a registry, which may be another's.
    """

    repository: str
    tag: str
    digest: str
    by: str
    ours: bool = True


def read(
    lists: Sequence[Path | tuple[str, ...]], names: Sequence[str], folder: Path, *, limit: float = LIMIT
) -> dict[str, list[Use]]:
    """What each list, a file (or glob) or a command's argv, names of the registry that has these ``names``.

    A name is host[:port], and may have a path. Commands run in ``folder``, that of conf.json. A list is called as
    conf.json has it, without what it takes from the environment.
    Raises CleanupError for one that can't be read, takes more than ``limit`` seconds or yields nothing at all.
    """
    found = {}
    hosts = [_host(name) for name in names]
    for what, text in _texts(lists, folder, limit):
        references = dict.fromkeys(_references(what, text))
        if not references:
            raise _refused(what, "names nothing at all", "see whether it ran against the right place")
        found[what] = [use for reference, by in references for use in _uses(reference, by, hosts)]
    return found


def _refused(what: str, why: str, cure: str) -> CleanupError:
    return CleanupError(f"in-use: {what} {why}: {cure}. Nothing was deleted")


def _too_large(what: str, most: str = "") -> CleanupError:
    return _refused(what, f"is larger than {most or f'{LARGEST} bytes'}", "let it list what runs, and nothing else")


def _texts(lists: Sequence[Path | tuple[str, ...]], folder: Path, limit: float) -> Iterator[tuple[str, str]]:
    for item in lists:
        if isinstance(item, tuple):
            what = shlex.join(map(concealed, item))
            yield what, _output(what, item, folder, limit)
            continue
        try:
            paths = matching(item)
        except StorageError as error:
            raise CleanupError(f"in-use: {error}. Nothing was deleted") from None
        if not paths:
            raise _refused(str(item), "matches no file", "correct the pattern, or write the list")
        for path in paths:
            yield concealed(str(path)), _content(path)


def _content(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise _refused(str(path), "is no file", "give a file, or a command as a list of its arguments")
        with path.open("rb") as file:
            return _decoded(str(path), file)
    except OSError as error:
        raise _refused(
            str(path),
            f"can't be read ({error.strerror})",
            "write the list, or correct the path; a command is a list in the list",
        ) from None


def _output(what: str, argv: tuple[str, ...], folder: Path, limit: float) -> str:
    """What a command prints; whatever it started ends with it."""
    with _printed(what) as out, _printed(what) as errors:
        try:
            process = started(argv, folder, stdout=out, stderr=errors)
        except (OSError, ValueError) as error:
            raise _refused(what, f"can't be run ({error})", "correct the command") from None
        try:
            code = ended(process, limit, (out, errors), LARGEST)
        except TooMuch as error:
            raise _refused(what, str(error), "see why, or let it write a file of what runs") from None
        if code:
            errors.seek(0)
            said = errors.read(2000).decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise _refused(what, f"failed (exit code {code}): {said[0][:SHOWN]}", "see to it that it runs")
        out.seek(0)
        return _decoded(what, out)


def _printed(what: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _refused(what, f"has nowhere to print to ({error})", "make room, or let TMPDIR say where") from None


def _decoded(what: str, file: IO[bytes]) -> str:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise _too_large(what)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(what, f"is not UTF-8 (byte {error.start})", "let it be text or JSON") from None


def _references(what: str, text: str) -> Iterator[tuple[str, str]]:
    """Each reference that a list has, with who uses it."""
    if sum(map(text.count, "\n,[{")) > PARTS:
        raise _too_large(what, f"{PARTS} lines or parts")
    if text.lstrip()[:1] in ("{", "["):
        for document in _documents(what, text):
            yield from _named(document)
        return
    for number, line in enumerate(io.StringIO(text), 1):
        reference = line.strip()
        if not reference or reference.startswith("#"):
            continue
        if not _is_reference(reference):
            said = f"line {number} ({reference[:SHOWN]!r}) is no reference"
            raise _refused(
                what, said, "let it be references such as registry.example/team/app:1.0, one a line, or JSON"
            )
        yield reference, what


def _documents(what: str, text: str) -> Iterator[Any]:
    """JSON values one after the other, as `kubectl` and `docker` print them."""
    decoder, position = json.JSONDecoder(), 0
    blank = re.compile(r"\s*")
    try:
        while (position := blank.match(text, position).end()) < len(text):  # type: ignore[union-attr]
            document, position = decoder.raw_decode(text, position)
            yield document
    except json.JSONDecodeError as error:
        raise _refused(what, f"is not JSON ({error})", "see whether it was cut off") from None
    except (RecursionError, ValueError) as error:
        raise _refused(what, f"is no list ({error})", "let it be Kubernetes' or Docker's JSON") from None


def _named(document: Any) -> Iterator[tuple[str, str]]:
    """The references anywhere in a JSON value: kinds of objects are many, and the keys are few."""
    todo: list[tuple[Any, str, str]] = [(document, "", "")]  # a value, who uses it, the kind of a list's items
    while todo:
        value, by, kind = todo.pop()
        if isinstance(value, list):
            todo += [(inner, by, kind) for inner in reversed(value)]
            continue
        if not isinstance(value, dict):
            continue
        by = _who(value, kind) or by
        kind = str(value.get("kind", "")).removesuffix("List")
        for key, inner in value.items():
            if key.lower() in _KEYS:
                inner = inner.get("reference", inner) if isinstance(inner, dict) else inner
                if isinstance(inner, str) and _is_reference(inner):
                    yield inner, by
            todo.append((inner, by, kind))


def _who(value: dict[str, Any], kind: str) -> str:
    """Kubernetes' namespace/kind/name, or a container's name."""
    metadata = value.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("name"), str):
        parts = (metadata.get("namespace"), value.get("kind") or kind, metadata["name"])
        return printable("/".join(str(part) for part in parts if part))
    names = value.get("Names") or value.get("Name")
    names = names[0] if isinstance(names, list) and names else names
    return f"container/{printable(names.lstrip('/'))}" if isinstance(names, str) and names else ""


def _is_reference(text: str) -> bool:
    said = _SCHEME.sub("", text, count=1)
    return bool(_ID.fullmatch(said) or _REFERENCE.fullmatch(said))


def _uses(text: str, by: str, names: Sequence[str]) -> Iterator[Use]:
    """What a reference means here; nothing where it is another registry's."""
    said = _SCHEME.sub("", text, count=1)
    if bare := _ID.fullmatch(said):
        yield Use("", "", bare[1], by, ours=False)
    match = _REFERENCE.fullmatch(said)
    if not match:
        return
    path, digest = match["path"], match["digest"] or ""
    tag = match["tag"] or ("" if digest else "latest")
    if match["host"]:
        whole = f"{_host(match['host'])}/{path}"
        yield from (Use(whole[len(name) + 1 :], tag, digest, by) for name in names if whole.startswith(f"{name}/"))
        yield Use(whole, tag, digest, by, ours=False)  # a repository may be called so
        return
    yield Use(path, tag, digest, by, ours=False)
    if "/" not in path:  # what Docker means by it
        yield Use(f"library/{path}", tag, digest, by, ours=False)


def _host(name: str) -> str:
    """A registry's name without the ports that need not be written."""
    host, slash, path = name.partition("/")
    return re.sub(r":(443|80)$", "", host.lower()) + slash + path.rstrip("/")
