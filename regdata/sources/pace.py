"""How fast requests follow each other: as conf.json allows, and slower where the registry says that it is too much.

A registry, or a proxy before it, says so with 429 or 503 (nginx's limit_req: 503, without a word of when). As TCP does,
we slow down by a factor at such an answer and speed up a little at each other one.
"""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from threading import Lock

from regdata.sources.answers import Answer

TOO_MUCH = (429, 503)
# Seconds: the shortest interval when slowed down, the longest, the first pause after a refusal, the longest one.
_FIRST, _LONGEST, _PAUSE, _LONGEST_PAUSE = 0.02, 5.0, 0.2, 60.0
# How often one request is put off before its refusal is taken for an answer, and for how many seconds in all.
PATIENCE, PUT_OFF = 12, 75.0


def is_patient(tries: int, began: float) -> bool:
    """Whether what was first sent then, and so often was put off, may be sent again."""
    return tries < PATIENCE and time.monotonic() - began < PUT_OFF / 2


class Pace:
    """When the next request may be sent; safe to use from many threads. ``slowed`` is called at the first refusal."""

    def __init__(self, per_second: float | None = None) -> None:
        self._shortest = 1 / per_second if per_second else 0.0
        self._interval = self._shortest
        self._next = 0.0
        self._slowed = 0.0
        self._in_a_row = 0
        self._refused = self._over = 0.0  # since when nothing else came, and until when nothing is to be asked
        self._status = 0
        self._free = not per_second
        self._lock = Lock()
        self.slowed: Callable[[], object] | None = None

    def wait(self) -> float:
        """Waits for this request's turn; returns when that was, for `too_much`."""
        if self._free:
            return time.monotonic()
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self.sleep(turn - now)
        return turn

    def answered(self) -> None:
        """An answer that was no refusal: a little faster again."""
        if self._free:
            return
        with self._lock:
            self._in_a_row = 0
            self._interval = max(self._interval * 0.98, self._shortest)
            if self._interval < _FIRST / 2 and not self._shortest:
                self._interval, self._free = 0.0, True

    def too_much(self, answer: Answer, sent: float, tries: int) -> bool:
        """Whether a request that was sent then and refused may be sent again, in its turn: it was not too often."""
        if answer.status not in TOO_MUCH:
            self.answered()
            return False
        slowed, self.slowed = self.slowed, None
        if slowed:
            slowed()
        asked = _seconds(answer.headers.get("Retry-After"))
        with self._lock:
            now = time.monotonic()
            self._free = False
            self._refused = self._refused if self._in_a_row else now
            if sent >= self._slowed:  # what was sent before knew nothing of the slower pace
                self._slowed = now
                self._interval = min(max(self._interval * 1.5, _FIRST), _LONGEST)
                pause = _PAUSE * 2 ** min(self._in_a_row, 5) if asked is None else asked
                self._next = max(self._next, now + min(pause, _LONGEST_PAUSE))
                self._in_a_row += 1
            if max(self._next, now) - self._refused > PUT_OFF:
                self._over, self._status = now + _LONGEST_PAUSE, answer.status
                return False
        return tries < PATIENCE

    @property
    def refuses(self) -> int:
        """The status (0: none) of what was refused for so long that for a minute nothing more is to be asked."""
        return self._status if time.monotonic() < self._over else 0

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header: seconds, or a date (RFC 9110, 10.2.3); None for anything else."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
