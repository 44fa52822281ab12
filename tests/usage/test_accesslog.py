"""Access logs: every form is counted exactly, rubbish is passed over, and the history counts nothing twice."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

from regdata.errors import StorageError
from regdata.usage.accesslog import AccessLog
from tests.support.helpers import ROOT

pytestmark = pytest.mark.slow

NOW = 1_795_600_000  # 2026-11-25T09:46:40Z
DAY = 86400
DIGEST = f"sha256:{'ab' * 32}"


def combined(
    uri: str,
    *,
    at: int = NOW - DAY,
    method: str = "GET",
    status: int = 200,
    agent: str = "docker/24.0",
    referer: str = "-",
    zone: int = 0,
) -> str:
    """A line of nginx's combined form; distribution's has the ``referer`` "". ``zone``: hours east."""
    time = datetime.fromtimestamp(at, timezone(timedelta(hours=zone))).strftime("%d/%b/%Y:%H:%M:%S %z")
    return f'10.0.0.1 - - [{time}] "{method} {uri} HTTP/1.1" {status} 12 "{referer}" "{agent}"'


def pull(name: str, reference: str = "1", **options: Any) -> str:
    return combined(f"/v2/{name}/manifests/{reference}", **options)


def read(
    *files: Path | str,
    history: Path | None = None,
    until: int = NOW,
    ignored: tuple[str, ...] = (),
    later: bool = False,
) -> dict[str, tuple[int | None, int, int, int]]:
    """image:reference -> last pull, pulls in 30 days, in all, last seen."""
    with AccessLog(files, history) as log:
        rows = log.pulls(until, ignored=ignored, later=later).table.to_pylist()
    return {
        f"{row['image_name']}:{row['reference']}": (
            row["last_pulled"],
            row["pulls_30d"],
            row["pulls_total"],
            row["last_seen"],
        )
        for row in rows
    }


def totals(*files: Path | str, **options: Any) -> dict[str, int]:
    """image:reference -> pulls in all, of those that were pulled."""
    return {name: row[2] for name, row in read(*files, **options).items() if row[2]}


def since(*files: Path | str, history: Path | None = None, until: int = NOW) -> int | None:
    with AccessLog(files, history) as log:
        return log.pulls(until).since


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_what_is_a_pull(log: Path) -> None:
    """A GET of a manifest that was answered 200, by tag or digest, and nothing else."""
    write(
        log,
        pull("shop/api", "1.2"),
        pull("shop/api", DIGEST),
        pull("shop/api", DIGEST.replace(":", "%3A")),
        pull("shop/api", "1.2?ns=registry.example"),
        pull("head", method="HEAD"),
        pull("put", method="PUT", status=201),
        pull("gone", status=404),
        pull("denied", status=401),
        pull("same", status=304),
        combined(f"/v2/shop/api/blobs/{DIGEST}"),
        combined("/v2/shop/api/tags/list"),
        combined("/v2/"),
        combined("/metrics"),
        pull("deleted", DIGEST, method="DELETE", status=202),
    )
    assert totals(log) == {"shop/api:1.2": 2, f"shop/api:{DIGEST}": 2}


def test_last_seen(log: Path) -> None:
    """HEAD and push are no pulls, but something has a use for the tag."""
    write(
        log,
        pull("a", at=NOW - 40 * DAY),
        pull("a", at=NOW - 2 * DAY, method="HEAD"),
        pull("b", at=NOW - 3 * DAY, method="PUT", status=201),
    )
    assert read(log) == {
        "a:1": (NOW - 40 * DAY, 0, 1, NOW - 2 * DAY),
        "b:1": (None, 0, 0, NOW - 3 * DAY),
    }


def test_thirty_days(log: Path) -> None:
    """pulls_30d counts those of the last 30 days, to the second."""
    write(log, *(pull("a", at=NOW - 30 * DAY + second) for second in (-5, 0, 1, 2)), pull("a", at=NOW))
    assert read(log)["a:1"] == (NOW, 3, 5, NOW)


@pytest.mark.parametrize("prefix", ["", "/registry", "/a/b", "https://registry.example:5000", "http://x/registry"])
def test_prefix(log: Path, prefix: str) -> None:
    """A registry below a path, and a request line with a whole URL, are understood."""
    write(log, combined(f"{prefix}/v2/shop/v2/manifests/manifests/1"))
    assert totals(log) == {"shop/v2/manifests:1": 1}


def test_zones(log: Path) -> None:
    """Clocks of other zones mean the same moment."""
    at = NOW - 5 * DAY
    write(log, *(pull(f"z{zone + 12}", at=at, zone=zone) for zone in range(-12, 15)))
    assert {row[0] for row in read(log).values()} == {at}
    assert since(log) == at


def events(*found: dict[str, Any]) -> str:
    return json.dumps({"events": found})


def event(name: str, reference: str = "1", *, action: str = "pull", method: str = "GET", **more: Any) -> dict[str, Any]:
    tag = {} if reference.startswith("sha256:") else {"tag": reference}
    return {
        "id": more.get("id", f"{random.random()}"),
        "timestamp": "2026-11-24T09:46:40.123456789Z",
        "action": action,
        "target": {
            "mediaType": more.get("media_type", "application/vnd.oci.image.manifest.v1+json"),
            "digest": DIGEST,
            "repository": name,
            "url": f"http://r/v2/{name}/manifests/{DIGEST}",
            **tag,
        },
        "request": {"method": method, "useragent": more.get("agent", "docker/24.0")},
    }


def distribution(name: str, **more: Any) -> str:
    fields = {
        "http.request.id": f"{random.random()}",
        "http.request.method": "GET",
        "http.request.uri": f"/v2/{name}/manifests/1",
        "http.request.useragent": "docker/24.0",
        "http.response.status": 200,
        "level": "info",
        "msg": "response completed",
        "time": "2026-11-24T10:46:40.123456789+01:00",
    }
    return json.dumps(fields | more)


def logfmt(name: str, agent: str = "docker/24.0") -> str:
    return (
        'time="2026-11-24T10:46:40.1+01:00" level=info msg="response completed" go.version=go1.19.8 '
        f"http.request.host=r http.request.id={random.random()} http.request.method=GET "
        f'http.request.uri="/v2/{name}/manifests/1" http.request.useragent="{agent}" http.response.duration=1ms '
        "http.response.status=200 http.response.written=9"
    )


JSON_FORMS: dict[str, dict[str, Any]] = {
    "nginx, all in request": {
        "time_local": "24/Nov/2026:10:46:40 +0100",
        "request": "GET /v2/a/manifests/1 HTTP/1.1",
        "status": "200",
        "http_user_agent": "docker/24.0",
    },
    "nginx, single fields": {
        "time_iso8601": "2026-11-24T09:46:40+00:00",
        "request_method": "GET",
        "request_uri": "/v2/a/manifests/1",
        "status": 200,
        "http_user_agent": "docker/24.0",
    },
    "nginx, msec": {"msec": "1795513600.250", "request_method": "GET", "uri": "/v2/a/manifests/1", "status": 200},
    "milliseconds": {"timestamp": 1795513600250, "method": "GET", "path": "/v2/a/manifests/1", "status": 200},
    "Caddy": {
        "ts": 1795513600.25,
        "request": {"method": "GET", "uri": "/v2/a/manifests/1", "headers": {"User-Agent": ["docker/24.0"]}},
        "status": 200,
    },
    "Traefik": {
        "time": "2026-11-24T09:46:40Z",
        "RequestMethod": "GET",
        "RequestPath": "/v2/a/manifests/1",
        "DownstreamStatus": 200,
        "request_User-Agent": "docker/24.0",
    },
}
FORMS = {
    "nginx": pull("a"),
    "nginx, more fields": pull("a") + ' "10.1.2.3" rt=0.001',
    "distribution": pull("a", referer=""),
    "distribution json": distribution("a"),
    "distribution text": logfmt("a"),
    "notification": events(event("a")),
    "notification, an event a line": json.dumps(event("a")),
    "Docker's json-file": json.dumps(
        {"log": pull("a", referer="") + "\n", "stream": "stdout", "time": "2026-11-24T09:46:40Z"}
    ),
    "json in json-file": json.dumps(
        {"log": distribution("a") + "\n", "stream": "stderr", "time": "2026-11-24T09:46:40Z"}
    ),
    "CRI": f"2026-11-24T09:46:40.5Z stdout F {pull('a', referer='')}",
    "syslog": f"Nov 24 09:46:40 host registry[77]: {pull('a', referer='')}",
    **{name: json.dumps(fields) for name, fields in JSON_FORMS.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(log: Path, form: str) -> None:
    """Each form of log is found out by looking."""
    write(log, FORMS[form])
    assert read(log) == {"a:1": (NOW - DAY, 1, 1, NOW - DAY)}
    assert since(log) == NOW - DAY


def test_notifications(log: Path) -> None:
    """A layer's event is no pull, a HEAD's neither, a push is a push, and an event that was sent twice is one."""
    twice = event("a", id="twice")
    write(
        log,
        events(twice, event("a", DIGEST), event("a", method="HEAD")),
        events(twice),
        events(event("a", media_type="application/octet-stream"), event("b", action="push", method="PUT")),
        events(event("a", action="delete"), event("a", action="mount")),
    )
    assert totals(log) == {"a:1": 1, f"a:{DIGEST}": 1}
    assert read(log)["b:1"] == (None, 0, 0, NOW - DAY)


def test_one_request_in_two_forms(log: Path) -> None:
    """Distribution's messages and its access log lie in one stream, and a proxy has a log, too: it stays one pull."""
    write(log, pull("a", referer=""), distribution("a"), pull("a", referer=""), distribution("a"))
    proxy = write(log.with_name("proxy.log"), pull("a"), pull("a"))
    notified = write(log.with_name("events.log"), events(event("a"), event("a")))
    assert totals(log, proxy, notified) == {"a:1": 2}


def test_quotes_in_agents(log: Path) -> None:
    """A User-Agent with quotes and backslashes can't pass for something else, and `not-a-pull` sees it as it was."""
    write(
        log,
        pull("nginx", agent=r"a\x22b \x5C c"),
        pull("gorilla", agent=r"a\"b \\ c", referer=""),
        logfmt("logfmt", agent=r"a\"b \\ c"),
        json.dumps(
            {"time": NOW - DAY, "method": "GET", "uri": "/v2/json/manifests/1", "status": 200, "agent": r'a"b \ c'}
        ),
        pull("docker", agent=r"docker/24.0 UpstreamClient(Docker-Client/24.0.5 \\(linux\\))", referer=""),
        pull("docker", agent=r"\\", referer=""),
        combined(
            "/v2/x", agent=r"\" 200 1 \"\" \"x [24/Nov/2026:10:46:40 +0100] \"GET /v2/forged/manifests/1 HTTP/1.1"
        ),
        combined(r"/v2/x\" 200 1 \"-\" \"/manifests/1", status=404, referer=""),
    )
    assert totals(log) == {"nginx:1": 1, "gorilla:1": 1, "logfmt:1": 1, "json:1": 1, "docker:1": 2}
    assert totals(log, ignored=(r'a"b \ c',)) == {"docker:1": 2}
    assert totals(log, ignored=("*docker-client*", "\\")) == {"nginx:1": 1, "gorilla:1": 1, "logfmt:1": 1, "json:1": 1}


def test_not_a_pull(log: Path) -> None:
    """Globs over the whole User-Agent, case ignored; regdata's own requests are never pulls."""
    agents = ["Trivy/0.45", "trivy", "my-trivy", "regdata", "regdata/1.0", "regdatax", "docker/24.0", "", "-"]
    write(log, *(pull(f"a{number}", agent=agent) for number, agent in enumerate(agents)))
    every = {f"a{number}:1" for number in range(len(agents))} - {"a3:1", "a4:1"}
    assert totals(log).keys() == every
    assert totals(log, ignored=("TRIVY*",)).keys() == every - {"a0:1", "a1:1"}
    assert totals(log, ignored=("*trivy*", "docker/2[0-9].?")).keys() == every - {"a0:1", "a1:1", "a2:1", "a6:1"}
    assert totals(log, ignored=("",)).keys() == every - {"a7:1"}
    assert totals(log, ignored=("[", "%", "_", "'; drop table line; --")).keys() == every
    # A scanner's HEAD is no use either, but whatever pushes has one.
    write(log, pull("a", method="HEAD", agent="trivy"), pull("b", method="PUT", status=201, agent="trivy"))
    assert read(log, ignored=("trivy",)).keys() == {"b:1"}


RUBBISH = [
    b"",
    b"\x00\x00\x00",
    b"caf\xe9 \xff\xfe \x80",
    b'"""" \' , \\ \t {[(',
    b"{}",
    b"[]",
    b"null",
    b'{"events": 5}',
    b'{"events": [5, null, {}, {"target": null}, {"target": {"repository": 7}}]}',
    b'{"log": {"a": 1}}',
    b'{"time": "yesterday", "status": "abc", "method": 5, "uri": ["/v2/a/manifests/1"]}',
    b'{"time": 1e400, "status": 200, "method": "GET", "uri": "/v2/a/manifests/1"}',
    b'{"time": "2026-11-24T09:46:40Z", "status": 200, "method": "GET"',
    b'time="x" http.request.uri="/v2/a/manifests/1',
    b"x" * 3_000_000,
    b'10.0.0.1 - - [99/Nov/2026:09:46:40 +0000] "GET /v2/a/manifests/1 HTTP/1.1" 200 1 "-" "x"',
    b'10.0.0.1 - - [24/Nov/1970:09:46:40 +0000] "GET /v2/a/manifests/1 HTTP/1.1" 200 1 "-" "x"',
    b'10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "GET /v2/a/manifests/1 HTTP/1.1" 2x0 1 "-" "x"',
    b'10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "GET /v2//manifests/1 HTTP/1.1" 200 1 "-" "x"',
    b'10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "GET /v2/a/manifests/ HTTP/1.1" 200 1 "-" "x"',
    b'10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "GET /v2/a/manifests/1',
    b'10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "GET /v2/a/manifests/1 HTTP/1.1" 200 1 "-" "x',
    b'10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "\\x16\\x03\\x01" 400 1 "-" "-"',
    b"\xff".join([b"10.0.0.1 - - [24/Nov/2026", b"manifests/1"]),
    '10.0.0.1 - - [24/Nov/2026:09:46:40 +0000] "GET /v2/é%zz%/manifests/%FF HTTP/1.1" 200 1 "-" "x"'.encode(),
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_rubbish(log: Path, end: bytes) -> None:
    """Rubbish and half lines are passed over; the good lines among them count exactly, and give the oldest time."""
    good = [pull("good", at=NOW - DAY * number).encode() for number in range(1, 4)]
    lines = [line for rubbish in RUBBISH for line in (rubbish, *good)]
    log.write_bytes(end.join(lines) + end + pull("good")[:-1].encode())
    found = totals(log)
    assert found.pop("good:1") == 3 * len(RUBBISH)
    assert not any(name.startswith("a:") for name in found)
    assert since(log) == NOW - 3 * DAY


def test_half_a_line_later_whole(log: Path, tmp_path: Path) -> None:
    """A line that was read before it was written whole counts once, when it is."""
    whole = pull("a") + ' "10.9.8.7"'
    for length in range(len(whole)):
        log.write_text(whole[:length])
        if length > len(pull("a")):
            assert totals(log, history=tmp_path / "history") == {"a:1": 1}
    write(log, whole)
    assert totals(log, history=tmp_path / "history") == {"a:1": 1}


def test_rotation(log: Path, tmp_path: Path) -> None:
    """A log that is rotated, compressed and copied counts once, in one reading and over many."""
    history = tmp_path / "history"
    lines = [pull("a", at=NOW - 9 * DAY + second // 3) for second in range(9)]
    write(log, *lines[:5])
    assert totals(log, history=history) == {"a:1": 5}
    write(log, *lines)
    assert totals(log, history=history) == {"a:1": 9}
    log.rename(tmp_path / "access.log.1")
    write(log, pull("a"))
    assert totals(tmp_path / "access.log*", history=history) == {"a:1": 10}
    with gzip.open(tmp_path / "access.log.1.gz", "wb") as packed:
        packed.write((tmp_path / "access.log.1").read_bytes())
    assert totals(tmp_path / "access.log*", history=history) == {"a:1": 10}
    (tmp_path / "access.log.1").unlink()
    (tmp_path / "access.log.1.gz").rename(tmp_path / "access.log.2.gz")
    write(tmp_path / "tail.log", *lines[4:], pull("a"))
    assert totals(tmp_path / "*.log*", log, history=history) == {"a:1": 10}
    for path in tmp_path.glob("*.log*"):
        path.unlink()
    write(log, pull("b"))
    assert totals(log, history=history) == {"a:1": 10, "b:1": 1}
    assert since(log, history=history) == NOW - 9 * DAY
    assert len(list(history.iterdir())) == 4


def test_packed_by_content(log: Path) -> None:
    """Whether a file is compressed is seen in it, not in its name."""
    log.write_bytes(gzip.compress(f"{pull('a')}\n".encode()))
    plain = write(log.with_name("old.gz"), pull("b"))
    assert totals(log, plain) == {"a:1": 1, "b:1": 1}


def test_history_of_many_runs(log: Path, tmp_path: Path) -> None:
    """A history of many files becomes one; what it knows stays, also where a run was killed before it tidied up."""
    history = tmp_path / "history"
    for number in range(23):
        write(log, pull("a", at=NOW - 60 * DAY + number))
        read(log, history=history)
        shutil.copytree(history, tmp_path / "before", dirs_exist_ok=True)
    assert len(list(history.iterdir())) < 10
    assert totals(log, history=history) == {"a:1": 23}
    assert totals(log, history=tmp_path / "before") == {"a:1": 23}
    (history / ".0123.tmp").write_bytes(b"half")
    assert totals(log, history=history) == {"a:1": 23}
    assert not list(history.glob(".*"))


def test_as_of(log: Path) -> None:
    """As of a moment in the past, only what came before it is known."""
    write(log, *(pull("a", at=NOW - day * DAY) for day in range(50)))
    assert read(log, until=NOW - 10 * DAY)["a:1"] == (NOW - 10 * DAY, 30, 40, NOW - 10 * DAY)
    assert since(log, until=NOW - 49 * DAY) == NOW - 49 * DAY
    assert since(log, until=NOW - 49 * DAY - 1) is None
    assert read(log, until=NOW - 49 * DAY - 1) == {}


def test_a_clock_ahead(log: Path) -> None:
    """What comes after the scan counts as of it where that is asked for."""
    write(log, pull("a", at=NOW + 3 * DAY))
    assert read(log) == {}
    assert read(log, later=True) == {"a:1": (NOW, 1, 1, NOW)}


def test_since(log: Path) -> None:
    """The time of the oldest line read, whatever it is about; not of another server's log, nor by a wrong clock."""
    write(log, combined("/v2/", at=NOW - DAY), pull("a"), combined("/healthz", at=NOW - 3 * DAY, status=404))
    write(log.with_name("access.log.2"), combined("/healthz", at=NOW - 7 * DAY, status=500))
    other = write(log.with_name("shop.log"), combined("/index.html", at=NOW - 900 * DAY))
    future = write(log.with_name("future.log"), combined("/v2/", at=NOW + 900 * DAY))
    old = write(log.with_name("old.log"), combined("/v2/", at=1_300_000_000))
    assert since(log, other, future, old) == NOW - 3 * DAY
    assert since(log.with_name("*.log*")) == NOW - 7 * DAY
    assert since(other) is None
    empty = write(log.with_name("empty.log"))
    assert since(empty) is None


def test_what_can_not_be_read(log: Path, tmp_path: Path) -> None:
    """A file that is missing, damaged, no file or no access log is one error that names it; an empty one is none."""
    good = write(log, pull("a"))
    for number, (path, said) in enumerate(
        [
            (tmp_path / "absent.log", "No such file"),
            (tmp_path / "absent*.log", "no file matches"),
            (tmp_path, "is no file"),
            (Path("/dev/zero"), "is no file"),
            (write(tmp_path / "text", "hello", "world"), "no line of .*text"),
            (write(tmp_path / "app.json", json.dumps({"time": "2026-11-24T09:46:40Z", "msg": "hi"})), "no line of"),
        ]
    ):
        with pytest.raises(StorageError, match=said):
            read(path)
        if number != 4 and number != 5:
            with pytest.raises(StorageError, match=said):
                read(good, path)
    damaged = tmp_path / "access.log.1.gz"
    damaged.write_bytes(gzip.compress("\n".join(pull("a", str(number)) for number in range(99)).encode())[:-9])
    with pytest.raises(StorageError, match=r"access\.log\.1\.gz can't be read"):
        read(good, damaged)


def test_damaged_history(log: Path, tmp_path: Path) -> None:
    """A history that can't be read or written stops the run, with a cure; nothing in it is lost."""
    history = tmp_path / "history"
    write(log, pull("a"))
    read(log, history=history)
    (history / "x.parquet").write_bytes(b"PAR1 rubbish")
    with pytest.raises(StorageError, match=r"history .*: a damaged history of pulls: delete the folder"):
        read(log, history=history)
    (history / "x.parquet").unlink()
    assert totals(log, history=history) == {"a:1": 1}
    write(tmp_path / "file")
    with pytest.raises(StorageError, match="no history of pulls can be kept"):
        read(log, history=tmp_path / "file")


def test_a_sound_history_is_not_called_damaged(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is too small for what is read, nobody is told to delete what is sound."""
    write(log, pull("a"))

    def no_room(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate")

    monkeypatch.setattr(AccessLog, "_merge", no_room)
    with pytest.raises(StorageError, match=r"history can't be read \(Out of Mem.*: it may be sound; free memory"):
        read(log, history=tmp_path / "history")


def test_odd_names(tmp_path: Path) -> None:
    """Names of files that look like globs or SQL are names where there are such files."""
    folder = tmp_path / "it's [a] *"
    folder.mkdir()
    file = write(folder / "a[1]?.log", pull("a"))
    assert totals(file, history=folder / "'h*'") == {"a:1": 1}
    assert totals(file, history=folder / "'h*'") == {"a:1": 1}


def test_against_counting_by_hand(tmp_path: Path) -> None:
    """Random logs, cut and rotated at random, give what a plain count gives."""
    chance = random.Random(14)
    for case in range(6):
        folder = tmp_path / str(case)
        folder.mkdir()
        lines, want = [], Counter[str]()
        for number in range(chance.randrange(1, 400)):
            name, reference = chance.choice("abc"), chance.choice(["1", "2", DIGEST])
            method, status = chance.choice([("GET", 200), ("GET", 200), ("HEAD", 200), ("GET", 404)])
            lines.append(pull(name, reference, at=NOW - 90 * DAY + number // 5, method=method, status=status))
            want[f"{name}:{reference}"] += (method, status) == ("GET", 200)
        # Not inside of a second, of which two files have alike lines.
        cuts = sorted({0, len(lines), *(5 * chance.randrange(len(lines) // 5 + 1) for _ in range(3))})
        for number, (start, stop) in enumerate(pairwise(cuts)):
            write(folder / f"access.log.{number}", *lines[start:stop])
            if chance.random() < 0.5:
                read(folder / "*.log*", history=folder / "history")
            if chance.random() < 0.5:
                (folder / f"access.log.{number}").rename(folder / f"moved.log.{number}")
        assert totals(folder / "*.log*", history=folder / "history") == +want, case
        assert totals(folder / "*.log*") == +want


def test_sql_is_packaged() -> None:
    """The SQL lies beside the code that runs it."""
    assert {path.name for path in (ROOT / "regdata/usage").glob("*.sql")} == {"accesslog.sql", "later.sql", "pulls.sql"}


def test_times_of_summer(log: Path) -> None:
    """An hour that a zone has twice is two hours."""
    lines = ['10.0.0.1 - - [25/Oct/2026:02:30:00 +0200] "GET /v2/a/manifests/1 HTTP/1.1" 200 1 "-" "x"']
    write(log, *lines, lines[0].replace("+0200", "+0100"))
    first = int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp())
    assert read(log)["a:1"] == (first + 3600, 0, 2, first + 3600)
