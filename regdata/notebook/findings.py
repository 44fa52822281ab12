"""Frames and studies of regdata.analysis -> the sentences that state what is in them."""

from __future__ import annotations

import pandas as pd

from regdata.analysis import space
from regdata.analysis.capacity import Study
from regdata.analysis.forecast import DAY, FEWEST, SEEN, day, forecast
from regdata.analysis.space import Totals
from regdata.show.words import count, percent, size


class Finding(str):
    """A sentence in Markdown, which a notebook shows as such."""

    def _repr_markdown_(self) -> str:
        return str(self)

    @property
    def plain(self) -> str:
        """The sentence without its marks."""
        return self.replace("**", "").replace("`", "")


def totals(found: Totals) -> Finding:
    """How big the registry is, and what sharing saves."""
    if not found.stored:
        return Finding("The registry is empty: it stores no blob at all.")
    said = f"**{size(found.stored)}** are stored for {count(found.tags, 'tag')} of {count(found.images, 'image')}"
    saves = percent(found.saved, found.unshared)
    said += f"; if nothing were shared, it would be {size(found.unshared)}, so sharing saves {saves}"
    if found.orphans is None:
        return Finding(f"{said}. Orphans and what nobody refers to can't be seen without `registry.base_path`.")
    orphans = f"{count(found.orphans, 'orphan')} {'holds' if found.orphans == 1 else 'hold'} {size(found.orphan_bytes)}"
    return Finding(f"{said}; {orphans}, and {size(found.unreferenced)} are leftovers that no manifest refers to.")


def every_byte(parts: pd.DataFrame) -> Finding:
    """What all files take, and how much of it is no image's."""
    if parts.empty:
        return Finding("There is no file at all.")
    total = int(parts["bytes"].sum())
    said = f"**{size(total)}** in {count(int(parts['files'].sum()), 'file')}"
    if set(parts["what"]) <= {space.PARTS[part] for part in ("one", "several", "orphans", "nobody")}:
        return Finding(
            f"{said}: blobs alone; links, uploads and what is beside them can't be seen without a `base_path`."
        )
    needed = parts[parts["what"].isin([space.PARTS["one"], space.PARTS["several"]])]
    rest = total - int(needed["bytes"].sum())
    return Finding(f"{said}, each accounted for: all but {size(rest)} ({percent(rest, total)}) are blobs of images.")


def by_image(images: pd.DataFrame) -> Finding:
    """Which image takes most, and in how few images half of it is."""
    own = images["own"].sum()
    if not own:
        return Finding("No image holds anything that is its own.")
    first = images.iloc[0]
    half = int((images["own"].cumsum() < own / 2).sum()) + 1
    most = f"{_code(first.image_name)} takes most: **{size(first.own)}** that only it holds"
    of_all = f"{half:,} of {count(len(images), 'image')} {'holds' if half == 1 else 'hold'} half of that"
    return Finding(f"{most}, {percent(first.own, own)} of what single images hold; {of_all}.")


def by_month(months: pd.DataFrame) -> Finding:
    """Which month brought most, and what the last twelve brought."""
    dated = months.dropna(subset="month").groupby("month")["bytes"].sum()
    if dated.empty:
        return Finding("Nothing that is stored has a known date.")
    last = pd.Period(dated.index.max(), freq="M")
    unknown = int(months["bytes"].sum() - dated.sum())
    rest = f"; {size(unknown)} have no known date" if unknown else ""
    if len(dated) == 1:
        return Finding(f"What is stored came in **{last}**, {size(int(dated.sum()))}{rest}.")
    year = int(dated[dated.index > str(last - 12)].sum())
    return Finding(
        f"**{dated.idxmax()}** brought most of what is still stored, {size(int(dated.max()))}; the 12 months to {last} "
        f"brought {size(year)}, {percent(year, int(dated.sum()))} of all{rest}."
    )


def by_age(ages: pd.DataFrame) -> Finding:
    """What would be freed if all that is older than so many days went."""
    if not ages["bytes"].sum():
        return Finding("Nothing would be freed, however old the tags that went.")
    older = ages.dropna(subset="days")
    parts = [f"**{size(row.bytes)}** for {row.days} days ({count(row.tags, 'tag')})" for row in space.rows(older)]
    leftovers = int(ages.loc[ages["days"].isna(), "bytes"].sum())
    rest = f"; of it {size(leftovers)} are orphans and leftovers, which any clean-up frees" if leftovers else ""
    return Finding(f"If all that is older went, this would be freed: {', '.join(parts)}{rest}.")


def by_tag(tags: pd.DataFrame) -> Finding:
    """The largest and the oldest tag, and the middle size."""
    if tags.empty:
        return Finding("There is no tag.")
    first = tags.iloc[0]
    name = _code(f"{first.image_name}:{first.tag_name}")
    said = f"The largest of {count(len(tags), 'tag')} is {name} with **{size(first.tag_size)}**"
    said += f"; half are below {size(int(tags['tag_size'].median()))}"
    unknown = int(tags["age_days"].isna().sum())
    if unknown < len(tags):
        oldest = tags.sort_values("age_days").dropna(subset="age_days").iloc[-1]
        name = _code(f"{oldest.image_name}:{oldest.tag_name}")
        age = f"{count(int(oldest.age_days), 'day')} old" if oldest.age_days >= 1 else "younger than a day"
        said += f"; the oldest, {name}, is {age}"
    return Finding(f"{said}{f'; {unknown:,} have no known date' if unknown else ''}.")


def layers(costly: pd.DataFrame) -> Finding:
    """What the largest layers take together, and who uses the first."""
    if costly.empty:
        return Finding("There is no layer.")
    first = costly.iloc[0]
    used = f"{count(first.tags, 'tag')} of {count(first.images, 'image')}" if first.tags else "no tag at all"
    together = f"**{size(int(costly['blob_size'].sum()))}**, {percent(costly['share'].sum(), 1)} of all layers"
    return Finding(
        f"The {count(len(costly), 'layer')} that cost most hold {together}; "
        f"the largest, {size(first.blob_size)}, is used by {used}."
    )


def by_path(paths: pd.DataFrame) -> Finding:
    """Which team holds most."""
    if paths.empty:
        return Finding("Nothing is stored under any path.")
    teams = paths.groupby("team", observed=True)["bytes"].sum()
    named = teams[[not str(name).startswith("(") for name in teams.index]]
    between = int(teams.sum() - named.sum())
    if named.empty:
        return Finding(f"All of the **{size(between)}** is shared by several teams, or nobody refers to it.")
    most = int(named.max())
    return Finding(
        f"{_code(str(named.idxmax()))} holds most, **{size(most)}**, {percent(most, int(teams.sum()))} of all "
        f"that is stored; {size(between)} are shared by several teams or referred to by nobody."
    )


def past(study: Study) -> Finding:
    """What is stored, and what it was a year ago."""
    past, now = study.past, int(study.past.measured["bytes"].iloc[-1])
    if not now:
        return Finding("The registry is empty: it stores no blob at all.")
    back = min(365 * DAY, past.now - past.oldest)
    if back < DAY:
        return Finding(f"**{size(now)}** are stored, all of it for less than a day: there is no past to be shown yet.")
    before = size(int(past.at([past.now - back])[0]))
    ago = f"{count(back // DAY, 'day')} ago"
    if past.now - back >= past.first:
        return Finding(f"**{size(now)}** are stored; {ago} it was {before}.")
    since = "" if past.first == past.now else f" (and until {day(past.first)}, when the snapshots begin)"
    return Finding(
        f"**{size(now)}** are stored. By the dates of what is still there{since}, it was {before} {ago}; "
        "what has been deleted since has left no date, so it may have been more."
    )


def growth(study: Study) -> Finding:
    """What a month brings, and who brings it."""
    months = study.months.dropna(subset="month")
    if months.empty:
        return Finding("Nothing that is stored has a known date, so its growth can't be seen.")
    last = pd.Timestamp(study.inventory.scanned_at, unit="s").to_period("M")
    year = months[months["month"] > str(last - 12)]
    if not year["bytes"].sum():
        return Finding("Nothing that is stored came in the last 12 months.")
    known = min(12, (last - pd.Period(months["month"].min(), freq="M")).n + 1)
    by_month, by_team = (year.groupby(key, observed=True)["bytes"].sum() for key in ("month", "team"))
    first = f"of it {size(by_team.max())} for {_code(str(by_team.idxmax()))}"
    share = f"{first} ({by_team.max() / by_team.sum():.0%})"
    if known == 1:
        return Finding(f"In {last}, the first month, **{size(int(by_month.sum()))}** came and stayed; {share}.")
    return Finding(
        f"In the {known} months to {last} **{size(int(by_month.sum() / known))} a month** came and stayed, most of it "
        f"in {by_month.idxmax()} ({size(by_month.max())}); {share}."
    )


def outlook(study: Study) -> Finding:
    """What to expect at the horizon, when the disk is full, and what half a year ago was to be expected for today."""
    if study.outlook is None:
        known = len(study.past.steps) - 1
        return Finding(
            f"**It can't be forecast honestly**: that takes {FEWEST} months (of 30 days) of growth, "
            f"and {known or 'none'} {'is' if known < 2 else 'are'} known."
        )
    expected, low, high = study.outlook.at(study.horizon)
    said = f"On {day(study.horizon)} **{size(expected)}** are to be expected, "
    said += f"in {SEEN} cases {size(low)} to {size(high)}"
    if full := study.full():
        when, bracket, interval = (f"on {full}" if full.expected and not full.now else str(full)).partition(" (")
        said += f"; the disk is full **{when}**{bracket}{interval}"
    steps = study.past.steps
    then = forecast(steps[:-6], study.past.at(steps[:-6]), ahead=6)
    if then:
        _, low, high = then.at(steps[-1])
        said += f". Half a year ago the same method would have said {size(low)} to {size(high)} for today"
    return Finding(f"{said}.")


def changes(study: Study) -> Finding:
    """Which condition frees most now, and which leaves least if it ran every month."""
    options = [one for one in study.options if not one.error]
    if not options:
        return Finding("conf.json has no condition that could be run.")
    most = max(options, key=lambda one: one.freed)
    if not most.freed:
        return Finding("No condition of conf.json would free anything now.")
    said = f"{_code(most.name)} frees most now: **{size(most.freed)}** with {count(most.tags, 'tag')}"
    changes = study.changes
    if len(changes) > 1:
        least = changes.iloc[1:].sort_values("monthly", kind="stable").iloc[0]
        said += (
            f"; run every month, {_code(least.condition)} keeps the registry smallest: **{size(least.monthly)}** "
            f"on {day(study.horizon)}, instead of {size(changes['monthly'].iloc[0])} without a clean-up"
        )
    return Finding(f"{said}.")


def ailments(found: pd.DataFrame) -> Finding:
    """How much is broken, and what can be done about it; a frame of regdata.doctor."""
    if found.empty:
        return Finding("**Nothing is broken.**")
    kinds = found["what"].value_counts()
    most = ", ".join(f"{number:,} {what}" for what, number in kinds.items())
    said = f"**{count(len(found), 'thing')}** {'is' if len(found) == 1 else 'are'} broken ({most})"
    if cured := int((found["outcome"] == "cured").sum()):
        return Finding(f"{said}; {cured:,} of them {'is' if cured == 1 else 'are'} cured now.")
    if safe := int(found["safe"].sum()):
        return Finding(f"{said}; `repair = True` cures {safe:,} of them.")
    return Finding(f"{said}; none can be cured without the images' owners.")


def _code(name: str) -> str:
    """A name as Markdown's code, in which nothing else has a meaning."""
    plain = name.replace("`", "'")
    return f"`{plain}`"
