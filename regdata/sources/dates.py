"""Dates that can be believed.

Reproducible builds and stores that were unpacked without their dates say 1970 or 1980, clocks that are wrong say the
future: what is before Docker's first release, or not yet, is unknown, and unknown is young.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import NamedTuple

FIRST = 1_363_737_600  # 2013-03-20
# Between two clocks that are as right as clocks are.
APART = 5


def is_before(date: int, time: int) -> bool:
    """Whether what has this date is surely older than ``time``, which has been; both in UTC epoch seconds."""
    return FIRST <= date < time


def epoch(value: object) -> int | None:
    """An RFC 3339 time as UTC epoch seconds; one without an offset is no such time."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return None if moment.tzinfo is None else int(moment.timestamp())
    except (ValueError, OverflowError):
        return None


def ahead(date: int, now: int) -> int:
    """By how many seconds the clock that gave a file its date just now is ahead of the one that says ``now``."""
    return date - now if abs(date - now) > APART else 0


class Pushed(NamedTuple):
    """When something had been pushed, as a scan saw it (None: it saw no date that can be believed), and when that was
    (UTC epoch seconds), by a store's clock that is so many seconds ``ahead`` of ours."""

    date: int | None
    scanned: int
    ahead: int = 0

    def is_again(self, date: int) -> bool:
        """Whether what has this date by now was pushed again."""
        if self.date is not None:
            return date != self.date
        return self.scanned <= date <= int(time.time()) + self.ahead + APART
