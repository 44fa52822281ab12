"""Manifests' bytes that a collection takes and that have to be in the store while the registry is not restarted.

A running registry's cache knows them by their digest: the very same manifest pushed again would be answered 201, not be
stored, and not be found. No call clears that; with the bytes in place the push is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from regdata.sources.aside import Aside, Batch
from regdata.sources.paths import blob_path
from regdata.sources.storage import Storage


class Twins:
    """Second names of blobs, outside what is collected; ``back``: which are in their place again."""

    def __init__(self, batch: Batch | None, digests: Sequence[str]) -> None:
        self._batch, self._digests = batch, digests
        self.back: frozenset[str] = frozenset()
        self.stays = False

    def put_back(self) -> None:
        """Where the bytes are gone, gives them back."""
        if self._batch:
            self.back |= {digest for digest in self._digests if self._batch.give_back(blob_path(digest))}

    def stay(self) -> None:
        """Leaves it to the next run to look whether what was put back, or never taken, has gone meanwhile."""
        if self._batch:
            self.stays = True
            for digest in self._digests:
                self._batch.twin(blob_path(digest))


@contextmanager
def twins_of(storage: Storage | None, run: str, digests: Sequence[str]) -> Iterator[Twins]:
    """Twins of these blobs, which go at the end; should this be killed, or have them stay, the next run puts them back.
    None without a store that can be changed."""
    if storage is None or not digests:
        yield Twins(None, digests)
        return
    aside = Aside(storage)
    aside.open(run)
    batch = aside.batch(run, 1)
    twins = Twins(batch, [digest for digest in digests if batch.twin(blob_path(digest))])
    try:
        yield twins
    except BaseException:
        twins.put_back()
        raise
    finally:
        if not twins.stays:
            batch.drop()
        aside.close()
