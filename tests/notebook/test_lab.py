"""JupyterLab in a real browser: the way from a registry's address to a report, in the dark."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, expect, sync_playwright

from regdata import demo
from regdata.command import main as program
from regdata.demo.local import LocalRegistry
from regdata.notebook.drawing import POINTS
from tests.support.helpers import ROOT, complaints, store_bytes, store_tags

# A loaded machine is slow; what is waited for comes in a second or two.
PATIENCE = 60_000  # milliseconds
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
# Cells out of sight are in the page, too; no question about news; and the dark theme.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false"},
    "apputils-extension/themes": {"theme": "JupyterLab Dark"},
}
# What is large enough to be seen, and nearly white behind its words.
GLARING = """() => [...document.querySelectorAll('main *, .jp-Notebook *, body')].filter(one => {
    const [red, green, blue, alpha = 1] = getComputedStyle(one).backgroundColor.match(/[\\d.]+/g).map(Number);
    const box = one.getBoundingClientRect();
    return alpha > 0.5 && Math.min(red, green, blue) > 200 && box.width * box.height > 400;
}).map(one => one.outerHTML.slice(0, 200))"""


@contextmanager
def jupyter(folder: Path, *command: str) -> Iterator[dict[str, Any]]:
    """The address and the token of a JupyterLab that ``command`` starts, with settings of its own."""
    for name, value in SETTINGS.items():
        path = folder / "config/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | own | {"IPYTHONDIR": str(folder / "ipython")},
        )
    try:
        yield _server(process, folder / "runtime")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _server(process: subprocess.Popen[bytes], runtime: Path) -> dict[str, Any]:
    """What Jupyter writes of itself into its runtime folder, once it answers."""
    deadline = time.monotonic() + 2 * PATIENCE / 1000
    while time.monotonic() < deadline and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                server: dict[str, Any] = json.loads(file.read_text())
                requests.get(f"{server['url']}api", timeout=PATIENCE / 1000)
            except (ValueError, requests.ConnectionError):  # half written, or not listening yet
                continue
            return server
        time.sleep(0.05)
    raise AssertionError((runtime.parent / "lab.log").read_text(errors="replace"))


@pytest.fixture
def page(chromium: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a real browser, whose reader likes the dark."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        tab = browser.new_page(viewport={"width": 1500, "height": 1300}, color_scheme="dark")
        tab.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield tab
        browser.close()


def test_make_lab(filled_folder: Path, tmp_path: Path) -> None:
    """`make lab` shows the notebooks of the checkout, which are not copied."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(filled_folder / "store", tmp_path / "demo/store")
    (tmp_path / "demo/filled").touch()
    with jupyter(tmp_path, demo.__name__, "lab") as server:
        answer = requests.get(f"{server['url']}api/contents", params={"token": server["token"]}, timeout=60)
        names = {one["name"] for one in answer.json()["content"]}
    assert names == {path.name for path in (ROOT / "notebooks").iterdir() if path.is_file()}
    assert not (tmp_path / "demo/notebooks").exists()


@pytest.mark.long
def test_from_an_address_to_a_report(demo_registry: LocalRegistry, page: Page, tmp_path: Path) -> None:
    """init, lab, a condition chosen, typed, completed and saved, a clean-up that lists, the report: nothing glares,
    and nothing is changed in the registry."""
    before = store_tags(demo_registry.base_path), store_bytes(demo_registry.base_path)
    done = _regdata("init", demo_registry.url, str(demo_registry.base_path)).communicate(timeout=60)
    assert "written" in done[0]
    with jupyter(tmp_path, program.__name__, "lab", "--no-browser") as server:
        page.goto(f"{server['url']}?token={server['token']}")
        page.get_by_role("link", name="conditions.ipynb").click()
        _run_all(page, "conditions.ipynb", page.locator(".regdata-preview"), "would be freed")
        _the_tags_are_a_table(page)
        _a_condition_gets_into_conf_json(page, tmp_path / "conf.json")
        assert page.evaluate(GLARING) == []

        reporting = _regdata("list", "old_builds")
        page.goto(f"{server['url']}lab/tree/delete.ipynb?token={server['token']}")
        notebook = page.locator(".jp-Notebook:visible")
        _run_all(page, "delete.ipynb", notebook, "The record is in")
        expect(notebook).to_contain_text("sql_id is none, which stands for no clean-up")
        assert page.evaluate(GLARING) == []
    said, errors = reporting.communicate(timeout=240)
    assert (reporting.returncode, complaints(errors)) == (0, "")
    _a_page_reads_everywhere(page, tmp_path / said.splitlines()[-1].removeprefix("report").strip())
    assert (store_tags(demo_registry.base_path), store_bytes(demo_registry.base_path)) == before


def _regdata(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", program.__name__, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _the_tags_are_a_table(page: Page) -> None:
    tags = page.locator(".dt-container").first
    expect(tags.locator("tbody tr")).to_have_count(10)
    tags.locator("input[type=search]").fill("prod-api")
    expect(tags.locator("tbody tr").first).to_contain_text("prod-api")
    size = tags.get_by_role("columnheader", name="tag_size")
    size.get_by_role("button").click()
    expect(size).to_have_attribute("aria-sort", "ascending")
    expect(tags.locator("tbody tr").first).to_contain_text(re.compile(r"\d [kM]?B"))


def _a_condition_gets_into_conf_json(page: Page, conf: Path) -> None:
    preview = page.locator(".regdata-preview")
    typing = page.locator(".regdata-condition textarea")
    expect(typing).to_have_value("age_days > 90")
    before = _headline(preview)
    page.locator(".regdata-choice select").select_option("old")
    expect(typing).to_have_value("age_days > 90 and family_rank > 10")
    expect(preview).not_to_contain_text(before)
    chosen = _headline(preview)

    typing.fill("tag_name != 'stable' and newest_r")
    page.locator(".regdata-hints").get_by_role("button", name="newest_rank").click()
    expect(typing).to_have_value("tag_name != 'stable' and newest_rank ")
    typing.fill("newest_rank > 10 and tag_name != 'stable'")
    expect(preview).not_to_contain_text(chosen)
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
    conditions = json.loads(conf.read_text())["sql"]
    assert list(conditions.items())[-1] == ("old_builds", "newest_rank > 10 and tag_name != 'stable'")
    assert "wrong" not in conditions


def _a_page_reads_everywhere(page: Page, report: Path) -> None:
    """In the dark nothing is white; on a phone only tables go on to the right, and charts can be read; in print
    nothing is cut off."""
    page.goto(report.as_uri())
    assert page.evaluate(GLARING) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    smaller = page.evaluate("Math.min(...[...document.images].map(one => one.width / one.naturalWidth))")
    assert smaller * 192 * POINTS / 72 >= 10  # pixels of a letter; a notebook's pictures have 192 an inch
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 800})  # A4 between its margins
    assert page.evaluate("Math.max(...[...document.querySelectorAll('main *')].map(one => one.scrollWidth))") <= 680
    assert page.evaluate("Math.max(...[...document.images].map(one => one.width))") < 480  # none is made larger


def _run_all(page: Page, name: str, where: Locator, last: str) -> None:
    # What is sent to a kernel that is not there yet is dropped without a word.
    status = page.get_by_role("contentinfo", name="Bottom Panel")
    expect(status).to_contain_text(name)
    expect(status).to_contain_text("Python 3 (ipykernel) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    expect(where).to_contain_text(last)


def _headline(preview: Locator) -> str:
    """Such as "52 tags selected, 33.6 MB would be freed"."""
    found = re.search(r"[\d,]+ tags? selected, [\d.]+ [kMG]?B would be freed", preview.inner_text())
    assert found, preview.inner_text()
    return found[0]
