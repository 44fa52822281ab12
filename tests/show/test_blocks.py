"""Blocks, as HTML and as text."""

from __future__ import annotations

import pandas as pd

from regdata.show import blocks


def test_a_frame_is_shown() -> None:
    """A frame has sizes, shortened names and an end."""
    frame = pd.DataFrame({"tag_name": ["x" * 100] * 1001, "tag_size": pd.array([1500] * 1000 + [None], dtype="Int64")})
    lines = str(blocks.frame(frame)).splitlines()
    assert lines[0].split() == ["tag", "name", "tag", "size"]
    assert lines[1] == f"{'x' * 19}…{'x' * 20}    1.5 kB"
    assert lines[-1] == "… and 1 more."
    assert str(blocks.frame(frame.head(0))) == "None."
