"""What is made at its first use, and then kept."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """Keeps what was made under a name; a thread that asks for what another one makes waits for it.

    A copy keeps nothing: what was made may be a connection, or stand for the original.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._locks: dict[str, RLock] = {}

    def __call__(self, name: str, make: Callable[[], T]) -> T:
        """What was made under ``name``, else what ``make`` makes."""
        with self._locks.setdefault(name, RLock()):
            if name not in self._made:
                self._made[name] = make()
            found: T = self._made[name]
            return found

    def __reduce__(self) -> tuple[type[Once], tuple[()]]:
        return Once, ()
