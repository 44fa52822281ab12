"""Runs of delete.ipynb's steps that kill themselves at a given moment; told what to do by lines of JSON on stdin.

Forks one process for each, since importing what a run needs takes longer than the run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

from regdata.errors import RegdataError
from regdata.notebook import run
from regdata.records.record import Record
from regdata.sources.transport import Transport

journal, send = Record.journal, Transport.send


def count_down(left: int) -> None:
    """Kills this process when nothing is left."""
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def kill_after_line(number: int) -> None:
    """Has this process kill itself when the so manieth line of the journal is on the disk."""
    left = number

    def write(record: Record, *events: dict[str, Any]) -> None:
        nonlocal left
        for event in events:
            journal(record, event)
            left -= 1
            count_down(left)

    Record.journal = write  # type: ignore[method-assign, assignment]


def kill_after_delete(number: int) -> None:
    """Has this process kill itself when the so manieth DELETE was answered, which it then can't write down."""
    left = number

    def ask(transport: Transport, method: str, *rest: Any, **options: Any) -> Any:
        nonlocal left
        answer = send(transport, method, *rest, **options)
        left -= method == "DELETE"
        count_down(left)
        return answer

    Transport.send = ask  # type: ignore[method-assign, assignment]


def kill_after_upload() -> None:
    """Has this process kill itself when the first upload is whole."""

    def ask(transport: Transport, method: str, path: str, *rest: Any, **options: Any) -> Any:
        answer = send(transport, method, path, *rest, **options)
        count_down(0 if method == "PUT" and "/blobs/uploads/" in path else 1)
        return answer

    Transport.send = ask  # type: ignore[method-assign, assignment]


def steps(conf: str, moment: str, number: int) -> int:
    """The cells of delete.ipynb; the exit code."""
    if moment == "line":
        kill_after_line(number)
    if moment == "delete":
        kill_after_delete(number)
    if moment == "upload":
        kill_after_upload()
    try:
        this_run = run.start(sql_id="scene", conf=conf)
        this_run.scan()
        this_run.plan()
        this_run.apply()
        this_run.finish()
    except RegdataError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 2
    return 0


def main() -> None:
    """Answers each line with how the process that did it ended: its exit code, or minus the signal."""
    for order in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(steps(**json.loads(order)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
