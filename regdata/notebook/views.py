"""What is shown of an inventory, a plan, a run and its result, of a study and of changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from regdata.analysis import space
from regdata.analysis.capacity import Study
from regdata.analysis.changes import Changes
from regdata.analysis.forecast import day
from regdata.cleaning.result import Result
from regdata.collecting.commands import Collection
from regdata.config import Config
from regdata.inventory.inventory import Inventory
from regdata.notebook import findings
from regdata.notebook.run import Run
from regdata.planning.plan import Plan
from regdata.records.index import runs_table
from regdata.records.reading import deletes
from regdata.records.runs import past_runs
from regdata.records.summary import box
from regdata.show.blocks import Block, Bytes, Cell, Code, Document, Line, Output, Table
from regdata.show.shown import view
from regdata.show.words import count, other, percent, shorten, size

IMAGES_OF_INVENTORY = 15
IMAGES_OF_PLAN = 20
IMAGES_OF_CHANGES = 20
PLACES_OF_AILMENT = 20
BASES = 15
PAYERS = 19
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TAGS = 50
DIGEST = 12  # of a digest's letters
ACTIONS = {"delete": "goes", "untag": "tag alone goes", "keep": "stays"}

HAPPENS = {
    ("tag", "delete"): "tags go",
    ("tag", "untag"): "tags go, their digests stay",
    ("tag", "keep"): "tags stay, although selected",
    ("manifest", "delete"): "manifests go",
}


@view.register
def inventory(shown: Inventory) -> Document:
    """A sentence of figures, and the images that take most."""
    images = space.by_image(shown)
    rows: list[Sequence[Cell]] = [
        (row.image_name, int(row.tags), Bytes(row.own), Bytes(row.shared))
        for row in space.rows(images.head(IMAGES_OF_INVENTORY))
    ]
    if len(images) > len(rows):
        rest = images.iloc[len(rows) :]
        rows.append((other(len(rest)), int(rest["tags"].sum()), Bytes(rest["own"].sum()), ""))
    table = Table(("image", "tags", "only here", "shared"), rows)
    where = f"{shown.registry or 'The registry'}: "
    sentence = Line(where, findings.totals(space.totals(shown)).plain)
    said = [Line("Pulls", f" are known since {day(shown.pulls_since)}.")] if shown.pulls_since is not None else []
    if shown.images["in_use"].notna().any():
        used = count(int(shown.images["in_use"].sum()), "tag")
        said.append(Line("In use", f": {used}, by {count(shown.uses['used_by'].nunique(), 'user')}."))
    return Document((sentence, *said, table) if rows else (sentence, *said))


@view.register
def plan(shown: Plan, *, would: bool = False) -> Document:
    """What goes and what stays, by image and by reason; ``would``: where nothing is going to be done."""
    actions = shown.tags["action"].value_counts()
    go, stay = int(actions.get("delete", 0) + actions.get("untag", 0)), int(actions.get("keep", 0))
    bytes_, verb = size(shown.reclaimable), "would" if would else "will"
    noted = [Line("Note: ", note, "note") for note in shown.notes]
    if not (go or stay or len(shown.manifests) or shown.reclaimable):
        nothing = Line("Nothing goes", ": the condition selects no tag, and there is nothing else to free.")
        return Document((nothing, *noted))
    days = shown.inventory.collector.keeps_days
    freed = f"{bytes_} {verb} be {f'set aside for {days:g} days' if days else 'freed'}"
    if not shown.inventory.collector.sees_all:
        freed = f"an unknown number of bytes {verb} be freed"
    elif not shown.inventory.from_store:
        freed = f"at most {freed} (exact with base_path)"

    def does(number: int, verb: str) -> str:
        return f"would {verb}" if would else f"{verb}{'es' if verb == 'go' else 's'}" if number == 1 else verb

    manifests = len(shown.manifests)
    said = Line(
        f"{count(go, 'tag')} {does(go, 'go')}",
        f", {stay:,} {does(stay, 'stay')} although selected, {count(manifests, 'manifest')} {does(manifests, 'go')}, "
        f"{freed}.",
    )
    rows: list[Sequence[Cell]] = [
        (_would(happens) if would else happens, int(number), f"{meaning.replace('`', '')} ({reason})")
        for key, happens in HAPPENS.items()
        for what, action, reason, meaning, number in shown.reasons.itertuples(index=False)
        if (what, action) == key
    ]
    reasons = Table(("what would happen" if would else "what happens", "count", "why"), rows)
    blocks: list[Block] = [said, *noted]
    if images := list(_plan_rows(shown)):
        head = ("image", "set aside" if days else "freed", "tags go", "selected, but stay", "manifests go", "tags now")
        blocks.append(Table([_would(name) for name in head] if would else head, images, total=True))
    return Document((*blocks, reasons) if rows else tuple(blocks))


def _would(said: str) -> str:
    return re.sub(r"\b(go|stay)\b", r"would \1", said)


def tags(shown: Plan) -> Document:
    """The first tags of a plan: dates, size, digest, what becomes of each, and why: by the reasons that the plan puts
    into words."""
    rows = shown.explanations
    head = ("image", "tag", "pushed" if shown.inventory.from_store else "built", "age", "size", "digest", "goes", "why")
    cells: list[Sequence[Cell]] = [
        (
            shorten(row.image_name),
            shorten(row.tag_name),
            _known(row.tag_timestamp, _when),
            _known(row.age_days, lambda days: f"{int(days):,} d"),
            _known(row.tag_size, Bytes),
            _known(row.tag_hash, lambda digest: Code(digest.partition(":")[2][:DIGEST])),
            ACTIONS[row.action],
            row.reason if row.reason != "in-use" else f"{row.reason}: {row.why}",
        )
        for row in space.rows(rows.head(TAGS))
    ]
    if not cells:
        return Document((Line("", "No tag."),))
    blocks: list[Block] = [Table(head, cells)]
    if more := len(rows) - len(cells):
        blocks.append(Line("", f"… and {count(more, 'tag')} more, in tags.csv."))
    return Document(tuple(blocks))


def _known(value: Any, shown: Callable[[Any], Cell]) -> Cell:
    return "not known" if pd.isna(value) else shown(value)


def _plan_rows(shown: Plan) -> Iterator[Sequence[Cell]]:
    images = shown.by_image
    images = images.assign(go=images["tags_deleted"] + images["tags_untagged"])
    columns = ["bytes", "go", "tags_kept", "manifests", "tags"]
    top, rest = images.iloc[:IMAGES_OF_PLAN], images.iloc[IMAGES_OF_PLAN:]
    for name, freed, *numbers in top[["image_name", *columns]].itertuples(index=False):
        # What several images held, or nobody, has no tags.
        yield (name, Bytes(freed), *("" if name.startswith("(") else int(n) for n in numbers))
    for name, some in ((other(len(rest)), rest), ("total", images)):
        if len(some):
            freed, *sums = some[columns].sum()
            yield (name, Bytes(freed), *map(int, sums))


@view.register
def result(shown: Result, *, errors: bool = True) -> Document:
    """Whether it went as planned: predicted beside freed bytes, outcomes, notes and, if wanted, errors."""
    blocks: list[Block] = [_verdict(shown)]
    if shown.errors and errors:
        blocks.append(Line("Errors\n" if len(shown.errors) > 1 else "Error: ", "\n".join(shown.errors), "bad"))
    blocks += [Line("Note: ", note, "note") for note in shown.notes]
    said: list[tuple[str, int | None]] = [("predicted by the plan", shown.bytes_predicted)]
    if _changed(shown):
        if shown.bytes_expected != shown.bytes_predicted:
            said.append(("expected for what went", shown.bytes_expected))
        said.append(("freed by the collection", shown.bytes_freed))
    rows = [(name, *_size_and_bytes(number)) for name, number in said]
    blocks.append(Table(("", "size", "bytes"), rows))
    outcomes = [
        (what, str(outcome), int(number))
        for what, frame in (("tags", shown.tags), ("manifests", shown.manifests))
        for outcome, number in frame["outcome"].value_counts().items()
    ]
    if outcomes:
        blocks.append(Table(("what", "outcome", "count"), outcomes))
    return Document(tuple(blocks))


def _size_and_bytes(number: int | None) -> tuple[Cell, Cell]:
    return ("not known", "") if number is None else (Bytes(number), int(number))


def _changed(shown: Result) -> bool:
    outcomes = {*shown.tags["outcome"], *shown.manifests["outcome"]}
    return shown.collection.ran or bool(outcomes & {"deleted", "untagged"})


def _verdict(shown: Result) -> Line:
    freed, expected = shown.bytes_freed, shown.bytes_expected
    if shown.errors:
        return Line("✗ It did not go as planned", ": see the errors.", "bad")
    if not _changed(shown):
        return Line("Nothing was changed", ".", "note")
    if not shown.collection.ran:
        rest = ": no collection was run; the next one frees the bytes."
        return Line("✓ Deleted as planned", rest if expected else ".", "good")
    if freed is None:
        rest = ": how many bytes that freed can't be seen without base_path."
        return Line("✓ Deleted and collected", rest, "good")
    if freed != expected:
        more = f"{abs(freed - expected):,} {'more' if freed > expected else 'fewer'} than expected"
        return Line("✓ Done", f": {freed:,} bytes were freed, {more}; the notes say why.", "good")
    if freed > shown.bytes_predicted:
        rest = f": {shown.bytes_predicted:,} bytes were predicted, and {freed:,} freed."
        return Line("✓ More was freed than was planned, since something changed meanwhile", rest, "good")
    if freed != shown.bytes_predicted:
        rest = f": {freed:,} bytes were expected for what went, and as many were freed."
        return Line("✓ Less went than was planned, since something changed meanwhile", rest, "good")
    rest = f": {freed:,} bytes were predicted, and as many were freed."
    return Line("✓ As planned", rest, "good")


@view.register
def collection(shown: Collection) -> Document:
    """Who collected; of the registry's own collection the exit code, and what it printed."""
    if not shown.ran:
        return Document((Line("", "Nothing was collected."),))
    if shown.by != "gc-command":
        aside = f", {size(sum(shown.set_aside.values()))} set aside" if shown.set_aside else ""
        line = Line("✓ Collected by regdata itself", f": {count(len(shown.freed or ()), 'blob')} freed{aside}.", "good")
        return Document((line, Output(shown.output)) if shown.output else (line,))
    lines = count(len(shown.output.splitlines()), "line")
    good = shown.exit_code == 0
    line = Line(
        f"{'✓' if good else '✗'} Exit code {shown.exit_code}", f", {lines} of output.", "good" if good else "bad"
    )
    return Document((line, Output(shown.output)) if shown.output else (line,))


@view.register
def run(shown: Run) -> Document:
    """What its record says by now."""
    return box(shown.record.folder)


@view.register
def changes(shown: Changes) -> Document:
    """Totals, what happened to tags, and the images that grew or shrank most."""
    before, after = shown.before, shown.after
    times = [f"{datetime.fromtimestamp(one.scanned_at, UTC):%Y-%m-%d %H:%M}" for one in (before, after)]
    registries = " and ".join(dict.fromkeys([before.registry or "the registry", after.registry or "the registry"]))
    number = shown.tags["change"].value_counts()
    said = ", ".join(f"{count(int(number.get(change, 0)), 'tag')} {change}" for change in ("came", "went", "moved"))
    totals: list[tuple[Cell, ...]] = [
        (str(what), *(Bytes(number) if what == "bytes stored" else int(number) for number in numbers))
        for what, *numbers in shown.totals.itertuples(index=False)
    ]
    blocks: list[Block] = [
        Line(f"{registries}, {times[0]} to {times[1]} (UTC): ", f"{said}."),
        Table(("", "before", "after", "change"), totals),
    ]
    if len(shown.images):
        top = shown.images.head(IMAGES_OF_CHANGES)
        images: list[tuple[Cell, ...]] = [
            (str(name), int(tags), int(then), *map(Bytes, sizes))
            for name, tags, then, *sizes in top.itertuples(index=False)
        ]
        if more := len(shown.images) - len(top):
            images.append((f"and {more:,} more", "", "", "", "", ""))
        blocks.append(Table(("image", "tags before", "after", "only here before", "after", "grown by"), images))
    return Document(tuple(blocks))


@view.register
def study(shown: Study) -> Document:
    """What was scanned, how its past is known, and what room there is."""
    past, inventory = shown.past, shown.inventory
    dates = "push dates" if inventory.from_store else "build dates: push dates take registry.base_path"
    unknown = int(past.blobs.loc[past.blobs["since"].isna(), "blob_size"].sum())
    limit = shown.disk.limit
    rows: list[tuple[str, Cell]] = [
        ("registry", inventory.registry),
        ("scanned", f"{day(inventory.scanned_at)} (UTC)"),
        ("stored", size(int(past.measured["bytes"].iloc[-1]))),
        ("dates", dates + (f"; {size(unknown)} of unknown date count as always there" if unknown else "")),
        ("snapshots", f"{len(past.measured) - 1} since {day(past.first)}" if len(past.measured) > 1 else "none"),
        ("disk", shown.disk.origin if limit is None else f"{size(shown.disk.size)}, {shown.disk.origin}"),
    ]
    if limit is not None:
        free = max(limit - int(past.measured["bytes"].iloc[-1]), 0)
        rows.append(("room", f"{size(limit)} for the registry, {size(free)} of it free"))
    return Document((Table((), rows), *(Line("Note: ", note, "note") for note in shown.notes)))


def ailments(found: pd.DataFrame) -> Document:
    """By kind, what it means, the cure, and where it is; a frame of regdata.doctor."""
    blocks: list[Block] = []
    for what, some in found.groupby("what", sort=True):
        first, rest = some.iloc[0], len(some) - PLACES_OF_AILMENT
        cure = f"{first.cure} (`repair` does)".replace("`", "") if first.safe else str(first.cure)
        blocks.append(Line(f"{str(what).capitalize()}: ", f"{first.means}. Cure: {cure}."))
        rows: list[tuple[Cell, ...]] = [
            (row.place, shorten(_text(row.tags)), _bytes(row.bytes), _when(row.since), _text(row.detail), row.outcome)
            for row in space.rows(some.head(PLACES_OF_AILMENT))
        ]
        if rest > 0:
            rows.append((f"and {rest:,} more", "", "", "", "", ""))
        blocks.append(Table(("where", "tags", "bytes", "since", "", "outcome"), rows))
    return Document(tuple(blocks) or (Line("", "Nothing is broken."),))


def _bytes(number: object) -> Cell:
    return "" if pd.isna(number) else Bytes(number)  # type: ignore[call-overload]


def _when(date: object) -> str:
    """A file's date as it is, be it impossible."""
    if pd.isna(date):  # type: ignore[call-overload]
        return ""
    try:
        return f"{EPOCH + timedelta(seconds=int(date)):%Y-%m-%d}"  # type: ignore[call-overload]
    except OverflowError:
        return f"{date} s after 1970"


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload]


def cleaned(shown: Changes, config: Config) -> Document:
    """The clean-ups between the two inventories. That which saved the earlier one scanned first, and deleted then."""
    begin, end = (datetime.fromtimestamp(one.scanned_at, UTC).isoformat() for one in (shown.before, shown.after))
    runs = [run for run in past_runs(config) if deletes(run.facts) and run.ended >= begin and run.started <= end]
    return runs_table(runs) if runs else Document((Line("", "No clean-up was run in between."),))


def bases(found: pd.DataFrame) -> Document:
    """On what most stands, what is left on old builds, and the first rows; a frame of analysis.bases."""
    if found.empty:
        return Document((Line("", "No two images begin with the same layers."),))
    first, old = found.iloc[0], found[found["newest"].eq(False).fillna(False)]
    on = f"what no tag holds alone ({count(int(first.layers), 'layer')})" if pd.isna(first.base) else first.base
    number = f"{count(int(first.tags), 'tag')} of {count(int(first.images), 'image')}"
    said = f"{number} {'stands' if first.tags == 1 else 'stand'} on {on}, {size(int(first.bytes))}"
    if left := int(old["tags"].sum()):
        stand = f"{count(left, 'tag')} {'stands' if left == 1 else 'stand'}"
        said += f"; {stand} on a base that has a newer build, such as {old.iloc[0].such_as} on {old.iloc[0].base}"
    rows: list[Sequence[Cell]] = [
        (
            "(no tag)" if pd.isna(row.base) else shorten(row.base),
            "" if pd.isna(row.newest) or row.newest else "yes",
            *(int(row.tags), int(row.images), int(row.layers), Bytes(row.bytes)),
            shorten(row.such_as),
        )
        for row in space.rows(found.head(BASES))
    ]
    table = Table(("base", "has a newer build", "tags", "images", "layers", "size", "such as"), rows)
    more = len(found) - len(rows)
    return Document((Line("", f"{said}."), table, *([Line("", f"… and {more:,} more.")] if more else [])))


def who_pays(shares: pd.DataFrame) -> Document:
    """What each team pays for; a frame of space.who_pays."""
    if shares.empty:
        return Document((Line("", "Nothing is stored."),))
    priced, total = shares["price"].notna().all(), int(shares["bytes"].sum())

    def row(name: str, some: pd.DataFrame) -> Sequence[Cell]:
        held = int(some["bytes"].sum())
        return (name, Bytes(held), percent(held, total), *([f"{some['price'].sum():,.2f}"] if priced else []))

    first, rest = shares.iloc[:PAYERS], shares.iloc[PAYERS:]
    rows = [row(str(name), some) for name, some in first.groupby("team", sort=False)]
    rows += [row(other(len(rest)), rest)] if len(rest) else []
    rows.append(row("total", shares))
    table = Table(("team", "pays for", "share", *(["a month"] if priced else [])), rows, total=True)
    if priced:
        return Document((table,))
    return Document((table, Line("", "In money, where conf.json says price_per_gb_month.")))


def options(study: Study) -> Document:
    """A table: the tags and bytes that go if a condition ran now, and the day on which the disk is full then."""
    head = ("condition", "tags", "freed now", "full if run now", "full if run every month")
    rows: list[tuple[Cell, ...]] = []
    for one in study.options:
        full = ("" if when is None else str(when) for when in (study.full(one.freed), study.full_monthly(one)))
        rows.append((one.name, one.tags, Bytes(one.freed), *full) if not one.error else (one.name, "", "error", "", ""))
    blocks: list[Block]
    if full_anyway := study.full():
        blocks = [Table(head, [("no clean-up", 0, Bytes(0), str(full_anyway), ""), *rows])]
    else:
        missing = "disk_bytes is not given" if study.outlook else "too little is known for a forecast"
        blocks = [Table(head[:3], [row[:3] for row in rows])] if rows else []
        blocks.append(Line("", f"When the disk is full can't be said: {missing}."))
    blocks += [Line(f"{one.name}: ", one.error, "bad") for one in study.options if one.error]
    return Document(tuple(blocks))
