"""README and docs/ tell all there is, and what they show is so; the code keeps its shape."""

from __future__ import annotations

import ast
import io
import json
import re
import tomllib
from contextlib import redirect_stderr
from pathlib import Path

import nbformat
import pytest
import sqlglot
import yaml
from sqlglot import exp

from regdata.command import main
from regdata.config import Config, Expectation, Limits, RegistryConfig, Requests, load_config
from regdata.planning.rules import REASONS
from regdata.tables.schema import TABLES
from tests.support.helpers import ROOT

README = (ROOT / "README.md").read_text("utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
CONF, CONDITIONS, REASONED, NOTEBOOKS_TOLD, SCHEDULE = (
    (ROOT / f"docs/{name}.md").read_text("utf-8")
    for name in ("conf", "conditions", "goes-and-stays", "notebooks", "schedule")
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
RULES = (ROOT / "docs/rules.md").read_text("utf-8")
CODE = ROOT / "regdata"
PACKAGES = sorted(path.parent for path in CODE.glob("*/__init__.py"))
SQL = sorted(CODE.rglob("*.sql"))


def keys() -> set[str]:
    """Every key that conf.json may have."""
    models = (Config, Expectation, Limits, RegistryConfig, Requests)
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


@pytest.mark.parametrize("key", sorted(keys()))
def test_every_key(key: str) -> None:
    """Each key of conf.json is in docs/conf.md."""
    assert re.search(rf"[`\"](registry\.)?{re.escape(key)}[`\"]", CONF)


def test_every_make_target() -> None:
    """Each target of the Makefile that people call is in the README."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    for target in {"demo", "lab", "test", "check", "lint", "bench", "clean", "report"} & set(targets[1].split()):
        assert f"`{target}`" in README


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks(path: Path) -> None:
    """Each notebook and parameter is in docs/notebooks.md; outputs are stripped, and no cell defines anything."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert f"`{path.name}`" in NOTEBOOKS_TOLD
    for cell in cells:
        assert not cell.outputs
        assert cell.execution_count is None
        assert not re.search(r"^(def|class) ", cell.source, re.MULTILINE)
        if "parameters" in cell.metadata.get("tags", []):
            for name in re.findall(r"^(\w+):", cell.source, re.MULTILINE):
                assert f"`{name}`" in NOTEBOOKS_TOLD


@pytest.mark.parametrize("reason", sorted(REASONS.keys() - {"grace"}))
def test_every_reason(reason: str) -> None:
    """Each reason code of a plan is in the table of docs/goes-and-stays.md."""
    assert f"| `{reason}` |" in REASONED


@pytest.mark.parametrize("column", sorted(TABLES["images"]))
def test_every_column(column: str) -> None:
    """Each column of images is in docs/conditions.md."""
    assert re.search(rf"\b{column}\b", CONDITIONS)


def test_shown_conf_is_valid(tmp_path: Path) -> None:
    """The conf.json that docs/conf.md shows, and the one that is shipped, can be loaded."""
    shown = re.search(r"```json\n(\{.*?\n\})\n```", CONF, re.DOTALL)
    assert shown
    (tmp_path / "conf.json").write_text(shown[1])
    assert load_config(tmp_path).limits == load_config(ROOT / "conf.json").limits


def test_shown_recipes_are_valid(tmp_path: Path) -> None:
    """What docs/registries.md shows of YAML and of conf.json is what it is meant to be, and calls what there is."""
    text = (ROOT / "docs/registries.md").read_text("utf-8")
    for shown in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        (tmp_path / "conf.json").write_text(shown)
        load_config(tmp_path)
    compose, job = (yaml.safe_load(shown) for shown in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    assert {volume.partition(":")[0] for volume in compose["services"]["registry"]["volumes"]} == {*compose["volumes"]}
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for command in (compose["services"]["regdata"]["command"], container["command"][-1]):
        assert "clear.py autobuild del" in command


def test_environment_has_no_list_of_its_own() -> None:
    """Dependencies stand in pyproject.toml alone."""
    assert "- -e ." in (ROOT / "environment.yml").read_text()
    assert {"duckdb", "pandas", "papermill", "requests", "matplotlib", "jupyterlab"} <= {
        re.split(r"[<>=]", name)[0]
        for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert json.loads((ROOT / "conf.json").read_text())["limits"] == {"max_percent": 50}


# docs/


def rows(text: str) -> dict[str, str]:
    """The table rows that begin with a name of a folder or an .sql file, by that name."""
    return dict(re.findall(r"^\| `([\w/]+(?:/|\.sql))` \| (.*)$", text, re.MULTILINE))


def code(names: set[str]) -> str:
    return " ".join(f"`{name}`" for name in sorted(names))


def test_nothing_is_told_that_is_not_there() -> None:
    """The tables of docs/architecture.md are on the packages and .sql files that there are."""
    there = {f"{package.name}/" for package in PACKAGES} | {path.relative_to(CODE).as_posix() for path in SQL}
    assert rows(ARCHITECTURE).keys() == there


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_module(package: Path) -> None:
    """Each package is in docs/architecture.md with its modules, and no other modules are."""
    told = re.findall(r"`(\w+\.py)`", rows(ARCHITECTURE)[f"{package.name}/"])
    assert set(told) == {path.name for path in package.glob("*.py")} - {"__init__.py"}


def test_every_module_beside_the_packages() -> None:
    """Each module that lies directly in regdata/ is in docs/architecture.md; there are seven at the most."""
    modules = {path.name for path in CODE.glob("*.py")}
    assert [name for name in modules if f"`{name}`" not in ARCHITECTURE] == []
    assert len(modules) <= 7


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.stem)
def test_every_sql_file(path: Path) -> None:
    """The map of the .sql files in docs/architecture.md names the tables that each one reads and makes."""
    reads: set[str] = set()
    makes: set[str] = set()
    for statement in sqlglot.parse(path.read_text(), dialect="duckdb"):
        assert statement
        if isinstance(statement, exp.Create) and statement.kind in ("TABLE", "VIEW"):
            makes |= {table.name for table in (statement.find(exp.Table),) if table}
        named = {one.alias for one in statement.find_all(exp.CTE)}
        tables = [table for table in statement.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
        reads |= {table.name for table in tables if not isinstance(table.parent, exp.UserDefinedFunction)} - named
    told = rows(ARCHITECTURE)[path.relative_to(CODE).as_posix()]
    assert [cell.strip() for cell in told.split("|")[1:3]] == [code(reads - makes), code(makes)]


def test_every_rule() -> None:
    """Each rule that the code cites by its number is in docs/rules.md, and each rule there is cited."""
    cited = {
        number
        for path in [*SQL, *CODE.rglob("*.py")]
        for numbers in re.findall(r"\b[Rr]ules? (\d(?:(?:, | and )\d)*)", path.read_text("utf-8"))
        for number in re.findall(r"\d", numbers)
    }
    assert set(re.findall(r"^\| (\d+) \|", RULES, re.MULTILINE)) == cited


def test_every_reason_has_a_meaning() -> None:
    """The reason codes of a plan are those of docs/rules.md."""
    _, _, table = RULES.partition("## Reasons")
    assert set(re.findall(r"^\| `([a-z-]+)` \| \w", table.partition("## Words")[0], re.MULTILINE)) == REASONS.keys()


def test_every_word() -> None:
    """The tables and columns by which docs/rules.md explains its words are there."""
    words = re.findall(r"^\| [^|`]+ \| (`[^|]+) \|", RULES.partition("## Words")[2], re.MULTILINE)
    there = {*re.findall(r"`(\w+)`", ARCHITECTURE), *TABLES["images"]}
    assert [name for cell in words for name in re.findall(r"`(\w+)`", cell) if name not in there] == []


@pytest.mark.parametrize("path", [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *DOCS], ids=lambda path: path.stem)
def test_every_link(path: Path) -> None:
    """Each link to a file of the project leads to one, and to a heading that is there."""
    for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text("utf-8")):
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, (
            link
        )


# README.md


def test_readme_is_one_page() -> None:
    """README is short, begins with what it is and one picture, and leads to every page of docs/."""
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 900
    assert len(re.findall(r"!\[", README)) == 1
    assert README.index("![") < README.index("```")
    assert [path.name for path in DOCS if f"](docs/{path.name})" not in README] == []


def test_readme_begins_with_commands_for_ones_own_registry() -> None:
    """The first commands are three for one's own registry; the demo's two follow, and no benchmark stands before."""
    first, *others = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    assert [line.split("#")[0].split()[:3] for line in first.splitlines()] == [
        ["$", "regdata", "init"],
        ["$", "regdata", "list"],
        ["$", "regdata", "lab"],
    ]
    assert any(re.match(r"\$ make demo .*\n\$ make test\n\Z", block) for block in others)
    assert "make bench" not in README


def test_every_command() -> None:
    """Each command of regdata is in README's table, and no other is told of anywhere."""
    jobs = commands()
    assert set(re.findall(r"^\| `regdata (\w+)", README, re.MULTILINE)) == jobs
    for path in [ROOT / "README.md", *DOCS]:
        assert set(re.findall(r"(?:`|\$ )regdata (\w+)", path.read_text("utf-8"))) <= jobs, path


def commands() -> set[str]:
    """The commands of the console script."""
    with pytest.raises(SystemExit) as caught, redirect_stderr(io.StringIO()) as said:
        main.main(["no-such-command"])
    assert caught.value.code == 2
    return set(re.findall(r"'(\w+)'", said.getvalue().partition("choose from")[2]))


# docs/schedule.md


def test_cron_and_systemd_call_what_there_is() -> None:
    """The lines for cron and systemd name a folder and a PATH, a console script, and a condition that conf.json has."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    conditions = json.loads((ROOT / "conf.json").read_text())["sql"]
    cron = re.search(r"^(?:\S+ ){5}\w+ cd /\S+ && (\S+) (\w+) del$", SCHEDULE, re.MULTILINE)
    unit = re.search(r"^ExecStart=/\S+/(\S+) (\w+) del$", SCHEDULE, re.MULTILINE)
    assert cron
    assert unit
    for script, sql_id in (cron.groups(), unit.groups()):
        assert script in scripts
        assert sql_id in conditions
    assert "\nWorkingDirectory=/" in SCHEDULE
    assert len(re.findall(r"PATH=/opt/regdata/bin:", SCHEDULE)) == 2


# The shape of the code; what may import what is in pyproject.toml, for import-linter.


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_says_what_it_is(package: Path) -> None:
    """A package's first line is its docstring: one or two sentences."""
    text = (package / "__init__.py").read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert text.startswith('"""')
    assert re.fullmatch(r"[^.]+\.(\s[^.]+\.)?", docstring)


def test_no_file_is_long() -> None:
    """No file of the code has more than 400 lines."""
    files = [path for path in CODE.rglob("*") if path.suffix in (".py", ".sql")]
    assert [path.name for path in files if len(path.read_text("utf-8").splitlines()) > 400] == []
