"""JSON as registries read it: with Go's encoding/json, into the fields of a struct.

What a registry serves is what Go made of it: names of fields match in any case, the last one wins, bytes that are no
UTF-8 are replaced, and what stands in no known field may be anything. Reading it in another way finds other children.
Source: the documentation of Go's package encoding/json, `Unmarshal`.
"""

import json
import math
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

_MAX_DEPTH = 10_000  # Go's maxNestingDepth
_INT64 = range(-(2**63), 2**63)
_BYTE = range(256)
# No known field lies deeper; Python's parser would give up some hundred levels further down.
_SHALLOW = 100
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class Mismatch(ValueError):
    """Not what Go's Unmarshal takes; the message says where."""


Object = tuple[tuple[str, Any], ...]
# What a field holds is made of a value and of what an earlier value for the same field had left there.
Reader = Callable[[Any, Any], Any]
Fields = dict[str, Reader]


def parse(data: bytes) -> Any:
    """The value in ``data``, objects as tuples of (name, value) in their order, arrays as lists. Raises Mismatch."""
    text = data.decode("utf-8", "replace")
    try:
        try:
            return _DECODER.decode(text)
        except RecursionError:
            return _DECODER.decode(_cut(text))
    except (ValueError, RecursionError):
        raise Mismatch("not JSON") from None


def _integer(digits: str) -> float:
    return int(digits) if len(digits.lstrip("-")) < 20 else math.inf  # which fits in no field


def _constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's own


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=_integer, parse_constant=_constant)


def _cut(text: str) -> str:
    """The text with null for each value that lies deeper than any known field."""
    kept: list[str] = []
    depth, begin = 0, 0
    for token in _TOKEN.finditer(text):
        bracket = token[0]
        if bracket in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError("nested too deeply")
            if depth == _SHALLOW:
                kept.append(text[begin : token.start()])
        elif bracket in "]}":
            if depth == _SHALLOW:
                kept.append("null")
                begin = token.end()
            depth -= 1
    if depth:
        raise ValueError("unfinished")
    return "".join([*kept, text[begin:]])


def member(name: str, fields: Fields) -> str | None:
    """The field that ``name`` stands for: the one of that name, else the one that it matches in any case.

    Case is folded as in Go, where U+017F is an s and U+212A a k, and no name gets longer by it.
    """
    if name in fields:
        return name
    plain = name.replace("\u017f", "s").replace("\u212a", "k")
    if not plain.isascii():
        return None
    folded = plain.lower()
    return next((field for field in fields if field.lower() == folded), None)


def struct(fields: Fields) -> Reader:
    """An object's known fields; one that is given twice is read over what was there. null changes nothing."""
    others: dict[str, str] = {}  # what other names stand for

    def known(name: str) -> str:
        found = member(name, fields) or ""
        if len(others) < _REMEMBERED:
            others[name] = found
        return found

    def read(value: Any, before: Any) -> dict[str, Any]:
        found = dict(before) if before else {}
        if value is None:
            return found
        if not isinstance(value, tuple):
            raise Mismatch("is not an object")
        for name, inner in value:
            field = name if name in fields else others[name] if name in others else known(name)
            if not field:
                continue
            try:
                found[field] = fields[field](inner, found.get(field))
            except Mismatch as mismatch:
                raise Mismatch(f"{field}{'' if str(mismatch).startswith('is ') else ':'} {mismatch}") from None
        return found

    return read


_REMEMBERED = 1000


def pointer(reader: Reader) -> Reader:
    """The same where null means that there is none."""
    return lambda value, before: None if value is None else reader(value, before)


def unless_null(reader: Reader) -> Reader:
    """The same where null changes nothing, not even that there is none."""
    return lambda value, before: before if value is None else reader(value, before)


class _Slice(list[Any]):
    """A list that was read over a longer one, and what that one still holds behind it."""

    def __init__(self, found: list[Any], behind: list[Any]) -> None:
        super().__init__(found)
        self.behind = behind


def array(reader: Reader) -> Reader:
    """A list; null or an empty one empties it. Given again, its elements are read over those that ever were there."""

    def read(value: Any, before: Any) -> list[Any] | None:
        if value is None:
            return None
        if not isinstance(value, list):
            raise Mismatch("is not a list")
        if not before:
            return [reader(one, None) for one in value]
        there = [*before, *(before.behind if isinstance(before, _Slice) else ())]
        found = [reader(one, there[i] if i < len(there) else None) for i, one in enumerate(value)]
        return _Slice(found, there[len(found) :] if found else [])

    return read


def lenient(reader: Reader) -> Reader:
    """The same where what does not fit is as good as not there."""

    def read(value: Any, before: Any) -> Any:
        try:
            return reader(value, before)
        except Mismatch:
            return before

    return read


def unfit(reader: Reader) -> Reader:
    """Whether what is given does not fit, be it in one place of several."""

    def read(value: Any, before: Any) -> bool:
        try:
            reader(value, None)
        except Mismatch:
            return True
        return bool(before)

    return read


def text(value: Any, before: Any) -> Any:
    """A string; null changes nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        return before
    raise Mismatch("is not a string")


def whole(value: Any, before: Any) -> Any:
    """An integer of 64 bits; null changes nothing."""
    if type(value) is int and value in _INT64:
        return value
    if value is None:
        return before
    raise Mismatch("is not a whole number")


def texts(value: Any, before: Any) -> dict[str, str] | None:
    """Strings by name, the names as they are, without what is no string; null means that there are none."""
    if value is None:
        return None
    if not isinstance(value, tuple):
        raise Mismatch("is not an object")
    return (before or {}) | {name: inner for name, inner in value if isinstance(inner, str)}


def only_texts(value: Any, before: Any) -> dict[str, str] | None:
    """The same where each has to be a string, or null."""
    found = texts(value, before)
    if any(not isinstance(inner, str | None) for _, inner in value or ()):
        raise Mismatch("holds what is not a string")
    return found


def raw(value: Any, before: Any) -> Any:
    """Bytes, as base64 or one by one; null changes nothing."""
    if isinstance(value, str):
        try:
            return b64decode(re.sub(r"[\r\n]", "", value), validate=True)
        except ValueError:
            raise Mismatch("is not base64") from None
    if isinstance(value, list) and all(one is None or (type(one) is int and one in _BYTE) for one in value):
        return bytes(one or 0 for one in value)
    if value is None:
        return before
    raise Mismatch("holds no bytes")
