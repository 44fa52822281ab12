"""Whatever stands in a manifest, a record or a conf.json, no foreign exception comes of it.

More examples: PROPERTY_EXAMPLES=10000 pytest tests/test_fuzz.py
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regdata.cleaning.undo import runs
from regdata.config import check_config
from regdata.errors import ConfigError, RegdataError
from regdata.records.closing import close_killed, told
from regdata.records.index import write_index
from regdata.records.reading import PastRun
from regdata.records.runs import find_run, past_runs, uncollected, unfinished
from regdata.sources.manifest import parse_config, parse_manifest, sha256_of, with_config
from regdata.sources.mediatypes import MANIFEST_TYPES

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "60"))
URL = "http://127.0.0.1:5000"
A = f"sha256:{'a' * 64}"

scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([A, "app", "2099-01-01T00:00:00Z", "killed", "running", "\ud800", "\x1b[31m", "${HOME}", "", URL])
)


def documents(*keys: str) -> st.SearchStrategy[Any]:
    """JSON in which these keys stand anywhere."""
    names = st.sampled_from(keys) | st.text(max_size=4)
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6), max_leaves=20
    )


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """A JSON object of these keys, each with anything."""
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=4), documents(*keys), max_size=len(keys))


def encoded(document: object) -> bytes:
    """As Python writes it, with NaN and halves of characters where they are."""
    return json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes, of which some may be cut out or be others."""
    data = draw(whole)
    if draw(st.integers(0, 3)):
        return data
    begin = draw(st.integers(0, len(data)))
    return data[:begin] + draw(st.binary(max_size=4)) + data[draw(st.integers(begin, len(data))) :]


fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

MANIFEST: tuple[str, ...] = (
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "subject",
    "annotations",
)
MANIFEST += ("platform", "os", "architecture", "artifactType", "blobs", "Digest", "created", "Labels", "history")


@fuzz
@given(damaged(objects(*MANIFEST).map(encoded)), st.sampled_from([*MANIFEST_TYPES, None, "", "x/y; z", "\x1b"]))
def test_manifests(data: bytes, media_type: str | None) -> None:
    """A manifest, index or config of anything is read, or is an error in its row."""
    content = parse_manifest(sha256_of(data), data, media_type)
    assert with_config(content, parse_config(data)).manifest_hash == sha256_of(data)
    assert content.error is None or content.error.isprintable()


CONF: tuple[str, ...] = (
    "registry",
    "url",
    "base_path",
    "engine",
    "protect",
    "sql",
    "gc-command",
    "gc-before",
    "reports",
    "limits",
)
CONF += (
    "max_tags",
    "in-use",
    "expect",
    "selects",
    "names",
    "requests",
    "at_once",
    "repositories",
    "cache",
    "curl",
    "none",
)


@contextmanager
def only(*kinds: type[BaseException]) -> Iterator[None]:
    """Errors of these kinds are as good as none; their words are fit for a terminal."""
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except kinds as error:
            said = str(error)
    assert all(char.isprintable() or char in "\n\t" for char in said)


@fuzz
@given(damaged(objects(*CONF).map(lambda more: encoded({"registry": {"url": URL}, "sql": {"none": "2=1"}} | more))))
def test_conf(data: bytes) -> None:
    """A conf.json of anything is valid, or a ConfigError."""
    with only(ConfigError):
        config = check_config(Path("/nowhere/conf.json"), data)
        assert len(config.registry_id) == 32
        assert repr(config)
        assert config.registry_url
        config.condition("none")


FACTS: tuple[str, ...] = (
    "status",
    "started",
    "finished",
    "registry",
    "registry_id",
    "sql_id",
    "action",
    "condition",
    "errors",
    "notes",
)
FACTS += ("tags_deleted", "tags_untagged", "manifests_deleted", "bytes_freed", "bytes_predicted", "finished_by", "user")
EVENTS: tuple[str, ...] = (
    "started",
    "beginning",
    "taking",
    "taken",
    "untagging",
    "untagged",
    "deleting",
    "deleted",
    "moved",
    "running",
)
EVENTS += ("ran", "collecting", "unlinking", "collected", "brought back", "finished")
KEYS = ("image", "digest", "digests", "tag", "name", "scanned", "blobs", "step", "exit_code", "media_type", "time")

events = st.builds(
    lambda kind, event: event | {"event": kind}, st.sampled_from(EVENTS) | documents(*KEYS), objects(*KEYS)
)
journals = st.lists((events | documents(*KEYS)).map(encoded), max_size=6).map(b"\n".join)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Files that plan.parquet may be."""
    import pandas as pd

    path = tmp_path_factory.mktemp("plans") / "plan.parquet"
    found = [b"", b"PAR1"]
    columns = ("image_name", "tag_name", "tag_hash", "action", "reason")
    for values in (["app", None], [1, 2], [["app"], None], [{"a": 1}, {"a": 2}]):
        pd.DataFrame(dict.fromkeys(columns, values)).to_parquet(path)
        found.append(path.read_bytes())
    pd.DataFrame({"image_name": ["app"]}).to_parquet(path)
    return [*found, path.read_bytes()]


@fuzz
@given(
    damaged(objects(*FACTS).map(lambda facts: encoded({"registry": URL, "status": "running"} | facts))),
    damaged(journals),
    st.integers(0, 6),
)
def test_records(plans: list[bytes], facts: bytes, journal: bytes, plan: int) -> None:
    """An earlier run's record of anything is passed over, counted as far as it can be read, or a RegdataError."""
    folder = Path(tempfile.mkdtemp())
    try:
        conf = {"registry": {"url": URL}, "sql": {"none": "2=1"}, "reports": "reports"}
        config = check_config(folder / "conf.json", json.dumps(conf).encode())
        past = config.reports / "20200101T000000Z-none"
        past.mkdir(parents=True)
        for name, data in (("record.json", facts), ("journal.jsonl", journal), ("plan.parquet", plans[plan])):
            (past / name).write_bytes(data)
        look(past, [lambda: past_runs(config), lambda: unfinished(config, besides=folder)])
        look(past, [lambda: uncollected(config, besides=folder), lambda: runs(config), lambda: find_run(past, config)])
        look(past, [lambda: close_killed(config, besides=folder), lambda: write_index(config.reports)])
        look(past, [lambda: told(PastRun(past)), lambda: past_runs(config)])
    finally:
        shutil.rmtree(folder)


def look(past: Path, reads: list[Callable[[], object]]) -> None:
    """Reads in all these ways, and all that a record has."""
    run = PastRun(past)
    for read in (
        *reads,
        lambda: run.going,
        lambda: run.blobs,
        lambda: run.manifests,
        lambda: run.tags,
        lambda: run.began_to_collect,
        lambda: run.ended_well,
        lambda: run.is_at_command,
        lambda: run.counts(lambda *_: True),
    ):
        with only(RegdataError):
            read()
