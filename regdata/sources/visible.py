"""Files of ours that are looked for: that there is none is known only of a folder that may be looked at."""

from __future__ import annotations

import os
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path

from regdata.errors import StorageError


def check_visible(folder: Path) -> None:
    """Raises StorageError for a folder that is there and may not be looked at: that nothing was found in it says
    nothing."""
    try:
        with os.scandir(folder):
            os.stat(folder / ".")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise StorageError(
            f"{folder} can't be looked at ({error.strerror}), so that what it holds is not known: have its owner let "
            f"user {os.geteuid()} read it, or run as somebody who may"
        ) from None


def matching(pattern: str | Path) -> list[Path]:
    """The file that is called so, else those that a glob matches. Raises StorageError where none is found in a folder
    that may not be looked at."""
    said = str(pattern)
    if os.path.lexists(said) or not has_magic(said):
        return [Path(said)]
    found = sorted(map(Path, glob(said, recursive=True)))
    if not found:
        check_visible(Path(*takewhile(lambda part: not has_magic(part), Path(said).parts)))
    return found
