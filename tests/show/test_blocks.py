"""Blocks, as HTML and as text."""

from __future__ import annotations

import pandas as pd

from regdata.show import blocks


def test_a_frame_is_shown() -> None:
    """A frame has sizes, shortened names and an end."""
    frame = pd.DataFrame({"tag_name": ["x" * 100] * 101, "tag_size": pd.array([1500] * 100 + [None], dtype="Int64")})
    lines = str(blocks.frame(frame)).splitlines()
    assert lines[0].split() == ["tag", "name", "tag", "size"]
    assert lines[1] == f"{'x' * 19}…{'x' * 20}    1.5 kB"
    assert lines[-1] == "… and 1 more."
    assert str(blocks.frame(frame.head(0))) == "None."


def test_what_was_not_there_is_not_unknown() -> None:
    """Of two times, a size that was not there at one of them is left out; what is there is a size."""
    frame = pd.DataFrame(
        {"size_before": pd.array([1500], "Int64"), "size_after": pd.array([None], "Int64"), "age": [None]}
    )
    assert str(blocks.frame(frame)).splitlines()[1].split() == ["1.5", "kB", "unknown"]


def test_others_do_not_squeeze_the_rest() -> None:
    """What would dwarf the bars beside it has none."""
    bars = blocks.Bars("What goes", [("a", 100, ""), ("b", 50, ""), ("other (9)", 900, "")])
    assert [line.count("█") for line in bars.text().splitlines()[1:]] == [30, 15, 0]
    assert bars.html().count("calc(0.0000") == 1
    assert blocks.Bars("", [("a", 100, ""), ("other (9)", 90, "")]).text().count("█") == 57
