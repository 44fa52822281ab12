"""A run on a real registry that knows who pulls and what runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import make_image, make_index, make_layer, push
from regdata.errors import CleanupError
from regdata.notebook.run import Run, start
from tests.support.helpers import age, docker_ref, pull_all, skopeo_copy, store_tags

Conf = Callable[..., Path]
LOG = {"log": {"level": "info", "formatter": "json", "accesslog": {"disabled": False}}}


@pytest.fixture
def logging(tools: None, tmp_path: Path) -> Any:
    """A registry that logs, with images pushed 400 days ago: a:old, a:pulled, a:multi, and one whose tag has moved."""
    with LocalRegistry(tmp_path / "registry", settings=LOG) as registry:
        for name in ("old", "pulled", "moved"):
            push(registry.url, "a", name, make_image([make_layer(name, 500)]))
        children = [make_image([make_layer(f"multi{number}", 500)], platform=f"linux/{number}") for number in "12"]
        push(registry.url, "a", "multi", make_index(children))
        push(registry.url, "a", "moved", make_image([make_layer("moved to", 500)]))
        registry.stop()
        age(registry.base_path, 400 * 86400)
        registry.start()
        yield registry


def stopped(run: Run, store: Path) -> str:
    """What a run is stopped by, with nothing deleted."""
    before = store_tags(store)
    with pytest.raises(CleanupError) as caught:
        run.apply()
    assert store_tags(store) == before
    facts = json.loads((run.record.folder / "record.json").read_text())
    assert facts["errors"]
    assert facts["tags_deleted"] == facts["manifests_deleted"] == 0
    return str(caught.value)


def test_the_first_day(logging: LocalRegistry, conf: Conf) -> None:
    """Where the log begins today, idle_days > 90 selects nothing, however old; what was pulled is known."""
    skopeo_copy(docker_ref(logging, "a:pulled"), f"dir:{conf(logging).parent / 'pulled'}")
    path = conf(logging, **{"sql": {"idle": "idle_days > 90"}, "access-log": str(logging.log_path), "cache": "cache"})
    run = start(sql_id="idle", conf=str(path))
    plan = run.plan()
    assert plan.tags.empty
    images = plan.inventory.images.set_index("tag_name")
    assert dict(images["pulls_total"]) == {"old": 0, "pulled": 1, "moved": 0, "multi": 0}
    assert images["last_pulled"].notna().sum() == 1
    assert images["idle_days"].max() < 1
    assert "pulls_since" in str(run)
    again = regdata.scan(regdata.load_config(path)).images.set_index("tag_name")
    assert dict(again["pulls_total"]) == dict(images["pulls_total"])  # our own requests are no pulls


def test_what_runs_stays(logging: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """By tag, by a child's digest and by a digest without a tag: it pulls afterwards, byte for byte; the rest goes."""
    inventory = regdata.scan(regdata.load_config(conf(logging)))
    orphan = inventory.manifests.query("orphan")["manifest_hash"].iloc[0]
    child = inventory.manifests.query("not orphan and not tagged")["manifest_hash"].iloc[0]
    names = ["a:pulled", f"a@{orphan}", "a:multi"]
    before = {name: pull_all(logging, name, tmp_path / f"before{number}") for number, name in enumerate(names)}
    pods = [{"image": f"cluster.svc/a@{child}"}, {"imageID": f"docker-pullable://cluster.svc/a@{orphan}"}]
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "PodList", "items": pods}))
    lists = ["pods.json", [sys.executable, "-c", "print('cluster.svc/a:pulled')"]]
    url = {"url": logging.url, "base_path": str(logging.base_path), "names": ["cluster.svc"]}
    path = conf(logging, **{"in-use": lists, "registry": url})
    run = start(sql_id="all", conf=str(path))
    run.apply()
    run.finish()
    assert store_tags(logging.base_path) == {"a:pulled", "a:multi"}
    logging.restart()
    after = {name: pull_all(logging, name, tmp_path / f"after{number}") for number, name in enumerate(names)}
    assert after == before
    assert run.record.facts["tags_in_use"] == 2


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (["absent.txt"], "can't be read"),
        ([[sys.executable, "-c", "raise SystemExit('no cluster')"]], "no cluster"),
        ([[sys.executable, "-c", "pass"]], "names nothing at all"),
        ([[sys.executable, "-c", "print('elsewhere.example/a:old')"]], "names nothing of this registry"),
    ],
)
def test_a_list_that_fails(logging: LocalRegistry, conf: Conf, lists: list[Any], said: str) -> None:
    """It stops the run before anything is deleted."""
    run = start(sql_id="all", conf=str(conf(logging, **{"in-use": lists})))
    assert said in stopped(run, logging.base_path)


def test_what_starts_meanwhile(logging: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """What came into use since the plan was made stops the run, too."""
    listed = tmp_path / "running.txt"
    listed.write_text("a:pulled")
    run = start(sql_id="all", conf=str(conf(logging, **{"in-use": ["running.txt"]})))
    run.plan()
    listed.write_text("a:pulled\na:old")
    assert "a:old" in stopped(run, logging.base_path)


def test_expectations(logging: LocalRegistry, conf: Conf) -> None:
    """One that fails stops a run that deletes, and fails one that lists, which shows them all."""
    expect = {"all": {"selects": ["a:*"], "never": ["*:pulled"]}}
    path = str(conf(logging, expect=expect))
    assert "a:pulled" in stopped(start(sql_id="all", conf=path), logging.base_path)
    listing = start(sql_id="all", action="none", conf=path)
    assert "✗ 1 of 2 expectations fail" in str(listing.expect())
    listing.apply()
    with pytest.raises(CleanupError, match="must never be selected"):
        listing.finish()
    assert listing.record.facts["expectations_failed"] == 1
    good = start(sql_id="none", action="none", conf=path)
    good.apply()
    good.finish()


def test_the_past(logging: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """A sentence of the report says what the condition would have broken."""
    log = tmp_path / "old.log"
    line = '1.1.1.1 - - [{}/2025:00:00:00 +0000] "GET /v2/a/manifests/{} HTTP/1.1" {} 1 "-" "docker/24"\n'
    log.write_text(line.format("01/Oct", "absent", 404))
    skopeo_copy(docker_ref(logging, "a:pulled"), f"dir:{tmp_path / 'pulled'}")
    logs = [str(log), str(logging.log_path)]
    path = str(conf(logging, **{"access-log": logs, "sql": {"none": "2=1", "old": "age_days > 90"}, "cache": "cache"}))
    run = start(sql_id="old", action="none", conf=path)
    assert str(run.backtest()).startswith("1 of 4 tags was pulled later, such as a:pulled")
    assert run.record.facts["backtest_missed"] == 1
    assert "No backtest" in str(start(sql_id="none", conf=path).backtest())
