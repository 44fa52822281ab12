"""How fast requests follow each other, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace

import pytest

from regdata.sources import pace
from regdata.sources.answers import Answer
from regdata.sources.pace import PATIENCE, Pace

OK = Answer(200, {}, b"")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Waiting is what lets its time go by."""
    made = SimpleNamespace(now=1000.0, time=lambda: 1_000_000_000.0)
    made.monotonic = lambda: made.now

    def sleep(seconds: float) -> None:
        made.now += seconds

    made.sleep = sleep
    monkeypatch.setattr(pace, "time", made)
    return made


def served(mine: Pace, clock: SimpleNamespace, answer: Callable[[float], Answer]) -> float:
    """When a request is answered for good."""
    for tries in count(1):
        sent = mine.wait()
        if not mine.too_much(answer(clock.now), sent, tries):
            break
    return float(clock.now)


def test_no_limit(clock: SimpleNamespace) -> None:
    """Without a limit nobody waits."""
    mine = Pace()
    for _ in range(100):
        served(mine, clock, lambda now: OK)
    assert clock.now == 1000


def test_per_second(clock: SimpleNamespace) -> None:
    """So many a second, and never faster, however well it goes."""
    mine = Pace(50)
    for _ in range(501):
        served(mine, clock, lambda now: OK)
    assert clock.now == pytest.approx(1010)


def limit(every: float) -> Callable[[float], Answer]:
    """nginx's limit_req without a burst: what comes sooner than that after the last one that was served is refused."""
    last = [0.0]

    def answer(now: float) -> Answer:
        if now - last[0] < every - 1e-9:
            return Answer(503, {}, b"")
        last[0] = now
        return OK

    return answer


@pytest.mark.parametrize("every", [0.05, 0.2, 1.0])
def test_finds_the_pace(clock: SimpleNamespace, every: float) -> None:
    """All requests are served, at more than half of the pace that the registry allows."""
    mine, answer = Pace(), limit(every)
    for _ in range(200):
        served(mine, clock, answer)
    assert 200 * every <= clock.now - 1000 + every < 400 * every + 10


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", 60),
        ("Sun, 09 Sep 2001 01:46:50 GMT", 10),
        ("Sun, 09 Sep 2001 01:46:00 GMT", 0),
        ("-5", 0.2),
        ("soon", 0.2),
        ("", 0.2),
        ("Mon, 99 Xyz", 0.2),
        ("²", 0.2),
    ],
)
def test_retry_after(clock: SimpleNamespace, retry_after: str, seconds: float) -> None:
    """As long as the registry asks for, in seconds or as a date, a minute at most; rubbish counts as nothing."""
    mine, answers = Pace(), [Answer(429, {"Retry-After": retry_after}, b""), OK]
    served(mine, clock, lambda now: answers.pop(0))
    assert clock.now - 1000 == pytest.approx(seconds, abs=0.03)


def test_gives_up(clock: SimpleNamespace) -> None:
    """One request is not put off for ever: its refusal is an answer then."""
    asked: list[float] = []

    def refuse(now: float) -> Answer:
        asked.append(now)
        return Answer(503, {}, b"")

    served(Pace(), clock, refuse)
    assert len(asked) == PATIENCE
    assert 20 < clock.now - 1000 < 60


@pytest.mark.parametrize("retry_after", ["20", "60", "86400"])
def test_gives_up_in_time(clock: SimpleNamespace, retry_after: str) -> None:
    """Whatever the registry asks for: where nothing but refusals comes, that is the answer after a minute or so."""
    mine = Pace()
    served(mine, clock, lambda now: Answer(429, {"Retry-After": retry_after}, b""))
    assert 59 < clock.now - 1000 < pace.PUT_OFF
    began = clock.now
    while pace.is_patient(1, began):
        mine.too_much(Answer(429, {"Retry-After": retry_after}, b""), mine.wait(), 1)
    assert clock.now - began < pace.PUT_OFF + 61


def test_many_refused_at_once(clock: SimpleNamespace) -> None:
    """Requests that were on their way together slow down once, not each; it is told once."""
    mine, told = Pace(), []
    mine.slowed = lambda: told.append(1)
    sent = [mine.wait() for _ in range(8)]
    for moment in sent:
        clock.now += 0.001
        mine.too_much(Answer(503, {}, b""), moment, 1)
    served(mine, clock, lambda now: OK)
    assert clock.now - 1000 < 0.3
    assert told == [1]


def test_gets_faster_again(clock: SimpleNamespace) -> None:
    """A registry that was slow for a while is asked at full speed afterwards."""
    mine, answer = Pace(), limit(0.2)
    for _ in range(20):
        served(mine, clock, answer)
    for _ in range(400):
        served(mine, clock, lambda now: OK)
    before = clock.now
    served(mine, clock, lambda now: OK)
    assert clock.now == before
