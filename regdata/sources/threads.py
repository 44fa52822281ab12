"""Many things at once, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# What waits in a pool takes two kilobytes each, and there may be millions.
AHEAD = 1000


def each(pool: Executor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """As pool.map, but no more than `AHEAD` are handed over before what they come to is taken."""
    handed: deque[Future[R]] = deque()
    try:
        for item in items:
            handed.append(pool.submit(function, item))
            if len(handed) >= AHEAD:
                yield handed.popleft().result()
        while handed:
            yield handed.popleft().result()
    finally:
        for future in handed:
            future.cancel()
