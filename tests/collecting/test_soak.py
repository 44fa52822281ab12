"""Clean-ups beside pushes, for a while: whatever was accepted is whole at the end."""

from __future__ import annotations

from pathlib import Path

from tests.support.soak import soak


def test_soak(tools: None, tmp_path: Path) -> None:
    """Clients push images that share layers, indexes and referrers, mount, upload slowly, are stopped and continued;
    clean-ups delete and collect all the while: nothing that was accepted is broken, and each run ends well."""
    outcome = soak(tmp_path, 20)
    assert (outcome.broken, outcome.errors) == ([], [])
    assert outcome.accepted > 50
    assert outcome.runs > 1
    assert outcome.gone > 0
    assert outcome.freed > 0
