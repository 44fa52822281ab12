"""Charts, by what they draw: bars, labels, totals."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from regdata.analysis import space
from regdata.analysis.space import Totals
from regdata.inventory.inventory import Inventory
from regdata.notebook import charts, drawing
from regdata.planning.plan import plan
from regdata.show.words import size
from regdata.sources.columns import Columns
from tests.support.small import Small

NOTHING = Inventory.from_columns(Columns(), scanned_at=1_750_000_000, from_store=True)
LONG = "team/" + "a-very-long-component/" * 5 + "the-app"


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """Figures are drawn without a display, and closed."""
    mpl.use("agg")
    yield
    plt.close("all")


def rectangles(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def widths(axes: Axes) -> list[float]:
    return [bar.get_width() for bar in rectangles(axes)]


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def title(axes: Axes) -> Text:
    (legend,) = axes.figure.legends
    return legend.get_title()


def key(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.figure.legends[0].get_texts()]


def drawn(axes: Axes) -> Axes:
    """The same, once it has been drawn without a warning, every label inside of the picture, and large enough for a
    phone, whose page leaves 366 pixels for a picture."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(io.BytesIO(), dpi=50)
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width * 1.01
    smallest = min(float(text.get_fontsize()) for text in figure.findobj(Text) if text.get_text())
    assert smallest / 72 / (figure.get_figwidth() + 0.2) * 366 >= 10  # a notebook puts a margin around it
    return axes


def images(number: int, name: str = "team/app") -> pd.DataFrame:
    """A frame of space.by_image: the nth image holds n kB fewer than the first."""
    own = [1000 * (number - n) for n in range(number)]
    frame = {"image_name": [f"{name}{n}" for n in range(number)], "tags": 1, "own": own, "shared": 500}
    return pd.DataFrame(frame).astype({"own": "Int64", "shared": "Int64"})


def teams(values: list[str]) -> Any:
    return pd.Categorical(values, categories=[*dict.fromkeys(values)], ordered=True)


def test_size_by_image() -> None:
    """A bar is what an image alone holds and what it shares; its label says both."""
    axes = drawn(charts.size_by_image(images(3)))
    assert names(axes) == ["team/app0", "team/app1", "team/app2"]
    assert widths(axes) == [3000, 2000, 1000, 500, 500, 500]
    assert labels(axes) == ["3 kB + 500 B", "2 kB + 500 B", "1 kB + 500 B"]
    assert key(axes) == ["only this image holds it", "others hold it, too"]


def test_many_images() -> None:
    """5,000 images are the top ones and the others, which would dwarf them: they are written, not drawn."""
    frame = images(5000)
    axes = drawn(charts.size_by_image(frame))
    assert len(names(axes)) == drawing.TOP
    assert names(axes)[-1] == "other (4,981)"
    own = widths(axes)[: drawing.TOP]
    assert own == [*frame["own"][: drawing.TOP - 1], 0]
    assert labels(axes)[-1] == f"{size(int(frame['own'][drawing.TOP - 1 :].sum()))} together"
    assert axes.get_xlim()[1] == own[0] + 500
    # What several share would be counted more than once.
    assert widths(axes)[-1] == 0


def test_others_that_fit() -> None:
    """What the others come to is drawn where the rest can be read beside it."""
    frame = images(22)
    axes = drawn(charts.size_by_image(frame))
    assert sum(widths(axes)[: drawing.TOP]) == frame["own"].sum()
    assert labels(axes)[-1] == "6 kB"


@pytest.mark.parametrize("number", [1, 20])
def test_few_images(number: int) -> None:
    """Up to the top ones there are no others."""
    frame = images(number)
    assert names(drawn(charts.size_by_image(frame))) == list(frame["image_name"])


def test_long_names() -> None:
    """A name of 120 characters loses its middle."""
    (name,) = names(drawn(charts.size_by_image(images(1, LONG))))
    assert len(name) == drawing.NAME
    assert name.startswith("team/a-very")
    assert name.endswith("the-app0")


def test_a_name_is_not_mathematics() -> None:
    """A $ in a name is a $."""
    assert names(drawn(charts.size_by_image(images(1, "a$\\frac$")))) == ["a$\\frac$0"]


def test_zero_bytes() -> None:
    """Images that hold nothing have bars without length."""
    axes = drawn(charts.size_by_image(images(2).assign(own=0, shared=0)))
    assert labels(axes) == ["0 B", "0 B"]
    assert axes.get_xlim() == (0, 1)


def test_sharing() -> None:
    """A bar for each part of what is stored, with its share of it."""
    totals = Totals(2, 3, 1, 1000, 2500, 600, 300, 90, 10)
    axes = drawn(charts.sharing(totals))
    assert widths(axes) == [2500, 1000, 600, 300, 90, 10]
    assert labels(axes)[0] == "2.5 kB  (250%)"
    assert labels(axes)[-2:] == ["90 B  (9%)", "10 B  (1%)"]
    assert names(drawn(charts.sharing(totals._replace(orphans=None))))[-1] == "by several images"


def test_size_by_age() -> None:
    """A column for each month, also for those that brought nothing; the highest one is labelled."""
    frame = pd.DataFrame(
        {"month": ["2025-01", "2025-01", "2025-04", None], "team": teams(["a", "b", "a", "(nobody)"])}
    ).assign(bytes=pd.array([1000, 500, 200, 50], dtype="Int64"))
    axes = drawn(charts.size_by_age(frame))
    columns = rectangles(axes)
    assert [bar.get_height() for bar in columns] == [1000, 0, 0, 200, 0, 500, 0, 0, 0, 0, 0, 0, 0, 0, 50]
    assert columns[5].get_y() == 1000
    assert labels(axes) == ["1.5 kB"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "2025-01",
        "2025-02",
        "2025-03",
        "2025-04",
        "unknown",
    ]
    assert key(axes) == ["a 1.2 kB", "b 500 B", "(nobody) 50 B"]


def test_many_months() -> None:
    """Months stay months, from the registry's first year on; few of them are named, and no byte is lost."""
    every = pd.period_range("2013-03", periods=165, freq="M").astype(str)
    frame = pd.DataFrame({"month": every, "team": teams(["a"] * 165), "bytes": 7}).astype({"bytes": "Int64"})
    axes = drawn(charts.size_by_age(frame))
    assert [bar.get_height() for bar in rectangles(axes)] == [7] * 165
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks[0] == "2013-03"
    assert len(ticks) <= 9


def test_the_month_that_has_not_ended() -> None:
    """It is paler, and said below; a month that is past is not."""
    frame = pd.DataFrame({"month": ["2025-05", "2025-06"], "team": teams(["a", "a"])}).assign(
        bytes=pd.array([1000, 500], dtype="Int64")
    )
    axes = drawn(charts.size_by_age(frame, 1_750_000_000))
    assert [bar.get_alpha() for bar in rectangles(axes)] == [None, 0.45]
    assert axes.get_xlabel() == "2025-06, which is paler, has not ended."
    axes = drawn(charts.size_by_age(frame, 1_760_000_000))
    assert [bar.get_alpha() for bar in rectangles(axes)] == [None, None]
    assert axes.get_xlabel() == ""


def test_freed_by_age() -> None:
    """A bar for each age, with bytes and tags."""
    frame = pd.DataFrame({"what": ["older than 30 days", "rest"], "tags": [3, 0], "bytes": [5000, 100]})
    axes = drawn(charts.freed_by_age(frame))
    assert (names(axes), widths(axes)) == (["older than 30 days", "rest"], [5000, 100])
    assert labels(axes) == ["5 kB, 3 tags", "100 B, 0 tags"]


def test_tags_scatter() -> None:
    """A point for each tag with a known date and size; the others are counted; the largest is named."""
    frame = pd.DataFrame(
        {
            "image_name": ["a/x", "b/y", "b/z", "b/w"],
            "tag_name": "1",
            "team": teams(["a", "b", "b", "b"]),
            "age_days": [5.0, 100.0, None, 3.0],
            "tag_size": pd.array([9000, 80, 70, 0], dtype="Int64"),
        }
    )
    axes = drawn(charts.tags_scatter(frame))
    (points,) = axes.collections
    offsets: Any = points.get_offsets()
    assert offsets.tolist() == [[5, 9000], [100, 80]]
    assert labels(axes) == ["a/x:1 9 kB"]
    assert axes.get_xlabel() == "age in days (2 tags without a known date or size left out)"
    assert key(axes) == ["a", "b"]


def test_costly_layers() -> None:
    """A layer is named by an image that uses it, and by how many more do."""
    frame = pd.DataFrame(
        {
            "blob_hash": ["sha256:" + "a1" * 32, "sha256:" + "b2" * 32],
            "blob_size": [3000, 1000],
            "tags": [4, 0],
            "images": [3, 1],
            "users": ["a/x, b/y, b/z", LONG],
            "share": [0.5, 0.1],
        }
    )
    axes = drawn(charts.costly_layers(frame))
    assert names(axes)[0] == "a/x + 2  a1a1a1"
    assert len(names(axes)[1]) <= 40
    assert labels(axes) == ["3 kB, 4 tags", "1 kB, no tag"]
    assert widths(axes) == [3000, 1000]


def test_treemap() -> None:
    """Areas are in proportion to bytes; what is too small to be seen is one for each team; a team has one colour."""
    number = 150
    frame = pd.DataFrame(
        {
            "image_name": [f"t{n % 9}/app{n}" for n in range(number)],
            "team": teams([f"t{n % 9}" if n % 9 < 6 else "other (3)" for n in range(number)]),
            "bytes": [1000 * (number - n) for n in range(number)],
        }
    )
    axes = drawn(charts.treemap(frame))
    tiles = rectangles(axes)
    assert 7 < len(tiles) < charts.TILES
    area = sum(tile.get_width() * tile.get_height() for tile in tiles)
    by_colour: dict[str, float] = {}
    for tile in tiles:
        colour = to_hex(tile.get_facecolor())
        by_colour[colour] = by_colour.get(colour, 0) + tile.get_width() * tile.get_height() / area
    shares = frame.groupby("team", observed=True)["bytes"].sum() / frame["bytes"].sum()
    assert sorted(by_colour.values()) == pytest.approx(sorted(shares), rel=0.01)
    assert len(key(axes)) == 7


def test_goes_and_stays_leaves_out_what_loses_nothing() -> None:
    """A bar is what goes and what stays of an image that loses something; the title says what goes in all."""
    made = Small()  # 11 bytes of each image are its manifest and config
    for image, tag, layer in [("a", "old", 789), ("a", "1", 189), ("b", "old", 189), ("b", "1", 289), ("c", "1", 489)]:
        made.push(image, tag, days=100, **{f"{image}{tag}l": layer})
    axes = drawn(charts.goes_and_stays(plan(made.inventory(), "tag_name = 'old'")))
    assert (names(axes), widths(axes)) == (["a", "b"], [800, 200, 200, 300])
    assert labels(axes) == ["800 B of 1 kB", "200 B of 500 B"]
    assert title(axes).get_text() == "1 kB of 2 kB goes"
    assert key(axes) == ["goes", "stays"]


@pytest.mark.parametrize(
    ("chart", "frame"),
    [
        ("sharing", "totals"),
        ("size_by_image", "by_image"),
        ("size_by_age", "by_month"),
        ("freed_by_age", "by_age"),
        ("tags_scatter", "by_tag"),
        ("costly_layers", "layers"),
        ("treemap", "by_path"),
    ],
)
def test_an_empty_registry(chart: str, frame: str) -> None:
    """Where there is nothing to draw the chart says so."""
    axes = drawn(getattr(charts, chart)(getattr(space, frame)(NOTHING)))
    assert labels(axes)[0].startswith(("Nothing", "There is no "))


def test_a_plan_that_frees_nothing() -> None:
    """A plan that frees nothing has a chart that says so."""
    assert labels(drawn(charts.goes_and_stays(plan(NOTHING, "1=1")))) == ["Nothing goes."]


def test_a_style_of_ones_own_is_left_alone() -> None:
    """A chart changes no setting of matplotlib."""
    before: Any = dict(mpl.rcParams)
    charts.size_by_image(images(2))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("images", "least"), [(4, 1), (60, 0.9)])
def test_tiles_have_labels(images: int, least: float) -> None:
    """Nearly every tile says what it is, without its team; none is cut."""
    sizes = [round(1e9 * 0.95**n) for n in range(images)]
    frame = pd.DataFrame(
        {
            "image_name": [f"team{n % 5}/some-service-{n}" for n in range(images)],
            "team": teams([f"team{n % 5}" for n in range(images)]),
            "bytes": sizes,
        }
    )
    axes = drawn(charts.treemap(frame))
    assert len(axes.texts) >= least * len(rectangles(axes))
    assert len(rectangles(axes)) > images / 2
    assert all(not text.get_text().startswith("team") for text in axes.texts)
    for text in axes.texts:
        inside, tile = text.get_window_extent(), text.get_clip_box()
        assert tile is not None
        assert inside.x1 <= tile.x1 + 2
        assert inside.y0 >= tile.y0 - 2


def luminance(colour: Any) -> float:
    """By WCAG 2."""
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])


@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_a_figure_reads_on_every_page(page: str) -> None:
    """It has no background of its own, and its words can be read on a white page and on JupyterLab's dark one."""
    axes = charts.size_by_image(images(2))
    figure = axes.get_figure(root=True)
    assert figure is not None
    saved = io.BytesIO()
    figure.savefig(saved, format="png")
    saved.seek(0)
    assert plt.imread(saved)[0, 0, 3] == 0
    assert to_rgba(axes.get_facecolor())[3] == 0
    # matplotlib's inline backend tells JupyterLab to put a background behind what has none.
    assert to_rgba(figure.get_facecolor())[3] == 1
    words = [*axes.texts, *axes.get_yticklabels(), title(axes)]
    for text in words:
        dark, light = sorted([luminance(text.get_color()), luminance(page)])
        assert (light + 0.05) / (dark + 0.05) >= 4
