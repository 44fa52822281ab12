"""Numbers in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from regdata.show.words import percent, size


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        *((None, "not known"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB")),
        *((999_500, "1 MB"), (1_234_567, "1.23 MB"), (42_053_791, "42.1 MB"), (5 * 10**12, "5 TB")),
    ],
)
def test_sizes(number: int | None, shown: str) -> None:
    """Sizes have three digits and powers of 1000."""
    assert size(number) == shown


def test_shares_are_not_rounded_to_nothing() -> None:
    """What is there is never 0%."""
    assert [percent(*pair) for pair in ((0, 5), (0, 0), (1, 1000), (1, 3))] == ["0%", "0%", "under 1%", "33%"]


def test_size_needs_no_pandas() -> None:
    """clear.py takes `size` from here, and must not wait for pandas."""
    code = f"import sys, {size.__module__}; print(sorted({{'pandas', 'duckdb', 'matplotlib'}} & {{*sys.modules}}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
