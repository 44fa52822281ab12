"""Each notebook on a registry that is empty, and on one that is down, through papermill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from regdata.demo.local import LocalRegistry
from tests.support.notebooks import execute

Conf = Callable[..., Path]


@dataclass(frozen=True)
class Notebook:
    """A notebook with its parameters, and what it shows (patterns of lines) and records on an empty registry."""

    name: str
    says: tuple[str, ...] = ()
    pictures: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)


NOTEBOOKS = (
    Notebook("explore", (r"\AThe registry is empty: it stores no blob at all\.$",), 8),
    Notebook("conditions", (r"^0 tags selected, 0 B would be freed: no tag goes\.$",)),
    Notebook("doctor", (r"^\*\*Nothing is broken\.\*\*$",)),
    Notebook("capacity", ("The registry is empty", "It can't be forecast honestly"), 4),
    Notebook(
        "delete",
        (r"^Nothing goes: the condition selects no tag, and there is nothing else to free\.$",),
        1,
        parameters={"sql_id": "autobuild"},
        records={"tags_selected": 0, "bytes_predicted": 0, "errors": []},
    ),
)


def records(conf: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in conf.parent.glob("reports/*/record.json")]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_an_empty_registry(registry: LocalRegistry, conf: Conf, notebook: Notebook) -> None:
    """On a registry into which nothing was pushed it runs to its end, and says that there is nothing."""
    path = conf(registry)
    done = execute(notebook.name, path, **notebook.parameters)
    assert done.code == 0, done.texts[-1]
    assert [line for line in notebook.says if not re.search(line, done.said, re.MULTILINE)] == []
    assert len(done.pictures) == notebook.pictures
    assert done.streams == []
    assert [{key: record[key] for key in notebook.records} for record in records(path)] == (
        [notebook.records] if notebook.records else []
    )


@pytest.mark.parametrize("name", ["conditions", "doctor", "capacity"])
def test_a_registry_that_is_down(registry: LocalRegistry, conf: Conf, name: str) -> None:
    """It ends with one line that says what to look at; of the others see test_pages and test_delete_notebook."""
    path = conf(registry)
    registry.stop()
    done = execute(name, path)
    assert done.code == 1
    error = done.outputs[-1]
    (line,) = error.traceback
    assert line == done.texts[-1]
    assert line.startswith(f"RegistryError: GET {registry.url}/v2/: can't connect: Connection refused; ")
    assert line.endswith("registry.url is right")
    assert done.pictures == []
    assert records(path) == []
