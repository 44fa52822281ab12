"""Clean-ups beside pushes, for a while: whatever was accepted is whole at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.soak import soak


@pytest.mark.long
@pytest.mark.parametrize(("how", "runs"), [("own", 1), ("later", 2), ("gc-command", 1)])
def test_soak(tools: None, tmp_path: Path, how: str, runs: int) -> None:
    """Clients push images that share layers, indexes and referrers, mount, upload slowly, are stopped and continued;
    clean-ups delete and collect all the while: nothing that was accepted is broken, and each run ends well."""
    outcome = soak(tmp_path, runs, how=how)
    assert (outcome.broken, outcome.errors) == ([], [])
    assert outcome.accepted > 35
    assert outcome.gone > 0
    assert outcome.freed > 0
