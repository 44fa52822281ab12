"""How far a run is: counted where the work is done, looked at again and again by whoever shows it.

One for the process, since it is only for the eye: nothing is decided by it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

# Set by the console scripts: the file in which a notebook's kernel says how far it is.
FILE_VARIABLE = "REGDATA_PROGRESS"
INTERVAL = 0.5  # seconds between two looks

Tell = Callable[[str], None]


@dataclass
class Progress:
    """What is being done, and of how many (0: nobody knows) how much is done; the requests of the whole run; ``how``:
    what is to be known of this stage."""

    stage: str = "starting"
    unit: str = ""
    done: int = 0
    total: int = 0
    requests: int = 0
    how: str = ""

    def begin(self, stage: str, unit: str = "", total: int = 0) -> None:
        """Another piece of work begins."""
        self.how = self.how if stage == self.stage else ""
        self.stage, self.unit, self.done, self.total = stage, unit, 0, total

    def step(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number

    def __str__(self) -> str:
        counted = f": {self.done:,} of {self.total:,} {self.unit}" if self.total else ""
        asked = f", {self.requests:,} requests so far" if self.requests else ""
        return f"{self.stage}{self.how}{counted}{asked}"


now = Progress()


def read(file: Path) -> Progress | None:
    """What another process said in a file; None where that can't be read, for instance while it is written."""
    try:
        return Progress(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def watched(tell: Tell | None) -> Iterator[None]:
    """While it lasts ``tell`` hears how far it is, and at its end an empty text; so does the file of FILE_VARIABLE."""
    file = os.environ.get(FILE_VARIABLE)
    if not (tell or file):
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(INTERVAL):
            _say(Path(file) if file else None, tell)

    _say(Path(file) if file else None, tell)
    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if tell:
            tell("")


def _say(file: Path | None, tell: Tell | None) -> None:
    if file:
        with suppress(OSError):
            file.write_text(json.dumps(asdict(now)))
    if tell:
        tell(str(now))
