"""Ctrl-C, where what has begun must come to its end first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held_back() -> Iterator[Callable[[], bool]]:
    """Raises KeyboardInterrupt at the end, however often it is asked for: no collection is left half-way, and gc-after
    does not start beside one. Gives what tells whether it was."""
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield lambda: bool(held)
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
