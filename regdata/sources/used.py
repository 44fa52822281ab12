"""What was of use until a manifest was deleted: it is no push in flight, however young."""

from __future__ import annotations

from regdata.sources.dates import is_before
from regdata.sources.source import Store
from regdata.sources.watch import digests_in


class Used:
    """What the deleted manifests of an image mention: that was of use until the last of them went."""

    def __init__(self, store: Store, image: str) -> None:
        self.until: dict[str, int] = {}
        for manifest, date in store.deleted(image).items():
            for digest in digests_in(store.content(manifest) or b""):
                self.until[digest] = max(date, self.until.get(digest, 0))

    def has(self, digest: str, date: int) -> bool:
        """Whether a manifest used what came on that date (UTC epoch seconds); not what came anew since it went."""
        return is_before(date, self.until.get(digest, -1) + 1)
