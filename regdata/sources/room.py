"""Whether a disk has room for what a registry is tried out with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regdata.errors import AccessError, CleanupError, RegistryError
from regdata.sources.source import Store

ENOUGH = 1 << 20  # bytes


@contextmanager
def told_if_full(store: Store) -> Iterator[None]:
    """Something is uploaded to try the registry out: an error that a full disk explains is a CleanupError that says
    so."""
    try:
        yield
    except AccessError:
        raise
    except RegistryError as error:
        usage = store.disk()
        if usage.free >= ENOUGH and usage.inodes:
            raise
        raise CleanupError(
            f"the disk of {store.base} is full ({usage.free:,} bytes and {usage.inodes:,} inodes are free), so the "
            "registry takes no upload, by which regdata tries out whether it is safe to delete; nothing was deleted: "
            f"free some MB there (logs, old files in _uploads), then run again. The registry said: {error}"
        ) from None
