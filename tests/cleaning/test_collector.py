"""Random stores of a real registry, really collected: what stays pulls whole, the bytes are those predicted."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from regdata.demo.local import LocalRegistry
from tests.support.randomly import check

STORES = 6
COLLECTORS: dict[str, Any] = {"the registry's own": None, "regdata": {}, "regdata, kept for a week": {"trash_days": 7}}


@pytest.mark.parametrize(("seed", "collector"), [*zip(range(STORES), cycle(COLLECTORS), strict=False)])
def test_what_stays_pulls_whole_and_the_bytes_are_those_predicted(
    seed: int, collector: str, registry: LocalRegistry, tmp_path: Path
) -> None:
    """After a clean-up each tag that stays pulls as before, the store is smaller by what was said, and what is kept
    comes back."""
    more = COLLECTORS[collector]
    check(seed, registry, tmp_path, **({"gc-command": registry.gc_command} if more is None else more))
