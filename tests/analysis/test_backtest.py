"""Backtests: against a naive count over random histories, and what is said where little is known."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regdata.analysis.backtest import Backtest, backtest
from regdata.analysis.forecast import STEP
from regdata.config import Config, load_config
from regdata.errors import ConditionError
from regdata.inventory.inventory import Inventory
from regdata.inventory.usage import in_use, observed
from tests.support.small import DAY, NOW, Small, digest, indexed

pytestmark = pytest.mark.slow

MONTHS = 4


@dataclass
class Tag:
    """A tag that is pushed once or again; each push is another image."""

    image: str
    name: str
    pushes: list[int]
    pulls: list[tuple[int, str]] = field(default_factory=list)  # when, and "tag" or a push's number

    def manifest(self, push: int) -> str:
        return digest(f"{self.image}{self.name}{push}")

    def at(self, time: int) -> int | None:
        """The number of the newest push by then."""
        before = [number for number, when in enumerate(self.pushes) if when <= time]
        return before[-1] if before else None


def world(chance: random.Random) -> list[Tag]:
    tags = []
    for number in range(chance.randrange(1, 8)):
        pushes = sorted(NOW - chance.randrange(1, 400) * DAY for _ in range(chance.choice([1, 1, 1, 2, 3])))
        tag = Tag(chance.choice("ab"), f"t{number}", pushes)
        for _ in range(chance.randrange(5)):
            when = chance.randrange(pushes[0] + 1, NOW)
            tag.pulls.append((when, chance.choice(["tag", str(chance.randrange(len(pushes)))])))
        tags.append(tag)
    return tags


def seen(tags: list[Tag], time: int) -> Inventory:
    """The registry as a scan then finds it."""
    made = Small()
    for tag in tags:
        for push, when in enumerate(tag.pushes):
            if when <= time:
                made.push(
                    tag.image, f"{tag.name}{push}", days=(NOW - when) / DAY, **{f"{tag.image}{tag.name}{push}l": 1}
                )
    names = made.columns["tags"]
    keep = {(tag.image, f"{tag.name}{tag.at(time)}"): tag.name for tag in tags if tag.at(time) is not None}
    rows = list(zip(*names.values(), strict=True))
    for cells in names.values():
        cells.clear()
    for image, name, *rest in rows:
        if (image, name) in keep:
            for cells, value in zip(names.values(), (image, keep[image, name], *rest), strict=True):
                cells.append(value)
    return made.inventory(registry="http://127.0.0.1:5000", scanned_at=time)


def line(when: int, method: str, image: str, reference: str, status: int = 200) -> str:
    time = datetime.fromtimestamp(when, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'1.1.1.1 - - [{time}] "{method} /v2/{image}/manifests/{reference} HTTP/1.1" {status} 1 "-" "docker/24"\n'


def write_log(path: Path, tags: list[Tag]) -> None:
    lines = [(NOW - 500 * DAY, line(NOW - 500 * DAY, "GET", "absent", "1", 404))]
    for tag in tags:
        lines += [(when, line(when, "PUT", tag.image, tag.name, 201)) for when in tag.pushes]
        for when, what in tag.pulls:
            if what == "tag":
                lines.append((when, line(when, "GET", tag.image, tag.name)))
            elif tag.pushes[int(what)] < when:
                lines.append((when, line(when, "GET", tag.image, tag.manifest(int(what)))))
    path.write_text("".join(text for _, text in sorted(lines)))


def naive(tags: list[Tag], selects: Callable[[Tag, int], bool], times: list[int]) -> tuple[set[str], dict[str, int]]:
    """The tags that would have gone, and when those would have gone first that were pulled later."""
    gone: set[str] = set()
    missed: dict[str, int] = {}
    for time in times:
        for tag in tags:
            push = tag.at(time)
            if push is None or not selects(tag, time):
                continue
            name = f"{tag.image}:{tag.name}"
            gone.add(name)
            again = min([when for when in tag.pushes if when > time], default=NOW + DAY)
            if any(
                when > time and ((what == "tag" and when < again) or (what == str(push) and tag.pushes[push] < when))
                for when, what in tag.pulls
            ):
                missed.setdefault(name, time)
    return gone, missed


@pytest.fixture
def config(tmp_path: Path) -> Config:
    keys: dict[str, Any] = {
        "registry": {"url": "http://127.0.0.1:5000"},
        "engine": "duckdb",
        "sql": {"none": "2=1"},
        "access-log": "access.log",
        "snapshots": "snapshots",
    }
    (tmp_path / "conf.json").write_text(json.dumps(keys))
    return load_config(tmp_path)


def compare(found: Backtest, gone: set[str], missed: dict[str, int]) -> None:
    assert found.tags == len(gone)
    rows = found.missed
    assert dict(zip(rows["image_name"] + ":" + rows["tag_name"], rows["as_of"], strict=True)) == missed


TIMES = [NOW - number * STEP for number in range(MONTHS, 0, -1)]
CONDITIONS: dict[str, Callable[[Tag, int], bool]] = {
    "age_days > 90": lambda tag, time: time - tag.pushes[tag.at(time) or 0] > 90 * DAY,
    "tag_name in ('t0', 't2', 't4')": lambda tag, time: tag.name in ("t0", "t2", "t4"),
    "idle_days > 60": lambda tag, time: all(
        when > time or time - when > 60 * DAY
        for when in [*tag.pushes, *(w for w, what in tag.pulls if what in ("tag", str(tag.at(time))))]
    ),
}


def seen_today(selects: Callable[[Tag, int], bool]) -> Callable[[Tag, int], bool]:
    """By push dates alone: of a tag only its last push is known."""
    return lambda tag, time: tag.pushes[-1] <= time and selects(tag, time)


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("snapshots", [True, False], ids=["snapshots", "push dates"])
def test_against_a_naive_count(config: Config, tmp_path: Path, snapshots: bool, case: int) -> None:
    """On random histories it lists what a plain search through them finds."""
    tags = world(random.Random(f"{case}{snapshots}"))
    write_log(tmp_path / "access.log", tags)
    for time in TIMES if snapshots else ():
        seen(tags, time).save(tmp_path / "snapshots")
    inventory = observed(seen(tags, NOW), config, None)
    for condition, selects in CONDITIONS.items():
        gone, missed = naive(tags, selects if snapshots else seen_today(selects), TIMES)
        found = backtest(inventory, condition, config, months=MONTHS)
        compare(found, gone, missed)
        assert list(found.months["as_of"]) == TIMES
        assert list(found.months["snapshot"]) == [snapshots] * MONTHS
        assert found.pulls_since == NOW - 500 * DAY


def small(config: Config, **keys: Any) -> Config:
    return config.model_copy(update=keys)


def test_what_runs_today(config: Config, tmp_path: Path) -> None:
    """What runs today would have been missed, without a log, too; not under a name that was pushed again since."""
    tags = [
        Tag("a", "old", [NOW - 300 * DAY]),
        Tag("a", "moved", [NOW - 300 * DAY, NOW - DAY]),
        Tag("a", "x", [NOW - 300 * DAY]),
    ]
    (tmp_path / "running").write_text(f"a:old\na:moved\na@{tags[2].manifest(0)}\n")
    mine = small(config, access_log=(), in_use=(tmp_path / "running",))
    for time in TIMES:
        seen(tags, time).save(tmp_path / "snapshots")
    found = backtest(observed(seen(tags, NOW), mine, in_use(mine)), "age_days > 90", mine, months=MONTHS)
    assert found.tags == 3
    assert list(found.missed["tag_name"]) == ["old", "x"]
    assert set(found.missed["used_by"]) == {str(tmp_path / "running")}
    assert found.missed["pulled"].isna().all()
    assert found.pulls_since is None


def test_an_index_by_its_child(config: Config, tmp_path: Path) -> None:
    """Who pulls a child of an index that would have gone misses the tag of the index."""
    inventory = indexed().inventory(registry="http://127.0.0.1:5000")
    log = tmp_path / "access.log"
    log.write_text(line(NOW - 400 * DAY, "GET", "x", "1", 404) + line(NOW - DAY, "GET", "a", digest("aNone")))
    found = backtest(inventory, "tag_name = 'multi'", config, months=2)
    assert list(found.missed["tag_name"]) == ["multi"]
    log.write_text(line(NOW - 400 * DAY, "GET", "x", "1", 404) + line(NOW - DAY, "GET", "a", digest("aamd64")))
    (tmp_path / "snapshots").rename(tmp_path / "gone")
    # Another tag keeps that child.
    assert backtest(inventory, "tag_name = 'multi'", config, months=2).missed.empty


def test_nothing_to_go_by(config: Config) -> None:
    """Without a past, a log and lists nothing is known, and nothing is missed."""
    found = backtest(seen([], NOW), "1=1", small(config, access_log=(), snapshots=None), months=3)
    assert (found.tags, len(found.missed), found.pulls_since, found.uses) == (0, 0, None, False)
    assert len(found.months) == 3


def test_a_condition_that_can_not_be_read(config: Config) -> None:
    """It is the error that it is elsewhere."""
    with pytest.raises(ConditionError):
        backtest(seen([], NOW), "nonsense", small(config, access_log=()))


def test_another_registrys_snapshots(config: Config, tmp_path: Path) -> None:
    """Snapshots of another registry in the same folder say nothing of this one."""
    tags = [Tag("a", "old", [NOW - 300 * DAY])]
    write_log(tmp_path / "access.log", tags)
    other = seen([Tag("b", "other", [NOW - 300 * DAY])], TIMES[0])
    replace(other, registry="http://elsewhere:5000").save(tmp_path / "snapshots")
    found = backtest(seen(tags, NOW), "age_days > 10", config, months=MONTHS)
    assert found.tags == 1
    assert not found.months["snapshot"].any()
