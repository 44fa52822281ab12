"""Files of ours that are looked for: that there is none is known only of a folder that may be looked at."""

from __future__ import annotations

import os
from glob import escape, glob, has_magic
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
            f"user {os.geteuid()} read it, run as somebody who may, or say what leaves it out"
        ) from None


def matching(pattern: str | Path) -> list[Path]:
    """The file that is called so, else those that a glob matches. Raises StorageError for a folder on its way that may
    not be looked at."""
    path = Path(pattern)
    if os.path.lexists(path) or not has_magic(str(path)):
        return [path]
    _check_way(Path(path.anchor), [*path.relative_to(path.anchor).parts])
    return sorted(map(Path, glob(str(path), recursive=True)))


def _check_way(folder: Path, parts: list[str]) -> None:
    """Looks at every folder in which a glob looks for these parts of it."""
    for number, part in enumerate(parts):
        if not has_magic(part):
            folder /= part
            continue
        check_visible(folder)
        if part == "**":
            for _ in os.walk(folder, onerror=_closed):
                pass
        elif number + 1 < len(parts):
            for below in glob(str(Path(escape(str(folder))) / part)):
                if os.path.isdir(below):
                    _check_way(Path(below), parts[number + 1 :])
        return
    try:
        os.lstat(folder)
    except PermissionError:
        check_visible(folder.parent)
    except OSError:
        return


def _closed(error: OSError) -> None:
    check_visible(Path(os.fsdecode(error.filename)))
