"""A series of stored bytes -> where it goes, with an interval, and the day on which a disk is full.

Pure. Two models (statsmodels' UnobservedComponents) look at the growth of each month: one holds it for the same all
along, but for chance; by the other it changes as time goes on (a local linear trend). The forecast is half-way between
them and the interval spans both 90% intervals. On made-up registries (steady, lumpy, speeding up, changed once,
wandering; 7 to 13 months of them) that interval held the truth in 8 of 10 cases; a single model's, or exponential
smoothing's, did so less often.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

DAY = 86400
STEP = 30 * DAY
# Steps of growth: with fewer the interval says nothing, and what is older than a year tells little.
FEWEST, MOST = 6, 12
POINTS = 300  # of the line of dates
# Of each model's interval; and how often theirs together held the truth, see above.
LEVEL = 0.9
SEEN = "8 of 10"

Series = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Full:
    """When a limit is reached; each day is UTC epoch seconds.

    ``expected`` is None where that is after ``seen``, the last day that is forecast, or, unless ``grows``, never.
    ``earliest`` and ``latest`` are the interval's ends, None where they are after ``seen``.
    """

    expected: int | None
    earliest: int | None
    latest: int | None
    seen: int
    grows: bool
    now: bool = False

    def __str__(self) -> str:
        if self.now:
            return "now"
        if self.expected is None:
            said = f"later than {day(self.seen)}" if self.grows else "never"
            return f"{said} ({day(self.earliest)} at the earliest)" if self.earliest else said
        if self.latest is None:
            return f"{day(self.expected)} ({day(self.earliest)} or later)"
        return f"{day(self.expected)} ({day(self.earliest)} to {day(self.latest)})"


@dataclass(frozen=True, eq=False)
class Forecast:
    """path: time (UTC epoch seconds), bytes, low, high (the interval's ends); a row per step, the first is today."""

    path: pd.DataFrame

    def at(self, time: int) -> tuple[int, int, int]:
        """bytes, low and high at ``time``."""
        return tuple(int(np.interp(time, self.path["time"], self.path[name])) for name in ("bytes", "low", "high"))  # type: ignore[return-value]

    @property
    def grows(self) -> bool:
        return bool(self.path["bytes"].iloc[-1] > self.path["bytes"].iloc[0])

    def full(self, limit: int) -> Full:
        """When ``limit`` bytes are reached."""
        expected, earliest, latest = (self._reaches(name, limit) for name in ("bytes", "high", "low"))
        times = self.path["time"]
        now = int(self.path["bytes"].iloc[0]) >= limit
        return Full(expected, earliest, latest, seen=int(times.iloc[-1]), grows=self.grows, now=now)

    def _reaches(self, name: str, limit: int) -> int | None:
        values, times = self.path[name].to_numpy(), self.path["time"].to_numpy()
        over = np.flatnonzero(values >= limit)
        if not len(over):
            return None
        last = int(over[0])
        if last == 0:
            return int(times[0])
        return int(np.interp(limit, values[last - 1 : last + 1], times[last - 1 : last + 1]))


@dataclass(frozen=True, eq=False)
class Past:
    """Bytes stored over time: ``measured`` (time, bytes), before that by the dates of ``blobs`` (space.by_blob)."""

    blobs: pd.DataFrame
    measured: pd.DataFrame

    @classmethod
    def of(cls, blobs: pd.DataFrame, *, now: int) -> Past:
        """By the dates of blobs alone; all of them are stored ``now``."""
        return cls(blobs, pd.DataFrame({"time": [now], "bytes": [int(blobs["blob_size"].sum())]}))

    def at(self, times: Series | Sequence[int]) -> Series:
        """Bytes stored at each of ``times``, UTC epoch seconds. A blob of unknown date was always there."""
        times = np.asarray(times, dtype="float64")
        dated = self.blobs.dropna(subset="since").sort_values("since")
        sums = np.concatenate([[0], dated["blob_size"].to_numpy("float64").cumsum()])
        unknown = float(self.blobs["blob_size"].sum()) - sums[-1]
        known = unknown + sums[np.searchsorted(dated["since"].to_numpy("float64"), times, side="right")]
        measured = np.interp(times, self.measured["time"], self.measured["bytes"])
        result: Series = np.where(times < self.first, known, measured)
        return result

    @property
    def first(self) -> int:
        """The time of the first measurement."""
        return int(self.measured["time"].iloc[0])

    @property
    def now(self) -> int:
        return int(self.measured["time"].iloc[-1])

    @property
    def oldest(self) -> int:
        """The time of the oldest blob of known date."""
        since = self.blobs["since"].min()
        return self.first if pd.isna(since) else min(int(since), self.first)

    @property
    def known(self) -> int:
        """Whole steps of which something is known."""
        return (self.now - self.oldest) // STEP

    @property
    def steps(self) -> list[int]:
        """The times of the last steps that a forecast looks at; the newest is the scan's."""
        return [self.now - STEP * back for back in range(min(MOST, self.known), -1, -1)]

    @property
    def frame(self) -> pd.DataFrame:
        """time, bytes, measured: what charts.stored_over_time draws."""
        times = np.unique(np.linspace(self.oldest, self.first, POINTS + 1).round())[:-1]
        by_date = pd.DataFrame({"time": times, "bytes": self.at(times), "measured": False})
        both = pd.concat([by_date, self.measured.assign(measured=True)], ignore_index=True)
        return both.astype({"time": "int64", "bytes": "int64", "measured": "bool"})


def forecast(times: Sequence[int], values: Sequence[float] | Series, *, ahead: int) -> Forecast | None:
    """The forecast of a series with a value each ``STEP``, ``ahead`` steps on; None where too little is known."""
    series = np.asarray(values, dtype="float64")
    growth = np.diff(series)
    if len(growth) < FEWEST:
        return None
    # Where nothing ever shrank, nothing will.
    floor = series[-1] if growth.min() >= 0 else 0.0
    path = {
        name: np.maximum(np.concatenate([series[-1:], values]), floor).round().astype("int64")
        for name, values in zip(("bytes", "low", "high"), _trend(series, ahead), strict=True)
    }
    return Forecast(pd.DataFrame({"time": times[-1] + STEP * np.arange(ahead + 1), **path}))


def day(time: int | None) -> str:
    """UTC epoch seconds as "31 Mar 2025", which breaks between words on a narrow page; None is "not known"."""
    return "not known" if time is None else f"{datetime.fromtimestamp(time, UTC):%d %b %Y}".lstrip("0")


def _trend(series: Series, ahead: int) -> tuple[Series, Series, Series]:
    """The expected values, and the interval's ends."""
    growth = np.diff(series)
    scale = growth.std()
    if scale <= 1e-9 * max(abs(growth).max(), 1.0):  # the same each month: nothing to estimate
        line = series[-1] + growth.mean() * np.arange(1, ahead + 1)
        return line, line, line
    found = [_model((series - series[0]) / scale, ahead, changes=changes) for changes in (False, True)]
    mean = (found[0][0] + found[1][0]) / 2
    low, high = np.minimum(found[0][1], found[1][1]), np.maximum(found[0][2], found[1][2])
    return series[0] + mean * scale, series[0] + low * scale, series[0] + high * scale


def _model(series: Series, ahead: int, *, changes: bool) -> tuple[Series, Series, Series]:
    from statsmodels.tsa.statespace.structural import UnobservedComponents  # takes a second to load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a likelihood that is flat at its top is no news for the user
        model = UnobservedComponents(
            series, level=True, stochastic_level=True, trend=True, stochastic_trend=changes, irregular=False
        )
        found = model.fit(disp=False).get_forecast(ahead)
        low, high = np.asarray(found.conf_int(alpha=1 - LEVEL)).T
    return np.asarray(found.predicted_mean), low, high
