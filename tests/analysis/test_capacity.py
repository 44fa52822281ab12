"""Growth, forecast and what conditions would change: against naive sums, and the notebook as people run it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from regdata.analysis import capacity, space
from regdata.analysis.capacity import Disk, look, study
from regdata.analysis.forecast import DAY, STEP, Forecast, Past, day, forecast
from regdata.analysis.replay import as_of
from regdata.config import load_config
from regdata.demo.local import LocalRegistry
from regdata.errors import ConfigError
from regdata.inventory.inventory import Inventory
from regdata.inventory.scan import scan
from regdata.notebook import charts, findings, views
from regdata.planning.plan import plan
from regdata.show.words import size
from tests.support.helpers import ROOT, no_rows, numbered, store_bytes
from tests.support.notebooks import execute

pytestmark = pytest.mark.slow

Conf = Callable[..., Path]
NOW = 1_800_000_000
OLD = "age_days > 90"


class Push(NamedTuple):
    image: str
    tag: str
    when: int
    layers: dict[str, int]


def sha(name: object) -> str:
    return "sha256:" + hashlib.sha256(repr(name).encode()).hexdigest()


def inventory_of(pushes: list[Push], *, at: int = NOW, dates: bool = True) -> Inventory:
    """What a registry holds that got the pushes until ``at``, or what its API says of it."""
    columns = no_rows()

    def add(table: str, **row: Any) -> None:
        for name, values in columns[table].items():
            values.append(row.get(name))

    blobs: dict[str, tuple[int, int]] = {}
    for push in sorted((one for one in pushes if one.when <= at), key=lambda one: one.when):
        digest, pushed = sha(push), push.when if dates else None
        add("tags", image_name=push.image, tag_name=push.tag, tag_hash=digest, pushed=pushed)
        add("revisions", image_name=push.image, manifest_hash=digest, pushed=pushed)
        kind = {"media_type": "application/vnd.oci.image.manifest.v1+json", "kind": "image"}
        add("contents", manifest_hash=digest, manifest_size=500, created=push.when, **kind)
        blobs.setdefault(digest, (500, push.when))
        for layer, bytes_ in push.layers.items():
            blobs.setdefault(sha(layer), (bytes_, push.when))
            reference = {"reference_hash": sha(layer), "reference_kind": "layer", "reference_size": bytes_}
            add("references", manifest_hash=digest, **reference)
    for name in sorted({push.image for push in pushes}):
        add("repositories", image_name=name)
    for digest, (bytes_, when) in blobs.items() if dates else ():
        add("blobs", blob_hash=digest, blob_size=bytes_, blob_date=when)
    return Inventory.from_columns(numbered(columns), scanned_at=at, from_store=dates, registry="http://r:5000")


def builds(months: int, *, seed: int = 0) -> list[Push]:
    """Three images that are built a few times a month; the builds of half a year share a layer."""
    chance = random.Random(seed)
    made = []
    for image in ("shop/web", "shop/api", "data/etl"):
        for number in range(3 * months):
            when = NOW - 86400 - int((months * 30 - 10 * number - 10 * chance.random()) * DAY)
            layers = {f"base {number // 18}": 10_000, f"{image} {number}": chance.randrange(1_000, 9_000)}
            made.append(Push(image, f"1.{number}", min(when, NOW - 3600), layers))
    return made


def line(values: list[float], *, ahead: int = 12) -> Forecast | None:
    times = [NOW - STEP * back for back in range(len(values) - 1, -1, -1)]
    return forecast(times, values, ahead=ahead)


# The past


@pytest.mark.parametrize("dates", [True, False], ids=["folder", "API"])
def test_bytes_by_date(dates: bool) -> None:
    """At any time in the past there was what had been pushed by then, by dates of the store or of builds."""
    pushes = builds(8)
    inventory = inventory_of(pushes, dates=dates)
    past = Past.of(space.by_blob(inventory), now=NOW)
    times = [NOW - back * DAY for back in (0, 1, 40, 100, 250, 300)]
    for time, found in zip(times, past.at(times), strict=True):
        then = inventory_of(pushes, at=time, dates=dates)
        assert found == space.totals(then).stored
    assert past.oldest == min(push.when for push in pushes)
    assert past.steps == [NOW - back * STEP for back in range(past.known, -1, -1)]
    assert past.frame["bytes"].is_monotonic_increasing
    assert past.frame["bytes"].iloc[-1] == past.at([NOW])[0] == space.totals(inventory).stored


def test_unknown_dates() -> None:
    """What has no date counts as always there, and a registry without any date can't be forecast."""
    blobs = pd.DataFrame({"blob_size": [5, 7], "since": pd.array([NOW - DAY, None], dtype="Int64")})
    past = Past.of(blobs, now=NOW)
    assert past.at([NOW - 2 * DAY, NOW]).tolist() == [7, 12]
    undated = Past.of(blobs.tail(1), now=NOW)
    assert undated.steps == [NOW]
    assert undated.frame["bytes"].tolist() == [7]


def test_snapshots_measure_the_past() -> None:
    """From the first snapshot on the past is what was measured, before it what that snapshot's dates say."""
    pushes = builds(10)
    gone = Push("shop/web", "gone", NOW - 200 * DAY, {"gone": 70_000})
    first = inventory_of([*pushes, gone], at=NOW - 150 * DAY)
    second, now = inventory_of([*pushes, gone], at=NOW - 60 * DAY), inventory_of(pushes)
    study = look(now, {"old": OLD}, earlier=[first, second])
    totals = [space.totals(one).stored for one in (first, second, now)]
    times = [NOW - 210 * DAY, NOW - 150 * DAY, NOW - 60 * DAY, NOW - 30 * DAY, NOW]
    before = space.totals(inventory_of(pushes, at=times[0])).stored
    assert study.past.at(times).tolist() == [before, *totals[:2], (totals[1] + totals[2]) / 2, totals[2]]
    assert study.past.frame.query("measured")["bytes"].tolist() == totals
    # The plan's bytes are those of today's registry.
    assert study.options[0].freed == plan(now, OLD).reclaimable
    assert f"snapshots  2 since {day(NOW - 150 * DAY)}" in str(study)
    assert "when the snapshots begin" in findings.past(study)


# The forecast


def test_steady_growth() -> None:
    """A growth that was always the same goes on, and the disk is full on the day on which it reaches the limit."""
    found = line([1000.0 * step for step in range(8)])
    assert found is not None
    assert found.path["bytes"].tolist() == [1000 * step for step in range(7, 20)]
    assert (found.path["low"] == found.path["high"]).all()
    full = found.full(9500)
    assert full.expected == full.earliest == full.latest == NOW + 2.5 * STEP
    assert str(full) == "31 Mar 2027 (31 Mar 2027 to 31 Mar 2027)"
    assert str(found.full(50_000)) == f"later than {day(NOW + 12 * STEP)}"
    assert str(found.full(7000)) == "now"


@pytest.mark.parametrize("values", [[5.0] * 9, [0.0] * 9, list(range(9, 0, -1))], ids=["same", "nothing", "shrinks"])
def test_no_growth(values: list[float]) -> None:
    """What does not grow never fills a disk, and never falls below nothing."""
    found = line(values)
    assert found is not None
    assert str(found.full(100)) == "never"
    assert (found.path[["bytes", "low", "high"]] >= 0).all(axis=None)


def test_too_little_for_a_forecast() -> None:
    """Fewer than six months of growth give none."""
    assert line([1.0, 2, 3, 4, 5, 6]) is None
    assert line([1.0, 2, 3, 4, 5, 6, 7]) is not None
    study = look(inventory_of(builds(4)), {"old": OLD}, disk=Disk(10**9, 10**9))
    assert "can't be forecast honestly" in findings.outlook(study)
    assert "and 3 are known" in findings.outlook(study)
    assert study.ahead.empty
    assert study.changes.empty
    assert study.full() is None
    assert "too little is known for a forecast" in str(views.options(study))


def test_interval() -> None:
    """The interval widens, holds the expectation, never falls below what is stored, and holds most truths."""
    chance = np.random.default_rng(7)
    held = 0
    for _ in range(40):
        values = np.cumsum(chance.lognormal(0, 0.7, 19))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = line([float(round(value * 1e9)) for value in values[:13]])
        assert found is not None
        path = found.path
        assert (path["low"] <= path["bytes"]).all()
        assert (path["bytes"] <= path["high"]).all()
        assert (path["low"] >= path["bytes"].iloc[0]).all()
        assert (path["high"] - path["low"]).is_monotonic_increasing
        _, low, high = found.at(NOW + 6 * STEP)
        held += low <= values[-1] * 1e9 <= high
    assert held >= 30


def test_a_single_jump() -> None:
    """One large push does not make the interval say that as much is to come again."""
    found = line([float(10**9)] * 9 + [float(10**12)])
    assert found is not None
    assert found.at(NOW + STEP)[1] == 10**12
    assert found.full(2 * 10**12).latest is None


# What conditions would change


@pytest.mark.parametrize("dates", [True, False], ids=["folder", "API"])
def test_as_of(dates: bool) -> None:
    """What the registry was at a time in the past, where no tag has moved: ages and ranks as a scan then gave them."""
    pushes = builds(6)
    now = inventory_of(pushes, dates=dates)
    for back in (0, 45, 120):
        time = NOW - back * DAY
        found, wanted = as_of(now, time, blobs=space.by_blob(now)), inventory_of(pushes, at=time, dates=dates)
        columns = ["image_name", "tag_name", "tag_timestamp", "tag_size", "age_days", "newest_rank", "kind"]
        assert_frame_equal(
            found.images[columns].sort_values(columns[:2], ignore_index=True),
            wanted.images[columns].sort_values(columns[:2], ignore_index=True),
            check_dtype=False,
        )
        assert set(found.manifests["manifest_hash"]) == set(wanted.manifests["manifest_hash"])
        for condition in (OLD, "newest_rank > 3", "image_name like 'shop/%'"):
            assert plan(found, condition).reclaimable == plan(wanted, condition).reclaimable


def test_options() -> None:
    """Run now a condition frees what its plan says; run every month there is what it left and what came since."""
    pushes = builds(10)
    inventory = inventory_of(pushes)
    conditions = {"nothing": "1=2", "old": OLD, "few": "newest_rank > 3", "wrong": "nonsense = 1"}
    study = look(inventory, conditions, disk=Disk(300_000, 300_000), horizon_days=90)
    steps = [NOW - back * STEP for back in range(9, -1, -1)]
    assert study.past.steps == steps
    stored = [space.totals(inventory_of(pushes, at=time)).stored for time in steps]
    earlier = [inventory_of(pushes, at=time - STEP) for time in steps]
    nothing, old, few, wrong = study.options
    for option in (nothing, old, few):
        now = plan(inventory, option.condition)
        assert (option.tags, option.freed) == (len(now.tags), now.reclaimable)
        before = [plan(one, option.condition).reclaimable for one in earlier]
        assert option.peaks == tuple(all_ - freed for all_, freed in zip(stored, before, strict=True))
    assert nothing.peaks == tuple(stored)
    assert "nonsense" in wrong.error
    assert wrong.monthly is None

    # Doing nothing every month is like doing nothing.
    assert study.full_monthly(nothing) == study.full() == study.full(nothing.freed)
    assert study.outlook is not None
    assert study.full(old.freed) == study.outlook.full(300_000 + old.freed)
    assert study.changes["condition"].tolist() == ["no clean-up", "nothing", "old", "few"]
    expected = study.outlook.at(NOW + 90 * DAY)[0]
    assert study.changes["now"].tolist() == [expected, expected, expected - old.freed, expected - few.freed]
    assert study.ahead["time"].iloc[-1] == NOW + 90 * DAY

    table = str(views.options(study))
    assert re.search(rf"^old +{old.tags} +{re.escape(size(old.freed))} +", table, re.MULTILINE)
    assert str(study.full()) in table
    assert "wrong: condition 'nonsense = 1', read by duckdb: " in table
    assert size(old.freed) in findings.changes(study) or size(few.freed) in findings.changes(study)


def test_findings_and_charts() -> None:
    """Sentences and charts say what the frames hold."""
    study = look(inventory_of(builds(14)), {"old": OLD, "few": "newest_rank > 3"}, disk=Disk(500_000, 500_000))
    stored = space.totals(study.inventory).stored
    assert findings.past(study).startswith(f"**{size(stored)}** are stored.")
    assert f"it was {size(int(study.past.at([NOW - 365 * DAY])[0]))} 365 days ago" in findings.past(study)
    year = study.months[study.months["month"] > "2026-01"].groupby("month")["bytes"].sum()
    assert f"**{size(int(year.sum() / 12))} a month**" in findings.growth(study)
    assert f"{year.idxmax()} ({size(year.max())})" in findings.growth(study)
    assert study.outlook is not None
    expected, low, high = study.outlook.at(study.horizon)
    assert f"**{size(expected)}** are to be expected" in findings.outlook(study)
    assert f"{size(low)} to {size(high)}" in findings.outlook(study)
    assert "Half a year ago the same method would have said" in findings.outlook(study)

    with mpl.rc_context({"backend": "agg"}):
        axes = charts.stored_over_time(study.past.frame)
        assert max(axes.lines[0].get_ydata()) == stored  # type: ignore[arg-type, type-var]
        axes = charts.outlook(study.past.frame, study.ahead, limit=500_000)
        assert [line.get_ydata()[-1] for line in axes.lines] == [stored, expected, 500_000]  # type: ignore[index]
        axes = charts.after_conditions(study.changes, limit=10**12)
        labels = {text.get_text() for text in axes.texts}
        assert {size(int(value)) for value in study.changes[["now", "monthly"]].to_numpy().ravel()} == labels
        widths = sorted(bar.get_width() for bar in axes.patches)  # type: ignore[attr-defined]
        drawn = [*study.changes["now"], *study.changes["monthly"][1:]]
        assert widths == sorted(drawn)
        for drawn_axes in (axes, charts.outlook(study.past.frame, study.ahead, limit=10**12)):
            drawn_axes.figure.canvas.draw()
        assert "room for 1 TB" in drawn_axes.get_xlabel()
        plt.close("all")


# The notebook

IMAGES = ("stored_over_time", "size_by_age", "outlook", "after_conditions")


def test_notebook(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """On the demo registry it shows the store's bytes, the plans' bytes, the disk, and a wrong condition's error."""
    sql = {"none": "2=1", "old": OLD, "autobuild": "image_name like '%prod%'", "wrong": "nonsense = 1"}
    path = conf(demo_registry, sql=sql, snapshots="snapshots")
    inventory = scan(load_config(path))
    (tmp_path / "snapshots/20200101T000000Z").mkdir(parents=True)
    (tmp_path / "snapshots/20200101T000000Z/snapshot.json").write_text("{}")
    shown = execute("capacity", path, disk_bytes=60_000_000, horizon_days=90)
    assert (shown.code, len(shown.pictures), shown.streams) == (0, len(IMAGES), [])
    assert f"**{size(store_bytes(demo_registry.base_path))}** are stored." in shown.said
    for name in ("old", "autobuild"):
        now = plan(inventory, sql[name])
        gone = int((now.tags["action"] != "keep").sum())
        assert re.search(rf"^{name} +{gone} +{re.escape(size(now.reclaimable))} +\S", shown.said, re.MULTILINE)
    assert "none " not in shown.said.split("condition ")[1]
    assert "60 MB, as disk_bytes says" in shown.said
    assert "the disk is full **" in shown.said
    assert "wrong: condition 'nonsense = 1', read by duckdb" in shown.said
    assert "Note: left out: " in shown.said
    assert "is not a whole snapshot" in shown.said


def test_notebook_without_base_path(demo_registry: LocalRegistry, conf: Conf) -> None:
    """Without base_path it goes by build dates, and says what is left out."""
    path = conf(demo_registry, registry={"url": demo_registry.url})
    stored = space.totals(scan(load_config(path))).stored
    shown = execute("capacity", path)
    assert (shown.code, len(shown.pictures), shown.streams) == (0, len(IMAGES), [])
    assert f"**{size(stored)}** are stored." in shown.said
    assert "build dates: push dates take registry.base_path" in shown.said
    assert "not known: give disk_bytes" in shown.said
    assert "When the disk is full can't be said: disk_bytes is not given." in shown.said


@pytest.mark.parametrize(
    "wrong",
    [
        *({"horizon_days": wrong} for wrong in (0, "90", 15_552_000)),
        *({"disk_bytes": wrong} for wrong in (10**19, -1, 1.5)),
    ],
)
def test_wrong_parameters(wrong: dict[str, Any]) -> None:
    """A wrong parameter is an error before anything is read."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name} is .*, but must be a whole number"):
        capacity.study(conf="/absent", **wrong)


def test_disk_of_the_file_system(demo_registry: LocalRegistry, conf: Conf) -> None:
    """Without disk_bytes the registry has room for what it stores and what is free on its file system."""
    study = capacity.study(conf=str(conf(demo_registry, sql={"none": "2=1"})))
    status = os.statvfs(demo_registry.base_path)
    stored = store_bytes(demo_registry.base_path)
    assert study.disk.size == status.f_blocks * status.f_frsize
    assert study.disk.limit == pytest.approx(stored + status.f_bavail * status.f_frsize, rel=0.2)
    assert study.options == ()
    assert "conf.json has no condition" in findings.changes(study)


def test_notebook_is_clean() -> None:
    """A cell is one call, none defines a function, and no output is stored."""
    notebook = json.loads((ROOT / "notebooks/capacity.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not any("def " in "".join(cell["source"]) for cell in code)
    assert [cell["metadata"]["tags"] for cell in code if "tags" in cell["metadata"]] == [["parameters"]]


def test_snapshots_of_the_other_source(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """What the API told once is not compared with what the folder tells, nor what another registry held."""
    config = load_config(conf(demo_registry, snapshots=str(tmp_path / "snapshots")))
    earlier = replace(scan(config), scanned_at=1_500_000_000)
    others: list[dict[str, Any]] = [{}, {"from_store": False}, {"registry_id": "another"}]
    others += [{"registry": "http://elsewhere:5000", "registry_id": ""}]
    others += [{"registry_id": "another"} for _ in range(2 * capacity.SNAPSHOTS)]
    for number, other in enumerate(others):
        replace(earlier, scanned_at=earlier.scanned_at + number * DAY, **other).save(tmp_path / "snapshots")
    found = study(conf=str(config.path), disk_bytes=10**12)
    assert found.past.frame.query("measured")["time"].tolist() == [earlier.scanned_at, found.inventory.scanned_at]


def test_snapshots_of_another_spelling(demo_registry: LocalRegistry, conf: Conf, tmp_path: Path) -> None:
    """They are known by which registry it is, not by how its URL is written."""
    config = load_config(conf(demo_registry, snapshots=str(tmp_path / "snapshots")))
    replace(scan(config), scanned_at=1_500_000_000, registry="http://localhost:1").save(tmp_path / "snapshots")
    assert len(study(conf=str(config.path), disk_bytes=10**12).past.frame.query("measured")) == 2


def test_a_registry_that_is_a_day_old() -> None:
    """No sentence about it speaks of 0 days or of twelve months."""
    made = inventory_of([Push("a/app", str(number), NOW - 3600, {f"l{number}": 1000}) for number in range(3)])
    found = look(made, {})
    said = [
        findings.past(found),
        findings.growth(found),
        findings.by_month(space.by_month(made)),
        findings.by_tag(space.by_tag(made)),
    ]
    assert "all of it for less than a day" in said[0]
    assert "the first month" in said[1]
    assert said[2].startswith("What is stored came in")
    assert "younger than a day" in said[3]
    assert not any(word in " ".join(said) for word in ("0 days", "12 months", "1 months"))
