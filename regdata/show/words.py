"""Numbers and names in words: sizes, shares, counts, and names that are too long."""

from __future__ import annotations

_END = 10**300  # no float is much larger


def size(number: int | None) -> str:
    """1234567 as "1.23 MB": three digits, powers of 1000; None is "not known"."""
    if number is None:
        return "not known"
    value, units = float(max(min(number, _END), -_END)), ["B", "kB", "MB", "GB", "TB", "PB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"


def shorten(name: str, most: int = 40) -> str:
    """``name`` with its middle left out where it is longer than ``most`` characters."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def percent(part: float, whole: float) -> str:
    """1 of 3 as "33%"; what is there is never "0%"."""
    if part and part < whole / 100:
        return "under 1%"
    return f"{part / whole:.0%}" if whole else "0%"


_OTHER = "other ("


def other(number: int) -> str:
    """The name of a row that is the sum of so many that have none of their own."""
    return f"{_OTHER}{number:,})"


def is_other(name: str) -> bool:
    """Whether a row's name is one of `other`."""
    return name.startswith(_OTHER)


def count(number: int, thing: str) -> str:
    """2 and "tag" as "2 tags"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
