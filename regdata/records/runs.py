"""The runs whose records lie in the folder of reports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from regdata.config import Config
from regdata.errors import CleanupError
from regdata.records.reading import PastRun
from regdata.sources.names import means
from regdata.sources.visible import check_visible

# In place of a run's folder: the last one that deleted something.
LATEST = "latest"


def all_runs(reports: Path) -> list[PastRun]:
    """Every run whose record is in ``reports``, whichever registry it was on, the first one first; without
    what commands printed, which may be much for each of many runs. Raises StorageError."""
    check_visible(reports)
    found = []
    for path in sorted(reports.glob("*/record.json")):
        found.append(PastRun(path.parent))
        found[-1].facts.pop("gc_output", None)
    return found


def past_runs(config: Config) -> list[PastRun]:
    """Those on this registry."""
    return [run for run in all_runs(config.reports) if run.is_on(config)]


def unfinished(config: Config, *, besides: Path) -> list[PastRun]:
    """Those that began to delete and did not end well, until a later run has ended well."""
    return [run for run in past_runs(config) if run.folder != besides and not run.ended_well and run.began_to_change]


def is_within(run: PastRun, config: Config) -> bool:
    """Whether conf.json allows to touch all that a run had begun with, so that its work can be finished."""
    images = {image for image, *_ in run.going}
    with suppress(CleanupError):  # a damaged record
        images |= {tag.image for tag in run.tags}
    return all(means(config.registry.repositories, image) for image in images)


def uncollected(config: Config, *, besides: Path, kept: str = "") -> Iterator[PastRun]:
    """Those whose deletions may still be taken back, the last one first: up to that which began to collect, before run
    ``kept`` if what has been collected since then is kept."""
    for run in reversed(past_runs(config)):
        if run.folder != besides:
            yield run
            if (not kept or run.folder.name < kept) and run.began_to_collect:
                return


def find_run(run: str | Path, config: Config) -> PastRun:
    """The run in a folder: relative to the working folder, to that of conf.json or to ``reports``; or `LATEST`.

    Raises CleanupError when it is none, or one of another registry.
    """
    if not isinstance(run, str | os.PathLike):
        raise CleanupError(
            f"run is {run!r} ({type(run).__name__}), but must be a text: a run's folder, its name as regdata runs has "
            f"it, or {LATEST}; with papermill, -r run NAME"
        )
    folders = [Path(run), config.path.parent / run, config.reports / run]
    there = [folder for folder in folders if os.path.isfile(folder / "record.json")]
    if not there and str(run) == LATEST:
        there = [past.folder for past in reversed(past_runs(config)) if past.began_to_delete][:1]
    folder = there[0] if there else Path(run)
    found = PastRun(folder if folder.name not in ("", "..") else Path(os.path.abspath(folder)))  # a run has a name
    if found.registry is None:
        raise CleanupError(f"{found.folder} is not the record of a run: {_runs_there_are(str(run), config)}")
    if not found.is_on(config):
        raise CleanupError(
            f"{found.folder} is the record of a run on {found.registry}, but {config.path} is about "
            f"{config.registry_url}: give the conf.json of that registry"
        )
    return found


def _runs_there_are(run: str, config: Config) -> str:
    names = [past.folder.name for past in reversed(past_runs(config)) if past.began_to_delete]
    if not names:
        return f"in {config.reports} is none that deleted something from {config.registry_url}"
    near = get_close_matches(run, names, n=1)
    meant = f"did you mean {near[0]}?" if near else f"the last one that deleted something is {names[0]}."
    return f"{meant} regdata runs lists them; {LATEST} is the last one"
