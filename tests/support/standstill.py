"""Whether the machine stood still: where a virtual one is paused all deadlines pass at once, whatever the code does."""

from __future__ import annotations

import threading
import time

# Seconds between two looks at the clock, and by how many one is late where the machine stands still, not only busy.
TICK, LATE = 1.0, 4.0


class Watch:
    """Looks at the clock all the time, beside the tests of this process."""

    def __init__(self) -> None:
        self._stood, self._began, self._last = 0.0, 0.0, time.monotonic()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self._tick()
            time.sleep(TICK)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last > TICK + LATE:
            self._stood = now
        self._last = now

    def begin(self) -> None:
        """A test begins now."""
        self._began = time.monotonic()

    def stood(self) -> bool:
        """Whether the machine stood still since the test began."""
        self._tick()
        return self._stood > self._began
