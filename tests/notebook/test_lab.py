"""`make lab` in a real browser: the way from the start page to a condition in conf.json."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from regdata import demo
from tests.support.helpers import ROOT

# A loaded machine is slow; what is waited for comes in a second or two.
PATIENCE = 60_000  # milliseconds
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
# Cells out of sight are in the page, too; and no question about news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false"},
}


@pytest.fixture
def lab(tools: None, tmp_path: Path) -> Iterator[str]:
    """The address, with its token, of `make lab` in a folder of its own."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for name, value in SETTINGS.items():
        path = tmp_path / "config/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    with (tmp_path / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", demo.__name__, "lab"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | own | {"IPYTHONDIR": str(tmp_path / "ipython")},
        )
    try:
        server = _server(process, tmp_path / "runtime")
        yield f"{server['url']}?token={server['token']}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _server(process: subprocess.Popen[bytes], runtime: Path) -> dict[str, Any]:
    """What Jupyter writes of itself into its runtime folder once it answers."""
    deadline = time.monotonic() + 2 * PATIENCE / 1000
    while time.monotonic() < deadline and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                server: dict[str, Any] = json.loads(file.read_text())
            except ValueError:  # half written
                continue
            return server
        time.sleep(0.05)
    raise AssertionError((runtime.parent / "lab.log").read_text(errors="replace"))


@pytest.fixture
def page(chromium: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a real browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        tab = browser.new_page(viewport={"width": 1500, "height": 1300})
        tab.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield tab
        browser.close()


def test_a_condition_from_typing_to_conf_json(lab: str, page: Page, tmp_path: Path) -> None:
    """From the start page to conditions.ipynb: what is typed is shown at once, errors as well, and can be saved."""
    page.goto(lab)
    page.get_by_role("link", name="conditions.ipynb").click()
    _run_all(page)

    tags = page.locator(".dt-container").first
    expect(tags.locator("tbody tr")).to_have_count(10)
    tags.locator("input[type=search]").fill("prod-api")
    expect(tags.locator("tbody tr").first).to_contain_text("prod-api")
    size = tags.get_by_role("columnheader", name="tag_size")
    size.get_by_role("button").click()
    expect(size).to_have_attribute("aria-sort", "ascending")
    expect(tags.locator("tbody tr").first).to_contain_text(re.compile(r"\d [kM]?B"))

    preview = page.locator(".regdata-preview")
    typing = page.locator(".regdata-condition textarea")
    expect(typing).to_have_value("age_days > 90")
    before = _headline(preview)

    typing.fill("tag_name != 'stable' and newest_r")
    page.locator(".regdata-hints").get_by_role("button", name="newest_rank").click()
    expect(typing).to_have_value("tag_name != 'stable' and newest_rank ")
    typing.fill("newest_rank > 10 and tag_name != 'stable'")
    expect(preview).not_to_contain_text(before)
    expect(preview).to_contain_text("tags selected")
    after = _headline(preview)
    assert after.split(" selected")[0] != before.split(" selected")[0]
    assert after.split(", ")[1] != before.split(", ")[1]

    typing.fill("newest_ranck > 10")
    expect(preview).to_contain_text('Referenced column "newest_ranck" not found')
    expect(preview).to_contain_text("Columns of images: id, image_name, tag_name")
    page.locator(".regdata-name input").fill("wrong")
    page.get_by_role("button", name="Add to conf.json").click()
    saved = page.locator(".regdata-saved")
    expect(saved).to_contain_text("Not added")

    typing.fill("newest_rank > 10 and tag_name != 'stable'")
    expect(preview).to_contain_text(after)
    page.locator(".regdata-name input").fill("old_builds")
    page.get_by_role("button", name="Add to conf.json").click()
    expect(saved).to_contain_text("old_builds is in")

    conditions = json.loads((tmp_path / "demo/conf.json").read_text())["sql"]
    assert list(conditions.items())[-1] == ("old_builds", "newest_rank > 10 and tag_name != 'stable'")
    assert "wrong" not in conditions


def _run_all(page: Page) -> None:
    # What is sent to a kernel that is not there yet is dropped without a word.
    status = page.get_by_role("contentinfo", name="Bottom Panel")
    expect(status).to_contain_text("conditions.ipynb")
    expect(status).to_contain_text("Python 3 (ipykernel) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    expect(page.locator(".regdata-preview")).to_contain_text("would be freed")


def _headline(preview: Locator) -> str:
    """Such as "52 tags selected, 33.6 MB would be freed"."""
    found = re.search(r"[\d,]+ tags? selected, [\d.]+ [kMG]?B would be freed", preview.inner_text())
    assert found, preview.inner_text()
    return found[0]
