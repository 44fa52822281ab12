"""What is shown before a condition is trusted: beside another one, against what is expected of it, and in the past."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from regdata.analysis.backtest import Backtest
from regdata.analysis.forecast import day
from regdata.notebook.preview_views import tags_table
from regdata.planning.comparison import Comparison
from regdata.planning.expectations import Expectations
from regdata.show.blocks import Block, Cell, Document, Line, Table
from regdata.show.shown import view
from regdata.show.words import count, shorten, size

TAGS = 20
EXAMPLES = 3


@view.register
def comparison(shown: Comparison) -> Document:
    """How many tags only one of them selects, what each frees, and those tags."""
    same = shown.only_a.empty and shown.only_b.empty
    figures = f"{len(shown.only_a):,} by the first alone, {len(shown.only_b):,} by the second alone"
    freed = f"The first frees {size(shown.bytes_a)}, the second {size(shown.bytes_b)}."
    said = f": {count(shown.both, 'tag')} by both, {figures}. {freed}"
    blocks: list[Block] = [Line("They select the same tags" if same else "They differ", said)]
    for condition, tags in ((shown.a.condition, shown.only_a), (shown.b.condition, shown.only_b)):
        if len(tags):
            blocks.append(Line(f"Only {condition}", f" selects {count(len(tags), 'tag')}:"))
            blocks.append(tags_table(tags))
    return Document(tuple(blocks))


@view.register
def expectations(shown: Expectations) -> Document:
    """Whether each holds."""
    if shown.frame.empty:
        return Document(
            (Line("", f"Nothing is expected of {shown.sql_id}: conf.json says nothing of it under expect."),)
        )
    rows: list[Sequence[Cell]] = [
        (
            "selects" if expect == "selects" else "never selects",
            pattern,
            int(tags),
            f"✗ {such_as}{' …' if wrong > EXAMPLES else ''}" if wrong else "✓" if tags else "✓ (matches no tag)",
        )
        for expect, pattern, tags, wrong, such_as in shown.frame.itertuples(index=False)
    ]
    failed = len(shown.failed)
    said = f"✗ {failed} of {count(len(rows), 'expectation')} fail" if failed else "✓ What is expected holds"
    return Document(
        (Line(said, "", "bad" if failed else "good"), Table((f"{shown.sql_id} …", "pattern", "tags", ""), rows))
    )


@view.register
def backtest(shown: Backtest) -> Document:
    """What would have been missed, by month, and tag by tag."""
    blocks: list[Block] = [headline(shown), Line("", _how(shown))]
    months: list[Sequence[Cell]] = [
        (day(int(time)), "snapshot" if known else "push dates", int(tags), int(missed))
        for time, known, tags, missed in shown.months.itertuples(index=False)
    ]
    if shown.tags:
        blocks.append(Table(("as of", "by", "tags that go", "missed"), months))
    rows: list[Sequence[Cell]] = [
        (
            shorten(f"{image}:{tag}", 60),
            day(int(gone)),
            "" if pd.isna(pulled) else day(int(pulled)),
            by if isinstance(by, str) else "",
        )
        for image, tag, gone, pulled, by in shown.missed.head(TAGS).itertuples(index=False)
    ]
    if rows:
        first = "tag" if len(shown.missed) <= TAGS else f"tag (the first {TAGS} of {len(shown.missed):,})"
        blocks.append(Table((first, "would have gone", "pulled again", "runs today"), rows))
    return Document(tuple(blocks))


def headline(shown: Backtest) -> Line:
    """The sentence of a report."""
    if shown.pulls_since is None and not shown.uses:
        return Line("No backtest", ": conf.json names no access-log, and no lists of what is in-use.", "note")
    known = ((shown.pulls_since is not None, "pulled later"), (shown.uses, "run today"))
    later = " or ".join(said for is_known, said in known if is_known)
    months, missed = count(len(shown.months), "month"), len(shown.missed)
    if not missed:
        said = f" that it would have deleted in {months} was {later}."
        return Line(f"None of {count(shown.tags, 'tag')}", said, "good")
    names = shown.missed["image_name"] + ":" + shown.missed["tag_name"]
    some = ", ".join(map(shorten, names[:EXAMPLES])) + (", …" if missed > EXAMPLES else "")
    return Line(
        f"{missed:,} of {count(shown.tags, 'tag')} {'was' if missed == 1 else 'were'} {later}",
        f", such as {some}: it would have deleted them in the last {months}.",
        "bad",
    )


def _how(shown: Backtest) -> str:
    known = int(shown.months["snapshot"].sum())
    guessed = len(shown.months) - known
    still = "by push dates of what is still there: what was deleted since is missing"
    how = [
        f"{count(known, 'month')} by snapshots" if known else "",
        f"{count(guessed, 'month')} {still}" if guessed else "",
    ]
    since = f" Pulls are known since {day(shown.pulls_since)}." if shown.pulls_since is not None else ""
    return f"{', '.join(filter(None, how))}.{since}"
