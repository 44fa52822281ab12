"""conf.json: found, read, checked; each mistake is one clear line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regdata.config import Config, ConfigWarning, load_config
from regdata.errors import ConfigError

URL = "http://127.0.0.1:5000"
SMALL: dict[str, Any] = {"registry": {"url": URL}, "sql": {"none": "2=1"}}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(**keys)` writes the smallest conf.json with these keys; `write("text")` that text."""

    def write_file(text: str | None = None, /, **keys: Any) -> Path:
        path = tmp_path / "conf.json"
        path.write_text(json.dumps(SMALL | keys) if text is None else text, "utf-8")
        return path

    return write_file


def problem(path: Path | str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_root_conf_json_is_valid() -> None:
    """The conf.json that comes with the project loads, with limits and without a warning."""
    root = Path(__file__).parents[1]
    config = load_config(root)
    assert config.engine == "duckdb"
    assert config.limits.max_percent == 50
    assert config.reports == root / "reports"
    assert config.gc_command is None  # regdata collects by itself
    assert config.condition("orphans") == "2=1"


def test_defaults(write: Write, tmp_path: Path) -> None:
    """Two keys are enough; an old file without an engine means sqlite."""
    path = write()
    config = load_config(path)
    assert config.path == path
    assert config.registry.url == URL
    assert config.registry.base_path is None
    assert config.engine == "sqlite"
    assert config.protect is None
    assert config.sql == {"none": "2=1"}
    assert (config.gc_command, config.gc_before, config.gc_after) == (None, None, None)
    assert config.gc_wait == 0
    assert config.reports == tmp_path / "reports"
    assert config.limits.model_dump() == dict.fromkeys(("max_tags", "max_percent", "max_bytes"))
    assert config.snapshots is None
    assert config.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_config_can_go_to_another_process(write: Write) -> None:
    """A pickled Config is the same one, its path and digest included."""
    config = load_config(write())
    copy: Config = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert (copy.path, copy.source, copy.digest) == (config.path, config.source, config.digest)


class TestWhere:
    def test_argument_beats_environment(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The argument wins over REGDATA_CONF, and that over the working folder."""
        write()
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "conf.json").write_text(json.dumps(SMALL))
        monkeypatch.setenv("REGDATA_CONF", str(tmp_path / "one"))
        assert load_config("two/conf.json").path == tmp_path / "two" / "conf.json"
        assert load_config("").path == tmp_path / "one" / "conf.json"
        monkeypatch.setenv("REGDATA_CONF", "")
        assert load_config(None).path == tmp_path / "conf.json"

    def test_nearest_parent(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """From notebooks/, the conf.json beside that folder is found."""
        write()
        (tmp_path / "notebooks" / "deep").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "notebooks" / "deep")
        assert load_config().path == tmp_path / "conf.json"

    def test_none_found(self) -> None:
        """Without any, the error says where it looked and shows the smallest one."""
        message = problem()
        assert str(Path.cwd()) in message
        assert '{"registry": {"url": "http://127.0.0.1:5000"}, "sql"' in message
        assert "REGDATA_CONF" in message

    def test_missing_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path that leads nowhere is named, and where it came from."""
        assert str(tmp_path / "no.json") in problem("no.json")
        monkeypatch.setenv("REGDATA_CONF", "gone.json")
        assert f"{tmp_path / 'gone.json'} (REGDATA_CONF)" in problem()

    def test_no_such_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that no file can have leads nowhere."""
        for name in ("x" * 300, "x/" * 3000, "x\0"):
            assert "No file" in problem(name)

    def test_working_folder_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the working folder was removed that is said, and what to do."""
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        for name in ("", "conf.json"):
            assert "The working folder can't be told (No such file or directory): go to one" in problem(name)

    def test_any_bytes(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that holds bytes which are no text is named, and what it holds is not shown."""
        write(protect="tag_name = '${TOKEN}'")
        for value in (b"\xff", b"\xff\xfesecret"):
            monkeypatch.setenv("TOKEN", os.fsdecode(value))
            assert "stands for the environment variable TOKEN, which holds" in problem()
            assert "secret" not in problem()

    def test_path_that_is_no_text(self) -> None:
        """A number made by papermill is refused, not opened."""
        with pytest.raises(ConfigError, match=r"conf is 2024 \(int\).* `-r conf"):
            load_config(2024)  # type: ignore[arg-type]

    def test_unreadable(self, tmp_path: Path) -> None:
        """A file that can't be read is one line."""
        loop = tmp_path / "conf.json"
        loop.mkdir()
        (loop / "conf.json").mkdir()
        assert "can't be read (Is a directory)" in problem(tmp_path)


class TestPaths:
    def test_relative_to_the_file(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Relative paths start at conf.json's folder, not the working folder; ~ is no home."""
        path = write(registry={"url": URL, "base_path": "~/store"}, reports="out", snapshots="/srv/snaps")
        monkeypatch.chdir("/")
        config = load_config(path)
        assert config.registry.base_path == tmp_path / "~" / "store"
        assert config.reports == tmp_path / "out"
        assert config.snapshots == Path("/srv/snaps")

    @pytest.mark.parametrize(
        ("variable", "expected"),
        [("/srv/cache", "/srv/cache/regdata"), ("", "/home/me/.cache/regdata"), ("rel", "/home/me/.cache/regdata")],
    )
    def test_cache(self, write: Write, monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
        """The digest cache is the user's, where the XDG specification says, unless conf.json says otherwise."""
        monkeypatch.setenv("HOME", "/home/me")
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
        assert load_config(write()).cache == Path(expected)

    def test_cache_by_the_file(self, write: Write, tmp_path: Path) -> None:
        """conf.json turns the cache off, or gives its folder."""
        assert load_config(write(cache=False)).cache is None
        assert load_config(write(cache="kept")).cache == tmp_path / "kept"

    @pytest.mark.parametrize("value", [True, None, 5, ""])
    def test_cache_that_is_none(self, write: Write, value: object) -> None:
        """Anything but false or a folder is refused."""
        assert 'wanted a folder such as "cache", false, or no such key.' in problem(write(cache=value))

    def test_relative_argument(self, write: Write) -> None:
        """Paths are absolute also when the file was given by a relative path."""
        write()
        config = load_config("conf.json")
        assert config.path.is_absolute()
        assert config.reports.is_absolute()


class TestValues:
    @pytest.mark.parametrize(
        ("url", "kept"),
        [
            ("http://localhost:5000/", "http://localhost:5000"),
            ("https://registry.example.com", "https://registry.example.com"),
            ("https://example.com/registry/", "https://example.com/registry"),
            ("http://[::1]:5000", "http://[::1]:5000"),
        ],
    )
    def test_url(self, write: Write, url: str, kept: str) -> None:
        """A URL may have a port and a path; a trailing slash goes."""
        assert load_config(write(registry={"url": url})).registry.url == kept

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:5000",
            "registry.example.com",
            "ftp://example.com",
            "http://",
            "http://:5000",
            "http://host:port",
            "http://host:99999",
            "http://host:5000?x=1",
            "http://host:5000#x",
            "http://ho st",
            "http://[::1",
        ],
    )
    def test_bad_url(self, write: Write, url: str) -> None:
        """What is no registry's URL is shown beside an example of one."""
        message = problem(write(registry={"url": url}))
        assert f"registry.url: found {json.dumps(url)}, wanted http(s)://host" in message
        assert '"http://127.0.0.1:5000"' in message

    def test_password_in_url_is_not_shown(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL with a password is refused without printing it."""
        monkeypatch.setenv("PASSWORD", "hunter2")
        for url in ("https://me:hunter2@host", "https://me:${PASSWORD}@host"):
            message = problem(write(registry={"url": url}))
            assert "found a user or password" in message
            assert "hunter2" not in message

    def test_empty_protect_is_none(self, write: Write) -> None:
        """An empty protect protects nothing, like a missing one."""
        assert load_config(write(protect="  ")).protect is None
        assert load_config(write(protect="1=1")).protect == "1=1"

    def test_gc_commands(self, write: Write) -> None:
        """Commands are tuples of arguments."""
        path = write(**{"gc-command": ["a", "b c"], "gc-before": ["x"], "gc-after": ["y"]})
        config = load_config(path)
        assert config.gc_command == ("a", "b c")
        assert config.gc_before == ("x",)
        assert config.gc_after == ("y",)

    def test_curl_is_ignored_with_a_warning(self, write: Write) -> None:
        """The old key, whatever it holds, warns once, says what to use, and is not recorded."""
        path = write(curl=["curl", "-u", "me:${SECRET}", "--cacert", "ca.pem"])
        with pytest.warns(ConfigWarning, match=r"registry\.url.*REQUESTS_CA_BUNDLE") as caught:
            config = load_config(path)
        assert len(caught) == 1
        assert "curl" not in config.source

    def test_byte_order_mark(self, write: Write) -> None:
        """A file saved by Windows' Notepad is read."""
        assert load_config(write("\ufeff" + json.dumps(SMALL))).sql == {"none": "2=1"}


class TestEnvironment:
    def test_filled_in_everywhere(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """${NAME} is filled in in every text, also in lists; keys and other $ stay as they are."""
        monkeypatch.setenv("PORT", "5001")
        monkeypatch.setenv("TEAM", "$PORT ${PORT}")
        path = write(
            registry={"url": "http://localhost:${PORT}"},
            sql={"${PORT}": "image_name = '${TEAM}'", "money": "tag_name = '$$ $PORT ${} $'"},
            **{"gc-command": ["gc", "${PORT}${PORT}"]},
        )
        config = load_config(path)
        assert config.registry.url == "http://localhost:5001"
        assert config.sql == {
            "${PORT}": "image_name = '$PORT ${PORT}'",
            "money": "tag_name = '$$ $PORT ${} $'",
        }
        assert config.gc_command == ("gc", "50015001")

    def test_source_has_no_secret(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """For the record there is the file as written."""
        monkeypatch.setenv("TOKEN", "s3cret")
        config = load_config(write(**{"gc-command": ["gc", "--token", "${TOKEN}"]}))
        assert config.gc_command == ("gc", "--token", "s3cret")
        assert "s3cret" not in json.dumps(config.source)
        assert config.source["gc-command"][2] == "${TOKEN}"

    def test_wrong_value_is_shown_as_written(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error about a filled-in value shows the variable's name only."""
        monkeypatch.setenv("TOKEN", "s3cret")
        message = problem(write(engine="${TOKEN}", **{"gc-after": "restart ${TOKEN}"}))
        assert "s3cret" not in message
        assert 'engine: found "${TOKEN}"' in message
        assert 'wanted a list: ["restart", "${TOKEN}"]' in message

    def test_missing_variable(self, write: Write) -> None:
        """A variable that is not set is named, with its key."""
        message = problem(write(**{"gc-command": ["a", "${NOT_SET}"]}))
        assert "gc-command[1]: ${NOT_SET} stands for the environment variable NOT_SET" in message

    def test_nothing_is_protected_by_mistake(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that is set to nothing does not take the protection away unnoticed; an empty text may."""
        monkeypatch.setenv("PROTECTED", " ")
        assert 'protect: "${PROTECTED}" is empty, and protects nothing' in problem(write(protect="${PROTECTED}"))
        assert load_config(write(protect="")).protect is None


class TestMistakes:
    def test_broken_json(self, write: Write) -> None:
        """Broken JSON is located as file:line:column."""
        path = write('{\n  "registry": {"url": "x",}\n}')
        assert problem(path).startswith(f"{path}:2:2")

    @pytest.mark.parametrize(
        ("text", "cure"),
        [
            ('{"registry": {"url": "x"},}', "a comma too many before }"),
            ('{"in-use": ["x", ]}', "a comma too many before ]"),
            ("{\u201cregistry\u201d: 1}", 'is no quotation mark of JSON, write "'),
            ('{"engine": \u201cduckdb\u201d}', 'is no quotation mark of JSON, write "'),
            ("{'engine': 'duckdb'}", 'is no quotation mark of JSON, write "'),
            ('{"a": 1\n "b": 2}', 'a comma is missing before "'),
            ('{ // mine\n"a": 1}', "JSON has no comments, remove it"),
        ],
    )
    def test_what_is_often_wrong(self, write: Write, text: str, cure: str) -> None:
        """Where people often go wrong in JSON the cure is said, too."""
        assert cure in problem(write(text))

    def test_not_utf8(self, write: Write) -> None:
        """A file in another encoding is said to be one."""
        path = write()
        path.write_bytes(b'{"sql": "\xff"}')
        assert "byte 9 is not UTF-8" in problem(path)

    @pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5_000, "[]", "null", '"x"', ""])
    def test_not_an_object(self, write: Write, text: str) -> None:
        """Whatever else JSON can be is refused in one line."""
        path = write(text)
        message = problem(path)
        assert message.startswith(str(path))
        assert "\n" not in message

    def test_duplicate_key(self, write: Write) -> None:
        """A key that is there twice is an error: which one counts is anyone's guess."""
        text = '{"registry": {"url": "http://a"}, "sql": {"old": "1=1", "old": "2=1"}}'
        assert 'the key "old" is there twice' in problem(write(text))

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({"gc_command": ["x"]}, 'gc_command: unknown key (did you mean "gc-command"?)'),
            ({"zzz": 1}, "zzz: unknown key; the keys there are: registry, engine, protect, sql"),
            (
                {"registry": {"url": URL, "basepath": "x"}},
                'registry.basepath: unknown key (did you mean "base_path"?); the keys there are: url, base_path, '
                "ca, cert, key, repositories, requests, names.",
            ),
            ({"limits": {"max_tag": 1}}, 'limits.max_tag: unknown key (did you mean "max_tags"?)'),
            ({"registry": {}}, "registry.url: missing, wanted http(s)://"),
            ({"registry": URL}, f'registry: found "{URL}", wanted an object such as'),
            ({"registry": {"url": 5000}}, "registry.url: found 5000, wanted http(s)://"),
            ({"registry": {"url": URL, "base_path": ""}}, 'registry.base_path: found "", wanted'),
            ({"registry": {"url": URL, "base_path": 1}}, "registry.base_path: found 1, wanted"),
            ({"engine": "mysql"}, 'engine: found "mysql", wanted "duckdb" or "sqlite".'),
            ({"engine": None}, "engine: found null, wanted"),
            ({"protect": ["x"]}, 'protect: found ["x"], wanted a condition'),
            ({"sql": ["1=1"]}, 'sql: found ["1=1"], wanted the text of a WHERE clause'),
            ({"sql": {"a": ""}}, 'sql.a: found "", wanted the text of a WHERE clause'),
            ({"sql": {"b": " \n"}}, 'sql.b: found " \\n", wanted'),
            ({"sql": {"c": True}}, "sql.c: found true, wanted"),
            ({"sql": {"d": {"e": 1}}}, 'sql.d: found {"e": 1}, wanted'),
            (
                {"gc-command": "docker exec r 'garbage collect'"},
                'wanted a list: ["docker", "exec", "r", "garbage collect"].',
            ),
            ({"gc-before": "it's"}, 'wanted a list: ["it\'s"].'),
            ({"gc-command": []}, "gc-command: found [], wanted a list, one item per argument"),
            ({"gc-after": ["sleep", 5]}, "gc-after[1]: found 5, wanted a list, one item per"),
            ({"gc-wait": -1}, "gc-wait: found -1, wanted the seconds"),
            ({"gc-wait": True}, "gc-wait: found true, wanted the seconds"),
            ({"gc-wait": float("inf")}, "gc-wait: found Infinity, wanted the seconds"),
            ({"limits": 50}, "limits: found 50, wanted an object such as"),
            ({"limits": {"max_tags": "5"}}, 'limits.max_tags: found "5", wanted a whole number'),
            ({"limits": {"max_tags": 1.5}}, "limits.max_tags: found 1.5, wanted a whole number"),
            ({"limits": {"max_tags": True}}, "limits.max_tags: found true, wanted a whole"),
            ({"limits": {"max_percent": 101}}, "limits.max_percent: found 101, wanted a number"),
            (
                {"registry": {"url": "http://a", "requests": {"per_second": 1e-300}}},
                "registry.requests.per_second: found 1e-300, wanted a number, 0.01 or more",
            ),
            (
                {"registry": {"url": "http://a", "repositories": ["*", "!prod/*"]}},
                'registry.repositories[1]: found "!prod/*", wanted a list of names or patterns of repositories',
            ),
            ({"limits": {"max_percent": float("nan")}}, "limits.max_percent: found NaN, wanted"),
            ({"limits": {"max_bytes": -1}}, "limits.max_bytes: found -1, wanted"),
            ({"reports": 1}, "reports: found 1, wanted the folder for reports"),
            ({"sql": {"a\0": "1=1"}}, r'sql: the name "a\u0000" holds the character NUL'),
        ],
    )
    def test_one_line_each(self, write: Write, keys: dict[str, Any], expected: str) -> None:
        """Each mistake is one line: file, key, what was found, what is wanted."""
        path = write(**keys)
        message = problem(path)
        assert message.startswith(f"{path}: ")
        assert expected in message
        assert "\n" not in message

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
    def test_no_text(self, write: Write, text: str) -> None:
        """What can be in no path, argument, URL or condition is told with its key, wherever it stands."""
        places = [[key] for key in (*PATHS, "protect", "gc-command", "notify", "not-a-pull", "engine")]
        for keys in [*places, *(["registry", key] for key in ("url", "base_path", "ca", "cert", "names"))]:
            said = text if keys[-1] not in ("gc-command", "notify", "names", "in-use") else [text]
            message = problem(write(**within(keys, said)))
            assert f": {'.'.join(keys)}" in message
            assert "NUL" in message if "\0" in text else "half a character" in message
            assert message.isprintable()

    @pytest.mark.parametrize("number", [1e308, float("inf"), float("-inf"), float("nan"), 10**400, 10**4000, -1])
    def test_numbers_without_measure(self, write: Write, number: float) -> None:
        """A number with which nothing can be computed is told with its key."""
        keys = [[key] for key in ("trash_days", "gc-wait", "price_per_gb_month")]
        keys += [["limits", key] for key in ("max_tags", "max_percent", "max_bytes")]
        for place in [*keys, ["registry", "requests", "at_once"], ["registry", "requests", "per_second"]]:
            assert f": {'.'.join(place)}: found " in problem(write(**within(place, number)))

    def test_missing_keys(self, write: Write) -> None:
        """Missing keys are named, with an example for each."""
        message = problem(write("{}"))
        assert 'registry: missing, wanted an object such as {"url"' in message
        assert "sql: missing, wanted the text of a WHERE clause for each sql_id" in message

    def test_all_at_once_but_at_most_five(self, write: Write) -> None:
        """A file full of mistakes tells five of them and how many more there are."""
        lines = problem(write(sql={str(number): 1 for number in range(7)})).splitlines()
        assert len(lines) == 6
        assert lines[-1].endswith("and 2 more")


PATHS = ("reports", "snapshots", "cache", "access-log", "in-use")


def within(keys: list[str], value: object) -> dict[str, Any]:
    """The settings with a value at that place, and what has to stand beside it."""
    beside: dict[str, Any] = {"url": URL} if keys[0] == "registry" and keys[-1] != "url" else {}
    for key in reversed(keys[1:]):
        value = {key: value} | (beside if key == keys[1] else {})
    return {keys[0]: value}


class TestCondition:
    @pytest.fixture
    def config(self, write: Write) -> Config:
        return load_config(write(sql={"none": "2=1", "autobuild": " 1=1 ", "0123": "3=1"}))

    def test_known(self, config: Config) -> None:
        """A condition is handed out as written."""
        assert config.condition("autobuild") == " 1=1 "
        assert config.condition("0123") == "3=1"

    def test_unknown(self, config: Config) -> None:
        """An unknown sql_id lists those that exist and suggests the nearest."""
        with pytest.raises(ConfigError) as caught:
            config.condition("autobiuld")
        assert '"autobiuld" (did you mean "autobuild"?)' in str(caught.value)
        assert "it has none, autobuild, 0123." in str(caught.value)

    @pytest.mark.parametrize(("value", "shown"), [(123, "123 (int)"), (True, "True (bool)")])
    def test_not_a_text(self, config: Config, value: object, shown: str) -> None:
        """A number or truth value made by papermill is refused, with the option that keeps text."""
        with pytest.raises(ConfigError) as caught:
            config.condition(value)
        assert shown in str(caught.value)
        assert "-r sql_id" in str(caught.value)


def test_lists_of_what_is_pulled_and_used(write: Write, tmp_path: Path) -> None:
    """One text stands for a list of one; paths are relative to the file, and a list in the list is a command."""
    command = ["kubectl", "get", "pods"]
    keys = {"access-log": "logs/*.gz", "not-a-pull": ["*trivy*", "x"], "in-use": ["/x/running", command, "a.txt"]}
    names = [" r.svc:5000/ ", "[::1]:5000", "Mirror/docker-hub/x"]
    config = load_config(write(**keys, registry={"url": URL, "names": names}))
    assert config.registry.names == ("r.svc:5000", "[::1]:5000", "Mirror/docker-hub/x")
    config = load_config(write(**keys, registry={"url": URL, "names": "r.svc:5000"}))
    assert config.access_log == (tmp_path / "logs/*.gz",)
    assert config.not_a_pull == ("*trivy*", "x")
    assert config.in_use == (Path("/x/running"), tuple(command), tmp_path / "a.txt")
    assert config.registry.names == ("r.svc:5000",)
    assert load_config(write()).access_log == load_config(write()).in_use == ()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"access-log": []}, "access-log: found [], wanted a file, a glob, or a list of them"),
        ({"access-log": ["a", 5]}, 'access-log: found ["a", 5], wanted a file'),
        ({"not-a-pull": ""}, 'not-a-pull: found "", wanted globs'),
        ({"in-use": "kubectl get pods"}, 'in-use: found "kubectl get pods", wanted a list of files'),
        ({"in-use": [[]]}, "in-use: found [[]], wanted a list of files"),
        ({"in-use": [["kubectl", 5]]}, 'in-use: found [["kubectl", 5]], wanted a list of files'),
        ({"expect": {"absent": {}}}, 'expect: found {"absent": {}}, wanted by a name in sql'),
        ({"expect": {"none": {"select": "x"}}}, 'expect.none.select: unknown key (did you mean "selects"?)'),
        ({"expect": {"none": {"never": [5]}}}, "expect.none.never: found [5], wanted globs over image:tag"),
        ({"expect": {"none": 5}}, "expect.none: found 5, wanted by a name in sql"),
        ({"registry": {"url": URL, "names": [5]}}, "registry.names: found [5], wanted host[:port][/path]"),
        *(
            ({"registry": {"url": URL, "names": [name]}}, f'registry.names[0]: found "{name}", wanted host[:port]')
            for name in ("https://r.svc:5000", "r.svc:x", "r svc", "u@r.svc", "r.svc:5000/app:1", "/", "r.svc//app")
        ),
    ],
)
def test_mistakes_in_lists(write: Write, keys: dict[str, Any], said: str) -> None:
    """Each mistake in them names the key, what is there and what is wanted."""
    assert said in problem(write(**keys))
