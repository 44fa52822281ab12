"""Frames in a notebook, as a kernel shows them to somebody and to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from regdata.notebook import tables

WIDGET = "application/vnd.jupyter.widget-view+json"
FRAME = """pd.DataFrame({
    "image_name": ["a<b", "c"], "tag_size": pd.array([1500000, None], dtype="Int64"),
    "pushed": pd.array([1750000000, None], dtype="Int64"), "age_days": [1.23456, None], "in_use": [True, False],
})"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[BlockingKernelClient]:
    """One that has been told to show frames as tables."""
    manager, client = start_new_kernel()
    client.execute_interactive(
        "import pandas as pd\nfrom regdata.notebook import tables\ntables.interactive()",
        allow_stdin=False,
        output_hook=lambda message: None,
        timeout=120,
    )
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def shown(kernel: BlockingKernelClient, code: str, *, attended: bool) -> dict[str, Any]:
    """What a cell shows, by media type."""
    found: list[dict[str, Any]] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("execute_result", "error"):
            found.append(message["content"].get("data", message["content"]))

    kernel.execute_interactive(code, allow_stdin=attended, output_hook=keep, timeout=120)
    (data,) = found
    return data


@pytest.mark.parametrize("attended", [True, False])
def test_a_frame(kernel: BlockingKernelClient, *, attended: bool) -> None:
    """It is a table to work with for whoever is there, and rows in words for all others."""
    data = shown(kernel, FRAME, attended=attended)
    assert (WIDGET in data) is attended
    assert "<script" not in data["text/html"]
    for said in ("a&lt;b", "1.5 MB", "2025-06-15 15:06", "1.23", "yes", "unknown"):
        assert said in data["text/html"]
    assert "1500000" in data["text/plain"]


def test_no_rows(kernel: BlockingKernelClient) -> None:
    """An empty frame says so."""
    data = shown(kernel, f"{FRAME}.head(0)", attended=True)
    assert "None." in data["text/html"]
    assert WIDGET not in data


@pytest.mark.parametrize("attended", [True, False])
def test_behind_a_chart(kernel: BlockingKernelClient, *, attended: bool) -> None:
    """Where nobody works with it, it is folded."""
    data = shown(kernel, f"tables.Behind({FRAME})", attended=attended)
    assert (WIDGET in data) is attended
    assert "<details><summary>The table behind it, 2 rows</summary>" in data["text/html"]


def test_behind_an_empty_chart() -> None:
    """Where there is nothing the chart has said so, and no table does once more."""
    assert tables.Behind(pd.DataFrame({"bytes": []}))._repr_mimebundle_() == {"text/plain": ""}
