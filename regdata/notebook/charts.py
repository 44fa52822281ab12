"""Frames of regdata.analysis -> matplotlib Axes: sorted bars with their sizes on them, the top ones and "other (k)".

Each function draws a new figure and returns its Axes. Colours are Okabe and Ito's, which
colour-blind people can tell apart, and a team has the same one in every chart of a registry.
"""

from __future__ import annotations

import re
import textwrap

import numpy as np
import pandas as pd
import squarify
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from regdata.analysis import space
from regdata.analysis.space import Totals, rows
from regdata.notebook.drawing import (
    BLUE,
    DARK,
    GREY,
    LETTER,
    NAME,
    PALE,
    POINTS,
    RED,
    SKY,
    WIDTH,
    Part,
    bars,
    by_month,
    figure,
    legend,
    nothing,
    sizes_on,
    team_colour,
    top,
)
from regdata.planning.plan import Plan
from regdata.show.words import count, is_other, percent, shorten, size

MAP = 6.0  # inches of height of the treemap
TILES = 100  # what is smaller than one of so many is not drawn by itself


def goes_and_stays(plan: Plan) -> Axes:
    """By image, the bytes that ``plan`` frees and those that stay; images that lose nothing are left out."""
    images = space.goes_and_stays(plan)
    title = f"{size(plan.reclaimable)} of {size(int(images[['goes', 'stays']].sum().sum()))} goes"
    touched = top(images[images["goes"] > 0])
    if touched.empty:
        return nothing(title, "Nothing goes.")
    labels = [f"{size(row.goes)} of {size(row.goes + row.stays)}" for row in rows(touched)]
    parts = [Part("goes", RED, touched["goes"]), Part("stays", PALE, touched["stays"])]
    return bars(title, touched["image_name"], parts, labels)


def sharing(totals: Totals) -> Axes:
    """What is stored, by who holds it, beside what it would be if nothing were shared."""
    title = "Bytes stored, and what sharing saves"
    if not totals.stored:
        return nothing(title, "Nothing is stored.")
    rows = [
        ("if nothing were shared", totals.unshared, PALE),
        ("stored", totals.stored, DARK),
        ("of it, held by one image", totals.one_image, BLUE),
        ("by several images", totals.several_images, SKY),
    ]
    if totals.orphans is not None:
        rows += [("by orphans alone", totals.orphan_bytes, RED), ("by no manifest", totals.unreferenced, RED)]
    names, values, colours = zip(*rows, strict=True)
    labels = [f"{size(value)}  ({percent(value, totals.stored)})" for value in values]
    axes = bars(title, names, [Part("", BLUE, values)], labels)
    for bar, colour in zip(axes.patches, colours, strict=True):
        bar.set_facecolor(colour)
    return axes


def every_byte(parts: pd.DataFrame) -> Axes:
    """What the files of a store are; a frame of space.every_byte."""
    title = "Every byte, by what it is"
    if parts.empty:
        return nothing(title, "There is no file.")
    total = int(parts["bytes"].sum())
    labels = [f"{size(row.bytes)}  ({percent(row.bytes, total)})" for row in rows(parts)]
    return bars(title, parts["what"], [Part("", BLUE, parts["bytes"])], labels)


def size_by_image(images: pd.DataFrame) -> Axes:
    """What each image alone holds, and what it shares; a frame of space.by_image."""
    title = "Bytes by image"
    shown = top(images)
    if shown.empty:
        return nothing(title, "There is no image.")
    # Summed up over images, what they share would be counted more than once.
    shared = shown["shared"].where(~shown["image_name"].map(is_other).astype(bool), 0)
    labels = [size(own) + (f" + {size(more)}" if more else "") for own, more in zip(shown["own"], shared, strict=True)]
    parts = [Part("only this image holds it", BLUE, shown["own"]), Part("others hold it, too", SKY, shared)]
    return bars(title, shown["image_name"], parts, labels)


def size_by_age(months: pd.DataFrame, now: int | None = None) -> Axes:
    """What is stored by the month in which it came, stacked by team; a frame of space.by_month.

    The month of ``now`` (UTC epoch seconds) has not ended and is drawn paler.
    """
    title = "Bytes stored, by when they came"
    if months.empty:
        return nothing(title, "Nothing is stored.")
    names, place = by_month(pd.PeriodIndex(months["month"].dropna(), freq="M"))
    when = [place[date] if isinstance(date, str) else len(names) for date in months["month"]]
    if months["month"].isna().any():
        names = [*names, "unknown"]
    running = place.get(f"{pd.Timestamp(now, unit='s'):%Y-%m}") if now else None
    table = months.assign(when=when).pivot_table(
        index="when", columns="team", values="bytes", aggfunc="sum", observed=True
    )
    table = table.reindex(range(len(names))).fillna(0).astype("int64")
    with figure(3.4) as axes:
        bottom = np.zeros(len(names), dtype="int64")
        for team in table:
            columns = axes.bar(
                range(len(names)), table[team], bottom=bottom, color=team_colour(team, months["team"]), width=0.85
            )
            bottom += table[team].to_numpy()
            if running is not None:
                columns[running].set_alpha(0.45)
        peak = int(bottom.argmax())
        axes.annotate(size(int(bottom[peak])), (peak, bottom[peak]), (0, 2), textcoords="offset points", ha="center")
        axes.set_ylim(0, max(1.1 * bottom[peak], 1))
        every = -(-len(names) // 5)
        # The last name is always shown: it may be "unknown".
        shown = [*range(0, len(names) - every, every), len(names) - 1]
        axes.set_xticks(shown, [names[place] for place in shown])
        sizes_on(axes)
        if running is not None:
            axes.set_xlabel(f"{names[running]}, which is paler, has not ended.")
        legend(
            axes,
            title,
            [
                (f"{shorten(str(team), 24)} {size(int(table[team].sum()))}", team_colour(team, months["team"]))
                for team in table
            ],
        )
    return axes


def freed_by_age(ages: pd.DataFrame) -> Axes:
    """What a clean-up of everything older than so many days would free; a frame of space.by_age."""
    title = "Bytes that would be freed if all that is older went"
    if not ages["bytes"].any():
        return nothing(title, "Nothing would be freed.")
    labels = [f"{size(row.bytes)}, {count(row.tags, 'tag')}" for row in rows(ages)]
    return bars(title, ages["what"], [Part("", RED, ages["bytes"])], labels)


def tags_scatter(tags: pd.DataFrame) -> Axes:
    """Size and age of each tag, the largest one named; a frame of space.by_tag."""
    title = "Tags by size and age"
    known = tags[tags["age_days"].notna() & (tags["tag_size"] > 0)]
    if known.empty:
        return nothing(title, "There is no tag with a known date and size.")
    with figure(4.2) as axes:
        colours = [team_colour(team, tags["team"]) for team in known["team"]]
        many = len(known) > 2000
        ages, sizes = known["age_days"].astype(float), known["tag_size"].astype(float)
        axes.scatter(ages, sizes, c=colours, s=8 if many else 28, alpha=0.3 if many else 0.75, linewidths=0)
        axes.set_yscale("log")
        axes.margins(y=0.12)
        axes.set_xlim(-0.02 * max(ages.max(), 1), 1.04 * max(ages.max(), 1))
        largest = known.iloc[0]
        left = largest.age_days < ages.max() / 2
        axes.annotate(
            f"{shorten(f'{largest.image_name}:{largest.tag_name}')} {size(largest.tag_size)}",
            (largest.age_days, largest.tag_size),
            (5 if left else -5, 5),
            textcoords="offset points",
            ha="left" if left else "right",
        )
        left_out = len(tags) - len(known)
        axes.set_xlabel(
            "age in days" + (f" ({count(left_out, 'tag')} without a known date or size left out)" if left_out else "")
        )
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if sizes.max() < 300 * sizes.min() else (1,)))
        axes.minorticks_off()
        sizes_on(axes)
        teams = [team for team in tags["team"].cat.categories if (known["team"] == team).any()]
        legend(axes, title, [(shorten(team, 24), team_colour(team, tags["team"])) for team in teams])
    return axes


def costly_layers(layers: pd.DataFrame) -> Axes:
    """The layers that cost most, and who uses them; a frame of space.layers."""
    title = "The layers that cost most"
    if layers.empty:
        return nothing(title, "There is no layer.")
    names = []
    for row in rows(layers):
        more = f" + {row.images - 1:,}" if row.images > 1 else ""
        digest = row.blob_hash.partition(":")[2][:6]
        names.append(f"{shorten(row.users.split(', ')[0], NAME - 8 - len(more))}{more}  {digest}")
    labels = [f"{size(row.blob_size)}, {count(row.tags, 'tag') if row.tags else 'no tag'}" for row in rows(layers)]
    return bars(title, names, [Part("", BLUE, layers["blob_size"])], labels)


def treemap(paths: pd.DataFrame) -> Axes:
    """All that is stored, as an area for each image inside that of its team; a frame of space.by_path."""
    title = "All that is stored, by path"
    if paths.empty:
        return nothing(title, "Nothing is stored.")
    tiles = _tiles(paths)
    with figure(MAP + 0.6) as axes:
        axes.set(xlim=(0, WIDTH), ylim=(0, MAP))
        axes.set_axis_off()
        teams = tiles.groupby("team", observed=True)["bytes"].sum().sort_values(ascending=False)
        for team, area in zip(teams.index, _squares(teams, 0, 0, WIDTH, MAP), strict=True):
            inside = tiles[tiles["team"] == team]
            for row, tile in zip(rows(inside), _squares(inside["bytes"], *area), strict=True):
                _tile(axes, row.image_name.removeprefix(f"{team}/"), row.bytes, tile, team_colour(team, paths["team"]))
        legend(
            axes,
            title,
            [
                (f"{shorten(str(team), 24)} {size(int(bytes_))}", team_colour(team, paths["team"]))
                for team, bytes_ in teams.items()
            ],
        )
    return axes


def _tiles(paths: pd.DataFrame) -> pd.DataFrame:
    """The images that are large enough to be seen; what is smaller together, by path where that is, or by team."""
    tiles, rest = [], paths.assign(path=paths["image_name"].str.split("/").str[0], images=1)
    least = int(paths["bytes"].sum()) / TILES
    for keys in ["team", "path", "image_name"], ["team", "path"], ["team"]:
        found = rest.groupby(keys, observed=True)[["bytes", "images"]].sum().reset_index()
        seen = found["bytes"] >= (least if len(keys) > 1 else 0)
        tiles.append(found[seen])
        rest = rest.merge(found[~seen][keys], on=keys)
    whole = pd.concat(tiles, ignore_index=True)
    of = whole["path"].where(whole["path"] != whole["team"].astype(str)).fillna("other")
    together = of + " (" + whole["images"].astype(str) + ")"
    whole["image_name"] = whole["image_name"].fillna(together)
    return whole.sort_values("bytes", ascending=False, kind="stable")


def _squares(
    sizes: pd.Series[int], x: float, y: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    normal = squarify.normalize_sizes(list(sizes), width, height)
    return [(tile["x"], tile["y"], tile["dx"], tile["dy"]) for tile in squarify.squarify(normal, x, y, width, height)]


def _tile(axes: Axes, name: str, bytes_: int, tile: tuple[float, float, float, float], colour: str) -> None:
    x, y, width, height = tile
    gap = min(0.015, width / 4, height / 4)
    area = axes.add_patch(Rectangle((x + gap, y + gap), width - 2 * gap, height - 2 * gap, color=colour, linewidth=0))
    if label := _label(name, size(bytes_), width - 0.1, height - 0.1):
        ink = "white" if colour in (BLUE, DARK) else "black"
        said = axes.text(x + 0.05, y + height - 0.05, label, color=ink, va="top", linespacing=1.1)
        said.set_clip_path(area)


def _label(name: str, bytes_: str, width: float, height: float) -> str:
    """What fits into a tile of so many inches: the name and the size, or the name, whole if it can be, on several
    lines."""
    letters, lines = int(width * 72 / POINTS / LETTER), int(height * 72 / POINTS / 1.25)
    if letters < 3 or not lines:
        return ""
    wrapped = _wrapped(name, letters)
    if len(wrapped) < lines and len(bytes_) <= letters:
        return "\n".join([*wrapped, bytes_])
    return "\n".join(wrapped) if len(wrapped) <= lines else shorten(name, letters)


def _wrapped(name: str, letters: int) -> list[str]:
    """Lines of at most so many letters, broken behind a - / _ . where that can be."""
    lines = [""]
    for word in re.split(r"(?<=[-/_. ])", name):
        for part in [word] if len(word) <= letters else textwrap.wrap(word, letters):
            if len(lines[-1] + part) > letters:
                lines.append("")
            lines[-1] += part
    return [line.rstrip() for line in lines if line]


def stored_over_time(past: pd.DataFrame) -> Axes:
    """Bytes stored, by the dates of what is still there and as snapshots measured it; Past.frame of forecast.py."""
    title = "Bytes stored over time"
    if not past["bytes"].any():
        return nothing(title, "Nothing is stored.")
    by_date, measured = past[~past["measured"]], past[past["measured"]]
    with figure(3.4) as axes:
        key = [("by the dates of what is still there", SKY)]
        # The line goes on to the first measurement.
        line = past.iloc[: len(by_date) + 1]
        axes.fill_between(_dates(line), line["bytes"], step="post", color=SKY, alpha=0.35, linewidth=0)
        axes.step(_dates(line), line["bytes"], where="post", color=SKY, linewidth=1.8)
        if len(measured) > 1:
            key.append(("measured by snapshots", BLUE))
            axes.fill_between(_dates(measured), measured["bytes"], color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(_dates(measured), measured["bytes"], color=BLUE, marker="o", markersize=4)
        _name_end(axes, past, DARK)
        _over_time(axes, int(past["bytes"].max()))
        legend(axes, title, key)
    return axes


def outlook(past: pd.DataFrame, ahead: pd.DataFrame, *, limit: int | None = None) -> Axes:
    """What was stored (Past.frame), what is to be expected (time, bytes, low, high), and what there is room for.

    A limit that is far above all of it is written down instead of drawn.
    """
    title = "Bytes stored, and what is to be expected"
    if ahead.empty:
        return nothing(title, "Too little is known for an honest forecast.")
    with figure(3.6) as axes:
        axes.plot(_dates(past), past["bytes"], color=DARK, linewidth=1.8)
        axes.fill_between(_dates(ahead), ahead["low"], ahead["high"], color=SKY, alpha=0.35, linewidth=0)
        axes.plot(_dates(ahead), ahead["bytes"], color=BLUE, linewidth=1.8)
        _name_end(axes, ahead, BLUE)
        key = [("stored", DARK), ("expected", BLUE), ("in 8 of 10 cases", SKY)]
        most = int(max(past["bytes"].max(), ahead["high"].max()))
        if limit is not None and limit <= 3 * most:
            axes.axhline(limit, color=RED, linewidth=1.5)
            axes.annotate(
                f"room for {size(limit)}",
                (0, limit),
                (4, -4),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="top",
                color=RED,
            )
            most = max(most, limit)
        elif limit is not None:
            axes.set_xlabel(f"There is room for {size(limit)}, far above.")
        _over_time(axes, most)
        legend(axes, title, key)
    return axes


def after_conditions(changes: pd.DataFrame, *, limit: int | None = None) -> Axes:
    """Bytes to be expected if a condition ran now, and if it ran every month; Study.changes of analysis.capacity."""
    title = "Bytes to be expected, by condition"
    if changes.empty:
        return nothing(title, "Too little is known for an honest forecast.")
    places, most = np.arange(len(changes)), int(changes[["now", "monthly"]].max().max())
    with figure(0.9 + 0.5 * len(changes)) as axes:
        for name, shift, colour in (("now", -0.2, SKY), ("monthly", 0.2, BLUE)):
            bars = axes.barh(places[1:] + shift, changes[name][1:], height=0.36, color=colour)
            axes.bar_label(bars, [size(value) for value in changes[name][1:]], padding=4)
        anyway = axes.barh(places[:1], changes["now"][:1], height=0.5, color=GREY)
        axes.bar_label(anyway, [size(value) for value in changes["now"][:1]], padding=4)
        key = [("no clean-up", GREY), ("run now", SKY), ("run every month", BLUE)]
        if limit is not None and limit <= 1.5 * most:
            axes.axvline(limit, color=RED, linewidth=1.5)
            key.append((f"room for {size(limit)}", RED))
            most = max(most, limit)
        axes.set_yticks(places, [shorten(name) for name in changes["condition"]])
        axes.set_ylim(len(changes) - 0.5, -0.5)
        axes.set_xlim(0, max(1.02 * most, 1))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(left=False)
        legend(axes, title, key)
    return axes


def _dates(frame: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    return pd.to_datetime(frame["time"], unit="s")


def _name_end(axes: Axes, frame: pd.DataFrame, colour: str) -> None:
    """Writes the last size beside it."""
    last = int(frame["bytes"].iloc[-1])
    axes.annotate(
        size(last), (_dates(frame).iloc[-1], last), (4, 0), textcoords="offset points", va="center", color=colour
    )


def _over_time(axes: Axes, most: int) -> None:
    axes.set_ylim(0, 1.08 * most)
    axes.margins(x=0.01)
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    sizes_on(axes)
