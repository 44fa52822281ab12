"""What moves while a notebook runs: a bar on a terminal, else a plain line now and then; all on stderr."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from regdata.sources.progress import FILE_VARIABLE, Progress, read

TERMINAL = 0.5  # seconds between two looks
SOON, PLAIN = 2.0, 10.0  # seconds between two plain lines: of two stages, of one; a run that is shorter has none


class Ticker(threading.Thread):
    """Shows how far a kernel is, as long as the block lasts; the kernel is told where to say it by the environment."""

    def __init__(self, first: str = "starting") -> None:
        super().__init__(daemon=True)
        self._first = first  # what is said before the kernel says anything
        self._over = threading.Event()
        self._began = time.monotonic()
        self._file: Path | None = None
        self._bar: tqdm[None] | None = None
        self._stage, self._said = "", self._began
        self._width = shutil.get_terminal_size().columns - 1  # tqdm draws nothing where the terminal does not know it

    def __enter__(self) -> None:
        with suppress(OSError):  # a full disk is what a clean-up is there for
            self._file = Path(tempfile.mkdtemp(prefix="regdata-"), "progress.json")
            os.environ[FILE_VARIABLE] = str(self._file)
        self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()
        os.environ.pop(FILE_VARIABLE, None)
        if self._file:
            shutil.rmtree(self._file.parent, ignore_errors=True)

    def run(self) -> None:
        show = self._draw if sys.stderr.isatty() else self._say
        show(Progress(self._first))
        while not self._over.wait(TERMINAL):
            show((self._file and read(self._file)) or Progress(self._stage or self._first))
        if self._bar is not None:
            self._bar.close()

    def _draw(self, how_far: Progress) -> None:
        """A bar where it is known of how many; it is drawn anew each time, since its seconds go on."""
        name = f"{how_far.stage} {how_far.unit}".rstrip()
        if self._bar is None or name != self._stage or self._bar.total != (how_far.total or None):
            if self._bar is not None:
                self._bar.close()
            with_total = "{desc}: {percentage:3.0f}%|{bar}| {n:,}/{total:,} [{elapsed}<{remaining}{postfix}]"
            form = with_total if how_far.total else "{desc} [{elapsed}{postfix}]"
            self._bar = tqdm(
                total=how_far.total or None, desc=name, leave=False, bar_format=form, ncols=self._width, nrows=2
            )
        self._stage = name
        self._bar.n = how_far.done
        self._bar.set_postfix_str(f"{how_far.requests:,} requests" if how_far.requests else "", refresh=False)
        self._bar.refresh()

    def _say(self, how_far: Progress) -> None:
        """A line for each stage of a run that lasts, and after some seconds another."""
        passed = time.monotonic()
        if passed - self._said >= (PLAIN if how_far.stage == self._stage or not self._stage else SOON):
            print(f"[{passed - self._began:3.0f} s] {how_far}", file=sys.stderr, flush=True)
            self._stage, self._said = how_far.stage, passed
