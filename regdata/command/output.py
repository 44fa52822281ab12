"""Where a console script prints: what can't be printed any more changes nothing of what it does, nor its exit code."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from regdata.errors import StorageError
from regdata.plain import plain


class Tolerant:
    """A stream whose reader may go away, and whose disk may be full: then nothing more is written."""

    def __init__(self, stream: TextIO, shown: Callable[[str], str] = str) -> None:
        """``shown``: what is made of a text before it is written."""
        self._stream, self._shown = stream, shown
        self.lost = ""  # why something could not be written, but for a reader who went away

    def write(self, text: str) -> int:
        """Writes what can be written; what the terminal has no letters for is replaced."""
        shown = self._shown(text)
        with self._closed_on_error():
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                self._stream.write(shown.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flushes, if that can be done."""
        with self._closed_on_error():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it is closed
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                self.lost = self.lost or str(error.strerror)
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())  # what is left in its buffer goes there at the end
                os.close(nowhere)


@contextmanager
def tolerant_output() -> Iterator[Tolerant]:
    """stdout, which is given, and stderr as Tolerant ones; nothing on stdout steers the terminal (progress on stderr
    does)."""
    before = sys.stdout, sys.stderr
    ours = Tolerant(_open(sys.stdout), plain), Tolerant(_open(sys.stderr))
    sys.stdout, sys.stderr = ours
    try:
        yield ours[0]
    finally:
        for stream in ours:
            stream.flush()
        sys.stdout, sys.stderr = before


def _open(stream: TextIO | None) -> TextIO:
    """The stream; of one that was closed (`>&-`) nowhere, in its place, where kernels and commands find it, too."""
    if stream:
        return stream
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(nowhere, True)
    return os.fdopen(nowhere, "w")


def check_place(file: Path, cure: str) -> None:
    """Raises StorageError where ``file`` can't be written: before anything else is done."""
    folder = file.absolute().parent
    if file.is_dir() or not (folder.is_dir() and os.access(file if file.exists() else folder, os.W_OK)):
        why = "can't be written (no permission)" if folder.is_dir() else "has no folder"
        raise StorageError(f"{file} {'is a folder' if file.is_dir() else why}: {cure}")


def have_home() -> None:
    """Gives a user without a home one: Jupyter, which a notebook needs, takes it that everybody has."""
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir()) / f"regdata-{os.getuid()}"
        home.mkdir(0o700, exist_ok=True)
        os.environ["HOME"] = str(home)
