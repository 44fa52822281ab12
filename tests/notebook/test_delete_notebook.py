"""delete.ipynb through papermill as people call it, and clear.py: exit codes, what is left behind, what is shown."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from regdata.demo.local import LocalRegistry
from tests.support.helpers import ROOT, complaints, listing, store_bytes, store_tags

Conf = Callable[..., Path]
Call = Callable[..., subprocess.CompletedProcess[str]]

# What design says of record.json; more may be in it.
PROMISED = {
    "registry",
    "sql_id",
    "action",
    "tags_selected",
    "tags_deleted",
    "tags_untagged",
    "tags_kept",
    "manifests_deleted",
    "orphans_deleted",
    "bytes_predicted",
    "bytes_freed",
    "errors",
}


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """`call(program, *arguments, folder=…)` runs a console script where notebooks/ and conf.json are."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "reports").mkdir()

    def run(program: str, *arguments: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=tmp_path / folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def record_of(folder: Path) -> dict[str, Any]:
    """The only run's record, besides what it must always hold."""
    (path,) = folder.glob("reports/*/record.json")
    record: dict[str, Any] = json.loads(path.read_text())
    assert record.keys() >= PROMISED
    assert {"started", "finished", "user", "conf_digest", "condition", "engine", "gc_command"} <= record.keys()
    return record


def opening(notebook: Path) -> str:
    """What the first output of an executed notebook says."""
    outputs = (output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", []))
    said: str = next(outputs).data["text/plain"]
    return said


def shown(notebook: Path) -> str:
    """What an executed notebook shows, as text: of each output what is seen of it."""
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return "\n".join(
        "\n".join(o.traceback) if "traceback" in o else o.get("data", {}).get("text/plain", "") for o in outputs
    )


def selected(name: str) -> bool:
    """What `autobuild` of the demo selects."""
    return "prod" in name.split(":")[0] and not name.endswith(":latest")


def plain(page: Path) -> str:
    """The text of a page, without its tags."""
    body = page.read_text("utf-8").partition("<body>")[2]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body)))


def first_screen(page: Path) -> str:
    """What one reads of a page before one scrolls."""
    return plain(page)[:2200]


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return complaints(done.stderr).strip().splitlines()[-1]


# The three ways to call it


def test_from_the_root(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """From the root, into reports/: the tags go, the bytes are the predicted ones, the record holds all of it."""
    conf(demo_registry)
    tags, before = store_tags(demo_registry.base_path), store_bytes(demo_registry.base_path)
    output = "reports/{pm[current_datetime_utc]:%Y%m%dT%H%M%SZ}-{sql_id}.ipynb"
    done = call("papermill", "notebooks/delete.ipynb", output, "-p", "sql_id", "autobuild")
    assert done.returncode == 0, done.stderr
    (notebook,) = (tmp_path / "reports").glob("*.ipynb")
    assert re.fullmatch(r"\d{8}T\d{6}Z-autobuild\.ipynb", notebook.name)
    nbformat.validate(nbformat.read(notebook, as_version=4))

    record = record_of(tmp_path)
    left = store_tags(demo_registry.base_path)
    gone = {name for name in tags if selected(name) and "sha256-" not in name}
    assert left.isdisjoint(gone)
    assert {name for name in tags - gone if "sha256-" not in name} <= left
    assert (record["sql_id"], record["action"], record["status"]) == ("autobuild", "del", "ok")
    assert record["errors"] == []
    assert record["tags_deleted"] + record["tags_untagged"] == len(tags) - len(left)
    assert record["orphans_deleted"] > 0
    assert before - store_bytes(demo_registry.base_path) == record["bytes_predicted"] == record["bytes_freed"] > 0
    assert record["condition"] == "image_name like '%prod%' and image_tag != 'latest'"
    said = opening(notebook)
    assert said.startswith("✓ As planned: ")
    assert record["user"] in said
    assert "SHA-256" in said
    assert (record["engine"], record["gc_exit_code"]) == ("duckdb", 0)

    (folder,) = (path.parent for path in tmp_path.glob("reports/*/record.json"))
    plan = pd.read_parquet(folder / "plan.parquet")
    assert list(plan.columns) == ["image_name", "tag_name", "tag_hash", "tag_size", "action", "reason", "pushed"]
    assert int(plan["tag_name"].isna().sum()) == record["manifests_deleted"]
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert (journal[0]["event"], journal[-1]["event"]) == ("started", "finished")
    deleted = {event["digest"] for event in journal if event["event"] == "deleted"}
    assert deleted <= {path.name.replace("-", ":") for path in (folder / "manifests").iterdir()}
    assert not list(tmp_path.glob("**/*.tmp"))


def test_from_notebooks_without_collection(
    demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path
) -> None:
    """From notebooks/, with the nearest conf.json above; `-p gc False` deletes, and no byte is freed."""
    conf(demo_registry)
    before = store_bytes(demo_registry.base_path)
    done = call(
        "papermill", "delete.ipynb", "out.ipynb", "-p", "sql_id", "autobuild", "-p", "gc", "False", folder="notebooks"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "notebooks/out.ipynb").exists()
    record = record_of(tmp_path)
    assert (record["bytes_freed"], record["gc"]) == (None, False)
    assert record["bytes_predicted"] > 0
    assert record["tags_deleted"] > 0
    assert store_bytes(demo_registry.base_path) == before


def test_without_base_path(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """By the API alone the selected tags go where no other is on their digest; orphans stay, freed is unknown."""
    conf(demo_registry, registry={"url": demo_registry.url}, cache=False)
    tags = store_tags(demo_registry.base_path)
    done = call("papermill", "notebooks/delete.ipynb", "reports/out.ipynb", "-p", "sql_id", "autobuild")
    assert done.returncode == 0, last_line(done)
    record = record_of(tmp_path)
    gone = tags - store_tags(demo_registry.base_path)
    assert gone == {name for name in tags if selected(name)} & gone
    assert len(gone) == record["tags_deleted"] == record["tags_selected"] - record["tags_kept"] > 0
    assert (record["orphans_deleted"], record["bytes_freed"], record["errors"]) == (0, None, [])


def test_redirected_and_listed_only(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """Without an output path the notebook is on stdout; `-p action none` changes nothing at all, and still plans."""
    conf(demo_registry)
    before = listing(demo_registry.base_path)
    source = (tmp_path / "notebooks/delete.ipynb").read_bytes()
    done = call("papermill", "delete.ipynb", "-p", "sql_id", "autobuild", "-p", "action", "none", folder="notebooks")
    assert done.returncode == 0, done.stderr
    notebook = nbformat.reads(done.stdout, as_version=4)
    assert notebook.metadata.papermill.parameters == {"sql_id": "autobuild", "action": "none"}
    assert (tmp_path / "notebooks/delete.ipynb").read_bytes() == source
    assert listing(demo_registry.base_path) == before
    record = record_of(tmp_path)
    assert record["tags_selected"] > 0
    assert record["bytes_predicted"] > 0
    assert (record["tags_deleted"], record["manifests_deleted"], record["bytes_freed"]) == (0, 0, None)


def test_run_all_is_harmless(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """With the parameters as they stand nothing is changed, not even an orphan."""
    conf(demo_registry)
    before = listing(demo_registry.base_path)
    done = call("papermill", "notebooks/delete.ipynb", "out.ipynb")
    assert done.returncode == 0, done.stderr
    assert listing(demo_registry.base_path) == before
    record = record_of(tmp_path)
    assert (record["sql_id"], record["tags_selected"], record["status"]) == ("none", 0, "ok")


# What goes wrong


def test_a_wrong_parameter(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """It is one clear last line and exit code 1, before anything is touched; others are in test_run."""
    conf(demo_registry)
    before = listing(demo_registry.base_path)
    done = call("papermill", "notebooks/delete.ipynb", "out.ipynb", "-p", "sql_id", "autobuild", "-p", "gc", "false")
    assert done.returncode == 1
    assert last_line(done).startswith("ConfigError: gc is 'false' (str), but must be True or False"), done.stderr
    assert opening(tmp_path / "out.ipynb") == "✗ The run was not begun: nothing was deleted."
    assert shown(tmp_path / "out.ipynb").count(last_line(done)) == 1
    assert listing(demo_registry.base_path) == before
    assert list((tmp_path / "reports").iterdir()) == []


def test_registry_down(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """A run that fails half-way is one last line, exit code 1, and leaves its record."""
    conf(demo_registry)
    demo_registry.stop()
    done = call("papermill", "notebooks/delete.ipynb", "out.ipynb", "-p", "sql_id", "autobuild")
    assert done.returncode == 1
    assert re.match(
        r"RegistryError: GET http://127\.0\.0\.1:\d+/v2/: can't connect: Connection refused; ", last_line(done)
    )
    record = record_of(tmp_path)
    assert record["status"] == "failed"
    assert len(record["errors"]) == 1
    said = "✗ Refused: nothing was deleted.\nError: the cell that failed says what is wrong"
    assert opening(tmp_path / "out.ipynb").startswith(said)
    assert shown(tmp_path / "out.ipynb").count("can't connect") == 1
    assert ">refused<" in (tmp_path / "reports/index.html").read_text("utf-8")
    assert (record["tags_selected"], record["bytes_predicted"], record["bytes_freed"]) == (0, 0, None)


# clear.py


def test_clear_of_a_registry_that_is_down(call: Call, tmp_path: Path) -> None:
    """A registry that is down is one line, on stdout and stderr together; its page and notebook say so once."""
    conf = {"registry": {"url": "http://127.0.0.1:1"}, "sql": {"all": "1=1"}}
    (tmp_path / "conf.json").write_text(json.dumps(conf))
    done = call("clear.py", "all", "none")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = complaints(done.stderr).splitlines()
    said = "GET http://127.0.0.1:1/v2/: can't connect: Connection refused"
    assert line.startswith(f"clear.py: {said}; ")
    (page,) = tmp_path.glob("reports/*/delete.html")
    assert line.endswith(f" (report: {page})")
    assert plain(page).count("can't connect") == 1
    assert said in first_screen(page)
    assert shown(page.with_suffix(".ipynb")).count("can't connect") == 1


def test_clear(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """`clear.py autobuild none` lists, `clear.py autobuild del` deletes: a table, the page's path, exit code 0."""
    conf(demo_registry)
    before, size = listing(demo_registry.base_path), store_bytes(demo_registry.base_path)
    listed = call("clear.py", "autobuild", "none")
    assert (listed.returncode, complaints(listed.stderr)) == (0, "")
    assert listing(demo_registry.base_path) == before
    (page,) = (tmp_path / "reports").glob("*/delete.html")
    assert re.search(r"Nothing was changed: \d+ tags and \d+ manifests would go, ", first_screen(page))
    assert re.search(r"\d+ tags would go, ", plain(page))
    shutil.rmtree(tmp_path / "reports")
    done = call("clear.py", "autobuild", "del")
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    record = record_of(tmp_path)
    assert record["tags_deleted"] > 0
    assert "shop/prod-web" in listed.stdout
    assert re.search(r"^tags would go +\d+  the condition selects it \(selected\)$", listed.stdout, re.MULTILINE)
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.startswith(f"✓ As planned: {record['tags_deleted'] + record['tags_untagged']} tags and ")
    page = Path(done.stdout.splitlines()[-1].removeprefix("report").strip())
    assert page.is_file()
    assert (page.name, page.with_suffix(".ipynb").is_file()) == ("delete.html", True)
    seen = first_screen(page)
    for said in (f"✓ As planned: {record['tags_deleted'] + record['tags_untagged']} tags and ", record["user"]):
        assert said in seen
    for said in ("image_name like '%prod%' and image_tag", "duckdb, ages by push date", "SHA-256", "regdata restore "):
        assert said in seen
    for name in ("plan.parquet", "journal.jsonl", "tags.csv"):
        assert f"{hashlib.sha256(page.with_name(name).read_bytes()).hexdigest()} {name}" in seen
    left = len(store_tags(demo_registry.base_path))
    assert f"{left + record['tags_deleted'] + record['tags_untagged']} before, {left} after" in seen
    assert f"({size:,}) before, " in seen
    assert f"({store_bytes(demo_registry.base_path):,}) after" in seen
    assert "<script" not in page.read_text("utf-8")
    assert "Run All" not in plain(page)
    assert "To have the fate" not in plain(page)
    tags = pd.read_csv(page.with_name("tags.csv"))
    assert (tags["outcome"] == "deleted").sum() == record["tags_deleted"]
    assert len(tags) == record["tags_deleted"] + record["tags_untagged"] + record["tags_kept"]
    assert 'href="' + page.parent.name + '/delete.html">' in (tmp_path / "reports/index.html").read_text("utf-8")
    assert size - store_bytes(demo_registry.base_path) == record["bytes_freed"] == record["bytes_predicted"]


def test_clear_fails(demo_registry: LocalRegistry, conf: Conf, call: Call, tmp_path: Path) -> None:
    """A failing collection is exit code 1 and one line; the table, the page and the record tell what was done."""
    conf(demo_registry, **{"gc-command": ["sh", "-c", "echo no space left; exit 9"]})
    done = call("clear.py", "autobuild", "del")
    assert done.returncode == 1
    (line,) = complaints(done.stderr).splitlines()
    assert re.match(r"clear\.py: .*exit code 9: no space left", line)
    record = record_of(tmp_path)
    assert (record["status"], record["gc_exit_code"]) == ("failed", 9)
    assert record["tags_deleted"] > 0
    assert "✗ It did not go as planned" in done.stdout
    page = Path(done.stdout.splitlines()[-1].removeprefix("report").strip())
    assert re.search(r"✗ It did not go as planned: .* were deleted, a collection had begun", first_screen(page))
    assert re.search(r"Error: .*exit code 9: no space left", first_screen(page))
    assert plain(page).count("gc-command failed with exit code 9") == 1
    assert shown(page.with_suffix(".ipynb")).count("gc-command failed with exit code 9") == 1
    for path in (page, page.with_suffix(".ipynb")):
        assert "An Exception was encountered" not in path.read_text("utf-8")
