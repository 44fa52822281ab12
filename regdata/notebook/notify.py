"""Tells conf.json's command `notify` what a run came to: the run's summary, as JSON on its stdin."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from regdata.analysis import capacity
from regdata.analysis.forecast import DAY
from regdata.config import Config
from regdata.errors import RegdataError
from regdata.inventory.inventory import Inventory
from regdata.plain import plain
from regdata.records.reading import PastRun
from regdata.records.summary import outcome, status
from regdata.usage.ending import TooMuch, ended, started

TIMEOUT = 60  # seconds
MOST = 1 << 24  # bytes that it may print


def summary(config: Config, run: PastRun, inventory: Inventory | None) -> dict[str, Any]:
    """What record.json says, and: record (the run's folder), outcome (a sentence), status (as on the page of all runs),
    orphans and days_until_full (None where nobody knows)."""
    return run.facts | {
        "record": str(run.folder),
        "outcome": outcome(run).text(),
        "status": status(run),
        "orphans": _orphans(inventory),
        "days_until_full": _days(config, inventory),
    }


def notify(config: Config, run: PastRun, inventory: Inventory | None) -> str | None:
    """Runs the command, for a minute at most; what went wrong, if anything did: that is no reason for a run to fail."""
    if not config.notify:
        return None
    said = json.dumps(summary(config, run, inventory), default=str).encode()
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
            given.write(said)
            given.seek(0)
            process = started(config.notify, config.path.parent, stdin=given, stdout=output)
            code = ended(process, TIMEOUT, (output,), MOST)
            output.seek(0)
            printed = output.read(1 << 16).decode(errors="replace").strip().splitlines()
    except TooMuch as error:
        return f"notify: {config.notify[0]} {error}"
    except OSError as error:  # a full disk, too
        return f"notify: {config.notify[0]}: {error.strerror}"
    last = f": {plain(printed[-1])}" if printed else ""
    return f"notify: exit code {code}{last}" if code else None


def _orphans(inventory: Inventory | None) -> int | None:
    return int(inventory.manifests["orphan"].sum()) if inventory and inventory.from_store else None


def _days(config: Config, inventory: Inventory | None) -> int | None:
    """Whole days until the disk is full, if all goes on as it has."""
    if inventory is None or not len(inventory.blobs):
        return None
    try:
        full = capacity.look(inventory, {}, disk=capacity.disk_of(config, inventory)).full()
    except RegdataError:
        return None
    if full is None or full.expected is None:
        return 0 if full and full.now else None
    return max((full.expected - inventory.scanned_at) // DAY, 0)
