"""Labels and annotations as the tables have them."""

import json

_MOST = 64 * 1024  # characters


def as_labels(found: dict[str, str] | None) -> str | None:
    """A JSON object of texts; None where there are none, or too much of them."""
    if not found:
        return None
    clean = {_storable(name): _storable(value) for name, value in found.items()}
    text = json.dumps(clean, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text if len(text) <= _MOST else None


def _storable(text: str) -> str:
    """What each engine reads: half a surrogate pair is no text for either, and SQLite ends one at NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
