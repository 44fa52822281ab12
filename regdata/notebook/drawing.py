"""What the charts have in common: palette, style, bars, keys and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from regdata.show.words import is_other, other, shorten, size

TOP = 20  # bars
NAME = 24  # letters of an image's name beside a bar
WIDTH = 4.8  # inches
POINTS = 10  # of letters: on a phone's 390 pixels, where a figure is made a quarter smaller, still ten pixels
LETTER = 0.6  # of its height: how wide one is, about
DOTS = 96  # an inch

BLUE, SKY, RED, GREY, PALE, DARK = "#0072B2", "#56B4E9", "#D55E00", "#999999", "#BBBBBB", "#777777"
TEAMS = (BLUE, "#E69F00", "#009E73", "#CC79A7", SKY, RED)
INK = "#757575"  # can be read on white and on black: a figure has no background of its own
FAINT = "#8c959f55"

STYLE: Any = {
    "font.size": POINTS,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold a $
}


class Part(NamedTuple):
    """What one colour of a bar stands for; no name, no key."""

    name: str
    colour: str
    values: Sequence[int] | pd.Series[int]


@contextmanager
def figure(height: float) -> Iterator[Axes]:
    """Axes of a new figure, which what is behind it shines through; within, STYLE holds."""
    # Before the style: a notebook's backend makes settings of its own as it loads, for the first figure.
    figure = plt.figure(figsize=(WIDTH, height), dpi=DOTS, layout="constrained", facecolor="white")
    figure.patch.set_visible(False)  # where its colour were none, JupyterLab would put white behind it
    with mpl.rc_context(STYLE):
        yield figure.subplots()


def top(frame: pd.DataFrame) -> pd.DataFrame:
    """The first rows, and the sum of the others in one."""
    if len(frame) <= TOP:
        return frame
    rest = frame.iloc[TOP - 1 :]
    sums = rest.select_dtypes("number").sum().to_frame().T.assign(image_name=other(len(rest)))
    return pd.concat([frame.iloc[: TOP - 1], sums], ignore_index=True).convert_dtypes()


def bars(title: str, names: Sequence[str] | pd.Series[str], parts: Sequence[Part], labels: Sequence[str]) -> Axes:
    """Horizontal bars, the first on top, each with its label at its end.

    What "other (k)" come to may be so much that no bar beside it could be seen: then it is written, not drawn.
    """
    places, values = range(len(labels)), [np.asarray(part.values, dtype="int64") for part in parts]
    ends = np.sum(values, axis=0)
    most = max(end for end, name in zip(ends, names, strict=True) if not is_other(name))
    drawn = ends <= 1.5 * most
    with figure(0.8 + 0.27 * len(labels)) as axes:
        begin = np.zeros_like(ends)
        for part, lengths in zip(parts, values, strict=True):
            axes.barh(places, lengths * drawn, left=begin, color=part.colour, height=0.75)
            begin += lengths * drawn
        for place, end, label, fits in zip(places, begin, labels, drawn, strict=True):
            said = label if fits else f"{label} together"
            axes.annotate(said, (end, place), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, [name if " " in name else shorten(name, NAME) for name in names])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(0, max(begin.max(), 1))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(left=False)
        legend(axes, title, [(part.name, part.colour) for part in parts if part.name])
    return axes


def nothing(title: str, words: str) -> Axes:
    with figure(1) as axes:
        axes.set_axis_off()
        axes.text(0, 0.5, words)
        legend(axes, title)
    return axes


def legend(axes: Axes, title: str, entries: Sequence[tuple[str, str]] = ()) -> None:
    """The title above the figure, and what the colours mean below it: in as many columns as there is room for."""
    longest = max((len(name) for name, _ in entries), default=0)
    key = axes.figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in entries],
        title=title,
        loc="outside upper left",
        ncols=max(1, min(len(entries), int(WIDTH * 72 / (LETTER * POINTS * longest + 2.5 * POINTS)))),
        alignment="left",
        handlelength=0.8,
        borderaxespad=0.2,
        borderpad=0,
        columnspacing=1.2,
    )
    key.get_title().set(fontsize=POINTS + 1, fontweight="bold")


def sizes_on(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(int(value))))
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def team_colour(team: object, teams: pd.Series[str]) -> str:
    """A team's colour, by its place among the categories of ``teams``."""
    if str(team).startswith("("):
        return PALE if team == "(nobody)" else DARK
    place = list(teams.cat.categories).index(str(team))
    return TEAMS[place] if place < len(TEAMS) else GREY


def by_month(dates: pd.PeriodIndex) -> tuple[list[str], dict[str, int]]:
    """Names of the months from the first to the last date, and each one's place among them."""
    every = pd.period_range(dates.min(), dates.max(), freq="M") if len(dates) else dates
    names = [str(month) for month in every]
    return names, {name: place for place, name in enumerate(names)}
