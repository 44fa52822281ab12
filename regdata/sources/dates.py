"""Dates that can be believed.

Reproducible builds and stores that were unpacked without their dates say 1970 or 1980, clocks that are wrong say the
future: what is before Docker's first release, or not yet, is unknown, and unknown is young.
"""

from __future__ import annotations

FIRST = 1_363_737_600  # 2013-03-20
# Between two clocks that are as right as clocks are.
APART = 5


def is_before(date: int, time: int) -> bool:
    """Whether what has this date is surely older than ``time``, which has been; both in UTC epoch seconds."""
    return FIRST <= date < time


def ahead(date: int, now: int) -> int:
    """By how many seconds the clock that gave a file its date just now is ahead of the one that says ``now``."""
    return date - now if abs(date - now) > APART else 0
