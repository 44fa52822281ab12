"""Text as it may be shown and written: without what conf.json takes from the environment, which may be secret, and
without what steers a terminal."""

import re
from urllib.parse import quote

LEAST = 6  # characters: a shorter value stands in many a text by chance
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_taken: dict[str, str] = {}


def conceal(name: str, value: str) -> None:
    """From now on ``${name}`` is shown where ``value`` would be."""
    if len(value) >= LEAST:
        _taken.update(dict.fromkeys((value, quote(value), quote(value, safe=""), repr(value)[1:-1]), f"${{{name}}}"))


def concealed(text: str) -> str:
    """The text as conf.json has it: ``${NAME}`` where it holds what that stands for."""
    for value in sorted(_taken, key=len, reverse=True):
        text = text.replace(value, _taken[value])
    return text


def printable(text: str) -> str:
    """The text without escape sequences; what else can't be seen, or turns what is written around, is marked."""
    if text.isprintable():
        return text
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def plain(text: str) -> str:
    """Both."""
    return printable(concealed(text))
